// SPDX-License-Identifier: GPL-2.0-only

//! Inodes: from a nid of the image to an inode of the VFS.

use crate::dir::Dir;
use crate::erofs;
use crate::erofs::ondisk::xattr_index;
use crate::erofs::FileKind;
use crate::file::Data;
use crate::metadata::Reader;
use crate::report;
use crate::vfs::dir;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::file;
use crate::vfs::inode::Attributes;
use crate::vfs::inode::Inode;
use crate::vfs::inode::Kind;
use crate::vfs::inode::LinkTarget;
use crate::vfs::inode::Lookup;
use crate::vfs::mapped::Mapped;
use crate::vfs::super_block::SuperBlock;
use crate::Ferofs;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kernel::sync::SetOnce;

/// What an inode of the VFS keeps of the image's.
pub(crate) struct Node {
    /// The inode as it is in the image.
    disk: erofs::Inode,
    /// The extent that is all of a file's data, once that is known: reading the chunk table again
    /// for every read would cost more than the rest of finding the way.
    whole: SetOnce<erofs::Extent>,
    /// Which pages a regular file is mapped from.
    mapped: Mapped,
}

impl Node {
    /// The inode as it is in the image.
    pub(crate) fn disk(&self) -> &erofs::Inode {
        &self.disk
    }

    /// Which pages a regular file is mapped from.
    pub(crate) fn mapped(&self) -> &Mapped {
        &self.mapped
    }

    /// The extent that is all of a file's data, if there is one and that is known.
    #[inline]
    pub(crate) fn whole(&self) -> Option<&erofs::Extent> {
        self.whole.as_ref()
    }

    /// The extent of the byte at `pos` of a file.
    ///
    /// # Errors
    ///
    /// Those of [`erofs::Inode::extent`].
    pub(crate) fn extent<M: erofs::Metadata>(
        &self,
        format: &erofs::Superblock,
        metadata: &M,
        pos: u64,
    ) -> Result<erofs::Extent, erofs::Error<M::Error>> {
        if let Some(whole) = self.whole.as_ref() {
            return Ok(*whole);
        }
        let extent = self.disk.extent(format, metadata, pos)?;
        if extent.start == 0 && extent.len >= self.disk.size() {
            // If another reader was faster, it found the same.
            self.whole.populate(extent);
        }
        Ok(extent)
    }
}

/// The longest target of a symbolic link in bytes, for it must fit a page with its NUL.
const LINK_MAX: usize = 4095;

/// The inode of a nid, from the cache or from the image.
///
/// # Errors
///
/// `EUCLEAN` and `EOPNOTSUPP` for what the image holds there, `ENOMEM`, and those of reading it.
pub(crate) fn get(sb: &SuperBlock<Ferofs>, nid: u64) -> Result<ARef<Inode<Ferofs>>> {
    read(sb, &sb.data().reader(false), nid)
}

/// The same, as part of an operation that reads the image through `reader`.
pub(crate) fn read(
    sb: &SuperBlock<Ferofs>,
    reader: &Reader<'_>,
    nid: u64,
) -> Result<ARef<Inode<Ferofs>>> {
    let new = match sb.inode(nid, nid, nid)? {
        Lookup::Cached(inode) => return Ok(inode),
        Lookup::New(new) => new,
    };
    let volume = sb.data();
    let inode = volume
        .format()
        .inode(reader, nid)
        .map_err(|error| report::in_use(sb, None, error))?;
    let kind = match inode.kind() {
        FileKind::Regular => Kind::Regular(const { file::operations::<Data>() }),
        FileKind::Directory => Kind::Directory(const { dir::operations::<Dir>() }),
        FileKind::Symlink => Kind::Symlink(link_target(sb, reader, &inode)?),
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
        may_have_acl: [
            xattr_index::POSIX_ACL_ACCESS,
            xattr_index::POSIX_ACL_DEFAULT,
        ]
        .into_iter()
        .any(|index| inode.may_have_xattr(index, &[])),
    };
    let node = Node {
        disk: inode,
        whole: SetOnce::new(),
        mapped: Mapped::new(),
    };
    new.init(&attributes, kind, node)
}

/// Reads the target of a symbolic link.
fn link_target(
    sb: &SuperBlock<Ferofs>,
    reader: &Reader<'_>,
    inode: &erofs::Inode,
) -> Result<LinkTarget> {
    let len = usize::try_from(inode.size()).map_err(|_| EUCLEAN)?;
    let mut buffer = KVec::from_elem(0u8, len.min(LINK_MAX), GFP_KERNEL)?;
    let len = inode
        .read_link(sb.data().format(), reader, &mut buffer)
        .map_err(|error| report::in_use(sb, None, error))?;
    LinkTarget::new(buffer.get(..len).ok_or(EUCLEAN)?)
}
