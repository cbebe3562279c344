// SPDX-License-Identifier: GPL-2.0-only

//! `struct file_operations` of regular files: reading and mapping.

use super::bindings;
use super::extent::Extents;
use super::page_cache;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// The operations of regular files of `T`; made by [`operations`].
pub(crate) struct Operations<T> {
    pub(super) file: &'static bindings::file_operations,
    pub(super) mapping: &'static bindings::address_space_operations,
    _p: PhantomData<T>,
}

/// The operations of regular files whose extents `E` knows.
pub(crate) const fn operations<E: Extents>() -> Operations<E::FileSystem> {
    Operations {
        file: Table::<E>::FILE,
        mapping: page_cache::Operations::<E>::TABLE,
        _p: PhantomData,
    }
}

struct Table<E: Extents>(PhantomData<E>);

impl<E: Extents> Table<E> {
    const FILE: &'static bindings::file_operations = &bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read_iter: Some(bindings::generic_file_read_iter),
        mmap_prepare: Some(bindings::generic_file_readonly_mmap_prepare),
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        splice_read: Some(bindings::filemap_splice_read),
        setlease: Some(bindings::generic_setlease),
        // SAFETY: The other members may be zero: no owner, no flags, no functions.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };
}
