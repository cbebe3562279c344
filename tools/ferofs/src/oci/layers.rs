// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Indexes of the layers of a container image, with the plain tars they need, in a directory.
//!
//! Files are called after the layer's diff ID: the index `HEX.erofs`, and, unless the plain tar is
//! somewhere already, `HEX.tar`. What is there is used again. [`prepare`] makes all layers that are
//! missing, several at a time, and [`Prepared::keep`] gives them their names. [`merge`] puts the layers on top of
//! each other.
//!
//! A plain tar is opened once. It is parsed and hashed in one pass over that open file, which is also what a mount
//! gets; and a directory that others than root may write to has nothing that root takes over unseen.

use super::Image;
use super::Layer;
use super::ingest::Unpack;
use super::ingest::write_index;
use super::store::check_digest;
use crate::blobs;
use crate::build::Archive;
use crate::build::Plain;
use crate::build::Progress;
use crate::build::Snapshot;
use crate::build::Through;
use crate::build::read_through;
use crate::digest::Background;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::directory::Identity;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::hashing::Hashing;
use crate::inspect;
use crate::merge::Merge;
use crate::merge::Merged;
use crate::open;
use crate::output;
use crate::output::Inputs;
use crate::output::NewDirectory;
use crate::output::Output;
use crate::setters::setters;
use crate::text::Shown;
use crate::tree::FingerprintName;
use crate::tree::Tree;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

/// Where to look for files, and where to put them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Places<'a> {
    /// The directory that indexes, and plain tars that are nowhere yet, belong in. It is made if it is not there.
    pub directory: &'a Path,
    /// Other directories that may have plain tars, see [`blobs::find`].
    pub search: &'a [PathBuf],
    /// Whether the directory is a cache: for its owner only, and without links to plain tars that are somewhere
    /// else.
    pub cache: bool,
    /// Whether plain tars that are there already are compared with their sha256.
    pub verify: bool,
    /// How large the plain tar of a layer may be that has to be unpacked.
    pub most: Option<u64>,
    /// In which attribute files have fingerprints, if they are to have some. An index without is made anew.
    pub fingerprints: Option<&'a FingerprintName>,
}

impl<'a> Places<'a> {
    /// A directory, and nowhere else to look.
    pub fn new(directory: &'a Path) -> Self {
        Places {
            directory,
            search: &[],
            cache: false,
            verify: false,
            most: None,
            fingerprints: None,
        }
    }

    setters! {
        /// Looks for plain tars in these directories, too.
        with_search sets search: &'a [PathBuf],
        /// Says whether the directory is a cache.
        with_cache sets cache: bool,
        /// Says whether plain tars that are there already are compared with their sha256.
        with_verify sets verify: bool,
        /// Says how large the plain tar of a layer may be that has to be unpacked.
        with_most sets most: Option<u64>,
        /// Says in which attribute files have fingerprints.
        with_fingerprints sets fingerprints: Option<&'a FingerprintName>,
    }
}

/// A layer with all that a mount needs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Indexed {
    /// The sha256 of the plain tar.
    pub diff_id: Digest,
    /// Its index.
    pub index: PathBuf,
    /// The same, open: what was looked at or made.
    pub index_file: Arc<File>,
    /// The plain tar.
    pub tar: PathBuf,
    /// The same, open: what was read or compared.
    pub tar_file: Arc<File>,
    /// Whether both were there before.
    pub reused: bool,
    /// What was skipped in the tar, or read in a way its author may not have meant.
    pub notes: Vec<String>,
}

/// Layers whose new files do not have their names yet. If it is dropped they never will.
pub struct Prepared {
    directory: Arc<Directory>,
    made: NewDirectory,
    layers: Vec<Made>,
    /// For each layer of the image its place in `layers`: an image may have the same one twice.
    order: Vec<usize>,
    links: bool,
}

/// A layer that is ready to be used.
struct Made {
    layer: Indexed,
    /// The index, if it is new.
    index: Option<Output>,
    /// The plain tar, if it is new.
    tar: Option<Output>,
    /// Whether the plain tar is somewhere else.
    elsewhere: bool,
}

/// Told how many more bytes were read, by several threads.
pub type Watch<'a> = &'a (dyn Fn(u64) + Sync);

