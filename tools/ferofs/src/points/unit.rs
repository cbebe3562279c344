// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From what is stored to a unit of the tar, compared with its checksum: what [`crate::serve`] calls.

use super::ALIGN;
use super::Checksum;
use super::Form;
use super::Points;
use super::UNIT_MAX;
use super::frames::Frames;
use ferofs_inflate::Inflater;
use ferofs_inflate::State;
use ferofs_inflate::TRAILER;
use ferofs_inflate::WINDOW;
use std::io;

fn wrong(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

impl Points {
    /// The window of a point.
    ///
    /// # Errors
    ///
    /// When it is damaged.
    pub(super) fn window(&self, number: usize) -> io::Result<Vec<u8>> {
        let point = self.points.get(number);
        let packed = point.and_then(|point| self.windows.get(point.window.clone()));
        match packed {
            None => Err(wrong("there is no such access point")),
            Some([]) => Ok(Vec::new()),
            Some(packed) => zstd::bulk::decompress(packed, WINDOW)
                .map_err(|_| wrong("the window of the access point is damaged")),
        }
    }

    /// Makes a unit of the tar of the bytes that [`Points::stored`] says.
    ///
    /// # Errors
    ///
    /// When it is not what its checksum says: the bytes, or the access point, are wrong.
    pub fn inflate(&self, number: usize, stored: &[u8]) -> io::Result<Vec<u8>> {
        let point = self.points.get(number);
        let point = point.ok_or_else(|| wrong("there is no such access point"))?;
        let unit = self.unit(number);
        let skipped = unit.start.saturating_sub(point.output);
        let wanted = unit.end.saturating_sub(point.output);
        if wanted > UNIT_MAX + ALIGN {
            return Err(wrong("the access points are too far apart"));
        }
        let (skipped, wanted) = (skipped as usize, wanted as usize);
        let mut plain = match self.form {
            Form::Plain => stored.get(..wanted).map(<[u8]>::to_vec),
            Form::Gzip => Some(self.inflate_gzip(number, stored, wanted)?),
            Form::Zstd => Some(decompress_frames(stored, wanted)?),
        }
        .ok_or_else(|| wrong("it ends before the unit does"))?;
        plain.drain(..skipped.min(plain.len()));
        self.check(number, &plain)?;
        Ok(plain)
    }

    /// Compares a unit of the tar with its checksum.
    ///
    /// # Errors
    ///
    /// When it is not what that says.
    pub fn check(&self, number: usize, plain: &[u8]) -> io::Result<()> {
        let point = self.points.get(number);
        let point = point.ok_or_else(|| wrong("there is no such access point"))?;
        let found: Checksum = *blake3::hash(plain).as_bytes();
        match point.checksum == Checksum::default() || found == point.checksum {
            true => Ok(()),
            false => Err(wrong("it has another checksum than the access points say")),
        }
    }

    fn inflate_gzip(&self, number: usize, stored: &[u8], wanted: usize) -> io::Result<Vec<u8>> {
        let bits = self.points.get(number).map_or(0, |point| point.bits);
        let (before, mut stored) = match (bits, stored) {
            (0, stored) => (0, stored),
            (_, [before, stored @ ..]) => (*before, stored),
            (_, []) => return Err(wrong("it ends before the unit does")),
        };
        let mut inflater = Inflater::at(bits, before, &self.window(number)?)?;
        let mut trailer = TRAILER;
        let mut plain = vec![0; wanted];
        let mut done = 0;
        while done < wanted {
            let room = plain.get_mut(done..).unwrap_or_default();
            let step = inflater.stride(stored, room)?;
            stored = stored.get(step.read..).unwrap_or_default();
            done = done.saturating_add(step.written);
            if step.state == State::End && done < wanted {
                stored = stored.get(trailer..).unwrap_or_default();
                // From now on it is inflated as a stream of members.
                trailer = 0;
                let zeros = stored.iter().take_while(|byte| **byte == 0).count();
                stored = stored.get(zeros..).unwrap_or_default();
                inflater.next_member()?;
            }
            if stored.is_empty() && step.written == 0 && done < wanted {
                return Err(wrong("it ends before the unit does"));
            }
        }
        Ok(plain)
    }
}

/// The first bytes of what some frames have in them.
fn decompress_frames(mut stored: &[u8], wanted: usize) -> io::Result<Vec<u8>> {
    let mut frames = Frames::new()?;
    let mut plain = vec![0; wanted];
    let mut done = 0;
    while done < wanted {
        let step = frames.step(stored, plain.get_mut(done..).unwrap_or_default())?;
        stored = stored.get(step.read..).unwrap_or_default();
        done = done.saturating_add(step.written);
        if stored.is_empty() && step.written == 0 && done < wanted {
            return Err(wrong("it ends before the unit does"));
        }
    }
    Ok(plain)
}
