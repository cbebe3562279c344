// SPDX-License-Identifier: GPL-2.0-only

//! How inodes are found and made.
//!
//! [`SuperBlock::inode`] looks an inode up by its key. If it is not cached it comes as a [`NewInode`], locked, for the
//! filesystem to initialise from disk.

use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::inode::Slot;
use crate::vfs::object::link_target::LinkTarget;
use crate::vfs::object::operations;
use crate::vfs::object::super_block::SuperBlock;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

impl<T: FileSystem> SuperBlock<T> {
    /// The inode for `key`, from the cache or new. `ino` is its number; it is hashed by `hash`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn inode(&self, hash: u64, ino: u64, key: T::Key) -> Result<Lookup<T>> {
        get(self, hash, ino, key)
    }
}

/// What [`SuperBlock::inode`] finds.
pub(crate) enum Lookup<T: FileSystem> {
    /// The inode was cached.
    Cached(ARef<Inode<T>>),
    /// It was not: this one waits to be initialised.
    New(NewInode<T>),
}

/// An inode that no one else can use before it is initialised. If it is dropped, it is taken out of
/// the cache, and those who wait for it look again.
///
/// # Invariants
///
/// `inode` is the inode of a [`Slot<T>`], hashed, locked as new, referenced once by `self`; the contents are
/// `None`.
pub(crate) struct NewInode<T: FileSystem> {
    inode: NonNull<bindings::inode>,
    _p: PhantomData<T>,
}

/// What an inode's stat(2) tells.
pub(crate) struct Attributes {
    /// Type and permissions, as `st_mode`.
    pub(crate) mode: u16,
    /// The owner, in the user namespace of the superblock.
    pub(crate) uid: u32,
    /// The group, in the user namespace of the superblock.
    pub(crate) gid: u32,
    /// The number of links.
    pub(crate) nlink: u32,
    /// Bytes.
    pub(crate) size: u64,
    /// Units of 512 bytes.
    pub(crate) blocks: u64,
    /// Seconds of the time of modification, which is that of change and access, too.
    pub(crate) mtime: i64,
    /// Nanoseconds of it.
    pub(crate) mtime_nsec: u32,
    /// Whether there may be access control lists.
    pub(crate) may_have_acl: bool,
}

/// What kind of object an inode is, and who serves it.
pub(crate) enum Kind<T: FileSystem> {
    /// A regular file.
    Regular(operations::Regular<T>),
    /// A directory.
    Directory(operations::Directory<T>),
    /// A symbolic link with its target.
    Symlink(operations::Symlink<T>, LinkTarget),
    /// A symbolic link whose target is in its page cache.
    CachedSymlink(operations::CachedSymlink<T>),
    /// A device with its number as new_encode_dev() gives it (0 for those without: fifo, socket).
    Special(operations::Special<T>, u32),
}

impl<T: FileSystem> NewInode<T> {
    pub(in crate::vfs) fn as_non_null(&self) -> NonNull<bindings::inode> {
        self.inode
    }

    /// Fills the inode in and lets others use it.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` for a size no file can have.
    pub(crate) fn init(
        self,
        attributes: &Attributes,
        kind: Kind<T>,
        data: T::Inode,
    ) -> Result<ARef<Inode<T>>> {
        let size = i64::try_from(attributes.size).map_err(|_| EOVERFLOW)?;
        let ptr = self.inode.as_ptr();
        // SAFETY: By the type invariants the inode is valid, and locked as new, so that no one else
        // looks at it.
        unsafe {
            (*ptr).i_mode = attributes.mode;
            bindings::vfs_helper_i_uid_write(ptr, attributes.uid);
            bindings::vfs_helper_i_gid_write(ptr, attributes.gid);
            bindings::set_nlink(ptr, attributes.nlink);
            (*ptr).i_size = size;
            (*ptr).i_blocks = attributes.blocks;
            bindings::vfs_helper_inode_set_times(
                ptr,
                attributes.mtime,
                attributes.mtime_nsec as isize,
            );
            // What NFS takes for the version where there is none. Regular files get another one when it is asked for.
            let seconds = attributes.mtime.unsigned_abs() << 30;
            bindings::vfs_helper_inode_set_iversion(
                ptr,
                seconds.wrapping_add(attributes.mtime_nsec.into()),
            );
        }
        if !attributes.may_have_acl {
            // SAFETY: As above.
            unsafe { bindings::vfs_helper_cache_no_acl(ptr) };
        }
        match kind {
            Kind::Regular(ops) => {
                // SAFETY: As above. The tables are static, and those of an inode of `T`.
                unsafe {
                    (*ptr).i_op = ops.inode;
                    (*ptr).__bindgen_anon_3.i_fop = ops.file;
                    (*ptr).i_data.a_ops = ops.mapping;
                    bindings::vfs_helper_mapping_set_large_folios(&raw mut (*ptr).i_data);
                    bindings::vfs_helper_mapping_set_no_highmem(&raw mut (*ptr).i_data);
                }
            }
            Kind::Directory(ops) => {
                // SAFETY: As above.
                unsafe {
                    (*ptr).i_op = ops.inode;
                    (*ptr).__bindgen_anon_3.i_fop = ops.file;
                    if let Some(mapping) = ops.mapping {
                        (*ptr).i_data.a_ops = mapping;
                        bindings::vfs_helper_mapping_set_no_highmem(&raw mut (*ptr).i_data);
                    }
                }
            }
            Kind::CachedSymlink(ops) => {
                // SAFETY: As above.
                unsafe {
                    (*ptr).i_op = ops.inode;
                    (*ptr).i_data.a_ops = ops.mapping;
                    // The target is read by its address.
                    bindings::vfs_helper_mapping_set_no_highmem(&raw mut (*ptr).i_data);
                }
            }
            Kind::Symlink(ops, target) => {
                let (target, len) = target.into_raw();
                // SAFETY: As above. The inode owns the target now: `Slot::free` frees it, after the
                // grace period that path walks rely on.
                unsafe {
                    (*ptr).i_op = ops.inode;
                    bindings::vfs_helper_inode_set_cached_link(ptr, target, len);
                }
            }
            Kind::Special(ops, dev) => {
                // SAFETY: As above; decoding a number has no requirements.
                unsafe {
                    (*ptr).i_op = ops.inode;
                    let dev = bindings::vfs_helper_new_decode_dev(dev);
                    bindings::init_special_inode(ptr, attributes.mode, dev);
                }
            }
        }
        Ok(self.finish(data))
    }

