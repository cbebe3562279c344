// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `readcheck`: random reads of files by every interface at once, each compared with a reference tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;
use rustix::pipe::PipeFlags;
use rustix::pipe::SpliceFlags;
use vmap::Map;

use crate::errno;
use crate::random::Random;
use crate::walk;

/// Compares random reads of DIR's files with the same files of a reference tree.
#[derive(clap::Args)]
pub struct Args {
    /// The tree (or the file) to check.
    dir: PathBuf,
    /// The same tree (or file) on a file system to trust.
    reference: PathBuf,
    /// Reads in each thread.
    #[arg(long, default_value_t = 2_000)]
    ops: u64,
    #[arg(long, default_value_t = 2)]
    threads: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The longest read.
    #[arg(long, default_value_t = 256 << 10)]
    max_length: u64,
    /// Only these interfaces, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// A way to obtain `length` bytes at `offset`; `None` if the file system does not offer it, or not now.
type Reader = fn(&Pair, &mut Random, u64, usize) -> Result<Option<Vec<u8>>>;

const READERS: &[(&str, Reader)] = &[
    ("read", by_read),
    ("pread", by_pread),
    ("readv", by_readv),
    ("preadv2", by_preadv2),
    ("nowait", by_nowait),
    ("mmap", by_mmap),
    ("splice", by_splice),
    ("sendfile", by_sendfile),
    ("copy_file_range", by_copy_file_range),
    ("direct", by_direct),
];

struct Pair {
    path: PathBuf,
    file: File,
    reference: File,
    size: u64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let pairs = pairs(args)?;
    let readers: Vec<_> = READERS
        .iter()
        .filter(|(name, _)| args.only.is_empty() || args.only.iter().any(|o| o == name))
        .collect();
    if pairs.is_empty() || readers.is_empty() {
        bail!("nothing to read: expected a regular file and a known interface");
    }
    let results: Vec<Result<BTreeMap<&str, u64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads)
            .map(|thread| {
                let (pairs, readers) = (&pairs, &readers);
                scope.spawn(move || {
                    check(pairs, readers, args, args.seed.wrapping_add(thread << 32))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            })
            .collect()
    });
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    let mut wrong = 0;
    for result in results {
        match result {
            Ok(counts) => counts
                .into_iter()
                .for_each(|(name, count)| *total.entry(name).or_default() += count),
            Err(error) => {
                println!("{error:#}");
                wrong += 1;
            }
        }
    }
    let counts: Vec<String> = total
        .iter()
        .map(|(name, count)| format!("{name}={count}"))
        .collect();
    println!(
        "{} files, bytes compared: {}; {wrong} wrong",
        pairs.len(),
        counts.join(" ")
    );
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn pairs(args: &Args) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    let mut entries = walk::tree(&args.dir)?;
    entries.retain(|entry| entry.metadata.is_file() && entry.metadata.len() > 0);
    // A few hundred open files stay below the usual limit; the largest have the most to read wrong.
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.metadata.len()));
    for entry in entries.into_iter().take(200) {
        let below = entry.path.strip_prefix(&args.dir).unwrap_or(Path::new(""));
        let reference = if below.as_os_str().is_empty() {
            args.reference.clone()
        } else {
            args.reference.join(below)
        };
        let file = File::open(&entry.path).with_context(|| entry.path.display().to_string())?;
        let reference = File::open(&reference).with_context(|| reference.display().to_string())?;
        pairs.push(Pair {
            path: entry.path,
            file,
            reference,
            size: entry.metadata.len(),
        });
    }
    Ok(pairs)
}

