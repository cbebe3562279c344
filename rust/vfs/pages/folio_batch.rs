// SPDX-License-Identifier: GPL-2.0-only

//! `struct folio`, to be filled: what the page cache wants read ([`crate::vfs::pages::page_cache`]), locked until it is.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A folio that is locked for reading into. Dropped, it counts as failed.
///
/// # Invariants
///
/// The folio is locked by this thread, is not up to date, and stays until it is unlocked.
pub(in crate::vfs) struct LockedFolio(NonNull<bindings::folio>);

impl LockedFolio {
    /// # Safety
    ///
    /// `folio` must meet the type invariants; the lock passes to the result.
    pub(in crate::vfs) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        Self(folio)
    }

    /// The next folio that is to be read ahead, if it is one before `limit`. What is not taken goes from the cache
    /// again: a folio that stays, and that cannot be read as a whole, would be in the way of pages that can.
    ///
    /// # Safety
    ///
    /// `control` must be what the page cache passes to `readahead`.
    pub(in crate::vfs) unsafe fn read_ahead(
        control: *mut bindings::readahead_control,
        limit: Option<u64>,
    ) -> Option<Self> {
        if let Some(limit) = limit {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            // SAFETY: By the safety requirements.
            if !unsafe { bindings::vfs_helper_readahead_fits(control, limit) } {
                return None;
            }
        }
        // SAFETY: By the safety requirements.
        let folio = NonNull::new(unsafe { bindings::vfs_helper_readahead_folio(control) })?;
        // SAFETY: Folios come locked and not up to date; being locked keeps them in the cache.
        Some(unsafe { Self::from_raw(folio) })
    }

    /// The position of its first byte in the file.
    pub(in crate::vfs) fn pos(&self) -> u64 {
        // SAFETY: By the type invariants. Positions are not negative.
        unsafe { bindings::vfs_helper_folio_pos(self.0.as_ptr()) }.unsigned_abs()
    }

    /// Its size in bytes.
    pub(in crate::vfs) fn size(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { bindings::vfs_helper_folio_size(self.0.as_ptr()) }
    }

    /// Whether `len` bytes at `offset` lie in the folio.
    fn contains(&self, offset: usize, len: usize) -> Result {
        match offset.checked_add(len) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(EINVAL),
        }
    }

    /// Sets `len` bytes at `offset` to zero.
    pub(in crate::vfs) fn zero(&mut self, offset: usize, len: usize) -> Result {
        self.contains(offset, len)?;
        // SAFETY: The folio is locked and not up to date, so this thread alone writes to it, and
        // the range lies in it.
        unsafe { bindings::vfs_helper_folio_zero_range(self.0.as_ptr(), offset, len) };
        Ok(())
    }

    /// Copies bytes to `offset`.
    pub(in crate::vfs) fn copy_from(&mut self, offset: usize, bytes: &[u8]) -> Result {
        self.contains(offset, bytes.len())?;
        // SAFETY: As in `zero`, and the slice is valid for its length.
        unsafe {
            bindings::vfs_helper_memcpy_to_folio(
                self.0.as_ptr(),
                offset,
                bytes.as_ptr().cast(),
                bytes.len(),
            );
        }
        Ok(())
    }

    /// The whole folio as a segment to read into, with its lock.
    fn into_segment(self) -> bindings::bio_vec {
        let this = ManuallyDrop::new(self);
        let mut segment = bindings::bio_vec::default();
        // SAFETY: By the type invariants; the range is the whole folio.
        unsafe {
            bindings::vfs_helper_bvec_set_folio(&mut segment, this.0.as_ptr(), this.size(), 0);
        }
        segment
    }

    /// The folio of a segment.
    ///
    /// # Safety
    ///
    /// `segment` must come from [`Self::into_segment`]; its lock passes to the result.
    unsafe fn from_segment(segment: &bindings::bio_vec) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: A folio is its first page by another name, and that is the segment's page.
        Self(unsafe { NonNull::new_unchecked(segment.bv_page.cast()) })
    }

    /// Unlocks the folio: up to date, or failed.
    pub(in crate::vfs) fn end_read(self, success: bool) {
        let this = ManuallyDrop::new(self);
        // SAFETY: By the type invariants; the lock is given up.
        unsafe { bindings::folio_end_read(this.0.as_ptr(), success) };
    }
}

