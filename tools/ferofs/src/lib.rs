// SPDX-License-Identifier: GPL-2.0-only OR MIT

#![doc = include_str!("../README.md")]
//!
//! # How it is made
//!
//! An image is made in three steps, each a module: [`tar`] reads an archive, [`tree`] holds the
//! files it comes to, [`image`] writes them. The `ferofs` command is a thin layer over this crate.

#![forbid(unsafe_code)]
// No input makes it panic.
#![warn(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod acl;
pub mod blobs;
pub mod build;
mod chunk;
pub mod clusters;
pub mod commit;
pub mod compression;
pub mod digest;
mod direct;
mod directory;
pub mod dm_verity;
pub mod error;
pub mod export;
pub mod files;
pub mod fsverity;
mod hashing;
pub mod image;
pub mod index;
pub mod inspect;
pub mod merge;
pub mod mount;
pub mod mountd;
mod mounts;
mod number;
pub mod oci;
mod open;
pub mod opened;
pub mod output;
#[cfg(feature = "points")]
pub mod points;
pub mod read_at;
#[cfg(feature = "serve")]
pub mod serve;
mod setters;
pub mod tar;
mod tee;
pub mod text;
pub mod tree;

/// The format itself: what [`inspect`] gives of it are its types.
pub use erofs_format as format;
