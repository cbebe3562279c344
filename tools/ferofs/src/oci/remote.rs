// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Container images in registries: which layers they have, and how indexes of those are kept beside them.
//!
//! [`Remote::find`] reads the documents of an image. [`Remote::push`] stores indexes of its layers, as
//! [`super::layers`] makes them, as an artifact whose subject is the image's manifest; [`Remote::pull`] gets them, and the
//! names they are made for only after they were looked at. What is compared then is what an index says of itself: whoever may
//! push referrers can make one that lists other files than the layer has. Only [`Pull::verify`] excludes that, with the
//! plain tars.

#[cfg(feature = "points")]
mod points;

use super::Platform;
use super::chain_id;
use super::document;
use super::document::Config;
use super::document::Index;
use super::document::Manifest;
use super::document::Meaning;
use super::ingest::write_index;
use super::layers::Watch;
use super::merged;
use super::resolve::diff_ids;
use super::resolve::parse_digest;
use super::store::check_digest;
use crate::blobs;
use crate::build::Plain;
use crate::build::Snapshot;
use crate::build::Through;
use crate::build::read_through;
use crate::digest::Background;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::hashing::Hashing;
use crate::inspect;
use crate::inspect::check::check;
use crate::merge::Merge;
use crate::open;
use crate::output::NewDirectory;
use crate::output::Output;
use crate::setters::setters;
use crate::text::Shown;
use crate::tree::Tree;
use ferofs_registry as registry;
use ferofs_registry::Client;
use ferofs_registry::Descriptor;
use ferofs_registry::referrers;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

pub use ferofs_registry::Options;
pub use ferofs_registry::Reference;

/// What kind of artifact the indexes of an image's layers are.
pub const ARTIFACT_TYPE: &str = "application/vnd.ferofs.index.v1";
/// The media type of an index of a layer, which is a zstd-compressed EROFS image.
pub const INDEX_TYPE: &str = "application/vnd.ferofs.index.v1.erofs+zstd";
/// The annotation of an index that has the sha256 of the layer as it is stored.
pub const LAYER_DIGEST: &str = "vnd.ferofs.layer.digest";
/// The annotation that has the sha256 of the layer's plain tar.
pub const LAYER_DIFF_ID: &str = "vnd.ferofs.layer.diff-id";
/// The annotation that has the size of the index in bytes, without compression.
pub const INDEX_SIZE: &str = "vnd.ferofs.index.size";

/// Largest configuration of an image or manifest of an artifact that is read.
const DOCUMENT_MAX: u64 = 16 << 20;
/// Largest index that is taken unless another limit is given.
const INDEX_MAX: u64 = 1 << 30;
/// How hard indexes are compressed: they are read more often than written.
const LEVEL: i32 = 12;
/// The most memory that decompression may take is two to the power of this.
const WINDOW_BITS: u32 = 27;
/// So many artifacts of one image are looked at: anybody who may push can make any number of them.
const ARTIFACTS: usize = 32;
/// Indexes and access points of so many layers are got at once.
const REQUESTS: usize = 4;
/// So much of two files is compared at once.
const PIECE: usize = 64 << 10;

/// An image in a registry.
pub struct Remote {
    client: Client,
    /// How it was named, for messages.
    pub name: String,
    /// What it is for.
    pub platform: Platform,
    /// Its layers, the lowest one first.
    pub layers: Vec<Layer>,
    manifest: registry::Manifest,
}

/// A layer of an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// The sha256 of its plain tar.
    pub diff_id: Digest,
    /// The sha256 of what is stored.
    pub digest: Digest,
    /// The size of what is stored, in bytes.
    pub size: u64,
    /// What is stored.
    pub media_type: String,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The sha256 of the artifact's manifest.
    pub digest: Digest,
    /// How many indexes are in it.
    pub indexes: usize,
    /// How many bytes they have, compressed, with access points of the layers.
    pub size: u64,
}

/// How indexes are to be got.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Pull<'a> {
    /// The directory that they belong in. It is made if it is not there.
    pub directory: &'a Path,
    /// Other directories that may have plain tars.
    pub search: &'a [PathBuf],
    /// Whether each is compared with one made anew of the layer's plain tar, which is compared with the diff ID.
    pub verify: bool,
    /// How large an index may be.
    pub most: u64,
    /// Whether access points of the layers are got, too.
    #[cfg(feature = "points")]
    pub points: bool,
}

