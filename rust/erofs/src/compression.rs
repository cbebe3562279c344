// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What an image says of its compression as a whole: the algorithms, and what a decoder must be ready for.
//! Read once at mount; which algorithm a run of bytes needs is found by [`Clusters`](super::Clusters).

use super::compressed::{algorithm, config, PCLUSTER_MAX_SIZE};
use super::error::{Error, Result};
use super::metadata::{Cursor, Metadata};
use super::ondisk;
use super::ondisk::incompat;
use super::superblock::Superblock;
use core::mem::offset_of;
use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// An LZ4 block.
    Lz4,
    /// MicroLZMA.
    Lzma,
    /// Raw DEFLATE.
    Deflate,
    /// A Zstandard frame.
    Zstd,
}

impl Algorithm {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; algorithm::COUNT as usize] =
        [Self::Lz4, Self::Lzma, Self::Deflate, Self::Zstd];

    /// The algorithm of a number: one of [`algorithm`].
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            algorithm::LZ4 => Self::Lz4,
            algorithm::LZMA => Self::Lzma,
            algorithm::DEFLATE => Self::Deflate,
            algorithm::ZSTD => Self::Zstd,
            _ => return None,
        })
    }

    /// Its number, one of [`algorithm`].
    pub const fn number(self) -> u8 {
        match self {
            Self::Lz4 => algorithm::LZ4,
            Self::Lzma => algorithm::LZMA,
            Self::Deflate => algorithm::DEFLATE,
            Self::Zstd => algorithm::ZSTD,
        }
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// Its bit in [`Superblock::algorithms`].
    pub const fn bit(self) -> u16 {
        1u16.wrapping_shl(self.number() as u32)
    }
}

/// The algorithms of a superblock, as bits of their numbers.
pub(super) fn algorithms(disk: &ondisk::Superblock) -> u16 {
    let incompat = disk.feature_incompat.get();
    let value = disk.available_compr_algs.get();
    if incompat & incompat::COMPR_CFGS != 0 {
        value
    } else if value != 0 || incompat & incompat::LZ4_0PADDING != 0 {
        // It is the largest distance of LZ4.
        Algorithm::Lz4.bit()
    } else {
        0
    }
}

/// What decoders of an image's data must be ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Bits of [`Algorithm::bit`].
    pub algorithms: u16,
    /// See [`Superblock::lz4_is_padded`].
    pub lz4_is_padded: bool,
    /// How far back a match of LZ4 may be, in bytes.
    pub lz4_max_distance: u16,
    /// Most bytes of a physical cluster of LZ4.
    pub lz4_pcluster_max: u32,
    /// Bytes of the dictionary of MicroLZMA; 0 without it.
    pub lzma_dictionary: u32,
    /// Bytes of the window of DEFLATE as a power of two; 0 without it.
    pub deflate_window_bits: u8,
    /// Bytes of the window of Zstandard; 0 without it.
    pub zstd_window: u32,
}

impl Superblock {
    /// Reads and checks what the superblock says of the algorithms; those themselves are
    /// [`Self::algorithms`].
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if a configuration is cut off or out of range.
    /// - [`Error::Unsupported`] for unknown formats and windows.
    /// - [`Error::Io`] if the metadata cannot be read.
    #[inline(never)]
    pub fn compression<M: Metadata>(&self, meta: &M) -> Result<Compression, M::Error> {
        let mut found = Compression {
            algorithms: self.algorithms(),
            lz4_is_padded: self.lz4_is_padded(),
            lz4_max_distance: config::LZ4_MAX_DISTANCE,
            lz4_pcluster_max: self.block_size(),
            lzma_dictionary: 0,
            deflate_window_bits: 0,
            zstd_window: 0,
        };
        let distance = |value: U16| match value.get() {
            0 => config::LZ4_MAX_DISTANCE,
            value => value,
        };
        let mut cursor = Cursor::new(meta);
        if self.incompat() & incompat::COMPR_CFGS == 0 {
            let at = offset_of!(ondisk::Superblock, available_compr_algs) as u64;
            let at = ondisk::SUPER_OFFSET.wrapping_add(at);
            found.lz4_max_distance = distance(cursor.read_struct(at, CUT_OFF)?);
            return Ok(found);
        }
        let mut pos = ondisk::SUPER_OFFSET.wrapping_add(u64::from(self.size()));
        for algorithm in Algorithm::ALL {
            if found.algorithms & algorithm.bit() == 0 {
                continue;
            }
            let corrupt = |what| Err(Error::corrupt(what, pos));
            let unsupported = |what, bits| Err(Error::unsupported(what, bits, pos));
            let size: U16 = cursor.read_struct(pos, CUT_OFF)?;
            let at = pos.wrapping_add(size_of::<U16>() as u64);
            let size = usize::from(size.get());
            match algorithm {
                Algorithm::Lz4 => {
                    let lz4: config::Lz4 = read(&mut cursor, at, size)?;
                    let blocks = u32::from(lz4.max_pclusterblks.get()).max(1);
                    let bytes = blocks.saturating_mul(self.block_size());
                    if bytes > PCLUSTER_MAX_SIZE {
                        return corrupt("largest physical cluster of LZ4 is out of range");
                    }
                    found.lz4_pcluster_max = bytes;
                    found.lz4_max_distance = distance(lz4.max_distance);
                }
                Algorithm::Lzma => {
                    let lzma: config::Lzma = read(&mut cursor, at, size)?;
                    if lzma.format.get() != 0 {
                        return unsupported("format of LZMA", lzma.format.get().into());
                    }
                    let dictionary = lzma.dict_size.get();
                    let range = config::LZMA_MIN_DICT_SIZE..=config::LZMA_MAX_DICT_SIZE;
                    if !range.contains(&dictionary) {
                        return corrupt("dictionary size of LZMA is out of range");
                    }
                    found.lzma_dictionary = dictionary;
                }
                Algorithm::Deflate => {
                    let deflate: config::Deflate = read(&mut cursor, at, size)?;
                    if deflate.windowbits > config::DEFLATE_WINDOW_BITS_MAX {
                        return unsupported("window of DEFLATE", deflate.windowbits.into());
                    }
                    found.deflate_window_bits = deflate.windowbits;
                }
                Algorithm::Zstd => {
                    let zstd: config::Zstd = read(&mut cursor, at, size)?;
                    if zstd.format != 0 {
                        return unsupported("format of Zstandard", zstd.format.into());
                    }
                    let log = u32::from(zstd.windowlog)
                        .saturating_add(config::ZSTD_WINDOW_LOG_MIN.into());
                    let window = 1u32.checked_shl(log).unwrap_or(u32::MAX);
                    if window > config::ZSTD_MAX_DICT_SIZE {
                        return unsupported("window of Zstandard", log);
                    }
                    found.zstd_window = window;
                }
            }
            pos = align4(at.wrapping_add(size as u64));
        }
        Ok(found)
    }
}

const CUT_OFF: &str = "superblock's compression configuration is cut off";

/// Reads a configuration that is `size` bytes long, which may be more than is known of it.
fn read<M: Metadata, T: FromBytes + IntoBytes>(
    cursor: &mut Cursor<'_, M>,
    at: u64,
    size: usize,
) -> Result<T, M::Error> {
    if size < size_of::<T>() {
        return Err(Error::corrupt(CUT_OFF, at));
    }
    cursor.read_struct(at, CUT_OFF)
}

/// Configurations begin at multiples of 4 bytes.
fn align4(pos: u64) -> u64 {
    pos.wrapping_add(3) & !3
}
