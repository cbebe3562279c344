// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The pieces of work that are measured.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::thread;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::io::Errno;
use vmap::Map;

/// How much one read asks for.
pub const READ: usize = 128 << 10;

/// The size of a page.
pub const PAGE: usize = 4096;

/// Reads a file from its beginning to its end. Returns how long it is.
pub fn read_file(path: &Path, buffer: &mut [u8]) -> Result<u64> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut total = 0;
    loop {
        let read = file
            .read(buffer)
            .with_context(|| format!("{}: read at {total}", path.display()))?;
        if read == 0 {
            return Ok(total);
        }
        total += read as u64;
    }
}

/// Reads as much of a file.
pub fn read_beginning(path: &Path, length: u64) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut buffer = vec![0; READ];
    let mut file = file.take(length);
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Reads files one after the other.
pub fn read_files<P: AsRef<Path>>(root: &Path, files: &[P]) -> Result<()> {
    let mut buffer = vec![0; READ];
    for file in files {
        read_file(&root.join(file), &mut buffer)?;
    }
    Ok(())
}

/// Reads files with several readers at once: those of each one after the other.
pub fn read_files_at_once<'a, F>(root: &Path, readers: impl Iterator<Item = F>) -> Result<()>
where
    F: Iterator<Item = &'a PathBuf>,
{
    thread::scope(|scope| {
        let all: Vec<_> = readers
            .map(|files| {
                let files: Vec<_> = files.collect();
                scope.spawn(move || read_files(root, &files))
            })
            .collect();
        for one in all {
            one.join()
                .map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
        Ok(())
    })
}

/// Reads a page at each of the offsets.
pub fn read_pages(path: &Path, offsets: &[u64]) -> Result<()> {
    let file = File::open(path)?;
    let mut buffer = [0; PAGE];
    for &offset in offsets {
        file.read_exact_at(&mut buffer, offset)
            .with_context(|| format!("{}: read at {offset}", path.display()))?;
    }
    Ok(())
}

/// Maps a file and looks at a byte of each of these pages, or of all.
pub fn touch(path: &Path, pages: Option<&[usize]>) -> Result<()> {
    let (map, _file) = Map::with_options()
        .open(path)
        .map_err(|error| anyhow::anyhow!("{}: mmap: {error}", path.display()))?;
    let mut sum = 0u64;
    match pages {
        Some(pages) => {
            for &page in pages {
                sum += u64::from(map[page * PAGE]);
            }
        }
        None => {
            for offset in (0..map.len()).step_by(PAGE) {
                sum += u64::from(map[offset]);
            }
        }
    }
    black_box(sum);
    Ok(())
}

/// Maps files one after the other and looks at every page.
pub fn touch_files(root: &Path, files: &[PathBuf]) -> Result<()> {
    for file in files {
        let path = root.join(file);
        if std::fs::metadata(&path)?.len() > 0 {
            touch(&path, None)?;
        }
    }
    Ok(())
}

/// Looks up every path; all must be there, or none.
pub fn stat_paths(root: &Path, paths: &[PathBuf], present: bool) -> Result<()> {
    for path in paths {
        let path = root.join(path);
        match rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) if present => {}
            Err(Errno::NOENT) if !present => {}
            other => anyhow::bail!("{}: lstat: {:?}", path.display(), other.map(|_| "is there")),
        }
    }
    Ok(())
}

/// Runs a program with its output thrown away.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Runs a program with a tree as its root directory.
pub fn run_inside(root: &Path, arguments: &[&str]) -> Result<()> {
    run(Command::new("/proc/self/exe")
        .arg("enter")
        .arg(root)
        .args(arguments))
}