impl Drop for LockedFolio {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the lock is given up.
        unsafe { bindings::folio_end_read(self.0.as_ptr(), false) };
    }
}

/// How many folios are filled together at the most. They may be large. Not more than what nearly
/// any device reads with one request if each is a page.
const MANY: usize = 128;

/// How many there is always room for.
const FEW: usize = 8;

/// Locked folios that follow each other in a file. Those that are still locked when it is dropped
/// count as failed.
///
/// # Invariants
///
/// The first `count` of the segments are locked folios ([`LockedFolio::into_segment`]). The first
/// begins at `pos`, each one where the one before it ends, and the last ends at `end`.
pub(in crate::vfs) struct FolioBatch {
    few: [bindings::bio_vec; FEW],
    /// Used in place of `few` unless it is empty.
    many: KVVec<bindings::bio_vec>,
    count: usize,
    pos: u64,
    end: u64,
}

impl FolioBatch {
    /// An empty batch for as many folios, or for as many as there is memory for.
    pub(in crate::vfs) fn new(wanted: usize) -> Self {
        Self::with_room(wanted.min(MANY))
    }

    /// The same without a limit: for what is not read with one request anyway.
    pub(in crate::vfs) fn with_room(wanted: usize) -> Self {
        let many = match wanted {
            0..=FEW => KVVec::new(),
            wanted => KVVec::from_elem(bindings::bio_vec::default(), wanted, GFP_KERNEL)
                .unwrap_or_default(),
        };
        // INVARIANT: It is empty.
        Self {
            few: [bindings::bio_vec::default(); FEW],
            many,
            count: 0,
            pos: 0,
            end: 0,
        }
    }

    fn slots(&mut self) -> &mut [bindings::bio_vec] {
        if self.many.is_empty() {
            &mut self.few
        } else {
            &mut self.many
        }
    }

    /// The folios, each as a whole.
    pub(in crate::vfs) fn segments(&self) -> &[bindings::bio_vec] {
        let slots: &[_] = if self.many.is_empty() {
            &self.few
        } else {
            &self.many
        };
        slots.get(..self.count).unwrap_or_default()
    }

    /// Takes the folios that `next` gives into the empty batch, while there is room. False if there
    /// are none.
    pub(in crate::vfs) fn take(&mut self, mut next: impl FnMut() -> Option<LockedFolio>) -> bool {
        while self.count < self.slots().len() {
            let Some(folio) = next() else { break };
            let pos = folio.pos();
            if self.count == 0 {
                self.pos = pos;
            } else if pos != self.end {
                // Readahead hands out folios in order; one that is not is left to be read alone.
                break;
            }
            let count = self.count;
            let Some(slot) = self.slots().get_mut(count) else {
                break;
            };
            let segment = folio.into_segment();
            *slot = segment;
            // INVARIANT: It begins where the one before ends.
            self.end = pos.saturating_add(segment.bv_len.into());
            self.count = count.saturating_add(1);
        }
        self.count > 0
    }

    /// The position of the first byte.
    pub(in crate::vfs) fn pos(&self) -> u64 {
        self.pos
    }

    /// The position after the last byte.
    pub(in crate::vfs) fn end(&self) -> u64 {
        self.end
    }

