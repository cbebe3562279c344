// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Upper directories as layers: each case is a directory, made by a shell, and what Python's tarfile and GNU tar, and this
//! crate, read of the layer. The tests run without privileges, too, so the attributes are those of `userxattr`; the same of
//! real overlays is in tests/mount/commit.sh.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::index_both_ways;
use common::program::ferofs;
use ferofs::commit::Compression;
use ferofs::commit::Options;
use ferofs::commit::write_layer;
use ferofs::digest::Digest;
use ferofs::error::Kind;
use ferofs::output::Output;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Prints each entry as Python's tarfile has it.
const LIST: &str = r#"
import sys, tarfile, hashlib
shown = lambda text: text.encode("utf-8", "surrogateescape").decode("latin-1").encode("unicode_escape").decode()
archive = tarfile.open(sys.argv[1])
for m in archive:
    what = {b"0": "f", b"1": "h", b"2": "l", b"3": "c", b"4": "b", b"5": "d", b"6": "p"}[m.type]
    line = f"{what}{m.mode:04o} {shown(m.name)}"
    if what in "hl": line += f" -> {shown(m.linkname)}"
    if what in "cb": line += f" {m.devmajor},{m.devminor}"
    if what == "f" and m.size:
        data = archive.extractfile(m).read()
        assert len(data) == m.size
        line += f" = {shown(data.decode())}" if m.size < 40 else f" {m.size} {hashlib.sha256(data).hexdigest()}"
    time = m.pax_headers.get("mtime", str(int(m.mtime)))
    if time not in ("0", "7"): line += f" @{time}"
    for key, value in m.pax_headers.items():
        if key.startswith("SCHILY.xattr."): line += f" [{shown(key[13:])}={shown(value)}]"
    print(line)
"#;

/// A directory to commit. Its files get one time; what is set behind that stays.
fn upper(script: &str, then: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.sh(&format!(
        "umask 022; mkdir upper; cd upper; {script}\nfind . -exec touch -hd @7 {{}} +; {then}"
    ));
    scratch
}

fn options() -> Options {
    Options::default().with_userxattr(true)
}

fn written(scratch: &Scratch, options: &Options) -> (Vec<u8>, Vec<String>) {
    let mut layer = Vec::new();
    let upper = scratch.join("upper");
    let summary = write_layer(&upper, options, &mut layer, Path::new("out"), &mut |_| {}).unwrap();
    assert_eq!(summary.digest, Digest::of(&layer));
    assert_eq!(summary.size, layer.len() as u64);
    let root = scratch.0.to_str().unwrap();
    let notes = summary.notes.into_iter();
    (layer, notes.map(|note| note.replace(root, "")).collect())
}

/// Commits a directory; returns what the layer has, and the notes.
fn layer(scratch: &Scratch) -> (String, Vec<String>) {
    let (layer, notes) = written(scratch, &options());
    fs::write(scratch.join("layer.tar"), &layer).unwrap();
    fs::write(scratch.join("list.py"), LIST).unwrap();
    let list = scratch.sh("python3 list.py layer.tar");
    // GNU tar sees as many, and has nothing to say of it but that it does not know "hdrcharset".
    let theirs = scratch.sh("tar --warning=no-unknown-keyword -tf layer.tar 2>&1");
    assert_eq!(theirs.lines().count(), list.lines().count(), "{theirs}");
    (list, notes)
}

/// The error of committing a directory.
fn refusal(scratch: &Scratch) -> (Kind, String) {
    let mut out = Vec::new();
    let upper = scratch.join("upper");
    let error = write_layer(&upper, &options(), &mut out, Path::new("out"), &mut |_| {});
    let error = error.unwrap_err();
    let root = scratch.0.to_str().unwrap();
    (error.kind(), error.to_string().replace(root, ""))
}

/// What there is a shell function for: attributes, whose values are Python's bytes.
const XATTR: &str = r#"
    xattr() { python3 -c 'import os,sys; os.setxattr(sys.argv[1], sys.argv[2], eval("b\""+sys.argv[3]+"\""), follow_symlinks=False)' "$@"; }
"#;

