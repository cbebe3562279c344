// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An image's bytes, in pieces that are kept for a while.

use crate::read_at::ReadAt;
use erofs_format::Metadata;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Size of a piece: a multiple of every block size.
const PIECE: u64 = 64 << 10;
/// Pieces that are kept, each in the place that its number gives it: 8 MiB.
const PLACES: usize = 128;

/// A piece by its number.
type Kept = (u64, Arc<[u8]>);

/// The bytes of an image.
pub struct ImageFile {
    bytes: Arc<dyn ReadAt>,
    size: u64,
    pieces: Mutex<Vec<Option<Kept>>>,
}

impl ImageFile {
    /// Reads through `bytes`.
    ///
    /// # Errors
    ///
    /// When their number cannot be had.
    pub fn new(bytes: Box<dyn ReadAt>) -> io::Result<Self> {
        Ok(ImageFile {
            size: bytes.size()?,
            bytes: bytes.into(),
            pieces: Mutex::new(vec![None; PLACES]),
        })
    }

    /// The bytes, for somebody who needs them longer than the image.
    pub fn share(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.bytes)
    }

    /// Fills `buf` with the bytes from `pos` on, without keeping them.
    ///
    /// # Errors
    ///
    /// Those of reading, and when there are fewer bytes.
    pub fn read_exact_at(&self, buf: &mut [u8], pos: u64) -> io::Result<()> {
        self.bytes.read_exact_at(buf, pos)
    }

    fn piece(&self, number: u64) -> io::Result<Arc<[u8]>> {
        let index = (number % PLACES as u64) as usize;
        let pieces = || self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some((kept, piece))) = pieces().get(index) {
            if *kept == number {
                return Ok(Arc::clone(piece));
            }
        }
        let start = number.saturating_mul(PIECE);
        let mut buffer = vec![0; self.size.saturating_sub(start).min(PIECE) as usize];
        let filled = self.bytes.read_full_at(&mut buffer, start)?;
        buffer.truncate(filled);
        let piece: Arc<[u8]> = buffer.into();
        if let Some(place) = pieces().get_mut(index) {
            *place = Some((number, Arc::clone(&piece)));
        }
        Ok(piece)
    }
}

/// Part of a piece.
pub struct Bytes {
    piece: Arc<[u8]>,
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
