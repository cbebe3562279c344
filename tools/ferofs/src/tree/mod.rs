// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A tree of files in memory, as small as it can be: an image of a million files is built from
//! one of these.
//!
//! Names and inodes are separate, as on disk, so that hard links are nothing special. Everything
//! lies in a few vectors and refers to the rest by number; a name is found through one hash table
//! for all directories. [`apply`] fills a tree from archives, [`image`](crate::image) writes it.

pub mod apply;
pub mod edit;
pub mod exclude;
pub mod fingerprint;
pub(crate) mod path;
pub mod scan;
pub mod whiteouts;
mod xattrs;

use crate::clusters::Compressed;
use crate::clusters::referred::Referred;
use crate::directory::Identity;
use crate::tar::Segment;
use crate::tar::Time;
use hashbrown::DefaultHashBuilder;
use hashbrown::HashTable;
use std::hash::BuildHasher;

pub use fingerprint::FingerprintName;
pub use xattrs::Xattr;
pub use xattrs::XattrId;
pub use xattrs::XattrSet;
pub use xattrs::Xattrs;

/// Longest name in a directory.
pub const NAME_MAX: usize = 255;

/// Number of a name in a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameId(u32);

/// Number of an inode in a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InodeId(u32);

impl NameId {
    /// The root directory's.
    pub const ROOT: NameId = NameId(0);
}

impl InodeId {
    /// The number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Bytes kept in the tree: names and link targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    start: u32,
    len: u16,
}

/// What every file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time; `None` for a directory that no archive described.
    pub mtime: Option<Time>,
    /// Extended attributes.
    pub xattrs: XattrSet,
}

/// Where a file's data lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// All of it in a blob, from an offset on.
    Contiguous(u64),
    /// In segments of a blob; between them are holes.
    Sparse(Box<[Segment]>),
    /// In a file of its own: that with the same path where the tree was read.
    Original,
    /// In such a file, in these segments; between them are holes.
    SparseOriginal(Box<[Segment]>),
    /// In a blob from an offset on, but for the last bytes, which are at no offset that an image can
    /// refer to: they are copied into it.
    WithTail {
        /// Where the rest is in the blob.
        pos: u64,
        /// Where the last bytes end.
        end: u64,
        /// How many they are.
        tail: u16,
        /// Which of the sources of such ends has them.
        from: u16,
    },
    /// In segments of a blob and, where an image cannot refer to it, copied; between them are holes.
    WithCopies(Box<WithCopies>),
    /// In the image that is to be written, whose first part it is in already, from this position on
    /// in whole blocks.
    Stored(u64),
    /// In that image, too, but cut into chunks, each at its own position there: equal ones are at one.
    StoredChunks(Box<[u64]>),
    /// In that image from a position on, but for what is behind the last whole block: that is in the
    /// blob.
    StoredWithTail {
        /// Where the blocks are in the image.
        blocks: u64,
        /// Where in the blob the rest ends.
        end: u64,
    },
    /// On its way into that image, compressed: it has this number until it is there.
    Encoding(u32),
    /// In that image, compressed.
    Compressed(Box<Compressed>),
    /// In blobs, compressed; what is behind the inode is copied.
    Referred(Box<Referred>),
}

impl Data {
    /// How many bytes there are of a file of an archive that may have holes.
    pub(crate) fn present(&self) -> Option<u64> {
        match self {
            Data::Sparse(segments) => Some(present(segments)),
            Data::WithCopies(parts) => {
                let (there, copied) = (present(&parts.segments), present(&parts.copied));
                Some(there.saturating_add(copied))
            }
            _ => None,
        }
    }
}

/// How many bytes there are in segments.
pub(crate) fn present(segments: &[Segment]) -> u64 {
    let lengths = segments.iter().map(|segment| segment.len);
    lengths.fold(0, u64::saturating_add)
}

/// Data of which only a part can stay where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithCopies {
    /// What is in the blob.
    pub segments: Box<[Segment]>,
    /// What is copied, and where it is now.
    pub copied: Box<[Segment]>,
    /// Which of the sources of such data that is in.
    pub from: u16,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A directory; what is in it refers to it, not the other way round.
    Directory,
    /// A regular file.
    File {
        /// Number of the blob that has its data.
        blob: u16,
        /// Size with holes.
        size: u64,
        /// Where in the blob.
        data: Data,
    },
    /// A symbolic link.
    Symlink(Text),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A hard link whose target has not been seen yet; in no tree that is finished.
    Unresolved,
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What every file has.
    pub attributes: Attributes,
    /// What it is.
    pub content: Content,
}

/// A name in a directory.
struct Name {
    /// The directory's name.
    parent: NameId,
    text: Text,
    inode: InodeId,
}

/// More than a tree can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("more than 4 billion files, or 4 GiB of names")
    }
}

