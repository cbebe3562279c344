// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Small archives that ask for much work: each is dealt with or refused in a few seconds of processor time, and
//! takes no memory out of proportion.

mod common;

use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use common::archive::records;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;
use std::thread;

/// What an archive may have when it is compressed.
const LARGEST: usize = 100 << 10;
/// How often something is repeated at most: less where all takes longer.
const MOST: u64 = if cfg!(debug_assertions) {
    2_000
} else {
    100_000
};
/// Seconds of processor time for each command; without optimisation everything takes many times as long.
const SECONDS: u32 = if cfg!(debug_assertions) { 60 } else { 5 };
/// KiB of address space, which is more than memory: 256 MiB and what the program and its threads' stacks reserve.
const MEMORY: u32 = (256 + 64) << 10;

/// Runs `ferofs` within its limits; the exit code, and what it wrote to stderr.
fn limited(directory: &Scratch, arguments: &[&str]) -> (Option<i32>, String) {
    limited_to(SECONDS, directory, arguments)
}

fn limited_to(seconds: u32, directory: &Scratch, arguments: &[&str]) -> (Option<i32>, String) {
    let script = format!("ulimit -t {seconds} -v {MEMORY}; exec \"$0\" \"$@\"");
    let output = Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_ferofs")])
        .args(arguments)
        .env("MALLOC_ARENA_MAX", "1")
        .current_dir(&directory.0)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), errors)
}

/// How an archive begins, and what is repeated behind that as often as there is room.
struct Case {
    name: &'static str,
    begin: Archive,
    again: Box<dyn Fn(u64) -> Archive>,
    /// What the message says if it is refused.
    refused: &'static [&'static str],
}

fn case(
    name: &'static str,
    begin: Archive,
    again: impl Fn(u64) -> Archive + 'static,
    refused: &'static [&'static str],
) -> Case {
    Case {
        name,
        begin,
        again: Box::new(again),
        refused,
    }
}

fn empty(name: &str) -> Archive {
    Archive::new().file(name, "")
}

/// So many attributes, as records.
fn attributes(count: u64, value: &str) -> Vec<u8> {
    let list: Vec<_> = (0..count)
        .map(|nr| (format!("SCHILY.xattr.user.{nr:x}"), value.to_string()))
        .collect();
    records(&list)
}

fn sparse(name: &str, size: u64, map: &str, data: &[u8]) -> Archive {
    let map = format!("{map}\n");
    let mut bytes = map.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend_from_slice(data);
    Archive::new()
        .pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", name),
            ("GNU.sparse.realsize", &size.to_string()),
        ])
        .with_data(Header::new("sparse", b'0'), &bytes)
}

