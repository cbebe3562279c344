// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writing past the page cache. A large file that is written through it takes memory from everybody
//! else, and two to ten times as long as the disk alone. [`image`](crate::image) writes images so,
//! the `ferofs build` command tars.

use crate::chunk::ALIGNMENT;
use crate::chunk::Buffer;
use crate::chunk::Chunk;
use rustix::io::Errno;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::mpsc;
use std::thread;

/// Less data than this is written through the cache, where it is still at hand when the image is
/// mounted.
const WORTH: u64 = 64 << 20;

/// From this length on zeros are holes in the file: alignment may ask for more of them than there is data.
pub const HOLE: u64 = 64 << 10;

/// To wait for the disk for each piece smaller than this takes longer than to write it through the cache.
const PIECE: usize = 256 << 10;

/// Whether so much data is written past the cache.
pub fn is_worth(data: u64) -> bool {
    data >= WORTH
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

/// What is written next.
enum Part {
    /// So much of a buffer that comes back when it is written.
    Own(Buffer, usize),
    /// Others have it, too.
    Shared(Chunk),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Own(buffer, filled) => buffer.bytes().get(..*filled).unwrap_or_default(),
            Part::Shared(chunk) => chunk,
        }
    }

    /// Whether it begins at a page, and the next one behind it does, too.
    fn is_aligned(&self) -> bool {
        let bytes = self.bytes();
        (bytes.as_ptr() as usize | bytes.len()) % ALIGNMENT == 0
    }
}

/// Writes a file front to back in a thread of its own: while one part is written the next one can be made.
pub struct Behind {
    /// To the thread, each with where in the file it belongs.
    parts: Option<mpsc::SyncSender<(Part, u64)>>,
    used: mpsc::Receiver<Buffer>,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
    /// How many buffers there are.
    buffers: usize,
    /// Where the next bytes belong.
    pos: u64,
}

impl Behind {
    /// How large the buffers are, and how much is written at once.
    pub const BUFFER: usize = 4 << 20;
    /// One is filled, one waits, one is written.
    const BUFFERS: usize = 3;

    /// For a file with nothing from `pos` on: directly from there if `now`, or else once the file is large
    /// enough.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened once more.
    pub fn new(file: &File, pos: u64, now: bool) -> io::Result<Self> {
        let file = Sequential {
            file: file.try_clone()?,
            direct: now.then(|| reopen(file)).flatten(),
            asked: now,
        };
        let (parts, receiver) = mpsc::sync_channel(4);
        let (returned, used) = mpsc::channel();
        let thread = thread::spawn(move || file.write_all(&receiver, &returned));
        Ok(Behind {
            parts: Some(parts),
            used,
            thread: Some(thread),
            buffers: 1,
            pos,
        })
    }

    /// A buffer to go on with: one that has been written, or a new one as long as there are few.
    fn another(&mut self) -> io::Result<Buffer> {
        if let Ok(buffer) = self.used.try_recv() {
            return Ok(buffer);
        }
        if self.buffers < Self::BUFFERS {
            self.buffers += 1;
            return Ok(Buffer::new(Self::BUFFER));
        }
        match self.used.recv() {
            Ok(buffer) => Ok(buffer),
            // It ends early only when it cannot write.
            Err(_) => self.end().map(|()| Buffer::new(Self::BUFFER)),
        }
    }

    /// Writes the first `filled` bytes of a buffer next, and gives another one for it.
    ///
    /// # Errors
    ///
    /// Those of writing, perhaps of what was passed before.
    pub fn write(&mut self, buffer: &mut Buffer, filled: usize) -> io::Result<()> {
        if filled == 0 {
            return Ok(());
        }
        let next = self.another()?;
        self.pass(Part::Own(std::mem::replace(buffer, next), filled))
    }

    /// Writes a chunk next.
    ///
    /// # Errors
    ///
    /// Those of writing, perhaps of what was passed before.
    pub fn write_chunk(&mut self, chunk: &Chunk) -> io::Result<()> {
        match chunk.is_empty() {
            true => Ok(()),
            false => self.pass(Part::Shared(chunk.clone())),
        }
    }

    /// Leaves a hole of `len` bytes, behind which more comes.
    pub fn skip(&mut self, len: u64) {
        self.pos = self.pos.saturating_add(len);
    }

    /// Passes something to the thread.
    fn pass(&mut self, part: Part) -> io::Result<()> {
        let pos = self.pos;
        self.pos = pos.saturating_add(part.bytes().len() as u64);
        match &self.parts {
            Some(parts) if parts.send((part, pos)).is_ok() => Ok(()),
            // It ends early only when it cannot write.
            _ => self.end(),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.parts = None;
        match self.thread.take().map(thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(io::Error::other("the writing thread ended early")),
        }
    }

    /// Waits until all is written.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<()> {
        self.end()
    }
}

/// Writes an empty file from its start to its end, a little behind.
pub struct Writer {
    /// What is to be written next: how much is in it.
    buffer: Buffer,
    filled: usize,
    behind: Behind,
}

impl Writer {
    /// For a file that is empty, and will have `expected` bytes as far as is known.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened once more.
    pub fn new(file: &File, expected: Option<u64>) -> io::Result<Self> {
        Ok(Writer {
            buffer: Buffer::new(Behind::BUFFER),
            filled: 0,
            behind: Behind::new(file, 0, expected.is_some_and(is_worth))?,
        })
    }

