// SPDX-License-Identifier: GPL-2.0-only

//! Reading from a backing file what is to be cached elsewhere: the pages of mappings
//! ([`super::folio_batch`]) and metadata ([`super::folio`]).
//!
//! The reader may be in a page fault, with the lock of its task's memory and of the page cache that is
//! filled. Readers and writers of the backing file wait for both when they fault in their buffer, and
//! on some filesystems hold the file's own lock then. So that lock is never waited for here: what a
//! fault in a mapping of the backing file itself would wait for is all. For the same reason no one is
//! asked here whether the file may be read: see [`BackingFile::ask`].

use super::backing::BackingFile;
use super::backing::Credentials;
use super::bindings;
use super::errno::ENODATA;
use super::folio::FolioRef;
use core::mem::MaybeUninit;
use core::ops::Range;
use kernel::bindings::iov_iter;
use kernel::error::to_result;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// What direct reads are aligned to, at the least, in bytes.
const SECTOR: usize = 512;

/// How much any device can read at once, in bytes.
const DIRECT_STEP: usize = 128 << 10;

/// How bytes are read that are to be cached elsewhere.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// From the file's cache, as far as they are there.
    Cached,
    /// Past the file's cache, unless that would wait for a lock.
    Direct,
    /// By copying from the folios of the file's cache, which are read if they are not there.
    Copied,
    /// As the filesystem reads, through a cache or not. It may wait for locks of its own.
    Buffered,
}

impl BackingFile {
    /// Reads `len` bytes at `pos` into the pages of `segments`, all of them or none that count. They
    /// go behind the first `skip` bytes of the segments, where there are `room` bytes; what is behind
    /// `len` may be overwritten.
    ///
    /// The pages are a cache of their own, so the file's should not keep the bytes, too. What it has
    /// is copied, the rest is read directly, past it. Where that cannot be done it is read through
    /// the file's cache, which is asked to let go of it.
    ///
    /// # Errors
    ///
    /// `EIO` if the file ends before, and what the file's filesystem returns.
    pub(super) fn read_exact(
        &self,
        segments: &[bindings::bio_vec],
        skip: usize,
        len: usize,
        room: usize,
        pos: u64,
    ) -> Result {
        let mut done = 0usize;
        let mut direct_step = usize::MAX;
        let last = self.last_way();
        for way in [Way::Cached, Way::Direct, last] {
            if way != last && !self.supports(way) {
                continue;
            }
            while done < len {
                let end = match way {
                    // Whole sectors, of which the last may be wanted in part.
                    Way::Direct => len
                        .checked_next_multiple_of(SECTOR)
                        .map_or(len, |sectors| sectors.min(room))
                        .min(done.saturating_add(direct_step)),
                    Way::Cached | Way::Copied | Way::Buffered => len,
                };
                match self.read(segments, skip, done..end, pos, way) {
                    Ok(0) if way == last => return Err(EIO),
                    Ok(0) => break,
                    Ok(read) => done = done.checked_add(read).ok_or(EIO)?,
                    Err(error) if way == last => return Err(error),
                    // More than the device takes at once is not divided without waiting.
                    Err(error)
                        if error == EAGAIN
                            && way == Way::Direct
                            && end.saturating_sub(done) > DIRECT_STEP =>
                    {
                        direct_step = DIRECT_STEP;
                    }
                    // What the disk cannot read is not there for the next way either, which would try
                    // it page by page.
                    Err(error) if way == Way::Direct && (error == EIO || error == ENODATA) => {
                        return Err(error);
                    }
                    Err(_) => break,
                }
            }
        }
        Ok(())
    }

    /// Whether one of the ways that may fail is worth a try.
    fn supports(&self, way: Way) -> bool {
        let nowait = self.mode() & bindings::VFS_CONST_FMODE_NOWAIT != 0;
        match way {
            // A block device has its lock waited for even then.
            Way::Cached => nowait && !self.is_block_device(),
            Way::Direct => {
                !self.kept
                    && self.can_read_directly()
                    && (self.is_block_device() || nowait && self.is_on_disk())
            }
            Way::Copied | Way::Buffered => true,
        }
    }

