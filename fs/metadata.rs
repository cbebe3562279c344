// SPDX-License-Identifier: GPL-2.0-only

//! The bytes of an image as [`erofs`](crate::erofs) reads them: from a page cache that all mounts of
//! the image share.

use crate::erofs;
use crate::vfs::folio::FolioBytes;
use crate::vfs::range::RangeCache;
use kernel::error::Error;

/// An image's bytes.
pub(crate) struct Metadata(RangeCache);

impl Metadata {
    /// Metadata in `cache`, which is that of a whole image.
    pub(crate) fn new(cache: RangeCache) -> Self {
        Self(cache)
    }
}

impl erofs::Metadata for Metadata {
    type Error = Error;
    type Bytes<'a> = FolioBytes;

    fn bytes(&self, pos: u64) -> Result<FolioBytes, Error> {
        self.0.bytes(pos)
    }

    fn size(&self) -> u64 {
        self.0.len()
    }
}

/// An image's bytes as far as they are cached, for those who cannot wait.
pub(crate) struct Cached<'a>(pub(crate) &'a Metadata);

impl erofs::Metadata for Cached<'_> {
    type Error = Error;
    type Bytes<'a>
        = FolioBytes
    where
        Self: 'a;

    /// `EAGAIN` if they are not cached.
    fn bytes(&self, pos: u64) -> Result<FolioBytes, Error> {
        self.0 .0.cached_bytes(pos)
    }

    fn size(&self) -> u64 {
        self.0.size()
    }
}
