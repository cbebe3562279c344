// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The structures and constants of compressed data, byte for byte as they lie on disk.
//!
//! As in [`ondisk`], nothing is checked here; names follow the format's own. The builder
//! writes with these types what the rest of the crate reads with them. How offsets of a file are mapped
//! to clusters with them is not in this file.
//!
//! # Words
//!
//! A file is cut into *extents*: ranges of its bytes, of any length, one behind the other. What an extent
//! is encoded as is a *physical cluster* (pcluster): some whole blocks of the image, with the encoded bytes at
//! their end and zeros in front (see [`incompat::LZ4_0PADDING`](super::ondisk::incompat::LZ4_0PADDING)).
//! To find the extent of an offset, a file is also cut into *logical clusters* (lclusters) of one size, a power
//! of two and a multiple of the block size; there is one index for each, which says either that an extent starts
//! in it, and where (a *head*), or how far away the head is that it belongs to (*nonhead*).
//!
//! # What lies behind an inode
//!
//! Behind the inode and its attributes, at the next multiple of 8 bytes *of the image* (or of the space the inode
//! is in), there is a [`MapHeader`], 8 bytes. If its highest bit is set ([`MapHeader::FRAGMENT_INODE`]), that is all.
//! Else, depending on the data layout:
//!
//! - [`layout::COMPRESSED_FULL`](super::ondisk::layout::COMPRESSED_FULL): 8 unused bytes, then an [`LclusterIndex`] of 8 bytes for
//!   each lcluster, `ceil(i_size / lcluster size)` of them; at the end there may be one more that is of no meaning.
//! - the same with [`advise::EXTENTS`]: records of an [`Extent`], from the next multiple of their size on.
//! - [`layout::COMPRESSED_COMPACT`](super::ondisk::layout::COMPRESSED_COMPACT): packs of indexes right behind the header, see
//!   [`CompactLayout`].
//!
//! With [`advise::INLINE_PCLUSTER`] the encoded bytes of the last extent follow the indexes, without padding.

use super::ondisk;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Most bytes that a physical cluster may have on disk.
pub const PCLUSTER_MAX_SIZE: u32 = 1 << 20;
/// Most bytes that a physical cluster may decode to.
pub const PCLUSTER_MAX_DECODED_SIZE: u32 = 12 << 20;
/// Largest lcluster size, as a power of two, that compact indexes can be for.
pub const COMPACT_LCLUSTER_BITS_MAX: u32 = 14;
/// Largest lcluster size, as a power of two, that packs of [`CompactForm::TwoBytes`] can be for.
pub const COMPACT_2B_LCLUSTER_BITS_MAX: u32 = 12;

/// Numbers of algorithms: bits of [`Superblock::available_compr_algs`](ondisk::Superblock::available_compr_algs), and
/// halves of [`MapHeader::h_algorithmtype`].
pub mod algorithm {
    /// An LZ4 block.
    pub const LZ4: u8 = 0;
    /// LZMA1 without a header, whose first byte is the complement of the properties (MicroLZMA).
    pub const LZMA: u8 = 1;
    /// Raw DEFLATE.
    pub const DEFLATE: u8 = 2;
    /// A Zstandard frame.
    pub const ZSTD: u8 = 3;
    /// How many there are.
    pub const COUNT: u8 = 4;
    /// The bits of all of them.
    pub const ALL: u16 = 0xf;
}

/// What follows the superblock and its extension slots with
/// [`incompat::COMPR_CFGS`](ondisk::incompat::COMPR_CFGS), for each algorithm that is available, those with lower numbers first:
/// a length of 2 bytes, which does not count itself, and so many bytes. A reader takes what it knows of
/// them. Without that bit the only algorithm is LZ4, and the superblock has its maximum distance instead.
pub mod config {
    use super::*;

    /// Of LZ4, 14 bytes.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
    #[repr(C)]
    pub struct Lz4 {
        /// How far back a match may be, in bytes; 0 is [`LZ4_MAX_DISTANCE`].
        pub max_distance: U16,
        /// Blocks of the largest physical cluster; 0 is 1.
        pub max_pclusterblks: U16,
        /// Zero.
        pub reserved: [u8; 10],
    }

