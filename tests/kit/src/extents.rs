// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `extents`: where the bytes of a tree's files and directories lie, as the kernel tells: FS_IOC_FIEMAP for
//! all of it and for parts, SEEK_DATA and SEEK_HOLE. Printed, to be compared with the C driver's.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::escape::escape;
use crate::raw::fiemap;
use crate::raw::fiemap::Extent;
use crate::raw::fiemap::fiemap;
use crate::walk;

/// Prints where the bytes of a tree's files and directories lie.
#[derive(clap::Args)]
pub struct Args {
    dir: PathBuf,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    for entry in walk::tree(&args.dir)? {
        let regular = entry.metadata.is_file();
        if !regular && !entry.metadata.is_dir() {
            continue;
        }
        let name = escape(&entry.relative);
        let file = File::open(&entry.path).with_context(|| format!("{name}: open"))?;
        let size = entry.metadata.size();
        println!("{name} {size}");
        for (start, length) in [
            (0, u64::MAX),
            (size / 3, size / 3),
            (size.saturating_sub(1), 1),
            (size, 1),
        ] {
            extents(&file, start, length)?;
        }
        if regular {
            holes(&file).with_context(|| format!("{name}: seek"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the extents between two positions: no more of the first and the last than lies there, and those
/// that follow each other in both places as one, for how they are cut is nothing that a file has.
fn extents(file: &File, start: u64, length: u64) -> Result<()> {
    let end = start.saturating_add(length);
    println!("  from {start} to {end}");
    let mut all: Vec<Extent> = Vec::new();
    let mut at = start;
    while at < end {
        let found = match fiemap(file, at, end - at) {
            Ok(found) => found,
            Err(error) => {
                println!("    error {}", error.raw_os_error());
                return Ok(());
            }
        };
        for mut extent in found.iter().copied() {
            let before = start.saturating_sub(extent.logical);
            extent.logical += before;
            extent.physical += before;
            extent.length = extent
                .length
                .saturating_sub(before)
                .min(end - extent.logical);
            match all.last_mut() {
                Some(last)
                    if last.logical + last.length == extent.logical
                        && last.physical + last.length == extent.physical
                        && last.flags == extent.flags & !fiemap::LAST =>
                {
                    last.length += extent.length;
                    last.flags = extent.flags;
                }
                _ => all.push(extent),
            }
        }
        match found.last() {
            Some(last) if last.flags & fiemap::LAST == 0 => at = last.logical + last.length,
            _ => break,
        }
    }
    for extent in all {
        println!(
            "    {} at {} length {} flags {:#x}",
            extent.logical, extent.physical, extent.length, extent.flags
        );
    }
    Ok(())
}

/// Prints where data and holes begin.
fn holes(file: &File) -> Result<()> {
    let mut at = 0;
    loop {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data))?;
        println!("  data from {data} to {hole}");
        at = hole;
    }
}
