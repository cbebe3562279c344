// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Access points: every unit of what many encoders make is the same as the plain bytes, what is damaged is never something
//! else, and zinfo is what erofs-utils writes.

#![cfg(feature = "points")]
#![allow(missing_docs)]

use ferofs::compression::look;
use ferofs::digest::Digest;
use ferofs::points::ALIGN;
use ferofs::points::Maker;
use ferofs::points::Points;
use ferofs::points::zinfo;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Command;

mod common;

use common::program::filtered;
use common::random::Random;

/// Text, noise and zeros by turns, with parts that come again within the last 32 KiB.
fn content(len: usize) -> Vec<u8> {
    let mut random = Random(42);
    let mut content = Vec::new();
    while content.len() < len {
        match random.below(8) {
            0 => content.extend((0..random.below(20_000)).map(|_| random.next() as u8)),
            1 => content.resize(content.len() + random.below(50_000), 0),
            2..=4 => {
                let back = content.len().min(1 + random.below(32_000));
                let from = content.len() - back;
                let part = content[from..from + back.min(5000)].to_vec();
                content.extend(part);
            }
            _ => {
                for _ in 0..500 {
                    let word = random.below(300) * 7919;
                    content.extend(format!("{word} ").into_bytes());
                }
            }
        }
    }
    content.truncate(len);
    content
}

fn make(stored: &[u8], plain: &[u8], span: u64) -> ferofs::error::Result<Points> {
    make_with(Maker::new(span), stored, plain)
}

fn make_with(mut maker: Maker, stored: &[u8], plain: &[u8]) -> ferofs::error::Result<Points> {
    let (compression, reader) = look(stored).unwrap();
    let mut found = Vec::new();
    let mut reader = maker.reader(compression, reader).unwrap();
    reader.read_to_end(&mut found).unwrap();
    drop(reader);
    assert!(found == plain);
    maker.finish(Digest::of(plain), Path::new("layer"))
}

fn parse(bytes: &[u8]) -> ferofs::error::Result<Points> {
    Points::parse(bytes, Path::new("points"))
}

/// All units are there, and are what they should be.
fn expect_all(points: &Points, stored: &[u8], plain: &[u8], name: &str) {
    let mut end = 0;
    for number in 0..points.units() {
        let unit = points.unit(number);
        assert!(unit.start == end && !unit.is_empty(), "{name}: {unit:?}");
        assert!(unit.end % ALIGN == 0 || unit.end == plain.len() as u64);
        end = unit.end;
        let range = points.stored(number);
        let bytes = &stored[range.start as usize..range.end as usize];
        let found = points.inflate(number, bytes).unwrap();
        assert!(
            found == plain[unit.start as usize..unit.end as usize],
            "{name}"
        );
        for (range, expected) in [
            (unit.start..unit.start + 1, number..number + 1),
            (unit.end - 1..unit.end, number..number + 1),
            (0..unit.end, 0..number + 1),
            (unit.start..u64::MAX, number..points.units()),
        ] {
            assert_eq!(points.units_of(range), expected);
        }
    }
    assert_eq!(end, plain.len() as u64);
    assert_eq!(points.units_of(end..u64::MAX), 0..0);
    assert_eq!((points.size, points.stored), (end, stored.len() as u64));
    assert_eq!(points.digest, Digest::of(stored));
}

