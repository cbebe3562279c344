// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compressed archives: recognized by their first bytes, whatever they are called, and read as
//! what is in them. Several compressed streams one after the other are read as one.
//!
//! ```
//! use ferofs::compression::Window;
//! use ferofs::compression::decompress;
//! use ferofs::compression::look;
//! use std::io::Read;
//!
//! let archive = b"no compression has these first bytes".as_slice();
//! let (compression, reader) = look(archive)?;
//! let mut plain: Box<dyn Read> = match compression {
//!     Some(compression) => decompress(compression, reader, Window::Usual)?,
//!     None => Box::new(reader),
//! };
//! let mut read = Vec::new();
//! plain.read_to_end(&mut read)?;
//! assert_eq!((compression, read.as_slice()), (None, archive));
//! # Ok::<(), std::io::Error>(())
//! ```

#[cfg(any(feature = "gzip", feature = "zstd", feature = "xz", feature = "bzip2"))]
use crate::text::Reason;
use std::fmt;
use std::io;
use std::io::BufRead;
use std::io::Chain;
use std::io::Cursor;
#[cfg(any(feature = "gzip", feature = "zstd", feature = "xz", feature = "bzip2"))]
use std::io::ErrorKind;
use std::io::Read;

/// A compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
            Compression::Bzip2 => "bzip2",
        })
    }
}

/// Bytes it takes to recognize a compression.
const MAGIC: usize = 6;

/// What compressed files start with. A zstd file may start with a frame that is to be skipped.
fn recognize(start: &[u8]) -> Option<Compression> {
    match start {
        [0x1f, 0x8b, 8, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Some(Compression::Zstd)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Some(Compression::Bzip2),
        _ => None,
    }
}

/// What else archives are compressed with, or what is no tar at all, by its first bytes.
fn foreign(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [0x1f, 0x9d | 0xa0, ..] => "compress",
        [0x04, 0x22, 0x4d, 0x18, ..] => "lz4",
        [b'L', b'Z', b'I', b'P', 1, ..] => "lzip",
        [0x89, b'L', b'Z', b'O', 0, ..] => "lzop",
        [b'7', b'z', 0xbc, 0xaf, ..] => "7z",
        [b'P', b'K', 3, 4, ..] => "zip",
        _ => return None,
    })
}

/// A reader from its start on, after a look at it.
pub type Looked<R> = Chain<Cursor<Vec<u8>>, R>;

/// Looks at what a reader starts with.
///
/// # Errors
///
/// Those of reading, and a compression that is not understood.
pub fn look<R: Read>(mut reader: R) -> io::Result<(Option<Compression>, Looked<R>)> {
    let mut start = Vec::new();
    reader.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
    let compression = recognize(&start);
    if let Some(name) = foreign(&start) {
        return Err(io::Error::other(format!(
            "it is compressed with {name}, expected a tar that is plain or compressed with gzip, \
             zstd, xz or bzip2"
        )));
    }
    Ok((compression, Cursor::new(start).chain(reader)))
}

/// How much of what was decompressed zstd may need again, and so takes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// What `zstd` itself takes without being asked for more: 128 MiB. For what comes from others.
    #[default]
    Usual,
    /// What `zstd --long=31` makes: 2 GiB. For a file that somebody named.
    Largest,
}

impl Window {
    #[cfg(feature = "zstd")]
    pub(crate) fn log(self) -> u32 {
        match self {
            Window::Usual => 27,
            Window::Largest => 31,
        }
    }
}

/// What is in a compressed stream. It is read in pieces as large as the reader's: 256 KiB are worth it.
///
/// # Errors
///
/// When the decompressor cannot be set up. What is wrong with the data is an error of reading.
pub fn decompress<'a>(
    compression: Compression,
    reader: impl BufRead + 'a,
    window: Window,
) -> io::Result<Box<dyn Read + 'a>> {
    match compression {
        #[cfg(feature = "gzip")]
        Compression::Gzip => {
            let start = flate2::bufread::GzDecoder::new;
            let end = flate2::bufread::GzDecoder::into_inner;
            Ok(Box::new(Named("gzip", Members::new(reader, start, end))))
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(reader)?;
            decoder.window_log_max(window.log())?;
            Ok(Box::new(Named("zstd", decoder)))
        }
        #[cfg(feature = "xz")]
        Compression::Xz => {
            let decoder = liblzma::bufread::XzDecoder::new_multi_decoder(reader);
            Ok(Box::new(Named("xz", decoder)))
        }
        #[cfg(feature = "bzip2")]
        Compression::Bzip2 => {
            let start = bzip2::bufread::BzDecoder::new;
            let end = bzip2::bufread::BzDecoder::into_inner;
            Ok(Box::new(Named("bzip2", Members::new(reader, start, end))))
        }
        #[allow(unreachable_patterns, reason = "not if one of them is left out")]
        other => {
            drop((reader, window));
            Err(io::Error::other(format!("{other} is not built in")))
        }
    }
}

/// Several compressed streams one after the other. Zeros behind the last one, which fill up the
/// last record of a tape, are nothing.
#[cfg(any(feature = "gzip", feature = "bzip2"))]
struct Members<R, D> {
    /// `None` at the end.
    decoder: Option<D>,
    start: fn(R) -> D,
    end: fn(D) -> R,
}

#[cfg(any(feature = "gzip", feature = "bzip2"))]
impl<R: BufRead, D: Read> Members<R, D> {
    fn new(reader: R, start: fn(R) -> D, end: fn(D) -> R) -> Self {
        Members {
            decoder: Some(start(reader)),
            start,
            end,
        }
    }
}

#[cfg(any(feature = "gzip", feature = "bzip2"))]
impl<R: BufRead, D: Read> Read for Members<R, D> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let len = decoder.read(buf)?;
            if len > 0 || buf.is_empty() {
                return Ok(len);
            }
            let Some(mut rest) = self.decoder.take().map(self.end) else {
                break;
            };
            if skip_zeros(&mut rest)? {
                self.decoder = Some((self.start)(rest));
            }
        }
        Ok(0)
    }
}

#[cfg(any(feature = "gzip", feature = "bzip2"))]
/// Skips zeros; returns whether there is anything behind them.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        let len = bytes.len();
        match bytes.iter().position(|byte| *byte != 0) {
            Some(zeros) => {
                reader.consume(zeros);
                return Ok(true);
            }
            None if len == 0 => return Ok(false),
            None => reader.consume(len),
        }
    }
}

/// A decompressor whose errors say what could not be decompressed.
#[cfg(any(feature = "gzip", feature = "zstd", feature = "xz", feature = "bzip2"))]
struct Named<R>(&'static str, R);

#[cfg(any(feature = "gzip", feature = "zstd", feature = "xz", feature = "bzip2"))]
impl<R: Read> Read for Named<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1.read(buf).map_err(|error| match error.kind() {
            ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, format!("{} data: {}", self.0, Reason(&error))),
        })
    }
}

#[cfg(all(test, feature = "command"))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;

    /// bzip2 as a program is on few systems by itself, Python's on most.
    const BZIP2: &str =
        "import bz2, sys; sys.stdout.buffer.write(bz2.compress(sys.stdin.buffer.read()))";

    fn compressed(tool: &[&str], content: &[u8]) -> Vec<u8> {
        let (program, arguments) = tool.split_first().unwrap();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let content = content.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&content).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success());
        output.stdout
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
}
