// SPDX-License-Identifier: GPL-2.0-only

//! The pages of a batch of locked folios as one piece of memory, with a page before and one behind: decoders write all that
//! they decode to one place, and clusters begin and end within pages. [`crate::vfs::pages::decode`] uses it.

use crate::vfs::bindings;
use crate::vfs::pages::folio_batch::FolioBatch;
use core::ptr::NonNull;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// A page of no cache.
///
/// # Invariants
///
/// The page is no one else's.
struct LoosePage(NonNull<bindings::page>);

impl LoosePage {
    fn new() -> Result<Self> {
        // SAFETY: It has no requirements.
        let page = unsafe { bindings::vfs_helper_alloc_page() };
        // INVARIANT: It was allocated just now.
        NonNull::new(page).map(Self).ok_or(ENOMEM)
    }
}

impl Drop for LoosePage {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; it is not used any more.
        unsafe { bindings::vfs_helper_free_page(self.0.as_ptr()) };
    }
}

/// A batch's pages in a row.
///
/// # Invariants
///
/// `address` is that of `pages` pages: `_before`, those of a batch whose folios stay locked, and `_behind`.
pub(in crate::vfs) struct MappedBatch {
    address: NonNull<u8>,
    pages: u32,
    /// The position in the file of the page before.
    start: u64,
    // Freed after the mapping is gone, which `drop` sees to.
    _before: LoosePage,
    _behind: LoosePage,
}

impl MappedBatch {
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The batch's folios must stay in it as long as the result is there, and it must not be used as long as bytes of the
    /// result are.
    pub(in crate::vfs) unsafe fn new(batch: &FolioBatch) -> Result<Self> {
        let before = LoosePage::new()?;
        let behind = LoosePage::new()?;
        let segments = batch.segments();
        let mut pages = 0;
        // SAFETY: The segments are whole folios, and all pages stay as long as what is returned.
        let address = unsafe {
            bindings::vfs_helper_map_segments(
                segments.as_ptr(),
                segments.len() as u32,
                before.0.as_ptr(),
                behind.0.as_ptr(),
                &mut pages,
            )
        };
        // INVARIANT: That is what was mapped.
        Ok(Self {
            address: NonNull::new(address.cast()).ok_or(ENOMEM)?,
            pages,
            // The first page of a file has none before it: positions count from there all the same.
            start: batch.pos().wrapping_sub(PAGE_SIZE as u64),
            _before: before,
            _behind: behind,
        })
    }

    /// The `len` bytes at `pos` of the file, if all of them are there.
    pub(in crate::vfs) fn bytes_mut(&mut self, pos: u64, len: u64) -> Option<&mut [u8]> {
        let offset = pos.wrapping_sub(self.start);
        let size = u64::from(self.pages).saturating_mul(PAGE_SIZE as u64);
        if offset.checked_add(len)? > size {
            return None;
        }
        // SAFETY: By the type invariants, and since no one else uses pages of locked folios that are not up to date.
        Some(unsafe {
            core::slice::from_raw_parts_mut(
                self.address.add(offset as usize).as_ptr(),
                len as usize,
            )
        })
    }
}

impl Drop for MappedBatch {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; it is not used any more.
        unsafe { bindings::vfs_helper_unmap(self.address.as_ptr().cast(), self.pages) };
    }
}
