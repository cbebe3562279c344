// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Runs programs in scratch directories, `ferofs` above all.

use super::Scratch;
use std::ffi::OsStr;
use std::process::Command;

/// Runs a program in a directory; returns its exit code, and what it wrote to stdout and stderr.
pub fn run(
    program: impl AsRef<OsStr>,
    directory: &Scratch,
    arguments: &[&str],
) -> (i32, String, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(&directory.0)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

/// The same with the `ferofs` command.
pub fn ferofs(directory: &Scratch, arguments: &[&str]) -> (i32, String, String) {
    run(env!("CARGO_BIN_EXE_ferofs"), directory, arguments)
}
