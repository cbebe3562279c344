// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Indexes of the layers of a container image, with the plain tars they need, in a directory.
//!
//! Files are called after the layer's diff ID: the index `HEX.erofs`, and, unless the plain tar is
//! somewhere already, `HEX.tar`. What is there is used again. [`prepare`] makes all layers that are
//! missing, several at a time, and only when all of them turned out right [`Prepared::keep`] gives
//! them their names. [`merge`] puts the layers on top of each other.

use super::Image;
use super::Layer;
use super::store::check_digest;
use crate::blobs;
use crate::build::Progress;
use crate::build::apply_archive;
use crate::compression::decompress;
use crate::compression::look;
use crate::digest;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::error::Error;
use crate::error::Result;
use crate::image;
use crate::image::source::Blobs;
use crate::inspect;
use crate::merge::Merge;
use crate::output::Output;
use crate::tar::FileInput;
use crate::tar::StreamInput;
use crate::tar::Totals;
use crate::tee::Tee;
use crate::text::Shown;
use crate::tree::Tree;
use crate::tree::whiteouts;
use crate::tree::whiteouts::Form;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Cursor;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::num::NonZeroUsize;
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
pub struct Places<'a> {
    /// The directory that indexes, and plain tars that are nowhere yet, belong in.
    pub directory: &'a Path,
    /// Other directories that may have plain tars, see [`blobs::find`].
    pub search: &'a [PathBuf],
    /// Whether the directory is to have a link to each plain tar that is somewhere else.
    pub links: bool,
}

/// A layer with all that a mount needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The sha256 of the plain tar.
    pub diff_id: Digest,
    /// Its index.
    pub index: PathBuf,
    /// The plain tar.
    pub tar: PathBuf,
    /// Whether both were there before.
    pub reused: bool,
    /// What was skipped in the tar, or read in a way its author may not have meant.
    pub notes: Vec<String>,
}

/// Layers whose new files do not have their names yet. If it is dropped they never will.
pub struct Prepared {
    directory: PathBuf,
    layers: Vec<Made>,
    /// For each layer of the image its place in `layers`: an image may have the same one twice.
    order: Vec<usize>,
    links: bool,
}

/// A layer that is ready to be used.
struct Made {
    layer: Indexed,
    /// The index, if it is new.
    index: Option<Vec<u8>>,
    /// The plain tar, if it is new.
    tar: Option<Output>,
}

/// Told how many more bytes were read, by several threads.
pub type Watch<'a> = &'a (dyn Fn(u64) + Sync);

/// Makes what is missing of the layers of an image.
///
/// # Errors
///
/// When a layer cannot be read, or is not what the image says it is, or is no tar. Nothing is left
/// behind then.
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
    let results: Vec<Mutex<Option<Result<Made>>>> = layers.iter().map(|_| None.into()).collect();
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let (Some(layer), Some(result)) = (layers.get(number), results.get(number)) else {
                break;
            };
            let made = make(layer, places, watch);
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
    Ok(Prepared {
        directory: places.directory.to_path_buf(),
        layers: results.collect::<Result<_>>()?,
        order,
        links: places.links,
    })
}

impl Prepared {
    /// Gives the new files their names. Returns the layers, the lowest one first.
    ///
    /// # Errors
    ///
    /// When one of them cannot be written.
    pub fn keep(self) -> Result<Vec<Indexed>> {
        let mut layers = Vec::new();
        for Made { layer, index, tar } in self.layers {
            // Who finds an index looks for its tar.
            if let Some(tar) = tar {
                tar.finish()?;
            } else if self.links {
                link(&self.directory, &layer)?;
            }
            if let Some(index) = index {
                let output = Output::create(&layer.index, &[])?;
                let mut file = output.file();
                file.write_all(&index)
                    .map_err(Error::io("write", &layer.index))?;
                output.finish()?;
            }
            layers.push(layer);
        }
        let order = self.order.iter();
        Ok(order.filter_map(|at| layers.get(*at).cloned()).collect())
    }
}

