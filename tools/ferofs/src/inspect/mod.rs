// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Looking into images, through the same code that the kernel module reads them with.
//!
//! [`Image`] is an image in a file or in anything else that can be read, [`check`] walks all of it and lists what is wrong, [`contents`]
//! reads the data of files, [`extract`] writes them into a directory,
//! [`walk`] and [`statistics`] say what there is, [`diff`] what is different.

pub mod check;
pub mod contents;
mod decode;
pub mod diff;
mod encoded;
pub mod extract;
mod file;
mod fill;
pub mod fingerprints;
pub mod statistics;
mod unchanged;
pub mod walk;

use self::contents::Contents;
use crate::blobs;
use crate::compression::look;
use crate::error::Error;
use crate::error::NoImage;
use crate::error::Result;
use crate::image::header_digest;
use crate::read_at;
use crate::read_at::ReadAt;
use crate::tar::HeaderDigest;
use crate::tar::NamedValue;
use crate::tar::SharedXattrs;
use crate::tar::is_header;
use crate::tree::FingerprintName;
use crate::tree::fingerprint;
use erofs_format::Cluster;
use erofs_format::Clusters;
use erofs_format::Compression;
use erofs_format::DirEntry;
use erofs_format::Extent;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Metadata;
use erofs_format::Row;
use erofs_format::Space;
use erofs_format::Superblock;
use erofs_format::Xattr;
use erofs_format::ondisk;
use erofs_format::xattr_prefix;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

pub use decode::Problem as DecodeProblem;
pub use encoded::Unreadable;
pub use file::ImageFile;
pub use file::NotGiven;
pub use unchanged::is_unchanged;

/// Why something in an image cannot be read.
pub type ReadError = erofs_format::Error<std::io::Error>;

/// An image.
pub struct Image {
    path: PathBuf,
    file: ImageFile,
    superblock: Superblock,
    /// The attributes that were read last, and the bytes behind an inode that say which they are.
    last_xattrs: Mutex<Option<(Vec<u8>, SharedXattrs)>>,
}

/// The error for a file without a superblock, by what it seems to be.
fn no_image(path: &Path, bytes: &dyn ReadAt) -> std::io::Result<Error> {
    let mut start = [0; 512];
    bytes.read_full_at(&mut start, 0)?;
    let path = path.to_path_buf();
    let found = match is_header(&start) {
        true => Some(NoImage::Tar),
        false => match look(start.as_slice()) {
            Ok((None, _)) => None,
            // Of what it cannot read it says the name.
            Ok((Some(_), _)) | Err(_) => Some(NoImage::Compressed),
        },
    };
    Ok(match found {
        Some(found) => Error::NotAnImage { path, found },
        None => Error::Format {
            path,
            source: ReadError::NotErofs,
        },
    })
}

/// Bytes of an inode itself.
fn inode_size(inode: &Inode) -> u64 {
    let size = match inode.is_extended() {
        true => size_of::<ondisk::InodeExtended>(),
        false => size_of::<ondisk::InodeCompact>(),
    };
    size as u64
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: Vec<u8>,
    /// The inode it refers to.
    pub nid: u64,
    /// The kind of file, as the directory has it.
    pub file_type: u8,
    /// Its position in the directory.
    pub pos: u64,
}

impl From<&DirEntry<'_>> for Name {
    fn from(entry: &DirEntry<'_>) -> Self {
        let DirEntry {
            name,
            nid,
            file_type,
            pos,
            ..
        } = *entry;
        Name {
            name: name.to_vec(),
            nid,
            file_type,
            pos,
        }
    }
}

