// SPDX-License-Identifier: GPL-2.0-only

//! LZ4 blocks.

#![cfg(CONFIG_LZ4_DECOMPRESS)]

use crate::decompress::bindings;
use crate::decompress::Extent;
use crate::decompress::Failure;

/// Decodes `encoded` into `decoded`; see [`Decoders::decode`](super::Decoders::decode).
pub(super) fn decode(encoded: &[u8], decoded: &mut [u8], extent: Extent) -> Result<(), Failure> {
    let (Ok(from), Ok(to)) = (i32::try_from(encoded.len()), i32::try_from(decoded.len())) else {
        return Err(Failure::Corrupt("LZ4 data is too long"));
    };
    if extent == Extent::Start {
        // A match 0 bytes back, which no encoder makes, is what was there before: this function copies it onto itself. What was
        // there is nobody's business. (The other one begins such a match with zeros.)
        decoded.fill(0);
    }
    let source = encoded.as_ptr().cast();
    let target = decoded.as_mut_ptr().cast();
    // SAFETY: Both slices are valid for their lengths, and neither function reads or writes beyond what it is told.
    let len = unsafe {
        match extent {
            Extent::Whole => bindings::LZ4_decompress_safe(source, target, from, to),
            Extent::Start => bindings::LZ4_decompress_safe_partial(source, target, from, to, to),
        }
    };
    match len {
        len if len == to => Ok(()),
        0.. => Err(Failure::Corrupt(
            "LZ4 data decodes to fewer bytes than expected",
        )),
        _ => Err(Failure::Corrupt("LZ4 data cannot be decoded")),
    }
}
