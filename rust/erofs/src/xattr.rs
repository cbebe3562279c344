// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Extended attributes: getting one, and listing them.
//!
//! An inode's attribute body lies behind it. It starts with a header, the ids of attributes that it
//! shares with other inodes, and its own ("inline") attributes. A name is stored as the index of a
//! well-known prefix and the rest; or as the number of a long prefix of the image, which is a
//! well-known prefix and an infix, and the rest. Outside of this file a name is always an index and
//! all that follows the well-known prefix.

use super::checksum;
use super::error::{Corrupt, Error, Result};
use super::inode::Inode;
use super::long_prefix::LongPrefixes;
use super::metadata::{Cursor, Metadata, Space};
use super::ondisk;
use super::ondisk::xattr_index;
use super::superblock::{Superblock, POSITION_MAX};
use super::xattr_body::{align4, XattrBody, BODY_HEADER_SIZE, SHARED_ID_SIZE};
use zerocopy::byteorder::little_endian::U32;

/// An attribute as [`Inode::list_xattrs`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xattr<'a> {
    /// Which well-known prefix the name has: one of [`ondisk::xattr_index`], or unknown.
    pub index: u8,
    /// The name behind that prefix: at most 255 bytes without NUL.
    pub name: &'a [u8],
    /// Size of the value in bytes.
    pub value_size: u16,
    /// Position of the value in its space, in bytes. If that is the image all of it lies within.
    pub value_pos: u64,
    /// The space: the image, or the metabox.
    pub space: Space,
}

impl Xattr<'_> {
    /// Reads the value, of an attribute that was listed from the same metadata: name and value of all
    /// attributes come in one go then, where [`Inode::get_xattr`] looks for each one among all.
    /// Returns false, with `buf` as it was, if the value does not fit.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if the metadata ends before the value does.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn read_value<M: Metadata>(&self, meta: &M, buf: &mut [u8]) -> Result<bool, M::Error> {
        let Some(buf) = buf.get_mut(..usize::from(self.value_size)) else {
            return Ok(false);
        };
        Cursor::new(meta)
            .enter(self.space)
            .read(self.value_pos, buf, VALUE_CUT_OFF)?;
        Ok(true)
    }
}

/// The well-known prefixes of attribute names, with their indexes.
const PREFIXES: [(u8, &str); 6] = [
    (xattr_index::USER, "user."),
    (xattr_index::POSIX_ACL_ACCESS, "system.posix_acl_access"),
    (xattr_index::POSIX_ACL_DEFAULT, "system.posix_acl_default"),
    (xattr_index::TRUSTED, "trusted."),
    (xattr_index::LUSTRE, "lustre."),
    (xattr_index::SECURITY, "security."),
];

/// The well-known prefix of an index. Those of access control lists are whole names.
pub fn xattr_prefix(index: u8) -> Option<&'static str> {
    PREFIXES
        .iter()
        .find(|(of, _)| *of == index)
        .map(|(_, prefix)| *prefix)
}

/// The index of a full name's well-known prefix, and the name behind it. `None` if it has no such
/// prefix.
pub fn split_xattr_name(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(index, prefix)| {
        let rest = name.strip_prefix(prefix.as_bytes())?;
        (prefix.ends_with('.') || rest.is_empty()).then_some((*index, rest))
    })
}

/// The bit that a name has in a name filter ([`ondisk::XattrBodyHeader::h_name_filter`]), where it
/// is clear if the attribute may be present.
pub fn xattr_filter_bit(index: u8, name: &[u8]) -> u32 {
    let seed = ondisk::XATTR_FILTER_SEED.wrapping_add(u32::from(index));
    1u32.wrapping_shl(checksum::xxh32(name, seed))
}

/// Size of an attribute with its padding, in bytes.
pub fn xattr_entry_size(name_len: u8, value_size: u16) -> u32 {
    let size = size_of::<ondisk::XattrEntry>() as u32;
    let size = size.wrapping_add(u32::from(name_len));
    align4(u64::from(size.wrapping_add(u32::from(value_size)))) as u32
}

/// Where an attribute is, and what its entry says.
struct Entry {
    index: u8,
    name_len: u8,
    value_size: u16,
    /// Position of the entry, in bytes.
    pos: u64,
    /// Position of the name.
    name_pos: u64,
    /// Position of the value.
    value_pos: u64,
}

