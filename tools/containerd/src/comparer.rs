// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Makes a layer of what was written to a snapshot: `ctr commit` and all that builds images ask for it.
//!
//! Only the upper directory is read, never what is below. What is compared otherwise, two images for example, is left to
//! the next differ that containerd has: the mounts are plain ones, that it can walk. Called by [`crate::service`].

use crate::api::containerd::services::diff::v1::DiffRequest;
use crate::api::containerd::types::Descriptor;
use crate::catalog::Kind;
use crate::catalog::Snapshot;
use crate::content::Contents;
use crate::content::Ingest;
use crate::problem::Problem;
use crate::problem::Result;
use crate::snapshotter::Snapshotter;
use crate::snapshotter::directories;
use ferofs::commit;
use ferofs::commit::Compression;
use ferofs::output::Output;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What containerd takes if nothing is said.
const DEFAULT: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The label of a compressed layer that says its diff ID.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// What layers of a media type are compressed with, if they can be made.
pub fn compression_of(media_type: &str) -> Option<Compression> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Some(Compression::Plain),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Some(Compression::GZIP),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Compression::ZSTD),
        _ => None,
    }
}

/// Makes layers.
pub struct Comparer {
    snapshotter: Arc<Snapshotter>,
    contents: Contents,
}

impl Comparer {
    /// For the snapshots of a snapshotter.
    pub fn new(snapshotter: Arc<Snapshotter>, contents: Contents) -> Self {
        Comparer {
            snapshotter,
            contents,
        }
    }

    /// Makes a layer and writes it to containerd's store.
    ///
    /// # Errors
    ///
    /// That it is for another differ, when it is not a snapshot against what it is on top of. And when the layer
    /// cannot be made or written.
    pub fn compare(&self, request: &DiffRequest, lease: Option<&str>) -> Result<Descriptor> {
        let media_type = match request.media_type.as_str() {
            "" => DEFAULT,
            media_type => media_type,
        };
        let Some(compression) = compression_of(media_type) else {
            return Err(Problem::unsupported(format!(
                "layers of type {media_type} are not made here"
            )));
        };
        let snapshot = self.written_to(request)?;
        let started = Instant::now();
        let upper = self.snapshotter.places.upper(&snapshot);
        let mut options = commit::Options::default().with_compression(compression);
        options = options.with_latest(request.source_date_epoch.as_ref().map(|time| time.seconds));
        let scratch = self.snapshotter.places.layers().join("made.layer");
        let output = Output::create_unnamed(&scratch)?;
        let summary = commit::write_layer(
            &upper,
            &options,
            output.file(),
            Path::new("the layer"),
            &mut |_| {},
        )?;
        for note in &summary.notes {
            tracing::warn!(snapshot = snapshot.name, "{note}");
        }
        let mut labels = request.labels.clone();
        if compression != Compression::Plain {
            labels.insert(
                UNCOMPRESSED.to_owned(),
                format!("sha256:{}", summary.diff_id),
            );
        }
        let reference = match request.r#ref.as_str() {
            "" => format!("ferofs-{}-{}", snapshot.number, summary.digest),
            reference => reference.to_owned(),
        };
        self.contents.write(
            &output.reader()?,
            &Ingest {
                snapshot: &snapshot.name,
                reference: &reference,
                labels: &labels,
                lease,
                digest: summary.digest,
                size: summary.size,
            },
        )?;
        self.snapshotter.metrics.compared.inc();
        tracing::info!(
            snapshot = snapshot.name,
            layer = %summary.diff_id,
            bytes = summary.size,
            entries = summary.entries,
            ms = started.elapsed().as_millis(),
            "made a layer"
        );
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{}", summary.digest),
            size: i64::try_from(summary.size).unwrap_or(i64::MAX),
            ..Descriptor::default()
        })
    }

    /// The snapshot whose upper directory is all the difference: one that is written to, or was committed where it is.
    fn written_to(&self, request: &DiffRequest) -> Result<Snapshot> {
        let here = &self.snapshotter;
        let other =
            || Problem::unsupported("what is compared is not a snapshot and what it is on top of");
        let right = directories(&request.right).ok_or_else(other)?;
        let upper = right.first().ok_or_else(other)?;
        let number = here.places.number_of(upper).ok_or_else(other)?;
        let snapshot = here.catalog.numbered(number)?;
        let is_written = snapshot.kind != Kind::View && snapshot.layer.is_none();
        if !is_written || *upper != here.places.upper(&snapshot) {
            return Err(other());
        }
        let Some(parent) = &snapshot.parent else {
            let is_empty = match directories(&request.left) {
                None => request.left.is_empty(),
                Some(left) => {
                    let number = left.first().and_then(|path| here.places.number_of(path));
                    let left = here.catalog.numbered(number.ok_or_else(other)?)?;
                    left.kind == Kind::View && left.parent.is_none()
                }
            };
            return is_empty.then_some(snapshot).ok_or_else(other);
        };
        let below = here.lowers.places(&here.catalog.get(parent)?)?;
        let left = directories(&request.left).ok_or_else(other)?;
        (left == below).then_some(snapshot).ok_or_else(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::applier::Stored;
    use crate::applier::stored_as;

    #[test]
    fn what_is_made_can_be_applied() {
        for media_type in [
            DEFAULT,
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert!(compression_of(media_type).is_some(), "{media_type}");
            assert_eq!(stored_as(media_type), Some(Stored::Tar), "{media_type}");
        }
        assert_eq!(
            compression_of("application/vnd.oci.image.layer.v1.tar+xz"),
            None
        );
    }
}
