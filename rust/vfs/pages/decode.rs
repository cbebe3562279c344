// SPDX-License-Identifier: GPL-2.0-only

//! `struct address_space_operations` of files whose bytes are decoded: fills the page cache of an inode from its clusters.
//!
//! What is asked for is made longer, to whole clusters: what was decoded once is cached, and not decoded again for the next
//! page. Encoded bytes that lie one behind the other are read at once, and past their file's cache, for they are not wanted
//! again. Each cluster is decoded straight into the pages. Those that it fills in part belong to its neighbour, too: what it
//! has of the page behind is kept ([`crate::vfs::pages::tails`]) for when that is read.
//!
//! Files that are known to be equal have their pages in common, in a cache of [`crate::vfs::pages::range`]. Those are filled from
//! the file that is just being read or mapped, whichever it is: so nothing has to be known of the others, and what is wrong with one
//! is an error for its own readers.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::operations;
use crate::vfs::pages::buffer::Buffer;
use crate::vfs::pages::cluster::Cluster;
use crate::vfs::pages::cluster::Clusters;
use crate::vfs::pages::cluster::Content;
use crate::vfs::pages::cluster::Place;
use crate::vfs::pages::folio;
use crate::vfs::pages::folio_batch::FolioBatch;
use crate::vfs::pages::folio_batch::LockedFolio;
use crate::vfs::pages::later::fill_later;
use crate::vfs::pages::mapped_batch::MappedBatch;
use crate::vfs::pages::range::RangeFs;
use crate::vfs::vec;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use core::ptr::NonNull;
use kernel::error::from_result;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// How many encoded bytes are read at once at the most, unless one cluster has more.
const RUN_MAX: usize = 1 << 20;

/// How many clusters are read at once at the most.
const CLUSTERS_MAX: usize = 128;

/// How large a file is at the most, in bytes, that is read ahead with those that follow it.
const SMALL: u64 = 64 << 10;

/// A page in bytes.
const PAGE: u64 = PAGE_SIZE as u64;

/// A cluster whose encoded bytes were read with those of others.
struct Job<D> {
    start: u64,
    end: u64,
    decoder: D,
    /// Which of the bytes.
    encoded: Range<usize>,
}

/// Fills a batch of folios with an inode's bytes.
struct Filler<'a, C: Clusters> {
    inode: &'a Inode<C::FileSystem>,
    // In front of the batch, whose folios it maps.
    mapped: Option<MappedBatch>,
    batch: &'a mut FolioBatch,
}

/// What [`Filler::cluster`] is about.
type ClusterOf<'a, C> = Cluster<'a, <C as Clusters>::FileSystem, <C as Clusters>::Decoder>;

impl<'a, C: Clusters> Filler<'a, C> {
    fn new(inode: &'a Inode<C::FileSystem>, batch: &'a mut FolioBatch) -> Self {
        Self {
            inode,
            mapped: None,
            batch,
        }
    }

