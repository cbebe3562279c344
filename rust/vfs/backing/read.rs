// SPDX-License-Identifier: GPL-2.0-only

//! Reading from a backing file what is to be cached elsewhere: the pages of mappings
//! ([`crate::vfs::pages::folio_batch`]) and metadata ([`crate::vfs::pages::folio`]).
//!
//! The reader may be in a page fault, with the lock of its task's memory and of the page cache that is
//! filled. Readers and writers of the backing file wait for both when they fault in their buffer, and
//! on some filesystems hold the file's own lock then. So that lock is never waited for here: what a
//! fault in a mapping of the backing file itself would wait for is all. For the same reason listeners of fanotify are
//! asked before: see [`crate::vfs::backing::asking`].

use crate::vfs::backing::cache::Cache;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::reply::Wait;
use crate::vfs::backing::row::Gap;
use crate::vfs::backing::row::Row;
use crate::vfs::bindings;
use crate::vfs::errno::ENODATA;
use core::mem::MaybeUninit;
use core::ops::Range;
use kernel::bindings::iov_iter;
use kernel::prelude::*;
use kernel::str::CStr;

/// How much any device can read at once, in bytes.
const DIRECT_STEP: usize = 128 << 10;

/// What may lie between files of a row: what is read of that is dropped again.
const GAP: Gap = Gap {
    alone: 64 << 10,
    shared: 64 << 10,
};

/// How bytes are read that are to be cached elsewhere.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// From the file's cache, as far as they are there.
    Cached,
    /// Past the file's cache, unless that would wait for a lock, at positions that are multiples of so many bytes.
    Direct(usize),
    /// By copying from the folios of the file's cache, into which they are read ahead.
    Row,
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
    /// What `is_small`, the beginning of a small file that is to be cached, is read through the file's cache,
    /// too, if it follows what was read before: so a row of small files is read ahead.
    ///
    /// # Errors
    ///
    /// `EIO` if the file ends before, or has a hole there that is not to be read, what the file's filesystem returns, and
    /// what listeners say, if they were not asked before.
    ///
    /// # Safety
    ///
    /// The segments must be pages that this thread alone writes to, with `skip` and `room` bytes.
    pub(in crate::vfs) unsafe fn read_exact(
        &self,
        segments: &[bindings::bio_vec],
        skip: usize,
        len: usize,
        room: usize,
        pos: u64,
        is_small: bool,
    ) -> Result {
        let _asked = self.asked(pos, len as u64)?;
        if self.there(pos, len as u64, Wait::NoLock)? < len as u64 {
            return Err(EIO);
        }
        let mut reader = Reader::new(self, pos, is_small);
        // SAFETY: By the safety requirements.
        let result = unsafe { reader.read_all(segments, skip, len, room, pos) };
        reader.end(result.is_ok().then_some(pos.saturating_add(len as u64)));
        result
    }
}

