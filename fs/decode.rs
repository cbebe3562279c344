// SPDX-License-Identifier: GPL-2.0-only

//! Compressed data: what a file's bytes are decoded from, and with what.

use crate::decoders;
use crate::decompress;
use crate::decompress::Failure;
use crate::erofs;
use crate::erofs::Corrupt;
use crate::erofs::Encoded;
use crate::erofs::Encoding;
use crate::erofs::Space;
use crate::filesystem::Ferofs;
use crate::in_use;
use crate::join;
use crate::metadata;
use crate::number;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::node::export::Export;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::cluster::Cluster;
use crate::vfs::pages::cluster::Clusters;
use crate::vfs::pages::cluster::Content;
use crate::vfs::pages::cluster::Place;
use crate::vfs::pages::content::Key;
use crate::vfs::pages::tails::Tails;
use crate::vfs::workers::Workers;
use crate::volume::Volume;
use kernel::prelude::*;

/// The data of an image's compressed inodes.
pub(crate) struct Decoded;

/// How a cluster is decoded.
#[derive(Clone, Copy)]
pub(crate) struct Decoder {
    encoding: Encoding,
    /// Whether there is more than the cluster.
    partial: bool,
    /// Where the encoded bytes are.
    space: Space,
    pos: u64,
}

impl Clusters for Decoded {
    type FileSystem = Ferofs;
    type Decoder = Decoder;

    fn cluster(inode: &Inode<Ferofs>, pos: u64) -> Result<Cluster<'_, Ferofs, Decoder>> {
        let sb = inode.super_block();
        let volume = sb.data();
        let node = inode.data();
        let failed = |error| in_use::report(sb, Some(inode), error);
        let reader = Volume::reader(sb, false);
        let format = volume.format();
        let clusters = node.clusters(format, &reader).map_err(failed)?;
        let clusters = clusters.ok_or(EUCLEAN)?;
        let found = clusters.at(format, &reader, pos).map_err(failed)?;
        let content = match found.content {
            erofs::Content::Hole => Content::Hole,
            erofs::Content::Fragment(pos) => {
                let packed = packed(inode, pos, found.len)?;
                Content::Inode(packed, pos)
            }
            erofs::Content::Encoded(encoded) => {
                let place = place(inode, &encoded)?;
                match encoded.encoding {
                    Encoding::Plain => Content::Plain(place),
                    encoding => Content::Encoded(
                        place,
                        encoded.len as usize,
                        Decoder {
                            encoding,
                            partial: encoded.partial,
                            space: encoded.space,
                            pos: encoded.pos,
                        },
                    ),
                }
            }
        };
        Ok(Cluster {
            start: found.start,
            len: found.len,
            content,
        })
    }

    fn may_lack_parts(inode: &Inode<Ferofs>) -> bool {
        inode.super_block().data().devices().may_lack_parts()
    }

    fn decode(
        inode: &Inode<Ferofs>,
        pos: u64,
        decoder: Decoder,
        encoded: &[u8],
        decoded: &mut [u8],
        is_all: bool,
    ) -> Result {
        let sb = inode.super_block();
        let volume = sb.data();
        let block = volume.format().block_size() as usize;
        let failed = |what| {
            let (at, space) = (decoder.pos, decoder.space);
            in_use::report(sb, Some(inode), Corrupt { what, at, space }.into())
        };
        let algorithm = match decoder.encoding {
            Encoding::Plain | Encoding::Interlaced => {
                return unlace(pos, block, encoded, decoded)
                    .ok_or_else(|| failed("inode's physical cluster is too small"));
            }
            Encoding::Compressed(algorithm) => decoders::algorithm(algorithm),
        };
        let is_padded = algorithm != decompress::Algorithm::Lz4 || volume.format().lz4_is_padded();
        let encoded = if is_padded {
            let before = (decoder.pos & (block as u64).wrapping_sub(1)) as usize;
            unpadded(encoded, block.saturating_sub(before))
                .ok_or_else(|| failed("inode's physical cluster begins with nothing but zeros"))?
        } else {
            encoded
        };
        let extent = if decoder.partial || !is_all || !is_padded {
            decompress::Extent::Start
        } else {
            decompress::Extent::Whole
        };
        volume
            .decoders()
            .decode(algorithm, encoded, decoded, extent)
            .map_err(|failure| match failure {
                Failure::Corrupt(what) => failed(what),
                Failure::Errno(error) => error,
            })
    }

    fn workers(inode: &Inode<Ferofs>) -> Option<&Workers> {
        let volume = inode.super_block().data();
        let (format, nid) = (volume.format(), inode.data().disk().nid());
        let is_of_others = format.packed_nid() == Some(nid) || format.metabox_nid() == Some(nid);
        Volume::workers(inode.super_block()).filter(|_| !is_of_others)
    }

    fn shared_by(inode: &Inode<Ferofs>) -> Result<Option<Key>> {
        join::decoded(inode)
    }

    fn tails(inode: &Inode<Ferofs>) -> &Tails {
        inode.super_block().data().tails()
    }
}

