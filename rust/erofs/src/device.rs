// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The device table: what the superblock says of the blobs that hold file data. Read at mount, to
//! find and open them.

use super::error::{Error, Result};
use super::metadata::{Cursor, Metadata};
use super::ondisk;
use super::superblock::{until_nul, Superblock, POSITION_MAX};

/// What a tag begins with that is an fs-verity digest of any kind.
const VERITY: &[u8] = b"fsverity-";

/// One slot of the device table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSlot {
    /// Names the device, padded with NULs; zeros if it has no name.
    pub tag: [u8; 64],
    /// Size of the device, in blocks.
    pub blocks: u64,
    /// Where the device starts in the flat address space of an image that is one file with its
    /// devices behind it, in blocks. Its end there is a position that fits an `i64`, in bytes.
    pub uniaddr: u64,
}

/// A slot's tag that says which fs-verity digest the blob has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerityTag {
    /// The digest by sha256, over blocks of any size and with any salt: both are part of what it is the digest of.
    Sha256([u8; 32]),
    /// One of a kind that is not known here, or written wrong.
    Unknown,
}

impl VerityTag {
    /// What a tag begins with whose digest is one by sha256. Its 43 letters follow, in the alphabet of base64url and
    /// without padding.
    pub const SHA256: &'static [u8] = b"fsverity-sha256:";
}

impl DeviceSlot {
    /// The tag without its padding.
    pub fn name(&self) -> &[u8] {
        until_nul(&self.tag)
    }

    /// The blob's fs-verity digest, if that is what the tag is. A sha256 of the blob is something else: it has no prefix.
    pub fn verity(&self) -> Option<VerityTag> {
        let name = self.name();
        if !name.starts_with(VERITY) {
            return None;
        }
        let digest = name.strip_prefix(VerityTag::SHA256).and_then(decode);
        Some(digest.map_or(VerityTag::Unknown, VerityTag::Sha256))
    }
}

/// The 32 bytes that are written in base64url, in the one way there is.
fn decode(text: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let mut places = digest.iter_mut();
    // Bits that are no byte yet, and how many.
    let (mut bits, mut count) = (0_u32, 0_u32);
    for letter in text {
        bits = (bits << 6) | u32::from(sextet(*letter)?);
        count = count.wrapping_add(6);
        if count >= 8 {
            count = count.wrapping_sub(8);
            *places.next()? = bits.wrapping_shr(count) as u8;
            bits &= 0b11_1111;
        }
    }
    // Two bits are left of the last letter, which say nothing.
    let is_whole = places.next().is_none() && count == 2 && bits & 0b11 == 0;
    is_whole.then_some(digest)
}

/// The six bits that a letter of base64url stands for.
fn sextet(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter.wrapping_sub(b'A')),
        b'a'..=b'z' => Some(letter.wrapping_sub(b'a').wrapping_add(26)),
        b'0'..=b'9' => Some(letter.wrapping_sub(b'0').wrapping_add(52)),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

impl Superblock {
    /// Reads slot `index` of the device table, counted from 0: the device that extents call
    /// `index + 1`. There are [`Self::device_count`].
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if there is no such slot, or its addresses are out of range.
    /// - [`Error::Io`] if the metadata cannot be read.
    #[inline(never)]
    pub fn device<M: Metadata>(&self, meta: &M, index: u16) -> Result<DeviceSlot, M::Error> {
        let offset = u64::from(index).wrapping_mul(ondisk::DEVICE_SLOT_SIZE);
        let at = self.device_table_pos().wrapping_add(offset);
        if index >= self.device_count() {
            return Err(Error::corrupt("device table is too short", at));
        }
        let disk: ondisk::DeviceSlot =
            Cursor::new(meta).read_struct(at, "device slot is cut off")?;
        let mut slot = DeviceSlot {
            tag: disk.tag,
            blocks: u64::from(disk.blocks_lo.get()),
            uniaddr: u64::from(disk.uniaddr_lo.get()),
        };
        if self.has_48bit() {
            slot.blocks |= u64::from(disk.blocks_hi.get()) << 32;
            slot.uniaddr |= u64::from(disk.uniaddr_hi.get()) << 32;
        }
        // Numbers of 48 bits have a sum.
        let end = self.block_pos(slot.uniaddr.wrapping_add(slot.blocks));
        if end.is_none_or(|end| end > POSITION_MAX) {
            return Err(Error::corrupt("device slot's size is out of range", at));
        }
        Ok(slot)
    }
}
