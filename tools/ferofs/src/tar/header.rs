// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One 512-byte tar header block: its fields, its checksum, and which dialect it is written in.
//!
//! Called by `reader` (and by `sparse` for GNU sparse maps); `writer` has the places of the fields from here. Nothing here reads further than the
//! block.

use crate::number;
use std::ffi::CStr;
use std::ops::Range;

/// Size of a header and unit of everything in an archive.
pub const BLOCK: usize = 512;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
/// star uses the end of the prefix for more times.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_MAGIC: Range<usize> = 508..512;

/// A header block.
#[derive(Clone)]
pub struct Header([u8; BLOCK]);

/// A field that is not what its format asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct BadField {
    /// Name of the field.
    pub name: &'static str,
    /// Where the field is in the block.
    pub at: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a header's checksum says of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is the sum of the header's bytes.
    Right,
    /// The block is all zeros: the end of the archive.
    Empty,
    /// The field is not a number, or another one.
    Wrong {
        /// What the field says, if it is a number.
        found: Option<i64>,
        /// What the bytes add up to.
        expected: i64,
    },
}

impl Header {
    /// The header in a block.
    pub fn new(block: [u8; BLOCK]) -> Self {
        Header(block)
    }

    fn at(&self, range: Range<usize>) -> &[u8] {
        // The ranges are constants within the block.
        self.0.get(range).unwrap_or_default()
    }

    /// All bytes of the block.
    pub fn bytes(&self) -> &[u8; BLOCK] {
        &self.0
    }

    /// Compares the checksum with the bytes. Some old implementations added up signed bytes.
    pub fn checksum(&self) -> Checksum {
        let unsigned: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        if unsigned == 0 {
            return Checksum::Empty;
        }
        let field = self.at(CHECKSUM);
        let own: u32 = field.iter().map(|byte| u32::from(*byte)).sum();
        let blanks = 8 * u32::from(b' ');
        let expected = i64::from(unsigned) - i64::from(own) + i64::from(blanks);
        let found = number::field(field);
        if found == Some(expected) {
            return Checksum::Right;
        }
        let high = |bytes: &[u8]| bytes.iter().filter(|byte| **byte >= 0x80).count() as i64;
        let signed = expected - 256 * (high(&self.0) - high(field));
        if found == Some(signed) {
            return Checksum::Right;
        }
        Checksum::Wrong { found, expected }
    }

    /// The type of the entry.
    pub fn kind(&self) -> u8 {
        self.0.get(TYPE).copied().unwrap_or_default()
    }

    /// The name without its prefix.
    pub fn name(&self) -> &[u8] {
        until_nul(self.at(NAME))
    }

    /// What comes before the name, in dialects that have it.
    pub fn prefix(&self) -> &[u8] {
        match self.at(MAGIC) {
            // GNU: "ustar  \0"; it keeps times and sparse maps where others have the prefix.
            b"ustar  \0" => b"",
            magic if magic.starts_with(b"ustar") => {
                if self.at(STAR_MAGIC) == b"tar\0" {
                    until_nul(self.at(STAR_PREFIX))
                } else {
                    until_nul(self.at(PREFIX))
                }
            }
            _ => b"",
        }
    }

    /// Whether it is of the ustar family: before it, devices had no fields of their own.
    pub fn is_ustar(&self) -> bool {
        self.at(MAGIC).starts_with(b"ustar")
    }

    /// The link's target.
    pub fn link(&self) -> &[u8] {
        until_nul(self.at(LINK))
    }

    /// A field that `parse` makes a number of.
    fn number<T>(
        &self,
        name: &'static str,
        range: Range<usize>,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, BadField> {
        let at = range.start;
        let bytes = self.at(range);
        parse(bytes).ok_or_else(|| BadField {
            name,
            at,
            bytes: bytes.to_vec(),
        })
    }

    fn unsigned<T: TryFrom<i64>>(
        &self,
        name: &'static str,
        range: Range<usize>,
    ) -> Result<T, BadField> {
        self.number(name, range, |bytes| T::try_from(number::field(bytes)?).ok())
    }

    /// Permission bits, with set-id and sticky bits. Bits of the type, which v7 stored, are dropped.
    pub fn mode(&self) -> Result<u16, BadField> {
        let mode = self.number("mode", MODE, number::field)?;
        Ok((mode & 0o7777) as u16)
    }

    /// Owner.
    pub fn uid(&self) -> Result<u32, BadField> {
        self.number("uid", UID, number::id_field)
    }

    /// Group.
    pub fn gid(&self) -> Result<u32, BadField> {
        self.number("gid", GID, number::id_field)
    }

    /// Bytes of data behind the header.
    pub fn size(&self) -> Result<u64, BadField> {
        self.unsigned("size", SIZE)
    }

    /// Modification time in seconds.
    pub fn mtime(&self) -> Result<i64, BadField> {
        self.number("mtime", MTIME, number::time_field)
    }

    /// Major number of a device.
    pub fn major(&self) -> Result<u32, BadField> {
        self.unsigned("devmajor", MAJOR)
    }

    /// Minor number of a device.
    pub fn minor(&self) -> Result<u32, BadField> {
        self.unsigned("devminor", MINOR)
    }
}

/// The part of a field before its first NUL.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &[u8], magic: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name);
        block[MAGIC.start..MAGIC.start + magic.len()].copy_from_slice(magic);
        block[100..107].copy_from_slice(b"0000644");
        block
    }

    fn summed(mut block: [u8; BLOCK], sum: i64) -> Header {
        block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Header::new(block)
    }

    #[test]
    fn checksums_signed_and_unsigned() {
        let bytes = block(b"caf\xe9", b"ustar\x0000");
        let sum = bytes.iter().map(|byte| i64::from(*byte)).sum::<i64>() + 256;
        assert_eq!(summed(bytes, sum).checksum(), Checksum::Right);
        assert_eq!(summed(bytes, sum - 256).checksum(), Checksum::Right);
        let wrong = Checksum::Wrong {
            found: Some(sum + 1),
            expected: sum,
        };
        assert_eq!(summed(bytes, sum + 1).checksum(), wrong);
        assert_eq!(Header::new([0; BLOCK]).checksum(), Checksum::Empty);
    }

    #[test]
    fn prefix_depends_on_the_dialect() {
        let cases: [(&[u8], &[u8]); 3] = [
            (b"ustar\x0000", b"dir"),
            (b"ustar  \0", b""),
            (b"\0\0\0\0\0\0\0\0", b""),
        ];
        for (magic, prefix) in cases {
            let mut bytes = block(b"name", magic);
            bytes[345..348].copy_from_slice(b"dir");
            assert_eq!(Header::new(bytes).prefix(), prefix);
        }
        let mut star = block(b"name", b"ustar\x0000");
        star[345..508].fill(b'p');
        star[STAR_MAGIC].copy_from_slice(b"tar\0");
        assert_eq!(Header::new(star).prefix().len(), 131);
    }

    #[test]
    fn fields_are_read_and_bad_ones_named() {
        let mut bytes = block(b"x", b"ustar\x0000");
        bytes[UID].copy_from_slice(b"\x80\0\0\0\0\x10\0\0");
        bytes[SIZE].copy_from_slice(b"0000000000x\0");
        let header = Header::new(bytes);
        assert_eq!(header.mode(), Ok(0o644));
        assert_eq!(header.uid(), Ok(1 << 20));
        let bad = header.size().unwrap_err();
        assert_eq!((bad.name, bad.at), ("size", 124));
    }
}
