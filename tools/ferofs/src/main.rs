// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The `ferofs` command: arguments, messages and exit codes. What it does is in the library.

mod commands;

use clap::Parser;
use clap::Subcommand;
use std::process::ExitCode;

/// Build, inspect and check EROFS images over plain tars
///
/// An image is an index: it has the names and attributes of the files in a tar, and says where in
/// the tar their data lies. Mount it with the tar beside it:
///
///     ferofs build -o layer.erofs layer.tar
///     mount -t ferofs layer.erofs /mnt -o device=layer.tar
#[derive(Parser)]
#[command(
    name = "ferofs",
    version,
    verbatim_doc_comment,
    propagate_version = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Build(commands::build::Arguments),
    Dump(commands::dump::Arguments),
    Check(commands::check::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout, which may be closed.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match &arguments.command {
        Command::Build(arguments) => commands::run(commands::build::run(arguments)),
        Command::Dump(arguments) => commands::run(commands::dump::run(arguments)),
        Command::Check(arguments) => commands::check::run(arguments),
    }
}
