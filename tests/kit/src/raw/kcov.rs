// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which places of the kernel this thread passes: kcov (Documentation/dev-tools/kcov.rst), of what was built with
//! `KCOV_INSTRUMENT=y`.

use std::fs::File;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rustix::io::Result;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;

/// How many words the area has: the first one is how many places follow, as far as there is room. The kernel wants whole pages.
const WORDS: usize = 1 << 18;
const INIT_TRACE: libc::c_ulong = 0x8008_6301;
const ENABLE: libc::c_ulong = 0x6364;
const TRACE_PC: libc::c_ulong = 0;

/// A record of what the thread that made it passes.
pub struct Kcov {
    /// The record lasts as long as this is open.
    _file: File,
    area: NonNull<AtomicU64>,
}

impl Kcov {
    /// Starts a record.
    pub fn new() -> Result<Kcov> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/sys/kernel/debug/kcov")
            .map_err(|error| {
                rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
            })?;
        let ask = |request: libc::c_ulong, argument: libc::c_ulong| {
            // SAFETY: Both requests that are asked take a number as their argument and touch no memory of this process.
            match unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) } {
                0 => Ok(()),
                _ => Err(super::last_errno()),
            }
        };
        ask(INIT_TRACE, WORDS as libc::c_ulong)?;
        // SAFETY: A new mapping at an address of the kernel's choice replaces none.
        let area = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                WORDS * size_of::<u64>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let area = NonNull::new(area.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        ask(ENABLE, TRACE_PC)?;
        Ok(Kcov { _file: file, area })
    }

    /// What was passed since the last call: addresses in the kernel, each as often as it was passed.
    pub fn take(&mut self) -> impl Iterator<Item = u64> {
        // SAFETY: The area has WORDS words, is a multiple of a page and so aligned, and stays mapped until the process
        // ends: nothing unmaps it. The kernel writes to it while this thread is in the kernel, by whole words, which
        // atomics allow.
        let words = unsafe { std::slice::from_raw_parts(self.area.as_ptr(), WORDS) };
        let (count, places) = words.split_at(1);
        let count = count.iter().map(|count| count.swap(0, Ordering::Relaxed));
        let count = (count.sum::<u64>() as usize).min(places.len());
        places
            .iter()
            .take(count)
            .map(|place| place.load(Ordering::Relaxed))
    }
}
