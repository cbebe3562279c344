// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Open directories, and what is in them by single names.
//!
//! Whatever is read, made, changed or replaced in directories that others may write to goes through here: by
//! the scan, the copying of its files' data, extraction, outputs and the cache of container images. A name is one
//! component, and if it is a symbolic link, it is that link and not what it leads to. So nobody who renames something
//! meanwhile can lead anywhere else. Paths that people name are followed once, by [`resolve`].

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Dev;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::io::Result;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Symbolic links followed on the way to one place; the kernel's limit.
const MAX_LINKS: u32 = 40;
/// The owner that files have whose owner a user namespace does not have, unless a system says otherwise.
const UNMAPPED: u32 = 65534;

/// Device and inode number: what a file is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Stat> for Identity {
    fn from(stat: &Stat) -> Self {
        Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl From<(u64, u64)> for Identity {
    fn from((device, inode): (u64, u64)) -> Self {
        Identity { device, inode }
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A name as system calls take it here: one component.
fn single(name: &[u8]) -> Result<&[u8]> {
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL),
        name if name.contains(&b'/') => Err(Errno::INVAL),
        name => Ok(name),
    }
}

/// A path that leads to an open file, whatever its name is.
fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The type of a file.
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Directory {
    /// Opens a directory by a path that somebody named. Links in it are followed.
    ///
    /// # Errors
    ///
    /// Those of opening it.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Directory { fd })
    }

    /// The same directory once more.
    ///
    /// # Errors
    ///
    /// When too many files are open.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?;
        Ok(Directory { fd })
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    ///
    /// Those of opening it; [`Errno::NOTDIR`] or [`Errno::LOOP`] if it is none.
    pub fn directory(&self, name: &[u8]) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, single(name)?, flags, Mode::empty())?;
        Ok(Directory { fd })
    }

    /// Opens a directory further down, name by name.
    ///
    /// # Errors
    ///
    /// As for [`Self::directory`].
    pub fn walk<'a>(&self, names: impl IntoIterator<Item = &'a [u8]>) -> Result<Self> {
        let mut at = None;
        for name in names {
            at = Some(at.as_ref().unwrap_or(self).directory(name)?);
        }
        at.map_or_else(|| self.try_clone(), Ok)
    }

    /// Opens the directory that this one is in. Whoever moved it meanwhile decides which one that is.
    ///
    /// # Errors
    ///
    /// Those of opening it.
    pub fn above(&self) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, c"..", flags, Mode::empty())?;
        Ok(Directory { fd })
    }

    /// Whether this directory is another one, or somewhere below it. What is above a mount counts, too.
    ///
    /// # Errors
    ///
    /// Those of opening the directories above.
    pub fn is_in(&self, other: Identity) -> Result<bool> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = Identity::from(&self.stat()?);
        let mut fd = None;
        while at != other {
            let here = fd.as_ref().unwrap_or(&self.fd);
            let above = rustix::fs::openat(here, c"..", flags, Mode::empty())?;
            let next = Identity::from(&rustix::fs::fstat(&above)?);
            // The root is above itself.
            if next == at {
                return Ok(false);
            }
            (at, fd) = (next, Some(above));
        }
        Ok(true)
    }

    /// Opens a file for reading. A named pipe in its place keeps nobody waiting, and no terminal becomes this process's.
    ///
    /// # Errors
    ///
    /// Those of opening it; [`Errno::LOOP`] if it is a link.
    pub fn file(&self, name: &[u8]) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::openat(&self.fd, single(name)?, flags, Mode::empty())?;
        Ok(fd.into())
    }

    /// Makes a file, which must not be there yet.
    ///
    /// # Errors
    ///
    /// Those of making it.
    pub fn create(&self, name: &[u8], mode: Mode) -> Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, single(name)?, flags, mode)?;
        Ok(fd.into())
    }

    /// Makes a file without a name, if the filesystem has such and it can get one by [`Self::name`].
    pub fn create_nameless(&self, mode: Mode) -> Option<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, c".", flags, mode).ok()?;
        rustix::fs::stat(path_of(fd.as_fd())).ok()?;
        Some(fd.into())
    }

    /// Gives a file without a name its first one.
    ///
    /// # Errors
    ///
    /// Those of making the name; [`Errno::EXIST`] if there is something.
    pub fn name(&self, file: &File, name: &[u8]) -> Result<()> {
        let from = path_of(file.as_fd());
        rustix::fs::linkat(CWD, from, &self.fd, single(name)?, AtFlags::SYMLINK_FOLLOW)
    }

    /// Makes another name for what is called `old` in the directory `from`.
    ///
    /// # Errors
    ///
    /// Those of making the name.
    pub fn link(&self, from: &Directory, old: &[u8], name: &[u8]) -> Result<()> {
        let (old, name) = (single(old)?, single(name)?);
        rustix::fs::linkat(&from.fd, old, &self.fd, name, AtFlags::empty())
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    ///
    /// Those of making it.
    pub fn symlink(&self, target: &[u8], name: &[u8]) -> Result<()> {
        rustix::fs::symlinkat(target, &self.fd, single(name)?)
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// Those of making it.
    pub fn make(&self, name: &[u8], mode: Mode) -> Result<()> {
        rustix::fs::mkdirat(&self.fd, single(name)?, mode)
    }

    /// Makes a device, a pipe or a socket.
    ///
    /// # Errors
    ///
    /// Those of making it.
    pub fn make_node(&self, name: &[u8], kind: FileType, mode: Mode, device: Dev) -> Result<()> {
        rustix::fs::mknodat(&self.fd, single(name)?, kind, mode, device)
    }

    /// Renames something in this directory, over what has the name already.
    ///
    /// # Errors
    ///
    /// Those of renaming.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        rustix::fs::renameat(&self.fd, single(from)?, &self.fd, single(to)?)
    }

    /// Removes anything but a directory.
    ///
    /// # Errors
    ///
    /// Those of removing it.
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, single(name)?, AtFlags::empty())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// Those of removing it.
    pub fn remove_directory(&self, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, single(name)?, AtFlags::REMOVEDIR)
    }

    /// What this directory is.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd)
    }

    /// What has a name.
    ///
    /// # Errors
    ///
    /// Those of looking it up.
    pub fn stat_of(&self, name: &[u8]) -> Result<Stat> {
        rustix::fs::statat(&self.fd, single(name)?, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    ///
    /// Those of reading it.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.fd, single(name)?, Vec::new())?;
        Ok(target.into_bytes())
    }

    /// The names in it.
    ///
    /// # Errors
    ///
    /// Those of reading it.
    pub fn names(&self) -> Result<Vec<Vec<u8>>> {
        let entries = self.entries()?;
        Ok(entries.into_iter().map(|(name, _)| name).collect())
    }

    /// The names in it, each with the type of what has it, if the filesystem says that here.
    ///
    /// # Errors
    ///
    /// Those of reading it.
    pub fn entries(&self) -> Result<Vec<(Vec<u8>, FileType)>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                entries.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(entries)
    }

    /// Fills a buffer with the names of its own extended attributes, each with a NUL behind it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn list_xattrs(&self, buffer: &mut [u8]) -> Result<usize> {
        rustix::fs::flistxattr(&self.fd, buffer)
    }

    /// Fills a buffer with the value of an extended attribute of its own.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn get_xattr(&self, key: &[u8], buffer: &mut [u8]) -> Result<usize> {
        rustix::fs::fgetxattr(&self.fd, key, buffer)
    }

    /// Fills a buffer with the names of something's extended attributes, each with a NUL behind it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn list_xattrs_of(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize> {
        rustix::fs::llistxattr(self.path_of(name)?, buffer)
    }

    /// Fills a buffer with the value of an extended attribute of something.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn get_xattr_of(&self, name: &[u8], key: &[u8], buffer: &mut [u8]) -> Result<usize> {
        rustix::fs::lgetxattr(self.path_of(name)?, key, buffer)
    }

    /// A path for calls that take no directory. The directory is this one wherever it is, and the name is
    /// one that they do not follow.
    fn path_of(&self, name: &[u8]) -> Result<Vec<u8>> {
        let mut path = path_of(self.fd.as_fd()).into_bytes();
        path.push(b'/');
        path.extend_from_slice(single(name)?);
        Ok(path)
    }

    /// Takes hold of what has a name without opening it, so that all that is done with it is done with the
    /// same.
    ///
    /// # Errors
    ///
    /// Those of looking it up.
    pub fn node(&self, name: &[u8]) -> Result<Node> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, single(name)?, flags, Mode::empty())?;
        Ok(Node { fd })
    }

    /// Writes the directory itself to the disk, if its filesystem can: not every one does.
    pub fn sync(&self) {
        // This one may be open for looking up names only.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::openat(&self.fd, c".", flags, Mode::empty()) {
            let _ = rustix::fs::fsync(fd);
        }
    }

    /// Whether somebody other than this process's user may write to it, or give it away. Root does not
    /// count, as root may do anything.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn is_open_to_others(&self) -> Result<bool> {
        let stat = self.stat()?;
        let owners = [0, rustix::process::geteuid().as_raw()];
        Ok(!owners.contains(&stat.st_uid) || stat.st_mode & 0o022 != 0)
    }
}

