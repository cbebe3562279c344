// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! fs-verity digests as the kernel has them of a file, computed without it: for blocks of 4096 bytes, sha256 and no salt,
//! which is what `fsverity enable` takes unless it is told otherwise.
//!
//! The blocks of the file are hashed, their hashes written into blocks that are hashed again, and so on until one hash is
//! left. That, with the size and how it came about, makes the descriptor, of which the digest is the sha256.
//!
//! ```
//! use ferofs::digest::verity::Digest;
//!
//! let digest = Digest::of(b"");
//! assert!(digest.to_string().starts_with("3d248ca5"));
//! assert_eq!(Digest::of_tag(&digest.tag()), Some(digest));
//! ```

use super::Sum;
use data_encoding::BASE64URL_NOPAD;
use data_encoding::HEXLOWER;
use erofs_format::DeviceSlot;
use erofs_format::VerityTag;
use sha2::Digest as _;
use sha2::Sha256;
use std::fmt;

/// The size of a block, of the file and of hashes.
const BLOCK: usize = 1 << BLOCK_BITS;
const BLOCK_BITS: u8 = 12;

/// An fs-verity digest by sha256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of a file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut tree = Tree::default();
        tree.update(bytes);
        tree.finish()
    }

    /// The digest that the tag of a device slot says. None if it says something else.
    pub fn of_tag(tag: &[u8; 64]) -> Option<Self> {
        let slot = DeviceSlot {
            tag: *tag,
            blocks: 0,
            uniaddr: 0,
        };
        match slot.verity()? {
            VerityTag::Sha256(digest) => Some(Digest(digest)),
            VerityTag::Unknown => None,
        }
    }

    /// The tag of a device slot that says it.
    pub fn tag(&self) -> [u8; 64] {
        let digest = BASE64URL_NOPAD.encode(&self.0);
        let text = VerityTag::SHA256.iter().copied().chain(digest.into_bytes());
        let mut tag = [0; 64];
        tag.iter_mut().zip(text).for_each(|(to, from)| *to = from);
        tag
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fsverity-sha256:{self}")
    }
}

/// A file's tree as it grows: of each level only the block that is not full yet.
#[derive(Default)]
pub(super) struct Tree {
    /// That of the file itself comes first.
    levels: Vec<Level>,
    size: u64,
}

/// A level of the tree.
#[derive(Default)]
struct Level {
    block: Vec<u8>,
    /// How many bytes it has had in all.
    size: u64,
}

impl Tree {
    /// Puts bytes behind those of a level, and the hashes of blocks that are full behind those of the next.
    fn put(&mut self, level: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.levels.len() <= level {
                self.levels.resize_with(level + 1, Level::default);
            }
            let Some(here) = self.levels.get_mut(level) else {
                return;
            };
            let room = BLOCK.saturating_sub(here.block.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            here.size = here.size.saturating_add(now.len() as u64);
            bytes = later;
            let hash = match (here.block.is_empty(), now.len()) {
                // Where it lies already.
                (true, BLOCK) => Sha256::digest(now),
                _ => {
                    here.block.extend_from_slice(now);
                    if here.block.len() < BLOCK {
                        return;
                    }
                    let hash = Sha256::digest(&here.block);
                    here.block.clear();
                    hash
                }
            };
            self.put(level + 1, &hash);
        }
    }

    /// The one hash that is left of all. For no bytes at all it is zero.
    fn root(&mut self) -> [u8; 32] {
        for level in 0.. {
            let Some(here) = self.levels.get_mut(level) else {
                break;
            };
            if level > 0 && here.size == 32 {
                let root = here.block.first_chunk();
                return root.copied().unwrap_or_default();
            }
            if !here.block.is_empty() {
                here.block.resize(BLOCK, 0);
                let hash = Sha256::digest(&here.block);
                self.put(level + 1, &hash);
            }
        }
        [0; 32]
    }
}

impl Sum for Tree {
    type Digest = Digest;

    fn update(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.put(0, bytes);
    }

    fn finish(mut self) -> Digest {
        let root = self.root();
        let descriptor = [
            // Its version, the number of sha256, no salt and no signature.
            [1, 1, BLOCK_BITS, 0, 0, 0, 0, 0].as_slice(),
            &self.size.to_le_bytes(),
            &root,
            // The rest of the room for the root hash, the salt, and what is reserved.
            &[0; 32 + 32 + 144],
        ];
        Digest(Sha256::digest(descriptor.concat()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `fsverity digest` says of files with so many bytes, each of which is its position modulo 251.
    const KNOWN: &[(usize, &str)] = &[
        (
            0,
            "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
        ),
        (
            1,
            "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551",
        ),
        (
            4_095,
            "5f4953aad672b0188023d6cd6fbce9d09508eb7dad165b6298ce0086bc1e72db",
        ),
        (
            4_096,
            "13e9b8848ae484a36acb3f3cac0ceb2f7601e96633d15c92f9bd3dd44e492157",
        ),
        (
            4_097,
            "b0d074abef4d544404facfab6ba242f6a8ccbde90f1325cd286f3c8aa8d0f8aa",
        ),
        (
            524_288,
            "d82861203d50ae9b60948504a704f35f5118bd229aeb1a22d6dae47b1767c4c4",
        ),
        (
            524_289,
            "4dc6905041c9c4ee73e13b53f63f5d289c46da359b664a965ead7f8cc4d799d4",
        ),
        (
            528_384,
            "dd56ffe5de24c1229fe22d25f91db9e735f6adc921510dcf480094624458c92a",
        ),
        (
            67_108_864,
            "196650e8bd05f8516c0ede56deeb4d1ff2be9809dc2d827261db4a7773957567",
        ),
        (
            67_113_864,
            "bf9b84c57aefd7672de9a0c88516af9d3b94ae74b63a39b55f2079b073517795",
        ),
    ];

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn digests_are_those_of_the_fsverity_command() {
        for (len, expected) in KNOWN {
            assert_eq!(Digest::of(&content(*len)).to_string(), *expected, "{len}");
        }
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_bytes_come() {
        let bytes = content(1_000_000);
        let expected = Digest::of(&bytes);
        for piece in [1, 100, 4095, 4096, 4097, 8192, 600_000] {
            let mut tree = Tree::default();
            bytes.chunks(piece).for_each(|piece| tree.update(piece));
            assert_eq!(tree.finish(), expected, "{piece}");
        }
    }

    #[test]
    fn tags_are_read_as_they_are_written() {
        for bytes in [[0; 32], [0xff; 32], std::array::from_fn(|at| at as u8 * 7)] {
            let digest = Digest(bytes);
            let tag = digest.tag();
            assert!(tag.starts_with(b"fsverity-sha256:"));
            assert_eq!(Digest::of_tag(&tag), Some(digest));
            // The letters after those are padding.
            assert_eq!(tag[59..], [0; 5]);
        }
        let mut sha256 = [0; 64];
        sha256.copy_from_slice(super::super::Digest::of(b"").to_string().as_bytes());
        assert_eq!(Digest::of_tag(&sha256), None);
    }
}
