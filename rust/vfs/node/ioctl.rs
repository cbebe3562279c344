// SPDX-License-Identifier: GPL-2.0-only

//! ioctl(2) on files and directories, as far as the VFS does not answer it: the filesystem's label.
//!
//! Called through the tables in [`crate::vfs::node::file`] and [`crate::vfs::node::dir`].

use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use kernel::error::from_result;
use kernel::ffi::c_long;
use kernel::ffi::c_ulong;
use kernel::prelude::*;
use kernel::uaccess::UserPtr;
use kernel::uaccess::UserSlice;

/// A filesystem that may have a label.
pub(crate) trait Label: FileSystem {
    /// The label of the superblock that an inode is of; empty if it has none.
    fn label(inode: &Inode<Self>) -> &[u8];
}

/// What the label's ioctl has room for, with a NUL.
const LABEL_MAX: usize = 256;

/// # Safety
///
/// Called by the VFS, for an open file of `T`.
pub(in crate::vfs) unsafe extern "C" fn ioctl<T: Label>(
    file: *mut bindings::file,
    command: u32,
    argument: c_ulong,
) -> c_long {
    // SAFETY: The file is open, and its inode stays while it is.
    let inode = unsafe { Inode::<T>::from_raw((*file).f_inode) };
    from_result(|| match command {
        bindings::VFS_CONST_FS_IOC_GETFSLABEL => {
            let label = T::label(inode);
            let label = label.get(..LABEL_MAX - 1).unwrap_or(label);
            let mut writer = UserSlice::new(UserPtr::from_addr(argument), LABEL_MAX).writer();
            writer.write_slice(label)?;
            writer.write_slice(&[0])?;
            Ok(0)
        }
        _ => Err(ENOTTY),
    })
}
