// SPDX-License-Identifier: GPL-2.0-only

//! The module's parameters, as they were given when it was loaded.

use crate::vfs::bindings;

/// Whether to be the filesystem type erofs, too.
pub(crate) fn erofs() -> bool {
    // SAFETY: Reads a variable that is not written to any more once the module begins to run.
    unsafe { bindings::ferofs_parameter_erofs() }
}
