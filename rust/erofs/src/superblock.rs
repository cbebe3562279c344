// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The superblock: decoded and checked once at mount, then carried along by every other call.

use super::checksum;
use super::compressed::algorithm;
use super::compression;
use super::error::{Error, Result};
use super::metadata::{Cursor, Metadata, Space};
use super::ondisk;
use super::ondisk::{compat, incompat};
use zerocopy::byteorder::little_endian::U32;

/// An image's superblock.
///
/// # Invariants
///
/// - The block size is a power of two from 512 bytes to 64 KiB.
/// - The device table lies within the image.
/// - The image uses no feature this crate does not know, nor one that makes all of it unreadable.
#[derive(Clone, Copy, Debug)]
pub struct Superblock {
    block_bits: u8,
    xattr_filter: bool,
    xattr_prefix_count: u8,
    ishare_prefix: Option<u8>,
    device_count: u16,
    compat: u32,
    incompat: u32,
    checksum: u32,
    fixed_nsec: u32,
    build_time: u32,
    size: u32,
    epoch: i64,
    root_nid: u64,
    packed_nid: u64,
    inodes: u64,
    blocks: u64,
    meta_pos: u64,
    xattr_pos: u64,
    xattr_prefix_pos: u64,
    device_table_pos: u64,
    algorithms: u16,
    metabox_nid: Option<u64>,
    uuid: [u8; 16],
    volume_name: [u8; 16],
}

impl Superblock {
    /// Reads and checks the superblock. `max_block_bits` is the largest block size, as a power of
    /// two, that the caller can handle: the page size for the kernel.
    ///
    /// # Errors
    ///
    /// - [`Error::NotErofs`] if the magic is missing.
    /// - [`Error::Corrupt`] if the block size, the checksum, or what the superblock says of itself
    ///   or of the device table is wrong.
    /// - [`Error::Unsupported`] if blocks are larger than `max_block_bits`, and for unknown algorithms and incompatible
    ///   features.
    /// - [`Error::Io`] if the metadata cannot be read.
    #[inline(never)]
    pub fn read<M: Metadata>(meta: &M, max_block_bits: u8) -> Result<Self, M::Error> {
        let at = ondisk::SUPER_OFFSET;
        let mut cursor = Cursor::new(meta);
        let magic_end = at.saturating_add(size_of::<U32>() as u64);
        if meta.size() < magic_end
            || cursor
                .read_struct::<U32>(at, "superblock ends beyond the image")?
                .get()
                != ondisk::SUPER_MAGIC
        {
            return Err(Error::NotErofs);
        }
        let disk: ondisk::Superblock =
            cursor.read_struct(at, "superblock ends beyond the image")?;
        if !(ondisk::BLOCK_BITS_MIN..=ondisk::BLOCK_BITS_MAX).contains(&disk.blkszbits) {
            return Err(Error::corrupt("superblock's block size is invalid", at));
        }
        if disk.blkszbits > max_block_bits {
            let bits = u32::from(disk.blkszbits);
            return Err(Error::unsupported(
                "block size above the page size",
                bits,
                ondisk::SUPER_OFFSET,
            ));
        }
        if disk.dirblkbits != 0 {
            let bits = u32::from(disk.dirblkbits);
            return Err(Error::unsupported(
                "directory block size",
                bits,
                ondisk::SUPER_OFFSET,
            ));
        }
        if disk.feature_compat.get() & compat::SB_CHKSUM != 0 {
            verify_checksum(meta, &disk)?;
        }
        refuse_features(&disk)?;
        let extension = if disk.sb_extslots > 0 {
            let at = at.wrapping_add(size_of::<ondisk::Superblock>() as u64);
            Some(cursor.read_struct(at, "superblock ends beyond the image")?)
        } else {
            None
        };
        Self::decode_checked(&disk, extension, meta.size(), max_block_bits)
    }

