// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Sparse tars that are served: what others read of them is what the layer has or EIO, each unit is got once, and it goes on
//! from what is there. For the superuser, where the kernel and the filesystem have pre-content events.

#![cfg(feature = "serve")]
#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::program::filtered;
use ferofs::compression::look;
use ferofs::digest::Digest;
use ferofs::points::Maker;
use ferofs::points::Points;
use ferofs::serve::List;
use ferofs::serve::Nearby;
use ferofs::serve::Options;
use ferofs::serve::Server;
use ferofs::serve::Source;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// What a source does.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Away,
    Lying,
    Short,
}

/// A layer in memory.
struct Stored {
    bytes: Vec<u8>,
    mood: Mutex<Mood>,
    asked: Mutex<HashMap<Range<u64>, usize>>,
}

impl Source for Stored {
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mood = *self.mood.lock().unwrap();
        let mut bytes = self.bytes[range.start as usize..range.end as usize].to_vec();
        *self.asked.lock().unwrap().entry(range).or_default() += 1;
        // So that others come meanwhile.
        thread::sleep(Duration::from_millis(20));
        match mood {
            Mood::Good => {}
            Mood::Away => return Err(io::ErrorKind::ConnectionRefused.into()),
            Mood::Lying => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Mood::Short => bytes.truncate(bytes.len() / 2),
        }
        Ok(bytes)
    }

    fn shown(&self) -> String {
        "the layer".to_string()
    }
}

fn layer() -> (Vec<u8>, Vec<u8>) {
    let mut state = 1_u32;
    let mut plain = Vec::new();
    while plain.len() < 3_000_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        plain.extend(format!("{} ", (state >> 24) * 7919).into_bytes());
    }
    let stored = filtered(&["gzip", "-1"], &plain).unwrap();
    (plain, stored)
}

fn points(plain: &[u8], stored: &[u8]) -> Points {
    let mut maker = Maker::new(300_000);
    let (compression, reader) = look(stored).unwrap();
    io::copy(
        &mut maker.reader(compression, reader).unwrap(),
        &mut io::sink(),
    )
    .unwrap();
    maker.finish(Digest::of(plain), Path::new("layer")).unwrap()
}

/// What is got, too, when these few were read, one after the other.
fn ahead(units: &Range<usize>) -> Range<usize> {
    units.end..units.end + 1
}

/// How often what a unit is made of was asked for.
fn times(asked: &HashMap<Range<u64>, usize>, points: &Points, unit: usize) -> usize {
    let stored = points.stored(unit);
    let with = |range: &Range<u64>| range.start <= stored.start && range.end >= stored.end;
    let asked = asked.iter().filter(|(range, _)| with(range));
    asked.map(|(_, times)| times).sum()
}

