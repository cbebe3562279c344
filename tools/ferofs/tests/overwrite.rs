// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Nothing that a command reads is lost by what it writes, whatever name or link leads there; and what cannot be
//! written whole is not there.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::layout;
use common::layout::Layout;
use common::program::ferofs;
use common::program::run;
use ferofs::digest::Digest;
use ferofs::oci::Platform;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;

fn tar(text: &str) -> Vec<u8> {
    Archive::new()
        .directory("./")
        .file("./file", text)
        .file("./image", "a file of this name")
        .end()
}

/// Every file below a directory with what is in it, links as such.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_path_buf()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(name, target.display().to_string().into_bytes());
            } else if metadata.is_dir() {
                left.push(path);
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A directory with tars, images, container images of all kinds, and other ways to some of them.
fn prepared() -> (Scratch, [String; 2], Vec<String>) {
    let scratch = Scratch::new();
    let tars = [tar("first"), tar("second")];
    fs::write(scratch.join("a.tar"), &tars[0]).unwrap();
    let made = Layout::new(scratch.join("app"));
    let platform = Platform::of_this_machine().to_string();
    let layers = [
        made.blob(layout::LAYER, &tars[0]),
        made.blob(layout::LAYER_GZIP, &layout::gzip(&tars[1])),
    ];
    let config = made.config(&platform, &[&tars[0], &tars[1]]);
    made.index(&[made.manifest(&config, &layers)]);
    let ids = tars.map(|tar| Digest::of(&tar).to_string());
    let saved = format!(
        r#"[{{"Config":"blobs/sha256/{}","Layers":["blobs/sha256/{}","blobs/sha256/{}"]}}]"#,
        config.digest, layers[0].digest, layers[1].digest
    );
    fs::write(scratch.join("app/manifest.json"), saved).unwrap();
    scratch.sh("tar -cf app.tar -C app . && cp app.tar docker.tar");
    for command in [
        &["build", "-o", "image", "a.tar"][..],
        &["build", "-o", "full", "--mode=full", "a.tar"],
        &["build", "-o", "out", "oci:app"],
    ] {
        assert_eq!(ferofs(&scratch, command).0, 0, "{command:?}");
    }
    fs::create_dir(scratch.join("dir")).unwrap();
    fs::write(scratch.join("dir/file"), "in a directory").unwrap();
    for (target, link) in [
        ("a.tar", "link"),
        ("link", "link-to-link"),
        (".", "here"),
        ("app", "other-app"),
        ("dir", "other-dir"),
    ] {
        symlink(target, scratch.join(link)).unwrap();
    }
    fs::hard_link(scratch.join("a.tar"), scratch.join("hard")).unwrap();
    let blobs = fs::read_dir(scratch.join("app/blobs/sha256")).unwrap();
    let blobs = blobs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let blobs: Vec<_> = blobs.collect();
    assert_eq!(blobs.len(), 4);
    (scratch, ids, blobs)
}

#[test]
fn no_output_is_an_input() {
    let (scratch, ids, blobs) = prepared();
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut add = |command: &str| {
        commands.push(command.split(' ').map(str::to_string).collect());
    };
    for name in [
        "a.tar",
        "./a.tar",
        "link",
        "link-to-link",
        "hard",
        "here/a.tar",
        "here/link",
    ] {
        add(&format!("build -o {name} a.tar"));
        add(&format!("build -o new --tar-out {name} a.tar"));
        add(&format!("build -o {name} --mode=full link-to-link"));
    }
    for (one, two) in [
        ("new", "new"),
        ("new", "./new"),
        ("new", "here/new"),
        ("dir/new", "other-dir/new"),
        ("hard", "a.tar"),
        ("image", "here/image"),
    ] {
        add(&format!("build -o {one} --tar-out {two} full"));
        add(&format!("build -o {one} --tar-out {two} app.tar"));
    }
    for name in ["dir/file", "other-dir/file", "here/dir/file"] {
        add(&format!("build -o {name} dir"));
        add(&format!("build -o {name} --mode=meta other-dir"));
    }
    for (archive, kind) in [("app.tar", "oci-archive"), ("docker.tar", "docker-archive")] {
        for name in [archive.to_string(), format!("here/{archive}")] {
            add(&format!("build -o out --merge {name} {kind}:{archive}"));
            add(&format!(
                "build -o new --merge {name} {kind}:here/{archive}"
            ));
        }
    }
    let mut of_layout: Vec<_> = blobs
        .iter()
        .map(|blob| format!("app/blobs/sha256/{blob}"))
        .collect();
    of_layout.extend(["app/index.json".to_string(), "app/oci-layout".to_string()]);
    for name in of_layout {
        for name in [
            name.clone(),
            format!("here/{name}"),
            format!("other-{name}"),
        ] {
            add(&format!("build -o out --merge {name} oci:app"));
            add(&format!("build -o new --merge {name} oci:app"));
        }
    }
    // The layers of the same image, those that are there and those that are made now.
    for id in &ids {
        for name in [format!("{id}.erofs"), format!("{id}.tar")] {
            add(&format!("build -o out --merge out/{name} oci:app"));
            add(&format!("build -o out --merge here/out/{name} oci:app"));
        }
        fs::create_dir_all(scratch.join("empty")).unwrap();
        add(&format!("build -o empty --merge empty/{id}.erofs oci:app"));
    }
    add(&format!(
        "build -o empty --merge here/empty/{}.tar oci:app",
        ids[1]
    ));
    for name in ["image", "here/image"] {
        add(&format!("merge -o {name} image"));
        add(&format!("merge -o {name} here/image full"));
    }
    add("check --extract . --force image --device a.tar");
    add("check --extract here --force here/image --device a.tar");
    let before = contents(&scratch.0);
    for command in &commands {
        let arguments: Vec<_> = command.iter().map(String::as_str).collect();
        let (code, _, errors) = ferofs(&scratch, &arguments);
        assert!(code != 0 && !errors.is_empty(), "{command:?}");
        if command[0] == "check" {
            // It stops there; what it made until then stays.
            for name in ["file", "empty"] {
                let _ = fs::remove_file(scratch.join(name));
            }
        }
        let after = contents(&scratch.0);
        for (name, content) in &before {
            assert!(
                after.get(name) == Some(content),
                "{command:?}: {name}: {errors}"
            );
        }
        let new: Vec<_> = after
            .keys()
            .filter(|name| !before.contains_key(*name))
            .collect();
        assert!(new.is_empty(), "{command:?}: {new:?}");
        let reasons = ["overwritten", "the same", "is a file of the input"];
        let of_tar = ["no tar", "checksum", "EROFS image"];
        assert!(
            reasons
                .iter()
                .chain(&of_tar)
                .any(|reason| errors.contains(reason)),
            "{command:?}: {errors}"
        );
    }
    // From standard input.
    for name in ["a.tar", "link", "hard"] {
        let script = format!(
            "! {} build -o {name} - < a.tar",
            env!("CARGO_BIN_EXE_ferofs")
        );
        scratch.sh(&script);
        assert_eq!(contents(&scratch.0), before);
    }
}

/// A link in the place of what a container image's layer is unpacked to is replaced, and not followed.
#[test]
fn layers_are_not_written_through_links() {
    for target in ["app/precious", "nowhere/at/all", "app"] {
        let (scratch, ids, _) = prepared();
        fs::remove_dir_all(scratch.join("out")).unwrap();
        fs::create_dir(scratch.join("out")).unwrap();
        fs::write(scratch.join("app/precious"), "precious").unwrap();
        for id in &ids {
            for name in ["tar", "erofs"] {
                let link = scratch.join(&format!("out/{id}.{name}"));
                symlink(Path::new("..").join(target), link).unwrap();
            }
        }
        let app = contents(&scratch.join("app"));
        let (code, _, errors) = ferofs(&scratch, &["build", "-o", "out", "oci:app"]);
        assert_eq!(code, 0, "{errors}");
        assert_eq!(contents(&scratch.join("app")), app);
        for (id, text) in ids.iter().zip(["first", "second"]) {
            assert!(fs::read(scratch.join(&format!("out/{id}.tar"))).unwrap() == tar(text));
            assert!(!scratch.join(&format!("out/{id}.erofs")).is_symlink());
        }
        assert!(!scratch.join(&format!("out/{}.tar", ids[1])).is_symlink());
    }
}

/// Links that others put into their directories lead root nowhere.
#[test]
fn root_follows_no_links_of_others() {
    let (scratch, ..) = prepared();
    fs::write(scratch.join("precious"), "precious").unwrap();
    fs::create_dir(scratch.join("theirs")).unwrap();
    symlink("../precious", scratch.join("theirs/link")).unwrap();
    symlink("..", scratch.join("theirs/up")).unwrap();
    if fs::metadata(&scratch.0).unwrap().uid() != 0 {
        return;
    }
    for name in ["theirs", "theirs/link", "theirs/up"] {
        std::os::unix::fs::lchown(scratch.join(name), Some(1000), Some(1000)).unwrap();
    }
    for arguments in [
        &["build", "-o", "theirs/link", "a.tar"][..],
        &["build", "-o", "theirs/up/precious", "a.tar"],
        &["build", "-o", "theirs/up/new", "a.tar"],
        &["build", "-o", "theirs/up/new", "oci:app"],
        &["build", "-o", "new", "--merge", "theirs/link", "oci:app"],
        &["merge", "-o", "theirs/link", "image"],
        &["check", "--extract", "theirs/up/new", "full"],
        &["check", "--extract", "theirs/up", "--force", "full"],
    ] {
        let (code, _, errors) = ferofs(&scratch, arguments);
        assert_ne!(code, 0, "{arguments:?}");
        assert!(
            errors.contains("is a symbolic link of user 1000"),
            "{arguments:?}: {errors}"
        );
        assert_eq!(fs::read(scratch.join("precious")).unwrap(), b"precious");
        assert!(!scratch.join("new").exists(), "{arguments:?}");
    }
    // Its own it does follow, and there is nothing wrong with their directory.
    symlink("../ours", scratch.join("theirs/ours")).unwrap();
    let (code, _, errors) = ferofs(&scratch, &["build", "-o", "theirs/ours", "a.tar"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(scratch.join("ours").is_file());
}

/// In a cache that others may write to, they could have put anything.
#[test]
fn root_uses_no_cache_of_others() {
    let (scratch, ..) = prepared();
    if fs::metadata(&scratch.0).unwrap().uid() != 0 {
        return;
    }
    let mount = ["mount", "-f", "--cache", "cache", "oci:app", "/mnt"];
    for (owner, mode, good) in [
        (0, 0o700, true),
        (0, 0o755, true),
        (1000, 0o700, false),
        (0, 0o775, false),
        (0, 0o777, false),
        (0, 0o1777, false),
    ] {
        let cache = scratch.join("cache");
        fs::create_dir(&cache).unwrap();
        scratch.sh(&format!("chmod {mode:o} cache && chown {owner} cache"));
        let (code, _, errors) = ferofs(&scratch, &mount);
        assert_eq!(code == 0, good, "{owner} {mode:o}: {errors}");
        if !good {
            assert!(errors.contains("is no cache for root"), "{errors}");
            assert!(contents(&cache).is_empty());
        }
        // As a place for the layers it will do, but what is there is not believed.
        let build = ["build", "-o", "cache", "oci:app"];
        assert_eq!(ferofs(&scratch, &build).0, 0);
        let made = |name: &std::ffi::OsStr| fs::metadata(cache.join(name)).unwrap().ino();
        let indexes = |path: &Path| -> BTreeMap<_, _> {
            let names = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let names = names.filter(|name| name.to_string_lossy().ends_with(".erofs"));
            names.map(|name| (made(&name), name)).collect()
        };
        let before = indexes(&cache);
        assert_eq!(ferofs(&scratch, &build).0, 0);
        assert_eq!(indexes(&cache) == before, good, "{owner} {mode:o}");
        fs::remove_dir_all(cache).unwrap();
    }
}

/// A full disk, in so far as a limit of files' sizes is one.
#[test]
fn nothing_is_half_written_on_a_full_disk() {
    let (scratch, ..) = prepared();
    let large = Archive::new().file("./large", &"0123456789".repeat(50_000));
    let mut large = large;
    for number in 0..2000 {
        large = large.file(&format!("./a-name-of-some-length-{number}"), "");
    }
    let large = large.end();
    fs::write(scratch.join("large.tar"), &large).unwrap();
    scratch.sh("gzip -k large.tar && mkdir tree && tar -xf large.tar -C tree");
    let made = Layout::new(scratch.join("large"));
    let config = made.config(&Platform::of_this_machine().to_string(), &[&large]);
    let layer = made.blob(layout::LAYER_GZIP, &layout::gzip(&large));
    made.index(&[made.manifest(&config, &[layer])]);
    let (code, _, errors) = ferofs(&scratch, &["build", "-o", "sound", "large.tar"]);
    assert_eq!(code, 0, "{errors}");
    fs::write(scratch.join("old"), "old").unwrap();
    let before = contents(&scratch.0);
    let program = env!("CARGO_BIN_EXE_ferofs");
    for arguments in [
        "build -o new large.tar",
        "build -o old large.tar",
        "build -o new --digest large.tar",
        "build -o new --mode=full large.tar",
        "build -o new --mode=full --sort=path large.tar.gz",
        "build -o new --tar-out new.tar large.tar.gz",
        "build -o old --tar-out new.tar large.tar.gz",
        "build -o new tree",
        "build -o new oci:large",
        "build -o new --merge old oci:large",
        "merge -o old sound",
        "mount -f --cache new oci:large /mnt",
    ] {
        // 40 KiB, in blocks of 512 bytes.
        let script = format!("trap '' XFSZ; ulimit -f 80; exec {program} {arguments}");
        let (code, out, errors) = run("sh", &scratch, &["-c", &script]);
        assert_eq!((code, out.as_str()), (1, ""), "{arguments}: {errors}");
        assert!(errors.contains("File too large"), "{arguments}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(contents(&scratch.0) == before, "{arguments}");
        assert!(!scratch.join("new").exists(), "{arguments}");
    }
}
