// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A digest of an archive's headers, by which an index knows its tar again without reading the data: thousands of
//! headers are read in milliseconds.
//!
//! `input` hands over the blocks while they pass. Which blocks count is said here and nowhere else, since images keep
//! the digest for longer than a version of the reader: from the beginning, each header goes into it, those of
//! sparse files with their maps, extended ones with their data. The data of all others is jumped over. The first
//! block that is no header ends it, and so does the limit on their number.

use super::Header;
use super::header::BLOCK;
use super::header::Checksum;
use super::pax::Records;
use crate::number;
use crate::read_at::ReadAt;
use sha2::Digest as _;
use sha2::Sha256;
use std::io;

/// So many blocks go into the digest: 8 MiB.
const MAX_BLOCKS: u32 = 16_384;
/// Of the data of an extended header so much is looked at to find the size of a file.
const MAX_RECORDS: usize = 64 << 10;
/// Whether more blocks of a sparse file's map follow: in its header, and in such a block.
const SPARSE_MORE: usize = 482;
const SPARSE_AND_MORE: usize = 504;

/// What the headers of an archive came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderDigest {
    /// Size of the archive in bytes.
    pub size: u64,
    /// The sha256 of its headers, as far as they count.
    pub sha256: [u8; 32],
}

impl HeaderDigest {
    /// That of an archive that can be read at any position.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn of(archive: &impl ReadAt) -> io::Result<Self> {
        let size = archive.size()?;
        super::FileInput::new(archive, size).header_digest()
    }

    /// Whether these are the headers of an archive that has those. It may have more behind its end, as on a block
    /// device.
    pub fn fits(&self, found: &HeaderDigest) -> bool {
        self.sha256 == found.sha256 && self.size <= found.size
    }
}

/// Takes in the blocks of an archive that count.
pub struct HeaderHasher {
    sha256: Sha256,
    /// Where the next block is; `None` behind the last one.
    next: Option<u64>,
    /// How many more may come.
    left: u32,
    expected: Expected,
    /// The size that a record gives the next file.
    size: Option<u64>,
}

/// What the next block is.
enum Expected {
    Header,
    /// One of so many that an extended header has, and what came of its records.
    Extended {
        blocks: u64,
        records: Vec<u8>,
        len: usize,
    },
    /// More of the map of a sparse file, which has so much data behind it.
    Map {
        size: u64,
    },
}

impl HeaderHasher {
    pub fn new() -> Self {
        HeaderHasher {
            sha256: Sha256::new(),
            next: Some(0),
            left: MAX_BLOCKS,
            expected: Expected::Header,
            size: None,
        }
    }

    /// Where the next block is that counts, if there is one.
    pub fn wants(&self) -> Option<u64> {
        self.next
    }

    /// Takes in the blocks that count of what is at `start` of the archive.
    pub fn pass(&mut self, start: u64, bytes: &[u8]) {
        while let Some(pos) = self.next {
            let at = pos
                .checked_sub(start)
                .and_then(|at| usize::try_from(at).ok());
            let block = at.and_then(|at| bytes.get(at..)?.first_chunk());
            let Some(block) = block else {
                return;
            };
            self.take(block);
        }
    }

    /// Says that there is nothing at the position that is wanted.
    pub fn end(&mut self) {
        self.next = None;
    }

    /// The digest of what came.
    pub fn finish(&self) -> [u8; 32] {
        self.sha256.clone().finalize().into()
    }

    fn take(&mut self, block: &[u8; BLOCK]) {
        let pos = self.next.take().unwrap_or_default();
        let Some(left) = self.left.checked_sub(1) else {
            return;
        };
        self.left = left;
        let jump = match std::mem::replace(&mut self.expected, Expected::Header) {
            Expected::Header => match self.header(block) {
                Some(jump) => jump,
                None => return,
            },
            Expected::Extended {
                blocks,
                mut records,
                len,
            } => {
                if records.len() < MAX_RECORDS {
                    records.extend_from_slice(block);
                }
                match blocks - 1 {
                    0 => {
                        let records = records.get(..len).unwrap_or(&records);
                        self.size = size_record(records).or(self.size);
                    }
                    blocks => {
                        self.expected = Expected::Extended {
                            blocks,
                            records,
                            len,
                        }
                    }
                }
                0
            }
            Expected::Map { size } => match block.get(SPARSE_AND_MORE) {
                Some(0) | None => size,
                Some(_) => {
                    self.expected = Expected::Map { size };
                    0
                }
            },
        };
        self.sha256.update(block);
        let next = jump.checked_next_multiple_of(BLOCK as u64);
        let next = next.and_then(|jump| (pos + BLOCK as u64).checked_add(jump));
        self.next = next.filter(|next| i64::try_from(*next).is_ok());
    }

