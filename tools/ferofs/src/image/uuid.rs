// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The UUID that an image gets if nobody chose one: it follows from what is in the image, and so
//! tells whether an index is still what this version of the builder would make.

use sha2::Digest as _;
use sha2::Sha256;
use xxhash_rust::xxh3::Xxh3Default;
use xxhash_rust::xxh3::xxh3_128;

/// To be raised with every change of what an index has for the same files: it goes into the UUID,
/// and indexes that were made before are not used again.
const VERSION: u8 = 2;

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

    /// What these bytes alone come to.
    pub fn of(bytes: &[u8]) -> [u8; 16] {
        xxh3_128(bytes).to_le_bytes()
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