#[test]
fn each_kind_of_change_has_its_entry() {
    let cases: [(&str, &str, &str); 12] = [
        ("nothing", "", ""),
        (
            "files and directories",
            "mkdir -m 2750 etc; echo hello >etc/motd; chmod 4711 etc/motd; : >etc/empty",
            "d2750 etc\nf0644 etc/empty\nf4711 etc/motd = hello\\n\n",
        ),
        (
            "order: by bytes, parents first",
            "mkdir b a a-b; : >a/z; : >a/A; : >a-b/c; : >'a b'",
            "d0755 a\nf0644 a/A\nf0644 a/z\nf0644 a b\nd0755 a-b\nf0644 a-b/c\nd0755 b\n",
        ),
        (
            "whiteouts",
            "mkdir d; mknod d/gone c 0 0; mknod top c 0 0; ln top d/same",
            "d0755 d\nf0644 d/.wh.gone\nf0644 d/.wh.same\nf0644 .wh.top\n",
        ),
        (
            "opaque directories",
            "mkdir d d/e; : >d/.a; xattr d user.overlay.opaque y; xattr . user.overlay.opaque y",
            "f0644 .wh..wh..opq\nd0755 d\nf0644 d/.wh..wh..opq\nf0644 d/.a\nd0755 d/e\n",
        ),
        (
            "whiteouts that are files",
            "mkdir d e; : >d/gone; : >d/file; : >e/gone; xattr d user.overlay.opaque x; xattr e user.overlay.whiteouts y
             xattr d/gone user.overlay.whiteout y; xattr e/gone user.overlay.whiteout ''",
            "d0755 d\nf0644 d/file\nf0644 d/.wh.gone\nd0755 e\nf0644 e/.wh.gone\n",
        ),
        (
            "links of all sorts",
            "echo 1 >a; ln a b; mkdir d; ln a d/c; ln -s nowhere l; ln l m; mkfifo -m 600 p; ln p q",
            "f0644 a = 1\\n\nh0644 b -> a\nd0755 d\nh0644 d/c -> a\nl0777 l -> nowhere\nh0777 m -> l\np0600 p\nh0600 q -> p\n",
        ),
        (
            "overlayfs's own attributes are left out",
            "mkdir d; : >d/f; xattr d user.overlay.impure y; xattr d user.overlay.origin ''; xattr d/f user.overlay.origin '\\x00\\xfb'
             xattr d/f user.overlay.nlink U-1; xattr d/f user.overlay.upper '\\x00'; xattr d user.overlay.uuid 0123456789abcdef
             xattr d/f user.overlay.protattr ai; xattr d/f user.kept yes",
            "d0755 d\nf0644 d/f [user.kept=yes]\n",
        ),
        (
            "extended attributes, whatever is in them",
            ": >f; xattr f user.a ''; xattr f user.b '\\x00\\n9 k=v\\xff'; xattr f user.c=d 1; xattr f user.%3D 2; xattr f user.100% 3",
            "f0644 f [user.%253D=2] [user.100%=3] [user.a=] [user.b=\\x00\\n9 k=v\\xff] [user.c%3Dd=1]\n",
        ),
        (
            "names that are not text",
            "python3 -c 'import os; os.mkdir(b\"\\xff\"*100); open(b\"\\xff\"*100+b\"/\"+b\"\\xfe\"*200, \"w\"); os.symlink(b\"\\xfd\"*300, b\"z\\n\")'",
            "",
        ),
        (
            "names with blanks and slashes of the other sort",
            "touch -- '-n' ' ' 'a\\b' \"$(printf 'n\\nl')\" .whx wh. .wh",
            "f0644  \nf0644 -n\nf0644 .wh\nf0644 .whx\nf0644 a\\\\b\nf0644 n\\nl\nf0644 wh.\n",
        ),
        (
            "whiteouts of long names, in long paths",
            "name=$(printf '%0255d' 0); mkdir -p $name/$name; mknod $name/$name/$name c 0 0",
            "",
        ),
    ];
    for (what, script, expected) in cases {
        let scratch = upper(&format!("{XATTR}{script}"), "");
        let (mut list, notes) = layer(&scratch);
        assert_eq!(notes, [] as [&str; 0], "{what}");
        let expected = match what {
            "names that are not text" => {
                let name = |byte: &str, count| byte.repeat(count);
                let (directory, file) = (name("\\xff", 100), name("\\xfe", 200));
                let link = name("\\xfd", 300);
                format!("l0777 z\\n -> {link}\nd0755 {directory}\nf0644 {directory}/{file}\n")
            }
            "whiteouts of long names, in long paths" => {
                let name = "0".repeat(255);
                list = list.replace(&name, "NAME");
                "d0755 NAME\nd0755 NAME/NAME\nf0644 NAME/NAME/.wh.NAME\n".to_string()
            }
            _ => expected.to_string(),
        };
        assert_eq!(list, expected, "{what}");
    }
}

