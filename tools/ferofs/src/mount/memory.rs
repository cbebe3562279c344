// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An index of a tar that is in memory only, for as long as somebody has it open or mounted.

use crate::build::apply_archive;
use crate::error::Error;
use crate::error::Result;
use crate::image;
use crate::tar::FileInput;
use crate::tree::Tree;
use crate::tree::whiteouts;
use crate::tree::whiteouts::Form;
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
    let mut tree = Tree::new();
    let archive = apply_archive(FileInput::new(file, size), &mut tree, 0, &mut ())
        .map_err(Error::archive(path))?;
    whiteouts::convert(&mut tree, Form::Overlay)
        .map_err(|problem| Error::Request(format!("{}: {problem}", path.display())))?;
    let options = image::Options {
        devices: vec![image::Device {
            size: archive.totals.size,
            digest: None,
        }],
        ..image::Options::default()
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(NAME_MAX / 4).collect();
    let failed =
        |errno: rustix::io::Errno| Error::io("make an index in memory of", path)(errno.into());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let index = rustix::fs::memfd_create(format!("index of {name}"), flags).map_err(failed)?;
    let index = File::from(index);
    image::write(&tree, &options, &image::source::Nothing, &index).map_err(|source| {
        Error::Image {
            path: path.to_path_buf(),
            source,
        }
    })?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&index, seals).map_err(failed)?;
    Ok((index, archive.notes))
}
