// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs check --extract`, compared with what GNU tar extracts, and with directories that somebody
//! has prepared.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use common::description_of_directory;
use std::fs;
use std::io::ErrorKind;

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn run(command: &mut Command) -> (i32, String, String) {
    // A program that was just copied may be open for writing for a moment, in a process that another thread began meanwhile.
    let output = loop {
        match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            output => break output.unwrap(),
        }
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

fn ferofs(scratch: &Scratch, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferofs"));
    run(command.args(arguments).current_dir(&scratch.0))
}

fn is_root() -> bool {
    let file = std::env::temp_dir().join(format!("ferofs-owner-{}", std::process::id()));
    fs::write(&file, "").unwrap();
    let uid = fs::metadata(&file).unwrap().uid();
    fs::remove_file(&file).unwrap();
    uid == 0
}

fn archive() -> Archive {
    Archive::new()
        .directory("./")
        .file("./large", &"0123456789".repeat(100_000))
        .header(Header::new("./closed/", b'5').mode(0o555))
        .file("./closed/file", "in a directory that cannot be written to")
        .hard_link("./closed/again", "./large")
        .header(
            Header::new("./suid", b'0')
                .mode(0o4755)
                .mtime(1_000_000_000),
        )
        .symlink("./closed/link", "file")
        .symlink("./dangling", "nowhere/at/all")
        .pax(&[("mtime", "1234567890.123456789")])
        .file("./fine", "time")
        .header(Header::new("./fifo", b'6').mode(0o600))
        .file("./empty", "")
}

/// A directory with an archive and its index.
fn scratch(archive: Archive) -> Scratch {
    let scratch = Scratch::new();
    fs::write(scratch.join("a.tar"), archive.end()).unwrap();
    let built = ferofs(&scratch, &["build", "-o", "image", "a.tar"]);
    assert_eq!(built, (0, String::new(), String::new()));
    scratch
}

const EXTRACT: [&str; 5] = ["check", "image", "--device", "a.tar", "--extract"];

#[test]
fn is_what_tar_extracts() {
    let scratch = scratch(archive());
    let (code, _, said) = ferofs(&scratch, &[&EXTRACT[..], &["out"]].concat());
    assert_eq!(code, 0, "{said}");
    fs::create_dir(scratch.join("tar")).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-xpf", "a.tar", "-C", "tar"]);
    tar.args(["--numeric-owner", "--delay-directory-restore"]);
    assert_eq!(run(tar.current_dir(&scratch.0)).0, 0);
    let (out, tar) = (
        description_of_directory(&scratch.join("out")),
        description_of_directory(&scratch.join("tar")),
    );
    if is_root() {
        assert_eq!(said, "");
        assert_eq!(out, tar);
        return;
    }
    assert!(said.contains("owner and group are not kept without root"));
    let but_suid = |all: Vec<common::Described>| {
        let mut all = all;
        all.retain(|described| described.path != "/suid");
        all
    };
    assert_eq!(but_suid(out), but_suid(tar));
}

#[test]
fn is_what_fsck_erofs_extracts() {
    let scratch = scratch(archive());
    let full = ["build", "--mode", "full", "-o", "full", "a.tar"];
    assert_eq!(ferofs(&scratch, &full).0, 0);
    let mut fsck = Command::new("fsck.erofs");
    fsck.args(["--extract=fsck", "--preserve", "full"]);
    match fsck.current_dir(&scratch.0).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!is_root(), "{said}");
            return;
        }
        Err(_) => {
            eprintln!("skipped: fsck.erofs is not installed");
            return;
        }
    }
    let (code, _, said) = ferofs(&scratch, &["check", "full", "--extract", "out"]);
    assert_eq!(code, 0, "{said}");
    let (out, mut fsck) = (
        description_of_directory(&scratch.join("out")),
        description_of_directory(&scratch.join("fsck")),
    );
    for (ours, theirs) in out.iter().zip(&mut fsck) {
        // Old versions know seconds only, and make files of hard links.
        theirs.mtime.1 = ours.mtime.1;
        theirs.links = ours.links;
        // It changes the owner after the mode, which takes this away.
        theirs.mode |= ours.mode & 0o7000;
    }
    let lines = |all: &[common::Described]| -> Vec<String> {
        all.iter().map(common::Described::line).collect()
    };
    assert_eq!(lines(&out), lines(&fsck));
}

