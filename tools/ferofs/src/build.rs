// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From an archive to a tree, and what is needed for its image: puts together [`crate::tar`],
//! [`tree`](crate::tree) and [`image`](crate::image).
//!
//! [`read_through`] is the one pass that everything is read by which has to be hashed, decompressed or copied:
//! what is parsed, what is hashed and what is copied are the same bytes, however the input changes meanwhile.
//! [`Opened`](crate::opened::Opened) calls it for files that somebody names, [`oci::layers`](crate::oci::layers) for
//! layers.

use crate::chunk::Pool;
use crate::compression::Compression;
use crate::compression::Window;
use crate::compression::decompress;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::error;
use crate::image::Source;
use crate::image::Store;
use crate::image::source::Blobs;
use crate::image::store::StoreError;
use crate::image::store::Wanted;
use crate::output::Output;
#[cfg(feature = "points")]
use crate::points::Maker;
use crate::read_at::ReadAt;
use crate::setters::setters;
use crate::tar;
use crate::tar::Entry;
use crate::tar::Error;
use crate::tar::Input;
use crate::tar::Kind;
use crate::tar::Names;
use crate::tar::Reader;
use crate::tar::StreamInput;
use crate::tar::Totals;
use crate::tee::Tee;
use crate::tree::Data;
use crate::tree::NameId;
use crate::tree::Tree;
use crate::tree::apply::Applier;
use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// What was read from an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Archive {
    /// Its size, and its digest if all of it was read.
    pub totals: Totals,
    /// Number of entries.
    pub entries: u64,
    /// What was skipped, or read in a way its author may not have meant.
    pub notes: Vec<String>,
}

/// Told how far reading is: bytes of the archive, and entries.
pub trait Progress {
    /// Called after every entry.
    fn advance(&mut self, position: u64, entries: u64);
}

/// Nobody wants to know.
impl Progress for () {
    fn advance(&mut self, _: u64, _: u64) {}
}

/// Applies an archive to a tree; its files' data is in blob number `blob`.
///
/// ```
/// use ferofs::build::apply_archive;
/// use ferofs::tar::StreamInput;
/// use ferofs::tree::Tree;
///
/// // The end of an archive, and nothing in front of it: from a pipe, a socket, a file.
/// let archive = [0; 1024].as_slice();
/// let mut tree = Tree::new();
/// let read = apply_archive(StreamInput::new(archive), &mut tree, 0, &mut ())?;
/// assert_eq!((read.entries, read.totals.size), (0, 1024));
/// // All of it was read, so its sha256 is known.
/// assert!(read.totals.digest.is_some());
/// # Ok::<(), ferofs::tar::Error>(())
/// ```
///
/// # Errors
///
/// When it cannot be read, or is not an archive, or describes files that cannot be in a tree.
pub fn apply_archive<I: Input>(
    input: I,
    tree: &mut Tree,
    blob: u16,
    progress: &mut impl Progress,
) -> Result<Archive, Error> {
    apply_entries(
        Reader::new(input, Names::of_this_machine()),
        tree,
        blob,
        progress,
    )
}

/// Applies what a reader reads to a tree; its files' data is in blob number `blob`.
///
/// # Errors
///
/// Those of [`apply_archive`].
pub fn apply_entries<I: Input>(
    reader: Reader<I>,
    tree: &mut Tree,
    blob: u16,
    progress: &mut impl Progress,
) -> Result<Archive, Error> {
    let stays = |_: &mut Reader<I>, _: &()| Ok(None);
    apply(reader, tree, blob, progress, |_| None, stays)
}

/// Applies what a reader reads to a tree, and puts the data of its files into an image on the way.
///
/// # Errors
///
/// Those of [`apply_archive`], and when the data cannot be written.
pub fn store_entries<I: Input>(
    reader: Reader<I>,
    tree: &mut Tree,
    store: &mut Store<'_>,
    progress: &mut impl Progress,
) -> Result<Archive, StoreError> {
    let take = |reader: &mut Reader<I>, wanted: &Wanted| store.take(reader, wanted).map(Some);
    apply(reader, tree, 0, progress, Wanted::of, take)
}

