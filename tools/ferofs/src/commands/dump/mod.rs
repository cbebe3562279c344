// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs dump`: shows what is in an image, as it is stored. The same as `dump.ferofs`, with the short
//! options of dump.erofs.

mod document;
pub mod text;

use super::parse_number;
use super::to_stdout;
use clap::Parser;
use erofs_format::Extent;
use erofs_format::Source;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::inspect::Image;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Show what is in an image
///
/// Without options: the superblock and the devices.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs dump layer.erofs
      Show the superblock and the devices.
  ferofs dump --statistics layer.erofs
      Count files, layouts, extents and bytes.
  ferofs dump --tree layer.erofs
      List all files: inode number, type and mode, links, owner, size, time, path.
  ferofs dump --path /usr/bin/env layer.erofs
      Show one file, and where its data is.
  ferofs dump --json --path /usr/bin/env layer.erofs | jq .file.extents
      The same for programs.")]
pub struct Arguments {
    /// Show the superblock and the devices, also beside something else
    #[arg(short, long)]
    superblock: bool,
    /// Count what there is
    #[arg(short = 'S', long)]
    statistics: bool,
    /// List all files
    #[arg(long)]
    tree: bool,
    /// Show one file, its attributes and its extents
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// The same by the number of its inode
    #[arg(long, value_name = "NUMBER", conflicts_with = "path", value_parser = parse_number::<u64>)]
    nid: Option<u64>,
    /// Accepted and ignored: extents are always shown
    #[arg(short, hide = true)]
    extents: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// A file of the image's device table, for images that have names there; repeat in its order
    #[arg(long, value_name = "FILE")]
    device: Vec<PathBuf>,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
}

/// Show what is in an EROFS image
///
/// The same as `ferofs dump`, with the options of dump.erofs.
#[derive(Parser)]
#[command(name = "dump.ferofs", version, disable_version_flag = true)]
pub struct Dump {
    /// List the directory called by --path
    #[arg(long, requires = "path", conflicts_with = "cat")]
    ls: bool,
    /// Write the data of the file called by --path to standard output
    #[arg(long, requires = "path")]
    cat: bool,
    #[arg(long, hide = true, value_name = "X")]
    offset: Option<String>,
    /// Show the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    arguments: Arguments,
}

/// What is shown.
pub struct Wanted<'a> {
    image: &'a Image,
    superblock: bool,
    statistics: bool,
    tree: bool,
    /// One file, and what to call it.
    file: Option<(erofs_format::Inode, Vec<u8>)>,
}

/// Shows what was asked for by the options of dump.erofs.
pub fn run_dump(dump: &Dump) -> Result<()> {
    let offset = (
        dump.offset.is_some(),
        "--offset",
        "an image is a file of its own",
    );
    super::refuse([offset])?;
    let Arguments {
        image,
        path,
        device,
        ..
    } = &dump.arguments;
    let path = path.as_slice();
    match path {
        path if dump.ls => super::ls::run(&super::ls::Arguments::long(image, path, device)),
        path if dump.cat => super::cat::run(&super::cat::Arguments::new(image, path, device)),
        _ => run(&dump.arguments),
    }
}

/// Shows what was asked for.
pub fn run(arguments: &Arguments) -> Result<()> {
    let image = Image::open(&arguments.image)?;
    if !arguments.device.is_empty() {
        image.open_devices(&arguments.device, &[])?;
    }
    let file = match (&arguments.path, arguments.nid) {
        (Some(path), _) => {
            let path = path.as_os_str().as_bytes();
            Some((image.find(path)?, path.to_vec()))
        }
        (None, Some(nid)) => Some((image.inode(nid)?, Vec::new())),
        (None, None) => None,
    };
    let other = arguments.statistics || arguments.tree || file.is_some();
    let wanted = Wanted {
        image: &image,
        superblock: arguments.superblock || !other,
        statistics: arguments.statistics,
        tree: arguments.tree,
        file,
    };
    show(|out| match arguments.json {
        true => document::write(&wanted, out),
        false => plain(&wanted, out),
    })
}

fn plain(wanted: &Wanted<'_>, out: &mut dyn Write) -> std::result::Result<(), Failure> {
    let image = wanted.image;
    if wanted.superblock {
        text::summary(image, out)?;
    }
    if wanted.statistics {
        text::statistics(image, out)?;
    }
    if let Some((inode, path)) = &wanted.file {
        text::file(image, inode, path, out)?;
    }
    if wanted.tree {
        text::tree(image, out)?;
    }
    Ok(())
}

/// Lets `write` show something of an image. What cannot be read ends it, but what was shown before
/// stays.
pub fn show(write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), Failure>) -> Result<()> {
    let mut failure = None;
    to_stdout(|out| match write(out) {
        Ok(()) => Ok(()),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Image(error)) => {
            failure = Some(error);
            Ok(())
        }
    })?;
    failure.map_or(Ok(()), Err)
}

/// Which device an extent is in, 0 being the image itself, and where in it; `None` for a hole.
fn place(extent: &Extent) -> Option<(u16, u64)> {
    match extent.source {
        Source::Hole => None,
        Source::Clusters { .. } => None,
        Source::Metadata { pos, .. } => Some((0, pos)),
        Source::Device { id, pos } => Some((id, pos)),
    }
}

/// The output may fail, or the image.
pub enum Failure {
    Output(io::Error),
    Image(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Image(error)
    }
}
