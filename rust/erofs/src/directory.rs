// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Directories: finding one name, and listing them all.
//!
//! A directory is a sequence of blocks. Each starts with fixed-size entries, whose names follow; all
//! names are sorted by their bytes over all blocks, so that a name is found by two binary searches.

use super::error::{Corrupt, Error, Result, Wrong};
use super::inode::{tail_offset, FileKind, Inode, Layout};
use super::metadata::{Metadata, Space};
use super::ondisk;
use super::superblock::{until_nul, Superblock};
use core::cmp::Ordering;
use core::ops::Range;
use zerocopy::FromBytes;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent {
    /// The inode.
    pub nid: u64,
    /// What kind of file the entry says it is: one of [`ondisk::file_type`].
    pub file_type: u8,
}

/// An entry of a directory as [`Inode::read_dir`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Name: 1 to 255 bytes without NUL or slash.
    pub name: &'a [u8],
    /// The inode.
    pub nid: u64,
    /// What kind of file the entry says it is: one of [`ondisk::file_type`].
    pub file_type: u8,
    /// Position of this entry, from which [`Inode::read_dir`] gives it again.
    pub pos: u64,
    /// Position of the next entry.
    pub next: u64,
}

/// A block of a directory, without copying it.
///
/// # Invariants
///
/// There is at least one entry.
struct Block<'a> {
    /// The block, up to the end of the directory.
    data: &'a [u8],
    entries: &'a [ondisk::DirectoryEntry],
}

impl<'a> Block<'a> {
    #[inline]
    fn new(data: &'a [u8]) -> core::result::Result<Self, Wrong> {
        const ENTRY: usize = size_of::<ondisk::DirectoryEntry>();
        let first = ondisk::DirectoryEntry::ref_from_prefix(data)
            .map_err(|_| "directory block is too short for an entry")?
            .0;
        // The first name starts where the entries end.
        let end = usize::from(first.nameoff.get());
        if end == 0 || end % ENTRY != 0 || end >= data.len() {
            return Err("directory block's first name starts at a wrong place");
        }
        let entries = <[ondisk::DirectoryEntry]>::ref_from_prefix_with_elems(data, end / ENTRY)
            .map_err(|_| "directory block's first name starts at a wrong place")?
            .0;
        // INVARIANT: `end` is a positive multiple of an entry's size.
        Ok(Self { data, entries })
    }

    /// Entry `index`, and where in the block its name is. The name has a valid length and lies
    /// behind the entries.
    #[inline]
    fn entry(
        &self,
        index: usize,
    ) -> core::result::Result<(&'a ondisk::DirectoryEntry, Range<usize>), Wrong> {
        let Some(entry) = self.entries.get(index) else {
            return Err("directory block has fewer entries");
        };
        let start = usize::from(entry.nameoff.get());
        if start < size_of_val(self.entries) || start >= self.data.len() {
            return Err("directory entry's name starts outside of its block's names");
        }
        let end = match self.entries.get(index.wrapping_add(1)) {
            Some(next) => usize::from(next.nameoff.get()),
            // NULs may follow the last name.
            None => {
                let rest = self.data.get(start..).unwrap_or_default();
                // One more than the longest name is enough to see that it is too long.
                let rest = rest.get(..ondisk::NAME_MAX.wrapping_add(1)).unwrap_or(rest);
                start.wrapping_add(until_nul(rest).len())
            }
        };
        if end > self.data.len() {
            return Err("directory entry's name ends beyond its block");
        }
        match end.checked_sub(start) {
            Some(1..=ondisk::NAME_MAX) => Ok((entry, start..end)),
            Some(0) => Err("directory entry's name is empty"),
            Some(_) => Err("directory entry's name is longer than 255 bytes"),
            None => Err("directory entry's name ends before it starts"),
        }
    }

