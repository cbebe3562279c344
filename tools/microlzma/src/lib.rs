// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! MicroLZMA, the form of LZMA that EROFS has: LZMA1 without a header, whose first byte is the complement of its
//! properties.
//!
//! [`Encoder::fill`] encodes as much of its input as fits into its output, which is what EROFS needs; [`decode`] is the
//! other way. Both are liblzma's own functions; nothing else of it is here.
//!
//! ```
//! let input: Vec<u8> = (0..100_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
//! let mut encoder = erofs_microlzma::Encoder::new(6, 1 << 16).unwrap();
//! let mut block = [0; 4096];
//! let (taken, filled) = encoder.fill(&input, &mut block).unwrap();
//! let mut decoded = vec![0; taken];
//! erofs_microlzma::decode(&block[..filled], &mut decoded, 1 << 16).unwrap();
//! assert!(taken > 8192 && decoded == input[..taken]);
//! ```

use liblzma_sys as sys;
use std::error;
use std::fmt;
use std::mem::MaybeUninit;

/// Why liblzma did not do it: what it returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(u32);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error(code) = *self;
        match code {
            sys::LZMA_MEM_ERROR => f.write_str("no memory"),
            sys::LZMA_OPTIONS_ERROR => {
                f.write_str("the level or the size of the dictionary is none")
            }
            sys::LZMA_DATA_ERROR | sys::LZMA_OK | sys::LZMA_BUF_ERROR => {
                f.write_str("the data is corrupt")
            }
            code => write!(f, "liblzma returned {code}"),
        }
    }
}

impl error::Error for Error {}

/// A stream of liblzma: a plain structure, and memory that belongs to it.
///
/// # Invariants
///
/// Either nothing was done with the structure, or liblzma has initialised it and owns its `internal`; `next_in` and
/// `next_out` are not used outside [`Stream::run`].
struct Stream(sys::lzma_stream);

// SAFETY: liblzma has no state of a thread: what a stream points at is its own memory, and its allocator is malloc.
unsafe impl Send for Stream {}

impl Stream {
    fn new() -> Self {
        // SAFETY: LZMA_STREAM_INIT is a structure of null pointers and zeros.
        let stream = unsafe { MaybeUninit::<sys::lzma_stream>::zeroed().assume_init() };
        // INVARIANT: Nothing was done with it.
        Stream(stream)
    }

    /// Lets an initialised stream work until it is through: how much it read and wrote.
    ///
    /// # Safety
    ///
    /// The stream must have been initialised as an encoder or decoder, successfully.
    unsafe fn run(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), Error> {
        let stream = &mut self.0;
        stream.next_in = input.as_ptr();
        stream.avail_in = input.len();
        stream.next_out = output.as_mut_ptr();
        stream.avail_out = output.len();
        // SAFETY: The caller has initialised the stream; there are so many bytes to read and to write, which
        // nobody else has as long as the two slices are borrowed.
        let code = unsafe { sys::lzma_code(stream, sys::LZMA_FINISH) };
        // INVARIANT: The pointers end with the borrow.
        let read = input.len() - stream.avail_in;
        let written = output.len() - stream.avail_out;
        stream.next_in = std::ptr::null();
        stream.next_out = std::ptr::null_mut();
        stream.avail_in = 0;
        stream.avail_out = 0;
        match code {
            sys::LZMA_STREAM_END => Ok((read, written)),
            code => Err(Error(code)),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: liblzma takes back what it has of a stream that it initialised, and there is nothing to take back of
        // one of zeros.
        unsafe { sys::lzma_end(&mut self.0) };
    }
}

/// Encodes one piece after the other, each for itself.
pub struct Encoder {
    stream: Stream,
    options: sys::lzma_options_lzma,
}

// SAFETY: The options point at a dictionary to start with, which there is none of: the pointer is null.
unsafe impl Send for Encoder {}

impl Encoder {
    /// The `level` is that of xz(1), 0 to 9, or 100 to 109 for its variant "extreme"; the dictionary has so many bytes.
    ///
    /// # Errors
    ///
    /// When there is no such level, or no such dictionary.
    pub fn new(level: u32, dictionary: u32) -> Result<Self, Error> {
        let preset = match level {
            100.. => (level - 100) | sys::LZMA_PRESET_EXTREME,
            level => level,
        };
        // SAFETY: It is a structure of numbers, enumerations as numbers, and pointers that may be null.
        let mut options = unsafe { MaybeUninit::<sys::lzma_options_lzma>::zeroed().assume_init() };
        // SAFETY: It writes the structure that the pointer is to, and nothing else.
        if unsafe { sys::lzma_lzma_preset(&mut options, preset) } != 0 {
            return Err(Error(sys::LZMA_OPTIONS_ERROR));
        }
        options.dict_size = dictionary;
        let mut encoder = Encoder {
            stream: Stream::new(),
            options,
        };
        // What is wrong with the options shows now.
        encoder.start()?;
        Ok(encoder)
    }

