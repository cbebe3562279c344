// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From the indexes of several layers to one image over the blobs of all of them.
//!
//! Layers are applied as a container runtime extracts them, one on top of the other: whiteouts and
//! opaque directories, in the form of overlayfs or of AUFS, take away what the layers below have,
//! and are gone themselves then. A directory that is in both is one; anything else is replaced. A
//! directory that its layer's archive only implied, by something in it, says nothing about the one
//! below, and leads through it if that is a symbolic link.
//!
//! Both `ferofs merge` and the merged image of a container come from [`Merge::finish`]: [`Merged`] is the tree with all that
//! an image of it needs to be right.
//!
//! The data stays where it is: in the blobs of the layers' indexes, and in the layers' images
//! themselves if those have all of it, compressed or not. Copied is what is behind inodes there, where nothing else can
//! refer to it, and the data that an index has besides that in its blobs.
//!
//! ```
//! use ferofs::inspect::Image;
//! use ferofs::merge::Merge;
//! use std::path::Path;
//!
//! # use ferofs::image;
//! # use ferofs::tar::{Data, Entry, Kind};
//! # use ferofs::tree::Tree;
//! # use ferofs::tree::apply::apply_all;
//! # let mut tree = Tree::new();
//! # let kind = Kind::File { size: 6, data: Data::Contiguous(0) };
//! # apply_all(&mut tree, 0, [Entry::new(b"etc/motd", kind)])?;
//! # let options = image::Options::default().with_mode(image::Mode::Full);
//! # let mut out = std::io::Cursor::new(Vec::new());
//! # let data = image::source::Blobs(vec![b"Hello!".as_slice()]);
//! # image::write(&tree, &options, &data, &mut out)?;
//! # let bytes = out.into_inner();
//! let mut merge = Merge::new();
//! let base = Image::new(Path::new("base.erofs"), Box::new(bytes.clone()))?;
//! let app = Image::new(Path::new("app.erofs"), Box::new(bytes))?;
//! for layer in [base, app] {
//!     merge.apply(&layer)?;
//! }
//! let merged = merge.finish()?;
//! for note in &merged.notes {
//!     println!("{note}");
//! }
//! let options = merged.options().with_label(*b"both of them\0\0\0\0");
//! let path = std::env::temp_dir().join(format!("merged-{}.erofs", std::process::id()));
//! let file = std::fs::File::create(&path)?;
//! let summary = merged.write_file(&options, &file)?;
//! assert_eq!(summary.inodes, 3);
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compressed;

use crate::blobs::Tag;
use crate::clusters::referred::Announced;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::image;
use crate::image::Device;
use crate::image::source::Nothing;
use crate::image::source::read_sparse;
use crate::inspect::Image;
use crate::inspect::Name;
use crate::read_at::ReadAt;
use crate::tar::Segment;
use crate::tar::SharedXattrs;
use crate::tar::Time;
use crate::text::Quoted;
use crate::text::Shown;
use crate::tree::Attributes;
use crate::tree::Content;
use crate::tree::Data;
use crate::tree::FingerprintName;
use crate::tree::Full;
use crate::tree::Inode;
use crate::tree::InodeId;
use crate::tree::NameId;
use crate::tree::Tree;
use crate::tree::WithCopies;
use crate::tree::Xattr;
use crate::tree::XattrSet;
use crate::tree::apply::Applier;
use crate::tree::edit;
use crate::tree::edit::Edit;
use crate::tree::exclude::Exclude;
use crate::tree::whiteouts;
use crate::tree::whiteouts::Carrier;
use crate::tree::whiteouts::Form;
use crate::tree::whiteouts::Meaning;
use compressed::Compressed;
use compressed::OfLayer;
use erofs_format::Extent;
use erofs_format::FileKind;
use erofs_format::Layout;
use erofs_format::Metadata;
use erofs_format::Source;
use erofs_format::Space;
use erofs_format::ondisk;
use erofs_format::split_xattr_name;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// More notes than this help nobody.
const MAX_NOTES: usize = 20;

/// What is said of a file with parts that would be copied, of which some are in the metabox.
const TWO_SOURCES: &str =
    "its data would be copied out of the image and the metabox, expected one of them";

/// The layers so far.
pub struct Merge {
    tree: Tree,
    devices: Vec<Device>,
    by_tag: HashMap<Tag, u16>,
    whiteouts: Form,
    exclude: Exclude,
    edit: Edit,
    /// The layer with the smallest block size, and that as a power of two.
    smallest: Option<(PathBuf, u8)>,
    compressed: Compressed,
    tails: Tails,
    notes: BTreeSet<String>,
}

