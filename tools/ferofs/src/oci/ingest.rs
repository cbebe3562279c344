// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Takes a layer into a directory of layers: its plain tar as `HEX.tar` and its index as `HEX.erofs`, both called after
//! the diff ID, which is not known before all of it is read.
//!
//! [`ingest`] is what a snapshotter of a container runtime calls for a layer that it is given; [`super::layers`] shares
//! the one pass that unpacks, hashes and parses a layer. A layer that is not compressed is a plain tar itself: where the
//! filesystem can share blocks it is cloned, otherwise it gets a second name if that is wanted and possible, and only if
//! nothing else is possible is it copied.

use super::layers::Watch;
use super::store::check_digest;
use crate::build::Archive;
use crate::build::Plain;
use crate::build::Snapshot;
use crate::build::Through;
use crate::build::read_through;
use crate::chunk::Pool;
use crate::compression::Window;
use crate::compression::decompress;
use crate::compression::look;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::directory::Directory;
use crate::error::Error;
use crate::error::Result;
use crate::hashing::Hashing;
use crate::image::Summary;
use crate::index;
use crate::output::Output;
use crate::setters::setters;
use crate::tar::Totals;
use crate::tree::FingerprintName;
use crate::tree::Tree;
use rustix::fs::AtFlags;
use rustix::fs::StatxFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// What is to be taken in, and where to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The directory for layers, which must be there.
    pub directory: &'a Path,
    /// What to call the layer in messages.
    pub shown: &'a Path,
    /// The sha256 of what is stored, if it is known.
    pub digest: Option<Digest>,
    /// How large the plain tar may be, in bytes.
    pub most: Option<u64>,
    /// Whether a plain tar may get a second name where it cannot be cloned. Whoever changes or seals the one then
    /// changes or seals the other.
    pub links: bool,
    /// In which attribute files get fingerprints, if they get some.
    pub fingerprints: Option<&'a FingerprintName>,
}

impl<'a> Request<'a> {
    /// A layer of which nothing is known.
    pub fn new(directory: &'a Path, shown: &'a Path) -> Self {
        Request {
            directory,
            shown,
            digest: None,
            most: None,
            links: false,
            fingerprints: None,
        }
    }

    setters! {
        /// Compares what is stored with this sha256.
        with_digest sets digest: Option<Digest>,
        /// Says how large the plain tar may be.
        with_most sets most: Option<u64>,
        /// Says whether a plain tar may get a second name.
        with_links sets links: bool,
        /// Says in which attribute files get fingerprints.
        with_fingerprints sets fingerprints: Option<&'a FingerprintName>,
    }
}

/// How the plain tar came to be in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum How {
    /// It shares its blocks with the layer.
    Cloned,
    /// It is the same file as the layer.
    Linked,
    /// Its bytes were written.
    Written,
}

/// A layer whose files have no names yet. If it is dropped they never will.
#[non_exhaustive]
pub struct Ingested {
    /// The sha256 of the plain tar.
    pub diff_id: Digest,
    /// The size of the plain tar, in bytes.
    pub size: u64,
    /// What its index came to.
    pub index: Summary,
    /// Where the plain tar is from.
    pub how: How,
    /// What was skipped in the tar, or read in a way its author may not have meant.
    pub notes: Vec<String>,
    directory: Arc<Directory>,
    /// The plain tar, which is empty if the layer is it.
    tar: Output,
    /// The layer, if it is the plain tar.
    link: Option<File>,
    written: Output,
}

impl Ingested {
    /// Gives the files their names, once they are on disk. What is there already by these names is replaced.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn keep(self) -> Result<()> {
        let mut outputs = Vec::new();
        let linked = match &self.link {
            None => false,
            Some(file) => {
                // Whoever wrote it may not have waited for the disk.
                let written = file.sync_all();
                written.map_err(Error::io("write", self.tar.target()))?;
                let name = format!("{}.tar", self.diff_id);
                match self.directory.name(file, name.as_bytes()) {
                    // It may be another file with the same bytes.
                    Ok(()) | Err(Errno::EXIST) => true,
                    // There are no links to what is immutable, has as many as it can have, or was removed meanwhile.
                    Err(_) => {
                        copy(file, &self.tar)?;
                        false
                    }
                }
            }
        };
        // Who finds an index looks for its tar, so the tar comes first.
        if !linked {
            outputs.push(self.tar);
        }
        outputs.push(self.written);
        Output::finish_all(outputs)
    }
}

/// Copies a file from its beginning into one that is empty.
fn copy(file: &File, output: &Output) -> Result<()> {
    let mut reader = At(file, 0);
    let copied = io::copy(&mut reader, &mut output.file());
    copied.map_err(Error::io("write", output.target()))?;
    Ok(())
}

