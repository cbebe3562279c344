// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Decides where everything in an image goes, before a byte is written.
//!
//! The superblock and the device table come first, then the root's inode, then for every directory
//! in the order of a walk: its blocks, the inodes in it, and the blocks of link targets too long to
//! be behind their inodes. `emit` goes through the same steps and relies on every address here.

use super::Device;
use super::Error;
use super::Inodes;
use super::Mode;
use super::Options;
use super::Order;
use super::directory::Filler;
use super::pieces::Piece;
use super::pieces::copied;
use super::pieces::is_in_pieces;
use super::pieces::pieces;
use super::problem_of;
use super::store::Packed;
use super::xattrs;
use crate::clusters::Compressed;
use crate::clusters::End;
use crate::clusters::indexes::Common;
use crate::clusters::referred::Referred;
use crate::tar::Segment;
use crate::tar::Time;
use crate::tree;
use crate::tree::Children;
use crate::tree::Content;
use crate::tree::Data;
use crate::tree::Inode;
use crate::tree::InodeId;
use crate::tree::NAME_MAX;
use crate::tree::NameId;
use crate::tree::Tree;
use erofs_format::ondisk;
use erofs_format::ondisk::ChunkIndex;
use std::collections::HashMap;
use std::ops::Range;

/// Data starts on a page of this size.
pub const PAGE: u64 = 4096;
/// Where the superblock ends: there is the device table, or what is said of algorithms, and the table behind that.
pub const TABLE: u64 = ondisk::SUPER_OFFSET + size_of::<ondisk::Superblock>() as u64;
/// Largest chunk size relative to the block size that the format has room for.
const MAX_CHUNK_BITS: u32 = 31;
/// A file whose chunk indexes would take more than this is refused: its holes are too many.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// What the tables of files with holes, and copies of their data, may take, however little data they have: no
/// small archive is to become a large image.
const MAX_OF_HOLES: u64 = 128 << 20;
/// Of the data of such a file in the image itself its chunks may have so many times as much.
const MAX_PADDING: u64 = 16;
/// The same for the chunks of such files in the image itself, which come with zeros around the data.
const MAX_PADDED: u64 = 512 << 20;

/// So many gaps at the ends of blocks are remembered.
const MAX_GAPS: usize = 64;

/// Sparse files in the image itself are cut into so many chunks at most, as a power of two; if they have much
/// data, into more, whose table takes a quarter as much as the data.
const COPIED_CHUNK_COUNT_BITS: u32 = 16;

/// Where everything goes.
pub struct Plan {
    /// Block size in bytes.
    pub block: u64,
    /// The time that compact inodes have.
    pub epoch: Time,
    /// Where the data of files is.
    pub mode: Mode,
    inline_data: bool,
    chunk_bits: Option<u8>,
    inode_form: Inodes,
    one_time: bool,
    /// Files whose data is in the image, in the order it has there.
    pub data: Vec<NameId>,
    /// Whether block addresses need more than 32 bits.
    pub wide: bool,
    /// Position of every inode in bytes; zero for those without a name.
    positions: Vec<u64>,
    /// Number of links of every inode.
    links: Vec<u32>,
    /// Position of the blocks of inodes that have some.
    blocks: HashMap<u32, u64>,
    /// All directories in the order of the walk.
    walk: Vec<NameId>,
    /// Everything of the metadata in the order of its positions.
    pub steps: Vec<Step>,
    /// Where room was left at the ends of blocks, if it is used for what comes later.
    gaps: Option<Vec<Range<u64>>>,
    /// Inodes with a name.
    pub inodes: u64,
    /// Where extended attributes are.
    pub xattrs: xattrs::Layout,
    /// Where the area of shared extended attributes starts.
    pub xattr_area: u64,
    /// Where the long prefixes of attribute names are.
    pub xattr_prefixes: u64,
    /// Where inodes start if data of files is in front of them, in the image already, else 0.
    pub base: u64,
    /// Start and length of that data, for every file that has some.
    pub stored: Vec<(u64, u64)>,
    /// Where the device table is.
    pub table: u64,
    /// Where the metadata ends, and then the data.
    pub end: u64,
    /// What tables of files with holes may still take.
    left_for_tables: u64,
    /// What all indexes of compressed files have in common.
    pub indexes: Option<Common>,
    /// The file of fragments, and its position.
    pub packed: Option<(Packed, u64)>,
    /// What algorithms need to be known for reading.
    pub configurations: Vec<u8>,
}

/// A part of the metadata.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// An inode with what lies directly behind it.
    Inode(NameId),
    /// The blocks of a directory or of a long symbolic link.
    Blocks(NameId),
}

