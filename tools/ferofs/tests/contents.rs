// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs ls` and `ferofs cat`, compared with what is in the tar.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use ferofs::digest::Digest;
use std::fs;
use std::process::Command;

/// Runs the command in a directory; returns its exit code, and what it wrote to stdout and stderr.
fn ferofs(directory: &Scratch, arguments: &[&str]) -> (i32, Vec<u8>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ferofs"))
        .args(arguments)
        .current_dir(&directory.0)
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, errors)
}

/// More than one piece of what is copied at once.
fn large() -> String {
    let numbers: Vec<_> = (0..100_000).map(|number| number.to_string()).collect();
    numbers.join("\n")
}

/// A directory with a tar and an index of it.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let tar = Archive::new()
        .directory("d/")
        .file("d/large", &large())
        .file("d/empty", "")
        .file("small", "content\n")
        .symlink("link", "small");
    fs::write(scratch.join("layer.tar"), tar.end()).unwrap();
    let build = ["build", "--digest", "-o", "image", "layer.tar"];
    assert_eq!(ferofs(&scratch, &build).0, 0);
    scratch
}

#[test]
fn cat_writes_what_tar_extracts() {
    let scratch = scratch();
    // GNU tar writes files in the order of the archive.
    let tar = Command::new("tar")
        .args(["-xOf", "layer.tar", "d/large", "d/empty", "small"])
        .current_dir(&scratch.0)
        .output()
        .unwrap();
    let paths = ["image", "/d/large", "d/empty", "/small"];
    let cat = [&["cat", "-d", "layer.tar"], &paths[..]].concat();
    assert_eq!(
        ferofs(&scratch, &cat),
        (0, tar.stdout.clone(), String::new())
    );

    let digest = Digest::of(&fs::read(scratch.join("layer.tar")).unwrap());
    let blob = scratch.join(&digest.to_string());
    fs::rename(scratch.join("layer.tar"), &blob).unwrap();
    let cat = [&["cat", "--blobs", "."], &paths[..]].concat();
    assert_eq!(
        ferofs(&scratch, &cat),
        (0, tar.stdout.clone(), String::new())
    );

    // The tar behind the image, in one file with it.
    let flat = [
        fs::read(scratch.join("image")).unwrap(),
        fs::read(&blob).unwrap(),
    ];
    fs::write(scratch.join("flat"), flat.concat()).unwrap();
    let cat = ["cat", "flat", "d/large", "d/empty", "small"];
    assert_eq!(ferofs(&scratch, &cat), (0, tar.stdout, String::new()));
}

#[test]
fn cat_says_what_it_cannot_read() {
    let scratch = scratch();
    fs::write(scratch.join("short"), [0; 600]).unwrap();
    for (arguments, message) in [
        (
            &["image", "small"][..],
            "image: \"small\": its data is in device 1, which is not given",
        ),
        (&["image", "d"], "image: \"d\": a directory"),
        (
            &["image", "link"],
            "image: \"link\": a symbolic link to \"small\"",
        ),
        (
            &["image", "nothing"],
            "image: \"nothing\": not in the image",
        ),
        (
            &["-d", "short", "image", "d/large"],
            "short is not the tar that device 1 of image was made from: it has other headers",
        ),
        (
            &["-d", "short", "-d", "short", "image", "d"],
            "image: device slots in the image: 1, but devices given: 2",
        ),
        (
            &["-d", "nothing", "image", "small"],
            "cannot open nothing: No such file",
        ),
        (
            &["layer.tar", "small"],
            "layer.tar: a tar, expected an EROFS image",
        ),
    ] {
        let (code, output, errors) = ferofs(&scratch, &[&["cat"], arguments].concat());
        assert_eq!((code, output), (1, Vec::new()), "{arguments:?}");
        let expected = format!("ferofs: {message}");
        assert!(errors.starts_with(&expected), "{arguments:?}: {errors}");
    }
}

#[test]
fn an_image_from_a_pipe_is_refused_in_words() {
    let scratch = scratch();
    for (arguments, doing) in [("ls", "open"), ("check", "read")] {
        let script = format!("cat image | \"$0\" {arguments} /dev/stdin");
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_ferofs")])
            .current_dir(&scratch.0)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = "/dev/stdin: a pipe, expected a file that can be read anywhere\n";
        assert_eq!(said, format!("ferofs: cannot {doing} {expected}"));
    }
}

#[test]
fn ls_lists_as_ls_does() {
    let scratch = scratch();
    let list = |arguments: &[&str]| {
        let (code, output, errors) = ferofs(&scratch, &[&["ls"], arguments].concat());
        (code, String::from_utf8(output).unwrap() + &errors)
    };
    fs::create_dir(scratch.join("root")).unwrap();
    scratch.sh("tar -C root -xf layer.tar");
    // As ls(1) does it, but for the order.
    let expected = scratch.sh("cd root; LC_ALL=C ls small link; echo; LC_ALL=C ls . d");
    let expected = expected.replacen("link\nsmall\n", "small\nlink\n", 1);
    assert_eq!(list(&["image", "small", ".", "link", "d"]), (0, expected));
    let expected = scratch.sh("cd root; LC_ALL=C ls . d");
    assert_eq!(list(&["image", ".", "d"]), (0, expected));
    assert_eq!(list(&["image"]), (0, "d\nlink\nsmall\n".to_string()));
    assert_eq!(list(&["-d", "image", "d"]), (0, "d\n".to_string()));
    // As fingers have it.
    assert_eq!(list(&["-la", "image"]), list(&["-lA", "image"]));
    assert_eq!(list(&["-la", "image"]), list(&["-l", "image"]));
    assert_eq!(list(&["-la", "image"]).0, 0);
    let long = "-0644   1 1000:100          8 2023-11-14 22:13:20 small\n\
                l0777   1 1000:100          5 2023-11-14 22:13:20 link -> small\n";
    assert_eq!(
        list(&["-l", "image", "small", "link"]),
        (0, long.to_string())
    );
    let missing = "ferofs: image: \"x\": not in the image\n".to_string();
    assert_eq!(list(&["image", "x"]), (1, missing));
}
