// SPDX-License-Identifier: GPL-2.0-only

//! `struct folio`, read: a piece of the page cache that does not change any more. It comes from a cache
//! ([`crate::vfs::pages::range`]), or is read before it is put into one.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use core::cell::Cell;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::page::PAGE_SHIFT;
use kernel::prelude::*;

/// The folio with the page `index` of a mapping, if it is cached and up to date.
///
/// # Safety
///
/// The mapping must be valid, of a file of `size` bytes, and as [`ReadFolio::from_raw`] requires.
#[inline]
pub(in crate::vfs) unsafe fn find(
    mapping: *mut bindings::address_space,
    index: usize,
    size: u64,
) -> Option<ReadFolio> {
    let mut found = bindings::vfs_helper_folio::default();
    // SAFETY: By the safety requirements.
    if !unsafe { bindings::vfs_helper_find_folio(mapping, index, &mut found) } {
        return None;
    }
    // SAFETY: It was found, and is up to date; the rest is by the safety requirements.
    Some(unsafe { ReadFolio::from_raw(&found, size) })
}

/// The folio with the page `index` of a mapping, read if it is not cached.
///
/// # Errors
///
/// What reading it returns.
///
/// # Safety
///
/// As for [`find`].
pub(in crate::vfs) unsafe fn read(
    mapping: *mut bindings::address_space,
    index: usize,
    size: u64,
) -> Result<ReadFolio> {
    let mut found = bindings::vfs_helper_folio::default();
    // SAFETY: By the safety requirements. The call waits until the folio is up to date or has failed.
    to_result(unsafe { bindings::vfs_helper_read_folio(mapping, index, &mut found) })?;
    // SAFETY: As in `find`.
    Ok(unsafe { ReadFolio::from_raw(&found, size) })
}

/// The folio with the byte at `pos` of an inode of a filesystem, read if it is not cached; none at or past the end.
///
/// # Errors
///
/// What reading it returns.
pub(crate) fn of_inode<T: FileSystem>(inode: &Inode<T>, pos: u64) -> Result<Option<ReadFolio>> {
    if pos >= inode.size() {
        return Ok(None);
    }
    let index = (pos >> PAGE_SHIFT) as usize;
    // SAFETY: The mapping is that of an inode in use, and was set to use no high memory. Nothing writes to its pages once
    // they are read: files of this module's filesystems are open for reading only, and mappings of those are private, or
    // shared ones that can never become writable.
    unsafe {
        match find(inode.mapping(), index, inode.size()) {
            Some(folio) => Ok(Some(folio)),
            None => read(inode.mapping(), index, inode.size()).map(Some),
        }
    }
}

/// The same if it is cached.
///
/// # Errors
///
/// `EAGAIN` if it is not.
pub(crate) fn cached_of_inode<T: FileSystem>(
    inode: &Inode<T>,
    pos: u64,
) -> Result<Option<ReadFolio>> {
    if pos >= inode.size() {
        return Ok(None);
    }
    let index = (pos >> PAGE_SHIFT) as usize;
    // SAFETY: As above.
    unsafe { find(inode.mapping(), index, inode.size()) }
        .map(Some)
        .ok_or(EAGAIN)
}

/// A reference to a folio.
///
/// # Invariants
///
/// The reference is owned.
struct FolioRef(NonNull<bindings::folio>);

impl Drop for FolioRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the reference is given up.
        unsafe { bindings::vfs_helper_folio_put(self.0.as_ptr()) };
    }
}

/// A folio that is in no cache yet.
///
/// # Invariants
///
/// No one else refers to the folio.
pub(in crate::vfs) struct NewFolio(FolioRef);

impl NewFolio {
    /// A folio of 2^`order` pages for a mapping that can have such, if there is memory for it at once.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid.
    pub(in crate::vfs) unsafe fn new(
        mapping: *mut bindings::address_space,
        order: u32,
    ) -> Option<Self> {
        // SAFETY: By the safety requirements.
        let folio = unsafe { bindings::vfs_helper_alloc_folio(mapping, order) };
        // INVARIANT: It was allocated just now, with one reference.
        NonNull::new(folio).map(|folio| Self(FolioRef(folio)))
    }

