// SPDX-License-Identifier: GPL-2.0-only

//! `struct file_system_type`: what a filesystem is, its registration with the VFS, and mounts that
//! only the kernel sees.
//!
//! A module implements [`FileSystem`] (and [`super::context::Mountable`] if users mount it) and
//! keeps a [`Registration`] or a [`KernelMount`] for as long as it is loaded.

use super::bindings;
use super::context::Mountable;
use super::inode;
use super::inode::Inode;
use super::super_block;
use super::super_block::SuperBlock;
use super::xattr::Namespace;
use core::marker::PhantomData;
use core::ptr;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::types::Opaque;
use kernel::ThisModule;

/// A type of filesystem.
pub(crate) trait FileSystem: Sized + 'static {
    /// The name that `mount -t` takes.
    const NAME: &'static CStr;

    /// What all superblocks of this type share, for as long as the type exists.
    type Shared: Send + Sync;

    /// The data of one superblock.
    type Super: Send + Sync;

    /// What tells the inodes of one superblock apart.
    type Key: Copy + PartialEq + Send + Sync;

    /// The data of one inode.
    type Inode: Send + Sync;

    /// Reads the value of an attribute into `buffer`, if it fits. Its size in any case.
    ///
    /// # Errors
    ///
    /// `ENODATA` if there is no such attribute, `EOPNOTSUPP` if there are none of the namespace.
    fn get_xattr(
        _inode: &Inode<Self>,
        _space: Namespace,
        _name: &[u8],
        _buffer: &mut [u8],
    ) -> Result<usize> {
        Err(EOPNOTSUPP)
    }

    /// Calls `emit` with each attribute of an inode, until it returns false.
    fn list_xattrs(
        _inode: &Inode<Self>,
        _emit: &mut dyn FnMut(Namespace, &[u8]) -> bool,
    ) -> Result {
        Ok(())
    }
}

/// A filesystem type with what belongs to it. It is allocated once and does not move.
///
/// # Invariants
///
/// - `inode_cache` is a slab cache for [`inode::Slot<T>`].
/// - Every superblock whose `s_type` is `fs_type` is a superblock of `T`.
#[repr(C)]
pub(super) struct FsType<T: FileSystem> {
    // First, so that a pointer to it is a pointer to the whole.
    fs_type: Opaque<bindings::file_system_type>,
    pub(super) inode_cache: NonNull<bindings::kmem_cache>,
    pub(super) shared: T::Shared,
}

// SAFETY: `fs_type` is handled by the VFS under its own locks, a slab cache may be used from any
// thread, and the shared data is `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for FsType<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for FsType<T> {}

impl<T: FileSystem> FsType<T> {
    /// `owner` is the module that stays loaded while there are superblocks of the type.
    fn new(
        owner: *mut bindings::module,
        fs_flags: i32,
        init_fs_context: unsafe extern "C" fn(*mut bindings::raw_fs_context) -> i32,
        shared: T::Shared,
    ) -> Result<KBox<Self>> {
        let fs_type = bindings::file_system_type {
            name: T::NAME.as_char_ptr(),
            owner,
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
                T::NAME.as_char_ptr(),
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
        if made.is_err() {
            // SAFETY: The cache was just created and has no objects.
            unsafe { bindings::kmem_cache_destroy(cache) };
        }
        Ok(made?)
    }

    fn as_ptr(&self) -> *mut bindings::file_system_type {
        self.fs_type.get()
    }

    /// The type of a superblock.
    ///
    /// # Safety
    ///
    /// `sb` must be a valid superblock of `T`.
    pub(super) unsafe fn of<'a>(sb: *mut bindings::super_block) -> &'a Self {
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
    }
}

/// A filesystem type that users can mount. Dropping it takes the type back.
///
/// # Invariants
///
/// The filesystem type is registered.
pub(crate) struct Registration<T: Mountable>(KBox<FsType<T>>);

impl<T: Mountable> Registration<T> {
    /// Registers `T` for `module`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a filesystem of that name exists, `ENOMEM`.
    pub(crate) fn new(module: &'static ThisModule, shared: T::Shared) -> Result<Self> {
        let fs_type = FsType::<T>::new(
            module.as_ptr(),
            bindings::FS_ALLOW_IDMAP as i32,
            super::context::init_fs_context::<T>,
            shared,
        )?;
        // SAFETY: The structure is initialised, and lives unmoved until it is unregistered.
        to_result(unsafe { bindings::register_filesystem(fs_type.as_ptr()) })?;
        // INVARIANT: Registered just now.
        Ok(Self(fs_type))
    }
}

impl<T: Mountable> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is registered.
        // The module cannot go while there are superblocks of the type, for each holds its owner.
        unsafe { bindings::unregister_filesystem(self.0.as_ptr()) };
    }
}

