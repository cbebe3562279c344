// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The part of [`Store`] that compresses: files are cut into segments, which go through
//! [`workers`](crate::clusters::workers) and are put together again in their order.
//!
//! What of a file is behind its inode at the end, and fragments, wait aside. When all files are through, the fragments
//! are compressed as one file.
//!
//! Whether compressing a file is worth it is known when all of it is encoded. Of a large file only so much is kept in
//! memory until then; if that much of it was of no use, the rest is taken for the same.

use super::Copy;
use super::Store;
use crate::clusters::Compressed;
use crate::clusters::Compression;
use crate::clusters::End;
use crate::clusters::Ends;
use crate::clusters::Extent;
use crate::clusters::indexes;
use crate::clusters::segment::MayEnd;
use crate::clusters::segment::Rest;
use crate::clusters::segment::Shape;
use crate::clusters::workers::Done;
use crate::clusters::workers::Work;
use crate::clusters::workers::Workers;
use crate::digest::Digest;
use crate::image::uuid::DataFingerprint;
use crate::tar::Segment;
use crate::tree::Data;
use sha2::Digest as _;
use sha2::Sha256;
use std::collections::HashMap;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::thread;

/// Files are cut into segments of so many bytes, or of so many of the largest physical clusters.
const SEGMENT: usize = 4 << 20;
const SEGMENT_CLUSTERS: usize = 16;
/// So much of a file is kept until it is known whether compressing it is worth it.
const HELD: u64 = 16 << 20;
/// With more holes than that, a file's holes are kept, and its data is not compressed.
const MOST_HOLES: u64 = 1 << 30;

/// What goes through the workers with a segment.
struct Along {
    file: usize,
    last: bool,
}

/// A file that is on its way, or through.
struct File {
    size: u64,
    /// What its inode takes at most, with everything in front of the data behind it.
    inode: u64,
    /// Where its data is, once that is known.
    data: Option<Data>,
}

/// The file that is being put together.
struct Assembly {
    extents: Vec<Extent>,
    end: Option<End>,
    /// Segments of which it is not known yet whether they will be stored as they are.
    held: Vec<Done>,
    /// How much there is of it so far, and in how many blocks that would be.
    seen: u64,
    blocks: u64,
    fate: Fate,
    /// Where its first block is.
    start: u64,
    stored: u64,
    fingerprint: DataFingerprint,
}

/// What becomes of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    Compressed,
    Plain,
}

/// Everything that is needed for compressing.
pub(super) struct Encoding {
    options: Compression,
    shape: Shape,
    segment: usize,
    workers: Workers<Along>,
    files: Vec<File>,
    assembly: Assembly,
    /// Which clusters there are: what each is encoded as, how long it is decoded, and whether it is encoded; and their block.
    clusters: HashMap<(Digest, u32, bool), u64>,
    /// Files of one segment, and where their data is.
    wholes: HashMap<Digest, Data>,
    /// Which fragments there are, and where.
    fragments: HashMap<Digest, u64>,
    /// Where parts of the file of fragments are aside.
    packed: Vec<Segment>,
    packed_size: u64,
}

impl Assembly {
    fn new() -> Self {
        Assembly {
            extents: Vec::new(),
            end: None,
            held: Vec::new(),
            seen: 0,
            blocks: 0,
            fate: Fate::Unknown,
            start: 0,
            stored: 0,
            fingerprint: DataFingerprint::default(),
        }
    }
}

