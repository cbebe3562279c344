// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fingerprints of files: who writes them, who keeps them, and that nobody but the builder does. (What the kernel makes of
//! them is in tests/mount/shared.sh and tests/memory/shared.sh.)

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::layout;
use common::layout::Layout;
use common::program::ferofs;
use ferofs::digest::Digest;
use ferofs::inspect::Image;
use ferofs::tree::FingerprintName;
use ferofs::tree::fingerprint;
use std::fs;

fn good(scratch: &Scratch, arguments: &[&str]) -> String {
    let (code, output, errors) = ferofs(scratch, arguments);
    assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    output
}

/// The fingerprint of a file of an image, and the attribute it is in.
fn fingerprint_of(scratch: &Scratch, image: &str, path: &str) -> Option<Vec<u8>> {
    let image = Image::open(&scratch.join(image)).unwrap();
    let name = image.fingerprints().unwrap()?;
    let inode = image.find(path.as_bytes()).unwrap();
    image.fingerprint(&inode, &name).unwrap()
}

fn value(data: &[u8]) -> Option<Vec<u8>> {
    Some(fingerprint::value(&Digest::of(data)).to_vec())
}

/// A tar with files of several sizes, one of which says that it has another's fingerprint.
fn scratch() -> (Scratch, Vec<(&'static str, Vec<u8>)>) {
    let scratch = Scratch::new();
    let files = vec![
        ("small", b"hello\n".to_vec()),
        (
            "large",
            (0..200_000_u32).map(|at| (at % 251) as u8).collect(),
        ),
        ("block", vec![b'x'; 4096]),
        ("forged", b"not hello\n".to_vec()),
    ];
    let stolen = value(&files[0].1).unwrap();
    let mut archive = Archive::new();
    for (name, data) in &files {
        if *name == "forged" {
            archive = archive.pax(&[("SCHILY.xattr.user.fp", stolen.as_slice())]);
        }
        let text = String::from_utf8_lossy(data);
        archive = match std::str::from_utf8(data) {
            Ok(_) => archive.file(name, &text),
            Err(_) => archive.with_data(
                common::archive::Header::new(name, b'0').size(data.len() as u64),
                data,
            ),
        };
    }
    let tar = archive.file("empty", "").hard_link("link", "small").end();
    fs::write(scratch.join("layer.tar"), tar).unwrap();
    (scratch, files)
}

#[test]
fn each_way_to_build_gives_the_same() {
    let (scratch, files) = scratch();
    scratch.sh("mkdir root && tar -C root -xf layer.tar");
    for (image, options) in [
        ("index", &["layer.tar"][..]),
        ("known", &["--digest", "layer.tar"]),
        ("full", &["--mode=full", "layer.tar"]),
        ("sorted", &["--mode=full", "--sort=path", "layer.tar"]),
        ("chunks", &["--mode=full", "--chunksize=4096", "layer.tar"]),
        ("small", &["--mode=full", "-zlz4", "layer.tar"]),
        ("without", &["--mode=full", "--no-xattrs", "layer.tar"]),
        ("directory", &["root"]),
    ] {
        for name in [None, Some("user.fp"), Some("trusted.some.fp")] {
            let given = name.map_or("--fingerprints".to_string(), |name| {
                format!("--fingerprints={name}")
            });
            let arguments = [&["build", "-q", "-o", image, &given][..], options].concat();
            good(&scratch, &arguments);
            for (path, data) in &files {
                let found = fingerprint_of(&scratch, image, &format!("/{path}"));
                assert_eq!(found, value(data), "{image}, {given}: {path}");
            }
            let linked = fingerprint_of(&scratch, image, "/link");
            assert_eq!(linked, value(&files[0].1), "{image}, {given}");
            assert_eq!(fingerprint_of(&scratch, image, "/empty"), None);
            let device = ["--device", "layer.tar"];
            let device = match image {
                "index" | "known" => &device[..],
                _ => &[],
            };
            let check = [&["check", "-q", "--fingerprints", image][..], device].concat();
            good(&scratch, &check);
        }
    }
}

#[test]
fn merged_images_have_those_of_their_layers() {
    let (scratch, files) = scratch();
    good(
        &scratch,
        &[
            "build",
            "-o",
            "visible",
            "--fingerprints=user.fp",
            "layer.tar",
        ],
    );
    let other = Archive::new().file("other", "other").end();
    fs::write(scratch.join("other.tar"), other).unwrap();
    good(
        &scratch,
        &["build", "-o", "hidden", "--fingerprints", "other.tar"],
    );
    // One that has none, but an attribute that looks as if.
    good(&scratch, &["build", "-o", "none", "layer.tar"]);
    good(&scratch, &["merge", "-o", "merged", "visible", "hidden"]);
    let name = Image::open(&scratch.join("merged")).unwrap().fingerprints();
    assert_eq!(name.unwrap(), Some(FingerprintName::default()));
    for (path, data) in &files {
        let found = fingerprint_of(&scratch, "merged", &format!("/{path}"));
        assert_eq!(found, value(data), "{path}");
    }
    assert_eq!(
        fingerprint_of(&scratch, "merged", "/other"),
        value(b"other")
    );
    good(&scratch, &["merge", "-o", "merged", "hidden", "none"]);
    assert_eq!(
        fingerprint_of(&scratch, "merged", "/other"),
        value(b"other")
    );
    for (path, _) in &files {
        assert_eq!(
            fingerprint_of(&scratch, "merged", &format!("/{path}")),
            None
        );
    }
    good(&scratch, &["merge", "-o", "merged", "none", "none"]);
    let name = Image::open(&scratch.join("merged")).unwrap().fingerprints();
    assert_eq!(name.unwrap(), None);
}

#[test]
fn layers_of_container_images_get_them_when_they_are_wanted() {
    let (scratch, files) = scratch();
    let tar = fs::read(scratch.join("layer.tar")).unwrap();
    let made = Layout::new(scratch.join("app"));
    let layers = [made.blob(layout::LAYER_GZIP, &layout::gzip(&tar))];
    let config = made.config("linux/amd64", &[&tar]);
    made.index(&[made.manifest(&config, &layers)]);
    let build = |more: &[&str]| {
        let always = [
            "build",
            "-q",
            "-o",
            "out",
            "--merge",
            "merged",
            "--platform",
            "linux/amd64",
        ];
        good(&scratch, &[&always[..], more, &["oci:app"]].concat());
    };
    let index = format!("out/{}.erofs", Digest::of(&tar));
    let found = |image: &str, path: &str| fingerprint_of(&scratch, image, &format!("/{path}"));
    for (no_tar, first) in [(&[][..], true), (&["--no-tar"], false)] {
        if !first {
            fs::remove_dir_all(scratch.join("out")).unwrap();
        }
        build(no_tar);
        assert_eq!(found(&index, "small"), None);
        // The index that is there has none, so it is made anew; and stays when nobody asks for them.
        for more in [&["--fingerprints"][..], &[]] {
            build(&[no_tar, more].concat());
            for (path, data) in &files {
                assert_eq!(found(&index, path), value(data), "{more:?}: {path}");
                assert_eq!(found("merged", path), value(data), "{more:?}: {path}");
            }
        }
        build(&[no_tar, &["--fingerprints=user.fp"]].concat());
        let name = Image::open(&scratch.join(&index)).unwrap().fingerprints();
        assert_eq!(
            name.unwrap(),
            Some(FingerprintName::parse("user.fp").unwrap())
        );
    }
    good(
        &scratch,
        &[
            "build",
            "-q",
            "-o",
            "alone",
            "--fingerprints=user.fp",
            "--digest",
            "layer.tar",
        ],
    );
    assert!(fs::read(scratch.join("alone")).unwrap() == fs::read(scratch.join(&index)).unwrap());
}

#[test]
fn what_is_not_what_it_says_is_found() {
    let (scratch, files) = scratch();
    good(
        &scratch,
        &[
            "build",
            "-o",
            "image",
            "--fingerprints",
            "--mode=full",
            "layer.tar",
        ],
    );
    let shown = good(&scratch, &["dump", "--path", "/small", "image"]);
    let digest = format!("fingerprint: {:?}", Digest::of(&files[0].1));
    assert!(shown.contains(&digest), "{shown}");
    let mut bytes = fs::read(scratch.join("image")).unwrap();
    let digest = Digest::of(&files[1].1).0;
    let at = bytes.windows(32).position(|part| part == digest).unwrap();
    bytes[at] ^= 1;
    fs::write(scratch.join("image"), bytes).unwrap();
    let (code, _, said) = ferofs(&scratch, &["check", "--fingerprints", "image"]);
    let expected = "\"/large\": its fingerprint is sha256:";
    assert!(code == 4 && said.contains(expected), "{code} {said}");
    for (arguments, code, expected) in [
        (
            &["check", "--fingerprints", "plain"][..],
            8,
            "have no fingerprints",
        ),
        (
            &[
                "build",
                "-o",
                "x",
                "--fingerprints",
                "--mode=meta",
                "layer.tar",
            ],
            1,
            "is for images of files with data",
        ),
        (
            &["merge", "-o", "x", "--fingerprints", "plain"],
            1,
            "keep those they have",
        ),
    ] {
        good(
            &scratch,
            &["build", "-o", "plain", "--mode=full", "layer.tar"],
        );
        let (found, _, said) = ferofs(&scratch, arguments);
        assert!(found == code && said.contains(expected), "{found} {said}");
    }
}
