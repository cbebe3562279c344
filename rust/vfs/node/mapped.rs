// SPDX-License-Identifier: GPL-2.0-only

//! Which pages a regular file is mapped from.
//!
//! That is decided when the file is first mapped, and does not change while its inode is cached. A file that is
//! one extent of one blob is mapped from the page cache of that range, which all who refer to the same bytes
//! share: its `i_mapping`, and the `f_mapping` of each open file that is mapped, lead there. The area's
//! `vm_file` stays the user's file, so security modules, IMA, advice, uprobes and /proc see what they see of
//! any file. Any other file is mapped from pages of its own inode.
//!
//! A file whose bytes are decoded is read from pages, too, so that is decided when it is first opened: they are those of all files
//! that are known to be equal, or its own.
//!
//! A filesystem has a [`Mapped`] in the data of each inode of a regular file; [`crate::vfs::node::file`] and
//! [`crate::vfs::node::decoded`] use it.

use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::kernel_mount::READAHEAD_UNSET;
use crate::vfs::pages::keeper::Keeper;
use crate::vfs::pages::range::RangeCache;
use crate::vfs::pages::range::RangeMount;
use core::ptr;
use kernel::prelude::*;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::Arc;

/// How many pages are read ahead of a mapping at the most, for a fault waits for all of them.
pub(in crate::vfs) const READAHEAD_MAX: u32 = 256;

/// What the choice is when it is that of the inode's own pages.
const OWN: *mut Range = ptr::without_provenance_mut(1);

/// Which pages a file is mapped from.
///
/// # Invariants
///
/// `choice` is null, [`OWN`], or a `KBox<Range>` turned into a pointer. It changes once, from null.
pub(crate) struct Mapped {
    choice: Atomic<*mut Range>,
    /// Which version of the backing files the inode's own pages are from; 0 before the first mapping.
    version: Atomic<u64>,
}

/// A range that a file is mapped from.
struct Range {
    cache: RangeCache,
    keeper: Arc<Keeper>,
}

impl Drop for Range {
    fn drop(&mut self) {
        // The inode of the file is shrinkable at any time, but pages that are in use must not go with it.
        self.keeper.keep(self.cache.place());
    }
}

impl Mapped {
    /// For a file that was not mapped yet.
    pub(crate) fn new() -> Self {
        Self {
            choice: Atomic::new(ptr::null_mut()),
            version: Atomic::new(0),
        }
    }

    /// The range that the file is mapped from, if it was mapped from one.
    pub(in crate::vfs) fn range(&self) -> Option<&RangeCache> {
        let choice = self.choice.load(Acquire);
        if choice.is_null() || choice == OWN {
            return None;
        }
        // SAFETY: By the type invariants it is a box, which stays as long as `self`.
        Some(unsafe { &(*choice).cache })
    }

    /// The same for a file that is being mapped: `find` is asked which range it is, unless that was decided.
    /// None for the inode's own pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of `find`; nothing is decided then.
    pub(in crate::vfs) fn choose(
        &self,
        mount: &RangeMount,
        find: impl FnOnce() -> Result<Option<RangeCache>>,
    ) -> Result<Option<&RangeCache>> {
        if self.choice.load(Acquire).is_null() {
            let new = match find()? {
                Some(cache) => {
                    let keeper = mount.keeper().clone();
                    KBox::into_raw(KBox::new(Range { cache, keeper }, GFP_KERNEL)?)
                }
                None => OWN,
            };
            // INVARIANT: A box, or `OWN`, in place of null.
            if self.choice.cmpxchg(ptr::null_mut(), new, Full).is_err() && new != OWN {
                // Another mapping was faster.
                // SAFETY: It is the box of above, and no one else has it.
                drop(unsafe { KBox::from_raw(new) });
            }
        }
        Ok(self.range())
    }

    /// Notes which version of the backing files the inode's own pages are from, from now on. Whether they may
    /// be from another one so far.
    pub(in crate::vfs) fn set_version(&self, version: u64) -> bool {
        let before = self.version.xchg(version, Full);
        before != 0 && before != version
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let choice = self.choice.xchg(ptr::null_mut(), Full);
        if !choice.is_null() && choice != OWN {
            // SAFETY: By the type invariants it is a box, and no one can have a reference any more.
            drop(unsafe { KBox::from_raw(choice) });
        }
    }
}

/// Has `inode`, and its open `file`, lead to the pages of `range`.
///
/// # Safety
///
/// `file` must be an open file of `inode`, and `range` what its [`Mapped`] has chosen.
pub(in crate::vfs) unsafe fn lead_to<T: FileSystem>(
    range: &RangeCache,
    inode: &Inode<T>,
    file: *mut bindings::file,
) {
    let mapping = range.mapping();
    // SAFETY: Both are valid. Whoever reads these pointers at the same time gets the one or the other mapping,
    // each of which is valid as long as the inode is: it holds the range. The areas of a file are in the `i_mmap`
    // of its `f_mapping`, which must not change while there is one. It does not: there is none before the first
    // call of this, since each area's file was passed to it before the area was put there, and later calls
    // find the mapping set.
    unsafe {
        let mappings = [
            &raw mut (*inode.as_ptr()).i_mapping,
            &raw mut (*file).f_mapping,
        ];
        for at in mappings {
            if at.read_volatile() != mapping {
                at.write_volatile(mapping);
            }
        }
    }
}

/// How many pages are read ahead for `file`: as was said, or `times` as many as the device's.
///
/// # Safety
///
/// `file` must be an open file of `inode`.
pub(in crate::vfs) unsafe fn readahead_pages<T: FileSystem>(
    inode: &Inode<T>,
    file: *mut bindings::file,
    times: usize,
) -> u32 {
    // SAFETY: The file is open. Others may set this at any time. The mapping is that of an inode in use.
    unsafe {
        match (&raw const (*file).__bindgen_anon_3.f_ra.ra_pages).read_volatile() {
            READAHEAD_UNSET.. => {
                let pages = bindings::vfs_helper_readahead_pages(inode.mapping());
                pages.saturating_mul(times).try_into().unwrap_or(u32::MAX)
            }
            set => set,
        }
    }
}

/// Has so many pages read ahead for `file`, as far as that may be.
///
/// # Safety
///
/// `file` must be open.
pub(in crate::vfs) unsafe fn set_readahead(file: *mut bindings::file, pages: u32) {
    // SAFETY: The file is open. Others may set this at any time, too.
    unsafe {
        (&raw mut (*file).__bindgen_anon_3.f_ra.ra_pages).write_volatile(pages.min(READAHEAD_MAX))
    };
}
