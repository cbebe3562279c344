// SPDX-License-Identifier: GPL-2.0-only

//! The decoders that an image needs, made when it is mounted.

use crate::decompress;
use crate::decompress::Decoders;
use crate::erofs;
use crate::erofs::Compression;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::mount::context::Context;
use kernel::prelude::*;
use kernel::str::CStr;

/// The decoders' name for an algorithm.
pub(crate) fn algorithm(algorithm: erofs::Algorithm) -> decompress::Algorithm {
    match algorithm {
        erofs::Algorithm::Lz4 => decompress::Algorithm::Lz4,
        erofs::Algorithm::Lzma => decompress::Algorithm::Lzma,
        erofs::Algorithm::Deflate => decompress::Algorithm::Deflate,
        erofs::Algorithm::Zstd => decompress::Algorithm::Zstd,
    }
}

/// The decoders that an image needs.
///
/// # Errors
///
/// `EOPNOTSUPP` if the kernel has not all of them, which is told through `context`, and `ENOMEM`.
pub(crate) fn new(
    context: &Context<'_>,
    name: &CStr,
    compression: &Compression,
) -> Result<Decoders> {
    let is_needed = |algorithm: &erofs::Algorithm| compression.algorithms & algorithm.bit() != 0;
    for algorithm in erofs::Algorithm::ALL.iter().filter(|one| is_needed(one)) {
        if !self::algorithm(*algorithm).is_there() {
            context.error(fmt!(
                "{}: the image needs {}, which this kernel was built without",
                name,
                algorithm.name(),
            ));
            return Err(EOPNOTSUPP);
        }
    }
    let needs = |wanted| {
        erofs::Algorithm::ALL
            .iter()
            .any(|algorithm| is_needed(algorithm) && self::algorithm(*algorithm) == wanted)
    };
    Decoders::new(needs, compression.zstd_window as usize)
}
