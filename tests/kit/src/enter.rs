// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `enter`: runs a program in another domain of a security module.
//!
//! Also what `rights` enters a domain by.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;

/// Runs PROGRAM after telling the security module in which domain.
#[derive(clap::Args)]
pub struct Args {
    /// Written to /proc/self/attr/current: the domain from now on.
    #[arg(long)]
    current: Option<String>,
    /// Written to /proc/self/attr/exec: the domain of the program.
    #[arg(long)]
    exec: Option<String>,
    /// The root directory of the program.
    #[arg(long)]
    root: Option<PathBuf>,
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(text) = &args.current {
        current(text)?;
    }
    if let Some(text) = &args.exec {
        write("exec", text)?;
    }
    if let Some(root) = &args.root {
        std::os::unix::fs::chroot(root).with_context(|| root.display().to_string())?;
        std::env::set_current_dir("/").context("/")?;
    }
    // Returns only if it fails.
    let error = Command::new(&args.program).args(&args.arguments).exec();
    Err(error).with_context(|| args.program.display().to_string())
}

/// Changes the domain of this process.
pub fn current(text: &str) -> Result<()> {
    write("current", text)
}

fn write(attribute: &str, text: &str) -> Result<()> {
    let path = format!("/proc/self/attr/{attribute}");
    std::fs::write(&path, text).with_context(|| format!("{path}: {text}"))
}
