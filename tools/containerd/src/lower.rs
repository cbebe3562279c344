// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is below a snapshot: all layers of a committed one in one image, mounted once however many are on top of it.
//!
//! The image is made when it is wanted for the first time, in one step, and never changed: it says the same however
//! often it is made. The mount is the kernel's own and needs nobody to live; after a reboot it is made again. Called by
//! [`crate::snapshotter`] and [`crate::applier`].

use crate::catalog::Catalog;
use crate::catalog::Form;
use crate::catalog::Snapshot;
use crate::locks::Locks;
use crate::places::Places;
use crate::places::make;
use crate::problem::Problem;
use crate::problem::Result;
use ferofs::blobs;
use ferofs::error::Error;
use ferofs::inspect::Image;
use ferofs::merge::Merge;
use ferofs::mount::Mount;
use ferofs::mount::Request;
use ferofs::mount::options::Options;
use ferofs::output::Output;
use rustix::fs::AtFlags;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
use rustix::mount::UnmountFlags;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Makes and mounts what is below snapshots.
pub struct Lowers {
    catalog: Arc<Catalog>,
    places: Arc<Places>,
    /// Those that are being made or mounted, by number.
    busy: Locks<u64>,
}

impl Lowers {
    /// For the snapshots of a catalog.
    pub fn new(catalog: Arc<Catalog>, places: Arc<Places>) -> Self {
        Lowers {
            catalog,
            places,
            busy: Locks::default(),
        }
    }

    /// Mounts a committed snapshot if it is not mounted yet. Returns where.
    ///
    /// # Errors
    ///
    /// When one of its layers is missing or wrong, or the kernel does not mount it.
    pub fn mounted(&self, snapshot: &Snapshot) -> Result<PathBuf> {
        let lower = self.places.lower(snapshot.number);
        let _held = self.busy.hold(snapshot.number);
        make(&self.places.snapshot(snapshot.number), 0o711)?;
        make(&lower, 0o755)?;
        if is_mounted(&lower)? {
            return Ok(lower);
        }
        let merged = self.merge(snapshot)?;
        let mut options = Options::default();
        options.devices = self.devices(&merged)?;
        let devices = options.devices.len();
        let mount = Mount::prepare(Request::new(merged).with_options(options), &|_| {})?;
        for note in mount.notes() {
            tracing::warn!(snapshot = snapshot.name, "{note}");
        }
        for warning in mount.attach(&lower)? {
            tracing::warn!(snapshot = snapshot.name, "{warning}");
        }
        tracing::info!(snapshot = snapshot.name, devices, "mounted");
        Ok(lower)
    }

    /// Makes the image of a committed snapshot if there is none, without mounting it.
    ///
    /// # Errors
    ///
    /// When one of its layers is missing or wrong.
    pub fn prepare(&self, snapshot: &Snapshot) -> Result<()> {
        let _held = self.busy.hold(snapshot.number);
        make(&self.places.snapshot(snapshot.number), 0o711)?;
        self.merge(snapshot).map(|_| ())
    }

    /// Unmounts one, once nobody uses it any more. That nothing is mounted is no problem.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn unmount(&self, number: u64) -> Result<()> {
        let lower = self.places.lower(number);
        let _held = self.busy.hold(number);
        if lower.exists() && is_mounted(&lower)? {
            rustix::mount::unmount(&lower, UnmountFlags::DETACH)
                .map_err(|errno| Problem::io("unmount", &lower)(errno.into()))?;
        }
        Ok(())
    }

    fn merge(&self, snapshot: &Snapshot) -> Result<PathBuf> {
        let path = self.places.merged(snapshot.number);
        if path.exists() {
            return Ok(path);
        }
        let started = Instant::now();
        let mut merge = Merge::new();
        let mut chain = self.catalog.chain(&snapshot.name)?;
        chain.reverse();
        for below in &chain {
            let Some(digest) = below.layer else {
                let problem = format!("snapshot {} has no layer", below.name);
                return Err(Problem::precondition(problem));
            };
            let image = Image::open(&self.places.image(digest))?;
            match self.form(digest)? {
                Form::Tar => merge.apply(&image)?,
                Form::Image => merge.apply_known(&image, Some(digest))?,
            }
        }
        let merged = merge.finish()?;
        let output = Output::create(&path, &[])?;
        merged
            .write_file(&merged.options(), output.file())
            .map_err(Error::image(output.target()))?;
        output.finish()?;
        for note in &merged.notes {
            tracing::warn!(snapshot = snapshot.name, "{note}");
        }
        let (layers, ms) = (chain.len(), started.elapsed().as_millis());
        tracing::info!(snapshot = snapshot.name, layers, ms, "merged");
        Ok(path)
    }

    fn form(&self, digest: ferofs::digest::Digest) -> Result<Form> {
        match self.catalog.layer(digest)? {
            Some(layer) => Ok(layer.form),
            None => Err(Problem::missing(format!("layer {digest} does not exist"))),
        }
    }

    /// The files that a merged image has its data in.
    fn devices(&self, merged: &Path) -> Result<Vec<PathBuf>> {
        let image = Image::open(merged)?;
        let slots = image.devices()?;
        let files = slots.iter().enumerate().map(|(index, slot)| {
            let Some(digest) = blobs::tag(slot) else {
                let (path, number) = (merged.display(), index + 1);
                return Err(Problem::failed(format!(
                    "{path}: device {number} has no sha256 that it could be found by"
                )));
            };
            Ok(match self.form(digest)? {
                Form::Tar => self.places.tar(digest),
                Form::Image => self.places.image(digest),
            })
        });
        files.collect()
    }
}

/// Whether something is mounted at a directory.
pub fn is_mounted(path: &Path) -> Result<bool> {
    let found = rustix::fs::statx(
        rustix::fs::CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::TYPE,
    )
    .map_err(|errno| Problem::io("look at", path)(errno.into()))?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
