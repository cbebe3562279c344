// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Extended attributes: getting one, and listing them.
//!
//! An inode's attribute body lies behind it. It starts with a header, the ids of attributes that it
//! shares with other inodes, and its own ("inline") attributes. A name is stored as the index of a
//! well-known prefix and the rest; or as the number of a long prefix of the image, which is a
//! well-known prefix and an infix, and the rest. Outside of this file a name is always an index and
//! all that follows the well-known prefix.

use super::checksum;
use super::error::{Error, Result};
use super::inode::Inode;
use super::metadata::{Cursor, Fill, Metadata};
use super::ondisk;
use super::ondisk::xattr_index;
use super::superblock::Superblock;
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

/// The next multiple of 4; `value` is far from the largest.
fn align4(value: u64) -> u64 {
    value.wrapping_add(3) & !3
}

const BODY_HEADER_SIZE: u32 = size_of::<ondisk::XattrBodyHeader>() as u32;
const SHARED_ID_SIZE: u32 = size_of::<U32>() as u32;

/// What is known of an inode's attribute body.
///
/// # Invariants
///
/// The shared ids lie within the body, and the body within the image. Its size is a multiple of 4.
#[derive(Clone, Copy, Debug)]
pub(super) struct XattrBody {
    /// Position in the image, in bytes.
    pos: u64,
    /// Size in bytes; 0 if there is none.
    size: u32,
    /// A set bit says that no attribute whose name has it is present.
    filter: u32,
    /// Number of shared attributes.
    shared: u8,
}

impl XattrBody {
    /// Size in bytes; 0 if there is none.
    pub(super) fn size(&self) -> u32 {
        self.size
    }
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
            let id: U32 = body.read_struct(self.shared_id, "inode's attributes are cut off")?;
            self.shared_id = self.shared_id.wrapping_add(u64::from(SHARED_ID_SIZE));
            // 32-bit numbers of blocks and of words.
            let offset = u64::from(id.get()).wrapping_mul(4);
            let pos = sb.xattr_pos().wrapping_add(offset);
            return Ok(Some((read_entry(shared, pos, meta.size())?, false)));
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
        return Err(Error::corrupt(BEYOND, pos));
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

/// The longest infix, name and infix with name.
type Name = [u8; ondisk::NAME_MAX];

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
        let mut body = Cursor::new(meta);
        let mut shared = Cursor::new(meta);
        while let Some((entry, inline)) = entries.next(sb, meta, &mut body, &mut shared)? {
            let cursor = if inline { &mut body } else { &mut shared };
            if !is_named(sb, meta, cursor, &entry, index, name)? {
                continue;
            }
            let size = usize::from(entry.value_size);
            if let Some(buf) = buf.get_mut(..size) {
                cursor.read(entry.value_pos, buf, "attribute's value is cut off")?;
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
        let mut body = Cursor::new(meta);
        let mut shared = Cursor::new(meta);
        let mut name: Name = [0; ondisk::NAME_MAX];
        while let Some((entry, inline)) = entries.next(sb, meta, &mut body, &mut shared)? {
            let (index, infix_len) = match entry.long_prefix() {
                Some(number) => sb.read_xattr_prefix(meta, number, entry.pos, &mut name)?,
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
            }) {
                break;
            }
        }
        Ok(())
    }

    /// The attributes in this inode's body, which exists.
    fn xattr_entries<E>(&self) -> Result<Entries, E> {
        let body = self.xattrs();
        if body.size == BODY_HEADER_SIZE {
            return Err(Error::unsupported("empty attribute body", body.size));
        }
        Ok(Entries::new(body))
    }
}

/// Whether `rest` starts with `piece`; if so, it goes on behind it.
fn skip(rest: &mut &[u8], piece: &[u8]) -> bool {
    match rest.strip_prefix(piece) {
        Some(behind) => {
            *rest = behind;
            true
        }
        None => false,
    }
}

