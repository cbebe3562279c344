// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What an image consists of, in numbers.

use super::Image;
use super::walk::Walk;
use crate::error::Result;
use erofs_format::Content;
use erofs_format::Encoding;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Layout;
use erofs_format::Source;
use erofs_format::Space;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::HashSet;

/// How many of the largest files are kept.
const LARGEST: usize = 10;

/// Numbers of an image. Every inode counts once, however many names it has.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Names, the root among them.
    pub names: u64,
    /// Inodes by the kind of file.
    pub inodes: BTreeMap<&'static str, u64>,
    /// Inodes by their form: compact or extended.
    pub forms: BTreeMap<&'static str, u64>,
    /// Inodes with data by its layout.
    pub layouts: BTreeMap<&'static str, u64>,
    /// Bytes in regular files, holes included.
    pub data: u64,
    /// Of these, bytes in holes.
    pub holes: u64,
    /// Of these, bytes behind inodes.
    pub inline: u64,
    /// Extents of regular files, holes included.
    pub extents: u64,
    /// Bytes of regular files that come from physical clusters.
    pub clustered: u64,
    /// Bytes of regular files that are in the packed inode.
    pub fragments: u64,
    /// Bytes of physical clusters by their encoding; those that are of several extents count once. With those of directories and
    /// symbolic links, of the packed inode, and of the metabox.
    pub encoded: BTreeMap<&'static str, u64>,
    /// Where those were that count.
    #[serde(skip)]
    seen: HashSet<(Space, u64)>,
    /// Bytes that inodes take, with their attributes and chunk tables.
    pub inode_bytes: u64,
    /// Bytes of directories.
    pub directory_bytes: u64,
    /// Inodes with extended attributes.
    pub inodes_with_xattrs: u64,
    /// Extended attributes, shared ones counted for each inode.
    pub xattrs: u64,
    /// For each device, the image itself first, how many bytes of regular files are in it.
    pub devices: Vec<u64>,
    /// The largest regular files, with their sizes.
    #[serde(serialize_with = "largest")]
    pub largest: Vec<(u64, Vec<u8>)>,
    /// The most names that one directory has, `.` and `..` not counted, and that directory.
    #[serde(serialize_with = "one")]
    pub fullest: (u64, Vec<u8>),
    /// The most directories that something is in below the root.
    pub depth: u64,
}

#[derive(Serialize)]
struct Sized {
    size: u64,
    path: String,
}

impl From<&(u64, Vec<u8>)> for Sized {
    fn from((size, path): &(u64, Vec<u8>)) -> Self {
        Sized {
            size: *size,
            path: crate::text::Escaped(path).to_string(),
        }
    }
}

fn largest<S: serde::Serializer>(
    files: &[(u64, Vec<u8>)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(files.iter().map(Sized::from))
}

fn one<S: serde::Serializer>(
    directory: &(u64, Vec<u8>),
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let (names, path) = directory;
    let path = crate::text::Escaped(path).to_string();
    serializer.collect_map([
        ("names", serde_json::json!(names)),
        ("path", serde_json::json!(path)),
    ])
}

/// The kind of a file in a word.
pub fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "regular",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::CharacterDevice => "character_device",
        FileKind::BlockDevice => "block_device",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    }
}

/// How the bytes of a physical cluster become those of a file, in a word.
pub fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Compressed(algorithm) => algorithm.name(),
        Encoding::Plain => "plain",
        Encoding::Interlaced => "interlaced",
    }
}

/// The layout of a file's data in a word.
pub fn layout_name(layout: Layout) -> &'static str {
    match layout {
        Layout::Hole => "none",
        Layout::Plain { .. } => "plain",
        Layout::Inline { .. } => "inline",
        Layout::Chunks { indexes: true, .. } => "chunk_indexes",
        Layout::Chunks { indexes: false, .. } => "chunk_addresses",
        Layout::Compressed { full: true, .. } => "compressed_full",
        Layout::Compressed { full: false, .. } => "compressed_compact",
    }
}

