// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The algorithms, behind one interface: as much input as fits into an output of fixed size.
//!
//! LZ4 and LZMA have encoders that do just that. For Zstandard and DEFLATE it is found out by trying.

use erofs_format::compressed::algorithm;
use erofs_format::compressed::config;
use std::fmt;
use std::io;
use zerocopy::IntoBytes;

/// The names that algorithms have on the command line.
pub const NAMES: [&str; 6] = ["lz4", "lz4hc", "zstd", "deflate", "libdeflate", "lzma"];

/// Which encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Lz4,
    Lz4Hc,
    Zstd,
    Deflate,
    Lzma,
}

/// What to compress with: an algorithm, and how thoroughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm {
    codec: Codec,
    level: Option<u32>,
    dictionary: Option<u32>,
}

impl Algorithm {
    /// One as mkfs.erofs has it after `-z`: a name, perhaps a level, which may be called `level=`, perhaps
    /// `dictsize=`, with commas between them.
    ///
    /// # Errors
    ///
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let codec = match parts.next().unwrap_or_default() {
            "lz4" => Codec::Lz4,
            "lz4hc" => Codec::Lz4Hc,
            "zstd" => Codec::Zstd,
            // It is the same encoder.
            "deflate" | "libdeflate" => Codec::Deflate,
            "lzma" => Codec::Lzma,
            other => {
                let names = NAMES.join(", ");
                return Err(format!(
                    "\"{other}\" is no algorithm, expected one of {names}"
                ));
            }
        };
        let mut algorithm = Algorithm {
            codec,
            level: None,
            dictionary: None,
        };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or(("level", part));
            let number = value.parse().map_err(|_| {
                format!("\"{part}\" after the algorithm, expected a level or dictsize=BYTES")
            })?;
            match name {
                "level" => algorithm.level = Some(number),
                "dictsize" => algorithm.dictionary = Some(number),
                _ => {
                    return Err(format!(
                        "\"{name}\" after the algorithm, expected level or dictsize"
                    ));
                }
            }
        }
        algorithm.check()?;
        Ok(algorithm)
    }

    fn check(&self) -> Result<(), String> {
        let name = self;
        let levels = match self.codec {
            Codec::Lz4 if self.level.is_some() => {
                return Err("lz4 has no levels; lz4hc has".to_string());
            }
            Codec::Lz4 => 0..=0,
            Codec::Lz4Hc | Codec::Deflate => 0..=12,
            Codec::Zstd => 0..=22,
            Codec::Lzma if self.level.is_some_and(|level| level >= 100) => 100..=109,
            Codec::Lzma => 0..=9,
        };
        if let Some(level) = self.level.filter(|level| !levels.contains(level)) {
            let (from, to) = levels.into_inner();
            return Err(format!("level {level} of {name}, expected {from} to {to}"));
        }
        let Some(size) = self.dictionary else {
            return Ok(());
        };
        let (least, most) = match self.codec {
            Codec::Zstd => (1 << config::ZSTD_WINDOW_LOG_MIN, config::ZSTD_MAX_DICT_SIZE),
            Codec::Lzma => (config::LZMA_MIN_DICT_SIZE, config::LZMA_MAX_DICT_SIZE),
            Codec::Deflate => (
                1 << config::DEFLATE_WINDOW_BITS_MAX,
                1 << config::DEFLATE_WINDOW_BITS_MAX,
            ),
            Codec::Lz4 | Codec::Lz4Hc => return Err(format!("{name} has no dictsize")),
        };
        let power = self.codec == Codec::Lzma || size.is_power_of_two();
        if !power || !(least..=most).contains(&size) {
            return Err(format!(
                "dictsize {size} of {name}, expected a power of two from {least} to {most}"
            ));
        }
        Ok(())
    }

    /// Its number in the format.
    pub fn number(&self) -> u8 {
        match self.codec {
            Codec::Lz4 | Codec::Lz4Hc => algorithm::LZ4,
            Codec::Zstd => algorithm::ZSTD,
            Codec::Deflate => algorithm::DEFLATE,
            Codec::Lzma => algorithm::LZMA,
        }
    }

    /// Bytes of the window or dictionary, for physical clusters up to this size.
    fn window(&self, cluster: u32) -> u32 {
        if let Some(size) = self.dictionary {
            return size;
        }
        match self.codec {
            Codec::Lz4 | Codec::Lz4Hc => config::LZ4_MAX_DISTANCE.into(),
            Codec::Zstd => {
                let size = cluster.saturating_mul(8).min(config::ZSTD_MAX_DICT_SIZE);
                1 << size.max(1 << config::ZSTD_WINDOW_LOG_MIN).ilog2()
            }
            Codec::Deflate => 1 << config::DEFLATE_WINDOW_BITS_MAX,
            Codec::Lzma => cluster
                .saturating_mul(4)
                .clamp(32768, config::LZMA_MAX_DICT_SIZE),
        }
    }

    /// What an image says of it: the largest window that one of these has which are the same in the format.
    pub(crate) fn configuration(same: &[&Self], cluster: u32, block: u32) -> Vec<u8> {
        let window = same.iter().map(|one| one.window(cluster)).max();
        let window = window.unwrap_or_default();
        let number = same.first().map_or(algorithm::LZ4, |one| one.number());
        configuration(number, window, cluster / block)
    }

    /// An encoder, for physical clusters up to this size.
    ///
    /// # Errors
    ///
    /// When this program was made without it.
    pub fn encoder(&self, cluster: u32) -> Result<Box<dyn Encoder>, String> {
        let _ = cluster;
        match self.codec {
            #[cfg(feature = "lz4")]
            Codec::Lz4 => Ok(Box::new(lz4::Fast::new())),
            #[cfg(feature = "lz4")]
            Codec::Lz4Hc => {
                let level = self.level.unwrap_or(lz4::DEFAULT_LEVEL) as i32;
                Ok(Box::new(lz4::Thorough::new(level)?))
            }
            #[cfg(feature = "zstd")]
            Codec::Zstd => {
                let level = self.level.unwrap_or(3) as i32;
                Ok(Box::new(zstd::Zstd::new(level, self.window(cluster))?))
            }
            #[cfg(feature = "deflate")]
            Codec::Deflate => Ok(Box::new(deflate::Deflate::new(self.level.unwrap_or(1)))),
            #[cfg(feature = "lzma")]
            Codec::Lzma => {
                let level = self.level.unwrap_or(6);
                let encoder = erofs_microlzma::Encoder::new(level, self.window(cluster));
                let encoder = encoder.map_err(|error| format!("{self}: {error}"))?;
                Ok(Box::new(lzma::Lzma(encoder)))
            }
            #[allow(
                unreachable_patterns,
                reason = "which ones there are is up to the features"
            )]
            _ => Err(format!("{self} is not in this program")),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.codec {
            Codec::Lz4 => "lz4",
            Codec::Lz4Hc => "lz4hc",
            Codec::Zstd => "zstd",
            Codec::Deflate => "deflate",
            Codec::Lzma => "lzma",
        })
    }
}