/// Encoded bytes without the zeros in front of them, which are among the first `most`. None if all of those are zeros.
fn unpadded(encoded: &[u8], most: usize) -> Option<&[u8]> {
    let start = encoded.iter().take(most).position(|byte| *byte != 0)?;
    encoded.get(start..)
}

/// Puts bytes where they belong that are as far into a block as they are in the file, where they begin at `pos`.
fn unlace(pos: u64, block: usize, encoded: &[u8], decoded: &mut [u8]) -> Option<()> {
    let within = (pos & (block as u64).wrapping_sub(1)) as usize;
    let end = block.saturating_sub(within);
    let first = end.min(decoded.len());
    let (start, rest) = decoded.split_at_mut_checked(first)?;
    let from = encoded.len().checked_sub(end)?;
    start.copy_from_slice(encoded.get(from..)?.get(..first)?);
    rest.copy_from_slice(encoded.get(..rest.len())?);
    Some(())
}

/// The packed inode, which has `len` bytes of `inode` at `pos`.
#[inline(never)]
fn packed(
    inode: &Inode<Ferofs>,
    pos: u64,
    len: u64,
) -> Result<kernel::sync::aref::ARef<Inode<Ferofs>>> {
    let sb = inode.super_block();
    let format = sb.data().format();
    let disk = inode.data().disk();
    let corrupt = |what| {
        let (at, space) = (disk.pos(), disk.space());
        in_use::report(sb, Some(inode), Corrupt { what, at, space }.into())
    };
    let Some(nid) = format.packed_nid() else {
        return Err(corrupt(
            "inode is a fragment of a packed inode that does not exist",
        ));
    };
    // The packed inode may lie in the metabox, so that neither may be part of it.
    if disk.nid() == nid || format.metabox_nid() == Some(disk.nid()) {
        return Err(corrupt("inode that others lie in is itself a fragment"));
    }
    let packed = <Ferofs as Export>::inode(sb, number::of(sb.data().format(), nid))?;
    let end = pos.checked_add(len);
    if end.is_none_or(|end| end > packed.size())
        || packed.data().disk().kind() != erofs::FileKind::Regular
    {
        return Err(corrupt(
            "inode's fragment lies behind the end of the packed inode",
        ));
    }
    Ok(packed)
}

/// Where encoded bytes are.
#[inline(never)]
fn place<'a>(inode: &'a Inode<Ferofs>, encoded: &Encoded) -> Result<Place<'a>> {
    let sb = inode.super_block();
    let volume = sb.data();
    let (at, space, len) = (encoded.pos, encoded.space, u64::from(encoded.len));
    let corrupt = |what| in_use::report(sb, Some(inode), Corrupt { what, at, space }.into());
    if space != Space::Device(0) {
        let bytes = metadata::bytes(sb, space, at, false)
            .map_err(|error| in_use::report(sb, Some(inode), erofs::Error::Io(error)))?;
        if (bytes.len() as u64) < len {
            return Err(corrupt("inode's inline data is cut off"));
        }
        return Ok(Place::Memory(bytes, at));
    }
    match volume.devices().locate(0, at, len) {
        Some((file, pos, found)) if found >= len => {
            if pos.checked_add(len).is_none_or(|end| end > file.size()) {
                return Err(corrupt(
                    "inode's physical cluster lies behind the end of its device",
                ));
            }
            Ok(Place::File(file, pos))
        }
        _ => Err(corrupt(
            "inode's physical cluster is on no device, or on two",
        )),
    }
}
