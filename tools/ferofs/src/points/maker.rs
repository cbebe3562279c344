// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Makes access points of a layer while it is read: a reader of the plain tar over what is stored.
//! [`crate::build::read_through`] reads through it.

use super::ALIGN;
use super::Checksum;
use super::Form;
use super::Point;
use super::Points;
use super::SPAN_MIN;
use super::UNIT_MAX;
use super::frames::Frames;
use super::window;
use super::window::Referred;
use super::zinfo::Places;
use crate::compression::Compression;
use crate::compression::named;
use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::hashing::Hashing;
use ferofs_inflate::Inflater;
use ferofs_inflate::State;
use ferofs_inflate::WINDOW;
use std::io;
use std::io::BufRead;
use std::io::Read;
use std::path::Path;

/// Collects access points.
pub struct Maker {
    span: u64,
    form: Option<Form>,
    points: Vec<Point>,
    windows: Vec<u8>,
    /// The window of the last point, which is not among them yet.
    referred: Option<Referred>,
    /// Whether windows are kept as a whole.
    whole: bool,
    /// Where points are to be, if another program has said that.
    places: Option<Places>,
    /// How much was read of what is stored, and of the tar, and the last byte of the former.
    input: u64,
    last_byte: u8,
    output: u64,
    /// The first without zeros behind it.
    used: u64,
    /// Where the unit before the last point ends, if that is not reached yet.
    pending: Option<u64>,
    /// Of the unit that is being read.
    checksum: blake3::Hasher,
    /// Of what is stored.
    digest: Option<Digest>,
    /// Whether all was read.
    ended: bool,
    /// Why there can be no points.
    problem: Option<String>,
}

impl Maker {
    /// With a point after each `span` bytes of the tar, or a little more.
    pub fn new(span: u64) -> Self {
        Maker {
            span: span.clamp(SPAN_MIN, UNIT_MAX / 4),
            form: None,
            points: Vec::new(),
            windows: Vec::new(),
            referred: None,
            whole: false,
            places: None,
            input: 0,
            last_byte: 0,
            output: 0,
            used: 0,
            pending: None,
            checksum: blake3::Hasher::new(),
            digest: None,
            ended: false,
            problem: None,
        }
    }

    /// Says what the sha256 of what is stored is, if somebody else compares what is read with it. If it is not said it is
    /// computed.
    #[must_use]
    pub fn with_digest(mut self, digest: Option<Digest>) -> Self {
        self.digest = digest;
        self
    }

    /// Says whether windows are kept as a whole, with what units do not refer to, too: that is of use in a zinfo only.
    #[must_use]
    pub fn with_whole_windows(mut self, whole: bool) -> Self {
        self.whole = whole;
        self
    }

    /// With points where another program has them, instead: those that are less than [`SPAN_MIN`] apart are left out. What it
    /// says is compared with the layer.
    #[must_use]
    pub fn with_places(mut self, places: Places) -> Self {
        self.places = Some(places);
        self
    }

