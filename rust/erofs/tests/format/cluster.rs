// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From offsets in compressed files to physical clusters: files written by hand, in every form that indexes have, whose
//! extents come out as they went in; and what contradicts the format.

use crate::image::*;
use erofs_format::compressed::*;
use erofs_format::ondisk::*;
use erofs_format::{
    Algorithm, Cluster, Clusters, Content, Encoded, Encoding, Error, Inode, Row, Space, Superblock,
};
use std::convert::Infallible;
use zerocopy::IntoBytes;

/// Blocks of the images here, as a power of two.
const BITS: u8 = 9;
const BLOCK: u32 = 1 << BITS;

/// Where the map header of an extended inode at [`FREE`] is.
const HEADER: u64 = FREE * 32 + 64;

/// An extent as it goes in.
#[derive(Clone, Copy, Debug)]
struct Piece {
    len: u64,
    kind: u8,
    block: u32,
    /// 0 for a hole.
    blocks: u32,
    partial: bool,
}

fn piece(len: u64, kind: u8, block: u32, blocks: u32) -> Piece {
    Piece {
        len,
        kind,
        block,
        blocks,
        partial: false,
    }
}

/// What is behind an inode.
struct Map {
    advise: u16,
    algorithms: u8,
    /// What a lcluster's size is, relative to a block's.
    shift: u8,
    fragment: u32,
}

impl Map {
    fn new(advise: u16) -> Self {
        Map {
            advise,
            // LZ4, and Zstandard as the second one.
            algorithms: 0x30,
            shift: 3,
            fragment: 0,
        }
    }

    fn bits(&self) -> u32 {
        u32::from(BITS + self.shift)
    }

    fn big(&self) -> bool {
        self.advise & (advise::BIG_PCLUSTER_1 | advise::BIG_PCLUSTER_2) != 0
    }

    fn header(&self) -> MapHeader {
        MapHeader {
            h_fragmentoff: self.fragment.into(),
            h_advise: self.advise.into(),
            h_algorithmtype: self.algorithms,
            h_clusterbits: self.shift,
        }
    }