/// What an image says of an algorithm behind its superblock: how many bytes its window or dictionary has, and, of LZ4, how many
/// blocks its physical clusters have at most.
pub(super) fn configuration(number: u8, window: u32, blocks: u32) -> Vec<u8> {
    match number {
        algorithm::LZMA => config::Lzma {
            dict_size: window.into(),
            format: 0.into(),
            reserved: [0; 8],
        }
        .as_bytes()
        .to_vec(),
        algorithm::DEFLATE => config::Deflate {
            windowbits: window.max(1).ilog2() as u8,
            reserved: [0; 5],
        }
        .as_bytes()
        .to_vec(),
        algorithm::ZSTD => config::Zstd {
            format: 0,
            windowlog: (window.max(1).ilog2() as u8).saturating_sub(config::ZSTD_WINDOW_LOG_MIN),
            reserved: [0; 4],
        }
        .as_bytes()
        .to_vec(),
        _ => config::Lz4 {
            max_distance: (window as u16).into(),
            max_pclusterblks: (blocks as u16).into(),
            reserved: [0; 10],
        }
        .as_bytes()
        .to_vec(),
    }
}

/// How much went where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Bytes of the input that were encoded.
    pub input: usize,
    /// Bytes that they became.
    pub output: usize,
}

/// Encodes pieces of data, each for itself.
pub trait Encoder: Send {
    /// Forgets what it has learnt from other data: what comes next depends on itself only.
    fn start(&mut self) {}

    /// Encodes as much of the start of `input` as fits into `output`. `None` if nothing would be won: there is not more
    /// of it than there is room.
    ///
    /// # Errors
    ///
    /// When it fails, as for want of memory.
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Option<Filled>>;
}

/// Finds out how much fits by trying.
#[cfg(any(feature = "zstd", feature = "deflate"))]
mod fit {
    use super::Filled;
    use std::io;

