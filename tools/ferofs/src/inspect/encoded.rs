// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What inodes hold that are compressed, or that others lie in (the packed inode, the metabox), as a space of bytes like the
//! image itself: [`ImageFile`] reads it through this file, and so does everything else.
//!
//! Decoded clusters are kept for a while, up to a number of bytes that no image has a say in. What is read leads from a file
//! to the packed inode, and from both to the metabox, and never back: see `fragments_of`.

use super::decode;
use super::file::Bytes;
use super::file::ImageFile;
use super::file::NotGiven;
use crate::error::Kind;
use erofs_format::Cluster;
use erofs_format::Clusters;
use erofs_format::Compression;
use erofs_format::Content;
use erofs_format::Corrupt;
use erofs_format::Encoded;
use erofs_format::Encoding;
use erofs_format::Error;
use erofs_format::Inode;
use erofs_format::Metadata;
use erofs_format::Row;
use erofs_format::Space;
use erofs_format::Superblock;
use erofs_format::ondisk;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;

/// Bytes of decoded clusters that are kept, at most; the one that was decoded last may be more.
const KEPT: usize = 32 << 20;
/// Inodes that are kept.
const INODES: usize = 16;
/// Most bytes of a hole at once.
const ZEROS: usize = 64 << 10;

/// Why what an inode holds cannot be read: something in the image is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The inode, or what says where its clusters are.
    Format(erofs_format::Error<Infallible>),
    /// A cluster.
    Cluster {
        /// The inode.
        nid: u64,
        /// The extent.
        cluster: Cluster,
        /// What is wrong.
        problem: decode::Problem,
    },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Format(error) => error.fmt(f),
            Unreadable::Cluster {
                nid,
                cluster,
                problem,
            } => {
                let (start, end) = (cluster.start, cluster.start.saturating_add(cluster.len));
                write!(f, "bytes {start} to {end} of inode {nid} ")?;
                if let Content::Encoded(encoded) = cluster.content {
                    let name = match encoded.encoding {
                        Encoding::Compressed(algorithm) => algorithm.name(),
                        Encoding::Plain | Encoding::Interlaced => "plain",
                    };
                    write!(
                        f,
                        "cannot be had from the {} bytes of {name} at {}",
                        encoded.len, encoded.pos
                    )?;
                    match encoded.space {
                        Space::Image | Space::Device(0) => {}
                        Space::Device(id) => write!(f, " of device {id}")?,
                        Space::Inode(nid) => write!(f, " of what inode {nid} holds")?,
                    }
                    write!(f, ": ")?;
                }
                problem.fmt(f)
            }
        }
    }
}

impl std::error::Error for Unreadable {}

impl Unreadable {
    /// What the error is about.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Unreadable::Format(Error::Unsupported(_))
            | Unreadable::Cluster {
                problem: decode::Problem::NotBuiltIn,
                ..
            } => Kind::Unsupported,
            Unreadable::Format(_) | Unreadable::Cluster { .. } => Kind::Damaged,
        }
    }

    /// Why reading failed, if it is this.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// The error of what is read from an inode, as one of reading.
fn failed(error: erofs_format::Error<io::Error>) -> io::Error {
    let error: Error<Infallible> = match error {
        // Of something that lies in another inode, perhaps, and says so itself.
        Error::Io(error) => return error,
        Error::NotErofs => Error::NotErofs,
        Error::Corrupt(corrupt) => Error::Corrupt(corrupt),
        Error::Unsupported(feature) => Error::Unsupported(feature),
    };
    io::Error::new(io::ErrorKind::InvalidData, Unreadable::Format(error))
}

fn corrupt(what: &'static str, inode: &Inode) -> io::Error {
    failed(Error::Corrupt(Corrupt {
        what,
        at: inode.pos(),
        space: inode.space(),
    }))
}

/// An inode whose data is read as a space.
struct Opened {
    inode: Inode,
    /// If it is compressed.
    clusters: Option<Clusters>,
    /// How far it was read last, where that makes the next extent easy to find.
    row: Mutex<Row>,
}