/// Makes what is missing of the layers of an image.
///
/// # Errors
///
/// When a layer cannot be read, or is not what the image says it is, or is no tar. Nothing is left
/// behind then, except that a cache keeps the layers that turned out right. And when root is to use a cache that others
/// may write to.
pub fn prepare(image: &Image, places: Places<'_>, watch: Watch<'_>) -> Result<Prepared> {
    let mut layers: Vec<&Layer> = Vec::new();
    let mut order = Vec::new();
    let mut places_of = HashMap::new();
    for layer in &image.layers {
        let place = *places_of.entry(layer.diff_id).or_insert(layers.len());
        order.push(place);
        if place == layers.len() {
            layers.push(layer);
        }
    }
    // Layers have files that not everybody may read.
    let mode = if places.cache { 0o700 } else { 0o777 };
    let made = NewDirectory::create(places.directory, mode)?;
    let directory = Arc::new(made.open()?);
    let open_to_others = directory
        .is_open_to_others()
        .map_err(|errno| Error::io("look at", places.directory)(errno.into()))?;
    let is_root = rustix::process::geteuid().is_root();
    if places.cache && open_to_others && is_root {
        let shown = Shown(places.directory);
        return Err(Error::of(
            Kind::Refused,
            format!(
                "{shown} is no cache for root, since others may write to it: expected a directory of root \
             with a mode like 0700"
            ),
        ));
    }
    let maker = Maker {
        places,
        directory: &directory,
        believes: !(open_to_others && is_root),
        watch,
    };
    let results: Vec<Mutex<Option<Result<Made>>>> = layers.iter().map(|_| None.into()).collect();
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (Some(layer), Some(result)) = (layers.get(number), results.get(number)) else {
                break;
            };
            let made = maker.make(layer);
            failed.fetch_or(made.is_err(), Ordering::Relaxed);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 1..threads.min(layers.len()) {
            scope.spawn(work);
        }
        work();
    });
    let results = results
        .into_iter()
        .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner));
    let mut layers = Vec::new();
    let mut error = None;
    for result in results {
        match result {
            Ok(layer) => layers.push(layer),
            Err(first) => error = error.or(Some(first)),
        }
    }
    let mut prepared = Prepared {
        directory,
        made,
        layers,
        order,
        links: !places.cache,
    };
    match error {
        None => Ok(prepared),
        Some(error) => {
            if places.cache && !prepared.layers.is_empty() {
                prepared.order.clear();
                // What went wrong first is what matters.
                drop(prepared.keep());
            }
            Err(error)
        }
    }
}

impl Prepared {
    /// The directory, open.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// What was read, and what is there already: nothing else may be written over it.
    pub fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::default();
        for Made { layer, .. } in &self.layers {
            for (path, file) in [
                (&layer.tar, &layer.tar_file),
                (&layer.index, &layer.index_file),
            ] {
                if let Ok(metadata) = file.metadata() {
                    inputs.add(path, metadata);
                }
                inputs.add_path(path);
            }
        }
        inputs
    }

    /// Fails if an output is to be where one of the new files belongs.
    ///
    /// # Errors
    ///
    /// When it is.
    pub fn expect_other(&self, output: &Output) -> Result<()> {
        let mut new = self
            .layers
            .iter()
            .flat_map(|made| made.index.iter().chain(&made.tar));
        new.try_for_each(|new| new.expect_other(output))
    }

    /// Gives the new files their names. Returns the layers, the lowest one first.
    ///
    /// # Errors
    ///
    /// When one of them cannot be written.
    pub fn keep(mut self) -> Result<Vec<Indexed>> {
        // Who finds an index looks for its tar, so tars come first.
        let mut outputs: Vec<_> = self
            .layers
            .iter_mut()
            .filter_map(|made| made.tar.take())
            .collect();
        let indexes = self.layers.iter_mut();
        outputs.extend(indexes.filter_map(|made| made.index.take()));
        Output::finish_all(outputs)?;
        for Made { layer, .. } in self.layers.iter().filter(|made| made.elsewhere) {
            if self.links {
                link(&self.directory, layer)?;
            }
        }
        // The links, too.
        self.directory.sync();
        self.made.stay();
        let order = self.order.iter();
        let layers = order.filter_map(|at| self.layers.get(*at));
        Ok(layers.map(|made| made.layer.clone()).collect())
    }
}

