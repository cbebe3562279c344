// SPDX-License-Identifier: GPL-2.0-only

//! Regular files: where their bytes lie.

use crate::erofs;
use crate::erofs::Space;
use crate::filesystem::Ferofs;
use crate::in_use;
use crate::metadata;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::content::Content;
use crate::vfs::pages::extent::Extent;
use crate::vfs::pages::extent::Extents;
use crate::vfs::pages::extent::Source;
use crate::vfs::pages::folio::FolioBytes;
use crate::vfs::workers::Workers;
use crate::volume::Volume;
use core::ops::Deref;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The data of an image's regular files.
pub(crate) struct Data;

impl Extents for Data {
    type FileSystem = Ferofs;
    type Bytes<'a> = Bytes<'a>;

    fn extent(inode: &Inode<Ferofs>, pos: u64, nowait: bool) -> Result<Extent<'_, Bytes<'_>>> {
        match inode.data().content() {
            Some(content) => content
                .extent(pos)
                .map(|extent| with(extent, Bytes::Shared)),
            None => own_extent(inode, pos, nowait).map(|extent| with(extent, Bytes::Own)),
        }
    }

    fn may_lack_parts(inode: &Inode<Ferofs>) -> bool {
        inode.super_block().data().devices().may_lack_parts()
    }

    fn workers(inode: &Inode<Ferofs>) -> Option<&Workers> {
        Volume::workers(inode.super_block())
    }

    fn content(inode: &Inode<Ferofs>) -> Option<&Arc<Content>> {
        inode.data().content()
    }

    #[inline]
    fn whole(inode: &Inode<Ferofs>) -> Option<(&BackingFile, u64)> {
        if let Some(content) = inode.data().content() {
            return content.whole();
        }
        let extent = inode.data().whole()?;
        let erofs::Source::Device { id, pos } = extent.source else {
            return None;
        };
        let devices = inode.super_block().data().devices();
        let (file, pos, len) = devices.locate(id, pos, extent.len)?;
        (len == extent.len).then_some((file, pos))
    }
}

/// Bytes of a file in memory.
pub(crate) enum Bytes<'a> {
    /// Of the image's metadata.
    Own(FolioBytes<'a>),
    /// Of what it has in common with others.
    Shared(&'a [u8]),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// The same extent, with another type of bytes in memory.
fn with<'a, B, C>(extent: Extent<'a, B>, bytes: impl FnOnce(B) -> C) -> Extent<'a, C> {
    Extent {
        len: extent.len,
        source: match extent.source {
            Source::Hole => Source::Hole,
            Source::Memory(memory, from) => Source::Memory(bytes(memory), from),
            Source::File(file, from) => Source::File(file, from),
        },
    }
}

/// The extent of the byte at `pos` in the file's own image.
///
/// # Errors
///
/// As for [`Extents::extent`].
pub(crate) fn own_extent(
    inode: &Inode<Ferofs>,
    pos: u64,
    nowait: bool,
) -> Result<Extent<'_, FolioBytes<'_>>> {
    let volume = inode.super_block().data();
    let failed = |error| in_use::report(inode.super_block(), Some(inode), error);
    let found = inode
        .data()
        .extent(
            volume.format(),
            &Volume::reader(inode.super_block(), nowait),
            pos,
        )
        .map_err(failed)?;
    let skip = pos.checked_sub(found.start).ok_or(EIO)?;
    let len = found.len.checked_sub(skip).ok_or(EIO)?;
    match found.source {
        erofs::Source::Hole => Ok(Extent {
            len,
            source: Source::Hole,
        }),
        // These are not files whose bytes lie somewhere.
        erofs::Source::Clusters { .. } => Err(EOPNOTSUPP),
        erofs::Source::Metadata { pos, space } => {
            let pos = pos.checked_add(skip).ok_or(EUCLEAN)?;
            let bytes = metadata::bytes(inode.super_block(), space, pos, nowait)
                .map_err(|error| failed(erofs::Error::Io(error)))?;
            Ok(Extent {
                len: len.min(bytes.len() as u64),
                // What lies in the metabox has no place on disk.
                source: Source::Memory(bytes, if space == Space::Image { pos } else { 0 }),
            })
        }
        erofs::Source::Device { id, pos } => {
            let pos = pos.checked_add(skip).ok_or(EUCLEAN)?;
            let corrupt = |what| {
                let at = inode.data().disk().pos();
                failed(erofs::Corrupt::new(what, at).into())
            };
            let Some((file, pos, len)) = volume.devices().locate(id, pos, len) else {
                return Err(corrupt(
                    "inode's data is on a device that the image does not have",
                ));
            };
            let behind = file.size().saturating_sub(pos);
            if behind == 0 {
                return Err(corrupt("inode's data lies behind the end of its device"));
            }
            Ok(Extent {
                len: len.min(behind),
                source: Source::File(file, pos),
            })
        }
    }
}
