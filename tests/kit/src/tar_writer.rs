// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writes tar members, PAX or GNU, for `gen-tar`.
//!
//! Its own instead of a crate's, because the tests need headers that well-behaved writers do not make.

use std::io;
use std::io::Write;

/// Which extension carries what an old header has no room for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `x` headers with records.
    Pax,
    /// `L` and `K` members, and base-256 numbers.
    Gnu,
}

/// One member.
#[derive(Clone)]
pub struct Member {
    pub path: Vec<u8>,
    pub typeflag: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: (i64, u32),
    pub link: Vec<u8>,
    pub device: (u32, u32),
}

impl Member {
    /// A regular file of root's with mode 0644.
    pub fn file(path: impl Into<Vec<u8>>) -> Self {
        Member {
            path: path.into(),
            typeflag: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (1_600_000_000, 0),
            link: Vec::new(),
            device: (0, 0),
        }
    }

    pub fn dir(path: impl Into<Vec<u8>>) -> Self {
        let mut path = path.into();
        path.push(b'/');
        Member {
            typeflag: b'5',
            mode: 0o755,
            ..Member::file(path)
        }
    }

    pub fn symlink(path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Member {
            typeflag: b'2',
            mode: 0o777,
            link: target.into(),
            ..Member::file(path)
        }
    }

    pub fn hard_link(path: impl Into<Vec<u8>>, target: &Member) -> Self {
        Member {
            path: path.into(),
            typeflag: b'1',
            link: target.path.clone(),
            ..target.clone()
        }
    }

    pub fn device(path: impl Into<Vec<u8>>, typeflag: u8, major: u32, minor: u32) -> Self {
        Member {
            typeflag,
            device: (major, minor),
            ..Member::file(path)
        }
    }
}

/// An archive that is being written.
pub struct TarWriter<W> {
    out: W,
    dialect: Dialect,
}

impl<W: Write> TarWriter<W> {
    pub fn new(out: W, dialect: Dialect) -> Self {
        TarWriter { out, dialect }
    }

    /// A member without data.
    pub fn add(&mut self, member: &Member) -> io::Result<()> {
        self.add_data(member, 0, |_| Ok(()))
    }

    /// A member with `size` bytes that `write` produces.
    pub fn add_data(
        &mut self,
        member: &Member,
        size: u64,
        write: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.dialect {
            Dialect::Pax => self.pax_records(member, size)?,
            Dialect::Gnu => self.gnu_long_names(member)?,
        }
        self.header(member, size)?;
        write(&mut self.out)?;
        self.pad(size)
    }

    /// The two zero blocks, and what a writer with a blocking factor of 20 puts behind them.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % 512) as usize;
        if over != 0 {
            self.out.write_all(&[0; 512][over..])?;
        }
        Ok(())
    }

    fn pax_records(&mut self, member: &Member, size: u64) -> io::Result<()> {
        let mut records = Vec::new();
        if member.path.len() > 100 {
            record(&mut records, "path", &member.path);
        }
        if member.link.len() > 100 {
            record(&mut records, "linkpath", &member.link);
        }
        if !fits(member.uid, 8) {
            record(&mut records, "uid", member.uid.to_string().as_bytes());
        }
        if !fits(member.gid, 8) {
            record(&mut records, "gid", member.gid.to_string().as_bytes());
        }
        if !fits(size, 12) {
            record(&mut records, "size", size.to_string().as_bytes());
        }
        let (seconds, nanoseconds) = member.mtime;
        if nanoseconds != 0 || u64::try_from(seconds).is_ok_and(|s| fits(s, 12)).eq(&false) {
            record(
                &mut records,
                "mtime",
                decimal(seconds, nanoseconds).as_bytes(),
            );
        }
        if records.is_empty() {
            return Ok(());
        }
        let header = Member {
            typeflag: b'x',
            ..Member::file("PaxHeaders/x")
        };
        self.header(&header, records.len() as u64)?;
        self.out.write_all(&records)?;
        self.pad(records.len() as u64)
    }

    fn gnu_long_names(&mut self, member: &Member) -> io::Result<()> {
        for (typeflag, name) in [(b'K', &member.link), (b'L', &member.path)] {
            if name.len() > 100 {
                let header = Member {
                    typeflag,
                    mtime: (0, 0),
                    ..Member::file("././@LongLink")
                };
                let size = name.len() as u64 + 1;
                self.header(&header, size)?;
                self.out.write_all(name)?;
                self.out.write_all(&[0])?;
                self.pad(size)?;
            }
        }
        Ok(())
    }

    fn header(&mut self, member: &Member, size: u64) -> io::Result<()> {
        let mut block = [0; 512];
        text(&mut block[0..100], &member.path);
        self.number(&mut block[100..108], member.mode.into());
        self.number(&mut block[108..116], signed(member.uid));
        self.number(&mut block[116..124], signed(member.gid));
        self.number(&mut block[124..136], signed(size));
        self.number(&mut block[136..148], member.mtime.0);
        block[148..156].fill(b' ');
        block[156] = member.typeflag;
        text(&mut block[157..257], &member.link);
        block[257..265].copy_from_slice(match self.dialect {
            Dialect::Pax => b"ustar\x0000",
            Dialect::Gnu => b"ustar  \x00",
        });
        if matches!(member.typeflag, b'3' | b'4') {
            self.number(&mut block[329..337], member.device.0.into());
            self.number(&mut block[337..345], member.device.1.into());
        }
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&block)
    }

    /// Octal where it fits; else base-256 (GNU), or 0 where a PAX record overrides the field.
    fn number(&self, field: &mut [u8], value: i64) {
        let octal = u64::try_from(value)
            .ok()
            .filter(|value| fits(*value, field.len()));
        match octal {
            None if self.dialect == Dialect::Gnu => {
                let extended = i128::from(value).to_be_bytes();
                field.copy_from_slice(&extended[16 - field.len()..]);
                field[0] |= 0x80;
            }
            value => {
                let digits = format!("{:0width$o}\0", value.unwrap_or(0), width = field.len() - 1);
                field.copy_from_slice(digits.as_bytes());
            }
        }
    }
}

/// The test archives stay far below 2^63 bytes and ids.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn fits(value: u64, field: usize) -> bool {
    value < 1 << (3 * (field - 1))
}

fn text(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// A timestamp as PAX writes it: a decimal number, so -1.5 is one second and a half before 1970.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if nanoseconds == 0 {
        seconds.to_string()
    } else if seconds < 0 {
        format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
    } else {
        format!("{seconds}.{nanoseconds:09}")
    }
}

/// Appends `LENGTH KEY=VALUE\n`, whose length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_length_counts_itself() {
        for length in [0, 1, 86, 87, 88, 985, 986, 987] {
            let mut records = Vec::new();
            record(&mut records, "path", &vec![b'a'; length]);
            let written: usize = String::from_utf8_lossy(&records)
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(written, records.len(), "value of {length} bytes");
        }
    }

    #[test]
    fn negative_times() {
        assert_eq!(decimal(-2, 500_000_000), "-1.500000000");
        assert_eq!(decimal(-1, 1), "-0.999999999");
        assert_eq!(decimal(-7, 0), "-7");
        assert_eq!(decimal(7, 5), "7.000000005");
    }
}
