// SPDX-License-Identifier: GPL-2.0-only

//! Page caches for ranges of backing files, in a filesystem internal to the module.
//!
//! A [`RangeCache`] is found by (file as last changed, offset, length), so all who ask for the same range of the
//! same file share one cache, whatever mount they belong to. It goes when its last user does.

use super::backing::BackingFile;
use super::backing::Identity;
use super::backing_cache::Cache;
use super::bindings;
use super::extent::Extent;
use super::extent::Extents;
use super::extent::Source;
use super::folio::NewFolio;
use super::folio::ReadFolio;
use super::fs_type::FileSystem;
use super::inode::Inode;
use super::inode::IntoRaw;
use super::inode::Lookup;
use super::kernel_mount::KernelFs;
use super::kernel_mount::KernelMount;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::aref::ARef;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::types::ForeignOwnable;

/// The largest folio that a miss of [`RangeCache::folio`] reads has this power of two of pages. The
/// first has one, for a mount often needs no more, and each that follows twice as many.
const ORDER_MAX: i32 = 6;

/// How many pages are read ahead of a mapping at the most.
pub(super) const MAPPED_READAHEAD_MAX: u32 = 256;

/// The internal filesystem that the caches live in.
pub(crate) struct RangeFs;

/// Which range of which file.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct RangeKey {
    file: Identity,
    start: u64,
    len: u64,
}

/// What a cache is filled from.
pub(crate) struct RangeData {
    file: BackingFile,
    /// What the file was when the cache was made.
    identity: Identity,
    start: u64,
    len: u64,
    /// How many pages the next miss of [`RangeCache::folio`] reads, as a power of two.
    order: Atomic<i32>,
}

impl FileSystem for RangeFs {
    const NAME: &'static CStr = c"ferofs_range";
    type Shared = ();
    type Super = ();
    type Key = RangeKey;
    type Inode = RangeData;
}

impl Extents for RangeFs {
    type FileSystem = Self;
    type Bytes<'a> = &'a [u8];

    fn extent(inode: &Inode<Self>, pos: u64, _nowait: bool) -> Result<Extent<'_, &[u8]>> {
        let data = inode.data();
        Ok(Extent {
            len: data.len.checked_sub(pos).ok_or(EIO)?,
            source: Source::File(&data.file, data.start.checked_add(pos).ok_or(EIO)?),
        })
    }
}

/// Where the caches live. A module that uses them makes it once.
pub(crate) type RangeHome = KernelFs<RangeFs>;

/// Keeps the caches' home mounted. Who has a [`RangeCache`] has one of these for longer.
pub(crate) type RangeMount = KernelMount<RangeFs>;

/// The page cache of a range of a file.
#[derive(Clone)]
pub(crate) struct RangeCache(ARef<Inode<RangeFs>>);

impl RangeCache {
    /// The cache for the `len` bytes at `start` of `file`, shared with all who have it in use.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and `EOVERFLOW` for a length that no file can have.
    pub(crate) fn get(
        mount: &RangeMount,
        file: &BackingFile,
        start: u64,
        len: u64,
    ) -> Result<Self> {
        // The cache holds the file open, so no other file can get its identity meanwhile.
        let identity = file.identity();
        let key = RangeKey {
            file: identity,
            start,
            len,
        };
        // Spread over the hash: ranges of one file differ in their start, files in their identity.
        let hash = identity.hash() ^ start.rotate_left(32) ^ len;
        let inode = match mount.super_block().inode(hash, start, key)? {
            Lookup::Cached(inode) => inode,
            Lookup::New(new) => {
                let data = RangeData {
                    file: file.clone(),
                    identity,
                    start,
                    len,
                    order: Atomic::new(0),
                };
                new.init_cache::<RangeFs>(len, FILE, data)?
            }
        };
        Ok(Self(inode))
    }

    /// Whether the file is what it was when the cache was made.
    pub(super) fn is_current(&self) -> bool {
        let data = self.0.data();
        data.file.identity() == data.identity
    }

