// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which units were read, in the order of their first reads, and which ones will be next: whoever reads a file from its
//! beginning to its end would wait for each of its units, one after the other. [`super::daemon`] has one.

use super::board::Key;
use std::collections::HashSet;
use std::ops::Range;

/// So many units are got ahead at most.
const AHEAD_MAX: usize = 4;

/// What was read until now.
#[derive(Default)]
pub struct Reads {
    order: Vec<Key>,
    seen: HashSet<Key>,
}

impl Reads {
    /// Notes that units of a layer are read. Returns which ones behind them are to be got, too: half as many as were read
    /// in front of each other, if some of these are new. So what is got in vain is less than what was read.
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
        let ahead = match is_new {
            true => (1..=2 * AHEAD_MAX).take_while(was_read).count() / 2,
            // Whoever comes back may not read on.
            false => 0,
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
        let ahead = (10..30).map(|unit| reads.note(0, unit..unit + 1).len());
        let mut expected = vec![0, 1, 1, 2, 2, 3, 3];
        expected.resize(20, AHEAD_MAX);
        assert_eq!(ahead.collect::<Vec<_>>(), expected);
        // Again, somewhere else, in another layer, and backwards.
        assert_eq!(reads.note(0, 20..21), 21..21);
        assert_eq!(reads.note(0, 40..41), 41..41);
        assert_eq!(reads.note(1, 30..31), 31..31);
        assert_eq!(reads.note(0, 39..40), 40..40);
        // Much at once, from the start on; nothing at the end.
        assert_eq!(reads.note(2, 0..3), 3..4);
        assert_eq!(reads.note(2, 3..9), 9..13);
        assert_eq!(reads.note(3, 0..0), 0..0);
        assert_eq!(reads.order()[..2], [(0, 10), (0, 11)]);
        assert_eq!(reads.order().len(), 20 + 3 + 9);
    }
}
