// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What `ferofs dump` and `ferofs ls` show, as text.

use super::Failure;
use super::place;
use data_encoding::HEXLOWER;
use erofs_format::Algorithm;
use erofs_format::Cluster;
use erofs_format::Compression;
use erofs_format::Content;
use erofs_format::Encoded;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Layout;
use erofs_format::Space;
use erofs_format::ondisk::compat;
use erofs_format::ondisk::incompat;
use ferofs::inspect::Image;
use ferofs::inspect::statistics::Statistics;
use ferofs::inspect::statistics::encoding_name;
use ferofs::inspect::walk::Walk;
use ferofs::text::Escaped;
use ferofs::text::Quoted;
use ferofs::text::Utc;
use ferofs::tree::FingerprintName;
use ferofs::tree::fingerprint::digest_of;
use std::collections::BTreeMap;
use std::io::Write;

/// Names of feature bits.
pub const COMPAT: [(u32, &str); 7] = [
    (compat::SB_CHKSUM, "sb_chksum"),
    (compat::MTIME, "mtime"),
    (compat::XATTR_FILTER, "xattr_filter"),
    (compat::SHARED_EA_IN_METABOX, "shared_ea_in_metabox"),
    (compat::PLAIN_XATTR_PFX, "plain_xattr_pfx"),
    (compat::ISHARE_XATTRS, "ishare_xattrs"),
    (compat::RAFS_V6, "rafs_v6"),
];

/// Names of feature bits, of the second kind.
pub const INCOMPAT: [(u32, &str); 9] = [
    (incompat::LZ4_0PADDING, "lz4_0padding"),
    (incompat::COMPR_CFGS, "compr_cfgs"),
    (incompat::CHUNKED_FILE, "chunked_file"),
    (incompat::DEVICE_TABLE, "device_table"),
    (incompat::ZTAILPACKING, "ztailpacking"),
    (incompat::FRAGMENTS, "fragments"),
    (incompat::XATTR_PREFIXES, "xattr_prefixes"),
    (incompat::LAYOUT_48BIT, "48bit"),
    (incompat::METABOX, "metabox"),
];

/// The names of features that are set; bits without a name as they are.
pub fn features(bits: u32, names: &[(u32, &str)]) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    let mut rest = bits;
    for (bit, name) in names {
        if bits & bit != 0 {
            shown.push((*name).to_string());
            rest &= !bit;
        }
    }
    if rest != 0 {
        shown.push(format!("{rest:#x}"));
    }
    shown
}

fn shown(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".to_string(),
        false => names.join(" "),
    }
}

/// A UUID as it is written everywhere.
pub fn uuid(uuid: [u8; 16]) -> String {
    let mut shown = HEXLOWER.encode(&uuid);
    for at in [20, 16, 12, 8] {
        shown.insert(at, '-');
    }
    shown
}

/// What a decoder must be ready for: what that is called, and how many bytes it has.
pub fn bound(algorithm: Algorithm, compression: &Compression) -> (&'static str, u32) {
    match algorithm {
        Algorithm::Lz4 => ("cluster_max", compression.lz4_pcluster_max),
        Algorithm::Lzma => ("dictionary", compression.lzma_dictionary),
        Algorithm::Deflate => ("window", 1 << compression.deflate_window_bits),
        Algorithm::Zstd => ("window", compression.zstd_window),
    }
}

