// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Container images on disk: what `ferofs build` makes of their layers, which image is chosen, and
//! what is wrong with hostile ones. Mounts of them are tested in virtual machines.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::layout;
use common::layout::Descriptor;
use common::layout::Layout;
use common::program::ferofs;
use ferofs::digest::Digest;
use ferofs::oci;
use ferofs::oci::Platform;
use ferofs::oci::Reference;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

fn good(directory: &Scratch, arguments: &[&str]) -> String {
    let (code, out, errors) = ferofs(directory, arguments);
    assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    out
}

fn bad(directory: &Scratch, arguments: &[&str]) -> String {
    let (code, out, errors) = ferofs(directory, arguments);
    assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

/// All that is in a directory: names and inode numbers.
fn names(directory: &Path) -> BTreeMap<String, u64> {
    let Ok(entries) = fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::symlink_metadata(entry.path()).unwrap().ino())
    };
    entries.map(|entry| name(entry.unwrap())).collect()
}

fn tar(number: usize) -> Vec<u8> {
    Archive::new()
        .directory("./")
        .directory("./d/")
        .file("./d/same", &format!("of layer {number}"))
        .file(&format!("./d/only{number}"), "here")
        .end()
}

/// The platform of this machine, and one that it is not.
fn platforms() -> (String, &'static str) {
    let host = Platform::of_this_machine().to_string();
    let other = match host.as_str() {
        "linux/s390x" => "linux/amd64",
        _ => "linux/s390x",
    };
    (host, other)
}

