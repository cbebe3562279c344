// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From the bytes of a physical cluster to those of its extent: the decoders, which are other people's crates, and what the
//! format wants of them. Called for every cluster that is read, and by the check for every one that there is.
//!
//! The module in the kernel decodes by the same rules: see [`decode`].

use erofs_format::Algorithm;
use erofs_format::Compression;
use std::fmt;

/// Why bytes do not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// There is nothing but zeros where they begin.
    Zeros,
    /// They decode to less than the extent has.
    Short,
    /// They decode to more than the extent has, or end before their last byte.
    Long,
    /// They are not what the algorithm makes.
    Corrupt(String),
    /// This program was built without the algorithm.
    NotBuiltIn,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Zeros => f.write_str("the first block is nothing but zeros"),
            Problem::Short => f.write_str("they come to less"),
            Problem::Long => f.write_str("they come to more, or end early"),
            Problem::Corrupt(problem) => f.write_str(problem),
            Problem::NotBuiltIn => f.write_str("this program was built without it"),
        }
    }
}

/// Decodes `encoded`, which begins at a position that is so many bytes before the end of a block, into all of `decoded`.
///
/// - Zeros in front of it, within its first block, do not count; there must be something else in that block. LZ4 data of images
///   without padding has none in front, and anything behind it.
/// - If it is `partial` it may come to more, and what is behind the last byte that is needed is not looked at, as far as the
///   decoder allows. Else it must come to exactly as much, and end with its last byte.
///
/// # Errors
///
/// When it does not.
pub fn decode(
    algorithm: Algorithm,
    encoded: &[u8],
    block_left: u64,
    decoded: &mut [u8],
    partial: bool,
    compression: &Compression,
) -> Result<(), Problem> {
    if algorithm == Algorithm::Lz4 && !compression.lz4_is_padded {
        return lz4(encoded, decoded, true);
    }
    let first = usize::try_from(block_left).unwrap_or(usize::MAX);
    let first = encoded.get(..first).unwrap_or(encoded);
    let start = first.iter().position(|byte| *byte != 0);
    let start = start.ok_or(Problem::Zeros)?;
    let encoded = encoded.get(start..).unwrap_or_default();
    match algorithm {
        Algorithm::Lz4 => lz4(encoded, decoded, partial),
        Algorithm::Lzma => lzma(encoded, decoded, partial, compression.lzma_dictionary),
        Algorithm::Deflate => deflate(encoded, decoded, partial),
        Algorithm::Zstd => zstd(encoded, decoded, partial),
    }
}

/// That something came to as many bytes as were expected, or to others.
#[cfg(feature = "lz4")]
fn expect(found: usize, expected: usize) -> Result<(), Problem> {
    match found {
        found if found < expected => Err(Problem::Short),
        found if found > expected => Err(Problem::Long),
        _ => Ok(()),
    }
}

#[cfg(feature = "lz4")]
fn lz4(encoded: &[u8], decoded: &mut [u8], partial: bool) -> Result<(), Problem> {
    use lzzzz::lz4;
    let expected = decoded.len();
    // The decoder takes it, for whatever was in its place.
    if has_match_with_itself(encoded, expected).unwrap_or(false) {
        let problem = "a match begins 0 bytes back";
        return Err(Problem::Corrupt(problem.to_string()));
    }
    let found = match partial {
        true => lz4::decompress_partial(encoded, decoded, expected),
        false => lz4::decompress(encoded, decoded),
    };
    match found {
        Ok(found) => expect(found, expected),
        // It says no more, also of what comes to more.
        Err(_) => Err(Problem::Corrupt(
            "they are no LZ4, or come to more".to_string(),
        )),
    }
}

/// Whether an LZ4 block has a match 0 bytes back before so many bytes are decoded. Nothing if it ends too early to say.
#[cfg(feature = "lz4")]
fn has_match_with_itself(block: &[u8], wanted: usize) -> Option<bool> {
    let mut bytes = block.iter();
    // A length of 15 goes on in the bytes that follow, up to one that is not 255.
    let length = |bytes: &mut std::slice::Iter<'_, u8>, nibble: u8| {
        let mut length = usize::from(nibble);
        let mut last = if nibble == 15 { 255 } else { 0 };
        while last == 255 {
            last = *bytes.next()?;
            length = length.saturating_add(usize::from(last));
        }
        Some(length)
    };
    let mut decoded = 0_usize;
    loop {
        let token = *bytes.next()?;
        let literals = length(&mut bytes, token >> 4)?;
        decoded = decoded.saturating_add(literals);
        if decoded >= wanted {
            return Some(false);
        }
        bytes = bytes.as_slice().get(literals..)?.iter();
        if (*bytes.next()?, *bytes.next()?) == (0, 0) {
            return Some(true);
        }
        let matched = length(&mut bytes, token & 15)?.saturating_add(4);
        decoded = decoded.saturating_add(matched);
    }
}

