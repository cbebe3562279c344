// SPDX-License-Identifier: GPL-2.0-only

//! Listeners of fanotify, who have to allow what is read of a backing file, or to bring it first (FAN_PRE_ACCESS). They are
//! asked for no more than is read, when it is read. Reads that are passed on ask by themselves
//! ([`crate::vfs::node::read`]); for what is read to be cached elsewhere they are asked here.
//!
//! Who is about to read asks before it has any page locked, since a listener may want that page himself, and notes what
//! was allowed ([`Scope`]). All that is read goes through `read_exact` ([`crate::vfs::backing::read`]), which looks that up,
//! and asks for what nobody has thought of. Readahead leaves out what was not asked for ([`BackingFile::ahead`]).
//!
//! A task that holds locks, or may keep a filesystem from being frozen, has a worker ask, and waits for a time
//! ([`crate::vfs::backing::reply`]).

use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::listeners::Listeners;
use crate::vfs::backing::listeners::Scope;
use crate::vfs::backing::open::as_opener;
use crate::vfs::backing::reply::Wait;
use crate::vfs::bindings;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::Arc;

impl Scope<'_> {
    /// Asks for `len` bytes at `pos` of a file, if that was not done.
    ///
    /// # Errors
    ///
    /// What listeners, and security modules, say; and those of [`Listeners::ask`] unless anything may be waited for.
    pub(in crate::vfs) fn ask(&self, file: &BackingFile, pos: u64, len: u64, wait: Wait) -> Result {
        if file.is_allowed(pos, len) {
            return Ok(());
        }
        file.ask(pos, len, wait)?;
        self.note(file.inode() as usize, pos..pos.saturating_add(len))
    }
}

impl BackingFile {
    /// The same file, for which listeners are asked if it has any. That was settled when it was opened.
    pub(crate) fn asking(mut self, listeners: &Arc<Listeners>) -> Self {
        if self.is_watched() {
            self.listeners = Some(listeners.clone());
        }
        self
    }

    /// Who has to be asked for what is read.
    pub(crate) fn listeners(&self) -> Option<&Arc<Listeners>> {
        self.listeners.as_ref()
    }

    /// Asks for `len` bytes at `pos`, which the current task reads before it drops what is returned. It may hold locks.
    ///
    /// # Errors
    ///
    /// Those of [`Scope::ask`].
    pub(in crate::vfs) fn asked(&self, pos: u64, len: u64) -> Result<Option<Scope<'_>>> {
        let Some(listeners) = &self.listeners else {
            return Ok(None);
        };
        let scope = listeners.scope();
        scope.ask(self, pos, len, Wait::NoLock)?;
        Ok(Some(scope))
    }

    /// Whether nobody has to be asked any more if the current task reads `len` bytes at `pos`.
    pub(in crate::vfs) fn is_allowed(&self, pos: u64, len: u64) -> bool {
        match &self.listeners {
            None => true,
            Some(listeners) => listeners.allowed(self.inode() as usize, pos, len) >= len,
        }
    }

    /// How many of the `len` bytes at `pos` can be read ahead: what listeners were asked for, and what is there.
    pub(in crate::vfs) fn ahead(&self, pos: u64, len: u64) -> u64 {
        let len = match &self.listeners {
            None => len,
            Some(listeners) => listeners.allowed(self.inode() as usize, pos, len),
        };
        if len == 0 {
            return 0;
        }
        self.there(pos, len, Wait::NoLock).unwrap_or(0)
    }

    /// Asks the security modules, and listeners of fanotify, whether `len` bytes at `pos` may be read,
    /// and has the latter provide them if that is what they do.
    ///
    /// # Errors
    ///
    /// `EPERM` and what else they answer, and those of [`Listeners::ask`] unless anything may be waited for.
    pub(crate) fn ask(&self, pos: u64, len: u64, wait: Wait) -> Result {
        match (&self.listeners, wait) {
            (_, Wait::No) => Err(EAGAIN),
            (Some(listeners), Wait::NoLock) => {
                let file = self.file().clone();
                listeners.ask(move || ask_for(&file, pos, len))
            }
            // Security modules do not wait.
            _ => ask_for(self.file(), pos, len),
        }
    }
}

/// Asks as who opened the file, and waits for the answer.
fn ask_for(file: &File, pos: u64, len: u64) -> Result {
    let pos = i64::try_from(pos).map_err(|_| EINVAL)?;
    let len = usize::try_from(len).map_err(|_| EINVAL)?;
    // SAFETY: The file is referenced, and the position valid during the call.
    to_result(as_opener(file, || unsafe {
        bindings::rw_verify_area(bindings::READ as i32, file.as_ptr(), &pos, len)
    }))
}
