// SPDX-License-Identifier: GPL-2.0-only

//! `struct file_operations` of regular files: opening, reading and mapping.
//!
//! Reads go to the backing file ([`crate::vfs::node::read`]). Mappings need pages that begin where the file does
//! ([`crate::vfs::node::mapped`] says which), filled by [`crate::vfs::pages::page_cache`].

use crate::vfs::backing::listeners::Scope;
use crate::vfs::backing::reply::Wait;
use crate::vfs::bindings;
use crate::vfs::node::area::Area;
use crate::vfs::node::area::Watched;
use crate::vfs::node::backed::Backed;
use crate::vfs::node::getattr::getattr;
use crate::vfs::node::ioctl;
use crate::vfs::node::layout;
use crate::vfs::node::mapped;
use crate::vfs::node::opener::Opener;
use crate::vfs::node::read;
use crate::vfs::node::xattr;
use crate::vfs::object::fserror;
use crate::vfs::object::fserror::Access;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::operations;
use crate::vfs::pages::extent::Extents;
use crate::vfs::pages::extent::Source;
use crate::vfs::pages::page_cache;
use crate::vfs::pages::range::RangeCache;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// The operations of regular files whose extents `E` knows.
pub(crate) const fn operations<E: Extents<FileSystem: Backed>>(
) -> operations::Regular<E::FileSystem> {
    operations::Regular {
        inode: Table::<E>::INODE,
        file: Table::<E>::FILE,
        mapping: page_cache::Operations::<E>::TABLE,
        _p: PhantomData,
    }
}

struct Table<E: Extents<FileSystem: Backed>>(PhantomData<E>);

