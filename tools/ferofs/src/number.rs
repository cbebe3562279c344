// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Numbers in tar headers (octal or base-256) and in PAX records (decimal).
//!
//! Called by [`tar`](crate::tar) and for access control lists. A field that is not a number is `None`; the caller
//! knows its name and offset.

/// A numeric header field: octal digits between blanks and NULs, or base-256 when the first bit
/// is set. A blank field is zero.
pub fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

/// The same for a time. Before 1970 some writers have an octal number with a minus, or with one behind the zeros
/// that fill the field (npm's tar-stream), others a count of seconds of 64 bits without a sign (Rust's tar).
pub fn time_field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => signed(base256_wide(bytes)?),
        _ => {
            let start = bytes.iter().position(|byte| !matches!(byte, b' ' | b'0'));
            let rest = start.and_then(|start| bytes.get(start..));
            match rest.and_then(|rest| rest.strip_prefix(b"-")) {
                Some(digits) if digits.first().is_some_and(u8::is_ascii_digit) => {
                    octal(digits)?.checked_neg()
                }
                _ => octal(bytes),
            }
        }
    }
}

/// A number of 64 bits that has a sign, though it may have been written as one that has none.
fn signed(number: i128) -> Option<i64> {
    match u64::try_from(number) {
        Ok(number) => Some(number as i64),
        Err(_) => i64::try_from(number).ok(),
    }
}

/// The same for the number of a user or group, of 32 bits: some writers have -2 for nobody's.
pub fn id_field(bytes: &[u8]) -> Option<u32> {
    id(field(bytes)?)
}

/// The number of a user or group, of 32 bits, perhaps with a sign.
pub fn id(number: i64) -> Option<u32> {
    match i32::try_from(number) {
        Ok(number) => Some(number as u32),
        Err(_) => u32::try_from(number).ok(),
    }
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !blank(byte));
    let Some(digits) = start.and_then(|start| bytes.get(start..)) else {
        return Some(0);
    };
    // What follows the terminator is nobody's; old implementations left garbage there.
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let mut value: i64 = 0;
    for byte in digits.iter().take(end) {
        if !matches!(byte, b'0'..=b'7') {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(byte - b'0'))?;
    }
    Some(value)
}

/// Two's complement, big-endian, over the whole field; the first bit only marks the encoding.
fn base256(bytes: &[u8]) -> Option<i64> {
    i64::try_from(base256_wide(bytes)?).ok()
}

fn base256_wide(bytes: &[u8]) -> Option<i128> {
    let (first, rest) = bytes.split_first()?;
    let mut value = i128::from(first & 0x3f) - i128::from(first & 0x40);
    for byte in rest {
        value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
    }
    Some(value)
}

/// A decimal number of a PAX record, possibly negative.
pub fn decimal(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(byte - b'0');
        value = value.checked_mul(10)?;
        value = if negative {
            value.checked_sub(digit)?
        } else {
            value.checked_add(digit)?
        };
    }
    Some(value)
}

/// A decimal number that must not be negative.
pub fn unsigned(text: &[u8]) -> Option<u64> {
    decimal(text).and_then(|value| u64::try_from(value).ok())
}

/// Seconds, as [`time_field`] has them.
fn seconds(text: &[u8]) -> Option<i64> {
    let without_sign = || std::str::from_utf8(text).ok()?.parse().ok();
    match decimal(text) {
        Some(seconds) => Some(seconds),
        None if text.iter().all(u8::is_ascii_digit) => {
            signed(i128::from(without_sign().unwrap_or(0_u64))).filter(|seconds| *seconds < 0)
        }
        None => {
            let digits = text
                .iter()
                .position(|byte| *byte != b'0')
                .and_then(|start| text.get(start..))?;
            digits.starts_with(b"-").then(|| decimal(digits)).flatten()
        }
    }
}

