// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Everything an image can be wrong in.
//!
//! What cannot be read as the format says is found by the format crate, which this walks all of
//! the image with; the rest is about things that are right by themselves and wrong together:
//! directories in a circle, wrong link counts, data beyond the end of its device, structures on top
//! of each other. Checking goes on behind an error as far as it makes sense.
//!
//! [`open`] opens an image whose superblock may be wrong, [`check`] walks it. What is strange but
//! changes nothing for a reader is a warning.
//!
//! ```
//! use ferofs::inspect::Image;
//! use ferofs::inspect::check::check;
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
//! let image = Image::new(Path::new("layer.erofs"), Box::new(bytes))?;
//! // It has its data itself, so there are no devices.
//! let report = check(&image, &[], &mut |_inodes_done| {})?;
//! for problem in &report.problems {
//!     println!("at {}: {}", problem.at, problem.what);
//! }
//! assert!(report.problems.is_empty());
//! assert_eq!((report.directories, report.files), (2, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clusters;
mod devices;
mod directory;
mod inode;
mod known;
mod regions;
mod superblock;
mod xattrs;

use super::Image;
use super::NotGiven;
use super::ReadError;
use super::Unreadable;
use crate::text::Quoted;
use erofs_format::Compression;
use erofs_format::Corrupt;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Metadata;
use erofs_format::Source;
use erofs_format::Space;
use erofs_format::ondisk;
use known::Inodes;
use known::Known;
use known::Place;
use regions::Region;
use regions::Regions;
use regions::Use;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::io;

pub use superblock::Opened;
pub use superblock::open;

/// How many problems are kept, and as many warnings. Those beyond are only counted: a broken image can
/// have any number.
const KEPT: usize = 10_000;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the file it is about, if it is about one.
    pub path: Option<Vec<u8>>,
    /// Offset in the image.
    pub at: u64,
    /// What is wrong.
    pub what: String,
}

/// What a check found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Everything that is wrong, by its offset; at most 10,000 of them.
    pub problems: Vec<Problem>,
    /// How many more were found.
    pub more_problems: u64,
    /// What is strange and harmless; at most 10,000.
    pub warnings: Vec<Problem>,
    /// Numbers of the devices, counted from 1, that no file has data in.
    pub unused_devices: Vec<u16>,
    /// Directories that were walked.
    pub directories: u64,
    /// Other files with a name, each counted once.
    pub files: u64,
    /// Bytes of data in regular files, holes included.
    pub data: u64,
    /// Bytes of physical clusters that were decoded.
    pub encoded: u64,
}

/// Checks an image. `sizes` are the sizes of its devices in bytes, as far as they are known.
///
/// # Errors
///
/// When the image cannot be read; what is wrong in it is no error here.
pub fn check(image: &Image, sizes: &[u64], progress: &mut dyn FnMut(u64)) -> io::Result<Report> {
    let mut checker = Checker::new(image, sizes);
    checker.run(progress)?;
    if checker.overlaps {
        // To say what lies where each part has to be kept by itself, of which there may be many.
        checker = Checker::new(image, sizes);
        checker.regions.keep_apart();
        checker.metabox.keep_apart();
        checker.run(&mut |_| {})?;
    }
    Ok(checker.report)
}

/// The device that something could not be read from, if that is why.
fn not_given(error: &ReadError) -> Option<u16> {
    let ReadError::Io(error) = error else {
        return None;
    };
    let NotGiven(device) = error.get_ref()?.downcast_ref()?;
    Some(*device)
}

struct Checker<'a> {
    image: &'a Image,
    /// What is known of each device: its size in bytes, by its slot or its file.
    devices: Vec<u64>,
    sizes: &'a [u64],
    root: u64,
    report: Report,
    known: Inodes,
    /// Directories yet to be walked.
    waiting: Vec<u64>,
    /// What is where in the image.
    regions: Regions,
    /// What is where in the metabox.
    metabox: Regions,
    /// What compressed data is where.
    clusters: clusters::Clusters,
    /// What decoders must be ready for, if that can be read.
    compression: Option<Compression>,
    /// How many bytes the packed inode has, if it can be read.
    packed_size: Option<u64>,
    /// Bytes that physical clusters decode to, each counted once.
    decoded: u64,
    /// Devices that compressed data is in, and that are not given.
    not_given: BTreeSet<u16>,
    /// Whether something lies on top of something else.
    overlaps: bool,
    /// Where the shared attributes are that were seen.
    shared: HashSet<u64>,
    /// Devices that files have data in.
    used: BTreeSet<u16>,
    /// Bytes of tables, directories and attributes that were looked at.
    spent: u64,
    /// The attribute body that was looked at last and has nothing wrong in it.
    sound_xattrs: Vec<u8>,
}

