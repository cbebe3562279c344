// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of the crate through its public interface: against images put together by hand, against
//! those that mkfs.erofs makes, and against damaged ones.

#![allow(missing_docs)]

// All of small domains, which takes days at the speed of Miri.
#[cfg(not(miri))]
mod arithmetic;
mod cluster;
mod device;
mod directory;
mod extent;
mod hostile;
mod image;
mod inode;
// Of what other programs make.
#[cfg(not(miri))]
mod mkfs;
mod superblock;
mod symlink;
mod walk;
mod xattr;
