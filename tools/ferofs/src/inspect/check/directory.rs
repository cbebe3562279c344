// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Directories: what their names refer to, every name that can be read in spite of those that cannot, and what only shows when
//! the blocks are looked at as they are.

use super::Checker;
use super::known::Place;
use super::not_given;
use crate::inspect::Name;
use crate::text::Quoted;
use erofs_format::DirEntry;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::ondisk;
use std::io;

const ENTRY: usize = ondisk::DIRECTORY_ENTRY_SIZE as usize;

/// After so many errors in one directory the rest of it is left alone: it may claim to be larger
/// than the image could ever be.
const MAX_ERRORS: u32 = 100;

impl Checker<'_> {
    pub(super) fn directory(&mut self, directory: &Inode) -> io::Result<()> {
        let Some(names) = self.list(directory)? else {
            return Ok(());
        };
        let own = directory.nid();
        let parent = self.known.directory(own).unwrap_or(own);
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
                self.problem_in(directory, name.pos, what);
            }
            if !matches!(name.file_type, 0 | ondisk::file_type::DIRECTORY) {
                let what = format!("{shown} is not listed as a directory");
                self.problem_in(directory, name.pos, what);
            }
        }
        if !dots.0 {
            self.problem_of(directory, "\".\" is missing");
        }
        if !dots.1 {
            self.problem_of(directory, "\"..\" is missing");
        }
        let links = u64::from(directory.nlink());
        if links != directories + 2 {
            let expected = directories + 2;
            let what = format!("its link count is {links}, expected {expected}");
            self.problem_of(directory, what);
        }
        Ok(())
    }

    /// Checks what a name refers to; returns whether that is a directory.
    fn entry(&mut self, directory: &Inode, name: &Name) -> io::Result<bool> {
        let image = self.image;
        let at = self.position(directory, name.pos);
        let place = Place {
            directory: directory.nid(),
            name: &name.name,
        };
        if let Some(kind) = self.known.found_again(name.nid) {
            self.file_type(place, at, name, kind);
            if kind == FileKind::Directory && self.is_kept() {
                let first = self.path(name.nid);
                let first = Quoted(&first);
                let what = match self.is_above(name.nid, directory.nid()) {
                    true => format!("it is the directory {first}, and in it: a circle"),
                    false => format!("the directory {first} has this second name"),
                };
                self.problem_at(place, at, what);
            } else if kind == FileKind::Directory {
                self.problem(None, at, "a directory has a second name");
            }
            return Ok(kind == FileKind::Directory);
        }
        let inode = match image.superblock().inode(image.file(), name.nid) {
            Ok(inode) => inode,
            Err(error) => {
                let path = self.is_kept().then(|| self.path_of(place));
                self.failed(path, at, error)?;
                return Ok(name.file_type == ondisk::file_type::DIRECTORY);
            }
        };
        self.file_type(place, at, name, inode.kind());
        self.known.insert(&inode, place);
        let walkable = self.inode(&inode)?;
        if inode.kind() == FileKind::Directory {
            if walkable {
                self.waiting.push(inode.nid());
            }
            return Ok(true);
        }
        self.report.files += 1;
        Ok(false)
    }

    /// Where in the image the byte at `pos` of a directory is; the inode's position if there is none, as for
    /// an omitted entry.
    fn position(&self, directory: &Inode, pos: u64) -> u64 {
        if pos >= directory.size() {
            return directory.pos();
        }
        let extent = directory.extent(self.image.superblock(), self.image.file(), pos);
        extent
            .ok()
            .and_then(|extent| self.image_position(&extent.skip_to(pos).source))
            .unwrap_or_else(|| directory.pos())
    }

    /// Adds a problem of a directory, with the entry at `pos` of it.
    fn problem_in(&mut self, directory: &Inode, pos: u64, what: String) {
        let path = self.is_kept().then(|| self.path(directory.nid()));
        let at = self.position(directory, pos);
        self.problem(path, at, what);
    }

    /// Whether a directory is another one, or above it.
    fn is_above(&self, above: u64, nid: u64) -> bool {
        let mut at = nid;
        while at != above {
            match self.known.directory(at).filter(|_| at != self.root) {
                Some(directory) => at = directory,
                None => return false,
            }
        }
        true
    }

    fn file_type(&mut self, place: Place<'_>, at: u64, name: &Name, kind: FileKind) {
        let (found, expected) = (name.file_type, kind.file_type());
        if found != expected && found != ondisk::file_type::UNKNOWN {
            let what = format!("its directory says type {found}, its inode {expected}");
            self.problem_at(place, at, what);
        }
    }

    /// The names in a directory, leaving out what cannot be read. None if they are in a device that is not given.
    fn list(&mut self, directory: &Inode) -> io::Result<Option<Vec<Name>>> {
        let image = self.image;
        let superblock = image.superblock();
        let block = u64::from(superblock.block_size());
        let mut names: Vec<Name> = Vec::new();
        let mut pos = 0;
        // An error that comes again from the next entry is one of the whole block.
        let mut repeated = None;
        let mut errors = 0;
        let mut end = directory.size();
        loop {
            let mut last = pos;
            let mut emit = |entry: &DirEntry<'_>| {
                names.push(Name::from(entry));
                last = entry.next;
                true
            };
            let Err(error) = directory.read_dir(superblock, image.file(), pos, &mut emit) else {
                break;
            };
            if not_given(&error).is_some() {
                self.failed_at(directory, error)?;
                return Ok(None);
            }
            errors += 1;
            if errors > MAX_ERRORS {
                let what = format!("{MAX_ERRORS} errors in this directory, the rest is not read");
                self.problem_of(directory, what);
                end = pos;
                break;
            }
            let text = error.to_string();
            if repeated.as_ref() == Some(&text) {
                pos = next_block(last, block);
                repeated = None;
            } else {
                self.failed_at(directory, error)?;
                repeated = Some(text);
                // Behind the entry that is wrong, if it is one.
                pos = last.saturating_add(ondisk::DIRECTORY_ENTRY_SIZE);
            }
            if pos >= directory.size() {
                break;
            }
        }
        self.order(directory, &names, errors == 0);
        self.blocks(directory, end)?;
        Ok(Some(names))
    }

    /// Whether names are sorted across those that could not be read.
    fn order(&mut self, directory: &Inode, names: &[Name], sound: bool) {
        if sound {
            // They were compared when they were read.
            return;
        }
        let stored = names.iter().filter(|name| name.pos < directory.size());
        let stored: Vec<&Name> = stored.collect();
        for pair in stored.windows(2) {
            let [before, after] = pair else {
                continue;
            };
            if before.name >= after.name {
                let pos = after.pos;
                let (before, after) = (Quoted(&before.name), Quoted(&after.name));
                let what = format!("it lists {after} behind {before}");
                self.problem_in(directory, pos, what);
            }
        }
    }

    /// Reserved bytes, and bytes behind the names, in each block up to `end`.
    fn blocks(&mut self, directory: &Inode, end: u64) -> io::Result<()> {
        let image = self.image;
        let block = u64::from(image.superblock().block_size());
        let mut offset = 0;
        while offset < end {
            let Ok(extent) = directory.extent(image.superblock(), image.file(), offset) else {
                // That was a problem when the names were read.
                break;
            };
            let Some((space, pos)) = extent.skip_to(offset).source.place() else {
                break;
            };
            let length = block.min(directory.size() - offset);
            let Some(bytes) = self.bytes_of(directory, space, pos, length)? else {
                break;
            };
            if let Some(what) = leftovers(&bytes) {
                let at = self.position(directory, offset);
                self.warning(Some(self.path(directory.nid())), at, what);
            }
            offset = next_block(offset, block);
        }
        Ok(())
    }
}

