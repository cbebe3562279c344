// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Descriptors of virtual disks in the form of VMDK: text that says which sectors of the disk are which of a file. Nothing is
//! copied, the files stay what they are. QEMU and the machines that containers run in read it.
//!
//! All extents are of the type FLAT. There is one for zeros, too, but QEMU passes over it as if it was not there.

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::text::Shown;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// What a descriptor counts in.
pub const SECTOR: u64 = 512;
/// The longest name that QEMU reads.
const NAME_MAX: usize = 511;
/// What disks of the adapter type "ide" have: so many sectors in a track, so many heads, and cylinders at most.
const GEOMETRY: (u64, u64, u64) = (63, 16, 16_383);

/// A part of a file that is a part of a disk; in whole sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub pos: u64,
    /// How many bytes.
    pub len: u64,
}

/// The text of a descriptor, which is to be in the file `target`. `id` tells it from others.
///
/// # Errors
///
/// When a file cannot be named in it.
pub fn descriptor(target: &Path, extents: &[Extent], id: u32) -> Result<String> {
    let sectors = extents
        .iter()
        .map(|extent| extent.len / SECTOR)
        .sum::<u64>();
    let (track, heads, most) = GEOMETRY;
    let cylinders = (sectors / (track * heads)).clamp(1, most);
    // All ones is "no parent".
    let id = id & 0x7fff_ffff;
    let mut text = format!(
        "# Disk DescriptorFile\nversion=1\nCID={id:08x}\nparentCID=ffffffff\n\
         createType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n"
    );
    for extent in extents {
        let (name, sectors) = (name(target, &extent.path)?, extent.len / SECTOR);
        let at = extent.pos / SECTOR;
        // QEMU knows only extents that may be written to; a machine is given the disk read-only.
        let _ = writeln!(text, "RW {sectors} FLAT \"{name}\" {at}");
    }
    let _ = write!(
        text,
        "\n# The Disk Data Base\n#DDB\nddb.virtualHWVersion = \"4\"\nddb.adapterType = \"ide\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"{heads}\"\nddb.geometry.sectors = \"{track}\"\n"
    );
    Ok(text)
}

/// What a descriptor calls a file: its name alone if it is beside the descriptor, so that both can be moved; else its whole path.
fn name(target: &Path, file: &Path) -> Result<String> {
    let find = |path: &Path| path.canonicalize().map_err(Error::io("find", path));
    let whole = find(file)?;
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = find(directory)?;
    let name = match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(name)) if parent == directory => Path::new(name),
        _ => &whole,
    };
    let bytes = name.as_os_str().as_bytes();
    let fits = |text: &&str| {
        let odd = |c: char| c.is_control() || c == '"';
        text.len() <= NAME_MAX && !text.contains(odd)
    };
    match std::str::from_utf8(bytes).ok().filter(fits) {
        Some(text) => Ok(text.to_string()),
        None => {
            let path = Shown(&whole);
            Err(Error::of(
                Kind::Refused,
                format!(
                    "{path}: a VMDK descriptor has no form for this name, expected UTF-8 of at most {NAME_MAX} bytes without \
                     quotation marks and control characters"
                ),
            ))
        }
    }
}
