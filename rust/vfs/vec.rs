// SPDX-License-Identifier: GPL-2.0-only

//! Growing a [`KVec`] without a panic in sight.

use kernel::alloc::Flags;
use kernel::prelude::*;

/// Appends `value`.
///
/// The vector's own `push` subtracts and doubles lengths that its invariants keep in bounds, but of
/// which the compiler does not know that, so that it leaves overflow checks, which panic.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn push<T>(vec: &mut KVec<T>, value: T) -> Result {
    push_with(vec, value, GFP_KERNEL)
}

/// The same, with flags for the memory: where one may not sleep it is `GFP_ATOMIC`.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn push_with<T>(vec: &mut KVec<T>, value: T, flags: Flags) -> Result {
    if core::mem::size_of::<T>() != 0 {
        // SAFETY: These are invariants of every vector whose elements have a size.
        unsafe {
            core::hint::assert_unchecked(vec.len() <= vec.capacity());
            core::hint::assert_unchecked(vec.capacity() <= isize::MAX.unsigned_abs());
        }
    }
    vec.reserve(1, flags)?;
    vec.push_within_capacity(value).map_err(|_| ENOMEM)
}