impl<'a> Checker<'a> {
    fn new(image: &'a Image, sizes: &'a [u64]) -> Self {
        Checker {
            image,
            devices: Vec::new(),
            sizes,
            root: 0,
            report: Report::default(),
            known: Inodes::default(),
            waiting: Vec::new(),
            regions: Regions::default(),
            metabox: Regions::default(),
            clusters: clusters::Clusters::default(),
            compression: None,
            packed_size: None,
            decoded: 0,
            not_given: BTreeSet::new(),
            overlaps: false,
            shared: HashSet::new(),
            used: BTreeSet::new(),
            spent: 0,
            sound_xattrs: Vec::new(),
        }
    }

    /// Takes from what may be looked at: every byte of the image once, and of what is compressed in it. Only structures on top
    /// of each other need more, and would take for ever. False if there is not as much left.
    fn spend(&mut self, bytes: u64, inode: &Inode, what: &str) -> io::Result<bool> {
        let spent = self.spent.saturating_add(bytes);
        if spent > self.image.file().size().saturating_add(self.decoded) {
            let what = format!("its {what} are not looked at, as others lie in the same place");
            self.problem_of(inode, what);
            return Ok(false);
        }
        self.spent = spent;
        Ok(true)
    }

    /// How much was found so far.
    fn findings(&self) -> (usize, u64, usize) {
        let report = &self.report;
        (
            report.problems.len(),
            report.more_problems,
            report.warnings.len(),
        )
    }

    /// The path of an inode that is known.
    fn path(&self, nid: u64) -> Vec<u8> {
        let superblock = self.image.superblock();
        if self.known.get(nid).is_none() {
            // These have no names.
            if superblock.metabox_nid() == Some(nid) {
                return b"(metabox)".to_vec();
            }
            if superblock.packed_nid() == Some(nid) {
                return b"(packed inode)".to_vec();
            }
        }
        self.known.path(nid)
    }

    fn path_of(&self, place: Place<'_>) -> Vec<u8> {
        let mut path = self.path(place.directory);
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(place.name);
        path
    }

    /// Adds a problem of the file that has a name in a directory.
    fn problem_at(&mut self, place: Place<'_>, at: u64, what: impl Into<String>) {
        let path = self.is_kept().then(|| self.path_of(place));
        self.problem(path, at, what);
    }

    /// Whether another problem is kept, and worth the work to put its path together.
    fn is_kept(&self) -> bool {
        self.report.problems.len() < KEPT
    }

    fn region(&mut self, start: u64, end: u64, usage: Use, nid: u64) {
        self.regions.push(Region {
            start,
            end,
            usage,
            nid,
        });
    }

    /// The same in the image or in the metabox.
    fn region_in(&mut self, space: Space, start: u64, end: u64, usage: Use, nid: u64) {
        let region = Region {
            start,
            end,
            usage,
            nid,
        };
        match space {
            Space::Inode(_) => self.metabox.push(region),
            Space::Image | Space::Device(_) => self.regions.push(region),
        }
    }

    fn problem(&mut self, path: Option<Vec<u8>>, at: u64, what: impl Into<String>) {
        if !self.is_kept() {
            self.report.more_problems += 1;
            return;
        }
        let what = what.into();
        self.report.problems.push(Problem { path, at, what });
    }

    fn warning(&mut self, path: Option<Vec<u8>>, at: u64, what: impl Into<String>) {
        if self.report.warnings.len() < KEPT {
            let what = what.into();
            self.report.warnings.push(Problem { path, at, what });
        }
    }

    /// Adds a problem of an inode that has a name.
    fn problem_of(&mut self, inode: &Inode, what: impl Into<String>) {
        let path = self.is_kept().then(|| self.path(inode.nid()));
        self.problem(path, inode.pos(), what);
    }

    fn warning_of(&mut self, inode: &Inode, what: impl Into<String>) {
        if self.report.warnings.len() < KEPT {
            self.warning(Some(self.path(inode.nid())), inode.pos(), what);
        }
    }

    /// Where in the image data is, if it is there.
    fn image_position(&self, source: &Source) -> Option<u64> {
        match *source {
            Source::Hole | Source::Clusters { .. } => None,
            Source::Metadata { pos, space } => (space == Space::Image).then_some(pos),
            Source::Device { id, pos } => {
                let located = self.image.file().locate(id, pos)?;
                (located.file == 0).then_some(located.pos)
            }
        }
    }