/// Anything with a name: a link, a device, a pipe. It is held, but not open.
pub struct Node {
    fd: OwnedFd,
}

impl Node {
    /// What it is.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd)
    }

    /// Sets its owner.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_owner(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
        rustix::fs::chownat(&self.fd, c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_xattr(&self, key: &[u8], value: &[u8]) -> Result<()> {
        rustix::fs::setxattr(path_of(self.fd.as_fd()), key, value, XattrFlags::empty())
    }

    /// Sets its permissions. Links have none.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_mode(&self, mode: Mode) -> Result<()> {
        rustix::fs::chmod(path_of(self.fd.as_fd()), mode)
    }

    /// Sets its times.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn set_times(&self, times: &Timestamps) -> Result<()> {
        rustix::fs::utimensat(CWD, path_of(self.fd.as_fd()), times, AtFlags::empty())
    }
}

/// An open file once more, for reading only.
///
/// # Errors
///
/// Those of opening it.
pub fn reopen(file: &File) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path_of(file.as_fd()), flags, Mode::empty())?.into())
}

/// A place for a file: the directory, open, and the name in it. There may be nothing yet.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub directory: Directory,
    /// The name.
    pub name: Vec<u8>,
}

/// Finds where a path that somebody named leads. If the last name in it is a link, `follow` says whether what
/// that leads to is meant.
///
/// To root, links of others are no way to anywhere: in a directory that they may write to they could have been
/// put there a moment ago.
///
/// # Errors
///
/// When the directory cannot be found, there is no name behind it, or links go round in circles.
pub fn resolve(path: &Path, follow: bool) -> io::Result<Place> {
    let split = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/');
        parts.rev().map(<[u8]>::to_vec).collect()
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let start = |path: &[u8]| -> Result<Directory> {
        let start = if path.starts_with(b"/") { c"/" } else { c"." };
        let fd = rustix::fs::open(start, flags | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Directory { fd })
    };
    let path = path.as_os_str().as_bytes();
    let mut at = start(path)?;
    let mut left = split(path);
    let mut links = 0;
    while let Some(part) = left.pop() {
        let is_last = left.is_empty();
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                let fd = rustix::fs::openat(&at.fd, c"..", flags, Mode::empty())?;
                at = Directory { fd };
                continue;
            }
            _ => {}
        }
        let found = match rustix::fs::openat(&at.fd, part.as_slice(), flags, Mode::empty()) {
            Err(Errno::NOENT) if is_last => None,
            found => Some(found?),
        };
        let stat = found.as_ref().map(rustix::fs::fstat).transpose()?;
        match (found, stat) {
            (Some(link), Some(stat))
                if kind_of(&stat) == FileType::Symlink && (follow || !is_last) =>
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                if !may_follow(stat.st_uid) {
                    let (name, owner) = (crate::text::Quoted(&part), stat.st_uid);
                    return Err(io::Error::other(format!(
                        "{name} on the way is a symbolic link of user {owner}, which root does not follow"
                    )));
                }
                let target = rustix::fs::readlinkat(&link, c"", Vec::new())?.into_bytes();
                if target.starts_with(b"/") {
                    at = start(&target)?;
                }
                left.append(&mut split(&target));
            }
            _ if is_last => {
                return Ok(Place {
                    directory: at,
                    name: part,
                });
            }
            (Some(fd), Some(stat)) if kind_of(&stat) == FileType::Directory => {
                at = Directory { fd };
            }
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    Err(Errno::ISDIR.into())
}

