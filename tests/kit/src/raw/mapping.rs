// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A file in memory, by mmap(2), with what vmap does not offer: advice of all kinds, mremap(2), mprotect(2),
//! copying out of pages that may not be there, and calling what is in them.

use std::ffi::c_void;
use std::fs::File;
use std::ptr;

use rustix::io::Result;
use rustix::mm::Advice;
use rustix::mm::MapFlags;
use rustix::mm::MprotectFlags;
use rustix::mm::MremapFlags;
use rustix::mm::ProtFlags;

/// A mapping of whole pages.
///
/// Its bytes are never borrowed, only copied: the file below may change, and touching a page that cannot be
/// read is a SIGBUS.
pub struct Mapping {
    start: *mut c_void,
    len: usize,
}

/// How to map.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind {
    /// MAP_SHARED instead of MAP_PRIVATE.
    pub shared: bool,
    /// MAP_POPULATE.
    pub populate: bool,
    /// PROT_WRITE, too.
    pub writable: bool,
}

fn sharing(shared: bool) -> MapFlags {
    if shared {
        MapFlags::SHARED
    } else {
        MapFlags::PRIVATE
    }
}

impl Mapping {
    /// Maps `len` bytes at `offset`, which lies on a page.
    pub fn new(file: &File, offset: u64, len: usize, kind: Kind) -> Result<Self> {
        let mut flags = sharing(kind.shared);
        flags.set(MapFlags::POPULATE, kind.populate);
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, kind.writable);
        Self::with(file, offset, len, flags, protection)
    }

    /// Maps the first `len` bytes with any protection.
    pub fn protected(file: &File, len: usize, shared: bool, protection: ProtFlags) -> Result<Self> {
        Self::with(file, 0, len, sharing(shared), protection)
    }

    fn with(
        file: &File,
        offset: u64,
        len: usize,
        flags: MapFlags,
        protection: ProtFlags,
    ) -> Result<Self> {
        // SAFETY: The kernel chooses the place, so nothing that is in use is replaced.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), len, protection, flags, file, offset) }?;
        Ok(Mapping { start, len })
    }

    /// Changes the protection of the first `len` bytes.
    pub fn protect(&self, len: usize, protection: MprotectFlags) -> Result<()> {
        // SAFETY: The pages are this mapping's, whose bytes are never borrowed.
        unsafe { rustix::mm::mprotect(self.start, len.min(self.len), protection) }
    }

    /// Calls the code at the beginning of an executable mapping, which must be that of a function without
    /// arguments; anything else ends the process at best.
    pub fn call(&self) -> u32 {
        // SAFETY: The files that tests map executable begin with such a function.
        let code: extern "C" fn() -> u32 = unsafe { std::mem::transmute(self.start) };
        code()
    }

    /// Gives advice on all of it.
    pub fn advise(&self, advice: Advice) -> Result<()> {
        // SAFETY: The pages are this mapping's, whose bytes are never borrowed; what the advice is used
        // with does at most drop pages of a file that is not written to.
        unsafe { rustix::mm::madvise(self.start, self.len, advice) }
    }

    /// Makes it `len` bytes long, wherever there is room.
    pub fn resize(&mut self, len: usize) -> Result<()> {
        // SAFETY: The pages are this mapping's, and nothing points to them but `start`.
        self.start =
            unsafe { rustix::mm::mremap(self.start, self.len, len, MremapFlags::MAYMOVE) }?;
        self.len = len;
        Ok(())
    }

    /// A copy of `len` bytes from `skip` on, as far as the mapping goes.
    pub fn copy(&self, skip: usize, len: usize) -> Vec<u8> {
        let skip = skip.min(self.len);
        let len = len.min(self.len - skip);
        let mut bytes = vec![0_u8; len];
        // SAFETY: The source lies in the mapping, the target has that length.
        unsafe {
            ptr::copy_nonoverlapping(self.start.cast::<u8>().add(skip), bytes.as_mut_ptr(), len);
        }
        bytes
    }

    /// Fills a writable, private mapping by `fill`.
    pub fn fill<T>(&mut self, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        // SAFETY: The pages are private and writable, which is what callers ask for who call this; they
        // are borrowed for the length of the call only, like `self`.
        fill(unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.len) })
    }

    /// Has the kernel write `len` bytes at `skip` to `sink`: where a page cannot be read that is EFAULT.
    pub fn write_to(&self, sink: &File, skip: usize, len: usize) -> Result<usize> {
        let skip = skip.min(self.len);
        let len = len.min(self.len - skip);
        // SAFETY: The source lies in the mapping; the kernel checks each page when it copies.
        let written = unsafe {
            libc::pwrite(
                std::os::fd::AsRawFd::as_raw_fd(sink),
                self.start.cast::<u8>().add(skip).cast(),
                len,
                0,
            )
        };
        usize::try_from(written).map_err(|_| super::last_errno())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The pages are this mapping's, and nothing points to them any more.
        let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
    }
}
