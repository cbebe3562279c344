// SPDX-License-Identifier: GPL-2.0-only

//! Files that a filesystem reads its own contents from: images and blobs, on other filesystems or
//! on block devices.
//!
//! Reads go through `vfs_iocb_iter_read()` with the credentials of who opened the file, so that
//! security modules, fs-verity and fanotify's permission events of the file's own filesystem work
//! as for any reader.

use super::bindings;
use super::errno::ENODATA;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use kernel::bindings::iov_iter;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::aref::ARef;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;

/// What direct reads are aligned to, at the least, in bytes.
const SECTOR: usize = 512;

/// How much any device can read at once, in bytes.
const DIRECT_STEP: usize = 128 << 10;

/// The longest path with its NUL, in bytes.
const PATH_MAX: usize = 4096;

/// See [`BackingFile::identity`].
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Identity {
    inode: usize,
    /// When the inode was last changed: unlike the time of modification no one can set it back.
    changed: (i64, u32),
    /// 0, or a number that no other identity has: while someone may be writing to the file, what is
    /// read from it counts as seen once. The time of a change is that of its beginning.
    unsettled: u64,
}

/// How many identities were unsettled.
static UNSETTLED: Atomic<u64> = Atomic::new(0);

impl Identity {
    /// Where to hash it: inodes are at least 64 bytes apart.
    pub(super) fn hash(self) -> u64 {
        (self.inode >> 6) as u64
    }

    /// A number that is another when the file was changed.
    pub(crate) fn version(self) -> u64 {
        let (sec, nsec) = self.changed;
        sec.unsigned_abs().rotate_left(32) ^ u64::from(nsec) ^ self.unsettled.rotate_left(16)
    }
}

/// A file that is open for reading, with read_iter().
///
/// # Invariants
///
/// The file is a regular file or a block device, and was opened for reading.
#[derive(Clone)]
pub(crate) struct BackingFile {
    file: ARef<File>,
    /// Whether what is read to be cached elsewhere may stay in the file's cache, too.
    kept: bool,
}

impl BackingFile {
    /// Opens `path` for the current task.
    ///
    /// # Errors
    ///
    /// Those of open(2), and of [`Self::from_file`].
    pub(crate) fn open(path: &CStr) -> Result<Self> {
        // SAFETY: The path is a C string.
        let file = super::from_err_ptr(unsafe {
            bindings::filp_open(
                path.as_char_ptr(),
                // Without waiting for the other end of a fifo, which is refused below.
                (bindings::O_RDONLY | bindings::O_LARGEFILE | bindings::O_NONBLOCK) as i32,
                0,
            )
        })?;
        // SAFETY: `filp_open` returned a reference, and no one seeks this file.
        Self::from_file(unsafe { ARef::from_raw(ptr::NonNull::new_unchecked(file.cast())) })
    }

    /// Takes a file that is open already.
    ///
    /// # Errors
    ///
    /// `EISDIR` for a directory, `EINVAL` for anything but a regular file or a block device,
    /// `EBADF` for a file that is not open for reading.
    pub(crate) fn from_file(file: ARef<File>) -> Result<Self> {
        let ptr = file.as_ptr();
        // SAFETY: The file is referenced; its inode, mode and operations are constant.
        let (kind, mode, has_read_iter) = unsafe {
            (
                u32::from((*(*ptr).f_inode).i_mode) & bindings::S_IFMT,
                (*ptr).f_mode,
                (*(*ptr).f_op).read_iter.is_some(),
            )
        };
        match kind {
            bindings::S_IFREG | bindings::S_IFBLK => {}
            bindings::S_IFDIR => return Err(EISDIR),
            _ => return Err(EINVAL),
        }
        if mode & bindings::VFS_CONST_FMODE_READ == 0 {
            return Err(EBADF);
        }
        if mode & bindings::VFS_CONST_FMODE_CAN_READ == 0 || !has_read_iter {
            return Err(EINVAL);
        }
        // INVARIANT: Checked above.
        Ok(Self { file, kept: false })
    }

