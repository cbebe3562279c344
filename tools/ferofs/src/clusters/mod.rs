// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compressed data of files, as an EROFS image has it: from bytes to physical clusters and the indexes that lead to
//! them. [`image`](crate::image) writes both where they belong.
//!
//! A file is cut into segments of one size. `segment` encodes a segment, whatever the other ones are, so they can
//! be encoded in any order and by any number of threads, and come to the same (`workers`); `codec` has the
//! algorithms, [`indexes`] writes the indexes. Blocks are numbered when all of that is put in order.

pub mod codec;
pub mod indexes;
pub mod referred;
pub(crate) mod segment;
pub(crate) mod workers;

use crate::setters::setters;
use codec::Algorithm;
use erofs_format::compressed::PCLUSTER_MAX_SIZE;
use erofs_format::compressed::algorithm;
use erofs_format::compressed::config;
use erofs_format::compressed::lcluster;
use erofs_format::ondisk::incompat;

/// How files are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compression {
    /// What with: the first one, or another one where a hint says so.
    pub algorithms: Vec<Algorithm>,
    /// Largest size of a physical cluster in bytes. `None`: that of a block.
    pub cluster: Option<u32>,
    /// The same for that which fragments are in.
    pub packed_cluster: Option<u32>,
    /// Where the ends of files are.
    pub ends: Ends,
    /// Whether physical clusters that are equal are stored once.
    pub dedupe: bool,
    /// Whether indexes are full ones even where compact ones would do.
    pub full_indexes: bool,
    /// How many threads encode. `None`: as many as there are processors. It makes no difference to the image.
    pub workers: Option<usize>,
}

impl Compression {
    /// With one algorithm, and everything else as simple as can be.
    pub fn new(algorithm: Algorithm) -> Self {
        Compression {
            algorithms: vec![algorithm],
            cluster: None,
            packed_cluster: None,
            ends: Ends::default(),
            dedupe: false,
            full_indexes: false,
            workers: None,
        }
    }

    setters! {
        /// Sets the largest size of a physical cluster.
        with_cluster sets cluster: Option<u32>,
        /// Sets that of the clusters which fragments are in.
        with_packed_cluster sets packed_cluster: Option<u32>,
        /// Says where the ends of files are.
        with_ends sets ends: Ends,
        /// Says whether equal physical clusters are stored once.
        with_dedupe sets dedupe: bool,
        /// Says whether all indexes are full ones.
        with_full_indexes sets full_indexes: bool,
        /// Sets the number of threads.
        with_workers sets workers: Option<usize>,
    }

    /// What is wrong with it, for blocks of this size.
    pub(crate) fn check(&self, block: u32) -> Result<(), String> {
        if self.algorithms.is_empty() {
            return Err("no algorithm to compress with".to_string());
        }
        for cluster in [self.cluster, self.packed_cluster].into_iter().flatten() {
            // More blocks than that have no room in an index.
            let most = PCLUSTER_MAX_SIZE.min(block * u32::from(lcluster::CBLKCNT - 1));
            if cluster == 0 || cluster % block != 0 || cluster > most {
                return Err(format!(
                    "a physical cluster of {cluster} bytes, expected a multiple of the block size, {block}, up to {most}"
                ));
            }
        }
        for algorithm in &self.algorithms {
            algorithm.encoder(self.largest_cluster(block)).map(drop)?;
        }
        Ok(())
    }

    /// The size of physical clusters, in blocks of this size.
    pub(crate) fn cluster(&self, block: u32) -> u32 {
        self.cluster.unwrap_or(block)
    }

    /// The same for fragments.
    pub(crate) fn packed_cluster(&self, block: u32) -> u32 {
        self.packed_cluster.unwrap_or_else(|| self.cluster(block))
    }

    /// The number that the first algorithm has in the format.
    pub(crate) fn number(&self) -> u8 {
        self.algorithms.first().map_or(0, Algorithm::number)
    }

