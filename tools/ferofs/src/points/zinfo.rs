// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Access points as other programs write them: the zinfo of SOCI (in a ztoc) and of erofs-utils (`mkfs.erofs --gzinfo`).
//! All numbers are little endian.
//!
//! | at | bytes | |
//! | --- | --- | --- |
//! | 0 | 4 | number of points |
//! | 4 | 8 | span |
//! | 12 + 32785 *n* | 8 | first byte of what is stored that belongs to nothing before |
//! | + 8 | 8 | where in the tar it is |
//! | + 16 | 1 | number of bits of the byte before that belong to what follows |
//! | + 17 | 32768 | window, zeros in front |
//!
//! It has no checksums. So points that were read from it have none, and [`super::Maker`] takes the places of points from it, which a pass over
//! the layer compares.

use super::Checksum;
use super::Form;
use super::Point;
use super::Points;
use super::file::FILE_MAX;
use super::window;
use super::ztoc;
use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::text::Shown;
use ferofs_inflate::WINDOW;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;

/// The span that other programs have unless they are told otherwise.
pub const SPAN: u64 = 4 << 20;

const HEADER: usize = 12;
const ENTRY: usize = 17 + WINDOW;
/// So much more of what is stored may be needed for the last bytes of a unit, which are behind the next point.
const SLACK: u64 = 16 << 10;

/// What a zinfo says of a point.
pub(super) struct Entry<'a> {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) bits: u8,
    /// As much of it as is not in front of the start.
    pub(super) window: &'a [u8],
}

impl<'a> Entry<'a> {
    fn new(entry: &'a [u8]) -> Self {
        let (mut input, mut output) = ([0; 8], [0; 8]);
        input.copy_from_slice(entry.get(..8).unwrap_or_default());
        output.copy_from_slice(entry.get(8..16).unwrap_or_default());
        let output = u64::from_le_bytes(output);
        let window = entry.get(17..).unwrap_or_default();
        // What is in front of the start is zeros of nothing.
        let before = usize::try_from(output).unwrap_or(WINDOW).min(WINDOW);
        Entry {
            input: u64::from_le_bytes(input),
            output,
            bits: entry.get(16).copied().unwrap_or_default(),
            window: window.get(WINDOW - before..).unwrap_or_default(),
        }
    }
}

/// The points of a zinfo, and whether the first one, which is behind the shortest header, is left out: the older form.
fn entries(bytes: &[u8]) -> std::result::Result<(bool, &[u8]), String> {
    let (header, entries) = bytes.split_at_checked(HEADER).ok_or("it ends early")?;
    let mut count = [0; 4];
    count.copy_from_slice(header.get(..4).unwrap_or_default());
    let count = u32::from_le_bytes(count) as usize;
    match entries.len() {
        len if len == count.saturating_mul(ENTRY) => Ok((false, entries)),
        len if len == count.saturating_sub(1).saturating_mul(ENTRY) => Ok((true, entries)),
        len => Err(format!(
            "it has {len} bytes of points, and says that there are {count}"
        )),
    }
}

/// Where another program has points, and behind which windows.
pub struct Places {
    bytes: Vec<u8>,
    next: usize,
}

impl Places {
    /// Those of a file that is a zinfo.
    ///
    /// # Errors
    ///
    /// When it cannot be read, has more than [`FILE_MAX`], or is none.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, metadata) = crate::open::regular(path)?;
        if metadata.len() > FILE_MAX {
            let found = metadata.len();
            let problem = format!("it has {found} bytes, expected at most {FILE_MAX}");
            return Err(wrong(path)(problem));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(Error::io("read", path))?;
        Places::parse(bytes, path)
    }

    /// Those of a zinfo, alone or in a ztoc, which is called `path` in messages.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn parse(mut bytes: Vec<u8>, path: &Path) -> Result<Self> {
        if let Some(zinfo) = ztoc::zinfo(&bytes).filter(|_| entries(&bytes).is_err()) {
            bytes.truncate(zinfo.end);
            bytes.drain(..zinfo.start);
        }
        entries(&bytes).map_err(wrong(path))?;
        let next = HEADER;
        Ok(Places { bytes, next })
    }

    /// The next one.
    pub(super) fn next(&self) -> Option<Entry<'_>> {
        let rest = self.bytes.get(self.next..)?;
        rest.get(..ENTRY).map(Entry::new)
    }

    /// Leaves out those that are before a position in the tar.
    pub(super) fn skip_until(&mut self, output: u64) {
        while self.next().is_some_and(|next| next.output < output) {
            self.next += ENTRY;
        }
    }
}

