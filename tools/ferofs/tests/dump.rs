// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What `ferofs dump` and `ferofs check` say as JSON and in numbers, against what the archive has.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use ferofs::digest::Digest;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn run(scratch: &Scratch, name: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ferofs"))
        .arg0(name)
        .args(arguments)
        .current_dir(&scratch.0)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

fn parsed(scratch: &Scratch, arguments: &[&str]) -> Value {
    let (code, output) = run(scratch, "ferofs", arguments);
    assert_eq!(code, 0, "{output}");
    serde_json::from_str(&output).unwrap()
}

fn archive() -> Vec<u8> {
    Archive::new()
        .directory("dir/")
        .pax(&[("SCHILY.xattr.user.key", "va\nlue"), ("mtime", "1.25")])
        .file("dir/file", "content")
        .hard_link("dir/same", "dir/file")
        .symlink("dir/link", "file")
        .header(Header::new("dir/null", b'3').device(1, 3))
        .file("large", &"x".repeat(5000))
        .file("dir/b\u{fc}cher \"a\\b\"", "")
        .end()
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    fs::write(scratch.join("a.tar"), archive()).unwrap();
    let built = run(
        &scratch,
        "ferofs",
        &["build", "--digest", "-o", "image", "a.tar"],
    );
    assert_eq!(built, (0, String::new()));
    scratch
}

#[test]
fn superblock_and_devices() {
    let scratch = scratch();
    let shown = parsed(&scratch, &["dump", "--json", "image"]);
    let superblock = &shown["superblock"];
    assert_eq!(superblock["block_size"], 512);
    // The root, dir, file, link, null, large and the one with a strange name.
    assert_eq!(superblock["inodes"], 7);
    assert_eq!(superblock["uuid"].as_str().unwrap().len(), 36);
    let features = superblock["incompatible_features"].as_array().unwrap();
    assert!(features.contains(&json!("device_table")), "{features:?}");
    let tag = Digest::of(&archive()).to_string();
    let device = &shown["devices"][0];
    assert_eq!(device["tag"], json!(tag));
    assert_eq!(device["size"], archive().len());
    for other in ["statistics", "tree", "file"] {
        assert_eq!(shown[other], Value::Null);
    }
}

#[test]
fn one_file() {
    let scratch = scratch();
    let shown = parsed(
        &scratch,
        &["dump", "--json", "--path", "/dir/file", "image"],
    );
    let file = &shown["file"];
    for (member, expected) in [
        ("path", json!("/dir/file")),
        ("type", json!("regular")),
        ("mode", json!("0644")),
        ("nlink", json!(2)),
        ("uid", json!(1000)),
        ("size", json!(7)),
        ("mtime", json!(1)),
        ("mtime_nsec", json!(250_000_000)),
        ("xattrs", json!({"user.key": "va\\nlue"})),
    ] {
        assert_eq!(file[member], expected, "{member}");
    }
    let extent = &file["extents"][0];
    let (device, offset) = (&extent["device"], extent["offset"].as_u64().unwrap());
    assert_eq!((device, &extent["length"]), (&json!(1), &json!(7)));
    let at = offset as usize;
    assert_eq!(&archive()[at..at + 7], b"content");

    let nid = file["nid"].to_string();
    let by_number = parsed(&scratch, &["dump", "--json", "--nid", &nid, "image"]);
    assert_eq!(by_number["file"]["inode_offset"], file["inode_offset"]);
    let device = parsed(&scratch, &["dump", "--json", "--path", "dir/null", "image"]);
    assert_eq!(device["file"]["rdev"], json!([1, 3]));
}

