// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where this crate gets an image's bytes from: the [`Metadata`] trait, which the kernel module
//! implements over pages it owns and userspace over files and slices; and how the other files of
//! this crate read structures through it.

use super::error::{Corrupt, Error, Result};
use core::convert::Infallible;
use core::mem;
use core::ops::Deref;
use zerocopy::{FromBytes, IntoBytes};

/// What a position counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// The image itself, where superblock, inodes, attributes and tables are.
    Image,
    /// A device: what extents lie in, and with them the data of files, directories and symbolic links. 0 is the image,
    /// where an address may also mean a device that is a file of its own, by
    /// [`DeviceSlot::uniaddr`](super::DeviceSlot::uniaddr); n is slot n - 1 of the device table.
    Device(u16),
    /// The data of an inode that is compressed, or that others lie in: what it decodes to. The number is its nid.
    Inode(u64),
}

/// The bytes of one image, and of its devices as far as names are in them.
pub trait Metadata {
    /// Why bytes could not be had.
    type Error;

    /// Borrowed bytes. They must not change while they are borrowed.
    type Bytes<'a>: Deref<Target = [u8]>
    where
        Self: 'a;

    /// The bytes of a space from offset `pos` on: at least up to the end of the file-system block
    /// that holds `pos`, or to the end of the space if that is nearer. More is welcome. Empty at
    /// the end of the space and beyond.
    ///
    /// The block size is at least 512 bytes; until [`Superblock::read`](super::Superblock::read)
    /// has returned, 512 will do.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bytes from being read.
    fn bytes(&self, space: Space, pos: u64) -> core::result::Result<Self::Bytes<'_>, Self::Error>;

    /// Size of the image in bytes.
    fn size(&self) -> u64;
}

/// An image in memory, without any device but itself.
impl Metadata for &[u8] {
    type Error = Infallible;
    type Bytes<'a>
        = &'a [u8]
    where
        Self: 'a;

    fn bytes(&self, space: Space, pos: u64) -> core::result::Result<&[u8], Infallible> {
        if !matches!(space, Space::Image | Space::Device(0)) {
            return Ok(&[]);
        }
        let pos = usize::try_from(pos).unwrap_or(usize::MAX);
        Ok(self.get(pos..).unwrap_or_default())
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

/// A view of a space's bytes that keeps hold of those it gave last, so that reading on within a
/// block asks [`Metadata`] only once.
pub(super) struct Cursor<'m, M: Metadata> {
    meta: &'m M,
    space: Space,
    held: Option<(u64, M::Bytes<'m>)>,
}

impl<'m, M: Metadata> Cursor<'m, M> {
    pub(super) fn new(meta: &'m M) -> Self {
        Self {
            meta,
            space: Space::Image,
            held: None,
        }
    }

    /// The same view of another space, if it is not this one already.
    pub(super) fn enter(&mut self, space: Space) -> &mut Self {
        if self.space != space {
            self.space = space;
            self.held = None;
        }
        self
    }

    /// What positions count from.
    pub(super) fn space(&self) -> Space {
        self.space
    }

    /// What the bytes come from.
    pub(super) fn meta(&self) -> &'m M {
        self.meta
    }

    /// The bytes from `pos` on; none at the end of the space.
    pub(super) fn bytes(&mut self, pos: u64) -> Result<&[u8], M::Error> {
        let held = self.held.as_ref().is_some_and(|(start, bytes)| {
            pos.checked_sub(*start)
                .is_some_and(|offset| offset < bytes.len() as u64)
        });
        if !held {
            // Let go of the old bytes first: two blocks at a time are more than a user may have.
            self.held = None;
            self.held = Some((pos, self.meta.bytes(self.space, pos).map_err(Error::Io)?));
        }
        Ok(match &self.held {
            Some((start, bytes)) => bytes
                .get(pos.wrapping_sub(*start) as usize..)
                .unwrap_or_default(),
            None => &[],
        })
    }

    /// Gives the bytes from `pos` on, `len` of them, to `take`, block by block, until it returns
    /// false. Returns whether it never did. A space that ends before is [`Error::Corrupt`], and
    /// `what` says what was cut off.
    pub(super) fn pieces(
        &mut self,
        pos: u64,
        len: usize,
        what: &'static str,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, M::Error> {
        let mut at = pos;
        let mut left = len;
        while left > 0 {
            let bytes = self.bytes(at)?;
            let piece = bytes.get(..left).unwrap_or(bytes);
            if !take(piece) {
                return Ok(false);
            }
            left = left.wrapping_sub(piece.len());
            at = match at.checked_add(piece.len() as u64) {
                Some(next) if !piece.is_empty() => next,
                _ => {
                    return Err(Error::Corrupt(Corrupt {
                        what,
                        at: pos,
                        space: self.space,
                    }))
                }
            };
        }
        Ok(true)
    }

    /// Fills `buf` with the bytes from `pos` on. A space that ends before is [`Error::Corrupt`],
    /// and `what` says what was cut off.
    pub(super) fn read(
        &mut self,
        pos: u64,
        buf: &mut [u8],
        what: &'static str,
    ) -> Result<(), M::Error> {
        let len = buf.len();
        let mut fill = Fill::new(buf);
        self.pieces(pos, len, what, |piece| fill.with(piece))?;
        Ok(())
    }

    /// Whether `expected` is what the bytes from `pos` on are. A space that ends before is
    /// [`Error::Corrupt`], and `what` says what was cut off.
    pub(super) fn equals(
        &mut self,
        pos: u64,
        expected: &[u8],
        what: &'static str,
    ) -> Result<bool, M::Error> {
        let mut compare = Compare::new(expected);
        self.pieces(pos, expected.len(), what, |piece| compare.with(piece))
    }

    /// Reads a structure, which may lie in two blocks. A space that ends before is
    /// [`Error::Corrupt`], and `what` says what was cut off.
    pub(super) fn read_struct<T: FromBytes + IntoBytes>(
        &mut self,
        pos: u64,
        what: &'static str,
    ) -> Result<T, M::Error> {
        if let Ok((value, _)) = T::read_from_prefix(self.bytes(pos)?) {
            return Ok(value);
        }
        let mut value = T::new_zeroed();
        self.read(pos, value.as_mut_bytes(), what)?;
        Ok(value)
    }
}

/// Fills a buffer piece by piece.
pub(super) struct Fill<'b> {
    rest: &'b mut [u8],
}

impl<'b> Fill<'b> {
    pub(super) fn new(buf: &'b mut [u8]) -> Self {
        Self { rest: buf }
    }

    /// Copies `piece`, or as much of it as fits, behind the pieces before. Returns true, so that
    /// it can be what pieces are given to.
    #[inline]
    pub(super) fn with(&mut self, piece: &[u8]) -> bool {
        for (to, from) in self.rest.iter_mut().zip(piece) {
            *to = *from;
        }
        self.rest = mem::take(&mut self.rest)
            .get_mut(piece.len()..)
            .unwrap_or_default();
        true
    }
}

/// Compares with expected bytes piece by piece.
pub(super) struct Compare<'e> {
    rest: &'e [u8],
}

impl<'e> Compare<'e> {
    pub(super) fn new(expected: &'e [u8]) -> Self {
        Self { rest: expected }
    }

    /// Whether `piece` is what is expected behind the pieces before.
    pub(super) fn with(&mut self, piece: &[u8]) -> bool {
        match self.rest.strip_prefix(piece) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}