    fn cluster(&self, pos: u64) -> Result<ClusterOf<'a, C>> {
        cluster::<C>(self.inode, pos)
    }

    /// Fills all folios, from the front, for reading one cluster may leave anything behind it. What lies past the end of
    /// the file is zero.
    fn fill(&mut self) -> Result {
        let start = self.batch.pos();
        let end = self.batch.end();
        let size = self.inode.size().min(end);
        let tails = C::tails(self.inode);
        let kept = tails.take(self.inode.number(), start, |bytes| {
            self.batch.copy_from(start, bytes)
        })?;
        let mut pos = start.saturating_add(kept as u64);
        let mut jobs = KVec::new();
        let mut ahead = None;
        while pos < size {
            let cluster = match ahead.take() {
                Some(cluster) => cluster,
                None => self.cluster(pos)?,
            };
            let upto = cluster.end().min(size);
            let skip = pos.saturating_sub(cluster.start);
            let len = upto.saturating_sub(pos);
            match cluster.content {
                Content::Hole => self.batch.zero(pos, len)?,
                Content::Inode(inode, from) => {
                    self.copy_from(pos, len, &inode, from.saturating_add(skip))?;
                }
                Content::Plain(Place::File(file, from)) => {
                    let from = from.saturating_add(skip);
                    self.batch.read_from(pos, len, file, from, false)?;
                }
                Content::Plain(Place::Memory(bytes, _)) => {
                    let bytes = bytes
                        .get(skip as usize..)
                        .and_then(|bytes| bytes.get(..len as usize));
                    self.batch.copy_from(pos, bytes.ok_or(EIO)?)?;
                }
                Content::Encoded(Place::Memory(ref bytes, _), len, decoder) => {
                    let encoded = bytes.get(..len).ok_or(EIO)?;
                    self.decode(cluster.start..cluster.end(), decoder, encoded)?;
                }
                Content::Encoded(Place::File(file, from), len, decoder) => {
                    let (start, end) = (cluster.start, cluster.end());
                    jobs.clear();
                    vec::push(
                        &mut jobs,
                        Job {
                            start,
                            end,
                            decoder,
                            encoded: 0..len,
                        },
                    )?;
                    ahead = self.gather(&mut jobs, file, from, size)?;
                    self.decode_all(&jobs, file, from)?;
                    pos = jobs.last().map_or(end, |job| job.end);
                    continue;
                }
            }
            pos = upto;
        }
        let zeros = pos.max(self.inode.size());
        if zeros < end {
            self.batch.zero(zeros, end.saturating_sub(zeros))?;
        }
        Ok(())
    }

    /// Adds the clusters behind those of `jobs` as long as their encoded bytes lie one behind the other in `file`, where
    /// they begin at `from`. The first cluster that does not belong to them, if there is one before `end`.
    fn gather(
        &self,
        jobs: &mut KVec<Job<C::Decoder>>,
        file: &BackingFile,
        from: u64,
        end: u64,
    ) -> Result<Option<ClusterOf<'a, C>>> {
        while let Some(last) = jobs.last() {
            let next = last.end;
            let total = last.encoded.end;
            if next >= end || jobs.len() >= CLUSTERS_MAX {
                break;
            }
            let cluster = self.cluster(next)?;
            match cluster.content {
                Content::Encoded(Place::File(of, at), len, decoder)
                    if ptr::eq(of, file)
                        && at == from.saturating_add(total as u64)
                        && total.saturating_add(len) <= RUN_MAX =>
                {
                    let encoded = total..total.saturating_add(len);
                    let (start, end) = (cluster.start, cluster.end());
                    vec::push(
                        jobs,
                        Job {
                            start,
                            end,
                            decoder,
                            encoded,
                        },
                    )?;
                }
                _ => return Ok(Some(cluster)),
            }
        }
        Ok(None)
    }

    /// Reads and decodes clusters whose encoded bytes lie one behind the other, from `from` on.
    fn decode_all(&mut self, jobs: &[Job<C::Decoder>], file: &BackingFile, from: u64) -> Result {
        let total = jobs.last().map_or(0, |job| job.encoded.end);
        let starts = jobs.first().is_some_and(|job| job.start == 0);
        let is_small = starts && self.inode.size() <= SMALL;
        let buffer = Buffer::read(file, from, total, is_small)?;
        for job in jobs {
            let encoded = buffer.bytes().get(job.encoded.clone()).ok_or(EIO)?;
            self.decode(job.start..job.end, job.decoder, encoded)?;
        }
        Ok(())
    }

    /// Decodes a cluster to where it lies in the batch.
    fn decode(&mut self, range: Range<u64>, decoder: C::Decoder, encoded: &[u8]) -> Result {
        let inode = self.inode;
        let Range { start, end } = range;
        let len = end.checked_sub(start).ok_or(EIO)?;
        if let Some(decoded) = self.batch.bytes_mut(start, len) {
            return C::decode(inode, start, decoder, encoded, decoded, true);
        }
        let (first, behind) = (self.batch.pos(), self.batch.end());
        let is_near = start.saturating_add(PAGE) >= first && end <= behind.saturating_add(PAGE);
        if is_near && self.map().is_some() {
            let mapped = self.mapped.as_mut().ok_or(ENOMEM)?;
            let decoded = mapped.bytes_mut(start, len).ok_or(EIO)?;
            C::decode(inode, start, decoder, encoded, decoded, true)?;
            keep::<C>(inode, start, behind, decoded);
            return Ok(());
        }
        // What is before the batch has to be decoded, and nothing that is behind.
        let is_all = end <= behind.saturating_add(PAGE);
        let wanted = if is_all { end } else { behind };
        let mut buffer = Buffer::new(wanted.saturating_sub(start) as usize)?;
        C::decode(inode, start, decoder, encoded, buffer.bytes_mut(), is_all)?;
        let (from, to) = (start.max(first), end.min(behind));
        let decoded = buffer.bytes();
        let skip = from.saturating_sub(start) as usize;
        let part = decoded
            .get(skip..)
            .and_then(|part| part.get(..to.saturating_sub(from) as usize));
        self.batch.copy_from(from, part.ok_or(EIO)?)?;
        if is_all {
            keep::<C>(inode, start, behind, decoded);
        }
        Ok(())
    }

    /// The batch's pages in a row, mapped if they are not yet.
    fn map(&mut self) -> Option<&mut MappedBatch> {
        if self.mapped.is_none() {
            // SAFETY: The mapping is gone before the batch's folios are given back, and neither is used while bytes of
            // the other are: see `decode`.
            self.mapped = unsafe { MappedBatch::new(self.batch) }.ok();
        }
        self.mapped.as_mut()
    }

    /// Copies `len` bytes to `pos` that another inode has at `from`.
    fn copy_from(&mut self, pos: u64, len: u64, inode: &Inode<C::FileSystem>, from: u64) -> Result {
        let mut done = 0;
        while done < len {
            let folio = folio::of_inode(inode, from.checked_add(done).ok_or(EIO)?)?.ok_or(EIO)?;
            let bytes = folio
                .bytes(from.saturating_add(done))
                .up_to(len.saturating_sub(done));
            if bytes.is_empty() {
                return Err(EIO);
            }
            self.batch.copy_from(pos.saturating_add(done), &bytes)?;
            done = done.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }
}

