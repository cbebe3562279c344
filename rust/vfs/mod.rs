// SPDX-License-Identifier: GPL-2.0-only

//! Safe types over the C VFS and page cache: what the kernel crate lacks for a read-only file
//! system, one file a C object. `fs/` is written against these types and needs no `unsafe`.
//!
//! Nothing here knows an on-disk format. A filesystem says what it is, how a mount is set up, what its inodes are, what
//! is in its directories, what attributes they have, and where the bytes of its files lie
//! ([`pages::extent`]). The rest is done here. Folders are floors, and a file uses what is on its own or a lower one:
//!
//! - [`mount`]: registration, options, and the way to a superblock.
//! - [`node`]: what the VFS asks of files, directories and other inodes, and how it is answered.
//! - [`pages`]: page caches of extents and of ranges of backing files, and what fills them.
//! - [`object`]: the VFS's objects: filesystem types, superblocks, inodes, dentries.
//! - [`backing`]: the files that a filesystem reads its own contents from.
//!
//! Types that stand for a C object carry its state in their name: a [`object::super_block::NewSuperBlock`]
//! has no data yet, an [`object::new_inode::NewInode`] fails itself when it is dropped before it was
//! initialised, and a [`object::dentry::LookupDentry`] is used up by being spliced.

mod bindings;

pub(crate) mod errno;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod kunit;
pub(crate) mod parameters;
pub(crate) mod sha256;
pub(crate) mod task;
pub(crate) mod vec;
pub(crate) mod workers;

pub(crate) mod mount {
    //! Registration, options, and the way to a superblock.
    pub(crate) mod context;
    pub(crate) mod mountable;
    pub(crate) mod parameter;
    pub(crate) mod registration;
}

pub(crate) mod node {
    //! What the VFS asks of files, directories and other inodes, and how it is answered.
    mod area;
    pub(crate) mod backed;
    pub(crate) mod decoded;
    pub(crate) mod dir;
    pub(crate) mod export;
    pub(crate) mod file;
    mod getattr;
    pub(crate) mod ioctl;
    mod layout;
    pub(crate) mod mapped;
    mod opener;
    mod read;
    pub(crate) mod special;
    pub(crate) mod xattr;
}

pub(crate) mod pages {
    //! Page caches of extents and of ranges of backing files, and what fills them.
    mod buffer;
    pub(crate) mod cluster;
    pub(crate) mod content;
    pub(in crate::vfs) mod decode;
    pub(crate) mod extent;
    pub(crate) mod folio;
    mod folio_batch;
    pub(in crate::vfs) mod keeper;
    mod later;
    mod mapped_batch;
    pub(in crate::vfs) mod page_cache;
    pub(crate) mod range;
    pub(crate) mod tails;
}

pub(crate) mod object {
    //! The VFS's objects: filesystem types, superblocks, inodes, dentries.
    pub(crate) mod dentry;
    pub(crate) mod fs_type;
    pub(in crate::vfs) mod fserror;
    pub(crate) mod inode;
    pub(crate) mod kernel_mount;
    pub(crate) mod link_target;
    pub(crate) mod new_inode;
    pub(crate) mod operations;
    pub(crate) mod super_block;
}

pub(crate) mod backing {
    //! The files that a filesystem reads its own contents from.
    mod asking;
    pub(in crate::vfs) mod cache;
    pub(crate) mod claim;
    pub(crate) mod file;
    pub(in crate::vfs) mod holes;
    pub(crate) mod listeners;
    pub(crate) mod open;
    mod read;
    pub(crate) mod reply;
    pub(in crate::vfs) mod row;
    pub(crate) mod seal;
    pub(crate) mod verity;
}

use kernel::error::{to_result, Result};
use kernel::str::CStr;

/// Turns a pointer that may be an `ERR_PTR` into a result.
fn from_err_ptr<T>(ptr: *mut T) -> Result<*mut T> {
    // SAFETY: `IS_ERR` and a cast look at the pointer's value only.
    if unsafe { bindings::vfs_helper_is_err(ptr.cast()) } {
        // The value of an error pointer is a negative errno, which fits.
        to_result(ptr as isize as core::ffi::c_int)?;
    }
    Ok(ptr)
}

/// The C string at `ptr`.
///
/// # Safety
///
/// `ptr` must be a valid C string, and stay so unchanged for `'a`.
unsafe fn c_str<'a>(ptr: *const kernel::ffi::c_char) -> &'a CStr {
    // SAFETY: By the safety requirements there are that many bytes, and a NUL behind them.
    unsafe {
        let len = bindings::strlen(ptr);
        let bytes = core::slice::from_raw_parts(ptr, len.wrapping_add(1));
        CStr::from_bytes_with_nul_unchecked(bytes)
    }
}
