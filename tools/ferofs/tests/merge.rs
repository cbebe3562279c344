// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Merged layers, compared with what GNU tar extracts from them one after the other. It knows
//! nothing of whiteouts, and does not replace directories: that is done for it here, path by path.

#![allow(missing_docs)]

mod common;

use common::Described;
use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use common::description;
use common::description_of_directory;
use common::description_over;
use common::index_of_layer;
use common::program;
use ferofs::digest::Digest;
use ferofs::image;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs::merge::Merge;
use ferofs::tar::StreamInput;
use ferofs::tree::Tree;
use ferofs::tree::whiteouts::Form;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// What a layer has under a path.
#[derive(Clone, Debug)]
enum Entry {
    Directory,
    File(String),
    Symlink(&'static str),
    /// To another path of the same layer.
    HardLink(String),
    /// The path is gone.
    Whiteout,
    /// What is in the directory is gone.
    Opaque,
}

type Layer = Vec<(String, Entry)>;

/// The path with `.wh.` before its last part.
fn hidden(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((directory, name)) => format!("{directory}/.wh.{name}"),
        None => format!(".wh.{path}"),
    }
}

fn archive(layer: &Layer) -> Vec<u8> {
    let mut archive = Archive::new();
    for (path, entry) in layer {
        archive = match entry {
            Entry::Directory => archive.header(Header::new(path, b'5').mode(0o750)),
            Entry::File(content) => archive.file(path, content),
            Entry::Symlink(target) => archive.symlink(path, target),
            Entry::HardLink(target) => archive.hard_link(path, target),
            Entry::Whiteout => archive.file(&hidden(path), ""),
            Entry::Opaque => archive.file(&format!("{path}/.wh..wh..opq"), ""),
        };
    }
    archive.end()
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Applies a layer to a directory, with GNU tar.
fn extract(layer: &Layer, tar: &Path, root: &Path) {
    for (path, entry) in layer {
        let path = root.join(path);
        match entry {
            Entry::Whiteout => remove(&path),
            // Later whiteouts may be in it, and not in what a symbolic link leads to.
            Entry::Directory if !is_directory(&path) => remove(&path),
            Entry::Opaque if is_directory(&path) => {
                for entry in fs::read_dir(&path).unwrap() {
                    remove(&entry.unwrap().path());
                }
            }
            _ => {}
        }
    }
    for (path, entry) in layer {
        if !matches!(entry, Entry::Whiteout | Entry::Opaque | Entry::Directory) {
            remove(&root.join(path));
        }
    }
    let script = "umask 022; exec tar -C \"$0\" -xpf \"$1\" --no-same-owner --exclude='.wh.*'";
    let output = Command::new("sh")
        .args(["-c", script])
        .args([root, tar])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{layer:?}: {errors}");
}

/// The index of a layer, with whiteouts in a form.
fn index(tar: &Path, form: Option<Form>) -> Image {
    index_of_layer(tar, form).unwrap()
}

/// Merges the indexes of two layers' archives, which stay beside the image.
fn merge_two(scratch: &Scratch, below: Archive, above: Archive) -> (Image, Vec<PathBuf>) {
    let tars = written(scratch, [below, above]);
    (merge_as(scratch, &tars, Some(Form::Overlay)), tars)
}

/// Writes archives into files.
fn written<const N: usize>(scratch: &Scratch, archives: [Archive; N]) -> Vec<PathBuf> {
    let mut tars = Vec::new();
    for (number, archive) in archives.into_iter().enumerate() {
        let tar = scratch.join(&format!("{number}.tar"));
        fs::write(&tar, archive.end()).unwrap();
        tars.push(tar);
    }
    tars
}

/// Merges the indexes of layers, with whiteouts in a form.
fn merge_as(scratch: &Scratch, tars: &[PathBuf], form: Option<Form>) -> Image {
    let images: Vec<Image> = tars.iter().map(|tar| index(tar, form)).collect();
    let images: Vec<&Image> = images.iter().collect();
    merge_images(&images, &scratch.join("merged.erofs"), false)
}

/// Merges images into one, which may be a layer itself.
fn merge_images(images: &[&Image], path: &Path, keep_whiteouts: bool) -> Image {
    let mut merge = Merge::new().with_whiteouts(match keep_whiteouts {
        true => Form::Overlay,
        false => Form::Applied,
    });
    for image in images {
        merge.apply(image).unwrap();
    }
    let merged = merge.finish().unwrap();
    let out = File::create(path).unwrap();
    merged.write_file(&merged.options(), &out).unwrap();
    Image::open(path).unwrap()
}

/// What is in an image over tars.
fn described(image: &Image, tars: &[PathBuf]) -> Vec<Described> {
    let mut blobs: Vec<PathBuf> = Vec::new();
    let mut sizes = Vec::new();
    for slot in image.devices().unwrap() {
        let size = slot.blocks * 512;
        let digest = Digest::parse(std::str::from_utf8(slot.name()).unwrap());
        let blob = tars.iter().find(|tar| {
            let bytes = fs::read(tar).unwrap();
            digest == Some(Digest::of(&bytes)) && size == bytes.len() as u64
        });
        blobs.push(blob.unwrap().clone());
        sizes.push(size);
    }
    assert_eq!(check(image, &sizes, &mut |_| {}).unwrap().problems, []);
    description_over(image, &blobs)
}

/// What both have to be the same in: time and number of links of a directory depend on the machine
/// that extracts, and owners on who does.
fn comparable(mut files: Vec<Described>) -> Vec<String> {
    for file in &mut files {
        file.owner = (0, 0);
        if file.kind == 'd' {
            file.mtime = (0, 0);
            file.links = 0;
        }
        if file.kind == 'l' {
            file.mode = 0o777;
        }
        if file.path == "/" {
            file.mode = 0;
        }
    }
    files.iter().map(Described::line).collect()
}

/// Merges layers and extracts them, and compares.
fn same_as_extracted(layers: &[Layer]) {
    let scratch = Scratch::new();
    let root = scratch.join("root");
    fs::create_dir(&root).unwrap();
    let mut tars = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let tar = scratch.join(&format!("{number}.tar"));
        fs::write(&tar, archive(layer)).unwrap();
        extract(layer, &tar, &root);
        tars.push(tar);
    }
    let expected = comparable(description_of_directory(&root));
    for form in [Some(Form::Overlay), Some(Form::Aufs), None] {
        let images: Vec<Image> = tars.iter().map(|tar| index(tar, form)).collect();
        let images: Vec<&Image> = images.iter().collect();
        let merged = merge_images(&images, &scratch.join("merged.erofs"), false);
        let found = comparable(described(&merged, &tars));
        assert_eq!(found, expected, "whiteouts as {form:?}: {layers:#?}");
        if form != Some(Form::Overlay) {
            continue;
        }
        // The upper ones together are a layer on top of the lower ones.
        for below in 1..images.len() {
            let (lower, upper) = images.split_at(below);
            let upper = merge_images(upper, &scratch.join("upper.erofs"), true);
            let all = [lower, &[&upper]].concat();
            let merged = merge_images(&all, &scratch.join("merged.erofs"), false);
            let found = comparable(described(&merged, &tars));
            assert_eq!(found, expected, "{form:?}, {below} below: {layers:#?}");
        }
    }
}