/// Whether a symbolic link with this owner may be followed.
fn may_follow(owner: u32) -> bool {
    let user = rustix::process::geteuid();
    if !user.is_root() || owner == 0 {
        return true;
    }
    // In a user namespace these are files of the system around it. Nobody in it can make any.
    let all = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    owner == UNMAPPED && !is_mapped(&all, UNMAPPED)
}

/// Whether a user namespace has a user, by its map: lines of its first user, the first one outside, and how many
/// there are.
fn is_mapped(map: &str, user: u32) -> bool {
    let mut ranges = map.lines().map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let first = numbers.next()?.ok()?;
        Some((first, numbers.nth(1)?.ok()?))
    });
    ranges.any(|range| match range {
        Some((first, count)) => user.checked_sub(first).is_some_and(|offset| offset < count),
        // What cannot be read is no reason to trust anybody.
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ferofs-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn no_name_leads_out_and_no_link_anywhere() {
        let scratch = Scratch::new("directory");
        fs::create_dir(scratch.0.join("in")).unwrap();
        fs::write(scratch.0.join("file"), b"outside").unwrap();
        symlink("..", scratch.0.join("in/up")).unwrap();
        symlink("../file", scratch.0.join("in/link")).unwrap();
        let directory = Directory::open(&scratch.0.join("in")).unwrap();
        for name in ["", ".", "..", "../file", "up/file", "/etc"] {
            let name = name.as_bytes();
            assert_eq!(directory.file(name).err(), Some(Errno::INVAL));
            assert_eq!(directory.directory(name).err(), Some(Errno::INVAL));
            assert_eq!(directory.remove(name).err(), Some(Errno::INVAL));
            assert_eq!(directory.rename(b"link", name).err(), Some(Errno::INVAL));
        }
        assert_eq!(directory.file(b"link").err(), Some(Errno::LOOP));
        assert_eq!(directory.directory(b"up").err(), Some(Errno::NOTDIR));
        assert_eq!(
            directory.walk([b"up".as_slice(), b"in"]).err(),
            Some(Errno::NOTDIR)
        );
        assert_eq!(
            directory.create(b"link", Mode::RUSR).err(),
            Some(Errno::EXIST)
        );
        assert_eq!(directory.read_link(b"link").unwrap(), b"../file");
        let node = directory.node(b"link").unwrap();
        assert_eq!(kind_of(&node.stat().unwrap()), FileType::Symlink);
        let time = rustix::fs::Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        node.set_times(&times).unwrap();
        node.set_owner(None, None).unwrap();
        // What it leads to stays as it is, the link does not.
        assert_eq!(directory.stat_of(b"link").unwrap().st_mtime, 5);
        let file = fs::metadata(scratch.0.join("file")).unwrap();
        assert_ne!(file.mtime(), 5);
        assert!(node.set_mode(Mode::RWXU).is_err() || file.mode() & 0o777 != 0o700);
        let mut names = directory.names().unwrap();
        names.sort();
        assert_eq!(names, [b"link".to_vec(), b"up".to_vec()]);
    }

    #[test]
    fn a_path_leads_where_the_kernel_says() {
        let scratch = Scratch::new("resolve");
        let path = |name: &str| scratch.0.join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/b/file"), b"").unwrap();
        symlink("a/b", path("short")).unwrap();
        symlink(path("short/../b/file"), path("far")).unwrap();
        symlink("short/new", path("new")).unwrap();
        symlink("round", path("round")).unwrap();
        for (from, follow, directory, name) in [
            ("a/b/file", true, "a/b", "file"),
            ("short/file", false, "a/b", "file"),
            ("short/./../b//file", true, "a/b", "file"),
            ("far", true, "a/b", "file"),
            ("far", false, ".", "far"),
            ("new", true, "a/b", "new"),
            ("a/nothing", true, "a", "nothing"),
            ("round", false, ".", "round"),
        ] {
            let place = resolve(&path(from), follow).unwrap();
            let expected = fs::metadata(path(directory)).unwrap();
            let found = Identity::from(&place.directory.stat().unwrap());
            assert_eq!(found, Identity::from(&expected), "{from}");
            assert_eq!(place.name, name.as_bytes(), "{from}");
        }
        for (from, errno) in [
            ("round", Errno::LOOP),
            ("a/b/file/more", Errno::NOTDIR),
            ("no/file", Errno::NOENT),
            ("a/..", Errno::ISDIR),
        ] {
            let error = resolve(&path(from), true).unwrap_err();
            let expected = io::Error::from(errno);
            assert_eq!(error.raw_os_error(), expected.raw_os_error(), "{from}");
        }
    }

    #[test]
    fn users_of_a_namespace_are_those_in_its_map() {
        let whole = "         0          0 4294967295\n";
        let some = "0 1000 1\n1 100000 65535\n";
        for (map, user, expected) in [
            (whole, UNMAPPED, true),
            (some, UNMAPPED, true),
            ("0 1000 1\n", UNMAPPED, false),
            ("0 1000 1\n", 0, true),
            ("", UNMAPPED, false),
            ("nonsense", UNMAPPED, true),
        ] {
            assert_eq!(is_mapped(map, user), expected, "{map} {user}");
        }
    }
}
