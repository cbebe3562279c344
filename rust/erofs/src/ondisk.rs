// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The structures and constants of the EROFS format, byte for byte as they lie on disk.
//!
//! Nothing is checked here: every bit pattern is a valid value of these types. The rest of the crate
//! reads them and checks what it reads; the builder writes them as struct literals.
//! All numbers are little-endian and unaligned; names follow the format's own.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the superblock starts, in bytes, whatever the block size.
pub const SUPER_OFFSET: u64 = 1024;
/// [`Superblock::magic`].
pub const SUPER_MAGIC: u32 = 0xe0f5_e1e2;
/// Bytes of an extension slot behind the superblock's 128 bytes.
pub const SUPER_EXTSLOT_SIZE: u64 = 16;
/// Smallest [`Superblock::blkszbits`]: blocks of 512 bytes, the size of a tar's.
pub const BLOCK_BITS_MIN: u8 = 9;
/// Largest [`Superblock::blkszbits`] this crate can handle: 64 KiB, the largest page of any machine.
pub const BLOCK_BITS_MAX: u8 = 16;

/// Bits of [`Superblock::feature_compat`]. A reader ignores those it does not know.
pub mod compat {
    /// The superblock has a checksum.
    pub const SB_CHKSUM: u32 = 0x1;
    /// Times are modification times.
    pub const MTIME: u32 = 0x2;
    /// Attribute bodies have a name filter.
    pub const XATTR_FILTER: u32 = 0x4;
    /// Shared attributes are in the metabox inode.
    pub const SHARED_EA_IN_METABOX: u32 = 0x8;
    /// Long attribute name prefixes are in the image itself, not in the packed inode.
    pub const PLAIN_XATTR_PFX: u32 = 0x10;
    /// A long attribute name prefix names content for sharing page caches.
    pub const ISHARE_XATTRS: u32 = 0x20;
    /// Written by Nydus (RAFS v6).
    pub const RAFS_V6: u32 = 0x4000_0000;
}

/// Bits of [`Superblock::feature_incompat`]. A reader refuses those it does not know. Some bits
/// were given to two features that came together.
pub mod incompat {
    /// LZ4 data is padded in front.
    pub const LZ4_0PADDING: u32 = 0x1;
    /// Compression configurations follow the superblock; or large physical clusters.
    pub const COMPR_CFGS: u32 = 0x2;
    /// The same bit as [`COMPR_CFGS`].
    pub const BIG_PCLUSTER: u32 = 0x2;
    /// Chunk-based inodes may occur.
    pub const CHUNKED_FILE: u32 = 0x4;
    /// There may be further devices; or a second compression algorithm in one inode.
    pub const DEVICE_TABLE: u32 = 0x8;
    /// The same bit as [`DEVICE_TABLE`].
    pub const COMPR_HEAD2: u32 = 0x8;
    /// Compressed tails may be inline.
    pub const ZTAILPACKING: u32 = 0x10;
    /// There may be fragments in a packed inode; or deduplicated compressed data.
    pub const FRAGMENTS: u32 = 0x20;
    /// The same bit as [`FRAGMENTS`].
    pub const DEDUPE: u32 = 0x20;
    /// There may be long attribute name prefixes.
    pub const XATTR_PREFIXES: u32 = 0x40;
    /// Block addresses of 48 bits, a root nid of 64 bits, times in compact inodes.
    pub const LAYOUT_48BIT: u32 = 0x80;
    /// Metadata may be compressed in a metabox inode.
    pub const METABOX: u32 = 0x100;
    /// Every bit that has a meaning.
    pub const ALL: u32 = 0x1ff;
}

