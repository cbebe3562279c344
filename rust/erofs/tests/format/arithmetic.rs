// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The arithmetic of extents, chunk tables, indexes of clusters and directories at all its limits: every combination of
//! values at or beside a power of two, and whole domains where they are small. Each answer is that of a model beside the
//! test, which calculates naively in 128 bits; nothing takes more steps than it may. (What the crate computes wraps by
//! name, so checks for overflow alone would not see it.)

use crate::image::*;
use erofs_format::compressed::*;
use erofs_format::ondisk::*;
use erofs_format::{Content, Error, Extent, Inode, Source, Space, Superblock};
use zerocopy::IntoBytes;

/// What a position can be at the most.
const LIMIT: u128 = i64::MAX as u128;

/// Values of so many bits at the limits of what they can be: powers of two and their neighbours, and all ones.
fn limits(bits: u32, powers: &[u32]) -> Vec<u64> {
    let most = u64::MAX >> (64 - bits);
    let around = |power: &u32| {
        let value = 1_u64 << power;
        [value - 1, value, value + 1]
    };
    let mut values: Vec<_> = powers.iter().flat_map(around).collect();
    values.extend([0, most - 1, most]);
    values.retain(|value| *value <= most);
    values.sort_unstable();
    values.dedup();
    values
}

/// An image without a checksum, so that what is in it can be changed in place.
fn unsigned(block_bits: u8) -> Image {
    let mut image = Image::new(block_bits);
    image.superblock.feature_compat = 0.into();
    // The images here have 64 KiB and that is one block at most.
    image.superblock.blocks_lo = 1.into();
    image
}

