// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An overlay over the filesystems of a mount: for layers that are not merged, and for what can be
//! written to.
//!
//! The filesystems are mounted nowhere: overlayfs has them by file descriptors, and keeps them for
//! as long as it is mounted itself. So one umount(2) ends it all, and so does any failure before.

use super::kernel::Context;
use crate::directory::Directory;
use crate::error::Error;
use crate::error::Result;
use crate::output::NewDirectory;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::mount::MountAttrFlags;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

/// What the source of an overlay begins with that was mounted here, before what was mounted.
pub const SOURCE_PREFIX: &str = "ferofs:";

/// The directories that what is written goes to. Those that were made for a mount that fails are
/// removed. Overlayfs gets them open, as they were found or made: others may be at work beside them.
pub struct Upper {
    path: PathBuf,
    upper: Directory,
    work: Directory,
    made_upper: NewDirectory,
    made_work: NewDirectory,
}

impl Upper {
    /// Makes the directories that are not there. Without a directory for overlayfs to work in, it
    /// is beside the other one and has its name with `.work` behind it.
    ///
    /// # Errors
    ///
    /// When they cannot be made.
    pub fn prepare(upper: &Path, work: Option<&Path>) -> Result<Self> {
        let made_upper = NewDirectory::create(upper, 0o700)?;
        let work = match work {
            Some(work) => work.to_path_buf(),
            None => {
                let upper = fs::canonicalize(upper).map_err(Error::io("open", upper))?;
                let mut work = OsString::from(&upper);
                work.push(".work");
                work.into()
            }
        };
        let made_work = NewDirectory::create(&work, 0o700)?;
        Ok(Upper {
            path: upper.to_path_buf(),
            upper: made_upper.open()?,
            work: made_work.open()?,
            made_upper,
            made_work,
        })
    }

    /// Gives a new upper directory the owner, mode and time of the root directory below: it is what
    /// is seen of both.
    ///
    /// # Errors
    ///
    /// When they cannot be had or set.
    pub fn look_like(&self, below: &OwnedFd) -> Result<()> {
        if !self.made_upper.is_new() {
            return Ok(());
        }
        look_like(&self.upper, below).map_err(Error::io("set the attributes of", &self.path))
    }

    /// It was mounted: the directories stay.
    pub fn keep(mut self) {
        self.made_upper.stay();
        self.made_work.stay();
    }
}

/// Gives an upper directory the owner, mode and time of the root directory below it.
///
/// # Errors
///
/// When they cannot be had or set.
pub fn look_like(upper: impl AsFd, below: impl AsFd) -> io::Result<()> {
    let found = rustix::fs::fstat(below)?;
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    rustix::fs::fchown(&upper, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&upper, Mode::from_raw_mode(found.st_mode & 0o7777))?;
    let time = Timespec {
        tv_sec: found.st_mtime,
        tv_nsec: found.st_mtime_nsec as _,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::futimens(&upper, &times)?;
    Ok(())
}

impl Drop for Upper {
    fn drop(&mut self) {
        // Overlayfs makes it, and does not remove it.
        if self.made_work.is_new() {
            let _ = self.work.remove_directory(b"work");
        }
    }
}

/// Mounts an overlay, though nowhere yet. `layers` are mounts, the lowest one first.
///
/// # Errors
///
/// When the kernel refuses.
pub fn mount(
    source: &Path,
    mut layers: Vec<OwnedFd>,
    upper: Option<&Upper>,
    attributes: MountAttrFlags,
) -> Result<(OwnedFd, Vec<String>)> {
    if layers.len() < 2 && upper.is_none() {
        // Overlayfs wants two, but a layer alone may have whiteouts, too.
        layers.insert(0, nothing(source)?);
    }
    let context = Context::open("overlay", source)?;
    let mut name = OsString::from(SOURCE_PREFIX);
    name.push(source);
    context.string("source", Path::new(&name))?;
    for layer in layers.iter().rev() {
        context.file("lowerdir+", layer)?;
    }
    if let Some(upper) = upper {
        context.file("upperdir", &upper.upper)?;
        context.file("workdir", &upper.work)?;
    }
    context.create(attributes)
}

/// An empty directory.
fn nothing(source: &Path) -> Result<OwnedFd> {
    let context = Context::open("tmpfs", source)?;
    let (mount, _) = context.create(MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    Ok(mount)
}
