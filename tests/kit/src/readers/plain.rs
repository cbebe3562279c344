// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The calls that take a descriptor and return when they are done.

use std::fs::File;
use std::io::IoSliceMut;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::Advice;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;
use rustix::pipe::PipeFlags;
use rustix::pipe::SpliceFlags;

use super::Aligned;
use super::PAGE;
use super::Pair;
use super::Worker;
use super::fill;
use super::reopened;
use crate::errno;

/// RWF_DONTCACHE, which is newer than rustix's list.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

pub fn read(pair: &Pair, _: &mut Worker, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    let mut file = reopened(pair, OFlags::empty()).context("open")?;
    file.seek(SeekFrom::Start(offset)).context("lseek")?;
    fill(length, |buffer, _| file.read(buffer)).map(Some)
}

pub fn pread(pair: &Pair, _: &mut Worker, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    fill(length, |buffer, done| {
        pair.file.read_at(buffer, offset + done)
    })
    .map(Some)
}

pub fn readv(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let mut file = reopened(pair, OFlags::empty()).context("open")?;
    file.seek(SeekFrom::Start(offset)).context("lseek")?;
    let split = worker.random.index(length + 1);
    fill(length, |buffer, _| {
        let (a, b) = buffer.split_at_mut(split.min(buffer.len()));
        file.read_vectored(&mut [IoSliceMut::new(a), IoSliceMut::new(b)])
    })
    .map(Some)
}

fn by_preadv2(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    buffer: &mut [u8],
    flags: ReadWriteFlags,
) -> rustix::io::Result<usize> {
    let (a, b) = buffer.split_at_mut(worker.random.index(buffer.len() + 1));
    rustix::io::preadv2(
        &pair.file,
        &mut [IoSliceMut::new(a), IoSliceMut::new(b)],
        offset,
        flags,
    )
}

/// With one of its flags, and without where the file system does not know it; first without waiting, as
/// event loops do, and then with.
pub fn preadv2(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let flags = *worker.random.pick(&[
        ReadWriteFlags::empty(),
        ReadWriteFlags::HIPRI,
        ReadWriteFlags::NOWAIT,
        DONTCACHE,
    ]);
    fill(length, |buffer, done| {
        let at = offset + done;
        match by_preadv2(pair, worker, at, buffer, flags) {
            Err(Errno::AGAIN) if flags == ReadWriteFlags::NOWAIT => {}
            Err(Errno::OPNOTSUPP) if !flags.is_empty() => {}
            done => return Ok(done?),
        }
        Ok(by_preadv2(
            pair,
            worker,
            at,
            buffer,
            ReadWriteFlags::empty(),
        )?)
    })
    .map(Some)
}