/// Fills a batch of folios with an inode's bytes.
fn fill<C: Clusters>(inode: &Inode<C::FileSystem>, batch: &mut FolioBatch) -> Result {
    Filler::<C>::new(inode, batch).fill()
}

/// Keeps what was decoded, from `start` of the file on, of the page at `behind`.
fn keep<C: Clusters>(inode: &Inode<C::FileSystem>, start: u64, behind: u64, decoded: &[u8]) {
    let skip = usize::try_from(behind.saturating_sub(start)).unwrap_or(usize::MAX);
    let bytes = decoded.get(skip..).unwrap_or_default();
    if start < behind && !bytes.is_empty() && bytes.len() < PAGE_SIZE {
        C::tails(inode).keep(inode.number(), behind, bytes);
    }
}

/// The cluster of the byte at `pos`, which it has.
fn cluster<C: Clusters>(inode: &Inode<C::FileSystem>, pos: u64) -> Result<ClusterOf<'_, C>> {
    let cluster = C::cluster(inode, pos)?;
    if cluster.start > pos || cluster.end() <= pos {
        return Err(EIO);
    }
    Ok(cluster)
}

/// The pages that are to be read when those between two positions are wanted: all that the first and last cluster fill. What
/// is wrong is found when they are read.
fn widened<C: Clusters>(inode: &Inode<C::FileSystem>, wanted: Range<u64>) -> Range<u64> {
    let Range { mut start, mut end } = wanted;
    let size = inode.size();
    if start >= size {
        return start..end;
    }
    if !C::tails(inode).has(inode.number(), start) {
        if let Ok(first) = cluster::<C>(inode, start) {
            if first.is_encoded() {
                start = start.min(page_behind(first.start));
            }
            // Most often it is the last one, too.
            if first.end() >= end.min(size) {
                return start..end.max(behind(&first, size));
            }
        }
    }
    if let Ok(last) = cluster::<C>(inode, end.min(size).saturating_sub(1)) {
        end = end.max(behind(&last, size));
    }
    start..end
}