/// Makes a link to a plain tar that is somewhere else.
fn link(directory: &Path, layer: &Indexed) -> Result<()> {
    let directories = [directory.to_path_buf()];
    if blobs::find(&directories, layer.diff_id).is_some() {
        return Ok(());
    }
    let target = fs::canonicalize(&layer.tar).map_err(Error::io("resolve", &layer.tar))?;
    let path = directory.join(format!("{}.tar", layer.diff_id));
    match fs::symlink_metadata(&path) {
        // It leads nowhere.
        Ok(metadata) if metadata.is_symlink() => {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        _ => {}
    }
    std::os::unix::fs::symlink(target, &path).map_err(Error::io("create", &path))
}

/// Makes what is missing of a layer.
fn make(layer: &Layer, places: Places<'_>, watch: Watch<'_>) -> Result<Made> {
    let diff_id = layer.diff_id;
    let index = places.directory.join(format!("{diff_id}.erofs"));
    let mut made = Made {
        layer: Indexed {
            diff_id,
            index,
            tar: places.directory.join(format!("{diff_id}.tar")),
            reused: true,
            notes: Vec::new(),
        },
        index: None,
        tar: None,
    };
    let own = [places.directory.to_path_buf()];
    let found = blobs::find(&own, diff_id).or_else(|| blobs::find(places.search, diff_id));
    // A layer that is not compressed is its plain tar itself.
    let found = match layer.blob.file() {
        Some(file) if found.is_none() && layer.digest == Some(diff_id) => Some(file.to_path_buf()),
        _ => found,
    };
    if let Some(tar) = found {
        made.layer.tar = tar;
        if is_complete(&made.layer.index, diff_id, &made.layer.tar) {
            watch(layer.blob.size());
            return Ok(made);
        }
        index_plain(&mut made, watch)?;
        return Ok(made);
    }
    unpack(layer, &mut made, watch)?;
    Ok(made)
}

/// Whether there is an index already, which fits the plain tar and is as it would be made now.
fn is_complete(index: &Path, diff_id: Digest, tar: &Path) -> bool {
    let Ok(index) = inspect::Image::open(index) else {
        return false;
    };
    let (Ok(slots), Ok(metadata)) = (index.devices(), fs::metadata(tar)) else {
        return false;
    };
    let block = u64::from(index.superblock().block_size());
    match slots.as_slice() {
        [slot] => {
            blobs::tag(slot) == Some(diff_id)
                && slot.blocks == metadata.len().div_ceil(block)
                && inspect::is_unchanged(&index).unwrap_or(false)
        }
        _ => false,
    }
}

/// Adds what was read from a plain tar, which is in `tar` now.
fn finish(made: &mut Made, mut tree: Tree, totals: Totals, tar: &File, shown: &Path) -> Result<()> {
    let tar = tar.try_clone().map_err(Error::io("open", shown))?;
    let mut notes = whiteouts::convert(&mut tree, Form::Overlay)
        .map_err(|problem| Error::Request(format!("{}: {problem}", Shown(shown))))?;
    made.layer.notes.append(&mut notes);
    let options = image::Options {
        devices: vec![image::Device {
            size: totals.size,
            digest: Some(made.layer.diff_id),
            headers: totals.headers,
        }],
        ..image::Options::default()
    };
    let mut index = Cursor::new(Vec::new());
    image::write(&tree, &options, &Blobs(vec![tar]), &mut index)
        .map_err(Error::image(&made.layer.index))?;
    made.index = Some(index.into_inner());
    made.layer.reused = false;
    Ok(())
}

/// Indexes a layer whose plain tar is in a file, which is hashed at the same time.
fn index_plain(made: &mut Made, watch: Watch<'_>) -> Result<()> {
    let path = made.layer.tar.clone();
    let open = || File::open(&path).map_err(Error::io("open", &path));
    let file = open()?;
    let size = file.metadata().map_err(Error::io("open", &path))?.len();
    let hashing = digest::Background::spawn(open()?);
    let mut tree = Tree::new();
    let archive = apply_archive(FileInput::new(file, size), &mut tree, 0, &mut ());
    let mut seen = 0;
    let found = hashing
        .wait(|done| {
            watch(done.saturating_sub(seen));
            seen = done;
        })
        .map_err(Error::io("read", &path))?;
    watch(size.saturating_sub(seen));
    // What is wrong with the content is of no interest if it is not what it should be.
    check_digest(&path, made.layer.diff_id, found)?;
    let archive = archive.map_err(Error::archive(&path))?;
    made.layer.notes = archive.notes;
    finish(made, tree, archive.totals, &open()?, &path)
}

/// Unpacks a layer's tar and indexes it in one pass.
fn unpack(layer: &Layer, made: &mut Made, watch: Watch<'_>) -> Result<()> {
    let shown = layer.blob.shown();
    let failed = || Error::io("read", &shown);
    let output = Output::create(&made.layer.tar, &[])?;
    let mut stored = Hashing {
        reader: layer.blob.reader()?,
        hasher: layer.digest.map(|_| Hasher::spawn()),
        watch,
    };
    let mut tree = Tree::new();
    let archive = read(&mut stored, &output, &mut tree, &shown);
    // Decompression ends where the compressed data does.
    let rest = io::copy(&mut stored, &mut io::sink());
    if let Some(expected) = layer.digest {
        rest.map_err(failed())?;
        let found = stored.hasher.as_mut().and_then(Hasher::finish);
        let found = found.ok_or_else(|| failed()(io::Error::other("hashing failed")))?;
        // What is wrong with the content is of no interest if it is not what it should be.
        check_digest(&shown, expected, found)?;
    }
    let archive = archive?;
    let diff_id = made.layer.diff_id;
    if archive.totals.digest != Some(diff_id) {
        let shown = Shown(&shown);
        let found = match archive.totals.digest {
            Some(found) => found.to_string(),
            None => "unknown".to_string(),
        };
        return Err(Error::Request(format!(
            "{shown}: the sha256 of the plain tar is {found}, expected the diff ID {diff_id}"
        )));
    }
    made.layer.notes = archive.notes;
    finish(made, tree, archive.totals, output.file(), &shown)?;
    made.tar = Some(output);
    Ok(())
}

/// Reads a tar, which may be compressed, into a tree, and writes it plain.
fn read(
    stored: &mut Hashing<'_, impl Read>,
    output: &Output,
    tree: &mut Tree,
    shown: &Path,
) -> Result<crate::build::Archive> {
    let failed = || Error::io("read", shown);
    let (compression, reader) = look(stored).map_err(failed())?;
    let reader: Box<dyn Read + '_> = match compression {
        None => Box::new(reader),
        Some(compression) => decompress(compression, reader).map_err(failed())?,
    };
    let tee = Tee::new(reader, Some((output.file(), output.target())));
    let input = StreamInput::new(tee);
    apply_archive(input, tree, 0, &mut ()).map_err(Error::archive(shown))
}

