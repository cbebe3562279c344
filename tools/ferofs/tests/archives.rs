// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Archives of all kinds, indexed, and compared with what they describe and with what GNU tar makes
//! of them.

#![allow(missing_docs)]

mod common;

use common::Described;
use common::Scratch;
use common::archive::Archive;
use common::archive::GNU;
use common::archive::Header;
use common::archive::V7;
use common::archive::base256;
use common::archive::base256_short;
use common::archive::octal;
use common::archive::seal;
use common::description;
use common::gnu_tar::indexed;
use common::gnu_tar::same_as_gnu_tar;
use ferofs::image;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use std::fs;
use std::path::Path;

fn lines(bytes: &[u8]) -> Vec<String> {
    indexed(bytes)
        .unwrap()
        .iter()
        .map(Described::line)
        .collect()
}

#[track_caller]
fn fails(bytes: &[u8], expected: &[&str]) {
    let error = match indexed(bytes) {
        Ok(_) => panic!("expected an error with {expected:?}"),
        Err(error) => error,
    };
    for part in expected {
        assert!(error.contains(part), "{error:?} has no {part:?}");
    }
}

#[test]
fn every_kind_of_file() {
    let archive = Archive::new()
        .header(Header::new("./", b'5').mode(0o700).owner(1, 2))
        .directory("dir/")
        .file("dir/file", "content")
        .header(
            Header::new("dir/empty", b'0')
                .mode(0o4755)
                .owner(70_000, 0o7777777),
        )
        .symlink("dir/link", "../elsewhere")
        .hard_link("dir/again", "dir/file")
        .header(Header::new("char", b'3').device(5, 1).mode(0o620))
        .header(
            Header::new("block", b'4')
                .device(259, 1_048_575)
                .mode(0o660),
        )
        .header(Header::new("fifo", b'6').mtime(1))
        .pax(&[("SCHILY.filetype", "socket")])
        .header(Header::new("socket", b'0'))
        .header(Header::new("contiguous", b'7'))
        .end();
    assert_eq!(
        lines(&archive),
        [
            "d0700 3 1:2 1700000000 /",
            "b0660 1 1000:100 1700000000 259,1048575 /block",
            "c0620 1 1000:100 1700000000 5,1 /char",
            "-0644 1 1000:100 1700000000 0 /contiguous = ",
            "d0755 2 1000:100 1700000000 /dir",
            "-0644 2 1000:100 1700000000 7 /dir/again = content",
            "-4755 1 70000:2097151 1700000000 0 /dir/empty = ",
            "-0644 2 1000:100 1700000000 7 /dir/file = content",
            "l0777 1 1000:100 1700000000 /dir/link -> ../elsewhere",
            "p0644 1 1000:100 1 /fifo",
            "s0644 1 1000:100 1700000000 /socket",
        ]
    );
}

#[test]
fn names_in_every_dialect() {
    let long = "long/".repeat(40) + "name";
    let mut prefixed = Header::new("name", b'0');
    prefixed.prefix = b"some/prefix".to_vec();
    let bytes = "\u{fc}".repeat(127);
    let archive = Archive::new()
        .header(prefixed)
        .long(b'L', &long)
        .long(b'K', &long)
        .header(Header::new("short", b'2').link("short").magic(GNU))
        .pax(&[("path", bytes.as_str())])
        .file("short", "pax")
        .pax(&[("linkpath", long.as_str())])
        .symlink("target", "short")
        .header(Header::new("v7", b'0').magic(V7))
        .header(Header::new("v7dir/", 0).magic(V7))
        .with_data(Header::new("old", 0).magic(V7), b"old")
        .end();
    let files = indexed(&archive).unwrap();
    let content = |path: &str| {
        let file = files.iter().find(|file| file.path == path);
        file.map(|file| format!("{}{}", file.kind, file.content))
    };
    assert_eq!(content("/some/prefix/name").unwrap(), "-= ");
    assert_eq!(content(&format!("/{long}")).unwrap(), format!("l-> {long}"));
    assert_eq!(content(&format!("/{bytes}")).unwrap(), "-= pax");
    assert_eq!(content("/target").unwrap(), format!("l-> {long}"));
    assert_eq!(content("/v7").unwrap(), "-= ");
    assert_eq!(content("/v7dir").unwrap(), "d");
    assert_eq!(content("/old").unwrap(), "-= old");
    let mut implied = vec!["/some".to_string(), "/some/prefix".to_string()];
    implied.extend((1..=40).map(|count| format!("/{}", ["long"; 40][..count].join("/"))));
    let implied: Vec<_> = implied.iter().map(String::as_str).collect();
    same_as_gnu_tar(&archive, &implied);
}

#[test]
fn numbers_in_every_form() {
    let mut big = Header::new("big", b'0');
    big.uid = base256_short(3_000_000_000);
    big.gid = base256_short(4_294_967_294);
    big.mtime = base256(5_000_000_000, 12);
    let mut negative = Header::new("negative", b'0');
    negative.mtime = base256(-1, 12);
    let mut spaces = Header::new("spaces", b'0');
    spaces.uid = b"     7 \0".to_vec();
    spaces.size = b"          3 ".to_vec();
    let archive = Archive::new()
        .header(big)
        .header(negative)
        .with_data(spaces, b"abc")
        .pax(&[
            ("uid", "4000000000"),
            ("gid", "0"),
            ("mtime", "-0.25"),
            ("size", "5"),
        ])
        .header(Header::new("pax", b'0').size(0o77777777777))
        .data(b"12345")
        .pax(&[("mtime", "1350244992.023960108")])
        .file("fraction", "")
        .pax(&[("mtime", "7.5999999999")])
        .file("half", "")
        .end();
    assert_eq!(
        lines(&archive),
        [
            "d0755 2 0:0 5000000000 /",
            "-0644 1 3000000000:4294967294 5000000000 0 /big = ",
            "-0644 1 1000:100 1350244992.023960108 0 /fraction = ",
            "-0644 1 1000:100 7.599999999 0 /half = ",
            "-0644 1 1000:100 -1 0 /negative = ",
            "-0644 1 4000000000:0 -1.750000000 5 /pax = 12345",
            "-0644 1 7:100 1700000000 3 /spaces = abc",
        ]
    );
    same_as_gnu_tar(&archive, &[]);
}