/// A tree of files.
pub struct Tree {
    texts: Vec<u8>,
    names: Vec<Name>,
    inodes: Vec<Inode>,
    /// Numbers of names, found by directory and text.
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    xattrs: Xattrs,
    /// The attribute that files have fingerprints in, if they have some.
    fingerprint_name: Option<FingerprintName>,
    /// What inodes were read from, if that was files: as many as there are up to the last of those.
    origins: Vec<Option<Identity>>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "numbers are made by the tree only, and nothing is taken out of its vectors"
)]
impl Tree {
    /// A tree with nothing but a root directory that nobody described.
    pub fn new() -> Self {
        let attributes = Attributes {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: None,
            xattrs: XattrSet::NONE,
        };
        let root = Name {
            parent: NameId::ROOT,
            text: Text { start: 0, len: 0 },
            inode: InodeId(0),
        };
        Tree {
            texts: Vec::new(),
            names: vec![root],
            inodes: vec![Inode {
                attributes,
                content: Content::Directory,
            }],
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            xattrs: Xattrs::default(),
            fingerprint_name: None,
            origins: Vec::new(),
        }
    }

    /// The extended attributes of all files.
    pub fn xattrs(&self) -> &Xattrs {
        &self.xattrs
    }

    /// The extended attributes of all files, to be added to.
    pub fn xattrs_mut(&mut self) -> &mut Xattrs {
        &mut self.xattrs
    }

    /// How many inodes there are, those that no name refers to any more among them.
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    fn name(&self, id: NameId) -> &Name {
        // Numbers are made by this tree only, and names are never taken away.
        &self.names[id.0 as usize]
    }

