// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The indexes of a compressed file: from its extents to the bytes that lie behind its inode.

use super::Compressed;
use super::End;
use super::Extent;
use erofs_format::compressed::CompactEntry;
use erofs_format::compressed::CompactForm;
use erofs_format::compressed::CompactLayout;
use erofs_format::compressed::CompactPack;
use erofs_format::compressed::LclusterIndex;
use erofs_format::compressed::MapHeader;
use erofs_format::compressed::advise;
use erofs_format::compressed::lcluster;
use erofs_format::ondisk::layout;
use zerocopy::IntoBytes;

/// Bytes of the header.
const HEADER: u64 = size_of::<MapHeader>() as u64;
/// Unused bytes between the header and full indexes.
const GAP: u64 = 8;

/// What all indexes of an image have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// Block size as a power of two, and that of logical clusters.
    pub bits: u8,
    /// Whether physical clusters may have several blocks.
    pub big: bool,
    /// Whether plain data is as far into a block as it is in the file.
    pub interlaced: bool,
    /// Whether all indexes are full ones.
    pub full: bool,
}

/// How the indexes of a file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// There are none: all of it is a fragment.
    None,
    Full,
    Compact,
}

/// What an index says.
#[derive(Clone, Copy, Debug)]
enum Index {
    Head {
        kind: u8,
        offset: u16,
        block: u64,
        partial: bool,
    },
    /// Distances to the head, or instead the size of the cluster, and to the next head.
    NonHead { back: u16, ahead: u16 },
}

/// How many bytes the indexes have at least, as full ones, by which it is decided whether compressing is worth it.
pub fn estimate(size: u64, bits: u8) -> u64 {
    let each = size_of::<LclusterIndex>() as u64;
    HEADER + GAP + size.div_ceil(1 << bits).saturating_mul(each)
}

impl Common {
    fn form(&self, compressed: &Compressed) -> Form {
        let [first, ..] = &*compressed.extents else {
            return Form::Full;
        };
        let fragment = match compressed.end {
            Some(End::Fragment(pos)) if compressed.extents.len() == 1 && first.blocks == 0 => {
                let _ = pos;
                return Form::None;
            }
            Some(End::Fragment(pos)) => pos,
            _ => 0,
        };
        let mut next = first.block;
        let follows = |extent: &Extent| {
            let follows = extent.block == next && !extent.partial;
            next = extent.block + u64::from(extent.blocks);
            follows
        };
        let one_after_the_other = compressed.extents.iter().all(follows);
        // A position in the file of fragments has 32 bits in compact indexes.
        match !self.full && one_after_the_other && u32::try_from(fragment).is_ok() {
            true => Form::Compact,
            false => Form::Full,
        }
    }

    /// The data layout of an inode with these indexes.
    pub fn layout(&self, compressed: &Compressed) -> u16 {
        match self.form(compressed) {
            Form::None | Form::Full => layout::COMPRESSED_FULL,
            Form::Compact => layout::COMPRESSED_COMPACT,
        }
    }

    /// Bytes of header and indexes, which start at this position, a multiple of 8, if only its remainder by 32 is
    /// right.
    pub fn size(&self, compressed: &Compressed, size: u64, position: u64) -> u64 {
        let count = size.div_ceil(1 << self.bits);
        HEADER
            + match self.form(compressed) {
                Form::None => 0,
                Form::Full => GAP + count * size_of::<LclusterIndex>() as u64,
                Form::Compact => {
                    CompactLayout::new(position + HEADER, count, self.two_bytes()).size()
                }
            }
    }

    /// Whether there are indexes of two bytes.
    fn two_bytes(&self) -> bool {
        u32::from(self.bits) <= erofs_format::compressed::COMPACT_2B_LCLUSTER_BITS_MAX
    }

    /// The bytes of header and indexes, which start at this position.
    pub fn bytes(&self, compressed: &Compressed, position: u64) -> Vec<u8> {
        let form = self.form(compressed);
        let (fragment, inline) = match compressed.end {
            Some(End::Fragment(pos)) => (Some(pos), None),
            Some(End::Inline { len, .. }) => (None, Some(len)),
            None => (None, None),
        };
        if form == Form::None {
            let all = fragment.unwrap_or_default() | MapHeader::FRAGMENT_INODE;
            return all.to_le_bytes().to_vec();
        }
        let mut bits = 0;
        if form == Form::Compact && self.two_bytes() {
            bits |= advise::COMPACTED_2B;
        }
        if self.big {
            bits |= advise::BIG_PCLUSTER_1;
        }
        if self.big && form == Form::Compact {
            bits |= advise::BIG_PCLUSTER_2;
        }
        if self.interlaced {
            bits |= advise::INTERLACED_PCLUSTER;
        }
        if inline.is_some() {
            bits |= advise::INLINE_PCLUSTER;
        }
        if fragment.is_some() {
            bits |= advise::FRAGMENT_PCLUSTER;
        }
        let header = MapHeader {
            h_fragmentoff: match (fragment, inline) {
                (Some(pos), _) => (pos as u32).into(),
                (None, Some(len)) => MapHeader::of_idata_size(len),
                (None, None) => 0.into(),
            },
            h_advise: bits.into(),
            h_algorithmtype: compressed.algorithm,
            h_clusterbits: 0,
        };
        let mut out = header.as_bytes().to_vec();
        let indexes = self.indexes(compressed, form);
        match form {
            Form::None => {}
            Form::Full => {
                out.resize((HEADER + GAP) as usize, 0);
                for index in &indexes {
                    out.extend_from_slice(full(*index).as_bytes());
                }
            }
            Form::Compact => {
                let count = indexes.len() as u64;
                let layout = CompactLayout::new(position + HEADER, count, self.two_bytes());
                let (first, rest) = indexes.split_at(layout.first as usize);
                let (second, third) = rest.split_at(layout.two_bytes as usize);
                let mut packer = Packer {
                    out: &mut out,
                    bits: self.bits.into(),
                    big: self.big,
                    head: 0,
                };
                packer.pack(first, CompactForm::FourBytes);
                packer.pack(second, CompactForm::TwoBytes);
                packer.pack(third, CompactForm::FourBytes);
            }
        }
        out
    }