#[test]
fn global_headers_apply_to_what_follows() {
    let archive = Archive::new()
        .file("before", "")
        .global(&[("uid", "5"), ("mtime", "9.5")])
        .file("one", "")
        .pax(&[("uid", "6"), ("mtime", "")])
        .file("two", "")
        .global(&[("uid", "")])
        .file("three", "")
        .end();
    assert_eq!(
        lines(&archive)[1..],
        [
            "-0644 1 1000:100 1700000000 0 /before = ",
            "-0644 1 5:100 9.500000000 0 /one = ",
            "-0644 1 1000:100 9.500000000 0 /three = ",
            "-0644 1 6:100 1700000000 0 /two = ",
        ]
    );
    // GNU tar knows no records without a value.
    let archive = Archive::new()
        .file("before", "")
        .global(&[("mtime", "9.5"), ("comment", "for all")])
        .file("one", "")
        .pax(&[("mtime", "-3")])
        .file("two", "")
        .global(&[("mtime", "11")])
        .directory("three")
        .end();
    same_as_gnu_tar(&archive, &[]);
}

#[test]
fn names_are_bytes() {
    let mut latin = Header::new("", b'0');
    latin.name = b"caf\xe9/\xff\xfe".to_vec();
    let long = [&[0xfe; 254][..], b"e"].concat();
    let archive = Archive::new()
        .header(latin)
        .pax(&[(b"path".as_slice(), long.as_slice())])
        .file("", "long")
        .pax(&[(b"linkpath".as_slice(), b"\x80\n\t\"".as_slice())])
        .symlink("new\nline", "")
        .file("\x01\x7f \\*?", "")
        .end();
    same_as_gnu_tar(&archive, &["/caf\\xe9"]);
    let longer = [long.as_slice(), b"e"].concat();
    let archive = Archive::new()
        .pax(&[(b"path".as_slice(), longer.as_slice())])
        .file("", "")
        .end();
    fails(&archive, &["offset 0", "256 bytes", "at most 255"]);
}

#[test]
fn the_last_of_duplicates_wins() {
    let archive = Archive::new()
        .file("file", "old")
        .hard_link("other", "file")
        .directory("replaced/")
        .directory("replaced/below/")
        .file("replaced/below/file", "gone")
        .file("replaced", "a file now")
        .file("back", "a file")
        .directory("back/")
        .file("back/file", "below")
        .directory("kept/")
        .file("kept/file", "kept")
        .header(Header::new("kept/", b'5').mode(0o700).mtime(5))
        .symlink("link", "file")
        .file("link", "no link")
        .file("file", "new")
        .end();
    assert_eq!(
        lines(&archive),
        [
            "d0755 4 0:0 1700000000 /",
            "d0755 2 1000:100 1700000000 /back",
            "-0644 1 1000:100 1700000000 5 /back/file = below",
            "-0644 1 1000:100 1700000000 3 /file = new",
            "d0700 2 1000:100 5 /kept",
            "-0644 1 1000:100 1700000000 4 /kept/file = kept",
            "-0644 1 1000:100 1700000000 7 /link = no link",
            "-0644 1 1000:100 1700000000 3 /other = old",
            "-0644 1 1000:100 1700000000 10 /replaced = a file now",
        ]
    );
}

#[test]
fn directories_described_twice_keep_extended_attributes() {
    let acl = "user::rwx,user:7:rwx,group::r-x,mask::rwx,other::---";
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.kept", "1"),
            ("SCHILY.xattr.user.new", "1"),
            ("SCHILY.acl.access", acl),
        ])
        .directory("d/")
        .pax(&[("SCHILY.xattr.user.new", "2")])
        .directory("d/")
        .end();
    let expected = "d0755 2 1000:100 1700000000 /d [user.kept=1] [user.new=2]";
    assert_eq!(lines(&archive)[1..], [expected]);
}

#[test]
fn of_several_extended_headers_the_last_counts() {
    let archive = Archive::new()
        .pax(&[("uid", "7"), ("mtime", "5")])
        .pax(&[("gid", "8")])
        .file("f", "")
        .end();
    assert_eq!(lines(&archive)[1..], ["-0644 1 1000:8 1700000000 0 /f = "]);
    same_as_gnu_tar(&archive, &[]);
}

#[test]
fn missing_parents_are_made() {
    let archive = Archive::new()
        .header(Header::new("top/", b'5').owner(7, 8).mode(0o700))
        .file("top/a/b/file", "")
        .file("other/file", "")
        .end();
    assert_eq!(
        lines(&archive),
        [
            "d0755 4 0:0 1700000000 /",
            "d0755 2 0:0 1700000000 /other",
            "-0644 1 1000:100 1700000000 0 /other/file = ",
            "d0700 3 7:8 1700000000 /top",
            "d0755 3 7:8 1700000000 /top/a",
            "d0755 2 7:8 1700000000 /top/a/b",
            "-0644 1 1000:100 1700000000 0 /top/a/b/file = ",
        ]
    );
    same_as_gnu_tar(&archive, &["/other", "/top/a", "/top/a/b"]);
}

#[test]
fn hard_links_of_all_kinds() {
    let archive = Archive::new()
        .hard_link("early", "late")
        .hard_link("earlier", "early")
        .symlink("symlink", "file")
        .hard_link("to-symlink", "symlink")
        .file("file", "data")
        .hard_link("./dir/../linked", "/file")
        .hard_link("file", "file")
        .symlink("root", "/")
        .hard_link("through", "root/file")
        .file("late", "came later")
        // Some writers give a link the size of its target, some the data as well.
        .header(Header::new("sized", b'1').link("file").size(4))
        .with_data(Header::new("full", b'1').link("file"), b"data")
        .end();
    assert_eq!(
        lines(&archive)[1..],
        [
            "-0644 3 1000:100 1700000000 10 /earlier = came later",
            "-0644 3 1000:100 1700000000 10 /early = came later",
            "-0644 5 1000:100 1700000000 4 /file = data",
            "-0644 5 1000:100 1700000000 4 /full = data",
            "-0644 3 1000:100 1700000000 10 /late = came later",
            "-0644 5 1000:100 1700000000 4 /linked = data",
            "l0777 1 1000:100 1700000000 /root -> /",
            "-0644 5 1000:100 1700000000 4 /sized = data",
            "l0777 2 1000:100 1700000000 /symlink -> file",
            "-0644 5 1000:100 1700000000 4 /through = data",
            "l0777 2 1000:100 1700000000 /to-symlink -> file",
        ]
    );
    fails(
        &Archive::new().hard_link("a", "missing").end(),
        &["\"a\"", "\"missing\"", "not in"],
    );
    let circle = Archive::new()
        .hard_link("a", "b")
        .hard_link("b", "c")
        .hard_link("c", "a")
        .end();
    fails(&circle, &["hard link", "leads back to itself"]);
    fails(
        &Archive::new().directory("d").hard_link("a", "d").end(),
        &["\"a\"", "directory \"d\""],
    );
    fails(
        &Archive::new().hard_link("a", "d").directory("d").end(),
        &["\"a\"", "is a directory"],
    );
}

