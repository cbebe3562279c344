// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compressed files of layers: out of which parts they are, wherever those lie, for an image that refers to them. Called by the
//! merge for every one of them.
//!
//! The encoded bytes stay where they are. What the image says of them is made anew from what the layer says, not copied.
//! Copied is what is behind inodes. Fragments are parts of the layer's packed inode: those of all layers become one, whose
//! parts are those of the layers', one layer behind the other.

use super::Layer;
use crate::clusters::referred::Announced;
use crate::clusters::referred::Mapped;
use crate::clusters::referred::Origin;
use crate::clusters::referred::Part;
use crate::clusters::referred::Referred;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::inspect::Image;
use crate::inspect::Name;
use crate::text::Shown;
use crate::tree::Content;
use crate::tree::Data;
use crate::tree::NameId;
use erofs_format::Algorithm;
use erofs_format::Cluster;
use erofs_format::Clusters;
use erofs_format::Content as Coded;
use erofs_format::Encoded;
use erofs_format::Encoding;
use erofs_format::Inode;
use erofs_format::Row;
use erofs_format::Source;
use erofs_format::Space;
use erofs_format::compressed::LclusterIndex;
use erofs_format::compressed::PCLUSTER_MAX_SIZE;
use erofs_format::ondisk::incompat;
use std::path::PathBuf;

/// What the packed inode of each layer begins at in the merged one.
const ALIGN: u64 = 4096;

/// What is known of the compressed files of all layers.
#[derive(Default)]
pub(super) struct Compressed {
    announced: Announced,
    /// The layers that have some, with their block sizes as powers of two.
    layers: Vec<(PathBuf, u8)>,
    /// The first layer with LZ4, and whether its data is padded in front.
    lz4: Option<(PathBuf, bool)>,
    /// The packed inodes of layers.
    packed: Vec<Part>,
    packed_size: u64,
    packed_blocks: u64,
}

impl Compressed {
    /// What the merged image has to say, if there are compressed files. Blocks have the size of the smallest of all layers, which
    /// `smallest` has.
    pub(super) fn finish(self, smallest: Option<&(PathBuf, u8)>) -> Result<Option<Announced>> {
        let Some((_, bits)) = self.layers.first() else {
            return Ok(None);
        };
        if let Some((other, expected)) = smallest {
            if let Some((path, bits)) = self.layers.iter().find(|(_, bits)| bits != expected) {
                let (path, other) = (Shown(path), Shown(other));
                let (block, expected) = (1_u64 << bits, 1_u64 << expected);
                return Err(Error::of(
                    Kind::Unsupported,
                    format!(
                        "{path}: it has compressed files, in blocks of {block} bytes, expected blocks of {expected} bytes as \
                         {other} has: an image has blocks of one size"
                    ),
                ));
            }
        }
        let mut announced = self.announced;
        // Records say where bytes are, so the layers' parts need not be as their layers have them.
        announced.packed = (!self.packed.is_empty()).then(|| {
            let referred =
                Referred::new(self.packed, Mapped::Records, *bits, 0, self.packed_blocks);
            announced.has_records = true;
            announced.features |= referred.features();
            (referred, self.packed_size)
        });
        Ok(Some(announced))
    }

