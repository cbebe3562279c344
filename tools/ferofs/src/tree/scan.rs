// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fills a tree from a directory: everything below it, on whatever filesystem it is, however long its paths
//! are. Directories are opened one in the other, and what was replaced since it was listed is an error: others may
//! be at work in them, and a link in the place of a directory must not lead anywhere.

use super::Attributes;
use super::Content;
use super::Data;
use super::Full;
use super::Inode;
use super::InodeId;
use super::NameId;
use super::Tree;
use super::Xattr;
use super::exclude::Exclude;
use crate::directory::Directory;
use crate::directory::Identity;
use crate::directory::kind_of;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::tar::Segment;
use crate::tar::Time;
use erofs_format::split_xattr_name;
use rustix::fs::FileType;
use rustix::fs::SeekFrom;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Directories that are kept open on the way to the present one. Those further up are opened again
/// when they are needed.
const OPEN_MAX: usize = 64;

/// Reads the directory `root` into a new tree. Its files' data stays where it is.
///
/// ```
/// use ferofs::image;
/// use ferofs::image::source::Directory;
/// use ferofs::tree::scan::scan;
/// use std::io::Cursor;
///
/// # let root = std::env::temp_dir().join(format!("scanned-{}", std::process::id()));
/// # std::fs::create_dir_all(root.join("etc"))?;
/// # std::fs::write(root.join("etc/motd"), "Hello!")?;
/// let tree = scan(&root, &mut |_names_done| {})?;
/// let options = image::Options::default()
///     .with_mode(image::Mode::Full)
///     .with_block_bits(12);
/// let mut image = Cursor::new(Vec::new());
/// let summary = image::write(&tree, &options, &Directory::new(root.clone()), &mut image)?;
/// assert_eq!((summary.inodes, summary.data), (3, 6));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When something in it cannot be read.
pub fn scan(root: &Path, progress: &mut dyn FnMut(u64)) -> Result<Tree> {
    scan_without(root, &Exclude::default(), progress)
}

/// Reads the directory `root`, but for what is excluded, into a new tree. Its files' data stays
/// where it is.
///
/// # Errors
///
/// When something in it cannot be read, or is replaced meanwhile.
pub fn scan_without(root: &Path, exclude: &Exclude, progress: &mut dyn FnMut(u64)) -> Result<Tree> {
    let failed = |errno: Errno| Error::io("read", root)(errno.into());
    let directory = Directory::open(root).map_err(failed)?;
    let stat = directory.stat().map_err(failed)?;
    let mut scanner = Scanner {
        root,
        exclude,
        tree: Tree::new(),
        links: HashMap::new(),
        open: Vec::new(),
        left: Vec::new(),
        count: 0,
    };
    let attributes = scanner
        .attributes(Attributed::Itself(&directory), &stat)
        .map_err(failed)?;
    let inode = scanner.tree.inode_of(NameId::ROOT);
    scanner.tree.inode_mut(inode).attributes = attributes.map_err(full)?;
    scanner.enter(NameId::ROOT, Identity::from(&stat), directory)?;
    progress(scanner.count);
    while let Some((name, identity)) = scanner.left.pop() {
        let directory = scanner
            .find(name, identity)
            .map_err(Error::io("read", &scanner.path(name)))?;
        scanner.enter(name, identity, directory)?;
        progress(scanner.count);
    }
    Ok(scanner.tree)
}

/// A directory on the way to the present one.
struct Level {
    name: NameId,
    identity: Identity,
    /// Open, unless there are too many of them.
    directory: Option<Directory>,
}

/// What has extended attributes.
enum Attributed<'a> {
    /// A directory itself.
    Itself(&'a Directory),
    /// What is open.
    Open(&'a File),
    /// What has a name in it.
    Entry(&'a Directory, &'a [u8]),
}

struct Scanner<'a> {
    root: &'a Path,
    exclude: &'a Exclude,
    tree: Tree,
    /// Files with several names, by what they are.
    links: HashMap<Identity, InodeId>,
    /// The directories on the way to the present one. The last one is open.
    open: Vec<Level>,
    /// Directories that are still to be read.
    left: Vec<(NameId, Identity)>,
    count: u64,
}

fn full(_: Full) -> Error {
    Error::of(Kind::TooLarge, Full.to_string())
}

fn replaced() -> io::Error {
    io::Error::other("it was replaced while it was read")
}

