// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Files that appear whole or not at all.
//!
//! An [`Output`] is written without a name in the directory it belongs in, and gets its own only when
//! it is complete and on disk. Failing that it is gone with the process, however that ends. Where the filesystem
//! has no files without names it has another one until then, and is removed: when it is dropped, and by
//! [`remove_all`], which the command calls when a signal ends it. To a block device, which mkfs(8) makes
//! filesystems on, it is copied when it is complete, what tells that it is there last.
//!
//! The directory is opened once, and everything is done in it by names that are not followed. What a command reads
//! is listed as [`Inputs`]: no output replaces any of it.
//!
//! ```
//! use ferofs::output::Output;
//! use std::io::Write;
//!
//! # let path = std::env::temp_dir().join(format!("output-{}", std::process::id()));
//! let output = Output::create(&path, &[])?;
//! output.file().write_all(b"all of it")?;
//! assert!(!path.exists());
//! output.finish()?;
//! assert_eq!(std::fs::read(&path)?, b"all of it");
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::directory;
use crate::directory::Directory;
use crate::directory::Identity;
use crate::directory::Place;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::mounts;
use crate::text::Shown;
use rustix::fs::FileType;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

/// Something that is to be removed on a signal: where it is, and its name there.
type Unfinished = (Arc<Directory>, Vec<u8>);

/// Everything that is being written.
static UNFINISHED: Mutex<Vec<Unfinished>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<Unfinished>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes something off the list of what is to be removed.
fn forget(directory: &Arc<Directory>, name: &[u8]) {
    unfinished().retain(|(other, called)| !Arc::ptr_eq(other, directory) || called != name);
}

/// So many files are written to the disk at once: a filesystem joins what comes together into one write of its journal.
const SYNCING: usize = 16;

/// So many bytes of a block device are written last. The superblock is among them.
const HEAD: u64 = 4096;

/// The files that a command reads, by what they are and not by what they are called.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Vec<(PathBuf, Metadata)>);

impl Inputs {
    /// Adds a file that is open.
    pub fn add(&mut self, path: &Path, metadata: Metadata) {
        self.0.push((path.to_path_buf(), metadata));
    }

    /// Adds a file, if it is there.
    pub fn add_path(&mut self, path: &Path) {
        if let Ok(metadata) = fs::metadata(path) {
            self.add(path, metadata);
        }
    }

    /// Adds those of another list.
    pub fn append(&mut self, mut other: Inputs) {
        self.0.append(&mut other.0);
    }

    /// The files, as [`Output::create`] takes them.
    pub fn list(&self) -> Vec<(&Path, &Metadata)> {
        self.0
            .iter()
            .map(|(path, metadata)| (path.as_path(), metadata))
            .collect()
    }
}

/// A file being written.
pub struct Output {
    file: File,
    /// Where it belongs.
    directory: Arc<Directory>,
    /// The name it gets there.
    name: Vec<u8>,
    /// The name it has until then, if it has any.
    temporary: Option<Vec<u8>>,
    /// What to call it in messages.
    target: PathBuf,
    /// The target, if it is a block device.
    device: Option<File>,
    /// The file that is there already.
    old: Option<Stat>,
    finished: bool,
}

