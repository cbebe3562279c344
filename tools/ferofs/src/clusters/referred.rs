// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compressed data that stays in blobs: what an image says of it that refers to it.
//!
//! `merge` finds out of which parts a file is; `image` writes them, as indexes of logical clusters if the blob's own image has
//! such ones, else as records of extents. Addresses of compressed data are those of one address space: the image, and all
//! blobs one behind the other. Where each begins there is known when the image is planned.

use super::End;
use super::codec::configuration;
use super::indexes::Form;
use super::indexes::Span;
use super::indexes::Table;
use erofs_format::Algorithm;
use erofs_format::compressed::COMPACT_LCLUSTER_BITS_MAX;
use erofs_format::compressed::Extent;
use erofs_format::compressed::MapHeader;
use erofs_format::compressed::advise;
use erofs_format::compressed::algorithm;
use erofs_format::compressed::extent;
use erofs_format::compressed::lcluster;
use erofs_format::ondisk::incompat;
use erofs_format::ondisk::layout;
use std::mem::offset_of;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// A range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many bytes of the file these are.
    pub length: u64,
    /// What they come from.
    pub from: Origin,
}

/// What a range of a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They are zeros.
    Hole,
    /// The file of fragments, from a position on. The last part only.
    Fragment(u64),
    /// What is behind the indexes. The last part only.
    Inline {
        /// Where it is before the image is written.
        pos: u64,
        /// How many bytes these are, encoded or not.
        len: u16,
        /// What they are encoded with; none if they are as they are.
        algorithm: Option<Algorithm>,
        /// Whether they are decoded to more than this range.
        partial: bool,
    },
    /// A blob.
    Blob {
        /// Its number.
        blob: u16,
        /// Where in it the first byte is.
        pos: u64,
        /// How many bytes these are there.
        len: u32,
        /// What they are encoded with; none if they are as they are.
        algorithm: Option<Algorithm>,
        /// Whether they are decoded to more than this range.
        partial: bool,
    },
}

impl Origin {
    fn algorithm(&self) -> Option<Algorithm> {
        match self {
            Origin::Inline { algorithm, .. } | Origin::Blob { algorithm, .. } => *algorithm,
            Origin::Hole | Origin::Fragment(_) => None,
        }
    }

    /// Whether it is decoded to more than its range.
    fn is_partial(&self) -> bool {
        match self {
            Origin::Inline { partial, .. } | Origin::Blob { partial, .. } => *partial,
            Origin::Hole | Origin::Fragment(_) => false,
        }
    }
}

/// How it is said where the parts of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// By indexes of logical clusters of this size, as a power of two. All of the file but its end is in whole blocks, and no two
    /// parts begin in one logical cluster.
    Indexes {
        /// The size.
        bits: u8,
        /// Whether compact indexes will do, if parts are one behind the other.
        compact: bool,
        /// Whether plain data is as far into a block as it is in the file.
        interlaced: bool,
    },
    /// By records, of parts of any length and at any place. None is inline.
    Records,
}

/// A compressed file whose data stays in blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referred {
    parts: Arc<[Part]>,
    mapped: Mapped,
    form: Form,
    /// The size of blocks as a power of two.
    block_bits: u8,
    /// Which of the sources of copied ends has what is inline.
    source: u16,
    /// How many blocks its data takes.
    blocks: u64,
}

/// A block number that has no place in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFar(pub u64);

impl Referred {
    /// Of its parts.
    pub fn new(parts: Vec<Part>, mapped: Mapped, block_bits: u8, source: u16, blocks: u64) -> Self {
        let form = match (parts.as_slice(), mapped) {
            (
                [
                    Part {
                        from: Origin::Fragment(_),
                        ..
                    },
                ],
                _,
            ) => Form::None,
            (
                parts,
                Mapped::Indexes {
                    bits,
                    compact: true,
                    ..
                },
            ) if u32::from(bits) <= COMPACT_LCLUSTER_BITS_MAX && follow_each_other(parts) => {
                Form::Compact
            }
            _ => Form::Full,
        };
        Referred {
            parts: parts.into(),
            mapped,
            form,
            block_bits,
            source,
            blocks,
        }
    }