/// Offsets of a file at which something may change.
fn offsets(size: u64, at: &[u128]) -> Vec<u64> {
    let around = at
        .iter()
        .flat_map(|at| [at.saturating_sub(1), *at, at + 1])
        .chain([0, size.into(), u64::MAX.into()])
        .chain(size.checked_sub(1).map(u128::from));
    let mut offsets: Vec<_> = around.filter_map(|at| u64::try_from(at).ok()).collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// Compares an extent, from an offset on, with what a model says is there: where, and up to which offset.
#[track_caller]
fn compare(found: &Extent, offset: u64, size: u64, source: Source, end: u128, what: &str) {
    let found = found.skip_to(offset);
    let len = end.min(size.into()) - u128::from(offset);
    assert_eq!(
        (u128::from(found.len), found.source),
        (len, source),
        "{what}, at {offset} of {size}"
    );
    if let Source::Device { pos, .. } = found.source {
        assert!(u128::from(pos) + len <= LIMIT, "{what}, at {offset}");
    }
}

/// Files in one run of blocks, with and without a tail behind the inode.
#[test]
fn runs_of_blocks() {
    let mut sound = 0;
    for block_bits in [9, 12, 16] {
        let block = 1_u128 << block_bits;
        let mut image = unsigned(block_bits).finish_unsigned();
        let sb = image.superblock();
        for start in limits(48, &[1, 31, 32, 46, 47]) {
            for size in limits(
                64,
                &[1, 9, 12, 13, 16, 32, 47, 48, 55, 56, 59, 60, 61, 62, 63],
            ) {
                for layout in [layout::FLAT_PLAIN, layout::FLAT_INLINE] {
                    let inode = InodeExtended {
                        i_size: size.into(),
                        i_u: (start as u32).into(),
                        i_nb: ((start >> 32) as u16).into(),
                        ..extended(mode::REGULAR, layout)
                    };
                    image.bytes[FREE as usize * 32..][..64].copy_from_slice(inode.as_bytes());
                    let tail_offset = u128::from(size.saturating_sub(1)) / block * block;
                    let tail = u128::from(FREE * 32 + 64);
                    let is_inline = layout == layout::FLAT_INLINE;
                    let is_hole = !is_inline && start == (1 << 48) - 1;
                    let in_blocks = if is_inline { tail_offset } else { size.into() };
                    let fits = u128::from(size) <= LIMIT
                        && (is_hole
                            || in_blocks == 0 && is_inline
                            // A start is a position, whatever the size is.
                            || u128::from(start) * block <= LIMIT
                                && u128::from(start) * block + in_blocks <= LIMIT);
                    let tail_fits = !is_inline
                        || tail % block + (u128::from(size) - tail_offset) <= block
                            && tail + u128::from(size) - tail_offset <= image.bytes.len() as u128;
                    let read = sb.inode(&image, FREE);
                    let what = format!("{block_bits} bits, start {start:#x}, layout {layout}");
                    assert_eq!(read.is_ok(), fits && tail_fits, "{what}, size {size:#x}");
                    let Ok(read) = read else { continue };
                    sound += 1;
                    for offset in offsets(size, &[tail_offset]) {
                        let (found, calls) =
                            image.count_calls(|| read.extent(&sb, &image, offset).unwrap());
                        assert_eq!(calls, 0);
                        if offset >= size {
                            assert_eq!(found.len, 0);
                        } else if is_hole {
                            compare(&found, offset, size, Source::Hole, size.into(), &what);
                        } else if u128::from(offset) < in_blocks {
                            let pos = u128::from(start) * block + u128::from(offset);
                            let pos = u64::try_from(pos).unwrap();
                            let source = Source::Device { id: 0, pos };
                            compare(&found, offset, size, source, in_blocks, &what);
                        } else {
                            let pos = tail + u128::from(offset) - tail_offset;
                            let source = Source::Metadata {
                                pos: u64::try_from(pos).unwrap(),
                                space: Space::Image,
                            };
                            compare(&found, offset, size, source, size.into(), &what);
                        }
                    }
                }
            }
        }
    }
    assert!(sound > 500, "{sound}");
}

/// What one entry of a chunk table says: the device and the position, `None` for a hole.
type Said = Result<Option<(u16, u128)>, ()>;

fn said(indexes: bool, wide: bool, devices: u16, block_bits: u8, entry: &[u8]) -> Said {
    if !indexes {
        let block = u32::from_le_bytes(entry.try_into().unwrap());
        return Ok((block != u32::MAX).then(|| (0, u128::from(block) << block_bits)));
    }
    let field = |from: usize, to: usize| {
        let bytes = entry[from..to].iter().rev();
        bytes.fold(0_u64, |value, byte| (value << 8) | u64::from(*byte))
    };
    let (high, id, low) = (field(0, 2), field(2, 4), field(4, 8));
    let block = if wide { (high << 32) | low } else { low };
    let ones = if wide {
        (1 << 48) - 1
    } else {
        u64::from(u32::MAX)
    };
    if block == ones {
        return Ok(None);
    }
    // As many bits as the number of devices needs.
    let used = (0..16).take_while(|bit| devices >> bit > 0).count();
    let id = id & ((1 << used) - 1);
    let pos = u128::from(block) << block_bits;
    match id <= devices.into() && pos <= LIMIT {
        true => Ok(Some((id as u16, pos))),
        false => Err(()),
    }
}

/// Tables of three chunks: each of many entries beside each of some others, for chunks of every size.
#[test]
fn chunk_tables() {
    let (mut sound, mut wrong) = (0_u64, 0_u64);
    for (block_bits, devices) in [(9, 0), (9, 3), (12, 1), (16, 4)] {
        for (indexes, wide) in [(false, false), (true, false), (true, true)] {
            let mut image = unsigned(block_bits);
            if devices > 0 {
                image.superblock.feature_incompat =
                    (incompat::CHUNKED_FILE | incompat::DEVICE_TABLE).into();
                image.superblock.extra_devices = devices.into();
            }
            let mut image = image.finish_unsigned();
            let sb = image.superblock();
            let width = if indexes { 8 } else { 4 };
            let entry = |id: u16, block: u64| -> Vec<u8> {
                match indexes {
                    false => (block as u32).to_le_bytes().to_vec(),
                    true => [
                        ((block >> 32) as u16).to_le_bytes().as_slice(),
                        &id.to_le_bytes(),
                        &(block as u32).to_le_bytes(),
                    ]
                    .concat(),
                }
            };
            let ids: &[u16] = if indexes {
                &[0, 1, 2, 3, 4, 5, 0x8001, 0xffff]
            } else {
                &[0]
            };
            let mut entries = Vec::new();
            for block in limits(if wide { 48 } else { 32 }, &[1, 15, 31, 32, 46, 47]) {
                entries.extend(ids.iter().map(|id| entry(*id, block)));
            }
            for chunk in [0_u16, 1, 15, 30, 31] {
                let format = chunk
                    | if indexes { chunk::INDEXES } else { 0 }
                    | if wide { chunk::ADDRESS_48BIT } else { 0 };
                let chunk_size = 1_u128 << (u16::from(block_bits) + chunk);
                // Two chunks and a byte, three but a byte, three.
                for size in [2 * chunk_size + 1, 3 * chunk_size - 1, 3 * chunk_size] {
                    let size = u64::try_from(size).unwrap();
                    let inode = InodeExtended {
                        i_size: size.into(),
                        i_u: u32::from(format).into(),
                        ..extended(mode::REGULAR, layout::CHUNK_BASED)
                    };
                    image.bytes[FREE as usize * 32..][..64].copy_from_slice(inode.as_bytes());
                    let inode = sb.inode(&image, FREE).unwrap();
                    for first in &entries {
                        let next = match said(indexes, wide, devices, block_bits, first) {
                            // The one that follows is among the others.
                            Ok(Some((id, pos))) => {
                                entry(id, ((pos + chunk_size) >> block_bits) as u64)
                            }
                            _ => first.clone(),
                        };
                        for second in [&next, first, &entries[0], &entries[entries.len() - 1]] {
                            let table = [first.as_slice(), second, &next].concat();
                            let at = FREE as usize * 32 + 64;
                            image.bytes[at..at + table.len()].copy_from_slice(&table);
                            let all: Vec<_> = table
                                .chunks(width)
                                .map(|entry| said(indexes, wide, devices, block_bits, entry))
                                .collect();
                            match chunks_are(&sb, &inode, &image, &all, chunk_size) {
                                true => sound += 1,
                                false => wrong += 1,
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(sound > 10_000 && wrong > 1_000, "{sound} {wrong}");
}

/// Compares all extents of a file of chunks with what its entries say. Returns whether all were sound.
fn chunks_are(
    sb: &Superblock,
    inode: &Inode,
    image: &Blocks,
    said: &[Said],
    chunk_size: u128,
) -> bool {
    let size = u128::from(inode.size());
    let mut sound = true;
    for first in 0..said.len() {
        let start = first as u128 * chunk_size;
        let offset = u64::try_from(start).unwrap();
        // As many as follow each other, or are holes.
        let mut last = first;
        while let (Some(next), Ok(this)) = (said.get(last + 1), said[first]) {
            let apart = (last + 1 - first) as u128 * chunk_size;
            let follows = match (this, next) {
                (None, Ok(None)) => true,
                (Some((id, pos)), Ok(Some((other, at)))) => id == *other && pos + apart == *at,
                _ => false,
            };
            if !follows {
                break;
            }
            last += 1;
        }
        let end = ((last + 1) as u128 * chunk_size).min(size);
        let (found, looks) = image.count_looks(|| inode.extent(sb, image, offset));
        assert!(looks <= 4, "{looks}");
        let expected = match said[first] {
            Err(()) => None,
            Ok(None) => Some(Source::Hole),
            Ok(Some((id, pos))) => (pos + (end - start) <= LIMIT).then(|| Source::Device {
                id,
                pos: u64::try_from(pos).unwrap(),
            }),
        };
        match (found, expected) {
            (Ok(found), Some(source)) => {
                compare(&found, offset, inode.size(), source, end, "chunks");
            }
            (Err(Error::Corrupt(_)), None) => sound = false,
            (found, expected) => panic!("chunk {first} of {said:x?}: {found:?}, not {expected:?}"),
        }
    }
    sound
}

/// Where the map header of an extended inode at [`FREE`] is.
const HEADER: usize = FREE as usize * 32 + 64;

/// An image with a compressed file of so many bytes at [`FREE`].
fn compressed(layout: u16, size: u64, header: MapHeader) -> Blocks {
    let mut image = unsigned(9);
    image.superblock.feature_incompat = (incompat::LZ4_0PADDING | incompat::COMPR_CFGS).into();
    image.superblock.available_compr_algs = (algorithm::ALL).into();
    let inode = InodeExtended {
        i_size: size.into(),
        ..extended(mode::REGULAR, layout)
    };
    image.put_inode(FREE, &inode);
    image.put(HEADER as u64, header.as_bytes());
    image.finish_unsigned()
}

fn header(advise: u16) -> MapHeader {
    MapHeader {
        h_fragmentoff: 0.into(),
        h_advise: advise.into(),
        h_algorithmtype: 0,
        h_clusterbits: 0,
    }
}

/// What an index of a logical cluster of 512 bytes says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lcluster {
    /// An extent starts here, at an offset, and its cluster is this block.
    Head {
        plain: bool,
        offset: u64,
        block: u32,
    },
    /// None does. How far it is back to the head, and on to the next.
    Other { back: u64, ahead: u64 },
}

/// What is at an offset by indexes that all are as they should be: start and end of the extent, and its head. `None` if they
/// are not, where all that is asked for is that there is an answer.
fn extent_at(indexes: &[Lcluster], size: u64, offset: u64) -> Option<(u64, u64, Lcluster)> {
    let start_of = |number: usize, index: &Lcluster| match index {
        Lcluster::Head { offset, .. } => Some(number as u64 * 512 + offset),
        Lcluster::Other { .. } => None,
    };
    for (number, index) in indexes.iter().enumerate() {
        match index {
            Lcluster::Head { offset, .. } if *offset >= 512 => return None,
            Lcluster::Head { .. } => {}
            Lcluster::Other { back, ahead } => {
                let is_head = |at: usize| matches!(indexes[at], Lcluster::Head { .. });
                let before = (0..number).rev().find(|at| is_head(*at))?;
                let behind = (number + 1..indexes.len()).find(|at| is_head(*at));
                let behind = behind.unwrap_or(indexes.len());
                if *back != (number - before) as u64 || *ahead != (behind - number) as u64 {
                    return None;
                }
            }
        }
    }
    let starts = indexes
        .iter()
        .enumerate()
        .filter_map(|(number, index)| Some((start_of(number, index)?, *index)));
    let (start, head) = starts.clone().filter(|(at, _)| *at <= offset).last()?;
    let next = starts.map(|(at, _)| at).find(|at| *at > offset);
    Some((start, next.unwrap_or(size).min(size), head))
}

/// Asks for some offsets of a compressed file, and compares with what its indexes say. Returns whether that is anything.
fn indexes_are(sb: &Superblock, inode: &Inode, image: &Blocks, indexes: &[Lcluster]) -> bool {
    let size = inode.size();
    let Some(clusters) = inode.clusters(sb, image).unwrap() else {
        panic!("it is not compressed");
    };
    let mut compared = false;
    let offsets = [0, 1, 511, 512, 1023, 1024, size - 1];
    for offset in offsets.into_iter().filter(|offset| *offset < size) {
        let (found, looks) = image.count_looks(|| clusters.at(sb, image, offset));
        assert!(looks < 60, "{looks} looks");
        let expected = extent_at(indexes, size, offset);
        match (&found, expected) {
            (Ok(found), expected) => {
                let end = found.start + found.len;
                assert!((found.start..end).contains(&offset) && end <= size);
                let Content::Encoded(encoded) = found.content else {
                    panic!("{found:?}");
                };
                let behind = u128::from(encoded.pos) + u128::from(encoded.len);
                assert!(behind <= LIMIT && encoded.len == 512, "{found:?}");
                if let Some((start, expected_end, head)) = expected {
                    let Lcluster::Head { plain, block, .. } = head else {
                        panic!("{head:?}");
                    };
                    assert_eq!((found.start, end), (start, expected_end), "{indexes:?}");
                    assert_eq!(encoded.pos, u64::from(block) * 512, "{indexes:?}");
                    assert_eq!(encoded.encoding == erofs_format::Encoding::Plain, plain);
                    compared = true;
                }
            }
            // What is sound, and yet refused: a cluster of one block that decodes to less, and plain data that is longer.
            (Err(_), Some((start, end, Lcluster::Head { plain, .. }))) => {
                let len = end - start;
                assert!(
                    plain && len > 512 || !plain && len < 512 && end < size,
                    "{indexes:?} at {offset}: {found:?}"
                );
            }
            (Err(_), _) => {}
        }
    }
    compared
}

/// Three logical clusters with full indexes of every kind, at every limit of what they can say.
#[test]
fn full_indexes() {
    let mut all: Vec<([u8; 8], Lcluster)> = Vec::new();
    let mut put = |advise: u16, offset: u16, word: u32, said| {
        let index = LclusterIndex {
            di_advise: advise.into(),
            di_clusterofs: offset.into(),
            di_u: word.into(),
        };
        all.push((index.as_bytes().try_into().unwrap(), said));
    };
    for kind in [lcluster::PLAIN, lcluster::HEAD1] {
        for offset in [0, 1, 511, 512, 0xffff] {
            for block in [7, u32::MAX] {
                let said = Lcluster::Head {
                    plain: kind == lcluster::PLAIN,
                    offset: offset.into(),
                    block,
                };
                put(kind.into(), offset, block, said);
            }
        }
    }
    for back in [0, 1, 2, 3, 0x7ff, 0xf7ff] {
        for ahead in [0, 1, 2, 3, 0xffff] {
            let said = Lcluster::Other {
                back: back.into(),
                ahead: ahead.into(),
            };
            let word = back | (ahead << 16);
            put(lcluster::NONHEAD.into(), 0, word, said);
        }
    }
    let mut compared = 0;
    for size in [1536_u64, 1025] {
        let mut image = compressed(layout::COMPRESSED_FULL, size, header(0));
        let (sb, inode) = image.inode(FREE);
        for first in &all {
            for second in &all {
                for third in &all {
                    let indexes = [first, second, third];
                    let bytes = indexes.map(|(bytes, _)| *bytes).concat();
                    image.bytes[HEADER + 16..][..24].copy_from_slice(&bytes);
                    let said = indexes.map(|(_, said)| *said);
                    compared += u64::from(indexes_are(&sb, &inode, &image, &said));
                }
            }
        }
    }
    assert!(compared > 2_000, "{compared}");
}

/// Indexes that lead on and on: an extent has only so many, and no more are looked at.
#[test]
fn indexes_without_an_end() {
    // As many as the largest extent has, and some.
    let most = u64::from(PCLUSTER_MAX_DECODED_SIZE) / 512;
    let count = most + 100;
    let size = count * 512;
    let other = |back: u32| LclusterIndex {
        di_advise: u16::from(lcluster::NONHEAD).into(),
        di_clusterofs: 0.into(),
        di_u: (back | (1 << 16)).into(),
    };
    let head = LclusterIndex {
        di_advise: u16::from(lcluster::HEAD1).into(),
        ..other(0)
    };
    for (first, offset, what) in [
        (head, 0, "no next head for too long"),
        (head, size - 1, "no head for too long"),
        (other(1), size - 1, "no head for too long"),
        (other(1), 1024, "points back at none"),
    ] {
        let mut image = compressed(layout::COMPRESSED_FULL, size, header(0));
        image.bytes.truncate(HEADER + 16);
        image.bytes.extend_from_slice(first.as_bytes());
        for _ in 1..count {
            image.bytes.extend_from_slice(other(1).as_bytes());
        }
        let (sb, inode) = image.inode(FREE);
        let clusters = inode.clusters(&sb, &image).unwrap().unwrap();
        let (found, looks) = image.count_looks(|| clusters.at(&sb, &image, offset));
        let error = found.unwrap_err().to_string();
        assert!(error.contains(what), "{error}, expected {what}");
        // Each is looked at three times at the most.
        assert!(looks <= 3 * (most + 3), "{looks}");
    }
}

/// A pack of compact indexes for two logical clusters: all values of one entry beside some of the other.
#[test]
fn compact_indexes() {
    let mut image = compressed(layout::COMPRESSED_COMPACT, 1024, header(0));
    let (sb, inode) = image.inode(FREE);
    let said = |kind: u8, value: u16, block, back, ahead| match kind {
        lcluster::NONHEAD => Lcluster::Other { back, ahead },
        kind => Lcluster::Head {
            plain: kind == lcluster::PLAIN,
            offset: value.into(),
            block,
        },
    };
    let some = [
        (lcluster::PLAIN, 0),
        (lcluster::HEAD1, 0),
        (lcluster::HEAD1, 511),
        (lcluster::HEAD2, 512),
        (lcluster::NONHEAD, 0),
        (lcluster::NONHEAD, 1),
        (lcluster::NONHEAD, 0x7ff),
        (lcluster::NONHEAD, 0xfff),
    ];
    let mut compared = 0;
    for kind in 0..4_u8 {
        for value in 0..4096_u16 {
            for (other_kind, other) in some {
                for (first, second) in [
                    ((kind, value), (other_kind, other)),
                    ((other_kind, other), (kind, value)),
                ] {
                    for base in [7_u32, u32::MAX] {
                        // The first entry lowest, the kind above 12 bits of the value, and the block behind both.
                        let word = |(kind, value): (u8, u16)| (u16::from(kind) << 12) | value;
                        let at = HEADER + 8;
                        image.bytes[at..at + 2].copy_from_slice(&word(first).to_le_bytes());
                        image.bytes[at + 2..at + 4].copy_from_slice(&word(second).to_le_bytes());
                        image.bytes[at + 4..at + 8].copy_from_slice(&base.to_le_bytes());
                        // The first head's block is the one behind.
                        let block = base.wrapping_add(1);
                        let is_head = first.0 != lcluster::NONHEAD;
                        let second_block = block.wrapping_add(u32::from(is_head));
                        // The last entry of a pack says how far it is to the next head.
                        let indexes = [
                            said(first.0, first.1, block, first.1.into(), 0),
                            said(second.0, second.1, second_block, 1, second.1.into()),
                        ];
                        compared += u64::from(indexes_are(&sb, &inode, &image, &indexes));
                    }
                }
            }
        }
    }
    assert!(compared > 5_000, "{compared}");
}

/// Records of extents that say where they start, at all limits of positions and sizes.
#[test]
fn records() {
    let (mut sound, mut wrong) = (0, 0);
    let shift = 3 << advise::EXTENT_RECORD_SHIFT;
    let positions = limits(64, &[9, 31, 32, 62, 63]);
    let sizes = limits(21, &[9, 12, 19, 20]);
    let starts = [0_u64, 1, 511, 1 << 32, (1 << 32) + 1, i64::MAX as u64];
    for size in [600_u64, (1 << 32) + 600, i64::MAX as u64] {
        let mut header = header(advise::EXTENTS | shift);
        header.h_fragmentoff = 2.into();
        let mut image = compressed(layout::COMPRESSED_FULL, size, header);
        let (sb, inode) = image.inode(FREE);
        let clusters = inode.clusters(&sb, &image).unwrap().unwrap();
        // They lie at a multiple of their size.
        let at = (HEADER + 8).next_multiple_of(32);
        for pos in &positions {
            for encoded in &sizes {
                for second in starts {
                    for format in [0, 1, 5] {
                        let record = |start: u64, pos: u64| {
                            let record = erofs_format::compressed::Extent {
                                plen: (*encoded as u32 | (format << extent::FORMAT_SHIFT)).into(),
                                pstart_lo: (pos as u32).into(),
                                pstart_hi: ((pos >> 32) as u32).into(),
                                lstart_lo: (start as u32).into(),
                                lstart_hi: ((start >> 32) as u32).into(),
                                reserved: [0; 12],
                            };
                            record.as_bytes().to_vec()
                        };
                        let bytes = [record(0, *pos), record(second, 0)].concat();
                        image.bytes[at..at + 64].copy_from_slice(&bytes);
                        let end = second.min(size);
                        for offset in [0, 599.min(end.saturating_sub(1))] {
                            let (found, looks) =
                                image.count_looks(|| clusters.at(&sb, &image, offset));
                            assert!(looks < 20);
                            let len = u128::from(second);
                            let stored = u128::from(*encoded);
                            let is_last = len >= u128::from(size);
                            let fits = len > 0
                                && len <= u128::from(size)
                                && format < 5
                                && stored <= 1 << 20
                                && len <= 12 << 20
                                && u128::from(*pos) + stored <= LIMIT
                                && match format {
                                    0 => len <= stored,
                                    _ => len >= stored || is_last,
                                };
                            match found {
                                Ok(found) if len > 0 && offset < second => {
                                    assert_eq!((found.start, u128::from(found.len)), (0, len));
                                    match found.content {
                                        Content::Hole => assert_eq!(stored, 0),
                                        Content::Encoded(found) => {
                                            assert!(fits, "{found:?}");
                                            assert_eq!(found.pos, *pos);
                                            assert_eq!(u128::from(found.len), stored);
                                        }
                                        Content::Fragment(_) => panic!("no fragment"),
                                    }
                                    sound += 1;
                                }
                                // The second record has the byte.
                                Ok(found) => assert!(found.start + found.len <= size),
                                Err(_) => {
                                    assert!(!fits || stored == 0, "{second} {stored} {pos:#x}");
                                    wrong += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(sound > 100 && wrong > 1_000, "{sound} {wrong}");
}

/// An image with a directory at [`FREE`], of whole blocks at 16384.
fn directory(blocks: u32) -> Image {
    let mut image = unsigned(9);
    let inode = InodeExtended {
        i_size: (u64::from(blocks) * 512).into(),
        i_u: 32.into(),
        ..extended(mode::DIRECTORY, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    image
}

/// A name of a directory block by the format, and where it begins. `None` where there is none.
fn entry_of(block: &[u8], number: usize) -> Option<(usize, &[u8])> {
    let offset = |number: usize| -> Option<usize> {
        let bytes = block.get(number * 12 + 8..number * 12 + 10)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?).into())
    };
    let count = offset(0)? / 12;
    let from = offset(number)?;
    let to = match number + 1 < count {
        true => offset(number + 1)?,
        false => {
            let rest = block.get(from..)?;
            from + rest
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(rest.len())
        }
    };
    (number < count).then_some((from, block.get(from..to)?))
}

/// One block with two or three entries, of which one has every offset there can be: whoever is found is there by the
/// format.
#[test]
fn every_offset_of_a_name() {
    // Each has its own name as its nid, too, so that a name could be found among the entries.
    let all: [&[u8]; 3] = [b"b", b"dd", b"f"];
    let nid_of = |name: &[u8]| {
        let bytes = name.iter().rev();
        bytes.fold(0, |nid, byte| (nid << 8) | u64::from(*byte))
    };
    let (mut found, mut wrong) = (0, 0);
    for names in [&all[..2], &all] {
        let entries: Vec<_> = names.iter().map(|name| (*name, nid_of(name), 1)).collect();
        let mut sound = directory_block(&entries);
        sound.resize(512, 0);
        let mut image = directory(1).finish_unsigned();
        image.bytes.resize(65536, 0);
        let (sb, inode) = image.inode(FREE);
        for entry in 0..names.len() {
            for offset in 0..=u16::MAX {
                let mut block = sound.clone();
                block[entry * 12 + 8..entry * 12 + 10].copy_from_slice(&offset.to_le_bytes());
                image.bytes[16384..16896].copy_from_slice(&block);
                let entries_end = usize::from(u16::from_le_bytes([block[8], block[9]]));
                for name in names {
                    let (answer, looks) = image.count_looks(|| inode.lookup(&sb, &image, name));
                    assert!(looks < 30, "{looks}");
                    match answer {
                        Ok(Some(dirent)) => {
                            let number = names.iter().position(|name| nid_of(name) == dirent.nid);
                            let (from, there) = entry_of(&block, number.unwrap()).unwrap();
                            let what = format!("{name:?} by entry {entry}: {offset}");
                            assert!(from >= entries_end && there == *name, "{what}");
                            found += 1;
                        }
                        Ok(None) => {}
                        Err(_) => wrong += 1,
                    }
                }
            }
        }
    }
    assert!(found > 100 && wrong > 60_000, "{found} {wrong}");
}

/// All directories of up to six names over two letters, over blocks in every way: each name is found, and no other.
#[test]
fn every_small_directory() {
    let all: [&[u8]; 6] = [b"a", b"aa", b"ab", b"b", b"ba", b"bb"];
    let others: [&[u8]; 5] = [b"A", b"aaa", b"b\x01", b"c", b"\xff"];
    let mut directories = 0;
    for set in 1_u32..64 {
        let names: Vec<&[u8]> = (0..6)
            .filter(|bit| (set >> bit) & 1 == 1)
            .map(|bit| all[bit])
            .collect();
        // A bit for each name but the first: whether a block begins with it.
        for cuts in 0_u32..1 << (names.len() - 1) {
            let mut blocks = vec![vec![(names[0], 0_u64, 1_u8)]];
            for (number, name) in names.iter().enumerate().skip(1) {
                if (cuts >> (number - 1)) & 1 == 1 {
                    blocks.push(Vec::new());
                }
                let last = blocks.len() - 1;
                blocks[last].push((*name, number as u64, 1));
            }
            let mut image = directory(blocks.len() as u32);
            for (number, entries) in blocks.iter().enumerate() {
                image.put(16384 + number as u64 * 512, &directory_block(entries));
            }
            let image = image.finish_unsigned();
            for grains in [0, 3] {
                let image = Blocks::new(image.bytes.clone(), 9).in_grains(grains);
                let (sb, inode) = image.inode(FREE);
                for name in all.iter().chain(&others) {
                    let expected = names.iter().position(|other| other == name);
                    let found = inode.lookup(&sb, &image, name).unwrap();
                    let found = found.map(|dirent| dirent.nid as usize);
                    assert_eq!(found, expected, "{name:?} of {names:?}, cut as {cuts:b}");
                }
            }
            directories += 1;
        }
    }
    // Of n names there are two to the power of n - 1 ways.
    assert_eq!(directories, (3_u32.pow(6) - 1) / 2);
}
