// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What an archive goes through on its way out: the digest of the plain tar, which a thread of its own computes, the
//! compressor, and the digest and size of what comes out of that. A few chunks are in memory, however large it gets.

use super::Compression;
use super::Written;
use crate::digest::Digest;
use crate::digest::Hasher;
use sha2::Digest as _;
use sha2::Sha256;
use std::io;
use std::io::Write;
use std::sync::Arc;

/// So much of the tar is hashed and compressed at once.
const CHUNK: usize = 256 << 10;

/// The way out of an archive.
pub struct Stream<W: Write> {
    packer: Packer<W>,
    plain: Hasher,
    chunk: Vec<u8>,
}

impl<W: Write> Stream<W> {
    /// Starts.
    ///
    /// # Errors
    ///
    /// When the compressor cannot be set up.
    pub fn new(out: W, compression: Compression) -> io::Result<Self> {
        let packer = Packer::new(out, compression)?;
        let plain = Hasher::spawn();
        let chunk = Vec::with_capacity(CHUNK);
        Ok(Stream {
            packer,
            plain,
            chunk,
        })
    }

    /// Hashes and compresses what there is.
    fn pass(&mut self) -> io::Result<()> {
        let mut next = self.plain.buffer(CHUNK);
        next.clear();
        let chunk = Arc::new(std::mem::replace(&mut self.chunk, next));
        self.plain.update(&chunk);
        self.packer.write_all(&chunk)
    }

    /// Ends the stream. Returns what it came to.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<Written> {
        self.pass()?;
        let plain = self.plain.finish();
        let plain = plain.ok_or_else(|| io::Error::other("hashing ended early"))?;
        self.packer.finish(plain)
    }
}

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() == CHUNK {
            self.pass()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The compressor and what is behind it.
enum Packer<W: Write> {
    Plain(W, u64),
    #[cfg(feature = "gzip")]
    Gzip(flate2::write::GzEncoder<Hashed<W>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Encoder<'static, Hashed<W>>),
}

impl<W: Write> Packer<W> {
    fn new(out: W, compression: Compression) -> io::Result<Self> {
        match compression {
            Compression::Plain => Ok(Packer::Plain(out, 0)),
            #[cfg(feature = "gzip")]
            Compression::Gzip(level) => {
                let level = flate2::Compression::new(level);
                let encoder = flate2::write::GzEncoder::new(Hashed::new(out), level);
                Ok(Packer::Gzip(encoder))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd(level) => {
                let level = i32::try_from(level).unwrap_or(i32::MAX);
                let mut encoder = zstd::Encoder::new(Hashed::new(out), level)?;
                encoder.include_checksum(true)?;
                Ok(Packer::Zstd(encoder))
            }
            #[allow(unreachable_patterns, reason = "not if one of them is left out")]
            other => {
                drop(out);
                Err(io::Error::other(format!("{other} is not built in")))
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Packer::Plain(out, size) => {
                *size += bytes.len() as u64;
                out.write_all(bytes)
            }
            #[cfg(feature = "gzip")]
            Packer::Gzip(encoder) => encoder.write_all(bytes),
            #[cfg(feature = "zstd")]
            Packer::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self, plain: Digest) -> io::Result<Written> {
        let mut hashed = match self {
            Packer::Plain(mut out, size) => {
                out.flush()?;
                return Ok(Written {
                    diff_id: plain,
                    digest: plain,
                    size,
                });
            }
            #[cfg(feature = "gzip")]
            Packer::Gzip(encoder) => encoder.finish()?,
            #[cfg(feature = "zstd")]
            Packer::Zstd(encoder) => encoder.finish()?,
        };
        hashed.out.flush()?;
        Ok(Written {
            diff_id: plain,
            digest: Digest(hashed.sha.finalize().into()),
            size: hashed.size,
        })
    }
}

/// Hashes and counts what is written.
struct Hashed<W> {
    out: W,
    sha: Sha256,
    size: u64,
}

impl<W> Hashed<W> {
    #[cfg(any(feature = "gzip", feature = "zstd"))]
    fn new(out: W) -> Self {
        Hashed {
            out,
            sha: Sha256::new(),
            size: 0,
        }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sha.update(bytes.get(..written).unwrap_or(bytes));
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
