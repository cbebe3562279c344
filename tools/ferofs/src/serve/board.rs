// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Who waits for which units, and what is to be got next: each unit once, however many wait for it. No threads, no files
//! and no clock are in here; [`super::daemon`] has these.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use std::time::Instant;

/// The pause after a failure; after each further one of the same unit it is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// It is no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// So often wrong bytes are taken for an accident on the way.
const WRONG_MAX: u32 = 2;

/// A unit of a layer, by their numbers.
pub type Key = (usize, usize);

/// How a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    /// It will be got.
    Queued,
    /// It is being got.
    Taken,
    There,
}

/// Why a unit was not got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may be had later.
    Passing,
    /// It was something else.
    Wrong,
}

/// Somebody who waits.
struct Waiting<W> {
    waiter: W,
    /// How many units are still missing.
    missing: usize,
    until: Instant,
}

/// What is wanted.
pub struct Board<W> {
    deadline: Duration,
    layers: Vec<Vec<State>>,
    waiting: HashMap<u64, Waiting<W>>,
    wanted_by: HashMap<Key, Vec<u64>>,
    /// When to look whether somebody has waited for too long.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    /// What somebody waits for, or is expected to.
    queue: VecDeque<Key>,
    /// What is to be tried again, and when.
    later: BinaryHeap<Reverse<(Instant, Key)>>,
    /// How often getting it failed, and how often it was something else.
    failures: HashMap<Key, (u32, u32)>,
    /// What nobody waits for.
    background: VecDeque<Key>,
    /// Not before that.
    background_from: Option<Instant>,
    /// Which of these are being got, and how many runs of them may be at once.
    in_background: HashSet<Key>,
    background_most: usize,
    next: u64,
}

