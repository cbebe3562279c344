// SPDX-License-Identifier: GPL-2.0-only

//! What a filesystem knows of the backing files of its regular files, whether their bytes lie there as they are
//! ([`crate::vfs::node::file`]) or are decoded ([`crate::vfs::node::decoded`]).

use crate::vfs::backing::listeners::Listeners;
use crate::vfs::node::ioctl::Label;
use crate::vfs::node::mapped::Mapped;
use crate::vfs::node::xattr::Xattrs;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::range::RangeMount;
use kernel::error::Result;

/// A filesystem with regular files that users open.
pub(crate) trait Backed: Xattrs + Label {
    /// Where the caches for ranges of a file's backing files are.
    fn ranges(inode: &Inode<Self>) -> &RangeMount;

    /// Which pages a file is mapped from, and which version of the backing files its own are from.
    fn mapped(inode: &Inode<Self>) -> &Mapped;

    /// Called when a file whose bytes lie somewhere is opened, before it is asked where: the first time is when it can join others that
    /// are equal to it.
    ///
    /// # Errors
    ///
    /// Those for which it is not opened.
    fn opening(_inode: &Inode<Self>) -> Result {
        Ok(())
    }

    /// Listeners of fanotify, if there may be some who have to allow reads of any of a file's backing files.
    fn listeners(inode: &Inode<Self>) -> Option<&Listeners>;

    /// A number that changes when any of a file's backing files does. Not zero.
    fn version(inode: &Inode<Self>) -> u64;
}