    /// How much data is to be jumped over behind a header, if it is one.
    fn header(&mut self, block: &[u8; BLOCK]) -> Option<u64> {
        let header = Header::new(*block);
        if header.checksum() != Checksum::Right {
            return None;
        }
        let size = header.size().unwrap_or_default();
        match header.kind() {
            kind @ (b'x' | b'X' | b'g' | b'L' | b'K') => {
                let blocks = size.div_ceil(BLOCK as u64);
                let len = match kind {
                    b'x' | b'X' => usize::try_from(size).unwrap_or(usize::MAX),
                    _ => 0,
                };
                if blocks > 0 {
                    let records = Vec::new();
                    self.expected = Expected::Extended {
                        blocks,
                        records,
                        len,
                    };
                }
                Some(0)
            }
            b'1'..=b'6' => {
                self.size = None;
                Some(0)
            }
            kind => {
                let size = self.size.take().unwrap_or(size);
                match block.get(SPARSE_MORE) {
                    Some(1..) if kind == b'S' => {
                        self.expected = Expected::Map { size };
                        Some(0)
                    }
                    _ => Some(size),
                }
            }
        }
    }
}

fn size_record(records: &[u8]) -> Option<u64> {
    let sizes = Records::new(records)
        .flatten()
        .filter(|record| record.key == b"size");
    sizes
        .last()
        .and_then(|record| number::unsigned(record.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header.
    fn header(kind: u8, size: u64, extended: bool) -> Vec<u8> {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(b"name");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[156] = kind;
        block[SPARSE_MORE] = extended.into();
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.to_vec()
    }

    fn block(byte: u8) -> Vec<u8> {
        vec![byte; BLOCK]
    }

    #[test]
    fn headers_count_and_data_does_not() {
        let mut records = b"16 size=1024\n".to_vec();
        records[..2].copy_from_slice(b"13");
        records.resize(BLOCK, 0);
        let sparse = [header(b'S', 512, true), block(1), block(0)].concat();
        let parts: [(Vec<u8>, bool); 14] = [
            (header(b'0', 700, false), true),
            (block(1), false),
            (block(2), false),
            (header(b'5', 700, false), true),
            (header(b'x', 13, false), true),
            (records, true),
            (header(b'0', 0, false), true),
            (block(3), false),
            (block(4), false),
            (sparse, true),
            (block(5), false),
            (header(b'L', 1, false), true),
            (block(6), true),
            (block(0), false),
        ];
        let all: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let counts: Vec<u8> = parts
            .iter()
            .filter(|(_, counts)| *counts)
            .flat_map(|(bytes, _)| bytes.clone())
            .collect();
        let found = HeaderDigest::of(&all).unwrap();
        let sha256: [u8; 32] = Sha256::digest(&counts).into();
        assert_eq!(
            found,
            HeaderDigest {
                size: all.len() as u64,
                sha256
            }
        );
        // Whatever comes behind.
        let mut longer = all.clone();
        longer.resize(1 << 20, 7);
        assert!(found.fits(&HeaderDigest::of(&longer).unwrap()));
        assert!(!HeaderDigest::of(&longer).unwrap().fits(&found));
        for at in (0..all.len()).step_by(BLOCK) {
            let mut other = all.clone();
            other[at + 90] ^= 1;
            let fits = found.fits(&HeaderDigest::of(&other).unwrap());
            let mut end = 0;
            let part = parts.iter().find(|(bytes, _)| {
                end += bytes.len();
                at < end
            });
            // What follows the end does not count, unless it is a header now.
            let counts = part.is_some_and(|(_, counts)| *counts);
            assert_eq!(fits, !counts, "at {at}");
        }
    }

    #[test]
    fn there_is_a_limit() {
        let all = header(b'0', 0, false).repeat(MAX_BLOCKS as usize + 5);
        let found = HeaderDigest::of(&all).unwrap();
        let counts = &all[..MAX_BLOCKS as usize * BLOCK];
        assert_eq!(found.sha256, <[u8; 32]>::from(Sha256::digest(counts)));
    }
}
