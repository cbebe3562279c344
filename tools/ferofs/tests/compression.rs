// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compressed streams by the programs that make them: recognized, and decompressed as a whole or to their damage.

#![cfg(feature = "command")]
#![allow(missing_docs)]

mod common;

use common::program::filtered;
use ferofs::compression::Compression;
use ferofs::compression::Window;
use ferofs::compression::decompress;
use ferofs::compression::look;
use std::io;
use std::io::Read;
use std::io::Write;

/// bzip2 as a program is on few systems by itself, Python's on most.
const BZIP2: &str =
    "import bz2, sys; sys.stdout.buffer.write(bz2.compress(sys.stdin.buffer.read()))";

fn compressed(tool: &[&str], content: &[u8]) -> Vec<u8> {
    filtered(tool, content).unwrap()
}

fn read(bytes: &[u8]) -> io::Result<(Option<Compression>, Vec<u8>)> {
    let (compression, reader) = look(bytes)?;
    let mut content = Vec::new();
    match compression {
        Some(compression) => {
            decompress(compression, reader, Window::Usual)?.read_to_end(&mut content)?
        }
        None => { reader }.read_to_end(&mut content)?,
    };
    Ok((compression, content))
}

#[test]
fn every_compression_in_one_stream_or_several() {
    let content: Vec<u8> = (0..300_000_u32).map(|at| (at / 100 % 256) as u8).collect();
    let (first, second) = content.split_at(100_000);
    for (compression, tool) in [
        (Compression::Gzip, &["gzip", "-1"] as &[&str]),
        (Compression::Zstd, &["zstd", "-1", "-q"]),
        (Compression::Xz, &["xz", "-0"]),
        (Compression::Bzip2, &["python3", "-c", BZIP2]),
    ] {
        let whole = compressed(tool, &content);
        assert_eq!(read(&whole).unwrap(), (Some(compression), content.clone()));
        let both = [compressed(tool, first), compressed(tool, second)].concat();
        assert_eq!(read(&both).unwrap(), (Some(compression), content.clone()));
        if matches!(compression, Compression::Gzip | Compression::Bzip2) {
            let padded = [both.as_slice(), &[0; 1000]].concat();
            assert_eq!(read(&padded).unwrap().1, content);
            let garbage = [padded.as_slice(), b"garbage"].concat();
            read(&garbage).unwrap_err();
        }
        let error = read(&whole[..whole.len() / 2]).unwrap_err();
        assert!(
            error.to_string().starts_with(&compression.to_string()),
            "{error}"
        );
    }
    for plain in [
        b"".as_slice(),
        b"BZ",
        b"\x1f\x8b",
        b"plain text",
        b"BZh9.txt in a tar",
    ] {
        assert_eq!(read(plain).unwrap(), (None, plain.to_vec()));
    }
    for (start, name) in [
        (b"\x1f\x9d\x90".as_slice(), "compress"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"LZIP\x01", "lzip"),
        (b"\x89LZO\0\r\n", "lzop"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"PK\x03\x04", "zip"),
    ] {
        let error = read(start).unwrap_err().to_string();
        assert!(error.contains(&format!("with {name},")), "{error}");
    }
}

/// A stream of a few bytes may ask for gigabytes of memory before the first one comes out.
#[test]
fn a_large_window_is_only_for_whoever_asks_for_it() {
    for (log, usual) in [(27, true), (28, false), (31, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(b"few").unwrap();
        let zipped = encoder.finish().unwrap();
        let read = |window| {
            let mut content = Vec::new();
            let reader = decompress(Compression::Zstd, zipped.as_slice(), window);
            let read = reader.unwrap().read_to_end(&mut content);
            read.map(|_| content).map_err(|error| error.to_string())
        };
        assert_eq!(read(Window::Largest).as_deref(), Ok(b"few".as_slice()));
        match (read(Window::Usual), usual) {
            (found, true) => assert_eq!(found.as_deref(), Ok(b"few".as_slice())),
            (found, false) => {
                let error = found.unwrap_err();
                assert!(error.starts_with("zstd data: "), "{error}");
            }
        }
    }
}
