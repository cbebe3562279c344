// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What sets the fields of options one by one, from outside of this crate, too, where nobody can list them all: more
//! may come.

/// For each field a method that sets it.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident sets $field:ident: $type:ty),* $(,)?) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            }
        )*
    };
}

pub(crate) use setters;
