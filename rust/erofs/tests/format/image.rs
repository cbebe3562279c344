// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Images put together by hand, field by field, and a source of their bytes that gives no more than
//! it must. Every test that damages or bends something starts here.

use erofs_format::ondisk::*;
use erofs_format::{Error, Inode, Metadata, Space, Superblock};
use std::cell::Cell;
use std::convert::Infallible;
use zerocopy::IntoBytes;

/// nid of the root directory of an [`Image`].
pub const ROOT: u64 = 128;
/// A nid that is free in a new [`Image`]; those above are, too.
pub const FREE: u64 = 256;

/// An image under construction.
pub struct Image {
    pub superblock: erofs_format::ondisk::Superblock,
    bytes: Vec<u8>,
}

impl Image {
    /// 64 KiB with a superblock and an empty root directory.
    pub fn new(block_bits: u8) -> Self {
        let mut image = Self {
            superblock: erofs_format::ondisk::Superblock {
                magic: SUPER_MAGIC.into(),
                checksum: 0.into(),
                feature_compat: compat::SB_CHKSUM.into(),
                blkszbits: block_bits,
                sb_extslots: 0,
                rootnid_2b: (ROOT as u16).into(),
                inos: 1.into(),
                epoch: 1_700_000_000.into(),
                fixed_nsec: 5.into(),
                blocks_lo: (65536 >> block_bits).into(),
                meta_blkaddr: 0.into(),
                xattr_blkaddr: 0.into(),
                uuid: *b"0123456789abcdef",
                volume_name: *b"label\0\0\0\0\0\0\0\0\0\0\0",
                feature_incompat: incompat::CHUNKED_FILE.into(),
                available_compr_algs: 0.into(),
                extra_devices: 0.into(),
                devt_slotoff: 0.into(),
                dirblkbits: 0,
                xattr_prefix_count: 0,
                xattr_prefix_start: 0.into(),
                packed_nid: 0.into(),
                xattr_filter_reserved: 0,
                ishare_xattr_prefix_id: 0,
                reserved: [0; 2],
                build_time: 7.into(),
                rootnid_8b: 0.into(),
                reserved2: 0.into(),
            },
            bytes: vec![0; 65536],
        };
        let dots: [(&[u8], u64, u8); 2] = [
            (b".", ROOT, file_type::DIRECTORY),
            (b"..", ROOT, file_type::DIRECTORY),
        ];
        image.inline_file(ROOT, mode::DIRECTORY | 0o755, &directory_block(&dots));
        image
    }

    /// Overwrites bytes, and makes the image as long as it takes.
    pub fn put(&mut self, pos: u64, bytes: &[u8]) {
        let pos = pos as usize;
        if self.bytes.len() < pos + bytes.len() {
            self.bytes.resize(pos + bytes.len(), 0);
        }
        self.bytes[pos..pos + bytes.len()].copy_from_slice(bytes);
    }

    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Puts an inode where its nid says.
    pub fn put_inode(&mut self, nid: u64, inode: &impl IntoBytesRef) {
        self.put(nid * 32, inode.bytes());
    }

    /// Puts a file that is small enough to be inline.
    pub fn inline_file(&mut self, nid: u64, mode: u16, data: &[u8]) {
        let inode = InodeCompact {
            i_size: (data.len() as u32).into(),
            ..compact(mode, layout::FLAT_INLINE)
        };
        self.put_inode(nid, &inode);
        self.put(nid * 32 + 32, data);
    }

    /// The finished image, with the right checksum.
    pub fn finish(&self) -> Blocks {
        let mut image = self.finish_unsigned();
        sign(&mut image.bytes);
        image
    }

    /// The finished image, with the checksum that the superblock says.
    pub fn finish_unsigned(&self) -> Blocks {
        let mut bytes = self.bytes.clone();
        if bytes.len() >= 1152 {
            bytes[1024..1152].copy_from_slice(self.superblock.as_bytes());
        }
        Blocks::new(bytes, self.superblock.blkszbits)
    }
}

