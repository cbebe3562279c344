// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Trees of hashes for dm-verity, format 1 with sha256, behind the data that they are of: what `veritysetup format` makes, which
//! the tests compare with. With the root hash, which somebody trusts or has signed, the kernel notices every change of
//! the data when that is read. Used by `ferofs export`.
//!
//! ```text
//! data | superblock, one block | hashes: the topmost block first, those of the data last
//! ```
//!
//! A block of each level is in memory, however much data there is.

use crate::digest::Digest;
use crate::read_at::ReadAt;
use crate::setters::setters;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

/// Bytes of a hash.
const HASH: usize = 32;
/// The longest salt that the superblock has room for.
pub const SALT_MAX: usize = 256;
/// The largest blocks: a page, on most machines.
const BLOCK_MAX: u32 = 4096;
/// So much is read at once; a multiple of every block size.
const PIECE: usize = 1 << 20;

/// Bytes of the superblock, which is in front of a tree, so that nothing but the root hash has to be known of it.
///
/// | bytes | |
/// | --- | --- |
/// | 0 to 8 | "verity", padded with NULs |
/// | 8 to 16 | version and format, each 1 in 32 bits, little-endian as all numbers |
/// | 16 to 32 | UUID |
/// | 32 to 64 | "sha256", padded with NULs |
/// | 64 to 72 | sizes of the blocks of data and of hashes |
/// | 72 to 80 | number of blocks of data |
/// | 80 to 82 | bytes of the salt |
/// | 88 to 344 | the salt |
const SUPERBLOCK: usize = 512;

/// What a tree is to be like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Size of the blocks of data and of hashes: a power of two from 512 to 4,096. It is the smallest piece that can be read
    /// of the device, so an image must not have smaller blocks.
    pub block: u32,
    /// What every hash begins with, up to [`SALT_MAX`] bytes.
    pub salt: Vec<u8>,
}

impl Default for Options {
    /// Blocks of 4,096 bytes, and containerd's salt: 32 zeros.
    fn default() -> Self {
        Options {
            block: BLOCK_MAX,
            salt: vec![0; HASH],
        }
    }
}

impl Options {
    setters! {
        /// Sets the size of blocks.
        with_block sets block: u32,
        /// Sets the salt.
        with_salt sets salt: Vec<u8>,
    }

    /// What is wrong with them.
    fn problem(&self) -> Option<String> {
        let Options { block, salt } = self;
        if !block.is_power_of_two() || !(512..=BLOCK_MAX).contains(block) {
            return Some(format!(
                "blocks of {block} bytes, expected 512, 1024, 2048 or 4096"
            ));
        }
        let len = salt.len();
        (len > SALT_MAX).then(|| format!("a salt of {len} bytes, expected at most {SALT_MAX}"))
    }
}

/// A tree: what has to be known to use it. As JSON it is what containerd keeps beside a layer, in a file with `.dmverity`
/// behind the layer's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tree {
    /// The hash of the topmost block.
    #[serde(rename = "roothash", serialize_with = "hex")]
    pub root: Digest,
    /// Where the superblock is, in bytes: where the data ends.
    #[serde(rename = "hashoffset")]
    pub offset: u64,
}

fn hex<S: serde::Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

/// The sizes of the levels in blocks, that above the data first.
fn levels(data_blocks: u64, per_block: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(per_block);
        levels.push(blocks);
    }
    levels
}

/// A block of hashes that is being filled.
struct Level {
    /// Where the next block of this level goes.
    pos: u64,
    hashes: Vec<u8>,
}

struct Builder<'a> {
    file: &'a File,
    block: usize,
    /// After the salt.
    start: Sha256,
    levels: Vec<Level>,
    root: Option<Digest>,
}

