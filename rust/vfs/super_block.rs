// SPDX-License-Identifier: GPL-2.0-only

//! `struct super_block`, in two states: a [`NewSuperBlock`] is being filled in and has no data, a
//! [`SuperBlock`] is ready and has it.
//!
//! [`super::context`] makes the one into the other; a filesystem's code gets both handed in.

use super::backing::BackingFile;
use super::backing_cache::Cache;
use super::bindings;
use super::context::Mountable;
use super::export;
use super::fs_type::FileSystem;
use super::fs_type::FsType;
use super::inode;
use super::inode::IntoRaw;
use super::inode::Lookup;
use super::xattr;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::types::ForeignOwnable;
use kernel::types::Opaque;

/// The largest depth to which filesystems may be stacked (overlayfs counts its layers with it).
pub(crate) const MAX_STACK_DEPTH: u32 = bindings::FILESYSTEM_MAX_STACK_DEPTH;

/// What a file whose `f_mapping` is on a filesystem that only the kernel mounts is told to read ahead, or more,
/// in pages, until it is mapped: it is not known then where its bytes lie.
pub(super) const READAHEAD_UNSET: u32 = u32::MAX >> 1;

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
    pub(super) unsafe fn from_raw(sb: *mut bindings::super_block) -> Self {
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
/// The superblock is one of `T`. If `T` is mountable, `s_fs_info` is a `KBox<T::Super>` turned into
/// a foreign pointer; else `T::Super` is `()`.
#[repr(transparent)]
pub(crate) struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

// SAFETY: What is reached through a reference is either constant, or `Sync` data, or guarded by the
// VFS's own locks.
unsafe impl<T: FileSystem> Sync for SuperBlock<T> {}

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `sb` must be valid for `'a` and meet the type invariants.
    pub(super) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: By the safety requirements, and the type is transparent.
        unsafe { &*sb.cast::<Self>() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// Bytes in a block.
    pub(super) fn block_size(&self) -> u64 {
        // SAFETY: By the type invariants; set before the superblock became ready, and constant since.
        unsafe { (*self.as_ptr()).s_blocksize as u64 }
    }

    /// The inode for `key`, from the cache or new. `ino` is its number; it is hashed by `hash`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn inode(&self, hash: u64, ino: u64, key: T::Key) -> Result<Lookup<T>> {
        inode::get(self, hash, ino, key)
    }
}

impl<T: Mountable> SuperBlock<T> {
    /// The superblock's data.
    pub(crate) fn data(&self) -> &T::Super {
        // SAFETY: By the type invariants; the pointer does not change while the superblock lives.
        unsafe {
            let data = (*self.as_ptr()).s_fs_info;
            <KBox<T::Super> as ForeignOwnable>::borrow(data)
        }
    }
}

/// What statfs(2) tells.
pub(crate) struct Statfs {
    /// Bytes in a block.
    pub(crate) block_size: u32,
    /// Blocks in all.
    pub(crate) blocks: u64,
    /// Inodes in all.
    pub(crate) files: u64,
    /// Inodes that are free.
    pub(crate) files_free: u64,
    /// The longest name, in bytes.
    pub(crate) name_max: u32,
    /// A number that tells this filesystem from others.
    pub(crate) fsid: u64,
}

/// Drops what a superblock holds. Called by the VFS when its last user is gone.
///
/// # Safety
///
/// `sb` must be a superblock of `T` that is being taken down.
pub(super) unsafe extern "C" fn kill_sb<T: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: By the safety requirements; both kinds of superblock here have an anonymous device.
    unsafe { bindings::kill_anon_super(sb) };
    // SAFETY: No one else uses the superblock any more.
    let data = unsafe { ptr::replace(&raw mut (*sb).s_fs_info, ptr::null_mut()) };
    if !data.is_null() {
        // SAFETY: A pointer that is not null was put there by `install`.
        drop(unsafe { <KBox<T::Super> as ForeignOwnable>::from_foreign(data) });
    }
}