impl Encoding {
    pub fn new(options: &Compression, block: u32, bits: u8) -> io::Result<Self> {
        options.check(block).map_err(io::Error::other)?;
        let cluster = options.largest_cluster(block);
        let segment = SEGMENT.max(cluster as usize * SEGMENT_CLUSTERS);
        let workers = match options.workers {
            Some(count) => count,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let common = options.common(bits);
        Ok(Encoding {
            options: options.clone(),
            shape: Shape {
                block: block as usize,
                cluster: options.cluster(block) as usize,
                end: match options.ends {
                    Ends::Blocks => MayEnd::Blocks,
                    Ends::Inline => MayEnd::Inline,
                    Ends::Fragments | Ends::AllFragments => MayEnd::Fragment,
                },
                interlaced: common.interlaced,
            },
            // A segment ends with a block.
            segment: segment.next_multiple_of(block as usize),
            workers: Workers::new(workers, segment, &options.algorithms, cluster)?,
            files: Vec::new(),
            assembly: Assembly::new(),
            clusters: HashMap::new(),
            wholes: HashMap::new(),
            fragments: HashMap::new(),
            packed: Vec::new(),
            packed_size: 0,
        })
    }

    fn work(&self, last: bool) -> Work {
        Work {
            algorithm: 0,
            shape: self.shape,
            last,
            digests: self.options.dedupe || self.shape.end == MayEnd::Fragment,
        }
    }
}

/// The file of fragments.
pub(in crate::image) struct Packed {
    pub size: u64,
    pub data: Data,
}

/// Whether so many bytes in a file of this size are few enough for its holes to be compressed with it.
pub(super) fn compresses(size: u64, present: u64) -> bool {
    size.saturating_sub(present) <= MOST_HOLES
}

impl Store<'_> {
    /// Compresses a file that has these segments. Where its data is will be known later: it gets a number.
    pub(super) fn encode<E: From<io::Error>>(
        &mut self,
        size: u64,
        inode: u64,
        segments: &[Segment],
        copy: Copy<'_, E>,
    ) -> Result<Data, E> {
        let Some(mut encoding) = self.encoding.take() else {
            return Err(io::Error::other("nothing to compress with").into());
        };
        let file = encoding.files.len();
        encoding.files.push(File {
            size,
            inode,
            data: None,
        });
        let all_fragments = encoding.options.ends == Ends::AllFragments;
        let mut whole = Sha256::new();
        let packed = (encoding.packed.len(), encoding.packed_size);
        let mut left = segments;
        let mut pos = 0;
        while pos < size {
            let len = (size - pos).min(encoding.segment as u64);
            let mut bytes = Vec::with_capacity(len as usize);
            left = fill(left, pos, pos + len, copy, &mut bytes)?;
            pos += len;
            if all_fragments {
                whole.update(&bytes);
                self.pack(&mut encoding, &bytes)?;
                continue;
            }
            let last = pos == size;
            let work = encoding.work(last);
            encoding.workers.give(Along { file, last }, bytes, work);
            self.settle(&mut encoding, false)?;
        }
        if all_fragments {
            let digest = Digest(whole.finalize().into());
            let start = encoding.fragment(digest, packed);
            let data = wholly_packed(size, start, encoding.options.number());
            if let Some(file) = encoding.files.last_mut() {
                file.data = Some(data);
            }
        }
        self.encoding = Some(encoding);
        let number = u32::try_from(file).map_err(io::Error::other)?;
        Ok(Data::Encoding(number))
    }

    /// Puts bytes at the end of the file of fragments, which waits aside.
    fn pack(&mut self, encoding: &mut Encoding, bytes: &[u8]) -> io::Result<()> {
        self.aside.write_all(bytes)?;
        let (start, pos, len) = (encoding.packed_size, self.aside_pos, bytes.len() as u64);
        self.aside_pos += len;
        encoding.packed_size += len;
        match encoding.packed.last_mut() {
            Some(last) if last.pos + last.len == pos => last.len += len,
            _ => encoding.packed.push(Segment { start, len, pos }),
        }
        Ok(())
    }

    /// Puts away what the workers are through with; with `all`, what they are not through with yet, too.
    fn settle(&mut self, encoding: &mut Encoding, all: bool) -> io::Result<()> {
        while let Some((along, done)) = encoding.workers.take(all)? {
            self.settle_segment(encoding, &along, done)?;
        }
        Ok(())
    }

