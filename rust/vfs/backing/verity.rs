// SPDX-License-Identifier: GPL-2.0-only

//! fs-verity digests of backing files: a number for all that can ever be read from a file, which its filesystem compares
//! with what the disk has at each read. Called at a mount, by filesystems that want to know what they are mounted from.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use kernel::fmt;
use kernel::prelude::*;

/// The longest digest there is, in bytes.
const LONGEST: usize = 64;

/// What a digest is computed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// All there are.
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// What it is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many bytes its digests have.
    const fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => LONGEST,
        }
    }

    const fn number(self) -> u8 {
        let number = match self {
            Self::Sha256 => bindings::FS_VERITY_HASH_ALG_SHA256,
            Self::Sha512 => bindings::FS_VERITY_HASH_ALG_SHA512,
        };
        number as u8
    }
}

/// An fs-verity digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct VerityDigest {
    algorithm: Algorithm,
    /// Behind those of the algorithm they are zero.
    bytes: [u8; LONGEST],
}

impl VerityDigest {
    /// A digest whose bytes are known. None if it would have another number of them.
    pub(crate) fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let mut this = Self {
            algorithm,
            bytes: [0; LONGEST],
        };
        if bytes.len() != algorithm.len() {
            return None;
        }
        this.bytes
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        Some(this)
    }
}

impl fmt::Display for VerityDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        f.write_str(":")?;
        for byte in self.bytes.iter().take(self.algorithm.len()) {
            core::write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl BackingFile {
    /// The file's fs-verity digest; none if it has none. What has one stays as it is for ever. A file on a stacked
    /// filesystem has none, whatever the file below has: another one could be below it later.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the kernel was built without fs-verity, and if the digest is of a kind that is not known here.
    pub(crate) fn verity_digest(&self) -> Result<Option<VerityDigest>> {
        let mut bytes = [0; LONGEST];
        let mut number = 0;
        // SAFETY: The inode lives as long as the file is referenced; the file is open, so what is known of its fs-verity
        // was read. There is room for the digest.
        let len = unsafe {
            bindings::vfs_helper_verity_digest(self.inode(), bytes.as_mut_ptr(), &mut number)
        };
        kernel::error::to_result(len)?;
        if len == 0 {
            return Ok(None);
        }
        Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.number() == number)
            .map(|algorithm| Some(VerityDigest { algorithm, bytes }))
            .ok_or(crate::vfs::errno::EOPNOTSUPP)
    }
}
