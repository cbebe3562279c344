// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `reshape`: the same tree in a form of the format that older versions of mkfs.erofs do not write.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use clap::ValueEnum;

use crate::image::Image;
use crate::image::LAYOUT_FIELD;
use crate::image::Node;
use crate::image::inode;
use crate::image::layout;
use crate::image::superblock;

/// Bit 4 of an inode's format: one link (files), or no `.` on disk (directories).
const FORMAT_BIT_4: u64 = 0x10;
const CHUNK_48BIT: u64 = 0x40;
const INCOMPAT_48BIT: u64 = 0x80;

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// Directories of one block lose their `.` entry.
    DotOmitted,
    /// 48-bit addresses, times and implied link counts in compact inodes.
    #[value(name = "48bit")]
    Wide,
}

/// Writes an image's tree in another form.
#[derive(clap::Args)]
pub struct Args {
    form: Form,
    image: PathBuf,
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let bytes = std::fs::read(&args.image).with_context(|| args.image.display().to_string())?;
    let mut image = Image::new(bytes);
    let nodes = image.nodes();
    let changed = match args.form {
        Form::DotOmitted => nodes
            .iter()
            .filter(|node| omit_dot(&mut image, node))
            .count(),
        Form::Wide => {
            let root = image.root_nid();
            let incompat = image.sb(superblock::INCOMPAT, 4);
            image.put_sb(superblock::INCOMPAT, 4, incompat | INCOMPAT_48BIT);
            image.put_sb(superblock::ROOT_NID_48, 8, root);
            // The field becomes the upper part of the number of blocks.
            image.put_sb(superblock::ROOT_NID, 2, 0);
            nodes.iter().filter(|node| widen(&mut image, node)).count()
        }
    };
    ensure!(
        changed > 0,
        "{}: expected an inode that can be changed",
        args.image.display()
    );
    image.repair_checksum();
    std::fs::write(&args.out, image.bytes).with_context(|| args.out.display().to_string())?;
    println!("{changed} inodes changed");
    Ok(ExitCode::SUCCESS)
}

/// Writes a directory that is one inline block anew without its `.`.
fn omit_dot(image: &mut Image, node: &Node) -> bool {
    let inline = node.layout == layout::INLINE && node.size < image.block_size() as u64;
    if !node.is_dir() || !inline {
        return false;
    }
    let entries: Vec<([u64; 2], Vec<u8>)> = node
        .dirents
        .iter()
        .map(|dirent| {
            (
                [dirent.nid, image.get(dirent.pos + 10, 1)],
                image.name(dirent).to_vec(),
            )
        })
        .filter(|(_, name)| name != b".")
        .collect();
    if entries.len() + 1 != node.dirents.len() {
        return false;
    }
    let start = image.behind(node);
    let mut name_offset = entries.len() * 12;
    for (index, ([nid, kind], name)) in entries.iter().enumerate() {
        let pos = start + index * 12;
        image.put(pos, 8, *nid);
        image.put(pos + 8, 2, name_offset as u64);
        image.put(pos + 10, 1, *kind);
        image.put(pos + 11, 1, 0);
        for (offset, byte) in name.iter().enumerate() {
            image.put(start + name_offset + offset, 1, u64::from(*byte));
        }
        name_offset += name.len();
    }
    image.put(
        node.pos + inode::SIZE,
        if node.extended { 8 } else { 4 },
        name_offset as u64,
    );
    set_bit_4(image, node);
    true
}

fn set_bit_4(image: &mut Image, node: &Node) {
    let format = image.get(node.pos + inode::FORMAT, 2);
    image.put(node.pos + inode::FORMAT, 2, format | FORMAT_BIT_4);
}

/// Gives a compact inode a time, and a file with one link an implied one; widens chunk indexes.
fn widen(image: &mut Image, node: &Node) -> bool {
    if let Some((_, _, 8)) = node.chunks {
        let format = image.get(node.pos + LAYOUT_FIELD, 2);
        image.put(node.pos + LAYOUT_FIELD, 2, format | CHUNK_48BIT);
    } else if node.extended {
        return false;
    }
    if !node.extended {
        image.put(node.pos + inode::COMPACT_MTIME, 4, node.nid * 7);
        if !node.is_dir() && image.get(node.pos + inode::COMPACT_LINKS, 2) == 1 {
            image.put(node.pos + inode::COMPACT_LINKS, 2, 0);
            set_bit_4(image, node);
        }
    }
    true
}
