// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compressed images: what fsck.erofs extracts from them is what went in. Where there is no fsck.erofs, only that they
//! are made, and made the same by any number of threads.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::program::ferofs;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;

/// Numbers that look like chance.
fn random(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(next).collect()
}

/// Text of words that come again and again.
fn text(len: usize, seed: u32) -> Vec<u8> {
    let words = random(len / 4 + 1, seed);
    let mut text: Vec<u8> = words
        .iter()
        .flat_map(|word| format!("word{} ", u32::from(*word) * 7).into_bytes())
        .collect();
    text.truncate(len);
    text
}

/// A directory with files of all kinds and of sizes around those that matter.
fn tree() -> Scratch {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    for size in [
        0, 1, 511, 512, 513, 1000, 4000, 4064, 4095, 4096, 4097, 8192, 9000, 65_535, 65_537,
        300_000,
    ] {
        fs::write(tree.join(format!("text-{size}")), text(size, 1)).unwrap();
        fs::write(tree.join(format!("deep/noise-{size}")), random(size, 2)).unwrap();
        fs::write(tree.join(format!("deep/er/zeros-{size}")), vec![0; size]).unwrap();
    }
    // Of several segments: the first is of no use, the last one is.
    let mixed = [random(4_500_000, 3), text(1_000_000, 4), random(100_001, 3)].concat();
    fs::write(tree.join("mixed"), &mixed).unwrap();
    fs::write(tree.join("copy"), &mixed).unwrap();
    fs::write(tree.join("noise"), random(500_000, 5)).unwrap();
    fs::write(tree.join("zeros"), vec![0; 12_700_000]).unwrap();
    let holes = File::create(tree.join("holes")).unwrap();
    holes.write_all_at(&text(50_000, 6), 600_000).unwrap();
    holes.set_len(1_000_000).unwrap();
    fs::hard_link(tree.join("text-9000"), tree.join("deep/link")).unwrap();
    std::os::unix::fs::symlink("text-9000", tree.join("symlink")).unwrap();
    scratch
}

/// Whether fsck.erofs is there, to be told when it is not.
fn fsck() -> bool {
    Command::new("fsck.erofs").arg("--version").output().is_ok()
}

/// Extracts the image with fsck.erofs, and compares.
fn extract(scratch: &Scratch, context: &str) {
    if !fsck() {
        return;
    }
    let output = Command::new("sh")
        .args([
            "-c",
            "rm -rf out && fsck.erofs --extract=out image && diff -r --no-dereference tree out",
        ])
        .current_dir(&scratch.0)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let different = String::from_utf8_lossy(&output.stdout);
    let different: String = different.chars().take(400).collect();
    assert!(output.status.success(), "{context}: {said}{different}");
}

#[test]
fn what_is_extracted_is_what_went_in_whatever_the_number_of_threads() {
    let scratch = tree();
    for options in [
        "-zlz4",
        "-zlz4 -C65536",
        "-zlz4 -b512 -C2048 -Eztailpacking",
        "-zlz4hc -Eztailpacking",
        "-zlz4hc -C32768 -Elegacy-compress",
        "-zlz4hc,12 -b2048 -Efragments",
        "-zzstd,1",
        "-zzstd -C65536 -Eztailpacking",
        "-zzstd,level=5,dictsize=32768 -C16384 -Efragments,dedupe",
        "-zdeflate -b2048 -C65536 -Efragments=131072",
        "-zdeflate,9 -Ededupe",
        "-zlzma,0 -C131072 -Eall-fragments",
        "-zlzma,0 -Eztailpacking,legacy-compress",
        "-zlz4:zstd",
    ] {
        let image = |out: &str, more: &str| {
            let line = format!("build --quiet {options} {more} -o {out} tree");
            let words: Vec<_> = line.split_whitespace().collect();
            let (code, _, errors) = ferofs(&scratch, &words);
            assert_eq!((code, errors.as_str()), (0, ""), "{line}");
            fs::read(scratch.join(out)).unwrap()
        };
        let first = image("image", "");
        extract(&scratch, options);
        let other = match options.len() % 2 {
            0 => "--workers=1",
            _ => "--workers=5",
        };
        assert!(image("other", other) == first, "{options} {other}");
    }
}