/// Whether `name` behind the well-known prefix of `index` is the name of `entry`, which `cursor`
/// reads.
fn is_named<M: Metadata>(
    sb: &Superblock,
    meta: &M,
    cursor: &mut Cursor<'_, M>,
    entry: &Entry,
    index: u8,
    name: &[u8],
) -> Result<bool, M::Error> {
    let name_len = usize::from(entry.name_len);
    let Some((infix, mut rest)) = name
        .len()
        .checked_sub(name_len)
        .and_then(|infix_len| name.split_at_checked(infix_len))
    else {
        return Ok(false);
    };
    let prefix = entry.long_prefix();
    if prefix.is_none() && (entry.index != index || !infix.is_empty()) {
        return Ok(false);
    }
    // The end of the name is at hand, a long prefix must be looked for.
    let same_end = cursor.pieces(entry.name_pos, name_len, NAME_CUT_OFF, |piece| {
        skip(&mut rest, piece)
    })?;
    match prefix {
        Some(number) if same_end => sb.is_xattr_prefix(meta, number, entry.pos, index, infix),
        _ => Ok(same_end),
    }
}

/// Where long prefixes are.
enum PrefixSpace {
    /// In the image, at offsets of its own.
    Image,
    /// In this inode.
    Packed(Inode),
}

impl PrefixSpace {
    /// Gives the bytes from `offset` on, `len` of them, to `take`, piece by piece, until it returns
    /// false. Returns whether it never did.
    fn pieces<M: Metadata>(
        &self,
        sb: &Superblock,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
        len: usize,
        take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, M::Error> {
        match self {
            Self::Image => cursor.pieces(offset, len, "attribute name prefix is cut off", take),
            Self::Packed(inode) => inode.pieces(sb, cursor, offset, len, take),
        }
    }

    /// Fills `buf` with the bytes from `offset` on.
    fn read<M: Metadata>(
        &self,
        sb: &Superblock,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), M::Error> {
        let len = buf.len();
        let mut fill = Fill::new(buf);
        self.pieces(sb, cursor, offset, len, |piece| fill.with(piece))?;
        Ok(())
    }
}

/// A long prefix.
struct LongPrefix {
    base_index: u8,
    infix_len: usize,
    /// Where the infix is in its space.
    infix_offset: u64,
}

impl Superblock {
    /// Reads the header of the attribute body at `pos`, of a size that `icount` encodes. Whether the
    /// body lies within the image is for the caller to check.
    pub(super) fn xattr_body<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        pos: u64,
        icount: u16,
    ) -> Result<XattrBody, M::Error> {
        let Some(words) = icount.checked_sub(1) else {
            return Ok(XattrBody {
                pos,
                size: 0,
                filter: 0,
                shared: 0,
            });
        };
        let header: ondisk::XattrBodyHeader =
            cursor.read_struct(pos, "inode's attributes are cut off")?;
        if u16::from(header.h_shared_count) > words {
            let what = "inode's shared attributes are more than fit its attribute body";
            return Err(Error::corrupt(what, pos));
        }
        // INVARIANT: there is a word for each shared id.
        Ok(XattrBody {
            pos,
            size: u32::from(words)
                .wrapping_mul(4)
                .wrapping_add(BODY_HEADER_SIZE),
            filter: if self.has_xattr_filter() {
                header.h_name_filter.get()
            } else {
                0
            },
            shared: header.h_shared_count,
        })
    }

