// SPDX-License-Identifier: GPL-2.0-only

//! Where the bytes of a file lie: the one question that the data path asks a filesystem.
//!
//! [`crate::vfs::pages::page_cache`] and [`crate::vfs::node::read`] ask it, and move the bytes.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::content::Content;
use crate::vfs::workers::Workers;
use core::ops::Deref;
use kernel::error::Result;
use kernel::sync::Arc;

/// Bytes of a file that lie together.
pub(crate) struct Extent<'a, B> {
    /// How many, from the position that was asked for on. Not zero; it may reach past the end of the
    /// file.
    pub(crate) len: u64,
    /// Where the first of them is.
    pub(crate) source: Source<'a, B>,
}

/// Where an extent begins.
pub(crate) enum Source<'a, B> {
    /// Nowhere: it reads as zeros.
    Hole,
    /// In memory: at least as many bytes as the extent is long, and where on disk they come from.
    Memory(B, u64),
    /// In a file, at this byte.
    File(&'a BackingFile, u64),
}

/// What maps a file's bytes to where they lie.
pub(crate) trait Extents {
    /// The filesystem whose files these are.
    type FileSystem: FileSystem;

    /// Bytes in memory, for as long as this value lives.
    type Bytes<'a>: Deref<Target = [u8]>;

    /// The extent of the byte at `pos`, which is less than the file's size.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if that is not known without waiting and `nowait` is set; else what is wrong.
    fn extent(
        inode: &Inode<Self::FileSystem>,
        pos: u64,
        nowait: bool,
    ) -> Result<Extent<'_, Self::Bytes<'_>>>;

    /// Whether reading some of the file may be an error since a backing file does not have it, or has to be asked for
    /// ([`BackingFile::may_lack_parts`]).
    fn may_lack_parts(inode: &Inode<Self::FileSystem>) -> bool;

    /// Who fills pages that nobody waits for yet. None if that must not wait for other work.
    fn workers(inode: &Inode<Self::FileSystem>) -> Option<&Workers>;

    /// What the file has in common with others that are equal to it, if it has: its extents are from there.
    fn content(_inode: &Inode<Self::FileSystem>) -> Option<&Arc<Content>> {
        None
    }

    /// Where the file begins in a backing file, if that is known to hold all of its bytes in one
    /// extent. Whether the backing file is long enough is not looked at.
    fn whole(_inode: &Inode<Self::FileSystem>) -> Option<(&BackingFile, u64)> {
        None
    }
}
