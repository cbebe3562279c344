// SPDX-License-Identifier: GPL-2.0-only

//! The ends of clusters that were decoded, where they do not fill a page: what comes next in a file read in order is
//! the rest of that page, and without this the cluster would be decoded again for it.
//!
//! A mount of an image with encoded files has a few of them ([`crate::vfs::pages::decode`] uses them).

use kernel::new_mutex;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::sync::Mutex;

/// How many ends are kept.
const MOST: usize = 16;

/// Ends of clusters.
#[pin_data]
pub(crate) struct Tails {
    #[pin]
    kept: Mutex<Kept>,
}

struct Kept {
    tails: KVec<Tail>,
    /// The one to be replaced next, if none is free.
    next: usize,
}

/// The first bytes of a page.
struct Tail {
    /// The number of the inode.
    inode: u64,
    /// Where they are in the file.
    pos: u64,
    /// How many there are; 0 if this is free.
    len: usize,
    bytes: KBox<[u8; PAGE_SIZE]>,
}

impl Tails {
    /// Room for ends of clusters; none if they will not be needed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(are_needed: bool) -> Result<Pin<KBox<Self>>> {
        let count = if are_needed { MOST } else { 0 };
        let mut tails = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            // There is room.
            let _ = tails.push_within_capacity(Tail {
                inode: 0,
                pos: 0,
                len: 0,
                bytes: KBox::init(pin_init::init_array_from_fn(|_| 0u8), GFP_KERNEL)?,
            });
        }
        KBox::pin_init(
            pin_init!(Self {
                kept <- new_mutex!(Kept { tails, next: 0 }, "ferofs_tails"),
            }),
            GFP_KERNEL,
        )
    }

    /// Keeps the bytes at `pos` of an inode, which begin a page and do not fill it.
    pub(in crate::vfs) fn keep(&self, inode: u64, pos: u64, bytes: &[u8]) {
        let mut kept = self.kept.lock();
        let Kept { tails, next } = &mut *kept;
        let index = match tails.iter().position(|tail| tail.len == 0) {
            Some(free) => free,
            None => {
                let index = *next;
                *next = if index.saturating_add(1) < tails.len() {
                    index.saturating_add(1)
                } else {
                    0
                };
                index
            }
        };
        let Some(tail) = tails.get_mut(index) else {
            return;
        };
        let Some(to) = tail.bytes.get_mut(..bytes.len()) else {
            return;
        };
        to.copy_from_slice(bytes);
        tail.inode = inode;
        tail.pos = pos;
        tail.len = bytes.len();
    }

    /// Whether there are bytes at `pos` of an inode.
    pub(in crate::vfs) fn has(&self, inode: u64, pos: u64) -> bool {
        self.kept
            .lock()
            .tails
            .iter()
            .any(|tail| tail.len > 0 && (tail.inode, tail.pos) == (inode, pos))
    }

    /// Gives the bytes at `pos` of an inode to `f`, if there are any, and keeps them no longer. How many they were.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    pub(in crate::vfs) fn take(
        &self,
        inode: u64,
        pos: u64,
        f: impl FnOnce(&[u8]) -> Result,
    ) -> Result<usize> {
        let mut kept = self.kept.lock();
        let found = kept
            .tails
            .iter_mut()
            .find(|tail| tail.len > 0 && (tail.inode, tail.pos) == (inode, pos));
        let Some(tail) = found else {
            return Ok(0);
        };
        let len = core::mem::take(&mut tail.len);
        f(tail.bytes.get(..len).unwrap_or_default())?;
        Ok(len)
    }
}
