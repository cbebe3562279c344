// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Files that appear whole or not at all.
//!
//! An [`Output`] is written without a name in the directory it belongs in, and gets its own only when
//! it is complete and on disk. Failing that it is gone with the process, however that ends. Where the filesystem
//! has no files without names it has another one until then, and is removed: when it is dropped, and by
//! [`remove_all`], which the command calls on SIGINT and SIGTERM. To a block device, which mkfs(8) makes
//! filesystems on, it is copied when it is complete.

use crate::error::Error;
use crate::error::Result;
use crate::text::Shown;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::OFlags;
use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::ErrorKind;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Everything that is being written, to be removed on a signal.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file being written.
pub struct Output {
    file: File,
    /// The name it has until it gets its own, if it has any.
    temporary: Option<PathBuf>,
    target: PathBuf,
    /// The target, if it is a block device.
    device: Option<File>,
    /// The file that is there already.
    old: Option<Metadata>,
    finished: bool,
}

impl Output {
    /// Starts writing what is to be at `target`. `inputs` are files that it is made from, which it
    /// must not replace.
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
        let mut target = target.to_path_buf();
        let (mut device, mut old) = (None, None);
        match fs::metadata(&target) {
            Ok(found) => {
                check_target(&target, &found, inputs)?;
                if found.file_type().is_block_device() {
                    let busy = || io::Error::from(ErrorKind::ResourceBusy);
                    if is_mounted(found.rdev()) {
                        return Err(Error::io("open", &target)(busy()));
                    }
                    // Fails if the kernel uses it in any other way.
                    let exclusive = OFlags::EXCL.bits() as i32;
                    let opened = OpenOptions::new()
                        .write(true)
                        .custom_flags(exclusive)
                        .open(&target);
                    device = Some(opened.map_err(Error::io("open", &target))?);
                }
                // A link to the old file stays a link, to the new one.
                target = fs::canonicalize(&target).map_err(Error::io("resolve", &target))?;
                old = Some(found).filter(Metadata::is_file);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => target = end_of_links(target),
            Err(error) => return Err(Error::io("create", &target)(error)),
        }
        let mut output = Self::create_beside(target)?;
        output.device = device;
        output.old = old;
        Ok(output)
    }

    /// A file for as long as it is used, on the filesystem that `target` is to be on.
    ///
    /// # Errors
    ///
    /// When nothing can be created beside the target.
    pub fn create_unnamed(target: &Path) -> Result<Self> {
        Self::create_beside(target.to_path_buf())
    }

    fn create_beside(target: PathBuf) -> Result<Self> {
        let directory = directory_of(&target);
        let (file, temporary) = match create_nameless(&directory) {
            Some(file) => (file, None),
            None => {
                let mut options = OpenOptions::new();
                let options = options.read(true).write(true).create_new(true);
                let (file, path) = take_name(&directory, |path| options.open(path))
                    .map_err(Error::io("create a file beside", &target))?;
                (file, Some(path))
            }
        };
        Ok(Output {
            file,
            temporary,
            target,
            device: None,
            old: None,
            finished: false,
        })
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        &self.file
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
    pub fn finish(mut self) -> Result<()> {
        if let Some(device) = self.device.take() {
            return self.copy_to(device);
        }
        if let Some(old) = &self.old {
            // As if the old file had been written to. Whoever may not give files away owns the new one.
            drop(std::os::unix::fs::fchown(
                &self.file,
                Some(old.uid()),
                Some(old.gid()),
            ));
            let mode = Permissions::from_mode(old.mode() & 0o777);
            self.file
                .set_permissions(mode)
                .map_err(Error::io("write", &self.target))?;
        }
        self.file
            .sync_all()
            .map_err(Error::io("write", &self.target))?;
        let directory = directory_of(&self.target);
        let failed = || Error::io("create", &self.target);
        let temporary = match &self.temporary {
            Some(path) => path,
            None => {
                let from = path_of(&self.file);
                let flags = AtFlags::SYMLINK_FOLLOW;
                let link = |path: &Path| Ok(rustix::fs::linkat(CWD, &from, CWD, path, flags)?);
                let ((), path) = take_name(&directory, link).map_err(failed())?;
                self.temporary.insert(path)
            }
        };
        fs::rename(temporary, &self.target).map_err(failed())?;
        self.finished = true;
        let synced = File::open(&directory).and_then(|directory| directory.sync_all());
        // The file is whole and in place; not every filesystem can write out a directory.
        drop(synced);
        Ok(())
    }

    fn copy_to(&mut self, mut device: File) -> Result<()> {
        let failed = || Error::io("write", &self.target);
        let room = device.seek(SeekFrom::End(0)).map_err(failed())?;
        let size = self.file.seek(SeekFrom::End(0)).map_err(failed())?;
        if size > room {
            let target = Shown(&self.target);
            return Err(Error::Request(format!(
                "{target} has {room} bytes, expected at least {size} for the image"
            )));
        }
        device
            .rewind()
            .and_then(|()| self.file.rewind())
            .and_then(|()| io::copy(&mut &self.file, &mut device))
            .and_then(|_| device.sync_all())
            .map_err(failed())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Some(temporary) = &self.temporary else {
            return;
        };
        let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
        unfinished.retain(|path| path != temporary);
        if !self.finished {
            drop(fs::remove_file(temporary));
        }
    }
}

/// A directory that is removed again if nothing came into it.
pub struct NewDirectory(Option<PathBuf>);

impl NewDirectory {
    /// Makes a directory, unless it is there. Others may look into it as far as `mode` and the umask
    /// let them.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or is something else.
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        match DirBuilder::new().mode(mode).create(path) {
            Ok(()) => {
                let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
                unfinished.push(path.to_path_buf());
                Ok(NewDirectory(Some(path.to_path_buf())))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
                Ok(NewDirectory(None))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let path = Shown(path);
                Err(Error::Request(format!(
                    "{path} is no directory, as is needed here"
                )))
            }
            Err(error) => Err(Error::io("create", path)(error)),
        }
    }

