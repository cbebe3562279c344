// SPDX-License-Identifier: GPL-2.0-only

//! `struct file_operations` of regular files whose bytes are decoded, and the page caches of directories and symbolic links
//! that are. All reads go through the page cache of the inode, or of all inodes that are known to be equal to it, which
//! [`crate::vfs::pages::decode`] fills; for files whose bytes lie somewhere as they are see [`crate::vfs::node::file`].

use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::listeners::Listeners;
use crate::vfs::backing::listeners::Scope;
use crate::vfs::backing::reply::Wait;
use crate::vfs::bindings;
use crate::vfs::errno::EUCLEAN;
use crate::vfs::node::area::Area;
use crate::vfs::node::area::Watched;
use crate::vfs::node::backed::Backed;
use crate::vfs::node::getattr::compressed_getattr;
use crate::vfs::node::ioctl;
use crate::vfs::node::mapped;
use crate::vfs::node::opener::Opener;
use crate::vfs::node::read;
use crate::vfs::node::xattr;
use crate::vfs::node::xattr::Xattrs;
use crate::vfs::object::fserror;
use crate::vfs::object::fserror::Access;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::operations;
use crate::vfs::pages::cluster::Cluster;
use crate::vfs::pages::cluster::Clusters;
use crate::vfs::pages::cluster::Content;
use crate::vfs::pages::cluster::Place;
use crate::vfs::pages::decode;
use crate::vfs::pages::range::RangeCache;
use crate::vfs::task::rest;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// How many clusters are looked at between looks at whether the task is being killed.
const CLUSTERS_BETWEEN_CHECKS: u32 = 256;

/// The operations of regular files whose clusters `C` knows.
pub(crate) const fn operations<C: Clusters<FileSystem: Backed>>(
) -> operations::Regular<C::FileSystem> {
    operations::Regular {
        inode: Table::<C>::INODE,
        file: Table::<C>::FILE,
        mapping: decode::Operations::<C>::TABLE,
        _p: PhantomData,
    }
}

/// The operations of symbolic links, whose targets are decoded as `C` knows.
pub(crate) const fn symlink<C: Clusters<FileSystem: Xattrs>>(
) -> operations::CachedSymlink<C::FileSystem> {
    operations::CachedSymlink {
        inode: Symlink::<C>::TABLE,
        mapping: decode::Operations::<C>::TABLE,
        _p: PhantomData,
    }
}

struct Symlink<C: Clusters>(PhantomData<C>);

impl<C: Clusters<FileSystem: Xattrs>> Symlink<C> {
    const TABLE: &'static bindings::inode_operations = &bindings::inode_operations {
        get_link: Some(bindings::page_get_link),
        getattr: Some(compressed_getattr),
        listxattr: Some(xattr::Table::<C::FileSystem>::listxattr),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };
}

struct Table<C: Clusters<FileSystem: Backed>>(PhantomData<C>);

impl<C: Clusters<FileSystem: Backed>> Table<C> {
    const INODE: &'static bindings::inode_operations = &bindings::inode_operations {
        getattr: Some(Self::getattr),
        fiemap: Some(fiemap::<C>),
        listxattr: Some(xattr::Table::<C::FileSystem>::listxattr),
        get_inode_acl: Some(xattr::Table::<C::FileSystem>::get_inode_acl),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    const FILE: &'static bindings::file_operations = &bindings::file_operations {
        open: Some(Self::open),
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        splice_read: Some(Self::splice_read),
        mmap: Some(Self::mmap),
        #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
        get_unmapped_area: Some(bindings::thp_get_unmapped_area),
        unlocked_ioctl: Some(ioctl::ioctl::<C::FileSystem>),
        compat_ioctl: bindings::compat_ptr_ioctl,
        setlease: Some(bindings::generic_setlease),
        // SAFETY: The other members may be zero: no owner, no flags, no functions.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// Sets the inode's `i_version` by which the integrity modules and NFS's server see that a file changed, and drops the
    /// pages that are from before a backing file was changed. What cannot be dropped is being read, and as new as can be.
    fn refresh(inode: &Inode<C::FileSystem>) {
        let version = <C::FileSystem>::version(inode);
        // SAFETY: The inode is in use, and the mapping that of its pages.
        unsafe {
            bindings::vfs_helper_inode_set_iversion(inode.as_ptr(), version);
            if <C::FileSystem>::mapped(inode).set_version(version) {
                bindings::invalidate_inode_pages2(pages_of(inode));
            }
        }
    }

