// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Undoes mounts, and only those: of EROFS images, and of overlays that were mounted here.

use super::overlay::SOURCE_PREFIX;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::mounts;
use crate::text::Shown;
use rustix::fs::AtFlags;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
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
        let target = Shown(target);
        return Err(Error::of(
            Kind::NotFound,
            format!("{target}: there is no EROFS image mounted"),
        ));
    }
    let flags = match lazy {
        true => rustix::mount::UnmountFlags::DETACH,
        false => rustix::mount::UnmountFlags::empty(),
    };
    rustix::mount::unmount(target, flags).map_err(failed)
}

/// Whether a path is the root of an overlay over images.
fn is_overlay(target: &Path) -> Result<bool> {
    let found = mounted_at(target)?;
    Ok(found.is_some_and(|(kind, source)| kind == "overlay" && source.starts_with(SOURCE_PREFIX)))
}

/// Type and source of the mount that a path is the root of.
///
/// # Errors
///
/// When there is no such path, or mounts cannot be listed.
pub fn mounted_at(target: &Path) -> Result<Option<(String, String)>> {
    let failed = |errno: rustix::io::Errno| Error::io("look at", target)(errno.into());
    let found = rustix::fs::statx(
        rustix::fs::CWD,
        target,
        AtFlags::empty(),
        StatxFlags::MNT_ID,
    )
    .map_err(failed)?;
    if !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(None);
    }
    let mounts = mounts::list()?;
    let mount = mounts
        .into_iter()
        .find(|mount| mount.id == found.stx_mnt_id);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(mount.map(|mount| (text(mount.kind), text(mount.source))))
}
