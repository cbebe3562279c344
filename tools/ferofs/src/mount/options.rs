// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Mount options as fstab(5) and mount(8) write them.

use crate::error::Error;
use crate::error::Result;
use crate::oci::Platform;
use rustix::mount::MountAttrFlags;
use std::path::PathBuf;

/// What the options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// `device=`: files for device slots.
    pub devices: Vec<PathBuf>,
    /// `blobs=`: directories to find blobs in.
    pub directories: Vec<PathBuf>,
    /// `upper=`: where what is written goes.
    pub upper: Option<PathBuf>,
    /// `work=`: what overlayfs needs beside that.
    pub work: Option<PathBuf>,
    /// `cache=`: where the indexes of container images are kept.
    pub cache: Option<PathBuf>,
    /// `platform=`: which of a container image's platforms.
    pub platform: Option<Platform>,
    /// How large the plain tar of a layer may be that has to be unpacked.
    pub most: Option<u64>,
    /// What is about images in registries.
    pub on_demand: OnDemand,
    /// `stack`: whether the layers of a container image are mounted one by one.
    pub stack: bool,
    /// What the driver is told, in this order.
    pub filesystem: Vec<(String, Option<String>)>,
    /// Whether what the driver does not take is left out.
    pub sloppy: bool,
    /// Whether what could be written to is not to be.
    read_only: bool,
    /// Bits of [`MountAttrFlags`].
    attributes: u32,
}

/// Options of images in registries, whose layers come when they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnDemand {
    /// `store=`: where what is there of them is kept.
    pub store: Option<PathBuf>,
    /// `mirror=`: who is asked before the registry.
    pub mirrors: Vec<String>,
    /// `ca-file=`: further authorities.
    pub authorities: Vec<PathBuf>,
    /// `plain-http`: whether registries are asked without encryption.
    pub plain_http: bool,
    /// `complete`: whether all of them is got.
    pub complete: bool,
    /// `deadline=`: after how many seconds for which nothing came a reader gets an error.
    pub deadline: Option<u64>,
}

impl OnDemand {
    /// One that is given, if any is.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.store.is_some(), "store"),
            (!self.mirrors.is_empty(), "mirror"),
            (!self.authorities.is_empty(), "ca-file"),
            (self.plain_http, "plain-http"),
            (self.complete, "complete"),
            (self.deadline.is_some(), "deadline"),
        ];
        let (_, name) = given.into_iter().find(|(given, _)| *given)?;
        Some(name)
    }
}

/// Options of a mount as opposed to a filesystem: which bits they change, and which of them they set.
const ATTRIBUTES: [(&str, MountAttrFlags, MountAttrFlags); 16] = {
    use MountAttrFlags as A;
    const NONE: A = A::empty();
    [
        ("nosuid", A::MOUNT_ATTR_NOSUID, A::MOUNT_ATTR_NOSUID),
        ("suid", A::MOUNT_ATTR_NOSUID, NONE),
        ("nodev", A::MOUNT_ATTR_NODEV, A::MOUNT_ATTR_NODEV),
        ("dev", A::MOUNT_ATTR_NODEV, NONE),
        ("noexec", A::MOUNT_ATTR_NOEXEC, A::MOUNT_ATTR_NOEXEC),
        ("exec", A::MOUNT_ATTR_NOEXEC, NONE),
        ("noatime", A::MOUNT_ATTR__ATIME, A::MOUNT_ATTR_NOATIME),
        ("atime", A::MOUNT_ATTR__ATIME, NONE),
        ("relatime", A::MOUNT_ATTR__ATIME, NONE),
        ("norelatime", NONE, NONE),
        (
            "strictatime",
            A::MOUNT_ATTR__ATIME,
            A::MOUNT_ATTR_STRICTATIME,
        ),
        ("nostrictatime", A::MOUNT_ATTR__ATIME, NONE),
        (
            "nodiratime",
            A::MOUNT_ATTR_NODIRATIME,
            A::MOUNT_ATTR_NODIRATIME,
        ),
        ("diratime", A::MOUNT_ATTR_NODIRATIME, NONE),
        (
            "nosymfollow",
            A::MOUNT_ATTR_NOSYMFOLLOW,
            A::MOUNT_ATTR_NOSYMFOLLOW,
        ),
        ("symfollow", A::MOUNT_ATTR_NOSYMFOLLOW, NONE),
    ]
};

/// By which the driver knows files by their fs-verity digests.
const VERITY: &str = "verity";
/// What is asked for instead of a digest: that the image has a signature that the kernel has checked.
const SIGNED: &str = "signed";

/// By which the driver gives errors for what files do not have.
const HOLES: &str = "holes";

