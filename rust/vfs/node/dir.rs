// SPDX-License-Identifier: GPL-2.0-only

//! Directories: `struct dir_context` and the operations that look names up and list them.

use crate::vfs::bindings;
use crate::vfs::node::decoded;
use crate::vfs::node::getattr::compressed_getattr;
use crate::vfs::node::getattr::getattr;
use crate::vfs::node::ioctl;
use crate::vfs::node::ioctl::Label;
use crate::vfs::node::layout;
use crate::vfs::node::xattr;
use crate::vfs::node::xattr::Xattrs;
use crate::vfs::object::dentry::LookupDentry;
use crate::vfs::object::dentry::Spliced;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::operations;
use crate::vfs::pages::cluster::Clusters;
use crate::vfs::pages::decode;
use crate::vfs::pages::extent::Extents;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::error::from_result;
use kernel::prelude::*;

/// What a directory can do.
pub(crate) trait Directory {
    /// The filesystem whose directories these are.
    type FileSystem: Xattrs + Label;

    /// Knows where its bytes lie.
    type Data: Extents<FileSystem = Self::FileSystem>;

    /// Looks a name up in `dir`.
    fn lookup(
        dir: &Inode<Self::FileSystem>,
        dentry: LookupDentry<'_, Self::FileSystem>,
    ) -> Result<Spliced>;

    /// Lists `dir` from the emitter's position on, until it is full or the directory ends.
    fn iterate(dir: &Inode<Self::FileSystem>, emitter: &mut Emitter<'_>) -> Result;
}

/// The operations of directories that do what `D` says.
pub(crate) const fn operations<D: Directory>() -> operations::Directory<D::FileSystem> {
    operations::Directory {
        inode: Table::<D>::INODE,
        file: Table::<D>::FILE,
        mapping: None,
        _p: PhantomData,
    }
}

/// The same of directories whose entries are decoded as `C` knows.
pub(crate) const fn decoded<D: Directory, C: Clusters<FileSystem = D::FileSystem>>(
) -> operations::Directory<D::FileSystem> {
    operations::Directory {
        inode: Decoded::<D, C>::INODE,
        file: Table::<D>::FILE,
        mapping: Some(decode::Operations::<C>::TABLE),
        _p: PhantomData,
    }
}

/// Where the entries of a directory go.
///
/// # Invariants
///
/// `context` is a valid `struct dir_context` that this thread alone uses for `'a`.
pub(crate) struct Emitter<'a> {
    context: NonNull<bindings::dir_context>,
    _p: PhantomData<&'a mut ()>,
}

impl Emitter<'_> {
    /// The position to go on from: what telldir(3) gave for it.
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: By the type invariants. The VFS lets no negative position in.
        unsafe { self.context.as_ref() }.pos.unsigned_abs()
    }

    /// Sets the position of the next entry.
    pub(crate) fn set_position(&mut self, position: u64) {
        // SAFETY: By the type invariants.
        unsafe { self.context.as_mut() }.pos = i64::try_from(position).unwrap_or(i64::MAX);
    }

    /// Hands out an entry; `file_type` is an `FT_*` number as on disk. False if there was no room.
    pub(crate) fn emit(&mut self, name: &[u8], ino: u64, file_type: u8) -> bool {
        let Ok(len) = i32::try_from(name.len()) else {
            return false;
        };
        // SAFETY: By the type invariants, and the name is valid for its length.
        unsafe {
            bindings::vfs_helper_dir_emit(
                self.context.as_ptr(),
                name.as_ptr().cast(),
                len,
                ino,
                file_type.into(),
            )
        }
    }

    /// Whether the listing task is being killed, so that a long listing should end.
    pub(crate) fn interrupted(&self) -> bool {
        // SAFETY: Both look at the current task only; directories are listed where one may sleep.
        unsafe {
            bindings::vfs_helper_cond_resched();
            bindings::vfs_helper_fatal_signal_pending()
        }
    }
}

struct Decoded<D: Directory, C: Clusters>(PhantomData<(D, C)>);

impl<D: Directory, C: Clusters<FileSystem = D::FileSystem>> Decoded<D, C> {
    const INODE: &'static bindings::inode_operations = &bindings::inode_operations {
        getattr: Some(compressed_getattr),
        fiemap: Some(decoded::fiemap::<C>),
        ..*Table::<D>::INODE
    };
}

struct Table<D: Directory>(PhantomData<D>);

impl<D: Directory> Table<D> {
    const INODE: &'static bindings::inode_operations = &bindings::inode_operations {
        lookup: Some(Self::lookup),
        getattr: Some(getattr),
        fiemap: Some(layout::fiemap::<D::Data>),
        listxattr: Some(xattr::Table::<D::FileSystem>::listxattr),
        get_inode_acl: Some(xattr::Table::<D::FileSystem>::get_inode_acl),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    const FILE: &'static bindings::file_operations = &bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        unlocked_ioctl: Some(ioctl::ioctl::<D::FileSystem>),
        compat_ioctl: bindings::compat_ptr_ioctl,
        setlease: Some(bindings::generic_setlease),
        // SAFETY: The other members may be zero: no owner, no flags, no functions.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// # Safety
    ///
    /// Called by the VFS, for a directory of `D::FileSystem`.
    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: u32,
    ) -> *mut bindings::dentry {
        // SAFETY: The VFS passes a directory that it holds locked, and a dentry in lookup.
        let (dir, dentry) = unsafe {
            (
                Inode::<D::FileSystem>::from_raw(dir),
                LookupDentry::from_raw(dentry),
            )
        };
        match D::lookup(dir, dentry) {
            Ok(spliced) => spliced.0,
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open directory of `D::FileSystem`.
    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        context: *mut bindings::dir_context,
    ) -> i32 {
        // SAFETY: The VFS passes an open file, whose inode stays while it is open.
        let dir = unsafe { Inode::<D::FileSystem>::from_raw((*file).f_inode) };
        // INVARIANT: The context is the caller's for the length of the call.
        let mut emitter = Emitter {
            // SAFETY: The VFS passes a valid pointer.
            context: unsafe { NonNull::new_unchecked(context) },
            _p: PhantomData,
        };
        from_result(|| {
            D::iterate(dir, &mut emitter)?;
            Ok(0)
        })
    }
}
