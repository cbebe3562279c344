// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Damaged images and random bytes: whatever they are, every call returns, after no more steps than it may take.

use crate::image::*;
use crate::walk::walk;
use erofs_format::compressed::*;
use erofs_format::ondisk::*;
use proptest::prelude::*;
use zerocopy::IntoBytes;

/// An image that has one of everything, with its structures close together.
pub fn small_image(block_bits: u8) -> Image {
    let mut image = Image::new(block_bits);
    image.superblock.feature_compat = (compat::SB_CHKSUM | compat::XATTR_FILTER).into();
    image.superblock.feature_incompat = (incompat::LZ4_0PADDING
        | incompat::CHUNKED_FILE
        | incompat::DEVICE_TABLE
        | incompat::XATTR_PREFIXES
        | incompat::FRAGMENTS)
        .into();
    // Of LZ4, as it is without configurations.
    image.superblock.available_compr_algs = 65535.into();
    image.superblock.extra_devices = 1.into();
    image.superblock.devt_slotoff = 9.into();
    image.superblock.xattr_prefix_count = 1;
    image.superblock.packed_nid = 244.into();
    image.put(1152, b"tag");
    image.superblock.xattr_blkaddr = (2048u32 >> block_bits).into();
    image.put(2048, b"\x06\x01\x02\0sharedva");

    let entries: [(&[u8], u64, u8); 11] = [
        (b".", ROOT, 2),
        (b"..", ROOT, 2),
        (b"chunks", 160, 1),
        (b"compact", 213, 1),
        (b"directory", 176, 2),
        (b"extents", 216, 1),
        (b"fifo", 192, 5),
        (b"full", 219, 1),
        (b"inline", 208, 1),
        (b"link", 224, 7),
        (b"plain", 240, 1),
    ];
    image.inline_file(ROOT, mode::DIRECTORY | 0o755, &directory_block(&entries));

    let chunks = InodeExtended {
        i_size: 9000.into(),
        i_u: u32::from(chunk::INDEXES).into(),
        ..extended(mode::REGULAR | 0o644, layout::CHUNK_BASED)
    };
    image.put_inode(160, &chunks);
    for number in 0..18u32 {
        let index = ChunkIndex {
            startblk_hi: 0.into(),
            device_id: 1.into(),
            startblk_lo: (number / 3 * 4 + number % 3).into(),
        };
        image.put(160 * 32 + 64 + 8 * u64::from(number), index.as_bytes());
    }

    let mut first = directory_block(&[(b".", 176, 2), (b"..", ROOT, 2), (b"a", 192, 5)]);
    first.resize(1 << block_bits, 0);
    let second = directory_block(&[(b"b", 208, 1), (b"c", 224, 7)]);
    let directory = InodeCompact {
        i_size: ((first.len() + second.len()) as u32).into(),
        i_u: (8192u32 >> block_bits).into(),
        ..compact(mode::DIRECTORY | 0o755, layout::FLAT_INLINE)
    };
    image.put_inode(176, &directory);
    image.put(176 * 32 + 32, &second);
    image.put(8192, &first);

    let fifo = InodeCompact {
        // A header, one shared id, 24 and 8 bytes.
        i_xattr_icount: 10.into(),
        ..compact(mode::FIFO | 0o600, layout::FLAT_PLAIN)
    };
    image.put_inode(192, &fifo);
    let body = [
        &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        b"\x04\x01\x0d\0namevalue of it  \0\0\0",
        b"\x01\x80\x01\0pv\0\0",
    ]
    .concat();
    image.put(192 * 32 + 32, &body);

    image.inline_file(208, mode::REGULAR | 0o644, b"data");
    compressed_files(&mut image);
    image.inline_file(224, mode::SYMLINK | 0o777, b"inline");
    let plain = InodeCompact {
        i_size: 5000.into(),
        i_u: (16384u32 >> block_bits).into(),
        ..compact(mode::REGULAR | 0o644, layout::FLAT_PLAIN)
    };
    image.put_inode(240, &plain);
    image.inline_file(244, mode::REGULAR, b"\x04\0\x01ab.\0\0");
    image
}

