// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What `ferofs dump` shows, as JSON. Documentation/tools.md describes it.

use super::Failure;
use super::Wanted;
use super::place;
use super::text;
use crate::commands::json;
use erofs_format::Algorithm;
use erofs_format::Cluster;
use erofs_format::Content;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Layout;
use erofs_format::Space;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::inspect::statistics::Statistics;
use ferofs::inspect::statistics::encoding_name;
use ferofs::inspect::statistics::kind_name;
use ferofs::inspect::statistics::layout_name;
use ferofs::inspect::walk::Walk;
use serde_json::Value;
use serde_json::json;
use std::io::Write;

/// Writes one object with a member for everything that is wanted. The tree comes file by file: it may
/// be large.
pub fn write(wanted: &Wanted<'_>, out: &mut dyn Write) -> std::result::Result<(), Failure> {
    let image = wanted.image;
    write!(out, "{{\n\"image\": {}", json!(json::path(image.path())))?;
    if wanted.superblock {
        member(out, "superblock", &superblock(image)?)?;
        member(out, "devices", &devices(image)?)?;
    }
    if wanted.statistics {
        member(out, "statistics", &json!(Statistics::of(image)?))?;
    }
    if let Some((inode, path)) = &wanted.file {
        member(out, "file", &file(image, inode, path)?)?;
    }
    if wanted.tree {
        write!(out, ",\n\"tree\": [")?;
        for (index, entry) in Walk::new(image).enumerate() {
            let entry = entry?;
            let separator = if index == 0 { "\n" } else { ",\n" };
            let shown = line(image, &entry.inode, &entry.path)?;
            write!(out, "{separator}{shown}")?;
        }
        write!(out, "\n]")?;
    }
    writeln!(out, "\n}}")?;
    Ok(())
}

fn member(out: &mut dyn Write, name: &str, value: &Value) -> std::result::Result<(), Failure> {
    write!(out, ",\n\"{name}\": {value:#}")?;
    Ok(())
}

/// The algorithms, with what decoders must be ready for.
fn compression(image: &Image) -> Result<Value> {
    let compression = image.compression()?;
    let algorithms = Algorithm::ALL
        .into_iter()
        .filter(|algorithm| compression.algorithms & algorithm.bit() != 0)
        .map(|algorithm| {
            let (name, bytes) = text::bound(algorithm, &compression);
            json!({"algorithm": algorithm.name(), (name): bytes})
        });
    Ok(algorithms.collect())
}

fn superblock(image: &Image) -> Result<Value> {
    let superblock = image.superblock();
    Ok(json!({
        "block_size": superblock.block_size(),
        "blocks": superblock.blocks(),
        "inodes": superblock.inodes(),
        "root_nid": superblock.root_nid(),
        "uuid": text::uuid(superblock.uuid()),
        "label": json::text(superblock.volume_name()),
        "epoch": superblock.epoch(),
        "epoch_nsec": superblock.fixed_nsec(),
        "build_time": superblock.build_time(),
        "checksum": superblock.checksum().map(|checksum| format!("{checksum:08x}")),
        "compatible_features": text::features(superblock.compat(), &text::COMPAT),
        "incompatible_features": text::features(superblock.incompat(), &text::INCOMPAT),
        "metadata_offset": superblock.meta_pos(),
        "fingerprints": image.fingerprints()?.map(|name| json::text(&text::full_name(&name))),
        "shared_xattrs_offset": superblock.xattr_pos(),
        "packed_nid": superblock.packed_nid(),
        "metabox_nid": superblock.metabox_nid(),
        "compression": compression(image)?,
    }))
}

fn devices(image: &Image) -> Result<Value> {
    let block = u64::from(image.superblock().block_size());
    let slots = image.devices()?;
    let shown = slots.iter().enumerate().map(|(index, slot)| {
        json!({
            "device": index + 1,
            "size": slot.blocks.saturating_mul(block),
            "flat_offset": slot.uniaddr.saturating_mul(block),
            "tag": json::text(slot.name()),
        })
    });
    Ok(shown.collect())
}

/// A file as in the listing.
fn line(image: &Image, inode: &Inode, path: &[u8]) -> Result<Value> {
    let device = matches!(
        inode.kind(),
        FileKind::CharacterDevice | FileKind::BlockDevice
    );
    let target = match inode.kind() {
        FileKind::Symlink => Some(json::text(&image.link_target(inode)?)),
        _ => None,
    };
    Ok(json!({
        "path": json::text(path),
        "nid": inode.nid(),
        "type": kind_name(inode.kind()),
        "mode": format!("{:04o}", inode.mode() & 0o7777),
        "nlink": inode.nlink(),
        "uid": inode.uid(),
        "gid": inode.gid(),
        "size": inode.size(),
        "mtime": inode.mtime(),
        "mtime_nsec": inode.mtime_nsec(),
        "target": target,
        "rdev": device.then(|| [inode.rdev_major(), inode.rdev_minor()]),
    }))
}

/// An extent of a compressed file.
fn extent_of(image: &Image, cluster: &Cluster) -> Value {
    let mut shown = json!({"start": cluster.start, "length": cluster.len});
    let more = match cluster.content {
        Content::Hole => json!({"device": null, "offset": null}),
        Content::Fragment(pos) => json!({"packed_offset": pos}),
        Content::Encoded(encoded) => {
            let (space, offset) = text::in_its_device(image, &encoded);
            let (device, inode) = match space {
                Space::Image => (Some(0), None),
                Space::Device(id) => (Some(id), None),
                Space::Inode(nid) => (None, Some(nid)),
            };
            json!({
                "device": device,
                "inode": inode,
                "offset": offset,
                "encoded_length": encoded.len,
                "encoding": encoding_name(encoded.encoding),
                "partial": encoded.partial,
            })
        }
    };
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// A file with all that is known of it.
fn file(image: &Image, inode: &Inode, path: &[u8]) -> Result<Value> {
    let mut shown = line(image, inode, path)?;
    let chunk_size = match inode.layout() {
        Layout::Chunks { chunk_bits, .. } => Some(1_u64 << chunk_bits),
        _ => None,
    };
    let mut xattrs = serde_json::Map::new();
    for (name, value) in image.xattrs(inode)?.iter() {
        xattrs.insert(json::text(name), json!(json::text(value)));
    }
    let mut extents = Vec::new();
    for cluster in image.clusters(inode)? {
        extents.push(extent_of(image, &cluster?));
    }
    if inode.kind().has_data() && !matches!(inode.layout(), Layout::Compressed { .. }) {
        for extent in image.extents(inode) {
            let extent = extent?;
            let (device, offset) = place(&extent).unzip();
            extents.push(json!({
                "start": extent.start,
                "length": extent.len,
                "device": device,
                "offset": offset,
            }));
        }
    }
    let more = json!({
        "inode_offset": inode.pos(),
        "form": if inode.is_extended() { "extended" } else { "compact" },
        "layout": layout_name(inode.layout()),
        "chunk_size": chunk_size,
        "xattrs": xattrs,
        "fingerprint": text::fingerprint(image, inode)?,
        "extents": extents,
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    Ok(shown)
}
