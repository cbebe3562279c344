// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Applies a layer of an image to a snapshot: its plain tar and an index of it are put beside each other, and nothing is
//! unpacked. Called by [`crate::service`].
//!
//! A layer is read where containerd has it, once: what is compressed is decompressed into the tar, and the same pass
//! hashes and parses it. What is known already by the sha256 that the registry has for it is not read at all. What is
//! not taken, like encrypted layers, is left to the next differ that containerd has.

use crate::api::containerd::types::Descriptor;
use crate::api::containerd::types::Mount;
use crate::catalog::Form;
use crate::catalog::Layer;
use crate::catalog::Snapshot;
use crate::content::Contents;
use crate::locks::Locks;
use crate::problem::Problem;
use crate::problem::Result;
use crate::seal;
use crate::snapshotter::Snapshotter;
use crate::whole;
use ferofs::digest::Digest;
use ferofs::format::Algorithm;
use ferofs::inspect::Image;
use ferofs::inspect::check;
use ferofs::merge::Merge;
use ferofs::oci::ingest;
use ferofs::oci::ingest::Ingested;
use ferofs::oci::ingest::Request;
use ferofs::tree::FingerprintName;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The media type of what is applied, whatever it was in the registry.
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

/// What a layer is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A tar, compressed or not: that shows when it is read.
    Tar,
    /// An EROFS image with its data in it.
    Image,
}

/// What a media type says, if layers of it are taken. How they are compressed is seen in them.
pub fn stored_as(media_type: &str) -> Option<Stored> {
    let (base, suffix) = match media_type.split_once('+') {
        Some((base, suffix)) => (base, Some(suffix)),
        None => (media_type, None),
    };
    let known = matches!(suffix, None | Some("gzip" | "zstd"));
    match base {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar" => known.then_some(Stored::Tar),
        "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            suffix.is_none().then_some(Stored::Tar)
        }
        "application/vnd.erofs" => known.then_some(Stored::Image),
        base if base.starts_with("application/vnd.erofs.layer") => known.then_some(Stored::Image),
        // As they were called first.
        base if base.ends_with(".erofs") => suffix.is_none().then_some(Stored::Image),
        _ => None,
    }
}

/// Applies layers.
pub struct Applier {
    snapshotter: Arc<Snapshotter>,
    contents: Contents,
    /// Layers that are being read, by what they are called in the registry.
    busy: Locks<Digest>,
}

impl Applier {
    /// For the snapshots of a snapshotter.
    pub fn new(snapshotter: Arc<Snapshotter>, contents: Contents) -> Self {
        Applier {
            snapshotter,
            contents,
            busy: Locks::default(),
        }
    }

    /// Applies a layer to what the mounts lead to.
    ///
    /// # Errors
    ///
    /// That it is for another differ, when it is no snapshot of this daemon or no layer that is taken. And when it
    /// cannot be read or is not what it should be: nothing is left behind then.
    pub fn apply(
        &self,
        descriptor: &Descriptor,
        mounts: &[Mount],
        payloads: bool,
    ) -> Result<Descriptor> {
        let Some(number) = self.snapshotter.of_mounts(mounts) else {
            return Err(Problem::unsupported(format!(
                "the mounts are none of this snapshotter: {mounts:?}"
            )));
        };
        let snapshot = self.snapshotter.catalog.numbered(number)?;
        let digest = Digest::parse(&descriptor.digest);
        let stored = stored_as(&descriptor.media_type).filter(|_| !payloads);
        let (Some(stored), Some(digest)) = (stored, digest) else {
            // Whoever applies it now needs what is below.
            self.snapshotter.mount_below(&snapshot)?;
            return Err(Problem::unsupported(format!(
                "layers of type {} are for another differ",
                descriptor.media_type
            )));
        };
        let metrics = &self.snapshotter.metrics;
        let result = self.apply_known(&snapshot, digest, stored);
        match &result {
            Ok(_) => metrics.applied.inc(),
            Err(_) => metrics.failed.inc(),
        };
        let (layer, size) = result?;
        Ok(Descriptor {
            media_type: match stored {
                Stored::Tar => PLAIN.into(),
                Stored::Image => descriptor.media_type.clone(),
            },
            digest: format!("sha256:{layer}"),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            ..Descriptor::default()
        })
    }