/// Compressed files, with compact indexes, with records of extents and with full indexes.
fn compressed_files(image: &mut Image) {
    let header = |advise: u16, fragment: u32| MapHeader {
        h_fragmentoff: fragment.into(),
        h_advise: advise.into(),
        h_algorithmtype: 0,
        h_clusterbits: 0,
    };
    let size = 3u32 << image.superblock.blkszbits;
    let file = |layout| InodeCompact {
        i_size: size.into(),
        ..compact(mode::REGULAR | 0o644, layout)
    };
    image.put_inode(213, &file(layout::COMPRESSED_COMPACT));
    let mut map = header(0, 0).as_bytes().to_vec();
    for (block, [first, second]) in [
        (7, [(lcluster::HEAD1, 0), (lcluster::NONHEAD, 1)]),
        (8, [(lcluster::HEAD1, 40), (lcluster::PLAIN, 0)]),
    ] {
        let mut pack = CompactPack::new(CompactForm::FourBytes, image.superblock.blkszbits.into());
        pack.set_block(block);
        for (number, (kind, value)) in [(0, first), (1, second)] {
            pack.set_entry(number, CompactEntry { kind, value });
        }
        map.extend_from_slice(pack.as_bytes());
    }
    image.put(213 * 32 + 32, &map);

    image.put_inode(216, &file(layout::COMPRESSED_FULL));
    let records = advise::EXTENTS | (2 << advise::EXTENT_RECORD_SHIFT);
    let mut map = [header(records, 2).as_bytes(), &[0; 8]].concat();
    for (start, len) in [(0, 500), (600, 0)] {
        let record = Extent {
            plen: (len | (1 << extent::FORMAT_SHIFT)).into(),
            pstart_lo: 16384.into(),
            pstart_hi: 0.into(),
            lstart_lo: start.into(),
            lstart_hi: 0.into(),
            reserved: [0; 12],
        };
        map.extend_from_slice(record.as_bytes().split_at(16).0);
    }
    image.put(216 * 32 + 32, &map);

    image.put_inode(219, &file(layout::COMPRESSED_FULL));
    let tail = advise::FRAGMENT_PCLUSTER;
    let mut map = [header(tail, 4).as_bytes(), &[0; 8]].concat();
    for (kind, offset, word) in [
        (lcluster::HEAD1, 0, 16),
        (lcluster::NONHEAD, 0, 1 | (1 << 16)),
        (lcluster::HEAD1, 100, 0),
    ] {
        let index = LclusterIndex {
            di_advise: u16::from(kind).into(),
            di_clusterofs: offset.into(),
            di_u: word.into(),
        };
        map.extend_from_slice(index.as_bytes());
    }
    image.put(219 * 32 + 32, &map);
}

#[test]
fn the_sound_image_is_sound() {
    for block_bits in 9..=12 {
        let walked = walk(&small_image(block_bits).finish());
        // Only the device and the prefix behind the last are missing, and the root's neighbour.
        assert_eq!(walked.errors.len(), 3, "{:?}", walked.errors);
        assert_eq!(
            (walked.inodes, walked.entries, walked.xattrs),
            (10, 16, 3),
            "{walked:?}"
        );
    }
}

/// How often a walk looks at bytes at the most.
const MOST_LOOKS: u64 = 50_000;

/// Walks an image, which must not take many steps, and must find the same however many blocks come at once.
fn walk_soon(image: Blocks) {
    let (found, looks) = image.count_looks(|| walk(&image));
    assert!(looks < MOST_LOOKS, "{looks} looks");
    assert_eq!(walk(&image.in_grains(3)), found);
}

/// Values that are likely to be at some limit.
const EXTREMES: [u8; 10] = [0, 1, 2, 7, 8, 0x20, 0x7f, 0x80, 0xfe, 0xff];

