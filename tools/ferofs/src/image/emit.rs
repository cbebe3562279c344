// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writes an image front to back, everything where `plan` put it.
//!
//! All bytes that pass are hashed, so that the UUID can follow from the content. The first bytes are held
//! back and written last: the superblock's checksum covers what comes right behind it.

use super::Error;
use super::Mode;
use super::Options;
use super::Source;
use super::Summary;
use super::device;
use super::directory;
use super::no_data;
use super::pieces::Piece;
use super::pieces::Place;
use super::pieces::is_in_pieces;
use super::pieces::pieces;
use super::plan::Body;
use super::plan::Listed;
use super::plan::PAGE;
use super::plan::Plan;
use super::plan::Shape;
use super::plan::Step;
use super::plan::TABLE;
use super::plan::build_time as build_time_of;
use super::plan::encode_device;
use super::plan::listed;
use super::problem_of;
use super::uuid::DataFingerprint;
use super::uuid::Fingerprint;
use crate::chunk::Buffer;
use crate::clusters::referred::TooFar;
use crate::direct;
use crate::direct::Behind;
use crate::tree::Children;
use crate::tree::Content;
use crate::tree::Data;
use crate::tree::InodeId;
use crate::tree::NameId;
use crate::tree::Tree;
use crate::tree::XattrSet;
use erofs_format::ondisk;
use erofs_format::ondisk::ChunkIndex;
use erofs_format::ondisk::InodeCompact;
use erofs_format::ondisk::InodeExtended;
use erofs_format::ondisk::Superblock;
use erofs_format::superblock_checksum;
use erofs_format::superblock_checksum_size;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use zerocopy::FromZeros;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;

/// How the data of files gets into an image.
pub enum FileData<'f> {
    /// As the rest.
    Written,
    /// Past the page cache, by this file, which is the same as that for the rest.
    Direct(&'f File),
    /// It is there already.
    Stored(Box<DataFingerprint>),
}

/// Writes the image that `plan` describes.
pub fn emit<W: Write + Seek>(
    tree: &Tree,
    children: &Children,
    options: &Options,
    source: &dyn Source,
    plan: &Plan,
    mut out: W,
    data: FileData<'_>,
) -> Result<Summary, Error> {
    let (direct, stored) = match data {
        FileData::Written => (None, None),
        FileData::Direct(file) => (Some(file), None),
        FileData::Stored(fingerprint) => (None, Some(*fingerprint)),
    };
    let start = out.stream_position()?;
    if plan.base > 0 && !options.devices.is_empty() {
        let problem = "data of files cannot be both in the image already and in blobs";
        return Err(Error::Image(problem.to_string()));
    }
    let (starts, _) = plan.flat(options);
    let mut emitter = Emitter {
        tree,
        children,
        source,
        plan,
        addresses: starts
            .iter()
            .map(|start| start.saturating_mul(plan.block))
            .collect(),
        out: Sink::new(out, start, plan.base),
        inode_number: 0,
        data: 0,
        last_xattrs: (XattrSet::NONE, Vec::new()),
    };
    if plan.base == 0 {
        emitter.out.zeros_to(TABLE)?;
        emitter.out.put(&plan.configurations)?;
    }
    emitter.out.zeros_to(plan.table)?;
    emitter.device_table(options, &starts)?;
    emitter.everything()?;
    emitter.packed()?;
    if plan.xattrs.area > 0 {
        emitter.out.zeros_to(plan.xattr_area)?;
        emitter.out.put(&plan.xattrs.area(tree.xattrs()))?;
    }
    let prefixes_in_front = plan.xattr_prefixes < plan.base;
    if !prefixes_in_front && !plan.xattrs.prefixes().is_empty() {
        emitter.out.zeros_to(plan.xattr_prefixes)?;
        emitter.out.put(&plan.xattrs.prefixes())?;
    }
    emitter.out.flush()?;
    // An index has little data, and can be compared with its UUID as a whole.
    if plan.mode == Mode::Full {
        emitter.out.data = Some(stored.unwrap_or_default());
    }
    emitter.data(direct)?;
    // Not every driver takes a partial page at the end.
    let size = plan.end.next_multiple_of(PAGE.max(plan.block));
    emitter.out.zeros_to(size)?;
    emitter.out.finish()?;
    let inodes = u64::from(emitter.inode_number);
    let data = emitter.data;
    let Sink {
        mut out,
        mut head,
        mut fingerprint,
        data: data_fingerprint,
        ..
    } = emitter.out;
    if let Some(data) = data_fingerprint {
        fingerprint.update(&data.value());
    }
    let configurations = TABLE as usize..TABLE as usize + plan.configurations.len();
    if let Some(place) = head.get_mut(configurations).filter(|_| plan.base > 0) {
        place.copy_from_slice(&plan.configurations);
    }
    if prefixes_in_front {
        let prefixes = plan.xattrs.prefixes();
        let from = plan.xattr_prefixes as usize;
        if let Some(place) = head.get_mut(from..from + prefixes.len()) {
            place.copy_from_slice(&prefixes);
        }
    }
    let uuid = options.uuid.unwrap_or_else(|| fingerprint.uuid());
    let superblock = superblock(tree, options, plan, size, uuid);
    let head = finish_head(head, superblock, options);
    out.seek(SeekFrom::Start(start))?;
    out.write_all(&head)?;
    out.seek(SeekFrom::Start(start.saturating_add(size)))?;
    Ok(Summary {
        size,
        inodes,
        uuid,
        data,
    })
}

