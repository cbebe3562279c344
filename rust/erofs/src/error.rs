// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can go wrong while an image is read, in terms its user can act on.
//!
//! Made by every other file of this crate. The kernel module turns it into an errno and a line in
//! the log, the tools print it.

use super::metadata::Space;
use core::fmt;

/// Result of reading an image whose [`Metadata`](super::Metadata) fails with `E`.
pub type Result<T, E> = core::result::Result<T, Error<E>>;

/// Why an image, or a part of it, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The bytes could not be had; they may be sound.
    Io(E),
    /// There is no EROFS superblock: the file is something else.
    NotErofs,
    /// The image contradicts the format.
    Corrupt(Corrupt),
    /// The image is sound, but uses a feature this crate does not read.
    Unsupported(Feature),
}

/// A contradiction between an image and the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// What is wrong, as a clause: "inode's size is negative".
    pub what: &'static str,
    /// Where: the offset in the space, in bytes, of the structure that is wrong (or that an
    /// address points to, if it lies outside of the space).
    pub at: u64,
    /// The space.
    pub space: Space,
}

/// What is wrong, where the caller knows in which structure: two words are given back in registers, a
/// [`Corrupt`] is not.
pub(super) type Wrong = &'static str;

impl Corrupt {
    /// Something wrong in the image itself.
    #[must_use]
    pub const fn new(what: &'static str, at: u64) -> Self {
        Self {
            what,
            at,
            space: Space::Image,
        }
    }
}

/// A feature that an image uses and this crate does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Name of the feature, as in "metabox".
    pub name: &'static str,
    /// The bits, or the value, that asked for it.
    pub bits: u32,
    /// Offset in the image, in bytes, of the structure that asks for it.
    pub at: u64,
}

impl<E> Error<E> {
    /// An [`Error::Corrupt`].
    pub(super) const fn corrupt(what: &'static str, at: u64) -> Self {
        Error::Corrupt(Corrupt::new(what, at))
    }

    /// An [`Error::Unsupported`].
    pub(super) const fn unsupported(name: &'static str, bits: u32, at: u64) -> Self {
        Error::Unsupported(Feature { name, bits, at })
    }

    /// The same error, with `f` applied to the error of the metadata's source.
    pub fn map_io<F>(self, f: impl FnOnce(E) -> F) -> Error<F> {
        match self {
            Error::Io(error) => Error::Io(f(error)),
            Error::NotErofs => Error::NotErofs,
            Error::Corrupt(corrupt) => Error::Corrupt(corrupt),
            Error::Unsupported(feature) => Error::Unsupported(feature),
        }
    }
}

impl<E> From<Corrupt> for Error<E> {
    fn from(corrupt: Corrupt) -> Self {
        Error::Corrupt(corrupt)
    }
}

impl<E> From<Feature> for Error<E> {
    fn from(feature: Feature) -> Self {
        Error::Unsupported(feature)
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.what, self.at)?;
        match self.space {
            Space::Image | Space::Device(0) => Ok(()),
            Space::Device(id) => write!(f, " of device {id}"),
            Space::Inode(nid) => write!(f, " of what inode {nid} holds"),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({:#x}) is not supported, at offset {}",
            self.name, self.bits, self.at
        )
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => error.fmt(f),
            Error::NotErofs => f.write_str("not an EROFS image: no superblock at offset 1024"),
            Error::Corrupt(corrupt) => corrupt.fmt(f),
            Error::Unsupported(feature) => feature.fmt(f),
        }
    }
}

impl core::error::Error for Corrupt {}

impl core::error::Error for Feature {}

impl<E: core::error::Error + 'static> core::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Io(error) => error.source(),
            _ => None,
        }
    }
}
