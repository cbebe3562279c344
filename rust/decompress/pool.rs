// SPDX-License-Identifier: GPL-2.0-only

//! As many states of a decoder as can be in use at once, made when an image is mounted: decoding takes no other memory.

use kernel::cpu;
use kernel::new_condvar;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::CondVar;
use kernel::sync::Mutex;

/// How many states there are at the most, and not more than processors.
const MOST: u32 = 8;

/// States of a decoder.
#[pin_data]
pub(super) struct Pool<S> {
    /// Those that are not in use.
    #[pin]
    free: Mutex<KVec<S>>,
    #[pin]
    returned: CondVar,
}

impl<S> Pool<S> {
    /// A pool of states that `make` makes, if one is needed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn if_needed(
        is_needed: bool,
        make: impl Fn() -> Result<S>,
    ) -> Result<Option<Pin<KBox<Self>>>> {
        if !is_needed {
            return Ok(None);
        }
        let count = cpu::nr_cpu_ids().clamp(1, MOST);
        let mut free = KVec::with_capacity(count as usize, GFP_KERNEL)?;
        for _ in 0..count {
            // There is room.
            let _ = free.push_within_capacity(make()?);
        }
        KBox::pin_init(
            pin_init!(Self {
                free <- new_mutex!(free, "ferofs_decoders"),
                returned <- new_condvar!("ferofs_decoders"),
            }),
            GFP_KERNEL,
        )
        .map(Some)
    }

    /// Calls `f` with a state, after waiting until one is free.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut S) -> R) -> R {
        let mut state = self.take();
        let result = f(&mut state);
        // There is the room that it came from.
        let _ = self.free.lock().push_within_capacity(state);
        self.returned.notify_one();
        result
    }

    fn take(&self) -> S {
        let mut free = self.free.lock();
        loop {
            if let Some(state) = free.pop() {
                return state;
            }
            self.returned.wait(&mut free);
        }
    }
}
