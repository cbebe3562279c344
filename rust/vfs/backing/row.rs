// SPDX-License-Identifier: GPL-2.0-only

//! Rows: files that are read whole, each with one call, one after the other as they lie in a backing file.
//! Several tasks may do so at different places at once. Of each row is noted what the kernel notes of an
//! open file that is read so.
//!
//! A backing file has rows of what is read for callers ([`crate::vfs::node::read`]), and others of what is cached
//! elsewhere ([`crate::vfs::backing::read`]): programs' headers are read before they are mapped.

use core::ops::Range;
use kernel::bindings::file_ra_state;
use kernel::new_spinlock;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::SetOnce;
use kernel::sync::SpinLock;
use kernel::task::Task;

/// How many rows there can be at once: as many tasks can each read one.
const ROWS: usize = 8;

/// A row, or what may become one with the next read.
#[derive(Clone, Default)]
pub(in crate::vfs) struct Row {
    slot: usize,
    /// When it was last read in, of all rows of the file.
    used: u64,
    /// The task that read last.
    reader: usize,
    /// Whether several tasks read in it.
    pub(in crate::vfs) is_shared: bool,
    /// What the kernel's readahead goes by. A position of 0 is that of no read.
    pub(in crate::vfs) readahead: file_ra_state,
    /// The pages from where reading ahead for this row began to where it ended, of which what came before
    /// was dropped.
    pub(in crate::vfs) ahead: Range<u64>,
}

impl Row {
    /// The page behind the last window of readahead.
    pub(in crate::vfs) fn behind(&self) -> u64 {
        (self.readahead.start as u64).saturating_add(self.readahead.size.into())
    }

    /// The page with which the next window is to be begun, if that was not done.
    pub(in crate::vfs) fn marked(&self) -> u64 {
        self.behind()
            .saturating_sub(self.readahead.async_size.into())
    }

    /// The page behind `page` at which more is to be begun to be read, if that is known.
    pub(in crate::vfs) fn next(&self, page: u64) -> Option<u64> {
        let next = [self.marked(), self.behind()];
        next.into_iter().find(|next| *next > page)
    }
}

/// How many bytes may lie between two reads that follow each other.
pub(in crate::vfs) struct Gap {
    /// Between those of one task: headers of a tar, and files that no one wants.
    pub(in crate::vfs) alone: u64,
    /// Where there are several, each of which reads what others do not.
    pub(in crate::vfs) shared: u64,
}

/// The rows of a backing file.
///
/// If two tasks are in the same row each goes on from what it found, and the last one's state stays: what
/// is wrong there makes readahead worse, or leaves pages in a cache, and nothing else.
///
/// There is no memory for them until one may begin: mounting must not take time for each backing file.
#[derive(Clone)]
pub(in crate::vfs) struct Rows(Arc<SetOnce<Pin<KBox<SpinLock<Slots>>>>>);

struct Slots {
    rows: [Row; ROWS],
    /// Counts reads.
    now: u64,
}

/// What tells the current task from others that read at the same time.
fn reader() -> usize {
    Task::current_raw() as usize
}

impl Slots {
    /// Notes a row that a read ended in at `pos`. What was in its slot.
    fn note(&mut self, mut row: Row, pos: u64) -> Row {
        self.now = self.now.wrapping_add(1);
        row.used = self.now;
        let reader = reader();
        row.is_shared |= row.reader != 0 && row.reader != reader;
        row.reader = reader;
        row.readahead.prev_pos = i64::try_from(pos).unwrap_or(0);
        match self.rows.get_mut(row.slot) {
            Some(slot) => core::mem::replace(slot, row),
            None => row,
        }
    }
}

impl Rows {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(in crate::vfs) fn new() -> Result<Self> {
        Ok(Self(Arc::new(SetOnce::new(), GFP_KERNEL)?))
    }

    /// The slots, which are made if there are none and there is memory.
    fn slots(&self) -> Option<&SpinLock<Slots>> {
        if self.known_slots().is_none() {
            let mut slots = Slots {
                rows: Default::default(),
                now: 0,
            };
            for (slot, row) in slots.rows.iter_mut().enumerate() {
                row.slot = slot;
            }
            let slots = KBox::pin_init(new_spinlock!(slots, "ferofs_rows"), GFP_KERNEL).ok()?;
            // If another reader was faster there are slots, too.
            self.0.populate(slots);
        }
        self.known_slots()
    }

    fn known_slots(&self) -> Option<&SpinLock<Slots>> {
        SetOnce::as_ref(&self.0).map(|slots| &**slots)
    }

    /// The row that a read at `pos` is the next of: it begins where the last one ended, or in what was read
    /// ahead, or a little behind. The nearest, if there are several.
    pub(in crate::vfs) fn following(&self, pos: u64, gap: &Gap) -> Option<Row> {
        let follows = |row: &&Row| match u64::try_from(row.readahead.prev_pos) {
            Ok(0) | Err(_) => false,
            Ok(last) => {
                let gap = if row.is_shared || row.reader != reader() {
                    gap.shared
                } else {
                    gap.alone
                };
                let end = row.behind().saturating_mul(PAGE_SIZE as u64).max(last);
                (last..=end.saturating_add(gap)).contains(&pos)
            }
        };
        let slots = self.known_slots()?.lock();
        let rows = slots.rows.iter().filter(follows);
        rows.max_by_key(|row| row.readahead.prev_pos).cloned()
    }

    /// Notes that a read in a row ended at `pos`.
    pub(in crate::vfs) fn went_on(&self, row: Row, pos: u64) {
        if let Some(slots) = self.known_slots() {
            slots.lock().note(row, pos);
        }
    }

    /// Notes that a read ended at `pos` that was in no row, but may have begun one. The row that is given up
    /// for it, the one that was not read in for longest.
    pub(in crate::vfs) fn began(&self, pos: u64) -> Row {
        let Some(slots) = self.slots() else {
            return Row::default();
        };
        let mut slots = slots.lock();
        let oldest = slots.rows.iter().min_by_key(|row| row.used);
        let new = Row {
            slot: oldest.map_or(0, |row| row.slot),
            ..Default::default()
        };
        slots.note(new, pos)
    }
}
