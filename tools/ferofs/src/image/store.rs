// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Puts the data of files into an image while their archive is still being read, so that an archive
//! that comes through a pipe is read and written once.
//!
//! The data comes first in such an image, in the order of the archive, and everything else behind it.
//! The last, partial blocks of files belong behind inodes, whose places are known only at the end:
//! until then they are in a file aside, as is the data of sparse files.
//!
//! Files that are cut into chunks share those that are equal. That takes their data before the rest of
//! the image is planned, so such images are made here even if there is no hurry. So does compression.

mod encode;

use super::Error;
use super::Options;
use super::Source;
use super::Summary;
use super::emit;
use super::emit::FileData;
use super::epoch;
use super::no_data;
use super::plan::PAGE;
use super::plan::Plan;
use super::source::Blobs;
use super::uuid::DataFingerprint;
use super::xattrs;
use crate::digest::Digest;
use crate::direct;
use crate::tar;
use crate::tar::Entry;
use crate::tar::Input;
use crate::tar::Kind;
use crate::tar::Reader;
use crate::tar::Segment;
use crate::text::Reason;
use crate::tree;
use crate::tree::Content;
use crate::tree::Data;
use crate::tree::NameId;
use crate::tree::Tree;
pub(super) use encode::Packed;

use encode::Encoding;
use erofs_format::ondisk::InodeExtended;
use rustix::fs::FallocateFlags;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// Data of files on its way into an image.
pub struct Store<'a> {
    file: &'a File,
    out: direct::Writer,
    /// How long the image is so far.
    pos: u64,
    /// How many files have data there.
    count: usize,
    aside_file: &'a File,
    aside: BufWriter<&'a File>,
    /// How long the file aside is so far.
    aside_pos: u64,
    block: u64,
    align: u64,
    /// Whether partial blocks may be behind inodes.
    tails: bool,
    /// Size of chunks, if files are cut into some.
    chunk: Option<u64>,
    /// Where chunks are that are there already.
    chunks: HashMap<Digest, u64>,
    /// Each piece of data: where it starts, and what the UUID has of it.
    pieces: Vec<(u64, [u8; 16])>,
    /// What compresses, if files are compressed.
    encoding: Option<Box<Encoding>>,
    /// Whether files may have blocks of other ones.
    shared: bool,
    /// What a file's fingerprint takes behind its inode, if files get some.
    fingerprint: u64,
}

/// Chunks are in memory while they are compared. Larger ones are not.
const LARGEST_COMPARED: u64 = 16 << 20;
/// Data of a tree's files passes through a buffer of this size.
const BUFFER: u64 = 256 << 10;

/// Copies a piece of a file from wherever it is.
type Copy<'c, E> = &'c mut dyn FnMut(Segment, &mut dyn Write) -> Result<(), E>;

/// Why data cannot be stored.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be read.
    Archive(tar::Error),
    /// It cannot be written.
    Image(io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Archive(error) => error.fmt(f),
            StoreError::Image(error) => Reason(error).fmt(f),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Archive(error) => error.source(),
            StoreError::Image(error) => Some(error),
        }
    }
}

impl From<tar::Error> for StoreError {
    fn from(error: tar::Error) -> Self {
        StoreError::Archive(error)
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        StoreError::Image(error)
    }
}

/// What an entry says of its data, for [`Store::take`].
pub struct Wanted {
    size: u64,
    data: tar::Data,
    /// What the inode takes at most, with everything in front of the data behind it.
    inode: u64,
}

impl Wanted {
    /// Of an entry; `None` if it has no data.
    pub fn of(entry: &Entry<'_>) -> Option<Self> {
        match &entry.kind {
            Kind::File { size, data } if *size > 0 => Some(Wanted {
                size: *size,
                data: data.clone(),
                inode: size_of::<InodeExtended>() as u64 + xattrs::most(&entry.xattrs),
            }),
            _ => None,
        }
    }
}

