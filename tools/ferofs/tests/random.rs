// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Archives put together at random, of few names so that entries meet each other: replaced,
//! described again, linked to, below what was there before. GNU tar has to make the same of them.
//! What it refuses, and where container runtimes differ from it, is left out here: `breakouts.rs`
//! and `archives.rs` have that.

#![allow(missing_docs)]

mod common;

use common::archive::Archive;
use common::archive::Header;
use common::archive::octal;
use common::gnu_tar::same_as_gnu_tar;
use common::random::Random;
use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Directory,
    /// A directory that is there only because something is in it.
    Implied,
    Other,
}

/// The same path, written in one of the ways that mean nothing.
fn written(random: &mut Random, path: &str) -> String {
    match random.below(8) {
        0 => format!("./{path}"),
        1 => path.replace('/', "//"),
        2 => path.replace('/', "/./"),
        _ => path.to_string(),
    }
}

fn archive(random: &mut Random) -> (Vec<u8>, Vec<String>) {
    let mut archive = Archive::new().directory("first/");
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    for _ in 0..1 + random.below(25) {
        let parts: Vec<_> = (0..1 + random.below(3))
            .map(|_| random.of(&["a", "b", "c", "dd", "e"]))
            .collect();
        let parents: Vec<String> = (1..parts.len()).map(|len| parts[..len].join("/")).collect();
        let path = parts.join("/");
        let old = kinds.get(&path).copied();
        if parents
            .iter()
            .any(|path| kinds.get(path) == Some(&Kind::Other))
        {
            continue;
        }
        let choice = random.below(7);
        let directory = choice >= 5;
        let is_there = matches!(old, Some(Kind::Directory | Kind::Implied));
        if is_there && !directory {
            continue;
        }
        let others = kinds.iter().filter(|(_, kind)| **kind == Kind::Other);
        let others: Vec<String> = others.map(|(path, _)| path.clone()).collect();
        if choice == 3 && (others.is_empty() || others == [path.clone()]) {
            continue;
        }
        let mut records = Vec::new();
        if random.below(6) == 0 {
            records.push((
                "mtime",
                random.of(&["-1.5", "1.25", "12345678901.000000001", "-7"]),
            ));
        }
        let written = written(random, &path);
        let time = random.of(&[1, 1_700_000_000, 0o77_777_777_777]);
        let header = |name: &str, kind| Header::new(name, kind).mtime(time);
        let data = vec![b'a' + random.below(26) as u8; random.of(&[0, 1, 511, 512, 513, 5000])];
        let size = data.len().to_string();
        match choice {
            0 => {
                let mode = random.of(&[0o644, 0o4755, 0o600]);
                let kind = random.of(&[b'0', 0, b'7']);
                archive = add(archive, &records, header(&written, kind).mode(mode), &data);
            }
            1 => {
                let target = random.of(&["x", "a/b", "../y"]);
                archive = add(archive, &records, header(&written, b'2').link(target), b"");
            }
            2 => archive = add(archive, &records, header(&written, b'6'), b""),
            3 => {
                let target = others[random.below(others.len())].clone();
                if target == path {
                    continue;
                }
                archive = add(archive, &records, header(&written, b'1').link(&target), b"");
            }
            4 => {
                // The size that counts is in the record.
                records.push(("size", &size));
                archive = archive.pax(&records);
                let mut header = header(&written, b'0');
                header.size = octal(0o777, 12);
                archive = archive.block(header.block()).data(&data);
            }
            _ => {
                let mode = random.of(&[0o755, 0o700, 0o1777]);
                let written = written + random.of(&["", "/"]);
                archive = add(archive, &records, header(&written, b'5').mode(mode), b"");
            }
        }
        for parent in parents {
            kinds.entry(parent).or_insert(Kind::Implied);
        }
        let kind = if directory {
            Kind::Directory
        } else {
            Kind::Other
        };
        kinds.insert(path, kind);
    }
    let implied = kinds.iter().filter(|(_, kind)| **kind == Kind::Implied);
    let implied = implied.map(|(path, _)| format!("/{path}")).collect();
    let bytes = match random.below(3) {
        0 => archive.open_end(),
        1 => [archive.end(), b"garbage".to_vec()].concat(),
        _ => archive.end(),
    };
    (bytes, implied)
}

fn add(archive: Archive, records: &[(&str, &str)], header: Header, data: &[u8]) -> Archive {
    let archive = match records {
        [] => archive,
        records => archive.pax(records),
    };
    archive.with_data(header, data)
}

#[test]
fn gnu_tar_makes_the_same_of_them() {
    for seed in 1..=60 {
        let (bytes, implied) = archive(&mut Random(0x5eed_0000 + seed));
        println!("seed {seed}");
        let implied: Vec<_> = implied.iter().map(String::as_str).collect();
        same_as_gnu_tar(&bytes, &implied);
    }
}
