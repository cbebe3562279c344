// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The superblock of an image that may be wrong: every mistake in it, and the image as it would be
//! without those mistakes that need not keep anybody from looking further. Called before the rest of
//! the check.

use super::Problem;
use crate::error::Error;
use crate::error::Result;
use crate::inspect::Image;
use crate::inspect::no_image;
use crate::read_at::ReadAt;
use erofs_format::ondisk;
use erofs_format::ondisk::compat;
use erofs_format::ondisk::incompat;
use erofs_format::superblock_checksum;
use erofs_format::superblock_checksum_size;
use std::io;
use std::path::Path;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

/// An image, opened in spite of a wrong superblock if that is possible.
pub struct Opened {
    /// The image, or what makes it unreadable.
    pub image: Result<Image>,
    /// What is wrong with its superblock.
    pub problems: Vec<Problem>,
    /// What is strange in its superblock.
    pub warnings: Vec<Problem>,
}

/// Largest end of the superblock with its extensions that every kernel takes.
const END_MAX: u64 = 4096;

/// Opens an image whose superblock may be wrong.
///
/// # Errors
///
/// When it cannot be read, or there is no superblock at all.
pub fn open(path: &Path, bytes: Box<dyn ReadAt>) -> Result<Opened> {
    let failed = || Error::io("read", path);
    let size = bytes.size().map_err(failed())?;
    let mut found = [0; size_of::<ondisk::Superblock>()];
    let length = bytes
        .read_full_at(&mut found, ondisk::SUPER_OFFSET)
        .map_err(failed())?;
    let magic = ondisk::SUPER_MAGIC.to_le_bytes();
    if length < magic.len() || !found.starts_with(&magic) {
        return Err(no_image(path, &bytes).map_err(failed())?);
    }
    let mut examined = Examined::default();
    let read = ondisk::Superblock::read_from_bytes(found.get(..length).unwrap_or_default());
    // Nothing can be said of one that is cut off, nor of its block if that has no size.
    let image = match read {
        Ok(mut superblock) if has_size(&superblock) => {
            let block = read_block(&bytes, superblock.blkszbits).map_err(failed())?;
            examined.examine(&mut superblock, &block, size);
            if !examined.problems.is_empty() {
                let start = superblock.as_bytes();
                let behind = block.get(start.len()..).unwrap_or_default();
                let sum = superblock_checksum(&[start, behind].concat());
                superblock.checksum = sum.into();
            }
            let superblock = superblock.as_bytes().to_vec();
            Image::new(path, Box::new(Repaired { bytes, superblock }))
        }
        _ => Image::new(path, bytes),
    };
    Ok(Opened {
        image,
        problems: examined.problems,
        warnings: examined.warnings,
    })
}

fn has_size(superblock: &ondisk::Superblock) -> bool {
    (ondisk::BLOCK_BITS_MIN..=ondisk::BLOCK_BITS_MAX).contains(&superblock.blkszbits)
}

/// What the checksum is for, as far as it is there.
fn read_block(bytes: &dyn ReadAt, block_bits: u8) -> io::Result<Vec<u8>> {
    let mut block = vec![0; superblock_checksum_size(block_bits) as usize];
    let length = bytes.read_full_at(&mut block, ondisk::SUPER_OFFSET)?;
    block.truncate(length);
    Ok(block)
}

/// What was found so far.
#[derive(Default)]
struct Examined {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

fn problem(at: u64, what: String) -> Problem {
    Problem {
        path: None,
        at: ondisk::SUPER_OFFSET + at,
        what,
    }
}

impl Examined {
    fn wrong(&mut self, at: u64, what: String) {
        self.problems.push(problem(at, what));
    }

    /// Looks at every field, and changes those that are wrong to what allows to go on.
    fn examine(&mut self, superblock: &mut ondisk::Superblock, block: &[u8], size: u64) {
        if superblock.feature_compat.get() & compat::SB_CHKSUM != 0 {
            let stored = superblock.checksum.get();
            let sum = superblock_checksum(block);
            if (block.len() as u64) < superblock_checksum_size(superblock.blkszbits) {
                let what = "the superblock's block is cut off by the end of the image";
                self.wrong(0, what.to_string());
                // There is nothing that a checksum could be for.
                let bits = superblock.feature_compat.get() & !compat::SB_CHKSUM;
                superblock.feature_compat = bits.into();
            } else if sum != stored {
                let what = format!("the superblock's checksum is {stored:08x}, expected {sum:08x}");
                self.wrong(4, what);
            }
        }
        let slots = u64::from(superblock.sb_extslots);
        let end = ondisk::SUPER_OFFSET
            + size_of::<ondisk::Superblock>() as u64
            + slots * ondisk::SUPER_EXTSLOT_SIZE;
        if end > END_MAX || end > size {
            let what =
                format!("the superblock has {slots} extension slots, so that it ends at {end}");
            self.wrong(13, what);
            superblock.sb_extslots = 0;
        }
        let nanoseconds = superblock.fixed_nsec.get();
        if nanoseconds >= 1_000_000_000 {
            let what = format!("the superblock's nanoseconds are {nanoseconds}, a second or more");
            self.wrong(32, what);
            superblock.fixed_nsec = 0.into();
        }
        let devices = u64::from(superblock.extra_devices.get());
        if superblock.feature_incompat.get() & incompat::DEVICE_TABLE != 0 && devices > 0 {
            let start = u64::from(superblock.devt_slotoff.get()) * ondisk::DEVICE_SLOT_SIZE;
            let fit = size.saturating_sub(start) / ondisk::DEVICE_SLOT_SIZE;
            if fit < devices {
                let end = start + devices * ondisk::DEVICE_SLOT_SIZE;
                let what = format!(
                    "the device table is at {start} to {end}, but the image has {size} bytes"
                );
                self.wrong(86, what);
                // Less than the number of devices, which had 16 bits.
                superblock.extra_devices = (fit as u16).into();
            }
        }
        let sharing = superblock.feature_compat.get() & compat::ISHARE_XATTRS != 0;
        let (id, count) = (
            superblock.ishare_xattr_prefix_id,
            superblock.xattr_prefix_count,
        );
        if sharing && id >= count {
            let what = format!("files are shared by attribute prefix {id}, but there are {count}");
            self.wrong(105, what);
            let bits = superblock.feature_compat.get() & !compat::ISHARE_XATTRS;
            superblock.feature_compat = bits.into();
        }
        if superblock.reserved != [0; 2] || superblock.reserved2.get() != 0 {
            let what = "reserved bytes of the superblock are not zero".to_string();
            self.warnings.push(problem(0, what));
        }
    }
}

/// An image with another superblock.
struct Repaired<R> {
    bytes: R,
    superblock: Vec<u8>,
}

impl<R: ReadAt> ReadAt for Repaired<R> {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let length = self.bytes.read_at(buf, pos)?;
        for (index, byte) in self.superblock.iter().enumerate() {
            let at = (ondisk::SUPER_OFFSET + index as u64).checked_sub(pos);
            let at = at.and_then(|at| usize::try_from(at).ok());
            let place = at.filter(|at| *at < length).and_then(|at| buf.get_mut(at));
            if let Some(place) = place {
                *place = *byte;
            }
        }
        Ok(length)
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.bytes.identity()
    }

    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }
}