/// All layers together.
#[non_exhaustive]
pub struct Merged {
    /// Their files.
    pub tree: Tree,
    /// What the data is in.
    pub devices: Vec<Device>,
    /// The data that their image has itself.
    pub tails: Tails,
    /// What it says of compressed data, if there is some.
    pub referred: Option<Announced>,
    /// The block size that the data of all layers is aligned to, as a power of two.
    pub block_bits: u8,
    /// What was left out.
    pub notes: Vec<String>,
}

impl Merged {
    /// What an image of them has to be like; all the rest is the default.
    pub fn options(&self) -> image::Options {
        image::Options {
            devices: self.devices.clone(),
            referred: self.referred.clone(),
            block_bits: self.block_bits,
            ..image::Options::default()
        }
    }

    /// Writes the image to an empty file. `options` are from [`Self::options`].
    ///
    /// # Errors
    ///
    /// Those of [`image::write_file`].
    pub fn write_file(
        &self,
        options: &image::Options,
        file: &File,
    ) -> std::result::Result<image::Summary, image::Error> {
        image::write_file(&self.tree, options, &self.tails, file)
    }
}

impl Default for Merge {
    fn default() -> Self {
        Merge {
            tree: Tree::new(),
            devices: Vec::new(),
            by_tag: HashMap::new(),
            whiteouts: Form::Applied,
            exclude: Exclude::default(),
            edit: Edit::default(),
            smallest: None,
            compressed: Compressed::default(),
            tails: Tails::default(),
            notes: BTreeSet::new(),
        }
    }
}

/// What a merged image gets of files from its layers' images: mostly their ends.
#[derive(Default)]
pub struct Tails(Vec<Arc<dyn ReadAt>>);

impl image::Source for Tails {
    fn read(&self, tree: &Tree, name: NameId, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let Content::File { size, data, .. } = &tree.inode(tree.inode_of(name)).content else {
            return Nothing.read(tree, name, offset, buf);
        };
        match data {
            Data::WithTail {
                end, tail, from, ..
            } => {
                let left = size.saturating_sub(offset);
                let image = self.0.get(usize::from(*from));
                if let Some(image) = image.filter(|_| left <= u64::from(*tail)) {
                    return image.read_exact_at(buf, end.saturating_sub(left));
                }
            }
            Data::Referred(referred) => {
                let (source, start, _) = referred.inline().unwrap_or_default();
                let image = self.0.get(usize::from(source));
                if let Some(image) = image.filter(|_| referred.inline().is_some()) {
                    return image.read_exact_at(buf, start.saturating_add(offset));
                }
            }
            Data::WithCopies(parts) => {
                let end = offset.saturating_add(buf.len() as u64);
                let elsewhere = |segment: &Segment| {
                    segment.start < end && offset < segment.start.saturating_add(segment.len)
                };
                let image = self.0.get(usize::from(parts.from));
                if let Some(image) = image.filter(|_| !parts.segments.iter().any(elsewhere)) {
                    return read_sparse(image.as_ref(), &parts.copied, offset, buf);
                }
            }
            _ => {}
        }
        Nothing.read(tree, name, offset, buf)
    }
}

fn full(_: Full) -> Error {
    Error::of(Kind::TooLarge, Full.to_string())
}

impl Merge {
    /// No layers: an empty root directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what becomes of whiteouts when all layers are applied. By default they are gone; in another form the
    /// result is a layer itself: what its layers say of those below the lowest one stays.
    #[must_use]
    pub fn with_whiteouts(mut self, form: Form) -> Self {
        self.whiteouts = form;
        self
    }

    /// Leaves out files of the result.
    #[must_use]
    pub fn with_exclude(mut self, exclude: Exclude) -> Self {
        self.exclude = exclude;
        self
    }

    /// Changes all files of the result.
    #[must_use]
    pub fn with_edit(mut self, edit: Edit) -> Self {
        self.edit = edit;
        self
    }

    /// Applies a layer on top of those before.
    ///
    /// # Errors
    ///
    /// When the image cannot be read, or a file that is not compressed has its data in several blobs. The merge is of no use
    /// then.
    pub fn apply(&mut self, image: &Image) -> Result<()> {
        self.apply_known(image, None)
    }