    /// Calls `f` with each folio's part of the `len` bytes at `pos`, and how many bytes came before.
    fn for_each(
        &mut self,
        pos: u64,
        len: u64,
        mut f: impl FnMut(&mut LockedFolio, usize, usize, usize) -> Result,
    ) -> Result {
        let end = pos.checked_add(len).ok_or(EINVAL)?;
        let mut start = self.pos;
        for segment in self.segments() {
            let behind = start.saturating_add(segment.bv_len.into());
            let from = pos.max(start);
            let to = end.min(behind);
            if from < to {
                // SAFETY: By the type invariants; the lock stays with the batch.
                let mut folio = ManuallyDrop::new(unsafe { LockedFolio::from_segment(segment) });
                f(
                    &mut folio,
                    from.wrapping_sub(start) as usize,
                    to.wrapping_sub(from) as usize,
                    from.wrapping_sub(pos) as usize,
                )?;
            }
            start = behind;
        }
        Ok(())
    }

    /// The `len` bytes at `pos`, if they lie in one folio.
    pub(in crate::vfs) fn bytes_mut(&mut self, pos: u64, len: u64) -> Option<&mut [u8]> {
        let end = pos.checked_add(len)?;
        let mut start = self.pos;
        for segment in self.segments() {
            let behind = start.saturating_add(segment.bv_len.into());
            if start <= pos && end <= behind {
                // SAFETY: By the type invariants the folio is locked and not up to date, so that this thread alone
                // writes to it, and the bytes lie in it. Mappings that batches are for use no high memory.
                return Some(unsafe {
                    let address = bindings::vfs_helper_page_address(segment.bv_page).cast::<u8>();
                    let address = NonNull::new(address)?.add(pos.wrapping_sub(start) as usize);
                    core::slice::from_raw_parts_mut(address.as_ptr(), len as usize)
                });
            }
            start = behind;
        }
        None
    }

    /// Sets the `len` bytes at `pos` to zero.
    pub(in crate::vfs) fn zero(&mut self, pos: u64, len: u64) -> Result {
        self.for_each(pos, len, |folio, offset, len, _| folio.zero(offset, len))
    }

    /// Copies `bytes` to `pos`.
    pub(in crate::vfs) fn copy_from(&mut self, pos: u64, bytes: &[u8]) -> Result {
        self.for_each(pos, bytes.len() as u64, |folio, offset, len, before| {
            let end = before.checked_add(len).ok_or(EINVAL)?;
            folio.copy_from(offset, bytes.get(before..end).ok_or(EINVAL)?)
        })
    }

    /// Reads the `len` bytes at `pos` from `file`, where they begin at `from`, which may be the beginning
    /// of a small file. Bytes behind them may be overwritten.
    pub(in crate::vfs) fn read_from(
        &mut self,
        pos: u64,
        len: u64,
        file: &BackingFile,
        from: u64,
        is_small: bool,
    ) -> Result {
        let room = self.end.checked_sub(pos).ok_or(EINVAL)?;
        let mut skip = pos.checked_sub(self.pos).ok_or(EINVAL)?;
        let mut segments = self.segments();
        while let [first, rest @ ..] = segments {
            let Some(left) = skip.checked_sub(first.bv_len.into()) else {
                break;
            };
            skip = left;
            segments = rest;
        }
        let bytes = |len| usize::try_from(len).map_err(|_| EINVAL);
        let (skip, len, room) = (bytes(skip)?, bytes(len)?, bytes(room)?);
        // SAFETY: By the type invariants the folios are locked, and have as many bytes up to the end.
        unsafe { file.read_exact(segments, skip, len, room, from, is_small) }
    }

    /// Unlocks all folios, up to date or failed, after which the batch is empty.
    pub(in crate::vfs) fn end_read(&mut self, success: bool) {
        for segment in self.segments() {
            // SAFETY: By the type invariants; the batch gives the lock up.
            unsafe { LockedFolio::from_segment(segment) }.end_read(success);
        }
        self.count = 0;
    }
}

impl Drop for FolioBatch {
    fn drop(&mut self) {
        self.end_read(false);
    }
}
