// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Any bytes as what comes through a pipe: a compressed stream is read to its end or an error, and a plain archive comes
//! to the same index, and to the same image with its data, as it does when it is read as a file.

#![no_main]

use ferofs::build::Through;
use ferofs::build::apply_archive;
use ferofs::build::read_through;
use ferofs::compression::look;
use ferofs::image::Device;
use ferofs::image::Options;
use ferofs::image::source::Blobs;
use ferofs::tar::FileInput;
use ferofs::tar::Totals;
use ferofs::tree::Tree;
use ferofs_fuzz::seal_headers;
use ferofs_fuzz::write_and_check;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// What a stream may come to.
const MOST: u64 = 4 << 20;

/// Indexes a tree, if that is possible.
fn index(tree: &Tree, totals: &Totals, bytes: &[u8]) -> Option<Vec<u8>> {
    let device = Device::new(totals.size);
    let options = Options::default()
        .with_devices(vec![device])
        .with_uuid(Some([0; 16]));
    write_and_check(tree, &options, &Blobs(vec![bytes]), |_| false)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok((compression, reader)) = look(bytes) else {
        return;
    };
    let mut streamed = Tree::new();
    if compression.is_some() {
        let through = Through::default()
            .with_compression(compression)
            .with_digest(true)
            .with_most(Some(MOST));
        let read = read_through(reader, Path::new("fuzzed"), through, &mut streamed, &mut ());
        if let Ok(archive) = read {
            assert!(archive.totals.size <= MOST && archive.totals.digest.is_some());
        }
        return;
    }
    let mut bytes = bytes.to_vec();
    seal_headers(&mut bytes);
    let through = Through::default().with_digest(true);
    let path = Path::new("fuzzed");
    let stream = read_through(bytes.as_slice(), path, through, &mut streamed, &mut ());
    let mut tree = Tree::new();
    let input = FileInput::new(bytes.as_slice(), bytes.len() as u64);
    let file = apply_archive(input, &mut tree, 0, &mut ());
    match (stream, file) {
        (Ok(stream), Ok(file)) => {
            assert_eq!(stream.entries, file.entries);
            assert_eq!(stream.notes, file.notes);
            assert_eq!(stream.totals.size, file.totals.size);
            let both = [(&streamed, &stream.totals), (&tree, &file.totals)];
            let [one, other] = both.map(|(tree, totals)| index(tree, totals, &bytes));
            assert!(one == other, "another index");
        }
        (Err(_), Err(_)) => {}
        (stream, file) => panic!("as a stream {stream:?}, as a file {file:?}"),
    }
});
