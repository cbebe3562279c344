// SPDX-License-Identifier: GPL-2.0-only

//! What is found wrong with a mounted image: an errno for the caller, a line in the log, and a report to those who watch
//! the filesystem.

use crate::erofs;
use crate::filesystem::Ferofs;
use crate::report;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::super_block::SuperBlock;
use kernel::prelude::*;

/// The errno for an error of a mounted image, met in an inode if there is one. The first of a mount is logged.
#[cold]
#[inline(never)]
pub(crate) fn report(
    sb: &SuperBlock<Ferofs>,
    inode: Option<&Inode<Ferofs>>,
    error: erofs::Error<Error>,
) -> Error {
    let errno = report::errno(&error);
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
