// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `readcheck`: random reads of files by every interface at once, each compared with a reference tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::pressure;
use crate::random::Random;
use crate::readers;
use crate::readers::Pair;
use crate::readers::READERS;
use crate::readers::Reader;
use crate::readers::Worker;
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
    /// A directory for what is written to, half of it; else all that is in memory.
    #[arg(long)]
    sinks: Option<PathBuf>,
    /// Only these interfaces, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Empties all caches and takes memory meanwhile, again and again.
    #[arg(long)]
    pressure: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let pairs = pairs(args)?;
    let readers: Vec<_> = READERS
        .iter()
        .filter(|(name, _)| args.only.is_empty() || args.only.iter().any(|o| o == name))
        .collect();
    if let Some(name) = args
        .only
        .iter()
        .find(|&name| !READERS.iter().any(|(n, _)| n == name))
    {
        let names: Vec<&str> = READERS.iter().map(|&(name, _)| name).collect();
        bail!(
            "there is no interface '{name}'; there are {}",
            names.join(", ")
        );
    }
    if pairs.is_empty() {
        bail!("nothing to read: expected a regular file that is not empty");
    }
    let done = AtomicBool::new(false);
    let results: Vec<Result<BTreeMap<&str, u64>>> = std::thread::scope(|scope| {
        if args.pressure {
            let files: Vec<&File> = pairs.iter().map(|pair| &pair.file).collect();
            let done = &done;
            scope.spawn(move || pressure::until(done, &files, args.seed));
        }
        let threads: Vec<_> = (0..args.threads)
            .map(|thread| {
                let (pairs, readers) = (&pairs, &readers);
                scope.spawn(move || {
                    check(pairs, readers, args, args.seed.wrapping_add(thread << 32))
                })
            })
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        results
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
    let mut worker = Worker::new(seed, args.max_length, args.sinks.clone());
    let mut counts = BTreeMap::new();
    for op in 0..args.ops {
        // The large files have most of the boundaries.
        let random = &mut worker.random;
        let some = if random.one_in(2) {
            pairs.len()
        } else {
            pairs.len().min(20)
        };
        let pair = random.pick(&pairs[..some]);
        let (name, reader) = **random.pick(readers);
        let (offset, length) = range(random, pair.size, args.max_length);
        let context = || {
            format!(
                "{}: {name} of {length} bytes at {offset} (seed {seed}, operation {op})",
                pair.path.display()
            )
        };
        let Some(got) = reader(pair, &mut worker, offset, length).with_context(context)? else {
            counts.entry(name).or_insert(0);
            continue;
        };
        compare(pair, offset, length, &got, readers::may_be_short(name)).with_context(context)?;
        *counts.entry(name).or_insert(0) += got.len() as u64;
    }
    Ok(counts)
}

/// An offset up to a little behind the end, often at a boundary, and a length.
fn range(random: &mut Random, size: u64, max_length: u64) -> (u64, usize) {
    let mut offset = random.below(size + 1);
    // What sectors, blocks, pages, chunks and readahead are multiples of.
    let unit = *random.pick(&[512, 1024, 4096, 8192, 65_536, 131_072]);
    match random.below(10) {
        0 => offset = 0,
        1 | 2 => offset -= offset % unit,
        3 | 4 => offset = (offset - offset % unit + random.below(7)).saturating_sub(3),
        5 => offset = size.saturating_sub(random.below(5000)),
        6 => offset = size + random.below(9000),
        _ => {}
    }
    let length = match random.below(8) {
        0 => 1 + random.below(16),
        1 => 512 * (1 + random.below(16)),
        2 => 4096 * (1 + random.below(16)),
        // Up to a boundary, or nearly.
        3 => (unit - offset % unit + random.below(3)).max(2) - 1,
        // To the end, or nearly.
        4 => (size.saturating_sub(offset) + random.below(3)).max(2) - 1,
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
    readers::same(got, &expected, offset)
}
