// SPDX-License-Identifier: GPL-2.0-only

//! Extended attributes: `struct xattr_handler`, listing, and the access control lists that are kept
//! in them.
//!
//! A filesystem says through [`Xattrs`] what its inodes have.

use crate::vfs::bindings;
use crate::vfs::errno::ENODATA;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use kernel::error::from_result;
use kernel::prelude::*;
use kernel::str::CStr;

/// The part of an attribute's name that decides who may see it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Namespace {
    /// `user.`
    User,
    /// `trusted.`, for those with CAP_SYS_ADMIN only.
    Trusted,
    /// `security.`
    Security,
    /// `system.posix_acl_access`, whole.
    AclAccess,
    /// `system.posix_acl_default`, whole.
    AclDefault,
}

impl Namespace {
    /// The prefix, or the whole name where there is nothing behind it.
    const fn prefix(self) -> &'static CStr {
        match self {
            Self::User => c"user.",
            Self::Trusted => c"trusted.",
            Self::Security => c"security.",
            Self::AclAccess => c"system.posix_acl_access",
            Self::AclDefault => c"system.posix_acl_default",
        }
    }
}

/// A filesystem whose inodes can have attributes.
pub(crate) trait Xattrs: FileSystem {
    /// Reads the value of an attribute into `buffer`, if it fits. Its size in any case.
    ///
    /// # Errors
    ///
    /// `ENODATA` if there is no such attribute, `EOPNOTSUPP` if there are none of the namespace.
    fn get_xattr(
        inode: &Inode<Self>,
        space: Namespace,
        name: &[u8],
        buffer: &mut [u8],
    ) -> Result<usize>;

    /// Calls `emit` with each attribute of an inode, until it returns false.
    fn list_xattrs(inode: &Inode<Self>, emit: &mut dyn FnMut(Namespace, &[u8]) -> bool) -> Result;
}

/// The operations on attributes of inodes of `T`.
pub(in crate::vfs) struct Table<T: Xattrs>(PhantomData<T>);

