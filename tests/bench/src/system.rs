// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The file systems that are compared, and how each is mounted.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use rustix::fd::AsFd;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;

/// One of those compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// ferofs: the index and the tar as files.
    Ferofs,
    /// The kernel's driver in C: the same index, the same tar.
    Erofs,
    /// The same with its option `directio`: it reads past the cache of the blob, and keeps what it read in its own.
    ErofsDirect,
    /// The tree unpacked, on the file system that holds the tar.
    Ext4,
    /// The tree in a squashfs image, on a loop device.
    Squashfs,
    /// The tar, read from its beginning to its end.
    Raw,
}

impl System {
    /// All that have files, the one under test first.
    pub const TREES: &[System] = &[
        System::Ferofs,
        System::Erofs,
        System::ErofsDirect,
        System::Ext4,
        System::Squashfs,
    ];

    /// Those that mount an image.
    pub const INDEXES: &[System] = &[System::Ferofs, System::Erofs, System::ErofsDirect];

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            System::Ferofs => "ferofs",
            System::Erofs => "erofs",
            System::ErofsDirect => "erofs directio",
            System::Ext4 => "ext4",
            System::Squashfs => "squashfs",
            System::Raw => "raw",
        }
    }

    /// Makes the tree `name` of the data on `disk` visible, freshly mounted except on ext4.
    pub fn tree(self, disk: &Path, name: &str) -> Result<Tree> {
        match self {
            System::Ext4 => Ok(Tree {
                path: disk.join(if name == "usr" { "tree" } else { name }),
                mounted: false,
            }),
            System::Squashfs => {
                let path = place(0)?;
                let status = Command::new("mount")
                    .args(["-t", "squashfs", "-o", "loop,ro"])
                    .arg(disk.join(name).with_extension("squashfs"))
                    .arg(&path)
                    .status()?;
                ensure!(status.success(), "mount squashfs: {status}");
                Ok(Tree {
                    path,
                    mounted: true,
                })
            }
            _ => {
                let tar = disk.join(name).with_extension("tar");
                let blobs = if tar.exists() { vec![tar] } else { vec![] };
                self.index(0, &disk.join(name).with_extension("erofs"), &blobs)
            }
        }
    }

    /// Mounts an index at the place with this number.
    pub fn index(self, number: usize, image: &Path, blobs: &[PathBuf]) -> Result<Tree> {
        let path = place(number)?;
        let (kind, flag) = match self {
            System::ErofsDirect => ("erofs", "directio"),
            _ => (self.name(), "ro"),
        };
        mount(kind, flag, image, blobs, &path)
            .with_context(|| format!("mount {} of {}", self.name(), image.display()))?;
        Ok(Tree {
            path,
            mounted: true,
        })
    }
}

/// The directory for one of several mounts.
pub fn place(number: usize) -> Result<PathBuf> {
    let path = PathBuf::from(format!("/run/bench/{number}"));
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// Mounts files as they are: mount(8) would make a loop device of an image for the C driver.
fn mount(
    kind: &str,
    flag: &str,
    image: &Path,
    blobs: &[PathBuf],
    path: &Path,
) -> rustix::io::Result<()> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    rustix::mount::fsconfig_set_string(context, "source", image)?;
    for blob in blobs {
        rustix::mount::fsconfig_set_string(context, "device", blob)?;
    }
    rustix::mount::fsconfig_set_flag(context, flag)?;
    rustix::mount::fsconfig_create(context)?;
    let mount = rustix::mount::fsmount(
        context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?;
    rustix::mount::move_mount(
        mount.as_fd(),
        "",
        rustix::fs::CWD,
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// A tree that can be read; unmounted when dropped.
pub struct Tree {
    path: PathBuf,
    mounted: bool,
}

impl Tree {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        if let Err(error) = rustix::mount::unmount(&self.path, UnmountFlags::empty()) {
            eprintln!("ferofs-bench: unmount {}: {error}", self.path.display());
        }
    }
}

/// Empties the page cache and the caches of names and inodes.
pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("/proc/sys/vm/drop_caches")
}

/// Empties the caches of names and inodes; what they were read from stays cached.
pub fn drop_names() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "2").context("/proc/sys/vm/drop_caches")
}
