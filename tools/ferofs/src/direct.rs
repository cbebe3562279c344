// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writing past the page cache. A large file that is written through it takes memory from everybody
//! else, and two to ten times as long as the disk alone. [`image`](crate::image) writes images so,
//! the `ferofs build` command tars.

use rustix::io::Errno;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
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
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(reopen(file))
}

/// The same file once more, for direct writing. Without it, the other way works.
fn reopen(file: &File) -> Option<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(path)
        .ok()
}

/// Writes an empty file from its start to its end, directly once it is large enough.
pub struct Writer<'a> {
    file: &'a File,
    direct: Option<File>,
    buffer: Buffer,
    filled: usize,
    /// Where what is in the buffer belongs.
    pos: u64,
}

impl<'a> Writer<'a> {
    const BUFFER: usize = 4 << 20;

    /// For a file that is empty.
    pub fn new(file: &'a File) -> Self {
        Writer {
            file,
            direct: None,
            buffer: Buffer::new(Self::BUFFER),
            filled: 0,
            pos: 0,
        }
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled == Self::BUFFER {
            self.flush()?;
        }
        let space = self.buffer.bytes_mut().get_mut(self.filled..);
        let space = space.unwrap_or_default();
        let len = space.len().min(bytes.len());
        if let (Some(to), Some(from)) = (space.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        self.filled += len;
        Ok(len)
    }

    /// Writes what is in the buffer, which must be done at the end.
    fn flush(&mut self) -> io::Result<()> {
        let filled = std::mem::take(&mut self.filled);
        let bytes = self.buffer.bytes().get(..filled).unwrap_or_default();
        let pos = self.pos;
        self.pos = pos.saturating_add(filled as u64);
        if pos >= WORTH && pos.saturating_sub(filled as u64) < WORTH {
            self.direct = reopen(self.file);
        }
        let unaligned = (pos as usize | filled | bytes.as_ptr() as usize) % ALIGNMENT != 0;
        if let Some(direct) = self.direct.as_ref().filter(|_| !unaligned) {
            match direct.write_all_at(bytes, pos) {
                Ok(()) => return Ok(()),
                // Whatever this filesystem does not like about it.
                Err(error) if error.kind() == ErrorKind::InvalidInput => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        self.file.write_all_at(bytes, pos)
    }
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
    use sha2::Digest;

    #[test]
    fn a_large_file_is_whole() {
        let path = std::env::temp_dir().join(format!("ferofs-direct-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let piece: Vec<u8> = (0..=250).cycle().take(999_999).collect();
        let mut writer = Writer::new(&file);
        let mut expected = sha2::Sha256::new();
        for _ in 0..80 {
            writer.write_all(&piece).unwrap();
            expected.update(&piece);
        }
        writer.flush().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 80 * 999_999);
        let mut found = sha2::Sha256::new();
        io::copy(&mut &file, &mut found).unwrap();
        assert_eq!(found.finalize(), expected.finalize());
    }

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