#[test]
fn holes_stay_holes() {
    let mut sparse = Header::new("sparse", b'S').size(512);
    sparse.magic = common::archive::GNU.to_vec();
    let mut block = sparse.block();
    let (at, size) = (1 << 20, 4 << 20);
    block[386..398].copy_from_slice(&common::archive::octal(at, 12));
    block[398..410].copy_from_slice(&common::archive::octal(512, 12));
    block[483..495].copy_from_slice(&common::archive::octal(size, 12));
    common::archive::seal(&mut block);
    let scratch = scratch(Archive::new().block(block).data(&[7; 512]));
    let (code, _, said) = ferofs(&scratch, &[&EXTRACT[..], &["out"]].concat());
    assert_eq!(code, 0, "{said}");
    let path = scratch.join("out/sparse");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), size);
    assert!(
        metadata.blocks() * 512 < size,
        "{} blocks",
        metadata.blocks()
    );
    let content = fs::read(&path).unwrap();
    let (before, data) = content.split_at(at as usize);
    assert!(before.iter().all(|byte| *byte == 0));
    assert!(data[..512].iter().all(|byte| *byte == 7));
    assert!(data[512..].iter().all(|byte| *byte == 0));
}

#[test]
fn deep_trees_do_not_use_up_files() {
    let mut archive = Archive::new();
    let mut path = String::new();
    for depth in 0..200 {
        path += "d/";
        if depth % 50 == 49 {
            let path = format!("{path}file");
            archive = archive.pax(&[("path", path)]).file("short", "deep");
        }
    }
    let first = format!("{}file", "d/".repeat(50));
    archive = archive.pax(&[
        ("linkpath", first.as_str()),
        ("path", &format!("{path}link")),
    ]);
    let scratch = scratch(archive.header(Header::new("link", b'1').link("short")));
    let limited = "ulimit -n 90; exec \"$0\" check image --device a.tar --extract out";
    let mut shell = Command::new("sh");
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_ferofs")]);
    let (code, _, said) = run(shell.current_dir(&scratch.0));
    assert_eq!(code, 0, "{said}");
    let link = fs::metadata(scratch.join(&format!("out/{path}link"))).unwrap();
    let file = fs::metadata(scratch.join(&format!("out/{first}"))).unwrap();
    assert_eq!(link.ino(), file.ino());
}

