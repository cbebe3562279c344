// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Every public function of the crate, instantiated as the kernel module would: for a source of
//! bytes that the compiler knows nothing about. Compiled by `tests/no_panic.rs`, never run.

use super::erofs::{
    checksum,
    compressed::{CompactEntry, CompactForm, CompactLayout, CompactPack},
    split_xattr_name, superblock_checksum, superblock_checksum_size, xattr_entry_size,
    xattr_filter_bit, xattr_prefix, Algorithm, Cluster, Clusters, Compression, DeviceSlot,
    DirEntry, Dirent, Error, Extent, FileKind, Inode, Metadata, Space, Superblock, VerityTag,
    Xattr,
};
use core::fmt::Write;
use core::ops::Deref;

/// An image that can be anything.
pub struct Image<'a> {
    bytes: &'a dyn Fn(Space, u64) -> Result<&'a [u8], i32>,
    release: &'a dyn Fn(&'a [u8]),
    size: u64,
}

/// Bytes with something to do when they are let go of, as a page reference has.
pub struct Guard<'a> {
    bytes: &'a [u8],
    release: &'a dyn Fn(&'a [u8]),
}

impl Deref for Guard<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        (self.release)(self.bytes);
    }
}

impl<'i> Metadata for Image<'i> {
    type Error = i32;
    type Bytes<'a>
        = Guard<'i>
    where
        Self: 'a;

    fn bytes(&self, space: Space, pos: u64) -> Result<Guard<'i>, i32> {
        Ok(Guard {
            bytes: (self.bytes)(space, pos)?,
            release: self.release,
        })
    }

    fn size(&self) -> u64 {
        self.size
    }
}

pub fn read(image: &Image<'_>, max_block_bits: u8) -> Result<Superblock, Error<i32>> {
    Superblock::read(image, max_block_bits)
}

pub fn superblock_values(sb: &Superblock, out: &mut dyn FnMut(u64)) {
    out(sb.block_bits().into());
    out(sb.block_size().into());
    out(sb.blocks());
    out(sb.root_nid());
    out(sb.packed_nid().unwrap_or(0));
    out(sb.inodes());
    sb.uuid().iter().for_each(|&byte| out(byte.into()));
    sb.volume_name().iter().for_each(|&byte| out(byte.into()));
    out(sb.build_time() as u64);
    out(sb.epoch() as u64);
    out(sb.fixed_nsec().into());
    out(sb.compat().into());
    out(sb.incompat().into());
    out(sb.checksum().unwrap_or(0).into());
    out(sb.size().into());
    out(sb.meta_pos());
    out(sb.xattr_pos());
    out(sb.xattr_prefix_count().into());
    out(sb.has_xattr_filter().into());
    out(sb.ishare_prefix().unwrap_or(0).into());
    out(sb.device_count().into());
    out(sb.device_table_pos());
    out(sb.algorithms().into());
    out(sb.metabox_nid().unwrap_or(0));
}

pub fn compression(sb: &Superblock, image: &Image<'_>) -> Result<Compression, Error<i32>> {
    sb.compression(image)
}

pub fn algorithm(number: u8, out: &mut dyn FnMut(u64)) -> Option<&'static str> {
    let algorithm = Algorithm::from_number(number)?;
    out(algorithm.number().into());
    out(algorithm.bit().into());
    Some(algorithm.name())
}

pub fn root(sb: &Superblock, image: &Image<'_>) -> Result<Inode, Error<i32>> {
    sb.root(image)
}

pub fn inode(sb: &Superblock, image: &Image<'_>, nid: u64) -> Result<Inode, Error<i32>> {
    sb.inode(image, nid)
}

pub fn inode_values(inode: &Inode, sb: &Superblock, out: &mut dyn FnMut(u64)) {
    out(inode.nid());
    out(inode.pos());
    out(inode.mode().into());
    out(inode.kind().mode().into());
    out(inode.kind().file_type().into());
    out(inode.size());
    out(inode.sectors(sb));
    out(inode.nlink().into());
    out(inode.uid().into());
    out(inode.gid().into());
    out(inode.rdev().into());
    out(inode.rdev_major().into());
    out(inode.rdev_minor().into());
    out(inode.mtime() as u64);
    out(inode.mtime_nsec().into());
    out(inode.disk_ino().into());
    out(inode.is_extended().into());
    out(inode.dot_omitted().into());
    out(inode.xattr_size().into());
}

pub fn kind(mode: u16) -> Option<FileKind> {
    FileKind::from_mode(mode)
}

pub fn device(sb: &Superblock, image: &Image<'_>, index: u16) -> Result<DeviceSlot, Error<i32>> {
    sb.device(image, index)
}