impl Scanner<'_> {
    /// Where something is, for messages.
    fn path(&self, name: NameId) -> PathBuf {
        let path = self.tree.path(name);
        let path = path.strip_prefix(b"/").unwrap_or(&path);
        match path.is_empty() {
            true => self.root.to_path_buf(),
            false => self.root.join(OsStr::from_bytes(path)),
        }
    }

    /// Opens a directory that was listed.
    fn find(&mut self, name: NameId, identity: Identity) -> io::Result<Directory> {
        let parent = self.tree.parent(name);
        while self.open.last().is_some_and(|level| level.name != parent) {
            let below = self.open.pop().and_then(|level| level.directory);
            let Some(level) = self.open.last_mut() else {
                break;
            };
            if let (None, Some(below)) = (&level.directory, below) {
                let above = below.above()?;
                if Identity::from(&above.stat()?) != level.identity {
                    return Err(replaced());
                }
                level.directory = Some(above);
            }
        }
        let above = self.open.last().and_then(|level| level.directory.as_ref());
        let directory = match above.map(|above| above.directory(self.tree.name_text(name))) {
            Some(Ok(directory)) => directory,
            // It is something else now, perhaps a link.
            Some(Err(Errno::NOTDIR | Errno::LOOP)) | None => return Err(replaced()),
            Some(Err(errno)) => return Err(errno.into()),
        };
        match Identity::from(&directory.stat()?) == identity {
            true => Ok(directory),
            false => Err(replaced()),
        }
    }

    /// Reads a directory, and stays in it.
    fn enter(&mut self, name: NameId, identity: Identity, directory: Directory) -> Result<()> {
        let entries = directory.entries();
        let entries =
            entries.map_err(|errno| Error::io("read", &self.path(name))(io::Error::from(errno)))?;
        let inside = match self.exclude.is_empty() {
            true => Vec::new(),
            false => self.tree.path(name),
        };
        for (entry, kind) in entries {
            if !self.exclude.is_empty() {
                let mut path = inside.clone();
                path.push(b'/');
                path.extend_from_slice(&entry);
                let path = path.strip_prefix(b"//").unwrap_or(&path);
                if self.exclude.matches(path) {
                    continue;
                }
            }
            self.entry(name, &directory, &entry, kind)?;
        }
        self.open.push(Level {
            name,
            identity,
            directory: Some(directory),
        });
        let far = self.open.len().checked_sub(OPEN_MAX + 1);
        if let Some(level) = far.and_then(|far| self.open.get_mut(far)) {
            level.directory = None;
        }
        Ok(())
    }

    /// Adds what has a name in a directory, and was listed as being of this type.
    fn entry(
        &mut self,
        above: NameId,
        directory: &Directory,
        name: &[u8],
        listed: FileType,
    ) -> Result<()> {
        let failed = |this: &Self, errno: Errno| {
            let path = this.path(above).join(OsStr::from_bytes(name));
            Error::io("read", &path)(errno.into())
        };
        // A file that is open is asked for its attributes without looking it up again, which takes half the time.
        let file = match listed {
            FileType::RegularFile => directory.file(name).ok(),
            _ => None,
        };
        let stat = match &file {
            Some(file) => rustix::fs::fstat(file),
            None => directory.stat_of(name),
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(errno) => return Err(failed(self, errno)),
        };
        let inode = match self.inode(directory, name, file.as_ref(), &stat) {
            Ok(inode) => inode.map_err(full)?,
            // A link that is none any more.
            Err(Errno::INVAL) if kind_of(&stat) == FileType::Symlink => {
                let path = self.path(above).join(OsStr::from_bytes(name));
                return Err(Error::io("read", &path)(replaced()));
            }
            Err(errno) => return Err(failed(self, errno)),
        };
        let child = self.tree.add_name(above, name, inode).map_err(full)?;
        self.count += 1;
        if kind_of(&stat) == FileType::Directory {
            self.left.push((child, Identity::from(&stat)));
        }
        Ok(())
    }

    fn inode(
        &mut self,
        directory: &Directory,
        name: &[u8],
        file: Option<&File>,
        stat: &Stat,
    ) -> rustix::io::Result<std::result::Result<InodeId, Full>> {
        let identity = Identity::from(stat);
        let kind = kind_of(stat);
        let linked = stat.st_nlink > 1 && kind != FileType::Directory;
        if let Some(inode) = self.links.get(&identity).filter(|_| linked) {
            return Ok(Ok(*inode));
        }
        let device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let content = match kind {
            FileType::Directory => Content::Directory,
            FileType::Symlink => match self.tree.keep(&directory.read_link(name)?) {
                Ok(target) => Content::Symlink(target),
                Err(full) => return Ok(Err(full)),
            },
            FileType::CharacterDevice => Content::CharDevice(device.0, device.1),
            FileType::BlockDevice => Content::BlockDevice(device.0, device.1),
            FileType::Fifo => Content::Fifo,
            FileType::Socket => Content::Socket,
            _ => Content::File {
                blob: 0,
                size,
                data: data(directory, name, file, stat, size),
            },
        };
        let what = match file {
            Some(file) => Attributed::Open(file),
            None => Attributed::Entry(directory, name),
        };
        let attributes = match self.attributes(what, stat)? {
            Ok(attributes) => attributes,
            Err(full) => return Ok(Err(full)),
        };
        let added = self.tree.add_inode(Inode {
            attributes,
            content,
        });
        if let Ok(inode) = added {
            if linked {
                self.links.insert(identity, inode);
            }
            if kind == FileType::RegularFile {
                self.tree.set_origin(inode, identity);
            }
        }
        Ok(added)
    }

    fn attributes(
        &mut self,
        what: Attributed<'_>,
        stat: &Stat,
    ) -> rustix::io::Result<std::result::Result<Attributes, Full>> {
        let xattrs = match self.tree.xattrs_mut().set(xattrs(what)?) {
            Ok(xattrs) => xattrs,
            Err(full) => return Ok(Err(full)),
        };
        Ok(Ok(Attributes {
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            // The kernel has nanoseconds below 1,000,000,000 only.
            mtime: Some(Time {
                sec: stat.st_mtime,
                nsec: stat.st_mtime_nsec as u32,
            }),
            xattrs,
        }))
    }
}