/// The superblock, 128 bytes at [`SUPER_OFFSET`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Superblock {
    /// [`SUPER_MAGIC`].
    pub magic: U32,
    /// crc32c over the block from [`SUPER_OFFSET`] on, taken with this field zero.
    pub checksum: U32,
    /// Bits of [`compat`].
    pub feature_compat: U32,
    /// Block size as a power of two.
    pub blkszbits: u8,
    /// Number of 16-byte slots that extend the superblock beyond 128 bytes.
    pub sb_extslots: u8,
    /// nid of the root directory; with 48-bit layout, and [`Self::rootnid_8b`] set, the upper 16
    /// bits of the number of blocks.
    pub rootnid_2b: U16,
    /// Number of inodes.
    pub inos: U64,
    /// Seconds since 1970 (signed) that times in compact inodes are relative to.
    pub epoch: U64,
    /// Nanoseconds of every time in a compact inode.
    pub fixed_nsec: U32,
    /// Number of blocks in the image itself, lower 32 bits.
    pub blocks_lo: U32,
    /// First block of the inodes.
    pub meta_blkaddr: U32,
    /// First block of the shared attributes.
    pub xattr_blkaddr: U32,
    /// UUID of the volume.
    pub uuid: [u8; 16],
    /// Label of the volume, padded with NULs.
    pub volume_name: [u8; 16],
    /// Bits of [`incompat`].
    pub feature_incompat: U32,
    /// Bitmap of compression algorithms, or the maximum distance of LZ4.
    pub available_compr_algs: U16,
    /// Number of slots in the device table.
    pub extra_devices: U16,
    /// Where the device table starts, in units of a slot (128 bytes).
    pub devt_slotoff: U16,
    /// Directory block size relative to the block size; zero.
    pub dirblkbits: u8,
    /// Number of long attribute name prefixes.
    pub xattr_prefix_count: u8,
    /// Where the long attribute name prefixes start, in units of 4 bytes.
    pub xattr_prefix_start: U32,
    /// nid of the packed inode, or zero.
    pub packed_nid: U64,
    /// Not zero if the attribute name filter has another form.
    pub xattr_filter_reserved: u8,
    /// Long attribute name prefix that names content for sharing page caches.
    pub ishare_xattr_prefix_id: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Time the image was built, in seconds relative to [`Self::epoch`].
    pub build_time: U32,
    /// nid of the root directory with 48-bit layout.
    pub rootnid_8b: U64,
    /// Zero.
    pub reserved2: U64,
}

/// Extension of the superblock that follows its 128 bytes if there is an extension slot.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SuperblockExtension {
    /// nid of the metabox inode.
    pub metabox_nid: U64,
    /// Zero.
    pub reserved3: U64,
}

/// One slot of the device table, 128 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DeviceSlot {
    /// Names the device, padded with NULs: for a blob its sha256 in hex, or its fs-verity digest (see
    /// [`VerityTag`](super::VerityTag)).
    pub tag: [u8; 64],
    /// Size of the device in blocks, lower 32 bits.
    pub blocks_lo: U32,
    /// First block of the device in the flat address space, lower 32 bits.
    pub uniaddr_lo: U32,
    /// Size of the device in blocks, upper 16 bits.
    pub blocks_hi: U16,
    /// First block of the device in the flat address space, upper 16 bits.
    pub uniaddr_hi: U16,
    /// Zero.
    pub reserved: [u8; 52],
}

/// Size of a [`DeviceSlot`], and the unit of [`Superblock::devt_slotoff`].
pub const DEVICE_SLOT_SIZE: u64 = 128;

/// Inodes start at multiples of this, which is the unit of a nid.
pub const INODE_SLOT_SIZE: u64 = 32;
/// The bit of a nid that says it lies in the metabox inode.
pub const NID_METABOX: u64 = 1 << 63;

/// Bits of `i_format`.
pub mod format {
    /// Set in an extended inode.
    pub const EXTENDED: u16 = 0x1;
    /// How far to shift right to have the data layout lowest.
    pub const LAYOUT_SHIFT: u32 = 1;
    /// Mask for the data layout once shifted.
    pub const LAYOUT_MASK: u16 = 0x7;
    /// Compact inodes that are not directories: there is one link, and `i_nb` holds the upper 16
    /// bits of the start block.
    pub const NLINK_1: u16 = 0x10;
    /// Directories: there is no entry for `.`.
    pub const DOT_OMITTED: u16 = 0x10;
    /// Every bit that has a meaning.
    pub const ALL: u16 = 0x1f;
}

/// Data layouts, as found in `i_format`.
pub mod layout {
    /// Consecutive blocks.
    pub const FLAT_PLAIN: u16 = 0;
    /// Compressed, with full indexes or encoded extents.
    pub const COMPRESSED_FULL: u16 = 1;
    /// Consecutive blocks, and the last, partial one behind the inode.
    pub const FLAT_INLINE: u16 = 2;
    /// Compressed, with compacted indexes.
    pub const COMPRESSED_COMPACT: u16 = 3;
    /// Chunks of equal size, each anywhere.
    pub const CHUNK_BASED: u16 = 4;
}