fn layer(entries: &[(&str, Entry)]) -> Layer {
    let entries = entries.iter();
    entries
        .map(|(path, entry)| ((*path).to_string(), entry.clone()))
        .collect()
}

fn file(content: &str) -> Entry {
    Entry::File(content.to_string())
}

fn hard_link(target: &str) -> Entry {
    Entry::HardLink(target.to_string())
}

#[test]
fn whiteouts_take_away_what_is_below() {
    same_as_extracted(&[
        layer(&[
            ("a", file("a")),
            ("d", Entry::Directory),
            ("d/b", file("b")),
            ("d/e", Entry::Directory),
            ("d/e/c", file("c")),
            ("o", Entry::Directory),
            ("o/below", file("below")),
            ("o/p", Entry::Directory),
            ("o/p/below", file("below")),
        ]),
        layer(&[
            ("a", Entry::Whiteout),
            ("d/e", Entry::Whiteout),
            ("o", Entry::Opaque),
            ("o/own", file("own")),
            ("nothing", Entry::Whiteout),
        ]),
        layer(&[("a", file("a again")), ("d/e", Entry::Directory)]),
    ]);
}

#[test]
fn types_are_replaced_and_links_stay_together() {
    same_as_extracted(&[
        layer(&[
            ("d", Entry::Directory),
            ("d/f", file("below")),
            ("f", file("file")),
            ("g", hard_link("f")),
            ("h", hard_link("f")),
            ("s", Entry::Symlink("d")),
            ("t", Entry::Symlink("d")),
        ]),
        layer(&[
            ("d", file("was a directory")),
            ("f", Entry::Directory),
            ("f/x", file("x")),
            ("y", hard_link("f/x")),
            ("g", Entry::Whiteout),
            ("s", Entry::Directory),
            ("s/x", file("in a directory that was a link")),
            ("t", file("was a link")),
        ]),
    ]);
}

