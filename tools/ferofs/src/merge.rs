// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From the indexes of several layers to one image over the blobs of all of them.
//!
//! Layers are applied as a container runtime extracts them, one on top of the other: whiteouts and
//! opaque directories, in the form of overlayfs or of AUFS, take away what the layers below have,
//! and are gone themselves then. A directory that is in both is one; anything else is replaced. A
//! directory that its layer's archive only implied, by something in it, says nothing about the one
//! below, and leads through it if that is a symbolic link.

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Result;
use crate::image::Device;
use crate::inspect::Image;
use crate::inspect::Name;
use crate::mount::blobs;
use crate::tar::Segment;
use crate::tar::Time;
use crate::text::Escaped;
use crate::text::Quoted;
use crate::tree::Attributes;
use crate::tree::Content;
use crate::tree::Data;
use crate::tree::Full;
use crate::tree::Inode;
use crate::tree::InodeId;
use crate::tree::NameId;
use crate::tree::Tree;
use crate::tree::Xattr;
use crate::tree::XattrSet;
use crate::tree::apply::Applier;
use crate::tree::whiteouts;
use crate::tree::whiteouts::Carrier;
use crate::tree::whiteouts::Meaning;
use erofs_format::FileKind;
use erofs_format::Source;
use erofs_format::split_xattr_name;
use std::collections::HashMap;
use std::collections::HashSet;

/// The layers so far.
#[derive(Default)]
pub struct Merge {
    tree: Tree,
    devices: Vec<Device>,
    by_digest: HashMap<Digest, u16>,
}

fn full(_: Full) -> Error {
    Error::Request(Full.to_string())
}

impl Merge {
    /// No layers: an empty root directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a layer on top of those before.
    ///
    /// # Errors
    ///
    /// When the image cannot be read, or is no index: has the data of files in itself. The merge is
    /// of no use then.
    pub fn apply(&mut self, image: &Image) -> Result<()> {
        let blobs = self.add_devices(image)?;
        let layer = Layer {
            image,
            blobs,
            tree: &mut self.tree,
            inodes: HashMap::new(),
            seen: HashSet::new(),
        };
        layer.apply()
    }

    /// The tree of all layers together, and the devices that it has its data in.
    pub fn finish(self) -> (Tree, Vec<Device>) {
        (self.tree, self.devices)
    }

    /// What the devices of a layer are in the merged image: one that is there already is not added
    /// again.
    fn add_devices(&mut self, image: &Image) -> Result<Vec<Blob>> {
        let path = image.path().display();
        let mut blobs = Vec::new();
        for (index, slot) in image.devices()?.iter().enumerate() {
            let number = index + 1;
            let digest = blobs::tag(slot);
            if digest.is_none() && !slot.name().is_empty() {
                let tag = Escaped(slot.name());
                return Err(Error::Request(format!(
                    "{path}: device {number} has the tag {tag}, expected a sha256 or none"
                )));
            }
            let block = u64::from(image.superblock().block_size());
            let size = slot.blocks.saturating_mul(block);
            let known = digest.and_then(|digest| self.by_digest.get(&digest).copied());
            if let Some(known) = known {
                let other = self.devices.get(usize::from(known));
                if other.is_some_and(|other| other.size != size) {
                    return Err(Error::Request(format!(
                        "{path}: device {number} has {size} bytes, but that of another layer with \
                         the same sha256 has another size"
                    )));
                }
                blobs.push(Blob {
                    number: known,
                    size,
                });
                continue;
            }
            let added = u16::try_from(self.devices.len())
                .map_err(|_| Error::Request(format!("{path}: more than 65535 devices")))?;
            self.devices.push(Device { size, digest });
            if let Some(digest) = digest {
                self.by_digest.insert(digest, added);
            }
            blobs.push(Blob {
                number: added,
                size,
            });
        }
        Ok(blobs)
    }
}

/// A device of a layer.
#[derive(Clone, Copy)]
struct Blob {
    /// Its number in the merged image.
    number: u16,
    /// Its size in bytes.
    size: u64,
}

/// A layer that is being applied.
struct Layer<'a> {
    image: &'a Image,
    /// Its devices, in their order.
    blobs: Vec<Blob>,
    tree: &'a mut Tree,
    /// Files with several names.
    inodes: HashMap<u64, InodeId>,
    /// Directories: each is in the tree once.
    seen: HashSet<u64>,
}