    /// Encodes all of an input into a buffer that is large enough.
    pub trait Whole {
        /// How many bytes it becomes.
        fn whole(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize>;
    }

    /// What was learnt from the pieces in front, and buffers.
    #[derive(Default)]
    pub struct Fit {
        last: Option<Filled>,
        tried: Vec<u8>,
        best: Vec<u8>,
    }

    impl Fit {
        /// So many tries at most.
        const TRIES: usize = 8;
        /// A try is good enough when no more than this part of the room is left: filling it takes twice the time, and makes
        /// images one per cent smaller.
        const LEFT: usize = 16;

        /// Forgets what it has learnt.
        pub fn start(&mut self) {
            self.last = None;
        }

        /// As [`Encoder::fill`](super::Encoder::fill).
        pub fn fill(
            &mut self,
            encoder: &mut impl Whole,
            input: &[u8],
            output: &mut [u8],
        ) -> io::Result<Option<Filled>> {
            let room = output.len();
            // The largest that fits, and the smallest that does not.
            let (mut fits, mut exceeds): (Option<Filled>, Option<Filled>) = (None, None);
            let least = room + room / 16;
            let mut next = match self.last {
                Some(last) => proportion(room, last.input, last.output),
                None => least,
            };
            for _ in 0..Self::TRIES {
                next = next.min(input.len());
                let bytes = input.get(..next).unwrap_or_default();
                let size = encoder.whole(bytes, &mut self.tried)?;
                let tried = Filled {
                    input: next,
                    output: size,
                };
                if size > room {
                    exceeds = Some(tried);
                    if next <= least {
                        // What may be won with even less of it is not worth the search.
                        break;
                    }
                } else {
                    std::mem::swap(&mut self.tried, &mut self.best);
                    fits = Some(tried);
                    if next == input.len() || room - size <= room / Self::LEFT {
                        break;
                    }
                }
                next = match (fits, exceeds) {
                    (Some(low), Some(high)) => {
                        if high.input - low.input <= low.input / 512 + 1 {
                            break;
                        }
                        // As if it grew evenly between the two; a little less is more likely to fit.
                        let more = proportion(
                            room - low.output,
                            high.input - low.input,
                            high.output - low.output,
                        );
                        let more = more - more / 64;
                        (low.input + more).clamp(low.input + 1, high.input - 1)
                    }
                    (Some(low), None) => {
                        proportion(room - room / 512, low.input, low.output).max(low.input + 1)
                    }
                    (None, Some(high)) => {
                        let less = proportion(room - room / 64, high.input, high.output);
                        less.min(high.input - 1).max(least)
                    }
                    (None, None) => break,
                };
            }
            let Some(filled) = fits else {
                self.last = None;
                return Ok(None);
            };
            self.last = Some(filled);
            let bytes = self.best.get(..filled.output).unwrap_or_default();
            if let Some(place) = output.get_mut(..filled.output) {
                place.copy_from_slice(bytes);
            }
            Ok(Some(filled))
        }
    }

    fn proportion(of: usize, times: usize, by: usize) -> usize {
        (of as u64 * times as u64 / by.max(1) as u64) as usize
    }
}

#[cfg(feature = "lz4")]
mod lz4 {
    use super::Encoder;
    use super::Filled;
    use std::io;

    /// The level of lz4hc if none is given.
    pub const DEFAULT_LEVEL: u32 = 9;

    /// How much of the input the encoder is shown. It goes on through data that cannot be compressed until
    /// something repeats, however little there is room for; and has a better table for small inputs.
    struct Window(Option<usize>);

    impl Window {
        fn fill(
            &mut self,
            input: &[u8],
            output: &mut [u8],
            mut encode: impl FnMut(&[u8], &mut [u8]) -> lzzzz::Result<(usize, usize)>,
        ) -> io::Result<Option<Filled>> {
            let room = output.len();
            let least = room + room / 4;
            let mut window = self.0.unwrap_or(4 * room).max(least);
            loop {
                let bytes = input.get(..window).unwrap_or(input);
                let (taken, size) = encode(bytes, output).map_err(io::Error::other)?;
                if taken == bytes.len() && taken < input.len() {
                    window = window.saturating_mul(4);
                    continue;
                }
                self.0 = Some(2 * taken);
                return Ok((taken > room || taken == input.len()).then_some(Filled {
                    input: taken,
                    output: size,
                }));
            }
        }
    }

    pub struct Fast {
        window: Window,
    }

