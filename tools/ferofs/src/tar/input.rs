// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The bytes of an archive: from a file, jumping over data, or from a stream, hashing what passes.
//!
//! [`Reader`](super::Reader) asks for a few hundred bytes at positions that only grow.

use super::HeaderDigest;
use super::header::BLOCK;
use super::headers::HeaderHasher;
use crate::chunk::Chunk;
use crate::chunk::Pool;
use crate::digest::Digest;
use crate::digest::Hasher;
use crate::digest::verity;
use crate::read_at::ReadAt;
use std::io;
use std::io::Read;

/// The bytes of an archive.
pub trait Input {
    /// The bytes at `pos`: `len` of them, or fewer at the end of the archive. `pos` must not be
    /// below that of an earlier call.
    ///
    /// # Errors
    ///
    /// Those of reading.
    fn bytes(&mut self, pos: u64, len: usize) -> io::Result<&[u8]>;

    /// The bytes at `pos`: as many of `most` as can be had without copying any, none only at the end
    /// of the archive. `pos` is as for [`Self::bytes`].
    ///
    /// # Errors
    ///
    /// Those of reading.
    fn some_bytes(&mut self, pos: u64, most: usize) -> io::Result<&[u8]> {
        self.bytes(pos, most.min(256 << 10))
    }

    /// From now on, bytes behind the last position asked for can be had again, whatever is asked for
    /// next, within reason; or no more.
    fn keep(&mut self, _yes: bool) {}

    /// The size of the archive, if it is known already: from the start for a file, at the end
    /// for a stream.
    fn size(&self) -> Option<u64>;

    /// Reads what is left, as far as it has to be read, and says what it all came to.
    ///
    /// # Errors
    ///
    /// Those of reading.
    fn finish(&mut self) -> io::Result<Totals>;
}

/// What an archive came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Its size in bytes, with everything behind the end of the archive proper.
    pub size: u64,
    /// Its digest, if all of it was read.
    pub digest: Option<Digest>,
    /// Its fs-verity digest, if that was wanted.
    pub verity: Option<verity::Digest>,
    /// That of its headers.
    pub headers: Option<HeaderDigest>,
}

/// An archive in a file, or in anything else that can be read at any position. Only windows around
/// the headers are read. How much at once follows the stretches that headers lie close together in:
/// what is in one is read through, what is between them is jumped over.
pub struct FileInput<R> {
    file: R,
    size: u64,
    window: Vec<u8>,
    start: u64,
    filled: usize,
    /// Where the last request was.
    asked: u64,
    /// Length of the stretch so far that the last request was in.
    stretch: u64,
    /// Mean length of the stretches before, the last ones counting most.
    mean: u64,
    headers: HeaderHasher,
}

impl<R: ReadAt> FileInput<R> {
    const SMALLEST: u64 = 2 << 10;
    const LARGEST: u64 = 256 << 10;
    /// To read so much takes about as long as a jump.
    const CLOSE: u64 = 4 << 10;

    /// Reads from `file`, which has `size` bytes.
    pub fn new(file: R, size: u64) -> Self {
        FileInput {
            file,
            size,
            window: Vec::new(),
            start: 0,
            filled: 0,
            asked: 0,
            stretch: 0,
            mean: Self::SMALLEST,
            headers: HeaderHasher::new(),
        }
    }

    /// The digest of the headers: those that nobody has asked for are read now.
    pub(super) fn header_digest(&mut self) -> io::Result<HeaderDigest> {
        while let Some(pos) = self.headers.wants() {
            self.bytes(pos, BLOCK)?;
            if self.headers.wants() == Some(pos) {
                self.headers.end();
            }
        }
        Ok(HeaderDigest {
            size: self.size,
            sha256: self.headers.finish(),
        })
    }

