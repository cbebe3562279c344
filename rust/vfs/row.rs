// SPDX-License-Identifier: GPL-2.0-only

//! Rows: small files that are read one after the other, as they lie in a backing file. Of each is noted
//! what the kernel notes of an open file that is read so, for what is cached elsewhere
//! ([`super::backing_read`]).
//!
//! That is kept apart from what is noted of reads of the same backing file ([`super::read`]), which would
//! not look sequential any more if mapped files were read in between.

use core::ops::Range;
use kernel::bindings::file_ra_state;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::SpinLock;

/// How many rows there can be in a file at once: as many tasks can each read one.
const ROWS: usize = 4;

/// How many bytes may lie between two that follow each other: headers of a tar, and files that no one
/// wants.
const GAP: u64 = 64 << 10;

/// A row, or what may become one with the next read.
#[derive(Clone, Default)]
pub(super) struct Row {
    slot: usize,
    /// What the kernel's readahead goes by. A position of 0 is that of no read.
    pub(super) readahead: file_ra_state,
    /// The pages from where reading ahead for this row began to where it ended, of which what came before
    /// was dropped.
    pub(super) ahead: Range<u64>,
}

/// The rows of a backing file.
///
/// If two tasks are in the same row each goes on from what it found, and the last one's state stays: what
/// is wrong there makes readahead worse, or leaves pages in a cache, and nothing else.
#[derive(Clone)]
pub(super) struct Rows(Arc<SpinLock<Slots>>);

struct Slots {
    rows: [Row; ROWS],
    /// The one that is given up next.
    oldest: usize,
}

impl Rows {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        let mut slots = Slots {
            rows: Default::default(),
            oldest: 0,
        };
        for (slot, row) in slots.rows.iter_mut().enumerate() {
            row.slot = slot;
        }
        Ok(Self(Arc::pin_init(
            new_spinlock!(slots, "ferofs_rows"),
            GFP_KERNEL,
        )?))
    }

    /// The row that a read at `pos` is the next of: it begins where the last one ended, or a little
    /// behind.
    pub(super) fn following(&self, pos: u64) -> Option<Row> {
        let follows = |row: &&Row| match u64::try_from(row.readahead.prev_pos) {
            Ok(0) | Err(_) => false,
            Ok(last) => pos.checked_sub(last).is_some_and(|gap| gap <= GAP),
        };
        self.0.lock().rows.iter().find(follows).cloned()
    }

    /// Notes that a read in a row ended at `pos`.
    pub(super) fn went_on(&self, mut row: Row, pos: u64) {
        row.readahead.prev_pos = i64::try_from(pos).unwrap_or(0);
        if let Some(slot) = self.0.lock().rows.get_mut(row.slot) {
            *slot = row;
        }
    }

    /// Notes that a read ended at `pos` that was in no row, but may have begun one. The row that is given up
    /// for it.
    pub(super) fn began(&self, pos: u64) -> Row {
        let mut slots = self.0.lock();
        let slot = slots.oldest;
        slots.oldest = slot.wrapping_add(1) % ROWS;
        let mut new = Row {
            slot,
            ..Default::default()
        };
        new.readahead.prev_pos = i64::try_from(pos).unwrap_or(0);
        match slots.rows.get_mut(slot) {
            Some(row) => core::mem::replace(row, new),
            None => new,
        }
    }
}