/// How an inode is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Whether it is an extended inode.
    pub extended: bool,
    /// Bytes of extended attributes behind it.
    pub xattrs: u64,
    /// What follows it.
    pub body: Body,
}

/// What follows an inode, or belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// So many chunk indexes, of chunks with so many bits more than a block.
    Chunks {
        /// Size of a chunk relative to a block, as a power of two.
        bits: u32,
        /// Number of indexes.
        count: u64,
    },
    /// So many bytes in whole blocks elsewhere, and as many in the inode's own block.
    Inline {
        /// Bytes in blocks elsewhere.
        blocks: u64,
        /// Bytes behind the inode.
        tail: u64,
    },
    /// So many bytes in blocks elsewhere, the last one padded.
    Blocks(u64),
    /// Indexes that lead to compressed data.
    Compressed {
        /// Bytes of the indexes.
        indexes: u64,
        /// Bytes behind them.
        tail: u64,
    },
}

impl Shape {
    /// Bytes of the inode itself.
    pub fn inode_size(self) -> u64 {
        if self.extended { 64 } else { 32 }
    }

    /// Where the body starts, from the start of the inode.
    pub fn body_offset(self) -> u64 {
        let behind = self.inode_size() + self.xattrs;
        match self.body {
            Body::Chunks { .. } | Body::Compressed { .. } => behind.next_multiple_of(8),
            _ => behind,
        }
    }

    /// Bytes of the inode with all that lies directly behind it.
    pub fn size(self) -> u64 {
        let body = match self.body {
            Body::Chunks { count, .. } => count * 8,
            Body::Inline { tail, .. } => tail,
            Body::Compressed { indexes, tail } => indexes + tail,
            Body::Empty | Body::Blocks(_) => 0,
        };
        self.body_offset() + body
    }
}

/// A device number as inodes have it.
pub fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[expect(
    clippy::indexing_slicing,
    reason = "its vectors are as long as those of the tree it is for"
)]
impl Plan {
    /// Plans an image of `tree`, of which the first `base` bytes are there, whole pages, with data of
    /// files in all but the first one, fragments of files in `packed`.
    pub fn new(
        tree: &Tree,
        children: &Children,
        options: &Options,
        epoch: Time,
        base: u64,
        packed: Option<Packed>,
    ) -> Result<Self, Error> {
        options.check()?;
        if options.devices.len() >= usize::from(u16::MAX) {
            let count = options.devices.len();
            return Err(Error::Image(format!(
                "{count} blobs, expected fewer than {}",
                u16::MAX
            )));
        }
        let configurations = match (&options.compression, &options.referred) {
            (Some(compression), _) => compression.configurations(1 << options.block_bits),
            (None, Some(referred)) => referred.configurations(1 << options.block_bits),
            (None, None) => Vec::new(),
        };
        let table = match base {
            0 => (TABLE + configurations.len() as u64).next_multiple_of(ondisk::DEVICE_SLOT_SIZE),
            _ => TABLE,
        };
        let mut plan = Plan {
            block: 1 << options.block_bits,
            epoch,
            mode: options.mode,
            inline_data: options.inline_data,
            data: Vec::new(),
            chunk_bits: options.chunk_bits,
            inode_form: options.inodes,
            one_time: options.one_time,
            wide: options.wide,
            positions: vec![0; tree.inode_count()],
            links: vec![0; tree.inode_count()],
            blocks: HashMap::new(),
            walk: Vec::new(),
            steps: Vec::new(),
            gaps: options.compression.as_ref().map(|_| Vec::new()),
            inodes: 0,
            xattrs: xattrs::Layout::default(),
            xattr_area: 0,
            xattr_prefixes: 0,
            base,
            stored: Vec::new(),
            table,
            end: match base {
                0 => table + options.devices.len() as u64 * ondisk::DEVICE_SLOT_SIZE,
                // No inode has the number 0, which some programs take for none.
                base => base + ondisk::INODE_SLOT_SIZE,
            },
            left_for_tables: MAX_OF_HOLES,
            indexes: options
                .compression
                .as_ref()
                .map(|compression| compression.common(options.block_bits)),
            packed: None,
            configurations,
        };
        let uses = plan.count(tree, children);
        plan.xattrs = xattrs::Layout::new(
            tree.xattrs(),
            &uses,
            &options.xattrs,
            tree.fingerprint_name(),
            plan.block,
        )
        .map_err(Error::Image)?;
        plan.place(tree, children)?;
        let referred = options.referred.as_ref().and_then(|referred| {
            let (data, size) = referred.packed.as_ref()?;
            let data = Data::Referred(Box::new(data.clone()));
            Some(Packed { size: *size, data })
        });
        if let Some(packed) = packed.or(referred) {
            plan.place_packed(packed);
        }
        let records = options.referred.as_ref();
        plan.wide |= records.is_some_and(|referred| referred.has_records);
        if plan.xattrs.area > 0 {
            plan.xattr_area = plan.end.next_multiple_of(plan.block);
            plan.end = plan.xattr_area + plan.xattrs.area;
        }
        if plan.xattrs.prefix_count() > 0 {
            let size = plan.xattrs.prefixes().len() as u64;
            let start = (TABLE + plan.configurations.len() as u64).next_multiple_of(4);
            if base > 0 && start + size <= PAGE {
                // There is room in the first page, and how far behind they can be is limited.
                plan.xattr_prefixes = start;
            } else {
                plan.xattr_prefixes = plan.end.next_multiple_of(4);
                plan.end = plan.xattr_prefixes + size;
            }
            if plan.xattr_prefixes / 4 > u64::from(u32::MAX) {
                return Err(too_much());
            }
        }
        plan.place_data(tree, children, options)?;
        plan.check_addresses()?;
        // Behind thousands of device slots the root's number needs the wide layout, too.
        plan.wide |= plan.nid(tree.inode_of(NameId::ROOT)) > u64::from(u16::MAX)
            || plan.flat(options).1 > u64::from(u32::MAX);
        Ok(plan)
    }

