// SPDX-License-Identifier: GPL-2.0-only

//! `struct fs_context`: one mount, or remount, from its options to its superblock.
//!
//! The VFS makes a context, hands it each option ([`Mountable::parse`]), and then asks for the tree
//! ([`Mountable::fill_super`], [`Mountable::root`]) or for the change of one
//! ([`Mountable::reconfigure`]).

use super::backing::with_path;
use super::bindings;
use super::fs_type::FileSystem;
use super::inode::Inode;
use super::super_block;
use super::super_block::NewSuperBlock;
use super::super_block::Statfs;
use super::super_block::SuperBlock;
use core::marker::PhantomData;
use core::mem;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::ffi::c_char;
use kernel::fmt;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::str::CStr;
use kernel::str::CString;
use kernel::sync::aref::ARef;
use kernel::types::ForeignOwnable;

/// A filesystem that users mount.
pub(crate) trait Mountable: FileSystem {
    /// What the options of one mount have set so far.
    type Options: Default + Send;

    /// The options there are, ended by [`Parameter::END`]. `source` is among them if it may be
    /// given as a file descriptor.
    const PARAMETERS: &'static [Parameter];

    /// Takes one option; `id` is that of its [`Parameter`].
    fn parse(
        options: &mut Self::Options,
        context: &Context<'_>,
        id: u8,
        value: Value<'_>,
    ) -> Result;

    /// Sets up a superblock and makes its data.
    fn fill_super(
        sb: &mut NewSuperBlock<'_, Self>,
        context: &Context<'_>,
        options: Self::Options,
    ) -> Result<Self::Super>;

    /// The root directory of a superblock that has its data.
    fn root(sb: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>>;

    /// The inode of a number: one that an inode of the superblock had, or any other.
    fn inode(sb: &SuperBlock<Self>, number: u64) -> Result<ARef<Inode<Self>>>;

    /// The directory that a directory is in.
    fn parent(dir: &Inode<Self>) -> Result<ARef<Inode<Self>>>;

    /// Applies the options of a remount.
    fn reconfigure(sb: &SuperBlock<Self>, context: &Context<'_>, options: Self::Options) -> Result;

    /// What statfs(2) tells.
    fn statfs(sb: &SuperBlock<Self>) -> Result<Statfs>;

    /// Writes the mount's options as /proc/mounts shows them, each behind a comma.
    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result;
}

/// A mount option: its name and the type of its value.
#[repr(transparent)]
pub(crate) struct Parameter(bindings::fs_parameter_spec);

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

    fn is_number(&self) -> bool {
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

/// A mount or remount in progress.
///
/// # Invariants
///
/// `fc` is a valid context that this thread alone uses for `'a`.
pub(crate) struct Context<'a> {
    fc: NonNull<bindings::fs_context>,
    _p: PhantomData<&'a ()>,
}

impl Context<'_> {
    /// # Safety
    ///
    /// `fc` must meet the type invariants.
    unsafe fn from_raw(fc: *mut bindings::fs_context) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            // SAFETY: A valid pointer is not null.
            fc: unsafe { NonNull::new_unchecked(fc) },
            _p: PhantomData,
        }
    }

    /// What is mounted: a path, or for an open file its path as far as it is known.
    pub(crate) fn source(&self) -> Option<&CStr> {
        // SAFETY: By the type invariants; a source is a C string of the context's.
        unsafe {
            let source = self.fc.as_ref().source;
            (!source.is_null()).then(|| super::c_str(source))
        }
    }

    /// Tells the mounter what is wrong: in the kernel's log, and through the context's own log
    /// where that is read.
    pub(crate) fn error(&self, message: fmt::Arguments<'_>) {
        pr_err!("{}\n", message);
        self.log(b'e', message);
    }

    /// Tells the mounter what is as they may not expect it, in the context's own log alone.
    pub(crate) fn warn(&self, message: fmt::Arguments<'_>) {
        self.log(b'w', message);
    }

    /// Adds a line to the context's own log: of an error (`e`) or a warning (`w`).
    fn log(&self, level: u8, message: fmt::Arguments<'_>) {
        if let Ok(message) = CString::try_from_fmt(message) {
            // SAFETY: By the type invariants, and the message is a C string.
            unsafe {
                bindings::vfs_helper_logfc(self.fc.as_ptr(), level, message.as_char_ptr());
            }
        }
    }

    /// Has access control lists checked, or not, from the end of a remount on.
    pub(crate) fn set_posix_acl(&self, on: bool) {
        let flag = bindings::VFS_CONST_SB_POSIXACL as u32;
        // SAFETY: By the type invariants. The VFS takes the flags of the mask over when the remount has succeeded.
        unsafe {
            let fc = self.fc.as_ptr();
            (*fc).sb_flags_mask |= flag;
            (*fc).sb_flags = if on {
                (*fc).sb_flags | flag
            } else {
                (*fc).sb_flags & !flag
            };
        }
    }

    /// Notes the path of an open file as the source.
    fn set_source_from(&mut self, file: &File) -> Result {
        // SAFETY: The path is a C string.
        let source = with_path(file, |path| unsafe {
            bindings::vfs_helper_kstrdup(path.as_char_ptr())
        })?;
        if source.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: By the type invariants. The context takes the copy over.
        unsafe { self.fc.as_mut().source = source };
        Ok(())
    }
}