impl Output {
    /// Starts writing what is to be at `target`. If that is a link, it stays one, and what it leads to is written.
    /// `inputs` are files that it is made from, which it must not replace.
    ///
    /// # Errors
    ///
    /// When the target is one of the inputs, or is there and neither a regular file nor a block device that
    /// nobody uses, or nothing can be created beside it.
    pub fn create(target: &Path, inputs: &[(&Path, &Metadata)]) -> Result<Self> {
        if target == Path::new("-") {
            let what =
                "expected the name of a file to write, not \"-\"; one of that name is \"./-\"";
            return Err(Error::Request(what.to_string()));
        }
        match fs::metadata(target) {
            Ok(found) => {
                check_target(target, &found, inputs)?;
                if found.file_type().is_block_device() {
                    return Self::create_for_device(target, &found);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("create", target)(error)),
        }
        let Place { directory, name } =
            directory::resolve(target, true).map_err(Error::io("create", target))?;
        let mut output = Self::create_in(&Arc::new(directory), &name, target)?;
        // Once more where it is really written: the path may have led elsewhere a moment ago.
        match output.directory.stat_of(&name) {
            Ok(found) => {
                let same = |(_, input): &&(&Path, &Metadata)| {
                    Identity::from(*input) == Identity::from(&found)
                };
                if let Some((path, _)) = inputs.iter().find(same) {
                    return Err(is_input(target, path));
                }
                if directory::kind_of(&found) != FileType::RegularFile {
                    return Err(Error::io("create", target)(ErrorKind::AlreadyExists.into()));
                }
                output.old = Some(found);
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::io("create", target)(errno.into())),
        }
        Ok(output)
    }

    /// The same for a block device: the file is elsewhere until it is copied.
    fn create_for_device(target: &Path, found: &Metadata) -> Result<Self> {
        let failed = || Error::io("open", target);
        if mounts::uses_device(found.rdev())? {
            return Err(failed()(ErrorKind::ResourceBusy.into()));
        }
        // Fails if the kernel uses it in any other way.
        let exclusive = OFlags::EXCL.bits() as i32;
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(exclusive)
            .open(target);
        let device = opened.map_err(failed())?;
        let mut output = Self::create_unnamed(target)?;
        output.device = Some(device);
        Ok(output)
    }

    /// Starts writing what is to have a name in a directory. What has it already is replaced as it is: if that is
    /// a link, what it leads to stays. `target` is what to call it in messages.
    ///
    /// # Errors
    ///
    /// When nothing can be created there.
    pub(crate) fn create_in(
        directory: &Arc<Directory>,
        name: &[u8],
        target: &Path,
    ) -> Result<Self> {
        let mode = Mode::from_raw_mode(0o666);
        let (file, temporary) = match directory.create_nameless(mode) {
            Some(file) => (file, None),
            None => {
                let (file, temporary) = take_name(directory, |name| directory.create(name, mode))
                    .map_err(Error::io("create a file beside", target))?;
                (file, Some(temporary))
            }
        };
        Ok(Output {
            file,
            directory: Arc::clone(directory),
            name: name.to_vec(),
            temporary,
            target: target.to_path_buf(),
            device: None,
            old: None,
            finished: false,
        })
    }

    /// A file for as long as it is used, on the filesystem that `target` is to be on.
    ///
    /// # Errors
    ///
    /// When nothing can be created beside the target.
    pub fn create_unnamed(target: &Path) -> Result<Self> {
        let failed = || Error::io("create a file beside", target);
        let is_device = |found: Metadata| found.file_type().is_block_device();
        let beside = match fs::metadata(target).is_ok_and(is_device) {
            true => std::env::temp_dir().join("image"),
            false => target.to_path_buf(),
        };
        // Only the directory matters, so a link that leads nowhere is as good as nothing.
        let place = directory::resolve(&beside, true);
        let place = place.or_else(|_| directory::resolve(&beside, false));
        let place = place.map_err(failed())?;
        Self::create_in(&Arc::new(place.directory), &place.name, target)
    }

    /// Fails if two outputs are to be in one place.
    ///
    /// # Errors
    ///
    /// When they are.
    pub fn expect_other(&self, other: &Output) -> Result<()> {
        let identity = |output: &Output| -> Result<_> {
            let directory = output.directory.stat();
            let directory =
                directory.map_err(|errno| Error::io("open", &output.target)(errno.into()));
            Ok(Identity::from(&directory?))
        };
        let old = |output: &Output| output.old.as_ref().map(Identity::from);
        let one_place = identity(self)? == identity(other)? && self.name == other.name;
        if one_place || (self.old.is_some() && old(self) == old(other)) {
            let (target, other) = (Shown(&self.target), Shown(&other.target));
            return Err(Error::of(
                Kind::Refused,
                format!(
                    "{target} and {other} are the same, and cannot be both of what is to be written"
                ),
            ));
        }
        Ok(())
    }

    /// Says only now what it is called: in the directory that it was created in, in the place of whatever is there.
    pub fn call(&mut self, target: &Path) {
        let name = target.file_name().unwrap_or_default();
        self.name = name.as_bytes().to_vec();
        self.target = target.to_path_buf();
    }

    /// Whether it is to be in a directory, or somewhere below it.
    ///
    /// # Errors
    ///
    /// When the directories above it cannot be looked at.
    pub fn is_inside(&self, directory: Identity) -> Result<bool> {
        let found = self.directory.is_in(directory);
        found.map_err(|errno| Error::io("look for", &self.target)(errno.into()))
    }

    /// What it replaces, if there is anything.
    pub fn replaces(&self) -> Option<Identity> {
        self.old.as_ref().map(Identity::from)
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The same file for reading only, also when it is finished: whoever has it keeps nobody from sharing its pages.
    ///
    /// # Errors
    ///
    /// When it cannot be opened once more.
    pub fn reader(&self) -> Result<File> {
        let opened = match &self.temporary {
            Some(name) => self.directory.file(name),
            None => directory::reopen(&self.file),
        };
        opened.map_err(|errno| Error::io("open", &self.target)(errno.into()))
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Puts the file in its place, once it is on disk.
    ///
    /// # Errors
    ///
    /// When it cannot be written out or renamed; it is removed then.
    pub fn finish(self) -> Result<()> {
        Self::finish_all(vec![self])
    }

    /// Puts several files in their places, in their order, once all of them are on disk.
    ///
    /// # Errors
    ///
    /// When one of them cannot be written out, before any is in its place, or be renamed.
    pub fn finish_all(mut outputs: Vec<Self>) -> Result<()> {
        sync_all(&outputs)?;
        let mut directories: Vec<Arc<Directory>> = Vec::new();
        for output in &mut outputs {
            if let Some(device) = output.device.take() {
                output.copy_to(device)?;
                continue;
            }
            output.take_place()?;
            if !directories
                .iter()
                .any(|other| Arc::ptr_eq(other, &output.directory))
            {
                directories.push(Arc::clone(&output.directory));
            }
        }
        for directory in directories {
            // The files are whole and in place.
            directory.sync();
        }
        Ok(())
    }

    /// Makes the file what it is to be, and waits for the disk.
    fn sync(&self) -> Result<()> {
        if self.device.is_some() {
            return Ok(());
        }
        let failed = || Error::io("write", &self.target);
        if let Some(old) = &self.old {
            // As if the old file had been written to. Whoever may not give files away owns the new one.
            drop(std::os::unix::fs::fchown(
                &self.file,
                Some(old.st_uid),
                Some(old.st_gid),
            ));
            let mode = Permissions::from_mode(old.st_mode & 0o777);
            self.file.set_permissions(mode).map_err(failed())?;
        }
        self.file.sync_all().map_err(failed())
    }

    fn take_place(&mut self) -> Result<()> {
        let failed = || Error::io("create", &self.target);
        let temporary = match &self.temporary {
            Some(name) => name,
            None => {
                let link = |name: &[u8]| self.directory.name(&self.file, name);
                let ((), name) = take_name(&self.directory, link).map_err(failed())?;
                self.temporary.insert(name)
            }
        };
        self.directory
            .rename(temporary, &self.name)
            .map_err(|errno| failed()(errno.into()))?;
        self.finished = true;
        Ok(())
    }

    fn copy_to(&mut self, mut device: File) -> Result<()> {
        let failed = || Error::io("write", &self.target);
        let room = device.seek(SeekFrom::End(0)).map_err(failed())?;
        let size = self.file.seek(SeekFrom::End(0)).map_err(failed())?;
        if size > room {
            let target = Shown(&self.target);
            return Err(Error::of(
                Kind::TooLarge,
                format!("{target} has {room} bytes, expected at least {size} for the image"),
            ));
        }
        // The power may go meanwhile: there is no superblock on the device, old or new, before all else is on disk.
        let head = size.min(HEAD);
        let zeros = vec![0; usize::try_from(head).unwrap_or(0)];
        device
            .write_all_at(&zeros, 0)
            .and_then(|()| device.sync_all())
            .map_err(failed())?;
        for (from, length) in [(head, size.saturating_sub(head)), (0, head)] {
            (&self.file)
                .seek(SeekFrom::Start(from))
                .and_then(|_| device.seek(SeekFrom::Start(from)))
                .and_then(|_| io::copy(&mut (&self.file).take(length), &mut device))
                .and_then(|_| device.sync_all())
                .map_err(failed())?;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Some(temporary) = &self.temporary else {
            return;
        };
        forget(&self.directory, temporary);
        if !self.finished {
            let _ = self.directory.remove(temporary);
        }
    }
}

/// Waits until all files are on disk, for several at once.
fn sync_all(outputs: &[Output]) -> Result<()> {
    if let [output] = outputs {
        return output.sync();
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(output) = outputs.get(next.fetch_add(1, Ordering::Relaxed)) {
            output.sync()?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads = SYNCING.min(outputs.len());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(Error::of(Kind::Io, "writing ended early".to_string())),
        });
        results.collect()
    })
}

/// Makes a symbolic link, in place of whatever has the name and is no directory. Two that do it at once
/// do not disturb each other.
///
/// # Errors
///
/// When it cannot be made.
pub(crate) fn link(directory: &Arc<Directory>, target: &[u8], name: &[u8]) -> io::Result<()> {
    let make = |temporary: &[u8]| directory.symlink(target, temporary);
    let ((), temporary) = take_name(directory, make)?;
    let renamed = directory.rename(&temporary, name);
    if renamed.is_err() {
        let _ = directory.remove(&temporary);
    }
    forget(directory, &temporary);
    Ok(renamed?)
}

/// A directory that is removed again if nothing came into it.
///
/// Whoever uses it holds a shared lock, and it is removed under an exclusive one: another command that found it there may
/// have something in it that has no name yet.
pub(crate) struct NewDirectory {
    directory: Directory,
    path: PathBuf,
    /// Where it is, and its name there, if it was made and need not stay.
    made: Option<Unfinished>,
}

impl NewDirectory {
    /// Makes a directory, unless it is there. Others may look into it as far as `mode` and the umask
    /// let them.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or is something else.
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        // Again only if somebody removes it just then.
        for _ in 0..100 {
            let new = Self::create_once(path, mode)?;
            match rustix::fs::flock(&new.directory, FlockOperation::NonBlockingLockShared) {
                Err(Errno::WOULDBLOCK) => {}
                // Not every filesystem has locks.
                _ if new.is_there() => return Ok(new),
                _ => {}
            }
        }
        Err(Error::io("create", path)(ErrorKind::ResourceBusy.into()))
    }

    fn create_once(path: &Path, mode: u32) -> Result<Self> {
        let failed = || Error::io("create", path);
        let found = |directory, made| NewDirectory {
            directory,
            path: path.to_path_buf(),
            made,
        };
        match Directory::open(path) {
            Ok(directory) => return Ok(found(directory, None)),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) if path.exists() => {
                let path = Shown(path);
                return Err(Error::Request(format!(
                    "{path} is no directory, as is needed here"
                )));
            }
            Err(errno) => return Err(failed()(errno.into())),
        }
        let Place { directory, name } = directory::resolve(path, false).map_err(failed())?;
        match directory.make(&name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                let entry = (Arc::new(directory), name);
                unfinished().push(entry.clone());
                let made = entry.0.directory(&entry.1);
                let made = made.map_err(|errno| Error::io("open", path)(errno.into()))?;
                Ok(found(made, Some(entry)))
            }
            // Another one was faster.
            Err(Errno::EXIST) => {
                let directory = Directory::open(path);
                let directory = directory.map_err(|errno| failed()(errno.into()))?;
                Ok(found(directory, None))
            }
            Err(errno) => Err(failed()(errno.into())),
        }
    }

    /// Whether the path still leads to it.
    fn is_there(&self) -> bool {
        let same = |found: Metadata| {
            let stat = self.directory.stat();
            stat.is_ok_and(|stat| Identity::from(&stat) == Identity::from(&found))
        };
        fs::metadata(&self.path).is_ok_and(same)
    }

    /// The directory, open.
    ///
    /// # Errors
    ///
    /// When too many files are open.
    pub fn open(&self) -> Result<Directory> {
        let same = self.directory.try_clone();
        same.map_err(|errno| Error::io("open", &self.path)(errno.into()))
    }

    /// Whether it was not there before, and need not stay yet.
    pub fn is_new(&self) -> bool {
        self.made.is_some()
    }

    /// Lets it stay.
    pub fn stay(&mut self) {
        if let Some((directory, name)) = self.made.take() {
            forget(&directory, &name);
            // As sure to be there as what is in it.
            directory.sync();
        }
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        let unused = || {
            let exclusive = FlockOperation::NonBlockingLockExclusive;
            rustix::fs::flock(&self.directory, exclusive) != Err(Errno::WOULDBLOCK)
        };
        if let Some((directory, name)) = self.made.as_ref().filter(|_| unused()) {
            // If there is something in it after all, it stays.
            let _ = directory.remove_directory(name);
        }
        if let Some((directory, name)) = self.made.take() {
            forget(&directory, &name);
        }
    }
}