    /// The same file, whose bytes may stay in its own cache when they are cached elsewhere: that
    /// costs memory, and saves going to the disk for what is small and wanted again.
    pub(crate) fn kept(&self) -> Self {
        Self {
            kept: true,
            ..self.clone()
        }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::file {
        self.file.as_ptr()
    }

    /// Whether the file's filesystem does direct I/O.
    pub(super) fn can_read_directly(&self) -> bool {
        // SAFETY: The file is referenced; its mode does not change after it was opened.
        unsafe { (*self.as_ptr()).f_mode & bindings::VFS_CONST_FMODE_CAN_ODIRECT != 0 }
    }

    /// How many pages readahead of the file may be ahead, as its device has it set.
    pub(super) fn readahead_pages(&self) -> u32 {
        // SAFETY: The file is referenced. The setting may be changed meanwhile: any value will do.
        unsafe { (&raw const (*self.as_ptr()).__bindgen_anon_3.f_ra.ra_pages).read_volatile() }
    }

    fn inode(&self) -> *mut bindings::inode {
        // The mapping's host is the file's own inode, and for a block device that of the device.
        // SAFETY: The file is referenced; its mapping and the mapping's host are constant.
        unsafe { (*(*self.as_ptr()).f_mapping).host }
    }

    /// What tells this file's contents from those of other files, and from what they were before
    /// the file was last changed, while it is open. As long as anyone has it open for writing it is
    /// another one each time. (Writing to a block device is not noticed.)
    pub(crate) fn identity(&self) -> Identity {
        let inode = self.inode();
        let mut changed = (0, 0);
        // SAFETY: The inode lives as long as the file is referenced; the rest is to be filled in.
        let writers =
            unsafe { bindings::vfs_helper_inode_changed(inode, &mut changed.0, &mut changed.1) };
        Identity {
            inode: inode as usize,
            changed,
            unsettled: if writers {
                UNSETTLED.fetch_add(1, Relaxed).wrapping_add(1)
            } else {
                0
            },
        }
    }

    /// The size in bytes as it is now.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: The inode lives as long as the file is referenced.
        unsafe { bindings::vfs_helper_i_size_read(self.inode()) }.unsigned_abs()
    }

    /// How many filesystems are stacked at the file's place.
    pub(crate) fn stack_depth(&self) -> u32 {
        // SAFETY: The superblock lives as long as the file is referenced; the depth is constant.
        unsafe { (*(*self.inode()).i_sb).s_stack_depth }.unsigned_abs()
    }

    /// Whether the file lies on a filesystem of this type that is not on a block device.
    pub(crate) fn is_on_deviceless(&self, fs_name: &CStr) -> bool {
        // SAFETY: The superblock and its type live as long as the file is referenced.
        unsafe {
            let sb = (*self.inode()).i_sb;
            let name = super::c_str((*(*sb).s_type).name);
            (*sb).s_bdev.is_null() && name == fs_name
        }
    }

