// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the crate composefs does, as a program: images of each of its formats, and its own way to mount them. Called by
//! tests/peers/composefs.sh.
//!
//!     composefs-rs image VERSION <DUMP >IMAGE       of what `composefs-info dump` printed
//!     composefs-rs mount IMAGE OBJECTS DIRECTORY    with fs-verity of the objects

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use composefs::dumpfile::dumpfile_to_validated_filesystem;
use composefs::erofs::format::FormatVersion;
use composefs::erofs::writer::mkfs_erofs_versioned;
use composefs::fsverity::Sha256HashValue;
use composefs::mount::MountOptions;
use composefs::mount::VerityRequirement;
use composefs::mount::composefs_fsmount;
use composefs::mount::mount_at;

fn image(version: &str) -> Result<()> {
    let version = match version {
        "0" => FormatVersion::V0,
        "1" => FormatVersion::V1,
        "2" => FormatVersion::V2,
        _ => bail!("expected a version of 0, 1 or 2, found {version}"),
    };
    let mut dump = String::new();
    std::io::stdin().read_to_string(&mut dump)?;
    let tree = dumpfile_to_validated_filesystem::<Sha256HashValue>(&dump)?;
    let bytes = mkfs_erofs_versioned(&tree, version);
    Ok(std::io::stdout().write_all(&bytes)?)
}

fn mount(image: &str, objects: &str, directory: &str) -> Result<()> {
    let open = |path: &str| File::open(path).with_context(|| path.to_string());
    let objects = open(objects)?;
    let tree = composefs_fsmount(
        open(image)?.into(),
        "test",
        &[objects.as_fd()],
        VerityRequirement::Required,
        &MountOptions::default(),
    )?;
    Ok(mount_at(tree, rustix::fs::CWD, directory)?)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["image", version] => image(version),
        ["mount", file, objects, directory] => mount(file, objects, directory),
        _ => bail!("usage: composefs-rs image VERSION | mount IMAGE OBJECTS DIRECTORY"),
    }
}
