// SPDX-License-Identifier: GPL-2.0-only

//! What an inode of the VFS keeps: the inode of the image, and what was found out about a file since.

use crate::erofs;
use crate::share_table::Share;
use crate::vfs::node::mapped::Mapped;
use crate::vfs::pages::content::Content;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::SetOnce;

/// What an inode of the VFS keeps of the image's.
pub(crate) struct Node {
    /// The inode as it is in the image.
    disk: erofs::Inode,
    /// The extent that is all of a file's data, once that is known: reading the chunk table again
    /// for every read would cost more than the rest of finding the way.
    whole: SetOnce<erofs::Extent>,
    /// Which pages a regular file is mapped from.
    mapped: Mapped,
    /// Which clusters a compressed file has, once that is known.
    clusters: SetOnce<KBox<erofs::Clusters>>,
    /// What a file has in common with others, or that it has nothing, once that was looked for.
    share: SetOnce<Option<Share>>,
}

impl Node {
    /// That of an inode as it was read.
    pub(crate) fn new(disk: erofs::Inode) -> Self {
        Self {
            disk,
            whole: SetOnce::new(),
            mapped: Mapped::new(),
            clusters: SetOnce::new(),
            share: SetOnce::new(),
        }
    }

    /// The inode as it is in the image.
    pub(crate) fn disk(&self) -> &erofs::Inode {
        &self.disk
    }

    /// Which pages a regular file is mapped from.
    pub(crate) fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// Whether it was looked for what a file has in common with others.
    #[inline]
    pub(crate) fn has_share_decided(&self) -> bool {
        self.share.as_ref().is_some()
    }

    /// Says what a file has in common with others, unless that was said before.
    pub(crate) fn decide_share(&self, share: Option<Share>) {
        self.share.populate(share);
    }

    /// What a file has in common with others, if it has: its bytes are read from there.
    #[inline]
    pub(crate) fn content(&self) -> Option<&Arc<Content>> {
        self.share.as_ref()?.as_ref().map(Share::content)
    }

    /// The extent that is all of a file's data, if there is one and that is known.
    #[inline]
    pub(crate) fn whole(&self) -> Option<&erofs::Extent> {
        self.whole.as_ref()
    }

    /// Which clusters a compressed file has; none if it is not compressed.
    ///
    /// # Errors
    ///
    /// Those of [`erofs::Inode::clusters`], and `ENOMEM`.
    pub(crate) fn clusters<M: erofs::Metadata<Error = Error>>(
        &self,
        format: &erofs::Superblock,
        metadata: &M,
    ) -> Result<Option<&erofs::Clusters>, erofs::Error<Error>> {
        if self.clusters.as_ref().is_none() {
            let Some(clusters) = self.disk.clusters(format, metadata)? else {
                return Ok(None);
            };
            let clusters = KBox::new(clusters, GFP_KERNEL);
            // If another reader was faster, it found the same.
            self.clusters
                .populate(clusters.map_err(|_| erofs::Error::Io(ENOMEM))?);
        }
        Ok(self.clusters.as_ref().map(|clusters| &**clusters))
    }

    /// The extent of the byte at `pos` of a file.
    ///
    /// # Errors
    ///
    /// Those of [`erofs::Inode::extent`].
    pub(crate) fn extent<M: erofs::Metadata>(
        &self,
        format: &erofs::Superblock,
        metadata: &M,
        pos: u64,
    ) -> Result<erofs::Extent, erofs::Error<M::Error>> {
        if let Some(whole) = self.whole.as_ref() {
            return Ok(*whole);
        }
        let extent = self.disk.extent(format, metadata, pos)?;
        if extent.start == 0 && extent.len >= self.disk.size() {
            // If another reader was faster, it found the same.
            self.whole.populate(extent);
        }
        Ok(extent)
    }
}