#[test]
fn long_chains_of_hard_links() {
    // Every one is to the next, which comes later; nobody has the time to follow each to its end.
    let mut archive = Archive::new();
    let count = 30_000;
    for at in 0..count {
        archive = archive.hard_link(&format!("{at}"), &format!("{}", at + 1));
    }
    let archive = archive.file(&format!("{count}"), "end").end();
    let image = common::index_of_bytes(&archive);
    let first = image.find(b"/0").unwrap();
    assert_eq!((first.nlink(), first.size()), (count + 1, 3));
}

#[test]
fn nothing_leads_out_of_the_root() {
    let archive = Archive::new()
        .file("../../up", "")
        .file("/absolute", "")
        .file("a/./b//c/../d", "")
        .symlink("out", "../../../..")
        .file("out/via-out", "")
        .symlink("abs", "/a")
        .file("abs/via-abs", "")
        .symlink("relative", "a/b")
        .file("relative/via-relative", "")
        .symlink("dangling", "made/here")
        .file("dangling/via-dangling", "")
        .file("blocked", "a file")
        .file("blocked/below", "")
        .end();
    let paths: Vec<_> = indexed(&archive)
        .unwrap()
        .into_iter()
        .map(|file| file.path)
        .collect();
    assert_eq!(
        paths,
        [
            "/",
            "/a",
            "/a/b",
            "/a/b/d",
            "/a/b/via-relative",
            "/a/via-abs",
            "/abs",
            "/absolute",
            "/blocked",
            "/blocked/below",
            "/dangling",
            "/made",
            "/made/here",
            "/made/here/via-dangling",
            "/out",
            "/relative",
            "/up",
            "/via-out",
        ]
    );
    let circle = Archive::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/file", "")
        .end();
    fails(&circle, &["\"a/file\"", "symbolic links"]);
}

/// Sparse files with so many segments that their maps go on behind the header, or over several
/// blocks: GNU's own, and PAX 0.1 and 1.0.
fn many_segments() -> Vec<u8> {
    let size = 400_000;
    let mut segments: Vec<(u64, u64)> = (0..60).map(|at| (at * 5000 / 512 * 512, 512)).collect();
    segments.push((size, 0));
    let data: Vec<u8> = (0..60 * 512_u32)
        .map(|at| (at / 512 + at % 7) as u8)
        .collect();
    let pair = |(offset, length): &(u64, u64)| [octal(*offset, 12), octal(*length, 12)].concat();
    let mut header = Header::new("gnu", b'S')
        .magic(GNU)
        .size(data.len() as u64)
        .block();
    let map: Vec<u8> = segments.iter().flat_map(pair).collect();
    let (first, rest) = map.split_at(4 * 24);
    header[386..482].copy_from_slice(first);
    header[482] = 1;
    header[483..495].copy_from_slice(&octal(size, 12));
    seal(&mut header);
    let mut archive = Archive::new().block(header);
    let blocks = rest.chunks(21 * 24);
    let last = blocks.len() - 1;
    for (number, part) in blocks.enumerate() {
        let mut block = [0; 512];
        block[..part.len()].copy_from_slice(part);
        block[504] = u8::from(number < last);
        archive = archive.block(block);
    }
    let numbers = |separator: &str| {
        let numbers = segments
            .iter()
            .flat_map(|(offset, length)| [offset, length]);
        let numbers: Vec<_> = numbers.map(u64::to_string).collect();
        numbers.join(separator)
    };
    let mut in_data = format!("{}\n{}\n", segments.len(), numbers("\n")).into_bytes();
    in_data.resize(in_data.len().next_multiple_of(512), 0);
    let size = size.to_string();
    archive
        .data(&data)
        .pax(&[
            ("GNU.sparse.size", size.as_str()),
            ("GNU.sparse.numblocks", "61"),
            ("GNU.sparse.name", "v0.1"),
            ("GNU.sparse.map", &numbers(",")),
        ])
        .with_data(Header::new("x", b'0'), &data)
        .pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "v1.0"),
            ("GNU.sparse.realsize", &size),
        ])
        .with_data(Header::new("x", b'0'), &[in_data, data].concat())
        .end()
}

#[test]
fn sparse_files_of_all_versions() {
    let head = "h".repeat(512);
    let tail = "tail".to_string();
    let data = head.clone() + &tail;
    let expected = {
        let mut content = head.into_bytes();
        content.resize(8192, 0);
        content.extend_from_slice(tail.as_bytes());
        content.resize(20_000, 0);
        format!("= sha256:{}", ferofs::digest::Digest::of(&content))
    };
    let mut gnu = Header::new("gnu", b'S').magic(GNU).size(516).block();
    let map = [(0, 512), (8192, 4), (20_000, 0)];
    for (at, (offset, length)) in map.into_iter().enumerate() {
        let at = 386 + at * 24;
        gnu[at..at + 12].copy_from_slice(&octal(offset, 12));
        gnu[at + 12..at + 24].copy_from_slice(&octal(length, 12));
    }
    gnu[483..495].copy_from_slice(&octal(20_000, 12));
    seal(&mut gnu);
    let name = |name: &'static str| ("GNU.sparse.name", name);
    let archive = Archive::new()
        .block(gnu)
        .data(data.as_bytes())
        .pax(&[
            ("GNU.sparse.size", "20000"),
            ("GNU.sparse.numblocks", "3"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "512"),
            ("GNU.sparse.offset", "8192"),
            ("GNU.sparse.numbytes", "4"),
            ("GNU.sparse.offset", "20000"),
            ("GNU.sparse.numbytes", "0"),
        ])
        .file("v0.0", &data)
        .pax(&[
            ("GNU.sparse.size", "20000"),
            ("GNU.sparse.numblocks", "3"),
            name("v0.1"),
            ("GNU.sparse.map", "0,512,8192,4,20000,0"),
        ])
        .file("GNUSparseFile.0/v0.1", &data)
        .pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            name("v1.0"),
            ("GNU.sparse.realsize", "20000"),
        ])
        .with_data(
            Header::new("GNUSparseFile.0/v1.0", b'0'),
            &[
                b"3\n0\n512\n8192\n4\n20000\n0\n".as_slice(),
                &[0; 489],
                data.as_bytes(),
            ]
            .concat(),
        )
        .pax(&[
            ("GNU.sparse.size", "1000000"),
            ("GNU.sparse.numblocks", "1"),
            ("GNU.sparse.map", "1000000,0"),
        ])
        .file("hole", "")
        .file("after", "")
        .end();
    let files = indexed(&archive).unwrap();
    for path in ["/gnu", "/v0.0", "/v0.1", "/v1.0"] {
        let file = files.iter().find(|file| file.path == path).unwrap();
        assert_eq!(
            (file.size.as_str(), &file.content),
            ("20000", &expected),
            "{path}"
        );
    }
    same_as_gnu_tar(&archive, &[]);
    same_as_gnu_tar(&many_segments(), &[]);
}

