// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Files of layers that nobody is to change: FS_IMMUTABLE_FL, as chattr(1) sets it, against root's mistakes, and
//! fs-verity, by which the kernel notices what a disk changes. fsverity(1) of the system enables that.

use crate::problem::Problem;
use crate::problem::Result;
use ferofs::digest::Digest;
use rustix::fs::IFlags;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

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
    let measured = fsverity("measure", path);
    if measured.is_err() {
        fsverity("enable", path)?;
    }
    let text = measured.or_else(|_| fsverity("measure", path))?;
    let digest = text.split_whitespace().next().and_then(Digest::parse);
    digest.ok_or_else(|| {
        let path = path.display();
        Problem::failed(format!(
            "{path}: fsverity says {text:?}, expected a digest by sha256"
        ))
    })
}

fn fsverity(what: &str, path: &Path) -> Result<String> {
    let output = Command::new("fsverity")
        .arg(what)
        .arg(path)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| {
        let help = "is the package fsverity installed? layers.verity needs it";
        Problem::failed(format!("cannot run fsverity: {error}; {help}"))
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text
            .trim()
            .lines()
            .last()
            .unwrap_or("it said nothing")
            .to_owned();
        return Err(Problem::failed(format!(
            "fsverity {what} {}: {last}",
            path.display()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
