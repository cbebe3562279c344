// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The clusters of compressed inodes: that every extent can be found, decodes, and lies where nothing else does. Called by the
//! check for every compressed inode.
//!
//! Several extents may be of one physical cluster, of which each takes a part from its start. It is decoded for the longest
//! of them, and once more for those that have to end where it ends; what many of them ask for is found by halving, so that no
//! image can have one cluster decoded again and again.

use super::Checker;
use super::KEPT;
use super::regions::Use;
use crate::inspect::Unreadable;
use crate::text::Quoted;
use erofs_format::Algorithm;
use erofs_format::Cluster;
use erofs_format::Content;
use erofs_format::Encoded;
use erofs_format::Encoding;
use erofs_format::Inode;
use erofs_format::Row;
use erofs_format::Space;
use erofs_format::compressed::PCLUSTER_MAX_DECODED_SIZE;
use std::collections::BTreeMap;
use std::io;

/// After so many errors in one file the rest of it is left alone.
const MAX_ERRORS: u32 = 100;

/// What a physical cluster lies in: the image or a device by its number, or what an inode holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    File(u16),
    Inode(u64),
}

/// A physical cluster that an extent was found of.
struct Seen {
    len: u32,
    encoding: Encoding,
    /// Whose it was first.
    nid: u64,
    /// It decodes to at least so many bytes.
    reaches: u32,
    /// It decodes to less than so many.
    below: u32,
    /// It decodes to exactly `reaches` bytes, and ends there.
    ends: bool,
    /// It does not decode.
    wrong: bool,
}

/// All of them, by where they are.
#[derive(Default)]
pub(super) struct Clusters {
    all: BTreeMap<(Place, u64), Seen>,
    buffer: Vec<u8>,
}

