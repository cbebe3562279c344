// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The image of all layers together, as it is kept beside the indexes of the layers: a mount of a container image looks for
//! it, be the image on disk or in a registry.

use crate::blobs;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::inspect::Image;
use crate::inspect::is_unchanged;
use crate::tree::FingerprintName;
use std::fs::File;
use std::path::Path;

/// What it is called.
pub fn name(chain_id: Digest) -> String {
    format!("{chain_id}.merged.erofs")
}

/// The one over these tars that is there already, if it is as it would be made now. Files have fingerprints in this attribute, if
/// they are to have some.
pub fn there(
    directory: &Directory,
    name: &str,
    path: &Path,
    tars: impl Iterator<Item = Digest>,
    fingerprints: Option<&FingerprintName>,
) -> Option<File> {
    let file = directory.file(name.as_bytes()).ok()?;
    let merged = Image::new(path, Box::new(file.try_clone().ok()?)).ok()?;
    let slots = merged.devices().ok()?;
    let tags = slots.iter().map(blobs::tag);
    let same = tags.eq(tars.map(Some)) && merged.has_fingerprints(fingerprints);
    (same && is_unchanged(&merged).unwrap_or(false)).then_some(file)
}