    /// The size of blocks that it is for, as a power of two.
    pub fn block_bits(&self) -> u8 {
        self.block_bits
    }

    /// How many blocks its data takes.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The first blob that data of it is in, and where it is there.
    pub fn first(&self) -> (u16, u64) {
        let mut blobs = self.parts.iter().filter_map(|part| match part.from {
            Origin::Blob { blob, pos, .. } => Some((blob, pos)),
            _ => None,
        });
        blobs.next().unwrap_or_default()
    }

    /// Where what is inline is before the image is written: the source's number, the position and how many bytes.
    pub fn inline(&self) -> Option<(u16, u64, u16)> {
        match self.parts.last()?.from {
            Origin::Inline { pos, len, .. } => Some((self.source, pos, len)),
            _ => None,
        }
    }

    /// Whether there are records, which drivers before Linux 6.15 do not know.
    pub fn has_records(&self) -> bool {
        self.mapped == Mapped::Records && self.form != Form::None
    }

    /// Whether physical clusters may have several blocks, or none.
    pub fn is_big(&self) -> bool {
        let block = 1_u32 << self.block_bits;
        let big = |part: &Part| match part.from {
            Origin::Blob { len, .. } => len > block,
            Origin::Hole => true,
            Origin::Fragment(_) | Origin::Inline { .. } => false,
        };
        self.mapped != Mapped::Records && self.parts.iter().any(big)
    }

    /// Which features of the superblock it needs.
    pub fn features(&self) -> u32 {
        let needs = |part: &Part| match part.from {
            Origin::Fragment(_) => incompat::FRAGMENTS,
            Origin::Inline { .. } => incompat::ZTAILPACKING,
            Origin::Blob { partial: true, .. } => incompat::DEDUPE,
            Origin::Blob { .. } | Origin::Hole => 0,
        };
        self.parts.iter().map(needs).fold(0, |all, bits| all | bits)
    }

    /// The data layout of the inode.
    pub fn layout(&self) -> u16 {
        match self.form {
            Form::None | Form::Full => layout::COMPRESSED_FULL,
            Form::Compact => layout::COMPRESSED_COMPACT,
        }
    }

    fn table(&self, bits: u8) -> Table {
        Table {
            form: self.form,
            bits,
            more: bits.saturating_sub(self.block_bits),
            big: self.is_big(),
        }
    }

    /// Bytes of header and indexes of the file, which has so many bytes; they start at this position, a multiple of 8, if only
    /// its remainder by 32 is right.
    pub fn size(&self, size: u64, position: u64) -> u64 {
        match self.mapped {
            _ if self.form == Form::None => HEADER,
            Mapped::Indexes { bits, .. } => self.table(bits).size(size, position),
            Mapped::Records => {
                let record = record_size(size);
                let start = (position + HEADER).next_multiple_of(record);
                start - position + record * self.parts.len() as u64
            }
        }
    }

    /// The bytes of header and indexes of the file, which start at this position. `addresses` has where in the one address
    /// space each blob begins, in bytes.
    ///
    /// # Errors
    ///
    /// When an index has no room for an address.
    pub fn bytes(&self, size: u64, position: u64, addresses: &[u64]) -> Result<Vec<u8>, TooFar> {
        match self.mapped {
            Mapped::Records if self.form != Form::None => {
                Ok(self.records(size, position, addresses))
            }
            Mapped::Records => self.indexes(self.block_bits, false, position, addresses),
            Mapped::Indexes {
                bits, interlaced, ..
            } => self.indexes(bits, interlaced, position, addresses),
        }
    }