/// What is done with an archive while it is read.
#[derive(Default)]
#[non_exhaustive]
pub struct Through<'a, 's> {
    /// What it is compressed with, if it is.
    pub compression: Option<Compression>,
    /// How much memory decompression may take.
    pub window: Window,
    /// Whether its sha256 is wanted.
    pub digest: bool,
    /// Whether its fs-verity digest is wanted.
    pub verity: bool,
    /// Whether it has only headers, without the data of files.
    pub headers_only: bool,
    /// How large the plain tar is at least, as far as is known.
    pub least: Option<u64>,
    /// How large it may be at most.
    pub most: Option<u64>,
    /// Where it is written to, plain.
    pub copy: Option<&'a Output>,
    /// Where the data of its files is written to, and what to call that in messages.
    pub data: Option<(&'a mut Store<'s>, &'a Path)>,
    /// What makes access points of it.
    #[cfg(feature = "points")]
    pub points: Option<&'a mut Maker>,
}

impl<'a, 's> Through<'a, 's> {
    setters! {
        /// Says what it is compressed with.
        with_compression sets compression: Option<Compression>,
        /// Says how much memory decompression may take.
        with_window sets window: Window,
        /// Says whether its sha256 is wanted.
        with_digest sets digest: bool,
        /// Says whether its fs-verity digest is wanted.
        with_verity sets verity: bool,
        /// Says whether it has only headers.
        with_headers_only sets headers_only: bool,
        /// Says how large the plain tar is at least.
        with_least sets least: Option<u64>,
        /// Says how large it may be at most.
        with_most sets most: Option<u64>,
        /// Writes it there, plain.
        with_copy sets copy: Option<&'a Output>,
        /// Writes the data of its files there.
        with_data sets data: Option<(&'a mut Store<'s>, &'a Path)>,
    }

    #[cfg(feature = "points")]
    setters! {
        /// Makes access points of it.
        with_points sets points: Option<&'a mut Maker>,
    }
}

/// Reads an archive from its start to its end, once, and does all that is wanted on the way. `path` is what it
/// is called in messages.
///
/// # Errors
///
/// When it cannot be read or is none, or a copy cannot be written.
pub fn read_through(
    stored: impl BufRead,
    path: &Path,
    through: Through<'_, '_>,
    tree: &mut Tree,
    progress: &mut impl Progress,
) -> error::Result<Archive> {
    let failed = || error::Error::io("read", path);
    let plain = |stored| -> error::Result<Box<dyn Read + '_>> {
        Ok(match through.compression {
            None => Box::new(stored),
            Some(compression) => {
                decompress(compression, stored, through.window).map_err(failed())?
            }
        })
    };
    #[cfg(feature = "points")]
    let reader = match through.points {
        None => plain(stored)?,
        Some(maker) => {
            let reader = maker.reader(through.compression, stored);
            Box::new(reader.map_err(failed())?)
        }
    };
    #[cfg(not(feature = "points"))]
    let reader = plain(stored)?;
    let reader: Box<dyn Read + '_> = match through.most {
        None => reader,
        Some(most) => Box::new(AtMost { reader, left: most }),
    };
    let mut tee = match through.copy {
        Some(copy) => {
            let target = copy.target();
            let tee = Tee::new(copy.file(), target, through.least);
            Some(tee.map_err(error::Error::io("write", target))?)
        }
        None => None,
    };
    let input = match through.digest {
        true => StreamInput::new(reader),
        false => StreamInput::without_digest(reader),
    };
    let input = input.with_verity(through.verity).passing(tee.as_mut());
    let reader = Reader::new(input, Names::of_this_machine());
    let reader = reader.headers_only(through.headers_only);
    let archive = match through.data {
        Some((store, image)) => {
            let stored = store_entries(reader, tree, store, progress);
            stored.map_err(|error| match error {
                StoreError::Archive(error) => error::Error::archive(path)(error),
                StoreError::Image(error) => error::Error::io("write", image)(error),
            })?
        }
        None => apply_entries(reader, tree, 0, progress).map_err(error::Error::archive(path))?,
    };
    if let (Some(tee), Some(copy)) = (tee, through.copy) {
        let written = tee.finish();
        written.map_err(error::Error::io("write", copy.target()))?;
    }
    Ok(archive)
}

/// A reader that fails when there is more than expected.
struct AtMost<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for AtMost<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other("the plain tar is larger than is allowed")),
        }
        Ok(n)
    }
}

/// The plain tar that an archive turned out to be, for what of its data has to be copied when all of it is known.
pub enum Plain {
    /// It is in a file.
    File(File),
    /// It is in a file that others may change, and had this sha256. What is copied is of the same bytes.
    Known(Box<Snapshot>),
    /// Nobody has it any more.
    Gone,
}

impl Source for Plain {
    fn read(&self, tree: &Tree, name: NameId, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let file = match self {
            Plain::File(file) => file,
            Plain::Known(snapshot) => snapshot.file()?,
            Plain::Gone => {
                return Err(io::Error::other(
                    "its data is not all at multiples of 512 bytes in the tar, so some of it has to \
                     be in the index: name the tar's file, or keep the tar with --tar-out",
                ));
            }
        };
        Blobs(vec![file]).read(tree, name, offset, buf)
    }
}

/// A file as it was when it was hashed, if it still is that: it is copied when it is needed for the first time.
/// Hardly any tar needs it.
pub struct Snapshot {
    file: File,
    digest: Digest,
    /// Where there is room for the copy.
    beside: PathBuf,
    copy: OnceCell<Output>,
}