/// Pieces of sparse files that lie across blocks: an index has copies of what it cannot refer to.
#[test]
fn sparse_files_with_parts_of_blocks() {
    let data: String = ('a'..='z').cycle().take(9000).collect();
    let mut archive = Archive::new();
    for (number, map) in [
        "100,512",
        "100,3000",
        "0,700,1024,700,4096,512",
        "512,1000,5000,13,20000,0",
        "511,2,1022,2,1533,2",
        "0,512,700,5,1536,512,2048,600",
        "0,4096,4096,4904",
        "13,5000,5013,1,6000,3000",
        "19000,1000",
        "4096,1,8192,4096,12289,4000",
    ]
    .into_iter()
    .enumerate()
    {
        // As GNU tar has it: every piece is filled up to a block.
        let numbers: Vec<usize> = map.split(',').map(|text| text.parse().unwrap()).collect();
        let mut stored = String::new();
        for len in numbers.chunks(2).map(|pair| pair[1]) {
            stored += &data[..len];
            // What fills it up need not be zeros.
            let filled = stored.len().next_multiple_of(512);
            stored += &"#".repeat(filled - stored.len());
        }
        let (pieces, map) = (numbers.len() / 2 + 1, format!("{map},20000,0"));
        let records = [
            ("GNU.sparse.size", "20000"),
            ("GNU.sparse.numblocks", &pieces.to_string()),
            ("GNU.sparse.map", &map),
        ];
        archive = archive.pax(&records).file(&format!("{number}"), &stored);
        archive = archive.file(&format!("after {number}"), &data[..number]);
    }
    same_as_gnu_tar(&archive.end(), &[]);
}

#[test]
fn archives_end_where_gnu_tar_says() {
    let one = Archive::new().file("one", "1");
    let two = Archive::new().file("two", "2");
    let concatenated = [one.clone().end(), two.clone().end()].concat();
    let one_zero_block = [one.clone().open_end(), vec![0; 512], two.clone().end()].concat();
    let garbage = [one.clone().end(), b"garbage".to_vec()].concat();
    for archive in [
        one.clone().open_end(),
        concatenated,
        one_zero_block,
        garbage,
        vec![0; 10240],
        one.clone().global(&[("comment", "x")]).end(),
        one.clone().pax(&[("path", "x")]).end(),
        one.clone().long(b'L', "x").end(),
        Archive::new()
            .header(Header::new("label", b'V').magic(GNU))
            .end(),
    ] {
        same_as_gnu_tar(&archive, &[]);
    }
    assert_eq!(lines(&[]), ["d0755 2 0:0 0 /"]);
    assert_eq!(lines(&Archive::new().directory("d").end()).len(), 2);
}

#[test]
fn unknown_types_are_regular_files() {
    let archive = Archive::new()
        .with_data(Header::new("unknown", b'Z'), b"data")
        .with_data(Header::new("unknown-slash/", b'Z'), b"data")
        .with_data(Header::new("blank/", b' '), b"")
        .end();
    same_as_gnu_tar(&archive, &[]);
}

#[test]
fn other_headers_are_understood_or_skipped() {
    let archive = Archive::new()
        .header(Header::new("label", b'V').magic(GNU))
        .with_data(Header::new("dump/", b'D').magic(GNU), b"Yfile\0\0")
        .with_data(
            Header::new("solaris", b'X'),
            &common::archive::records(&[("uid", "9")]),
        )
        .file("dump/file", "")
        .with_data(Header::new("acl", b'A'), b"user::rwx")
        .with_data(Header::new("unknown", b'Z'), b"data")
        .with_data(Header::new("unknown-slash/", b'Z'), b"data")
        .with_data(Header::new("slash/", b'0'), b"")
        .header(Header::new("sized/", b'0').size(700))
        .file("sized/file", "")
        .with_data(Header::new("data/", b'0'), b"of a directory")
        .end();
    assert_eq!(
        lines(&archive),
        [
            "d0755 6 0:0 1700000000 /",
            "d0644 2 1000:100 1700000000 /data",
            "d0644 2 1000:100 1700000000 /dump",
            "-0644 1 9:100 1700000000 0 /dump/file = ",
            "d0644 2 1000:100 1700000000 /sized",
            "-0644 1 1000:100 1700000000 0 /sized/file = ",
            "d0644 2 1000:100 1700000000 /slash",
            "-0644 1 1000:100 1700000000 4 /unknown = data",
            "-0644 1 1000:100 1700000000 4 /unknown-slash = data",
        ]
    );
    fails(
        &Archive::new()
            .header(Header::new("part", b'M').magic(GNU))
            .end(),
        &["\"part\"", "volume"],
    );
}

