// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Container images: their layers are indexed in a cache, and merged there, or mounted one by one.

use super::filesystem::Filesystem;
use super::filesystem::verify_one;
use super::options::Options;
use crate::blobs;
use crate::blobs::Blob;
use crate::digest::Digest;
use crate::error::Error;
use crate::error::Result;
use crate::image;
use crate::inspect::Image;
use crate::inspect::is_unchanged;
use crate::oci;
use crate::oci::Kind;
use crate::oci::Reference;
use crate::oci::layers;
use crate::oci::layers::Places;
use crate::oci::layers::Watch;
use crate::output::NewDirectory;
use crate::output::Output;
use crate::text::Shown;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What the indexes of a system are for.
const SYSTEM_CACHE: &str = "/var/cache";

/// What was prepared of a container image.
pub struct Container {
    /// The filesystems, the lowest one first.
    pub layers: Vec<Filesystem>,
    /// What was left out of them.
    pub notes: Vec<String>,
    /// What was done, a line each, for people.
    pub lines: Vec<String>,
}

/// Where the indexes of container images are kept unless somebody wants them elsewhere:
/// `$XDG_CACHE_HOME/ferofs`; without that `/var/cache/ferofs` for root, who may have no home when
/// the system starts, and `~/.cache/ferofs` for others.
pub fn default_cache() -> PathBuf {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| match rustix::process::geteuid().is_root() {
        true => None,
        false => Some(absolute("HOME")?.join(".cache")),
    });
    cache.unwrap_or_else(|| SYSTEM_CACHE.into()).join("ferofs")
}

/// Makes what is missing, and says what is to be mounted.
///
/// # Errors
///
/// When the image cannot be found or is wrong, or the cache cannot be written to.
pub fn prepare(
    reference: &Reference,
    options: &Options,
    verify: bool,
    watch: Watch<'_>,
) -> Result<Container> {
    let image = oci::open(reference, options.platform.as_ref())?;
    let cache = options.cache.clone().unwrap_or_else(default_cache);
    if let Some(parent) = cache.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    // Layers have files that not everybody may read.
    let mut directory = NewDirectory::create(&cache, 0o700)?;
    let mut search = options.directories.clone();
    if reference.kind == Kind::Layout {
        search.push(reference.path.clone());
    }
    let places = Places {
        directory: &cache,
        search: &search,
        links: false,
    };
    let layers = layers::prepare(&image, places, watch)?.keep()?;
    directory.stay();
    let mut lines = vec![format!(
        "{reference}: {}, {} layers",
        image.platform,
        layers.len()
    )];
    let mut notes = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        if verify && layer.reused {
            verify_one(&layer.tar, layer.diff_id)?;
        }
        let number = index + 1;
        let (index, tar) = (Shown(&layer.index), Shown(&layer.tar));
        let done = match layer.reused {
            true => "there already",
            false => "new",
        };
        lines.push(format!(
            "{reference}: layer {number}: {index} over {tar}, {done}"
        ));
        let of_layer = |note| format!("sha256:{}: {note}", layer.diff_id);
        notes.extend(layer.notes.iter().map(of_layer));
    }
    let blob = |(digest, path): (Digest, PathBuf)| Blob {
        path,
        tag: Some(digest),
    };
    let layers = if options.stack && !layers.is_empty() {
        let filesystem = |layer: layers::Indexed| Filesystem {
            path: layer.index,
            in_memory: None,
            blobs: vec![blob((layer.diff_id, layer.tar))],
        };
        layers.into_iter().map(filesystem).collect()
    } else {
        let path = cache.join(format!("{}.merged.erofs", image.chain_id()));
        let tars = layers::tars(&layers);
        let done = match is_merged(&path, &tars) {
            true => "there already",
            false => {
                let output = Output::create(&path, &[])?;
                let options = image::Options::default();
                layers::merge(&layers, options, &path, output.file(), &mut ())?;
                output.finish()?;
                "new"
            }
        };
        lines.push(format!("{reference}: merged: {}, {done}", Shown(&path)));
        vec![Filesystem {
            path,
            in_memory: None,
            blobs: tars.into_iter().map(blob).collect(),
        }]
    };
    Ok(Container {
        layers,
        notes,
        lines,
    })
}

/// Whether there is a merged image over these tars already, as it would be made now. It is called
/// after the layers.
fn is_merged(path: &Path, tars: &[(Digest, PathBuf)]) -> bool {
    let Ok(merged) = Image::open(path) else {
        return false;
    };
    let slots = merged.devices();
    slots.is_ok_and(|slots| {
        let tags = slots.iter().map(blobs::tag);
        tags.eq(tars.iter().map(|(digest, _)| Some(*digest)))
    }) && is_unchanged(&merged).unwrap_or(false)
}
