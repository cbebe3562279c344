// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Changes to all files of a tree at once, as options of a builder ask for them.

use super::Tree;
use crate::tar::Time;

/// What all files get, where it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Modification time.
    pub mtime: Option<Time>,
}

/// Changes all files.
pub fn apply(tree: &mut Tree, edit: Edit) {
    for inode in &mut tree.inodes {
        let attributes = &mut inode.attributes;
        attributes.uid = edit.uid.unwrap_or(attributes.uid);
        attributes.gid = edit.gid.unwrap_or(attributes.gid);
        attributes.mtime = edit.mtime.or(attributes.mtime);
    }
}