    /// What follows once it is known that these bytes are a superblock, and of which features.
    fn decode_checked<E>(
        disk: &ondisk::Superblock,
        extension_fields: Option<ondisk::SuperblockExtension>,
        image_size: u64,
        max_block_bits: u8,
    ) -> Result<Self, E> {
        let at = ondisk::SUPER_OFFSET;
        let corrupt = |what| Err(Error::corrupt(what, at));
        let block_size = 1u64.wrapping_shl(u32::from(disk.blkszbits));
        let compat = disk.feature_compat.get();
        let incompat = disk.feature_incompat.get();

        let extension = u64::from(disk.sb_extslots).wrapping_mul(ondisk::SUPER_EXTSLOT_SIZE);
        let size = extension.wrapping_add(size_of::<ondisk::Superblock>() as u64);
        let end = at.wrapping_add(size);
        if end > 1u64.wrapping_shl(u32::from(max_block_bits)).max(4096) || end > image_size {
            return corrupt("superblock has too many extension slots");
        }
        if disk.fixed_nsec.get() >= NSEC_PER_SEC {
            return corrupt("superblock's nanoseconds are a second or more");
        }

        let blocks_lo = u64::from(disk.blocks_lo.get());
        let (root_nid, blocks) =
            if incompat & incompat::LAYOUT_48BIT != 0 && disk.rootnid_8b.get() != 0 {
                let blocks_hi = u64::from(disk.rootnid_2b.get());
                (disk.rootnid_8b.get(), blocks_lo | (blocks_hi << 32))
            } else {
                (u64::from(disk.rootnid_2b.get()), blocks_lo)
            };

        let device_count = if incompat & incompat::DEVICE_TABLE != 0 {
            disk.extra_devices.get()
        } else {
            0
        };
        let device_table_pos =
            u64::from(disk.devt_slotoff.get()).wrapping_mul(ondisk::DEVICE_SLOT_SIZE);
        let device_table_size = u64::from(device_count).wrapping_mul(ondisk::DEVICE_SLOT_SIZE);
        if device_count > 0 && device_table_pos.wrapping_add(device_table_size) > image_size {
            return corrupt("superblock's device table ends beyond the image");
        }

        let ishare_prefix =
            (compat & compat::ISHARE_XATTRS != 0).then_some(disk.ishare_xattr_prefix_id);
        if ishare_prefix.is_some_and(|id| id >= disk.xattr_prefix_count) {
            return corrupt("superblock's attribute prefix for sharing does not exist");
        }

        let metabox_nid = match extension_fields {
            Some(fields) if incompat & incompat::METABOX != 0 => Some(fields.metabox_nid.get()),
            None if incompat & incompat::METABOX != 0 => {
                return corrupt("superblock is too short to name the metabox");
            }
            _ => None,
        };
        if metabox_nid.is_some_and(|nid| nid & ondisk::NID_METABOX != 0) {
            return corrupt("superblock's metabox lies in itself");
        }
        let algorithms = compression::algorithms(disk);
        if algorithms & !algorithm::ALL != 0 {
            let bits = u32::from(algorithms & !algorithm::ALL);
            return Err(Error::unsupported("compression algorithm", bits, at));
        }

        // INVARIANT: the block size was checked by the caller, the device table above, the features
        // by the caller.
        Ok(Self {
            block_bits: disk.blkszbits,
            xattr_filter: compat & compat::XATTR_FILTER != 0 && disk.xattr_filter_reserved == 0,
            xattr_prefix_count: disk.xattr_prefix_count,
            ishare_prefix,
            device_count,
            compat,
            incompat,
            checksum: disk.checksum.get(),
            fixed_nsec: disk.fixed_nsec.get(),
            build_time: disk.build_time.get(),
            size: size as u32,
            epoch: disk.epoch.get() as i64,
            root_nid,
            packed_nid: disk.packed_nid.get(),
            inodes: disk.inos.get(),
            blocks,
            // Block numbers of 32 bits times at most 64 KiB fit.
            meta_pos: u64::from(disk.meta_blkaddr.get()).wrapping_mul(block_size),
            xattr_pos: u64::from(disk.xattr_blkaddr.get()).wrapping_mul(block_size),
            xattr_prefix_pos: u64::from(disk.xattr_prefix_start.get()).wrapping_mul(4),
            device_table_pos,
            algorithms,
            metabox_nid,
            uuid: disk.uuid,
            volume_name: disk.volume_name,
        })
    }

