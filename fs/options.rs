// SPDX-License-Identifier: GPL-2.0-only

//! Mount options: what [`Ferofs`](super::Ferofs) takes, and what one mount was given.

use crate::domain::Trust;
use crate::verity::Verity;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::mount::context::Context;
use crate::vfs::mount::parameter::Parameter;
use crate::vfs::mount::parameter::Value;
use crate::vfs::vec;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::str::CString;

const SOURCE: u8 = 0;
const DEVICE: u8 = 1;
const USER_XATTR: u8 = 2;
const ACL: u8 = 3;
const FSOFFSET: u8 = 4;
const CACHE_STRATEGY: u8 = 5;
const DIRECTIO: u8 = 6;
const DAX: u8 = 7;
const DOMAIN_ID: u8 = 8;
const INODE_SHARE: u8 = 9;
const VERITY: u8 = 10;
const HOLES: u8 = 11;

/// The options there are.
pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter::file_or_path(c"source", SOURCE),
    Parameter::file_or_path(c"device", DEVICE),
    Parameter::flag_or_no(c"user_xattr", USER_XATTR),
    Parameter::flag_or_no(c"acl", ACL),
    Parameter::number(c"fsoffset", FSOFFSET),
    Parameter::string(c"verity", VERITY),
    Parameter::string(c"holes", HOLES),
    // What else the C driver takes: see `foreign`.
    Parameter::string(c"cache_strategy", CACHE_STRATEGY),
    Parameter::flag_or_no(c"directio", DIRECTIO),
    Parameter::flag(c"dax", DAX),
    Parameter::string(c"dax", DAX),
    Parameter::string(c"domain_id", DOMAIN_ID),
    Parameter::flag(c"inode_share", INODE_SHARE),
    Parameter::string(c"inode_share", INODE_SHARE),
    Parameter::END,
];

/// The most blobs that an image can name: device ids have 16 bits, and 0 is the image itself.
const DEVICES_MAX: usize = 0xffff;

/// What the options of one mount have set.
#[derive(Default)]
pub(crate) struct Options {
    /// The image, if it came as an open file; else the mount's source is its path.
    pub(crate) image: Option<BackingFile>,
    /// Where in its file the image begins, in bytes, if that was said.
    pub(crate) start: Option<u64>,
    /// The blobs, in the order of the image's device slots.
    pub(crate) devices: KVec<DeviceOption>,
    /// What fs-verity has to say of the image and its blobs, if that was said.
    pub(crate) verity: Option<Verity>,
    /// What holes of the image's file and of blobs are, if that was said.
    pub(crate) holes: Option<Holes>,
    /// Which domain files are shared in, if that was said.
    pub(crate) domain_id: Option<CString>,
    /// Whether files are shared, and who is trusted.
    pub(crate) inode_share: Option<Trust>,
    /// Whether DAX was asked for always.
    dax: bool,
    /// Whether attributes of users are shown, if that was said.
    pub(crate) user_xattr: Option<bool>,
    /// Whether access control lists are honoured, if that was said.
    pub(crate) acl: Option<bool>,
}