impl<'a> Store<'a> {
    /// Starts an image in `file`, and what has to wait in `aside`. Both are empty. `expected` says how
    /// much data there will be, as far as is known.
    ///
    /// # Errors
    ///
    /// When an option is out of its range, or writing fails.
    pub fn new(
        file: &'a File,
        aside: &'a File,
        expected: Option<u64>,
        options: &Options,
    ) -> io::Result<Self> {
        options.check().map_err(io::Error::other)?;
        let block = 1 << options.block_bits;
        let mut out = direct::Writer::new(file, expected)?;
        // The superblock's page, which is written at the end.
        out.write_all(&[0; PAGE as usize])?;
        Ok(Store {
            file,
            out,
            pos: PAGE,
            count: 0,
            aside_file: aside,
            aside: BufWriter::with_capacity(256 << 10, aside),
            aside_pos: 0,
            block,
            align: options.align.max(block),
            tails: options.inline_data && options.chunk_bits.is_none(),
            chunk: options
                .chunk_bits
                .map(|bits| 1 << bits.max(options.block_bits).min(63)),
            chunks: HashMap::new(),
            pieces: Vec::new(),
            encoding: match &options.compression {
                Some(compression) => {
                    let encoding = Encoding::new(compression, block as u32, options.block_bits)?;
                    Some(Box::new(encoding))
                }
                None => None,
            },
            shared: false,
            fingerprint: 0,
        })
    }

    /// Says that the files of a tree will get fingerprints when their data is in.
    #[must_use]
    pub fn with_fingerprints(mut self, yes: bool) -> Self {
        self.fingerprint = if yes { xattrs::FINGERPRINT } else { 0 };
        self
    }