    /// Whether an image says of its algorithms what is needed for reading: that of LZ4 alone is in the superblock.
    fn configures(&self, block: u32) -> bool {
        let other = |one: &Algorithm| one.number() != algorithm::LZ4;
        self.largest_cluster(block) > block || self.algorithms.iter().any(other)
    }

    /// What an image has of that behind its superblock.
    pub(crate) fn configurations(&self, block: u32) -> Vec<u8> {
        let mut all = Vec::new();
        if !self.configures(block) {
            return all;
        }
        for number in 0..algorithm::COUNT {
            let same = self.algorithms.iter().filter(|one| one.number() == number);
            let same: Vec<_> = same.collect();
            if !same.is_empty() {
                let bytes = Algorithm::configuration(&same, self.largest_cluster(block), block);
                all.extend((bytes.len() as u16).to_le_bytes());
                all.extend(bytes);
            }
        }
        all
    }

    /// What an image has of that in its superblock: all algorithms, or the distance of LZ4.
    pub(crate) fn in_superblock(&self, block: u32) -> u16 {
        if !self.configures(block) {
            return config::LZ4_MAX_DISTANCE;
        }
        let bits = self.algorithms.iter().map(|one| 1 << one.number());
        bits.fold(0, |all, bit| all | bit)
    }

    /// The bits of the superblock that say what is needed for reading.
    pub(crate) fn features(&self, block: u32) -> u32 {
        let mut bits = incompat::LZ4_0PADDING;
        if self.configures(block) {
            bits |= incompat::COMPR_CFGS;
        }
        match self.ends {
            Ends::Blocks => {}
            Ends::Inline => bits |= incompat::ZTAILPACKING,
            Ends::Fragments | Ends::AllFragments => bits |= incompat::FRAGMENTS,
        }
        if self.dedupe {
            bits |= incompat::DEDUPE;
        }
        bits
    }

    /// What all indexes have in common, for blocks of this size as a power of two.
    pub(crate) fn common(&self, bits: u8) -> indexes::Common {
        let block = 1 << bits;
        let fragments = matches!(self.ends, Ends::Fragments | Ends::AllFragments);
        indexes::Common {
            bits,
            big: self.largest_cluster(block) > block,
            // As mkfs.erofs has it.
            interlaced: fragments && !self.dedupe,
            full: self.full_indexes,
        }
    }

    /// The largest of both.
    pub(crate) fn largest_cluster(&self, block: u32) -> u32 {
        let packed = match self.ends {
            Ends::Fragments | Ends::AllFragments => self.packed_cluster(block),
            Ends::Blocks | Ends::Inline => 0,
        };
        self.cluster(block).max(packed)
    }
}

/// Where the ends of compressed files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ends {
    /// In blocks, as the rest.
    #[default]
    Blocks,
    /// Behind the indexes, if they are encoded to less than a block.
    Inline,
    /// All in one further file, which is compressed for itself; and small files wholly.
    Fragments,
    /// All files are wholly there.
    AllFragments,
}

/// A range of a file, and what it is encoded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many bytes of the file these are. All but the last extent have at least as many as a block.
    pub length: u32,
    /// The first block of the image that it is in; that behind the extent in front if it is in none.
    pub block: u64,
    /// How many blocks. Zero if it is a fragment; one if it is behind the indexes.
    pub blocks: u16,
    /// Whether it is encoded, and not as it is.
    pub encoded: bool,
    /// Whether the blocks are decoded to more than this extent.
    pub partial: bool,
}

/// Where the last extent is, if it is in no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Behind the indexes.
    Inline {
        /// Where the bytes are before the image is written.
        pos: u64,
        /// How many these are, encoded or not.
        len: u16,
    },
    /// In the file of fragments, at this position.
    Fragment(u64),
}

/// A compressed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// All of it, from its start to its end.
    pub extents: Box<[Extent]>,
    /// Where the last extent is, if it is in no block.
    pub end: Option<End>,
    /// The number of its algorithm, as the format has it.
    pub algorithm: u8,
    /// Where its own blocks start in the image, in bytes.
    pub start: u64,
    /// How many of them there are. With those that other files have, too, there may be more.
    pub blocks: u64,
}