/// Starts a mount or remount of `T`.
///
/// # Safety
///
/// Called by the VFS, for a filesystem type of `T`.
pub(super) unsafe extern "C" fn init_fs_context<T: Mountable>(
    fc: *mut bindings::raw_fs_context,
) -> i32 {
    from_result(|| {
        let options = KBox::new(T::Options::default(), GFP_KERNEL)?;
        // SAFETY: The VFS passes a valid context, to be set up here.
        let fc = unsafe { &mut *fc.cast::<bindings::fs_context>() };
        fc.fs_private = options.into_foreign();
        fc.ops = Operations::<T>::TABLE;
        Ok(0)
    })
}

/// The `struct fs_context_operations` of `T`.
struct Operations<T: Mountable>(PhantomData<T>);

impl<T: Mountable> Operations<T> {
    const TABLE: &'static bindings::fs_context_operations = &bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        // SAFETY: All members are optional function pointers, for which zero means none.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    /// The options of a context.
    ///
    /// # Safety
    ///
    /// `fc` must be a valid context of `T` that this thread alone uses for `'a`.
    unsafe fn options<'a>(fc: *mut bindings::fs_context) -> &'a mut T::Options {
        // SAFETY: By the safety requirements; `init_fs_context` put a box of options there.
        unsafe { &mut *(*fc).fs_private.cast::<T::Options>() }
    }

