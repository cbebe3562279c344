// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is stored of an archive, hashed while it is read: the sha256 that a manifest says of it. Used by
//! [`oci`](crate::oci) and where access points are made.

use crate::chunk::Chunk;
use crate::chunk::Pool;
use crate::digest::Digest;
use crate::digest::Hasher;
use std::io;
use std::io::BufRead;
use std::io::ErrorKind;
use std::io::Read;

/// So much is read at once.
const PIECE: usize = 256 << 10;

/// A reader that hashes what is read, if that is wanted. Whoever takes its bytes as they are ([`BufRead`]) has them
/// without a copy.
pub struct Hashing<'a, R> {
    reader: R,
    hasher: Option<Hasher>,
    /// Told how much was read.
    watch: &'a (dyn Fn(u64) + Sync),
    pool: Pool,
    chunk: Chunk,
    at: usize,
}

impl<'a, R: Read> Hashing<'a, R> {
    /// Reads from `reader`.
    pub fn new(reader: R, hashes: bool, watch: &'a (dyn Fn(u64) + Sync)) -> Self {
        Hashing {
            reader,
            hasher: hashes.then(Hasher::spawn),
            watch,
            pool: Pool::new(PIECE),
            chunk: Chunk::default(),
            at: 0,
        }
    }

    /// Reads what is left. Returns what all of it came to, if that was wanted.
    ///
    /// # Errors
    ///
    /// Those of reading, and when hashing failed.
    pub fn finish(&mut self) -> io::Result<Option<Digest>> {
        loop {
            let len = match self.fill_buf() {
                Ok([]) => break,
                Ok(bytes) => bytes.len(),
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
            };
            self.consume(len);
        }
        match &mut self.hasher {
            None => Ok(None),
            Some(hasher) => match hasher.finish() {
                Some(digest) => Ok(Some(digest)),
                None => Err(io::Error::other("hashing failed")),
            },
        }
    }
}

impl<R: Read> BufRead for Hashing<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            // Its memory may be what is read into.
            self.chunk = Chunk::default();
            self.at = 0;
            let mut buffer = self.pool.buffer();
            let n = self.reader.read(buffer.bytes_mut())?;
            self.chunk = self.pool.share(buffer, n);
            if let Some(hasher) = &self.hasher {
                hasher.update(&self.chunk);
            }
            (self.watch)(n as u64);
        }
        Ok(self.chunk.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.at.saturating_add(amount).min(self.chunk.len());
    }
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.hasher.is_none() && self.at == self.chunk.len() {
            let n = self.reader.read(buf)?;
            (self.watch)(n as u64);
            return Ok(n);
        }
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;

    #[test]
    fn all_is_hashed_however_it_is_read() {
        let content: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7 % 251) as u8).collect();
        for hashes in [true, false] {
            let read = AtomicU64::new(0);
            let watch = |n| {
                read.fetch_add(n, Ordering::Relaxed);
            };
            let mut reader = Hashing::new(content.as_slice(), hashes, &watch);
            let mut found = vec![0; 10];
            reader.read_exact(&mut found).unwrap();
            found.extend_from_slice(reader.fill_buf().unwrap());
            let len = found.len() - 10;
            reader.consume(len);
            let mut more = vec![0; 300_000];
            reader.read_exact(&mut more).unwrap();
            found.extend(more);
            assert!(content.starts_with(&found));
            let expected = hashes.then(|| Digest::of(&content));
            assert_eq!(reader.finish().unwrap(), expected);
            assert_eq!(read.load(Ordering::Relaxed), content.len() as u64);
        }
    }
}