#[test]
fn broken_archives_are_errors_with_their_offset() {
    let file = || Archive::new().file("first", "data");
    let cut = |bytes: Vec<u8>, len: usize| bytes[..len].to_vec();
    let bad_field = |change: &dyn Fn(&mut Header)| {
        let mut header = Header::new("second", b'0');
        change(&mut header);
        file().header(header).end()
    };
    let big = Archive::new().with_data(Header::new("big", b'0').size(3000), &[1; 3000]);
    let mut bad_sum = file().end();
    bad_sum[3] ^= 1;
    let mut bad_second = file().file("second", "").end();
    bad_second[1024] ^= 1;
    let cases: Vec<(Vec<u8>, Vec<&str>)> = vec![
        (
            cut(big.clone().open_end(), 2000),
            vec!["offset 512", "\"big\"", "1488 of", "3000"],
        ),
        (
            cut(big.open_end(), 3511),
            vec!["offset 512", "\"big\"", "2999 of", "3000"],
        ),
        (cut(file().end(), 300), vec!["offset 0", "300 bytes"]),
        (
            b"This is no archive. ".repeat(100),
            vec!["offset 148", "checksum", "tar archive?"],
        ),
        (bad_sum, vec!["offset 148", "checksum"]),
        (bad_second, vec!["offset 1172", "checksum"]),
        (
            bad_field(&|header| header.size = b"00000000xyz\0".to_vec()),
            vec!["offset 1148", "\"second\"", "size is", "xyz"],
        ),
        (
            bad_field(&|header| header.uid = base256(-5_000_000_000, 8)),
            vec!["offset 1132", "\"second\"", "uid"],
        ),
        (
            bad_field(&|header| header.size = base256(i64::MAX, 12)),
            vec!["\"second\"", "bytes"],
        ),
        (
            bad_field(&|header| header.name = Vec::new()),
            vec!["offset 1024", "path is empty"],
        ),
        (
            Archive::new().pax(&[("path", "a\0b")]).file("x", "").end(),
            vec!["NUL"],
        ),
        (
            Archive::new().pax(&[("mtime", "soon")]).file("x", "").end(),
            vec!["offset 512", "mtime"],
        ),
        (
            Archive::new()
                .with_data(Header::new("x", b'x'), b"12 path=x\n")
                .file("x", "")
                .end(),
            vec!["offset 512", "PAX record"],
        ),
        (
            Archive::new().pax(&[("uid", "1")]).open_end(),
            vec!["ends after an extended header"],
        ),
        (
            Archive::new()
                .header(Header::new("x", b'x').size(1 << 30))
                .end(),
            vec!["extended header"],
        ),
        (
            file().symlink("link", "").end(),
            vec!["\"link\"", "without a target"],
        ),
        (
            Archive::new()
                .pax(&[("path", "n".repeat(256))])
                .file("", "")
                .end(),
            vec!["256 bytes"],
        ),
        (
            Archive::new()
                .pax(&[("linkpath", "n".repeat(4096))])
                .symlink("l", "")
                .end(),
            vec!["4096"],
        ),
        (
            Archive::new()
                .header(Header::new("c", b'3').device(4096, 0))
                .end(),
            vec!["\"c\"", "4096:0"],
        ),
    ];
    for (archive, expected) in cases {
        fails(&archive, &expected);
    }
}

#[test]
fn long_names_and_links_up_to_the_limits() {
    let name = "n".repeat(255);
    let target = "t".repeat(4095);
    let deep = format!("{name}/").repeat(20) + "end";
    let archive = Archive::new()
        .pax(&[("path", &name), ("linkpath", &target)])
        .symlink("", "")
        .pax(&[("path", format!("deep/{deep}"))])
        .file("", "deep")
        .file("dots/-", "")
        .file("dots/!", "")
        .file("dots/..a", "")
        .file("dots/.-", "")
        .file("dots/...", "")
        .end();
    let files = indexed(&archive).unwrap();
    let content = |path: &str| {
        files
            .iter()
            .find(|file| file.path == path)
            .unwrap()
            .content
            .clone()
    };
    assert_eq!(content(&format!("/{name}")), format!("-> {target}"));
    assert_eq!(content(&format!("/deep/{deep}")), "= deep");
    assert_eq!(
        files
            .iter()
            .filter(|file| file.path.starts_with("/dots/"))
            .count(),
        5
    );
    // The C library cannot name a path this long, so GNU tar is not asked.
}

#[test]
fn link_targets_of_every_length() {
    let mut archive = Archive::new();
    for len in (1..1200)
        .step_by(13)
        .chain([447, 448, 449, 480, 481, 511, 512, 513, 4095])
    {
        let target = "t".repeat(len);
        archive = archive
            .pax(&[("linkpath", target)])
            .symlink(&format!("link{len}"), "");
    }
    same_as_gnu_tar(&archive.end(), &[]);
}

#[test]
fn large_directories() {
    let mut archive = Archive::new().directory("d/");
    for at in 0..100_000 {
        archive = archive.file(&format!("d/{:x}-{at}", at * 7919 % 100_000), "");
    }
    let image = common::index_of_bytes(&archive.end());
    let report = check(&image, &[], &mut |_| {}).unwrap();
    assert_eq!((report.problems.len(), report.files), (0, 100_000));
    image.find(b"/d/0-0").unwrap();
    image
        .find(format!("/d/{:x}-99999", 99_999 * 7919 % 100_000).as_bytes())
        .unwrap();
}

