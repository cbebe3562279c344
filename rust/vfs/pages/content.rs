// SPDX-License-Identifier: GPL-2.0-only

//! What a file is made of, apart from the file: a list of extents that keeps what they lie in. Files that are known to be equal
//! have one, and so are read from one place and mapped from one page cache
//! ([`crate::vfs::pages::range::RangeCache::of_content`]).
//!
//! A filesystem makes one of a file's extents, and answers with it for all others of the same bytes.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::reply::Wait;
use crate::vfs::backing::seal::Seal;
use crate::vfs::pages::buffer::Buffer;
use crate::vfs::pages::extent::Extent;
use crate::vfs::pages::extent::Source;
use crate::vfs::sha256::Digest;
use crate::vfs::sha256::Sha256;
use crate::vfs::task::rest;
use crate::vfs::vec;
use core::ops::Deref;
use kernel::prelude::*;

/// How many extents there are at the most. (A contiguous file is one; mostly there are a few, and an inline tail.)
const PIECES_MAX: usize = 512;

/// How many bytes of memory, of inline tails, there are at the most.
const MEMORY_MAX: u64 = 128 << 10;

/// How many bytes of holes are hashed at the most.
const HASHED_HOLES_MAX: u64 = 1 << 30;

/// How many bytes are hashed at once.
const STEP: u64 = 256 << 10;

/// Files up to this size are read in a row for being hashed, as for being mapped.
const SMALL: u64 = 64 << 10;

/// Zeros to be hashed.
static ZEROS: [u8; 4096] = [0; 4096];

/// What a content is known by: all of the same key have the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Something that equal bytes have in common, and others have not.
    pub(crate) what: Digest,
    /// How that came about: what came about in another way is not to be compared with it.
    pub(crate) form: u8,
    /// How many bytes there are.
    pub(crate) size: u64,
    /// Who says so: what others say is not to be compared with it.
    pub(crate) domain: Digest,
}

