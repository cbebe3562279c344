// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Mounts images, tars that have none yet, and container images. The `ferofs mount` command is a thin
//! layer over this.
//!
//! A mount is made in two steps: [`Mount::prepare`] finds or makes all that is needed and says what
//! is wrong with it, [`Mount::attach`] asks the kernel. Files are handed to ferofs as descriptors,
//! one at a time, so that there may be thousands; the C driver takes paths only.
//!
//! What is mounted is one filesystem, or, for layers that are not merged and for what can be
//! written to, an overlay over some.
//!
//! ```no_run
//! use ferofs::mount::Mount;
//! use ferofs::mount::Request;
//! use ferofs::mount::options::Options;
//! use std::path::Path;
//!
//! let mut options = Options::default();
//! options.devices.push("layer.tar".into());
//! let request = Request::new("layer.erofs".into()).with_options(options);
//! let mount = Mount::prepare(request, &|_bytes_more| {})?;
//! for warning in mount.attach(Path::new("/mnt"))? {
//!     println!("{warning}");
//! }
//! # Ok::<(), ferofs::error::Error>(())
//! ```

mod container;
mod delegated;
mod filesystem;
pub(crate) mod kernel;
mod memory;
pub mod options;
mod overlay;
mod unmount;

use crate::blobs;
use crate::compression::look;
use crate::directory::Identity;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::inspect::Image;
use crate::oci;
use crate::oci::Reference;
use crate::oci::layers::Watch;
use crate::setters::setters;
use crate::text::Shown;
use blobs::Blob;
use filesystem::Device;
use filesystem::Filesystem;
use options::Options;
use overlay::Upper;
use rustix::mount::MountAttrFlags;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use container::default_cache;
pub use memory::index_in_memory;
pub use overlay::look_like;
pub use unmount::unmount;

/// Which driver is to mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct Request {
    /// An image, a tar, or the name of a container image, see [`Reference`].
    pub source: PathBuf,
    /// The driver.
    pub driver: Driver,
    /// The options, among them blobs and where to look for them.
    pub options: Options,
    /// Whether to compare the sha256, or the fs-verity digest, of every blob with its tag.
    pub verify: bool,
}

impl Request {
    /// A source, and all the rest as it is by default.
    pub fn new(source: PathBuf) -> Self {
        Request {
            source,
            ..Request::default()
        }
    }

    setters! {
        /// Sets the driver.
        with_driver sets driver: Driver,
        /// Sets the options.
        with_options sets options: Options,
        /// Says whether to compare the sha256 of every blob with its tag.
        with_verify sets verify: bool,
    }
}

/// A mount that only the kernel has not seen yet.
pub struct Mount {
    request: Request,
    /// What is to be mounted, the lowest one first.
    layers: Vec<Filesystem>,
    /// Whether that takes an overlay.
    overlay: bool,
    /// What is strange, but no reason not to mount.
    notes: Vec<String>,
    /// What was done and found.
    lines: Vec<String>,
}

impl Mount {
    /// Opens the source, and finds the blobs. Of a container image, what is missing in the cache is
    /// made; `watch` is told how far that is.
    ///
    /// # Errors
    ///
    /// When the source is neither image nor tar nor container image, or something of it is missing
    /// or wrong.
    pub fn prepare(request: Request, watch: Watch<'_>) -> Result<Self> {
        if request.options.work.is_some() && request.options.upper.is_none() {
            return Err(Error::Request(
                "a directory to work in is given, but no upper directory".to_string(),
            ));
        }
        if let Some(option) = request.options.on_demand.given() {
            let shown = Shown(&request.source);
            return Err(Error::Request(format!(
                "{shown} is no image in a registry, for which {option} is; such a one is called \
                 registry.example/app:1.0, for example"
            )));
        }
        if let Some(reference) = Reference::parse(&request.source)? {
            return Self::prepare_container(request, &reference, watch);
        }
        let for_containers = [
            (request.options.stack, "--stack"),
            (request.options.cache.is_some(), "--cache"),
            (request.options.platform.is_some(), "--platform"),
        ];
        if let Some((_, option)) = for_containers.into_iter().find(|(given, _)| *given) {
            let shown = Shown(&request.source);
            return Err(Error::Request(format!(
                "{shown} is no container image, for which {option} is; such a one is called \
                 oci:DIR[:NAME], for example"
            )));
        }
        let (filesystem, notes) = prepare_file(&request)?;
        Ok(Mount {
            overlay: request.options.upper.is_some(),
            request,
            lines: filesystem.describe(),
            layers: vec![filesystem],
            notes,
        })
    }