/// Options of the driver that are never left out: who asks for proof, or for errors, is not to go without.
pub(super) const NEVER_LEFT_OUT: [&str; 2] = [VERITY, HOLES];

/// Options with a path.
const PATHS: [&str; 7] = [
    "device", "blobs", "upper", "work", "cache", "store", "ca-file",
];

/// Options for mount(8) and init systems, and those that change nothing for a filesystem that is
/// always read-only.
const IGNORED: [&str; 17] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "nofail",
    "_netdev",
    "silent",
    "loud",
    "iversion",
    "noiversion",
];

/// What mount(8) does without its helpers.
const NOT_MOUNTING: [&str; 10] = [
    "remount", "bind", "rbind", "move", "private", "rprivate", "shared", "rshared", "slave",
    "rslave",
];

impl Options {
    /// Whether equal files of different images are to share their bytes: by `inode_share`.
    pub fn shares(&self) -> bool {
        self.filesystem.iter().any(|(key, _)| key == "inode_share")
    }

    /// Takes a list of options, separated by commas; later ones win.
    ///
    /// # Errors
    ///
    /// When a quote is open at its end, or an option wants something other than a mount.
    pub fn parse(&mut self, list: &str) -> Result<()> {
        for option in split(list)? {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value.to_string())),
                None => (option.as_str(), None),
            };
            self.take(key, value)?;
        }
        Ok(())
    }

    fn take(&mut self, key: &str, value: Option<String>) -> Result<()> {
        let refuse = |problem: &str| Err(Error::Request(format!("option {key}: {problem}")));
        let for_mount = key.starts_with("x-") || key.starts_with("X-") || key == "comment";
        match value {
            value if PATHS.contains(&key) => {
                let Some(value) = value.filter(|value| !value.is_empty()) else {
                    return refuse("a path is missing");
                };
                match key {
                    "device" => self.devices.push(value.into()),
                    "upper" => self.upper = Some(value.into()),
                    "work" => self.work = Some(value.into()),
                    "cache" => self.cache = Some(value.into()),
                    "store" => self.on_demand.store = Some(value.into()),
                    "ca-file" => self.on_demand.authorities.push(value.into()),
                    _ => self.directories.push(value.into()),
                }
            }
            value if key == "platform" => match value.as_deref().and_then(Platform::parse) {
                Some(platform) => self.platform = Some(platform),
                None => return refuse("expected one like linux/arm64 or linux/arm/v7"),
            },
            value if key == "mirror" => match value.filter(|value| !value.is_empty()) {
                Some(value) => self.on_demand.mirrors.push(value),
                None => return refuse("a registry is missing"),
            },
            value if key == "deadline" => match value.and_then(|value| value.parse().ok()) {
                Some(seconds) => self.on_demand.deadline = Some(seconds),
                None => return refuse("expected a number of seconds"),
            },
            None if key == "plain-http" => self.on_demand.plain_http = true,
            None if key == "complete" => self.on_demand.complete = true,
            None if key == "stack" => self.stack = true,
            None if matches!(key, "ro" | "rw") => self.read_only = key == "ro",
            _ if for_mount || IGNORED.contains(&key) => {}
            None if NOT_MOUNTING.contains(&key) => {
                return refuse("this only mounts; mount(8) does that without help: mount -i");
            }
            None => match ATTRIBUTES.iter().find(|(name, ..)| *name == key) {
                Some((_, changed, set)) => {
                    self.attributes = (self.attributes & !changed.bits()) | set.bits();
                }
                None => self.filesystem.push((key.to_string(), None)),
            },
            value => self.filesystem.push((key.to_string(), value)),
        }
        Ok(())
    }

    /// Whether the driver is to know files by their fs-verity digests.
    pub(super) fn has_verity(&self) -> bool {
        self.filesystem.iter().any(|(key, _)| key == VERITY)
    }

    /// Whether the image is to have a signature.
    pub(super) fn wants_signature(&self) -> bool {
        let is_it = |(key, value): &(String, Option<String>)| {
            key == VERITY && value.as_deref() == Some(SIGNED)
        };
        self.filesystem.iter().any(is_it)
    }

    /// The same for an image with this fs-verity digest.
    pub(super) fn with_verity(&self, digest: &str) -> Self {
        let mut options = self.clone();
        options.filesystem.retain(|(key, _)| key != VERITY);
        let known = (VERITY.to_string(), Some(digest.to_string()));
        options.filesystem.push(known);
        options
    }

    /// Has the driver take what files do not have for an error, whatever was said of that.
    pub fn err_on_holes(&mut self) {
        self.filesystem.retain(|(key, _)| key != HOLES);
        self.filesystem
            .push((HOLES.to_string(), Some("error".to_string())));
    }

    /// Whether the driver is to take what files do not have for an error.
    pub(super) fn errs_on_holes(&self) -> bool {
        let mut options = self.filesystem.iter().rev();
        let last = options.find(|(key, _)| key == HOLES);
        last.is_some_and(|(_, value)| value.as_deref() == Some("error"))
    }

    /// The attributes of the mount. It is read-only, unless what is written has a place to go.
    pub(super) fn attributes(&self) -> MountAttrFlags {
        let attributes = MountAttrFlags::from_bits_retain(self.attributes);
        match self.upper {
            Some(_) if !self.read_only => attributes,
            _ => attributes | MountAttrFlags::MOUNT_ATTR_RDONLY,
        }
    }
}

