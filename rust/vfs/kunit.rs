// SPDX-License-Identifier: GPL-2.0-only

//! What KUnit suites need of the kernel: a registered filesystem type to pass options to, and files
//! in memory. The suites themselves are the filesystem's.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use crate::vfs::mount::mountable::init_fs_context;
use crate::vfs::mount::mountable::Mountable;
use crate::vfs::object::fs_type::FsType;
use crate::vfs::pages::folio::FolioBytes;
use crate::vfs::pages::range::RangeCache;
use crate::vfs::pages::range::RangeMount;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::aref::ARef;

/// The registered filesystem type of `T`.
///
/// # Invariants
///
/// The type is the first member of an [`FsType<T>`], is registered, and its module is held.
pub(crate) struct Registered<T: Mountable>(NonNull<bindings::file_system_type>, PhantomData<T>);

impl<T: Mountable> Registered<T> {
    /// The type of that name, if it is registered, and by this module.
    pub(crate) fn get() -> Result<Self> {
        // SAFETY: The name is a C string.
        let fs_type = unsafe { bindings::get_fs_type(T::NAME.as_char_ptr()) };
        // INVARIANT: `get_fs_type` takes a reference to the module. Types with this function are
        // made by `Registration::<T>` alone.
        let this = Self(NonNull::new(fs_type).ok_or(ENODEV)?, PhantomData);
        // SAFETY: The type is registered.
        let init = unsafe { (*fs_type).init_fs_context }.map(|init| init as usize);
        let ours: unsafe extern "C" fn(_) -> _ = init_fs_context::<T>;
        if init == Some(ours as usize) {
            Ok(this)
        } else {
            Err(ENODEV)
        }
    }

    /// What its superblocks share.
    pub(crate) fn shared(&self) -> &T::Shared {
        // SAFETY: By the type invariants.
        unsafe { &self.0.cast::<FsType<T>>().as_ref().shared }
    }

    /// Passes options to a new mount of the type, in order, until one fails.
    pub(crate) fn parse(&self, options: &[(&CStr, Option<&CStr>)]) -> Result {
        // SAFETY: The type is registered.
        let context = crate::vfs::from_err_ptr(unsafe {
            bindings::fs_context_for_mount(self.0.as_ptr(), bindings::VFS_CONST_SB_RDONLY as u32)
        })?;
        let mut result = Ok(());
        for (key, value) in options {
            let mut string = bindings::qstr::default();
            if let Some(value) = value {
                string.name = value.as_char_ptr();
                // SAFETY: The value is a C string.
                string.__bindgen_anon_1.__bindgen_anon_1.len =
                    unsafe { bindings::strlen(value.as_char_ptr()) } as u32;
            }
            let string = value.map_or(core::ptr::null(), |_| core::ptr::from_ref(&string));
            // SAFETY: The context is ours, and the strings are valid.
            result = kernel::error::to_result(unsafe {
                bindings::vfs_parse_fs_qstr(context, key.as_char_ptr(), string)
            });
            if result.is_err() {
                break;
            }
        }
        // SAFETY: The context is ours, and given up.
        unsafe { bindings::put_fs_context(context) };
        result
    }
}

impl<T: Mountable> Drop for Registered<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::module_put(self.0.as_ref().owner) };
    }
}

/// Byte `pos` of the files that [`file`] makes.
pub(crate) fn pattern(pos: u64) -> u8 {
    (pos % 251) as u8 ^ (pos >> 12) as u8
}

/// A file in memory with `len` bytes of the pattern.
pub(crate) fn file(len: u64) -> Result<ARef<File>> {
    // SAFETY: Makes a file, or fails.
    let ptr = crate::vfs::from_err_ptr(unsafe { bindings::vfs_helper_kunit_file(len as i64) })?;
    // SAFETY: The reference is ours, and no one seeks the file.
    let file: ARef<File> = unsafe { ARef::from_raw(NonNull::new_unchecked(ptr.cast())) };
    let mut bytes = KVec::with_capacity(len as usize, GFP_KERNEL)?;
    for pos in 0..len {
        bytes.push(pattern(pos), GFP_KERNEL)?;
    }
    write(&file, 0, &bytes)?;
    Ok(file)
}

/// Writes to a file at `pos`.
pub(crate) fn write(file: &File, pos: i64, bytes: &[u8]) -> Result {
    let mut pos = pos;
    // SAFETY: The file is open for writing, and the bytes are valid for their length.
    let written = unsafe {
        bindings::kernel_write(file.as_ptr(), bytes.as_ptr().cast(), bytes.len(), &mut pos)
    };
    if usize::try_from(written) == Ok(bytes.len()) {
        Ok(())
    } else {
        Err(EIO)
    }
}

/// The bytes of a cache from `pos` on.
pub(crate) fn bytes(cache: &RangeCache, pos: u64) -> Result<FolioBytes<'static>> {
    Ok(match cache.folio(pos)? {
        Some(folio) => folio.into_bytes(pos),
        None => FolioBytes::empty(),
    })
}

/// Has a mount keep a cache that is in use so far, as that of a mapped file whose inode goes.
pub(crate) fn keep(mount: &RangeMount, cache: RangeCache) {
    mount.keeper().keep(cache.place());
}

/// Checks all bytes of the cache of a range against the pattern.
pub(crate) fn check(mount: &RangeMount, len: u64, start: u64, wanted: u64) -> Result {
    let backing = BackingFile::from_file(file(len)?)?;
    let cache = RangeCache::get(mount, &backing, start, wanted)?;
    let mut pos = 0;
    while pos < wanted {
        let bytes = bytes(&cache, pos)?;
        if bytes.is_empty() || pos + bytes.len() as u64 > wanted {
            return Err(EINVAL);
        }
        for (index, byte) in bytes.iter().enumerate() {
            if *byte != pattern(start + pos + index as u64) {
                return Err(EILSEQ);
            }
        }
        pos += bytes.len() as u64;
    }
    if cache.folio(wanted)?.is_some() || cache.folio(u64::MAX)?.is_some() {
        return Err(EINVAL);
    }
    Ok(())
}

/// Waits until times of modification differ from what they were.
pub(crate) fn tick() {
    // SAFETY: Sleeps.
    unsafe { bindings::msleep(50) };
}