impl Key {
    /// A number that is another one for most keys.
    pub(in crate::vfs) fn number(&self) -> u64 {
        self.what
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// The bytes of a file, and where they lie.
///
/// # Invariants
///
/// The pieces are in their order, without a gap, from the first byte on.
pub(crate) struct Content {
    key: Key,
    pieces: KVec<Piece>,
    files: KVec<Seal>,
}

/// An extent.
struct Piece {
    start: u64,
    len: u64,
    place: Place,
}

/// Where an extent begins.
enum Place {
    Hole,
    Memory(KVec<u8>),
    /// In the file of this number, at this byte.
    File(usize, u64),
}

impl Content {
    /// That which is known by `key`, of which no byte is known yet.
    pub(crate) fn new(key: Key) -> Self {
        // INVARIANT: There are none.
        Self {
            key,
            pieces: KVec::new(),
            files: KVec::new(),
        }
    }

    /// Adds the extent behind the last one. Nobody may write to its file from now on.
    ///
    /// # Errors
    ///
    /// `E2BIG` if there are too many, `ETXTBSY` if someone has the file open for writing, `EINVAL` for an empty one,
    /// and `ENOMEM`.
    pub(crate) fn add<B: Deref<Target = [u8]>>(&mut self, extent: Extent<'_, B>) -> Result {
        let start = self.known();
        let len = extent.len.min(self.size().saturating_sub(start));
        if len == 0 {
            return Err(EINVAL);
        }
        let place = match extent.source {
            Source::Hole => Place::Hole,
            Source::Memory(bytes, _) => {
                let memory = self.pieces.iter().map(|piece| match piece.place {
                    Place::Memory(_) => piece.len,
                    _ => 0,
                });
                if memory.fold(len, u64::saturating_add) > MEMORY_MAX {
                    return Err(E2BIG);
                }
                let mut kept = KVec::from_elem(0, len as usize, GFP_KERNEL)?;
                kept.copy_from_slice(bytes.get(..len as usize).ok_or(EIO)?);
                Place::Memory(kept)
            }
            Source::File(file, from) => Place::File(self.number(file)?, from),
        };
        if self.pieces.len() >= PIECES_MAX {
            return Err(E2BIG);
        }
        // INVARIANT: It begins where the last one ends.
        vec::push(&mut self.pieces, Piece { start, len, place })
    }

    /// How many of the bytes are known.
    pub(crate) fn known(&self) -> u64 {
        let last = self.pieces.last();
        last.map_or(0, |piece| piece.start.saturating_add(piece.len))
    }

    /// The number of a file.
    fn number(&mut self, file: &BackingFile) -> Result<usize> {
        let known = self.files.iter();
        if let Some(number) = known.map(Seal::file).position(|known| known.is_same(file)) {
            return Ok(number);
        }
        vec::push(&mut self.files, Seal::new(file)?)?;
        Ok(self.files.len().saturating_sub(1))
    }

    /// What it is known by.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// How many bytes there are.
    pub(crate) fn size(&self) -> u64 {
        self.key.size
    }

    /// The extent of the byte at `pos`.
    ///
    /// # Errors
    ///
    /// `EIO` if that is not known.
    pub(crate) fn extent(&self, pos: u64) -> Result<Extent<'_, &[u8]>> {
        // Mostly there is one, or two.
        let mut backwards = self.pieces.iter().rev();
        let piece = backwards.find(|piece| piece.start <= pos).ok_or(EIO)?;
        let skip = pos.checked_sub(piece.start).ok_or(EIO)?;
        let len = piece.len.checked_sub(skip).filter(|len| *len > 0);
        let len = len.ok_or(EIO)?;
        let source = match &piece.place {
            Place::Hole => Source::Hole,
            Place::Memory(bytes) => Source::Memory(bytes.get(skip as usize..).ok_or(EIO)?, 0),
            Place::File(number, from) => {
                let file = self.files.get(*number).ok_or(EIO)?.file();
                Source::File(file, from.checked_add(skip).ok_or(EIO)?)
            }
        };
        Ok(Extent { len, source })
    }

    /// Where it begins in a file, if that has all of it in one extent.
    #[inline]
    pub(crate) fn whole(&self) -> Option<(&BackingFile, u64)> {
        let piece = self
            .pieces
            .first()
            .filter(|piece| piece.len >= self.size())?;
        match &piece.place {
            Place::File(number, from) => Some((self.files.get(*number)?.file(), *from)),
            _ => None,
        }
    }

    /// A number that changes when any of the files does. Not zero.
    pub(crate) fn version(&self) -> u64 {
        self.files.iter().fold(self.size(), |sum, seal| {
            sum.rotate_left(7) ^ seal.file().identity().version()
        }) | 1
    }

    /// The sha256 of the bytes, as they are and stay. None if they could be changed without anyone's knowing, or have holes
    /// too large to be hashed.
    ///
    /// They are read past the files' caches, where that can be.
    ///
    /// # Errors
    ///
    /// `EINTR` for a task that was killed, `ENOMEM`, and those of reading.
    pub(crate) fn sha256(&self) -> Result<Option<Digest>> {
        let holes = self.pieces.iter().map(|piece| match piece.place {
            Place::Hole => piece.len,
            _ => 0,
        });
        let holes = holes.fold(0, u64::saturating_add);
        if holes > HASHED_HOLES_MAX || !self.files.iter().all(Seal::is_tight) {
            return Ok(None);
        }
        let mut sum = Sha256::new();
        let mut pos = 0;
        while pos < self.size() {
            rest()?;
            let extent = self.extent(pos)?;
            let len = extent.len.min(STEP);
            match extent.source {
                Source::Hole => {
                    let mut left = len;
                    while left > 0 {
                        let step = left.min(ZEROS.len() as u64);
                        sum.update(ZEROS.get(..step as usize).ok_or(EIO)?);
                        left = left.saturating_sub(step);
                    }
                }
                Source::Memory(bytes, _) => sum.update(bytes.get(..len as usize).ok_or(EIO)?),
                Source::File(file, from) => {
                    file.ask(from, len, Wait::Any)?;
                    let is_small = pos == 0 && self.size() <= SMALL;
                    sum.update(Buffer::read(file, from, len as usize, is_small)?.bytes());
                }
            }
            pos = pos.saturating_add(len);
        }
        Ok(Some(sum.finish()))
    }
}