#[cfg(feature = "lzma")]
fn lzma(encoded: &[u8], decoded: &mut [u8], partial: bool, dictionary: u32) -> Result<(), Problem> {
    let result = match partial {
        true => erofs_microlzma::decode_start(encoded, decoded, dictionary),
        false => erofs_microlzma::decode(encoded, decoded, dictionary),
    };
    result.map_err(|error| Problem::Corrupt(error.to_string()))
}

#[cfg(feature = "deflate")]
fn deflate(encoded: &[u8], decoded: &mut [u8], partial: bool) -> Result<(), Problem> {
    use flate2::Decompress;
    use flate2::FlushDecompress;
    use flate2::Status;
    let mut inflate = Decompress::new(false);
    let status = inflate.decompress(encoded, decoded, FlushDecompress::Finish);
    let status = status.map_err(|error| Problem::Corrupt(error.to_string()))?;
    let (read, written) = (inflate.total_in(), inflate.total_out());
    if written < decoded.len() as u64 {
        return Err(Problem::Short);
    }
    match status {
        _ if partial => Ok(()),
        Status::StreamEnd if read == encoded.len() as u64 => Ok(()),
        _ => Err(Problem::Long),
    }
}

#[cfg(feature = "zstd")]
fn zstd(encoded: &[u8], decoded: &mut [u8], partial: bool) -> Result<(), Problem> {
    use zstd::stream::raw::Decoder;
    use zstd::stream::raw::InBuffer;
    use zstd::stream::raw::Operation;
    use zstd::stream::raw::OutBuffer;
    let corrupt = |error: std::io::Error| Problem::Corrupt(error.to_string());
    let expected = decoded.len();
    let mut decoder = Decoder::new().map_err(corrupt)?;
    let mut input = InBuffer::around(encoded);
    let mut output = OutBuffer::around(decoded);
    loop {
        let before = (input.pos(), output.pos());
        let left = decoder.run(&mut input, &mut output).map_err(corrupt)?;
        let (read, written) = (input.pos(), output.pos());
        if written == expected && (partial || left == 0) {
            return match partial || read == encoded.len() {
                true => Ok(()),
                false => Err(Problem::Long),
            };
        }
        if left == 0 {
            return Err(Problem::Short);
        }
        if before == (read, written) {
            return Err(match written == expected {
                true => Problem::Long,
                false => Problem::Short,
            });
        }
    }
}

#[cfg(not(feature = "lz4"))]
fn lz4(_: &[u8], _: &mut [u8], _: bool) -> Result<(), Problem> {
    Err(Problem::NotBuiltIn)
}

#[cfg(not(feature = "lzma"))]
fn lzma(_: &[u8], _: &mut [u8], _: bool, _: u32) -> Result<(), Problem> {
    Err(Problem::NotBuiltIn)
}