    /// Block size as a power of two.
    pub fn block_bits(&self) -> u8 {
        self.block_bits
    }

    /// Block size in bytes.
    pub fn block_size(&self) -> u32 {
        1u32.wrapping_shl(u32::from(self.block_bits))
    }

    /// Number of blocks in the image itself, without further devices.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// nid of the root directory.
    pub fn root_nid(&self) -> u64 {
        self.root_nid
    }

    /// nid of the packed inode, if there is one.
    pub fn packed_nid(&self) -> Option<u64> {
        (self.incompat & incompat::FRAGMENTS != 0 && self.packed_nid != 0)
            .then_some(self.packed_nid)
    }

    /// Number of inodes.
    pub fn inodes(&self) -> u64 {
        self.inodes
    }

    /// UUID of the volume; zeros if it has none.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Label of the volume, without padding; empty if it has none.
    pub fn volume_name(&self) -> &[u8] {
        until_nul(&self.volume_name)
    }

    /// When the image was built, in seconds since 1970.
    pub fn build_time(&self) -> i64 {
        self.epoch.wrapping_add(i64::from(self.build_time))
    }

    /// Seconds since 1970 that times in compact inodes are relative to.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Nanoseconds of every time in a compact inode, and of [`Self::build_time`].
    pub fn fixed_nsec(&self) -> u32 {
        self.fixed_nsec
    }

    /// Compatible features: bits of [`compat`].
    pub fn compat(&self) -> u32 {
        self.compat
    }

    /// Incompatible features: bits of [`incompat`].
    pub fn incompat(&self) -> u32 {
        self.incompat
    }

    /// The checksum, which was right, if the image has one.
    pub fn checksum(&self) -> Option<u32> {
        (self.compat & compat::SB_CHKSUM != 0).then_some(self.checksum)
    }

    /// Size of the superblock with its extension slots, in bytes.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Algorithms that data may be compressed with, as bits of [`Algorithm::bit`](super::Algorithm::bit).
    pub fn algorithms(&self) -> u16 {
        self.algorithms
    }

    /// Whether LZ4 data has zeros in front, and ends where its physical cluster does. If not, which only images older than
    /// Linux 5.3 are, it starts where the cluster does, and what is behind its end means nothing.
    pub fn lz4_is_padded(&self) -> bool {
        self.incompat & incompat::LZ4_0PADDING != 0
    }

    /// Whether there may be physical clusters of more than a block.
    pub(super) fn has_big_pclusters(&self) -> bool {
        self.incompat & incompat::BIG_PCLUSTER != 0
    }

    /// nid of the inode that metadata lies in, if there is one. It is not in itself.
    pub fn metabox_nid(&self) -> Option<u64> {
        self.metabox_nid
    }

    /// What shared attributes lie in.
    pub(super) fn shared_xattr_space(&self) -> Space {
        match self.metabox_nid {
            Some(nid) if self.compat & compat::SHARED_EA_IN_METABOX != 0 => Space::Inode(nid),
            _ => Space::Image,
        }
    }

    /// Where nid 0 is, in bytes.
    pub fn meta_pos(&self) -> u64 {
        self.meta_pos
    }

    /// Where shared attribute 0 is, in bytes.
    pub fn xattr_pos(&self) -> u64 {
        self.xattr_pos
    }

    /// Number of long attribute name prefixes.
    pub fn xattr_prefix_count(&self) -> u8 {
        self.xattr_prefix_count
    }

    /// Where long attribute name prefix 0 is, in bytes from the start of what holds them.
    pub(super) fn xattr_prefix_pos(&self) -> u64 {
        self.xattr_prefix_pos
    }

    /// Whether attribute bodies have a name filter that this crate understands.
    pub fn has_xattr_filter(&self) -> bool {
        self.xattr_filter
    }

    /// Which long attribute name prefix names the content of files that can share a page cache.
    pub fn ishare_prefix(&self) -> Option<u8> {
        self.ishare_prefix
    }

