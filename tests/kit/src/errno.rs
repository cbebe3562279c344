// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Names of error numbers, since tests and their messages speak of `EUCLEAN`, not of 117.

use rustix::io::Errno;

const NAMES: &[(Errno, &str)] = &[
    (Errno::PERM, "EPERM"),
    (Errno::NOENT, "ENOENT"),
    (Errno::IO, "EIO"),
    (Errno::NXIO, "ENXIO"),
    (Errno::BADF, "EBADF"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::ACCESS, "EACCES"),
    (Errno::FAULT, "EFAULT"),
    (Errno::NOTBLK, "ENOTBLK"),
    (Errno::BUSY, "EBUSY"),
    (Errno::EXIST, "EEXIST"),
    (Errno::XDEV, "EXDEV"),
    (Errno::NODEV, "ENODEV"),
    (Errno::NOTDIR, "ENOTDIR"),
    (Errno::ISDIR, "EISDIR"),
    (Errno::INVAL, "EINVAL"),
    (Errno::FBIG, "EFBIG"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::SPIPE, "ESPIPE"),
    (Errno::ROFS, "EROFS"),
    (Errno::RANGE, "ERANGE"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG"),
    (Errno::NOSYS, "ENOSYS"),
    (Errno::LOOP, "ELOOP"),
    (Errno::NODATA, "ENODATA"),
    (Errno::BADMSG, "EBADMSG"),
    (Errno::OVERFLOW, "EOVERFLOW"),
    (Errno::OPNOTSUPP, "EOPNOTSUPP"),
    (Errno::STALE, "ESTALE"),
    (Errno::UCLEAN, "EUCLEAN"),
    (Errno::TOOBIG, "E2BIG"),
    (Errno::KEYREJECTED, "EKEYREJECTED"),
];

/// The symbolic name of `errno`, or its number where the table has none.
pub fn name(errno: Errno) -> String {
    NAMES
        .iter()
        .find(|(number, _)| *number == errno)
        .map_or_else(
            || format!("errno {}", errno.raw_os_error()),
            |(_, name)| (*name).to_owned(),
        )
}

/// The name of the error in an I/O result's error.
pub fn io_name(error: &std::io::Error) -> String {
    Errno::from_io_error(error).map_or_else(|| error.to_string(), name)
}