/// The superblock and the devices.
pub fn summary(image: &Image, out: &mut dyn Write) -> std::result::Result<(), Failure> {
    let superblock = image.superblock();
    let block = superblock.block_size();
    let blocks = superblock.blocks();
    writeln!(out, "block size:         {block}")?;
    writeln!(
        out,
        "blocks:             {blocks} ({} bytes)",
        blocks.saturating_mul(block.into())
    )?;
    writeln!(out, "inodes:             {}", superblock.inodes())?;
    writeln!(out, "root inode:         {}", superblock.root_nid())?;
    writeln!(out, "uuid:               {}", uuid(superblock.uuid()))?;
    writeln!(
        out,
        "label:              {}",
        Quoted(superblock.volume_name())
    )?;
    let time = Utc(superblock.epoch(), superblock.fixed_nsec());
    writeln!(out, "time of compact inodes: {time}")?;
    let built = Utc(superblock.build_time(), 0);
    writeln!(out, "build time:         {built}")?;
    match superblock.checksum() {
        Some(checksum) => writeln!(out, "checksum:           {checksum:08x}, right")?,
        None => writeln!(out, "checksum:           none")?,
    }
    writeln!(
        out,
        "compatible features:   {}",
        shown(&features(superblock.compat(), &COMPAT))
    )?;
    writeln!(
        out,
        "incompatible features: {}",
        shown(&features(superblock.incompat(), &INCOMPAT))
    )?;
    if let Some(name) = image.fingerprints()? {
        writeln!(out, "fingerprints in:    {}", Escaped(&full_name(&name)))?;
    }
    writeln!(out, "metadata at:        {}", superblock.meta_pos())?;
    writeln!(out, "shared xattrs at:   {}", superblock.xattr_pos())?;
    for (what, nid) in [
        ("packed inode:", superblock.packed_nid()),
        ("metabox:", superblock.metabox_nid()),
    ] {
        if let Some(nid) = nid {
            writeln!(out, "{what:<20}{nid}")?;
        }
    }
    let compression = image.compression()?;
    for algorithm in Algorithm::ALL {
        if compression.algorithms & algorithm.bit() != 0 {
            let (name, bytes) = bound(algorithm, &compression);
            let (name, shown) = (name.replace('_', " "), algorithm.name());
            writeln!(out, "{:<20}{shown}, {name} {bytes}", "algorithm:")?;
        }
    }
    for (index, slot) in image.devices()?.iter().enumerate() {
        let bytes = slot.blocks.saturating_mul(block.into());
        let tag = match slot.name() {
            b"" => "no tag".to_string(),
            tag => format!("tag {}", Escaped(tag)),
        };
        let flat = slot.uniaddr.saturating_mul(block.into());
        writeln!(
            out,
            "device {}: {bytes} bytes, flat at {flat}, {tag}",
            index + 1
        )?;
    }
    Ok(())
}

fn kind_letter(kind: FileKind) -> char {
    match kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::CharacterDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
    }
}

/// One line of the listing.
fn line(
    image: &Image,
    inode: &Inode,
    path: &[u8],
    out: &mut dyn Write,
) -> std::result::Result<(), Failure> {
    write!(out, "{:>8} ", inode.nid())?;
    details(image, inode, path, out)
}

/// A file in one line, without its number.
pub fn details(
    image: &Image,
    inode: &Inode,
    path: &[u8],
    out: &mut dyn Write,
) -> std::result::Result<(), Failure> {
    let size = match inode.kind() {
        FileKind::CharacterDevice | FileKind::BlockDevice => {
            format!("{},{}", inode.rdev_major(), inode.rdev_minor())
        }
        _ => inode.size().to_string(),
    };
    write!(
        out,
        "{}{:04o} {:>3} {}:{} {size:>10} {} {}",
        kind_letter(inode.kind()),
        inode.mode() & 0o7777,
        inode.nlink(),
        inode.uid(),
        inode.gid(),
        Utc(inode.mtime(), inode.mtime_nsec()),
        Escaped(path),
    )?;
    if inode.kind() == FileKind::Symlink {
        write!(out, " -> {}", Escaped(&image.link_target(inode)?))?;
    }
    writeln!(out)?;
    Ok(())
}

/// All files.
pub fn tree(image: &Image, out: &mut dyn Write) -> std::result::Result<(), Failure> {
    for entry in Walk::new(image) {
        let entry = entry?;
        line(image, &entry.inode, &entry.path, out)?;
        if entry.again {
            writeln!(out, "         {} was listed before", Escaped(&entry.path))?;
        }
    }
    Ok(())
}