    /// For each lcluster: the piece that starts in it, and where; or how far the last one is back, and the next ahead.
    fn indexes(&self, pieces: &[Piece]) -> Vec<Result<(Piece, u32), (u32, u32)>> {
        let size: u64 = pieces.iter().map(|piece| piece.len).sum();
        let count = size.div_ceil(1 << self.bits()) as usize;
        let mut heads = vec![None; count];
        let mut start = 0;
        for piece in pieces {
            let head = &mut heads[(start >> self.bits()) as usize];
            assert!(head.is_none(), "two heads in one lcluster");
            *head = Some((*piece, (start & ((1 << self.bits()) - 1)) as u32));
            start += piece.len;
        }
        let away = |mut all: Box<dyn Iterator<Item = &Option<_>> + '_>| {
            all.position(|head: &Option<(Piece, u32)>| head.is_some())
        };
        (0..count)
            .map(|number| {
                heads[number].ok_or_else(|| {
                    let back = away(Box::new(heads[..number].iter().rev())).unwrap() + 1;
                    let ahead = away(Box::new(heads[number + 1..].iter()))
                        .unwrap_or(count - number - 1)
                        + 1;
                    (back as u32, ahead as u32)
                })
            })
            .collect()
    }

    /// Full indexes, with the header.
    fn full(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut bytes = [self.header().as_bytes(), &[0; 8]].concat();
        let indexes = self.indexes(pieces);
        for (number, index) in indexes.iter().enumerate() {
            let mut found = LclusterIndex {
                di_advise: u16::from(lcluster::NONHEAD).into(),
                di_clusterofs: 0.into(),
                di_u: 0.into(),
            };
            match index {
                Ok((piece, offset)) => {
                    let mut advise = u16::from(piece.kind);
                    if piece.partial {
                        advise |= lcluster::PARTIAL_REF;
                    }
                    if piece.blocks == 0 {
                        advise |= lcluster::HOLE;
                    }
                    found.di_advise = advise.into();
                    found.di_clusterofs = (*offset as u16).into();
                    found.di_u = piece.block.into();
                }
                Err((back, ahead)) => {
                    let mut low = *back;
                    if self.big() && low == 1 {
                        if let Ok((piece, _)) = &indexes[number - 1] {
                            low = u32::from(lcluster::CBLKCNT) | piece.blocks;
                        }
                    }
                    found.di_u = (low | (ahead << 16)).into();
                }
            }
            bytes.extend_from_slice(found.as_bytes());
        }
        bytes
    }

    /// Compact indexes, with the header, from a position of the image on.
    fn compact(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut bytes = self.header().as_bytes().to_vec();
        let indexes = self.indexes(pieces);
        let two_bytes = self.advise & advise::COMPACTED_2B != 0;
        let layout = CompactLayout::new(HEADER + 8, indexes.len() as u64, two_bytes);
        let says_blocks = |number: usize| match (number.checked_sub(1), indexes.get(number)) {
            (Some(before), Some(Err(_))) if self.big() => {
                indexes[before].as_ref().ok().map(|(piece, _)| *piece)
            }
            _ => None,
        };
        let mut number = 0;
        while number < indexes.len() {
            let within = (number as u64).wrapping_sub(layout.first) < layout.two_bytes;
            let form = match within {
                true => CompactForm::TwoBytes,
                false => CompactForm::FourBytes,
            };
            let mut pack = CompactPack::new(form, self.bits());
            let last = form.count() - 1;
            let mut first = None;
            for entry in 0..=last {
                let at = number + entry as usize;
                let Some(index) = indexes.get(at) else {
                    continue;
                };
                let entry_of = |kind, value| CompactEntry {
                    kind,
                    value: value as u16,
                };
                pack.set_entry(
                    entry,
                    match index {
                        Ok((piece, offset)) => {
                            first = first.or(Some(piece.block));
                            entry_of(piece.kind, *offset)
                        }
                        Err((back, ahead)) => {
                            let value = match says_blocks(at) {
                                Some(piece) => {
                                    first = first.or(Some(piece.block));
                                    u32::from(lcluster::CBLKCNT) | piece.blocks
                                }
                                None if entry == last => *ahead,
                                None => *back,
                            };
                            entry_of(lcluster::NONHEAD, value)
                        }
                    },
                );
            }
            let before = u32::from(!self.big());
            pack.set_block(first.map_or(0, |first| first.wrapping_sub(before)));
            bytes.extend_from_slice(pack.as_bytes());
            number += form.count() as usize;
        }
        bytes
    }

    /// Records of 16 or 32 bytes, with the header.
    fn records(&self, pieces: &[Piece], size: u64) -> Vec<u8> {
        let shift = (size / 4).trailing_zeros() as u16;
        let header = MapHeader {
            h_fragmentoff: (pieces.len() as u32).into(),
            h_advise: (self.advise | advise::EXTENTS | (shift << advise::EXTENT_RECORD_SHIFT))
                .into(),
            h_algorithmtype: 0,
            h_clusterbits: 0,
        };
        let mut bytes = header.as_bytes().to_vec();
        while (HEADER + bytes.len() as u64) % size != 0 {
            bytes.push(0xee);
        }
        let mut start = 0;
        for piece in pieces {
            let record = Extent {
                plen: plen(piece).into(),
                pstart_lo: (piece.block * BLOCK).into(),
                pstart_hi: 0.into(),
                lstart_lo: (start as u32).into(),
                lstart_hi: 0.into(),
                reserved: [0; 12],
            };
            bytes.extend_from_slice(&record.as_bytes()[..size as usize]);
            start += piece.len;
        }
        bytes
    }

    /// Records of 4 or 8 bytes, of extents as long as lclusters.
    fn short_records(&self, pieces: &[Piece], size: u64) -> Vec<u8> {
        let shift = (size / 4).trailing_zeros() as u16;
        let header = MapHeader {
            h_advise: (self.advise | advise::EXTENTS | (shift << advise::EXTENT_RECORD_SHIFT))
                .into(),
            ..self.header()
        };
        let mut bytes = header.as_bytes().to_vec();
        if size == 4 {
            bytes.extend_from_slice(&u64::from(pieces[0].block * BLOCK).to_le_bytes());
        }
        for piece in pieces {
            bytes.extend_from_slice(&plen(piece).to_le_bytes());
            if size == 8 {
                bytes.extend_from_slice(&(piece.block * BLOCK).to_le_bytes());
            }
        }
        bytes
    }
}

