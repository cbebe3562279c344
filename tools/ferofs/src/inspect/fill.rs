// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Gives files that [`extract`](super::extract) made their data and attributes.
//!
//! Most of the time is the filesystem's: half of it takes making a file, the other half writing it. So there are threads
//! for the latter ([`Filler::work`]), which get files a few at a time. They are open, so nothing is looked up by a name
//! again. Nobody waits for the others: what has to be done in order, directories and links, needs no file's data.

use super::Image;
use super::contents::Contents;
use super::contents::Piece;
use super::extract::Options;
use crate::directory::Node;
use crate::error::Error;
use crate::error::Result;
use erofs_format::FileKind;
use erofs_format::Inode;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CString;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::mpsc::Receiver;

/// So many files go to a thread together.
pub(super) const BATCH: usize = 16;
/// So many batches may wait for a thread. Their files are open.
pub(super) const WAITING: usize = 2;
/// More threads than this have no more to do.
pub(super) const THREADS: usize = 4;
/// Whom the kernel shows in the place of an owner that it has no number for.
const OVERFLOW_ID: u32 = 65_534;

/// The number of a directory in [`Names`].
pub(super) type Number = usize;

/// All directories that were extracted, each with its name and the one that it is in: paths would take more memory
/// than the image has bytes. The root comes first.
pub(super) struct Names(Mutex<Vec<(Number, Box<[u8]>)>>);

impl Names {
    fn all(&self) -> MutexGuard<'_, Vec<(Number, Box<[u8]>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, and gives its number.
    pub(super) fn add(&self, above: Number, name: &[u8]) -> Number {
        let mut all = self.all();
        all.push((above, name.into()));
        all.len() - 1
    }

    /// The directory above one, and its name in there.
    pub(super) fn get(&self, number: Number) -> Option<(Number, Box<[u8]>)> {
        self.all().get(number).cloned()
    }

    /// The path of what has a name in a directory; it begins with a slash.
    fn path(&self, mut number: Number, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name.into()];
        while number != 0 {
            let Some((above, name)) = self.get(number) else {
                break;
            };
            names.push(name);
            number = above;
        }
        names.reverse();
        let slash = b"/".as_slice();
        names
            .iter()
            .flat_map(|name| [slash, name])
            .collect::<Vec<_>>()
            .concat()
    }
}

/// A regular file that was made, and is empty.
pub(super) struct Made {
    pub(super) file: File,
    pub(super) inode: Inode,
    /// The directory that it is in, and its name there.
    pub(super) above: Number,
    pub(super) name: Box<[u8]>,
}

/// What files are filled from, and what became of it.
pub(super) struct Filler<'a> {
    contents: &'a Contents<'a>,
    image: &'a Image,
    target: &'a Path,
    options: Options,
    privileged: bool,
    pub(super) names: Names,
    /// What could not be kept, and of how many files.
    lost: Mutex<HashMap<&'static str, u64>>,
    /// The first failure of a thread.
    failure: OnceLock<Error>,
}

impl<'a> Filler<'a> {
    pub(super) fn new(contents: &'a Contents<'a>, target: &'a Path, options: Options) -> Self {
        Filler {
            contents,
            image: contents.image(),
            target,
            options,
            privileged: rustix::process::geteuid().is_root(),
            names: Names(Mutex::new(vec![(0, Box::default())])),
            lost: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    /// Whether a thread failed: what it failed at will be told by [`Self::finish`].
    pub(super) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Fills files until there are no more. What waits when one fails is tried all the same, since it has its name
    /// already.
    pub(super) fn work(&self, batches: &Mutex<Receiver<Vec<Made>>>) {
        loop {
            let next = batches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(batch) = next else {
                return;
            };
            for made in batch {
                if let Err(error) = self.fill(made) {
                    self.failure.get_or_init(|| error);
                }
            }
        }
    }

    /// What could not be kept, each with the number of files.
    ///
    /// # Errors
    ///
    /// The first failure of a thread.
    pub(super) fn finish(self) -> Result<Vec<String>> {
        if let Some(failure) = self.failure.into_inner() {
            return Err(failure);
        }
        let lost = self
            .lost
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut notes: Vec<String> = lost
            .iter()
            .map(|(what, count)| match count {
                1 => format!("{what}: 1 file"),
                count => format!("{what}: {count} files"),
            })
            .collect();
        notes.sort();
        Ok(notes)
    }

    pub(super) fn lose(&self, what: &'static str) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost.entry(what).or_default() += 1;
    }

    /// Where something is, for messages, by its path in the image.
    pub(super) fn shown(&self, path: &[u8]) -> PathBuf {
        let inside = path.strip_prefix(b"/").unwrap_or(path);
        let inside = inside.strip_suffix(b"/").unwrap_or(inside);
        match inside.is_empty() {
            true => self.target.to_path_buf(),
            false => self.target.join(OsStr::from_bytes(inside)),
        }
    }

    /// Writes the data of a file, and sets its attributes.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub(super) fn fill(&self, made: Made) -> Result<()> {
        let Made {
            file,
            inode,
            above,
            name,
        } = made;
        let path = || self.names.path(above, &name);
        let mut pos = 0_u64;
        // What is behind the last byte that was written.
        let mut hole = inode.size() > 0;
        self.contents
            .read_called(&inode, &path, &mut |piece| -> Result<()> {
                match piece {
                    Piece::Hole(len) => {
                        pos = pos.saturating_add(len);
                        hole = true;
                    }
                    Piece::Data(bytes) => {
                        let written = file.write_all_at(bytes, pos);
                        written.map_err(|error| Error::io("write", &self.shown(&path()))(error))?;
                        pos = pos.saturating_add(bytes.len() as u64);
                        hole = false;
                    }
                }
                Ok(())
            })?;
        if hole || pos != inode.size() {
            let sized = file.set_len(inode.size());
            sized.map_err(|error| Error::io("write", &self.shown(&path()))(error))?;
        }
        self.attributes_of_open(&inode, file.as_fd(), &path)
    }

    /// The permissions that a file is made with. They are those that it gets if nobody has more by them meanwhile:
    /// whoever the owner and the group are, others have as many as the group, and the owner is this process.
    pub(super) fn first_mode(&self, inode: &Inode) -> Mode {
        let bits = u32::from(inode.mode() & 0o777);
        let is_owner = !self.privileged || inode.uid() == 0;
        match is_owner && (bits >> 3) & 7 == bits & 7 {
            true => Mode::from_raw_mode(bits),
            false => Mode::RUSR | Mode::WUSR,
        }
    }

    /// Says of a failure what it is about. The path is put together when something fails, and not before: it may be
    /// long.
    fn failed<'p>(
        &'p self,
        doing: &'static str,
        path: &'p dyn Fn() -> Vec<u8>,
    ) -> impl FnOnce(Errno) -> Error + use<'p, 'a> {
        move |errno| Error::io(doing, &self.shown(&path()))(errno.into())
    }