    fn prepare_container(
        request: Request,
        reference: &Reference,
        watch: Watch<'_>,
    ) -> Result<Self> {
        let options = &request.options;
        if !options.devices.is_empty() {
            return Err(Error::Request(format!(
                "{reference} is a container image, whose tars are known: device= makes no sense"
            )));
        }
        let identity = |path: &Path| std::fs::metadata(path).map(|found| Identity::from(&found));
        let is_image = |path: &&PathBuf| {
            let same = identity(path).ok().zip(identity(&reference.path).ok());
            same.is_some_and(|(one, other)| one == other)
        };
        let written = [&options.upper, &options.work, &options.cache];
        if let Some(path) = written.into_iter().flatten().find(is_image) {
            let path = Shown(path);
            return Err(Error::of(
                Kind::Refused,
                format!("{path} is the image itself, in which nothing is to be written"),
            ));
        }
        let container = container::prepare(reference, options, request.verify, watch)?;
        Ok(Mount {
            overlay: options.stack || options.upper.is_some(),
            request,
            layers: container.layers,
            notes: container.notes,
            lines: container.lines,
        })
    }

    /// What is strange, but no reason not to mount: blobs that are too short, what was left out of
    /// an index that was made.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What was done and found, a line each, for people.
    pub fn describe(&self) -> &[String] {
        &self.lines
    }

    /// What mounts it in the end, for people.
    pub fn kind(&self) -> String {
        let name = self.request.driver.name();
        match (self.overlay, self.layers.len()) {
            (false, _) => name.to_string(),
            (true, 1) => format!("overlay over {name}"),
            (true, count) => format!("overlay over {count} of {name}"),
        }
    }

    /// Whether the same is mounted at a directory already, as far as that can be seen: of a tar it
    /// cannot, unless it is below an overlay.
    ///
    /// # Errors
    ///
    /// When there is no such directory, or mounts cannot be listed.
    pub fn is_mounted_at(&self, target: &Path) -> Result<bool> {
        let Some((kind, source)) = unmount::mounted_at(target)? else {
            return Ok(false);
        };
        if self.overlay {
            let expected = format!(
                "{}{}",
                overlay::SOURCE_PREFIX,
                self.request.source.display()
            );
            return Ok(kind == "overlay" && source == expected);
        }
        let mut layers = self.layers.iter();
        Ok(kind == self.request.driver.name()
            && layers.any(|layer| {
                std::fs::canonicalize(&layer.path).is_ok_and(|path| path == Path::new(&source))
            }))
    }

    /// Mounts. Returns the kernel's warnings.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; with its own reason where it gives one. Nothing is mounted then.
    pub fn attach(&self, target: &Path) -> Result<Vec<String>> {
        let Request {
            source,
            driver,
            options,
            ..
        } = &self.request;
        if self.overlay && delegated::is_needed() {
            let source = Shown(source);
            let what = format!(
                "cannot mount {source} as an overlay in a user namespace: mount its image there, and an overlay over that, \
                 with mount -t overlay -o userxattr,..."
            );
            return Err(Error::of(Kind::Mount, what));
        }
        let target = kernel::Target::open(target, source)?;
        let attributes = options.attributes();
        let of_layers = match self.overlay {
            true => MountAttrFlags::MOUNT_ATTR_RDONLY,
            false => attributes,
        };
        let mut mounts = Vec::new();
        let mut warnings = Vec::new();
        for layer in &self.layers {
            let (mount, mut warned) = layer.mount(*driver, options, of_layers)?;
            mounts.push(mount);
            warnings.append(&mut warned);
        }
        if !self.overlay {
            let mut mounts = mounts.iter();
            mounts.try_for_each(|mount| target.take(mount, source))?;
            return Ok(warnings);
        }
        let upper = match &options.upper {
            Some(upper) => {
                let upper = Upper::prepare(upper, options.work.as_deref())?;
                if let Some(top) = mounts.last() {
                    upper.look_like(top)?;
                }
                Some(upper)
            }
            None => None,
        };
        let (mount, mut warned) = overlay::mount(source, mounts, upper.as_ref(), attributes)?;
        warnings.append(&mut warned);
        target.take(&mount, source)?;
        if let Some(upper) = upper {
            upper.keep();
        }
        Ok(warnings)
    }
}

