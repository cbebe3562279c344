// SPDX-License-Identifier: GPL-2.0-only

//! The bytes of an image as [`erofs`](crate::erofs) reads them: from a page cache that all mounts of
//! the image share; and those of blobs that names lie in.

use crate::devices::Devices;
use crate::devices::Names;
use crate::erofs;
use crate::erofs::Space;
use crate::vfs::pages::folio::FolioBytes;
use crate::vfs::pages::folio::ReadFolio;
use crate::vfs::pages::folio::ReadFolios;
use crate::vfs::pages::range::RangeCache;
use crate::vfs::pages::range::RangeMount;
use kernel::error::Error;

/// An image's bytes.
pub(crate) struct Metadata(RangeCache);

impl Metadata {
    /// Metadata in `cache`, which is that of a whole image.
    pub(crate) fn new(cache: RangeCache) -> Self {
        Self(cache)
    }

    /// The bytes for one operation, which waits for them unless `nowait` is set: then those that are
    /// not cached are `EAGAIN`. Before the image's devices are known it has none.
    #[inline]
    pub(crate) fn reader<'a>(
        &'a self,
        devices: Option<(&'a Devices, &'a RangeMount)>,
        nowait: bool,
    ) -> Reader<'a> {
        Reader {
            cache: &self.0,
            devices,
            nowait,
            held: ReadFolios::new(),
        }
    }

    /// The bytes from `pos` on, apart from any operation.
    ///
    /// # Errors
    ///
    /// What reading the image returns, and `EAGAIN` as for [`Self::reader`].
    pub(crate) fn bytes(&self, pos: u64, nowait: bool) -> Result<FolioBytes<'static>, Error> {
        Ok(match folio(&self.0, pos, nowait)? {
            Some(folio) => folio.into_bytes(pos),
            None => FolioBytes::empty(),
        })
    }
}

/// The folio with the byte at `pos`, if that is not behind the end.
#[inline]
fn folio(cache: &RangeCache, pos: u64, nowait: bool) -> Result<Option<ReadFolio>, Error> {
    if nowait {
        cache.cached_folio(pos)
    } else {
        cache.folio(pos)
    }
}

/// An image's bytes as one operation reads them: it keeps the folios that it finds, for what comes
/// next is likely to be in the last of them.
pub(crate) struct Reader<'a> {
    cache: &'a RangeCache,
    /// What else names may be in, and where caches of that live.
    devices: Option<(&'a Devices, &'a RangeMount)>,
    nowait: bool,
    /// Of the image.
    held: ReadFolios,
}

impl Reader<'_> {
    #[inline(never)]
    fn find(&self, pos: u64) -> Result<FolioBytes<'_>, Error> {
        let Some(folio) = folio(self.cache, pos, self.nowait)? else {
            return Ok(FolioBytes::empty());
        };
        Ok(match self.held.keep(folio) {
            Ok(kept) => kept.bytes(pos),
            Err(folio) => folio.into_bytes(pos),
        })
    }

    #[inline]
    fn image_bytes(&self, pos: u64) -> Result<FolioBytes<'_>, Error> {
        match self.held.last() {
            Some(last) if last.contains(pos) => Ok(last.bytes(pos)),
            _ => self.find(pos),
        }
    }

    /// The bytes of a device that may be elsewhere than in the image: few images have names there.
    #[cold]
    fn device_bytes(&self, id: u16, pos: u64) -> Result<FolioBytes<'_>, Error> {
        let Some((devices, ranges)) = self.devices else {
            return Ok(FolioBytes::empty());
        };
        Ok(match devices.locate_names(ranges, id, pos, self.nowait)? {
            Some(Names::Image(pos, len)) => self.image_bytes(pos)?.up_to(len),
            Some(Names::Blob(cache, pos, len)) => match folio(cache, pos, self.nowait)? {
                Some(folio) => folio.into_bytes(pos).up_to(len),
                None => FolioBytes::empty(),
            },
            None => FolioBytes::empty(),
        })
    }
}

impl erofs::Metadata for Reader<'_> {
    type Error = Error;
    type Bytes<'a>
        = FolioBytes<'a>
    where
        Self: 'a;

    #[inline]
    fn bytes(&self, space: Space, pos: u64) -> Result<FolioBytes<'_>, Error> {
        match (space, self.devices) {
            (Space::Device(id), Some((devices, _))) if devices.is_elsewhere(id) => {
                self.device_bytes(id, pos)
            }
            (Space::Image | Space::Device(0), _) => self.image_bytes(pos),
            (Space::Device(_), _) => Ok(FolioBytes::empty()),
        }
    }

    fn size(&self) -> u64 {
        self.cache.len()
    }
}
