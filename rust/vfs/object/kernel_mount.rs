// SPDX-License-Identifier: GPL-2.0-only

//! Mounts that only the kernel sees: no path leads to them.
//!
//! A module keeps a [`KernelFs`] for as long as it is loaded, and a [`KernelMount`] of it where one
//! is used. The filesystem is mounted while there is any: its superblock holds the module, like that
//! of every other mount, so the module cannot go before the last use of the superblock has ended,
//! wherever in the kernel that is.

use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::fs_type::FsType;
use crate::vfs::object::inode::Slot;
use crate::vfs::object::super_block;
use crate::vfs::object::super_block::SuperBlock;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::ThisModule;

/// What a file whose `f_mapping` is on a filesystem that only the kernel mounts is told to read ahead, or more,
/// in pages, until it is mapped: it is not known then where its bytes lie.
pub(in crate::vfs) const READAHEAD_UNSET: u32 = u32::MAX >> 1;

/// A filesystem that the kernel mounts for itself.
///
/// # Invariants
///
/// `mount` and `count` are used by `simple_pin_fs()` and `simple_release_fs()` only, which lock.
pub(crate) struct KernelFs<T: FileSystem> {
    fs_type: KBox<FsType<T>>,
    mount: UnsafeCell<*mut bindings::vfsmount>,
    count: UnsafeCell<i32>,
}

// SAFETY: By the type invariants the C side guards the mount and the count, and `FsType` is `Send`.
unsafe impl<T: FileSystem> Send for KernelFs<T> {}
// SAFETY: As above, and `FsType` is `Sync`.
unsafe impl<T: FileSystem> Sync for KernelFs<T> {}

impl<T: FileSystem<Super = ()>> KernelFs<T> {
    /// Makes the filesystem known; it is not mounted yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(module: &'static ThisModule, shared: T::Shared) -> Result<Arc<Self>> {
        let this = Self {
            fs_type: FsType::new(module, T::NAME, 0, init_fs_context::<T>, shared)?,
            mount: UnsafeCell::new(ptr::null_mut()),
            count: UnsafeCell::new(0),
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    /// Mounts the filesystem, or takes part in its mount.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn mount(self: &Arc<Self>) -> Result<KernelMount<T>> {
        // SAFETY: The type outlives the mount, for `KernelMount` holds `self`; the rest by the type
        // invariants.
        to_result(unsafe {
            bindings::simple_pin_fs(self.fs_type.as_ptr(), self.mount.get(), self.count.get())
        })?;
        // SAFETY: While it is pinned the mount is set, and does not change.
        let mount = unsafe { *self.mount.get() };
        // INVARIANT: Pinned just now.
        Ok(KernelMount {
            // SAFETY: As above.
            mount: unsafe { NonNull::new_unchecked(mount) },
            fs: self.clone(),
        })
    }
}

/// A part in the mount of a [`KernelFs`].
///
/// # Invariants
///
/// `mount` is that of `fs`, and pinned; its superblock is one of `T`.
pub(crate) struct KernelMount<T: FileSystem> {
    mount: NonNull<bindings::vfsmount>,
    fs: Arc<KernelFs<T>>,
}

// SAFETY: A mount may be used and put from any thread.
unsafe impl<T: FileSystem> Send for KernelMount<T> {}
// SAFETY: As above; what it gives out is `&SuperBlock<T>`, which is `Sync`.
unsafe impl<T: FileSystem> Sync for KernelMount<T> {}

impl<T: FileSystem<Super = ()>> KernelMount<T> {
    pub(in crate::vfs) fn as_ptr(&self) -> *mut bindings::vfsmount {
        self.mount.as_ptr()
    }

    /// The mount's superblock.
    pub(crate) fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariants the mount and its superblock live as long as `self`, and
        // the superblock is one of `T`, whose data is `()`.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).mnt_sb) }
    }
}

impl<T: FileSystem> Drop for KernelMount<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is pinned; the pin is given up.
        unsafe { bindings::simple_release_fs(self.fs.mount.get(), self.fs.count.get()) };
    }
}

/// Starts a mount of `T`.
///
/// # Safety
///
/// Called by the VFS, for a type made by [`KernelFs::new`].
unsafe extern "C" fn init_fs_context<T: FileSystem<Super = ()>>(
    fc: *mut bindings::raw_fs_context,
) -> i32 {
    // SAFETY: The VFS passes a valid context, to be set up here.
    let fc = unsafe { &mut *fc.cast::<bindings::fs_context>() };
    fc.ops = Operations::<T>::TABLE;
    fc.sb_flags |= bindings::VFS_CONST_SB_INTERNAL as u32;
    0
}

/// The `struct fs_context_operations` of `T`.
struct Operations<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem<Super = ()>> Operations<T> {
    const TABLE: &'static bindings::fs_context_operations = &bindings::fs_context_operations {
        get_tree: Some(Self::get_tree),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// # Safety
    ///
    /// Called by the VFS, for a context of `T`.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> i32 {
        // SAFETY: The VFS passes a valid context; `fill` fits the filesystem's type.
        unsafe { bindings::get_tree_nodev(fc, Some(Self::fill)) }
    }

    /// # Safety
    ///
    /// Called by the VFS, for a new superblock of `T`.
    unsafe extern "C" fn fill(
        sb: *mut bindings::super_block,
        _fc: *mut bindings::fs_context,
    ) -> i32 {
        from_result(|| {
            // SAFETY: The superblock is new, and of the type that the context is for.
            unsafe { fill::<T>(sb) }?;
            Ok(0)
        })
    }
}

/// Sets up the superblock of a filesystem that only the kernel mounts: it has an empty root, and inodes that
/// go when their last user does, unless they are kept.
///
/// # Safety
///
/// `sb` must be a new superblock of `T` that only this thread uses.
unsafe fn fill<T: FileSystem<Super = ()>>(sb: *mut bindings::super_block) -> Result {
    // SAFETY: By the safety requirements.
    unsafe {
        (*sb).s_op = ptr::from_ref(Super::<T>::TABLE);
        (*sb).s_maxbytes = bindings::VFS_CONST_MAX_LFS_FILESIZE;
        // Without a backing device advice about the pages would be passed over.
        to_result(bindings::vfs_helper_super_alloc_bdi(
            sb,
            READAHEAD_UNSET as usize,
        ))?;
    }
    // SAFETY: By the safety requirements; the root is new, and its reference passes on.
    unsafe {
        super_block::install::<T>(sb, KBox::new((), GFP_KERNEL)?);
        let root = bindings::new_inode(sb);
        if root.is_null() {
            return Err(ENOMEM);
        }
        (*root).i_mode = (bindings::S_IFDIR | 0o500) as bindings::umode_t;
        super_block::set_root(sb, root)
    }
}

/// The `struct super_operations` of `T`.
struct Super<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Super<T> {
    const TABLE: &'static bindings::super_operations = &bindings::super_operations {
        drop_inode: Some(Slot::<T>::drop_unless_kept),
        ..super_block::Operations::<T>::BASE
    };
}