    /// Of MicroLZMA, 14 bytes.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
    #[repr(C)]
    pub struct Lzma {
        /// Bytes of the dictionary, at least [`LZMA_MIN_DICT_SIZE`] and at most [`LZMA_MAX_DICT_SIZE`].
        pub dict_size: U32,
        /// Zero.
        pub format: U16,
        /// Zero.
        pub reserved: [u8; 8],
    }

    /// Of DEFLATE, 6 bytes.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
    #[repr(C)]
    pub struct Deflate {
        /// Bytes of the window as a power of two, 8 to 15.
        pub windowbits: u8,
        /// Zero.
        pub reserved: [u8; 5],
    }

    /// Of Zstandard, 6 bytes.
    #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
    #[repr(C)]
    pub struct Zstd {
        /// Zero.
        pub format: u8,
        /// Bytes of the window as a power of two, less [`ZSTD_WINDOW_LOG_MIN`].
        pub windowlog: u8,
        /// Zero.
        pub reserved: [u8; 4],
    }

    /// [`Lz4::max_distance`] if it is 0, and its largest value.
    pub const LZ4_MAX_DISTANCE: u16 = 65535;
    /// Smallest [`Lzma::dict_size`].
    pub const LZMA_MIN_DICT_SIZE: u32 = 4096;
    /// Largest [`Lzma::dict_size`].
    pub const LZMA_MAX_DICT_SIZE: u32 = 8 * PCLUSTER_MAX_SIZE;
    /// Largest [`Deflate::windowbits`].
    pub const DEFLATE_WINDOW_BITS_MAX: u8 = 15;
    /// What [`Zstd::windowlog`] counts from.
    pub const ZSTD_WINDOW_LOG_MIN: u8 = 10;
    /// Largest window of Zstandard in bytes.
    pub const ZSTD_MAX_DICT_SIZE: u32 = PCLUSTER_MAX_SIZE;
}

/// Bits of [`MapHeader::h_advise`].
pub mod advise {
    /// With compact indexes: there are packs of [`CompactForm::TwoBytes`](super::CompactForm::TwoBytes).
    pub const COMPACTED_2B: u16 = 0x1;
    /// With full indexes: there are [`Extent`](super::Extent)s in place of indexes. What the bits
    /// [`EXTENT_RECORD_MASK`] mean then replaces the meaning of the others there.
    pub const EXTENTS: u16 = 0x1;
    /// Physical clusters of heads of type [`HEAD1`](super::lcluster::HEAD1) may be of several blocks.
    pub const BIG_PCLUSTER_1: u16 = 0x2;
    /// Those of [`HEAD2`](super::lcluster::HEAD2) and [`PLAIN`](super::lcluster::PLAIN), too. With compact
    /// indexes both bits are set or none.
    pub const BIG_PCLUSTER_2: u16 = 0x4;
    /// The last physical cluster is behind the indexes, [`MapHeader::idata_size`](super::MapHeader::idata_size) bytes
    /// within one block.
    pub const INLINE_PCLUSTER: u16 = 0x8;
    /// In a plain physical cluster, each byte is as far into a block as it is in the file: its data starts
    /// at the head's offset in the lcluster, and goes on at the start of the same block. Without this bit (and in the last, inline
    /// one) it starts at the start of the cluster.
    pub const INTERLACED_PCLUSTER: u16 = 0x10;
    /// The last extent is in the packed inode, at [`MapHeader::h_fragmentoff`](super::MapHeader::h_fragmentoff).
    pub const FRAGMENT_PCLUSTER: u16 = 0x20;
    /// With [`EXTENTS`]: how far to shift right to have the size of records lowest.
    pub const EXTENT_RECORD_SHIFT: u32 = 1;
    /// With [`EXTENTS`]: mask, once shifted, of the size of records: 4 bytes times two to this power.
    pub const EXTENT_RECORD_MASK: u16 = 0x3;
}