impl<'a> Pull<'a> {
    /// Into a directory.
    pub fn new(directory: &'a Path) -> Self {
        Pull {
            directory,
            search: &[],
            verify: false,
            most: INDEX_MAX,
            #[cfg(feature = "points")]
            points: false,
        }
    }

    #[cfg(feature = "points")]
    setters! {
        /// Says whether access points are got, too.
        with_points sets points: bool,
    }

    setters! {
        /// Looks for plain tars in these directories, too.
        with_search sets search: &'a [PathBuf],
        /// Says whether each is compared with one made anew.
        with_verify sets verify: bool,
        /// Says how large an index may be.
        with_most sets most: u64,
    }
}

/// An index that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// The sha256 of the layer's plain tar.
    pub diff_id: Digest,
    /// The index.
    pub index: PathBuf,
    /// Whether it was there before.
    pub reused: bool,
    /// What was wrong with others that were found.
    pub notes: Vec<String>,
}

/// The error of a registry.
fn failed(error: registry::Error) -> Error {
    let kind = match error.kind() {
        registry::Kind::Request => Kind::Request,
        registry::Kind::WrongDigest => Kind::WrongDigest,
        registry::Kind::TooLarge => Kind::TooLarge,
        registry::Kind::Answer => Kind::Container,
        registry::Kind::Status(404) => Kind::NotFound,
        _ => Kind::Registry,
    };
    Error::of(kind, error.to_string())
}

fn parse<T: DeserializeOwned>(of: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::of(Kind::Container, format!("{of}: {error}")))
}

