// SPDX-License-Identifier: GPL-2.0-only

//! Turns what is wrong with an image into an errno, a line in the log, and a report to those who watch the filesystem.

use crate::erofs;
use crate::vfs::context::Context;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::inode::Inode;
use crate::vfs::super_block::SuperBlock;
use crate::Ferofs;
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

/// The errno for an error of a mounted image, met in an inode if there is one. The first of a mount is logged.
pub(crate) fn in_use(
    sb: &SuperBlock<Ferofs>,
    inode: Option<&Inode<Ferofs>>,
    error: erofs::Error<Error>,
) -> Error {
    let errno = errno(&error);
    // These say nothing about the image.
    if errno == EINTR || errno == ENOMEM || errno == ERESTARTSYS || errno == EAGAIN {
        return errno;
    }
    if !matches!(error, erofs::Error::Unsupported(_)) {
        sb.metadata_failed(inode, errno);
    }
    let volume = sb.data();
    if volume.is_first_error() {
        let name = volume.name();
        match error {
            erofs::Error::Io(error) => pr_err!("{}: metadata cannot be read: {:?}\n", name, error),
            erofs::Error::NotErofs => {}
            erofs::Error::Corrupt(corrupt) => pr_err!("{}: {}\n", name, corrupt),
            erofs::Error::Unsupported(feature) => pr_err!("{}: {}\n", name, feature),
        }
    }
    errno
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
