// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is different between two images: names, attributes, data. Called by `ferofs diff`.
//!
//! Data is not read where both images say that it is at the same place of the same blob.

use super::Image;
use super::Name;
use super::contents::Contents;
use super::statistics::kind_name;
use crate::blobs;
use crate::digest::Digest;
use crate::error;
use crate::error::Error;
use crate::error::Result;
use crate::tar::SharedXattrs;
use crate::text::Escaped;
use crate::text::Quoted;
use crate::text::Shown;
use crate::text::Utc;
use crate::tree::path;
use erofs_format::Extent;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Source;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

/// Data is compared in pieces of this size.
const PIECE: u64 = 256 << 10;

/// An attribute that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Which: "mode", or for an extended attribute "xattr" and its name.
    pub attribute: String,
    /// What it was, as text; empty if it was not there.
    pub old: String,
    /// What it is.
    pub new: String,
}

/// What happened to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is only in the new image.
    Added,
    /// It is only in the old image.
    Removed,
    /// It is in both.
    Changed(Vec<Change>),
}

/// A name that is not the same in both images.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its path.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: Kind,
}

/// How much is different.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Names that are only in the new image.
    pub added: u64,
    /// Names that are only in the old image.
    pub removed: u64,
    /// Names in both, with something different.
    pub changed: u64,
    /// Names in both, with nothing different that could be compared.
    pub same: u64,
    /// Of these, files whose data could not be compared: a blob is not given.
    pub unknown: u64,
}

impl Summary {
    /// Whether no difference was found.
    pub fn is_same(&self) -> bool {
        self.added == 0 && self.removed == 0 && self.changed == 0
    }
}

/// Attributes, by the names that [`Change::attribute`] has, that are not to be compared; "xattr" is
/// all extended ones.
pub type Ignored = HashSet<String>;

/// The names of attributes that can be ignored.
pub const ATTRIBUTES: [&str; 10] = [
    "mode",
    "owner",
    "mtime",
    "links",
    "linked-to",
    "size",
    "data",
    "target",
    "rdev",
    "xattr",
];

/// Told of each difference, in the order of paths. False ends it.
pub type Emit<'a, E> = dyn FnMut(&Difference) -> std::result::Result<bool, E> + 'a;

/// Compares two images with their blobs.
///
/// ```
/// use ferofs::error::Error;
/// use ferofs::inspect::Image;
/// use ferofs::inspect::contents::Contents;
/// use ferofs::inspect::diff;
/// use std::path::Path;
///
/// # use ferofs::image;
/// # use ferofs::tar::{Data, Entry, Kind};
/// # use ferofs::tree::Tree;
/// # use ferofs::tree::apply::apply_all;
/// # let mut tree = Tree::new();
/// # let kind = Kind::File { size: 6, data: Data::Contiguous(0) };
/// # apply_all(&mut tree, 0, [Entry::new(b"etc/motd", kind)])?;
/// # let options = image::Options::default().with_mode(image::Mode::Full);
/// # let mut out = std::io::Cursor::new(Vec::new());
/// # let data = image::source::Blobs(vec![b"Hello!".as_slice()]);
/// # image::write(&tree, &options, &data, &mut out)?;
/// # let bytes = out.into_inner();
/// # let data = image::source::Blobs(vec![b"Hallo!".as_slice()]);
/// # let mut out = std::io::Cursor::new(Vec::new());
/// # image::write(&tree, &options, &data, &mut out)?;
/// let old = Image::new(Path::new("old.erofs"), Box::new(bytes))?;
/// # let bytes = out.into_inner();
/// let new = Image::new(Path::new("new.erofs"), Box::new(bytes))?;
/// let [old, new] = [Contents::new(&old, &[], &[])?, Contents::new(&new, &[], &[])?];
/// let ignored = diff::Ignored::from(["mtime".to_string()]);
/// let summary = diff::diff(&old, &new, &ignored, &mut |difference| {
///     println!("{}", String::from_utf8_lossy(&difference.path));
///     // To be told of all others, too.
///     Ok::<bool, Error>(true)
/// })?;
/// assert_eq!((summary.added, summary.removed, summary.changed), (0, 0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When one of them cannot be read, or `emit` fails.
pub fn diff<E: From<Error>>(
    old: &Contents<'_>,
    new: &Contents<'_>,
    ignored: &Ignored,
    emit: &mut Emit<'_, E>,
) -> std::result::Result<Summary, E> {
    let mut comparison = Comparison {
        old: Side::new(old)?,
        new: Side::new(new)?,
        ignored,
        summary: Summary::default(),
        same_xattrs: None,
    };
    comparison.run(emit)?;
    Ok(comparison.summary)
}

