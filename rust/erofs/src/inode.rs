// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Inodes: decoded and checked when a name is looked up, then carried by the VFS inode.
//!
//! All that depends on the inode alone is checked here, so that what uses one later (extents,
//! directories, attributes) starts from a sound one.

use super::compressed::MapHeader;
use super::error::{Corrupt, Error, Result};
use super::metadata::{Cursor, Metadata, Space};
use super::ondisk;
use super::ondisk::{chunk, format, layout, mode};
use super::superblock::{Superblock, NSEC_PER_SEC, POSITION_MAX};
use super::xattr_body::XattrBody;
use zerocopy::FromBytes;

/// What kind of file an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
}

impl FileKind {
    /// The kind in the type bits of an `i_mode`, unless they mean none.
    pub const fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & mode::TYPE {
            mode::REGULAR => Self::Regular,
            mode::DIRECTORY => Self::Directory,
            mode::SYMLINK => Self::Symlink,
            mode::CHARACTER_DEVICE => Self::CharacterDevice,
            mode::BLOCK_DEVICE => Self::BlockDevice,
            mode::FIFO => Self::Fifo,
            mode::SOCKET => Self::Socket,
            _ => return None,
        })
    }

    /// The kind's type bits in an `i_mode`.
    pub const fn mode(self) -> u16 {
        match self {
            Self::Regular => mode::REGULAR,
            Self::Directory => mode::DIRECTORY,
            Self::Symlink => mode::SYMLINK,
            Self::CharacterDevice => mode::CHARACTER_DEVICE,
            Self::BlockDevice => mode::BLOCK_DEVICE,
            Self::Fifo => mode::FIFO,
            Self::Socket => mode::SOCKET,
        }
    }

    /// The kind's value in a directory entry, one of [`ondisk::file_type`].
    pub const fn file_type(self) -> u8 {
        match self {
            Self::Regular => ondisk::file_type::REGULAR,
            Self::Directory => ondisk::file_type::DIRECTORY,
            Self::Symlink => ondisk::file_type::SYMLINK,
            Self::CharacterDevice => ondisk::file_type::CHARACTER_DEVICE,
            Self::BlockDevice => ondisk::file_type::BLOCK_DEVICE,
            Self::Fifo => ondisk::file_type::FIFO,
            Self::Socket => ondisk::file_type::SOCKET,
        }
    }

    /// Whether the kind has data: a regular file, a directory or a symbolic link.
    pub const fn has_data(self) -> bool {
        matches!(self, Self::Regular | Self::Directory | Self::Symlink)
    }
}

/// How an inode's data is laid out. Positions are in bytes. Those of what lies behind the inode (`tail`, `table`, `header`) are in
/// the space that the inode is in, [`Inode::space`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All of it is a hole; or the inode is of a kind without data.
    Hole,
    /// In consecutive blocks of the image.
    Plain {
        /// Position of the first block.
        start: u64,
    },
    /// In consecutive blocks of the image, but for the last block.
    Inline {
        /// Position of the first block; 0 if the last block is all there is.
        start: u64,
        /// Position of the last block's data, in the metadata behind the inode.
        tail: u64,
    },
    /// In chunks of equal size, each of which is anywhere.
    Chunks {
        /// Position of the first chunk's index (or address).
        table: u64,
        /// Chunk size as a power of two.
        chunk_bits: u8,
        /// Whether there are 8-byte indexes, not 4-byte addresses.
        indexes: bool,
        /// Whether addresses in indexes have 48 bits.
        wide: bool,
    },
    /// Compressed: see [`Inode::clusters`](super::Inode::clusters).
    Compressed {
        /// Position of the map header.
        header: u64,
        /// Whether there are full indexes or records of extents, not compact indexes.
        full: bool,
    },
}