    /// The same with the sha256 of the image, or its fs-verity digest. If the image has data, it is a blob of the merged
    /// one, and can be found by that.
    ///
    /// # Errors
    ///
    /// Those of [`Self::apply`].
    pub fn apply_known(&mut self, image: &Image, tag: Option<Tag>) -> Result<()> {
        let blobs = self.add_devices(image)?;
        let bits = image.superblock().block_size().trailing_zeros() as u8;
        if self
            .smallest
            .as_ref()
            .is_none_or(|(_, other)| bits < *other)
        {
            self.smallest = Some((image.path().to_path_buf(), bits));
        }
        let fingerprints = image.fingerprints()?;
        if fingerprints.is_some() {
            // Whatever its name is there: a hidden one is no layer's to give to another attribute.
            let name = FingerprintName::default();
            self.tree.set_fingerprint_name(Some(name));
        }
        let layer = Layer {
            image,
            blobs,
            own_blob: None,
            tag,
            by_tag: &mut self.by_tag,
            devices: &mut self.devices,
            tails: &mut self.tails,
            own_tails: None,
            kept: None,
            all_compressed: &mut self.compressed,
            compressed: OfLayer::default(),
            notes: &mut self.notes,
            keep: self.whiteouts != Form::Applied,
            below: self.tree.inode_count(),
            tree: &mut self.tree,
            inodes: HashMap::new(),
            moved: HashMap::new(),
            left: Work::new(image.size()),
            seen: HashSet::new(),
            last_xattrs: None,
            fingerprints,
        };
        layer.apply()
    }

    /// All layers together.
    ///
    /// # Errors
    ///
    /// When there is no room for what whiteouts become, a file cannot be changed as wanted, or a layer with compressed files
    /// has larger blocks than another layer.
    pub fn finish(self) -> Result<Merged> {
        let mut tree = self.tree;
        let mut notes: Vec<String> = self.notes.into_iter().collect();
        self.exclude.apply(&mut tree);
        let failed = |problem: &dyn fmt::Display| Error::of(Kind::Damaged, problem.to_string());
        match self.whiteouts {
            Form::Applied => {}
            // They have that form already.
            Form::Overlay => whiteouts::mark(&mut tree).map_err(full)?,
            Form::Aufs => {
                let converted = whiteouts::convert(&mut tree, Form::Aufs);
                notes.append(&mut converted.map_err(|problem| failed(&problem))?);
            }
        }
        edit::apply(&mut tree, &self.edit).map_err(|problem| failed(&problem))?;
        let bits = self.smallest.as_ref().map(|(_, bits)| *bits);
        let block_bits = bits.unwrap_or(ondisk::BLOCK_BITS_MIN);
        let referred = self.compressed.finish(self.smallest.as_ref())?;
        Ok(Merged {
            tree,
            devices: self.devices,
            tails: self.tails,
            referred,
            block_bits: block_bits.clamp(ondisk::BLOCK_BITS_MIN, 12),
            notes,
        })
    }

