// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which blocks of a file an index refers to in a blob, and of which it has copies.
//!
//! An index can refer to whole blocks only. What is at no block's border in the blob, or is in one
//! block with something else, is copied. Called by `plan`, which makes room for the copies, and
//! `emit`, which writes them.

use crate::tree::Data;

/// Blocks of a file that follow each other, in the file and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the first one is in the file, in bytes.
    pub start: u64,
    /// Where the last one ends; it may end behind the file.
    pub end: u64,
    /// Where they are.
    pub place: Place,
}

/// Where blocks of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its blob, from this position on.
    Blob(u64),
    /// In the image, so many bytes behind the first block that the image has of the file.
    Own(u64),
}

/// The pieces of a file being found, in its order.
struct Pieces {
    size: u64,
    block: u64,
    found: Vec<Piece>,
    /// How many bytes are copied so far.
    own: u64,
}

/// The pieces of a file of `size` bytes that [`is_in_pieces`], in its order. Between them are holes.
pub fn pieces(data: &Data, size: u64, block: u64) -> Vec<Piece> {
    let mut pieces = Pieces {
        size,
        block,
        found: Vec::new(),
        own: 0,
    };
    match data {
        Data::Sparse(segments) => {
            for segment in segments {
                pieces.segment(segment.start, segment.len, segment.pos);
            }
        }
        Data::WithTail { pos, tail, .. } => {
            let front = size.saturating_sub(u64::from(*tail));
            pieces.segment(0, front, *pos);
            pieces.own(front, size);
        }
        Data::WithCopies(parts) => {
            let mut copied = parts.copied.iter().peekable();
            for segment in &parts.segments {
                while let Some(copy) = copied.next_if(|copy| copy.start < segment.start) {
                    pieces.own(copy.start, copy.start.saturating_add(copy.len));
                }
                pieces.segment(segment.start, segment.len, segment.pos);
            }
            for copy in copied {
                pieces.own(copy.start, copy.start.saturating_add(copy.len));
            }
        }
        _ => {}
    }
    pieces.found
}

/// Whether a file may have pieces that are copied, or more than one: all others are in one piece.
pub fn is_in_pieces(data: &Data) -> bool {
    matches!(
        data,
        Data::Sparse(_) | Data::WithTail { .. } | Data::WithCopies(_)
    )
}

/// How many bytes of a file are copied, in whole blocks.
pub fn copied(pieces: &[Piece]) -> u64 {
    let copied = pieces.iter().filter_map(Piece::copied);
    copied.map(|(start, end)| end - start).sum()
}

impl Piece {
    /// From where to where it is copied, if it is.
    pub fn copied(&self) -> Option<(u64, u64)> {
        matches!(self.place, Place::Own(_)).then_some((self.start, self.end))
    }
}

impl Pieces {
    /// Takes in data at `pos` of the blob. Only what fills blocks of the file, and lies there as
    /// blocks, stays there.
    fn segment(&mut self, start: u64, len: u64, pos: u64) {
        let end = start.saturating_add(len);
        let first = start.next_multiple_of(self.block);
        // Behind its end a file has no more zeros to show.
        let last = match end >= self.size {
            true => end.next_multiple_of(self.block),
            false => end - end % self.block,
        };
        if start % self.block != pos % self.block || last <= first {
            self.own(start, end);
            return;
        }
        self.own(start, first);
        self.blob(first, last, pos.saturating_add(first - start));
        self.own(last, end);
    }

    /// Adds blocks that stay where they are.
    fn blob(&mut self, start: u64, end: u64, pos: u64) {
        let end = end.next_multiple_of(self.block);
        if start >= end {
            return;
        }
        if let Some(last) = self.found.last_mut() {
            let follows = Place::Blob(pos.wrapping_sub(start - last.start));
            if last.end == start && last.place == follows {
                last.end = end;
                return;
            }
        }
        let place = Place::Blob(pos);
        self.found.push(Piece { start, end, place });
    }

    /// Adds the blocks that bytes are in to what is copied.
    fn own(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let end = end.next_multiple_of(self.block);
        let mut start = start - start % self.block;
        if let Some(last) = self.found.last_mut() {
            // Two pieces may each have a part of a block.
            start = start.max(last.end);
            if start >= end {
                return;
            }
            if last.end == start && matches!(last.place, Place::Own(_)) {
                last.end = end;
                self.own += end - start;
                return;
            }
        }
        let place = Place::Own(self.own);
        self.found.push(Piece { start, end, place });
        self.own += end - start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Segment;

    fn sparse(segments: &[(u64, u64, u64)], size: u64) -> Vec<(u64, u64, Place)> {
        let segments = segments
            .iter()
            .map(|(start, len, pos)| Segment {
                start: *start,
                len: *len,
                pos: *pos,
            })
            .collect();
        let found = pieces(&Data::Sparse(segments), size, 512);
        found
            .into_iter()
            .map(|piece| (piece.start, piece.end, piece.place))
            .collect()
    }

    #[test]
    fn whole_blocks_stay_and_parts_of_blocks_are_copied() {
        use Place::Blob;
        use Place::Own;
        type Segments<'a> = &'a [(u64, u64, u64)];
        type Found<'a> = &'a [(u64, u64, Place)];
        let cases: [(Segments<'_>, u64, Found<'_>); 9] = [
            (&[], 5000, &[]),
            (&[(512, 1024, 2048)], 5000, &[(512, 1536, Blob(2048))]),
            // Two that follow each other are one.
            (
                &[(0, 512, 1024), (512, 512, 1536), (1024, 512, 512)],
                5000,
                &[(0, 1024, Blob(1024)), (1024, 1536, Blob(512))],
            ),
            // What is behind the end of the file does not matter, what is before it does.
            (&[(512, 100, 1024)], 612, &[(512, 1024, Blob(1024))]),
            (&[(512, 100, 1024)], 613, &[(512, 1024, Own(0))]),
            (
                &[(512, 612, 1024)],
                5000,
                &[(512, 1024, Blob(1024)), (1024, 1536, Own(0))],
            ),
            (
                &[(100, 1000, 1124)],
                1100,
                &[(0, 512, Own(0)), (512, 1536, Blob(1536))],
            ),
            (&[(100, 2000, 1000)], 5000, &[(0, 2560, Own(0))]),
            // Two in one block.
            (
                &[(0, 100, 1024), (200, 824, 1124), (2048, 5, 1948)],
                5000,
                &[(0, 1024, Own(0)), (2048, 2560, Own(1024))],
            ),
        ];
        for (segments, size, expected) in cases {
            assert_eq!(sparse(segments, size), expected, "{segments:?} of {size}");
        }
    }
}
