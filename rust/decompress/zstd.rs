// SPDX-License-Identifier: GPL-2.0-only

//! Zstandard frames.

#![cfg(CONFIG_ZSTD_DECOMPRESS)]

use crate::decompress::bindings;
use crate::decompress::Extent;
use crate::decompress::Failure;
use kernel::prelude::*;

/// What decoding needs.
pub(super) struct Workspace {
    memory: KVVec<u64>,
    /// The largest window, in bytes.
    window: usize,
}

impl Workspace {
    /// For windows of at most so many bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(window: usize) -> Result<Self> {
        // SAFETY: They have no requirements.
        let size = unsafe {
            bindings::zstd_dctx_workspace_bound()
                .max(bindings::zstd_dstream_workspace_bound(window))
        };
        let words = size.div_ceil(size_of::<u64>());
        Ok(Self {
            memory: KVVec::from_elem(0u64, words, GFP_KERNEL)?,
            window,
        })
    }

    /// Decodes `encoded` into `decoded`; see [`Decoders::decode`](super::Decoders::decode).
    pub(super) fn decode(
        &mut self,
        encoded: &[u8],
        decoded: &mut [u8],
        extent: Extent,
    ) -> core::result::Result<(), Failure> {
        match extent {
            Extent::Whole => self.decode_whole(encoded, decoded),
            Extent::Start => self.decode_start(encoded, decoded),
        }
    }

    /// The memory, and its size in bytes.
    fn memory(&mut self) -> (*mut core::ffi::c_void, usize) {
        let size = size_of_val(self.memory.as_slice());
        (self.memory.as_mut_ptr().cast(), size)
    }

    fn decode_whole(
        &mut self,
        encoded: &[u8],
        decoded: &mut [u8],
    ) -> core::result::Result<(), Failure> {
        let (memory, size) = self.memory();
        // SAFETY: The memory is valid, aligned to 8 bytes and for no one else to use during the call; the slices are
        // valid for their lengths.
        let (len, failed) = unsafe {
            let context = bindings::zstd_init_dctx(memory, size);
            if context.is_null() {
                return Err(Failure::Errno(ENOMEM));
            }
            let len = bindings::zstd_decompress_dctx(
                context,
                decoded.as_mut_ptr().cast(),
                decoded.len(),
                encoded.as_ptr().cast(),
                encoded.len(),
            );
            (len, bindings::zstd_is_error(len) != 0)
        };
        if failed {
            return Err(Failure::Corrupt("Zstandard data cannot be decoded"));
        }
        if len != decoded.len() {
            return Err(Failure::Corrupt(
                "Zstandard data decodes to fewer bytes than expected",
            ));
        }
        Ok(())
    }

    fn decode_start(
        &mut self,
        encoded: &[u8],
        decoded: &mut [u8],
    ) -> core::result::Result<(), Failure> {
        let window = self.window;
        let (memory, size) = self.memory();
        let mut input = bindings::zstd_in_buffer {
            src: encoded.as_ptr().cast(),
            size: encoded.len(),
            pos: 0,
        };
        let mut output = bindings::zstd_out_buffer {
            dst: decoded.as_mut_ptr().cast(),
            size: decoded.len(),
            pos: 0,
        };
        // SAFETY: As above; the memory is as much as a stream of this window needs.
        let stream = unsafe { bindings::zstd_init_dstream(window, memory, size) };
        if stream.is_null() {
            return Err(Failure::Errno(ENOMEM));
        }
        // Each call but the last one makes progress, so that there are no more than bytes.
        while output.pos < output.size {
            let before = (input.pos, output.pos);
            // SAFETY: The stream is valid, and so are both buffers for what they say.
            let (hint, failed) = unsafe {
                let hint = bindings::zstd_decompress_stream(stream, &mut output, &mut input);
                (hint, bindings::zstd_is_error(hint) != 0)
            };
            if failed {
                return Err(Failure::Corrupt("Zstandard data cannot be decoded"));
            }
            let is_stuck = (input.pos, output.pos) == before;
            if output.pos < output.size && (hint == 0 || is_stuck) {
                return Err(Failure::Corrupt(
                    "Zstandard data decodes to fewer bytes than expected",
                ));
            }
        }
        Ok(())
    }
}
