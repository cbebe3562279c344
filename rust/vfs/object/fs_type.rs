// SPDX-License-Identifier: GPL-2.0-only

//! `struct file_system_type`: what a filesystem is.
//!
//! Those that users mount are registered with the VFS ([`crate::vfs::mount::registration`]), those that only the kernel
//! mounts are not ([`crate::vfs::object::kernel_mount`]).

use crate::vfs::bindings;
use crate::vfs::object::inode;
use crate::vfs::object::super_block;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::types::Opaque;
use kernel::ThisModule;

/// A type of filesystem.
pub(crate) trait FileSystem: Sized + 'static {
    /// Its own name, which `mount -t` takes. It can be registered under others, too.
    const NAME: &'static CStr;

    /// What all superblocks of this type share, for as long as the type exists.
    type Shared: Send + Sync;

    /// The data of one superblock.
    type Super: Send + Sync;

    /// What tells the inodes of one superblock apart.
    type Key: Copy + PartialEq + Send + Sync;

    /// The data of one inode.
    type Inode: Send + Sync;

    /// Called when nobody uses a superblock any more, before it is taken down: waits for what still uses its inodes.
    fn leaving(_shared: &Self::Shared, _data: &Self::Super) {}

    /// Whether an inode of a filesystem that only the kernel mounts stays cached without users.
    fn is_kept(_inode: &Self::Inode) -> bool {
        false
    }
}

/// A filesystem type with what belongs to it. It is allocated once and does not move.
///
/// # Invariants
///
/// - `inode_cache` is a slab cache for [`inode::Slot<T>`].
/// - Every superblock whose `s_type` is `fs_type` is a superblock of `T`.
#[repr(C)]
pub(in crate::vfs) struct FsType<T: FileSystem> {
    // First, so that a pointer to it is a pointer to the whole.
    fs_type: Opaque<bindings::file_system_type>,
    pub(in crate::vfs) inode_cache: NonNull<bindings::kmem_cache>,
    pub(in crate::vfs) shared: T::Shared,
}

// SAFETY: `fs_type` is handled by the VFS under its own locks, a slab cache may be used from any
// thread, and the shared data is `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for FsType<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for FsType<T> {}

impl<T: FileSystem> FsType<T> {
    /// `module` stays loaded while there are superblocks of the type, whose name is `name`.
    pub(in crate::vfs) fn new(
        module: &'static ThisModule,
        name: &'static CStr,
        fs_flags: i32,
        init_fs_context: unsafe extern "C" fn(*mut bindings::raw_fs_context) -> i32,
        shared: T::Shared,
    ) -> Result<KBox<Self>> {
        let fs_type = bindings::file_system_type {
            name: name.as_char_ptr(),
            owner: module.as_ptr(),
            fs_flags,
            init_fs_context: Some(init_fs_context),
            kill_sb: Some(super_block::kill_sb::<T>),
            ..Default::default()
        };

        let mut args = bindings::kmem_cache_args {
            ctor: Some(inode::Slot::<T>::construct),
            ..Default::default()
        };
        // SAFETY: The name is static, and `args` describes the objects: plain ones with a
        // constructor that initialises an inode in place.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                name.as_char_ptr(),
                core::mem::size_of::<inode::Slot<T>>() as u32,
                &mut args,
                bindings::VFS_CONST_SLAB_FLAGS as bindings::slab_flags_t,
            )
        };
        let inode_cache = NonNull::new(cache).ok_or(ENOMEM)?;

        // INVARIANT: `inode_cache` was made for `Slot<T>` just now. The only way to get superblocks
        // of this type is through its `init_fs_context`, which is for `T`.
        let made = KBox::new(
            Self {
                fs_type: Opaque::new(fs_type),
                inode_cache,
                shared,
            },
            GFP_KERNEL,
        );
        match made {
            Ok(made) => {
                // The locks of superblocks and inodes have their classes from the type, so it has
                // to have its final address.
                // SAFETY: The type is valid, and not in use yet.
                unsafe { bindings::vfs_helper_register_lock_keys(made.as_ptr()) };
                Ok(made)
            }
            Err(error) => {
                // SAFETY: The cache was just created and has no objects.
                unsafe { bindings::kmem_cache_destroy(cache) };
                Err(error.into())
            }
        }
    }

    pub(in crate::vfs) fn as_ptr(&self) -> *mut bindings::file_system_type {
        self.fs_type.get()
    }

    /// The type of a superblock.
    ///
    /// # Safety
    ///
    /// `sb` must be a valid superblock of `T`.
    pub(in crate::vfs) unsafe fn of<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: By the safety requirements `s_type` is the first member of an `FsType<T>`, which
        // outlives its superblocks.
        unsafe { &*(*sb).s_type.cast::<Self>() }
    }
}

impl<T: FileSystem> Drop for FsType<T> {
    fn drop(&mut self) {
        // Inodes are freed after an RCU grace period: wait for the last of them.
        // SAFETY: May be called wherever sleeping is allowed, as it is where modules come and go.
        unsafe { bindings::rcu_barrier() };
        // SAFETY: By the type invariants this is a slab cache. No superblock is left, and with the
        // barrier above no object of the cache is.
        unsafe { bindings::kmem_cache_destroy(self.inode_cache.as_ptr()) };
        // SAFETY: They were registered in `new`, and no lock with them is left.
        unsafe { bindings::vfs_helper_unregister_lock_keys(self.as_ptr()) };
    }
}