#[test]
fn units_of_all_encoders() {
    let plain = content(6_000_001);
    let (first, second) = plain.split_at(2_500_000);
    let gzip = |level: &str, content: &[u8]| filtered(&["gzip", "-n", level], content).unwrap();
    let empty = gzip("-6", b"");
    let small: Vec<u8> = plain
        .chunks(70_001)
        .flat_map(|part| gzip("-1", part))
        .collect();
    let mut layers = vec![
        ("gzip -1", gzip("-1", &plain)),
        ("gzip -6", gzip("-6", &plain)),
        ("gzip -9", gzip("-9", &plain)),
        (
            "two members",
            [gzip("-6", first), gzip("-9", second)].concat(),
        ),
        (
            "empty members",
            [
                &empty,
                &empty,
                &gzip("-6", first),
                &empty,
                &gzip("-6", second),
                &empty,
            ]
            .map(Vec::as_slice)
            .concat(),
        ),
        ("many members", small),
        (
            "zeros behind",
            [gzip("-6", &plain), vec![0; 100_000]].concat(),
        ),
        ("plain", plain.clone()),
    ];
    const STORED: &str =
        "import gzip, sys; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read(), 0))";
    for (name, tool) in [
        ("pigz", &["pigz", "-n", "-6"] as &[&str]),
        ("stored", &["python3", "-c", STORED]),
    ] {
        match filtered(tool, &plain) {
            Some(layer) => layers.push((name, layer)),
            None => eprintln!("skipped: {name} is not installed"),
        }
    }
    for (name, stored) in &layers {
        for span in [1, 300_000, 1 << 20, 4 << 20] {
            let points = make(stored, &plain, span).unwrap();
            expect_all(&points, stored, &plain, name);
            let mut kept = Vec::new();
            points.write(&mut kept).unwrap();
            assert!(parse(&kept).unwrap() == points, "{name}");
            if span == 300_000 && *name != "stored" {
                assert!(points.units() >= 5, "{name}: {}", points.units());
            }
        }
    }
    for stored in [empty.as_slice(), b""] {
        let points = make(stored, b"", 1 << 20).unwrap();
        assert_eq!((points.units(), points.size), (0, 0));
        let mut kept = Vec::new();
        points.write(&mut kept).unwrap();
        assert!(parse(&kept).unwrap() == points);
    }
}

/// Of windows that is kept which units refer to. The same units come of them.
#[test]
fn windows_have_what_units_refer_to() {
    let plain = content(3_000_000);
    for level in ["-1", "-6", "-9"] {
        let stored = filtered(&["gzip", "-n", level], &plain).unwrap();
        let sparse = make(&stored, &plain, 100_000).unwrap();
        let maker = Maker::new(100_000).with_whole_windows(true);
        let whole = make_with(maker, &stored, &plain).unwrap();
        expect_all(&whole, &stored, &plain, level);
        expect_all(&sparse, &stored, &plain, level);
        let (few, all) = (sparse.windows_len(), whole.windows_len());
        assert!(few > 0 && few < all * 3 / 4, "{level}: {few} of {all}");
        for number in 0..whole.units() {
            assert_eq!(sparse.unit(number), whole.unit(number));
            assert_eq!(sparse.stored(number), whole.stored(number));
        }
    }
}

/// A frame of Zstandard that everybody skips.
fn skipped(content: &[u8]) -> Vec<u8> {
    let mut frame = 0x184d_2a50_u32.to_le_bytes().to_vec();
    frame.extend((content.len() as u32).to_le_bytes());
    frame.extend(content);
    frame
}

