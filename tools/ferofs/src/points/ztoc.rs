// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! SOCI's ztoc, as far as it has a zinfo in it. It is a FlatBuffer: a table has, before or behind it, a table of where its
//! fields are, as distances of 16 bits, and what is elsewhere is found by distances of 32 bits. All numbers are little endian.
//!
//! | field | of the ztoc | of what is about compression |
//! | --- | --- | --- |
//! | 3 | | the zinfo, with its length before it |
//! | 5 | what is about compression | |

use std::ops::Range;

/// Which field of a ztoc is about compression, and which field of that is the zinfo.
const COMPRESSION: usize = 5;
const CHECKPOINTS: usize = 3;

/// Where in a ztoc its zinfo is. None if it is something else.
pub(super) fn zinfo(bytes: &[u8]) -> Option<Range<usize>> {
    let ztoc = follow(bytes, 0)?;
    let compression = follow(bytes, field(bytes, ztoc, COMPRESSION)?)?;
    let vector = follow(bytes, field(bytes, compression, CHECKPOINTS)?)?;
    let start = vector.checked_add(4)?;
    let end = start.checked_add(number(bytes, vector)?)?;
    (end <= bytes.len()).then_some(start..end)
}

/// A number of 32 bits.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

/// Where the distance at a position leads to.
fn follow(bytes: &[u8], at: usize) -> Option<usize> {
    at.checked_add(number(bytes, at)?)
}

/// Where a field of a table is, if it has it.
fn field(bytes: &[u8], table: usize, field: usize) -> Option<usize> {
    let back = bytes.get(table..)?.first_chunk()?;
    let back = isize::try_from(i32::from_le_bytes(*back)).ok()?;
    let fields = table.checked_add_signed(back.checked_neg()?)?;
    let short = |at: usize| {
        let number = bytes.get(at..)?.first_chunk()?;
        Some(usize::from(u16::from_le_bytes(*number)))
    };
    // Two numbers come first: how many bytes these are, and the table.
    let at = field.checked_add(2)?.checked_mul(2)?;
    if at >= short(fields)? {
        return None;
    }
    let distance = short(fields.checked_add(at)?)?;
    (distance > 0).then(|| table.checked_add(distance))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_where_nothing_is() {
        // A ztoc with only what is about compression, and of that only the zinfo, which is three bytes.
        let mut bytes = Vec::new();
        let mut put = |numbers: &[u16]| {
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        };
        // Where the ztoc is; where its fields are, of which it has the sixth.
        put(&[20, 0]);
        put(&[16, 8, 0, 0, 0, 0, 0, 4]);
        // The ztoc, with its fields 16 bytes before it, and where the other table is; its fields, and itself.
        put(&[16, 0, 16, 0]);
        put(&[12, 8, 0, 0, 0, 4]);
        put(&[12, 0, 4, 0]);
        put(&[3, 0, 0x6261, 0x63]);
        let found = zinfo(&bytes).unwrap();
        assert_eq!(&bytes[found], b"abc");
        for end in 0..bytes.len() - 1 {
            assert_eq!(zinfo(&bytes[..end]), None, "{end}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] = value;
                assert!(zinfo(&other).is_none_or(|found| found.end <= other.len()));
            }
        }
    }
}
