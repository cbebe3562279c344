// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! All files of an image, one name after the other. Called by `ferofs dump`, and for statistics.

use super::Image;
use super::Name;
use crate::error::Result;
use erofs_format::FileKind;
use erofs_format::Inode;
use std::collections::HashSet;

/// A name in an image.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The whole path, which starts with a slash.
    pub path: Vec<u8>,
    /// What has the name.
    pub inode: Inode,
    /// Whether this is a directory that was there before: in an image that is wrong, a directory may
    /// even be in itself. What is in it does not come again.
    pub again: bool,
}

/// Goes through an image: the root, then what is in it, each directory followed by its content. Ends
/// with the first error.
pub struct Walk<'a> {
    image: &'a Image,
    started: bool,
    seen: HashSet<u64>,
    /// The path of the directory whose names come now.
    path: Vec<u8>,
    /// For each directory on the way the length of its path, and the names that are left in it.
    left: Vec<(usize, std::vec::IntoIter<Name>)>,
}

impl<'a> Walk<'a> {
    /// Starts with the root.
    pub fn new(image: &'a Image) -> Self {
        Walk {
            image,
            started: false,
            seen: HashSet::new(),
            path: Vec::new(),
            left: Vec::new(),
        }
    }

    fn step(&mut self) -> Result<Option<Entry>> {
        if !self.started {
            self.started = true;
            let root = self.image.root()?;
            return self.entry(b"/".to_vec(), root).map(Some);
        }
        while let Some((len, names)) = self.left.last_mut() {
            let Some(name) = names.next() else {
                self.left.pop();
                continue;
            };
            if matches!(name.name.as_slice(), b"." | b"..") {
                continue;
            }
            self.path.truncate(*len);
            let parts = [self.path.as_slice(), b"/", &name.name];
            let path = parts.concat();
            let inode = self.image.inode(name.nid)?;
            return self.entry(path, inode).map(Some);
        }
        Ok(None)
    }

    fn entry(&mut self, path: Vec<u8>, inode: Inode) -> Result<Entry> {
        let mut again = false;
        if inode.kind() == FileKind::Directory {
            again = !self.seen.insert(inode.nid());
            if !again {
                let names = self.image.names(&inode)?.into_iter();
                if path != b"/" {
                    self.path.clone_from(&path);
                }
                self.left.push((self.path.len(), names));
            }
        }
        Ok(Entry { path, inode, again })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(entry) => entry.map(Ok),
            Err(error) => {
                self.left.clear();
                Some(Err(error))
            }
        }
    }
}
