// SPDX-License-Identifier: GPL-2.0-only

//! `struct inode`: an inode with the filesystem's data beside it, and the way a new one is made.
//!
//! [`SuperBlock::inode`](super::super_block::SuperBlock::inode) looks an inode up by its key. If it
//! is not cached it comes as a [`NewInode`], locked, for the filesystem to initialise from disk.

use super::bindings;
use super::dir;
use super::errno::ENAMETOOLONG;
use super::errno::EUCLEAN;
use super::extent::Extents;
use super::file;
use super::fs_type::FileSystem;
use super::fs_type::FsType;
use super::page_cache;
use super::super_block::SuperBlock;
use super::xattr;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use kernel::ffi::c_char;
use kernel::prelude::*;
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
    pub(super) unsafe fn from_raw<'a>(inode: *mut bindings::inode) -> &'a Self {
        // SAFETY: By the safety requirements, and the type is transparent.
        unsafe { &*inode.cast::<Self>() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::inode {
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

    /// The file's size in bytes.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: The inode is valid. Sizes are set once and never negative.
        unsafe { bindings::vfs_helper_i_size_read(self.as_ptr()) }.unsigned_abs()
    }

    pub(super) fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: `i_data` is part of the inode; its address alone is taken.
        unsafe { &raw mut (*self.as_ptr()).i_data }
    }
}

/// Gives up a reference without dropping it: the C code that gets the pointer owns it.
pub(super) trait IntoRaw {
    /// The inode's pointer, with the reference.
    fn into_raw(self) -> *mut bindings::inode;
}

impl<T: FileSystem> IntoRaw for ARef<Inode<T>> {
    fn into_raw(self) -> *mut bindings::inode {
        ARef::into_raw(self).cast().as_ptr()
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
    Regular(file::Operations<T>),
    /// A directory.
    Directory(dir::Operations<T>),
    /// A symbolic link with its target.
    Symlink(LinkTarget),
    /// A device with its number as new_encode_dev() gives it (0 for those without: fifo, socket).
    Special(u32),
}

/// The target of a symbolic link, ended by a NUL, in memory that an inode can own.
///
/// # Invariants
///
/// `target` was allocated by `kmalloc`, and holds `len` bytes and a NUL.
pub(crate) struct LinkTarget {
    target: NonNull<c_char>,
    len: i32,
}

impl LinkTarget {
    /// Copies a target. It must not be empty, and hold no NUL.
    ///
    /// # Errors
    ///
    /// `EUCLEAN` for a target that is no target, `ENOMEM`.
    pub(crate) fn new(target: &[u8]) -> Result<Self> {
        if target.is_empty() || target.contains(&0) {
            return Err(EUCLEAN);
        }
        let len = i32::try_from(target.len()).map_err(|_| ENAMETOOLONG)?;
        // SAFETY: The slice is valid for its length.
        let copy =
            unsafe { bindings::vfs_helper_kmemdup_nul(target.as_ptr().cast(), target.len()) };
        // INVARIANT: That is what `kmemdup_nul` returns.
        Ok(Self {
            target: NonNull::new(copy).ok_or(ENOMEM)?,
            len,
        })
    }
}

impl Drop for LinkTarget {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, and not freed before.
        unsafe { bindings::kfree(self.target.as_ptr().cast()) };
    }
}

