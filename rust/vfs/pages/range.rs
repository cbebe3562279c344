// SPDX-License-Identifier: GPL-2.0-only

//! Page caches for ranges of backing files, in a filesystem internal to the module.
//!
//! A [`RangeCache`] is found by (file, offset, length), so all who ask for the same range of the same file share one
//! cache, whatever mount they belong to. What is mapped follows the file when that is changed
//! ([`RangeCache::following`]); metadata is that of the file as it was ([`RangeCache::get`]). What several files have in common and is
//! in several places has one cache, too ([`RangeCache::of_content`]), and so has what each of them decodes
//! ([`RangeCache::of_decoded`]). It goes when its last user does, unless it has pages and a mount keeps it
//! ([`crate::vfs::pages::keeper`]).
//!
//! Nobody ever opens its inode. Files of users have their `f_mapping` lead to its pages
//! ([`crate::vfs::node::mapped`]), and metadata is read from them ([`RangeCache::folio`]).

use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::file::Identity;
use crate::vfs::backing::listeners::Scope;
use crate::vfs::bindings;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::kernel_mount::KernelFs;
use crate::vfs::object::kernel_mount::KernelMount;
use crate::vfs::object::new_inode::Lookup;
use crate::vfs::object::operations;
use crate::vfs::pages::content::Content;
use crate::vfs::pages::content::Key;
use crate::vfs::pages::extent::Extent;
use crate::vfs::pages::extent::Extents;
use crate::vfs::pages::extent::Source;
use crate::vfs::pages::folio;
use crate::vfs::pages::folio::NewFolio;
use crate::vfs::pages::folio::ReadFolio;
use crate::vfs::pages::keeper::Keeper;
use crate::vfs::pages::keeper::Place;
use crate::vfs::pages::page_cache;
use crate::vfs::workers::Workers;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::aref::ARef;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;

/// The largest folio that a miss of [`RangeCache::folio`] reads has this power of two of pages. The
/// first has one, for a mount often needs no more, and each that follows four times as many.
const ORDER_MAX: i32 = 8;

/// The same where there is other data between what is read, or listeners may have to bring it, and how many pages of that there may be at the most for a miss to
/// follow the last one.
const MIXED_ORDER_MAX: i32 = 4;
const MIXED_GAP: usize = 4;

/// By how much that power grows with each miss.
const ORDER_STEP: i32 = 2;

/// The internal filesystem that the caches live in.
pub(crate) struct RangeFs;

/// Which range of which file, or which content, as it lies somewhere or as it is decoded.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum RangeKey {
    Range {
        /// The address of the file's inode.
        file: usize,
        /// What the file was, if its changes are not followed.
        identity: Option<Identity>,
        /// Whether holes of the file are errors. Who takes them for zeros brings pages that others must not see.
        refuses_holes: bool,
        /// Whether listeners are asked for what is read. Who asks nobody brings what they would have brought other bytes for.
        asks_listeners: bool,
        start: u64,
        len: u64,
    },
    /// What it is known by.
    Content(Key),
    Decoded(Key),
}

/// Where the bytes of a cache lie.
enum Home {
    /// In a file from here on.
    Range(BackingFile, u64),
    Content(Arc<Content>),
    /// Wherever a file that is read has them: its mapping is not filled from here.
    Readers,
}

impl Home {
    /// Whether listeners are asked for what is read.
    fn asks_listeners(&self) -> bool {
        matches!(self, Self::Range(file, _) if file.listeners().is_some())
    }

    /// A number that changes when what the bytes lie in does.
    fn version(&self) -> u64 {
        match self {
            Self::Range(file, _) => file.identity().version(),
            Self::Content(content) => content.version(),
            Self::Readers => 0,
        }
    }
}

/// What a cache is filled from.
pub(crate) struct RangeData {
    home: Home,
    len: u64,
    /// Which version of the file the pages are from, as of the last mapping.
    version: Atomic<u64>,
    /// How many pages the next miss of [`RangeCache::folio`] reads, as a power of two.
    order: Atomic<i32>,
    /// Whether there is other data between what is read with [`RangeCache::folio`].
    is_mixed: Atomic<i32>,
    /// The page behind the last that such a miss has read.
    next: Atomic<usize>,
    /// Where the cache is kept while nobody uses it.
    place: Arc<Place>,
}

impl Drop for RangeData {
    fn drop(&mut self) {
        self.place.forget();
    }
}

impl FileSystem for RangeFs {
    const NAME: &'static CStr = c"ferofs_range";
    type Shared = Arc<Workers>;
    type Super = ();
    type Key = RangeKey;
    type Inode = RangeData;

    fn is_kept(data: &RangeData) -> bool {
        data.place.is_kept()
    }
}

impl Extents for RangeFs {
    type FileSystem = Self;
    type Bytes<'a> = &'a [u8];

