// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Listing directories and finding names in them.

use crate::image::*;
use erofs_format::ondisk::*;
use erofs_format::{DirEntry, Dirent, Error, Inode, Space, Superblock};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::convert::Infallible;
use zerocopy::IntoBytes;

/// Where the directory of these tests has its blocks.
const BLOCKS_AT: u64 = 16384;

type Listing = Vec<(Vec<u8>, u64, u8, u64, u64)>;

/// Lists from `pos` on, at most `limit` entries.
fn list(
    (sb, inode): &(Superblock, Inode),
    image: &Blocks,
    pos: u64,
    limit: usize,
) -> Result<(Listing, u64), Error<Infallible>> {
    let mut entries = Vec::new();
    let mut emit = |entry: &DirEntry<'_>| {
        if entries.len() == limit {
            return false;
        }
        let name = entry.name.to_vec();
        entries.push((name, entry.nid, entry.file_type, entry.pos, entry.next));
        true
    };
    let end = inode.read_dir(sb, image, pos, &mut emit)?;
    Ok((entries, end))
}

/// Distributes sorted names over blocks. Each name's nid is its number plus 1000.
fn pack(names: &BTreeSet<Vec<u8>>, block_size: usize) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let mut entries: Vec<(&[u8], u64, u8)> = Vec::new();
    let mut used = 0;
    for (number, name) in names.iter().enumerate() {
        if used + 12 + name.len() > block_size {
            blocks.push(directory_block(&entries));
            entries.clear();
            used = 0;
        }
        used += 12 + name.len();
        entries.push((name, number as u64 + 1000, (number % 8) as u8));
    }
    if !entries.is_empty() {
        blocks.push(directory_block(&entries));
    }
    blocks
}

/// An image with a directory of these blocks at [`FREE`]: the last inline, or not.
fn directory(block_bits: u8, blocks: &[Vec<u8>], inline: bool, dot_omitted: bool) -> Image {
    let mut image = Image::new(block_bits);
    let block_size = 1usize << block_bits;
    let size = blocks
        .last()
        .map_or(0, |last| (blocks.len() - 1) * block_size + last.len());
    let layout = if inline {
        layout::FLAT_INLINE
    } else {
        layout::FLAT_PLAIN
    };
    let mut inode = InodeCompact {
        i_size: (size as u32).into(),
        i_u: ((BLOCKS_AT >> block_bits) as u32).into(),
        ..compact(mode::DIRECTORY | 0o755, layout)
    };
    if dot_omitted {
        inode.i_format |= format::DOT_OMITTED;
    }
    image.put_inode(FREE, &inode);
    for (number, block) in blocks.iter().enumerate() {
        if inline && number == blocks.len() - 1 {
            image.put(FREE * 32 + 32, block);
        } else {
            image.put(BLOCKS_AT + (number << block_bits) as u64, block);
            // A directory that is not inline has whole blocks.
            let end = BLOCKS_AT + ((number + 1) << block_bits) as u64;
            image.put(end - 1, &[*block.get(block_size - 1).unwrap_or(&0)]);
        }
    }
    image
}

fn names(names: &[&str]) -> BTreeSet<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[test]
fn positions() {
    // Three entries of 12 bytes and names of 5 bytes; blocks of 512 bytes with two in the second.
    let long = |c: char| c.to_string().repeat(200);
    let names = names(&[".", "..", &long('a'), &long('b'), &long('c'), "d"]);
    let image = directory(9, &pack(&names, 512), true, false);
    let image = image.finish();
    let dir = image.inode(FREE);
    let size = dir.1.size();
    let (all, end) = list(&dir, &image, 0, usize::MAX).unwrap();
    let positions: Vec<_> = all.iter().map(|(.., pos, next)| (*pos, *next)).collect();
    assert_eq!(
        positions,
        [
            (0, 12),
            (12, 24),
            (24, 36),
            (36, 512),
            (512, 524),
            (524, size),
        ]
    );
    assert_eq!(end, size);
    assert_eq!(all[2].0, long('a').as_bytes());
    assert_eq!((all[2].1, all[2].2), (1002, 2));

    for pos in 0..size + 20 {
        // The C driver rounds up within a block, and goes on with the next block behind the last.
        let block = pos / 512 * 512;
        let rounded = block + ((pos - block).div_ceil(12) * 12).min(512);
        let expected: Vec<_> = all
            .iter()
            .filter(|(.., at, _)| *at >= rounded)
            .cloned()
            .collect();
        let (rest, end) = list(&dir, &image, pos, usize::MAX).unwrap();
        assert_eq!(rest, expected, "from {pos}");
        assert_eq!(end, pos.max(size), "from {pos}");
    }
}