    /// Reads `len` bytes of `file` from position `from` on into the folio; what follows is zero.
    ///
    /// # Errors
    ///
    /// `EIO` if the file ends before, `EINVAL` for more bytes than there is room for, and what the
    /// file's filesystem returns.
    pub(in crate::vfs) fn fill(&mut self, len: usize, file: &BackingFile, from: u64) -> Result {
        let folio = self.0 .0.as_ptr();
        let mut segment = bindings::bio_vec::default();
        // SAFETY: The folio is referenced; the segment is all of it.
        let size = unsafe {
            let size = bindings::vfs_helper_folio_size(folio);
            bindings::vfs_helper_bvec_set_folio(&mut segment, folio, size, 0);
            size
        };
        let rest = size.checked_sub(len).ok_or(EINVAL)?;
        // SAFETY: By the type invariants no one else looks at the folio, which has `size` bytes.
        unsafe { file.read_exact(&[segment], 0, len, size, from, false) }?;
        // SAFETY: By the type invariants no one else looks at the folio, and the bytes lie in it.
        unsafe { bindings::vfs_helper_folio_zero_range(folio, len, rest) };
        Ok(())
    }

    /// Puts the folio, filled, into a mapping at the page `index`, whose file has `size` bytes.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is one in the mapping already, and `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid, the index a multiple of the folio's number of pages, and the rest as
    /// for [`ReadFolio::from_raw`].
    pub(in crate::vfs) unsafe fn insert(
        self,
        mapping: *mut bindings::address_space,
        index: usize,
        size: u64,
    ) -> Result<ReadFolio> {
        let mut found = bindings::vfs_helper_folio::default();
        // SAFETY: By the safety requirements and the type invariants.
        let error = unsafe {
            bindings::vfs_helper_add_read_folio(mapping, self.0 .0.as_ptr(), index, &mut found)
        };
        to_result(error)?;
        // The reference goes to what is returned.
        let _ = ManuallyDrop::new(self);
        // SAFETY: By the safety requirements; it was filled in.
        Ok(unsafe { ReadFolio::from_raw(&found, size) })
    }
}

/// A folio that is up to date, and that no one writes to.
///
/// # Invariants
///
/// `address` is that of `len` bytes in `folio`, which nothing changes while it is referenced.
pub(crate) struct ReadFolio {
    folio: FolioRef,
    address: NonNull<u8>,
    pos: u64,
    len: u64,
}

impl ReadFolio {
    /// A folio of a file of `size` bytes.
    ///
    /// # Safety
    ///
    /// `found` must be filled in; its reference passes to the result. The folio must not be in high
    /// memory, and must be one of a mapping that is neither written to nor mapped writable by anyone.
    #[inline]
    pub(in crate::vfs) unsafe fn from_raw(found: &bindings::vfs_helper_folio, size: u64) -> Self {
        let pos = found.pos.unsigned_abs();
        // INVARIANT: By the safety requirements; what is not in high memory has an address.
        // SAFETY: By the safety requirements.
        unsafe {
            Self {
                folio: FolioRef(NonNull::new_unchecked(found.folio)),
                address: NonNull::new_unchecked(found.address.cast()),
                pos,
                len: size.saturating_sub(pos).min(found.size as u64),
            }
        }
    }

    /// Whether the file's byte at `pos` is in it.
    #[inline]
    pub(crate) fn contains(&self, pos: u64) -> bool {
        pos.wrapping_sub(self.pos) < self.len
    }

