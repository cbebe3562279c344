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
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use kernel::bindings::iov_iter;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::str::CStr;

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

/// Filesystems whose reads take the file's lock even if they are told not to wait.
const WAITING: [&CStr; 2] = [c"btrfs", c"ntfs"];

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
    ///
    /// # Safety
    ///
    /// The segments must be pages that this thread alone writes to, with `skip` and `room` bytes.
    pub(super) unsafe fn read_exact(
        &self,
        segments: &[bindings::bio_vec],
        skip: usize,
        len: usize,
        room: usize,
        pos: u64,
    ) -> Result {
        let mut done = 0usize;
        let mut direct_step = usize::MAX;
        let cache = self.cache();
        for way in cache.ways().into_iter().flatten() {
            let is_last = matches!(way, Way::Copied | Way::Buffered);
            while done < len {
                let end = match way {
                    // Whole sectors, of which the last may be wanted in part.
                    Way::Direct => len
                        .checked_next_multiple_of(SECTOR)
                        .map_or(len, |sectors| sectors.min(room))
                        .min(done.saturating_add(direct_step)),
                    Way::Cached | Way::Copied | Way::Buffered => len,
                };
                // SAFETY: By the safety requirements; `end` is not more than `room`.
                match unsafe { cache.read(segments, skip, done..end, pos, way) } {
                    Ok(0) if is_last => return Err(EIO),
                    Ok(0) => break,
                    Ok(read) => done = done.checked_add(read).ok_or(EIO)?,
                    Err(error) if is_last => return Err(error),
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
        // If the file became shorter meanwhile, zeros may have been read for what it had.
        if pos.saturating_add(len as u64) > cache.size() {
            return Err(EIO);
        }
        Ok(())
    }

    /// The page cache that the file's bytes are in.
    fn cache(&self) -> Cache<'_> {
        let mut is_below = false;
        // SAFETY: The file is referenced, and keeps the inode below, if there is one.
        let mapping = unsafe { bindings::vfs_helper_cache_of(self.as_ptr(), &mut is_below) };
        Cache {
            mapping,
            is_below,
            file: self,
        }
    }
}

/// The page cache that a file's bytes are in: for a file of a stacked filesystem that of the file below.
struct Cache<'a> {
    // Valid as long as the file is referenced.
    mapping: *mut bindings::address_space,
    is_below: bool,
    file: &'a BackingFile,
}