#[test]
fn units_of_frames() {
    let plain = content(6_000_001);
    let zstd = |level: i32, content: &[u8]| zstd::encode_all(content, level).unwrap();
    let frames = |len: usize| plain.chunks(len).map(|part| zstd(3, part));
    let with_checksums = |len: usize| {
        plain.chunks(len).flat_map(|part| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap()
        })
    };
    let empty = zstd(3, b"");
    let mut between = vec![skipped(b"at the start")];
    for frame in frames(250_000) {
        between.extend([frame, empty.clone(), skipped(&[1; 70_000])]);
    }
    for (name, stored, least) in [
        ("one frame", zstd(19, &plain), 1),
        ("frames", frames(100_000).flatten().collect(), 14),
        ("small frames", frames(513).flatten().collect(), 14),
        ("frames of blocks", frames(4096).flatten().collect(), 14),
        ("with checksums", with_checksums(99_991).collect(), 14),
        ("others between", between.concat(), 11),
    ] {
        for span in [1, 300_000, 4 << 20] {
            let points = make(&stored, &plain, span).unwrap();
            expect_all(&points, &stored, &plain, name);
            let mut kept = Vec::new();
            points.write(&mut kept).unwrap();
            assert!(parse(&kept).unwrap() == points, "{name}");
            assert_eq!(points.windows_len(), 0);
            if span == 300_000 {
                assert!(points.units() >= least, "{name}: {}", points.units());
            }
            // One byte less or another is an error, or the same.
            for number in 0..points.units().min(3) {
                let (unit, range) = (points.unit(number), points.stored(number));
                let expected = &plain[unit.start as usize..unit.end as usize];
                let mut bytes = stored[range.start as usize..range.end as usize].to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
                assert!(
                    !points
                        .inflate(number, &bytes)
                        .is_ok_and(|found| found != expected)
                );
                assert!(points.inflate(number, &bytes[..middle]).is_err());
            }
        }
        for end in [stored.len() - 1, stored.len() / 2] {
            let mut maker = Maker::new(300_000);
            let (compression, reader) = look(&stored[..end]).unwrap();
            let mut reader = maker.reader(compression, reader).unwrap();
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with("zstd data: "), "{name}: {error}");
        }
    }
    for stored in [empty, skipped(b"only")] {
        assert_eq!(make(&stored, b"", 1 << 20).unwrap().units(), 0);
    }
    let plain = vec![7; 40 << 20];
    let error = make(&zstd(1, &plain), &plain, 1 << 20)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no frame begins in") && error.contains("cannot be read in parts"),
        "{error}"
    );
}

/// What is written behind the table, and what the layer has: each byte counts or does not, but nothing is ever other
/// than the plain bytes.
#[test]
fn a_wrong_byte_is_an_error_or_nothing() {
    let plain = content(1_500_000);
    let stored = filtered(&["gzip", "-6"], &plain).unwrap();
    let points = make(&stored, &plain, 200_000).unwrap();
    let mut kept = Vec::new();
    points.write(&mut kept).unwrap();
    let table = kept.len() - points.windows_len();
    for at in (0..table).step_by(7) {
        let mut wrong = kept.clone();
        wrong[at] ^= 0x10;
        assert!(parse(&wrong).is_err(), "{at}");
    }
    for end in [0, 7, 50, table - 1, table, kept.len() - 1] {
        assert!(parse(&kept[..end]).is_err(), "{end}");
    }
    assert!(parse(&[kept.as_slice(), b"more"].concat()).is_err());
    let mut random = Random(7);
    let (mut errors, mut right) = (0, 0);
    let mut count = |points: &Points, number: usize, bytes: &[u8]| {
        let unit = points.unit(number);
        match points.inflate(number, bytes) {
            Err(_) => errors += 1,
            Ok(found) => {
                right += 1;
                assert!(found == plain[unit.start as usize..unit.end as usize]);
            }
        }
    };
    let bytes_of = |number: usize| {
        let range = points.stored(number);
        stored[range.start as usize..range.end as usize].to_vec()
    };
    for _ in 0..300 {
        // In a window.
        let mut wrong = kept.clone();
        wrong[table + random.below(kept.len() - table)] ^= 1 << random.below(8);
        let wrong = parse(&wrong).unwrap();
        for number in 0..points.units() {
            count(&wrong, number, &bytes_of(number));
        }
        // In what is stored, and how much there is of it.
        let number = random.below(points.units());
        let mut bytes = bytes_of(number);
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        count(&points, number, &bytes);
        bytes[at..].fill(0);
        count(&points, number, &bytes[..at]);
        count(&points, number, &bytes);
        // Another part of it.
        count(&points, number, &bytes_of((number + 1) % points.units()));
    }
    assert!(errors > 900 && right > 900, "{errors} {right}");
}

