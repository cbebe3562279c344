// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! FS_IOC_FIEMAP, as include/uapi/linux/fiemap.h has it. Called by `extents`.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::last_errno;

const FS_IOC_FIEMAP: libc::Ioctl = 0xC020_660Bu32 as libc::Ioctl;

/// How many extents one call returns at the most.
const EXTENTS: usize = 64;

/// The last extent of the file.
pub const LAST: u32 = 1;

/// An extent: positions and length in bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Extent {
    pub logical: u64,
    pub physical: u64,
    pub length: u64,
    reserved: [u64; 2],
    pub flags: u32,
    reserved_too: [u32; 3],
}

#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS],
}

/// The first extents between two positions of a file, 64 at the most.
pub fn fiemap(file: &File, start: u64, length: u64) -> rustix::io::Result<Vec<Extent>> {
    let mut request = Request {
        start,
        length,
        flags: 0,
        mapped_extents: 0,
        extent_count: EXTENTS as u32,
        reserved: 0,
        extents: [Extent::default(); EXTENTS],
    };
    // SAFETY: The request has the layout and the number of extents that the call expects.
    if unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut request) } < 0 {
        return Err(last_errno());
    }
    let mapped = request.mapped_extents as usize;
    Ok(request.extents.into_iter().take(mapped).collect())
}