impl Remote {
    /// Finds an image: its documents are read and compared with their digests. Without a platform, that of this machine is
    /// chosen if there are several.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked, there is no such image, or something about it is wrong.
    pub fn find(
        reference: &Reference,
        platform: Option<&Platform>,
        options: Options,
    ) -> Result<Self> {
        let client = Client::new(reference, options).map_err(failed)?;
        let name = reference.to_string();
        let missing = |what: &str| Error::of(Kind::NotFound, format!("{name}: {what}"));
        let found = client.manifest(&reference.which()).map_err(failed)?;
        let mut manifest = found.ok_or_else(|| missing("there is no such image"))?;
        if document::meaning(&manifest.media_type) == Meaning::Index {
            let which = choose(&name, &manifest, platform)?;
            let found = client.manifest(&which).map_err(failed)?;
            manifest = found.ok_or_else(|| missing(&format!("{which} is missing")))?;
        }
        let of = format!("{name}: {}", manifest.digest);
        if document::meaning(&manifest.media_type) != Meaning::Manifest {
            let found = manifest.media_type.escape_debug();
            return Err(Error::of(
                Kind::Container,
                format!("{of} has the media type \"{found}\", expected the manifest of an image"),
            ));
        }
        let parsed: Manifest = parse(&of, &manifest.bytes)?;
        if parsed.is_artifact() {
            let problem = format!("{of} is no image, but something else that is kept like one");
            return Err(Error::of(Kind::Container, problem));
        }
        let digest = parse_digest(Path::new(&of), &parsed.config.digest)?;
        let bytes = client
            .small_blob(registry::Digest(digest.0), parsed.config.size, DOCUMENT_MAX)
            .map_err(failed)?;
        let config: Config = parse(&of, &bytes)?;
        let diff_ids = diff_ids(&of, &config, parsed.layers.len())?;
        let layers = parsed.layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
            Ok(Layer {
                diff_id,
                digest: parse_digest(Path::new(&of), &layer.digest)?,
                size: layer.size,
                media_type: layer.media_type.clone(),
            })
        });
        let layers: Result<Vec<_>> = layers.collect();
        let found = Platform::from(config.platform);
        if let Some(wanted) = platform.filter(|wanted| found.rank(wanted).is_none()) {
            let problem = format!("{name}: the image is for {found}, not for {wanted}");
            return Err(Error::of(Kind::NotFound, problem));
        }
        Ok(Remote {
            client,
            name,
            platform: found,
            layers: layers?,
            manifest,
        })
    }

    /// Part of a blob of its repository. Nothing says whether these are the right bytes.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked, has no such blob, or it ends before.
    pub fn range(&self, digest: Digest, range: Range<u64>) -> Result<Vec<u8>> {
        let digest = registry::Digest(digest.0);
        self.client.range(digest, range).map_err(failed)
    }

    /// What is stored of a layer, from its beginning to its end, got piece by piece.
    pub fn reader(&self, layer: &Layer) -> impl Read + '_ {
        LayerReader {
            remote: self,
            digest: layer.digest,
            left: 0..layer.size,
            piece: io::Cursor::default(),
        }
    }

    /// Takes note that part of a blob was wrong: whoever gave it is not asked again, if there is somebody else.
    pub fn doubt(&self) {
        self.client.distrust();
    }

    /// The chain ID of its layers, see [`super::Image::chain_id`].
    pub fn chain_id(&self) -> Digest {
        chain_id(self.layers.iter().map(|layer| layer.diff_id))
    }

    /// The image of all layers together, made of indexes as [`Remote::pull`] puts them into a directory: in the same
    /// directory, called after the chain ID. One that is there already, as it would be made, is used again. Returns where
    /// it is, and what is to be said of it.
    ///
    /// # Errors
    ///
    /// When an index cannot be read, or it cannot be written.
    pub fn merge(&self, directory: &Path) -> Result<(PathBuf, Vec<String>)> {
        let name = merged::name(self.chain_id());
        let path = directory.join(&name);
        let opened = Directory::open(directory);
        let opened = opened.map_err(|errno| Error::io("open", directory)(errno.into()))?;
        let tars = self.distinct().map(|layer| layer.diff_id);
        if merged::there(&opened, &name, &path, tars, None).is_some() {
            return Ok((path, Vec::new()));
        }
        let mut merge = Merge::new();
        for layer in &self.layers {
            let index = directory.join(Puller::name(layer.diff_id));
            merge.apply(&inspect::Image::open(&index)?)?;
        }
        let merged = merge.finish()?;
        let output = Output::create_in(&Arc::new(opened), name.as_bytes(), &path)?;
        merged
            .write_file(&merged.options(), output.file())
            .map_err(Error::image(&path))?;
        output.finish()?;
        Ok((path, merged.notes))
    }

    /// The sha256 of its manifest.
    pub fn digest(&self) -> Digest {
        Digest(self.manifest.digest.0)
    }

    /// Its layers, each once.
    fn distinct(&self) -> impl Iterator<Item = &Layer> {
        let mut seen = HashSet::new();
        self.layers
            .iter()
            .filter(move |layer| seen.insert(layer.diff_id))
    }

    /// Stores the indexes of all layers, which are in a directory as [`super::layers`] makes them, beside the image. The
    /// same indexes are the same artifact, however often they are pushed. `watch` is told how many bytes more are done.
    ///
    /// # Errors
    ///
    /// When an index is missing or not that of the layer, or the registry does not take it.
    pub fn push(&self, directory: &Path, watch: Watch<'_>) -> Result<Pushed> {
        let mut layers = Vec::new();
        let mut size: u64 = 0;
        for layer in self.distinct() {
            let path = directory.join(format!("{}.erofs", layer.diff_id));
            let (file, metadata) = open::regular(&path)?;
            examine(&path, layer, &file)?;
            let level = zstd::stream::encode_all(&file, LEVEL);
            let bytes = level.map_err(Error::io("read", &path))?;
            let digest = self.client.push_blob(&bytes, None).map_err(failed)?;
            let annotations = BTreeMap::from([
                (LAYER_DIGEST.to_string(), format!("sha256:{}", layer.digest)),
                (
                    LAYER_DIFF_ID.to_string(),
                    format!("sha256:{}", layer.diff_id),
                ),
                (INDEX_SIZE.to_string(), metadata.len().to_string()),
            ]);
            layers.push(Descriptor {
                media_type: INDEX_TYPE.to_string(),
                digest: digest.to_string(),
                size: bytes.len() as u64,
                annotations,
                ..Descriptor::default()
            });
            size = size.saturating_add(bytes.len() as u64);
            watch(metadata.len());
        }
        let indexes = layers.len();
        #[cfg(feature = "points")]
        for layer in self.distinct() {
            if let Some(points) = points::push(self, directory, layer)? {
                size = size.saturating_add(points.size);
                layers.push(points);
            }
        }
        if layers.is_empty() {
            return Err(Error::Request(format!("{}: it has no layers", self.name)));
        }
        self.client
            .push_blob(registry::EMPTY, None)
            .map_err(failed)?;
        let subject = self.manifest.descriptor();
        let artifact = registry::ArtifactManifest::new(ARTIFACT_TYPE, layers, subject);
        let digest = referrers::push(&self.client, &artifact).map_err(failed)?;
        Ok(Pushed {
            digest: Digest(digest.0),
            indexes,
            size,
        })
    }

    /// Gets the indexes of all layers, the lowest one first. They appear only when all of them turned out right; what is
    /// there already and right stays. `watch` is told how many bytes more are done.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked, or has no index of a layer that is right; with [`Pull::verify`], when a plain tar
    /// is missing, or gives another index.
    pub fn pull(&self, pull: Pull<'_>, watch: Watch<'_>) -> Result<Vec<Pulled>> {
        let mut made = NewDirectory::create(pull.directory, 0o777)?;
        let puller = Puller {
            remote: self,
            directory: Arc::new(made.open()?),
            pull,
            watch,
        };
        let mut wanted = Vec::new();
        for layer in self.distinct() {
            wanted.push(puller.look(layer));
        }
        let offers = match wanted.iter().any(Wanted::is_missing) {
            true => self.offers()?,
            false => Vec::new(),
        };
        let got = puller.get_all(&wanted, &offers);
        let mut outputs = Vec::new();
        let mut pulled: HashMap<Digest, Pulled> = HashMap::new();
        for (wanted, got) in wanted.into_iter().zip(got) {
            let (new, notes) = got?;
            outputs.extend(new);
            let diff_id = wanted.layer.diff_id;
            let result = Pulled {
                diff_id,
                index: puller.path(diff_id),
                reused: !wanted.index,
                notes: wanted.notes.into_iter().chain(notes).collect(),
            };
            pulled.insert(diff_id, result);
        }
        Output::finish_all(outputs)?;
        made.stay();
        let layers = self.layers.iter();
        Ok(layers
            .filter_map(|layer| pulled.get(&layer.diff_id).cloned())
            .collect())
    }

    /// The indexes that refer to the image, the newest artifact first where the registry has that order.
    fn offers(&self) -> Result<Vec<Descriptor>> {
        let found = referrers::list(&self.client, self.manifest.digest, ARTIFACT_TYPE);
        let mut offers = Vec::new();
        for descriptor in found.map_err(failed)?.iter().rev().take(ARTIFACTS) {
            let digest = parse_digest(Path::new(&self.name), &descriptor.digest)?;
            let which = format!("sha256:{digest}");
            let of = format!("{}: {which}", self.name);
            let Some(manifest) = self.client.manifest(&which).map_err(failed)? else {
                // Somebody removed it, but not what refers to it.
                continue;
            };
            let artifact: registry::ArtifactManifest = parse(&of, &manifest.bytes)?;
            let subject = artifact
                .subject
                .as_ref()
                .map(|subject| subject.digest.as_str());
            if subject == Some(&self.manifest.digest.to_string()) {
                offers.extend(artifact.layers);
            }
        }
        Ok(offers)
    }
}

