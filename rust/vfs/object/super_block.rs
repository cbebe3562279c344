// SPDX-License-Identifier: GPL-2.0-only

//! `struct super_block`, in two states: a [`NewSuperBlock`] is being filled in and has no data, a
//! [`SuperBlock`] is ready and has it.
//!
//! [`crate::vfs::mount::mountable`] makes the one into the other; a filesystem's code gets both handed in.

use crate::vfs::backing::cache::Cache;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::fs_type::FsType;
use crate::vfs::object::inode;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::types::ForeignOwnable;
use kernel::types::Opaque;

/// The largest depth to which filesystems may be stacked (overlayfs counts its layers with it).
pub(crate) const MAX_STACK_DEPTH: u32 = bindings::FILESYSTEM_MAX_STACK_DEPTH;

/// A superblock that is being set up: it has no data and no root yet, and no inodes are cached.
///
/// # Invariants
///
/// `sb` is a valid superblock of `T` that only this thread sets up; the VFS may look at it meanwhile.
pub(crate) struct NewSuperBlock<'a, T: FileSystem> {
    sb: NonNull<bindings::super_block>,
    _p: PhantomData<&'a mut T>,
}

impl<T: FileSystem> NewSuperBlock<'_, T> {
    /// # Safety
    ///
    /// `sb` must be a valid superblock of `T` that only this thread uses.
    pub(in crate::vfs) unsafe fn from_raw(sb: *mut bindings::super_block) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            // SAFETY: A valid pointer is not null.
            sb: unsafe { NonNull::new_unchecked(sb) },
            _p: PhantomData,
        }
    }

    /// What all superblocks of the type share.
    pub(crate) fn shared(&self) -> &T::Shared {
        // SAFETY: By the type invariants.
        unsafe { &FsType::<T>::of(self.sb.as_ptr()).shared }
    }

    /// Makes the superblock one of a read-only filesystem that keeps no access times, with files of any size,
    /// times to the nanosecond, and `i_version`.
    pub(crate) fn set_read_only(&mut self) {
        let sb = self.sb.as_ptr();
        // SAFETY: By the type invariants.
        unsafe {
            (*sb).s_flags |= bindings::VFS_CONST_SB_RDONLY
                | bindings::VFS_CONST_SB_NOATIME
                | bindings::VFS_CONST_SB_I_VERSION;
            (*sb).s_maxbytes = bindings::VFS_CONST_MAX_LFS_FILESIZE;
            (*sb).s_time_gran = 1;
        }
    }

    /// Has access control lists checked.
    pub(crate) fn set_posix_acl(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { (*self.sb.as_ptr()).s_flags |= bindings::VFS_CONST_SB_POSIXACL };
    }

    /// Sets the number that statfs gives as the filesystem's type.
    pub(crate) fn set_magic(&mut self, magic: u32) {
        // SAFETY: By the type invariants.
        unsafe { (*self.sb.as_ptr()).s_magic = usize::try_from(magic).unwrap_or(0) };
    }

    /// Sets the block size to `1 << bits` bytes; `bits` is at most that of a page.
    ///
    /// # Errors
    ///
    /// `EINVAL` for more.
    pub(crate) fn set_block_bits(&mut self, bits: u8) -> Result {
        let size = 1usize.checked_shl(bits.into()).ok_or(EINVAL)?;
        if size > kernel::page::PAGE_SIZE {
            return Err(EINVAL);
        }
        let sb = self.sb.as_ptr();
        // SAFETY: By the type invariants.
        unsafe {
            (*sb).s_blocksize_bits = bits;
            (*sb).s_blocksize = size;
        }
        Ok(())
    }

    /// Sets the UUID that statx and the mount table identify the filesystem by.
    pub(crate) fn set_uuid(&mut self, uuid: &[u8; 16]) {
        // SAFETY: By the type invariants, and the length is that of the array.
        unsafe { bindings::vfs_helper_super_set_uuid(self.sb.as_ptr(), uuid.as_ptr(), 16) };
    }

    /// Says how many filesystems are stacked below this one.
    pub(crate) fn set_stack_depth(&mut self, depth: u32) {
        // SAFETY: By the type invariants.
        unsafe { (*self.sb.as_ptr()).s_stack_depth = i32::try_from(depth).unwrap_or(i32::MAX) };
    }

    /// Has the superblock's files read ahead as `file` is, or the file below it: they share the backing
    /// device, where readahead finds its limits. One of its own would have to be shown in sysfs, which is
    /// most of what mounting costs; so the superblock gets one only where the file's filesystem has none that
    /// reads ahead, as tmpfs and some networks'. Without this nothing is read ahead.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it has one already; `ENOMEM`, and what showing a device in sysfs returns.
    pub(crate) fn share_backing_device(&mut self, file: &BackingFile) -> Result {
        let inode = Cache::of(file).inode();
        // SAFETY: By the type invariants, and the inode is valid as long as the file is referenced. The
        // superblock gives the device up when it is taken down.
        to_result(unsafe { bindings::vfs_helper_super_share_bdi(self.sb.as_ptr(), inode) })
    }
}

