// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What fsverity(1) of the system does and says: fs-verity of files, and signatures that the kernel checks when it opens them.
//!
//! A signature says of a file's fs-verity digest that somebody with a key vouches for it. It is made with the file (`ferofs build
//! --sign`), and put where the kernel finds it when fs-verity is enabled: from then on the kernel opens the file only if the
//! signature is by a key of its keyring `.fs-verity`. Used by the commands that make images, by [`crate::mount`] and
//! [`crate::mountd`], and by containerd-ferofs-grpc.

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::text::Shown;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// Which the kernel has if it checks signatures.
const CHECKS: &str = "/proc/sys/fs/verity/require_signatures";

/// Where an open file can be opened once more by a command.
fn opened(file: &File) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}

/// Runs a subcommand of it. What it is about is `path` in messages.
fn run<I: AsRef<OsStr>>(what: &str, path: &Path, arguments: &[I]) -> Result<Output> {
    let mut command = Command::new("fsverity");
    let command = command.arg(what).args(arguments).stdin(Stdio::null());
    command.output().map_err(|error| {
        let path = Shown(path);
        let problem = format!(
            "{path}: cannot run fsverity {what}: {error}; is the package fsverity installed?"
        );
        Error::of(Kind::Unsupported, problem)
    })
}

/// What it wrote, or what it said is wrong.
fn succeeded(what: &str, path: &Path, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().last().unwrap_or("it said nothing");
    let problem = format!("{}: fsverity {what}: {last}", Shown(path));
    Err(Error::of(Kind::Refused, problem))
}

/// The fs-verity digest of a file as the kernel has it, `sha256:HEX` for example. `path` is what the file is called.
///
/// # Errors
///
/// When the file has no fs-verity, or there is no fsverity(1).
pub fn measure(file: &File, path: &Path) -> Result<String> {
    let output = run("measure", path, &[opened(file)])?;
    let said = succeeded("measure", path, output)?;
    let said = String::from_utf8_lossy(&said);
    match said.split_whitespace().next() {
        Some(digest) if digest.contains(':') => Ok(digest.to_owned()),
        _ => {
            let path = Shown(path);
            let problem = format!("{path}: fsverity measure: expected a digest, found {said:?}");
            Err(Error::of(Kind::Refused, problem))
        }
    }
}

/// Whether an open file has a signature, which the kernel has checked then. `path` is what the file is called.
///
/// # Errors
///
/// When the kernel checks none, or there is no fsverity(1).
pub fn is_signed(file: &File, path: &Path) -> Result<bool> {
    if !Path::new(CHECKS).exists() {
        let path = Shown(path);
        let problem =
            format!("{path}: this kernel checks no signatures of fs-verity (no {CHECKS})");
        return Err(Error::of(Kind::Unsupported, problem));
    }
    if !has_verity(file) {
        return Ok(false);
    }
    let file = opened(file);
    let output = run(
        "dump_metadata",
        path,
        &["signature".as_ref(), file.as_os_str()],
    )?;
    Ok(output.status.success() && !output.stdout.is_empty())
}

/// Whether a file has fs-verity, as its filesystem knows without asking anybody. It has no other doors than a regular file, so opening
/// it once more waits for nothing, whoever it is from.
fn has_verity(file: &File) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(file, "", flags, StatxFlags::TYPE);
    found.is_ok_and(|found| {
        let is_file = FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile;
        is_file && found.stx_attributes.contains(StatxAttributes::VERITY)
    })
}

/// Signs the fs-verity digest that a file will have, by sha256 and for blocks of 4096 bytes: writes what `fsverity enable --signature`
/// takes. Key and certificate are files in the form PEM; `path` is what the file is called.
///
/// # Errors
///
/// When these are not right, or there is no fsverity(1).
pub fn sign(
    file: &File,
    path: &Path,
    key: &Path,
    certificate: &Path,
    signature: &File,
) -> Result<()> {
    let option = |name: &str, value: &Path| {
        let mut option = std::ffi::OsString::from(name);
        option.push(value);
        option
    };
    let arguments = [
        opened(file).into_os_string(),
        opened(signature).into_os_string(),
        option("--key=", key),
        option("--cert=", certificate),
    ];
    succeeded("sign", path, run("sign", path, &arguments)?).map(drop)
}

/// Enables fs-verity on a file, without a signature.
///
/// # Errors
///
/// When the filesystem cannot do that, or there is no fsverity(1).
pub fn enable(path: &Path) -> Result<()> {
    succeeded("enable", path, run("enable", path, &[path])?).map(drop)
}
