// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Archives and layers that try to get out of the root or at what they should not, by links, `..`,
//! whiteouts and what replaces what. Container runtimes extract each of these somewhere harmless,
//! or refuse it; an image must have the same files.
//!
//! Every case is done in all ways there are: both layers as one archive, and merged from two
//! indexes with whiteouts in every form; and what comes of it is extracted.

#![allow(missing_docs)]

mod common;

use common::Described;
use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use common::description;
use common::description_of_directory;
use common::description_over;
use common::index_both_ways;
use common::index_of_layer;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs::inspect::contents::Contents;
use ferofs::inspect::extract;
use ferofs::inspect::extract::extract;
use ferofs::merge::Merge;
use ferofs::tree::whiteouts::Form;
use std::fs;
use std::fs::File;
use std::path::PathBuf;

/// One attempt.
struct Case {
    name: &'static str,
    /// Entries of the layer below; see [`archive`].
    lower: &'static [&'static str],
    /// Entries of the layer itself.
    upper: &'static [&'static str],
    /// What there is at the end; see [`hold`].
    expected: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "through an absolute link",
        lower: &[],
        upper: &["dir etc", "link local /etc", "file local/kept inside"],
        expected: &["file etc/kept inside", "link local /etc"],
    },
    Case {
        name: "through a link that goes up and down",
        lower: &[],
        upper: &[
            "dir etc",
            "dir other",
            "link local /other/../etc",
            "file local/kept inside",
        ],
        expected: &["file etc/kept inside"],
    },
    Case {
        name: "through a link above the root",
        lower: &[],
        upper: &[
            "dir etc",
            "link local ../../../../etc",
            "file local/kept inside",
        ],
        expected: &["file etc/kept inside"],
    },
    Case {
        name: "through an absolute link to an absolute link",
        lower: &[],
        upper: &[
            "dir etc",
            "dir other",
            "link other/etc /etc",
            "link local /other/etc",
            "file local/kept inside",
        ],
        expected: &["file etc/kept inside", "link local /other/etc"],
    },
    Case {
        name: "through a relative link to an absolute link",
        lower: &[],
        upper: &[
            "dir etc",
            "dir other",
            "link other/etc /etc",
            "link local ./other/etc",
            "file local/kept inside",
        ],
        expected: &["file etc/kept inside"],
    },
    Case {
        name: "emptying a file behind a link",
        lower: &[],
        upper: &[
            "dir etc",
            "file etc/shadow secret",
            "link local /etc",
            "file local/shadow",
        ],
        expected: &["file etc/shadow"],
    },
    Case {
        name: "hard link behind a link above the root",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "dir out",
            "link out/d ../../etc",
            "hard out/mine /out/d/passwd",
        ],
        expected: &["same out/mine etc/passwd"],
    },
    Case {
        name: "hard link behind a link that goes down and out",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "dir out",
            "dir down",
            "link out/d ../down/../../etc",
            "hard out/mine out/d/passwd",
        ],
        expected: &["same out/mine etc/passwd"],
    },
    Case {
        name: "hard link behind an absolute link",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "link local /etc",
            "hard mine /local/passwd",
        ],
        expected: &["same mine etc/passwd"],
    },
    Case {
        name: "hard link behind a link far above the root",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "link local ../../../../../../../etc",
            "hard mine local/passwd",
        ],
        expected: &["same mine etc/passwd"],
    },
    Case {
        name: "hard link behind a link through a directory that is not there",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "link local missing/../../../etc",
            "hard mine local/passwd",
        ],
        expected: &["error not in the archive"],
    },
    Case {
        name: "hard link above the root",
        lower: &[],
        upper: &["file etc/passwd inside", "hard mine ../../../../etc/passwd"],
        expected: &["same mine etc/passwd"],
    },
    Case {
        name: "absolute hard link",
        lower: &[],
        upper: &["file etc/passwd inside", "hard mine /etc/passwd"],
        expected: &["same mine etc/passwd"],
    },
    Case {
        name: "hard link to what only the machine has",
        lower: &[],
        upper: &["hard mine /proc/self/environ"],
        expected: &["error not in the archive"],
    },
    Case {
        name: "hard link to a link whose target comes later",
        lower: &[],
        upper: &[
            "dir etc",
            "link mine /etc/passwd",
            "hard again mine",
            "file etc/passwd after",
        ],
        expected: &[
            "link again /etc/passwd",
            "same again mine",
            "file etc/passwd after",
        ],
    },
    Case {
        name: "hard link to a relative link is one of the link",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "link local ../../../etc/passwd",
            "hard mine /local",
        ],
        expected: &["link mine ../../../etc/passwd", "same mine local"],
    },
    Case {
        name: "hard link to an absolute link is one of the link",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "link local /etc/passwd",
            "hard mine /local",
        ],
        expected: &[
            "link mine /etc/passwd",
            "same mine local",
            "file etc/passwd inside",
        ],
    },
    Case {
        name: "hard link to a link that leads outside changes nothing there",
        lower: &[],
        upper: &[
            "link tmp/out /tmp/elsewhere",
            "hard mine /tmp/out",
            "file mine new",
        ],
        expected: &[
            "link tmp/out /tmp/elsewhere",
            "file mine new",
            "none tmp/elsewhere",
        ],
    },
    Case {
        name: "a file in place of a link is not written through it",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "link mine /etc/passwd",
            "file mine new",
        ],
        expected: &["file mine new", "file etc/passwd inside"],
    },
    Case {
        name: "a link called ..",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "link .. /etc/",
            "hard mine /etc/passwd",
        ],
        expected: &["same mine etc/passwd", "dir etc"],
    },
    Case {
        name: "a file called like the root",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "file a/../. oops",
            "fifo /",
            "link . /etc",
        ],
        expected: &["file etc/passwd inside", "none a"],
    },
    Case {
        name: "a link whose path ends in ..",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "link local/sub/.. /etc/",
            "hard local/mine /etc/passwd",
        ],
        expected: &["link local /etc/", "same etc/mine etc/passwd"],
    },
    Case {
        name: "paths above the root",
        lower: &[],
        upper: &[
            "file ../../etc/passwd inside",
            "file /a/../../../etc/group inside",
        ],
        expected: &["file etc/passwd inside", "file etc/group inside", "none a"],
    },
    Case {
        name: "a directory written with a slash",
        lower: &[],
        upper: &[
            "file etc/passwd inside",
            "dir local//",
            "hard local/mine /etc/passwd",
        ],
        expected: &["same local/mine etc/passwd", "dir local"],
    },
    Case {
        name: "a link to itself",
        lower: &[],
        upper: &["link loop loop", "file loop/file x"],
        expected: &["error symbolic links"],
    },
    Case {
        name: "a link in place of a directory",
        lower: &["dir local", "file local/old x"],
        upper: &[
            "file etc/passwd inside",
            "link local /etc",
            "hard local/mine /etc/passwd",
        ],
        expected: &[
            "link local /etc",
            "same etc/mine etc/passwd",
            "none etc/old",
        ],
    },
    Case {
        name: "a relative link in place of a directory",
        lower: &["dir local", "file etc/passwd below"],
        upper: &[
            "file etc/passwd inside",
            "link local ../../etc",
            "hard local/mine /etc/passwd",
        ],
        expected: &["link local ../../etc", "same etc/mine etc/passwd"],
    },
    Case {
        name: "a directory in place of a link",
        lower: &["dir etc", "file etc/group below", "link local /etc"],
        upper: &[
            "file etc/passwd inside",
            "dir local/",
            "hard local/mine /etc/passwd",
        ],
        expected: &[
            "dir local",
            "same local/mine etc/passwd",
            "none etc/mine",
            "none local/group",
        ],
    },
    Case {
        name: "a directory in place of a link, and a file in it",
        lower: &[
            "file etc/passwd inside",
            "link local etc",
            "hard local/mine etc/passwd",
        ],
        upper: &["dir local/", "file local/mine different"],
        expected: &[
            "file local/mine different",
            "file etc/mine inside",
            "same etc/mine etc/passwd",
        ],
    },
    Case {
        name: "a file below a link of the layer below",
        lower: &["file etc/passwd below", "link local /etc"],
        upper: &["file local/passwd above"],
        expected: &["link local /etc", "file etc/passwd above"],
    },
    Case {
        name: "a file below a link that leads nowhere",
        lower: &["link local /missing"],
        upper: &["file local/file x"],
        expected: &["link local /missing", "file missing/file x"],
    },
    Case {
        name: "a file below a file",
        lower: &["file local x"],
        upper: &["file local/file y"],
        expected: &["dir local", "file local/file y"],
    },
    Case {
        name: "whiteout of what is above the root",
        lower: &["file etc/passwd inside"],
        upper: &["file .wh..."],
        expected: &["error whiteout"],
    },
    Case {
        name: "whiteout of the directory above",
        lower: &["file etc/passwd inside"],
        upper: &["file etc/.wh..."],
        expected: &["error whiteout"],
    },
    Case {
        name: "whiteout of the root",
        lower: &["file etc/passwd inside"],
        upper: &["file .wh.."],
        expected: &["error whiteout"],
    },
    Case {
        name: "whiteout of the directory it is in",
        lower: &["file etc/passwd inside"],
        upper: &["file etc/.wh.."],
        expected: &["error whiteout"],
    },
    Case {
        name: "whiteout of nothing",
        lower: &["file etc/passwd inside"],
        upper: &["file etc/.wh."],
        expected: &["error whiteout"],
    },
    Case {
        name: "whiteout of a link leaves its target",
        lower: &["file etc/passwd inside", "link local /etc"],
        upper: &["file .wh.local"],
        expected: &["file etc/passwd inside", "none local"],
    },
    Case {
        name: "whiteout behind a link",
        lower: &[
            "file etc/passwd inside",
            "file etc/gone x",
            "link local /etc",
        ],
        upper: &["file local/.wh.gone"],
        expected: &["file etc/passwd inside", "none etc/gone", "link local /etc"],
    },
    Case {
        name: "opaque directory behind a link",
        lower: &[
            "file etc/passwd inside",
            "file etc/gone x",
            "link local /etc",
        ],
        upper: &["file local/.wh..wh..opq", "file local/new n"],
        expected: &[
            "none etc/passwd",
            "none etc/gone",
            "link local /etc",
            "file etc/new n",
        ],
    },
    Case {
        name: "a directory called like a whiteout",
        lower: &["file etc/passwd inside", "file etc/group x"],
        upper: &["file .wh.etc/file data"],
        expected: &["file etc/passwd inside", "file .wh.etc/file data"],
    },
    Case {
        name: "a whiteout that is a directory with something in it",
        lower: &["file etc/passwd inside", "file kept x"],
        upper: &["dir .wh.etc", "file .wh.etc/file data"],
        expected: &["none etc", "file kept x", "file .wh.etc/file data"],
    },
    Case {
        name: "whiteout behind a link that leads nowhere",
        lower: &["file etc/passwd inside", "link local /missing"],
        upper: &["file local/.wh.etc"],
        expected: &["file etc/passwd inside", "link local /missing"],
    },
    Case {
        name: "whiteout behind ..",
        lower: &["file etc/passwd inside", "link missing /etc"],
        upper: &["file missing/../.wh.etc"],
        expected: &["none etc", "link missing /etc"],
    },
    Case {
        name: "whiteout above the root",
        lower: &["file etc/passwd inside"],
        upper: &["file ../../.wh.etc", "file kept x"],
        expected: &["none etc", "file kept x"],
    },
    Case {
        name: "opaque root",
        lower: &["file etc/passwd inside", "link local /etc"],
        upper: &["file .wh..wh..opq", "file kept x"],
        expected: &["none etc", "none local", "file kept x"],
    },
    Case {
        name: "opaque root by a path above it",
        lower: &["file etc/passwd inside"],
        upper: &["file ../.wh..wh..opq", "file kept x"],
        expected: &["none etc", "file kept x"],
    },
    Case {
        name: "whiteout and file of one name, in either order",
        lower: &["file a below", "file b below", "dir c", "file c/old x"],
        upper: &[
            "file .wh.a",
            "file a above",
            "file b above",
            "file .wh.b",
            "dir c",
            "file .wh.c",
        ],
        expected: &["file a above", "file b above", "dir c", "none c/old"],
    },
    Case {
        name: "what AUFS keeps for itself",
        lower: &[],
        upper: &[
            "file .wh..wh.plnk/1.2 data",
            "hard mine .wh..wh.plnk/1.2",
            "file .wh..wh.aufs",
        ],
        expected: &["file mine data", "none .wh..wh.plnk", "none .wh..wh.aufs"],
    },
];

