// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `fuzz-mounts`: mounts one mutated image after the other and does with each what programs do.
//!
//! Worker processes, one for each processor, do the work and say which seed they are at; the parent kills one
//! when a seed takes too long, which is reported as a hang, and goes on with the next. What the kernel
//! itself has to say about an image is for the caller to look for in its log.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use crate::errno;
use crate::exercise::Exercise;
use crate::mount;
use crate::mutate::Base;
use crate::outcome;
use crate::raw::kcov::Kcov;

/// Options with which equal files of two images share their pages.
const SHARE: &str = ",domain_id=fuzz,inode_share";

/// Mounts and exercises mutated images; fails if one hangs or kills the process.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: Job,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// How long one image may take, in seconds.
    #[arg(long, default_value_t = 60)]
    limit: u64,
    /// How many images are mounted at a time; as many as there are processors if not given.
    #[arg(long)]
    jobs: Option<u64>,
}

/// The part of `fuzz-mounts` that may die.
#[derive(clap::Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    job: Job,
    #[arg(long)]
    first: u64,
    #[arg(long)]
    end: u64,
}

#[derive(clap::Args, Clone)]
struct Job {
    /// Sound images; the blobs of `x.erofs` are `x.blob`, `x.2.blob` and so on.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The file system's type.
    #[arg(long, short, default_value = "ferofs")]
    r#type: String,
    /// A directory, best on tmpfs, for the mutated images and the mount point.
    #[arg(long)]
    work: PathBuf,
    /// Most entries to visit in one image.
    #[arg(long, default_value_t = 100)]
    entries: u32,
    /// Most bytes to read from one image.
    #[arg(long, default_value_t = 128 << 10)]
    bytes: u64,
    /// Which changes of each seed are made, as with `mutate`.
    #[arg(long, default_value_t = u32::MAX)]
    changes: u32,
    /// A directory for which places of the module were passed: a file for each worker, with an address in hexadecimal on each
    /// line, and then the seeds that passed places that none before them did. The kernel and the module must have kcov.
    #[arg(long)]
    coverage: Option<PathBuf>,
    /// A directory for what can be seen of each image, for `fuzz-compare`: a file for each worker, with a seed and the outcome on
    /// each line.
    #[arg(long)]
    outcomes: Option<PathBuf>,
    /// A file of seeds, one a line, which are then what is counted: the first one is number 0. Lines with a `#` are none.
    #[arg(long)]
    seeds: Option<PathBuf>,
}

impl Job {
    /// The seeds of the numbers from `first` on, to `end`.
    fn seeds(&self, first: u64, end: u64) -> Result<Vec<u64>> {
        let Some(path) = &self.seeds else {
            return Ok((first..end).collect());
        };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (skipped, wanted) = (first as usize, (end - first) as usize);
        let seeds = text.lines().filter(|line| !line.starts_with('#'));
        let seeds = seeds.skip(skipped).take(wanted);
        seeds
            .map(|line| {
                line.parse()
                    .with_context(|| format!("expected a seed, found '{line}'"))
            })
            .collect()
    }

    fn mount_point(&self) -> PathBuf {
        self.work.join("mnt")
    }
}

#[derive(Default)]
struct Tally {
    results: BTreeMap<String, u64>,
    entries: u64,
    failures: u64,
    slowest: (Duration, u64),
}

impl Tally {
    /// Tells of a failure as soon as it is seen: the machine may not live to print a summary.
    fn fail(&mut self, seed: u64, what: &str) {
        println!("seed {seed}: {what}");
        self.failures += 1;
    }

