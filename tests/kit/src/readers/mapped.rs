// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reads through a mapping.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::mm::Advice;

use super::PAGE;
use super::Pair;
use super::Worker;
use super::fill;
use crate::errno;
use crate::raw::mapping::Kind;
use crate::raw::mapping::Mapping;

/// What is mapped for a read: whole pages from before it to behind it, and to the end of the last at most.
struct Window {
    start: u64,
    skip: usize,
    /// How many bytes of the file are wanted.
    wanted: usize,
    /// Whole pages.
    len: usize,
}

/// `None` if nothing of the file is there.
fn window(pair: &Pair, offset: u64, length: usize) -> Option<Window> {
    if offset >= pair.size || length == 0 {
        return None;
    }
    let start = offset - offset % PAGE as u64;
    let wanted = length.min((pair.size - offset) as usize);
    let skip = (offset - start) as usize;
    Some(Window {
        start,
        skip,
        wanted,
        len: (skip + wanted).next_multiple_of(PAGE),
    })
}

impl Window {
    fn map(&self, pair: &Pair, worker: &mut Worker) -> Result<Mapping> {
        let kind = Kind {
            shared: worker.random.one_in(2),
            populate: worker.random.one_in(4),
            writable: false,
        };
        let map = Mapping::new(&pair.file, self.start, self.len, kind)
            .with_context(|| format!("mmap, {kind:?}"))?;
        let advice = *worker.random.pick(&[
            None,
            None,
            Some(Advice::Normal),
            Some(Advice::Random),
            Some(Advice::Sequential),
            Some(Advice::WillNeed),
            Some(Advice::LinuxDontNeed),
            Some(Advice::LinuxPopulateRead),
        ]);
        if let Some(advice) = advice {
            map.advise(advice)
                .with_context(|| format!("madvise, {advice:?}"))?;
        }
        Ok(map)
    }

    /// What is behind the end of the file in its last page must be zeros.
    fn check_behind(&self, pair: &Pair, map: &Mapping) -> Result<()> {
        let behind = (self.start + self.len as u64).saturating_sub(pair.size) as usize;
        if behind > 0 {
            let rest = map.copy(self.len - behind, behind);
            if let Some(at) = rest.iter().position(|&byte| byte != 0) {
                bail!(
                    "byte {at} behind the end of the file, mapped: expected 0, got {:#04x}",
                    rest[at]
                );
            }
        }
        Ok(())
    }
}

/// Shared or private, and not populated: over a page that cannot be read, Linux would try that again
/// without end.
fn unpopulated(worker: &mut Worker) -> Kind {
    Kind {
        shared: worker.random.one_in(2),
        ..Kind::default()
    }
}

pub fn mmap(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let Some(window) = window(pair, offset, length) else {
        return Ok(Some(Vec::new()));
    };
    let map = window.map(pair, worker)?;
    // In random order at times, page by page.
    let all = if worker.random.one_in(3) {
        let mut all = vec![0; window.wanted];
        let pages: Vec<usize> = (0..window.len / PAGE).collect();
        let first = worker.random.index(pages.len());
        for page in pages[first..].iter().chain(pages[..first].iter().rev()) {
            let from = (page * PAGE).max(window.skip);
            let to = ((page + 1) * PAGE).min(window.skip + window.wanted);
            if from < to {
                all[from - window.skip..to - window.skip]
                    .copy_from_slice(&map.copy(from, to - from));
            }
            if worker.random.one_in(8) {
                map.advise(Advice::LinuxDontNeed).context("MADV_DONTNEED")?;
            }
        }
        all
    } else {
        map.copy(window.skip, window.wanted)
    };
    window.check_behind(pair, &map)?;
    Ok(Some(all))
}

/// A mapping that grows to the read's length, and moves.
pub fn mremap(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let Some(window) = window(pair, offset, length) else {
        return Ok(Some(Vec::new()));
    };
    let kind = unpopulated(worker);
    let mut map = Mapping::new(&pair.file, window.start, PAGE, kind).context("mmap")?;
    let first = map.copy(0, PAGE);
    let pages = window.len / PAGE + worker.random.index(4);
    map.resize(pages * PAGE).context("mremap")?;
    if map.copy(0, PAGE) != first {
        bail!("the first page is another after mremap");
    }
    if worker.random.one_in(2) {
        map.resize(window.len).context("mremap")?;
    }
    window.check_behind(pair, &map)?;
    Ok(Some(map.copy(window.skip, window.wanted)))
}

/// write(2) from the mapping: the kernel takes the pages by their addresses.
pub fn mapwrite(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let Some(window) = window(pair, offset, length) else {
        return Ok(Some(Vec::new()));
    };
    let kind = unpopulated(worker);
    let map = Mapping::new(&pair.file, window.start, window.len, kind).context("mmap")?;
    let sink = File::from(worker.sink()?);
    let mut all = Vec::new();
    while all.len() < window.wanted {
        let count = map
            .write_to(&sink, window.skip + all.len(), window.wanted - all.len())
            .map_err(|error| anyhow::anyhow!("{} after {}", errno::name(error), all.len()))?;
        all.extend(fill(count, |buffer, done| sink.read_at(buffer, done))?);
    }
    Ok(Some(all))
}

/// Reads into a private mapping of the same file, so that the copy to it faults the file's own pages in.
pub fn read_into(
    pair: &Pair,
    worker: &mut Worker,
    offset: u64,
    length: usize,
) -> Result<Option<Vec<u8>>> {
    let Some(window) = window(pair, offset, length) else {
        return Ok(Some(Vec::new()));
    };
    let kind = Kind {
        writable: true,
        ..Kind::default()
    };
    // Another part of the file as well as the same one. It must lie before the end of the last page.
    let last = pair.size.next_multiple_of(PAGE as u64);
    let pages = last.saturating_sub(window.len as u64) / PAGE as u64;
    let start = worker.random.below(pages + 1) * PAGE as u64;
    let mut map = Mapping::new(&pair.file, start, window.len, kind).context("mmap")?;
    let done = map.fill(|bytes| {
        let mut filled = 0;
        while filled < window.wanted {
            match pair
                .file
                .read_at(&mut bytes[filled..window.wanted], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) => return Err(error),
            }
        }
        Ok(bytes[..filled].to_vec())
    });
    done.map(Some)
        .map_err(|error| anyhow::anyhow!("{}", errno::io_name(&error)))
}