/// An archive of entries that are a kind, a path and more: the content of a file, the target of a
/// link.
fn archive(entries: &[&str]) -> Vec<u8> {
    let mut archive = Archive::new();
    for entry in entries {
        let mut words = entry.splitn(3, ' ');
        let (kind, path) = (words.next().unwrap(), words.next().unwrap());
        let more = words.next().unwrap_or_default();
        archive = match kind {
            "dir" => archive.directory(path),
            "file" => archive.file(path, more),
            "link" => archive.symlink(path, more),
            "hard" => archive.hard_link(path, more),
            "fifo" => archive.header(Header::new(path, b'6')),
            _ => panic!("{entry}"),
        };
    }
    archive.end()
}

/// Whether files are as a line says: as in an archive, but `same PATH PATH` for one file with two
/// names, and `none PATH` for none.
fn holds(files: &[Described], line: &str) -> bool {
    let find = |path: &str| files.iter().find(|file| file.path == format!("/{path}"));
    let mut words = line.splitn(3, ' ');
    let (kind, path) = (words.next().unwrap(), words.next().unwrap());
    let more = words.next().unwrap_or_default();
    let file = find(path);
    match kind {
        "none" => file.is_none(),
        "dir" => file.is_some_and(|file| file.kind == 'd'),
        "file" => file.is_some_and(|file| file.kind == '-' && file.content == format!("= {more}")),
        "link" => file.is_some_and(|file| file.kind == 'l' && file.content == format!("-> {more}")),
        "same" => {
            // Several names, and all else alike: no two files of a case have the same content.
            let same = |a: &Described, b: &Described| {
                a.links > 1 && (a.links, &a.content, a.kind) == (b.links, &b.content, b.kind)
            };
            file.zip(find(more)).is_some_and(|(a, b)| same(a, b))
        }
        _ => panic!("{line}"),
    }
}

