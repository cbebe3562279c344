// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One filesystem of a mount: an image, or the index of a tar, with the blobs it has its data in.

use super::Driver;
use super::delegated;
use super::kernel;
use super::options::NEVER_LEFT_OUT;
use super::options::Options;
use crate::blobs;
use crate::blobs::Blob;
use crate::blobs::Tag;
use crate::digest;
use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::fsverity;
use crate::inspect::Image;
use crate::open;
use crate::text::Shown;
use rustix::mount::MountAttrFlags;
use std::borrow::Cow;
use std::fs;
use std::fs::File;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// A filesystem that is to be mounted.
pub struct Filesystem {
    /// The image, or the tar.
    pub path: PathBuf,
    /// The image itself, as it was looked at; or the index of a tar in memory.
    pub image: Arc<File>,
    /// Whether that is in memory.
    pub in_memory: bool,
    /// What the image has its data in.
    pub blobs: Vec<Device>,
}

/// A blob, and the file itself if it is known what is in it: that is mounted, whatever has its name by then.
pub struct Device {
    /// Where it is.
    pub blob: Blob,
    /// What was read or compared.
    pub file: Option<Arc<File>>,
}

impl Device {
    /// A blob that is opened when it is mounted: there may be more of them than files can be open.
    pub fn unread(blob: Blob) -> Self {
        Device { blob, file: None }
    }
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
        let options = &*self.with_digest(driver, options)?;
        if driver == Driver::Ferofs && delegated::is_needed() {
            return delegated::mount(self, options);
        }
        let context = kernel::Context::open(driver.name(), &self.path)?;
        match driver {
            Driver::Ferofs => {
                context.file("source", &self.image)?;
                for device in &self.blobs {
                    match &device.file {
                        Some(file) => context.file("device", file)?,
                        None => context.file("device", &open(&device.blob.path)?)?,
                    }
                }
            }
            Driver::Erofs => {
                let resolve = |path: &Path| fs::canonicalize(path).map_err(Error::io("open", path));
                context.string("source", &resolve(&self.path)?)?;
                for device in &self.blobs {
                    // It takes paths only, but there is one that leads to an open file.
                    let path = match &device.file {
                        Some(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
                        None => resolve(&device.blob.path)?,
                    };
                    context.string("device", &path)?;
                }
            }
        }
        for (key, value) in &options.filesystem {
            let result = match value {
                Some(value) => context.string(key, Path::new(value)),
                None => context.flag(key),
            };
            if !options.sloppy || NEVER_LEFT_OUT.contains(&key.as_str()) {
                result?;
            }
        }
        context.flag("ro")?;
        context.create(attributes)
    }

    /// Options in which an image that is to be signed, and is, has the digest that was signed.
    fn with_digest<'a>(&self, driver: Driver, options: &'a Options) -> Result<Cow<'a, Options>> {
        if driver != Driver::Ferofs || !options.wants_signature() {
            return Ok(Cow::Borrowed(options));
        }
        if !fsverity::is_signed(&self.image, &self.path)? {
            let path = Shown(&self.path);
            return Err(Error::of(
                Kind::Refused,
                format!(
                    "{path} is not signed: expected fs-verity with a signature, as `fsverity enable --signature` puts there"
                ),
            ));
        }
        let digest = fsverity::measure(&self.image, &self.path)?;
        Ok(Cow::Owned(options.with_verity(&digest)))
    }

    /// What it consists of, a line each, for people.
    pub fn describe(&self) -> Vec<String> {
        let shown = Shown(&self.path);
        let mut lines = Vec::new();
        if self.in_memory {
            let size = self.image.metadata().map_or(0, |metadata| metadata.len());
            lines.push(format!("{shown}: a tar; index in memory: {size} bytes"));
            return lines;
        }
        for (index, Device { blob, .. }) in self.blobs.iter().enumerate() {
            let found = match blob.tag {
                Some(tag) => format!("found by its {}", tag.kind()),
                None => "as given".to_string(),
            };
            let path = Shown(&blob.path);
            lines.push(format!("{shown}: device {}: {path}, {found}", index + 1));
        }
        lines
    }
}

/// Opens what an image or a blob may be.
pub fn open(path: &Path) -> Result<File> {
    let (file, metadata) = open::anything(path)?;
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(file);
    }
    let path = Shown(path);
    Err(Error::Request(format!(
        "{path}: neither a regular file nor a block device"
    )))
}

/// Opens every blob, fails if one is not the tar that the image knows by its headers, and says which are shorter than
/// their slots. With `verity=` nothing is said of those whose slots have their fs-verity digests: the driver
/// knows them by these. With `holes=error` the headers of those that are not whole are not looked at: somebody may have to
/// get all of the tar for it. Slots have sizes in blocks, so the
/// last one need not be whole.
pub fn check_sizes(image: &Image, given: &[Blob], options: &Options) -> Result<Vec<String>> {
    let block = u64::from(image.superblock().block_size());
    let mut notes = Vec::new();
    let headers = image.header_digests()?;
    let slots = image.devices()?.into_iter().zip(headers);
    for (index, ((slot, headers), blob)) in slots.zip(given).enumerate() {
        let mut file = open(&blob.path)?;
        if options.has_verity() && matches!(Tag::of(&slot), Some(Tag::Verity(_))) {
            continue;
        }
        let size = file
            .seek(SeekFrom::End(0))
            .map_err(Error::io("seek in", &blob.path))?;
        if !options.errs_on_holes() || is_whole(&file, size) {
            blobs::check_headers(image.path(), index + 1, headers, &blob.path, &file)?;
        }
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

/// Whether a file has no holes, as far as its filesystem knows.
fn is_whole(file: &File, size: u64) -> bool {
    rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0)).is_ok_and(|hole| hole >= size)
}

/// Compares the sha256, or the fs-verity digest, of every blob with its tag. What was compared stays open, to be mounted.
pub fn verify(image: &Image, blobs: Vec<Blob>) -> Result<Vec<Device>> {
    let mut slots = image.devices()?.into_iter();
    let verified = blobs.into_iter().map(|blob| {
        let Some(expected) = slots.next().as_ref().and_then(Tag::of) else {
            return Err(Error::Request(format!(
                "{}: the image does not have its sha256",
                Shown(&blob.path)
            )));
        };
        let file = verify_one(&blob.path, expected)?;
        let file = Some(Arc::new(file));
        Ok(Device { blob, file })
    });
    verified.collect()
}

/// Compares a blob with what an image expects. Returns what was compared.
fn verify_one(path: &Path, expected: Tag) -> Result<File> {
    let file = open(path)?;
    let same = file.try_clone().map_err(Error::io("open", path))?;
    let kind = expected.kind();
    let (found, expected) = match expected {
        Tag::Sha256(expected) => {
            let found: Digest = digest::Background::spawn(same)
                .wait(|_| {})
                .map_err(Error::io("read", path))?;
            (found.to_string(), expected.to_string())
        }
        Tag::Verity(expected) => {
            let found = digest::verity_of(&same).map_err(Error::io("read", path))?;
            (found.to_string(), expected.to_string())
        }
    };
    if found == expected {
        return Ok(file);
    }
    let shown = Shown(path);
    Err(Error::of(
        Kind::WrongDigest,
        format!("{shown}: its {kind} is {found}, the image expects {expected}"),
    ))
}
