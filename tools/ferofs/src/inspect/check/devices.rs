// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The size of the image, and its device table: slots against each other and against the files that
//! are given for them.

use super::Checker;
use super::regions::Region;
use super::regions::Use;
use crate::image;
use erofs_format::DeviceSlot;
use erofs_format::Metadata;
use erofs_format::ondisk;
use erofs_format::ondisk::compat;
use std::io;

impl Checker<'_> {
    /// Whether Nydus wrote the image, whose superblock counts the blocks of the blobs, and other inodes.
    pub(super) fn is_nydus(&self) -> bool {
        self.image.superblock().compat() & compat::RAFS_V6 != 0
    }

    pub(super) fn image_size(&mut self) {
        let superblock = self.image.superblock();
        self.regions.set_block(superblock.block_size().into());
        let stated = self.stated();
        let found = self.image.file().size();
        if stated > found && !self.is_nydus() {
            let what = format!("the superblock counts {stated} bytes, the image has {found}");
            self.problem(None, ondisk::SUPER_OFFSET, what);
        }
        let mut region = |start: u64, size: u64, usage| {
            let end = start.saturating_add(size);
            self.regions.push(Region {
                start,
                end,
                usage,
                nid: 0,
            });
        };
        let size = u64::from(superblock.size());
        region(ondisk::SUPER_OFFSET, size, Use::Superblock);
        let slots = u64::from(superblock.device_count()) * ondisk::DEVICE_SLOT_SIZE;
        region(superblock.device_table_pos(), slots, Use::DeviceTable);
    }

    pub(super) fn device_table(&mut self) -> io::Result<()> {
        let superblock = self.image.superblock();
        let block = u64::from(superblock.block_size());
        let mut slots: Vec<(u16, DeviceSlot)> = Vec::new();
        for index in 0..superblock.device_count() {
            let at = self.slot_position(index);
            let size = match superblock.device(self.image.file(), index) {
                Ok(slot) => {
                    slots.push((index, slot));
                    slot.blocks.saturating_mul(block)
                }
                Err(error) => {
                    self.failed(None, at, error)?;
                    u64::MAX
                }
            };
            let slot = self.image.read(at, ondisk::DEVICE_SLOT_SIZE as usize)?;
            let is_known = |reserved: &[u8; 52]| {
                *reserved == [0; 52] || image::header_digest(reserved).is_some()
            };
            if !slot.last_chunk().is_none_or(is_known) {
                let what = format!("reserved bytes of device slot {} are not zero", index + 1);
                self.warning(None, at, what);
            }
            let Some(found) = self.sizes.get(usize::from(index)).copied() else {
                self.devices.push(size);
                continue;
            };
            if size != u64::MAX && size > found.next_multiple_of(block) {
                let number = index + 1;
                let what = format!("device {number} has {found} bytes, its slot says {size}");
                self.problem(None, at, what);
            }
            self.devices.push(found.min(size));
        }
        self.flat_addresses(slots);
        Ok(())
    }

    fn slot_position(&self, index: u16) -> u64 {
        let table = self.image.superblock().device_table_pos();
        table.saturating_add(u64::from(index) * ondisk::DEVICE_SLOT_SIZE)
    }

    /// Devices in one file with the image must not overlap there.
    fn flat_addresses(&mut self, mut slots: Vec<(u16, DeviceSlot)>) {
        slots.retain(|(_, slot)| slot.uniaddr != 0 && slot.blocks != 0);
        slots.sort_by_key(|(_, slot)| slot.uniaddr);
        let own = self.image.superblock().blocks();
        if let Some((index, slot)) = slots.first() {
            if slot.uniaddr < own && !self.is_nydus() {
                let number = index + 1;
                let what = format!("device {number} overlaps the image in flat addresses");
                self.problem(None, self.slot_position(*index), what);
            }
        }
        for pair in slots.windows(2) {
            let [(first, before), (second, after)] = pair else {
                continue;
            };
            if before.uniaddr.saturating_add(before.blocks) > after.uniaddr {
                let (first, second) = (first + 1, second + 1);
                let what = format!("devices {first} and {second} overlap in flat addresses");
                self.problem(None, self.slot_position(second - 1), what);
            }
        }
    }
}