fn plen(piece: &Piece) -> u32 {
    let format = match piece.kind {
        lcluster::PLAIN => 0,
        lcluster::HEAD1 => u32::from(algorithm::LZ4) + 1,
        _ => u32::from(algorithm::ZSTD) + 1,
    };
    let partial = if piece.partial { extent::PARTIAL } else { 0 };
    match piece.blocks {
        0 => 0,
        blocks => (blocks * BLOCK) | partial | (format << extent::FORMAT_SHIFT),
    }
}

/// An image with a file of so many bytes at [`FREE`], and this behind its inode.
fn image(size: u64, layout: u16, map: &[u8]) -> Image {
    let mut image = Image::new(BITS);
    image.superblock.feature_incompat =
        (incompat::LZ4_0PADDING | incompat::COMPR_CFGS | incompat::FRAGMENTS).into();
    image.superblock.available_compr_algs = algorithm::ALL.into();
    let inode = InodeExtended {
        i_size: size.into(),
        ..extended(mode::REGULAR | 0o644, layout)
    };
    image.put_inode(FREE, &inode);
    image.put(HEADER, map);
    image
}

fn open(image: &Blocks) -> Result<(Superblock, Inode, Clusters), Error<Infallible>> {
    let (sb, inode) = image.inode(FREE);
    let clusters = inode.clusters(&sb, image)?;
    Ok((sb, inode, clusters.unwrap()))
}

/// All extents of the file; checks that each offset finds its own, however many bytes come at once.
fn clusters(image: &Blocks) -> Result<Vec<Cluster>, Error<Infallible>> {
    let (sb, inode, clusters) = open(image)?;
    let mut found = Vec::new();
    let mut offset = 0;
    while offset < inode.size() {
        let cluster = clusters.at(&sb, image, offset)?;
        assert_eq!(cluster.start, offset);
        assert!(cluster.len > 0 && offset + cluster.len <= inode.size());
        for within in [1, cluster.len / 2, cluster.len - 1] {
            let at = offset + within.min(cluster.len - 1);
            assert_eq!(clusters.at(&sb, image, at), Ok(cluster), "at {at}");
        }
        found.push(cluster);
        offset += cluster.len;
    }
    for offset in [inode.size(), inode.size() + 1, u64::MAX] {
        assert!(clusters.at(&sb, image, offset).is_err());
    }
    Ok(found)
}

/// What is expected of pieces.
fn expected(pieces: &[Piece], interlaced: bool) -> Vec<Cluster> {
    let mut start = 0;
    let cluster = |piece: &Piece| {
        let cluster = Cluster {
            start,
            len: piece.len,
            content: match piece.blocks {
                0 => Content::Hole,
                blocks => Content::Encoded(Encoded {
                    encoding: match piece.kind {
                        lcluster::PLAIN if interlaced => Encoding::Interlaced,
                        lcluster::PLAIN => Encoding::Plain,
                        lcluster::HEAD1 => Encoding::Compressed(Algorithm::Lz4),
                        _ => Encoding::Compressed(Algorithm::Zstd),
                    },
                    space: Space::Device(0),
                    pos: u64::from(piece.block * BLOCK),
                    len: blocks * BLOCK,
                    partial: piece.partial,
                }),
            },
        };
        start += piece.len;
        cluster
    };
    pieces.iter().map(cluster).collect()
}

/// Pieces one behind the other, as compact indexes have to have them. Lclusters are of 4096 bytes.
fn in_row(big: bool, lens: &[u64]) -> Vec<Piece> {
    let mut block = 40;
    let pieces = lens.iter().enumerate().map(|(number, len)| {
        let kind = match number % 5 {
            2 if *len <= 512 => lcluster::PLAIN,
            3 => lcluster::HEAD2,
            _ => lcluster::HEAD1,
        };
        // The size is said in the lcluster behind the head, if that has none.
        let blocks = if big && *len > 8192 { 5 } else { 1 };
        let found = piece(*len, kind, block, blocks);
        block += blocks;
        found
    });
    pieces.collect()
}

/// Lengths of extents, with at most one start in each lcluster of 4096 bytes.
const LENGTHS: [&[u64]; 7] = [
    &[1],
    &[4096, 4096, 4096],
    &[4097, 4096, 100],
    &[9000, 4200, 4100, 20_000, 4096, 1],
    &[100_000, 4096, 5000, 5001, 70_000, 40_000, 12_345],
    &[4096; 40],
    &[8300; 50],
];