    /// Sets the attributes of an open file or directory.
    ///
    /// # Errors
    ///
    /// When they cannot be set.
    pub(super) fn attributes_of_open(
        &self,
        inode: &Inode,
        fd: BorrowedFd<'_>,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<()> {
        // Most of it is so already, which is cheaper to see than to set.
        let stat = rustix::fs::fstat(fd).map_err(self.failed("open", path))?;
        let (uid, gid) = owner(inode);
        let is_owned = uid.is_none_or(|uid| uid.as_raw() == stat.st_uid)
            && gid.is_none_or(|gid| gid.as_raw() == stat.st_gid);
        let mut is_as_made = true;
        // The owner first: a change of it takes away capabilities and set-user-ID.
        if self.keeps_owner() && !is_owned {
            let set = rustix::fs::fchown(fd, uid, gid);
            self.owner_was_set(set, path)?;
            is_as_made = false;
        }
        for (key, value) in self.image.xattrs(inode)?.iter() {
            is_as_made = false;
            let Ok(key) = CString::new(key.as_slice()) else {
                continue;
            };
            let set = rustix::fs::fsetxattr(fd, key.as_c_str(), value, XattrFlags::empty());
            self.attribute_was_set(set, path)?;
        }
        let mode = self.mode(inode);
        if !is_as_made || Mode::from_raw_mode(stat.st_mode) != mode {
            rustix::fs::fchmod(fd, mode).map_err(self.failed("change the mode of", path))?;
        }
        rustix::fs::futimens(fd, &times(inode)).map_err(self.failed("set the time of", path))
    }

    /// Sets the attributes of what cannot be opened.
    ///
    /// # Errors
    ///
    /// When they cannot be set.
    pub(super) fn attributes_of_node(
        &self,
        inode: &Inode,
        node: &Node,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<()> {
        if self.keeps_owner() {
            let (uid, gid) = owner(inode);
            self.owner_was_set(node.set_owner(uid, gid), path)?;
        }
        for (key, value) in self.image.xattrs(inode)?.iter() {
            if !key.contains(&0) {
                self.attribute_was_set(node.set_xattr(key, value), path)?;
            }
        }
        if inode.kind() != FileKind::Symlink {
            let mode = self.mode(inode);
            node.set_mode(mode)
                .map_err(self.failed("change the mode of", path))?;
        }
        node.set_times(&times(inode))
            .map_err(self.failed("set the time of", path))
    }

    fn keeps_owner(&self) -> bool {
        if !self.privileged && !self.options.no_owner {
            self.lose("owner and group are not kept without root");
        }
        self.privileged && !self.options.no_owner
    }

    /// The permissions to set. Those that come from the owner are for nobody else.
    fn mode(&self, inode: &Inode) -> Mode {
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

    fn owner_was_set(&self, set: rustix::io::Result<()>, path: &dyn Fn() -> Vec<u8>) -> Result<()> {
        match set {
            Ok(()) => Ok(()),
            // A user namespace has not all owners.
            Err(Errno::PERM | Errno::INVAL) => {
                self.lose("owner and group may not be set here");
                Ok(())
            }
            Err(errno) => Err(self.failed("change the owner of", path)(errno)),
        }
    }

    fn attribute_was_set(
        &self,
        set: rustix::io::Result<()>,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<()> {
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
            Err(errno) => Err(self.failed("set an attribute of", path)(errno)),
        }
    }
}

fn owner(inode: &Inode) -> (Option<Uid>, Option<Gid>) {
    // All ones are nobody, whom a mount shows as the kernel's overflow ID.
    let shown = |id: u32| if id == u32::MAX { OVERFLOW_ID } else { id };
    (
        Some(Uid::from_raw(shown(inode.uid()))),
        Some(Gid::from_raw(shown(inode.gid()))),
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
