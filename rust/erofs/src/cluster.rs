// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where a compressed file's data is: from an offset in the file to the extent that it lies in, and the physical
//! cluster that this extent is encoded as. Called for whatever of a compressed file is decoded.
//!
//! The words, and how indexes lie on disk, are those of [`compressed`](super::compressed).
//!
//! An index may point at another one, which may point at another one. All of them are of one extent, which has no more than
//! [`PCLUSTER_MAX_DECODED_SIZE`] bytes, so that many are followed and no more. Records that say nothing of where their
//! extents begin are gone through from the first one, up to a number.

use super::compressed::{
    advise, extent, lcluster, CompactForm, CompactLayout, CompactPack, LclusterIndex, MapHeader,
    COMPACT_2B_LCLUSTER_BITS_MAX, COMPACT_LCLUSTER_BITS_MAX, PCLUSTER_MAX_DECODED_SIZE,
    PCLUSTER_MAX_SIZE,
};
use super::compression::Algorithm;
use super::error::{Corrupt, Error, Feature, Result};
use super::inode::{Inode, Layout};
use super::metadata::{Cursor, Metadata, Space};
use super::superblock::{Superblock, POSITION_MAX};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

/// How the bytes of a physical cluster become those of the extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// They are those of the extent.
    Plain,
    /// They are those of the extent, and each is as far into a block as it is in the file: the first of the extent, as many
    /// as there are up to the next multiple of the block size in the file (a whole block if it starts at one), are the end of
    /// the cluster, and the others its start.
    Interlaced,
    /// They are to be decoded; zeros may be in front of them, within the first block.
    Compressed(Algorithm),
}

/// A physical cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// How to decode it.
    pub encoding: Encoding,
    /// Where it is: device 0 of the image's addresses, or what the inode itself lies in.
    pub space: Space,
    /// Position of its first byte there. Its end fits an `i64`.
    pub pos: u64,
    /// Its bytes, at least 1 and at most [`PCLUSTER_MAX_SIZE`].
    pub len: u32,
    /// Whether it decodes to more bytes than the extent has; else to exactly as many.
    pub partial: bool,
}

/// How many records are gone through, where each begins where the one before ends: enough for 16 GiB in extents of 4 KiB.
const ROW_MAX: u64 = 1 << 22;

/// What the bytes of an [`Cluster`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// They are zeros.
    Hole,
    /// The data of the packed inode, from this position on.
    Fragment(u64),
    /// A physical cluster.
    Encoded(Encoded),
}

/// An extent of a compressed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where it starts in the file, in bytes.
    pub start: u64,
    /// How long it is, in bytes: not zero. It ends within the file, and unless it is a hole or a fragment it has at most
    /// [`PCLUSTER_MAX_DECODED_SIZE`] bytes.
    pub len: u64,
    /// What its bytes come from.
    pub content: Content,
}

/// Which extents a compressed file has: what its map header says, decoded and checked once.
#[derive(Clone, Copy, Debug)]
pub struct Clusters {
    /// Where the indexes are.
    space: Space,
    /// Position of the first of them.
    table: u64,
    /// Size of the file in bytes.
    size: u64,
    form: Form,
    /// The lcluster size as a power of two.
    bits: u8,
    advise: u16,
    algorithms: [Algorithm; 2],
    tail: Tail,
}

/// The form of indexes.
#[derive(Clone, Copy, Debug)]
enum Form {
    Full,
    Compact(CompactLayout),
    /// Records of extents, so many bytes each, and so many of them.
    Records(u8, u64),
    /// None: the file is in the packed inode.
    Fragment,
}

/// What the last extent is.
#[derive(Clone, Copy, Debug)]
enum Tail {
    /// As any other.
    Encoded,
    /// The one that starts in this lcluster is encoded behind the indexes.
    Inline { head: u64, pos: u64, len: u16 },
    /// The one that starts in this lcluster is in the packed inode, from a position on.
    Fragment { head: u64, pos: u64 },
}