    /// The block at which the blobs begin that follow the image where all are one file.
    pub fn flat_start(&self) -> u64 {
        self.end.next_multiple_of(PAGE.max(self.block)) / self.block
    }

    /// The block at which each of these blobs begins, and that behind the last one. If compressed data is in them they
    /// begin at pages, where it is as far into a page as it is in its blob.
    pub fn flat(&self, options: &Options) -> (Vec<u64>, u64) {
        let align = match options.referred {
            Some(_) => PAGE / self.block,
            None => 1,
        };
        let mut next = self.flat_start();
        let starts = options.devices.iter().map(|device: &Device| {
            let start = next;
            let blocks = device.size.div_ceil(self.block);
            let end = start.saturating_add(blocks);
            next = end.checked_next_multiple_of(align).unwrap_or(u64::MAX);
            start
        });
        let starts: Vec<u64> = starts.collect();
        (starts, next)
    }

    /// Gives the data of files its place behind all metadata.
    fn place_data(
        &mut self,
        tree: &Tree,
        children: &Children,
        options: &Options,
    ) -> Result<(), Error> {
        let names = self
            .walk
            .iter()
            .flat_map(|directory| children.of(*directory))
            .copied();
        let mut names: Vec<NameId> = names
            .filter(|name| match &tree.inode(tree.inode_of(*name)).content {
                Content::File { size: 0, .. } => false,
                Content::File { data, .. } => match (self.mode, data) {
                    (Mode::Full, _) => true,
                    (Mode::Index, data) => is_in_pieces(data),
                    (Mode::Meta, _) => false,
                },
                _ => false,
            })
            .collect();
        if options.order == Order::Source {
            // A stable sort: what is nowhere in particular stays in the order of the walk.
            names.sort_by_key(|name| place_in_source(&tree.inode(tree.inode_of(*name)).content));
        }
        let align = options.align.max(self.block);
        let mut left_for_copies = MAX_OF_HOLES;
        let mut left_for_padding = MAX_PADDED;
        for name in names {
            let inode = tree.inode_of(name);
            let Content::File { data, size, .. } = &tree.inode(inode).content else {
                continue;
            };
            if self.blocks.contains_key(&(inode.index() as u32)) {
                continue;
            }
            if let Data::StoredChunks(positions) = data {
                let chunk = match self.shape(tree, children, name)?.body {
                    Body::Chunks { bits, .. } => self.block << bits,
                    _ => *size,
                };
                let starts = (0..).step_by(chunk.max(1) as usize);
                let lengths = starts.map(|start| size.saturating_sub(start).min(chunk));
                self.stored.extend(positions.iter().copied().zip(lengths));
                continue;
            }
            let len = match self.shape(tree, children, name)?.body {
                Body::Blocks(len) => len.next_multiple_of(self.block),
                Body::Inline { blocks, .. } => blocks,
                Body::Compressed { .. } => match data {
                    Data::Compressed(compressed) => compressed.blocks * self.block,
                    _ => 0,
                },
                Body::Chunks { .. } if matches!(data, Data::Stored(_)) => {
                    size.next_multiple_of(self.block)
                }
                Body::Chunks { .. } if self.mode == Mode::Index => {
                    copied(&pieces(data, *size, self.block))
                }
                Body::Chunks { bits, .. } => self
                    .stored_chunks(data, *size, bits)
                    .map(|(_, len)| len.next_multiple_of(self.block))
                    .sum(),
                Body::Empty => 0,
            };
            if let Some(present) = data.present() {
                let (left, allowed) = match self.mode {
                    Mode::Full => (&mut left_for_padding, present.saturating_mul(MAX_PADDING)),
                    Mode::Index | Mode::Meta => (&mut left_for_copies, present),
                };
                *left = spend(*left, len.saturating_sub(allowed), tree, name)?;
            }
            let there = match data {
                Data::Stored(start) | Data::StoredWithTail { blocks: start, .. } => Some(*start),
                Data::Compressed(compressed) => Some(compressed.start),
                _ => None,
            };
            if let (1.., Some(start)) = (len, there) {
                self.blocks.insert(inode.index() as u32, start);
                self.stored.push((start, len));
            } else if len > 0 {
                // Whole pages of nothing but data can be written past the page cache.
                let align = match self.data.is_empty() {
                    true => align.max(PAGE),
                    false => align,
                };
                let start = self.end.next_multiple_of(align);
                self.blocks.insert(inode.index() as u32, start);
                self.data.push(name);
                self.end = start + len;
            }
        }
        Ok(())
    }

