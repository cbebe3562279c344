// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The documents that this client writes itself. Their fields have an order, and so have annotations: the same content
//! always has the same digest.

use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// The media type of a manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a list of manifests.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a configuration that says nothing.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// What is in it.
pub const EMPTY: &[u8] = b"{}";

/// What refers to a manifest or a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest, with the algorithm.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What is said of it.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_null"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// Go writes a map that was never made as null.
fn or_null<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// The manifest of something that is no image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactManifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MANIFEST_TYPE`].
    #[serde(default)]
    pub media_type: String,
    /// What it is.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Of no use, but it has to be there: of [`EMPTY_TYPE`].
    pub config: Descriptor,
    /// What it consists of.
    #[serde(default, deserialize_with = "or_null")]
    pub layers: Vec<Descriptor>,
    /// The manifest it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What is said of it.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_null"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl ArtifactManifest {
    /// One that belongs to `subject`.
    pub fn new(artifact_type: &str, layers: Vec<Descriptor>, subject: Descriptor) -> Self {
        ArtifactManifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_string(),
            artifact_type: Some(artifact_type.to_string()),
            config: Descriptor {
                media_type: EMPTY_TYPE.to_string(),
                digest: crate::Digest::of(EMPTY).to_string(),
                size: EMPTY.len() as u64,
                ..Descriptor::default()
            },
            layers,
            subject: Some(subject),
            annotations: BTreeMap::new(),
        }
    }
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, deserialize_with = "or_null")]
    pub manifests: Vec<serde_json::Value>,
    /// What others wrote there stays there.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

impl Default for Index {
    fn default() -> Self {
        Index {
            schema_version: 2,
            media_type: INDEX_TYPE.to_string(),
            manifests: Vec::new(),
            rest: BTreeMap::new(),
        }
    }
}
