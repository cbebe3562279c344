// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Whether an index is still what this version of the builder makes: its UUID tells. Called for what is in caches.

use super::Image;
use crate::image::Fingerprint;
use erofs_format::ondisk;
use std::io;

/// Bytes of an index are hashed in pieces of this size.
const PIECE: u64 = 256 << 10;

/// Whether an index is as this version of the builder made it: all of it is read.
///
/// # Errors
///
/// Those of reading.
pub fn is_unchanged(index: &Image) -> io::Result<bool> {
    let mut content = Fingerprint::new();
    let mut buffer = vec![0; PIECE.min(index.size()) as usize];
    let mut pos = 0;
    while pos < index.size() {
        let len = PIECE.min(index.size() - pos);
        let piece = buffer.get_mut(..len as usize).unwrap_or_default();
        index.file().read_exact_at(piece, pos)?;
        if pos == 0 {
            let start = ondisk::SUPER_OFFSET as usize;
            let superblock = start..start + size_of::<ondisk::Superblock>();
            piece.get_mut(superblock).unwrap_or_default().fill(0);
        }
        content.update(piece);
        pos += len;
    }
    Ok(content.uuid() == index.superblock().uuid())
}