/// A stream of one huge block cannot be served, and says so.
#[test]
fn a_block_may_be_too_large() {
    // One block with fixed codes: a zero, and matches of 258 bytes one back, of 40 MiB.
    let (mut bytes, mut pending, mut count) = (Vec::new(), 0_u64, 0);
    let mut put = |value: u64, bits: u32| {
        pending |= value << count;
        count += bits;
        while count >= 8 {
            bytes.push(pending as u8);
            pending >>= 8;
            count -= 8;
        }
    };
    put(0b011, 3);
    // The literal 0 is 00110000, the length 258 is 11000101 and the distance 1 is 00000, from the first bit on.
    put(0b0000_1100, 8);
    let matches = (40 << 20) / 258;
    for _ in 0..matches {
        put(0b1010_0011, 8);
        put(0, 5);
    }
    put(0, 7);
    put(0, 8);
    let plain = vec![0; 1 + matches * 258];
    let mut stored = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    stored.extend(bytes);
    // The last byte of the block may be whole.
    let crc = {
        let zipped = filtered(&["gzip", "-1"], &plain).unwrap();
        zipped[zipped.len() - 8..].to_vec()
    };
    let mut found = None;
    for cut in 0..3 {
        let mut whole = stored[..stored.len() - cut].to_vec();
        whole.extend(&crc);
        if filtered(&["sh", "-c", "gzip -dc 2>/dev/null || :"], &whole).unwrap() == plain
            && filtered(
                &["sh", "-c", "gzip -t 2>/dev/null && echo good || :"],
                &whole,
            )
            .unwrap()
                == b"good\n"
        {
            found = Some(whole);
        }
    }
    let stored = found.expect("a stream of one block");
    let error = make(&stored, &plain, 1 << 20).unwrap_err().to_string();
    assert!(error.contains("cannot be read in parts"), "{error}");
}

/// What is stored without coming to anything is looked at no longer than a unit may be.
#[test]
fn blocks_may_be_empty() {
    let plain = content(300_000);
    let empty = [0, 0, 0, 0xff, 0xff];
    // Stored blocks, so that others can be put between.
    let mut stored = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    let zipped = filtered(&["gzip", "-1"], &plain).unwrap();
    let block = |last: u8, part: &[u8]| {
        let len = part.len() as u16;
        [&[last][..], &len.to_le_bytes(), &(!len).to_le_bytes(), part].concat()
    };
    let mut layer = |count: usize| {
        stored.truncate(10);
        let mut parts = plain.chunks(50_000).peekable();
        while let Some(part) = parts.next() {
            stored.extend(block(parts.peek().is_none().into(), part));
            if parts.len() == 2 {
                stored.extend(empty.repeat(count));
            }
        }
        stored.extend(&zipped[zipped.len() - 8..]);
        stored.clone()
    };
    let few = layer(100_000);
    let points = make(&few, &plain, 1).unwrap();
    expect_all(&points, &few, &plain, "empty blocks");
    let error = make(&layer(7_000_000), &plain, 1).unwrap_err().to_string();
    assert!(error.contains("cannot be read in parts"), "{error}");
}

#[test]
fn zinfo_is_what_mkfs_erofs_writes() {
    let scratch = common::Scratch::new();
    // Of a tar, for mkfs.erofs.
    let directory = scratch.join("files");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("file"), content(9_000_000)).unwrap();
    let output = Command::new("tar")
        .args(["-C", directory.to_str().unwrap(), "-c", "file"])
        .output()
        .unwrap();
    let plain = output.stdout;
    let stored = filtered(&["gzip", "-6"], &plain).unwrap();
    std::fs::write(scratch.join("layer.tar.gz"), &stored).unwrap();
    let maker = Maker::new(zinfo::SPAN).with_whole_windows(true);
    let points = make_with(maker, &stored, &plain).unwrap();
    let mut ours = Vec::new();
    points.write_zinfo(zinfo::SPAN, &mut ours).unwrap();
    let about = zinfo::About {
        digest: points.digest,
        stored: points.stored,
        diff_id: points.diff_id,
        size: points.size,
    };
    let read = |bytes: &[u8]| Points::parse_zinfo(bytes, about, Path::new("zinfo"));
    let back = read(&ours).unwrap();
    assert!(points.has_checksums() && !back.has_checksums());
    expect_all(&back, &stored, &plain, "zinfo");
    // The older form.
    let old = [&ours[..12], &ours[12 + 32785..]].concat();
    expect_all(&read(&old).unwrap(), &stored, &plain, "old zinfo");
    for end in [0, 11, 12, 100, ours.len() - 1] {
        assert!(read(&ours[..end]).is_err(), "{end}");
    }
    let theirs = scratch.join("theirs");
    let made = Command::new("mkfs.erofs")
        .arg("--quiet")
        .arg("--tar=i")
        .arg(format!("--gzinfo={}", theirs.display()))
        .args([scratch.join("image"), scratch.join("layer.tar.gz")])
        .output();
    match made {
        Ok(output) if output.status.success() && theirs.exists() => {
            assert!(std::fs::read(&theirs).unwrap() == ours);
        }
        _ => eprintln!("skipped: no mkfs.erofs with --gzinfo"),
    }
}

