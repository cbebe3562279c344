// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Mounts images, and tars that have none yet. The `ferofs mount` command is a thin layer over this.
//!
//! A mount is made in two steps: [`Mount::prepare`] opens all that is needed and says what is
//! wrong with it, [`Mount::attach`] asks the kernel. Files are handed to ferofs as descriptors, one
//! at a time, so that there may be thousands; the C driver takes paths only.

pub mod blobs;
mod kernel;
mod memory;
pub mod options;

use crate::compression::look;
use crate::digest;
use crate::digest::Digest;
use crate::error::Error;
use crate::error::Result;
use crate::inspect::Image;
use blobs::Blob;
use options::Options;
use std::fs;
use std::fs::File;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::path::PathBuf;

pub use memory::index_in_memory;

/// Which driver is to mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// ferofs.
    #[default]
    Ferofs,
    /// The C driver.
    Erofs,
}

impl Driver {
    /// The type of filesystem it registers.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Ferofs => "ferofs",
            Driver::Erofs => "erofs",
        }
    }
}

/// What is to be mounted.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// An image or a tar.
    pub source: PathBuf,
    /// The driver.
    pub driver: Driver,
    /// The options, among them blobs and where to look for them.
    pub options: Options,
    /// Whether to compare the sha256 of every blob with its tag.
    pub verify: bool,
}

/// A mount that only the kernel has not seen yet.
pub struct Mount {
    request: Request,
    /// The image, or the index of a tar.
    image: File,
    /// The tar itself, if the source is one.
    tar: Option<File>,
    blobs: Vec<Blob>,
    /// What is strange, but no reason not to mount.
    notes: Vec<String>,
}

impl Mount {
    /// Opens the source, and finds the blobs.
    ///
    /// # Errors
    ///
    /// When the source is neither image nor tar, or a blob is missing or the wrong one.
    pub fn prepare(request: Request) -> Result<Self> {
        let source = &request.source;
        let file = open(source)?;
        let mut magic = [0; 4];
        let has_magic = file
            .read_exact_at(&mut magic, erofs_format::ondisk::SUPER_OFFSET)
            .is_ok_and(|()| u32::from_le_bytes(magic) == erofs_format::ondisk::SUPER_MAGIC);
        // An image may have the header of a tar before its superblock, so the magic decides.
        if !has_magic {
            return Self::prepare_tar(request, file);
        }
        let image = Image::open(source)?;
        let blobs = blobs::assign(
            source,
            &image.devices()?,
            &request.options.devices,
            &request.options.directories,
        )?;
        let notes = check_sizes(&image, &blobs)?;
        if request.verify {
            verify(&image, &blobs)?;
        }
        Ok(Mount {
            request,
            image: file,
            tar: None,
            blobs,
            notes,
        })
    }

    fn prepare_tar(request: Request, tar: File) -> Result<Self> {
        let source = &request.source;
        let shown = source.display();
        let (compression, _) = look(&tar).map_err(Error::io("read", source))?;
        if let Some(compression) = compression {
            return Err(Error::Request(format!(
                "{shown} is compressed ({compression}): unpack it with `ferofs build --tar-out`, \
                 and mount the image"
            )));
        }
        let has_no_devices = [
            (!request.options.devices.is_empty(), "device="),
            (!request.options.directories.is_empty(), "blobs="),
            (request.verify, "--verify"),
        ];
        if let Some((_, option)) = has_no_devices.into_iter().find(|(given, _)| *given) {
            return Err(Error::Request(format!(
                "{shown} is no EROFS image, and as a tar it has its data itself: {option} makes no \
                 sense"
            )));
        }
        if request.driver == Driver::Erofs {
            return Err(Error::Request(format!(
                "{shown} is no EROFS image; of a tar the C driver needs one in a file: make it \
                 with `ferofs build`"
            )));
        }
        let (image, notes) = index_in_memory(source, &tar)?;
        Ok(Mount {
            request,
            image,
            tar: Some(tar),
            blobs: Vec::new(),
            notes,
        })
    }

