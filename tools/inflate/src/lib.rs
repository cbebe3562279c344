// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An inflater that can stop at the end of each deflate block, and start there again: what random access to a gzip stream
//! is made of. The stream stays as it is.
//!
//! [`Inflater::gzip`] reads a stream from its beginning, and says with each [`Step`] whether a block ends there. Whoever
//! keeps the position, the number of bits ([`State::BlockEnd`]) and the [`Inflater::window`] can go on from there with
//! [`Inflater::at`]. What points are kept, and how it is found out that one is wrong, is no business of this crate: from a
//! wrong window come wrong bytes, or an error, but nothing worse.
//!
//! All of it is zlib-rs, by its interface in the manner of zlib. Each call borrows its input and output only while it runs.
//!
//! ```
//! use ferofs_inflate::Inflater;
//! use ferofs_inflate::State;
//!
//! // A stream of one stored block.
//! let stream = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x02\0\xfd\xffok\x47\xdd\xdc\x79\x02\0\0\0";
//! let mut inflater = Inflater::gzip()?;
//! let mut output = [0; 9];
//! // Behind the header, before the first block.
//! let step = inflater.step(stream, &mut output)?;
//! assert_eq!((step.read, step.written, step.state), (10, 0, State::BlockEnd { bits: 0 }));
//! let mut from_there = Inflater::at(0, 0, &[])?;
//! let step = from_there.step(&stream[10..], &mut output)?;
//! assert_eq!(&output[..step.written], b"ok");
//! # Ok::<(), ferofs_inflate::Error>(())
//! ```

use libz_rs_sys as z;
use std::error;
use std::ffi::c_int;
use std::fmt;
use std::io;
use std::ptr;

/// So far back a deflate stream can refer.
pub const WINDOW: usize = 32 << 10;
/// So many bytes follow a deflate stream in a member of a gzip stream.
pub const TRAILER: usize = 8;

/// A deflate stream without anything around it.
const RAW: c_int = -15;
/// One in a gzip stream.
const GZIP: c_int = 31;
/// What zlib adds to the number of bits in `data_type`.
const LAST_BLOCK: c_int = 64;
const AT_BLOCK_END: c_int = 128;

/// Why it did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The stream is not one.
    Corrupt,
    /// There is no memory.
    NoMemory,
    /// A number of bits that is none, or a window that is too long.
    Point,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Corrupt => "the deflate stream is corrupt",
            Error::NoMemory => "no memory",
            Error::Point => "the access point is none",
        })
    }
}

impl error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::NoMemory => io::ErrorKind::OutOfMemory,
            Error::Corrupt | Error::Point => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How many bytes of the input it took.
    pub read: usize,
    /// How many bytes of the output it filled.
    pub written: usize,
    /// Where it stopped.
    pub state: State,
}

/// Where a step stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There was no more input or no more room.
    Between,
    /// Before a block, be it the first one.
    BlockEnd {
        /// So many bits of the last byte that was read belong to what follows: 0 to 7.
        bits: u8,
    },
    /// At the end of the deflate stream, with all of a gzip member's trailer if it is read as such.
    End,
}

/// A stream of zlib-rs.
///
/// # Invariants
///
/// `stream` was initialised by `inflateInit2_` and not ended. Its input and output are null and empty, but in [`Self::step`].
pub struct Inflater {
    /// In a box, since zlib's interface allows a stream to know its own address.
    stream: Box<z::z_stream>,
}

// SAFETY: All that a stream points at, but for input and output, is memory of its own from Rust's allocator, which any
// thread may use and free. Input and output are empty between calls, by the invariant of the type.
unsafe impl Send for Inflater {}

impl Inflater {
    fn new(window_bits: c_int) -> Result<Self, Error> {
        let mut stream = Box::new(z::z_stream::default());
        let size = size_of::<z::z_stream>() as c_int;
        // SAFETY: The stream is a valid one, of the library's own making, with its own allocator in it or none, which stands for
        // that; the version is a C string that lives as long as the program.
        let code = unsafe { z::inflateInit2_(&mut *stream, window_bits, z::zlibVersion(), size) };
        match code {
            // INVARIANT: It is initialised, and `default` has no input or output.
            z::Z_OK => Ok(Inflater { stream }),
            _ => Err(Error::NoMemory),
        }
    }

