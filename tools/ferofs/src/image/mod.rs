// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writes a tree as an EROFS image: an index, whose file data lies in blobs beside it.
//!
//! `plan` decides where everything goes, `emit` writes it front to back. The order is that in
//! which a tree is walked: what is in a directory lies together, sorted by name, its directories'
//! contents behind it one after the other, so that `find -ls` reads the image once, forwards.
//!
//! The same tree and options always give the same bytes.

mod device;
mod directory;
mod emit;
mod pieces;
mod plan;
pub mod source;
pub mod store;
mod uuid;
mod xattrs;

use crate::clusters::Compression;
use crate::clusters::referred::Announced;
use crate::digest::Digest;
use crate::digest::verity;
use crate::direct;
use crate::setters::setters;
use crate::tar::HeaderDigest;
use crate::tar::Time;
use crate::tar::Totals;
use crate::tree::Content;
use crate::tree::NameId;
use crate::tree::Tree;
use crate::tree::fingerprint;
use erofs_format::ondisk::BLOCK_BITS_MIN;
use erofs_format::ondisk::SUPER_OFFSET;
use sha2::Digest as _;
use sha2::Sha256;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::Write;

pub use crate::error::ImageError as Error;
use emit::FileData;

pub use source::Source;
pub use store::Store;

pub use device::header_digest;
pub use plan::encode_device;
pub(crate) use uuid::Fingerprint;

/// A blob that files of an image have their data in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, if it is known; it becomes the tag of the blob's device slot.
    pub digest: Option<Digest>,
    /// Its fs-verity digest, if drivers are to know it by that: it becomes the tag instead.
    pub verity: Option<verity::Digest>,
    /// That of its headers, if it is a tar: by it another one in its place is noticed.
    pub headers: Option<HeaderDigest>,
}

impl Device {
    /// A blob of so many bytes.
    pub fn new(size: u64) -> Self {
        Device {
            size,
            ..Device::default()
        }
    }

    setters! {
        /// Says what its digest is.
        with_digest sets digest: Option<Digest>,
        /// Says what its fs-verity digest is.
        with_verity sets verity: Option<verity::Digest>,
        /// Says what its headers come to.
        with_headers sets headers: Option<HeaderDigest>,
    }
}

impl From<Totals> for Device {
    fn from(tar: Totals) -> Self {
        Device {
            size: tar.size,
            digest: tar.digest,
            verity: tar.verity,
            headers: tar.headers,
        }
    }
}

/// Where the data of files is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// In blobs, where it was; the image says where.
    #[default]
    Index,
    /// In the image.
    Full,
    /// Nowhere: files have their sizes and are read as zeros.
    Meta,
}

/// Which form inodes have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inodes {
    /// The compact one where everything fits it, the extended one elsewhere.
    #[default]
    Fitting,
    /// The extended one.
    Extended,
}

/// Whether the superblock has a checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checksum {
    /// If blocks have at least 2048 bytes. It is that of the block from the superblock on, and of smaller ones
    /// libblkid up to 2.42.4 and fsck.erofs before 1.9 compute a length below zero: to them such an image is none, or
    /// they crash.
    #[default]
    Fitting,
    /// In blocks of any size.
    Always,
    /// In none.
    None,
}

impl Checksum {
    fn is_in(self, block_bits: u8) -> bool {
        match self {
            Checksum::Fitting => 1_u64 << block_bits > SUPER_OFFSET,
            Checksum::Always => true,
            Checksum::None => false,
        }
    }
}

/// The order that files' data has in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// That of the walk which inodes are written in, too: what is in a directory lies together.
    #[default]
    Path,
    /// That of the blobs it comes from.
    Source,
}

/// An extended attribute's name prefix that is stored once: a well-known one, and what follows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct XattrPrefix {
    /// Which well-known prefix, as the format numbers them.
    pub base: u8,
    /// What follows that.
    pub infix: Box<[u8]>,
}

/// How an image has extended attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct XattrOptions {
    /// What so many files have is in it once.
    pub share_from: u64,
    /// Whether each inode says which attributes it surely has not.
    pub filter: bool,
    /// Name prefixes to store once. More are found where that makes the image smaller by a block.
    pub prefixes: Vec<XattrPrefix>,
}