    /// The bytes from the file's position `pos` to the end of the folio or of the file. None if that
    /// is not in it.
    #[inline]
    pub(crate) fn bytes(&self, pos: u64) -> FolioBytes<'_> {
        let skip = pos.wrapping_sub(self.pos);
        if skip >= self.len {
            return FolioBytes::empty();
        }
        // INVARIANT: As in `ReadFolio`, of which this is a part, and which keeps the reference.
        FolioBytes {
            _folio: None,
            // SAFETY: `skip` is less than the number of bytes.
            start: unsafe { self.address.add(skip as usize) },
            len: self.len.wrapping_sub(skip) as usize,
            _p: PhantomData,
        }
    }

    /// The same, with the reference.
    pub(crate) fn into_bytes(self, pos: u64) -> FolioBytes<'static> {
        let FolioBytes { start, len, .. } = self.bytes(pos);
        // INVARIANT: As above; the reference is kept here.
        FolioBytes {
            _folio: Some(self.folio),
            start,
            len,
            _p: PhantomData,
        }
    }
}

/// Bytes of a [`ReadFolio`].
///
/// # Invariants
///
/// Unless `len` is zero, `start` is the address of `len` bytes in a folio, which nothing changes
/// while it is referenced; it is for `'a`, or by `folio`.
pub(crate) struct FolioBytes<'a> {
    _folio: Option<FolioRef>,
    start: NonNull<u8>,
    len: usize,
    _p: PhantomData<&'a [u8]>,
}

impl FolioBytes<'_> {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self {
            _folio: None,
            start: NonNull::dangling(),
            len: 0,
            _p: PhantomData,
        }
    }

    /// The first `len` of the bytes, if there are more.
    pub(crate) fn up_to(mut self, len: u64) -> Self {
        // INVARIANT: No more than there are.
        self.len = self.len.min(usize::try_from(len).unwrap_or(usize::MAX));
        self
    }
}

impl Deref for FolioBytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariants.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// How many folios [`ReadFolios`] keeps.
const KEPT: usize = 16;

/// The folios that an operation has read, as far as there is room for them: what it wants next is
/// likely to be in the last of them.
///
/// # Invariants
///
/// The first `count` of `folios` are set, and do not change any more.
pub(crate) struct ReadFolios {
    folios: [UnsafeCell<MaybeUninit<ReadFolio>>; KEPT],
    count: Cell<usize>,
}

impl ReadFolios {
    /// None yet.
    #[inline]
    pub(crate) fn new() -> Self {
        let mut this = MaybeUninit::<Self>::uninit();
        // Written as a value the compiler would fill all of it with zeros, which takes longer than
        // what it is for.
        // SAFETY: Only the count has to be set; folios may be anything beyond it.
        unsafe {
            (&raw mut (*this.as_mut_ptr()).count).write(Cell::new(0));
            this.assume_init()
        }
    }

    /// The folio that was kept last.
    #[inline]
    pub(crate) fn last(&self) -> Option<&ReadFolio> {
        let slot = self.folios.get(self.count.get().wrapping_sub(1))?;
        // SAFETY: By the type invariants it is set, and not written to any more.
        Some(unsafe { (*slot.get()).assume_init_ref() })
    }

    /// Keeps a folio, or hands it back if there is no room.
    #[inline]
    pub(crate) fn keep(&self, folio: ReadFolio) -> core::result::Result<&ReadFolio, ReadFolio> {
        let count = self.count.get();
        let Some(slot) = self.folios.get(count) else {
            return Err(folio);
        };
        // SAFETY: By the type invariants no one looks at it yet, and only this thread can: the type
        // is not `Sync`.
        let kept = unsafe { (*slot.get()).write(folio) };
        // INVARIANT: Set just now.
        self.count.set(count.wrapping_add(1));
        Ok(kept)
    }
}

impl Drop for ReadFolios {
    fn drop(&mut self) {
        let count = self.count.get();
        for slot in self.folios.iter_mut().take(count) {
            // SAFETY: By the type invariants it is set, and it is not used any more.
            unsafe { slot.get_mut().assume_init_drop() };
        }
    }
}
