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
use crate::directory;
use crate::directory::Directory;
use crate::directory::Identity;
use crate::directory::kind_of;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::setters::setters;
use crate::text::Quoted;
use crate::text::Shown;
use erofs_format::FileKind;
use erofs_format::Inode;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::ffi::CString;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

/// Directories that are kept open on the way to the present one. Those further up are opened again
/// when they are needed.
const OPEN_MAX: usize = 64;
/// Directories that are kept open since a file in them got another name.
const LINKED_MAX: usize = 16;

/// How to extract.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Extract into a directory that is not empty. What is there and is in the image, too, is
    /// replaced, except that directories stay what they are.
    pub force: bool,
    /// Leave owner and group to the system, as is always done without root.
    pub no_owner: bool,
}

impl Options {
    setters! {
        /// Says whether to extract into a directory that is not empty.
        with_force sets force: bool,
        /// Says whether owner and group are left to the system.
        with_no_owner sets no_owner: bool,
    }
}

/// What was extracted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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
/// ```
/// use ferofs::inspect::Image;
/// use ferofs::inspect::contents::Contents;
/// use ferofs::inspect::extract::Options;
/// use ferofs::inspect::extract::extract;
/// use std::path::Path;
///
/// # use ferofs::image;
/// # use ferofs::tar::{Data, Entry, Kind};
/// # use ferofs::tree::Tree;
/// # use ferofs::tree::apply::apply_all;
/// # let mut tree = Tree::new();
/// # let kind = Kind::File { size: 6, data: Data::Contiguous(0) };
/// # apply_all(&mut tree, 0, [Entry::new(b"etc/motd", kind)])?;
/// # let options = image::Options::default().with_mode(image::Mode::Full);
/// # let mut out = std::io::Cursor::new(Vec::new());
/// # let data = image::source::Blobs(vec![b"Hello!".as_slice()]);
/// # image::write(&tree, &options, &data, &mut out)?;
/// # let bytes = out.into_inner();
/// let image = Image::new(Path::new("layer.erofs"), Box::new(bytes))?;
/// let contents = Contents::new(&image, &[], &[])?;
/// let target = std::env::temp_dir().join(format!("extracted-{}", std::process::id()));
/// let options = Options::default().with_no_owner(true);
/// let extracted = extract(&contents, &target, options, &mut |_names_done| {})?;
/// assert_eq!(extracted.files, 1);
/// assert_eq!(std::fs::read(target.join("etc/motd"))?, b"Hello!");
/// # std::fs::remove_dir_all(&target)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    let root = contents.image().root()?;
    let mut extractor = Extractor {
        contents,
        image: contents.image(),
        target,
        options,
        privileged: rustix::process::geteuid().is_root(),
        directories: Directories::new(open_target(target, options.force)?),
        inputs: contents
            .identities()
            .into_iter()
            .map(Identity::from)
            .collect(),
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
fn open_target(target: &Path, force: bool) -> Result<Directory> {
    let failed = |doing| move |error: io::Error| Error::io(doing, target)(error);
    let directory = match directory::resolve(target, true) {
        Ok(place) => {
            match place
                .directory
                .make(&place.name, Mode::from_raw_mode(0o777))
            {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("create")(errno.into())),
            }
            place.directory.directory(&place.name)
        }
        // It ends with no name: `.` or `/`.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Directory::open(target),
        Err(error) => return Err(failed("create")(error)),
    };
    let directory = directory.map_err(|errno| failed("open")(errno.into()))?;
    let names = directory.names();
    let names = names.map_err(|errno| failed("open")(errno.into()))?;
    if !force && !names.is_empty() {
        let target = Shown(target);
        return Err(Error::of(
            Kind::Refused,
            format!("{target} is not empty; --force extracts into it anyway"),
        ));
    }
    Ok(directory)
}

/// The number of a directory in [`Directories`].
type Number = usize;

/// All directories that were extracted, each with its name and the one that it is in: the paths of files that may get
/// other names would take more memory than the image has bytes.
struct Directories {
    root: Rc<Directory>,
    /// The root comes first.
    all: Vec<(Number, Box<[u8]>)>,
    /// Some that are open: those that were looked for last, each before the ones that are older.
    open: VecDeque<(Number, Rc<Directory>)>,
}

impl Directories {
    fn new(root: Directory) -> Self {
        Directories {
            root: Rc::new(root),
            all: vec![(0, Box::default())],
            open: VecDeque::new(),
        }
    }

    fn add(&mut self, above: Number, name: &[u8]) -> Number {
        self.all.push((above, name.into()));
        self.all.len() - 1
    }

