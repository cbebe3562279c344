// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs check` on images broken on purpose: with the mistakes that the kernel's tests know, and with
//! mistakes that a kernel never looks for.

#![allow(missing_docs)]

mod common;
#[allow(dead_code)]
#[path = "../../../tests/kit/src/corrupt.rs"]
mod corrupt;
#[allow(dead_code)]
#[path = "../../../tests/kit/src/image.rs"]
mod image;
#[allow(dead_code)]
#[path = "../../../tests/kit/src/mutate.rs"]
mod mutate;
#[allow(dead_code)]
#[path = "../../../tests/kit/src/random.rs"]
mod random;

use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use corrupt::CASES;
use ferofs::error::Error;
use ferofs::inspect;
use ferofs::inspect::contents::Contents;
use ferofs::inspect::contents::Piece;
use ferofs::inspect::diff::Ignored;
use ferofs::inspect::diff::diff;
use ferofs::inspect::extract;
use ferofs::inspect::extract::extract;
use ferofs::inspect::statistics::Statistics;
use image::Image;
use image::Node;
use std::fs;
use std::process::Command;

fn run(scratch: &Scratch, program: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(&scratch.0)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

fn ferofs(scratch: &Scratch, arguments: &[&str]) -> (i32, String) {
    run(scratch, env!("CARGO_BIN_EXE_ferofs"), arguments)
}

impl Scratch {
    fn names(&self) -> Vec<std::ffi::OsString> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }
}

/// Something of everything that a mistake can be made in.
fn archive() -> Archive {
    let acl = "user::rw-,user:7:r--,group::r--,mask::r--,other::r--";
    let mut archive = Archive::new().directory("many/");
    for number in 0..100 {
        archive = archive.file(&format!("many/n{number:03}"), "");
    }
    archive
        .directory("dir/")
        .file("dir/one", &"one ".repeat(50))
        .file("dir/two", &"two ".repeat(3000))
        .symlink("dir/link", "a target")
        .file("dir/three", "three")
        .directory("dir/inner/")
        .pax(&[
            ("SCHILY.xattr.user.key", "value"),
            ("SCHILY.acl.access", acl),
        ])
        .file("dir/x", "attributes")
        .header(Header::new("large", b'0').owner(70_000, 70_000))
        .file("small", &"s".repeat(700))
        .hard_link("again", "small")
        .header(Header::new("fifo", b'6'))
}

/// Images of different shapes; each with the names of its blobs.
fn images(scratch: &Scratch) -> Vec<&'static str> {
    fs::write(scratch.join("a.tar"), archive().end()).unwrap();
    let second = archive().file("more", "more of it").end();
    fs::write(scratch.join("b.tar"), second).unwrap();
    let full = "build --mode full -o full a.tar";
    let plain = "build --mode full -b 512 --no-inline-data -o plain a.tar";
    let shared = Archive::new().directory("./");
    let shared = (0..8).fold(shared, |archive, number| {
        let archive = archive.pax(&[("SCHILY.xattr.user.same", "value")]);
        archive.file(&format!("file{number}"), "")
    });
    fs::write(scratch.join("c.tar"), shared.end()).unwrap();
    for build in [
        "build --digest -E sbcrc -o index a.tar",
        "build --digest -o second b.tar",
        "merge -o merged index second",
        full,
        plain,
        "build --mode full -b 512 -o shared c.tar",
    ] {
        let arguments: Vec<_> = build.split(' ').collect();
        assert_eq!(ferofs(scratch, &arguments), (0, String::new()));
    }
    let mut images = vec!["index", "merged", "full", "plain", "shared"];
    fs::create_dir(scratch.join("tree")).unwrap();
    fs::write(scratch.join("tree/file"), [7; 10_000]).unwrap();
    std::os::unix::fs::symlink("file", scratch.join("tree/link")).unwrap();
    for (name, option) in [
        ("chunks", "--chunksize=4096"),
        ("blocks", "-Enoinline_data"),
    ] {
        let made = Command::new("mkfs.erofs")
            .args(["--quiet", "-x-1", option, name, "tree"])
            .current_dir(&scratch.0)
            .output();
        match made {
            Ok(made) if made.status.success() => images.push(name),
            _ => eprintln!("skipped: mkfs.erofs {option}, as it is not installed, or too old"),
        }
    }
    for image in &images {
        assert_eq!(ferofs(scratch, &["check", image]), (0, String::new()));
    }
    images
}

