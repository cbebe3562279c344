// SPDX-License-Identifier: GPL-2.0-only

//! `struct address_space_operations`: fills the page cache of an inode from where its extents lie.
//!
//! A run of folios is filled together, one read of a backing file for each extent in it, so that
//! chunks that touch become one request and those of different files never do. If any part fails
//! the whole run counts as not read; the page cache then asks for each folio that is really wanted
//! alone, and only those that cannot be read fail. What is read ahead of what is waited for is filled by a worker.

use crate::vfs::bindings;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::operations;
use crate::vfs::pages::extent::Extents;
use crate::vfs::pages::extent::Source;
use crate::vfs::pages::folio_batch::FolioBatch;
use crate::vfs::pages::folio_batch::LockedFolio;
use crate::vfs::pages::later::fill_later;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::error::from_result;
use kernel::prelude::*;

/// How large a file is at the most, in bytes, that is read ahead with those that follow it.
const SMALL: u64 = 64 << 10;

/// Fills a batch of an inode's folios, from the front, for reading one extent may leave anything
/// behind it. What lies past the end of the file is zero.
fn fill<E: Extents>(inode: &Inode<E::FileSystem>, batch: &mut FolioBatch) -> Result {
    let size = inode.size();
    let mut pos = batch.pos();
    let end = batch.end();
    while pos < end {
        let wanted = end.saturating_sub(pos);
        if pos >= size {
            return batch.zero(pos, wanted);
        }
        let extent = E::extent(inode, pos, false)?;
        let len = extent.len.min(wanted).min(size.saturating_sub(pos));
        if len == 0 {
            return Err(EIO);
        }
        match extent.source {
            Source::Hole => batch.zero(pos, len)?,
            Source::Memory(bytes, _) => {
                batch.copy_from(pos, bytes.get(..len as usize).ok_or(EIO)?)?;
            }
            Source::File(file, from) => {
                batch.read_from(pos, len, file, from, pos == 0 && size <= SMALL)?
            }
        }
        pos = pos.checked_add(len).ok_or(EIO)?;
    }
    Ok(())
}

/// Where what the backing files of an inode do not have, or what listeners were not asked for, begins, from `start` on: for what
/// is read ahead, of which more may be there than for whom all of it has to be. Behind `end` it does not matter. None if nothing
/// is missing.
fn limit<E: Extents>(inode: &Inode<E::FileSystem>, start: u64, end: u64) -> Option<u64> {
    if !E::may_lack_parts(inode) {
        return None;
    }
    let size = inode.size();
    let mut pos = start;
    while pos < end.min(size) {
        // What is wrong is found when it is read.
        let extent = E::extent(inode, pos, false).ok()?;
        let len = extent.len.min(end.min(size).saturating_sub(pos));
        if let Source::File(file, from) = extent.source {
            let there = file.ahead(from, len);
            if there < len {
                return Some(pos.saturating_add(there));
            }
        }
        pos = pos.checked_add(len.max(1))?;
    }
    None
}

/// The operations of page caches whose extents `E` knows, which nobody opens.
pub(in crate::vfs) const fn operations<E: Extents>() -> operations::Cache<E::FileSystem> {
    operations::Cache {
        mapping: Operations::<E>::TABLE,
        _p: PhantomData,
    }
}

/// The table for inodes whose extents `E` knows.
pub(in crate::vfs) struct Operations<E: Extents>(PhantomData<E>);

impl<E: Extents> Operations<E> {
    /// The table itself.
    pub(in crate::vfs) const TABLE: &'static bindings::address_space_operations =
        &bindings::address_space_operations {
            read_folio: Some(Self::read_folio),
            readahead: Some(Self::readahead),
            // SAFETY: All members are optional function pointers, for which zero means none.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        };

    /// # Safety
    ///
    /// Called by the page cache, for a mapping of an inode of `E::FileSystem`.
    unsafe extern "C" fn read_folio(
        _file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> core::ffi::c_int {
        // SAFETY: The page cache passes a folio that is locked, not up to date, and in a mapping,
        // whose host is an inode that stays while the folio is locked.
        let (inode, folio) = unsafe {
            (
                Inode::<E::FileSystem>::from_raw(bindings::vfs_helper_folio_inode(folio)),
                LockedFolio::from_raw(NonNull::new_unchecked(folio)),
            )
        };
        from_result(|| {
            let mut batch = FolioBatch::new(1);
            let mut folio = Some(folio);
            batch.take(|| folio.take());
            let filled = fill::<E>(inode, &mut batch);
            batch.end_read(filled.is_ok());
            filled?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the page cache, for a mapping of an inode of `E::FileSystem`.
    unsafe extern "C" fn readahead(control: *mut bindings::readahead_control) {
        // SAFETY: The page cache passes a mapping whose host stays for the length of the call.
        let inode = unsafe { Inode::<E::FileSystem>::from_raw((*(*control).mapping).host) };
        // SAFETY: The control is valid for the length of the call.
        let (start, len) = unsafe {
            (
                bindings::vfs_helper_readahead_pos(control).unsigned_abs(),
                bindings::vfs_helper_readahead_length(control) as u64,
            )
        };
        let limit = limit::<E>(inode, start, start.saturating_add(len));
        // Listeners were asked for what this task reads.
        let workers = E::workers(inode).filter(|_| !E::may_lack_parts(inode));
        // What is behind is not waited for.
        let waited = workers.map(|_| {
            // SAFETY: As above.
            unsafe { bindings::vfs_helper_readahead_waited(control) }.unsigned_abs()
        });
        let until = |limit| {
            // SAFETY: As above.
            move || unsafe { LockedFolio::read_ahead(control, limit) }
        };
        // SAFETY: As above.
        let pages = unsafe { bindings::vfs_helper_readahead_count(control) } as usize;
        let mut batch = FolioBatch::new(pages);
        while batch.take(until(waited.or(limit))) {
            let filled = fill::<E>(inode, &mut batch);
            batch.end_read(filled.is_ok());
            if filled.is_err() {
                // What is left is read when it is wanted, and its error reported then.
                return;
            }
        }
        while let Some(workers) = workers {
            if !batch.take(until(None)) {
                return;
            }
            // SAFETY: The folios are of the mapping that the page cache passed, whose host the inode is.
            unsafe { fill_later(workers, inode, false, batch, fill::<E>) };
            batch = FolioBatch::new(pages);
        }
    }
}