    /// A reader of the plain tar.
    ///
    /// # Errors
    ///
    /// When no points can be made of what is compressed so.
    pub fn reader<'a>(
        &'a mut self,
        compression: Option<Compression>,
        stored: impl BufRead + 'a,
    ) -> io::Result<impl Read + 'a> {
        let (form, codec) = match compression {
            None => (Form::Plain, Codec::None),
            Some(Compression::Gzip) => (Form::Gzip, Codec::Gzip(Inflater::gzip()?)),
            Some(Compression::Zstd) => (Form::Zstd, Codec::Zstd(Frames::new()?)),
            Some(other) => {
                let problem = format!(
                    "it is compressed with {other}, of which there are no access points: expected gzip, zstd, or a plain tar"
                );
                return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
            }
        };
        if form == Form::Plain {
            self.point(0, Vec::new());
        }
        self.form = Some(form);
        let stored = match self.digest {
            Some(digest) => Stored::Known(stored, digest),
            None => Stored::Hashing(Hashing::new(stored, true, &|_| {})),
        };
        Ok(Through {
            maker: self,
            stored,
            codec,
            between: true,
        })
    }

    /// The points of a layer, all of which was read, and whose plain tar has this sha256; `path` is what it is called in
    /// messages.
    ///
    /// # Errors
    ///
    /// When units would be too large.
    pub fn finish(mut self, diff_id: Digest, path: &Path) -> Result<Points> {
        let shown = crate::text::Shown(path);
        if let Some(problem) = self.problem {
            return Err(Error::of(Kind::Unsupported, format!("{shown}: {problem}")));
        }
        let (Some(form), Some(digest), true) = (self.form, self.digest, self.ended) else {
            let problem = io::Error::other("not all of it was read");
            return Err(Error::io("read", path)(problem));
        };
        // What is empty has no units.
        if self.output == 0 {
            self.points.clear();
            self.windows.clear();
        }
        Ok(Points {
            form,
            digest,
            stored: self.input,
            diff_id,
            size: self.output,
            points: self.points,
            windows: self.windows,
        })
    }

    /// A point here. If the unit before it ends here, too, it has ended then.
    fn point(&mut self, bits: u8, window: Vec<u8>) {
        let first = self.points.is_empty();
        if let Some(places) = &mut self.places {
            let theirs = places.next().filter(|_| !first);
            if theirs.is_some_and(|theirs| !theirs.window.ends_with(&window)) {
                let at = self.output;
                self.problem.get_or_insert(format!(
                    "the zinfo has another window of the point at byte {at} of the tar"
                ));
            }
            places.skip_until(self.output.saturating_add(SPAN_MIN));
        }
        // It is over: units are larger than what can be referred to.
        self.keep_referred();
        let from = self.windows.len();
        self.points.push(Point {
            input: self.input,
            bits,
            output: self.output,
            end: self.input,
            checksum: Checksum::default(),
            window: from..from,
        });
        match self.whole || window.is_empty() {
            true => self.keep(&window),
            false => self.referred = Some(Referred::new(window, bits, self.last_byte)),
        }
        if !first {
            self.pending = Some(super::align(self.output, u64::MAX));
            self.end_unit_here();
        }
    }

    /// Keeps a window, which is that of the last point.
    fn keep(&mut self, window: &[u8]) {
        match window::pack(window) {
            Ok(packed) => self.windows.extend(packed),
            Err(error) => self.give_up(error.to_string()),
        }
        if let Some(point) = self.points.last_mut() {
            point.window.end = self.windows.len();
        }
    }

    /// Keeps the window of the last point, if that is not done yet.
    fn keep_referred(&mut self) {
        match self.referred.take().map(Referred::sparse) {
            None => {}
            Some(Ok(window)) => self.keep(&window),
            Some(Err(error)) => self.give_up(error.to_string()),
        }
    }

    /// Takes what is stored for what can refer to the window of the last point: it comes to so much of the tar.
    fn refer(&mut self, stored: &[u8], plain: usize) {
        self.last_byte = stored.last().copied().unwrap_or(self.last_byte);
        if self.problem.is_some() {
            // There may be no end of what comes to nothing.
            self.referred = None;
        }
        if let Some(referred) = &mut self.referred {
            referred.add(stored, plain);
            if referred.is_over() {
                self.keep_referred();
            }
        }
    }

    fn give_up(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Whether there is to be a point here, where one is possible, with so many bits of the byte before.
    fn wanted(&self, bits: u8) -> bool {
        match (self.points.last(), &self.places) {
            (None, _) => true,
            (Some(_), Some(places)) => places.next().is_some_and(|theirs| {
                (theirs.input, theirs.output, theirs.bits) == (self.input, self.output, bits)
            }),
            (Some(last), None) => self.output.saturating_sub(last.output) > self.span,
        }
    }

    /// How much may be read of the tar until something is to be noted.
    fn room(&self) -> usize {
        let until = match (self.pending, self.form) {
            (Some(pending), _) => pending,
            // Points of a plain tar can be anywhere.
            (None, Some(Form::Plain)) => self.next(),
            // What is copied for the window is not to be much more than what can refer to it.
            (None, _) if self.referred.is_some() => {
                let last = self.points.last().map_or(0, |last| last.output);
                last.saturating_add(WINDOW as u64)
            }
            // Those of a gzip stream are looked for from there on.
            (None, Some(Form::Gzip)) if self.output < self.next() => self.next(),
            (None, _) => u64::MAX,
        };
        usize::try_from(until.saturating_sub(self.output)).unwrap_or(usize::MAX)
    }

    /// Where the next point may be, or behind it.
    fn next(&self) -> u64 {
        match (self.points.last(), &self.places) {
            (None, _) => 0,
            // Whoever has got so far may have passed what follows without having made anything of it.
            (Some(_), Some(places)) => places
                .next()
                .map_or(u64::MAX, |theirs| theirs.output.saturating_sub(1)),
            (Some(last), None) => last.output.saturating_add(self.span),
        }
    }

    /// Looks whether a place has been passed where no point was possible.
    fn expect_places(&mut self, until: u64) {
        let passed = self.places.as_ref().and_then(Places::next);
        let passed = passed.filter(|theirs| theirs.output < until);
        if let Some(theirs) = passed.filter(|_| !self.points.is_empty()) {
            let (input, output) = (theirs.input, theirs.output);
            self.give_up(format!(
                "the zinfo has a point at byte {input}, and {output} of the tar, where none is possible"
            ));
            self.places = None;
        }
    }

    /// Notes what was read: so many bytes of what is stored became these of the tar, and so many more had to be looked at.
    fn advance(&mut self, read: usize, ahead: u64, plain: &[u8]) {
        self.input = self.input.saturating_add(read as u64);
        self.used = self.input.saturating_add(ahead);
        self.output = self.output.saturating_add(plain.len() as u64);
        self.checksum.update(plain);
        self.expect_places(self.output);
        if let Some(last) = self.points.last() {
            let output = self.output.saturating_sub(last.output);
            let input = self.input.saturating_sub(last.input);
            // The rest up to the start of the next unit is part of it.
            if output.max(input) > UNIT_MAX - ALIGN && self.problem.is_none() {
                let (from, most) = (last.output, UNIT_MAX - ALIGN);
                let what = match self.form {
                    Some(Form::Zstd) => "frame",
                    _ => "deflate block",
                };
                self.give_up(format!(
                    "no {what} begins in the {most} bytes of the tar or more after byte {from}, so it cannot be \
                     read in parts"
                ));
            }
        }
        self.end_unit_here();
    }

    /// Ends the unit before the last point, if this is where it ends.
    fn end_unit_here(&mut self) {
        if self.pending == Some(self.output) {
            let before = self.points.len().checked_sub(2);
            self.pending = None;
            self.end(before);
        }
    }

    fn end(&mut self, unit: Option<usize>) {
        let checksum = *self.checksum.finalize().as_bytes();
        self.checksum.reset();
        let unit = unit.and_then(|unit| self.points.get_mut(unit));
        if let Some(unit) = unit {
            unit.checksum = checksum;
            unit.end = self.used;
        }
    }

    /// Notes that this was all, and what it came to.
    fn end_all(&mut self, digest: Option<Digest>) {
        self.ended = true;
        self.digest = digest;
        self.keep_referred();
        match self.form {
            Some(Form::Gzip) => self.expect_places(u64::MAX),
            form if self.places.is_some() => {
                let form = form.map_or("empty".to_string(), |form| form.to_string());
                self.give_up(format!("a zinfo is for gzip, and this is {form}"));
            }
            _ => {}
        }
        let starts = |point: &Point| super::align(point.output, self.output);
        let starts_behind = |point: &Point| starts(point) == self.output;
        // What is to begin at the end or behind it would have nothing.
        if self.points.len() > 1 && self.points.last().is_some_and(starts_behind) {
            if let Some(point) = self.points.pop() {
                self.windows.truncate(point.window.start);
            }
            if self.pending.take().is_none() {
                // The unit before it has ended.
                return;
            }
        }
        let last = self.points.len().checked_sub(1);
        self.end(last);
    }
}

