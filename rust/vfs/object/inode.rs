// SPDX-License-Identifier: GPL-2.0-only

//! `struct inode`: an inode with the filesystem's data beside it, and its memory. [`crate::vfs::object::new_inode`] makes
//! them.

use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::fs_type::FsType;
use crate::vfs::object::super_block::SuperBlock;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::sync::aref::ARef;
use kernel::sync::aref::AlwaysRefCounted;
use kernel::types::Opaque;

/// An inode whose data is set.
///
/// # Invariants
///
/// The `contents` of the slot are `Some`, and stay so while the inode is referenced.
#[repr(transparent)]
pub(crate) struct Inode<T: FileSystem>(Slot<T>);

// SAFETY: What is reached through a reference is constant, or `Sync` data, or guarded by the VFS's
// own locks; the last reference may be dropped on any thread that can sleep.
unsafe impl<T: FileSystem> Send for Inode<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

// SAFETY: `ihold` and `iput` count references to the inode, which lives while there are any.
unsafe impl<T: FileSystem> AlwaysRefCounted for Inode<T> {
    fn inc_ref(&self) {
        // SAFETY: The existence of `&self` means that the count is not zero.
        unsafe { bindings::ihold(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller owns a reference and gives it up.
        unsafe { bindings::iput(obj.cast().as_ptr()) };
    }
}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `inode` must be valid for `'a` and meet the type invariants.
    pub(in crate::vfs) unsafe fn from_raw<'a>(inode: *mut bindings::inode) -> &'a Self {
        // SAFETY: By the safety requirements, and the type is transparent.
        unsafe { &*inode.cast::<Self>() }
    }

    pub(in crate::vfs) fn as_ptr(&self) -> *mut bindings::inode {
        self.0.inode.get()
    }

    /// The filesystem's data of this inode.
    pub(crate) fn data(&self) -> &T::Inode {
        // SAFETY: By the type invariants it is set, and not written to while referenced.
        unsafe { (*self.0.contents.get()).as_ref().unwrap_unchecked() }
    }

    /// The superblock it belongs to.
    pub(crate) fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: `i_sb` is constant, and the superblock outlives its inodes. An inode with data
        // exists only on a superblock that is ready.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// Its number.
    pub(in crate::vfs) fn number(&self) -> u64 {
        // SAFETY: The inode is valid, and its number constant.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// The file's size in bytes.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: The inode is valid. Sizes are set once and never negative.
        unsafe { bindings::vfs_helper_i_size_read(self.as_ptr()) }.unsigned_abs()
    }

    pub(in crate::vfs) fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: `i_data` is part of the inode; its address alone is taken.
        unsafe { &raw mut (*self.as_ptr()).i_data }
    }
}

/// Gives up a reference without dropping it: the C code that gets the pointer owns it.
pub(in crate::vfs) trait IntoRaw {
    /// The inode's pointer, with the reference.
    fn into_raw(self) -> *mut bindings::inode;
}

impl<T: FileSystem> IntoRaw for ARef<Inode<T>> {
    fn into_raw(self) -> *mut bindings::inode {
        ARef::into_raw(self).cast().as_ptr()
    }
}

/// An object of the inode slab cache.
///
/// # Invariants
///
/// - `key` is set when the inode is hashed.
/// - `contents` are written only while the inode is new, and when it is evicted; nobody has a
///   reference to them then.
#[repr(C)]
pub(in crate::vfs) struct Slot<T: FileSystem> {
    // First, so that a pointer to it is a pointer to the whole.
    inode: Opaque<bindings::inode>,
    pub(in crate::vfs) key: MaybeUninit<T::Key>,
    /// The filesystem's data, from the inode's initialisation to its eviction.
    pub(in crate::vfs) contents: UnsafeCell<Option<T::Inode>>,
}

impl<T: FileSystem> Slot<T> {
    /// Makes an inode in fresh memory of the slab cache.
    ///
    /// # Safety
    ///
    /// Called by the slab allocator, for memory of the size of `Self`.
    pub(in crate::vfs) unsafe extern "C" fn construct(object: *mut core::ffi::c_void) {
        // SAFETY: By the safety requirements; the inode is the first member.
        unsafe { bindings::inode_init_once(object.cast()) };
    }

    /// # Safety
    ///
    /// Called by the VFS, for a superblock of `T`.
    pub(in crate::vfs) unsafe extern "C" fn alloc(
        sb: *mut bindings::super_block,
    ) -> *mut bindings::inode {
        // SAFETY: By the safety requirements.
        let cache = unsafe { FsType::<T>::of(sb) }.inode_cache;
        // SAFETY: Both are valid, and the cache is one for `Self`.
        let inode = unsafe { bindings::vfs_helper_alloc_inode(sb, cache.as_ptr()) };
        if !inode.is_null() {
            // SAFETY: The memory is that of a slot, and new.
            unsafe { (&raw mut (*inode.cast::<Self>()).contents).write(UnsafeCell::new(None)) };
        }
        inode
    }

    /// Drops the data: the last reference is gone. Path walks under RCU may still look at the inode
    /// itself and at a link's target, but never at the data.
    ///
    /// # Safety
    ///
    /// Called by the VFS, for an inode made by [`Self::alloc`].
    pub(in crate::vfs) unsafe extern "C" fn evict(inode: *mut bindings::inode) {
        // SAFETY: By the safety requirements.
        unsafe {
            bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
            bindings::clear_inode(inode);
            // It may lead to what the data holds.
            (*inode).i_mapping = &raw mut (*inode).i_data;
        }
        // SAFETY: By the safety requirements it is a slot, and no one has a reference any more.
        drop(unsafe { (*(*inode.cast::<Self>()).contents.get()).take() });
    }

    /// Whether an inode without users is to be evicted: unless the filesystem keeps it.
    ///
    /// # Safety
    ///
    /// Called by the VFS, for an inode made by [`Self::alloc`] whose last reference goes.
    pub(in crate::vfs) unsafe extern "C" fn drop_unless_kept(
        inode: *mut bindings::inode,
    ) -> core::ffi::c_int {
        // SAFETY: By the safety requirements; the contents are not written to before eviction.
        let contents = unsafe { &*(*inode.cast::<Self>()).contents.get() };
        if contents.as_ref().is_some_and(T::is_kept) {
            // SAFETY: As above.
            unsafe { bindings::vfs_helper_inode_generic_drop(inode) }
        } else {
            1
        }
    }

    /// Frees the memory, a grace period after eviction.
    ///
    /// # Safety
    ///
    /// Called by the VFS, for an inode made by [`Self::alloc`].
    pub(in crate::vfs) unsafe extern "C" fn free(inode: *mut bindings::inode) {
        // SAFETY: The inode is not in use any more. A link's target belongs to it: only
        // `NewInode::init` sets one, and only for symbolic links.
        unsafe {
            if u32::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFLNK {
                bindings::kfree((*inode).__bindgen_anon_5.i_link.cast());
            }
        }
        // SAFETY: It is an object of a slab cache, and `kfree` takes these; its superblock, which
        // would lead to the cache, may be gone by now.
        unsafe { bindings::kfree(inode.cast()) };
    }
}