/// Compressed images of every kind that the table has mistakes for, as far as mkfs.erofs makes them.
const COMPRESSED: [(&str, &str); 6] = [
    ("6-full", "-zlz4 -Elegacy-compress"),
    ("7-lz4", "-zlz4"),
    ("7-lzma", "-zlzma"),
    ("7-deflate", "-zdeflate"),
    ("8-tail", "-zlz4 -Eztailpacking"),
    ("8-fragments", "-zlz4 -Eall-fragments"),
];

/// Makes them, and returns their names.
fn compressed_images(scratch: &Scratch) -> Vec<&'static str> {
    scratch.sh(
        "mkdir texts && seq 9000 >texts/numbers && seq 5 4000 >texts/more && seq 100 >texts/few",
    );
    let mut images = Vec::new();
    for (name, options) in COMPRESSED {
        let made = Command::new("mkfs.erofs")
            .args(["--quiet", "-x-1"])
            .args(options.split(' '))
            .args([name, "texts"])
            .current_dir(&scratch.0)
            .output();
        match made {
            Ok(made) if made.status.success() => images.push(name),
            _ => eprintln!("skipped: mkfs.erofs {options}, as it is not installed, or too old"),
        }
    }
    images
}

#[test]
fn every_known_mistake_is_found() {
    let scratch = Scratch::new();
    let mut images = images(&scratch);
    let compressed = compressed_images(&scratch);
    let all_compressed = compressed.len() == COMPRESSED.len();
    images.extend(compressed);
    let bases: Vec<_> = images
        .iter()
        .map(|name| Image::new(fs::read(scratch.join(name)).unwrap()))
        .collect();
    let mut missing = Vec::new();
    for case in CASES {
        let spoiled = bases.iter().find_map(|base| case.apply(base));
        let Some((spoiled, _)) = spoiled else {
            let of_compressed = [
                "compressed-",
                "lz4-",
                "lzma-",
                "deflate-",
                "inline-cluster",
                "fragment-",
                "packed-",
            ];
            if all_compressed
                || !of_compressed
                    .iter()
                    .any(|start| case.name.starts_with(start))
            {
                missing.push(case.name);
            }
            continue;
        };
        fs::write(scratch.join("spoiled"), spoiled.bytes).unwrap();
        let (code, said) = ferofs(&scratch, &["check", "spoiled"]);
        // Where the kernel says that it does not know something, so may this.
        let unsupported = case.errors.contains(&"EOPNOTSUPP") || case.errors.contains(&"EINVAL");
        let name = case.name;
        assert!(
            code == 4 || (unsupported && code == 8),
            "{name}: {code}\n{said}"
        );
        assert!(said.contains("offset"), "{name}: {said}");
    }
    let mut expected = Vec::new();
    if !images.contains(&"chunks") {
        expected.push("chunk-map-behind-image");
    }
    let in_block = |node: &Node| node.is_symlink() && node.layout == image::layout::PLAIN;
    if !bases.iter().any(|base| base.nodes().iter().any(in_block)) {
        // Old versions of mkfs.erofs do not write such links.
        expected.push("symlink-too-long");
    }
    assert_eq!(missing, expected);
}

/// One mistake that no kernel looks for.
struct Mistake {
    image: &'static str,
    /// Returns whether there was something to spoil.
    spoil: fn(&mut Image, &[Node]) -> Option<()>,
    /// What is said, of an error or after "warning: ".
    said: &'static str,
}

fn node<'a>(nodes: &'a [Node], path: &str) -> Option<&'a Node> {
    nodes.iter().find(|node| node.path == path.as_bytes())
}

/// The position of an entry of a directory.
fn entry(image: &Image, nodes: &[Node], path: &str, name: &str) -> Option<usize> {
    let directory = node(nodes, path)?;
    let mut entries = directory.dirents.iter();
    let found = entries.find(|entry| image.name(entry) == name.as_bytes())?;
    Some(found.pos)
}

macro_rules! mistakes {
    ($($image:literal $said:literal $spoil:expr;)*) => {
        const MISTAKES: &[Mistake] =
            &[$(Mistake { image: $image, said: $said, spoil: $spoil }),*];
    };
}