#[test]
fn stops_when_told() {
    let names = names(&[".", "..", "a", "b"]);
    let image = directory(12, &pack(&names, 4096), true, true);
    let mut plain = pack(&names, 4096);
    plain[0] = directory_block(&[(b"..", 1, 2), (b"a", 2, 1), (b"b", 3, 1)]);
    let image = {
        drop(image);
        directory(12, &plain, true, true).finish()
    };
    let dir = image.inode(FREE);
    let size = dir.1.size();
    let mut seen = Vec::new();
    let mut pos = 0;
    loop {
        let (entries, end) = list(&dir, &image, pos, 1).unwrap();
        let Some((name, .., at, next)) = entries.into_iter().next() else {
            assert_eq!(end, pos);
            break;
        };
        assert!(at >= pos);
        // Where it stopped is where the next one is.
        assert_eq!(end, next);
        seen.push(name);
        pos = end;
    }
    let expected: [&[u8]; 4] = [b"..", b"a", b"b", b"."];
    assert_eq!(seen, expected);
    assert_eq!(pos, size + 1);
}

#[test]
fn omitted_dot_comes_last() {
    let blocks = [directory_block(&[(b"..", ROOT, 2)])];
    let image = directory(12, &blocks, true, true).finish();
    let dir = image.inode(FREE);
    let size = dir.1.size();
    assert!(dir.1.dot_omitted());
    let (all, end) = list(&dir, &image, 0, usize::MAX).unwrap();
    assert_eq!(all[1], (b".".to_vec(), FREE, 2, size, size + 1));
    assert_eq!((all.len(), end), (2, size + 1));
    let (again, end) = list(&dir, &image, size, usize::MAX).unwrap();
    assert_eq!((again.len(), end), (1, size + 1));
    let (nothing, end) = list(&dir, &image, size + 1, usize::MAX).unwrap();
    assert_eq!((nothing.len(), end), (0, size + 1));
    // It is not there to be found.
    assert_eq!(dir.1.lookup(&dir.0, &image, b"."), Ok(None));
    let parent = Dirent {
        nid: ROOT,
        file_type: 2,
    };
    assert_eq!(dir.1.lookup(&dir.0, &image, b".."), Ok(Some(parent)));
}

#[test]
fn empty_directories() {
    for dot_omitted in [false, true] {
        let image = directory(12, &[], true, dot_omitted).finish();
        let dir = image.inode(FREE);
        let (all, end) = list(&dir, &image, 0, usize::MAX).unwrap();
        assert_eq!(all.len() as u64, end);
        assert_eq!(end, u64::from(dot_omitted));
        assert_eq!(dir.1.lookup(&dir.0, &image, b"a"), Ok(None));
    }
}

#[test]
fn other_kinds_are_empty() {
    let mut image = Image::new(12);
    image.inline_file(FREE, mode::REGULAR, &directory_block(&[(b"a", 1, 1)]));
    let image = image.finish();
    let file = image.inode(FREE);
    assert_eq!(list(&file, &image, 3, 9), Ok((vec![], 3)));
    assert_eq!(file.1.lookup(&file.0, &image, b"a"), Ok(None));
}