    /// A dentry of the range's inode, which has no name.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn dentry(&self) -> Result<RangeDentry> {
        // SAFETY: The superblock of a referenced inode is valid.
        let dentry = unsafe { bindings::d_alloc_anon((*self.0.as_ptr()).i_sb) };
        // INVARIANT: It was made just now.
        let dentry = RangeDentry(NonNull::new(dentry).ok_or(ENOMEM)?);
        // SAFETY: The dentry is new, and takes over the reference to the inode.
        unsafe {
            bindings::d_instantiate(dentry.0.as_ptr(), IntoRaw::into_raw(self.0.clone()));
        }
        Ok(dentry)
    }

    /// The length of the range in bytes.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.0.data().len
    }

    /// The folio with the byte at `pos` if it is cached; none at or past the end.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if it is not cached.
    #[inline]
    pub(crate) fn cached_folio(&self, pos: u64) -> Result<Option<ReadFolio>> {
        if pos >= self.len() {
            return Ok(None);
        }
        self.find((pos >> PAGE_SHIFT) as usize)
            .map(Some)
            .ok_or(EAGAIN)
    }

    /// The folio with the byte at `pos`, read if it is not cached; none at or past the end.
    ///
    /// # Errors
    ///
    /// What reading the file returns.
    #[inline]
    pub(crate) fn folio(&self, pos: u64) -> Result<Option<ReadFolio>> {
        if pos >= self.len() {
            return Ok(None);
        }
        let index = (pos >> PAGE_SHIFT) as usize;
        match self.find(index) {
            Some(folio) => Ok(Some(folio)),
            None => self.read(index).map(Some),
        }
    }

    /// The folio with the page `index`, if it is cached and up to date.
    #[inline]
    fn find(&self, index: usize) -> Option<ReadFolio> {
        let mut found = bindings::vfs_helper_folio::default();
        // SAFETY: The mapping is that of a referenced inode.
        if !unsafe { bindings::vfs_helper_find_folio(self.0.mapping(), index, &mut found) } {
            return None;
        }
        // SAFETY: It was found, and is up to date. The mapping was set to use no high memory. Nothing
        // writes to it: it has no write operations, and its inode cannot be opened.
        Some(unsafe { ReadFolio::from_raw(&found, self.len()) })
    }

    /// Reads the folio with the page `index`: a large one if more was missed before, for then what is
    /// around it is likely to be wanted, too.
    #[cold]
    fn read(&self, index: usize) -> Result<ReadFolio> {
        if let Some(folio) = self.read_large(index) {
            return Ok(folio);
        }
        let mut found = bindings::vfs_helper_folio::default();
        // SAFETY: The mapping is that of a referenced inode. The call waits until the folio is up to
        // date or has failed.
        to_result(unsafe { bindings::vfs_helper_read_folio(self.0.mapping(), index, &mut found) })?;
        // SAFETY: As in `find`.
        Ok(unsafe { ReadFolio::from_raw(&found, self.len()) })
    }

    /// Reads the largest folio with the page `index` that is to be read now and that nothing is in the
    /// way of. None if that has but one page, or cannot be read: then the page may be readable alone.
    fn read_large(&self, index: usize) -> Option<ReadFolio> {
        let data = self.0.data();
        let mapping = self.0.mapping();
        let largest = data.order.load(Relaxed).clamp(0, ORDER_MAX);
        // If two miss at once it grows once, which is as good.
        data.order
            .store(largest.saturating_add(1).min(ORDER_MAX), Relaxed);
        for order in (1..=largest.unsigned_abs()).rev() {
            let pages = 1usize << order;
            let first = index & !pages.wrapping_sub(1);
            let start = (first as u64) << PAGE_SHIFT;
            let size = (pages as u64) << PAGE_SHIFT;
            let end = start.saturating_add(size);
            // None has a whole page behind the end.
            if end >= self.len().saturating_add(PAGE_SIZE as u64) {
                continue;
            }
            let (first_byte, last_byte) = (start as i64, end.wrapping_sub(1) as i64);
            // SAFETY: The mapping is that of a referenced inode.
            if unsafe { bindings::filemap_range_has_page(mapping, first_byte, last_byte) } {
                continue;
            }
            // SAFETY: As above.
            let Some(mut folio) = (unsafe { NewFolio::new(mapping, order) }) else {
                continue;
            };
            let len = self.len().saturating_sub(start).min(size);
            let from = data.start.checked_add(start)?;
            folio.fill(len as usize, &data.file, from).ok()?;
            // SAFETY: As in `find`; the index is a multiple of the number of pages. If another reader was
            // faster, there is a folio now.
            return unsafe { folio.insert(mapping, first, self.len()) }.ok();
        }
        None
    }

    /// Drops the pages that lie whole between two positions, as far as they are not in use.
    pub(super) fn invalidate(&self, start: u64, end: u64) {
        let first = start.div_ceil(PAGE_SIZE as u64);
        // The last page is whole if the range ends in it.
        let behind = if end >= self.len() {
            usize::MAX as u64
        } else {
            end >> PAGE_SHIFT
        };
        if first < behind {
            // SAFETY: The mapping is that of a referenced inode.
            unsafe {
                bindings::invalidate_mapping_pages(
                    self.0.mapping(),
                    first as usize,
                    behind.wrapping_sub(1) as usize,
                )
            };
        }
    }

    /// Maps the range in place of `user`, which keeps its name in /proc/PID/maps.
    ///
    /// # Safety
    ///
    /// `user` must be an open file, and `area` an area that it is being mapped to.
    pub(super) unsafe fn map(
        &self,
        mount: &RangeMount,
        user: *mut bindings::file,
        area: *mut bindings::vm_area_struct,
    ) -> Result<i32> {
        let mut dentry = self.dentry()?;
        // SAFETY: The user's file is open.
        dentry.set_name(unsafe { UserPath::of(user) })?;
        let path = bindings::path {
            mnt: mount.as_ptr(),
            dentry: dentry.as_ptr().as_ptr(),
        };
        // SAFETY: The user's file and the path are valid; the file that is opened keeps what it
        // needs of both.
        let opened = unsafe {
            let flags = (bindings::O_RDONLY | bindings::O_LARGEFILE | bindings::O_NOATIME) as i32;
            let opened = bindings::backing_file_open(user, flags, &path, (*user).f_cred);
            let opened = super::from_err_ptr(opened)?;
            // What is read ahead is read from the file's device; but the first window of a mapping is
            // one of single pages, and folios grow with each window that follows.
            let pages = Cache::of(&self.0.data().file)
                .readahead_pages()
                .min(MAPPED_READAHEAD_MAX);
            (*opened).__bindgen_anon_3.f_ra.ra_pages = pages;
            opened
        };
        // SAFETY: The area is being set up, and takes a reference of its own to the file. If this
        // fails the area is taken down with it.
        let mapped = unsafe {
            bindings::vma_set_file(area, opened);
            let allowed = bindings::vfs_helper_security_mmap_backing_file(area, opened, user);
            let mapped = if allowed == 0 {
                bindings::generic_file_readonly_mmap(user, area)
            } else {
                allowed
            };
            bindings::fput(opened);
            mapped
        };
        Ok(mapped)
    }
}