#[test]
fn extended_attributes_of_all_writers() {
    let long = "v".repeat(60_000);
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.a", "one"),
            ("SCHILY.xattr.trusted.b", "two\n"),
        ])
        .file("schily", "data")
        .pax(&[
            ("LIBARCHIVE.xattr.user.%61", "b25l"),
            ("SCHILY.xattr.trusted.b", "two\n"),
        ])
        .directory("libarchive/")
        .pax(&[
            ("RHT.security.selinux", "label"),
            ("SCHILY.xattr.trusted.empty", ""),
        ])
        .symlink("selinux", "schily")
        .pax(&[
            ("SCHILY.xattr.com.apple.quarantine", "x"),
            ("SCHILY.xattr.user.", "x"),
        ])
        .file("left-out", "")
        .pax(&[
            ("SCHILY.xattr.trusted.long", long.as_str()),
            ("SCHILY.xattr.trusted.other", "2"),
        ])
        .symlink("long", "target")
        .pax(&[(
            "SCHILY.acl.access",
            "user::rw-,user:7:rwx,group::r--,mask::rwx,other::r--",
        )])
        .file("acl", "")
        .pax(&[("SCHILY.acl.access", "user::rwx,group::r-x,other::---")])
        .file("minimal", "")
        .pax(&[
            ("SCHILY.acl.default", "user::rwx,group::r-x,other::---"),
            (
                "SCHILY.acl.access",
                "user::rwx,group:root:r-x,group::r-x,mask::rwx,other::---",
            ),
        ])
        .directory("defaults/")
        .global(&[("SCHILY.xattr.user.global", "g")])
        .pax(&[("SCHILY.xattr.user.a", "one")])
        .file("global", "data")
        .end();
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, permissions, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        ferofs::text::Escaped(&bytes).to_string()
    };
    let none = u32::MAX;
    let access = acl(&[
        (1, 6, none),
        (2, 7, 7),
        (4, 4, none),
        (16, 7, none),
        (32, 4, none),
    ]);
    let group = acl(&[
        (1, 7, none),
        (4, 5, none),
        (8, 5, 0),
        (16, 7, none),
        (32, 0, none),
    ]);
    let default = acl(&[(1, 7, none), (4, 5, none), (32, 0, none)]);
    let expected = [
        "d0755 4 0:0 1700000000 /".to_string(),
        format!("-0674 1 1000:100 1700000000 0 /acl =  [system.posix_acl_access={access}]"),
        format!(
            "d0770 2 1000:100 1700000000 /defaults [system.posix_acl_access={group}] \
             [system.posix_acl_default={default}]"
        ),
        "-0644 1 1000:100 1700000000 4 /global = data [user.a=one] [user.global=g]".to_string(),
        "-0644 1 1000:100 1700000000 0 /left-out = ".to_string(),
        "d0755 2 1000:100 1700000000 /libarchive [trusted.b=two\\n] [user.a=one]".to_string(),
        format!("l0777 1 1000:100 1700000000 /long -> target [trusted.long={long}] [trusted.other=2]"),
        "-0750 1 1000:100 1700000000 0 /minimal = ".to_string(),
        "-0644 1 1000:100 1700000000 4 /schily = data [trusted.b=two\\n] [user.a=one]".to_string(),
        "l0777 1 1000:100 1700000000 /selinux -> schily [security.selinux=label\\x00] [trusted.empty=]"
            .to_string(),
    ];
    assert_eq!(lines(&archive), expected);
    for (key, value, message) in [
        ("LIBARCHIVE.xattr.user.a", "%%%", "base64"),
        (
            &format!("SCHILY.xattr.user.{}", "n".repeat(256)),
            "x",
            "too long a name",
        ),
    ] {
        fails(
            &Archive::new().pax(&[(key, value)]).file("f", "").end(),
            &[message],
        );
    }
}

#[test]
fn lists_that_are_no_acls_are_left_out() {
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.system.posix_acl_access", "\x02\0\0\0oops"),
            ("SCHILY.xattr.user.a", "kept"),
        ])
        .file("f", "")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", "\x02\0\0\0")])
        .directory("d/")
        .pax(&[(
            "SCHILY.acl.access",
            "user::rwx,user:nobody-knows:rwx,group::r-x,mask::rwx,other::---",
        )])
        .file("unknown", "")
        .pax(&[(
            "SCHILY.acl.access",
            "user::rwx,user:7:rwx,group::r-x,other::---",
        )])
        .file("without-mask", "")
        .end();
    assert_eq!(
        lines(&archive)[1..],
        [
            "d0755 2 1000:100 1700000000 /d",
            "-0644 1 1000:100 1700000000 0 /f =  [user.a=kept]",
            "-0644 1 1000:100 1700000000 0 /unknown = ",
            "-0644 1 1000:100 1700000000 0 /without-mask = ",
        ]
    );
}

#[test]
fn attributes_are_only_where_linux_lets_them_be() {
    let acl = [
        b"\x02\0\0\0".as_slice(),
        b"\x01\0\x06\0\xff\xff\xff\xff",
        b"\x02\0\x06\0\x07\0\0\0",
        b"\x04\0\x04\0\xff\xff\xff\xff",
        b"\x10\0\x04\0\xff\xff\xff\xff",
        b"\x20\0\x04\0\xff\xff\xff\xff",
    ]
    .concat();
    let records = [
        ("SCHILY.xattr.user.a", b"1".as_slice()),
        ("SCHILY.xattr.system.posix_acl_access", &acl),
        ("SCHILY.xattr.system.posix_acl_default", &acl),
        ("SCHILY.xattr.trusted.b", b"2"),
    ];
    let archive = Archive::new()
        .pax(&records)
        .file("file", "")
        .pax(&records)
        .symlink("link", "file")
        .pax(&records)
        .header(Header::new("pipe", b'6'))
        .pax(&records)
        .directory("dir")
        .end();
    let names: Vec<_> = indexed(&archive)
        .unwrap()
        .into_iter()
        .skip(1)
        .map(|file| {
            let names = file
                .xattrs
                .iter()
                .map(|xattr| xattr.split('=').next().unwrap());
            let names: Vec<_> = names.collect();
            (file.path, names.join(" "))
        })
        .collect();
    let expected = [
        (
            "/dir",
            "system.posix_acl_access system.posix_acl_default trusted.b user.a",
        ),
        ("/file", "system.posix_acl_access trusted.b user.a"),
        ("/link", "trusted.b"),
        ("/pipe", "system.posix_acl_access trusted.b"),
    ];
    let expected = expected.map(|(path, names)| (path.to_string(), names.to_string()));
    assert_eq!(names, expected);
}