/// A tar is read once, from a pipe as well, and in the order of the directories; files that later ones replace leave
/// nothing behind.
#[test]
fn tars_are_compressed_as_they_come() {
    let scratch = tree();
    scratch
        .sh("tar -cSf first.tar tree && cp tree/mixed tree/noise && tar -rf first.tar tree/noise");
    scratch.sh("mv tree inner && mkdir tree && mv inner tree/tree");
    for (options, stdin) in [
        ("-zlz4hc -C65536", false),
        ("-zzstd -Eztailpacking", true),
        ("-zzstd -Efragments", false),
        ("-zlz4 --sort=path", false),
        ("-zlz4 -Ededupe,all-fragments --hard-dereference", false),
    ] {
        let program = env!("CARGO_BIN_EXE_ferofs");
        let input = if stdin { "- < first.tar" } else { "first.tar" };
        scratch.sh(&format!(
            "{program} build --quiet --mode=full {options} -o image {input}"
        ));
        extract(&scratch, options);
    }
}

/// Duplicates cost nothing, noise stays as it is, and what is small is not larger for being compressed.
#[test]
fn sizes_are_what_options_promise() {
    let scratch = Scratch::new();
    let tree = scratch.join("tree");
    fs::create_dir(&tree).unwrap();
    let size = |options: &str| {
        let line = format!("build --quiet {options} -o image tree");
        let words: Vec<_> = line.split_whitespace().collect();
        let (code, _, errors) = ferofs(&scratch, &words);
        assert_eq!((code, errors.as_str()), (0, ""), "{line}");
        extract(&scratch, options);
        fs::metadata(scratch.join("image")).unwrap().len()
    };
    for number in 0..20 {
        fs::write(tree.join(format!("noise-{number}")), random(10_000, number)).unwrap();
    }
    let plain = size("");
    for options in ["-zlz4", "-zzstd -C65536", "-zlz4hc -Eztailpacking"] {
        // What does not shrink stays as it is, but for a page in front of the data.
        assert_eq!(size(options), plain + 4096, "{options}");
    }
    for number in 0..20 {
        let all = text(100_000 + number, 9);
        fs::write(tree.join(format!("text-{number}")), all).unwrap();
    }
    let compressed = size("-zzstd -C16384");
    // They differ in their length only.
    let once = size("-zzstd -C16384 -Ededupe");
    assert!(once * 10 < compressed * 6, "{once} of {compressed}");
    for number in 0..200 {
        fs::write(tree.join(format!("small-{number}")), text(3000, number)).unwrap();
    }
    let tails = size("-zzstd -Eztailpacking");
    let fragments = size("-zzstd -Efragments=65536");
    let all = size("-zzstd -C65536 -Eall-fragments");
    let compressed = size("-zzstd");
    assert!(
        all <= fragments && fragments < tails && tails < compressed,
        "{all} {fragments} {tails} {compressed}"
    );
}

/// The file of fragments is then equal to the one file there is.
#[test]
fn a_fragment_may_be_alone() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("tree")).unwrap();
    fs::write(scratch.join("tree/one"), text(3000, 1)).unwrap();
    fs::write(scratch.join("tree/two"), text(3000, 1)).unwrap();
    for options in [
        "-Efragments",
        "-Efragments,dedupe",
        "-Eall-fragments,dedupe",
    ] {
        let words = ["build", "--quiet", "-zzstd", options, "-o", "image", "tree"];
        let (code, _, errors) = ferofs(&scratch, &words);
        assert_eq!((code, errors.as_str()), (0, ""), "{options}");
        extract(&scratch, options);
    }
}

/// A device or a full disk: nothing is left behind, and what is wrong is said.
#[test]
fn what_cannot_be_written_is_said() {
    let scratch = tree();
    let mut small = File::create(scratch.join("small")).unwrap();
    small.write_all(&[0; 8192]).unwrap();
    let (code, _, errors) = ferofs(
        &scratch,
        &["build", "--quiet", "-zlz4", "-o", "/dev/full", "tree"],
    );
    assert!(code != 0 && errors.contains("/dev/full"), "{errors}");
    let files = fs::read_dir(&scratch.0).unwrap().count();
    assert_eq!(files, 2);
}