    /// The way that reads whatever can be read.
    fn last_way(&self) -> Way {
        // SAFETY: The file is referenced; its mapping has operations at any time.
        let has_folios = unsafe {
            (*(*(*self.as_ptr()).f_mapping).a_ops).read_folio.is_some()
                && (*self.inode()).i_flags & bindings::VFS_CONST_S_DAX == 0
        };
        if has_folios && (self.is_block_device() || self.is_on_disk()) {
            Way::Copied
        } else {
            Way::Buffered
        }
    }

    /// Whether the file's filesystem is one on a block device. A network's may get a reply after a
    /// killed read has returned, and may have to ask whether what it has cached is still true; a
    /// stacked one has no cache.
    fn is_on_disk(&self) -> bool {
        // SAFETY: The file is referenced; its superblock's type is constant.
        let flags = unsafe { (*(*(*self.inode()).i_sb).s_type).fs_flags };
        flags & bindings::FS_REQUIRES_DEV as i32 != 0
    }

    /// Reads the bytes of a range, which begins at `pos` of the file and behind the first `skip`
    /// bytes of `segments`, and waits for it. The number of bytes, which may be less.
    fn read(
        &self,
        segments: &[bindings::bio_vec],
        skip: usize,
        range: Range<usize>,
        pos: u64,
        way: Way,
    ) -> Result<usize> {
        let at = pos.checked_add(range.start as u64).ok_or(EIO)?;
        let at = i64::try_from(at).map_err(|_| EIO)?;
        let start = skip.checked_add(range.start).ok_or(EIO)?;
        let end = skip.checked_add(range.end).ok_or(EIO)?;
        // Each read gets an iterator of its own: where a read that failed leaves it is not defined.
        let mut iter = MaybeUninit::<iov_iter>::uninit();
        // SAFETY: The segments are valid, and hold `end` bytes, of which `start` are passed over.
        let iter = unsafe {
            bindings::iov_iter_bvec(
                iter.as_mut_ptr(),
                bindings::ITER_DEST,
                segments.as_ptr(),
                segments.len(),
                end,
            );
            let iter = iter.assume_init_mut();
            bindings::iov_iter_advance(iter, start);
            iter
        };
        let _as_opener = Credentials::of(self);
        let flags = match way {
            Way::Cached => bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_NOIO as i32,
            // Direct reads of a block device take no lock, others do.
            Way::Direct if self.is_block_device() => bindings::IOCB_DIRECT as i32,
            Way::Direct => bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_DIRECT as i32,
            Way::Copied => {
                let len = range.end.saturating_sub(range.start);
                // SAFETY: The iterator is one of pages, with as many bytes left.
                return unsafe { self.copy(iter, at, len) };
            }
            Way::Buffered if !self.kept && self.can_drop() => bindings::VFS_CONST_IOCB_DONTCACHE,
            Way::Buffered => 0,
        };
        let mut kiocb = bindings::kiocb {
            ki_filp: self.as_ptr(),
            ki_pos: at,
            ki_flags: flags,
            // SAFETY: Looks at the current task.
            ki_ioprio: unsafe { bindings::vfs_helper_get_current_ioprio() } as u16,
            ..Default::default()
        };
        // SAFETY: The file is referenced; its operations are constant.
        let read_iter = unsafe { (*(*self.as_ptr()).f_op).read_iter }.ok_or(EINVAL)?;
        // SAFETY: The file is open for reading, the control block is for it and has no completion, so
        // that the call returns when it is done.
        let read = unsafe { read_iter(&mut kiocb, iter) };
        usize::try_from(read).map_err(|_| Error::from_errno(read as i32))
    }

    /// Whether the file's cache can be asked to drop what was read.
    fn can_drop(&self) -> bool {
        // SAFETY: The file is referenced; its operations and its inode's flags are constant.
        unsafe {
            (*(*self.as_ptr()).f_op).fop_flags & bindings::VFS_CONST_FOP_DONTCACHE != 0
                && (*self.inode()).i_flags & bindings::VFS_CONST_S_DAX == 0
        }
    }