impl<W> Board<W> {
    /// Who waits is refused when nothing that he waits for came for as long as `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Board {
            deadline,
            layers: Vec::new(),
            waiting: HashMap::new(),
            wanted_by: HashMap::new(),
            deadlines: BinaryHeap::new(),
            queue: VecDeque::new(),
            later: BinaryHeap::new(),
            failures: HashMap::new(),
            background: VecDeque::new(),
            background_from: None,
            in_background: HashSet::new(),
            background_most: 0,
            next: 0,
        }
    }

    /// Adds a layer, of which these units are there. Returns its number.
    pub fn add(&mut self, there: &[bool]) -> usize {
        let states = there.iter().map(|there| match there {
            true => State::There,
            false => State::Missing,
        });
        self.layers.push(states.collect());
        self.layers.len().saturating_sub(1)
    }

    /// Gets these units, in this order, when nobody waits for others, at most so many of them at once.
    pub fn complete(&mut self, units: impl IntoIterator<Item = Key>, most: usize) {
        self.background.extend(units);
        self.background_most = most;
    }

    fn state(&mut self, (layer, unit): Key) -> Option<&mut State> {
        self.layers.get_mut(layer)?.get_mut(unit)
    }

    /// Somebody wants units of a layer. Gives the waiter back if they are all there.
    pub fn ask(&mut self, layer: usize, units: Range<usize>, waiter: W, now: Instant) -> Option<W> {
        let id = self.next;
        let mut missing = 0;
        for unit in units {
            let key = (layer, unit);
            match self.state(key) {
                None | Some(State::There) => continue,
                Some(state @ State::Missing) => {
                    *state = State::Queued;
                    self.queue.push_back(key);
                }
                Some(State::Queued) => {
                    // Who comes now need not wait for as long as those before him.
                    if self.failures.remove(&key).is_some() {
                        self.queue.push_back(key);
                    }
                }
                Some(State::Taken) => {}
            }
            missing += 1;
            self.wanted_by.entry(key).or_default().push(id);
        }
        if missing == 0 {
            return Some(waiter);
        }
        self.next += 1;
        let until = now + self.deadline;
        self.deadlines.push(Reverse((until, id)));
        let waiting = Waiting {
            waiter,
            missing,
            until,
        };
        self.waiting.insert(id, waiting);
        None
    }

    /// Somebody may want units of a layer before long.
    pub fn expect(&mut self, layer: usize, units: Range<usize>) {
        for unit in units {
            let key = (layer, unit);
            if let Some(state @ State::Missing) = self.state(key) {
                *state = State::Queued;
                self.queue.push_back(key);
            }
        }
    }

    /// What is to be got now. It is the caller's until [`Self::done`] or [`Self::failed`].
    pub fn take(&mut self, now: Instant) -> Option<Key> {
        while let Some(Reverse((at, key))) = self.later.peek().copied() {
            if at > now {
                break;
            }
            self.later.pop();
            self.queue.push_back(key);
        }
        while let Some(key) = self.queue.pop_front() {
            if let Some(state @ State::Queued) = self.state(key) {
                *state = State::Taken;
                return Some(key);
            }
        }
        if self.busy_in_background() >= self.background_most
            || self.background_from.is_some_and(|from| from > now)
        {
            return None;
        }
        while let Some(key) = self.background.pop_front() {
            if let Some(state @ State::Missing) = self.state(key) {
                *state = State::Taken;
                self.in_background.insert(key);
                return Some(key);
            }
        }
        None
    }

    /// Takes the unit behind one that was taken, too, if it is to be got as well.
    pub fn take_next(&mut self, (layer, unit): Key) -> Option<Key> {
        let key = (layer, unit.saturating_add(1));
        let in_background = self.in_background.contains(&(layer, unit));
        let state = self.state(key)?;
        match state {
            State::Queued => *state = State::Taken,
            State::Missing if in_background => {
                *state = State::Taken;
                self.in_background.insert(key);
            }
            _ => return None,
        }
        Some(key)
    }

    /// How many runs of units are being got in the background.
    fn busy_in_background(&self) -> usize {
        let units = self.in_background.iter();
        let before = |(layer, unit): &Key| unit.checked_sub(1).map(|unit| (*layer, unit));
        let first = |key: &&Key| before(key).is_none_or(|key| !self.in_background.contains(&key));
        units.filter(first).count()
    }

    /// When there may be something to be got, if there is nothing now and nobody asks.
    pub fn next_take(&self) -> Option<Instant> {
        let later = self.later.peek().map(|Reverse((at, _))| *at);
        let background = self.background_from.filter(|_| !self.background.is_empty());
        later.into_iter().chain(background).min()
    }

    /// It is there. Returns who has all he wants now, and whether all of the layer is there.
    pub fn done(&mut self, key: Key, now: Instant) -> (Vec<W>, bool) {
        self.in_background.remove(&key);
        self.failures.remove(&key);
        if let Some(state) = self.state(key) {
            *state = State::There;
        }
        let mut ready = Vec::new();
        for id in self.wanted_by.remove(&key).unwrap_or_default() {
            let Some(waiting) = self.waiting.get_mut(&id) else {
                continue;
            };
            waiting.missing = waiting.missing.saturating_sub(1);
            waiting.until = now + self.deadline;
            if waiting.missing == 0 {
                ready.extend(self.waiting.remove(&id).map(|waiting| waiting.waiter));
            }
        }
        (ready, self.is_whole(key.0))
    }

    /// Whether all of a layer is there.
    pub fn is_whole(&self, layer: usize) -> bool {
        let states = self.layers.get(layer);
        states.is_some_and(|states| states.iter().all(|state| *state == State::There))
    }

    /// It was not got. It is tried again if somebody waits for it, or in the background; but not if it was something else
    /// several times. Returns who is to be refused.
    pub fn failed(&mut self, key: Key, failure: Failure, now: Instant) -> Vec<W> {
        let failures = self.failures.entry(key).or_default();
        failures.0 = failures.0.saturating_add(1);
        if failure == Failure::Wrong {
            failures.1 += 1;
        }
        let (tries, wrong) = *failures;
        let pause = PAUSE.saturating_mul(1 << tries.clamp(1, 8).saturating_sub(1));
        let from = now + pause.min(PAUSE_MAX);
        let given_up = wrong >= WRONG_MAX;
        let mut refused = Vec::new();
        let mut wanted = false;
        match given_up {
            true => {
                self.failures.remove(&key);
                for id in self.wanted_by.remove(&key).unwrap_or_default() {
                    refused.extend(self.waiting.remove(&id).map(|waiting| waiting.waiter));
                }
            }
            false => {
                let waiting = &self.waiting;
                if let Some(ids) = self.wanted_by.get_mut(&key) {
                    ids.retain(|id| waiting.contains_key(id));
                    wanted = !ids.is_empty();
                }
                if !wanted {
                    self.wanted_by.remove(&key);
                }
            }
        }
        if let Some(state) = self.state(key) {
            *state = match wanted {
                true => State::Queued,
                false => State::Missing,
            };
        }
        if wanted {
            self.later.push(Reverse((from, key)));
        }
        if self.in_background.remove(&key) {
            self.background.push_back(key);
            self.background_from = Some(from);
        }
        refused
    }

    /// Nothing of a layer is to be got or given any more. Returns who waits for it.
    pub fn forget(&mut self, layer: usize) -> Vec<W> {
        let mut refused = Vec::new();
        let keys: Vec<Key> = self.wanted_by.keys().copied().collect();
        for key in keys.into_iter().filter(|key| key.0 == layer) {
            for id in self.wanted_by.remove(&key).unwrap_or_default() {
                refused.extend(self.waiting.remove(&id).map(|waiting| waiting.waiter));
            }
        }
        refused
    }

    /// Who has waited for too long.
    pub fn expire(&mut self, now: Instant) -> Vec<W> {
        let mut expired = Vec::new();
        while let Some(Reverse((at, id))) = self.deadlines.peek().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop();
            match self.waiting.get(&id) {
                // Something came meanwhile.
                Some(waiting) if waiting.until > now => {
                    self.deadlines.push(Reverse((waiting.until, id)));
                }
                Some(_) => expired.extend(self.waiting.remove(&id).map(|waiting| waiting.waiter)),
                None => {}
            }
        }
        expired
    }

    /// When to look for those next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// Everybody who waits.
    pub fn end(&mut self) -> Vec<W> {
        self.wanted_by.clear();
        let waiting = self.waiting.drain();
        waiting.map(|(_, waiting)| waiting.waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn board() -> (Board<&'static str>, Instant) {
        let mut board = Board::new(DEADLINE);
        assert_eq!(board.add(&[true, false, false, false]), 0);
        (board, Instant::now())
    }

    #[test]
    fn each_unit_is_got_once() {
        let (mut board, now) = board();
        assert_eq!(board.ask(0, 0..1, "there", now), Some("there"));
        assert_eq!(board.ask(0, 0..3, "two", now), None);
        assert_eq!(board.ask(0, 1..2, "first", now), None);
        assert_eq!(board.ask(0, 2..4, "last", now), None);
        assert_eq!(board.take(now), Some((0, 1)));
        assert_eq!(board.ask(0, 1..2, "later", now), None);
        assert_eq!(board.take(now), Some((0, 2)));
        assert_eq!(board.take(now), Some((0, 3)));
        assert_eq!(board.take(now), None);
        assert_eq!(board.done((0, 2), now), (vec![], false));
        assert_eq!(
            board.done((0, 1), now),
            (vec!["two", "first", "later"], false)
        );
        assert_eq!(board.done((0, 3), now), (vec!["last"], true));
        assert_eq!(board.ask(0, 0..9, "all", now), Some("all"));
        assert!(board.end().is_empty());
    }

    #[test]
    fn who_waits_for_too_long_is_refused_and_may_ask_again() {
        let (mut board, now) = board();
        board.ask(0, 1..3, "slow", now);
        assert_eq!(board.take(now), Some((0, 1)));
        assert!(board.expire(now + DEADLINE / 2).is_empty());
        // Something came, so there is more time.
        board.done((0, 1), now + DEADLINE / 2);
        assert!(board.expire(now + DEADLINE).is_empty());
        let late = now + DEADLINE / 2 + DEADLINE;
        assert_eq!(board.next_deadline(), Some(late));
        assert_eq!(board.expire(late), ["slow"]);
        assert_eq!(board.next_deadline(), None);
        // What is on the way still is.
        assert_eq!(board.ask(0, 2..3, "again", late), None);
        assert_eq!(board.take(late), Some((0, 2)));
        assert_eq!(board.take(late), None);
        assert_eq!(board.done((0, 2), late), (vec!["again"], false));
    }

    #[test]
    fn what_failed_is_tried_again_while_somebody_waits() {
        let (mut board, now) = board();
        board.ask(0, 1..2, "patient", now);
        let mut at = now;
        for _ in 0..5 {
            assert_eq!(board.take(at), Some((0, 1)));
            assert!(board.failed((0, 1), Failure::Passing, at).is_empty());
            assert_eq!(board.take(at), None);
            at = board.next_take().unwrap();
        }
        assert_eq!(board.take(at), Some((0, 1)));
        assert_eq!(board.expire(now + DEADLINE), ["patient"]);
        assert!(board.failed((0, 1), Failure::Passing, at).is_empty());
        assert_eq!(board.next_take(), None);
        assert_eq!(board.take(now + DEADLINE * 9), None);
        assert_eq!(board.ask(0, 1..2, "later", at), None);
        assert_eq!(board.take(at), Some((0, 1)));
        assert_eq!(board.done((0, 1), at), (vec!["later"], false));
    }

    #[test]
    fn who_comes_later_does_not_wait_for_the_pause() {
        let (mut board, now) = board();
        board.ask(0, 1..2, "first", now);
        for _ in 0..9 {
            assert_eq!(board.take(now + DEADLINE), Some((0, 1)));
            board.failed((0, 1), Failure::Passing, now);
        }
        assert_eq!(board.take(now), None);
        board.ask(0, 1..2, "second", now);
        assert_eq!(board.take(now), Some((0, 1)));
        assert_eq!(board.take(now + DEADLINE), None);
        assert_eq!(board.done((0, 1), now), (vec!["first", "second"], false));
        assert_eq!(board.take(now + DEADLINE), None);
    }

    #[test]
    fn what_is_wrong_twice_is_refused() {
        let (mut board, now) = board();
        board.ask(0, 1..3, "both", now);
        board.ask(0, 1..2, "one", now);
        board.ask(0, 2..3, "other", now);
        assert_eq!(board.take(now), Some((0, 1)));
        assert!(board.failed((0, 1), Failure::Wrong, now).is_empty());
        assert_eq!(board.take(now), Some((0, 2)));
        let at = board.next_take().unwrap();
        assert_eq!(board.take(at), Some((0, 1)));
        assert_eq!(board.failed((0, 1), Failure::Wrong, at), ["both", "one"]);
        assert_eq!(board.done((0, 2), at), (vec!["other"], false));
        assert_eq!(board.ask(0, 1..2, "again", at), None);
        assert_eq!(board.take(at), Some((0, 1)));
        assert_eq!(board.forget(0), ["again"]);
    }

    #[test]
    fn what_is_wanted_is_taken_in_runs() {
        let (mut board, now) = board();
        board.ask(0, 1..3, "two", now);
        let first = board.take(now).unwrap();
        assert_eq!(board.take_next(first), Some((0, 2)));
        assert_eq!(board.take_next((0, 2)), None);
        assert_eq!(board.take(now), None);
        board.complete((0..4).map(|unit| (0, unit)), 1);
        assert_eq!(board.take(now), Some((0, 3)));
        assert_eq!(board.take_next((0, 3)), None);
        let mut other: Board<()> = Board::new(DEADLINE);
        other.add(&[false; 4]);
        other.complete((0..4).map(|unit| (0, unit)), 1);
        assert_eq!(other.take(now), Some((0, 0)));
        assert_eq!(other.take_next((0, 0)), Some((0, 1)));
        assert_eq!(other.take(now), None);
        other.done((0, 0), now);
        other.done((0, 1), now);
        assert_eq!(other.take(now), Some((0, 2)));
    }

    #[test]
    fn what_is_expected_is_got_with_what_is_wanted() {
        let (mut board, now) = board();
        board.ask(0, 1..2, "somebody", now);
        board.expect(0, 0..9);
        assert_eq!(board.take(now), Some((0, 1)));
        assert_eq!(board.take_next((0, 1)), Some((0, 2)));
        assert_eq!(board.done((0, 1), now), (vec!["somebody"], false));
        // Nobody waits for it, so it is not tried again until somebody does.
        assert!(board.failed((0, 2), Failure::Passing, now).is_empty());
        assert_eq!(board.next_take(), None);
        assert_eq!(board.take(now), Some((0, 3)));
        assert_eq!(board.take(now + DEADLINE), None);
        assert_eq!(board.ask(0, 2..4, "later", now), None);
        assert_eq!(board.take(now), Some((0, 2)));
        assert_eq!(board.done((0, 3), now), (vec![], false));
        assert_eq!(board.done((0, 2), now), (vec!["later"], true));
        // What is there is not got again.
        board.expect(0, 0..4);
        assert_eq!(board.take(now), None);
    }

    #[test]
    fn the_background_comes_last() {
        let (mut board, now) = board();
        board.complete([(0, 3), (0, 0), (0, 1), (0, 2), (7, 7)], 1);
        assert_eq!(board.take(now), Some((0, 3)));
        // One at once, but those who wait do not count.
        assert_eq!(board.take(now), None);
        board.ask(0, 2..3, "somebody", now);
        assert_eq!(board.take(now), Some((0, 2)));
        board.failed((0, 3), Failure::Passing, now);
        assert_eq!(board.take(now), None);
        let at = board.next_take().unwrap();
        assert_eq!(board.take(at), Some((0, 1)));
        assert_eq!(board.done((0, 1), at), (vec![], false));
        assert_eq!(board.done((0, 2), at), (vec!["somebody"], false));
        assert_eq!(board.take(at), Some((0, 3)));
        // Somebody may want what is on the way in the background.
        assert_eq!(board.ask(0, 3..4, "last", at), None);
        assert_eq!(board.take(at), None);
        assert_eq!(board.done((0, 3), at), (vec!["last"], true));
        assert_eq!(board.take(at), None);
    }
}
