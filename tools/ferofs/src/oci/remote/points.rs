// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Access points of layers beside their indexes in a registry: further layers of the same artifact. [`super::Remote`] calls
//! it.

use super::LAYER_DIFF_ID;
use super::LAYER_DIGEST;
use super::Layer;
use super::Remote;
use super::failed;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::oci::resolve::parse_digest;
use crate::output::Output;
use crate::points::Points;
use crate::points::file::FILE_MAX;
use ferofs_registry as registry;
use ferofs_registry::Descriptor;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// The media type of access points of a layer.
pub const POINTS_TYPE: &str = "application/vnd.ferofs.points.v1";

/// What the access points of a layer are called in a directory.
pub fn name(diff_id: Digest) -> String {
    format!("{diff_id}.points")
}

fn annotations(layer: &Layer) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LAYER_DIGEST.to_string(), format!("sha256:{}", layer.digest)),
        (
            LAYER_DIFF_ID.to_string(),
            format!("sha256:{}", layer.diff_id),
        ),
    ])
}

/// Stores the access points of a layer, if there are any in the directory.
pub fn push(remote: &Remote, directory: &Path, layer: &Layer) -> Result<Option<Descriptor>> {
    let path = directory.join(name(layer.diff_id));
    if !path.exists() {
        return Ok(None);
    }
    let points = Points::open_of(&path, layer.diff_id, Some(layer.digest))?;
    let mut bytes = Vec::new();
    points.write(&mut bytes).map_err(Error::io("read", &path))?;
    let digest = remote.client.push_blob(&bytes, None).map_err(failed)?;
    Ok(Some(Descriptor {
        media_type: POINTS_TYPE.to_string(),
        digest: digest.to_string(),
        size: bytes.len() as u64,
        annotations: annotations(layer),
        ..Descriptor::default()
    }))
}

/// Whether the access points of a layer are in a directory, and right.
pub fn are_there(directory: &Path, layer: &Layer) -> bool {
    let path = directory.join(name(layer.diff_id));
    Points::open_of(&path, layer.diff_id, Some(layer.digest)).is_ok()
}

/// Gets the first access points of a layer that can be right, for a directory. What was wrong with others is added to the
/// notes.
pub fn get(
    remote: &Remote,
    layer: &Layer,
    offers: &[Descriptor],
    (directory, path): (&Arc<Directory>, &Path),
    notes: &mut Vec<String>,
) -> Result<Output> {
    let wanted = annotations(layer);
    let of_layer = |offer: &&Descriptor| {
        offer.media_type == POINTS_TYPE
            && wanted
                .iter()
                .all(|(key, value)| offer.annotations.get(key) == Some(value))
    };
    let mut first = None;
    for offer in offers.iter().filter(of_layer) {
        match get_one(remote, layer, offer) {
            Ok(bytes) => {
                let name = name(layer.diff_id);
                let output = Output::create_in(directory, name.as_bytes(), &path.join(&name))?;
                let written = output.file().write_all(&bytes);
                written.map_err(Error::io("write", output.target()))?;
                return Ok(output);
            }
            Err(error) if error.kind() != Kind::Registry => {
                notes.push(error.to_string());
                first = first.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or_else(|| {
        let (name, diff_id) = (&remote.name, layer.diff_id);
        let problem =
            format!("{name}: the registry has no access points of the layer sha256:{diff_id}");
        Error::of(Kind::NotFound, problem)
    }))
}

fn get_one(remote: &Remote, layer: &Layer, offer: &Descriptor) -> Result<Vec<u8>> {
    let name = &remote.name;
    let digest = parse_digest(Path::new(name), &offer.digest)?;
    let shown = format!("{name}: sha256:{digest}");
    let digest = registry::Digest(digest.0);
    let bytes = remote.client.small_blob(digest, offer.size, FILE_MAX);
    let bytes = bytes.map_err(failed)?;
    let points = Points::parse(&bytes, Path::new(&shown))?;
    if (points.diff_id, points.digest) != (layer.diff_id, layer.digest) {
        let problem = format!("{shown}: access points of another layer than it says");
        return Err(Error::of(Kind::WrongBlob, problem));
    }
    Ok(bytes)
}