/// Removes everything that is unfinished. The process must end after this: nothing new is begun any more.
pub fn remove_all() {
    let mut unfinished = unfinished();
    // A new directory comes before the files in it.
    for (directory, name) in unfinished.drain(..).rev() {
        let _ = directory
            .remove(&name)
            .or_else(|_| directory.remove_directory(&name));
    }
    // Whoever is about to make something more waits for the end.
    std::mem::forget(unfinished);
}

/// Lets `make` make something in a directory, under a name that is not there yet and is removed by [`remove_all`].
fn take_name<T>(
    directory: &Arc<Directory>,
    make: impl Fn(&[u8]) -> rustix::io::Result<T>,
) -> io::Result<(T, Vec<u8>)> {
    let mut unfinished = unfinished();
    let mut attempt = 0_u32;
    loop {
        let name = format!(".ferofs-{}-{attempt}.tmp", std::process::id()).into_bytes();
        match make(&name) {
            Ok(made) => {
                unfinished.push((Arc::clone(directory), name.clone()));
                return Ok((made, name));
            }
            Err(Errno::EXIST) if attempt < 1000 => attempt += 1,
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn is_input(target: &Path, input: &Path) -> Error {
    let (target, input) = (Shown(target), Shown(input));
    Error::of(
        Kind::Refused,
        format!("{target} is the input {input}: it would be overwritten"),
    )
}

/// The file that a loop device has its data in.
fn file_of_device(device: u64) -> Option<Metadata> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    // A partition is in the directory of its device.
    let paths =
        ["", "../"].map(|above| format!("/sys/dev/block/{major}:{minor}/{above}loop/backing_file"));
    let path = paths.iter().find_map(|path| fs::read(path).ok())?;
    let path = path.strip_suffix(b"\n").unwrap_or(&path);
    fs::metadata(OsStr::from_bytes(path)).ok()
}

fn check_target(target: &Path, found: &Metadata, inputs: &[(&Path, &Metadata)]) -> Result<()> {
    let is_device = |metadata: &Metadata| metadata.file_type().is_block_device();
    let behind = is_device(found)
        .then(|| file_of_device(found.rdev()))
        .flatten();
    let same = |(_, input): &&(&Path, &Metadata)| {
        let input: &Metadata = input;
        let one_device = is_device(found) && is_device(input) && found.rdev() == input.rdev();
        let mut files = [Some(found), behind.as_ref()].into_iter().flatten();
        one_device || files.any(|file| Identity::from(file) == Identity::from(input))
    };
    if let Some((path, _)) = inputs.iter().find(same) {
        return Err(is_input(target, path));
    }
    if found.is_file() || found.file_type().is_block_device() {
        return Ok(());
    }
    let kind = match found.file_type() {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_char_device() => "a character device",
        kind if kind.is_fifo() => "a named pipe",
        _ => "a socket",
    };
    let target = Shown(target);
    Err(Error::Request(format!(
        "{target} is {kind}, expected a regular file, a block device or nothing"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ferofs-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn names(&self) -> Vec<String> {
            let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
            let mut names: Vec<_> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| name(entry.unwrap()))
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn appears_whole_or_not_at_all() {
        let directory = Directory::new("output");
        let target = directory.0.join("image");
        let output = Output::create(&target, &[]).unwrap();
        output.file().write_all(b"half").unwrap();
        drop(output);
        assert!(directory.names().is_empty());
        fs::write(&target, b"old").unwrap();
        let link = directory.0.join("link");
        std::os::unix::fs::symlink("image", &link).unwrap();
        let output = Output::create(&link, &[]).unwrap();
        output.file().write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        output.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(directory.names(), ["image", "link"]);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn replaces_a_file_as_if_it_wrote_to_it() {
        let directory = Directory::new("replace");
        let target = directory.0.join("image");
        for mode in [0o600, 0o444, 0o640] {
            let mut options = OpenOptions::new();
            drop(
                options
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&target),
            );
            fs::set_permissions(&target, Permissions::from_mode(mode)).unwrap();
            let output = Output::create(&target, &[]).unwrap();
            output.file().write_all(b"new").unwrap();
            output.finish().unwrap();
            let found = fs::metadata(&target).unwrap();
            assert_eq!((found.mode() & 0o7777, found.len()), (mode, 3));
            fs::remove_file(&target).unwrap();
        }
        // Links to nothing yet, and in a circle.
        for (link, to) in [("a", "b"), ("b", "image"), ("c", "c")] {
            std::os::unix::fs::symlink(to, directory.0.join(link)).unwrap();
        }
        let output = Output::create(&directory.0.join("a"), &[]).unwrap();
        output.finish().unwrap();
        assert_eq!(directory.names(), ["a", "b", "c", "image"]);
        let error = Output::create(&directory.0.join("c"), &[]).err().unwrap();
        assert!(error.to_string().contains("cannot create"), "{error}");
    }

    #[test]
    fn a_file_without_a_name_needs_no_free_name() {
        let directory = Directory::new("unnamed");
        let target = directory.0.join("image");
        std::os::unix::fs::symlink("image", &target).unwrap();
        let output = Output::create_unnamed(&target).unwrap();
        output.file().write_all(b"some").unwrap();
        assert_eq!(output.reader().unwrap().metadata().unwrap().len(), 4);
        drop(output);
        assert_eq!(directory.names(), ["image"]);
    }

    #[test]
    fn a_new_directory_is_gone_unless_it_stays() {
        let directory = Directory::new("new-directory");
        let path = directory.0.join("new");
        let made = NewDirectory::create(&path, 0o700).unwrap();
        assert!(made.is_new() && path.is_dir());
        // It was there before the second one.
        drop(NewDirectory::create(&path, 0o700).unwrap());
        assert!(path.is_dir());
        drop(made);
        assert!(!path.exists());
        let mut made = NewDirectory::create(&path, 0o700).unwrap();
        made.stay();
        drop(made);
        assert!(path.is_dir());
        let made = NewDirectory::create(&path.join("inner"), 0o700).unwrap();
        fs::write(path.join("inner/file"), b"").unwrap();
        drop(made);
        let error = NewDirectory::create(&path.join("inner/file"), 0o700);
        let error = error.err().unwrap().to_string();
        assert!(error.contains("is no directory"), "{error}");
    }

    #[test]
    fn replaces_no_input_and_nothing_but_files() {
        let directory = Directory::new("target");
        let input = directory.0.join("input");
        fs::write(&input, b"tar").unwrap();
        let metadata = fs::metadata(&input).unwrap();
        let link = directory.0.join("link");
        fs::hard_link(&input, &link).unwrap();
        for target in [&input, &link] {
            let error = Output::create(target, &[(&input, &metadata)])
                .err()
                .unwrap();
            assert!(error.to_string().contains("is the input"), "{error}");
        }
        let error = Output::create(&directory.0, &[]).err().unwrap();
        assert!(error.to_string().contains("is a directory"), "{error}");
        let error = Output::create(&directory.0.join("no/image"), &[])
            .err()
            .unwrap();
        assert!(error.to_string().contains("image"), "{error}");
    }
}
