// SPDX-License-Identifier: GPL-2.0-only

//! Reading a regular file: from its extents' backing files into the caller's iterator or pipe, with
//! no page cache in between. The bytes are cached once, by the backing file's own filesystem.
//!
//! Called through the table in [`crate::vfs::node::file`].

use crate::vfs::backing::cache::Cache;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::reply::Wait;
use crate::vfs::backing::row::Gap;
use crate::vfs::backing::row::Rows;
use crate::vfs::bindings;
use crate::vfs::node::opener::Opener;
use crate::vfs::node::opener::View;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::extent::Extents;
use crate::vfs::pages::extent::Source;
use crate::vfs::task::rest;
use core::mem::MaybeUninit;
use core::ptr;
use kernel::error::to_result;
use kernel::prelude::*;

/// How much of a hole is zeroed between looks at whether the task is being killed, in bytes.
const ZERO_STEP: u64 = 1 << 20;

/// What may lie between files of a row. What one task leaves out, and no other reads, stays in the cache
/// for nothing.
const GAP: Gap = Gap {
    alone: 16 << 10,
    shared: 256 << 10,
};

/// The flags of a reader's control block that its reads of the backing file have, too.
const INHERITED: i32 =
    bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_DIRECT as i32 | bindings::IOCB_NOIO as i32;

/// A read in progress.
struct Read<'a> {
    opener: Opener<'a>,
    flags: i32,
    ioprio: u16,
    iter: *mut bindings::iov_iter,
    /// Whether listeners were asked for what is passed on next.
    is_asked: bool,
}

/// Reads from `inode` at the position of `iocb`, and moves it on.
///
/// # Safety
///
/// `iocb` must be valid, and for an open file of `inode`; `iter` must be a valid iterator to be
/// written to.
#[inline]
pub(in crate::vfs) unsafe fn read_iter<E: Extents>(
    inode: &Inode<E::FileSystem>,
    iocb: *mut bindings::kiocb,
    iter: *mut bindings::iov_iter,
) -> Result<usize> {
    // SAFETY: By the safety requirements.
    let (mut read, start) = unsafe {
        (
            Read {
                opener: Opener::from_raw((*iocb).ki_filp),
                flags: (*iocb).ki_flags & INHERITED,
                ioprio: (*iocb).ki_ioprio,
                iter,
                is_asked: false,
            },
            (*iocb).ki_pos.unsigned_abs(),
        )
    };
    let wanted = read.left();
    let left = inode.size().saturating_sub(start);
    if wanted == 0 || left == 0 {
        return Ok(0);
    }
    let mut done = 0;
    if read.flags & bindings::IOCB_DIRECT as i32 == 0 {
        if let Some((file, from)) = E::whole(inode) {
            let from = from.checked_add(start).ok_or(EIO)?;
            done = read.read_whole(file, from, wanted, left, start == 0)?;
        }
    }
    if done == 0 {
        done = read.read_extents::<E>(inode, start)?;
    }
    let pos = start.saturating_add(done as u64);
    // SAFETY: By the safety requirements.
    unsafe { (*iocb).ki_pos = i64::try_from(pos).unwrap_or(i64::MAX) };
    Ok(done)
}

