// SPDX-License-Identifier: GPL-2.0-only

//! Parts of a backing file that it does not have: holes, which every filesystem reads as zeros. Where a blob is filled
//! while it is used they are what has not come yet, and zeros would be wrong bytes. A file that refuses holes
//! ([`BackingFile::refusing_holes`]) is asked before each read, by all that read it ([`crate::vfs::node::read`],
//! [`crate::vfs::backing::read`]), until it has everything.
//!
//! The filesystem is asked with SEEK_HOLE, which may wait for a lock that writers of the file have. So it is asked by a
//! worker where the reader may be in a page fault: the writer may wait for just that page, as what it writes. The reader
//! waits for the worker, but not for ever.

use crate::vfs::backing::cache::Cache;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::open::reopen;
use crate::vfs::backing::reply;
use crate::vfs::backing::reply::Wait;
use crate::vfs::bindings;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::workers::Workers;
use core::ptr;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;

/// How long a reader that may be in a page fault waits for writers of the file, in milliseconds.
const PATIENCE: u32 = 10_000;

/// What is known of a file that may have holes.
pub(in crate::vfs) struct Holes {
    /// The file, opened for this alone: asking moves its position.
    file: ARef<File>,
    workers: Arc<Workers>,
    /// Up to where it has everything. It cannot have less later: who takes bytes away from it is not noticed.
    whole: Atomic<u64>,
}

impl BackingFile {
    /// The same file, of which reading what it does not have is an error. A block device has everything.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if its filesystem does not say what it has, and those of opening it once more.
    pub(crate) fn refusing_holes(mut self, workers: &Arc<Workers>) -> Result<Self> {
        if self.is_block_device() {
            return Ok(self);
        }
        if !Cache::of(&self).knows_holes() {
            return Err(EOPNOTSUPP);
        }
        let holes = Holes {
            // SAFETY: The file is referenced.
            file: unsafe { reopen(self.as_ptr()) }?,
            workers: workers.clone(),
            whole: Atomic::new(0),
        };
        self.holes = Some(Arc::new(holes, GFP_KERNEL)?);
        Ok(self)
    }

    /// Whether reading what the file does not have is an error.
    pub(in crate::vfs) fn refuses_holes(&self) -> bool {
        self.holes.is_some()
    }

    /// Whether something may have to be refused, or asked for.
    pub(crate) fn may_lack_parts(&self) -> bool {
        self.holes
            .as_ref()
            .is_some_and(|holes| holes.whole.load(Relaxed) < self.size())
            || self.listeners.is_some()
    }

    /// How many of the `len` bytes at `pos` may be read: all, or those up to the first that the file does not have.
    ///
    /// # Errors
    ///
    /// `EIO` if the file does not have the first of them, or does not say so in time, `EAGAIN` if that is not known
    /// without waiting, and `EINTR` for a task that is being killed.
    #[inline]
    pub(in crate::vfs) fn there(&self, pos: u64, len: u64, wait: Wait) -> Result<u64> {
        match &self.holes {
            None => Ok(len),
            Some(holes) if pos.saturating_add(len) <= holes.whole.load(Relaxed) => Ok(len),
            Some(holes) => holes.ask(pos, len, wait),
        }
    }
}

impl Holes {
    #[cold]
    fn ask(&self, pos: u64, len: u64, wait: Wait) -> Result<u64> {
        let question = Question {
            file: self.file.clone(),
            whole: self.whole.load(Relaxed),
            pos,
        };
        let answer = match wait {
            Wait::No => return Err(EAGAIN),
            Wait::Any => question.answer(),
            // Nothing of this file's holes is in the question: the last of them waits for all workers.
            Wait::NoLock => reply::ask(&self.workers, PATIENCE, move || question.answer())?,
        }?;
        // Each answer is right by itself, also if one that says less comes later.
        self.whole.store(answer.whole, Relaxed);
        match answer.hole.saturating_sub(pos).min(len) {
            0 => Err(EIO),
            there => Ok(there),
        }
    }
}

/// A question to a filesystem.
struct Question {
    file: ARef<File>,
    /// Up to where everything is known to be there.
    whole: u64,
    /// From where on that is wanted.
    pos: u64,
}

/// What it said.
#[derive(Clone, Copy)]
struct Answer {
    /// Up to where everything is there.
    whole: u64,
    /// The first hole from the position on, or where the file ends.
    hole: u64,
}

impl Question {
    /// # Errors
    ///
    /// `EIO` if the file ends before the position, and what the filesystem returns.
    fn answer(&self) -> Result<Answer> {
        let whole = self.hole(self.whole).unwrap_or(self.whole);
        let hole = if self.pos < whole {
            whole
        } else {
            self.hole(self.pos)?
        };
        Ok(Answer { whole, hole })
    }

    /// The first hole from `pos` on, or where the file ends. What a write has begun to fill may count as there, so writes
    /// are waited for, and if one did not fill it there is a hole again.
    fn hole(&self, pos: u64) -> Result<u64> {
        let seek = || {
            let pos = i64::try_from(pos).map_err(|_| EIO)?;
            // SAFETY: The file is referenced. Its position is of no interest to anyone.
            let found = unsafe {
                bindings::vfs_llseek(self.file.as_ptr(), pos, bindings::SEEK_HOLE as i32)
            };
            // Behind the end there is nothing, so nothing may be read either.
            u64::try_from(found).map_err(|_| EIO)
        };
        let first = seek()?;
        if first == pos {
            return Ok(pos);
        }
        // SAFETY: The file is referenced, and the task holds no lock that writers want: no fault is being served.
        unsafe { bindings::vfs_helper_wait_for_writers(self.file.as_ptr()) };
        Ok(first.min(seek()?))
    }
}

impl Cache<'_> {
    /// Whether the filesystem says which parts of a file are holes. Those that leave it to the kernel's default call all
    /// of a file data.
    fn knows_holes(&self) -> bool {
        type Seek = unsafe extern "C" fn(*mut bindings::file, i64, i32) -> i64;
        const DEFAULT: Seek = bindings::generic_file_llseek;
        // SAFETY: The inode lives as long as the mapping, and has operations at any time.
        let seek = unsafe { (*(*self.inode()).__bindgen_anon_3.i_fop).llseek };
        seek.is_some_and(|seek| !ptr::fn_addr_eq(seek, DEFAULT))
    }
}
