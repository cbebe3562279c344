// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is mounted, by /proc/self/mountinfo: for [`output`](crate::output), which must not write to a
//! device in use, and [`mount`](crate::mount), which undoes only what it may. Names in it may have any bytes.

use crate::error::Error;
use crate::error::Result;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// The device that its files say they are on.
    pub device: (u32, u32),
    /// The type of the filesystem.
    pub kind: Vec<u8>,
    /// What is mounted.
    pub source: Vec<u8>,
    /// Values of the filesystem's options that name devices.
    pub devices: Vec<Vec<u8>>,
}

impl Mount {
    /// Takes a line of mountinfo.
    fn parse(line: &[u8]) -> Option<Self> {
        let text = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_string);
        let mut fields = line.split(|byte| *byte == b' ');
        let id = text(fields.next()?)?.parse().ok()?;
        let device = text(fields.nth(1)?)?;
        let (major, minor) = device.split_once(':')?;
        let device = (major.parse().ok()?, minor.parse().ok()?);
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, source) = (fields.next()?, fields.next()?);
        let options = fields.next().unwrap_or_default();
        let options = options.split(|byte| *byte == b',');
        let devices = options.filter_map(|option| option.strip_prefix(b"device="));
        Some(Mount {
            id,
            device,
            kind: unescape(kind),
            source: unescape(source),
            devices: devices.map(unescape).collect(),
        })
    }
}

/// A name without the escapes that mountinfo has for spaces and the like: `\040`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                result.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                result.push(*first);
                rest = behind;
            }
        }
    }
    result
}

/// Everything that is mounted in this mount namespace.
///
/// # Errors
///
/// When it cannot be listed.
pub fn list() -> Result<Vec<Mount>> {
    let path = Path::new("/proc/self/mountinfo");
    let lines = fs::read(path).map_err(Error::io("read", path))?;
    Ok(parse(&lines))
}

fn parse(lines: &[u8]) -> Vec<Mount> {
    lines
        .split(|byte| *byte == b'\n')
        .filter_map(Mount::parse)
        .collect()
}

/// Whether a block device is mounted, or belongs to something that is. A driver that reads it as a file does
/// not keep it from being opened.
///
/// # Errors
///
/// When mounts cannot be listed.
pub fn uses_device(device: u64) -> Result<bool> {
    let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
    let is_this = |path: &Vec<u8>| {
        let found = fs::metadata(OsStr::from_bytes(path));
        path.starts_with(b"/")
            && found
                .is_ok_and(|found| found.file_type().is_block_device() && found.rdev() == device)
    };
    Ok(list()?.iter().any(|mount| {
        mount.device == numbers || is_this(&mount.source) || mount.devices.iter().any(is_this)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_read() {
        let expected = |id, device, kind: &[u8], source: &[u8], devices: &[&[u8]]| Mount {
            id,
            device,
            kind: kind.to_vec(),
            source: source.to_vec(),
            devices: devices.iter().map(|device| device.to_vec()).collect(),
        };
        for (line, mount) in [
            (
                b"42 29 0:40 / /a\\040b ro shared:7 - overlay ferofs:oci:my\\040app\\134x ro,lowerdir=x"
                    .as_slice(),
                Some(expected(42, (0, 40), b"overlay", b"ferofs:oci:my app\\x", &[])),
            ),
            (
                b"7 1 8:1 / /caf\xe9 ro master:1 propagate_from:2 - ferofs /dev/a\xff ro,device=/dev/b,device=/c\\054d",
                Some(expected(7, (8, 1), b"ferofs", b"/dev/a\xff", &[b"/dev/b", b"/c,d"])),
            ),
            (
                b"7 1 8:1 / / rw - tmpfs none\\4 rw",
                Some(expected(7, (8, 1), b"tmpfs", b"none\\4", &[])),
            ),
            (b"", None),
            (b"42", None),
            (b"42 29 0:40 - ", None),
            (b"42 29 0:40 / / ro - overlay", None),
            (b"x 29 0:40 / / ro - overlay y z", None),
        ] {
            assert_eq!(Mount::parse(line), mount, "{}", line.escape_ascii());
        }
    }

    /// A mount point that is no text hides nothing.
    #[test]
    fn one_strange_name_hides_no_other_mount() {
        let lines = b"1 0 0:1 / /caf\xe9 rw - tmpfs t rw\n2 0 8:2 / /b rw - ext4 /dev/b rw\n";
        let found: Vec<_> = parse(lines).iter().map(|mount| mount.device).collect();
        assert_eq!(found, [(0, 1), (8, 2)]);
        assert!(!list().unwrap().is_empty());
    }
}
