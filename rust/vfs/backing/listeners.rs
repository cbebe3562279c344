// SPDX-License-Identifier: GPL-2.0-only

//! What listeners of fanotify have allowed the current task to read, of backing files ([`crate::vfs::backing::asking`]), and
//! who asks them for tasks that must not wait for them themselves. A module makes one of these.

use crate::vfs::backing::reply;
use crate::vfs::vec;
use crate::vfs::workers::Workers;
use core::ops::Range;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::SpinLock;
use kernel::task::Task;

/// How long a task that may hold locks waits for a listener, in milliseconds.
const PATIENCE: u32 = 30_000;

/// What the module has of listeners: it makes this once.
pub(crate) struct Listeners {
    workers: Workers,
    allowed: Pin<KBox<SpinLock<Ledger>>>,
}

/// What was allowed, to whom.
struct Ledger {
    entries: KVec<Entry>,
    /// Counts scopes.
    scopes: u64,
}

struct Entry {
    scope: u64,
    /// The address of the task.
    task: usize,
    /// That of the backing file's inode; 0 for all files.
    inode: usize,
    range: Range<u64>,
}

/// The address of the current task.
fn task() -> usize {
    Task::current_raw() as usize
}

impl Ledger {
    /// How many of the `len` bytes at `pos` were allowed.
    fn allowed(&self, task: usize, inode: usize, pos: u64, len: u64) -> u64 {
        let wanted = pos.saturating_add(len);
        let mut end = pos;
        while end < wanted {
            let further = self.entries.iter().filter(|entry| {
                entry.task == task
                    && (entry.inode == inode || entry.inode == 0)
                    && entry.range.contains(&end)
            });
            match further.map(|entry| entry.range.end).max() {
                Some(next) => end = next,
                None => break,
            }
        }
        end.min(wanted).saturating_sub(pos)
    }

    fn add(&mut self, entry: Entry) -> Result {
        vec::push_with(&mut self.entries, entry, GFP_ATOMIC)
    }

    /// Forgets all of a scope.
    fn end(&mut self, scope: u64) {
        while let Some(at) = self.entries.iter().position(|entry| entry.scope == scope) {
            let last = self.entries.pop();
            if let (Some(place), Some(last)) = (self.entries.get_mut(at), last) {
                *place = last;
            }
        }
    }
}

impl Listeners {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let ledger = Ledger {
            entries: KVec::new(),
            scopes: 0,
        };
        Ok(Self {
            workers: Workers::new(c"ferofs_listeners")?,
            allowed: KBox::pin_init(new_spinlock!(ledger, "ferofs_listeners"), GFP_KERNEL)?,
        })
    }

    /// For what the current task is about to read.
    pub(in crate::vfs) fn scope(&self) -> Scope<'_> {
        let mut allowed = self.allowed.lock();
        allowed.scopes = allowed.scopes.wrapping_add(1);
        Scope {
            listeners: self,
            number: allowed.scopes,
        }
    }

    /// For what a listener himself reads, who would wait for himself: nobody is asked for anything.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(in crate::vfs) fn excused(&self) -> Result<Scope<'_>> {
        let scope = self.scope();
        scope.note(0, 0..u64::MAX)?;
        Ok(scope)
    }

    /// How many of the `len` bytes at `pos` of the file with an inode the current task was allowed to read.
    pub(in crate::vfs) fn allowed(&self, inode: usize, pos: u64, len: u64) -> u64 {
        self.allowed.lock().allowed(task(), inode, pos, len)
    }

    /// Has a worker ask, and waits for the answer, but not for ever.
    ///
    /// # Errors
    ///
    /// What is answered, and those of [`reply::ask`].
    pub(in crate::vfs) fn ask(&self, question: impl FnOnce() -> Result + Send + 'static) -> Result {
        reply::ask(&self.workers, PATIENCE, question)?
    }
}

/// A time in which the current task reads what it has asked for.
pub(in crate::vfs) struct Scope<'a> {
    listeners: &'a Listeners,
    number: u64,
}

impl Scope<'_> {
    /// Notes that a range of the file with an inode was allowed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(in crate::vfs) fn note(&self, inode: usize, range: Range<u64>) -> Result {
        self.listeners.allowed.lock().add(Entry {
            scope: self.number,
            task: task(),
            inode,
            range,
        })
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.listeners.allowed.lock().end(self.number);
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(ferofs_listeners)]
mod tests {
    use super::*;
    use crate::vfs::bindings;

    const INODE: usize = 64;

    fn allowed(listeners: &Listeners, pos: u64, len: u64) -> u64 {
        listeners.allowed(INODE, pos, len)
    }

    #[test]
    fn what_was_allowed_is_known_until_it_was_read() -> Result {
        let listeners = Listeners::new()?;
        let first = listeners.scope();
        let second = listeners.scope();
        assert_eq!(allowed(&listeners, 0, 100), 0);
        second.note(INODE, 150..300)?;
        first.note(INODE, 100..200)?;
        // From the position on, in whatever order and pieces.
        for (pos, len, expected) in [
            (100, 200, 200),
            (100, 201, 200),
            (99, 10, 0),
            (199, 1, 1),
            (299, 2, 1),
            (300, 1, 0),
            (150, 0, 0),
            (120, u64::MAX, 180),
        ] {
            assert_eq!(allowed(&listeners, pos, len), expected);
        }
        // Of this file, and to this task.
        assert_eq!(listeners.allowed(INODE + 64, 100, 10), 0);
        let others = listeners
            .allowed
            .lock()
            .allowed(task() + 64, INODE, 100, 10);
        assert_eq!(others, 0);
        drop(first);
        assert_eq!(allowed(&listeners, 100, 200), 0);
        assert_eq!(allowed(&listeners, 150, 200), 150);
        drop(second);
        assert_eq!(allowed(&listeners, 150, 200), 0);
        assert!(listeners.allowed.lock().entries.is_empty());
        Ok(())
    }

    #[test]
    fn who_is_excused_may_read_anything() -> Result {
        let listeners = Listeners::new()?;
        let excused = listeners.excused()?;
        assert_eq!(allowed(&listeners, 5, 1 << 40), 1 << 40);
        assert_eq!(listeners.allowed(INODE + 64, 5, 10), 10);
        drop(excused);
        assert_eq!(allowed(&listeners, 5, 10), 0);
        Ok(())
    }

    #[test]
    fn answers_are_waited_for_but_not_for_ever() -> Result {
        let listeners = Listeners::new()?;
        assert_eq!(listeners.ask(|| Ok(())), Ok(()));
        assert_eq!(listeners.ask(|| Err(EBUSY)), Err(EBUSY));
        let slow = || {
            // SAFETY: A worker may sleep.
            unsafe { bindings::msleep(500) };
            7
        };
        assert_eq!(reply::ask(&listeners.workers, 10, slow), Err(EIO));
        assert_eq!(reply::ask(&listeners.workers, 60_000, slow), Ok(7));
        Ok(())
    }
}
