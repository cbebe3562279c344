// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Options of `ferofs build` and `mkfs.ferofs`: each has the effect that mkfs.erofs gives it, and
//! nothing else changes. Archives are by GNU tar or made here byte by byte; what is expected is said
//! line by line.

#![allow(missing_docs)]

mod common;

use common::Described;
use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use common::archive::base256;
use common::archive::seal;
use common::description;
use common::description_of_directory;
use erofs_format::Source;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// A directory with the command, under a name of its own, and a tar.
struct Session(Scratch);

impl Session {
    fn new(tar: &[u8]) -> Self {
        let scratch = Scratch::new();
        for name in ["ferofs", "mkfs.erofs"] {
            let binary = env!("CARGO_BIN_EXE_ferofs");
            std::os::unix::fs::symlink(binary, scratch.join(name)).unwrap();
        }
        fs::write(scratch.join("layer.tar"), tar).unwrap();
        Session(scratch)
    }

    fn run(&self, line: &str, stdin: Option<&str>) -> Output {
        let mut words = line.split_whitespace();
        let stdin = match stdin {
            Some(name) => Stdio::from(File::open(self.0.join(name)).unwrap()),
            None => Stdio::null(),
        };
        Command::new(self.0.join(words.next().unwrap()))
            .args(words)
            .current_dir(&self.0.0)
            .stdin(stdin)
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed in silence.
    fn good(&self, line: &str, stdin: Option<&str>) {
        let output = self.run(line, stdin);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && errors.is_empty() && output.stdout.is_empty(),
            "{line}: {errors}"
        );
    }

    /// Runs a command that must fail with this message.
    fn bad(&self, line: &str, message: &str) {
        let output = self.run(line, None);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && errors.contains(message),
            "{line}: {errors}"
        );
        assert!(!self.0.join("out").exists(), "{line}");
    }

    /// Builds an image of the tar as `out` with these options; nothing is wrong with it.
    fn build(&self, options: &str) -> Image {
        self.good(&format!("ferofs build -o out {options} layer.tar"), None);
        self.take(&self.0.join("layer.tar"))
    }

    /// The image `out`, under another name.
    fn take(&self, device: &Path) -> Image {
        fs::rename(self.0.join("out"), self.0.join("image")).unwrap();
        let image = Image::open(&self.0.join("image")).unwrap();
        let sizes = match image.devices().unwrap().len() {
            0 => Vec::new(),
            _ => vec![fs::metadata(device).unwrap().len()],
        };
        assert_eq!(check(&image, &sizes, &mut |_| {}).unwrap().problems, []);
        image
    }

    fn described(&self, image: &Image) -> Vec<Described> {
        description(image, &self.0.join("layer.tar"))
    }

    fn lines(&self, image: &Image) -> Vec<String> {
        self.described(image).iter().map(Described::line).collect()
    }
}

fn layer() -> Vec<u8> {
    let file = |name: &str, uid, gid, mtime| {
        let header = Header::new(name, b'0').owner(uid, gid).mtime(mtime);
        (header.size(4), b"data")
    };
    let mut archive = Archive::new()
        .header(Header::new("./", b'5').owner(0, 0).mtime(1000))
        .header(Header::new("d/", b'5').owner(1, 2).mtime(1000))
        .pax(&[("SCHILY.xattr.user.a", "1")]);
    for (name, uid, gid, mtime) in [
        ("d/a", 1, 2, 1000),
        ("d/b.pyc", 1000, 1000, 2000),
        ("e", 65_534, 7, 3000),
    ] {
        let (header, data) = file(name, uid, gid, mtime);
        archive = archive.with_data(header, data);
    }
    archive
        .hard_link("f", "e")
        .header(Header::new("implied/x/", b'5').owner(0, 0).mtime(1000))
        .end()
}

#[test]
fn owners_are_moved_and_mapped() {
    let session = Session::new(&layer());
    let owners = |options: &str| {
        let image = session.build(options);
        let files = session.described(&image);
        let find = |path: &str| files.iter().find(|file| file.path == path).unwrap().owner;
        [find("/"), find("/d/a"), find("/d/b.pyc"), find("/e")]
    };
    for (options, expected) in [
        ("", [(0, 0), (1, 2), (1000, 1000), (65_534, 7)]),
        ("--all-root", [(0, 0); 4]),
        ("--force-uid=5", [(5, 0), (5, 2), (5, 1000), (5, 7)]),
        (
            "--uid-offset=100000 --gid-offset=10",
            [(100_000, 10), (100_001, 12), (101_000, 1010), (165_534, 17)],
        ),
        (
            "--map-uids=0:100000:65535 --map-gids 0:9:8 --map-gids 1000:0:1",
            [(100_000, 9), (100_001, 11), (101_000, 0), (165_534, 16)],
        ),
        (
            "--force-gid=3 --gid-offset=-3",
            [(0, 0), (1, 0), (1000, 0), (65_534, 0)],
        ),
    ] {
        assert_eq!(owners(options), expected, "{options}");
    }
    for (options, message) in [
        ("--uid-offset=-1", "user or group 0 with offset -1"),
        ("--map-uids=0:0:1000", "user or group 1000 is in none of"),
        ("--map-uids=0:0", "expected three numbers"),
        ("--map-gids=1:4294967295:2", "expected three numbers"),
        ("--all-root --force-uid=1", "cannot be used with"),
    ] {
        session.bad(&format!("ferofs build -o out {options} layer.tar"), message);
    }
}

