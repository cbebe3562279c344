// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs diff` over images, tars and directories that differ in known ways.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use common::program::ferofs;
use ferofs::digest::Digest;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::process::Command;

fn old() -> Archive {
    Archive::new()
        .directory("dir/")
        .file("dir/data", &"one ".repeat(100_000))
        .file("dir/removed", "old")
        .file("grown", "short")
        .file("mode", "")
        .file("owner", "")
        .file("kind", "")
        .symlink("link", "old")
        .header(Header::new("device", b'3').device(1, 3))
        .pax(&[
            ("SCHILY.xattr.user.gone", "1"),
            ("SCHILY.xattr.user.kept", "2"),
        ])
        .file("xattrs", "")
        .file("first", "linked")
        .hard_link("second", "first")
        .file("same", "the same")
}

fn new() -> Archive {
    let data = "one ".repeat(99_999) + "two ";
    Archive::new()
        .directory("dir/")
        .file("same", "the same")
        .file("dir/data", &data)
        .directory("dir/added/")
        .file("dir/added/file", "new")
        .file("grown", "longer than it was")
        .header(Header::new("mode", b'0').mode(0o4755))
        .header(Header::new("owner", b'0').owner(7, 8).mtime(1_000_000_000))
        .directory("kind/")
        .symlink("link", "new")
        .header(Header::new("device", b'3').device(1, 5))
        .pax(&[
            ("SCHILY.xattr.user.kept", "3"),
            ("SCHILY.xattr.user.new", ""),
        ])
        .file("xattrs", "")
        .file("first", "linked")
        .file("second", "linked")
}

const DIFFERENCES: &str = "\
added   /dir/added
added   /dir/added/file
changed /dir/data: data different from byte 399996 on
removed /dir/removed
changed /device: rdev 1,3 -> 1,5
changed /first: links 2 -> 1
changed /grown: size 5 -> 18
changed /kind: type regular -> directory, mode 0644 -> 0755, links 1 -> none
changed /link: target old -> new
changed /mode: mode 0644 -> 4755
changed /owner: owner 1000:100 -> 7:8, mtime 2023-11-14 22:13:20 -> 2001-09-09 01:46:40
changed /second: links 2 -> 1, linked-to /first -> none
changed /xattrs: xattr user.gone \"1\" -> none, xattr user.kept \"2\" -> \"3\", xattr user.new none -> \"\"
";

/// Two tars and their indexes.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    for (name, archive) in [("old", old()), ("new", new())] {
        let tar = format!("{name}.tar");
        fs::write(scratch.join(&tar), archive.end()).unwrap();
        let build = ["build", "--digest", "-o", name, tar.as_str()];
        assert_eq!(ferofs(&scratch, &build).0, 0);
    }
    scratch
}

#[test]
fn every_kind_of_difference_is_told() {
    let scratch = scratch();
    let devices = ["--old-device", "old.tar", "--new-device", "new.tar"];
    let mut whole = DIFFERENCES.to_string();
    // Files before directories as their names have it.
    let lines: Vec<_> = whole.lines().collect();
    let (dir, rest) = lines.split_at(4);
    let (device, rest) = rest.split_at(1);
    whole = [device, dir, rest].concat().join("\n") + "\n";
    for arguments in [
        &[&["diff", "old", "new"], &devices[..]].concat()[..],
        &["diff", "old.tar", "new.tar"],
        &["diff", "old", "new.tar", "--old-device", "old.tar"],
    ] {
        let (code, output, said) = ferofs(&scratch, arguments);
        assert_eq!(
            (code, output.as_str(), said.as_str()),
            (1, whole.as_str(), "")
        );
    }
    let quiet = ferofs(&scratch, &["diff", "-q", "old.tar", "new.tar"]);
    assert_eq!(quiet, (1, String::new(), String::new()));
    let ignore = "--ignore=mode,owner,mtime,links,linked-to,size,data,target,rdev,xattr";
    let (code, output, _) = ferofs(&scratch, &["diff", ignore, "old", "new"]);
    let kinds: Vec<_> = output.lines().collect();
    let expected = [
        "added   /dir/added",
        "added   /dir/added/file",
        "removed /dir/removed",
        "changed /kind: type regular -> directory",
    ];
    assert_eq!((code, kinds), (1, expected.to_vec()));
}

