// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writes all files of an image into a directory, as extracting a tar does.
//!
//! Nothing ends up outside of the directory, whatever the image has: names are single components,
//! each is opened relative to the directory it is in, and no symbolic link is ever followed. Called
//! by `ferofs check --extract`.

use super::Image;
use super::Name;
use super::contents::Contents;
use super::contents::Piece;
use crate::error::Error;
use crate::error::Result;
use crate::text::Quoted;
use crate::text::Shown;
use erofs_format::FileKind;
use erofs_format::Inode;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// Directories that are kept open on the way to the present one. Those further up are opened again
/// when they are needed.
const OPEN_MAX: usize = 64;

/// How to extract.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Extract into a directory that is not empty. What is there and is in the image, too, is
    /// replaced, except that directories stay what they are.
    pub force: bool,
    /// Leave owner and group to the system, as is always done without root.
    pub no_owner: bool,
}

/// What was extracted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Directories, the root among them.
    pub directories: u64,
    /// Other names.
    pub files: u64,
    /// What could not be kept, each with the number of files.
    pub notes: Vec<String>,
}

/// Extracts an image into `target`, which is made if it is not there. `progress` is told how many
/// names are done.
///
/// # Errors
///
/// When the target is not empty, something cannot be read or written, or the image is wrong in a way
/// that makes extracting it pointless. What was written until then stays.
pub fn extract(
    contents: &Contents<'_>,
    target: &Path,
    options: Options,
    progress: &mut dyn FnMut(u64),
) -> Result<Extracted> {
    let root_fd = open_target(target, options.force)?;
    let root = contents.image().root()?;
    let mut extractor = Extractor {
        contents,
        image: contents.image(),
        target,
        options,
        privileged: rustix::process::geteuid().is_root(),
        root: root_fd,
        stack: Vec::new(),
        path: Vec::new(),
        seen: HashSet::from([root.nid()]),
        first: HashMap::new(),
        extracted: Extracted::default(),
        lost: HashMap::new(),
    };
    extractor.run(root, progress)?;
    let mut notes: Vec<String> = extractor
        .lost
        .iter()
        .map(|(what, count)| match count {
            1 => format!("{what}: 1 file"),
            count => format!("{what}: {count} files"),
        })
        .collect();
    notes.sort();
    extractor.extracted.notes = notes;
    Ok(extractor.extracted)
}

/// Opens the directory to extract into.
fn open_target(target: &Path, force: bool) -> Result<OwnedFd> {
    match std::fs::create_dir(target) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = std::fs::read_dir(target).map_err(Error::io("open", target))?;
            if !force && entries.next().is_some() {
                let target = Shown(target);
                return Err(Error::Request(format!(
                    "{target} is not empty; --force extracts into it anyway"
                )));
            }
        }
        Err(error) => return Err(Error::io("create", target)(error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(target, flags, Mode::empty())
        .map_err(|errno| Error::io("open", target)(errno.into()))
}

/// A directory that is being extracted.
struct Level {
    inode: Inode,
    /// Open, unless there are too many of them.
    fd: Option<OwnedFd>,
    names: std::vec::IntoIter<Name>,
}

struct Extractor<'a> {
    contents: &'a Contents<'a>,
    image: &'a Image,
    target: &'a Path,
    options: Options,
    privileged: bool,
    root: OwnedFd,
    stack: Vec<Level>,
    /// Names on the way to the present directory.
    path: Vec<CString>,
    /// Directories that were extracted.
    seen: HashSet<u64>,
    /// Where files with several names were extracted first: the names on the way there.
    first: HashMap<u64, Vec<CString>>,
    extracted: Extracted,
    /// What could not be kept, and of how many files.
    lost: HashMap<&'static str, u64>,
}