/// A process that reads a part of a file. This one's own reads are not looked at.
fn reader(path: &Path, range: Range<usize>) -> Child {
    Command::new("dd")
        .arg(format!("if={}", path.display()))
        .args(["iflag=skip_bytes,count_bytes", "status=none", "bs=64k"])
        .args([
            format!("skip={}", range.start),
            format!("count={}", range.len()),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it read, or what it said.
fn read(child: Child) -> Result<Vec<u8>, String> {
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

#[test]
fn readers_get_what_the_layer_has_or_an_error() {
    let scratch = Scratch::new();
    let (plain, stored) = layer();
    let points = points(&plain, &stored);
    assert!(points.units() > 5);
    let source = Arc::new(Stored {
        bytes: stored,
        mood: Mutex::new(Mood::Good),
        asked: Mutex::default(),
    });
    let options = Options::default().with_deadline(Duration::from_secs(2));
    let serve = |options: &Options| -> Option<Server> {
        let mut server = match Server::new(&scratch.0, options.clone()) {
            Ok(server) => server,
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        match server.add(points.clone(), Arc::clone(&source) as Arc<dyn Source>) {
            Ok(_) => Some(server),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    };
    let path = scratch.join(&format!("{}.sparse", points.diff_id));
    let expect = |range: Range<usize>| {
        assert!(read(reader(&path, range.clone())).as_deref() == Ok(&plain[range]));
    };
    let refused = |range: Range<usize>| {
        let error = read(reader(&path, range)).unwrap_err();
        assert!(error.contains("Input/output error"), "{error}");
    };
    let set = |mood: Mood| *source.mood.lock().unwrap() = mood;
    let first = {
        let Some(server) = serve(&options) else {
            return;
        };
        thread::scope(|scope| {
            let running = scope.spawn(|| server.run());
            // Many readers, each unit once.
            let range = 1_000_000..1_600_000;
            let readers: Vec<Child> = (0..8).map(|_| reader(&path, range.clone())).collect();
            for child in readers {
                assert!(read(child).as_deref() == Ok(&plain[range.clone()]));
            }
            let units = points.units_of(1_000_000..1_600_000);
            let once = |units: Range<usize>| {
                let asked = source.asked.lock().unwrap();
                units
                    .map(|unit| times(&asked, &points, unit))
                    .all(|times| times == 1)
            };
            assert!(once(units.clone()), "{:?}", source.asked);
            // What is behind is got as well, though nobody waits for it.
            let until = Instant::now() + Duration::from_secs(10);
            while !once(ahead(&units)) {
                assert!(Instant::now() < until, "{:?}", source.asked);
                thread::sleep(Duration::from_millis(10));
            }
            // What is not had is an error, until it is had.
            for mood in [Mood::Away, Mood::Lying, Mood::Short] {
                set(mood);
                refused(100..200);
                // What is there is.
                expect(1_200_000..1_200_100);
            }
            set(Mood::Good);
            expect(100..200);
            let recorded = server.recorded();
            let first = points.unit(units.start).start;
            assert_eq!(recorded.0[0], (points.diff_id, first));
            server.stopper().stop();
            running.join().unwrap().unwrap();
            recorded
        })
    };
    // Another one goes on from there, and ends when all is there, first what was read before.
    let last = points.unit(points.units() - 1).start;
    let list = List([vec![(points.diff_id, last)], first.0].concat());
    let options = options
        .with_complete(true)
        .with_first(list)
        .with_requests(1);
    source.asked.lock().unwrap().clear();
    let server = serve(&options).unwrap();
    server.run().unwrap();
    let asked = source.asked.lock().unwrap();
    let before = points.units_of(1_000_000..1_600_000);
    for unit in 0..points.units() {
        let was_got = before.contains(&unit)
            || ahead(&before).contains(&unit)
            || points.units_of(100..200).contains(&unit);
        let expected = usize::from(!was_got);
        assert_eq!(times(&asked, &points, unit), expected, "{unit}: {asked:?}");
    }
    assert!(!path.exists());
    let mut found = Vec::new();
    let mut whole = fs::File::open(path.with_extension("tar")).unwrap();
    whole.read_to_end(&mut found).unwrap();
    assert!(found == plain);
}

/// What is in a directory of the blobs of others, beside the layer's own.
const OTHERS: &str = "blobs";

#[test]
fn a_layer_that_came_to_be_here_is_taken_as_a_whole() {
    let (plain, stored) = layer();
    let points = points(&plain, &stored);
    // As it is stored, and as a plain tar; one that is something else is no use.
    for (name, content, is_taken) in [
        (points.digest, &stored, true),
        (points.diff_id, &plain, true),
        (points.diff_id, &stored, false),
    ] {
        let scratch = Scratch::new();
        let blobs = scratch.join(OTHERS);
        fs::create_dir(&blobs).unwrap();
        let source = Arc::new(Stored {
            bytes: stored.clone(),
            mood: Mutex::new(Mood::Good),
            asked: Mutex::default(),
        });
        let options = Options::default()
            .with_deadline(Duration::from_secs(2))
            .with_while_used(true);
        let mut server = match Server::new(&scratch.0, options) {
            Ok(server) => server,
            Err(error) => {
                eprintln!("skipped: {error}");
                return;
            }
        };
        let far = Arc::clone(&source) as Arc<dyn Source>;
        let near = Nearby::new(&blobs, points.digest, points.diff_id, far);
        if let Err(error) = server.add(points.clone(), Arc::new(near)) {
            eprintln!("skipped: {error}");
            return;
        }
        let path = scratch.join(&format!("{}.sparse", points.diff_id));
        // Somebody has it, as a mount has.
        let used = fs::File::open(&path).unwrap();
        thread::scope(|scope| {
            let running = scope.spawn(|| server.run());
            assert!(read(reader(&path, 100..200)).as_deref() == Ok(&plain[100..200]));
            let before = source.asked.lock().unwrap().len();
            assert!(before > 0);
            // What came is all there is from now on.
            if is_taken {
                *source.mood.lock().unwrap() = Mood::Away;
            }
            fs::write(blobs.join("part"), content).unwrap();
            fs::rename(blobs.join("part"), blobs.join(name.to_string())).unwrap();
            // It ends when all is there, though somebody has it.
            running.join().unwrap().unwrap();
            let after = source.asked.lock().unwrap().len();
            assert_eq!(after == before, is_taken, "{name}");
        });
        drop(used);
        assert!(!path.exists());
        assert!(fs::read(path.with_extension("tar")).unwrap() == plain);
    }
}
