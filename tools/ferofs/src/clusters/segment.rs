// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Encodes one segment of a file, without looking at any other one.

use super::codec::Encoder;
use super::codec::Filled;
use erofs_format::compressed::PCLUSTER_MAX_DECODED_SIZE;
use erofs_format::ondisk::INODE_SLOT_SIZE;
use std::io;

/// How segments of a file are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Size of a block, and of a logical cluster.
    pub block: usize,
    /// Largest size of a physical cluster.
    pub cluster: usize,
    /// What may become of the end of the file.
    pub end: MayEnd,
    /// Whether plain data is as far into a block as it is in the file.
    pub interlaced: bool,
}

/// What may become of the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayEnd {
    /// It is in blocks.
    Blocks,
    /// It is inline if it is small.
    Inline,
    /// It is a fragment if it is small.
    Fragment,
}

/// A part of a segment, and how many blocks it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub length: u32,
    pub blocks: u16,
    pub encoded: bool,
}

/// What is left of the last segment, in no block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    #[default]
    None,
    /// So many bytes, which became these, encoded or not.
    Inline {
        length: u32,
        bytes: Vec<u8>,
        encoded: bool,
    },
    /// So many bytes, as they are.
    Fragment(u32),
}

/// An encoded segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub pieces: Vec<Piece>,
    /// The blocks of all pieces.
    pub bytes: Vec<u8>,
    pub rest: Rest,
}

/// Encodes the bytes of a segment, which starts at a multiple of the block size in its file; it is the `last` one, or its
/// size is such a multiple, too.
pub fn encode(
    encoder: &mut dyn Encoder,
    shape: &Shape,
    input: &[u8],
    last: bool,
) -> io::Result<Segment> {
    encoder.start();
    let block = shape.block;
    // Inodes start at multiples of their slots' size, and what lies behind one must fit a block for some of these.
    let inline = block - INODE_SLOT_SIZE as usize;
    let may_end = match last {
        true => shape.end,
        false => MayEnd::Blocks,
    };
    let mut segment = Segment::default();
    let mut buffer = vec![0; shape.cluster];
    let mut second = Vec::new();
    let mut pos = 0;
    while let Some(rest @ [_, ..]) = input.get(pos..) {
        if may_end == MayEnd::Fragment && rest.len() <= shape.cluster {
            segment.rest = Rest::Fragment(rest.len() as u32);
            break;
        }
        if may_end != MayEnd::Inline && rest.len() <= block {
            pos += segment.plain(shape, input, pos, rest.len());
            continue;
        }
        let most = rest.len().min(PCLUSTER_MAX_DECODED_SIZE as usize);
        let window = rest.get(..most).unwrap_or_default();
        let filled = encoder.fill(window, &mut buffer)?;
        let all = filled.filter(|filled| filled.input == rest.len());
        match (may_end, all) {
            (MayEnd::Fragment, Some(filled)) if filled.output < shape.cluster => {
                segment.rest = Rest::Fragment(filled.input as u32);
                break;
            }
            (MayEnd::Inline, Some(filled))
                if filled.output <= inline && filled.output < filled.input =>
            {
                let bytes = buffer.get(..filled.output).unwrap_or_default();
                segment.rest = Rest::Inline {
                    length: filled.input as u32,
                    bytes: bytes.to_vec(),
                    encoded: true,
                };
                break;
            }
            (MayEnd::Inline, _) if rest.len() <= inline => {
                segment.rest = Rest::Inline {
                    length: rest.len() as u32,
                    bytes: rest.to_vec(),
                    encoded: false,
                };
                break;
            }
            _ => {}
        }
        let gained = filled.filter(|filled| filled.output.next_multiple_of(block) < filled.input);
        let Some(mut filled) = gained else {
            let length = rest.len().min(shape.cluster);
            let end = pos + length;
            while pos < end {
                pos += segment.plain(shape, input, pos, block.min(end - pos));
            }
            continue;
        };
        if may_end == MayEnd::Inline && filled.input == rest.len() {
            // What does not fill a block is better off inline, if it is worth it.
            second.resize(shape.cluster, 0);
            if let Some(less) = whole_blocks(encoder, block, rest, filled, &mut second)? {
                filled = less;
                std::mem::swap(&mut buffer, &mut second);
            }
        }
        let size = filled.output.next_multiple_of(block);
        let zeros = size - filled.output;
        segment.bytes.resize(segment.bytes.len() + zeros, 0);
        let bytes = buffer.get(..filled.output).unwrap_or_default();
        segment.bytes.extend_from_slice(bytes);
        segment.pieces.push(Piece {
            length: filled.input as u32,
            blocks: (size / block) as u16,
            encoded: true,
        });
        pos += filled.input;
    }
    Ok(segment)
}

/// Encodes only as much as fills whole blocks, if what is left then is less than what does not fill a block now.
fn whole_blocks(
    encoder: &mut dyn Encoder,
    block: usize,
    rest: &[u8],
    filled: Filled,
    buffer: &mut [u8],
) -> io::Result<Option<Filled>> {
    let size = filled.output - filled.output % block;
    if size == 0 || size == filled.output {
        return Ok(None);
    }
    let Some(room) = buffer.get_mut(..size) else {
        return Ok(None);
    };
    let less = encoder.fill(rest, room)?;
    let worth = |less: &Filled| {
        let left = rest.len() - less.input;
        left > 0 && less.input > size && less.output + left < filled.output.next_multiple_of(block)
    };
    Ok(less.filter(worth))
}

