// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `mutate`: spoils an image, reproducibly from a seed, with an eye for what its bytes mean.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;

use crate::image::Image;
use crate::image::Node;
use crate::image::SUPERBLOCK;
use crate::image::inode;
use crate::image::superblock;
use crate::random::Random;

/// Writes a spoiled copy of an image.
#[derive(clap::Args)]
pub struct Args {
    image: PathBuf,
    out: PathBuf,
    /// Which of the mutations.
    #[arg(long)]
    seed: u64,
    /// Which of its changes are made, as a sum of 1, 2, 4, 8 and 16 for the first to the fifth; all if not given.
    #[arg(long, default_value_t = u32::MAX)]
    changes: u32,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let bytes = std::fs::read(&args.image).with_context(|| args.image.display().to_string())?;
    let spoiled = Base::new(bytes).changed(args.seed, args.changes);
    std::fs::write(&args.out, spoiled).with_context(|| args.out.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// A sound image and what is where in it.
pub struct Base {
    image: Image,
    nodes: Vec<Node>,
}

impl Base {
    pub fn new(bytes: Vec<u8>) -> Self {
        let image = Image::new(bytes);
        let nodes = image.nodes();
        Base { image, nodes }
    }

    /// The image that belongs to `seed`, with those of its changes alone whose bits are set in `changes`, the first in the
    /// lowest: what is left out may not have mattered.
    pub fn changed(&self, seed: u64, changes: u32) -> Vec<u8> {
        let mut random = Random::new(seed);
        let mut image = self.image.clone();
        // One change finds the check that is missing; several find checks that rely on each other.
        let count = if random.one_in(2) {
            1
        } else {
            2 + random.below(4)
        };
        for number in 0..count {
            let before = ((changes >> number) & 1 == 0).then(|| image.clone());
            self.change(&mut image, &mut random);
            image = before.unwrap_or(image);
        }
        if !random.one_in(10) {
            image.repair_checksum();
        }
        image.bytes
    }

    fn change(&self, image: &mut Image, random: &mut Random) {
        match random.below(100) {
            0..10 => self.superblock_field(image, random),
            10..35 => self.inode_field(image, random),
            35..60 => self.dirent(image, random),
            60..75 if self.nodes.iter().any(is_compressed) => self.clusters(image, random),
            60..75 => self.chunk(image, random),
            // What is decoded must be wrong now and then.
            75..79 if self.nodes.iter().any(is_compressed) => flip(image, random),
            75..79 => self.device_slot(image, random),
            79..88 => flip(image, random),
            88..93 => self.behind_inode(image, random),
            93..97 => swap_blocks(image, random),
            _ => resize(image, random),
        }
    }

    fn superblock_field(&self, image: &mut Image, random: &mut Random) {
        let (offset, size) = *random.pick(superblock::FIELDS);
        extreme(image, random, SUPERBLOCK + offset, size);
    }

    fn inode_field(&self, image: &mut Image, random: &mut Random) {
        let node = random.pick(&self.nodes);
        let fields = if node.extended {
            inode::EXTENDED_FIELDS
        } else {
            inode::COMPACT_FIELDS
        };
        let (offset, size) = *random.pick(fields);
        extreme(image, random, node.pos + offset, size);
    }

    fn dirent(&self, image: &mut Image, random: &mut Random) {
        let dirs: Vec<&Node> = self
            .nodes
            .iter()
            .filter(|node| !node.dirents.is_empty())
            .collect();
        if dirs.is_empty() {
            return flip(image, random);
        }
        let dir = *random.pick(&dirs);
        let dirent = random.pick(&dir.dirents).clone();
        match random.below(8) {
            // Cycles, links to directories, and entries whose type is not their inode's.
            0 | 1 => image.put(dirent.pos, 8, random.pick(&self.nodes).nid),
            2 => extreme(image, random, dirent.pos, 8),
            3 | 4 => extreme(image, random, dirent.pos + 8, 2),
            5 => extreme(image, random, dirent.pos + 10, 1),
            6 => {
                let byte: u8 = *random.pick(&[0, b'/', b'.', 0xff, b'A', b'z']);
                image.put(
                    dirent.name_pos + random.index(dirent.name_len.max(1)),
                    1,
                    byte.into(),
                );
            }
            // The first offset of a block says how many entries it has.
            _ => extreme(image, random, dirent.block + 8, 2),
        }
    }

    fn chunk(&self, image: &mut Image, random: &mut Random) {
        let tables: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| Some((node, node.chunks?)))
            .collect();
        if tables.is_empty() {
            return self.inode_field(image, random);
        }
        let (node, (start, count, size)) = *random.pick(&tables);
        let pos = start + random.index(count) * size;
        match random.below(6) {
            0 => extreme(image, random, node.pos + 16, 2),
            1 => image.put(node.pos + 16, 2, random.below(0x80)),
            2 if size == 8 => extreme(image, random, pos, 2),
            3 if size == 8 => extreme(image, random, pos + 2, 2),
            4 => extreme(
                image,
                random,
                node.pos + inode::SIZE,
                if node.extended { 8 } else { 4 },
            ),
            _ => extreme(image, random, pos + size - 4, 4),
        }
    }

    /// The map header of a compressed inode, or one of the indexes behind it.
    fn clusters(&self, image: &mut Image, random: &mut Random) {
        let nodes: Vec<&Node> = self
            .nodes
            .iter()
            .filter(|node| is_compressed(node))
            .collect();
        let node = *random.pick(&nodes);
        let header = self.image.behind(node).next_multiple_of(8);
        // The most there can be are indexes of 8 bytes, one for each block.
        let blocks = (node.size as usize)
            .div_ceil(self.image.block_size())
            .max(1);
        match random.below(8) {
            // Where a fragment is, the size of what is inline, the number of records.
            0 => extreme(image, random, header, 4),
            1 => extreme(image, random, header + 2, 2),
            2 => extreme(image, random, header + 4, 2),
            3 => image.put(header + 4, 2, random.below(64)),
            4 => extreme(image, random, header + 6, 1),
            5 => image.put(header + 7, 1, random.below(256)),
            6 => {
                let place = header + 8 + random.index(blocks * 2);
                extreme(image, random, place, 1);
            }
            _ => {
                let size = *random.pick(&[2, 4]);
                let place = header + 8 + random.index(8 + blocks * 8) / size * size;
                extreme(image, random, place, size);
            }
        }
    }

    fn device_slot(&self, image: &mut Image, random: &mut Random) {
        let slots = self.image.device_slots();
        if slots.is_empty() {
            return self.superblock_field(image, random);
        }
        let slot = *random.pick(&slots);
        let (offset, size) = *random.pick(&[(0, 8), (64, 4), (68, 4), (72, 2), (74, 2), (76, 8)]);
        extreme(image, random, slot + offset, size);
    }

    /// Xattr headers and entries, inline tails, chunk maps: whatever stands behind an inode.
    fn behind_inode(&self, image: &mut Image, random: &mut Random) {
        let node = random.pick(&self.nodes);
        let start = node.pos + if node.extended { 64 } else { 32 };
        let size = *random.pick(&[1, 2, 4]);
        let pos = start + random.index(48);
        extreme(image, random, pos, size);
    }
}

/// Whether the data of an inode is compressed.
fn is_compressed(node: &Node) -> bool {
    node.layout == 1 || node.layout == 3
}

/// Sets a field to a value at which careless arithmetic breaks.
fn extreme(image: &mut Image, random: &mut Random, pos: usize, size: usize) {
    let old = image.get(pos, size);
    let bits = size as u64 * 8;
    let max = u64::MAX >> (64 - bits);
    let value = match random.below(14) {
        0 => 0,
        1 => 1,
        2 => max,
        3 => max - 1,
        4 => max >> 1,
        5 => (max >> 1) + 1,
        6 => old.wrapping_add(1),
        7 => old.wrapping_sub(1),
        8 => old ^ (1 << random.below(bits)),
        9 => old.wrapping_mul(2),
        10 => old >> 1,
        11 => image.bytes.len() as u64 >> random.below(14),
        12 => random.below(4096),
        _ => random.next() >> random.below(64),
    };
    image.put(pos, size, value & max);
}

fn flip(image: &mut Image, random: &mut Random) {
    for _ in 0..=random.below(8) {
        let pos = random.index(image.bytes.len());
        let bit = random.below(8);
        image.put(pos, 1, image.get(pos, 1) ^ (1 << bit));
    }
}

/// Exchanges two blocks, or overwrites one with the other.
fn swap_blocks(image: &mut Image, random: &mut Random) {
    let size = image.block_size();
    let count = image.bytes.len() / size;
    if count < 2 {
        return flip(image, random);
    }
    let (a, b) = (random.index(count) * size, random.index(count) * size);
    let (first, second) = (
        image.bytes[a..a + size].to_vec(),
        image.bytes[b..b + size].to_vec(),
    );
    image.bytes[a..a + size].copy_from_slice(&second);
    if random.one_in(2) {
        image.bytes[b..b + size].copy_from_slice(&first);
    }
}

/// Cuts the image, at a block's end or anywhere, or lets it go on with zeros.
fn resize(image: &mut Image, random: &mut Random) {
    let length = image.bytes.len();
    let new = match random.below(4) {
        0 => random.index(length + 1),
        1 => length.saturating_sub(1 + random.index(4096)),
        2 => random.index(length + 1) / 512 * 512,
        _ => length + random.index(8192),
    };
    image.bytes.resize(new.max(1), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without its changes an image is what it was; each of them alone is a part of all.
    #[test]
    fn changes_can_be_left_out() {
        let mut bytes = vec![0; 8192];
        bytes[SUPERBLOCK..SUPERBLOCK + 4].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        let base = Base::new(bytes);
        let none = base.changed(0, 0);
        let mut different = 0;
        for seed in 0..200 {
            // The checksum apart, which is repaired for most.
            assert_eq!(base.changed(seed, 0)[..SUPERBLOCK], none[..SUPERBLOCK]);
            assert_eq!(
                base.changed(seed, 0)[SUPERBLOCK + 8..],
                none[SUPERBLOCK + 8..]
            );
            assert_eq!(base.changed(seed, 31), base.changed(seed, u32::MAX));
            different += usize::from(base.changed(seed, 1) != base.changed(seed, u32::MAX));
        }
        assert!(
            (50..150).contains(&different),
            "{different} of 200 seeds have several changes"
        );
    }

    #[test]
    fn a_seed_always_gives_the_same_image() {
        let mut bytes = vec![0; 8192];
        bytes[SUPERBLOCK..SUPERBLOCK + 4].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        let base = Base::new(bytes.clone());
        for seed in 0..200 {
            assert_eq!(base.changed(seed, u32::MAX), base.changed(seed, u32::MAX));
        }
        let changed = (0..200)
            .filter(|&seed| base.changed(seed, u32::MAX) != bytes)
            .count();
        assert!(
            changed > 150,
            "only {changed} of 200 seeds changed the image"
        );
    }
}
