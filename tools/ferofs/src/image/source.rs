// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where the data of files comes from when it is copied into an image.

use crate::clusters::End;
use crate::directory;
use crate::directory::Identity;
use crate::read_at::ReadAt;
use crate::tar::Segment;
use crate::tree::Content;
use crate::tree::Data;
use crate::tree::NameId;
use crate::tree::Tree;
use rustix::io::Errno;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::path::PathBuf;

/// The data of a tree's files.
pub trait Source {
    /// Fills `buf` with the data of the file called `name` from `offset` on; of a compressed one with what is behind its
    /// inode.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or the file does not have as much.
    fn read(&self, tree: &Tree, name: NameId, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

/// No data: for images that have none in them. An index has none unless there are files with holes
/// whose data is not at multiples of its block size.
pub struct Nothing;

impl Source for Nothing {
    fn read(&self, _: &Tree, _: NameId, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other(
            "its data has to be copied, and is not at hand",
        ))
    }
}

/// The data is in blobs.
pub struct Blobs<R>(pub Vec<R>);

impl<R: ReadAt> Source for Blobs<R> {
    fn read(&self, tree: &Tree, name: NameId, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let Content::File { blob, data, size } = &tree.inode(tree.inode_of(name)).content else {
            return Nothing.read(tree, name, offset, buf);
        };
        let Some(file) = self.0.get(usize::from(*blob)) else {
            return Nothing.read(tree, name, offset, buf);
        };
        match data {
            Data::Contiguous(pos) => file.read_exact_at(buf, pos.saturating_add(offset)),
            Data::Sparse(segments) => read_sparse(file, segments, offset, buf),
            Data::StoredWithTail { end, .. } => {
                let left = size.saturating_sub(offset);
                file.read_exact_at(buf, end.saturating_sub(left))
            }
            Data::Compressed(compressed) => match compressed.end {
                Some(End::Inline { pos, .. }) => {
                    file.read_exact_at(buf, pos.saturating_add(offset))
                }
                _ => Nothing.read(tree, name, offset, buf),
            },
            Data::WithTail { .. }
            | Data::WithCopies(_)
            | Data::Encoding(_)
            | Data::Referred(_)
            | Data::Stored(_)
            | Data::StoredChunks(_)
            | Data::Original
            | Data::SparseOriginal(_) => Nothing.read(tree, name, offset, buf),
        }
    }
}

/// Fills `buf` from segments, and with zeros where there are none.
pub(crate) fn read_sparse(
    file: &(impl ReadAt + ?Sized),
    segments: &[Segment],
    offset: u64,
    buf: &mut [u8],
) -> io::Result<()> {
    let end = offset.saturating_add(buf.len() as u64);
    buf.fill(0);
    let first = segments.partition_point(|segment| segment.start + segment.len <= offset);
    for segment in segments
        .iter()
        .skip(first)
        .take_while(|segment| segment.start < end)
    {
        let from = segment.start.max(offset);
        let to = (segment.start + segment.len).min(end);
        let part = buf.get_mut((from - offset) as usize..(to - offset) as usize);
        file.read_exact_at(
            part.unwrap_or_default(),
            segment.pos + (from - segment.start),
        )?;
    }
    Ok(())
}

/// The data is in the files of a directory, under the paths they have in the tree.
pub struct Directory {
    root: PathBuf,
    /// The directory itself, and the one in it that the present file is in.
    directories: RefCell<Option<(directory::Directory, NameId, directory::Directory)>>,
    file: RefCell<Option<(NameId, File)>>,
}

impl Directory {
    /// For a tree that is like the directory `root`.
    pub fn new(root: PathBuf) -> Self {
        Directory {
            root,
            directories: RefCell::new(None),
            file: RefCell::new(None),
        }
    }

    /// Opens a file, which must be the one that the tree has: it may have become another one since it was listed,
    /// or a link.
    ///
    /// # Errors
    ///
    /// Those of opening it, and when it is another one.
    pub(crate) fn open(&self, tree: &Tree, name: NameId) -> io::Result<File> {
        let replaced = || io::Error::other("it was replaced while it was read");
        let or_replaced = |errno| match errno {
            Errno::LOOP | Errno::NOTDIR => replaced(),
            errno => io::Error::from(errno),
        };
        let above = tree.parent(name);
        let mut directories = self.directories.borrow_mut();
        let (root, at, directory) = match directories.take() {
            Some((root, at, directory)) if at == above => (root, at, directory),
            other => {
                let root = match other {
                    Some((root, ..)) => root,
                    None => directory::Directory::open(&self.root)?,
                };
                let mut names = Vec::new();
                let mut next = above;
                while next != NameId::ROOT {
                    names.push(tree.name_text(next));
                    next = tree.parent(next);
                }
                let names = names.into_iter().rev();
                let directory = root.walk(names).map_err(or_replaced)?;
                (root, above, directory)
            }
        };
        let file = directory.file(tree.name_text(name)).map_err(or_replaced);
        *directories = Some((root, at, directory));
        let file = file?;
        let found = Identity::from(&file.metadata()?);
        match tree.origin(tree.inode_of(name)) {
            Some(origin) if origin != found => Err(replaced()),
            _ => Ok(file),
        }
    }
}

impl Source for Directory {
    fn read(&self, tree: &Tree, name: NameId, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut open = self.file.borrow_mut();
        let file = match open.take() {
            Some((other, file)) if other == name => file,
            _ => self.open(tree, name)?,
        };
        let result = file.read_exact_at(buf, offset);
        *open = Some((name, file));
        result.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => io::Error::other("it became shorter while it was read"),
            _ => error,
        })
    }
}
