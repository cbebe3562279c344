// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reads that are several requests at once: io_uring and Linux AIO, also with O_DIRECT.

use std::fs::File;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::io::Errno;

use super::Aligned;
use super::PAGE;
use super::Pair;
use super::Worker;
use crate::errno;
use crate::raw::Job;
use crate::raw::aio;
use crate::raw::uring::How;
use crate::raw::uring::Ring;

/// How many requests there are at once, at the most.
const REQUESTS: usize = 8;

/// Where to split `length` bytes: up to [`REQUESTS`] pieces, at multiples of `align`.
fn pieces(worker: &mut Worker, length: usize, align: usize) -> Vec<usize> {
    let units = length / align;
    let mut cuts: Vec<usize> = (0..worker.random.index(REQUESTS))
        .map(|_| worker.random.index(units.max(1)) * align)
        .collect();
    cuts.push(length);
    cuts.sort_unstable();
    cuts.retain(|&cut| cut > 0);
    cuts.dedup();
    cuts
}

/// Fills `buffer` from `offset` on by requests that end at `cuts`, and again for what they left; the number
/// of bytes up to the end of the file. `None` after EINVAL.
fn run(
    size: u64,
    offset: u64,
    buffer: &mut [u8],
    cuts: &[usize],
    mut read: impl FnMut(&mut [Job<'_>]) -> Result<()>,
) -> Result<Option<usize>> {
    // Where each piece begins and ends, and whether the file ended in it.
    let mut places: Vec<(usize, usize, bool)> = Vec::new();
    let mut start = 0;
    for &end in cuts {
        places.push((start, end, false));
        start = end;
    }
    loop {
        let mut jobs = Vec::new();
        let mut which = Vec::new();
        let mut rest = &mut *buffer;
        let mut passed = 0;
        for (index, &(start, end, ended)) in places.iter().enumerate() {
            let (_, behind) = rest.split_at_mut(start - passed);
            let (piece, behind) = behind.split_at_mut(end - start);
            (rest, passed) = (behind, end);
            if start < end && !ended {
                which.push(index);
                jobs.push(Job {
                    offset: offset + start as u64,
                    buffer: piece,
                    result: i64::MIN,
                });
            }
        }
        if jobs.is_empty() {
            break;
        }
        read(&mut jobs)?;
        for (index, job) in which.into_iter().zip(&jobs) {
            let place = &mut places[index];
            match usize::try_from(job.result) {
                Ok(0) => place.2 = true,
                Ok(count) if count <= job.buffer.len() => {
                    place.0 += count;
                    // What is left is behind the end, and may not be aligned.
                    place.2 = offset + place.0 as u64 >= size;
                }
                Ok(count) => bail!("{count} bytes for a request of {}", job.buffer.len()),
                Err(_) if job.result == -i64::from(Errno::INVAL.raw_os_error()) => {
                    return Ok(None);
                }
                Err(_) => bail!(
                    "{} at {}",
                    errno::name(Errno::from_raw_os_error(-job.result as i32)),
                    job.offset
                ),
            }
        }
    }
    // All up to some place, and nothing behind it.
    let mut filled = 0;
    let mut start = 0;
    for (&end, &(done, _, _)) in cuts.iter().zip(&places) {
        if done > start && filled < start {
            bail!(
                "bytes at {} after an end at {filled}",
                offset + start as u64
            );
        }
        filled = filled.max(if done > start { done } else { filled });
        start = end;
    }
    Ok(Some(filled))
}

/// Reads by `read`, directly if `direct` is set.
fn by(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
    direct: bool,
    read: impl Fn(&mut Worker, &File, &mut [Job<'_>]) -> Result<()>,
) -> Result<Option<Vec<u8>>> {
    let (opened, said, align) = if direct {
        match super::direct(pair)? {
            Some((file, said)) => (Some(file), said, said.unwrap_or(PAGE)),
            None => return Ok(None),
        }
    } else {
        (None, None, 1)
    };
    let file = opened.as_ref().unwrap_or(&pair.file);
    let skip = (offset % align as u64) as usize;
    let wanted = (skip + length).next_multiple_of(align);
    let mut space = Aligned::new(wanted, PAGE);
    let cuts = pieces(worker, wanted, align);
    let filled = run(
        pair.size,
        offset - skip as u64,
        space.bytes(),
        &cuts,
        |jobs| read(worker, file, jobs),
    )?;
    let Some(filled) = filled else {
        if offset >= pair.size {
            return Ok(Some(Vec::new()));
        }
        if said.is_some() || !direct {
            bail!("EINVAL for requests at multiples of {align}");
        }
        return Ok(None);
    };
    let end = filled.min(skip + length).max(skip);
    Ok(Some(space.bytes()[skip..end].to_vec()))
}

/// By io_uring, in any of the ways it has.
pub fn uring<const DIRECT: bool>(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let how = *worker.random.pick(&[
        How::Plain,
        How::Vectored,
        How::FixedBuffer,
        How::FixedFile,
        How::Async,
    ]);
    let read = |worker: &mut Worker, file: &File, jobs: &mut [Job<'_>]| {
        let ring = match &mut worker.ring {
            Some(ring) => ring,
            none => none.insert(
                Ring::new(REQUESTS as u32, worker.max_length as usize + 2 * PAGE)
                    .context("io_uring_setup")?,
            ),
        };
        ring.read(file, jobs, how).context("io_uring")
    };
    by(pair, worker, offset, length, DIRECT, read).with_context(|| format!("{how:?}"))
}

/// By Linux AIO, with one buffer or several.
pub fn aio<const DIRECT: bool>(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let vectored = worker.random.one_in(2);
    let read = |worker: &mut Worker, file: &File, jobs: &mut [Job<'_>]| {
        let context = match &mut worker.aio {
            Some(context) => context,
            none => none.insert(aio::Context::new(REQUESTS as u32).context("io_setup")?),
        };
        context.read(file, jobs, vectored).context("io_submit")
    };
    by(pair, worker, offset, length, DIRECT, read)
}