#[cfg(not(feature = "deflate"))]
fn deflate(_: &[u8], _: &mut [u8], _: bool) -> Result<(), Problem> {
    Err(Problem::NotBuiltIn)
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: &[u8], _: &mut [u8], _: bool) -> Result<(), Problem> {
    Err(Problem::NotBuiltIn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const COMPRESSION: Compression = Compression {
        lz4_is_padded: true,
        algorithms: 0xf,
        lz4_max_distance: 65535,
        lz4_pcluster_max: 1 << 20,
        lzma_dictionary: 1 << 16,
        deflate_window_bits: 15,
        zstd_window: 1 << 17,
    };

    /// Words in an order that repeats late.
    fn text(len: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut text = Vec::new();
        while text.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.extend(format!("{} ", (state >> 25) * 7919).into_bytes());
        }
        text.truncate(len);
        text
    }

    /// What encoders that are not ours make of it.
    fn encode(algorithm: Algorithm, text: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        match algorithm {
            Algorithm::Lz4 => {
                let level = lzzzz::lz4::ACC_LEVEL_DEFAULT;
                lzzzz::lz4::compress_to_vec(text, &mut encoded, level).unwrap();
            }
            Algorithm::Lzma => {
                encoded.resize(text.len() + 1024, 0);
                let mut encoder = erofs_microlzma::Encoder::new(6, 1 << 16).unwrap();
                let (taken, filled) = encoder.fill(text, &mut encoded).unwrap();
                assert_eq!(taken, text.len());
                encoded.truncate(filled);
            }
            Algorithm::Deflate => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::DeflateEncoder::new(encoded, level);
                encoder.write_all(text).unwrap();
                encoded = encoder.finish().unwrap();
            }
            Algorithm::Zstd => encoded = zstd::encode_all(text, 3).unwrap(),
        }
        encoded
    }

    fn decoded(
        algorithm: Algorithm,
        encoded: &[u8],
        block_left: u64,
        len: usize,
        partial: bool,
    ) -> Result<Vec<u8>, Problem> {
        let mut found = vec![0; len];
        decode(
            algorithm,
            encoded,
            block_left,
            &mut found,
            partial,
            &COMPRESSION,
        )?;
        Ok(found)
    }

    #[test]
    fn every_algorithm_by_the_same_rules() {
        for algorithm in Algorithm::ALL {
            for len in [1, 20, 4096, 100_000] {
                let text = text(len);
                let name = format!("{} of {len}", algorithm.name());
                let encoded = encode(algorithm, &text);
                let decode =
                    |encoded: &[u8], len, partial| decoded(algorithm, encoded, 4096, len, partial);
                assert_eq!(decode(&encoded, len, false), Ok(text.clone()), "{name}");
                assert_eq!(decode(&encoded, len, true), Ok(text.clone()), "{name}");
                // Zeros are in front of it, but no more than a block.
                let padded = [vec![0; 100], encoded.clone()].concat();
                assert_eq!(decode(&padded, len, false), Ok(text.clone()), "{name}");
                let padded = [vec![0; 4096], encoded.clone()].concat();
                assert_eq!(decode(&padded, len, false), Err(Problem::Zeros), "{name}");
                assert_eq!(
                    decoded(algorithm, &[&[0; 8], &*encoded].concat(), 8, len, false),
                    Err(Problem::Zeros)
                );
                // Another number of bytes.
                assert!(decode(&encoded, len + 1, false).is_err(), "{name}");
                assert!(decode(&encoded, len + 1, true).is_err(), "{name}");
                if len > 1 {
                    assert!(decode(&encoded, len - 1, false).is_err(), "{name}");
                    for part in [1, len / 2, len - 1] {
                        let start = decode(&encoded, part, true);
                        assert_eq!(start, Ok(text[..part].to_vec()), "{name} to {part}");
                    }
                }
                // Something behind it, or too little.
                let longer = [&*encoded, b"xyz"].concat();
                assert!(decode(&longer, len, false).is_err(), "{name}");
                assert!(
                    decode(&encoded[..encoded.len() - 1], len, false).is_err(),
                    "{name}"
                );
            }
            assert_eq!(decoded(algorithm, &[], 4096, 1, false), Err(Problem::Zeros));
        }
    }

    /// Wrong bytes give an error or other bytes, and nothing else. No byte is what was there before.
    #[test]
    fn damage_is_survived() {
        let text = text(9000);
        for algorithm in Algorithm::ALL {
            let encoded = encode(algorithm, &text);
            for at in (0..encoded.len()).step_by(7) {
                for value in [0, 0x7f, 0xff] {
                    let mut wrong = encoded.clone();
                    wrong[at] = value;
                    for partial in [false, true] {
                        assert_decodes_alike(algorithm, &wrong, text.len(), partial);
                    }
                }
            }
        }
    }

    /// Whatever was in the buffer, the same comes out.
    fn assert_decodes_alike(algorithm: Algorithm, encoded: &[u8], len: usize, partial: bool) {
        let [first, second] = [0xaa, 0x55].map(|fill| {
            let mut found = vec![fill; len];
            let result = decode(algorithm, encoded, 4096, &mut found, partial, &COMPRESSION);
            result.map(|()| found)
        });
        assert_eq!(first, second, "{}, partial: {partial}", algorithm.name());
    }

    #[test]
    fn matches_with_themselves_are_refused() {
        // A letter, a match of 69 bytes, a letter, a short match, and more letters.
        let block = |first: u8, second: u8| {
            [
                b"\x1fa",
                &[first, 0, 50][..],
                b"\x10b",
                &[second, 0],
                b"\xe0cdefghijklmnop",
            ]
            .concat()
        };
        let decode =
            |block: &[u8], len, partial| decoded(Algorithm::Lz4, block, 4096, len, partial);
        let sound = decode(&block(1, 7), 89, false).unwrap();
        assert_eq!(
            sound,
            [b"a".repeat(70), b"baaaacdefghijklmnop".to_vec()].concat()
        );
        for (first, second, len, partial, is_taken) in [
            (0, 7, 89, false, false),
            (1, 0, 89, false, false),
            (1, 0, 89, true, false),
            (0, 7, 2, true, false),
            // What is not decoded does not matter.
            (0, 7, 1, true, true),
            (1, 0, 71, true, true),
            (1, 0, 72, true, false),
        ] {
            let found = decode(&block(first, second), len, partial);
            assert_eq!(found.is_ok(), is_taken, "{first}, {second}, {len}");
        }
    }
}