#[test]
fn every_layer_has_the_index_that_its_tar_has() {
    let scratch = Scratch::new();
    let made = Layout::new(scratch.join("app"));
    let tars: Vec<_> = (0..6).map(tar).collect();
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let two_members = [layout::gzip(&tars[4][..700]), layout::gzip(&tars[4][700..])].concat();
    let layers = [
        made.blob(layout::LAYER, &tars[0]),
        made.blob(layout::LAYER_GZIP, &layout::gzip(&tars[1])),
        made.blob(layout::LAYER_ZSTD, &layout::zstd(&tars[2])),
        made.blob(docker, &layout::gzip(&tars[3])),
        made.blob(foreign, &two_members),
        // What is called gzip and is not happens, and is read all the same.
        made.blob(layout::LAYER_GZIP, &tars[5]),
        // And the first one once more.
        made.blob(layout::LAYER, &tars[0]),
    ];
    let mut all: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    all.push(&tars[0]);
    let config = made.config("linux/amd64", &all);
    made.index(&[made.manifest(&config, &layers)]);
    let command = ["build", "-o", "out", "--merge", "merged", "oci:app"];
    let out = good(&scratch, &command);
    let ids: Vec<_> = all.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let expected: Vec<_> = ids.iter().map(|id| format!("out/{id}.erofs")).collect();
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    for (tar, id) in all.iter().zip(&ids) {
        fs::write(scratch.join("tar"), tar).unwrap();
        good(&scratch, &["build", "--digest", "-o", "image", "tar"]);
        let of_tar = fs::read(scratch.join("image")).unwrap();
        assert!(of_tar == fs::read(scratch.join(&format!("out/{id}.erofs"))).unwrap());
        assert!(*tar == fs::read(scratch.join(&format!("out/{id}.tar"))).unwrap());
    }
    // Those that are in the layout as they are, are not copied.
    let links = names(&scratch.join("out"));
    let links = links
        .keys()
        .filter(|name| scratch.join("out").join(name).is_symlink());
    let mut links: Vec<_> = links.map(|name| name.trim_end_matches(".tar")).collect();
    let mut plain = [ids[0].as_str(), ids[5].as_str()];
    links.sort_unstable();
    plain.sort_unstable();
    assert_eq!(links, plain);

    let command: Vec<&str> = ["merge", "-o", "merged.expected"]
        .into_iter()
        .chain(expected.iter().map(String::as_str))
        .collect();
    good(&scratch, &command);
    let merged = fs::read(scratch.join("merged")).unwrap();
    assert!(merged == fs::read(scratch.join("merged.expected")).unwrap());
    let found = good(
        &scratch,
        &["cat", "--blobs", "out", "merged", "/d/only4", "/d/same"],
    );
    assert_eq!(found, "hereof layer 0");

    // What is there is used again; what is missing is made again.
    let before = names(&scratch.join("out"));
    assert_eq!(good(&scratch, &command_again()), out);
    assert_eq!(names(&scratch.join("out")), before);
    fs::remove_file(scratch.join(&format!("out/{}.tar", ids[1]))).unwrap();
    fs::remove_file(scratch.join(&format!("out/{}.erofs", ids[2]))).unwrap();
    fs::write(scratch.join(&format!("out/{}.erofs", ids[3])), "half").unwrap();
    // By another version of the builder, and changed by somebody.
    let index = |number: usize| format!("out/{}.erofs", ids[number]);
    let expected = [4, 5].map(|number| fs::read(scratch.join(&index(number))).unwrap());
    fs::write(scratch.join("tar"), all[4]).unwrap();
    let random = ["build", "--digest", "-U", "random", "-o", &index(4), "tar"];
    good(&scratch, &random);
    let mut changed = expected[1].clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(scratch.join(&index(5)), changed).unwrap();
    assert_eq!(good(&scratch, &command_again()), out);
    for (number, expected) in [4, 5].into_iter().zip(expected) {
        assert!(fs::read(scratch.join(&index(number))).unwrap() == expected);
    }
    assert_eq!(
        names(&scratch.join("out")).keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    for (tar, id) in all.iter().zip(&ids) {
        assert!(*tar == fs::read(scratch.join(&format!("out/{id}.tar"))).unwrap());
        let check = ["check", "--digest", "--device"];
        let (tar, image) = (format!("out/{id}.tar"), format!("out/{id}.erofs"));
        good(&scratch, &[&check[..], &[&tar, &image]].concat());
    }
}

/// A layer that can be read in part, as eStargz: a gzip member for every file, a table of contents as
/// the last file, and a footer that says where that is. Others extract it as any layer, the table
/// like any file.
fn estargz(files: &[Vec<u8>], table: &[u8]) -> Vec<u8> {
    let mut members: Vec<_> = files.iter().map(|file| layout::gzip(file)).collect();
    let position: usize = members.iter().map(Vec::len).sum();
    members.push(layout::gzip(table));
    let mut extra = b"SG\x16\0".to_vec();
    extra.extend_from_slice(format!("{position:016x}STARGZ").as_bytes());
    let footer = flate2::GzBuilder::new().extra(extra);
    let footer = footer.write(Vec::new(), flate2::Compression::none());
    members.push(footer.finish().unwrap());
    assert_eq!(members.last().unwrap().len(), 51);
    members.concat()
}

/// The same as zstd:chunked: frames, and a table of contents and a footer in frames that everybody
/// skips.
fn zstd_chunked(files: &[Vec<u8>]) -> Vec<u8> {
    let skipped = |bytes: &[u8]| {
        let mut frame = 0x184d_2a50_u32.to_le_bytes().to_vec();
        frame.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        [frame, bytes.to_vec()].concat()
    };
    let mut frames: Vec<_> = files.iter().map(|file| layout::zstd(file)).collect();
    frames.push(skipped(&layout::zstd(br#"{"version":1,"entries":[]}"#)));
    frames.push(skipped(&[[0; 56].as_slice(), b"GNUlInUx"].concat()));
    frames.concat()
}

#[test]
fn layers_that_can_be_read_in_part_are_read_as_a_whole() {
    let scratch = Scratch::new();
    let made = Layout::new(scratch.join("app"));
    let part = |number: usize| {
        let name = format!("./d/{number}");
        Archive::new().file(&name, &"x".repeat(number * 700))
    };
    let parts: Vec<_> = (0..4).map(|number| part(number).open_end()).collect();
    let table = r#"{"version":1,"entries":[]}"#;
    let table = Archive::new().file("stargz.index.json", table).end();
    let end = [parts.as_slice(), &[vec![0; 1024]]].concat();
    let layers = [
        made.blob(layout::LAYER_GZIP, &estargz(&parts, &table)),
        made.blob(layout::LAYER_ZSTD, &zstd_chunked(&end)),
    ];
    let tars = [[parts.concat(), table].concat(), end.concat()];
    let config = made.config("linux/amd64", &[&tars[0], &tars[1]]);
    made.index(&[made.manifest(&config, &layers)]);
    let out = good(&scratch, &["build", "-o", "out", "oci:app"]);
    for (index, tar) in out.lines().zip(&tars) {
        fs::write(scratch.join("tar"), tar).unwrap();
        fs::create_dir(scratch.join("root")).unwrap();
        let status = Command::new("tar")
            .args(["-xf", "tar", "-C", "root"])
            .current_dir(&scratch.0)
            .status();
        assert!(status.unwrap().success());
        let ignore = "mode,owner,mtime";
        let diff = ["diff", "--ignore", ignore, "--blobs", "out", index, "root"];
        good(&scratch, &diff);
        fs::remove_dir_all(scratch.join("root")).unwrap();
    }
}

fn command_again() -> [&'static str; 4] {
    ["build", "-o", "out", "oci:app"]
}

/// Which tar an image begins with, or why there is none.
fn chosen(scratch: &Scratch, source: &str, platform: Option<&str>) -> Result<Vec<Digest>, String> {
    let source = source.replacen(":app", &format!(":{}", scratch.join("app").display()), 1);
    let reference = Reference::parse(Path::new(&source)).unwrap().unwrap();
    let platform = platform.map(|platform| Platform::parse(platform).unwrap());
    match oci::open(&reference, platform.as_ref()) {
        Ok(image) => Ok(image.layers.iter().map(|layer| layer.diff_id).collect()),
        Err(error) => {
            let directory = format!("{}/", scratch.0.display());
            Err(error.to_string().replace(&directory, ""))
        }
    }
}

#[test]
fn images_are_chosen_by_name_and_platform() {
    let scratch = Scratch::new();
    let made = Layout::new(scratch.join("app"));
    let (host, other) = platforms();
    let tars: Vec<_> = (0..8).map(tar).collect();
    let id = |number: usize| Ok(vec![Digest::of(&tars[number])]);
    let image = |number: usize, platform: &str| made.image(platform, &[&tars[number]]);
    let missing = Descriptor::new(layout::MANIFEST, Digest::of(b"elsewhere"), 100);
    let attestation = image(7, "unknown/unknown").platform("unknown/unknown");
    let several = made.nested(&[
        attestation,
        image(1, other).platform(other),
        missing.platform("linux/arm/v7"),
        image(2, &host).platform(&host),
        image(3, &host).platform(&host),
    ]);
    let foreign = image(4, other);
    let nested = made.nested(&[made.nested(&[image(5, &host)])]);
    made.index(&[
        image(0, &host).named("one"),
        several.clone().named("several"),
        foreign.clone().named("registry.example:5000/foreign:1.0"),
        nested.clone().named("nested"),
    ]);
    assert_eq!(chosen(&scratch, "oci:app:one", None), id(0));
    assert_eq!(chosen(&scratch, "oci:app:one", Some(&host)), id(0));
    // Of equals the first; what is for other platforms need not be there.
    assert_eq!(chosen(&scratch, "oci:app:several", None), id(2));
    assert_eq!(chosen(&scratch, "oci:app:several", Some(other)), id(1));
    // The only one will do, unless it was said which.
    let name = "oci:app:registry.example:5000/foreign:1.0";
    assert_eq!(chosen(&scratch, name, None), id(4));
    assert_eq!(chosen(&scratch, "oci:app:nested", None), id(5));
    for (descriptor, number) in [(&several, 2), (&foreign, 4), (&nested, 5)] {
        let source = format!("oci:app@sha256:{}", descriptor.digest);
        assert_eq!(chosen(&scratch, &source, None), id(number));
    }
    let by_digest = format!("oci:app@sha256:{}", foreign.digest);
    let refused = |source: &str, platform, text: &str| {
        let problem = chosen(&scratch, source, platform).unwrap_err();
        assert!(problem.contains(text), "{source}: {problem}");
    };
    refused(
        name,
        Some(&host),
        &format!("no image for {host}; there is {other}"),
    );
    refused(
        &by_digest,
        Some(&host),
        &format!("the image is for {other}, not for {host}"),
    );
    refused("oci:app:several", Some("linux/arm/v7"), " is missing");
    refused(
        "oci:app:several",
        Some("plan9/386"),
        "no image for plan9/386; there are ",
    );
    refused(
        "oci:app:none",
        None,
        "no such image; there are nested, one, registry.example",
    );
    refused(
        "oci:app",
        None,
        "several images; choose one with oci:app:NAME or @sha256:HEX",
    );
    let source = format!("oci:app@sha256:{}", Digest::of(b""));
    refused(&source, None, "the blob sha256:e3b0c44298fc1c14");

    // One for each platform, as BuildKit does it, is one image.
    made.index(&[
        image(0, &host).platform(&host),
        image(1, other).platform(other),
    ]);
    assert_eq!(chosen(&scratch, "oci:app", None), id(0));
    assert_eq!(chosen(&scratch, "oci:app", Some(other)), id(1));
    // What `docker save` and containerd call it.
    let full = r#","annotations":{"io.containerd.image.name":"docker.io/library/app:1"}"#;
    let mut named = image(3, &host);
    named.json += full;
    made.index(&[named, image(0, &host)]);
    assert_eq!(
        chosen(&scratch, "oci:app:docker.io/library/app:1", None),
        id(3)
    );
    // No layers at all.
    made.index(&[made.image(&host, &[])]);
    assert_eq!(chosen(&scratch, "oci:app", None), Ok(vec![]));
    made.index(&[]);
    refused("oci:app", None, "no such image; there are none with a name");
}

#[test]
fn archives_have_the_images_that_are_in_them() {
    let scratch = Scratch::new();
    let made = Layout::new(scratch.join("layout"));
    let (host, _) = platforms();
    let tars: Vec<_> = (0..3).map(tar).collect();
    let zipped = made.blob(layout::LAYER_GZIP, &layout::gzip(&tars[1]));
    let layers = [made.blob(layout::LAYER, &tars[0]), zipped];
    let config = made.config(&host, &[&tars[0], &tars[1]]);
    let one = made.manifest(&config, &layers);
    made.index(&[one.named("one")]);
    let pack = |names: &[&str]| {
        let status = Command::new("tar")
            .args([&["-cf", "app", "-C", "layout"], names].concat())
            .current_dir(&scratch.0)
            .status();
        assert!(status.unwrap().success());
    };
    pack(&["."]);
    let both = || vec![Digest::of(&tars[0]), Digest::of(&tars[1])];
    assert_eq!(chosen(&scratch, "oci-archive:app", None), Ok(both()));
    let out = good(&scratch, &["build", "-o", "out", "oci-archive:app:one"]);
    assert_eq!(out.lines().count(), 2);
    for tar in &tars[..2] {
        let copy = scratch.join(&format!("out/{}.tar", Digest::of(tar)));
        assert!(*tar == fs::read(copy).unwrap());
    }
    assert_eq!(
        chosen(&scratch, "docker-archive:app", None),
        Err("app: manifest.json is missing".to_string())
    );

    // As `docker save` wrote it for long: layers are called after something else, and one that is
    // there twice is a link.
    fs::remove_dir_all(scratch.join("layout")).unwrap();
    let made = Layout::new(scratch.join("layout"));
    let config = made.config(&host, &[&tars[0], &tars[1], &tars[0]]);
    let name = format!("{}.json", config.digest);
    fs::rename(made.blob_path(config.digest), made.0.join(&name)).unwrap();
    for (directory, tar) in [("aa", Some(&tars[0])), ("bb", Some(&tars[1])), ("cc", None)] {
        let directory = made.0.join(directory);
        fs::create_dir(&directory).unwrap();
        match tar {
            Some(tar) => fs::write(directory.join("layer.tar"), tar).unwrap(),
            None => {
                std::os::unix::fs::symlink("../aa/layer.tar", directory.join("layer.tar")).unwrap()
            }
        }
    }
    let saved = |tags: &str, last: &str| {
        let layers = format!(r#"["aa/layer.tar","bb/layer.tar","{last}"]"#);
        format!(r#"{{"Config":"{name}","RepoTags":{tags},"Layers":{layers}}}"#)
    };
    let manifest = |images: &[String]| {
        fs::write(
            made.0.join("manifest.json"),
            format!("[{}]", images.join(",")),
        )
        .unwrap();
        pack(&["manifest.json", &name, "aa", "bb", "cc"]);
    };
    manifest(&[saved(r#"["app:latest","app:1"]"#, "cc/layer.tar")]);
    let all = || Ok(vec![both()[0], both()[1], both()[0]]);
    let digest = format!("docker-archive:app@sha256:{}", config.digest);
    for source in [
        "docker-archive:app",
        "docker-archive:app:app",
        "docker-archive:app:docker.io/library/app:1",
        &digest,
    ] {
        assert_eq!(chosen(&scratch, source, None), all(), "{source}");
    }
    good(&scratch, &["build", "-o", "saved", "docker-archive:app"]);
    assert_eq!(names(&scratch.join("saved")).len(), 4);
    manifest(&[
        saved(r#"["app:1"]"#, "cc/layer.tar"),
        saved("null", "../../../../etc/passwd"),
    ]);
    for (source, text) in [
        (
            "docker-archive:app",
            "expected one image, or a name behind the path; there is app:1",
        ),
        ("docker-archive:app:2", "no such image; there is app:1"),
    ] {
        let problem = chosen(&scratch, source, None).unwrap_err();
        assert!(problem.ends_with(text), "{problem}");
    }
    manifest(&[saved("null", "../../../../etc/passwd")]);
    assert_eq!(
        chosen(&scratch, "docker-archive:app", None),
        Err("app: ../../../../etc/passwd is missing".to_string())
    );
    manifest(&[saved("null", "bb")]);
    assert_eq!(
        chosen(&scratch, "docker-archive:app", None),
        Err("app: \"bb\" is no regular file, or one with holes".to_string())
    );
    // The configuration has to be what it is called after.
    let config_bytes = fs::read(made.0.join(&name)).unwrap();
    for (called, expected) in [
        (format!("sha256:{}", config.digest), None),
        (format!("{}.json", Digest::of(b"")), Some("its sha256 is")),
        (format!("sha256:{}", Digest::of(b"")), Some("its sha256 is")),
        ("config.json".to_string(), None),
    ] {
        fs::write(made.0.join(&called), &config_bytes).unwrap();
        let image = saved("null", "cc/layer.tar").replace(&name, &called);
        fs::write(made.0.join("manifest.json"), format!("[{image}]")).unwrap();
        pack(&["manifest.json", "--", &called, "aa", "bb", "cc"]);
        match (chosen(&scratch, "docker-archive:app", None), expected) {
            (found, None) => assert_eq!(found, all(), "{called}"),
            (Err(problem), Some(text)) => assert!(problem.contains(text), "{problem}"),
            (found, _) => panic!("{called}: {found:?}"),
        }
    }
    manifest(&[saved("null", "cc/layer.tar").replace("aa/", "bb/")]);
    let problem = bad(&scratch, &["build", "-o", "wrong", "docker-archive:app"]);
    assert!(problem.contains("expected the diff ID"), "{problem}");
    assert!(!scratch.join("wrong").exists());
}

#[test]
fn what_is_wrong_with_an_image_is_said_and_nothing_is_left() {
    let (host, _) = platforms();
    let tars: Vec<_> = (0..3).map(tar).collect();
    let all: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    let fifo = |path: &Path| {
        fs::remove_file(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let manifest_of = |made: &Layout, layer: Descriptor| {
        let config = made.config(&host, &all[..1]);
        made.index(&[made.manifest(&config, &[layer])]);
    };
    let layer = |made: &Layout| made.blob(layout::LAYER, &tars[0]);
    type Spoil<'a> = Box<dyn Fn(&Layout) + 'a>;
    let cases: Vec<(&str, Spoil<'_>)> = vec![
        (
            "its sha256 is ",
            Box::new(|made| {
                // The second of three, so that others are done or on their way.
                let gzip = made.blob(layout::LAYER_GZIP, &layout::gzip(&tars[1]));
                let blobs = [
                    layer(made),
                    gzip.clone(),
                    made.blob(layout::LAYER, &tars[2]),
                ];
                made.index(&[made.manifest(&made.config(&host, &all), &blobs)]);
                let path = made.blob_path(gzip.digest);
                let mut bytes = fs::read(&path).unwrap();
                let last = bytes.len() - 9;
                bytes[last] ^= 1;
                fs::write(path, bytes).unwrap();
            }),
        ),
        (
            "its sha256 is ",
            Box::new(|made| {
                let layer = layer(made);
                manifest_of(made, layer.clone());
                let mut bytes = tars[0].clone();
                bytes[600] ^= 1;
                fs::write(made.blob_path(layer.digest), bytes).unwrap();
            }),
        ),
        (
            "bytes, expected 9",
            Box::new(|made| {
                let layer = layer(made);
                let size = format!("\"size\":{}", tars[0].len());
                manifest_of(made, layer.replace(&size, "\"size\":9"));
            }),
        ),
        (
            " is missing",
            Box::new(|made| {
                let layer = layer(made);
                manifest_of(made, layer.clone());
                fs::remove_file(made.blob_path(layer.digest)).unwrap();
            }),
        ),
        (
            "is no regular file",
            Box::new(|made| {
                let layer = layer(made);
                manifest_of(made, layer.clone());
                fifo(&made.blob_path(layer.digest));
            }),
        ),
        (
            "expected the diff ID",
            Box::new(|made| {
                manifest_of(made, made.blob(layout::LAYER_GZIP, &layout::gzip(&tars[1])));
            }),
        ),
        (
            "expected the diff ID",
            Box::new(|made| manifest_of(made, made.blob(layout::LAYER, &tars[1]))),
        ),
        (
            "the configuration has 3 diff IDs, but there are 1 layers",
            Box::new(|made| {
                made.index(&[made.manifest(&made.config(&host, &all), &[layer(made)])]);
            }),
        ),
        (
            "layer 1 has the media type \"application/vnd.oci.image.layer.v1.tar+encrypted\"",
            Box::new(|made| {
                let media_type = format!("{}+encrypted", layout::LAYER);
                manifest_of(made, made.blob(&media_type, &tars[0]));
            }),
        ),
        (
            "its configuration has the media type \"application/vnd.example\"",
            Box::new(|made| {
                let config = made.config(&host, &all[..1]);
                let config = config.replace(layout::CONFIG, "application/vnd.example");
                made.index(&[made.manifest(&config, &[layer(made)])]);
            }),
        ),
        (
            "something of the media type \"application/vnd.example\"",
            Box::new(|made| {
                let image = made.image(&host, &all);
                made.index(&[image.replace(layout::MANIFEST, "application/vnd.example")]);
            }),
        ),
        (
            // What is called an index and is a manifest.
            "missing field `manifests`",
            Box::new(|made| {
                let image = made.image(&host, &all);
                made.index(&[image.replace(layout::MANIFEST, layout::INDEX)]);
            }),
        ),
        (
            // An index that has itself in it cannot have its own sha256.
            "its sha256 is ",
            Box::new(|made| {
                let index = made.nested(&[]);
                fs::write(
                    made.blob_path(index.digest),
                    format!(r#"{{"manifests":[{{{}}}]}}"#, index.json),
                )
                .unwrap();
                let size = fs::metadata(made.blob_path(index.digest)).unwrap().len();
                made.index(&[Descriptor::new(layout::INDEX, index.digest, size)]);
            }),
        ),
        (
            "more than 8 indexes in each other",
            Box::new(|made| {
                let mut index = made.nested(&[made.image(&host, &all)]);
                for _ in 0..9 {
                    index = made.nested(&[index]);
                }
                made.index(&[index]);
            }),
        ),
        (
            "the digest \"sha256:../../../../etc/passwd\", expected",
            Box::new(|made| {
                let layer = layer(made);
                let digest = layer.digest.to_string();
                manifest_of(made, layer.replace(&digest, "../../../../etc/passwd"));
            }),
        ),
        (
            "the digest \"sha512:",
            Box::new(|made| manifest_of(made, layer(made).replace("sha256:", "sha512:"))),
        ),
        (
            "a document of 17825792 bytes, expected at most 16777216",
            Box::new(|made| {
                let config = made.config(&host, &all);
                let manifest = made.manifest(&config, &[]);
                let path = made.blob_path(manifest.digest);
                File::create(path).unwrap().set_len(17 << 20).unwrap();
                made.index(&[Descriptor::new(layout::MANIFEST, manifest.digest, 17 << 20)]);
            }),
        ),
        (
            "index.json: expected ident at line 1 column 2",
            Box::new(|made| fs::write(made.0.join("index.json"), "no JSON").unwrap()),
        ),
        ("index.json is missing", Box::new(|_| {})),
        (
            "an image layout of version \"2.0.0\"",
            Box::new(|made| {
                fs::write(
                    made.0.join("oci-layout"),
                    r#"{"imageLayoutVersion":"2.0.0"}"#,
                )
                .unwrap();
            }),
        ),
        (
            // The right sha256, but the data ends in the middle.
            "gzip data: ",
            Box::new(|made| {
                let mut zipped = layout::gzip(&tars[0]);
                zipped.truncate(zipped.len() - 20);
                manifest_of(made, made.blob(layout::LAYER_GZIP, &zipped));
            }),
        ),
        (
            "the header's checksum",
            Box::new(|made| {
                let text = "no tar at all ".repeat(100);
                let config = made.config(&host, &[text.as_bytes()]);
                let blob = made.blob(layout::LAYER_GZIP, &layout::gzip(text.as_bytes()));
                made.index(&[made.manifest(&config, &[blob])]);
            }),
        ),
    ];
    for (text, spoil) in cases {
        let scratch = Scratch::new();
        let made = Layout::new(scratch.join("app"));
        spoil(&made);
        let problem = bad(&scratch, &["build", "-o", "out", "--merge", "m", "oci:app"]);
        assert!(problem.contains(text), "{text}: {problem}");
        let mounted = bad(
            &scratch,
            &["mount", "-f", "--cache", "out", "oci:app", "/mnt"],
        );
        assert_eq!(mounted, problem);
        // A cache keeps what turned out right.
        let kept = names(&scratch.join("out"));
        let good = [0, 2].map(|number| Digest::of(&tars[number]).to_string());
        let of_good = |name: &String| good.iter().any(|id| name.starts_with(id));
        assert!(kept.keys().all(of_good), "{text}: {kept:?}");
        if !kept.is_empty() {
            fs::remove_dir_all(scratch.join("out")).unwrap();
        }
        assert_eq!(
            names(&scratch.0).keys().collect::<Vec<_>>(),
            ["app"],
            "{text}"
        );
        // In a directory that is there nothing is left, either.
        fs::create_dir(scratch.join("out")).unwrap();
        bad(&scratch, &["build", "-o", "out", "oci:app"]);
        assert!(names(&scratch.join("out")).is_empty(), "{text}");
    }
}

/// There is one way to merge: what it leaves out is said whoever asks.
#[test]
fn merging_layers_of_a_container_image_says_what_the_command_says() {
    let scratch = Scratch::new();
    let tar = Archive::new()
        .pax(&[("SCHILY.xattr.trusted.overlay.redirect", "/other")])
        .file("f", "data")
        .end();
    let layout = Layout::new(scratch.join("app"));
    layout.index(&[layout.image(&platforms().0, &[&tar])]);
    fs::write(scratch.join("layer.tar"), &tar).unwrap();
    fs::create_dir(scratch.join("out")).unwrap();
    // An index of this layer by somebody who wanted the attribute kept.
    let index = format!("out/{}.erofs", Digest::of(&tar));
    good(
        &scratch,
        &[
            "build",
            "--digest",
            "--whiteouts=keep",
            "-o",
            &index,
            "layer.tar",
        ],
    );
    let merge = ["merge", "-o", "expected", &index];
    let (code, _, expected) = ferofs(&scratch, &merge);
    assert_eq!(code, 0);
    assert!(expected.contains("overlay.redirect"), "{expected}");
    let build = ["build", "-o", "out", "--merge", "merged", "oci:app"];
    let (code, _, said) = ferofs(&scratch, &build);
    assert_eq!((code, said), (0, expected));
    let read = |name: &str| fs::read(scratch.join(name)).unwrap();
    assert!(read("merged") == read("expected"));
}

#[test]
fn a_mount_prepares_layers_in_a_cache() {
    let scratch = Scratch::new();
    let made = Layout::new(scratch.join("app"));
    let (host, other) = platforms();
    let tars: Vec<_> = (0..2).map(tar).collect();
    let layers = [
        made.blob(layout::LAYER, &tars[0]),
        made.blob(layout::LAYER_GZIP, &layout::gzip(&tars[1])),
    ];
    let config = made.config(&host, &[&tars[0], &tars[1]]);
    made.index(&[made.manifest(&config, &layers).named("one:1")]);
    let ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let chain = Digest::of(format!("sha256:{} sha256:{}", ids[0], ids[1]).as_bytes());
    let said = |state: &str| {
        format!(
            "oci:app:one:1: {host}, 2 layers\n\
             oci:app:one:1: layer 1: c/{}.erofs over app/blobs/sha256/{}, {state}\n\
             oci:app:one:1: layer 2: c/{}.erofs over c/{}.tar, {state}\n\
             oci:app:one:1: merged: c/{chain}.merged.erofs, {state}\n",
            ids[0], ids[0], ids[1], ids[1]
        )
    };
    let command = ["mount", "-fv", "--cache", "c", "oci:app:one:1", "/mnt"];
    assert_eq!(good(&scratch, &command), said("new"));
    let before = names(&scratch.join("c"));
    assert_eq!(before.len(), 4);
    assert_eq!(good(&scratch, &command), said("there already"));
    assert_eq!(names(&scratch.join("c")), before);
    assert_eq!(
        fs::metadata(scratch.join("c")).unwrap().mode() & 0o777,
        0o700
    );

    // As mount(8) calls it for a line of fstab.
    let helper = scratch.join("mount.ferofs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ferofs"), &helper).unwrap();
    let options = format!("rw,noauto,stack,cache=d,upper=u,work=w,platform={host}");
    let output = Command::new(&helper)
        .args(["oci:app:one:1", "/mnt", "-f", "-o", &options])
        .current_dir(&scratch.0)
        .status();
    assert!(output.unwrap().success());
    // One by one, they are not merged.
    assert_eq!(names(&scratch.join("d")).len(), 3);
    assert!(!scratch.join("u").exists());

    // Without --cache it is that of the user.
    let output = Command::new(env!("CARGO_BIN_EXE_ferofs"))
        .args(["mount", "-f", "--blobs", "c", "oci:app", "/mnt"])
        .env("XDG_CACHE_HOME", scratch.join("home/cache"))
        .current_dir(&scratch.0)
        .status();
    assert!(output.unwrap().success());
    // The plain tars were found elsewhere.
    assert_eq!(names(&scratch.join("home/cache/ferofs")).len(), 3);

    // A layer that was changed behind our back is made anew: at once if its size shows it, or if that is
    // asked for. If it is not in the cache, it is an error.
    let cached = scratch.join(&format!("c/{}.tar", ids[1]));
    let verifying = [&command[..2], &["--verify"], &command[2..]].concat();
    let noted = |arguments: &[&str]| {
        let (code, _, errors) = ferofs(&scratch, arguments);
        assert_eq!(code, 0, "{errors}");
        assert!(errors.contains("it is made anew"), "{errors}");
    };
    let zeros = vec![0; tars[1].len()];
    for (wrong, arguments) in [
        (&tars[1][..1000], &command[..]),
        (b"", &command),
        (&zeros, &verifying),
    ] {
        fs::write(&cached, wrong).unwrap();
        noted(arguments);
        assert!(fs::read(&cached).unwrap() == tars[1]);
        assert_eq!(good(&scratch, &verifying), said("there already"));
    }
    fs::write(&cached, &zeros).unwrap();
    assert_eq!(good(&scratch, &command), said("there already"));
    noted(&verifying);
    // Something that leads elsewhere is replaced, and not what it leads to.
    fs::write(scratch.join("elsewhere"), "elsewhere").unwrap();
    fs::remove_file(&cached).unwrap();
    std::os::unix::fs::symlink("../elsewhere", &cached).unwrap();
    noted(&command);
    assert!(fs::read(&cached).unwrap() == tars[1] && !cached.is_symlink());
    assert_eq!(fs::read(scratch.join("elsewhere")).unwrap(), b"elsewhere");
    let plain = made.blob_path(ids[0]);
    fs::write(&plain, vec![0; tars[0].len()]).unwrap();
    let problem = bad(&scratch, &verifying);
    assert!(problem.contains("its sha256 is"), "{problem}");
    fs::write(&plain, &tars[0]).unwrap();

    for (arguments, text) in [
        (&["--platform", other, "oci:app"][..], "no image for "),
        (&["-o", "device=x", "oci:app"], "device= makes no sense"),
        (
            &["--stack", "app/index.json"],
            "is no container image, for which --stack is",
        ),
        (&["-o", "work=w", "oci:app"], "no upper directory"),
        (&["--device", "x", "oci:app"], "device= makes no sense"),
        (&["--upper", "app", "oci:app"], "app is the image itself"),
        (&["--cache", "app", "oci:app"], "app is the image itself"),
        (
            &["--max-size", "1000", "--cache", "e", "oci:app"],
            "the plain tar is larger than is allowed",
        ),
        (
            &["app"],
            "it looks like a container image; as such it is called oci:app",
        ),
        (
            &["docker:app"],
            "container images on disk are called oci:DIR",
        ),
        (
            &["oci:mount.ferofs"],
            "is no directory, as \"oci:\" expects",
        ),
        (&["docker-archive:none"], "cannot open none"),
    ] {
        let problem = bad(&scratch, &[&["mount", "-f"], arguments, &["/mnt"]].concat());
        assert!(problem.contains(text), "{problem}");
    }
    for (arguments, text) in [
        (
            &["--mode", "full", "oci:app"][..],
            "--mode does not go with it",
        ),
        (&["--all-root", "oci:app"], "--all-root does not go with it"),
        (
            &["--label", "x", "oci:app"],
            "--label without --merge does not go with it",
        ),
        (
            &["--merge", "m", "app/index.json"],
            "no container image, for which --merge is",
        ),
        (
            &["--platform", "a/b", "app"],
            "no container image, for which --platform is",
        ),
        (
            &["--max-size", "5", "app"],
            "no container image, for which --max-size is",
        ),
        (
            &["--max-size", "1000", "oci:app"],
            "the plain tar is larger than is allowed",
        ),
        (
            &["docker:app"],
            "container images on disk are called oci:DIR",
        ),
    ] {
        let problem = bad(&scratch, &[&["build", "-o", "out"], arguments].concat());
        assert!(problem.contains(text), "{problem}");
    }
    let problem = bad(&scratch, &["build", "-o", "mount.ferofs", "oci:app"]);
    assert!(
        problem.contains("mount.ferofs is no directory"),
        "{problem}"
    );
    assert!(!scratch.join("out").exists());
}

/// Who forgets what container images are called gets what was asked for, but is told.
#[test]
fn what_looks_like_a_container_image_is_pointed_out() {
    let scratch = Scratch::new();
    let made = Layout::new(scratch.join("app"));
    let (host, _) = platforms();
    made.index(&[made.image(&host, &[&tar(0)])]);
    scratch.sh("tar -cf app.tar -C app . && touch app/manifest.json app/repositories");
    scratch.sh("tar -cf docker.tar -C app . && tar -cf other.tar -C app blobs");
    for (input, name) in [
        ("app", Some("oci:app")),
        ("app.tar", Some("oci-archive:app.tar")),
        ("docker.tar", Some("docker-archive:docker.tar")),
        ("other.tar", None),
        ("app/blobs", None),
    ] {
        let expected = name.map_or(String::new(), |name| {
            format!(
                "ferofs: {input}: it looks like a container image; as such it is called {name}\n"
            )
        });
        let (code, _, errors) = ferofs(&scratch, &["build", "-o", "out", input]);
        assert_eq!((code, errors), (0, expected.clone()));
        good(&scratch, &["build", "--quiet", "-o", "out", input]);
        if input.ends_with(".tar") {
            let (code, _, errors) = ferofs(&scratch, &["mount", "-f", input, "/mnt"]);
            assert_eq!((code, errors), (0, expected));
        }
    }
}

/// Lists that Go never made are null; and what refers to an image, or is kept beside it, is none.
#[test]
fn lists_may_be_null_and_artifacts_are_no_images() {
    let scratch = Scratch::new();
    let made = Layout::new(scratch.join("app"));
    let (host, _) = platforms();
    let empty = made.config(&host, &[]);
    let json = format!(
        r#"{{"schemaVersion":2,"config":{{{}}},"layers":null}}"#,
        empty.json
    );
    let null = made.blob(layout::MANIFEST, json.as_bytes());
    made.index(std::slice::from_ref(&null));
    assert_eq!(chosen(&scratch, "oci:app", None), Ok(vec![]));
    let source = format!("oci:app@sha256:{}", null.digest);
    assert_eq!(chosen(&scratch, &source, None), Ok(vec![]));
    good(&scratch, &["build", "-o", "out", "--merge", "m", "oci:app"]);
    let nulls = made.blob(layout::INDEX, br#"{"schemaVersion":2,"manifests":null}"#);
    let source = format!("oci:app@sha256:{}", nulls.digest);
    let problem = chosen(&scratch, &source, None).unwrap_err();
    assert!(problem.contains("there is no image"), "{problem}");

    let id = Ok(vec![Digest::of(&tar(0))]);
    let image = made.image(&host, &[&tar(0)]);
    let config = made.blob("application/vnd.oci.empty.v1+json", b"{}");
    let text = made.blob("text/plain", b"of an image");
    let referrer = made.manifest(&config, std::slice::from_ref(&text));
    let of_image = made.config(&host, &[b"of an image"]);
    let signature = made.manifest(&of_image, &[text]);
    let mut typed = made.image(&host, &[&tar(1)]);
    typed.json += r#","artifactType":"application/vnd.example""#;
    for others in [
        vec![&referrer],
        vec![&signature],
        vec![&typed],
        vec![&typed, &signature, &referrer],
    ] {
        let mut all: Vec<_> = others.into_iter().cloned().collect();
        all.push(image.clone());
        made.index(&all);
        assert_eq!(chosen(&scratch, "oci:app", None), id);
        assert_eq!(chosen(&scratch, "oci:app", Some(&host)), id);
        all.reverse();
        made.index(&all);
        assert_eq!(chosen(&scratch, "oci:app", None), id);
    }
    // Alone it is what was asked for, and that is said of it.
    made.index(&[referrer]);
    let problem = chosen(&scratch, "oci:app", None).unwrap_err();
    assert!(
        problem.contains("application/vnd.oci.empty.v1+json"),
        "{problem}"
    );
}

/// What cannot be mounted anyway is not unpacked first.
#[test]
fn nothing_is_unpacked_for_a_mount_that_cannot_be() {
    let scratch = Scratch::new();
    let made = Layout::new(scratch.join("app"));
    made.index(&[made.image(&platforms().0, &[&tar(0)])]);
    let mount = ["mount", "--cache", "cache", "oci:app", "/nonexistent"];
    let problem = bad(&scratch, &mount);
    assert!(problem.contains("cannot mount oci:app"), "{problem}");
    assert!(!scratch.join("cache").exists(), "{problem}");
}

/// Overlayfs merges the roots of its layers, whatever they say of those below: a layer that hides all has nothing below.
#[test]
fn what_an_opaque_root_hides_is_not_stacked() {
    let (host, _) = platforms();
    let plain = |name: &str| Archive::new().file(name, "x").end();
    let opaque = |name: &str| {
        Archive::new()
            .file(".wh..wh..opq", "")
            .file(name, "x")
            .end()
    };
    for (layers, hides) in [
        ([plain("a"), plain("b"), plain("c")], None),
        ([plain("a"), opaque("b"), plain("c")], Some(2)),
        ([opaque("a"), opaque("b"), opaque("c")], Some(3)),
        ([opaque("a"), plain("b"), plain("c")], None),
    ] {
        let scratch = Scratch::new();
        let made = Layout::new(scratch.join("app"));
        let tars: Vec<_> = layers.iter().map(Vec::as_slice).collect();
        made.index(&[made.image(&host, &tars)]);
        let command = ["mount", "-fv", "--stack", "--cache", "c", "oci:app", "/mnt"];
        let said = good(&scratch, &command);
        match hides {
            None => assert!(!said.contains("hides"), "{said}"),
            Some(number) => {
                let line = format!("oci:app: layer {number} hides all that is below it\n");
                assert!(said.ends_with(&line), "{said}");
            }
        }
    }
}
