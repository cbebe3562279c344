// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Images and their blobs in one file, and as one disk: what is in them is what was in the image with its blobs beside
//! it. That the kernel's drivers and `veritysetup` think so is in tests/peers/export.sh.

#![allow(missing_docs)]

mod common;

use common::Described;
use common::Scratch;
use common::description_over;
use common::program::ferofs;
use ferofs::inspect::Image;
use ferofs::inspect::contents::Contents;
use std::fs;
use std::path::PathBuf;

/// Two tars; an index, with data and compressed of each; merged ones of both.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.sh(
        "mkdir -p a/d b/d; seq 30000 >a/large; echo one >a/d/one; seq 20000 >a/d/both; echo two >b/d/two; seq 40000 >b/d/both
         ln a/large a/link; ln -s one a/d/l; find a b -exec touch -hd @7 {} +
         for d in a b; do tar --format=posix --sort=name --owner=0 --group=0 --numeric-owner -b1 -cf $d.tar -C $d .; done",
    );
    let run = |arguments: &str| {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let result = ferofs(&scratch, &arguments);
        assert_eq!(result, (0, String::new(), String::new()));
    };
    for layer in ["a", "b"] {
        run(&format!("build --digest -o {layer}.erofs {layer}.tar"));
        run(&format!("build --mode full -o {layer}.full {layer}.tar"));
    }
    run("build --mode full -z zstd -o a.zstd a.tar");
    run("merge -o both.erofs a.erofs b.erofs");
    run("merge -o both.full a.full b.full");
    scratch
}

/// Images, and their devices.
const KINDS: [(&str, &[&str]); 6] = [
    ("a.erofs", &["a.tar"]),
    ("b.erofs", &["b.tar"]),
    ("both.erofs", &["a.tar", "b.tar"]),
    ("a.full", &[]),
    ("both.full", &["a.full", "b.full"]),
    ("a.zstd", &[]),
];

/// All files of an image.
fn files(scratch: &Scratch, image: &str, devices: &[&str]) -> Vec<Described> {
    let path = scratch.join(image);
    let opened = Image::open(&path).unwrap();
    let devices: Vec<PathBuf> = devices.iter().map(|name| scratch.join(name)).collect();
    if opened.superblock().algorithms() != 0 || devices.is_empty() {
        // By what the command extracts, for what is compressed or behind the image.
        let out = scratch.join("extracted");
        let result = ferofs(scratch, &["check", "-q", "--extract", "extracted", image]);
        assert_eq!(result.0, 0, "{image}: {}", result.2);
        let mut found = common::description_of_directory(&out);
        fs::remove_dir_all(&out).unwrap();
        found.retain(|file| file.path != "/");
        found
            .iter_mut()
            .filter(|file| file.kind == 'd')
            .for_each(|file| file.links = 0);
        return found;
    }
    let mut found = description_over(&opened, &devices);
    found.retain(|file| file.path != "/");
    found
        .iter_mut()
        .filter(|file| file.kind == 'd')
        .for_each(|file| file.links = 0);
    found
}

fn export(
    scratch: &Scratch,
    arguments: &[&str],
    image: &str,
    devices: &[&str],
) -> (i32, String, String) {
    let devices = devices.iter().flat_map(|device| ["--device", device]);
    let all: Vec<&str> = ["export"]
        .into_iter()
        .chain(arguments.iter().copied())
        .chain(devices)
        .chain([image])
        .collect();
    ferofs(scratch, &all)
}

#[track_caller]
fn exported(scratch: &Scratch, arguments: &[&str], image: &str, devices: &[&str]) -> String {
    let (code, said, errors) = export(scratch, arguments, image, devices);
    assert_eq!((code, errors.as_str()), (0, ""), "{image}");
    said
}

#[test]
fn a_flat_file_has_all_of_it() {
    let scratch = scratch();
    for (image, devices) in KINDS {
        exported(&scratch, &["-o", "flat"], image, devices);
        assert_eq!(
            files(&scratch, "flat", &[]),
            files(&scratch, image, devices),
            "{image}"
        );
        let size = fs::metadata(scratch.join("flat")).unwrap().len();
        assert_eq!(size % 4096, 0);
        // The addresses that it had are right, so the image is as it was.
        let (flat, own) = (
            fs::read(scratch.join("flat")).unwrap(),
            fs::read(scratch.join(image)).unwrap(),
        );
        assert!(flat.starts_with(&own), "{image}");
        // What is in one file already gives the same again, whether its tars are given or not.
        exported(&scratch, &["-o", "again"], "flat", &[]);
        assert_eq!(fs::read(scratch.join("again")).unwrap(), flat);
        exported(&scratch, &["-o", "again"], "flat", devices);
        assert_eq!(fs::read(scratch.join("again")).unwrap(), flat, "{image}");
    }
    // By their sha256.
    scratch.sh(
        "mkdir blobs; for d in a b; do mv $d.tar blobs/$(sha256sum <$d.tar | cut -c 1-64); done",
    );
    exported(
        &scratch,
        &["-o", "found", "--blobs", "blobs"],
        "both.erofs",
        &[],
    );
    let image = Image::open(&scratch.join("found")).unwrap();
    Contents::new(&image, &[], &[])
        .unwrap()
        .check_blobs()
        .unwrap();
}

