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
        self.1.read(buf).map_err(|error| named(self.0, error))
    }
}

/// Says of an error what kind of data it is about.
#[cfg(any(feature = "gzip", feature = "zstd", feature = "xz", feature = "bzip2"))]
pub(crate) fn named(name: &str, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, format!("{name} data: {}", Reason(&error))),
    }
}
