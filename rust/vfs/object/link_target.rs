// SPDX-License-Identifier: GPL-2.0-only

//! The target of a symbolic link, as an inode keeps it (`i_link`). A filesystem makes it; the inode frees it.

use crate::vfs::bindings;
use crate::vfs::errno::ENAMETOOLONG;
use crate::vfs::errno::EUCLEAN;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use kernel::ffi::c_char;
use kernel::prelude::*;

/// The target of a symbolic link, ended by a NUL, in memory that an inode can own.
///
/// # Invariants
///
/// `target` was allocated by `kmalloc`, and holds `len` bytes and a NUL.
pub(crate) struct LinkTarget {
    target: NonNull<c_char>,
    len: i32,
}

impl LinkTarget {
    /// Copies a target. It must not be empty, and hold no NUL.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` for a target that is no target, `ENOMEM`.
    pub(crate) fn new(target: &[u8]) -> Result<Self> {
        if target.is_empty() || target.contains(&0) {
            return Err(EUCLEAN);
        }
        let len = i32::try_from(target.len()).map_err(|_| ENAMETOOLONG)?;
        // SAFETY: The slice is valid for its length.
        let copy =
            unsafe { bindings::vfs_helper_kmemdup_nul(target.as_ptr().cast(), target.len()) };
        // INVARIANT: That is what `kmemdup_nul` returns.
        Ok(Self {
            target: NonNull::new(copy).ok_or(ENOMEM)?,
            len,
        })
    }
}

impl LinkTarget {
    /// Gives the target, and its length in bytes, to who frees it with `kfree`.
    pub(in crate::vfs) fn into_raw(self) -> (*mut c_char, i32) {
        let this = ManuallyDrop::new(self);
        (this.target.as_ptr(), this.len)
    }
}

impl Drop for LinkTarget {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, and not freed before.
        unsafe { bindings::kfree(self.target.as_ptr().cast()) };
    }
}