/// Makes a link to a plain tar that is somewhere else.
fn link(directory: &Arc<Directory>, layer: &Indexed) -> Result<()> {
    let path = directory_of(&layer.index).join(format!("{}.tar", layer.diff_id));
    let failed = || Error::io("create", &path);
    let tar = layer.tar_file.metadata().map_err(failed())?;
    let found = blobs::find(&[directory_of(&layer.index)], layer.diff_id);
    let found = found.and_then(|found| fs::metadata(found).ok());
    if found.is_some_and(|found| Identity::from(&found) == Identity::from(&tar)) {
        return Ok(());
    }
    let target = fs::canonicalize(&layer.tar).map_err(Error::io("resolve", &layer.tar))?;
    let name = format!("{}.tar", layer.diff_id);
    output::link(directory, target.as_os_str().as_bytes(), name.as_bytes()).map_err(failed())
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_path_buf()
}

/// A plain tar that may be that of a layer.
struct Candidate {
    path: PathBuf,
    /// Whether it is in the directory that is worked in: if it is wrong, it is made anew.
    own: bool,
}

/// Makes layers.
struct Maker<'a> {
    places: Places<'a>,
    directory: &'a Arc<Directory>,
    /// Whether what is in the directory may be used without reading all of it.
    believes: bool,
    watch: Watch<'a>,
}

