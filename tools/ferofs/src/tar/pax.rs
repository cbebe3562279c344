// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! PAX extended headers: the records, and what they say about an entry.
//!
//! Called by `reader` with the data of an 'x' or 'g' header. A record with an empty value takes
//! back what a global header or the ustar header says, so "said to be nothing" and "not said"
//! are different here.

use super::NamedValue;
use super::Time;
use super::sparse::PaxMap;
use crate::number;
use data_encoding::BASE64_NOPAD;
use data_encoding::Encoding;
use std::collections::HashSet;
use std::sync::LazyLock;

/// Most that Linux lists of the names of a file's extended attributes, in bytes with their NULs.
const XATTR_LIST_MAX: usize = 65_536;
/// What the attributes of one header may have, in bytes: no filesystem of Linux keeps that much with one file.
const XATTRS_MAX: usize = 1 << 20;

/// What keys of extended attributes begin with.
const SCHILY: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";

/// The names of attributes that have a record as libarchive writes it, as they are there.
fn libarchive_names(data: &[u8]) -> HashSet<&[u8]> {
    let names = Records::new(data).flatten();
    names
        .filter_map(|record| record.key.strip_prefix(LIBARCHIVE))
        .collect()
}

/// What one set of records says; `None` where it says nothing, `Some(None)` where it takes back.
#[derive(Default, Clone)]
pub struct Attributes {
    pub path: Option<Option<Vec<u8>>>,
    pub link: Option<Option<Vec<u8>>>,
    pub size: Option<Option<u64>>,
    pub uid: Option<Option<u32>>,
    pub gid: Option<Option<u32>>,
    pub mtime: Option<Option<Time>>,
    pub major: Option<Option<u32>>,
    pub minor: Option<Option<u32>>,
    /// star's name for the type, the only way to say "socket".
    pub file_type: Option<Option<Vec<u8>>>,
    /// Extended attributes, names as the kernel has them.
    pub xattrs: Vec<NamedValue>,
    /// ACLs as text.
    pub acl_access: Option<Option<Vec<u8>>>,
    pub acl_default: Option<Option<Vec<u8>>>,
    pub sparse: PaxMap,
}

/// What is wrong with a record, and where it starts in the data.
#[derive(Debug, PartialEq, Eq)]
pub struct BadRecord {
    pub at: usize,
    pub problem: String,
}

impl Attributes {
    /// Forgets everything, keeping allocations.
    pub fn clear(&mut self) {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        xattrs.clear();
        *self = Attributes {
            xattrs,
            ..Attributes::default()
        };
    }

    /// Takes in the records of one extended header; later ones win.
    pub fn apply(&mut self, data: &[u8]) -> Result<(), BadRecord> {
        let mut escaped = None;
        for record in Records::new(data) {
            let Record { at, key, value } = record?;
            if let Some(name) = key.strip_prefix(SCHILY).filter(|name| name.contains(&b'%')) {
                // bsdtar has a record in each form, and escapes the name in both.
                if escaped
                    .get_or_insert_with(|| libarchive_names(data))
                    .contains(name)
                {
                    continue;
                }
            }
            self.set(key, value)
                .map_err(|problem| BadRecord { at, problem })?;
        }
        keep_last(&mut self.xattrs);
        let names: usize = self.xattrs.iter().map(|(name, _)| name.len() + 1).sum();
        if names > XATTR_LIST_MAX {
            let problem = format!(
                "extended attributes with {names} bytes of names, expected at most {XATTR_LIST_MAX}"
            );
            return Err(BadRecord { at: 0, problem });
        }
        let bytes = names
            + self
                .xattrs
                .iter()
                .map(|(_, value)| value.len())
                .sum::<usize>();
        if bytes > XATTRS_MAX {
            let problem =
                format!("extended attributes of {bytes} bytes, expected at most {XATTRS_MAX}");
            return Err(BadRecord { at: 0, problem });
        }
        Ok(())
    }

