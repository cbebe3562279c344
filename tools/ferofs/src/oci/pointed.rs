// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Makes what is needed to serve an image on demand, in one pass over each layer: its index as `HEX.erofs` and its access
//! points as `HEX.points`, both called after the diff ID. Plain tars are not kept. `ferofs build --no-tar` calls
//! [`prepare`]; [`crate::serve`] uses what it makes.

use super::Image;
use super::ingest::Unpack;
use super::ingest::write_index;
use super::layers::Watch;
#[cfg(feature = "registry")]
use super::remote::Remote;
use crate::build::Plain;
use crate::build::Through;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::inspect;
use crate::merge::Merge;
use crate::merge::Merged;
use crate::output::Inputs;
use crate::output::NewDirectory;
use crate::output::Output;
use crate::points;
use crate::points::Maker;
use crate::points::Points;
use crate::setters::setters;
use crate::text::Shown;
use crate::tree::FingerprintName;
use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// A layer that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pointed {
    /// The sha256 of the plain tar.
    pub diff_id: Digest,
    /// The index.
    pub index: PathBuf,
    /// The access points.
    pub points: PathBuf,
    /// What was skipped in the tar, or read in a way its author may not have meant.
    pub notes: Vec<String>,
}

/// Layers whose files have no names yet. If it is dropped they never will.
pub struct Prepared {
    made: NewDirectory,
    /// Those that are new.
    outputs: Vec<Output>,
    layers: Vec<Pointed>,
}

/// How access points are made.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The directory for them, which is made if it is not there.
    pub directory: &'a Path,
    /// How much of a tar is between two points, in bytes.
    pub span: u64,
    /// How large a plain tar may be, in bytes.
    pub most: Option<u64>,
    /// In which attribute files get fingerprints, if they get some.
    pub fingerprints: Option<&'a FingerprintName>,
}

impl<'a> Request<'a> {
    /// With points as far apart as usual, into a directory.
    pub fn new(directory: &'a Path) -> Self {
        Request {
            directory,
            span: points::SPAN,
            most: None,
            fingerprints: None,
        }
    }

    setters! {
        /// Says how much of a tar is between two points.
        with_span sets span: u64,
        /// Says how large a plain tar may be.
        with_most sets most: Option<u64>,
        /// Has files get fingerprints.
        with_fingerprints sets fingerprints: Option<&'a FingerprintName>,
    }
}

/// A layer, and how what is stored of it is read.
struct Stored<'a> {
    shown: PathBuf,
    diff_id: Digest,
    digest: Option<Digest>,
    size: u64,
    open: Box<dyn Fn() -> Result<Box<dyn Read + 'a>> + 'a>,
}

/// Makes what is missing in a directory. Layers that have both files already, which are sound, are not read again. `watch` is
/// told how much of what is stored was read.
///
/// # Errors
///
/// When a layer cannot be read, is not what the image says, cannot be served in parts, or the files cannot be written.
pub fn prepare(image: &Image, request: Request<'_>, watch: Watch<'_>) -> Result<Prepared> {
    let layers = image.layers.iter().map(|layer| Stored {
        shown: layer.blob.shown(),
        diff_id: layer.diff_id,
        digest: layer.digest,
        size: layer.blob.size(),
        open: Box::new(|| Ok(Box::new(layer.blob.reader()?))),
    });
    prepare_all(layers, request, watch)
}

/// The same for an image in a registry, whose layers are read from there for it.
///
/// # Errors
///
/// Those of [`prepare`], and when the registry cannot be asked.
#[cfg(feature = "registry")]
pub fn prepare_remote(image: &Remote, request: Request<'_>, watch: Watch<'_>) -> Result<Prepared> {
    let layers = image.layers.iter().map(|layer| Stored {
        shown: format!("{}: sha256:{}", image.name, layer.digest).into(),
        diff_id: layer.diff_id,
        digest: Some(layer.digest),
        size: layer.size,
        open: Box::new(|| Ok(Box::new(image.reader(layer)))),
    });
    prepare_all(layers, request, watch)
}