/// Where what cannot be decoded begins in what is to be read ahead, since a backing file does not have what it is decoded
/// from, or listeners were not asked for that. None if nothing is missing.
fn limit<C: Clusters>(inode: &Inode<C::FileSystem>, wanted: &Range<u64>) -> Option<u64> {
    if !C::may_lack_parts(inode) {
        return None;
    }
    let mut pos = wanted.start;
    while pos < wanted.end.min(inode.size()) {
        // What is wrong is found when it is read.
        let cluster = cluster::<C>(inode, pos).ok()?;
        let (place, len) = match &cluster.content {
            Content::Hole => (None, 0),
            Content::Inode(other, from) => {
                if lacks_parts::<C>(other, pages_of(*from, &cluster, wanted)) {
                    return Some(pos);
                }
                (None, 0)
            }
            Content::Plain(place) => (Some(place), cluster.len),
            Content::Encoded(place, len, _) => (Some(place), *len as u64),
        };
        if let Some(Place::File(file, from)) = place {
            if file.ahead(*from, len) < len {
                return Some(pos);
            }
        }
        pos = cluster.end();
    }
    None
}

/// The same for pages of an inode that is read as part of another. One whose bytes are not decoded counts as that: it would have
/// to be read to know.
fn lacks_parts<C: Clusters>(inode: &Inode<C::FileSystem>, pages: Range<u64>) -> bool {
    is_missing(inode, &pages)
        && (cluster::<C>(inode, pages.start).is_err() || limit::<C>(inode, &pages).is_some())
}

/// Whether one of the pages in a range is not cached.
pub(in crate::vfs) fn is_missing<T: crate::vfs::object::fs_type::FileSystem>(
    inode: &Inode<T>,
    pages: &Range<u64>,
) -> bool {
    let end = pages.end.min(inode.size()).div_ceil(PAGE);
    let (first, end) = ((pages.start >> PAGE_SHIFT) as usize, end as usize);
    // SAFETY: The mapping is that of an inode in use.
    let missing = unsafe { bindings::vfs_helper_first_missing(inode.mapping(), first, end) };
    missing < end
}

/// The pages of another inode which have, from `from` on, what a cluster is, as far as that is wanted.
pub(in crate::vfs) fn pages_of<T: crate::vfs::object::fs_type::FileSystem, D>(
    from: u64,
    cluster: &Cluster<'_, T, D>,
    wanted: &Range<u64>,
) -> Range<u64> {
    let start = wanted.start.max(cluster.start);
    let end = wanted.end.min(cluster.end());
    let at = |pos: u64| from.saturating_add(pos.saturating_sub(cluster.start));
    at(start) & !PAGE.wrapping_sub(1)..page_behind(at(end))
}

/// The beginning of the first page at a position or behind it.
fn page_behind(pos: u64) -> u64 {
    pos.checked_next_multiple_of(PAGE).unwrap_or(pos)
}

/// Where the pages end that a cluster fills, in a file of a size.
fn behind<T: crate::vfs::object::fs_type::FileSystem, D>(
    cluster: &Cluster<'_, T, D>,
    size: u64,
) -> u64 {
    if !cluster.is_encoded() {
        0
    } else if cluster.end() >= size {
        page_behind(size)
    } else {
        cluster.end() & !PAGE.wrapping_sub(1)
    }
}

/// The table for inodes whose clusters `C` knows.
pub(in crate::vfs) struct Operations<C: Clusters>(PhantomData<C>);

