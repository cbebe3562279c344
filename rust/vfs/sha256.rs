// SPDX-License-Identifier: GPL-2.0-only

//! `struct sha256_ctx`: the kernel's sha256. Called by [`crate::vfs::pages::content`], and by filesystems.

use crate::vfs::bindings;

/// A sha256.
pub(crate) type Digest = [u8; 32];

/// A sha256 that is being made.
pub(crate) struct Sha256(bindings::sha256_ctx);

impl Sha256 {
    /// That of nothing so far.
    pub(crate) fn new() -> Self {
        let mut context = bindings::sha256_ctx::default();
        // SAFETY: The context is to be filled in.
        unsafe { bindings::sha256_init(&mut context) };
        Self(context)
    }

    /// Goes on with these bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        // SAFETY: The context was initialised, and there are as many bytes.
        unsafe { bindings::__sha256_update(&mut self.0.ctx, bytes.as_ptr(), bytes.len()) };
    }

    /// The sha256 of all of them.
    pub(crate) fn finish(mut self) -> Digest {
        let mut digest = Digest::default();
        // SAFETY: The context was initialised, and the digest has 32 bytes.
        unsafe { bindings::sha256_final(&mut self.0, digest.as_mut_ptr()) };
        digest
    }
}