    /// Copies `len` bytes at `at` from the folios of the file's cache. Those that had to be read for it
    /// are dropped again, unless they may stay or someone else has found them meanwhile. The number of
    /// bytes, which is less only where the file ends or cannot be read.
    ///
    /// # Safety
    ///
    /// `iter` must be an iterator of pages to read into, with room for the bytes.
    unsafe fn copy(&self, iter: *mut iov_iter, at: i64, len: usize) -> Result<usize> {
        let start = at.unsigned_abs();
        let end = start.checked_add(len as u64).ok_or(EIO)?;
        let mut pos = start;
        let mut missed = None;
        let mut result = Ok(0);
        while pos < end.min(self.size()) {
            if !self.is_cached(pos) {
                missed.get_or_insert(pos >> PAGE_SHIFT);
                self.read_ahead(pos, end);
            }
            // SAFETY: By the safety requirements.
            result = unsafe { self.copy_folio(iter, pos, end) };
            match result {
                Ok(0) | Err(_) => break,
                Ok(copied) => pos = pos.saturating_add(copied as u64),
            }
        }
        if let (Some(first), false) = (missed, self.kept) {
            let last = pos.saturating_sub(1) >> PAGE_SHIFT;
            // SAFETY: The file is referenced; its mapping is constant.
            unsafe {
                bindings::invalidate_mapping_pages(
                    (*self.as_ptr()).f_mapping,
                    first as usize,
                    last as usize,
                )
            };
        }
        match pos.wrapping_sub(start) as usize {
            0 => result,
            copied => Ok(copied),
        }
    }

    /// Whether the file's cache has the page at `pos`.
    fn is_cached(&self, pos: u64) -> bool {
        let pos = pos as i64;
        // SAFETY: The file is referenced; its mapping is constant.
        unsafe { bindings::filemap_range_has_page((*self.as_ptr()).f_mapping, pos, pos) }
    }

    /// Has the pages between two positions read into the file's cache, and no others, as far as they
    /// are not there. What cannot be read now is left to be read when it is wanted.
    fn read_ahead(&self, pos: u64, end: u64) {
        let first = pos >> PAGE_SHIFT;
        let behind = end.div_ceil(PAGE_SIZE as u64);
        let pages = behind.saturating_sub(first).min(u32::MAX.into()) as u32;
        let mut state = bindings::file_ra_state {
            ra_pages: pages,
            prev_pos: -1,
            ..Default::default()
        };
        // SAFETY: The file is referenced; its mapping is constant.
        let mapping = unsafe { (*self.as_ptr()).f_mapping };
        let mut control = bindings::readahead_control {
            file: self.as_ptr(),
            mapping,
            ra: &mut state,
            _index: first as usize,
            ..Default::default()
        };
        // SAFETY: All that the control refers to is valid during the call.
        unsafe { bindings::page_cache_sync_ra(&mut control, pages as usize) };
    }

    /// Copies what the folio at `pos` has before `end`. The number of bytes, 0 at the end of the file.
    ///
    /// # Safety
    ///
    /// `iter` must be an iterator of pages to read into, with room for the bytes.
    unsafe fn copy_folio(&self, iter: *mut iov_iter, pos: u64, end: u64) -> Result<usize> {
        let mut found = bindings::vfs_helper_folio::default();
        // SAFETY: The file is referenced; its mapping is constant, and can read folios.
        to_result(unsafe {
            bindings::vfs_helper_read_folio(
                (*self.as_ptr()).f_mapping,
                (pos >> PAGE_SHIFT) as usize,
                self.as_ptr(),
                &mut found,
            )
        })?;
        // SAFETY: It was found, with a reference.
        let folio = unsafe { FolioRef::from_raw(found.folio) };
        let start = found.pos.unsigned_abs();
        // As of now: bytes of a page that was read after the file had become shorter are none of it.
        let behind = start.saturating_add(found.size as u64).min(self.size());
        let len = behind.min(end).saturating_sub(pos) as usize;
        let offset = pos.wrapping_sub(start) as usize;
        // SAFETY: The bytes lie in the folio, which is referenced; the rest by the safety requirements.
        let copied =
            unsafe { bindings::vfs_helper_copy_folio_to_iter(folio.as_ptr(), offset, len, iter) };
        if copied == len {
            Ok(copied)
        } else {
            Err(EFAULT)
        }
    }
}