/// One file, with all that is known of it.
pub fn file(
    image: &Image,
    inode: &Inode,
    path: &[u8],
    out: &mut dyn Write,
) -> std::result::Result<(), Failure> {
    line(image, inode, path, out)?;
    let size = if inode.is_extended() {
        "extended"
    } else {
        "compact"
    };
    writeln!(out, "inode at offset {}, {size}", inode.pos())?;
    match inode.layout() {
        Layout::Hole => writeln!(out, "layout: no data")?,
        Layout::Plain { start } => writeln!(out, "layout: plain, blocks at {start}")?,
        Layout::Inline { start: 0, tail } => writeln!(out, "layout: inline at {tail}")?,
        Layout::Inline { start, tail } => {
            writeln!(
                out,
                "layout: blocks at {start}, the last one inline at {tail}"
            )?;
        }
        Layout::Chunks {
            table,
            chunk_bits,
            indexes,
            wide,
        } => {
            let entries = match (indexes, wide) {
                (true, true) => "indexes of 48 bits",
                (true, false) => "indexes",
                (false, _) => "addresses",
            };
            let size = 1_u128 << chunk_bits;
            writeln!(out, "layout: chunks of {size} bytes, {entries} at {table}")?;
        }
        Layout::Compressed { header, full } => {
            let table = image.cluster_table(inode)?;
            let form = match (table.is_some_and(|table| table.has_records()), full) {
                (true, _) => "records of extents",
                (false, true) => "full indexes",
                (false, false) => "compact indexes",
            };
            writeln!(out, "layout: compressed, with {form}, at {header}")?;
        }
    }
    for (name, value) in image.xattrs(inode)?.iter() {
        writeln!(out, "xattr {}: {}", Escaped(name), Quoted(value))?;
    }
    if let Some(value) = fingerprint(image, inode)? {
        writeln!(out, "fingerprint: {value}")?;
    }
    for cluster in image.clusters(inode)? {
        extent(image, &cluster?, out)?;
    }
    if inode.kind().has_data() && !matches!(inode.layout(), Layout::Compressed { .. }) {
        for extent in image.extents(inode) {
            let extent = extent?;
            let end = extent.start.saturating_add(extent.len);
            write!(out, "extent {} to {end}: ", extent.start)?;
            match place(&extent) {
                None => writeln!(out, "hole")?,
                Some((0, pos)) => writeln!(out, "in the image at {pos}")?,
                Some((id, pos)) => writeln!(out, "in device {id} at {pos}")?,
            }
        }
    }
    Ok(())
}

/// What a physical cluster lies in, and where: in one of the image's devices, if its address is one of those.
pub fn in_its_device(image: &Image, encoded: &Encoded) -> (Space, u64) {
    let device = match encoded.space {
        Space::Device(0) => image.file().device_at(encoded.pos),
        _ => None,
    };
    let device = device.map(|(id, pos)| (Space::Device(id), pos));
    device.unwrap_or((encoded.space, encoded.pos))
}

/// An extent of a compressed file.
fn extent(
    image: &Image,
    cluster: &Cluster,
    out: &mut dyn Write,
) -> std::result::Result<(), Failure> {
    let end = cluster.start.saturating_add(cluster.len);
    write!(out, "extent {} to {end}: ", cluster.start)?;
    match cluster.content {
        Content::Hole => writeln!(out, "hole")?,
        Content::Fragment(pos) => writeln!(out, "in the packed inode at {pos}")?,
        Content::Encoded(encoded) => {
            let start = if encoded.partial { "the start of " } else { "" };
            let len = encoded.len;
            let name = encoding_name(encoded.encoding);
            write!(out, "{start}{len} bytes of {name} ")?;
            match in_its_device(image, &encoded) {
                (Space::Image | Space::Device(0), pos) => {
                    writeln!(out, "in the image at {pos}")?;
                }
                (Space::Device(id), pos) => writeln!(out, "in device {id} at {pos}")?,
                (Space::Inode(nid), pos) => {
                    writeln!(out, "in what inode {nid} holds at {pos}")?;
                }
            }
        }
    }
    Ok(())
}