#[test]
#[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
fn indexes_of_every_form_say_the_same() {
    for lens in LENGTHS {
        for (big, shift, two_bytes) in [
            (false, 3, false),
            (false, 3, true),
            (true, 3, false),
            (true, 3, true),
        ] {
            let mut map = Map::new(0);
            map.shift = shift;
            if big {
                map.advise |= advise::BIG_PCLUSTER_1 | advise::BIG_PCLUSTER_2;
            }
            let pieces = in_row(big, lens);
            let size = lens.iter().sum();
            let wanted = Ok(expected(&pieces, false));
            let name = format!("{lens:?}, big {big}, 2-byte {two_bytes}");
            let full = image(size, layout::COMPRESSED_FULL, &map.full(&pieces)).finish();
            assert_eq!(clusters(&full), wanted, "full, {name}");
            assert_eq!(clusters(&full.in_grains(3)), wanted, "full, {name}");
            if two_bytes {
                map.advise |= advise::COMPACTED_2B;
            }
            let compact = image(size, layout::COMPRESSED_COMPACT, &map.compact(&pieces)).finish();
            assert_eq!(clusters(&compact), wanted, "compact, {name}");
            for bytes in [16, 32] {
                let records = Map::new(0).records(&pieces, bytes);
                let records = image(size, layout::COMPRESSED_FULL, &records).finish();
                assert_eq!(clusters(&records), wanted, "{bytes} bytes, {name}");
            }
        }
    }
}

#[test]
fn full_indexes_have_holes_and_parts_of_clusters() {
    let mut pieces = [
        piece(5000, lcluster::HEAD1, 40, 1),
        piece(4000, lcluster::HEAD2, 99, 0),
        piece(5000, lcluster::HEAD1, 40, 1),
        piece(300, lcluster::PLAIN, 3, 1),
    ];
    pieces[2].partial = true;
    for (advise, interlaced) in [(0, false), (advise::INTERLACED_PCLUSTER, true)] {
        let map = Map::new(advise).full(&pieces);
        let image = image(14_300, layout::COMPRESSED_FULL, &map).finish();
        assert_eq!(clusters(&image), Ok(expected(&pieces, interlaced)));
        for bytes in [16, 32] {
            let records = Map::new(0).records(&pieces, bytes);
            let records = crate::cluster::image(14_300, layout::COMPRESSED_FULL, &records);
            assert_eq!(clusters(&records.finish()), Ok(expected(&pieces, false)));
        }
    }
}

#[test]
fn short_records_are_of_one_size() {
    let pieces: Vec<_> = in_row(false, &[4096, 4096, 4096, 4096, 17]);
    for bytes in [4, 8] {
        let map = Map::new(0).short_records(&pieces, bytes);
        let image = image(4 * 4096 + 17, layout::COMPRESSED_FULL, &map).finish();
        assert_eq!(clusters(&image), Ok(expected(&pieces, false)), "{bytes}");
    }
}

#[test]
fn the_last_extent_may_be_behind_the_indexes_or_in_the_packed_inode() {
    let pieces = in_row(false, &[5000, 9000, 700]);
    let count = 4u64;
    for (layout_of, full) in [
        (layout::COMPRESSED_FULL, true),
        (layout::COMPRESSED_COMPACT, false),
    ] {
        let make = |map: &Map| match full {
            true => map.full(&pieces),
            false => map.compact(&pieces),
        };
        let mut map = Map::new(advise::INLINE_PCLUSTER);
        map.fragment = MapHeader::of_idata_size(60).get();
        let behind = if full { 16 + 8 * count } else { 8 + 4 * count };
        let mut wanted = expected(&pieces, false);
        wanted[2].content = Content::Encoded(Encoded {
            encoding: Encoding::Compressed(Algorithm::Lz4),
            space: Space::Image,
            pos: HEADER + behind,
            len: 60,
            partial: false,
        });
        let inline = image(14_700, layout_of, &make(&map)).finish();
        if pieces[2].kind == lcluster::PLAIN {
            panic!("the last piece is to be compressed");
        }
        assert_eq!(clusters(&inline), Ok(wanted), "full {full}");

        let mut map = Map::new(advise::FRAGMENT_PCLUSTER);
        map.fragment = 0x1234_5678;
        let mut wanted = expected(&pieces, false);
        let upper = if full {
            u64::from(pieces[2].block) << 32
        } else {
            0
        };
        wanted[2].content = Content::Fragment(0x1234_5678 | upper);
        let fragment = image(14_700, layout_of, &make(&map)).finish();
        assert_eq!(clusters(&fragment), Ok(wanted), "full {full}");

        // All of the file.
        let header = (MapHeader::FRAGMENT_INODE | 77).to_le_bytes();
        let fragment = image(14_700, layout_of, &header).finish();
        assert!(open(&fragment).unwrap().2.is_fragment());
        let all = Cluster {
            start: 0,
            len: 14_700,
            content: Content::Fragment(77),
        };
        assert_eq!(clusters(&fragment), Ok(vec![all]));
    }
}