#[test]
fn what_is_excluded_is_in_no_image() {
    let session = Session::new(&layer());
    let paths = |image: &Image| -> Vec<String> {
        let files = session.described(image).into_iter();
        files.map(|file| file.path).collect()
    };
    let root = session.0.join("root");
    fs::create_dir(&root).unwrap();
    let tar = session.0.join("layer.tar");
    let status = Command::new("tar")
        .args(["--no-same-owner", "-xf"])
        .arg(&tar)
        .arg("-C")
        .arg(&root)
        .status();
    assert!(status.unwrap().success());
    for (options, expected) in [
        (
            "--exclude-path=d",
            vec!["/", "/e", "/f", "/implied", "/implied/x"],
        ),
        (
            "--exclude-path=/d/a/ --exclude-path=e",
            vec!["/", "/d", "/d/b.pyc", "/f", "/implied", "/implied/x"],
        ),
        (
            "--exclude-regex=[.]pyc$ --exclude-regex=^implied/",
            vec!["/", "/d", "/d/a", "/e", "/f", "/implied"],
        ),
        (
            "--exclude-path=a --exclude-regex=/$ --exclude-regex=.",
            vec!["/"],
        ),
    ] {
        assert_eq!(paths(&session.build(options)), expected, "{options}");
        session.good(&format!("ferofs build -o out {options} root"), None);
        assert_eq!(paths(&session.take(&tar)), expected, "{options}");
    }
    session.bad("ferofs build -o out --exclude-regex=( layer.tar", "regex");
}

#[test]
fn times_of_files_and_of_the_image() {
    let session = Session::new(&layer());
    // The time that most files have is 1000.
    let own = [(1000, 0), (1000, 0), (2000, 0), (3000, 0)];
    for (options, times, built) in [
        ("", own, 1000),
        ("-T7", [(7, 0); 4], 7),
        ("-T -7 --all-time", [(-7, 0); 4], -7),
        ("-T5000 --mkfs-time", own, 5000),
        ("-T7 --mkfs-time", own, 7),
        ("-T7 --mkfs-time --ignore-mtime", [(7, 0); 4], 7),
        ("--ignore-mtime", [(1000, 0); 4], 1000),
        ("--preserve-mtime", own, 1000),
        ("-Eforce-inode-compact", [(1000, 0); 4], 1000),
    ] {
        let image = session.build(options);
        let files = session.described(&image);
        let find = |path: &str| files.iter().find(|file| file.path == path).unwrap().mtime;
        let found = [find("/"), find("/d/a"), find("/d/b.pyc"), find("/e")];
        assert_eq!(found, times, "{options}");
        assert_eq!(image.superblock().build_time(), built, "{options}");
    }
    session.bad("ferofs build -o out --mkfs-time layer.tar", "--timestamp");
}