    /// What is strange, but no reason not to mount: blobs that are too short, what was left out of
    /// the index of a tar.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What was found, a line each, for people.
    pub fn describe(&self) -> Vec<String> {
        let source = self.request.source.display();
        let mut lines = Vec::new();
        if self.tar.is_some() {
            let size = self.image.metadata().map_or(0, |metadata| metadata.len());
            lines.push(format!("{source}: a tar; index in memory: {size} bytes"));
        }
        for (index, blob) in self.blobs.iter().enumerate() {
            let found = match blob.tag {
                Some(_) => "found by its sha256",
                None => "as given",
            };
            let path = blob.path.display();
            lines.push(format!("{source}: device {}: {path}, {found}", index + 1));
        }
        lines
    }

    /// Mounts. Returns the kernel's warnings.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; with its own reason where it gives one.
    pub fn attach(&self, target: &Path) -> Result<Vec<String>> {
        let Request {
            source,
            driver,
            options,
            ..
        } = &self.request;
        let context = kernel::Context::open(*driver, source, target)?;
        match driver {
            Driver::Ferofs => {
                context.file("source", &self.image)?;
                if let Some(tar) = &self.tar {
                    context.file("device", tar)?;
                }
                for blob in &self.blobs {
                    // One at a time: there may be more of them than files can be open.
                    context.file("device", &open(&blob.path)?)?;
                }
            }
            Driver::Erofs => {
                let resolve = |path: &Path| fs::canonicalize(path).map_err(Error::io("open", path));
                context.string("source", resolve(source)?.as_path())?;
                for blob in &self.blobs {
                    context.string("device", resolve(&blob.path)?.as_path())?;
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
        context.attach(options.attributes())
    }
}

/// Unmounts the image that is mounted at `target`; with `lazy` once nobody uses it any more.
///
/// # Errors
///
/// When no EROFS is mounted there, or it is in use.
pub fn unmount(target: &Path, lazy: bool) -> Result<()> {
    let failed = |errno: rustix::io::Errno| Error::io("unmount", target)(errno.into());
    let found = rustix::fs::statfs(target).map_err(failed)?;
    if u64::try_from(found.f_type).ok() != Some(u64::from(erofs_format::ondisk::SUPER_MAGIC)) {
        let target = target.display();
        return Err(Error::Request(format!(
            "{target}: there is no EROFS image mounted"
        )));
    }
    let flags = match lazy {
        true => rustix::mount::UnmountFlags::DETACH,
        false => rustix::mount::UnmountFlags::empty(),
    };
    rustix::mount::unmount(target, flags).map_err(failed)
}

/// Opens what an image or a blob may be.
fn open(path: &Path) -> Result<File> {
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
    let path = path.display();
    Err(Error::Request(format!(
        "{path}: neither a regular file nor a block device"
    )))
}

/// Opens every blob and says which are shorter than their slots. Slots have sizes in blocks, so the
/// last one need not be whole.
fn check_sizes(image: &Image, blobs: &[Blob]) -> Result<Vec<String>> {
    let block = u64::from(image.superblock().block_size());
    let mut notes = Vec::new();
    for (index, (slot, blob)) in image.devices()?.iter().zip(blobs).enumerate() {
        let size = open(&blob.path)?
            .seek(SeekFrom::End(0))
            .map_err(Error::io("seek in", &blob.path))?;
        let expected = slot.blocks.saturating_mul(block);
        if size.saturating_add(block) <= expected {
            let (number, path) = (index + 1, blob.path.display());
            notes.push(format!(
                "device {number} is {path}, which has {size} bytes, expected {expected}: some files \
                 cannot be read"
            ));
        }
    }
    Ok(notes)
}

/// Compares the sha256 of every blob with its tag.
fn verify(image: &Image, blobs: &[Blob]) -> Result<()> {
    for (slot, blob) in image.devices()?.iter().zip(blobs) {
        let path = &blob.path;
        let shown = path.display();
        let Some(expected) = blobs::tag(slot) else {
            return Err(Error::Request(format!(
                "{shown}: the image does not have its sha256"
            )));
        };
        let found: Digest = digest::Background::spawn(open(path)?)
            .wait(|_| {})
            .map_err(Error::io("read", path))?;
        if found != expected {
            return Err(Error::Request(format!(
                "{shown}: its sha256 is {found}, the image expects {expected}"
            )));
        }
    }
    Ok(())
}
