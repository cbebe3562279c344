// SPDX-License-Identifier: GPL-2.0-only

//! Turns what is wrong with an image into an errno, and at a mount into a line in the log. For mounted images see
//! [`crate::in_use`].

use crate::erofs;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::mount::context::Context;
use kernel::fmt;
use kernel::prelude::*;
use kernel::str::CStr;

/// The errno for an error of the format crate: `EUCLEAN` for a damaged image, `EOPNOTSUPP` for one
/// that uses what is not supported, `EINVAL` for no image at all, or that of a failed read.
pub(crate) fn errno(error: &erofs::Error<Error>) -> Error {
    match error {
        erofs::Error::Io(error) => *error,
        erofs::Error::NotErofs => EINVAL,
        erofs::Error::Corrupt(_) => EUCLEAN,
        erofs::Error::Unsupported(_) => EOPNOTSUPP,
    }
}

/// Says why the image `name` cannot be mounted.
#[cold]
#[inline(never)]
pub(crate) fn at_mount(context: &Context<'_>, name: &CStr, error: &erofs::Error<Error>) -> Error {
    match error {
        erofs::Error::Io(error) => context.error(fmt!("{}: cannot be read: {:?}", name, error)),
        erofs::Error::NotErofs => {
            context.error(fmt!("{}: no EROFS superblock at offset 1024", name));
        }
        erofs::Error::Corrupt(corrupt) => context.error(fmt!("{}: {}", name, corrupt)),
        erofs::Error::Unsupported(feature) => context.error(fmt!("{}: {}", name, feature)),
    }
    errno(error)
}

impl fmt::Display for erofs::Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for erofs::Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