/// So much of a layer is got with one request when all of it is read.
const READ: u64 = 4 << 20;

/// Reads a layer.
struct LayerReader<'a> {
    remote: &'a Remote,
    digest: Digest,
    left: Range<u64>,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for LayerReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read(buf)?;
        if read > 0 || buf.is_empty() || self.left.is_empty() {
            return Ok(read);
        }
        let end = self.left.start.saturating_add(READ).min(self.left.end);
        let piece = self.remote.range(self.digest, self.left.start..end);
        let piece = piece.map_err(io::Error::other)?;
        if piece.len() as u64 != end.saturating_sub(self.left.start) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left.start = end;
        self.piece = io::Cursor::new(piece);
        self.piece.read(buf)
    }
}

/// The digest of the image in a list that is for a platform.
fn choose(name: &str, list: &registry::Manifest, platform: Option<&Platform>) -> Result<String> {
    let of = format!("{name}: {}", list.digest);
    let index: Index = parse(&of, &list.bytes)?;
    let images: Vec<_> = index
        .manifests
        .into_iter()
        .filter(|image| {
            let unknown = image.platform.as_ref();
            let unknown = unknown.is_some_and(|platform| platform.os == "unknown");
            document::meaning(&image.media_type) == Meaning::Manifest
                && !unknown
                && image.artifact_type.is_none()
        })
        .collect();
    if let ([only], None) = (images.as_slice(), platform) {
        return parse_digest(Path::new(&of), &only.digest).map(|digest| format!("sha256:{digest}"));
    }
    let wanted = platform.cloned().unwrap_or_else(Platform::of_this_machine);
    let mut platforms = BTreeSet::new();
    let mut ranked = Vec::new();
    for image in &images {
        let Some(platform) = image.platform.clone().map(Platform::from) else {
            continue;
        };
        platforms.insert(platform.to_string());
        ranked.extend(platform.rank(&wanted).map(|rank| (rank, image)));
    }
    ranked.sort_by(|a, b| a.0.cmp(&b.0));
    let Some((_, best)) = ranked.first() else {
        return Err(Error::of(
            Kind::NotFound,
            format!(
                "{name}: no image for {wanted}; there {}",
                super::resolve::list(&platforms)
            ),
        ));
    };
    parse_digest(Path::new(&of), &best.digest).map(|digest| format!("sha256:{digest}"))
}

