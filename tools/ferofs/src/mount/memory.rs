// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An index of a tar that is in memory only, for as long as somebody has it open or mounted.

use crate::error::Error;
use crate::error::Result;
use crate::image::source::Blobs;
use crate::index;
use crate::tar::FileInput;
use rustix::fs::MemfdFlags;
use rustix::fs::SealFlags;
use std::fs::File;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

/// Longest name that memfd_create(2) takes is 249 bytes; this much of it is of use.
const NAME_MAX: usize = 100;

/// Indexes a tar that is in an open file, as `ferofs build` does. Nobody can change the result. Also
/// returns notes about what was left out.
///
/// # Errors
///
/// When it is no tar, or the index cannot be written.
pub fn index_in_memory(path: &Path, tar: &File) -> Result<(File, Vec<String>)> {
    // For a block device, its metadata has no size.
    let mut file = tar.try_clone().map_err(Error::io("open", path))?;
    let size = file
        .seek(SeekFrom::End(0))
        .map_err(Error::io("seek in", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(NAME_MAX / 4).collect();
    let failed =
        |errno: rustix::io::Errno| Error::io("make an index in memory of", path)(errno.into());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let image = rustix::fs::memfd_create(format!("index of {name}"), flags).map_err(failed)?;
    let image = File::from(image);
    let source = Blobs(vec![tar.try_clone().map_err(Error::io("open", path))?]);
    let input = FileInput::new(file, size);
    let written = index::write_over(input, &source, &image);
    let written = written.map_err(|error| error.about(path, path))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&image, seals).map_err(failed)?;
    Ok((image, written.archive.notes))
}
