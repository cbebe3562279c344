// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! sha256 of archives, and their fs-verity digests, computed beside other work.
//!
//! `Hasher` takes chunks that are read anyway; [`Background`] reads a whole file itself.
//!
//! ```
//! use ferofs::digest::Digest;
//!
//! let digest = Digest::of(b"");
//! assert!(digest.to_string().starts_with("e3b0c442"));
//! assert_eq!(Digest::parse(&format!("sha256:{digest}")), Some(digest));
//! assert_eq!(Digest::parse("latest"), None);
//! ```

pub mod verity;

use crate::chunk::Chunk;
use data_encoding::HEXLOWER;
use data_encoding::HEXLOWER_PERMISSIVE;
use sha2::Digest as _;
use sha2::Sha256;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Adds so many zeros to what is hashed.
pub(crate) fn add_zeros(sum: &mut Sha256, mut left: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while left > 0 {
        let len = left.min(ZEROS.len() as u64);
        sha2::Digest::update(sum, ZEROS.get(..len as usize).unwrap_or_default());
        left -= len;
    }
}

/// A sha256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest written as 64 hexadecimal digits, possibly after "sha256:".
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let digest = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
        Some(Digest(digest.try_into().ok()?))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

/// What bytes come to, one after the other.
trait Sum: Default {
    /// What they come to in the end.
    type Digest: Send + 'static;

    fn update(&mut self, bytes: &[u8]);

    fn finish(self) -> Self::Digest;
}

impl Sum for Sha256 {
    type Digest = Digest;

    fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(self, bytes);
    }

    fn finish(self) -> Digest {
        Digest(self.finalize().into())
    }
}

/// Hashes chunks in a thread, in the order they are given.
pub(crate) struct Hasher<D = Digest> {
    chunks: Option<mpsc::SyncSender<Chunk>>,
    thread: Option<thread::JoinHandle<D>>,
}

impl Hasher {
    /// Starts the thread. It is a few chunks behind at most.
    pub(crate) fn spawn() -> Self {
        Self::spawn_for::<Sha256>()
    }
}

impl Hasher<verity::Digest> {
    /// Starts a thread that computes an fs-verity digest.
    pub(crate) fn spawn_verity() -> Self {
        Self::spawn_for::<verity::Tree>()
    }
}