#[test]
fn indexes_lie_in_the_metabox_with_their_inode() {
    let pieces = in_row(false, &[5000, 9000, 700]);
    let map = Map::new(0).full(&pieces);
    let mut of = image(14_700, layout::COMPRESSED_FULL, &map);
    of.superblock.sb_extslots = 1;
    of.superblock.feature_incompat =
        (of.superblock.feature_incompat.get() | incompat::METABOX).into();
    of.put(1152, &40u64.to_le_bytes());
    let blocks = of.finish();
    // What the inode holds is the same as the image, so that it is found there, too.
    let image = blocks.with_metabox(40);
    let sb = image.superblock();
    let inode = sb.inode(&image, FREE | NID_METABOX).unwrap();
    assert_eq!(inode.space(), Space::Inode(40));
    let clusters = inode.clusters(&sb, &image).unwrap().unwrap();
    let wanted = expected(&pieces, false);
    assert_eq!(clusters.at(&sb, &image, 6000), Ok(wanted[1]));
}

/// What is wrong, and said.
#[test]
fn contradictions() {
    let pieces = in_row(false, &[5000, 9000, 700]);
    let size = 14_700;
    let sound = Map::new(0).full(&pieces);
    let table = 16;
    type Damage = fn(&mut Vec<u8>, usize);
    let cases: [(&str, Damage); 6] = [
        ("points back at none", |map, table| {
            // The first one is none that a file starts with.
            map[table..table + 8].copy_from_slice(&[2, 0, 0, 0, 1, 0, 1, 0]);
        }),
        ("points back at none", |map, table| {
            // A distance of 0 leads nowhere.
            map[table + 8..table + 16].copy_from_slice(&[1, 0, 0xff, 0x0f, 9, 0, 0, 0]);
            map[table + 16..table + 24].copy_from_slice(&[2, 0, 0, 0, 0, 0, 1, 0]);
        }),
        ("offset beyond its logical cluster", |map, table| {
            map[table + 8 + 3] = 0x10;
        }),
        ("number of blocks", |map, table| {
            map[table + 16..table + 24].copy_from_slice(&[2, 0, 0, 0, 2, 8, 1, 0]);
        }),
        ("smaller than what it holds", |map, table| map[table] = 0),
        ("algorithm that the image does not announce", |map, _| {
            map[6] = 2
        }),
    ];
    for (what, damage) in cases {
        let mut map = sound.clone();
        damage(&mut map, table);
        let mut of = image(size, layout::COMPRESSED_FULL, &map);
        of.superblock.available_compr_algs = 0b1001.into();
        let image = of.finish();
        let Ok((sb, _, clusters)) = open(&image) else {
            panic!("{what}: the header is wrong");
        };
        let found: Vec<String> = (0..size)
            .step_by(512)
            .filter_map(|offset| clusters.at(&sb, &image, offset).err())
            .map(|error| error.to_string())
            .collect();
        assert!(
            found.iter().any(|error| error.contains(what)),
            "{what}: {found:?}"
        );
    }
}

#[test]
fn records_have_to_be_in_order() {
    let pieces = in_row(false, &[4096, 4096, 4096, 4096]);
    let sound = Map::new(0).records(&pieces, 16);
    let mut map = sound.clone();
    let second = map.len() - 3 * 16;
    // It starts behind the third.
    map[second + 12..second + 16].copy_from_slice(&13_000u32.to_le_bytes());
    let image = image(4 * 4096, layout::COMPRESSED_FULL, &map).finish();
    let (sb, _, clusters) = open(&image).unwrap();
    let wrong = (0..4 * 4096)
        .step_by(512)
        .filter(|offset| clusters.at(&sb, &image, *offset).is_err())
        .count();
    assert!(wrong > 0);
}