/// The mount that a file is on: only within one can it get another name, whatever filesystem there is below.
fn mount_of(file: &File) -> Option<u64> {
    let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    Some(found.stx_mnt_id)
}

/// Reads a layer, compressed or not, and makes its index. `watch` is told how much of what is stored was read.
///
/// # Errors
///
/// When it cannot be read, is no tar or not what it should be, or its files cannot be written. Nothing is left behind
/// then.
pub fn ingest(layer: File, request: Request<'_>, watch: Watch<'_>) -> Result<Ingested> {
    let shown = request.shown;
    let metadata = layer.metadata().map_err(Error::io("read", shown))?;
    let opened = Directory::open(request.directory)
        .map_err(|e| Error::io("open", request.directory)(e.into()));
    let directory = Arc::new(opened?);
    let create = |what: &str| {
        let path = request.directory.join(what);
        Output::create_in(&directory, what.as_bytes(), &path)
    };
    let (compression, _) = look(At(&layer, 0)).map_err(Error::io("read", shown))?;
    let mut tar = create("layer.tar")?;
    let mut how = How::Written;
    if compression.is_none() {
        if rustix::fs::ioctl_ficlone(tar.file(), &layer).is_ok() {
            how = How::Cloned;
        } else if request.links
            && mount_of(tar.file()).is_some_and(|mount| mount_of(&layer) == Some(mount))
        {
            how = How::Linked;
        }
    }
    let source = match how {
        How::Cloned => tar.reader()?,
        How::Linked | How::Written => layer.try_clone().map_err(Error::io("open", shown))?,
    };
    let unpack = Unpack {
        shown,
        digest: request.digest,
        size: metadata.len(),
        most: request.most,
        output: (how == How::Written).then_some(&tar),
        fingerprints: request.fingerprints,
        watch,
    };
    let (archive, tree) = unpack.read(At(&source, 0))?;
    let diff_id = match archive.totals.digest {
        Some(digest) => digest,
        None => return Err(Error::io("read", shown)(io::Error::other("hashing failed"))),
    };
    let mut index = create("layer.erofs")?;
    let plain = match how {
        How::Linked => Plain::Known(Snapshot::new(source, diff_id, index.target()).into()),
        How::Cloned | How::Written => Plain::File(tar.reader()?),
    };
    let size = archive.totals.size;
    let (summary, notes) = write_index(diff_id, archive, tree, &plain, shown, &index)?;
    for (output, what) in [(&mut tar, "tar"), (&mut index, "erofs")] {
        output.call(&request.directory.join(format!("{diff_id}.{what}")));
    }
    let link = (how == How::Linked).then_some(layer);
    Ok(Ingested {
        diff_id,
        size,
        index: summary,
        how,
        notes,
        directory,
        tar,
        link,
        written: index,
    })
}

/// An image that was taken in, whose file has no name yet. If it is dropped it never will.
#[non_exhaustive]
pub struct Taken {
    /// The sha256 of the plain image.
    pub digest: Digest,
    /// Its size, in bytes.
    pub size: u64,
    output: Output,
}

impl Taken {
    /// Another opened file for it.
    ///
    /// # Errors
    ///
    /// When it cannot be opened once more.
    pub fn reader(&self) -> Result<File> {
        self.output.reader()
    }

    /// Gives the file its name, `HEX.erofs`, once it is on disk.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn keep(self) -> Result<()> {
        self.output.finish()
    }
}

/// Takes in a layer that is an image with its data in it: cloned where that is possible, else copied, and decompressed
/// if it has to be. Nothing is said of what is in it.
///
/// # Errors
///
/// When it cannot be read, is not what it should be, or the file cannot be written. Nothing is left behind then.
pub fn ingest_image(layer: &File, request: Request<'_>, watch: Watch<'_>) -> Result<Taken> {
    let shown = request.shown;
    let mut output = Output::create_unnamed(&request.directory.join("layer.erofs"))?;
    let (compression, _) = look(At(layer, 0)).map_err(Error::io("read", shown))?;
    let cloned = compression.is_none() && rustix::fs::ioctl_ficlone(output.file(), layer).is_ok();
    let source = match cloned {
        true => output.reader()?,
        false => layer.try_clone().map_err(Error::io("open", shown))?,
    };
    let failed = || Error::io("read", shown);
    let hashes = compression.is_some() && request.digest.is_some();
    let mut stored = Hashing::new(At(&source, 0), hashes, watch);
    let mut hasher = Hasher::spawn();
    let mut size = 0_u64;
    {
        let mut reader: Box<dyn Read + '_> = match compression {
            None => Box::new(&mut stored),
            Some(compression) => {
                decompress(compression, &mut stored, Window::default()).map_err(failed())?
            }
        };
        let mut writer = output.file();
        let pool = Pool::new(1 << 20);
        loop {
            let mut buffer = pool.buffer();
            let n = buffer.fill(&mut reader).map_err(failed())?;
            if n == 0 {
                break;
            }
            let chunk = pool.share(buffer, n);
            size = size.saturating_add(n as u64);
            if request.most.is_some_and(|most| size > most) {
                return Err(failed()(io::Error::other(
                    "the plain image is larger than is allowed",
                )));
            }
            if !cloned {
                writer
                    .write_all(&chunk)
                    .map_err(Error::io("write", output.target()))?;
            }
            hasher.update(&chunk);
        }
    }
    let stored = stored.finish().map_err(failed())?;
    let digest = hasher
        .finish()
        .ok_or_else(|| failed()(io::Error::other("hashing failed")))?;
    if let Some(expected) = request.digest {
        check_digest(shown, expected, stored.unwrap_or(digest))?;
    }
    output.call(&request.directory.join(format!("{digest}.erofs")));
    Ok(Taken {
        digest,
        size,
        output,
    })
}

