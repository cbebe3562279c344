// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An EROFS image in memory, taken apart by the published format.
//!
//! `mutate` and `corrupt` use it to find what they spoil. It reads sound images; of others it gives as
//! much as it can find. Reading past the end gives zeros.

use std::collections::HashSet;

/// Where the superblock begins.
pub const SUPERBLOCK: usize = 1024;

/// Offsets of fields in the superblock, from its beginning.
pub mod superblock {
    pub const MAGIC: usize = 0;
    pub const CHECKSUM: usize = 4;
    pub const COMPAT: usize = 8;
    pub const BLOCK_BITS: usize = 12;
    pub const EXTSLOTS: usize = 13;
    pub const ROOT_NID: usize = 14;
    pub const META_BLOCK: usize = 40;
    pub const BLOCKS: usize = 36;
    pub const INCOMPAT: usize = 80;
    pub const DEVICES: usize = 86;
    pub const DEVICE_SLOT: usize = 88;
    pub const DIR_BLOCK_BITS: usize = 90;
    pub const PACKED_NID: usize = 96;
    pub const ROOT_NID_48: usize = 112;

    /// Every field, as offset and size.
    pub const FIELDS: &[(usize, usize)] = &[
        (0, 4),
        (4, 4),
        (8, 4),
        (12, 1),
        (13, 1),
        (14, 2),
        (16, 8),
        (24, 8),
        (32, 4),
        (36, 4),
        (40, 4),
        (44, 4),
        (80, 4),
        (84, 2),
        (86, 2),
        (88, 2),
        (90, 1),
        (91, 1),
        (92, 4),
        (96, 8),
        (104, 1),
        (105, 1),
        (108, 4),
        (112, 8),
        (128, 8),
    ];
}

/// Offsets of fields in an inode that both forms have in the same place.
pub mod inode {
    pub const FORMAT: usize = 0;
    pub const XATTR_COUNT: usize = 2;
    pub const MODE: usize = 4;
    pub const SIZE: usize = 8;
    /// Of the 32-byte form: the link count, or the upper part of the start block.
    pub const COMPACT_LINKS: usize = 6;
    pub const COMPACT_MTIME: usize = 12;
    /// Of the 32-byte form, and of the 64-byte form.
    pub const COMPACT_FIELDS: &[(usize, usize)] = &[
        (0, 2),
        (2, 2),
        (4, 2),
        (6, 2),
        (8, 4),
        (12, 4),
        (16, 4),
        (16, 2),
        (20, 4),
        (24, 2),
        (26, 2),
        (28, 4),
    ];
    pub const EXTENDED_FIELDS: &[(usize, usize)] = &[
        (0, 2),
        (2, 2),
        (4, 2),
        (6, 2),
        (8, 8),
        (16, 4),
        (16, 2),
        (20, 4),
        (24, 4),
        (28, 4),
        (32, 8),
        (40, 4),
        (44, 4),
        (48, 8),
    ];
}

const INCOMPAT_48BIT: u64 = 0x80;
const COMPAT_CHECKSUM: u64 = 0x1;
const DEVICE_SLOT_SIZE: usize = 128;

/// Where the number lies that an inode of this layout has at offset 16: a start block or a chunk format.
pub const LAYOUT_FIELD: usize = 16;

/// The layouts of inodes that the tests use.
pub mod layout {
    pub const PLAIN: u16 = 0;
    pub const COMPRESSED_FULL: u16 = 1;
    pub const INLINE: u16 = 2;
    pub const COMPRESSED_COMPACT: u16 = 3;
    pub const CHUNKS: u16 = 4;
}

/// The bytes of an image.
#[derive(Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
}

/// An inode that some path leads to.
#[derive(Clone, Debug)]
pub struct Node {
    pub path: Vec<u8>,
    pub nid: u64,
    /// Byte offset of the inode in the image.
    pub pos: usize,
    pub extended: bool,
    pub layout: u16,
    pub mode: u16,
    pub size: u64,
    pub dirents: Vec<Dirent>,
    /// Byte offset and count of its chunk map's entries, and the size of one.
    pub chunks: Option<(usize, usize, usize)>,
}