/// Fails unless a file is the index of a layer as this version makes it, by all that can be seen without the layer: it is an
/// image without errors; its only device is known by the diff ID, is as large as the layer where that is known, and has the
/// digest of its headers, which mounts compare.
fn examine(path: &Path, layer: &Layer, file: &File) -> Result<()> {
    let damaged = |what: &inspect::check::Problem| {
        let (shown, at) = (Shown(path), what.at);
        Error::of(Kind::Damaged, format!("{shown}: at {at}: {}", what.what))
    };
    let other = |problem: String| {
        let shown = Shown(path);
        Error::of(
            Kind::WrongBlob,
            format!("{shown} is no index of sha256:{}: {problem}", layer.diff_id),
        )
    };
    let bytes = file.try_clone().map_err(Error::io("open", path))?;
    let opened = inspect::check::open(path, Box::new(bytes))?;
    if let Some(problem) = opened.problems.first() {
        return Err(damaged(problem));
    }
    let image = opened.image?;
    let devices = image.devices()?;
    let [slot] = devices.as_slice() else {
        return Err(other(format!(
            "it has {} devices, expected one",
            devices.len()
        )));
    };
    if blobs::tag(slot) != Some(layer.diff_id) {
        return Err(other("it is of another tar".to_string()));
    }
    let block = u64::from(image.superblock().block_size());
    let size = slot.blocks.saturating_mul(block);
    let plain = (layer.digest == layer.diff_id).then_some(layer.size);
    if plain.is_some_and(|plain| plain.div_ceil(block) != slot.blocks) {
        let plain = plain.unwrap_or_default();
        return Err(other(format!(
            "it is of a tar of {size} bytes, expected {plain}"
        )));
    }
    if !matches!(image.header_digests()?.as_slice(), [Some(_)]) {
        return Err(other(
            "it does not say which headers the tar has".to_string(),
        ));
    }
    if !inspect::is_unchanged(&image).map_err(Error::io("read", path))? {
        return Err(other(
            "it is not what this version of ferofs makes".to_string(),
        ));
    }
    let report = check(&image, &[size], &mut |_| {}).map_err(Error::io("read", path))?;
    report
        .problems
        .first()
        .map_or(Ok(()), |problem| Err(damaged(problem)))
}

/// What is missing of a layer.
struct Wanted<'a> {
    layer: &'a Layer,
    /// Whether its index is.
    index: bool,
    /// Whether access points are to be there and are not.
    points: bool,
    /// What was wrong with the index that is there.
    notes: Vec<String>,
}

impl Wanted<'_> {
    fn is_missing(&self) -> bool {
        self.index || self.points
    }
}

/// What was got of a layer, and what was wrong with others.
type Got = Result<(Vec<Output>, Vec<String>)>;

/// Gets indexes into a directory.
struct Puller<'a> {
    remote: &'a Remote,
    directory: Arc<Directory>,
    pull: Pull<'a>,
    watch: Watch<'a>,
}