/// An inode.
///
/// # Invariants
///
/// - Size and positions fit an `i64`.
/// - Unless it is in the metabox, the inode, its attribute body, its chunk table and its inline tail lie within the image; so
///   does a directory's data unless it is in chunks or compressed or there are devices. An inline tail lies within one block.
/// - A symbolic link's size is 1 to 4095.
#[derive(Clone, Copy, Debug)]
pub struct Inode {
    nid: u64,
    space: Space,
    pos: u64,
    size: u64,
    encoded_blocks: u64,
    mtime: i64,
    layout: Layout,
    xattrs: XattrBody,
    mtime_nsec: u32,
    nlink: u32,
    uid: u32,
    gid: u32,
    rdev: u32,
    disk_ino: u32,
    mode: u16,
    kind: FileKind,
    extended: bool,
    dot_omitted: bool,
}

/// The fields of an inode of either size, and how many bytes it takes.
struct Decoded {
    /// In the form of an extended inode.
    fields: ondisk::InodeExtended,
    /// Bits of the start block that count.
    address_mask: u64,
    size: u64,
}

impl Superblock {
    /// Reads the root directory's inode.
    ///
    /// # Errors
    ///
    /// Those of [`Self::inode`], and [`Error::Corrupt`] if it is not a directory.
    pub fn root<M: Metadata>(&self, meta: &M) -> Result<Inode, M::Error> {
        let root = self.inode(meta, self.root_nid())?;
        if root.kind() != FileKind::Directory {
            return Err(Error::corrupt("root inode is not a directory", root.pos()));
        }
        Ok(root)
    }

    /// Reads and checks the inode `nid`.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if there can be no such inode or its fields are wrong.
    /// - [`Error::Unsupported`] for compressed data, and unknown formats and layouts.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn inode<M: Metadata>(&self, meta: &M, nid: u64) -> Result<Inode, M::Error> {
        let (space, end, base) = match self.metabox_nid() {
            Some(metabox) if nid & ondisk::NID_METABOX != 0 => {
                // Where the metabox ends is seen when it is read.
                (Space::Inode(metabox), POSITION_MAX, 0)
            }
            _ => (Space::Image, meta.size(), self.meta_pos()),
        };
        let number = match space {
            Space::Inode(_) => nid & !ondisk::NID_METABOX,
            _ => nid,
        };
        let pos = number
            .checked_mul(ondisk::INODE_SLOT_SIZE)
            .and_then(|offset| base.checked_add(offset))
            .unwrap_or(u64::MAX);
        let corrupt_at = |what, at| Err(Corrupt { what, at, space }.into());
        if pos >= end || pos > POSITION_MAX {
            return corrupt_at("inode lies beyond the image", pos);
        }
        let mut cursor = Cursor::new(meta);
        cursor.enter(space);
        let Decoded {
            fields,
            address_mask,
            size: inode_size,
        } = self.read_inode(&mut cursor, pos)?;
        let corrupt = |what| corrupt_at(what, pos);
        let unsupported = |name, bits: u16| Err(Error::unsupported(name, bits.into(), pos));

        let format = fields.i_format.get();
        let size = fields.i_size.get();
        if size > POSITION_MAX {
            return corrupt("inode's size is negative");
        }
        let mode = fields.i_mode.get();
        let Some(kind) = FileKind::from_mode(mode) else {
            return corrupt("inode's file type is invalid");
        };
        if fields.i_mtime_nsec.get() >= NSEC_PER_SEC {
            return corrupt("inode's nanoseconds are a second or more");
        }
        if kind == FileKind::Symlink && !(1..=ondisk::SYMLINK_MAX).contains(&size) {
            return corrupt("symbolic link's length is out of range");
        }

        // `pos` is within the image; the sizes added are at most 64 and 12 + 4 * 65534.
        let body_pos = pos.wrapping_add(inode_size);
        let xattrs = self.xattr_body(&mut cursor, body_pos, fields.i_xattr_icount.get())?;
        let data_pos = body_pos.wrapping_add(u64::from(xattrs.size));
        if data_pos > end {
            return corrupt("inode's attributes end beyond the image");
        }