/// A filesystem that is mounted once, inside the kernel: no path leads to it.
///
/// # Invariants
///
/// `mount` is the mount, and its superblock is one of `T`.
pub(crate) struct KernelMount<T: FileSystem> {
    mount: NonNull<bindings::vfsmount>,
    _fs_type: KBox<FsType<T>>,
    _p: PhantomData<T>,
}

// SAFETY: A mount may be used and put from any thread.
unsafe impl<T: FileSystem> Send for KernelMount<T> {}
// SAFETY: As above; what it gives out is `&SuperBlock<T>`, which is `Sync`.
unsafe impl<T: FileSystem> Sync for KernelMount<T> {}

impl<T: FileSystem<Super = ()>> KernelMount<T> {
    /// Mounts `T`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and what setting up the superblock's readahead can return.
    pub(crate) fn new(shared: T::Shared) -> Result<Self> {
        // Without an owner: the module takes the mount down when it goes, so it must be free to go.
        let fs_type = FsType::<T>::new(ptr::null_mut(), 0, init_pseudo_context::<T>, shared)?;
        // SAFETY: The type is initialised and outlives the mount, which is dropped before it.
        let mount = super::from_err_ptr(unsafe { bindings::kern_mount(fs_type.as_ptr()) })?;
        let this = Self {
            // SAFETY: `kern_mount` returns a mount or an error pointer.
            mount: unsafe { NonNull::new_unchecked(mount) },
            _fs_type: fs_type,
            _p: PhantomData,
        };
        // Without a backing device there would be no readahead.
        // SAFETY: The superblock is ours alone so far.
        to_result(unsafe { bindings::super_setup_bdi((*mount).mnt_sb) })?;
        Ok(this)
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::vfsmount {
        self.mount.as_ptr()
    }

    /// The mount's superblock.
    pub(crate) fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariants the mount and its superblock live as long as `self`, and
        // the superblock is one of `T`, whose data is `()`.
        unsafe { SuperBlock::from_raw((*self.mount.as_ptr()).mnt_sb) }
    }
}

impl<T: FileSystem> Drop for KernelMount<T> {
    fn drop(&mut self) {
        // SAFETY: The mount came from `kern_mount` and is put once. The type is dropped after this.
        unsafe { bindings::kern_unmount(self.mount.as_ptr()) };
    }
}

/// # Safety
///
/// Called by the VFS alone, for a type made by [`KernelMount::new`].
unsafe extern "C" fn init_pseudo_context<T: FileSystem>(fc: *mut bindings::raw_fs_context) -> i32 {
    // SAFETY: The VFS passes a valid context.
    let pseudo = unsafe { bindings::init_pseudo(fc.cast(), 0) };
    if pseudo.is_null() {
        return ENOMEM.to_errno();
    }
    // SAFETY: `init_pseudo` returns a valid structure that is ours to fill in.
    unsafe { (*pseudo).ops = ptr::from_ref(super_block::Operations::<T>::INTERNAL) };
    0
}
