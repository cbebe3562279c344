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

#[test]
fn what_hides_a_long_name_has_a_longer_one() {
    let scratch = Scratch::new();
    for (len, fits) in [(251, true), (255, true), (256, false)] {
        let name = "n".repeat(len);
        let whiteout = format!("d/.wh.{name}");
        let layer = Archive::new()
            .directory("d")
            .pax(&[("path", &whiteout)])
            .file("x", "");
        fs::write(scratch.join("layer.tar"), layer.end()).unwrap();
        let build = |form: &[&str]| {
            let arguments = [&["build", "-o", "image"], form, &["layer.tar"]].concat();
            ferofs(&scratch, &arguments)
        };
        let (code, _, errors) = build(&[]);
        if !fits {
            let expected = "a name of 260 bytes in its path, expected at most 259";
            assert!(code == 1 && errors.contains(expected), "{errors}");
            continue;
        }
        assert_eq!((code, errors.as_str()), (0, ""));
        let found = lines(&scratch, "image");
        assert_eq!(found[2], format!("c/d/{name} "));
        // Nothing else of such a name has room anywhere.
        for form in [["--whiteouts", "keep"], ["--whiteouts", "aufs"]] {
            let (code, _, errors) = build(&form);
            let refused = errors.contains("too long") || errors.contains("a name of 259 bytes");
            assert!(
                code == i32::from(len > 251) && refused == (len > 251),
                "{errors}"
            );
        }
        for above in ["directory", "parent"] {
            let path = format!("{whiteout}{}", if above == "parent" { "/x" } else { "" });
            let entry = Archive::new().pax(&[("path", &path)]);
            let entry = match above {
                "parent" => entry.file("x", ""),
                _ => entry.directory("x"),
            };
            fs::write(scratch.join("other.tar"), entry.end()).unwrap();
            let (code, _, errors) = ferofs(&scratch, &["build", "-o", "other", "other.tar"]);
            assert_eq!(code, i32::from(len > 251), "{above}: {errors}");
        }
    }
}
