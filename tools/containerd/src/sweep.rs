// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Removes files that nobody knows: what was made or removed by half when a daemon ended. Called when the daemon starts,
//! before it answers anybody, and when somebody asks for it.

use crate::catalog::Form;
use crate::locks::Held;
use crate::mountpoint;
use crate::problem::Problem;
use crate::problem::Result;
use crate::snapshotter::Snapshotter;
use ferofs::digest::Digest;
use std::fs;
use std::path::Path;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files of layers, and directories of snapshots.
    pub files: u64,
    /// Bytes of files of layers.
    pub bytes: u64,
}

/// Removes all files of layers and directories of snapshots that the database does not have.
///
/// `at_start` says that nobody is at work: files that are not called after a layer are leavings then, too.
///
/// # Errors
///
/// When something cannot be looked at or removed.
pub fn sweep(here: &Snapshotter, at_start: bool) -> Result<Swept> {
    let mut swept = Swept::default();
    for (path, name) in entries(&here.places.layers())? {
        let hex = name.split('.').next().unwrap_or("");
        let digest = Digest::parse(hex);
        let _held: Option<Held<Digest>> = digest.map(|digest| here.layers.hold(digest));
        let form = match digest {
            Some(digest) => here.catalog.layer(digest)?.map(|layer| layer.form),
            None => None,
        };
        let ends = |end: &&str| name.ends_with(end);
        let wanted = match form {
            // A server of before may have it.
            None if name == "lock" => true,
            None => digest.is_none() && !at_start,
            Some(Form::Tar) => [".tar", ".erofs"].iter().any(ends),
            Some(Form::OnDemand) => [".tar", ".sparse", ".points", ".erofs"].iter().any(ends),
            Some(Form::Image | Form::Compressed) => ends(&".erofs"),
        };
        if wanted {
            continue;
        }
        swept.files += 1;
        swept.bytes += fs::symlink_metadata(&path).map_or(0, |found| found.len());
        crate::seal::open(&path)?;
        here.places.throw_away(&path)?;
    }
    for (path, name) in entries(&here.places.snapshots())? {
        let known = match name.parse() {
            Ok(number) => match here.catalog.numbered(number) {
                Ok(_) => true,
                Err(problem) if problem.is_missing() => {
                    here.lowers.unmount(number)?;
                    mountpoint::unmount(&here.places.limited(number))?;
                    false
                }
                Err(problem) => return Err(problem),
            },
            Err(_) => false,
        };
        if !known {
            swept.files += 1;
            here.places.throw_away(&path)?;
        }
    }
    here.places.empty_trash()?;
    Ok(swept)
}

fn entries(path: &Path) -> Result<Vec<(std::path::PathBuf, String)>> {
    let failed = || Problem::io("read", path);
    let entries = fs::read_dir(path).map_err(failed())?;
    entries
        .map(|entry| {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((entry.path(), name))
        })
        .collect()
}