impl Builder<'_> {
    fn hash(&self, block: &[u8]) -> Digest {
        let mut sha = self.start.clone();
        sha.update(block);
        Digest(sha.finalize().into())
    }

    /// Adds the hash of a block to a level; what is behind the last one is the root.
    fn add(&mut self, level: usize, hash: Digest) -> io::Result<()> {
        let block = self.block;
        match self.levels.get_mut(level) {
            None => self.root = Some(hash),
            Some(at) => {
                at.hashes.extend_from_slice(&hash.0);
                if at.hashes.len() == block {
                    self.finish(level)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the block that a level has, and adds its hash to the next one.
    fn finish(&mut self, level: usize) -> io::Result<()> {
        let Some(at) = self.levels.get_mut(level) else {
            return Ok(());
        };
        at.hashes.resize(self.block, 0);
        self.file.write_all_at(&at.hashes, at.pos)?;
        at.pos += self.block as u64;
        let hashes = std::mem::take(&mut at.hashes);
        let hash = self.hash(&hashes);
        self.add(level + 1, hash)
    }
}

/// Adds a tree to a file of whole blocks: superblock and hashes behind what it has. `progress` is told how many bytes are
/// hashed.
///
/// # Errors
///
/// Those of reading and writing; [`ErrorKind::InvalidInput`] when the options make no sense, or the file has no block or not
/// only whole ones.
pub fn append(file: &File, options: &Options, progress: &mut dyn FnMut(u64)) -> io::Result<Tree> {
    let invalid = |problem| io::Error::new(ErrorKind::InvalidInput, problem);
    if let Some(problem) = options.problem() {
        return Err(invalid(problem));
    }
    let (size, block) = (file.size()?, u64::from(options.block));
    if size == 0 || size % block != 0 {
        return Err(invalid(format!(
            "{size} bytes, expected whole blocks of {block} bytes"
        )));
    }
    let data_blocks = size / block;
    let counts = levels(data_blocks, block / HASH as u64);
    // The topmost one comes first.
    let mut pos = size + block;
    let mut levels: Vec<Level> = counts
        .iter()
        .rev()
        .map(|blocks| {
            let start = pos;
            pos += blocks * block;
            Level {
                pos: start,
                hashes: Vec::new(),
            }
        })
        .collect();
    levels.reverse();
    let mut builder = Builder {
        file,
        block: options.block as usize,
        start: Sha256::new_with_prefix(&options.salt),
        levels,
        root: None,
    };
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    while done < size {
        let len = piece
            .len()
            .min(usize::try_from(size - done).unwrap_or(PIECE));
        let piece = piece.get_mut(..len).unwrap_or_default();
        ReadAt::read_exact_at(file, piece, done)?;
        for block in piece.chunks(builder.block) {
            let hash = builder.hash(block);
            builder.add(0, hash)?;
        }
        done += len as u64;
        progress(done);
    }
    for level in 0..builder.levels.len() {
        if builder
            .levels
            .get(level)
            .is_some_and(|level| !level.hashes.is_empty())
        {
            builder.finish(level)?;
        }
    }
    let root = builder.root;
    let root = root.ok_or_else(|| io::Error::other("a tree without a root"))?;
    let mut bytes = superblock(options, data_blocks, root).to_vec();
    bytes.resize(builder.block, 0);
    file.write_all_at(&bytes, size)?;
    Ok(Tree { root, offset: size })
}

/// The superblock. Its UUID follows from the root hash, so that the same data has the same tree.
fn superblock(options: &Options, data_blocks: u64, root: Digest) -> [u8; SUPERBLOCK] {
    let half = root.0.iter().take(size_of::<u128>());
    let mut uuid = half.fold(0_u128, |uuid, byte| (uuid << 8) | u128::from(*byte));
    // Version 8: what it is made of is ours to say.
    uuid &= !((0xf << 76) | (0b11 << 62));
    uuid |= (8 << 76) | (0b10 << 62);
    let block = options.block.to_le_bytes();
    let one = 1_u32.to_le_bytes();
    let fields: [(usize, &[u8]); 9] = [
        (0, b"verity"),
        (8, &one),
        (12, &one),
        (16, &uuid.to_be_bytes()),
        (32, b"sha256"),
        (64, &[block, block].concat()),
        (72, &data_blocks.to_le_bytes()),
        (80, &(options.salt.len() as u16).to_le_bytes()),
        (88, &options.salt),
    ];
    let mut superblock = [0; SUPERBLOCK];
    for (at, bytes) in fields {
        for (to, from) in superblock.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
    superblock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_room_for_all_hashes() {
        let cases: [(u64, u64, &[u64]); 8] = [
            (1, 128, &[]),
            (2, 128, &[1]),
            (128, 128, &[1]),
            (129, 128, &[2, 1]),
            (128 * 128, 128, &[128, 1]),
            (128 * 128 + 1, 128, &[129, 2, 1]),
            (16, 16, &[1]),
            (257, 16, &[17, 2, 1]),
        ];
        for (blocks, per_block, expected) in cases {
            assert_eq!(levels(blocks, per_block), expected, "{blocks}");
        }
    }

    fn file(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("dm-verity-{name}-{}", std::process::id()));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        std::fs::remove_file(&path).unwrap();
        file.unwrap()
    }

    /// Block size, blocks, salt, and the root hash that `veritysetup format` (2.6.1) says.
    const ROOTS: [(u32, u64, &str, &str); 14] = [
        (
            512,
            1,
            "",
            "dc82065250ff1d42a25065c405a93b09b2dec3a4c7fd0e0e1a2852d6b5b91656",
        ),
        (
            512,
            1,
            "c0ffee",
            "36949638ce92962607e53f4e94fe852efd126b151ec689f6331d75bb65ec1721",
        ),
        (
            512,
            2,
            "",
            "2054b3067b734083a9fb6ac7e84070a7a42aaada2f58d111dde28d1af42d4152",
        ),
        (
            512,
            16,
            "",
            "9a110669befca125e88e1b5ea48f0b840f77de4aaa36cd9fbed6458e5ae92354",
        ),
        (
            512,
            17,
            "",
            "bb32b67bfddde072177e0b65e6a28cfc154cb6080e7e323d8e53bd4be9bb104a",
        ),
        (
            512,
            129,
            "c0ffee",
            "a0ac03ed0ab0ca01e4db5fb979c9c40732b5a9b5d6951c1c7287f6505bd66d95",
        ),
        (
            512,
            257,
            "",
            "f6ccab5db0ec0ceea2301d635a94d60f34db642612d317137584a9e396235057",
        ),
        (
            4096,
            1,
            "",
            "508fa2d1b48de59864bed4bb4f87577bd59a3b85e7f3e5d34554099f38f9f6a3",
        ),
        (
            4096,
            2,
            "",
            "dfd4f4365394db0e6cb3b0aebfbbd44f666ad477c268166362fdeb56c7d0741d",
        ),
        (
            4096,
            128,
            "",
            "5aff7598de9da54dc1ece3a3ee6b1ebeb93a2e9b5a08dcb021466102d10ae26e",
        ),
        (
            4096,
            129,
            "",
            "60fa5c8a583a66caaf1f3709f41546fbcec1ccb7117f89a9cceadafb6384c603",
        ),
        (
            4096,
            129,
            "c0ffee",
            "534b6fb09f348124352d934c977217d66adbc9c77e78661ec1784904cd78296c",
        ),
        (
            4096,
            257,
            "",
            "6f98e27a7d98469ac793c89f21d41d1fa5b552c41a290318e9779f900aff7e66",
        ),
        (
            4096,
            257,
            "0000000000000000000000000000000000000000000000000000000000000000",
            "d9b3055580e12629e4768a0ad5debf3368660ba485387af9b82177188b884a7f",
        ),
    ];

    #[test]
    fn roots_are_those_of_veritysetup() {
        for (block, blocks, salt, expected) in ROOTS {
            let size = u64::from(block) * blocks;
            let data = (0..size).map(|at| (at * at / 7 + at / 512) as u8);
            let file = file("roots");
            file.write_all_at(&data.collect::<Vec<_>>(), 0).unwrap();
            let salt = data_encoding::HEXLOWER.decode(salt.as_bytes()).unwrap();
            let options = Options::default().with_block(block).with_salt(salt);
            let tree = append(&file, &options, &mut |_| {}).unwrap();
            assert_eq!(
                (tree.root.to_string().as_str(), tree.offset),
                (expected, size)
            );
            let hashes: u64 = levels(blocks, u64::from(block) / 32).iter().sum();
            let end = size + (1 + hashes) * u64::from(block);
            assert_eq!(file.metadata().unwrap().len(), end);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let file = file("refused");
        let error =
            |options: &Options| append(&file, options, &mut |_| {}).unwrap_err().to_string();
        let of = Options::default;
        assert!(error(&of()).contains("0 bytes, expected whole blocks"));
        file.set_len(5000).unwrap();
        assert!(error(&of()).contains("5000 bytes"));
        for block in [0, 256, 1000, 8192] {
            assert!(error(&of().with_block(block)).contains("blocks of"));
        }
        assert!(error(&of().with_salt(vec![0; 257])).contains("salt of 257"));
        assert_eq!(file.metadata().unwrap().len(), 5000);
    }
}
