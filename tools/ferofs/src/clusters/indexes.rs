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
pub(super) enum Form {
    /// There are none: all of it is a fragment.
    None,
    Full,
    Compact,
}

/// The indexes of a file, and what is in front of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub form: Form,
    /// The size of logical clusters as a power of two.
    pub bits: u8,
    /// How much that is more than a block has.
    pub more: u8,
    /// Whether physical clusters may have several blocks.
    pub big: bool,
}

/// An extent, as indexes have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// How many bytes of the file these are.
    pub length: u64,
    /// A type of head, of [`lcluster`].
    pub kind: u8,
    /// Its first block; of a fragment in full indexes the upper half of its position.
    pub block: u64,
    /// How many blocks it has.
    pub blocks: u16,
    /// What the indexes say of it besides: bits of [`lcluster`].
    pub flags: u16,
    /// The block behind it, if it is the last one.
    pub next: u64,
}

/// What an index says.
#[derive(Clone, Copy, Debug)]
enum Index {
    Head {
        kind: u8,
        offset: u16,
        block: u64,
        flags: u16,
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
        self.table(compressed).size(size, position)
    }

    fn table(&self, compressed: &Compressed) -> Table {
        Table {
            form: self.form(compressed),
            bits: self.bits,
            more: 0,
            big: self.big,
        }
    }

    /// The bytes of header and indexes, which start at this position.
    pub fn bytes(&self, compressed: &Compressed, position: u64) -> Vec<u8> {
        let table = self.table(compressed);
        let interlaced = match self.interlaced {
            true => advise::INTERLACED_PCLUSTER,
            false => 0,
        };
        let spans = compressed.extents.iter().map(|extent| {
            let block = match compressed.end {
                // The upper half of where the fragment is.
                Some(End::Fragment(pos)) if extent.blocks == 0 && table.form == Form::Full => {
                    pos >> 32
                }
                _ => extent.block,
            };
            Span {
                length: extent.length.into(),
                kind: match extent.encoded {
                    true => lcluster::HEAD1,
                    false => lcluster::PLAIN,
                },
                block,
                blocks: extent.blocks,
                flags: match extent.partial {
                    true => lcluster::PARTIAL_REF,
                    false => 0,
                },
                next: extent.block + u64::from(extent.blocks),
            }
        });
        table.bytes(
            interlaced,
            compressed.algorithm,
            compressed.end,
            spans,
            position,
        )
    }
}