/// What is stored.
enum Stored<R> {
    /// Its sha256 is known.
    Known(R, Digest),
    Hashing(Hashing<'static, R>),
}

impl<R: BufRead> Stored<R> {
    /// The next bytes of it; none at the end.
    fn left(&mut self) -> io::Result<&[u8]> {
        match self {
            Stored::Known(reader, _) => reader.fill_buf(),
            Stored::Hashing(reader) => reader.fill_buf(),
        }
    }

    fn consume(&mut self, len: usize) {
        match self {
            Stored::Known(reader, _) => reader.consume(len),
            Stored::Hashing(reader) => reader.consume(len),
        }
    }

    /// What all of it came to.
    fn digest(&mut self) -> io::Result<Option<Digest>> {
        match self {
            Stored::Known(_, digest) => Ok(Some(*digest)),
            Stored::Hashing(reader) => reader.finish(),
        }
    }
}

/// The reader of the plain tar.
struct Through<'a, R> {
    maker: &'a mut Maker,
    stored: Stored<R>,
    codec: Codec,
    /// Whether the last member of a gzip stream or frame ended, and nothing but zeros came since.
    between: bool,
}

/// What makes a plain tar of what is stored.
enum Codec {
    None,
    Gzip(Inflater),
    Zstd(Frames),
}