/// A directory entry.
#[derive(Clone, Debug)]
pub struct Dirent {
    /// Byte offset of its 12 bytes.
    pub pos: usize,
    pub nid: u64,
    /// Byte offset of the block, in the image, that holds it.
    pub block: usize,
    pub name_pos: usize,
    pub name_len: usize,
}

impl Node {
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170000 == 0o040000
    }

    pub fn is_file(&self) -> bool {
        self.mode & 0o170000 == 0o100000
    }

    pub fn is_symlink(&self) -> bool {
        self.mode & 0o170000 == 0o120000
    }
}

impl Image {
    pub fn new(bytes: Vec<u8>) -> Self {
        Image { bytes }
    }

    /// The little-endian number of `size` bytes at `pos`.
    pub fn get(&self, pos: usize, size: usize) -> u64 {
        let mut number = [0; 8];
        for (index, byte) in number.iter_mut().take(size).enumerate() {
            *byte = pos
                .checked_add(index)
                .and_then(|pos| self.bytes.get(pos))
                .copied()
                .unwrap_or(0);
        }
        u64::from_le_bytes(number)
    }

    /// Stores a number of `size` bytes at `pos`, as far as the image reaches.
    pub fn put(&mut self, pos: usize, size: usize, value: u64) {
        for (index, byte) in value.to_le_bytes().iter().take(size).enumerate() {
            if let Some(place) = pos
                .checked_add(index)
                .and_then(|pos| self.bytes.get_mut(pos))
            {
                *place = *byte;
            }
        }
    }

    pub fn sb(&self, field: usize, size: usize) -> u64 {
        self.get(SUPERBLOCK + field, size)
    }

    pub fn put_sb(&mut self, field: usize, size: usize, value: u64) {
        self.put(SUPERBLOCK + field, size, value);
    }

    pub fn block_size(&self) -> usize {
        1 << self.sb(superblock::BLOCK_BITS, 1).clamp(9, 16)
    }

    pub fn root_nid(&self) -> u64 {
        if self.sb(superblock::INCOMPAT, 4) & INCOMPAT_48BIT != 0 {
            self.sb(superblock::ROOT_NID_48, 8)
        } else {
            self.sb(superblock::ROOT_NID, 2)
        }
    }

    /// Byte offset of the inode `nid`.
    pub fn inode_pos(&self, nid: u64) -> usize {
        let meta = self
            .sb(superblock::META_BLOCK, 4)
            .wrapping_mul(self.block_size() as u64);
        meta.wrapping_add(nid.wrapping_mul(32)) as usize
    }

    /// Byte offsets of the device slots.
    pub fn device_slots(&self) -> Vec<usize> {
        let first = self.sb(superblock::DEVICE_SLOT, 2) as usize * DEVICE_SLOT_SIZE;
        (0..self.sb(superblock::DEVICES, 2) as usize)
            .map(|slot| first + slot * DEVICE_SLOT_SIZE)
            .collect()
    }

    /// Makes the superblock's checksum right again if the image has one.
    pub fn repair_checksum(&mut self) {
        if self.sb(superblock::COMPAT, 4) & COMPAT_CHECKSUM != 0 {
            let sum = self.checksum();
            self.put_sb(superblock::CHECKSUM, 4, sum.into());
        }
    }

    fn checksum(&self) -> u32 {
        let block = self.block_size();
        let length = if block > SUPERBLOCK {
            block - SUPERBLOCK
        } else {
            block
        };
        let start = (SUPERBLOCK + superblock::CHECKSUM + 4).min(self.bytes.len());
        let end = (SUPERBLOCK + length).clamp(start, self.bytes.len());
        crc32c(0x5045_b54a, &self.bytes[start..end])
    }