mistakes! {
    "full" "\"/again\": its link count is 5, but it has 2 names" |image, nodes| {
        image.put(node(nodes, "./small")?.pos + 6, 2, 5);
        Some(())
    };
    "full" "\"/dir\": its link count is 9, expected 3" |image, nodes| {
        image.put(node(nodes, "./dir")?.pos + 6, 2, 9);
        Some(())
    };
    "full" "\"/dir/one\": its directory says type 3, its inode 1" |image, nodes| {
        image.put(entry(image, nodes, "./dir", "one")? + 10, 1, 3);
        Some(())
    };
    "full" "\"/dir\": \"..\" refers to inode" |image, nodes| {
        let other = node(nodes, "./dir/inner")?.nid;
        image.put(entry(image, nodes, "./dir", "..")?, 8, other);
        Some(())
    };
    "full" "\"/dir/inner\": it is the directory \"/dir\", and in it: a circle" |image, nodes| {
        let above = node(nodes, "./dir")?.nid;
        image.put(entry(image, nodes, "./dir", "inner")?, 8, above);
        Some(())
    };
    "full" "has this second name" |image, nodes| {
        let inner = node(nodes, "./dir/inner")?.nid;
        image.put(entry(image, nodes, ".", "large")?, 8, inner);
        Some(())
    };
    "full" "\"/dir\": directory entry's name is not greater than the one before" |image, nodes| {
        let directory = node(nodes, "./dir")?;
        let name = directory.dirents.iter().find(|entry| image.name(entry) == b"one")?.name_pos;
        image.put(name, 1, b'z'.into());
        Some(())
    };
    "full" "\"/dir\": directory entry's name holds a NUL or a slash" |image, nodes| {
        let directory = node(nodes, "./dir")?;
        let name = directory.dirents.iter().find(|entry| image.name(entry) == b"one")?.name_pos;
        image.put(name + 1, 1, b'/'.into());
        Some(())
    };
    "full" "its name filter says that it has no attribute \"user.key\", but it has" |image, nodes| {
        let node = node(nodes, "./dir/x")?;
        let header = node.pos + if node.extended { 64 } else { 32 };
        image.put(header, 4, 0xffff_ffff);
        Some(())
    };
    "shared" "there is no shared attribute at " |image, _| {
        // Zeros, behind the last one.
        let block = image.get(1024 + 44, 4);
        image.put_sb(44, 4, block + 1);
        Some(())
    };
    "full" "is an access control list of an unknown version" |image, nodes| {
        let pos = node(nodes, "./dir/x")?.pos;
        let bytes = image.bytes.get(pos..)?;
        // Version, then the owner's entry, then that of user 7.
        let at = bytes.windows(8).position(|window| window == [2, 0, 0, 0, 1, 0, 6, 0])?;
        image.put(pos + at, 4, 3);
        Some(())
    };
    "full" "lacks a mask" |image, nodes| {
        let pos = node(nodes, "./dir/x")?.pos;
        let bytes = image.bytes.get(pos..)?;
        let at = bytes.windows(8).position(|window| window == [16, 0, 4, 0, 255, 255, 255, 255])?;
        image.put(pos + at, 2, 8);
        Some(())
    };
    "plain" "its data begins within the inode" |image, nodes| {
        let at = node(nodes, "./dir/one")?;
        let block = (at.pos / image.block_size()) as u64;
        image.put(node(nodes, "./small")?.pos + 16, 4, block);
        Some(())
    };
    "plain" "begins within" |image, nodes| {
        // A directory where a file's data is.
        let start = image.get(node(nodes, "./small")?.pos + 16, 4);
        image.put(node(nodes, "./many")?.pos + 16, 4, start);
        Some(())
    };
    "index" "its data at 0 is at" |image, nodes| {
        let (table, ..) = node(nodes, "./small")?.chunks?;
        image.put(table + 4, 4, 1000);
        Some(())
    };
    "index" "are not looked at, as others lie in the same place" |image, nodes| {
        // Tables of chunks of 512 bytes, all of them up to the end of the image.
        for path in ["./small", "./dir/one", "./dir/two", "./dir/three", "./dir/x"] {
            let node = node(nodes, path)?;
            let room = (image.bytes.len() - node.chunks?.0) / 8;
            image.put(node.pos + 16, 2, 0x20);
            image.put(node.pos + 8, 4, (room * 512) as u64);
        }
        Some(())
    };
    "index" "device 1 overlaps the image in flat addresses" |image, _| {
        let slot = *image.device_slots().first()?;
        image.put(slot + 68, 4, 1);
        Some(())
    };
    "merged" "devices 1 and 2 overlap in flat addresses" |image, _| {
        let slots = image.device_slots();
        let first = image.get(slots.first()? + 68, 4);
        image.put(slots.get(1)? + 68, 4, first + 1);
        Some(())
    };
    "full" "the superblock counts" |image, _| {
        image.put_sb(36, 4, 100_000);
        Some(())
    };
    "full" "the superblock counts 77 inodes" |image, _| {
        image.put_sb(16, 8, 77);
        Some(())
    };
    // As in an image that mkfs.erofs --incremental changed, where names are gone.
    "plain" "warning: spoiled: at offset 1024: the superblock counts 1" |image, _| {
        let inodes = image.get(1024 + 16, 8);
        image.put_sb(16, 8, inodes + 1);
        Some(())
    };
    "plain" "the superblock counts 100000 inodes, expected" |image, _| {
        image.put_sb(16, 8, 100_000);
        Some(())
    };
    "plain" "the superblock counts 512 bytes, but" |image, _| {
        image.put_sb(36, 4, 1);
        Some(())
    };
    "index" "of device 1, which has 1024 bytes" |image, _| {
        let slot = *image.device_slots().first()?;
        image.put(slot + 64, 4, 2);
        Some(())
    };
    "full" "warning: spoiled: at offset " |image, nodes| {
        image.put(node(nodes, "./fifo")?.pos + 8, 4, 7);
        Some(())
    };
    "full" "warning: " |image, _| {
        image.put_sb(106, 1, 1);
        Some(())
    };
    "index" "warning: " |image, _| {
        let slot = *image.device_slots().first()?;
        image.put(slot + 127, 1, 1);
        Some(())
    };
    "full" "warning: " |image, nodes| {
        image.put(node(nodes, "./large")?.pos + 50, 1, 1);
        Some(())
    };
    "full" "reserved bytes of directory entries are not zero" |image, nodes| {
        image.put(entry(image, nodes, "./dir", "one")? + 11, 1, 1);
        Some(())
    };
    "plain" "something behind the last name" |image, nodes| {
        let directory = node(nodes, "./many")?;
        let block = directory.dirents.first()?.block;
        let mut entries = directory.dirents.iter();
        let last = entries.rfind(|entry| entry.block == block)?;
        let end = block + image.block_size();
        image.put(end - 1, 1, b'x'.into());
        (last.name_pos + last.name_len + 1 < end).then_some(())
    };
}

