// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The device table.

use crate::image::*;
use erofs_format::ondisk::*;
use erofs_format::DeviceSlot;
use erofs_format::VerityTag;
use zerocopy::IntoBytes;

fn slot(tag: &[u8], blocks: u64, uniaddr: u64) -> erofs_format::ondisk::DeviceSlot {
    let mut slot = erofs_format::ondisk::DeviceSlot {
        tag: [0; 64],
        blocks_lo: (blocks as u32).into(),
        uniaddr_lo: (uniaddr as u32).into(),
        blocks_hi: ((blocks >> 32) as u16).into(),
        uniaddr_hi: ((uniaddr >> 32) as u16).into(),
        reserved: [0; 52],
    };
    slot.tag[..tag.len()].copy_from_slice(tag);
    slot
}

fn image(slots: &[erofs_format::ondisk::DeviceSlot], features: u32) -> Image {
    let mut image = Image::new(9);
    image.superblock.feature_incompat = (incompat::DEVICE_TABLE | features).into();
    image.superblock.extra_devices = (slots.len() as u16).into();
    // In the middle of nowhere, and across blocks.
    image.superblock.devt_slotoff = 11.into();
    image.put(11 * 128, slots.as_bytes());
    image
}

#[test]
fn slots_in_order() {
    let slots = [
        slot(b"", 1, 2),
        slot(&[b'f'; 64], u64::from(u32::MAX), 0),
        slot(b"blob", 0x1_2345_6789, 0x2_0000_0000),
    ];
    let image = image(&slots, 0).finish();
    let sb = image.superblock();
    assert_eq!(sb.device_count(), 3);
    let read: Vec<_> = (0..3).map(|i| sb.device(&image, i).unwrap()).collect();
    assert_eq!(read[0].name(), b"");
    assert_eq!((read[0].blocks, read[0].uniaddr), (1, 2));
    assert_eq!(read[1].name(), [b'f'; 64]);
    assert_eq!(read[1].blocks, u64::from(u32::MAX));
    assert_eq!(read[2].name(), b"blob");
    // The upper bits count only with 48-bit layout.
    assert_eq!((read[2].blocks, read[2].uniaddr), (0x2345_6789, 0));
    let at = (11 + 3) * 128;
    assert_corrupt(sb.device(&image, 3), "too short", at);
}

#[test]
fn slots_with_48_bits() {
    let slots = [slot(b"blob", 0x1_2345_6789, 0x2_0000_0000)];
    let image = image(&slots, incompat::LAYOUT_48BIT).finish();
    let slot = image.superblock().device(&image, 0).unwrap();
    let mut tag = [0; 64];
    tag[..4].copy_from_slice(b"blob");
    let expected = DeviceSlot {
        tag,
        blocks: 0x1_2345_6789,
        uniaddr: 0x2_0000_0000,
    };
    assert_eq!(slot, expected);
}

#[test]
fn addresses_fit_a_position() {
    let most = (1 << 48) - 1;
    let mut image = image(&[slot(b"", most, most)], incompat::LAYOUT_48BIT);
    let at = 11 * 128;
    let sound = image.finish();
    sound.superblock().device(&sound, 0).unwrap();
    image.superblock.blkszbits = 16;
    let damaged = image.finish();
    let sb = damaged.superblock();
    assert_corrupt(sb.device(&damaged, 0), "size is out of range", at);
}

#[test]
fn no_slots_without_the_feature() {
    let mut image = image(&[slot(b"", 1, 1)], 0);
    image.superblock.feature_incompat = 0.into();
    let image = image.finish();
    let sb = image.superblock();
    assert_eq!(sb.device_count(), 0);
    assert_corrupt(sb.device(&image, 0), "too short", 11 * 128);
}

#[test]
fn fs_verity_digests_are_tags_of_one_form() {
    let verity = |tag: &[u8]| {
        let image = image(&[slot(tag, 1, 0)], 0).finish();
        image.superblock().device(&image, 0).unwrap().verity()
    };
    // What coreutils' basenc makes of the bytes, without its padding.
    let digests = [
        ([0; 32], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ([0xff; 32], "__________________________________________8"),
        (
            core::array::from_fn(|at| [0xfb, 0xef, 0xbe][at % 3]),
            "------------------------------------------8",
        ),
        (
            core::array::from_fn(|at| (at * 9 + 230) as u8),
            "5u_4AQoTHCUuN0BJUltkbXZ_iJGao6y1vsfQ2eLr9P0",
        ),
    ];
    for (digest, text) in digests {
        let tag = format!("fsverity-sha256:{text}");
        assert_eq!(verity(tag.as_bytes()), Some(VerityTag::Sha256(digest)));
    }
    for wrong in [
        "fsverity-",
        "fsverity-sha256:",
        "fsverity-sha256",
        "fsverity-sha512:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        // A letter too few or too many, bits behind the end, padding, the other alphabet, none.
        "fsverity-sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "fsverity-sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "fsverity-sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
        "fsverity-sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "fsverity-sha256:++++++++++++++++++++++++++++++++++++++++++8",
        "fsverity-sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA AAAAA",
    ] {
        assert_eq!(
            verity(wrong.as_bytes()),
            Some(VerityTag::Unknown),
            "{wrong}"
        );
    }
    for other in ["", "blob", "FSVERITY-sha256:", "fsverity", &"0".repeat(64)] {
        assert_eq!(verity(other.as_bytes()), None, "{other}");
    }
}