    /// Returns the sha256 of the plain layer, and its size.
    fn apply_known(
        &self,
        snapshot: &Snapshot,
        digest: Digest,
        stored: Stored,
    ) -> Result<(Digest, u64)> {
        let here = &self.snapshotter;
        let _held = self.busy.hold(digest);
        let known = match here.catalog.stored(digest)? {
            Some(known) => Some(known),
            None => here.catalog.layer(digest)?.map(|layer| (digest, layer)),
        };
        if let Some((layer, record)) = known {
            let held = here.layers.hold(layer);
            // What comes on demand can be whole from now on, unless it is being served: then that is seen to by who serves it.
            if here.has_files(layer)? && !whole::can_become(here, layer, &record)? {
                let unused = here.catalog.apply(snapshot.number, layer, &record)?;
                drop(held);
                self.discard(unused)?;
                here.metrics.reused.inc();
                tracing::info!(snapshot = snapshot.name, %layer, "the layer is there already");
                return Ok((layer, record.size));
            }
        }
        let started = Instant::now();
        let (file, path) = self.contents.open(digest, &snapshot.name)?;
        let (layer, record, how) = match stored {
            Stored::Tar => self.take_tar(snapshot, file, &path, digest)?,
            Stored::Image => self.take_image(snapshot, &file, &path, digest)?,
        };
        let elapsed = started.elapsed();
        here.metrics.bytes.inc_by(record.size);
        here.metrics.seconds.observe(elapsed.as_secs_f64());
        tracing::info!(
            snapshot = snapshot.name,
            %layer,
            bytes = record.size,
            inodes = record.inodes,
            how,
            ms = elapsed.as_millis(),
            "applied"
        );
        Ok((layer, record.size))
    }

    fn take_tar(
        &self,
        snapshot: &Snapshot,
        file: File,
        path: &Path,
        digest: Digest,
    ) -> Result<(Digest, Layer, &'static str)> {
        let made = ingest_tar(&self.snapshotter, file, path, digest)?;
        let how = match made.how {
            ingest::How::Cloned => "cloned",
            ingest::How::Linked => "linked",
            _ => "written",
        };
        let layer = made.diff_id;
        let mut record = Layer {
            form: Form::Tar,
            size: made.size,
            index: made.index.size,
            inodes: made.index.inodes,
            block_bits: None,
            stored: vec![digest.to_string()],
            verity: None,
            origin: None,
        };
        self.enter(snapshot, layer, &mut record, || made.keep())?;
        Ok((layer, record, how))
    }

    /// An image is taken as it is: cloned, or copied.
    fn take_image(
        &self,
        snapshot: &Snapshot,
        file: &File,
        path: &Path,
        digest: Digest,
    ) -> Result<(Digest, Layer, &'static str)> {
        let here = &self.snapshotter;
        let directory = here.places.layers();
        let request = Request::new(&directory, path)
            .with_digest(Some(digest))
            .with_most(Some(here.config.layers.max_size).filter(|most| *most > 0));
        let taken = ingest::ingest_image(file, request, &|_| {})?;
        let image = Image::new(path, Box::new(taken.reader()?))?;
        if !image.devices()?.is_empty() {
            return Err(Problem::invalid(format!(
                "{}: it is an index that needs other files, expected an image with its data in it",
                path.display()
            )));
        }
        let layer = taken.digest;
        let superblock = image.superblock();
        let elsewhere = superblock.packed_nid().or(superblock.metabox_nid());
        let form = match superblock.algorithms() != 0 || elsewhere.is_some() {
            false => Form::Image,
            true => Form::Compressed,
        };
        let bits = superblock.block_size().trailing_zeros() as u8;
        let mut record = Layer {
            form,
            size: taken.size,
            index: 0,
            inodes: superblock.inodes(),
            block_bits: Some(bits).filter(|_| form == Form::Image || merges(&image)),
            stored: vec![digest.to_string()],
            verity: None,
            origin: None,
        };
        drop(image);
        self.enter(snapshot, layer, &mut record, || taken.keep())?;
        Ok((layer, record, "image"))
    }

    /// Gives the files of a layer their names by `keep`, unless they came meanwhile, compressed in another way; and
    /// makes them known.
    fn enter(
        &self,
        snapshot: &Snapshot,
        layer: Digest,
        record: &mut Layer,
        keep: impl FnOnce() -> ferofs::error::Result<()>,
    ) -> Result<()> {
        let here = &self.snapshotter;
        let held = here.layers.hold(layer);
        match here.catalog.layer(layer)? {
            Some(found) if here.has_files(layer)? => {
                whole::become_whole(here, layer, &found, keep)?;
                let stored = std::mem::replace(record, found);
                record.stored.extend(stored.stored);
            }
            _ => {
                self.make_room(layer)?;
                keep()?;
            }
        }
        let unused = self.finish(snapshot, layer, record)?;
        drop(held);
        self.discard(unused)
    }

