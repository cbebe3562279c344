// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The lock of a store: who begins to serve layers of it and mounts them has it meanwhile, and so has a server that ends
//! because nobody uses what it serves. So nobody comes to rely on a server that is about to end, or has not begun.

use crate::error::Error;
use crate::error::Result;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;

/// What the file is called.
const NAME: &str = "lock";

/// The lock, until it is dropped.
pub struct StoreLock(#[allow(dead_code)] File);

impl StoreLock {
    /// Waits until nobody else has it.
    ///
    /// # Errors
    ///
    /// When there is no such store, or its filesystem has no locks.
    pub fn wait(store: &Path) -> Result<Self> {
        let file = open(store)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(StoreLock(file)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(store)(errno)),
            }
        }
    }

    /// Takes it, if nobody has it.
    ///
    /// # Errors
    ///
    /// When there is no such store, or its filesystem has no locks.
    pub fn attempt(store: &Path) -> Result<Option<Self>> {
        let file = open(store)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(StoreLock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(store)(errno)),
        }
    }
}

fn failed(store: &Path) -> impl Fn(Errno) -> Error {
    let path = store.join(NAME);
    move |errno| Error::io("lock", &path)(errno.into())
}

fn open(store: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(store.join(NAME), flags, Mode::RUSR | Mode::WUSR);
    fd.map(File::from).map_err(failed(store))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it() {
        let store = std::env::temp_dir().join(format!("ferofs-lock-{}", std::process::id()));
        std::fs::create_dir(&store).unwrap();
        let lock = StoreLock::wait(&store).unwrap();
        assert!(StoreLock::attempt(&store).unwrap().is_none());
        drop(lock);
        assert!(StoreLock::attempt(&store).unwrap().is_some());
        std::fs::remove_dir_all(&store).unwrap();
        assert!(StoreLock::attempt(&store).is_err());
    }
}