    fn settle_segment(
        &mut self,
        encoding: &mut Encoding,
        along: &Along,
        done: Done,
    ) -> io::Result<()> {
        let Some(File { size, inode, .. }) = encoding.files.get(along.file) else {
            return Err(io::Error::other("a segment of no file"));
        };
        let (size, inode) = (*size, *inode);
        let whole = done.whole.filter(|_| done.bytes.len() as u64 == size);
        if let Some(data) = whole.and_then(|whole| encoding.wholes.get(&whole)).cloned() {
            if let Some(file) = encoding.files.get_mut(along.file) {
                file.data = Some(data);
            }
            return Ok(());
        }
        let mut assembly = std::mem::replace(&mut encoding.assembly, Assembly::new());
        assembly.seen += done.bytes.len() as u64;
        assembly.blocks += encoding.new_blocks(&done);
        let inline = match &done.segment.rest {
            Rest::Inline { bytes, .. } => bytes.len() as u64,
            _ => 0,
        };
        let fragment = matches!(done.segment.rest, Rest::Fragment(_));
        if assembly.fate == Fate::Unknown && (along.last || assembly.seen > HELD) {
            let indexes = indexes::estimate(assembly.seen, encoding.bits());
            let encoded = assembly.blocks * self.block + inline + indexes;
            assembly.fate = match fragment || encoded < assembly.seen {
                true => Fate::Compressed,
                false => Fate::Plain,
            };
        }
        match assembly.fate {
            Fate::Unknown => assembly.held.push(done),
            Fate::Compressed => {
                for done in std::mem::take(&mut assembly.held) {
                    self.put_encoded(encoding, &mut assembly, &done)?;
                }
                self.put_encoded(encoding, &mut assembly, &done)?;
            }
            Fate::Plain => {
                let whole = self.whole_blocks(size, inode);
                for done in std::mem::take(&mut assembly.held) {
                    self.put_plain(&mut assembly, &done.bytes, whole)?;
                }
                self.put_plain(&mut assembly, &done.bytes, whole)?;
            }
        }
        if !along.last {
            encoding.assembly = assembly;
            return Ok(());
        }
        if assembly.stored > 0 {
            self.pieces
                .push((assembly.start, assembly.fingerprint.value()));
            self.count += 1;
        }
        let blocks = self.whole_blocks(size, inode);
        let data = match assembly.fate {
            Fate::Compressed | Fate::Unknown => Data::Compressed(Box::new(Compressed {
                extents: assembly.extents.into(),
                end: assembly.end,
                algorithm: encoding.options.number(),
                start: assembly.start,
                blocks: assembly.stored / self.block,
            })),
            Fate::Plain if blocks == size => Data::Stored(assembly.start),
            Fate::Plain => Data::StoredWithTail {
                blocks: assembly.start,
                end: self.aside_pos,
            },
        };
        self.zeros_to(self.block)?;
        // Whether an end fits behind an inode depends on the inode.
        if let (Some(whole), Data::Compressed(_) | Data::Stored(_)) = (whole, &data) {
            encoding.wholes.insert(whole, data.clone());
        }
        if let Some(file) = encoding.files.get_mut(along.file) {
            file.data = Some(data);
        }
        Ok(())
    }

    /// How much of a file that is stored as it is is in blocks: all but what fits behind its inode.
    fn whole_blocks(&self, size: u64, inode: u64) -> u64 {
        let tail = size % self.block;
        match self.tails && tail > 0 && inode + tail <= self.block {
            true => size - tail,
            false => size,
        }
    }

    /// Stores the next bytes of a file as they are; what is behind `whole` of it waits aside.
    fn put_plain(&mut self, assembly: &mut Assembly, bytes: &[u8], whole: u64) -> io::Result<()> {
        if assembly.stored == 0 {
            self.zeros_to(self.align)?;
            assembly.start = self.pos;
        }
        let left = usize::try_from(whole - assembly.stored).unwrap_or(usize::MAX);
        let (now, tail) = bytes.split_at(left.min(bytes.len()));
        assembly.fingerprint.update(now);
        self.out.write_all(now)?;
        assembly.stored += now.len() as u64;
        self.pos += now.len() as u64;
        self.aside.write_all(tail)?;
        self.aside_pos += tail.len() as u64;
        Ok(())
    }