    /// What is there by the name of a layer is of no use, or it would have been used.
    fn make_room(&self, layer: Digest) -> Result<()> {
        let places = &self.snapshotter.places;
        for path in places.files(layer) {
            seal::open(&path)?;
            places.throw_away(&path)?;
        }
        Ok(())
    }

    /// The files are there: they are checked and sealed as is wanted, and then known. Returns the layer that the snapshot
    /// had before, if nobody has that now.
    fn finish(
        &self,
        snapshot: &Snapshot,
        layer: Digest,
        record: &mut Layer,
    ) -> Result<Option<Digest>> {
        let here = &self.snapshotter;
        let mut done = || -> Result<Option<Digest>> {
            // An index was made here; an image is somebody else's.
            if here.config.layers.check || !record.form.is_tar() {
                check_layer(&here.places.image(layer), record)?;
            }
            here.seal(layer, record)?;
            here.catalog.apply(snapshot.number, layer, record)
        };
        done().inspect_err(|_| {
            let _ = here.remove_files(layer);
        })
    }

    /// Removes the files of a layer that nobody has. No other layer's lock is held.
    fn discard(&self, unused: Option<Digest>) -> Result<()> {
        let Some(unused) = unused else {
            return Ok(());
        };
        let _held = self.snapshotter.layers.hold(unused);
        self.snapshotter.remove_files(unused)
    }
}

/// Takes in a layer that is a tar, compressed or not, with this sha256. Its files have no names yet.
///
/// # Errors
///
/// When it cannot be read, or is not what it should be.
pub fn ingest_tar(here: &Snapshotter, file: File, path: &Path, digest: Digest) -> Result<Ingested> {
    let config = &here.config.layers;
    let directory = here.places.layers();
    let sharing = !here.config.snapshots.share_domain.is_empty();
    let fingerprints = sharing.then(FingerprintName::default);
    let request = Request::new(&directory, path)
        .with_digest(Some(digest))
        .with_most(Some(config.max_size).filter(|most| *most > 0))
        .with_links(config.links)
        .with_fingerprints(fingerprints.as_ref());
    let made = ingest::ingest(file, request, &|_| {})?;
    for note in &made.notes {
        tracing::warn!(layer = %made.diff_id, "{note}");
    }
    Ok(made)
}

/// Whether an image whose data is compressed can be part of another one: whether that of it alone could be made.
fn merges(image: &Image) -> bool {
    // LZ4 data from before Linux 5.3 has a form that goes with no other.
    let superblock = image.superblock();
    if superblock.algorithms() & Algorithm::Lz4.bit() != 0 && !superblock.lz4_is_padded() {
        return false;
    }
    let mut merge = Merge::new();
    let merged = merge.apply(image).and_then(|()| merge.finish());
    if let Err(error) = &merged {
        tracing::info!("{error}: it is mounted by itself");
    }
    merged.is_ok()
}

/// Fails if there is anything wrong with the image of a layer. What was taken for an image that can be part of another
/// one is known for one that cannot, if that shows.
fn check_layer(path: &Path, record: &mut Layer) -> Result<()> {
    let image = Image::open(path)?;
    let devices = match record.form {
        Form::Tar | Form::OnDemand => vec![record.size],
        Form::Image | Form::Compressed => Vec::new(),
    };
    let report = check::check(&image, &devices, &mut |_| {}).map_err(Problem::io("read", path))?;
    if record.form == Form::Image && report.encoded > 0 {
        record.form = Form::Compressed;
        record.block_bits = None;
    }
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => {
            let (at, what) = (problem.at, &problem.what);
            Err(Problem::invalid(format!(
                "{}: at {at}: {what}",
                path.display()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_layers_are_known() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", Some(Stored::Tar)),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip",
                Some(Stored::Tar),
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+zstd",
                Some(Stored::Tar),
            ),
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                Some(Stored::Tar),
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                Some(Stored::Tar),
            ),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                Some(Stored::Tar),
            ),
            ("application/vnd.erofs.layer.v1", Some(Stored::Image)),
            ("application/vnd.erofs.layer.v1+zstd", Some(Stored::Image)),
            ("application/vnd.erofs+zstd", Some(Stored::Image)),
            (
                "application/vnd.oci.image.layer.v1.erofs",
                Some(Stored::Image),
            ),
            ("application/vnd.oci.image.layer.v1.erofs+zstd", None),
            ("application/vnd.erofs.layer.v1+encrypted", None),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                None,
            ),
            ("application/vnd.oci.image.layer.v1.tar+encrypted", None),
            ("application/vnd.oci.image.layer.v1.tar+xz", None),
            ("application/vnd.oci.image.config.v1+json", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(stored_as(media_type), expected, "{media_type}");
        }
    }
}
