// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The upper directory of an overlay as a layer: what `ferofs commit` writes, and what a container runtime asks for
//! when a container becomes an image.
//!
//! The layers below are not looked at: all that is in the upper directory is in the layer, also if it is equal to what
//! is below. Overlayfs's whiteouts and opaque directories become those of OCI layers, and what else it has noted of
//! files is left out. What cannot be said in a layer is an error, with the file that it is about.
//!
//! Only the names are in memory, as a [`Tree`]; data goes through. The same directory gives the same bytes, in whatever
//! order it lists its names: paths are sorted, and a directory comes before what is in it. The directory itself has no
//! entry, as in layers by others.
//!
//! ```
//! use ferofs::commit::Compression;
//! use ferofs::commit::Options;
//! use ferofs::commit::write_layer;
//! use ferofs::digest::Digest;
//! use std::path::Path;
//!
//! # let upper = std::env::temp_dir().join(format!("committed-{}", std::process::id()));
//! # std::fs::create_dir_all(upper.join("etc"))?;
//! # std::fs::write(upper.join("etc/motd"), "Hello!")?;
//! let options = Options::default().with_compression(Compression::Plain);
//! let mut layer = Vec::new();
//! let summary = write_layer(&upper, &options, &mut layer, Path::new("layer.tar"), &mut |_| {})?;
//! assert_eq!((summary.entries, summary.size), (2, layer.len() as u64));
//! assert_eq!(summary.diff_id, Digest::of(&layer));
//! # std::fs::remove_dir_all(&upper)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod marks;
mod stream;

use crate::digest::Digest;
use crate::directory::Directory;
use crate::directory::Identity;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::image::source;
use crate::output::Output;
use crate::setters::setters;
use crate::tar;
use crate::tar::SharedXattrs;
use crate::tar::Time;
use crate::text::Shown;
use crate::tree::Children;
use crate::tree::Content;
use crate::tree::InodeId;
use crate::tree::NameId;
use crate::tree::Tree;
use crate::tree::scan::scan;
use crate::tree::whiteouts::OPAQUE;
use crate::tree::whiteouts::PREFIX;
use marks::Marks;
use marks::Sets;
use rustix::thread::CapabilitySet;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use stream::Stream;

/// So much of a file is read at once.
const BUFFER: usize = 256 << 10;
/// More notes of one sort than this help nobody.
const MAX_NOTES: usize = 20;

/// What a layer is compressed with, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Nothing.
    #[default]
    Plain,
    /// gzip, at a level from 1 to 9.
    Gzip(u32),
    /// Zstandard, at a level from 1 to 22.
    Zstd(u32),
}

impl Compression {
    /// gzip at its usual level.
    pub const GZIP: Compression = Compression::Gzip(6);
    /// Zstandard at its usual level.
    pub const ZSTD: Compression = Compression::Zstd(3);

    /// What a manifest says of such a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Compression::Plain => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Fails if there is no such level.
    fn check(self) -> Result<()> {
        let (level, most) = match self {
            Compression::Plain => return Ok(()),
            Compression::Gzip(level) => (level, 9),
            Compression::Zstd(level) => (level, 22),
        };
        if !(1..=most).contains(&level) {
            return Err(Error::of(
                Kind::Request,
                format!("{self} has no level {level}, expected 1 to {most}"),
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Plain => "plain",
            Compression::Gzip(_) => "gzip",
            Compression::Zstd(_) => "zstd",
        })
    }
}

/// What a layer is to be like.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// What it is compressed with.
    pub compression: Compression,
    /// Whether overlayfs was mounted with `userxattr`, as it is without privileges: its attributes are called
    /// `user.overlay.*` then, and not `trusted.overlay.*`.
    pub userxattr: bool,
    /// Files that are younger than this, in seconds since 1970, get this time.
    pub latest: Option<i64>,
}

impl Options {
    setters! {
        /// Sets what the layer is compressed with.
        with_compression sets compression: Compression,
        /// Says whether overlayfs was mounted with `userxattr`.
        with_userxattr sets userxattr: bool,
        /// Sets the time that no file is younger than.
        with_latest sets latest: Option<i64>,
    }
}

/// What a layer came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The sha256 of the plain tar: the layer's diff ID.
    pub diff_id: Digest,
    /// The sha256 of what was written.
    pub digest: Digest,
    /// How many bytes were written.
    pub size: u64,
    /// How many entries the tar has.
    pub entries: u64,
    /// What is not in it, and why.
    pub notes: Vec<String>,
}

