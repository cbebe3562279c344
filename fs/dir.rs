// SPDX-License-Identifier: GPL-2.0-only

//! Directories: lookup and listing.

use crate::file::Data;
use crate::filesystem::Ferofs;
use crate::in_use;
use crate::inode;
use crate::number;
use crate::vfs::errno::ENAMETOOLONG;
use crate::vfs::node::dir::Directory;
use crate::vfs::node::dir::Emitter;
use crate::vfs::object::dentry::LookupDentry;
use crate::vfs::object::dentry::Spliced;
use crate::vfs::object::inode::Inode;
use crate::volume::Volume;
use kernel::prelude::*;
use kernel::sync::aref::ARef;

/// How many entries are handed out between looks at whether the task is being killed.
const ENTRIES_BETWEEN_CHECKS: u32 = 1024;

/// What a directory of an image does.
pub(crate) struct Dir;

/// The directory that `dir` is in.
///
/// # Errors
///
/// `ENOENT` if it does not say so, and those of [`inode::read`].
pub(crate) fn parent(dir: &Inode<Ferofs>) -> Result<ARef<Inode<Ferofs>>> {
    find(dir, b"..")?.ok_or(ENOENT)
}

/// The inode that has a name in `dir`, if there is one.
fn find(dir: &Inode<Ferofs>, name: &[u8]) -> Result<Option<ARef<Inode<Ferofs>>>> {
    let sb = dir.super_block();
    let volume = sb.data();
    let reader = Volume::reader(sb, false);
    let found = dir
        .data()
        .disk()
        .lookup(volume.format(), &reader, name)
        .map_err(|error| in_use::report(dir.super_block(), Some(dir), error))?;
    found
        .map(|entry| inode::read(sb, &reader, entry.nid))
        .transpose()
}

impl Directory for Dir {
    type FileSystem = Ferofs;
    type Data = Data;

    fn lookup(dir: &Inode<Ferofs>, dentry: LookupDentry<'_, Ferofs>) -> Result<Spliced> {
        let name = dentry.name();
        if name.len() > crate::erofs::ondisk::NAME_MAX {
            return Err(ENAMETOOLONG);
        }
        let inode = find(dir, name)?;
        Ok(dentry.splice(inode))
    }

    fn iterate(dir: &Inode<Ferofs>, emitter: &mut Emitter<'_>) -> Result {
        let volume = dir.super_block().data();
        let reader = Volume::reader(dir.super_block(), false);
        loop {
            let mut left = ENTRIES_BETWEEN_CHECKS;
            let mut full = false;
            let start = emitter.position();
            let end = dir
                .data()
                .disk()
                .read_dir(volume.format(), &reader, start, &mut |entry| {
                    if left == 0 {
                        return false;
                    }
                    left = left.wrapping_sub(1);
                    emitter.set_position(entry.pos);
                    let number = number::of(volume.format(), entry.nid);
                    full = !emitter.emit(entry.name, number, entry.file_type);
                    if !full {
                        // If a bad entry comes next, the listing must not begin here again.
                        emitter.set_position(entry.next);
                    }
                    !full
                })
                .map_err(|error| in_use::report(dir.super_block(), Some(dir), error))?;
            emitter.set_position(end);
            if full || left != 0 {
                return Ok(());
            }
            if emitter.interrupted() {
                return Err(EINTR);
            }
        }
    }
}
