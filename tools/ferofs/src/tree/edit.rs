// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Changes to all files of a tree at once, as options of a builder ask for them.

use super::Content;
use super::Full;
use super::InodeId;
use super::Tree;
use super::XattrSet;
use super::whiteouts;
use crate::setters::setters;
use crate::tar::Time;
use std::fmt;

/// A range of user or group numbers, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first number in the tree: "inside of the container".
    pub inside: u32,
    /// What that becomes: "on the host".
    pub outside: u32,
    /// How many numbers are in the range.
    pub count: u32,
}

/// What becomes of user or group numbers: what is said here, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ids {
    /// All of them become this one.
    pub force: Option<u32>,
    /// They are mapped by these ranges; there must be one for each. None at all: they stay.
    pub map: Vec<IdRange>,
    /// This is added.
    pub offset: i64,
}

impl Ids {
    setters! {
        /// Makes all of them this one.
        with_force sets force: Option<u32>,
        /// Maps them by these ranges.
        with_map sets map: Vec<IdRange>,
        /// Adds this.
        with_offset sets offset: i64,
    }

    /// What becomes of a number.
    fn apply(&self, id: u32) -> Result<u32, Problem> {
        let mut new = self.force.unwrap_or(id);
        if !self.map.is_empty() {
            let mapped = self.map.iter().find_map(|range| {
                let at = new.checked_sub(range.inside)?;
                (at < range.count).then(|| range.outside.checked_add(at))?
            });
            new = mapped.ok_or(Problem::Unmapped(new))?;
        }
        let sum = i64::from(new).checked_add(self.offset);
        sum.and_then(|sum| u32::try_from(sum).ok())
            .ok_or(Problem::OutOfRange(new, self.offset))
    }
}

/// What all files get, where it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Edit {
    /// Owners.
    pub users: Ids,
    /// Groups.
    pub groups: Ids,
    /// Whether extended attributes are left out, but for those that make directories opaque.
    pub no_xattrs: bool,
    /// Whether every name of a file becomes a file of its own.
    pub dereference: bool,
    /// Files that are younger get this time, in seconds since 1970.
    pub latest: Option<i64>,
}

impl Edit {
    setters! {
        /// Says what becomes of owners.
        with_users sets users: Ids,
        /// Says what becomes of groups.
        with_groups sets groups: Ids,
        /// Says whether extended attributes are left out.
        with_no_xattrs sets no_xattrs: bool,
        /// Says whether every name becomes a file of its own.
        with_dereference sets dereference: bool,
        /// Gives files that are younger this time.
        with_latest sets latest: Option<i64>,
    }
}

/// Why files cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// This user or group number is in no range.
    Unmapped(u32),
    /// This number with this offset is no number of a user or group.
    OutOfRange(u32, i64),
    /// The tree is full.
    Full,
}

impl From<Full> for Problem {
    fn from(_: Full) -> Self {
        Problem::Full
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unmapped(id) => write!(f, "user or group {id} is in none of the given ranges"),
            Problem::OutOfRange(id, offset) => {
                let most = u32::MAX;
                write!(
                    f,
                    "user or group {id} with offset {offset}: expected 0 to {most}"
                )
            }
            Problem::Full => Full.fmt(f),
        }
    }
}

impl std::error::Error for Problem {}

/// Changes all files.
///
/// # Errors
///
/// When a number cannot be changed as wanted, or the tree is full. The tree is of no use then.
#[expect(
    clippy::indexing_slicing,
    reason = "numbers are made by the tree only, and nothing is taken out of its vectors"
)]
pub fn apply(tree: &mut Tree, edit: &Edit) -> Result<(), Problem> {
    let kept: Vec<XattrSet> = match edit.no_xattrs {
        true => without_xattrs(tree)?,
        false => Vec::new(),
    };
    // Numbers of files that are not in the tree any more do not matter.
    let mut in_use = vec![false; tree.inodes.len()];
    in_use[0] = true;
    for name in &tree.table {
        in_use[tree.names[*name as usize].inode.index()] = true;
    }
    for (inode, _) in tree.inodes.iter_mut().zip(in_use).filter(|(_, used)| *used) {
        let attributes = &mut inode.attributes;
        attributes.uid = edit.users.apply(attributes.uid)?;
        attributes.gid = edit.groups.apply(attributes.gid)?;
        if let Some(set) = kept.get(attributes.xattrs.index()) {
            attributes.xattrs = *set;
        }
        if let (Some(sec), Some(mtime)) = (edit.latest, &mut attributes.mtime) {
            let latest = Time { sec, nsec: 0 };
            *mtime = latest.min(*mtime);
        }
    }
    if edit.dereference {
        dereference(tree)?;
    }
    Ok(())
}

/// For every combination of extended attributes that with nothing but fingerprints and what whiteouts need: what makes
/// directories opaque, or says that there are some.
fn without_xattrs(tree: &mut Tree) -> Result<Vec<XattrSet>, Full> {
    let sets: Vec<XattrSet> = tree.xattrs().sets().collect();
    let mut kept = Vec::with_capacity(sets.len());
    for set in sets {
        let mut list = tree.xattrs().list(set);
        list.retain(|xattr| {
            let fingerprint = tree.fingerprint_name();
            fingerprint.is_some_and(|name| name.is(xattr.prefix, &xattr.name))
                || whiteouts::is_opaque(xattr)
                || whiteouts::is_mark(xattr)
        });
        kept.push(tree.xattrs_mut().set(list)?);
    }
    Ok(kept)
}

/// Gives every name of a file an inode of its own.
fn dereference(tree: &mut Tree) -> Result<(), Full> {
    let mut seen = vec![false; tree.inodes.len()];
    for name in tree.live_names() {
        let inode = tree.inode_of(name);
        let copy = match seen.get_mut(inode.index()) {
            Some(seen) if !*seen => {
                *seen = true;
                continue;
            }
            _ if tree.inode(inode).content == Content::Directory => continue,
            _ => tree.inode(inode).clone(),
        };
        let copy: InodeId = tree.add_inode(copy)?;
        if let Some(origin) = tree.origin(inode) {
            tree.set_origin(copy, origin);
        }
        tree.set_inode(name, copy);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_forced_mapped_and_moved() {
        let range = |inside, outside, count| IdRange {
            inside,
            outside,
            count,
        };
        let ids = |force, map: &[IdRange], offset| Ids {
            force,
            map: map.to_vec(),
            offset,
        };
        let map = [range(0, 100_000, 1000), range(1000, 5, 1)];
        let last = [range(u32::MAX, u32::MAX, 1)];
        for (ids, id, expected) in [
            (ids(None, &[], 0), 7, Ok(7)),
            (ids(Some(3), &[], 0), 7, Ok(3)),
            (ids(Some(3), &map, 10), 7, Ok(100_013)),
            (ids(None, &map, 0), 999, Ok(100_999)),
            (ids(None, &map, 0), 1000, Ok(5)),
            (ids(None, &map, 0), 1001, Err(Problem::Unmapped(1001))),
            (ids(None, &[], -5), 7, Ok(2)),
            (ids(None, &[], -8), 7, Err(Problem::OutOfRange(7, -8))),
            (ids(None, &last, 0), u32::MAX, Ok(u32::MAX)),
            (
                ids(None, &last, 1),
                u32::MAX,
                Err(Problem::OutOfRange(u32::MAX, 1)),
            ),
        ] {
            assert_eq!(ids.apply(id), expected, "{ids:?} {id}");
        }
    }
}
