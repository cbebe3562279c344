// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From offsets in files to bytes in devices.

use crate::image::*;
use erofs_format::ondisk::*;
use erofs_format::{Extent, Source, Space};
use proptest::prelude::*;
use zerocopy::IntoBytes;

/// Where the chunk table of a compact inode at [`FREE`] is.
const TABLE: u64 = FREE * 32 + 32;

fn device(id: u16, pos: u64) -> Source {
    Source::Device { id, pos }
}

fn behind(pos: u64) -> Source {
    Source::Metadata {
        pos,
        space: Space::Image,
    }
}

/// All extents of the file at [`FREE`], in order; checks that each offset finds its own.
fn extents(image: &Image) -> Vec<Extent> {
    let image = image.finish();
    let (sb, inode) = image.inode(FREE);
    let mut extents = Vec::new();
    let mut offset = 0;
    while offset < inode.size() {
        let extent = inode.extent(&sb, &image, offset).unwrap();
        assert_eq!(extent.start, offset);
        assert!(extent.len > 0 && offset + extent.len <= inode.size());
        let last = offset + extent.len - 1;
        let same = inode.extent(&sb, &image, last).unwrap();
        assert_eq!(same.skip_to(last), extent.skip_to(last));
        extents.push(extent);
        offset += extent.len;
    }
    for offset in [inode.size(), inode.size() + 1, u64::MAX] {
        let nothing = Extent {
            start: offset,
            len: 0,
            source: Source::Hole,
        };
        assert_eq!(inode.extent(&sb, &image, offset), Ok(nothing));
    }
    extents
}

fn extent(start: u64, len: u64, source: Source) -> Extent {
    Extent { start, len, source }
}