#[test]
fn an_access_control_list_and_the_mode_say_the_same() {
    // Owner, user 7, group, mask, others; without those that are None.
    let acl = |[owner, user, group, mask, others]: [Option<u8>; 5]| {
        let mut bytes = vec![2, 0, 0, 0];
        let entries = [(1, owner), (2, user), (4, group), (16, mask), (32, others)];
        for (tag, permissions) in entries {
            if let Some(permissions) = permissions {
                bytes.extend([tag, 0, permissions, 0]);
                bytes.extend(if tag == 2 { 7 } else { u32::MAX }.to_le_bytes());
            }
        }
        bytes
    };
    let all = |owner, user, group, mask, others| {
        [
            Some(owner),
            Some(user),
            Some(group),
            Some(mask),
            Some(others),
        ]
    };
    let (some, none) = (Some, None);
    // The mode of the entry, the list it comes with, and what is left of that.
    let cases = [
        (0o755, [some(6), none, some(4), none, some(0)], None),
        (0o644, all(6, 6, 4, 6, 4), Some(all(6, 6, 4, 4, 4))),
        (0o640, all(7, 7, 0, 7, 0), Some(all(6, 7, 0, 4, 0))),
        (0o4600, all(7, 6, 4, 7, 7), Some(all(6, 6, 4, 0, 0))),
        (
            0o751,
            [some(6), none, some(4), some(7), some(0)],
            Some([some(7), none, some(4), some(5), some(1)]),
        ),
        (0o644, [none; 5], None),
    ];
    let name = "SCHILY.xattr.system.posix_acl_access";
    for (mode, list, expected) in cases {
        for kind in [b'0', b'5'] {
            let archive = Archive::new()
                .pax(&[(name, acl(list))])
                .header(Header::new("f", kind).mode(mode))
                .end();
            let found = indexed(&archive).unwrap().remove(1);
            let expected = expected.map(acl).map(|acl| {
                let acl = ferofs::text::Escaped(&acl).to_string();
                format!("system.posix_acl_access={acl}")
            });
            let line = found.line();
            assert!(line.contains(&format!("{mode:04o}")), "{line}");
            assert_eq!(found.xattrs, Vec::from_iter(expected), "{line}");
        }
    }
}

#[test]
fn an_attribute_that_is_too_large_is_left_out() {
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.large", "x".repeat(65_536)),
            ("SCHILY.xattr.user.largest", "x".repeat(65_535)),
        ])
        .file("f", "data")
        .end();
    let mut tree = ferofs::tree::Tree::new();
    let input = ferofs::tar::StreamInput::new(archive.as_slice());
    let notes = ferofs::build::apply_archive(input, &mut tree, 0, &mut ())
        .unwrap()
        .notes;
    let [note] = notes.as_slice() else {
        panic!("{notes:?}");
    };
    assert!(
        note.contains("\"user.large\" of \"f\" has more than 65535 bytes"),
        "{note}"
    );
    let names = indexed(&archive).unwrap().remove(1).xattrs;
    assert!(
        names.len() == 1 && names[0].starts_with("user.largest="),
        "{names:?}"
    );
}

#[test]
fn an_archive_may_end_with_the_last_byte_of_data() {
    let whole = Archive::new()
        .file("a", "first")
        .file("b", "the end")
        .open_end();
    let expected = lines(&whole);
    for len in [whole.len() - 1, whole.len() - 300, whole.len() - 512 + 7] {
        let cut = &whole[..len];
        assert_eq!(lines(cut), expected, "{len}");
        let mut tree = ferofs::tree::Tree::new();
        let input = ferofs::tar::StreamInput::new(cut);
        let archive = ferofs::build::apply_archive(input, &mut tree, 0, &mut ()).unwrap();
        let note = archive.notes.join("\n");
        assert!(
            note.contains("ends with the data of \"b\", without an end"),
            "{note}"
        );
    }
}

#[test]
fn a_directory_without_a_name_is_the_root() {
    let archive = Archive::new()
        .header(Header::new("", b'5').mode(0o750).owner(1, 2))
        .file("a", "")
        .end();
    assert_eq!(lines(&archive)[0], "d0750 2 1:2 1700000000 /");
    same_as_gnu_tar(&archive, &[]);
    fails(&Archive::new().file("", "").end(), &["its path is empty"]);
}

#[test]
fn numbers_below_zero_as_other_writers_have_them() {
    // Rust's tar has times without a sign, npm's tar-stream a minus behind zeros, macOS nobody with the number -2.
    let mut unsigned = Header::new("unsigned", b'0');
    unsigned.mtime = [&[0x80, 0, 0, 0], (-5_i64).to_be_bytes().as_slice()].concat();
    let mut minus = Header::new("minus", b'0');
    minus.mtime = b"00000000-17 ".to_vec();
    let mut nobody = Header::new("nobody", b'0');
    nobody.uid = (-2_i64).to_be_bytes().to_vec();
    nobody.gid = (-2_i64).to_be_bytes().to_vec();
    let archive = Archive::new()
        .header(unsigned)
        .header(minus)
        .header(nobody)
        .pax(&[("mtime", "18446744073709551611"), ("uid", "-2")])
        .file("pax", "")
        .end();
    assert_eq!(
        lines(&archive)[1..],
        [
            "-0644 1 1000:100 -15 0 /minus = ",
            "-0644 1 4294967294:4294967294 1700000000 0 /nobody = ",
            "-0644 1 4294967294:100 -5 0 /pax = ",
            "-0644 1 1000:100 -5 0 /unsigned = ",
        ]
    );
}

#[test]
fn nobody_as_an_owner_is_root() {
    let mut header = Header::new("f", b'0');
    header.uid = base256_short(u32::MAX);
    header.gid = base256_short(u32::MAX - 1);
    let archive = Archive::new()
        .header(header)
        .pax(&[("uid", "4294967294"), ("gid", "4294967295")])
        .file("g", "")
        .end();
    assert_eq!(
        lines(&archive)[1..],
        [
            "-0644 1 0:4294967294 1700000000 0 /f = ",
            "-0644 1 4294967294:0 1700000000 0 /g = ",
        ]
    );
}

#[test]
fn very_many_extended_attributes() {
    let names: Vec<String> = (0..600)
        .map(|at| format!("SCHILY.xattr.user.{at:04}"))
        .collect();
    let records: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
    let large = "v".repeat(65_535);
    let large: Vec<(&str, &str)> = names
        .iter()
        .take(6)
        .map(|name| (name.as_str(), large.as_str()))
        .collect();
    let archive = Archive::new()
        .pax(&records)
        .file("one", "1")
        .pax(&records)
        .directory("two")
        .pax(&large)
        .file("large", "2")
        .end();
    let files = indexed(&archive).unwrap();
    let count = |path: &str| {
        files
            .iter()
            .find(|file| file.path == path)
            .unwrap()
            .xattrs
            .len()
    };
    assert_eq!(
        (count("/one"), count("/two"), count("/large")),
        (600, 600, 6)
    );
}

#[test]
fn more_extended_attributes_than_linux_lists() {
    let names: Vec<String> = (0..5000)
        .map(|at| format!("SCHILY.xattr.user.name{at:06}"))
        .collect();
    let records: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let archive = Archive::new().pax(&records).file("f", "").end();
    fails(&archive, &["offset 512", "bytes of names", "65536"]);
}

