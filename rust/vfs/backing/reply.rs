// SPDX-License-Identifier: GPL-2.0-only

//! Questions that a worker asks, who holds nothing, and whose answer is waited for, but not for ever: so whoever holds a lock
//! that somebody needs for the answer lets go of it in the end. [`crate::vfs::backing::holes`] and
//! [`crate::vfs::backing::asking`] ask so.

use crate::vfs::bindings;
use crate::vfs::workers::Workers;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::SetOnce;
use kernel::time::msecs_to_jiffies;
use kernel::types::Opaque;

/// How a reader can wait for what a filesystem knows, or a listener says.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// For a worker, for a time: the reader may hold locks.
    NoLock,
    /// For anything.
    Any,
}

/// Where an answer is put.
#[pin_data]
struct Reply<T> {
    #[pin]
    is_done: Opaque<bindings::completion>,
    answer: SetOnce<T>,
}

// SAFETY: A completion may be used by any task, and by several at once.
unsafe impl<T: Send> Send for Reply<T> {}
// SAFETY: As above, and the answer may be.
unsafe impl<T: Send + Sync> Sync for Reply<T> {}

impl<T> Reply<T> {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            is_done <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: The place is for a completion.
                unsafe { bindings::init_completion(slot) };
            }),
            answer: SetOnce::new(),
        })
    }

    fn done(&self) {
        // SAFETY: It was initialised.
        unsafe { bindings::complete_all(self.is_done.get()) };
    }

    /// Waits until it is done. The task may sleep: it waits for disks, too.
    ///
    /// # Errors
    ///
    /// As for [`ask`].
    fn wait(&self, most: u32) -> Result {
        let most = msecs_to_jiffies(most);
        // SAFETY: It was initialised.
        match unsafe { bindings::vfs_helper_wait_killable(self.is_done.get(), most) } {
            ..0 => Err(EINTR),
            0 => Err(EIO),
            1.. => Ok(()),
        }
    }
}

/// Has one of the workers ask, and waits `most` milliseconds at the most for the answer. A worker that is not done then
/// has what `question` has for as long as it takes, and the module stays loaded; so nothing of a mount may be in it, nor
/// what waits for all workers when it goes.
///
/// # Errors
///
/// `ENOMEM`, `EIO` if there is no answer in time, and `EINTR` for a task that is being killed.
pub(in crate::vfs) fn ask<T: Copy + Send + Sync + 'static>(
    workers: &Workers,
    most: u32,
    question: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let reply = Arc::pin_init(Reply::new(), GFP_KERNEL)?;
    let sent = reply.clone();
    // SAFETY: The module is in use: it runs. What is held is given up by the worker, or here.
    unsafe { bindings::vfs_helper_hold_module() };
    let sent = workers.spawn(move || {
        sent.answer.populate(question());
        // SAFETY: It was held above. Unloading the module waits for the worker to end.
        unsafe { bindings::vfs_helper_release_module() };
        sent.done();
    });
    if sent.is_err() {
        // SAFETY: It was held above, and the work dropped.
        unsafe { bindings::vfs_helper_release_module() };
    }
    sent?;
    reply.wait(most)?;
    reply.answer.copy().ok_or(EIO)
}