/// Bytes on their way out, in order.
struct Sink<W> {
    out: W,
    /// Where in `out` the image starts.
    start: u64,
    /// What writes the data of files past the page cache, in the same file.
    direct: Option<Behind>,
    /// Whether `out` does not stand where the next bytes belong.
    behind: bool,
    pos: u64,
    /// The first page, to be changed and written at the end.
    head: Vec<u8>,
    buffer: Buffer,
    /// How much of the buffer is in use.
    filled: usize,
    /// Of everything but the data of files.
    fingerprint: Fingerprint,
    /// Of the data of files, once that comes.
    data: Option<DataFingerprint>,
}

impl<W: Write + Seek> Sink<W> {
    const BUFFER: usize = 256 << 10;

    /// For an image that starts at `start` of `out` and whose first `base` bytes are there, but for
    /// the first page.
    fn new(out: W, start: u64, base: u64) -> Self {
        Sink {
            out,
            start,
            direct: None,
            behind: base > 0,
            pos: base,
            head: vec![0; PAGE.min(base) as usize],
            buffer: Buffer::new(Self::BUFFER),
            filled: 0,
            fingerprint: Fingerprint::new(),
            data: None,
        }
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let space = self.space(bytes.len())?;
            let (now, rest) = bytes.split_at(space.len());
            space.copy_from_slice(now);
            self.advance(now.len());
            bytes = rest;
        }
        Ok(())
    }

    /// Room for the next bytes, at most `len` of them and at least one. They are written once
    /// [`Self::advance`] says how many there are.
    fn space(&mut self, len: usize) -> io::Result<&mut [u8]> {
        if self.filled == self.buffer.bytes().len() {
            self.flush()?;
        }
        let end = self
            .buffer
            .bytes()
            .len()
            .min(self.filled.saturating_add(len));
        let space = self.buffer.bytes_mut().get_mut(self.filled..end);
        Ok(space.unwrap_or_default())
    }

    fn advance(&mut self, len: usize) {
        self.filled += len;
        self.pos += len as u64;
    }

    /// Writes what is in the buffer.
    fn flush(&mut self) -> io::Result<()> {
        let filled = std::mem::take(&mut self.filled);
        let bytes = self.buffer.bytes().get(..filled).unwrap_or_default();
        match &mut self.data {
            Some(data) => data.update(bytes),
            None => self.fingerprint.update(bytes),
        }
        if self.head.len() < PAGE as usize {
            let missing = PAGE as usize - self.head.len();
            self.head
                .extend_from_slice(bytes.get(..missing).unwrap_or(bytes));
        }
        if let Some(direct) = &mut self.direct {
            return direct.write(&mut self.buffer, filled);
        }
        if std::mem::take(&mut self.behind) {
            let pos = self.start + (self.pos - filled as u64);
            self.out.seek(SeekFrom::Start(pos))?;
        }
        self.out.write_all(bytes)
    }

    /// Writes what comes from now on past the page cache.
    fn go_direct(&mut self, file: &File) -> io::Result<()> {
        self.flush()?;
        self.direct = Some(Behind::new(file, self.start + self.pos, true)?);
        self.buffer = Buffer::new(Behind::BUFFER);
        Ok(())
    }

    /// Writes all that is left.
    fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.direct.take().map_or(Ok(()), Behind::finish)
    }

    /// Fills up with zeros.
    fn zeros_to(&mut self, pos: u64) -> io::Result<()> {
        let len = pos.saturating_sub(self.pos);
        if len >= direct::HOLE && self.direct.is_some() {
            self.flush()?;
            if let Some(direct) = &mut self.direct {
                direct.skip(len);
            }
            self.pos = pos;
        }
        while self.pos < pos {
            let len = usize::try_from(pos - self.pos).unwrap_or(usize::MAX);
            let space = self.space(len)?;
            space.fill(0);
            let len = space.len();
            self.advance(len);
        }
        Ok(())
    }
}