/// Splits at commas, but not in double quotes, which are taken away: `device="a,b.tar"`.
fn split(list: &str) -> Result<Vec<String>> {
    let mut options = vec![String::new()];
    let mut quoted = false;
    for c in list.chars() {
        match (c, options.last_mut()) {
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => options.push(String::new()),
            (c, Some(option)) => option.push(c),
            (_, None) => {}
        }
    }
    if quoted {
        return Err(Error::Request(format!(
            "options {list}: a quotation mark has no second one"
        )));
    }
    options.retain(|option| !option.is_empty());
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Options {
        let mut options = Options::default();
        options.parse(list).unwrap();
        options
    }

    #[test]
    fn options_of_fstab_are_sorted_out() {
        let options = parsed(
            "defaults,rw,nofail,x-systemd.automount,device=a.tar,nouser_xattr,device=\"b,c.tar\",\
             blobs=/blobs,nosuid,,key=value",
        );
        assert_eq!(options.devices, ["a.tar", "b,c.tar"].map(PathBuf::from));
        assert_eq!(options.directories, [PathBuf::from("/blobs")]);
        let expected = [
            ("nouser_xattr".to_string(), None),
            ("key".to_string(), Some("value".to_string())),
        ];
        assert_eq!(options.filesystem, expected);
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_RDONLY;
        assert_eq!(options.attributes(), attributes);
    }

    #[test]
    fn options_for_container_images_are_sorted_out() {
        let options = parsed("stack,upper=/u,work=/w,cache=/c,platform=linux/arm/v7");
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            (
                options.upper.clone(),
                options.work.clone(),
                options.cache.clone()
            ),
            (path("/u"), path("/w"), path("/c"))
        );
        assert_eq!(options.platform, Platform::parse("linux/arm/v7"));
        assert!(options.stack && options.filesystem.is_empty());
        assert_eq!(options.attributes(), MountAttrFlags::empty());
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        assert_eq!(parsed("upper=/u,rw,ro").attributes(), read_only);
        assert_eq!(parsed("rw").attributes(), read_only);
    }

    #[test]
    fn options_for_images_in_registries_are_sorted_out() {
        let options = parsed(
            "store=/s,mirror=a.example,mirror=b.example:5000,ca-file=/ca,plain-http,complete,deadline=7",
        );
        let expected = OnDemand {
            store: Some("/s".into()),
            mirrors: vec!["a.example".to_string(), "b.example:5000".to_string()],
            authorities: vec!["/ca".into()],
            plain_http: true,
            complete: true,
            deadline: Some(7),
        };
        assert_eq!(options.on_demand, expected);
        assert!(options.filesystem.is_empty());
        for list in [
            "store=/s",
            "mirror=m",
            "ca-file=c",
            "plain-http",
            "complete",
            "deadline=1",
        ] {
            let name = list.split('=').next();
            assert_eq!(parsed(list).on_demand.given(), name);
        }
        assert_eq!(parsed("ro").on_demand.given(), None);
    }

    #[test]
    fn the_last_one_wins() {
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        assert_eq!(parsed("nodev,noexec,dev,exec").attributes(), read_only);
        let attributes = parsed("noatime,strictatime").attributes();
        assert_eq!(
            attributes,
            read_only | MountAttrFlags::MOUNT_ATTR_STRICTATIME
        );
        assert_eq!(parsed("strictatime,relatime").attributes(), read_only);
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        for (list, reason) in [
            ("remount,ro", "mount -i"),
            ("bind", "mount -i"),
            ("device=", "a path is missing"),
            ("blobs", "a path is missing"),
            ("upper=", "a path is missing"),
            ("platform=amd64/", "linux/arm64"),
            ("store", "a path is missing"),
            ("mirror=", "a registry is missing"),
            ("deadline=soon", "a number of seconds"),
            ("device=\"a,b", "no second one"),
        ] {
            let error = Options::default().parse(list).unwrap_err().to_string();
            assert!(error.contains(reason), "{list}: {error}");
        }
    }
}
