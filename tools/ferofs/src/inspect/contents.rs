// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The data of files, from an image and its blobs.
//!
//! ```
//! use ferofs::error::Error;
//! use ferofs::inspect::Image;
//! use ferofs::inspect::contents::Contents;
//! use std::path::Path;
//!
//! # use ferofs::image;
//! # use ferofs::tar::{Data, Entry, Kind};
//! # use ferofs::tree::Tree;
//! # use ferofs::tree::apply::apply_all;
//! # let mut tree = Tree::new();
//! # let kind = Kind::File { size: 6, data: Data::Contiguous(0) };
//! # apply_all(&mut tree, 0, [Entry::new(b"etc/motd", kind)])?;
//! # let options = image::Options::default().with_mode(image::Mode::Full);
//! # let mut out = std::io::Cursor::new(Vec::new());
//! # let data = image::source::Blobs(vec![b"Hello!".as_slice()]);
//! # image::write(&tree, &options, &data, &mut out)?;
//! # let bytes = out.into_inner();
//! let image = Image::new(Path::new("layer.erofs"), Box::new(bytes))?;
//! // Of an index, the tars are named here, or directories to find them in.
//! let contents = Contents::new(&image, &[], &[])?;
//! let mut found = Vec::new();
//! contents.copy(b"/etc/motd", &mut |piece| {
//!     found.extend_from_slice(piece);
//!     Ok::<(), Error>(())
//! })?;
//! assert_eq!(found, b"Hello!");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::Image;
use super::Unreadable;
use crate::blobs;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::read_at::ReadAt;
use crate::tar::HeaderDigest;
use crate::text::Quoted;
use crate::text::Shown;
use erofs_format::Extent;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Source;
use erofs_format::Space;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

/// Data is copied in pieces of this size.
const PIECE: u64 = 256 << 10;

/// A part of a file's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many zeros, which are nowhere.
    Hole(u64),
}

/// An image with its blobs.
pub struct Contents<'a> {
    image: &'a Image,
    blobs: Vec<Blob>,
    /// Set when what lies behind the image was found to be its blobs, if those are not given.
    behind: OnceLock<()>,
    /// Nobody knows whether these are the right blobs: nothing is read from them.
    uncertain: bool,
}

/// An open blob.
struct Blob {
    /// Its number, from 1 on.
    device: usize,
    path: PathBuf,
    file: Arc<dyn ReadAt>,
    /// What the headers of the right tar come to, if that is known.
    headers: Option<HeaderDigest>,
    /// Whether it was found to be that. Several threads may ask; one looks.
    checked: Mutex<bool>,
}

impl Blob {
    /// Fails if it is not the tar that the image was made from.
    fn check(&self, image: &Path) -> Result<()> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if !*checked {
            blobs::check_headers(image, self.device, self.headers, &self.path, &self.file)?;
            *checked = true;
        }
        Ok(())
    }
}

/// Where data is.
enum Place<'a> {
    Nowhere,
    Image(u64),
    /// In what an inode holds.
    Inode(u64, u64),
    Behind(u64),
    Blob(&'a Blob, u64),
}

impl<'a> Contents<'a> {
    /// Opens the blobs of an image: see [`blobs::assign`]. If none are given, they are looked for
    /// behind the image, in the same file. Wherever a tar is, before data of it is read it is compared with what the
    /// image knows of its headers.
    ///
    /// # Errors
    ///
    /// When one cannot be opened, or there are too few or too many.
    pub fn new(image: &'a Image, given: &[PathBuf], directories: &[PathBuf]) -> Result<Self> {
        let path = image.path();
        let slots = image.devices()?;
        let mut open = Vec::new();
        let headers = image.header_digests()?;
        let blobs = blobs::assign(path, &slots, given, directories)?;
        for blob in blobs {
            let file = File::open(&blob.path).map_err(Error::io("open", &blob.path))?;
            open.push((blob.path, file));
        }
        let mut contents = Self::of(image, open)?;
        for (blob, headers) in contents.blobs.iter_mut().zip(headers) {
            blob.headers = headers;
        }
        Ok(contents)
    }

    /// Compares all tars with what the image knows of them, whether data of them is read or not.
    ///
    /// # Errors
    ///
    /// When one is another one, or cannot be read.
    pub fn check_blobs(&self) -> Result<()> {
        let mut blobs = self.blobs.iter();
        blobs.try_for_each(|blob| blob.check(self.image.path()))
    }

