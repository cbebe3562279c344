// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The subcommands, and what they share: messages and output.

pub mod build;
pub mod cat;
pub mod check;
pub mod commit;
pub mod diff;
pub mod dump;
pub mod export;
pub mod json;
mod layers;
pub mod ls;
pub mod merge;
pub mod mkfs;
pub mod mount;
pub mod mountd;
#[cfg(feature = "serve")]
mod on_demand;
pub mod pages;
mod progress;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "serve")]
pub mod serve;
mod settings;
mod sign;
pub mod store;
pub mod umount;

use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::text::Escaped;
use ferofs::text::Printable;
use std::io;
use std::io::BufWriter;
use std::io::ErrorKind;
use std::io::Write;
use std::num::IntErrorKind;
use std::num::ParseIntError;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

/// Turns a command's result into a message and an exit code.
pub fn run(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            // Whoever read the output has seen enough.
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What an argument comes to, or what was expected instead.
type Parsed<T> = std::result::Result<T, String>;

/// Takes a number; says so in words of people if it is none.
fn parse_number<T: FromStr<Err = ParseIntError>>(text: &str) -> Parsed<T> {
    text.parse().map_err(|error: ParseIntError| {
        let problem = match error.kind() {
            IntErrorKind::PosOverflow => "it is too large",
            IntErrorKind::NegOverflow => "it is too small",
            _ => "expected a whole number",
        };
        problem.to_string()
    })
}

/// Fails if one of these options was given, and says why there is none such.
fn refuse<'a>(options: impl IntoIterator<Item = (bool, &'a str, &'a str)>) -> Result<()> {
    match options.into_iter().find(|(given, ..)| *given) {
        Some((_, option, why)) => Err(Error::Request(format!("{option} is not supported: {why}"))),
        None => Ok(()),
    }
}

/// The time that builders of packages set for whatever they run.
fn source_date_epoch() -> Result<Option<i64>> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    let seconds = value.to_str().and_then(|value| value.parse().ok());
    let problem = || {
        let value = Escaped(value.as_bytes());
        Error::Request(format!(
            "SOURCE_DATE_EPOCH in the environment is \"{value}\", expected seconds since 1970"
        ))
    };
    seconds.map(Some).ok_or_else(problem)
}

/// Writes a message to stderr, which may be closed. What it repeats of arguments or of the kernel's messages
/// may have characters in it that disturb a terminal: those are escaped.
pub fn complain(message: &str) {
    let lines = message.split('\n').map(|line| Printable(line).to_string());
    let lines: Vec<String> = lines.collect();
    drop(writeln!(io::stderr(), "ferofs: {}", lines.join("\n")));
}

/// Lets `write` write to stdout.
///
/// # Errors
///
/// When stdout cannot be written to; that of a pipe that was closed is not worth a message.
pub fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(&mut out)
        .and_then(|()| out.flush())
        .map_err(Error::io("write to", Path::new("standard output")))
}
