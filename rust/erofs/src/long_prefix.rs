// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Long prefixes of attribute names: a well-known prefix and an infix, which many attributes share.
//!
//! They are stored one behind the other, in the image itself, in its metabox or in its packed inode; there are at
//! most 128, of different lengths. Attributes refer to them by number.

use super::error::{Error, Result};
use super::inode::Inode;
use super::metadata::{Compare, Cursor, Fill, Metadata, Space};
use super::ondisk;
use super::superblock::Superblock;
use super::xattr_body::align4;

/// How many prefixes there can be.
const COUNT_MAX: usize = 128;
/// How many prefixes there are from one remembered start to the next.
const STRIDE: u8 = 8;

/// What is remembered of an image's long prefixes during one call: where some of them start, so that
/// an inode with many attributes does not go through all prefixes for each.
pub(super) struct LongPrefixes {
    /// Where every [`STRIDE`]-th prefix starts, in bytes behind the first; found when first needed.
    /// All of them take less than 64 KiB.
    starts: Option<[u16; COUNT_MAX / STRIDE as usize]>,
}

/// Where prefixes are.
enum Home {
    /// In the image, at offsets of its own.
    Image,
    /// In this inode.
    Packed(Inode),
}

/// One prefix.
struct LongPrefix {
    /// The well-known prefix.
    index: u8,
    infix_len: usize,
    /// Where the infix is in its home.
    infix_offset: u64,
    /// Where the next prefix is.
    next: u64,
}

// All of this is rare, and is not to take its callers' stack.
impl LongPrefixes {
    pub(super) fn new() -> Self {
        Self { starts: None }
    }

    /// Reads prefix `number`, to which the attribute at `entry_pos` refers: the infix goes to the
    /// start of `infix`. Returns the index of its well-known prefix, and the length of the infix.
    #[inline(never)]
    pub(super) fn read<M: Metadata>(
        &mut self,
        sb: &Superblock,
        meta: &M,
        number: u8,
        entry_pos: u64,
        infix: &mut [u8; ondisk::NAME_MAX],
    ) -> Result<(u8, usize), M::Error> {
        let mut cursor = Cursor::new(meta);
        let home = sb.long_prefix_home(meta)?;
        let prefix = self.find(sb, &home, &mut cursor, number, entry_pos)?;
        let mut fill = Fill::new(infix);
        let (offset, len) = (prefix.infix_offset, prefix.infix_len);
        home.pieces(sb, &mut cursor, offset, len, |piece| fill.with(piece))?;
        Ok((prefix.index, len))
    }

    /// Whether prefix `number`, to which the attribute at `entry_pos` refers, is the well-known
    /// prefix of `index` with `infix`.
    #[inline(never)]
    pub(super) fn is<M: Metadata>(
        &mut self,
        sb: &Superblock,
        meta: &M,
        number: u8,
        entry_pos: u64,
        index: u8,
        infix: &[u8],
    ) -> Result<bool, M::Error> {
        let mut cursor = Cursor::new(meta);
        let home = sb.long_prefix_home(meta)?;
        let prefix = self.find(sb, &home, &mut cursor, number, entry_pos)?;
        if prefix.index != index || prefix.infix_len != infix.len() {
            return Ok(false);
        }
        let mut compare = Compare::new(infix);
        let (offset, len) = (prefix.infix_offset, prefix.infix_len);
        home.pieces(sb, &mut cursor, offset, len, |piece| compare.with(piece))
    }

    /// Finds a prefix, to which the attribute at `entry_pos` refers.
    fn find<M: Metadata>(
        &mut self,
        sb: &Superblock,
        home: &Home,
        cursor: &mut Cursor<'_, M>,
        number: u8,
        entry_pos: u64,
    ) -> Result<LongPrefix, M::Error> {
        if number >= sb.xattr_prefix_count() || usize::from(number) >= COUNT_MAX {
            let what = "attribute's name prefix does not exist";
            return Err(Error::corrupt(what, entry_pos));
        }
        let starts = match &self.starts {
            Some(starts) => starts,
            None => self.starts.insert(find_starts(sb, home, cursor)?),
        };
        let start = starts
            .get(usize::from(number / STRIDE))
            .copied()
            .unwrap_or_default();
        let first = sb.xattr_prefix_pos();
        let mut prefix = home.prefix(sb, cursor, first.wrapping_add(u64::from(start)))?;
        for _ in 0..number % STRIDE {
            prefix = home.prefix(sb, cursor, prefix.next)?;
        }
        Ok(prefix)
    }
}

