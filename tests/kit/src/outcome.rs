// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `fuzz-compare`: whether what `ferofs check` calls sound is what the module has shown.
//!
//! `fuzz-mounts` notes the outcome of mutated images in a machine, and this does the same with what `ferofs check --extract` makes
//! of them, outside of it, where that takes a few milliseconds each. What the module refuses, or cannot read, must be an error
//! for the other one, too, and what both read must be the same. (What `ferofs check` finds wrong may be readable: it looks at
//! more.)

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use sha2::Digest;
use sha2::Sha256;

use crate::escape::hex;
use crate::manifest;
use crate::mount;
use crate::mutate::Base;
use crate::walk;

/// A tree with more entries is not compared: it may have no end.
const ENTRIES_MAX: usize = 2_000;
/// One with more bytes in files takes too long.
const BYTES_MAX: u64 = 4 << 20;
/// What is said of both.
const LARGE: &str = "large";

/// What a tree is, in one word: a digest of all that can be seen of it, or [`LARGE`].
///
/// # Errors
///
/// When something of it cannot be read.
pub fn of(root: &Path) -> Result<String> {
    let entries = walk::tree_up_to(root, ENTRIES_MAX)?;
    let files = entries.iter().filter(|entry| entry.metadata.is_file());
    let bytes = files.fold(0_u64, |sum, entry| sum.saturating_add(entry.metadata.len()));
    if entries.len() > ENTRIES_MAX || bytes > BYTES_MAX {
        return Ok(LARGE.to_owned());
    }
    let seen = manifest::Args::extracted(root);
    let mut hash = Sha256::new();
    for entry in &entries {
        let line = manifest::line(entry, &seen);
        hash.update(line.with_context(|| entry.path.display().to_string())?);
        hash.update([b'\n']);
    }
    Ok(hex(&hash.finalize()))
}

/// Compares outcomes of mutated images with what `ferofs check` says of them.
#[derive(clap::Args)]
pub struct Args {
    /// The sound images, as `fuzz-mounts` had them.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The directory with its outcomes.
    #[arg(long)]
    outcomes: PathBuf,
    /// `ferofs`.
    #[arg(long)]
    ferofs: PathBuf,
    /// A directory for images and what is extracted: on tmpfs, which keeps times of any year.
    #[arg(long)]
    work: PathBuf,
    /// A directory for the images about which they disagree, as `seed-N.erofs`.
    #[arg(long)]
    keep: PathBuf,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut bases = Vec::new();
    for path in &args.images {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        bases.push((Base::new(bytes), mount::devices(path)));
    }
    for directory in [&args.work, &args.keep] {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let (mut compared, mut sound, mut wrong) = (0, 0, 0);
    let outcomes = &args.outcomes;
    for file in fs::read_dir(outcomes).with_context(|| outcomes.display().to_string())? {
        let path = file?.path();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for line in text.lines() {
            let (seed, module) = line.split_once(' ').context("a line of outcomes")?;
            let seed = seed.parse().context("a line of outcomes")?;
            let (base, devices) = &bases[(seed % bases.len() as u64) as usize];
            compared += 1;
            let Some(checked) = check(args, seed, base, devices)? else {
                continue;
            };
            sound += 1;
            if checked != module && checked != LARGE && module != LARGE {
                wrong += 1;
                println!("seed {seed}: sound for ferofs check ({checked}); the module: {module}");
                fs::copy(
                    args.work.join("image.erofs"),
                    args.keep.join(format!("seed-{seed}.erofs")),
                )?;
            }
        }
    }
    println!("{compared} images compared, {sound} of them sound; {wrong} disagreements");
    // A run without sound ones has compared nothing.
    Ok(match wrong == 0 && (sound > 0 || compared < 20) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What `ferofs check` makes of an image, if it calls it sound.
fn check(args: &Args, seed: u64, base: &Base, devices: &[PathBuf]) -> Result<Option<String>> {
    let image = args.work.join("image.erofs");
    let extracted = args.work.join("extracted");
    fs::write(&image, base.changed(seed, u32::MAX)).with_context(|| image.display().to_string())?;
    let mut command = Command::new(&args.ferofs);
    command.args(["check", "--quiet"]).arg(&image);
    command.arg("--extract").arg(&extracted);
    for device in devices {
        command.arg("--device").arg(device);
    }
    let output = command.output().context("run ferofs")?;
    let outcome = match output.status.code() {
        Some(0) => Some(of(&extracted)?),
        // Wrong, of another kind, or both: nothing was extracted.
        Some(4 | 8 | 12) => None,
        _ => anyhow::bail!(
            "seed {seed}: ferofs check: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    };
    let _ = fs::remove_dir_all(&extracted);
    Ok(outcome)
}
