// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Locks by name: two that work on the same snapshot or layer wait for each other, others do not.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Which names are locked.
#[derive(Debug)]
pub struct Locks<K> {
    state: Arc<(Mutex<HashSet<K>>, Condvar)>,
}

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Locks {
            state: Arc::new((Mutex::new(HashSet::new()), Condvar::new())),
        }
    }
}

/// A name is locked as long as this is there.
pub struct Held<K: Eq + Hash + Clone> {
    state: Arc<(Mutex<HashSet<K>>, Condvar)>,
    key: K,
}

impl<K: Eq + Hash + Clone> Locks<K> {
    /// Waits for a name.
    pub fn hold(&self, key: K) -> Held<K> {
        let (mutex, changed) = &*self.state;
        let mut held = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        while held.contains(&key) {
            held = changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.insert(key.clone());
        Held {
            state: Arc::clone(&self.state),
            key,
        }
    }
}

impl<K: Eq + Hash + Clone> Drop for Held<K> {
    fn drop(&mut self) {
        let (mutex, changed) = &*self.state;
        let mut held = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.key);
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    #[test]
    fn one_at_a_time_by_name() {
        let locks = Locks::default();
        let other = locks.hold(2);
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _held = locks.hold(1);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        drop(other);
        assert!(locks.state.0.lock().unwrap().is_empty());
    }
}
