// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fills a tree from a directory: everything below it, on whatever filesystem it is.

use super::Attributes;
use super::Content;
use super::Data;
use super::Full;
use super::Inode;
use super::InodeId;
use super::NameId;
use super::Tree;
use super::Xattr;
use super::XattrSet;
use super::exclude::Exclude;
use super::reach::reach;
use crate::error::Error;
use crate::error::Result;
use crate::tar::Segment;
use crate::tar::Time;
use erofs_format::split_xattr_name;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// Reads the directory `root` into a new tree. Its files' data stays where it is.
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
/// When something in it cannot be read.
pub fn scan_without(root: &Path, exclude: &Exclude, progress: &mut dyn FnMut(u64)) -> Result<Tree> {
    let mut scanner = Scanner {
        exclude,
        tree: Tree::new(),
        links: HashMap::new(),
        count: 0,
    };
    let metadata = fs::metadata(root).map_err(Error::io("read", root))?;
    let attributes = scanner.attributes(root, &metadata)?;
    let inode = scanner.tree.inode_of(NameId::ROOT);
    scanner.tree.inode_mut(inode).attributes = attributes;
    let mut left = vec![(NameId::ROOT, root.to_path_buf())];
    while let Some((name, path)) = left.pop() {
        scanner.directory(name, &path, &mut left)?;
        progress(scanner.count);
    }
    Ok(scanner.tree)
}

struct Scanner<'a> {
    exclude: &'a Exclude,
    tree: Tree,
    /// Files with several names, by device and inode number.
    links: HashMap<(u64, u64), InodeId>,
    count: u64,
}

fn full(_: Full) -> Error {
    Error::Request(Full.to_string())
}

impl Scanner<'_> {
    fn directory(
        &mut self,
        name: NameId,
        path: &Path,
        left: &mut Vec<(NameId, PathBuf)>,
    ) -> Result<()> {
        let reached = reach(path).map_err(Error::io("read", path))?;
        for entry in fs::read_dir(reached.path()).map_err(Error::io("read", path))? {
            let entry = entry.map_err(Error::io("read", path))?;
            let path = path.join(entry.file_name());
            if !self.exclude.is_empty() {
                let mut inside = self.tree.path(name);
                inside.push(b'/');
                inside.extend_from_slice(entry.file_name().as_bytes());
                let inside = inside.strip_prefix(b"//").unwrap_or(&inside);
                if self.exclude.matches(inside) {
                    continue;
                }
            }
            let metadata = entry.metadata().map_err(Error::io("read", &path))?;
            let inode = self
                .inode(&entry.path(), &metadata)
                .map_err(|error| error.about(&path))?;
            let child = self
                .tree
                .add_name(name, entry.file_name().as_bytes(), inode)
                .map_err(full)?;
            self.count += 1;
            if metadata.is_dir() {
                left.push((child, path));
            }
        }
        Ok(())
    }

    fn inode(&mut self, path: &Path, metadata: &Metadata) -> Result<InodeId> {
        let key = (metadata.dev(), metadata.ino());
        let linked = metadata.nlink() > 1 && !metadata.is_dir();
        if let Some(inode) = self.links.get(&key).filter(|_| linked) {
            return Ok(*inode);
        }
        let file_type = metadata.file_type();
        let device = || {
            (
                rustix::fs::major(metadata.rdev()),
                rustix::fs::minor(metadata.rdev()),
            )
        };
        let content = if file_type.is_dir() {
            Content::Directory
        } else if file_type.is_symlink() {
            let target = fs::read_link(path).map_err(Error::io("read", path))?;
            Content::Symlink(
                self.tree
                    .keep(target.as_os_str().as_bytes())
                    .map_err(full)?,
            )
        } else if file_type.is_char_device() {
            let (major, minor) = device();
            Content::CharDevice(major, minor)
        } else if file_type.is_block_device() {
            let (major, minor) = device();
            Content::BlockDevice(major, minor)
        } else if file_type.is_fifo() {
            Content::Fifo
        } else if file_type.is_socket() {
            Content::Socket
        } else {
            Content::File {
                blob: 0,
                size: metadata.len(),
                data: data(path, metadata),
            }
        };
        let attributes = self.attributes(path, metadata)?;
        let inode = self
            .tree
            .add_inode(Inode {
                attributes,
                content,
            })
            .map_err(full)?;
        if linked {
            self.links.insert(key, inode);
        }
        Ok(inode)
    }

    fn attributes(&mut self, path: &Path, metadata: &Metadata) -> Result<Attributes> {
        Ok(Attributes {
            mode: (metadata.mode() & 0o7777) as u16,
            uid: metadata.uid(),
            gid: metadata.gid(),
            // The kernel has nanoseconds below 1,000,000,000 only.
            mtime: Some(Time {
                sec: metadata.mtime(),
                nsec: metadata.mtime_nsec() as u32,
            }),
            xattrs: self.xattrs(path)?,
        })
    }

    fn xattrs(&mut self, path: &Path) -> Result<XattrSet> {
        let failed = |errno: Errno| Error::io("read the attributes of", path)(errno.into());
        let names = match read_whole(|buf| rustix::fs::llistxattr(path, buf)) {
            Ok(names) => names,
            Err(Errno::NOTSUP) => return Ok(XattrSet::NONE),
            Err(errno) => return Err(failed(errno)),
        };
        let mut xattrs = Vec::new();
        for name in names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            let Some((prefix, rest)) = split_xattr_name(name) else {
                continue;
            };
            let value = match read_whole(|buf| rustix::fs::lgetxattr(path, name, buf)) {
                Ok(value) => value,
                // It went away, or is made up by the filesystem.
                Err(Errno::NODATA | Errno::NOTSUP) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            xattrs.push(Xattr {
                prefix,
                name: rest.into(),
                value: value.into(),
            });
        }
        self.tree.xattrs_mut().set(xattrs).map_err(full)
    }
}

/// Where the data of a file is, if it has holes.
fn data(path: &Path, metadata: &Metadata) -> Data {
    // Blocks of stat(2) have 512 bytes on every filesystem.
    if metadata.blocks().saturating_mul(512) >= metadata.len() {
        return Data::Original;
    }
    match segments(path, metadata.len()) {
        Ok(segments)
            if segments.iter().map(|segment| segment.len).sum::<u64>() < metadata.len() =>
        {
            Data::SparseOriginal(segments.into())
        }
        // Reading will tell what is wrong with it, if anything is.
        _ => Data::Original,
    }
}

/// The segments of a file that are not holes.
fn segments(path: &Path, size: u64) -> rustix::io::Result<Vec<Segment>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let mut segments = Vec::new();
    let mut end = 0;
    while end < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(end)) {
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            start => start?,
        };
        end = rustix::fs::seek(&file, SeekFrom::Hole(start))?.min(size);
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
