// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Broken archives and images by the thousand: every one is read to an error or to a sound
//! result, and nothing panics. The mutations are the same in every run.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::archive::GNU;
use common::archive::Header;
use common::archive::octal;
use common::archive::seal;
use common::random::Random;
use common::wrong_image::Limited;
use common::wrong_image::seal_superblock;
use ferofs::build::apply_archive;
use ferofs::image;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs::tar::StreamInput;
use ferofs::tree::Tree;
use std::fs;

/// An archive with something of everything.
fn archive() -> Vec<u8> {
    let mut sparse = Header::new("sparse", b'S').magic(GNU).size(512).block();
    sparse[386..398].copy_from_slice(&octal(4096, 12));
    sparse[398..410].copy_from_slice(&octal(512, 12));
    sparse[483..495].copy_from_slice(&octal(10_000, 12));
    seal(&mut sparse);
    Archive::new()
        .directory("dir/")
        .file("dir/file", "data")
        .pax(&[
            ("path", "dir/pax"),
            ("mtime", "1.5"),
            ("uid", "70000"),
            ("size", "3"),
        ])
        .file("x", "abc")
        .block(sparse)
        .data(&[7; 512])
        .pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9000")])
        .with_data(
            Header::new("one", b'0'),
            &[b"1\n512\n3\n".as_slice(), &[0; 504], b"abc"].concat(),
        )
        .pax(&[("GNU.sparse.size", "9000"), ("GNU.sparse.map", "1024,512")])
        .file("map", &"m".repeat(512))
        .long(b'L', &"long/".repeat(30))
        .symlink("x", "dir")
        .hard_link("hard", "dir/file")
        .symlink("link", "dir/file")
        .global(&[("gid", "7")])
        .header(Header::new("null", b'3').device(1, 3))
        .end()
}

/// Indexes an archive that may be anything; what comes of it is sound.
fn index(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut tree = Tree::new();
    let archive = apply_archive(StreamInput::new(bytes), &mut tree, 0, &mut ()).ok()?;
    let device = archive.totals.into();
    let options = image::Options::default().with_devices(vec![device]);
    let mut out = Limited::new(4 << 20);
    let source = image::source::Blobs(vec![bytes.to_vec()]);
    image::write(&tree, &options, &source, &mut out).ok()?;
    Some(out.image.into_inner())
}

fn check_image(bytes: &[u8], scratch: &Scratch) -> Option<usize> {
    let path = scratch.join("image");
    fs::write(&path, bytes).unwrap();
    let image = Image::open(&path).ok()?;
    Some(check(&image, &[], &mut |_| {}).unwrap().problems.len())
}

#[test]
fn archives() {
    let good = archive();
    let scratch = Scratch::new();
    let image = index(&good).unwrap();
    assert_eq!(check_image(&image, &scratch), Some(0));
    let mut random = Random(0x5eed);
    let mut sound = 0;
    for round in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(3) {
            let block = random.below(bytes.len() / 512) * 512;
            let at = match random.below(3) {
                // Bytes of fields that matter more than those of names.
                0 => block + 100 + random.below(57),
                _ => block + random.below(512),
            };
            bytes[at] = match random.below(4) {
                0 => bytes[at] ^ (1 << random.below(8)),
                1 => b'0' + random.below(10) as u8,
                2 => 0xff,
                _ => random.next() as u8,
            };
            if random.below(4) != 0 {
                // Most mutations are behind a right checksum.
                let header: &mut [u8; 512] = (&mut bytes[block..block + 512]).try_into().unwrap();
                seal(header);
            }
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        if let Some(image) = index(&bytes) {
            sound += 1;
            if round % 16 == 0 {
                assert_eq!(check_image(&image, &scratch), Some(0), "round {round}");
            }
        }
    }
    assert!(sound > 100, "only {sound} mutated archives could be read");
}

#[test]
fn images() {
    let good = index(&archive()).unwrap();
    let scratch = Scratch::new();
    let mut random = Random(0xface);
    let mut found = 0;
    for _ in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(3) {
            let at = 1024 + random.below(bytes.len() - 1024);
            bytes[at] = match random.below(3) {
                0 => bytes[at] ^ (1 << random.below(8)),
                1 => 0xff,
                _ => random.next() as u8,
            };
        }
        seal_superblock(&mut bytes);
        found += usize::from(check_image(&bytes, &scratch) != Some(0));
    }
    assert!(
        found > 1000,
        "only {found} mutated images were found to be wrong"
    );
}

#[test]
fn a_directory_larger_than_its_image_is_not_read_for_ever() {
    let scratch = Scratch::new();
    let path = scratch.join("image");
    let mut bytes = index(&archive()).unwrap();
    fs::write(&path, &bytes).unwrap();
    let root = Image::open(&path).unwrap().root().unwrap();
    assert!(!root.is_extended());
    let size = root.pos() as usize + 8;
    // Layout 4: two chunks of 2^21 blocks, whose addresses are what lies behind the inode.
    bytes[size - 8] = 4 << 1;
    bytes[size..size + 4].copy_from_slice(&(2_u32 << 30).to_le_bytes());
    bytes[size + 8..size + 12].copy_from_slice(&21_u32.to_le_bytes());
    seal_superblock(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    let image = Image::open(&path).unwrap();
    let problems = check(&image, &[], &mut |_| {}).unwrap().problems;
    assert!((1..1000).contains(&problems.len()), "{}", problems.len());
}
