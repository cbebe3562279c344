// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The JSON documents of container images, with as much of them as is of use here: what else is in
//! them may be as it likes.

use super::Platform;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::IgnoredAny;
use std::collections::HashMap;

/// What a document or blob is by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A list of images, for several platforms.
    Index,
    /// One image.
    Manifest,
    /// The configuration of an image.
    Config,
    /// A layer, possibly compressed: its first bytes say how.
    Layer,
    /// Something else.
    Unknown,
}

/// What a media type means.
pub fn meaning(media_type: &str) -> Meaning {
    match media_type {
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Meaning::Index,
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Meaning::Manifest,
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json" => Meaning::Config,
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Meaning::Layer,
        _ => Meaning::Unknown,
    }
}

/// `oci-layout`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    /// The layout's version.
    pub image_layout_version: String,
}

/// What refers to a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest, with the algorithm.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// What people say of it.
    pub annotations: Option<HashMap<String, String>>,
    /// What machine it is for.
    pub platform: Option<PlatformOf>,
    /// What it is if it is no image.
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// [`Platform`] as documents have it.
#[derive(Clone, Debug, Deserialize)]
pub struct PlatformOf {
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// The architecture.
    #[serde(default)]
    pub architecture: String,
    /// Its variant.
    pub variant: Option<String>,
}

impl From<PlatformOf> for Platform {
    fn from(platform: PlatformOf) -> Self {
        Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
        }
        .normalized()
    }
}

/// `index.json`, and other lists of images.
#[derive(Debug, Deserialize)]
pub struct Index {
    /// Images, or further lists.
    #[serde(deserialize_with = "list")]
    pub manifests: Vec<Descriptor>,
}

/// A list that must be there. Go writes one that was never made as null.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// An image.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest one first.
    #[serde(deserialize_with = "list")]
    pub layers: Vec<Descriptor>,
    /// What it is if it is no image.
    #[serde(rename = "artifactType")]
    pub artifact_type: Option<String>,
}

impl Manifest {
    /// Whether it is something else that is kept like an image: a signature, a list of what is in one.
    pub fn is_artifact(&self) -> bool {
        let is = |descriptor: &Descriptor, wanted| meaning(&descriptor.media_type) == wanted;
        self.artifact_type
            .as_ref()
            .is_some_and(|kind| !kind.is_empty())
            || !is(&self.config, Meaning::Config)
            || !self.layers.iter().all(|layer| is(layer, Meaning::Layer))
    }
}

/// Either of these, which differ by what they have, be it null.
#[derive(Debug, Deserialize)]
pub struct IndexOrManifest {
    #[serde(default, deserialize_with = "anything")]
    manifests: bool,
    #[serde(default, deserialize_with = "anything")]
    layers: bool,
}

/// That something is there.
fn anything<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true)
}

impl IndexOrManifest {
    /// Which one it is.
    pub fn meaning(&self) -> Meaning {
        match (self.manifests, self.layers) {
            (true, false) => Meaning::Index,
            (false, true) => Meaning::Manifest,
            _ => Meaning::Unknown,
        }
    }
}

/// The configuration of an image.
#[derive(Debug, Deserialize)]
pub struct Config {
    /// What machine it is for.
    #[serde(flatten)]
    pub platform: PlatformOf,
    /// What its files come from.
    pub rootfs: RootFs,
}

/// What the files of an image come from.
#[derive(Debug, Deserialize)]
pub struct RootFs {
    /// The digests of the plain tars of all layers, the lowest one first. An image without layers
    /// may have none.
    #[serde(default)]
    pub diff_ids: Option<Vec<String>>,
}

/// An image in the `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Saved {
    /// The path of its configuration in the archive.
    pub config: String,
    /// Its names.
    pub repo_tags: Option<Vec<String>>,
    /// The paths of its layers in the archive, the lowest one first.
    pub layers: Option<Vec<String>>,
}