/// One of the images.
struct Side<'a> {
    contents: &'a Contents<'a>,
    image: &'a Image,
    /// The sha256 of each device that has one.
    tags: Vec<Option<Digest>>,
    /// Directories that were listed.
    seen: HashSet<u64>,
    /// The first name of each file with several.
    first: HashMap<u64, Path>,
}

impl<'a> Side<'a> {
    fn new(contents: &'a Contents<'a>) -> Result<Self> {
        let image = contents.image();
        Ok(Side {
            contents,
            image,
            tags: image.devices()?.iter().map(blobs::tag).collect(),
            seen: HashSet::new(),
            first: HashMap::new(),
        })
    }

    /// The names in a directory but `.` and `..`, sorted.
    fn list(&mut self, directory: Option<&Inode>, path: &Path) -> Result<Vec<Name>> {
        let Some(directory) = directory else {
            return Ok(Vec::new());
        };
        if !self.seen.insert(directory.nid()) {
            return Err(Error::of(
                error::Kind::Damaged,
                format!(
                    "{}: {}: the directory has another name, too",
                    Shown(self.image.path()),
                    Quoted(&path.bytes())
                ),
            ));
        }
        let mut names = self.image.names(directory)?;
        names.retain(|name| !matches!(name.name.as_slice(), b"." | b".."));
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    /// The name that a file has first, if it has several and this is another one.
    fn linked_to(&mut self, inode: &Inode, path: &Path) -> String {
        if inode.nlink() < 2 || inode.kind() == FileKind::Directory {
            return String::new();
        }
        let first = self
            .first
            .entry(inode.nid())
            .or_insert_with(|| path.clone());
        match first == path {
            true => String::new(),
            false => Escaped(&first.bytes()).to_string(),
        }
    }
}

/// A path: of many files at once, and so of any depth, it takes no more than its last name.
#[derive(Clone, PartialEq, Eq)]
struct Path {
    above: Option<Arc<Path>>,
    name: Box<[u8]>,
}

impl Path {
    fn bytes(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some(above) = &at.above {
            names.push(&*at.name);
            at = above;
        }
        path::from_the_root(names)
    }
}

impl Drop for Path {
    /// Without recursion, for which paths are too long.
    fn drop(&mut self) {
        let mut next = self.above.take();
        while let Some(mut path) = next.and_then(Arc::into_inner) {
            next = path.above.take();
        }
    }
}

/// A path with what has it, in one of the images or in both.
struct Pair {
    path: Path,
    old: Option<u64>,
    new: Option<u64>,
}

struct Comparison<'a> {
    old: Side<'a>,
    new: Side<'a>,
    ignored: &'a Ignored,
    summary: Summary,
    /// Lists of attributes that were compared last, and are the same.
    same_xattrs: Option<(SharedXattrs, SharedXattrs)>,
}

