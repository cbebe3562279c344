// SPDX-License-Identifier: GPL-2.0-only

//! Opening files to read from, and their paths. Called for backing files ([`crate::vfs::backing::file`]) alone.

use crate::vfs::bindings;
use core::ptr;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::aref::ARef;

/// The longest path with its NUL, in bytes.
const PATH_MAX: usize = 4096;

/// What a path leads to for the current task, which opened it once for all files that it is compared with.
pub(crate) struct PathTarget {
    /// None if there is nothing there that could be a backing file.
    file: Option<ARef<File>>,
}

impl PathTarget {
    /// Opens the path.
    pub(crate) fn new(path: &CStr) -> Self {
        Self {
            file: open_file(path).ok(),
        }
    }

    /// Whether it is a file with the bytes of this inode.
    pub(in crate::vfs) fn is_inode(&self, inode: *mut bindings::inode) -> bool {
        self.file
            .as_ref()
            .is_some_and(|file| inode_of(file) == inode)
    }
}

/// The inode that an open file's bytes are in.
pub(in crate::vfs) fn inode_of(file: &File) -> *mut bindings::inode {
    // The mapping's host is the file's own inode, and for a block device that of the device.
    // SAFETY: The file is referenced; its mapping and the mapping's host are constant.
    unsafe { (*(*file.as_ptr()).f_mapping).host }
}

/// The kind of an inode, which is one that can be read from: a regular file or a block device.
///
/// # Errors
///
/// `EISDIR` for a directory, `EINVAL` for anything but a regular file or a block device.
///
/// # Safety
///
/// `inode` must be valid.
pub(in crate::vfs) unsafe fn check_kind(inode: *const bindings::inode) -> Result<u32> {
    // SAFETY: By the safety requirements; an inode's type is constant.
    match u32::from(unsafe { (*inode).i_mode }) & bindings::S_IFMT {
        kind @ (bindings::S_IFREG | bindings::S_IFBLK) => Ok(kind),
        bindings::S_IFDIR => Err(EISDIR),
        _ => Err(EINVAL),
    }
}

/// Where a path led to.
///
/// # Invariants
///
/// Both references of the path are owned.
struct FoundPath(bindings::path);

impl FoundPath {
    /// What is at `path` for the current task.
    fn new(path: &CStr) -> Result<Self> {
        let mut found = bindings::path::default();
        // SAFETY: The path is a C string; the rest is to be filled in.
        to_result(unsafe {
            bindings::kern_path(
                path.as_char_ptr(),
                bindings::VFS_CONST_LOOKUP_FOLLOW | bindings::VFS_CONST_LOOKUP_AUTOMOUNT,
                &mut found,
            )
        })?;
        // INVARIANT: `kern_path` took them.
        Ok(Self(found))
    }
}

impl Drop for FoundPath {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; they are given up.
        unsafe { bindings::path_put(&self.0) };
    }
}

/// Opens a regular file or block device for the current task to read, as open(2) does: whoever has a lease on the
/// file is waited for, and a drive is asked for its medium. To open anything else could wait for ever, as a fifo
/// does for a writer, so the kind is looked at first, and then what was looked at is opened: a regular file by what
/// open(2) does once it has found one (`do_open`), which saves a second walk.
///
/// # Errors
///
/// Those of open(2), and of [`check_kind`].
pub(in crate::vfs) fn open_file(path: &CStr) -> Result<ARef<File>> {
    let found = FoundPath::new(path)?;
    // SAFETY: A path that was found has an inode, which stays while it is referenced.
    match unsafe { check_kind((*found.0.dentry).d_inode) }? {
        bindings::S_IFREG => open_regular(&found),
        // SAFETY: The path is referenced. An empty name means itself. What was opened just now no one seeks.
        _ => unsafe {
            owned(bindings::file_open_root(
                &found.0,
                c"".as_char_ptr(),
                OPEN_FLAGS,
                0,
            ))
        },
    }
}

/// How backing files are opened.
const OPEN_FLAGS: i32 = (bindings::O_RDONLY | bindings::O_LARGEFILE) as i32;

/// Opens a regular file that was found.
fn open_regular(found: &FoundPath) -> Result<ARef<File>> {
    const ACCESS: i32 = (bindings::MAY_OPEN | bindings::MAY_READ) as i32;
    // SAFETY: The path is referenced, and with it its mount and the inode; the current task's credentials are valid.
    // What was opened just now no one seeks.
    let file = unsafe {
        let idmap = bindings::vfs_helper_mnt_idmap(found.0.mnt);
        let inode = (*found.0.dentry).d_inode;
        to_result(bindings::inode_permission(idmap, inode, ACCESS))?;
        owned(bindings::dentry_open(
            &found.0,
            OPEN_FLAGS,
            bindings::vfs_helper_current_cred(),
        ))?
    };
    // SAFETY: The file is referenced.
    to_result(unsafe { bindings::vfs_helper_security_file_post_open(file.as_ptr(), ACCESS) })?;
    Ok(file)
}

/// Opens a backing file once more, with the credentials that it was opened with.
///
/// # Errors
///
/// Those of opening it.
///
/// # Safety
///
/// `file` must be an open file.
pub(in crate::vfs) unsafe fn reopen(file: *mut bindings::file) -> Result<ARef<File>> {
    // SAFETY: By the safety requirements its path and credentials are referenced. The path's types differ only in the name
    // by which the bindings know them. What was opened just now no one seeks but who called.
    unsafe {
        let path: *const bindings::path = &raw const (*file).__bindgen_anon_1.f_path;
        owned(bindings::dentry_open(path, OPEN_FLAGS, (*file).f_cred))
    }
}

/// Takes over what opening a file returned.
///
/// # Safety
///
/// `file` must be an error, or a reference to a file that no one seeks, which is given up.
unsafe fn owned(file: *mut bindings::file) -> Result<ARef<File>> {
    let file = crate::vfs::from_err_ptr(file)?;
    // SAFETY: By the safety requirements; a valid pointer is not null.
    Ok(unsafe { ARef::from_raw(ptr::NonNull::new_unchecked(file.cast())) })
}

/// Calls `f` with the path of an open file, as the current task sees it.
///
/// # Errors
///
/// `ENOMEM`, and `ENAMETOOLONG` for a path that no task could open.
pub(in crate::vfs) fn with_path<R>(file: &File, f: impl FnOnce(&CStr) -> R) -> Result<R> {
    let mut buffer = KVec::<u8>::from_elem(0, PATH_MAX, GFP_KERNEL)?;
    // SAFETY: The file is referenced, and the buffer has the length that is given.
    let path = crate::vfs::from_err_ptr(unsafe {
        bindings::file_path(file.as_ptr(), buffer.as_mut_ptr().cast(), PATH_MAX as i32)
    })?;
    // SAFETY: The path is a C string in the buffer.
    Ok(f(unsafe { crate::vfs::c_str(path) }))
}

/// Calls `f` as who opened a file: with the credentials that it was opened with.
#[inline]
pub(in crate::vfs) fn as_opener<R>(file: &File, f: impl FnOnce() -> R) -> R {
    // SAFETY: A file's credentials are valid as long as it is referenced, which is longer than they are in
    // use here. What `override_creds` returned is put back, and nothing unwinds in the kernel.
    unsafe {
        let previous = bindings::vfs_helper_override_creds((*file.as_ptr()).f_cred);
        let result = f();
        bindings::vfs_helper_revert_creds(previous);
        result
    }
}
