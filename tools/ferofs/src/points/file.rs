// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How access points are kept: in a file, or as a blob in a registry. All numbers are little endian.
//!
//! | at | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | `ferofsPT` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | form: 0 plain, 1 gzip, 2 zstd |
//! | 16 | 32 | sha256 of what is stored |
//! | 48 | 8 | its size |
//! | 56 | 32 | sha256 of the plain tar |
//! | 88 | 8 | its size |
//! | 96 | 4 | number of points, *n* |
//! | 100 | 4 | size of all windows |
//! | 104 | 72 *n* | points |
//! | | 32 | BLAKE3 of all that is before |
//! | | | windows, each a frame of Zstandard, or nothing; bytes that the unit does not refer to may be zeros in them |
//!
//! and a point:
//!
//! | at | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | first byte of what is stored that belongs to nothing before |
//! | 8 | 8 | where in the tar it is |
//! | 16 | 8 | where in what is stored its unit ends |
//! | 24 | 4 | size of its window, as it is kept |
//! | 28 | 4 | number of bits of the byte before that belong to what follows |
//! | 32 | 32 | BLAKE3 of its unit |
//! | 64 | 8 | 0 |
//!
//! Windows have no checksum: from a wrong one comes a unit with a wrong one.

use super::Checksum;
use super::Form;
use super::Point;
use super::Points;
use super::UNIT_MAX;
use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::text::Shown;
use ferofs_inflate::WINDOW;
use std::io::Write;
use std::path::Path;

const MAGIC: &[u8; 8] = b"ferofsPT";
const VERSION: u32 = 1;
const HEADER: usize = 104;
const POINT: usize = 72;
/// More points than these are not taken: of the smallest span they are of a tar of 256 GiB.
const POINTS_MAX: u32 = 1 << 22;
/// A file is not larger than this: it is kept in memory.
pub const FILE_MAX: u64 = 1 << 28;

impl Points {
    /// Writes them.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut table = Vec::new();
        table.extend_from_slice(MAGIC);
        table.extend(VERSION.to_le_bytes());
        let form: u32 = match self.form {
            Form::Plain => 0,
            Form::Gzip => 1,
            Form::Zstd => 2,
        };
        table.extend(form.to_le_bytes());
        table.extend(self.digest.0);
        table.extend(self.stored.to_le_bytes());
        table.extend(self.diff_id.0);
        table.extend(self.size.to_le_bytes());
        table.extend((self.points.len() as u32).to_le_bytes());
        table.extend((self.windows.len() as u32).to_le_bytes());
        for point in &self.points {
            table.extend(point.input.to_le_bytes());
            table.extend(point.output.to_le_bytes());
            table.extend(point.end.to_le_bytes());
            table.extend((point.window.len() as u32).to_le_bytes());
            table.extend(u32::from(point.bits).to_le_bytes());
            table.extend(point.checksum);
            table.extend([0; 8]);
        }
        out.write_all(&table)?;
        out.write_all(blake3::hash(&table).as_bytes())?;
        out.write_all(&self.windows)
    }

    /// Reads them from all bytes of a file, which is called `path` in messages.
    ///
    /// # Errors
    ///
    /// When it is none, is damaged or not of this version, or says what cannot be.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        parse(bytes).map_err(|problem| {
            let shown = Shown(path);
            Error::of(
                Kind::Container,
                format!("{shown}: no sound access points of a layer: {problem}"),
            )
        })
    }

    /// Reads them from a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and those of [`Points::parse`].
    pub fn open(path: &Path) -> Result<Self> {
        let (file, metadata) = crate::open::regular(path)?;
        if metadata.len() > FILE_MAX {
            let (shown, found) = (Shown(path), metadata.len());
            return Err(Error::of(
                Kind::TooLarge,
                format!("{shown}: access points of {found} bytes, expected at most {FILE_MAX}"),
            ));
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut { file }, &mut bytes).map_err(Error::io("read", path))?;
        Self::parse(&bytes, path)
    }
}

