// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! For images that are changed on purpose, by tests and by a fuzzer.

use std::io;
use std::io::Cursor;
use std::io::ErrorKind;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;

/// Where the superblock is, and its checksum in it.
const SUPERBLOCK: usize = 1024;

/// Makes the checksum of what may be an image right.
pub fn seal_superblock(bytes: &mut [u8]) {
    let bits = bytes.get(SUPERBLOCK + 12).copied().unwrap_or_default();
    let size = erofs_format::superblock_checksum_size(bits % 16) as usize;
    let end = (SUPERBLOCK + size).min(bytes.len());
    let sum = erofs_format::superblock_checksum(bytes.get(SUPERBLOCK..end).unwrap_or_default());
    if let Some(field) = bytes.get_mut(SUPERBLOCK + 4..SUPERBLOCK + 8) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}

/// A place for an image that is full before it is large: a short archive may ask for gigabytes of
/// holes.
pub struct Limited {
    pub image: Cursor<Vec<u8>>,
    pub limit: usize,
}

impl Limited {
    pub fn new(limit: usize) -> Self {
        let image = Cursor::default();
        Limited { image, limit }
    }
}

impl Write for Limited {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.image.get_ref().len() + buf.len() > self.limit {
            return Err(ErrorKind::StorageFull.into());
        }
        self.image.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.image.seek(to)
    }
}
