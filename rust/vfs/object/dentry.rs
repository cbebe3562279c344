// SPDX-License-Identifier: GPL-2.0-only

//! `struct dentry`, as a directory's lookup gets it: a name that waits for its inode.

use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::inode::IntoRaw;
use core::marker::PhantomData;
use core::ptr;
use kernel::sync::aref::ARef;

/// A name that is being looked up. [`LookupDentry::splice`] uses it up, for the name is stable only
/// until then.
///
/// # Invariants
///
/// `dentry` is a dentry in lookup, whose parent directory is locked (shared at least) for `'a`.
pub(crate) struct LookupDentry<'a, T: FileSystem> {
    dentry: *mut bindings::dentry,
    _p: PhantomData<&'a Inode<T>>,
}

/// Proof that a name was answered: what a lookup returns.
pub(crate) struct Spliced(pub(in crate::vfs) *mut bindings::dentry);

impl<T: FileSystem> LookupDentry<'_, T> {
    /// # Safety
    ///
    /// `dentry` must meet the type invariants.
    pub(in crate::vfs) unsafe fn from_raw(dentry: *mut bindings::dentry) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            dentry,
            _p: PhantomData,
        }
    }

    /// The name, without a NUL.
    pub(crate) fn name(&self) -> &[u8] {
        // SAFETY: By the type invariants the name does not change, and is valid for its length.
        unsafe {
            let name = &(*self.dentry).__bindgen_anon_1.d_name;
            let len = name.__bindgen_anon_1.__bindgen_anon_1.len;
            core::slice::from_raw_parts(name.name, len as usize)
        }
    }

    /// Ties the name to an inode, or notes that there is none.
    ///
    /// If the inode is a directory that has a name elsewhere already (in a damaged image), the VFS
    /// decides what happens: it moves the tree, or fails with `ELOOP`.
    pub(crate) fn splice(self, inode: Option<ARef<Inode<T>>>) -> Spliced {
        let inode = inode.map_or(ptr::null_mut(), IntoRaw::into_raw);
        // SAFETY: The dentry is in lookup, and the reference to the inode is taken over. The
        // result, a dentry or null or an error pointer, is what the VFS wants back from a lookup.
        Spliced(unsafe { bindings::d_splice_alias(inode, self.dentry) })
    }
}
