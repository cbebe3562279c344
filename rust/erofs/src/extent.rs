// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where a file's data is: from an offset in a file to a run of bytes in a device. Called for every
//! read that the page cache does not answer.

use super::error::{Corrupt, Error, Result, Wrong};
use super::inode::{entry_size, tail_offset, Inode, Layout, ADDRESS_48BIT};
use super::metadata::{Cursor, Metadata, Space};
use super::ondisk;
use super::superblock::{Superblock, POSITION_MAX};
use zerocopy::byteorder::little_endian::U32;
use zerocopy::FromBytes;

/// Where the bytes of an [`Extent`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: they are zeros.
    Hole,
    /// In a device.
    Device {
        /// 0 for the image itself, n for slot n - 1 of the device table. There is such a slot.
        id: u16,
        /// Offset in the device, in bytes. The end of the extent, too, fits an `i64`; whether the
        /// device is that long is for the caller to see.
        pos: u64,
    },
    /// In the image's metadata, behind the inode.
    Metadata {
        /// Offset in the space that the inode is in, in bytes. The extent is within one block.
        pos: u64,
        /// That space: the image, or the metabox.
        space: Space,
    },
    /// In physical clusters: see [`Inode::clusters`].
    Clusters {
        /// The inode whose they are.
        nid: u64,
        /// Offset in what they decode to, which is that in the file.
        pos: u64,
    },
}

/// A run of a file's bytes that are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts in the file, in bytes.
    pub start: u64,
    /// How long it is, in bytes. It ends within the file.
    pub len: u64,
    /// Where its bytes are.
    pub source: Source,
}

impl Source {
    /// The space and the position in it, unless the bytes are nowhere.
    #[must_use]
    pub fn place(&self) -> Option<(Space, u64)> {
        match *self {
            Self::Hole => None,
            Self::Device { id, pos } => Some((Space::Device(id), pos)),
            Self::Metadata { pos, space } => Some((space, pos)),
            Self::Clusters { nid, pos } => Some((Space::Inode(nid), pos)),
        }
    }
}

impl Extent {
    /// Where the byte at `offset` of the file is, and those behind it: this extent without what is
    /// before `offset`.
    #[must_use]
    pub fn skip_to(&self, offset: u64) -> Self {
        let skip = offset.saturating_sub(self.start).min(self.len);
        Self {
            // Neither wraps: a position and a part of the length behind it.
            start: self.start.wrapping_add(skip),
            len: self.len.wrapping_sub(skip),
            source: match self.source {
                Source::Hole => Source::Hole,
                Source::Device { id, pos } => Source::Device {
                    id,
                    pos: pos.wrapping_add(skip),
                },
                Source::Metadata { pos, space } => Source::Metadata {
                    pos: pos.wrapping_add(skip),
                    space,
                },
                Source::Clusters { nid, pos } => Source::Clusters {
                    nid,
                    pos: pos.wrapping_add(skip),
                },
            },
        }
    }
}

/// One call looks at the chunk table up to the next multiple of this position, so that the answer
/// does not depend on how many bytes the metadata's source gives at once.
const TABLE_WINDOW: u64 = 4096;

