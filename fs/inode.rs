// SPDX-License-Identifier: GPL-2.0-only

//! Inodes: from a nid of the image to an inode of the VFS.

use crate::dir::Dir;
use crate::erofs;
use crate::erofs::ondisk::xattr_index;
use crate::erofs::FileKind;
use crate::file::Data;
use crate::vfs::dir;
use crate::vfs::file;
use crate::vfs::inode::Attributes;
use crate::vfs::inode::Inode;
use crate::vfs::inode::Kind;
use crate::vfs::inode::LinkTarget;
use crate::vfs::inode::Lookup;
use crate::vfs::super_block::SuperBlock;
use crate::volume::Volume;
use crate::Ferofs;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

/// The longest target of a symbolic link in bytes, for it must fit a page with its NUL.
const LINK_MAX: usize = 4095;

/// The inode of a nid, from the cache or from the image.
///
/// # Errors
///
/// `EUCLEAN` and `EOPNOTSUPP` for what the image holds there, `ENOMEM`, and those of reading it.
pub(crate) fn get(sb: &SuperBlock<Ferofs>, nid: u64) -> Result<ARef<Inode<Ferofs>>> {
    let new = match sb.inode(nid, nid)? {
        Lookup::Cached(inode) => return Ok(inode),
        Lookup::New(new) => new,
    };
    let volume = sb.data();
    let inode = volume
        .format()
        .inode(volume.metadata(), nid)
        .map_err(|error| volume.report(error))?;
    let kind = match inode.kind() {
        FileKind::Regular => Kind::Regular(const { file::operations::<Data>() }),
        FileKind::Directory => Kind::Directory(const { dir::operations::<Dir>() }),
        FileKind::Symlink => Kind::Symlink(link_target(volume, &inode)?),
        _ => Kind::Special(inode.rdev()),
    };
    let attributes = Attributes {
        mode: inode.mode(),
        uid: inode.uid(),
        gid: inode.gid(),
        nlink: inode.nlink(),
        size: inode.size(),
        blocks: inode.sectors(volume.format()),
        mtime: inode.mtime(),
        mtime_nsec: inode.mtime_nsec(),
        may_have_acl: [xattr_index::POSIX_ACL_ACCESS, xattr_index::POSIX_ACL_DEFAULT]
            .into_iter()
            .any(|index| inode.may_have_xattr(index, &[])),
    };
    new.init(&attributes, kind, inode)
}

/// Reads the target of a symbolic link.
fn link_target(volume: &Volume, inode: &erofs::Inode) -> Result<LinkTarget> {
    let len = usize::try_from(inode.size()).map_err(|_| EUCLEAN)?;
    let mut buffer = KVec::from_elem(0u8, len.min(LINK_MAX), GFP_KERNEL)?;
    let len = inode
        .read_link(volume.format(), volume.metadata(), &mut buffer)
        .map_err(|error| volume.report(error))?;
    LinkTarget::new(buffer.get(..len).ok_or(EUCLEAN)?)
}
