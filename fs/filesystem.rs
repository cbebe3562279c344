// SPDX-License-Identifier: GPL-2.0-only

//! The filesystem type: what its superblocks and inodes hold. What it does is in the crate's root.

use crate::node::Node;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::pages::range::RangeHome;
use crate::volume::Volume;
use kernel::str::CStr;
use kernel::sync::Arc;

/// The filesystem type.
pub(crate) struct Ferofs;

impl FileSystem for Ferofs {
    const NAME: &'static CStr = c"ferofs";
    /// Where the caches live that mounts of one image, and files of one blob, share.
    type Shared = Arc<RangeHome>;
    type Super = Volume;
    /// The nid.
    type Key = u64;
    type Inode = Node;
}
