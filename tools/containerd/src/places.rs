// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where everything is below the root directory:
//!
//! ```text
//! metadata.redb           the database, see catalog.rs
//! layers/HEX.tar          the plain tar of a layer, called after its sha256
//! layers/HEX.erofs        its index; or, alone, a layer that is an image itself
//! layers/HEX.sparse       instead of the tar, what there is of one that comes from a registry as it is read
//! layers/HEX.points       and the access points by which it does
//! layers/lock             who begins or ends to serve such has it
//! snapshots/N/fs          what is written to an active snapshot: overlayfs's upper directory
//! snapshots/N/work        and what overlayfs needs beside it
//! snapshots/N/limited.img  an ext4 filesystem with both in it, if it may be so large only
//! snapshots/N/limited     where that is mounted
//! snapshots/N/merged.erofs  the layers of a committed one and of all below it, in one image
//! snapshots/N/lower       where that is mounted
//! trash/                  what is being removed
//! ```

use crate::catalog::Snapshot;
use crate::problem::Problem;
use crate::problem::Result;
use ferofs::digest::Digest;
use std::fs;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// The root directory.
#[derive(Debug)]
pub struct Places {
    root: PathBuf,
    thrown: AtomicU64,
}

impl Places {
    /// Makes the directories that are not there.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn create(root: &Path) -> Result<Self> {
        let places = Places {
            root: root.to_path_buf(),
            thrown: AtomicU64::new(0),
        };
        // Users of containers whose root is another user go through these, and see nothing on the way.
        for (directory, mode) in [
            (places.root.clone(), 0o711),
            (places.snapshots(), 0o711),
            (places.layers(), 0o700),
            (places.trash(), 0o700),
        ] {
            make(&directory, mode)?;
        }
        Ok(places)
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    /// All layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The plain tar of a layer.
    pub fn tar(&self, layer: Digest) -> PathBuf {
        self.layers().join(format!("{layer}.tar"))
    }

    /// The index of a layer, or the layer if it is an image.
    pub fn image(&self, layer: Digest) -> PathBuf {
        self.layers().join(format!("{layer}.erofs"))
    }

    /// The access points of a layer.
    pub fn points(&self, layer: Digest) -> PathBuf {
        self.layers().join(format!("{layer}.points"))
    }

    /// The tar of a layer as far as it is there, if that is not all of it.
    pub fn sparse(&self, layer: Digest) -> PathBuf {
        self.layers().join(format!("{layer}.sparse"))
    }

    /// The layers that have access points, and no tar that is whole.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn on_demand(&self) -> Result<Vec<Digest>> {
        let layers = self.layers();
        let mut found = Vec::new();
        for entry in fs::read_dir(&layers).map_err(Problem::io("read", &layers))? {
            let name = entry.map_err(Problem::io("read", &layers))?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".points"));
            found.extend(name.and_then(Digest::parse));
        }
        found.retain(|layer| !self.tar(*layer).exists());
        Ok(found)
    }

    /// All files that there may be of a layer.
    pub fn files(&self, layer: Digest) -> [PathBuf; 4] {
        [
            self.image(layer),
            self.tar(layer),
            self.sparse(layer),
            self.points(layer),
        ]
    }

    /// All snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// A snapshot.
    pub fn snapshot(&self, number: u64) -> PathBuf {
        self.snapshots().join(number.to_string())
    }

    /// What is written to it.
    pub fn upper(&self, snapshot: &Snapshot) -> PathBuf {
        self.writable(snapshot).join("fs")
    }

    /// What overlayfs needs beside that.
    pub fn work(&self, snapshot: &Snapshot) -> PathBuf {
        self.writable(snapshot).join("work")
    }

    fn writable(&self, snapshot: &Snapshot) -> PathBuf {
        match snapshot.limit {
            Some(_) => self.limited(snapshot.number),
            None => self.snapshot(snapshot.number),
        }
    }

    /// Where a filesystem of limited size is mounted.
    pub fn limited(&self, number: u64) -> PathBuf {
        self.snapshot(number).join("limited")
    }

    /// The file that it is in.
    pub fn limited_image(&self, number: u64) -> PathBuf {
        self.snapshot(number).join("limited.img")
    }

    /// It and all below it, in one image.
    pub fn merged(&self, number: u64) -> PathBuf {
        self.snapshot(number).join("merged.erofs")
    }

    /// Where that is mounted.
    pub fn lower(&self, number: u64) -> PathBuf {
        self.snapshot(number).join("lower")
    }

    /// What is being removed.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// The number of the snapshot that a path is in.
    pub fn number_of(&self, path: &Path) -> Option<u64> {
        let below = path.strip_prefix(self.snapshots()).ok()?;
        let first = below.components().next()?;
        first.as_os_str().to_str()?.parse().ok()
    }

    /// Puts something where it is removed from when there is time. What is not there is no problem.
    ///
    /// # Errors
    ///
    /// When it cannot be moved.
    pub fn throw_away(&self, path: &Path) -> Result<()> {
        loop {
            let count = self.thrown.fetch_add(1, Ordering::Relaxed);
            let to = self.trash().join(format!("{}-{count}", std::process::id()));
            match fs::rename(path, &to) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::AlreadyExists
                            | ErrorKind::DirectoryNotEmpty
                            | ErrorKind::NotADirectory
                            | ErrorKind::IsADirectory
                    ) => {}
                Err(error) => return Err(Problem::io("remove", path)(error)),
            }
        }
    }

    /// Removes what was thrown away.
    ///
    /// # Errors
    ///
    /// When some of it cannot be removed; the rest is.
    pub fn empty_trash(&self) -> Result<()> {
        let trash = self.trash();
        let entries = fs::read_dir(&trash).map_err(Problem::io("read", &trash))?;
        let mut first = None;
        for entry in entries {
            let path = entry.map_err(Problem::io("read", &trash))?.path();
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            let removed = match is_directory {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    first = first.or(Some(Problem::io("remove", &path)(error)));
                }
                _ => {}
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// Makes a directory of this mode, whatever the process's mask is, if it is not there.
///
/// # Errors
///
/// When that fails.
pub fn make(path: &Path, mode: u32) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(Problem::io("create", path))?;
        }
        Err(error) => return Err(Problem::io("create", path)(error)),
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Problem::io("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_snapshot_has_its_number() {
        let places = Places {
            root: "/r".into(),
            thrown: AtomicU64::new(0),
        };
        for (path, expected) in [
            ("/r/snapshots/17/fs", Some(17)),
            ("/r/snapshots/17", Some(17)),
            ("/r/snapshots/x/fs", None),
            ("/r/snapshots", None),
            ("/other/17/fs", None),
            ("/r/snapshots/../snapshots/17/fs", None),
        ] {
            assert_eq!(places.number_of(Path::new(path)), expected, "{path}");
        }
    }
}
