// SPDX-License-Identifier: GPL-2.0-only

//! Files that a filesystem reads its own contents from: images and blobs, on other filesystems or
//! on block devices.
//!
//! They are read with the credentials of who opened them: for a caller's iterator ([`crate::vfs::node::read`]), when
//! security modules and fanotify's listeners are asked as for any reader, or to be cached elsewhere
//! ([`crate::vfs::backing::read`]), for which they are asked by this module ([`crate::vfs::backing::asking`]).

use crate::vfs::backing::cache::Cache;
use crate::vfs::backing::holes::Holes;
use crate::vfs::backing::listeners::Listeners;
use crate::vfs::backing::open::as_opener;
use crate::vfs::backing::open::check_kind;
use crate::vfs::backing::open::inode_of;
use crate::vfs::backing::open::open_file;
use crate::vfs::backing::open::with_path;
use crate::vfs::backing::open::PathTarget;
use crate::vfs::backing::row::Rows;
use crate::vfs::bindings;
use core::mem::MaybeUninit;
use core::ptr;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::str::CString;
use kernel::sync::aref::ARef;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::SetOnce;

/// What direct reads are aligned to at the least, in bytes.
const SECTOR: u32 = 512;

/// What direct reads of a file are to be aligned to, as STATX_DIOALIGN says; powers of two.
#[derive(Clone, Copy)]
pub(in crate::vfs) struct DirectAlignment {
    /// The memory that is read to, in bytes; 0 if the filesystem does not tell.
    pub(in crate::vfs) memory: u32,
    /// Positions and lengths, in bytes.
    pub(in crate::vfs) offset: u32,
}

/// See [`BackingFile::identity`].
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Identity {
    inode: usize,
    /// When the inode was last changed: unlike the time of modification no one can set it back.
    changed: (i64, u32),
    /// Whether it has fs-verity: what was read before it had was not compared with anything.
    has_verity: bool,
    /// 0, or a number that no other identity has: while someone may be writing to the file, what is
    /// read from it counts as seen once. The time of a change is that of its beginning.
    unsettled: u64,
}

/// How many identities were unsettled.
static UNSETTLED: Atomic<u64> = Atomic::new(0);

impl Identity {
    /// The address of the file's inode, which tells it from all that are open at the same time.
    pub(in crate::vfs) fn inode(self) -> usize {
        self.inode
    }

    /// Where to hash it: inodes are at least 64 bytes apart.
    pub(in crate::vfs) fn hash(self) -> u64 {
        (self.inode >> 6) as u64
    }

    /// A number that is another when the file was changed.
    pub(crate) fn version(self) -> u64 {
        let (sec, nsec) = self.changed;
        sec.unsigned_abs().rotate_left(32)
            ^ u64::from(nsec)
            ^ self.unsettled.rotate_left(16)
            ^ (u64::from(self.has_verity) << 31)
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
    pub(in crate::vfs) kept: bool,
    /// What is read in a row to be cached elsewhere, and only there.
    pub(in crate::vfs) rows: Rows,
    /// What is read in a row for callers, where readahead is for this module to decide.
    pub(in crate::vfs) read_rows: Option<Rows>,
    /// What direct reads are to be aligned to.
    direct: Asked,
    /// What is known of its holes, if they are not to be read.
    pub(in crate::vfs) holes: Option<Arc<Holes>>,
    /// Who asks listeners, if there may be any.
    pub(in crate::vfs) listeners: Option<Arc<Listeners>>,
}

/// What the filesystem answered about direct reads, once it was asked: few files are read so.
struct Asked(SetOnce<Option<DirectAlignment>>);

impl Clone for Asked {
    fn clone(&self) -> Self {
        let new = SetOnce::new();
        if let Some(answer) = self.0.as_ref() {
            new.populate(*answer);
        }
        Self(new)
    }
}

impl BackingFile {
    /// Opens `path` for the current task.
    ///
    /// # Errors
    ///
    /// Those of open(2), and of [`Self::from_file`].
    pub(crate) fn open(path: &CStr) -> Result<Self> {
        Self::from_file(open_file(path)?)
    }

