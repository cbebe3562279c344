// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The data of files, from an image and its blobs.

use super::Image;
use crate::error::Error;
use crate::error::Result;
use crate::mount::blobs;
use crate::text::Quoted;
use erofs_format::FileKind;
use erofs_format::Metadata;
use erofs_format::Source;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Data is copied in pieces of this size.
const PIECE: u64 = 256 << 10;

/// An image with its blobs.
pub struct Contents<'a> {
    image: &'a Image,
    own: File,
    blobs: Vec<(PathBuf, File)>,
    /// Where each device starts in the image's own file, if it is there.
    flat: Vec<Option<u64>>,
}

impl<'a> Contents<'a> {
    /// Opens the blobs of an image: see [`blobs::assign`]. If none are given, they are looked for
    /// behind the image, in the same file.
    ///
    /// # Errors
    ///
    /// When one cannot be opened, or there are too few or too many.
    pub fn new(image: &'a Image, given: &[PathBuf], directories: &[PathBuf]) -> Result<Self> {
        let path = image.path();
        let slots = image.devices()?;
        let mut open = Vec::new();
        for blob in blobs::assign(path, &slots, given, directories)? {
            let file = File::open(&blob.path).map_err(Error::io("open", &blob.path))?;
            open.push((blob.path, file));
        }
        if !open.is_empty() && open.len() != slots.len() {
            let (path, count, given) = (path.display(), slots.len(), open.len());
            return Err(Error::Request(format!(
                "{path} has {count} devices, {given} are given"
            )));
        }
        let block = u64::from(image.superblock().block_size());
        let own = File::open(path).map_err(Error::io("open", path))?;
        let start = |slot: &erofs_format::DeviceSlot| {
            let start = slot.uniaddr.saturating_mul(block);
            (start > 0 && start < image.file().size()).then_some(start)
        };
        Ok(Contents {
            image,
            own,
            blobs: open,
            flat: slots.iter().map(start).collect(),
        })
    }

    /// Gives the data of the regular file with a path to `write`, piece by piece.
    ///
    /// # Errors
    ///
    /// When there is no such file, it cannot be read, or writing fails.
    pub fn copy<E: From<Error>>(
        &self,
        path: &[u8],
        write: &mut dyn FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let inode = self.image.find(path)?;
        let refuse = |what: &str| {
            let (image, path) = (self.image.path().display(), Quoted(path));
            Error::Request(format!("{image}: {path}: {what}"))
        };
        match inode.kind() {
            FileKind::Regular => {}
            FileKind::Directory => return Err(refuse("a directory").into()),
            FileKind::Symlink => {
                let target = self.image.link_target(&inode)?;
                let what = format!("a symbolic link to {}", Quoted(&target));
                return Err(refuse(&what).into());
            }
            _ => return Err(refuse("not a regular file").into()),
        }
        let mut buffer = vec![0; PIECE as usize];
        for extent in self.image.extents(&inode) {
            let extent = extent?;
            let place = match extent.source {
                Source::Hole => None,
                Source::Metadata { pos } | Source::Device { id: 0, pos } => {
                    Some((self.image.path(), &self.own, pos))
                }
                Source::Device { id, pos } => {
                    let index = usize::from(id) - 1;
                    let flat = self.flat.get(index).copied().flatten();
                    match (self.blobs.get(index), flat) {
                        (Some((path, file)), _) => Some((path.as_path(), file, pos)),
                        (None, Some(start)) if self.blobs.is_empty() => {
                            let path = self.image.path();
                            Some((path, &self.own, start.saturating_add(pos)))
                        }
                        _ => {
                            let what = format!("its data is in device {id}, which is not given");
                            return Err(refuse(&what).into());
                        }
                    }
                }
            };
            if place.is_none() {
                buffer.fill(0);
            }
            let mut done = 0;
            while done < extent.len {
                let len = PIECE.min(extent.len - done);
                let piece = buffer.get_mut(..len as usize).unwrap_or_default();
                if let Some((path, file, pos)) = place {
                    let read = file.read_exact_at(piece, pos.saturating_add(done));
                    read.map_err(|source| match source.kind() {
                        ErrorKind::UnexpectedEof => {
                            let (path, end) = (path.display(), pos.saturating_add(extent.len));
                            let what = format!("its data is at {pos} to {end} of {path}");
                            refuse(&format!("{what}, which is shorter"))
                        }
                        _ => Error::io("read", path)(source),
                    })?;
                }
                write(piece)?;
                done += len;
            }
        }
        Ok(())
    }
}