    /// The chunks of a file in the image that are not holes: offset and length of each.
    pub fn stored_chunks<'d>(
        &self,
        data: &'d Data,
        size: u64,
        bits: u32,
    ) -> impl Iterator<Item = (u64, u64)> + 'd {
        let chunk = self.block << bits;
        let (segments, whole): (&[Segment], _) = match data {
            Data::Sparse(segments) | Data::SparseOriginal(segments) => (segments, 0),
            _ => (&[], size),
        };
        let segments = segments.iter().map(|segment| (segment.start, segment.len));
        let mut next = 0;
        segments
            .chain((whole > 0).then_some((0, whole)))
            .flat_map(move |(start, len)| {
                // Two segments may have a part of the same chunk.
                let first = next.max(start / chunk);
                let end = (start + len).div_ceil(chunk).max(first);
                next = end;
                first..end
            })
            .map(move |nr| (nr * chunk, chunk.min(size - nr * chunk)))
    }

    /// The format has 32 bits for blocks of the image itself.
    fn check_addresses(&self) -> Result<(), Error> {
        if self.end / self.block >= u64::from(u32::MAX) {
            return Err(too_much());
        }
        Ok(())
    }

    /// Walks the tree, counting links; returns how many files have each combination of extended
    /// attributes.
    fn count(&mut self, tree: &Tree, children: &Children) -> Vec<u64> {
        let mut uses = vec![0_u64; tree.xattrs().sets().count()];
        let mut used = |inode: InodeId| {
            if let Some(uses) = uses.get_mut(tree.inode(inode).attributes.xattrs.index()) {
                *uses += 1;
            }
        };
        used(tree.inode_of(NameId::ROOT));
        let mut left = vec![NameId::ROOT];
        self.links[tree.inode_of(NameId::ROOT).index()] = 2;
        while let Some(directory) = left.pop() {
            self.walk.push(directory);
            let first = left.len();
            for name in children.of(directory).iter().copied() {
                let inode = tree.inode_of(name);
                let links = &mut self.links[inode.index()];
                if *links == 0 {
                    used(inode);
                }
                if tree.is_directory(name) {
                    *links = 2;
                    self.links[tree.inode_of(directory).index()] += 1;
                    left.push(name);
                } else {
                    *links = links.saturating_add(1);
                }
            }
            if let Some(new) = left.get_mut(first..) {
                new.reverse();
            }
        }
        uses
    }

    /// Gives everything its position.
    fn place(&mut self, tree: &Tree, children: &Children) -> Result<(), Error> {
        self.place_inode(tree, children, NameId::ROOT)?;
        let walk = std::mem::take(&mut self.walk);
        for directory in &walk {
            let inode = tree.inode_of(*directory);
            self.place_blocks(tree, children, *directory, inode)?;
            let mut long_links = Vec::new();
            for name in children.of(*directory).iter().copied() {
                let inode = tree.inode_of(name);
                if self.positions[inode.index()] != 0 {
                    continue;
                }
                let shape = self.place_inode(tree, children, name)?;
                if is_long_link(tree, name, shape) {
                    long_links.push(name);
                }
            }
            for name in long_links {
                self.place_blocks(tree, children, name, tree.inode_of(name))?;
            }
        }
        self.walk = walk;
        if self.gaps.is_some() {
            let position = |step: &Step| match step {
                Step::Inode(name) => self.positions[tree.inode_of(*name).index()],
                Step::Blocks(name) => {
                    let blocks = self.blocks.get(&(tree.inode_of(*name).index() as u32));
                    blocks.copied().unwrap_or_default()
                }
            };
            let mut steps = std::mem::take(&mut self.steps);
            steps.sort_unstable_by_key(position);
            self.steps = steps;
        }
        Ok(())
    }

    /// Gives an inode the room in a gap that it fits best, if there is one.
    fn place_in_gap(&mut self, size: u64) -> Option<u64> {
        let gaps = self.gaps.as_mut()?;
        let fitting = gaps
            .iter()
            .enumerate()
            .filter(|(_, gap)| gap.end - gap.start >= size);
        let (number, _) = fitting.min_by_key(|(_, gap)| gap.end - gap.start)?;
        let gap = &mut gaps[number];
        let position = gap.start;
        gap.start = (position + size).next_multiple_of(ondisk::INODE_SLOT_SIZE);
        if gap.start >= gap.end {
            gaps.remove(number);
        }
        Some(position)
    }

    /// Remembers room that is left between the last inode and this position, block by block.
    fn leave_gap(&mut self, position: u64) {
        let block = self.block;
        let Some(gaps) = &mut self.gaps else {
            return;
        };
        let mut start = self.end.next_multiple_of(ondisk::INODE_SLOT_SIZE);
        while start < position {
            let end = position.min((start / block + 1) * block);
            // What lies far from the rest of its directory takes longer to read.
            if gaps.len() == MAX_GAPS {
                let smallest = gaps
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, gap)| gap.end - gap.start);
                if let Some((number, _)) = smallest {
                    gaps.remove(number);
                }
            }
            gaps.push(start..end);
            start = end;
        }
    }

    fn place_inode(
        &mut self,
        tree: &Tree,
        children: &Children,
        name: NameId,
    ) -> Result<Shape, Error> {
        let inode = tree.inode_of(name);
        let shape = self.shape(tree, children, name)?;
        if let (Body::Chunks { count, .. }, Content::File { data, .. }) =
            (shape.body, &tree.inode(inode).content)
        {
            if let Some(present) = data.present() {
                // Each byte of data allows for one of the table, but no more than there is used.
                let needed = (count * 8).saturating_sub(present);
                self.left_for_tables = spend(self.left_for_tables, needed, tree, name)?;
            }
        }
        self.inodes += 1;
        self.steps.push(Step::Inode(name));
        if let Some(position) = self.place_in_gap(shape.size()) {
            self.positions[inode.index()] = position;
            return Ok(shape);
        }
        let mut position = self.end.next_multiple_of(ondisk::INODE_SLOT_SIZE);
        if let Body::Compressed { indexes, tail } = shape.body {
            // As above, but it is only the tail.
            let start = (position + shape.body_offset() + indexes) % self.block;
            if start + tail > self.block {
                let missing = self.block - start;
                position += missing.next_multiple_of(ondisk::INODE_SLOT_SIZE);
            }
        }
        if matches!(shape.body, Body::Inline { .. }) {
            // The tail must not cross into another block, so nothing does.
            let used = position % self.block;
            if used + shape.size() > self.block {
                position += self.block - used;
            }
        }
        self.leave_gap(position);
        self.positions[inode.index()] = position;
        self.end = position + shape.size();
        Ok(shape)
    }

    fn place_blocks(
        &mut self,
        tree: &Tree,
        children: &Children,
        name: NameId,
        inode: InodeId,
    ) -> Result<(), Error> {
        let len = match self.shape(tree, children, name)?.body {
            Body::Blocks(len) => len.next_multiple_of(self.block),
            Body::Inline { blocks, .. } => blocks,
            Body::Empty | Body::Chunks { .. } | Body::Compressed { .. } => 0,
        };
        if len > 0 {
            let start = self.end.next_multiple_of(self.block);
            self.steps.push(Step::Blocks(name));
            self.leave_gap(start);
            self.blocks.insert(inode.index() as u32, start);
            self.end = start + len;
            if self.end / self.block > u64::from(u32::MAX) {
                return Err(too_much());
            }
        }
        Ok(())
    }

    /// Gives the file of fragments its position. It has no name.
    fn place_packed(&mut self, packed: Packed) {
        let mut shape = Shape {
            extended: true,
            xattrs: 0,
            body: Body::Blocks(packed.size),
        };
        match &packed.data {
            Data::Stored(start) => self.stored.push((*start, packed.size)),
            Data::Compressed(compressed) => {
                let blocks = compressed.blocks * self.block;
                self.stored.push((compressed.start, blocks));
                shape.body = self.compressed(shape, packed.size, compressed);
            }
            Data::Referred(referred) => shape.body = referred_body(shape, packed.size, referred),
            _ => {}
        }
        let position = self.end.next_multiple_of(ondisk::INODE_SLOT_SIZE);
        self.end = position + shape.size();
        self.inodes += 1;
        self.packed = Some((packed, position));
    }

    /// The indexes of a compressed file.
    fn compressed(&self, shape: Shape, size: u64, compressed: &Compressed) -> Body {
        let start = (shape.inode_size() + shape.xattrs).next_multiple_of(8);
        let indexes = self
            .indexes
            .map(|common| common.size(compressed, size, start));
        Body::Compressed {
            indexes: indexes.unwrap_or_default(),
            tail: match compressed.end {
                Some(End::Inline { len, .. }) => len.into(),
                _ => 0,
            },
        }
    }

    /// The number of the inode of the file of fragments.
    pub fn packed_nid(&self) -> Option<u64> {
        let (_, position) = self.packed.as_ref()?;
        Some((position - self.base) / ondisk::INODE_SLOT_SIZE)
    }

    /// Position of an inode in bytes.
    pub fn position(&self, inode: InodeId) -> u64 {
        self.positions
            .get(inode.index())
            .copied()
            .unwrap_or_default()
    }

    /// Number by which directories refer to an inode.
    pub fn nid(&self, inode: InodeId) -> u64 {
        (self.position(inode) - self.base) / ondisk::INODE_SLOT_SIZE
    }

    /// Number of links of an inode.
    pub fn links(&self, inode: InodeId) -> u32 {
        self.links.get(inode.index()).copied().unwrap_or_default()
    }

    /// First block of what an inode has in blocks.
    pub fn first_block(&self, inode: InodeId) -> u64 {
        let start = self.blocks.get(&(inode.index() as u32)).copied();
        start.unwrap_or_default() / self.block
    }

    /// The modification time of an inode; that of all compact ones if nobody said another.
    pub fn mtime(&self, inode: &Inode) -> Time {
        match inode.attributes.mtime {
            Some(mtime) if !self.one_time => mtime,
            _ => self.epoch,
        }
    }

    /// Size of a directory in bytes.
    pub fn directory_size(&self, tree: &Tree, children: &Children, directory: NameId) -> u64 {
        let mut filler = Filler::new(self.block as usize);
        for entry in listed(tree, children, directory) {
            filler.push(entry.text(tree));
        }
        filler.size()
    }

    /// Size of a file as `stat` gives it.
    pub fn file_size(&self, tree: &Tree, children: &Children, name: NameId) -> u64 {
        match &tree.inode(tree.inode_of(name)).content {
            Content::Directory => self.directory_size(tree, children, name),
            Content::File { size, .. } => *size,
            Content::Symlink(target) => tree.text(*target).len() as u64,
            _ => 0,
        }
    }

    /// How an inode is stored.
    pub fn shape(&self, tree: &Tree, children: &Children, name: NameId) -> Result<Shape, Error> {
        let id = tree.inode_of(name);
        let inode = tree.inode(id);
        if inode.content == Content::Directory {
            check_names(tree, children.of(name))?;
        }
        let size = self.file_size(tree, children, name);
        let attributes = &inode.attributes;
        let extended = self.inode_form == Inodes::Extended
            || self.mtime(inode) != self.epoch
            || attributes.uid > u32::from(u16::MAX)
            || attributes.gid > u32::from(u16::MAX)
            || self.links(id) > u32::from(u16::MAX)
            || size > u64::from(u32::MAX);
        let xattrs = self.xattrs.body_size(attributes.xattrs);
        let mut shape = Shape {
            extended,
            xattrs,
            body: Body::Empty,
        };
        shape.body = match &inode.content {
            Content::File { size: 0, .. } => Body::Empty,
            Content::File { .. } if i64::try_from(size).is_err() => {
                let problem = format!("it has {size} bytes, expected at most {}", i64::MAX);
                return Err(problem_of(tree, name, problem));
            }
            Content::File { data, .. } => match (self.mode, data) {
                (
                    Mode::Index | Mode::Meta,
                    Data::Stored(_)
                    | Data::StoredChunks(_)
                    | Data::StoredWithTail { .. }
                    | Data::Compressed(_)
                    | Data::Encoding(_),
                ) => {
                    let problem = "its data is in an image, which does not have it in this mode";
                    return Err(problem_of(tree, name, problem));
                }
                (Mode::Index, Data::Original | Data::SparseOriginal(_)) => {
                    let problem = "an index needs its data in a tar, but it is in a file";
                    return Err(problem_of(tree, name, problem));
                }
                (Mode::Index, Data::Referred(referred)) => {
                    let (bits, block) = (referred.block_bits(), self.block);
                    if 1 << bits != block {
                        let of = 1_u64 << bits;
                        let problem = format!(
                            "its compressed data is in blocks of {of} bytes, and the image has blocks of {block}"
                        );
                        return Err(problem_of(tree, name, problem));
                    }
                    referred_body(shape, size, referred)
                }
                (Mode::Full, Data::Referred(_)) => {
                    let problem =
                        "its compressed data stays in blobs, which an image has not in this mode";
                    return Err(problem_of(tree, name, problem));
                }
                (Mode::Index, Data::WithTail { tail, .. }) if u64::from(*tail) == size => {
                    self.blocks_and_tail(shape, size, self.inline_data)
                }
                (Mode::Index | Mode::Meta, _)
                | (Mode::Full, Data::Sparse(_) | Data::SparseOriginal(_)) => {
                    self.chunks(tree, name, size, data)?
                }
                (Mode::Full, Data::StoredWithTail { .. }) => {
                    let body = self.blocks_and_tail(shape, size, true);
                    if !matches!(body, Body::Inline { .. }) {
                        let problem = "the end of its data does not fit behind its inode";
                        return Err(problem_of(tree, name, problem));
                    }
                    body
                }
                (Mode::Full, Data::Compressed(compressed)) => {
                    self.compressed(shape, size, compressed)
                }
                (Mode::Full, _) if self.chunk_bits.is_some() => {
                    self.chunks(tree, name, size, data)?
                }
                (Mode::Full, Data::Stored(_)) => Body::Blocks(size),
                (Mode::Full, _) => self.blocks_and_tail(shape, size, self.inline_data),
            },
            // Symbolic links are all in one place: readers do not expect otherwise.
            Content::Symlink(_) => self.blocks_and_tail(shape, size, size < self.block),
            Content::Directory => self.blocks_and_tail(shape, size, true),
            _ => Body::Empty,
        };
        Ok(shape)
    }

    /// Blocks, the last one behind the inode if that is wanted and there is room.
    fn blocks_and_tail(&self, shape: Shape, size: u64, inline: bool) -> Body {
        let tail = size % self.block;
        if inline && tail > 0 && shape.body_offset() + tail <= self.block {
            return Body::Inline {
                blocks: size - tail,
                tail,
            };
        }
        Body::Blocks(size)
    }

    /// The chunks of a file: one if its data is contiguous and not of terabytes.
    fn chunks(&self, tree: &Tree, name: NameId, size: u64, data: &Data) -> Result<Body, Error> {
        let blocks = size.div_ceil(self.block);
        let whole = blocks
            .checked_next_power_of_two()
            .map_or(63, u64::trailing_zeros);
        let bits = match (self.mode, data) {
            // What is copied can be cut anywhere; as fine as is cheap.
            (Mode::Full, Data::Sparse(segments) | Data::SparseOriginal(segments)) => {
                let chunks = tree::present(segments) / (4 * size_of::<ChunkIndex>() as u64);
                let count_bits = COPIED_CHUNK_COUNT_BITS.max(chunks.checked_ilog2().unwrap_or(0));
                whole.saturating_sub(count_bits)
            }
            (Mode::Index, data) if is_in_pieces(data) => {
                let pieces = pieces(data, size, self.block);
                self.piece_chunk_bits(size, &pieces).min(whole)
            }
            _ => whole,
        };
        let wanted = self
            .chunk_bits
            .map(|bits| u32::from(bits).saturating_sub(self.block.trailing_zeros()));
        let bits = match self.mode {
            Mode::Full => wanted.unwrap_or(bits),
            Mode::Index | Mode::Meta => bits.min(wanted.unwrap_or(bits)),
        };
        let bits = bits.min(MAX_CHUNK_BITS);
        let count = size.div_ceil(self.block << bits);
        if count > MAX_INDEX_BYTES / 8 {
            return Err(problem_of(
                tree,
                name,
                format!(
                    "{size} bytes with so many holes need {count} chunks, at most {} are possible",
                    MAX_INDEX_BYTES / 8
                ),
            ));
        }
        Ok(Body::Chunks { bits, count })
    }

    /// The largest chunks of which none has both data and a hole, or data of two pieces.
    fn piece_chunk_bits(&self, size: u64, pieces: &[Piece]) -> u32 {
        let mut all = 0;
        for piece in pieces {
            all |= piece.start / self.block;
            if piece.end < size {
                all |= piece.end / self.block;
            }
        }
        all.trailing_zeros()
    }
}

