// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A whole tree in the order of its paths' bytes, for the commands that compare trees.

use std::fs;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

/// One entry of a tree.
pub struct Entry {
    /// Where it is: the tree's root joined with `relative`.
    pub path: PathBuf,
    /// Its path below the root, with `.` for the root itself.
    pub relative: Vec<u8>,
    /// What lstat(2) says.
    pub metadata: Metadata,
}

/// All entries below `root` and `root` itself, sorted by the bytes of their relative paths.
pub fn tree(root: &Path) -> Result<Vec<Entry>> {
    tree_up_to(root, usize::MAX)
}

/// The same of a tree that may have no end; it is cut off when it has more entries than `most`.
pub fn tree_up_to(root: &Path, most: usize) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        if entries.len() > most {
            break;
        }
        let metadata =
            fs::symlink_metadata(&path).with_context(|| format!("{}: lstat", path.display()))?;
        if metadata.is_dir() {
            for child in fs::read_dir(&path)
                .with_context(|| format!("{}: open directory", path.display()))?
            {
                let child = child.with_context(|| format!("{}: read directory", path.display()))?;
                pending.push(child.path());
            }
        }
        let below = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .as_os_str()
            .as_bytes();
        let relative = if below.is_empty() {
            b".".to_vec()
        } else {
            below.to_vec()
        };
        entries.push(Entry {
            path,
            relative,
            metadata,
        });
    }
    entries.sort_by(|a, b| a.relative.cmp(&b.relative));
    Ok(entries)
}
