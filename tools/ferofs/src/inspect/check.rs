// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Everything an image can be wrong in.
//!
//! What cannot be read as the format says is found by the format crate, which this walks all of
//! the image with; the rest is about things that are right by themselves and wrong together:
//! directories in a circle, wrong link counts, data beyond the end of its device. Checking goes on
//! behind an error as far as it makes sense.

use super::Image;
use super::Name;
use super::ReadError;
use crate::text::Quoted;
use erofs_format::DeviceSlot;
use erofs_format::DirEntry;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Metadata;
use erofs_format::Source;
use erofs_format::ondisk;
use std::collections::HashMap;
use std::io;

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
    /// Everything that is wrong, in the order it was found.
    pub problems: Vec<Problem>,
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
}

impl Checker<'_> {
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
        self.report.problems.push(Problem {
            path,
            at,
            what: what.into(),
        });
    }

    /// Takes in what could not be read: a problem of the image, unless the file itself failed.
    fn failed(&mut self, path: Option<Vec<u8>>, at: u64, error: ReadError) -> io::Result<()> {
        match error {
            ReadError::Io(error) => return Err(error),
            ReadError::Corrupt(corrupt) => self.problem(path, corrupt.at, corrupt.what),
            other => self.problem(path, at, other.to_string()),
        }
        Ok(())
    }

    fn run(&mut self, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let image = self.image;
        let superblock = image.superblock();
        self.image_size();
        self.device_table()?;
        match superblock.root(image.file()) {
            Ok(root) => {
                self.root = root.nid();
                let place = Place {
                    directory: root.nid(),
                    name: Box::default(),
                };
                self.known.insert(root.nid(), known(&root, place));
                self.xattrs(&root)?;
                self.waiting.push(root);
            }
            Err(error) => self.failed(Some(b"/".to_vec()), ondisk::SUPER_OFFSET, error)?,
        }
        while let Some(directory) = self.waiting.pop() {
            self.directory(&directory)?;
            self.report.directories += 1;
            progress(self.report.directories + self.report.files);
        }
        self.links();
        Ok(())
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

    /// The names in a directory, leaving out what cannot be read.
    fn list(&mut self, directory: &Inode) -> io::Result<Vec<Name>> {
        let image = self.image;
        let superblock = image.superblock();
        let block = u64::from(superblock.block_size());
        let mut names = Vec::new();
        let mut pos = 0;
        loop {
            let mut last = pos;
            let mut emit = |entry: &DirEntry<'_>| {
                names.push(Name::from(entry));
                last = entry.next;
                true
            };
            let Err(error) = directory.read_dir(superblock, image.file(), pos, &mut emit) else {
                return Ok(names);
            };
            self.failed(Some(self.path(directory.nid())), directory.pos(), error)?;
            // The rest of the block cannot be trusted.
            pos = (last / block).saturating_add(1).saturating_mul(block);
            if pos >= directory.size() {
                return Ok(names);
            }
        }
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
                let what = format!("the directory {} has this second name", Quoted(&first));
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
        self.data(&inode)?;
        self.xattrs(&inode)?;
        if inode.kind() == FileKind::Directory {
            self.waiting.push(inode);
            return Ok(true);
        }
        self.report.files += 1;
        Ok(false)
    }

    fn file_type(&mut self, place: &Place, at: u64, name: &Name, kind: FileKind) {
        let (found, expected) = (name.file_type, kind.file_type());
        if found != expected && found != ondisk::file_type::UNKNOWN {
            let what = format!("its directory says type {found}, its inode {expected}");
            self.problem_at(place, at, what);
        }
    }

    fn data(&mut self, inode: &Inode) -> io::Result<()> {
        let image = self.image;
        if inode.kind() == FileKind::Symlink {
            let mut target = [0; ondisk::SYMLINK_MAX as usize];
            if let Err(error) = inode.read_link(image.superblock(), image.file(), &mut target) {
                self.failed(Some(self.path(inode.nid())), inode.pos(), error)?;
            }
        }
        if !inode.kind().has_data() {
            return Ok(());
        }
        if inode.kind() == FileKind::Regular {
            self.report.data = self.report.data.saturating_add(inode.size());
        }
        let mut offset = 0;
        while offset < inode.size() {
            let extent = match inode.extent(image.superblock(), image.file(), offset) {
                Ok(extent) if extent.len > 0 => extent,
                Ok(_) => break,
                Err(error) => {
                    return self.failed(Some(self.path(inode.nid())), inode.pos(), error);
                }
            };
            if let Source::Device { id, pos } = extent.source {
                self.bounds(inode, offset, id, pos, extent.len);
            }
            offset = extent.start.saturating_add(extent.len);
        }
        Ok(())
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

    fn xattrs(&mut self, inode: &Inode) -> io::Result<()> {
        let image = self.image;
        match inode.list_xattrs(image.superblock(), image.file(), &mut |_| true) {
            Ok(()) => Ok(()),
            Err(error) => self.failed(Some(self.path(inode.nid())), inode.pos(), error),
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
        self.report.problems.extend(wrong);
        self.report.problems.sort_by_key(|problem| problem.at);
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
