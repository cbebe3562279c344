// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Directories: every name that can be read in spite of those that cannot, and what only shows when
//! the blocks are looked at as they are.

use super::Checker;
use crate::inspect::Name;
use crate::text::Quoted;
use erofs_format::DirEntry;
use erofs_format::Inode;
use erofs_format::Source;
use erofs_format::ondisk;
use std::io;

const ENTRY: usize = ondisk::DIRECTORY_ENTRY_SIZE as usize;

/// After so many errors in one directory the rest of it is left alone: it may claim to be larger
/// than the image could ever be.
const MAX_ERRORS: u32 = 100;

impl Checker<'_> {
    /// The names in a directory, leaving out what cannot be read.
    pub(super) fn list(&mut self, directory: &Inode) -> io::Result<Vec<Name>> {
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
        Ok(names)
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
                let (before, after) = (Quoted(&before.name), Quoted(&after.name));
                let what = format!("it lists {after} behind {before}");
                self.problem_of(directory, what);
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
            let (Source::Metadata { pos } | Source::Device { id: 0, pos }) =
                extent.skip_to(offset).source
            else {
                break;
            };
            let length = block.min(directory.size() - offset);
            let bytes = image.read(pos, length as usize)?;
            if let Some(what) = leftovers(&bytes) {
                self.warning(Some(self.path(directory.nid())), pos, what);
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