impl<C: Clusters> Operations<C> {
    /// The table itself.
    pub(in crate::vfs) const TABLE: &'static bindings::address_space_operations =
        &bindings::address_space_operations {
            read_folio: Some(Self::read_folio),
            readahead: Some(Self::readahead),
            // SAFETY: All members are optional function pointers, for which zero means none.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        };

    /// # Safety
    ///
    /// Called by the page cache, for a mapping of an inode of `C::FileSystem`.
    unsafe extern "C" fn read_folio(
        _file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> core::ffi::c_int {
        // SAFETY: The page cache passes a folio that is locked, not up to date, and in a mapping,
        // whose host is an inode that stays while the folio is locked.
        unsafe {
            let host = bindings::vfs_helper_folio_inode(folio);
            read::<C>(Inode::from_raw(host), folio)
        }
    }

    /// # Safety
    ///
    /// Called by the page cache, for a mapping of an inode of `C::FileSystem`.
    unsafe extern "C" fn readahead(control: *mut bindings::readahead_control) {
        // SAFETY: The page cache passes a mapping whose host stays for the length of the call.
        unsafe { read_ahead::<C>(Inode::from_raw((*(*control).mapping).host), false, control) };
    }
}

/// The operations of caches that files whose clusters `C` knows have in common, which nobody opens: the `f_mapping` of such files
/// alone leads there.
pub(in crate::vfs) const fn shared<C: Clusters>() -> operations::Cache<RangeFs> {
    operations::Cache {
        mapping: Shared::<C>::TABLE,
        _p: PhantomData,
    }
}

struct Shared<C: Clusters>(PhantomData<C>);

impl<C: Clusters> Shared<C> {
    const TABLE: &'static bindings::address_space_operations =
        &bindings::address_space_operations {
            read_folio: Some(Self::read_folio),
            readahead: Some(Self::readahead),
            // SAFETY: All members are optional function pointers, for which zero means none.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        };

    /// # Safety
    ///
    /// Called by the page cache, for a mapping that files of `C::FileSystem` have in common, and one of these, if any.
    unsafe extern "C" fn read_folio(
        file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> core::ffi::c_int {
        if file.is_null() {
            // Whoever reads pages that he found without a file cannot say whose bytes they are to be.
            // SAFETY: The page cache passes a folio that is locked.
            unsafe { bindings::folio_unlock(folio) };
            return EIO.to_errno();
        }
        // SAFETY: The page cache passes a folio that is locked, not up to date, and in a mapping, and an open file whose
        // `f_mapping` that is, and whose inode stays while it is open.
        unsafe { read::<C>(Inode::from_raw((*file).f_inode), folio) }
    }

    /// # Safety
    ///
    /// Called by the page cache, for a mapping that files of `C::FileSystem` have in common, and one of these, if any.
    unsafe extern "C" fn readahead(control: *mut bindings::readahead_control) {
        // SAFETY: The page cache passes a control, whose file is as in `read_folio`. What is not read ahead is read when it is
        // wanted.
        unsafe {
            let file = (*control).file;
            if !file.is_null() {
                read_ahead::<C>(Inode::from_raw((*file).f_inode), true, control);
            }
        }
    }
}

/// Fills a folio with an inode's bytes, and those around it that are decoded with them.
///
/// # Safety
///
/// The folio must be locked, not up to date, and in a mapping whose pages are the inode's bytes.
unsafe fn read<C: Clusters>(
    inode: &Inode<C::FileSystem>,
    folio: *mut bindings::folio,
) -> core::ffi::c_int {
    // SAFETY: By the safety requirements; the host of the mapping stays while the folio is locked.
    let (mapping, folio) = unsafe {
        (
            &raw mut (*bindings::vfs_helper_folio_inode(folio)).i_data,
            LockedFolio::from_raw(NonNull::new_unchecked(folio)),
        )
    };
    // SAFETY: As above. A folio that was added is locked, too.
    let add = |pos| unsafe { add(mapping, pos) };
    from_result(|| {
        let start = folio.pos();
        let end = start.saturating_add(folio.size() as u64);
        let wanted = widened::<C>(inode, start..end);
        let mut before = KVec::new();
        let mut pos = start;
        while pos > wanted.start {
            pos = pos.saturating_sub(PAGE);
            let Some(folio) = add(pos) else { break };
            // If there is no room the folio counts as failed, and is read when it is wanted.
            if vec::push(&mut before, folio).is_err() {
                break;
            }
        }
        let pages = wanted.end.saturating_sub(wanted.start) >> PAGE_SHIFT;
        let mut batch = FolioBatch::with_room(pages as usize);
        let mut folio = Some(folio);
        let mut next = end;
        batch.take(|| {
            before.pop().or_else(|| folio.take()).or_else(|| {
                if next >= wanted.end {
                    return None;
                }
                let folio = add(next);
                next = next.saturating_add(PAGE);
                folio
            })
        });
        drop(before);
        let filled = match folio {
            // There was no room for it.
            Some(_) => Err(ENOMEM),
            None => fill::<C>(inode, &mut batch),
        };
        batch.end_read(filled.is_ok());
        filled?;
        Ok(0)
    })
}

/// Fills what is to be read ahead with an inode's bytes. `is_elsewhere` says that the mapping is not the inode's own.
///
/// # Safety
///
/// The control must be valid, and the pages of its mapping be the inode's bytes.
unsafe fn read_ahead<C: Clusters>(
    inode: &Inode<C::FileSystem>,
    is_elsewhere: bool,
    control: *mut bindings::readahead_control,
) {
    // SAFETY: By the safety requirements.
    let (start, len) = unsafe {
        (
            bindings::vfs_helper_readahead_pos(control).unsigned_abs(),
            bindings::vfs_helper_readahead_length(control) as u64,
        )
    };
    let end = start.saturating_add(len);
    let wanted = widened::<C>(inode, start..end);
    if wanted != (start..end) {
        let len = wanted.end.saturating_sub(wanted.start);
        // SAFETY: As above. Positions are in a file.
        unsafe { bindings::readahead_expand(control, wanted.start as i64, len as usize) };
    }
    let limit = limit::<C>(inode, &wanted);
    // SAFETY: The control is valid for the length of the call.
    let next = || unsafe { LockedFolio::read_ahead(control, limit) };
    // SAFETY: As above.
    let pages = unsafe { bindings::vfs_helper_readahead_count(control) };
    // SAFETY: As above.
    let waited = unsafe { bindings::vfs_helper_readahead_waited(control) };
    let can_wait = waited.unsigned_abs() <= start;
    // Listeners were asked for what this task reads.
    let workers = C::workers(inode).filter(|_| can_wait && !C::may_lack_parts(inode));
    loop {
        let mut batch = FolioBatch::with_room(pages as usize);
        if !batch.take(next) {
            return;
        }
        if let Some(workers) = workers {
            // SAFETY: The folios are of the mapping that the page cache passed, whose host the inode is if it is not said to be
            // elsewhere. Filesystems whose inodes have pages in common wait for the workers.
            unsafe { fill_later(workers, inode, is_elsewhere, batch, fill::<C>) };
            continue;
        }
        let filled = fill::<C>(inode, &mut batch);
        batch.end_read(filled.is_ok());
        if filled.is_err() {
            // What is left is read when it is wanted, and its error reported then.
            return;
        }
    }
}

/// A new folio at `pos` of a mapping, if there is none and there is memory for it.
///
/// # Safety
///
/// The mapping must be that of an inode in use.
unsafe fn add(mapping: *mut bindings::address_space, pos: u64) -> Option<LockedFolio> {
    // SAFETY: By the safety requirements.
    let folio = unsafe { bindings::vfs_helper_add_folio(mapping, (pos >> PAGE_SHIFT) as usize) };
    // SAFETY: It is new, and so locked and not up to date; being locked keeps it in the cache.
    NonNull::new(folio).map(|folio| unsafe { LockedFolio::from_raw(folio) })
}