/// Statistics.
pub fn statistics(image: &Image, out: &mut dyn Write) -> std::result::Result<(), Failure> {
    let statistics = Statistics::of(image)?;
    let Statistics {
        names,
        inodes,
        forms,
        layouts,
        ..
    } = &statistics;
    let list = |counts: &BTreeMap<&str, u64>| -> String {
        let counts = counts.iter().map(|(name, count)| {
            let name = name.replace('_', " ");
            format!("{count} {name}")
        });
        counts.collect::<Vec<_>>().join(", ")
    };
    writeln!(
        out,
        "names:              {names}, at most {} directories deep",
        statistics.depth
    )?;
    writeln!(out, "inodes:             {}", list(inodes))?;
    writeln!(out, "form of inodes:     {}", list(forms))?;
    writeln!(out, "layout of data:     {}", list(layouts))?;
    writeln!(out, "inodes take:        {} bytes", statistics.inode_bytes)?;
    writeln!(
        out,
        "directories take:   {} bytes",
        statistics.directory_bytes
    )?;
    let (count, directory) = &statistics.fullest;
    writeln!(
        out,
        "fullest directory:  {count} names in {}",
        Escaped(directory)
    )?;
    let (xattrs, having) = (statistics.xattrs, statistics.inodes_with_xattrs);
    writeln!(out, "attributes:         {xattrs} of {having} inodes")?;
    let (data, extents) = (statistics.data, statistics.extents);
    writeln!(out, "data of files:      {data} bytes in {extents} extents")?;
    writeln!(out, "  in holes:         {} bytes", statistics.holes)?;
    for (number, bytes) in statistics.devices.iter().enumerate() {
        let (place, inline) = match number {
            0 => (
                "in the image:".to_string(),
                format!(", {} of them behind inodes", statistics.inline),
            ),
            number => (format!("in device {number}:"), String::new()),
        };
        writeln!(out, "  {place:<18}{bytes} bytes{inline}")?;
    }
    if !statistics.encoded.is_empty() {
        let (clustered, fragments) = (statistics.clustered, statistics.fragments);
        let encoded: u64 = statistics.encoded.values().sum();
        let all = clustered.saturating_add(fragments);
        let percent = match all {
            0 => String::new(),
            all => format!(", {:.1} % of it", encoded as f64 * 100.0 / all as f64),
        };
        writeln!(out, "  in clusters:      {clustered} bytes")?;
        writeln!(out, "  in fragments:     {fragments} bytes")?;
        writeln!(out, "clusters take:      {encoded} bytes{percent}")?;
        for (name, bytes) in &statistics.encoded {
            writeln!(out, "  {:<18}{bytes} bytes", format!("{name}:"))?;
        }
    }
    writeln!(out, "largest files:")?;
    for (size, path) in &statistics.largest {
        writeln!(out, "  {size:>12} {}", Escaped(path))?;
    }
    Ok(())
}

/// The name of the attribute with fingerprints, as it is said to mkfs.
pub fn full_name(name: &FingerprintName) -> Vec<u8> {
    let prefix = erofs_format::xattr_prefix(name.prefix).unwrap_or_default();
    [prefix.as_bytes(), &name.name].concat()
}

/// A file's fingerprint as text, if it has one.
pub fn fingerprint(image: &Image, inode: &Inode) -> ferofs::error::Result<Option<String>> {
    let Some(name) = image.fingerprints()? else {
        return Ok(None);
    };
    let value = image.fingerprint(inode, &name)?;
    Ok(value.map(|value| match digest_of(&value) {
        Some(digest) => format!("{digest:?}"),
        None => Quoted(&value).to_string(),
    }))
}