fn wrong(path: &Path) -> impl Fn(String) -> Error {
    move |problem| {
        let shown = Shown(path);
        let problem = format!("{shown}: no sound zinfo of the layer: {problem}");
        Error::of(Kind::Container, problem)
    }
}

/// Of what a zinfo does not say itself.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The sha256 of what is stored.
    pub digest: Digest,
    /// How many bytes are stored.
    pub stored: u64,
    /// The sha256 of the plain tar.
    pub diff_id: Digest,
    /// How many bytes the plain tar has.
    pub size: u64,
}

impl Points {
    /// Writes them as a zinfo. Its windows are what they are here: whole ones if [`super::Maker::with_whole_windows`] made
    /// them.
    ///
    /// # Errors
    ///
    /// When they are not of a gzip stream, or their windows are damaged, and those of writing.
    pub fn write_zinfo(&self, span: u64, out: &mut impl Write) -> io::Result<()> {
        if self.form != Form::Gzip {
            let problem = format!("a zinfo is for gzip, and this is {}", self.form);
            return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
        }
        out.write_all(&(self.points.len() as u32).to_le_bytes())?;
        out.write_all(&span.to_le_bytes())?;
        for (number, point) in self.points.iter().enumerate() {
            out.write_all(&point.input.to_le_bytes())?;
            out.write_all(&point.output.to_le_bytes())?;
            out.write_all(&[point.bits])?;
            let window = self.window(number)?;
            out.write_all(&vec![0; WINDOW.saturating_sub(window.len())])?;
            out.write_all(&window)?;
        }
        Ok(())
    }

    /// Reads a zinfo, which is called `path` in messages. Its points have no checksums.
    ///
    /// # Errors
    ///
    /// When it is none, or its points cannot be those of such a layer, or do not reach its end.
    pub fn parse_zinfo(bytes: &[u8], about: About, path: &Path) -> Result<Self> {
        parse(bytes, about).map_err(wrong(path))
    }

    /// Whether each unit has a checksum.
    pub fn has_checksums(&self) -> bool {
        let mut points = self.points.iter();
        points.all(|point| point.checksum != Checksum::default())
    }
}

fn parse(bytes: &[u8], about: About) -> std::result::Result<Points, String> {
    let (first, entries) = entries(bytes)?;
    let mut points: Vec<Point> = Vec::new();
    let mut windows = Vec::new();
    let mut add = |input: u64, output: u64, bits: u8, window: &[u8]| {
        let from = windows.len();
        let packed = window::pack(window).map_err(|error| error.to_string())?;
        windows.extend(packed);
        // Where a member is empty several points are at one place.
        if points
            .last()
            .is_none_or(|last: &Point| last.output < output)
            && output < about.size
        {
            points.push(Point {
                input,
                bits,
                output,
                end: 0,
                checksum: Checksum::default(),
                window: from..windows.len(),
            });
        } else {
            windows.truncate(from);
        }
        Ok::<(), String>(())
    };
    if first {
        add(10, 0, 0, &[])?;
    }
    for entry in entries.chunks_exact(ENTRY).map(Entry::new) {
        add(entry.input, entry.output, entry.bits, entry.window)?;
    }
    for number in 0..points.len() {
        let next = points.get(number + 1).map(|next| next.input);
        if let Some(point) = points.get_mut(number) {
            let end = next.map_or(about.stored, |next| next.saturating_add(SLACK));
            point.end = end.min(about.stored);
        }
    }
    let points = Points {
        form: Form::Gzip,
        digest: about.digest,
        stored: about.stored,
        diff_id: about.diff_id,
        size: about.size,
        points,
        windows,
    };
    points.expect_sound()?;
    Ok(points)
}
