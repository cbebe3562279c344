// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Windows as they are kept: what a gzip stream came to before an access point, of which only those bytes stay that the
//! unit behind it refers to. That is a tenth of them, as a rule; the others are zeros. [`super::Maker`] and
//! [`super::zinfo`] call it.

use ferofs_inflate::Inflater;
use ferofs_inflate::State;
use ferofs_inflate::WINDOW;
use std::io;

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
    pub fn sparse(mut self) -> io::Result<Vec<u8>> {
        let (low, high) = (self.inflate(low)?, self.inflate(high)?);
        let mut kept = vec![false; self.window.len()];
        for (low, high) in low.into_iter().zip(high) {
            if let Some(kept) = position(low, high).and_then(|at| kept.get_mut(at)) {
                *kept = true;
            }
        }
        for (byte, _) in self.window.iter_mut().zip(kept).filter(|(_, kept)| !kept) {
            *byte = 0;
        }
        Ok(self.window)
    }

    /// What the unit begins with, if each byte of the window is what `mark` says of its position.
    ///
    /// Which byte of the window one of the unit is a copy of, if it is one, is up to the stream alone, and not to what
    /// the bytes are. So from two such inflations the position can be put together.
    fn inflate(&self, mark: fn(usize) -> u8) -> io::Result<Vec<u8>> {
        let window: Vec<u8> = (0..self.window.len()).map(mark).collect();
        let mut inflater = Inflater::at(self.bits, self.before, &window)?;
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

/// The lower half of a position, which has 15 bits.
fn low(position: usize) -> u8 {
    position as u8
}

/// The upper half, with a bit more where both halves would be the same: a byte that is the same in both is no copy.
fn high(position: usize) -> u8 {
    let high = (position >> 8) as u8;
    match high == low(position) {
        true => high | 0x80,
        false => high,
    }
}

/// The position that two bytes stand for, unless they are no copies.
fn position(low: u8, high: u8) -> Option<usize> {
    (low != high).then_some(usize::from(low) | (usize::from(high & 0x7f) << 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_put_together_again() {
        for at in 0..WINDOW {
            assert_eq!(position(low(at), high(at)), Some(at));
        }
        for literal in 0..=u8::MAX {
            assert_eq!(position(literal, literal), None);
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
