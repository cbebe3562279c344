// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs dump`: shows what is in an image, as it is stored.

use super::to_stdout;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Layout;
use erofs_format::Source;
use erofs_format::ondisk::compat;
use erofs_format::ondisk::incompat;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::text::Escaped;
use ferofs::text::Hex;
use ferofs::text::Quoted;
use ferofs::text::Utc;
use std::collections::HashSet;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Show what is in an image
///
/// Without options: the superblock and the devices.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs dump layer.erofs
      Show the superblock and the devices.
  ferofs dump --tree layer.erofs
      List all files: inode number, type and mode, links, owner, size, time, path.
  ferofs dump --path /usr/bin/env layer.erofs
      Show one file, and where its data is.")]
pub struct Arguments {
    /// List all files
    #[arg(long, conflicts_with = "path")]
    tree: bool,
    /// Show one file and its extents
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
}

/// Shows what was asked for.
pub fn run(arguments: &Arguments) -> Result<()> {
    let image = Image::open(&arguments.image)?;
    show(|out| match &arguments.path {
        Some(path) => one_path(&image, path, out),
        None if arguments.tree => tree(&image, out),
        None => summary(&image, out),
    })
}

/// Lets `write` show something of an image. What cannot be read ends it, but what was shown before
/// stays.
pub(super) fn show(
    write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), Failure>,
) -> Result<()> {
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

/// The output may fail, or the image.
pub(super) enum Failure {
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

/// Names of feature bits.
const COMPAT: [(u32, &str); 7] = [
    (compat::SB_CHKSUM, "sb_chksum"),
    (compat::MTIME, "mtime"),
    (compat::XATTR_FILTER, "xattr_filter"),
    (compat::SHARED_EA_IN_METABOX, "shared_ea_in_metabox"),
    (compat::PLAIN_XATTR_PFX, "plain_xattr_pfx"),
    (compat::ISHARE_XATTRS, "ishare_xattrs"),
    (compat::RAFS_V6, "rafs_v6"),
];

/// Names of feature bits, of the second kind.
const INCOMPAT: [(u32, &str); 9] = [
    (incompat::LZ4_0PADDING, "lz4_0padding"),
    (incompat::COMPR_CFGS, "compr_cfgs"),
    (incompat::CHUNKED_FILE, "chunked_file"),
    (incompat::DEVICE_TABLE, "device_table"),
    (incompat::ZTAILPACKING, "ztailpacking"),
    (incompat::FRAGMENTS, "fragments"),
    (incompat::XATTR_PREFIXES, "xattr_prefixes"),
    (incompat::LAYOUT_48BIT, "48bit"),
    (incompat::METABOX, "metabox"),
];

fn features(bits: u32, names: &[(u32, &str)]) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut rest = bits;
    for (bit, name) in names {
        if bits & bit != 0 {
            shown.push((*name).to_string());
            rest &= !bit;
        }
    }
    if rest != 0 {
        shown.push(format!("{rest:#x}"));
    }
    if shown.is_empty() {
        "none".to_string()
    } else {
        shown.join(" ")
    }
}

fn uuid(uuid: [u8; 16]) -> String {
    let digits = Hex(&uuid).to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            shown.push('-');
        }
        shown.push(digit);
    }
    shown
}

fn summary(image: &Image, out: &mut dyn Write) -> std::result::Result<(), Failure> {
    let superblock = image.superblock();
    let block = superblock.block_size();
    let blocks = superblock.blocks();
    writeln!(out, "block size:         {block}")?;
    writeln!(
        out,
        "blocks:             {blocks} ({} bytes)",
        blocks.saturating_mul(block.into())
    )?;
    writeln!(out, "inodes:             {}", superblock.inodes())?;
    writeln!(out, "root inode:         {}", superblock.root_nid())?;
    writeln!(out, "uuid:               {}", uuid(superblock.uuid()))?;
    writeln!(
        out,
        "label:              {}",
        Quoted(superblock.volume_name())
    )?;
    let time = Utc(superblock.epoch(), superblock.fixed_nsec());
    writeln!(out, "time of compact inodes: {time}")?;
    let built = Utc(superblock.build_time(), 0);
    writeln!(out, "build time:         {built}")?;
    match superblock.checksum() {
        Some(checksum) => writeln!(out, "checksum:           {checksum:08x}, right")?,
        None => writeln!(out, "checksum:           none")?,
    }
    writeln!(
        out,
        "compatible features:   {}",
        features(superblock.compat(), &COMPAT)
    )?;
    writeln!(
        out,
        "incompatible features: {}",
        features(superblock.incompat(), &INCOMPAT)
    )?;
    writeln!(out, "metadata at:        {}", superblock.meta_pos())?;
    writeln!(out, "shared xattrs at:   {}", superblock.xattr_pos())?;
    for (index, slot) in image.devices()?.iter().enumerate() {
        let bytes = slot.blocks.saturating_mul(block.into());
        let tag = match slot.name() {
            b"" => "no tag".to_string(),
            tag => format!("tag {}", Escaped(tag)),
        };
        let flat = slot.uniaddr.saturating_mul(block.into());
        writeln!(
            out,
            "device {}: {bytes} bytes, flat at {flat}, {tag}",
            index + 1
        )?;
    }
    Ok(())
}