    /// The inode with this number.
    ///
    /// # Panics
    ///
    /// When the number is one of another tree, as with everything here that takes numbers.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    /// The inode with this number, to be changed.
    pub fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.index()]
    }

    /// Where the data of all files is, to be changed; inodes without a name are among them.
    pub(crate) fn data_mut(&mut self) -> impl Iterator<Item = &mut Data> {
        self.inodes
            .iter_mut()
            .filter_map(|inode| match &mut inode.content {
                Content::File { data, .. } => Some(data),
                _ => None,
            })
    }

    /// The inode a name refers to.
    pub fn inode_of(&self, name: NameId) -> InodeId {
        self.name(name).inode
    }

    /// The directory a name is in; the root is in itself.
    pub fn parent(&self, name: NameId) -> NameId {
        self.name(name).parent
    }

    /// The bytes of a name.
    pub fn name_text(&self, name: NameId) -> &[u8] {
        self.text(self.name(name).text)
    }

    /// Bytes kept in the tree.
    pub fn text(&self, text: Text) -> &[u8] {
        let start = text.start as usize;
        self.texts
            .get(start..start + usize::from(text.len))
            .unwrap_or_default()
    }

    /// The path of a name, from the root on, starting with a slash.
    pub fn path(&self, name: NameId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = name;
        while at != NameId::ROOT {
            names.push(self.name_text(at));
            at = self.parent(at);
        }
        path::from_the_root(names)
    }

    /// Whether a name refers to a directory.
    pub fn is_directory(&self, name: NameId) -> bool {
        self.inode(self.inode_of(name)).content == Content::Directory
    }

    fn hash(&self, directory: NameId, name: &[u8]) -> u64 {
        self.hasher.hash_one((directory.0, name))
    }

    /// Finds a name in a directory.
    pub fn lookup(&self, directory: NameId, name: &[u8]) -> Option<NameId> {
        let matches = |id: &u32| {
            let id = NameId(*id);
            self.name(id).parent == directory && self.name_text(id) == name
        };
        self.table
            .find(self.hash(directory, name), matches)
            .map(|id| NameId(*id))
    }

    /// Keeps bytes.
    ///
    /// # Errors
    ///
    /// When the tree is full, or the bytes are more than 65,535.
    pub fn keep(&mut self, bytes: &[u8]) -> Result<Text, Full> {
        let start = u32::try_from(self.texts.len()).map_err(|_| Full)?;
        let len = u16::try_from(bytes.len()).map_err(|_| Full)?;
        self.texts.extend_from_slice(bytes);
        Ok(Text { start, len })
    }

    /// Adds an inode that has no name yet.
    ///
    /// # Errors
    ///
    /// When the tree is full.
    pub fn add_inode(&mut self, inode: Inode) -> Result<InodeId, Full> {
        let id = u32::try_from(self.inodes.len()).map_err(|_| Full)?;
        self.inodes.push(inode);
        Ok(InodeId(id))
    }

    /// Takes note of what file an inode was read from.
    pub fn set_origin(&mut self, inode: InodeId, origin: Identity) {
        if self.origins.len() <= inode.index() {
            self.origins.resize(inode.index() + 1, None);
        }
        self.origins[inode.index()] = Some(origin);
    }

    /// What file an inode was read from, if that is known.
    pub fn origin(&self, inode: InodeId) -> Option<Identity> {
        self.origins.get(inode.index()).copied().flatten()
    }

    /// Whether something was read from this file.
    pub fn comes_from(&self, file: Identity) -> bool {
        self.origins.contains(&Some(file))
    }

    /// Adds a name that is not in the directory yet.
    ///
    /// # Errors
    ///
    /// When the tree is full.
    pub fn add_name(
        &mut self,
        directory: NameId,
        name: &[u8],
        inode: InodeId,
    ) -> Result<NameId, Full> {
        let id = u32::try_from(self.names.len())
            .ok()
            .filter(|id| *id < u32::MAX)
            .ok_or(Full)?;
        let text = self.keep(name)?;
        self.names.push(Name {
            parent: directory,
            text,
            inode,
        });
        let hash = self.hash(directory, name);
        let Tree {
            table,
            names,
            texts,
            hasher,
            ..
        } = self;
        table.insert_unique(hash, id, |other| {
            let name = &names[*other as usize];
            let start = name.text.start as usize;
            let text = texts
                .get(start..start + usize::from(name.text.len))
                .unwrap_or_default();
            hasher.hash_one((name.parent.0, text))
        });
        Ok(NameId(id))
    }

    /// All names that are in a directory, in the order they were added. The directory itself may
    /// have been taken out.
    pub(crate) fn live_names(&self) -> Vec<NameId> {
        let mut names: Vec<NameId> = self.table.iter().map(|id| NameId(*id)).collect();
        names.sort_unstable_by_key(|name| name.0);
        names
    }

    /// Takes a name out of its directory, and with it everything below.
    pub fn remove_name(&mut self, name: NameId) {
        let hash = self.hash(self.parent(name), self.name_text(name));
        if let Ok(entry) = self.table.find_entry(hash, |id| *id == name.0) {
            entry.remove();
        }
    }

    /// Takes all names out of a directory, and with them everything below.
    pub fn remove_children(&mut self, directory: NameId) {
        if directory == NameId::ROOT {
            self.table.clear();
            return;
        }
        for name in self.live_names() {
            if self.parent(name) == directory {
                self.remove_name(name);
            }
        }
    }

    /// Lets a name that is no directory refer to another inode.
    pub fn set_inode(&mut self, name: NameId, inode: InodeId) {
        self.names[name.0 as usize].inode = inode;
    }

    /// The modification times of all inodes that have one.
    pub fn times(&self) -> impl Iterator<Item = Time> + '_ {
        self.inodes
            .iter()
            .filter_map(|inode| inode.attributes.mtime)
    }

    /// The names of every directory, sorted.
    pub fn children(&self) -> Children {
        let mut alive = vec![false; self.names.len()];
        for id in &self.table {
            alive[*id as usize] = true;
        }
        let alive_names = || {
            self.names
                .iter()
                .zip(&alive)
                .enumerate()
                .filter(|(_, (_, alive))| **alive)
        };
        // Where the names of each directory start; one more at the end.
        let mut starts = vec![0_u32; self.names.len() + 1];
        for (_, (name, _)) in alive_names() {
            starts[name.parent.0 as usize + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        // Filled in the order of creation: archives are often sorted already.
        let mut next = starts.clone();
        let mut names = vec![NameId::ROOT; self.table.len()];
        for (id, (name, _)) in alive_names() {
            let slot = &mut next[name.parent.0 as usize];
            names[*slot as usize] = NameId(id as u32);
            *slot += 1;
        }
        let mut rest = names.as_mut_slice();
        for range in starts.windows(2) {
            let (children, others) = rest.split_at_mut((range[1] - range[0]) as usize);
            children.sort_unstable_by(|a, b| self.name_text(*a).cmp(self.name_text(*b)));
            rest = others;
        }
        Children { starts, names }
    }
}

/// The names of every directory of a tree, sorted by their bytes.
pub struct Children {
    starts: Vec<u32>,
    names: Vec<NameId>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "numbers are made by the tree only, and nothing is taken out of its vectors"
)]
impl Children {
    /// The names in a directory.
    pub fn of(&self, directory: NameId) -> &[NameId] {
        let at = directory.0 as usize;
        let range = self.starts[at] as usize..self.starts[at + 1] as usize;
        self.names.get(range).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Inode {
        let attributes = Attributes {
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: None,
            xattrs: XattrSet::NONE,
        };
        let data = Data::Contiguous(512);
        Inode {
            attributes,
            content: Content::File {
                blob: 0,
                size: 3,
                data,
            },
        }
    }

    #[test]
    fn names_are_found_sorted_and_removed() {
        let mut tree = Tree::new();
        for name in ["b", "a", "-", "ab", "\u{fc}"] {
            let inode = tree.add_inode(file()).unwrap();
            tree.add_name(NameId::ROOT, name.as_bytes(), inode).unwrap();
        }
        let a = tree.lookup(NameId::ROOT, b"a").unwrap();
        assert_eq!(tree.path(a), b"/a");
        assert_eq!(tree.lookup(a, b"a"), None);
        let b = tree.lookup(NameId::ROOT, b"b").unwrap();
        tree.remove_name(b);
        assert_eq!(tree.lookup(NameId::ROOT, b"b"), None);
        let children = tree.children();
        let names: Vec<_> = children
            .of(NameId::ROOT)
            .iter()
            .map(|name| tree.name_text(*name))
            .collect();
        assert_eq!(names, [b"-".as_slice(), b"a", b"ab", "\u{fc}".as_bytes()]);
        assert!(children.of(a).is_empty());
    }

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Name>() <= 16);
        assert!(size_of::<Inode>() <= 80, "{}", size_of::<Inode>());
    }
}