    /// Leaves a hole of `len` bytes, behind which more comes.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn skip(&mut self, len: u64) -> io::Result<()> {
        let filled = std::mem::take(&mut self.filled);
        self.behind.write(&mut self.buffer, filled)?;
        self.behind.skip(len);
        Ok(())
    }

    /// Waits until all is written.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<()> {
        self.behind.pass(Part::Own(self.buffer, self.filled))?;
        self.behind.finish()
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled == Behind::BUFFER {
            let filled = std::mem::take(&mut self.filled);
            self.behind.write(&mut self.buffer, filled)?;
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

    /// Does nothing: [`Self::finish`] does all.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is written front to back.
struct Sequential {
    file: File,
    direct: Option<File>,
    /// Whether it was tried to write directly.
    asked: bool,
}

impl Sequential {
    /// Writes all parts that come. Buffers go back.
    fn write_all(
        mut self,
        parts: &mpsc::Receiver<(Part, u64)>,
        returned: &mpsc::Sender<Buffer>,
    ) -> io::Result<()> {
        let mut next = None;
        while let Some((part, pos)) = next.take().or_else(|| parts.recv().ok()) {
            let mut len = part.bytes().len();
            let mut together = vec![part];
            // What waits already is written with it.
            while len < Behind::BUFFER && together.last().is_some_and(Part::is_aligned) {
                match parts.try_recv() {
                    Ok((part, at)) if at == pos.saturating_add(len as u64) && part.is_aligned() => {
                        len = len.saturating_add(part.bytes().len());
                        together.push(part);
                    }
                    Ok(other) => {
                        next = Some(other);
                        break;
                    }
                    Err(_) => break,
                }
            }
            self.write(&together, len, pos)?;
            for part in together {
                if let Part::Own(buffer, _) = part {
                    // Nobody may be waiting for the buffer.
                    drop(returned.send(buffer));
                }
            }
        }
        Ok(())
    }

    /// Writes parts that have `len` bytes together.
    fn write(&mut self, parts: &[Part], len: usize, mut pos: u64) -> io::Result<()> {
        if !self.asked && pos >= WORTH {
            self.asked = true;
            self.direct = reopen(&self.file);
        }
        let aligned = pos % ALIGNMENT as u64 == 0 && parts.iter().all(Part::is_aligned);
        let fit = aligned && len >= PIECE;
        if let Some(direct) = self.direct.as_ref().filter(|_| fit) {
            match write_together(direct, parts, pos) {
                Ok(()) => return Ok(()),
                // Whatever this filesystem does not like about it.
                Err(error) if error.kind() == ErrorKind::InvalidInput => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        for part in parts {
            self.file.write_all_at(part.bytes(), pos)?;
            pos = pos.saturating_add(part.bytes().len() as u64);
        }
        Ok(())
    }
}

/// Writes several parts with one call, unless the system takes fewer.
fn write_together(file: &File, parts: &[Part], mut pos: u64) -> io::Result<()> {
    let mut slices: Vec<_> = parts
        .iter()
        .map(|part| IoSlice::new(part.bytes()))
        .collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match rustix::io::pwritev(file, left, pos) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                pos = pos.saturating_add(written as u64);
                IoSlice::advance_slices(&mut left, written);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Pool;
    use sha2::Digest;

    #[test]
    fn a_large_file_is_whole() {
        let path = std::env::temp_dir().join(format!("ferofs-direct-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let piece: Vec<u8> = (0..=250).cycle().take(999_999).collect();
        let mut writer = Writer::new(&file, None).unwrap();
        let mut expected = sha2::Sha256::new();
        for _ in 0..80 {
            writer.write_all(&piece).unwrap();
            expected.update(&piece);
        }
        writer.finish().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 80 * 999_999);
        let mut found = sha2::Sha256::new();
        io::copy(&mut &file, &mut found).unwrap();
        assert_eq!(found.finalize(), expected.finalize());
    }

    #[test]
    fn chunks_are_written_as_they_are() {
        let path = std::env::temp_dir().join(format!("ferofs-chunks-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true);
        for now in [true, false] {
            let file = options.open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            let pool = Pool::new(1 << 20);
            let mut behind = Behind::new(&file, 0, now).unwrap();
            let mut expected = Vec::new();
            // Most of whole pages, some not, none, and at last a few bytes.
            for (at, len) in [1 << 20, 1 << 20, 1 << 20, 300_000, 0, 4096, 1 << 20, 7]
                .into_iter()
                .enumerate()
            {
                let mut buffer = pool.buffer();
                buffer.bytes_mut()[..len].fill(at as u8 + 1);
                let chunk = pool.share(buffer, len);
                behind.write_chunk(&chunk).unwrap();
                expected.extend_from_slice(&chunk);
            }
            behind.finish().unwrap();
            let mut found = Vec::new();
            io::copy(&mut &file, &mut found).unwrap();
            assert!(found == expected);
        }
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let file = File::open("/dev/null").unwrap();
        let mut writer = Writer::new(&file, None).unwrap();
        let piece = vec![0; 1 << 20];
        // It may be a few buffers behind.
        let error = (0..100).find_map(|_| writer.write_all(&piece).err());
        assert_eq!(
            error.unwrap().raw_os_error(),
            Some(Errno::BADF.raw_os_error())
        );
        let mut writer = Writer::new(&file, None).unwrap();
        writer.write_all(b"few").unwrap();
        let error = writer.finish().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()));
    }
}