/// Sets the checksum of an image.
pub fn sign(bytes: &mut [u8]) {
    let end = 1024 + erofs_format::superblock_checksum_size(bytes[1036]) as usize;
    let Some(block) = bytes.get(1024..end) else {
        return;
    };
    let checksum = erofs_format::superblock_checksum(block);
    bytes[1028..1032].copy_from_slice(&checksum.to_le_bytes());
}

/// What [`Image::put_inode`] takes.
pub trait IntoBytesRef {
    fn bytes(&self) -> &[u8];
}

impl IntoBytesRef for InodeCompact {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl IntoBytesRef for InodeExtended {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// An empty compact inode.
pub fn compact(mode: u16, layout: u16) -> InodeCompact {
    InodeCompact {
        i_format: (layout << format::LAYOUT_SHIFT).into(),
        i_xattr_icount: 0.into(),
        i_mode: mode.into(),
        i_nb: 1.into(),
        i_size: 0.into(),
        i_mtime: 0.into(),
        i_u: 0.into(),
        i_ino: 9.into(),
        i_uid: 1000.into(),
        i_gid: 100.into(),
        i_reserved: 0.into(),
    }
}

/// An empty extended inode.
pub fn extended(mode: u16, layout: u16) -> InodeExtended {
    InodeExtended {
        i_format: ((layout << format::LAYOUT_SHIFT) | format::EXTENDED).into(),
        i_xattr_icount: 0.into(),
        i_mode: mode.into(),
        i_nb: 0.into(),
        i_size: 0.into(),
        i_u: 0.into(),
        i_ino: 9.into(),
        i_uid: 100_000.into(),
        i_gid: 100_001.into(),
        i_mtime: 1_600_000_000.into(),
        i_mtime_nsec: 123.into(),
        i_nlink: 1.into(),
        i_reserved2: [0; 16],
    }
}

/// A directory block: entries as given, names behind them.
pub fn directory_block(entries: &[(&[u8], u64, u8)]) -> Vec<u8> {
    let mut nameoff = entries.len() * 12;
    let mut block = Vec::new();
    for (name, nid, file_type) in entries {
        let entry = DirectoryEntry {
            nid: (*nid).into(),
            nameoff: (nameoff as u16).into(),
            file_type: *file_type,
            reserved: 0,
        };
        block.extend_from_slice(entry.as_bytes());
        nameoff += name.len();
    }
    for (name, ..) in entries {
        block.extend_from_slice(name);
    }
    block
}

/// An image in memory that gives bytes up to the end of a block and not one more, and counts how
/// often it is asked.
pub struct Blocks {
    pub bytes: Vec<u8>,
    block_bits: u8,
    grain_bits: u8,
    /// For each device slot, where it begins in the flat addresses (0 if nowhere), and its bytes.
    devices: Vec<(u64, Vec<u8>)>,
    /// An inode that holds the same bytes as the image.
    metabox: Option<u64>,
    pub calls: Cell<u32>,
    /// How often bytes that were given were looked at: once for each structure, name or piece of one that is read.
    pub looks: Cell<u64>,
}

/// Bytes that count how often they are looked at.
pub struct Counted<'a> {
    bytes: &'a [u8],
    looks: &'a Cell<u64>,
}

impl std::ops::Deref for Counted<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.looks.set(self.looks.get() + 1);
        self.bytes
    }
}

impl Blocks {
    pub fn new(bytes: Vec<u8>, block_bits: u8) -> Self {
        let block_bits = block_bits.clamp(9, 16);
        Self {
            bytes,
            block_bits,
            grain_bits: block_bits,
            devices: Vec::new(),
            metabox: None,
            calls: Cell::new(0),
            looks: Cell::new(0),
        }
    }

    /// The same, but that it gives bytes up to the end of `1 << bits` blocks, as large folios do.
    pub fn in_grains(mut self, bits: u8) -> Self {
        self.grain_bits = self.block_bits + bits;
        self
    }

    /// The same with a device more that is not in the image's own bytes.
    pub fn with_device(mut self, flat_start: u64, bytes: Vec<u8>) -> Self {
        self.devices.push((flat_start, bytes));
        self
    }