/// What came out of a [`Stream`].
struct Written {
    diff_id: Digest,
    digest: Digest,
    size: u64,
}

/// Writes the directory `upper` as a layer to `out`, which is called `called` in messages. `progress` is told how many bytes
/// of the files' data are done.
///
/// # Errors
///
/// When something in the directory cannot be read, is replaced or changes its size meanwhile, or cannot be in a layer: a file
/// whose data is not in it but in a layer below, a directory that was renamed, a name with the form of a whiteout
/// ([`Kind::Refused`]). When the layer cannot be written. When overlayfs's attributes are hidden from this process.
pub fn write_layer(
    upper: &Path,
    options: &Options,
    out: impl Write,
    called: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Summary> {
    options.compression.check()?;
    check_privilege(upper, options)?;
    let tree = scan(upper, &mut |_| {})?;
    let stream = Stream::new(out, options.compression).map_err(Error::io("write", called))?;
    let mut writer = Writer {
        upper,
        called,
        options,
        tree: &tree,
        children: &tree.children(),
        source: source::Directory::new(upper.to_path_buf()),
        sets: Sets::new(options.userxattr),
        out: tar::Writer::new(stream),
        links: HashMap::new(),
        buffer: vec![0; BUFFER],
        entries: 0,
        done: 0,
        notes: Notes::default(),
        progress,
    };
    writer.write_all()?;
    let Writer {
        out,
        entries,
        notes,
        ..
    } = writer;
    let written = out
        .finish()
        .and_then(Stream::finish)
        .map_err(Error::io("write", called))?;
    Ok(Summary {
        diff_id: written.diff_id,
        digest: written.digest,
        size: written.size,
        entries,
        notes: notes.list,
    })
}

/// Writes the directory `upper` as a layer to an output, which is left to be finished. Otherwise like [`write_layer`].
///
/// # Errors
///
/// As for [`write_layer`], and when the output is to be in the directory: that would be changed by it.
pub fn write_layer_file(
    upper: &Path,
    options: &Options,
    output: &Output,
    progress: &mut dyn FnMut(u64),
) -> Result<Summary> {
    let root = Directory::open(upper).and_then(|directory| directory.stat());
    let root = root.map_err(|errno| Error::io("read", upper)(errno.into()))?;
    if output.is_inside(Identity::from(&root))? {
        let (target, upper) = (Shown(output.target()), Shown(upper));
        return Err(Error::of(
            Kind::Request,
            format!("{target} is in the directory {upper}, which it is to be made from"),
        ));
    }
    write_layer(upper, options, output.file(), output.target(), progress)
}

/// The inode of the first user namespace's file, on every Linux.
const FIRST_USER_NAMESPACE: u64 = 0xeffffffd;

/// Fails if overlayfs's attributes are not for this process to see: `trusted.*` is hidden from all but who has
/// CAP_SYS_ADMIN in the first user namespace, and opaque directories would look like others.
fn check_privilege(upper: &Path, options: &Options) -> Result<()> {
    let capable = || {
        let sets = rustix::thread::capabilities(None).ok()?;
        let namespace = std::fs::metadata("/proc/self/ns/user").ok()?;
        let admin = sets.effective.contains(CapabilitySet::SYS_ADMIN);
        Some(admin && namespace.ino() == FIRST_USER_NAMESPACE)
    };
    if options.userxattr || capable() == Some(true) {
        return Ok(());
    }
    let upper = Shown(upper);
    Err(Error::of(
        Kind::Refused,
        format!(
            "{upper}: the attributes trusted.overlay.*, by which directories are opaque, are seen by root alone; be root, or \
             say that it is of an overlay that was mounted with userxattr"
        ),
    ))
}

/// Notes about what is left out: a few of each sort.
#[derive(Default)]
struct Notes {
    list: Vec<String>,
    sockets: usize,
}

struct Writer<'a, W: Write> {
    upper: &'a Path,
    called: &'a Path,
    options: &'a Options,
    tree: &'a Tree,
    children: &'a Children,
    source: source::Directory,
    sets: Sets,
    out: tar::Writer<Stream<W>>,
    /// The first names of what has several.
    links: HashMap<InodeId, NameId>,
    buffer: Vec<u8>,
    entries: u64,
    /// Bytes of data that are written.
    done: u64,
    notes: Notes,
    progress: &'a mut dyn FnMut(u64),
}