/// A table that an image of a few bytes claims to have, of more records than are gone through.
#[test]
fn records_in_a_row_have_a_limit() {
    let pieces = in_row(false, &[4096, 4096, 4096]);
    let map = Map::new(0).short_records(&pieces, 4);
    for (number, refused) in [((1 << 22) - 1, false), (1 << 22, true), (1 << 40, true)] {
        let image = image(1 << 60, layout::COMPRESSED_FULL, &map).finish();
        let (sb, _, clusters) = open(&image).unwrap();
        match clusters.at(&sb, &image, number << 12) {
            Err(Error::Unsupported(feature)) => {
                assert!(refused, "{number}");
                assert_eq!(feature.name, "extents in a row");
            }
            Err(Error::Corrupt(_)) => assert!(!refused, "{number}"),
            found => panic!("{number}: {found:?}"),
        }
    }
}

/// Who asks for one extent after the other has each record read once, and who goes back gets the same.
#[test]
fn records_in_a_row_are_read_once() {
    const COUNT: u64 = 300;
    let map = Map::new(0).short_records(&in_row(false, &[4096; COUNT as usize]), 4);
    let image = image(COUNT << 12, layout::COMPRESSED_FULL, &map).finish();
    let (sb, _, clusters) = open(&image).unwrap();
    let mut row = Row::default();
    let (_, calls) = image.count_calls(|| {
        for number in 0..COUNT {
            clusters
                .at_after(&sb, &image, number << 12, &mut row)
                .unwrap();
        }
    });
    assert!(u64::from(calls) <= 4 * COUNT, "{calls}");
    for number in [COUNT - 1, 7, 200, 200, 0, 1] {
        let found = clusters.at_after(&sb, &image, number << 12, &mut row);
        assert_eq!(found, clusters.at(&sb, &image, number << 12));
    }
}

#[test]
fn plain_records_of_whole_blocks_may_be_interlaced() {
    let pieces = [
        piece(4096, lcluster::PLAIN, 40, 8),
        piece(4096, lcluster::HEAD1, 60, 1),
    ];
    for (advise, interlaced) in [(0, false), (advise::INTERLACED_PCLUSTER, true)] {
        for bytes in [16, 32] {
            let map = Map::new(advise).records(&pieces, bytes);
            let image = image(8192, layout::COMPRESSED_FULL, &map).finish();
            assert_eq!(clusters(&image), Ok(expected(&pieces, interlaced)));
        }
    }
}

#[test]
fn what_is_behind_the_indexes_ends_in_its_block() {
    let room = u64::from(BLOCK) - (HEADER + 8 + 8 + 8) % u64::from(BLOCK);
    for (len, fits) in [(room as u16, true), (room as u16 + 1, false)] {
        let mut map = Map::new(advise::INLINE_PCLUSTER);
        map.fragment = u32::from(len) << 16;
        let map = map.full(&[piece(4096, lcluster::HEAD1, 0, 1)]);
        let image = image(4096, layout::COMPRESSED_FULL, &map).finish();
        let (sb, _, clusters) = open(&image).unwrap();
        let found = clusters.at(&sb, &image, 0);
        if fits {
            let Content::Encoded(encoded) = found.unwrap().content else {
                panic!("no bytes");
            };
            assert_eq!((encoded.pos + u64::from(encoded.len)) % u64::from(BLOCK), 0);
        } else {
            assert_corrupt(found, "inline data crosses a block", HEADER + 16);
        }
    }
}