#[test]
fn packages_are_built_with_times_of_their_own() {
    let session = Session::new(&layer());
    let make = |epoch: &str, options: &str| {
        let script = format!(
            "SOURCE_DATE_EPOCH='{epoch}' exec -a mkfs.erofs \"$0\" --tar=f {options} out layer.tar"
        );
        let output = std::process::Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_ferofs")])
            .current_dir(&session.0.0)
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let times = || {
        let image = session.take(&session.0.join("layer.tar"));
        let mut times: Vec<_> = session
            .described(&image)
            .iter()
            .map(|file| file.mtime)
            .collect();
        times.sort_unstable();
        (times, image.superblock().build_time())
    };
    session.good("mkfs.erofs --tar=f out layer.tar", None);
    let (all, _) = times();
    let (first, last) = (all[0], all[all.len() - 1]);
    assert!(first < last, "{all:?}");
    let clamped: Vec<_> = all.iter().map(|time| (first.0 + 1, 0).min(*time)).collect();
    assert_eq!(make(&(first.0 + 1).to_string(), ""), "");
    assert_eq!(times(), (clamped, first.0 + 1));
    assert_eq!(make("1", "-T9000 --mkfs-time"), "");
    assert_eq!(times(), (all, 9000));
    let expected = "ferofs: SOURCE_DATE_EPOCH in the environment is \"soon\", expected seconds";
    assert!(make("soon", "").starts_with(expected));
}

#[test]
fn uuid_and_label() {
    let session = Session::new(&layer());
    let uuid = |options: &str| session.build(options).superblock().uuid();
    assert_eq!(uuid("-Uclear"), [0; 16]);
    let given = "--uuid=123e4567-e89b-12d3-a456-426614174000";
    assert_eq!(uuid(given)[..4], [0x12, 0x3e, 0x45, 0x67]);
    let (one, two) = (uuid("-U random"), uuid("-U random"));
    assert_ne!(one, two);
    assert_eq!((one[6] >> 4, one[8] >> 6), (4, 2));
    assert_eq!(uuid(""), uuid(""));
    let image = session.build("-L system");
    assert_eq!(image.superblock().volume_name(), b"system");
}

/// Of a full image all of it counts, whichever way it is made.
#[test]
fn the_uuid_of_an_image_follows_from_its_data() {
    let of = |data: &[u8; 8192], options: &str| {
        let header = Header::new("f", b'0').size(8192);
        let session = Session::new(&Archive::new().with_data(header, data).end());
        session
            .build(&format!("--mode=full {options}"))
            .superblock()
            .uuid()
    };
    let (one, mut two) = ([7; 8192], [7; 8192]);
    two[5000] = 8;
    for options in ["", "--sort=path", "--chunksize=4096", "--no-inline-data"] {
        assert_eq!(of(&one, options), of(&one, options), "{options}");
        assert_ne!(of(&one, options), of(&two, options), "{options}");
    }
    // What was replaced is not in the image.
    let header = || Header::new("f", b'0').size(8192);
    let twice = |first: &[u8; 8192]| {
        let archive = Archive::new()
            .with_data(header(), first)
            .with_data(header(), &one);
        Session::new(&archive.end())
            .build("--mode=full")
            .superblock()
            .uuid()
    };
    assert_eq!(twice(&one), twice(&two));
}

/// libblkid up to 2.42.4 and fsck.erofs before 1.9 know no image with a checksum in smaller blocks.
#[test]
fn others_know_images_with_small_blocks() {
    let session = Session::new(&layer());
    let sum = |options: &str| session.build(options).superblock().checksum().is_some();
    for (options, expected) in [
        ("", false),
        ("-E sbcrc", true),
        ("-E sbcrc,nosbcrc", false),
        ("--mode=full", true),
        ("--mode=full -E nosbcrc", false),
        ("--mode=full -b 1024", false),
        ("--mode=full -b 2048", true),
    ] {
        assert_eq!(sum(options), expected, "{options}");
    }
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    for options in [
        "",
        "--mode=full -b 1024",
        "--mode=full -b 2048",
        "--mode=full",
    ] {
        session.build(&format!("-L name -U {uuid} {options}"));
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let output = command.args(arguments).current_dir(&session.0.0).output();
            match output {
                Ok(output) => Some(output),
                Err(_) => {
                    eprintln!("skipped: {program} is not installed");
                    None
                }
            }
        };
        if let Some(output) = run("blkid", &["-p", "-o", "export", "image"]) {
            let known = String::from_utf8(output.stdout).unwrap();
            for expected in ["TYPE=erofs", "LABEL=name", &format!("UUID={uuid}")] {
                assert!(
                    known.lines().any(|line| line == expected),
                    "{options}: {known}"
                );
            }
        }
        // It takes no image with blocks of 1024 bytes, by whomever: the superblock would lie behind the first.
        if options.contains("1024") {
            continue;
        }
        let device: &[&str] = match options {
            "" => &["--device=layer.tar"],
            _ => &[],
        };
        if let Some(output) = run("fsck.erofs", &[device, &["image"]].concat()) {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{options}: {} {said}",
                output.status
            );
        }
    }
}

#[test]
fn the_last_of_repeated_options_counts() {
    let session = Session::new(&layer());
    let dump = |options: &str| {
        let line = format!("mkfs.erofs --tar=f --aufs --quiet -Enoinline_data {options} image");
        session.good(&line, Some("layer.tar"));
        let output = session.run("ferofs dump image", None);
        String::from_utf8(output.stdout).unwrap()
    };
    for (options, expected) in [
        ("--quiet --aufs --tar=f", "label:"),
        ("-b4096 -b512", "block size:         512\n"),
        (
            "-U random -U 123e4567-e89b-12d3-a456-426614174000",
            "123e4567-e89b",
        ),
        ("-T0 -T 5", "build time:         1970-01-01 00:00:05\n"),
        ("-L a -L b", "\"b\""),
        ("--sort=none --sort=path", "label:"),
        ("-x1 -x-1", "label:"),
        ("-T0 --mkfs-time --all-time", "label:"),
        ("--ignore-mtime --preserve-mtime", "label:"),
    ] {
        let shown = dump(options);
        assert!(shown.contains(expected), "{options}: {shown}");
    }
}

