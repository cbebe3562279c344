// SPDX-License-Identifier: GPL-2.0-only

//! `struct file_operations` of regular files: opening, reading and mapping.
//!
//! Reads go to the backing file ([`super::read`]). Mappings need pages that begin where the file
//! does: a file that is one extent of one backing file is mapped through the cache of that range,
//! which all who refer to the same bytes share ([`super::range`]); any other has pages of its own
//! ([`super::page_cache`]).

use super::backing::Credentials;
use super::bindings;
use super::extent::Extents;
use super::extent::Source;
use super::inode;
use super::inode::Inode;
use super::ioctl;
use super::layout;
use super::opener::Opener;
use super::page_cache;
use super::range::RangeCache;
use super::range::RangeMount;
use super::range::MAPPED_READAHEAD_MAX;
use super::read;
use super::xattr;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::prelude::*;

/// Extents of files that users open.
pub(crate) trait Files: Extents {
    /// Where the caches for ranges of the files' backing files are.
    fn ranges(inode: &Inode<Self::FileSystem>) -> &RangeMount;

    /// Whether listeners of fanotify may have to allow reads of any of the files' backing files.
    fn is_watched(inode: &Inode<Self::FileSystem>) -> bool;

    /// A number that changes when any of the files' backing files does. Not zero.
    fn version(inode: &Inode<Self::FileSystem>) -> u64;
}

/// The operations of regular files of `T`; made by [`operations`].
pub(crate) struct Operations<T> {
    pub(super) inode: &'static bindings::inode_operations,
    pub(super) file: &'static bindings::file_operations,
    pub(super) mapping: &'static bindings::address_space_operations,
    _p: PhantomData<T>,
}

/// The operations of regular files whose extents `E` knows.
pub(crate) const fn operations<E: Files>() -> Operations<E::FileSystem> {
    Operations {
        inode: Table::<E>::INODE,
        file: Table::<E>::FILE,
        mapping: page_cache::Operations::<E>::TABLE,
        _p: PhantomData,
    }
}

/// The operations of dentries of a filesystem whose regular files are `E`.
pub(super) const fn dentry_operations<E: Files>() -> &'static bindings::dentry_operations {
    Table::<E>::DENTRY
}

struct Table<E: Files>(PhantomData<E>);

