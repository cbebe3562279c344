// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Directories as bytes: blocks of sorted entries, each block's names behind its entries.
//!
//! `plan` needs only the size, `emit` the bytes; both fill blocks with [`Filler`].

use erofs_format::ondisk::DirectoryEntry;
use zerocopy::IntoBytes;

const ENTRY: usize = size_of::<DirectoryEntry>();

/// Decides which entries go into which block: as many as fit.
pub struct Filler {
    block: usize,
    used: usize,
    full: u64,
}

impl Filler {
    /// For blocks of so many bytes.
    pub fn new(block: usize) -> Self {
        Filler {
            block,
            used: 0,
            full: 0,
        }
    }

    /// Takes in the next entry; returns true if it starts a new block.
    pub fn push(&mut self, name: &[u8]) -> bool {
        let len = ENTRY + name.len();
        let new = self.used + len > self.block;
        if new {
            self.full += 1;
            self.used = 0;
        }
        self.used += len;
        new
    }

    /// The size of the directory: whole blocks, and what is used of the last.
    pub fn size(&self) -> u64 {
        self.full * self.block as u64 + self.used as u64
    }
}

/// An entry of a directory.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode it refers to.
    pub nid: u64,
    /// The kind of file, as directories have it.
    pub file_type: u8,
}

/// All of a directory; the last block ends with its last name.
pub fn bytes<'a>(entries: impl Iterator<Item = Entry<'a>>, block: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut filler = Filler::new(block);
    let mut pending: Vec<Entry<'a>> = Vec::new();
    for entry in entries {
        if filler.push(entry.name) {
            push_block(&mut bytes, &pending);
            bytes.resize(bytes.len().next_multiple_of(block), 0);
            pending.clear();
        }
        pending.push(entry);
    }
    push_block(&mut bytes, &pending);
    bytes
}

fn push_block(bytes: &mut Vec<u8>, entries: &[Entry<'_>]) {
    let mut at = entries.len() * ENTRY;
    for entry in entries {
        // A block has at most 64 KiB, and names start within it.
        let nameoff = u16::try_from(at).unwrap_or(u16::MAX);
        let entry_on_disk = DirectoryEntry {
            nid: entry.nid.into(),
            nameoff: nameoff.into(),
            file_type: entry.file_type,
            reserved: 0,
        };
        bytes.extend_from_slice(entry_on_disk.as_bytes());
        at += entry.name.len();
    }
    for entry in entries {
        bytes.extend_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_never_cross_blocks_and_sizes_agree() {
        for (count, len) in [
            (1, 1),
            (2, 1),
            (39, 1),
            (40, 1),
            (41, 5),
            (3, 255),
            (1000, 100),
        ] {
            let names: Vec<Vec<u8>> = (0..count)
                .map(|at| {
                    format!("{at:0len$}")
                        .into_bytes()
                        .into_iter()
                        .take(len)
                        .collect()
                })
                .collect();
            let mut filler = Filler::new(512);
            for name in &names {
                filler.push(name);
            }
            let entries = names.iter().map(|name| Entry {
                name,
                nid: 7,
                file_type: 1,
            });
            let bytes = bytes(entries, 512);
            assert_eq!(bytes.len() as u64, filler.size());
            let mut found = Vec::new();
            for block in bytes.chunks(512) {
                let first = usize::from(u16::from_le_bytes([block[8], block[9]]));
                assert_eq!(first % ENTRY, 0);
                let start = |at: usize| {
                    usize::from(u16::from_le_bytes([
                        block[at * ENTRY + 8],
                        block[at * ENTRY + 9],
                    ]))
                };
                for at in 0..first / ENTRY {
                    let rest = &block[start(at)..];
                    let end = match at + 1 < first / ENTRY {
                        true => start(at + 1) - start(at),
                        false => rest
                            .iter()
                            .position(|byte| *byte == 0)
                            .unwrap_or(rest.len()),
                    };
                    found.push(rest[..end].to_vec());
                }
            }
            assert_eq!(found, names);
        }
    }
}