    /// Takes in what a layer says of its algorithms.
    fn announce(&mut self, image: &Image) -> Result<()> {
        let superblock = image.superblock();
        let found = image.compression()?;
        let path = image.path();
        if found.algorithms & Algorithm::Lz4.bit() != 0 {
            let padded = found.lz4_is_padded;
            match &self.lz4 {
                Some((other, expected)) if *expected != padded => {
                    let how = |padded| match padded {
                        true => "has zeros in front of it",
                        false => "has none in front of it",
                    };
                    let (path, other) = (Shown(path), Shown(other));
                    let (how, expected) = (how(padded), how(*expected));
                    return Err(Error::of(
                        Kind::Unsupported,
                        format!(
                            "{path}: its data of LZ4 {how}, and that of {other} {expected}: an image has both in one way"
                        ),
                    ));
                }
                Some(_) => {}
                None => self.lz4 = Some((path.to_path_buf(), padded)),
            }
        }
        let bits = superblock.block_size().trailing_zeros() as u8;
        self.layers.push((path.to_path_buf(), bits));
        let all = &mut self.announced;
        all.algorithms |= found.algorithms;
        // Only data of LZ4 is without.
        all.is_padded = self.lz4.as_ref().is_none_or(|(_, padded)| *padded);
        all.configured |= superblock.incompat() & incompat::COMPR_CFGS != 0
            || all.algorithms & !Algorithm::Lz4.bit() != 0;
        all.lz4_max_distance = all.lz4_max_distance.max(found.lz4_max_distance);
        all.lz4_pcluster_max = all.lz4_pcluster_max.max(found.lz4_pcluster_max);
        all.lzma_dictionary = all.lzma_dictionary.max(found.lzma_dictionary);
        all.deflate_window_bits = all.deflate_window_bits.max(found.deflate_window_bits);
        all.zstd_window = all.zstd_window.max(found.zstd_window);
        Ok(())
    }

    /// Takes in a file.
    fn announce_file(&mut self, referred: &Referred) {
        self.announced.features |= referred.features();
        self.announced.has_records |= referred.has_records();
        self.announced.configured |= referred.is_big();
    }
}

/// Where in its addresses a layer has one of its devices.
#[derive(Clone, Copy)]
struct Slot {
    start: u64,
    end: u64,
    /// Which of its devices.
    index: usize,
}

/// What is known of the compressed files of a layer.
#[derive(Default)]
pub(super) struct OfLayer {
    /// Whether what it says of algorithms was taken in.
    announced: bool,
    /// Its devices in the order of their addresses, once they were looked for.
    slots: Option<Vec<Slot>>,
    /// Where its packed inode begins in that of all layers, and how long it is.
    packed: Option<(u64, u64)>,
}

/// The file that is looked at, for messages.
#[derive(Clone, Copy)]
struct At<'n> {
    directory: NameId,
    name: &'n [u8],
    /// Whether it is the packed inode that the file has a fragment in.
    packed: bool,
}