/// A time of a PAX record: seconds with an optional decimal fraction, possibly negative. Digits
/// below the nanosecond are dropped towards the past, as GNU tar does. Returns seconds and nanoseconds.
pub fn time(text: &[u8]) -> Option<(i64, u32)> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = parts.next()?;
    let fraction = parts.next().unwrap_or_default();
    let negative = whole.first() == Some(&b'-');
    let mut sec = match whole {
        b"" | b"-" if !fraction.is_empty() => 0,
        _ => seconds(whole)?,
    };
    let mut nsec: u32 = 0;
    let mut dropped = false;
    let mut scale = 100_000_000;
    for byte in fraction {
        if !byte.is_ascii_digit() {
            return None;
        }
        nsec += u32::from(byte - b'0') * scale;
        dropped |= scale == 0 && *byte != b'0';
        scale /= 10;
    }
    if negative {
        nsec += u32::from(dropped);
        if nsec > 0 {
            sec = sec.checked_sub(1)?;
            nsec = 1_000_000_000 - nsec;
        }
    }
    Some((sec, nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields() {
        let cases: [(&[u8], Option<i64>); 14] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644     ", Some(0o644)),
            (b"00000000000\0", Some(0)),
            (b"77777777777\0", Some(0o77777777777)),
            (b"777777777777", Some(0o777777777777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"12 garbage", Some(0o12)),
            (b"0000648\0", None),
            (b"-1\0", None),
            (b"\x80\0\0\0\0\0\0\0\x01\0\0\0", Some(1 << 24)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
                Some(-2),
            ),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
        ];
        for (bytes, value) in cases {
            assert_eq!(field(bytes), value, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn times_and_ids_in_header_fields() {
        let cases: [(&[u8], Option<i64>); 9] = [
            (b"00000000017\0", Some(15)),
            (b"0000000000-1 ", Some(-1)),
            (b"0000000-17 \0", Some(-15)),
            (b"        -17 ", Some(-15)),
            (b"-\0", None),
            (b"00000000-x1 ", None),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
                Some(-2),
            ),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
        ];
        for (bytes, value) in cases {
            assert_eq!(time_field(bytes), value, "{}", bytes.escape_ascii());
        }
        let cases: [(&[u8], Option<u32>); 5] = [
            (b"0001750\0", Some(1000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(u32::MAX - 1)),
            (b"\x80\0\0\0\xff\xff\xff\xfe", Some(u32::MAX - 1)),
            (b"\x80\0\0\x01\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x7f\xff\xff\xff", None),
        ];
        for (bytes, value) in cases {
            assert_eq!(id_field(bytes), value, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn decimals() {
        let cases: [(&[u8], Option<i64>); 7] = [
            (b"0", Some(0)),
            (b"12345678901", Some(12_345_678_901)),
            (b"-5", Some(-5)),
            (b"", None),
            (b"-", None),
            (b"1x", None),
            (b"99999999999999999999", None),
        ];
        for (text, value) in cases {
            assert_eq!(decimal(text), value, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn times() {
        type Case = (&'static [u8], Option<(i64, u32)>);
        let cases: [Case; 18] = [
            (b"18446744073709551614", Some((-2, 0))),
            (b"18446744073709551616", None),
            (b"99999999999999999999", None),
            (b"000-12", Some((-12, 0))),
            (b"0", Some((0, 0))),
            (b"1350244992.023960108", Some((1_350_244_992, 23_960_108))),
            (b"1.5", Some((1, 500_000_000))),
            (b".5", Some((0, 500_000_000))),
            (b"-.5", Some((-1, 500_000_000))),
            (b"7.", Some((7, 0))),
            (b"-1.5", Some((-2, 500_000_000))),
            (b"-1", Some((-1, 0))),
            (b"1.0000000019", Some((1, 1))),
            (b"-1.0000000001", Some((-2, 999_999_999))),
            (b"-0.9999999999", Some((-1, 0))),
            (b"4294967296.25", Some((4_294_967_296, 250_000_000))),
            (b".", None),
            (b"1.2.3", None),
        ];
        for (text, value) in cases {
            assert_eq!(time(text), value, "{}", text.escape_ascii());
        }
    }
}
