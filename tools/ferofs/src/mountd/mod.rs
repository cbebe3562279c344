// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Mounts for those who may not mount: somebody in a user namespace of his own, a rootless container for example, asks a service with
//! privileges, which makes filesystems of images that its policy knows by their fs-verity digests, or that are signed if it says
//! so, and of no others.
//!
//! Nobody's bytes are parsed that the policy does not name: the kernel compares the image's digest before it reads any of it, and the
//! digest answers for the blobs, whose own are in the image. The filesystem belongs to the user namespace of who asks, so owners are
//! those that are mapped there (the kernel's FS_USERNS_DELEGATABLE). Used by `ferofs mountd`, the service, and by [`crate::mount`], which asks it.

pub mod policy;
pub(crate) mod protocol;
pub mod service;

/// Where the service listens.
pub const SOCKET: &str = "/run/ferofs/mountd.sock";
/// The policy.
pub const POLICY: &str = "/etc/ferofs/mountd.conf";