#[test]
fn one_look_for_a_small_directory() {
    let image = directory(12, &pack(&names(&[".", "..", "a", "b"]), 4096), true, false).finish();
    let (sb, inode) = image.inode(FREE);
    for name in [&b"."[..], b"..", b"a", b"b", b"c", b"!"] {
        let (found, calls) = image.count_calls(|| inode.lookup(&sb, &image, name).unwrap());
        assert_eq!(found.is_some(), !matches!(name, b"c" | b"!"));
        assert_eq!(calls, 1);
    }
}

#[test]
#[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
fn logarithmic_looks_for_a_large_directory() {
    let names: BTreeSet<_> = (0..5000)
        .map(|i| format!("file{i:05}").into_bytes())
        .collect();
    let blocks = pack(&names, 512);
    let image = directory(9, &blocks, false, false).finish();
    let (sb, inode) = image.inode(FREE);
    // One more for the block that was found.
    let most = blocks.len().ilog2() + 2;
    for name in &names {
        let (found, calls) = image.count_calls(|| inode.lookup(&sb, &image, name).unwrap());
        assert!(found.is_some());
        assert!(calls <= most, "{calls} calls for {} blocks", blocks.len());
    }
    let (_, calls) = image.count_calls(|| list(&(sb, inode), &image, 0, usize::MAX).unwrap());
    assert_eq!(calls as usize, blocks.len());
}

#[test]
fn names_that_cannot_be() {
    let image = directory(12, &pack(&names(&["a", "b"]), 4096), true, false).finish();
    let (sb, inode) = image.inode(FREE);
    for name in [&b""[..], b"a/b", b"a\0", b"/", &[b'x'; 256], &[b'x'; 5000]] {
        let (found, calls) = image.count_calls(|| inode.lookup(&sb, &image, name).unwrap());
        assert_eq!((found, calls), (None, 0));
    }
}

#[test]
fn last_name_may_be_followed_by_nuls() {
    for layout in [true, false] {
        let mut block = directory_block(&[(b"a", 1, 1), (b"bcd", 2, 1)]);
        block.resize(4096 - if layout { 200 } else { 0 }, 0);
        let image = directory(12, &[block], layout, false).finish();
        let dir = image.inode(FREE);
        let (all, _) = list(&dir, &image, 0, usize::MAX).unwrap();
        assert_eq!(all[1].0, b"bcd");
        assert_eq!(
            dir.1.lookup(&dir.0, &image, b"bcd").unwrap().unwrap().nid,
            2
        );
    }
}

#[test]
fn in_chunks() {
    let names: BTreeSet<_> = (0..100).map(|i| format!("{i:050}").into_bytes()).collect();
    let blocks = pack(&names, 512);
    let size = (blocks.len() * 512) as u32;
    let mut image = Image::new(9);
    let inode = InodeCompact {
        i_size: size.into(),
        ..compact(mode::DIRECTORY, layout::CHUNK_BASED)
    };
    image.put_inode(FREE, &inode);
    // Backwards.
    for (number, block) in blocks.iter().enumerate() {
        let address = 100 - number as u32;
        image.put(FREE * 32 + 32 + 4 * number as u64, address.as_bytes());
        image.put(u64::from(address) * 512, block);
    }
    for grain_bits in [0, 3] {
        let image = image.finish().in_grains(grain_bits);
        let dir = image.inode(FREE);
        let (all, end) = list(&dir, &image, 0, usize::MAX).unwrap();
        assert_eq!(end, u64::from(size));
        assert!(all.iter().map(|entry| &entry.0).eq(names.iter()));
        for name in &names {
            assert!(dir.1.lookup(&dir.0, &image, name).unwrap().is_some());
        }
    }
}

