// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What there is no safe crate for: mappings that may fault or be called, Linux AIO, io_uring, FIEMAP, kcov, personality(2).
//!
//! The only part of the kit with unsafe code. Called by `readers`, `faultcheck`, `extents`, `fuzz` and `rights`.

pub mod aio;
pub mod fiemap;
pub mod kcov;
pub mod mapping;
pub mod uring;

/// A read that is one of several at once.
pub struct Job<'a> {
    /// Where in the file it begins.
    pub offset: u64,
    /// Where the bytes go; also says how many are wanted.
    pub buffer: &'a mut [u8],
    /// What came of it: the number of bytes, or a negative errno.
    pub result: i64,
}

/// What the last call of libc failed with.
fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())
        .unwrap_or(rustix::io::Errno::IO)
}

/// readahead(2).
pub fn readahead(file: &std::fs::File, start: u64, count: usize) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: The call takes numbers only.
    let done = unsafe { libc::readahead(file.as_raw_fd(), start as i64, count) };
    if done < 0 {
        return Err(last_errno());
    }
    Ok(())
}

/// Does something while what this process maps readable is executable, too, as for old programs:
/// personality(2) with READ_IMPLIES_EXEC.
pub fn read_implies_exec<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: The call takes a number only, and fails for none of these.
    let before = unsafe { libc::personality(0xffff_ffff) };
    // SAFETY: As above.
    unsafe { libc::personality((before | libc::READ_IMPLIES_EXEC) as libc::c_ulong) };
    let result = act();
    // SAFETY: As above.
    unsafe { libc::personality(before as libc::c_ulong) };
    result
}