    /// The same with blobs that are open already: one for each slot, or none.
    ///
    /// # Errors
    ///
    /// When the device table cannot be read.
    pub fn of<R: ReadAt + 'static>(image: &'a Image, blobs: Vec<(PathBuf, R)>) -> Result<Self> {
        image.devices()?;
        let blobs: Vec<_> = blobs
            .into_iter()
            .enumerate()
            .map(|(index, (path, file))| Blob {
                device: index + 1,
                path,
                file: Arc::new(file),
                headers: None,
                checked: Mutex::default(),
            })
            .collect();
        image.give(blobs.iter().map(|blob| Arc::clone(&blob.file)));
        Ok(Contents {
            image,
            blobs,
            behind: OnceLock::new(),
            uncertain: false,
        })
    }

    /// The same without reading anything from the blobs, since nobody knows whether they are the right
    /// ones. They still are what other images' blobs can be compared with.
    #[must_use]
    pub fn uncertain(mut self) -> Self {
        self.uncertain = true;
        self.image.give([]);
        self
    }

    /// The image.
    pub fn image(&self) -> &'a Image {
        self.image
    }

    /// Device and inode numbers of the files that all of it is in.
    pub(super) fn identities(&self) -> Vec<(u64, u64)> {
        let image = self.image.file().share().identity();
        let blobs = self.blobs.iter().map(|blob| blob.file.identity());
        blobs.chain([image]).flatten().collect()
    }

    /// Whether the data of an extent can be read, as far as is known without trying.
    pub fn has(&self, extent: &Extent) -> bool {
        self.place(extent).is_some()
    }

    /// Whether a device of this image and one of another are the same file. If neither is given, those of the same
    /// image are.
    pub fn is_same_blob(&self, id: u16, other: &Contents<'_>, other_id: u16) -> bool {
        let blob = |contents: &Contents<'_>, id: u16| {
            let index = usize::from(id).checked_sub(1)?;
            contents.blobs.get(index).map(|blob| blob.file.identity())
        };
        let identities = match (blob(self, id), blob(other, other_id)) {
            (None, None) if id == other_id => {
                let image = |contents: &Contents<'_>| contents.image.file().share().identity();
                (image(self), image(other))
            }
            (Some(one), Some(two)) => (one, two),
            _ => return false,
        };
        matches!(identities, (Some(one), Some(two)) if one == two)
    }

    /// Fills a buffer with the bytes that an extent begins with; it must have as many. The file that
    /// it is of is called in messages what `path` says.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn read_extent(
        &self,
        extent: &Extent,
        buffer: &mut [u8],
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let wanted = extent.skip_to(extent.start.saturating_add(done as u64));
            let Some((place, together)) = self.place(&wanted) else {
                return Err(self.no_device(&path(), "its data is in a device that is not given"));
            };
            let len = rest
                .len()
                .min(usize::try_from(together).unwrap_or(usize::MAX));
            let piece = rest.get_mut(..len).unwrap_or_default();
            self.fill(piece, &place, wanted.len, path)?;
            done += len;
        }
        Ok(())
    }

    /// Where an extent begins, and how many of its bytes lie there together, but for what it ends with: at least one.
    fn place(&self, extent: &Extent) -> Option<(Place<'_>, u64)> {
        match extent.source {
            Source::Hole => Some((Place::Nowhere, u64::MAX)),
            Source::Metadata { .. } | Source::Clusters { .. } => {
                let place = match extent.source.place()? {
                    (Space::Inode(nid), pos) => Place::Inode(nid, pos),
                    (_, pos) => Place::Image(pos),
                };
                Some((place, u64::MAX))
            }
            Source::Device { id, .. } if id > 0 && self.uncertain => None,
            Source::Device { id, pos } => {
                let located = self.image.file().locate(id, pos)?;
                let place = match usize::from(located.file).checked_sub(1) {
                    None if id > 0 => Place::Behind(located.pos),
                    None => Place::Image(located.pos),
                    Some(index) => Place::Blob(self.blobs.get(index)?, located.pos),
                };
                Some((place, located.len))
            }
        }
    }

    /// Gives the data of the regular file with a path to `write`, piece by piece.
    ///
    /// # Errors
    ///
    /// When there is no such file, it cannot be read, or writing fails.
    pub fn copy<E: From<Error>>(
        &self,
        path: &[u8],
        write: &mut dyn FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let inode = self.image.find(path)?;
        let refuse = |what: &str| self.refuse(path, what);
        match inode.kind() {
            FileKind::Regular => {}
            FileKind::Directory => return Err(refuse("a directory").into()),
            FileKind::Symlink => {
                let target = self.image.link_target(&inode)?;
                let what = format!("a symbolic link to {}", Quoted(&target));
                return Err(refuse(&what).into());
            }
            _ => return Err(refuse("not a regular file").into()),
        }
        let zeros = vec![0; PIECE as usize];
        self.read(&inode, path, &mut |piece| match piece {
            Piece::Data(bytes) => write(bytes),
            Piece::Hole(mut len) => {
                while len > 0 {
                    let now = len.min(PIECE);
                    write(zeros.get(..now as usize).unwrap_or_default())?;
                    len -= now;
                }
                Ok(())
            }
        })
    }

    fn wrong(&self, kind: Kind, path: &[u8], what: &str) -> Error {
        let (image, path) = (Shown(self.image.path()), Quoted(path));
        Error::of(kind, format!("{image}: {path}: {what}"))
    }

    fn refuse(&self, path: &[u8], what: &str) -> Error {
        self.wrong(Kind::Request, path, what)
    }

    fn no_device(&self, path: &[u8], what: &str) -> Error {
        self.wrong(Kind::NotFound, path, what)
    }

    /// Gives the data of a regular file, which messages call `path`, to `take`, piece by piece.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or `take` fails.
    pub fn read<E: From<Error>>(
        &self,
        inode: &Inode,
        path: &[u8],
        take: &mut dyn FnMut(Piece<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.read_called(inode, &|| path.to_vec(), take)
    }

    /// The same, with the path put together only when a message needs it.
    pub(super) fn read_called<E: From<Error>>(
        &self,
        inode: &Inode,
        path: &dyn Fn() -> Vec<u8>,
        take: &mut dyn FnMut(Piece<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut buffer = vec![0; PIECE.min(inode.size()) as usize];
        for extent in self.image.extents(inode) {
            let extent = extent?;
            if !matches!(extent.source, Source::Clusters { .. }) {
                self.read_part(&extent, extent.len, path, &mut buffer, take)?;
                continue;
            }
            // What is encoded may have holes of its own, which are as large as the file says.
            let mut done = 0;
            for cluster in self.image.clusters(inode)? {
                // What is wrong with one is seen when it is read, behind what is in front of it.
                let Ok(cluster) = cluster else { break };
                if !matches!(cluster.content, erofs_format::Content::Hole) {
                    continue;
                }
                let rest = extent.skip_to(done);
                let encoded = cluster.start.saturating_sub(done);
                self.read_part(&rest, encoded, path, &mut buffer, take)?;
                take(Piece::Hole(cluster.len))?;
                done = cluster.start.saturating_add(cluster.len);
            }
            let rest = extent.skip_to(done);
            self.read_part(
                &rest,
                extent.len.saturating_sub(done),
                path,
                &mut buffer,
                take,
            )?;
        }
        Ok(())
    }

    /// Gives the first bytes of an extent to `take`.
    fn read_part<E: From<Error>>(
        &self,
        extent: &Extent,
        len: u64,
        path: &dyn Fn() -> Vec<u8>,
        buffer: &mut [u8],
        take: &mut dyn FnMut(Piece<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut done = 0;
        while done < len {
            let rest = extent.skip_to(extent.start.saturating_add(done));
            let left = len - done;
            let Some((place, together)) = self.place(&rest) else {
                let what = match extent.source {
                    Source::Device { id, .. } => {
                        format!("its data is in device {id}, which is not given")
                    }
                    _ => "its data is nowhere".to_string(),
                };
                return Err(self.no_device(&path(), &what).into());
            };
            if let Place::Nowhere = place {
                take(Piece::Hole(left))?;
                break;
            }
            let now = PIECE.min(left).min(together);
            let piece = buffer.get_mut(..now as usize).unwrap_or_default();
            self.fill(piece, &place, rest.len, path)?;
            take(Piece::Data(piece))?;
            done += now;
        }
        Ok(())
    }

    /// Reads what is at a place, where `len` bytes are expected.
    fn fill(
        &self,
        piece: &mut [u8],
        place: &Place<'_>,
        len: u64,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<()> {
        let (name, pos, read) = match place {
            Place::Nowhere => {
                piece.fill(0);
                return Ok(());
            }
            Place::Image(pos) => {
                let read = self.image.file().read_exact_at(piece, *pos);
                (self.image.path(), *pos, read)
            }
            Place::Inode(nid, pos) => {
                let read = self.image.file().read_exact_in(piece, *nid, *pos);
                return read.map_err(|source| match source.kind() {
                    ErrorKind::UnexpectedEof => {
                        let what =
                            format!("its data is in what inode {nid} holds, which is shorter");
                        self.wrong(Kind::Damaged, &path(), &what)
                    }
                    _ => match Unreadable::of(&source) {
                        Some(unreadable) => {
                            self.wrong(unreadable.kind(), &path(), &unreadable.to_string())
                        }
                        None => Error::io("read", self.image.path())(source),
                    },
                });
            }
            Place::Behind(pos) => {
                if self.behind.get().is_none() {
                    self.image.check_behind()?;
                    self.behind.get_or_init(|| ());
                }
                let read = self.image.file().read_exact_at(piece, *pos);
                (self.image.path(), *pos, read)
            }
            Place::Blob(blob, pos) => {
                blob.check(self.image.path())?;
                (
                    blob.path.as_path(),
                    *pos,
                    blob.file.read_exact_at(piece, *pos),
                )
            }
        };
        read.map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => {
                let (name, end) = (Shown(name), pos.saturating_add(len));
                let what = format!("its data is at {pos} to {end} of {name}");
                self.wrong(
                    Kind::WrongBlob,
                    &path(),
                    &format!("{what}, which is shorter"),
                )
            }
            _ => Error::io("read", name)(source),
        })
    }
}