impl Cache<'_> {
    /// The ways in which the file is read to be cached elsewhere: those that are worth a try, and then the
    /// one that reads whatever can be read.
    fn ways(&self) -> [Option<Way>; 3] {
        let file = self.file;
        let is_device = file.is_block_device();
        let is_on_disk = self.is_on_disk();
        // A block device has its lock waited for by reads from its cache even if they may not, and not
        // at all by direct ones. A stacked filesystem asks below whether the file may be read.
        let never_waits = file.mode() & bindings::VFS_CONST_FMODE_NOWAIT != 0
            && !is_device
            && !self.is_below
            && !WAITING.contains(&file.fs_name());
        let can_be_direct =
            !file.kept && file.can_read_directly() && (is_device || never_waits && is_on_disk);
        let last = if (is_device || is_on_disk) && self.has_folios() {
            Way::Copied
        } else {
            Way::Buffered
        };
        [
            never_waits.then_some(Way::Cached),
            can_be_direct.then_some(Way::Direct),
            Some(last),
        ]
    }

    /// Reads the bytes of a range, which begins at `pos` of the file and behind the first `skip`
    /// bytes of `segments`, and waits for it. The number of bytes, which may be less.
    ///
    /// # Safety
    ///
    /// The segments must be pages that this thread alone writes to, with bytes for the range.
    unsafe fn read(
        &self,
        segments: &[bindings::bio_vec],
        skip: usize,
        range: Range<usize>,
        pos: u64,
        way: Way,
    ) -> Result<usize> {
        let at = pos.checked_add(range.start as u64).ok_or(EIO)?;
        let start = skip.checked_add(range.start).ok_or(EIO)?;
        let end = skip.checked_add(range.end).ok_or(EIO)?;
        let len = range.end.saturating_sub(range.start);
        let behind = at.checked_add(len as u64).ok_or(EIO)?;
        i64::try_from(behind).map_err(|_| EIO)?;
        // Each read gets an iterator of its own: where a read that failed leaves it is not defined.
        let mut iter = MaybeUninit::<iov_iter>::uninit();
        // SAFETY: By the safety requirements the segments hold `end` bytes, of which `start` are passed
        // over.
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
        let _as_opener = Credentials::of(self.file);
        let flags = match way {
            Way::Cached => bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_NOIO as i32,
            // Direct reads of a block device take no lock, others do.
            Way::Direct if self.file.is_block_device() => bindings::IOCB_DIRECT as i32,
            Way::Direct => bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_DIRECT as i32,
            // SAFETY: The iterator is one of pages, with as many bytes left. This is the last way only of
            // files whose cache has folios.
            Way::Copied => return unsafe { self.copy(iter, at, behind) },
            Way::Buffered if !self.file.kept && self.can_drop() => {
                bindings::VFS_CONST_IOCB_DONTCACHE
            }
            Way::Buffered => 0,
        };
        let mut kiocb = bindings::kiocb {
            ki_filp: self.file.as_ptr(),
            ki_pos: at as i64,
            ki_flags: flags,
            // SAFETY: Looks at the current task.
            ki_ioprio: unsafe { bindings::vfs_helper_get_current_ioprio() } as u16,
            ..Default::default()
        };
        // SAFETY: The file is referenced; its operations are constant.
        let read_iter = unsafe { (*(*self.file.as_ptr()).f_op).read_iter }.ok_or(EINVAL)?;
        // SAFETY: The file is open for reading, the control block is for it and has no completion, so
        // that the call returns when it is done. No position is more than a file can have.
        let read = unsafe { read_iter(&mut kiocb, iter) };
        usize::try_from(read).map_err(|_| Error::from_errno(read as i32))
    }

    /// Whether the file's cache can be asked to drop what was read.
    fn can_drop(&self) -> bool {
        // SAFETY: The file is referenced; its operations are constant.
        let flags = unsafe { (*(*self.file.as_ptr()).f_op).fop_flags };
        flags & bindings::VFS_CONST_FOP_DONTCACHE != 0 && !self.is_dax()
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: The mapping is valid; its host is constant.
        unsafe { (*self.mapping).host }
    }

    /// The size of the file in bytes as it is now.
    fn size(&self) -> u64 {
        // SAFETY: The inode lives as long as the mapping.
        unsafe { bindings::vfs_helper_i_size_read(self.inode()) }.unsigned_abs()
    }

    fn is_dax(&self) -> bool {
        // SAFETY: The inode lives as long as the mapping; the flag does not change while it is in use.
        unsafe {
            (&raw const (*self.inode()).i_flags).read_volatile() & bindings::VFS_CONST_S_DAX != 0
        }
    }

    /// Whether the filesystem is one on a block device. A network's may get a reply after a killed read
    /// has returned, and may have to ask whether what it has cached is still true.
    fn is_on_disk(&self) -> bool {
        // SAFETY: The inode lives as long as the mapping; its superblock's type is constant.
        let flags = unsafe { (*(*(*self.inode()).i_sb).s_type).fs_flags };
        flags & bindings::FS_REQUIRES_DEV as i32 != 0
    }

    /// Whether folios can be read into the cache by any task at any time: not past the cache, and not on
    /// filesystems that share a disk with other machines, or ask a server. Those have locks of their own.
    fn has_folios(&self) -> bool {
        // SAFETY: The mapping is valid, and has operations at any time, as its inode has.
        let (readable, shared) = unsafe {
            let operations = (*self.inode()).__bindgen_anon_3.i_fop;
            (
                (*(*self.mapping).a_ops).read_folio.is_some(),
                (*operations).lock.is_some() || (*operations).flock.is_some(),
            )
        };
        readable && !shared && !self.is_dax()
    }

    /// Copies the bytes between two positions from the cache's folios. Those that had to be read for it
    /// are dropped again, unless they may stay or are in use; this is a hint, for the newest are in use for
    /// a while. The number of bytes, which is less only where the file ends or cannot be read.
    ///
    /// # Safety
    ///
    /// `iter` must be an iterator of pages to read into, with room for the bytes, and the cache one that
    /// [`Self::has_folios`].
    unsafe fn copy(&self, iter: *mut iov_iter, start: u64, end: u64) -> Result<usize> {
        let mut pos = start;
        let mut missed = 0..0;
        let mut result = Ok(0);
        while pos < end.min(self.size()) {
            let page = pos >> PAGE_SHIFT;
            if page >= missed.end {
                self.drop_pages(missed);
                missed = self.missing(page, end.div_ceil(PAGE_SIZE as u64));
                // SAFETY: By the safety requirements.
                unsafe { self.read_ahead(&missed) };
            }
            // SAFETY: By the safety requirements.
            result = unsafe { self.copy_folio(iter, pos, end) };
            match result {
                Ok(0) | Err(_) => break,
                Ok(copied) => pos = pos.saturating_add(copied as u64),
            }
        }
        self.drop_pages(missed);
        match pos.wrapping_sub(start) as usize {
            0 => result,
            copied => Ok(copied),
        }
    }

    /// The pages from `first` on, before `end`, that are not in the cache.
    fn missing(&self, first: u64, end: u64) -> Range<u64> {
        let is_missing = |page: &u64| {
            let pos = (*page << PAGE_SHIFT) as i64;
            // SAFETY: The mapping is valid.
            !unsafe { bindings::filemap_range_has_page(self.mapping, pos, pos) }
        };
        let mut behind = first;
        while behind < end && is_missing(&behind) {
            behind = behind.saturating_add(1);
        }
        first..behind
    }

    /// Has pages read into the cache, and no others: not past the end of the file. What cannot be read
    /// now is left to be read when it is wanted.
    ///
    /// # Safety
    ///
    /// The cache must be one that [`Self::has_folios`].
    unsafe fn read_ahead(&self, pages: &Range<u64>) {
        let count = pages.end.saturating_sub(pages.start).min(u32::MAX.into()) as u32;
        if count == 0 {
            return;
        }
        let mut state = bindings::file_ra_state {
            ra_pages: count,
            prev_pos: -1,
            ..Default::default()
        };
        let mut control = bindings::readahead_control {
            file: self.own_file(),
            mapping: self.mapping,
            ra: &mut state,
            _index: pages.start as usize,
            ..Default::default()
        };
        // SAFETY: All that the control refers to is valid during the call.
        unsafe { bindings::page_cache_sync_ra(&mut control, count as usize) };
    }

    /// Drops pages, as far as they are not in use, if they were not to stay.
    fn drop_pages(&self, pages: Range<u64>) {
        if pages.is_empty() || self.file.kept {
            return;
        }
        let (first, last) = (pages.start as usize, pages.end.saturating_sub(1) as usize);
        // SAFETY: The mapping is valid.
        unsafe { bindings::invalidate_mapping_pages(self.mapping, first, last) };
    }

    /// The file, if the cache is its own.
    fn own_file(&self) -> *mut bindings::file {
        if self.is_below {
            ptr::null_mut()
        } else {
            self.file.as_ptr()
        }
    }

    /// Copies what the folio at `pos` has before `end`. The number of bytes, 0 at the end of the file.
    ///
    /// # Safety
    ///
    /// As for [`Self::copy`].
    unsafe fn copy_folio(&self, iter: *mut iov_iter, pos: u64, end: u64) -> Result<usize> {
        // SAFETY: By the safety requirements. Nobody who holds the lock alone waits for the pages that are
        // copied to: they are the kernel's.
        let copied = unsafe {
            bindings::vfs_helper_copy_from_cache(
                self.mapping,
                self.own_file(),
                pos as i64,
                end.saturating_sub(pos) as usize,
                iter,
            )
        };
        usize::try_from(copied).map_err(|_| Error::from_errno(copied as i32))
    }
}
