// SPDX-License-Identifier: GPL-2.0-only

//! Workqueues: where pages are filled that nobody waits for yet ([`crate::vfs::pages::decode`]), and what is waited for that
//! a task must not wait for itself: locks ([`crate::vfs::backing::holes`]) and listeners ([`crate::vfs::backing::asking`]).
//! Those wait longest, so they have a queue of their own. A module that uses one makes it once.

use crate::vfs::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::workqueue::Queue;

/// A workqueue of the module's own.
///
/// # Invariants
///
/// The queue is one of alloc_workqueue(), and no one else's.
pub(crate) struct Workers(NonNull<bindings::workqueue_struct>);

// SAFETY: Any task may queue work at any time.
unsafe impl Send for Workers {}
// SAFETY: As above.
unsafe impl Sync for Workers {}

impl Workers {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The name is a C string.
        let queue = unsafe { bindings::vfs_helper_alloc_workqueue(name.as_char_ptr()) };
        // INVARIANT: It was allocated just now.
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }

    /// Has `work` done soon, by any processor. If there is no memory to remember it, it is dropped.
    pub(in crate::vfs) fn later(&self, work: impl FnOnce() + Send + 'static) {
        let _ = self.spawn(work);
    }

    /// The same for what is waited for.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and then the work is dropped.
    pub(in crate::vfs) fn spawn(&self, work: impl FnOnce() + Send + 'static) -> Result {
        // SAFETY: By the type invariants.
        let queue = unsafe { Queue::from_raw(self.0.as_ptr().cast()) };
        Ok(queue.try_spawn(GFP_KERNEL, work)?)
    }

    /// Waits for all that there is to do.
    pub(crate) fn flush(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::vfs_helper_flush_workqueue(self.0.as_ptr()) };
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The call waits until all work is done, and so none of the module's code is in use.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}
