// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writing archives: ustar headers, with a PAX header before those that do not hold all of an entry. It is what Go's
//! archive/tar reads, which container runtimes are built on, and GNU tar, bsdtar and Python, too.
//!
//! The same entries give the same bytes. Used by [`crate::commit`].

use super::Entry;
use super::Kind;
use super::Time;
use super::header;
use super::header::BLOCK;
use crate::acl;
use std::borrow::Cow;
use std::io;
use std::io::ErrorKind;
use std::io::Write;
use std::ops::Range;

/// The most that an extended header may have: Go's archive/tar reads no larger one.
const EXTENDED_MAX: usize = 1 << 20;
/// What an extended header is called for programs that take it for a file: this, and the name of the entry.
const EXTENDED_PREFIX: &[u8] = b"PaxHeaders/";

/// Writes an archive, entry by entry.
///
/// ```
/// use ferofs::tar::Data;
/// use ferofs::tar::Entry;
/// use ferofs::tar::Kind;
/// use ferofs::tar::Writer;
///
/// let mut archive = Writer::new(Vec::new());
/// let data = Data::Contiguous(0);
/// archive.entry(&Entry::new(b"etc", Kind::Directory))?;
/// archive.entry(&Entry::new(b"etc/motd", Kind::File { size: 6, data }))?;
/// archive.data(b"Hello!")?;
/// let bytes = archive.finish()?;
/// assert_eq!(bytes.len(), 2 * 512 + 512 + 1024);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Writer<W> {
    out: W,
    /// What is still to come of the present file's data.
    left: u64,
    /// What fills up its last block.
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Writer {
            out,
            left: 0,
            padding: 0,
        }
    }

    /// Writes all that comes before an entry's data. Where that is, is not asked for: a file's data follows whole, by
    /// [`Self::data`]. Directories get a slash behind their path.
    ///
    /// # Errors
    ///
    /// Those of writing; [`ErrorKind::InvalidInput`] when the format has no room for the entry or no form for it, or
    /// data of the one before is missing. Nothing is written of the entry then.
    pub fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        if self.left > 0 {
            let missing = self.left;
            return Err(invalid(format!(
                "{missing} bytes of the data of the file before are missing"
            )));
        }
        let (header, records) = headers(entry)?;
        if !records.is_empty() {
            if records.len() > EXTENDED_MAX {
                return Err(invalid(format!(
                    "names and extended attributes of {} bytes, expected at most {EXTENDED_MAX}, which is what is read \
                     of an archive's extended header",
                    records.len()
                )));
            }
            let extended = extended_header(entry.path, records.len() as u64);
            self.out.write_all(&extended)?;
            self.out.write_all(&records)?;
            self.out.write_all(zeros(padding(records.len() as u64)))?;
        }
        self.out.write_all(&header)?;
        if let Kind::File { size, .. } = entry.kind {
            self.left = size;
            self.padding = padding(size);
        }
        Ok(())
    }

    /// Writes data of the file whose entry was the last.
    ///
    /// # Errors
    ///
    /// Those of writing; [`ErrorKind::InvalidInput`] when it is more than the entry said.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            return Err(invalid("more data than the file has".to_string()));
        };
        self.out.write_all(bytes)?;
        self.left = left;
        if left == 0 {
            self.out
                .write_all(zeros(std::mem::take(&mut self.padding)))?;
        }
        Ok(())
    }

    /// Ends the archive. Returns what it was written to.
    ///
    /// # Errors
    ///
    /// Those of writing; [`ErrorKind::InvalidInput`] when data of the last file is missing.
    pub fn finish(mut self) -> io::Result<W> {
        if self.left > 0 {
            return Err(invalid(format!(
                "{} bytes of the data of the last file are missing",
                self.left
            )));
        }
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, problem)
}

/// How many bytes it takes to fill the last block of so many.
fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// So many zeros, less than a block.
fn zeros(count: usize) -> &'static [u8] {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    ZEROS.get(..count).unwrap_or_default()
}

/// A block that becomes a header.
struct Block([u8; BLOCK]);

impl Block {
    fn new(kind: u8) -> Self {
        let mut block = Block([0; BLOCK]);
        block.put(header::TYPE..header::TYPE + 1, &[kind]);
        block.put(header::MAGIC, b"ustar\x0000");
        block
    }

    /// Puts bytes at the beginning of a field. They fit.
    fn put(&mut self, field: Range<usize>, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(field) {
            for (place, byte) in place.iter_mut().zip(bytes) {
                *place = *byte;
            }
        }
    }