impl Segment {
    /// Stores so many bytes, at most a block of them, as they are.
    fn plain(&mut self, shape: &Shape, input: &[u8], pos: usize, length: usize) -> usize {
        let bytes = input.get(pos..pos + length).unwrap_or_default();
        let start = self.bytes.len();
        let skip = match shape.interlaced {
            true => pos % shape.block,
            false => 0,
        };
        self.bytes.resize(start + shape.block, 0);
        let (first, second) = bytes.split_at(length.min(shape.block - skip));
        for (at, part) in [(skip, first), (0, second)] {
            if let Some(place) = self.bytes.get_mut(start + at..start + at + part.len()) {
                place.copy_from_slice(part);
            }
        }
        self.pieces.push(Piece {
            length: length as u32,
            blocks: 1,
            encoded: false,
        });
        length
    }
}

#[cfg(all(
    test,
    feature = "lz4",
    feature = "zstd",
    feature = "deflate",
    feature = "lzma"
))]
mod tests {
    use super::super::codec::Algorithm;
    use super::*;
    use erofs_format::compressed::algorithm;

    /// Data of all kinds, one behind the other: what repeats near and far, what does not, and one byte only.
    fn data(len: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let kind = state >> 28;
            for at in 0..1000 + (state >> 18) {
                match kind {
                    0..6 => bytes.extend(format!("{} ", (at ^ state) % 977).into_bytes()),
                    6..10 => {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        bytes.extend((state >> 16).to_le_bytes());
                    }
                    10..13 => bytes.push((at % 251) as u8),
                    _ => bytes.extend([0; 16]),
                }
            }
        }
        bytes.truncate(len);
        bytes
    }

    /// Decodes what was encoded, with the libraries' own decoders.
    fn decode(number: u8, encoded: &[u8], length: usize) -> Vec<u8> {
        let zeros = encoded.iter().take_while(|byte| **byte == 0).count();
        assert!(zeros < 4096);
        let encoded = &encoded[zeros..];
        let mut decoded = vec![0; length];
        match number {
            algorithm::LZ4 => {
                let size = lzzzz::lz4::decompress(encoded, &mut decoded).unwrap();
                assert_eq!(size, length);
            }
            algorithm::ZSTD => {
                let size = zstd::bulk::decompress_to_buffer(encoded, &mut decoded).unwrap();
                assert_eq!(size, length);
            }
            algorithm::DEFLATE => {
                let mut decompressor = libdeflater::Decompressor::new();
                let size = decompressor.deflate_decompress(encoded, &mut decoded);
                assert_eq!(size.unwrap(), length);
            }
            _ => erofs_microlzma::decode(encoded, &mut decoded, 8 << 20).unwrap(),
        }
        decoded
    }

    #[test]
    fn a_segment_is_decoded_to_what_it_was() {
        let input = data(300_000);
        for name in ["lz4", "lz4hc", "zstd", "deflate", "lzma,0"] {
            let with = Algorithm::parse(name).unwrap();
            for (block, cluster) in [(4096, 4096), (4096, 65536), (512, 4096), (1024, 1024)] {
                let mut encoder = with.encoder(cluster as u32).unwrap();
                for (end, interlaced) in [
                    (MayEnd::Blocks, false),
                    (MayEnd::Blocks, true),
                    (MayEnd::Inline, false),
                    (MayEnd::Fragment, true),
                ] {
                    let shape = Shape {
                        block,
                        cluster,
                        end,
                        interlaced,
                    };
                    for size in [1, 100, block - 1, block, block + 1, 70_000, 300_000] {
                        let input = &input[input.len() - size..];
                        let segment = encode(encoder.as_mut(), &shape, input, true).unwrap();
                        let context = format!("{name} {shape:?} {size}");
                        let again = encode(encoder.as_mut(), &shape, input, true).unwrap();
                        assert!(again == segment, "{context}");
                        check(&segment, &shape, with.number(), input, &context);
                    }
                }
            }
        }
    }

    fn check(segment: &Segment, shape: &Shape, number: u8, input: &[u8], context: &str) {
        let mut bytes = &segment.bytes[..];
        let mut pos = 0;
        for piece in &segment.pieces {
            let (now, rest) = bytes.split_at(usize::from(piece.blocks) * shape.block);
            bytes = rest;
            let length = piece.length as usize;
            let expected = &input[pos..pos + length];
            assert!(now.len() <= shape.cluster, "{context}");
            if piece.encoded {
                assert!(length > now.len(), "{context}");
                assert!(decode(number, now, length) == expected, "{context}");
            } else {
                let skip = if shape.interlaced {
                    pos % shape.block
                } else {
                    0
                };
                let plain = now.iter().cycle().skip(skip).take(length);
                assert!(plain.eq(expected), "{context}");
            }
            pos += length;
            // There is one index for each logical cluster, so it can have only one start.
            assert!(
                length >= shape.block || pos == input.len() || pos % shape.block == 0,
                "{context}"
            );
        }
        assert!(bytes.is_empty(), "{context}");
        match &segment.rest {
            Rest::None => {}
            Rest::Inline {
                length,
                bytes,
                encoded,
            } => {
                assert_eq!(shape.end, MayEnd::Inline, "{context}");
                assert!(bytes.len() <= shape.block - 32, "{context}");
                let decoded = match encoded {
                    true => decode(number, bytes, *length as usize),
                    false => bytes.clone(),
                };
                assert!(decoded == input[pos..], "{context}");
                pos += *length as usize;
            }
            Rest::Fragment(length) => {
                assert_eq!(shape.end, MayEnd::Fragment, "{context}");
                pos += *length as usize;
            }
        }
        assert_eq!(pos, input.len(), "{context}");
    }
}