impl Checker<'_> {
    /// Checks the extents of a compressed inode.
    pub(super) fn clusters(&mut self, inode: &Inode) -> io::Result<()> {
        let (superblock, file) = (self.image.superblock(), self.image.file());
        let clusters = match inode.clusters(superblock, file) {
            Ok(Some(clusters)) => clusters,
            Ok(None) => return Ok(()),
            Err(error) => return self.failed_at(inode, error),
        };
        let block = u64::from(superblock.block_size());
        let (mut offset, mut errors, mut last) = (0, 0, String::new());
        let mut row = Row::default();
        while offset < inode.size() {
            match clusters.at_after(superblock, file, offset, &mut row) {
                Ok(cluster) => {
                    // No form of indexes takes less.
                    if !self.spend(2, inode, "extents")? {
                        break;
                    }
                    self.cluster(inode, &cluster)?;
                    offset = cluster.start.saturating_add(cluster.len);
                }
                Err(error) => {
                    errors += 1;
                    let text = error.to_string();
                    if text != last {
                        self.failed_at(inode, error)?;
                    }
                    last = text;
                    if errors > MAX_ERRORS {
                        break;
                    }
                    // Those behind it may be sound.
                    offset = (offset / block + 1).saturating_mul(block);
                }
            }
        }
        Ok(())
    }

    fn cluster(&mut self, inode: &Inode, cluster: &Cluster) -> io::Result<()> {
        match cluster.content {
            Content::Hole => Ok(()),
            Content::Fragment(pos) => self.fragment(inode, pos, cluster.len),
            Content::Encoded(encoded) => self.encoded(inode, cluster, &encoded),
        }
    }

    /// Whether a fragment lies in the packed inode.
    fn fragment(&mut self, inode: &Inode, pos: u64, len: u64) -> io::Result<()> {
        let packed = match self.image.file().fragments_of(inode) {
            Ok(packed) => packed,
            Err(error) => return self.failed_at(inode, erofs_format::Error::Io(error)),
        };
        // Whether it can be read is said where it is checked itself.
        let size = self.packed_size.unwrap_or(u64::MAX);
        let end = pos.saturating_add(len);
        if end > size {
            let what = format!(
                "its fragment is at {pos} to {end} of the packed inode {packed}, which has {size} bytes"
            );
            self.problem_of(inode, what);
        }
        Ok(())
    }

    fn encoded(&mut self, inode: &Inode, cluster: &Cluster, encoded: &Encoded) -> io::Result<()> {
        let (len, nid) = (u64::from(encoded.len), inode.nid());
        let (place, pos) = match encoded.space {
            Space::Device(id) => {
                let Some((file, pos)) = self.device_of(id, encoded.pos) else {
                    self.not_given.insert(id);
                    return Ok(());
                };
                self.used.insert(file);
                if !self.bounds(inode, cluster.start, file, pos, len) {
                    return Ok(());
                }
                let behind = pos >= self.stated() && self.image.file().flat_device(pos).is_some();
                if file == 0 && behind {
                    // It is of a device, in the same file.
                } else if file == 0 {
                    self.region(pos, pos.saturating_add(len), Use::Data, nid);
                } else if !self.image.file().is_given(file) {
                    self.not_given.insert(file);
                    return Ok(());
                }
                (Place::File(file), pos)
            }
            space => {
                let end = encoded.pos.saturating_add(len);
                self.region_in(space, encoded.pos, end, Use::Inode, nid);
                match space {
                    Space::Inode(nid) => (Place::Inode(nid), encoded.pos),
                    _ => (Place::File(0), encoded.pos),
                }
            }
        };
        if encoded.encoding == Encoding::Compressed(Algorithm::Lz4) {
            let most = self
                .compression
                .map_or(u32::MAX, |found| found.lz4_pcluster_max);
            if encoded.len > most {
                let what = format!(
                    "its physical cluster at {pos} has {len} bytes, and the superblock says that the largest of LZ4 has \
                     {most}"
                );
                self.problem_of(inode, what);
            }
        }
        let seen = self.clusters.all.entry((place, pos)).or_insert(Seen {
            len: encoded.len,
            encoding: encoded.encoding,
            nid,
            reaches: 0,
            below: PCLUSTER_MAX_DECODED_SIZE + 1,
            ends: false,
            wrong: false,
        });
        if (seen.len, seen.encoding) != (encoded.len, encoded.encoding)
            && (is_compressed(seen.encoding) || is_compressed(encoded.encoding))
        {
            let other = (seen.nid, seen.len, name_of(seen.encoding));
            let (other, other_len, other_name) = other;
            let (name, other) = (name_of(encoded.encoding), self.path(other));
            let what = format!(
                "its physical cluster at {pos} has {len} bytes of {name}, and for {} it has {other_len} bytes of \
                 {other_name}",
                Quoted(&other)
            );
            self.problem_of(inode, what);
            return Ok(());
        }
        if !is_compressed(encoded.encoding) {
            // It has as many bytes as it must: they are there.
            seen.len = seen.len.max(encoded.len);
            return Ok(());
        }
        self.decodes(inode, cluster, encoded, (place, pos))
    }

    /// Decodes a cluster as far as it is not known that it can be.
    fn decodes(
        &mut self,
        inode: &Inode,
        cluster: &Cluster,
        encoded: &Encoded,
        key: (Place, u64),
    ) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.clusters.buffer);
        let file = self.image.file();
        let Some(seen) = self.clusters.all.get_mut(&key) else {
            return Ok(());
        };
        let wanted = u32::try_from(cluster.len).unwrap_or(u32::MAX);
        let before = seen.reaches;
        let mut attempt = |len: u32, partial: bool| {
            let content = Content::Encoded(Encoded {
                partial,
                ..*encoded
            });
            let cluster = Cluster {
                len: len.into(),
                content,
                ..*cluster
            };
            buffer.resize(len as usize, 0);
            file.decode(inode.nid(), &cluster, &mut buffer)
        };
        let mut failure = None;
        if seen.wrong || (seen.ends && wanted == seen.reaches) {
        } else if !encoded.partial {
            // If it ends elsewhere this says how.
            match attempt(wanted, false) {
                Ok(()) => (seen.reaches, seen.below, seen.ends) = (wanted, wanted + 1, true),
                Err(error) => failure = Some(error),
            }
        } else if wanted > seen.reaches {
            // The first time as far as it must, and from then on as far as it may.
            let more = wanted + (seen.below.saturating_sub(wanted)) / 2;
            if before > 0 && more > wanted {
                match attempt(more, true) {
                    Ok(()) => seen.reaches = more,
                    Err(_) => seen.below = more,
                }
            }
            if wanted > seen.reaches {
                match attempt(wanted, true) {
                    Ok(()) => seen.reaches = wanted,
                    Err(error) => failure = Some(error),
                }
            }
        }
        // An end was found once, and does not move; another extent may say another one.
        seen.wrong |= failure.is_some() && seen.reaches == 0;
        let (wrong, new) = (seen.wrong, seen.reaches.saturating_sub(before));
        let first = seen.nid;
        self.clusters.buffer = buffer;
        self.decoded = self.decoded.saturating_add(new.into());
        if new > 0 && before == 0 {
            self.report.encoded = self.report.encoded.saturating_add(encoded.len.into());
        }
        match failure {
            Some(error) => {
                if Unreadable::of(&error).is_none() {
                    return Err(error);
                }
                self.failed_at(inode, erofs_format::Error::Io(error))
            }
            None if wrong => {
                let (pos, first) = (key.1, self.path(first));
                let what = format!(
                    "its physical cluster at {pos} is that of {}, which does not decode",
                    Quoted(&first)
                );
                self.problem_of(inode, what);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Finds physical clusters that begin within another one.
    pub(super) fn cluster_overlaps(&mut self) {
        let all = std::mem::take(&mut self.clusters.all);
        let mut found = Vec::new();
        let mut reach: Option<(Place, u64, u64, u64, bool)> = None;
        for ((place, pos), seen) in &all {
            let end = pos.saturating_add(seen.len.into());
            let compressed = is_compressed(seen.encoding);
            if let Some((before, start, until, nid, other)) = reach {
                // Plain data has no beginning of its own.
                if before == *place && until > *pos && (compressed || other) {
                    found.push((seen.nid, *pos, nid, start, until));
                }
                if before == *place && until >= end {
                    continue;
                }
            }
            reach = Some((*place, *pos, end, seen.nid, compressed));
        }
        for (nid, pos, other, start, end) in found.into_iter().take(KEPT) {
            let (path, other) = (self.path(nid), self.path(other));
            let what = format!(
                "its physical cluster begins within one of {}, which is at {start} to {end}",
                Quoted(&other)
            );
            self.problem(Some(path), pos, what);
        }
    }
}

fn is_compressed(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Compressed(_))
}

fn name_of(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Compressed(algorithm) => algorithm.name(),
        Encoding::Plain | Encoding::Interlaced => "plain data",
    }
}