fn judge(case: &Case, way: &str, found: Result<Vec<Described>, String>) {
    let name = case.name;
    let error = case
        .expected
        .first()
        .and_then(|line| line.strip_prefix("error "));
    let files = match (found, error) {
        (Err(found), Some(error)) if found.contains(error) => return,
        (Ok(files), None) => files,
        (found, _) => panic!("{name}, {way}: {found:#?}"),
    };
    for line in case.expected {
        assert!(holds(&files, line), "{name}, {way}: {line:?} in {files:#?}");
    }
}

/// What the layers come to, each indexed with whiteouts in a form.
fn merged(tars: &[PathBuf], form: Option<Form>) -> Result<Vec<Described>, String> {
    let mut merge = Merge::new();
    for tar in tars {
        merge
            .apply(&index_of_layer(tar, form)?)
            .map_err(|error| error.to_string())?;
    }
    let merged = merge.finish().map_err(|error| error.to_string())?;
    let sizes = merged.devices.iter().map(|device| device.size);
    let sizes: Vec<u64> = sizes.collect();
    let path = tars[0].with_extension("merged");
    let out = File::create(&path).unwrap();
    merged.write_file(&merged.options(), &out).unwrap();
    let image = Image::open(&path).unwrap();
    let report = check(&image, &sizes, &mut |_| {}).unwrap();
    assert_eq!(report.problems, []);
    let files = description_over(&image, tars);
    is_extracted(&image, tars, &files);
    Ok(files)
}