    /// Reads long attribute name prefix `number`, counted from 0, of which there are
    /// [`Self::xattr_prefix_count`]: the infix goes to `infix`. Returns the index of its well-known
    /// prefix, and the length of the infix.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if there is no such prefix, or one before it is wrong.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn long_xattr_prefix<M: Metadata>(
        &self,
        meta: &M,
        number: u8,
        infix: &mut [u8; ondisk::NAME_MAX],
    ) -> Result<(u8, usize), M::Error> {
        self.read_xattr_prefix(meta, number, ondisk::SUPER_OFFSET, infix)
    }

    /// [`Self::long_xattr_prefix`] for an attribute at `entry_pos`.
    fn read_xattr_prefix<M: Metadata>(
        &self,
        meta: &M,
        number: u8,
        entry_pos: u64,
        infix: &mut Name,
    ) -> Result<(u8, usize), M::Error> {
        let space = self.xattr_prefix_space(meta)?;
        let mut cursor = Cursor::new(meta);
        let prefix = self.find_xattr_prefix(&space, &mut cursor, number, entry_pos)?;
        let infix = infix.get_mut(..prefix.infix_len).unwrap_or_default();
        space.read(self, &mut cursor, prefix.infix_offset, infix)?;
        Ok((prefix.base_index, prefix.infix_len))
    }

    /// Whether long prefix `number`, to which the attribute at `entry_pos` refers, is that of
    /// `index` with `infix`.
    // Rare, and not to take its callers' stack.
    #[inline(never)]
    fn is_xattr_prefix<M: Metadata>(
        &self,
        meta: &M,
        number: u8,
        entry_pos: u64,
        index: u8,
        infix: &[u8],
    ) -> Result<bool, M::Error> {
        let space = self.xattr_prefix_space(meta)?;
        let mut cursor = Cursor::new(meta);
        let prefix = self.find_xattr_prefix(&space, &mut cursor, number, entry_pos)?;
        if prefix.base_index != index || prefix.infix_len != infix.len() {
            return Ok(false);
        }
        let mut rest = infix;
        space.pieces(
            self,
            &mut cursor,
            prefix.infix_offset,
            prefix.infix_len,
            |piece| skip(&mut rest, piece),
        )
    }

    /// Where the long prefixes of this image are.
    // Rare, and not to take its callers' stack.
    #[inline(never)]
    fn xattr_prefix_space<M: Metadata>(&self, meta: &M) -> Result<PrefixSpace, M::Error> {
        Ok(match self.packed_nid() {
            Some(nid) if self.compat() & ondisk::compat::PLAIN_XATTR_PFX == 0 => {
                PrefixSpace::Packed(self.inode(meta, nid)?)
            }
            _ => PrefixSpace::Image,
        })
    }

    /// Finds a long prefix: they are of different lengths and without an index, so from the first
    /// one on. The attribute at `entry_pos` refers to it.
    // Rare, and not to take its callers' stack.
    #[inline(never)]
    fn find_xattr_prefix<M: Metadata>(
        &self,
        space: &PrefixSpace,
        cursor: &mut Cursor<'_, M>,
        number: u8,
        entry_pos: u64,
    ) -> Result<LongPrefix, M::Error> {
        if number >= self.xattr_prefix_count() {
            let what = "attribute's name prefix does not exist";
            return Err(Error::corrupt(what, entry_pos));
        }
        let mut offset = self.xattr_prefix_pos();
        let mut before = number;
        loop {
            let mut bytes = [0; size_of::<ondisk::XattrLongPrefix>()];
            space.read(self, cursor, offset, &mut bytes)?;
            let [low, high, base_index] = bytes;
            let length = u16::from_le_bytes([low, high]);
            // The length includes the index.
            let infix_len = usize::from(length).checked_sub(1);
            let Some(infix_len) = infix_len.filter(|&len| len <= ondisk::NAME_MAX) else {
                let what = "attribute name prefix has a wrong length";
                return Err(Error::corrupt(what, entry_pos));
            };
            let infix_offset = offset.wrapping_add(bytes.len() as u64);
            let Some(next) = before.checked_sub(1) else {
                return Ok(LongPrefix {
                    base_index,
                    infix_len,
                    infix_offset,
                });
            };
            before = next;
            offset = align4(infix_offset.wrapping_add(infix_len as u64));
        }
    }
}
