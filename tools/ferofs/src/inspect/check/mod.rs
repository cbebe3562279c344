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

mod directory;
mod regions;
mod superblock;
mod xattrs;

use super::Image;
use super::Name;
use super::ReadError;
use crate::text::Quoted;
use erofs_format::DeviceSlot;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Layout;
use erofs_format::Metadata;
use erofs_format::Source;
use erofs_format::ondisk;
use regions::Region;
use regions::Use;
use std::collections::BTreeSet;
use std::collections::HashMap;
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
}

/// What is known of an inode that a name refers to.
struct Known {
    kind: FileKind,
    nlink: u32,
    pos: u64,
    found: u64,
    /// Where it was found first.
    place: Place,
}

/// A name in a directory. Whole paths are put together only when one is to be shown: they may be
/// of any length.
#[derive(Clone)]
struct Place {
    directory: u64,
    name: Box<[u8]>,
}

/// Checks an image. `sizes` are the sizes of its devices in bytes, as far as they are known.
///
/// # Errors
///
/// When the image cannot be read; what is wrong in it is no error here.
pub fn check(image: &Image, sizes: &[u64], progress: &mut dyn FnMut(u64)) -> io::Result<Report> {
    let mut checker = Checker {
        image,
        devices: Vec::new(),
        sizes,
        root: 0,
        report: Report::default(),
        known: HashMap::new(),
        waiting: Vec::new(),
        regions: Vec::new(),
        shared: HashSet::new(),
        used: BTreeSet::new(),
        spent: 0,
    };
    checker.run(progress)?;
    Ok(checker.report)
}

struct Checker<'a> {
    image: &'a Image,
    /// What is known of each device: its size in bytes, by its slot or its file.
    devices: Vec<u64>,
    sizes: &'a [u64],
    root: u64,
    report: Report,
    known: HashMap<u64, Known>,
    /// Directories yet to be walked.
    waiting: Vec<Inode>,
    /// What is where in the image.
    regions: Vec<Region>,
    /// Where the shared attributes are that were seen.
    shared: HashSet<u64>,
    /// Devices that files have data in.
    used: BTreeSet<u16>,
    /// Bytes of tables, directories and attributes that were looked at.
    spent: u64,
}

