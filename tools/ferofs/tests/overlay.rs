// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What images of layers say to overlayfs: where whiteouts are, and nothing else.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use common::description;
use common::program::ferofs;
use ferofs::inspect::Image;
use std::fs;

/// Kind, path and extended attributes of each file of an image.
fn lines(scratch: &Scratch, image: &str) -> Vec<String> {
    let image = Image::open(&scratch.join(image)).unwrap();
    let files = description(&image, &scratch.join("layer.tar"));
    files
        .into_iter()
        .map(|file| format!("{}{} {}", file.kind, file.path, file.xattrs.join(" ")))
        .collect()
}

fn build(scratch: &Scratch, options: &[&str]) -> String {
    let (code, _, errors) = ferofs(
        scratch,
        &[&["build", "-o", "image"], options, &["layer.tar"]].concat(),
    );
    assert_eq!(code, 0, "{errors}");
    errors
}

const MARK: &str = "trusted.overlay.origin=";

#[test]
fn directories_with_whiteouts_are_marked() {
    let scratch = Scratch::new();
    let layer = Archive::new()
        .file(".wh.top", "")
        .directory("opaque")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/.wh.gone", "")
        .directory("again")
        .file(".wh.again", "")
        .header(Header::new("again/device", b'3'))
        .directory("without")
        .file("without/file", "");
    fs::write(scratch.join("layer.tar"), layer.end()).unwrap();
    assert_eq!(build(&scratch, &[]), "");
    let expected = [
        format!("d/ {MARK}"),
        format!("d/again trusted.overlay.opaque=y {MARK}"),
        "c/again/device ".to_string(),
        format!("d/opaque trusted.overlay.opaque=y {MARK}"),
        "c/opaque/gone ".to_string(),
        "c/top ".to_string(),
        "d/without ".to_string(),
        "-/without/file ".to_string(),
    ];
    assert_eq!(lines(&scratch, "image"), expected);
    // Without attributes the layer would be another one.
    build(&scratch, &["--no-xattrs"]);
    assert_eq!(lines(&scratch, "image"), expected);
    // A layer of layers has the same, also of those that somebody else made without the marks.
    build(&scratch, &["--whiteouts=keep"]);
    let merge = ["merge", "--whiteouts=overlay", "-o", "merged", "image"];
    assert_eq!(ferofs(&scratch, &merge).0, 0);
    assert_eq!(lines(&scratch, "merged"), expected);
    // Where whiteouts are applied, or are files, there is nothing to mark.
    for options in [["--whiteouts=applied"], ["--whiteouts=aufs"]] {
        build(&scratch, &options);
        let all = lines(&scratch, "image").join("\n");
        assert!(!all.contains("overlay"), "{options:?}: {all}");
    }
}

#[test]
fn a_layer_does_not_speak_to_the_overlay() {
    let scratch = Scratch::new();
    let attribute = |name: &str, value: &str| [(format!("SCHILY.xattr.{name}"), value.to_string())];
    let layer = Archive::new()
        .pax(&attribute("trusted.overlay.redirect", "/elsewhere"))
        .directory("moved")
        .pax(&attribute("trusted.overlay.metacopy", ""))
        .file("file", "")
        .pax(&attribute("trusted.overlay.opaque", "x"))
        .directory("xattrs")
        .pax(&attribute("trusted.overlay.whiteout", "y"))
        .file("xattrs/file", "")
        .pax(&attribute("trusted.overlay.origin", ""))
        .directory("origin")
        .pax(&attribute("trusted.overlaid", "kept"))
        .file("kept", "");
    fs::write(scratch.join("layer.tar"), layer.end()).unwrap();
    let expected = [
        "d/ ",
        "-/file ",
        "-/kept trusted.overlaid=kept",
        "d/moved ",
        "d/origin ",
        "d/xattrs ",
        "-/xattrs/file ",
    ];
    for options in [&[][..], &["--whiteouts=applied"], &["--whiteouts=aufs"]] {
        let notes = build(&scratch, options);
        assert_eq!(lines(&scratch, "image"), expected, "{options:?}");
        for (name, path) in [
            ("redirect", "/moved"),
            ("metacopy", "/file"),
            ("opaque", "/xattrs"),
            ("whiteout", "/xattrs/file"),
        ] {
            let note = format!("\"trusted.overlay.{name}\", first seen at \"{path}\"");
            assert!(notes.contains(&note), "{notes}");
        }
        assert!(!notes.contains("overlay.origin"), "{notes}");
    }
    // What is to be as it is, is; but layers of others are merged without.
    build(&scratch, &["--whiteouts=keep"]);
    assert!(lines(&scratch, "image").contains(&"-/file trusted.overlay.metacopy=".to_string()));
    let (code, _, notes) = ferofs(&scratch, &["merge", "-o", "merged", "image"]);
    assert_eq!(code, 0, "{notes}");
    assert_eq!(lines(&scratch, "merged"), expected);
    assert!(
        notes.contains("\"trusted.overlay.metacopy\" is for overlayfs alone"),
        "{notes}"
    );
}