fn check<'a>(
    pairs: &[Pair],
    readers: &[&(&'a str, Reader)],
    args: &Args,
    seed: u64,
) -> Result<BTreeMap<&'a str, u64>> {
    let mut random = Random::new(seed);
    let mut counts = BTreeMap::new();
    for op in 0..args.ops {
        // The large files have most of the boundaries.
        let some = if random.one_in(2) {
            pairs.len()
        } else {
            pairs.len().min(20)
        };
        let pair = random.pick(&pairs[..some]);
        let (name, reader) = **random.pick(readers);
        let (offset, length) = range(&mut random, pair.size, args.max_length);
        let context = || {
            format!(
                "{}: {name} of {length} bytes at {offset} (seed {seed}, operation {op})",
                pair.path.display()
            )
        };
        let Some(got) = reader(pair, &mut random, offset, length).with_context(context)? else {
            counts.entry(name).or_insert(0);
            continue;
        };
        compare(pair, offset, length, &got, name == "nowait").with_context(context)?;
        *counts.entry(name).or_insert(0) += got.len() as u64;
    }
    Ok(counts)
}

/// An offset up to a little behind the end, often at a boundary, and a length.
fn range(random: &mut Random, size: u64, max_length: u64) -> (u64, usize) {
    let mut offset = random.below(size + 1);
    match random.below(8) {
        0 => offset = 0,
        1 => offset -= offset % 4096,
        2 => offset -= offset % 512,
        3 => offset = size.saturating_sub(random.below(5000)),
        4 => offset = size + random.below(9000),
        _ => {}
    }
    let length = match random.below(6) {
        0 => 1 + random.below(16),
        1 => 512 * (1 + random.below(16)),
        2 => 4096 * (1 + random.below(16)),
        _ => 1 + random.below(max_length),
    };
    (offset, length.min(max_length) as usize)
}

fn compare(pair: &Pair, offset: u64, length: usize, got: &[u8], may_be_short: bool) -> Result<()> {
    let mut expected = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let count = pair
            .reference
            .read_at(&mut expected[filled..], offset + filled as u64)
            .context("reference")?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    expected.truncate(filled);
    if may_be_short && got.len() < expected.len() {
        expected.truncate(got.len());
    }
    if got.len() != expected.len() {
        bail!("expected {} bytes, got {}", expected.len(), got.len());
    }
    if let Some(at) = got.iter().zip(&expected).position(|(a, b)| a != b) {
        bail!(
            "byte at {}: expected {:#04x}, got {:#04x}",
            offset + at as u64,
            expected[at],
            got[at]
        );
    }
    Ok(())
}

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

fn by_read(pair: &Pair, _: &mut Random, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    let mut file = reopened(pair, OFlags::empty()).context("open")?;
    file.seek(SeekFrom::Start(offset)).context("lseek")?;
    fill(length, |buffer, _| file.read(buffer)).map(Some)
}

fn by_pread(pair: &Pair, _: &mut Random, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    fill(length, |buffer, done| {
        pair.file.read_at(buffer, offset + done)
    })
    .map(Some)
}

fn by_readv(
    pair: &Pair,
    random: &mut Random,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let mut file = reopened(pair, OFlags::empty()).context("open")?;
    file.seek(SeekFrom::Start(offset)).context("lseek")?;
    let split = random.index(length + 1);
    fill(length, |buffer, _| {
        let (a, b) = buffer.split_at_mut(split.min(buffer.len()));
        file.read_vectored(&mut [IoSliceMut::new(a), IoSliceMut::new(b)])
    })
    .map(Some)
}

fn preadv2(
    pair: &Pair,
    random: &mut Random,
    offset: u64,
    buffer: &mut [u8],
    flags: ReadWriteFlags,
) -> rustix::io::Result<usize> {
    let (a, b) = buffer.split_at_mut(random.index(buffer.len() + 1));
    rustix::io::preadv2(
        &pair.file,
        &mut [IoSliceMut::new(a), IoSliceMut::new(b)],
        offset,
        flags,
    )
}

fn by_preadv2(
    pair: &Pair,
    random: &mut Random,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    fill(length, |buffer, done| {
        Ok(preadv2(
            pair,
            random,
            offset + done,
            buffer,
            ReadWriteFlags::empty(),
        )?)
    })
    .map(Some)
}