impl<E: Files> Table<E> {
    const INODE: &'static bindings::inode_operations = &bindings::inode_operations {
        getattr: Some(Self::getattr),
        fiemap: Some(layout::fiemap::<E>),
        listxattr: Some(xattr::Table::<E::FileSystem>::listxattr),
        get_inode_acl: Some(xattr::Table::<E::FileSystem>::get_inode_acl),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    const DENTRY: &'static bindings::dentry_operations = &bindings::dentry_operations {
        d_real: Some(Self::d_real),
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
            if E::whole(inode).is_none() && inode.size() > 0 {
                // Where the file lies is found out now, for mmap() must not wait for it: it is called
                // with the lock of the caller's memory held. What is wrong is reported to who reads.
                let _ = E::extent(inode, 0, false);
            }
            Self::ask(inode, opener)?;
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
        // SAFETY: That is what the VFS passes.
        from_result(|| Ok(unsafe { read::read_iter::<E>(inode, iocb, iter) }? as isize))
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
        from_result(|| {
            // SAFETY: That is what the VFS passes.
            Ok(unsafe { read::splice_read::<E>(inode, file, pos, pipe, len, flags) }? as isize)
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
            // Metadata may not be waited for here: `open` did.
            match Self::range(inode, true) {
                // SAFETY: As above.
                Some(range) => unsafe { range.map(E::ranges(inode), file, area) },
                None => {
                    if inode.set_version(E::version(inode)) {
                        // The pages are from before a backing file was changed. What cannot be
                        // dropped now is being read, and as new as can be.
                        // SAFETY: The mapping is that of an inode in use.
                        unsafe { bindings::invalidate_inode_pages2(inode.mapping()) };
                    }
                    // A fault waits for all of what it reads ahead.
                    // SAFETY: As above. Others may set this at any time, too.
                    Ok(unsafe {
                        let pages = &raw mut (*file).__bindgen_anon_3.f_ra.ra_pages;
                        pages.write_volatile(pages.read_volatile().min(MAPPED_READAHEAD_MAX));
                        bindings::generic_file_readonly_mmap(file, area)
                    })
                }
            }
        })
    }

    /// Asks whether what lies in backing files may be read, where someone has to be asked: all of it, for
    /// mappings may grow, and pages of them are read in faults.
    fn ask(inode: &Inode<E::FileSystem>, opener: Opener<'_>) -> Result {
        if !E::is_watched(inode) || opener.is_silent() {
            return Ok(());
        }
        layout::for_each::<E>(inode, 0, inode.size(), |_, len, source| {
            if let Source::File(backing, from) = source {
                backing.ask(*from, len)?;
            }
            Ok(true)
        })
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
        if request_mask & bindings::STATX_DIOALIGN != 0 {
            // SAFETY: The path is valid, and its inode stays for the length of the call.
            let inode = unsafe { Inode::<E::FileSystem>::from_raw((*(*path).dentry).d_inode) };
            // SAFETY: The VFS passes a structure to be filled in.
            let stat = unsafe { &mut *stat };
            stat.result_mask |= bindings::STATX_DIOALIGN;
            if let Ok(Some((mem, offset))) = layout::direct_alignment::<E>(inode) {
                stat.dio_mem_align = mem;
                stat.dio_offset_align = offset;
            }
        }
        // SAFETY: All is as the VFS passed it.
        unsafe { inode::getattr(idmap, path, stat, request_mask, query_flags) }
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

    /// Passes advice on to where it has its effect: the backing files that the file's bytes are
    /// cached with, and the readahead of this opener.
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
            let about_bytes = matches!(
                u32::try_from(advice),
                Ok(bindings::POSIX_FADV_WILLNEED | bindings::POSIX_FADV_DONTNEED)
            );
            if advice != bindings::POSIX_FADV_WILLNEED as i32 {
                // Checks the arguments, and keeps the advice for the file's own pages.
                // SAFETY: The file is open.
                to_result(unsafe { bindings::generic_fadvise(file, offset, len, advice) })?;
            }
            let start = u64::try_from(offset).map_err(|_| EINVAL)?;
            let end = match u64::try_from(len).map_err(|_| EINVAL)? {
                0 => u64::MAX,
                len => start.saturating_add(len),
            };
            if let (Ok(bindings::POSIX_FADV_DONTNEED), Some(range)) =
                (u32::try_from(advice), inode.range())
            {
                range.invalidate(start, end);
            }
            layout::for_each::<E>(inode, start, end, |pos, len, source| {
                if let Source::File(backing, from) = source {
                    let len = len.min(end.saturating_sub(pos));
                    let (from, len) = if about_bytes { (*from, len) } else { (0, 0) };
                    if let (Ok(from), Ok(len)) = (i64::try_from(from), i64::try_from(len)) {
                        let view = opener.view(backing, false);
                        // What is said of this opener's readahead must not change the mount's.
                        if about_bytes || view != backing.as_ptr() {
                            let _as_opener = Credentials::of(backing);
                            // SAFETY: The view is open. That it takes no advice is no error.
                            unsafe { bindings::vfs_fadvise(view, from, len, advice) };
                        }
                    }
                    return Ok(about_bytes);
                }
                Ok(true)
            })?;
            Ok(0)
        })
    }

    /// The cache of the range that is the whole file, if it is one, as the backing file is now.
    fn range(inode: &Inode<E::FileSystem>, nowait: bool) -> Option<RangeCache> {
        let known = inode.range();
        if known.as_ref().is_some_and(RangeCache::is_current) {
            return known;
        }
        // If another mapping is as fast it finds the same cache.
        let found = Self::find_range(inode, nowait);
        if known.is_some() || found.is_some() {
            inode.set_range(found.clone());
        }
        found
    }

    /// Looks for what [`Self::range`] returns.
    fn find_range(inode: &Inode<E::FileSystem>, nowait: bool) -> Option<RangeCache> {
        let size = inode.size();
        if size == 0 {
            return None;
        }
        // What the file's pages cannot be read from is an error for those who touch them.
        let extent = E::extent(inode, 0, nowait).ok()?;
        let (Source::File(backing, from), true) = (extent.source, extent.len >= size) else {
            return None;
        };
        RangeCache::get(E::ranges(inode), backing, from, size).ok()
    }

    /// The dentry whose inode has the mappings of a file's pages: probes of a program's code look
    /// for them there.
    ///
    /// # Safety
    ///
    /// Called by the VFS, for a dentry of `E::FileSystem`, from where it may sleep.
    unsafe extern "C" fn d_real(
        dentry: *mut bindings::dentry,
        kind: bindings::d_real_type,
    ) -> *mut bindings::dentry {
        // SAFETY: The dentry is referenced, and while it is its inode stays, if it has one.
        let regular = unsafe {
            let inode = (*dentry).d_inode;
            (!inode.is_null() && u32::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFREG)
                .then(|| Inode::<E::FileSystem>::from_raw(inode))
        };
        if kind != bindings::d_real_type_D_REAL_DATA {
            return dentry;
        }
        // The range's dentry stays as long as the inode.
        regular
            .and_then(|inode| inode.real(|| Self::range(inode, false)?.dentry().ok()))
            .map_or(dentry, NonNull::as_ptr)
    }
}