/// Fails if a mount cannot succeed whatever is prepared for it: when this process may not mount, the kernel has
/// no such filesystem, also after looking for its module, or there is no directory to mount it at.
///
/// # Errors
///
/// When that is so.
pub fn expect_possible(request: &Request, target: &Path) -> Result<()> {
    let options = &request.options;
    let mut names = vec![request.driver.name()];
    if options.stack || options.upper.is_some() {
        names.push("overlay");
    }
    names
        .into_iter()
        .try_for_each(|name| kernel::Context::open(name, &request.source).map(drop))?;
    kernel::Target::open(target, &request.source).map(drop)
}

/// Prepares an image or a tar. Returns what is strange about it, too.
fn prepare_file(request: &Request) -> Result<(Filesystem, Vec<String>)> {
    let source = &request.source;
    let file = filesystem::open(source).map_err(|error| oci::explain(error, source))?;
    let mut magic = [0; 4];
    let has_magic = file
        .read_exact_at(&mut magic, erofs_format::ondisk::SUPER_OFFSET)
        .is_ok_and(|()| u32::from_le_bytes(magic) == erofs_format::ondisk::SUPER_MAGIC);
    // An image may have the header of a tar before its superblock, so the magic decides.
    if has_magic {
        let file = Arc::new(file);
        let image = Image::new(source, Box::new(Arc::clone(&file)))?;
        let sparse = request.options.errs_on_holes();
        let blobs = blobs::assign_with(
            source,
            &image.devices()?,
            &request.options.devices,
            &request.options.directories,
            sparse,
        )?;
        if let Some(device) = image.device_elsewhere()?.filter(|_| blobs.is_empty()) {
            let (path, count) = (Shown(source), image.superblock().device_count());
            return Err(Error::Request(format!(
                "{path}: the data of device {device} of {count} is not in the image: give each its \
                 file with device="
            )));
        }
        if blobs.is_empty() {
            image.check_behind()?;
        }
        if request.verify && blobs.is_empty() && image.superblock().device_count() > 0 {
            let path = Shown(source);
            return Err(Error::Request(format!(
                "{path}: --verify compares files with their sha256, and the data is in this one behind the image: \
                 give each tar its file with device="
            )));
        }
        let notes = filesystem::check_sizes(&image, &blobs, &request.options)?;
        let blobs = match request.verify {
            true => filesystem::verify(&image, blobs)?,
            false => blobs.into_iter().map(Device::unread).collect(),
        };
        let filesystem = Filesystem {
            path: source.clone(),
            image: file,
            in_memory: false,
            blobs,
        };
        return Ok((filesystem, notes));
    }
    let shown = Shown(source);
    let (compression, _) = look(&file).map_err(Error::io("read", source))?;
    if let Some(compression) = compression {
        return Err(Error::of(
            Kind::Unsupported,
            format!(
                "{shown} is compressed ({compression}): unpack it with `ferofs build --tar-out`, \
             and mount the image"
            ),
        ));
    }
    if request.options.has_verity() {
        return Err(Error::Request(format!(
            "{shown} is no EROFS image, and an index in memory has no fs-verity: for verity= make an image with \
             `ferofs build --verity`"
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
            "{shown} is no EROFS image; of a tar the C driver needs one in a file: make it with \
             `ferofs build`"
        )));
    }
    let (index, mut notes) = index_in_memory(source, &file)?;
    notes.extend(seems_to_be_container(source, &index));
    let blob = Blob {
        path: source.clone(),
        tag: None,
    };
    let filesystem = Filesystem {
        path: source.clone(),
        image: Arc::new(index),
        in_memory: true,
        blobs: vec![Device {
            blob,
            file: Some(Arc::new(file)),
        }],
    };
    Ok((filesystem, notes))
}

/// Says so if what is in a tar looks like a container image.
fn seems_to_be_container(tar: &Path, index: &File) -> Option<String> {
    let image = Image::new(tar, Box::new(index.try_clone().ok()?)).ok()?;
    let root = image.root().ok()?;
    let has = |name: &[u8]| image.lookup(&root, name).is_ok_and(|found| found.is_some());
    let name = oci::seems_to_be_archive(has, tar)?;
    Some(oci::looks_like(&name))
}