#[test]
fn json_has_the_same() {
    let scratch = scratch();
    let (code, output, _) = ferofs(&scratch, &["diff", "--json", "old.tar", "new.tar"]);
    let shown: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(code, 1);
    let differences = shown["differences"].as_array().unwrap();
    assert_eq!(differences.len(), DIFFERENCES.lines().count());
    let of = |path: &str| {
        let mut all = differences.iter();
        all.find(|difference| difference["path"] == path).unwrap()
    };
    assert_eq!(of("/dir/added")["change"], "added");
    assert_eq!(of("/dir/removed")["change"], "removed");
    let expected = json!([{"name": "mode", "old": "0644", "new": "4755"}]);
    assert_eq!(of("/mode")["attributes"], expected);
    let summary = json!({
        "added": 2, "removed": 1, "changed": 10, "same": 3, "data_not_compared": 0,
    });
    assert_eq!(shown["summary"], summary);
    let (code, output, _) = ferofs(&scratch, &["diff", "--json", "old", "old"]);
    let shown: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, &shown["differences"]), (0, &json!([])));
}

#[test]
fn data_is_read_only_where_it_has_to_be() {
    let scratch = scratch();
    let same = (0, String::new(), String::new());
    // The same blob by its sha256, which is not there; and a merged image of it.
    fs::copy(scratch.join("old"), scratch.join("copy")).unwrap();
    assert_eq!(ferofs(&scratch, &["diff", "old", "copy"]), same);
    assert_eq!(ferofs(&scratch, &["merge", "-o", "merged", "old"]).0, 0);
    assert_eq!(ferofs(&scratch, &["diff", "old", "merged"]), same);
    // An index and its tar, and an image that has the data in itself.
    assert_eq!(ferofs(&scratch, &["diff", "old", "old.tar"]), same);
    assert_eq!(ferofs(&scratch, &["diff", "old.tar", "old"]), same);
    let full = ["build", "--mode", "full", "-o", "full", "old.tar"];
    assert_eq!(ferofs(&scratch, &full).0, 0);
    assert_eq!(ferofs(&scratch, &["diff", "full", "old.tar"]), same);
    // Nobody knows without the data.
    let (code, output, said) = ferofs(&scratch, &["diff", "full", "old"]);
    assert_eq!((code, output.as_str()), (2, ""));
    assert!(
        said.contains("the data of 5 files could not be compared"),
        "{said}"
    );
    assert_eq!(
        ferofs(&scratch, &["diff", "--ignore", "data", "full", "old"]),
        same
    );
    assert_eq!(
        ferofs(
            &scratch,
            &["diff", "full", "old", "--new-device", "old.tar"]
        ),
        same
    );
    let digest = Digest::of(&fs::read(scratch.join("old.tar")).unwrap());
    fs::create_dir(scratch.join("store")).unwrap();
    fs::rename(
        scratch.join("old.tar"),
        scratch.join(&format!("store/{digest}")),
    )
    .unwrap();
    assert_eq!(
        ferofs(&scratch, &["diff", "--blobs", "store", "full", "old"]),
        same
    );
}