    /// Stores the next segment of a file as it is encoded.
    fn put_encoded(
        &mut self,
        encoding: &mut Encoding,
        assembly: &mut Assembly,
        done: &Done,
    ) -> io::Result<()> {
        if assembly.stored == 0 && assembly.extents.is_empty() {
            assembly.start = self.pos;
        }
        let mut rest = done.segment.bytes.as_slice();
        for (number, piece) in done.segment.pieces.iter().enumerate() {
            let size = usize::from(piece.blocks) * encoding.shape.block;
            let (bytes, behind) = rest.split_at_checked(size).unwrap_or((rest, &[]));
            rest = behind;
            let key = match encoding.options.dedupe {
                true => done.digests.get(number),
                false => None,
            };
            let key = key.map(|digest| (*digest, piece.length, piece.encoded));
            let there = key.and_then(|key| encoding.clusters.get(&key)).copied();
            let block = match there {
                Some(block) => block,
                None => {
                    let block = self.pos / self.block;
                    assembly.fingerprint.update(bytes);
                    self.out.write_all(bytes)?;
                    self.pos += bytes.len() as u64;
                    assembly.stored += bytes.len() as u64;
                    block
                }
            };
            if let Some(key) = key {
                encoding.clusters.insert(key, block);
            }
            assembly.extents.push(Extent {
                length: piece.length,
                block,
                blocks: piece.blocks,
                encoded: piece.encoded,
                partial: false,
            });
        }
        let extent = |length, blocks, encoded| Extent {
            length,
            block: self.pos / self.block,
            blocks,
            encoded,
            partial: false,
        };
        match &done.segment.rest {
            Rest::None => {}
            Rest::Inline {
                length,
                bytes,
                encoded,
            } => {
                assembly.extents.push(extent(*length, 1, *encoded));
                assembly.end = Some(End::Inline {
                    pos: self.aside_pos,
                    len: bytes.len() as u16,
                });
                self.aside.write_all(bytes)?;
                self.aside_pos += bytes.len() as u64;
            }
            Rest::Fragment(length) => {
                assembly.extents.push(extent(*length, 0, true));
                let start = done.bytes.len().saturating_sub(*length as usize);
                let bytes = done.bytes.get(start..).unwrap_or_default();
                let digest = done.digests.last().copied();
                let digest = digest.unwrap_or_else(|| Digest::of(bytes));
                let packed = (encoding.packed.len(), encoding.packed_size);
                let there = encoding.fragments.get(&digest).copied();
                let start = match there {
                    Some(start) => start,
                    None => {
                        self.pack(encoding, bytes)?;
                        encoding.fragment(digest, packed)
                    }
                };
                assembly.end = Some(End::Fragment(start));
            }
        }
        Ok(())
    }

    /// Waits for all files, and puts where their data is in place of their numbers; then compresses the fragments.
    pub(super) fn finish_encoding(
        &mut self,
        tree: &mut crate::tree::Tree,
    ) -> io::Result<Option<Packed>> {
        let Some(mut encoding) = self.encoding.take() else {
            return Ok(None);
        };
        self.settle(&mut encoding, true)?;
        for data in tree.data_mut() {
            let Data::Encoding(number) = *data else {
                continue;
            };
            let file = encoding.files.get_mut(number as usize);
            // A file may have several inodes, of which one has it by now.
            *data = file
                .and_then(|file| file.data.clone())
                .ok_or_else(|| io::Error::other("a file was not compressed"))?;
        }
        self.shared = !encoding.wholes.is_empty() || encoding.options.dedupe;
        // The file of fragments may be equal to one that is a fragment, and must not be that one.
        encoding.wholes.clear();
        let packed = self.finish_packed(&mut encoding)?;
        Ok(packed)
    }