impl Read<'_> {
    /// Whether the reader may not wait.
    #[inline]
    fn is_nowait(&self) -> bool {
        self.flags & bindings::VFS_CONST_IOCB_NOWAIT != 0
    }

    /// What may be waited for. No lock is held here.
    #[inline]
    fn patience(&self) -> Wait {
        if self.is_nowait() {
            Wait::No
        } else {
            Wait::Any
        }
    }

    /// How many bytes are still wanted.
    #[inline]
    fn left(&self) -> u64 {
        // SAFETY: The iterator is valid by the requirements of `read_iter`.
        unsafe { left(self.iter) }
    }

    /// Reads what is wanted at `from` of a backing file, which goes on for `left` bytes that are the
    /// reader's file's. The number of bytes, which is 0 where the backing file ends.
    #[inline]
    fn read_whole(
        &mut self,
        file: &BackingFile,
        from: u64,
        wanted: u64,
        left: u64,
        from_start: bool,
    ) -> Result<usize> {
        let is_whole = from_start && wanted >= left;
        let wanted_here = wanted.min(left);
        let view = self.view(file, is_whole)?;
        let there = self.there(file, &view, from, wanted_here)?;
        let left = if there < wanted_here { there } else { left };
        if let (Some(rows), true) = (&file.read_rows, is_whole && view.as_ptr() == file.as_ptr()) {
            return self.read_in_row(file, rows, from, left);
        }
        let behind = wanted.saturating_sub(left) as usize;
        // The iterator is the reader's own: no one looks at it after an error.
        // SAFETY: The iterator is valid, and has more than `behind` bytes. The view is open for
        // reading, and stays so.
        let read = unsafe {
            *count_of(self.iter) = (*count_of(self.iter)).wrapping_sub(behind);
            let read = self.pass_on(file, view.as_ptr(), from, self.flags, self.iter);
            *count_of(self.iter) = (*count_of(self.iter)).wrapping_add(behind);
            read
        };
        usize::try_from(read).map_err(|_| Error::from_errno(read as i32))
    }

    /// Reads `len` bytes at `from` of a backing file, which are a whole file of the reader's and may be in
    /// one of these `rows` of the backing file.
    fn read_in_row(
        &mut self,
        file: &BackingFile,
        rows: &Rows,
        from: u64,
        len: u64,
    ) -> Result<usize> {
        let cached = bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_NOIO as i32;
        let may_wait = self.flags & cached == 0;
        let done = match self.part(file, &View::of_mount(file), from, len, self.flags | cached) {
            Err(error) if error == EAGAIN && may_wait => 0,
            // The file ends.
            Ok(0) => return Ok(0),
            done => done?,
        };
        if done as u64 >= len || !may_wait {
            return Ok(done);
        }
        match self.read_missing(file, rows, from, done as u64, len) {
            Err(error) if done == 0 => Err(error),
            rest => Ok(done.wrapping_add(rest.unwrap_or(0))),
        }
    }

    /// Reads the rest of that, of which `done` bytes were cached, and what comes next in its row.
    ///
    /// # Errors
    ///
    /// If there is not one byte.
    #[inline(never)]
    fn read_missing(
        &mut self,
        file: &BackingFile,
        rows: &Rows,
        from: u64,
        done: u64,
        len: u64,
    ) -> Result<usize> {
        let (start, end) = (from.saturating_add(done), from.saturating_add(len));
        let cache = Cache::of(file);
        let mut row = rows.following(from, &GAP);
        let mut pos = start;
        let mut result = Ok(0);
        while pos < end.min(cache.size()) {
            let until = match &mut row {
                // SAFETY: A file has such rows only if its cache has folios, and `pos` is less than `end`.
                Some(row) => unsafe { cache.go_on(pos, end, row) },
                None => end,
            };
            let step = until.saturating_sub(pos);
            result = self.part(file, &View::of_mount(file), pos, step, self.flags);
            let read = result.unwrap_or(0) as u64;
            pos = pos.saturating_add(read);
            // There is an end or an error, which the next read will meet.
            if read < step {
                break;
            }
        }
        match row {
            Some(row) => rows.went_on(row, end),
            None => drop(rows.began(end)),
        }
        match pos.saturating_sub(start) as usize {
            0 => result,
            done => Ok(done),
        }
    }

    /// Reads one extent after the other, from position `start` on. The number of bytes.
    #[inline(never)]
    fn read_extents<E: Extents>(
        &mut self,
        inode: &Inode<E::FileSystem>,
        start: u64,
    ) -> Result<usize> {
        let nowait = self.is_nowait();
        if nowait && self.flags & bindings::IOCB_DIRECT as i32 != 0 {
            // A direct read is waited for here.
            return Err(EAGAIN);
        }
        let size = inode.size();
        let mut pos = start;
        while pos < size && self.left() > 0 {
            match self.step::<E>(inode, pos, size, nowait) {
                Ok(0) => break,
                Ok(len) => pos = pos.saturating_add(len),
                Err(error) if pos == start => return Err(error),
                Err(_) => break,
            }
        }
        Ok(pos.saturating_sub(start) as usize)
    }

    /// Reads from one extent. The number of bytes, which is 0 if there are none to be had.
    fn step<E: Extents>(
        &mut self,
        inode: &Inode<E::FileSystem>,
        pos: u64,
        size: u64,
        nowait: bool,
    ) -> Result<u64> {
        let extent = E::extent(inode, pos, nowait)?;
        let wanted = self.left();
        let len = extent.len.min(wanted).min(size.saturating_sub(pos));
        if len == 0 {
            return Err(EIO);
        }
        let done = match extent.source {
            Source::Hole => {
                rest()?;
                let len = len.min(ZERO_STEP) as usize;
                // SAFETY: The iterator is valid.
                match unsafe { bindings::iov_iter_zero(len, self.iter) } {
                    0 => return Err(EFAULT),
                    done => done,
                }
            }
            Source::Memory(bytes, _) => {
                let bytes = bytes.get(..len as usize).ok_or(EIO)?;
                // SAFETY: The slice is valid for its length, and the iterator is valid.
                match unsafe {
                    bindings::vfs_helper_copy_to_iter(bytes.as_ptr().cast(), bytes.len(), self.iter)
                } {
                    0 => return Err(EFAULT),
                    done => done,
                }
            }
            Source::File(file, from) => {
                let whole = pos == 0 && len == size;
                match self.read_file(file, from, len, whole)? {
                    // The extent goes on.
                    0 => return Err(EIO),
                    done => done,
                }
            }
        };
        Ok(done as u64)
    }

    /// What to read a backing file through: the opener's own view of it, but for the `whole` file at
    /// once, which may be in a row.
    #[inline]
    fn view<'b>(&self, file: &'b BackingFile, whole: bool) -> Result<View<'b>>
    where
        Self: 'b,
    {
        let nowait = self.is_nowait();
        let view = if whole && !self.opener.is_silent() && !self.opener.is_random() {
            View::of_mount(file)
        } else {
            self.opener.view(file, nowait)?
        };
        // SAFETY: The view is open; its mode does not change after it was opened.
        let mode = unsafe { (*view.as_ptr()).f_mode };
        if nowait && mode & bindings::VFS_CONST_FMODE_NOWAIT == 0 {
            return Err(EAGAIN);
        }
        Ok(view)
    }

    /// How many of the `len` bytes at `from` of a backing file there are. If some may be missing listeners are asked first, who
    /// may bring them. A reader that may not wait gets none that might be missing.
    #[inline]
    fn there(&mut self, file: &BackingFile, view: &View<'_>, from: u64, len: u64) -> Result<u64> {
        self.is_asked = file.refuses_holes() && file.listeners().is_some() && !self.is_nowait();
        if self.is_asked {
            ask(file, view, from, len)?;
        }
        file.there(from, len, self.patience())
    }

    /// Reads `len` bytes at `from` of a backing file, directly if the reader wants that and the
    /// alignment allows it.
    fn read_file(&mut self, file: &BackingFile, from: u64, len: u64, whole: bool) -> Result<usize> {
        let view = self.view(file, whole)?;
        let len = self.there(file, &view, from, len)?;
        let direct = bindings::IOCB_DIRECT as i32;
        let align = (self.flags & direct != 0).then(|| file.direct()).flatten();
        if let Some(align) = align {
            let align = u64::from(align.offset);
            let aligned = len & !align.wrapping_sub(1);
            if aligned > 0 && from & align.wrapping_sub(1) == 0 {
                match self.part(file, &view, from, aligned, self.flags) {
                    // The memory is not aligned, or more is wanted than the filesystem said.
                    Err(error) if error == EINVAL => {}
                    done => return done,
                }
            }
            // The rest of a sector, of which the reader must not see what is behind the file.
        }
        self.part(file, &view, from, len, self.flags & !direct)
    }

    /// One read of at most `len` bytes at `from` of a backing file. The number of bytes, which is 0 where
    /// the file ends.
    fn part(
        &mut self,
        file: &BackingFile,
        view: &View<'_>,
        from: u64,
        len: u64,
        flags: i32,
    ) -> Result<usize> {
        // The read gets a copy of the iterator, no longer than the extent: where a read that failed
        // leaves its iterator is not defined.
        // SAFETY: The iterator is valid, and so is a copy of it while the original is not used. The
        // view is open for reading, and stays so.
        let read = unsafe {
            let mut part = ptr::read(self.iter);
            *count_of(&mut part) = (*count_of(&mut part)).min(len as usize);
            self.pass_on(file, view.as_ptr(), from, flags, &mut part)
        };
        let done = usize::try_from(read).map_err(|_| Error::from_errno(read as i32))?;
        // SAFETY: The iterator is valid, and has that many bytes.
        unsafe { bindings::iov_iter_advance(self.iter, done) };
        Ok(done)
    }

    /// Calls the backing file's filesystem.
    ///
    /// # Safety
    ///
    /// `view` must be `file`, or another file opened for it, and stay open for reading; `iter` must be
    /// valid.
    #[inline]
    unsafe fn pass_on(
        &self,
        file: &BackingFile,
        view: *mut bindings::file,
        from: u64,
        flags: i32,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        let Ok(pos) = i64::try_from(from) else {
            return EIO.to_errno() as isize;
        };
        // SAFETY: All members are numbers, or pointers that may be null.
        let mut kiocb = unsafe { MaybeUninit::<bindings::kiocb>::zeroed().assume_init() };
        kiocb.ki_filp = view;
        kiocb.ki_pos = pos;
        kiocb.ki_flags = flags;
        kiocb.ki_ioprio = self.ioprio;
        // SAFETY: By the safety requirements. Without a completion the call returns when it is done.
        file.as_opener(|| unsafe {
            if self.is_asked {
                bindings::vfs_helper_read_asked(&mut kiocb, iter)
            } else {
                bindings::vfs_iocb_iter_read(view, &mut kiocb, iter)
            }
        })
    }
}