    /// Takes note of where a request is.
    fn observe(&mut self, pos: u64) {
        let distance = pos.saturating_sub(self.asked);
        self.asked = pos;
        if distance <= Self::CLOSE {
            self.stretch = self.stretch.saturating_add(distance);
        } else {
            self.mean = (self.mean.saturating_mul(7).saturating_add(self.stretch)) / 8;
            self.stretch = 0;
        }
    }

    fn fill(&mut self, pos: u64, len: usize) -> io::Result<()> {
        let ask = self.mean.max(self.stretch);
        let ask = ask.clamp(Self::SMALLEST, Self::LARGEST) as usize;
        let left = usize::try_from(self.size.saturating_sub(pos)).unwrap_or(usize::MAX);
        let want = ask.max(len).min(left);
        if self.window.len() < want {
            self.window.resize(want, 0);
        }
        self.start = pos;
        self.filled = 0;
        let window = self.window.get_mut(..want).unwrap_or_default();
        self.filled = self.file.read_full_at(window, pos)?;
        let filled = self.window.get(..self.filled).unwrap_or_default();
        self.headers.pass(pos, filled);
        Ok(())
    }
}

impl<R: ReadAt> Input for FileInput<R> {
    fn bytes(&mut self, pos: u64, len: usize) -> io::Result<&[u8]> {
        self.observe(pos);
        let held = |this: &Self| {
            let at = usize::try_from(pos.checked_sub(this.start)?).ok()?;
            (at.checked_add(len)? <= this.filled).then_some(at)
        };
        let at = match held(self) {
            Some(at) => at,
            None => {
                self.fill(pos, len)?;
                0
            }
        };
        let end = at.saturating_add(len).min(self.filled);
        Ok(self.window.get(at..end).unwrap_or_default())
    }

    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn finish(&mut self) -> io::Result<Totals> {
        Ok(Totals {
            size: self.size,
            digest: None,
            verity: None,
            headers: Some(self.header_digest()?),
        })
    }
}

/// Gets all of an archive, chunk by chunk, as it is read.
pub trait Pass {
    /// Takes the next one.
    ///
    /// # Errors
    ///
    /// When it cannot be taken, which ends reading.
    fn pass(&mut self, chunk: &Chunk) -> io::Result<()>;
}

/// Nobody wants it.
impl Pass for () {
    fn pass(&mut self, _: &Chunk) -> io::Result<()> {
        Ok(())
    }
}

/// An archive from a pipe or any other reader. All of it passes through, so it is hashed, in a
/// thread of its own, and given to whoever else wants it.
pub struct StreamInput<R, P = ()> {
    reader: R,
    hasher: Option<Hasher>,
    verity: Option<Hasher<verity::Digest>>,
    pass: P,
    pool: Pool,
    /// The chunk read last, shared with the hashers, and its position.
    chunk: Chunk,
    chunk_start: u64,
    /// Bytes gathered from several chunks when a request crosses their border.
    gathered: Vec<u8>,
    /// Whether chunks that have passed are kept, and those with their positions.
    keeping: bool,
    kept: Vec<(u64, Chunk)>,
    ended: bool,
    headers: HeaderHasher,
}

/// So much is read at once.
const CHUNK: usize = 1 << 20;
/// No more chunks than this are kept.
const MOST_KEPT: usize = if cfg!(test) { 8 } else { 256 };

impl<R: Read> StreamInput<R> {
    /// Reads from `reader` up to its end.
    pub fn new(reader: R) -> Self {
        StreamInput {
            reader,
            hasher: Some(Hasher::spawn()),
            verity: None,
            pass: (),
            pool: Pool::new(CHUNK),
            chunk: Chunk::default(),
            chunk_start: 0,
            gathered: Vec::new(),
            keeping: false,
            kept: Vec::new(),
            ended: false,
            headers: HeaderHasher::new(),
        }
    }

    /// The same, but nothing is hashed.
    pub fn without_digest(reader: R) -> Self {
        StreamInput {
            hasher: None,
            ..Self::new(reader)
        }
    }