    /// Bytes that belong to an inode. Nothing if they cannot be had, which is a problem then: they may have to be decoded.
    fn bytes_of(
        &mut self,
        inode: &Inode,
        space: Space,
        pos: u64,
        len: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        match self.image.read_in(space, pos, len as usize) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => {
                self.failed_at(inode, ReadError::Io(error))?;
                Ok(None)
            }
        }
    }

    /// Takes in what could not be read of an inode that has a name.
    fn failed_at(&mut self, inode: &Inode, error: ReadError) -> io::Result<()> {
        let path = self.is_kept().then(|| self.path(inode.nid()));
        self.failed(path, inode.pos(), error)
    }

    /// Takes in what could not be read: a problem of the image, unless the file itself failed.
    fn failed(&mut self, path: Option<Vec<u8>>, at: u64, error: ReadError) -> io::Result<()> {
        if let Some(device) = not_given(&error) {
            let what = format!("not checked, for device {device} is not given");
            self.warning(path, at, what);
            return Ok(());
        }
        match error {
            ReadError::Io(error) => match Unreadable::of(&error) {
                Some(unreadable) => self.problem(path, at, unreadable.to_string()),
                None => return Err(error),
            },
            ReadError::Corrupt(Corrupt {
                space: Space::Device(1..) | Space::Inode(_),
                ..
            }) => self.problem(path, at, error.to_string()),
            ReadError::Corrupt(corrupt) => self.problem(path, corrupt.at, corrupt.what),
            // What the superblock asks for and nobody can do ends the check at once.
            ReadError::Unsupported(feature) => {
                let what = format!("{} ({:#x}) makes no sense here", feature.name, feature.bits);
                self.problem(path, feature.at, what);
            }
            ReadError::NotErofs => self.problem(path, at, ReadError::NotErofs.to_string()),
        }
        Ok(())
    }

    fn run(&mut self, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let image = self.image;
        let superblock = image.superblock();
        self.image_size();
        self.device_table()?;
        self.compression()?;
        self.without_names()?;
        self.prefixes()?;
        match superblock.root(image.file()) {
            Ok(root) => {
                self.root = root.nid();
                let place = Place {
                    directory: root.nid(),
                    name: b"",
                };
                // No more than there is room for.
                let most = image.file().size() / ondisk::INODE_SLOT_SIZE;
                self.known.reserve(superblock.inodes().min(most) as usize);
                self.known.insert(&root, place);
                if self.inode(&root)? {
                    self.waiting.push(root.nid());
                }
            }
            Err(error) => self.failed(Some(b"/".to_vec()), ondisk::SUPER_OFFSET, error)?,
        }
        while let Some(nid) = self.waiting.pop() {
            match superblock.inode(image.file(), nid) {
                Ok(directory) => self.directory(&directory)?,
                // It could be read before.
                Err(error) => self.failed(None, ondisk::SUPER_OFFSET, error)?,
            }
            self.report.directories += 1;
            progress(self.report.directories + self.report.files);
        }
        self.links();
        self.totals();
        self.overlaps();
        self.cluster_overlaps();
        for device in std::mem::take(&mut self.not_given) {
            let what =
                format!("compressed data in device {device} is not checked, for it is not given");
            self.warning(None, ondisk::SUPER_OFFSET, what);
        }
        let devices = 1..=self.image.superblock().device_count();
        self.report.unused_devices = devices.filter(|id| !self.used.contains(id)).collect();
        self.report.problems.sort_by_key(|problem| problem.at);
        self.report.warnings.sort_by_key(|problem| problem.at);
        Ok(())
    }

    /// What the superblock says of algorithms.
    fn compression(&mut self) -> io::Result<()> {
        let image = self.image;
        match image.superblock().compression(image.file()) {
            Ok(compression) => {
                self.compression = Some(compression);
                Ok(())
            }
            Err(error) => self.failed(None, ondisk::SUPER_OFFSET, error),
        }
    }

    /// The metabox, in which others lie, and the packed inode, both of which the superblock names and nothing else.
    fn without_names(&mut self) -> io::Result<()> {
        let image = self.image;
        let superblock = image.superblock();
        let (metabox, packed) = (superblock.metabox_nid(), superblock.packed_nid());
        for nid in metabox
            .into_iter()
            .chain(packed.filter(|_| metabox != packed))
        {
            match superblock.inode(image.file(), nid) {
                Ok(inode) => {
                    if packed == Some(nid) {
                        self.packed_size = Some(inode.size());
                    }
                    // What is in it counts where a file has it.
                    let data = self.report.data;
                    self.inode(&inode)?;
                    self.report.data = data;
                }
                Err(error) => {
                    let path = self.path(nid);
                    self.failed(Some(path), ondisk::SUPER_OFFSET, error)?;
                }
            }
        }
        Ok(())
    }

    /// Finds what lies on top of something else, in the image and in the metabox.
    fn overlaps(&mut self) {
        let parts = [
            std::mem::take(&mut self.regions),
            std::mem::take(&mut self.metabox),
        ];
        for regions in parts {
            self.overlaps_in(regions);
        }
    }

    fn overlaps_in(&mut self, regions: Regions) {
        let mut found = Vec::new();
        let (all, joined) = regions.take();
        regions::overlaps(all, &mut |region, other| {
            // The parts of an inode that lie one behind the other are one.
            let again = found
                .last()
                .is_some_and(|(last, before): &(Region, Region)| {
                    (last.nid, last.usage, before) == (region.nid, region.usage, other)
                });
            if !again {
                found.push((*region, *other));
            }
        });
        self.overlaps |= joined && !found.is_empty();
        for (region, other) in found.iter().take(KEPT) {
            let path = (region.nid != 0).then(|| self.path(region.nid));
            let what = match region.usage {
                Use::Superblock => "the superblock",
                Use::DeviceTable => "the device table",
                Use::SharedXattr => "a shared attribute",
                Use::Inode => "the inode",
                Use::Directory => "the directory",
                Use::Data => "its data",
            };
            let (start, end) = (other.start, other.end);
            let other = match other.usage {
                Use::Superblock => "the superblock".to_string(),
                Use::DeviceTable => "the device table".to_string(),
                Use::SharedXattr => "a shared attribute".to_string(),
                Use::Inode => format!("the inode of {}", Quoted(&self.path(other.nid))),
                Use::Directory => format!("the directory {}", Quoted(&self.path(other.nid))),
                Use::Data => format!("data of {}", Quoted(&self.path(other.nid))),
            };
            let what = format!("{what} begins within {other}, which is at {start} to {end}");
            self.problem(path, region.start, what);
        }
    }

    /// Compares link counts with the names that were found; those of directories are checked where
    /// they are walked.
    fn links(&mut self) {
        let superblock = self.image.superblock();
        let nydus = self.is_nydus();
        let wrong: Vec<Problem> = self
            .known
            .iter()
            .filter(|known| known.kind != FileKind::Directory && known.nlink != known.found)
            // Nydus makes each name of a symbolic link an inode, with the count that the source has.
            .filter(|known| !nydus || known.kind != FileKind::Symlink || known.nlink < known.found)
            .take(KEPT)
            .map(|known| {
                let Known { nlink, found, .. } = known;
                let inode = superblock.inode(self.image.file(), known.nid);
                Problem {
                    path: Some(self.path(known.nid)),
                    at: inode.map_or(ondisk::SUPER_OFFSET, |inode| inode.pos()),
                    what: format!("its link count is {nlink}, but it has {found} names"),
                }
            })
            .collect();
        for problem in wrong {
            self.problem(problem.path, problem.at, problem.what);
        }
    }

    /// How many bytes the superblock counts.
    fn stated(&self) -> u64 {
        let superblock = self.image.superblock();
        let block = u64::from(superblock.block_size());
        superblock.blocks().saturating_mul(block)
    }

    /// Compares what the superblock counts with what was found.
    fn totals(&mut self) {
        if self.is_nydus() {
            return;
        }
        let (superblock, stated) = (self.image.superblock(), self.stated());
        let used = self.regions.end();
        // Of what lies behind the end of the image that was said already.
        if used > stated && used <= self.image.file().size() {
            let what = format!("the superblock counts {stated} bytes, but {used} are used");
            self.problem(None, ondisk::SUPER_OFFSET, what);
        }
        let metabox = u64::from(superblock.metabox_nid().is_some());
        let found = self.report.directories + self.report.files + metabox;
        let inodes = superblock.inodes();
        let readable = self.report.problems.is_empty();
        if !readable || superblock.packed_nid().is_some() || inodes == found {
            return;
        }
        // Images that mkfs.erofs changed still have the inodes of what is gone.
        let unused = stated.saturating_sub(self.regions.covered());
        let gone = unused / ondisk::INODE_SLOT_SIZE;
        if inodes > found && inodes - found <= gone {
            let what = format!("the superblock counts {inodes} inodes, but {found} have names");
            self.warning(None, ondisk::SUPER_OFFSET, what);
        } else {
            let what = format!("the superblock counts {inodes} inodes, expected {found}");
            self.problem(None, ondisk::SUPER_OFFSET, what);
        }
    }
}