/// One attempt that may not wait: what it gives must be right, but it may give less, or nothing.
fn by_nowait(
    pair: &Pair,
    random: &mut Random,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; length];
    match preadv2(pair, random, offset, &mut buffer, ReadWriteFlags::NOWAIT) {
        Ok(count) => {
            if count == 0 && offset < pair.size {
                bail!("0 bytes before the end of the file");
            }
            buffer.truncate(count);
            Ok(Some(buffer))
        }
        Err(Errno::AGAIN | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => bail!("{}", errno::name(error)),
    }
}

fn by_mmap(pair: &Pair, _: &mut Random, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    if offset >= pair.size {
        return Ok(Some(Vec::new()));
    }
    let length = length.min((pair.size - offset) as usize);
    let map = Map::with_options()
        .offset(offset as usize)
        .len(length)
        .map(&pair.file)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Some(map[..].to_vec()))
}

fn by_splice(pair: &Pair, _: &mut Random, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
    let mut position = offset;
    let mut all = Vec::new();
    while all.len() < length {
        // No more than an empty pipe holds, so that nothing blocks.
        let want = (length - all.len()).min(32 << 10);
        let count = rustix::pipe::splice(
            &pair.file,
            Some(&mut position),
            &writer,
            None,
            want,
            SpliceFlags::empty(),
        )
        .map_err(|error| anyhow::anyhow!("{}", errno::name(error)))?;
        if count == 0 {
            break;
        }
        let mut piece = vec![0; count];
        File::from(reader.try_clone().context("dup")?)
            .read_exact(&mut piece)
            .context("pipe")?;
        all.extend_from_slice(&piece);
    }
    Ok(Some(all))
}

fn memory() -> Result<OwnedFd> {
    rustix::fs::memfd_create("readcheck", MemfdFlags::CLOEXEC).context("memfd_create")
}

fn contents(memory: OwnedFd, length: usize) -> Result<Option<Vec<u8>>> {
    let file = File::from(memory);
    fill(length, |buffer, done| file.read_at(buffer, done)).map(Some)
}

fn by_sendfile(pair: &Pair, _: &mut Random, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    let memory = memory()?;
    let mut position = offset;
    let mut done = 0;
    while done < length {
        let count = rustix::fs::sendfile(&memory, &pair.file, Some(&mut position), length - done)
            .map_err(|error| anyhow::anyhow!("{}", errno::name(error)))?;
        if count == 0 {
            break;
        }
        done += count;
    }
    contents(memory, length)
}

/// Between different file systems the kernel may refuse with EXDEV; what it copies must be right.
fn by_copy_file_range(
    pair: &Pair,
    _: &mut Random,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let memory = memory()?;
    let mut position = offset;
    let mut done = 0;
    while done < length {
        match rustix::fs::copy_file_range(
            &pair.file,
            Some(&mut position),
            &memory,
            None,
            length - done,
        ) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL) if done == 0 => return Ok(None),
            Err(error) => bail!("{}", errno::name(error)),
        }
    }
    contents(memory, length)
}

/// An aligned read of a descriptor opened with O_DIRECT, if the file system opens it.
fn by_direct(pair: &Pair, _: &mut Random, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    const ALIGN: usize = 4096;
    let file = match reopened(pair, OFlags::DIRECT) {
        Ok(file) => file,
        Err(Errno::INVAL) => return Ok(None),
        Err(error) => bail!("open: {}", errno::name(error)),
    };
    let skip = (offset % ALIGN as u64) as usize;
    let wanted = (skip + length).next_multiple_of(ALIGN);
    let mut space = vec![0; wanted + ALIGN];
    let start = space.as_ptr().align_offset(ALIGN);
    let aligned = &mut space[start..start + wanted];
    let count = match file.read_at(aligned, offset - skip as u64) {
        Ok(count) => count,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => return Ok(None),
        Err(error) => bail!("{}", errno::io_name(&error)),
    };
    let end = count.min(skip + length).max(skip);
    Ok(Some(aligned[skip..end].to_vec()))
}
