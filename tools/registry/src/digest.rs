// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The sha256 of a manifest or a blob, which is what registries know it by.

use data_encoding::HEXLOWER;
use sha2::Digest as _;
use sha2::Sha256;
use std::fmt;

/// A sha256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest written as "sha256:" and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?;
        let digest = HEXLOWER.decode(digits.as_bytes()).ok()?;
        Some(Digest(digest.try_into().ok()?))
    }

    /// The digits alone.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

/// As it is written everywhere: with the algorithm.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