/// One attempt that may not wait: what it gives must be right, but it may give less, or nothing.
pub fn nowait(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; length];
    match by_preadv2(pair, worker, offset, &mut buffer, ReadWriteFlags::NOWAIT) {
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

/// After advice on some part of the file, which changes how it is cached and never what it reads as.
pub fn advised(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let file = reopened(pair, OFlags::empty()).context("open")?;
    let advice = *worker.random.pick(&[
        Advice::Normal,
        Advice::Sequential,
        Advice::Random,
        Advice::NoReuse,
        Advice::WillNeed,
        Advice::DontNeed,
    ]);
    let start = worker.random.below(pair.size + 1);
    let count = NonZeroU64::new(worker.random.below(1 << 20));
    if worker.random.one_in(4) {
        crate::raw::readahead(&file, start, 1 << 18).context("readahead")?;
    }
    rustix::fs::fadvise(&file, start, count, advice).with_context(|| format!("{advice:?}"))?;
    fill(length, |buffer, done| file.read_at(buffer, offset + done)).map(Some)
}

/// Skips what SEEK_DATA says is a hole, reads to what SEEK_HOLE says is the next one, and so on: what was
/// skipped must be zeros.
pub fn seek(pair: &Pair, _: &mut Worker, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
    let mut all = Vec::new();
    let end = (offset + length as u64).min(pair.size);
    let mut at = offset;
    if at >= pair.size {
        for from in [
            rustix::fs::SeekFrom::Data(at),
            rustix::fs::SeekFrom::Hole(at),
        ] {
            match rustix::fs::seek(&pair.file, from) {
                Err(Errno::NXIO) => {}
                other => {
                    bail!("{from:?} behind the end of the file: expected ENXIO, got {other:?}")
                }
            }
        }
    }
    while at < end {
        let data = match rustix::fs::seek(&pair.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => pair.size,
            Err(error) => bail!("SEEK_DATA from {at}: {}", errno::name(error)),
        };
        if data < at {
            bail!("SEEK_DATA from {at}: {data}");
        }
        all.resize((data.min(end) - offset) as usize, 0);
        at = data.min(end);
        if at >= end {
            break;
        }
        let hole = rustix::fs::seek(&pair.file, rustix::fs::SeekFrom::Hole(at))
            .map_err(|error| anyhow::anyhow!("SEEK_HOLE from {at}: {}", errno::name(error)))?;
        if hole <= at || hole > pair.size {
            bail!("SEEK_HOLE from {at}, which is data: {hole}");
        }
        let count = (hole.min(end) - at) as usize;
        all.extend(fill(count, |buffer, done| {
            pair.file.read_at(buffer, at + done)
        })?);
        at += count as u64;
    }
    Ok(Some(all))
}

pub fn splice(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
    let flags = *worker
        .random
        .pick(&[SpliceFlags::empty(), SpliceFlags::MOVE]);
    let mut position = offset;
    let mut all = Vec::new();
    while all.len() < length {
        // No more than an empty pipe holds, so that nothing blocks.
        let want = (length - all.len()).min(32 << 10);
        let count =
            rustix::pipe::splice(&pair.file, Some(&mut position), &writer, None, want, flags)
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

fn contents(sink: OwnedFd, length: usize) -> Result<Option<Vec<u8>>> {
    let file = File::from(sink);
    fill(length, |buffer, done| file.read_at(buffer, done)).map(Some)
}

pub fn sendfile(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let sink = worker.sink()?;
    let mut position = offset;
    let mut done = 0;
    while done < length {
        let count = rustix::fs::sendfile(&sink, &pair.file, Some(&mut position), length - done)
            .map_err(|error| anyhow::anyhow!("{}", errno::name(error)))?;
        if count == 0 {
            break;
        }
        done += count;
    }
    contents(sink, length)
}

/// Between different file systems the kernel may refuse with EXDEV; what it copies must be right.
pub fn copy_file_range(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let sink = worker.sink()?;
    let mut position = offset;
    let mut done = 0;
    while done < length {
        match rustix::fs::copy_file_range(
            &pair.file,
            Some(&mut position),
            &sink,
            None,
            length - done,
        ) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL) if done == 0 => return Ok(None),
            Err(error) => bail!("{}", errno::name(error)),
        }
    }
    contents(sink, length)
}

/// Reads of a descriptor opened with O_DIRECT: as aligned as statx(2) asks, which must work; or in any way,
/// which must work or be EINVAL.
pub fn direct(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let Some((file, said)) = super::direct(pair)? else {
        return Ok(None);
    };
    let aligned = worker.random.one_in(2);
    let align = match said {
        Some(align) if aligned => align,
        _ if aligned => PAGE,
        _ => 1,
    };
    let skip = (offset % align as u64) as usize;
    let wanted = (skip + length).next_multiple_of(align);
    let mut space = Aligned::new(wanted, align.max(PAGE));
    let mut filled = 0;
    while filled < wanted {
        let at = offset - skip as u64 + filled as u64;
        match file.read_at(&mut space.bytes()[filled..], at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                if at >= pair.size {
                    break;
                }
                if said == Some(align) && filled % align == 0 {
                    bail!("EINVAL at {at} although statx says that a multiple of {align} will do");
                }
                return Ok(None);
            }
            Err(error) => bail!("{} after {filled} bytes", errno::io_name(&error)),
        }
        if at + (space.len as u64) > pair.size && filled % align != 0 {
            // The end of the file, where the next read would not be aligned.
            break;
        }
    }
    let end = filled.min(skip + length).max(skip);
    Ok(Some(space.bytes()[skip..end].to_vec()))
}
