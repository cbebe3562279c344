// SPDX-License-Identifier: GPL-2.0-only

//! Files that a filesystem reads its own contents from: images and blobs, on other filesystems or
//! on block devices.
//!
//! They are read with the credentials of who opened them: for a caller's iterator ([`super::read`]), when
//! security modules and fanotify's listeners are asked as for any reader, or to be cached elsewhere
//! ([`super::backing_read`]), for which they were asked before ([`BackingFile::ask`]).

use super::backing_cache::Cache;
use super::bindings;
use super::row::Rows;
use core::mem::MaybeUninit;
use core::ptr;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::aref::ARef;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::SetOnce;

/// The longest path with its NUL, in bytes.
const PATH_MAX: usize = 4096;

/// What direct reads are aligned to at the least, in bytes.
const SECTOR: u32 = 512;

/// What direct reads of a file are to be aligned to, as STATX_DIOALIGN says; powers of two.
#[derive(Clone, Copy)]
pub(super) struct DirectAlignment {
    /// The memory that is read to, in bytes; 0 if the filesystem does not tell.
    pub(super) memory: u32,
    /// Positions and lengths, in bytes.
    pub(super) offset: u32,
}

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
    /// The address of the file's inode, which tells it from all that are open at the same time.
    pub(super) fn inode(self) -> usize {
        self.inode
    }

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
    pub(super) kept: bool,
    /// What is read in a row to be cached elsewhere, and only there.
    pub(super) rows: Rows,
    /// What is read in a row for callers, where readahead is for this module to decide.
    pub(super) read_rows: Option<Rows>,
    /// What direct reads are to be aligned to.
    direct: Asked,
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

    pub(super) fn as_ptr(&self) -> *mut bindings::file {
        self.file.as_ptr()
    }

    /// Calls `f` as who opened the file: with the credentials that the file was opened with.
    #[inline]
    pub(super) fn as_opener<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: A file's credentials are valid as long as it is referenced, which is longer than they are in
        // use here. What `override_creds` returned is put back, and nothing unwinds in the kernel.
        unsafe {
            let previous = bindings::vfs_helper_override_creds((*self.as_ptr()).f_cred);
            let result = f();
            bindings::vfs_helper_revert_creds(previous);
            result
        }
    }

    /// What direct reads are aligned to; none if there are none. A file can get fs-verity while it is open, and
    /// is read through its cache from then on, whatever is asked for.
    #[inline]
    pub(super) fn direct(&self) -> Option<DirectAlignment> {
        // SAFETY: The inode lives as long as the file is referenced. The flags may change at any time.
        let flags = unsafe { (&raw const (*self.inode()).i_flags).read_volatile() };
        if flags & bindings::VFS_CONST_S_VERITY != 0 {
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

    pub(super) fn mode(&self) -> u32 {
        // SAFETY: The file is referenced. What may change in its mode by advice is not asked for.
        unsafe { (&raw const (*self.as_ptr()).f_mode).read_volatile() }
    }

    fn inode(&self) -> *mut bindings::inode {
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
            unsettled: if writers {
                UNSETTLED.fetch_add(1, Relaxed).wrapping_add(1)
            } else {
                0
            },
        }
    }

    /// Claims a block device, as mounting it does. There is nothing to claim of any other file.
    ///
    /// # Errors
    ///
    /// `EBUSY` if someone else has claimed it, or a device that it is a part of, or may be writing to it where writing
    /// to what is mounted is not allowed; and those of opening it.
    pub(crate) fn claim(&self) -> Result<Option<Claim>> {
        if !self.is_block_device() {
            return Ok(None);
        }
        // SAFETY: The inode is that of a block device, and lives as long as the file is referenced. The static has an
        // address of its own, which is all that it is for.
        let file = super::from_err_ptr(unsafe {
            bindings::vfs_helper_claim_device(self.inode(), (&raw const CLAIMANT).cast_mut().cast())
        })?;
        // INVARIANT: Opened just now.
        // SAFETY: A valid pointer is not null.
        Ok(Some(Claim(unsafe { ptr::NonNull::new_unchecked(file) })))
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

    /// Asks the security modules, and listeners of fanotify, whether `len` bytes at `pos` may be read,
    /// and has the latter provide them if that is what they do. Pages are filled without asking again:
    /// that may be in a page fault of a task that keeps a filesystem from being frozen, for which
    /// listeners might wait.
    ///
    /// # Errors
    ///
    /// `EPERM` and what else they answer.
    pub(crate) fn ask(&self, pos: u64, len: u64) -> Result {
        let pos = i64::try_from(pos).map_err(|_| EINVAL)?;
        let len = usize::try_from(len).map_err(|_| EINVAL)?;
        // SAFETY: The file is referenced, and the position valid during the call.
        to_result(self.as_opener(|| unsafe {
            bindings::rw_verify_area(bindings::READ as i32, self.as_ptr(), &pos, len)
        }))
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
    pub(super) fn fs_name(&self) -> &CStr {
        // SAFETY: The superblock and its type live as long as the file is referenced.
        unsafe { super::c_str((*(*(*self.inode()).i_sb).s_type).name) }
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
        path.file
            .as_ref()
            .is_some_and(|file| inode_of(file) == self.inode())
    }

    /// Whether a path is the file's, as [`Self::show_path`] shows it. It may lead nowhere, if the file was unlinked, or
    /// elsewhere.
    pub(crate) fn is_shown_as(&self, path: &CStr) -> bool {
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

    pub(super) fn is_block_device(&self) -> bool {
        // SAFETY: The file is referenced; its inode's type is constant.
        unsafe {
            u32::from((*(*self.as_ptr()).f_inode).i_mode) & bindings::S_IFMT == bindings::S_IFBLK
        }
    }
}

/// What a path leads to for the current task, which opened it once for all files that it is compared with.
pub(crate) struct PathTarget {
    /// None if there is nothing there that could be a backing file.
    file: Option<ARef<File>>,
}

impl PathTarget {
    /// Opens the path.
    pub(crate) fn new(path: &CStr) -> Self {
        Self {
            file: open_file(path).ok(),
        }
    }
}

/// The inode that an open file's bytes are in.
fn inode_of(file: &File) -> *mut bindings::inode {
    // The mapping's host is the file's own inode, and for a block device that of the device.
    // SAFETY: The file is referenced; its mapping and the mapping's host are constant.
    unsafe { (*(*file.as_ptr()).f_mapping).host }
}

/// The kind of an inode, which is one that can be read from: a regular file or a block device.
///
/// # Errors
///
/// `EISDIR` for a directory, `EINVAL` for anything but a regular file or a block device.
///
/// # Safety
///
/// `inode` must be valid.
unsafe fn check_kind(inode: *const bindings::inode) -> Result<u32> {
    // SAFETY: By the safety requirements; an inode's type is constant.
    match u32::from(unsafe { (*inode).i_mode }) & bindings::S_IFMT {
        kind @ (bindings::S_IFREG | bindings::S_IFBLK) => Ok(kind),
        bindings::S_IFDIR => Err(EISDIR),
        _ => Err(EINVAL),
    }
}

/// Where a path led to.
///
/// # Invariants
///
/// Both references of the path are owned.
struct FoundPath(bindings::path);

impl FoundPath {
    /// What is at `path` for the current task.
    fn new(path: &CStr) -> Result<Self> {
        let mut found = bindings::path::default();
        // SAFETY: The path is a C string; the rest is to be filled in.
        to_result(unsafe {
            bindings::kern_path(
                path.as_char_ptr(),
                bindings::VFS_CONST_LOOKUP_FOLLOW | bindings::VFS_CONST_LOOKUP_AUTOMOUNT,
                &mut found,
            )
        })?;
        // INVARIANT: `kern_path` took them.
        Ok(Self(found))
    }
}

impl Drop for FoundPath {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; they are given up.
        unsafe { bindings::path_put(&self.0) };
    }
}

/// Opens a regular file or block device for the current task to read, as open(2) does: whoever has a lease on the
/// file is waited for, and a drive is asked for its medium. To open anything else could wait for ever, as a fifo
/// does for a writer, so the kind is looked at first, and then what was looked at is opened: a regular file by what
/// open(2) does once it has found one (`do_open`), which saves a second walk.
///
/// # Errors
///
/// Those of open(2), and of [`check_kind`].
fn open_file(path: &CStr) -> Result<ARef<File>> {
    let found = FoundPath::new(path)?;
    // SAFETY: A path that was found has an inode, which stays while it is referenced.
    match unsafe { check_kind((*found.0.dentry).d_inode) }? {
        bindings::S_IFREG => open_regular(&found),
        // SAFETY: The path is referenced. An empty name means itself. What was opened just now no one seeks.
        _ => unsafe {
            owned(bindings::file_open_root(
                &found.0,
                c"".as_char_ptr(),
                OPEN_FLAGS,
                0,
            ))
        },
    }
}

/// How backing files are opened.
const OPEN_FLAGS: i32 = (bindings::O_RDONLY | bindings::O_LARGEFILE) as i32;

/// Opens a regular file that was found.
fn open_regular(found: &FoundPath) -> Result<ARef<File>> {
    const ACCESS: i32 = (bindings::MAY_OPEN | bindings::MAY_READ) as i32;
    // SAFETY: The path is referenced, and with it its mount and the inode; the current task's credentials are valid.
    // What was opened just now no one seeks.
    let file = unsafe {
        let idmap = bindings::vfs_helper_mnt_idmap(found.0.mnt);
        let inode = (*found.0.dentry).d_inode;
        to_result(bindings::inode_permission(idmap, inode, ACCESS))?;
        owned(bindings::dentry_open(
            &found.0,
            OPEN_FLAGS,
            bindings::vfs_helper_current_cred(),
        ))?
    };
    // SAFETY: The file is referenced.
    to_result(unsafe { bindings::vfs_helper_security_file_post_open(file.as_ptr(), ACCESS) })?;
    Ok(file)
}

/// Takes over what opening a file returned.
///
/// # Safety
///
/// `file` must be an error, or a reference to a file that no one seeks, which is given up.
unsafe fn owned(file: *mut bindings::file) -> Result<ARef<File>> {
    let file = super::from_err_ptr(file)?;
    // SAFETY: By the safety requirements; a valid pointer is not null.
    Ok(unsafe { ARef::from_raw(ptr::NonNull::new_unchecked(file.cast())) })
}

/// A block device that no one else may claim while this lives: to mount it, to write to it with `O_EXCL`, or to make it
/// part of another device. Claims of this module do not exclude each other.
///
/// # Invariants
///
/// The file is that of a device which was opened for [`CLAIMANT`].
pub(crate) struct Claim(ptr::NonNull<bindings::file>);

/// Whose claims these are, by its address.
static CLAIMANT: u8 = 0;

// SAFETY: A file may be put from any thread.
unsafe impl Send for Claim {}
// SAFETY: There is nothing to do with a reference.
unsafe impl Sync for Claim {}

impl Drop for Claim {
    fn drop(&mut self) {
        // Others may claim the device as soon as this returns, though the file is put later.
        // SAFETY: By the type invariants; the reference is given up.
        unsafe { bindings::vfs_helper_release_device(self.0.as_ptr()) };
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