fn next_block(pos: u64, block: u64) -> u64 {
    (pos / block).saturating_add(1).saturating_mul(block)
}

/// What is strange in a block that may be sound otherwise.
fn leftovers(block: &[u8]) -> Option<&'static str> {
    let name_at = |entry: &[u8]| {
        let offset = entry.get(8..10)?.try_into().ok()?;
        Some(usize::from(u16::from_le_bytes(offset)))
    };
    let first = name_at(block)?;
    let entries = block.get(..first)?;
    if first % ENTRY != 0 {
        return None;
    }
    if entries
        .chunks_exact(ENTRY)
        .any(|entry| entry.last() != Some(&0))
    {
        return Some("reserved bytes of directory entries are not zero");
    }
    let last = name_at(entries.chunks_exact(ENTRY).last()?)?;
    let rest = block.get(last..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let garbage = rest.get(end..)?.iter().any(|byte| *byte != 0);
    garbage.then_some("there is something behind the last name of the directory's block")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_behind_the_last_name() {
        let mut block = vec![0; 64];
        block[8] = 24;
        block[20] = 25;
        block[24..28].copy_from_slice(b"abcd");
        assert_eq!(leftovers(&block), None);
        assert_eq!(leftovers(&block[..28]), None);
        let mut garbage = block.clone();
        garbage[40] = 1;
        assert!(
            leftovers(&garbage)
                .unwrap()
                .contains("behind the last name")
        );
        block[23] = 1;
        assert!(leftovers(&block).unwrap().contains("reserved"));
        // What is no directory block is not for this.
        assert_eq!(leftovers(&[0xff; 64]), None);
        assert_eq!(leftovers(&[0; 64]), None);
        assert_eq!(leftovers(&[]), None);
    }
}
