// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `corrupt`: a table of single, named mistakes in an image, and what a program must see of each.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::image::Dirent;
use crate::image::Image;
use crate::image::LAYOUT_FIELD;
use crate::image::Node;
use crate::image::inode;
use crate::image::layout;
use crate::image::superblock;

/// Writes a copy of an image with one named mistake, or lists the mistakes.
#[derive(clap::Args)]
pub struct Args {
    /// Print the names.
    #[arg(long)]
    list: bool,
    #[arg(required_unless_present = "list")]
    image: Option<PathBuf>,
    #[arg(required_unless_present = "list")]
    out: Option<PathBuf>,
    #[arg(required_unless_present = "list")]
    name: Option<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let (Some(image), Some(out), Some(name)) = (&args.image, &args.out, &args.name) else {
        for case in CASES {
            println!("{}", case.name);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let bytes = std::fs::read(image).with_context(|| image.display().to_string())?;
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        bail!("{name}: no such mistake; see --list");
    };
    let Some((spoiled, path)) = case.apply(&Image::new(bytes)) else {
        bail!("{}: has nothing that {name} could spoil", image.display());
    };
    std::fs::write(out, spoiled.bytes).with_context(|| out.display().to_string())?;
    println!("{}", String::from_utf8_lossy(&path));
    Ok(ExitCode::SUCCESS)
}

/// Where a mistake shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// mount(2) fails.
    Mount,
    /// lstat(2) of the path fails.
    Stat,
    /// Listing the path fails.
    List,
    /// Reading the path fails.
    Read,
    /// readlink(2) of the path fails.
    ReadLink,
}

/// One mistake.
pub struct Case {
    pub name: &'static str,
    pub probe: Probe,
    /// The errors that are right.
    pub errors: &'static [&'static str],
    spoil: fn(&mut Image, &[Node]) -> Option<Vec<u8>>,
}

impl Case {
    /// The spoiled image, and the path to probe; `None` if the image has nothing of the kind.
    pub fn apply(&self, image: &Image) -> Option<(Image, Vec<u8>)> {
        let mut spoiled = image.clone();
        let path = (self.spoil)(&mut spoiled, &image.nodes())?;
        // What lies in the superblock's block is under the checksum, be it an inode or a directory.
        if self.name != "checksum" {
            spoiled.repair_checksum();
        }
        (spoiled.bytes != image.bytes).then_some((spoiled, path))
    }
}

const BAD: &[&str] = &["EUCLEAN"];
/// A page that cannot be filled may be reported to the reader as an I/O error.
const BAD_READ: &[&str] = &["EUCLEAN", "EIO"];
const UNSUPPORTED: &[&str] = &["EOPNOTSUPP"];
/// Where any bytes mean something: what matters is that reading them has an end, and that the kernel survives it.
const ENDS: &[&str] = &["EUCLEAN", "EIO", "no error"];
/// Values that a later version of the format may give a meaning.
const BAD_OR_NEW: &[&str] = &["EUCLEAN", "EOPNOTSUPP"];
/// What has no magic number is no image, which mount(8) wants to hear as EINVAL.
const NO_IMAGE: &[&str] = &["EINVAL"];

macro_rules! cases {
    ($($name:literal $probe:ident $errors:ident $spoil:expr;)*) => {
        /// All mistakes. The superblock's checksum is right unless the case says otherwise.
        pub const CASES: &[Case] =
            &[$(Case { name: $name, probe: Probe::$probe, errors: $errors, spoil: $spoil }),*];
    };
}

/// Sets a superblock field.
fn sb(image: &mut Image, field: usize, size: usize, value: u64) -> Option<Vec<u8>> {
    image.put_sb(field, size, value);
    root()
}

fn root() -> Option<Vec<u8>> {
    Some(b".".to_vec())
}

/// The first inode but the root that is as wanted.
fn find(nodes: &[Node], wanted: impl Fn(&Node) -> bool) -> Option<&Node> {
    nodes
        .iter()
        .filter(|node| node.path != b".")
        .find(|node| wanted(node))
}

/// Sets a field of a node's inode.
fn set(image: &mut Image, node: &Node, field: usize, size: usize, value: u64) -> Option<Vec<u8>> {
    image.put(node.pos + field, size, value);
    Some(node.path.clone())
}

fn any_file(nodes: &[Node]) -> Option<&Node> {
    find(nodes, Node::is_file)
}

fn inline_file(nodes: &[Node]) -> Option<&Node> {
    find(nodes, |node| {
        node.is_file() && node.layout == layout::INLINE && node.size > 0
    })
}

