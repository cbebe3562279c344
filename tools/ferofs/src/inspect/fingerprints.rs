// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compares the data of an image's files with their fingerprints. Called by `ferofs check`.

use super::check::Problem;
use super::contents::Contents;
use super::contents::Piece;
use super::walk::Walk;
use crate::digest::Digest;
use crate::digest::add_zeros;
use crate::error::Error;
use crate::error::Result;
use crate::tree::fingerprint;
use erofs_format::FileKind;
use sha2::Digest as _;
use sha2::Sha256;
use std::collections::HashSet;

/// What was compared.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Compared {
    /// Files whose fingerprint is that of something else, or is none.
    pub problems: Vec<Problem>,
    /// Files that have the right one.
    pub right: u64,
    /// Files with data that have none.
    pub without: u64,
}

/// Reads all files that have fingerprints. `progress` is told how many names are done. None if the image says that its files
/// have none.
///
/// # Errors
///
/// When the image or a file cannot be read.
pub fn compare(contents: &Contents<'_>, progress: &mut dyn FnMut(u64)) -> Result<Option<Compared>> {
    let image = contents.image();
    let Some(name) = image.fingerprints()? else {
        return Ok(None);
    };
    let mut compared = Compared::default();
    let mut seen = HashSet::new();
    for (done, entry) in Walk::new(image).enumerate() {
        progress(done as u64);
        let entry = entry?;
        let inode = &entry.inode;
        let has_data = inode.kind() == FileKind::Regular && inode.size() > 0;
        if !has_data || !seen.insert(inode.nid()) {
            continue;
        }
        let Some(value) = image.fingerprint(inode, &name)? else {
            compared.without += 1;
            continue;
        };
        let what = match fingerprint::digest_of(&value) {
            Some(expected) => {
                let found = digest(contents, inode, &entry.path)?;
                if found == expected {
                    compared.right += 1;
                    continue;
                }
                format!("its fingerprint is {expected:?}, and its data has {found:?}")
            }
            None => "its fingerprint is not \"sha256:\" and 32 bytes".to_string(),
        };
        compared.problems.push(Problem {
            path: Some(entry.path),
            at: inode.pos(),
            what,
        });
    }
    Ok(Some(compared))
}

/// The sha256 of a file's data, holes included.
fn digest(contents: &Contents<'_>, inode: &erofs_format::Inode, path: &[u8]) -> Result<Digest> {
    let mut sum = Sha256::new();
    contents.read::<Error>(inode, path, &mut |piece| {
        match piece {
            Piece::Data(bytes) => sum.update(bytes),
            Piece::Hole(len) => add_zeros(&mut sum, len),
        }
        Ok(())
    })?;
    Ok(Digest(sum.finalize().into()))
}