/// Gives all devices of an image other addresses in flat files, in blocks.
fn set_addresses(scratch: &Scratch, image: &str, addresses: &[u32]) {
    let path = scratch.join(image);
    let table = Image::open(&path).unwrap().superblock().device_table_pos() as usize;
    let mut bytes = fs::read(&path).unwrap();
    for (index, address) in addresses.iter().enumerate() {
        let at = table + index * 128 + 68;
        bytes[at..at + 4].copy_from_slice(&address.to_le_bytes());
    }
    let block = 1_usize << bytes[1024 + 12];
    if bytes[1024 + 8] & 1 != 0 {
        let end = 1024 + (block - 1024);
        bytes[1028..1032].fill(0);
        let sum = ferofs::format::superblock_checksum(&bytes[1024..end]);
        bytes[1028..1032].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
}

#[test]
fn addresses_that_cannot_be_are_others() {
    let scratch = scratch();
    // None; within the image; on top of each other; further than anybody wants a file to be; in the other order.
    for addresses in [
        [0, 0],
        [1, 2],
        [5000, 5000],
        [1_000_000_000, 2_000_000_000],
        [2000, 1000],
    ] {
        for (image, devices) in [
            ("both.erofs", ["a.tar", "b.tar"]),
            ("both.full", ["a.full", "b.full"]),
        ] {
            scratch.sh(&format!("cp {image} image"));
            set_addresses(&scratch, "image", &addresses);
            let expected = files(&scratch, image, &devices);
            assert_eq!(files(&scratch, "image", &devices), expected);
            exported(&scratch, &["-o", "flat"], "image", &devices);
            assert_eq!(
                files(&scratch, "flat", &[]),
                expected,
                "{image} {addresses:?}"
            );
            let size = fs::metadata(scratch.join("flat")).unwrap().len();
            assert!(size < 16 << 20, "{size}");
            // A descriptor changes nothing.
            let in_order = addresses == [2000, 1000];
            let (code, _, errors) = export(&scratch, &["--vmdk", "disk"], "image", &devices);
            assert!(
                (code == 0 && in_order) || errors.contains("a flat image can be made"),
                "{addresses:?}: {errors}"
            );
        }
    }
}

/// What a descriptor says a disk has.
fn disk(scratch: &Scratch, descriptor: &str) -> Vec<u8> {
    let text = fs::read_to_string(scratch.join(descriptor)).unwrap();
    assert!(
        text.starts_with("# Disk DescriptorFile\nversion=1\n"),
        "{text}"
    );
    assert!(
        text.contains("\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n"),
        "{text}"
    );
    let mut disk = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("RW ")) {
        let (numbers, rest) = line.split_once(" FLAT \"").unwrap();
        let sectors: usize = numbers.strip_prefix("RW ").unwrap().parse().unwrap();
        let (name, at) = rest.split_once("\" ").unwrap();
        let directory = scratch.join(descriptor);
        let file = fs::read(directory.parent().unwrap().join(name)).unwrap();
        let start = at.parse::<usize>().unwrap() * 512;
        disk.extend_from_slice(&file[start..start + sectors * 512]);
    }
    disk
}

#[test]
fn a_descriptor_makes_a_disk_of_the_files() {
    let scratch = scratch();
    scratch.sh("mkdir elsewhere");
    for (image, devices) in KINDS {
        exported(&scratch, &["-o", "flat"], image, devices);
        for target in ["disk.vmdk", "elsewhere/disk.vmdk"] {
            exported(&scratch, &["--vmdk", target], image, devices);
            let (disk, flat) = (
                disk(&scratch, target),
                fs::read(scratch.join("flat")).unwrap(),
            );
            assert_eq!(disk.len(), flat.len(), "{image}");
            fs::write(scratch.join("disk"), disk).unwrap();
            assert_eq!(
                files(&scratch, "disk", &[]),
                files(&scratch, image, devices)
            );
        }
        // Of the flat file, with what is behind it.
        exported(
            &scratch,
            &["-o", "flat", "--verity", "--vmdk", "disk.vmdk"],
            image,
            devices,
        );
        assert_eq!(
            disk(&scratch, "disk.vmdk"),
            fs::read(scratch.join("flat")).unwrap()
        );
    }
    let text = fs::read_to_string(scratch.join("elsewhere/disk.vmdk")).unwrap();
    assert!(
        text.contains(scratch.0.canonicalize().unwrap().to_str().unwrap()),
        "{text}"
    );
}

