// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `faultcheck`: reads a file of which a part cannot be read, by each interface; the rest must be right, the
//! part an error, and nothing wrong anywhere.
//!
//! `touch`: bytes of a mapping, for which the kernel may kill the process.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::errno;
use crate::raw::mapping::Kind;
use crate::raw::mapping::Mapping;
use crate::readers::Pair;
use crate::readers::READERS;
use crate::readers::Worker;
use crate::readers::same;

/// How much is read at once near what is bad.
const STEP: u64 = 4096;

/// How much is read at once elsewhere: a file system may try the whole folio again for each piece.
const STRIDE: u64 = 128 << 10;

/// How near that is.
const NEAR: u64 = 16 << 10;

/// The most that a file system may fail to read around what is bad: its largest folio.
const SLACK: u64 = 2 << 20;

/// Reads a file in pieces by several interfaces, and in one go.
#[derive(clap::Args)]
pub struct Args {
    file: PathBuf,
    /// The same file on a file system to trust.
    reference: PathBuf,
    /// Bytes START-END cannot be read: each piece of 4,096 bytes with one of them must fail with EIO
    /// (through a mapping: EFAULT), and those further away than a large folio must be right. Without it all must be right.
    #[arg(long, value_parser = parse_range)]
    bad: Option<(u64, u64)>,
    /// What reads of them fail with instead.
    #[arg(long, default_value = "EIO")]
    errno: String,
    /// The interfaces, by the names that readcheck has for them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pread,splice,uring,aio,direct,mapwrite"
    )]
    only: Vec<String>,
}

/// Touches one byte of a file through a mapping, or one of every page.
#[derive(clap::Args)]
pub struct TouchArgs {
    file: PathBuf,
    offset: u64,
    /// Touches every page from the offset to here.
    #[arg(long)]
    end: Option<u64>,
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let (start, end) = text.split_once('-').ok_or("expected START-END")?;
    let number = |text: &str| text.parse().map_err(|_| format!("no number: {text}"));
    Ok((number(start)?, number(end)?))
}

pub fn touch(args: &TouchArgs) -> Result<ExitCode> {
    let file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    let first = args.offset - args.offset % STEP;
    let len = args.end.unwrap_or(0).max(args.offset + 1) - first;
    let map = Mapping::new(&file, first, len as usize, Kind::default()).context("mmap")?;
    let mut sum = 0;
    for at in (args.offset - first..len).step_by(STEP as usize) {
        sum += map
            .copy(at as usize, 1)
            .iter()
            .map(|&byte| u64::from(byte))
            .sum::<u64>();
    }
    println!("sum of the bytes: {sum}");
    Ok(ExitCode::SUCCESS)
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
    let size = file.metadata().context("fstat")?.len();
    let reference =
        File::open(&args.reference).with_context(|| args.reference.display().to_string())?;
    let mut expected = vec![0; size as usize];
    reference
        .read_exact_at(&mut expected, 0)
        .with_context(|| args.reference.display().to_string())?;
    let pair = Pair {
        path: args.file.clone(),
        file,
        reference,
        size,
    };
    let mut wrong = 0;
    let mut judge = |what: &str, result: Result<String>| match result {
        Ok(said) => println!("{what}: {said}"),
        Err(error) => {
            println!("{what}: {error:#}");
            wrong += 1;
        }
    };
    for name in &args.only {
        let result = pieces(&pair, &expected, name, args);
        judge(name, result);
    }
    judge("one go", one_go(&expected, args));
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn pieces(pair: &Pair, expected: &[u8], name: &str, args: &Args) -> Result<String> {
    let bad = args.bad;
    let (_, reader) = READERS
        .iter()
        .find(|(known, _)| *known == name)
        .with_context(|| format!("there is no interface '{name}'"))?;
    let mapped = name == "mapwrite";
    let errno = if mapped { "EFAULT" } else { &args.errno };
    // A seed for which nothing depends on chance here but the form of a request.
    let mut worker = Worker::new(1, STRIDE, None);
    let (mut right, mut failed) = (0_u64, 0_u64);
    let mut end = 0;
    while end < pair.size {
        let offset = end;
        end = match bad {
            Some((from, to)) if offset < to + NEAR && from < offset + STEP + NEAR => offset + STEP,
            Some((from, _)) if offset < from => (offset + STRIDE).min(from / STEP * STEP - NEAR),
            _ => offset + STRIDE,
        };
        end = end.min(pair.size);
        let expected = &expected[offset as usize..end as usize];
        match reader(pair, &mut worker, offset, expected.len()) {
            Ok(None) => bail!("at {offset}: not offered"),
            Ok(Some(got)) => {
                same(&got, expected, offset)?;
                if bad.is_some_and(|(from, to)| offset < to && from < end) {
                    bail!("{offset} to {end}: expected {errno}, for it cannot be read");
                }
                right += end - offset;
            }
            Err(error) => {
                let text = format!("{error:#}");
                if !text.contains(errno) {
                    bail!("at {offset}: expected {errno}, got {text}");
                }
                if !bad.is_some_and(|(from, to)| offset < to + SLACK && from < end + SLACK) {
                    bail!("at {offset}, where nothing is bad: {text}");
                }
                failed += end - offset;
            }
        }
    }
    Ok(format!("{right} bytes right, {failed} with {errno}"))
}

/// read(2) with a buffer for all of it, on a descriptor of its own.
fn one_go(expected: &[u8], args: &Args) -> Result<String> {
    let mut file = File::open(&args.file).context("open")?;
    let mut buffer = vec![0; expected.len() + 1];
    let mut filled = 0;
    let error = loop {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break None,
            Ok(count) => filled += count,
            Err(error) => break Some(error),
        }
    };
    same(
        &buffer[..filled],
        &expected[..filled.min(expected.len())],
        0,
    )?;
    match (error, args.bad) {
        (None, None) if filled == expected.len() => Ok(format!("all {filled} bytes")),
        (Some(error), Some((from, _))) => {
            let name = errno::io_name(&error);
            if name != args.errno {
                bail!("expected {}, got {name}", args.errno);
            }
            let before = filled as u64;
            if before > from || before + SLACK < from {
                bail!("{name} after {before} bytes; what cannot be read begins at {from}");
            }
            Ok(format!("{before} bytes, then {name}"))
        }
        (error, _) => bail!("ended after {filled} bytes with {error:?}"),
    }
}