impl Checker<'_> {
    /// Takes from what may be looked at: every byte of the image once. Only structures on top of each
    /// other need more, and would take for ever. False if there is not as much left.
    fn spend(&mut self, bytes: u64, inode: &Inode, what: &str) -> io::Result<bool> {
        let spent = self.spent.saturating_add(bytes);
        if spent > self.image.file().size() {
            let what = format!("its {what} are not looked at, as others lie in the same place");
            self.problem_of(inode, what);
            return Ok(false);
        }
        self.spent = spent;
        Ok(true)
    }

    /// The path of an inode that is known.
    fn path(&self, nid: u64) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = nid;
        while let Some(known) = self.known.get(&at).filter(|_| at != self.root) {
            parts.push(&known.place.name);
            at = known.place.directory;
        }
        let mut path = Vec::new();
        for part in parts.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    fn path_of(&self, place: &Place) -> Vec<u8> {
        let mut path = self.path(place.directory);
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(&place.name);
        path
    }

    /// Adds a problem of the file that has a name in a directory.
    fn problem_at(&mut self, place: &Place, at: u64, what: impl Into<String>) {
        let path = self.path_of(place);
        self.problem(Some(path), at, what);
    }

    fn problem(&mut self, path: Option<Vec<u8>>, at: u64, what: impl Into<String>) {
        if self.report.problems.len() >= KEPT {
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
        if self.report.problems.len() >= KEPT {
            self.report.more_problems += 1;
            return;
        }
        self.problem(Some(self.path(inode.nid())), inode.pos(), what);
    }

    fn warning_of(&mut self, inode: &Inode, what: impl Into<String>) {
        if self.report.warnings.len() < KEPT {
            self.warning(Some(self.path(inode.nid())), inode.pos(), what);
        }
    }

    /// Takes in what could not be read of an inode that has a name.
    fn failed_at(&mut self, inode: &Inode, error: ReadError) -> io::Result<()> {
        // Paths are not for free.
        let kept = self.report.problems.len() < KEPT;
        let path = kept.then(|| self.path(inode.nid()));
        self.failed(path, inode.pos(), error)
    }

    /// Takes in what could not be read: a problem of the image, unless the file itself failed.
    fn failed(&mut self, path: Option<Vec<u8>>, at: u64, error: ReadError) -> io::Result<()> {
        match error {
            ReadError::Io(error) => return Err(error),
            ReadError::Corrupt(corrupt) => self.problem(path, corrupt.at, corrupt.what),
            // An image with compressed data says so in its superblock, and is not checked at all.
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
        self.prefixes()?;
        match superblock.root(image.file()) {
            Ok(root) => {
                self.root = root.nid();
                let place = Place {
                    directory: root.nid(),
                    name: Box::default(),
                };
                self.known.insert(root.nid(), known(&root, place));
                if self.inode(&root)? {
                    self.waiting.push(root);
                }
            }
            Err(error) => self.failed(Some(b"/".to_vec()), ondisk::SUPER_OFFSET, error)?,
        }
        while let Some(directory) = self.waiting.pop() {
            self.directory(&directory)?;
            self.report.directories += 1;
            progress(self.report.directories + self.report.files);
        }
        self.links();
        self.overlaps();
        let devices = 1..=self.image.superblock().device_count();
        self.report.unused_devices = devices.filter(|id| !self.used.contains(id)).collect();
        self.report.problems.sort_by_key(|problem| problem.at);
        self.report.warnings.sort_by_key(|problem| problem.at);
        Ok(())
    }

    /// Finds what lies on top of something else.
    fn overlaps(&mut self) {
        let mut found = Vec::new();
        regions::overlaps(std::mem::take(&mut self.regions), &mut |region, other| {
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

    fn image_size(&mut self) {
        let superblock = self.image.superblock();
        let stated = superblock
            .blocks()
            .saturating_mul(u64::from(superblock.block_size()));
        let found = self.image.file().size();
        if stated > found {
            let what = format!("the superblock counts {stated} bytes, the image has {found}");
            self.problem(None, ondisk::SUPER_OFFSET, what);
        }
        let mut region = |start: u64, size: u64, usage| {
            let end = start.saturating_add(size);
            self.regions.push(Region {
                start,
                end,
                usage,
                nid: 0,
            });
        };
        let size = u64::from(superblock.size());
        region(ondisk::SUPER_OFFSET, size, Use::Superblock);
        let slots = u64::from(superblock.device_count()) * ondisk::DEVICE_SLOT_SIZE;
        region(superblock.device_table_pos(), slots, Use::DeviceTable);
    }

    fn device_table(&mut self) -> io::Result<()> {
        let superblock = self.image.superblock();
        let block = u64::from(superblock.block_size());
        let mut slots: Vec<(u16, DeviceSlot)> = Vec::new();
        for index in 0..superblock.device_count() {
            let at = self.slot_position(index);
            let size = match superblock.device(self.image.file(), index) {
                Ok(slot) => {
                    slots.push((index, slot));
                    slot.blocks.saturating_mul(block)
                }
                Err(error) => {
                    self.failed(None, at, error)?;
                    u64::MAX
                }
            };
            let slot = self.image.read(at, ondisk::DEVICE_SLOT_SIZE as usize)?;
            if slot
                .get(76..)
                .is_some_and(|reserved| reserved.iter().any(|byte| *byte != 0))
            {
                let what = format!("reserved bytes of device slot {} are not zero", index + 1);
                self.warning(None, at, what);
            }
            let Some(found) = self.sizes.get(usize::from(index)).copied() else {
                self.devices.push(size);
                continue;
            };
            if size != u64::MAX && size > found.next_multiple_of(block) {
                let number = index + 1;
                let what = format!("device {number} has {found} bytes, its slot says {size}");
                self.problem(None, at, what);
            }
            self.devices.push(found);
        }
        self.flat_addresses(slots);
        Ok(())
    }

    fn slot_position(&self, index: u16) -> u64 {
        let table = self.image.superblock().device_table_pos();
        table.saturating_add(u64::from(index) * ondisk::DEVICE_SLOT_SIZE)
    }

    /// Devices in one file with the image must not overlap there.
    fn flat_addresses(&mut self, mut slots: Vec<(u16, DeviceSlot)>) {
        slots.retain(|(_, slot)| slot.uniaddr != 0 && slot.blocks != 0);
        slots.sort_by_key(|(_, slot)| slot.uniaddr);
        let own = self.image.superblock().blocks();
        if let Some((index, slot)) = slots.first() {
            if slot.uniaddr < own {
                let number = index + 1;
                let what = format!("device {number} overlaps the image in flat addresses");
                self.problem(None, self.slot_position(*index), what);
            }
        }
        for pair in slots.windows(2) {
            let [(first, before), (second, after)] = pair else {
                continue;
            };
            if before.uniaddr.saturating_add(before.blocks) > after.uniaddr {
                let (first, second) = (first + 1, second + 1);
                let what = format!("devices {first} and {second} overlap in flat addresses");
                self.problem(None, self.slot_position(second - 1), what);
            }
        }
    }

    fn directory(&mut self, directory: &Inode) -> io::Result<()> {
        let names = self.list(directory)?;
        let own = directory.nid();
        let parent = self
            .known
            .get(&own)
            .map_or(own, |known| known.place.directory);
        let at = directory.pos();
        let mut directories: u64 = 0;
        let mut dots = (false, false);
        for name in &names {
            let expected = match name.name.as_slice() {
                b"." => {
                    dots.0 = true;
                    own
                }
                b".." => {
                    dots.1 = true;
                    parent
                }
                _ => {
                    directories += u64::from(self.entry(directory, name)?);
                    continue;
                }
            };
            let shown = Quoted(&name.name);
            if name.nid != expected {
                let what = format!("{shown} refers to inode {}, expected {expected}", name.nid);
                self.problem(Some(self.path(own)), at, what);
            }
            if !matches!(name.file_type, 0 | ondisk::file_type::DIRECTORY) {
                let what = format!("{shown} is not listed as a directory");
                self.problem(Some(self.path(own)), at, what);
            }
        }
        if !dots.0 {
            self.problem(Some(self.path(own)), at, "\".\" is missing");
        }
        if !dots.1 {
            self.problem(Some(self.path(own)), at, "\"..\" is missing");
        }
        let links = u64::from(directory.nlink());
        if links != directories + 2 {
            let expected = directories + 2;
            let what = format!("its link count is {links}, expected {expected}");
            self.problem(Some(self.path(own)), at, what);
        }
        Ok(())
    }

    /// Checks what a name refers to; returns whether that is a directory.
    fn entry(&mut self, directory: &Inode, name: &Name) -> io::Result<bool> {
        let image = self.image;
        let at = directory.pos();
        let place = Place {
            directory: directory.nid(),
            name: name.name.as_slice().into(),
        };
        if let Some(known) = self.known.get_mut(&name.nid) {
            known.found += 1;
            let kind = known.kind;
            self.file_type(&place, at, name, kind);
            if kind == FileKind::Directory {
                let first = self.path(name.nid);
                let first = Quoted(&first);
                let what = match self.is_above(name.nid, directory.nid()) {
                    true => format!("it is the directory {first}, and in it: a circle"),
                    false => format!("the directory {first} has this second name"),
                };
                self.problem_at(&place, at, what);
            }
            return Ok(kind == FileKind::Directory);
        }
        let inode = match image.superblock().inode(image.file(), name.nid) {
            Ok(inode) => inode,
            Err(error) => {
                self.failed(Some(self.path_of(&place)), at, error)?;
                return Ok(name.file_type == ondisk::file_type::DIRECTORY);
            }
        };
        self.file_type(&place, at, name, inode.kind());
        self.known.insert(name.nid, known(&inode, place));
        let walkable = self.inode(&inode)?;
        if inode.kind() == FileKind::Directory {
            if walkable {
                self.waiting.push(inode);
            }
            return Ok(true);
        }
        self.report.files += 1;
        Ok(false)
    }

    /// Whether a directory is another one, or above it.
    fn is_above(&self, above: u64, nid: u64) -> bool {
        let mut at = nid;
        while at != above {
            match self.known.get(&at).filter(|_| at != self.root) {
                Some(known) => at = known.place.directory,
                None => return false,
            }
        }
        true
    }

    /// Checks what an inode has by itself: reserved bytes, place, data, attributes. Returns whether all
    /// of its data was looked at.
    fn inode(&mut self, inode: &Inode) -> io::Result<bool> {
        let image = self.image;
        let size = xattrs::inode_size(inode);
        let bytes = image.read(inode.pos(), size as usize)?;
        let reserved = match inode.is_extended() {
            true => 48..64,
            false => 28..32,
        };
        let is_set = |range| -> bool {
            let reserved: Option<&[u8]> = bytes.get::<std::ops::Range<usize>>(range);
            reserved.is_some_and(|reserved| reserved.iter().any(|byte| *byte != 0))
        };
        let chunks = matches!(inode.layout(), Layout::Chunks { .. });
        if is_set(reserved) || (chunks && is_set(18..20)) {
            self.warning_of(inode, "reserved bytes of its inode are not zero");
        }
        let head = size.saturating_add(u64::from(inode.xattr_size()));
        let start = inode.pos();
        self.regions.push(Region {
            start,
            end: start.saturating_add(head),
            usage: Use::Inode,
            nid: inode.nid(),
        });
        let walkable = self.data(inode)?;
        self.xattrs(inode)?;
        Ok(walkable)
    }

    fn file_type(&mut self, place: &Place, at: u64, name: &Name, kind: FileKind) {
        let (found, expected) = (name.file_type, kind.file_type());
        if found != expected && found != ondisk::file_type::UNKNOWN {
            let what = format!("its directory says type {found}, its inode {expected}");
            self.problem_at(place, at, what);
        }
    }

    fn data(&mut self, inode: &Inode) -> io::Result<bool> {
        let image = self.image;
        if inode.kind() == FileKind::Symlink {
            let mut target = [0; ondisk::SYMLINK_MAX as usize];
            if let Err(error) = inode.read_link(image.superblock(), image.file(), &mut target) {
                self.failed(Some(self.path(inode.nid())), inode.pos(), error)?;
            }
        }
        if !inode.kind().has_data() {
            return Ok(true);
        }
        if inode.kind() == FileKind::Regular {
            self.report.data = self.report.data.saturating_add(inode.size());
        }
        let directory = inode.kind() == FileKind::Directory;
        let (usage, nid) = match directory {
            true => (Use::Directory, inode.nid()),
            false => (Use::Data, inode.nid()),
        };
        if directory && !self.spend(inode.size(), inode, "blocks")? {
            return Ok(false);
        }
        if let Layout::Chunks {
            table,
            chunk_bits,
            indexes,
            ..
        } = inode.layout()
        {
            let chunks = (u128::from(inode.size())).div_ceil(1 << chunk_bits);
            let entry: u128 = if indexes { 8 } else { 4 };
            // The table lies within the image.
            let size = u64::try_from(chunks * entry).unwrap_or(u64::MAX);
            let end = table.saturating_add(size);
            self.regions.push(Region {
                start: table,
                end,
                usage: Use::Inode,
                nid,
            });
            if !self.spend(size, inode, "chunks")? {
                return Ok(false);
            }
        }
        let mut offset = 0;
        while offset < inode.size() {
            let extent = match inode.extent(image.superblock(), image.file(), offset) {
                Ok(extent) if extent.len > 0 => extent,
                Ok(_) => break,
                Err(error) => {
                    self.failed_at(inode, error)?;
                    // The other chunks may be sound.
                    match inode.layout() {
                        Layout::Chunks { chunk_bits, .. } => {
                            offset = ((offset >> chunk_bits) + 1) << chunk_bits;
                            continue;
                        }
                        _ => break,
                    }
                }
            };
            match extent.source {
                Source::Device { id, pos } => {
                    self.bounds(inode, offset, id, pos, extent.len);
                    self.used.insert(id);
                    if id == 0 {
                        let end = pos.saturating_add(extent.len);
                        self.regions.push(Region {
                            start: pos,
                            end,
                            usage,
                            nid,
                        });
                    }
                }
                Source::Metadata { pos } => {
                    let end = pos.saturating_add(extent.len);
                    self.regions.push(Region {
                        start: pos,
                        end,
                        usage: Use::Inode,
                        nid,
                    });
                }
                Source::Hole => {}
            }
            offset = extent.start.saturating_add(extent.len);
        }
        Ok(true)
    }

    /// Whether data is within its device.
    fn bounds(&mut self, inode: &Inode, offset: u64, id: u16, pos: u64, len: u64) {
        let end = pos.saturating_add(len);
        let (device, size) = match id.checked_sub(1) {
            None => ("the image".to_string(), Some(self.image.file().size())),
            Some(index) => (
                format!("device {id}"),
                self.devices.get(usize::from(index)).copied(),
            ),
        };
        let size = size.unwrap_or_default();
        if end > size {
            let what = format!(
                "its data at {offset} is at {pos} to {end} of {device}, which has {size} bytes"
            );
            self.problem(Some(self.path(inode.nid())), inode.pos(), what);
        }
    }

    /// Compares link counts with the names that were found; those of directories are checked where
    /// they are walked.
    fn links(&mut self) {
        let wrong: Vec<Problem> = self
            .known
            .values()
            .filter(|known| known.kind != FileKind::Directory)
            .filter(|known| u64::from(known.nlink) != known.found)
            .take(KEPT)
            .map(
                |Known {
                     nlink,
                     found,
                     place,
                     pos,
                     ..
                 }| Problem {
                    path: Some(self.path_of(place)),
                    at: *pos,
                    what: format!("its link count is {nlink}, but it has {found} names"),
                },
            )
            .collect();
        for problem in wrong {
            self.problem(problem.path, problem.at, problem.what);
        }
        let found = self.report.directories + self.report.files;
        let stated = self.image.superblock().inodes();
        let readable = self.report.problems.is_empty();
        if readable && self.image.superblock().packed_nid().is_none() && stated != found {
            let what = format!("the superblock counts {stated} inodes, expected {found}");
            self.problem(None, ondisk::SUPER_OFFSET, what);
        }
    }
}

fn known(inode: &Inode, place: Place) -> Known {
    Known {
        kind: inode.kind(),
        nlink: inode.nlink(),
        pos: inode.pos(),
        found: 1,
        place,
    }
}