    /// Every inode that the tree leads to, once, the root first.
    pub fn nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut seen = HashSet::new();
        let mut pending = vec![(b".".to_vec(), self.root_nid())];
        while let Some((path, nid)) = pending.pop() {
            if !seen.insert(nid) || nodes.len() > 100_000 {
                continue;
            }
            let node = self.node(path, nid);
            for dirent in &node.dirents {
                let name = self.name(dirent);
                if name != b"." && name != b".." {
                    pending.push(([&node.path[..], b"/", name].concat(), dirent.nid));
                }
            }
            nodes.push(node);
        }
        nodes
    }

    /// The bytes of an entry's name.
    pub fn name(&self, dirent: &Dirent) -> &[u8] {
        self.bytes
            .get(dirent.name_pos..dirent.name_pos + dirent.name_len)
            .unwrap_or(&[])
    }

    fn node(&self, path: Vec<u8>, nid: u64) -> Node {
        let pos = self.inode_pos(nid);
        let format = self.get(pos + inode::FORMAT, 2) as u16;
        let extended = format & 1 != 0;
        let mut node = Node {
            path,
            nid,
            pos,
            extended,
            layout: (format >> 1) & 7,
            mode: self.get(pos + inode::MODE, 2) as u16,
            size: self.get(pos + inode::SIZE, if extended { 8 } else { 4 }),
            dirents: Vec::new(),
            chunks: None,
        };
        if node.is_dir() {
            node.dirents = self.dirents(&node);
        } else if node.layout == layout::CHUNKS {
            node.chunks = self.chunks(&node);
        }
        node
    }

    /// Where the bytes behind the inode and its inline xattrs begin.
    pub fn behind(&self, node: &Node) -> usize {
        let count = self.get(node.pos + inode::XATTR_COUNT, 2) as usize;
        let xattrs = if count == 0 { 0 } else { 12 + 4 * (count - 1) };
        node.pos + if node.extended { 64 } else { 32 } + xattrs
    }

    fn chunks(&self, node: &Node) -> Option<(usize, usize, usize)> {
        let format = self.get(node.pos + LAYOUT_FIELD, 2);
        let bits = (format & 0x1f) + self.sb(superblock::BLOCK_BITS, 1);
        let count = if bits < 63 {
            node.size.div_ceil(1 << bits)
        } else {
            1
        };
        let entry = if format & 0x20 != 0 { 8 } else { 4 };
        let start = self.behind(node).next_multiple_of(entry);
        let count = usize::try_from(count).ok()?.min(self.bytes.len() / entry);
        (count > 0).then_some((start, count, entry))
    }

    fn dirents(&self, node: &Node) -> Vec<Dirent> {
        let block_size = self.block_size();
        let start = self.get(node.pos + LAYOUT_FIELD, 4) as usize * block_size;
        let size = usize::try_from(node.size)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        let mut all = Vec::new();
        for offset in (0..size).step_by(block_size) {
            let length = block_size.min(size - offset);
            let inline =
                node.layout == layout::INLINE && length + offset == size && length < block_size;
            let block = if inline {
                self.behind(node)
            } else {
                start + offset
            };
            self.block_dirents(block, length, &mut all);
        }
        all
    }

    fn block_dirents(&self, block: usize, length: usize, all: &mut Vec<Dirent>) {
        let count = (self.get(block + 8, 2) as usize).min(length) / 12;
        for index in 0..count {
            let pos = block + index * 12;
            let name = self.get(pos + 8, 2) as usize;
            let end = if index + 1 < count {
                self.get(pos + 20, 2) as usize
            } else {
                length
            };
            let raw = self.bytes.get(block + name..block + end).unwrap_or(&[]);
            let name_len = raw.iter().position(|&byte| byte == 0).unwrap_or(raw.len());
            all.push(Dirent {
                pos,
                nid: self.get(pos, 8),
                block,
                name_pos: block + name,
                name_len,
            });
        }
    }
}

/// CRC-32C as the kernel's `crc32c()` continues it: no inversion before or after.
fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_check_value() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }
}
