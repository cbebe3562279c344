// SPDX-License-Identifier: GPL-2.0-only

//! MicroLZMA.

#![cfg(CONFIG_XZ_DEC_MICROLZMA)]

use crate::decompress::bindings;
use crate::decompress::Extent;
use crate::decompress::Failure;
use core::ptr::NonNull;
use kernel::prelude::*;

/// The largest dictionary that images may announce, in bytes. It takes no memory: what is decoded at once is the dictionary
/// itself.
const DICTIONARY: u32 = 8 << 20;

/// The state of a decoder.
///
/// # Invariants
///
/// It is one of xz_dec_microlzma_alloc(), and no one else's.
pub(super) struct State(NonNull<bindings::xz_dec_microlzma>);

// SAFETY: It is memory alone, which any task may use that has it.
unsafe impl Send for State {}

impl State {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        // SAFETY: It has no requirements.
        let state =
            unsafe { bindings::xz_dec_microlzma_alloc(bindings::xz_mode_XZ_SINGLE, DICTIONARY) };
        // INVARIANT: It was made just now.
        NonNull::new(state).map(Self).ok_or(ENOMEM)
    }

    /// Decodes `encoded` into `decoded`; see [`Decoders::decode`](super::Decoders::decode).
    pub(super) fn decode(
        &mut self,
        encoded: &[u8],
        decoded: &mut [u8],
        extent: Extent,
    ) -> core::result::Result<(), Failure> {
        let (Ok(from), Ok(to)) = (u32::try_from(encoded.len()), u32::try_from(decoded.len()))
        else {
            return Err(Failure::Corrupt("LZMA data is too long"));
        };
        let mut buffers = bindings::xz_buf {
            in_: encoded.as_ptr(),
            in_pos: 0,
            in_size: encoded.len(),
            out: decoded.as_mut_ptr(),
            out_pos: 0,
            out_size: decoded.len(),
        };
        // SAFETY: By the type invariants; the slices are valid for their lengths.
        let result = unsafe {
            let is_exact = (extent == Extent::Whole).into();
            bindings::xz_dec_microlzma_reset(self.0.as_ptr(), from, to, is_exact);
            bindings::xz_dec_microlzma_run(self.0.as_ptr(), &mut buffers)
        };
        match result {
            bindings::xz_ret_XZ_STREAM_END if buffers.out_pos == buffers.out_size => Ok(()),
            bindings::xz_ret_XZ_OK | bindings::xz_ret_XZ_STREAM_END => Err(Failure::Corrupt(
                "LZMA data decodes to fewer bytes than expected",
            )),
            _ => Err(Failure::Corrupt("LZMA data cannot be decoded")),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; it is not used any more.
        unsafe { bindings::xz_dec_microlzma_end(self.0.as_ptr()) };
    }
}
