// SPDX-License-Identifier: GPL-2.0-only

//! Folios that nobody waits for yet, filled by a worker, so that who begins to read ahead goes on with what is there.
//! [`crate::vfs::pages::page_cache`] and [`crate::vfs::pages::decode`] hand over what they were told is behind what is waited for.

use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::folio_batch::FolioBatch;
use crate::vfs::workers::Workers;
use core::ptr::NonNull;
use kernel::error::Result;
use kernel::sync::aref::ARef;

/// How a batch of an inode's folios is filled.
pub(in crate::vfs) type Fill<T> = fn(&Inode<T>, &mut FolioBatch) -> Result;

/// Folios that are filled later.
///
/// # Invariants
///
/// The batch is not empty, and has folios of the inode's own mapping, unless the inode is kept.
struct Later<T: FileSystem> {
    inode: NonNull<Inode<T>>,
    batch: FolioBatch,
    fill: Fill<T>,
    kept: Option<ARef<Inode<T>>>,
}

// SAFETY: Folios may be unlocked by another task than the one that locked them, and inodes used by any.
unsafe impl<T: FileSystem> Send for Later<T> {}

impl<T: FileSystem> Later<T> {
    fn fill(mut self) {
        // SAFETY: By the type invariants there is a locked folio. Evicting an inode waits for its folios' locks, and until
        // then its data and superblock stay. They are not used after the folios are unlocked. An inode that is kept stays
        // anyway, and its superblock until this is done, by the safety requirements of `fill_later`.
        let filled = (self.fill)(unsafe { self.inode.as_ref() }, &mut self.batch);
        self.batch.end_read(filled.is_ok());
        drop(self.kept);
    }
}

/// Has a worker fill the folios of a batch. If it is forgotten, or fails, they count as failed, and are read when they are
/// wanted.
///
/// # Safety
///
/// The batch must not be empty, and its folios must be in the inode's own mapping, or `is_elsewhere` be set. Then the workers must
/// be waited for before the inode's superblock goes ([`FileSystem::leaving`]).
pub(in crate::vfs) unsafe fn fill_later<T: FileSystem>(
    workers: &Workers,
    inode: &Inode<T>,
    is_elsewhere: bool,
    batch: FolioBatch,
    fill: Fill<T>,
) {
    // INVARIANT: By the safety requirements.
    let work = Later {
        inode: NonNull::from(inode),
        batch,
        fill,
        kept: is_elsewhere.then(|| ARef::from(inode)),
    };
    workers.later(move || work.fill());
}