        let layout = match (format >> format::LAYOUT_SHIFT) & format::LAYOUT_MASK {
            layout::FLAT_PLAIN | layout::FLAT_INLINE | layout::CHUNK_BASED if !kind.has_data() => {
                Layout::Hole
            }
            layout::FLAT_PLAIN => self.plain_layout(&fields, address_mask)?,
            layout::FLAT_INLINE => self.inline_layout(&fields, data_pos)?,
            layout::CHUNK_BASED => self.chunk_layout(&fields, pos, data_pos)?,
            layout @ (layout::COMPRESSED_FULL | layout::COMPRESSED_COMPACT) => {
                if self.algorithms() == 0 {
                    return corrupt("inode is compressed, and the image is not");
                }
                if kind.has_data() {
                    Layout::Compressed {
                        // The inode's end is at a position.
                        header: data_pos.wrapping_add(7) & !7,
                        full: layout == layout::COMPRESSED_FULL,
                    }
                } else {
                    Layout::Hole
                }
            }
            layout => return unsupported("data layout", layout),
        };
        let (blocks_end, metadata_end) = match layout {
            Layout::Hole => (0, 0),
            Layout::Plain { start } => (start.saturating_add(size), 0),
            Layout::Inline { start, tail } => {
                let tail_offset = tail_offset(self, size);
                (
                    start.saturating_add(tail_offset),
                    tail.wrapping_add(size.wrapping_sub(tail_offset)),
                )
            }
            Layout::Chunks {
                table,
                chunk_bits,
                indexes,
                ..
            } => {
                let table_size = chunk_count(size, chunk_bits).wrapping_mul(entry_size(indexes));
                (0, table.saturating_add(table_size))
            }
            Layout::Compressed { header, .. } => {
                (0, header.saturating_add(size_of::<MapHeader>() as u64))
            }
        };
        if blocks_end > POSITION_MAX {
            return corrupt("inode's blocks are out of range");
        }
        // They may also lie in a device that is a file of its own.
        if kind == FileKind::Directory && blocks_end > meta.size() && self.device_count() == 0 {
            return corrupt("directory's blocks end beyond the image");
        }
        if metadata_end > end {
            return corrupt(match layout {
                Layout::Compressed { .. } => "inode's map header ends beyond the image",
                Layout::Chunks { .. } => "inode's chunk table ends beyond the image",
                _ => "inode's inline data ends beyond the image",
            });
        }