#[test]
fn tree_and_statistics() {
    let scratch = scratch();
    let shown = parsed(&scratch, &["dump", "--json", "--tree", "-S", "image"]);
    let tree = shown["tree"].as_array().unwrap();
    let paths: Vec<_> = tree
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    let strange = "/dir/b\u{fc}cher \\\"a\\\\b\\\"";
    let expected = [
        "/",
        "/dir",
        strange,
        "/dir/file",
        "/dir/link",
        "/dir/null",
        "/dir/same",
        "/large",
    ];
    assert_eq!(paths, expected);
    assert_eq!(tree[4]["target"], "file");
    let statistics = &shown["statistics"];
    for (member, expected) in [
        ("names", json!(8)),
        (
            "inodes",
            json!({"regular": 3, "directory": 2, "symlink": 1, "character_device": 1}),
        ),
        ("data", json!(5007)),
        ("holes", json!(0)),
        ("devices", json!([0, 5007])),
        ("xattrs", json!(1)),
        ("fullest", json!({"names": 5, "path": "/dir"})),
        ("depth", json!(1)),
    ] {
        assert_eq!(statistics[member], expected, "{member}");
    }
    assert_eq!(
        statistics["largest"][0],
        json!({"size": 5000, "path": "/large"})
    );
    let text = run(&scratch, "dump.ferofs", &["-s", "-S", "image"]);
    for expected in [
        "block size:         512",
        "names:              8, at most 1 directories deep",
        "  in device 1:      5007 bytes",
        "          5000 /large",
    ] {
        assert!(text.1.contains(expected), "{expected}: {}", text.1);
    }
}

#[test]
fn dump_lists_and_writes_as_dump_erofs_does() {
    let scratch = scratch();
    let long = run(&scratch, "ferofs", &["ls", "-l", "image", "/dir"]);
    assert_eq!(long.1.lines().count(), 5);
    let listed = run(&scratch, "dump.ferofs", &["--ls", "--path=/dir", "image"]);
    assert_eq!(listed, long);
    let write = ["--cat", "--path=/dir/file", "--device=a.tar", "image"];
    assert_eq!(
        run(&scratch, "dump.ferofs", &write),
        (0, "content".to_string())
    );
    let (code, said) = run(&scratch, "dump.ferofs", &["--offset=0", "image"]);
    assert!(
        code == 1 && said.starts_with("ferofs: --offset is not supported: "),
        "{said}"
    );
    assert_eq!(run(&scratch, "dump.ferofs", &["--ls", "image"]).0, 2);
}

/// All messages have one form, those about arguments, too, and so does what cannot be written.
#[test]
fn messages_have_one_form() {
    let scratch = scratch();
    for (name, arguments) in [
        ("ferofs", &["dump"][..]),
        ("mkfs.ferofs", &["--chunksize=1", "new", "dir"]),
        ("mount.ferofs", &["image"]),
        ("fsck.ferofs", &["--nonsense", "image"]),
    ] {
        let (code, said) = run(&scratch, name, arguments);
        assert!(code != 0 && said.starts_with("ferofs: "), "{code} {said}");
        assert!(
            said.contains("--help") && !said.contains("error: "),
            "{said}"
        );
    }
    for arguments in ["ferofs --help", "ferofs --version", "ferofs dump image"] {
        let full = format!(
            "\"$0\" {} >/dev/full",
            arguments.strip_prefix("ferofs ").unwrap()
        );
        let output = Command::new("sh")
            .args(["-c", &full, env!("CARGO_BIN_EXE_ferofs")])
            .current_dir(&scratch.0)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = "ferofs: cannot write to standard output: No space left on device\n";
        assert_eq!(
            (output.status.code(), said.as_str()),
            (Some(1), expected),
            "{arguments}"
        );
    }
}

#[test]
fn holes_and_data_in_the_image() {
    let scratch = scratch();
    let build = ["build", "--mode", "full", "-o", "full", "a.tar"];
    assert_eq!(run(&scratch, "ferofs", &build).0, 0);
    let shown = parsed(&scratch, &["dump", "--json", "-S", "full"]);
    let statistics = &shown["statistics"];
    assert_eq!(statistics["devices"], json!([5007]));
    // The content of the small file, and what the large one has behind its first block.
    assert_eq!(statistics["inline"], json!(7 + 5000 - 4096));
    let build = ["build", "--mode", "meta", "-o", "meta", "a.tar"];
    assert_eq!(run(&scratch, "ferofs", &build).0, 0);
    let shown = parsed(&scratch, &["dump", "--json", "-S", "meta"]);
    assert_eq!(shown["statistics"]["holes"], json!(5007));
}