    /// Takes a file that is open already.
    ///
    /// # Errors
    ///
    /// `EISDIR` for a directory, `EINVAL` for anything but a regular file or a block device,
    /// `EBADF` for a file that is not open for reading, and `ENOMEM`.
    pub(crate) fn from_file(file: ARef<File>) -> Result<Self> {
        let ptr = file.as_ptr();
        // SAFETY: The file is referenced; its inode, mode and operations are constant.
        let (mode, has_read_iter) = unsafe {
            check_kind((*ptr).f_inode)?;
            ((*ptr).f_mode, (*(*ptr).f_op).read_iter.is_some())
        };
        if mode & bindings::VFS_CONST_FMODE_READ == 0 {
            return Err(EBADF);
        }
        if mode & bindings::VFS_CONST_FMODE_CAN_READ == 0 || !has_read_iter {
            return Err(EINVAL);
        }
        // INVARIANT: Checked above.
        let mut file = Self {
            file,
            kept: false,
            rows: Rows::new()?,
            read_rows: None,
            direct: Asked(SetOnce::new()),
            holes: None,
            listeners: None,
        };
        let cache = Cache::of(&file);
        // Nothing is read ahead that a listener was not asked for, and none is asked twice.
        if mode & bindings::VFS_CONST_FMODE_NOWAIT != 0
            && cache.is_on_disk()
            && cache.has_folios()
            && !cache.is_below()
            && !file.is_watched()
        {
            file.read_rows = Some(Rows::new()?);
        }
        Ok(file)
    }

    /// The same file, whose bytes may stay in its own cache when they are cached elsewhere: that
    /// costs memory, and saves going to the disk for what is small and wanted again.
    pub(crate) fn kept(&self) -> Self {
        Self {
            kept: true,
            ..self.clone()
        }
    }

    /// The same file, whose bytes should not stay in its own cache when they are cached elsewhere.
    pub(in crate::vfs) fn passed(&self) -> Self {
        Self {
            kept: false,
            ..self.clone()
        }
    }

    pub(in crate::vfs) fn as_ptr(&self) -> *mut bindings::file {
        self.file.as_ptr()
    }

    /// The open file.
    pub(in crate::vfs) fn file(&self) -> &ARef<File> {
        &self.file
    }

    /// Calls `f` as who opened the file: with the credentials that the file was opened with.
    #[inline]
    pub(in crate::vfs) fn as_opener<R>(&self, f: impl FnOnce() -> R) -> R {
        as_opener(&self.file, f)
    }

    /// What direct reads are aligned to; none if there are none. A file can get fs-verity while it is open, and
    /// is read through its cache from then on, whatever is asked for.
    #[inline]
    pub(in crate::vfs) fn direct(&self) -> Option<DirectAlignment> {
        if self.has_verity() {
            return None;
        }
        if let Some(answer) = self.direct.0.as_ref() {
            return *answer;
        }
        let answer = self.find_direct();
        // If another task was faster, it got the same answer.
        self.direct.0.populate(answer);
        answer
    }

    /// Whether the file has fs-verity, which it can get while it is open.
    fn has_verity(&self) -> bool {
        // SAFETY: The inode lives as long as the file is referenced. The flags may change at any time.
        let flags = unsafe { (&raw const (*self.inode()).i_flags).read_volatile() };
        flags & bindings::VFS_CONST_S_VERITY != 0
    }

    /// Asks the filesystem what direct reads are to be aligned to.
    fn find_direct(&self) -> Option<DirectAlignment> {
        if self.mode() & bindings::VFS_CONST_FMODE_CAN_ODIRECT == 0 {
            return None;
        }
        let mut stat = MaybeUninit::<bindings::kstat>::zeroed();
        // SAFETY: The path of an open file is valid; numbers may be zero.
        let (error, stat) = unsafe {
            let error = bindings::vfs_getattr_nosec(
                &raw const (*self.as_ptr()).__bindgen_anon_1.f_path,
                stat.as_mut_ptr(),
                bindings::STATX_DIOALIGN,
                bindings::AT_STATX_DONT_SYNC,
            );
            (error, stat.assume_init())
        };
        if error != 0 || stat.result_mask & bindings::STATX_DIOALIGN == 0 {
            // It does not tell. What is not aligned enough is an error, and read in another way.
            return Some(DirectAlignment {
                memory: 0,
                offset: SECTOR,
            });
        }
        let offset = stat.dio_offset_align;
        offset.is_power_of_two().then_some(DirectAlignment {
            memory: stat.dio_mem_align,
            offset: offset.max(SECTOR),
        })
    }