    /// Opens a directory that was extracted, name by name from one that is open: from those that were looked for last
    /// or those that `present` knows.
    fn find(
        &mut self,
        number: Number,
        present: impl Fn(Number) -> Option<Rc<Directory>>,
    ) -> rustix::io::Result<Rc<Directory>> {
        let mut names = Vec::new();
        let mut at = number;
        let mut directory = loop {
            if at == 0 {
                break Rc::clone(&self.root);
            }
            if let Some(place) = self.open.iter().position(|(open, _)| *open == at) {
                if let Some(open) = self.open.remove(place) {
                    let directory = Rc::clone(&open.1);
                    self.open.push_front(open);
                    break directory;
                }
            }
            if let Some(directory) = present(at) {
                break directory;
            }
            let Some((above, name)) = self.all.get(at) else {
                return Err(Errno::NOENT);
            };
            names.push((at, name.as_ref()));
            at = *above;
        };
        let mut found = Vec::new();
        while let Some((at, name)) = names.pop() {
            directory = Rc::new(directory.directory(name)?);
            // Another one that is looked for next is likely beside it.
            if names.len() < 2 {
                found.push((at, Rc::clone(&directory)));
            }
        }
        for found in found {
            self.open.push_front(found);
        }
        self.open.truncate(LINKED_MAX);
        Ok(directory)
    }
}

/// A directory that is being extracted.
struct Level {
    inode: Inode,
    number: Number,
    /// How long the path of the one above is.
    above: usize,
    identity: Identity,
    /// Open, unless there are too many of them.
    directory: Option<Rc<Directory>>,
    names: std::vec::IntoIter<Name>,
}

struct Extractor<'a> {
    contents: &'a Contents<'a>,
    image: &'a Image,
    target: &'a Path,
    options: Options,
    privileged: bool,
    directories: Directories,
    /// What the image and its data are in.
    inputs: Vec<Identity>,
    stack: Vec<Level>,
    /// The path of the present directory in the image: nothing for the root, otherwise it begins with a slash.
    path: Vec<u8>,
    /// Directories that were extracted.
    seen: HashSet<u64>,
    /// Where files with several names were extracted first, and what they are called there.
    first: HashMap<u64, (Number, Box<[u8]>)>,
    extracted: Extracted,
    /// What could not be kept, and of how many files.
    lost: HashMap<&'static str, u64>,
}