/// File type bits of `i_mode`, as in `stat(2)`.
pub mod mode {
    /// Mask for the file type.
    pub const TYPE: u16 = 0o170000;
    /// A fifo.
    pub const FIFO: u16 = 0o010000;
    /// A character device.
    pub const CHARACTER_DEVICE: u16 = 0o020000;
    /// A directory.
    pub const DIRECTORY: u16 = 0o040000;
    /// A block device.
    pub const BLOCK_DEVICE: u16 = 0o060000;
    /// A regular file.
    pub const REGULAR: u16 = 0o100000;
    /// A symbolic link.
    pub const SYMLINK: u16 = 0o120000;
    /// A socket.
    pub const SOCKET: u16 = 0o140000;
}

/// A compact inode, 32 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct InodeCompact {
    /// Bits of [`format`](mod@format).
    pub i_format: U16,
    /// Size of the attribute body: 0 if there is none, else 12 + 4 × (this - 1) bytes.
    pub i_xattr_icount: U16,
    /// Type and permissions.
    pub i_mode: U16,
    /// Number of links; or, with [`format::NLINK_1`], the upper 16 bits of the start block.
    pub i_nb: U16,
    /// Size in bytes.
    pub i_size: U32,
    /// Seconds of the modification time relative to [`Superblock::epoch`].
    pub i_mtime: U32,
    /// Start block (lower 32 bits), device number, or [`ChunkInfo`].
    pub i_u: U32,
    /// Inode number for 32-bit `stat(2)`.
    pub i_ino: U32,
    /// Owner.
    pub i_uid: U16,
    /// Group.
    pub i_gid: U16,
    /// Zero.
    pub i_reserved: U32,
}

/// An extended inode, 64 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct InodeExtended {
    /// Bits of [`format`](mod@format).
    pub i_format: U16,
    /// Size of the attribute body: 0 if there is none, else 12 + 4 × (this - 1) bytes.
    pub i_xattr_icount: U16,
    /// Type and permissions.
    pub i_mode: U16,
    /// Upper 16 bits of the start block.
    pub i_nb: U16,
    /// Size in bytes.
    pub i_size: U64,
    /// Start block (lower 32 bits), device number, or [`ChunkInfo`].
    pub i_u: U32,
    /// Inode number for 32-bit `stat(2)`.
    pub i_ino: U32,
    /// Owner.
    pub i_uid: U32,
    /// Group.
    pub i_gid: U32,
    /// Seconds of the modification time since 1970 (signed).
    pub i_mtime: U64,
    /// Nanoseconds of the modification time.
    pub i_mtime_nsec: U32,
    /// Number of links.
    pub i_nlink: U32,
    /// Zero.
    pub i_reserved2: [u8; 16],
}

/// What `i_u` holds in a chunk-based inode, 4 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ChunkInfo {
    /// Bits of [`chunk`].
    pub format: U16,
    /// Zero.
    pub reserved: U16,
}

/// Bits of [`ChunkInfo::format`].
pub mod chunk {
    /// Mask for the chunk size: the block size times two to this power.
    pub const BLKBITS_MASK: u16 = 0x1f;
    /// 8-byte [`ChunkIndex`](super::ChunkIndex)es follow the inode, not 4-byte block addresses.
    pub const INDEXES: u16 = 0x20;
    /// Chunk indexes have 48-bit block addresses.
    pub const ADDRESS_48BIT: u16 = 0x40;
    /// Every bit that has a meaning.
    pub const ALL: u16 = 0x7f;
}

/// Where one chunk is, 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ChunkIndex {
    /// Upper 16 bits of the start block, with [`chunk::ADDRESS_48BIT`].
    pub startblk_hi: U16,
    /// 0 for the image itself, n + 1 for slot n of the device table.
    pub device_id: U16,
    /// Lower 32 bits of the start block.
    pub startblk_lo: U32,
}

/// A block address that means "no block: a hole", 32 bits wide.
pub const NULL_ADDRESS: u32 = u32::MAX;

