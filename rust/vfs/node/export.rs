// SPDX-License-Identifier: GPL-2.0-only

//! `struct export_operations`: handles of files that outlive their dentries, for the NFS server,
//! open_by_handle_at(2), and overlayfs, which keeps inode numbers over a copy-up by them.
//!
//! A handle is the number of an inode, and of its directory where that is wanted, each with what
//! tells this superblock from others: a handle from another image is stale.

use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::inode::IntoRaw;
use crate::vfs::object::super_block::SuperBlock;
use core::ffi::c_int;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

/// A filesystem whose inodes are found again by their numbers.
pub(crate) trait Export: FileSystem {
    /// The inode of a number: one that an inode of the superblock had, or any other.
    fn inode(sb: &SuperBlock<Self>, number: u64) -> Result<ARef<Inode<Self>>>;

    /// The directory that a directory is in.
    fn parent(dir: &Inode<Self>) -> Result<ARef<Inode<Self>>>;
}

/// The words that stand for an inode in a handle: the halves of its number, and a generation.
const WORDS: usize = 3;

/// The table for superblocks of `T`.
pub(in crate::vfs) struct Operations<T: Export>(PhantomData<T>);

impl<T: Export> Operations<T> {
    /// The table itself.
    pub(in crate::vfs) const TABLE: &'static bindings::export_operations =
        &bindings::export_operations {
            encode_fh: Some(Self::encode_fh),
            fh_to_dentry: Some(Self::fh_to_dentry),
            fh_to_parent: Some(Self::fh_to_parent),
            get_parent: Some(Self::get_parent),
            // SAFETY: All members may be zero: no functions, no flags.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        };

    /// What tells the superblock from others.
    ///
    /// # Safety
    ///
    /// `sb` must be a valid superblock.
    unsafe fn generation(sb: *mut bindings::super_block) -> u32 {
        // SAFETY: By the safety requirements; set before it was ready, and constant since.
        let uuid = unsafe { (*sb).s_uuid.b };
        uuid.chunks_exact(4)
            .filter_map(|word| word.try_into().ok())
            .fold(0, |sum, word| sum ^ u32::from_le_bytes(word))
    }

    /// # Safety
    ///
    /// Called by the VFS, for an inode of `T` and its directory or null; `handle` has room for
    /// `*words` words.
    unsafe extern "C" fn encode_fh(
        inode: *mut bindings::inode,
        handle: *mut u32,
        words: *mut c_int,
        parent: *mut bindings::inode,
    ) -> c_int {
        let (wanted, kind) = if parent.is_null() {
            (WORDS, bindings::fid_type_FILEID_INO64_GEN)
        } else {
            (2 * WORDS, bindings::fid_type_FILEID_INO64_GEN_PARENT)
        };
        // SAFETY: By the safety requirements.
        unsafe {
            let room = *words;
            *words = wanted as c_int;
            if room < wanted as c_int {
                return bindings::fid_type_FILEID_INVALID as c_int;
            }
            let generation = Self::generation((*inode).i_sb);
            for (index, inode) in [inode, parent].into_iter().enumerate() {
                if !inode.is_null() {
                    let ino = (*inode).i_ino;
                    let entry = [(ino >> 32) as u32, ino as u32, generation];
                    handle
                        .add(index * WORDS)
                        .cast::<[u32; WORDS]>()
                        .write_unaligned(entry);
                }
            }
        }
        kind as c_int
    }

    /// The dentry for the inode at a place in a handle: 0 is the file, 1 its directory. Null if the
    /// handle is not one of this superblock.
    ///
    /// # Safety
    ///
    /// `sb` must be a superblock of `T` that is ready, and `handle` one of `words` words.
    unsafe fn dentry(
        sb: *mut bindings::super_block,
        handle: *const u32,
        words: c_int,
        place: usize,
    ) -> *mut bindings::dentry {
        if usize::try_from(words).unwrap_or(0) < (place + 1) * WORDS {
            return core::ptr::null_mut();
        }
        // SAFETY: By the safety requirements there are that many words.
        let [high, low, generation] = unsafe {
            let entry = handle.add(place * WORDS).cast::<[u32; WORDS]>();
            entry.read_unaligned()
        };
        // SAFETY: By the safety requirements.
        if generation != unsafe { Self::generation(sb) } {
            return core::ptr::null_mut();
        }
        let number = u64::from(high) << 32 | u64::from(low);
        // SAFETY: By the safety requirements.
        obtain(T::inode(unsafe { SuperBlock::from_raw(sb) }, number))
    }

    /// # Safety
    ///
    /// Called by the VFS, for a superblock of `T` and a handle of `words` words.
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut bindings::super_block,
        handle: *mut bindings::fid,
        words: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        if kind != bindings::fid_type_FILEID_INO64_GEN as c_int
            && kind != bindings::fid_type_FILEID_INO64_GEN_PARENT as c_int
        {
            return core::ptr::null_mut();
        }
        // SAFETY: That is what the VFS passes.
        unsafe { Self::dentry(sb, handle.cast(), words, 0) }
    }

    /// # Safety
    ///
    /// Called by the VFS, for a superblock of `T` and a handle of `words` words.
    unsafe extern "C" fn fh_to_parent(
        sb: *mut bindings::super_block,
        handle: *mut bindings::fid,
        words: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        if kind != bindings::fid_type_FILEID_INO64_GEN_PARENT as c_int {
            return core::ptr::null_mut();
        }
        // SAFETY: That is what the VFS passes.
        unsafe { Self::dentry(sb, handle.cast(), words, 1) }
    }

    /// # Safety
    ///
    /// Called by the VFS, for the dentry of a directory of `T`.
    unsafe extern "C" fn get_parent(child: *mut bindings::dentry) -> *mut bindings::dentry {
        // SAFETY: The VFS passes a referenced dentry with an inode.
        obtain(T::parent(unsafe { Inode::from_raw((*child).d_inode) }))
    }
}

/// A dentry for an inode, or an error pointer.
fn obtain<T: FileSystem>(inode: Result<ARef<Inode<T>>>) -> *mut bindings::dentry {
    match inode {
        // SAFETY: The reference to the inode is taken over, also when it fails.
        Ok(inode) => unsafe { bindings::d_obtain_alias(IntoRaw::into_raw(inode)) },
        Err(error) => error.to_ptr(),
    }
}
