// SPDX-License-Identifier: GPL-2.0-only

//! The current task, for those who do something that takes long where one may sleep.

use crate::vfs::bindings;
use kernel::prelude::*;

/// Lets others run.
///
/// # Errors
///
/// `EINTR` if the task is being killed.
pub(crate) fn rest() -> Result {
    // SAFETY: Both look at the current task only; this may sleep.
    unsafe {
        bindings::vfs_helper_cond_resched();
        if bindings::vfs_helper_fatal_signal_pending() {
            return Err(EINTR);
        }
    }
    Ok(())
}
