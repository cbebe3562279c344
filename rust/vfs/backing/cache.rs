// SPDX-License-Identifier: GPL-2.0-only

//! The page cache that a backing file's bytes are in, and copying from its folios what is to be cached
//! elsewhere ([`crate::vfs::backing::read`]).
//!
//! What is waited for here is what a fault in a mapping of the backing file itself would wait for, and no
//! more: no lock that reads and writes of the file take.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::row::Row;
use crate::vfs::bindings;
use core::ops::Range;
use core::ptr;
use kernel::bindings::file_ra_state;
use kernel::bindings::iov_iter;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::str::CStr;

/// How many pages of a row are dropped at once.
const DROP_STEP: u64 = 32;

/// How many pages a folio has at the most that is read ahead.
const FOLIO_MAX: u64 = 512;

/// The page cache that a file's bytes are in: for a file of a stacked filesystem that of the file below.
pub(in crate::vfs) struct Cache<'a> {
    // Valid as long as the file is referenced.
    mapping: *mut bindings::address_space,
    is_below: bool,
    file: &'a BackingFile,
}

impl<'a> Cache<'a> {
    pub(in crate::vfs) fn of(file: &'a BackingFile) -> Self {
        let mut is_below = false;
        // SAFETY: The file is referenced, and keeps the inode below, if there is one.
        let mapping = unsafe { bindings::vfs_helper_cache_of(file.as_ptr(), &mut is_below) };
        Self {
            mapping,
            is_below,
            file,
        }
    }

    /// Whether it is that of the file below one of a stacked filesystem.
    pub(in crate::vfs) fn is_below(&self) -> bool {
        self.is_below
    }

    /// The inode whose cache it is.
    pub(in crate::vfs) fn inode(&self) -> *mut bindings::inode {
        // SAFETY: The mapping is valid; its host is constant.
        unsafe { (*self.mapping).host }
    }

    /// The size of the file in bytes as it is now.
    pub(in crate::vfs) fn size(&self) -> u64 {
        // SAFETY: The inode lives as long as the mapping.
        unsafe { bindings::vfs_helper_i_size_read(self.inode()) }.unsigned_abs()
    }

    pub(in crate::vfs) fn is_dax(&self) -> bool {
        // SAFETY: The inode lives as long as the mapping; the flag does not change while it is in use.
        unsafe {
            (&raw const (*self.inode()).i_flags).read_volatile() & bindings::VFS_CONST_S_DAX != 0
        }
    }

    /// Whether the filesystem is one on a block device. A network's may get a reply after a killed read
    /// has returned, and may have to ask whether what it has cached is still true.
    pub(in crate::vfs) fn is_on_disk(&self) -> bool {
        // SAFETY: The inode lives as long as the mapping; its superblock's type is constant.
        let flags = unsafe { (*(*(*self.inode()).i_sb).s_type).fs_flags };
        flags & bindings::FS_REQUIRES_DEV as i32 != 0
    }

    fn fs_name(&self) -> &CStr {
        // SAFETY: The superblock and its type live as long as the inode.
        unsafe { crate::vfs::c_str((*(*(*self.inode()).i_sb).s_type).name) }
    }

    /// Whether folios can be read into the cache by any task at any time: not past the cache, and not on
    /// filesystems that share a disk with other machines, or ask a server. Those have locks of their own,
    /// and gfs2 takes them even if there is no other machine.
    pub(in crate::vfs) fn has_folios(&self) -> bool {
        // SAFETY: The mapping is valid, and has operations at any time, as its inode has.
        let (readable, shared) = unsafe {
            let operations = (*self.inode()).__bindgen_anon_3.i_fop;
            (
                (*(*self.mapping).a_ops).read_folio.is_some(),
                (*operations).lock.is_some() || (*operations).flock.is_some(),
            )
        };
        readable && !shared && !self.is_dax() && self.fs_name() != c"gfs2"
    }

    /// How many pages readahead may be ahead, as the device has it set.
    pub(in crate::vfs) fn readahead_pages(&self) -> u32 {
        // SAFETY: The mapping is valid.
        let pages = unsafe { bindings::vfs_helper_readahead_pages(self.mapping) };
        pages.try_into().unwrap_or(u32::MAX)
    }

    /// The file, if the cache is its own.
    fn own_file(&self) -> *mut bindings::file {
        if self.is_below {
            ptr::null_mut()
        } else {
            self.file.as_ptr()
        }
    }

    /// Copies the bytes between two positions from the cache's folios, as far as they are there. The number
    /// of bytes.
    ///
    /// # Errors
    ///
    /// If nothing is there.
    ///
    /// # Safety
    ///
    /// `iter` must be an iterator of pages to read into, with room for the bytes, and the cache one that
    /// [`Self::has_folios`].
    pub(in crate::vfs) unsafe fn copy_cached(
        &self,
        iter: *mut iov_iter,
        start: u64,
        end: u64,
    ) -> Result<usize> {
        // SAFETY: By the safety requirements.
        unsafe { self.copy_folios(iter, start, end, false, |_| {}) }
    }