/// What the indexes of a file start with, 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MapHeader {
    /// With [`advise::FRAGMENT_PCLUSTER`], where the last extent starts in the packed inode, lower 32 bits (with
    /// full indexes the last head's `blkaddr` has the upper ones; with compact ones they are zero). With
    /// [`advise::EXTENTS`], the lower 32 bits of the number of records. Else the upper half is [`Self::idata_size`].
    pub h_fragmentoff: U32,
    /// Bits of [`advise`].
    pub h_advise: U16,
    /// The [`algorithm`] of heads of type 1 in the lower 4 bits, of type 2 in the upper 4. With
    /// [`advise::EXTENTS`] and records of 16 or 32 bytes, the lower byte of the upper 16 bits of their number.
    pub h_algorithmtype: u8,
    /// The lcluster size in the lower 4 bits: the block size times two to this power. With
    /// [`advise::EXTENTS`] and records of 16 or 32 bytes, the upper byte of the upper 16 bits of their number. See also
    /// [`Self::FRAGMENT_INODE`].
    pub h_clusterbits: u8,
}

impl MapHeader {
    /// Of the eight bytes as one number: the whole file is in the packed inode, where the other bits say.
    pub const FRAGMENT_INODE: u64 = 1 << 63;
    /// Mask of the lcluster size in [`Self::h_clusterbits`].
    pub const LCLUSTER_BITS_MASK: u8 = 0xf;

    /// The size of the encoded bytes behind the indexes, with [`advise::INLINE_PCLUSTER`] and without a fragment.
    pub fn idata_size(&self) -> u16 {
        (self.h_fragmentoff.get() >> 16) as u16
    }

    /// What [`Self::h_fragmentoff`] is for so many encoded bytes behind the indexes.
    pub fn of_idata_size(size: u16) -> U32 {
        (u32::from(size) << 16).into()
    }
}

/// Types of lclusters: the lower two bits of [`LclusterIndex::di_advise`], and of what is in a pack the upper two.
pub mod lcluster {
    /// An extent starts here that is not encoded.
    pub const PLAIN: u8 = 0;
    /// An extent starts here that is encoded with the first algorithm.
    pub const HEAD1: u8 = 1;
    /// None starts here.
    pub const NONHEAD: u8 = 2;
    /// An extent starts here that is encoded with the second algorithm.
    pub const HEAD2: u8 = 3;
    /// Mask in [`LclusterIndex::di_advise`](super::LclusterIndex::di_advise).
    pub const MASK: u16 = 0x3;
    /// Heads with full indexes, bit of `di_advise`: the physical cluster decodes to more than this extent.
    pub const PARTIAL_REF: u16 = 0x8000;
    /// Heads with full indexes, bit of `di_advise`: the extent is a hole, and there is no physical cluster.
    pub const HOLE: u16 = 0x4000;
    /// Bit of a distance back to the head: in the first nonhead lcluster behind a head it says that the other bits
    /// are the size of the physical cluster in blocks. The distance is 1 then. With
    /// [`advise::BIG_PCLUSTER_1`](super::advise::BIG_PCLUSTER_1) or its sister only.
    pub const CBLKCNT: u16 = 0x800;
}

/// A full index, 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LclusterIndex {
    /// The type and bits of [`lcluster`].
    pub di_advise: U16,
    /// Heads: where in the lcluster the extent starts, in bytes.
    pub di_clusterofs: U16,
    /// Heads: the first block of the physical cluster. Others: the distance back to the head in the lower half
    /// (see [`lcluster::CBLKCNT`]), that to the next head in the upper; both in lclusters, and both may be less than
    /// the truth, if they lead to another nonhead lcluster of the same extent.
    pub di_u: U32,
}

