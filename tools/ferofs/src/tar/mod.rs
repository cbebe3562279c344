// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tar archives: reading what is in them and where its data lies; writing them.
//!
//! [`Reader`] goes through the entries of an archive from an [`Input`]: a file, whose data it
//! jumps over, or a stream. It understands v7, ustar, GNU, PAX and star archives and reads them as
//! GNU tar does; it decides nothing about where entries end up in a tree.
//!
//! The reader is our own because an index needs what the existing ones do not give together:
//! where the data of each segment of a sparse file lies (`tar` 0.4 reads only GNU's own sparse
//! format, without offsets), global PAX headers applied to what follows (neither `tar` 0.4 nor
//! `tar-core` 0.1 does), times before 1970 and in nanoseconds (both have `u64` seconds), and
//! errors with the offset they are at. `tar-core` needs a newer compiler than Debian 13 has, too.
//!
//! [`Writer`] is the other way round, and the smaller half: with the fields' places and the types of the reader it is
//! one file. `tar` 0.4 would leave the PAX records, which most of it is about, to us, and takes their keys as UTF-8.

mod error;
mod file_hash;
mod header;
mod headers;
mod input;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use crate::acl::Names;
pub use error::Error;
pub use error::Problem;
pub use headers::HeaderDigest;
pub use input::FileInput;
pub use input::Input;
pub(crate) use input::Pass;
pub use input::StreamInput;
pub use input::Totals;
pub use reader::Reader;
pub use writer::Writer;

use crate::setters::setters;
use std::sync::Arc;

use header::Checksum;
use header::Header;

/// Whether a tar may begin with this block.
pub(crate) fn is_header(block: &[u8; 512]) -> bool {
    Header::new(*block).checksum() == Checksum::Right
}

/// A moment: seconds since 1970, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub sec: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nsec: u32,
}

/// An extended attribute: its name as the kernel has it, and its value.
pub type NamedValue = (Vec<u8>, Vec<u8>);

/// The extended attributes of a file, which many others may have, too.
pub type SharedXattrs = Arc<[NamedValue]>;

/// A piece of a sparse file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is in the file.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Where its data is in the archive.
    pub pos: u64,
}

impl Segment {
    /// Takes in `next` if that follows directly, in the file and in the archive. Returns whether.
    pub(crate) fn join(&mut self, next: &Segment) -> bool {
        let follows = self.start + self.len == next.start && self.pos + self.len == next.pos;
        if follows {
            self.len += next.len;
        }
        follows
    }
}

/// Where a file's data lies in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// All of it from this offset on.
    Contiguous(u64),
    /// In these segments, sorted; between them are holes.
    Sparse(Vec<Segment>),
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File {
        /// Its size.
        size: u64,
        /// Where its data is.
        data: Data,
    },
    /// Another name of the file with this path.
    HardLink(&'a [u8]),
    /// A symbolic link with this target.
    Symlink(&'a [u8]),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// An entry of an archive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// Where the first of its headers is.
    pub offset: u64,
    /// Its path as the archive has it.
    pub path: &'a [u8],
    /// What it is.
    pub kind: Kind<'a>,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes, ACLs among them: names as the kernel has them, and values. Entries that have them all
    /// from one global header have the same list.
    pub xattrs: SharedXattrs,
}

impl<'a> Entry<'a> {
    /// An entry that no archive has: owned by root, with the usual permissions of its kind, from
    /// 1970, without extended attributes.
    pub fn new(path: &'a [u8], kind: Kind<'a>) -> Self {
        let mode = match kind {
            Kind::Directory => 0o755,
            Kind::Symlink(_) => 0o777,
            _ => 0o644,
        };
        Entry {
            offset: 0,
            path,
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Arc::default(),
        }
    }

    setters! {
        /// Sets the permission bits.
        with_mode sets mode: u16,
        /// Sets the owner.
        with_uid sets uid: u32,
        /// Sets the group.
        with_gid sets gid: u32,
        /// Sets the modification time.
        with_mtime sets mtime: Time,
        /// Sets the extended attributes.
        with_xattrs sets xattrs: SharedXattrs,
    }
}
