// SPDX-License-Identifier: GPL-2.0-only

//! `fserror_report()`: tells those who watch a filesystem (FAN_FS_ERROR of fanotify) that it has met an error.
//!
//! A filesystem reports what is wrong with its metadata ([`SuperBlock::metadata_failed`]); that data could not be read
//! is reported by [`crate::vfs::node::file`].

use crate::vfs::bindings;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::super_block::SuperBlock;
use core::ops::Range;
use core::ptr;
use kernel::prelude::*;

/// What data could not be read for.
#[derive(Clone, Copy)]
pub(in crate::vfs) enum Access {
    /// A read, or a fault in a mapping.
    Cached,
    /// A read with `O_DIRECT`.
    Direct,
}

impl<T: FileSystem> SuperBlock<T> {
    /// Reports that metadata cannot be read or is wrong: that of an inode, or if there is none yet of the whole
    /// filesystem. Before the mount is complete there is nobody to report to.
    #[cold]
    pub(crate) fn metadata_failed(&self, inode: Option<&Inode<T>>, error: Error) {
        // SAFETY: The superblock is valid. Its flags may change at any time.
        let flags = unsafe { (&raw const (*self.as_ptr()).s_flags).read_volatile() };
        if flags & bindings::VFS_CONST_SB_ACTIVE != 0 {
            let inode = inode.map_or(ptr::null_mut(), Inode::as_ptr);
            // SAFETY: Both are valid, and the inode is the superblock's. The type is one of metadata.
            unsafe {
                report(
                    self.as_ptr(),
                    inode,
                    bindings::fserror_type_FSERR_METADATA,
                    0..0,
                    error,
                );
            }
        }
    }
}

/// Reports that `len` bytes at `pos` of a file could not be read, if the error says so: not that the caller's memory
/// is bad, say, or that a signal came.
#[cold]
pub(in crate::vfs) fn read_failed<T: FileSystem>(
    inode: &Inode<T>,
    access: Access,
    pos: u64,
    len: u64,
    error: Error,
) {
    // What devices, and filesystems that find damage, return: `blk_status_to_errno()` has most of them.
    let errno = error.to_errno().unsigned_abs();
    let of_data = error == EUCLEAN
        || matches!(
            errno,
            bindings::EIO
                | bindings::ENODEV
                | bindings::ENODATA
                | bindings::ENOLINK
                | bindings::EBADMSG
                | bindings::EILSEQ
                | bindings::ETIMEDOUT
                | bindings::ESTALE
                | bindings::EREMOTEIO
        );
    if !of_data {
        return;
    }
    let kind = match access {
        Access::Cached => bindings::fserror_type_FSERR_BUFFERED_READ,
        Access::Direct => bindings::fserror_type_FSERR_DIRECTIO_READ,
    };
    // SAFETY: The inode is in use, and on its superblock.
    unsafe {
        let sb = (*inode.as_ptr()).i_sb;
        report(
            sb,
            inode.as_ptr(),
            kind,
            pos..pos.saturating_add(len),
            error,
        );
    }
}

/// Calls `fserror_report()`. Waits for memory, for which no filesystem is entered.
///
/// # Safety
///
/// `sb` must be valid, and `inode` one of its inodes, or null where only the metadata is meant.
unsafe fn report(
    sb: *mut bindings::super_block,
    inode: *mut bindings::inode,
    kind: bindings::fserror_type,
    bytes: Range<u64>,
    error: Error,
) {
    let pos = i64::try_from(bytes.start).unwrap_or(i64::MAX);
    let len = bytes.end.saturating_sub(bytes.start);
    // SAFETY: By the safety requirements; an `Error` is a negative errno.
    unsafe {
        bindings::fserror_report(
            sb,
            inode,
            kind,
            pos,
            len,
            error.to_errno(),
            bindings::VFS_CONST_GFP_NOFS,
        );
    }
}