struct Emitter<'a, W> {
    tree: &'a Tree,
    children: &'a Children,
    source: &'a dyn Source,
    plan: &'a Plan,
    /// Where in the flat address space each blob begins, in bytes.
    addresses: Vec<u64>,
    out: Sink<W>,
    inode_number: u32,
    data: u64,
    /// What was behind the last inode that had extended attributes.
    last_xattrs: (XattrSet, Vec<u8>),
}

impl<W: Write + Seek> Emitter<'_, W> {
    fn device_table(&mut self, options: &Options, starts: &[u64]) -> Result<(), Error> {
        // In one file with the image, the blobs follow it one after the other.
        for (device, address) in options.devices.iter().zip(starts) {
            let address = *address;
            let blocks = device.size.div_ceil(self.plan.block);
            let mut slot = device::slot(device);
            slot.blocks_lo = low(blocks).into();
            slot.blocks_hi = high(blocks)?.into();
            slot.uniaddr_lo = low(address).into();
            slot.uniaddr_hi = high(address)?.into();
            self.out.put(slot.as_bytes())?;
        }
        Ok(())
    }

    /// All inodes and directories, where `plan` put them.
    fn everything(&mut self) -> Result<(), Error> {
        let plan = self.plan;
        for step in &plan.steps {
            match step {
                Step::Inode(name) => self.inode(*name)?,
                Step::Blocks(name) => self.blocks(*name)?,
            }
        }
        Ok(())
    }

    /// The data of files that is in the image.
    fn data(&mut self, direct: Option<&File>) -> Result<(), Error> {
        let plan = self.plan;
        if let (Some(first), Some(direct)) = (plan.data.first(), direct) {
            // From there on whole pages are written.
            let start = plan.first_block(self.tree.inode_of(*first)) * plan.block;
            self.out
                .zeros_to(start.min(self.out.pos.next_multiple_of(PAGE)))?;
            self.out.go_direct(direct)?;
        }
        for name in &plan.data {
            let inode = self.tree.inode_of(*name);
            let Content::File { size, data, .. } = &self.tree.inode(inode).content else {
                continue;
            };
            self.out.zeros_to(plan.first_block(inode) * plan.block)?;
            match plan.shape(self.tree, self.children, *name)?.body {
                Body::Blocks(len) | Body::Inline { blocks: len, .. } => self.copy(*name, 0, len)?,
                Body::Chunks { .. } if plan.mode == Mode::Index => {
                    let pieces = pieces(data, *size, plan.block);
                    for (start, end) in pieces.iter().filter_map(Piece::copied) {
                        self.copy(*name, start, end.min(*size) - start)?;
                    }
                }
                Body::Chunks { bits, .. } => {
                    for (offset, len) in plan.stored_chunks(data, *size, bits) {
                        self.copy(*name, offset, len)?;
                    }
                }
                // It is there already.
                Body::Empty | Body::Compressed { .. } => {}
            }
        }
        Ok(())
    }

    /// Copies data of a file into the image, padded to whole blocks.
    fn copy(&mut self, name: NameId, offset: u64, len: u64) -> Result<(), Error> {
        let mut offset = offset;
        let end = offset + len;
        while offset < end {
            let most = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let space = self.out.space(most)?;
            let len = space.len();
            self.source
                .read(self.tree, name, offset, space)
                .map_err(no_data(self.tree, name))?;
            self.out.advance(len);
            offset += len as u64;
        }
        self.out
            .zeros_to(self.out.pos.next_multiple_of(self.plan.block))?;
        Ok(())
    }

    /// What a directory or symbolic link has to say.
    fn payload(&self, name: NameId) -> Vec<u8> {
        let inode = self.tree.inode_of(name);
        match self.tree.inode(inode).content {
            Content::Symlink(target) => self.tree.text(target).to_vec(),
            Content::Directory => {
                let parent = self.tree.inode_of(self.tree.parent(name));
                let entries = listed(self.tree, self.children, name).map(|entry| {
                    let id = match entry {
                        Listed::Itself => inode,
                        Listed::Parent => parent,
                        Listed::Child(name) => self.tree.inode_of(name),
                    };
                    directory::Entry {
                        name: entry.text(self.tree),
                        nid: self.plan.nid(id),
                        file_type: kind(&self.tree.inode(id).content).1,
                    }
                });
                directory::bytes(entries, self.plan.block as usize)
            }
            _ => Vec::new(),
        }
    }

    /// The blocks of a directory or a long link target.
    fn blocks(&mut self, name: NameId) -> Result<(), Error> {
        let len = match self.plan.shape(self.tree, self.children, name)?.body {
            Body::Blocks(len) => len,
            Body::Inline { blocks, .. } => blocks,
            Body::Empty | Body::Chunks { .. } | Body::Compressed { .. } => 0,
        };
        if len > 0 {
            self.out
                .zeros_to(self.plan.first_block(self.tree.inode_of(name)) * self.plan.block)?;
            let payload = self.payload(name);
            self.out
                .put(payload.get(..len as usize).unwrap_or(&payload))?;
            self.out
                .zeros_to(self.out.pos.next_multiple_of(self.plan.block))?;
        }
        Ok(())
    }

    /// An inode with what lies directly behind it.
    fn inode(&mut self, name: NameId) -> Result<(), Error> {
        let id = self.tree.inode_of(name);
        let shape = self.plan.shape(self.tree, self.children, name)?;
        self.out.zeros_to(self.plan.position(id))?;
        self.inode_header(name, id, shape)?;
        let xattrs = self.tree.inode(id).attributes.xattrs;
        if xattrs != XattrSet::NONE {
            if self.last_xattrs.0 != xattrs {
                let body = self.plan.xattrs.body(self.tree.xattrs(), xattrs);
                self.last_xattrs = (xattrs, body);
            }
            self.out.put(&self.last_xattrs.1)?;
        }
        self.out
            .zeros_to(self.plan.position(id) + shape.body_offset())?;
        match (shape.body, &self.tree.inode(id).content) {
            (Body::Chunks { bits, count }, Content::File { blob, data, size }) => {
                self.data = self.data.saturating_add(*size);
                self.chunks(name, *blob, data, bits, count)?;
            }
            (Body::Inline { blocks, tail }, Content::File { size, .. }) => {
                self.data = self.data.saturating_add(*size);
                let mut buffer = vec![0; tail as usize];
                self.source
                    .read(self.tree, name, blocks, &mut buffer)
                    .map_err(no_data(self.tree, name))?;
                self.out.put(&buffer)?;
            }
            (Body::Compressed { tail, .. }, Content::File { data, size, .. }) => {
                self.data = self.data.saturating_add(*size);
                let position = self.plan.position(id) + shape.body_offset();
                self.indexes(data, *size, position)
                    .map_err(|problem| problem.of(self.tree, Some(name)))?;
                let mut buffer = vec![0; tail as usize];
                if tail > 0 {
                    self.source
                        .read(self.tree, name, 0, &mut buffer)
                        .map_err(no_data(self.tree, name))?;
                }
                self.out.put(&buffer)?;
            }
            (Body::Blocks(_), Content::File { size, .. }) => {
                self.data = self.data.saturating_add(*size);
            }
            (Body::Inline { blocks, .. }, _) => {
                let payload = self.payload(name);
                self.out
                    .put(payload.get(blocks as usize..).unwrap_or_default())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The indexes of compressed data of so many bytes, which start at this position.
    fn indexes(&mut self, data: &Data, size: u64, position: u64) -> Result<(), NoIndexes> {
        let bytes = match (self.plan.indexes, data) {
            (Some(common), Data::Compressed(compressed)) => common.bytes(compressed, position),
            (_, Data::Referred(referred)) => {
                let bytes = referred.bytes(size, position, &self.addresses);
                bytes.map_err(NoIndexes::TooFar)?
            }
            _ => return Ok(()),
        };
        self.out.put(&bytes).map_err(NoIndexes::Io)
    }

    /// The inode of the file of fragments, which has no name.
    fn packed(&mut self) -> Result<(), Error> {
        let Some((packed, position)) = &self.plan.packed else {
            return Ok(());
        };
        self.out.zeros_to(*position)?;
        let (layout, value) = match (&packed.data, self.plan.indexes) {
            (Data::Compressed(compressed), Some(common)) => {
                (common.layout(compressed), compressed.blocks)
            }
            (Data::Referred(referred), _) => (referred.layout(), referred.blocks()),
            (Data::Stored(start), _) => (ondisk::layout::FLAT_PLAIN, start / self.plan.block),
            _ => (ondisk::layout::FLAT_PLAIN, 0),
        };
        self.inode_number = self.inode_number.saturating_add(1);
        let mut on_disk = InodeExtended::new_zeroed();
        let format = (layout << ondisk::format::LAYOUT_SHIFT) | ondisk::format::EXTENDED;
        on_disk.i_format = format.into();
        on_disk.i_mode = ondisk::mode::REGULAR.into();
        on_disk.i_size = packed.size.into();
        on_disk.i_u = low(value).into();
        on_disk.i_ino = self.inode_number.into();
        on_disk.i_mtime = (self.plan.epoch.sec as u64).into();
        on_disk.i_mtime_nsec = self.plan.epoch.nsec.into();
        on_disk.i_nlink = 1.into();
        self.out.put(on_disk.as_bytes())?;
        let behind = *position + size_of::<InodeExtended>() as u64;
        self.indexes(&packed.data, packed.size, behind)
            .map_err(|problem| problem.of(self.tree, None))
    }

    fn inode_header(&mut self, name: NameId, id: InodeId, shape: Shape) -> Result<(), Error> {
        let inode = self.tree.inode(id);
        let attributes = inode.attributes;
        let layout = match shape.body {
            Body::Chunks { .. } => ondisk::layout::CHUNK_BASED,
            Body::Inline { .. } => ondisk::layout::FLAT_INLINE,
            Body::Compressed { .. } => match (self.plan.indexes, &inode.content) {
                (
                    Some(common),
                    Content::File {
                        data: Data::Compressed(compressed),
                        ..
                    },
                ) => common.layout(compressed),
                (
                    _,
                    Content::File {
                        data: Data::Referred(referred),
                        ..
                    },
                ) => referred.layout(),
                _ => ondisk::layout::COMPRESSED_FULL,
            },
            Body::Empty | Body::Blocks(_) => ondisk::layout::FLAT_PLAIN,
        };
        let format = layout << ondisk::format::LAYOUT_SHIFT;
        let value = match (shape.body, &inode.content) {
            (Body::Chunks { bits, .. }, _) => {
                let wide = if self.plan.wide {
                    ondisk::chunk::ADDRESS_48BIT
                } else {
                    0
                };
                bits | u32::from(ondisk::chunk::INDEXES | wide)
            }
            (_, Content::CharDevice(major, minor) | Content::BlockDevice(major, minor)) => {
                encode_device(*major, *minor)
            }
            (
                _,
                Content::File {
                    data: Data::Compressed(compressed),
                    ..
                },
            ) => low(compressed.blocks),
            (
                Body::Compressed { .. },
                Content::File {
                    data: Data::Referred(referred),
                    ..
                },
            ) => low(referred.blocks()),
            _ => low(self.plan.first_block(id)),
        };
        let mode = kind(&inode.content).0 | attributes.mode;
        let size = self.plan.file_size(self.tree, self.children, name);
        let links = self.plan.links(id);
        let xattrs = self.plan.xattrs.count(attributes.xattrs);
        self.inode_number = self.inode_number.saturating_add(1);
        // Nothing on this machine shows the number. Zero tells `merge` that a directory is there only
        // because of what is in it.
        let implied = inode.content == Content::Directory && attributes.mtime.is_none();
        let number = if implied { 0 } else { self.inode_number };
        if shape.extended {
            let mtime = self.plan.mtime(inode);
            let on_disk = InodeExtended {
                i_format: (format | ondisk::format::EXTENDED).into(),
                i_xattr_icount: xattrs.into(),
                i_mode: mode.into(),
                i_nb: 0.into(),
                i_size: size.into(),
                i_u: value.into(),
                i_ino: number.into(),
                i_uid: attributes.uid.into(),
                i_gid: attributes.gid.into(),
                i_mtime: (mtime.sec as u64).into(),
                i_mtime_nsec: mtime.nsec.into(),
                i_nlink: links.into(),
                i_reserved2: [0; 16],
            };
            self.out.put(on_disk.as_bytes())?;
        } else {
            // `plan` made it extended unless all of these fit.
            let on_disk = InodeCompact {
                i_format: format.into(),
                i_xattr_icount: xattrs.into(),
                i_mode: mode.into(),
                i_nb: (links as u16).into(),
                i_size: low(size).into(),
                i_mtime: 0.into(),
                i_u: value.into(),
                i_ino: number.into(),
                i_uid: (attributes.uid as u16).into(),
                i_gid: (attributes.gid as u16).into(),
                i_reserved: 0.into(),
            };
            self.out.put(on_disk.as_bytes())?;
        }
        Ok(())
    }

    /// The chunk indexes of a file.
    fn chunks(
        &mut self,
        name: NameId,
        blob: u16,
        data: &Data,
        bits: u32,
        count: u64,
    ) -> Result<(), Error> {
        let plan = self.plan;
        let chunk = plan.block << bits;
        match (plan.mode, data) {
            (Mode::Index, Data::Contiguous(pos)) => {
                let device = self.device(name, blob)?;
                for nr in 0..count {
                    let index = self.index(device, pos.saturating_add(nr * chunk))?;
                    self.out.put(index.as_bytes())?;
                }
            }
            (Mode::Index, data) if is_in_pieces(data) => {
                let device = self.device(name, blob)?;
                let own = plan.first_block(self.tree.inode_of(name)) * plan.block;
                let size = plan.file_size(self.tree, self.children, name);
                let pieces = pieces(data, size, plan.block);
                let mut pieces = pieces.iter().peekable();
                for nr in 0..count {
                    let offset = nr * chunk;
                    while pieces.next_if(|piece| piece.end <= offset).is_some() {}
                    let index = match pieces.peek().filter(|piece| piece.start <= offset) {
                        Some(Piece { start, place, .. }) => {
                            let skip = offset - start;
                            match place {
                                Place::Blob(pos) => self.index(device, pos.saturating_add(skip))?,
                                Place::Own(pos) => self.index(0, own + pos + skip)?,
                            }
                        }
                        None => HOLE,
                    };
                    self.out.put(index.as_bytes())?;
                }
            }
            (Mode::Full, Data::StoredChunks(positions)) => {
                for nr in 0..count {
                    let position = usize::try_from(nr).ok().and_then(|nr| positions.get(nr));
                    let index = match position {
                        Some(pos) => self.index(0, *pos)?,
                        None => HOLE,
                    };
                    self.out.put(index.as_bytes())?;
                }
            }
            (Mode::Full, _) => {
                let id = self.tree.inode_of(name);
                let size = plan.file_size(self.tree, self.children, name);
                let mut stored = plan.stored_chunks(data, size, bits).peekable();
                let mut pos = plan.first_block(id) * plan.block;
                for nr in 0..count {
                    let mut index = HOLE;
                    if let Some((_, len)) = stored.next_if(|(offset, _)| *offset == nr * chunk) {
                        index = self.index(0, pos)?;
                        pos += len.next_multiple_of(plan.block);
                    }
                    self.out.put(index.as_bytes())?;
                }
            }
            _ => {
                for _ in 0..count {
                    self.out.put(HOLE.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// The number of a blob's device; 0 is the image itself.
    fn device(&self, name: NameId, blob: u16) -> Result<u16, Error> {
        let number = blob.checked_add(1);
        number.ok_or_else(|| problem_of(self.tree, name, "its data is in too many blobs"))
    }

    fn index(&self, device: u16, pos: u64) -> Result<ChunkIndex, Error> {
        let block = pos / self.plan.block;
        Ok(ChunkIndex {
            startblk_hi: high(block)?.into(),
            device_id: device.into(),
            startblk_lo: low(block).into(),
        })
    }
}

/// Why there are no indexes of compressed data.
enum NoIndexes {
    Io(io::Error),
    TooFar(TooFar),
}

impl NoIndexes {
    /// As an error about a file, or about that of fragments.
    fn of(self, tree: &Tree, name: Option<NameId>) -> Error {
        match (self, name) {
            (NoIndexes::Io(error), _) => error.into(),
            (NoIndexes::TooFar(TooFar(block)), name) => {
                let problem = format!(
                    "its compressed data is at block {block} of the image and all blobs one behind the other, expected less \
                     than {}",
                    u32::MAX
                );
                match name {
                    Some(name) => problem_of(tree, name, problem),
                    None => Error::Image(problem),
                }
            }
        }
    }
}

/// The index of a chunk that is a hole.
const HOLE: ChunkIndex = ChunkIndex {
    startblk_hi: U16::MAX_VALUE,
    device_id: U16::ZERO,
    startblk_lo: U32::MAX_VALUE,
};

/// File type bits of the mode, and the type as directories have it.
fn kind(content: &Content) -> (u16, u8) {
    use ondisk::file_type;
    use ondisk::mode;
    match content {
        Content::Directory => (mode::DIRECTORY, file_type::DIRECTORY),
        Content::Symlink(_) => (mode::SYMLINK, file_type::SYMLINK),
        Content::CharDevice(..) => (mode::CHARACTER_DEVICE, file_type::CHARACTER_DEVICE),
        Content::BlockDevice(..) => (mode::BLOCK_DEVICE, file_type::BLOCK_DEVICE),
        Content::Fifo => (mode::FIFO, file_type::FIFO),
        Content::Socket => (mode::SOCKET, file_type::SOCKET),
        Content::File { .. } | Content::Unresolved => (mode::REGULAR, file_type::REGULAR),
    }
}

fn low(number: u64) -> u32 {
    (number & u64::from(u32::MAX)) as u32
}

fn high(number: u64) -> Result<u16, Error> {
    u16::try_from(number >> 32)
        .map_err(|_| Error::Image(format!("block {number} cannot be addressed with 48 bits")))
}

fn superblock(
    tree: &Tree,
    options: &Options,
    plan: &Plan,
    size: u64,
    uuid: [u8; 16],
) -> Superblock {
    let root = plan.nid(tree.inode_of(NameId::ROOT));
    let blocks = size / plan.block;
    let mut incompat = ondisk::incompat::CHUNKED_FILE;
    if !options.devices.is_empty() {
        incompat |= ondisk::incompat::DEVICE_TABLE;
    }
    let mut superblock = Superblock::new_zeroed();
    if let Some(compression) = &options.compression {
        let block = 1 << options.block_bits;
        incompat |= compression.features(block);
        superblock.available_compr_algs = compression.in_superblock(block).into();
        superblock.packed_nid = plan.packed_nid().unwrap_or_default().into();
    }
    if let Some(referred) = &options.referred {
        incompat |= referred.incompat();
        superblock.available_compr_algs = referred.in_superblock().into();
        superblock.packed_nid = plan.packed_nid().unwrap_or_default().into();
    }
    superblock.magic = ondisk::SUPER_MAGIC.into();
    let mut compat = ondisk::compat::MTIME;
    if options.checksum.is_in(options.block_bits) {
        compat |= ondisk::compat::SB_CHKSUM;
    }
    if options.xattrs.filter && !tree.xattrs().is_empty() {
        compat |= ondisk::compat::XATTR_FILTER;
    }
    let prefixes = plan.xattrs.prefix_count();
    if prefixes > 0 {
        compat |= ondisk::compat::PLAIN_XATTR_PFX;
        incompat |= ondisk::incompat::XATTR_PREFIXES;
        superblock.xattr_prefix_count = prefixes;
        // `plan` made sure that it fits.
        superblock.xattr_prefix_start = low(plan.xattr_prefixes / 4).into();
    }
    if let Some(number) = plan.xattrs.fingerprint() {
        compat |= ondisk::compat::ISHARE_XATTRS;
        superblock.ishare_xattr_prefix_id = number;
    }
    superblock.feature_compat = compat.into();
    superblock.xattr_blkaddr = low(plan.xattr_area / plan.block).into();
    superblock.blkszbits = options.block_bits;
    // `plan` made it wide unless this fits.
    superblock.rootnid_2b = (root as u16).into();
    superblock.inos = plan.inodes.into();
    superblock.epoch = (plan.epoch.sec as u64).into();
    superblock.fixed_nsec = plan.epoch.nsec.into();
    // The epoch was chosen so that it fits.
    let build_time = options.build_time.unwrap_or(plan.epoch.sec);
    superblock.build_time = build_time_of(build_time, plan.epoch)
        .unwrap_or_default()
        .into();
    superblock.blocks_lo = low(blocks).into();
    superblock.uuid = uuid;
    superblock.volume_name = options.label;
    superblock.extra_devices = (options.devices.len() as u16).into();
    superblock.meta_blkaddr = low(plan.base / plan.block).into();
    superblock.devt_slotoff = ((plan.table / ondisk::DEVICE_SLOT_SIZE) as u16).into();
    if plan.wide {
        incompat |= ondisk::incompat::LAYOUT_48BIT;
        superblock.rootnid_8b = root.into();
        superblock.rootnid_2b = ((blocks >> 32) as u16).into();
    }
    superblock.feature_incompat = incompat.into();
    superblock
}

/// Puts the superblock into the first bytes of the image, with the checksum of its block.
fn finish_head(mut head: Vec<u8>, mut superblock: Superblock, options: &Options) -> Vec<u8> {
    let start = ondisk::SUPER_OFFSET as usize;
    let end = start + superblock_checksum_size(options.block_bits) as usize;
    let mut put = |superblock: &Superblock| {
        if let Some(bytes) = head.get_mut(start..start + size_of::<Superblock>()) {
            bytes.copy_from_slice(superblock.as_bytes());
        }
        superblock_checksum(head.get(start..end).unwrap_or_default())
    };
    let checksum = put(&superblock);
    if options.checksum.is_in(options.block_bits) {
        superblock.checksum = checksum.into();
        put(&superblock);
    }
    head
}