#[test]
fn check_as_fsck_and_as_json() {
    let scratch = scratch();
    let options = ["-a", "-y", "-f", "-C", "0", "image"];
    let (code, said) = run(&scratch, "/sbin/fsck.ferofs", &options);
    assert_eq!(
        (code, said.as_str()),
        (0, "image: 2 directories, 5 other files, no errors\n")
    );
    assert_eq!(run(&scratch, "fsck.ferofs", &["-V"]).0, 0);
    assert_eq!(run(&scratch, "fsck.ferofs", &["--nonsense", "image"]).0, 16);
    assert_eq!(run(&scratch, "fsck.ferofs", &["a.tar"]).0, 8);

    // As with fsck.erofs.
    for options in [
        &["-d3", "-A"][..],
        &["-d", "9", "--xattrs", "--device=a.tar"],
    ] {
        let (code, said) = run(&scratch, "fsck.ferofs", &[options, &["image"]].concat());
        assert_eq!(
            (code, said.as_str()),
            (0, "image: 2 directories, 5 other files, no errors\n")
        );
    }
    assert_eq!(
        run(&scratch, "fsck.ferofs", &["-d0", "image"]),
        (0, String::new())
    );
    // Options may come twice, and to extract without a directory is to read.
    for options in [
        &["-y", "-y"][..],
        &["-n", "-p", "-n"],
        &["--extract", "--device=a.tar"],
    ] {
        let (code, said) = run(&scratch, "fsck.ferofs", &[options, &["image"]].concat());
        assert_eq!(
            (code, said.as_str()),
            (0, "image: 2 directories, 5 other files, no errors\n")
        );
    }
    let (code, said) = run(&scratch, "fsck.ferofs", &["--extract", "image"]);
    assert!(
        code == 8 && said.contains("device 1 has data to read"),
        "{code} {said}"
    );
    let extract = ["--extract=root", "--device=a.tar", "image"];
    assert_eq!(run(&scratch, "fsck.ferofs", &extract).0, 0);
    assert!(scratch.join("root").is_dir());
    for option in ["--offset=0", "--overwrite", "--no-preserve", "--no-xattrs"] {
        let (code, said) = run(&scratch, "fsck.ferofs", &[option, "image"]);
        let name = option.split('=').next().unwrap();
        let expected = format!("ferofs: {name} is not supported: ");
        assert!(code == 16 && said.starts_with(&expected), "{code} {said}");
    }

    let arguments = ["check", "--json", "--digest", "-d", "a.tar", "image"];
    let good = parsed(&scratch, &arguments);
    let digest = Digest::of(&archive()).to_string();
    for (member, expected) in [
        ("image", json!("image")),
        ("exit_code", json!(0)),
        ("failure", Value::Null),
        ("directories", json!(2)),
        ("files", json!(5)),
        ("errors", json!([])),
        ("warnings", json!([])),
        ("unused_devices", json!([])),
        (
            "digests",
            json!([{
                "device": 1, "file": "a.tar", "kind": "sha256", "expected": digest, "found": digest, "good": true
            }]),
        ),
    ] {
        assert_eq!(good[member], expected, "{member}");
    }

    let mut changed = archive();
    changed[0] ^= 1;
    fs::write(scratch.join("a.tar"), &changed[..changed.len() - 1024]).unwrap();
    let (code, output) = run(&scratch, "ferofs", &arguments);
    let bad: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &bad["exit_code"]), (4, &json!(4)));
    assert_eq!(bad["digests"][0]["good"], false);
    let error = &bad["errors"][0];
    assert!(error["offset"].as_u64().unwrap() >= 1024, "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("its slot says"),
        "{error}"
    );
    let (code, output) = run(&scratch, "ferofs", &["check", "--json", "a.tar"]);
    let none: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &none["exit_code"]), (8, &json!(8)));
    assert!(
        none["failure"]
            .as_str()
            .unwrap()
            .contains("not an EROFS image")
    );
}

#[test]
fn blobs_are_found_and_verified() {
    let scratch = scratch();
    let digest = Digest::of(&archive()).to_string();
    fs::create_dir(scratch.join("store")).unwrap();
    fs::rename(
        scratch.join("a.tar"),
        scratch.join(&format!("store/{digest}")),
    )
    .unwrap();
    let arguments = ["check", "-v", "--verify", "--blobs", "store", "image"];
    let (code, said) = run(&scratch, "ferofs", &arguments);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains(&format!("its sha256 is {digest}, as the image expects")),
        "{said}"
    );
    let (code, said) = run(&scratch, "ferofs", &["check", "--digest", "image"]);
    assert_eq!(code, 8, "{said}");
    assert!(said.contains("--digest needs the devices"), "{said}");
}