    /// Number of devices besides the image itself.
    pub fn device_count(&self) -> u16 {
        self.device_count
    }

    /// Where the device table is, in bytes.
    pub fn device_table_pos(&self) -> u64 {
        self.device_table_pos
    }

    /// Bits of a chunk's device id that count: as many as the number of devices needs.
    pub(super) fn device_id_mask(&self) -> u16 {
        u16::MAX
            .checked_shr(self.device_count.leading_zeros())
            .unwrap_or(0)
    }

    /// Whether block addresses and counts of 48 bits may occur.
    pub(super) fn has_48bit(&self) -> bool {
        self.incompat & incompat::LAYOUT_48BIT != 0
    }

    /// The bits of a block size that are below it.
    pub(super) fn block_mask(&self) -> u64 {
        u64::from(self.block_size()).wrapping_sub(1)
    }

    /// Position of a block in bytes, unless it is out of any file's reach.
    pub(super) fn block_pos(&self, block: u64) -> Option<u64> {
        block
            .checked_mul(u64::from(self.block_size()))
            .filter(|&pos| pos <= POSITION_MAX)
    }
}

/// Nanoseconds in a second.
pub(super) const NSEC_PER_SEC: u32 = 1_000_000_000;

/// Largest position in a file, and size of one: what the kernel's `loff_t` can hold.
pub(super) const POSITION_MAX: u64 = i64::MAX as u64;

/// The part of `bytes` before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The checksum of a superblock: `block` is what its block holds from
/// [`ondisk::SUPER_OFFSET`] on, up to the block's end; the checksum field is left out.
pub fn superblock_checksum(block: &[u8]) -> u32 {
    let behind = block.get(CHECKSUM_END..).unwrap_or_default();
    checksum::crc32c(checksum::SUPERBLOCK_SEED, behind)
}

/// Where the checksum starts, in bytes from the start of the superblock.
const CHECKSUM_END: usize = 8;

/// How many bytes from [`ondisk::SUPER_OFFSET`] on the checksum is for: to the end of the block
/// that holds the superblock. (With blocks of 1 KiB or less, the superblock starts one.)
pub fn superblock_checksum_size(block_bits: u8) -> u64 {
    let block_size = 1u64.wrapping_shl(u32::from(block_bits));
    if block_size > ondisk::SUPER_OFFSET {
        block_size.wrapping_sub(ondisk::SUPER_OFFSET)
    } else {
        block_size
    }
}

/// Compares the checksum in `disk` with that of the bytes it covers.
fn verify_checksum<M: Metadata>(meta: &M, disk: &ondisk::Superblock) -> Result<(), M::Error> {
    let at = ondisk::SUPER_OFFSET;
    let end = at.wrapping_add(superblock_checksum_size(disk.blkszbits));
    let mut pos = at.wrapping_add(CHECKSUM_END as u64);
    let mut crc = checksum::SUPERBLOCK_SEED;
    while pos < end {
        let bytes = meta.bytes(Space::Image, pos).map_err(Error::Io)?;
        let wanted = usize::try_from(end.wrapping_sub(pos)).unwrap_or(usize::MAX);
        let piece = bytes.get(..wanted).unwrap_or(&bytes);
        if piece.is_empty() {
            return Err(Error::corrupt("superblock's block is cut off", at));
        }
        crc = checksum::crc32c(crc, piece);
        pos = pos.wrapping_add(piece.len() as u64);
    }
    if crc != disk.checksum.get() {
        return Err(Error::corrupt("superblock's checksum is wrong", at));
    }
    Ok(())
}

/// Refuses images with features this crate does not know.
fn refuse_features<E>(disk: &ondisk::Superblock) -> Result<(), E> {
    let bits = disk.feature_incompat.get();
    let unknown = bits & !incompat::ALL;
    if unknown != 0 {
        return Err(Error::unsupported(
            "unknown incompatible feature",
            unknown,
            ondisk::SUPER_OFFSET,
        ));
    }
    Ok(())
}