impl Entry {
    /// The number of the long prefix that the entry refers to, if it does.
    fn long_prefix(&self) -> Option<u8> {
        (self.index & ondisk::XATTR_LONG_PREFIX != 0)
            .then_some(self.index & !ondisk::XATTR_LONG_PREFIX)
    }
}

/// The attributes of an inode, one after the other: first inline, then shared.
struct Entries {
    /// Position of the next inline attribute, in bytes.
    inline: u64,
    /// Where the body ends.
    end: u64,
    /// Position of the next shared attribute's id.
    shared_id: u64,
    /// Where those ids end.
    shared_end: u64,
}

impl Entries {
    fn new(body: &XattrBody) -> Self {
        // The body is within the image.
        let ids = body.pos.wrapping_add(u64::from(BODY_HEADER_SIZE));
        let ids_size = SHARED_ID_SIZE.wrapping_mul(u32::from(body.shared));
        let ids_end = ids.wrapping_add(u64::from(ids_size));
        Self {
            inline: ids_end,
            end: body.pos.wrapping_add(u64::from(body.size)),
            shared_id: ids,
            shared_end: ids_end,
        }
    }

    /// The next attribute. `body` reads the attribute body, `shared` elsewhere.
    fn next<M: Metadata>(
        &mut self,
        sb: &Superblock,
        meta: &M,
        body: &mut Cursor<'_, M>,
        shared: &mut Cursor<'_, M>,
    ) -> Result<Option<(Entry, bool)>, M::Error> {
        if self.inline < self.end {
            let entry = read_entry(body, self.inline, self.end)?;
            let size = u64::from(xattr_entry_size(entry.name_len, entry.value_size));
            self.inline = self.inline.wrapping_add(size);
            return Ok(Some((entry, true)));
        }
        if self.shared_id < self.shared_end {
            let in_metabox = sb.compat() & ondisk::compat::SHARED_EA_IN_METABOX != 0;
            if in_metabox && sb.metabox_nid().is_none() {
                let what = "shared attribute is in a metabox that does not exist";
                return Err(Error::corrupt(what, self.shared_id));
            }
            let id: U32 = body.read_struct(self.shared_id, "inode's attributes are cut off")?;
            self.shared_id = self.shared_id.wrapping_add(u64::from(SHARED_ID_SIZE));
            // 32-bit numbers of blocks and of words.
            let offset = u64::from(id.get()).wrapping_mul(4);
            let pos = sb.xattr_pos().wrapping_add(offset);
            // Where the metabox ends is seen when it is read.
            let end = if in_metabox {
                POSITION_MAX
            } else {
                meta.size()
            };
            return Ok(Some((read_entry(shared, pos, end)?, false)));
        }
        Ok(None)
    }
}

/// Reads the entry at `pos` of an attribute that must end at `end`.
fn read_entry<M: Metadata>(
    cursor: &mut Cursor<'_, M>,
    pos: u64,
    end: u64,
) -> Result<Entry, M::Error> {
    const BEYOND: &str = "attribute ends beyond what holds it";
    let entry: ondisk::XattrEntry = cursor.read_struct(pos, BEYOND)?;
    let value_size = entry.e_value_size.get();
    let name_pos = pos.wrapping_add(size_of::<ondisk::XattrEntry>() as u64);
    let value_pos = name_pos.wrapping_add(u64::from(entry.e_name_len));
    if value_pos.wrapping_add(u64::from(value_size)) > end {
        let (what, at, space) = (BEYOND, pos, cursor.space());
        return Err(Corrupt { what, at, space }.into());
    }
    Ok(Entry {
        index: entry.e_name_index,
        name_len: entry.e_name_len,
        value_size,
        pos,
        name_pos,
        value_pos,
    })
}

const NAME_CUT_OFF: &str = "attribute's name is cut off";
const VALUE_CUT_OFF: &str = "attribute's value is cut off";

impl Inode {
    /// Whether there may be an attribute of this name. False is certain, and costs no look at the
    /// metadata; true is not.
    pub fn may_have_xattr(&self, index: u8, name: &[u8]) -> bool {
        let body = self.xattrs();
        body.size > 0
            && name.len() <= ondisk::NAME_MAX
            && (body.filter == 0 || body.filter & xattr_filter_bit(index, name) == 0)
    }