#[test]
fn implied_directories_say_nothing_about_those_below() {
    same_as_extracted(&[
        layer(&[
            ("usr", Entry::Directory),
            ("usr/lib", Entry::Directory),
            ("usr/lib/old", file("old")),
            ("lib", Entry::Symlink("usr/lib")),
        ]),
        layer(&[
            ("lib/new", file("through the link")),
            ("usr/lib/other", file("mode 0750 stays")),
            ("made/for/it", file("mode 0755")),
        ]),
    ]);
}

#[test]
fn directories_that_are_made_again_are_new() {
    same_as_extracted(&[
        layer(&[
            ("c", Entry::Directory),
            ("c/old", file("old")),
            ("d", Entry::Directory),
            ("d/old", file("old")),
        ]),
        layer(&[
            ("c", Entry::Whiteout),
            ("c/new", file("mode 0755")),
            ("d/new", file("mode 0755")),
            ("d", Entry::Whiteout),
        ]),
    ]);
}

#[test]
fn extended_attributes_stay_unless_the_directory_is_another() {
    let scratch = Scratch::new();
    let with = |archive: Archive, name: &str, directory: &str| {
        let name = format!("SCHILY.xattr.user.{name}");
        archive.pax(&[(name.as_str(), "1")]).directory(directory)
    };
    let (mut below, mut above) = (Archive::new(), Archive::new().file(".wh.other", ""));
    for directory in ["opaque", "other", "same"] {
        below = with(below, "below", directory);
        above = with(above, "above", directory);
    }
    let tars = written(&scratch, [below, above.file("opaque/.wh..wh..opq", "")]);
    for form in [Some(Form::Overlay), Some(Form::Aufs), None] {
        let merged = merge_as(&scratch, &tars, form);
        let found: Vec<_> = described(&merged, &tars)
            .into_iter()
            .map(|file| (file.path, file.xattrs.join(" ")))
            .collect();
        let expected = [
            ("/", ""),
            ("/opaque", "user.above=1"),
            ("/other", "user.above=1"),
            ("/same", "user.above=1 user.below=1"),
        ];
        let expected = expected.map(|(path, xattrs)| (path.to_string(), xattrs.to_string()));
        assert_eq!(found, expected, "{form:?}");
    }
}

/// What a layer has in a directory stays, whatever it takes away from there by a symbolic link.
#[test]
fn whiteouts_behind_links_leave_their_own_layer_alone() {
    let scratch = Scratch::new();
    for link in ["lib", "zlib"] {
        let below = Archive::new()
            .symlink(link, "usr/lib")
            .file("usr/lib/new", "old")
            .file("usr/lib/old", "");
        let above = Archive::new()
            .file("usr/lib/new", "new")
            .file(&format!("{link}/.wh.new"), "")
            .file(&format!("{link}/.wh.old"), "");
        let tars = written(&scratch, [below, above]);
        for form in [Some(Form::Overlay), Some(Form::Aufs), None] {
            let merged = merge_as(&scratch, &tars, form);
            let found = described(&merged, &tars).into_iter();
            let found: Vec<_> = found.map(|file| (file.path, file.content)).collect();
            let new = ("/usr/lib/new".to_string(), "= new".to_string());
            assert!(found.contains(&new), "{link} {form:?}: {found:?}");
            let old = found.iter().any(|(path, _)| path == "/usr/lib/old");
            assert!(!old, "{link} {form:?}: {found:?}");
        }
    }
}