    fn indexes(
        &self,
        bits: u8,
        interlaced: bool,
        position: u64,
        addresses: &[u64],
    ) -> Result<Vec<u8>, TooFar> {
        let table = self.table(bits);
        let algorithms = self.algorithms();
        let [first, second] = algorithms;
        let end = self.parts.last().and_then(|part| match part.from {
            Origin::Fragment(pos) => Some(End::Fragment(pos)),
            Origin::Inline { pos, len, .. } => Some(End::Inline { pos, len }),
            Origin::Hole | Origin::Blob { .. } => None,
        });
        let mut advise = match interlaced {
            true => advise::INTERLACED_PCLUSTER,
            false => 0,
        };
        if table.big {
            advise |= advise::BIG_PCLUSTER_2;
        }
        let (mut next, mut too_far) = (0, None);
        let spans = self.parts.iter().map(|part| {
            let (mut block, mut blocks) = (next, 0);
            let flags = match part.from {
                Origin::Hole => lcluster::HOLE,
                from if from.is_partial() => lcluster::PARTIAL_REF,
                _ => 0,
            };
            match part.from {
                Origin::Fragment(pos) if self.form == Form::Full => block = pos >> 32,
                Origin::Hole | Origin::Fragment(_) => {}
                Origin::Inline { .. } => blocks = 1,
                Origin::Blob { blob, pos, len, .. } => {
                    block = address(addresses, blob, pos) >> self.block_bits;
                    blocks = (len >> self.block_bits) as u16;
                    if block >= u64::from(u32::MAX) {
                        too_far = Some(TooFar(block));
                    }
                    next = block.saturating_add(u64::from(blocks));
                }
            }
            let kind = match part.from.algorithm().map(Algorithm::number) {
                None if matches!(part.from, Origin::Fragment(_)) => lcluster::HEAD1,
                None => lcluster::PLAIN,
                number if number == first => lcluster::HEAD1,
                _ => lcluster::HEAD2,
            };
            Span {
                length: part.length,
                kind,
                block,
                blocks,
                flags,
                next,
            }
        });
        let numbers = first.unwrap_or_default() | (second.unwrap_or_default() << 4);
        let bytes = table.bytes(advise, numbers, end, spans, position);
        too_far.map_or(Ok(bytes), Err)
    }

    /// The numbers of the first two algorithms that there are.
    fn algorithms(&self) -> [Option<u8>; 2] {
        let mut found = [None; 2];
        for part in &*self.parts {
            let Some(number) = part.from.algorithm().map(Algorithm::number) else {
                continue;
            };
            if !found.contains(&Some(number)) {
                if let Some(place) = found.iter_mut().find(|place| place.is_none()) {
                    *place = Some(number);
                }
            }
        }
        found
    }

    fn records(&self, size: u64, position: u64, addresses: &[u64]) -> Vec<u8> {
        let record = record_size(size);
        let mut bits = advise::EXTENTS;
        let shift = (record / 4).trailing_zeros() as u16;
        bits |= shift << advise::EXTENT_RECORD_SHIFT;
        if matches!(
            self.parts.last(),
            Some(Part {
                from: Origin::Fragment(_),
                ..
            })
        ) {
            bits |= advise::FRAGMENT_PCLUSTER;
        }
        let count = self.parts.len() as u64;
        let [low, high] = ((count >> 32) as u16).to_le_bytes();
        let header = MapHeader {
            h_fragmentoff: (count as u32).into(),
            h_advise: bits.into(),
            h_algorithmtype: low,
            h_clusterbits: high,
        };
        let mut out = header.as_bytes().to_vec();
        let start = (position + HEADER).next_multiple_of(record);
        out.resize((start - position) as usize, 0);
        let mut offset = 0_u64;
        for part in &*self.parts {
            let (plen, pos) = match part.from {
                Origin::Hole | Origin::Inline { .. } => (0, 0),
                Origin::Fragment(pos) => (pos as u32, pos >> 32),
                Origin::Blob {
                    blob,
                    pos,
                    len,
                    algorithm,
                    partial,
                } => {
                    let format = algorithm.map_or(0, |algorithm| u32::from(algorithm.number()) + 1);
                    let partial = if partial { extent::PARTIAL } else { 0 };
                    let plen =
                        (len & extent::SIZE_MASK) | partial | (format << extent::FORMAT_SHIFT);
                    (plen, address(addresses, blob, pos))
                }
            };
            let on_disk = Extent {
                plen: plen.into(),
                pstart_lo: (pos as u32).into(),
                pstart_hi: ((pos >> 32) as u32).into(),
                lstart_lo: (offset as u32).into(),
                lstart_hi: ((offset >> 32) as u32).into(),
                reserved: [0; 12],
            };
            let bytes = on_disk.as_bytes();
            out.extend_from_slice(bytes.get(..record as usize).unwrap_or(bytes));
            offset = offset.saturating_add(part.length);
        }
        out
    }
}

