// SPDX-License-Identifier: GPL-2.0-only

//! ferofs: a read-only filesystem that mounts EROFS images from ordinary files, with file data left
//! in other files, such as the uncompressed tars of container layers.
//!
//! This is the root of the module's crate. What a mount is stands in [`options`] and [`volume`],
//! what is in it in [`inode`], [`dir`] and [`file`]. The format is read by [`erofs`], which cargo
//! tests in userspace; the VFS is reached through [`vfs`] and the kernel's decoders
//! through [`decompress`], where all `unsafe` code is.

// Public items of the crate that cargo builds from it are public to this crate alone.
#[path = "../rust/decompress/mod.rs"]
mod decompress;
#[allow(unreachable_pub)]
#[path = "../rust/erofs/src/lib.rs"]
mod erofs;
#[path = "../rust/vfs/mod.rs"]
mod vfs;

mod decode;
mod decoders;
mod devices;
mod dir;
mod domain;
mod file;
mod filesystem;
mod in_use;
mod inode;
mod join;
#[cfg(CONFIG_KUNIT = "y")]
mod kunit;
mod metadata;
mod node;
mod number;
mod options;
mod report;
mod settings;
mod share_table;
mod verity;
mod volume;
mod xattr;

use crate::filesystem::Ferofs;
use crate::filesystem::Shared;
use crate::options::Options;
use crate::share_table::ShareTable;
use crate::vfs::backing::listeners::Listeners;
use crate::vfs::mount::context::Context;
use crate::vfs::mount::mountable::Mountable;
use crate::vfs::mount::mountable::Statfs;
use crate::vfs::mount::parameter::Parameter;
use crate::vfs::mount::parameter::Value;
use crate::vfs::mount::registration::Registration;
use crate::vfs::node::backed::Backed;
use crate::vfs::node::export::Export;
use crate::vfs::node::ioctl::Label;
use crate::vfs::node::mapped::Mapped;
use crate::vfs::node::xattr::Namespace;
use crate::vfs::node::xattr::Xattrs;
use crate::vfs::object::fs_type::FileSystem;
use crate::vfs::object::inode::Inode;
use crate::vfs::object::super_block::NewSuperBlock;
use crate::vfs::object::super_block::SuperBlock;
use crate::vfs::pages::range::RangeHome;
use crate::vfs::pages::range::RangeMount;
use crate::vfs::workers::Workers;
use crate::volume::Volume;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::aref::ARef;
use kernel::sync::Arc;

module! {
    type: Module,
    name: "ferofs",
    authors: ["The ferofs authors"],
    description: "Read-only EROFS-compatible filesystem over ordinary files",
    license: "GPL",
    alias: ["fs-ferofs"],
}

/// The loaded module: while it lives, `mount -t ferofs` works.
struct Module {
    _registration: Registration<Ferofs>,
    /// And `mount -t erofs`.
    _erofs: Option<Registration<Ferofs>>,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let workers = Arc::new(Workers::new(c"ferofs")?, GFP_KERNEL)?;
        let shared = Shared {
            ranges: RangeHome::new(module, workers.clone())?,
            shares: ShareTable::new()?,
            workers,
            listeners: Arc::new(Listeners::new()?, GFP_KERNEL)?,
        };
        Ok(Self {
            _registration: Registration::new(module, Ferofs::NAME, shared.clone())?,
            _erofs: if vfs::parameters::erofs() {
                be_erofs(module, shared)?
            } else {
                None
            },
        })
    }
}

/// Registers the filesystem as `erofs`. If that is another driver's name, it remains the other's, for its mounts may be
/// in use.
fn be_erofs(module: &'static ThisModule, shared: Shared) -> Result<Option<Registration<Ferofs>>> {
    match Registration::new(module, c"erofs", shared) {
        Ok(registration) => Ok(Some(registration)),
        Err(error) if error == EBUSY => {
            pr_warn!(
                "another driver is the filesystem type erofs, so this one is ferofs alone: unmount what is mounted as \
                 erofs, unload that driver (modprobe -r erofs), and load ferofs again\n"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Label for Ferofs {
    fn label(inode: &Inode<Self>) -> &[u8] {
        inode.super_block().data().format().volume_name()
    }
}

impl Xattrs for Ferofs {
    fn get_xattr(
        inode: &Inode<Self>,
        space: Namespace,
        name: &[u8],
        buffer: &mut [u8],
    ) -> Result<usize> {
        xattr::get(inode, space, name, buffer)
    }

    fn list_xattrs(inode: &Inode<Self>, emit: &mut dyn FnMut(Namespace, &[u8]) -> bool) -> Result {
        xattr::list(inode, emit)
    }
}

impl Backed for Ferofs {
    fn ranges(inode: &Inode<Self>) -> &RangeMount {
        inode.super_block().data().ranges()
    }

    fn mapped(inode: &Inode<Self>) -> &Mapped {
        inode.data().mapped()
    }

    fn opening(inode: &Inode<Self>) -> Result {
        join::opening(inode)
    }

    fn listeners(inode: &Inode<Self>) -> Option<&Listeners> {
        inode.super_block().data().devices().listeners()
    }

    fn version(inode: &Inode<Self>) -> u64 {
        match inode.data().content() {
            Some(content) => content.version(),
            None => inode.super_block().data().devices().version(),
        }
    }
}

impl Export for Ferofs {
    fn inode(sb: &SuperBlock<Self>, number: u64) -> Result<ARef<Inode<Self>>> {
        inode::get(sb, number::nid_of(sb.data().format(), number))
    }

    fn parent(dir: &Inode<Self>) -> Result<ARef<Inode<Self>>> {
        dir::parent(dir)
    }
}

impl Mountable for Ferofs {
    type Options = Options;
    const PARAMETERS: &'static [Parameter] = options::PARAMETERS;

    fn parse(options: &mut Options, context: &Context<'_>, id: u8, value: Value<'_>) -> Result {
        options.parse(context, id, value)
    }

    fn fill_super(
        sb: &mut NewSuperBlock<'_, Self>,
        context: &Context<'_>,
        options: &mut Options,
    ) -> Result<KBox<Volume>> {
        Volume::open(sb, context, options)
    }

    fn root(sb: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>> {
        let nid = sb.data().format().root_nid();
        let root = inode::get(sb, nid)?;
        if root.data().disk().kind() != erofs::FileKind::Directory {
            let corrupt =
                erofs::Corrupt::new("root inode is not a directory", root.data().disk().pos());
            return Err(in_use::report(sb, None, corrupt.into()));
        }
        Ok(root)
    }

    fn reconfigure(sb: &SuperBlock<Self>, context: &Context<'_>, options: Options) -> Result {
        sb.data().remount(context, &options)
    }

    fn statfs(sb: &SuperBlock<Self>) -> Result<Statfs> {
        Ok(sb.data().statfs())
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result {
        sb.data().show_options(seq);
        Ok(())
    }
}
