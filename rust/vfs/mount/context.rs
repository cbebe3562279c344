// SPDX-License-Identifier: GPL-2.0-only

//! `struct fs_context`: one mount, or remount, as a filesystem sees it while it takes options and sets up the superblock.

use crate::vfs::backing::open::with_path;
use crate::vfs::bindings;
use core::marker::PhantomData;
use core::ptr;
use core::ptr::NonNull;
use kernel::fmt;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::str::CString;

/// A mount or remount in progress.
///
/// # Invariants
///
/// `fc` is a valid context that this thread alone uses for `'a`.
pub(crate) struct Context<'a> {
    pub(in crate::vfs) fc: NonNull<bindings::fs_context>,
    _p: PhantomData<&'a ()>,
}

impl Context<'_> {
    /// # Safety
    ///
    /// `fc` must meet the type invariants.
    pub(in crate::vfs) unsafe fn from_raw(fc: *mut bindings::fs_context) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            // SAFETY: A valid pointer is not null.
            fc: unsafe { NonNull::new_unchecked(fc) },
            _p: PhantomData,
        }
    }

    /// What is mounted: a path, or for an open file its path as far as it is known.
    pub(crate) fn source(&self) -> Option<&CStr> {
        // SAFETY: By the type invariants; a source is a C string of the context's.
        unsafe {
            let source = self.fc.as_ref().source;
            (!source.is_null()).then(|| crate::vfs::c_str(source))
        }
    }

    /// Whether the filesystem will belong to another user namespace than the first one: somebody with privileges makes it for a
    /// context that was opened there.
    pub(crate) fn is_delegated(&self) -> bool {
        // SAFETY: By the type invariants; a context keeps its namespace.
        unsafe { !ptr::eq(self.fc.as_ref().user_ns, &raw const bindings::init_user_ns) }
    }

    /// Tells the mounter what is wrong: in the kernel's log, and through the context's own log
    /// where that is read.
    #[cold]
    #[inline(never)]
    pub(crate) fn error(&self, message: fmt::Arguments<'_>) {
        pr_err!("{}\n", message);
        self.log(b'e', message);
    }

    /// Tells the mounter what is as they may not expect it, in the context's own log alone.
    pub(crate) fn warn(&self, message: fmt::Arguments<'_>) {
        self.log(b'w', message);
    }

    /// Adds a line to the context's own log: of an error (`e`) or a warning (`w`).
    #[inline(never)]
    fn log(&self, level: u8, message: fmt::Arguments<'_>) {
        if let Ok(message) = CString::try_from_fmt(message) {
            // SAFETY: By the type invariants, and the message is a C string.
            unsafe {
                bindings::vfs_helper_logfc(self.fc.as_ptr(), level, message.as_char_ptr());
            }
        }
    }

    /// Has access control lists checked, or not, from the end of a remount on.
    pub(crate) fn set_posix_acl(&self, on: bool) {
        let flag = bindings::VFS_CONST_SB_POSIXACL as u32;
        // SAFETY: By the type invariants. The VFS takes the flags of the mask over when the remount has succeeded.
        unsafe {
            let fc = self.fc.as_ptr();
            (*fc).sb_flags_mask |= flag;
            (*fc).sb_flags = if on {
                (*fc).sb_flags | flag
            } else {
                (*fc).sb_flags & !flag
            };
        }
    }

    /// Notes the path of an open file as the source.
    pub(in crate::vfs) fn set_source_from(&mut self, file: &File) -> Result {
        // SAFETY: The path is a C string.
        let source = with_path(file, |path| unsafe {
            bindings::vfs_helper_kstrdup(path.as_char_ptr())
        })?;
        if source.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: By the type invariants. The context takes the copy over.
        unsafe { self.fc.as_mut().source = source };
        Ok(())
    }
}
