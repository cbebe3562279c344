// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An image's bytes from a file, in pieces that are kept for a while.

use erofs_format::Metadata;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::io::Seek;
use std::io::SeekFrom;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// Size of a piece: a multiple of every block size.
const PIECE: u64 = 64 << 10;
/// Pieces that are kept, each in the place that its number gives it: 8 MiB.
const PLACES: usize = 128;

/// A piece by its number.
type Kept = (u64, Rc<[u8]>);

/// An image in a file.
pub struct ImageFile {
    file: File,
    size: u64,
    pieces: RefCell<Vec<Option<Kept>>>,
}

impl ImageFile {
    /// Opens a file, or a block device.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or its size cannot be had.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let size = file.seek(SeekFrom::End(0))?;
        Ok(ImageFile {
            file,
            size,
            pieces: RefCell::new(vec![None; PLACES]),
        })
    }

    fn piece(&self, number: u64) -> io::Result<Rc<[u8]>> {
        let mut pieces = self.pieces.borrow_mut();
        let index = (number % PLACES as u64) as usize;
        if let Some(Some((kept, piece))) = pieces.get(index) {
            if *kept == number {
                return Ok(Rc::clone(piece));
            }
        }
        let start = number.saturating_mul(PIECE);
        let mut buffer = vec![0; self.size.saturating_sub(start).min(PIECE) as usize];
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, start.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        let piece: Rc<[u8]> = buffer.into();
        if let Some(place) = pieces.get_mut(index) {
            *place = Some((number, Rc::clone(&piece)));
        }
        Ok(piece)
    }
}

/// Part of a piece.
pub struct Bytes {
    piece: Rc<[u8]>,
    start: usize,
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.piece.get(self.start..).unwrap_or_default()
    }
}

impl Metadata for ImageFile {
    type Error = io::Error;
    type Bytes<'a> = Bytes;

    fn bytes(&self, pos: u64) -> io::Result<Bytes> {
        let piece = self.piece(pos / PIECE)?;
        Ok(Bytes {
            piece,
            start: (pos % PIECE) as usize,
        })
    }

    fn size(&self) -> u64 {
        self.size
    }
}
