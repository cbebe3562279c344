// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Every way to read a file: by descriptor (`plain`), by mapping (`mapped`), with several requests at once
//! (`queued`). `readcheck` picks from them at random, `faultcheck` by name.

mod mapped;
mod plain;
mod queued;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::AtFlags;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::StatxFlags;
use rustix::io::Errno;

use crate::errno;
use crate::random::Random;
use crate::raw::aio;
use crate::raw::uring::Ring;

/// A file, and the one that it must be like.
pub struct Pair {
    pub path: PathBuf,
    pub file: File,
    pub reference: File,
    pub size: u64,
}

/// What one thread reads with. Contexts for requests are made when they are first wanted.
pub struct Worker {
    pub random: Random,
    max_length: u64,
    /// Where files are that are written to; none for memory only.
    sinks: Option<PathBuf>,
    aio: Option<aio::Context>,
    ring: Option<Ring>,
}

impl Worker {
    pub fn new(seed: u64, max_length: u64, sinks: Option<PathBuf>) -> Self {
        Worker {
            random: Random::new(seed),
            max_length,
            sinks,
            aio: None,
            ring: None,
        }
    }

    /// A new file to write to, which has no name: in memory, or where sinks are.
    fn sink(&mut self) -> Result<OwnedFd> {
        match &self.sinks {
            Some(directory) if self.random.one_in(2) => {
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)
                    .with_context(|| format!("{}: a file without name", directory.display()))
            }
            _ => rustix::fs::memfd_create("readcheck", MemfdFlags::CLOEXEC).context("memfd_create"),
        }
    }
}

/// A way to obtain `length` bytes at `offset`; `None` if the file system does not offer it, or not now.
pub type Reader = fn(&Pair, &mut Worker, u64, usize) -> Result<Option<Vec<u8>>>;

/// All of them, by name.
pub const READERS: &[(&str, Reader)] = &[
    ("read", plain::read),
    ("pread", plain::pread),
    ("readv", plain::readv),
    ("preadv2", plain::preadv2),
    ("nowait", plain::nowait),
    ("advised", plain::advised),
    ("seek", plain::seek),
    ("splice", plain::splice),
    ("sendfile", plain::sendfile),
    ("copy_file_range", plain::copy_file_range),
    ("direct", plain::direct),
    ("mmap", mapped::mmap),
    ("mremap", mapped::mremap),
    ("mapwrite", mapped::mapwrite),
    ("readmap", mapped::read_into),
    ("uring", queued::uring::<false>),
    ("uring-direct", queued::uring::<true>),
    ("aio", queued::aio::<false>),
    ("aio-direct", queued::aio::<true>),
];

/// Those that may give less than was asked for.
pub fn may_be_short(name: &str) -> bool {
    name == "nowait"
}

/// Fails unless what was read at an offset is what was expected, and says where it begins to differ.
pub fn same(got: &[u8], expected: &[u8], offset: u64) -> Result<()> {
    if got.len() != expected.len() {
        bail!(
            "at {offset}: expected {} bytes, got {}",
            expected.len(),
            got.len()
        );
    }
    if let Some(at) = got.iter().zip(expected).position(|(a, b)| a != b) {
        bail!(
            "byte at {}: expected {:#04x}, got {:#04x}",
            offset + at as u64,
            expected[at],
            got[at]
        );
    }
    Ok(())
}

/// What direct I/O starts at and is long, at the most, where statx(2) says nothing.
const PAGE: usize = 4096;

/// Calls `read` until the buffer is full or the file ends.
fn fill(
    length: usize,
    mut read: impl FnMut(&mut [u8], u64) -> std::io::Result<usize>,
) -> Result<Vec<u8>> {
    let mut buffer = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let count = read(&mut buffer[filled..], filled as u64)
            .map_err(|error| anyhow::anyhow!("{} after {filled} bytes", errno::io_name(&error)))?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    buffer.truncate(filled);
    Ok(buffer)
}

fn reopened(pair: &Pair, flags: OFlags) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | flags;
    Ok(rustix::fs::open(&pair.path, flags, Mode::empty())?.into())
}

/// The file, open for direct I/O, and what that must be aligned to by statx(2): `None` if it gives no numbers.
fn direct(pair: &Pair) -> Result<Option<(File, Option<usize>)>> {
    let file = match reopened(pair, OFlags::DIRECT) {
        Ok(file) => file,
        Err(Errno::INVAL) => return Ok(None),
        Err(error) => bail!("open: {}", errno::name(error)),
    };
    let stat =
        rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).context("statx")?;
    let align = stat.stx_dio_offset_align.max(stat.stx_dio_mem_align) as usize;
    Ok(Some((file, (align != 0).then_some(align))))
}

/// Memory of `len` bytes that begins at a multiple of `align`.
struct Aligned {
    space: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize, align: usize) -> Self {
        let space = vec![0; len + align];
        let start = space.as_ptr().align_offset(align);
        Aligned { space, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.space[self.start..self.start + self.len]
    }
}