#[test]
fn the_form_of_an_image_changes_nothing_in_it() {
    let session = Session::new(&layer());
    let expected = session.lines(&session.build(""));
    let mut sizes = Vec::new();
    for options in [
        "",
        "-Eforce-inode-extended",
        "-E48bit",
        "-Enosbcrc,^xattr-name-filter",
        "-x0",
        "-x100",
        "--xattr-prefix=user.",
        "--chunksize=512",
        "--mode=full",
        "--mode=full -Enoinline_data -b512",
        "--mode=full --chunksize=4096",
        "--mode=full --sort=none --align=8192",
        "--mode=full -b1024 -E48bit,force-inode-extended,force-chunk-indexes",
    ] {
        if options.contains("user.") {
            // That is a well-known prefix itself.
            session.bad(
                &format!("ferofs build -o out {options} layer.tar"),
                "--xattr-prefix",
            );
            continue;
        }
        let image = session.build(options);
        assert_eq!(session.lines(&image), expected, "{options}");
        sizes.push(fs::metadata(image.path()).unwrap().len());
    }
    assert!(sizes.iter().any(|size| *size != sizes[0]));
}

#[test]
fn attributes_are_left_out_shared_and_shortened() {
    let same = "the same ".repeat(20);
    let mut archive = Archive::new();
    for number in 0..200 {
        let name = format!("SCHILY.xattr.user.overlay.origin.{number}");
        let value = format!("value {number}");
        archive = archive
            .pax(&[
                ("SCHILY.xattr.user.containers.everywhere", same.as_str()),
                (&name, &value),
            ])
            .file(&format!("file{number}"), "data");
    }
    let tar = archive.file("d/.wh..wh..opq", "").end();
    let session = Session::new(&tar);
    let plain = session.build("-x1000");
    let expected = session.lines(&plain);
    assert_eq!(
        expected
            .iter()
            .filter(|line| line.contains("[user."))
            .count(),
        200
    );
    // 200 times a prefix of 15 bytes is more than a block.
    assert!(plain.superblock().xattr_prefix_count() > 0);
    let size = |image: &Image| fs::metadata(image.path()).unwrap().len();
    let unshared = size(&plain);
    for options in [
        "",
        "-x0",
        "--xattr-prefix=user.overlay. --xattr-prefix=security.x",
    ] {
        let image = session.build(options);
        assert_eq!(session.lines(&image), expected, "{options}");
        // To share what one file has costs room.
        assert!(options == "-x0" || size(&image) < unshared, "{options}");
    }
    for options in ["--no-xattrs", "-x-1", "-x -1 --mode=full"] {
        let found = session.lines(&session.build(options));
        let with: Vec<_> = found.iter().filter(|line| line.contains('[')).collect();
        assert_eq!(with.len(), 1, "{options}");
        assert!(
            with[0].contains("/d [trusted.overlay.opaque=y]"),
            "{with:?}"
        );
    }
    // One or two do not pay.
    let few = Archive::new()
        .pax(&[("SCHILY.xattr.user.overlay.origin", "1")])
        .file("a", "")
        .end();
    let session = Session::new(&few);
    assert_eq!(session.build("").superblock().xattr_prefix_count(), 0);
    let image = session.build("--xattr-prefix=user.overlay.");
    assert_eq!(image.superblock().xattr_prefix_count(), 1);
    assert!(session.lines(&image)[1].ends_with("[user.overlay.origin=1]"));
}

#[test]
fn links_become_files() {
    let session = Session::new(&layer());
    for (options, links) in [("", 2), ("--hard-dereference", 1)] {
        let image = session.build(options);
        for path in [b"/e", b"/f"] {
            assert_eq!(image.find(path).unwrap().nlink(), links, "{options}");
        }
    }
}

#[test]
fn data_in_the_order_of_the_tar() {
    let tar = Archive::new().file("b", "first").file("a", "second").end();
    let session = Session::new(&tar);
    let position = |image: &Image, path: &[u8]| {
        let inode = image.find(path).unwrap();
        match image.extents(&inode).next().unwrap().unwrap().source {
            Source::Device { id: 0, pos } => pos,
            other => panic!("{other:?}"),
        }
    };
    for (order, sorted) in [("path", true), ("none", false)] {
        let image = session.build(&format!("--mode=full --no-inline-data --sort={order}"));
        assert_eq!(
            position(&image, b"/a") < position(&image, b"/b"),
            sorted,
            "{order}"
        );
    }
}

/// mkfs.erofs takes them and does nothing, so a link with its name does as well.
#[test]
fn options_about_data_in_the_image_are_refused_where_there_is_none() {
    let session = Session::new(&layer());
    let root = session.0.join("root");
    fs::create_dir(&root).unwrap();
    let about_data = [
        "--sort=path",
        "--sort=none",
        "--align=4096",
        "--no-inline-data",
    ];
    for mode in ["", "--mode=index", "--mode=meta"] {
        for option in about_data {
            let line = format!("ferofs build -o out {mode} {option}");
            let (name, _) = option.split_once('=').unwrap_or((option, ""));
            let expected = format!("{name} is for images with their data in them");
            session.bad(&format!("{line} layer.tar"), &expected);
            if mode == "--mode=meta" {
                session.bad(&format!("{line} root"), &expected);
            }
        }
    }
    for mode in ["", "--mode=index"] {
        for option in ["-b512", "-b4096", "--block-size=1024"] {
            let line = format!("ferofs build -o out {mode} {option} layer.tar");
            session.bad(&line, "--block-size is for images that are no index");
        }
    }
    let plain = |line: &str| {
        session.good(line, None);
        fs::read(session.0.join("out")).unwrap()
    };
    let expected = plain("mkfs.erofs --tar=i out layer.tar");
    for options in [
        "-b4096",
        "-b512",
        "--sort=path",
        "--sort=none",
        "--dsunit=8",
    ] {
        let line = format!("mkfs.erofs --tar=i {options} out layer.tar");
        assert!(plain(&line) == expected, "{options}");
    }
}

