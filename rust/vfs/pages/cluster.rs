// SPDX-License-Identifier: GPL-2.0-only

//! What the bytes of a file are decoded from: the question that [`crate::vfs::pages::decode`] asks a filesystem, as
//! [`crate::vfs::pages::extent`] is for bytes that lie somewhere as they are.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::content::Key;
use crate::vfs::pages::folio::FolioBytes;
use crate::vfs::pages::tails::Tails;
use crate::vfs::workers::Workers;
use kernel::error::Result;
use kernel::sync::aref::ARef;

/// Bytes of a file that are decoded together.
pub(crate) struct Cluster<'a, T: FileSystem, D> {
    /// Where the first of them is in the file.
    pub(crate) start: u64,
    /// How many there are. Not zero.
    pub(crate) len: u64,
    /// What they are decoded from.
    pub(crate) content: Content<'a, T, D>,
}

impl<T: FileSystem, D> Cluster<'_, T, D> {
    /// Where the cluster ends in the file.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Whether all of it has to be decoded for any of its bytes.
    pub(in crate::vfs) fn is_encoded(&self) -> bool {
        matches!(self.content, Content::Encoded(..))
    }
}

/// What a cluster is decoded from.
pub(crate) enum Content<'a, T: FileSystem, D> {
    /// Nothing: it reads as zeros.
    Hole,
    /// It is what another inode has from this position on. To read that must not lead back to this inode.
    Inode(ARef<Inode<T>>, u64),
    /// These bytes, at least as many as the cluster is long.
    Plain(Place<'a>),
    /// So many bytes from there on, decoded in this way.
    Encoded(Place<'a>, usize, D),
}

/// Where encoded bytes begin.
pub(crate) enum Place<'a> {
    /// In memory: all of them.
    Memory(FolioBytes<'static>, u64),
    /// In a file, at this byte.
    File(&'a BackingFile, u64),
}

/// What maps a file's bytes to what they are decoded from, and decodes that.
pub(crate) trait Clusters: 'static {
    /// The filesystem whose files these are.
    type FileSystem: FileSystem;

    /// How a cluster is decoded.
    type Decoder: Copy;

    /// The cluster of the byte at `pos`, which is less than the file's size.
    ///
    /// # Errors
    ///
    /// What is wrong.
    fn cluster(
        inode: &Inode<Self::FileSystem>,
        pos: u64,
    ) -> Result<Cluster<'_, Self::FileSystem, Self::Decoder>>;

    /// Whether reading some of the file may be an error since a backing file does not have it, or has to be asked for
    /// ([`BackingFile::may_lack_parts`]).
    fn may_lack_parts(inode: &Inode<Self::FileSystem>) -> bool;

    /// Decodes the cluster that begins at `pos`: all of its bytes, or the first of them.
    ///
    /// # Errors
    ///
    /// What is wrong. The contents of `decoded` are undefined then.
    fn decode(
        inode: &Inode<Self::FileSystem>,
        pos: u64,
        decoder: Self::Decoder,
        encoded: &[u8],
        decoded: &mut [u8],
        is_all: bool,
    ) -> Result;

    /// Who fills pages that nobody waits for yet. None if that must not wait for other work: others wait for these pages
    /// while they fill their own.
    fn workers(inode: &Inode<Self::FileSystem>) -> Option<&Workers>;

    /// What the bytes of a file are known by, if others may have the same: all of one key have their pages in common, and whoever
    /// reads fills those from his own file. Asked when the file is first opened.
    ///
    /// # Errors
    ///
    /// Those for which it is not opened.
    fn shared_by(_inode: &Inode<Self::FileSystem>) -> Result<Option<Key>> {
        Ok(None)
    }

    /// Where decoded bytes are kept that belong to a page which is not filled yet.
    fn tails(inode: &Inode<Self::FileSystem>) -> &Tails;
}
