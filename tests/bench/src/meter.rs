// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a piece of work costs the whole machine: the processors' time, the page cache, the disk.
//!
//! Meant for a virtual machine in which nothing else runs and whose clock counts instructions. The time
//! is that of all threads, the kernel's among them, by the scheduler's count in nanoseconds; the tick's
//! statistics in /proc/stat are too coarse, and those of a process leave the kernel's threads out.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;

/// What one run of something cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Nanoseconds that a processor was busy.
    pub cpu: u64,
    /// Nanoseconds that went by.
    pub wall: u64,
    /// By how many KiB the page cache grew.
    pub cache: i64,
    /// How many reads reached the disk.
    pub reads: u64,
    /// How many KiB they read.
    pub read: u64,
}

/// Measures, on one disk.
pub struct Meter {
    disk: PathBuf,
    /// What measuring nothing costs.
    empty: u64,
}

struct State {
    cpu: u64,
    cache: i64,
    reads: u64,
    sectors: u64,
}

impl Meter {
    /// A meter for the reads of a disk, given as its device.
    pub fn new(device: &Path) -> Result<Self> {
        let device = fs::canonicalize(device).with_context(|| device.display().to_string())?;
        let name = device.file_name().context("a disk has a name")?;
        let mut meter = Meter {
            disk: Path::new("/sys/block").join(name).join("stat"),
            empty: 0,
        };
        let mut empty = Vec::new();
        for _ in 0..9 {
            empty.push(meter.measure(|| Ok(()))?.cpu);
        }
        empty.sort_unstable();
        meter.empty = empty[4];
        Ok(meter)
    }

    /// Does `work` and says what it cost.
    pub fn measure(&self, work: impl FnOnce() -> Result<()>) -> Result<Sample> {
        let before = self.state(false)?;
        let start = Instant::now();
        work()?;
        let wall = start.elapsed();
        let after = self.state(true)?;
        Ok(Sample {
            cpu: (after.cpu - before.cpu).saturating_sub(self.empty),
            wall: wall.as_nanos() as u64,
            cache: after.cache - before.cache,
            reads: after.reads - before.reads,
            read: (after.sectors - before.sectors) / 2,
        })
    }

    fn state(&self, at_end: bool) -> Result<State> {
        if at_end {
            let cpu = busy()?;
            return self.rest(cpu);
        }
        let state = self.rest(0)?;
        Ok(State {
            cpu: busy()?,
            ..state
        })
    }

    fn rest(&self, cpu: u64) -> Result<State> {
        // Counts that the processors keep to themselves go to where they are summed.
        fs::write("/proc/sys/vm/stat_refresh", "1")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let cache = ["Cached:", "Buffers:"]
            .iter()
            .filter_map(|name| {
                let line = memory.lines().find(|line| line.starts_with(name))?;
                line.split_whitespace().nth(1)?.parse::<i64>().ok()
            })
            .sum();
        let disk =
            fs::read_to_string(&self.disk).with_context(|| self.disk.display().to_string())?;
        let numbers: Vec<u64> = disk
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        Ok(State {
            cpu,
            cache,
            reads: numbers.first().copied().unwrap_or(0),
            sectors: numbers.get(2).copied().unwrap_or(0),
        })
    }
}

/// Nanoseconds that all processors have run threads for.
fn busy() -> Result<u64> {
    // A thread's time is added when it leaves its processor: this one does, and others may finish
    // what they were woken up for.
    thread::sleep(Duration::from_millis(3));
    let text = fs::read_to_string("/proc/schedstat").context("/proc/schedstat")?;
    let total = text
        .lines()
        .filter(|line| line.starts_with("cpu"))
        .filter_map(|line| line.split_whitespace().nth(7)?.parse::<u64>().ok())
        .sum();
    Ok(total)
}