    /// Makes the inode a page cache, which nobody opens.
    pub(in crate::vfs) fn init_cache(
        self,
        ops: &operations::Cache<T>,
        size: u64,
        data: T::Inode,
    ) -> Result<ARef<Inode<T>>> {
        let size = i64::try_from(size).map_err(|_| EOVERFLOW)?;
        let ptr = self.inode.as_ptr();
        // SAFETY: As in `init`.
        unsafe {
            (*ptr).i_mode = (bindings::S_IFREG | 0o400) as bindings::umode_t;
            (*ptr).i_size = size;
            // It is no one's: security modules need not label it.
            (*ptr).i_flags |= bindings::VFS_CONST_S_PRIVATE;
            (*ptr).i_data.a_ops = ops.mapping;
            bindings::vfs_helper_mapping_set_large_folios(&raw mut (*ptr).i_data);
            // Readers get at the bytes by the folio's address.
            bindings::vfs_helper_mapping_set_no_highmem(&raw mut (*ptr).i_data);
        }
        Ok(self.finish(data))
    }

    fn finish(self, data: T::Inode) -> ARef<Inode<T>> {
        let this = ManuallyDrop::new(self);
        let ptr = this.inode.as_ptr();
        // SAFETY: By the type invariants no one else uses the slot, and its contents are `None`.
        unsafe { *(*ptr.cast::<Slot<T>>()).contents.get() = Some(data) };
        // SAFETY: The inode is locked as new, by this thread.
        unsafe { bindings::unlock_new_inode(ptr) };
        // INVARIANT: The data is set.
        // SAFETY: The reference that `self` had passes to the `ARef`.
        unsafe { ARef::from_raw(this.inode.cast()) }
    }
}

impl<T: FileSystem> Drop for NewInode<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is locked as new, and the reference is given up.
        unsafe { bindings::iget_failed(self.inode.as_ptr()) };
    }
}

/// Looks `key` up in the inode cache of `sb`.
fn get<T: FileSystem>(sb: &SuperBlock<T>, hash: u64, ino: u64, key: T::Key) -> Result<Lookup<T>> {
    let mut wanted = Wanted::<T> { ino, key };
    // SAFETY: The superblock is valid. The callbacks get inodes of this superblock, which are
    // slots of `T`, and `wanted`, which outlives the call. Inodes are freed a grace period after they are unhashed,
    // and their keys do not change, so they can be looked at under RCU.
    let ptr = unsafe {
        bindings::iget5_locked_rcu(
            sb.as_ptr(),
            hash,
            Some(Wanted::<T>::test),
            Some(Wanted::<T>::set),
            ptr::from_mut(&mut wanted).cast(),
        )
    };
    let inode = NonNull::new(ptr).ok_or(ENOMEM)?;
    // SAFETY: `iget5_locked_rcu` returned a referenced inode.
    if unsafe { bindings::vfs_helper_inode_is_new(ptr) } {
        // INVARIANT: A new inode is locked; its slot was made by `Slot::alloc` without data.
        Ok(Lookup::New(NewInode {
            inode,
            _p: PhantomData,
        }))
    } else {
        // INVARIANT: Not new means that `NewInode::finish` was called for it: inodes that fail
        // before are unhashed.
        // SAFETY: The reference passes to the `ARef`.
        Ok(Lookup::Cached(unsafe { ARef::from_raw(inode.cast()) }))
    }
}

/// What [`get`] looks for.
struct Wanted<T: FileSystem> {
    ino: u64,
    key: T::Key,
}

impl<T: FileSystem> Wanted<T> {
    /// # Safety
    ///
    /// `inode` must be the inode of a [`Slot<T>`] that is hashed, and `wanted` a `Wanted<T>`.
    unsafe extern "C" fn test(
        inode: *mut bindings::inode,
        wanted: *mut core::ffi::c_void,
    ) -> core::ffi::c_int {
        // SAFETY: By the safety requirements; the key is set before the inode is hashed, and
        // constant from then on, so it can be read even of an inode that is being evicted.
        let same = unsafe {
            (*inode.cast::<Slot<T>>()).key.assume_init_ref() == &(*wanted.cast::<Self>()).key
        };
        same.into()
    }

    /// # Safety
    ///
    /// `inode` must be the inode of a [`Slot<T>`] that is not hashed yet, and `wanted` a
    /// `Wanted<T>`.
    unsafe extern "C" fn set(
        inode: *mut bindings::inode,
        wanted: *mut core::ffi::c_void,
    ) -> core::ffi::c_int {
        // SAFETY: By the safety requirements no one else looks at the inode.
        unsafe {
            let wanted = &*wanted.cast::<Self>();
            (*inode).i_ino = wanted.ino;
            (*inode.cast::<Slot<T>>()).key.write(wanted.key);
        }
        0
    }
}