fn cases() -> Vec<Case> {
    let global = |data: &[u8]| Archive::new().with_data(Header::new("g", b'g'), data);
    let deep = |levels: usize| "a/".repeat(levels);
    let none = Archive::new;
    // 40 links, each to a path of many steps.
    let steps = "./x/..".repeat(600);
    let mut links = none().directory("x");
    for nr in 0..40 {
        let target = format!("{steps}/l{}", nr + 1);
        links = links.long(b'K', &target).symlink(&format!("l{nr}"), "");
    }
    links = links.directory("l40");
    let mut chain = none();
    for nr in 0..40 {
        let here = if nr == 0 {
            String::new()
        } else {
            format!("l{}/", nr - 1)
        };
        let target = format!("{here}{}", deep(1000));
        chain = chain.long(b'K', &target).symlink(&format!("l{nr}"), "");
    }
    let many = attributes(4000, "v");
    let own = |nr: u64, records: &[u8]| {
        Archive::new()
            .with_data(Header::new("x", b'x'), records)
            .file(&format!("f{nr:x}"), "")
    };
    let acl: Vec<_> = (1..9000).map(|user| format!("user:{user}:rwx,")).collect();
    let acl = acl.concat();
    let acl = format!("{acl}user::rwx,group::rwx,other::rwx,mask::rwx");
    let pieces: Vec<_> = (0..20_000).map(|nr| format!("\n{}\n1", nr * 513)).collect();
    let pieces = pieces.concat();
    let one_piece = "1\n68719476224\n1";
    let all: &[&str] = &["the global header in front has too much"];
    vec![
        case(
            "own attributes",
            none(),
            {
                let many = many.clone();
                move |nr| own(nr, &many)
            },
            &[],
        ),
        case(
            "global attributes",
            global(&many),
            |nr| empty(&format!("f{nr:x}")),
            &["so many extended attributes have too many files in common"],
        ),
        case(
            "global attributes of directories",
            global(&attributes(255, "v")),
            |nr| Archive::new().directory(&format!("f{nr:x}")),
            &[],
        ),
        case(
            "global attributes and own ones",
            global(&many),
            move |nr| own(nr, &records(&[("SCHILY.xattr.user.own", nr.to_string())])),
            all,
        ),
        case(
            "global attributes, again and again",
            global(&many),
            move |nr| global(&records(&[("comment", "again")])).file(&format!("f{nr:x}"), ""),
            all,
        ),
        case(
            "a large global header",
            global(&attributes(1, &"v".repeat(16 << 20))),
            empty_one,
            &["an extended header of "],
        ),
        case(
            "a global ACL",
            global(&records(&[("SCHILY.acl.access", acl)])),
            move |nr| own(nr, &records(&[("SCHILY.xattr.user.own", nr.to_string())])),
            all,
        ),
        case(
            "a global path",
            global(&records(&[("path", deep(4000) + "x")])),
            |nr| {
                let here = format!("b{nr:x}");
                empty("a").pax(&[("path", here)]).file("b", "")
            },
            all,
        ),
        case(
            "a global target",
            global(&records(&[("linkpath", "t".repeat(4000))])),
            |nr| Archive::new().symlink(&format!("l{nr:x}"), ""),
            all,
        ),
        case(
            "one path of many levels",
            none(),
            |nr| {
                Archive::new()
                    .long(b'L', &format!("{nr}/{}", "a/".repeat(8 << 20)))
                    .file("", "")
            },
            &["a path of ", "an extended header of "],
        ),
        case(
            "paths of many levels",
            none(),
            move |nr| {
                Archive::new()
                    .long(b'L', &format!("{nr}/{}x", deep(4000)))
                    .file("", "")
            },
            &["the paths of the entries so far lead through too many"],
        ),
        case(
            "links to paths of many steps",
            links,
            |nr| empty(&format!("l0/f{nr:x}/f")),
            &["the paths of the entries so far lead through too many"],
        ),
        case(
            "links one behind the other",
            chain,
            |nr| {
                empty(&format!("l39/f{nr:x}/.wh.x"))
                    .hard_link(&format!("h{nr:x}"), &format!("l39/f{nr:x}/.wh.x"))
            },
            &["more than 4096 directories above it"],
        ),
        case(
            "whiteouts far down",
            none()
                .long(b'L', &format!("{}x", deep(4000)))
                .file("", "")
                .long(b'K', &deep(2000))
                .symlink("l", "")
                .long(b'K', &format!("l/{}", deep(1900)))
                .symlink("m", ""),
            |nr| empty(&format!("m/d{nr:x}/.wh.gone")),
            &["the paths of the entries so far lead through too many"],
        ),
        case(
            "files with a byte behind a hole",
            none(),
            move |nr| sparse(&format!("f{nr:x}"), 1 << 36, one_piece, b"x"),
            &["so little data, and so many holes"],
        ),
        case(
            "a byte in every other block",
            none(),
            move |nr| {
                sparse(
                    &format!("f{nr:x}"),
                    10_400_000,
                    &format!("20000{pieces}"),
                    &[b'x'; 20_000],
                )
            },
            &["so little data, and so many holes"],
        ),
        case(
            "files of the same name",
            none(),
            |nr| empty("f").hard_link(&format!("{:x}", nr % 4), "f"),
            &[],
        ),
        case(
            "hard links to what comes later",
            none(),
            |nr| Archive::new().hard_link(&format!("h{nr:x}"), &format!("h{:x}", nr + 1)),
            &["a hard link to "],
        ),
        case(
            "a header that is too large",
            none(),
            |_| Archive::new().header(Header::new("x", b'x').size(1 << 32)),
            &["an extended header of "],
        ),
        case(
            "a directory with many long names",
            none(),
            |nr| {
                Archive::new()
                    .directory("d")
                    .file(&format!("d/{nr:090}"), "")
            },
            &[],
        ),
    ]
}

fn empty_one(nr: u64) -> Archive {
    empty(&format!("f{nr:x}"))
}