/// The largest form of an extent record, 32 bytes. Shorter ones are its first 4, 8 or 16 bytes, see
/// [`advise::EXTENT_RECORD_MASK`].
///
/// In records of 4 and 8 bytes all extents are of one size, the lcluster size, but the last one, which may be
/// shorter. With 4 bytes, the physical clusters are one behind the other, and a position of 8 bytes, that of the first, is in
/// front of the records.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extent {
    /// Size of what is encoded, in bytes, and bits of [`extent`]. If the size is zero, the extent is a hole; with
    /// [`advise::FRAGMENT_PCLUSTER`] this is, in the last record, the position in the packed inode, lower 32 bits.
    pub plen: U32,
    /// Where that is in the image, in bytes, lower 32 bits; in the last record with
    /// [`advise::FRAGMENT_PCLUSTER`], the upper 32 bits of the position in the packed inode.
    pub pstart_lo: U32,
    /// The same, upper 32 bits.
    pub pstart_hi: U32,
    /// Where the extent starts in the file, in bytes, lower 32 bits.
    pub lstart_lo: U32,
    /// The same, upper 32 bits.
    pub lstart_hi: U32,
    /// Zero.
    pub reserved: [u8; 12],
}

/// Bits of [`Extent::plen`].
pub mod extent {
    /// Mask of the size.
    pub const SIZE_MASK: u32 = (super::PCLUSTER_MAX_SIZE << 1) - 1;
    /// What is encoded decodes to more than this extent.
    pub const PARTIAL: u32 = 1 << 27;
    /// How far to shift right to have the format lowest: 0 for plain data, else an
    /// [`algorithm`](super::algorithm) + 1.
    pub const FORMAT_SHIFT: u32 = 28;
}

/// The two forms of a pack of compact indexes. Whichever it is, a pack starts at a multiple of its size in the image.
///
/// A pack has [`Self::count`] entries of [`Self::entry_bits`] bits, the first one lowest, and in its last four bytes a block
/// number B. An entry is a type of [`lcluster`] above a value of [`value_bits`] bits:
///
/// | entry | value |
/// | --- | --- |
/// | a head | where in the lcluster the extent starts, in bytes |
/// | the first nonhead behind a head, with big physical clusters | [`lcluster::CBLKCNT`] and the blocks of the physical cluster |
/// | a nonhead that is the last entry of a pack | the distance to the next head |
/// | any other nonhead | the distance back to the head |
///
/// Distances are in lclusters; they may be less than the truth, as in [`LclusterIndex::di_u`].
///
/// The physical clusters whose sizes a pack has are one behind the other. Without big ones that is one block for each head, and
/// the first is at B + 1. With big ones, it is one for each entry with [`lcluster::CBLKCNT`], of so many blocks, and one of
/// one block for each head that is not followed by such an entry; the first is at B. A head that is the last entry of its pack
/// has its size at the start of the next one, whose B is then that head's block again if it starts with such an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactForm {
    /// 2 entries in 8 bytes.
    FourBytes,
    /// 16 entries in 32 bytes.
    TwoBytes,
}

impl CompactForm {
    /// Entries of a pack.
    pub const fn count(self) -> u32 {
        match self {
            CompactForm::FourBytes => 2,
            CompactForm::TwoBytes => 16,
        }
    }

    /// Bytes of a pack.
    pub const fn size(self) -> u32 {
        match self {
            CompactForm::FourBytes => 8,
            CompactForm::TwoBytes => 32,
        }
    }

    /// Bits of an entry.
    pub const fn entry_bits(self) -> u32 {
        match self {
            CompactForm::FourBytes => 16,
            CompactForm::TwoBytes => 14,
        }
    }
}

/// Bits of the value of an entry of a pack, for lclusters of two to the power of `lcluster_bits` bytes.
pub const fn value_bits(lcluster_bits: u32) -> u32 {
    if lcluster_bits > 12 {
        lcluster_bits
    } else {
        12
    }
}

/// One entry of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactEntry {
    /// A type of [`lcluster`].
    pub kind: u8,
    /// See [`CompactForm`].
    pub value: u16,
}