impl<E: Extents<FileSystem: Backed>> Table<E> {
    const INODE: &'static bindings::inode_operations = &bindings::inode_operations {
        getattr: Some(Self::getattr),
        fiemap: Some(layout::fiemap::<E>),
        listxattr: Some(xattr::Table::<E::FileSystem>::listxattr),
        get_inode_acl: Some(xattr::Table::<E::FileSystem>::get_inode_acl),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    const FILE: &'static bindings::file_operations = &bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        splice_read: Some(Self::splice_read),
        mmap: Some(Self::mmap),
        #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        unlocked_ioctl: Some(ioctl::ioctl::<E::FileSystem>),
        compat_ioctl: bindings::compat_ptr_ioctl,
        setlease: Some(bindings::generic_setlease),
        fadvise: Some(Self::fadvise),
        // SAFETY: The other members may be zero: no owner, no flags, no functions.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// # Safety
    ///
    /// Called by the VFS, for a regular file of `E::FileSystem` that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> i32 {
        // SAFETY: The VFS passes a file that no one else uses yet, and its inode.
        let (opened, inode, opener) = unsafe {
            (*file).f_mode |=
                bindings::VFS_CONST_FMODE_NOWAIT | bindings::VFS_CONST_FMODE_CAN_ODIRECT;
            (
                bindings::generic_file_open(inode, file),
                Inode::<E::FileSystem>::from_raw(inode),
                Opener::from_raw(file),
            )
        };
        from_result(|| {
            to_result(opened)?;
            let _excused = opener.excused(<E::FileSystem>::listeners(inode))?;
            // Where the file lies is found out here, for mmap() must not wait for it: it is called with the lock of
            // the caller's memory held.
            <E::FileSystem>::opening(inode)?;
            Self::set_change_cookie(inode);
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, for a file that was opened with [`Self::open`] and has no users left.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> i32 {
        // SAFETY: By the safety requirements.
        unsafe { Opener::from_raw(file) }.release();
        0
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open file of `E::FileSystem`.
    unsafe extern "C" fn read_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The file is open, and its inode stays while it is.
        let inode = unsafe { Inode::<E::FileSystem>::from_raw((*(*iocb).ki_filp).f_inode) };
        // SAFETY: The VFS passes a valid iterator, of which it is not defined what a read that fails leaves.
        let len = unsafe { read::left(iter) };
        from_result(|| {
            // SAFETY: The file is open.
            let opener = unsafe { Opener::from_raw((*iocb).ki_filp) };
            let _excused = opener.excused(<E::FileSystem>::listeners(inode))?;
            // SAFETY: That is what the VFS passes.
            let read = unsafe { read::read_iter::<E>(inode, iocb, iter) }.inspect_err(|error| {
                // SAFETY: As above. A read that fails leaves the position where it was.
                let (flags, pos) = unsafe { ((*iocb).ki_flags, (*iocb).ki_pos.unsigned_abs()) };
                let access = if flags & bindings::IOCB_DIRECT as i32 == 0 {
                    Access::Cached
                } else {
                    Access::Direct
                };
                fserror::read_failed(inode, access, pos, len, *error);
            })?;
            Ok(read as isize)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open file of `E::FileSystem`.
    unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        pos: *mut bindings::loff_t,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: u32,
    ) -> isize {
        // SAFETY: The file is open, and its inode stays while it is.
        let inode = unsafe { Inode::<E::FileSystem>::from_raw((*file).f_inode) };
        // SAFETY: The VFS passes a valid position.
        let start = unsafe { *pos }.unsigned_abs();
        from_result(|| {
            // SAFETY: The file is open.
            let opener = unsafe { Opener::from_raw(file) };
            let _excused = opener.excused(<E::FileSystem>::listeners(inode))?;
            // SAFETY: That is what the VFS passes.
            let read = unsafe { read::splice_read::<E>(inode, file, pos, pipe, len, flags) }
                .inspect_err(|error| {
                    fserror::read_failed(inode, Access::Cached, start, len as u64, *error);
                })?;
            Ok(read as isize)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open file of `E::FileSystem` and an area to map it to.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        area: *mut bindings::vm_area_struct,
    ) -> i32 {
        // SAFETY: The file is open, and its inode stays while it is.
        let inode = unsafe { Inode::<E::FileSystem>::from_raw((*file).f_inode) };
        from_result(|| {
            let range = <E::FileSystem>::mapped(inode)
                .choose(<E::FileSystem>::ranges(inode), || Self::find_range(inode))?;
            match range {
                Some(range) => {
                    range.refresh();
                    // SAFETY: The file is one of the inode, which has chosen the range.
                    unsafe { mapped::lead_to(range, inode, file) };
                }
                None => {
                    if <E::FileSystem>::mapped(inode).set_version(<E::FileSystem>::version(inode)) {
                        // The pages are from before a backing file was changed. What cannot be
                        // dropped now is being read, and as new as can be.
                        // SAFETY: The mapping is that of an inode in use.
                        unsafe { bindings::invalidate_inode_pages2(inode.mapping()) };
                    }
                }
            }
            // SAFETY: The file is open; the area is being set up.
            Ok(unsafe {
                mapped::set_readahead(file, mapped::readahead_pages(inode, file, 1));
                let error = bindings::generic_file_readonly_mmap(file, area);
                if error == 0 {
                    (*area).vm_ops = Area::<Self>::TABLE;
                }
                error
            })
        })
    }

    /// Sets the inode's `i_version` by which the integrity modules and NFS's server see that a file changed:
    /// called before they look. Finds out where the file lies, if that is not known yet.
    fn set_change_cookie(inode: &Inode<E::FileSystem>) {
        if E::whole(inode).is_none() && inode.size() > 0 {
            // What is wrong is reported to who reads.
            let _ = E::extent(inode, 0, false);
        }
        let version = match E::whole(inode) {
            Some((file, _)) => file.identity().version(),
            None => <E::FileSystem>::version(inode),
        };
        // SAFETY: The inode is in use.
        unsafe { bindings::vfs_helper_inode_set_iversion(inode.as_ptr(), version) };
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to `getattr` for a file of `E::FileSystem`.
    unsafe extern "C" fn getattr(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        request_mask: u32,
        query_flags: u32,
    ) -> i32 {
        // SAFETY: The path is valid, and its inode stays for the length of the call.
        let inode = unsafe { Inode::<E::FileSystem>::from_raw((*(*path).dentry).d_inode) };
        if request_mask & bindings::VFS_CONST_STATX_CHANGE_COOKIE != 0 {
            Self::set_change_cookie(inode);
        }
        if request_mask & bindings::STATX_DIOALIGN != 0 {
            // SAFETY: The VFS passes a structure to be filled in.
            let stat = unsafe { &mut *stat };
            stat.result_mask |= bindings::STATX_DIOALIGN;
            if let Ok(Some((mem, offset))) = layout::direct_alignment::<E>(inode) {
                stat.dio_mem_align = mem;
                stat.dio_offset_align = offset;
            }
        }
        // SAFETY: All is as the VFS passed it.
        unsafe { getattr(idmap, path, stat, request_mask, query_flags) }
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open file of `E::FileSystem`.
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: i32,
    ) -> bindings::loff_t {
        let hole = whence == bindings::SEEK_HOLE as i32;
        if !hole && whence != bindings::SEEK_DATA as i32 {
            // SAFETY: That is what the VFS passes.
            return unsafe { bindings::generic_file_llseek(file, offset, whence) };
        }
        // SAFETY: The file is open, and its inode stays while it is.
        let inode = unsafe { Inode::<E::FileSystem>::from_raw((*file).f_inode) };
        from_result(|| {
            let offset = u64::try_from(offset).map_err(|_| ENXIO)?;
            let found = layout::seek::<E>(inode, offset, hole)?;
            let found = i64::try_from(found).map_err(|_| EOVERFLOW)?;
            // SAFETY: The file is open; its superblock is valid.
            Ok(unsafe { bindings::vfs_setpos(file, found, (*(*inode.as_ptr()).i_sb).s_maxbytes) })
        })
    }

    /// Passes advice on to where it has its effect: pages that are mapped, the backing files that the file's
    /// bytes are cached with, and the readahead of this opener.
    ///
    /// # Safety
    ///
    /// Called by the VFS, for an open file of `E::FileSystem`.
    unsafe extern "C" fn fadvise(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        len: bindings::loff_t,
        advice: i32,
    ) -> i32 {
        // SAFETY: The file is open, and its inode stays while it is.
        let (inode, opener) = unsafe {
            (
                Inode::<E::FileSystem>::from_raw((*file).f_inode),
                Opener::from_raw(file),
            )
        };
        from_result(|| {
            let advice = u32::try_from(advice).map_err(|_| EINVAL)?;
            let start = u64::try_from(offset).map_err(|_| EINVAL)?;
            let end = match u64::try_from(len).map_err(|_| EINVAL)? {
                0 => u64::MAX,
                len => start.saturating_add(len),
            };
            match advice {
                bindings::POSIX_FADV_WILLNEED => {
                    // SAFETY: The file is open.
                    if unsafe { Self::will_need(inode, file, start, end) } {
                        return Ok(0);
                    }
                }
                // Checks the argument, and keeps the advice for the file's own pages.
                // SAFETY: The file is open.
                _ => to_result(unsafe {
                    bindings::generic_fadvise(file, offset, len, advice as i32)
                })?,
            }
            match advice {
                bindings::POSIX_FADV_DONTNEED => {
                    if let Some(range) = <E::FileSystem>::mapped(inode).range() {
                        range.invalidate(start, end);
                    }
                }
                bindings::POSIX_FADV_NORMAL | bindings::POSIX_FADV_SEQUENTIAL => {
                    let times = if advice == bindings::POSIX_FADV_NORMAL {
                        1
                    } else {
                        2
                    };
                    // SAFETY: The file is open.
                    unsafe {
                        mapped::set_readahead(file, mapped::readahead_pages(inode, file, times))
                    };
                }
                _ => {}
            }
            let about_bytes = matches!(
                advice,
                bindings::POSIX_FADV_WILLNEED | bindings::POSIX_FADV_DONTNEED
            );
            layout::for_each::<E>(inode, start, end, |pos, len, source| {
                let Source::File(backing, from) = source else {
                    return Ok(true);
                };
                let len = len.min(end.saturating_sub(pos));
                let (from, len) = if about_bytes { (*from, len) } else { (0, 0) };
                if let (Ok(from), Ok(len)) = (i64::try_from(from), i64::try_from(len)) {
                    let view = opener.view(backing, false)?;
                    // What is said of this opener's readahead must not change the mount's.
                    if about_bytes || view.as_ptr() != backing.as_ptr() {
                        backing.as_opener(|| {
                            // SAFETY: The view is open. That it takes no advice is no error.
                            unsafe {
                                bindings::vfs_fadvise(view.as_ptr(), from, len, advice as i32)
                            }
                        });
                    }
                }
                Ok(about_bytes)
            })?;
            Ok(0)
        })
    }

    /// Reads the pages between two positions, if the file's pages are mapped by anyone: then they are what is
    /// meant, as with madvise(2). Whether they are.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `inode`.
    unsafe fn will_need(
        inode: &Inode<E::FileSystem>,
        file: *mut bindings::file,
        start: u64,
        end: u64,
    ) -> bool {
        let first = (start >> PAGE_SHIFT) as usize;
        let behind = end.min(inode.size()).div_ceil(PAGE_SIZE as u64) as usize;
        // SAFETY: The file is open.
        unsafe { bindings::vfs_helper_read_mapped_ahead(file, first, behind) }
    }

    /// The range that is the whole file, if it is one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn find_range(inode: &Inode<E::FileSystem>) -> Result<Option<RangeCache>> {
        let size = inode.size();
        if size == 0 {
            return Ok(None);
        }
        if let Some(content) = E::content(inode).filter(|content| content.whole().is_none()) {
            return RangeCache::of_content(<E::FileSystem>::ranges(inode), content).map(Some);
        }
        // Metadata may not be waited for here, with the lock of the task's memory held: `open` did. What the
        // file's pages cannot be read from is an error for those who touch them.
        let Ok(extent) = E::extent(inode, 0, true) else {
            return Ok(None);
        };
        match extent.source {
            Source::File(backing, from) if extent.len >= size => {
                RangeCache::following(<E::FileSystem>::ranges(inode), backing, from, size).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl<E: Extents<FileSystem: Backed>> Watched for Table<E> {
    type FileSystem = E::FileSystem;

    fn ask(
        inode: &Inode<E::FileSystem>,
        range: Range<u64>,
        scope: &Scope<'_>,
        wait: Wait,
    ) -> Result {
        layout::for_each::<E>(inode, range.start, range.end, |pos, len, source| {
            if let Source::File(backing, from) = source {
                scope.ask(backing, *from, len.min(range.end.saturating_sub(pos)), wait)?;
            }
            Ok(true)
        })
    }
}