/// The indexes of a compressed file whose data stays in blobs.
fn referred_body(shape: Shape, size: u64, referred: &Referred) -> Body {
    let start = (shape.inode_size() + shape.xattrs).next_multiple_of(8);
    Body::Compressed {
        indexes: referred.size(size, start),
        tail: referred.inline().map_or(0, |(_, _, len)| len.into()),
    }
}

/// What is left of what files with holes may take.
fn spend(left: u64, used: u64, tree: &Tree, name: NameId) -> Result<u64, Error> {
    left.checked_sub(used).ok_or_else(|| {
        let problem = "it and the other files with holes have so little data, and so many holes, \
                       that the image would be many times as large as the data";
        problem_of(tree, name, problem)
    })
}

/// Whether it is a symbolic link whose target is in a block of its own.
pub fn is_long_link(tree: &Tree, name: NameId, shape: Shape) -> bool {
    let link = matches!(tree.inode(tree.inode_of(name)).content, Content::Symlink(_));
    link && matches!(shape.body, Body::Blocks(_))
}

/// What a superblock has as its build time: seconds since `epoch`. `None` if it has no place for it.
pub fn build_time(sec: i64, epoch: Time) -> Option<u32> {
    sec.checked_sub(epoch.sec)
        .and_then(|since| u32::try_from(since).ok())
}