        let is_device = matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice);
        // INVARIANT: what is promised was checked above.
        Ok(Inode {
            nid,
            space,
            pos,
            size,
            encoded_blocks: match layout {
                Layout::Compressed { .. } => start_block(&fields),
                _ => 0,
            },
            mtime: fields.i_mtime.get() as i64,
            layout,
            xattrs,
            mtime_nsec: fields.i_mtime_nsec.get(),
            nlink: fields.i_nlink.get(),
            uid: fields.i_uid.get(),
            gid: fields.i_gid.get(),
            rdev: if is_device { fields.i_u.get() } else { 0 },
            disk_ino: fields.i_ino.get(),
            mode,
            kind,
            extended: format & format::EXTENDED != 0,
            dot_omitted: kind == FileKind::Directory && format & format::DOT_OMITTED != 0,
        })
    }

    /// Reads an inode of either size.
    fn read_inode<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        pos: u64,
    ) -> Result<Decoded, M::Error> {
        const CUT_OFF: &str = "inode is cut off by the end of the image";
        let bytes = cursor.bytes(pos)?;
        let Ok((compact, _)) = ondisk::InodeCompact::ref_from_prefix(bytes) else {
            // Inodes start at multiples of the size of a compact one: none spans two blocks.
            return Err(Error::corrupt(CUT_OFF, pos));
        };
        let format = compact.i_format.get();
        if format & !format::ALL != 0 {
            let bits = u32::from(format & !format::ALL);
            return Err(Error::unsupported("inode format", bits, pos));
        }
        if format & format::EXTENDED != 0 {
            let fields = match ondisk::InodeExtended::read_from_prefix(bytes) {
                Ok((fields, _)) => fields,
                Err(_) => cursor.read_struct(pos, CUT_OFF)?,
            };
            return Ok(Decoded {
                fields,
                address_mask: ADDRESS_48BIT,
                size: size_of::<ondisk::InodeExtended>() as u64,
            });
        }

        let is_directory = compact.i_mode.get() & mode::TYPE == mode::DIRECTORY;
        let one_link = format & format::NLINK_1 != 0 && !is_directory;
        let (nlink, startblk_hi, address_mask) = if one_link {
            (1, compact.i_nb, ADDRESS_48BIT)
        } else {
            (u32::from(compact.i_nb.get()), 0.into(), ADDRESS_32BIT)
        };
        let mtime = self.epoch().wrapping_add(i64::from(compact.i_mtime.get()));
        Ok(Decoded {
            fields: ondisk::InodeExtended {
                i_format: compact.i_format,
                i_xattr_icount: compact.i_xattr_icount,
                i_mode: compact.i_mode,
                i_nb: startblk_hi,
                i_size: u64::from(compact.i_size.get()).into(),
                i_u: compact.i_u,
                i_ino: compact.i_ino,
                i_uid: u32::from(compact.i_uid.get()).into(),
                i_gid: u32::from(compact.i_gid.get()).into(),
                i_mtime: (mtime as u64).into(),
                i_mtime_nsec: self.fixed_nsec().into(),
                i_nlink: nlink.into(),
                i_reserved2: [0; 16],
            },
            address_mask,
            size: size_of::<ondisk::InodeCompact>() as u64,
        })
    }

    /// Layout of a plain inode. The position of its blocks is not checked.
    fn plain_layout<E>(
        &self,
        fields: &ondisk::InodeExtended,
        address_mask: u64,
    ) -> Result<Layout, E> {
        let block = start_block(fields);
        if block & address_mask == address_mask {
            return Ok(Layout::Hole);
        }
        Ok(Layout::Plain {
            start: self.block_pos(block).unwrap_or(u64::MAX),
        })
    }

    /// Layout of an inode with an inline tail at `tail`. The position of its blocks is not checked.
    fn inline_layout<E>(&self, fields: &ondisk::InodeExtended, tail: u64) -> Result<Layout, E> {
        let size = fields.i_size.get();
        let offset = tail_offset(self, size);
        let tail_size = size.wrapping_sub(offset);
        if (tail & self.block_mask()).wrapping_add(tail_size) > u64::from(self.block_size()) {
            return Err(Error::corrupt("inode's inline data crosses a block", tail));
        }
        let start = if offset > 0 {
            self.block_pos(start_block(fields)).unwrap_or(u64::MAX)
        } else {
            0
        };
        Ok(Layout::Inline { start, tail })
    }

    /// Layout of a chunk-based inode at `pos`, whose metadata ends at `end`.
    fn chunk_layout<E>(
        &self,
        fields: &ondisk::InodeExtended,
        pos: u64,
        end: u64,
    ) -> Result<Layout, E> {
        let bits = fields.i_u.get();
        // The upper 16 bits are reserved.
        let format = bits as u16;
        if format & !chunk::ALL != 0 {
            return Err(Error::unsupported("chunk format", format.into(), pos));
        }
        let indexes = format & chunk::INDEXES != 0;
        let below = entry_size(indexes).wrapping_sub(1);
        // At most 31 + 16.
        let chunk_bits = (format & chunk::BLKBITS_MASK) as u8;
        Ok(Layout::Chunks {
            table: end.wrapping_add(below) & !below,
            chunk_bits: chunk_bits.wrapping_add(self.block_bits()),
            indexes,
            wide: format & chunk::ADDRESS_48BIT != 0,
        })
    }
}