    /// The same with an inode that holds what the image does.
    pub fn with_metabox(mut self, nid: u64) -> Self {
        self.metabox = Some(nid);
        self
    }

    /// The bytes that a position is in, and where in them it is.
    fn locate(&self, space: Space, pos: u64) -> (&[u8], u64) {
        let id = match space {
            Space::Image => return (&self.bytes, pos),
            Space::Inode(nid) if Some(nid) == self.metabox => return (&self.bytes, pos),
            Space::Inode(_) => return (&[], pos),
            Space::Device(id) => id,
        };
        if let Some(index) = usize::from(id).checked_sub(1) {
            let device = self.devices.get(index);
            return (device.map_or(&[], |(_, bytes)| bytes), pos);
        }
        self.devices
            .iter()
            .filter(|(start, _)| *start > 0)
            .map(|(start, bytes)| (&bytes[..], pos.wrapping_sub(*start)))
            .find(|(bytes, offset)| *offset < bytes.len() as u64)
            .unwrap_or((&self.bytes, pos))
    }

    /// Reads the superblock, which is sound.
    pub fn superblock(&self) -> Superblock {
        Superblock::read(self, 16).unwrap()
    }

    /// Reads the superblock and an inode, both sound.
    pub fn inode(&self, nid: u64) -> (Superblock, Inode) {
        let sb = self.superblock();
        let inode = sb.inode(self, nid).unwrap();
        (sb, inode)
    }

    /// Runs `f` and returns how often it asked for bytes.
    pub fn count_calls<T>(&self, f: impl FnOnce() -> T) -> (T, u32) {
        self.calls.set(0);
        let value = f();
        (value, self.calls.get())
    }

    /// How often bytes are looked at while `f` runs: what it takes in steps, whichever machine it runs on.
    pub fn count_looks<T>(&self, f: impl FnOnce() -> T) -> (T, u64) {
        self.looks.set(0);
        let value = f();
        (value, self.looks.get())
    }
}

impl Metadata for Blocks {
    type Error = Infallible;
    type Bytes<'a> = Counted<'a>;

    fn bytes(&self, space: Space, pos: u64) -> Result<Counted<'_>, Infallible> {
        self.calls.set(self.calls.get() + 1);
        let (bytes, pos) = self.locate(space, pos);
        let len = bytes.len() as u64;
        let end = ((pos >> self.grain_bits).saturating_add(1) << self.grain_bits).min(len);
        let bytes = if pos < end {
            &bytes[pos as usize..end as usize]
        } else {
            &[]
        };
        let looks = &self.looks;
        Ok(Counted { bytes, looks })
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Asserts that a result is [`Error::Corrupt`], with `what` in its message, at `at` of the image or of a device.
#[track_caller]
pub fn assert_corrupt_in<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: Result<T, Error<E>>,
    what: &str,
    space: Space,
    at: u64,
) {
    match result {
        Err(Error::Corrupt(corrupt)) => {
            assert!(
                corrupt.what.contains(what) && (corrupt.space, corrupt.at) == (space, at),
                "expected \"{what}\" at offset {at} of {space:?}, got {corrupt:?}"
            );
        }
        other => panic!("expected \"{what}\" at offset {at} of {space:?}, got {other:?}"),
    }
}

/// Asserts that a result is [`Error::Corrupt`], with `what` in its message, at `at` of the image.
#[track_caller]
pub fn assert_corrupt<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: Result<T, Error<E>>,
    what: &str,
    at: u64,
) {
    assert_corrupt_in(result, what, Space::Image, at);
}

/// Asserts that a result is [`Error::Unsupported`] with this name and these bits.
#[track_caller]
pub fn assert_unsupported<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: Result<T, Error<E>>,
    name: &str,
    bits: u32,
) {
    match result {
        Err(Error::Unsupported(feature)) => {
            assert_eq!((feature.name, feature.bits), (name, bits));
        }
        other => panic!("expected unsupported {name}, got {other:?}"),
    }
}
