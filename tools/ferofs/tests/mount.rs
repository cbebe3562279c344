// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What `ferofs mount` does before it asks the kernel, which takes no root. The rest is tested in
//! virtual machines.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::program::ferofs;
use common::program::run;
use ferofs::digest::Digest;
use ferofs::mount::index_in_memory;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::process::Command;

/// A directory with a tar and two images of it, of which one knows the tar's sha256.
fn scratch() -> (Scratch, String) {
    let scratch = Scratch::new();
    let tar = Archive::new().directory("d/").file("d/f", "content").end();
    fs::write(scratch.join("layer.tar"), &tar).unwrap();
    for arguments in [
        &["build", "-o", "plain.erofs", "layer.tar"][..],
        &["build", "--digest", "-o", "tagged.erofs", "layer.tar"],
    ] {
        assert_eq!(ferofs(&scratch, arguments).0, 0);
    }
    (scratch, Digest::of(&tar).to_string())
}

#[test]
fn blobs_are_found_by_their_sha256() {
    for form in ["HEX", "HEX.tar", "sha256/HEX", "blobs/sha256/HEX"] {
        let (scratch, digest) = scratch();
        let path = format!("store/{}", form.replace("HEX", &digest));
        fs::create_dir_all(scratch.join(&path).parent().unwrap()).unwrap();
        let command = ["mount", "-fv", "--blobs", "store", "tagged.erofs", "/mnt"];
        let (code, _, errors) = ferofs(&scratch, &command);
        let missing = format!(
            "ferofs: tagged.erofs: device 1: sha256:{digest} is in none of the given directories\n"
        );
        assert_eq!((code, errors), (1, missing));
        fs::rename(scratch.join("layer.tar"), scratch.join(&path)).unwrap();
        let expected = format!("tagged.erofs: device 1: {path}, found by its sha256\n");
        assert_eq!(
            ferofs(&scratch, &command),
            (0, expected.clone(), String::new())
        );
        let options = [
            "mount",
            "-fv",
            "-o",
            "ro,blobs=store",
            "tagged.erofs",
            "/mnt",
        ];
        assert_eq!(ferofs(&scratch, &options), (0, expected, String::new()));
    }
}