impl<T: Xattrs> Table<T> {
    /// What `s_xattr` points to.
    pub(in crate::vfs) const HANDLERS: &'static [*const bindings::xattr_handler; 4] = &[
        ptr::from_ref(Self::USER),
        ptr::from_ref(Self::TRUSTED),
        ptr::from_ref(Self::SECURITY),
        ptr::null(),
    ];

    const USER: &'static bindings::xattr_handler = &Self::handler(Namespace::User);
    const TRUSTED: &'static bindings::xattr_handler = &Self::handler(Namespace::Trusted);
    const SECURITY: &'static bindings::xattr_handler = &Self::handler(Namespace::Security);

    const fn handler(space: Namespace) -> bindings::xattr_handler {
        bindings::xattr_handler {
            prefix: kernel::str::as_char_ptr_in_const_context(space.prefix()),
            flags: space as i32,
            get: Some(Self::get),
            // SAFETY: The other members may be zero: no whole name, no functions.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, with one of the handlers above and an inode of `T`.
    unsafe extern "C" fn get(
        handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const kernel::ffi::c_char,
        buffer: *mut core::ffi::c_void,
        size: usize,
    ) -> i32 {
        // SAFETY: The VFS passes a valid handler, inode and name.
        let (flags, inode, name) = unsafe {
            (
                (*handler).flags,
                Inode::<T>::from_raw(inode),
                core::slice::from_raw_parts(name, bindings::strlen(name)),
            )
        };
        let space = [Namespace::User, Namespace::Trusted, Namespace::Security]
            .into_iter()
            .find(|space| *space as i32 == flags);
        from_result(|| {
            // SAFETY: The VFS passes no buffer, or one of that size for this thread alone to use.
            let buffer = unsafe { zeroed(buffer.cast(), size) }.unwrap_or_default();
            let wanted = buffer.len();
            let size = T::get_xattr(inode, space.ok_or(EOPNOTSUPP)?, name, buffer)?;
            if wanted != 0 && size > wanted {
                return Err(ERANGE);
            }
            i32::try_from(size).map_err(|_| E2BIG)
        })
    }

    /// Writes the names of an inode's attributes, each with a NUL, as far as the caller may see them.
    ///
    /// # Safety
    ///
    /// Called by the VFS, for an inode of `T`.
    pub(in crate::vfs) unsafe extern "C" fn listxattr(
        dentry: *mut bindings::dentry,
        buffer: *mut kernel::ffi::c_char,
        size: usize,
    ) -> isize {
        // SAFETY: The VFS passes a dentry with an inode, which stays for the length of the call.
        let inode = unsafe { Inode::<T>::from_raw((*dentry).d_inode) };
        from_result(|| {
            // SAFETY: The VFS passes no buffer, or one of that size for this thread alone to use.
            let mut buffer = unsafe { zeroed(buffer, size) };
            let mut used = 0usize;
            let mut written = Ok(());
            T::list_xattrs(inode, &mut |space, name| {
                let visible = match space {
                    // SAFETY: Looks at the current task only.
                    Namespace::Trusted => unsafe {
                        bindings::capable(bindings::CAP_SYS_ADMIN as i32)
                    },
                    _ => true,
                };
                if visible {
                    // SAFETY: It is a static C string.
                    let prefix = unsafe {
                        let prefix = space.prefix().as_char_ptr();
                        core::slice::from_raw_parts(prefix, bindings::strlen(prefix))
                    };
                    written = append(&mut buffer, &mut used, &[prefix, name, &[0]]);
                }
                written.is_ok()
            })?;
            written?;
            Ok(used as isize)
        })
    }

    /// An inode's access control list of a type, or null.
    ///
    /// # Safety
    ///
    /// Called by the VFS, for an inode of `T`.
    pub(in crate::vfs) unsafe extern "C" fn get_inode_acl(
        inode: *mut bindings::inode,
        acl_type: i32,
        rcu: bool,
    ) -> *mut bindings::posix_acl {
        if rcu {
            // Reading may sleep, and the inode may be on its way out.
            return ECHILD.to_ptr();
        }
        // SAFETY: The VFS passes an inode that stays for the length of the call.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        match Self::read_acl(inode, acl_type) {
            Ok(acl) => acl,
            Err(error) if error == ENODATA => ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    fn read_acl(inode: &Inode<T>, acl_type: i32) -> Result<*mut bindings::posix_acl> {
        let space = match u32::try_from(acl_type) {
            Ok(bindings::ACL_TYPE_ACCESS) => Namespace::AclAccess,
            Ok(bindings::ACL_TYPE_DEFAULT) => Namespace::AclDefault,
            _ => return Err(EINVAL),
        };
        let size = T::get_xattr(inode, space, &[], &mut [])?;
        let mut value = KVec::from_elem(0u8, size, GFP_KERNEL)?;
        if T::get_xattr(inode, space, &[], &mut value)? != size {
            return Err(EIO);
        }
        // SAFETY: The inode is valid, and its superblock keeps its namespace. The value is valid for its length. The result is null,
        // a list, or an error pointer, each of which is an answer.
        Ok(unsafe {
            bindings::posix_acl_from_xattr(
                (*(*inode.as_ptr()).i_sb).s_user_ns,
                value.as_ptr().cast(),
                size,
            )
        })
    }
}

/// The `size` bytes of a buffer of the VFS, unless it is null or empty. Not all callers initialise it: some pass what
/// is on their stack.
///
/// # Safety
///
/// A buffer that is not null must be valid for writes of `size` bytes, and no one else's for `'a`.
unsafe fn zeroed<'a>(buffer: *mut u8, size: usize) -> Option<&'a mut [u8]> {
    if buffer.is_null() || size == 0 {
        return None;
    }
    // SAFETY: By the safety requirements; the bytes are initialised first.
    Some(unsafe {
        buffer.write_bytes(0, size);
        core::slice::from_raw_parts_mut(buffer, size)
    })
}

/// Writes `parts` behind the `used` bytes of a buffer, or only counts them if there is none.
fn append(buffer: &mut Option<&mut [u8]>, used: &mut usize, parts: &[&[u8]]) -> Result {
    for part in parts {
        let end = used.checked_add(part.len()).ok_or(E2BIG)?;
        if let Some(buffer) = buffer {
            let room = buffer.get_mut(*used..end).ok_or(ERANGE)?;
            for (to, from) in room.iter_mut().zip(part.iter()) {
                *to = *from;
            }
        }
        *used = end;
    }
    Ok(())
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(ferofs_xattr)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_initialised() {
        let mut stack = [0xffu8; 16];
        // SAFETY: The buffer is longer, and used by this test alone.
        let buffer = unsafe { zeroed(stack.as_mut_ptr(), 15) };
        assert_eq!(buffer.map(|buffer| buffer.len()), Some(15));
        assert!(stack.iter().take(15).all(|byte| *byte == 0));
        assert_eq!(stack.last().copied(), Some(0xff));
    }

    #[test]
    fn no_buffer_is_none() {
        let mut stack = [0xffu8; 1];
        for (buffer, size) in [
            (ptr::null_mut(), 0),
            (ptr::null_mut(), 16),
            (stack.as_mut_ptr(), 0),
        ] {
            // SAFETY: None of them is written to.
            let buffer = unsafe { zeroed(buffer, size) };
            assert!(buffer.is_none());
        }
    }
}