    /// Reads the attribute whose name is `name` behind the well-known prefix of `index` (one of
    /// [`ondisk::xattr_index`]). Returns the size of its value, or `None` if it does not exist. The
    /// value is in `buf` if it fits; otherwise `buf` is as it was.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if an attribute on the way is wrong.
    /// - [`Error::Unsupported`] if the attribute body holds nothing, which means nothing yet.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn get_xattr<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        index: u8,
        name: &[u8],
        buf: &mut [u8],
    ) -> Result<Option<usize>, M::Error> {
        if !self.may_have_xattr(index, name) {
            return Ok(None);
        }
        let mut entries = self.xattr_entries()?;
        let mut body = self.body_cursor(meta);
        let mut shared = Cursor::new(meta);
        shared.enter(sb.shared_xattr_space());
        let mut prefixes = LongPrefixes::new();
        while let Some((entry, inline)) = entries.next(sb, meta, &mut body, &mut shared)? {
            let cursor = if inline { &mut body } else { &mut shared };
            let Some((infix, rest)) = split_for(name, &entry) else {
                continue;
            };
            let prefix = entry.long_prefix();
            if prefix.is_none() && (entry.index != index || !infix.is_empty()) {
                continue;
            }
            // The end of the name is at hand, a long prefix must be looked for.
            if !cursor.equals(entry.name_pos, rest, NAME_CUT_OFF)? {
                continue;
            }
            if let Some(number) = prefix {
                if !prefixes.is(sb, meta, number, entry.pos, index, infix)? {
                    continue;
                }
            }
            let size = usize::from(entry.value_size);
            if let Some(buf) = buf.get_mut(..size) {
                cursor.read(entry.value_pos, buf, VALUE_CUT_OFF)?;
            }
            return Ok(Some(size));
        }
        Ok(None)
    }

    /// Calls `emit` for each attribute until it returns false. Their order is that of the C driver:
    /// inline, then shared.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if an attribute is wrong.
    /// - [`Error::Unsupported`] if the attribute body holds nothing, which means nothing yet.
    /// - [`Error::Io`] if the metadata cannot be read.
    #[inline(never)]
    pub fn list_xattrs<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        emit: &mut dyn FnMut(&Xattr<'_>) -> bool,
    ) -> Result<(), M::Error> {
        if self.xattr_size() == 0 {
            return Ok(());
        }
        let mut entries = self.xattr_entries()?;
        let mut body = self.body_cursor(meta);
        let mut shared = Cursor::new(meta);
        shared.enter(sb.shared_xattr_space());
        let mut prefixes = LongPrefixes::new();
        let mut name = [0; ondisk::NAME_MAX];
        while let Some((entry, inline)) = entries.next(sb, meta, &mut body, &mut shared)? {
            let (index, infix_len) = match entry.long_prefix() {
                Some(number) => prefixes.read(sb, meta, number, entry.pos, &mut name)?,
                None => (entry.index, 0),
            };
            let name_len = usize::from(entry.name_len);
            let Some(rest) = name
                .get_mut(infix_len..)
                .and_then(|rest| rest.get_mut(..name_len))
            else {
                let what = "attribute's name is longer than 255 bytes";
                return Err(Error::corrupt(what, entry.pos));
            };
            let cursor = if inline { &mut body } else { &mut shared };
            cursor.read(entry.name_pos, rest, NAME_CUT_OFF)?;
            let name = name
                .get(..infix_len.wrapping_add(name_len))
                .unwrap_or_default();
            if name.contains(&0) {
                return Err(Error::corrupt("attribute's name holds a NUL", entry.pos));
            }
            if !emit(&Xattr {
                index,
                name,
                value_size: entry.value_size,
                value_pos: entry.value_pos,
                space: cursor.space(),
            }) {
                break;
            }
        }
        Ok(())
    }

    /// What reads this inode's body.
    fn body_cursor<'m, M: Metadata>(&self, meta: &'m M) -> Cursor<'m, M> {
        let mut cursor = Cursor::new(meta);
        cursor.enter(self.space());
        cursor
    }

    /// The attributes in this inode's body, which exists.
    fn xattr_entries<E>(&self) -> Result<Entries, E> {
        let body = self.xattrs();
        if body.size == BODY_HEADER_SIZE {
            let what = "empty attribute body";
            return Err(Error::unsupported(what, body.size, self.pos()));
        }
        Ok(Entries::new(body))
    }
}

/// Splits a name into a long prefix's infix and the rest, so that the rest is as long as the name of
/// `entry`. `None` if it is too short.
fn split_for<'n>(name: &'n [u8], entry: &Entry) -> Option<(&'n [u8], &'n [u8])> {
    let infix_len = name.len().checked_sub(usize::from(entry.name_len))?;
    name.split_at_checked(infix_len)
}