/// Clusters that were decoded, by their inodes and where they start.
#[derive(Default)]
struct Decoded {
    clusters: BTreeMap<(u64, u64), Kept>,
    /// How many bytes they have.
    bytes: usize,
    /// Counts what is asked for.
    time: u64,
}

struct Kept {
    bytes: Arc<[u8]>,
    used: u64,
}

impl Decoded {
    /// The cluster that has a byte of an inode, and how far into it that is.
    fn find(&mut self, nid: u64, pos: u64) -> Option<Bytes> {
        self.time += 1;
        let ((_, start), kept) = self.clusters.range_mut((nid, 0)..=(nid, pos)).next_back()?;
        let within = usize::try_from(pos - start).ok()?;
        if within >= kept.bytes.len() {
            return None;
        }
        kept.used = self.time;
        Some(Bytes::new(Arc::clone(&kept.bytes), within, usize::MAX))
    }

    /// Keeps one more, and lets go of those that were not asked for in longest.
    fn keep(&mut self, nid: u64, start: u64, bytes: &Arc<[u8]>) {
        while !self.clusters.is_empty() && self.bytes.saturating_add(bytes.len()) > KEPT {
            let oldest = self.clusters.iter().min_by_key(|(_, kept)| kept.used);
            let Some((place, _)) = oldest.map(|(place, kept)| (*place, kept.used)) else {
                break;
            };
            if let Some(gone) = self.clusters.remove(&place) {
                self.bytes -= gone.bytes.len();
            }
        }
        let used = self.time;
        self.bytes += bytes.len();
        let bytes = Arc::clone(bytes);
        if let Some(before) = self.clusters.insert((nid, start), Kept { bytes, used }) {
            self.bytes -= before.bytes.len();
        }
    }
}

/// What is known of inodes that are read as spaces.
#[derive(Default)]
pub(super) struct Spaces {
    superblock: OnceLock<Superblock>,
    compression: OnceLock<Compression>,
    opened: Mutex<VecDeque<Arc<Opened>>>,
    decoded: Mutex<Decoded>,
    zeros: OnceLock<Arc<[u8]>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spaces {
    /// Says by what superblock inodes are found.
    pub(super) fn set_superblock(&self, superblock: Superblock) {
        self.superblock.get_or_init(|| superblock);
    }

    /// Forgets all that was read.
    pub(super) fn forget(&self) {
        lock(&self.opened).clear();
        *lock(&self.decoded) = Decoded::default();
    }

    fn zeros(&self, len: u64) -> Bytes {
        let zeros = self.zeros.get_or_init(|| vec![0; ZEROS].into());
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Bytes::new(Arc::clone(zeros), 0, len)
    }
}

impl ImageFile {
    fn superblock(&self) -> io::Result<&Superblock> {
        let none = || io::Error::other("its superblock was not read");
        self.spaces.superblock.get().ok_or_else(none)
    }

    fn opened(&self, nid: u64) -> io::Result<Arc<Opened>> {
        let mut opened = lock(&self.spaces.opened);
        let found = opened.iter().position(|opened| opened.inode.nid() == nid);
        if let Some(found) = found.and_then(|index| opened.remove(index)) {
            opened.push_front(Arc::clone(&found));
            return Ok(found);
        }
        // Others are read for it.
        drop(opened);
        let superblock = self.superblock()?;
        let inode = superblock.inode(self, nid).map_err(failed)?;
        let clusters = inode.clusters(superblock, self).map_err(failed)?;
        let found = Arc::new(Opened {
            inode,
            clusters,
            row: Mutex::default(),
        });
        let mut opened = lock(&self.spaces.opened);
        opened.truncate(INODES - 1);
        opened.push_front(Arc::clone(&found));
        Ok(found)
    }

    /// What decoders of the image must be ready for.
    pub(super) fn compression(&self) -> io::Result<&Compression> {
        if let Some(compression) = self.spaces.compression.get() {
            return Ok(compression);
        }
        let compression = self.superblock()?.compression(self).map_err(failed)?;
        Ok(self.spaces.compression.get_or_init(|| compression))
    }