/// Where an upper layer has a directory in place of what hides one, it is another directory, also
/// if nobody said what it is like.
#[test]
fn implied_directories_in_place_of_something_are_new() {
    let scratch = Scratch::new();
    let below = Archive::new()
        .pax(&[("SCHILY.xattr.user.below", "1")])
        .header(Header::new("gone", b'5').mode(0o700))
        .pax(&[("SCHILY.xattr.user.below", "1")])
        .header(Header::new("file", b'5').mode(0o700));
    let middle = Archive::new().file(".wh.gone", "").file("file", "");
    let above = Archive::new().file("gone/new", "").file("file/new", "");
    let tars = written(&scratch, [below, middle, above]);
    for form in [Some(Form::Overlay), Some(Form::Aufs), None] {
        let images: Vec<Image> = tars.iter().map(|tar| index(tar, form)).collect();
        let upper = merge_images(
            &[&images[1], &images[2]],
            &scratch.join("upper.erofs"),
            true,
        );
        let merged = merge_images(&[&images[0], &upper], &scratch.join("merged.erofs"), false);
        for merged in [merged, merge_as(&scratch, &tars, form)] {
            let found = described(&merged, &tars).into_iter();
            let found = found.filter(|file| file.kind == 'd' && file.path != "/");
            let found: Vec<_> = found
                .map(|file| (file.path, file.mode, file.xattrs.len()))
                .collect();
            let expected = ["/file", "/gone"].map(|path| (path.to_string(), 0o755, 0));
            assert_eq!(found, expected, "{form:?}");
        }
    }
}