    /// Takes in the data of the entry that `reader` read last, and says where it is from now on.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub fn take<I: Input>(
        &mut self,
        reader: &mut Reader<I>,
        wanted: &Wanted,
    ) -> Result<Data, StoreError> {
        let size = wanted.size;
        let inode = wanted.inode + self.fingerprint;
        let copy =
            &mut |piece: Segment, out: &mut dyn Write| copy(reader, piece.pos, piece.len, out);
        let from = match &wanted.data {
            tar::Data::Contiguous(pos) => *pos,
            tar::Data::Sparse(segments) if self.compresses(size, segments) => {
                return self.encode(size, inode, segments, copy);
            }
            tar::Data::Sparse(segments) => return self.wait(segments, copy),
        };
        let piece = |start: u64, end: u64| Segment {
            start,
            len: end - start,
            pos: from + start,
        };
        if self.encoding.is_some() {
            return self.encode(size, inode, &[piece(0, size)], copy);
        }
        if let Some(chunk) = self.chunk.filter(|chunk| *chunk <= LARGEST_COMPARED) {
            return self.cut(piece(0, size), chunk, copy);
        }
        let tail = size % self.block;
        // In doubt its blocks are whole: where its attributes go is not known yet.
        let apart = self.tails && tail > 0 && inode + tail <= self.block;
        let whole = if apart { size - tail } else { size };
        let blocks = match whole {
            0 => 0,
            _ => self.blocks(piece(0, whole), copy)?,
        };
        if !apart {
            return Ok(Data::Stored(blocks));
        }
        copy(piece(whole, size), &mut self.aside)?;
        self.aside_pos += tail;
        Ok(Data::StoredWithTail {
            blocks,
            end: self.aside_pos,
        })
    }

    /// Takes in the data of all files of a tree from `source`, in the order in which the tree is
    /// walked, if files are cut into chunks or compressed. Then `source` is not needed any more.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub fn take_all(&mut self, tree: &mut Tree, source: &dyn Source) -> Result<(), Error> {
        if self.chunk.is_none() && self.encoding.is_none() {
            return Ok(());
        }
        let chunk = self.chunk.unwrap_or(u64::MAX);
        let children = tree.children();
        let mut seen = vec![false; tree.inode_count()];
        let mut left = vec![NameId::ROOT];
        while let Some(name) = left.pop() {
            left.extend(children.of(name).iter().rev());
            let id = tree.inode_of(name);
            let again = seen.get_mut(id.index());
            if again.is_some_and(|seen| std::mem::replace(seen, true)) {
                continue;
            }
            let Content::File { size, data, .. } = &tree.inode(id).content else {
                continue;
            };
            let (start, len) = (0, *size);
            let all = Segment { start, len, pos: 0 };
            let copy = &mut |piece: Segment, out: &mut dyn Write| {
                copy_file(tree, source, name, piece, out)
            };
            let inode = || {
                let set = tree.inode(id).attributes.xattrs;
                size_of::<InodeExtended>() as u64 + xattrs::most_of(&tree.xattrs().list(set))
            };
            let taken = match data {
                _ if len == 0 => continue,
                Data::Sparse(segments) | Data::SparseOriginal(segments)
                    if self.compresses(len, segments) =>
                {
                    self.encode(len, inode(), segments, copy)?
                }
                Data::Sparse(segments) | Data::SparseOriginal(segments) => {
                    self.wait(segments, copy)?
                }
                _ if self.encoding.is_some() => self.encode(len, inode(), &[all], copy)?,
                _ if chunk <= LARGEST_COMPARED => self.cut(all, chunk, copy)?,
                _ => Data::Stored(self.blocks(all, copy)?),
            };
            if let Content::File { data, .. } = &mut tree.inode_mut(id).content {
                *data = taken;
            }
        }
        Ok(())
    }

    /// Whether a file with these segments is compressed, and its holes with it.
    fn compresses(&self, size: u64, segments: &[Segment]) -> bool {
        self.encoding.is_some() && encode::compresses(size, tree::present(segments))
    }

    /// Lets the data of a sparse file wait aside.
    fn wait<E: From<io::Error>>(
        &mut self,
        segments: &[Segment],
        copy: Copy<'_, E>,
    ) -> Result<Data, E> {
        let mut kept = Vec::new();
        for segment in segments {
            copy(*segment, &mut self.aside)?;
            let pos = self.aside_pos;
            kept.push(Segment { pos, ..*segment });
            self.aside_pos += segment.len;
        }
        Ok(Data::Sparse(kept.into()))
    }

    /// Stores the chunks of a file that are not there yet.
    fn cut<E: From<io::Error>>(
        &mut self,
        all: Segment,
        chunk: u64,
        copy: Copy<'_, E>,
    ) -> Result<Data, E> {
        let mut positions = Vec::new();
        let mut bytes = Vec::new();
        for start in (0..all.len).step_by(chunk as usize) {
            let len = chunk.min(all.len - start);
            let pos = all.pos + start;
            let piece = Segment { start, len, pos };
            bytes.clear();
            copy(piece, &mut bytes)?;
            let digest = Digest::of(&bytes);
            let position = match self.chunks.get(&digest) {
                Some(position) => *position,
                None => self.blocks(piece, &mut |_, out| out.write_all(&bytes))?,
            };
            self.chunks.insert(digest, position);
            positions.push(position);
        }
        Ok(Data::StoredChunks(positions.into()))
    }

    /// Stores a piece of data in blocks and says where they start.
    fn blocks<E: From<io::Error>>(&mut self, piece: Segment, copy: Copy<'_, E>) -> Result<u64, E> {
        self.zeros_to(self.align)?;
        let start = self.pos;
        let mut out = Hashing {
            out: &mut self.out,
            len: piece.len,
            whole: None,
            parts: None,
        };
        copy(piece, &mut out)?;
        self.pieces.push((start, out.value()));
        self.pos += piece.len;
        self.zeros_to(self.block)?;
        self.count += 1;
        Ok(start)
    }

    /// Fills up with zeros to a multiple of `to`.
    fn zeros_to(&mut self, to: u64) -> io::Result<()> {
        let end = self.pos.next_multiple_of(to);
        let len = end - self.pos;
        if len >= direct::HOLE {
            self.out.skip(len)?;
        } else {
            io::copy(&mut io::repeat(0).take(len), &mut self.out)?;
        }
        self.pos = end;
        Ok(())
    }

    /// Writes everything else behind the data.
    ///
    /// # Errors
    ///
    /// Those of [`write()`](super::write()).
    pub fn finish(mut self, tree: &mut Tree, options: &Options) -> Result<Summary, Error> {
        let packed = self.finish_encoding(tree)?;
        let tree = &*tree;
        self.zeros_to(PAGE)?;
        self.out.finish()?;
        self.aside.flush()?;
        let children = tree.children();
        let epoch = epoch(tree, options);
        let plan = Plan::new(tree, &children, options, epoch, self.pos, packed)?;
        // Of chunks, several files may have one.
        if !self.shared && (plan.stored.len() < self.count || self.chunk.is_some()) {
            clear_unused(self.file, self.pos, plan.stored.clone())?;
        }
        let source = Blobs(vec![self.aside_file]);
        let mut out = self.file;
        out.seek(SeekFrom::Start(0))?;
        let mut stored = DataFingerprint::default();
        let used: HashSet<u64> = plan.stored.iter().map(|(start, _)| *start).collect();
        let used = |start: &u64| self.shared || used.contains(start);
        for (_, piece) in self.pieces.iter().filter(|(start, _)| used(start)) {
            stored.update(piece);
        }
        emit::emit(
            tree,
            &children,
            options,
            &source,
            &plan,
            out,
            FileData::Stored(Box::new(stored)),
        )
    }
}