/// The extended attributes of something.
fn xattrs(what: Attributed<'_>) -> rustix::io::Result<Vec<Xattr>> {
    let names = read_whole(|buf| match what {
        Attributed::Itself(directory) => directory.list_xattrs(buf),
        Attributed::Open(file) => rustix::fs::flistxattr(file, buf),
        Attributed::Entry(directory, name) => directory.list_xattrs_of(name, buf),
    });
    let names = match names {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut xattrs = Vec::new();
    for key in names.split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        let Some((prefix, rest)) = split_xattr_name(key) else {
            continue;
        };
        let value = read_whole(|buf| match what {
            Attributed::Itself(directory) => directory.get_xattr(key, buf),
            Attributed::Open(file) => rustix::fs::fgetxattr(file, key, buf),
            Attributed::Entry(directory, name) => directory.get_xattr_of(name, key, buf),
        });
        let value = match value {
            Ok(value) => value,
            // It went away, or is made up by the filesystem.
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(errno) => return Err(errno),
        };
        xattrs.push(Xattr {
            prefix,
            name: rest.into(),
            value: value.into(),
        });
    }
    Ok(xattrs)
}

/// Where the data of a file is, if it has holes.
fn data(directory: &Directory, name: &[u8], open: Option<&File>, stat: &Stat, size: u64) -> Data {
    // Blocks of stat(2) have 512 bytes on every filesystem.
    let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
    if blocks.saturating_mul(512) >= size {
        return Data::Original;
    }
    let found = match open {
        Some(file) => segments(file, size),
        None => directory.file(name).and_then(|file| segments(&file, size)),
    };
    match found {
        Ok(segments) if segments.iter().map(|segment| segment.len).sum::<u64>() < size => {
            Data::SparseOriginal(segments.into())
        }
        // Reading will tell what is wrong with it, if anything is.
        _ => Data::Original,
    }
}

/// The segments of a file that are not holes.
fn segments(file: &File, size: u64) -> rustix::io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut end = 0;
    while end < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(end)) {
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            start => start?,
        };
        end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if end <= start {
            break;
        }
        segments.push(Segment {
            start,
            len: end - start,
            pos: start,
        });
    }
    Ok(segments)
}

/// Calls for something of unknown size, with more and more room for it.
fn read_whole(
    call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 256];
    loop {
        match call(&mut bytes) {
            Ok(filled) => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            // Linux has 64 KiB at most.
            Err(Errno::RANGE) if bytes.len() < 1 << 20 => {
                let len = bytes.len() * 4;
                bytes.resize(len, 0);
            }
            Err(errno) => return Err(errno),
        }
    }
}