/// Asks security modules and listeners for `len` bytes at `from` of a backing file, as reading it through `view` does.
#[cold]
fn ask(file: &BackingFile, view: &View<'_>, from: u64, len: u64) -> Result {
    let pos = i64::try_from(from).map_err(|_| EIO)?;
    let len = usize::try_from(len).map_err(|_| EIO)?;
    // SAFETY: The view is open, and the position valid during the call.
    to_result(file.as_opener(|| unsafe {
        bindings::rw_verify_area(bindings::READ as i32, view.as_ptr(), &pos, len)
    }))
}

/// How many bytes an iterator has.
///
/// # Safety
///
/// `iter` must be valid.
#[inline]
pub(in crate::vfs) unsafe fn left(iter: *mut bindings::iov_iter) -> u64 {
    // SAFETY: By the safety requirements.
    unsafe { *count_of(iter) as u64 }
}

/// Where an iterator counts its bytes.
///
/// # Safety
///
/// `iter` must be valid.
#[inline]
pub(in crate::vfs) unsafe fn count_of(iter: *mut bindings::iov_iter) -> *mut usize {
    // SAFETY: By the safety requirements. The count is there for all kinds of iterators.
    unsafe { &raw mut (*iter).__bindgen_anon_1.__bindgen_anon_1.as_mut().count }
}