fn chunk_file(nodes: &[Node], entry: usize) -> Option<&Node> {
    find(nodes, |node| {
        node.is_file() && node.chunks.is_some_and(|(_, _, size)| size == entry)
    })
}

/// A directory below the root with more than `.` and `..`, and its first entries.
fn directory(nodes: &[Node]) -> Option<(&Node, &Dirent, &Dirent)> {
    let node = find(nodes, |node| node.is_dir() && node.dirents.len() > 3)?;
    Some((node, node.dirents.first()?, node.dirents.get(1)?))
}

/// The path of a child of that directory, which a lookup finds only through the spoiled block.
fn child(image: &Image, node: &Node) -> Option<Vec<u8>> {
    let dirent = node
        .dirents
        .iter()
        .find(|dirent| !matches!(image.name(dirent), b"." | b".."))?;
    Some([&node.path[..], b"/", image.name(dirent)].concat())
}

/// The map header of a compressed inode.
fn map_header(image: &Image, node: &Node) -> usize {
    image.behind(node).next_multiple_of(8)
}

/// A compressed file whose header has all of these bits of advice and none of those, and whose data is not all a fragment.
fn compressed_file<'n>(
    image: &Image,
    nodes: &'n [Node],
    layout: u16,
    wanted: impl Fn(&Node, usize) -> bool,
) -> Option<(&'n Node, usize)> {
    let node = find(nodes, |node| {
        let header = map_header(image, node);
        node.is_file()
            && node.layout == layout
            && image.get(header + 7, 1) & 0x80 == 0
            && wanted(node, header)
    })?;
    Some((node, map_header(image, node)))
}

/// A file with indexes of 8 bytes, where they are, and where the first of them is that is not of a cluster's beginning.
fn full_indexes<'n>(image: &Image, nodes: &'n [Node]) -> Option<(&'n Node, usize, usize)> {
    let middle = |node: &Node, header: usize| {
        let count = (node.size as usize).div_ceil(image.block_size());
        (header + 16..)
            .step_by(8)
            .take(count)
            .find(|place| image.get(*place, 2) & 3 == 2)
    };
    let (node, header) = compressed_file(image, nodes, layout::COMPRESSED_FULL, |node, header| {
        image.get(header + 4, 2) & 1 == 0
            && image.get(header + 16, 2) & 3 == 1
            && middle(node, header).is_some()
    })?;
    Some((node, header + 16, middle(node, header)?))
}

/// A file that is compressed with this algorithm, and its first block of compressed data: its number is in the
/// first pack of indexes, which has two of four bytes.
fn compressed_data<'n>(
    image: &Image,
    nodes: &'n [Node],
    algorithm: u64,
) -> Option<(&'n Node, usize)> {
    let (node, header) =
        compressed_file(image, nodes, layout::COMPRESSED_COMPACT, |node, header| {
            let is_of_two = (header + 8) % 32 != 0 || image.get(header + 4, 2) & 1 == 0;
            // No tail elsewhere.
            is_of_two
                && image.get(header + 4, 2) & 0x28 == 0
                && image.get(header + 6, 1) & 0xf == algorithm
                && node.size > 2 * image.block_size() as u64
        })?;
    // With big physical clusters the number is that of the first itself.
    let before = usize::from(image.get(header + 4, 2) & 6 == 0);
    let block = image.get(header + 12, 4) as usize + before;
    Some((node, block * image.block_size()))
}

/// A file that is all in the packed inode.
fn fragment<'n>(image: &Image, nodes: &'n [Node]) -> Option<&'n Node> {
    find(nodes, |node| {
        node.is_file()
            && matches!(
                node.layout,
                layout::COMPRESSED_FULL | layout::COMPRESSED_COMPACT
            )
            && node.size > 0
            && image.get(map_header(image, node) + 7, 1) & 0x80 != 0
    })
}

/// Replaces the first block of compressed data by what `change` makes of it.
fn change_data(
    image: &mut Image,
    nodes: &[Node],
    algorithm: u64,
    change: impl FnOnce(&mut [u8]),
) -> Option<Vec<u8>> {
    let (node, pos) = compressed_data(image, nodes, algorithm)?;
    let block = image.block_size();
    change(image.bytes.get_mut(pos..pos + block)?);
    Some(node.path.clone())
}

/// Of the first block of compressed data, whose bytes are at its end, the second half is not there.
fn cut(block: &mut [u8]) {
    let half = block.len() / 2;
    block[half..].fill(0);
}

