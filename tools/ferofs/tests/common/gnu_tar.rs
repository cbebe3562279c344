// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Archives, indexed, and compared with what GNU tar makes of them.

use super::Described;
use super::Scratch;
use super::description;
use super::description_of_directory;
use super::index_both_ways;
use std::collections::HashMap;
use std::fs;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// Indexes an archive; returns its files, or the error.
pub fn indexed(bytes: &[u8]) -> Result<Vec<Described>, String> {
    let scratch = Scratch::new();
    let tar = scratch.join("archive.tar");
    fs::write(&tar, bytes).unwrap();
    let image = index_both_ways(&tar, &scratch.join("image"))?;
    Ok(description(&image, &tar))
}

/// Extracts an archive with GNU tar.
fn extracted(bytes: &[u8]) -> Vec<Described> {
    let scratch = Scratch::new();
    fs::write(scratch.join("archive.tar"), bytes).unwrap();
    fs::create_dir(scratch.join("root")).unwrap();
    scratch.sh("umask 022; tar -C root -P -xpf archive.tar --no-same-owner");
    description_of_directory(&scratch.join("root"))
}

/// Whether GNU tar makes the same of an archive, as far as it can without being root. Directories
/// that are not in the archive have the current time there, and the root is where it extracts.
#[track_caller]
pub fn same_as_gnu_tar(bytes: &[u8], implied: &[&str]) {
    let mut ours = indexed(bytes).unwrap();
    let mut theirs = extracted(bytes);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let recent = now.as_secs() as i64 - 3600..now.as_secs() as i64 + 60;
    let times: HashMap<String, (i64, u32)> = theirs
        .iter()
        .map(|file| (file.path.clone(), file.mtime))
        .collect();
    for file in ours.iter_mut().chain(&mut theirs) {
        file.owner = (0, 0);
        if file.kind != 'd' {
            continue;
        }
        // Filesystems differ in what they count as links of a directory.
        file.links = 0;
        if file.path == "/" || implied.contains(&file.path.as_str()) {
            file.mtime = (0, 0);
            file.mode = 0;
        }
        // It may forget a directory's time when it puts something into it later.
        let theirs = times.get(&file.path);
        if theirs.is_some_and(|(seconds, _)| recent.contains(seconds)) {
            file.mtime = (0, 0);
        }
    }
    let lines = |files: Vec<Described>| files.iter().map(Described::line).collect::<Vec<_>>();
    assert_eq!(lines(ours), lines(theirs));
}