    /// Whether another open file is the same file.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.inode() == other.inode()
    }

    /// Whether `path` is the file's, as [`Self::show_path`] shows it, or leads to it.
    pub(crate) fn is_at(&self, path: &CStr) -> bool {
        if Self::open(path).is_ok_and(|other| self.is_same(&other)) {
            return true;
        }
        // A file that was unlinked has a path that leads nowhere.
        with_path(&self.file, |own| own == path).unwrap_or(false)
    }

    /// Writes the file's path, as the reader of `seq` sees it, with what separates mount options
    /// escaped.
    pub(crate) fn show_path(&self, seq: &kernel::seq_file::SeqFile) {
        // SAFETY: `SeqFile` is transparent over `struct seq_file`, which is the caller's alone
        // during the call. If the path cannot be shown nothing is written.
        unsafe {
            bindings::seq_file_path(
                ptr::from_ref(seq).cast_mut().cast(),
                self.as_ptr(),
                c" \t\n\\,#".as_char_ptr(),
            );
        }
    }

    /// Reads `len` bytes at `pos` into the pages of `segments`, all of them or none that count. They
    /// go behind the first `skip` bytes of the segments, where there are `room` bytes; what is behind
    /// `len` may be overwritten.
    ///
    /// The pages are a cache of their own, so the file's should not keep the bytes, too. What it has
    /// is copied, the rest is read directly, past it. Where that cannot be done it is read through
    /// the file's cache, which is asked to let go of it.
    ///
    /// # Errors
    ///
    /// `EIO` if the file ends before, and what the file's filesystem returns.
    pub(super) fn read_exact(
        &self,
        segments: &[bindings::bio_vec],
        skip: usize,
        len: usize,
        room: usize,
        pos: u64,
    ) -> Result {
        let mut done = 0usize;
        let mut direct_step = usize::MAX;
        for way in [Way::Cached, Way::Direct, Way::NotKept] {
            if !self.supports(way) {
                continue;
            }
            while done < len {
                let end = match way {
                    // Whole sectors, of which the last may be wanted in part.
                    Way::Direct => len
                        .checked_next_multiple_of(SECTOR)
                        .map_or(len, |sectors| sectors.min(room))
                        .min(done.saturating_add(direct_step)),
                    Way::Cached | Way::NotKept => len,
                };
                match self.read(segments, skip, done..end, pos, way) {
                    Ok(0) if way == Way::NotKept => return Err(EIO),
                    Ok(0) => break,
                    Ok(read) => done = done.checked_add(read).ok_or(EIO)?,
                    Err(error) if way == Way::NotKept => return Err(error),
                    // More than the device takes at once is not divided without waiting.
                    Err(error)
                        if error == EAGAIN
                            && way == Way::Direct
                            && end.saturating_sub(done) > DIRECT_STEP =>
                    {
                        direct_step = DIRECT_STEP;
                    }
                    // What the disk cannot read is not there for the next way either, which would wait
                    // for locks on top of that.
                    Err(error) if way == Way::Direct && (error == EIO || error == ENODATA) => {
                        return Err(error);
                    }
                    Err(_) => break,
                }
            }
        }
        Ok(())
    }

    fn supports(&self, way: Way) -> bool {
        // SAFETY: The file is referenced; its mode, operations and superblock's type are constant.
        let (mode, fs_flags) = unsafe {
            let sb = (*self.inode()).i_sb;
            ((*self.as_ptr()).f_mode, (*(*sb).s_type).fs_flags)
        };
        let nowait = mode & bindings::VFS_CONST_FMODE_NOWAIT != 0;
        match way {
            // A block device has the lock waited for even then.
            Way::Cached => nowait && (self.kept || !self.is_block_device()),
            // Not over a network, where a reply may still come in after a killed read has returned,
            // and not through a stacked filesystem, which would read through a cache after all.
            Way::Direct => {
                !self.kept
                    && self.can_read_directly()
                    && (self.is_block_device()
                        || nowait && fs_flags & bindings::FS_REQUIRES_DEV as i32 != 0)
            }
            Way::NotKept => true,
        }
    }

    fn is_block_device(&self) -> bool {
        // SAFETY: The file is referenced; its inode's type is constant.
        unsafe {
            u32::from((*(*self.as_ptr()).f_inode).i_mode) & bindings::S_IFMT == bindings::S_IFBLK
        }
    }

    /// Reads the bytes of a range, which begins at `pos` of the file and behind the first `skip`
    /// bytes of `segments`, and waits for it. The number of bytes, which may be less.
    fn read(
        &self,
        segments: &[bindings::bio_vec],
        skip: usize,
        range: Range<usize>,
        pos: u64,
        way: Way,
    ) -> Result<usize> {
        let at = pos.checked_add(range.start as u64).ok_or(EIO)?;
        let start = skip.checked_add(range.start).ok_or(EIO)?;
        let end = skip.checked_add(range.end).ok_or(EIO)?;
        let mut kiocb = bindings::kiocb {
            ki_filp: self.as_ptr(),
            ki_pos: i64::try_from(at).map_err(|_| EIO)?,
            ki_flags: match way {
                Way::Cached => bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_NOIO as i32,
                // Pages may be wanted by a fault, with the lock of the task's memory held, which a
                // writer of the file can wait for: so the file's own lock is tried, not waited for.
                // Direct reads of a block device take none, others do.
                Way::Direct if self.is_block_device() => bindings::IOCB_DIRECT as i32,
                Way::Direct => bindings::VFS_CONST_IOCB_NOWAIT | bindings::IOCB_DIRECT as i32,
                Way::NotKept if !self.kept && self.can_drop() => bindings::VFS_CONST_IOCB_DONTCACHE,
                Way::NotKept => 0,
            },
            // SAFETY: Looks at the current task.
            ki_ioprio: unsafe { bindings::vfs_helper_get_current_ioprio() } as u16,
            ..Default::default()
        };
        // Each read gets an iterator of its own: where a read that failed leaves it is not defined.
        let mut iter = MaybeUninit::<iov_iter>::uninit();
        let _as_opener = Credentials::of(self);
        // SAFETY: The segments are valid, and hold `end` bytes, of which `start` are passed over. The
        // file is open for reading, the control block is for it and has no completion, so that the
        // call returns when it is done.
        let read = unsafe {
            bindings::iov_iter_bvec(
                iter.as_mut_ptr(),
                bindings::ITER_DEST,
                segments.as_ptr(),
                segments.len(),
                end,
            );
            bindings::iov_iter_advance(iter.as_mut_ptr(), start);
            bindings::vfs_iocb_iter_read(self.as_ptr(), &mut kiocb, iter.as_mut_ptr())
        };
        usize::try_from(read).map_err(|_| Error::from_errno(read as i32))
    }

    /// Whether the file's cache can be asked to drop what was read.
    fn can_drop(&self) -> bool {
        // SAFETY: The file is referenced; its operations and its inode's flags are constant.
        unsafe {
            (*(*self.as_ptr()).f_op).fop_flags & bindings::VFS_CONST_FOP_DONTCACHE != 0
                && (*self.inode()).i_flags & bindings::VFS_CONST_S_DAX == 0
        }
    }
}