    fn add(&mut self, other: Tally) {
        for (result, count) in other.results {
            *self.results.entry(result).or_default() += count;
        }
        self.entries += other.entries;
        self.failures += other.failures;
        self.slowest = self.slowest.max(other.slowest);
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let processors = || std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let jobs = args.jobs.unwrap_or_else(processors).max(1);
    let started = Instant::now();
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..jobs)
            .map(|number| scope.spawn(move || part(args, number, jobs)))
            .collect();
        for part in parts {
            let tallied = part
                .join()
                .map_err(|_| anyhow::anyhow!("a thread has panicked"))?;
            tally.add(tallied?);
        }
        anyhow::Ok(())
    })?;
    let results: Vec<String> = tally
        .results
        .iter()
        .map(|(result, count)| format!("{result}={count}"))
        .collect();
    println!(
        "{} images in {:.0} s: {}; {} entries visited; slowest seed {} ({:.1} s); {} failures",
        args.count,
        started.elapsed().as_secs_f64(),
        results.join(" "),
        tally.entries,
        tally.slowest.1,
        tally.slowest.0.as_secs_f64(),
        tally.failures
    );
    // A run in which nothing could be mounted, or everything, has not tested what it is meant to test.
    let mounted = tally.results.get("mounted").copied().unwrap_or(0);
    let suspicious = args.count >= 100 && (mounted == 0 || mounted == args.count);
    if suspicious {
        println!("expected some images to be mounted and some refused");
    }
    Ok(if tally.failures == 0 && !suspicious {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One of `jobs` equal parts of the seeds, in a directory of its own.
fn part(args: &Args, number: u64, jobs: u64) -> Result<Tally> {
    let mut job = args.job.clone();
    job.work.push(number.to_string());
    let mount_point = job.mount_point();
    std::fs::create_dir_all(&mount_point).with_context(|| mount_point.display().to_string())?;
    let mut tally = Tally::default();
    let mut next = args.first + args.count * number / jobs;
    let end = args.first + args.count * (number + 1) / jobs;
    while next < end {
        next = supervise(&job, args.limit, next, end, &mut tally)?;
        // A killed worker leaves its image mounted.
        while rustix::mount::unmount(&mount_point, UnmountFlags::DETACH).is_ok() {}
    }
    Ok(tally)
}

/// Runs a worker until it is done or dead; returns the seed to go on with.
fn supervise(job: &Job, limit: u64, first: u64, end: u64, tally: &mut Tally) -> Result<u64> {
    let mut worker = spawn(job, first, end)?;
    let output = worker
        .stdout
        .take()
        .context("the worker has no standard output")?;
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output)
            .lines()
            .map_while(std::io::Result::ok)
        {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut current = first;
    let mut number = first;
    let mut since = Instant::now();
    loop {
        match lines.recv_timeout(Duration::from_secs(limit)) {
            Ok(line) => {
                let mut words = line.split(' ');
                match (words.next(), words.next(), words.next()) {
                    (Some("seed"), Some(seed), Some(position)) => {
                        current = seed.parse().context("worker's line")?;
                        number = position.parse().context("worker's line")?;
                        since = Instant::now();
                    }
                    (Some("done"), Some(result), Some(entries)) => {
                        *tally.results.entry(result.to_owned()).or_default() += 1;
                        tally.entries += entries.parse::<u64>().context("worker's line")?;
                        tally.slowest = tally.slowest.max((since.elapsed(), current));
                    }
                    _ => tally.fail(current, &line),
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                tally.fail(
                    current,
                    &format!("no end after {limit} s, {}", whereabouts(&worker)),
                );
                stop(&mut worker, current)?;
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = worker.wait().context("wait for the worker")?;
    let _ = reader.join();
    if status.success() {
        return Ok(end);
    }
    if status.signal() != Some(Signal::KILL.as_raw()) {
        tally.fail(current, &format!("the worker ended with {status}"));
    }
    Ok(number + 1)
}

fn spawn(job: &Job, first: u64, end: u64) -> Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("fuzz-worker").args(&job.images);
    command
        .args(["--type", &job.r#type])
        .arg("--work")
        .arg(&job.work);
    command.args([
        "--entries",
        &job.entries.to_string(),
        "--bytes",
        &job.bytes.to_string(),
        "--changes",
        &job.changes.to_string(),
    ]);
    command.args(["--first", &first.to_string(), "--end", &end.to_string()]);
    if let Some(directory) = &job.coverage {
        command.arg("--coverage").arg(directory);
    }
    if let Some(directory) = &job.outcomes {
        command.arg("--outcomes").arg(directory);
    }
    if let Some(seeds) = &job.seeds {
        command.arg("--seeds").arg(seeds);
    }
    command
        .stdout(Stdio::piped())
        .spawn()
        .context("start the worker")
}

/// What the worker is doing: its system call and its stack in the kernel.
fn whereabouts(worker: &Child) -> String {
    let read =
        |file| std::fs::read_to_string(format!("/proc/{}/{file}", worker.id())).unwrap_or_default();
    format!("system call {}stack:\n{}", read("syscall"), read("stack"))
}

/// Kills the worker; one that survives SIGKILL is stuck in the kernel, and nothing can go on.
fn stop(worker: &mut Child, seed: u64) -> Result<()> {
    worker.kill().context("kill the worker")?;
    for _ in 0..200 {
        if worker.try_wait().context("wait for the worker")?.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("seed {seed}: the worker hangs in the kernel and cannot be killed")
}

pub fn run_worker(args: &WorkerArgs) -> Result<ExitCode> {
    let mut bases = Vec::new();
    for path in &args.job.images {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let mut options = mount::device_options(path);
        // Equal files of two images mounted at a time share their pages, if the images say which they are.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("fingerprints") && args.job.r#type == "ferofs" {
            options.push_str(SHARE);
        }
        bases.push((Base::new(bytes), options));
    }
    let mut out = std::io::stdout().lock();
    let mut record = match &args.job.coverage {
        Some(directory) => Some(Record::new(directory)?),
        None => None,
    };
    let mut outcomes = match &args.job.outcomes {
        Some(directory) => {
            let path = directory.join(std::process::id().to_string());
            Some(File::create(&path).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    for (number, seed) in (args.first..).zip(args.job.seeds(args.first, args.end)?) {
        let (base, options) = &bases[(seed % bases.len() as u64) as usize];
        writeln!(out, "seed {seed} {number}")?;
        // What the kernel reports is about the last seed in its log, or the last two if two are mounted at a time.
        let _ = std::fs::write("/dev/kmsg", format!("ferofs-testkit: seed {seed}\n"));
        // Files that are shared by fingerprints that nobody compares can be those of the image that is mounted beside this one.
        let noted = outcomes.as_mut().filter(|_| !options.contains(SHARE));
        let (result, entries) = one(&args.job, seed, base, options, noted)?;
        if let Some(record) = &mut record {
            record.take(seed);
        }
        writeln!(out, "done {result} {entries}")?;
    }
    if let Some(record) = record {
        record.write()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Which places of the module a worker has passed.
struct Record {
    kcov: Kcov,
    places: BTreeSet<u64>,
    /// The seeds that passed places that no seed before them did.
    seeds: Vec<u64>,
    file: PathBuf,
}

impl Record {
    fn new(directory: &Path) -> Result<Self> {
        Ok(Record {
            kcov: Kcov::new().context("kcov")?,
            places: BTreeSet::new(),
            seeds: Vec::new(),
            file: directory.join(std::process::id().to_string()),
        })
    }

    fn take(&mut self, seed: u64) {
        let before = self.places.len();
        self.places.extend(self.kcov.take());
        if self.places.len() > before {
            self.seeds.push(seed);
        }
    }

    fn write(&self) -> Result<()> {
        let mut lines = String::new();
        for place in &self.places {
            writeln!(lines, "{place:x}")?;
        }
        for seed in &self.seeds {
            writeln!(lines, "seed {seed}")?;
        }
        std::fs::write(&self.file, lines).with_context(|| self.file.display().to_string())
    }
}

/// Mounts an image and does with it what programs do. Its outcome is noted, if there is where.
fn one(
    job: &Job,
    seed: u64,
    base: &Base,
    options: &str,
    mut noted: Option<&mut File>,
) -> Result<(String, u32)> {
    let is_noted = noted.is_some();
    let mut note = |outcome: &str| match &mut noted {
        Some(file) => writeln!(file, "{seed} {outcome}").context("outcomes"),
        None => Ok(()),
    };
    let image = job.work.join("image");
    let mount_point = job.mount_point();
    // A new file: of the last one, an image that is mounted beside this one may still share pages, and keep it from writers.
    let _ = std::fs::remove_file(&image);
    std::fs::write(&image, base.changed(seed, job.changes))
        .with_context(|| image.display().to_string())?;
    match mount::classic(&job.r#type, &image, &mount_point, options) {
        Ok(()) => {}
        Err(Errno::NODEV) => anyhow::bail!("the kernel knows no file system {}", job.r#type),
        Err(error) => {
            let name = errno::name(error);
            note(&name)?;
            return Ok((name, 0));
        }
    }
    let entries = Exercise::new(seed, job.entries, job.bytes).run(&mount_point);
    if is_noted {
        // Whatever cannot be read is an outcome.
        let outcome = outcome::of(&mount_point).unwrap_or_else(|error| format!("{error:#}"));
        note(&outcome.replace('\n', " "))?;
    }
    unmount(&mount_point)?;
    Ok(("mounted".to_owned(), entries))
}

fn unmount(mount_point: &Path) -> Result<()> {
    for _ in 0..50 {
        match rustix::mount::unmount(mount_point, UnmountFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => anyhow::bail!("unmount: {}", errno::name(error)),
        }
    }
    anyhow::bail!("unmount: still busy after a second")
}