/// Bytes of the header.
const HEADER: u64 = size_of::<MapHeader>() as u64;

/// Bytes of a record in a file of so many bytes.
fn record_size(size: u64) -> u64 {
    match u32::try_from(size) {
        Ok(_) => offset_of!(Extent, lstart_hi) as u64,
        Err(_) => size_of::<Extent>() as u64,
    }
}

/// Where a byte of a blob is in the one address space.
fn address(addresses: &[u64], blob: u16, pos: u64) -> u64 {
    let start = addresses.get(usize::from(blob)).copied();
    start.unwrap_or(u64::MAX).saturating_add(pos)
}

/// Whether parts can have compact indexes: what is in a blob is there one behind the other, and there is nothing that these cannot say.
fn follow_each_other(parts: &[Part]) -> bool {
    let mut expected = None;
    parts.iter().all(|part| match part.from {
        Origin::Hole => false,
        Origin::Fragment(pos) => u32::try_from(pos).is_ok(),
        Origin::Inline { partial, .. } => !partial,
        Origin::Blob {
            blob,
            pos,
            len,
            partial,
            ..
        } => {
            let follows = expected.is_none_or(|expected| expected == (blob, pos));
            expected = Some((blob, pos.saturating_add(len.into())));
            follows && !partial
        }
    })
}

/// What an image that refers to compressed data says of it as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The algorithms, as bits of their numbers.
    pub algorithms: u16,
    /// Whether there are zeros in front of data of LZ4, and not behind it.
    pub is_padded: bool,
    /// Whether there is a configuration of each algorithm. Else there is LZ4 alone, in clusters of one block.
    pub configured: bool,
    /// How far back matches of LZ4 are at most, in bytes.
    pub lz4_max_distance: u16,
    /// Bytes of the largest physical cluster of LZ4.
    pub lz4_pcluster_max: u32,
    /// Bytes of the dictionary of MicroLZMA.
    pub lzma_dictionary: u32,
    /// Bytes of the window of DEFLATE as a power of two.
    pub deflate_window_bits: u8,
    /// Bytes of the window of Zstandard.
    pub zstd_window: u32,
    /// Bits of other features that are needed for reading.
    pub features: u32,
    /// Whether there are records.
    pub has_records: bool,
    /// The file of fragments, and its size.
    pub packed: Option<(Referred, u64)>,
}

impl Announced {
    /// The bits of the superblock that say what is needed for reading.
    pub fn incompat(&self) -> u32 {
        let mut bits = self.features;
        if self.is_padded {
            bits |= incompat::LZ4_0PADDING;
        }
        if self.configured {
            bits |= incompat::COMPR_CFGS;
        }
        bits
    }

    /// What the superblock has: all algorithms, or the distance of LZ4.
    pub fn in_superblock(&self) -> u16 {
        match self.configured {
            true => self.algorithms,
            false => self.lz4_max_distance,
        }
    }

    /// What is behind the superblock, for blocks of this size.
    pub fn configurations(&self, block: u32) -> Vec<u8> {
        let mut all = Vec::new();
        if !self.configured {
            return all;
        }
        for number in (0..algorithm::COUNT).filter(|number| (self.algorithms >> number) & 1 != 0) {
            let window = match number {
                algorithm::LZ4 => self.lz4_max_distance.into(),
                algorithm::LZMA => self.lzma_dictionary,
                algorithm::DEFLATE => 1 << self.deflate_window_bits,
                _ => self.zstd_window,
            };
            let bytes = configuration(number, window, self.lz4_pcluster_max / block);
            all.extend((bytes.len() as u16).to_le_bytes());
            all.extend(bytes);
        }
        all
    }
}
