// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! io_uring: reads into any buffer, into a registered one, of a registered file, with vectors.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::IoUring;
use io_uring::opcode;
use io_uring::types::Fd;
use io_uring::types::Fixed;

use super::Job;

const PAGE: usize = 4096;

/// How a ring reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// IORING_OP_READ.
    Plain,
    /// IORING_OP_READV.
    Vectored,
    /// IORING_OP_READ_FIXED, into the registered buffer.
    FixedBuffer,
    /// IORING_OP_READ of a registered file.
    FixedFile,
    /// IORING_OP_READ that goes to a worker thread at once.
    Async,
}

/// A ring with a registered buffer.
pub struct Ring {
    // Before the buffer, so that it is gone first.
    ring: IoUring,
    buffer: Vec<u8>,
    /// Where a page begins in it.
    first: usize,
}

impl Ring {
    /// A ring for so many requests at once, with a registered buffer of `len` bytes.
    pub fn new(requests: u32, len: usize) -> io::Result<Self> {
        let ring = IoUring::new(requests)?;
        let mut buffer = vec![0_u8; len + PAGE];
        let first = buffer.as_ptr().align_offset(PAGE);
        let vector = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: The buffer is neither moved nor freed while the ring is there.
        unsafe { ring.submitter().register_buffers(&[vector]) }?;
        Ok(Ring {
            ring,
            buffer,
            first,
        })
    }

    /// Submits all jobs at once, and waits for them.
    pub fn read(&mut self, file: &File, jobs: &mut [Job<'_>], how: How) -> io::Result<()> {
        if how == How::FixedFile {
            self.ring.submitter().register_files(&[file.as_raw_fd()])?;
        }
        let done = self.submit(file, jobs, how);
        if how == How::FixedFile {
            self.ring.submitter().unregister_files()?;
        }
        done
    }

    fn submit(&mut self, file: &File, jobs: &mut [Job<'_>], how: How) -> io::Result<()> {
        let fd = Fd(file.as_raw_fd());
        let vectors: Vec<libc::iovec> = jobs
            .iter_mut()
            .map(|job| libc::iovec {
                iov_base: job.buffer.as_mut_ptr().cast(),
                iov_len: job.buffer.len(),
            })
            .collect();
        let total: usize = vectors.iter().map(|vector| vector.iov_len).sum();
        // Before the first is in the queue, for from then on all must be waited for.
        if jobs.len() > self.ring.params().sq_entries() as usize {
            return Err(io::Error::other("more requests than the ring has room for"));
        }
        if how == How::FixedBuffer && total > self.buffer.len() - self.first {
            return Err(io::Error::other("the registered buffer is too small"));
        }
        let mut skip = self.first;
        for (index, (job, vector)) in jobs.iter().zip(&vectors).enumerate() {
            let (base, len) = (vector.iov_base.cast::<u8>(), vector.iov_len as u32);
            let mut entry = match how {
                How::Plain | How::Async => {
                    opcode::Read::new(fd, base, len).offset(job.offset).build()
                }
                How::FixedFile => opcode::Read::new(Fixed(0), base, len)
                    .offset(job.offset)
                    .build(),
                How::Vectored => opcode::Readv::new(fd, std::ptr::from_ref(vector), 1)
                    .offset(job.offset)
                    .build(),
                How::FixedBuffer => {
                    let place = self.buffer[skip..].as_mut_ptr();
                    skip += vector.iov_len;
                    opcode::ReadFixed::new(fd, place, len, 0)
                        .offset(job.offset)
                        .build()
                }
            };
            if how == How::Async {
                entry = entry.flags(io_uring::squeue::Flags::ASYNC);
            }
            let entry = entry.user_data(index as u64);
            // SAFETY: The buffers and vectors live until all requests have ended, for which this function
            // waits below.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                std::process::abort();
            }
        }
        let mut ended = 0;
        while ended < jobs.len() {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The requests may still be running, with buffers that the caller would free.
                Err(_) => std::process::abort(),
            }
            for completion in self.ring.completion() {
                jobs[completion.user_data() as usize].result = completion.result().into();
                ended += 1;
            }
        }
        if how == How::FixedBuffer {
            let mut skip = self.first;
            for job in jobs {
                let len = job.buffer.len();
                job.buffer.copy_from_slice(&self.buffer[skip..skip + len]);
                skip += len;
            }
        }
        Ok(())
    }
}