impl Default for XattrOptions {
    fn default() -> Self {
        XattrOptions {
            share_from: 2,
            filter: true,
            prefixes: Vec::new(),
        }
    }
}

impl XattrOptions {
    setters! {
        /// Stores once what so many files have.
        with_share_from sets share_from: u64,
        /// Says whether each inode says which attributes it surely has not.
        with_filter sets filter: bool,
        /// Stores these name prefixes once.
        with_prefixes sets prefixes: Vec<XattrPrefix>,
    }
}

/// What an image is to be like: the default, with what is set.
///
/// ```
/// use ferofs::image::Mode;
/// use ferofs::image::Options;
/// use ferofs::image::source::Nothing;
/// use ferofs::tree::Tree;
/// use std::io::Cursor;
///
/// let options = Options::default()
///     .with_mode(Mode::Full)
///     .with_block_bits(12)
///     .with_label(*b"an empty image\0\0");
/// let mut image = Cursor::new(Vec::new());
/// let summary = ferofs::image::write(&Tree::new(), &options, &Nothing, &mut image)?;
/// assert_eq!((summary.inodes, summary.size), (1, 4096));
/// # Ok::<(), ferofs::image::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Block size as a power of two, from 9, as for data in tars, to 12.
    pub block_bits: u8,
    /// Where the data of files is.
    pub mode: Mode,
    /// Data in the image starts at multiples of so many bytes, a power of two up to 1 GiB.
    pub align: u64,
    /// Whether the last, partial block of a file is behind its inode if there is room.
    pub inline_data: bool,
    /// Size of the chunks that all files are cut into, as a power of two of bytes, at least that of
    /// a block. `None`: as large as can be.
    pub chunk_bits: Option<u8>,
    /// The order of data in the image.
    pub order: Order,
    /// Which form inodes have.
    pub inodes: Inodes,
    /// How extended attributes are stored.
    pub xattrs: XattrOptions,
    /// When the image was built, in seconds since 1970; `None`: the time that most files have.
    pub build_time: Option<i64>,
    /// Whether all files have the build time as their modification time.
    pub one_time: bool,
    /// Whether the superblock has a checksum.
    pub checksum: Checksum,
    /// Whether block addresses have 48 bits even if 32 are enough.
    pub wide: bool,
    /// How files are compressed, if they are. The data goes through a [`Store`] then.
    pub compression: Option<Compression>,
    /// What is said of compressed data in blobs, if the tree refers to some.
    pub referred: Option<Announced>,
    /// The blobs, in the order of their numbers.
    pub devices: Vec<Device>,
    /// UUID; derived from the image's content if there is none.
    pub uuid: Option<[u8; 16]>,
    /// Label, padded with NULs.
    pub label: [u8; 16],
}

impl Default for Options {
    fn default() -> Self {
        Options {
            block_bits: 9,
            mode: Mode::Index,
            align: 1,
            inline_data: true,
            chunk_bits: None,
            order: Order::default(),
            inodes: Inodes::default(),
            xattrs: XattrOptions::default(),
            build_time: None,
            one_time: false,
            checksum: Checksum::default(),
            wide: false,
            compression: None,
            referred: None,
            devices: Vec::new(),
            uuid: None,
            label: [0; 16],
        }
    }
}

impl Options {
    setters! {
        /// Sets the block size, as a power of two.
        with_block_bits sets block_bits: u8,
        /// Says where the data of files is.
        with_mode sets mode: Mode,
        /// Starts data at multiples of so many bytes.
        with_align sets align: u64,
        /// Says whether ends of files may be behind their inodes.
        with_inline_data sets inline_data: bool,
        /// Cuts all files into chunks of this size, as a power of two.
        with_chunk_bits sets chunk_bits: Option<u8>,
        /// Sets the order of data.
        with_order sets order: Order,
        /// Sets the form of inodes.
        with_inodes sets inodes: Inodes,
        /// Says how extended attributes are stored.
        with_xattrs sets xattrs: XattrOptions,
        /// Says when the image was built.
        with_build_time sets build_time: Option<i64>,
        /// Says whether all files have that time.
        with_one_time sets one_time: bool,
        /// Says whether the superblock has a checksum.
        with_checksum sets checksum: Checksum,
        /// Says whether block addresses have 48 bits even if 32 are enough.
        with_wide sets wide: bool,
        /// Says how files are compressed, if they are.
        with_compression sets compression: Option<Compression>,
        /// Says what there is of compressed data in blobs.
        with_referred sets referred: Option<Announced>,
        /// Sets the blobs.
        with_devices sets devices: Vec<Device>,
        /// Sets the UUID.
        with_uuid sets uuid: Option<[u8; 16]>,
        /// Sets the label, which is padded with NULs.
        with_label sets label: [u8; 16],
    }