impl Layer<'_> {
    /// A compressed file.
    pub(super) fn compressed(
        &mut self,
        directory: NameId,
        name: &Name,
        inode: &Inode,
    ) -> Result<Content> {
        let at = At {
            directory,
            name: &name.name,
            packed: false,
        };
        if !self.compressed.announced {
            self.all_compressed.announce(self.image)?;
            self.compressed.announced = true;
        }
        let Some(clusters) = self.image.cluster_table(inode)? else {
            return Err(self.wrong(at, "it has no indexes"));
        };
        let (parts, interlaced, source) = self.parts(at, inode, &clusters)?;
        let mapped = match clusters.has_records() {
            true => Mapped::Records,
            false => Mapped::Indexes {
                bits: clusters.lcluster_bits(),
                compact: clusters.is_compact(),
                interlaced,
            },
        };
        let bits = self.block_bits();
        let blocks = inode.sectors(self.image.superblock()) >> bits.saturating_sub(9);
        let referred = Referred::new(parts, mapped, bits, source, blocks);
        self.all_compressed.announce_file(&referred);
        Ok(Content::File {
            blob: referred.first().0,
            size: inode.size(),
            data: Data::Referred(Box::new(referred)),
        })
    }

    fn block_bits(&self) -> u8 {
        self.image.superblock().block_size().trailing_zeros() as u8
    }

    /// The parts of a file, whether plain ones are interlaced, and which of what is copied from has what is inline.
    fn parts(
        &mut self,
        at: At<'_>,
        inode: &Inode,
        clusters: &Clusters,
    ) -> Result<(Vec<Part>, bool, u16)> {
        let as_records = at.packed || clusters.has_records();
        if !as_records && !clusters.is_fragment() {
            // There is an index for each logical cluster, whatever leads past them.
            let count = inode.size().div_ceil(1 << clusters.lcluster_bits());
            let each = match clusters.is_compact() {
                true => 2,
                false => size_of::<LclusterIndex>() as u64,
            };
            self.left.indexes = self.spend(self.left.indexes, count.saturating_mul(each))?;
        }
        let (superblock, file) = (self.image.superblock(), self.image.file());
        let (mut parts, mut row, mut offset) = (Vec::new(), Row::default(), 0);
        let (mut interlaced, mut source) = (false, 0);
        while offset < inode.size() {
            let cluster = clusters.at_after(superblock, file, offset, &mut row);
            let cluster = cluster.map_err(Error::format(self.image.path()))?;
            self.left.extents = self.spend(self.left.extents, 1)?;
            if cluster.start != offset {
                let problem = format!(
                    "its extents contradict each other: one is at {}, expected {offset}",
                    cluster.start
                );
                return Err(self.wrong(at, &problem));
            }
            let length = cluster.len;
            let mut push = |from| parts.push(Part { length, from });
            match cluster.content {
                Coded::Hole => push(Origin::Hole),
                Coded::Fragment(_) if at.packed => {
                    return Err(self.wrong(at, "it has a fragment in itself"));
                }
                Coded::Fragment(pos) => push(Origin::Fragment(self.fragment(at, pos, length)?)),
                Coded::Encoded(encoded) => match encoded.space {
                    Space::Device(0) => {
                        if as_records {
                            self.as_records(at, &cluster, &encoded, &mut parts)?;
                        } else {
                            interlaced |= encoded.encoding == Encoding::Interlaced;
                            push(self.in_blob(at, &encoded)?);
                        }
                    }
                    Space::Image if at.packed => {
                        // What is behind an inode has an address, too.
                        let from = self.in_image(at, encoded.pos, encoded.len)?;
                        push(with_encoding(from, &encoded));
                    }
                    Space::Device(_) | Space::Inode(_) if at.packed => {
                        let problem = "its end is in the metabox, to which nothing can refer";
                        return Err(self.refused(at, problem));
                    }
                    space => {
                        let len = u64::from(encoded.len);
                        let mut pos = encoded.pos;
                        if space == Space::Image {
                            self.left.copied = self.spend(self.left.copied, len)?;
                            source = self.own_tails()?;
                        } else {
                            (pos, source) = self.keep_bytes(space, pos, len)?;
                        }
                        push(Origin::Inline {
                            pos,
                            len: encoded.len as u16,
                            algorithm: algorithm_of(&encoded),
                            partial: encoded.partial,
                        });
                    }
                },
            }
            offset = cluster.start.saturating_add(length);
        }
        Ok((parts, interlaced, source))
    }

    fn wrong(&self, at: At<'_>, problem: &str) -> Error {
        self.about(Kind::Damaged, at, problem)
    }

    fn refused(&self, at: At<'_>, problem: &str) -> Error {
        self.about(Kind::Unsupported, at, problem)
    }

    fn about(&self, kind: Kind, at: At<'_>, problem: &str) -> Error {
        match at.packed {
            true => {
                let problem = format!("the packed inode, where it has a fragment: {problem}");
                self.error_of(kind, at.directory, at.name, &problem)
            }
            false => self.error_of(kind, at.directory, at.name, problem),
        }
    }

    /// Adds the parts of an extent to those of a file with records: these have no interlaced data, but as many parts as it
    /// takes.
    fn as_records(
        &mut self,
        at: At<'_>,
        cluster: &Cluster,
        encoded: &Encoded,
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        if encoded.encoding != Encoding::Interlaced {
            let from = self.in_blob(at, encoded)?;
            parts.push(Part {
                length: cluster.len,
                from,
            });
            return Ok(());
        }
        let block = 1_u64 << self.block_bits();
        let first = (block - cluster.start % block).min(encoded.len.into());
        let front = first.min(cluster.len);
        let end = u64::from(encoded.len) - first;
        for (pos, length) in [(end, front), (0, cluster.len - front)] {
            // An extent has no more bytes than what it is in.
            let len = length as u32;
            if len == 0 {
                continue;
            }
            self.left.extents = self.spend(self.left.extents, 1)?;
            let plain = Encoded {
                encoding: Encoding::Plain,
                pos: encoded.pos.saturating_add(pos),
                len,
                ..*encoded
            };
            let from = self.in_blob(at, &plain)?;
            parts.push(Part { length, from });
        }
        Ok(())
    }

    /// What is in the layer's address space: in one of its devices, or in itself.
    fn in_blob(&mut self, at: At<'_>, encoded: &Encoded) -> Result<Origin> {
        let from = self.in_addresses(at, encoded.pos, encoded.len)?;
        Ok(with_encoding(from, encoded))
    }

    /// Plain bytes that are at an address of the layer.
    fn in_addresses(&mut self, at: At<'_>, pos: u64, len: u32) -> Result<Origin> {
        if self.compressed.slots.is_none() {
            self.compressed.slots = Some(self.slots()?);
        }
        let slots = self.compressed.slots.as_deref().unwrap_or_default();
        let behind = slots.partition_point(|slot| slot.start <= pos);
        let slot = behind.checked_sub(1).and_then(|index| slots.get(index));
        let Some(slot) = slot.filter(|slot| pos < slot.end).copied() else {
            return self.in_image(at, pos, len);
        };
        let number = slot.index.saturating_add(1);
        self.in_device(at, number, pos - slot.start, len)
    }

    /// Plain bytes of a device of the layer.
    fn in_device(&mut self, at: At<'_>, number: usize, pos: u64, len: u32) -> Result<Origin> {
        let index = number.checked_sub(1);
        let blob = index.and_then(|index| self.blobs.get(index)).copied();
        let (end, size) = (
            pos.saturating_add(len.into()),
            blob.map_or(0, |blob| blob.size),
        );
        match blob {
            Some(blob) if end <= size => Ok(plain(blob.number, pos, len)),
            _ => {
                let problem = format!(
                    "its data is at {pos} to {end} of device {number}, which has {size} bytes"
                );
                Err(self.wrong(at, &problem))
            }
        }
    }

    /// Plain bytes of the layer's image itself.
    fn in_image(&mut self, at: At<'_>, pos: u64, len: u32) -> Result<Origin> {
        if !self.blobs.is_empty() {
            // Whoever has the devices of an index need not have the index itself.
            let problem = "its compressed data is in the image itself, expected it in a device as the image has some";
            return Err(self.refused(at, problem));
        }
        let blob = self.own_blob()?;
        let (end, size) = (pos.saturating_add(len.into()), blob.size);
        if end > size {
            let problem =
                format!("its data is at {pos} to {end} of the image, which has {size} bytes");
            return Err(self.wrong(at, &problem));
        }
        Ok(plain(blob.number, pos, len))
    }

    /// The devices of the layer, in the order of their addresses.
    fn slots(&self) -> Result<Vec<Slot>> {
        let block = u64::from(self.image.superblock().block_size());
        let devices = self.image.devices()?;
        let slots = devices.iter().enumerate().map(|(index, slot)| {
            let start = slot.uniaddr.saturating_mul(block);
            let end = start.saturating_add(slot.blocks.saturating_mul(block));
            Slot { start, end, index }
        });
        let mut slots: Vec<Slot> = slots
            .filter(|slot| slot.start > 0 && slot.start < slot.end)
            .collect();
        slots.sort_unstable_by_key(|slot| slot.start);
        let both = |pair: &[Slot]| match pair {
            [first, second] => first.end > second.start,
            _ => false,
        };
        if slots.windows(2).any(both) {
            let path = Shown(self.image.path());
            let problem = "devices that lie on top of each other in one address space";
            return Err(Error::of(Kind::Damaged, format!("{path}: {problem}")));
        }
        Ok(slots)
    }

    /// Where in the packed inode of all layers a fragment of a file is.
    fn fragment(&mut self, at: At<'_>, pos: u64, len: u64) -> Result<u64> {
        let (start, size) = match self.compressed.packed {
            Some(packed) => packed,
            None => {
                let packed = self.packed(at)?;
                self.compressed.packed = Some(packed);
                packed
            }
        };
        let end = pos.saturating_add(len);
        if end > size {
            let problem = format!(
                "its fragment is at {pos} to {end} of the packed inode, which has {size} bytes"
            );
            return Err(self.wrong(at, &problem));
        }
        Ok(start.saturating_add(pos))
    }

    /// Takes the layer's packed inode into that of all layers: where it is there, and how long.
    fn packed(&mut self, at: At<'_>) -> Result<(u64, u64)> {
        let Some(nid) = self.image.superblock().packed_nid() else {
            return Err(self.wrong(at, "it has a fragment, and the image no packed inode"));
        };
        let at = At { packed: true, ..at };
        let inode = self.image.inode(nid)?;
        let size = inode.size();
        let parts = match self.image.cluster_table(&inode)? {
            Some(clusters) if clusters.is_fragment() && size > 0 => {
                return Err(self.wrong(at, "it has a fragment in itself"));
            }
            Some(clusters) => self.parts(at, &inode, &clusters)?.0,
            None => self.plain_parts(at, &inode)?,
        };
        let mut parts = parts;
        if let Some(Part {
            length,
            from:
                Origin::Blob {
                    len,
                    algorithm: Some(_),
                    partial,
                    ..
                },
        }) = parts.last_mut()
        {
            // Only where a file ends may a cluster decode to less than it has. This is not the end any more.
            *partial |= *length < u64::from(*len);
        }
        let all = &mut *self.all_compressed;
        let start = all.packed_size.next_multiple_of(ALIGN);
        let end = start
            .checked_add(size)
            .filter(|end| i64::try_from(*end).is_ok());
        let Some(end) = end else {
            let problem = format!(
                "with those of other layers it has more than {} bytes",
                i64::MAX
            );
            return Err(self.wrong(at, &problem));
        };
        if start > all.packed_size {
            all.packed.push(Part {
                length: start - all.packed_size,
                from: Origin::Hole,
            });
        }
        all.packed.extend(parts);
        all.packed_size = end;
        let blocks = inode.sectors(self.image.superblock()) >> self.block_bits().saturating_sub(9);
        self.all_compressed.packed_blocks += blocks & u64::from(u32::MAX);
        Ok((start, size))
    }

    /// The parts of a packed inode that is not compressed.
    fn plain_parts(&mut self, at: At<'_>, inode: &Inode) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let image = self.image;
        for extent in image.extents(inode) {
            let extent = extent?;
            self.left.extents = self.spend(self.left.extents, 1)?;
            let (mut done, total) = (0, extent.len);
            while done < total {
                let len = (total - done).min(PCLUSTER_MAX_SIZE.into());
                let from = match extent.source {
                    Source::Hole => {
                        parts.push(Part {
                            length: total,
                            from: Origin::Hole,
                        });
                        break;
                    }
                    Source::Device { id: 0, pos } => {
                        self.in_addresses(at, pos.saturating_add(done), len as u32)?
                    }
                    Source::Device { id, pos } => {
                        self.in_device(at, id.into(), pos.saturating_add(done), len as u32)?
                    }
                    Source::Metadata {
                        pos,
                        space: Space::Image,
                    } => self.in_image(at, pos.saturating_add(done), len as u32)?,
                    Source::Metadata { .. } | Source::Clusters { .. } => {
                        let problem = "its data is in the metabox, to which nothing can refer";
                        return Err(self.refused(at, problem));
                    }
                };
                parts.push(Part { length: len, from });
                done += len;
            }
        }
        Ok(parts)
    }
}

fn plain(blob: u16, pos: u64, len: u32) -> Origin {
    Origin::Blob {
        blob,
        pos,
        len,
        algorithm: None,
        partial: false,
    }
}

fn algorithm_of(encoded: &Encoded) -> Option<Algorithm> {
    match encoded.encoding {
        Encoding::Compressed(algorithm) => Some(algorithm),
        Encoding::Plain | Encoding::Interlaced => None,
    }
}

/// Plain bytes as what they are encoded with.
fn with_encoding(from: Origin, encoded: &Encoded) -> Origin {
    match from {
        Origin::Blob { blob, pos, len, .. } => Origin::Blob {
            blob,
            pos,
            len,
            algorithm: algorithm_of(encoded),
            partial: encoded.partial,
        },
        other => other,
    }
}
