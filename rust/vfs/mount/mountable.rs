// SPDX-License-Identifier: GPL-2.0-only

//! What a filesystem that users mount does, and the tables of C functions that call it for that: `struct
//! fs_context_operations` and `struct super_operations`.
//!
//! The VFS makes a context, hands it each option ([`Mountable::parse`]), and then asks for the tree
//! ([`Mountable::fill_super`], [`Mountable::root`]) or for the change of one
//! ([`Mountable::reconfigure`]).

use crate::vfs::bindings;
use crate::vfs::mount::context::Context;
use crate::vfs::mount::parameter::Parameter;
use crate::vfs::mount::parameter::Value;
use crate::vfs::node::export;
use crate::vfs::node::export::Export;
use crate::vfs::node::xattr;
use crate::vfs::node::xattr::Xattrs;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::inode::IntoRaw;
use crate::vfs::object::super_block;
use crate::vfs::object::super_block::NewSuperBlock;
use crate::vfs::object::super_block::SuperBlock;
use core::marker::PhantomData;
use core::mem;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use kernel::error::from_result;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::aref::ARef;
use kernel::types::ForeignOwnable;

/// A filesystem that users mount.
pub(crate) trait Mountable: Xattrs + Export {
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

    /// Sets up a superblock and makes its data; takes of the options what it keeps.
    fn fill_super(
        sb: &mut NewSuperBlock<'_, Self>,
        context: &Context<'_>,
        options: &mut Self::Options,
    ) -> Result<KBox<Self::Super>>;

    /// The root directory of a superblock that has its data.
    fn root(sb: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>>;

    /// Applies the options of a remount.
    fn reconfigure(sb: &SuperBlock<Self>, context: &Context<'_>, options: Self::Options) -> Result;

    /// What statfs(2) tells.
    fn statfs(sb: &SuperBlock<Self>) -> Result<Statfs>;

    /// Writes the mount's options as /proc/mounts shows them, each behind a comma.
    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result;
}

/// What statfs(2) tells.
pub(crate) struct Statfs {
    /// Bytes in a block.
    pub(crate) block_size: u32,
    /// Blocks in all.
    pub(crate) blocks: u64,
    /// Inodes in all.
    pub(crate) files: u64,
    /// Inodes that are free.
    pub(crate) files_free: u64,
    /// The longest name, in bytes.
    pub(crate) name_max: u32,
    /// A number that tells this filesystem from others.
    pub(crate) fsid: u64,
}

/// Starts a mount or remount of `T`.
///
/// # Safety
///
/// Called by the VFS, for a filesystem type of `T`.
pub(in crate::vfs) unsafe extern "C" fn init_fs_context<T: Mountable>(
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
            let is_source = unsafe { crate::vfs::c_str(param.key) } == c"source";
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
                    let string = unsafe { crate::vfs::c_str(param.__bindgen_anon_1.string) };
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
            unsafe { fill::<T>(sb, |sb| T::fill_super(sb, &context, options)) }?;
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

/// Makes a new superblock ready: asks the filesystem for its data and root.
///
/// # Safety
///
/// `sb` must be a new superblock of `T` that only this thread uses, and `make` must make its data.
unsafe fn fill<T: Mountable>(
    sb: *mut bindings::super_block,
    make: impl FnOnce(&mut NewSuperBlock<'_, T>) -> Result<KBox<T::Super>>,
) -> Result {
    // SAFETY: By the safety requirements.
    unsafe {
        (*sb).s_op = ptr::from_ref(Super::<T>::TABLE);
        (*sb).s_xattr = xattr::Table::<T>::HANDLERS.as_ptr();
        // The type has two names: the one that this structure's members are known by, and an opaque one.
        (*sb).s_export_op = ptr::from_ref(export::Operations::<T>::TABLE).cast();
    }
    // SAFETY: By the safety requirements.
    let mut new = unsafe { NewSuperBlock::<T>::from_raw(sb) };
    let data = make(&mut new)?;
    // SAFETY: By the safety requirements; it has no data so far.
    let root = T::root(unsafe { super_block::install::<T>(sb, data) })?;
    // SAFETY: By the safety requirements.
    unsafe { super_block::set_root(sb, IntoRaw::into_raw(root)) }
}

/// The `struct super_operations` of `T`.
struct Super<T: Mountable>(PhantomData<T>);

impl<T: Mountable> Super<T> {
    const TABLE: &'static bindings::super_operations = &bindings::super_operations {
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        ..super_block::Operations::<T>::BASE
    };

    /// # Safety
    ///
    /// Called by the VFS, for a dentry of a superblock of `T`.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut bindings::kernel_kstatfs,
    ) -> i32 {
        // SAFETY: The VFS passes a valid dentry of a superblock that is ready.
        let sb = unsafe { SuperBlock::<T>::from_raw((*dentry).d_sb) };
        // SAFETY: The VFS passes a buffer to be filled in. It is the same C structure by the name
        // that has its members.
        let buf = unsafe { &mut *buf.cast::<bindings::kstatfs>() };
        from_result(|| {
            let stat = T::statfs(sb)?;
            // SAFETY: Set before the superblock became ready, and constant since.
            buf.f_type = unsafe { (*sb.as_ptr()).s_magic } as isize;
            buf.f_bsize = stat.block_size as isize;
            buf.f_blocks = stat.blocks;
            buf.f_bfree = 0;
            buf.f_bavail = 0;
            buf.f_files = stat.files;
            buf.f_ffree = stat.files_free;
            buf.f_namelen = stat.name_max as isize;
            buf.f_fsid.val = [stat.fsid as i32, (stat.fsid >> 32) as i32];
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS, for the root of a mount of a superblock of `T`.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> i32 {
        // SAFETY: The VFS passes a valid dentry of a superblock that is ready.
        let sb = unsafe { SuperBlock::<T>::from_raw((*root).d_sb) };
        // SAFETY: The VFS passes a sequence file that this thread alone uses during the call.
        let seq = unsafe { SeqFile::from_raw(seq) };
        from_result(|| {
            T::show_options(sb, seq)?;
            Ok(0)
        })
    }
}
