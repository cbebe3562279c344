// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Runs programs in scratch directories, `ferofs` above all.

use super::Scratch;
use std::ffi::OsStr;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

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

/// What a program makes of a text from its standard input; nothing if it is not here.
pub fn filtered(tool: &[&str], content: &[u8]) -> Option<Vec<u8>> {
    let (program, arguments) = tool.split_first().unwrap();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    // It may write before it has read all.
    let content = content.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&content).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}
