// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Undoes mounts, and only those: of EROFS images, and of overlays that were mounted here.

use super::overlay::SOURCE_PREFIX;
use crate::error::Error;
use crate::error::Result;
use crate::text::Shown;
use rustix::fs::AtFlags;
use rustix::fs::StatxAttributes;
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
        let target = Shown(target);
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
    let mounts = Path::new("/proc/self/mountinfo");
    let mounts = fs::read(mounts).map_err(Error::io("read", mounts))?;
    let mounts = String::from_utf8_lossy(&mounts);
    Ok(mounts
        .lines()
        .find_map(|line| type_and_source(line, found.stx_mnt_id)))
}

/// Type and source in a line of mountinfo, if it is about the mount with this number.
fn type_and_source(line: &str, id: u64) -> Option<(String, String)> {
    let number = line.split(' ').next()?.parse();
    let (_, filesystem) = line.split_once(" - ")?;
    let mut fields = filesystem.split(' ');
    let (kind, source) = (fields.next()?, fields.next()?);
    (number == Ok(id)).then(|| (kind.to_string(), unescape(source)))
}

/// A name without the escapes that mountinfo has for spaces and the like: `\040`.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut result = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let code = part.get(..3);
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                result.push(char::from(byte));
                result.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                result.push('\\');
                result.push_str(part);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_read() {
        let line =
            "42 29 0:40 / /a\\040b ro shared:7 - overlay ferofs:oci:my\\040app\\134x ro,lowerdir=x";
        let expected = ("overlay".to_string(), "ferofs:oci:my app\\x".to_string());
        assert_eq!(type_and_source(line, 42), Some(expected));
        assert_eq!(type_and_source(line, 4), None);
        for line in ["", "42", "42 - ", "42 - overlay", "x - overlay y z"] {
            assert_eq!(type_and_source(line, 42), None, "{line}");
        }
    }
}
