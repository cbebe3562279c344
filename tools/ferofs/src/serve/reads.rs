// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which units were read, in the order of their first reads, and which ones will be next: whoever reads a file from its
//! beginning to its end would wait for each of its units, one after the other. [`super::daemon`] has one.

use super::board::Key;
use std::collections::HashSet;
use std::ops::Range;

/// One unit is got ahead for so many that were read in front of each other.
const SHARE: usize = 8;
/// So many at most.
const AHEAD_MAX: usize = 4;

/// What was read until now.
#[derive(Default)]
pub struct Reads {
    order: Vec<Key>,
    seen: HashSet<Key>,
}

impl Reads {
    /// Notes that units of a layer are read. Returns which ones behind them are to be got, too, if some of these are new: one
    /// if the one before was read as well, and more if many were. So little is got in vain.
    pub fn note(&mut self, layer: usize, units: Range<usize>) -> Range<usize> {
        let mut is_new = false;
        for unit in units.clone() {
            if self.seen.insert((layer, unit)) {
                self.order.push((layer, unit));
                is_new = true;
            }
        }
        let end = units.end;
        let was_read = |back: &usize| {
            let unit = end.checked_sub(*back);
            unit.is_some_and(|unit| self.seen.contains(&(layer, unit)))
        };
        let read = match is_new {
            true => (1..=SHARE * AHEAD_MAX).take_while(was_read).count(),
            // Whoever comes back may not read on.
            false => 0,
        };
        let ahead = match read {
            0 | 1 => 0,
            _ => (read / SHARE).max(1),
        };
        end..end.saturating_add(ahead)
    }

    /// All of them, in the order of their first reads.
    pub fn order(&self) -> &[Key] {
        &self.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_on_gets_more_and_more() {
        let mut reads = Reads::default();
        let ahead = (10..60).map(|unit| reads.note(0, unit..unit + 1).len());
        let mut expected = vec![0];
        for (ahead, until) in [(1, 15), (2, 23), (3, 31), (AHEAD_MAX, 50)] {
            expected.resize(until, ahead);
        }
        assert_eq!(ahead.collect::<Vec<_>>(), expected);
        // Again, somewhere else, in another layer, and backwards.
        assert_eq!(reads.note(0, 20..21), 21..21);
        assert_eq!(reads.note(0, 70..71), 71..71);
        assert_eq!(reads.note(1, 60..61), 61..61);
        assert_eq!(reads.note(0, 69..70), 70..70);
        // Much at once, from the start on; nothing at the end.
        assert_eq!(reads.note(2, 0..3), 3..4);
        assert_eq!(reads.note(2, 3..20), 20..22);
        assert_eq!(reads.note(3, 0..0), 0..0);
        assert_eq!(reads.order()[..2], [(0, 10), (0, 11)]);
        assert_eq!(reads.order().len(), 50 + 3 + 20);
    }
}
