// SPDX-License-Identifier: GPL-2.0-only

//! Safe functions over the kernel's decoders, one file each: bytes in, bytes out. What data they are of, and where
//! either lies, is for the caller to know (`fs/decode.rs`).
//!
//! A mount makes [`Decoders`] for the algorithms that its image announces, with all memory that decoding takes.

mod bindings;
mod deflate;
#[cfg(CONFIG_KUNIT = "y")]
mod kunit;
mod lz4;
mod lzma;
mod pool;
mod zstd;

use crate::decompress::pool::Pool;
use kernel::prelude::*;

/// How bytes are compressed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Algorithm {
    /// An LZ4 block.
    Lz4,
    /// MicroLZMA.
    Lzma,
    /// Raw DEFLATE.
    Deflate,
    /// A Zstandard frame.
    Zstd,
}

impl Algorithm {
    /// Whether this kernel has a decoder for it.
    pub(crate) const fn is_there(self) -> bool {
        match self {
            Self::Lz4 => cfg!(CONFIG_LZ4_DECOMPRESS),
            Self::Lzma => cfg!(CONFIG_XZ_DEC_MICROLZMA),
            Self::Deflate => cfg!(CONFIG_ZLIB_INFLATE),
            Self::Zstd => cfg!(CONFIG_ZSTD_DECOMPRESS),
        }
    }
}

/// How much of encoded bytes is wanted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Extent {
    /// All: they decode to as many bytes as there is room for, no more and no less.
    Whole,
    /// The first bytes, as many as there is room for; there are no fewer.
    Start,
}

/// Why bytes could not be decoded.
pub(crate) enum Failure {
    /// They are not what an encoder makes, or not of the length that was expected.
    Corrupt(&'static str),
    /// There is no memory, or no such decoder.
    Errno(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Errno(error)
    }
}

/// Decoders with their memory. Those without any take none.
pub(crate) struct Decoders {
    #[cfg(CONFIG_XZ_DEC_MICROLZMA)]
    lzma: Option<Pin<KBox<Pool<lzma::State>>>>,
    #[cfg(CONFIG_ZLIB_INFLATE)]
    deflate: Option<Pin<KBox<Pool<deflate::Workspace>>>>,
    #[cfg(CONFIG_ZSTD_DECOMPRESS)]
    zstd: Option<Pin<KBox<Pool<zstd::Workspace>>>>,
}

impl Decoders {
    /// Decoders for the algorithms that `needs` says, each of which [`Algorithm::is_there`]. The windows of Zstandard
    /// have at most `window` bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(needs: impl Fn(Algorithm) -> bool, window: usize) -> Result<Self> {
        let _ = window;
        Ok(Self {
            #[cfg(CONFIG_XZ_DEC_MICROLZMA)]
            lzma: Pool::if_needed(needs(Algorithm::Lzma), lzma::State::new)?,
            #[cfg(CONFIG_ZLIB_INFLATE)]
            deflate: Pool::if_needed(needs(Algorithm::Deflate), deflate::Workspace::new)?,
            #[cfg(CONFIG_ZSTD_DECOMPRESS)]
            zstd: Pool::if_needed(needs(Algorithm::Zstd), || zstd::Workspace::new(window))?,
        })
    }

    /// Decodes `encoded` into `decoded`, and fills that.
    ///
    /// # Errors
    ///
    /// [`Failure::Corrupt`] if it is not filled, or if `extent` is all and that is not what there is; `ENOMEM`; and
    /// `EOPNOTSUPP` for an algorithm that this was not made for. What `decoded` holds then is undefined.
    pub(crate) fn decode(
        &self,
        algorithm: Algorithm,
        encoded: &[u8],
        decoded: &mut [u8],
        extent: Extent,
    ) -> core::result::Result<(), Failure> {
        let missing = Failure::Errno(kernel::error::code::EINVAL);
        match algorithm {
            #[cfg(CONFIG_LZ4_DECOMPRESS)]
            Algorithm::Lz4 => lz4::decode(encoded, decoded, extent),
            #[cfg(CONFIG_XZ_DEC_MICROLZMA)]
            Algorithm::Lzma => match &self.lzma {
                Some(pool) => pool.with(|state| state.decode(encoded, decoded, extent)),
                None => Err(missing),
            },
            #[cfg(CONFIG_ZLIB_INFLATE)]
            Algorithm::Deflate => match &self.deflate {
                Some(pool) => pool.with(|workspace| workspace.decode(encoded, decoded, extent)),
                None => Err(missing),
            },
            #[cfg(CONFIG_ZSTD_DECOMPRESS)]
            Algorithm::Zstd => match &self.zstd {
                Some(pool) => pool.with(|workspace| workspace.decode(encoded, decoded, extent)),
                None => Err(missing),
            },
            #[allow(unreachable_patterns)]
            _ => Err(missing),
        }
    }
}
