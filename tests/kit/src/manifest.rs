// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `manifest`: a tree as text, one line an entry, so that two file systems can be compared.
//!
//! A line is the escaped path and then `key=value` words. What is compared by default is what an archive
//! carries; `--exact` adds what two drivers of one image must agree on as well.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::OFlags;

use crate::content;
use crate::content::Via;
use crate::errno;
use crate::escape::escape;
use crate::escape::hex;
use crate::walk;
use crate::walk::Entry;

/// Prints one line for each entry of a tree.
#[derive(clap::Args)]
pub struct Args {
    /// The tree.
    dir: PathBuf,
    /// Leave out what cannot be extracted: link counts, which an image may have wrong, and the modes of symbolic links.
    #[arg(long)]
    extracted: bool,
    /// Leave out the sha256 of files.
    #[arg(long)]
    no_content: bool,
    /// Also give the link count of directories.
    #[arg(long)]
    dir_nlink: bool,
    /// Also give extended attributes.
    #[arg(long)]
    xattrs: bool,
    /// Also give inode numbers, block counts, block sizes, sizes and link counts of directories.
    #[arg(long)]
    exact: bool,
    /// The interface that files are read by.
    #[arg(long, value_enum, default_value = "read")]
    via: Via,
}

impl Args {
    /// What is the same of a mounted image and of what was extracted from it, whatever is wrong with that.
    pub fn extracted(dir: &Path) -> Self {
        Args {
            dir: dir.to_owned(),
            extracted: true,
            no_content: false,
            dir_nlink: false,
            xattrs: false,
            exact: false,
            via: Via::Read,
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for entry in walk::tree(&args.dir)? {
        let line = line(&entry, args).with_context(|| entry.path.display().to_string())?;
        writeln!(out, "{line}").context("standard output")?;
    }
    out.flush().context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

pub fn line(entry: &Entry, args: &Args) -> Result<String> {
    let meta = &entry.metadata;
    let kind = meta.file_type();
    let mut line = escape(&entry.relative);
    write!(line, " type={}", type_letter(meta))?;
    if !kind.is_symlink() || !args.extracted {
        write!(line, " mode={:04o}", meta.mode() & 0o7777)?;
    }
    write!(line, " uid={} gid={}", meta.uid(), meta.gid())?;
    if kind.is_file() || kind.is_symlink() || args.exact {
        write!(line, " size={}", meta.size())?;
    }
    if (!kind.is_dir() || args.dir_nlink || args.exact) && !args.extracted {
        write!(line, " nlink={}", meta.nlink())?;
    }
    write!(line, " mtime={}.{:09}", meta.mtime(), meta.mtime_nsec())?;
    if kind.is_char_device() || kind.is_block_device() {
        let rdev = meta.rdev();
        write!(
            line,
            " rdev={}:{}",
            rustix::fs::major(rdev),
            rustix::fs::minor(rdev)
        )?;
    }
    if args.exact {
        write!(
            line,
            " ino={} blocks={} blksize={}",
            meta.ino(),
            meta.blocks(),
            meta.blksize()
        )?;
        write!(line, " ctime={}.{:09}", meta.ctime(), meta.ctime_nsec())?;
    }
    if kind.is_symlink() {
        let target = std::fs::read_link(&entry.path).context("readlink")?;
        write!(line, " link={}", escape(target.as_os_str().as_bytes()))?;
    }
    if args.xattrs {
        for (name, value) in xattrs(&entry.path)? {
            write!(
                line,
                " xattr:{}={}",
                escape(&name).replace('=', "\\x3d"),
                hex(&value)
            )?;
        }
    }
    if kind.is_file() && !args.no_content {
        let file = open(&entry.path)?;
        write!(
            line,
            " sha256={}",
            hex(&content::sha256(&file, meta.size(), args.via)?)
        )?;
    }
    Ok(line)
}

fn open(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .context("open")?
        .into())
}

fn type_letter(meta: &std::fs::Metadata) -> char {
    let kind = meta.file_type();
    if kind.is_dir() {
        'd'
    } else if kind.is_file() {
        'f'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_char_device() {
        'c'
    } else if kind.is_block_device() {
        'b'
    } else if kind.is_fifo() {
        'p'
    } else if kind.is_socket() {
        's'
    } else {
        '?'
    }
}

/// Names and values, sorted by name.
fn xattrs(path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => anyhow::bail!("listxattr: {}", errno::name(error)),
    };
    let mut all = Vec::new();
    for name in names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value).map_err(|error| {
            anyhow::anyhow!("getxattr {}: {}", escape(name), errno::name(error))
        })?;
        value.truncate(length);
        all.push((name.to_vec(), value));
    }
    all.sort();
    Ok(all)
}