    fn name(&self, range: Range<usize>) -> &'a [u8] {
        self.data.get(range).unwrap_or_default()
    }

    /// Compares the name of entry `index` with `name`.
    #[inline]
    fn compare(&self, index: usize, name: &[u8]) -> core::result::Result<Ordering, Wrong> {
        let (_, range) = self.entry(index)?;
        Ok(compare(self.name(range), name))
    }

    /// What entry `index` stands for, and where in the block its name is.
    #[inline]
    fn dirent(&self, index: usize) -> core::result::Result<(Dirent, Range<usize>), Wrong> {
        let (entry, name) = self.entry(index)?;
        if entry.file_type > ondisk::file_type::SYMLINK {
            return Err("directory entry's file type is invalid");
        }
        let dirent = Dirent {
            nid: entry.nid.get(),
            file_type: entry.file_type,
        };
        Ok((dirent, name))
    }
}

/// Bytes that hold a directory block at their start, and others behind it.
struct Loaded<B> {
    bytes: B,
    /// The block's length, which is that of those behind it.
    len: usize,
    /// Its offset in the directory.
    offset: u64,
}

impl<B: core::ops::Deref<Target = [u8]>> Loaded<B> {
    /// The block that begins `skip` bytes behind the first one does.
    #[inline]
    fn block(&self, skip: u64) -> core::result::Result<Block<'_>, Wrong> {
        let bytes = self.bytes.get(skip as usize..);
        match bytes.and_then(|bytes| bytes.get(..self.len)) {
            Some(data) => Block::new(data),
            None => Err("directory block is cut off by the end of its device"),
        }
    }

    /// Whether the first name of the block there is greater than `name`.
    #[inline]
    fn begins_after(&self, skip: u64, name: &[u8]) -> core::result::Result<bool, Wrong> {
        Ok(self.block(skip)?.compare(0, name)? == Ordering::Greater)
    }

    /// Finds `name` in the block there. An error comes with the number of the entry that is wrong, 0 if it is the block.
    #[inline]
    fn find(&self, skip: u64, name: &[u8]) -> core::result::Result<Option<Dirent>, (usize, Wrong)> {
        let block = self.block(skip).map_err(|what| (0, what))?;
        let mut low = 0;
        let mut high = block.entries.len();
        while low < high {
            let middle = low.wrapping_add(high.wrapping_sub(low) / 2);
            let wrong = |what| (middle, what);
            match block.compare(middle, name).map_err(wrong)? {
                Ordering::Less => low = middle.wrapping_add(1),
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Some(block.dirent(middle).map_err(wrong)?.0)),
            }
        }
        Ok(None)
    }
}

