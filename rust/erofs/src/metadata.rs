// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where this crate gets an image's bytes from: the [`Metadata`] trait, which the kernel module
//! implements over pages it owns and userspace over files and slices; and how the other files of
//! this crate read structures through it.

use super::error::{Error, Result};
use core::convert::Infallible;
use core::ops::Deref;
use zerocopy::{FromBytes, IntoBytes};

/// The bytes of one image.
pub trait Metadata {
    /// Why bytes could not be had.
    type Error;

    /// Borrowed bytes. They must not change while they are borrowed.
    type Bytes<'a>: Deref<Target = [u8]>
    where
        Self: 'a;

    /// The bytes of the image from offset `pos` on: at least up to the end of the file-system block
    /// that holds `pos`, or to the end of the image if that is nearer. More is welcome. Empty at
    /// the end of the image and beyond.
    ///
    /// The block size is at least 512 bytes; until [`Superblock::read`](super::Superblock::read)
    /// has returned, 512 will do.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bytes from being read.
    fn bytes(&self, pos: u64) -> core::result::Result<Self::Bytes<'_>, Self::Error>;

    /// Size of the image in bytes.
    fn size(&self) -> u64;
}

/// An image in memory.
impl Metadata for &[u8] {
    type Error = Infallible;
    type Bytes<'a>
        = &'a [u8]
    where
        Self: 'a;

    fn bytes(&self, pos: u64) -> core::result::Result<&[u8], Infallible> {
        let pos = usize::try_from(pos).unwrap_or(usize::MAX);
        Ok(self.get(pos..).unwrap_or_default())
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

/// Copies as much of `from` as fits to the start of `to`, and returns how much that was.
#[inline]
pub(super) fn copy(to: &mut [u8], from: &[u8]) -> usize {
    to.iter_mut()
        .zip(from)
        .map(|(to, from)| *to = *from)
        .count()
}

/// Fills `buf` with the image's bytes from `pos` on, over as many blocks as it takes. An image that
/// ends before is [`Error::Corrupt`], and `what` says what was cut off.
pub(super) fn read_bytes<M: Metadata>(
    meta: &M,
    pos: u64,
    buf: &mut [u8],
    what: &'static str,
) -> Result<(), M::Error> {
    let mut at = pos;
    let mut rest = buf;
    while !rest.is_empty() {
        let bytes = meta.bytes(at).map_err(Error::Io)?;
        let copied = copy(rest, &bytes);
        rest = rest.get_mut(copied..).unwrap_or_default();
        at = match at.checked_add(copied as u64) {
            Some(next) if copied > 0 => next,
            _ => return Err(Error::corrupt(what, pos)),
        };
    }
    Ok(())
}

/// Reads a structure, which may lie in two blocks. An image that ends before is
/// [`Error::Corrupt`], and `what` says what was cut off.
pub(super) fn read_struct<T: FromBytes + IntoBytes, M: Metadata>(
    meta: &M,
    pos: u64,
    what: &'static str,
) -> Result<T, M::Error> {
    if let Ok((value, _)) = T::read_from_prefix(&meta.bytes(pos).map_err(Error::Io)?) {
        return Ok(value);
    }
    let mut value = T::new_zeroed();
    read_bytes(meta, pos, value.as_mut_bytes(), what)?;
    Ok(value)
}