    impl Fast {
        pub fn new() -> Self {
            Fast {
                window: Window(None),
            }
        }
    }

    impl Encoder for Fast {
        fn start(&mut self) {
            self.window = Window(None);
        }

        fn fill(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Option<Filled>> {
            self.window.fill(input, output, lzzzz::lz4::compress_fill)
        }
    }

    pub struct Thorough {
        window: Window,
        level: i32,
        stream: lzzzz::lz4_hc::Compressor<'static>,
    }

    impl Thorough {
        pub fn new(level: i32) -> Result<Self, String> {
            let stream = lzzzz::lz4_hc::Compressor::new();
            Ok(Thorough {
                window: Window(None),
                level,
                stream: stream.map_err(|error| format!("lz4hc: {error}"))?,
            })
        }
    }

    impl Encoder for Thorough {
        fn start(&mut self) {
            self.window = Window(None);
        }

        fn fill(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Option<Filled>> {
            let Thorough {
                window,
                level,
                stream,
            } = self;
            window.fill(input, output, |input, output| {
                // The stream forgets what was before, without clearing its tables, which takes longer than many a cluster.
                stream.attach_dict(None, *level);
                stream.next_fill(input, output)
            })
        }
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use super::Encoder;
    use super::Filled;
    use super::fit::Fit;
    use super::fit::Whole;
    use std::io;
    use zstd::zstd_safe;
    use zstd_safe::CCtx;
    use zstd_safe::CParameter;

    pub struct Zstd {
        fit: Fit,
        context: Context,
    }

    struct Context(CCtx<'static>);

    fn message(code: usize) -> String {
        format!("zstd: {}", zstd_safe::get_error_name(code))
    }

    impl Zstd {
        pub fn new(level: i32, window: u32) -> Result<Self, String> {
            let mut context = CCtx::try_create().ok_or("zstd: no memory")?;
            for parameter in [
                CParameter::CompressionLevel(level),
                CParameter::WindowLog(window.max(1).ilog2()),
            ] {
                context.set_parameter(parameter).map_err(message)?;
            }
            Ok(Zstd {
                fit: Fit::default(),
                context: Context(context),
            })
        }
    }

    impl Whole for Context {
        fn whole(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
            let bound = zstd_safe::compress_bound(input.len());
            if output.len() < bound {
                output.resize(bound, 0);
            }
            let result = self.0.compress2(output.as_mut_slice(), input);
            result.map_err(|code| io::Error::other(message(code)))
        }
    }

    impl Encoder for Zstd {
        fn start(&mut self) {
            self.fit.start();
        }

        fn fill(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Option<Filled>> {
            self.fit.fill(&mut self.context, input, output)
        }
    }
}

#[cfg(feature = "deflate")]
mod deflate {
    use super::Encoder;
    use super::Filled;
    use super::fit::Fit;
    use super::fit::Whole;
    use libdeflater::CompressionLvl;
    use libdeflater::Compressor;
    use std::io;

    pub struct Deflate {
        fit: Fit,
        compressor: Whole1,
    }

    struct Whole1(Compressor);

    impl Deflate {
        pub fn new(level: u32) -> Self {
            let level = CompressionLvl::new(level as i32).unwrap_or_default();
            Deflate {
                fit: Fit::default(),
                compressor: Whole1(Compressor::new(level)),
            }
        }
    }

    impl Whole for Whole1 {
        fn whole(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
            let bound = self.0.deflate_compress_bound(input.len());
            if output.len() < bound {
                output.resize(bound, 0);
            }
            let result = self.0.deflate_compress(input, output);
            result.map_err(io::Error::other)
        }
    }

    impl Encoder for Deflate {
        fn start(&mut self) {
            self.fit.start();
        }

        fn fill(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Option<Filled>> {
            let filled = self.fit.fill(&mut self.compressor, input, output)?;
            if let Some(first @ 0) = output.first_mut() {
                // A reader finds the start by the first byte that is not zero. That of a stored block which is not the last
                // one has bits that nobody looks at.
                *first = 1 << 3;
            }
            Ok(filled)
        }
    }
}

#[cfg(feature = "lzma")]
mod lzma {
    use super::Encoder;
    use super::Filled;
    use std::io;

    pub struct Lzma(pub erofs_microlzma::Encoder);

    impl Encoder for Lzma {
        fn fill(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<Option<Filled>> {
            let (input, output) = self.0.fill(input, output).map_err(io::Error::other)?;
            Ok(Some(Filled { input, output }))
        }
    }
}
