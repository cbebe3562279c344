// SPDX-License-Identifier: GPL-2.0-only

//! Regular files: where their bytes lie.

use crate::erofs;
use crate::erofs::Metadata as _;
use crate::metadata::Cached;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::extent::Extent;
use crate::vfs::extent::Extents;
use crate::vfs::extent::Source;
use crate::vfs::file::Files;
use crate::vfs::folio::FolioBytes;
use crate::vfs::inode::Inode;
use crate::vfs::range::RangeMount;
use crate::Ferofs;
use kernel::prelude::*;

/// The data of an image's regular files.
pub(crate) struct Data;

impl Extents for Data {
    type FileSystem = Ferofs;
    type Bytes<'a> = FolioBytes;

    fn extent(inode: &Inode<Ferofs>, pos: u64, nowait: bool) -> Result<Extent<'_, FolioBytes>> {
        let volume = inode.super_block().data();
        let (format, metadata) = (volume.format(), volume.metadata());
        let found = if nowait {
            inode.data().extent(format, &Cached(metadata), pos)
        } else {
            inode.data().extent(format, metadata, pos)
        }
        .map_err(|error| volume.report(error))?;
        let skip = pos.checked_sub(found.start).ok_or(EIO)?;
        let len = found.len.checked_sub(skip).ok_or(EIO)?;
        match found.source {
            erofs::Source::Hole => Ok(Extent {
                len,
                source: Source::Hole,
            }),
            erofs::Source::Metadata { pos } => {
                let pos = pos.checked_add(skip).ok_or(EUCLEAN)?;
                let bytes = if nowait {
                    Cached(metadata).bytes(pos)
                } else {
                    metadata.bytes(pos)
                }
                .map_err(|error| volume.report(erofs::Error::Io(error)))?;
                Ok(Extent {
                    len: len.min(bytes.len() as u64),
                    source: Source::Memory(bytes, pos),
                })
            }
            erofs::Source::Device { id, pos } => {
                let pos = pos.checked_add(skip).ok_or(EUCLEAN)?;
                let corrupt = |what| {
                    let at = inode.data().disk().pos();
                    volume.report(erofs::Error::Corrupt(erofs::Corrupt { what, at }))
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
}

impl Files for Data {
    fn ranges(inode: &Inode<Ferofs>) -> &RangeMount {
        inode.super_block().data().ranges()
    }

    fn version(inode: &Inode<Ferofs>) -> u64 {
        inode.super_block().data().devices().version()
    }
}
