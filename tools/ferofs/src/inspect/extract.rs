// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writes all files of an image into a directory, as extracting a tar does.
//!
//! Nothing ends up outside of the directory, whatever the image has: names are single components,
//! each is opened relative to the directory it is in, and no symbolic link is ever followed. Called
//! by `ferofs check --extract`.

use super::Image;
use super::Name;
use super::contents::Contents;
use super::fill::BATCH;
use super::fill::Filler;
use super::fill::Made;
use super::fill::Names;
use super::fill::Number;
use super::fill::THREADS;
use super::fill::WAITING;
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
use rustix::fs::Mode;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

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
    let directory = open_target(target, options.force)?;
    let filler = Filler::new(contents, target, options);
    let (batches, receiver) = mpsc::sync_channel(WAITING);
    let receiver = Mutex::new(receiver);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let extracted = thread::scope(|scope| {
        let batches = (threads > 1).then_some(batches);
        for _ in 0..batches.as_ref().map_or(0, |_| threads.min(THREADS)) {
            scope.spawn(|| filler.work(&receiver));
        }
        let extractor = Extractor {
            image: contents.image(),
            filler: &filler,
            batches,
            batch: Vec::new(),
            options,
            directories: Directories::new(directory, &filler.names),
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
        };
        extractor.run(root, progress)
    });
    let mut extracted = extracted?;
    extracted.notes = filler.finish()?;
    Ok(extracted)
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

/// Directories that were extracted: those that are open.
struct Directories<'a> {
    root: Rc<Directory>,
    names: &'a Names,
    /// Some that are open: those that were looked for last, each before the ones that are older.
    open: VecDeque<(Number, Rc<Directory>)>,
}

impl<'a> Directories<'a> {
    fn new(root: Directory, names: &'a Names) -> Self {
        Directories {
            root: Rc::new(root),
            names,
            open: VecDeque::new(),
        }
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
            let Some((above, name)) = self.names.get(at) else {
                return Err(Errno::NOENT);
            };
            names.push((at, name));
            at = above;
        };
        let mut found = Vec::new();
        while let Some((at, name)) = names.pop() {
            directory = Rc::new(directory.directory(&name)?);
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
    image: &'a Image,
    filler: &'a Filler<'a>,
    /// To the threads that fill files, if there are some, and what goes there next.
    batches: Option<mpsc::SyncSender<Vec<Made>>>,
    batch: Vec<Made>,
    options: Options,
    directories: Directories<'a>,
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
}

impl Extractor<'_> {
    /// Extracts all there is, but for the files that threads are still filling.
    fn run(mut self, root: Inode, progress: &mut dyn FnMut(u64)) -> Result<Extracted> {
        let walked = self.walk(root, progress);
        // These were made, whatever went wrong with others.
        self.pass();
        walked.map(|()| self.extracted)
    }

    fn walk(&mut self, root: Inode, progress: &mut dyn FnMut(u64)) -> Result<()> {
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
            if self.filler.has_failed() {
                break;
            }
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
        let path = || self.path_of(b"");
        self.filler
            .attributes_of_open(&level.inode, directory.as_fd(), &path)?;
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
        found.map_err(|errno| Error::io("open", &self.filler.shown(b""))(errno.into()))
    }

    /// The path in the image, for messages about the image.
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [&self.path, b"/".as_slice(), name].concat()
    }

    /// Where something is, for messages.
    fn shown(&self, name: &[u8]) -> PathBuf {
        self.filler.shown(&self.path_of(name))
    }

    /// Says of a failure what it is about. The path is put together when something fails, and not before: it may be
    /// long.
    fn failed(&self, doing: &'static str, name: &[u8]) -> impl FnOnce(Errno) -> Error {
        move |errno| Error::io(doing, &self.shown(name))(errno.into())
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
            let number = self.filler.names.add(self.number(), raw);
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
                self.filler
                    .lose("devices may not be made here, and are left out");
                return Ok(false);
            }
            Err(errno) => return Err(self.failed("create", raw)(errno)),
        }
        self.attributes(inode, directory, name)?;
        Ok(true)
    }

    fn regular(&mut self, inode: &Inode, directory: &Directory, name: &CString) -> Result<()> {
        let raw = name.as_bytes();
        let file = directory.create(raw, self.filler.first_mode(inode));
        let made = Made {
            file: file.map_err(self.failed("create", raw))?,
            inode: *inode,
            above: self.number(),
            name: raw.into(),
        };
        if self.batches.is_none() {
            return self.filler.fill(made);
        }
        self.batch.push(made);
        if self.batch.len() == BATCH {
            self.pass();
        }
        Ok(())
    }

    /// Passes files on to the threads that fill them.
    fn pass(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        if let Some(batches) = &self.batches {
            // They take all that comes.
            drop(batches.send(batch));
        }
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
        let path = || self.path_of(raw);
        self.filler.attributes_of_node(inode, &node, &path)
    }
}
