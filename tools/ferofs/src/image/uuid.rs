// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The UUID that an image gets if nobody chose one: it follows from what is in the image, and so
//! tells whether an index is still what this version of the builder would make.

use super::plan::TABLE;
use crate::inspect::Image;
use erofs_format::ondisk;
use sha2::Digest as _;
use sha2::Sha256;
use std::io;
use xxhash_rust::xxh3::Xxh3Default;

/// To be raised with every change of what an index has for the same files: it goes into the UUID,
/// and indexes that were made before are not used again.
const VERSION: u8 = 2;

/// Bytes of an index are hashed in pieces of this size.
const PIECE: u64 = 256 << 10;

/// What a UUID is made of: everything in the image, with zeros for the superblock; the data of files by its
/// [`DataFingerprint`].
pub struct Fingerprint(Sha256);

/// What a UUID has of the data of files. There may be much of it, so it is a hash that is faster than the disk:
/// enough to tell images apart, though somebody who wants to could make two that have the same.
#[derive(Default)]
pub struct DataFingerprint(Xxh3Default);

impl DataFingerprint {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// What came together.
    pub fn value(&self) -> [u8; 16] {
        self.0.digest128().to_le_bytes()
    }
}

impl Fingerprint {
    /// Nothing yet.
    pub fn new() -> Self {
        Fingerprint(Sha256::new_with_prefix([VERSION]))
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// A UUID of version 8, "vendor specific".
    pub fn uuid(self) -> [u8; 16] {
        let digest: [u8; 32] = self.0.finalize().into();
        let mut uuid = [0; 16];
        for (to, from) in uuid.iter_mut().zip(digest) {
            *to = from;
        }
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}

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
            let superblock = ondisk::SUPER_OFFSET as usize..TABLE as usize;
            piece.get_mut(superblock).unwrap_or_default().fill(0);
        }
        content.update(piece);
        pos += len;
    }
    Ok(content.uuid() == index.superblock().uuid())
}