impl Snapshot {
    /// The file had this digest. A copy is made on the filesystem of `beside`.
    pub fn new(file: File, digest: Digest, beside: &Path) -> Self {
        Snapshot {
            file,
            digest,
            beside: beside.to_path_buf(),
            copy: OnceCell::new(),
        }
    }

    fn file(&self) -> io::Result<&File> {
        if let Some(copy) = self.copy.get() {
            return Ok(copy.file());
        }
        let copy = Output::create_unnamed(&self.beside).map_err(io::Error::other)?;
        let mut hasher = Hasher::spawn();
        let pool = Pool::new(1 << 20);
        let mut pos = 0;
        loop {
            let mut buffer = pool.buffer();
            let filled = self.file.read_full_at(buffer.bytes_mut(), pos)?;
            if filled == 0 {
                break;
            }
            let chunk = pool.share(buffer, filled);
            copy.file().write_all(&chunk)?;
            pos = pos.saturating_add(filled as u64);
            hasher.update(&chunk);
        }
        match hasher.finish() {
            Some(found) if found == self.digest => Ok(self.copy.get_or_init(|| copy).file()),
            _ => Err(io::Error::other("it changed while it was read")),
        }
    }
}

/// Applies all entries. `look` is shown each one, `take` gets what it saw if that was a file, and
/// may say that the file's data is somewhere else.
fn apply<I: Input, L, E: From<Error>>(
    mut reader: Reader<I>,
    tree: &mut Tree,
    blob: u16,
    progress: &mut impl Progress,
    look: impl Fn(&Entry<'_>) -> Option<L>,
    mut take: impl FnMut(&mut Reader<I>, &L) -> Result<Option<Data>, E>,
) -> Result<Archive, E> {
    let mut applier = Applier::new(tree, blob);
    let mut entries = 0;
    loop {
        let position = reader.position();
        let Some(entry) = reader.next_entry()? else {
            break;
        };
        let seen = look(&entry);
        let (offset, hashed) = (entry.offset, hashed_part(&entry, &applier));
        let file = applier.apply(&entry)?;
        if let Some((size, data)) = &hashed {
            reader.start_hashing(*size, data);
        }
        if let (Some(file), Some(seen)) = (file, seen) {
            if let Some(data) = take(&mut reader, &seen)? {
                applier.set_data(file, data);
            }
        }
        if let (Some(file), true) = (file, applier.wants_fingerprints()) {
            let digest = match hashed {
                Some(_) => reader.finish_hashing()?,
                None => None,
            };
            applier.set_fingerprint(offset, file, digest.as_ref())?;
        }
        entries += 1;
        progress.advance(position, entries);
    }
    let mut applied = applier.finish()?;
    let totals = reader.finish()?;
    let mut notes = reader.take_notes();
    notes.append(&mut applied);
    Ok(Archive {
        totals,
        entries,
        notes,
    })
}

/// What of an entry is to be hashed for its fingerprint: the size and place of a file's data, unless it is empty.
fn hashed_part(entry: &Entry<'_>, applier: &Applier<'_>) -> Option<(u64, tar::Data)> {
    match &entry.kind {
        Kind::File { size, data } if *size > 0 && applier.wants_fingerprints() => {
            Some((*size, data.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_of_what_was_hashed_or_is_none() {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("ferofs-snapshot-{}", std::process::id()));
        let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 11 % 251) as u8).collect();
        let digest = Digest::of(&content);
        let mut other = content.clone();
        other[2_900_000] ^= 1;
        for (now, good) in [
            (content.as_slice(), true),
            (&other, false),
            (&content[..content.len() - 1], false),
            (b"", false),
        ] {
            std::fs::write(&path, now).unwrap();
            let file = File::open(&path).unwrap();
            let snapshot = Snapshot::new(file, digest, &path);
            if good {
                assert!(snapshot.file().is_ok());
                // What happens to the file from now on is of no interest.
                std::fs::write(&path, &other).unwrap();
                let mut found = vec![0; content.len()];
                let copy = snapshot.file().unwrap();
                ReadAt::read_exact_at(copy, &mut found, 0).unwrap();
                assert!(found == content);
            } else {
                let error = snapshot.file().unwrap_err().to_string();
                assert!(error.contains("changed while it was read"), "{error}");
            }
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn nothing_is_an_empty_archive() {
        for zeros in [0, 512, 1024, 10240] {
            let bytes = vec![0; zeros];
            let mut tree = Tree::new();
            let input = crate::tar::StreamInput::new(bytes.as_slice());
            let archive = apply_archive(input, &mut tree, 0, &mut ()).unwrap();
            assert_eq!((archive.entries, archive.totals.size), (0, zeros as u64));
        }
    }
}