#[test]
fn times_are_kept_and_capped() {
    let script = ": >old; : >new; : >later; : >old.5";
    let times = "touch -d @-1.75 old; touch -d @1000000000.000000001 new; touch -d @2000000000 later; touch -d @5.5 old.5";
    let scratch = upper(script, times);
    let (list, _) = layer(&scratch);
    let expected = "f0644 later @2000000000\nf0644 new @1000000000.000000001\nf0644 old @-1.75\nf0644 old.5 @5.5\n";
    assert_eq!(list, expected);
    let options = options().with_latest(Some(5));
    let (bytes, _) = written(&scratch, &options);
    fs::write(scratch.join("layer.tar"), bytes).unwrap();
    let list = scratch.sh("python3 list.py layer.tar");
    let expected = "f0644 later @5\nf0644 new @5\nf0644 old @-1.75\nf0644 old.5 @5\n";
    assert_eq!(list, expected);
}

#[test]
fn what_a_layer_cannot_say_is_refused_by_name() {
    let cases = [
        (
            ": >d/f; xattr d/f user.overlay.metacopy ''",
            "/upper/d/f: only its metadata",
        ),
        (
            "mkdir d/e; xattr d/e user.overlay.redirect /x",
            "/upper/d/e: it is where",
        ),
        ("xattr . user.overlay.redirect /x", "/upper: it is where"),
        (": >d/.wh.x", "/upper/d/.wh.x: a layer cannot have"),
        ("mkdir d/.wh.", "/upper/d/.wh.: a layer cannot have"),
        (
            ": >d/.wh..wh..opq",
            "/upper/d/.wh..wh..opq: a layer cannot have",
        ),
        ("mknod d/.wh.x c 0 0", "/upper/d/.wh.x: a layer cannot have"),
        (
            ": >d/f; xattr d/f user.overlay.whiteout y",
            "/upper/d/f: it has the attribute of a whiteout",
        ),
        (
            "echo >d/f; xattr d user.overlay.opaque x; xattr d/f user.overlay.whiteout y",
            "/upper/d/f: it has the attribute",
        ),
        (
            "mkdir d/e; xattr d/e user.overlay.whiteout y",
            "/upper/d/e: it has the attribute",
        ),
    ];
    for (script, expected) in cases {
        let scratch = upper(&format!("{XATTR}mkdir d; {script}"), "");
        let (kind, message) = refusal(&scratch);
        assert_eq!(kind, Kind::Refused, "{message}");
        assert!(message.starts_with(expected), "{script}: {message}");
        // Nothing is left of the command's, either.
        let (code, _, errors) = ferofs(&scratch, &["commit", "--userxattr", "-o", "out", "upper"]);
        assert_eq!(code, 1);
        assert!(errors.contains(&expected[1..]), "{errors}");
        assert!(!scratch.join("out").exists());
    }
}

#[test]
fn what_is_left_out_is_said() {
    let script = r#"python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("s")'; : >f; : >g
        xattr f user.overlay.overlay.opaque y; xattr g user.overlay.overlay.opaque y; xattr f user.overlay.new y"#;
    let scratch = upper(&format!("{XATTR}{script}"), "");
    let (list, notes) = layer(&scratch);
    assert_eq!(list, "f0644 f\nf0644 g\n");
    let only = "which is for overlayfs alone to write, first seen at /upper/f, is left out";
    let expected = [
        format!("extended attribute \"user.overlay.new\", {only}"),
        format!("extended attribute \"user.overlay.overlay.opaque\", {only}"),
        "/upper/s is left out: it is a socket, which a layer cannot have".to_string(),
    ];
    assert_eq!(notes, expected);
}

#[test]
fn the_same_directory_gives_the_same_bytes() {
    let names = || (0..300).map(|number| format!("d{}/{number}", number % 7));
    let make = |names: Vec<String>| {
        let lines: Vec<_> = names
            .iter()
            .map(|name| format!("echo {name} >{name}"))
            .collect();
        upper(
            &format!("mkdir d0 d1 d2 d3 d4 d5 d6; {}", lines.join("\n")),
            "",
        )
    };
    let (one, other) = (make(names().collect()), make(names().rev().collect()));
    for compression in [
        Compression::Plain,
        Compression::GZIP,
        Compression::Gzip(1),
        Compression::ZSTD,
        Compression::Zstd(19),
    ] {
        let options = options().with_compression(compression);
        assert_eq!(
            written(&one, &options),
            written(&other, &options),
            "{compression}"
        );
    }
}

