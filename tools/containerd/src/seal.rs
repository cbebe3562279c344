// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Files of layers that nobody is to change, not even root by mistake: FS_IMMUTABLE_FL, as chattr(1) sets it.

use crate::problem::Problem;
use crate::problem::Result;
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