impl Points {
    /// Reads those of a layer from a file: of the plain tar with this diff ID, as it is stored with this sha256, if that is known.
    ///
    /// # Errors
    ///
    /// Those of [`Points::open`], and when they are of something else.
    pub fn open_of(path: &Path, diff_id: Digest, digest: Option<Digest>) -> Result<Self> {
        let points = Self::open(path)?;
        let expected = digest.unwrap_or(points.digest);
        if (points.diff_id, points.digest) == (diff_id, expected) {
            return Ok(points);
        }
        let (shown, found) = (Shown(path), (points.digest, points.diff_id));
        Err(Error::of(
            Kind::WrongDigest,
            format!(
                "{shown}: the access points are of a layer that is stored as sha256:{} with the diff ID {}, expected \
                 sha256:{expected} with {diff_id}",
                found.0, found.1
            ),
        ))
    }
}

/// Numbers one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> std::result::Result<&'a [u8], String> {
        let split = self.0.split_at_checked(len);
        let (taken, rest) = split.ok_or_else(|| "it ends early".to_string())?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> std::result::Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> std::result::Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> std::result::Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }
}

fn parse(bytes: &[u8]) -> std::result::Result<Points, String> {
    let mut fields = Fields(bytes);
    if fields.take(MAGIC.len())? != MAGIC {
        return Err("it begins otherwise".to_string());
    }
    match fields.u32()? {
        VERSION => {}
        other => return Err(format!("its version is {other}, expected {VERSION}")),
    }
    let form = match fields.u32()? {
        0 => Form::Plain,
        1 => Form::Gzip,
        2 => Form::Zstd,
        other => return Err(format!("its form is {other}, expected 0, 1 or 2")),
    };
    let digest = Digest(fields.array()?);
    let stored = fields.u64()?;
    let diff_id = Digest(fields.array()?);
    let size = fields.u64()?;
    let (count, windows) = (fields.u32()?, fields.u32()? as usize);
    if count > POINTS_MAX {
        return Err(format!(
            "it has {count} points, expected at most {POINTS_MAX}"
        ));
    }
    let table = HEADER + count as usize * POINT;
    let checked = bytes.get(..table).ok_or("it ends early")?;
    let mut points: Vec<Point> = Vec::with_capacity(count as usize);
    let mut window = 0_usize;
    for _ in 0..count {
        let (input, output, end) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (len, bits) = (fields.u32()? as usize, fields.u32()?);
        let checksum: Checksum = fields.array()?;
        fields.take(8)?;
        let from = window;
        window = window.saturating_add(len);
        points.push(Point {
            input,
            bits: u8::try_from(bits).unwrap_or(u8::MAX),
            output,
            end,
            checksum,
            window: from..window,
        });
    }
    let checksum: Checksum = fields.array()?;
    if *blake3::hash(checked).as_bytes() != checksum {
        return Err("its checksum is wrong".to_string());
    }
    if window != windows || fields.0.len() != windows {
        return Err("its windows have another size than it says".to_string());
    }
    let points = Points {
        form,
        digest,
        stored,
        diff_id,
        size,
        points,
        windows: fields.0.to_vec(),
    };
    points.expect_sound()?;
    Ok(points)
}

impl Points {
    /// Establishes the invariant, or says where it does not hold.
    pub(super) fn expect_sound(&self) -> std::result::Result<(), String> {
        if (self.size == 0) != self.points.is_empty() {
            return Err("it has no point at the start".to_string());
        }
        for (number, point) in self.points.iter().enumerate() {
            let next = self.points.get(number.saturating_add(1));
            let (input, output) = match next {
                Some(next) => (next.input, next.output),
                None => (self.stored, self.size),
            };
            let window = point.window.len();
            let sound = (number > 0 || point.output == 0)
                && point.output < output
                && output - point.output <= UNIT_MAX
                && point.input <= input
                && point.input <= point.end
                && point.end - point.input <= UNIT_MAX
                && point.end <= self.stored
                && point.bits <= 7
                && (point.bits == 0 || point.input > 0)
                && window <= WINDOW + 1024;
            if !sound {
                return Err(format!("point {number} is impossible"));
            }
        }
        Ok(())
    }
}
