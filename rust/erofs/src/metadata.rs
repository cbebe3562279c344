// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where this crate gets an image's bytes from: the [`Metadata`] trait, which the kernel module
//! implements over pages it owns and userspace over files and slices.

use core::ops::Deref;

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
    fn bytes(&self, pos: u64) -> Result<Self::Bytes<'_>, Self::Error>;

    /// Size of the image in bytes.
    fn size(&self) -> u64;
}
