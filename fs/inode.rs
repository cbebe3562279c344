// SPDX-License-Identifier: GPL-2.0-only

//! Inodes: from a nid of the image to an inode of the VFS.

use crate::decode::Decoded;
use crate::dir::Dir;
use crate::erofs;
use crate::erofs::ondisk::xattr_index;
use crate::erofs::FileKind;
use crate::file::Data;
use crate::filesystem::Ferofs;
use crate::in_use;
use crate::metadata::Reader;
use crate::node::Node;
use crate::number;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::node::decoded;
use crate::vfs::node::dir;
use crate::vfs::node::file;
use crate::vfs::node::special;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::link_target::LinkTarget;
use crate::vfs::object::new_inode::Attributes;
use crate::vfs::object::new_inode::Kind;
use crate::vfs::object::new_inode::Lookup;
use crate::vfs::object::super_block::SuperBlock;
use crate::volume::Volume;
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
    read(sb, &Volume::reader(sb, false), nid)
}

/// The same, as part of an operation that reads the image through `reader`.
pub(crate) fn read(
    sb: &SuperBlock<Ferofs>,
    reader: &Reader<'_>,
    nid: u64,
) -> Result<ARef<Inode<Ferofs>>> {
    let new = match sb.inode(nid, number::of(sb.data().format(), nid), nid)? {
        Lookup::Cached(inode) => return Ok(inode),
        Lookup::New(new) => new,
    };
    let volume = sb.data();
    let inode = volume
        .format()
        .inode(reader, nid)
        .map_err(|error| in_use::report(sb, None, error))?;
    let is_compressed = matches!(inode.layout(), erofs::Layout::Compressed { .. });
    let kind = match inode.kind() {
        FileKind::Regular if is_compressed => {
            Kind::Regular(const { decoded::operations::<Decoded>() })
        }
        FileKind::Regular => Kind::Regular(const { file::operations::<Data>() }),
        FileKind::Directory if is_compressed => {
            Kind::Directory(const { dir::decoded::<Dir, Decoded>() })
        }
        FileKind::Directory => Kind::Directory(const { dir::operations::<Dir>() }),
        FileKind::Symlink if is_compressed => {
            Kind::CachedSymlink(const { decoded::symlink::<Decoded>() })
        }
        FileKind::Symlink => {
            let target = link_target(sb, reader, &inode)?;
            Kind::Symlink(const { special::symlink::<Ferofs>() }, target)
        }
        _ => Kind::Special(const { special::special::<Ferofs>() }, inode.rdev()),
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
        may_have_acl: [
            xattr_index::POSIX_ACL_ACCESS,
            xattr_index::POSIX_ACL_DEFAULT,
        ]
        .into_iter()
        .any(|index| inode.may_have_xattr(index, &[])),
    };
    new.init(&attributes, kind, Node::new(inode))
}

/// Reads the target of a symbolic link.
#[inline(never)]
fn link_target(
    sb: &SuperBlock<Ferofs>,
    reader: &Reader<'_>,
    inode: &erofs::Inode,
) -> Result<LinkTarget> {
    let len = usize::try_from(inode.size()).map_err(|_| EUCLEAN)?;
    let mut buffer = KVec::from_elem(0u8, len.min(LINK_MAX), GFP_KERNEL)?;
    let len = inode
        .read_link(sb.data().format(), reader, &mut buffer)
        .map_err(|error| in_use::report(sb, None, error))?;
    LinkTarget::new(buffer.get(..len).ok_or(EUCLEAN)?)
}