/// Hashes what is read, and says how much that is.
struct Hashing<'a, R> {
    reader: R,
    hasher: Option<Hasher>,
    watch: Watch<'a>,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        if let Some(hasher) = &self.hasher {
            let mut chunk = hasher.buffer(n);
            chunk.copy_from_slice(buf.get(..n).unwrap_or_default());
            hasher.update(&Arc::new(chunk));
        }
        (self.watch)(n as u64);
        Ok(n)
    }
}

/// Writes one index of all layers, the lowest one first, to `out`. `options` says what it is to be
/// like, but not which devices it has: those are the plain tars that [`tars`] lists.
///
/// # Errors
///
/// When an index cannot be read, or the result not be written; `path` is where that is.
pub fn merge(
    layers: &[Indexed],
    mut options: image::Options,
    path: &Path,
    out: impl Write + Seek,
    progress: &mut impl Progress,
) -> Result<()> {
    let mut merge = Merge::new();
    for (done, layer) in layers.iter().enumerate() {
        merge.apply(&inspect::Image::open(&layer.index)?)?;
        progress.advance(done as u64 + 1, 0);
    }
    let (tree, devices, tails) = merge.finish();
    options.devices = devices;
    image::write(&tree, &options, &tails, out).map_err(Error::image(path))?;
    Ok(())
}

/// The plain tars of all layers together, each once, in the order of the devices of their merged
/// index.
pub fn tars(layers: &[Indexed]) -> Vec<(Digest, PathBuf)> {
    let mut seen = HashSet::new();
    layers
        .iter()
        .filter(|layer| seen.insert(layer.diff_id))
        .map(|layer| (layer.diff_id, layer.tar.clone()))
        .collect()
}