/// Files whose sizes are on both sides of every border, sparse ones among them.
fn sizes() -> Archive {
    let mut archive = Archive::new()
        .directory("d/")
        .pax(&[("linkpath", "t".repeat(600))])
        .symlink("link", "");
    for (at, size) in [
        0, 1, 447, 448, 480, 511, 512, 513, 4000, 4032, 4064, 4095, 4096, 4097, 9000,
    ]
    .into_iter()
    .enumerate()
    {
        let text: String = (0..size)
            .map(|byte| char::from(b'a' + (byte % 23) as u8))
            .collect();
        archive = archive.file(&format!("d/{size}"), &text);
        archive = archive.hard_link(&format!("link{at}"), &format!("d/{size}"));
    }
    let data = "s".repeat(512) + "end";
    archive
        .pax(&[
            ("GNU.sparse.size", "3000000"),
            ("GNU.sparse.map", "100352,512,2000000,3"),
        ])
        .file("sparse", &data)
        .pax(&[
            ("GNU.sparse.size", "1000"),
            ("GNU.sparse.map", "13,512,900,3"),
        ])
        .file("odd", &data)
        .pax(&[
            ("GNU.sparse.size", "100000"),
            ("GNU.sparse.map", "100000,0"),
        ])
        .file("hole", "")
        .pax(&[("SCHILY.xattr.user.a", "x".repeat(3000))])
        .file("attributes", "data")
        .pax(&[("SCHILY.xattr.user.a", "x".repeat(3000))])
        .file("attributes and a tail", &"data".repeat(1300))
        .file("replaced", &REPLACED.repeat(9000))
        .file("replaced", "by this")
}

/// What is in a file that another one takes the place of.
const REPLACED: &str = "Q";

#[test]
fn images_with_their_data_have_the_same_files() {
    let scratch = Scratch::new();
    let (tar, path) = (scratch.join("archive.tar"), scratch.join("image"));
    fs::write(&tar, sizes().end()).unwrap();
    let mut seen: Option<Vec<Described>> = None;
    for block_bits in 9..=12 {
        for (inline_data, align) in [(true, 1), (false, 1), (true, 65536)] {
            let options = image::Options::default()
                .with_block_bits(block_bits)
                .with_mode(image::Mode::Full)
                .with_align(align)
                .with_inline_data(inline_data);
            let cut = options.clone().with_chunk_bits(Some(16));
            let stored = common::stored_image_of;
            for (make, options) in [
                (
                    common::image_of as fn(&Path, &Path, &image::Options) -> Image,
                    &options,
                ),
                (stored, &options),
                (stored, &cut),
            ] {
                let image = make(&tar, &path, options);
                let found = description(&image, &tar);
                let content = |path: &str| found.iter().find(|file| file.path == path).unwrap();
                assert_eq!(content("/d/1").content, "= a");
                match &seen {
                    Some(seen) => assert_eq!(found, *seen, "blocks of {block_bits} bits"),
                    None => seen = Some(found),
                }
                let bytes = fs::read(&path).unwrap();
                let replaced = REPLACED.repeat(100);
                let mut windows = bytes.windows(replaced.len());
                assert!(!windows.any(|window| window == replaced.as_bytes()));
            }
        }
    }
    assert_eq!(indexed(&sizes().end()), Ok(seen.unwrap()));
}

#[test]
fn images_without_data_have_sizes_and_zeros() {
    let scratch = Scratch::new();
    let (tar, path) = (scratch.join("archive.tar"), scratch.join("image"));
    fs::write(&tar, sizes().end()).unwrap();
    let options = image::Options::default()
        .with_block_bits(12)
        .with_mode(image::Mode::Meta);
    let image = common::image_of(&tar, &path, &options);
    let found = description(&image, &tar);
    let of = |path: &str| found.iter().find(|file| file.path == path).unwrap();
    assert_eq!(
        (of("/d/9000").size.as_str(), of("/sparse").size.as_str()),
        ("9000", "3000000")
    );
    let zeros = format!("= sha256:{}", ferofs::digest::Digest::of(&[0; 9000]));
    assert_eq!(of("/d/9000").content, zeros);
}

/// GNU tar fills pieces up to blocks, others do not; nothing but what comes behind them says so.
#[test]
fn pieces_of_sparse_files_are_filled_up_or_not() {
    let sparse = |map: &str, data: &[u8], size: usize| {
        Archive::new()
            .pax(&[("GNU.sparse.size", "9000000"), ("GNU.sparse.map", map)])
            .with_data(Header::new("sparse", b'0').size(size as u64), data)
            .file("after", "after")
            .end()
    };
    let scratch = Scratch::new();
    let (tar, path) = (scratch.join("archive.tar"), scratch.join("image"));
    // The larger ones do not fit into what is read at once.
    let pieces = [(5, 7), (1_500_000, 2_300_001)];
    for (archive, expected) in pieces.into_iter().flat_map(|(first, second)| {
        let map = format!("10,{first},5000000,{second},9000000,0");
        let data: Vec<u8> = (0..first + second).map(|at| (at % 251) as u8).collect();
        let mut content = vec![0; 9_000_000];
        content[10..10 + first].copy_from_slice(&data[..first]);
        content[5_000_000..5_000_000 + second].copy_from_slice(&data[first..]);
        let expected = format!("= sha256:{}", ferofs::digest::Digest::of(&content));
        let mut padded = data[..first].to_vec();
        padded.resize(first.next_multiple_of(512), 0);
        padded.extend_from_slice(&data[first..]);
        let whole = padded.len().next_multiple_of(512);
        [
            (sparse(&map, &data, first + second), expected.clone()),
            (sparse(&map, &padded, first + second), expected.clone()),
            (sparse(&map, &padded, whole), expected),
        ]
    }) {
        fs::write(&tar, &archive).unwrap();
        let options = image::Options::default().with_mode(image::Mode::Full);
        let image = common::image_of(&tar, &path, &options);
        let found = description(&image, &tar);
        let stored = common::stored_image_of(&tar, &path, &options);
        assert_eq!(description(&stored, &tar), found);
        let of = |path: &str| found.iter().find(|file| file.path == path).unwrap();
        assert_eq!(of("/sparse").content, expected);
        assert_eq!(of("/after").content, "= after");
        assert_eq!(indexed(&archive), Ok(found));
    }
}