    /// Copies the bytes between two positions from the cache's folios. Those that had to be read for it
    /// are dropped again, unless they may stay or are in use. The number of bytes, which is less only
    /// where the file ends or cannot be read.
    ///
    /// # Errors
    ///
    /// What reading a folio returns.
    ///
    /// # Safety
    ///
    /// As for [`Self::copy_cached`].
    pub(in crate::vfs) unsafe fn copy(
        &self,
        iter: *mut iov_iter,
        start: u64,
        end: u64,
    ) -> Result<usize> {
        let mut missed = 0..0;
        let prepare = |page| {
            if page >= missed.end {
                self.drop_pages(&missed);
                missed = self.missing(page, end.div_ceil(PAGE_SIZE as u64));
                // A window of just what is wanted, with nothing before it that it would go on from.
                let mut state = file_ra_state {
                    ra_pages: missed.end.wrapping_sub(page).min(u32::MAX.into()) as u32,
                    prev_pos: -1,
                    ..Default::default()
                };
                if !missed.is_empty() {
                    // SAFETY: By the safety requirements; there is a page to read.
                    unsafe { self.read_ahead(page, missed.end, &mut state, None) };
                }
            }
        };
        // SAFETY: By the safety requirements.
        let result = unsafe { self.copy_folios(iter, start, end, true, prepare) };
        self.drop_pages(&missed);
        result
    }

    /// Copies the bytes between two positions from the cache's folios, which are read as in a sequential
    /// read. They stay until [`Self::drop_passed`].
    ///
    /// # Errors
    ///
    /// What reading a folio returns.
    ///
    /// # Safety
    ///
    /// As for [`Self::copy_cached`].
    pub(in crate::vfs) unsafe fn copy_in_row(
        &self,
        iter: *mut iov_iter,
        start: u64,
        end: u64,
        row: &mut Row,
    ) -> Result<usize> {
        row.readahead.ra_pages = self.readahead_pages();
        let behind = end.div_ceil(PAGE_SIZE as u64);
        // SAFETY: By the safety requirements. No page that is wanted is `behind`, or later.
        let prepare = |page| unsafe { self.read_ahead_in_row(page, behind, row) };
        // SAFETY: By the safety requirements.
        unsafe { self.copy_folios(iter, start, end, true, prepare) }
    }

    /// Begins to read what comes next in a row, of which the bytes between two positions are wanted. Where
    /// they can be read to until more is to be begun.
    ///
    /// # Safety
    ///
    /// The cache must be one that [`Self::has_folios`], and `start` less than `end`.
    pub(in crate::vfs) unsafe fn go_on(&self, start: u64, end: u64, row: &mut Row) -> u64 {
        let page = start >> PAGE_SHIFT;
        row.readahead.ra_pages = self.readahead_pages();
        if row.readahead.ra_pages == 0 {
            return end;
        }
        let behind = end.div_ceil(PAGE_SIZE as u64);
        let last = row.behind();
        let (marked, size) = (row.marked(), row.readahead.size.into());
        if row.is_shared && marked < last && (last..last.saturating_add(size)).contains(&page) {
            // Another task will read what lies between, but may come later.
            // SAFETY: By the safety requirements; the marked page is before this one.
            unsafe { self.read_ahead(marked, behind, &mut row.readahead, None) };
        }
        // SAFETY: By the safety requirements.
        unsafe { self.follow(page, behind, row, None) };
        row.next(page)
            .map_or(end, |next| next.saturating_mul(PAGE_SIZE as u64).min(end))
    }

    /// [`Self::read_ahead`] for a row, in which each page follows what came before.
    ///
    /// # Safety
    ///
    /// As for [`Self::read_ahead`].
    unsafe fn follow(&self, page: u64, end: u64, row: &mut Row, alone: Option<&mut Range<u64>>) {
        row.readahead.prev_pos = (page << PAGE_SHIFT) as i64;
        // SAFETY: By the safety requirements.
        unsafe { self.read_ahead(page, end, &mut row.readahead, alone) };
    }

    /// [`Self::follow`] for a row that notes what it may drop later: so it reads nothing ahead behind what
    /// the cache has already, for then others read there, too.
    ///
    /// # Safety
    ///
    /// As for [`Self::read_ahead`].
    unsafe fn read_ahead_in_row(&self, page: u64, end: u64, row: &mut Row) {
        let mut alone = 0..0;
        // SAFETY: By the safety requirements.
        unsafe { self.follow(page, end, row, Some(&mut alone)) };
        if alone.is_empty() {
            return;
        }
        if alone.start <= row.ahead.end && row.ahead.start <= alone.end {
            row.ahead = row.ahead.start.min(alone.start)..row.ahead.end.max(alone.end);
        } else {
            self.drop_pages(&row.ahead);
            row.ahead = alone;
        }
    }

