// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Container images: their layers are indexed in a cache, and merged there, or mounted one by one.

use super::filesystem::Device;
use super::filesystem::Filesystem;
use super::options::Options;
use crate::blobs::Blob;
use crate::blobs::Tag;
use crate::error::Error;
use crate::error::Result;
use crate::inspect;
use crate::oci;
use crate::oci::Kind;
use crate::oci::Reference;
use crate::oci::layers;
use crate::oci::layers::Indexed;
use crate::oci::layers::Places;
use crate::oci::layers::Watch;
use crate::oci::merged;
use crate::output::Output;
use crate::text::Shown;
use crate::tree::FingerprintName;
use crate::tree::whiteouts;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

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
    let mut search = options.directories.clone();
    if reference.kind == Kind::Layout {
        search.push(reference.path.clone());
    }
    // Equal files are found by them, so whoever wants to share gets them.
    let fingerprints = options.shares().then(FingerprintName::default);
    let fingerprints = fingerprints.as_ref();
    let places = Places {
        directory: &cache,
        search: &search,
        cache: true,
        verify,
        most: options.most,
        fingerprints,
    };
    let prepared = layers::prepare(&image, places, watch)?;
    let directory = prepared.directory();
    let layers = prepared.keep()?;
    let mut lines = vec![format!(
        "{reference}: {}, {} layers",
        image.platform,
        layers.len()
    )];
    let mut notes = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
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
    let device = |layer: &Indexed| Device {
        blob: Blob {
            path: layer.tar.clone(),
            tag: Some(Tag::Sha256(layer.diff_id)),
        },
        file: Some(Arc::clone(&layer.tar_file)),
    };
    let layers = if options.stack && !layers.is_empty() {
        let filesystem = |layer: &Indexed| Filesystem {
            path: layer.index.clone(),
            image: Arc::clone(&layer.index_file),
            in_memory: false,
            blobs: vec![device(layer)],
        };
        let from = lowest_seen(&layers)?;
        if from > 0 {
            let number = from + 1;
            lines.push(format!(
                "{reference}: layer {number} hides all that is below it"
            ));
        }
        layers.iter().skip(from).map(filesystem).collect()
    } else {
        let name = merged::name(image.chain_id());
        let path = cache.join(&name);
        let tars = layers::tars(&layers);
        let diff_ids = tars.iter().map(|layer| layer.diff_id);
        let (file, done) = match merged::there(&directory, &name, &path, diff_ids, fingerprints) {
            Some(file) => (file, "there already"),
            None => {
                let output = Output::create_in(&directory, name.as_bytes(), &path)?;
                let mut merged = layers::merge(&layers, &mut ())?;
                merged
                    .write_file(&merged.options(), output.file())
                    .map_err(Error::image(&path))?;
                notes.append(&mut merged.notes);
                let file = output.reader()?;
                output.finish()?;
                (file, "new")
            }
        };
        lines.push(format!("{reference}: merged: {}, {done}", Shown(&path)));
        vec![Filesystem {
            path,
            image: Arc::new(file),
            in_memory: false,
            blobs: tars.into_iter().map(device).collect(),
        }]
    };
    Ok(Container {
        layers,
        notes,
        lines,
    })
}

/// The place of the lowest layer of which something may be seen. Overlayfs merges the roots of all that it gets, whatever
/// they say of those below, so a layer whose root is opaque is to be the last one that it gets.
fn lowest_seen(layers: &[Indexed]) -> Result<usize> {
    for (place, layer) in layers.iter().enumerate().rev() {
        let image = inspect::Image::new(&layer.index, Box::new(Arc::clone(&layer.index_file)))?;
        let xattrs = image.xattrs(&image.root()?)?;
        if xattrs
            .iter()
            .any(|(key, value)| *key == *whiteouts::OPAQUE_ATTRIBUTE && *value == *b"y")
        {
            return Ok(place);
        }
    }
    Ok(0)
}