/// A pack in memory; one of the smaller form takes its first bytes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactPack {
    form: CompactForm,
    value_bits: u32,
    bytes: [u8; 32],
}

impl CompactPack {
    /// A pack of zeros.
    pub const fn new(form: CompactForm, lcluster_bits: u32) -> Self {
        CompactPack {
            form,
            value_bits: value_bits(lcluster_bits),
            bytes: [0; 32],
        }
    }

    /// The pack that is at the start of `bytes`; what they lack is zero.
    pub fn from_bytes(form: CompactForm, lcluster_bits: u32, bytes: &[u8]) -> Self {
        let mut pack = Self::new(form, lcluster_bits);
        for (to, from) in pack.bytes_mut().iter_mut().zip(bytes) {
            *to = *from;
        }
        pack
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..self.form.size() as usize)
            .unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(..self.form.size() as usize)
            .unwrap_or_default()
    }

    /// Its block number B.
    pub fn block(&self) -> u32 {
        match self.as_bytes().last_chunk::<4>() {
            Some(bytes) => u32::from_le_bytes(*bytes),
            None => 0,
        }
    }

    /// Sets its block number B.
    pub fn set_block(&mut self, block: u32) {
        if let Some(bytes) = self.bytes_mut().last_chunk_mut::<4>() {
            *bytes = block.to_le_bytes();
        }
    }

    /// The entry of a number, `None` if it has no such one.
    pub fn entry(&self, number: u32) -> Option<CompactEntry> {
        if number >= self.form.count() {
            return None;
        }
        // At most 15 × 16 bits and those of one entry: the byte and the three behind it are in the pack.
        let bit = number.wrapping_mul(self.form.entry_bits());
        let bytes = self.bytes.get((bit / 8) as usize..)?.first_chunk::<4>()?;
        let entry = u32::from_le_bytes(*bytes).wrapping_shr(bit % 8);
        let value = entry & 1u32.wrapping_shl(self.value_bits).wrapping_sub(1);
        Some(CompactEntry {
            kind: (entry.wrapping_shr(self.value_bits) & u32::from(lcluster::MASK)) as u8,
            value: value as u16,
        })
    }

    /// Sets an entry that is zero. Bits of the value that have no place are dropped, and so is an entry of a number there is
    /// not.
    pub fn set_entry(&mut self, number: u32, entry: CompactEntry) {
        if number >= self.form.count() {
            return;
        }
        let bit = number.wrapping_mul(self.form.entry_bits());
        let value = u32::from(entry.value) & 1u32.wrapping_shl(self.value_bits).wrapping_sub(1);
        let kind = u32::from(entry.kind) & u32::from(lcluster::MASK);
        let bits = (kind.wrapping_shl(self.value_bits) | value).wrapping_shl(bit % 8);
        let place = self.bytes.get_mut((bit / 8) as usize..);
        if let Some(bytes) = place.and_then(|bytes| bytes.first_chunk_mut::<4>()) {
            *bytes = (u32::from_le_bytes(*bytes) | bits).to_le_bytes();
        }
    }
}

/// How many entries of which form a file's compact indexes have: first some in packs of
/// [`CompactForm::FourBytes`], up to a multiple of 32 bytes of the image, then in packs of [`CompactForm::TwoBytes`], as many as
/// can be full, then the rest in packs of [`CompactForm::FourBytes`] again. An odd number there leaves the second half of the last
/// pack's entries without meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactLayout {
    /// Entries of 4 bytes at the start; even.
    pub first: u64,
    /// Entries of 2 bytes; a multiple of 16.
    pub two_bytes: u64,
    /// Entries of 4 bytes at the end.
    pub last: u64,
}

impl CompactLayout {
    /// For so many lclusters, whose packs start at this position of the image, a multiple of 8. Whether
    /// there are packs of 2-byte entries says [`advise::COMPACTED_2B`].
    pub fn new(position: u64, lclusters: u64, two_bytes: bool) -> Self {
        let first = (position.wrapping_neg() % 32) / 4;
        if !two_bytes || first >= lclusters {
            return CompactLayout {
                first: 0,
                two_bytes: 0,
                last: lclusters,
            };
        }
        let rest = lclusters.wrapping_sub(first);
        CompactLayout {
            first,
            two_bytes: rest & !15,
            last: rest & 15,
        }
    }