    /// What the devices of a layer are in the merged image: one that is there already is not added
    /// again.
    fn add_devices(&mut self, image: &Image) -> Result<Vec<Blob>> {
        let path = Shown(image.path());
        let mut blobs = Vec::new();
        let headers = image.header_digests()?;
        for (index, (slot, headers)) in image.devices()?.iter().zip(headers).enumerate() {
            let number = index + 1;
            let known_as = Tag::of(slot);
            if known_as.is_none() && !slot.name().is_empty() && self.notes.len() < MAX_NOTES {
                let tag = Quoted(slot.name());
                self.notes.insert(format!(
                    "{path}: device {number} has the tag {tag}, which is no sha256 and no fs-verity digest, and is left \
                     out"
                ));
            }
            let block = u64::from(image.superblock().block_size());
            let size = slot.blocks.saturating_mul(block);
            let known = known_as.and_then(|tag| self.by_tag.get(&tag).copied());
            if let (Some(known), Some(tag)) = (known, known_as) {
                let other = self.devices.get(usize::from(known));
                if other.is_some_and(|other| other.size != size) {
                    return Err(Error::of(
                        Kind::Damaged,
                        format!(
                            "{path}: device {number} has {size} bytes, but that of another layer with \
                         the same {} has another size",
                            tag.kind()
                        ),
                    ));
                }
                blobs.push(Blob {
                    number: known,
                    size,
                });
                continue;
            }
            let added = add_device(
                &mut self.devices,
                image,
                device(size, known_as).with_headers(headers),
            )?;
            if let Some(tag) = known_as {
                self.by_tag.insert(tag, added);
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

/// A device that is known by a tag.
fn device(size: u64, tag: Option<Tag>) -> Device {
    let device = Device::new(size);
    match tag {
        Some(Tag::Sha256(digest)) => device.with_digest(Some(digest)),
        Some(Tag::Verity(digest)) => device.with_verity(Some(digest)),
        None => device,
    }
}

/// Adds a device that is not there yet.
fn add_device(devices: &mut Vec<Device>, image: &Image, device: Device) -> Result<u16> {
    let path = Shown(image.path());
    let added = u16::try_from(devices.len())
        .map_err(|_| Error::of(Kind::TooLarge, format!("{path}: more than 65535 devices")))?;
    devices.push(device);
    Ok(added)
}

/// How much may still be in a layer. Where parts of an image lie on top of each other there is no
/// end to what can be in it, so this goes by what fits into it when they do not.
struct Work {
    names: u64,
    extents: u64,
    /// Of attributes, which many files may have in common.
    bytes: u64,
    /// Of data that is copied.
    copied: u64,
    /// Of indexes of compressed files.
    indexes: u64,
    /// Of data that is copied and kept in memory.
    kept: u64,
}

impl Work {
    fn new(size: u64) -> Self {
        Work {
            names: 1024 + size / size_of::<ondisk::DirectoryEntry>() as u64,
            extents: 1024 + size / 4,
            bytes: (16 << 20) + size.saturating_mul(64),
            copied: (16 << 20) + size.saturating_mul(64),
            // Those of a metabox may be compressed.
            indexes: (16 << 20) + size.saturating_mul(8),
            kept: (16 << 20) + size.saturating_mul(8),
        }
    }
}

/// A layer that is being applied.
struct Layer<'a> {
    image: &'a Image,
    /// Its devices, in their order.
    blobs: Vec<Blob>,
    /// The image itself, if it has data.
    own_blob: Option<Blob>,
    /// What it can be found by, if that is known.
    tag: Option<Tag>,
    /// The same of the devices of the merged image.
    by_tag: &'a mut HashMap<Tag, u16>,
    /// The devices of the merged image.
    devices: &'a mut Vec<Device>,
    /// What ends of files are copied from.
    tails: &'a mut Tails,
    /// The number of the image itself among them, if it has some.
    own_tails: Option<u16>,
    /// What is copied out of the metabox, which is no file to copy from later, and its number among those.
    kept: Option<(u16, Vec<u8>)>,
    /// What is known of the compressed files of all layers, and of this one.
    all_compressed: &'a mut Compressed,
    compressed: OfLayer,
    notes: &'a mut BTreeSet<String>,
    /// Whether whiteouts stay.
    keep: bool,
    /// How many inodes the layers below have: those with greater numbers are this layer's.
    below: usize,
    tree: &'a mut Tree,
    /// Files that have a name already.
    inodes: HashMap<u64, InodeId>,
    /// Directories of the tree that have another name there since they were emptied.
    moved: HashMap<NameId, NameId>,
    left: Work,
    /// Directories: each is in the tree once.
    seen: HashSet<u64>,
    last_xattrs: Option<LastXattrs>,
    /// The attribute that the image has fingerprints in, if it has some.
    fingerprints: Option<FingerprintName>,
}

/// What the last file's attributes became.
struct LastXattrs {
    found: SharedXattrs,
    directory: bool,
    set: (XattrSet, bool),
}

impl LastXattrs {
    /// The same for a file that has this list of attributes, if that is known.
    fn of(&self, inode: &erofs_format::Inode, found: &SharedXattrs) -> Option<(XattrSet, bool)> {
        let directory = inode.kind() == FileKind::Directory;
        (directory == self.directory && Arc::ptr_eq(&self.found, found)).then_some(self.set)
    }
}

impl Layer<'_> {
    fn apply(mut self) -> Result<()> {
        let root = self.image.root()?;
        let (attributes, opaque) = self.directory_attributes(&root)?;
        if opaque {
            self.tree.remove_children(NameId::ROOT);
        }
        self.describe(NameId::ROOT, attributes)?;
        if opaque {
            self.stay_opaque(NameId::ROOT)?;
        }
        self.seen.insert(root.nid());
        let mut left = vec![(NameId::ROOT, root)];
        while let Some((directory, inode)) = left.pop() {
            let mut directory = directory;
            while let Some(moved) = self.moved.get(&directory) {
                directory = *moved;
            }
            self.directory(directory, &inode, &mut left)?;
        }
        if let Some((number, bytes)) = self.kept {
            if let Some(place) = self.tails.0.get_mut(usize::from(number)) {
                *place = Arc::new(bytes);
            }
        }
        Ok(())
    }

    /// An error about something that is wrong in the image.
    fn error(&self, directory: NameId, name: &[u8], problem: &str) -> Error {
        self.error_of(Kind::Damaged, directory, name, problem)
    }

    /// An error about something in the image that is sound, and yet cannot be merged.
    fn refuse(&self, directory: NameId, name: &[u8], problem: &str) -> Error {
        self.error_of(Kind::Unsupported, directory, name, problem)
    }

    fn error_of(&self, kind: Kind, directory: NameId, name: &[u8], problem: &str) -> Error {
        let mut path = self.tree.path(directory);
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let (image, path) = (Shown(self.image.path()), Quoted(&path));
        Error::of(kind, format!("{image}: {path}: {problem}"))
    }

    /// What is left of `budget`, of which `used` is used.
    fn spend(&self, budget: u64, used: u64) -> Result<u64> {
        budget.checked_sub(used).ok_or_else(|| {
            let (path, size) = (Shown(self.image.path()), self.image.size());
            Error::of(Kind::Damaged, format!(
                "{path}: more in it than {size} bytes have room for: parts of it lie on top of each \
                 other"
            ))
        })
    }

    /// Applies what is in a directory of the layer to one of the tree.
    fn directory(
        &mut self,
        directory: NameId,
        inode: &erofs_format::Inode,
        left: &mut Vec<(NameId, erofs_format::Inode)>,
    ) -> Result<()> {
        let implied = self.is_implied(inode);
        let mut added = Vec::new();
        let names = self.image.names(inode)?;
        self.left.names = self.spend(self.left.names, names.len() as u64)?;
        for name in names {
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
                    match self.tree.lookup(directory, hidden) {
                        // The layer was here before, by a symbolic link or the other form.
                        Some(own) if self.is_own(own) => {}
                        below => {
                            if let Some(below) = below {
                                self.tree.remove_name(below);
                            }
                            if self.keep {
                                self.stay_hidden(directory, hidden, &found)?;
                            }
                        }
                    }
                    // A directory may be a whiteout and yet have something in it.
                    if found.kind() == FileKind::Directory && self.image.names(&found)?.len() > 2 {
                        added.push((name, found));
                    }
                }
                // Seen when the directory was entered.
                Meaning::Opaque | Meaning::Nothing => {}
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
                let entered = self.enter(directory, implied, &name.name, &found)?;
                left.push((entered, found));
            } else {
                self.file(directory, &name, &found)?;
            }
        }
        Ok(())
    }

