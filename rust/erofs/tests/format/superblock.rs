// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is read from a superblock, and what is refused.

use crate::image::*;
use erofs_format::ondisk::*;
use erofs_format::{Corrupt, Error, Feature, Space, Superblock};

#[test]
fn values() {
    let mut image = Image::new(12);
    image.superblock.meta_blkaddr = 0.into();
    image.superblock.xattr_blkaddr = 3.into();
    let sb = image.finish().superblock();
    assert_eq!(sb.block_bits(), 12);
    assert_eq!(sb.block_size(), 4096);
    assert_eq!(sb.blocks(), 16);
    assert_eq!(sb.root_nid(), ROOT);
    assert_eq!(sb.packed_nid(), None);
    assert_eq!(sb.inodes(), 1);
    assert_eq!(&sb.uuid(), b"0123456789abcdef");
    assert_eq!(sb.volume_name(), b"label");
    assert_eq!(sb.epoch(), 1_700_000_000);
    assert_eq!(sb.build_time(), 1_700_000_007);
    assert_eq!(sb.fixed_nsec(), 5);
    assert_eq!(sb.compat(), compat::SB_CHKSUM);
    assert_eq!(sb.incompat(), incompat::CHUNKED_FILE);
    assert!(sb.checksum().is_some());
    assert_eq!(sb.size(), 128);
    assert_eq!(sb.meta_pos(), 0);
    assert_eq!(sb.xattr_pos(), 3 * 4096);
    assert_eq!(sb.device_count(), 0);
    assert!(!sb.has_xattr_filter());
    assert_eq!(sb.ishare_prefix(), None);
}

#[test]
fn label_without_padding() {
    let mut image = Image::new(12);
    image.superblock.volume_name = *b"sixteen letters!";
    let sb = image.finish().superblock();
    assert_eq!(sb.volume_name(), b"sixteen letters!");
}

#[test]
fn checksum_covers_the_superblocks_block() {
    // The block size, and the last byte that the checksum covers.
    for (bits, last) in [(9, 1535), (10, 2047), (11, 2047), (12, 4095), (16, 65535)] {
        let image = Image::new(bits).finish();
        image.superblock();
        for pos in [1152, last] {
            let mut damaged = image.bytes.clone();
            damaged[pos] ^= 1;
            let damaged = Blocks::new(damaged, bits);
            assert_corrupt(Superblock::read(&damaged, 16), "checksum is wrong", 1024);
        }
        let mut other = image.bytes.clone();
        other[1023] ^= 1;
        if last + 1 < other.len() {
            other[last + 1] ^= 1;
        }
        Blocks::new(other, bits).superblock();
    }
}

#[test]
fn checksum_only_if_the_feature_is_set() {
    let mut image = Image::new(12);
    image.superblock.checksum = 77.into();
    assert_corrupt(
        Superblock::read(&image.finish_unsigned(), 12),
        "checksum is wrong",
        1024,
    );
    image.superblock.feature_compat = 0.into();
    let image = image.finish_unsigned();
    assert_eq!(image.superblock().checksum(), None);
}

#[test]
fn large_root_nid_and_block_count() {
    let mut image = Image::new(12);
    image.superblock.rootnid_8b = 0x1_0000_0001.into();
    // Without 48-bit layout the fields mean what they always did.
    let sb = image.finish().superblock();
    assert_eq!((sb.root_nid(), sb.blocks()), (ROOT, 16));
    image.superblock.feature_incompat = incompat::LAYOUT_48BIT.into();
    let sb = image.finish().superblock();
    assert_eq!(sb.root_nid(), 0x1_0000_0001);
    assert_eq!(sb.blocks(), 16 | (ROOT << 32));
    // A root nid that fits 16 bits may be where it always was.
    image.superblock.rootnid_8b = 0.into();
    let sb = image.finish().superblock();
    assert_eq!((sb.root_nid(), sb.blocks()), (ROOT, 16));
}

#[test]
fn times_before_1970() {
    let mut image = Image::new(12);
    image.superblock.epoch = u64::MAX.into();
    let sb = image.finish().superblock();
    assert_eq!(sb.epoch(), -1);
    assert_eq!(sb.build_time(), 6);
}

#[test]
fn not_erofs() {
    let mut image = Image::new(12);
    image.superblock.magic = 1.into();
    let read = |image: &Blocks| Superblock::read(image, 12);
    assert!(matches!(read(&image.finish()), Err(Error::NotErofs)));
    for len in [0, 1, 1024, 1025, 1151] {
        let mut image = Image::new(12);
        image.truncate(len);
        let image = image.finish_unsigned();
        assert!(matches!(read(&image), Err(Error::NotErofs)), "{len}");
    }
}