/// Hashes what is written.
struct Hashing<'w> {
    out: &'w mut direct::Writer,
    /// How much will come.
    len: u64,
    /// What all of it came to, if it came at once: that is faster, and most files are small.
    whole: Option<[u8; 16]>,
    /// What came in several parts.
    parts: Option<Box<DataFingerprint>>,
}

impl Hashing<'_> {
    fn value(self) -> [u8; 16] {
        match self.whole {
            Some(whole) => whole,
            None => self.parts.unwrap_or_default().value(),
        }
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.out.write(bytes)?;
        let bytes = bytes.get(..len).unwrap_or_default();
        if self.parts.is_none() && len as u64 == self.len {
            self.whole = Some(DataFingerprint::of(bytes));
        } else {
            self.parts.get_or_insert_default().update(bytes);
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Copies data of an archive's last entry.
fn copy<I: Input>(
    reader: &mut Reader<I>,
    from: u64,
    len: u64,
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let (mut pos, mut left) = (from, len);
    while left > 0 {
        let bytes = reader.data(pos, usize::try_from(left).unwrap_or(usize::MAX))?;
        out.write_all(bytes).map_err(StoreError::Image)?;
        pos += bytes.len() as u64;
        left -= bytes.len() as u64;
    }
    Ok(())
}

/// Copies data of a file in a tree.
fn copy_file(
    tree: &Tree,
    source: &dyn Source,
    name: NameId,
    piece: Segment,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER.min(piece.len) as usize];
    let (mut pos, mut left) = (piece.start, piece.len);
    while left > 0 {
        let len = BUFFER.min(left);
        let bytes = buffer.get_mut(..len as usize).unwrap_or_default();
        source
            .read(tree, name, pos, bytes)
            .map_err(no_data(tree, name))?;
        out.write_all(bytes)?;
        pos += len;
        left -= len;
    }
    Ok(())
}

/// Turns into zeros what belongs to files that were replaced or left out later on. They take no space
/// then, if the filesystem can do that.
fn clear_unused(file: &File, end: u64, mut used: Vec<(u64, u64)>) -> io::Result<()> {
    used.sort_unstable();
    used.push((end, 0));
    let mut pos = PAGE;
    for (start, len) in used {
        if start > pos {
            clear(file, pos, start - pos)?;
        }
        pos = pos.max(start + len);
    }
    Ok(())
}

fn clear(file: &File, pos: u64, len: u64) -> io::Result<()> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if rustix::fs::fallocate(file, hole, pos, len).is_ok() {
        return Ok(());
    }
    let zeros = [0; PAGE as usize];
    let (mut pos, mut left) = (pos, len);
    while left > 0 {
        let now = left.min(PAGE);
        file.write_all_at(zeros.get(..now as usize).unwrap_or_default(), pos)?;
        pos += now;
        left -= now;
    }
    Ok(())
}