    /// A directory without what is in it; it has another name in the tree then.
    fn emptied(&mut self, directory: NameId) -> Result<NameId> {
        if directory == NameId::ROOT {
            self.tree.remove_children(directory);
            return Ok(directory);
        }
        // Another name in its place, which nothing is below.
        let (parent, inode) = (self.tree.parent(directory), self.tree.inode_of(directory));
        let name = self.tree.name_text(directory).to_vec();
        self.tree.remove_name(directory);
        let new = self.tree.add_name(parent, &name, inode).map_err(full)?;
        self.moved.insert(directory, new);
        Ok(new)
    }

    /// Says that a directory hides what the layers below the lowest one have in it, if that is
    /// wanted.
    fn stay_opaque(&mut self, directory: NameId) -> Result<()> {
        match self.keep {
            true => whiteouts::make_opaque(self.tree, directory).map_err(full),
            false => Ok(()),
        }
    }

    /// Says that the layers below the lowest one have nothing under a name.
    fn stay_hidden(
        &mut self,
        directory: NameId,
        name: &[u8],
        whiteout: &erofs_format::Inode,
    ) -> Result<()> {
        let (attributes, _) = self.attributes(whiteout)?;
        let inode = self.tree.add_inode(Inode {
            attributes: Attributes {
                mode: 0,
                xattrs: XattrSet::NONE,
                ..attributes
            },
            content: Content::CharDevice(0, 0),
        });
        let inode = inode.map_err(full)?;
        self.tree.add_name(directory, name, inode).map_err(full)?;
        Ok(())
    }

