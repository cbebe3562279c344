// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The inodes that names were found for, in little memory: there may be millions. Called by the check for every name.

use crate::tree::path;
use erofs_format::FileKind;
use erofs_format::Inode;
use hashbrown::DefaultHashBuilder;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// What is known of an inode that a name refers to.
pub struct Known {
    /// Its number.
    pub nid: u64,
    /// The name that it was found by first.
    name_start: u64,
    name_len: u16,
    pub kind: FileKind,
    /// The directory of that name.
    directory: u32,
    /// The link count that it has.
    pub nlink: u32,
    /// How many names were found.
    pub found: u32,
}

/// A name in a directory, by the number of that one's inode.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub directory: u64,
    pub name: &'a [u8],
}

/// All that are known; the root is the first.
#[derive(Default)]
pub struct Inodes {
    all: Vec<Known>,
    by_nid: HashTable<u32>,
    hasher: DefaultHashBuilder,
    names: Vec<u8>,
}

impl Inodes {
    /// Room for so many inodes.
    pub fn reserve(&mut self, count: usize) {
        self.all.reserve_exact(count);
    }

    fn index(&self, nid: u64) -> Option<u32> {
        let is_it = |index: &u32| self.at(*index).is_some_and(|known| known.nid == nid);
        let found = self.by_nid.find(self.hasher.hash_one(nid), is_it);
        found.copied()
    }

    fn at(&self, index: u32) -> Option<&Known> {
        self.all.get(index as usize)
    }

    /// What is known of an inode.
    pub fn get(&self, nid: u64) -> Option<&Known> {
        self.at(self.index(nid)?)
    }

    /// Takes note of another name of an inode that is known, and says of which kind that is.
    pub fn found_again(&mut self, nid: u64) -> Option<FileKind> {
        let index = self.index(nid)?;
        let known = self.all.get_mut(index as usize)?;
        known.found = known.found.saturating_add(1);
        Some(known.kind)
    }

    /// Adds one that is not known yet.
    pub fn insert(&mut self, inode: &Inode, place: Place<'_>) {
        // The directory comes before what is in it; only the root is in itself.
        let directory = self.index(place.directory).unwrap_or_default();
        let Ok(index) = u32::try_from(self.all.len()) else {
            return;
        };
        self.all.push(Known {
            nid: inode.nid(),
            name_start: self.names.len() as u64,
            // At most 255 bytes.
            name_len: place.name.len() as u16,
            kind: inode.kind(),
            directory,
            nlink: inode.nlink(),
            found: 1,
        });
        self.names.extend_from_slice(place.name);
        let Inodes {
            all,
            by_nid,
            hasher,
            ..
        } = self;
        let hash = |index: &u32| {
            let nid = all.get(*index as usize).map(|known| known.nid);
            hasher.hash_one(nid.unwrap_or_default())
        };
        by_nid.insert_unique(hasher.hash_one(inode.nid()), index, hash);
    }

    /// The directory that an inode was found in; the root is in itself.
    pub fn directory(&self, nid: u64) -> Option<u64> {
        let known = self.get(nid)?;
        self.at(known.directory).map(|directory| directory.nid)
    }

    /// The path of an inode that is known.
    pub fn path(&self, nid: u64) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self.index(nid).unwrap_or_default();
        while let Some(known) = self.at(at).filter(|_| at != 0) {
            let start = known.name_start as usize;
            let name = self.names.get(start..start + usize::from(known.name_len));
            names.push(name.unwrap_or_default());
            at = known.directory;
        }
        path::from_the_root(names)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.all.iter()
    }
}

const _: () = assert!(size_of::<Known>() <= 32);
