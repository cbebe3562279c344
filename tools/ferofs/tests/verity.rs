// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Images that know their tars by fs-verity digests. (What a mount makes of them is in tests/mount/verity.sh, what the
//! digests are in the library's own tests.)

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::program::ferofs;
use ferofs::digest::verity::Digest;
use ferofs::inspect::Image;
use std::fs;

/// The tags of an image.
fn tags(scratch: &Scratch, image: &str) -> Vec<Vec<u8>> {
    let image = Image::open(&scratch.join(image)).unwrap();
    let slots = image.devices().unwrap();
    slots.iter().map(|slot| slot.name().to_vec()).collect()
}

/// The tag that stands for some bytes.
fn tag(bytes: &[u8]) -> Vec<u8> {
    let tag = Digest::of(bytes).tag();
    tag.split(|byte| *byte == 0).next().unwrap().to_vec()
}

fn read(scratch: &Scratch, name: &str) -> Vec<u8> {
    fs::read(scratch.join(name)).unwrap()
}

fn good(scratch: &Scratch, arguments: &[&str]) -> String {
    let (code, output, errors) = ferofs(scratch, arguments);
    assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    output
}

/// Two tars, and the indexes of both.
fn scratch() -> (Scratch, [Vec<u8>; 2]) {
    let scratch = Scratch::new();
    let tars = ["base", "app"].map(|name| {
        let data = name.repeat(2000);
        Archive::new().file(name, &data).file("both", &data).end()
    });
    for (name, tar) in ["base", "app"].iter().zip(&tars) {
        fs::write(scratch.join(&format!("{name}.tar")), tar).unwrap();
        let (image, tar) = (format!("{name}.erofs"), format!("{name}.tar"));
        good(&scratch, &["build", "--verity", "-o", &image, &tar]);
    }
    (scratch, tars)
}

#[test]
fn build_writes_the_digest_whatever_the_tar_comes_from() {
    let (scratch, [base, _]) = scratch();
    assert_eq!(tags(&scratch, "base.erofs"), [tag(&base)]);
    let first = read(&scratch, "base.erofs");
    // In one pass with all else that is wanted.
    let expect = format!("sha256:{}", ferofs::digest::Digest::of(&base));
    let copy = ["--tar-out", "copy.tar", "--expect", &expect];
    let build = [
        &["build", "--verity", "-o", "again.erofs"],
        &copy[..],
        &["base.tar"],
    ]
    .concat();
    good(&scratch, &build);
    assert_eq!(read(&scratch, "again.erofs"), first);
    assert_eq!(read(&scratch, "copy.tar"), base);
    // Without, the digest of the rest of the image is the same, and the slot has no tag.
    good(&scratch, &["build", "-o", "plain.erofs", "base.tar"]);
    assert_eq!(tags(&scratch, "plain.erofs"), [b""]);
    for (arguments, reason) in [
        (&["--mode=full", "base.tar"][..], "--verity is for an index"),
        (&["--mode=meta", "base.tar"], "--verity is for an index"),
        (&["."], "--verity is for tars"),
        (&["--digest", "base.tar"], "cannot be used with"),
    ] {
        let build = [&["build", "--verity", "-o", "none.erofs"], arguments].concat();
        let (code, _, errors) = ferofs(&scratch, &build);
        assert!(code != 0 && errors.contains(reason), "{errors}");
        assert!(!scratch.join("none.erofs").exists());
    }
}

#[test]
fn merge_keeps_digests_and_knows_equal_tars_by_them() {
    let (scratch, [base, app]) = scratch();
    let layers = ["base.erofs", "app.erofs", "base.erofs"];
    good(
        &scratch,
        &[&["merge", "-o", "merged.erofs"], &layers[..]].concat(),
    );
    assert_eq!(tags(&scratch, "merged.erofs"), [tag(&base), tag(&app)]);
    // Layers with their data in them get those of their own.
    good(
        &scratch,
        &["build", "--mode=full", "-o", "full.erofs", "base.tar"],
    );
    let layers = ["full.erofs", "app.erofs"];
    let merge = [&["merge", "--verity", "-o", "merged.erofs"], &layers[..]].concat();
    good(&scratch, &merge);
    let full = read(&scratch, "full.erofs");
    assert_eq!(tags(&scratch, "merged.erofs"), [tag(&full), tag(&app)]);
}

#[test]
fn check_compares_tars_with_the_digests() {
    let (scratch, [base, app]) = scratch();
    let check = |device: &str, options: &[&str]| {
        let check = [&["check", "base.erofs", "--device", device], options].concat();
        ferofs(&scratch, &check)
    };
    let (code, output, errors) = check("base.tar", &["--verity", "-v"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let digest = Digest::of(&base);
    let said = format!("base.tar: its fs-verity digest is {digest}, as the image expects");
    assert!(output.contains(&said), "{output}");
    // The last byte, which nobody reads.
    let mut changed = base.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(scratch.join("changed.tar"), &changed).unwrap();
    let (code, _, errors) = check("changed.tar", &["--verity"]);
    let found = Digest::of(&changed);
    let said = format!("changed.tar: its fs-verity digest is {found}, the image expects {digest}");
    assert!(code == 4 && errors.contains(&said), "{errors}");
    // What is no fs-verity digest is none that agrees, and the other way round it does not matter.
    assert_eq!(check("base.tar", &["--digest"]).0, 0);
    good(
        &scratch,
        &["build", "--digest", "-o", "base.erofs", "base.tar"],
    );
    let (code, _, errors) = check("base.tar", &["--verity"]);
    let said = "base.tar: the image does not have its fs-verity digest";
    assert!(code == 4 && errors.contains(said), "{errors}");
    // Found by their names.
    fs::create_dir(scratch.join("blobs")).unwrap();
    for tar in [&base, &app] {
        let name = format!("blobs/{}.tar", Digest::of(tar));
        fs::write(scratch.join(&name), tar).unwrap();
    }
    good(&scratch, &["merge", "-o", "merged.erofs", "app.erofs"]);
    let blobs = ["--blobs", "blobs", "--verity", "--json"];
    let output = good(&scratch, &[&["check", "merged.erofs"], &blobs[..]].concat());
    let document: serde_json::Value = serde_json::from_str(&output).unwrap();
    let digest = &document["digests"][0];
    assert_eq!(digest["kind"], "fs-verity digest");
    assert_eq!(digest["found"], Digest::of(&app).to_string());
    assert_eq!(digest["good"], true);
}