    /// One index for each logical cluster.
    fn indexes(&self, compressed: &Compressed, form: Form) -> Vec<Index> {
        let cluster = 1_u64 << self.bits;
        let mut indexes = Vec::new();
        let mut offset = 0;
        let mut next = 0;
        for extent in &compressed.extents {
            let block = match compressed.end {
                // The upper half of where the fragment is.
                Some(End::Fragment(pos)) if extent.blocks == 0 && form == Form::Full => pos >> 32,
                _ => extent.block,
            };
            next = extent.block + u64::from(extent.blocks);
            let head = Index::Head {
                kind: match extent.encoded {
                    true => lcluster::HEAD1,
                    false => lcluster::PLAIN,
                },
                offset: offset as u16,
                block,
                partial: extent.partial,
            };
            indexes.push(head);
            let end = offset + u64::from(extent.length);
            let whole = end / cluster;
            for back in 1..whole {
                indexes.push(Index::NonHead {
                    back: match back {
                        1 if self.big => lcluster::CBLKCNT | extent.blocks,
                        back => distance(back),
                    },
                    ahead: distance(whole - back),
                });
            }
            // If it ends where it starts, it is the last one, and nothing is left to say.
            offset = match whole {
                0 => 0,
                _ => end % cluster,
            };
        }
        if offset > 0 {
            // What belongs to the last extent ends here.
            indexes.push(Index::Head {
                kind: lcluster::PLAIN,
                offset: offset as u16,
                block: next,
                partial: false,
            });
        }
        indexes
    }
}

/// A distance, as far as there is room for it.
fn distance(lclusters: u64) -> u16 {
    lclusters.min(u64::from(lcluster::CBLKCNT - 1)) as u16
}

fn full(index: Index) -> LclusterIndex {
    match index {
        Index::Head {
            kind,
            offset,
            block,
            partial,
        } => LclusterIndex {
            di_advise: (u16::from(kind) | if partial { lcluster::PARTIAL_REF } else { 0 }).into(),
            di_clusterofs: offset.into(),
            di_u: (block as u32).into(),
        },
        Index::NonHead { back, ahead } => LclusterIndex {
            di_advise: u16::from(lcluster::NONHEAD).into(),
            di_clusterofs: 0.into(),
            di_u: (u32::from(back) | u32::from(ahead) << 16).into(),
        },
    }
}

/// Packs compact indexes.
struct Packer<'o> {
    out: &'o mut Vec<u8>,
    bits: u32,
    big: bool,
    /// The block of the last head.
    head: u64,
}

impl Packer<'_> {
    fn pack(&mut self, indexes: &[Index], form: CompactForm) {
        for group in indexes.chunks(form.count() as usize) {
            let mut pack = CompactPack::new(form, self.bits);
            let head = group.iter().find_map(|index| match index {
                Index::Head { block, .. } => Some(*block),
                Index::NonHead { .. } => None,
            });
            let first = match (group.first(), head) {
                // The size in the first entry is that of the head in front.
                (Some(Index::NonHead { back, .. }), _) if back & lcluster::CBLKCNT != 0 => self.head,
                (_, Some(head)) => head,
                (_, None) => self.head,
            };
            // Without big clusters, readers count from the block in front.
            let base = if self.big { first } else { first.wrapping_sub(1) };
            pack.set_block(base as u32);
            for (number, index) in (0..).zip(group) {
                let entry = match *index {
                    Index::Head {
                        kind,
                        offset,
                        block,
                        ..
                    } => {
                        self.head = block;
                        CompactEntry {
                            kind,
                            value: offset,
                        }
                    }
                    Index::NonHead { back, ahead } => CompactEntry {
                        kind: lcluster::NONHEAD,
                        value: match number + 1 == form.count() && back & lcluster::CBLKCNT == 0 {
                            true => ahead,
                            false => back,
                        },
                    },
                };
                pack.set_entry(number, entry);
            }
            self.out.extend_from_slice(pack.as_bytes());
        }
    }
}
