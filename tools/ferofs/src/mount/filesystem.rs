// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One filesystem of a mount: an image, or the index of a tar, with the blobs it has its data in.

use super::Driver;
use super::kernel;
use super::options::Options;
use crate::blobs;
use crate::blobs::Blob;
use crate::digest;
use crate::digest::Digest;
use crate::error::Error;
use crate::error::Result;
use crate::inspect::Image;
use crate::text::Shown;
use rustix::mount::MountAttrFlags;
use std::fs;
use std::fs::File;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::path::PathBuf;

/// A filesystem that is to be mounted.
pub struct Filesystem {
    /// The image, or the tar.
    pub path: PathBuf,
    /// The index of a tar, and the tar.
    pub in_memory: Option<(File, File)>,
    /// What the image has its data in.
    pub blobs: Vec<Blob>,
}

impl Filesystem {
    /// Mounts it, though nowhere yet. Returns the kernel's warnings, too.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; with its own reason where it gives one.
    pub fn mount(
        &self,
        driver: Driver,
        options: &Options,
        attributes: MountAttrFlags,
    ) -> Result<(OwnedFd, Vec<String>)> {
        let context = kernel::Context::open(driver.name(), &self.path)?;
        match (driver, &self.in_memory) {
            (Driver::Ferofs, Some((index, tar))) => {
                context.file("source", index)?;
                context.file("device", tar)?;
            }
            (Driver::Ferofs, None) => {
                context.file("source", &open(&self.path)?)?;
                for blob in &self.blobs {
                    // One at a time: there may be more of them than files can be open.
                    context.file("device", &open(&blob.path)?)?;
                }
            }
            (Driver::Erofs, _) => {
                let resolve = |path: &Path| fs::canonicalize(path).map_err(Error::io("open", path));
                context.string("source", &resolve(&self.path)?)?;
                for blob in &self.blobs {
                    context.string("device", &resolve(&blob.path)?)?;
                }
            }
        }
        for (key, value) in &options.filesystem {
            let result = match value {
                Some(value) => context.string(key, Path::new(value)),
                None => context.flag(key),
            };
            if !options.sloppy {
                result?;
            }
        }
        context.flag("ro")?;
        context.create(attributes)
    }

    /// What it consists of, a line each, for people.
    pub fn describe(&self) -> Vec<String> {
        let shown = Shown(&self.path);
        let mut lines = Vec::new();
        if let Some((index, _)) = &self.in_memory {
            let size = index.metadata().map_or(0, |metadata| metadata.len());
            lines.push(format!("{shown}: a tar; index in memory: {size} bytes"));
        }
        for (index, blob) in self.blobs.iter().enumerate() {
            let found = match blob.tag {
                Some(_) => "found by its sha256",
                None => "as given",
            };
            let path = Shown(&blob.path);
            lines.push(format!("{shown}: device {}: {path}, {found}", index + 1));
        }
        lines
    }
}

/// Opens what an image or a blob may be.
pub fn open(path: &Path) -> Result<File> {
    check_kind(path)?;
    File::open(path).map_err(Error::io("open", path))
}

/// Opening a named pipe would wait for somebody to write to it.
fn check_kind(path: &Path) -> Result<()> {
    let kind = fs::metadata(path)
        .map_err(Error::io("open", path))?
        .file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let path = Shown(path);
    Err(Error::Request(format!(
        "{path}: neither a regular file nor a block device"
    )))
}

/// Opens every blob, fails if one is not the tar that the image knows by its headers, and says which are shorter than
/// their slots. Slots have sizes in blocks, so the
/// last one need not be whole.
pub fn check_sizes(image: &Image, given: &[Blob]) -> Result<Vec<String>> {
    let block = u64::from(image.superblock().block_size());
    let mut notes = Vec::new();
    let headers = image.header_digests()?;
    let slots = image.devices()?.into_iter().zip(headers);
    for (index, ((slot, headers), blob)) in slots.zip(given).enumerate() {
        let mut file = open(&blob.path)?;
        blobs::check_headers(image.path(), index + 1, headers, &blob.path, &file)?;
        let size = file
            .seek(SeekFrom::End(0))
            .map_err(Error::io("seek in", &blob.path))?;
        let expected = slot.blocks.saturating_mul(block);
        if size.saturating_add(block) <= expected {
            let (number, path) = (index + 1, Shown(&blob.path));
            notes.push(format!(
                "device {number} is {path}, which has {size} bytes, expected {expected}: some files \
                 cannot be read"
            ));
        }
    }
    Ok(notes)
}

/// Compares the sha256 of every blob with its tag.
pub fn verify(image: &Image, blobs: &[Blob]) -> Result<()> {
    for (slot, blob) in image.devices()?.iter().zip(blobs) {
        let Some(expected) = blobs::tag(slot) else {
            return Err(Error::Request(format!(
                "{}: the image does not have its sha256",
                Shown(&blob.path)
            )));
        };
        verify_one(&blob.path, expected)?;
    }
    Ok(())
}

/// Compares the sha256 of a blob with what an image expects.
pub fn verify_one(path: &Path, expected: Digest) -> Result<()> {
    let found: Digest = digest::Background::spawn(open(path)?)
        .wait(|_| {})
        .map_err(Error::io("read", path))?;
    if found == expected {
        return Ok(());
    }
    let shown = Shown(path);
    Err(Error::Request(format!(
        "{shown}: its sha256 is {found}, the image expects {expected}"
    )))
}
