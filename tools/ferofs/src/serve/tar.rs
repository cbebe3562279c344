// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The plain tar of a layer as far as it is there: a sparse file, `HEX.sparse` after its diff ID, whose holes are what is
//! missing. The file is all the record there is, so that whoever is killed can go on from it. When all of it is there and
//! has the right sha256 it is called `HEX.tar`.
//!
//! What is written is whole units, which begin at blocks: no block is there in part. [`super::Server`] has one for each
//! layer.

use crate::digest::Background;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::directory::Identity;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::points::ALIGN;
use crate::points::Points;
use crate::text::Shown;
use rustix::fs::FallocateFlags;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// A sparse tar.
pub struct SparseTar {
    file: File,
    /// Its name in the directory, and that which it gets in the end.
    name: String,
    whole_name: String,
    directory: Directory,
    /// Where it is, for messages.
    pub path: PathBuf,
    /// What it is known by to whoever has it open.
    pub identity: Identity,
}

/// What there is of a tar.
pub enum Found {
    /// All of it, where this says.
    Whole(PathBuf),
    /// What another process serves, where this says.
    Elsewhere(PathBuf),
    /// What may be served, and which units are there.
    Sparse(SparseTar, Vec<bool>),
}

/// What the tar of a layer is called when all of it is there, and before.
fn names(diff_id: Digest) -> (String, String) {
    (format!("{diff_id}.tar"), format!("{diff_id}.sparse"))
}

/// Where the tar of a layer is in a store: all of it, or else what there is of it.
pub fn whole_or_sparse(store: &Path, diff_id: Digest) -> PathBuf {
    let (whole, sparse) = names(diff_id);
    let whole = store.join(whole);
    match whole.exists() {
        true => whole,
        false => store.join(sparse),
    }
}

/// Whether nobody has to serve the tar of a layer, since all of it is there, or some process does. Whoever asks has the
/// [`super::StoreLock`], or a server that begins meanwhile might take this for one.
///
/// # Errors
///
/// When what there is of it cannot be opened.
pub fn is_served(store: &Path, diff_id: Digest) -> Result<bool> {
    let (whole, sparse) = names(diff_id);
    if store.join(whole).exists() {
        return Ok(true);
    }
    let path = store.join(sparse);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("open", &path)(error)),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(Error::io("lock", &path)(errno.into())),
    }
}

