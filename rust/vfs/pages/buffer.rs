// SPDX-License-Identifier: GPL-2.0-only

//! Memory for bytes that are read from a backing file and in no page cache: what clusters are decoded from, and to if there
//! are no pages for them. [`crate::vfs::pages::decode`] uses it.

use crate::vfs::backing::file::BackingFile;
use crate::vfs::bindings;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;

/// How many segments there is room for without asking for memory.
const FEW: usize = 4;

/// Bytes in memory.
///
/// # Invariants
///
/// The capacity is at least `len`.
pub(in crate::vfs) struct Buffer {
    memory: KVVec<u8>,
    len: usize,
}

impl Buffer {
    /// `len` bytes of any value.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(in crate::vfs) fn new(len: usize) -> Result<Self> {
        let whole = len.checked_next_multiple_of(PAGE_SIZE).ok_or(ENOMEM)?;
        // INVARIANT: It is not less.
        Ok(Self {
            memory: KVVec::with_capacity(whole, GFP_KERNEL)?,
            len,
        })
    }

    /// `len` bytes of `file` from `from` on, which may be what a small file begins with.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of [`BackingFile::read_exact`].
    pub(in crate::vfs) fn read(
        file: &BackingFile,
        from: u64,
        len: usize,
        is_small: bool,
    ) -> Result<Self> {
        let mut this = Self::new(len)?;
        let room = this.memory.capacity();
        let address = this.memory.as_mut_ptr();
        let mut few = [bindings::bio_vec::default(); FEW];
        let mut many = KVec::new();
        // SAFETY: The memory is that of kvmalloc(), and as long; there are as many segments as is said.
        let mut count = unsafe {
            bindings::vfs_helper_bvec_set_memory(few.as_mut_ptr(), FEW as u32, address.cast(), room)
        } as usize;
        let mut segments: &[bindings::bio_vec] = &few;
        if count == 0 {
            many = KVec::from_elem(
                bindings::bio_vec::default(),
                (room / PAGE_SIZE).saturating_add(1),
                GFP_KERNEL,
            )?;
            // SAFETY: As above.
            count = unsafe {
                bindings::vfs_helper_bvec_set_memory(
                    many.as_mut_ptr(),
                    many.len() as u32,
                    address.cast(),
                    room,
                )
            } as usize;
            segments = &many;
        }
        let segments = segments.get(..count).ok_or(ENOMEM)?;
        // SAFETY: The segments are memory that this alone has, with room for as many bytes.
        unsafe { file.read_exact(segments, 0, len, room, from, is_small) }?;
        drop(many);
        Ok(this)
    }

    /// The bytes.
    pub(in crate::vfs) fn bytes(&self) -> &[u8] {
        // SAFETY: By the type invariants there are so many. They were read, or may be anything: memory of the allocator has
        // some value.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }

    /// The bytes, to be written to.
    pub(in crate::vfs) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above.
        unsafe { core::slice::from_raw_parts_mut(self.memory.as_mut_ptr(), self.len) }
    }
}