/// What reading a part of a file that the file does not have comes to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Holes {
    /// Zeros, as anywhere.
    Zero,
    /// An error.
    Error,
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
    /// `EINVAL` for an empty path, too many devices, or a `verity=` or `holes=` that is wrong or not the one before; for open files those of
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
            (VERITY, Value::String(value)) => self.set_verity(context, value)?,
            (HOLES, Value::String(value)) => self.set_holes(context, value)?,
            (USER_XATTR, Value::Flag(on)) => self.user_xattr = Some(on),
            (ACL, Value::Flag(on)) => self.acl = Some(on),
            (FSOFFSET, Value::Number(start)) => self.start = Some(start),
            (DOMAIN_ID, Value::String(id)) => self.domain_id = Some(CString::try_from(id)?),
            (INODE_SHARE, value) => self.set_inode_share(context, &value)?,
            (id, value) => {
                if let (DAX, Some(always)) = (id, says_always(&value)) {
                    self.dax = always;
                }
                return foreign(context, id, &value);
            }
        }
        Ok(())
    }

    /// Takes `verity=`. mount(8) passes the one in use once more, and no other may take its place: who adds an option must
    /// not weaken what was asked for.
    fn set_verity(&mut self, context: &Context<'_>, value: &CStr) -> Result {
        let Some(verity) = Verity::parse(value) else {
            context.error(fmt!(
                "verity= wants require, or an fs-verity digest: sha256: and 64 hexadecimal digits, those digits alone, or \
                 sha512: and 128"
            ));
            return Err(EINVAL);
        };
        if self.verity.is_some_and(|before| before != verity) {
            context.error(fmt!("verity= was given twice, and not the same"));
            return Err(EINVAL);
        }
        self.verity = Some(verity);
        Ok(())
    }

    /// Takes `holes=`, as [`Self::set_verity`] does.
    fn set_holes(&mut self, context: &Context<'_>, value: &CStr) -> Result {
        let holes = match value.to_bytes_with_nul() {
            b"error\0" => Holes::Error,
            b"zero\0" => Holes::Zero,
            _ => {
                context.error(fmt!("holes= wants error or zero"));
                return Err(EINVAL);
            }
        };
        if self.holes.is_some_and(|before| before != holes) {
            context.error(fmt!("holes= was given twice, and not the same"));
            return Err(EINVAL);
        }
        self.holes = Some(holes);
        Ok(())
    }

    /// Takes `inode_share`, as [`Self::set_verity`] does.
    fn set_inode_share(&mut self, context: &Context<'_>, value: &Value<'_>) -> Result {
        let trust = match value {
            Value::Flag(_) => Trust::Images,
            Value::String(value) if value.to_bytes_with_nul() == b"verify\0" => Trust::Nobody,
            _ => {
                context.error(fmt!("inode_share= wants verify, or no value"));
                return Err(EINVAL);
            }
        };
        if self.inode_share.is_some_and(|before| before != trust) {
            context.error(fmt!("inode_share was given twice, and not the same"));
            return Err(EINVAL);
        }
        self.inode_share = Some(trust);
        Ok(())
    }

    /// Says which of the options do not go together.
    ///
    /// # Errors
    ///
    /// `EINVAL`, and `EPERM` for what is not done for another user namespace.
    pub(crate) fn check(&self, context: &Context<'_>) -> Result {
        if context.is_delegated() && !self.is_for_others() {
            context.error(fmt!(
                "for another user namespace an image is mounted with verity= and its digest only, without a domain, and from open files"
            ));
            return Err(EPERM);
        }
        if self.inode_share.is_none() {
            return Ok(());
        }
        let problem = if self.domain_id.is_none() {
            "domain_id is needed when inode_share is on"
        } else if self.dax {
            "FSDAX is not allowed when inode_share is on"
        } else if self.holes == Some(Holes::Error) {
            "holes=error and inode_share: what one blob does not have yet would be missing in equal files"
        } else {
            return Ok(());
        };
        context.error(fmt!("{}", problem));
        Err(EINVAL)
    }

    /// Whether a filesystem with these options may belong to a user namespace that nobody trusts: all bytes are those that a
    /// digest is of, no path is looked for with the rights of who makes it, and nothing of other mounts is shared.
    fn is_for_others(&self) -> bool {
        let mut devices = self.devices.iter();
        matches!(self.verity, Some(Verity::Image(_)))
            && self.image.is_some()
            && devices.all(|device| matches!(device, DeviceOption::File(_)))
            && self.domain_id.is_none()
            && self.inode_share.is_none()
    }

    fn add(&mut self, context: &Context<'_>, device: DeviceOption) -> Result {
        if self.devices.len() >= DEVICES_MAX {
            context.error(fmt!("more than {} devices", DEVICES_MAX));
            return Err(EINVAL);
        }
        vec::push(&mut self.devices, device)
    }
}

/// Whether a value of `dax` asks for it always, if it is one.
fn says_always(value: &Value<'_>) -> Option<bool> {
    match value {
        Value::Flag(on) => Some(*on),
        Value::String(value) => Some(value.to_bytes_with_nul() == b"always\0"),
        _ => None,
    }
}

/// Takes an option that means something to the C driver alone: those that only say how it is to do its work are taken
/// without effect, so that what mounts erofs can mount this.
///
/// # Errors
///
/// `EINVAL` for a value that the C driver does not take.
fn foreign(context: &Context<'_>, id: u8, value: &Value<'_>) -> Result {
    let value = match value {
        // With its NUL, which is not counted off: the kernel's CStr cannot prove that it is there.
        Value::String(value) => value.to_bytes_with_nul(),
        Value::Flag(_) => b"",
        Value::Number(_) | Value::File(_) => return Err(EINVAL),
    };
    match (id, value) {
        (CACHE_STRATEGY, b"disabled\0" | b"readahead\0" | b"readaround\0") => {
            context.warn(fmt!(
                "cache_strategy= has no effect: images with compressed data are not supported"
            ));
            Ok(())
        }
        (CACHE_STRATEGY, _) => {
            context.error(fmt!(
                "cache_strategy= wants disabled, readahead or readaround"
            ));
            Err(EINVAL)
        }
        // The blob's data is cached once in any case.
        (DIRECTIO, _) | (DAX, b"never\0") => Ok(()),
        (DAX, b"" | b"always\0") => {
            context.warn(fmt!(
                "dax has no effect: files are read through the page cache"
            ));
            Ok(())
        }
        (DAX, _) => {
            context.error(fmt!("dax= wants always or never"));
            Err(EINVAL)
        }
        _ => Err(EINVAL),
    }
}