/// The archive of a case, compressed: as much of it as fits.
fn compressed(case: &Case) -> Vec<u8> {
    // Whether it fits is known behind the end only.
    let mut fitting = Vec::new();
    let mut count = 1;
    loop {
        // Faster than a library that is not optimised.
        let mut gzip = Command::new("gzip")
            .arg("-9n")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = gzip.stdout.take().unwrap();
        let read = thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut stdin = gzip.stdin.take().unwrap();
        stdin.write_all(&case.begin.0).unwrap();
        for nr in 0..count {
            stdin.write_all(&(case.again)(nr).0).unwrap();
        }
        stdin.write_all(&[0; 1024]).unwrap();
        drop(stdin);
        assert!(gzip.wait().unwrap().success());
        let bytes = read.join().unwrap().unwrap();
        if bytes.len() > LARGEST || count > MOST {
            assert!(!fitting.is_empty(), "{}: {} bytes", case.name, bytes.len());
            return fitting;
        }
        fitting = bytes;
        count *= 2;
    }
}

#[test]
fn small_archives_are_little_work() {
    let mut wrong = Vec::new();
    for case in cases() {
        let scratch = Scratch::new();
        fs::write(scratch.join("a.tar.gz"), compressed(&case)).unwrap();
        let build = ["build", "-o", "a.erofs", "--tar-out", "a.tar", "a.tar.gz"];
        let (code, errors) = limited(&scratch, &build);
        let refused = case.refused.iter().any(|refused| errors.contains(refused));
        if code != Some(0) {
            if code != Some(1) || !refused {
                wrong.push(format!("{}: build: {code:?} {errors}", case.name));
            }
            continue;
        }
        for arguments in [
            ["check", "-q", "a.erofs"].as_slice(),
            &["merge", "-q", "-o", "merged.erofs", "a.erofs", "a.erofs"],
            &["diff", "a.erofs", "merged.erofs"],
            &["diff", "a.erofs", "a.tar"],
        ] {
            let (code, errors) = limited(&scratch, arguments);
            // Whiteouts are not in a merged image.
            let differs = arguments.contains(&"merged.erofs") && code == Some(1);
            if code != Some(0) && !differs {
                wrong.push(format!("{}: {arguments:?}: {code:?} {errors}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn far_down_is_extracted_as_fast() {
    let far = "a/".repeat(4000);
    let named = |archive: Archive, path: &str| archive.long(b'L', path).file("", "");
    let mut deep = Archive::new();
    for nr in 0..8 {
        deep = named(deep, &format!("{nr}/{far}x"));
    }
    // The first names of files are in many directories far down, and the second ones come in another order.
    let mut linked = Archive::new();
    for (from, to) in [("b", None), ("c", Some("b"))] {
        for nr in 0..2000 {
            let path = |above: &str, at: u32| format!("{far}{above}{}/{nr}", at % 40);
            linked = linked.long(b'L', &path(from, nr));
            linked = match to {
                None => linked.file("", "x"),
                Some(to) => linked.long(b'K', &path(to, nr)).hard_link("", ""),
            };
        }
    }
    for (name, archive) in [("deep", deep), ("linked", linked)] {
        let scratch = Scratch::new();
        fs::write(scratch.join("a.tar"), archive.end()).unwrap();
        let build = ["build", "-o", "a.erofs", "a.tar"];
        assert_eq!(limited(&scratch, &build), (Some(0), String::new()));
        let extract = "check -q a.erofs --device a.tar --extract out";
        let extract: Vec<_> = extract.split(' ').collect();
        let (code, errors) = limited_to(10, &scratch, &extract);
        assert_eq!(code, Some(0), "{name}: {errors}");
        // What the library removes it removes by whole paths.
        let mut remove = Command::new("rm");
        let removed = remove.args(["-r", "out"]).current_dir(&scratch.0).status();
        assert!(removed.unwrap().success());
    }
}

#[test]
fn a_layer_goes_through_little_memory() {
    let scratch = Scratch::new();
    // More than twice what there is of memory.
    scratch.sh("mkdir upper; truncate -s 700M upper/large; ln upper/large upper/again");
    for layer in ["layer.tar.gz", "layer.tar.zst"] {
        let commit = ["commit", "-q", "--userxattr", "-o", layer, "upper"];
        assert_eq!(limited(&scratch, &commit), (Some(0), String::new()));
    }
}