impl SparseTar {
    /// Opens the tar of a layer in a directory, or begins one.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, it is not of this layer, or the filesystem does not know holes or has large blocks.
    pub fn open(directory: &Path, points: &Points) -> Result<Found> {
        let (whole_name, name) = names(points.diff_id);
        let path = directory.join(&name);
        let failed = |doing: &'static str| {
            let path = path.clone();
            move |errno: Errno| Error::io(doing, &path)(errno.into())
        };
        let opened = Directory::open(directory);
        let opened = opened.map_err(|errno| Error::io("open", directory)(errno.into()))?;
        if opened.stat_of(whole_name.as_bytes()).is_ok() {
            return Ok(Found::Whole(directory.join(whole_name)));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(failed("open"))?;
        let file = File::from(fd);
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Found::Elsewhere(path)),
            Err(errno) => return Err(failed("lock")(errno)),
        }
        let stat = rustix::fs::fstat(&file).map_err(failed("look at"))?;
        let unfit = |problem: &str| {
            let shown = Shown(&path);
            Error::of(Kind::Unsupported, format!("{shown}: {problem}"))
        };
        let filesystem = rustix::fs::fstatvfs(&file).map_err(failed("look at"))?;
        if filesystem.f_frsize > ALIGN {
            let found = filesystem.f_frsize;
            return Err(unfit(&format!(
                "its filesystem has blocks of {found} bytes, expected at most {ALIGN}"
            )));
        }
        match u64::try_from(stat.st_size) {
            Ok(0) => rustix::fs::ftruncate(&file, points.size).map_err(failed("extend"))?,
            Ok(size) if size == points.size => {}
            _ => {
                let (found, expected) = (stat.st_size, points.size);
                return Err(unfit(&format!(
                    "it has {found} bytes, expected the {expected} of the layer's tar"
                )));
            }
        }
        let tar = SparseTar {
            identity: Identity::from(&file.metadata().map_err(Error::io("look at", &path))?),
            file,
            name,
            whole_name,
            directory: opened,
            path: path.clone(),
        };
        let there = tar
            .there(points)
            .map_err(Error::io("look for holes in", &tar.path))?;
        if stat.st_size == 0 && there.contains(&true) {
            return Err(unfit(
                "its filesystem does not know what of a file is a hole, so nothing could be missing",
            ));
        }
        Ok(Found::Sparse(tar, there))
    }

    /// The file, for marks.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether anybody else has it open.
    pub fn is_used(&self) -> io::Result<bool> {
        ferofs_fanotify::is_open_elsewhere(&self.file)
    }

    /// Which units are there: those without a hole.
    fn there(&self, points: &Points) -> io::Result<Vec<bool>> {
        let mut there = vec![true; points.units()];
        let mut at = 0;
        while at < points.size {
            let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(at))?;
            if hole >= points.size {
                break;
            }
            let end = match rustix::fs::seek(&self.file, SeekFrom::Data(hole)) {
                Ok(end) => end,
                Err(Errno::NXIO) => points.size,
                Err(errno) => return Err(errno.into()),
            };
            for unit in points.units_of(hole..end) {
                if let Some(there) = there.get_mut(unit) {
                    *there = false;
                }
            }
            at = end;
        }
        Ok(there)
    }

    /// Writes a unit.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, unit: Range<u64>, bytes: &[u8]) -> io::Result<()> {
        match bytes.len() as u64 == unit.end.saturating_sub(unit.start) {
            true => self.file.write_all_at(bytes, unit.start),
            false => Err(io::Error::other("a unit of another size than expected")),
        }
    }

    /// Compares all of it with its sha256, and gives it the name of a whole tar then. If it is another, everything is
    /// taken away again.
    ///
    /// # Errors
    ///
    /// When it is another, or cannot be read or written.
    pub fn complete(&self, points: &Points) -> Result<()> {
        let failed = || Error::io("complete", &self.path);
        let same = self.file.try_clone().map_err(failed())?;
        let found = Background::spawn(same).wait(|_| {}).map_err(failed())?;
        if found != points.diff_id {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let dropped = rustix::fs::fallocate(&self.file, flags, 0, points.size);
            dropped.map_err(|errno| failed()(errno.into()))?;
            let (shown, expected) = (Shown(&self.path), points.diff_id);
            return Err(Error::of(
                Kind::WrongDigest,
                format!(
                    "{shown}: its sha256 is {found}, expected {expected}: the access points are wrong, and so may be \
                     what was read of it; nothing of it is given to anybody any more"
                ),
            ));
        }
        self.file.sync_all().map_err(failed())?;
        let (from, to) = (self.name.as_bytes(), self.whole_name.as_bytes());
        let renamed = self.directory.rename(from, to);
        renamed.map_err(|errno| failed()(errno.into()))?;
        self.directory.sync();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::points::Maker;
    use std::fs;
    use std::io::Read;

    fn points_of(content: &[u8]) -> Points {
        let mut maker = Maker::new(100_000);
        let mut all = Vec::new();
        let mut reader = maker.reader(None, content).unwrap();
        reader.read_to_end(&mut all).unwrap();
        drop(reader);
        maker.finish(Digest::of(content), Path::new("tar")).unwrap()
    }

    fn sparse(directory: &Path, points: &Points) -> (SparseTar, Vec<bool>) {
        match SparseTar::open(directory, points).unwrap() {
            Found::Sparse(tar, there) => (tar, there),
            _ => panic!("it is whole, or elsewhere"),
        }
    }

    #[test]
    fn what_is_there_is_what_was_written() {
        let directory = std::env::temp_dir().join(format!("ferofs-sparse-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        // With zeros, which are something, too.
        let mut content: Vec<u8> = (0..450_000_u32).map(|at| (at / 11 % 251) as u8).collect();
        content[150_000..300_000].fill(0);
        let points = points_of(&content);
        let path = directory.join(format!("{}.sparse", points.diff_id));
        let mut expected = vec![false; points.units()];
        assert!(expected.len() > 3);
        for unit in [2, 0, 1, 3, 4] {
            let (tar, there) = sparse(&directory, &points);
            assert_eq!(there, expected);
            let again = SparseTar::open(&directory, &points).unwrap();
            assert!(matches!(again, Found::Elsewhere(found) if found == path));
            // That was opened and closed.
            assert!(!tar.is_used().unwrap());
            let reader = fs::File::open(&path).unwrap();
            assert!(tar.is_used().unwrap());
            drop(reader);
            let range = points.unit(unit);
            let bytes = &content[range.start as usize..range.end as usize];
            tar.write(range.clone(), &bytes[1..]).unwrap_err();
            tar.write(range, bytes).unwrap();
            expected[unit] = true;
        }
        let (tar, there) = sparse(&directory, &points);
        assert_eq!(there, expected);
        assert!(fs::read(&path).unwrap() == content);
        // A block of a unit that was written in part, as far as that can be.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(tar.file(), flags, points.unit(1).start, ALIGN).unwrap();
        drop(tar);
        let (tar, there) = sparse(&directory, &points);
        assert_eq!(there, [true, false, true, true, true]);
        let wrong = tar.complete(&points).unwrap_err().to_string();
        assert!(wrong.contains("its sha256 is"), "{wrong}");
        assert_eq!(tar.there(&points).unwrap(), [false; 5]);
        for unit in 0..5 {
            let range = points.unit(unit);
            let bytes = &content[range.start as usize..range.end as usize];
            tar.write(range, bytes).unwrap();
        }
        tar.complete(&points).unwrap();
        let found = SparseTar::open(&directory, &points).unwrap();
        assert!(matches!(found, Found::Whole(_)));
        assert!(fs::read(path.with_extension("tar")).unwrap() == content);
        fs::remove_dir_all(&directory).unwrap();
    }
}