pub fn device_verity(slot: &DeviceSlot) -> Option<VerityTag> {
    slot.verity()
}
pub fn device_name(slot: &DeviceSlot) -> &[u8] {
    slot.name()
}

pub fn extent(
    inode: &Inode,
    sb: &Superblock,
    image: &Image<'_>,
    offset: u64,
) -> Result<Extent, Error<i32>> {
    Ok(inode.extent(sb, image, offset)?.skip_to(offset))
}

pub fn clusters(
    inode: &Inode,
    sb: &Superblock,
    image: &Image<'_>,
) -> Result<Option<Clusters>, Error<i32>> {
    inode.clusters(sb, image)
}

pub fn cluster(
    clusters: &Clusters,
    sb: &Superblock,
    image: &Image<'_>,
    offset: u64,
) -> Result<Cluster, Error<i32>> {
    if clusters.is_fragment() {
        return clusters.at(sb, image, 0);
    }
    clusters.at(sb, image, offset)
}

pub fn compact_pack(
    form: CompactForm,
    bits: u32,
    bytes: &[u8],
    number: u32,
    entry: CompactEntry,
) -> (u32, Option<CompactEntry>) {
    let mut pack = CompactPack::from_bytes(form, bits, bytes);
    let found = pack.entry(number);
    pack.set_block(pack.block().wrapping_add(pack.as_bytes().len() as u32));
    pack.set_entry(number, entry);
    (pack.block(), found)
}

pub fn compact_layout(position: u64, lclusters: u64, two_bytes: bool) -> u64 {
    CompactLayout::new(position, lclusters, two_bytes).size()
}

pub fn lookup(
    inode: &Inode,
    sb: &Superblock,
    image: &Image<'_>,
    name: &[u8],
) -> Result<Option<Dirent>, Error<i32>> {
    inode.lookup(sb, image, name)
}

pub fn read_dir(
    inode: &Inode,
    sb: &Superblock,
    image: &Image<'_>,
    pos: u64,
    emit: &mut dyn FnMut(&DirEntry<'_>) -> bool,
) -> Result<u64, Error<i32>> {
    inode.read_dir(sb, image, pos, emit)
}

pub fn read_link(
    inode: &Inode,
    sb: &Superblock,
    image: &Image<'_>,
    buf: &mut [u8],
) -> Result<usize, Error<i32>> {
    inode.read_link(sb, image, buf)
}

pub fn may_have_xattr(inode: &Inode, index: u8, name: &[u8]) -> bool {
    inode.may_have_xattr(index, name)
}

pub fn get_xattr(
    inode: &Inode,
    sb: &Superblock,
    image: &Image<'_>,
    index: u8,
    name: &[u8],
    buf: &mut [u8],
) -> Result<Option<usize>, Error<i32>> {
    inode.get_xattr(sb, image, index, name, buf)
}

pub fn list_xattrs(
    inode: &Inode,
    sb: &Superblock,
    image: &Image<'_>,
    emit: &mut dyn FnMut(&Xattr<'_>) -> bool,
) -> Result<(), Error<i32>> {
    inode.list_xattrs(sb, image, emit)
}

pub fn read_xattr_value(
    xattr: &Xattr<'_>,
    image: &Image<'_>,
    buf: &mut [u8],
) -> Result<bool, Error<i32>> {
    xattr.read_value(image, buf)
}

pub fn long_xattr_prefix(
    sb: &Superblock,
    image: &Image<'_>,
    number: u8,
    infix: &mut [u8; 255],
) -> Result<(u8, usize), Error<i32>> {
    sb.long_xattr_prefix(image, number, infix)
}

pub fn fingerprint_name(
    sb: &Superblock,
    image: &Image<'_>,
    name: &mut [u8; 255],
) -> Result<Option<(u8, usize)>, Error<i32>> {
    sb.fingerprint_name(image, name)
}

pub fn xattr_names(name: &[u8], index: u8) -> (Option<(u8, &[u8])>, Option<&'static str>, u32) {
    (
        split_xattr_name(name),
        xattr_prefix(index),
        xattr_filter_bit(index, name),
    )
}

pub fn sizes(name_len: u8, value_size: u16, block_bits: u8) -> (u32, u64) {
    (
        xattr_entry_size(name_len, value_size),
        superblock_checksum_size(block_bits),
    )
}

pub fn checksums(data: &[u8]) -> (u32, u32, u32) {
    (
        superblock_checksum(data),
        checksum::crc32c(1, data),
        checksum::xxh32(data, 1),
    )
}

pub fn display(error: Error<i32>, out: &mut dyn Write) -> core::fmt::Result {
    write!(out, "{error}")
}
