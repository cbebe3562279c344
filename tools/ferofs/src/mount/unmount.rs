// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Undoes mounts, and only those: of EROFS images, and of overlays that were mounted here.

use super::overlay::SOURCE_PREFIX;
use crate::error::Error;
use crate::error::Result;
use rustix::fs::AtFlags;
use rustix::fs::StatxFlags;
use std::fs;
use std::path::Path;

/// Unmounts the image that is mounted at `target`, with all that is below an overlay; with `lazy`
/// once nobody uses it any more.
///
/// # Errors
///
/// When no image is mounted there, or it is in use.
pub fn unmount(target: &Path, lazy: bool) -> Result<()> {
    let failed = |errno: rustix::io::Errno| Error::io("unmount", target)(errno.into());
    let found = rustix::fs::statfs(target).map_err(failed)?;
    let erofs = u64::from(erofs_format::ondisk::SUPER_MAGIC);
    let is_erofs = u64::try_from(found.f_type).ok() == Some(erofs);
    if !is_erofs && !is_overlay(target)? {
        let target = target.display();
        return Err(Error::Request(format!(
            "{target}: there is no EROFS image mounted"
        )));
    }
    let flags = match lazy {
        true => rustix::mount::UnmountFlags::DETACH,
        false => rustix::mount::UnmountFlags::empty(),
    };
    rustix::mount::unmount(target, flags).map_err(failed)
}

/// Whether the mount that a path is on is an overlay over images.
fn is_overlay(target: &Path) -> Result<bool> {
    let failed = |errno: rustix::io::Errno| Error::io("unmount", target)(errno.into());
    let flags = (AtFlags::empty(), StatxFlags::MNT_ID);
    let found = rustix::fs::statx(rustix::fs::CWD, target, flags.0, flags.1).map_err(failed)?;
    let mounts = Path::new("/proc/self/mountinfo");
    let mounts = fs::read(mounts).map_err(Error::io("read", mounts))?;
    let mounts = String::from_utf8_lossy(&mounts);
    Ok(mounts
        .lines()
        .any(|line| is_our_overlay(line, found.stx_mnt_id)))
}

/// Whether a line of mountinfo is about a mount with this number, and that is an overlay mounted
/// here. Spaces in names are escaped.
fn is_our_overlay(line: &str, id: u64) -> bool {
    let number = line
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    let Some((_, filesystem)) = line.split_once(" - ") else {
        return false;
    };
    let mut fields = filesystem.split(' ');
    let overlay = fields.next() == Some("overlay");
    let source = fields.next().unwrap_or_default();
    number == Some(id) && overlay && source.starts_with(SOURCE_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_overlays_that_were_mounted_here_are_unmounted() {
        let line = |kind: &str, source: &str| {
            format!("42 29 0:40 / /mnt ro,relatime shared:7 - {kind} {source} ro,lowerdir=x")
        };
        assert!(is_our_overlay(&line("overlay", "ferofs:oci:app"), 42));
        assert!(!is_our_overlay(&line("overlay", "ferofs:oci:app"), 41));
        assert!(!is_our_overlay(&line("overlay", "overlay"), 42));
        assert!(!is_our_overlay(&line("tmpfs", "ferofs:oci:app"), 42));
        assert!(!is_our_overlay("", 42));
    }
}
