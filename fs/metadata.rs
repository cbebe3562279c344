// SPDX-License-Identifier: GPL-2.0-only

//! The bytes of an image as [`erofs`](crate::erofs) reads them: from a page cache that all mounts of
//! the image share; and those of blobs that names lie in.

use crate::devices::Names;
use crate::erofs;
use crate::erofs::Space;
use crate::filesystem::Ferofs;
use crate::number;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::node::export::Export;
use crate::vfs::object::super_block::SuperBlock;
use crate::vfs::pages::folio;
use crate::vfs::pages::folio::FolioBytes;
use crate::vfs::pages::folio::ReadFolio;
use crate::vfs::pages::folio::ReadFolios;
use crate::vfs::pages::range::RangeCache;
use kernel::error::Error;

/// An image's bytes.
pub(crate) struct Metadata(RangeCache);

impl Metadata {
    /// Metadata in `cache`, which is that of a whole image.
    pub(crate) fn new(cache: RangeCache) -> Self {
        Self(cache)
    }

    /// Says that the image has much data between its metadata.
    pub(crate) fn set_mixed(&self) {
        self.0.set_mixed();
    }

    /// The bytes for one operation, which waits for them unless `nowait` is set: then those that are
    /// not cached are `EAGAIN`. Before the image's devices are known it has none.
    #[inline]
    pub(crate) fn reader<'a>(
        &'a self,
        mounted: Option<&'a SuperBlock<Ferofs>>,
        nowait: bool,
    ) -> Reader<'a> {
        Reader {
            cache: &self.0,
            mounted,
            nowait,
            held: ReadFolios::new(),
        }
    }
}

/// The bytes that a mounted image's metadata has from `pos` of a space on, apart from any operation: the image, or the data
/// of an inode.
///
/// # Errors
///
/// What reading them returns, and `EAGAIN` as for [`Metadata::reader`].
pub(crate) fn bytes(
    sb: &SuperBlock<Ferofs>,
    space: Space,
    pos: u64,
    nowait: bool,
) -> Result<FolioBytes<'static>, Error> {
    let folio = match space {
        Space::Inode(nid) => of_inode(sb, nid, pos, nowait)?,
        Space::Image | Space::Device(_) => of_cache(&sb.data().metadata().0, pos, nowait)?,
    };
    Ok(bytes_of(folio, pos))
}

/// The bytes of a folio from `pos` on; none if there is no folio.
fn bytes_of(folio: Option<ReadFolio>, pos: u64) -> FolioBytes<'static> {
    folio.map_or_else(FolioBytes::empty, |folio| folio.into_bytes(pos))
}

/// The folio of an inode's page cache with the byte at `pos`, if that is not behind the end.
#[cold]
fn of_inode(
    sb: &SuperBlock<Ferofs>,
    nid: u64,
    pos: u64,
    nowait: bool,
) -> Result<Option<ReadFolio>, Error> {
    let inode = <Ferofs as Export>::inode(sb, number::of(sb.data().format(), nid))?;
    if !inode.data().disk().kind().has_data() {
        return Err(EUCLEAN);
    }
    if nowait {
        folio::cached_of_inode(&inode, pos)
    } else {
        folio::of_inode(&inode, pos)
    }
}

/// The folio with the byte at `pos`, if that is not behind the end.
#[inline]
fn of_cache(cache: &RangeCache, pos: u64, nowait: bool) -> Result<Option<ReadFolio>, Error> {
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
    /// What else names and inodes may be in.
    mounted: Option<&'a SuperBlock<Ferofs>>,
    nowait: bool,
    /// Of the image.
    held: ReadFolios,
}

impl Reader<'_> {
    #[inline(never)]
    fn find(&self, pos: u64) -> Result<FolioBytes<'_>, Error> {
        let Some(folio) = of_cache(self.cache, pos, self.nowait)? else {
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
        let Some(volume) = self.mounted.map(SuperBlock::data) else {
            return Ok(FolioBytes::empty());
        };
        let (devices, ranges) = (volume.devices(), volume.ranges());
        Ok(match devices.locate_names(ranges, id, pos, self.nowait)? {
            Some(Names::Image(pos, len)) => self.image_bytes(pos)?.up_to(len),
            Some(Names::Blob(cache, pos, len)) => {
                bytes_of(of_cache(cache, pos, self.nowait)?, pos).up_to(len)
            }
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
        match (space, self.mounted) {
            (Space::Image, _) => self.image_bytes(pos),
            (Space::Device(id), Some(sb)) if sb.data().devices().is_elsewhere(id) => {
                self.device_bytes(id, pos)
            }
            (Space::Device(0), _) => self.image_bytes(pos),
            (Space::Inode(nid), Some(sb)) => {
                Ok(bytes_of(of_inode(sb, nid, pos, self.nowait)?, pos))
            }
            (Space::Device(_) | Space::Inode(_), _) => Ok(FolioBytes::empty()),
        }
    }

    fn size(&self) -> u64 {
        self.cache.len()
    }
}
