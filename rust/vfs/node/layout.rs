// SPDX-License-Identifier: GPL-2.0-only

//! Tells userspace how a file is laid out: SEEK_HOLE and SEEK_DATA, fiemap, and what direct I/O must be
//! aligned to.
//!
//! Called through the tables in [`crate::vfs::node::file`], and fiemap in [`crate::vfs::node::dir`], too. Positions of
//! extents are those in the file that they lie in, as the C driver of EROFS reports them.

use crate::vfs::bindings;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::extent::Extent;
use crate::vfs::pages::extent::Extents;
use crate::vfs::pages::extent::Source;
use crate::vfs::task::rest;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::prelude::*;

/// How many extents are looked at between looks at whether the task is being killed.
const EXTENTS_BETWEEN_CHECKS: u32 = 1024;

/// Calls `f` with the extents of `inode` from `start` on that begin before `end`, until it returns false.
/// Each is passed with the position where it begins and its length within the file.
pub(in crate::vfs) fn for_each<E: Extents>(
    inode: &Inode<E::FileSystem>,
    start: u64,
    end: u64,
    mut f: impl FnMut(u64, u64, &Source<'_, E::Bytes<'_>>) -> Result<bool>,
) -> Result {
    let size = inode.size();
    let end = end.min(size);
    let mut pos = start;
    let mut left = EXTENTS_BETWEEN_CHECKS;
    while pos < end {
        let Extent { len, source } = E::extent(inode, pos, false)?;
        let len = len.min(size.saturating_sub(pos));
        if len == 0 {
            return Err(EIO);
        }
        if !f(pos, len, &source)? {
            return Ok(());
        }
        pos = pos.saturating_add(len);
        left = left.saturating_sub(1);
        if left == 0 {
            left = EXTENTS_BETWEEN_CHECKS;
            rest()?;
        }
    }
    Ok(())
}

/// The next hole (or data) at `offset` or behind it. The end of the file counts as a hole.
///
/// # Errors
///
/// `ENXIO` if `offset` is past the end, or there is no data behind it.
pub(in crate::vfs) fn seek<E: Extents>(
    inode: &Inode<E::FileSystem>,
    offset: u64,
    hole: bool,
) -> Result<u64> {
    let size = inode.size();
    if offset >= size {
        return Err(ENXIO);
    }
    let mut found = hole.then_some(size);
    for_each::<E>(inode, offset, size, |pos, _, source| {
        if matches!(source, Source::Hole) == hole {
            found = Some(pos);
            return Ok(false);
        }
        Ok(true)
    })?;
    found.ok_or(ENXIO)
}

/// The inode operation that reports the extents of a file or a directory.
///
/// # Safety
///
/// Called by the VFS, for an inode of `E::FileSystem`.
pub(in crate::vfs) unsafe extern "C" fn fiemap<E: Extents>(
    inode: *mut bindings::inode,
    info: *mut bindings::fiemap_extent_info,
    start: u64,
    len: u64,
) -> i32 {
    // SAFETY: The VFS passes an inode that stays for the length of the call.
    let inode = unsafe { Inode::<E::FileSystem>::from_raw(inode) };
    from_result(|| {
        // SAFETY: That is what the VFS passes.
        unsafe { report::<E>(inode, info, start, len) }?;
        Ok(0)
    })
}

/// # Safety
///
/// `info` must be what the VFS passes to `fiemap`.
unsafe fn report<E: Extents>(
    inode: &Inode<E::FileSystem>,
    info: *mut bindings::fiemap_extent_info,
    start: u64,
    len: u64,
) -> Result {
    let mut len = len;
    // SAFETY: By the safety requirements.
    to_result(unsafe { bindings::fiemap_prep(inode.as_ptr(), info, start, &mut len, 0) })?;
    let size = inode.size();
    let block = inode.super_block().block_size().max(1);
    let fill = |extent: (u64, u64, u64, u32), last: u32| {
        let (pos, from, len, flags) = extent;
        // SAFETY: By the safety requirements.
        let full = unsafe { bindings::fiemap_fill_next_extent(info, pos, from, len, flags | last) };
        if full < 0 {
            return Err(Error::from_errno(full));
        }
        Ok(full == 0)
    };
    let mut previous = None;
    for_each::<E>(
        inode,
        start,
        start.saturating_add(len),
        |pos, len, source| {
            let extent = match source {
                Source::Hole => return Ok(true),
                Source::Memory(_, from) => (pos, *from, len, bindings::FIEMAP_EXTENT_DATA_INLINE),
                Source::File(_, from) => {
                    // The last block counts in full.
                    let end = pos.saturating_add(len);
                    let behind = match end.checked_next_multiple_of(block) {
                        Some(blocks) if end == size => blocks,
                        _ => end,
                    };
                    let len = behind.saturating_sub(pos);
                    (pos, *from, len, 0)
                }
            };
            match previous.replace(extent) {
                Some(previous) => fill(previous, 0),
                None => Ok(true),
            }
        },
    )?;
    if let Some(previous) = previous {
        fill(previous, bindings::FIEMAP_EXTENT_LAST)?;
    }
    Ok(())
}

/// What direct I/O must be aligned to: the backing file's own alignment, if the file is one extent
/// that begins so aligned. Else none, which says that there is no direct I/O.
pub(in crate::vfs) fn direct_alignment<E: Extents>(
    inode: &Inode<E::FileSystem>,
) -> Result<Option<(u32, u32)>> {
    let size = inode.size();
    if size == 0 {
        return Ok(None);
    }
    let extent = E::extent(inode, 0, false)?;
    let (Source::File(backing, from), true) = (extent.source, extent.len >= size) else {
        return Ok(None);
    };
    Ok(backing
        .direct()
        .filter(|align| {
            let mask = u64::from(align.offset).wrapping_sub(1);
            align.memory != 0 && from & mask == 0
        })
        .map(|align| (align.memory, align.offset)))
}