#[test]
fn what_no_kernel_looks_for_is_found() {
    let scratch = Scratch::new();
    images(&scratch);
    for mistake in MISTAKES {
        let Mistake { image, spoil, said } = mistake;
        let base = Image::new(fs::read(scratch.join(image)).unwrap());
        let mut spoiled = base.clone();
        assert!(spoil(&mut spoiled, &base.nodes()).is_some(), "{said}");
        assert!(spoiled.bytes != base.bytes, "{said}");
        spoiled.repair_checksum();
        fs::write(scratch.join("spoiled"), spoiled.bytes).unwrap();
        let (code, output) = ferofs(&scratch, &["check", "spoiled"]);
        assert!(output.contains(said), "{said}: {output}");
        let warned = output
            .lines()
            .all(|line| line.starts_with("ferofs: warning: "));
        assert_eq!(code, if warned { 0 } else { 4 }, "{output}");
    }
}

/// Where a directory's entry is wrong the offset is that of the entry.
#[test]
fn wrong_entries_are_reported_where_they_are() {
    let scratch = Scratch::new();
    images(&scratch);
    let base = Image::new(fs::read(scratch.join("full")).unwrap());
    let nodes = base.nodes();
    let nid = |path| node(&nodes, path).unwrap().nid;
    for (directory, name, field, width, value, said) in [
        ("./dir", "one", 10, 1, 3, "its directory says type 3"),
        ("./dir", "..", 0, 8, nid("./many"), "refers to inode"),
        ("./dir", "..", 10, 1, 1, "is not listed as a directory"),
        ("./dir", "inner", 0, 8, nid("./dir"), "a circle"),
        (
            ".",
            "large",
            0,
            8,
            nid("./dir/inner"),
            "its directory says type 1",
        ),
        ("./dir", "one", 10, 1, 77, "file type is invalid"),
    ] {
        let at = entry(&base, &nodes, directory, name).unwrap();
        let mut spoiled = base.clone();
        spoiled.put(at + field, width, value);
        spoiled.repair_checksum();
        fs::write(scratch.join("spoiled"), spoiled.bytes).unwrap();
        let (_, output) = ferofs(&scratch, &["check", "spoiled"]);
        let start = format!("ferofs: spoiled: at offset {at}: ");
        let mut lines = output.lines().filter(|line| line.contains(said));
        let found = lines.any(|line| line.starts_with(&start));
        assert!(found, "{said} at {at}: {output}");
    }
}

