// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What an archive goes through on its way out: the digest of the plain tar, which a thread of its own computes, the
//! compressor, and the digest and size of what comes out of that. A few chunks are in memory, however large it gets.

use super::Compression;
use super::Written;
use crate::chunk::Buffer;
use crate::chunk::Pool;
use crate::digest::Digest;
use crate::digest::Hasher;
use sha2::Digest as _;
use sha2::Sha256;
use std::io;
use std::io::Write;

/// So much of the tar is hashed and compressed at once.
const CHUNK: usize = 256 << 10;

/// The way out of an archive.
pub struct Stream<W: Write> {
    packer: Packer<W>,
    plain: Hasher,
    pool: Pool,
    buffer: Buffer,
    filled: usize,
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
        let pool = Pool::new(CHUNK);
        let buffer = pool.buffer();
        Ok(Stream {
            packer,
            plain,
            pool,
            buffer,
            filled: 0,
        })
    }

    /// Hashes and compresses what there is.
    fn pass(&mut self) -> io::Result<()> {
        let buffer = std::mem::replace(&mut self.buffer, self.pool.buffer());
        let chunk = self.pool.share(buffer, std::mem::take(&mut self.filled));
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
        let mut room = self.buffer.bytes_mut().get_mut(self.filled..);
        let taken = room.as_mut().map_or(Ok(0), |room| room.write(bytes))?;
        self.filled += taken;
        if self.filled == CHUNK {
            self.pass()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The compressor and what is behind it.
enum Packer<W: Write> {
    Plain(Hashed<W>),
    #[cfg(feature = "gzip")]
    Gzip(flate2::write::GzEncoder<Hashed<W>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::Encoder<'static, Hashed<W>>),
}

impl<W: Write> Packer<W> {
    fn new(out: W, compression: Compression) -> io::Result<Self> {
        let plain = compression == Compression::Plain;
        let out = Hashed {
            out,
            // That of the plain tar is known otherwise.
            sha: (!plain).then(Sha256::new),
            size: 0,
        };
        match compression {
            Compression::Plain => Ok(Packer::Plain(out)),
            #[cfg(feature = "gzip")]
            Compression::Gzip(level) => {
                let level = flate2::Compression::new(level);
                Ok(Packer::Gzip(flate2::write::GzEncoder::new(out, level)))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd(level) => {
                let level = i32::try_from(level).unwrap_or(i32::MAX);
                let mut encoder = zstd::Encoder::new(out, level)?;
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
            Packer::Plain(out) => out.write_all(bytes),
            #[cfg(feature = "gzip")]
            Packer::Gzip(encoder) => encoder.write_all(bytes),
            #[cfg(feature = "zstd")]
            Packer::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self, plain: Digest) -> io::Result<Written> {
        let mut hashed = match self {
            Packer::Plain(out) => out,
            #[cfg(feature = "gzip")]
            Packer::Gzip(encoder) => encoder.finish()?,
            #[cfg(feature = "zstd")]
            Packer::Zstd(encoder) => encoder.finish()?,
        };
        hashed.out.flush()?;
        let digest = hashed.sha.map(|sha| Digest(sha.finalize().into()));
        Ok(Written {
            diff_id: plain,
            digest: digest.unwrap_or(plain),
            size: hashed.size,
        })
    }
}

/// Counts what is written, and hashes it if that is asked for.
struct Hashed<W> {
    out: W,
    sha: Option<Sha256>,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        if let Some(sha) = &mut self.sha {
            sha.update(bytes.get(..written).unwrap_or(bytes));
        }
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
