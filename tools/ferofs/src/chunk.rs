// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Memory that is read into once, and that several threads look at then: what comes of an archive is parsed, hashed and
//! written without being copied.
//!
//! A [`Pool`] gives out [`Buffer`]s. When one is full it becomes a [`Chunk`], which nobody changes any more, and
//! whose memory goes back to the pool with the last who has it. [`tar::StreamInput`](crate::tar::StreamInput) and
//! [`hashing`](crate::hashing) read into them, [`digest`](crate::digest) and [`direct`](crate::direct) take them.

use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

/// What positions, lengths and addresses in memory have to be multiples of for direct writing: a page is always
/// enough.
pub const ALIGNMENT: usize = 4096;

/// Memory that direct writing takes: it starts at a page.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` bytes of zeros.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        // It need not be known where memory is; then it is not aligned.
        let start = if start < ALIGNMENT { start } else { 0 };
        Buffer { bytes, start, len }
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    /// All of it, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    /// Reads until it is full or the input ends. Returns how much was read.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn fill(&mut self, reader: &mut impl Read) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = self
            .bytes_mut()
            .get_mut(filled..)
            .filter(|rest| !rest.is_empty())
        {
            match reader.read(rest) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

type Free = Mutex<Vec<Buffer>>;

/// Buffers of one size, which are used again.
pub struct Pool {
    len: usize,
    free: Arc<Free>,
}

impl Pool {
    /// Of buffers of `len` bytes.
    pub fn new(len: usize) -> Self {
        Pool {
            len,
            free: Arc::default(),
        }
    }

    /// A buffer, with whatever was in it before.
    pub fn buffer(&self) -> Buffer {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let used = free.pop();
        drop(free);
        used.unwrap_or_else(|| Buffer::new(self.len))
    }

    /// The first `filled` bytes of a buffer, for everybody.
    pub fn share(&self, buffer: Buffer, filled: usize) -> Chunk {
        Chunk(Arc::new(Shared {
            buffer,
            filled,
            home: Arc::downgrade(&self.free),
        }))
    }
}

/// Bytes that nobody changes any more. A clone of it is the same bytes.
#[derive(Clone)]
pub struct Chunk(Arc<Shared>);

struct Shared {
    buffer: Buffer,
    filled: usize,
    home: Weak<Free>,
}

impl Default for Chunk {
    /// No bytes.
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<u8>> for Chunk {
    /// Bytes that are from no pool.
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        let start = 0;
        Chunk(Arc::new(Shared {
            buffer: Buffer { bytes, start, len },
            filled: len,
            home: Weak::new(),
        }))
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.0.buffer.bytes();
        bytes.get(..self.0.filled).unwrap_or_default()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(free) = self.home.upgrade() {
            let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned() {
        for len in [1, 4096, 1 << 20] {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.bytes().len(), len);
            assert_eq!(buffer.bytes_mut().len(), len);
            assert_eq!(buffer.bytes().as_ptr() as usize % ALIGNMENT, 0);
        }
    }

    #[test]
    fn memory_goes_back_with_the_last_who_has_it() {
        let pool = Pool::new(10);
        let free = || pool.free.lock().unwrap().len();
        let mut buffer = pool.buffer();
        assert_eq!(buffer.fill(&mut b"seven b".as_slice()).unwrap(), 7);
        let chunk = pool.share(buffer, 7);
        let same = chunk.clone();
        drop(chunk);
        assert_eq!((&*same, free()), (b"seven b".as_slice(), 0));
        drop(same);
        assert_eq!(free(), 1);
        let again = pool.buffer();
        assert_eq!((again.bytes().len(), free()), (10, 0));
        assert_eq!(&again.bytes()[..7], b"seven b");
        // Those from elsewhere, or whose pool is gone, go nowhere.
        drop(Chunk::from(vec![1]));
        assert_eq!(free(), 0);
        let late = pool.share(again, 10);
        drop(pool);
        assert_eq!(late.len(), 10);
    }
}
