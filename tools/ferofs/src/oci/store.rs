// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where the blobs of container images are: in the files of a directory, or of a tar.

use super::Kind;
use super::Reference;
use crate::build::apply_archive;
use crate::digest::Digest;
use crate::error;
use crate::error::Error;
use crate::error::Result;
use crate::open;
use crate::output::Inputs;
use crate::tar::FileInput;
use crate::text::Quoted;
use crate::text::Shown;
use crate::tree::Content;
use crate::tree::Data;
use crate::tree::NameId;
use crate::tree::Tree;
use std::cell::RefCell;
use std::fs;
use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// Largest document that is read. Real ones have a few kilobytes.
const DOCUMENT_MAX: u64 = 16 << 20;
/// Symbolic links followed on the way to one file; the kernel's limit.
const MAX_LINKS: u32 = 40;

/// Where blobs are.
pub struct Store {
    place: Place,
    /// The files that were found.
    inputs: RefCell<Inputs>,
}

enum Place {
    /// A directory.
    Directory(PathBuf),
    /// A tar, and what is in it.
    Archive(PathBuf, Box<Tree>),
}

/// A file in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The file that has it, or all of whose bytes it is.
    path: PathBuf,
    /// Where it starts in a tar, and what it is called there.
    inside: Option<(u64, String)>,
    /// Its size in bytes.
    size: u64,
}

impl Store {
    /// The store that a reference leads to.
    pub fn open(reference: &Reference) -> Result<Self> {
        let path = &reference.path;
        if reference.kind == Kind::Layout {
            let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
            if !metadata.is_dir() {
                let shown = Shown(path);
                return Err(Error::Request(format!(
                    "{shown} is no directory, as \"oci:\" expects; for a tar there are \
                     \"oci-archive:\" and \"docker-archive:\""
                )));
            }
            return Ok(Store {
                place: Place::Directory(path.clone()),
                inputs: RefCell::default(),
            });
        }
        let (file, metadata) = open::regular(path)?;
        let size = metadata.len();
        let (compression, _) = crate::compression::look(&file).map_err(Error::io("read", path))?;
        if let Some(compression) = compression {
            let shown = Shown(path);
            return Err(Error::of(
                error::Kind::Unsupported,
                format!("{shown} is compressed ({compression}): unpack it first"),
            ));
        }
        let mut tree = Tree::new();
        apply_archive(FileInput::new(file, size), &mut tree, 0, &mut ())
            .map_err(Error::archive(path))?;
        let mut inputs = Inputs::default();
        inputs.add(path, metadata);
        Ok(Store {
            place: Place::Archive(path.clone(), Box::new(tree)),
            inputs: inputs.into(),
        })
    }

    /// The files that were found until now.
    pub fn inputs(&self) -> Inputs {
        self.inputs.borrow().clone()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Directory(path) | Place::Archive(path, _) => path,
        }
    }

    /// The blob with a digest. That the digest is right is not checked.
    pub fn blob(&self, digest: Digest) -> Result<Blob> {
        let name = format!("blobs/sha256/{digest}");
        let blob = self.find(&name)?;
        blob.ok_or_else(|| self.missing(&format!("the blob sha256:{digest}")))
    }

    /// A file that must be there.
    pub fn file(&self, name: &str) -> Result<Blob> {
        self.find(name)?.ok_or_else(|| self.missing(name))
    }

    /// The error that something is not there.
    fn missing(&self, what: &str) -> Error {
        Error::of(
            error::Kind::Container,
            format!("{}: {what} is missing", Shown(self.path())),
        )
    }

    /// A file. In a directory, its name must be harmless; in a tar nothing leads out.
    fn find(&self, name: &str) -> Result<Option<Blob>> {
        let blob = match &self.place {
            Place::Directory(path) => {
                let path = path.join(name);
                let metadata = match fs::metadata(&path) {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(Error::io("open", &path)(error)),
                };
                open::expect_regular(&path, &metadata)?;
                let size = metadata.len();
                self.inputs.borrow_mut().add(&path, metadata);
                Blob {
                    path,
                    inside: None,
                    size,
                }
            }
            Place::Archive(path, tree) => {
                let Some(found) = find_in(tree, name.as_bytes()) else {
                    return Ok(None);
                };
                let (size, pos) = match tree.inode(tree.inode_of(found)).content {
                    Content::File {
                        size,
                        data: Data::Contiguous(pos),
                        ..
                    } => (size, pos),
                    _ => {
                        let (shown, name) = (Shown(path), Quoted(name.as_bytes()));
                        return Err(Error::of(
                            error::Kind::Container,
                            format!("{shown}: {name} is no regular file, or one with holes"),
                        ));
                    }
                };
                Blob {
                    path: path.clone(),
                    inside: Some((pos, name.to_string())),
                    size,
                }
            }
        };
        Ok(Some(blob))
    }
}