    /// What its extended attributes take in memory.
    pub fn xattrs_size(&self) -> usize {
        let bytes = |(name, value): &NamedValue| name.len() + value.len() + size_of::<NamedValue>();
        self.xattrs.iter().map(bytes).sum()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let bad = |what: &str| {
            format!(
                "{} is {}, expected {what}",
                key.escape_ascii(),
                crate::text::Quoted(value)
            )
        };
        let id = || {
            parsed(value, |text| number::id(number::decimal(text)?))
                .map_err(|()| bad("a number of 32 bits"))
        };
        let device = || {
            parsed(value, |text| u32::try_from(number::unsigned(text)?).ok())
                .map_err(|()| bad("a number of 32 bits"))
        };
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = Some(bytes()),
            b"linkpath" => self.link = Some(bytes()),
            b"size" => {
                self.size =
                    Some(parsed(value, number::unsigned).map_err(|()| bad("a number of bytes"))?);
            }
            b"uid" => self.uid = Some(id()?),
            b"gid" => self.gid = Some(id()?),
            b"mtime" => {
                self.mtime = Some(
                    parsed(value, |text| {
                        number::time(text).map(|(sec, nsec)| Time { sec, nsec })
                    })
                    .map_err(|()| bad("a decimal number of seconds"))?,
                );
            }
            b"SCHILY.devmajor" => self.major = Some(device()?),
            b"SCHILY.devminor" => self.minor = Some(device()?),
            b"SCHILY.filetype" => self.file_type = Some(bytes()),
            b"SCHILY.acl.access" => self.acl_access = Some(bytes()),
            b"SCHILY.acl.default" => self.acl_default = Some(bytes()),
            // The kernel has the label with a NUL at its end.
            b"RHT.security.selinux" => {
                let label = value.strip_suffix(b"\0").unwrap_or(value);
                self.set_xattr(b"security.selinux".to_vec(), [label, b"\0"].concat());
            }
            _ => {
                if let Some(keyword) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(keyword, value)?;
                } else if let Some(name) = key.strip_prefix(SCHILY) {
                    self.set_xattr(schily_decoded(name), value.to_vec());
                } else if let Some(name) = key.strip_prefix(LIBARCHIVE) {
                    let value = base64(value).ok_or_else(|| bad("base64"))?;
                    self.set_xattr(url_decoded(name), value);
                }
            }
        }
        Ok(())
    }

    /// Adds an extended attribute. Its value may be empty: here that takes nothing back.
    fn set_xattr(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.xattrs.push((name, value));
    }
}

/// Of several extended attributes with one name keeps the last.
pub fn keep_last(xattrs: &mut Vec<NamedValue>) {
    if xattrs.len() < 2 {
        return;
    }
    let mut seen = HashSet::new();
    let mut keep: Vec<bool> = xattrs
        .iter()
        .rev()
        .map(|(name, _)| seen.insert(name.as_slice()))
        .collect();
    xattrs.retain(|_| keep.pop().unwrap_or_default());
}

/// Base64 without the padding at its end, and whatever is in the bits that mean nothing.
static BASE64: LazyLock<Option<Encoding>> = LazyLock::new(|| {
    let mut specification = BASE64_NOPAD.specification();
    specification.check_trailing_bits = false;
    specification.encoding().ok()
});

/// Decodes base64, with or without the padding at its end.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.trim_ascii_end();
    let padding = digits.iter().rev().take_while(|byte| **byte == b'=');
    let digits = digits.get(..digits.len() - padding.count())?;
    BASE64.as_ref()?.decode(digits).ok()
}