/// An index.
#[derive(Clone, Copy)]
struct Index {
    /// The type, of [`lcluster`].
    kind: u8,
    /// Heads: where in the lcluster the extent starts.
    offset: u32,
    /// Heads: the first block of the physical cluster.
    block: u32,
    /// Others: the distance back to the head, or to one before this one.
    back: u32,
    /// Others: the distance to the next head, or to one behind this one; not 0.
    ahead: u32,
    /// Others: the blocks of the physical cluster, if that is said here. Heads: 0 if there is none.
    blocks: Option<u32>,
    partial: bool,
    /// Where this index, or the pack that it is in, ends.
    end: u64,
}

impl Index {
    fn is_head(&self) -> bool {
        self.kind != lcluster::NONHEAD
    }
}

impl Inode {
    /// Which extents this inode has, if it is compressed: read once, and used for every offset.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if the map header, or what leads to the last extent, is wrong.
    /// - [`Error::Unsupported`] for unknown algorithms.
    /// - [`Error::Io`] if the metadata cannot be read.
    #[inline(never)]
    pub fn clusters<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
    ) -> Result<Option<Clusters>, M::Error> {
        let Layout::Compressed { header: at, full } = self.layout() else {
            return Ok(None);
        };
        let space = self.space();
        let mut cursor = Cursor::new(meta);
        cursor.enter(space);
        let header: MapHeader = cursor.read_struct(at, "inode's map header is cut off")?;
        let behind = at.wrapping_add(size_of::<MapHeader>() as u64);
        let mut clusters = Clusters {
            space,
            table: behind,
            size: self.size(),
            form: Form::Fragment,
            bits: 0,
            advise: 0,
            algorithms: [Algorithm::Lz4; 2],
            tail: Tail::Encoded,
        };
        let corrupt = |what| Corrupt { what, at, space };
        let value = match U64::read_from_bytes(header.as_bytes()) {
            Ok(value) => value.get(),
            Err(_) => 0,
        };
        if value & MapHeader::FRAGMENT_INODE != 0 {
            let pos = value & !MapHeader::FRAGMENT_INODE;
            clusters.tail = Tail::Fragment { head: 0, pos };
            return Ok(Some(clusters));
        }
        clusters.advise = header.h_advise.get();
        clusters.bits =
            (header.h_clusterbits & MapHeader::LCLUSTER_BITS_MASK).wrapping_add(sb.block_bits());
        if full && clusters.advise & advise::EXTENTS != 0 {
            clusters.find_records(&header);
            return Ok(Some(clusters));
        }
        for (algorithm, shift) in clusters.algorithms.iter_mut().zip([0, 4]) {
            let number = header.h_algorithmtype.wrapping_shr(shift) & 0xf;
            *algorithm = Algorithm::from_number(number).ok_or_else(|| Feature {
                name: "algorithm",
                bits: number.into(),
                at,
            })?;
        }
        let big = clusters.advise & (advise::BIG_PCLUSTER_1 | advise::BIG_PCLUSTER_2);
        if big != 0 && !sb.has_big_pclusters() {
            return Err(corrupt("inode has big physical clusters, and the image has none").into());
        }
        clusters.form = if full {
            clusters.table = behind.wrapping_add(size_of::<LclusterIndex>() as u64);
            Form::Full
        } else {
            let bits = u32::from(clusters.bits);
            let two_bytes = clusters.advise & advise::COMPACTED_2B != 0;
            if big == advise::BIG_PCLUSTER_1 || big == advise::BIG_PCLUSTER_2 {
                let what = "inode has big physical clusters of one kind of head alone";
                return Err(corrupt(what).into());
            }
            let layout = CompactLayout::new(behind, clusters.count(), two_bytes);
            if bits > COMPACT_LCLUSTER_BITS_MAX
                || (layout.two_bytes > 0 && bits > COMPACT_2B_LCLUSTER_BITS_MAX)
            {
                let name = "size of logical clusters with compact indexes";
                return Err(Feature { name, bits, at }.into());
            }
            Form::Compact(layout)
        };
        if self.size() > 0 {
            clusters.find_tail(&mut cursor, &header)?;
        }
        Ok(Some(clusters))
    }
}

