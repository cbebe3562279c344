// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `mount`: mounts by the file-descriptor interface, so that tests reach what mount(8) does not offer
//! everywhere: files without a loop device, sources and devices by descriptor, and the messages that a
//! file system leaves in its context's log.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;

use crate::errno;

/// Mounts; prints the error's name and the context's log and exits with 1 if the kernel refuses.
#[derive(clap::Args)]
pub struct Args {
    /// The file system's type.
    #[arg(long, short, default_value = "ferofs")]
    r#type: String,
    /// An option: KEY or KEY=VALUE, given as a flag or a string.
    #[arg(long, short)]
    option: Vec<String>,
    /// An option whose value is passed as an open file: KEY=PATH. `source=PATH` replaces SOURCE.
    #[arg(long)]
    fd: Vec<String>,
    /// Use mount(2) instead, with the options as one string.
    #[arg(long, conflicts_with = "fd")]
    classic: bool,
    /// What to mount, and where; with `--fd source=PATH` only where.
    #[arg(required = true, num_args = 1..=2)]
    places: Vec<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let (source, target) = match &args.places[..] {
        [source, target] => (Some(source.as_path()), target),
        [target] => (None, target),
        _ => anyhow::bail!("expected a source and a directory"),
    };
    if args.classic {
        let source = source.context("mount(2) needs a source")?;
        let options = args.option.join(",");
        return Ok(report(classic(&args.r#type, source, target, &options)));
    }
    let context = rustix::mount::fsopen(args.r#type.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|error| anyhow::anyhow!("fsopen {}: {}", args.r#type, errno::name(error)))?;
    let result = configure(&context, source, args).and_then(|()| attach(&context, target));
    for message in log(&context) {
        eprintln!("context: {message}");
    }
    Ok(report(result))
}

fn report(result: rustix::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mount: {}", errno::name(error));
            ExitCode::FAILURE
        }
    }
}

/// mount(2), read-only and without devices.
pub fn classic(
    fs_type: &str,
    source: &Path,
    target: &Path,
    options: &str,
) -> rustix::io::Result<()> {
    let flags = rustix::mount::MountFlags::RDONLY
        | rustix::mount::MountFlags::NODEV
        | rustix::mount::MountFlags::NOSUID;
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(source, target, fs_type, flags, Some(options.as_c_str()))
}

/// The `device=` options for a test image: the blobs of `x.erofs` are `x.blob`, `x.2.blob` and so on.
pub fn device_options(image: &Path) -> String {
    devices(image)
        .iter()
        .map(|blob| format!("device={}", blob.display()))
        .collect::<Vec<_>>()
        .join(",")
}

/// The blobs that lie beside an image: those of `x.erofs` are `x.blob`, `x.2.blob` and so on.
pub fn devices(image: &Path) -> Vec<PathBuf> {
    let later = (2..).map(|number| image.with_extension(format!("{number}.blob")));
    std::iter::once(image.with_extension("blob"))
        .chain(later)
        .take_while(|blob| blob.exists())
        .collect()
}

fn configure(context: &OwnedFd, source: Option<&Path>, args: &Args) -> rustix::io::Result<()> {
    if let Some(source) = source {
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", source)?;
    }
    for option in &args.fd {
        let (key, path) = option.split_once('=').ok_or(Errno::INVAL)?;
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::mount::fsconfig_set_fd(context.as_fd(), key, file.as_fd())?;
    }
    for option in &args.option {
        match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?,
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), option.as_str())?,
        }
    }
    rustix::mount::fsconfig_set_flag(context.as_fd(), "ro")?;
    rustix::mount::fsconfig_create(context.as_fd())
}

fn attach(context: &OwnedFd, target: &Path) -> rustix::io::Result<()> {
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    rustix::mount::move_mount(
        mount.as_fd(),
        "",
        rustix::fs::CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// The messages in a context's log, such as `e erofs: cannot find valid erofs superblock`.
fn log(context: &OwnedFd) -> Vec<String> {
    let mut messages = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length) = rustix::io::read(context, &mut buffer[..]) {
        if length == 0 {
            break;
        }
        messages.push(
            OsString::from(OsStr::from_bytes(&buffer[..length]))
                .to_string_lossy()
                .into_owned(),
        );
    }
    messages
}
