// SPDX-License-Identifier: GPL-2.0-only

//! Registers a filesystem type that users can mount: a module keeps a [`Registration`] for as long as it is loaded.

use crate::vfs::bindings;
use crate::vfs::mount::mountable::init_fs_context;
use crate::vfs::mount::mountable::Mountable;
use crate::vfs::object::fs_type::FsType;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::ThisModule;

/// A filesystem type that users can mount. Dropping it takes the type back.
///
/// # Invariants
///
/// The filesystem type is registered.
pub(crate) struct Registration<T: Mountable>(KBox<FsType<T>>);

impl<T: Mountable> Registration<T> {
    /// Registers `T` for `module` under a name: its own, or another for a second type that is the same filesystem.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a filesystem of that name exists, `ENOMEM`.
    pub(crate) fn new(
        module: &'static ThisModule,
        name: &'static CStr,
        shared: T::Shared,
    ) -> Result<Self> {
        let fs_type = FsType::<T>::new(
            module,
            name,
            bindings::FS_ALLOW_IDMAP as i32 | bindings::VFS_CONST_FS_USERNS_DELEGATABLE,
            init_fs_context::<T>,
            shared,
        )?;
        // SAFETY: The structure is initialised, and lives unmoved until it is unregistered.
        to_result(unsafe { bindings::register_filesystem(fs_type.as_ptr()) })?;
        // INVARIANT: Registered just now.
        Ok(Self(fs_type))
    }
}

impl<T: Mountable> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is registered.
        // The module cannot go while there are superblocks of the type, for each holds its owner.
        unsafe { bindings::unregister_filesystem(self.0.as_ptr()) };
    }
}
