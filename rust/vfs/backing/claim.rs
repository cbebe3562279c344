// SPDX-License-Identifier: GPL-2.0-only

//! Claims of block devices (`bd_holder`). A mount has one for each of its backing files that is a device.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use core::ptr;
use kernel::prelude::*;

impl BackingFile {
    /// Claims a block device, as mounting it does. There is nothing to claim of any other file.
    ///
    /// # Errors
    ///
    /// `EBUSY` if someone else has claimed it, or a device that it is a part of, or may be writing to it where writing
    /// to what is mounted is not allowed; and those of opening it.
    pub(crate) fn claim(&self) -> Result<Option<Claim>> {
        if !self.is_block_device() {
            return Ok(None);
        }
        // SAFETY: The inode is that of a block device, and lives as long as the file is referenced. The static has an
        // address of its own, which is all that it is for.
        let file = crate::vfs::from_err_ptr(unsafe {
            bindings::vfs_helper_claim_device(self.inode(), (&raw const CLAIMANT).cast_mut().cast())
        })?;
        // INVARIANT: Opened just now.
        // SAFETY: A valid pointer is not null.
        Ok(Some(Claim(unsafe { ptr::NonNull::new_unchecked(file) })))
    }
}

/// A block device that no one else may claim while this lives: to mount it, to write to it with `O_EXCL`, or to make it
/// part of another device. Claims of this module do not exclude each other.
///
/// # Invariants
///
/// The file is that of a device which was opened for [`CLAIMANT`].
pub(crate) struct Claim(ptr::NonNull<bindings::file>);

/// Whose claims these are, by its address.
static CLAIMANT: u8 = 0;

// SAFETY: A file may be put from any thread.
unsafe impl Send for Claim {}
// SAFETY: There is nothing to do with a reference.
unsafe impl Sync for Claim {}

impl Drop for Claim {
    fn drop(&mut self) {
        // Others may claim the device as soon as this returns, though the file is put later.
        // SAFETY: By the type invariants; the reference is given up.
        unsafe { bindings::vfs_helper_release_device(self.0.as_ptr()) };
    }
}