    /// Writes a number, or zero if it does not fit into as many octal digits. Returns whether it did.
    fn number(&mut self, field: Range<usize>, number: u64) -> bool {
        let digits = field.len() - 1;
        let fits = number < 1 << (3 * digits);
        let number = if fits { number } else { 0 };
        self.put(field, format!("{number:0digits$o}").as_bytes());
        fits
    }

    /// Writes the checksum over all the rest, and is done.
    fn finish(mut self) -> [u8; BLOCK] {
        self.put(header::CHECKSUM, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.put(header::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// The records of an extended header.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    /// Adds a record, which begins with its own length.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // A blank, an equals sign, a newline.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

/// The header of an entry, and the records of the extended one before it: none if there is to be none.
fn headers(entry: &Entry<'_>) -> io::Result<([u8; BLOCK], Vec<u8>)> {
    let nothing: &[u8] = b"";
    let (kind, link, device) = match &entry.kind {
        Kind::File { .. } => (b'0', nothing, None),
        Kind::HardLink(target) => (b'1', *target, None),
        Kind::Symlink(target) => (b'2', *target, None),
        Kind::CharDevice(major, minor) => (b'3', nothing, Some((*major, *minor))),
        Kind::BlockDevice(major, minor) => (b'4', nothing, Some((*major, *minor))),
        Kind::Directory => (b'5', nothing, None),
        Kind::Fifo => (b'6', nothing, None),
        Kind::Socket => return Err(invalid("an archive has no sockets".to_string())),
    };
    let path: Cow<'_, [u8]> = match entry.kind {
        Kind::Directory if !entry.path.ends_with(b"/") => [entry.path, b"/"].concat().into(),
        _ => entry.path.into(),
    };
    for name in [&path, link] {
        if name.contains(&0) {
            return Err(invalid("a name with a NUL in it".to_string()));
        }
    }
    if path.is_empty() || (link.is_empty() && matches!(kind, b'1' | b'2')) {
        return Err(invalid("a name without a byte in it".to_string()));
    }
    let mut block = Block::new(kind);
    let mut records = Records::default();
    let split = split(&path);
    let long_path = split.is_none().then_some(path.as_ref());
    let long_link = (link.len() > header::LINK.len()).then_some(link);
    let is_text = |name: Option<&[u8]>| name.is_none_or(|name| std::str::from_utf8(name).is_ok());
    if !is_text(long_path) || !is_text(long_link) {
        // Names in records are UTF-8 otherwise.
        records.add(b"hdrcharset", b"BINARY");
    }
    // As much of a long name as there is room for is better than nothing to who does not know records.
    let (prefix, name) = split.unwrap_or((b"", &path));
    block.put(header::NAME, name);
    block.put(header::PREFIX, prefix);
    block.put(header::LINK, link);
    for (key, name) in [("path", long_path), ("linkpath", long_link)] {
        if let Some(name) = name {
            records.add(key.as_bytes(), name);
        }
    }
    let size = match entry.kind {
        Kind::File { size, .. } => size,
        _ => 0,
    };
    block.number(header::MODE, u64::from(entry.mode & 0o7777));
    let numbers = [
        ("size", header::SIZE, size),
        ("uid", header::UID, u64::from(entry.uid)),
        ("gid", header::GID, u64::from(entry.gid)),
    ];
    for (key, field, number) in numbers {
        if !block.number(field, number) {
            records.add(key.as_bytes(), number.to_string().as_bytes());
        }
    }
    let seconds = u64::try_from(entry.mtime.sec).ok();
    let fits = block.number(header::MTIME, seconds.unwrap_or(0));
    if !fits || seconds.is_none() || entry.mtime.nsec != 0 {
        records.add(b"mtime", decimal(entry.mtime).as_bytes());
    }
    let (major, minor) = device.unwrap_or_default();
    for (field, number) in [(header::MAJOR, major), (header::MINOR, minor)] {
        // No record says them that all readers know. The kernel's own have 12 and 20 bits.
        if !block.number(field, u64::from(number)) {
            return Err(invalid(format!(
                "a device {major}:{minor}, whose numbers do not fit into 21 bits"
            )));
        }
    }
    for (name, value) in entry.xattrs.iter() {
        records.add(&xattr_key(name), value);
        // GNU tar and others know ACLs only as text.
        let text_key = match name.as_slice() {
            b"system.posix_acl_access" => b"SCHILY.acl.access".as_slice(),
            b"system.posix_acl_default" => b"SCHILY.acl.default",
            _ => continue,
        };
        if let Some(text) = acl::text(value) {
            records.add(text_key, text.as_bytes());
        }
    }
    Ok((block.finish(), records.0))
}

/// The header of an extended header with so many bytes.
fn extended_header(path: &[u8], size: u64) -> [u8; BLOCK] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut block = Block::new(b'x');
    block.put(header::NAME, &[EXTENDED_PREFIX, name].concat());
    block.number(header::MODE, 0o644);
    block.number(header::SIZE, size);
    for field in [
        header::UID,
        header::GID,
        header::MTIME,
        header::MAJOR,
        header::MINOR,
    ] {
        block.number(field, 0);
    }
    block.finish()
}

/// Splits a path at a slash, so that both parts have room in a header: what comes before the name, and the name. `None` if
/// that cannot be.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= header::NAME.len() {
        return Some((b"", path));
    }
    // The name of a directory has a slash at its end, and is not to be that alone.
    let last = path.len() - 1;
    let first = path.len() - header::NAME.len() - 1;
    let slash = (first..last).find(|at| path.get(*at) == Some(&b'/'))?;
    let (prefix, name) = path.split_at_checked(slash)?;
    (!prefix.is_empty() && prefix.len() <= header::PREFIX.len()).then_some((prefix, name.get(1..)?))
}

