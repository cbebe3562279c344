// SPDX-License-Identifier: GPL-2.0-only

//! `struct folio`: a piece of the page cache, locked while it is filled and constant afterwards.

use super::backing::BackingFile;
use super::bindings;
use core::ops::Deref;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A folio that is locked for reading into. Dropped, it counts as failed.
///
/// # Invariants
///
/// The folio is locked by this thread, is not up to date, and stays until it is unlocked.
pub(super) struct LockedFolio(NonNull<bindings::folio>);

impl LockedFolio {
    /// # Safety
    ///
    /// `folio` must meet the type invariants; the lock passes to the result.
    pub(super) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        Self(folio)
    }

    /// The position of its first byte in the file.
    pub(super) fn pos(&self) -> u64 {
        // SAFETY: By the type invariants. Positions are not negative.
        unsafe { bindings::vfs_helper_folio_pos(self.0.as_ptr()) }.unsigned_abs()
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> usize {
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
    pub(super) fn zero(&mut self, offset: usize, len: usize) -> Result {
        self.contains(offset, len)?;
        // SAFETY: The folio is locked and not up to date, so this thread alone writes to it, and
        // the range lies in it.
        unsafe { bindings::vfs_helper_folio_zero_range(self.0.as_ptr(), offset, len) };
        Ok(())
    }

    /// Copies bytes to `offset`.
    pub(super) fn copy_from(&mut self, offset: usize, bytes: &[u8]) -> Result {
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

    /// The folio's bytes as a segment to read into.
    pub(super) fn segment(&mut self, offset: usize, len: usize) -> Result<bindings::bio_vec> {
        self.contains(offset, len)?;
        let mut segment = bindings::bio_vec::default();
        // SAFETY: The range lies in the folio.
        unsafe {
            bindings::vfs_helper_bvec_set_folio(&mut segment, self.0.as_ptr(), len, offset);
        }
        Ok(segment)
    }

    /// Unlocks the folio: up to date, or failed.
    pub(super) fn end_read(self, success: bool) {
        let this = core::mem::ManuallyDrop::new(self);
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

/// How many folios are filled together at the most. They may be large.
pub(super) const BATCH: usize = 16;

/// Locked folios that follow each other in a file.
///
/// # Invariants
///
/// The first `count` of `folios` are set, and each begins where the one before it ends.
pub(super) struct FolioBatch {
    folios: [Option<LockedFolio>; BATCH],
    count: usize,
    pos: u64,
    end: u64,
}

impl FolioBatch {
    /// A batch of one folio.
    pub(super) fn new(first: LockedFolio) -> Self {
        let pos = first.pos();
        let mut this = Self {
            folios: [const { None }; BATCH],
            count: 0,
            pos,
            end: pos,
        };
        this.append(first);
        this
    }

    fn append(&mut self, folio: LockedFolio) {
        let size = folio.size() as u64;
        if let Some(slot) = self.folios.get_mut(self.count) {
            *slot = Some(folio);
            self.count = self.count.saturating_add(1);
            self.end = self.end.saturating_add(size);
        }
    }

    /// Adds the folio that `next` gives, if there is room for one more.
    pub(super) fn extend(&mut self, next: impl Fn() -> Option<LockedFolio>) {
        while self.count < BATCH {
            let Some(folio) = next() else { return };
            if folio.pos() != self.end {
                // Readahead hands out folios in order; one that is not is left to be read alone.
                return;
            }
            self.append(folio);
        }
    }

    /// The position of the first byte.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// The position after the last byte.
    pub(super) fn end(&self) -> u64 {
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
        for folio in self.folios.iter_mut().flatten() {
            let start = folio.pos();
            let from = pos.max(start);
            let to = end.min(start.saturating_add(folio.size() as u64));
            if from < to {
                f(
                    folio,
                    from.wrapping_sub(start) as usize,
                    to.wrapping_sub(from) as usize,
                    from.wrapping_sub(pos) as usize,
                )?;
            }
        }
        Ok(())
    }

    /// Sets the `len` bytes at `pos` to zero.
    pub(super) fn zero(&mut self, pos: u64, len: u64) -> Result {
        self.for_each(pos, len, |folio, offset, len, _| folio.zero(offset, len))
    }

    /// Copies `bytes` to `pos`.
    pub(super) fn copy_from(&mut self, pos: u64, bytes: &[u8]) -> Result {
        self.for_each(pos, bytes.len() as u64, |folio, offset, len, before| {
            let end = before.checked_add(len).ok_or(EINVAL)?;
            folio.copy_from(offset, bytes.get(before..end).ok_or(EINVAL)?)
        })
    }

    /// Reads the `len` bytes at `pos` from `file`, where they begin at `from`. Bytes behind them may
    /// be overwritten.
    pub(super) fn read_from(
        &mut self,
        pos: u64,
        len: u64,
        file: &BackingFile,
        from: u64,
    ) -> Result {
        let mut segments = [bindings::bio_vec::default(); BATCH];
        let mut count = 0usize;
        let room = self.end.saturating_sub(pos);
        self.for_each(pos, room, |folio, offset, len, _| {
            *segments.get_mut(count).ok_or(EINVAL)? = folio.segment(offset, len)?;
            count = count.saturating_add(1);
            Ok(())
        })?;
        let segments = segments.get(..count).ok_or(EINVAL)?;
        let bytes = |len| usize::try_from(len).map_err(|_| EINVAL);
        file.read_exact(segments, bytes(len)?, bytes(room)?, from)
    }

    /// Unlocks all folios: up to date, or failed.
    pub(super) fn end_read(&mut self, success: bool) {
        for folio in self.folios.iter_mut() {
            if let Some(folio) = folio.take() {
                folio.end_read(success);
            }
        }
    }
}

/// A reference to a folio that is up to date.
///
/// # Invariants
///
/// The reference is owned, and the folio is up to date.
pub(super) struct FolioRef(NonNull<bindings::folio>);

impl FolioRef {
    /// # Safety
    ///
    /// `folio` must be up to date, and a reference to it passes to the result.
    pub(super) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        Self(folio)
    }
}

impl Drop for FolioRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the reference is given up.
        unsafe { bindings::vfs_helper_folio_put(self.0.as_ptr()) };
    }
}

/// Bytes of a folio that is up to date and that no one writes to.
///
/// # Invariants
///
/// Unless `len` is zero, `start` is the address of `len` bytes in `folio`, which has a permanent
/// kernel address, and which nothing changes while it is up to date and referenced.
pub(crate) struct FolioBytes {
    _folio: Option<FolioRef>,
    start: NonNull<u8>,
    len: usize,
}

impl FolioBytes {
    /// No bytes.
    pub(super) fn empty() -> Self {
        Self {
            _folio: None,
            start: NonNull::dangling(),
            len: 0,
        }
    }

    /// The folio's bytes from the file's position `pos` to `end` at the most.
    ///
    /// # Safety
    ///
    /// The folio must not be in high memory, and must be one of a mapping that is neither written
    /// to nor mapped writable by anyone.
    pub(super) unsafe fn new(folio: FolioRef, pos: u64, end: u64) -> Result<Self> {
        let ptr = folio.0.as_ptr();
        // SAFETY: The folio is referenced.
        let (start, size, address) = unsafe {
            (
                bindings::vfs_helper_folio_pos(ptr).unsigned_abs(),
                bindings::vfs_helper_folio_size(ptr) as u64,
                bindings::vfs_helper_folio_address(ptr).cast::<u8>(),
            )
        };
        let end = end.min(start.checked_add(size).ok_or(EINVAL)?);
        let offset = pos.checked_sub(start).ok_or(EINVAL)?;
        let len = end.checked_sub(pos).ok_or(EINVAL)?;
        // INVARIANT: `offset + len <= size` by the above, and the rest by the safety requirements.
        Ok(Self {
            _folio: Some(folio),
            // SAFETY: `offset` is within the folio, whose address is not null by the safety
            // requirements.
            start: unsafe { NonNull::new_unchecked(address.add(offset as usize)) },
            len: len as usize,
        })
    }
}

impl Deref for FolioBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariants.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}