/// Block with one entry of these fields, and `data` behind it.
fn raw_block(entries: &[(u16, u8)], data: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (nameoff, file_type) in entries {
        let entry = DirectoryEntry {
            nid: ROOT.into(),
            nameoff: (*nameoff).into(),
            file_type: *file_type,
            reserved: 0,
        };
        block.extend_from_slice(entry.as_bytes());
    }
    block.extend_from_slice(data);
    block
}

#[test]
fn corrupt() {
    let at = FREE * 32 + 32;
    let long = [b'x'; 300];
    let first = "first name starts at a wrong place";
    let cases: Vec<(&str, u64, Vec<u8>)> = vec![
        ("too short for an entry", 0, vec![1; 11]),
        (first, 0, raw_block(&[(0, 1)], b"a")),
        (first, 0, raw_block(&[(13, 1)], b"ab")),
        (first, 0, raw_block(&[(11, 1)], b"ab")),
        // At the end of the directory, and beyond.
        (first, 0, raw_block(&[(12, 1)], b"")),
        (first, 0, raw_block(&[(24, 1)], b"a")),
        (first, 0, raw_block(&[(0xfff0, 1)], b"a")),
        // The second name among the entries, beyond the block, and far beyond it.
        (
            "ends before it starts",
            0,
            raw_block(&[(24, 1), (12, 1)], b"ab"),
        ),
        ("name is empty", 0, raw_block(&[(24, 1), (24, 1)], b"ab")),
        (
            "name ends beyond its block",
            0,
            raw_block(&[(24, 1), (0xffff, 1)], b"ab"),
        ),
        (
            "name starts outside",
            12,
            raw_block(&[(24, 1), (26, 1)], b"ab"),
        ),
        ("name is empty", 12, raw_block(&[(24, 1), (25, 1)], b"a\0b")),
        (
            "ends before it starts",
            12,
            raw_block(&[(36, 1), (38, 1), (37, 1)], b"aabbcc"),
        ),
        // 256 bytes: in the middle and at the end.
        ("longer than 255", 0, raw_block(&[(24, 1), (280, 1)], &long)),
        ("longer than 255", 0, raw_block(&[(12, 1)], &long)),
        ("file type", 0, raw_block(&[(12, 8)], b"a")),
        ("file type", 12, raw_block(&[(24, 1), (25, 255)], b"ab")),
        ("NUL or a slash", 0, raw_block(&[(12, 1)], b"a/b")),
        (
            "NUL or a slash",
            0,
            raw_block(&[(24, 1), (27, 1)], b"a\0bc"),
        ),
        (
            "not greater than the one before",
            12,
            raw_block(&[(24, 1), (25, 1)], b"ba"),
        ),
        (
            "not greater than the one before",
            12,
            raw_block(&[(24, 1), (25, 1)], b"aa"),
        ),
    ];
    for (what, offset, block) in cases {
        let image = directory(12, &[block], true, false).finish();
        let dir = image.inode(FREE);
        assert_corrupt(list(&dir, &image, 0, usize::MAX), what, at + offset);
        // Looking for a name may find nothing wrong, but must come to an end.
        for name in [&b"a"[..], b"b", b"zz"] {
            let _ = dir.1.lookup(&dir.0, &image, name);
        }
    }
}

#[test]
fn name_of_255_bytes() {
    let image = directory(12, &[raw_block(&[(12, 1)], &[b'x'; 255])], true, false).finish();
    let dir = image.inode(FREE);
    assert_eq!(list(&dir, &image, 0, 9).unwrap().0[0].0, [b'x'; 255]);
    assert!(dir
        .1
        .lookup(&dir.0, &image, &[b'x'; 255])
        .unwrap()
        .is_some());
}

#[test]
fn dot_must_be_omitted_if_said_so() {
    let block = directory_block(&[(b".", 1, 2), (b"..", 1, 2)]);
    let image = directory(12, &[block], true, true).finish();
    let dir = image.inode(FREE);
    let at = FREE * 32 + 32;
    assert_corrupt(list(&dir, &image, 0, 9), "claims to omit", at);
}