impl Puller<'_> {
    fn name(diff_id: Digest) -> String {
        format!("{diff_id}.erofs")
    }

    fn path(&self, diff_id: Digest) -> PathBuf {
        self.pull.directory.join(Self::name(diff_id))
    }

    /// Begins the index of a layer.
    fn create(&self, diff_id: Digest) -> Result<Output> {
        let name = Self::name(diff_id);
        Output::create_in(&self.directory, name.as_bytes(), &self.path(diff_id))
    }

    /// Whether an index is there already, and right.
    fn old(&self, layer: &Layer) -> Result<bool> {
        let path = self.path(layer.diff_id);
        match open::regular(&path) {
            Ok((file, _)) => {
                examine(&path, layer, &file)?;
                self.verify(layer, &file)?;
                Ok(true)
            }
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Looks what is missing of a layer.
    fn look<'l>(&self, layer: &'l Layer) -> Wanted<'l> {
        let old = self.old(layer);
        #[cfg(feature = "points")]
        let points = self.pull.points && !points::are_there(self.pull.directory, layer);
        #[cfg(not(feature = "points"))]
        let points = false;
        Wanted {
            layer,
            index: !matches!(old, Ok(true)),
            points,
            notes: old.err().iter().map(Error::to_string).collect(),
        }
    }

    /// Gets what is missing, of several layers at once: to wait for each answer takes longer than what it has. When one fails
    /// no others are begun.
    fn get_all(&self, wanted: &[Wanted<'_>], offers: &[Descriptor]) -> Vec<Got> {
        let threads = match self.pull.verify {
            // Each index is made anew then.
            true => 1,
            false => REQUESTS.min(wanted.len()),
        };
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(layer) = wanted.get(number) else {
                    return done;
                };
                let got = self.get_missing(layer, offers);
                if got.is_err() {
                    next.store(wanted.len(), Ordering::Relaxed);
                }
                done.push((number, got));
            }
        };
        let mut done: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let threads = threads.into_iter().map(thread::ScopedJoinHandle::join);
            let done = threads.map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)));
            done.flatten().collect()
        });
        // Those that were not begun are behind the one that failed.
        done.sort_by_key(|(number, _)| *number);
        done.into_iter().map(|(_, got)| got).collect()
    }

    fn get_missing(&self, wanted: &Wanted<'_>, offers: &[Descriptor]) -> Got {
        let (mut outputs, mut notes) = (Vec::new(), Vec::new());
        if wanted.index {
            outputs.push(self.get(wanted.layer, offers, &mut notes)?);
        }
        #[cfg(feature = "points")]
        if wanted.points {
            let place = (&self.directory, self.pull.directory);
            let output = points::get(self.remote, wanted.layer, offers, place, &mut notes)?;
            outputs.push(output);
        }
        Ok((outputs, notes))
    }

    /// Gets the first index of a layer that is right.
    fn get(&self, layer: &Layer, offers: &[Descriptor], notes: &mut Vec<String>) -> Result<Output> {
        let diff_id = format!("sha256:{}", layer.diff_id);
        let mut first = None;
        let of_layer = |offer: &&Descriptor| {
            offer.media_type == INDEX_TYPE && offer.annotations.get(LAYER_DIFF_ID) == Some(&diff_id)
        };
        for offer in offers.iter().filter(of_layer) {
            match self.try_one(layer, offer) {
                Ok(output) => return Ok(output),
                // Others may still be right.
                Err(error) if error.kind() != Kind::Registry => {
                    notes.push(error.to_string());
                    first = first.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or_else(|| {
            let name = &self.remote.name;
            Error::of(
                Kind::NotFound,
                format!("{name}: the registry has no index of the layer {diff_id}"),
            )
        }))
    }

    fn try_one(&self, layer: &Layer, offer: &Descriptor) -> Result<Output> {
        let name = &self.remote.name;
        let most = self.pull.most;
        let digest = parse_digest(Path::new(name), &offer.digest)?;
        let said = offer.annotations.get(INDEX_SIZE);
        let size: u64 = said.and_then(|size| size.parse().ok()).ok_or_else(|| {
            let problem = format!("{name}: sha256:{digest}: {INDEX_SIZE} is no number of bytes");
            Error::of(Kind::Container, problem)
        })?;
        if size.max(offer.size) > most {
            let problem = format!(
                "{name}: sha256:{digest}: an index of {size} bytes, expected at most {most}"
            );
            return Err(Error::of(Kind::TooLarge, problem));
        }
        let stored = self.create(layer.diff_id)?;
        let mut file = stored.file();
        let digest = registry::Digest(digest.0);
        self.remote
            .client
            .blob(digest, offer.size, &mut file)
            .map_err(failed)?;
        let output = self.create(layer.diff_id)?;
        decompress(stored.reader()?, size, &output)
            .map_err(|error| error.about(Path::new(&format!("{name}: {digest}"))))?;
        let index = output.reader()?;
        examine(Path::new(&format!("{name}: {digest}")), layer, &index)?;
        self.verify(layer, &index)?;
        (self.watch)(size);
        Ok(output)
    }

    /// Compares an index with one made anew, if that is wanted.
    fn verify(&self, layer: &Layer, index: &File) -> Result<()> {
        if !self.pull.verify {
            return Ok(());
        }
        let diff_id = layer.diff_id;
        let mut places = vec![self.pull.directory.to_path_buf()];
        places.extend_from_slice(self.pull.search);
        let path = blobs::find(&places, diff_id).ok_or_else(|| {
            let name = &self.remote.name;
            Error::of(
                Kind::NotFound,
                format!(
                    "{name}: the plain tar of the layer sha256:{diff_id} is nowhere to compare with"
                ),
            )
        })?;
        let (tar, _) = open::regular(&path)?;
        let same = || tar.try_clone().map_err(Error::io("open", &path));
        let through = Through {
            digest: true,
            ..Through::default()
        };
        let shown = self.pull.directory.join(format!("{diff_id}.erofs"));
        let pulled = index.try_clone().map_err(Error::io("open", &shown))?;
        let fingerprints = inspect::Image::new(&shown, Box::new(pulled))?.fingerprints()?;
        let mut tree = Tree::with_fingerprints(fingerprints.as_ref());
        let stored = Hashing::new(&tar, false, &|_| {});
        let archive = read_through(stored, &path, through, &mut tree, &mut ())?;
        let found = match archive.totals.digest {
            Some(found) => found,
            None => {
                let found = Background::spawn(same()?).wait(|_| {});
                found.map_err(Error::io("read", &path))?
            }
        };
        check_digest(&path, diff_id, found)?;
        let output = self.create(diff_id)?;
        let plain = Plain::Known(Snapshot::new(same()?, diff_id, output.target()).into());
        write_index(diff_id, archive, tree, &plain, &path, &output)?;
        let equal = are_equal(&output.reader()?, index);
        match equal.map_err(Error::io("read", output.target()))? {
            true => Ok(()),
            false => Err(Error::of(
                Kind::WrongBlob,
                format!(
                    "{}: the index of the layer sha256:{diff_id} is another one than its plain tar gives",
                    self.remote.name
                ),
            )),
        }
    }
}

/// Writes what a zstd file has in it, which must be so many bytes.
fn decompress(stored: File, size: u64, output: &Output) -> Result<()> {
    let path = output.target();
    let decode = || -> io::Result<u64> {
        let mut decoder = zstd::stream::read::Decoder::new(stored)?;
        decoder.window_log_max(WINDOW_BITS)?;
        let mut reader = decoder.take(size.saturating_add(1));
        let mut file = output.file();
        let copied = io::copy(&mut reader, &mut file)?;
        file.flush()?;
        Ok(copied)
    };
    let found = decode().map_err(Error::io("unpack", path))?;
    match found == size {
        true => Ok(()),
        false => {
            let problem = format!("it has {found} bytes or more, expected {size}");
            Err(Error::io("unpack", path)(io::Error::other(problem)))
        }
    }
}

fn are_equal(one: &File, other: &File) -> io::Result<bool> {
    let size = one.metadata()?.len();
    if size != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut first, mut second) = (vec![0; PIECE], vec![0; PIECE]);
    let mut pos = 0;
    while pos < size {
        let length = usize::try_from(size - pos).unwrap_or(PIECE).min(PIECE);
        let (Some(a), Some(b)) = (first.get_mut(..length), second.get_mut(..length)) else {
            break;
        };
        one.read_exact_at(a, pos)?;
        other.read_exact_at(b, pos)?;
        if a != b {
            return Ok(false);
        }
        pos += length as u64;
    }
    Ok(true)
}
