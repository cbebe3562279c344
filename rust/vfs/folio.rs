// SPDX-License-Identifier: GPL-2.0-only

//! `struct folio`: a piece of the page cache, locked while it is filled and constant afterwards.

use super::backing::BackingFile;
use super::bindings;
use core::cell::Cell;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr::NonNull;
use kernel::error::to_result;
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
    pub(super) fn end_read(self, success: bool) {
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
pub(super) struct FolioBatch {
    few: [bindings::bio_vec; FEW],
    /// Used in place of `few` unless it is empty.
    many: KVec<bindings::bio_vec>,
    count: usize,
    pos: u64,
    end: u64,
}

impl FolioBatch {
    /// An empty batch for as many folios, or for as many as there is memory for.
    pub(super) fn new(wanted: usize) -> Self {
        let many = match wanted.min(MANY) {
            0..=FEW => KVec::new(),
            wanted => KVec::from_elem(bindings::bio_vec::default(), wanted, GFP_KERNEL)
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

    fn segments(&self) -> &[bindings::bio_vec] {
        let slots: &[_] = if self.many.is_empty() {
            &self.few
        } else {
            &self.many
        };
        slots.get(..self.count).unwrap_or_default()
    }

    /// Takes the folios that `next` gives into the empty batch, while there is room. False if there
    /// are none.
    pub(super) fn take(&mut self, mut next: impl FnMut() -> Option<LockedFolio>) -> bool {
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
        file.read_exact(segments, bytes(skip)?, bytes(len)?, bytes(room)?, from)
    }

    /// Unlocks all folios, up to date or failed, after which the batch is empty.
    pub(super) fn end_read(&mut self, success: bool) {
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

/// A reference to a folio.
///
/// # Invariants
///
/// The reference is owned.
struct FolioRef(NonNull<bindings::folio>);

impl Drop for FolioRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the reference is given up.
        unsafe { bindings::vfs_helper_folio_put(self.0.as_ptr()) };
    }
}

/// A folio that is in no cache yet.
///
/// # Invariants
///
/// No one else refers to the folio.
pub(super) struct NewFolio(FolioRef);

impl NewFolio {
    /// A folio of 2^`order` pages for a mapping that can have such, if there is memory for it at once.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid.
    pub(super) unsafe fn new(mapping: *mut bindings::address_space, order: u32) -> Option<Self> {
        // SAFETY: By the safety requirements.
        let folio = unsafe { bindings::vfs_helper_alloc_folio(mapping, order) };
        // INVARIANT: It was allocated just now, with one reference.
        NonNull::new(folio).map(|folio| Self(FolioRef(folio)))
    }

    /// Reads `len` bytes of `file` from position `from` on into the folio; what follows is zero.
    ///
    /// # Errors
    ///
    /// `EIO` if the file ends before, `EINVAL` for more bytes than there is room for, and what the
    /// file's filesystem returns.
    pub(super) fn fill(&mut self, len: usize, file: &BackingFile, from: u64) -> Result {
        let folio = self.0 .0.as_ptr();
        let mut segment = bindings::bio_vec::default();
        // SAFETY: The folio is referenced; the segment is all of it.
        let size = unsafe {
            let size = bindings::vfs_helper_folio_size(folio);
            bindings::vfs_helper_bvec_set_folio(&mut segment, folio, size, 0);
            size
        };
        let rest = size.checked_sub(len).ok_or(EINVAL)?;
        file.read_exact(&[segment], 0, len, size, from)?;
        // SAFETY: By the type invariants no one else looks at the folio, and the bytes lie in it.
        unsafe { bindings::vfs_helper_folio_zero_range(folio, len, rest) };
        Ok(())
    }

    /// Puts the folio, filled, into a mapping at the page `index`, whose file has `size` bytes.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is one in the mapping already, and `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid, the index a multiple of the folio's number of pages, and the rest as
    /// for [`ReadFolio::from_raw`].
    pub(super) unsafe fn insert(
        self,
        mapping: *mut bindings::address_space,
        index: usize,
        size: u64,
    ) -> Result<ReadFolio> {
        let mut found = bindings::vfs_helper_folio::default();
        // SAFETY: By the safety requirements and the type invariants.
        let error = unsafe {
            bindings::vfs_helper_add_read_folio(mapping, self.0 .0.as_ptr(), index, &mut found)
        };
        to_result(error)?;
        // The reference goes to what is returned.
        let _ = ManuallyDrop::new(self);
        // SAFETY: By the safety requirements; it was filled in.
        Ok(unsafe { ReadFolio::from_raw(&found, size) })
    }
}

/// A folio that is up to date, and that no one writes to.
///
/// # Invariants
///
/// `address` is that of `len` bytes in `folio`, which nothing changes while it is referenced.
pub(crate) struct ReadFolio {
    folio: FolioRef,
    address: NonNull<u8>,
    pos: u64,
    len: u64,
}

impl ReadFolio {
    /// A folio of a file of `size` bytes.
    ///
    /// # Safety
    ///
    /// `found` must be filled in; its reference passes to the result. The folio must not be in high
    /// memory, and must be one of a mapping that is neither written to nor mapped writable by anyone.
    #[inline]
    pub(super) unsafe fn from_raw(found: &bindings::vfs_helper_folio, size: u64) -> Self {
        let pos = found.pos.unsigned_abs();
        // INVARIANT: By the safety requirements; what is not in high memory has an address.
        // SAFETY: By the safety requirements.
        unsafe {
            Self {
                folio: FolioRef(NonNull::new_unchecked(found.folio)),
                address: NonNull::new_unchecked(found.address.cast()),
                pos,
                len: size.saturating_sub(pos).min(found.size as u64),
            }
        }
    }

    /// Whether the file's byte at `pos` is in it.
    #[inline]
    pub(crate) fn contains(&self, pos: u64) -> bool {
        pos.wrapping_sub(self.pos) < self.len
    }

    /// The bytes from the file's position `pos` to the end of the folio or of the file. None if that
    /// is not in it.
    #[inline]
    pub(crate) fn bytes(&self, pos: u64) -> FolioBytes<'_> {
        let skip = pos.wrapping_sub(self.pos);
        if skip >= self.len {
            return FolioBytes::empty();
        }
        // INVARIANT: As in `ReadFolio`, of which this is a part, and which keeps the reference.
        FolioBytes {
            _folio: None,
            // SAFETY: `skip` is less than the number of bytes.
            start: unsafe { self.address.add(skip as usize) },
            len: self.len.wrapping_sub(skip) as usize,
            _p: PhantomData,
        }
    }

    /// The same, with the reference.
    pub(crate) fn into_bytes(self, pos: u64) -> FolioBytes<'static> {
        let FolioBytes { start, len, .. } = self.bytes(pos);
        // INVARIANT: As above; the reference is kept here.
        FolioBytes {
            _folio: Some(self.folio),
            start,
            len,
            _p: PhantomData,
        }
    }
}

/// Bytes of a [`ReadFolio`].
///
/// # Invariants
///
/// Unless `len` is zero, `start` is the address of `len` bytes in a folio, which nothing changes
/// while it is referenced; it is for `'a`, or by `folio`.
pub(crate) struct FolioBytes<'a> {
    _folio: Option<FolioRef>,
    start: NonNull<u8>,
    len: usize,
    _p: PhantomData<&'a [u8]>,
}

