// SPDX-License-Identifier: GPL-2.0-only

//! `struct vm_operations_struct`: areas of memory that regular files are mapped to. Set by [`crate::vfs::node::file`] and
//! [`crate::vfs::node::decoded`].

use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::fserror;
use crate::vfs::object::fserror::Access;
use crate::vfs::object::inode::Inode;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// Areas of files of `T`.
pub(in crate::vfs) struct Area<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Area<T> {
    /// The `struct vm_operations_struct` of areas: those of any file in the page cache, but that errors are reported.
    pub(in crate::vfs) const TABLE: &'static bindings::vm_operations_struct =
        &bindings::vm_operations_struct {
            fault: Some(Self::fault),
            map_pages: Some(bindings::filemap_map_pages),
            // SAFETY: All members are optional function pointers, for which zero means none.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        };

    /// # Safety
    ///
    /// Called by the memory management, for a fault in an area of a file of `T`.
    unsafe extern "C" fn fault(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: That is what the memory management passes.
        let result = unsafe { bindings::filemap_fault(fault) };
        if result & bindings::vm_fault_reason_VM_FAULT_SIGBUS != 0 {
            // SAFETY: The area stays until the fault is handled, unless it is to be handled again; its file is one of
            // an inode of `T`, which stays while the file is open.
            unsafe { Self::report_fault(fault) };
        }
        result
    }

    /// Reports that a page could not be read, unless it lies behind the end of the file.
    ///
    /// # Safety
    ///
    /// `fault` must be a fault in an area of a file of `T`, and the area be locked.
    #[cold]
    unsafe fn report_fault(fault: *mut bindings::vm_fault) {
        // SAFETY: By the safety requirements.
        let (inode, page) = unsafe {
            let place = &(*fault).__bindgen_anon_1;
            let inode = Inode::<T>::from_raw((*(*place.vma).vm_file).f_inode);
            (inode, place.pgoff)
        };
        let pos = (page as u64) << PAGE_SHIFT;
        if pos < inode.size() {
            fserror::read_failed(inode, Access::Cached, pos, PAGE_SIZE as u64, EIO);
        }
    }
}