#[test]
fn corrupt() {
    type Damage = fn(&mut Image);
    let cases: [(&str, Damage); 10] = [
        ("too short to name the metabox", |image| {
            image.superblock.feature_incompat = incompat::METABOX.into();
        }),
        ("metabox lies in itself", |image| {
            image.superblock.feature_incompat = incompat::METABOX.into();
            image.superblock.sb_extslots = 1;
            image.put(1152, &(NID_METABOX | 40).to_le_bytes());
        }),
        ("block size", |image| image.superblock.blkszbits = 8),
        ("block size", |image| image.superblock.blkszbits = 17),
        ("block size", |image| image.superblock.blkszbits = 255),
        ("extension slots", |image| {
            image.superblock.sb_extslots = 255
        }),
        ("nanoseconds", |image| {
            image.superblock.fixed_nsec = 1_000_000_000.into();
        }),
        ("device table", |image| {
            image.superblock.feature_incompat = incompat::DEVICE_TABLE.into();
            image.superblock.extra_devices = 503.into();
            image.superblock.devt_slotoff = 10.into();
        }),
        ("device table", |image| {
            image.superblock.feature_incompat = incompat::DEVICE_TABLE.into();
            image.superblock.extra_devices = u16::MAX.into();
            image.superblock.devt_slotoff = u16::MAX.into();
        }),
        ("prefix for sharing", |image| {
            image.superblock.feature_compat = (compat::ISHARE_XATTRS | compat::SB_CHKSUM).into();
            image.superblock.xattr_prefix_count = 2;
            image.superblock.ishare_xattr_prefix_id = 2;
        }),
    ];
    for (what, damage) in cases {
        let mut image = Image::new(12);
        damage(&mut image);
        let image = image.finish_unsigned();
        let mut bytes = image.bytes;
        if bytes[1036] == 12 {
            sign(&mut bytes);
        }
        assert_corrupt(Superblock::read(&Blocks::new(bytes, 12), 12), what, 1024);
    }
}

#[test]
fn cut_off_within_the_checksummed_block() {
    let mut image = Image::new(12);
    image.truncate(4095);
    assert_corrupt(Superblock::read(&image.finish(), 12), "cut off", 1024);
    // Without a checksum nothing needs the rest of the block.
    image.superblock.feature_compat = 0.into();
    image.truncate(1152);
    image.finish().superblock();
}

#[test]
fn unsupported() {
    let read = |image: &Image, bits| Superblock::read(&image.finish(), bits);
    for bits in 10..=12 {
        let name = "block size above the page size";
        assert_unsupported(read(&Image::new(bits), bits - 1), name, bits.into());
        read(&Image::new(bits), bits).unwrap();
    }
    let mut image = Image::new(12);
    image.superblock.dirblkbits = 1;
    assert_unsupported(read(&image, 12), "directory block size", 1);
    let mut image = Image::new(12);
    image.superblock.available_compr_algs = 1.into();
    assert!(!read(&image, 12).unwrap().lz4_is_padded());
    for (bits, unknown) in [(0x10, 0x10), (0xffff, 0xfff0), (0x8001, 0x8000)] {
        let mut image = Image::new(12);
        image.superblock.feature_incompat = (incompat::COMPR_CFGS | incompat::LZ4_0PADDING).into();
        image.superblock.available_compr_algs = bits.into();
        assert_unsupported(read(&image, 12), "compression algorithm", unknown);
    }
    for (bit, name, bits) in [
        (0x200, "unknown incompatible feature", 0x200),
        (0x8000_0001, "unknown incompatible feature", 0x8000_0000),
        (u32::MAX, "unknown incompatible feature", !0x1ff),
    ] {
        let mut image = Image::new(12);
        image.superblock.feature_incompat = bit.into();
        assert_unsupported(read(&image, 12), name, bits);
    }
}

#[test]
fn compatible_features_may_be_unknown() {
    let mut image = Image::new(12);
    image.superblock.feature_compat = (!compat::ISHARE_XATTRS).into();
    image.finish().superblock();
}

#[test]
fn packed_inode_needs_its_feature() {
    let mut image = Image::new(12);
    image.superblock.packed_nid = 300.into();
    assert_eq!(image.finish().superblock().packed_nid(), None);
    image.superblock.feature_incompat = incompat::FRAGMENTS.into();
    assert_eq!(image.finish().superblock().packed_nid(), Some(300));
}

#[test]
fn root_must_be_a_directory() {
    let mut image = Image::new(12);
    let sound = image.finish();
    sound.superblock().root(&sound).unwrap();
    image.inline_file(ROOT, mode::REGULAR | 0o644, b"");
    let damaged = image.finish();
    let root = damaged.superblock().root(&damaged);
    assert_corrupt(root, "not a directory", ROOT * 32);
}

#[test]
fn messages() {
    let mut image = Image::new(12);
    image.superblock.feature_incompat = 0x200.into();
    let error = Superblock::read(&image.finish(), 12).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown incompatible feature (0x200) is not supported, at offset 1024"
    );
    image.superblock.fixed_nsec = u32::MAX.into();
    image.superblock.feature_incompat = 0.into();
    let error = Superblock::read(&image.finish(), 12).unwrap_err();
    assert_eq!(
        error.to_string(),
        "superblock's nanoseconds are a second or more at offset 1024"
    );
}

/// An error with another one behind it.
#[derive(Debug)]
struct Failure(std::fmt::Error);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the disk is gone")
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn errors_of_the_metadatas_source_come_through() {
    use std::error::Error as _;
    let error = Error::Io(5).map_io(|_| Failure(std::fmt::Error));
    assert_eq!(error.to_string(), "the disk is gone");
    assert!(error.source().unwrap().is::<std::fmt::Error>());
    let corrupt = Corrupt {
        what: "it is wrong",
        at: 7,
        space: Space::Device(2),
    };
    let feature = Feature {
        name: "feature",
        bits: 1,
        at: 8,
    };
    for (error, text) in [
        (Error::NotErofs, "not an EROFS image"),
        (corrupt.into(), "it is wrong at offset 7 of device 2"),
        (feature.into(), "feature (0x1) is not supported"),
    ] {
        let same = error.map_io(|(): ()| Failure(std::fmt::Error));
        assert!(same.to_string().contains(text), "{same}");
        assert!(same.source().is_none());
    }
}