impl<R: BufRead> Through<'_, R> {
    /// Notes that nothing is left.
    fn end(&mut self) -> io::Result<()> {
        if !self.maker.ended {
            let digest = self.stored.digest()?;
            self.maker.end_all(digest);
        }
        Ok(())
    }

    fn read_plain(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.stored.left()?.is_empty() {
            self.end()?;
            return Ok(0);
        }
        if self.maker.room() == 0 {
            self.maker.point(0, Vec::new());
        }
        let room = buf.len().min(self.maker.room());
        let to = buf.get_mut(..room).unwrap_or_default();
        let len = self.stored.left()?.read(to)?;
        self.stored.consume(len);
        self.maker
            .advance(len, 0, to.get(..len).unwrap_or_default());
        Ok(len)
    }

    fn inflate(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.stored.left()?;
            if left.is_empty() {
                if !self.between {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.end()?;
                return Ok(0);
            }
            if self.between && self.maker.input > 0 {
                // Zeros behind a member fill up the last record of a tape.
                let zeros = left.iter().take_while(|byte| **byte == 0).count();
                let all = zeros == left.len();
                self.stored.consume(zeros);
                self.maker.input = self.maker.input.saturating_add(zeros as u64);
                if all {
                    continue;
                }
            }
            let Codec::Gzip(inflater) = &mut self.codec else {
                return Ok(0);
            };
            if self.between && self.maker.input > 0 {
                inflater.next_member()?;
            }
            self.between = false;
            let room = buf.len().min(self.maker.room());
            let output = buf.get_mut(..room).unwrap_or_default();
            let left = self.stored.left()?;
            // Where blocks end is of no interest before that.
            let step = match self.maker.output < self.maker.next() {
                true => inflater.stride(left, output)?,
                false => inflater.step(left, output)?,
            };
            let taken = left.get(..step.read).unwrap_or_default();
            self.maker.refer(taken, step.written);
            self.stored.consume(step.read);
            let plain = output.get(..step.written).unwrap_or_default();
            self.maker.advance(step.read, 0, plain);
            match step.state {
                State::BlockEnd { bits }
                    if self.maker.pending.is_none() && self.maker.wanted(bits) =>
                {
                    self.maker.point(bits, inflater.window());
                }
                State::End => self.between = true,
                State::BlockEnd { .. } | State::Between => {}
            }
            if step.written > 0 {
                return Ok(step.written);
            }
            if step.read == 0 && step.state == State::Between {
                return Err(ferofs_inflate::Error::Corrupt.into());
            }
        }
    }

    fn decompress(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let is_end = self.stored.left()?.is_empty();
            if is_end && self.between {
                self.end()?;
                return Ok(0);
            }
            if self.between && self.maker.pending.is_none() && self.maker.wanted(0) {
                self.maker.point(0, Vec::new());
            }
            // At the end, too: what is left of the tar may still be in the decoder.
            let room = buf.len().min(self.maker.room());
            let written = self.step(buf.get_mut(..room).unwrap_or_default())?;
            if written > 0 {
                return Ok(written);
            }
            if is_end && !self.between {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Goes on in a frame. Returns how much of the tar was made.
    fn step(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let Codec::Zstd(frames) = &mut self.codec else {
            return Ok(0);
        };
        let step = frames.step(self.stored.left()?, output)?;
        self.stored.consume(step.read);
        self.between = step.ended;
        let plain = output.get(..step.written).unwrap_or_default();
        // While some of a frame is to be given out its last byte counts as not read.
        let ahead = u64::from(!step.ended);
        self.maker.advance(step.read, ahead, plain);
        Ok(step.written)
    }
}

impl<R: BufRead> Read for Through<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        match self.codec {
            Codec::None => self.read_plain(buf),
            Codec::Gzip(_) => self.inflate(buf).map_err(|error| named("gzip", error)),
            Codec::Zstd(_) => self.decompress(buf).map_err(|error| named("zstd", error)),
        }
    }
}