impl Maker<'_> {
    /// Makes what is missing of a layer.
    fn make(&self, layer: &Layer) -> Result<Made> {
        let mut notes = Vec::new();
        for candidate in self.candidates(layer) {
            match self.use_plain(layer, &candidate) {
                Ok(mut made) => {
                    made.layer.notes.append(&mut notes);
                    made.elsewhere = !candidate.own;
                    return Ok(made);
                }
                Err(error) if candidate.own => notes.push(format!("{error}; it is made anew")),
                Err(error) => return Err(error),
            }
        }
        let mut made = self.unpack(layer)?;
        made.layer.notes.append(&mut notes);
        Ok(made)
    }

    /// Where the plain tar of a layer may be.
    fn candidates(&self, layer: &Layer) -> Vec<Candidate> {
        let diff_id = layer.diff_id;
        let own = [self.places.directory.to_path_buf()];
        let mut candidates = Vec::new();
        // If one was made anew, it is this one.
        let first = self.places.directory.join(format!("{diff_id}.tar"));
        let first = Some(first).filter(|path| path.is_file());
        if let Some(path) = first.or_else(|| blobs::find(&own, diff_id)) {
            candidates.push(Candidate { path, own: true });
        }
        let found = blobs::find(self.places.search, diff_id);
        // A layer that is not compressed is its plain tar itself.
        let blob = layer.blob.file().filter(|_| layer.digest == Some(diff_id));
        if let Some(path) = found.or_else(|| blob.map(Path::to_path_buf)) {
            candidates.push(Candidate { path, own: false });
        }
        candidates
    }

    fn name(diff_id: Digest, what: &str) -> String {
        format!("{diff_id}.{what}")
    }

    fn path(&self, diff_id: Digest, what: &str) -> PathBuf {
        self.places.directory.join(Self::name(diff_id, what))
    }

    /// Begins a file in the directory.
    fn create(&self, diff_id: Digest, what: &str) -> Result<Output> {
        let name = Self::name(diff_id, what);
        let path = self.path(diff_id, what);
        Output::create_in(self.directory, name.as_bytes(), &path)
    }

    /// Uses a plain tar that is there: with the index that is there, too, or else it is read for one.
    fn use_plain(&self, layer: &Layer, candidate: &Candidate) -> Result<Made> {
        let (diff_id, path) = (layer.diff_id, candidate.path.as_path());
        let (tar, metadata) = open::regular(path)?;
        let size = metadata.len();
        let hash = || -> Result<()> {
            let same = tar.try_clone().map_err(Error::io("open", path))?;
            let found = Background::spawn(same).wait(|_| {});
            check_digest(path, diff_id, found.map_err(Error::io("read", path))?)
        };
        if let Some(index) = self.complete_index(diff_id, size).filter(|_| self.believes) {
            if self.places.verify {
                hash()?;
            }
            (self.watch)(layer.blob.size());
            return Ok(Made {
                layer: Indexed {
                    diff_id,
                    index: self.path(diff_id, "erofs"),
                    index_file: Arc::new(index),
                    tar: path.to_path_buf(),
                    tar_file: Arc::new(tar),
                    reused: true,
                    notes: Vec::new(),
                },
                index: None,
                tar: None,
                elsewhere: false,
            });
        }
        let stored = Hashing::new(&tar, false, self.watch);
        let through = Through {
            digest: true,
            ..Through::default()
        };
        let mut tree = Tree::with_fingerprints(self.places.fingerprints);
        let archive = match read_through(stored, path, through, &mut tree, &mut ()) {
            Ok(archive) => archive,
            // What is wrong with the content is of no interest if it is not what it should be.
            Err(error) => return hash().and(Err(error)),
        };
        match archive.totals.digest {
            Some(found) => check_digest(path, diff_id, found)?,
            None => hash()?,
        }
        let same = tar.try_clone().map_err(Error::io("open", path))?;
        let index = self.path(diff_id, "erofs");
        let plain = Plain::Known(Snapshot::new(same, diff_id, &index).into());
        self.finish(diff_id, path, tar, archive, tree, &plain)
    }

    /// The index that is there already, if it fits a plain tar of this size and is as it would be made now.
    fn complete_index(&self, diff_id: Digest, size: u64) -> Option<File> {
        let name = Self::name(diff_id, "erofs");
        let file = self.directory.file(name.as_bytes()).ok()?;
        let bytes = Box::new(file.try_clone().ok()?);
        let index = inspect::Image::new(&self.path(diff_id, "erofs"), bytes).ok()?;
        let block = u64::from(index.superblock().block_size());
        let fits = match index.devices().ok()?.as_slice() {
            [slot] => {
                blobs::tag(slot) == Some(diff_id)
                    && slot.blocks == size.div_ceil(block)
                    && index.has_fingerprints(self.places.fingerprints)
                    && inspect::is_unchanged(&index).unwrap_or(false)
            }
            _ => false,
        };
        fits.then_some(file)
    }

    /// Unpacks a layer's tar and indexes it in one pass.
    fn unpack(&self, layer: &Layer) -> Result<Made> {
        let diff_id = layer.diff_id;
        let shown = layer.blob.shown();
        let output = self.create(diff_id, "tar")?;
        let unpack = Unpack {
            shown: &shown,
            digest: layer.digest,
            size: layer.blob.size(),
            most: self.places.most,
            output: Some(&output),
            fingerprints: self.places.fingerprints,
            watch: self.watch,
        };
        let (archive, tree) = unpack.read(layer.blob.reader()?)?;
        if archive.totals.digest != Some(diff_id) {
            let shown = Shown(&shown);
            let found = match archive.totals.digest {
                Some(found) => found.to_string(),
                None => "unknown".to_string(),
            };
            return Err(Error::of(
                Kind::WrongDigest,
                format!(
                    "{shown}: the sha256 of the plain tar is {found}, expected the diff ID {diff_id}"
                ),
            ));
        }
        let tar = output.reader()?;
        let same = tar
            .try_clone()
            .map_err(Error::io("open", output.target()))?;
        let plain = Plain::File(same);
        let mut made = self.finish(diff_id, &shown, tar, archive, tree, &plain)?;
        made.layer.tar = self.path(diff_id, "tar");
        made.tar = Some(output);
        Ok(made)
    }

    /// Writes the index of what was read from a plain tar, which is called `shown` in messages.
    fn finish(
        &self,
        diff_id: Digest,
        shown: &Path,
        tar: File,
        archive: Archive,
        tree: Tree,
        plain: &Plain,
    ) -> Result<Made> {
        let index = self.create(diff_id, "erofs")?;
        let (_, notes) = write_index(diff_id, archive, tree, plain, shown, &index)?;
        Ok(Made {
            layer: Indexed {
                diff_id,
                index: self.path(diff_id, "erofs"),
                index_file: Arc::new(index.reader()?),
                tar: shown.to_path_buf(),
                tar_file: Arc::new(tar),
                reused: false,
                notes,
            },
            index: Some(index),
            tar: None,
            elsewhere: false,
        })
    }
}

/// Puts all layers on top of each other, the lowest one first. The devices of the result are the plain tars that [`tars`]
/// lists.
///
/// # Errors
///
/// When an index cannot be read.
pub fn merge(layers: &[Indexed], progress: &mut impl Progress) -> Result<Merged> {
    let mut merge = Merge::new();
    for (done, layer) in layers.iter().enumerate() {
        let index = Arc::clone(&layer.index_file);
        merge.apply(&inspect::Image::new(&layer.index, Box::new(index))?)?;
        progress.advance(done as u64 + 1, 0);
    }
    merge.finish()
}

/// The plain tars of all layers together, each once, in the order of the devices of their merged
/// index.
pub fn tars(layers: &[Indexed]) -> Vec<&Indexed> {
    let mut seen = HashSet::new();
    layers
        .iter()
        .filter(|layer| seen.insert(layer.diff_id))
        .collect()
}