impl Superblock {
    /// The name of the attribute that files have their fingerprints in: the index of its well-known prefix, and how long
    /// the rest is, which goes to the start of `name`. Index 0 is that of names which are hidden: no one is shown them.
    /// `None` if the image has no fingerprints.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if the prefix that is to be the name is wrong.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn fingerprint_name<M: Metadata>(
        &self,
        meta: &M,
        name: &mut [u8; ondisk::NAME_MAX],
    ) -> Result<Option<(u8, usize)>, M::Error> {
        let Some(number) = self.ishare_prefix() else {
            return Ok(None);
        };
        let mut prefixes = LongPrefixes::new();
        let at = ondisk::SUPER_OFFSET;
        let (index, len) = prefixes.read(self, meta, number, at, name)?;
        if len == 0 {
            let what = "name of the attribute with fingerprints is empty";
            return Err(Error::corrupt(what, at));
        }
        Ok(Some((index, len)))
    }
}

/// Goes through all prefixes of an image, once.
fn find_starts<M: Metadata>(
    sb: &Superblock,
    home: &Home,
    cursor: &mut Cursor<'_, M>,
) -> Result<[u16; COUNT_MAX / STRIDE as usize], M::Error> {
    let mut starts = [0; COUNT_MAX / STRIDE as usize];
    let first = sb.xattr_prefix_pos();
    let mut next = first;
    let count = sb.xattr_prefix_count().min(COUNT_MAX as u8);
    for number in 0..count {
        if number % STRIDE == 0 {
            if let Some(start) = starts.get_mut(usize::from(number / STRIDE)) {
                // At most 128 times 260.
                *start = next.wrapping_sub(first) as u16;
            }
        }
        next = home.prefix(sb, cursor, next)?.next;
    }
    Ok(starts)
}

impl Home {
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
            Self::Image => {
                let what = "attribute name prefix is cut off";
                cursor.enter(Space::Image).pieces(offset, len, what, take)
            }
            Self::Packed(inode) => inode.pieces(sb, cursor, offset, len, take),
        }
    }

    /// Reads the prefix at `offset`, without its infix.
    fn prefix<M: Metadata>(
        &self,
        sb: &Superblock,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
    ) -> Result<LongPrefix, M::Error> {
        let mut bytes = [0; size_of::<ondisk::XattrLongPrefix>()];
        let len = bytes.len();
        let mut fill = Fill::new(&mut bytes);
        self.pieces(sb, cursor, offset, len, |piece| fill.with(piece))?;
        let [low, high, index] = bytes;
        // The length includes the index.
        let infix_len = usize::from(u16::from_le_bytes([low, high])).checked_sub(1);
        let Some(infix_len) = infix_len.filter(|&len| len <= ondisk::NAME_MAX) else {
            let at = match self {
                Self::Image => offset,
                Self::Packed(inode) => inode.pos(),
            };
            return Err(Error::corrupt(
                "attribute name prefix has a wrong length",
                at,
            ));
        };
        let infix_offset = offset.wrapping_add(len as u64);
        Ok(LongPrefix {
            index,
            infix_len,
            infix_offset,
            next: align4(infix_offset.wrapping_add(infix_len as u64)),
        })
    }
}

impl Superblock {
    /// Reads long attribute name prefix `number`, counted from 0, of which there are
    /// [`Self::xattr_prefix_count`]: the infix goes to the start of `infix`. Returns the index of
    /// its well-known prefix, and the length of the infix.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if there is no such prefix, or any of them is wrong.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn long_xattr_prefix<M: Metadata>(
        &self,
        meta: &M,
        number: u8,
        infix: &mut [u8; ondisk::NAME_MAX],
    ) -> Result<(u8, usize), M::Error> {
        LongPrefixes::new().read(self, meta, number, ondisk::SUPER_OFFSET, infix)
    }

    /// Where the long prefixes of this image are.
    #[inline(never)]
    fn long_prefix_home<M: Metadata>(&self, meta: &M) -> Result<Home, M::Error> {
        Ok(match self.metabox_nid().or(self.packed_nid()) {
            Some(nid) if self.compat() & ondisk::compat::PLAIN_XATTR_PFX == 0 => {
                Home::Packed(self.inode(meta, nid)?)
            }
            _ => Home::Image,
        })
    }
}