fn kind_letter(kind: FileKind) -> char {
    match kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::CharacterDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
    }
}

/// One line of the listing.
fn line(
    image: &Image,
    inode: &Inode,
    path: &[u8],
    out: &mut dyn Write,
) -> std::result::Result<(), Failure> {
    write!(out, "{:>8} ", inode.nid())?;
    details(image, inode, path, out)
}

/// A file in one line, without its number.
pub(super) fn details(
    image: &Image,
    inode: &Inode,
    path: &[u8],
    out: &mut dyn Write,
) -> std::result::Result<(), Failure> {
    let size = match inode.kind() {
        FileKind::CharacterDevice | FileKind::BlockDevice => {
            format!("{},{}", inode.rdev_major(), inode.rdev_minor())
        }
        _ => inode.size().to_string(),
    };
    write!(
        out,
        "{}{:04o} {:>3} {}:{} {size:>10} {} {}",
        kind_letter(inode.kind()),
        inode.mode() & 0o7777,
        inode.nlink(),
        inode.uid(),
        inode.gid(),
        Utc(inode.mtime(), inode.mtime_nsec()),
        Escaped(path),
    )?;
    if inode.kind() == FileKind::Symlink {
        write!(out, " -> {}", Escaped(&image.link_target(inode)?))?;
    }
    writeln!(out)?;
    Ok(())
}

fn tree(image: &Image, out: &mut dyn Write) -> std::result::Result<(), Failure> {
    let root = image.root()?;
    line(image, &root, b"/", out)?;
    // In a broken image a directory may be in itself.
    let mut seen = HashSet::from([root.nid()]);
    let mut left = vec![(Vec::new(), image.names(&root)?.into_iter())];
    while let Some((directory, names)) = left.last_mut() {
        let Some(name) = names.next() else {
            left.pop();
            continue;
        };
        if matches!(name.name.as_slice(), b"." | b"..") {
            continue;
        }
        let mut path = directory.clone();
        path.push(b'/');
        path.extend_from_slice(&name.name);
        let inode = image.inode(name.nid)?;
        line(image, &inode, &path, out)?;
        if inode.kind() == FileKind::Directory {
            if seen.insert(inode.nid()) {
                left.push((path, image.names(&inode)?.into_iter()));
            } else {
                writeln!(out, "         {} was listed before", Escaped(&path))?;
            }
        }
    }
    Ok(())
}

fn one_path(image: &Image, path: &Path, out: &mut dyn Write) -> std::result::Result<(), Failure> {
    let path = path.as_os_str().as_bytes();
    let inode = image.find(path)?;
    line(image, &inode, path, out)?;
    let size = if inode.is_extended() {
        "extended"
    } else {
        "compact"
    };
    writeln!(out, "inode at offset {}, {size}", inode.pos())?;
    match inode.layout() {
        Layout::Hole => writeln!(out, "layout: no data")?,
        Layout::Plain { start } => writeln!(out, "layout: plain, blocks at {start}")?,
        Layout::Inline { start: 0, tail } => writeln!(out, "layout: inline at {tail}")?,
        Layout::Inline { start, tail } => {
            writeln!(
                out,
                "layout: blocks at {start}, the last one inline at {tail}"
            )?;
        }
        Layout::Chunks {
            table,
            chunk_bits,
            indexes,
            wide,
        } => {
            let entries = match (indexes, wide) {
                (true, true) => "indexes of 48 bits",
                (true, false) => "indexes",
                (false, _) => "addresses",
            };
            let size = 1_u128 << chunk_bits;
            writeln!(out, "layout: chunks of {size} bytes, {entries} at {table}")?;
        }
    }
    for (name, value) in image.xattrs(&inode)? {
        writeln!(out, "xattr {}: {}", Escaped(&name), Quoted(&value))?;
    }
    if inode.kind().has_data() {
        for extent in image.extents(&inode) {
            let extent = extent?;
            let end = extent.start.saturating_add(extent.len);
            write!(out, "extent {} to {end}: ", extent.start)?;
            match extent.source {
                Source::Hole => writeln!(out, "hole")?,
                Source::Metadata { pos } => writeln!(out, "in the image at {pos}")?,
                Source::Device { id: 0, pos } => writeln!(out, "in the image at {pos}")?,
                Source::Device { id, pos } => writeln!(out, "in device {id} at {pos}")?,
            }
        }
    }
    Ok(())
}