/// The operations of files on a range: they can be mapped, in place of another file, and the kernel
/// reads the build ID of a mapped program from them.
const FILE: &bindings::file_operations = &bindings::file_operations {
    read_iter: Some(bindings::generic_file_read_iter),
    // SAFETY: All members may be zero: no owner, no flags, no functions.
    ..unsafe { MaybeUninit::zeroed().assume_init() }
};

/// A dentry of a range's inode. No path leads to it.
///
/// # Invariants
///
/// A reference to the dentry is owned. It is one that [`RangeCache::dentry`] made.
pub(super) struct RangeDentry(NonNull<bindings::dentry>);

// SAFETY: A reference to a dentry may be used and put from any thread that can sleep.
unsafe impl Send for RangeDentry {}
// SAFETY: As above.
unsafe impl Sync for RangeDentry {}

impl RangeDentry {
    pub(super) fn as_ptr(&self) -> NonNull<bindings::dentry> {
        self.0
    }

    /// Has the dentry shown as the path of a user's file, for those who look at the path of a
    /// mapped file itself, as core dumps do.
    fn set_name(&mut self, path: UserPath) -> Result {
        let path = KBox::new(path, GFP_KERNEL)?;
        // SAFETY: By the type invariants the dentry is valid. It was not given out yet, and its
        // filesystem has no operations of dentries; these are none that a flag tells of.
        unsafe {
            (*self.0.as_ptr()).d_fsdata = path.into_foreign();
            (*self.0.as_ptr()).d_op = UserPath::DENTRY;
        }
        Ok(())
    }
}

impl Drop for RangeDentry {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::dput(self.0.as_ptr()) };
    }
}

/// The path of a user's file.
///
/// # Invariants
///
/// A reference to the path is owned.
struct UserPath(bindings::path);

// SAFETY: A path may be used and put from any thread that can sleep.
unsafe impl Send for UserPath {}

impl UserPath {
    const DENTRY: &'static bindings::dentry_operations = &bindings::dentry_operations {
        d_dname: Some(Self::d_dname),
        d_release: Some(Self::d_release),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// # Safety
    ///
    /// `file` must be an open file.
    unsafe fn of(file: *mut bindings::file) -> Self {
        // SAFETY: The path of an open file is valid, and so is a copy of it that has a reference.
        unsafe {
            let path = *bindings::vfs_helper_file_user_path(file);
            bindings::path_get(&path);
            // INVARIANT: Referenced just now.
            Self(path)
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, for a referenced dentry that has this table.
    unsafe extern "C" fn d_dname(
        dentry: *mut bindings::dentry,
        buffer: *mut c_char,
        len: core::ffi::c_int,
    ) -> *mut c_char {
        // SAFETY: `set_name` put a path there before it set the table, and it stays as long as
        // the dentry. The buffer has the length that is given.
        unsafe {
            let path = <KBox<Self> as ForeignOwnable>::borrow((*dentry).d_fsdata);
            bindings::d_path(&path.0, buffer, len)
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, for a dentry that has this table and that no one refers to any more.
    unsafe extern "C" fn d_release(dentry: *mut bindings::dentry) {
        // SAFETY: As in `d_dname`; it is not used after this.
        drop(unsafe { <KBox<Self> as ForeignOwnable>::from_foreign((*dentry).d_fsdata) });
    }
}

impl Drop for UserPath {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::path_put(&self.0) };
    }
}