    /// At the beginning of a gzip stream.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn gzip() -> Result<Self, Error> {
        Self::new(GZIP)
    }

    /// At the end of a block in the middle of a stream: so many bits of the byte `before` are of the next block, and `window`
    /// is what the stream came to before, up to [`WINDOW`] bytes. The step at the end of the deflate stream ends before the
    /// trailer of a gzip member.
    ///
    /// # Errors
    ///
    /// When there are no such bits, the window is too long, or there is no memory.
    pub fn at(bits: u8, before: u8, window: &[u8]) -> Result<Self, Error> {
        if bits > 7 || window.len() > WINDOW {
            return Err(Error::Point);
        }
        let mut new = Self::new(RAW)?;
        if bits > 0 {
            let value = c_int::from(before >> (8 - bits));
            // SAFETY: The stream is initialised, by the invariant.
            let code = unsafe { z::inflatePrime(&mut *new.stream, bits.into(), value) };
            if code != z::Z_OK {
                return Err(Error::Point);
            }
        }
        if !window.is_empty() {
            // SAFETY: The stream is initialised, by the invariant, and there are so many bytes, which are only read, and only in
            // this call. The length is at most `WINDOW`.
            let code = unsafe {
                z::inflateSetDictionary(&mut *new.stream, window.as_ptr(), window.len() as u32)
            };
            if code != z::Z_OK {
                return Err(Error::Point);
            }
        }
        Ok(new)
    }

    /// Goes on with what follows a member of a gzip stream: the next one. What came before is forgotten.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn next_member(&mut self) -> Result<(), Error> {
        // SAFETY: The stream is initialised, by the invariant, and stays so.
        match unsafe { z::inflateReset2(&mut *self.stream, GZIP) } {
            z::Z_OK => Ok(()),
            _ => Err(Error::NoMemory),
        }
    }

    /// Inflates until a block ends, the input is used up, or the output is full. With something of both, it comes further or
    /// says why not.
    ///
    /// # Errors
    ///
    /// When the stream is corrupt. Nothing can be done with it then.
    pub fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Error> {
        self.inflate(input, output, z::Z_BLOCK)
    }

    /// The same for whom it is of no interest where blocks end: it goes on past that, which is faster.
    ///
    /// # Errors
    ///
    /// Those of [`Inflater::step`].
    pub fn stride(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Error> {
        self.inflate(input, output, z::Z_NO_FLUSH)
    }

    fn inflate(&mut self, input: &[u8], output: &mut [u8], until: c_int) -> Result<Step, Error> {
        // What zlib can count. The rest is left for the next step.
        let given = u32::try_from(input.len()).unwrap_or(u32::MAX);
        let room = u32::try_from(output.len()).unwrap_or(u32::MAX);
        let stream = &mut *self.stream;
        stream.next_in = input.as_ptr();
        stream.avail_in = given;
        stream.next_out = output.as_mut_ptr();
        stream.avail_out = room;
        // SAFETY: The stream is initialised, by the invariant. There are so many bytes to read and so many to write, both no more
        // than the slices have, which nobody else uses as long as they are borrowed, which is to the end of this call.
        let code = unsafe { z::inflate(stream, until) };
        // INVARIANT: Nothing of the slices is left in it.
        stream.next_in = ptr::null();
        stream.next_out = ptr::null_mut();
        let left = (stream.avail_in, stream.avail_out);
        (stream.avail_in, stream.avail_out) = (0, 0);
        let kind = stream.data_type;
        let state = match code {
            z::Z_STREAM_END => State::End,
            // That nothing could be done is no error: there was no input or no room.
            z::Z_OK | z::Z_BUF_ERROR if kind & AT_BLOCK_END != 0 && kind & LAST_BLOCK == 0 => {
                let bits = (kind & 7) as u8;
                State::BlockEnd { bits }
            }
            z::Z_OK | z::Z_BUF_ERROR => State::Between,
            z::Z_MEM_ERROR => return Err(Error::NoMemory),
            _ => return Err(Error::Corrupt),
        };
        Ok(Step {
            read: given.saturating_sub(left.0) as usize,
            written: room.saturating_sub(left.1) as usize,
            state,
        })
    }

    /// The last bytes that the stream came to, up to [`WINDOW`] of them, the oldest first: what later blocks can refer to.
    pub fn window(&self) -> Vec<u8> {
        let mut window = vec![0; WINDOW];
        let mut len = 0;
        // SAFETY: The stream is initialised, by the invariant. There is room for `WINDOW` bytes, which is the largest window of any
        // stream, and for the length.
        let code = unsafe { z::inflateGetDictionary(&*self.stream, window.as_mut_ptr(), &mut len) };
        window.truncate(match code {
            z::Z_OK => len as usize,
            _ => 0,
        });
        window
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: The stream is initialised, by the invariant, and not used any more.
        unsafe { z::inflateEnd(&mut *self.stream) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    /// Text of few words in an order of its own: neither noise nor a pattern.
    fn words(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut text = Vec::new();
        while text.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.extend(format!("{} ", (state >> 24) * 7919).into_bytes());
        }
        text.truncate(len);
        text
    }

    fn gzip(content: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        if cfg!(miri) {
            // There is time for little, which is to have several blocks.
            for piece in content.chunks(1_000) {
                encoder.write_all(piece).unwrap();
                encoder.flush().unwrap();
            }
        } else {
            encoder.write_all(content).unwrap();
        }
        encoder.finish().unwrap()
    }

    /// A place in a stream where blocks begin.
    struct Point {
        input: usize,
        output: usize,
        bits: u8,
        window: Vec<u8>,
    }

    /// Inflates a stream of any number of members in steps of these sizes.
    fn inflate(stream: &[u8], piece: usize, room: usize) -> Result<(Vec<u8>, Vec<Point>), Error> {
        let mut inflater = Inflater::gzip()?;
        let (mut at, mut content, mut points) = (0, Vec::new(), Vec::new());
        let mut output = vec![0; room];
        while at < stream.len() {
            let end = stream.len().min(at + piece);
            let step = inflater.step(&stream[at..end], &mut output)?;
            at += step.read;
            content.extend_from_slice(&output[..step.written]);
            match step.state {
                State::BlockEnd { bits } => points.push(Point {
                    input: at,
                    output: content.len(),
                    bits,
                    window: inflater.window(),
                }),
                State::End => inflater.next_member()?,
                State::Between if step.read == 0 && step.written == 0 && end == stream.len() => {
                    return Err(Error::Corrupt);
                }
                State::Between => {}
            }
        }
        Ok((content, points))
    }

    /// The same without a stop where blocks end.
    fn strides(stream: &[u8], piece: usize, room: usize) -> Vec<u8> {
        let mut inflater = Inflater::gzip().unwrap();
        let (mut at, mut content, mut output) = (0, Vec::new(), vec![0; room]);
        while at < stream.len() {
            let end = stream.len().min(at + piece);
            let step = inflater.stride(&stream[at..end], &mut output).unwrap();
            at += step.read;
            content.extend_from_slice(&output[..step.written]);
            if step.state == State::End {
                inflater.next_member().unwrap();
            }
        }
        content
    }

    #[test]
    fn from_every_block_on_it_is_the_same() {
        // Miri takes a minute for what takes a millisecond.
        let (len, levels, steps) = match cfg!(miri) {
            true => (7_000, &[6][..], &[(1000, 777)][..]),
            false => (
                700_000,
                &[0, 1, 6, 9][..],
                &[(1 << 20, 1 << 20), (1000, 777), (1, 50)][..],
            ),
        };
        let content = words(len);
        let (first, second) = content.split_at(len * 4 / 7);
        for level in levels {
            let both = [gzip(first, *level), gzip(second, *level)].concat();
            for (piece, room) in steps {
                let (found, points) = inflate(&both, *piece, *room).unwrap();
                assert!(found == content, "{level} {piece} {room}");
                assert!(points.len() > 2, "{}", points.len());
                assert!(strides(&both, *piece, *room) == content);
                for point in &points {
                    let before = both[point.input - 1];
                    let mut inflater = Inflater::at(point.bits, before, &point.window).unwrap();
                    let mut output = vec![0; 20_000];
                    let (mut at, mut done) = (point.input, 0);
                    while done < output.len() {
                        let step = inflater.step(&both[at..], &mut output[done..]).unwrap();
                        at += step.read;
                        done += step.written;
                        if step.state == State::End {
                            break;
                        }
                    }
                    assert!(done > 0);
                    assert!(output[..done] == content[point.output..point.output + done]);
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Inflater::at(8, 0, &[]).err(), Some(Error::Point));
        assert_eq!(
            Inflater::at(0, 0, &[0; WINDOW + 1]).err(),
            Some(Error::Point)
        );
        let stream = gzip(&words(if cfg!(miri) { 4_000 } else { 100_000 }), 6);
        let mut wrong = stream.clone();
        let end = wrong.len();
        // The checksum of the content.
        wrong[end - 6] ^= 1;
        assert_eq!(inflate(&wrong, 5000, 5000).err(), Some(Error::Corrupt));
        assert_eq!(
            inflate(b"no stream at all", 5, 5).err(),
            Some(Error::Corrupt)
        );
        let mut inflater = Inflater::gzip().unwrap();
        let step = inflater.step(&[], &mut [0; 10]).unwrap();
        assert_eq!(
            (step.read, step.written, step.state),
            (0, 0, State::Between)
        );
        // From anywhere, with anything: an error or some bytes, and an end.
        let mut output = vec![0; 1000];
        for at in (0..stream.len() / 8).step_by(if cfg!(miri) { 500 } else { 1 }) {
            for bits in 0..8 {
                let window = &stream[..(at * 7).min(WINDOW)];
                let mut inflater = Inflater::at(bits, 0x5a, window).unwrap();
                let _ = inflater.step(&stream[at * 7..], &mut output);
            }
        }
    }
}
