// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What `fuzz-mounts` does with a mounted image: everything, but only so much of it.
//!
//! Errors are expected and ignored: the image is spoiled, and the question is whether the kernel survives.
//! Every name is looked up, but what has several names is read only once.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::fs::SeekFrom;
use vmap::Map;

use crate::random::Random;

/// Deeper trees are cut off: an image can make a directory its own child.
const MAX_DEPTH: u32 = 12;
const MAX_WINDOW: u64 = 24 << 10;

/// What may still be done with an image.
pub struct Exercise {
    random: Random,
    entries: u32,
    bytes: u64,
    visited: u32,
    /// The numbers of the inodes that were read.
    known: BTreeSet<u64>,
}

impl Exercise {
    pub fn new(seed: u64, entries: u32, bytes: u64) -> Self {
        Exercise {
            random: Random::new(!seed),
            entries,
            bytes,
            visited: 0,
            known: BTreeSet::new(),
        }
    }

    /// Exercises the tree at `root`; returns how many entries it visited.
    pub fn run(mut self, root: &Path) -> u32 {
        let _ = rustix::fs::statvfs(root);
        if let Ok(root) = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        {
            self.directory(&root, 0);
        }
        self.visited
    }

    fn directory(&mut self, dir: &OwnedFd, depth: u32) {
        let names = self.names(dir);
        self.xattrs(dir);
        for name in &names {
            if self.visited >= self.entries {
                return;
            }
            self.visited += 1;
            self.entry(dir, name, depth);
        }
        self.lookups(dir, &names);
        self.seeks(dir);
    }

    fn names(&mut self, dir: &OwnedFd) -> Vec<Vec<u8>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(dir, &mut buffer);
        let mut names = Vec::new();
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
            if names.len() >= self.entries as usize {
                break;
            }
        }
        names
    }

    fn entry(&mut self, dir: &OwnedFd, name: &[u8], depth: u32) {
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        let open = |flags: OFlags| {
            let flags =
                flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::empty())
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if depth < MAX_DEPTH => match open(OFlags::DIRECTORY) {
                Ok(child) if self.known.insert(stat.st_ino) => self.directory(&child, depth + 1),
                _ => {}
            },
            FileType::RegularFile => match open(OFlags::empty()) {
                Ok(file) if self.known.insert(stat.st_ino) => self.file(file, stat.st_size as u64),
                _ => {}
            },
            FileType::Symlink => {
                let _ = rustix::fs::readlinkat(dir, name, Vec::new());
            }
            _ => {}
        }
    }

    fn file(&mut self, file: OwnedFd, size: u64) {
        let mut buffer = vec![0; MAX_WINDOW as usize];
        self.xattrs(&file);
        if let Ok(count) = rustix::io::read(&file, &mut buffer[..]) {
            self.bytes = self.bytes.saturating_sub(count as u64);
        }
        let places = [
            size / 2,
            size.saturating_sub(1),
            size,
            size.wrapping_add(1),
            self.random.below(size.max(1)),
            (1 << 32) - 1,
            i64::MAX as u64 - 4096,
        ];
        for place in places {
            if self.bytes == 0 {
                return;
            }
            let length = 1 + self.random.index(buffer.len());
            if let Ok(count) = rustix::io::pread(&file, &mut buffer[..length], place) {
                self.bytes = self.bytes.saturating_sub(count as u64);
            }
        }
        let _ = rustix::fs::seek(&file, SeekFrom::Data(self.random.below(size.max(1))));
        let _ = rustix::fs::seek(&file, SeekFrom::Hole(0));
        if self.random.one_in(2) {
            self.map(file.into(), size);
        }
    }

    /// Maps a window and lets write(2) touch it, for which a page that cannot be had is EFAULT, not SIGBUS.
    fn map(&mut self, file: std::fs::File, size: u64) {
        let Ok(sink) = rustix::fs::memfd_create("sink", MemfdFlags::CLOEXEC) else {
            return;
        };
        let last = size.saturating_sub(1).min(1 << 46);
        for start in [0, last & !4095, self.random.below(last.max(1)) & !4095] {
            let length = size.saturating_sub(start).min(MAX_WINDOW);
            if length == 0 || self.bytes == 0 {
                return;
            }
            let mut options = Map::with_options();
            if let Ok(map) = options
                .offset(start as usize)
                .len(length as usize)
                .map(&file)
            {
                for page in map.chunks(4096) {
                    let _ = rustix::io::pwrite(&sink, page, 0);
                }
                self.bytes = self.bytes.saturating_sub(length);
            }
        }
    }

    fn xattrs(&mut self, file: &OwnedFd) {
        let mut list = vec![0; 4 << 10];
        let Ok(length) = rustix::fs::flistxattr(file, &mut list) else {
            return;
        };
        let mut value = vec![0; 4 << 10];
        for name in list[..length].split(|&byte| byte == 0).take(20) {
            let _ = rustix::fs::fgetxattr(file, name, &mut value);
        }
        let _ = rustix::fs::fgetxattr(file, "user.absent", &mut value);
    }

    /// Names that are there, nearly there, and nowhere.
    fn lookups(&mut self, dir: &OwnedFd, names: &[Vec<u8>]) {
        for _ in 0..4 {
            let mut name = if names.is_empty() || self.random.one_in(3) {
                let mut name = vec![0; 1 + self.random.index(255)];
                self.random.fill(&mut name);
                name
            } else {
                self.random.pick(names).clone()
            };
            if self.random.one_in(2) {
                let place = self.random.index(name.len());
                name[place] = name[place].wrapping_add(1);
            }
            name.iter_mut()
                .filter(|byte| matches!(byte, 0 | b'/'))
                .for_each(|byte| *byte = b'x');
            let _ = rustix::fs::statat(dir, &name[..], AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    /// Positions that no entry ever had.
    fn seeks(&mut self, dir: &OwnedFd) {
        let random = self.random.next() >> self.random.below(64);
        for position in [
            1,
            13,
            self.random.below(4096),
            self.random.below(1 << 20),
            random,
            i64::MAX as u64,
        ] {
            if rustix::fs::seek(dir, SeekFrom::Start(position)).is_ok() {
                let mut buffer = [MaybeUninit::uninit(); 1024];
                let mut entries = RawDir::new(dir, &mut buffer);
                for _ in 0..20 {
                    if !matches!(entries.next(), Some(Ok(_))) {
                        break;
                    }
                }
            }
        }
    }
}
