// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs-bench`: what `make bench` runs inside a virtual machine; see Documentation/benchmarks.md.

mod enter;
mod meter;
mod random;
mod results;
mod suite;
mod system;
mod work;

use std::process::ExitCode;

use clap::Parser;

/// Benchmarks of ferofs against its peers.
#[derive(Parser)]
#[command(name = "ferofs-bench", version)]
enum Command {
    /// Measure, and write the results.
    Run(suite::Args),
    #[command(hide = true)]
    Enter(enter::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Run(args) => suite::run(&args),
        Command::Enter(args) => enter::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferofs-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
