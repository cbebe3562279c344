// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Extended attributes of one inode: what the format allows and still makes no sense. Called by the
//! check for every inode that has some.

use super::Checker;
use super::regions::Use;
use crate::acl;
use crate::inspect::inode_size;
use crate::text::Quoted;
use erofs_format::Inode;
use erofs_format::ondisk;
use erofs_format::ondisk::xattr_index;
use erofs_format::xattr_entry_size;
use erofs_format::xattr_prefix;
use std::collections::HashSet;
use std::io;

/// An attribute as it was listed.
struct Found {
    index: u8,
    name: Vec<u8>,
    size: u16,
    /// The value of an access control list.
    acl: Option<Vec<u8>>,
}

impl Checker<'_> {
    /// Checks the attributes of an inode.
    pub(super) fn xattrs(&mut self, inode: &Inode) -> io::Result<()> {
        let size = inode.xattr_size();
        if size == 0 || !self.spend(u64::from(size), inode, "attributes")? {
            return Ok(());
        }
        let image = self.image;
        let start = inode.pos().saturating_add(inode_size(inode));
        let Some(body) = self.bytes_of(inode, inode.space(), start, size.into())? else {
            return Ok(());
        };
        // Those of many files are the same, and were looked at.
        if self.sound_xattrs == body {
            return Ok(());
        }
        let before = self.findings();
        let mut all: Vec<Found> = Vec::new();
        let mut failed = None;
        let listed = inode.list_xattrs(image.superblock(), image.file(), &mut |xattr| {
            let acl = is_acl(xattr.index) && xattr.name.is_empty();
            let mut acl = acl.then(|| vec![0; usize::from(xattr.value_size)]);
            if let Some(value) = &mut acl {
                failed = xattr.read_value(image.file(), value).err();
            }
            all.push(Found {
                index: xattr.index,
                name: xattr.name.to_vec(),
                size: xattr.value_size,
                acl,
            });
            failed.is_none()
        });
        let listed = listed.and(failed.map_or(Ok(()), Err));
        let sound = listed.is_ok();
        if let Err(error) = listed {
            self.failed_at(inode, error)?;
        }
        self.body(inode, &body, sound)?;
        let mut seen = HashSet::new();
        for found in &all {
            let Found { index, name, .. } = found;
            if (*index, name.len(), found.size) == (0, 0, 0) {
                // Room that mkfs.erofs leaves for attributes to come.
                continue;
            }
            self.xattr(inode, found);
            if !seen.insert((*index, name.as_slice())) {
                let what = format!("it has two attributes {}", Quoted(&full(*index, name)));
                self.problem_of(inode, what);
            }
        }
        if self.findings() == before {
            self.sound_xattrs = body;
        }
        Ok(())
    }

    fn xattr(&mut self, inode: &Inode, found: &Found) {
        let Found {
            index, name, acl, ..
        } = found;
        let index = *index;
        let shown = full(index, name);
        let shown = Quoted(&shown);
        if index == HIDDEN && !name.is_empty() {
            return;
        }
        if xattr_prefix(index).is_none() {
            let what = format!("an attribute's name has the unknown prefix {index}");
            self.warning_of(inode, what);
            return;
        }
        if !inode.may_have_xattr(index, name) {
            let what = format!("its name filter says that it has no attribute {shown}, but it has");
            self.problem_of(inode, what);
            return;
        }
        let what = match acl {
            Some(value) => {
                acl::problem(value).map(|problem| format!("its attribute {shown} {problem}"))
            }
            None if is_acl(index) => {
                Some(format!("its attribute {shown} is no access control list"))
            }
            None => {
                (name.is_empty()).then(|| format!("its attribute {shown} has no name of its own"))
            }
        };
        if let Some(what) = what {
            self.problem_of(inode, what);
        }
    }

    /// Reserved bytes of the attribute body, and where the shared attributes are.
    fn body(&mut self, inode: &Inode, body: &[u8], sound: bool) -> io::Result<()> {
        let image = self.image;
        let Some((header, rest)) = body.split_first_chunk::<12>() else {
            return Ok(());
        };
        let [_, _, _, _, count, reserved @ ..] = *header;
        if reserved != [0; 7] {
            self.warning_of(inode, "reserved bytes before its attributes are not zero");
        }
        if !sound {
            return Ok(());
        }
        let ids = rest.chunks_exact(4).take(usize::from(count));
        for id in ids {
            let id = id.try_into().map(u32::from_le_bytes).unwrap_or_default();
            let start = image
                .superblock()
                .xattr_pos()
                .saturating_add(u64::from(id) * 4);
            if !self.shared.insert(start) {
                continue;
            }
            if let [name_len, index, low, high, ..] = *image.read(start, 4)? {
                if [name_len, index, low, high] == [0; 4] {
                    let what = format!("there is no shared attribute at {start}, which it has");
                    self.problem_of(inode, what);
                }
                let size = xattr_entry_size(name_len, u16::from_le_bytes([low, high]));
                let end = start.saturating_add(u64::from(size));
                self.region(start, end, Use::SharedXattr, 0);
            }
        }
        Ok(())
    }

    /// The long prefixes of attribute names.
    pub(super) fn prefixes(&mut self) -> io::Result<()> {
        let image = self.image;
        let count = image.superblock().xattr_prefix_count();
        let mut infix = [0; ondisk::NAME_MAX];
        for number in 0..count {
            let found = image
                .superblock()
                .long_xattr_prefix(image.file(), number, &mut infix);
            match found {
                Ok((index, _)) if index != HIDDEN && xattr_prefix(index).is_none() => {
                    let what =
                        format!("attribute name prefix {number} has the unknown base {index}");
                    self.warning(None, ondisk::SUPER_OFFSET, what);
                }
                Ok((_, length)) => {
                    let infix = infix.get(..length).unwrap_or_default();
                    if infix.contains(&0) {
                        let what = format!("attribute name prefix {number} holds a NUL");
                        self.problem(None, ondisk::SUPER_OFFSET, what);
                    }
                }
                Err(error) => {
                    // Those behind it cannot be found either.
                    return self.failed(None, ondisk::SUPER_OFFSET, error);
                }
            }
        }
        Ok(())
    }
}

/// The prefix of names that nobody is shown, as those of fingerprints.
const HIDDEN: u8 = 0;

fn is_acl(index: u8) -> bool {
    matches!(
        index,
        xattr_index::POSIX_ACL_ACCESS | xattr_index::POSIX_ACL_DEFAULT
    )
}

fn full(index: u8, name: &[u8]) -> Vec<u8> {
    let prefix = xattr_prefix(index).unwrap_or_default();
    [prefix.as_bytes(), name].concat()
}
