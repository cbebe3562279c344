// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The kernel's side of a mount: fsopen(2), fsconfig(2), fsmount(2), move_mount(2), and the
//! messages that a filesystem leaves in its context.

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::text::Reason;
use crate::text::Shown;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A filesystem that is being set up.
pub struct Context<'a> {
    file: OwnedFd,
    source: &'a Path,
}

/// Where there is no such filesystem: what brings it, given where modules are and the kernel's release.
fn absent(name: &str, modules: &Path, release: &str) -> String {
    let directory = modules.join(release).join("updates");
    let installed = ["", "dkms"].iter().any(|below| {
        let path = directory.join(below).join("ferofs.ko");
        ["", ".xz", ".zst", ".gz"].iter().any(|end| {
            let mut path = path.clone().into_os_string();
            path.push(end);
            Path::new(&path).exists()
        })
    });
    match (name, installed) {
        ("ferofs", true) => {
            "its module is installed, but was not loaded: \"modprobe ferofs\" and the \
             kernel's log say why (with Secure Boot it must be signed with a key that is enrolled)"
                .to_owned()
        }
        ("ferofs", false) => format!(
            "its module for {release} comes with the package ferofs-dkms or \
             ferofs-modules-{release}; kernel-rust-metadata check {release} says whether it can be \
             built for this kernel"
        ),
        _ => format!("is its module installed? (modprobe {name})"),
    }
}

/// What a filesystem had to say.
#[derive(Default)]
struct Messages {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Context<'a> {
    /// Starts with nothing but the type. Messages have the source.
    pub fn open(name: &str, source: &'a Path) -> Result<Self> {
        let shown = Shown(source);
        match rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(file) => Ok(Context { file, source }),
            Err(Errno::NODEV) => {
                let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
                let release = release.unwrap_or_default();
                let help = absent(name, Path::new("/lib/modules"), release.trim());
                Err(Error::of(
                    Kind::Mount,
                    format!(
                        "cannot mount {shown}: this kernel has no filesystem \"{name}\"; {help}"
                    ),
                ))
            }
            Err(Errno::PERM) => Err(Error::of(
                Kind::Mount,
                format!(
                    "cannot mount {shown}: only root can mount, or who is in a user namespace of his own what ferofs-mountd allows"
                ),
            )),
            Err(errno) => {
                let reason = reason(errno);
                Err(Error::of(
                    Kind::Mount,
                    format!("cannot mount {shown}: {reason}"),
                ))
            }
        }
    }

    /// One that was opened elsewhere.
    pub fn of(file: OwnedFd, source: &'a Path) -> Self {
        Context { file, source }
    }

    /// Sets an option without a value.
    pub fn flag(&self, key: &str) -> Result<()> {
        let result = rustix::mount::fsconfig_set_flag(self.file.as_fd(), key);
        result.map_err(|errno| self.failure(errno))
    }

    /// Sets an option to a text.
    pub fn string(&self, key: &str, value: &Path) -> Result<()> {
        let result = rustix::mount::fsconfig_set_string(self.file.as_fd(), key, value);
        result.map_err(|errno| self.failure(errno))
    }

    /// Sets an option to an open file.
    pub fn file(&self, key: &str, value: &impl AsFd) -> Result<()> {
        let result = rustix::mount::fsconfig_set_fd(self.file.as_fd(), key, value.as_fd());
        result.map_err(|errno| self.failure(errno))
    }

    /// Creates the filesystem. Returns a mount of it, which is nowhere yet and is gone when it is
    /// closed, and what the filesystem warned of.
    pub fn create(&self, attributes: MountAttrFlags) -> Result<(OwnedFd, Vec<String>)> {
        rustix::mount::fsconfig_create(self.file.as_fd()).map_err(|errno| self.failure(errno))?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = rustix::mount::fsmount(self.file.as_fd(), flags, attributes)
            .map_err(|errno| self.failure(errno))?;
        Ok((mount, self.messages().warnings))
    }

    /// Takes the filesystem's messages: each is read by one read(2), after a letter for its kind.
    fn messages(&self) -> Messages {
        let mut messages = Messages::default();
        let mut buffer = [0; 1024];
        while let Ok(len) = rustix::io::read(&self.file, &mut buffer) {
            let bytes = buffer.get(..len).unwrap_or_default();
            let text = String::from_utf8_lossy(bytes).trim_end().to_string();
            match text.split_once(' ') {
                Some(("e", error)) => messages.errors.push(error.to_string()),
                Some(("w", warning)) => messages.warnings.push(warning.to_string()),
                _ if len == 0 => break,
                _ => {}
            }
        }
        messages
    }

    fn failure(&self, errno: Errno) -> Error {
        let source = Shown(self.source);
        let errors = self.messages().errors;
        let reason = match errors.is_empty() {
            true => reason(errno),
            false => errors.join("; "),
        };
        Error::of(Kind::Mount, format!("cannot mount {source}: {reason}"))
    }
}

/// A directory to mount at.
pub struct Target<'a> {
    path: &'a Path,
    directory: OwnedFd,
}

impl<'a> Target<'a> {
    /// Looks for it, before anything is made that would have to be undone.
    pub fn open(path: &'a Path, source: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| cannot_mount(source, path, errno))?;
        Ok(Target { path, directory })
    }

    /// Puts a mount there.
    pub fn take(&self, mount: &OwnedFd, source: &Path) -> Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(mount.as_fd(), "", self.directory.as_fd(), "", flags)
            .map_err(|errno| cannot_mount(source, self.path, errno))
    }
}

fn cannot_mount(source: &Path, target: &Path, errno: Errno) -> Error {
    let (source, target) = (Shown(source), Shown(target));
    let reason = reason(errno);
    Error::of(
        Kind::Mount,
        format!("cannot mount {source} at {target}: {reason}"),
    )
}

fn reason(errno: Errno) -> String {
    Reason(&errno.into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_says_what_brings_the_module() {
        let modules = std::env::temp_dir().join(format!("ferofs-absent-{}", std::process::id()));
        let updates = modules.join("7.3.4/updates/dkms");
        std::fs::create_dir_all(&updates).unwrap();
        assert!(absent("ferofs", &modules, "7.3.4").contains("ferofs-modules-7.3.4"));
        std::fs::write(updates.join("ferofs.ko.xz"), b"").unwrap();
        assert!(absent("ferofs", &modules, "7.3.4").contains("was not loaded"));
        assert!(absent("ferofs", &modules, "7.2.1").contains("ferofs-modules-7.2.1"));
        assert!(absent("erofs", &modules, "7.3.4").contains("modprobe erofs"));
        std::fs::remove_dir_all(modules).unwrap();
    }
}