    /// Drops what a row has read ahead and passed before `end`, when it is [`DROP_STEP`] or all of it.
    pub(in crate::vfs) fn drop_passed(&self, row: &mut Row, end: u64) {
        let passed = (end >> PAGE_SHIFT).min(row.ahead.end);
        let count = passed.saturating_sub(row.ahead.start);
        if count >= DROP_STEP || count > 0 && passed == row.ahead.end {
            let left = self.drop_pages(&(row.ahead.start..passed));
            // What is in use is tried again for a while.
            row.ahead.start = left.max(passed.saturating_sub(FOLIO_MAX));
        }
    }

    /// Drops all that a row has read ahead, as far as it is not in use.
    pub(in crate::vfs) fn drop_row(&self, row: &Row) {
        self.drop_pages(&row.ahead);
    }

    /// Copies the bytes between two positions folio by folio, each after `prepare` was called with the
    /// first page that is wanted of it, which is one before `end`. Folios that are not there are read, or
    /// else copying ends. The number of bytes.
    ///
    /// # Errors
    ///
    /// If there is not one byte.
    ///
    /// # Safety
    ///
    /// As for [`Self::copy_cached`].
    unsafe fn copy_folios(
        &self,
        iter: *mut iov_iter,
        start: u64,
        end: u64,
        read: bool,
        mut prepare: impl FnMut(u64),
    ) -> Result<usize> {
        let mut pos = start;
        let mut result = Ok(0);
        while pos < end.min(self.size()) {
            prepare(pos >> PAGE_SHIFT);
            // SAFETY: By the safety requirements. Nobody who holds the lock alone waits for the pages that
            // are copied to: they are the kernel's.
            let copied = unsafe {
                bindings::vfs_helper_copy_from_cache(
                    self.mapping,
                    self.own_file(),
                    pos as i64,
                    end.saturating_sub(pos) as usize,
                    iter,
                    read,
                )
            };
            result = usize::try_from(copied).map_err(|_| Error::from_errno(copied as i32));
            match result {
                Ok(0) | Err(_) => break,
                Ok(copied) => pos = pos.saturating_add(copied as u64),
            }
        }
        match pos.wrapping_sub(start) as usize {
            0 => result,
            copied => Ok(copied),
        }
    }

    /// The pages from `first` on, before `end`, that are not in the cache.
    fn missing(&self, first: u64, end: u64) -> Range<u64> {
        let is_missing = |page: u64| {
            let pos = (page << PAGE_SHIFT) as i64;
            // SAFETY: The mapping is valid.
            !unsafe { bindings::filemap_range_has_page(self.mapping, pos, pos) }
        };
        let mut behind = first;
        while behind < end && is_missing(behind) {
            behind = behind.saturating_add(1);
        }
        first..behind
    }

    /// Begins to read the page `first`, and those that are wanted before `end`, into the cache, and what
    /// `state` says of what is wanted next. What cannot be read now is left to be read when it is copied.
    ///
    /// With `alone` it is no more than up to the next page that the cache has, and `alone` tells what.
    ///
    /// # Safety
    ///
    /// The cache must be one that [`Self::has_folios`], and `first` less than `end`.
    unsafe fn read_ahead(
        &self,
        first: u64,
        end: u64,
        state: &mut file_ra_state,
        alone: Option<&mut Range<u64>>,
    ) {
        let mut window = bindings::vfs_helper_window::default();
        // SAFETY: The mapping is valid, and so are the state, the window, and the file, if there is one; the
        // rest is by the safety requirements.
        unsafe {
            bindings::vfs_helper_read_ahead(
                self.mapping,
                self.own_file(),
                state,
                first as usize,
                end as usize,
                match alone {
                    Some(_) => &mut window,
                    None => ptr::null_mut(),
                },
            );
        }
        if let Some(alone) = alone {
            *alone = window.start as u64..window.end as u64;
        }
    }

    /// Drops pages, as far as they are not in use, if they were not to stay. The first that is left, or the
    /// end.
    fn drop_pages(&self, pages: &Range<u64>) -> u64 {
        if pages.is_empty() || self.file.kept {
            return pages.end;
        }
        let (first, end) = (pages.start as usize, pages.end as usize);
        // SAFETY: The mapping is valid, and the end behind the beginning.
        unsafe { bindings::vfs_helper_drop_pages(self.mapping, first, end) as u64 }
    }
}
