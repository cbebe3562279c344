// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `kills`: readers that are killed in the middle, and what they leave in the caches.

use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;

use crate::errno;
use crate::random::Random;

/// Starts readers of DIR, kills them after a moment, and compares DIR with its reference, again and again.
///
/// What the dead readers had begun must not be in any cache as if it were complete. The device below should
/// be slow, so that they are killed while they wait for it.
#[derive(clap::Args)]
pub struct Args {
    /// The tree (or the file) to read.
    dir: PathBuf,
    /// The same tree (or file) on a file system to trust.
    reference: PathBuf,
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a reader lives at the most, in milliseconds.
    #[arg(long, default_value_t = 60)]
    moment: u64,
    /// How many reads are compared after each round.
    #[arg(long, default_value_t = 60)]
    ops: u64,
}

/// What each reader does: sets of interfaces of readcheck.
const READERS: &[&str] = &[
    "pread",
    "mmap,mremap",
    "uring,aio",
    "splice,sendfile",
    "direct,uring-direct,aio-direct",
    "mapwrite,readmap",
];

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut random = Random::new(args.seed);
    let own = std::env::current_exe().context("the path of this program")?;
    let readcheck = |only: Option<&str>, ops: u64, seed: u64| {
        let mut command = Command::new(&own);
        command.arg("readcheck").arg(&args.dir).arg(&args.reference);
        command.args(["--ops", &ops.to_string(), "--seed", &seed.to_string()]);
        if let Some(only) = only {
            command.args(["--only", only]);
        }
        command.stdin(Stdio::null());
        command
    };
    let mut killed = 0;
    for round in 0..args.rounds {
        std::fs::write("/proc/sys/vm/drop_caches", "3").context("/proc/sys/vm/drop_caches")?;
        let mut children = Vec::new();
        for only in READERS {
            let child = readcheck(Some(only), 100_000, random.next() >> 1)
                .args(["--max-length", "1048576"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("a reader")?;
            children.push(child);
        }
        // One after the other, so that some die waiting for what others have begun.
        while !children.is_empty() {
            std::thread::sleep(Duration::from_millis(random.below(args.moment + 1)));
            let mut child = children.swap_remove(random.index(children.len()));
            if child.try_wait().context("a reader")?.is_none() {
                killed += 1;
            }
            child
                .kill()
                .map_err(|error| anyhow::anyhow!("kill: {}", errno::io_name(&error)))?;
            child.wait().context("a reader")?;
        }
        let seed = args.seed.wrapping_add(round);
        let output = readcheck(None, args.ops, seed)
            .output()
            .context("readcheck")?;
        if !output.status.success() {
            println!(
                "round {round} (seed {}): after killed readers\n{}{}",
                args.seed,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    println!(
        "{} rounds, {killed} readers killed while they read",
        args.rounds
    );
    Ok(if killed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
