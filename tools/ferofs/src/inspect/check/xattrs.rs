// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Extended attributes of one inode: what the format allows and still makes no sense. Called by the
//! check for every inode that has some.

use super::Checker;
use super::inode::inode_size;
use super::regions::Use;
use crate::acl;
use crate::text::Quoted;
use erofs_format::Inode;
use erofs_format::ondisk;
use erofs_format::ondisk::xattr_index;
use erofs_format::xattr_entry_size;
use erofs_format::xattr_prefix;
use std::collections::HashSet;
use std::io;

/// Name index, name and size of the value.
type Found = (u8, Vec<u8>, u16);

impl Checker<'_> {
    /// Checks the attributes of an inode.
    pub(super) fn xattrs(&mut self, inode: &Inode) -> io::Result<()> {
        let size = inode.xattr_size();
        if size == 0 || !self.spend(u64::from(size), inode, "attributes")? {
            return Ok(());
        }
        let image = self.image;
        let mut all: Vec<Found> = Vec::new();
        let listed = inode.list_xattrs(image.superblock(), image.file(), &mut |xattr| {
            all.push((xattr.index, xattr.name.to_vec(), xattr.value_size));
            true
        });
        let sound = listed.is_ok();
        if let Err(error) = listed {
            self.failed_at(inode, error)?;
        }
        self.body(inode, sound)?;
        let mut seen = HashSet::new();
        for (index, name, size) in &all {
            if (*index, name.len(), *size) == (0, 0, 0) {
                // Room that mkfs.erofs leaves for attributes to come.
                continue;
            }
            self.xattr(inode, *index, name, *size)?;
            if !seen.insert((*index, name.as_slice())) {
                let what = format!("it has two attributes {}", Quoted(&full(*index, name)));
                self.problem_of(inode, what);
            }
        }
        Ok(())
    }

    fn xattr(&mut self, inode: &Inode, index: u8, name: &[u8], size: u16) -> io::Result<()> {
        let shown = full(index, name);
        let shown = Quoted(&shown);
        if xattr_prefix(index).is_none() {
            let what = format!("an attribute's name has the unknown prefix {index}");
            self.warning_of(inode, what);
            return Ok(());
        }
        if !inode.may_have_xattr(index, name) {
            let what = format!("its name filter says that it has no attribute {shown}, but it has");
            self.problem_of(inode, what);
            return Ok(());
        }
        let acl = matches!(
            index,
            xattr_index::POSIX_ACL_ACCESS | xattr_index::POSIX_ACL_DEFAULT
        );
        if !acl {
            if name.is_empty() {
                self.problem_of(
                    inode,
                    format!("its attribute {shown} has no name of its own"),
                );
            }
            return Ok(());
        }
        if !name.is_empty() {
            self.problem_of(
                inode,
                format!("its attribute {shown} is no access control list"),
            );
            return Ok(());
        }
        let image = self.image;
        let mut value = vec![0; usize::from(size)];
        match inode.get_xattr(image.superblock(), image.file(), index, name, &mut value) {
            Ok(Some(_)) => {
                if let Some(problem) = acl::problem(&value) {
                    self.problem_of(inode, format!("its attribute {shown} {problem}"));
                }
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => self.failed_at(inode, error),
        }
    }

    /// Reserved bytes of the attribute body, and where the shared attributes are.
    fn body(&mut self, inode: &Inode, sound: bool) -> io::Result<()> {
        let image = self.image;
        let at = inode.pos() + inode_size(inode);
        let body = image.read(at, inode.xattr_size() as usize)?;
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
                Ok((index, _)) if xattr_prefix(index).is_none() => {
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

fn full(index: u8, name: &[u8]) -> Vec<u8> {
    let prefix = xattr_prefix(index).unwrap_or_default();
    [prefix.as_bytes(), name].concat()
}
