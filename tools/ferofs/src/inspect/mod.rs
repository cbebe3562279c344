// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Looking into images, through the same code that the kernel module reads them with.
//!
//! [`Image`] is an image in a file or in anything else that can be read, [`check`] walks all of it and lists what is wrong, [`contents`]
//! reads the data of files, [`extract`] writes them into a directory,
//! [`walk`] and [`statistics`] say what there is, [`diff`] what is different.

pub mod check;
pub mod contents;
pub mod diff;
pub mod extract;
mod file;
pub mod statistics;
pub mod walk;

use self::contents::Contents;
use crate::error::Error;
use crate::error::Result;
use crate::read_at::ReadAt;
use crate::tar::NamedValue;
use crate::text::Shown;
use erofs_format::DirEntry;
use erofs_format::Extent;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Metadata;
use erofs_format::Space;
use erofs_format::Superblock;
use erofs_format::Xattr;
use erofs_format::ondisk;
use erofs_format::xattr_prefix;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

pub use file::ImageFile;
pub use file::NotGiven;

/// Why something in an image cannot be read.
pub type ReadError = erofs_format::Error<std::io::Error>;

/// An image.
pub struct Image {
    path: PathBuf,
    file: ImageFile,
    superblock: Superblock,
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
        let superblock =
            Superblock::read(&file, ondisk::BLOCK_BITS_MAX).map_err(Error::format(path))?;
        let image = Image {
            path: path.to_path_buf(),
            file,
            superblock,
        };
        // If one of them is wrong that is said when they are asked for.
        if let Ok(slots) = image.devices() {
            let block = u64::from(image.superblock.block_size());
            image.file.set_slots(&slots, block);
        }
        Ok(image)
    }

    /// Gives files for the image's device slots, in their order. Names may lie in them, too, though no builder
    /// puts them there; without them the data of a device is looked for behind the image, in the same file.
    pub fn give(&self, devices: impl IntoIterator<Item = Rc<dyn ReadAt>>) {
        self.file.give(devices);
    }

    /// Opens the blobs of an image, and gives them: see [`blobs::assign`](crate::mount::blobs::assign).
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
    /// names have a prefix nobody knows are left out, as the kernel does.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are wrong.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<NamedValue>> {
        let mut found = Vec::new();
        let mut emit = |xattr: &Xattr<'_>| {
            found.push((
                xattr.index,
                xattr.name.to_vec(),
                usize::from(xattr.value_size),
            ));
            true
        };
        inode
            .list_xattrs(&self.superblock, &self.file, &mut emit)
            .map_err(self.error())?;
        let mut xattrs = Vec::new();
        for (index, name, size) in found {
            let Some(prefix) = xattr_prefix(index) else {
                continue;
            };
            let mut value = vec![0; size];
            let read = inode
                .get_xattr(&self.superblock, &self.file, index, &name, &mut value)
                .map_err(self.error())?;
            if read.is_some() {
                xattrs.push(([prefix.as_bytes(), &name].concat(), value));
            }
        }
        Ok(xattrs)
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
            let shown = || format!("{}: {}", Shown(&self.path), crate::text::Quoted(path));
            if at.kind() != FileKind::Directory {
                let shown = shown();
                return Err(Error::Request(format!(
                    "{shown}: something above it is no directory"
                )));
            }
            if part == b"." {
                continue;
            }
            let Some(found) = self.lookup(&at, part)? else {
                return Err(Error::Request(format!("{}: not in the image", shown())));
            };
            at = found;
        }
        Ok(at)
    }
}