    /// The directory of the tree that one of the layer is. One that has to be made belongs to the
    /// owner of the directory it is in; if the layer only implies that, too, only the tree knows.
    fn enter(
        &mut self,
        directory: NameId,
        implied: bool,
        name: &[u8],
        inode: &erofs_format::Inode,
    ) -> Result<NameId> {
        let (attributes, opaque) = self.directory_attributes(inode)?;
        let below = self.tree.lookup(directory, name);
        let (mut follows, mut replaced) = (false, None);
        if let Some(below) = below {
            let old = self.tree.inode(self.tree.inode_of(below));
            follows = matches!(old.content, Content::Symlink(_)) && attributes.mtime.is_none();
            // What it takes the place of hid something, too.
            if old.content != Content::Directory && !follows {
                replaced = Some(old.attributes);
            }
        }
        let mut entered = if attributes.mtime.is_none() && (below.is_some() || implied) {
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
        if opaque && (follows || below == Some(entered)) {
            entered = self.emptied(entered)?;
            if attributes.mtime.is_some() {
                // Nothing is left of the one below: overlayfs shows nothing of it, either.
                let inode = self.tree.inode_of(entered);
                self.tree.inode_mut(inode).attributes.xattrs = XattrSet::NONE;
            }
        }
        self.describe(entered, attributes)?;
        if opaque || replaced.is_some() {
            self.stay_opaque(entered)?;
        }
        if let Some(replaced) = replaced.filter(|_| self.keep) {
            // It is another directory than any below, even if no layer has an entry for it.
            let inode = self.tree.inode_of(entered);
            let own = &mut self.tree.inode_mut(inode).attributes;
            own.mtime = own.mtime.or(replaced.mtime);
        }
        Ok(entered)
    }

    /// Gives a directory its attributes in this layer. Extended ones of the layers below stay, as
    /// nobody takes them away; but ACLs are part of the mode.
    fn describe(&mut self, name: NameId, attributes: Attributes) -> Result<()> {
        let inode = self.tree.inode_of(name);
        let old = self.tree.inode(inode).attributes;
        let keep_acls = attributes.mtime.is_none();
        let joined = self.tree.xattrs_mut();
        let xattrs = joined.join(attributes.xattrs, old.xattrs, keep_acls);
        let xattrs = xattrs.map_err(full)?;
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
                self.inodes.insert(found.nid(), inode);
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

    /// Whether a name leads to something that this layer brought.
    fn is_own(&self, name: NameId) -> bool {
        self.tree.inode_of(name).index() >= self.below
    }

    /// What a directory has besides what is in it, and whether it is opaque, in either form.
    fn directory_attributes(&mut self, inode: &erofs_format::Inode) -> Result<(Attributes, bool)> {
        let (attributes, opaque) = self.attributes(inode)?;
        if opaque {
            return Ok((attributes, true));
        }
        let Some(found) = self.image.lookup(inode, whiteouts::OPAQUE)? else {
            return Ok((attributes, false));
        };
        let carrier = match self.is_implied(&found) {
            true => Carrier::Implied,
            false => Carrier::Other,
        };
        let opaque = whiteouts::meaning(whiteouts::OPAQUE, carrier) == Meaning::Opaque;
        Ok((attributes, opaque))
    }

    /// What a file has besides its content, and whether it has the attribute of opaque directories.
    fn attributes(&mut self, inode: &erofs_format::Inode) -> Result<(Attributes, bool)> {
        let mut opaque = false;
        let mut xattrs = Vec::new();
        let (mut found, mut known) = (SharedXattrs::default(), Some((XattrSet::NONE, false)));
        if inode.xattr_size() > 0 {
            found = self.image.xattrs(inode)?;
            known = self
                .last_xattrs
                .as_ref()
                .and_then(|last| last.of(inode, &found));
        }
        if known.is_none() && !found.is_empty() {
            let bytes = found.iter().map(|(name, value)| name.len() + value.len());
            let bytes = bytes.sum::<usize>() as u64;
            self.left.bytes = self.spend(self.left.bytes, bytes)?;
            for (name, value) in found.iter() {
                let Some((prefix, rest)) = split_xattr_name(name) else {
                    continue;
                };
                let xattr = Xattr {
                    prefix,
                    name: rest.into(),
                    value: value.as_slice().into(),
                };
                let mut fingerprint = self.fingerprints.iter();
                if fingerprint.any(|name| name.is(xattr.prefix, &xattr.name)) {
                    continue;
                }
                if inode.kind() == FileKind::Directory && whiteouts::is_opaque(&xattr) {
                    opaque |= *xattr.value == *b"y";
                } else if !whiteouts::is_of_overlay(&xattr) {
                    xattrs.push(xattr);
                } else if !whiteouts::is_mark(&xattr) && self.notes.len() < MAX_NOTES {
                    let (path, name) = (Shown(self.image.path()), Quoted(name));
                    self.notes.insert(format!(
                        "{path}: extended attribute {name} is for overlayfs alone to write, and is left out"
                    ));
                }
            }
        }
        let xattrs = match known {
            Some((set, was_opaque)) => {
                opaque = was_opaque;
                set
            }
            None => self.tree.xattrs_mut().set(xattrs).map_err(full)?,
        };
        if inode.xattr_size() > 0 {
            let directory = inode.kind() == FileKind::Directory;
            self.last_xattrs = Some(LastXattrs {
                found,
                directory,
                set: (xattrs, opaque),
            });
        }
        let xattrs = self.with_fingerprint(inode, xattrs)?;
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

    /// A combination of attributes with a file's fingerprint, if it has one.
    fn with_fingerprint(
        &mut self,
        inode: &erofs_format::Inode,
        xattrs: XattrSet,
    ) -> Result<XattrSet> {
        let Some(name) = self.fingerprints.as_ref() else {
            return Ok(xattrs);
        };
        let Some(value) = self.image.fingerprint(inode, name)? else {
            return Ok(xattrs);
        };
        self.left.bytes = self.spend(self.left.bytes, value.len() as u64)?;
        let kept = FingerprintName::default();
        let set = self.tree.xattrs_mut();
        set.replace(xattrs, (kept.prefix, &kept.name), Some(&value))
            .map_err(full)
    }

    /// Whether a directory is there only because something is in it: the builder gives it no
    /// number of its own then. Other builders may give none to anything, hence the rest.
    fn is_implied(&self, inode: &erofs_format::Inode) -> bool {
        inode.kind() == FileKind::Directory
            && inode.disk_ino() == 0
            && inode.mode() & 0o7777 == 0o755
            && inode.mtime() == self.image.superblock().epoch()
    }

    /// The image itself as a device of the merged one.
    fn own_blob(&mut self) -> Result<Blob> {
        if let Some(blob) = self.own_blob {
            return Ok(blob);
        }
        let size = self.image.file().size();
        let tag = self.tag;
        let known = tag.and_then(|tag| self.by_tag.get(&tag).copied());
        let number = match known {
            Some(number) => number,
            None => add_device(self.devices, self.image, device(size, tag))?,
        };
        if let Some(tag) = tag {
            self.by_tag.insert(tag, number);
        }
        let blob = Blob { number, size };
        self.own_blob = Some(blob);
        Ok(blob)
    }

    /// The number of the image itself among those that ends of files are copied from.
    fn own_tails(&mut self) -> Result<u16> {
        if let Some(number) = self.own_tails {
            return Ok(number);
        }
        let number = self.add_tails(self.image.file().share())?;
        self.own_tails = Some(number);
        Ok(number)
    }

    /// Adds something that ends of files are copied from.
    fn add_tails(&mut self, bytes: Arc<dyn ReadAt>) -> Result<u16> {
        let path = Shown(self.image.path());
        let number = u16::try_from(self.tails.0.len())
            .map_err(|_| Error::of(Kind::TooLarge, format!("{path}: more than 65536 layers")))?;
        self.tails.0.push(bytes);
        Ok(number)
    }

    /// Keeps bytes of a space that is no file: where they are from now on, and the number of what they are in.
    fn keep_bytes(&mut self, space: Space, pos: u64, len: u64) -> Result<(u64, u16)> {
        self.left.kept = self.spend(self.left.kept, len)?;
        // The budget fits into memory.
        let bytes = self.image.read_in(space, pos, len as usize);
        let bytes = bytes.map_err(Error::io("read", self.image.path()))?;
        if bytes.len() as u64 != len {
            let (path, found) = (Shown(self.image.path()), bytes.len());
            let problem = format!(
                "{path}: {len} bytes are expected at {pos} of the metabox, which has {found}"
            );
            return Err(Error::of(Kind::Damaged, problem));
        }
        if self.kept.is_none() {
            // Until all of it is known.
            let number = self.add_tails(Arc::new(Vec::new()))?;
            self.kept = Some((number, Vec::new()));
        }
        let Some((number, kept)) = &mut self.kept else {
            return Ok((0, 0));
        };
        let at = kept.len() as u64;
        kept.extend_from_slice(&bytes);
        Ok((at, *number))
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

    /// The device with a number in the layer; they start with 1, and 0 is the layer's image.
    fn blob(&mut self, id: u16) -> Result<Option<Blob>> {
        match usize::from(id).checked_sub(1) {
            Some(index) => Ok(self.blobs.get(index).copied()),
            None => self.own_blob().map(Some),
        }
    }

    /// Where the data of a regular file is.
    fn data(
        &mut self,
        directory: NameId,
        name: &Name,
        inode: &erofs_format::Inode,
    ) -> Result<Content> {
        if matches!(inode.layout(), Layout::Compressed { .. }) && inode.size() > 0 {
            return self.compressed(directory, name, inode);
        }
        let (mut from, mut blob) = (None, None);
        let mut segments: Vec<Segment> = Vec::new();
        let mut copied: Vec<Segment> = Vec::new();
        // What the copies are made from.
        let mut source: Option<u16> = None;
        for extent in self.image.extents(inode) {
            let extent = extent?;
            self.left.extents = self.spend(self.left.extents, 1)?;
            let Extent { start, len, .. } = extent;
            let (id, pos, stays) = match extent.source {
                Source::Hole => continue,
                // Whoever has the devices of an index need not have the index itself.
                Source::Device { id, pos } => (id, pos, id != 0 || self.blobs.is_empty()),
                Source::Metadata {
                    pos,
                    space: Space::Image,
                } => (0, pos, false),
                Source::Metadata { pos, space } => {
                    let (pos, number) = self.keep_bytes(space, pos, len)?;
                    if source.is_some_and(|source| source != number) {
                        return Err(self.refuse(directory, &name.name, TWO_SOURCES));
                    }
                    source = Some(number);
                    copied.push(Segment { start, len, pos });
                    continue;
                }
                Source::Clusters { .. } => {
                    let problem = "it is compressed, and is said not to be";
                    return Err(self.error(directory, &name.name, problem));
                }
            };
            let segment = Segment { start, len, pos };
            let parts = match stays {
                true => &mut segments,
                false => {
                    self.left.copied = self.spend(self.left.copied, len)?;
                    let number = self.own_tails()?;
                    if source.is_some_and(|source| source != number) {
                        return Err(self.refuse(directory, &name.name, TWO_SOURCES));
                    }
                    source = Some(number);
                    &mut copied
                }
            };
            if !parts.last_mut().is_some_and(|last| last.join(&segment)) {
                parts.push(segment);
            }
            if !stays {
                continue;
            }
            if from.is_some_and(|from| from != id) {
                let problem = "its data is in several devices, expected one";
                return Err(self.error(directory, &name.name, problem));
            }
            let found = self.blob(id)?;
            let size = found.map_or(0, |blob| blob.size);
            let end = pos.saturating_add(len);
            if end > size {
                let problem =
                    format!("its data is at {pos} to {end} of device {id}, which has {size} bytes");
                return Err(self.error(directory, &name.name, &problem));
            }
            (from, blob) = (Some(id), found);
        }
        let size = inode.size();
        let data = match (segments.as_slice(), copied.as_slice()) {
            ([], []) if size == 0 => Data::Contiguous(0),
            ([all], []) if all.len == size => Data::Contiguous(all.pos),
            (_, []) => Data::Sparse(segments.into()),
            (front, [tail]) => {
                let front = match front {
                    [] => Some((0, 0)),
                    [front] if front.start == 0 => Some((front.pos, front.len)),
                    _ => None,
                };
                let len = u16::try_from(tail.len).ok();
                let end = tail.start.saturating_add(tail.len);
                let from = source.unwrap_or_default();
                match (front, len) {
                    (Some((pos, whole)), Some(len)) if whole == tail.start && end == size => {
                        Data::WithTail {
                            pos,
                            end: tail.pos.saturating_add(tail.len),
                            tail: len,
                            from,
                        }
                    }
                    _ => with_copies(segments, copied, from),
                }
            }
            _ => with_copies(segments, copied, source.unwrap_or_default()),
        };
        Ok(Content::File {
            blob: blob.map_or(0, |blob| blob.number),
            size,
            data,
        })
    }
}

fn with_copies(segments: Vec<Segment>, copied: Vec<Segment>, from: u16) -> Data {
    Data::WithCopies(Box::new(WithCopies {
        segments: segments.into(),
        copied: copied.into(),
        from,
    }))
}
