// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An image knows its tar: another one in its place is noticed, though only headers are looked at.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::program::ferofs;
use ferofs::inspect::Image;
use std::fs;

/// A tar of a few files; `name` is that of one in the middle.
fn tar(name: &str, data: &str) -> Vec<u8> {
    let mut archive = Archive::new().directory("usr/").file("usr/first", "1");
    for nr in 0..50 {
        archive = archive.file(&format!("usr/{nr}"), data);
    }
    let long = format!("usr/{}", "long".repeat(50));
    archive
        .file(name, data)
        .pax(&[("path", &long)])
        .file("x", data)
        .file("usr/app", data)
        .end()
}

/// The right tar, others, and an index.
fn scratch(options: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    let right = tar("usr/name", "data");
    fs::write(scratch.join("layer.tar"), &right).unwrap();
    // One that is as long, and has everything at the same places.
    fs::write(scratch.join("swapped.tar"), tar("usr/eman", "data")).unwrap();
    fs::write(
        scratch.join("other.tar"),
        Archive::new().file("a", "b").end(),
    )
    .unwrap();
    fs::write(scratch.join("short.tar"), &right[..right.len() - 1024]).unwrap();
    let longer = [right, vec![0; 4096]].concat();
    fs::write(scratch.join("longer.tar"), longer).unwrap();
    let build = [&["build", "-o", "image"], options, &["layer.tar"]].concat();
    assert_eq!(ferofs(&scratch, &build), (0, String::new(), String::new()));
    scratch
}

#[test]
fn another_tar_is_noticed() {
    for options in [&[][..], &["--digest"]] {
        let scratch = scratch(options);
        for (tar, problem) in [
            ("swapped.tar", "it has other headers"),
            ("other.tar", "it has other headers"),
            ("short.tar", "it is shorter"),
        ] {
            let message =
                format!("{tar} is not the tar that device 1 of image was made from: {problem}");
            let said = |arguments: &[&str], code: i32| {
                let (found, output, errors) = ferofs(&scratch, arguments);
                assert_eq!(found, code, "{arguments:?}: {errors}");
                assert!(errors.contains(&message), "{arguments:?}: {errors}");
                output
            };
            assert_eq!(said(&["cat", "--device", tar, "image", "usr/app"], 1), "");
            said(&["check", "--device", tar, "image"], 4);
            said(&["diff", "--old-device", tar, "image", "image"], 2);
            said(
                &["check", "--device", tar, "--extract", "root", "image"],
                12,
            );
            assert!(!scratch.join("root").exists());
            let json = said_in_json(&scratch, tar);
            assert!(json.contains(&message), "{json}");
        }
        for tar in ["layer.tar", "longer.tar"] {
            let cat = ferofs(&scratch, &["cat", "--device", tar, "image", "usr/app"]);
            assert_eq!(cat, (0, "data".to_string(), String::new()));
            let check = ferofs(&scratch, &["check", "-q", "--device", tar, "image"]);
            assert_eq!(check, (0, String::new(), String::new()));
        }
        let diff = ferofs(&scratch, &["diff", "image", "layer.tar"]);
        assert_eq!(diff, (0, String::new(), String::new()));
        // Not the tar of the index, so that data is not compared with itself.
        let (code, output, _) = ferofs(&scratch, &["diff", "image", "swapped.tar"]);
        assert_eq!(code, 1, "{output}");
    }
}

fn said_in_json(scratch: &Scratch, tar: &str) -> String {
    ferofs(scratch, &["check", "--json", "--device", tar, "image"]).1
}

/// Behind an index, in the same file, is its tar, where its slot says. What else is there is no data.
#[test]
fn a_tar_behind_an_image_is_at_its_place_or_is_no_data() {
    let scratch = scratch(&[]);
    let build = ["build", "-o", "full", "--mode=full", "layer.tar"];
    assert_eq!(ferofs(&scratch, &build).0, 0);
    let read = |name: &str| fs::read(scratch.join(name)).unwrap();
    let (index, tar) = (read("image"), read("layer.tar"));
    let slots = Image::open(&scratch.join("image"))
        .unwrap()
        .devices()
        .unwrap();
    let place = slots[0].uniaddr as usize * 512;
    assert_eq!(place, index.len());
    let zeros = |len: usize| vec![0; len];
    for (behind, good) in [
        (tar.clone(), true),
        // Whatever comes behind the end.
        ([tar.as_slice(), &zeros(5000)].concat(), true),
        // One block, or what pads an image to a page, in front of it.
        ([zeros(512), tar.clone()].concat(), false),
        ([zeros(4096), tar.clone()].concat(), false),
        ([&[0], tar.as_slice()].concat(), false),
        // Nothing but the padding, as on a block device.
        (zeros(4096), false),
        (zeros(1 << 20), false),
        (tar[..tar.len() - 1024].to_vec(), false),
        (read("swapped.tar"), false),
        (read("other.tar"), false),
    ] {
        fs::write(scratch.join("flat"), [index.as_slice(), &behind].concat()).unwrap();
        let said = "is not the tar that device 1 was made from";
        for (arguments, code) in [
            (&["cat", "flat", "usr/app"][..], 1),
            (&["check", "--extract", "root", "flat"], 12),
            (&["diff", "flat", "full"], 2),
        ] {
            let (found, output, errors) = ferofs(&scratch, arguments);
            if good {
                assert_eq!((found, errors.as_str()), (0, ""), "{arguments:?}");
                continue;
            }
            assert_eq!(found, code, "{arguments:?}: {output}{errors}");
            assert!(errors.contains(said), "{arguments:?}: {errors}");
            assert!(!output.contains("data"), "{arguments:?}: {output}");
            assert!(!scratch.join("root").exists());
        }
        if good {
            assert_eq!(fs::read(scratch.join("root/usr/app")).unwrap(), b"data");
            fs::remove_dir_all(scratch.join("root")).unwrap();
        }
        // Nothing is wrong with the image itself, and with its tar it is whole.
        let (code, _, errors) = ferofs(&scratch, &["check", "flat"]);
        assert_eq!((code, errors.contains(said)), (0, !good), "{errors}");
        let given = ["cat", "--device", "layer.tar", "flat", "usr/app"];
        assert_eq!(
            ferofs(&scratch, &given),
            (0, "data".to_string(), String::new())
        );
    }
}

