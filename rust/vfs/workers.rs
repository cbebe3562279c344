// SPDX-License-Identifier: GPL-2.0-only

//! A workqueue: where pages are filled that nobody waits for yet ([`crate::vfs::pages::decode`]), and locks are waited for that
//! a task must not wait for ([`crate::vfs::backing::holes`]). A module that uses it makes it once.

use crate::vfs::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;
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
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: It has no requirements.
        let queue = unsafe { bindings::vfs_helper_alloc_workqueue() };
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
}

impl Drop for Workers {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The call waits until all work is done, and so none of the module's code is in use.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}