/// One read of what is to be cached elsewhere.
struct Reader<'a> {
    file: &'a BackingFile,
    cache: Cache<'a>,
    is_device: bool,
    /// Whether it is read from a disk, and not from a server.
    is_local: bool,
    /// Whether the cache has folios to be copied from, and read into it by anyone.
    has_folios: bool,
    /// Whether it is the beginning of a small file, and one that can be in a row.
    is_small: bool,
    /// The row that it is in, if there is one.
    row: Option<Row>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a BackingFile, pos: u64, is_small: bool) -> Self {
        let cache = Cache::of(file);
        let is_device = file.is_block_device();
        let is_local = is_device || cache.is_on_disk();
        let has_folios = is_local && cache.has_folios();
        let has_rows = has_folios && !file.kept;
        Self {
            file,
            cache,
            is_device,
            is_local,
            has_folios,
            is_small: is_small && has_rows,
            row: has_rows.then(|| file.rows.following(pos, &GAP)).flatten(),
        }
    }

    /// Notes where the read ended, unless it failed, and lets go of what its row has passed.
    fn end(mut self, pos: Option<u64>) {
        match (self.row.take(), pos) {
            (Some(mut row), Some(pos)) => {
                self.cache.drop_passed(&mut row, pos);
                self.file.rows.went_on(row, pos);
            }
            (Some(row), None) => self.cache.drop_row(&row),
            (None, Some(pos)) if self.is_small => {
                self.cache.drop_row(&self.file.rows.began(pos));
            }
            (None, _) => {}
        }
    }

    /// Reads all of `len` bytes at `pos` in one way after the other.
    ///
    /// # Errors
    ///
    /// As for [`BackingFile::read_exact`].
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn read_all(
        &mut self,
        segments: &[bindings::bio_vec],
        skip: usize,
        len: usize,
        room: usize,
        pos: u64,
    ) -> Result {
        let mut done = 0usize;
        let mut direct_step = usize::MAX;
        for way in self.ways().into_iter().flatten() {
            let is_last = matches!(way, Way::Copied | Way::Buffered);
            while done < len {
                let end = match way {
                    // Whole sectors, of which the last may be wanted in part.
                    Way::Direct(align) => {
                        let at = pos.saturating_add(done as u64);
                        if at & align.wrapping_sub(1) as u64 != 0 {
                            break;
                        }
                        len.checked_next_multiple_of(align)
                            .map_or(len, |sectors| sectors.min(room))
                            .min(done.saturating_add(direct_step))
                    }
                    Way::Cached | Way::Row | Way::Copied | Way::Buffered => len,
                };
                // SAFETY: By the safety requirements; `end` is not more than `room`.
                match unsafe { self.read(segments, skip, done..end, pos, way) } {
                    Ok(0) if is_last => return Err(EIO),
                    Ok(0) => break,
                    Ok(read) => done = done.checked_add(read).ok_or(EIO)?,
                    Err(error) if is_last => return Err(error),
                    // More than the device takes at once is not divided without waiting.
                    Err(error)
                        if error == EAGAIN
                            && matches!(way, Way::Direct(_))
                            && end.saturating_sub(done) > DIRECT_STEP =>
                    {
                        direct_step = DIRECT_STEP;
                    }
                    // What the disk cannot read is not there for the next way either, which would try
                    // it page by page.
                    Err(error)
                        if matches!(way, Way::Direct(_)) && (error == EIO || error == ENODATA) =>
                    {
                        return Err(error);
                    }
                    Err(_) => break,
                }
            }
        }
        // If the file became shorter meanwhile, zeros may have been read for what it had.
        if pos.saturating_add(len as u64) > self.cache.size() {
            return Err(EIO);
        }
        Ok(())
    }

    /// The ways in which the file is read to be cached elsewhere: those that are worth a try, and then the
    /// one that reads whatever can be read.
    fn ways(&self) -> [Option<Way>; 3] {
        let file = self.file;
        // Nothing is read ahead that a listener was not asked for.
        let in_row = self.is_small
            && self.row.is_some()
            && !file.is_watched()
            && self.cache.readahead_pages() > 0;
        // A block device has its lock waited for by reads from its cache even if they may not, and not
        // at all by direct ones. A stacked filesystem asks below whether the file may be read.
        let never_waits = file.mode() & bindings::VFS_CONST_FMODE_NOWAIT != 0
            && !self.is_device
            && !self.cache.is_below()
            && !WAITING.contains(&file.fs_name());
        let can_be_direct = !file.kept && self.is_local && (self.is_device || never_waits);
        let direct = file.direct().filter(|_| can_be_direct);
        let first = if in_row {
            Some(Way::Row)
        } else {
            (never_waits || self.has_folios && direct.is_some()).then_some(Way::Cached)
        };
        [
            first,
            direct.map(|align| Way::Direct(align.offset as usize)),
            Some(if self.has_folios {
                Way::Copied
            } else {
                Way::Buffered
            }),
        ]
    }

    /// Reads the bytes of a range, which begins at `pos` of the file and behind the first `skip`
    /// bytes of `segments`, and waits for it. The number of bytes, which may be less.
    ///
    /// # Safety
    ///
    /// The segments must be pages that this thread alone writes to, with bytes for the range.
    unsafe fn read(
        &mut self,
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
        let file = self.file;
        // SAFETY: By the safety requirements; the iterator has as many bytes left.
        file.as_opener(|| unsafe { self.read_into(iter, at, behind, way) })
    }

    /// The same into an iterator, as the file's opener.
    ///
    /// # Safety
    ///
    /// The iterator must be one of pages that this thread alone writes to, with room for what lies between the
    /// positions, which no file's are beyond.
    unsafe fn read_into(
        &mut self,
        iter: *mut iov_iter,
        at: u64,
        behind: u64,
        way: Way,
    ) -> Result<usize> {
        let flags = match way {
            // SAFETY: By the safety requirements, and the cache has folios.
            Way::Cached if self.has_folios => unsafe {
                return self.cache.copy_cached(iter, at, behind);
            },
            // SAFETY: As above: these are ways only of files whose cache has folios.
            Way::Row | Way::Copied => unsafe {
                return match &mut self.row {
                    Some(row) if way == Way::Row => self.cache.copy_in_row(iter, at, behind, row),
                    _ => self.cache.copy(iter, at, behind),
                };
            },
            Way::Cached => bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_NOIO as i32,
            // Direct reads of a block device take no lock, others do.
            Way::Direct(_) if self.is_device => bindings::IOCB_DIRECT as i32,
            Way::Direct(_) => bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_DIRECT as i32,
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
        flags & bindings::VFS_CONST_FOP_DONTCACHE != 0 && !self.cache.is_dax()
    }
}
