// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reading at any position: what archives, images and blobs are read through, so that they may be
//! files, block devices, bytes in memory or whatever a user of this crate has.

use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Bytes of a known number that can be read at any position, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// Fills the start of `buf` with the bytes from `pos` on, and returns how many there were: 0 only
    /// at the end.
    ///
    /// # Errors
    ///
    /// Those of reading.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;

    /// How many bytes there are.
    ///
    /// # Errors
    ///
    /// When that cannot be found out.
    fn size(&self) -> io::Result<u64>;

    /// Device and inode number, if this is a file: equal for two that are the same.
    fn identity(&self) -> Option<(u64, u64)> {
        None
    }

    /// Reads until `buf` is full or the end is reached, and returns how many bytes there were.
    ///
    /// # Errors
    ///
    /// Those of reading.
    fn read_full_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, pos.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Fills all of `buf`.
    ///
    /// # Errors
    ///
    /// Those of reading; [`ErrorKind::UnexpectedEof`] when there are fewer bytes.
    fn read_exact_at(&self, buf: &mut [u8], pos: u64) -> io::Result<()> {
        match self.read_full_at(buf, pos)? {
            filled if filled < buf.len() => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A regular file or a block device.
impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, pos)
    }

    fn size(&self) -> io::Result<u64> {
        let metadata = self.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if metadata.file_type().is_fifo() {
            return Err(io::Error::other(
                "a pipe, expected a file that can be read anywhere",
            ));
        }
        match metadata.is_file() {
            true => Ok(metadata.len()),
            // The metadata of a block device has no size.
            false => { self }.seek(SeekFrom::End(0)),
        }
    }

    fn identity(&self) -> Option<(u64, u64)> {
        let metadata = self.metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    }
}

/// Bytes in memory.
impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let from = usize::try_from(pos)
            .ok()
            .and_then(|pos| self.get(pos..))
            .unwrap_or_default();
        let len = from.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), from.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Bytes in memory.
impl ReadAt for Vec<u8> {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.as_slice().read_at(buf, pos)
    }

    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }
}

/// What lies from a position on in something else.
pub struct From<R> {
    /// In what.
    pub bytes: R,
    /// The position.
    pub start: u64,
}

impl<R: ReadAt> ReadAt for From<R> {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        match self.start.checked_add(pos) {
            Some(pos) => self.bytes.read_at(buf, pos),
            None => Ok(0),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.size()?.saturating_sub(self.start))
    }
}

macro_rules! pointers {
    ($($pointer:ty),*) => {
        $(
            impl<R: ReadAt + ?Sized> ReadAt for $pointer {
                fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
                    (**self).read_at(buf, pos)
                }

                fn size(&self) -> io::Result<u64> {
                    (**self).size()
                }

                fn identity(&self) -> Option<(u64, u64)> {
                    (**self).identity()
                }
            }
        )*
    };
}

pointers!(&R, Box<R>, Arc<R>);

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Slow<R>(R);

    impl<R: ReadAt> ReadAt for Slow<R> {
        fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
            let end = buf.len().min(1);
            self.0.read_at(&mut buf[..end], pos)
        }

        fn size(&self) -> io::Result<u64> {
            self.0.size()
        }
    }

    fn check(bytes: impl ReadAt) {
        assert_eq!(bytes.size().unwrap(), 10);
        for (pos, len, expected) in [
            (0, 4, b"0123".as_slice()),
            (8, 4, b"89"),
            (10, 4, b""),
            (u64::MAX, 4, b""),
        ] {
            // Files cannot even be asked for what lies beyond 2^63.
            let Ok(found) = bytes.read_full_at(&mut [0; 4], pos) else {
                continue;
            };
            let mut buf = [0; 4];
            assert_eq!(bytes.read_full_at(&mut buf, pos).unwrap(), found);
            assert_eq!(&buf[..found], expected);
            assert_eq!(bytes.read_exact_at(&mut buf, pos).is_ok(), found == len);
        }
    }

    #[test]
    fn files_and_memory_are_read_alike() {
        let path = std::env::temp_dir().join(format!("ferofs-read-at-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.identity(), file.try_clone().unwrap().identity());
        assert_eq!(b"".as_slice().identity(), None);
        check(&file);
        check(Slow(Arc::new(file)));
        check(b"0123456789".as_slice());
        check(Slow(b"0123456789".to_vec()));
        check(From {
            bytes: b"ab0123456789".as_slice(),
            start: 2,
        });
        let directory = File::open(std::env::temp_dir()).unwrap();
        let error = ReadAt::size(&directory).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
    }
}
