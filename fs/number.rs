// SPDX-License-Identifier: GPL-2.0-only

//! Numbers of inodes, for stat(2) and handles: their nids, but for images with a metabox.

use crate::erofs;
use crate::erofs::Superblock;

/// The number of an inode, for stat(2) and handles. In an image with a metabox the bit that says so moves from the top to
/// bit 31, so that numbers stay small; else it is the nid.
pub(crate) fn of(format: &Superblock, nid: u64) -> u64 {
    if format.metabox_nid().is_none() {
        return nid;
    }
    let upper = nid.wrapping_shl(1) & !u64::from(u32::MAX);
    upper | (nid >> 63) << 31 | (nid & LOWER)
}

/// The nid that has a number.
pub(crate) fn nid_of(format: &Superblock, number: u64) -> u64 {
    if format.metabox_nid().is_none() {
        return number;
    }
    let upper = (number >> 1) & !LOWER & !erofs::ondisk::NID_METABOX;
    upper | (number >> 31 & 1) << 63 | (number & LOWER)
}

/// The bits of a nid that are the same in its number.
const LOWER: u64 = (1 << 31) - 1;
