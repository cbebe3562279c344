// SPDX-License-Identifier: GPL-2.0-only

//! `struct inode_operations` of what is neither a regular file nor a directory: symbolic links, devices, fifos, sockets.

use crate::vfs::bindings;
use crate::vfs::node::getattr::getattr;
use crate::vfs::node::xattr;
use crate::vfs::node::xattr::Xattrs;
use crate::vfs::object::operations;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// The operations of symbolic links of `T`.
pub(crate) const fn symlink<T: Xattrs>() -> operations::Symlink<T> {
    operations::Symlink {
        inode: Table::<T>::SYMLINK,
        _p: PhantomData,
    }
}

/// The operations of devices, fifos and sockets of `T`.
pub(crate) const fn special<T: Xattrs>() -> operations::Special<T> {
    operations::Special {
        inode: Table::<T>::SPECIAL,
        _p: PhantomData,
    }
}

struct Table<T: Xattrs>(PhantomData<T>);

impl<T: Xattrs> Table<T> {
    const SPECIAL: &'static bindings::inode_operations = &bindings::inode_operations {
        getattr: Some(getattr),
        listxattr: Some(xattr::Table::<T>::listxattr),
        get_inode_acl: Some(xattr::Table::<T>::get_inode_acl),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    const SYMLINK: &'static bindings::inode_operations = &bindings::inode_operations {
        get_link: Some(bindings::simple_get_link),
        getattr: Some(getattr),
        listxattr: Some(xattr::Table::<T>::listxattr),
        // SAFETY: As above.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };
}