/// A time as a decimal number of seconds. One before 1970 is that number, too: its nanoseconds count from the second before.
fn decimal(time: Time) -> String {
    let Time { sec, nsec } = time;
    if nsec == 0 {
        return sec.to_string();
    }
    let (sign, whole, nsec) = match sec < 0 {
        true => ("-", -(i128::from(sec) + 1), 1_000_000_000 - nsec),
        false => ("", i128::from(sec), nsec),
    };
    let text = format!("{sign}{whole}.{nsec:09}");
    text.trim_end_matches('0').to_string()
}

/// The key of an extended attribute's record. It ends at an equals sign, so one in the name is written as GNU tar does, and so
/// is what would be taken for that.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for (at, byte) in name.iter().enumerate() {
        let behind = name.get(at + 1..at + 3);
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' if matches!(behind, Some(b"3D" | b"25")) => key.extend_from_slice(b"%25"),
            _ => key.push(*byte),
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::super::FileInput;
    use super::super::Names;
    use super::super::Reader;
    use super::*;

    /// What the reader makes of one entry: path, kind, mode, owner, group, time, attributes.
    fn read_back(entry: &Entry<'_>) -> String {
        let mut writer = Writer::new(Vec::new());
        writer.entry(entry).unwrap();
        if let Kind::File { size, .. } = entry.kind {
            // A hole at the end: nobody has as much.
            writer.left = 0;
            assert!(size == 0 || size > 1 << 30);
        }
        let bytes = writer.finish().unwrap();
        let input = FileInput::new(bytes.as_slice(), bytes.len() as u64);
        let mut reader = Reader::new(input, Names::default()).headers_only(true);
        let read = reader.next_entry().unwrap().unwrap();
        described(&read)
    }

    fn described(entry: &Entry<'_>) -> String {
        let mut kind = format!("{:?}", entry.kind);
        if let Kind::File { size, .. } = entry.kind {
            kind = format!("File {size}");
        }
        let path = entry.path.strip_suffix(b"/").unwrap_or(entry.path);
        format!(
            "{} {kind} {:o} {}:{} {:?} {:?}",
            path.escape_ascii(),
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime,
            entry.xattrs
        )
    }

    #[test]
    fn what_is_written_is_read() {
        let data = || super::super::Data::Contiguous(0);
        let long = [b"d".repeat(90), b"e".repeat(90), b"f".repeat(90)].join(&b'/');
        let split = [b"d".repeat(100), b"e".repeat(99)].join(&b'/');
        let fits = b"n".repeat(100);
        let wide = b"n".repeat(255);
        let below = [b"d".as_slice(), &wide].join(&b'/');
        let paths: [&[u8]; 10] = [
            b"a",
            b"dir/a b\n",
            "\u{fc}".as_bytes(),
            b"\xff\xfe",
            &[b"\xff".repeat(90), b"\xfe".repeat(90), b"\xfd".repeat(90)].join(&b'/'),
            &fits,
            &split,
            &long,
            &wide,
            &below,
        ];
        for path in paths {
            for kind in [
                Kind::Directory,
                Kind::File {
                    size: 0,
                    data: data(),
                },
                Kind::File {
                    size: 1 << 33,
                    data: data(),
                },
                Kind::HardLink(path),
                Kind::Symlink(path),
                Kind::CharDevice(4095, (1 << 20) - 1),
                Kind::BlockDevice(0, 1),
                Kind::Fifo,
            ] {
                let entry = Entry::new(path, kind).with_mode(0o7421);
                assert_eq!(read_back(&entry), described(&entry));
            }
        }
        for id in [0, 1, 0o7777777, 0o10000000, u32::MAX] {
            let entry = Entry::new(b"a", Kind::Fifo).with_uid(id).with_gid(id);
            assert_eq!(read_back(&entry), described(&entry));
        }
        for sec in [
            0,
            1,
            -1,
            -2,
            1 << 33,
            -(1 << 33),
            (1 << 33) - 1,
            i64::MAX,
            i64::MIN,
        ] {
            for nsec in [0, 1, 500_000_000, 999_999_999] {
                let entry = Entry::new(b"a", Kind::Fifo).with_mtime(Time { sec, nsec });
                assert_eq!(read_back(&entry), described(&entry));
            }
        }
        let values: [&[u8]; 5] = [b"", b"v", b"\0\n=\xff", &b"x".repeat(65_536), b"99 a=b\n"];
        for name in [
            "user.a",
            "user.a=b",
            "user.%3D%25",
            "user.100%",
            "security.capability",
        ] {
            for value in values {
                let xattrs = vec![(name.as_bytes().to_vec(), value.to_vec())];
                let entry = Entry::new(b"a", Kind::Fifo).with_xattrs(xattrs.into());
                assert_eq!(read_back(&entry), described(&entry));
            }
        }
    }

    #[test]
    fn lengths_of_records_count_themselves() {
        for (value, expected) in [(0, "5 k=\n"), (4, "9 k=vvvv\n"), (5, "11 k=vvvvv\n")] {
            let mut records = Records::default();
            records.add(b"k", &b"v".repeat(value));
            assert_eq!(std::str::from_utf8(&records.0).unwrap(), expected);
        }
        for length in 0..2000 {
            let mut records = Records::default();
            records.add(b"key", &vec![b'v'; length]);
            let text = std::str::from_utf8(&records.0).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0, text.len().to_string());
        }
    }

    #[test]
    fn what_has_no_form_is_refused_and_nothing_is_written_of_it() {
        let large: super::super::SharedXattrs =
            vec![(b"user.a".to_vec(), vec![0; EXTENDED_MAX])].into();
        let cases = [
            (Entry::new(b"a", Kind::Socket), "no sockets"),
            (Entry::new(b"", Kind::Fifo), "without a byte"),
            (Entry::new(b"a", Kind::Symlink(b"")), "without a byte"),
            (Entry::new(b"a\0b", Kind::Fifo), "NUL"),
            (Entry::new(b"a", Kind::Symlink(b"\0")), "NUL"),
            (Entry::new(b"a", Kind::CharDevice(1 << 21, 0)), "2097152:0"),
            (Entry::new(b"a", Kind::Fifo).with_xattrs(large), "1048576"),
        ];
        for (entry, expected) in cases {
            let mut writer = Writer::new(Vec::new());
            let error = writer.entry(&entry).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(writer.finish().unwrap(), vec![0; 1024]);
        }
    }

    #[test]
    fn data_is_as_long_as_was_said() {
        let entry = |size| {
            let data = super::super::Data::Contiguous(0);
            Entry::new(b"a", Kind::File { size, data })
        };
        for size in [0, 1, 511, 512, 513] {
            let mut writer = Writer::new(Vec::new());
            writer.entry(&entry(size)).unwrap();
            writer.data(&vec![b'd'; size as usize]).unwrap();
            assert!(writer.data(b"d").is_err());
            let blocks = 1 + size.div_ceil(512) + 2;
            assert_eq!(writer.finish().unwrap().len() as u64, blocks * 512);
        }
        let mut writer = Writer::new(Vec::new());
        writer.entry(&entry(2)).unwrap();
        writer.data(b"d").unwrap();
        let error = writer.entry(&entry(0)).unwrap_err();
        assert!(error.to_string().contains("1 bytes"), "{error}");
        assert!(writer.finish().is_err());
    }
}