impl Extractor<'_> {
    fn run(&mut self, root: Inode, progress: &mut dyn FnMut(u64)) -> Result<()> {
        self.enter(root, 0, 0, Rc::clone(&self.directories.root))?;
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

    /// Begins with a directory that is there; `above` is how long the path of the one is that it is in.
    fn enter(
        &mut self,
        inode: Inode,
        number: Number,
        above: usize,
        directory: Rc<Directory>,
    ) -> Result<()> {
        let names = self.image.names(&inode)?.into_iter();
        let stat = directory.stat().map_err(self.failed("open", b""))?;
        self.stack.push(Level {
            inode,
            number,
            above,
            identity: Identity::from(&stat),
            directory: Some(directory),
            names,
        });
        let far = self.stack.len().checked_sub(OPEN_MAX);
        if let Some(level) = far.and_then(|far| self.stack.get_mut(far)) {
            level.directory = None;
        }
        self.extracted.directories += 1;
        Ok(())
    }

    /// Ends with a directory: its attributes come last, as they may forbid to write in it.
    fn leave(&mut self) -> Result<()> {
        let directory = self.directory()?;
        let above = self.stack.len().checked_sub(2);
        if let Some(level) = above.and_then(|above| self.stack.get_mut(above)) {
            if level.directory.is_none() {
                // If it was moved meanwhile, it is looked for from the start.
                let above = directory.above().ok();
                let is_same = |above: &Directory| {
                    let stat = above.stat();
                    stat.is_ok_and(|stat| Identity::from(&stat) == level.identity)
                };
                level.directory = above.filter(is_same).map(Rc::new);
            }
        }
        let Some(level) = self.stack.pop() else {
            return Ok(());
        };
        self.attributes_of_open(&level.inode, directory.as_fd(), b"")?;
        self.path.truncate(level.above);
        Ok(())
    }

    /// The present directory.
    fn directory(&mut self) -> Result<Rc<Directory>> {
        let Some(level) = self.stack.last() else {
            return Ok(Rc::clone(&self.directories.root));
        };
        if let Some(directory) = &level.directory {
            return Ok(Rc::clone(directory));
        }
        let directory = self.find(level.number)?;
        if let Some(level) = self.stack.last_mut() {
            level.directory = Some(Rc::clone(&directory));
        }
        Ok(directory)
    }

    /// Opens a directory that was extracted before.
    fn find(&mut self, number: Number) -> Result<Rc<Directory>> {
        let stack = &self.stack;
        // On the way down numbers grow.
        let present = |number| {
            let at = stack.binary_search_by_key(&number, |level| level.number);
            stack.get(at.ok()?)?.directory.clone()
        };
        let found = self.directories.find(number, present);
        found.map_err(|errno| Error::io("open", self.target)(errno.into()))
    }

    /// The path in the image, for messages about the image.
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [&self.path, b"/".as_slice(), name].concat()
    }

    /// Where something is, for messages.
    fn shown(&self, name: &[u8]) -> PathBuf {
        let path = self.path_of(name);
        let inside = path.strip_prefix(b"/").unwrap_or(&path);
        let inside = inside.strip_suffix(b"/").unwrap_or(inside);
        match inside.is_empty() {
            true => self.target.to_path_buf(),
            false => self.target.join(OsStr::from_bytes(inside)),
        }
    }

    /// Says of a failure what it is about. The path is put together when something fails, and not before: it may be
    /// long.
    fn failed(&self, doing: &'static str, name: &[u8]) -> impl FnOnce(Errno) -> Error {
        move |errno| Error::io(doing, &self.shown(name))(errno.into())
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
            return Err(Error::of(
                Kind::Damaged,
                format!("{shown} cannot be the name of a file"),
            ));
        };
        let directory = self.directory()?;
        if inode.kind() == FileKind::Directory {
            if !self.seen.insert(inode.nid()) {
                let path = self.path_of(raw);
                return Err(Error::of(
                    Kind::Damaged,
                    format!(
                        "{}: {}: the directory has another name, too",
                        Shown(self.image.path()),
                        Quoted(&path)
                    ),
                ));
            }
            let made = self.make_directory(&directory, &c_name)?;
            let number = self.directories.add(self.number(), raw);
            let above = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(raw);
            return self.enter(inode, number, above, Rc::new(made));
        }
        self.make_room(&directory, raw)?;
        self.extracted.files += 1;
        if inode.nlink() > 1 {
            if let Some((above, old)) = self.first.get(&inode.nid()).cloned() {
                return self.link(above, &old, &directory, raw);
            }
        }
        if !self.make(&inode, &directory, &c_name)? {
            return Ok(());
        }
        if inode.nlink() > 1 {
            self.first.insert(inode.nid(), (self.number(), raw.into()));
        }
        Ok(())
    }

    fn make_directory(&self, above: &Directory, name: &CString) -> Result<Directory> {
        let name = name.as_bytes();
        let failed = |doing| self.failed(doing, name);
        match above.make(name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) if self.options.force => {
                if above.directory(name).is_err() {
                    // It is something else, or a link.
                    self.make_room(above, name)?;
                    above.make(name, Mode::RWXU).map_err(failed("create"))?;
                }
            }
            Err(errno) => return Err(failed("create")(errno)),
        }
        above.directory(name).map_err(failed("open"))
    }

    /// Removes what has a name already, if that is allowed.
    fn make_room(&self, directory: &Directory, name: &[u8]) -> Result<()> {
        if !self.options.force {
            return Ok(());
        }
        let stat = directory.stat_of(name);
        if stat.is_ok_and(|stat| self.inputs.contains(&Identity::from(&stat))) {
            let path = self.shown(name);
            return Err(Error::of(
                Kind::Refused,
                format!(
                    "{} is what is extracted, or has data of it: it would be overwritten",
                    Shown(&path)
                ),
            ));
        }
        match directory.remove(name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("replace", name)(errno)),
        }
    }

    /// Gives the file called `old` in the directory `above` another name.
    fn link(
        &mut self,
        above: Number,
        old: &[u8],
        directory: &Directory,
        name: &[u8],
    ) -> Result<()> {
        let from = self.find(above)?;
        let linked = directory.link(&from, old, name);
        linked.map_err(self.failed("create", name))
    }

    /// The number of the present directory.
    fn number(&self) -> Number {
        self.stack.last().map_or(0, |level| level.number)
    }

    /// Makes anything but a directory; false if that was not possible here.
    fn make(&mut self, inode: &Inode, directory: &Directory, name: &CString) -> Result<bool> {
        let raw = name.as_bytes();
        let device = rustix::fs::makedev(inode.rdev_major(), inode.rdev_minor());
        let node = |kind| {
            let mode = Mode::RUSR | Mode::WUSR;
            directory.make_node(raw, kind, mode, device)
        };
        let made = match inode.kind() {
            FileKind::Regular => {
                self.regular(inode, directory, name)?;
                return Ok(true);
            }
            FileKind::Symlink => {
                let target = self.image.link_target(inode)?;
                directory.symlink(&target, raw)
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

    fn regular(&mut self, inode: &Inode, directory: &Directory, name: &CString) -> Result<()> {
        let raw = name.as_bytes();
        let file = directory.create(raw, self.first_mode(inode));
        let file = file.map_err(self.failed("create", raw))?;
        let (mut pos, above) = (0_u64, self.path.len());
        // What is behind the last byte that was written.
        let mut hole = inode.size() > 0;
        self.path.push(b'/');
        self.path.extend_from_slice(raw);
        let read = self
            .contents
            .read(inode, &self.path, &mut |piece| -> Result<()> {
                match piece {
                    Piece::Hole(len) => {
                        pos = pos.saturating_add(len);
                        hole = true;
                    }
                    Piece::Data(bytes) => {
                        let written = file.write_all_at(bytes, pos);
                        written.map_err(|error| Error::io("write", &self.shown(b""))(error))?;
                        pos = pos.saturating_add(bytes.len() as u64);
                        hole = false;
                    }
                }
                Ok(())
            });
        self.path.truncate(above);
        read?;
        if hole || pos != inode.size() {
            let sized = file.set_len(inode.size());
            sized.map_err(|error| Error::io("write", &self.shown(raw))(error))?;
        }
        self.attributes_of_open(inode, file.as_fd(), raw)
    }

    /// The permissions that a file is made with. They are those that it gets if nobody has more by them meanwhile:
    /// whoever the owner and the group are, others have as many as the group, and the owner is this process.
    fn first_mode(&self, inode: &Inode) -> Mode {
        let bits = u32::from(inode.mode() & 0o777);
        let is_owner = !self.privileged || inode.uid() == 0;
        match is_owner && (bits >> 3) & 7 == bits & 7 {
            true => Mode::from_raw_mode(bits),
            false => Mode::RUSR | Mode::WUSR,
        }
    }

    /// Sets the attributes of an open file or directory.
    fn attributes_of_open(
        &mut self,
        inode: &Inode,
        fd: std::os::fd::BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<()> {
        // Most of it is so already, which is cheaper to see than to set.
        let stat = rustix::fs::fstat(fd).map_err(self.failed("open", name))?;
        let (uid, gid) = owner(inode);
        let is_owned = uid.is_none_or(|uid| uid.as_raw() == stat.st_uid)
            && gid.is_none_or(|gid| gid.as_raw() == stat.st_gid);
        let mut is_as_made = true;
        // The owner first: a change of it takes away capabilities and set-user-ID.
        if self.keeps_owner() && !is_owned {
            let set = rustix::fs::fchown(fd, uid, gid);
            self.owner_was_set(set, name)?;
            is_as_made = false;
        }
        for (key, value) in self.image.xattrs(inode)?.iter() {
            is_as_made = false;
            let Ok(key) = CString::new(key.as_slice()) else {
                continue;
            };
            let set = rustix::fs::fsetxattr(fd, key.as_c_str(), value, XattrFlags::empty());
            self.attribute_was_set(set, name)?;
        }
        let mode = self.mode(inode);
        if !is_as_made || Mode::from_raw_mode(stat.st_mode) != mode {
            rustix::fs::fchmod(fd, mode).map_err(self.failed("change the mode of", name))?;
        }
        rustix::fs::futimens(fd, &times(inode)).map_err(self.failed("set the time of", name))
    }

    /// Sets the attributes of what cannot be opened, and was just made: all of them of the same file, and not of what
    /// somebody may have put in its place.
    fn attributes(&mut self, inode: &Inode, directory: &Directory, name: &CString) -> Result<()> {
        let raw = name.as_bytes();
        let node = directory.node(raw).map_err(self.failed("open", raw))?;
        let stat = node.stat().map_err(self.failed("open", raw))?;
        let kind = match inode.kind() {
            FileKind::Symlink => FileType::Symlink,
            FileKind::CharacterDevice => FileType::CharacterDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            FileKind::Fifo => FileType::Fifo,
            _ => FileType::Socket,
        };
        if kind_of(&stat) != kind || stat.st_nlink != 1 {
            let path = self.shown(raw);
            let replaced = io::Error::other("it was replaced when it had just been made");
            return Err(Error::io("set the attributes of", &path)(replaced));
        }
        if self.keeps_owner() {
            let (uid, gid) = owner(inode);
            self.owner_was_set(node.set_owner(uid, gid), raw)?;
        }
        for (key, value) in self.image.xattrs(inode)?.iter() {
            if !key.contains(&0) {
                self.attribute_was_set(node.set_xattr(key, value), raw)?;
            }
        }
        if kind != FileType::Symlink {
            let mode = self.mode(inode);
            node.set_mode(mode)
                .map_err(self.failed("change the mode of", raw))?;
        }
        node.set_times(&times(inode))
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
