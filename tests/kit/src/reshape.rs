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
const CHUNK_INDEXES: u64 = 0x20;
const CHUNK_48BIT: u64 = 0x40;
const INCOMPAT_CHUNKS: u64 = 0x4;
const INCOMPAT_DEVICES: u64 = 0x8;
const INCOMPAT_48BIT: u64 = 0x80;
/// The size of a slot of the device table, and where its numbers of blocks and its flat address are.
const DEVICE_SLOT: usize = 128;
const SLOT_BLOCKS: usize = 64;
const SLOT_FLAT: usize = 68;

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// Directories of one block lose their `.` entry.
    DotOmitted,
    /// 48-bit addresses, times and implied link counts in compact inodes.
    #[value(name = "48bit")]
    Wide,
    /// The data of directories and symbolic links moves to the end of the first blob.
    NamesElsewhere,
}

/// Writes an image's tree in another form.
#[derive(clap::Args)]
pub struct Args {
    form: Form,
    image: PathBuf,
    out: PathBuf,
    /// The first blob, if the image has one.
    #[arg(long)]
    blob: Option<PathBuf>,
    /// Where the blob goes with what was moved to it.
    #[arg(long)]
    blob_out: Option<PathBuf>,
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
        Form::NamesElsewhere => {
            let blob = match &args.blob {
                Some(path) => std::fs::read(path).with_context(|| path.display().to_string())?,
                None => Vec::new(),
            };
            let mut moved = Moved::new(&mut image, blob)?;
            let changed = nodes.iter().filter(|node| moved.take(node)).count();
            let blob = moved.finish();
            let out = args.blob_out.as_ref().context("expected --blob-out")?;
            std::fs::write(out, blob).with_context(|| out.display().to_string())?;
            changed
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

/// The first blob of an image, with names at its end.
struct Moved<'a> {
    image: &'a mut Image,
    blob: Vec<u8>,
    /// Where the blob's slot in the device table is.
    slot: usize,
    /// The block at which the blob begins in the image's flat addresses.
    flat: u64,
}

impl<'a> Moved<'a> {
    /// Adds a device table to an image that has none.
    fn new(image: &'a mut Image, blob: Vec<u8>) -> Result<Self> {
        let block = image.block_size();
        let incompat = image.sb(superblock::INCOMPAT, 4);
        if image.sb(superblock::DEVICES, 2) == 0 {
            let blocks = image.sb(superblock::BLOCKS, 4) as usize;
            ensure!(blob.is_empty(), "expected an image with a device slot");
            image.bytes.resize((blocks + 1) * block, 0);
            image.put_sb(superblock::BLOCKS, 4, blocks as u64 + 1);
            image.put_sb(superblock::DEVICES, 2, 1);
            let slot = u16::try_from(blocks * block / DEVICE_SLOT)?;
            image.put_sb(superblock::DEVICE_SLOT, 2, u64::from(slot));
        }
        let incompat = incompat | INCOMPAT_CHUNKS | INCOMPAT_DEVICES;
        image.put_sb(superblock::INCOMPAT, 4, incompat);
        let slot = image.device_slots()[0];
        // Somewhere behind the image.
        let flat = (image.bytes.len() / block) as u64 + 1000;
        image.put(slot + SLOT_FLAT, 4, flat);
        let mut moved = Moved {
            image,
            blob,
            slot,
            flat,
        };
        moved.pad();
        Ok(moved)
    }

    fn pad(&mut self) {
        let block = self.image.block_size();
        self.blob.resize(self.blob.len().next_multiple_of(block), 0);
    }

    /// Moves the data of a directory or link: to a chunk where there is room for its index, which is where inline
    /// data was, else to a flat address.
    fn take(&mut self, node: &Node) -> bool {
        let is_flat = [layout::PLAIN, layout::INLINE].contains(&node.layout);
        if !(node.is_dir() || node.is_symlink()) || !is_flat || node.size == 0 {
            return false;
        }
        let block = self.image.block_size();
        let size = node.size as usize;
        let tail = if node.layout == layout::INLINE {
            size % block
        } else {
            0
        };
        let behind = self.image.behind(node);
        let index = behind.next_multiple_of(8);
        let field = node.pos + LAYOUT_FIELD;
        let to = (self.blob.len() / block) as u64;
        let start = self.image.get(field, 4) as usize * block;
        if tail > 0 && index + 8 > behind + tail {
            return false;
        }
        if size > tail {
            self.blob
                .extend_from_slice(&self.image.bytes[start..start + size - tail]);
        }
        if tail == 0 {
            self.image.put(field, 4, self.flat + to);
        } else {
            let inline = &mut self.image.bytes[behind..behind + tail];
            self.blob.extend_from_slice(inline);
            inline.fill(0);
            // One chunk that is as large as it takes.
            let bits = size.div_ceil(block).next_power_of_two().trailing_zeros();
            let format = self.image.get(node.pos + inode::FORMAT, 2) & !0xe;
            let format = format | (u64::from(layout::CHUNKS) << 1);
            self.image.put(node.pos + inode::FORMAT, 2, format);
            self.image.put(field, 4, CHUNK_INDEXES | u64::from(bits));
            self.image.put(index + 2, 2, 1);
            self.image.put(index + 4, 4, to);
        }
        self.pad();
        true
    }

    fn finish(self) -> Vec<u8> {
        let blocks = self.blob.len() / self.image.block_size();
        self.image.put(self.slot + SLOT_BLOCKS, 4, blocks as u64);
        self.blob
    }
}
