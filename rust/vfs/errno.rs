// SPDX-License-Identifier: GPL-2.0-only

//! Error codes that the kernel crate of Linux 7.2 has no names for. In 7.3 they are the same as those of
//! [`kernel::error::code`].

use core::mem::transmute;
use core::num::NonZeroI32;

use kernel::error::code::EIO;
use kernel::error::Error;

use crate::vfs::bindings;

/// The number in an error, at compile time.
const fn number(error: Error) -> i32 {
    // SAFETY: `Error` has one field, a `NonZeroI32`. That it has that size, so no padding either, the compiler checks.
    unsafe { transmute::<Error, i32>(error) }
}

/// The error for a positive errno of C. There is no way to it in the kernel crate that is constant.
const fn error(errno: u32) -> Error {
    assert!(number(EIO) == -(bindings::EIO as i32));
    assert!(errno > 0 && errno <= bindings::MAX_ERRNO);
    match NonZeroI32::new(-(errno as i32)) {
        // SAFETY: The field of an `Error` is the negative errno, as read back above, and this is in its range.
        Some(errno) => unsafe { transmute::<NonZeroI32, Error>(errno) },
        None => EIO,
    }
}

pub(crate) const EKEYREJECTED: Error = error(bindings::EKEYREJECTED);
pub(crate) const ENAMETOOLONG: Error = error(bindings::ENAMETOOLONG);
pub(crate) const ENODATA: Error = error(bindings::ENODATA);
pub(crate) const EOPNOTSUPP: Error = error(bindings::EOPNOTSUPP);
pub(crate) const EUCLEAN: Error = error(bindings::EUCLEAN);