    fn finish_packed(&mut self, encoding: &mut Encoding) -> io::Result<Option<Packed>> {
        let size = encoding.packed_size;
        if size == 0 {
            return Ok(None);
        }
        self.aside.flush()?;
        encoding.shape.end = MayEnd::Blocks;
        encoding.shape.cluster = encoding.options.packed_cluster(self.block as u32) as usize;
        let segments = std::mem::take(&mut encoding.packed);
        let file = encoding.files.len();
        encoding.files.push(File {
            size,
            // It is in blocks in any case.
            inode: self.block,
            data: None,
        });
        let aside = self.aside_file;
        let copy = &mut |piece: Segment, out: &mut dyn Write| -> io::Result<()> {
            let mut bytes = vec![0; piece.len as usize];
            aside.read_exact_at(&mut bytes, piece.pos)?;
            out.write_all(&bytes)
        };
        let mut left = segments.as_slice();
        let mut pos = 0;
        while pos < size {
            let len = (size - pos).min(encoding.segment as u64);
            let mut bytes = Vec::with_capacity(len as usize);
            left = fill::<io::Error>(left, pos, pos + len, copy, &mut bytes)?;
            pos += len;
            let last = pos == size;
            let mut work = encoding.work(last);
            work.digests = encoding.options.dedupe;
            encoding.workers.give(Along { file, last }, bytes, work);
            self.settle(encoding, false)?;
        }
        self.settle(encoding, true)?;
        let data = encoding.files.pop().and_then(|file| file.data);
        let data = data.ok_or_else(|| io::Error::other("the fragments were not compressed"))?;
        Ok(Some(Packed { size, data }))
    }
}

impl Encoding {
    fn bits(&self) -> u8 {
        self.shape.block.trailing_zeros() as u8
    }

    /// How many blocks a segment takes that are not there yet.
    fn new_blocks(&self, done: &Done) -> u64 {
        let pieces = done.segment.pieces.iter().enumerate();
        let new = pieces.filter(|(number, piece)| {
            let digest = done.digests.get(*number).filter(|_| self.options.dedupe);
            let key = digest.map(|digest| (*digest, piece.length, piece.encoded));
            !key.is_some_and(|key| self.clusters.contains_key(&key))
        });
        new.map(|(_, piece)| u64::from(piece.blocks)).sum()
    }

    /// Where a fragment is that was put at the end: there, or where an equal one was before, and then it is taken back.
    fn fragment(&mut self, digest: Digest, (parts, start): (usize, u64)) -> u64 {
        let end = self.packed_size;
        if let Some(there) = self.fragments.get(&digest) {
            self.packed.truncate(parts);
            if let Some(last) = self.packed.last_mut() {
                last.len = start - last.start;
            }
            self.packed_size = start;
            return *there;
        }
        debug_assert!(end >= start);
        self.fragments.insert(digest, start);
        start
    }
}

/// The data of a file all of which is a fragment.
fn wholly_packed(size: u64, start: u64, algorithm: u8) -> Data {
    Data::Compressed(Box::new(Compressed {
        extents: Box::new([Extent {
            length: u32::try_from(size).unwrap_or(u32::MAX),
            block: 0,
            blocks: 0,
            encoded: true,
            partial: false,
        }]),
        end: Some(End::Fragment(start)),
        algorithm,
        start: 0,
        blocks: 0,
    }))
}

/// Puts the bytes from `from` to `to` of a file into a buffer, with zeros where there are holes; which segments are
/// left for what follows.
fn fill<'s, E>(
    segments: &'s [Segment],
    from: u64,
    to: u64,
    copy: Copy<'_, E>,
    bytes: &mut Vec<u8>,
) -> Result<&'s [Segment], E> {
    let mut left = segments;
    while let [segment, rest @ ..] = left {
        let end = segment.start + segment.len;
        let start = segment.start.max(from);
        if start >= to {
            break;
        }
        let end_now = end.min(to);
        bytes.resize((start - from) as usize, 0);
        let piece = Segment {
            start,
            len: end_now.saturating_sub(start),
            pos: segment.pos + (start - segment.start),
        };
        if piece.len > 0 {
            copy(piece, bytes)?;
        }
        if end > to {
            break;
        }
        left = rest;
    }
    bytes.resize((to - from) as usize, 0);
    Ok(left)
}