    fn extent(inode: &Inode<Self>, pos: u64, _nowait: bool) -> Result<Extent<'_, &[u8]>> {
        let data = inode.data();
        match &data.home {
            Home::Range(file, start) => Ok(Extent {
                len: data.len.checked_sub(pos).ok_or(EIO)?,
                source: Source::File(file, start.checked_add(pos).ok_or(EIO)?),
            }),
            Home::Content(content) => content.extent(pos),
            Home::Readers => Err(EIO),
        }
    }

    fn workers(inode: &Inode<Self>) -> Option<&Workers> {
        let is_lowest = match &inode.data().home {
            Home::Range(file, _) => file.stack_depth() == 0,
            // So are all of its files.
            Home::Content(_) => true,
            Home::Readers => false,
        };
        is_lowest.then(|| &**inode.super_block().shared())
    }

    fn may_lack_parts(inode: &Inode<Self>) -> bool {
        match &inode.data().home {
            Home::Range(file, _) => file.may_lack_parts(),
            // Its files are known to have all of it.
            Home::Content(_) | Home::Readers => false,
        }
    }
}

/// Where the caches live. A module that uses them makes it once.
pub(crate) type RangeHome = KernelFs<RangeFs>;

/// A mount's part in the caches: keeps their home mounted, and those that have pages cached though nobody uses
/// them. Who has a [`RangeCache`] has one of these for longer.
pub(crate) struct RangeMount {
    keeper: Arc<Keeper>,
    home: KernelMount<RangeFs>,
}

impl RangeMount {
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(home: &Arc<RangeHome>) -> Result<Self> {
        Ok(Self {
            keeper: Keeper::new()?,
            home: home.mount()?,
        })
    }

    /// What keeps the caches that nobody uses.
    pub(in crate::vfs) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }
}

impl Drop for RangeMount {
    fn drop(&mut self) {
        // Blobs are not held open any longer than the mount.
        self.keeper.release();
    }
}

/// The page cache of a range of a file.
#[derive(Clone)]
pub(crate) struct RangeCache(ARef<Inode<RangeFs>>);

