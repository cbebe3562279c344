// SPDX-License-Identifier: GPL-2.0-only

//! The tables of C functions that serve the inodes of a filesystem, one type for each kind. [`crate::vfs::node`] makes
//! them, and an inode gets them when it is initialised ([`crate::vfs::object::new_inode`]).

use crate::vfs::bindings;
use core::marker::PhantomData;

/// Those of regular files of `T`.
pub(crate) struct Regular<T> {
    pub(in crate::vfs) inode: &'static bindings::inode_operations,
    pub(in crate::vfs) file: &'static bindings::file_operations,
    pub(in crate::vfs) mapping: &'static bindings::address_space_operations,
    pub(in crate::vfs) _p: PhantomData<T>,
}

/// Those of directories of `T`.
pub(crate) struct Directory<T> {
    pub(in crate::vfs) inode: &'static bindings::inode_operations,
    pub(in crate::vfs) file: &'static bindings::file_operations,
    /// Those of the page cache, if the entries are in one.
    pub(in crate::vfs) mapping: Option<&'static bindings::address_space_operations>,
    pub(in crate::vfs) _p: PhantomData<T>,
}

/// Those of symbolic links of `T`.
pub(crate) struct Symlink<T> {
    pub(in crate::vfs) inode: &'static bindings::inode_operations,
    pub(in crate::vfs) _p: PhantomData<T>,
}

/// Those of symbolic links of `T` whose targets are in their page cache.
pub(crate) struct CachedSymlink<T> {
    pub(in crate::vfs) inode: &'static bindings::inode_operations,
    pub(in crate::vfs) mapping: &'static bindings::address_space_operations,
    pub(in crate::vfs) _p: PhantomData<T>,
}

/// Those of devices, fifos and sockets of `T`.
pub(crate) struct Special<T> {
    pub(in crate::vfs) inode: &'static bindings::inode_operations,
    pub(in crate::vfs) _p: PhantomData<T>,
}

/// Those of page caches of `T` that nobody opens.
pub(in crate::vfs) struct Cache<T> {
    pub(in crate::vfs) mapping: &'static bindings::address_space_operations,
    pub(in crate::vfs) _p: PhantomData<T>,
}
