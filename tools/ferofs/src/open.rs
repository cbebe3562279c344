// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Opens files that others name: a named pipe in the place of one keeps nobody waiting. Called for the blobs of container
//! images, and for what is mounted.

use crate::error::Error;
use crate::error::Result;
use crate::text::Shown;
use rustix::fs::OFlags;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens whatever has a path for reading, and says what it is.
///
/// # Errors
///
/// When it cannot be opened.
pub fn anything(path: &Path) -> Result<(File, Metadata)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(Error::io("open", path))?;
    let metadata = file.metadata().map_err(Error::io("open", path))?;
    Ok((file, metadata))
}

/// Opens a regular file for reading.
///
/// # Errors
///
/// When it cannot be opened, or is something else.
pub fn regular(path: &Path) -> Result<(File, Metadata)> {
    let (file, metadata) = anything(path)?;
    expect_regular(path, &metadata)?;
    Ok((file, metadata))
}

/// Says that something else is no regular file.
///
/// # Errors
///
/// When it is none.
pub fn expect_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => {
            let path = Shown(path);
            Err(Error::Request(format!("{path} is no regular file")))
        }
    }
}