fn too_much() -> Error {
    Error::Image("more metadata or data than the format can address".to_string())
}

/// Where the data of a file comes from: number and offset of its blob.
fn place_in_source(content: &Content) -> (u16, u64) {
    match content {
        Content::File { blob, data, .. } => match data {
            Data::Contiguous(pos) | Data::WithTail { pos, .. } => (*blob, *pos),
            Data::Sparse(segments) => (*blob, segments.first().map_or(0, |segment| segment.pos)),
            Data::WithCopies(parts) => {
                let first = parts.segments.first();
                (*blob, first.map_or(0, |segment| segment.pos))
            }
            Data::Stored(pos) | Data::StoredWithTail { blocks: pos, .. } => (*blob, *pos),
            Data::Compressed(compressed) => (*blob, compressed.start),
            Data::Referred(referred) => referred.first(),
            Data::StoredChunks(positions) => {
                (*blob, positions.first().copied().unwrap_or_default())
            }
            Data::Original | Data::SparseOriginal(_) | Data::Encoding(_) => (*blob, 0),
        },
        _ => (0, 0),
    }
}

/// Fails if one of these names is too long. Those of whiteouts may be, as long as they are no names of files.
fn check_names(tree: &Tree, names: &[NameId]) -> Result<(), Error> {
    let len = |name: &NameId| tree.name_text(*name).len();
    match names.iter().find(|name| len(name) > NAME_MAX) {
        None => Ok(()),
        Some(name) => {
            let len = len(name);
            let problem = format!("a name of {len} bytes, expected at most {NAME_MAX}");
            Err(problem_of(tree, *name, problem))
        }
    }
}

/// A name in a directory, or one of the two that every directory has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// `.`
    Itself,
    /// `..`
    Parent,
    /// Any other.
    Child(NameId),
}

impl Listed {
    /// The name's bytes.
    pub fn text(self, tree: &Tree) -> &[u8] {
        match self {
            Listed::Itself => b".",
            Listed::Parent => b"..",
            Listed::Child(name) => tree.name_text(name),
        }
    }
}

/// Everything that a directory lists, sorted: `.` and `..` need not be the first.
pub fn listed<'a>(
    tree: &'a Tree,
    children: &'a Children,
    directory: NameId,
) -> impl Iterator<Item = Listed> + 'a {
    let names = children.of(directory);
    let before = |dots: &[u8]| names.partition_point(|name| tree.name_text(*name) < dots);
    let (first, rest) = names.split_at(before(b"."));
    let (second, third) = rest.split_at(before(b"..") - first.len());
    let listed = |names: &'a [NameId]| names.iter().map(|name| Listed::Child(*name));
    listed(first)
        .chain([Listed::Itself])
        .chain(listed(second))
        .chain([Listed::Parent])
        .chain(listed(third))
}
