// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the kernel writes about events, as bytes: the metadata of each, and behind it the range. [`super::Group::read`]
//! calls it.

use std::io;
use std::ops::Range;

/// The version of the metadata.
const VERSION: u8 = 3;
/// How large it is.
const METADATA: usize = 24;
/// The header of what follows it.
const HEADER: usize = 4;
/// What kind of information a range is.
const RANGE: u8 = 6;
/// Where in it the start and the length are.
const RANGE_START: usize = 8;
const RANGE_LENGTH: usize = 16;
/// How large an event with a range is, which is all that is asked for.
pub const LEN: usize = METADATA + RANGE_LENGTH + 8;

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// What happens.
    pub mask: u64,
    /// The open file; none if it is negative.
    pub fd: i32,
    /// Who does it.
    pub pid: i32,
    /// What of the file.
    pub range: Option<Range<u64>>,
}

/// Takes the bytes of one read apart.
///
/// # Errors
///
/// When they are of another version, or are not events.
pub fn parse(mut bytes: &[u8]) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (record, len) = one(bytes).ok_or_else(|| {
            let problem = "the kernel's events have another form than expected";
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })?;
        records.push(record);
        bytes = bytes.get(len..).unwrap_or_default();
    }
    Ok(records)
}

/// The first record, and how long it is.
fn one(bytes: &[u8]) -> Option<(Record, usize)> {
    let len = u32::from_ne_bytes(array(bytes, 0)?) as usize;
    let metadata = usize::from(u16::from_ne_bytes(array(bytes, 6)?));
    let bytes = bytes.get(..len)?;
    if *bytes.get(4)? != VERSION || metadata < METADATA || len < metadata {
        return None;
    }
    let record = Record {
        mask: u64::from_ne_bytes(array(bytes, 8)?),
        fd: i32::from_ne_bytes(array(bytes, 16)?),
        pid: i32::from_ne_bytes(array(bytes, 20)?),
        range: range(bytes.get(metadata..)?),
    };
    Some((record, len))
}

/// The range among the information about an event.
fn range(mut information: &[u8]) -> Option<Range<u64>> {
    loop {
        let kind = *information.first()?;
        let len = usize::from(u16::from_ne_bytes(array(information, 2)?));
        if kind == RANGE {
            let start = u64::from_ne_bytes(array(information, RANGE_START)?);
            let length = u64::from_ne_bytes(array(information, RANGE_LENGTH)?);
            return Some(start..start.saturating_add(length));
        }
        information = information.get(len.max(HEADER)..)?;
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    let end = at.checked_add(N)?;
    bytes.get(at..end)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of an event with this information behind it.
    fn event(fd: i32, information: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((METADATA as u32 + information.len() as u32).to_ne_bytes());
        bytes.extend([VERSION, 0]);
        bytes.extend((METADATA as u16).to_ne_bytes());
        bytes.extend(0x10_0000_u64.to_ne_bytes());
        bytes.extend(fd.to_ne_bytes());
        bytes.extend(42_i32.to_ne_bytes());
        bytes.extend(information);
        bytes
    }

    fn information(kind: u8, start: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![kind, 0];
        bytes.extend(24_u16.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(start.to_ne_bytes());
        bytes.extend(length.to_ne_bytes());
        bytes
    }

    #[test]
    fn events_have_ranges_or_none() {
        let other = information(9, 1, 2);
        let range = information(RANGE, 4096, 8192);
        let bytes = [
            event(5, &range),
            event(6, &[]),
            event(7, &[other.as_slice(), &range].concat()),
            event(-1, &other),
            event(8, &information(RANGE, 4096, u64::MAX)),
        ];
        let found = parse(&bytes.concat()).unwrap();
        let found: Vec<_> = found
            .into_iter()
            .map(|found| (found.fd, found.range))
            .collect();
        let expected = [
            (5, Some(4096..12288)),
            (6, None),
            (7, Some(4096..12288)),
            (-1, None),
            (8, Some(4096..u64::MAX)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let good = event(5, &information(RANGE, 0, 1));
        for end in 1..good.len() {
            parse(&good[..end]).unwrap_err();
        }
        for (at, value) in [(0, 0), (0, 20), (4, 2), (6, 0), (6, 200)] {
            let mut wrong = good.clone();
            wrong[at] = value;
            parse(&wrong).unwrap_err();
        }
        // Information without a length does not stop anybody.
        assert_eq!(parse(&event(5, &[0; 24])).unwrap()[0].range, None);
    }
}
