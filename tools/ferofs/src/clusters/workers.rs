// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Threads that encode segments. What they are given comes back in the same order, whoever was faster; how much is on
//! the way is bounded.

use super::codec::Algorithm;
use super::codec::Encoder;
use super::segment;
use super::segment::Rest;
use super::segment::Segment;
use super::segment::Shape;
use crate::digest::Digest;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread;

/// What is done with a segment.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Which of the algorithms.
    pub algorithm: usize,
    pub shape: Shape,
    /// Whether it is the last one of its file.
    pub last: bool,
    /// Whether digests of its clusters are wanted.
    pub digests: bool,
}

/// A segment on its way.
struct Job {
    work: Work,
    bytes: Vec<u8>,
    done: mpsc::SyncSender<io::Result<Done>>,
}

/// A segment that is encoded.
#[derive(Debug)]
pub struct Done {
    /// What it was.
    pub bytes: Vec<u8>,
    /// What it became.
    pub segment: Segment,
    /// If they are wanted, the digests of all pieces, and that of a fragment.
    pub digests: Vec<Digest>,
    /// If they are wanted, that of all of it.
    pub whole: Option<Digest>,
}

/// The threads, and what is on its way through them. `T` goes along.
pub struct Workers<T> {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
    /// In the order they were given, with their sizes.
    pending: VecDeque<(T, usize, mpsc::Receiver<io::Result<Done>>)>,
    /// Bytes of all of them.
    size: usize,
    most: usize,
}

/// So many segments may be on the way, however small they are.
const MOST_SEGMENTS: usize = 1024;
/// So many bytes may be on the way for each thread, besides what each is busy with.
const MOST_BYTES: usize = 4 << 20;

impl<T> Workers<T> {
    /// So many threads, for segments of at most so many bytes; `cluster` is the largest physical cluster.
    ///
    /// # Errors
    ///
    /// When there are no such threads or encoders.
    pub fn new(
        count: usize,
        segment: usize,
        algorithms: &[Algorithm],
        cluster: u32,
    ) -> io::Result<Self> {
        let count = count.max(1);
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..count).map(|_| {
            let encoders = algorithms.iter().map(|one| one.encoder(cluster));
            let encoders: Result<Vec<_>, _> = encoders.collect();
            let mut encoders = encoders.map_err(io::Error::other)?;
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name("encode".to_string())
                .spawn(move || work(&queue, &mut encoders))
        });
        Ok(Workers {
            jobs: Some(jobs),
            threads: threads.collect::<io::Result<_>>()?,
            pending: VecDeque::new(),
            size: 0,
            most: count * (segment + MOST_BYTES),
        })
    }

    /// Gives a segment to the threads.
    pub fn give(&mut self, along: T, bytes: Vec<u8>, work: Work) {
        let size = bytes.len();
        let (done, result) = mpsc::sync_channel(1);
        if let Some(jobs) = &self.jobs {
            // If all threads have ended, that shows when the result does not come.
            drop(jobs.send(Job { work, bytes, done }));
        }
        self.pending.push_back((along, size, result));
        self.size += size;
    }

    /// The next segment, if it is encoded, or if so much is on the way that it is waited for, or `all`.
    ///
    /// # Errors
    ///
    /// When it could not be encoded.
    pub fn take(&mut self, all: bool) -> io::Result<Option<(T, Done)>> {
        let Some((.., result)) = self.pending.front() else {
            return Ok(None);
        };
        let wait = all || self.size > self.most || self.pending.len() > MOST_SEGMENTS;
        let result = match wait {
            true => result.recv().map_err(|_| mpsc::TryRecvError::Disconnected),
            false => result.try_recv(),
        };
        let done = match result {
            Ok(done) => done?,
            Err(mpsc::TryRecvError::Empty) => return Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => {
                return Err(io::Error::other("an encoding thread ended early"));
            }
        };
        let taken = self.pending.pop_front();
        Ok(taken.map(|(along, size, _)| {
            self.size -= size;
            (along, done)
        }))
    }
}

impl<T> Drop for Workers<T> {
    fn drop(&mut self) {
        // What is in the queue still is of no use to anyone.
        self.pending.clear();
        self.jobs = None;
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, encoders: &mut [Box<dyn Encoder>]) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { work, bytes, done }) = job else {
            return;
        };
        let Some(encoder) = encoders.get_mut(work.algorithm) else {
            return;
        };
        let encoded = segment::encode(encoder.as_mut(), &work.shape, &bytes, work.last);
        let result = encoded.map(|segment| Done {
            digests: match work.digests {
                true => digests(&segment, &bytes, work.shape.block),
                false => Vec::new(),
            },
            whole: work.digests.then(|| Digest::of(&bytes)),
            bytes,
            segment,
        });
        // Nobody may be waiting for it any more.
        drop(done.send(result));
    }
}

/// Digests of all pieces, and of a fragment.
fn digests(segment: &Segment, bytes: &[u8], block: usize) -> Vec<Digest> {
    let mut digests = Vec::new();
    let mut rest = segment.bytes.as_slice();
    for piece in &segment.pieces {
        let size = usize::from(piece.blocks) * block;
        let (now, behind) = rest.split_at_checked(size).unwrap_or((rest, &[]));
        digests.push(Digest::of(now));
        rest = behind;
    }
    if let Rest::Fragment(length) = segment.rest {
        let start = bytes.len().saturating_sub(length as usize);
        digests.push(Digest::of(bytes.get(start..).unwrap_or_default()));
    }
    digests
}
