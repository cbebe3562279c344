// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests of the decoders: what encoders in userspace (zlib, zstd, liblzma; LZ4 by hand) made of one text, whole, in part,
//! damaged and cut off.

use crate::decompress::Algorithm;
use crate::decompress::Decoders;
use crate::decompress::Extent;
use crate::decompress::Failure;
use kernel::prelude::*;

#[kunit_tests(ferofs_decoders)]
mod tests {
    use super::*;

    /// What is encoded, [`TIMES`] times.
    const TEXT: &[u8] = b"one two three ";
    const TIMES: usize = 20;

    const LZ4: &[u8] = &[
        0xef, 0x6f, 0x6e, 0x65, 0x20, 0x74, 0x77, 0x6f, 0x20, 0x74, 0x68, 0x72, 0x65, 0x65, 0x20,
        0x0e, 0x00, 0xf1, 0x60, 0x74, 0x68, 0x72, 0x65, 0x65, 0x20,
    ];
    const DEFLATE: &[u8] = &[
        0xcb, 0xcf, 0x4b, 0x55, 0x28, 0x29, 0xcf, 0x57, 0x28, 0xc9, 0x28, 0x4a, 0x4d, 0x55, 0xc8,
        0x1f, 0xe5, 0x41, 0x79, 0x00,
    ];
    const ZSTD: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x18, 0x00, 0xad, 0x00, 0x00, 0x70, 0x6f, 0x6e, 0x65, 0x20,
        0x74, 0x77, 0x6f, 0x20, 0x74, 0x68, 0x72, 0x65, 0x65, 0x20, 0x01, 0x00, 0x07, 0xa1, 0x4e,
        0x25,
    ];
    const LZMA: &[u8] = &[
        0xa2, 0x37, 0x9b, 0x88, 0xce, 0x76, 0xe2, 0xf4, 0xe3, 0x65, 0xde, 0xfd, 0x21, 0x54, 0x79,
        0x39, 0x94, 0x1c, 0x7a, 0x60, 0x00,
    ];

    const ALL: [(Algorithm, &[u8]); 4] = [
        (Algorithm::Lz4, LZ4),
        (Algorithm::Deflate, DEFLATE),
        (Algorithm::Zstd, ZSTD),
        (Algorithm::Lzma, LZMA),
    ];

    fn text() -> Result<KVec<u8>> {
        let mut text = KVec::new();
        for _ in 0..TIMES {
            text.extend_from_slice(TEXT, GFP_KERNEL)?;
        }
        Ok(text)
    }

    /// Calls `f` with each algorithm that there is, what it encoded, and room for the text.
    fn for_each(mut f: impl FnMut(&Decoders, Algorithm, &[u8], &mut KVec<u8>) -> Result) -> Result {
        let decoders = Decoders::new(Algorithm::is_there, 1 << 20)?;
        for (algorithm, encoded) in ALL {
            if algorithm.is_there() {
                let mut room = KVec::from_elem(0u8, TEXT.len() * TIMES, GFP_KERNEL)?;
                f(&decoders, algorithm, encoded, &mut room)?;
            }
        }
        Ok(())
    }

    fn is_corrupt(result: core::result::Result<(), Failure>) -> bool {
        matches!(result, Err(Failure::Corrupt(_)))
    }

    #[test]
    fn decode_all() -> Result {
        let text = text()?;
        for_each(|decoders, algorithm, encoded, room| {
            let result = decoders.decode(algorithm, encoded, room, Extent::Whole);
            assert!(result.is_ok());
            assert!(**room == *text);
            Ok(())
        })
    }

    #[test]
    fn decode_the_start() -> Result {
        let text = text()?;
        for_each(|decoders, algorithm, encoded, room| {
            for len in [1, 13, 14, 15, 100, 279, 280] {
                room.truncate(0);
                room.resize(len, 0, GFP_KERNEL)?;
                let result = decoders.decode(algorithm, encoded, room, Extent::Start);
                assert!(result.is_ok());
                assert!(text.starts_with(room));
            }
            Ok(())
        })
    }

    #[test]
    fn refuse_other_lengths() -> Result {
        for_each(|decoders, algorithm, encoded, room| {
            room.truncate(279);
            assert!(is_corrupt(decoders.decode(
                algorithm,
                encoded,
                room,
                Extent::Whole
            )));
            room.resize(281, 0, GFP_KERNEL)?;
            for extent in [Extent::Whole, Extent::Start] {
                assert!(is_corrupt(
                    decoders.decode(algorithm, encoded, room, extent)
                ));
            }
            Ok(())
        })
    }

    #[test]
    fn refuse_what_is_cut_off() -> Result {
        for_each(|decoders, algorithm, encoded, room| {
            for len in 0..encoded.len().saturating_sub(1) {
                let cut = encoded.get(..len).unwrap_or_default();
                assert!(is_corrupt(decoders.decode(
                    algorithm,
                    cut,
                    room,
                    Extent::Whole
                )));
            }
            Ok(())
        })
    }

    /// Whatever is decoded of damaged bytes, it stays within its bounds, which the sanitizers of a debug kernel see, and has
    /// nothing of what was in its place before.
    #[test]
    fn survive_damage() -> Result {
        for_each(|decoders, algorithm, encoded, room| {
            let mut other = KVec::from_elem(0u8, room.len(), GFP_KERNEL)?;
            for bit in 0..encoded.len() * 8 {
                let mut damaged = KVec::new();
                damaged.extend_from_slice(encoded, GFP_KERNEL)?;
                if let Some(byte) = damaged.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                for extent in [Extent::Whole, Extent::Start] {
                    room.fill(0xaa);
                    other.fill(0x55);
                    let first = decoders.decode(algorithm, &damaged, room, extent);
                    let second = decoders.decode(algorithm, &damaged, &mut other, extent);
                    assert!(first.is_ok() == second.is_ok());
                    assert!(first.is_err() || **room == *other);
                }
            }
            Ok(())
        })
    }

    #[test]
    fn have_nothing_of_before_for_a_match_with_itself() -> Result {
        // A letter, a match of 69 bytes that begins 0 bytes back, and five letters.
        const SELF: &[u8] = b"\x1fa\0\0\x32\x50bcdef";
        let decoders = Decoders::new(Algorithm::is_there, 0)?;
        for (len, extent) in [
            (1 + 69 + 5, Extent::Whole),
            (1 + 69 + 5, Extent::Start),
            (30, Extent::Start),
        ] {
            if !Algorithm::Lz4.is_there() {
                break;
            }
            let mut room = KVec::from_elem(0xaau8, len, GFP_KERNEL)?;
            let result = decoders.decode(Algorithm::Lz4, SELF, &mut room, extent);
            assert!(result.is_ok());
            assert!(room.first() == Some(&b'a'));
            assert!(!room.contains(&0xaa));
        }
        Ok(())
    }
}
