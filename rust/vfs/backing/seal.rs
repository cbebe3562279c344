// SPDX-License-Identifier: GPL-2.0-only

//! Files that nobody may write to (`i_writecount`), as those of programs that run. A [`crate::vfs::pages::content::Content`] has
//! one of each file that its bytes lie in, and a filesystem of those that it decodes what it shares from.

use crate::vfs::backing::cache::Cache;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::str::CStr;

/// The filesystem in memory, whose files have no other way to them.
const TMPFS: &CStr = c"tmpfs";

/// A file that cannot be opened for writing, nor truncated, while this lives. What can be changed in another way, by a block
/// device's driver, a server, or below a stacked filesystem, can be changed all the same.
///
/// # Invariants
///
/// Writing is denied once for this, unless it is a block device.
pub(crate) struct Seal(BackingFile);

impl Seal {
    /// Denies writing to a file.
    ///
    /// # Errors
    ///
    /// `ETXTBSY` if someone has it open for writing.
    pub(crate) fn new(file: &BackingFile) -> Result<Self> {
        if !file.is_block_device() {
            // SAFETY: The file is referenced.
            to_result(unsafe { bindings::vfs_helper_deny_writing(file.as_ptr()) })?;
        }
        // INVARIANT: Denied just now.
        Ok(Self(file.clone()))
    }

    /// The file.
    pub(in crate::vfs) fn file(&self) -> &BackingFile {
        &self.0
    }

    /// Whether there is no other way to change it.
    pub(in crate::vfs) fn is_tight(&self) -> bool {
        let cache = Cache::of(&self.0);
        let is_alone = cache.is_on_disk() && cache.has_folios() || self.0.fs_name() == TMPFS;
        !self.0.is_block_device() && !cache.is_below() && self.0.stack_depth() == 0 && is_alone
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        if !self.0.is_block_device() {
            // SAFETY: The file is referenced, and by the type invariants this has denied writing.
            unsafe { bindings::vfs_helper_allow_writing(self.0.as_ptr()) };
        }
    }
}