impl Image {
    /// Opens an image and reads its superblock.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or read, or its superblock is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Self::new(path, Box::new(file))
    }

    /// Reads the superblock of an image that is in anything: a file that is open already, bytes in
    /// memory. In messages it is called `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or its superblock is wrong.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use ferofs::inspect::Image;
    /// use std::path::Path;
    ///
    /// let bytes: Vec<u8> = std::fs::read("layer.erofs")?;
    /// let image = Image::new(Path::new("layer.erofs"), Box::new(bytes))?;
    /// for name in image.names(&image.root()?)? {
    ///     println!("{}", String::from_utf8_lossy(&name.name));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(path: &Path, bytes: Box<dyn ReadAt>) -> Result<Self> {
        let file = ImageFile::new(bytes).map_err(Error::io("open", path))?;
        let superblock = match Superblock::read(&file, ondisk::BLOCK_BITS_MAX) {
            Ok(superblock) => superblock,
            Err(ReadError::NotErofs) => {
                let no_image = no_image(path, &*file.share());
                return Err(no_image.map_err(Error::io("read", path))?);
            }
            Err(error) => return Err(Error::format(path)(error)),
        };
        let image = Image {
            path: path.to_path_buf(),
            file,
            superblock,
            last_xattrs: Mutex::default(),
        };
        image.file.set_superblock(&image.superblock);
        // If one of them is wrong that is said when they are asked for.
        if let Ok(slots) = image.devices() {
            let block = u64::from(image.superblock.block_size());
            image.file.set_slots(&slots, block);
        }
        Ok(image)
    }

    /// Gives files for the image's device slots, in their order. Names may lie in them, too, though no builder
    /// puts them there; without them the data of a device is looked for behind the image, in the same file.
    pub fn give(&self, devices: impl IntoIterator<Item = Arc<dyn ReadAt>>) {
        self.file.give(devices);
    }

    /// Opens the blobs of an image, and gives them: see [`blobs::assign`].
    ///
    /// # Errors
    ///
    /// When one cannot be opened, or there are too few or too many.
    pub fn open_devices(&self, given: &[PathBuf], directories: &[PathBuf]) -> Result<()> {
        Contents::new(self, given, directories).map(drop)
    }

    /// Where the image is, or what it is called.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The image's bytes.
    pub fn file(&self) -> &ImageFile {
        &self.file
    }

    /// Its superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Its size in bytes, with all that lies behind it in the same file.
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// The image's bytes from `pos` on, up to `len` of them: fewer only at its end.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn read(&self, pos: u64, len: usize) -> std::io::Result<Vec<u8>> {
        self.read_in(Space::Image, pos, len)
    }

    /// The same from any space.
    ///
    /// # Errors
    ///
    /// Those of reading, and when the device is not given.
    pub fn read_in(&self, space: Space, pos: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < len {
            let bytes = self
                .file
                .bytes(space, pos.saturating_add(all.len() as u64))?;
            let wanted = len - all.len();
            let piece = bytes.get(..wanted).unwrap_or(&bytes);
            if piece.is_empty() {
                break;
            }
            all.extend_from_slice(piece);
        }
        Ok(all)
    }

    /// Adds to an error which image it is about.
    fn error(&self) -> impl Fn(ReadError) -> Error {
        Error::format(&self.path)
    }

    /// What the superblock says of the algorithms that data is compressed with.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is wrong.
    pub fn compression(&self) -> Result<Compression> {
        self.superblock
            .compression(&self.file)
            .map_err(self.error())
    }

    /// The slots of its device table.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read, or is wrong.
    pub fn devices(&self) -> Result<Vec<erofs_format::DeviceSlot>> {
        (0..self.superblock.device_count())
            .map(|index| {
                self.superblock
                    .device(&self.file, index)
                    .map_err(self.error())
            })
            .collect()
    }

    /// The first device, counted from 1, that is not behind the image in the same file, where drivers look for
    /// what is not given.
    ///
    /// # Errors
    ///
    /// When the device table cannot be read.
    pub fn device_elsewhere(&self) -> Result<Option<usize>> {
        let block = u64::from(self.superblock.block_size());
        let is_behind = |slot: &erofs_format::DeviceSlot| {
            let start = slot.uniaddr.saturating_mul(block);
            start > 0 && start < self.size()
        };
        let slots = self.devices()?;
        let elsewhere = slots.iter().position(|slot| !is_behind(slot));
        Ok(elsewhere.map(|index| index + 1))
    }

    /// Compares what lies behind the image in the same file, where drivers look for devices that are not given, with
    /// what the image knows of the tars that belong there.
    ///
    /// # Errors
    ///
    /// When one is another tar or none, or cannot be read.
    pub fn check_behind(&self) -> Result<()> {
        let block = u64::from(self.superblock.block_size());
        let slots = self.devices()?.into_iter().zip(self.header_digests()?);
        for (device, (slot, expected)) in (1..).zip(slots) {
            let start = slot.uniaddr.saturating_mul(block);
            if start > 0 && start < self.size() {
                let bytes = self.file.share();
                let behind = read_at::From { bytes, start };
                blobs::check_headers_behind(&self.path, device, expected, &behind)?;
            }
        }
        Ok(())
    }

    /// The digests of the headers of the tars that the image has its data in, as far as it knows them; one for each slot.
    ///
    /// # Errors
    ///
    /// When the device table cannot be read.
    pub fn header_digests(&self) -> Result<Vec<Option<HeaderDigest>>> {
        let failed = |error| self.error()(ReadError::Io(error));
        let table = self.superblock.device_table_pos();
        let digest = |index: u16| {
            let slot = table.saturating_add(u64::from(index) * ondisk::DEVICE_SLOT_SIZE);
            let slot = self.read(slot, ondisk::DEVICE_SLOT_SIZE as usize);
            Ok(slot.map_err(failed)?.last_chunk().and_then(header_digest))
        };
        (0..self.superblock.device_count()).map(digest).collect()
    }

    /// The root directory.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is wrong.
    pub fn root(&self) -> Result<Inode> {
        self.superblock.root(&self.file).map_err(self.error())
    }

    /// An inode.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is wrong.
    pub fn inode(&self, nid: u64) -> Result<Inode> {
        self.superblock.inode(&self.file, nid).map_err(self.error())
    }

    /// What a directory lists, `.` and `..` too.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is wrong.
    pub fn names(&self, directory: &Inode) -> Result<Vec<Name>> {
        let mut names = Vec::new();
        let mut emit = |entry: &DirEntry<'_>| {
            names.push(Name::from(entry));
            true
        };
        directory
            .read_dir(&self.superblock, &self.file, 0, &mut emit)
            .map_err(self.error())?;
        Ok(names)
    }

    /// What has this name in a directory.
    ///
    /// # Errors
    ///
    /// When the directory or the inode cannot be read, or is wrong.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<Inode>> {
        let found = directory
            .lookup(&self.superblock, &self.file, name)
            .map_err(self.error())?;
        found.map(|found| self.inode(found.nid)).transpose()
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is wrong.
    pub fn link_target(&self, link: &Inode) -> Result<Vec<u8>> {
        let mut target = vec![0; ondisk::SYMLINK_MAX as usize];
        let len = link
            .read_link(&self.superblock, &self.file, &mut target)
            .map_err(self.error())?;
        target.truncate(len);
        Ok(target)
    }

    /// The extended attributes of a file: names as the kernel has them, and values. Those whose
    /// names have a prefix nobody knows are left out, and those that the file's name filter or one of the same name
    /// hides, as the kernel does. Files with the same ones, one behind the other, get the same list.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are wrong.
    pub fn xattrs(&self, inode: &Inode) -> Result<SharedXattrs> {
        let size = inode.xattr_size() as usize;
        if size == 0 {
            return Ok(Arc::default());
        }
        let failed = |error| self.error()(ReadError::Io(error));
        let body = inode.pos().saturating_add(inode_size(inode));
        let body = self.read_in(inode.space(), body, size);
        let body = body.map_err(failed)?;
        let last = || {
            self.last_xattrs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some((_, xattrs)) = last().as_ref().filter(|(of, _)| *of == body) {
            return Ok(Arc::clone(xattrs));
        }
        let xattrs: SharedXattrs = self.read_xattrs(inode)?.into();
        *last() = Some((body, Arc::clone(&xattrs)));
        Ok(xattrs)
    }

    /// The name of the attribute that files have their fingerprints in, if the image says that they have some.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is wrong.
    pub fn fingerprints(&self) -> Result<Option<FingerprintName>> {
        let mut name = [0; ondisk::NAME_MAX];
        let found = self.superblock.fingerprint_name(&self.file, &mut name);
        let found = found.map_err(self.error())?;
        Ok(found.map(|(prefix, len)| FingerprintName {
            prefix,
            name: name.get(..len).unwrap_or_default().into(),
        }))
    }

    /// Whether its files have fingerprints in the attribute of this name, as an image has that is made with them. Any
    /// image will do if none are wanted.
    pub fn has_fingerprints(&self, wanted: Option<&FingerprintName>) -> bool {
        wanted.is_none_or(|name| matches!(self.fingerprints(), Ok(Some(found)) if found == *name))
    }

    /// The fingerprint of a regular file, in the attribute of this name, if it has one.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is wrong.
    pub fn fingerprint(&self, inode: &Inode, name: &FingerprintName) -> Result<Option<Vec<u8>>> {
        if inode.kind() != FileKind::Regular {
            return Ok(None);
        }
        let get = |value: &mut [u8]| {
            let (meta, index) = (&self.file, name.prefix);
            let found = inode.get_xattr(&self.superblock, meta, index, &name.name, value);
            found.map_err(self.error())
        };
        let mut value = vec![0; fingerprint::VALUE_SIZE];
        let Some(size) = get(&mut value)? else {
            return Ok(None);
        };
        if size > value.len() {
            value.resize(size, 0);
            get(&mut value)?;
        }
        value.truncate(size);
        Ok(Some(value))
    }

    fn read_xattrs(&self, inode: &Inode) -> Result<Vec<NamedValue>> {
        let mut xattrs = Vec::new();
        let mut seen = HashSet::new();
        let mut failed = None;
        let mut emit = |xattr: &Xattr<'_>| {
            let Some(prefix) = xattr_prefix(xattr.index) else {
                return true;
            };
            let hidden = !inode.may_have_xattr(xattr.index, xattr.name);
            let name = [prefix.as_bytes(), xattr.name].concat();
            if hidden || !seen.insert(name.clone()) {
                return true;
            }
            let mut value = vec![0; usize::from(xattr.value_size)];
            if let Err(error) = xattr.read_value(&self.file, &mut value) {
                failed = Some(error);
                return false;
            }
            xattrs.push((name, value));
            true
        };
        inode
            .list_xattrs(&self.superblock, &self.file, &mut emit)
            .map_err(self.error())?;
        match failed {
            Some(error) => Err(self.error()(error)),
            None => Ok(xattrs),
        }
    }

    /// The extents of a file, from its start to its end.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are wrong.
    pub fn extents<'a>(&'a self, inode: &'a Inode) -> impl Iterator<Item = Result<Extent>> + 'a {
        let mut offset = 0;
        std::iter::from_fn(move || {
            if offset >= inode.size() {
                return None;
            }
            let extent = inode.extent(&self.superblock, &self.file, offset);
            offset = match &extent {
                Ok(extent) if extent.len > 0 => extent.start.saturating_add(extent.len),
                _ => u64::MAX,
            };
            Some(extent.map_err(self.error()))
        })
    }

    /// What says where the extents of a compressed file are; none of any other file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is wrong.
    pub fn cluster_table(&self, inode: &Inode) -> Result<Option<Clusters>> {
        let clusters = inode.clusters(&self.superblock, &self.file);
        clusters.map_err(self.error())
    }

    /// The extents of a compressed file, from its start to its end, by their physical clusters; of any other file there are none.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are wrong.
    pub fn clusters<'a>(
        &'a self,
        inode: &'a Inode,
    ) -> Result<impl Iterator<Item = Result<Cluster>> + 'a> {
        let clusters = self.cluster_table(inode)?;
        let mut offset = 0;
        let mut row = Row::default();
        Ok(std::iter::from_fn(move || {
            let clusters = clusters.as_ref().filter(|_| offset < inode.size())?;
            let cluster = clusters.at_after(&self.superblock, &self.file, offset, &mut row);
            offset = match &cluster {
                Ok(cluster) => cluster.start.saturating_add(cluster.len),
                Err(_) => u64::MAX,
            };
            Some(cluster.map_err(self.error()))
        }))
    }

    /// What has a path in the image. Symbolic links are not followed; `..` works as it is stored.
    ///
    /// # Errors
    ///
    /// When there is nothing with that path, or something on the way to it is wrong.
    pub fn find(&self, path: &[u8]) -> Result<Inode> {
        let mut at = self.root()?;
        for part in path
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
        {
            let missing = |problem| Error::NotFound {
                image: self.path.clone(),
                path: path.to_vec(),
                problem,
            };
            if at.kind() != FileKind::Directory {
                return Err(missing("something above it is no directory"));
            }
            if part == b"." {
                continue;
            }
            let Some(found) = self.lookup(&at, part)? else {
                return Err(missing("not in the image"));
            };
            at = found;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server may hold them, and look at one with several threads.
    #[test]
    fn images_are_for_several_threads() {
        fn is<T: Send + Sync>() {}
        is::<Image>();
        is::<contents::Contents<'_>>();
        is::<crate::merge::Merge>();
        is::<crate::merge::Tails>();
        let bytes = [vec![0; 1024], ondisk::SUPER_MAGIC.to_le_bytes().to_vec()].concat();
        let bytes = [bytes, vec![9; 4096]].concat();
        let file = ImageFile::new(Box::new(bytes.clone())).unwrap();
        std::thread::scope(|scope| {
            for start in 0..4 {
                let (file, bytes) = (&file, &bytes);
                scope.spawn(move || {
                    for at in (start..bytes.len()).step_by(97) {
                        let found =
                            erofs_format::Metadata::bytes(file, Space::Image, at as u64).unwrap();
                        assert_eq!(*found, bytes[at..]);
                    }
                });
            }
        });
    }
}