/// Parts of blocks are in the indexes of the layers, and are copied from there, so that the indexes
/// are not needed with the merged one.
#[test]
fn data_that_is_in_indexes_is_copied() {
    let scratch = Scratch::new();
    let (mut images, mut tars, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    let maps = [
        "100,512,20000,0",
        "13,5000,6000,3000,19999,1",
        "0,600,3000,5",
    ];
    for (layer, maps) in [&maps[..2], &maps[2..]].into_iter().enumerate() {
        let mut archive = Archive::new();
        for (number, map) in maps.iter().enumerate() {
            let lengths = map.split(',').skip(1).step_by(2);
            let lengths: Vec<usize> = lengths.map(|text| text.parse().unwrap()).collect();
            let stored: Vec<String> = lengths
                .iter()
                .map(|len| format!("{layer}").repeat(*len))
                .collect();
            archive = archive
                .pax(&[("GNU.sparse.size", "20000"), ("GNU.sparse.map", map)])
                .file(&format!("{layer}/{number}"), &stored.concat());
        }
        let tar = scratch.join(&format!("{layer}.tar"));
        fs::write(&tar, archive.file(&format!("{layer}/plain"), "plain").end()).unwrap();
        images.push(index(&tar, None));
        let files = description(&images[layer], &tar).into_iter();
        expected.extend(files.filter(|file| file.kind != 'd'));
        tars.push(tar);
    }
    let images: Vec<&Image> = images.iter().collect();
    let merged = merge_images(&images, &scratch.join("merged.erofs"), false);
    assert_eq!(merged.devices().unwrap().len(), 2);
    let again = merge_images(&[&merged], &scratch.join("again.erofs"), false);
    for image in [&merged, &again] {
        let found = described(image, &tars).into_iter();
        let found: Vec<_> = found.filter(|file| file.kind != 'd').collect();
        assert_eq!(found, expected);
    }
}

/// What the layer itself has in place of a directory, and takes back, hides nothing: containerd,
/// Docker and Podman extract a layer into a directory of its own, the upper one of an overlay.
#[test]
fn a_file_that_does_not_stay_leaves_the_directory_below() {
    let scratch = Scratch::new();
    let below = Archive::new().directory("d").file("d/below", "");
    let above = Archive::new()
        .file("d", "gone")
        .directory("d")
        .file("d/above", "");
    let (merged, tars) = merge_two(&scratch, below, above);
    let found = described(&merged, &tars).into_iter().map(|file| file.path);
    assert_eq!(
        found.collect::<Vec<_>>(),
        ["/", "/d", "/d/above", "/d/below"]
    );
}

#[test]
fn implied_directories_belong_to_the_owner_of_those_above() {
    let scratch = Scratch::new();
    let mut images = Vec::new();
    let mut tars = Vec::new();
    for (name, entries) in [
        ("below", layer(&[("d", Entry::Directory)])),
        ("above", layer(&[("d/made/too/file", file("data"))])),
    ] {
        let tar = scratch.join(name);
        fs::write(&tar, archive(&entries)).unwrap();
        images.push(index(&tar, Some(Form::Overlay)));
        tars.push(tar);
    }
    let images: Vec<&Image> = images.iter().collect();
    let merged = merge_images(&images, &scratch.join("merged.erofs"), false);
    let owners: Vec<_> = described(&merged, &tars)
        .into_iter()
        .map(|file| (file.path, file.owner))
        .collect();
    let owner = owners.iter().find(|(path, _)| path == "/d").unwrap().1;
    assert_ne!(owner, (0, 0));
    let made = owners
        .iter()
        .filter(|(path, _)| path.starts_with("/d/made"));
    assert_eq!(
        made.map(|(_, found)| *found).collect::<Vec<_>>(),
        [owner; 3]
    );
}

#[test]
fn equal_blobs_are_there_once() {
    let scratch = Scratch::new();
    let tar = scratch.join("layer.tar");
    fs::write(&tar, archive(&layer(&[("f", file("content"))]))).unwrap();
    let image = index(&tar, None);
    let mut merge = Merge::new();
    merge.apply(&image).unwrap();
    merge.apply(&image).unwrap();
    assert_eq!(merge.finish().unwrap().devices.len(), 1);
}

#[test]
fn many_layers_at_random() {
    // Numerical Recipes' generator: the same layers every time.
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for series in 0..40 {
        let mut layers: Vec<Layer> = Vec::new();
        for number in 0..4 {
            let mut new: Layer = Vec::new();
            let mut directories = vec![String::new()];
            let mut files: Vec<String> = Vec::new();
            for entry in 0..12 {
                let parent = directories[random(directories.len())].clone();
                let path = format!("{parent}{}", ["a", "b", "c", "d"][random(4)]);
                if new.iter().any(|(other, _)| *other == path) {
                    continue;
                }
                let what = match random(10) {
                    0..=3 => {
                        directories.push(format!("{path}/"));
                        if random(3) == 0 {
                            new.push((path.clone(), Entry::Directory));
                            Entry::Opaque
                        } else {
                            Entry::Directory
                        }
                    }
                    4..=5 => file(&format!("{series} {number} {entry}")),
                    6 => Entry::Symlink("a"),
                    7 if !files.is_empty() => hard_link(&files[random(files.len())]),
                    7 => Entry::Symlink("b/c"),
                    _ => Entry::Whiteout,
                };
                if matches!(what, Entry::File(_)) {
                    files.push(path.clone());
                }
                new.push((path, what));
            }
            layers.push(new);
        }
        same_as_extracted(&layers);
    }
}

#[test]
fn data_beyond_a_device_is_refused() {
    let scratch = Scratch::new();
    let tar = scratch.join("tar");
    fs::write(&tar, archive(&layer(&[("file", file("data"))]))).unwrap();
    let mut tree = Tree::new();
    let input = StreamInput::new(File::open(&tar).unwrap());
    ferofs::build::apply_archive(input, &mut tree, 0, &mut ()).unwrap();
    let options = image::Options::default().with_devices(vec![image::Device::new(512)]);
    let path = scratch.join("image");
    let out = File::create(&path).unwrap();
    image::write(&tree, &options, &image::source::Nothing, out).unwrap();
    let error = Merge::new()
        .apply(&Image::open(&path).unwrap())
        .unwrap_err();
    let expected = "\"/file\": its data is at 512 to 516 of device 1, which has 512 bytes";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn the_command_keeps_the_order_of_layers_and_their_tags() {
    let scratch = Scratch::new();
    let ferofs = |arguments: &[&str]| {
        let (code, out, errors) = program::ferofs(&scratch, arguments);
        (code, out + &errors)
    };
    let mut digests = Vec::new();
    for name in ["one", "two", "three"] {
        let bytes = archive(&layer(&[(name, file(name))]));
        fs::write(scratch.join(name), &bytes).unwrap();
        digests.push(Digest::of(&bytes).to_string());
        let image = format!("{name}.erofs");
        assert_eq!(ferofs(&["build", "--digest", "-o", &image, name]).0, 0);
    }
    let layers = ["two.erofs", "one.erofs", "two.erofs", "three.erofs"];
    let merge = [&["merge", "-o", "merged.erofs", "-L", "all"], &layers[..]].concat();
    assert_eq!(ferofs(&merge), (0, String::new()));
    let (_, dump) = ferofs(&["dump", "merged.erofs"]);
    let tags: Vec<_> = dump
        .lines()
        .filter_map(|line| line.split_once("tag "))
        .map(|(_, tag)| tag)
        .collect();
    assert_eq!(tags, [&digests[1], &digests[0], &digests[2]]);
    assert!(dump.contains("label:              \"all\""), "{dump}");
    // Merging what is merged changes nothing.
    let again = ["merge", "-o", "again.erofs", "-L", "all", "merged.erofs"];
    assert_eq!(ferofs(&again), (0, String::new()));
    let read = |name| fs::read(scratch.join(name)).unwrap();
    assert_eq!(read("again.erofs"), read("merged.erofs"));

    // An image with data is a device, which is found by its sha256 if that is wanted.
    let big = "big".repeat(3000);
    fs::write(scratch.join("big"), archive(&layer(&[("big", file(&big))]))).unwrap();
    let build = ["build", "--mode=full", "-o", "big.erofs", "big"];
    assert_eq!(ferofs(&build), (0, String::new()));
    let merge = [
        "merge",
        "--digest",
        "-o",
        "tagged",
        "one.erofs",
        "big.erofs",
        "big.erofs",
    ];
    assert_eq!(ferofs(&merge), (0, String::new()));
    let digest = Digest::of(&fs::read(scratch.join("big.erofs")).unwrap()).to_string();
    let (_, dump) = ferofs(&["dump", "tagged"]);
    assert!(
        dump.contains(&format!("tag {digest}")) && !dump.contains("device 3"),
        "{dump}"
    );
    fs::create_dir(scratch.join("blobs")).unwrap();
    fs::rename(
        scratch.join("one"),
        scratch.join(&format!("blobs/{}.tar", digests[0])),
    )
    .unwrap();
    fs::rename(
        scratch.join("big.erofs"),
        scratch.join(&format!("blobs/{digest}")),
    )
    .unwrap();
    let cat = ferofs(&["cat", "--blobs", "blobs", "tagged", "/big"]);
    assert_eq!(cat, (0, big));

    for (arguments, message) in [
        (["out", "one.erofs", "two"], "two: "),
        (
            ["one.erofs", "two.erofs", "one.erofs"],
            "one.erofs is the input one.erofs",
        ),
    ] {
        let (code, errors) = ferofs(&[&["merge", "-o"], &arguments[..]].concat());
        assert_eq!(code, 1, "{errors}");
        assert!(
            errors.starts_with(&format!("ferofs: {message}")),
            "{errors}"
        );
        assert!(!scratch.join("out").exists());
    }
}

/// Layers whose images have the files' data, in blocks and behind inodes, are merged to the same as
/// their indexes.
#[test]
fn layers_with_their_data_in_them() {
    let scratch = Scratch::new();
    let content = |size: usize, step: usize| -> Entry {
        let byte = |at: usize| char::from(b'a' + (at * step / 7 % 26) as u8);
        Entry::File((0..size).map(byte).collect())
    };
    let sizes = [
        0, 1, 511, 512, 700, 4000, 4095, 4096, 4097, 4700, 8192, 12_300, 40_000,
    ];
    let mut lower: Layer = sizes
        .iter()
        .map(|size| (format!("d/{size}"), content(*size, 3)))
        .collect();
    lower.push(("twice".to_string(), Entry::HardLink("d/4097".to_string())));
    lower.push(("large".to_string(), content(300_000, 2)));
    let upper: Layer = sizes
        .iter()
        .step_by(2)
        .map(|size| (format!("d/{size}"), content(size + 70, 5)))
        .collect();
    let mut tars = Vec::new();
    for (name, layer) in [("lower.tar", &lower), ("upper.tar", &upper)] {
        tars.push(scratch.join(name));
        fs::write(scratch.join(name), archive(layer)).unwrap();
    }
    let build = |tar: &Path, form: &Option<(u8, bool)>| -> (Image, PathBuf) {
        let path = tar.with_extension("erofs");
        match *form {
            None => (index(tar, None), tar.to_path_buf()),
            Some((block_bits, inline_data)) => {
                let options = image::Options::default()
                    .with_block_bits(block_bits)
                    .with_inline_data(inline_data)
                    .with_mode(image::Mode::Full);
                (common::stored_image_of(tar, &path, &options), path)
            }
        }
    };
    let forms = [
        None,
        Some((12, true)),
        Some((12, false)),
        Some((9, true)),
        Some((11, true)),
    ];
    let mut expected = None;
    for below in &forms {
        for above in &forms {
            let layers = [build(&tars[0], below), build(&tars[1], above)];
            let mut merge = Merge::new();
            for (image, _) in &layers {
                merge.apply(image).unwrap();
            }
            let merged = merge.finish().unwrap();
            let path = scratch.join("merged.erofs");
            let out = File::create(&path).unwrap();
            merged.write_file(&merged.options(), &out).unwrap();
            let merged = Image::open(&path).unwrap();
            let mut files: Vec<_> = layers.iter().map(|(_, file)| file.clone()).collect();
            // Devices come in the order in which they are needed; their sizes tell which they are.
            let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
            let find = |files: &[PathBuf], image: &Image| -> Vec<PathBuf> {
                let slots = image.devices().unwrap();
                let file = |slot: &erofs_format::DeviceSlot| {
                    let bytes = slot.blocks << image.superblock().block_size().trailing_zeros();
                    files
                        .iter()
                        .find(|path| size(path) == bytes)
                        .unwrap()
                        .clone()
                };
                slots.iter().map(file).collect()
            };
            assert_ne!(size(&files[0]), size(&files[1]));
            let blobs = find(&files, &merged);
            let lengths: Vec<u64> = blobs.iter().map(size).collect();
            assert_eq!(check(&merged, &lengths, &mut |_| {}).unwrap().problems, []);
            let found = description_over(&merged, &blobs);
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(found, *expected, "{below:?} {above:?}");
            // And once more: what is merged is a layer itself.
            let path = scratch.join("again.erofs");
            let again = merge_images(&[&merged], &path, false);
            files.push(scratch.join("merged.erofs"));
            let blobs = find(&files, &again);
            assert_eq!(
                description_over(&again, &blobs),
                *expected,
                "{below:?} {above:?}"
            );
        }
    }
}

/// An image in which hundreds of directories have the same names has more in it than its size lets
/// one expect: there is an end to the work all the same.
#[test]
fn directories_on_top_of_each_other_are_refused() {
    let scratch = Scratch::new();
    let mut entries = layer(&[]);
    for number in 0..3000 {
        entries.push((format!("large/{number}"), file("")));
    }
    for number in 0..400 {
        entries.push((format!("small/{number}"), Entry::Directory));
    }
    let tar = scratch.join("layer.tar");
    fs::write(&tar, archive(&entries)).unwrap();
    let image = index(&tar, None);
    let position = |path: &str| image.find(path.as_bytes()).unwrap().nid() as usize * 32;
    let mut bytes = fs::read(image.path()).unwrap();
    let merge = |bytes: &[u8]| {
        let path = scratch.join("changed.erofs");
        fs::write(&path, bytes).unwrap();
        Merge::new().apply(&Image::open(&path).unwrap())
    };
    merge(&bytes).unwrap();
    // Layout, size and first block; without what is behind the inode.
    let large = position("large");
    let format: [u8; 2] = bytes[large..large + 2].try_into().unwrap();
    let format = u16::from_le_bytes(format) & !0b1110;
    let (extended, at) = (format & 1 == 1, 8);
    let size: [u8; 4] = bytes[large + at..large + at + 4].try_into().unwrap();
    let size = u32::from_le_bytes(size) / 512 * 512;
    let first = bytes[large + 16..large + 20].to_vec();
    for number in 0..400 {
        let small = position(&format!("small/{number}"));
        assert_eq!(bytes[small] & 1 == 1, extended);
        bytes[small..small + 2].copy_from_slice(&format.to_le_bytes());
        bytes[small + at..small + at + 4].copy_from_slice(&size.to_le_bytes());
        bytes[small + 16..small + 20].copy_from_slice(&first);
    }
    let error = merge(&bytes).unwrap_err().to_string();
    assert!(error.contains("on top of each other"), "{error}");
}