#[test]
fn points_are_where_a_zinfo_has_them() {
    let plain = content(9_000_000);
    // A zinfo of two members, which a point is in each of.
    let (first, second) = plain.split_at(5_000_000);
    let stored = [first, second]
        .map(|part| filtered(&["gzip", "-6"], part).unwrap())
        .concat();
    let maker = Maker::new(1_500_000).with_whole_windows(true);
    let made = make_with(maker, &stored, &plain).unwrap();
    let mut theirs = Vec::new();
    made.write_zinfo(1_500_000, &mut theirs).unwrap();
    let places = |bytes: &[u8]| zinfo::Places::parse(bytes.to_vec(), Path::new("zinfo"));
    let at = |bytes: &[u8]| {
        let maker = Maker::new(1 << 20).with_places(places(bytes).unwrap());
        make_with(maker, &stored, &plain)
    };
    let where_of = |points: &Points| {
        let mut zinfo = Vec::new();
        points.write_zinfo(0, &mut zinfo).unwrap();
        let points = zinfo[12..].chunks(32785);
        points.map(|point| point[..17].to_vec()).collect::<Vec<_>>()
    };
    let count = where_of(&made).len();
    assert!(count > 5);
    let found = at(&theirs).unwrap();
    assert_eq!(where_of(&found), where_of(&made));
    assert!(found.has_checksums());
    expect_all(&found, &stored, &plain, "where a zinfo has them");
    // The older form, and points that are closer than units can be.
    let old = [&theirs[..12], &theirs[12 + 32785..]].concat();
    assert_eq!(where_of(&at(&old).unwrap()), where_of(&made));
    let close = make_with(Maker::new(1).with_whole_windows(true), &stored, &plain).unwrap();
    let mut many = Vec::new();
    close.write_zinfo(1, &mut many).unwrap();
    let some = at(&many).unwrap();
    expect_all(&some, &stored, &plain, "close ones");
    // What it says wrong: a byte of a window, where a point is in what is stored, in the tar, in the byte before, and one behind the end.
    let entry = |number: usize| 12 + number * 32785;
    for (byte, expected) in [
        (entry(2) + 17 + 32767, "another window of the point at byte"),
        (entry(2), "where none is possible"),
        (entry(2) + 9, "where none is possible"),
        (entry(2) + 16, "where none is possible"),
        (entry(count - 1) + 13, "where none is possible"),
    ] {
        let mut wrong = theirs.clone();
        wrong[byte] ^= 1;
        let error = at(&wrong).unwrap_err().to_string();
        assert!(error.contains(expected), "{byte}: {error}");
    }
    assert!(places(&theirs[..theirs.len() - 1]).is_err());
    let maker = Maker::new(1 << 20).with_places(places(&theirs).unwrap());
    let error = make_with(maker, &plain, &plain).unwrap_err().to_string();
    assert!(error.contains("a zinfo is for gzip"), "{error}");
}
