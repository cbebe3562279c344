// SPDX-License-Identifier: GPL-2.0-only

//! `verity=`: what fs-verity has to say of the files of a mount. The image is looked at before anything of it is read
//! ([`crate::volume`]), the blobs are given to the slots whose tags have their digests ([`crate::devices`]).
//!
//! An image whose fs-verity digest is known, and whose slots say those of its blobs, stands for every byte below the
//! mount: what is read is compared by the filesystems of the files, each time it is read from the disk.

use crate::erofs::DeviceSlot;
use crate::erofs::VerityTag;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::verity::Algorithm;
use crate::vfs::backing::verity::VerityDigest;
use crate::vfs::errno::EKEYREJECTED;
use crate::vfs::errno::ENODATA;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::mount::context::Context;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CStr;

/// What was asked for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Verity {
    /// All files have fs-verity, and the blobs the digests that the image says, if it does.
    Required,
    /// The image has this digest, and says those of all blobs.
    Image(VerityDigest),
}

impl Verity {
    /// What the option's value says. None if it is none.
    pub(crate) fn parse(value: &CStr) -> Option<Self> {
        // With its NUL, which is not counted off: see `options::foreign`.
        let value = value.to_bytes_with_nul().strip_suffix(b"\0")?;
        if value == b"require" {
            return Some(Self::Required);
        }
        let (algorithm, digits) = Algorithm::ALL
            .into_iter()
            .find_map(|algorithm| {
                let rest = value.strip_prefix(algorithm.name().as_bytes())?;
                Some((algorithm, rest.strip_prefix(b":")?))
            })
            .unwrap_or((Algorithm::Sha256, value));
        let mut bytes = [0; 64];
        let pairs = digits.chunks_exact(2);
        if !pairs.remainder().is_empty() || digits.len() > 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let [high, low] = *pair else {
                return None;
            };
            *byte = (digit(high)? << 4) | digit(low)?;
        }
        let bytes = bytes.get(..digits.len() / 2)?;
        VerityDigest::new(algorithm, bytes).map(Self::Image)
    }

    /// Checks the image's file, before anything of it is read.
    ///
    /// # Errors
    ///
    /// `EKEYREJECTED` for another digest than the one that is asked for, and those of [`digest_of`].
    pub(crate) fn check_image(
        self,
        context: &Context<'_>,
        name: &CStr,
        file: &BackingFile,
    ) -> Result {
        let found = digest_of(context, name, file)?;
        match self {
            Self::Image(wanted) if wanted != found => {
                context.error(fmt!(
                    "{}: its fs-verity digest is {}, and verity= wants {}",
                    name,
                    found,
                    wanted
                ));
                Err(EKEYREJECTED)
            }
            Self::Image(_) | Self::Required => Ok(()),
        }
    }

    /// The digest that the blob of a slot has to have; none if any will do. `name` is the image's, and slots are counted
    /// from 1.
    ///
    /// # Errors
    ///
    /// `ENODATA` if the image has to say it and does not, `EOPNOTSUPP` if the slot's tag cannot be understood.
    #[inline(never)]
    pub(crate) fn wanted(
        self,
        context: &Context<'_>,
        name: &CStr,
        slot: &DeviceSlot,
        number: u32,
    ) -> Result<Option<VerityDigest>> {
        match (self, slot.verity()) {
            (_, Some(VerityTag::Sha256(bytes))) => Ok(VerityDigest::new(Algorithm::Sha256, &bytes)),
            (_, Some(VerityTag::Unknown)) => {
                context.error(fmt!(
                    "{}: the tag of device {} is an fs-verity digest of a kind that is not supported",
                    name,
                    number,
                ));
                Err(EOPNOTSUPP)
            }
            (Self::Required, None) => Ok(None),
            (Self::Image(_), None) => {
                context.error(fmt!(
                    "{}: the image does not say the fs-verity digest of device {}, so its own says nothing of that: \
                     build it with --verity",
                    name,
                    number,
                ));
                Err(ENODATA)
            }
        }
    }
}

impl fmt::Display for Verity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => f.write_str("require"),
            Self::Image(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

/// The fs-verity digest of a file, which has to have one.
///
/// # Errors
///
/// `ENODATA` if it has none, `EOPNOTSUPP` if it is of a kind that is not known, or if the kernel was built without
/// fs-verity.
#[inline(never)]
pub(crate) fn digest_of(
    context: &Context<'_>,
    name: &CStr,
    file: &BackingFile,
) -> Result<VerityDigest> {
    match file.verity_digest() {
        Ok(Some(digest)) => Ok(digest),
        Ok(None) if file.is_block_device() => {
            context.error(fmt!(
                "{}: a block device has no fs-verity, which verity= wants; whether there is dm-verity below cannot be seen \
                 from here",
                name,
            ));
            Err(ENODATA)
        }
        Ok(None) => {
            context.error(fmt!("{}: has no fs-verity, which verity= wants", name));
            Err(ENODATA)
        }
        Err(error) => {
            context.error(fmt!(
                "{}: its fs-verity digest cannot be had: this kernel was built without fs-verity (CONFIG_FS_VERITY), or the \
                 digest is of a kind that is not supported",
                name,
            ));
            Err(error)
        }
    }
}

/// What a hexadecimal digit stands for.
fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(letter.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(letter.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}