    /// What an inode holds from `pos` on: at least up to the end of the block, as [`Metadata::bytes`] has to.
    pub(super) fn inode_bytes(&self, nid: u64, pos: u64) -> io::Result<Bytes> {
        if let Some(bytes) = lock(&self.spaces.decoded).find(nid, pos) {
            if self.reaches(&bytes, pos)? {
                return Ok(bytes);
            }
        }
        let opened = self.opened(nid)?;
        let bytes = self.some_of_inode(&opened, pos)?;
        let size = opened.inode.size();
        if self.reaches(&bytes, pos)? || pos.saturating_add(bytes.len() as u64) >= size {
            return Ok(bytes);
        }
        // Extents end anywhere.
        let block = u64::from(self.superblock()?.block_size());
        let end = (pos / block + 1).saturating_mul(block).min(size);
        let mut all = Vec::new();
        let mut at = pos;
        while at < end {
            let some = self.some_of_inode(&opened, at)?;
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX);
            let some = some.get(..wanted).unwrap_or(&some);
            if some.is_empty() {
                break;
            }
            all.extend_from_slice(some);
            at += some.len() as u64;
        }
        Ok(Bytes::new(all.into(), 0, usize::MAX))
    }

    /// Whether bytes from `pos` on reach the end of their block.
    fn reaches(&self, bytes: &Bytes, pos: u64) -> io::Result<bool> {
        let block = u64::from(self.superblock()?.block_size());
        Ok(bytes.len() as u64 >= block - pos % block)
    }

