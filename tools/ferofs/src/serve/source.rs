// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where layers are stored: in a registry, in an image on disk, or wherever else somebody has a [`Source`] for.

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::oci::Blob;
use crate::oci::remote::Remote;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What has a layer as it is stored. Several threads ask it at once.
pub trait Source: Send + Sync {
    /// Part of it. Whether these are the right bytes is found out by whoever asks.
    ///
    /// # Errors
    ///
    /// When it cannot be had now. It may be asked again later.
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// What to call it in messages.
    fn shown(&self) -> String;

    /// Told that what it gave turned out wrong. If there is somebody else who may have it, he is asked from now on.
    fn doubt(&self) {}
}

/// A layer of an image in a registry.
pub struct InRegistry {
    /// The image.
    pub image: Arc<Remote>,
    /// The sha256 of the layer as it is stored.
    pub digest: Digest,
}

impl Source for InRegistry {
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let found = self.image.range(self.digest, range);
        found.map_err(|error| io::Error::new(kind_of(&error), error))
    }

    fn shown(&self) -> String {
        format!("sha256:{} of {}", self.digest, self.image.name)
    }

    fn doubt(&self) {
        self.image.doubt();
    }
}

/// The nearest there is to what a registry says.
fn kind_of(error: &Error) -> io::ErrorKind {
    match error.kind() {
        Kind::NotFound => io::ErrorKind::NotFound,
        Kind::Registry => io::ErrorKind::NotConnected,
        _ => io::ErrorKind::Other,
    }
}

/// A layer of an image on disk.
pub struct OnDisk(pub Blob);

impl Source for OnDisk {
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.0.range(range)
    }

    fn shown(&self) -> String {
        self.0.shown().display().to_string()
    }
}