#[test]
fn the_tree_is_behind_the_data_and_the_same_again() {
    let scratch = scratch();
    let sidecar = || fs::read_to_string(scratch.join("flat.dmverity")).unwrap();
    exported(
        &scratch,
        &["-o", "plain"],
        "both.erofs",
        &["a.tar", "b.tar"],
    );
    let plain = fs::read(scratch.join("plain")).unwrap();
    for (options, block) in [
        (&[][..], 512),
        (&["--verity-block-size", "4096"], 4096),
        (&["--salt", "-"], 512),
        (&["--salt", "C0ffee"], 512),
    ] {
        let arguments = [&["-o", "flat", "--verity"], options].concat();
        let said = exported(&scratch, &arguments, "both.erofs", &["a.tar", "b.tar"]);
        let flat = fs::read(scratch.join("flat")).unwrap();
        assert!(flat.starts_with(&plain));
        assert_eq!(&flat[plain.len()..plain.len() + 8], b"verity\0\0");
        assert_eq!(flat.len() % block, 0);
        let root = said
            .lines()
            .next()
            .unwrap()
            .strip_prefix("root hash    ")
            .unwrap();
        let expected = format!(
            "{{\n  \"roothash\": \"{root}\",\n  \"hashoffset\": {}\n}}",
            plain.len()
        );
        assert_eq!(sidecar(), expected);
        assert!(said.contains(&format!("hash offset  {}\n", plain.len())));
        exported(
            &scratch,
            &[&["-o", "again", "--verity"], options].concat(),
            "both.erofs",
            &["a.tar", "b.tar"],
        );
        assert_eq!(fs::read(scratch.join("again")).unwrap(), flat);
    }
    // An image of larger blocks has larger ones.
    exported(&scratch, &["-o", "flat", "--verity"], "a.full", &[]);
    let flat = fs::read(scratch.join("flat")).unwrap();
    let start = fs::metadata(scratch.join("a.full"))
        .unwrap()
        .len()
        .next_multiple_of(4096) as usize;
    assert_eq!(flat[start + 64..start + 72], [0, 16, 0, 0, 0, 16, 0, 0]);
}

#[test]
fn what_cannot_be_is_said_and_nothing_is_written() {
    let scratch = scratch();
    scratch.sh("head -c 5000 a.tar >short.tar; cp a.tar 'quo\"te.tar'; cp a.tar odd.tar; printf x >>odd.tar; ln -s a.tar link");
    let cases: [(&[&str], &str, &[&str], &str); 12] = [
        (
            &["-o", "out"],
            "both.erofs",
            &[],
            "device 1 is not behind it in the same file, and not given",
        ),
        (
            &["-o", "out"],
            "both.erofs",
            &["a.tar"],
            "device slots in the image: 2, but devices given: 1",
        ),
        (
            &["-o", "out"],
            "both.erofs",
            &["b.tar", "a.tar"],
            "b.tar is not the tar that device 1",
        ),
        (
            &["-o", "out"],
            "a.erofs",
            &["short.tar"],
            "short.tar is not the tar",
        ),
        (
            &["-o", "out"],
            "a.tar",
            &[],
            "a tar, expected an EROFS image",
        ),
        (&["-o", "a.tar"], "a.erofs", &["a.tar"], "a.tar"),
        (&["-o", "link"], "a.erofs", &["a.tar"], "link"),
        (&["-o", "a.erofs"], "a.erofs", &["a.tar"], "a.erofs"),
        (
            &["-o", "out", "--vmdk", "out"],
            "a.erofs",
            &["a.tar"],
            "are the same",
        ),
        (
            &["-o", "out", "--verity", "--vmdk", "out.dmverity"],
            "a.erofs",
            &["a.tar"],
            "are the same",
        ),
        (
            &["-o", "out", "--verity", "--verity-block-size", "100"],
            "a.erofs",
            &["a.tar"],
            "--verity-block-size 100: expected 512",
        ),
        (
            &["--vmdk", "out"],
            "a.erofs",
            &["quo\"te.tar"],
            "a VMDK descriptor has no form for this name",
        ),
    ];
    let before = scratch.sh("ls; sha256sum *.*");
    for (arguments, image, devices, expected) in cases {
        let (code, _, errors) = export(&scratch, arguments, image, devices);
        assert_eq!(code, 1, "{arguments:?}");
        assert!(errors.contains(expected), "{errors}");
        assert_eq!(scratch.sh("ls; sha256sum *.*"), before, "{arguments:?}");
    }
    for (arguments, expected) in [
        (&["--verity", "--vmdk", "out"][..], "--output"),
        (&["-o", "out", "--salt", "00"], "--verity"),
        (
            &["-o", "out", "--verity", "--salt", "0"],
            "in hexadecimal digits",
        ),
        (
            &["-o", "out", "--verity", "--salt", ""],
            "in hexadecimal digits",
        ),
        (&[], "--output"),
    ] {
        let (code, _, errors) = export(&scratch, arguments, "a.erofs", &["a.tar"]);
        assert!(code == 2 && errors.contains(expected), "{errors}");
    }
    // What a tar has behind what the image knows of is of no use to it.
    exported(&scratch, &["-o", "flat"], "a.erofs", &["odd.tar"]);
    exported(&scratch, &["--vmdk", "disk"], "a.erofs", &["odd.tar"]);
    assert_eq!(
        files(&scratch, "flat", &[]),
        files(&scratch, "a.erofs", &["a.tar"])
    );
}
