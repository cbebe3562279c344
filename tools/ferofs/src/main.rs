// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The `ferofs` command: arguments, messages and exit codes. What it does is in the library.

mod commands;

use clap::Parser;
use clap::Subcommand;
use ferofs::error::Error;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
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
    Build(Box<commands::build::Arguments>),
    Dump(commands::dump::Arguments),
    Check(commands::check::Arguments),
    Ls(commands::ls::Arguments),
    Cat(commands::cat::Arguments),
    Diff(commands::diff::Arguments),
    Merge(commands::merge::Arguments),
    Commit(commands::commit::Arguments),
    Export(commands::export::Arguments),
    #[cfg(feature = "registry")]
    PushIndex(commands::registry::PushArguments),
    #[cfg(feature = "registry")]
    PullIndex(commands::registry::PullArguments),
    Mountd(commands::mountd::Arguments),
    #[cfg(feature = "serve")]
    Serve(commands::serve::Arguments),
    Mount(commands::mount::Arguments),
    Umount(commands::mount::UnmountArguments),
    Store(commands::store::Arguments),
    Man(commands::pages::ManArguments),
    Completions(commands::pages::CompletionArguments),
}

fn main() -> ExitCode {
    if called_as("mkfs.") {
        return match parse::<commands::mkfs::Arguments>() {
            Ok(arguments) => commands::run(commands::mkfs::run(arguments)),
            Err(code) => code,
        };
    }
    if called_as("mount.") {
        return match parse::<commands::mount::Helper>() {
            Ok(helper) => commands::mount::run_helper(&helper),
            Err(code) if code == ExitCode::SUCCESS => code,
            // What mount(8) calls an incorrect invocation.
            Err(_) => ExitCode::FAILURE,
        };
    }
    if called_as("umount.") {
        return match parse::<commands::umount::Helper>() {
            Ok(helper) => commands::umount::run(&helper),
            Err(code) if code == ExitCode::SUCCESS => code,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if called_as("dump.") {
        return match parse::<commands::dump::Dump>() {
            Ok(dump) => commands::run(commands::dump::run_dump(&dump)),
            Err(code) => code,
        };
    }
    if called_as("fsck.") {
        return match parse::<commands::check::Fsck>() {
            Ok(fsck) => commands::check::run_fsck(fsck),
            Err(code) if code == ExitCode::SUCCESS => code,
            Err(_) => ExitCode::from(commands::check::USAGE),
        };
    }
    let arguments = match parse::<Arguments>() {
        Ok(arguments) => arguments,
        Err(code) if code != ExitCode::SUCCESS && first_argument_is("check") => {
            return ExitCode::from(commands::check::USAGE);
        }
        Err(code) => return code,
    };
    match &arguments.command {
        Command::Build(arguments) => commands::run(commands::build::run(arguments)),
        Command::Dump(arguments) => commands::run(commands::dump::run(arguments)),
        Command::Check(arguments) => commands::check::run(arguments),
        Command::Ls(arguments) => commands::run(commands::ls::run(arguments)),
        Command::Cat(arguments) => commands::run(commands::cat::run(arguments)),
        Command::Diff(arguments) => commands::diff::run(arguments),
        Command::Merge(arguments) => commands::run(commands::merge::run(arguments)),
        Command::Commit(arguments) => commands::run(commands::commit::run(arguments)),
        Command::Export(arguments) => commands::run(commands::export::run(arguments)),
        #[cfg(feature = "registry")]
        Command::PushIndex(arguments) => commands::run(commands::registry::push(arguments)),
        #[cfg(feature = "registry")]
        Command::PullIndex(arguments) => commands::run(commands::registry::pull(arguments)),
        Command::Mountd(arguments) => commands::run(commands::mountd::run(arguments)),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => commands::run(commands::serve::run(arguments)),
        Command::Mount(arguments) => commands::run(commands::mount::run(arguments)),
        Command::Umount(arguments) => commands::run(commands::mount::run_unmount(arguments)),
        Command::Store(arguments) => commands::run(commands::store::run(arguments)),
        Command::Man(arguments) => commands::run(commands::pages::man(arguments)),
        Command::Completions(arguments) => commands::run(commands::pages::completions(arguments)),
    }
}

/// Whether the program's name, which may be that of a link to it, starts with `prefix`.
fn called_as(prefix: &str) -> bool {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    name.as_bytes().starts_with(prefix.as_bytes())
}

fn first_argument_is(name: &str) -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == name)
}

/// Reads the arguments, or says what is wrong with them, or what was asked for.
fn parse<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        if error.use_stderr() {
            match error.render().to_string().strip_prefix("error: ") {
                Some(said) => commands::complain(said.trim_end()),
                // Help, for who gave no arguments at all.
                None => drop(error.print()),
            }
            return ExitCode::from(2);
        }
        // Help or version, for whoever reads standard output.
        commands::run(
            error
                .print()
                .map_err(Error::io("write to", Path::new("standard output"))),
        )
    })
}