#[test]
fn blobs_are_compared_with_their_sha256() {
    let (scratch, digest) = scratch();
    let command = [
        "mount",
        "-f",
        "--verify",
        "-o",
        "device=layer.tar",
        "tagged.erofs",
        "/mnt",
    ];
    assert_eq!(ferofs(&scratch, &command).0, 0);
    let mut another = fs::read(scratch.join("layer.tar")).unwrap();
    another[1024] ^= 1;
    fs::write(scratch.join("layer.tar"), &another).unwrap();
    let (code, _, errors) = ferofs(&scratch, &command);
    let found = Digest::of(&another);
    let expected =
        format!("ferofs: layer.tar: its sha256 is {found}, the image expects {digest}\n");
    let errors: Vec<_> = errors.lines().collect();
    assert_eq!((code, errors.as_slice()), (1, &[expected.trim_end()][..]));
    let (code, _, errors) = ferofs(
        &scratch,
        &[
            "mount",
            "-f",
            "-o",
            "device=layer.tar",
            "plain.erofs",
            "/mnt",
        ],
    );
    // Its headers are still the same.
    assert_eq!((code, errors.as_str()), (0, ""));
    another[0] ^= 1;
    fs::write(scratch.join("layer.tar"), &another).unwrap();
    for command in [
        &command[..],
        &[
            "mount",
            "-f",
            "-o",
            "device=layer.tar",
            "plain.erofs",
            "/mnt",
        ],
    ] {
        let (code, _, errors) = ferofs(&scratch, command);
        let expected = "ferofs: layer.tar is not the tar that device 1 of ";
        assert!(code == 1 && errors.starts_with(expected), "{errors}");
    }
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let (scratch, _) = scratch();
    Command::new("mkfifo")
        .arg(scratch.join("pipe"))
        .status()
        .unwrap();
    Command::new("gzip")
        .args(["-k", "layer.tar"])
        .current_dir(&scratch.0)
        .status()
        .unwrap();
    fs::write(scratch.join("text"), "neither of both\n".repeat(100)).unwrap();
    for (arguments, expected) in [
        (
            &["pipe"][..],
            "pipe: neither a regular file nor a block device",
        ),
        (&["."], ".: neither a regular file nor a block device"),
        (&["nothing"], "cannot open nothing: No such file"),
        (&["layer.tar.gz"], "layer.tar.gz is compressed (gzip)"),
        (
            &["text"],
            "text: at offset 148: the header's checksum is no number",
        ),
        (
            &["--fs", "erofs", "layer.tar"],
            "of a tar the C driver needs one in a file",
        ),
        (&["-o", "device=x", "layer.tar"], "device= makes no sense"),
        (&["-o", "device=pipe", "plain.erofs"], "pipe: neither"),
        (
            &["-o", "remount", "plain.erofs"],
            "option remount: this only mounts",
        ),
        (
            &["--blobs", ".", "plain.erofs"],
            "device 1: it has no sha256 to find it by",
        ),
    ] {
        let arguments = [&["mount", "-f"], arguments, &["/mnt"]].concat();
        let (code, _, errors) = ferofs(&scratch, &arguments);
        assert_eq!(code, 1, "{arguments:?}");
        assert!(errors.starts_with("ferofs: "), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let (code, _, errors) = ferofs(&scratch, &["umount", "."]);
    assert_eq!(
        (code, errors.as_str()),
        (1, "ferofs: .: there is no EROFS image mounted\n")
    );
}

#[test]
fn the_index_in_memory_is_that_of_build() {
    let (scratch, _) = scratch();
    let path = scratch.join("layer.tar");
    let (mut index, notes) = index_in_memory(&path, &File::open(&path).unwrap()).unwrap();
    assert!(notes.is_empty());
    let mut bytes = Vec::new();
    index.rewind().unwrap();
    index.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, fs::read(scratch.join("plain.erofs")).unwrap());
    // Nobody can change it.
    assert!(index.set_len(0).is_err());
}

#[test]
fn an_index_needs_its_tar() {
    let (scratch, digest) = scratch();
    let missing = "the data of device 1 of 1 is not in the image: give each its file with device=";
    let failed = |image| (1, String::new(), format!("ferofs: {image}: {missing}\n"));
    for image in ["plain.erofs", "tagged.erofs"] {
        for driver in ["ferofs", "erofs"] {
            let command = ["mount", "-f", "--fs", driver, image, "/mnt"];
            assert_eq!(ferofs(&scratch, &command), failed(image));
        }
    }
    // Behind the index it is at hand.
    scratch.sh("cat plain.erofs layer.tar >flat.erofs");
    assert_eq!(
        ferofs(&scratch, &["mount", "-f", "flat.erofs", "/mnt"]).0,
        0
    );
    // Though not as a file whose sha256 could be compared.
    let verify = ["mount", "-f", "--verify", "flat.erofs", "/mnt"];
    let (code, _, said) = ferofs(&scratch, &verify);
    assert!(
        code == 1 && said.contains("--verify compares files"),
        "{said}"
    );
    // Unless something else is there.
    scratch.sh("truncate -s 8192 padded; cat plain.erofs padded layer.tar >moved.erofs");
    let (code, _, said) = ferofs(&scratch, &["mount", "-f", "moved.erofs", "/mnt"]);
    let expected = "is not the tar that device 1 was made from: it has other headers";
    assert!(code == 1 && said.contains(expected), "{said}");
    // Nothing is extracted that cannot be as a whole.
    let extract = ["check", "-q", "--extract", "root", "tagged.erofs"];
    let (code, _, said) = ferofs(&scratch, &extract);
    let expected = "ferofs: tagged.erofs: device 1 has data to read: ";
    assert!(code == 8 && said.starts_with(expected), "{code} {said}");
    assert!(!scratch.join("root").exists());
    fs::rename(scratch.join("layer.tar"), scratch.join(&digest)).unwrap();
    let found = [&extract[..], &["--blobs", "."]].concat();
    assert_eq!(ferofs(&scratch, &found), (0, String::new(), String::new()));
    assert_eq!(fs::read(scratch.join("root/d/f")).unwrap(), b"content");
}

#[test]
fn mount_calls_it_its_own_way() {
    let (scratch, _) = scratch();
    let helper = scratch.join("mount.ferofs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ferofs"), &helper).unwrap();
    for (code, arguments) in [
        (0, &["layer.tar", "/mnt", "-f"][..]),
        (
            0,
            &[
                "plain.erofs",
                "/mnt",
                "-sfnv",
                "-o",
                "rw,device=layer.tar,noexec",
            ],
        ),
        (0, &["--help"]),
        (1, &["plain.erofs"]),
        (1, &["plain.erofs", "/mnt", "--unknown"]),
        (32, &["nothing", "/mnt", "-f"]),
        // No mount namespace.
        (32, &["layer.tar", "/mnt", "-f", "-N", "/proc/self/ns/uts"]),
        (32, &["layer.tar", "/mnt", "-f", "-N", "nothing"]),
    ] {
        assert_eq!(run(&helper, &scratch, arguments).0, code, "{arguments:?}");
    }
}
