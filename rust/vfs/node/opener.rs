// SPDX-License-Identifier: GPL-2.0-only

//! What an open file keeps of its own: its view of the backing file.
//!
//! Readahead state is part of a `struct file`. If all readers shared the one that the mount opened,
//! each would take the others' positions for its own and readahead would guess wrong. So an open
//! file that is read piece by piece gets its own `struct file` of the backing file, at its first
//! such read. One that is read whole at once, as most small files are, does not need it:
//! see [`crate::vfs::backing::row`].

use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::listeners::Listeners;
use crate::vfs::backing::listeners::Scope;
use crate::vfs::bindings;
use core::marker::PhantomData;
use core::ptr;
use core::ptr::NonNull;
use kernel::bindings::path;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;

/// An open file of this module's filesystems.
///
/// # Invariants
///
/// `file` is valid while `self` lives; its `private_data` is null or a `struct file` that it owns a
/// reference to, made by [`Opener::view`], and changes only once, from null.
#[derive(Clone, Copy)]
pub(in crate::vfs) struct Opener<'a> {
    // A pointer and no reference, for C code changes the structure meanwhile.
    file: NonNull<bindings::file>,
    _p: PhantomData<&'a File>,
}

impl<'a> Opener<'a> {
    /// # Safety
    ///
    /// `file` must be a file opened with [`crate::vfs::node::file`]'s operations, and be valid for `'a`.
    pub(in crate::vfs) unsafe fn from_raw(file: *mut bindings::file) -> Self {
        // INVARIANT: By the safety requirements, and since only this file sets `private_data`.
        Self {
            // SAFETY: A valid pointer is not null.
            file: unsafe { NonNull::new_unchecked(file) },
            _p: PhantomData,
        }
    }

    pub(in crate::vfs) fn as_ptr(self) -> *mut bindings::file {
        self.file.as_ptr()
    }

    fn private(self) -> &'a Atomic<*mut core::ffi::c_void> {
        // SAFETY: The member is valid for `'a`, and by the type invariants all accesses are atomic.
        unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).private_data) }
    }

    /// The `struct file` to read `backing` through: this opener's own, or the mount's if this
    /// opener's is one of another file or cannot be had.
    ///
    /// The mount's file may have permission events, and so may not be read for an opener that is to raise none
    /// ([`Self::is_silent`]): it gets one for this read alone.
    ///
    /// With `nowait` none is opened.
    ///
    /// # Errors
    ///
    /// For such an opener `EAGAIN` with `nowait`, and what opening the file returns.
    #[inline]
    pub(in crate::vfs) fn view(self, backing: &'a BackingFile, nowait: bool) -> Result<View<'a>> {
        let mut own = self.private().load(Acquire).cast::<bindings::file>();
        if own.is_null() && !nowait {
            own = self.open_view(backing);
        }
        // SAFETY: A view stays open as long as the opener; a file's inode is constant.
        let same = !own.is_null() && unsafe { (*own).f_inode == (*backing.as_ptr()).f_inode };
        if same {
            Ok(View::of_another(own))
        } else if self.is_silent() {
            self.view_once(backing, nowait)
        } else {
            Ok(View::of_another(backing.as_ptr()))
        }
    }

    #[cold]
    fn view_once(self, backing: &'a BackingFile, nowait: bool) -> Result<View<'a>> {
        if nowait {
            return Err(EAGAIN);
        }
        // INVARIANT: It was opened just now.
        Ok(View {
            file: self.open(backing)?,
            is_owned: true,
            _p: PhantomData,
        })
    }

    /// Whether reading must raise no events: the file is one that fanotify gave to a listener, who
    /// would wait for himself if he had to allow a read of the backing file. A view inherits that.
    #[inline]
    pub(in crate::vfs) fn is_silent(self) -> bool {
        // SAFETY: The file is valid for `'a`; these bits of its mode do not change after it was opened.
        let mode = unsafe { (*self.as_ptr()).f_mode };
        mode & bindings::VFS_CONST_FMODE_FSNOTIFY_MASK == bindings::VFS_CONST_FMODE_NONOTIFY
    }

    /// While what is returned lives the current task asks no listener for anything, if it is for an opener who must raise no
    /// events.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub(in crate::vfs) fn excused(
        self,
        listeners: Option<&Listeners>,
    ) -> Result<Option<Scope<'_>>> {
        match listeners {
            Some(listeners) if self.is_silent() => listeners.excused().map(Some),
            _ => Ok(None),
        }
    }

    /// Whether it was said, by posix_fadvise(2), that reads of this opener are in no order.
    pub(in crate::vfs) fn is_random(self) -> bool {
        // SAFETY: The file is valid for `'a`. The flag may be set at any time.
        let mode = unsafe { (&raw const (*self.as_ptr()).f_mode).read_volatile() };
        mode & bindings::VFS_CONST_FMODE_RANDOM != 0
    }

    /// Opens `backing` for this opener.
    fn open(self, backing: &BackingFile) -> Result<*mut bindings::file> {
        // Security modules label the file by who opens it.
        backing.as_opener(|| {
            // SAFETY: Both files are valid, with their paths and credentials. The path's types differ
            // only in the name by which the bindings know them.
            crate::vfs::from_err_ptr(unsafe {
                let real: *const path = &raw const (*backing.as_ptr()).__bindgen_anon_1.f_path;
                bindings::backing_file_open(
                    self.as_ptr(),
                    (bindings::O_RDONLY | bindings::O_LARGEFILE | bindings::O_NOATIME) as i32,
                    real,
                    (*backing.as_ptr()).f_cred,
                )
            })
        })
    }

    /// Opens this opener's view of `backing`. Null if that fails, for reading works without.
    #[cold]
    fn open_view(self, backing: &BackingFile) -> *mut bindings::file {
        let Ok(opened) = self.open(backing) else {
            return ptr::null_mut();
        };
        match self.private().cmpxchg(ptr::null_mut(), opened.cast(), Full) {
            Ok(_) => opened,
            Err(others) => {
                // SAFETY: It is ours, and not in use.
                unsafe { bindings::fput(opened) };
                others.cast()
            }
        }
    }

    /// Closes the view; the file is being closed.
    pub(in crate::vfs) fn release(self) {
        let own = self.private().xchg(ptr::null_mut(), Full);
        if !own.is_null() {
            // SAFETY: By the type invariants a reference is owned, and given up here.
            unsafe { bindings::fput(own.cast()) };
        }
    }
}

/// A `struct file` to read a backing file through.
///
/// # Invariants
///
/// The file is open for reading as long as `'a`, or a reference to it is owned.
pub(in crate::vfs) struct View<'a> {
    file: *mut bindings::file,
    is_owned: bool,
    _p: PhantomData<&'a BackingFile>,
}

impl<'a> View<'a> {
    /// A file that is open for `'a`.
    #[inline]
    fn of_another(file: *mut bindings::file) -> Self {
        Self {
            file,
            is_owned: false,
            _p: PhantomData,
        }
    }

    /// The file that the mount has opened.
    #[inline]
    pub(in crate::vfs) fn of_mount(backing: &'a BackingFile) -> Self {
        Self::of_another(backing.as_ptr())
    }

    #[inline]
    pub(in crate::vfs) fn as_ptr(&self) -> *mut bindings::file {
        self.file
    }
}

impl Drop for View<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_owned {
            // SAFETY: By the type invariants; the reference is given up.
            unsafe { bindings::fput(self.file) };
        }
    }
}
