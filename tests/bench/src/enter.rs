// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `enter`: chroot(8), but a program that is in memory whatever the caches hold.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;

/// Runs a program with another root directory.
#[derive(clap::Args)]
pub struct Args {
    root: PathBuf,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub fn run(args: &Args) -> Result<()> {
    rustix::process::chroot(&args.root).context("chroot")?;
    rustix::process::chdir("/").context("chdir")?;
    let (program, arguments) = args.command.split_first().context("expected a command")?;
    Err(Command::new(program).args(arguments).exec()).context("exec")
}