/// What a path in a tree leads to. Symbolic links are followed, but never out of the tree.
fn find_in(tree: &Tree, path: &[u8]) -> Option<NameId> {
    let split = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/');
        parts.rev().map(<[u8]>::to_vec).collect()
    };
    let mut left = split(path);
    let mut at = NameId::ROOT;
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                at = tree.parent(at);
                continue;
            }
            _ => {}
        }
        let found = tree.lookup(at, &part)?;
        match tree.inode(tree.inode_of(found)).content {
            Content::Directory => at = found,
            Content::Symlink(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                let target = tree.text(target);
                if target.starts_with(b"/") {
                    at = NameId::ROOT;
                }
                left.append(&mut split(target));
            }
            _ => return left.is_empty().then_some(found),
        }
    }
    Some(at)
}

impl Blob {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file that consists of it.
    pub fn file(&self) -> Option<&Path> {
        self.inside.is_none().then_some(&self.path)
    }

    /// What to call it in messages.
    pub fn shown(&self) -> PathBuf {
        match &self.inside {
            None => self.path.clone(),
            Some((_, name)) => {
                let (path, name) = (Shown(&self.path), Quoted(name.as_bytes()));
                PathBuf::from(format!("{path}: {name}"))
            }
        }
    }

    /// Opens it for reading from its start to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn reader(&self) -> Result<BlobReader> {
        let (file, _) = open::regular(&self.path)?;
        Ok(BlobReader {
            file,
            pos: self.inside.as_ref().map_or(0, |(start, _)| *start),
            left: self.size,
        })
    }

    /// Reads a part of it.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or read, or ends before.
    pub fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.end > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (file, _) = open::regular(&self.path).map_err(io::Error::other)?;
        let start = self.inside.as_ref().map_or(0, |(start, _)| *start);
        let len = range.end.saturating_sub(range.start);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, start.saturating_add(range.start))?;
        Ok(bytes)
    }

    /// Reads a document, which must have the digest, if there is one.
    pub fn document(&self, digest: Option<Digest>) -> Result<Vec<u8>> {
        let shown = self.shown();
        if self.size > DOCUMENT_MAX {
            let (shown, size) = (Shown(&shown), self.size);
            return Err(Error::of(
                error::Kind::Container,
                format!("{shown}: a document of {size} bytes, expected at most {DOCUMENT_MAX}"),
            ));
        }
        let mut bytes = Vec::new();
        self.reader()?
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &shown))?;
        match digest {
            Some(digest) => check_digest(&shown, digest, Digest::of(&bytes)).map(|()| bytes),
            None => Ok(bytes),
        }
    }
}

/// Says that a blob is not what it is called.
pub fn check_digest(shown: &Path, expected: Digest, found: Digest) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let shown = Shown(shown);
    Err(Error::of(
        error::Kind::WrongDigest,
        format!("{shown}: its sha256 is {found}, expected {expected}"),
    ))
}

/// Reads a blob.
pub struct BlobReader {
    file: File,
    pos: u64,
    left: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = len.min(buf.len());
        let buf = buf.get_mut(..len).unwrap_or_default();
        let n = self.file.read_at(buf, self.pos)?;
        self.pos = self.pos.saturating_add(n as u64);
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}