impl Comparison<'_> {
    fn run<E: From<Error>>(&mut self, emit: &mut Emit<'_, E>) -> std::result::Result<(), E> {
        let root = Pair {
            path: Path {
                above: None,
                name: Box::default(),
            },
            old: Some(self.old.image.root()?.nid()),
            new: Some(self.new.image.root()?.nid()),
        };
        // Those that come first are last.
        let mut left = vec![root];
        while let Some(Pair { path, old, new }) = left.pop() {
            let old = old.map(|nid| self.old.image.inode(nid)).transpose()?;
            let new = new.map(|nid| self.new.image.inode(nid)).transpose()?;
            let (old, new) = (old.as_ref(), new.as_ref());
            if !self.pair(&path, old, new, emit)? {
                return Ok(());
            }
            let mut below = self.below(path, old, new)?;
            below.reverse();
            left.append(&mut below);
        }
        Ok(())
    }

    /// Compares one pair. False ends it.
    fn pair<E: From<Error>>(
        &mut self,
        path: &Path,
        old: Option<&Inode>,
        new: Option<&Inode>,
        emit: &mut Emit<'_, E>,
    ) -> std::result::Result<bool, E> {
        let kind = match (old, new) {
            (Some(old), Some(new)) => {
                let changes = self.changes(old, new, path)?;
                if changes.is_empty() {
                    self.summary.same += 1;
                    return Ok(true);
                }
                self.summary.changed += 1;
                Kind::Changed(changes)
            }
            (None, Some(_)) => {
                self.summary.added += 1;
                Kind::Added
            }
            (Some(_), None) => {
                self.summary.removed += 1;
                Kind::Removed
            }
            (None, None) => return Ok(true),
        };
        let path = path.bytes();
        emit(&Difference { path, kind })
    }

    /// What is in the directories of a pair.
    fn below(&mut self, path: Path, old: Option<&Inode>, new: Option<&Inode>) -> Result<Vec<Pair>> {
        fn directory(inode: Option<&Inode>) -> Option<&Inode> {
            inode.filter(|inode| inode.kind() == FileKind::Directory)
        }
        let old = self.old.list(directory(old), &path)?;
        let new = self.new.list(directory(new), &path)?;
        let mut nids: BTreeMap<&[u8], (Option<u64>, Option<u64>)> = BTreeMap::new();
        for name in &old {
            nids.entry(&name.name).or_default().0 = Some(name.nid);
        }
        for name in &new {
            nids.entry(&name.name).or_default().1 = Some(name.nid);
        }
        let above = Arc::new(path);
        let pair = |(name, (old, new)): (&[u8], _)| Pair {
            path: Path {
                above: Some(Arc::clone(&above)),
                name: name.into(),
            },
            old,
            new,
        };
        Ok(nids.into_iter().map(pair).collect())
    }

    fn changes(&mut self, old: &Inode, new: &Inode, path: &Path) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut compare = |attribute: &str, old: String, new: String| {
            if old != new && !self.ignored.contains(attribute) {
                let attribute = attribute.to_string();
                changes.push(Change {
                    attribute,
                    old,
                    new,
                });
            }
        };
        let (before, after) = (old.kind(), new.kind());
        compare("type", kind_name(before).into(), kind_name(after).into());
        let mode = |inode: &Inode| format!("{:04o}", inode.mode() & 0o7777);
        compare("mode", mode(old), mode(new));
        let owner = |inode: &Inode| format!("{}:{}", inode.uid(), inode.gid());
        compare("owner", owner(old), owner(new));
        let mtime = |inode: &Inode| Utc(inode.mtime(), inode.mtime_nsec()).to_string();
        compare("mtime", mtime(old), mtime(new));
        // That of a directory follows from what is in it.
        let links = |inode: &Inode| match inode.kind() {
            FileKind::Directory => String::new(),
            _ => inode.nlink().to_string(),
        };
        compare("links", links(old), links(new));
        let (first, other) = (self.old.linked_to(old, path), self.new.linked_to(new, path));
        // Both are the same file as one that was compared before.
        let again = !first.is_empty() && first == other;
        compare("linked-to", first, other);
        if before == after {
            match before {
                FileKind::Regular if old.size() != new.size() => {
                    compare("size", old.size().to_string(), new.size().to_string());
                }
                FileKind::Regular if again || self.ignored.contains("data") => {}
                FileKind::Regular => match self.first_difference(old, new, path)? {
                    Data::Same => {}
                    Data::Unknown => self.summary.unknown += 1,
                    Data::Differs(at) => {
                        compare(
                            "data",
                            String::new(),
                            format!("different from byte {at} on"),
                        );
                    }
                },
                FileKind::Symlink => {
                    let target = |image: &Image, inode| -> Result<String> {
                        Ok(Escaped(&image.link_target(inode)?).to_string())
                    };
                    let (before, after) =
                        (target(self.old.image, old)?, target(self.new.image, new)?);
                    compare("target", before, after);
                }
                FileKind::CharacterDevice | FileKind::BlockDevice => {
                    let rdev =
                        |inode: &Inode| format!("{},{}", inode.rdev_major(), inode.rdev_minor());
                    compare("rdev", rdev(old), rdev(new));
                }
                FileKind::Directory | FileKind::Fifo | FileKind::Socket => {}
            }
        }
        if !self.ignored.contains("xattr") {
            let (before, after) = (self.old.image.xattrs(old)?, self.new.image.xattrs(new)?);
            let again = self
                .same_xattrs
                .as_ref()
                .is_some_and(|(old, new)| Arc::ptr_eq(old, &before) && Arc::ptr_eq(new, &after));
            let mut both: BTreeMap<&[u8], (Value<'_>, Value<'_>)> = BTreeMap::new();
            let none = before.is_empty() && after.is_empty();
            if !again && !none {
                for (name, value) in before.iter() {
                    both.entry(name).or_default().0 = Some(value);
                }
                for (name, value) in after.iter() {
                    both.entry(name).or_default().1 = Some(value);
                }
                both.retain(|_, (before, after)| before != after);
            }
            for (name, (before, after)) in &both {
                // One that is not there is not one that is empty.
                let shown = |value: &Value<'_>| match value {
                    Some(value) => Quoted(value).to_string(),
                    None => String::new(),
                };
                let name = format!("xattr {}", Escaped(name));
                compare(&name, shown(before), shown(after));
            }
            if both.is_empty() && !none {
                self.same_xattrs = Some((before, after));
            }
        }
        Ok(changes)
    }

    /// Where the data of two files of the same size begins to differ.
    fn first_difference(&self, old: &Inode, new: &Inode, path: &Path) -> Result<Data> {
        let (mut before, mut after) = (self.old.image.extents(old), self.new.image.extents(new));
        let (mut a, mut b): (Option<Extent>, Option<Extent>) = (None, None);
        let mut unknown = false;
        let mut offset = 0;
        let mut buffers = (Vec::new(), Vec::new());
        while offset < old.size() {
            let next =
                |held: Option<Extent>, more: &mut dyn Iterator<Item = Result<Extent>>| match held
                    .map(|extent| extent.skip_to(offset))
                {
                    Some(extent) if extent.len > 0 => Ok(Some(extent)),
                    _ => more.next().transpose(),
                };
            a = next(a, &mut before)?;
            b = next(b, &mut after)?;
            let (Some(x), Some(y)) = (&a, &b) else {
                break;
            };
            let len = x.len.min(y.len);
            if self.is_same_place(x, y) {
                offset = offset.saturating_add(len);
                continue;
            }
            if !self.old.contents.has(x) || !self.new.contents.has(y) {
                unknown = true;
                offset = offset.saturating_add(len);
                continue;
            }
            let len = len.min(PIECE);
            buffers.0.resize(len as usize, 0);
            buffers.1.resize(len as usize, 0);
            self.old
                .contents
                .read_extent(x, &mut buffers.0, &|| path.bytes())?;
            self.new
                .contents
                .read_extent(y, &mut buffers.1, &|| path.bytes())?;
            let mut bytes = buffers.0.iter().zip(&buffers.1);
            if let Some(at) = bytes.position(|(old, new)| old != new) {
                return Ok(Data::Differs(offset.saturating_add(at as u64)));
            }
            offset = offset.saturating_add(len);
        }
        Ok(match unknown {
            true => Data::Unknown,
            false => Data::Same,
        })
    }

    /// Whether two extents begin at the same place, so that nothing needs to be read.
    fn is_same_place(&self, old: &Extent, new: &Extent) -> bool {
        match (old.source, new.source) {
            (Source::Hole, Source::Hole) => true,
            (Source::Device { id: a, pos: x }, Source::Device { id: b, pos: y }) => {
                if x != y {
                    return false;
                }
                let tag = |side: &Side<'_>, id: u16| {
                    let index = usize::from(id).checked_sub(1)?;
                    side.tags.get(index).copied().flatten()
                };
                let tags = (tag(&self.old, a), tag(&self.new, b));
                matches!(tags, (Some(old), Some(new)) if old == new)
                    || self.old.contents.is_same_blob(a, self.new.contents, b)
            }
            _ => false,
        }
    }
}

/// The value of an attribute, if it is there.
type Value<'a> = Option<&'a [u8]>;

/// How the data of two files compares.
enum Data {
    Same,
    /// As far as it could be read, it is the same.
    Unknown,
    Differs(u64),
}