    /// Whether it was not there before, and need not stay yet.
    pub fn is_new(&self) -> bool {
        self.0.is_some()
    }

    /// Lets it stay.
    pub fn stay(&mut self) {
        if let Some(path) = self.0.take() {
            let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
            unfinished.retain(|other| *other != path);
        }
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // If there is something in it after all, it stays.
            drop(fs::remove_dir(path));
        }
        self.stay();
    }
}

/// Removes everything that is unfinished. The process must end after this.
pub fn remove_all() {
    let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    // A new directory comes before the files in it.
    for path in unfinished.drain(..).rev() {
        drop(fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)));
    }
}

/// Whether a block device is mounted. A driver that reads it as a file does not keep it from being opened.
fn is_mounted(device: u64) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut sources = mounts.lines().filter_map(|line| line.split(' ').next());
    sources.any(|source| {
        let found = source.starts_with('/').then(|| fs::metadata(source));
        let found = found.and_then(|found| found.ok());
        found.is_some_and(|found| found.file_type().is_block_device() && found.rdev() == device)
    })
}

/// A file without a name, if the filesystem has such and it can get one later on.
fn create_nameless(directory: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .custom_flags(OFlags::TMPFILE.bits() as i32)
        .open(directory)
        .ok()?;
    fs::metadata(path_of(&file)).is_ok().then_some(file)
}

/// A path of an open file, whatever its name is.
fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Lets `make` make something in a directory, under a name that is not there yet and is removed by [`remove_all`].
fn take_name<T>(
    directory: &Path,
    make: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(T, PathBuf)> {
    let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut attempt = 0_u32;
    loop {
        let path = directory.join(format!(".ferofs-{}-{attempt}.tmp", std::process::id()));
        match make(&path) {
            Ok(made) => {
                unfinished.push(path.clone());
                return Ok((made, path));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 1000 => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What a path leads to, though there is nothing yet.
fn end_of_links(mut path: PathBuf) -> PathBuf {
    // The kernel follows no more either.
    for _ in 0..40 {
        let Ok(next) = fs::read_link(&path) else {
            break;
        };
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    path
}

/// Where the file is until it has its own name.
fn directory_of(target: &Path) -> PathBuf {
    if fs::metadata(target).is_ok_and(|found| found.file_type().is_block_device()) {
        return std::env::temp_dir();
    }
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn check_target(target: &Path, found: &Metadata, inputs: &[(&Path, &Metadata)]) -> Result<()> {
    for (path, input) in inputs {
        if (input.dev(), input.ino()) == (found.dev(), found.ino()) {
            let (target, path) = (Shown(target), Shown(path));
            return Err(Error::Request(format!(
                "{target} is the input {path}: it would be overwritten"
            )));
        }
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
