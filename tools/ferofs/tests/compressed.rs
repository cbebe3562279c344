// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compressed images by mkfs.erofs, in the combinations that it has: the program reads what went in, and finds what is
//! damaged. Without mkfs.erofs these tests say so and do nothing; an old one lacks some options, and those cases are left
//! out. And images put together by hand, sound and wrong ones.

#![allow(missing_docs)]

mod common;

#[path = "common/compressed_image.rs"]
mod compressed_image;
#[path = "common/compressible.rs"]
mod compressible;

use common::Scratch;
use compressed_image::BLOCK;
use compressed_image::NIDS;
use compressible::changed;
use compressible::combinations;
use compressible::files;
use compressible::noise;
use compressible::text;
use ferofs::error::Error;
use ferofs::format::Algorithm;
use ferofs::format::FileKind;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs::inspect::contents::Contents;
use ferofs::inspect::walk::Walk;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Makes an image of the tree; false if there is no mkfs.erofs that can.
fn mkfs(scratch: &Scratch, options: &[&str]) -> bool {
    let image = scratch.join("image");
    drop(fs::remove_file(&image));
    let made = Command::new("mkfs.erofs")
        .args(["--quiet", "-x-1", "-T0"])
        .args(options)
        .arg(&image)
        .arg(scratch.join("tree"))
        .output();
    let made = made.is_ok_and(|output| output.status.success());
    if !made {
        eprintln!("no mkfs.erofs that can {options:?}: nothing is tested");
    }
    made
}

