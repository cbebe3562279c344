// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The EROFS on-disk format, read without trust.
//!
//! Everything of ferofs that reads an image goes through this crate: the kernel module (which
//! compiles it as one of its own modules, by path), the builder, `ferofs check` and `ferofs dump`.
//! It gets bytes through [`Metadata`], which its user implements, and answers with plain values that
//! were checked. It does not allocate, does not panic whatever the bytes are, and every call does a
//! bounded amount of work.
//!
//! Start with [`Superblock::read`], go on with [`Superblock::root`] and [`Superblock::inode`]:
//!
//! ```no_run
//! use erofs_format::Superblock;
//!
//! let bytes = std::fs::read("layer.erofs")?;
//! let image = &bytes[..];
//! let superblock = Superblock::read(&image, 12)?;
//! let root = superblock.root(&image)?;
//! if let Some(entry) = root.lookup(&superblock, &image, b"hello")? {
//!     let file = superblock.inode(&image, entry.nid)?;
//!     println!("{} bytes at {:?}", file.size(), file.extent(&superblock, &image, 0)?.source);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Compressed data is found ([`Clusters`]) and not decoded: that is for the caller to do.

#![cfg_attr(not(MODULE), no_std)]
#![cfg_attr(MODULE, allow(dead_code, unused_imports))]
#![forbid(unsafe_code)]

#[cfg(all(test, not(MODULE)))]
extern crate std;

pub mod checksum;
mod cluster;
pub mod compressed;
mod compression;
mod device;
mod directory;
mod error;
mod extent;
mod inode;
mod long_prefix;
mod metadata;
pub mod ondisk;
mod superblock;
mod symlink;
mod xattr;
mod xattr_body;

pub use cluster::{Cluster, Clusters, Content, Encoded, Encoding, Row};
pub use compression::{Algorithm, Compression};
pub use device::{DeviceSlot, VerityTag};
pub use directory::{DirEntry, Dirent};
pub use error::{Corrupt, Error, Feature, Result};
pub use extent::{Extent, Source};
pub use inode::{FileKind, Inode, Layout};
pub use metadata::{Metadata, Space};
pub use superblock::{superblock_checksum, superblock_checksum_size, Superblock};
pub use xattr::{split_xattr_name, xattr_entry_size, xattr_filter_bit, xattr_prefix, Xattr};