/// A superblock that is ready: its data is set.
///
/// # Invariants
///
/// The superblock is one of `T`, and `s_fs_info` is a `KBox<T::Super>` turned into a foreign pointer.
#[repr(transparent)]
pub(crate) struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

// SAFETY: What is reached through a reference is either constant, or `Sync` data, or guarded by the
// VFS's own locks.
unsafe impl<T: FileSystem> Sync for SuperBlock<T> {}

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `sb` must be valid for `'a` and meet the type invariants.
    pub(in crate::vfs) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: By the safety requirements, and the type is transparent.
        unsafe { &*sb.cast::<Self>() }
    }

    pub(in crate::vfs) fn as_ptr(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// Bytes in a block.
    pub(in crate::vfs) fn block_size(&self) -> u64 {
        // SAFETY: By the type invariants; set before the superblock became ready, and constant since.
        unsafe { (*self.as_ptr()).s_blocksize as u64 }
    }

    /// What all superblocks of the type share.
    pub(crate) fn shared(&self) -> &T::Shared {
        // SAFETY: By the type invariants.
        unsafe { &FsType::<T>::of(self.as_ptr()).shared }
    }

    /// The superblock's data.
    pub(crate) fn data(&self) -> &T::Super {
        // SAFETY: By the type invariants; the pointer does not change while the superblock lives.
        unsafe {
            let data = (*self.as_ptr()).s_fs_info;
            <KBox<T::Super> as ForeignOwnable>::borrow(data)
        }
    }
}

/// Makes a superblock ready: gives it its data.
///
/// # Safety
///
/// `sb` must be a new superblock of `T` that only this thread sets up, and have no data.
pub(in crate::vfs) unsafe fn install<'a, T: FileSystem>(
    sb: *mut bindings::super_block,
    data: KBox<T::Super>,
) -> &'a SuperBlock<T> {
    // SAFETY: By the safety requirements; `s_fs_info` is the filesystem's.
    unsafe { (*sb).s_fs_info = data.into_foreign() };
    // SAFETY: Its data is set now.
    unsafe { SuperBlock::<T>::from_raw(sb) }
}

/// Makes the root of a superblock of an inode, whose reference is taken over.
///
/// # Errors
///
/// `ENOMEM`.
///
/// # Safety
///
/// `sb` must be a new superblock that only this thread sets up, and `inode` a reference to one of its directories.
pub(in crate::vfs) unsafe fn set_root(
    sb: *mut bindings::super_block,
    inode: *mut bindings::inode,
) -> Result {
    // SAFETY: By the safety requirements. `d_make_root` takes over the reference to the inode, also when it fails.
    let dentry = unsafe { bindings::d_make_root(inode) };
    if dentry.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: By the safety requirements.
    unsafe { (*sb).s_root = dentry };
    Ok(())
}

/// Drops what a superblock holds. Called by the VFS when its last user is gone.
///
/// # Safety
///
/// `sb` must be a superblock of `T` that is being taken down.
pub(in crate::vfs) unsafe extern "C" fn kill_sb<T: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: By the safety requirements.
    if unsafe { !(*sb).s_fs_info.is_null() } {
        // SAFETY: As above; it has its data, and so is ready.
        let ready = unsafe { SuperBlock::<T>::from_raw(sb) };
        T::leaving(ready.shared(), ready.data());
    }
    // SAFETY: By the safety requirements; both kinds of superblock here have an anonymous device.
    unsafe { bindings::kill_anon_super(sb) };
    // SAFETY: No one else uses the superblock any more.
    let data = unsafe { ptr::replace(&raw mut (*sb).s_fs_info, ptr::null_mut()) };
    if !data.is_null() {
        // SAFETY: A pointer that is not null was put there by `install`.
        drop(unsafe { <KBox<T::Super> as ForeignOwnable>::from_foreign(data) });
    }
}

/// The `struct super_operations` for a filesystem type.
pub(in crate::vfs) struct Operations<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    /// What those of all filesystems have in common.
    pub(in crate::vfs) const BASE: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(inode::Slot::<T>::alloc),
        free_inode: Some(inode::Slot::<T>::free),
        evict_inode: Some(inode::Slot::<T>::evict),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };
}
