// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is mounted at a directory. Called wherever something is mounted or removed: [`crate::lower`], [`crate::limit`],
//! [`crate::snapshotter`], [`crate::sweep`], [`crate::store`].

use crate::problem::Problem;
use crate::problem::Result;
use rustix::fs::AtFlags;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
use rustix::mount::UnmountFlags;
use std::path::Path;

/// Whether something is mounted at a directory.
///
/// # Errors
///
/// When there is no such directory.
pub fn is_mounted(path: &Path) -> Result<bool> {
    let found = rustix::fs::statx(
        rustix::fs::CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::TYPE,
    )
    .map_err(|errno| Problem::io("look at", path)(errno.into()))?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Unmounts what is mounted at a directory, once nobody uses it any more. That nothing is, is no problem.
///
/// # Errors
///
/// When the kernel refuses.
pub fn unmount(path: &Path) -> Result<()> {
    if path.exists() && is_mounted(path)? {
        rustix::mount::unmount(path, UnmountFlags::DETACH)
            .map_err(|errno| Problem::io("unmount", path)(errno.into()))?;
    }
    Ok(())
}