    /// Fills `buffer` with what an inode holds from `pos` on.
    ///
    /// # Errors
    ///
    /// Those of reading and decoding, and when it holds less.
    pub(super) fn read_exact_in(&self, buffer: &mut [u8], nid: u64, pos: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let bytes = self.inode_bytes(nid, pos.saturating_add(done as u64))?;
            let len = bytes.len().min(rest.len());
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let (Some(to), Some(from)) = (rest.get_mut(..len), bytes.get(..len)) {
                to.copy_from_slice(from);
            }
            done += len;
        }
        Ok(())
    }

    /// Some bytes that an inode holds from `pos` on; none at its end.
    fn some_of_inode(&self, opened: &Opened, pos: u64) -> io::Result<Bytes> {
        let inode = &opened.inode;
        if pos >= inode.size() {
            return Ok(self.spaces.zeros(0));
        }
        let superblock = self.superblock()?;
        let Some(clusters) = &opened.clusters else {
            let extent = inode.extent(superblock, self, pos).map_err(failed)?;
            let extent = extent.skip_to(pos);
            let Some((space, at)) = extent.source.place() else {
                return Ok(self.spaces.zeros(extent.len));
            };
            let bytes = self.bytes(space, at)?.first(extent.len);
            if bytes.is_empty() {
                return Err(corrupt("inode's data ends beyond its device", inode));
            }
            return Ok(bytes);
        };
        if let Some(bytes) = lock(&self.spaces.decoded).find(inode.nid(), pos) {
            return Ok(bytes);
        }
        // Not with the lock held: others may lead here.
        let mut row = *lock(&opened.row);
        let cluster = clusters.at_after(superblock, self, pos, &mut row);
        let cluster = cluster.map_err(failed)?;
        *lock(&opened.row) = row;
        let within = pos.saturating_sub(cluster.start);
        let left = cluster.len.saturating_sub(within);
        match cluster.content {
            Content::Hole => Ok(self.spaces.zeros(left)),
            Content::Fragment(start) => {
                let packed = self.fragments_of(inode)?;
                let at = start.saturating_add(within);
                let bytes = self.bytes(Space::Inode(packed), at)?.first(left);
                if bytes.is_empty() {
                    return Err(corrupt(
                        "inode's fragment ends beyond the packed inode",
                        inode,
                    ));
                }
                Ok(bytes)
            }
            Content::Encoded(_) => {
                let mut decoded = vec![0; usize::try_from(cluster.len).unwrap_or(0)];
                self.decode(inode.nid(), &cluster, &mut decoded)?;
                let bytes: Arc<[u8]> = decoded.into();
                lock(&self.spaces.decoded).keep(inode.nid(), cluster.start, &bytes);
                let within = usize::try_from(within).unwrap_or(usize::MAX);
                Ok(Bytes::new(bytes, within, usize::MAX))
            }
        }
    }

    /// The packed inode, for a fragment of an inode. Those of the packed inode itself would lead nowhere, and those of the
    /// metabox if the packed inode lies in that.
    pub(super) fn fragments_of(&self, inode: &Inode) -> io::Result<u64> {
        let superblock = self.superblock()?;
        let Some(packed) = superblock.packed_nid() else {
            return Err(corrupt(
                "inode has a fragment, and the image no packed inode",
                inode,
            ));
        };
        if inode.nid() == packed {
            return Err(corrupt("packed inode has a fragment", inode));
        }
        let in_metabox = packed & ondisk::NID_METABOX != 0;
        if superblock.metabox_nid() == Some(inode.nid()) && in_metabox {
            let what = "metabox has a fragment in the packed inode, which lies in the metabox";
            return Err(corrupt(what, inode));
        }
        Ok(packed)
    }

    /// The encoded bytes of a physical cluster.
    fn encoded(&self, encoded: &Encoded) -> io::Result<Vec<u8>> {
        let len = encoded.len as usize;
        let mut all = Vec::with_capacity(len);
        while all.len() < len {
            let at = encoded.pos.saturating_add(all.len() as u64);
            let bytes = self.bytes(encoded.space, at)?;
            let bytes = bytes.get(..len - all.len()).unwrap_or(&bytes);
            if bytes.is_empty() {
                let elsewhere = match encoded.space {
                    Space::Device(0) => self.flat_elsewhere(at),
                    _ => None,
                };
                if let Some((id, _)) = elsewhere {
                    return Err(io::Error::other(NotGiven(id)));
                }
                return Err(failed(Error::Corrupt(Corrupt {
                    what: "physical cluster ends beyond its device",
                    at: encoded.pos,
                    space: encoded.space,
                })));
            }
            all.extend_from_slice(bytes);
        }
        Ok(all)
    }

    /// Decodes a cluster, the bytes of an inode, into all of `decoded`, which has room for its length, or for less.
    pub(super) fn decode(&self, nid: u64, cluster: &Cluster, decoded: &mut [u8]) -> io::Result<()> {
        let Content::Encoded(encoded) = cluster.content else {
            decoded.fill(0);
            return Ok(());
        };
        let bytes = self.encoded(&encoded)?;
        let block = u64::from(self.superblock()?.block_size());
        let done = match encoded.encoding {
            Encoding::Compressed(algorithm) => decode::decode(
                algorithm,
                &bytes,
                block - encoded.pos % block,
                decoded,
                encoded.partial || (decoded.len() as u64) < cluster.len,
                self.compression()?,
            ),
            Encoding::Plain => copy(decoded, &bytes),
            Encoding::Interlaced => {
                let first = block - cluster.start % block;
                let first = usize::try_from(first).unwrap_or(usize::MAX);
                let end = bytes.len().saturating_sub(first);
                let (front, rest) = decoded.split_at_mut(first.min(decoded.len()));
                copy(front, bytes.get(end..).unwrap_or_default()).and_then(|()| copy(rest, &bytes))
            }
        };
        done.map_err(|problem| {
            let cluster = *cluster;
            let unreadable = Unreadable::Cluster {
                nid,
                cluster,
                problem,
            };
            io::Error::new(io::ErrorKind::InvalidData, unreadable)
        })
    }
}

/// Copies the start of `from`.
fn copy(to: &mut [u8], from: &[u8]) -> Result<(), decode::Problem> {
    let from = from.get(..to.len()).ok_or(decode::Problem::Short)?;
    to.copy_from_slice(from);
    Ok(())
}