#[test]
fn order_over_blocks() {
    for (second, sound) in [(b"c", true), (b"b", false), (b"a", false)] {
        let mut first = directory_block(&[(b"a", 1, 1), (b"b", 1, 1)]);
        first.resize(512, 0);
        let blocks = [first, directory_block(&[(second, 1, 1)])];
        let image = directory(9, &blocks, true, false).finish();
        let dir = image.inode(FREE);
        let listing = list(&dir, &image, 0, 9);
        if sound {
            assert_eq!(listing.unwrap().0.len(), 3);
        } else {
            let at = FREE * 32 + 32;
            assert_corrupt(listing, "not greater than the one before", at);
        }
    }
}

#[test]
fn corrupt_block_is_found_by_lookup() {
    let image = directory(12, &[raw_block(&[(0, 1)], b"a")], true, false).finish();
    let (sb, inode) = image.inode(FREE);
    let at = FREE * 32 + 32;
    assert_corrupt(inode.lookup(&sb, &image, b"a"), "wrong place", at);
}

#[test]
fn directory_elsewhere() {
    let mut image = Image::new(12);
    image.superblock.feature_incompat = incompat::DEVICE_TABLE.into();
    image.superblock.extra_devices = 1.into();
    let at = FREE * 32;
    let inode = InodeCompact {
        i_size: 100.into(),
        i_u: u32::MAX.into(),
        ..compact(mode::DIRECTORY, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    let check = |image: &Image, what, space, at| {
        let image = image.finish().with_device(0, vec![0; 4096]);
        let dir = image.inode(FREE);
        assert_corrupt_in(list(&dir, &image, 0, 9), what, space, at);
        assert_corrupt_in(dir.1.lookup(&dir.0, &image, b"a"), what, space, at);
    };
    check(&image, "directory is a hole", Space::Image, at);
    let inode = InodeCompact {
        i_size: 100.into(),
        i_u: u32::from(chunk::INDEXES).into(),
        ..compact(mode::DIRECTORY, layout::CHUNK_BASED)
    };
    image.put_inode(FREE, &inode);
    let cut_off = "cut off by the end of its device";
    for (device_id, block, what, space, at) in [
        (0, u32::MAX, "directory has a hole", Space::Image, at),
        (0, 16, cut_off, Space::Device(0), 65536),
        (1, 0, "first name starts", Space::Device(1), 0),
        (1, 1, cut_off, Space::Device(1), 4096),
    ] {
        let index = ChunkIndex {
            startblk_hi: 0.into(),
            device_id: device_id.into(),
            startblk_lo: block.into(),
        };
        image.put(FREE * 32 + 32, index.as_bytes());
        check(&image, what, space, at);
    }
    // Behind the image, where no device has an address.
    let inode = InodeCompact {
        i_size: 100.into(),
        i_u: 16.into(),
        ..compact(mode::DIRECTORY, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    check(&image, cut_off, Space::Device(0), 65536);
}

/// Directories whose blocks lie in devices: by chunk indexes, in any order, and by flat addresses.
#[test]
fn in_devices() {
    let names: BTreeSet<Vec<u8>> = (0..200u32).map(|i| format!("name{i:03}").into()).collect();
    let blocks = pack(&names, 512);
    let size = (blocks.len() - 1) * 512 + blocks.last().unwrap().len();
    let padded = |block: &Vec<u8>| [&block[..], &vec![0; 512 - block.len()]].concat();
    let contents: Vec<u8> = blocks.iter().flat_map(padded).collect();
    let backwards: Vec<u8> = blocks.iter().rev().flat_map(padded).collect();
    let count = blocks.len() as u32;

    let mut image = Image::new(9);
    image.superblock.feature_incompat = (incompat::DEVICE_TABLE | incompat::CHUNKED_FILE).into();
    image.superblock.extra_devices = 2.into();
    let directory = |layout, address: u32| InodeCompact {
        i_size: (size as u32).into(),
        i_u: address.into(),
        ..compact(mode::DIRECTORY | 0o755, layout)
    };
    let mut chunks = |nid: u64, place: &dyn Fn(u32) -> (u16, u32)| {
        let inode = directory(layout::CHUNK_BASED, u32::from(chunk::INDEXES));
        image.put_inode(nid, &inode);
        for number in 0..count {
            let (device_id, block) = place(number);
            let index = ChunkIndex {
                startblk_hi: 0.into(),
                device_id: device_id.into(),
                startblk_lo: block.into(),
            };
            image.put(nid * 32 + 32 + u64::from(number) * 8, index.as_bytes());
        }
    };
    chunks(FREE, &|number| (1, number));
    chunks(FREE + 64, &|number| (2, count - 1 - number));
    chunks(FREE + 128, &|number| match number % 2 {
        0 => (1, number),
        _ => (0, 1000 + count - 1 - number),
    });
    image.put_inode(FREE + 192, &directory(layout::FLAT_PLAIN, 5000));
    for grain in [0, 3] {
        let image = image
            .finish()
            .with_device(5000 << 9, contents.clone())
            .with_device(1000 << 9, backwards.clone())
            .in_grains(grain);
        for nid in [FREE, FREE + 64, FREE + 128, FREE + 192] {
            let dir = image.inode(nid);
            let listed: Vec<Vec<u8>> = list(&dir, &image, 0, usize::MAX)
                .unwrap()
                .0
                .into_iter()
                .map(|entry| entry.0)
                .collect();
            assert!(listed.iter().eq(&names), "the names of inode {nid}");
            for (number, name) in names.iter().enumerate() {
                let found = dir.1.lookup(&dir.0, &image, name).unwrap().unwrap();
                assert_eq!(found.nid, number as u64 + 1000);
            }
            assert_eq!(dir.1.lookup(&dir.0, &image, b"name").unwrap(), None);
        }
    }
}

/// Names that are alike, and some that are not.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xffu8)], 1..6),
        proptest::collection::vec(
            any::<u8>().prop_filter("a name", |c| !matches!(c, 0 | b'/')),
            1..=255
        ),
    ]
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
    fn all_names_are_found_and_no_other(
        names in proptest::collection::btree_set(any_name(), 1..200),
        others in proptest::collection::vec(any_name(), 20),
        block_bits in 9..=12u8,
        grain_bits in 0..=5u8,
        inline: bool,
        whole: bool,
        start in 0..5000u64,
    ) {
        let mut blocks = pack(&names, 1 << block_bits);
        // The tail must fit behind the inode.
        let inline = inline && blocks.last().unwrap().len() + 32 <= 1 << block_bits;
        if !inline && whole {
            blocks.last_mut().unwrap().resize(1 << block_bits, 0);
        }
        let image = directory(block_bits, &blocks, inline, false).finish().in_grains(grain_bits);
        let dir = image.inode(FREE);
        let (all, end) = list(&dir, &image, 0, usize::MAX).unwrap();
        prop_assert_eq!(end, dir.1.size());
        prop_assert!(all.iter().map(|entry| &entry.0).eq(names.iter()));
        for (name, nid, file_type, pos, _) in &all {
            let found = dir.1.lookup(&dir.0, &image, name).unwrap();
            prop_assert_eq!(found, Some(Dirent { nid: *nid, file_type: *file_type }));
            let (again, _) = list(&dir, &image, *pos, 1).unwrap();
            prop_assert_eq!(&again[0].0, name);
        }
        for name in others.iter().filter(|name| !names.contains(*name)) {
            prop_assert_eq!(dir.1.lookup(&dir.0, &image, name).unwrap(), None);
        }
        let (rest, _) = list(&dir, &image, start, usize::MAX).unwrap();
        prop_assert!(all.ends_with(&rest));
    }
}