    /// Says which of the numbers is out of its range.
    fn check(&self) -> Result<(), Error> {
        let wrong = |name: &str, value: u64, expected: &str| {
            Err(Error::Image(format!(
                "{name} is {value}, expected {expected}"
            )))
        };
        if !(BLOCK_BITS_MIN..=12).contains(&self.block_bits) {
            return wrong("block_bits", self.block_bits.into(), "9 to 12");
        }
        if !self.align.is_power_of_two() || self.align > 1 << 30 {
            return wrong("align", self.align, "a power of two up to 1 GiB");
        }
        if let Some(compression) = &self.compression {
            if self.mode != Mode::Full || self.chunk_bits.is_some() {
                let problem = "only data that is in the image is compressed, and not in chunks";
                return Err(Error::Image(problem.to_string()));
            }
            let checked = compression.check(1 << self.block_bits);
            checked.map_err(Error::Image)?;
        }
        if self.referred.is_some() && self.mode == Mode::Full {
            let problem =
                "compressed data stays in blobs, and an image with its data in it has none";
            return Err(Error::Image(problem.to_string()));
        }
        match self.chunk_bits {
            Some(bits) if bits > 63 => wrong("chunk_bits", bits.into(), "at most 63"),
            _ => Ok(()),
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Size of the image in bytes.
    pub size: u64,
    /// Inodes in it.
    pub inodes: u64,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Bytes of file data that it gives access to, holes included.
    pub data: u64,
}

fn problem_of(tree: &Tree, name: NameId, problem: impl Into<String>) -> Error {
    Error::File {
        path: tree.path(name),
        problem: problem.into(),
    }
}

fn no_data(tree: &Tree, name: NameId) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Data {
        path: tree.path(name),
        source,
    }
}

/// Writes `tree` to `out`, from where it stands on; its start is written once more at the end. Data
/// that is to be in the image comes from `source`.
///
/// # Errors
///
/// When an option is out of its range, writing fails, or something in the tree does not fit the format.
pub fn write<W: Write + Seek>(
    tree: &Tree,
    options: &Options,
    source: &dyn Source,
    out: W,
) -> Result<Summary, Error> {
    let children = tree.children();
    if options.compression.is_some() {
        let problem = "compressed data goes through a store";
        return Err(Error::Image(problem.to_string()));
    }
    let plan = plan::Plan::new(tree, &children, options, epoch(tree, options), 0, None)?;
    emit::emit(
        tree,
        &children,
        options,
        source,
        &plan,
        out,
        FileData::Written,
    )
}

/// Gives each file of a tree its fingerprint, with data from `source`.
///
/// # Errors
///
/// When it cannot be read, or there are too many attributes.
pub fn fingerprint_all(tree: &mut Tree, source: &dyn Source) -> Result<(), Error> {
    let mut seen = vec![false; tree.inode_count()];
    for name in tree.live_names() {
        let id = tree.inode_of(name);
        let again = seen.get_mut(id.index());
        if again.is_some_and(|seen| std::mem::replace(seen, true)) {
            continue;
        }
        let Content::File { size, .. } = tree.inode(id).content else {
            continue;
        };
        let mut buffer = vec![0; size.min(256 << 10) as usize];
        let (mut sum, mut pos) = (Sha256::new(), 0);
        while pos < size {
            let len = (size - pos).min(buffer.len() as u64);
            let bytes = buffer.get_mut(..len as usize).unwrap_or_default();
            source
                .read(tree, name, pos, bytes)
                .map_err(no_data(tree, name))?;
            sum.update(bytes);
            pos += len;
        }
        let digest = (size > 0).then(|| fingerprint::value(&Digest(sum.finalize().into())));
        let value = digest
            .as_ref()
            .map(<[u8; fingerprint::VALUE_SIZE]>::as_slice);
        tree.set_fingerprint(id, value)
            .map_err(|full| problem_of(tree, name, full.to_string()))?;
    }
    Ok(())
}

/// Writes `tree` to an empty file, as [`write()`] does. Much data goes there past the page cache, if
/// the filesystem can do that: at the disk's speed, and nobody else's memory is taken for it.
///
/// # Errors
///
/// Those of [`write()`].
pub fn write_file(
    tree: &Tree,
    options: &Options,
    source: &dyn Source,
    file: &File,
) -> Result<Summary, Error> {
    let children = tree.children();
    if options.compression.is_some() {
        let problem = "compressed data goes through a store";
        return Err(Error::Image(problem.to_string()));
    }
    let plan = plan::Plan::new(tree, &children, options, epoch(tree, options), 0, None)?;
    // Nothing but metadata is hashed, and that is better off in the cache.
    let direct = options.mode == Mode::Full && direct::is_worth(plan.end);
    let data = match direct {
        true => FileData::Direct(file),
        false => FileData::Written,
    };
    emit::emit(tree, &children, options, source, &plan, file, data)
}

/// The time of compact inodes: that of most files, unless the build time cannot be told from there.
fn epoch(tree: &Tree, options: &Options) -> Time {
    let common = most_common_time(tree);
    match options.build_time {
        Some(sec) if options.one_time || plan::build_time(sec, common).is_none() => {
            Time { sec, nsec: 0 }
        }
        _ => common,
    }
}

/// The time that most inodes have: those can be compact, as the superblock has it for all of them.
/// Times before 1970 do not count, since not every reader takes the superblock's as signed.
fn most_common_time(tree: &Tree) -> Time {
    let mut times: Vec<Time> = tree.times().filter(|time| time.sec >= 0).collect();
    times.sort_unstable();
    let longest = times.chunk_by(|a, b| a == b).max_by_key(|run| run.len());
    longest
        .and_then(<[Time]>::first)
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_larger_than_files_can_be() {
        for mode in [Mode::Full, Mode::Index, Mode::Meta] {
            let size = u64::MAX;
            let data = crate::tar::Data::Contiguous(0);
            let kind = crate::tar::Kind::File { size, data };
            let mut tree = Tree::new();
            let entries = [crate::tar::Entry::new(b"a", kind)];
            crate::tree::apply::apply_all(&mut tree, 0, entries).unwrap();
            let options = Options {
                mode,
                ..Options::default()
            };
            let out = io::Cursor::new(Vec::new());
            let said = write(&tree, &options, &source::Nothing, out).unwrap_err();
            let expected = "\"/a\": it has 18446744073709551615 bytes, expected at most";
            assert!(said.to_string().starts_with(expected), "{said}");
        }
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let options = Options::default();
        for (options, expected) in [
            (options.clone(), None),
            (
                Options {
                    block_bits: 8,
                    ..options.clone()
                },
                Some("block_bits is 8, expected 9 to 12"),
            ),
            (
                Options {
                    block_bits: 40,
                    ..options.clone()
                },
                Some("block_bits is 40, expected 9 to 12"),
            ),
            (
                Options {
                    align: 0,
                    ..options.clone()
                },
                Some("align is 0, expected a power"),
            ),
            (
                Options {
                    align: 1 << 31,
                    ..options.clone()
                },
                Some("align is 2147483648, expected"),
            ),
            (
                Options {
                    chunk_bits: Some(64),
                    ..options.clone()
                },
                Some("chunk_bits is 64, expected"),
            ),
        ] {
            let out = io::Cursor::new(Vec::new());
            let said = write(&Tree::new(), &options, &source::Nothing, out).err();
            let said = said.map(|error| error.to_string()).unwrap_or_default();
            assert!(said.starts_with(expected.unwrap_or_default()), "{said}");
            assert_eq!(said.is_empty(), expected.is_none(), "{said}");
        }
    }
}
