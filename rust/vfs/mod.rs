// SPDX-License-Identifier: GPL-2.0-only

//! Safe types over the C VFS and page cache: what the kernel crate lacks for a read-only file
//! system, one file a C object. `fs/` is written against these types and needs no `unsafe`.
//!
//! Nothing here knows an on-disk format. A filesystem says what it is ([`fs_type`]), how a mount
//! is set up ([`context`], [`super_block`]), what its inodes are ([`inode`]), what is in its
//! directories ([`dir`], [`dentry`]), what attributes they have ([`xattr`]) and where the bytes of
//! its files lie ([`extent`]). The rest is done here: inodes are found again by handles
//! ([`export`]), reads are served from backing files ([`backing`], [`read`]), pages for mappings are
//! filled ([`backing_read`], [`backing_cache`], [`row`], [`folio_batch`], [`page_cache`]), and a
//! range of a backing file can have a page cache that all who use it share ([`range`], [`mapped`]), and that
//! stays while it has pages ([`keeper`]).
//!
//! Types that stand for a C object carry its state in their name: a [`super_block::NewSuperBlock`]
//! has no data yet, an [`inode::NewInode`] fails itself when it is dropped before it was
//! initialised, and a [`dentry::LookupDentry`] is used up by being spliced.

mod bindings;

pub(crate) mod backing;
mod backing_cache;
mod backing_read;
pub(crate) mod context;
pub(crate) mod dentry;
pub(crate) mod dir;
pub(crate) mod errno;
mod export;
pub(crate) mod extent;
pub(crate) mod file;
pub(crate) mod folio;
mod folio_batch;
pub(crate) mod fs_type;
mod fserror;
pub(crate) mod inode;
mod ioctl;
mod keeper;
pub(crate) mod kernel_mount;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod kunit;
mod layout;
pub(crate) mod mapped;
mod opener;
mod page_cache;
pub(crate) mod parameters;
pub(crate) mod range;
mod read;
mod row;
pub(crate) mod super_block;
pub(crate) mod vec;
pub(crate) mod xattr;

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