/// A file from a position on, which stays this reader's own.
struct At<'a>(&'a File, u64);

impl Read for At<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = std::os::unix::fs::FileExt::read_at(self.0, buf, self.1)?;
        self.1 = self.1.saturating_add(n as u64);
        Ok(n)
    }
}

/// The pass over what is stored.
pub(super) struct Unpack<'a> {
    /// What it is called in messages.
    pub shown: &'a Path,
    /// The sha256 that it should have.
    pub digest: Option<Digest>,
    /// Its size in bytes.
    pub size: u64,
    /// How large the plain tar may be.
    pub most: Option<u64>,
    /// Where the plain tar is written to.
    pub output: Option<&'a Output>,
    /// In which attribute files get fingerprints, if they get some.
    pub fingerprints: Option<&'a FingerprintName>,
    /// Told of the bytes that were read.
    pub watch: Watch<'a>,
}

impl Unpack<'_> {
    /// Decompresses what is stored, parses and hashes the plain tar, and writes it. What is stored is hashed, too, if
    /// its sha256 is known, and not that of the plain tar anyway.
    pub fn read(&self, stored: impl Read) -> Result<(Archive, Tree)> {
        self.read_through(stored, Through::default())
    }

    /// The same with what else is to be done on the way.
    pub fn read_through(
        &self,
        stored: impl Read,
        through: Through<'_, '_>,
    ) -> Result<(Archive, Tree)> {
        let shown = self.shown;
        let failed = || Error::io("read", shown);
        let (compression, reader) = look(stored).map_err(failed())?;
        let hashes = compression.is_some() && self.digest.is_some();
        let mut stored = Hashing::new(reader, hashes, self.watch);
        let mut tree = Tree::with_fingerprints(self.fingerprints);
        let through = Through {
            compression,
            digest: true,
            least: Some(self.size),
            most: self.most,
            copy: self.output,
            ..through
        };
        let archive = read_through(&mut stored, shown, through, &mut tree, &mut ());
        // Decompression ends where the compressed data does.
        let stored = stored.finish();
        if let Some(expected) = self.digest {
            let plain = archive.as_ref().ok().and_then(|read| read.totals.digest);
            match stored.map_err(failed())?.or(plain) {
                // What is wrong with the content is of no interest if it is not what it should be.
                Some(found) => check_digest(shown, expected, found)?,
                None => {
                    archive?;
                    return Err(failed()(io::Error::other("hashing failed")));
                }
            }
        }
        Ok((archive?, tree))
    }
}