impl Inode {
    /// The extent that holds the byte at `offset`, which is less than the file's size. It may start
    /// before `offset`; see [`Extent::skip_to`]. Chunks that follow each other in one device are
    /// one extent, as far as one look at the chunk table shows (512 indexes).
    ///
    /// At and beyond the end of the file the answer is an empty hole.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if the chunk's address is out of range, or it names a device that is
    ///   not in the device table.
    /// - [`Error::Io`] if the metadata cannot be read. Only chunks need any.
    pub fn extent<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        offset: u64,
    ) -> Result<Extent, M::Error> {
        let size = self.size();
        if offset >= size {
            return Ok(Extent {
                start: offset,
                len: 0,
                source: Source::Hole,
            });
        }
        let whole = |source| Extent {
            start: 0,
            len: size,
            source,
        };
        match self.layout() {
            Layout::Hole => Ok(whole(Source::Hole)),
            Layout::Compressed { .. } => Ok(whole(Source::Clusters {
                nid: self.nid(),
                pos: 0,
            })),
            Layout::Plain { start } => Ok(whole(Source::Device { id: 0, pos: start })),
            Layout::Inline { start, tail } => {
                let tail_offset = tail_offset(sb, size);
                Ok(if offset < tail_offset {
                    Extent {
                        start: 0,
                        len: tail_offset,
                        source: Source::Device { id: 0, pos: start },
                    }
                } else {
                    Extent {
                        start: tail_offset,
                        len: size.wrapping_sub(tail_offset),
                        source: Source::Metadata {
                            pos: tail,
                            space: self.space(),
                        },
                    }
                })
            }
            Layout::Chunks {
                table,
                chunk_bits,
                indexes,
                wide,
            } => {
                let chunk = offset.wrapping_shr(u32::from(chunk_bits));
                // The table is within the image, and the chunk within the table.
                let at = table.wrapping_add(chunk.wrapping_mul(entry_size(indexes)));
                let bytes = meta.bytes(self.space(), at).map_err(Error::Io)?;
                let window = TABLE_WINDOW.wrapping_sub(at % TABLE_WINDOW) as usize;
                let entries = bytes.get(..window).unwrap_or(&bytes);
                let run = Run {
                    start: chunk.wrapping_shl(u32::from(chunk_bits)),
                    end: size,
                    chunk_size: 1u64.wrapping_shl(u32::from(chunk_bits)),
                    at,
                };
                let extent =
                    if indexes {
                        let mask = if wide {
                            ADDRESS_48BIT
                        } else {
                            u64::from(u32::MAX)
                        };
                        run.merge(entries.chunks_exact(size_of::<ondisk::ChunkIndex>()).map(
                            |entry| match ondisk::ChunkIndex::read_from_bytes(entry) {
                                Ok(index) => sb.chunk_source(&index, mask),
                                Err(_) => Err(CUT_OFF),
                            },
                        ))
                    } else {
                        run.merge(entries.chunks_exact(size_of::<U32>()).map(|entry| {
                            match U32::read_from_bytes(entry) {
                                Ok(block) => sb.block_source(block.get()),
                                Err(_) => Err(CUT_OFF),
                            }
                        }))
                    };
                Ok(extent?)
            }
        }
    }

    /// Gives the file's bytes from `offset` on, `len` of them, to `take`, piece by piece, until it
    /// returns false. Returns whether it never did. If there is a hole, or the device ends before, that is
    /// [`Error::Corrupt`].
    pub(super) fn pieces<M: Metadata>(
        &self,
        sb: &Superblock,
        cursor: &mut Cursor<'_, M>,
        offset: u64,
        len: usize,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, M::Error> {
        let mut offset = offset;
        let mut left = len;
        while left > 0 {
            let extent = self.extent(sb, cursor.meta(), offset)?.skip_to(offset);
            let len = usize::try_from(extent.len).unwrap_or(usize::MAX).min(left);
            let Some((space, pos)) = extent.source.place() else {
                let what = if extent.len > 0 {
                    "inode's data has a hole"
                } else {
                    "inode's data is too short"
                };
                return Err(Error::corrupt(what, self.pos()));
            };
            let what = "data ends beyond its device";
            if !cursor.enter(space).pieces(pos, len, what, &mut take)? {
                return Ok(false);
            }
            // Within the extent, and so within the file.
            offset = offset.wrapping_add(len as u64);
            left = left.wrapping_sub(len);
        }
        Ok(true)
    }
}

const CUT_OFF: Wrong = "inode's chunk table is cut off";

/// A run of chunks being put together.
struct Run {
    /// Where the first chunk starts in the file.
    start: u64,
    /// Where the file ends, beyond `start`.
    end: u64,
    /// Size of a chunk; at most 2^47.
    chunk_size: u64,
    /// Where the first chunk's entry is in the image.
    at: u64,
}

impl Run {
    /// Takes as many of `sources`, one for each chunk, as follow each other; at least one.
    #[inline]
    fn merge(
        &self,
        mut sources: impl Iterator<Item = core::result::Result<Source, Wrong>>,
    ) -> core::result::Result<Extent, Corrupt> {
        let corrupt = |what| Corrupt::new(what, self.at);
        let source = sources.next().unwrap_or(Err(CUT_OFF)).map_err(corrupt)?;
        // The end of the file is beyond the start of the chunk.
        let rest = self.end.wrapping_sub(self.start);
        let mut len = self.chunk_size;
        while len < rest {
            // A wrong chunk ends the run; its turn will come.
            let Some(Ok(next)) = sources.next() else {
                break;
            };
            let follows = match (source, next) {
                (Source::Hole, Source::Hole) => true,
                (
                    Source::Device { id, pos },
                    Source::Device {
                        id: next_id,
                        pos: next_pos,
                    },
                ) => id == next_id && pos.wrapping_add(len) == next_pos,
                _ => false,
            };
            if !follows {
                break;
            }
            len = len.wrapping_add(self.chunk_size);
        }
        let len = len.min(rest);
        if let Source::Device { pos, .. } = source {
            if pos.checked_add(len).is_none_or(|end| end > POSITION_MAX) {
                return Err(corrupt("chunk's address is out of range"));
            }
        }
        Ok(Extent {
            start: self.start,
            len,
            source,
        })
    }
}

impl Superblock {
    /// Where a chunk of a block map is.
    fn block_source(&self, block: u32) -> core::result::Result<Source, Wrong> {
        if block == ondisk::NULL_ADDRESS {
            return Ok(Source::Hole);
        }
        Ok(Source::Device {
            id: 0,
            pos: u64::from(block).wrapping_mul(u64::from(self.block_size())),
        })
    }

    /// Where the chunk of an index is. Only the bits of `mask` count in its address.
    fn chunk_source(
        &self,
        index: &ondisk::ChunkIndex,
        mask: u64,
    ) -> core::result::Result<Source, Wrong> {
        let block = ((u64::from(index.startblk_hi.get()) << 32)
            | u64::from(index.startblk_lo.get()))
            & mask;
        if block == mask {
            return Ok(Source::Hole);
        }
        // Device ids have as many bits as the number of devices needs; the others are free.
        let id = index.device_id.get() & self.device_id_mask();
        if id > self.device_count() {
            return Err("chunk names a device that is not in the device table");
        }
        match self.block_pos(block) {
            Some(pos) => Ok(Source::Device { id, pos }),
            None => Err("chunk's address is out of range"),
        }
    }
}