#[test]
fn nothing_is_written_outside() {
    let scratch = scratch(
        Archive::new()
            .directory("dir/")
            .file("dir/file", "from the image")
            .file("target", "from the image"),
    );
    let outside = scratch.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "untouched").unwrap();
    fs::create_dir(scratch.join("out")).unwrap();
    symlink("../outside", scratch.join("out/dir")).unwrap();
    symlink("../outside/file", scratch.join("out/target")).unwrap();
    let arguments = [&EXTRACT[..], &["out"]].concat();
    let (code, _, said) = ferofs(&scratch, &arguments);
    assert_eq!(code, 8);
    assert!(said.contains("out is not empty; --force"), "{said}");
    let (code, _, said) = ferofs(&scratch, &[&arguments[..], &["--force"]].concat());
    assert_eq!(code, 0, "{said}");
    let content = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(content(&outside.join("file")), "untouched");
    assert_eq!(content(&scratch.join("out/dir/file")), "from the image");
    assert_eq!(content(&scratch.join("out/target")), "from the image");
    assert!(
        !fs::symlink_metadata(scratch.join("out/dir"))
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn a_broken_image_is_extracted_only_by_force() {
    let scratch = scratch(Archive::new().file("file", "content"));
    let mut bytes = fs::read(scratch.join("image")).unwrap();
    // Number of inodes.
    bytes[1024 + 18] = 77;
    fs::write(scratch.join("image"), bytes).unwrap();
    let arguments = [&EXTRACT[..], &["out"]].concat();
    let (code, _, said) = ferofs(&scratch, &arguments);
    assert_eq!(code, 4 | 8);
    assert!(said.contains("nothing is extracted"), "{said}");
    assert!(!scratch.join("out").exists());
    let (code, _, said) = ferofs(&scratch, &[&arguments[..], &["--force"]].concat());
    assert_eq!(code, 4, "{said}");
    assert_eq!(fs::read(scratch.join("out/file")).unwrap(), b"content");
}

#[test]
fn without_root_what_is_possible_is_done() {
    if !is_root() {
        return;
    }
    let archive = archive().header(Header::new("./device", b'3').device(1, 3));
    let scratch = scratch(archive);
    // Nobody may not come to where the build is.
    let program = scratch.join("ferofs");
    fs::copy(env!("CARGO_BIN_EXE_ferofs"), &program).unwrap();
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&scratch.0, open).unwrap();
    let mut command = Command::new(&program);
    command.args(EXTRACT).arg("out").current_dir(&scratch.0);
    let (code, _, said) = run(command.uid(65_534).gid(65_534));
    assert_eq!(code, 0, "{said}");
    for expected in [
        "ferofs: devices may not be made here, and are left out: 1 file",
        "ferofs: owner and group are not kept without root",
        "ferofs: set-user-ID and set-group-ID are not kept without the owner: 1 file",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let metadata = fs::metadata(scratch.join("out/suid")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (65_534, 0o755));
    assert_eq!(metadata.mtime(), 1_000_000_000);
    let closed = fs::metadata(scratch.join("out/closed")).unwrap();
    assert_eq!(closed.mode() & 0o7777, 0o555);
    assert!(fs::symlink_metadata(scratch.join("out/device")).is_err());
}

/// The kernel shows owners that cannot be as 65534, and so they are when they are extracted.
#[test]
fn an_owner_who_cannot_be_is_nobody() {
    if !is_root() {
        return;
    }
    let (uid, gid) = (0x12_3456_u32, 0x14_5678_u32);
    let header = Header::new("file", b'0').owner(uid.into(), gid.into());
    let scratch = scratch(Archive::new().header(header));
    let mut image = fs::read(scratch.join("image")).unwrap();
    for id in [uid, gid] {
        let at = image.windows(4).position(|bytes| bytes == id.to_le_bytes());
        let at = at.unwrap();
        image[at..at + 4].fill(0xff);
    }
    fs::write(scratch.join("image"), image).unwrap();
    let said = ferofs(&scratch, &[&EXTRACT[..], &["out", "-q"]].concat());
    assert_eq!(said, (0, String::new(), String::new()));
    let found = fs::metadata(scratch.join("out/file")).unwrap();
    assert_eq!((found.uid(), found.gid()), (65_534, 65_534));
}

/// Whatever a new file has by itself: by the umask, in a directory that hands down its group or a default ACL.
#[test]
fn owners_and_modes_do_not_depend_on_the_directory() {
    if !is_root() {
        return;
    }
    let mut archive = Archive::new().header(Header::new("./", b'5').owner(0, 5).mode(0o2775));
    let mut expected = Vec::new();
    for (uid, gid) in [(0, 0), (0, 5), (7, 0), (7, 5)] {
        for mode in [
            0o644, 0o640, 0o600, 0o755, 0o666, 0o664, 0o604, 0o777, 0o444, 0o000, 0o4755, 0o2755,
            0o1644,
        ] {
            let name = format!("{uid}-{gid}-{mode:o}");
            let header = Header::new(&name, b'0').owner(uid, gid).mode(mode);
            archive = archive.with_data(header.size(4), b"data");
            expected.push((name, (uid as u32, gid as u32, mode)));
        }
    }
    let scratch = scratch(archive);
    for umask in ["000", "022", "077"] {
        for prepare in [
            "chmod 700 out",
            "chgrp 5 out; chmod 2770 out",
            "if command -v setfacl; then setfacl -d -m u:9:rwx,g::--- out; fi",
        ] {
            scratch.sh(&format!("rm -rf out; mkdir out; {prepare}"));
            let mut shell = Command::new("sh");
            let program = env!("CARGO_BIN_EXE_ferofs");
            let line =
                format!("umask {umask}; {program} check -q image --device a.tar --extract out");
            let said = run(shell.args(["-c", &line]).current_dir(&scratch.0));
            assert_eq!(said, (0, String::new(), String::new()));
            for (name, expected) in &expected {
                let found = fs::metadata(scratch.join("out").join(name)).unwrap();
                let found = (found.uid(), found.gid(), found.mode() & 0o7777);
                assert_eq!(found, *expected, "{umask} {prepare} {name}");
            }
        }
    }
}