fn prepare_all<'a>(
    layers: impl Iterator<Item = Stored<'a>>,
    request: Request<'_>,
    watch: Watch<'_>,
) -> Result<Prepared> {
    let directory = request.directory;
    let made = NewDirectory::create(directory, 0o777)?;
    let opened = Arc::new(made.open()?);
    let mut prepared = Prepared {
        made,
        outputs: Vec::new(),
        layers: Vec::new(),
    };
    let mut seen = HashSet::new();
    for layer in layers {
        let path = |what: &str| directory.join(format!("{}.{what}", layer.diff_id));
        let mut pointed = Pointed {
            diff_id: layer.diff_id,
            index: path("erofs"),
            points: path("points"),
            notes: Vec::new(),
        };
        if seen.insert(layer.diff_id) && !is_there(&layer, &pointed, request.fingerprints) {
            let unpack = Unpack {
                shown: &layer.shown,
                digest: layer.digest,
                size: layer.size,
                most: request.most,
                output: None,
                fingerprints: request.fingerprints,
                watch,
            };
            let outputs = make(&layer, &opened, &mut pointed, request.span, &unpack)?;
            prepared.outputs.extend(outputs);
        }
        prepared.layers.push(pointed);
    }
    Ok(prepared)
}

/// Whether a layer has both files, and they are of what is stored of it.
fn is_there(layer: &Stored<'_>, pointed: &Pointed, fingerprints: Option<&FingerprintName>) -> bool {
    let Ok(points) = Points::open(&pointed.points) else {
        return false;
    };
    let same = points.diff_id == layer.diff_id
        && layer.digest.is_none_or(|digest| digest == points.digest);
    same && inspect::Image::open(&pointed.index)
        .is_ok_and(|index| index.has_fingerprints(fingerprints))
}

fn make(
    layer: &Stored<'_>,
    directory: &Arc<Directory>,
    pointed: &mut Pointed,
    span: u64,
    unpack: &Unpack<'_>,
) -> Result<[Output; 2]> {
    let shown = unpack.shown;
    let create = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        Output::create_in(directory, name.as_encoded_bytes(), path)
    };
    // What is stored is compared with its sha256 by who reads it.
    let mut maker = Maker::new(span).with_digest(layer.digest);
    let through = Through::default().with_points(Some(&mut maker));
    let (archive, tree) = unpack.read_through((layer.open)()?, through)?;
    if archive.totals.digest != Some(layer.diff_id) {
        let (shown, expected) = (Shown(shown), layer.diff_id);
        let found = archive.totals.digest;
        let found = found.map_or("unknown".to_string(), |found| found.to_string());
        return Err(Error::of(
            Kind::WrongDigest,
            format!(
                "{shown}: the sha256 of the plain tar is {found}, expected the diff ID {expected}"
            ),
        ));
    }
    let points = maker.finish(layer.diff_id, shown)?;
    let output = create(&pointed.points)?;
    points
        .write(&mut output.file())
        .map_err(Error::io("write", output.target()))?;
    let index = create(&pointed.index)?;
    let (_, notes) = write_index(layer.diff_id, archive, tree, &Plain::Gone, shown, &index)?;
    pointed.notes = notes;
    // Who finds an index looks for its access points.
    Ok([output, index])
}

impl Prepared {
    /// Fails if an output is to be where one of the new files belongs.
    ///
    /// # Errors
    ///
    /// When it is.
    pub fn expect_other(&self, output: &Output) -> Result<()> {
        let mut new = self.outputs.iter();
        new.try_for_each(|new| new.expect_other(output))
    }

    /// What is there already: nothing else may be written over it.
    pub fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::default();
        for layer in &self.layers {
            inputs.add_path(&layer.index);
            inputs.add_path(&layer.points);
        }
        inputs
    }

    /// Gives the new files their names. Returns the layers, the lowest one first.
    ///
    /// # Errors
    ///
    /// When one of them cannot be written.
    pub fn keep(mut self) -> Result<Vec<Pointed>> {
        Output::finish_all(self.outputs)?;
        self.made.stay();
        Ok(self.layers)
    }
}

/// Puts all layers on top of each other, the lowest one first.
///
/// # Errors
///
/// When an index cannot be read.
pub fn merge(layers: &[Pointed]) -> Result<Merged> {
    let mut merge = Merge::new();
    for layer in layers {
        merge.apply(&inspect::Image::open(&layer.index)?)?;
    }
    merge.finish()
}
