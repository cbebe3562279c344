// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Sparse files: the five ways tars write the map of a file's data.
//!
//! GNU's own ('S' headers), and as PAX records in versions 0.0 (one record a number), 0.1 (one
//! record for all) and 1.0 (the map in front of the data). Called by `reader`. A segment's data is
//! padded to a whole block in the archive, as GNU tar reads and writes it.

use super::Segment;
use super::header::BLOCK;
use crate::number;

/// What the records of a PAX header say about a sparse file.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub struct PaxMap {
    /// Version, in the two records that only 1.0 needs.
    pub major: Option<u64>,
    pub minor: Option<u64>,
    /// The file's name; the entry's own is a made-up one.
    pub name: Option<Vec<u8>>,
    /// The file's size with its holes.
    pub size: Option<u64>,
    /// Offsets and lengths, alternating; `None` if there is no map among the records.
    pub numbers: Option<Vec<u64>>,
}

impl PaxMap {
    /// Takes in one record, named by what follows "GNU.sparse.".
    pub fn set(&mut self, keyword: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || {
            number::unsigned(value).ok_or_else(|| {
                let shown = crate::text::Quoted(value);
                format!(
                    "GNU.sparse.{} is {shown}, expected a number",
                    keyword.escape_ascii()
                )
            })
        };
        match keyword {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => {
                self.numbers.get_or_insert_default();
            }
            b"offset" | b"numbytes" => self.numbers.get_or_insert_default().push(number()?),
            b"map" => {
                let mut numbers = Vec::new();
                for text in value
                    .split(|byte| *byte == b',')
                    .filter(|_| !value.is_empty())
                {
                    let number = number::unsigned(text).ok_or_else(|| {
                        let shown = crate::text::Quoted(text);
                        format!("GNU.sparse.map has {shown}, expected a number")
                    })?;
                    numbers.push(number);
                }
                self.numbers = Some(numbers);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the map is in front of the data (version 1.0).
    pub fn is_in_data(&self) -> bool {
        self.major == Some(1)
    }

    /// Whether the records describe a sparse file at all.
    pub fn is_sparse(&self) -> bool {
        self.is_in_data() || self.numbers.is_some()
    }
}

/// Collects the decimal lines of a map in front of the data: their number, then offsets and
/// lengths in turn.
#[derive(Default)]
pub struct MapInData {
    count: Option<u64>,
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl MapInData {
    /// More segments than this are a mistake or an attack: 64 MiB of numbers.
    const MAX_SEGMENTS: u64 = 4 << 20;

    /// Takes in the next block; returns true when the map is complete.
    pub fn push(&mut self, block: &[u8]) -> Result<bool, String> {
        for byte in block {
            if *byte != b'\n' {
                if self.line.len() >= 20 {
                    return Err("a line of the sparse map is no number".to_string());
                }
                self.line.push(*byte);
                continue;
            }
            let number = number::unsigned(&self.line).ok_or_else(|| {
                let shown = crate::text::Quoted(&self.line);
                format!("a line of the sparse map is {shown}, expected a number")
            })?;
            self.line.clear();
            match self.count {
                None if number > Self::MAX_SEGMENTS => {
                    let max = Self::MAX_SEGMENTS;
                    return Err(format!(
                        "a sparse map of {number} segments, at most {max} are read"
                    ));
                }
                None => self.count = Some(number),
                Some(_) => self.numbers.push(number),
            }
            if self.is_complete() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_complete(&self) -> bool {
        self.count
            .is_some_and(|count| self.numbers.len() as u64 == count * 2)
    }

    /// The offsets and lengths read.
    pub fn into_numbers(self) -> Vec<u64> {
        self.numbers
    }
}

/// The pairs of numbers in a GNU sparse header (four from byte 386 on) or in a block that
/// continues it (21 from its start); returns whether another block follows.
pub fn gnu_map(block: &[u8; BLOCK], first: bool, numbers: &mut Vec<u64>) -> Result<bool, String> {
    let (start, pairs, more) = if first { (386, 4, 482) } else { (0, 21, 504) };
    let fields = block.get(start..start + pairs * 24).unwrap_or_default();
    for pair in fields.chunks_exact(24) {
        let (offset, length) = pair.split_at(12);
        // Blank fields end the list.
        if offset.first() == Some(&0) || length.first() == Some(&0) {
            break;
        }
        for field in [offset, length] {
            let number = number::field(field).and_then(|number| u64::try_from(number).ok());
            numbers.push(number.ok_or_else(|| {
                let shown = crate::text::Quoted(field);
                format!("the sparse map has {shown}, expected an octal number")
            })?);
        }
    }
    Ok(block.get(more).is_some_and(|more| *more != 0))
}

/// The size with holes that a GNU sparse header gives.
pub fn gnu_size(block: &[u8; BLOCK]) -> Option<u64> {
    block
        .get(483..495)
        .and_then(number::field)
        .and_then(|size| u64::try_from(size).ok())
}

/// How the pieces of a file follow each other in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// One directly behind the other.
    Packed,
    /// Each from a multiple of a block on.
    Padded,
}

/// What the pieces take in the archive if each is filled up to a whole block.
pub fn padded(numbers: &[u64]) -> u64 {
    let lengths = numbers.chunks_exact(2).filter_map(<[u64]>::last);
    lengths.fold(0, |sum: u64, len| {
        sum.saturating_add(len.checked_next_multiple_of(BLOCK as u64).unwrap_or(*len))
    })
}

/// Turns offsets and lengths into segments whose data lies in the archive from `start` on.
/// `size` is the file's, `stored` what the header says is in the archive.
pub fn segments(
    numbers: &[u64],
    start: u64,
    size: u64,
    stored: u64,
    pieces: Pieces,
) -> Result<Vec<Segment>, String> {
    if numbers.len() % 2 != 0 {
        return Err("the sparse map has an offset without a length".to_string());
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut file = 0;
    let mut archive: u64 = 0;
    let mut total: u64 = 0;
    for pair in numbers.chunks_exact(2) {
        let (Some(&offset), Some(&len)) = (pair.first(), pair.last()) else {
            continue;
        };
        let end = offset.checked_add(len).filter(|end| *end <= size);
        let Some(end) = end.filter(|_| offset >= file) else {
            return Err(format!(
                "the sparse map has {len} bytes at {offset}, expected them between {file} and the \
                 file's size {size}"
            ));
        };
        file = end;
        if len == 0 {
            continue;
        }
        if pieces == Pieces::Padded {
            archive = archive.next_multiple_of(BLOCK as u64);
        }
        segments.push(Segment {
            start: offset,
            len,
            pos: start.saturating_add(archive),
        });
        archive = archive.saturating_add(len);
        total = total.saturating_add(len);
    }
    // Some writers count the padding, of the last block or of all.
    let counted = stored == padded(numbers);
    if !counted && (total > stored || total.next_multiple_of(BLOCK as u64) < stored) {
        return Err(format!(
            "the sparse map has {total} bytes of data, expected the {stored} that are stored"
        ));
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: u64, len: u64, pos: u64) -> Segment {
        Segment { start, len, pos }
    }

    #[test]
    fn pax_records_of_all_versions() {
        let mut map = PaxMap::default();
        for (key, value) in [("numblocks", "2"), ("offset", "0"), ("numbytes", "512")] {
            map.set(key.as_bytes(), value.as_bytes()).unwrap();
        }
        assert_eq!(map.numbers, Some(vec![0, 512]));
        map.set(b"map", b"1024,512,4096,0").unwrap();
        assert_eq!(map.numbers, Some(vec![1024, 512, 4096, 0]));
        map.set(b"map", b"").unwrap();
        assert_eq!(map.numbers, Some(vec![]));
        map.set(b"map", b"1,x").unwrap_err();
        map.set(b"realsize", b"-1").unwrap_err();
        assert!(map.is_sparse() && !map.is_in_data());
        map.set(b"major", b"1").unwrap();
        assert!(map.is_in_data());
    }

    #[test]
    fn a_map_in_the_data_may_cross_blocks() {
        let mut map = MapInData::default();
        assert_eq!(map.push(b"2\n0\n51"), Ok(false));
        assert_eq!(map.push(b"2\n1024\n512\n\0\0"), Ok(true));
        assert_eq!(map.into_numbers(), [0, 512, 1024, 512]);
        assert_eq!(MapInData::default().push(b"0\n"), Ok(true));
        MapInData::default().push(b"x\n").unwrap_err();
        MapInData::default().push(b"99999999999\n").unwrap_err();
        MapInData::default().push(&[b'1'; 512]).unwrap_err();
    }

    #[test]
    fn segments_are_checked() {
        let ok = [0, 512, 4096, 1000];
        let expected = vec![segment(0, 512, 2048), segment(4096, 1000, 2560)];
        for pieces in [Pieces::Packed, Pieces::Padded] {
            let found = segments(&ok, 2048, 8192, 1512, pieces);
            assert_eq!(found.as_ref(), Ok(&expected));
            assert_eq!(segments(&[8192, 0], 0, 8192, 0, pieces), Ok(vec![]));
            for (numbers, size, stored) in [
                (vec![0, 512, 256, 512], 8192, 1024),
                (vec![0, 9000], 8192, 9000),
                (vec![0, 512], 8192, 100),
                (vec![0, 512], 8192, 2048),
                (vec![0], 8192, 0),
                (vec![u64::MAX, 512], 8192, 512),
            ] {
                segments(&numbers, 0, size, stored, pieces).unwrap_err();
            }
        }
    }

    #[test]
    fn pieces_of_parts_of_blocks() {
        let numbers = [0, 100, 1024, 0, 2048, 100];
        assert_eq!(padded(&numbers), 1024);
        for (pieces, stored, second) in [
            (Pieces::Packed, 200, 100),
            (Pieces::Padded, 200, 512),
            (Pieces::Padded, 1024, 512),
        ] {
            let expected = vec![segment(0, 100, 0), segment(2048, 100, second)];
            let found = segments(&numbers, 0, 8192, stored, pieces);
            assert_eq!(found, Ok(expected));
        }
    }

    #[test]
    fn gnu_headers_hold_four_and_their_continuations_21() {
        let mut block = [0; BLOCK];
        for at in 0..2 {
            let pair = format!("{:011o}\0{:011o}\0", at * 4096, 512);
            block[386 + at * 24..386 + at * 24 + 24].copy_from_slice(pair.as_bytes());
        }
        block[482] = 1;
        let mut numbers = Vec::new();
        assert_eq!(gnu_map(&block, true, &mut numbers), Ok(true));
        assert_eq!(numbers, [0, 512, 4096, 512]);
    }
}
