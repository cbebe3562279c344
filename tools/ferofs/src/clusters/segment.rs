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