/// Calls `f` with the path of an open file, as the current task sees it.
///
/// # Errors
///
/// `ENOMEM`, and `ENAMETOOLONG` for a path that no task could open.
pub(super) fn with_path<R>(file: &File, f: impl FnOnce(&CStr) -> R) -> Result<R> {
    let mut buffer = KVec::<u8>::from_elem(0, PATH_MAX, GFP_KERNEL)?;
    // SAFETY: The file is referenced, and the buffer has the length that is given.
    let path = super::from_err_ptr(unsafe {
        bindings::file_path(file.as_ptr(), buffer.as_mut_ptr().cast(), PATH_MAX as i32)
    })?;
    // SAFETY: The path is a C string in the buffer.
    Ok(f(unsafe { super::c_str(path) }))
}

/// How bytes are read that are to be cached elsewhere, in the order in which it is tried.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// From the file's cache, as far as they are there.
    Cached,
    /// Past the file's cache, unless that would wait for a lock.
    Direct,
    /// Through the file's cache, which drops them afterwards if it can.
    NotKept,
}

/// While it lives, the current task acts with the credentials of a file's opener.
///
/// # Invariants
///
/// `previous` is what the task's credentials were.
pub(super) struct Credentials<'a> {
    previous: *const bindings::cred,
    _file: &'a BackingFile,
}

impl<'a> Credentials<'a> {
    pub(super) fn of(file: &'a BackingFile) -> Self {
        // SAFETY: A file's credentials are valid as long as it is referenced, which is longer than
        // they are in use here.
        let previous = unsafe { bindings::vfs_helper_override_creds((*file.as_ptr()).f_cred) };
        // INVARIANT: That is what it returns.
        Self {
            previous,
            _file: file,
        }
    }
}

impl Drop for Credentials<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; guards are dropped in the reverse order of their making.
        unsafe { bindings::vfs_helper_revert_creds(self.previous) };
    }
}
