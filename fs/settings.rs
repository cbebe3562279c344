// SPDX-License-Identifier: GPL-2.0-only

//! The options in force of a mounted image: those that a remount changes, and those that it must not. [`crate::volume`] has them.

use crate::devices::Devices;
use crate::domain::Trust;
use crate::options::DeviceOption;
use crate::options::Holes;
use crate::options::Options;
use crate::vfs::mount::context::Context;
use crate::vfs::node::xattr::Namespace;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;
use kernel::str::CStr;
use kernel::str::CString;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;

/// The options in force.
pub(crate) struct Settings {
    /// Whether files are to be shared, and who is trusted.
    inode_share: Option<Trust>,
    /// In which domain.
    domain_id: Option<CString>,
    /// Whether attributes of users are shown.
    user_xattr: Atomic<i32>,
    /// Whether access control lists are honoured.
    acl: Atomic<i32>,
}

impl Settings {
    /// Those of a new mount.
    pub(crate) fn new(options: &mut Options) -> Self {
        Self {
            inode_share: options.inode_share,
            domain_id: options.domain_id.take(),
            user_xattr: Atomic::new(options.user_xattr.unwrap_or(true).into()),
            acl: Atomic::new(options.acl.unwrap_or(true).into()),
        }
    }

    /// Whether attributes of a namespace are hidden.
    pub(crate) fn hides(&self, space: Namespace) -> bool {
        match space {
            Namespace::User => self.user_xattr.load(Relaxed) == 0,
            Namespace::AclAccess | Namespace::AclDefault => self.acl.load(Relaxed) == 0,
            Namespace::Trusted | Namespace::Security => false,
        }
    }

    /// Applies the options of a remount of `name`. The image and its blobs stay what they are: mount(8) passes
    /// the options in use once more, so they may be named, but no others.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what cannot be changed.
    pub(crate) fn remount(
        &self,
        context: &Context<'_>,
        name: &CStr,
        devices: &Devices,
        options: &Options,
    ) -> Result {
        let image = match (&options.image, context.source()) {
            (Some(image), _) => devices.is_image(image),
            (None, Some(path)) => path == name || devices.is_image_at(path),
            (None, None) => true,
        };
        if !image {
            context.error(fmt!("{}: a remount cannot change the image", name));
            return Err(EINVAL);
        }
        if let Some(start) = options
            .start
            .filter(|start| *start != devices.image_start())
        {
            context.error(fmt!(
                "{}: a remount cannot change the image, and it does not begin at fsoffset={}",
                name,
                start,
            ));
            return Err(EINVAL);
        }
        if let Some(other) = devices.first_other(&options.devices) {
            match other {
                DeviceOption::Path(path) => context.error(fmt!(
                    "{}: a remount cannot change the devices, and {} is none of them",
                    name,
                    &**path,
                )),
                DeviceOption::File(_) => context.error(fmt!(
                    "{}: a remount cannot change the devices, and an open file is none of them",
                    name,
                )),
            }
            return Err(EINVAL);
        }
        if options.verity.is_some() && options.verity != devices.verity() {
            context.error(fmt!("{}: a remount cannot change verity=", name));
            return Err(EINVAL);
        }
        if let Some(holes) = options.holes {
            if (holes == Holes::Error) != devices.refuses_holes() {
                context.error(fmt!("{}: a remount cannot change holes=", name));
                return Err(EINVAL);
            }
        }
        if options.inode_share.is_some() && options.inode_share != self.inode_share {
            context.error(fmt!("{}: a remount cannot change inode_share", name));
            return Err(EINVAL);
        }
        if let Some(id) = &options.domain_id {
            if self.domain_id.as_ref().map(|id| id.to_bytes_with_nul())
                != Some(id.to_bytes_with_nul())
            {
                context.error(fmt!("{}: a remount cannot change domain_id", name));
                return Err(EINVAL);
            }
        }
        if let Some(acl) = options.acl {
            context.set_posix_acl(acl);
            self.acl.store(acl.into(), Relaxed);
        }
        if let Some(user_xattr) = options.user_xattr {
            self.user_xattr.store(user_xattr.into(), Relaxed);
        }
        Ok(())
    }

    /// Writes the options that differ from what is usual, each behind a comma. `trust` is that of the domain that the mount takes part
    /// in, which it may not though it was asked for.
    pub(crate) fn show(&self, seq: &SeqFile, trust: Option<Trust>) {
        if self.hides(Namespace::User) {
            seq_print!(seq, ",nouser_xattr");
        }
        if self.hides(Namespace::AclAccess) {
            seq_print!(seq, ",noacl");
        }
        // Not its name, as the C driver does not show it either: who knows it can take part.
        match trust {
            Some(Trust::Images) => seq_print!(seq, ",inode_share"),
            Some(Trust::Nobody) => seq_print!(seq, ",inode_share=verify"),
            None => {}
        }
    }
}
