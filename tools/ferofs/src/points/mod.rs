// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Access points of a layer: where reading can begin in what is stored of it, so that a part of its plain tar can be had
//! without all that comes before.
//!
//! [`Maker`] makes them in the pass that reads a layer for its index. What is between two points is a *unit* of the plain
//! tar: it has its own checksum, begins and ends at multiples of [`ALIGN`] bytes, and [`Points::inflate`] gives all of it
//! or an error, never something else. [`Points::stored`] says which bytes of what is stored that takes. [`mod@file`] is how points are kept, and [`zinfo`]
//! how other programs write them.
//!
//! A layer that is not compressed has points, too, for their checksums.

pub mod file;
mod frames;
mod maker;
mod unit;
mod window;
pub mod zinfo;
mod ztoc;

pub use maker::Maker;

use crate::digest::Digest;
use std::fmt;
use std::ops::Range;

/// Units begin at multiples of this, so that each block of a file is filled by one.
pub const ALIGN: u64 = 4096;
/// How much of the plain tar is between two points, unless something else is wanted: the next block that begins after so
/// much is the next point.
pub const SPAN: u64 = 1 << 20;
/// It is at least this: twice as much as a unit can refer to of what is before it.
pub const SPAN_MIN: u64 = 64 << 10;
/// A unit is not larger than this, in the tar and as it is stored: it is in memory when it is compared with its checksum.
pub const UNIT_MAX: u64 = 32 << 20;

/// What a layer is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// It is not.
    Plain,
    /// gzip, of any number of members.
    Gzip,
    /// Zstandard, of any number of frames.
    Zstd,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Plain => "plain",
            Form::Gzip => "gzip",
            Form::Zstd => "zstd",
        })
    }
}

/// A checksum of a unit: its BLAKE3.
pub type Checksum = [u8; 32];

/// The access points of a layer.
///
/// # Invariants
///
/// There is a point at the start of any tar that is not empty. Points follow each other in the tar, at most
/// [`UNIT_MAX`] apart there and as stored, and none lies behind the end of either. Windows are where points say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Points {
    /// What it is compressed with.
    pub form: Form,
    /// The sha256 of what is stored.
    pub digest: Digest,
    /// How many bytes are stored.
    pub stored: u64,
    /// The sha256 of the plain tar.
    pub diff_id: Digest,
    /// How many bytes the plain tar has.
    pub size: u64,
    points: Vec<Point>,
    /// The windows, compressed, one after the other.
    windows: Vec<u8>,
}

/// A place where reading can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    /// The first byte of what is stored that has nothing of what comes before.
    input: u64,
    /// So many bits of the byte before are of what follows.
    bits: u8,
    /// Where in the tar it is.
    output: u64,
    /// Where reading what is stored can end, for the unit that begins here.
    end: u64,
    /// Of the unit.
    checksum: Checksum,
    /// Where its window begins and ends in all windows.
    window: Range<usize>,
}

/// The next multiple of [`ALIGN`], but no more than `size`.
fn align(position: u64, size: u64) -> u64 {
    position
        .checked_next_multiple_of(ALIGN)
        .map_or(size, |aligned| aligned.min(size))
}

impl Points {
    /// How many units there are.
    pub fn units(&self) -> usize {
        self.points.len()
    }

    /// What of the tar is in a unit; nothing if there is no such unit.
    pub fn unit(&self, number: usize) -> Range<u64> {
        let start = |number: usize| match self.points.get(number) {
            Some(point) => align(point.output, self.size),
            None => self.size,
        };
        start(number)..start(number.saturating_add(1))
    }

    /// Which units have something of a part of the tar.
    pub fn units_of(&self, range: Range<u64>) -> Range<usize> {
        let (start, end) = (range.start.min(self.size), range.end.min(self.size));
        if start >= end {
            return 0..0;
        }
        let first = |position: u64| {
            let behind = |point: &Point| align(point.output, self.size) <= position;
            self.points.partition_point(behind).saturating_sub(1)
        };
        first(start)..first(end.saturating_sub(1)).saturating_add(1)
    }

    /// Which bytes of what is stored a unit is made of; nothing if there is no such unit.
    pub fn stored(&self, number: usize) -> Range<u64> {
        match self.points.get(number) {
            Some(point) => {
                let bits = u64::from(point.bits > 0);
                point.input.saturating_sub(bits)..point.end
            }
            None => 0..0,
        }
    }

    /// How many bytes the windows have, as they are kept.
    pub fn windows_len(&self) -> usize {
        self.windows.len()
    }
}