    /// Computes the fs-verity digest, too, or not, in a thread of its own.
    #[must_use]
    pub fn with_verity(mut self, yes: bool) -> Self {
        self.verity = yes.then(Hasher::spawn_verity);
        self
    }

    /// Gives all of it to `pass`, too.
    pub(crate) fn passing<P: Pass>(self, pass: P) -> StreamInput<R, P> {
        StreamInput {
            reader: self.reader,
            hasher: self.hasher,
            verity: self.verity,
            pass,
            pool: self.pool,
            chunk: self.chunk,
            chunk_start: self.chunk_start,
            gathered: self.gathered,
            keeping: self.keeping,
            kept: self.kept,
            ended: self.ended,
            headers: self.headers,
        }
    }
}

impl<R: Read, P: Pass> StreamInput<R, P> {
    fn chunk_end(&self) -> u64 {
        self.chunk_start.saturating_add(self.chunk.len() as u64)
    }

    /// Reads the next chunk; at the end it is empty.
    fn advance(&mut self) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        let start = self.chunk_start;
        self.chunk_start = self.chunk_end();
        let used = std::mem::take(&mut self.chunk);
        if self.keeping {
            self.kept.push((start, used.clone()));
            if self.kept.len() > MOST_KEPT {
                // Perhaps nobody asks for it.
                self.keep(false);
            }
        }
        // It may be the last one that has it.
        drop(used);
        let mut buffer = self.pool.buffer();
        let filled = buffer.fill(&mut self.reader)?;
        self.ended = filled < CHUNK;
        self.chunk = self.pool.share(buffer, filled);
        // Chunks begin at multiples of their size as they come.
        self.headers.pass(self.chunk_start, &self.chunk);
        if let Some(hasher) = &self.hasher {
            hasher.update(&self.chunk);
        }
        if let Some(verity) = &self.verity {
            verity.update(&self.chunk);
        }
        self.pass.pass(&self.chunk)
    }

    /// The part from `pos` on of the chunk that has it, at most `len` bytes.
    fn part(&self, pos: u64, len: usize) -> &[u8] {
        let (start, chunk) = match pos < self.chunk_start {
            true => {
                let next = self.kept.partition_point(|(start, _)| *start <= pos);
                match next.checked_sub(1).and_then(|last| self.kept.get(last)) {
                    Some((start, chunk)) => (*start, chunk),
                    None => return &[],
                }
            }
            false => (self.chunk_start, &self.chunk),
        };
        let at = usize::try_from(pos - start).unwrap_or(usize::MAX);
        let rest = chunk.get(at..).unwrap_or_default();
        rest.get(..len).unwrap_or(rest)
    }
}