impl RangeCache {
    /// The cache for the `len` bytes at `start` of `file` as it is now, shared with all who have it in use. If the
    /// file is changed another one is found.
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
        let identity = file.identity();
        Self::find(mount, file, identity, Some(identity), start, len)
    }

    /// The cache for the `len` bytes at `start` of `file`, whatever becomes of it: see [`Self::refresh`].
    ///
    /// # Errors
    ///
    /// As for [`Self::get`].
    pub(in crate::vfs) fn following(
        mount: &RangeMount,
        file: &BackingFile,
        start: u64,
        len: u64,
    ) -> Result<Self> {
        Self::find(mount, file, file.identity(), None, start, len)
    }

    fn find(
        mount: &RangeMount,
        file: &BackingFile,
        now: Identity,
        identity: Option<Identity>,
        start: u64,
        len: u64,
    ) -> Result<Self> {
        // The cache holds the file open, so no other file can get its identity meanwhile.
        let key = RangeKey::Range {
            file: now.inode(),
            identity,
            refuses_holes: file.refuses_holes(),
            asks_listeners: file.listeners().is_some(),
            start,
            len,
        };
        // Spread over the hash: ranges of one file differ in their start, files in their identity.
        let hash = now.hash() ^ start.rotate_left(32) ^ len;
        let home = || Home::Range(file.clone(), start);
        let ops = &const { page_cache::operations::<RangeFs>() };
        Self::get_or_make(mount, (hash, start, key), len, ops, home)
    }

    /// The cache for a content that is in several places. All who want the same content share it, wherever it was found first.
    ///
    /// # Errors
    ///
    /// As for [`Self::get`].
    pub(in crate::vfs) fn of_content(mount: &RangeMount, content: &Arc<Content>) -> Result<Self> {
        let number = content.key().number();
        let place = (number, number, RangeKey::Content(*content.key()));
        let home = || Home::Content(content.clone());
        let ops = &const { page_cache::operations::<RangeFs>() };
        Self::get_or_make(mount, place, content.size(), ops, home)
    }

    /// The cache for what is known by `key`, which those who read it fill as `ops` says: from their own files.
    ///
    /// # Errors
    ///
    /// As for [`Self::get`].
    pub(in crate::vfs) fn of_decoded(
        mount: &RangeMount,
        key: Key,
        ops: &operations::Cache<RangeFs>,
    ) -> Result<Self> {
        let number = key.number();
        let place = (number, number, RangeKey::Decoded(key));
        Self::get_or_make(mount, place, key.size, ops, || Home::Readers)
    }

    fn get_or_make(
        mount: &RangeMount,
        (hash, number, key): (u64, u64, RangeKey),
        len: u64,
        ops: &operations::Cache<RangeFs>,
        home: impl FnOnce() -> Home,
    ) -> Result<Self> {
        let inode = match mount.home.super_block().inode(hash, number, key)? {
            Lookup::Cached(inode) => inode,
            Lookup::New(new) => {
                // SAFETY: The data, and with it the place, goes when the inode is evicted, which is before its
                // memory does. If the inode is not initialised nothing has its place.
                let place = unsafe { Place::new(new.as_non_null()) }?;
                let home = home();
                let data = RangeData {
                    version: Atomic::new(home.version()),
                    home,
                    len,
                    order: Atomic::new(0),
                    is_mixed: Atomic::new(0),
                    next: Atomic::new(0),
                    place,
                };
                new.init_cache(ops, len, data)?
            }
        };
        Ok(Self(inode))
    }

    /// Has all pages read again if the file was changed since they were, as far as that was noticed: called
    /// for each new mapping. Those that are mapped already show the change then, too.
    pub(in crate::vfs) fn refresh(&self) {
        let data = self.0.data();
        let version = data.home.version();
        if data.version.load(Relaxed) != version && data.version.xchg(version, Full) != version {
            // What cannot be dropped now is being read, and as new as can be.
            // SAFETY: The mapping is that of a referenced inode.
            unsafe { bindings::invalidate_inode_pages2(self.mapping()) };
        }
    }

    /// The pages.
    pub(in crate::vfs) fn mapping(&self) -> *mut bindings::address_space {
        self.0.mapping()
    }

    /// Where the cache is kept while nobody uses it.
    pub(in crate::vfs) fn place(&self) -> &Place {
        &self.0.data().place
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
        self.find_folio((pos >> PAGE_SHIFT) as usize)
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
        match self.find_folio(index) {
            Some(folio) => Ok(Some(folio)),
            None => self.read(index).map(Some),
        }
    }

    /// The folio with the page `index`, if it is cached and up to date.
    #[inline]
    fn find_folio(&self, index: usize) -> Option<ReadFolio> {
        // SAFETY: The mapping is that of a referenced inode, and was set to use no high memory. Nothing writes to
        // its pages once they are read: its inode is never opened, the files whose `f_mapping` it is are open for
        // reading only, and mappings of those are private, or shared ones that can never become writable.
        unsafe { folio::find(self.mapping(), index, self.len()) }
    }

    /// Reads the folio with the page `index`: a large one if more was missed before, for then what is
    /// around it is likely to be wanted, too.
    #[cold]
    fn read(&self, index: usize) -> Result<ReadFolio> {
        if let Some(folio) = self.read_large(index)? {
            return Ok(folio);
        }
        // Before the page is locked.
        let _asked = self.ask((index as u64) << PAGE_SHIFT, PAGE_SIZE as u64)?;
        // SAFETY: As in `find_folio`.
        unsafe { folio::read(self.mapping(), index, self.len()) }
    }

    /// Asks listeners for the bytes from `start` on that a folio of a size has.
    fn ask(&self, start: u64, size: u64) -> Result<Option<Scope<'_>>> {
        // Nobody is asked for what several files have: mounts that ask have no part in it.
        let Home::Range(file, first) = &self.0.data().home else {
            return Ok(None);
        };
        let from = first.checked_add(start).ok_or(EIO)?;
        file.asked(from, self.len().saturating_sub(start).min(size))
    }

    /// Reads the largest folio with the page `index` that is to be read now and that nothing is in the
    /// way of. None if that has but one page, or cannot be read: then the page may be readable alone.
    ///
    /// # Errors
    ///
    /// What listeners say.
    fn read_large(&self, index: usize) -> Result<Option<ReadFolio>> {
        let data = self.0.data();
        let mapping = self.mapping();
        let mut largest = data.order.load(Relaxed).clamp(0, ORDER_MAX);
        if data.is_mixed.load(Relaxed) != 0 || data.home.asks_listeners() {
            // What is around is wanted only if what was read last is followed.
            let gap = index.wrapping_sub(data.next.load(Relaxed));
            largest = if gap > MIXED_GAP {
                0
            } else {
                largest.min(MIXED_ORDER_MAX)
            };
            data.next.store(index.saturating_add(1), Relaxed);
        }
        // If two miss at once it grows once, which is as good.
        data.order
            .store(largest.saturating_add(ORDER_STEP).min(ORDER_MAX), Relaxed);
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
            // What is read so is metadata, of an image.
            let Home::Range(file, first_of_file) = &data.home else {
                return Ok(None);
            };
            let from = first_of_file.checked_add(start).ok_or(EIO)?;
            let _asked = self.ask(start, size)?;
            // Of so much one copy is enough: single pages are what the next mount wants first.
            if folio.fill(len as usize, &file.passed(), from).is_err() {
                return Ok(None);
            }
            data.next.store(first.saturating_add(pages), Relaxed);
            // SAFETY: As in `find_folio`; the index is a multiple of the number of pages. If another reader was
            // faster, there is a folio now.
            return Ok(unsafe { folio.insert(mapping, first, self.len()) }.ok());
        }
        Ok(None)
    }

    /// Says that there is other data between what is read with [`Self::folio`], so that a miss alone does not mean that what is
    /// around it will be wanted.
    pub(crate) fn set_mixed(&self) {
        self.0.data().is_mixed.store(1, Relaxed);
    }

    /// Drops the pages that lie whole between two positions, as far as they are not in use.
    pub(in crate::vfs) fn invalidate(&self, start: u64, end: u64) {
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
                    self.mapping(),
                    first as usize,
                    behind.wrapping_sub(1) as usize,
                )
            };
        }
    }
}