#[test]
fn each_compression_is_undone_by_the_usual_programs() {
    let scratch = upper("mkdir d; seq 100000 >d/numbers; echo >end", "");
    let (plain, _) = written(&scratch, &options());
    let run = |arguments: &[&str]| {
        let all = [&["commit", "--userxattr"], arguments, &["upper"]].concat();
        let (code, said, errors) = ferofs(&scratch, &all);
        assert_eq!((code, errors.as_str()), (0, ""));
        said
    };
    let cases = [
        ("layer.tar", "cat", ""),
        ("layer.tar.gz", "gzip -dc", "+gzip"),
        ("layer.tgz", "gzip -dc", "+gzip"),
        ("layer.tar.zst", "zstd -dcq", "+zstd"),
        ("layer.tzst", "zstd -dcq", "+zstd"),
    ];
    for (name, undo, media_type) in cases {
        let said = run(&["--json", "-o", name]);
        assert_eq!(
            scratch.sh(&format!("{undo} <{name} | sha256sum"))[..64],
            Digest::of(&plain).to_string()
        );
        let file = fs::read(scratch.join(name)).unwrap();
        let expected = [
            format!("\"mediaType\": \"application/vnd.oci.image.layer.v1.tar{media_type}\""),
            format!("\"digest\": \"sha256:{}\"", Digest::of(&file)),
            format!("\"size\": {}", file.len()),
            format!("\"diffId\": \"sha256:{}\"", Digest::of(&plain)),
            "\"entries\": 3".to_string(),
        ];
        for line in expected {
            assert!(said.contains(&line), "{name}: {said}");
        }
    }
    let sizes: Vec<u64> = [["gzip", "1"], ["gzip", "9"], ["zstd", "1"], ["zstd", "19"]]
        .into_iter()
        .map(|[name, level]| {
            run(&["-q", "-z", name, "--level", level, "-o", "out"]);
            fs::metadata(scratch.join("out")).unwrap().len()
        })
        .collect();
    assert!(sizes[0] > sizes[1] && sizes[2] > sizes[3], "{sizes:?}");
    for (arguments, expected) in [
        (
            ["-z", "gzip", "--level", "10"],
            "gzip has no level 10, expected 1 to 9",
        ),
        (
            ["-z", "zstd", "--level", "0"],
            "zstd has no level 0, expected 1 to 22",
        ),
        (["-z", "plain", "--level", "1"], "not to be compressed"),
    ] {
        let all = [
            &["commit", "--userxattr", "-o", "bad"],
            &arguments[..],
            &["upper"],
        ]
        .concat();
        let (code, _, errors) = ferofs(&scratch, &all);
        assert!(code == 1 && errors.contains(expected), "{errors}");
        assert!(!scratch.join("bad").exists());
    }
}

#[test]
fn the_output_is_no_part_of_the_input() {
    let scratch = upper("mkdir d; echo >f", "");
    scratch.sh("ln -s upper/d elsewhere; ln -s upper/f to-file; mkdir upper-not");
    for target in [
        "upper/new",
        "upper/f",
        "upper/d/new",
        "elsewhere/new",
        "to-file",
        "upper/d/../x",
    ] {
        let arguments = ["commit", "--userxattr", "-o", target, "upper"];
        let (code, _, errors) = ferofs(&scratch, &arguments);
        assert_eq!(code, 1, "{target}");
        assert!(errors.contains("is in the directory upper"), "{errors}");
    }
    assert_eq!(scratch.sh("find upper | sort"), "upper\nupper/d\nupper/f\n");
    let arguments = [
        "commit",
        "--userxattr",
        "-o",
        "upper-not/layer.tar",
        "upper",
    ];
    assert_eq!(ferofs(&scratch, &arguments).0, 0);
}

/// What somebody does to a file.
type Change = fn(&Path);

/// Calls something at the first byte that is written.
struct Meanwhile<F>(Option<F>);

