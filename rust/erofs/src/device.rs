// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The device table: what the superblock says of the blobs that hold file data. Read at mount, to
//! find and open them.

use super::error::{Error, Result};
use super::metadata::{Cursor, Metadata};
use super::ondisk;
use super::superblock::{until_nul, Superblock, POSITION_MAX};

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

impl DeviceSlot {
    /// The tag without its padding.
    pub fn name(&self) -> &[u8] {
        until_nul(&self.tag)
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
