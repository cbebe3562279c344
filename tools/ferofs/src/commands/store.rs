// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs store`: what the daemon for containerd keeps. The daemon's own program asks it; this only finds that.

use ferofs::error::Error;
use ferofs::error::Result;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = "containerd-ferofs-grpc";

/// Show what the daemon for containerd keeps, check it, tidy it up
///
/// The same as containerd-ferofs-grpc store, which says more about it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs store ls
      List layers and snapshots.
  ferofs store verify
      Compare all layers with their sha256.
  ferofs store gc
      Remove files that no snapshot has.")]
pub struct Arguments {
    /// ls, gc or verify, and options for it
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true
    )]
    command: Vec<OsString>,
}

/// Where the program may be: beside this one, among those of administrators, or wherever else programs are.
fn candidates() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|path| Some(path.parent()?.join(PROGRAM)));
    let fixed = ["/usr/sbin", "/sbin", "/usr/local/sbin"]
        .map(|directory| PathBuf::from(directory).join(PROGRAM));
    let mut found: Vec<_> = beside
        .into_iter()
        .chain(fixed)
        .filter(|path| path.is_file())
        .collect();
    found.push(PROGRAM.into());
    found
}

/// Becomes the program.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut problem = None;
    for path in candidates() {
        let error = Command::new(&path)
            .arg("store")
            .args(&arguments.command)
            .exec();
        problem = Some(error);
    }
    let reason = problem.map(|error| error.to_string()).unwrap_or_default();
    Err(Error::Request(format!(
        "cannot run {PROGRAM}, which comes with the package of that name: {reason}"
    )))
}
