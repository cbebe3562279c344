// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Directories whose paths are longer than a system call takes. For whoever reads a directory with all that is
//! below it: the scan, and the copying of its files' data.

use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Longest path of a directory that leaves room for a slash, a name and the NUL behind it in the 4096 bytes
/// that Linux takes.
const LONGEST: usize = 4096 - 257;

/// A directory under a path that system calls take, also with a name in it behind.
pub struct Reached {
    path: PathBuf,
    /// What the path begins with, if it is another one than that asked for.
    _start: Option<OwnedFd>,
}

impl Reached {
    /// The path, for as long as this lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Finds a directory.
///
/// # Errors
///
/// When the path is long and something in it cannot be opened.
pub fn reach(directory: &Path) -> io::Result<Reached> {
    let mut start: Option<OwnedFd> = None;
    let mut rest = directory.as_os_str().as_bytes();
    while rest.len() > LONGEST {
        let longest = rest.get(..LONGEST).unwrap_or(rest);
        // There is a slash, as names have at most 255 bytes; in what is none, the call fails.
        let slash = longest.iter().rposition(|byte| *byte == b'/');
        let (piece, behind) = rest.split_at(slash.filter(|at| *at > 0).unwrap_or(rest.len()));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match &start {
            None => rustix::fs::open(piece, flags, Mode::empty()),
            Some(start) => {
                rustix::fs::openat(start, piece, flags | OFlags::NOFOLLOW, Mode::empty())
            }
        };
        start = Some(opened?);
        let slashes = behind.iter().take_while(|byte| **byte == b'/').count();
        rest = behind.get(slashes..).unwrap_or_default();
    }
    let rest = OsStr::from_bytes(rest);
    let path = match &start {
        None => rest.into(),
        Some(start) => Path::new(&format!("/proc/self/fd/{}", start.as_raw_fd())).join(rest),
    };
    Ok(Reached {
        path,
        _start: start,
    })
}
