// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Windows as they are kept: what a gzip stream came to before an access point, of which only those bytes stay that the
//! unit behind it refers to. That is a tenth of them, as a rule; the others are zeros. [`super::Maker`] and
//! [`super::zinfo`] call it.

use ferofs_inflate::Inflater;
use ferofs_inflate::State;
use ferofs_inflate::WINDOW;
use std::io;
use std::sync::LazyLock;

/// How hard windows are compressed. Of those with zeros higher levels make little less.
const LEVEL: i32 = 3;

/// Compresses a window.
pub fn pack(window: &[u8]) -> io::Result<Vec<u8>> {
    match window.is_empty() {
        true => Ok(Vec::new()),
        false => zstd::bulk::compress(window, LEVEL),
    }
}

/// A window until it is known what refers to it.
pub struct Referred {
    window: Vec<u8>,
    /// So many bits of the byte before what is stored are of the unit.
    bits: u8,
    before: u8,
    /// What is stored of the unit, and how much of the tar that is.
    stored: Vec<u8>,
    plain: usize,
}

impl Referred {
    /// The window of a point, which has so many bits of the byte before it.
    pub fn new(window: Vec<u8>, bits: u8, before: u8) -> Self {
        Referred {
            window,
            bits,
            before,
            stored: Vec::new(),
            plain: 0,
        }
    }

    /// Takes what follows the point: these bytes came to so many of the tar.
    pub fn add(&mut self, stored: &[u8], plain: usize) {
        self.stored.extend_from_slice(stored);
        self.plain = self.plain.saturating_add(plain);
    }

    /// Whether nothing that follows can refer to it any more.
    pub fn is_over(&self) -> bool {
        self.plain >= WINDOW
    }

    /// The window with zeros where nothing refers to it.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn sparse(self) -> io::Result<Vec<u8>> {
        let (low, high) = (self.inflate(&MARKS.0)?, self.inflate(&MARKS.1)?);
        // Whether there is a copy of a position, by what that is marked with: nothing is to be decided for each byte.
        let mut kept = vec![0_u8; 1 << 16];
        for (low, high) in low.into_iter().zip(high) {
            if let Some(kept) = kept.get_mut(usize::from(u16::from_le_bytes([low, high]))) {
                *kept = u8::MAX;
            }
        }
        // Positions with both halves the same are marked with something else, and what is marked so is no copy.
        for same in (0..WINDOW).step_by(0x101) {
            let copied = kept.get(same | SAME).copied().unwrap_or_default();
            if let Some(kept) = kept.get_mut(same) {
                *kept = copied;
            }
        }
        let mut sparse = self.window;
        for (byte, kept) in sparse.iter_mut().zip(kept) {
            *byte &= kept;
        }
        Ok(sparse)
    }

    /// What the unit begins with, if the window is what `marks` begins with.
    ///
    /// Which byte of the window one of the unit is a copy of, if it is one, is up to the stream alone, and not to what
    /// the bytes are. So from two such inflations the position can be put together.
    fn inflate(&self, marks: &[u8]) -> io::Result<Vec<u8>> {
        let window = marks.get(..self.window.len()).unwrap_or_default();
        let mut inflater = Inflater::at(self.bits, self.before, window)?;
        let (mut plain, mut done) = (vec![0; WINDOW], 0);
        let mut stored = self.stored.as_slice();
        loop {
            let step = inflater.stride(stored, plain.get_mut(done..).unwrap_or_default())?;
            stored = stored.get(step.read..).unwrap_or_default();
            done = done.saturating_add(step.written);
            // What follows is another member, which has nothing to do with the window.
            if step.state == State::End || (step.read, step.written) == (0, 0) || done >= WINDOW {
                break;
            }
        }
        plain.truncate(done);
        Ok(plain)
    }
}

/// For each position in a window its lower half and its upper half, which is 7 bits; and [`SAME`] in the latter, if both halves
/// are the same: a byte that is the same in both is no copy.
static MARKS: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| (0..WINDOW).map(mark).unzip());
const SAME: usize = 0x8000;

fn mark(at: usize) -> (u8, u8) {
    let [low, high] = (at as u16).to_le_bytes();
    let [_, same] = ((at | SAME) as u16).to_le_bytes();
    match low == high {
        true => (low, same),
        false => (low, high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_positions_are_marked_the_same() {
        let mut seen = std::collections::HashSet::new();
        for (low, high) in (0..WINDOW).map(mark) {
            // Nor as a byte that is no copy.
            assert!(low != high && seen.insert((low, high)), "{low} {high}");
        }
    }

    /// A block with fixed codes that has "ab", three bytes from 100 back, the same three once more, and what is at the start
    /// of the window.
    #[test]
    fn what_is_referred_to_is_kept() {
        let (mut stored, mut pending, mut count) = (Vec::new(), 0_u64, 0);
        let mut put = |value: u64, bits: u32| {
            pending |= value << count;
            count += bits;
            while count >= 8 {
                stored.push(pending as u8);
                pending >>= 8;
                count -= 8;
            }
        };
        // Huffman codes come from their first bit on.
        let code = |value: u64, bits: u32| value.reverse_bits() >> (64 - bits);
        put(0b011, 3);
        for literal in *b"ab" {
            put(code(0x30 + u64::from(literal), 8), 8);
        }
        // Three bytes, the length 257: from 100 back, which is the code 13 and 3 more of 5 bits.
        put(code(1, 7), 7);
        put(code(13, 5), 5);
        put(3, 5);
        // From 3 back.
        put(code(1, 7), 7);
        put(code(2, 5), 5);
        // From 8 + 32,760 back, all there is: the code 29 and 8191 more of 13 bits.
        put(code(1, 7), 7);
        put(code(29, 5), 5);
        put(8191, 13);
        put(0, 7);
        put(0, 7);
        let window: Vec<u8> = (0..WINDOW).map(|at| 1 + (at % 250) as u8).collect();
        let mut referred = Referred::new(window.clone(), 0, 0);
        referred.add(&stored, 11);
        assert!(!referred.is_over());
        let sparse = referred.sparse().unwrap();
        // Two bytes came before the first copy, and eight before the last.
        let mut expected = vec![0; WINDOW];
        for kept in [8..11, WINDOW - 98..WINDOW - 95] {
            expected[kept.clone()].copy_from_slice(&window[kept]);
        }
        assert!(sparse == expected);
        let inflated = |window: &[u8]| {
            let mut plain = [0; 11];
            let mut inflater = Inflater::at(0, 0, window).unwrap();
            let step = inflater.step(&stored, &mut plain).unwrap();
            assert_eq!(step.written, 11);
            plain
        };
        assert_eq!(inflated(&sparse), inflated(&window));
    }
}
