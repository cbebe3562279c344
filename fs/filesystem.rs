// SPDX-License-Identifier: GPL-2.0-only

//! The filesystem type: what its superblocks and inodes hold. What it does is in the crate's root.

use crate::node::Node;
use crate::share_table::ShareTable;
use crate::vfs::backing::listeners::Listeners;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::pages::range::RangeHome;
use crate::vfs::workers::Workers;
use crate::volume::Volume;
use kernel::str::CStr;
use kernel::sync::Arc;

/// What all mounts share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Where the caches live that mounts of one image, and files of one blob, share.
    pub(crate) ranges: Arc<RangeHome>,
    /// What files of different images have in common.
    pub(crate) shares: Arc<ShareTable>,
    /// Who fills pages that nobody waits for yet.
    pub(crate) workers: Arc<Workers>,
    /// Who asks listeners of fanotify.
    pub(crate) listeners: Arc<Listeners>,
}

/// The filesystem type.
pub(crate) struct Ferofs;

impl FileSystem for Ferofs {
    const NAME: &'static CStr = c"ferofs";
    type Shared = Shared;
    type Super = Volume;
    /// The nid.
    type Key = u64;
    type Inode = Node;

    fn leaving(shared: &Shared, volume: &Volume) {
        // They have inodes of mounts whose files share their pages.
        if volume.domain().is_some() {
            shared.workers.flush();
        }
    }
}
