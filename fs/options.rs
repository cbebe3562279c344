// SPDX-License-Identifier: GPL-2.0-only

//! Mount options: what [`Ferofs`](super::Ferofs) takes, and what one mount was given.

use crate::vfs::backing::BackingFile;
use crate::vfs::context::Context;
use crate::vfs::context::Parameter;
use crate::vfs::context::Value;
use crate::vfs::vec;
use kernel::prelude::*;
use kernel::str::CString;

const SOURCE: u8 = 0;
const DEVICE: u8 = 1;
const USER_XATTR: u8 = 2;
const ACL: u8 = 3;

/// The options there are.
pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter::file_or_path(c"source", SOURCE),
    Parameter::file_or_path(c"device", DEVICE),
    Parameter::flag_or_no(c"user_xattr", USER_XATTR),
    Parameter::flag_or_no(c"acl", ACL),
    Parameter::END,
];

/// The most blobs that an image can name: device ids have 16 bits, and 0 is the image itself.
const DEVICES_MAX: usize = 0xffff;

/// What the options of one mount have set.
#[derive(Default)]
pub(crate) struct Options {
    /// The image, if it came as an open file; else the mount's source is its path.
    pub(crate) image: Option<BackingFile>,
    /// The blobs, in the order of the image's device slots.
    pub(crate) devices: KVec<DeviceOption>,
    /// Whether attributes of users are shown, if that was said.
    pub(crate) user_xattr: Option<bool>,
    /// Whether access control lists are honoured, if that was said.
    pub(crate) acl: Option<bool>,
}

/// One `device=`.
pub(crate) enum DeviceOption {
    /// A path, opened when the tree is made.
    Path(CString),
    /// An open file.
    File(BackingFile),
}

impl Options {
    /// Takes one option.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an empty path or too many devices; for open files those of
    /// [`BackingFile::from_file`].
    pub(crate) fn parse(&mut self, context: &Context<'_>, id: u8, value: Value<'_>) -> Result {
        match (id, value) {
            (SOURCE, Value::File(file)) => {
                let file = BackingFile::from_file(file).inspect_err(|_| {
                    context.error(fmt!(
                        "source is neither a regular file nor a block device open for reading"
                    ));
                })?;
                self.image = Some(file);
            }
            // The context keeps a path.
            (SOURCE, _) => {}
            (DEVICE, Value::File(file)) => {
                let file = BackingFile::from_file(file).inspect_err(|_| {
                    context.error(fmt!(
                        "device is neither a regular file nor a block device open for reading"
                    ));
                })?;
                self.add(context, DeviceOption::File(file))?;
            }
            (DEVICE, Value::String(path)) => {
                if path.is_empty() {
                    context.error(fmt!("device= wants a path"));
                    return Err(EINVAL);
                }
                self.add(context, DeviceOption::Path(CString::try_from(path)?))?;
            }
            (USER_XATTR, Value::Flag(on)) => self.user_xattr = Some(on),
            (ACL, Value::Flag(on)) => self.acl = Some(on),
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    fn add(&mut self, context: &Context<'_>, device: DeviceOption) -> Result {
        if self.devices.len() >= DEVICES_MAX {
            context.error(fmt!("more than {} devices", DEVICES_MAX));
            return Err(EINVAL);
        }
        vec::push(&mut self.devices, device)
    }
}