impl FolioBytes<'_> {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self {
            _folio: None,
            start: NonNull::dangling(),
            len: 0,
            _p: PhantomData,
        }
    }
}

impl Deref for FolioBytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariants.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// How many folios [`ReadFolios`] keeps.
const KEPT: usize = 16;

/// The folios that an operation has read, as far as there is room for them: what it wants next is
/// likely to be in the last of them.
///
/// # Invariants
///
/// The first `count` of `folios` are set, and do not change any more.
pub(crate) struct ReadFolios {
    folios: [UnsafeCell<MaybeUninit<ReadFolio>>; KEPT],
    count: Cell<usize>,
}

impl ReadFolios {
    /// None yet.
    #[inline]
    pub(crate) fn new() -> Self {
        let mut this = MaybeUninit::<Self>::uninit();
        // Written as a value the compiler would fill all of it with zeros, which takes longer than
        // what it is for.
        // SAFETY: Only the count has to be set; folios may be anything beyond it.
        unsafe {
            (&raw mut (*this.as_mut_ptr()).count).write(Cell::new(0));
            this.assume_init()
        }
    }

    /// The folio that was kept last.
    #[inline]
    pub(crate) fn last(&self) -> Option<&ReadFolio> {
        let slot = self.folios.get(self.count.get().wrapping_sub(1))?;
        // SAFETY: By the type invariants it is set, and not written to any more.
        Some(unsafe { (*slot.get()).assume_init_ref() })
    }

    /// Keeps a folio, or hands it back if there is no room.
    #[inline]
    pub(crate) fn keep(&self, folio: ReadFolio) -> core::result::Result<&ReadFolio, ReadFolio> {
        let count = self.count.get();
        let Some(slot) = self.folios.get(count) else {
            return Err(folio);
        };
        // SAFETY: By the type invariants no one looks at it yet, and only this thread can: the type
        // is not `Sync`.
        let kept = unsafe { (*slot.get()).write(folio) };
        // INVARIANT: Set just now.
        self.count.set(count.wrapping_add(1));
        Ok(kept)
    }
}

impl Drop for ReadFolios {
    fn drop(&mut self) {
        let count = self.count.get();
        for slot in self.folios.iter_mut().take(count) {
            // SAFETY: By the type invariants it is set, and it is not used any more.
            unsafe { slot.get_mut().assume_init_drop() };
        }
    }
}
