// SPDX-License-Identifier: GPL-2.0-only

//! Keeps the page caches of ranges that no inode of a user's file refers to any more.
//!
//! Such an inode is shrinkable at any time, for its own mapping is empty. If its range went with it, the
//! shrinker of inodes would drop pages that are in use every second. So the range's inode stays in the inode
//! cache, as that of any file with pages does: when its last page is reclaimed it becomes shrinkable itself.
//! But it holds the blob's file open, so it stays for a mount, and goes with that.
//!
//! A [`Keeper`] is part of a mount ([`crate::vfs::pages::range::RangeMount`]), and a [`Place`] of a range.

use crate::vfs::bindings;
use core::ptr::NonNull;
use kernel::list::List;
use kernel::list::ListArc;
use kernel::list::ListLinks;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;
use kernel::sync::Arc;
use kernel::sync::SpinLock;

/// The ranges that a mount keeps.
///
/// Locks are taken in this order: [`Place::state`], [`Keeper::places`], `i_lock` of an inode.
#[pin_data]
pub(in crate::vfs) struct Keeper {
    #[pin]
    places: SpinLock<List<Place>>,
}

/// Where a range is kept, if it is.
///
/// # Invariants
///
/// - `inode` is valid until [`Place::forget`] returns, which is called when the inode is evicted.
/// - It is in no list but that of the keeper in `state`, or of the one that is just letting go of it.
#[pin_data]
pub(in crate::vfs) struct Place {
    #[pin]
    links: ListLinks,
    inode: NonNull<bindings::inode>,
    /// Whether the inode is to stay cached without users. Read with the inode's `i_lock` held.
    is_kept: Atomic<i32>,
    #[pin]
    state: SpinLock<State>,
}

/// What a place's lock guards.
struct State {
    keeper: Option<Arc<Keeper>>,
    /// What puts the place into a list, while it is in none.
    idle: Option<ListArc<Place>>,
}

kernel::list::impl_list_arc_safe! {
    impl ListArcSafe<0> for Place { untracked; }
}

kernel::list::impl_list_item! {
    impl ListItem<0> for Place { using ListLinks { self.links }; }
}

// SAFETY: The pointer to the inode is used only while that is valid, by functions that may be called from
// any thread; the rest is `Send`.
unsafe impl Send for Place {}
// SAFETY: As above; what changes is atomic, or guarded by a lock.
unsafe impl Sync for Place {}

impl Place {
    /// The place of an inode's page cache.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The inode must stay valid until [`Self::forget`] was called, and that must be called before the last
    /// reference to the place is dropped.
    pub(in crate::vfs) unsafe fn new(inode: NonNull<bindings::inode>) -> Result<Arc<Self>> {
        let idle = ListArc::pin_init(
            // INVARIANT: By the safety requirements; it is in no list.
            try_pin_init!(Self {
                links <- ListLinks::new(),
                inode,
                is_kept: Atomic::new(0),
                state <- new_spinlock!(State { keeper: None, idle: None }, "ferofs_place"),
            }? Error),
            GFP_KERNEL,
        )?;
        let place = idle.clone_arc();
        place.state.lock().idle = Some(idle);
        Ok(place)
    }

    /// Whether the inode is to stay cached without users.
    pub(in crate::vfs) fn is_kept(&self) -> bool {
        self.is_kept.load(Relaxed) != 0
    }

    /// Takes the place out of its keeper's list; the inode is being evicted.
    pub(in crate::vfs) fn forget(&self) {
        let (keeper, idle) = {
            let mut state = self.state.lock();
            (state.keeper.take(), state.idle.take())
        };
        if let Some(keeper) = keeper {
            // SAFETY: By the type invariants it is in no other list. Another thread that has taken it out of
            // this one holds the lock until it does not use the inode any more.
            let place = unsafe { keeper.places.lock().remove(self) };
            drop(place);
        }
        drop(idle);
    }
}

impl Keeper {
    /// A keeper of nothing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(in crate::vfs) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                places <- new_spinlock!(List::new(), "ferofs_keeper"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Keeps a range that has pages, unless another mount does. The caller has a reference to its inode.
    pub(in crate::vfs) fn keep(self: &Arc<Self>, place: &Place) {
        // SAFETY: The inode is referenced, and so valid. The count may change at any time.
        let pages = unsafe { (&raw const (*place.inode.as_ptr()).i_data.nrpages).read_volatile() };
        if pages == 0 {
            return;
        }
        let mut state = place.state.lock();
        if state.keeper.is_some() {
            return;
        }
        if let Some(idle) = state.idle.take() {
            // INVARIANT: It was in no list.
            self.places.lock().push_back(idle);
            state.keeper = Some(self.clone());
            place.is_kept.store(1, Relaxed);
        }
    }

    /// Lets go of all ranges: those that nobody uses go.
    pub(in crate::vfs) fn release(&self) {
        loop {
            let mut places = self.places.lock();
            let Some(place) = places.pop_front() else {
                return;
            };
            // SAFETY: An inode that is evicted is valid until `forget` returns, which has to take this
            // lock first, since the place was in this list.
            let inode = unsafe { bindings::igrab(place.inode.as_ptr()) };
            drop(places);
            if inode.is_null() {
                // It is being evicted, and forgets its place itself.
                continue;
            }
            place.is_kept.store(0, Relaxed);
            let kept = place.clone_arc();
            let mut state = kept.state.lock();
            state.keeper = None;
            state.idle = Some(place);
            drop(state);
            // SAFETY: The reference is the one that was taken above. `kept` does not name the inode again.
            unsafe { bindings::iput(inode) };
        }
    }
}