/// Each bit of what is behind an inode, wrong by itself: every call returns, with an extent that has the offset or an error.
#[test]
#[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
fn each_bit_of_indexes() {
    let lens = &[9000, 4200, 4100, 20_000, 4096, 1];
    let size: u64 = lens.iter().sum();
    let mut map = Map::new(advise::BIG_PCLUSTER_1 | advise::BIG_PCLUSTER_2);
    let pieces = in_row(true, lens);
    let full = map.full(&pieces);
    map.advise |= advise::COMPACTED_2B;
    let compact = map.compact(&pieces);
    let records = Map::new(0).records(&pieces, 32);
    let short = Map::new(0).short_records(&in_row(false, &[4096; 11]), 4);
    for (layout, sound) in [
        (layout::COMPRESSED_FULL, full),
        (layout::COMPRESSED_COMPACT, compact),
        (layout::COMPRESSED_FULL, records),
        (layout::COMPRESSED_FULL, short),
    ] {
        for bit in 0..sound.len() * 8 {
            let mut map = sound.clone();
            map[bit / 8] ^= 1 << (bit % 8);
            let image = image(size, layout, &map).finish();
            let Ok((sb, _, clusters)) = open(&image) else {
                continue;
            };
            for offset in (0..size).step_by(1000).chain([size - 1]) {
                if let Ok(found) = clusters.at(&sb, &image, offset) {
                    let end = found.start.checked_add(found.len).unwrap();
                    assert!((found.start..end).contains(&offset) && end <= size);
                    if let Content::Encoded(encoded) = found.content {
                        assert!(encoded.len > 0 && encoded.len <= PCLUSTER_MAX_SIZE);
                        assert!(found.len <= PCLUSTER_MAX_DECODED_SIZE.into());
                    }
                }
            }
        }
    }
}

#[test]
fn what_the_superblock_says_of_algorithms() {
    type Case<'a> = (
        u16,
        &'a [&'a [u8]],
        Result<(u32, u16, u32, u8, u32), &'a str>,
    );
    let lz4: &[u8] = &[14, 0, 0x34, 0x12, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let lzma: &[u8] = &[14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let deflate: &[u8] = &[6, 0, 15, 0, 0, 0, 0, 0];
    let zstd: &[u8] = &[6, 0, 0, 7, 0, 0, 0, 0];
    let cases: [Case<'_>; 10] = [
        (
            0b1111,
            &[lz4, lzma, deflate, zstd],
            Ok((8 * BLOCK, 0x1234, 0x1_0000, 15, 1 << 17)),
        ),
        (0b1000, &[zstd], Ok((BLOCK, 0xffff, 0, 0, 1 << 17))),
        // Longer than what is known of it, and padded.
        (
            0b1001,
            &[&[17, 0], &lz4[2..], &[9, 9, 9, 0], zstd],
            Ok((8 * BLOCK, 0x1234, 0, 0, 1 << 17)),
        ),
        (
            0b0001,
            &[&[13, 0], &lz4[2..]],
            Err("configuration is cut off"),
        ),
        (
            0b0001,
            &[&[14, 0, 0, 0, 0xff, 0xff]],
            Err("LZ4 is out of range"),
        ),
        (
            0b0010,
            &[&[14, 0, 0xff, 0x0f, 0, 0]],
            Err("dictionary size"),
        ),
        (0b0010, &[&lzma[..6], &[1, 0]], Err("format of LZMA")),
        (0b0100, &[&[6, 0, 16]], Err("window of DEFLATE")),
        (0b1000, &[&[6, 0, 0, 11]], Err("window of Zstandard")),
        (0b1000, &[&[6, 0, 1, 7]], Err("format of Zstandard")),
    ];
    for (available, configs, expected) in cases {
        let mut image = Image::new(BITS);
        image.superblock.feature_incompat = (incompat::LZ4_0PADDING | incompat::COMPR_CFGS).into();
        image.superblock.available_compr_algs = available.into();
        image.put(1152, &configs.concat());
        let image = image.finish();
        let found = image.superblock().compression(&image);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(
                (
                    found.lz4_pcluster_max,
                    found.lz4_max_distance,
                    found.lzma_dictionary,
                    found.deflate_window_bits,
                    found.zstd_window
                ),
                expected
            ),
            (Err(error), Err(what)) => assert!(error.to_string().contains(what), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }
    // Without configurations, the superblock has the distance itself.
    for (value, expected) in [(0, 0xffff), (0x4321, 0x4321)] {
        let mut image = Image::new(BITS);
        image.superblock.feature_incompat = incompat::LZ4_0PADDING.into();
        image.superblock.available_compr_algs = value.into();
        let image = image.finish();
        let found = image.superblock().compression(&image).unwrap();
        assert_eq!((found.algorithms, found.lz4_max_distance), (1, expected));
    }
}