fn tree() -> Scratch {
    let scratch = Scratch::new();
    for (name, bytes) in files() {
        let path = scratch.join("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    symlink("t".repeat(300), scratch.join("tree/link")).unwrap();
    scratch
}

fn open(path: &Path) -> Image {
    Image::open(path).unwrap()
}

fn read(contents: &Contents<'_>, path: &str) -> Result<Vec<u8>, Error> {
    let mut found = Vec::new();
    contents.copy(path.as_bytes(), &mut |piece| {
        found.extend_from_slice(piece);
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

#[test]
fn what_went_in_comes_out() {
    let scratch = tree();
    for options in combinations() {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        if !mkfs(&scratch, &options) {
            continue;
        }
        let image = open(&scratch.join("image"));
        let report = check(&image, &[], &mut |_| {}).unwrap();
        assert_eq!(report.problems, [], "{options:?}");
        assert!(report.encoded > 0, "{options:?}");
        let contents = Contents::new(&image, &[], &[]).unwrap();
        for (name, bytes) in files() {
            let found = read(&contents, &name).unwrap();
            assert!(found == bytes, "{options:?}: {name}");
            let inode = image.find(name.as_bytes()).unwrap();
            let clusters = image.clusters(&inode).unwrap();
            let covered: u64 = clusters.map(|cluster| cluster.unwrap().len).sum();
            let compressed = matches!(inode.layout(), ferofs::format::Layout::Compressed { .. });
            let expected = if compressed { inode.size() } else { 0 };
            assert_eq!(covered, expected, "{options:?}: {name}");
        }
        let link = image.find(b"link").unwrap();
        assert_eq!(
            image.link_target(&link).unwrap(),
            "t".repeat(300).as_bytes()
        );
        let names: Result<Vec<_>, Error> = Walk::new(&image).collect();
        let names = names.unwrap().len();
        // The root, "small" and the link.
        assert_eq!(names, files().len() + 3, "{options:?}");
    }
}

/// Whatever is damaged, an image that nothing is wrong with can be read, and a problem names a place.
#[test]
fn damage_is_found_or_harmless() {
    let scratch = tree();
    for options in [
        &["-zlz4", "-C16384", "-Eztailpacking,dedupe"][..],
        &["-zlzma", "-C65536"],
        &["-zdeflate", "-C4096", "-Elegacy-compress"],
        &["-zzstd", "-C16384", "-Efragments"],
        &["-zlz4", "-C65536", "-m4096", "--MZ=i"],
    ] {
        if !mkfs(&scratch, options) {
            continue;
        }
        let sound = fs::read(scratch.join("image")).unwrap();
        let mut found = 0;
        for (round, at) in noise(3, 8 * 60).chunks_exact(8).enumerate() {
            let at = u64::from_le_bytes(at.try_into().unwrap());
            let mut bytes = sound.clone();
            // Behind the superblock's block.
            let place = 4096 + (at % (bytes.len() as u64 - 4096)) as usize;
            bytes[place] ^= 1 << (round % 8);
            let image = Image::new(Path::new("damaged"), Box::new(bytes)).unwrap();
            let report = check(&image, &[], &mut |_| {}).unwrap();
            let is_sound = report.problems.is_empty();
            found += usize::from(!is_sound);
            if !is_sound && round % 8 != 0 {
                continue;
            }
            let contents = Contents::new(&image, &[], &[]).unwrap();
            for name in files().keys() {
                let read = read(&contents, name);
                assert!(read.is_ok() || !is_sound, "{options:?}: {place}: {read:?}");
            }
        }
        // A bit of a literal is as good as the other one.
        assert!(found > 5, "{options:?}: {found}");
    }
}

#[test]
fn every_way_to_find_a_cluster() {
    for algorithm in Algorithm::ALL {
        let bytes = compressed_image::make(algorithm).unwrap();
        let image = Image::new(Path::new("made"), Box::new(bytes)).unwrap();
        let report = check(&image, &[], &mut |_| {}).unwrap();
        assert_eq!(report.problems, [], "{algorithm:?}");
        let contents = Contents::new(&image, &[], &[]).unwrap();
        let text = "the same words again, and ".repeat(40);
        for name in ["compact", "extents", "fragment", "full", "tail"] {
            let found = read(&contents, name).unwrap();
            assert!(found == text.as_bytes()[..1000], "{algorithm:?}: {name}");
        }
    }
}

/// Wrong bytes, where they are, and what the check says of them.
type Damage<'a> = (&'a str, Vec<(u64, Vec<u8>)>);

#[test]
fn what_is_wrong_is_said() {
    let [_, extents, fragment, full, _, packed] = NIDS.map(|nid| nid * 32);
    let number = |at: u64, value: u64, size: usize| (at, value.to_le_bytes()[..size].to_vec());
    let header = 32;
    // The header, which is padded, and a record.
    let record = extents + header + 16;
    let plen = 4 << 28;
    let pos = u64::from(BLOCK) * 512;
    let fragments = |at: u64, pos: u64| number(at + header, (1 << 63) | pos, 8);
    let size = |at: u64, size: u64| number(at + 8, size, 4);
    let cases: [Damage<'_>; 12] = [
        ("packed inode has a fragment", vec![fragments(packed, 0)]),
        (
            "its fragment is at 500 to 1500 of the packed inode 112, which has 1000 bytes",
            vec![fragments(fragment, 500)],
        ),
        ("the image no packed inode", vec![number(1024 + 96, 0, 8)]),
        (
            "its physical cluster begins within one of \"(packed inode)\", which is at 7168 to 7680",
            vec![
                number(record, plen | 511, 4),
                number(record + 4, pos + 1, 4),
            ],
        ),
        (
            "has 511 bytes of zstd, and for \"(packed inode)\" it has 512 bytes of zstd",
            vec![number(record, plen | 511, 4)],
        ),
        ("they come to more", vec![size(full, 999)]),
        ("they come to less", vec![size(full, 1001)]),
        (
            "is at 50688 to 51200 of the image, which has 8192 bytes",
            vec![number(full + header + 16 + 4, 99, 4)],
        ),
        (
            "the first block is nothing but zeros",
            vec![(pos, vec![0; 512])],
        ),
        (
            "an algorithm that the image does not announce",
            vec![(full + header + 6, vec![2])],
        ),
        (
            "its data begins within the inode of \"/\"",
            vec![number(full + header + 16 + 4, 4, 4)],
        ),
        (
            "metabox has a fragment in the packed inode, which lies in the metabox",
            vec![
                (1024 + 13, vec![1]),
                (1024 + 80 + 1, vec![1]),
                number(1024 + 96, (1 << 63) | 112, 8),
                number(1024 + 128, fragment / 32, 8),
                (1024 + 144, vec![6, 0, 0, 1]),
            ],
        ),
    ];
    let sound = compressed_image::make(Algorithm::Zstd).unwrap();
    for (what, damage) in cases {
        let mut bytes = sound.clone();
        for (at, new) in damage {
            let at = at as usize;
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        let image = Image::new(Path::new("made"), Box::new(bytes)).unwrap();
        let report = check(&image, &[], &mut |_| {}).unwrap();
        let said: Vec<_> = report
            .problems
            .iter()
            .map(|problem| &problem.what)
            .collect();
        assert!(
            said.iter().any(|said| said.contains(what)),
            "{what}: {said:?}"
        );
        // Reading ends, too.
        let contents = Contents::new(&image, &[], &[]).unwrap();
        for name in ["compact", "extents", "fragment", "full", "tail"] {
            drop(read(&contents, name));
        }
    }
}

/// Extents of one cluster may have any part of its start; the ends that they ask for need no more than some decoding.
#[test]
fn parts_of_a_cluster_in_any_order() {
    let sound = compressed_image::make(Algorithm::Lz4).unwrap();
    let at = |nid: u64| nid as usize * 32;
    let [_, extents, ..] = NIDS;
    // The record says that there is more, of which this file has a part.
    for (size, partial, good) in [
        (999, true, true),
        (1, true, true),
        (1001, true, false),
        (999, false, false),
    ] {
        let mut bytes = sound.clone();
        bytes[at(extents) + 8..at(extents) + 10].copy_from_slice(&u16::to_le_bytes(size));
        let plen = 512 | (1 << 28) | if partial { 1_u32 << 27 } else { 0 };
        bytes[at(extents) + 48..at(extents) + 52].copy_from_slice(&plen.to_le_bytes());
        let image = Image::new(Path::new("made"), Box::new(bytes)).unwrap();
        let report = check(&image, &[], &mut |_| {}).unwrap();
        assert_eq!(
            report.problems.is_empty(),
            good,
            "{size} {partial}: {report:?}"
        );
        let contents = Contents::new(&image, &[], &[]).unwrap();
        assert_eq!(read(&contents, "extents").is_ok(), good, "{size} {partial}");
    }
}

/// Some bytes changed at once, where there are structures: every call returns, and what nothing is wrong with can be read.
#[test]
fn mutations() {
    for algorithm in Algorithm::ALL {
        let sound = compressed_image::make(algorithm).unwrap();
        for seed in 0..400 {
            let bytes = changed(&sound, seed);
            let Ok(image) = Image::new(Path::new("mutated"), Box::new(bytes)) else {
                continue;
            };
            let report = check(&image, &[], &mut |_| {}).unwrap();
            let is_sound = report.problems.is_empty();
            for entry in Walk::new(&image).take(20) {
                let Ok(entry) = entry else {
                    assert!(!is_sound, "{algorithm:?}, {seed}");
                    break;
                };
                if entry.inode.size() > 64 << 20 || entry.inode.kind() != FileKind::Regular {
                    continue;
                }
                let contents = Contents::new(&image, &[], &[]).unwrap();
                let read = contents.read(&entry.inode, b"it", &mut |_| Ok::<_, Error>(()));
                assert!(read.is_ok() || !is_sound, "{algorithm:?}, {seed}: {read:?}");
            }
        }
    }
}

fn run(scratch: &Scratch, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ferofs"))
        .args(arguments)
        .current_dir(&scratch.0)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn commands_say_what_is_compressed() {
    let scratch = tree();
    let options = ["-zlz4", "-C65536", "-Efragments,dedupe"];
    if !mkfs(&scratch, &options) {
        return;
    }
    let (code, shown) = run(
        &scratch,
        &[
            "dump",
            "--json",
            "--superblock",
            "--statistics",
            "--path",
            "/start",
            "image",
        ],
    );
    assert_eq!(code, 0, "{shown}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let superblock = &shown["superblock"];
    assert_eq!(superblock["compression"][0]["algorithm"], "lz4");
    assert_eq!(superblock["compression"][0]["cluster_max"], 65536);
    assert!(superblock["packed_nid"].is_u64() && superblock["metabox_nid"].is_null());
    let extents = shown["file"]["extents"].as_array().unwrap();
    let lengths: u64 = extents
        .iter()
        .map(|extent| extent["length"].as_u64().unwrap())
        .sum();
    assert_eq!(lengths, 150_777);
    let encoded = |extent: &&Value| extent["encoding"] == "lz4";
    let encoded: Vec<_> = extents.iter().filter(encoded).collect();
    assert!(!encoded.is_empty(), "{extents:?}");
    for extent in encoded {
        assert!(extent["encoded_length"].as_u64().unwrap() <= 65536);
    }
    let statistics = &shown["statistics"];
    let sum = ["clustered", "fragments", "holes", "inline"]
        .map(|name| statistics[name].as_u64().unwrap());
    let plain = statistics["devices"][0].as_u64().unwrap();
    let all: u64 = files().values().map(|bytes| bytes.len() as u64).sum();
    // What is inline is also in the image.
    let [clustered, fragments, holes, _] = sum;
    assert_eq!(clustered + fragments + holes + plain, all);

    let (code, shown) = run(&scratch, &["dump", "--path", "/start", "image"]);
    assert_eq!(code, 0);
    assert!(shown.contains("bytes of lz4 in the image at "), "{shown}");

    let (code, shown) = run(&scratch, &["check", "--extract=out", "image"]);
    assert_eq!(code, 0, "{shown}");
    for (name, bytes) in files() {
        assert!(
            fs::read(scratch.join("out").join(&name)).unwrap() == bytes,
            "{name}"
        );
    }
    // Another one of the same tree, which is not compressed.
    fs::rename(scratch.join("image"), scratch.join("compressed")).unwrap();
    assert!(mkfs(&scratch, &[]));
    let (code, shown) = run(&scratch, &["diff", "compressed", "image"]);
    assert_eq!(code, 0, "{shown}");
    fs::write(scratch.join("tree/long"), text(98, 400_000)).unwrap();
    assert!(mkfs(&scratch, &[]));
    let (code, shown) = run(&scratch, &["diff", "compressed", "image"]);
    assert!(code == 1 && shown.contains("/long"), "{shown}");
    // It is one layer of a merged image.
    let (code, shown) = run(&scratch, &["merge", "-o", "merged", "compressed"]);
    assert_eq!(code, 0, "{shown}");
    let diff = ["diff", "--new-device=compressed", "compressed", "merged"];
    let (code, shown) = run(&scratch, &diff);
    assert_eq!(code, 0, "{shown}");
}
