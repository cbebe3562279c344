// SPDX-License-Identifier: GPL-2.0-only

//! `struct vm_operations_struct`: areas of memory that regular files are mapped to. Set by [`crate::vfs::node::file`] and
//! [`crate::vfs::node::decoded`].

use crate::vfs::backing::listeners::Listeners;
use crate::vfs::backing::listeners::Scope;
use crate::vfs::backing::reply::Wait;
use crate::vfs::bindings;
use crate::vfs::node::backed::Backed;
use crate::vfs::node::opener::Opener;
use crate::vfs::object::fserror;
use crate::vfs::object::fserror::Access;
use crate::vfs::object::inode::Inode;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// How many pages a listener is asked for at the most for a fault. It may have to bring them from far away, and a mapping of a
/// large file is often read in few places.
const AROUND_MAX: usize = (128 << 10) / PAGE_SIZE;

/// Files whose bytes listeners of fanotify may have to allow.
pub(in crate::vfs) trait Watched {
    /// The filesystem whose files these are.
    type FileSystem: Backed;

    /// Asks for what the pages that lie in a range are filled from.
    ///
    /// # Errors
    ///
    /// What listeners say, and what reading metadata returns.
    fn ask(
        inode: &Inode<Self::FileSystem>,
        range: Range<u64>,
        scope: &Scope<'_>,
        wait: Wait,
    ) -> Result;
}

/// Areas of files of `W`.
pub(in crate::vfs) struct Area<W: Watched>(PhantomData<W>);

impl<W: Watched> Area<W> {
    /// The `struct vm_operations_struct` of areas: those of any file in the page cache, but that errors are reported, and
    /// listeners asked.
    pub(in crate::vfs) const TABLE: &'static bindings::vm_operations_struct =
        &bindings::vm_operations_struct {
            fault: Some(Self::fault),
            map_pages: Some(bindings::filemap_map_pages),
            // SAFETY: All members are optional function pointers, for which zero means none.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        };

    /// # Safety
    ///
    /// Called by the memory management, for a fault in an area of a file of `W::FileSystem`.
    unsafe extern "C" fn fault(fault: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The area stays until the fault is handled, unless it is to be handled again; its file is one of
        // an inode of `W::FileSystem`, which stays while the file is open.
        unsafe {
            let file = (*(*fault).__bindgen_anon_1.vma).vm_file;
            let inode = Inode::<W::FileSystem>::from_raw((*file).f_inode);
            let result = match <W::FileSystem>::listeners(inode) {
                None => bindings::filemap_fault(fault),
                Some(listeners) => Self::watched_fault(fault, file, listeners),
            };
            if result & bindings::vm_fault_reason_VM_FAULT_SIGBUS != 0 {
                Self::report_fault(fault);
            }
            result
        }
    }

    /// Handles a fault for which listeners may have to be asked: before any page is locked, and, if the fault can be handled
    /// again, with the lock of the task's memory given up, so that others of the task go on, and who asks what the task is.
    /// Then the pages are read, too, so that they are there when it is handled again.
    ///
    /// # Safety
    ///
    /// `fault` must be a fault in an area of `file`, one of `W::FileSystem`, for which there are `listeners`, and the area be
    /// locked.
    #[cold]
    unsafe fn watched_fault(
        fault: *mut bindings::vm_fault,
        file: *mut bindings::file,
        listeners: &Listeners,
    ) -> bindings::vm_fault_t {
        // SAFETY: By the safety requirements. What is used after the lock was given up is what the file keeps, to which a
        // reference is held then.
        unsafe {
            if Opener::from_raw(file).is_silent() {
                // A listener himself.
                return match listeners.excused() {
                    Ok(_scope) => bindings::filemap_fault(fault),
                    Err(_) => bindings::vm_fault_reason_VM_FAULT_OOM,
                };
            }
            let window = bindings::vfs_helper_fault_window(fault, AROUND_MAX);
            if window.start == window.end {
                return bindings::filemap_fault(fault);
            }
            if bindings::vfs_helper_fault_is_nowait(fault) {
                return bindings::vm_fault_reason_VM_FAULT_RETRY;
            }
            let wanted = (*fault).__bindgen_anon_1.pgoff;
            let is_user = bindings::vfs_helper_fault_is_user(fault);
            let held = bindings::vfs_helper_unlock_fault(fault);
            // A program's own access holds nothing any more. Any other fault may be that of a task which writes from the area,
            // and has locks of a file, or keeps its filesystem from being frozen.
            let wait = if is_user && !held.is_null() {
                Wait::Any
            } else {
                Wait::NoLock
            };
            let inode = Inode::<W::FileSystem>::from_raw((*file).f_inode);
            let pages = if held.is_null() {
                // What is around it may be what could not be had.
                wanted..wanted.saturating_add(1)
            } else {
                window.start..window.end
            };
            let range = (pages.start as u64) << PAGE_SHIFT..(pages.end as u64) << PAGE_SHIFT;
            let scope = listeners.scope();
            let asked = W::ask(inode, range, &scope, wait);
            if held.is_null() {
                return match asked {
                    Ok(()) => bindings::filemap_fault(fault),
                    Err(error) if error == ENOMEM => bindings::vm_fault_reason_VM_FAULT_OOM,
                    Err(_) => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
                };
            }
            if asked.is_ok() {
                let mapping = (*file).f_mapping;
                bindings::vfs_helper_read_window(mapping, pages.start, pages.end, wanted);
            }
            drop(scope);
            bindings::fput(held);
            // What went wrong is met, and told, when the fault is handled again: with the lock held, since it waited.
            bindings::vm_fault_reason_VM_FAULT_RETRY | bindings::vm_fault_reason_VM_FAULT_MAJOR
        }
    }

    /// Reports that a page could not be read, unless it lies behind the end of the file.
    ///
    /// # Safety
    ///
    /// `fault` must be a fault in an area of a file of `W::FileSystem`, and the area be locked.
    #[cold]
    unsafe fn report_fault(fault: *mut bindings::vm_fault) {
        // SAFETY: By the safety requirements.
        let (inode, page) = unsafe {
            let place = &(*fault).__bindgen_anon_1;
            let inode = Inode::<W::FileSystem>::from_raw((*(*place.vma).vm_file).f_inode);
            (inode, place.pgoff)
        };
        let pos = (page as u64) << PAGE_SHIFT;
        if pos < inode.size() {
            fserror::read_failed(inode, Access::Cached, pos, PAGE_SIZE as u64, EIO);
        }
    }
}