impl Extractor<'_> {
    fn run(&mut self, root: Inode, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let fd = self.root.try_clone();
        let fd = fd.map_err(Error::io("open", self.target))?;
        self.enter(root, fd)?;
        while let Some(level) = self.stack.last_mut() {
            let Some(name) = level.names.next() else {
                self.leave()?;
                continue;
            };
            if matches!(name.name.as_slice(), b"." | b"..") {
                continue;
            }
            self.entry(&name)?;
            progress(self.extracted.directories + self.extracted.files);
        }
        Ok(())
    }

    /// Begins with a directory that is there.
    fn enter(&mut self, inode: Inode, fd: OwnedFd) -> Result<()> {
        let names = self.image.names(&inode)?.into_iter();
        let fd = Some(fd);
        self.stack.push(Level { inode, fd, names });
        let far = self.stack.len().checked_sub(OPEN_MAX);
        if let Some(level) = far.and_then(|far| self.stack.get_mut(far)) {
            level.fd = None;
        }
        self.extracted.directories += 1;
        Ok(())
    }

    /// Ends with a directory: its attributes come last, as they may forbid to write in it.
    fn leave(&mut self) -> Result<()> {
        let fd = self.directory()?;
        let Some(level) = self.stack.pop() else {
            return Ok(());
        };
        self.attributes_of_open(&level.inode, fd.as_fd(), b"")?;
        self.path.pop();
        Ok(())
    }

    /// The present directory.
    fn directory(&mut self) -> Result<OwnedFd> {
        let failed = Error::io("open", self.target);
        let open = self.stack.last().and_then(|level| level.fd.as_ref());
        match open {
            Some(fd) => fd.try_clone().map_err(failed),
            None => {
                let fd = self.walk(&self.path)?;
                if let Some(level) = self.stack.last_mut() {
                    level.fd = Some(fd.try_clone().map_err(failed)?);
                }
                Ok(fd)
            }
        }
    }

    /// Opens a directory that was extracted before, name by name.
    fn walk(&self, path: &[CString]) -> Result<OwnedFd> {
        let mut fd = self.root.try_clone();
        for name in path {
            let above = fd.map_err(Error::io("open", self.target))?;
            fd = open_directory(&above, name).map_err(io::Error::from);
        }
        fd.map_err(Error::io("open", self.target))
    }

    /// Where something is, for messages.
    fn shown(&self, name: &[u8]) -> PathBuf {
        let mut shown = self.target.to_path_buf();
        for part in self.path.iter().map(|part| part.as_bytes()).chain([name]) {
            if !part.is_empty() {
                shown.push(std::ffi::OsString::from_vec(part.to_vec()));
            }
        }
        shown
    }

    /// The path in the image, for messages about the image.
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for part in self.path.iter().map(|part| part.as_bytes()).chain([name]) {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        path
    }

    fn failed(&self, doing: &'static str, name: &[u8]) -> impl FnOnce(Errno) -> Error {
        let path = self.shown(name);
        move |errno| Error::io(doing, &path)(errno.into())
    }

    fn lose(&mut self, what: &'static str) {
        *self.lost.entry(what).or_default() += 1;
    }

    fn entry(&mut self, name: &Name) -> Result<()> {
        let inode = self.image.inode(name.nid)?;
        let raw = name.name.as_slice();
        // The format crate gives no such names; this is where it would matter.
        let sound = !matches!(raw, b"" | b"." | b"..") && !raw.contains(&b'/');
        let Some(c_name) = CString::new(raw).ok().filter(|_| sound) else {
            let shown = Quoted(raw).to_string();
            return Err(Error::Request(format!(
                "{shown} cannot be the name of a file"
            )));
        };
        let directory = self.directory()?;
        if inode.kind() == FileKind::Directory {
            if !self.seen.insert(inode.nid()) {
                let path = self.path_of(raw);
                return Err(Error::Request(format!(
                    "{}: {}: the directory has another name, too",
                    Shown(self.image.path()),
                    Quoted(&path)
                )));
            }
            let fd = self.make_directory(&directory, &c_name)?;
            self.path.push(c_name);
            return self.enter(inode, fd);
        }
        self.make_room(&directory, &c_name)?;
        self.extracted.files += 1;
        if let Some(first) = self.first.get(&inode.nid()) {
            return self.link(first, &directory, &c_name);
        }
        if !self.make(&inode, &directory, &c_name)? {
            return Ok(());
        }
        if inode.nlink() > 1 {
            let path = [self.path.as_slice(), &[c_name]].concat();
            self.first.insert(inode.nid(), path);
        }
        Ok(())
    }

    fn make_directory(&self, above: &OwnedFd, name: &CString) -> Result<OwnedFd> {
        let failed = |doing| self.failed(doing, name.as_bytes());
        match rustix::fs::mkdirat(above, name.as_c_str(), Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) if self.options.force => {
                if open_directory(above, name).is_err() {
                    // It is something else, or a link.
                    self.make_room(above, name)?;
                    rustix::fs::mkdirat(above, name.as_c_str(), Mode::RWXU)
                        .map_err(failed("create"))?;
                }
            }
            Err(errno) => return Err(failed("create")(errno)),
        }
        open_directory(above, name).map_err(failed("open"))
    }

    /// Removes what has a name already, if that is allowed.
    fn make_room(&self, directory: &OwnedFd, name: &CString) -> Result<()> {
        if !self.options.force {
            return Ok(());
        }
        match rustix::fs::unlinkat(directory, name.as_c_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("replace", name.as_bytes())(errno)),
        }
    }

    fn link(&self, first: &[CString], directory: &OwnedFd, name: &CString) -> Result<()> {
        let failed = self.failed("create", name.as_bytes());
        let Some((old, path)) = first.split_last() else {
            return Ok(());
        };
        let from = self.walk(path)?;
        rustix::fs::linkat(
            &from,
            old.as_c_str(),
            directory,
            name.as_c_str(),
            AtFlags::empty(),
        )
        .map_err(failed)
    }

    /// Makes anything but a directory; false if that was not possible here.
    fn make(&mut self, inode: &Inode, directory: &OwnedFd, name: &CString) -> Result<bool> {
        let raw = name.as_bytes();
        let device = rustix::fs::makedev(inode.rdev_major(), inode.rdev_minor());
        let node = |kind| {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(directory, name.as_c_str(), kind, mode, device)
        };
        let made = match inode.kind() {
            FileKind::Regular => {
                self.regular(inode, directory, name)?;
                return Ok(true);
            }
            FileKind::Symlink => {
                let target = self.image.link_target(inode)?;
                let target = CString::new(target).unwrap_or_default();
                rustix::fs::symlinkat(target.as_c_str(), directory, name.as_c_str())
            }
            FileKind::CharacterDevice => node(FileType::CharacterDevice),
            FileKind::BlockDevice => node(FileType::BlockDevice),
            FileKind::Fifo => node(FileType::Fifo),
            FileKind::Socket => node(FileType::Socket),
            FileKind::Directory => return Ok(false),
        };
        match made {
            Ok(()) => {}
            // Without root, or as that of a user namespace.
            Err(Errno::PERM) => {
                self.lose("devices may not be made here, and are left out");
                return Ok(false);
            }
            Err(errno) => return Err(self.failed("create", raw)(errno)),
        }
        self.attributes(inode, directory, name)?;
        Ok(true)
    }

    fn regular(&mut self, inode: &Inode, directory: &OwnedFd, name: &CString) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let raw = name.as_bytes();
        let file = rustix::fs::openat(directory, name.as_c_str(), flags, mode)
            .map_err(self.failed("create", raw))?;
        let file = File::from(file);
        let (mut pos, shown) = (0_u64, self.shown(raw));
        let path = self.path_of(raw);
        self.contents
            .read(inode, &path, &mut |piece| -> Result<()> {
                match piece {
                    Piece::Hole(len) => pos = pos.saturating_add(len),
                    Piece::Data(bytes) => {
                        let written = file.write_all_at(bytes, pos);
                        written.map_err(Error::io("write", &shown))?;
                        pos = pos.saturating_add(bytes.len() as u64);
                    }
                }
                Ok(())
            })?;
        // A hole at the end.
        file.set_len(inode.size())
            .map_err(Error::io("write", &shown))?;
        self.attributes_of_open(inode, file.as_fd(), raw)
    }

    /// Sets the attributes of an open file or directory.
    fn attributes_of_open(
        &mut self,
        inode: &Inode,
        fd: std::os::fd::BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<()> {
        // The owner first: a change of it takes away capabilities and set-user-ID.
        if self.keeps_owner() {
            let (uid, gid) = owner(inode);
            let set = rustix::fs::fchown(fd, uid, gid);
            self.owner_was_set(set, name)?;
        }
        for (key, value) in self.image.xattrs(inode)?.iter() {
            let Ok(key) = CString::new(key.as_slice()) else {
                continue;
            };
            let set = rustix::fs::fsetxattr(fd, key.as_c_str(), value, XattrFlags::empty());
            self.attribute_was_set(set, name)?;
        }
        let mode = self.mode(inode);
        rustix::fs::fchmod(fd, mode).map_err(self.failed("change the mode of", name))?;
        rustix::fs::futimens(fd, &times(inode)).map_err(self.failed("set the time of", name))
    }

    /// Sets the attributes of what cannot be opened.
    fn attributes(&mut self, inode: &Inode, directory: &OwnedFd, name: &CString) -> Result<()> {
        let raw = name.as_bytes();
        if self.keeps_owner() {
            let (uid, gid) = owner(inode);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let set = rustix::fs::chownat(directory, name.as_c_str(), uid, gid, flags);
            self.owner_was_set(set, raw)?;
        }
        let xattrs = self.image.xattrs(inode)?;
        if !xattrs.is_empty() {
            // There is no call for this that takes a directory.
            let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
            path.extend_from_slice(raw);
            for (key, value) in xattrs.iter() {
                let Ok(key) = CString::new(key.as_slice()) else {
                    continue;
                };
                let flags = XattrFlags::empty();
                let set = rustix::fs::lsetxattr(path.as_slice(), key.as_c_str(), value, flags);
                self.attribute_was_set(set, raw)?;
            }
        }
        if inode.kind() != FileKind::Symlink {
            // Just made, and no link: nothing is followed.
            let mode = self.mode(inode);
            rustix::fs::chmodat(directory, name.as_c_str(), mode, AtFlags::empty())
                .map_err(self.failed("change the mode of", raw))?;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(directory, name.as_c_str(), &times(inode), flags)
            .map_err(self.failed("set the time of", raw))
    }

    fn keeps_owner(&mut self) -> bool {
        if !self.privileged && !self.options.no_owner {
            self.lose("owner and group are not kept without root");
        }
        self.privileged && !self.options.no_owner
    }

    /// The permissions to set. Those that come from the owner are for nobody else.
    fn mode(&mut self, inode: &Inode) -> Mode {
        let mode = Mode::from_raw_mode(u32::from(inode.mode() & 0o7777));
        let special = Mode::SUID | Mode::SGID;
        if !mode.intersects(special) || (self.privileged && !self.options.no_owner) {
            return mode;
        }
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if (inode.uid(), inode.gid()) == (uid.as_raw(), gid.as_raw()) {
            return mode;
        }
        self.lose("set-user-ID and set-group-ID are not kept without the owner");
        mode.difference(special)
    }

    fn owner_was_set(&mut self, set: rustix::io::Result<()>, name: &[u8]) -> Result<()> {
        match set {
            Ok(()) => Ok(()),
            // A user namespace has not all owners.
            Err(Errno::PERM | Errno::INVAL) => {
                self.lose("owner and group may not be set here");
                Ok(())
            }
            Err(errno) => Err(self.failed("change the owner of", name)(errno)),
        }
    }

    fn attribute_was_set(&mut self, set: rustix::io::Result<()>, name: &[u8]) -> Result<()> {
        match set {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => {
                self.lose("an extended attribute is not kept, as the file system has none");
                Ok(())
            }
            Err(Errno::PERM | Errno::ACCESS | Errno::INVAL) => {
                self.lose("an extended attribute is not kept, as it may not be set");
                Ok(())
            }
            Err(errno) => Err(self.failed("set an attribute of", name)(errno)),
        }
    }
}

fn open_directory(above: &OwnedFd, name: &CString) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(above, name.as_c_str(), flags, Mode::empty())
}

fn owner(inode: &Inode) -> (Option<Uid>, Option<Gid>) {
    // All ones mean that nothing is to be changed.
    let some = |id: u32| (id != u32::MAX).then_some(id);
    (
        some(inode.uid()).map(Uid::from_raw),
        some(inode.gid()).map(Gid::from_raw),
    )
}

fn times(inode: &Inode) -> Timestamps {
    let time = Timespec {
        tv_sec: inode.mtime(),
        tv_nsec: inode.mtime_nsec().into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