#[test]
fn merged_images_know_the_tars_of_their_layers() {
    let scratch = scratch(&[]);
    let build = ["build", "-o", "above", "other.tar"];
    assert_eq!(ferofs(&scratch, &build).0, 0);
    assert_eq!(
        ferofs(&scratch, &["merge", "-o", "merged", "image", "above"]).0,
        0
    );
    let digests = |name: &str| {
        Image::open(&scratch.join(name))
            .unwrap()
            .header_digests()
            .unwrap()
    };
    assert_eq!(
        digests("merged"),
        [digests("image"), digests("above")].concat()
    );
    assert!(digests("merged").iter().all(Option::is_some));
    let cat = |tars: [&str; 2]| {
        let [one, two] = tars;
        ferofs(
            &scratch,
            &["cat", "-d", one, "-d", two, "merged", "usr/app"],
        )
    };
    assert_eq!(
        cat(["layer.tar", "other.tar"]),
        (0, "data".to_string(), String::new())
    );
    let (code, output, errors) = cat(["other.tar", "layer.tar"]);
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(
        errors.contains("other.tar is not the tar that device 1 of merged"),
        "{errors}"
    );
}

#[test]
fn a_tar_in_place_of_an_image_is_said_to_be_one() {
    let scratch = scratch(&[]);
    scratch.sh("gzip -k layer.tar");
    for (name, what) in [
        (
            "layer.tar",
            "layer.tar: a tar, expected an EROFS image; index it first: ferofs build -o IMAGE layer.tar",
        ),
        (
            "layer.tar.gz",
            "something compressed, expected an EROFS image",
        ),
    ] {
        for arguments in [
            &["ls", name][..],
            &["cat", name, "usr/app"],
            &["dump", name],
            &["check", name],
            &["merge", "-o", "merged", "image", name],
        ] {
            let (code, _, errors) = ferofs(&scratch, arguments);
            assert_eq!(
                code,
                if arguments[0] == "check" { 8 } else { 1 },
                "{arguments:?}"
            );
            assert!(errors.contains(what), "{arguments:?}: {errors}");
        }
    }
    fs::write(scratch.join("text"), "text").unwrap();
    let (_, _, errors) = ferofs(&scratch, &["ls", "text"]);
    assert_eq!(
        errors,
        "ferofs: text: not an EROFS image: no superblock at offset 1024\n"
    );
}

/// Puts a tag into the device slot of an image, which is the one behind the superblock.
fn set_tag(scratch: &Scratch, tag: &str) {
    let mut image = fs::read(scratch.join("image")).unwrap();
    let slot = &mut image[1152..1152 + 64];
    slot.fill(0);
    slot[..tag.len()].copy_from_slice(tag.as_bytes());
    fs::write(scratch.join("image"), image).unwrap();
}

#[test]
fn tags_of_others_are_no_errors() {
    let scratch = scratch(&[]);
    // As mkfs.erofs has them in merged images: the UUIDs of those.
    set_tag(&scratch, "91c1cb01-b8f0-4b6a-a11b-05bbb8ea3f5c");
    let check = ["check", "-v", "--digest", "-d", "layer.tar", "image"];
    let (code, output, errors) = ferofs(&scratch, &check);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(
        output.contains("the image's tag for it is no sha256"),
        "{output}"
    );
    let (code, _, errors) = ferofs(&scratch, &["merge", "-o", "merged", "image"]);
    assert_eq!(code, 0, "{errors}");
    assert!(
        errors.contains("device 1 has the tag \"91c1cb01-"),
        "{errors}"
    );
    let cat = ferofs(&scratch, &["cat", "-d", "layer.tar", "merged", "usr/app"]);
    assert_eq!(cat, (0, "data".to_string(), String::new()));
    // Without any tag there is nothing that could be right.
    set_tag(&scratch, "");
    let (code, _, errors) = ferofs(&scratch, &check);
    assert_eq!(code, 4);
    assert!(errors.contains("does not have its sha256"), "{errors}");
}