    pub(in crate::vfs) fn mode(&self) -> u32 {
        // SAFETY: The file is referenced. What may change in its mode by advice is not asked for.
        unsafe { (&raw const (*self.as_ptr()).f_mode).read_volatile() }
    }

    pub(in crate::vfs) fn inode(&self) -> *mut bindings::inode {
        inode_of(&self.file)
    }

    /// What tells this file's contents from those of other files, and from what they were before
    /// the file was last changed, while it is open. As long as anyone has it open for writing it is
    /// another one each time. (Writing to a block device is not noticed; [`Self::claim`] keeps those from it who
    /// ask.)
    pub(crate) fn identity(&self) -> Identity {
        let inode = self.inode();
        let mut changed = (0, 0);
        // SAFETY: The inode lives as long as the file is referenced; the rest is to be filled in.
        let writers =
            unsafe { bindings::vfs_helper_inode_changed(inode, &mut changed.0, &mut changed.1) };
        Identity {
            inode: inode as usize,
            changed,
            has_verity: self.has_verity(),
            unsettled: if writers {
                UNSETTLED.fetch_add(1, Relaxed).wrapping_add(1)
            } else {
                0
            },
        }
    }

    /// The number of a block device, as statfs(2) has it. None for any other file.
    pub(crate) fn device_number(&self) -> Option<u64> {
        if !self.is_block_device() {
            return None;
        }
        // SAFETY: The inode lives as long as the file is referenced.
        Some(unsafe { bindings::vfs_helper_device_number(self.inode()) })
    }

    /// Whether there may be listeners of fanotify who must allow reads. That was settled when the file
    /// was opened.
    pub(crate) fn is_watched(&self) -> bool {
        // SAFETY: The file is referenced.
        unsafe { bindings::vfs_helper_is_watched(self.as_ptr()) }
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

    /// The type of the file's filesystem.
    pub(in crate::vfs) fn fs_name(&self) -> &CStr {
        // SAFETY: The superblock and its type live as long as the file is referenced.
        unsafe { crate::vfs::c_str((*(*(*self.inode()).i_sb).s_type).name) }
    }

    /// Whether the file lies on a filesystem of this type that is not on a block device.
    pub(crate) fn is_on_deviceless(&self, fs_name: &CStr) -> bool {
        // SAFETY: The superblock lives as long as the file is referenced.
        let deviceless = unsafe { (*(*self.inode()).i_sb).s_bdev.is_null() };
        deviceless && self.fs_name() == fs_name
    }

    /// Whether another open file is the same file.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.inode() == other.inode()
    }

    /// Whether a path leads to the file.
    pub(crate) fn is_target(&self, path: &PathTarget) -> bool {
        path.is_inode(self.inode())
    }

    /// Whether a path is the file's, as [`Self::show_path`] shows it. It may lead nowhere, if the file was unlinked, or
    /// elsewhere.
    pub(crate) fn is_shown_as(&self, path: &CStr) -> bool {
        with_path(&self.file, |own| own == path).unwrap_or(false)
    }

    /// The file's path, as the current task sees it.
    ///
    /// # Errors
    ///
    /// Those of [`with_path`].
    pub(crate) fn path(&self) -> Result<CString> {
        with_path(&self.file, |path| CString::try_from(path))?.map_err(Into::into)
    }

    /// Writes the file's path, as the reader of `seq` sees it, with what separates mount options
    /// escaped. False if there is no room: all is shown once more then, with more room.
    pub(crate) fn show_path(&self, seq: &kernel::seq_file::SeqFile) -> bool {
        // SAFETY: `SeqFile` is transparent over `struct seq_file`, which is the caller's alone
        // during the call.
        let written = unsafe {
            bindings::seq_file_path(
                ptr::from_ref(seq).cast_mut().cast(),
                self.as_ptr(),
                c" \t\n\\,#".as_char_ptr(),
            )
        };
        written >= 0
    }

    pub(crate) fn is_block_device(&self) -> bool {
        // SAFETY: The file is referenced; its inode's type is constant.
        unsafe {
            u32::from((*(*self.as_ptr()).f_inode).i_mode) & bindings::S_IFMT == bindings::S_IFBLK
        }
    }
}