/// Extracts an image into a directory of its own; there must be its files, and nothing beside them.
fn is_extracted(image: &Image, tars: &[PathBuf], expected: &[Described]) {
    let scratch = Scratch::new();
    let root = scratch.join("root");
    let blobs = tars
        .iter()
        .map(|tar| (tar.clone(), File::open(tar).unwrap()));
    let contents = Contents::of(image, blobs.collect()).unwrap();
    extract(&contents, &root, extract::Options::default(), &mut |_| {}).unwrap();
    let shown = |file: &Described| format!("{} {} {}", file.kind, file.path, file.content);
    // Who is not root makes no devices.
    let made = |file: &&Described| file.kind != 'c';
    let found = description_of_directory(&root);
    let found: Vec<_> = found.iter().filter(made).map(shown).collect();
    let expected: Vec<_> = expected.iter().filter(made).map(shown).collect();
    assert_eq!(found, expected);
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
}

#[test]
fn as_layers() {
    for case in CASES {
        let scratch = Scratch::new();
        let tars = [scratch.join("lower.tar"), scratch.join("upper.tar")];
        fs::write(&tars[0], archive(case.lower)).unwrap();
        fs::write(&tars[1], archive(case.upper)).unwrap();
        for form in [None, Some(Form::Overlay), Some(Form::Aufs)] {
            judge(case, &format!("whiteouts as {form:?}"), merged(&tars, form));
        }
    }
}

#[test]
fn as_one_archive() {
    for case in CASES {
        let whiteout = |entry: &&&str| entry.contains(".wh.");
        if case.upper.iter().any(|entry| whiteout(&entry)) {
            continue;
        }
        let scratch = Scratch::new();
        let tar = scratch.join("both.tar");
        let entries = [case.lower, case.upper].concat();
        fs::write(&tar, archive(&entries)).unwrap();
        let found = index_both_ways(&tar, &scratch.join("image"));
        judge(
            case,
            "one archive",
            found.map(|image| {
                let files = description(&image, &tar);
                is_extracted(&image, std::slice::from_ref(&tar), &files);
                files
            }),
        );
    }
}