impl<D: Send + 'static> Hasher<D> {
    fn spawn_for<S: Sum<Digest = D>>() -> Self {
        let (chunks, receiver) = mpsc::sync_channel::<Chunk>(4);
        let thread = thread::spawn(move || {
            let mut sum = S::default();
            for chunk in receiver {
                sum.update(&chunk);
            }
            sum.finish()
        });
        Hasher {
            chunks: Some(chunks),
            thread: Some(thread),
        }
    }

    /// Hashes a chunk.
    pub(crate) fn update(&self, chunk: &Chunk) {
        if let Some(chunks) = &self.chunks {
            // The thread ends only when this end is dropped.
            drop(chunks.send(chunk.clone()));
        }
    }

    /// Waits for the digest; there is one only the first time.
    pub(crate) fn finish(&mut self) -> Option<D> {
        self.chunks = None;
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

/// Reads and hashes a whole file in a thread; ends early when dropped.
pub struct Background {
    state: Arc<State>,
    result: mpsc::Receiver<io::Result<Digest>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    done: AtomicU64,
    stop: AtomicBool,
}

impl Background {
    /// Starts hashing `file` from its beginning to its end.
    pub fn spawn(file: File) -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let (sender, result) = mpsc::channel();
        let thread = thread::spawn(move || {
            // Nobody may be waiting any more.
            drop(sender.send(hash::<Sha256>(&file, &shared)));
        });
        Background {
            state,
            result,
            thread: Some(thread),
        }
    }

    /// Waits for the digest; `progress` is told now and then how many bytes are done.
    ///
    /// # Errors
    ///
    /// Those of reading the file.
    pub fn wait(self, mut progress: impl FnMut(u64)) -> io::Result<Digest> {
        loop {
            match self.result.recv_timeout(Duration::from_millis(100)) {
                Ok(result) => return result,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    progress(self.state.done.load(Ordering::Relaxed));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other(
                        "the hashing thread ended without a result",
                    ));
                }
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Hashes files, several at once, each from its beginning to its end. `progress` is told now and then
/// how many bytes of all of them are done. The results are in the order of the files.
///
/// # Errors
///
/// For each file those of reading it.
pub fn hash_all(files: &[File], progress: &mut dyn FnMut(u64)) -> Vec<io::Result<Digest>> {
    sum_all::<Sha256>(files, progress)
}

/// The same for the fs-verity digests that the files would have.
///
/// # Errors
///
/// For each file those of reading it.
pub fn verity_of_all(
    files: &[File],
    progress: &mut dyn FnMut(u64),
) -> Vec<io::Result<verity::Digest>> {
    sum_all::<verity::Tree>(files, progress)
}

/// The fs-verity digest that a file would have.
///
/// # Errors
///
/// Those of reading it.
pub fn verity_of(file: &File) -> io::Result<verity::Digest> {
    hash::<verity::Tree>(file, &State::default())
}

fn sum_all<S: Sum>(files: &[File], progress: &mut dyn FnMut(u64)) -> Vec<io::Result<S::Digest>> {
    let states: Vec<State> = files.iter().map(|_| State::default()).collect();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (sender, results) = mpsc::channel();
    let mut digests: Vec<io::Result<S::Digest>> = files
        .iter()
        .map(|_| {
            Err(io::Error::other(
                "the hashing thread ended without a result",
            ))
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..threads.min(files.len()) {
            let sender = sender.clone();
            let (next, states) = (&next, &states);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(file), Some(state)) = (files.get(index), states.get(index)) else {
                        return;
                    };
                    drop(sender.send((index, hash::<S>(file, state))));
                }
            });
        }
        drop(sender);
        loop {
            match results.recv_timeout(Duration::from_millis(100)) {
                Ok((index, digest)) => {
                    if let Some(place) = digests.get_mut(index) {
                        *place = digest;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let done = states
                        .iter()
                        .map(|state| state.done.load(Ordering::Relaxed));
                    progress(done.sum());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    digests
}

fn hash<S: Sum>(file: &File, state: &State) -> io::Result<S::Digest> {
    let mut sum = S::default();
    let mut buffer = vec![0; 256 << 10];
    let mut pos: u64 = 0;
    loop {
        if state.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read_at(&mut buffer, pos) {
            Ok(0) => return Ok(sum.finish()),
            Ok(n) => {
                sum.update(buffer.get(..n).unwrap_or_default());
                pos = pos.saturating_add(n as u64);
                state.done.store(pos, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_and_read() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(Digest::parse(empty), Some(Digest::of(b"")));
        let upper = empty.to_uppercase();
        assert_eq!(Digest::parse(&upper), Some(Digest::of(b"")));
        assert_eq!(
            Digest::parse(&format!("sha256:{empty}")),
            Some(Digest::of(b""))
        );
        let signs = "+1".repeat(32);
        for bad in ["", "sha256:", &empty[1..], &empty.replace('e', "x"), &signs] {
            assert_eq!(Digest::parse(bad), None);
        }
    }

    #[test]
    fn files_are_hashed_in_any_order_and_given_in_theirs() {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("ferofs-hash-all-{}", std::process::id()));
        let (mut files, mut expected) = (Vec::new(), Vec::new());
        for number in 0..20_usize {
            let content = vec![number as u8; number * 70_000 % 1_000_000];
            std::fs::write(&path, &content).unwrap();
            files.push(File::open(&path).unwrap());
            std::fs::remove_file(&path).unwrap();
            expected.push(Digest::of(&content));
        }
        let found = hash_all(&files, &mut |_| {});
        let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
        assert_eq!(found, expected);
        // What cannot be read is an error of that file only.
        files.insert(1, File::open(&directory).unwrap());
        let found = hash_all(&files, &mut |_| {});
        assert!(found[0].is_ok() && found[1].is_err() && found[2].is_ok());
        assert!(hash_all(&[], &mut |_| {}).is_empty());
    }

    #[test]
    fn chunks_are_hashed_in_order() {
        let mut hasher = Hasher::spawn();
        let mut all = Vec::new();
        for at in 0..20_u8 {
            let chunk = vec![at; 1000];
            all.extend_from_slice(&chunk);
            hasher.update(&chunk.into());
        }
        assert_eq!(hasher.finish(), Some(Digest::of(&all)));
        assert_eq!(hasher.finish(), None);
    }
}