    /// The cache that the pages of a file which is being opened are in, if it has them in common with others.
    fn join(inode: &Inode<C::FileSystem>) -> Result<Option<&RangeCache>> {
        let mount = <C::FileSystem>::ranges(inode);
        <C::FileSystem>::mapped(inode).choose(mount, || {
            let ops = &const { decode::shared::<C>() };
            C::shared_by(inode)?
                .map(|key| RangeCache::of_decoded(mount, key, ops))
                .transpose()
        })
    }

    /// Says how much is read ahead for a file whose pages are in a cache that cannot know it.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `inode`.
    unsafe fn ready(inode: &Inode<C::FileSystem>, file: *mut bindings::file) {
        if <C::FileSystem>::mapped(inode).range().is_some() {
            // SAFETY: By the safety requirements.
            unsafe { mapped::set_readahead(file, mapped::readahead_pages(inode, file, 1)) };
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, for a regular file of `C::FileSystem` that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> i32 {
        // SAFETY: The VFS passes a file that no one else uses yet, and its inode.
        let (opened, inode) = unsafe {
            (*file).f_mode |= bindings::VFS_CONST_FMODE_NOWAIT;
            (
                bindings::generic_file_open(inode, file),
                Inode::<C::FileSystem>::from_raw(inode),
            )
        };
        from_result(|| {
            to_result(opened)?;
            if let Some(range) = Self::join(inode)? {
                // SAFETY: The file is one of the inode, which has chosen the range.
                unsafe { mapped::lead_to(range, inode, file) };
            }
            Self::refresh(inode);
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open file of `C::FileSystem`.
    unsafe extern "C" fn read_iter(
        iocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The file is open, and its inode stays while it is.
        let inode = unsafe { Inode::<C::FileSystem>::from_raw((*(*iocb).ki_filp).f_inode) };
        // SAFETY: The VFS passes a valid control block and iterator, of which it is not defined what a read that fails
        // leaves. There are no direct reads: no file was opened for them.
        unsafe {
            Self::ready(inode, (*iocb).ki_filp);
            let (len, pos) = (read::left(iter), (*iocb).ki_pos.unsigned_abs());
            let may_wait = (*iocb).ki_flags & bindings::VFS_CONST_IOCB_NOWAIT == 0;
            let read = match Asked::new::<C>(inode, (*iocb).ki_filp, pos, len, may_wait) {
                Ok(asked) => {
                    let behind = len.saturating_sub(asked.len) as usize;
                    *read::count_of(iter) = (*read::count_of(iter)).wrapping_sub(behind);
                    let read = bindings::generic_file_read_iter(iocb, iter);
                    *read::count_of(iter) = (*read::count_of(iter)).wrapping_add(behind);
                    read
                }
                Err(error) => error.to_errno() as isize,
            };
            failed(inode, pos, len, read)
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open file of `C::FileSystem`.
    unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        pos: *mut bindings::loff_t,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: u32,
    ) -> isize {
        // SAFETY: The file is open, and its inode stays while it is.
        let inode = unsafe { Inode::<C::FileSystem>::from_raw((*file).f_inode) };
        // SAFETY: All is as the VFS passed it.
        unsafe {
            Self::ready(inode, file);
            let start = (*pos).unsigned_abs();
            let read = match Asked::new::<C>(inode, file, start, len as u64, true) {
                Ok(asked) => {
                    bindings::filemap_splice_read(file, pos, pipe, asked.len as usize, flags)
                }
                Err(error) => error.to_errno() as isize,
            };
            failed(inode, start, len as u64, read)
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open file of `C::FileSystem` and an area to map it to.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        area: *mut bindings::vm_area_struct,
    ) -> i32 {
        // SAFETY: The file is open, and its inode stays while it is.
        let inode = unsafe { Inode::<C::FileSystem>::from_raw((*file).f_inode) };
        Self::refresh(inode);
        // SAFETY: The file is open; the area is being set up.
        unsafe {
            Self::ready(inode, file);
            let error = bindings::generic_file_readonly_mmap(file, area);
            if error == 0 {
                (*area).vm_ops = Area::<Self>::TABLE;
            }
            error
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, with what it passes to `getattr` for a file of `C::FileSystem`.
    unsafe extern "C" fn getattr(
        idmap: *mut bindings::mnt_idmap,
        path: *const bindings::path,
        stat: *mut bindings::kstat,
        request_mask: u32,
        query_flags: u32,
    ) -> i32 {
        // SAFETY: The path is valid, and its inode stays for the length of the call.
        let inode = unsafe { Inode::<C::FileSystem>::from_raw((*(*path).dentry).d_inode) };
        if request_mask & bindings::VFS_CONST_STATX_CHANGE_COOKIE != 0 {
            Self::refresh(inode);
        }
        // SAFETY: All is as the VFS passed it. That there is an answer about direct reads, and none are possible, is what
        // zeros say.
        unsafe {
            (*stat).result_mask |= request_mask & bindings::STATX_DIOALIGN;
            compressed_getattr(idmap, path, stat, request_mask, query_flags)
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, for an open file of `C::FileSystem`.
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
        let inode = unsafe { Inode::<C::FileSystem>::from_raw((*file).f_inode) };
        from_result(|| {
            let offset = u64::try_from(offset).map_err(|_| ENXIO)?;
            let size = inode.size();
            if offset >= size {
                return Err(ENXIO);
            }
            let mut found = hole.then_some(size);
            for_each::<C>(inode, offset, size, |cluster| {
                if matches!(cluster.content, Content::Hole) == hole {
                    found = Some(cluster.start.max(offset));
                    return Ok(false);
                }
                Ok(true)
            })?;
            let found = i64::try_from(found.ok_or(ENXIO)?).map_err(|_| EOVERFLOW)?;
            // SAFETY: The file is open; its superblock is valid.
            Ok(unsafe { bindings::vfs_setpos(file, found, (*(*inode.as_ptr()).i_sb).s_maxbytes) })
        })
    }
}

impl<C: Clusters<FileSystem: Backed>> Watched for Table<C> {
    type FileSystem = C::FileSystem;

    fn ask(
        inode: &Inode<C::FileSystem>,
        range: Range<u64>,
        scope: &Scope<'_>,
        wait: Wait,
    ) -> Result {
        // Encoded bytes that lie one behind the other are asked for at once.
        let mut run: Option<(&BackingFile, Range<u64>)> = None;
        for_each::<C>(inode, range.start, range.end, |cluster| {
            let (file, from, len) = match cluster.content {
                Content::Inode(ref other, from) => {
                    let pages = decode::pages_of(from, &cluster, &range);
                    if decode::is_missing(other, &pages) {
                        match Self::ask(other, pages, scope, wait) {
                            // Its bytes are not decoded: they are asked for when they are read.
                            Err(error) if error == EUCLEAN => {}
                            asked => asked?,
                        }
                    }
                    return Ok(true);
                }
                Content::Encoded(Place::File(file, from), len, _) => (file, from, len as u64),
                Content::Plain(Place::File(file, from)) => {
                    let start = range.start.max(cluster.start);
                    let skip = start.saturating_sub(cluster.start);
                    let len = range.end.min(cluster.end()).saturating_sub(start);
                    (file, from.saturating_add(skip), len)
                }
                _ => return Ok(true),
            };
            let behind = from.saturating_add(len);
            match &mut run {
                Some((last, range)) if ptr::eq(*last, file) && range.end == from => {
                    range.end = behind;
                }
                _ => {
                    if let Some((file, range)) = run.replace((file, from..behind)) {
                        scope.ask(
                            file,
                            range.start,
                            range.end.saturating_sub(range.start),
                            wait,
                        )?;
                    }
                }
            }
            Ok(true)
        })?;
        match run {
            Some((file, range)) => scope.ask(
                file,
                range.start,
                range.end.saturating_sub(range.start),
                wait,
            ),
            None => Ok(()),
        }
    }
}

/// A read for which listeners were asked, if there are any.
struct Asked<'a> {
    _scope: Option<Scope<'a>>,
    /// How many bytes can be read.
    len: u64,
}

impl<'a> Asked<'a> {
    /// Asks for what reading `len` bytes at `pos` of an open file reads that is not cached. If it is read in a row that is what
    /// comes next, too, as far as is read ahead; then all of that is read.
    ///
    /// # Errors
    ///
    /// What listeners say, if there is not one byte that can be read.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `inode`.
    #[inline]
    unsafe fn new<C: Clusters<FileSystem: Backed>>(
        inode: &'a Inode<C::FileSystem>,
        file: *mut bindings::file,
        pos: u64,
        len: u64,
        may_wait: bool,
    ) -> Result<Self> {
        match <C::FileSystem>::listeners(inode) {
            // What is not cached is not read without waiting.
            Some(listeners) if may_wait => {
                // SAFETY: By the safety requirements.
                unsafe { Self::by::<C>(listeners, inode, file, pos, len) }
            }
            _ => Ok(Self { _scope: None, len }),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::new`].
    #[cold]
    unsafe fn by<C: Clusters<FileSystem: Backed>>(
        listeners: &'a Listeners,
        inode: &'a Inode<C::FileSystem>,
        file: *mut bindings::file,
        pos: u64,
        len: u64,
    ) -> Result<Self> {
        // SAFETY: By the safety requirements.
        let opener = unsafe { Opener::from_raw(file) };
        if let Some(excused) = opener.excused(Some(listeners))? {
            let _scope = Some(excused);
            return Ok(Self { _scope, len });
        }
        let size = inode.size();
        let page = |pos: u64| pos.div_ceil(PAGE_SIZE as u64) as usize;
        let (first, end) = (
            (pos >> PAGE_SHIFT) as usize,
            page(pos.saturating_add(len).min(size)),
        );
        // SAFETY: The mapping is that of an inode in use.
        let missing = unsafe { bindings::vfs_helper_first_missing(pages_of(inode), first, end) };
        if missing >= end {
            return Ok(Self { _scope: None, len });
        }
        let scope = listeners.scope();
        let ask = |end: usize| {
            let range = (missing as u64) << PAGE_SHIFT..(end as u64) << PAGE_SHIFT;
            Table::<C>::ask(inode, range, &scope, Wait::Any)
        };
        // SAFETY: The file is open. What is read here others may set at any time.
        let (last, pages) = unsafe {
            let state = &raw const (*file).__bindgen_anon_3.f_ra;
            (
                (&raw const (*state).prev_pos).read_volatile(),
                (&raw const (*state).ra_pages).read_volatile(),
            )
        };
        let is_row = pos > 0 && u64::try_from(last) == Ok(pos) && !opener.is_random();
        let ahead = end.saturating_add(pages.min(mapped::READAHEAD_MAX) as usize);
        let ahead = ahead.min(page(size));
        if is_row && ask(ahead).is_ok() {
            // SAFETY: As above; there is a page that is missing.
            unsafe {
                bindings::vfs_helper_read_window(pages_of(inode), missing, ahead, missing);
            }
        } else if let Err(error) = ask(end) {
            let there = ((missing as u64) << PAGE_SHIFT).saturating_sub(pos);
            if there == 0 {
                return Err(error);
            }
            return Ok(Self {
                _scope: None,
                len: there.min(len),
            });
        }
        Ok(Self {
            _scope: Some(scope),
            len,
        })
    }
}

/// The pages of a file.
fn pages_of<T: Backed>(inode: &Inode<T>) -> *mut bindings::address_space {
    T::mapped(inode)
        .range()
        .map_or(inode.mapping(), RangeCache::mapping)
}

/// Reports a read that failed, and passes its result on.
fn failed<T: crate::vfs::object::fs_type::FileSystem>(
    inode: &Inode<T>,
    pos: u64,
    len: u64,
    read: isize,
) -> isize {
    if read < 0 {
        fserror::read_failed(
            inode,
            Access::Cached,
            pos,
            len,
            Error::from_errno(read as i32),
        );
    }
    read
}

/// The inode operation that reports the clusters of a file or a directory.
///
/// # Safety
///
/// Called by the VFS, for an inode of `C::FileSystem`.
pub(in crate::vfs) unsafe extern "C" fn fiemap<C: Clusters>(
    inode: *mut bindings::inode,
    info: *mut bindings::fiemap_extent_info,
    start: u64,
    len: u64,
) -> i32 {
    // SAFETY: The VFS passes an inode that stays for the length of the call.
    let inode = unsafe { Inode::<C::FileSystem>::from_raw(inode) };
    from_result(|| {
        let mut len = len;
        // SAFETY: That is what the VFS passes.
        to_result(unsafe { bindings::fiemap_prep(inode.as_ptr(), info, start, &mut len, 0) })?;
        let size = inode.size();
        let fill = |(pos, from, len): (u64, u64, u64), flags: u32| {
            // SAFETY: That is what the VFS passed.
            let full = unsafe { bindings::fiemap_fill_next_extent(info, pos, from, len, flags) };
            if full < 0 {
                return Err(Error::from_errno(full));
            }
            Ok(full == 0)
        };
        let mut previous: Option<(u64, u64, u64)> = None;
        for_each::<C>(inode, start, start.saturating_add(len), |cluster| {
            let from = match cluster.content {
                Content::Hole => return Ok(true),
                // Which have no place on disk of their own.
                Content::Inode(..) => 0,
                Content::Plain(Place::File(_, from) | Place::Memory(_, from))
                | Content::Encoded(Place::File(_, from) | Place::Memory(_, from), ..) => from,
            };
            let len = cluster.end().min(size).saturating_sub(cluster.start);
            match previous.replace((cluster.start, from, len)) {
                Some(previous) => fill(previous, 0),
                None => Ok(true),
            }
        })?;
        if let Some(previous) = previous {
            fill(previous, bindings::FIEMAP_EXTENT_LAST)?;
        }
        Ok(0)
    })
}

/// Calls `f` with the clusters of `inode` from the one at `start` on that begin before `end`, until it returns false.
fn for_each<'a, C: Clusters>(
    inode: &'a Inode<C::FileSystem>,
    start: u64,
    end: u64,
    mut f: impl FnMut(Cluster<'a, C::FileSystem, C::Decoder>) -> Result<bool>,
) -> Result {
    let end = end.min(inode.size());
    let mut pos = start;
    let mut left = CLUSTERS_BETWEEN_CHECKS;
    while pos < end {
        let cluster = C::cluster(inode, pos)?;
        let next = cluster.end();
        if next <= pos {
            return Err(EIO);
        }
        if !f(cluster)? {
            return Ok(());
        }
        pos = next;
        left = left.saturating_sub(1);
        if left == 0 {
            left = CLUSTERS_BETWEEN_CHECKS;
            rest()?;
        }
    }
    Ok(())
}