impl<W: Write> Writer<'_, W> {
    fn write_all(&mut self) -> Result<()> {
        let marks = self.marks(NameId::ROOT)?;
        self.check_directory(NameId::ROOT, &marks)?;
        self.opaque(NameId::ROOT, &marks)?;
        // Names that are still to be written, the next one last, and whether their directory has whiteouts that are files.
        let mut left = Vec::new();
        self.push_children(NameId::ROOT, &marks, &mut left);
        while let Some((name, in_marked)) = left.pop() {
            let marks = self.marks(name)?;
            if !self.entry(name, &marks, in_marked)? {
                continue;
            }
            if self.tree.is_directory(name) {
                self.opaque(name, &marks)?;
                self.push_children(name, &marks, &mut left);
            }
        }
        Ok(())
    }

    fn push_children(&self, name: NameId, marks: &Marks, left: &mut Vec<(NameId, bool)>) {
        let children = self.children.of(name).iter().rev();
        left.extend(children.map(|child| (*child, marks.has_whiteouts)));
    }

    /// Where something is, for messages.
    fn path(&self, name: NameId) -> PathBuf {
        match self.tar_path(name) {
            path if path.is_empty() => self.upper.to_path_buf(),
            path => self.upper.join(OsStr::from_bytes(&path)),
        }
    }

    /// What the layer calls it.
    fn tar_path(&self, name: NameId) -> Vec<u8> {
        let path = self.tree.path(name);
        path.strip_prefix(b"/").unwrap_or(&path).to_vec()
    }

    fn refused(&self, name: NameId, problem: &str) -> Error {
        let path = self.path(name);
        Error::of(Kind::Refused, format!("{}: {problem}", Shown(&path)))
    }

    /// What overlayfs has noted of something. What cannot be in a layer is an error.
    fn marks(&mut self, name: NameId) -> Result<Marks> {
        let set = self.tree.inode(self.tree.inode_of(name)).attributes.xattrs;
        let (marks, is_new) = self.sets.marks(self.tree.xattrs(), set);
        if is_new {
            for what in marks.left_out.iter() {
                let path = self.path(name);
                self.notes.list.push(format!(
                    "{what}, first seen at {}, is left out",
                    Shown(&path)
                ));
            }
        }
        if marks.is_redirected {
            return Err(self.refused(
                name,
                "it is where overlayfs was told to find it under another path (redirect_dir), which a layer cannot say; \
                 mount without redirect_dir, or copy it to a new name",
            ));
        }
        if marks.is_metacopy {
            return Err(self.refused(
                name,
                "only its metadata is here, and its data in a layer below (metacopy); write to it, or mount without metacopy",
            ));
        }
        Ok(marks)
    }

    fn check_directory(&self, name: NameId, marks: &Marks) -> Result<()> {
        match marks.is_whiteout {
            true => Err(self.refused(
                name,
                "it has the attribute of whiteouts that are files, and is none",
            )),
            false => Ok(()),
        }
    }

    /// Writes one entry. Returns whether there may be more below.
    fn entry(&mut self, name: NameId, marks: &Marks, in_marked: bool) -> Result<bool> {
        let inode = self.tree.inode_of(name);
        let content = &self.tree.inode(inode).content;
        if self.tree.name_text(name).starts_with(PREFIX) {
            return Err(self.refused(
                name,
                "a layer cannot have a name that begins with \".wh.\", which is that of a whiteout there",
            ));
        }
        match content {
            Content::CharDevice(0, 0) => {
                self.whiteout(name)?;
                return Ok(false);
            }
            Content::File { size: 0, .. } if marks.is_whiteout => {
                if !in_marked {
                    return Err(self.refused(
                        name,
                        "it has the attribute of a whiteout, but its directory has none that says there are such",
                    ));
                }
                self.whiteout(name)?;
                return Ok(false);
            }
            _ if marks.is_whiteout => self.check_directory(name, marks)?,
            Content::Socket => {
                self.socket(name);
                return Ok(false);
            }
            _ => {}
        }
        self.described(name, inode, marks)?;
        Ok(true)
    }

    fn socket(&mut self, name: NameId) {
        self.notes.sockets += 1;
        if self.notes.sockets <= MAX_NOTES {
            let path = self.path(name);
            let path = Shown(&path);
            self.notes.list.push(format!(
                "{path} is left out: it is a socket, which a layer cannot have"
            ));
        }
    }

    /// Writes what says that something is gone in the layers below. It belongs to root and to no time: what it is made of
    /// may be one file for all whiteouts.
    fn whiteout(&mut self, name: NameId) -> Result<()> {
        let mut path = self.tar_path(self.tree.parent(name));
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(PREFIX);
        path.extend_from_slice(self.tree.name_text(name));
        self.empty_file(name, &path)
    }

    /// Writes what makes a directory opaque, if it is.
    fn opaque(&mut self, directory: NameId, marks: &Marks) -> Result<()> {
        if !marks.is_opaque {
            return Ok(());
        }
        let mut path = self.tar_path(directory);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(OPAQUE);
        self.empty_file(directory, &path)
    }

    fn empty_file(&mut self, about: NameId, path: &[u8]) -> Result<()> {
        let data = tar::Data::Contiguous(0);
        self.head(
            about,
            &tar::Entry::new(path, tar::Kind::File { size: 0, data }),
        )
    }

    /// Writes what comes before the data.
    fn head(&mut self, about: NameId, entry: &tar::Entry<'_>) -> Result<()> {
        self.entries += 1;
        let result = self.out.entry(entry);
        result.map_err(|error| match error.kind() {
            // It is the entry that is wrong, and not what it is written to.
            ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
                let path = self.path(about);
                Error::of(Kind::TooLarge, format!("{}: {error}", Shown(&path)))
            }
            _ => Error::io("write", self.called)(error),
        })
    }

    fn described(&mut self, name: NameId, inode: InodeId, marks: &Marks) -> Result<()> {
        let tree = self.tree;
        let node = tree.inode(inode);
        let first = *self.links.entry(inode).or_insert(name);
        let target = self.tar_path(first);
        let kind = match &node.content {
            _ if first != name => tar::Kind::HardLink(&target),
            Content::Directory => tar::Kind::Directory,
            Content::File { size, .. } => tar::Kind::File {
                size: *size,
                data: tar::Data::Contiguous(0),
            },
            Content::Symlink(target) => tar::Kind::Symlink(tree.text(*target)),
            Content::CharDevice(major, minor) => tar::Kind::CharDevice(*major, *minor),
            Content::BlockDevice(major, minor) => tar::Kind::BlockDevice(*major, *minor),
            Content::Fifo => tar::Kind::Fifo,
            Content::Socket | Content::Unresolved => return Ok(()),
        };
        let size = match kind {
            tar::Kind::File { size, .. } => size,
            _ => 0,
        };
        let path = self.tar_path(name);
        let attributes = node.attributes;
        let entry = tar::Entry::new(&path, kind)
            .with_mode(attributes.mode)
            .with_uid(attributes.uid)
            .with_gid(attributes.gid)
            .with_mtime(self.time(attributes.mtime.unwrap_or_default()))
            .with_xattrs(SharedXattrs::clone(&marks.xattrs));
        self.head(name, &entry)?;
        match size {
            0 => Ok(()),
            size => self.data(name, size),
        }
    }

    fn time(&self, time: Time) -> Time {
        match self.options.latest {
            Some(latest) if time.sec >= latest => Time {
                sec: latest,
                nsec: 0,
            },
            _ => time,
        }
    }

    /// Writes the data of a file, which must be as long as it was when it was listed.
    fn data(&mut self, name: NameId, size: u64) -> Result<()> {
        let path = self.path(name);
        let failed = || Error::io("read", &path);
        let changed = |found: String| {
            failed()(io::Error::other(format!(
                "it changed while it was read: it has {found} bytes, expected {size}"
            )))
        };
        let mut file = self.source.open(self.tree, name).map_err(failed())?;
        let mut left = size;
        while left > 0 {
            let most = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(BUFFER));
            let room = self.buffer.get_mut(..most).unwrap_or_default();
            let count = match file.read(room) {
                Ok(0) => return Err(changed((size - left).to_string())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed()(error)),
            };
            self.out
                .data(room.get(..count).unwrap_or_default())
                .map_err(Error::io("write", self.called))?;
            left -= count as u64;
            self.done += count as u64;
            (self.progress)(self.done);
        }
        match file.metadata().map_err(failed())?.len() {
            found if found != size => Err(changed(found.to_string())),
            _ => Ok(()),
        }
    }
}