/// What mkfs.erofs or Nydus write, and nobody else.
#[test]
fn what_is_rare_is_no_mistake() {
    let scratch = Scratch::new();
    images(&scratch);
    // Room for attributes to come, as with --root-xattr-isize: entries of zeros.
    let mut image = Image::new(fs::read(scratch.join("full")).unwrap());
    let entry = b"\x03\x01\x05\x00keyvalue";
    let mut windows = image.bytes.windows(entry.len());
    let at = windows.position(|window| window == entry).unwrap();
    image.bytes[at..at + entry.len()].fill(0);
    fs::write(scratch.join("room"), image.bytes).unwrap();
    // Nydus counts the blobs' blocks, not the image's, and gives each name of a symbolic link an inode.
    let mut image = Image::new(fs::read(scratch.join("index")).unwrap());
    let link = node(&image.nodes(), "./dir/link").unwrap().pos;
    assert_eq!(image.get(link + 6, 2), 1);
    image.put(link + 6, 2, 2);
    image.repair_checksum();
    fs::write(scratch.join("link"), &image.bytes).unwrap();
    let (status, said) = ferofs(&scratch, &["check", "link"]);
    assert_eq!(status, 4, "{said}");
    assert!(
        said.contains("\"/dir/link\": its link count is 2"),
        "{said}"
    );
    let features = image.get(1024 + 8, 4);
    image.put_sb(8, 4, features | 0x4000_0000);
    image.put_sb(36, 4, 1 << 20);
    image.put_sb(16, 8, 1);
    image.repair_checksum();
    fs::write(scratch.join("nydus"), image.bytes).unwrap();
    for name in ["room", "nydus"] {
        let said = ferofs(&scratch, &["check", name]);
        assert_eq!(said, (0, String::new()), "{name}");
    }
}

#[test]
fn data_is_compared_with_slots_and_with_devices() {
    let scratch = Scratch::new();
    images(&scratch);
    let mut image = Image::new(fs::read(scratch.join("index")).unwrap());
    let slot = *image.device_slots().first().unwrap();
    image.put(slot + 64, 4, 2);
    fs::write(scratch.join("small-slot"), image.bytes).unwrap();
    fs::write(scratch.join("short.tar"), [0; 600]).unwrap();
    for (image, device, expected) in [
        ("index", "a.tar", None),
        ("small-slot", "a.tar", Some("which has 1024 bytes")),
        ("index", "short.tar", Some("which has 600 bytes")),
    ] {
        let (code, said) = ferofs(&scratch, &["check", image, "-d", device]);
        let code_expected = if expected.is_some() { 4 } else { 0 };
        assert_eq!(code, code_expected, "{image} {device}: {said}");
        let expected = expected.unwrap_or_default();
        assert!(said.contains(expected), "{image} {device}: {said}");
    }
    let few = ferofs(&scratch, &["check", "merged", "-d", "a.tar"]);
    let said = "ferofs: merged: device slots in the image: 2, but devices given: 1\n";
    assert_eq!(few, (8, said.to_string()));
}

