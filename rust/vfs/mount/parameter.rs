// SPDX-License-Identifier: GPL-2.0-only

//! `struct fs_parameter_spec`: the options that a filesystem has, and their values.

use crate::vfs::bindings;
use core::ptr;
use kernel::ffi::c_char;
use kernel::fs::File;
use kernel::str::CStr;
use kernel::sync::aref::ARef;

/// A mount option: its name and the type of its value.
#[repr(transparent)]
pub(crate) struct Parameter(pub(in crate::vfs) bindings::fs_parameter_spec);

impl Parameter {
    /// The end of a list.
    pub(crate) const END: Self = Self::spec(ptr::null(), None, 0, 0);

    const fn new(name: &'static CStr, kind: bindings::fs_param_kind, id: u8, flags: u32) -> Self {
        Self::spec(
            kernel::str::as_char_ptr_in_const_context(name),
            kind,
            id,
            flags,
        )
    }

    const fn spec(name: *const c_char, kind: bindings::fs_param_kind, id: u8, flags: u32) -> Self {
        Self(bindings::fs_parameter_spec {
            name,
            type_: kind,
            opt: id,
            flags: flags as u16,
            data: ptr::null(),
        })
    }

    /// An option whose value is a path, or an open file through fsconfig(2).
    pub(crate) const fn file_or_path(name: &'static CStr, id: u8) -> Self {
        Self::new(name, Some(bindings::fs_param_is_file_or_string), id, 0)
    }

    /// An option whose value is a string.
    pub(crate) const fn string(name: &'static CStr, id: u8) -> Self {
        Self::new(name, Some(bindings::fs_param_is_string), id, 0)
    }

    /// An option whose value is a number of 64 bits.
    pub(crate) const fn number(name: &'static CStr, id: u8) -> Self {
        Self::new(name, Some(bindings::fs_param_is_u64), id, 0)
    }

    /// Whether the value is one of [`Self::number`].
    pub(in crate::vfs) fn is_number(&self) -> bool {
        type Check = unsafe extern "C" fn(
            *mut bindings::p_log,
            *const bindings::fs_parameter_spec,
            *mut bindings::fs_parameter,
            *mut bindings::fs_parse_result,
        ) -> i32;
        let number: Check = bindings::fs_param_is_u64;
        self.0
            .type_
            .is_some_and(|check| ptr::fn_addr_eq(check, number))
    }

    /// An option without a value.
    pub(crate) const fn flag(name: &'static CStr, id: u8) -> Self {
        Self::new(name, None, id, 0)
    }

    /// An option without a value, which `no` in front of it turns off.
    pub(crate) const fn flag_or_no(name: &'static CStr, id: u8) -> Self {
        Self::new(name, None, id, bindings::fs_param_neg_with_no)
    }
}

/// The value of an option.
pub(crate) enum Value<'a> {
    /// Whether a flag is on.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A string.
    String(&'a CStr),
    /// An open file.
    File(ARef<File>),
}
