// SPDX-License-Identifier: GPL-2.0-only

//! Extended attributes of an image's inodes.

use crate::erofs::ondisk::xattr_index;
use crate::filesystem::Ferofs;
use crate::in_use;
use crate::vfs::errno::ENODATA;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::node::xattr::Namespace;
use crate::vfs::object::inode::Inode;
use crate::volume::Volume;
use kernel::prelude::*;

/// The namespaces with the indexes by which the format knows them.
const INDEXES: [(Namespace, u8); 5] = [
    (Namespace::User, xattr_index::USER),
    (Namespace::Trusted, xattr_index::TRUSTED),
    (Namespace::Security, xattr_index::SECURITY),
    (Namespace::AclAccess, xattr_index::POSIX_ACL_ACCESS),
    (Namespace::AclDefault, xattr_index::POSIX_ACL_DEFAULT),
];

/// Reads the value of an attribute into `buffer`, if it fits. Its size in any case.
///
/// # Errors
///
/// `ENODATA` if there is no such attribute, `EOPNOTSUPP` for those that the mount's options hide,
/// and those of reading the image.
pub(crate) fn get(
    inode: &Inode<Ferofs>,
    space: Namespace,
    name: &[u8],
    buffer: &mut [u8],
) -> Result<usize> {
    let volume = inode.super_block().data();
    // The VFS asks for access control lists only where they are honoured, and keeps what it is told: so it is always
    // told what is there.
    if space == Namespace::User && volume.settings().hides(space) {
        return Err(EOPNOTSUPP);
    }
    let index = INDEXES
        .iter()
        .find_map(|(of, index)| (*of == space).then_some(*index))
        .ok_or(EOPNOTSUPP)?;
    inode
        .data()
        .disk()
        .get_xattr(
            volume.format(),
            &Volume::reader(inode.super_block(), false),
            index,
            name,
            buffer,
        )
        .map_err(|error| in_use::report(inode.super_block(), Some(inode), error))?
        .ok_or(ENODATA)
}

/// Calls `emit` with each attribute that the mount's options do not hide, until it returns false.
///
/// # Errors
///
/// Those of reading the image.
pub(crate) fn list(
    inode: &Inode<Ferofs>,
    emit: &mut dyn FnMut(Namespace, &[u8]) -> bool,
) -> Result {
    let volume = inode.super_block().data();
    inode
        .data()
        .disk()
        .list_xattrs(
            volume.format(),
            &Volume::reader(inode.super_block(), false),
            &mut |xattr| {
                let space = INDEXES
                    .iter()
                    .find_map(|(space, index)| (*index == xattr.index).then_some(*space));
                match space {
                    Some(space) if !volume.settings().hides(space) => emit(space, xattr.name),
                    _ => true,
                }
            },
        )
        .map_err(|error| in_use::report(inode.super_block(), Some(inode), error))
}
