// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A limit for what is written to a snapshot: an ext4 filesystem of that size in a sparse file, which its upper
//! directory is in. It is made and mounted by the system's own mkfs.ext4(8) and mount(8). Called by
//! [`crate::snapshotter`].

use crate::mountpoint::is_mounted;
use crate::places::make;
use crate::problem::Problem;
use crate::problem::Result;
use ferofs::output::Output;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// The least that a filesystem can be of use with, in bytes.
const LEAST: u64 = 4 << 20;

/// What a text says in bytes: a number, perhaps with k, m, g or t for powers of 1024, and perhaps `b` or `ib` behind it.
///
/// # Errors
///
/// When it says nothing, or too little.
pub fn parse(text: &str) -> Result<u64> {
    let wrong = || {
        Problem::invalid(format!(
            "a snapshot cannot have {text:?} as its size, expected at least 4M, as 500M or 10GiB"
        ))
    };
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(wrong)?;
    match bytes >= LEAST && i64::try_from(bytes).is_ok() {
        true => Ok(bytes),
        false => Err(wrong()),
    }
}

/// Mounts the filesystem in a file at a directory; both are made if they are not there.
///
/// # Errors
///
/// When that cannot be done.
pub fn mount(file: &Path, directory: &Path, bytes: u64) -> Result<()> {
    make(directory, 0o711)?;
    if is_mounted(directory)? {
        return Ok(());
    }
    if !file.exists() {
        let output = Output::create(file, &[])?;
        output
            .file()
            .set_len(bytes)
            .map_err(Problem::io("write", file))?;
        // It is made where it has no name yet, so there is never one that is half made.
        let options = [
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            "nodiscard,lazy_itable_init=1,root_owner=0:0",
        ];
        let inherited = rustix::io::dup(output.file())
            .map_err(|errno| Problem::io("open", file)(errno.into()))?;
        // As its standard input it has a name for the program.
        let mut command = Command::new("mkfs.ext4");
        command
            .args(options)
            .arg("/proc/self/fd/0")
            .stdin(Stdio::from(inherited));
        run(command)?;
        output.finish()?;
    }
    let mut command = Command::new("mount");
    command
        .args(["-t", "ext4", "-o", "loop,noatime"])
        .arg(file)
        .arg(directory)
        .stdin(Stdio::null());
    run(command)
}

fn run(mut command: Command) -> Result<()> {
    let name = command.get_program().to_owned();
    let shown = |name: &OsStr| name.to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| Problem::failed(format!("cannot run {}: {error}", shown(&name))))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().last().unwrap_or("it said nothing");
    Err(Problem::failed(format!("{} failed: {last}", shown(&name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("4194304", Some(4 << 20)),
            ("10G", Some(10 << 30)),
            ("10GiB", Some(10 << 30)),
            ("500 MB", Some(500 << 20)),
            ("1t", Some(1 << 40)),
            ("4194303", None),
            ("0", None),
            ("", None),
            ("G", None),
            ("-1G", None),
            ("1.5G", None),
            ("99999999999999999999", None),
            ("99999999999T", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text:?}");
        }
    }
}