#[test]
fn holes_of_files_in_a_directory_take_no_room() {
    let session = Session::new(b"");
    let root = session.0.join("root");
    fs::create_dir(&root).unwrap();
    let file = File::create(root.join("sparse")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 5 << 20).unwrap();
    file.set_len(9 << 20).unwrap();
    File::create(root.join("hole"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    fs::write(root.join("full"), vec![1; 10_000]).unwrap();
    session.good("ferofs build -o out root", None);
    let image = session.take(&root);
    assert!(fs::metadata(image.path()).unwrap().len() < 200_000);
    let found = session.described(&image);
    let expected = description_of_directory(&root);
    let contents = |files: Vec<Described>| -> Vec<_> {
        let files = files.into_iter();
        files
            .map(|file| (file.path, file.size, file.content))
            .collect()
    };
    assert_eq!(contents(found), contents(expected));
}

#[test]
fn what_alignment_leaves_free_takes_no_room() {
    let mut archive = Archive::new();
    for number in 0..40 {
        archive = archive.file(&number.to_string(), &"x".repeat(5000 + number));
    }
    let session = Session::new(&archive.end());
    let root = session.0.join("root");
    fs::create_dir(&root).unwrap();
    session.0.sh("tar -C root -xf layer.tar");
    let contents = |files: Vec<Described>| -> Vec<_> {
        let files = files.into_iter();
        files
            .map(|file| (file.path, file.size, file.content))
            .collect()
    };
    let expected = contents(description_of_directory(&root));
    for arguments in [
        "layer.tar",
        "--sort=path layer.tar",
        "--chunksize=4096 root",
        "root",
    ] {
        let line = format!("ferofs build --mode=full --align=4194304 -o out {arguments}");
        session.good(&line, None);
        let image = session.take(&session.0.join("layer.tar"));
        let out = fs::metadata(image.path()).unwrap();
        assert!(out.len() > 38 * (4 << 20), "{arguments}: {}", out.len());
        assert!(
            out.blocks() * 512 < 2 << 20,
            "{arguments}: {}",
            out.blocks()
        );
        assert_eq!(contents(session.described(&image)), expected, "{arguments}");
    }
}

/// Enough data to be written past the page cache, and in a tree of its own before and behind it.
#[test]
fn much_data_is_all_there() {
    let large: Vec<u8> = (0..6_000_001_u32).flat_map(|at| at.to_le_bytes()).collect();
    let mut archive = Archive::new().file("a", "small");
    for name in ["b/one", "b/two", "c"] {
        let header = Header::new(name, b'0').size(large.len() as u64);
        archive = archive.with_data(header, &large);
    }
    let session = Session::new(&archive.file("d", &"x".repeat(5000)).end());
    let expected = session.lines(&session.build(""));
    for options in [
        "--mode=full",
        "--mode=full --sort=path",
        "--mode=full -b512 --no-inline-data --chunksize=1048576",
    ] {
        assert_eq!(
            session.lines(&session.build(options)),
            expected,
            "{options}"
        );
    }
    let tar = Some("layer.tar");
    session.good("ferofs build --mode=full -o out -", tar);
    let image = session.take(Path::new(""));
    assert_eq!(session.lines(&image), expected);
}

/// The command lines of containerd's EROFS differ and snapshotter, through a link.
#[test]
fn what_container_runtimes_run() {
    let tar = Archive::new()
        .file("etc/.wh.gone", "")
        .file("opt/.wh..wh..opq", "")
        .file("opt/new", "new")
        .end();
    let session = Session::new(&tar);
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    let expected = session.lines(&session.build(""));
    assert_eq!(expected.len(), 5);
    assert!(
        expected[2].starts_with("c0000 1 1000:100 1700000000 0,0 /etc/gone"),
        "{expected:?}"
    );
    assert!(
        expected[3].ends_with("/opt [trusted.overlay.opaque=y]"),
        "{expected:?}"
    );
    let mut images = Vec::new();
    for (mode, stdin) in [("f", true), ("f", false), ("i", true), ("i", false)] {
        let input = if stdin { "" } else { " layer.tar" };
        let line = format!(
            "mkfs.erofs --tar={mode} --aufs --quiet -Enoinline_data -b4096 -U {uuid} out{input}"
        );
        session.good(&line, stdin.then_some("layer.tar"));
        let image = session.take(&session.0.join("layer.tar"));
        assert_eq!(session.lines(&image), expected, "{line}");
        assert_eq!(image.superblock().uuid()[0], 0x12);
        assert_eq!(
            image.superblock().block_size(),
            if mode == "f" { 4096 } else { 512 }
        );
        images.push(fs::read(image.path()).unwrap());
    }
    assert_eq!(images[0], images[1]);
    // What is the default, said.
    let line =
        format!("mkfs.erofs --clean=data --tar=f --aufs -Enoinline_data -U {uuid} out layer.tar");
    session.good(&line, None);
    let image = session.take(&session.0.join("layer.tar"));
    assert_eq!(fs::read(image.path()).unwrap(), images[0]);

    // Several layers with their data, as one.
    fs::write(session.0.join("one.erofs"), &images[0]).unwrap();
    let base = Archive::new().file("opt/old", "old").file("etc/gone", "x");
    fs::write(session.0.join("base.tar"), base.end()).unwrap();
    session.good(
        "mkfs.erofs --tar=f --quiet -Enoinline_data base.erofs base.tar",
        None,
    );
    session.good(
        "mkfs.erofs --aufs --ovlfs-strip=1 --quiet out base.erofs one.erofs",
        None,
    );
    fs::rename(session.0.join("out"), session.0.join("merged.erofs")).unwrap();
    let image = Image::open(&session.0.join("merged.erofs")).unwrap();
    let blobs = ["base.erofs", "one.erofs"].map(|name| session.0.join(name));
    let lines: Vec<_> = common::description_over(&image, &blobs)
        .iter()
        .map(Described::line)
        .collect();
    let opt = [
        "d0755 2 0:0 1700000000 /etc",
        "d0755 2 0:0 1700000000 /opt",
        "-0644 1 1000:100 1700000000 3 /opt/new = new",
    ];
    assert_eq!(lines[1..], opt);

    let help = session.run("mkfs.erofs --help", None);
    assert!(String::from_utf8(help.stdout).unwrap().contains("--tar="));
    for (arguments, message) in [
        (
            "-zlz4 --tar=i out layer.tar",
            "-z is for images with their data in them",
        ),
        ("-zlz4 out base.erofs", "-z: what is merged stays as it is"),
        ("-zlz5 --tar=f out layer.tar", "\"lz5\" is no algorithm"),
        ("-zlz4,9 --tar=f out layer.tar", "lz4 has no levels"),
        (
            "-zlz4hc,13 --tar=f out layer.tar",
            "level 13 of lz4hc, expected 0 to 12",
        ),
        ("-zzstd,level=x --tar=f out layer.tar", "\"level=x\""),
        (
            "-zzstd,dictsize=5000 --tar=f out layer.tar",
            "dictsize 5000 of zstd",
        ),
        ("-C 65536 --tar=f out layer.tar", "--compress"),
        (
            "-zlz4 -C 5000 --tar=f out layer.tar",
            "physical cluster of 5000 bytes, expected a multiple",
        ),
        ("-zlz4 -C 2097152 --tar=f out layer.tar", "up to 1048576"),
        (
            "-zlz4 --chunksize=4096 --tar=f out layer.tar",
            "--chunksize and -z",
        ),
        (
            "--compress-hints=x --tar=f out layer.tar",
            "--compress-hints is not supported",
        ),
        ("--clean=rvsp out layer.tar", "--clean is not supported"),
        (
            "--incremental=rvsp out layer.tar",
            "--incremental is not supported",
        ),
        (
            "--tar=f -Ededupe out layer.tar",
            "-E dedupe is about compressed data: it needs -z",
        ),
        (
            "--tar=f -Elegacy-compress out layer.tar",
            "-E legacy-compress",
        ),
        (
            "--tar=f -Ewhatever out layer.tar",
            "-E whatever is not supported",
        ),
        (
            "--tar=x out layer.tar",
            "[possible values: f, i, headerball]",
        ),
        ("--blobdev=x out layer.tar", "--blobdev is not supported"),
        ("--whatever out layer.tar", "'--whatever'"),
        ("--tar=f --chunksize=512 out layer.tar", "less than a block"),
        ("out layer.tar", "use --tar=f or --tar=i"),
        ("--tar=f out layer.tar more", "what is more?"),
    ] {
        session.bad(&format!("mkfs.erofs {arguments}"), message);
    }
}

#[test]
fn an_archive_of_headers_only() {
    let headers = |data: &[u8]| {
        let file = |name: &str| Header::new(name, b'0').size(4096).block();
        let block = |archive: Archive, name| archive.block(file(name)).data(data);
        block(block(Archive::new(), "a"), "b").end()
    };
    let session = Session::new(&headers(b""));
    session.good("mkfs.erofs --tar=headerball --quiet out layer.tar", None);
    let image = session.take(Path::new(""));
    assert_eq!(session.lines(&image).len(), 3);
    for path in [b"/a", b"/b"] {
        let inode = image.find(path).unwrap();
        assert_eq!(inode.size(), 4096);
        let extent = image.extents(&inode).next().unwrap().unwrap();
        assert_eq!((extent.source, extent.len), (Source::Hole, 4096));
    }
    session.bad(
        "ferofs build -o out --headers-only --mode=full layer.tar",
        "--mode",
    );
    session.bad("ferofs build -o out layer.tar", "layer.tar");
}

/// Files of terabytes, beyond what 32 bits of 512-byte blocks can address.
#[test]
fn blobs_of_more_than_two_tebibytes() {
    const HUGE: u64 = (3 << 40) + 5;
    let session = Session::new(b"");
    let header = |name: &str, size: u64| {
        let mut block = Header::new(name, b'0').block();
        block[124..136].copy_from_slice(&base256(i64::try_from(size).unwrap(), 12));
        seal(&mut block);
        block
    };
    let file = File::create(session.0.join("layer.tar")).unwrap();
    file.write_all_at(&header("huge", HUGE), 0).unwrap();
    file.write_all_at(b"start", 512).unwrap();
    let last = 512 + HUGE - 5;
    file.write_all_at(b"close", last).unwrap();
    let next = (512 + HUGE).next_multiple_of(512);
    file.write_all_at(&header("behind", 6), next).unwrap();
    file.write_all_at(b"behind", next + 512).unwrap();
    file.set_len(next + 2048).unwrap();
    let image = session.build("--quiet");
    assert!(image.superblock().incompat() & erofs_format::ondisk::incompat::LAYOUT_48BIT != 0);
    let extents = |path: &[u8]| -> Vec<_> {
        let inode = image.find(path).unwrap();
        let extents = image.extents(&inode).map(|extent| {
            let extent = extent.unwrap();
            (extent.start, extent.len, extent.source)
        });
        extents.collect()
    };
    let at = |pos| Source::Device { id: 1, pos };
    assert_eq!(extents(b"/huge"), [(0, HUGE, at(512))]);
    assert_eq!(extents(b"/behind"), [(0, 6, at(next + 512))]);
    assert_eq!(image.devices().unwrap()[0].blocks, (next + 2048) / 512);
    let output = session.run("ferofs cat --device layer.tar image /behind", None);
    assert_eq!(output.stdout, b"behind");
}

/// Each has block numbers of 32 bits, but not all together, as they follow the image in one file.
#[test]
fn blobs_that_are_more_than_two_tebibytes_together() {
    const HALF: u64 = 3 << 39;
    let session = Session::new(b"");
    let mut block = Header::new("huge", b'0').block();
    block[124..136].copy_from_slice(&base256(i64::try_from(HALF).unwrap(), 12));
    seal(&mut block);
    let file = File::create(session.0.join("layer.tar")).unwrap();
    file.write_all_at(&block, 0).unwrap();
    file.set_len(512 + HALF + 1024).unwrap();
    let wide = |image: &Image| {
        image.superblock().incompat() & erofs_format::ondisk::incompat::LAYOUT_48BIT != 0
    };
    assert!(!wide(&session.build("--quiet")));
    session.good("ferofs build --quiet -o first layer.tar", None);
    session.good("ferofs build --quiet -o second layer.tar", None);
    session.good("ferofs merge --quiet -o out first second", None);
    session.good("ferofs check --quiet out", None);
    assert!(wide(&Image::open(&session.0.join("out")).unwrap()));
}

#[test]
fn whiteouts_of_directories_and_of_merged_layers() {
    let session = Session::new(b"");
    fs::create_dir_all(session.0.join("root/d")).unwrap();
    fs::write(session.0.join("root/.wh.gone"), "").unwrap();
    fs::write(session.0.join("root/d/.wh..wh..opq"), "").unwrap();
    let short = |image: &Image| -> Vec<String> {
        let files = session.described(image).into_iter();
        files
            .map(|file| format!("{}{} {}", file.kind, file.path, file.xattrs.join(" ")))
            .collect()
    };
    let aufs = ["d/ ", "-/.wh.gone ", "d/d ", "-/d/.wh..wh..opq "];
    let overlay = [
        "d/ trusted.overlay.origin=",
        "d/d trusted.overlay.opaque=y",
        "c/gone ",
    ];
    let applied = ["d/ ", "d/d "];
    for (options, expected) in [
        ("", &aufs[..]),
        ("--whiteouts=keep", &aufs),
        ("--whiteouts=aufs", &aufs),
        ("--whiteouts=overlay", &overlay),
        ("--whiteouts=applied", &applied),
    ] {
        session.good(&format!("ferofs build -o out {options} root"), None);
        assert_eq!(short(&session.take(Path::new(""))), expected, "{options}");
    }
    session.good("ferofs build --no-inline-data -o layer root", None);
    for (options, expected) in [
        ("", &applied[..]),
        ("--ovlfs-strip", &applied),
        ("--ovlfs-strip=0", &overlay),
        ("--whiteouts=overlay", &overlay),
        ("--whiteouts=aufs", &aufs),
    ] {
        session.good(&format!("ferofs merge -o out {options} layer"), None);
        assert_eq!(short(&session.take(Path::new(""))), expected, "{options}");
    }
}

/// Attributes of files in a directory, larger ones and many, on a filesystem that has them.
#[test]
fn attributes_of_files_in_a_directory() {
    let session = Session::new(b"");
    fs::create_dir(session.0.join("root")).unwrap();
    fs::write(session.0.join("root/file"), "").unwrap();
    let large = "x".repeat(2000);
    let script = "import os, sys\n\
                  for number in range(40): os.setxattr('root/file', f'user.number.{number}', b'v')\n\
                  os.setxattr('root/file', 'user.large', sys.argv[1].encode())";
    let set = Command::new("python3")
        .args(["-c", script, &large])
        .current_dir(&session.0.0)
        .output()
        .unwrap();
    if String::from_utf8_lossy(&set.stderr).contains("Operation not supported") {
        // Nothing to be seen here.
        return;
    }
    assert!(set.status.success(), "{set:?}");
    session.good("ferofs build -o out root", None);
    let image = session.take(Path::new(""));
    let file = &session.described(&image)[1];
    assert_eq!(file.xattrs.len(), 41);
    assert_eq!(file.xattrs[0], format!("user.large={large}"));
    assert_eq!(file.xattrs[40], "user.number.9=v");
}

#[test]
fn numbers_that_are_none_are_said_in_words() {
    let session = Session::new(&layer());
    for (options, message) in [
        (
            "-T yesterday",
            "'yesterday' for '--timestamp <SECONDS>': expected a whole number",
        ),
        ("--force-uid 4294967296", "it is too large"),
        ("--force-gid 4294967295", "expected 0 to 4294967294"),
        ("--force-gid -1", "-1"),
        ("-x 1.5", "'-x <COUNT>': expected a whole number"),
        ("--gid-offset -9999999999999999999", "it is too small"),
    ] {
        session.bad(&format!("ferofs build -o out {options} layer.tar"), message);
    }
}

/// Chunks that are equal are in the image once, whichever file and way they come from.
#[test]
fn equal_chunks_are_stored_once() {
    let bytes = |seed: u64, len: usize| -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    };
    let (one, two) = (bytes(1, 200_000), bytes(2, 4096));
    let session = Session::new(&[]);
    let root = session.0.join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), &one).unwrap();
    fs::hard_link(root.join("a"), root.join("a again")).unwrap();
    fs::write(
        root.join("b"),
        [two.as_slice(), &one, &two, b"end"].concat(),
    )
    .unwrap();
    fs::write(root.join("c"), [&one[8192..12288], b"e"].concat()).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(&two, 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::hard_link(root.join("sparse"), root.join("sparse again")).unwrap();
    let pack = |name: &str| {
        session.0.sh(&format!(
            "tar --sparse --sort=name -cf {name} root --transform=s,^root,.,"
        ));
    };
    pack("layer.tar");
    // In the archive, "b" was something else before; nothing of that stays.
    fs::write(root.join("b"), bytes(3, 100_000)).unwrap();
    pack("before.tar");
    let both = ["before.tar", "layer.tar"].map(|name| fs::read(session.0.join(name)).unwrap());
    let end = both[0].len() - both[0].iter().rev().take_while(|byte| **byte == 0).count();
    let before = &both[0][..end.next_multiple_of(512)];
    fs::write(session.0.join("replaced.tar"), [before, &both[1]].concat()).unwrap();
    fs::write(
        root.join("b"),
        [two.as_slice(), &one, &two, b"end"].concat(),
    )
    .unwrap();
    let plain = session.build("--mode=full --all-root -T7");
    let (expected, without) = (session.lines(&plain), plain.size());
    for (input, options) in [
        ("layer.tar", ""),
        ("layer.tar", "--sort=path"),
        ("layer.tar", "--exclude-path=none"),
        ("layer.tar", "-b512"),
        ("replaced.tar", ""),
        ("root", ""),
    ] {
        let options = format!("--mode=full --all-root -T7 --chunksize=4096 {options}");
        session.good(&format!("ferofs build -o out {options} {input}"), None);
        let image = session.take(&session.0.join("layer.tar"));
        let found = session.lines(&image);
        assert_eq!(found, expected, "{options} {input}");
        let blocks = fs::metadata(image.path()).unwrap().blocks() * 512;
        let saved = without.saturating_sub(blocks);
        assert!(saved > 190_000, "{options} {input}: {blocks} of {without}");
    }
    // Chunks too large to be compared.
    session.good(
        "ferofs build -o out --mode=full --chunksize=33554432 root",
        None,
    );
    session.take(&session.0.join("layer.tar"));
}
