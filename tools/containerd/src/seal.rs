// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Files of layers that nobody is to change: FS_IMMUTABLE_FL, as chattr(1) sets it, against root's mistakes, and
//! fs-verity, by which the kernel notices what a disk changes. fsverity(1) of the system enables that.

use crate::problem::Problem;
use crate::problem::Result;
use ferofs::digest::Digest;
use ferofs::fsverity;
use rustix::fs::IFlags;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

fn set(path: &Path, immutable: bool) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Problem::io("open", path)(error)),
    };
    let failed = |errno: rustix::io::Errno| Problem::io("change the flags of", path)(errno.into());
    let flags = match rustix::fs::ioctl_getflags(&file) {
        Ok(flags) => flags,
        // A filesystem without flags has no immutable files.
        Err(_) if !immutable => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    if flags.contains(IFlags::IMMUTABLE) == immutable {
        return Ok(());
    }
    let mut new = flags;
    new.set(IFlags::IMMUTABLE, immutable);
    rustix::fs::ioctl_setflags(&file, new).map_err(failed)
}

/// Makes a file immutable.
///
/// # Errors
///
/// When the filesystem cannot do that.
pub fn seal(path: &Path) -> Result<()> {
    set(path, true)
}

/// Makes it a file like others again, to be removed. That it is not there is no problem.
///
/// # Errors
///
/// When that fails.
pub fn open(path: &Path) -> Result<()> {
    set(path, false)
}

/// Enables fs-verity on a file. Returns its fs-verity digest.
///
/// # Errors
///
/// When the filesystem cannot do that, or there is no fsverity(1).
pub fn enable_verity(path: &Path) -> Result<Digest> {
    let file = File::open(path).map_err(Problem::io("open", path))?;
    let failed = |error: ferofs::error::Error| {
        Problem::failed(format!("{error}; layers.verity needs fs-verity"))
    };
    let measured = match fsverity::measure(&file, path) {
        Ok(measured) => measured,
        Err(_) => {
            fsverity::enable(path).map_err(failed)?;
            fsverity::measure(&file, path).map_err(failed)?
        }
    };
    Digest::parse(&measured).ok_or_else(|| {
        let path = path.display();
        Problem::failed(format!(
            "{path}: its fs-verity digest is {measured:?}, expected one by sha256"
        ))
    })
}