    fn start(&mut self) -> Result<(), Error> {
        // SAFETY: The stream is zeros or was initialised before, in which case liblzma uses its memory again; the options are
        // complete, and are read in this call only.
        let code = unsafe { sys::lzma_microlzma_encoder(&mut self.stream.0, &self.options) };
        match code {
            sys::LZMA_OK => Ok(()),
            code => Err(Error(code)),
        }
    }

    /// Encodes as much of the start of `input` as fits into `output`: how many bytes these are, and how many they become.
    ///
    /// # Errors
    ///
    /// When there is no memory, or the output has no room for a single byte.
    pub fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), Error> {
        self.start()?;
        // SAFETY: `start` has initialised it.
        unsafe { self.stream.run(input, output) }
    }
}

/// Decodes all of `input` to all of `output`, with a dictionary of so many bytes.
///
/// # Errors
///
/// When it does not decode to exactly so many bytes, or there is no memory.
pub fn decode(input: &[u8], output: &mut [u8], dictionary: u32) -> Result<(), Error> {
    decode_with(input, output, dictionary, true)
}

/// Decodes the start of `input`, which decodes to more, to all of `output`.
///
/// # Errors
///
/// When it decodes to less, or there is no memory.
pub fn decode_start(input: &[u8], output: &mut [u8], dictionary: u32) -> Result<(), Error> {
    decode_with(input, output, dictionary, false)
}

fn decode_with(input: &[u8], output: &mut [u8], dictionary: u32, exact: bool) -> Result<(), Error> {
    let mut stream = Stream::new();
    let (size, whole) = (input.len() as u64, output.len() as u64);
    // SAFETY: The stream is zeros.
    let code = unsafe {
        sys::lzma_microlzma_decoder(&mut stream.0, size, whole, exact.into(), dictionary)
    };
    if code != sys::LZMA_OK {
        return Err(Error(code));
    }
    let room = output.len();
    // SAFETY: It was initialised right now.
    match unsafe { stream.run(input, output) }? {
        (_, written) if written == room => Ok(()),
        _ => Err(Error(sys::LZMA_DATA_ERROR)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_fits_comes_back() {
        let input = words(200_000);
        for level in [0, 6, 9, 109] {
            let mut encoder = Encoder::new(level, 1 << 20).unwrap();
            let mut rest = &input[..];
            while !rest.is_empty() {
                let mut output = [0; 4096];
                let (taken, filled) = encoder.fill(rest, &mut output).unwrap();
                assert!(taken > 0 && (taken == rest.len() || filled > 4000));
                // As EROFS tells where the data starts.
                assert_ne!(output[0], 0);
                let mut decoded = vec![0; taken];
                decode(&output[..filled], &mut decoded, 1 << 20).unwrap();
                assert!(decoded == rest[..taken]);
                let mut start = vec![0; taken / 2];
                decode_start(&output[..filled], &mut start, 1 << 20).unwrap();
                assert!(start == rest[..taken / 2]);
                rest = &rest[taken..];
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (level, dictionary) in [(10, 1 << 16), (110, 1 << 16), (6, 0)] {
            assert!(
                Encoder::new(level, dictionary).is_err(),
                "{level} {dictionary}"
            );
        }
        let input = words(10_000);
        let mut encoder = Encoder::new(6, 1 << 16).unwrap();
        let mut output = [0; 4096];
        let (taken, filled) = encoder.fill(&input, &mut output).unwrap();
        let mut decoded = vec![0; taken];
        assert!(decode(&output[..filled - 9], &mut decoded, 1 << 16).is_err());
        let mut more = vec![0; taken + 1];
        assert!(decode(&output[..filled], &mut more, 1 << 16).is_err());
        output[filled / 2] ^= 0xff;
        assert!(
            decode(&output[..filled], &mut decoded, 1 << 16).is_err() || decoded != input[..taken]
        );
        assert!(decode(&[], &mut decoded, 1 << 16).is_err());
    }
}