    /// # Safety
    ///
    /// Called by the VFS, for a context of `T`.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: The VFS passes a valid context that is going away.
        let options = unsafe { mem::replace(&mut (*fc).fs_private, ptr::null_mut()) };
        if !options.is_null() {
            // SAFETY: `init_fs_context` put it there.
            drop(unsafe { <KBox<T::Options> as ForeignOwnable>::from_foreign(options) });
        }
    }

    /// # Safety
    ///
    /// Called by the VFS, for a context of `T`.
    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> i32 {
        // SAFETY: The VFS passes a valid context and parameter for this thread alone to use.
        let (options, mut context, param) =
            unsafe { (Self::options(fc), Context::from_raw(fc), &mut *param) };
        from_result(|| {
            let mut result = bindings::fs_parse_result::default();
            // SAFETY: All are valid, and the list of options has an end.
            let id = unsafe {
                bindings::__fs_parse(
                    &raw mut (*context.fc.as_ptr()).log,
                    Self::SPECS,
                    param,
                    &mut result,
                )
            };
            to_result(id)?;
            let id = id as u8;

            // SAFETY: The key is a C string.
            let is_source = unsafe { super::c_str(param.key) } == c"source";
            if is_source && context.source().is_some() {
                context.error(fmt!("more than one source was given"));
                return Err(EINVAL);
            }
            match param.type_() {
                bindings::fs_value_type_fs_value_is_file => {
                    // SAFETY: The value is a file, and the parameter's reference to it is taken.
                    let file = unsafe {
                        let file = mem::replace(&mut param.__bindgen_anon_1.file, ptr::null_mut());
                        NonNull::new(file).map(|file| ARef::<File>::from_raw(file.cast()))
                    };
                    let file = file.ok_or(EBADF)?;
                    T::parse(options, &context, id, Value::File(file.clone()))?;
                    if is_source {
                        context.set_source_from(&file)?;
                    }
                }
                bindings::fs_value_type_fs_value_is_string if Self::is_number(id) => {
                    // SAFETY: The function that checked the value has filled in a number.
                    let number = unsafe { *result.__bindgen_anon_1.uint_64.as_ref() };
                    T::parse(options, &context, id, Value::Number(number))?;
                }
                bindings::fs_value_type_fs_value_is_string => {
                    // SAFETY: The value is a C string, which is the parameter's.
                    let string = unsafe { super::c_str(param.__bindgen_anon_1.string) };
                    T::parse(options, &context, id, Value::String(string))?;
                    if is_source {
                        // SAFETY: As above; the context takes the string over.
                        unsafe {
                            let string = &mut param.__bindgen_anon_1.string;
                            context.fc.as_mut().source =
                                mem::replace(string, ptr::null_mut()).cast_const();
                        }
                    }
                }
                _ => T::parse(options, &context, id, Value::Flag(!result.negated))?,
            }
            Ok(0)
        })
    }

    /// Whether the value of an option is a number.
    fn is_number(id: u8) -> bool {
        T::PARAMETERS
            .iter()
            .any(|parameter| parameter.0.opt == id && parameter.is_number())
    }

    const SPECS: *const bindings::fs_parameter_spec = {
        // The list must have an end, for C code walks it.
        match T::PARAMETERS {
            [.., end] => assert!(end.0.name.is_null()),
            [] => panic!("a list of mount options has no end"),
        }
        T::PARAMETERS.as_ptr().cast()
    };

    /// # Safety
    ///
    /// Called by the VFS, for a context of `T`.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> i32 {
        // SAFETY: The VFS passes a valid context; `fill` fits the filesystem's type.
        unsafe { bindings::get_tree_nodev(fc, Some(Self::fill)) }
    }

    /// # Safety
    ///
    /// Called by the VFS, for a new superblock of `T`.
    unsafe extern "C" fn fill(
        sb: *mut bindings::super_block,
        fc: *mut bindings::fs_context,
    ) -> i32 {
        // SAFETY: The VFS passes a valid context for this thread alone to use.
        let (options, context) = unsafe { (Self::options(fc), Context::from_raw(fc)) };
        from_result(|| {
            // SAFETY: The superblock is new, and of the type that the context is for.
            unsafe {
                super_block::fill::<T>(sb, |sb| T::fill_super(sb, &context, mem::take(options)))
            }?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, for a context of `T` whose superblock is locked.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> i32 {
        // SAFETY: The VFS passes a valid context with the root of a superblock of `T`.
        let (options, mut context, sb) = unsafe {
            (
                Self::options(fc),
                Context::from_raw(fc),
                SuperBlock::<T>::from_raw((*(*fc).root).d_sb),
            )
        };
        from_result(|| {
            T::reconfigure(sb, &context, mem::take(options))?;
            // SAFETY: As above. Read-only it stays, whatever was asked for.
            unsafe { context.fc.as_mut() }.sb_flags |= bindings::VFS_CONST_SB_RDONLY as u32;
            Ok(0)
        })
    }
}