impl Inode {
    /// Finds `name` in this directory. `None` if it is not there, or this is no directory. Entries
    /// `.` and `..` are found if they are stored, as `..` always is.
    ///
    /// Takes one look at the metadata for directories of one block, else about the logarithm of
    /// their number.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if an entry on the way is wrong.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn lookup<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        name: &[u8],
    ) -> Result<Option<Dirent>, M::Error> {
        if self.kind() != FileKind::Directory || self.size() == 0 || !is_name(name) {
            return Ok(None);
        }
        // The first block after the first that begins with a greater name: the one before has it, if any.
        let bits = u32::from(sb.block_bits());
        let mut low = 1;
        let mut high = self.directory_blocks(sb);
        // The last bytes that begin with a block that is not after the name, its number, and up to which others lie in
        // them. Blocks beyond are after the name.
        let mut held: Option<(Loaded<M::Bytes<'_>>, u64, u64)> = None;
        while low < high {
            let middle = low.wrapping_add(high.wrapping_sub(low) / 2);
            let is_after = match &held {
                Some((loaded, first, end)) if middle < *end => {
                    let skip = middle.wrapping_sub(*first).wrapping_shl(bits);
                    loaded.begins_after(skip, name)
                }
                _ => {
                    let offset = middle.wrapping_shl(bits);
                    let loaded = self.directory_block(sb, meta, offset)?;
                    let is_after = loaded.begins_after(0, name);
                    if is_after == Ok(false) {
                        let whole = self.adjacent(sb).saturating_sub(offset);
                        let blocks = whole.min(loaded.bytes.len() as u64).wrapping_shr(bits);
                        held = Some((loaded, middle, middle.wrapping_add(blocks)));
                    }
                    is_after
                }
            };
            match is_after {
                Ok(true) => high = middle,
                Ok(false) => low = middle.wrapping_add(1),
                Err(what) => {
                    return Err(self.corrupt_entry(sb, meta, middle.wrapping_shl(bits), 0, what))
                }
            }
        }
        // That is the last one that was found not to be after the name, or the first of all.
        let offset = low.wrapping_sub(1).wrapping_shl(bits);
        let loaded = match held {
            Some((loaded, ..)) => loaded,
            None => self.directory_block(sb, meta, offset)?,
        };
        loaded
            .find(offset.wrapping_sub(loaded.offset), name)
            .map_err(|(index, what)| self.corrupt_entry(sb, meta, offset, index, what))
    }

    /// Lists this directory from position `pos` on: 0, or a position of a [`DirEntry`], or what
    /// this function returned. Calls `emit` for one entry after the other until it returns false.
    ///
    /// Positions are those of the C driver: an entry's offset in the directory; an omitted `.` comes
    /// last, at the directory's size.
    ///
    /// Returns the position to go on from: that of the entry that `emit` refused, or one from which
    /// nothing follows. When there is an error, go on (or not) from [`DirEntry::next`] of the last
    /// entry given.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if a block or an entry is wrong, or names are not sorted.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn read_dir<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        pos: u64,
        emit: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<u64, M::Error> {
        const ENTRY: u64 = ondisk::DIRECTORY_ENTRY_SIZE;
        if self.kind() != FileKind::Directory {
            return Ok(pos);
        }
        let mut pos = pos;
        // The block before, and its last name.
        let mut previous: Option<(Loaded<M::Bytes<'_>>, Range<usize>)> = None;
        while pos < self.size() {
            let offset = pos & !sb.block_mask();
            let loaded = self.directory_block(sb, meta, offset)?;
            // The end of the directory fits an i64.
            let end = offset.wrapping_add(loaded.len as u64);
            let corrupt = |index, what| self.corrupt_entry(sb, meta, offset, index, what);
            let block = loaded.block(0).map_err(|what| corrupt(0, what))?;
            let mut before = match &previous {
                Some((loaded, name)) => loaded.bytes.get(name.clone()),
                None => None,
            };
            let mut last = 0..0;
            // Positions within an entry mean the next one.
            let first = pos.wrapping_sub(offset).div_ceil(ENTRY) as usize;
            for index in first..block.entries.len() {
                let (dirent, range) = block.dirent(index).map_err(|what| corrupt(index, what))?;
                let name = block.name(range.clone());
                if !is_name(name) {
                    let what = "directory entry's name holds a NUL or a slash";
                    return Err(corrupt(index, what));
                }
                if before.is_some_and(|before| compare(before, name) != Ordering::Less) {
                    let what = "directory entry's name is not greater than the one before";
                    return Err(corrupt(index, what));
                }
                if self.dot_omitted() && name == b"." {
                    let what = "directory has the entry '.' that it claims to omit";
                    return Err(corrupt(index, what));
                }
                let own = offset.wrapping_add((index as u64).wrapping_mul(ENTRY));
                let is_last = index.wrapping_add(1) >= block.entries.len();
                let next = if is_last {
                    end
                } else {
                    own.wrapping_add(ENTRY)
                };
                if !emit(&DirEntry {
                    name,
                    nid: dirent.nid,
                    file_type: dirent.file_type,
                    pos: own,
                    next,
                }) {
                    return Ok(own);
                }
                before = Some(name);
                last = range;
            }
            pos = end;
            previous = (!last.is_empty()).then_some((loaded, last));
        }
        if self.dot_omitted() && pos == self.size() {
            // The size fits an i64.
            let next = pos.wrapping_add(1);
            if emit(&DirEntry {
                name: b".",
                nid: self.nid(),
                file_type: ondisk::file_type::DIRECTORY,
                pos,
                next,
            }) {
                pos = next;
            }
        }
        Ok(pos)
    }

    /// Number of blocks of this directory.
    fn directory_blocks(&self, sb: &Superblock) -> u64 {
        // The size fits an i64.
        self.size()
            .wrapping_add(sb.block_mask())
            .wrapping_shr(u32::from(sb.block_bits()))
    }

    /// Up to which offset there are whole blocks that follow one another in a device.
    #[inline]
    fn adjacent(&self, sb: &Superblock) -> u64 {
        match self.layout() {
            Layout::Plain { .. } => self.size() & !sb.block_mask(),
            Layout::Inline { .. } => tail_offset(sb, self.size()),
            Layout::Hole | Layout::Chunks { .. } | Layout::Compressed { .. } => 0,
        }
    }

    /// Gets the block at `offset` of this directory: a multiple of the block size, less than the
    /// directory's size.
    #[inline]
    fn directory_block<'m, M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &'m M,
        offset: u64,
    ) -> Result<Loaded<M::Bytes<'m>>, M::Error> {
        let (space, at) = self.place_of_block(sb, meta, offset)?;
        let rest = self.size().wrapping_sub(offset);
        Ok(Loaded {
            bytes: meta.bytes(space, at).map_err(Error::Io)?,
            len: rest.min(u64::from(sb.block_size())) as usize,
            offset,
        })
    }

    /// Where the block at `offset` of this directory is.
    #[inline]
    fn place_of_block<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        offset: u64,
    ) -> Result<(Space, u64), M::Error> {
        match self.layout() {
            // The blocks end at a position.
            Layout::Plain { start } => Ok((Space::Device(0), start.wrapping_add(offset))),
            Layout::Inline { start, tail } => Ok(if offset < tail_offset(sb, self.size()) {
                (Space::Device(0), start.wrapping_add(offset))
            } else {
                (self.space(), tail)
            }),
            Layout::Compressed { .. } => Ok((Space::Inode(self.nid()), offset)),
            Layout::Hole | Layout::Chunks { .. } => self.chunk_of_directory(sb, meta, offset),
        }
    }

    /// Something wrong with entry `index` of the block at `offset` of this directory, or with the whole block if that
    /// is 0.
    #[cold]
    fn corrupt_entry<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        offset: u64,
        index: usize,
        what: Wrong,
    ) -> Error<M::Error> {
        match self.place_of_block(sb, meta, offset) {
            Ok((space, at)) => {
                let skip = (index as u64).wrapping_mul(ondisk::DIRECTORY_ENTRY_SIZE);
                let at = at.wrapping_add(skip);
                Error::Corrupt(Corrupt { what, at, space })
            }
            Err(error) => error,
        }
    }

    /// Where the block at `offset` of this directory is, if it is in chunks, as hardly any is.
    #[cold]
    fn chunk_of_directory<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        offset: u64,
    ) -> Result<(Space, u64), M::Error> {
        let extent = self.extent(sb, meta, offset)?.skip_to(offset);
        extent.source.place().ok_or_else(|| {
            let what = match self.layout() {
                Layout::Hole => "directory is a hole",
                _ => "directory has a hole",
            };
            Error::corrupt(what, self.pos())
        })
    }
}

/// Whether `name` can be that of a directory entry.
fn is_name(name: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'/'; 8]);
    // Not zero exactly if one of the eight bytes is zero: only then does subtracting set a high bit
    // that was clear.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let words = name.chunks_exact(8);
    let rest = words.remainder();
    (1..=ondisk::NAME_MAX).contains(&name.len())
        && !rest.iter().any(|&byte| matches!(byte, 0 | b'/'))
        && !words
            .filter_map(|bytes| bytes.try_into().ok())
            .map(u64::from_ne_bytes)
            .any(|word| zero(word) | zero(word ^ SLASHES) != 0)
}

/// Compares names as bytes. Between slices of different lengths, `cmp` of `core` subtracts the
/// lengths, with an overflow check that the compiler cannot prove away.
#[inline]
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.len().min(b.len());
    match (a.get(..common), b.get(..common)) {
        (Some(x), Some(y)) => x.cmp(y).then(a.len().cmp(&b.len())),
        _ => Ordering::Equal,
    }
}