#[test]
fn plain() {
    let mut image = Image::new(12);
    let inode = InodeCompact {
        i_size: 10_000.into(),
        i_u: 77.into(),
        ..compact(mode::REGULAR, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    assert_eq!(extents(&image), [extent(0, 10_000, device(0, 77 << 12))]);
    let inode = InodeCompact {
        i_u: u32::MAX.into(),
        ..inode
    };
    image.put_inode(FREE, &inode);
    assert_eq!(extents(&image), [extent(0, 10_000, Source::Hole)]);
    let inode = InodeCompact {
        i_size: 0.into(),
        ..inode
    };
    image.put_inode(FREE, &inode);
    assert_eq!(extents(&image), []);
}

#[test]
fn inline() {
    for (size, expected) in [
        (0, vec![]),
        (1, vec![extent(0, 1, behind(TABLE))]),
        (
            1500,
            vec![
                extent(0, 1024, device(0, 3 << 9)),
                extent(1024, 476, behind(TABLE)),
            ],
        ),
    ] {
        let mut image = Image::new(9);
        let inode = InodeCompact {
            i_size: size.into(),
            i_u: 3.into(),
            ..compact(mode::REGULAR, layout::FLAT_INLINE)
        };
        image.put_inode(FREE, &inode);
        assert_eq!(extents(&image), expected);
    }
}

#[test]
fn flat_layouts_need_no_metadata() {
    let mut image = Image::new(9);
    let inode = InodeCompact {
        i_size: 1500.into(),
        ..compact(mode::REGULAR, layout::FLAT_INLINE)
    };
    image.put_inode(FREE, &inode);
    let image = image.finish();
    let (sb, inode) = image.inode(FREE);
    let (_, calls) = image.count_calls(|| inode.extent(&sb, &image, 1400).unwrap());
    assert_eq!(calls, 0);
}

/// An image with a chunk-based file of `size` bytes at [`FREE`], and two more devices.
fn chunked(block_bits: u8, format: u16, size: u64, table: &[u8]) -> Image {
    let mut image = Image::new(block_bits);
    image.superblock.feature_incompat = (incompat::CHUNKED_FILE | incompat::DEVICE_TABLE).into();
    image.superblock.extra_devices = 2.into();
    let inode = InodeCompact {
        i_size: (size as u32).into(),
        i_u: u32::from(format).into(),
        ..compact(mode::REGULAR, layout::CHUNK_BASED)
    };
    image.put_inode(FREE, &inode);
    image.put(TABLE, table);
    image
}

fn index(device_id: u16, block: u64) -> ChunkIndex {
    ChunkIndex {
        startblk_hi: ((block >> 32) as u16).into(),
        device_id: device_id.into(),
        startblk_lo: (block as u32).into(),
    }
}

#[test]
fn block_map() {
    let addresses = [10u32, 11, 13, u32::MAX, u32::MAX, 0, 1, 2];
    let image = chunked(12, 0, 8 * 4096 - 100, addresses.as_bytes());
    assert_eq!(
        extents(&image),
        [
            extent(0, 2 * 4096, device(0, 10 << 12)),
            extent(2 * 4096, 4096, device(0, 13 << 12)),
            extent(3 * 4096, 2 * 4096, Source::Hole),
            extent(5 * 4096, 3 * 4096 - 100, device(0, 0)),
        ]
    );
}

#[test]
fn indexes() {
    // Chunks of two blocks.
    let format = chunk::INDEXES | 1;
    let entries = [
        index(1, 4),
        index(1, 6),
        // Follows, but in another device.
        index(2, 8),
        // All ones in the address is a hole, whatever the device.
        index(2, u64::from(u32::MAX)),
        index(0, u64::from(u32::MAX)),
        // 16 bits too many do not count.
        index(1, (7 << 32) | 9),
        // Nor do bits of device ids that two devices do not need: 3 = 0b11.
        index(0xfffc | 2, 11),
    ];
    let image = chunked(9, format, 7 * 1024, entries.as_bytes());
    assert_eq!(
        extents(&image),
        [
            extent(0, 2048, device(1, 4 << 9)),
            extent(2048, 1024, device(2, 8 << 9)),
            extent(3072, 2048, Source::Hole),
            extent(5120, 1024, device(1, 9 << 9)),
            extent(6144, 1024, device(2, 11 << 9)),
        ]
    );
}

#[test]
fn indexes_with_48_bits() {
    let format = chunk::INDEXES | chunk::ADDRESS_48BIT;
    let entries = [
        index(1, (7 << 32) | 0xffff_ffff),
        index(1, 8 << 32),
        index(1, (1 << 48) - 1),
        index(0, u64::from(u32::MAX)),
    ];
    let image = chunked(12, format, 4 * 4096, entries.as_bytes());
    assert_eq!(
        extents(&image),
        [
            extent(0, 2 * 4096, device(1, ((7 << 32) | 0xffff_ffff) << 12)),
            extent(2 * 4096, 4096, Source::Hole),
            extent(3 * 4096, 4096, device(0, 0xffff_ffff << 12)),
        ]
    );
}

#[test]
fn large_chunk() {
    // As mkfs.erofs --tar=i does: one chunk that is longer than the file.
    let image = chunked(9, chunk::INDEXES | 31, 100_000, index(1, 3).as_bytes());
    assert_eq!(extents(&image), [extent(0, 100_000, device(1, 3 << 9))]);
}

#[test]
fn device_must_exist() {
    let entries = [index(1, 0), index(3, 8)];
    let image = chunked(12, chunk::INDEXES, 8192, entries.as_bytes()).finish();
    let (sb, inode) = image.inode(FREE);
    // The wrong chunk does no harm to its neighbour.
    let first = inode.extent(&sb, &image, 4095).unwrap();
    assert_eq!(first, extent(0, 4096, device(1, 0)));
    let second = inode.extent(&sb, &image, 4096);
    assert_corrupt(second, "device that is not in the device table", TABLE + 8);
}

#[test]
fn device_ids_do_not_count_without_devices() {
    let mut image = chunked(12, chunk::INDEXES, 4096, index(77, 5).as_bytes());
    image.superblock.feature_incompat = incompat::CHUNKED_FILE.into();
    assert_eq!(extents(&image), [extent(0, 4096, device(0, 5 << 12))]);
}

#[test]
fn address_out_of_range() {
    let format = chunk::INDEXES | chunk::ADDRESS_48BIT;
    for (bits, sound) in [(12, true), (16, false)] {
        let entry = index(0, 0xffff_ffff_fffe);
        let image = chunked(bits, format, 1, entry.as_bytes()).finish();
        let (sb, inode) = image.inode(FREE);
        let read = inode.extent(&sb, &image, 0);
        if sound {
            read.unwrap();
        } else {
            assert_corrupt(read, "address is out of range", TABLE);
        }
    }
    // The start is in range, the end is not.
    let entry = index(0, (1 << 47) - 1);
    let mut image = chunked(16, format | 31, 1, entry.as_bytes());
    let inode = InodeExtended {
        i_size: (1 << 40).into(),
        i_u: u32::from(format | 31).into(),
        ..extended(mode::REGULAR, layout::CHUNK_BASED)
    };
    image.put_inode(FREE, &inode);
    image.put(TABLE + 32, entry.as_bytes());
    let image = image.finish();
    let (sb, inode) = image.inode(FREE);
    let read = inode.extent(&sb, &image, 0);
    assert_corrupt(read, "address is out of range", TABLE + 32);
}

#[test]
fn one_look_at_the_table_for_each_extent() {
    let entries: Vec<_> = (0..2000).map(|i| index(1, i)).collect();
    let image = chunked(12, chunk::INDEXES, 2000 * 4096, entries.as_bytes()).finish();
    let (sb, inode) = image.inode(FREE);
    let (first, calls) = image.count_calls(|| inode.extent(&sb, &image, 0).unwrap());
    assert_eq!(calls, 1);
    // The table starts 32 bytes into a page.
    assert_eq!(first.len, (4096 - 32) / 8 * 4096);
    let next = inode.extent(&sb, &image, first.len).unwrap();
    assert_eq!(next.len, 512 * 4096);
    // A source that gives more at once does not change the answer.
    let whole = &image.bytes[..];
    assert_eq!(inode.extent(&sb, &whole, 0), Ok(first));
}

#[test]
fn skip_to() {
    let whole = extent(100, 50, device(1, 1000));
    assert_eq!(whole.skip_to(100), whole);
    assert_eq!(whole.skip_to(99), whole);
    assert_eq!(whole.skip_to(120), extent(120, 30, device(1, 1020)));
    assert_eq!(whole.skip_to(200), extent(150, 0, device(1, 1050)));
    let tail = extent(0, 9, behind(50));
    assert_eq!(tail.skip_to(4), extent(4, 5, behind(54)));
}

/// Chunks that often follow each other, and often do not.
fn any_chunk() -> impl Strategy<Value = ChunkIndex> {
    (0..3u16, prop_oneof![0..6u64, Just((1 << 48) - 1)]).prop_map(|(id, block)| index(id, block))
}

proptest! {
    /// Each byte is where its own chunk says, however chunks were merged.
    #[test]
    #[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
    fn same_as_chunk_by_chunk(
        entries in proptest::collection::vec(any_chunk(), 1..300),
        cut in 1..1024u64,
        table_offset in 0..64u64,
    ) {
        let format = chunk::INDEXES | chunk::ADDRESS_48BIT | 1;
        let size = entries.len() as u64 * 1024 - (cut - 1);
        let mut image = chunked(9, format, size, entries.as_bytes());
        // Another place in its block for the table.
        let nid = FREE + table_offset;
        let inode = InodeCompact {
            i_size: (size as u32).into(),
            i_u: u32::from(format).into(),
            ..compact(mode::REGULAR, layout::CHUNK_BASED)
        };
        image.put_inode(nid, &inode);
        image.put(nid * 32 + 32, entries.as_bytes());
        let image = image.finish();
        let (sb, inode) = image.inode(nid);
        let mut offset = 0;
        while offset < size {
            let extent = inode.extent(&sb, &image, offset).unwrap();
            prop_assert_eq!(extent.start, offset);
            for at in (offset..offset + extent.len).step_by(512) {
                let entry = entries[(at / 1024) as usize];
                let block = (u64::from(entry.startblk_hi.get()) << 32)
                    | u64::from(entry.startblk_lo.get());
                let source = if block == (1 << 48) - 1 {
                    Source::Hole
                } else {
                    device(entry.device_id.get(), (block << 9) + at % 1024)
                };
                prop_assert_eq!(extent.skip_to(at).source, source);
            }
            offset += extent.len;
        }
        prop_assert_eq!(offset, size);
    }
}