impl<F: FnOnce()> Write for Meanwhile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(call) = self.0.take() {
            call();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_an_error() {
    // The first file is larger than what is kept back, so the second one is changed before it is read.
    let cases: [(&str, Change, &str); 6] = [
        (
            "shorter",
            |b| fs::write(b, "short").unwrap(),
            "it has 5 bytes, expected 100000",
        ),
        (
            "longer",
            |b| {
                fs::File::options()
                    .append(true)
                    .open(b)
                    .unwrap()
                    .write_all(b"more")
                    .unwrap()
            },
            "it has 100004 bytes, expected 100000",
        ),
        (
            "another file",
            |b| {
                fs::write(b.with_extension("new"), vec![0; 100_000]).unwrap();
                fs::rename(b.with_extension("new"), b).unwrap();
            },
            "it was replaced while it was read",
        ),
        (
            "a link",
            |b| {
                fs::remove_file(b).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", b).unwrap();
            },
            "it was replaced while it was read",
        ),
        ("gone", |b| fs::remove_file(b).unwrap(), "No such file"),
        (
            "its directory",
            |b| {
                let directory = b.parent().unwrap();
                fs::rename(directory, directory.with_extension("old")).unwrap();
                std::os::unix::fs::symlink("/etc", directory).unwrap();
            },
            "it was replaced while it was read",
        ),
    ];
    for (what, change, expected) in cases {
        let scratch = upper(
            "mkdir d; head -c 1000000 /dev/zero >a; head -c 100000 /dev/zero >d/b",
            "",
        );
        let upper = scratch.join("upper");
        let b = upper.join("d/b");
        let out = Meanwhile(Some(|| change(&b)));
        let error =
            write_layer(&upper, &options(), out, Path::new("out"), &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        let message = error.to_string();
        assert!(
            message.contains("upper/d/b: ") && message.contains(expected),
            "{what}: {message}"
        );
    }
}

#[test]
fn what_cannot_be_written_is_named() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(28))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let scratch = upper("head -c 1000000 /dev/urandom >a", "");
    for compression in [Compression::Plain, Compression::GZIP, Compression::ZSTD] {
        let options = options().with_compression(compression);
        let upper = scratch.join("upper");
        let error = write_layer(&upper, &options, Full, Path::new("the layer"), &mut |_| {});
        let expected = "cannot write the layer: No space left on device";
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
}

#[test]
fn holes_are_zeros() {
    let scratch = upper("", "");
    let file = fs::File::create(scratch.join("upper/holes")).unwrap();
    file.set_len(3 << 20).unwrap();
    file.write_all_at(b"middle", 1 << 20).unwrap();
    let (bytes, _) = written(&scratch, &options());
    assert_eq!(bytes.len(), 512 + 512 + 512 + (3 << 20) + 1024);
    let data = fs::read(scratch.join("upper/holes")).unwrap();
    assert!(
        bytes
            .windows(data.len())
            .step_by(512)
            .any(|window| window == data)
    );
}

#[test]
fn an_index_of_a_layer_is_as_the_directory() {
    let script = "mkdir -p d/e; seq 10000 >d/numbers; ln d/numbers d/e/same; ln -s ../x d/e/l; mkfifo p; echo 1 >d/e/1";
    let scratch = upper(&format!("{XATTR}{script}; xattr d/e/1 user.a b"), "");
    let (bytes, _) = written(&scratch, &options());
    let tar = scratch.join("layer.tar");
    fs::write(&tar, bytes).unwrap();
    let image = index_both_ways(&tar, &scratch.join("layer.erofs")).unwrap();
    let lines = |all: Vec<common::Described>| -> Vec<String> {
        let mut all: Vec<_> = all.into_iter().filter(|file| file.path != "/").collect();
        // Filesystems differ in what they count as links of a directory.
        all.iter_mut()
            .filter(|file| file.kind == 'd')
            .for_each(|file| file.links = 0);
        all.iter_mut().for_each(|file| file.xattrs.clear());
        all.iter().map(common::Described::line).collect()
    };
    let theirs = common::description_of_directory(&scratch.join("upper"));
    assert_eq!(lines(common::description(&image, &tar)), lines(theirs));
}

#[test]
fn a_target_is_whole_or_not_there() {
    let scratch = upper("echo >f", "");
    let target = scratch.join("layer.tar");
    let output = Output::create(&target, &[]).unwrap();
    let upper = scratch.join("upper");
    ferofs::commit::write_layer_file(&upper, &options(), &output, &mut |_| {}).unwrap();
    assert!(!target.exists());
    output.finish().unwrap();
    assert_eq!(fs::read(&target).unwrap(), written(&scratch, &options()).0);
}
