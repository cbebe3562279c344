// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Linux AIO: io_setup(2), io_submit(2), io_getevents(2), for which libc has no functions.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr;

use rustix::io::Errno;
use rustix::io::Result;

use super::Job;
use super::last_errno;

const PREAD: u16 = 0;
const PREADV: u16 = 7;

/// `struct iocb` of a little-endian machine.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    reqprio: i16,
    fd: u32,
    buf: u64,
    count: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

/// A context for requests.
pub struct Context(libc::c_ulong);

impl Context {
    /// For so many requests at once.
    pub fn new(requests: u32) -> Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: The call stores a number in `context`.
        let done = unsafe { libc::syscall(libc::SYS_io_setup, requests, &raw mut context) };
        if done < 0 {
            return Err(last_errno());
        }
        Ok(Context(context))
    }

    /// Submits all jobs at once, and waits for them. With `vectored` each is an IOCB_CMD_PREADV.
    pub fn read(&mut self, file: &File, jobs: &mut [Job<'_>], vectored: bool) -> Result<()> {
        let vectors: Vec<libc::iovec> = jobs
            .iter_mut()
            .map(|job| libc::iovec {
                iov_base: job.buffer.as_mut_ptr().cast(),
                iov_len: job.buffer.len(),
            })
            .collect();
        let mut blocks: Vec<Iocb> = jobs
            .iter()
            .zip(&vectors)
            .enumerate()
            .map(|(index, (job, vector))| Iocb {
                data: index as u64,
                opcode: if vectored { PREADV } else { PREAD },
                fd: file.as_raw_fd().unsigned_abs(),
                buf: if vectored {
                    ptr::from_ref(vector) as u64
                } else {
                    vector.iov_base as u64
                },
                count: if vectored { 1 } else { vector.iov_len as u64 },
                offset: job.offset as i64,
                ..Iocb::default()
            })
            .collect();
        let pointers: Vec<*mut Iocb> = blocks.iter_mut().map(ptr::from_mut).collect();
        let mut submitted = 0;
        let mut failed = None;
        while submitted < pointers.len() && failed.is_none() {
            // SAFETY: The control blocks, their vectors and the jobs' buffers live until all requests have
            // ended, for which this function waits below.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_io_submit,
                    self.0,
                    pointers.len() - submitted,
                    pointers[submitted..].as_ptr(),
                )
            };
            match usize::try_from(done) {
                Ok(done) => submitted += done,
                Err(_) => failed = Some(last_errno()),
            }
        }
        let mut ended = 0;
        while ended < submitted {
            let mut events = vec![Event::default(); submitted - ended];
            // SAFETY: There is room for that many events.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.0,
                    1_u64,
                    events.len(),
                    events.as_mut_ptr(),
                    ptr::null::<libc::timespec>(),
                )
            };
            match usize::try_from(done) {
                Ok(done) => {
                    for event in &events[..done] {
                        jobs[event.data as usize].result = event.res;
                    }
                    ended += done;
                }
                Err(_) if last_errno() == Errno::INTR => {}
                // The requests may still be running, with buffers that the caller would free.
                Err(_) => std::process::abort(),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: The context has no requests.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}
