// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The sha256 of a file in an archive, holes included, made of the bytes that a [`Reader`](super::Reader) gives out.

use super::Segment;
use crate::digest::Digest;
use crate::digest::add_zeros;
use sha2::Digest as _;
use sha2::Sha256;

/// A file that is being hashed.
pub(super) struct FileHash {
    size: u64,
    segments: Vec<Segment>,
    /// The first segment that is not hashed to its end.
    next: usize,
    /// How much of the file is hashed.
    done: u64,
    sum: Sha256,
}

impl FileHash {
    /// A file of `size` bytes, with data in these segments.
    pub(super) fn new(size: u64, segments: Vec<Segment>) -> Self {
        FileHash {
            size,
            segments,
            next: 0,
            done: 0,
            sum: Sha256::new(),
        }
    }

    /// How much of it is in holes.
    pub(super) fn holes(&self) -> u64 {
        let data = self.segments.iter().map(|segment| segment.len);
        self.size.saturating_sub(data.fold(0, u64::saturating_add))
    }

    /// Where in the archive the next byte is that is wanted, and how many follow it; none if there are no more.
    pub(super) fn wants(&self) -> Option<(u64, u64)> {
        let segment = self.segments.get(self.next)?;
        let passed = self.done.saturating_sub(segment.start).min(segment.len);
        Some((
            segment.pos.saturating_add(passed),
            segment.len.saturating_sub(passed),
        ))
    }

    /// Takes in bytes that are at `pos` in the archive, as far as they are the next ones.
    pub(super) fn pass(&mut self, pos: u64, bytes: &[u8]) {
        while let Some((wanted, len)) = self.wants() {
            let skip = wanted.checked_sub(pos).map(usize::try_from);
            let Some(rest) = skip.and_then(|skip| bytes.get(skip.ok()?..)) else {
                return;
            };
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let part = rest.get(..len).unwrap_or(rest);
            if part.is_empty() && len > 0 {
                return;
            }
            if let Some(segment) = self.segments.get(self.next) {
                self.zeros_to(segment.start);
            }
            self.sum.update(part);
            self.done = self.done.saturating_add(part.len() as u64);
            if part.len() == len {
                self.next = self.next.saturating_add(1);
            }
        }
    }

    fn zeros_to(&mut self, to: u64) {
        add_zeros(&mut self.sum, to.saturating_sub(self.done));
        self.done = self.done.max(to);
    }

    /// The sha256, of all that is wanted and was taken in.
    pub(super) fn finish(mut self) -> Digest {
        self.zeros_to(self.size);
        Digest(self.sum.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_is_hashed_once_in_its_order() {
        let archive: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        let segment = |start, len, pos| Segment { start, len, pos };
        for (size, segments) in [
            (50_000, vec![segment(0, 50_000, 512)]),
            (
                300_000,
                vec![segment(1000, 7, 512), segment(250_000, 50_000, 519)],
            ),
            (
                300_000,
                vec![
                    segment(0, 0, 512),
                    segment(8, 1000, 512),
                    segment(90_000, 0, 1512),
                ],
            ),
            (10, vec![]),
            (0, vec![]),
        ] {
            let mut file = vec![0; size as usize];
            for Segment { start, len, pos } in &segments {
                let bytes = &archive[*pos as usize..][..*len as usize];
                file[*start as usize..][..*len as usize].copy_from_slice(bytes);
            }
            for step in [1, 500, 4096, 100_000] {
                let mut hash = FileHash::new(size, segments.clone());
                let data: u64 = segments.iter().map(|segment| segment.len).sum();
                assert_eq!(hash.holes(), size - data);
                let mut said = None;
                while let Some((pos, _)) = hash.wants() {
                    assert_ne!(said, Some(pos), "{segments:?}");
                    said = Some(pos);
                    let bytes = &archive[pos as usize..];
                    let bytes = &bytes[..step.min(bytes.len())];
                    hash.pass(pos, bytes);
                    // Seen twice, as a reader may give them out again.
                    hash.pass(pos, bytes);
                    hash.pass(
                        pos.saturating_sub(3),
                        &archive[pos.saturating_sub(3) as usize..][..3],
                    );
                }
                assert_eq!(hash.finish(), Digest::of(&file), "{segments:?} by {step}");
            }
        }
    }
}