#[test]
fn a_tar_is_taken_for_an_index_only_if_it_is_the_right_one() {
    let scratch = Scratch::new();
    let tar = |first: &str, second: &str| {
        let archive = Archive::new()
            .file(first, "1 and 1")
            .file(second, "2 and 2");
        archive.end()
    };
    fs::write(scratch.join("a.tar"), tar("one", "two")).unwrap();
    // The same files in another order: as large, but the data is elsewhere.
    let other = Archive::new().file("two", "2 and 2").file("one", "1 and 1");
    fs::write(scratch.join("b.tar"), other.end()).unwrap();
    let changed = String::from_utf8(tar("one", "two"))
        .unwrap()
        .replace("1 and 1", "1 or  1");
    fs::write(scratch.join("c.tar"), changed).unwrap();
    for (name, digest) in [("plain", false), ("tagged", true)] {
        let build = ["build", "-o", name, "a.tar", "--digest"];
        let build = if digest { &build[..] } else { &build[..4] };
        assert_eq!(ferofs(&scratch, build).0, 0);
        let same = (0, String::new(), String::new());
        assert_eq!(ferofs(&scratch, &["diff", name, "a.tar"]), same);
        // Whatever its data is, an image has the same as itself; but its devices may be others.
        assert_eq!(ferofs(&scratch, &["diff", name, name]), same);
        let devices = [
            "diff",
            name,
            name,
            "--old-device=a.tar",
            "--new-device=c.tar",
        ];
        let (code, output, _) = ferofs(&scratch, &devices);
        assert_eq!((code, output.is_empty()), (i32::from(!digest), digest));
        let (code, output, said) = ferofs(&scratch, &["diff", name, "b.tar"]);
        assert_eq!((code, output.as_str()), (2, ""), "{name}");
        assert!(
            said.contains("the data of 2 files could not be compared"),
            "{name}: {said}"
        );
        let given = ["diff", name, "b.tar", "--old-device", "a.tar"];
        assert_eq!(ferofs(&scratch, &given), same);
    }
    // That a tar is not the one that an index was made of shows only if the index has its sha256.
    assert_eq!(ferofs(&scratch, &["diff", "plain", "c.tar"]).0, 0);
    assert_eq!(ferofs(&scratch, &["diff", "tagged", "c.tar"]).0, 2);
    let given = ["diff", "tagged", "c.tar", "--old-device", "a.tar"];
    assert_eq!(ferofs(&scratch, &given).0, 1);
}

#[test]
fn a_directory_is_as_good_as_an_image() {
    let scratch = Scratch::new();
    for path in ["tree", "tree/below"] {
        fs::create_dir(scratch.join(path)).unwrap();
    }
    fs::write(scratch.join("tree/below/file"), "x".repeat(10_000)).unwrap();
    fs::hard_link(scratch.join("tree/below/file"), scratch.join("tree/again")).unwrap();
    std::os::unix::fs::symlink("again", scratch.join("tree/link")).unwrap();
    assert_eq!(ferofs(&scratch, &["build", "-o", "image", "tree"]).0, 0);
    let same = (0, String::new(), String::new());
    assert_eq!(ferofs(&scratch, &["diff", "image", "tree"]), same);
    // As GNU tar sees it.
    let tar = [
        "--sort=name",
        "--format=pax",
        "-cf",
        "tree.tar",
        "-C",
        "tree",
        ".",
    ];
    let made = Command::new("tar")
        .args(tar)
        .current_dir(&scratch.0)
        .status();
    assert!(made.unwrap().success());
    assert_eq!(ferofs(&scratch, &["diff", "tree.tar", "tree"]), same);
    fs::write(scratch.join("tree/below/file"), "y".repeat(10_000)).unwrap();
    let arguments = ["diff", "--ignore", "mtime", "image", "tree"];
    let (code, output, _) = ferofs(&scratch, &arguments);
    // Once for the file, whatever names it has.
    let expected = "changed /again: data different from byte 0 on\n";
    assert_eq!((code, output.as_str()), (1, expected));
}

#[test]
fn two_directories_are_compared() {
    let scratch = Scratch::new();
    scratch
        .sh("mkdir old; echo data >old/file; cp -a old new; cp -a old same; echo more >>new/file");
    let compare = |new| ferofs(&scratch, &["diff", "--ignore=mtime", "old", new]);
    assert_eq!(compare("same"), (0, String::new(), String::new()));
    let differences = "changed /file: size 5 -> 10\n".to_string();
    assert_eq!(compare("new"), (1, differences, String::new()));
}

#[test]
fn trouble_is_not_a_difference() {
    let scratch = scratch();
    fs::write(scratch.join("text"), "neither image nor tar ".repeat(100)).unwrap();
    for arguments in [
        &["diff", "old"][..],
        &["diff", "old", "nothing"],
        &["diff", "old", "new", "--ignore", "nonsense"],
        &["diff", "old", "new", "--new-device", "nothing"],
        &["diff", "old", "text"],
    ] {
        let (code, output, said) = ferofs(&scratch, arguments);
        assert_eq!((code, output.as_str()), (2, ""), "{arguments:?}");
        assert!(!said.is_empty(), "{arguments:?}");
    }
    fs::write(scratch.join("old.gz"), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]).unwrap();
    let (code, _, said) = ferofs(&scratch, &["diff", "old.gz", "old"]);
    let expected = "ferofs: old.gz is compressed (gzip), expected a plain tar, ";
    assert!(code == 2 && said.starts_with(expected), "{said}");
}