impl<T: FileSystem> NewInode<T> {
    pub(super) fn as_non_null(&self) -> NonNull<bindings::inode> {
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
                }
            }
            Kind::Directory(ops) => {
                // SAFETY: As above.
                unsafe {
                    (*ptr).i_op = ops.inode;
                    (*ptr).__bindgen_anon_3.i_fop = ops.file;
                }
            }
            Kind::Symlink(target) => {
                let target = ManuallyDrop::new(target);
                // SAFETY: As above. The inode owns the target now: `Slot::free` frees it, after the
                // grace period that path walks rely on.
                unsafe {
                    (*ptr).i_op = Operations::<T>::LINK_TABLE;
                    bindings::vfs_helper_inode_set_cached_link(
                        ptr,
                        target.target.as_ptr(),
                        target.len,
                    );
                }
            }
            Kind::Special(dev) => {
                // SAFETY: As above; decoding a number has no requirements.
                unsafe {
                    (*ptr).i_op = Operations::<T>::TABLE;
                    let dev = bindings::vfs_helper_new_decode_dev(dev);
                    bindings::init_special_inode(ptr, attributes.mode, dev);
                }
            }
        }
        Ok(self.finish(data))
    }

    /// Makes the inode a page cache for its own extents, which nobody opens.
    pub(super) fn init_cache<E: Extents<FileSystem = T>>(
        self,
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
            (*ptr).i_data.a_ops = page_cache::Operations::<E>::TABLE;
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

/// Looks `key` up in the inode cache of `sb`. See [`SuperBlock::inode`].
pub(super) fn get<T: FileSystem>(
    sb: &SuperBlock<T>,
    hash: u64,
    ino: u64,
    key: T::Key,
) -> Result<Lookup<T>> {
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

/// An object of the inode slab cache.
///
/// # Invariants
///
/// - `key` is set when the inode is hashed.
/// - `contents` are written only while the inode is new, and when it is evicted; nobody has a
///   reference to them then.
#[repr(C)]
pub(super) struct Slot<T: FileSystem> {
    // First, so that a pointer to it is a pointer to the whole.
    inode: Opaque<bindings::inode>,
    key: MaybeUninit<T::Key>,
    /// The filesystem's data, from the inode's initialisation to its eviction.
    contents: UnsafeCell<Option<T::Inode>>,
}

impl<T: FileSystem> Slot<T> {
    /// Makes an inode in fresh memory of the slab cache.
    ///
    /// # Safety
    ///
    /// Called by the slab allocator, for memory of the size of `Self`.
    pub(super) unsafe extern "C" fn construct(object: *mut core::ffi::c_void) {
        // SAFETY: By the safety requirements; the inode is the first member.
        unsafe { bindings::inode_init_once(object.cast()) };
    }

    /// # Safety
    ///
    /// Called by the VFS, for a superblock of `T`.
    pub(super) unsafe extern "C" fn alloc(sb: *mut bindings::super_block) -> *mut bindings::inode {
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
    pub(super) unsafe extern "C" fn evict(inode: *mut bindings::inode) {
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
    pub(super) unsafe extern "C" fn drop_unless_kept(
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
    pub(super) unsafe extern "C" fn free(inode: *mut bindings::inode) {
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

/// The `struct inode_operations` of symbolic links, devices, fifos and sockets.
struct Operations<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    const TABLE: &'static bindings::inode_operations = &bindings::inode_operations {
        getattr: Some(getattr),
        listxattr: Some(xattr::Table::<T>::listxattr),
        get_inode_acl: Some(xattr::Table::<T>::get_inode_acl),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    const LINK_TABLE: &'static bindings::inode_operations = &bindings::inode_operations {
        get_link: Some(bindings::simple_get_link),
        getattr: Some(getattr),
        listxattr: Some(xattr::Table::<T>::listxattr),
        // SAFETY: As above.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };
}

/// Tells an inode's attributes: nothing on a read-only filesystem can be changed.
///
/// # Safety
///
/// Called by the VFS, with what it passes to `getattr`.
pub(super) unsafe extern "C" fn getattr(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request_mask: u32,
    _query_flags: u32,
) -> core::ffi::c_int {
    // SAFETY: By the safety requirements.
    unsafe {
        let inode = (*(*path).dentry).d_inode;
        (*stat).attributes |= u64::from(bindings::STATX_ATTR_IMMUTABLE);
        // No data is compressed, which is known as well.
        (*stat).attributes_mask |=
            u64::from(bindings::STATX_ATTR_IMMUTABLE | bindings::STATX_ATTR_COMPRESSED);
        bindings::generic_fillattr(idmap, request_mask, inode, stat);
    }
    0
}