/// A block address of 32 bits, all ones.
const ADDRESS_32BIT: u64 = u32::MAX as u64;
/// A block address of 48 bits, all ones.
pub(super) const ADDRESS_48BIT: u64 = (1 << 48) - 1;

/// The start block of a plain or inline inode.
fn start_block(fields: &ondisk::InodeExtended) -> u64 {
    u64::from(fields.i_u.get()) | (u64::from(fields.i_nb.get()) << 32)
}

/// Offset in a file of `size` bytes of its last block, which may be full.
pub(super) fn tail_offset(sb: &Superblock, size: u64) -> u64 {
    size.saturating_sub(1) & !sb.block_mask()
}

/// Number of chunks in a file of `size` bytes: at most 2^54.
fn chunk_count(size: u64, chunk_bits: u8) -> u64 {
    match size.checked_sub(1) {
        Some(last) => last.wrapping_shr(u32::from(chunk_bits)).wrapping_add(1),
        None => 0,
    }
}

/// Size of an entry of a chunk table, a power of two.
pub(super) const fn entry_size(indexes: bool) -> u64 {
    if indexes {
        size_of::<ondisk::ChunkIndex>() as u64
    } else {
        size_of::<u32>() as u64
    }
}

impl Inode {
    /// The inode's name in the image. It is also what `stat(2)` gives as inode number.
    pub fn nid(&self) -> u64 {
        self.nid
    }

    /// What the inode lies in: the image, or the metabox.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Where the inode is in [`Self::space`], in bytes.
    pub fn pos(&self) -> u64 {
        self.pos
    }

    /// Type and permissions, as in `stat(2)`.
    pub fn mode(&self) -> u16 {
        self.mode
    }

    /// What kind of file it is.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// Size in bytes; at most `i64::MAX`.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Space its data takes, in units of 512 bytes, as in `stat(2)`: whole blocks; of compressed data those that
    /// are encoded.
    pub fn sectors(&self, sb: &Superblock) -> u64 {
        if let Layout::Compressed { .. } = self.layout {
            // 48 bits of blocks of at most 2^16 bytes.
            return self
                .encoded_blocks
                .wrapping_shl(u32::from(sb.block_bits()).wrapping_sub(9));
        }
        // A size fits an i64, so that there is room to round up.
        (self.size.wrapping_add(sb.block_mask()) & !sb.block_mask()) >> 9
    }

    /// Number of links.
    pub fn nlink(&self) -> u32 {
        self.nlink
    }

    /// Owner.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Device number in the kernel's 32-bit encoding (`new_encode_dev`); 0 if it is not a device.
    pub fn rdev(&self) -> u32 {
        self.rdev
    }

    /// Major number of [`Self::rdev`].
    pub fn rdev_major(&self) -> u32 {
        (self.rdev >> 8) & 0xfff
    }

    /// Minor number of [`Self::rdev`].
    pub fn rdev_minor(&self) -> u32 {
        (self.rdev & 0xff) | ((self.rdev >> 12) & 0xf_ff00)
    }

    /// Modification time, in seconds since 1970; the only time there is.
    pub fn mtime(&self) -> i64 {
        self.mtime
    }

    /// Nanoseconds of the modification time; less than a second.
    pub fn mtime_nsec(&self) -> u32 {
        self.mtime_nsec
    }

    /// The inode number for 32-bit systems that the builder chose. Linux does not use it.
    pub fn disk_ino(&self) -> u32 {
        self.disk_ino
    }

    /// How its data is laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether it is an extended inode (64 bytes), not a compact one (32 bytes).
    pub fn is_extended(&self) -> bool {
        self.extended
    }

    /// Whether it is a directory that does not store its entry `.`.
    pub fn dot_omitted(&self) -> bool {
        self.dot_omitted
    }

    /// Size of the attribute body in bytes; 0 if there are no attributes.
    pub fn xattr_size(&self) -> u32 {
        self.xattrs.size
    }

    /// What is known of the attribute body.
    pub(super) fn xattrs(&self) -> &XattrBody {
        &self.xattrs
    }
}