#[test]
fn mistakes_of_a_superblock_do_not_hide_others() {
    let scratch = Scratch::new();
    images(&scratch);
    let mut image = Image::new(fs::read(scratch.join("index")).unwrap());
    let nodes = image.nodes();
    let file = node(&nodes, "./small").unwrap();
    image.put(file.pos + 6, 2, 5);
    image.put_sb(image::superblock::EXTSLOTS, 1, 255);
    image.put_sb(image::superblock::DEVICES, 2, 300);
    image.put_sb(32, 4, 4_000_000_000);
    fs::write(scratch.join("spoiled"), image.bytes).unwrap();
    let (code, said) = ferofs(&scratch, &["check", "spoiled"]);
    assert_eq!(code, 4);
    for expected in [
        "at offset 1028: the superblock's checksum is",
        "at offset 1037: the superblock has 255 extension slots",
        "at offset 1056: the superblock's nanoseconds are 4000000000",
        "at offset 1110: the device table is at",
        "\"/again\": its link count is 5",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

/// An image that a fuzzer made, with a compressed file of 4 GiB that is a hole: nothing is written of it, if it is extracted.
#[test]
fn holes_of_compressed_files_take_no_room() {
    let scratch = Scratch::new();
    fs::write(scratch.join("image"), include_bytes!("damaged/hole.erofs")).unwrap();
    let image = inspect::Image::open(&scratch.join("image")).unwrap();
    let inode = image.find(b"/extents").unwrap();
    let contents = Contents::new(&image, &[], &[]).unwrap();
    let (mut holes, mut data) = (0, 0);
    contents
        .read::<Error>(&inode, b"/extents", &mut |piece| {
            match piece {
                Piece::Hole(len) => holes += len,
                Piece::Data(bytes) => data += bytes.len() as u64,
                _ => panic!("a piece of another kind"),
            }
            Ok(())
        })
        .unwrap();
    assert_eq!((holes, data), (inode.size(), 0));
    assert!(inode.size() > 4_000_000_000);
}

/// An image that a fuzzer made. What its metadata is decoded from is wrong; the check goes on, and says so.
#[test]
fn what_cannot_be_decoded_is_a_problem() {
    let scratch = Scratch::new();
    let bytes = include_bytes!("damaged/metabox.erofs");
    fs::write(scratch.join("image"), bytes).unwrap();
    let (code, said) = ferofs(&scratch, &["check", "image"]);
    assert_eq!(code, 4, "{said}");
    let image = inspect::Image::open(&scratch.join("image")).unwrap();
    let report = inspect::check::check(&image, &[], &mut |_| {}).unwrap();
    let mut problems = report.problems.iter().map(|found| &found.what);
    assert!(
        problems.any(|what| what.contains("points back at none")),
        "{said}"
    );
}

/// Whatever the bytes are, looking at them ends, and extracting them leaves the rest of the machine
/// alone.
#[test]
fn mutated_images_do_no_harm() {
    let scratch = Scratch::new();
    images(&scratch);
    let open = |name: &str| inspect::Image::open(&scratch.join(name));
    let (mut sound, mut extracted) = (0, 0);
    let before = scratch.names();
    for name in ["full", "plain"] {
        let good = open(name).unwrap();
        let good = Contents::new(&good, &[], &[]).unwrap();
        let base = mutate::Base::new(fs::read(scratch.join(name)).unwrap());
        for seed in 0..40 {
            fs::write(scratch.join("spoiled"), base.changed(seed, u32::MAX)).unwrap();
            let Ok(image) = open("spoiled") else {
                continue;
            };
            sound += usize::from(Statistics::of(&image).is_ok());
            let Ok(contents) = Contents::new(&image, &[], &[]) else {
                continue;
            };
            let emit = &mut |_: &_| Ok::<_, Error>(true);
            drop(diff(&good, &contents, &Ignored::new(), emit));
            fs::create_dir(scratch.join("below")).unwrap();
            let target = scratch.join("below/out");
            let options = extract::Options::default();
            extracted += usize::from(extract(&contents, &target, options, &mut |_| {}).is_ok());
            let below = fs::read_dir(scratch.join("below")).unwrap();
            assert!(below.count() <= 1, "{name}, seed {seed}");
            remove(&scratch, "below");
        }
        fs::remove_file(scratch.join("spoiled")).unwrap();
        assert_eq!(scratch.names(), before);
    }
    assert!(sound > 10 && extracted > 10, "{sound}, {extracted}");
}

fn remove(scratch: &Scratch, name: &str) {
    let script = "chmod -R u+rwx \"$0\"; rm -rf \"$0\"";
    let (code, said) = run(scratch, "sh", &["-c", script, name]);
    assert_eq!(code, 0, "{said}");
}