/// How far somebody is who asks for one extent of a file after the other; see [`Clusters::at_after`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// The record, of those in a row.
    number: u64,
    /// Where its physical cluster is.
    pos: u64,
}

impl Clusters {
    /// Whether the data is all in the packed inode.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        matches!(self.form, Form::Fragment)
    }

    /// Whether the indexes are compact ones.
    #[must_use]
    pub fn is_compact(&self) -> bool {
        matches!(self.form, Form::Compact(_))
    }

    /// Whether there are records of extents in place of indexes.
    #[must_use]
    pub fn has_records(&self) -> bool {
        matches!(self.form, Form::Records(..))
    }

    /// The size of logical clusters as a power of two; 0 where there are no indexes of any.
    #[must_use]
    pub fn lcluster_bits(&self) -> u8 {
        self.bits
    }

    /// The extent that holds the byte at `offset`, which is less than the file's size.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if indexes contradict each other or the format.
    /// - [`Error::Unsupported`] if more bytes are encoded together than any reader must be ready for.
    /// - [`Error::Io`] if the metadata cannot be read.
    #[inline(never)]
    pub fn at<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        offset: u64,
    ) -> Result<Cluster, M::Error> {
        self.at_after(sb, meta, offset, &mut Row::default())
    }

    /// The same for who asks for one extent of the file after the other: `row` says how far the last call came, and is
    /// [`Row::default`] for the first one. Where records are in a row, all in front of the wanted one would be read again.
    ///
    /// # Errors
    ///
    /// As [`at`](Self::at).
    #[inline]
    pub fn at_after<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        offset: u64,
        row: &mut Row,
    ) -> Result<Cluster, M::Error> {
        if offset >= self.size {
            return Err(self.corrupt("offset is behind the end of the file").into());
        }
        let mut cursor = Cursor::new(meta);
        cursor.enter(self.space);
        let cluster = match self.form {
            Form::Fragment => {
                let pos = match self.tail {
                    Tail::Fragment { pos, .. } => pos,
                    _ => 0,
                };
                Cluster {
                    start: 0,
                    len: self.size,
                    content: Content::Fragment(pos),
                }
            }
            Form::Records(size, count) => {
                self.find_record(sb, &mut cursor, offset, u64::from(size), count, row)?
            }
            Form::Full | Form::Compact(_) => self.find_indexed(sb, &mut cursor, offset)?,
        };
        self.check(sb, &cluster)?;
        Ok(cluster)
    }

    #[cold]
    fn corrupt(&self, what: &'static str) -> Corrupt {
        self.corrupt_at(what, self.table)
    }

    #[cold]
    fn corrupt_at(&self, what: &'static str, at: u64) -> Corrupt {
        Corrupt {
            what,
            at,
            space: self.space,
        }
    }

    fn has(&self, bit: u16) -> bool {
        self.advise & bit != 0
    }

    /// How many logical clusters the file has.
    fn count(&self) -> u64 {
        match self.size.checked_sub(1) {
            Some(last) => last.wrapping_shr(self.bits.into()).wrapping_add(1),
            None => 0,
        }
    }

    /// Where a logical cluster starts in the file, if that is before its end.
    fn start_of(&self, number: u64) -> Option<u64> {
        (number < self.count()).then(|| number.wrapping_shl(self.bits.into()))
    }

    /// How many indexes of one extent there can be.
    fn steps(&self) -> u32 {
        PCLUSTER_MAX_DECODED_SIZE
            .checked_shr(self.bits.into())
            .unwrap_or(0)
            .saturating_add(2)
    }

    /// Finds what the last extent is, if it is not as the others.
    fn find_tail<M: Metadata>(
        &mut self,
        cursor: &mut Cursor<'_, M>,
        header: &MapHeader,
    ) -> Result<(), M::Error> {
        let fragment = self.has(advise::FRAGMENT_PCLUSTER);
        let len = if self.has(advise::INLINE_PCLUSTER) && !fragment {
            header.idata_size()
        } else {
            0
        };
        if !fragment && len == 0 {
            return Ok(());
        }
        let last = self.count().saturating_sub(1);
        let index = self.load(cursor, last)?;
        let end = index.end;
        let (head, index) = self.find_head(cursor, last, index, self.size.wrapping_sub(1))?;
        self.tail = if fragment {
            let mut pos = u64::from(header.h_fragmentoff.get());
            if matches!(self.form, Form::Full) {
                pos |= u64::from(index.block) << 32;
            }
            Tail::Fragment { head, pos }
        } else {
            Tail::Inline {
                head,
                pos: end,
                len,
            }
        };
        Ok(())
    }

    /// The head of the extent that holds the byte at `offset`, which lies in logical cluster `number` with that `index`: its
    /// logical cluster and index.
    fn find_head<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        number: u64,
        index: Index,
        offset: u64,
    ) -> Result<(u64, Index), M::Error> {
        let within = offset & 1u64.wrapping_shl(self.bits.into()).wrapping_sub(1);
        if index.is_head() && within >= u64::from(index.offset) {
            return Ok((number, index));
        }
        let mut number = number;
        let mut back = if index.is_head() { 1 } else { index.back };
        for _ in 0..self.steps() {
            let before = number.checked_sub(back.into()).filter(|_| back > 0);
            number = before
                .ok_or_else(|| self.corrupt_at("inode's index points back at none", index.end))?;
            let index = self.load(cursor, number)?;
            if index.is_head() {
                return Ok((number, index));
            }
            back = index.back;
        }
        Err(self
            .corrupt("inode's indexes have no head for too long")
            .into())
    }

    /// Where the extent ends that starts in logical cluster `head`.
    fn find_end<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        head: u64,
    ) -> Result<u64, M::Error> {
        let mut number = head.wrapping_add(1);
        for _ in 0..self.steps() {
            let Some(start) = self.start_of(number) else {
                return Ok(self.size);
            };
            let index = self.load(cursor, number)?;
            if index.is_head() {
                return Ok(start.wrapping_add(index.offset.into()).min(self.size));
            }
            number = number.saturating_add(index.ahead.into());
        }
        Err(self
            .corrupt("inode's indexes have no next head for too long")
            .into())
    }

    /// The extent with the byte at `offset`, by indexes of logical clusters.
    fn find_indexed<M: Metadata>(
        &self,
        sb: &Superblock,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
    ) -> Result<Cluster, M::Error> {
        let number = offset.wrapping_shr(self.bits.into());
        let index = self.load(cursor, number)?;
        let (head, index) = self.find_head(cursor, number, index, offset)?;
        // The head is not behind the offset.
        let start = head
            .wrapping_shl(self.bits.into())
            .wrapping_add(index.offset.into());
        let end = self.find_end(cursor, head)?;
        if !(start..end).contains(&offset) {
            return Err(self
                .corrupt_at("inode's indexes contradict each other", index.end)
                .into());
        }
        let len = end.wrapping_sub(start);
        let is_plain = index.kind == lcluster::PLAIN;
        let encoding = if is_plain {
            Encoding::Plain
        } else {
            let [first, second] = self.algorithms;
            Encoding::Compressed(if index.kind == lcluster::HEAD2 {
                second
            } else {
                first
            })
        };
        let content = match self.tail {
            Tail::Fragment { head: last, pos } if last == head => Content::Fragment(pos),
            Tail::Inline {
                head: last,
                pos,
                len,
            } if last == head => Content::Encoded(Encoded {
                encoding,
                space: self.space,
                pos,
                len: len.into(),
                partial: index.partial,
            }),
            _ => match self.find_blocks(cursor, head, &index)? {
                0 => Content::Hole,
                blocks => Content::Encoded(Encoded {
                    encoding: if is_plain && self.has(advise::INTERLACED_PCLUSTER) {
                        Encoding::Interlaced
                    } else {
                        encoding
                    },
                    space: Space::Device(0),
                    // 32 bits times at most 64 KiB.
                    pos: u64::from(index.block).wrapping_mul(sb.block_size().into()),
                    len: blocks.saturating_mul(sb.block_size()),
                    partial: index.partial,
                }),
            },
        };
        Ok(Cluster {
            start,
            len,
            content,
        })
    }

    /// How many blocks the physical cluster has whose extent starts in logical cluster `head` with this `index`.
    fn find_blocks<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        head: u64,
        index: &Index,
    ) -> Result<u32, M::Error> {
        if let Some(blocks) = index.blocks {
            return Ok(blocks);
        }
        let big = if index.kind == lcluster::HEAD1 {
            advise::BIG_PCLUSTER_1
        } else {
            advise::BIG_PCLUSTER_2
        };
        let next = head.wrapping_add(1);
        if !self.has(big) || self.start_of(next).is_none() {
            return Ok(1);
        }
        let next = self.load(cursor, next)?;
        if next.is_head() {
            return Ok(1);
        }
        next.blocks.ok_or_else(|| {
            let what = "inode's index does not say how many blocks its physical cluster has";
            self.corrupt_at(what, next.end).into()
        })
    }

    /// The index of a logical cluster.
    fn load<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        number: u64,
    ) -> Result<Index, M::Error> {
        if number >= self.count() {
            return Err(self.corrupt("inode has no such logical cluster").into());
        }
        let index = match self.form {
            Form::Compact(layout) => self.load_compact(cursor, &layout, number)?,
            _ => self.load_full(cursor, number)?,
        };
        if index.is_head() && u64::from(index.offset) >= 1u64.wrapping_shl(self.bits.into()) {
            let what = "inode's index has an offset beyond its logical cluster";
            return Err(self.corrupt_at(what, index.end).into());
        }
        Ok(index)
    }

    fn load_full<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        number: u64,
    ) -> Result<Index, M::Error> {
        const SIZE: u64 = size_of::<LclusterIndex>() as u64;
        // At most 2^54 numbers; the table begins at a position.
        let pos = self.table.wrapping_add(number.wrapping_mul(SIZE));
        let index: LclusterIndex = cursor.read_struct(pos, CUT_OFF)?;
        let advise = index.di_advise.get();
        let word = index.di_u.get();
        let kind = (advise & lcluster::MASK) as u8;
        let mut found = Index {
            kind,
            offset: index.di_clusterofs.get().into(),
            block: word,
            back: 0,
            ahead: 1,
            blocks: None,
            partial: advise & lcluster::PARTIAL_REF != 0,
            end: pos.wrapping_add(SIZE),
        };
        if found.is_head() {
            found.blocks = (advise & lcluster::HOLE != 0).then_some(0);
            return Ok(found);
        }
        found.back = word & 0xffff;
        found.ahead = (word >> 16).max(1);
        if found.back & u32::from(lcluster::CBLKCNT) != 0 {
            self.says_blocks(&mut found, pos)?;
        }
        Ok(found)
    }

    /// The index says how many blocks there are, where else the distance back to the head is, which is 1.
    fn says_blocks(&self, index: &mut Index, pos: u64) -> core::result::Result<(), Corrupt> {
        if !self.has(advise::BIG_PCLUSTER_1 | advise::BIG_PCLUSTER_2) {
            let what =
                "inode's index has a number of blocks, and the inode no big physical clusters";
            return Err(self.corrupt_at(what, pos));
        }
        index.blocks = Some(index.back & !u32::from(lcluster::CBLKCNT));
        index.back = 1;
        Ok(())
    }

    fn load_compact<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        layout: &CompactLayout,
        number: u64,
    ) -> Result<Index, M::Error> {
        // What is before the entries of the same form, and the number among those.
        let (before, form, number) = match number.checked_sub(layout.first) {
            None => (0, CompactForm::FourBytes, number),
            Some(number) => {
                let before = layout.first.wrapping_mul(4);
                match number.checked_sub(layout.two_bytes) {
                    None => (before, CompactForm::TwoBytes, number),
                    Some(number) => {
                        let two_bytes = layout.two_bytes.wrapping_mul(2);
                        (
                            before.wrapping_add(two_bytes),
                            CompactForm::FourBytes,
                            number,
                        )
                    }
                }
            }
        };
        // Less than 2^54 entries; forms have 2 or 16 in a pack.
        let count = form.count();
        let entry = (number % u64::from(count)) as u32;
        let packs = number / u64::from(count);
        let size = form.size();
        let pos = (self.table.wrapping_add(before)).wrapping_add(packs.wrapping_mul(size.into()));
        let mut bytes = [0; 32];
        if let Some(bytes) = bytes.get_mut(..size as usize) {
            cursor.read(pos, bytes, CUT_OFF)?;
        }
        let pack = CompactPack::from_bytes(form, self.bits.into(), &bytes);
        self.entry_of(&pack, count, entry, pos.wrapping_add(size.into()))
            .map_err(Error::from)
    }

    /// The index that is an entry of a pack of `count` entries, which ends at `end`.
    fn entry_of(
        &self,
        pack: &CompactPack,
        count: u32,
        number: u32,
        end: u64,
    ) -> core::result::Result<Index, Corrupt> {
        let get = |number| match pack.entry(number) {
            Some(entry) => (entry.kind, u32::from(entry.value)),
            None => (lcluster::PLAIN, 0),
        };
        let says_blocks = u32::from(lcluster::CBLKCNT);
        let last = count.wrapping_sub(1);
        let (kind, value) = get(number);
        let mut found = Index {
            kind,
            offset: value,
            block: 0,
            back: value,
            ahead: 1,
            blocks: None,
            partial: false,
            end,
        };
        if found.is_head() {
            let big = self.has(advise::BIG_PCLUSTER_1);
            // What the heads before this one in the pack take, of which the last may have to be told apart from what says
            // how many blocks it has.
            let mut blocks = if big { 0 } else { 1 };
            for before in 0..number {
                let (kind, value) = get(before);
                if kind == lcluster::NONHEAD {
                    if big && value & says_blocks != 0 {
                        blocks = u32::wrapping_add(blocks, value & !says_blocks);
                    }
                    continue;
                }
                let (next_kind, next) = get(before.wrapping_add(1));
                let is_said = big && next_kind == lcluster::NONHEAD && next & says_blocks != 0;
                if !is_said {
                    blocks = blocks.wrapping_add(1);
                }
            }
            found.block = pack.block().wrapping_add(blocks);
            return Ok(found);
        }
        // The distance to the next head: what the entries before the next one in this pack are, or what the last entry
        // says.
        let mut ahead = 0u32;
        for next in number..count {
            let (kind, value) = get(next);
            if kind != lcluster::NONHEAD {
                break;
            }
            ahead = ahead.wrapping_add(1);
            if next == last && value & says_blocks == 0 {
                ahead = ahead.wrapping_add(value).wrapping_sub(1);
            }
        }
        found.ahead = ahead.max(1);
        if value & says_blocks != 0 {
            self.says_blocks(&mut found, end)?;
        } else if number == last {
            // This is the distance to the next head; that back is one more than that of the entry before.
            let (kind, value) = get(number.wrapping_sub(1));
            found.back = match (kind, value & says_blocks) {
                (lcluster::NONHEAD, 0) => value.wrapping_add(1),
                (lcluster::NONHEAD, _) => 2,
                _ => 1,
            };
        }
        Ok(found)
    }

    /// Finds out where records are that are in place of indexes.
    fn find_records(&mut self, header: &MapHeader) {
        let size = 4u8.wrapping_shl(u32::from(
            self.advise.wrapping_shr(advise::EXTENT_RECORD_SHIFT) & advise::EXTENT_RECORD_MASK,
        ));
        let [low, high] = [header.h_algorithmtype, header.h_clusterbits];
        let upper = u64::from(u16::from_le_bytes([low, high])) << 32;
        let below = u64::from(size).wrapping_sub(1);
        self.table = self.table.wrapping_add(below) & !below;
        self.form = Form::Records(size, u64::from(header.h_fragmentoff.get()) | upper);
    }

    /// The extent with the byte at `offset`, by records of `size` bytes.
    fn find_record<M: Metadata>(
        &self,
        sb: &Superblock,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
        size: u64,
        count: u64,
        row: &mut Row,
    ) -> Result<Cluster, M::Error> {
        let found = match size {
            4 => self.record_in_row(cursor, offset, row)?,
            8 => self.record_of_cluster(cursor, offset)?,
            _ => self.record_by_start(cursor, offset, size, count)?,
        };
        let Record {
            start,
            end,
            plen,
            pos,
            is_last,
        } = found;
        let content = if is_last && self.has(advise::FRAGMENT_PCLUSTER) {
            let upper = if size > 4 { pos.wrapping_shl(32) } else { 0 };
            Content::Fragment(u64::from(plen) | upper)
        } else {
            match plen & extent::SIZE_MASK {
                0 => Content::Hole,
                len => Content::Encoded(Encoded {
                    encoding: self.encoding_of_record(sb, plen, pos, len)?,
                    space: Space::Device(0),
                    pos,
                    len,
                    partial: plen & extent::PARTIAL != 0,
                }),
            }
        };
        if !(start..end).contains(&offset) {
            return Err(self.corrupt("inode's extents are not in order").into());
        }
        Ok(Cluster {
            start,
            len: end.wrapping_sub(start),
            content,
        })
    }

    fn encoding_of_record(
        &self,
        sb: &Superblock,
        plen: u32,
        pos: u64,
        len: u32,
    ) -> core::result::Result<Encoding, Feature> {
        let format = plen >> extent::FORMAT_SHIFT;
        let Some(number) = format.checked_sub(1) else {
            let aligned = (pos | u64::from(len)) & sb.block_mask() == 0;
            return Ok(if aligned && self.has(advise::INTERLACED_PCLUSTER) {
                Encoding::Interlaced
            } else {
                Encoding::Plain
            });
        };
        match Algorithm::from_number(number as u8) {
            Some(algorithm) => Ok(Encoding::Compressed(algorithm)),
            None => Err(Feature {
                name: "algorithm",
                bits: number,
                at: self.table,
            }),
        }
    }

    /// The record of `offset` where all extents are of one size, and their physical clusters are one behind the other. All
    /// records from where `row` is are gone through.
    fn record_in_row<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
        row: &mut Row,
    ) -> Result<Record, M::Error> {
        let number = offset.wrapping_shr(self.bits.into());
        let mut at = self.table.wrapping_add(size_of::<U64>() as u64);
        if number >= ROW_MAX {
            let name = "extents in a row";
            let bits = u32::try_from(number).unwrap_or(u32::MAX);
            return Err(Feature { name, bits, at }.into());
        }
        if row.number == 0 || row.number > number {
            row.number = 0;
            row.pos = cursor.read_struct::<U64>(self.table, CUT_OFF)?.get();
        }
        at = at.wrapping_add(row.number.wrapping_mul(size_of::<U32>() as u64));
        loop {
            let plen = cursor.read_struct::<U32>(at, CUT_OFF)?.get();
            if row.number >= number {
                return Ok(self.record_of_size(number, plen, row.pos));
            }
            row.number = row.number.wrapping_add(1);
            row.pos = row.pos.wrapping_add(u64::from(plen & extent::SIZE_MASK));
            at = at.wrapping_add(size_of::<U32>() as u64);
        }
    }

    /// The record of `offset` where all extents are of one size.
    fn record_of_cluster<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
    ) -> Result<Record, M::Error> {
        let number = offset.wrapping_shr(self.bits.into());
        let at = self.table.wrapping_add(number.wrapping_mul(8));
        let [plen, pos]: [U32; 2] = cursor.read_struct(at, CUT_OFF)?;
        Ok(self.record_of_size(number, plen.get(), pos.get().into()))
    }

    /// A record of the extent that is a logical cluster.
    fn record_of_size(&self, number: u64, plen: u32, pos: u64) -> Record {
        let start = number.wrapping_shl(self.bits.into());
        let end = self.start_of(number.wrapping_add(1));
        Record {
            start,
            end: end.unwrap_or(self.size),
            plen,
            pos,
            is_last: end.is_none(),
        }
    }

    /// The record of `offset` where each says at what offset it starts, by a binary search.
    fn record_by_start<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
        size: u64,
        count: u64,
    ) -> Result<Record, M::Error> {
        let mut found = Record {
            start: self.size,
            end: self.size,
            plen: 0,
            pos: 0,
            is_last: false,
        };
        let mut low = 0;
        let mut high = count;
        while low < high {
            let middle = low.wrapping_add(high.wrapping_sub(low) / 2);
            let at = self.table.wrapping_add(middle.wrapping_mul(size));
            let [plen, pos_lo, pos_hi, start]: [U32; 4] = cursor.read_struct(at, CUT_OFF)?;
            let mut start = u64::from(start.get());
            if size > 16 {
                let upper: U32 = cursor.read_struct(at.wrapping_add(16), CUT_OFF)?;
                start |= u64::from(upper.get()) << 32;
            }
            if start > offset {
                high = middle;
                if start > found.end {
                    return Err(self
                        .corrupt_at("inode's extents are not in order", at)
                        .into());
                }
                found.end = start;
            } else {
                low = middle.wrapping_add(1);
                found.start = start;
                found.plen = plen.get();
                found.pos = u64::from(pos_lo.get()) | (u64::from(pos_hi.get()) << 32);
            }
        }
        found.is_last = low >= count;
        Ok(found)
    }

    /// Checks what the parts of a cluster say of each other.
    fn check<E>(&self, sb: &Superblock, cluster: &Cluster) -> Result<(), E> {
        let Content::Encoded(encoded) = cluster.content else {
            return Ok(());
        };
        let at = self.table;
        let corrupt = |what| Err(self.corrupt(what).into());
        match encoded.encoding {
            Encoding::Compressed(algorithm) => {
                if sb.algorithms() & algorithm.bit() == 0 {
                    return corrupt("inode has an algorithm that the image does not announce");
                }
                let is_last = cluster.start.wrapping_add(cluster.len) >= self.size;
                if cluster.len < encoded.len.into() && !encoded.partial && !is_last {
                    return corrupt("inode's physical cluster is larger than what it decodes to");
                }
            }
            Encoding::Plain | Encoding::Interlaced => {
                if cluster.len > encoded.len.into() {
                    return corrupt("inode's physical cluster is smaller than what it holds");
                }
            }
        }
        if encoded.len > PCLUSTER_MAX_SIZE {
            let bits = encoded.len;
            return Err(Error::unsupported("size of a physical cluster", bits, at));
        }
        if cluster.len > PCLUSTER_MAX_DECODED_SIZE.into() {
            let bits = cluster.len.min(u32::MAX.into()) as u32;
            return Err(Error::unsupported("size of an extent", bits, at));
        }
        let end = encoded.pos.checked_add(encoded.len.into());
        if end.is_none_or(|end| end > POSITION_MAX) {
            return corrupt("inode's physical cluster is out of range");
        }
        if encoded.space == self.space
            && encoded.space != Space::Device(0)
            && (encoded.pos & sb.block_mask()).wrapping_add(encoded.len.into())
                > sb.block_size().into()
        {
            return corrupt("inode's inline data crosses a block");
        }
        Ok(())
    }
}

/// What a record, and that behind it, say of an extent.
struct Record {
    /// Where it starts and ends in the file.
    start: u64,
    end: u64,
    plen: u32,
    pos: u64,
    is_last: bool,
}

const CUT_OFF: &str = "inode's indexes are cut off";
