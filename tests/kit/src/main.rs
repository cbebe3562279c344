// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs-testkit`: everything the tests need that is not ferofs itself.
//!
//! The scripts below `tests/` call it, on the host and inside the virtual machine. It knows nothing of
//! ferofs' own code: where it takes an image apart it does so by the published format, so that a mistake
//! in `rust/erofs/` cannot hide itself here.

mod content;
mod corrupt;
mod corruptions;
mod dircheck;
mod enter;
mod errno;
mod escape;
mod exercise;
mod extents;
mod faultcheck;
mod fuzz;
mod gen_tar;
mod image;
mod kills;
mod kmsg;
mod manifest;
mod manifest_diff;
mod mount;
mod mutate;
mod outcome;
mod pressure;
mod random;
#[allow(unsafe_code)]
mod raw;
mod readcheck;
mod readers;
mod reshape;
mod rights;
mod tar_writer;
mod walk;

use std::process::ExitCode;

use clap::Parser;

/// Tools for testing ferofs.
#[derive(Parser)]
#[command(name = "ferofs-testkit", version)]
enum Command {
    Manifest(manifest::Args),
    ManifestDiff(manifest_diff::Args),
    GenTar(gen_tar::Args),
    Mutate(mutate::Args),
    Corrupt(corrupt::Args),
    Corruptions(corruptions::Args),
    Reshape(reshape::Args),
    Mount(mount::Args),
    FuzzMounts(fuzz::Args),
    #[command(hide = true)]
    FuzzWorker(fuzz::WorkerArgs),
    FuzzCompare(outcome::Args),
    Readcheck(readcheck::Args),
    Faultcheck(faultcheck::Args),
    Touch(faultcheck::TouchArgs),
    Kills(kills::Args),
    Dircheck(dircheck::Args),
    Extents(extents::Args),
    Rights(rights::Args),
    Enter(enter::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Manifest(args) => manifest::run(&args),
        Command::ManifestDiff(args) => manifest_diff::run(&args),
        Command::GenTar(args) => gen_tar::run(&args),
        Command::Mutate(args) => mutate::run(&args),
        Command::Corrupt(args) => corrupt::run(&args),
        Command::Corruptions(args) => corruptions::run(&args),
        Command::Reshape(args) => reshape::run(&args),
        Command::Mount(args) => mount::run(&args),
        Command::FuzzMounts(args) => fuzz::run(&args),
        Command::FuzzWorker(args) => fuzz::run_worker(&args),
        Command::FuzzCompare(args) => outcome::run(&args),
        Command::Readcheck(args) => readcheck::run(&args),
        Command::Faultcheck(args) => faultcheck::run(&args),
        Command::Touch(args) => faultcheck::touch(&args),
        Command::Kills(args) => kills::run(&args),
        Command::Dircheck(args) => dircheck::run(&args),
        Command::Extents(args) => extents::run(&args),
        Command::Rights(args) => rights::run(&args),
        Command::Enter(args) => enter::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ferofs-testkit: {error:#}");
            ExitCode::from(2)
        }
    }
}