impl Statistics {
    /// Walks all of an image.
    ///
    /// # Errors
    ///
    /// When something in it cannot be read.
    pub fn of(image: &Image) -> Result<Self> {
        let mut statistics = Statistics {
            devices: vec![0; usize::from(image.superblock().device_count()) + 1],
            ..Statistics::default()
        };
        let superblock = image.superblock();
        let mut seen = HashSet::new();
        for nid in superblock
            .metabox_nid()
            .into_iter()
            .chain(superblock.packed_nid())
        {
            if seen.insert(nid) {
                statistics.clusters(image, &image.inode(nid)?)?;
            }
        }
        for entry in Walk::new(image) {
            let entry = entry?;
            statistics.names += 1;
            let depth = entry.path.iter().filter(|byte| **byte == b'/').count() as u64 - 1;
            statistics.depth = statistics.depth.max(depth);
            if seen.insert(entry.inode.nid()) {
                statistics.inode(image, &entry.inode, &entry.path)?;
            }
        }
        Ok(statistics)
    }

    fn inode(&mut self, image: &Image, inode: &Inode, path: &[u8]) -> Result<()> {
        *self.inodes.entry(kind_name(inode.kind())).or_default() += 1;
        let (form, size) = match inode.is_extended() {
            true => ("extended", 64),
            false => ("compact", 32),
        };
        *self.forms.entry(form).or_default() += 1;
        self.inode_bytes += size + u64::from(inode.xattr_size());
        if inode.xattr_size() > 0 {
            self.inodes_with_xattrs += 1;
            self.xattrs += image.xattrs(inode)?.len() as u64;
        }
        if inode.kind().has_data() {
            *self.layouts.entry(layout_name(inode.layout())).or_default() += 1;
        }
        if let Layout::Chunks {
            chunk_bits,
            indexes,
            ..
        } = inode.layout()
        {
            let chunks = u128::from(inode.size()).div_ceil(1 << chunk_bits);
            let table = chunks * if indexes { 8 } else { 4 };
            self.inode_bytes = self
                .inode_bytes
                .saturating_add(u64::try_from(table).unwrap_or(u64::MAX));
        }
        self.clusters(image, inode)?;
        match inode.kind() {
            FileKind::Directory => {
                self.directory_bytes = self.directory_bytes.saturating_add(inode.size());
                let names = image.names(inode)?;
                let own = |name: &&super::Name| !matches!(name.name.as_slice(), b"." | b"..");
                let count = names.iter().filter(own).count() as u64;
                if count > self.fullest.0 || self.fullest.1.is_empty() {
                    self.fullest = (count, path.to_vec());
                }
            }
            FileKind::Regular => self.regular(image, inode, path)?,
            _ => {}
        }
        Ok(())
    }

    /// The physical clusters of an inode, if it has any.
    fn clusters(&mut self, image: &Image, inode: &Inode) -> Result<()> {
        let superblock = image.superblock();
        let nid = Some(inode.nid());
        // What others lie in is no file.
        let regular = inode.kind() == FileKind::Regular
            && nid != superblock.packed_nid()
            && nid != superblock.metabox_nid();
        for cluster in image.clusters(inode)? {
            let cluster = cluster?;
            let count = |bytes: &mut u64| {
                if regular {
                    *bytes = bytes.saturating_add(cluster.len);
                }
            };
            match cluster.content {
                Content::Hole => count(&mut self.holes),
                Content::Fragment(_) => count(&mut self.fragments),
                Content::Encoded(encoded) => {
                    count(&mut self.clustered);
                    if self.seen.insert((encoded.space, encoded.pos)) {
                        let bytes = self.encoded.entry(encoding_name(encoded.encoding));
                        *bytes.or_default() += u64::from(encoded.len);
                    }
                }
            }
            self.extents += u64::from(regular);
        }
        Ok(())
    }

    fn regular(&mut self, image: &Image, inode: &Inode, path: &[u8]) -> Result<()> {
        self.data = self.data.saturating_add(inode.size());
        for extent in image.extents(inode) {
            let extent = extent?;
            self.extents += 1;
            let device = match extent.source {
                Source::Hole => {
                    self.holes = self.holes.saturating_add(extent.len);
                    continue;
                }
                Source::Metadata { .. } => {
                    self.inline = self.inline.saturating_add(extent.len);
                    0
                }
                Source::Device { id, .. } => usize::from(id),
                // By their physical clusters.
                Source::Clusters { .. } => {
                    self.extents -= 1;
                    continue;
                }
            };
            if let Some(bytes) = self.devices.get_mut(device) {
                *bytes = bytes.saturating_add(extent.len);
            }
        }
        let smallest = self.largest.last().map_or(0, |(size, _)| *size);
        if self.largest.len() < LARGEST || inode.size() > smallest {
            self.largest.push((inode.size(), path.to_vec()));
            self.largest
                .sort_by_key(|(size, _)| std::cmp::Reverse(*size));
            self.largest.truncate(LARGEST);
        }
        Ok(())
    }
}