cases! {
    "empty-image" Mount NO_IMAGE |image, _| { image.bytes.clear(); root() };
    "image-ends-before-superblock" Mount NO_IMAGE |image, _| { image.bytes.truncate(1024); root() };
    "image-ends-in-superblock" Mount BAD |image, _| { image.bytes.truncate(1100); root() };
    "magic" Mount NO_IMAGE |image, _| sb(image, superblock::MAGIC, 4, 0);
    "checksum" Mount BAD |image, _| {
        if image.sb(superblock::COMPAT, 4) & 1 == 0 {
            return None;
        }
        let sum = image.sb(superblock::CHECKSUM, 4);
        image.put_sb(superblock::CHECKSUM, 4, sum ^ 1);
        root()
    };
    "block-bits-8" Mount BAD |image, _| sb(image, superblock::BLOCK_BITS, 1, 8);
    "block-bits-13" Mount BAD_OR_NEW |image, _| sb(image, superblock::BLOCK_BITS, 1, 13);
    "block-bits-255" Mount BAD |image, _| sb(image, superblock::BLOCK_BITS, 1, 255);
    "unknown-incompat-feature" Mount UNSUPPORTED |image, _| {
        let old = image.sb(superblock::INCOMPAT, 4);
        sb(image, superblock::INCOMPAT, 4, old | 0x4000_0000)
    };
    "extslots-255" Mount BAD |image, _| sb(image, superblock::EXTSLOTS, 1, 255);
    "directory-block-bits" Mount BAD_OR_NEW |image, _| sb(image, superblock::DIR_BLOCK_BITS, 1, 1);
    "root-outside-image" Mount BAD |image, _| sb(image, superblock::META_BLOCK, 4, 0x00ff_ffff);
    "root-is-a-file" Mount BAD |image, nodes| {
        let nid = any_file(nodes).filter(|node| node.nid <= 0xffff)?.nid;
        sb(image, superblock::ROOT_NID, 2, nid)
    };
    "root-without-type" Mount BAD |image, nodes| set(image, nodes.first()?, inode::MODE, 2, 0o755);
    "device-table-outside-image" Mount BAD |image, _| {
        image.device_slots().first()?;
        sb(image, superblock::DEVICE_SLOT, 2, 0xffff)
    };
    "inode-format-unknown-bit" Stat BAD_OR_NEW |image, nodes| {
        let node = any_file(nodes)?;
        let format = image.get(node.pos, 2);
        set(image, node, inode::FORMAT, 2, format | 0x4000)
    };
    "inode-layout-7" Stat BAD_OR_NEW |image, nodes| {
        let node = any_file(nodes)?;
        let format = image.get(node.pos, 2);
        set(image, node, inode::FORMAT, 2, format | 0xe)
    };
    "inode-without-type" Stat BAD |image, nodes| set(image, any_file(nodes)?, inode::MODE, 2, 0o644);
    "inode-of-all-types" Stat BAD |image, nodes| set(image, any_file(nodes)?, inode::MODE, 2, 0xffff);
    "inode-size-negative" Stat BAD |image, nodes| {
        let node = find(nodes, |node| node.is_file() && node.extended)?;
        set(image, node, inode::SIZE, 8, 1 << 63)
    };
    "inode-outside-image" Stat BAD |image, nodes| {
        let (node, ..) = directory(nodes)?;
        let dirent = node.dirents.iter().find(|dirent| !matches!(image.name(dirent), b"." | b".."))?;
        image.put(dirent.pos, 8, 1 << 40);
        child(image, node)
    };
    "inode-number-overflows" Stat BAD |image, nodes| {
        let (node, ..) = directory(nodes)?;
        let dirent = node.dirents.iter().find(|dirent| !matches!(image.name(dirent), b"." | b".."))?;
        image.put(dirent.pos, 8, (1 << 60) + 5);
        child(image, node)
    };
    "inline-data-leaves-block" Stat BAD |image, nodes| {
        let node = inline_file(nodes)?;
        let size = image.block_size() as u64 - 1;
        set(image, node, inode::SIZE, 4, size)
    };
    "chunk-format-unknown-bit" Stat BAD_OR_NEW |image, nodes| {
        let node = find(nodes, |node| node.is_file() && node.chunks.is_some())?;
        let format = image.get(node.pos + LAYOUT_FIELD, 2);
        set(image, node, LAYOUT_FIELD, 2, format | 0x8000)
    };
    "chunk-device-unknown" Read BAD_READ |image, nodes| {
        // Ids are masked to as many bits as the number of devices has: of 2, 3 is one that is not there.
        if image.device_slots().len() != 2 {
            return None;
        }
        let node = chunk_file(nodes, 8)?;
        image.put(node.chunks?.0 + 2, 2, 3);
        Some(node.path.clone())
    };
    "chunk-behind-device" Read BAD_READ |image, nodes| {
        let node = chunk_file(nodes, 8)?;
        image.put(node.chunks?.0 + 4, 4, 0xffff_fff0);
        Some(node.path.clone())
    };
    "chunk-map-behind-image" Read BAD_READ |image, nodes| {
        let node = chunk_file(nodes, 4)?;
        image.put(node.chunks?.0, 4, 0xffff_fff0);
        Some(node.path.clone())
    };
    "plain-data-behind-image" Read BAD_READ |image, nodes| {
        let node = find(nodes, |node| node.is_file() && node.layout == layout::PLAIN && node.size > 0)?;
        set(image, node, LAYOUT_FIELD, 4, 0x0fff_fff0)
    };
    "symlink-too-long" ReadLink BAD |image, nodes| {
        let node = find(nodes, |node| node.is_symlink() && node.layout == layout::PLAIN)?;
        set(image, node, inode::SIZE, 4, 0x10_0000)
    };
    "symlink-with-nul" ReadLink BAD |image, nodes| {
        let node = find(nodes, |node| node.is_symlink() && node.layout == layout::INLINE && node.size > 4)?;
        let target = image.behind(node);
        image.put(target + 2, 1, 0);
        Some(node.path.clone())
    };
    "directory-first-name-at-0" List BAD |image, nodes| {
        let (node, first, _) = directory(nodes)?;
        image.put(first.pos + 8, 2, 0);
        Some(node.path.clone())
    };
    "directory-first-name-uneven" List BAD |image, nodes| {
        let (node, first, _) = directory(nodes)?;
        let old = image.get(first.pos + 8, 2);
        image.put(first.pos + 8, 2, old + 1);
        Some(node.path.clone())
    };
    "directory-first-name-behind-block" List BAD |image, nodes| {
        let (node, first, _) = directory(nodes)?;
        image.put(first.pos + 8, 2, 0xfff0);
        Some(node.path.clone())
    };
    "directory-first-name-behind-block-lookup" Stat BAD |image, nodes| {
        let (node, first, _) = directory(nodes)?;
        let path = child(image, node)?;
        image.put(first.pos + 8, 2, 0xfff0);
        Some(path)
    };
    "directory-names-go-back" List BAD |image, nodes| {
        let (node, first, second) = directory(nodes)?;
        let old = image.get(first.pos + 8, 2);
        image.put(second.pos + 8, 2, old - 1);
        Some(node.path.clone())
    };
    "directory-name-behind-block" List BAD |image, nodes| {
        let (node, _, second) = directory(nodes)?;
        image.put(second.pos + 8, 2, 0xffff);
        Some(node.path.clone())
    };
    "directory-last-name-behind-block" List BAD |image, nodes| {
        let (node, ..) = directory(nodes)?;
        image.put(node.dirents.last()?.pos + 8, 2, 0xffff);
        Some(node.path.clone())
    };
    "directory-last-name-behind-block-lookup" Stat BAD |image, nodes| {
        let (node, ..) = directory(nodes)?;
        let last = node.dirents.last()?;
        let path = [&node.path[..], b"/", image.name(last)].concat();
        image.put(last.pos + 8, 2, 0xffff);
        Some(path)
    };
    "directory-name-empty" List BAD |image, nodes| {
        let (node, first, second) = directory(nodes)?;
        let old = image.get(first.pos + 8, 2);
        image.put(second.pos + 8, 2, old);
        Some(node.path.clone())
    };
    "directory-outside-image" List BAD |image, nodes| {
        let block = image.block_size() as u64;
        let node = find(nodes, |node| {
            node.is_dir() && (node.layout == layout::PLAIN || node.size > block)
        })?;
        set(image, node, LAYOUT_FIELD, 4, 0x0fff_fff0)
    };
    "compressed-indexes-without-head" Read BAD_READ |image, nodes| {
        let (node, table, _) = full_indexes(image, nodes)?;
        for number in 0..(node.size as usize).div_ceil(image.block_size()) {
            image.put(table + 8 * number, 2, 2);
            image.put(table + 8 * number + 4, 4, (1 << 16) | 1);
        }
        Some(node.path.clone())
    };
    "compressed-index-points-at-itself" Read BAD_READ |image, nodes| {
        let (node, table, middle) = full_indexes(image, nodes)?;
        // Nor does the file begin with a beginning.
        image.put(table, 2, 2);
        image.put(table + 4, 4, 1 << 16);
        image.put(middle + 4, 4, 1 << 16);
        Some(node.path.clone())
    };
    "compressed-index-points-before-the-file" Read BAD_READ |image, nodes| {
        let (node, table, middle) = full_indexes(image, nodes)?;
        image.put(table, 2, 2);
        image.put(table + 4, 4, (1 << 16) | 0x7ff);
        image.put(middle + 4, 4, (1 << 16) | 0x7ff);
        Some(node.path.clone())
    };
    "compressed-size-beyond-indexes" Read ENDS |image, nodes| {
        let (node, ..) = full_indexes(image, nodes)?;
        set(image, node, inode::SIZE, 4, 0xffff_f000)
    };
    "compressed-cluster-behind-image" Read BAD_READ |image, nodes| {
        let (node, table, _) = full_indexes(image, nodes)?;
        image.put(table + 4, 4, 0xffff_fff0);
        Some(node.path.clone())
    };
    "compressed-clusters-are-one" Read ENDS |image, nodes| {
        let (node, table, _) = full_indexes(image, nodes)?;
        let block = image.get(table + 4, 4);
        for number in 1..(node.size as usize).div_ceil(image.block_size()) {
            if image.get(table + 8 * number, 2) & 3 == 1 {
                image.put(table + 8 * number + 4, 4, block);
            }
        }
        Some(node.path.clone())
    };
    "compressed-compact-indexes-of-ones" Read BAD_READ |image, nodes| {
        let (node, header) = compressed_file(image, nodes, layout::COMPRESSED_COMPACT, |node, _| {
            node.size > 4 * image.block_size() as u64
        })?;
        image.put(header + 8, 8, u64::MAX);
        image.put(header + 16, 8, u64::MAX);
        Some(node.path.clone())
    };
    "compressed-as-plain-of-many-blocks" Read ENDS |image, nodes| {
        // What is as it is, is said to be as far into its blocks as it is in the file: as clusters that hold less.
        let (node, table, _) = full_indexes(image, nodes)?;
        let advice = image.get(table - 12, 2);
        image.put(table - 12, 2, advice | 0x10);
        image.put(table, 2, 0);
        image.put(table + 2, 2, 0x123);
        Some(node.path.clone())
    };
    "lz4-of-ones" Read BAD_READ |image, nodes| change_data(image, nodes, 0, |block| block.fill(0xff));
    "lz4-of-zeros" Read BAD_READ |image, nodes| change_data(image, nodes, 0, |block| block.fill(0));
    "lz4-refers-to-before-its-beginning" Read BAD_READ |image, nodes| {
        change_data(image, nodes, 0, |block| block[..4].copy_from_slice(&[0x1f, b'a', 0xff, 0xff]))
    };
    "lz4-cut-off" Read BAD_READ |image, nodes| change_data(image, nodes, 0, cut);
    "lzma-cut-off" Read BAD_READ |image, nodes| change_data(image, nodes, 1, cut);
    "deflate-cut-off" Read BAD_READ |image, nodes| change_data(image, nodes, 2, cut);
    "inline-cluster-leaves-block" Read BAD_READ |image, nodes| {
        let (node, header) = compressed_file(image, nodes, layout::COMPRESSED_COMPACT, |_, header| {
            image.get(header + 4, 2) & 8 != 0 && image.get(header + 2, 2) != 0
        })?;
        image.put(header + 2, 2, 0xffff);
        Some(node.path.clone())
    };
    "fragment-behind-packed-inode" Read BAD_READ |image, nodes| {
        let node = fragment(image, nodes)?;
        let header = map_header(image, node);
        image.put(header, 8, (1 << 63) | 0x7fff_ffff_0000);
        Some(node.path.clone())
    };
    "packed-inode-is-a-fragment" Read BAD_READ |image, nodes| {
        let node = fragment(image, nodes)?;
        image.put_sb(superblock::PACKED_NID, 8, node.nid);
        Some(node.path.clone())
    };
    "packed-inode-outside-image" Read BAD_READ |image, nodes| {
        let node = fragment(image, nodes)?;
        image.put_sb(superblock::PACKED_NID, 8, 1 << 40);
        Some(node.path.clone())
    };
}