/// Moves bytes of `inode` at `*pos` to a pipe: the backing file's own pages where they lie in one.
///
/// # Safety
///
/// Called by the VFS, with what it passes to `splice_read` for an open file of `inode`.
pub(in crate::vfs) unsafe fn splice_read<E: Extents>(
    inode: &Inode<E::FileSystem>,
    file: *mut bindings::file,
    pos: *mut bindings::loff_t,
    pipe: *mut bindings::pipe_inode_info,
    len: usize,
    flags: u32,
) -> Result<usize> {
    // SAFETY: By the safety requirements.
    let (opener, start) = unsafe { (Opener::from_raw(file), (*pos).unsigned_abs()) };
    let size = inode.size();
    if start >= size || len == 0 {
        return Ok(0);
    }
    let extent = E::extent(inode, start, false)?;
    let len = extent.len.min(len as u64).min(size.saturating_sub(start)) as usize;
    let read = match extent.source {
        Source::File(backing, from) => {
            let mut at = i64::try_from(from).map_err(|_| EIO)?;
            let view = opener.view(backing, false)?;
            let is_asked = backing.refuses_holes() && backing.listeners().is_some();
            if is_asked {
                // Who may bring what would be missing.
                ask(backing, &view, from, len as u64)?;
            }
            let len = backing.there(from, len as u64, Wait::Any)? as usize;
            // SAFETY: The view is open for reading, and the rest is as the VFS passed it.
            unsafe {
                if (*(*view.as_ptr()).f_op).splice_read.is_none() {
                    bindings::copy_splice_read(file, pos, pipe, len, flags)
                } else {
                    let read = backing.as_opener(|| {
                        if is_asked {
                            bindings::vfs_helper_splice_asked(
                                view.as_ptr(),
                                &mut at,
                                pipe,
                                len,
                                flags,
                            )
                        } else {
                            bindings::vfs_splice_read(view.as_ptr(), &mut at, pipe, len, flags)
                        }
                    });
                    if let Ok(read) = u64::try_from(read) {
                        *pos = i64::try_from(start.saturating_add(read)).unwrap_or(i64::MAX);
                    }
                    read
                }
            }
        }
        // SAFETY: All is as the VFS passed it, and the length not more.
        _ => unsafe { bindings::copy_splice_read(file, pos, pipe, len, flags) },
    };
    match usize::try_from(read) {
        // The file does not end here.
        Ok(0) => Err(EIO),
        Ok(read) => Ok(read),
        Err(_) => Err(Error::from_errno(read as i32)),
    }
}
