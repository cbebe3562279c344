// SPDX-License-Identifier: GPL-2.0-only

//! stat(2), for all kinds of inodes.

use crate::vfs::bindings;

/// Tells an inode's attributes: nothing on a read-only filesystem can be changed.
///
/// # Safety
///
/// Called by the VFS, with what it passes to `getattr`.
pub(in crate::vfs) unsafe extern "C" fn getattr(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request_mask: u32,
    _query_flags: u32,
) -> core::ffi::c_int {
    // SAFETY: By the safety requirements.
    unsafe {
        let inode = (*(*path).dentry).d_inode;
        (*stat).attributes |= u64::from(bindings::STATX_ATTR_IMMUTABLE);
        // Whether data is compressed is known of all.
        (*stat).attributes_mask |=
            u64::from(bindings::STATX_ATTR_IMMUTABLE | bindings::STATX_ATTR_COMPRESSED);
        bindings::generic_fillattr(idmap, request_mask, inode, stat);
    }
    0
}

/// What stat(2) tells of compressed data.
///
/// # Safety
///
/// Called by the VFS, with what it passes to `getattr`.
pub(in crate::vfs) unsafe extern "C" fn compressed_getattr(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request_mask: u32,
    query_flags: u32,
) -> core::ffi::c_int {
    // SAFETY: By the safety requirements.
    unsafe {
        (*stat).attributes |= u64::from(bindings::STATX_ATTR_COMPRESSED);
        getattr(idmap, path, stat, request_mask, query_flags)
    }
}