/// A directory entry without its name, 12 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DirectoryEntry {
    /// The inode it names.
    pub nid: U64,
    /// Where its name starts in the directory block, in bytes.
    pub nameoff: U16,
    /// One of [`file_type`].
    pub file_type: u8,
    /// Zero.
    pub reserved: u8,
}

/// Size of a [`DirectoryEntry`].
pub const DIRECTORY_ENTRY_SIZE: u64 = 12;
/// Longest name of a directory entry, and of an attribute without its well-known prefix.
pub const NAME_MAX: usize = 255;
/// Longest target of a symbolic link: what fits a path with its final NUL.
pub const SYMLINK_MAX: u64 = 4095;

/// Values of [`DirectoryEntry::file_type`].
pub mod file_type {
    /// Look at the inode.
    pub const UNKNOWN: u8 = 0;
    /// A regular file.
    pub const REGULAR: u8 = 1;
    /// A directory.
    pub const DIRECTORY: u8 = 2;
    /// A character device.
    pub const CHARACTER_DEVICE: u8 = 3;
    /// A block device.
    pub const BLOCK_DEVICE: u8 = 4;
    /// A fifo.
    pub const FIFO: u8 = 5;
    /// A socket.
    pub const SOCKET: u8 = 6;
    /// A symbolic link.
    pub const SYMLINK: u8 = 7;
}

/// What an inode's attribute body starts with, 12 bytes; the ids of shared attributes (4 bytes each)
/// and the inline attributes follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrBodyHeader {
    /// A set bit says that no attribute whose name hashes to it is present.
    pub h_name_filter: U32,
    /// Number of shared attributes.
    pub h_shared_count: u8,
    /// Zero.
    pub h_reserved2: [u8; 7],
}

/// What an attribute starts with, 4 bytes; name and value follow, padded to 4 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrEntry {
    /// Length of the name that follows.
    pub e_name_len: u8,
    /// One of [`xattr_index`], or with [`XATTR_LONG_PREFIX`] the number of a long prefix.
    pub e_name_index: u8,
    /// Size of the value that follows the name.
    pub e_value_size: U16,
}

/// What a long attribute name prefix starts with, 3 bytes; the infix follows, padded so that the
/// next one starts at a multiple of 4 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrLongPrefix {
    /// Size of what follows, [`Self::base_index`] included.
    pub length: U16,
    /// One of [`xattr_index`].
    pub base_index: u8,
}

/// Well-known prefixes of attribute names.
pub mod xattr_index {
    /// `user.`
    pub const USER: u8 = 1;
    /// `system.posix_acl_access`
    pub const POSIX_ACL_ACCESS: u8 = 2;
    /// `system.posix_acl_default`
    pub const POSIX_ACL_DEFAULT: u8 = 3;
    /// `trusted.`
    pub const TRUSTED: u8 = 4;
    /// `lustre.`
    pub const LUSTRE: u8 = 5;
    /// `security.`
    pub const SECURITY: u8 = 6;
}

/// Bit of [`XattrEntry::e_name_index`] that says it refers to a long prefix.
pub const XATTR_LONG_PREFIX: u8 = 0x80;
/// Seed of the attribute name filter's hash, to which the name index is added.
pub const XATTR_FILTER_SEED: u32 = 0x25bb_e08f;
/// An attribute name filter that says nothing is present.
pub const XATTR_FILTER_EMPTY: u32 = u32::MAX;

const _: () = assert!(size_of::<Superblock>() == 128);
const _: () = assert!(size_of::<SuperblockExtension>() == 16);
const _: () = assert!(size_of::<DeviceSlot>() == 128);
const _: () = assert!(size_of::<InodeCompact>() == 32);
const _: () = assert!(size_of::<InodeExtended>() == 64);
const _: () = assert!(size_of::<ChunkInfo>() == 4);
const _: () = assert!(size_of::<ChunkIndex>() == 8);
const _: () = assert!(size_of::<DirectoryEntry>() == 12);
const _: () = assert!(size_of::<XattrBodyHeader>() == 12);
const _: () = assert!(size_of::<XattrEntry>() == 4);
const _: () = assert!(size_of::<XattrLongPrefix>() == 3);
