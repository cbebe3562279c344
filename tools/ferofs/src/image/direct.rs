// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writing past the page cache. A large image that is written through it takes memory from
//! everybody else, and two to ten times as long as the disk alone.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Less data than this is written through the cache, where it is still at hand when the image is
/// mounted.
const WORTH: u64 = 64 << 20;

/// What positions, lengths and addresses in memory have to be multiples of: a page is always
/// enough.
pub const ALIGNMENT: usize = 4096;

/// The same file once more, for direct writing, if an image of `size` bytes with `data` bytes of
/// files in it is large enough. Space for the image is set aside.
///
/// # Errors
///
/// When there is not enough space.
pub fn open(file: &File, size: u64, data: u64) -> io::Result<Option<File>> {
    if data < WORTH || file.metadata()?.len() > 0 {
        return Ok(None);
    }
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, flags, 0, size) {
        // Not every filesystem can do that.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let direct = OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(path);
    // Without it, the other way works.
    Ok(direct.ok())
}

/// Memory that direct writing takes: it starts at a multiple of [`ALIGNMENT`].
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
}