/// Decodes a name as GNU tar writes it in SCHILY records: only `=`, which would end it, and `%` are
/// written as `%` and two digits. Other writers leave names as they are.
fn schily_decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = match behind.split_first_chunk::<2>() {
            Some((b"3D", behind)) if *first == b'%' => (b'=', behind),
            Some((b"25", behind)) if *first == b'%' => (b'%', behind),
            _ => (*first, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    bytes
}

/// Decodes a name in which some bytes are written as `%` and two hexadecimal digits.
fn url_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match (first, hex(behind.first()), hex(behind.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

/// Parses a value unless it is empty, which takes back what was said before.
fn parsed<T>(value: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>, ()> {
    if value.is_empty() {
        Ok(None)
    } else {
        parse(value).map(Some).ok_or(())
    }
}

/// One record: "LENGTH KEY=VALUE\n", the length being that of all of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    at: usize,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Goes through the records of an extended header; ends after the first bad one.
pub(super) struct Records<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Records { data, at: 0 }
    }

    fn record(rest: &'a [u8]) -> Option<(usize, &'a [u8], &'a [u8])> {
        let blank = rest.iter().position(|byte| *byte == b' ')?;
        let length = usize::try_from(number::unsigned(rest.get(..blank)?)?).ok()?;
        let (end, body) = rest.get(blank + 1..length)?.split_last()?;
        let equals = body.iter().position(|byte| *byte == b'=')?;
        let (key, value) = body.split_at_checked(equals)?;
        (*end == b'\n' && !key.is_empty())
            .then(|| (length, key, value.get(1..).unwrap_or_default()))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.data.get(self.at..)?;
        // Some writers pad the data with NULs.
        if rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        let at = self.at;
        let Some((length, key, value)) = Self::record(rest) else {
            self.at = self.data.len();
            let problem = "expected a PAX record: \"LENGTH KEY=VALUE\" and a newline".to_string();
            return Some(Err(BadRecord { at, problem }));
        };
        self.at += length;
        Some(Ok(Record { at, key, value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_their_lengths() {
        let data = b"18 path=some/name\n6 a=\xff\n12 b=c=d\n e\n";
        let records: Vec<_> = Records::new(data).map(Result::unwrap).collect();
        let expected: [(usize, &[u8], &[u8]); 3] = [
            (0, b"path", b"some/name"),
            (18, b"a", b"\xff"),
            (24, b"b", b"c=d\n e"),
        ];
        for (record, (at, key, value)) in records.iter().zip(expected) {
            assert_eq!(*record, Record { at, key, value });
        }
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn bad_records_are_errors() {
        let cases: [&[u8]; 8] = [
            b"5 a=b\n",
            b"7 a=b\n",
            b"x a=b\n",
            b"6 ab\n\n",
            b"6 =bc\n",
            b"99999999999999999999 a=b\n",
            b"0 a=b\n",
            b"nothing",
        ];
        for data in cases {
            let mut records = Records::new(data);
            assert!(records.next().unwrap().is_err(), "{}", data.escape_ascii());
            assert!(records.next().is_none());
        }
        assert!(Records::new(b"\0\0\0").next().is_none());
    }

    #[test]
    fn extended_attributes_in_both_forms() {
        let mut attributes = Attributes::default();
        let records = b"30 SCHILY.xattr.user.a=binary\n\
                        34 LIBARCHIVE.xattr.user.b%3d=AQI\n\
                        36 LIBARCHIVE.xattr.user.a=bmV3ZXI=\n\
                        24 SCHILY.xattr.user.c=\n\
                        26 RHT.security.selinux=l\n";
        attributes.apply(records).unwrap();
        let expected: [(&[u8], &[u8]); 4] = [
            (b"user.b=", b"\x01\x02"),
            (b"user.a", b"newer"),
            (b"user.c", b""),
            (b"security.selinux", b"l\0"),
        ];
        let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
        assert_eq!(attributes.xattrs, expected);
        let mut attributes = Attributes::default();
        let both = b"40 LIBARCHIVE.xattr.user.a%20b%3Dc=dg==\n\
                     33 SCHILY.xattr.user.a%20b%3Dc=v\n\
                     31 SCHILY.xattr.user.b%25%20=w\n";
        attributes.apply(both).unwrap();
        let expected: [(&[u8], &[u8]); 2] = [(b"user.a b=c", b"v"), (b"user.b%%20", b"w")];
        let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
        assert_eq!(attributes.xattrs, expected);
        for bad in ["a", "a===b", "\u{fc}"] {
            assert_eq!(base64(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(base64(b"").as_deref(), Some(b"".as_slice()));
        for text in [b"/+8=".as_slice(), b"/+8", b"/+8==\n", b"/+9="] {
            assert_eq!(base64(text).as_deref(), Some(b"\xff\xef".as_slice()));
        }
        assert_eq!(url_decoded(b"a%2Eb%zz%4"), b"a.b%zz%4");
        assert_eq!(schily_decoded(b"a%3Db%253D%2E%3d%2"), b"a=b%3D%2E%3d%2");
    }

    #[test]
    fn attributes_are_set_taken_back_and_checked() {
        let mut attributes = Attributes::default();
        attributes.apply(b"15 mtime=-1.25\n10 uid=70\n").unwrap();
        assert_eq!(
            attributes.mtime,
            Some(Some(Time {
                sec: -2,
                nsec: 750_000_000
            }))
        );
        assert_eq!(attributes.uid, Some(Some(70)));
        attributes.apply(b"8 uid=\n\n").unwrap_err();
        attributes.apply(b"7 uid=\n").unwrap();
        assert_eq!(attributes.uid, Some(None));
        let error = attributes.apply(b"17 gid=99999999999\n").unwrap_err();
        assert_eq!(error.at, 0);
        let error = attributes.apply(b"19 gid=99999999999\n").unwrap_err();
        assert!(error.problem.contains("gid"), "{}", error.problem);
    }
}
