// SPDX-License-Identifier: GPL-2.0-only

//! Raw DEFLATE.

#![cfg(CONFIG_ZLIB_INFLATE)]

use crate::decompress::bindings;
use crate::decompress::Extent;
use crate::decompress::Failure;
use kernel::prelude::*;

/// Names of zlib's, which are macros in C.
const Z_OK: i32 = 0;
const Z_STREAM_END: i32 = 1;
const Z_SYNC_FLUSH: i32 = 3;
const Z_FINISH: i32 = 4;
/// No header, and the largest window.
const RAW: i32 = -15;

/// What decoding needs.
pub(super) struct Workspace(KVVec<u64>);

impl Workspace {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        // SAFETY: It has no requirements.
        let size = unsafe { bindings::zlib_inflate_workspacesize() };
        let words = (size.unsigned_abs() as usize).div_ceil(size_of::<u64>());
        Ok(Self(KVVec::from_elem(0u64, words, GFP_KERNEL)?))
    }

    /// Decodes `encoded` into `decoded`; see [`Decoders::decode`](super::Decoders::decode).
    pub(super) fn decode(
        &mut self,
        encoded: &[u8],
        decoded: &mut [u8],
        extent: Extent,
    ) -> core::result::Result<(), Failure> {
        let mut stream = bindings::z_stream_s {
            next_in: encoded.as_ptr(),
            avail_in: encoded.len() as bindings::uLong,
            next_out: decoded.as_mut_ptr(),
            avail_out: decoded.len() as bindings::uLong,
            workspace: self.0.as_mut_ptr().cast(),
            ..Default::default()
        };
        let flush = match extent {
            Extent::Whole => Z_FINISH,
            Extent::Start => Z_SYNC_FLUSH,
        };
        // SAFETY: The stream has slices that are valid for their lengths, and a workspace of the size that is asked for;
        // it is not moved. Ending a stream frees nothing.
        let result = unsafe {
            if bindings::zlib_inflateInit2(&mut stream, RAW) != Z_OK {
                return Err(Failure::Errno(EINVAL));
            }
            let result = bindings::zlib_inflate(&mut stream, flush);
            bindings::zlib_inflateEnd(&mut stream);
            result
        };
        match (result, extent, stream.avail_out) {
            (Z_STREAM_END, _, 0) | (Z_OK, Extent::Start, 0) => Ok(()),
            (Z_STREAM_END, _, _) => Err(Failure::Corrupt(
                "DEFLATE data decodes to fewer bytes than expected",
            )),
            (Z_OK, _, _) => Err(Failure::Corrupt("DEFLATE data has no end")),
            _ => Err(Failure::Corrupt("DEFLATE data cannot be decoded")),
        }
    }
}