/// Makes a new superblock ready: asks the filesystem for its data and root.
///
/// # Safety
///
/// `sb` must be a new superblock of `T` that only this thread uses, and `make` must make its data.
pub(super) unsafe fn fill<T: Mountable>(
    sb: *mut bindings::super_block,
    make: impl FnOnce(&mut NewSuperBlock<'_, T>) -> Result<T::Super>,
) -> Result {
    // SAFETY: By the safety requirements.
    unsafe {
        (*sb).s_op = ptr::from_ref(Operations::<T>::MOUNTED);
        (*sb).s_xattr = xattr::Table::<T>::HANDLERS.as_ptr();
        // The type has two names: the one that this structure's members are known by, and an opaque one.
        (*sb).s_export_op = ptr::from_ref(export::Operations::<T>::TABLE).cast();
    }
    // SAFETY: By the safety requirements.
    let mut new = unsafe { NewSuperBlock::<T>::from_raw(sb) };
    let data = KBox::new(make(&mut new)?, GFP_KERNEL)?;
    // SAFETY: `s_fs_info` is the filesystem's, and null so far.
    unsafe { (*sb).s_fs_info = data.into_foreign() };
    // SAFETY: Its data is set now.
    let ready = unsafe { SuperBlock::<T>::from_raw(sb) };
    let root = T::root(ready)?;
    // SAFETY: `d_make_root` takes over the reference to the inode, also when it fails.
    let dentry = unsafe { bindings::d_make_root(IntoRaw::into_raw(root)) };
    if dentry.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: By the safety requirements.
    unsafe { (*sb).s_root = dentry };
    Ok(())
}

/// Sets up the superblock of a filesystem that only the kernel mounts: it has an empty root, and inodes that
/// go when their last user does, unless they are kept.
///
/// # Safety
///
/// `sb` must be a new superblock of `T` that only this thread uses.
pub(super) unsafe fn fill_internal<T: FileSystem>(sb: *mut bindings::super_block) -> Result {
    // SAFETY: By the safety requirements.
    unsafe {
        (*sb).s_op = ptr::from_ref(Operations::<T>::INTERNAL);
        (*sb).s_maxbytes = bindings::VFS_CONST_MAX_LFS_FILESIZE;
        // Without a backing device advice about the pages would be passed over.
        to_result(bindings::vfs_helper_super_alloc_bdi(
            sb,
            READAHEAD_UNSET as usize,
        ))?;
    }
    // SAFETY: By the safety requirements; the inode is new, and `d_make_root` takes it over.
    let dentry = unsafe {
        let root = bindings::new_inode(sb);
        if root.is_null() {
            return Err(ENOMEM);
        }
        (*root).i_mode = (bindings::S_IFDIR | 0o500) as bindings::umode_t;
        bindings::d_make_root(root)
    };
    if dentry.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: By the safety requirements.
    unsafe { (*sb).s_root = dentry };
    Ok(())
}

/// The `struct super_operations` for a filesystem type.
pub(super) struct Operations<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    const BASE: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(inode::Slot::<T>::alloc),
        free_inode: Some(inode::Slot::<T>::free),
        evict_inode: Some(inode::Slot::<T>::evict),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// For [`fill_internal`].
    const INTERNAL: &'static bindings::super_operations = &bindings::super_operations {
        drop_inode: Some(inode::Slot::<T>::drop_unless_kept),
        ..Self::BASE
    };
}

impl<T: Mountable> Operations<T> {
    const MOUNTED: &'static bindings::super_operations = &bindings::super_operations {
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        ..Self::BASE
    };

    /// # Safety
    ///
    /// Called by the VFS, for a dentry of a superblock of `T`.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut bindings::kernel_kstatfs,
    ) -> i32 {
        // SAFETY: The VFS passes a valid dentry of a superblock that is ready.
        let sb = unsafe { SuperBlock::<T>::from_raw((*dentry).d_sb) };
        // SAFETY: The VFS passes a buffer to be filled in. It is the same C structure by the name
        // that has its members.
        let buf = unsafe { &mut *buf.cast::<bindings::kstatfs>() };
        from_result(|| {
            let stat = T::statfs(sb)?;
            // SAFETY: Set before the superblock became ready, and constant since.
            buf.f_type = unsafe { (*sb.as_ptr()).s_magic } as isize;
            buf.f_bsize = stat.block_size as isize;
            buf.f_blocks = stat.blocks;
            buf.f_bfree = 0;
            buf.f_bavail = 0;
            buf.f_files = stat.files;
            buf.f_ffree = stat.files_free;
            buf.f_namelen = stat.name_max as isize;
            buf.f_fsid.val = [stat.fsid as i32, (stat.fsid >> 32) as i32];
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, for the root of a mount of a superblock of `T`.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> i32 {
        // SAFETY: The VFS passes a valid dentry of a superblock that is ready.
        let sb = unsafe { SuperBlock::<T>::from_raw((*root).d_sb) };
        // SAFETY: The VFS passes a sequence file that this thread alone uses during the call.
        let seq = unsafe { SeqFile::from_raw(seq) };
        from_result(|| {
            T::show_options(sb, seq)?;
            Ok(0)
        })
    }
}