impl<R: Read, P: Pass> Input for StreamInput<R, P> {
    fn bytes(&mut self, pos: u64, len: usize) -> io::Result<&[u8]> {
        while pos >= self.chunk_end() && !self.ended {
            self.advance()?;
        }
        if self.part(pos, len).len() == len || self.ended {
            return Ok(self.part(pos, len));
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.clear();
        gathered.extend_from_slice(self.part(pos, len));
        while gathered.len() < len && !self.ended {
            self.advance()?;
            let missing = len - gathered.len();
            gathered.extend_from_slice(self.part(self.chunk_start, missing));
        }
        // The bytes given out may be asked for again, or some of those behind them.
        let consumed = usize::try_from(self.chunk_start - pos).unwrap_or(usize::MAX);
        if consumed > 0 {
            let rest: &[u8] = &self.chunk;
            let mut joined = gathered
                .get(..consumed.min(gathered.len()))
                .unwrap_or_default()
                .to_vec();
            joined.extend_from_slice(rest);
            self.chunk_start = pos;
            self.chunk = joined.into();
        }
        self.gathered = gathered;
        Ok(self.part(pos, len))
    }

    fn some_bytes(&mut self, pos: u64, most: usize) -> io::Result<&[u8]> {
        while pos >= self.chunk_end() && !self.ended {
            self.advance()?;
        }
        let part = self.part(pos, most);
        if part.is_empty() && pos < self.chunk_start {
            return Err(io::Error::other(format!(
                "more than {} MiB behind it had to be read first",
                MOST_KEPT
            )));
        }
        Ok(part)
    }

    fn keep(&mut self, yes: bool) {
        self.keeping = yes;
        self.kept.clear();
    }

    fn size(&self) -> Option<u64> {
        self.ended.then(|| self.chunk_end())
    }

    fn finish(&mut self) -> io::Result<Totals> {
        while !self.ended {
            self.advance()?;
        }
        let digest = self.hasher.as_mut().and_then(Hasher::finish);
        let verity = self.verity.as_mut().and_then(Hasher::finish);
        let size = self.chunk_end();
        let sha256 = self.headers.finish();
        Ok(Totals {
            size,
            digest,
            verity,
            headers: Some(HeaderDigest { size, sha256 }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// Gives a few bytes at a time, as pipes do.
    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = buf.len().min(self.1).min(self.0.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0.drain(..n);
            Ok(n)
        }
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 7 % 251) as u8).collect()
    }

    fn check(input: &mut dyn Input, content: &[u8]) {
        let len = content.len();
        for (pos, ask) in [
            (0, 512),
            (0, 1024),
            (512, 512),
            (700, 100_000),
            (CHUNK - 100, 512),
            (CHUNK - 100, 300),
            (CHUNK + 5, 512),
            (len - 100, 512),
            (len, 512),
            (len + 5, 512),
        ] {
            let expected = &content[pos.min(len)..(pos + ask).min(len)];
            assert!(
                input.bytes(pos as u64, ask).unwrap() == expected,
                "{ask} bytes at {pos}"
            );
        }
        assert_eq!(input.size(), Some(len as u64));
    }

    #[test]
    fn a_stream_gives_what_is_asked_and_its_digest() {
        let content = content((2 << 20) + 12_345);
        let mut input = StreamInput::new(Trickle(content.clone(), 100_000));
        check(&mut input, &content);
        let totals = input.finish().unwrap();
        assert_eq!(totals.size, content.len() as u64);
        assert_eq!(totals.digest, Some(Digest::of(&content)));
    }

    #[test]
    fn a_stream_keeps_what_is_asked_for_again() {
        let content = content(12 << 20);
        let mut input = StreamInput::without_digest(content.as_slice());
        input.bytes(512, 512).unwrap();
        input.keep(true);
        input.bytes(5 << 20, 512).unwrap();
        for pos in [512, (1 << 20) - 5, 1 << 20, (3 << 20) + 7, 5 << 20] {
            let found = input.some_bytes(pos, 1000).unwrap();
            assert!(!found.is_empty() && found == &content[pos as usize..][..found.len()]);
        }
        // Not everything, but then it says so.
        input.bytes(11 << 20, 512).unwrap();
        input.some_bytes(512, 512).unwrap_err();
        assert_eq!(
            input.some_bytes(11 << 20, 5).unwrap(),
            &content[11 << 20..][..5]
        );
    }

    #[test]
    fn a_stream_is_read_to_its_end() {
        let content = content(3 << 20);
        let mut input = StreamInput::new(content.as_slice()).with_verity(true);
        assert_eq!(input.bytes(0, 512).unwrap(), &content[..512]);
        assert_eq!(input.size(), None);
        let totals = input.finish().unwrap();
        assert_eq!(totals.size, 3 << 20);
        assert_eq!(totals.digest, Some(Digest::of(&content)));
        assert_eq!(totals.verity, Some(verity::Digest::of(&content)));
        assert_eq!(totals.headers, HeaderDigest::of(&content).ok());
    }

    #[test]
    fn a_file_gives_what_is_asked() {
        let content = content((2 << 20) + 12_345);
        let path = std::env::temp_dir().join(format!("ferofs-input-{}", std::process::id()));
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        check(&mut FileInput::new(file, content.len() as u64), &content);
    }
}