#[test]
#[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
fn each_byte_in_turn() {
    for block_bits in [9, 12] {
        let sound = small_image(block_bits).finish();
        for pos in 1024..sound.bytes.len().min(8192 + 64) {
            if sound.bytes[pos] == 0 && pos % 61 != 0 && !(1024..1184).contains(&pos) {
                continue;
            }
            for value in EXTREMES {
                let mut bytes = sound.bytes.clone();
                bytes[pos] = value;
                sign(&mut bytes);
                walk_soon(Blocks::new(bytes, block_bits));
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
fn each_length() {
    let sound = small_image(9).finish();
    for len in (0..sound.bytes.len()).step_by(3) {
        let mut bytes = sound.bytes[..len].to_vec();
        if len > 2048 {
            sign(&mut bytes);
        }
        walk_soon(Blocks::new(bytes, 9));
    }
}

/// The places of [`small_image`] where its structures are.
fn any_place() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => 1024..1280usize,
        1 => 2048..2064usize,
        8 => 4096..8192usize,
        1 => 8192..8256usize,
    ]
}

/// More cases than elsewhere; the environment (`PROPTEST_CASES`) can ask for still more.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: if cfg!(miri) {
            20
        } else {
            config.cases.max(3000)
        },
        ..config
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn mutations(
        block_bits in 9..=12u8,
        bytes in proptest::collection::vec((any_place(), prop_oneof![
            any::<u8>(),
            proptest::sample::select(&EXTREMES[..]),
        ]), 1..12),
        words in proptest::collection::vec((any_place(), prop_oneof![
            any::<u32>(),
            Just(u32::MAX),
            Just(i32::MAX as u32),
            0..300u32,
        ]), 0..4),
    ) {
        let mut image = small_image(block_bits).finish();
        for (place, value) in bytes {
            image.bytes[place] = value;
        }
        for (place, value) in words {
            let place = place / 4 * 4;
            image.bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        // Damage to the superblock's own numbers is refused at once, and seldom worth a case.
        image.bytes[1024..1028].copy_from_slice(&SUPER_MAGIC.to_le_bytes());
        sign(&mut image.bytes);
        walk_soon(image);
    }

    #[test]
    fn random_bytes(
        block_bits in 9..=12u8,
        bytes in proptest::collection::vec(any::<u8>(), 0..6000),
        with_superblock: bool,
    ) {
        let mut bytes = bytes;
        if with_superblock {
            bytes.resize(bytes.len().max(4096), 0);
            let sound = Image::new(block_bits).finish();
            bytes[1024..1152].copy_from_slice(&sound.bytes[1024..1152]);
            // The root anywhere in the random bytes.
            bytes[1038] = bytes[0] % 128;
            bytes[1039] = 0;
            sign(&mut bytes);
        }
        walk_soon(Blocks::new(bytes, block_bits));
    }
}

/// A directory that claims to be huge, and goes round in circles.
#[test]
#[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
fn endless_directory() {
    let mut image = Image::new(12);
    let mut block = directory_block(&[(b"a", 1, 1)]);
    block.resize(4096, 0);
    image.put(8192, &block);
    // The largest chunks, all of them the same place.
    let inode = InodeExtended {
        i_size: (i64::MAX as u64).into(),
        i_u: u32::from(chunk::BLKBITS_MASK).into(),
        ..extended(mode::DIRECTORY, layout::CHUNK_BASED)
    };
    let mut bytes = image;
    bytes.put(1 << 25, &[0]);
    bytes.put_inode(FREE, &inode);
    for number in 0..(1u64 << 20) {
        bytes.put(FREE * 32 + 64 + 4 * number, &2u32.to_le_bytes());
    }
    let image = bytes.finish();
    let (sb, inode) = image.inode(FREE);
    let (listed, looks) = image.count_looks(|| inode.read_dir(&sb, &image, 0, &mut |_| true));
    assert!(listed.is_err());
    assert!(looks < 64, "{looks} looks");
    let (_, calls) = image.count_calls(|| inode.lookup(&sb, &image, b"b").is_ok());
    assert!(calls <= 128, "{calls}");
}

/// As many attributes as fit an inode, each of which refers to the last of many long prefixes.
#[test]
#[cfg_attr(miri, ignore = "hours, at the speed of Miri")]
fn many_attributes() {
    let mut image = Image::new(9);
    image.superblock.xattr_prefix_count = 128;
    image.superblock.xattr_prefix_start = (1 << 20).into();
    let mut pos = 4 << 20;
    for _ in 0..128 {
        image.put(pos, &[0, 1, 1, 0]);
        pos += 260;
    }
    let inode = InodeCompact {
        i_xattr_icount: u16::MAX.into(),
        ..compact(mode::FIFO, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    for number in 0..65534 {
        let at = FREE * 32 + 32 + 12 + 4 * number;
        image.put(at, &[0, 0xff, 0, 0]);
    }
    let image = image.finish();
    let (sb, inode) = image.inode(FREE);
    let (found, looks) =
        image.count_looks(|| inode.get_xattr(&sb, &image, 1, &[b'x'; 255], &mut []));
    assert_eq!(found, Ok(None));
    assert!(looks < 32 * 65_534, "{looks} looks");
    let mut count = 0;
    let (listed, looks) = image.count_looks(|| {
        inode.list_xattrs(&sb, &image, &mut |_| {
            count += 1;
            true
        })
    });
    listed.unwrap_err();
    assert!(looks < 1_000, "{looks} looks");
}