/// Writes the index of what was read from a plain tar, which is called `shown` in messages. Returns what it came to,
/// and all notes.
pub(super) fn write_index(
    diff_id: Digest,
    archive: Archive,
    tree: Tree,
    plain: &Plain,
    shown: &Path,
    index: &Output,
) -> Result<(Summary, Vec<String>)> {
    let totals = Totals {
        digest: Some(diff_id),
        ..archive.totals
    };
    let (summary, mut more) = index::write_tree(tree, totals, plain, index.file())
        .map_err(|error| error.about(shown, index.target()))?;
    let mut notes = archive.notes;
    notes.append(&mut more);
    Ok((summary, notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("ferofs-ingest-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("out")).unwrap();
            Place(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        /// A tar of some files by GNU tar.
        fn tar(&self) -> Vec<u8> {
            let files = self.path("files");
            fs::create_dir_all(files.join("etc")).unwrap();
            fs::write(files.join("etc/motd"), b"hello\n".repeat(5000)).unwrap();
            fs::write(files.join("etc/empty"), b"").unwrap();
            let made = Command::new("tar")
                .args(["--sort=name", "-C"])
                .arg(&files)
                .args(["-cf", "-", "."])
                .output()
                .unwrap();
            assert!(made.status.success());
            made.stdout
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.path("out")).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn compressed(tar: &[u8], program: &str) -> Vec<u8> {
        let mut child = Command::new(program)
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let tar = tar.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&tar));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        output.stdout
    }

    #[test]
    fn a_layer_is_called_after_its_diff_id_however_it_is_stored() {
        let place = Place::new("stored");
        let tar = place.tar();
        let diff_id = Digest::of(&tar);
        for (name, stored) in [("plain", tar.clone()), ("gzip", compressed(&tar, "gzip"))] {
            for links in [false, true] {
                let path = place.path(name);
                fs::write(&path, &stored).unwrap();
                let out = place.path("out");
                let request = Request::new(&out, &path)
                    .with_digest(Some(Digest::of(&stored)))
                    .with_links(links);
                let made = ingest(File::open(&path).unwrap(), request, &|_| {}).unwrap();
                assert_eq!((made.diff_id, made.size), (diff_id, tar.len() as u64));
                assert_eq!(made.index.inodes, 4);
                if name == "gzip" || !links {
                    assert_ne!(made.how, How::Linked);
                } else {
                    assert_ne!(made.how, How::Written);
                }
                assert!(place.names().is_empty());
                made.keep().unwrap();
                assert_eq!(
                    place.names(),
                    [format!("{diff_id}.erofs"), format!("{diff_id}.tar")]
                );
                assert_eq!(fs::read(out.join(format!("{diff_id}.tar"))).unwrap(), tar);
                for name in place.names() {
                    fs::remove_file(out.join(name)).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_layer_that_can_get_no_second_name_is_copied() {
        let place = Place::new("gone");
        let tar = place.tar();
        let path = place.path("plain");
        fs::write(&path, &tar).unwrap();
        let out = place.path("out");
        let request = Request::new(&out, &path).with_links(true);
        let made = ingest(File::open(&path).unwrap(), request, &|_| {}).unwrap();
        // A file without any name gets none.
        fs::remove_file(&path).unwrap();
        let plain = out.join(format!("{}.tar", made.diff_id));
        made.keep().unwrap();
        assert_eq!(fs::read(plain).unwrap(), tar);
    }

    #[test]
    fn an_image_is_called_after_its_sha256_however_it_is_stored() {
        let place = Place::new("image");
        let image: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7 % 251) as u8).collect();
        for (name, stored) in [
            ("plain", image.clone()),
            ("gzip", compressed(&image, "gzip")),
        ] {
            let path = place.path(name);
            fs::write(&path, &stored).unwrap();
            let out = place.path("out");
            let file = File::open(&path).unwrap();
            let request = Request::new(&out, &path);
            let wrong = request.with_digest(Some(Digest::of(b"")));
            let error = ingest_image(&file, wrong, &|_| {})
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains("its sha256 is"), "{error}");
            let small = request.with_most(Some(100));
            assert!(ingest_image(&file, small, &|_| {}).is_err());
            let right = request.with_digest(Some(Digest::of(&stored)));
            let taken = ingest_image(&file, right, &|_| {}).unwrap();
            assert_eq!(
                (taken.digest, taken.size),
                (Digest::of(&image), image.len() as u64)
            );
            assert!(place.names().is_empty());
            let kept = out.join(format!("{}.erofs", taken.digest));
            taken.keep().unwrap();
            assert!(fs::read(&kept).unwrap() == image);
            fs::remove_file(kept).unwrap();
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_leaves_nothing() {
        let place = Place::new("wrong");
        let tar = place.tar();
        let gzip = compressed(&tar, "gzip");
        let cases: [(&str, Vec<u8>, Option<Digest>, &str); 5] = [
            (
                "digest",
                tar.clone(),
                Some(Digest::of(b"")),
                "its sha256 is",
            ),
            (
                "gzip-digest",
                gzip.clone(),
                Some(Digest::of(b"")),
                "its sha256 is",
            ),
            ("cut", tar[..tar.len() / 2 - 100].to_vec(), None, "cut"),
            (
                "gzip-cut",
                gzip[..gzip.len() - 20].to_vec(),
                None,
                "gzip-cut",
            ),
            (
                "text",
                b"no tar at all, but a text\n".repeat(100),
                None,
                "text",
            ),
        ];
        for (name, stored, digest, expected) in cases {
            let path = place.path(name);
            fs::write(&path, &stored).unwrap();
            let out = place.path("out");
            let request = Request::new(&out, &path).with_digest(digest);
            let error = match ingest(File::open(&path).unwrap(), request, &|_| {}) {
                Ok(_) => panic!("{name} is taken"),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(expected), "{name}: {error}");
            assert!(place.names().is_empty(), "{name}");
        }
    }
}