impl Table {
    /// Bytes of header and indexes of a file of so many bytes, which start at this position.
    pub(super) fn size(&self, size: u64, position: u64) -> u64 {
        let count = size.div_ceil(1 << self.bits);
        HEADER
            + match self.form {
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

    /// The bytes of header and indexes, which start at this position. `advise` has the bits that are not about the form
    /// or the end.
    pub(super) fn bytes(
        &self,
        advise: u16,
        algorithms: u8,
        end: Option<End>,
        spans: impl Iterator<Item = Span>,
        position: u64,
    ) -> Vec<u8> {
        let (fragment, inline) = match end {
            Some(End::Fragment(pos)) => (Some(pos), None),
            Some(End::Inline { len, .. }) => (None, Some(len)),
            None => (None, None),
        };
        if self.form == Form::None {
            let all = fragment.unwrap_or_default() | MapHeader::FRAGMENT_INODE;
            return all.to_le_bytes().to_vec();
        }
        let mut bits = advise;
        if self.form == Form::Compact && self.two_bytes() {
            bits |= advise::COMPACTED_2B;
        }
        if self.big {
            bits |= advise::BIG_PCLUSTER_1;
        }
        if self.big && self.form == Form::Compact {
            bits |= advise::BIG_PCLUSTER_2;
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
            h_algorithmtype: algorithms,
            h_clusterbits: self.more,
        };
        let mut out = header.as_bytes().to_vec();
        let indexes = self.indexes(spans);
        match self.form {
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
    fn indexes(&self, spans: impl Iterator<Item = Span>) -> Vec<Index> {
        let cluster = 1_u64 << self.bits;
        let mut indexes = Vec::new();
        let mut offset = 0;
        let mut next = 0;
        for span in spans {
            next = span.next;
            indexes.push(Index::Head {
                kind: span.kind,
                offset: offset as u16,
                block: span.block,
                flags: span.flags,
            });
            let end = offset + span.length;
            let whole = end / cluster;
            for back in 1..whole {
                indexes.push(Index::NonHead {
                    back: match back {
                        1 if self.big => lcluster::CBLKCNT | span.blocks,
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
                flags: 0,
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
            flags,
        } => LclusterIndex {
            di_advise: (u16::from(kind) | flags).into(),
            di_clusterofs: offset.into(),
            di_u: (block as u32).into(),
        },
        Index::NonHead { back, ahead } => LclusterIndex {
            di_advise: u16::from(lcluster::NONHEAD).into(),
            di_clusterofs: 0.into(),
            di_u: (u32::from(back) | (u32::from(ahead) << 16)).into(),
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
                (Some(Index::NonHead { back, .. }), _) if back & lcluster::CBLKCNT != 0 => {
                    self.head
                }
                (_, Some(head)) => head,
                (_, None) => self.head,
            };
            // Without big clusters, readers count from the block in front.
            let base = if self.big {
                first
            } else {
                first.wrapping_sub(1)
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    const BITS: u8 = 12;
    const BLOCK: u32 = 1 << BITS;

    /// Extents of all kinds of lengths, one behind the other in blocks.
    fn extents(seed: u32, big: bool) -> Vec<Extent> {
        let mut state = seed;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut block = u64::from(random(1 << 30));
        let count = 1 + random(40);
        let extent = |number| {
            let encoded = random(4) > 0;
            let blocks = match encoded && big {
                true => 1 + random(16),
                false => 1,
            };
            let least = BLOCK * blocks + 1;
            let length = match (encoded, number + 1 == count) {
                (false, false) => BLOCK,
                (false, true) => 1 + random(BLOCK),
                (true, _) if random(8) == 0 => least + random(9_000_000),
                (true, false) => least + random(4 * BLOCK),
                (true, true) => least + random(100),
            };
            let extent = Extent {
                length,
                block,
                blocks: blocks as u16,
                encoded,
                partial: false,
            };
            block += u64::from(blocks);
            extent
        };
        (0..count).map(extent).collect()
    }

    /// What a reader finds in one index: that of a head, or of another.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Found {
        Head(u8, u16, u32),
        NonHead(u16),
    }

    /// The indexes in packs, read as the format's documentation says: an entry at a time, from its pack alone.
    fn unpack(bytes: &[u8], position: u64, count: u64, big: bool) -> Vec<Found> {
        let layout = CompactLayout::new(position, count, true);
        let parts = [
            (layout.first, CompactForm::FourBytes),
            (layout.two_bytes, CompactForm::TwoBytes),
            (layout.last, CompactForm::FourBytes),
        ];
        let mut rest = bytes;
        let mut found = Vec::new();
        for (mut left, form) in parts {
            while left > 0 {
                let (now, behind) = rest.split_at(form.size() as usize);
                rest = behind;
                let pack = CompactPack::from_bytes(form, BITS.into(), now);
                let entries = (0..form.count()).map(|number| pack.entry(number).unwrap());
                let entries: Vec<_> = entries.take(left as usize).collect();
                left = left.saturating_sub(form.count().into());
                let mut block = pack.block().wrapping_add(if big { 0 } else { 1 });
                for (number, entry) in entries.iter().enumerate() {
                    if entry.kind == lcluster::NONHEAD {
                        if entry.value & lcluster::CBLKCNT != 0 {
                            block += u32::from(entry.value & !lcluster::CBLKCNT);
                        }
                        found.push(Found::NonHead(entry.value));
                        continue;
                    }
                    found.push(Found::Head(entry.kind, entry.value, block));
                    let next = entries.get(number + 1);
                    let sized = |next: &CompactEntry| {
                        next.kind == lcluster::NONHEAD && next.value & lcluster::CBLKCNT != 0
                    };
                    // The size of one at the end of its pack is in the next one.
                    if !big || !next.is_some_and(sized) {
                        block += 1;
                    }
                }
            }
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn compact_and_full_indexes_say_what_the_extents_are() {
        for seed in 0..600 {
            let big = seed % 2 == 0;
            let extents = extents(seed, big);
            let size: u64 = extents.iter().map(|extent| u64::from(extent.length)).sum();
            let common = Common {
                bits: BITS,
                big,
                interlaced: false,
                full: false,
            };
            let compressed = Compressed {
                start: 0,
                blocks: 0,
                extents: extents.clone().into(),
                end: None,
                algorithm: 0,
            };
            let full = Common {
                full: true,
                ..common
            };
            let count = size.div_ceil(BLOCK.into());
            let bytes = full.bytes(&compressed, 64);
            assert_eq!(bytes.len() as u64, full.size(&compressed, size, 64));
            let indexes: Vec<_> = bytes[16..].chunks(8).collect();
            assert_eq!(indexes.len() as u64, count);
            // Where extents start, and how far from its head an index is.
            let number = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
            let mut starts = Vec::new();
            for (at, index) in indexes.iter().enumerate() {
                let block = u32::from_le_bytes([index[4], index[5], index[6], index[7]]);
                match number(index) as u8 {
                    lcluster::NONHEAD => {
                        let ahead = usize::from(number(&index[6..]));
                        let next = indexes.get(at + ahead).map(|index| number(index) as u8);
                        let far = ahead == usize::from(lcluster::CBLKCNT) - 1;
                        assert!(far || next != Some(lcluster::NONHEAD), "{seed}: {at}");
                    }
                    kind => {
                        let start = at as u64 * u64::from(BLOCK) + u64::from(number(&index[2..]));
                        starts.push((start, kind, block));
                    }
                }
            }
            // The last one may be where the file ends.
            starts.retain(|(start, ..)| *start < size);
            let mut start = 0;
            let expected: Vec<_> = extents
                .iter()
                .map(|extent| {
                    let this = (start, u8::from(extent.encoded), extent.block as u32);
                    start += u64::from(extent.length);
                    this
                })
                .collect();
            assert_eq!(starts, expected, "{seed}");
            for position in [0, 64, 72, 80, 88] {
                let bytes = common.bytes(&compressed, position);
                assert_eq!(bytes.len() as u64, common.size(&compressed, size, position));
                let found = unpack(&bytes[8..], position + 8, count, big);
                for (at, (found, index)) in found.iter().zip(&indexes).enumerate() {
                    let (offset, block) = (number(&index[2..]), &index[4..]);
                    let kind = number(index) as u8;
                    match found {
                        Found::NonHead(_) => assert_eq!(kind, lcluster::NONHEAD, "{seed}: {at}"),
                        // That of what is no extent is of no meaning.
                        Found::Head(..) if at as u64 * 4096 + u64::from(offset) >= size => {}
                        Found::Head(found, start, number) => {
                            let block =
                                u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
                            assert_eq!(
                                (*found, *start, *number),
                                (kind, offset, block),
                                "{seed}: {at}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_a_fragment_has_a_header_only() {
        let common = Common {
            bits: 12,
            big: true,
            interlaced: true,
            full: false,
        };
        let compressed = |blocks, pos| Compressed {
            extents: [Extent {
                length: 5000,
                block: 7,
                blocks,
                encoded: true,
                partial: false,
            }]
            .into(),
            end: Some(End::Fragment(pos)),
            algorithm: 3,
            start: 0,
            blocks: 0,
        };
        let whole = compressed(0, 0x1_2345_6789);
        assert_eq!(common.layout(&whole), layout::COMPRESSED_FULL);
        assert_eq!(
            common.bytes(&whole, 64),
            [0x89, 0x67, 0x45, 0x23, 1, 0, 0, 0x80]
        );
        // A position of more than 32 bits is in full indexes only.
        for (pos, expected) in [
            (0xffff_ffff, layout::COMPRESSED_COMPACT),
            (0x1_0000_0000, layout::COMPRESSED_FULL),
        ] {
            let mut part = compressed(1, pos);
            let last = Extent {
                length: 100,
                block: 8,
                blocks: 0,
                encoded: true,
                partial: false,
            };
            part.extents = part.extents.iter().copied().chain([last]).collect();
            assert_eq!(common.layout(&part), expected);
        }
    }
}