impl Layer<'_> {
    fn apply(mut self) -> Result<()> {
        let root = self.image.root()?;
        let (attributes, opaque) = self.attributes(&root)?;
        if opaque {
            self.tree.remove_children(NameId::ROOT);
        }
        self.describe(NameId::ROOT, attributes)?;
        self.seen.insert(root.nid());
        let mut left = vec![(NameId::ROOT, root)];
        while let Some((directory, inode)) = left.pop() {
            self.directory(directory, &inode, &mut left)?;
        }
        Ok(())
    }

    /// An error about something in the image.
    fn error(&self, directory: NameId, name: &[u8], problem: &str) -> Error {
        let mut path = self.tree.path(directory);
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let (image, path) = (self.image.path().display(), Quoted(&path));
        Error::Request(format!("{image}: {path}: {problem}"))
    }

    /// Applies what is in a directory of the layer to one of the tree.
    fn directory(
        &mut self,
        directory: NameId,
        inode: &erofs_format::Inode,
        left: &mut Vec<(NameId, erofs_format::Inode)>,
    ) -> Result<()> {
        let mut added = Vec::new();
        for name in self.image.names(inode)? {
            if matches!(name.name.as_slice(), b"." | b"..") {
                continue;
            }
            let found = self.image.inode(name.nid)?;
            let carrier = match found.kind() {
                FileKind::CharacterDevice if found.rdev() == 0 => Carrier::Device,
                FileKind::Directory if self.is_implied(&found) => Carrier::Implied,
                _ => Carrier::Other,
            };
            // Whiteouts are about the layers below only, so they come first.
            match whiteouts::meaning(&name.name, carrier) {
                Meaning::File => added.push((name, found)),
                Meaning::Hides(hidden) => {
                    if let Some(hidden) = self.tree.lookup(directory, hidden) {
                        self.tree.remove_name(hidden);
                    }
                    // A directory may be a whiteout and yet have something in it.
                    if found.kind() == FileKind::Directory && self.image.names(&found)?.len() > 2 {
                        added.push((name, found));
                    }
                }
                Meaning::Opaque => self.tree.remove_children(directory),
                Meaning::Nothing => {}
                Meaning::Invalid => {
                    let problem = "a whiteout, expected a name behind \".wh.\"";
                    return Err(self.error(directory, &name.name, problem));
                }
            }
        }
        for (name, found) in added {
            if found.kind() == FileKind::Directory {
                if !self.seen.insert(found.nid()) {
                    return Err(self.error(directory, &name.name, "a directory with two names"));
                }
                let entered = self.enter(directory, &name.name, &found)?;
                left.push((entered, found));
            } else {
                self.file(directory, &name, &found)?;
            }
        }
        Ok(())
    }

    /// The directory of the tree that one of the layer is.
    fn enter(
        &mut self,
        directory: NameId,
        name: &[u8],
        inode: &erofs_format::Inode,
    ) -> Result<NameId> {
        let (attributes, opaque) = self.attributes(inode)?;
        let below = self.tree.lookup(directory, name);
        let entered = if attributes.mtime.is_none() && below.is_some() {
            Applier::new(self.tree, 0)
                .enter_implied(directory, name)
                .map_err(|problem| self.error(directory, name, &problem))?
        } else {
            match below {
                Some(below) if self.tree.is_directory(below) => below,
                below => {
                    if let Some(below) = below {
                        self.tree.remove_name(below);
                    }
                    let content = Content::Directory;
                    let added = self
                        .tree
                        .add_inode(Inode {
                            attributes: Attributes {
                                xattrs: XattrSet::NONE,
                                ..attributes
                            },
                            content,
                        })
                        .map_err(full)?;
                    self.tree.add_name(directory, name, added).map_err(full)?
                }
            }
        };
        if opaque {
            self.tree.remove_children(entered);
        }
        self.describe(entered, attributes)?;
        Ok(entered)
    }

    /// Gives a directory its attributes in this layer. Extended ones of the layers below stay, as
    /// nobody takes them away.
    fn describe(&mut self, name: NameId, attributes: Attributes) -> Result<()> {
        let inode = self.tree.inode_of(name);
        let old = self.tree.inode(inode).attributes;
        let mut xattrs = self.tree.xattrs().list(attributes.xattrs);
        for xattr in self.tree.xattrs().list(old.xattrs) {
            let same = |other: &Xattr| (other.prefix, &other.name) == (xattr.prefix, &xattr.name);
            if !xattrs.iter().any(same) {
                xattrs.push(xattr);
            }
        }
        let xattrs = self.tree.xattrs_mut().set(xattrs).map_err(full)?;
        let new = match attributes.mtime {
            Some(_) => attributes,
            None => old,
        };
        self.tree.inode_mut(inode).attributes = Attributes { xattrs, ..new };
        Ok(())
    }

    /// Puts something that is no directory into the tree.
    fn file(&mut self, directory: NameId, name: &Name, found: &erofs_format::Inode) -> Result<()> {
        let known = self.inodes.get(&found.nid()).copied();
        let inode = match known {
            Some(inode) => inode,
            None => {
                let (attributes, _) = self.attributes(found)?;
                let content = self.content(directory, name, found)?;
                let inode = self
                    .tree
                    .add_inode(Inode {
                        attributes,
                        content,
                    })
                    .map_err(full)?;
                if found.nlink() > 1 {
                    self.inodes.insert(found.nid(), inode);
                }
                inode
            }
        };
        match self.tree.lookup(directory, &name.name) {
            Some(below) if !self.tree.is_directory(below) => self.tree.set_inode(below, inode),
            below => {
                if let Some(below) = below {
                    self.tree.remove_name(below);
                }
                self.tree
                    .add_name(directory, &name.name, inode)
                    .map_err(full)?;
            }
        }
        Ok(())
    }

    /// What a file has besides its content, and whether it is an opaque directory.
    fn attributes(&mut self, inode: &erofs_format::Inode) -> Result<(Attributes, bool)> {
        let mut opaque = false;
        let mut xattrs = Vec::new();
        if inode.xattr_size() > 0 {
            for (name, value) in self.image.xattrs(inode)? {
                let Some((prefix, rest)) = split_xattr_name(&name) else {
                    continue;
                };
                let xattr = Xattr {
                    prefix,
                    name: rest.into(),
                    value: value.into(),
                };
                if inode.kind() == FileKind::Directory && whiteouts::is_opaque(&xattr) {
                    opaque |= *xattr.value == *b"y";
                } else {
                    xattrs.push(xattr);
                }
            }
        }
        let xattrs = self.tree.xattrs_mut().set(xattrs).map_err(full)?;
        let time = Time {
            sec: inode.mtime(),
            nsec: inode.mtime_nsec(),
        };
        let attributes = Attributes {
            mode: inode.mode() & 0o7777,
            uid: inode.uid(),
            gid: inode.gid(),
            mtime: (!self.is_implied(inode)).then_some(time),
            xattrs,
        };
        Ok((attributes, opaque))
    }

    /// Whether a directory is there only because something is in it: the builder gives it no
    /// number of its own then. Other builders may give none to anything, hence the rest.
    fn is_implied(&self, inode: &erofs_format::Inode) -> bool {
        inode.kind() == FileKind::Directory
            && inode.disk_ino() == 0
            && inode.mode() & 0o7777 == 0o755
            && inode.mtime() == self.image.superblock().epoch()
    }

    fn content(
        &mut self,
        directory: NameId,
        name: &Name,
        inode: &erofs_format::Inode,
    ) -> Result<Content> {
        let (major, minor) = (inode.rdev_major(), inode.rdev_minor());
        Ok(match inode.kind() {
            FileKind::Directory => Content::Directory,
            FileKind::Symlink => {
                let target = self.image.link_target(inode)?;
                Content::Symlink(self.tree.keep(&target).map_err(full)?)
            }
            FileKind::CharacterDevice => Content::CharDevice(major, minor),
            FileKind::BlockDevice => Content::BlockDevice(major, minor),
            FileKind::Fifo => Content::Fifo,
            FileKind::Socket => Content::Socket,
            FileKind::Regular => self.data(directory, name, inode)?,
        })
    }

    /// The device with a number in the layer; they start with 1.
    fn blob(&self, id: u16) -> Option<Blob> {
        self.blobs.get(usize::from(id).checked_sub(1)?).copied()
    }

    /// Where the data of a regular file is.
    fn data(&self, directory: NameId, name: &Name, inode: &erofs_format::Inode) -> Result<Content> {
        let mut blob = None;
        let mut segments: Vec<Segment> = Vec::new();
        for extent in self.image.extents(inode) {
            let extent = extent?;
            let (id, pos) = match extent.source {
                Source::Hole => continue,
                Source::Device { id, pos } if id > 0 => (id, pos),
                Source::Device { .. } | Source::Metadata { .. } => {
                    let problem = "its data is in the image, expected an index: layers are merged \
                                   without their data";
                    return Err(self.error(directory, &name.name, problem));
                }
            };
            if blob.is_some_and(|blob| blob != id) {
                let problem = "its data is in several devices, expected one";
                return Err(self.error(directory, &name.name, problem));
            }
            let size = self.blob(id).map_or(0, |blob| blob.size);
            let end = pos.saturating_add(extent.len);
            if end > size {
                let problem =
                    format!("its data is at {pos} to {end} of device {id}, which has {size} bytes");
                return Err(self.error(directory, &name.name, &problem));
            }
            blob = Some(id);
            match segments.last_mut() {
                Some(last)
                    if last.start + last.len == extent.start && last.pos + last.len == pos =>
                {
                    last.len += extent.len;
                }
                _ => segments.push(Segment {
                    start: extent.start,
                    len: extent.len,
                    pos,
                }),
            }
        }
        let blob = blob.and_then(|id| self.blob(id));
        let size = inode.size();
        let data = match segments.as_slice() {
            [] if size == 0 => Data::Contiguous(0),
            [all] if all.len == size => Data::Contiguous(all.pos),
            _ => Data::Sparse(segments.into()),
        };
        Ok(Content::File {
            blob: blob.map_or(0, |blob| blob.number),
            size,
            data,
        })
    }
}
