// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Extended attributes: inline, shared, under long prefixes, behind a name filter.

use crate::image::*;
use erofs_format::ondisk::*;
use erofs_format::{
    split_xattr_name, xattr_entry_size, xattr_filter_bit, xattr_prefix, Error, Xattr,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::convert::Infallible;
use zerocopy::IntoBytes;

/// Where the attribute body of a compact inode at [`FREE`] is.
const BODY: u64 = FREE * 32 + 32;
/// Where shared attribute 0 of these tests is.
const SHARED: u64 = 32768;

const USER: u8 = xattr_index::USER;
const TRUSTED: u8 = xattr_index::TRUSTED;

/// An attribute with its padding.
fn attribute(index: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let entry = XattrEntry {
        e_name_len: name.len() as u8,
        e_name_index: index,
        e_value_size: (value.len() as u16).into(),
    };
    let mut bytes = [entry.as_bytes(), name, value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let size = xattr_entry_size(name.len() as u8, value.len() as u16);
    assert_eq!(bytes.len(), size as usize);
    bytes
}

/// A long prefix with its padding.
fn long_prefix(index: u8, infix: &[u8]) -> Vec<u8> {
    let prefix = XattrLongPrefix {
        length: (infix.len() as u16 + 1).into(),
        base_index: index,
    };
    let mut bytes = [prefix.as_bytes(), infix].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An image with a fifo at [`FREE`] that has these shared and inline attributes.
fn image(block_bits: u8, filter: u32, shared: &[u32], inline: &[Vec<u8>]) -> Image {
    let mut image = Image::new(block_bits);
    image.superblock.xattr_blkaddr = ((SHARED >> block_bits) as u32).into();
    image.superblock.feature_compat = (compat::SB_CHKSUM | compat::XATTR_FILTER).into();
    let header = XattrBodyHeader {
        h_name_filter: filter.into(),
        h_shared_count: shared.len() as u8,
        h_reserved2: [0; 7],
    };
    let inline = inline.concat();
    let body = [header.as_bytes(), shared.as_bytes(), &inline].concat();
    let inode = InodeCompact {
        i_xattr_icount: ((body.len() - 12) as u16 / 4 + 1).into(),
        ..compact(mode::FIFO, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    image.put(BODY, &body);
    image
}

fn get(image: &Blocks, index: u8, name: &[u8]) -> Result<Option<Vec<u8>>, Error<Infallible>> {
    let (sb, inode) = image.inode(FREE);
    let mut buf = vec![0; 65535];
    let size = inode.get_xattr(&sb, image, index, name, &mut buf)?;
    Ok(size.map(|size| buf[..size].to_vec()))
}

type Names = Vec<(u8, Vec<u8>, u16)>;

fn list(image: &Blocks) -> Result<Names, Error<Infallible>> {
    let (sb, inode) = image.inode(FREE);
    let mut names = Vec::new();
    let mut emit = |xattr: &Xattr<'_>| {
        names.push((xattr.index, xattr.name.to_vec(), xattr.value_size));
        true
    };
    inode.list_xattrs(&sb, image, &mut emit)?;
    Ok(names)
}

/// Names with their values, as they come in one go.
fn read(image: &Blocks) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (sb, inode) = image.inode(FREE);
    let mut found = Vec::new();
    let mut emit = |xattr: &Xattr<'_>| {
        let mut value = vec![7; usize::from(xattr.value_size) + 1];
        let (exact, short) = (value.len() - 1, value.len().saturating_sub(2));
        assert_eq!(xattr.read_value(image, &mut value[..exact]), Ok(true));
        assert_eq!(value[exact], 7);
        value.truncate(exact);
        if exact > 0 {
            let mut buf = vec![7; short];
            assert_eq!(xattr.read_value(image, &mut buf), Ok(false));
            assert_eq!(buf, vec![7; short]);
        }
        found.push((xattr.name.to_vec(), value));
        true
    };
    inode.list_xattrs(&sb, image, &mut emit).unwrap();
    found
}

#[test]
fn none() {
    let mut image = Image::new(12);
    image.put_inode(FREE, &compact(mode::FIFO, layout::FLAT_PLAIN));
    let image = image.finish();
    assert_eq!(get(&image, USER, b"a"), Ok(None));
    assert_eq!(list(&image), Ok(vec![]));
    let (_, inode) = image.inode(FREE);
    assert!(!inode.may_have_xattr(USER, b"a"));
}

#[test]
fn inline_and_shared() {
    let mut image = image(
        12,
        0,
        &[0, 5],
        &[
            attribute(USER, b"inline", b"1"),
            attribute(TRUSTED, b"empty", b""),
            attribute(xattr_index::POSIX_ACL_ACCESS, b"", b"acl"),
        ],
    );
    image.put(SHARED, &attribute(USER, b"shared", b"22"));
    image.put(SHARED + 20, &attribute(USER, b"other", b"333"));
    let image = image.finish();
    for (index, name, value) in [
        (USER, &b"inline"[..], Some(&b"1"[..])),
        (TRUSTED, b"empty", Some(b"")),
        (xattr_index::POSIX_ACL_ACCESS, b"", Some(b"acl")),
        (USER, b"shared", Some(b"22")),
        (USER, b"other", Some(b"333")),
        (TRUSTED, b"inline", None),
        (USER, b"inlin", None),
        (USER, b"inline1", None),
        (USER, b"", None),
        (USER, &[b'x'; 255], None),
        (USER, &[b'x'; 256], None),
    ] {
        let value = value.map(<[u8]>::to_vec);
        assert_eq!(get(&image, index, name), Ok(value), "{index} {name:?}");
    }
    assert_eq!(
        list(&image).unwrap(),
        [
            (USER, b"inline".to_vec(), 1),
            (TRUSTED, b"empty".to_vec(), 0),
            (xattr_index::POSIX_ACL_ACCESS, b"".to_vec(), 3),
            (USER, b"shared".to_vec(), 2),
            (USER, b"other".to_vec(), 3),
        ]
    );
    let expected: [(&[u8], &[u8]); 5] = [
        (b"inline", b"1"),
        (b"empty", b""),
        (b"", b"acl"),
        (b"shared", b"22"),
        (b"other", b"333"),
    ];
    let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
    assert_eq!(read(&image), expected);
}

#[test]
fn small_buffers_are_left_alone() {
    let image = image(12, 0, &[], &[attribute(USER, b"a", b"value")]).finish();
    let (sb, inode) = image.inode(FREE);
    for (len, expected) in [(0, &b""[..]), (4, b"...."), (5, b"value"), (6, b"value.")] {
        let mut buf = vec![b'.'; len];
        let size = inode.get_xattr(&sb, &image, USER, b"a", &mut buf);
        assert_eq!((size, &buf[..]), (Ok(Some(5)), expected));
    }
}

#[test]
fn listing_stops_when_told() {
    let entries = [attribute(USER, b"a", b""), attribute(USER, b"b", b"")];
    let image = image(12, 0, &[], &entries).finish();
    let (sb, inode) = image.inode(FREE);
    let mut calls = 0;
    let mut emit = |_: &Xattr<'_>| {
        calls += 1;
        false
    };
    inode.list_xattrs(&sb, &image, &mut emit).unwrap();
    assert_eq!(calls, 1);
}

#[test]
fn filter_spares_the_look() {
    let bit = xattr_filter_bit(USER, b"a");
    let image = image(12, !bit, &[], &[attribute(USER, b"a", b"1")]);
    let sound = image.finish();
    assert_eq!(get(&sound, USER, b"a"), Ok(Some(b"1".to_vec())));
    let (sb, inode) = sound.inode(FREE);
    assert!(inode.may_have_xattr(USER, b"a"));
    assert!(!inode.may_have_xattr(TRUSTED, b"a"));
    let (found, calls) = sound.count_calls(|| {
        inode
            .get_xattr(&sb, &sound, TRUSTED, b"a", &mut [])
            .unwrap()
    });
    assert_eq!((found, calls), (None, 0));
}

#[test]
fn filter_only_if_understood() {
    let mut image = image(12, u32::MAX, &[], &[attribute(USER, b"a", b"1")]);
    assert_eq!(get(&image.finish(), USER, b"a"), Ok(None));
    image.superblock.xattr_filter_reserved = 1;
    let value = Ok(Some(b"1".to_vec()));
    assert_eq!(get(&image.finish(), USER, b"a"), value);
    image.superblock.xattr_filter_reserved = 0;
    image.superblock.feature_compat = 0.into();
    assert_eq!(get(&image.finish(), USER, b"a"), value);
}

#[test]
fn filter_bits_of_access_control_lists() {
    // The C driver knows these two by heart.
    let access = xattr_filter_bit(xattr_index::POSIX_ACL_ACCESS, b"");
    let default = xattr_filter_bit(xattr_index::POSIX_ACL_DEFAULT, b"");
    assert_eq!((access, default), (1 << 30, 1 << 21));
}

#[test]
fn names_and_values_over_blocks() {
    let name: Vec<u8> = (1..=255).collect();
    let value: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
    let long = attribute(USER, &name, &value);
    let mut image = image(
        9,
        0,
        &[100],
        &[attribute(USER, b"before", &[1; 400]), long.clone()],
    );
    image.put(SHARED + 400, &attribute(TRUSTED, &name, &value));
    let image = image.finish();
    for index in [USER, TRUSTED] {
        assert_eq!(get(&image, index, &name), Ok(Some(value.clone())));
        let mut other = name.clone();
        other[254] = 1;
        assert_eq!(get(&image, index, &other), Ok(None));
    }
    let names: Vec<_> = list(&image).unwrap();
    assert_eq!(names[1], (USER, name.clone(), 3000));
    assert_eq!(names[2], (TRUSTED, name, 3000));
}

#[test]
fn a_look_for_each_block() {
    let entries: Vec<_> = (0..20)
        .map(|i| attribute(USER, format!("name{i}").as_bytes(), b"v"))
        .collect();
    let image = image(12, 0, &[], &entries).finish();
    let (sb, inode) = image.inode(FREE);
    let (found, calls) = image.count_calls(|| {
        inode
            .get_xattr(&sb, &image, USER, b"name19", &mut [])
            .unwrap()
    });
    assert_eq!((found, calls), (Some(1), 1));
}

/// Long prefixes at the end of the image's first block of 512 bytes after 8 KiB.
fn with_prefixes(image: &mut Image, prefixes: &[Vec<u8>]) {
    image.superblock.feature_incompat = incompat::XATTR_PREFIXES.into();
    image.superblock.xattr_prefix_count = prefixes.len() as u8;
    image.superblock.xattr_prefix_start = (40_440 / 4).into();
    image.put(40_440, &prefixes.concat());
}

#[test]
fn long_prefixes() {
    let infix = [b'i'; 200];
    let prefixes = [
        long_prefix(TRUSTED, b"overlay."),
        long_prefix(USER, &infix),
        long_prefix(USER, b""),
        long_prefix(USER, b"x."),
    ];
    let full = [&infix[..], b"rest"].concat();
    let mut image = image(
        9,
        !xattr_filter_bit(TRUSTED, b"overlay.opaque")
            & !xattr_filter_bit(USER, &full)
            & !xattr_filter_bit(USER, b"x.")
            & !xattr_filter_bit(USER, b"plain"),
        &[],
        &[
            attribute(0x80, b"opaque", b"y"),
            attribute(0x81, b"rest", b"r"),
            attribute(0x83, b"", b"e"),
            attribute(0x82, b"plain", b"p"),
        ],
    );
    with_prefixes(&mut image, &prefixes);
    let image = image.finish();
    for (index, name, value) in [
        (TRUSTED, &b"overlay.opaque"[..], Some(&b"y"[..])),
        (USER, &full, Some(b"r")),
        (USER, b"x.", Some(b"e")),
        (USER, b"plain", Some(b"p")),
        (USER, b"overlay.opaque", None),
        (TRUSTED, b"opaque", None),
        (TRUSTED, b"overlay2opaque", None),
    ] {
        let value = value.map(<[u8]>::to_vec);
        assert_eq!(get(&image, index, name), Ok(value), "{index} {name:?}");
    }
    assert_eq!(
        list(&image).unwrap(),
        [
            (TRUSTED, b"overlay.opaque".to_vec(), 1),
            (USER, full, 1),
            (USER, b"x.".to_vec(), 1),
            (USER, b"plain".to_vec(), 1),
        ]
    );
    let sb = image.superblock();
    let mut buf = [0; 255];
    let read = sb.long_xattr_prefix(&image, 0, &mut buf).unwrap();
    assert_eq!((read, &buf[..8]), ((TRUSTED, 8), &b"overlay."[..]));
    let read = sb.long_xattr_prefix(&image, 1, &mut buf).unwrap();
    assert_eq!((read, &buf[..200]), ((USER, 200), &infix[..]));
    let missing = sb.long_xattr_prefix(&image, 4, &mut buf);
    assert_corrupt(missing, "prefix does not exist", 1024);
}

#[test]
fn long_prefixes_in_the_packed_inode() {
    let packed = FREE + 20;
    let mut image = image(9, 0, &[], &[attribute(0x81, b"opaque", b"y")]);
    let prefixes = [
        vec![0; 8],
        long_prefix(USER, &[b'z'; 250]),
        long_prefix(TRUSTED, b"overlay."),
    ]
    .concat();
    image.superblock.feature_incompat = incompat::FRAGMENTS.into();
    image.superblock.packed_nid = packed.into();
    image.superblock.xattr_prefix_count = 2;
    image.superblock.xattr_prefix_start = 2.into();
    image.inline_file(packed, mode::REGULAR, &prefixes);
    let name = b"overlay.opaque";
    let value = Ok(Some(b"y".to_vec()));
    assert_eq!(get(&image.finish(), TRUSTED, name), value);
    assert_eq!(list(&image.finish()), Ok(vec![(TRUSTED, name.to_vec(), 1)]));

    // In the image itself if a feature says so, even if there is a packed inode.
    image.put(40_008, &prefixes[8..]);
    image.superblock.xattr_prefix_start = 10_002.into();
    let cut_off = get(&image.finish(), TRUSTED, name);
    assert_corrupt(cut_off, "too short", packed * 32);
    image.superblock.feature_compat = compat::PLAIN_XATTR_PFX.into();
    assert_eq!(get(&image.finish(), TRUSTED, name), value);
}

#[test]
fn many_long_prefixes() {
    let prefixes: Vec<_> = (0..128)
        .map(|i| long_prefix(USER, format!("{i}{}.", "x".repeat(i)).as_bytes()))
        .collect();
    let entries: Vec<_> = (0..128).map(|i| attribute(0x80 | i, b"n", &[i])).collect();
    let mut image = image(9, 0, &[], &entries);
    with_prefixes(&mut image, &prefixes);
    let image = image.finish();
    let names = list(&image).unwrap();
    assert_eq!(names.len(), 128);
    for (i, (index, name, _)) in names.into_iter().enumerate() {
        let expected = format!("{i}{}.n", "x".repeat(i)).into_bytes();
        assert_eq!((index, &name), (USER, &expected));
        assert_eq!(get(&image, USER, &name), Ok(Some(vec![i as u8])));
    }
}

#[test]
fn corrupt() {
    let beyond = "attribute ends beyond";
    let mut cut = attribute(USER, b"name", b"value");
    cut.truncate(12);
    for (what, at, shared, inline) in [
        (beyond, BODY + 12, vec![], vec![cut]),
        (beyond, SHARED + 4 * 8191, vec![8191], vec![]),
        (beyond, SHARED + 4 * 8192, vec![8192], vec![]),
        (
            beyond,
            SHARED + 4 * u64::from(u32::MAX),
            vec![u32::MAX],
            vec![],
        ),
        (
            "prefix does not exist",
            BODY + 12,
            vec![],
            vec![attribute(0x80, b"a", b"")],
        ),
        (
            "prefix does not exist",
            BODY + 12,
            vec![],
            vec![attribute(0xff, b"a", b"")],
        ),
    ] {
        let mut image = image(9, 0, &shared, &inline);
        // The last word of the image.
        image.put(65532, &[1, USER, 0, 0]);
        let image = image.finish();
        assert_corrupt(list(&image), what, at);
        assert_corrupt(get(&image, USER, b"a"), what, at);
    }
    let image = image(9, 0, &[], &[attribute(USER, b"a\0b", b"")]).finish();
    assert_corrupt(list(&image), "holds a NUL", BODY + 12);
}

#[test]
fn corrupt_long_prefixes() {
    let wrong = "prefix has a wrong length";
    for prefix in [[0, 0, 1, 0], [1, 1, 1, 0], [255, 255, 1, 0]] {
        // The wrong one and one behind it.
        for number in [0x80, 0x81] {
            let mut image = image(9, 0, &[], &[attribute(number, b"a", b"")]);
            with_prefixes(&mut image, &[prefix.to_vec(), long_prefix(USER, b"")]);
            let image = image.finish();
            assert_corrupt(list(&image), wrong, 40_440);
            assert_corrupt(get(&image, USER, b"a"), wrong, 40_440);
        }
    }
    let at = BODY + 12;
    let mut long = image(9, 0, &[], &[attribute(0x80, &[b'n'; 56], b"")]);
    with_prefixes(&mut long, &[long_prefix(USER, &[b'i'; 200])]);
    let long = long.finish();
    assert_corrupt(list(&long), "longer than 255", at);
    let mut cut = image(9, 0, &[], &[attribute(0x81, b"a", b"")]);
    with_prefixes(&mut cut, &[long_prefix(USER, b""), vec![]]);
    for start in [65532, 65536, 1 << 33] {
        cut.superblock.xattr_prefix_start = ((start / 4) as u32).into();
        cut.put(65532, &[2, 0, 1, 0]);
        let cut = cut.finish();
        let at = if start == 65532 { 65536 } else { start };
        assert_corrupt(list(&cut), "prefix is cut off", at);
    }
}

#[test]
fn the_name_of_fingerprints() {
    let mut all = image(9, 0, &[], &[]);
    let prefixes = [
        long_prefix(USER, b"x.fingerprint"),
        long_prefix(0, b"hidden"),
        long_prefix(USER, b""),
    ];
    with_prefixes(&mut all, &prefixes);
    let name_of = |image: &Image| {
        let image = image.finish();
        let mut name = [0; NAME_MAX];
        let found = image.superblock().fingerprint_name(&image, &mut name);
        found.map(|found| found.map(|(index, len)| (index, name[..len].to_vec())))
    };
    assert_eq!(name_of(&all), Ok(None));
    all.superblock.feature_compat = compat::ISHARE_XATTRS.into();
    assert_eq!(name_of(&all), Ok(Some((USER, b"x.fingerprint".to_vec()))));
    all.superblock.ishare_xattr_prefix_id = 1;
    assert_eq!(name_of(&all), Ok(Some((0, b"hidden".to_vec()))));
    all.superblock.ishare_xattr_prefix_id = 2;
    assert_corrupt(name_of(&all), "fingerprints is empty", 1024);
}

#[test]
fn shared_attributes_in_a_metabox() {
    let mut image = image(9, 0, &[0], &[attribute(USER, b"a", b"1")]);
    image.put(SHARED, &attribute(USER, b"b", b"2"));
    image.superblock.feature_compat = compat::SHARED_EA_IN_METABOX.into();
    let image = image.finish();
    let value = get(&image, USER, b"a");
    assert_eq!(value, Ok(Some(b"1".to_vec())));
    let at = BODY + 12;
    assert_corrupt(get(&image, USER, b"b"), "metabox", at);
    assert_corrupt(list(&image), "metabox", at);
}

#[test]
fn a_body_of_nothing_means_nothing_yet() {
    let image = image(9, 0, &[], &[]).finish();
    assert_unsupported(list(&image), "empty attribute body", 12);
    let value = get(&image, USER, b"a");
    assert_unsupported(value, "empty attribute body", 12);
}

#[test]
fn full_names() {
    for (full, index, name) in [
        ("user.a", USER, "a"),
        ("user.", USER, ""),
        ("trusted.overlay.opaque", TRUSTED, "overlay.opaque"),
        ("security.capability", xattr_index::SECURITY, "capability"),
        ("lustre.lov", xattr_index::LUSTRE, "lov"),
        ("system.posix_acl_access", xattr_index::POSIX_ACL_ACCESS, ""),
        (
            "system.posix_acl_default",
            xattr_index::POSIX_ACL_DEFAULT,
            "",
        ),
    ] {
        let split = split_xattr_name(full.as_bytes());
        assert_eq!(split, Some((index, name.as_bytes())));
        assert_eq!(format!("{}{name}", xattr_prefix(index).unwrap()), full);
    }
    for full in [
        "",
        "user",
        "system.posix_acl_access2",
        "system.other",
        "a.b",
    ] {
        assert_eq!(split_xattr_name(full.as_bytes()), None);
    }
    for index in [0, 7, 0x80, 255] {
        assert_eq!(xattr_prefix(index), None);
    }
}

proptest! {
    #[test]
    fn same_as_what_was_put(
        inline in proptest::collection::btree_map("[ab]{1,5}", proptest::collection::vec(any::<u8>(), 0..90), 0..9),
        shared in proptest::collection::btree_map("[bc]{1,5}", proptest::collection::vec(any::<u8>(), 0..90), 0..9),
        others in proptest::collection::vec("[abc]{1,5}", 9),
        block_bits in 9..=12u8,
        filtered: bool,
    ) {
        let mut all: BTreeMap<_, _> = shared.clone();
        all.extend(inline.clone());
        let bits = all
            .keys()
            .fold(0, |bits, name| bits | xattr_filter_bit(USER, name.as_bytes()));
        let entries: Vec<_> = inline
            .iter()
            .map(|(name, value)| attribute(USER, name.as_bytes(), value))
            .collect();
        let mut ids = Vec::new();
        let mut area = Vec::new();
        for (name, value) in &shared {
            ids.push(area.len() as u32 / 4);
            area.extend(attribute(USER, name.as_bytes(), value));
        }
        prop_assume!(!all.is_empty());
        let mut image = image(block_bits, if filtered { !bits } else { 0 }, &ids, &entries);
        image.put(SHARED, &area);
        let image = image.finish();
        for (name, value) in &all {
            prop_assert_eq!(get(&image, USER, name.as_bytes()), Ok(Some(value.clone())));
        }
        for name in others.iter().filter(|name| !all.contains_key(*name)) {
            prop_assert_eq!(get(&image, USER, name.as_bytes()), Ok(None));
        }
        let names: Vec<_> = list(&image).unwrap().into_iter().map(|entry| entry.1).collect();
        let expected = inline.keys().chain(shared.keys()).map(|name| name.as_bytes());
        prop_assert!(names.iter().map(Vec::as_slice).eq(expected));
    }
}