    /// Bytes of all packs.
    pub fn size(&self) -> u64 {
        let whole = self.last.saturating_add(self.last & 1);
        (self.first.saturating_add(whole))
            .saturating_mul(4)
            .saturating_add(self.two_bytes.saturating_mul(2))
    }
}

const _: () = assert!(size_of::<config::Lz4>() == 14);
const _: () = assert!(size_of::<config::Lzma>() == 14);
const _: () = assert!(size_of::<config::Deflate>() == 6);
const _: () = assert!(size_of::<config::Zstd>() == 6);
const _: () = assert!(size_of::<MapHeader>() == 8);
const _: () = assert!(size_of::<LclusterIndex>() == 8);
const _: () = assert!(size_of::<Extent>() == 32);
const _: () = assert!(ondisk::INODE_SLOT_SIZE % 8 == 0);

#[cfg(all(test, not(MODULE)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn entries_of_a_pack_come_out_as_they_went_in() {
        for (form, bits) in [
            (CompactForm::FourBytes, 9),
            (CompactForm::FourBytes, 12),
            (CompactForm::FourBytes, 14),
            (CompactForm::TwoBytes, 9),
            (CompactForm::TwoBytes, 12),
        ] {
            let entries: Vec<_> = (0..form.count())
                .map(|number| CompactEntry {
                    kind: (number % 4) as u8,
                    value: (number as u16).wrapping_mul(0x2f3) & ((1 << value_bits(bits)) - 1),
                })
                .collect();
            let mut pack = CompactPack::new(form, bits);
            pack.set_block(0x8765_4321);
            for (number, entry) in entries.iter().enumerate() {
                pack.set_entry(number as u32, *entry);
            }
            let read = CompactPack::from_bytes(form, bits, pack.as_bytes());
            assert_eq!(read, pack);
            assert_eq!(read.block(), 0x8765_4321);
            for (number, entry) in entries.iter().enumerate() {
                assert_eq!(read.entry(number as u32), Some(*entry), "{form:?} {number}");
            }
            assert_eq!(read.entry(form.count()), None);
        }
    }

    /// Bytes as they follow from the description.
    #[test]
    fn a_pack_has_its_first_entry_lowest() {
        let mut pack = CompactPack::new(CompactForm::FourBytes, 12);
        let head = CompactEntry {
            kind: lcluster::HEAD1,
            value: 0x123,
        };
        let nonhead = CompactEntry {
            kind: lcluster::NONHEAD,
            value: lcluster::CBLKCNT | 16,
        };
        pack.set_entry(0, head);
        pack.set_entry(1, nonhead);
        pack.set_block(7);
        assert_eq!(
            pack.as_bytes(),
            [0x23, 0x11, 0x10, 0x28, 7, 0, 0, 0].as_slice()
        );
        let mut pack = CompactPack::new(CompactForm::TwoBytes, 12);
        pack.set_entry(0, head);
        pack.set_entry(1, nonhead);
        // 0x1123 | 0x2810 << 14
        assert_eq!(
            pack.as_bytes().get(..4),
            Some([0x23, 0x11, 0x04, 0x0a].as_slice())
        );
    }

    #[test]
    fn a_layout_reaches_a_multiple_of_32_bytes_and_has_all_entries() {
        for position in (0..64).step_by(8) {
            for lclusters in 0..100 {
                let layout = CompactLayout::new(position, lclusters, true);
                assert_eq!(layout.first + layout.two_bytes + layout.last, lclusters);
                if layout.two_bytes > 0 {
                    assert_eq!((position + layout.first * 4) % 32, 0);
                    assert!(layout.last < 16);
                }
                assert_eq!(layout.size() % 8, 0);
            }
        }
    }
}
