// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `dircheck`: directories as programs see them that seek, or that read with little buffers.
//!
//! For every directory of a tree: the sequence of entries is the same with large and small buffers and
//! when it is resumed behind any entry; `.` and `..` are there once; no name is there twice; the type and
//! the inode number of an entry are those that lstat(2) gives.

use std::collections::HashSet;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::FileType;
use rustix::fs::RawDir;
use rustix::fs::SeekFrom;

use crate::escape::escape;
use crate::random::Random;
use crate::walk;

/// Checks how the directories of a tree are read.
#[derive(clap::Args)]
pub struct Args {
    dir: PathBuf,
    /// How many places to resume at in a large directory.
    #[arg(long, default_value_t = 300)]
    resumes: usize,
    /// Which of the places.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The smallest buffer that holds an entry with a name of 255 bytes.
const SMALL_BUFFER: usize = 280;
const LARGE_BUFFER: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    name: Vec<u8>,
    ino: u64,
    kind: FileType,
    /// Where reading goes on behind this entry.
    next: u64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut random = Random::new(args.seed);
    let mut problems = Vec::new();
    let (mut directories, mut entries) = (0, 0);
    for entry in walk::tree(&args.dir)? {
        if entry.metadata.is_dir() {
            let root = entry.relative == b".";
            entries += check(&entry.path, root, args.resumes, &mut random, &mut problems)
                .with_context(|| entry.path.display().to_string())?;
            directories += 1;
        }
    }
    for problem in problems.iter().take(50) {
        println!("{problem}");
    }
    println!(
        "{directories} directories, {entries} entries, {} problems",
        problems.len()
    );
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(
    path: &Path,
    root: bool,
    resumes: usize,
    random: &mut Random,
    problems: &mut Vec<String>,
) -> Result<usize> {
    let file = File::open(path)?;
    let mut problem = |text: String| problems.push(format!("{}: {text}", path.display()));
    let all = read(&file, LARGE_BUFFER, usize::MAX)?;

    rustix::fs::seek(&file, SeekFrom::Start(0)).context("rewind")?;
    if read(&file, SMALL_BUFFER, usize::MAX)? != all {
        problem("a small buffer gives other entries than a large one".to_owned());
    }
    for dots in [&b"."[..], b".."] {
        let count = all.iter().filter(|seen| seen.name == dots).count();
        if count != 1 {
            problem(format!("{} is there {count} times", escape(dots)));
        }
    }
    let mut names = HashSet::new();
    for seen in &all {
        if !names.insert(&seen.name) {
            problem(format!("{} is there twice", escape(&seen.name)));
        }
        if let Some(text) = attributes(path, seen, root)? {
            problem(text);
        }
    }

    let places: Vec<usize> = if all.len() <= resumes {
        (0..all.len()).collect()
    } else {
        (0..resumes).map(|_| random.index(all.len())).collect()
    };
    for place in places {
        rustix::fs::seek(&file, SeekFrom::Start(all[place].next)).context("seekdir")?;
        let expected = &all[place + 1..(place + 6).min(all.len())];
        let resumed = read(&file, SMALL_BUFFER * 3, expected.len().max(1))?;
        if resumed != expected {
            let name = escape(&all[place].name);
            problem(format!(
                "resumed behind {name} at {}: other entries follow",
                all[place].next
            ));
        }
    }
    if let Some(last) = all.last() {
        rustix::fs::seek(&file, SeekFrom::Start(last.next)).context("seekdir")?;
        if !read(&file, LARGE_BUFFER, usize::MAX)?.is_empty() {
            problem("entries follow behind the last".to_owned());
        }
    }
    Ok(all.len())
}

/// The entries from the present position on, at most `limit`.
fn read(file: &File, buffer: usize, limit: usize) -> Result<Vec<Seen>> {
    let mut buffer = vec![MaybeUninit::uninit(); buffer];
    let mut entries = RawDir::new(file, &mut buffer);
    let mut all = Vec::new();
    while all.len() < limit {
        let Some(entry) = entries.next() else { break };
        let entry = entry.context("getdents")?;
        all.push(Seen {
            name: entry.file_name().to_bytes().to_vec(),
            ino: entry.ino(),
            kind: entry.file_type(),
            next: entry.next_entry_cookie(),
        });
    }
    Ok(all)
}

/// What is wrong with an entry's type or inode number. (`..` of the root lies outside of the tree.)
fn attributes(dir: &Path, seen: &Seen, root: bool) -> Result<Option<String>> {
    if root && seen.name == b".." {
        return Ok(None);
    }
    let path = dir.join(std::ffi::OsStr::from_bytes(&seen.name));
    let name = escape(&seen.name);
    let meta = std::fs::symlink_metadata(&path).with_context(|| format!("lstat {name}"))?;
    let kind = meta.file_type();
    let expected = if kind.is_dir() {
        FileType::Directory
    } else if kind.is_file() {
        FileType::RegularFile
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_char_device() {
        FileType::CharacterDevice
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else if kind.is_fifo() {
        FileType::Fifo
    } else {
        FileType::Socket
    };
    Ok(if seen.kind != expected {
        Some(format!(
            "{name}: d_type is {:?}, lstat says {expected:?}",
            seen.kind
        ))
    } else if seen.ino != meta.ino() {
        Some(format!(
            "{name}: d_ino is {}, st_ino is {}",
            seen.ino,
            meta.ino()
        ))
    } else {
        None
    })
}
