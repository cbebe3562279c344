// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The configuration: what it says by default is [`DEFAULT`], a text for people that is also what is parsed.

use crate::limit;
use crate::problem::Problem;
use crate::problem::Result;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;

/// Where the configuration is looked for.
pub const PATH: &str = "/etc/containerd-ferofs-grpc/config.toml";

/// How long the name of a domain can be: what fits in an option of a mount.
const DOMAIN_MAX: usize = 200;

/// The configuration that holds if nothing else is said, as `--print-config` prints it.
pub const DEFAULT: &str = r#"# Configuration of containerd-ferofs-grpc. What is not named is as here.

# Where layers and snapshots are kept. Upper directories are here, too, so it must not be on an overlay.
root = "/var/lib/containerd-ferofs-grpc"
# The socket that containerd has in its [proxy_plugins]. systemd's is taken if there is one.
address = "/run/containerd-ferofs-grpc/containerd-ferofs-grpc.sock"

[log]
# trace, debug, info, warn or error
level = "info"
# text or json
format = "text"

[containerd]
# Its socket: layers that are made are written there.
address = "/run/containerd/containerd.sock"
# The directory of its store of contents, with blobs/sha256 in it: layers are read there.
content = "/var/lib/containerd/io.containerd.content.v1.content"

[layers]
# How large the plain tar of a layer may be, in bytes; 0 for no limit.
max_size = 0
# Whether a layer that is a plain tar gets a second name, where the filesystem cannot clone files. Both are one file
# then. Without it, or on another filesystem, it is copied.
links = true
# Whether an index is checked, as `ferofs check` does, before a layer is used.
check = false
# Whether tars and images of layers are made unchangeable, and are immutable files then. Not together with links.
immutable = false
# Whether tars, images of layers and their merged images get fs-verity, and the kernel mounts nothing without. The
# filesystem has to have it (ext4 with the feature verity, f2fs, btrfs), and fsverity(1) has to be there.
verity = false

[snapshots]
# Whether the layers below one that is being unpacked are mounted only if some other differ than this one asks for them.
# Say false if the differ of this daemon is not the first one that containerd asks.
lazy = true
# What is added to the options of overlay mounts.
overlay_options = ["index=off"]
# How much can be written to a snapshot, like "10G"; as much as there is room for if empty. The label
# containerd.io/snapshot/max-size of a snapshot goes first. It takes an ext4 filesystem in a file, and mkfs.ext4(8).
default_size = ""
# In which domain equal files of different layers and images share their page cache; in none if empty. Layers that are
# unpacked from then on get fingerprints, the sha256 of each file.
share_domain = ""
# Whether the kernel hashes a file that is to be shared before anyone else gets its bytes. Without it whoever makes native
# images (.erofs) is trusted with the files of all others.
share_verify = true

[on_demand]
# Whether an image is used before its layers are pulled, and they come as they are read: if it has indexes and access points of
# all layers beside it in its registry, as `ferofs push-index --make` stores them. Whoever may push to the repository is trusted
# with what these say is in the layers, until all of a layer is there. containerd has to say for which image a snapshot is
# (disable_snapshot_annotations = false for its CRI plugin).
enabled = false
# Whether what nobody reads comes in the background.
complete = true
# After so many seconds for which nothing came, readers get errors.
deadline = 30
# Directories that may have indexes and access points, as `ferofs build --no-tar` makes them, instead of the registry.
directories = []
# Registries that are asked without TLS; this machine always is.
plain_http = []
# Files with further authorities that registries are known by.
ca_files = []
[on_demand.mirrors]
# "registry.example" = ["mirror.example:5000"]

[metrics]
# Where metrics are to be had as text for Prometheus, like "127.0.0.1:9410"; nowhere if empty.
address = ""
"#;

/// All of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where layers and snapshots are.
    pub root: PathBuf,
    /// The socket.
    pub address: PathBuf,
    /// What is logged.
    pub log: Log,
    /// Where containerd is.
    pub containerd: Containerd,
    /// What is done with layers.
    pub layers: Layers,
    /// What is done with snapshots.
    pub snapshots: Snapshots,
    /// Layers that come as they are read.
    pub on_demand: OnDemand,
    /// Where metrics are.
    pub metrics: Metrics,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How much.
    pub level: Level,
    /// How.
    pub format: Format,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What was done.
    #[default]
    Info,
    /// What is strange.
    Warn,
    /// What failed.
    Error,
}

/// How it is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A line of JSON.
    Json,
}

/// Where containerd is.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Containerd {
    /// Its socket.
    pub address: PathBuf,
    /// Its contents.
    pub content: PathBuf,
}

/// What is done with layers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layers {
    /// How large a plain tar may be; 0 for any size.
    pub max_size: u64,
    /// Whether plain tars get second names.
    pub links: bool,
    /// Whether indexes are checked.
    pub check: bool,
    /// Whether files are made immutable.
    pub immutable: bool,
    /// Whether files get fs-verity.
    pub verity: bool,
}

/// What is done with snapshots.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshots {
    /// Whether what is below a layer that is unpacked is mounted late.
    pub lazy: bool,
    /// Options of overlay mounts.
    pub overlay_options: Vec<String>,
    /// How much can be written to a snapshot, unless it says that itself.
    pub default_size: String,
    /// In which domain equal files share their page cache; in none if empty.
    pub share_domain: String,
    /// Whether the kernel hashes what is shared.
    pub share_verify: bool,
}

impl Containerd {
    /// The directory of its blobs, each called after its sha256.
    pub fn blobs(&self) -> PathBuf {
        self.content.join("blobs/sha256")
    }
}

impl Snapshots {
    /// The options of a mount by which equal files share their page cache.
    pub fn sharing(&self) -> Vec<(String, Option<String>)> {
        if self.share_domain.is_empty() {
            return Vec::new();
        }
        let how = self.share_verify.then(|| "verify".to_owned());
        vec![
            ("domain_id".to_owned(), Some(self.share_domain.clone())),
            ("inode_share".to_owned(), how),
        ]
    }
}

/// Layers that come as they are read.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnDemand {
    /// Whether there are any.
    pub enabled: bool,
    /// Whether the rest comes in the background.
    pub complete: bool,
    /// How long readers wait for nothing, in seconds.
    pub deadline: u64,
    /// Directories that may have indexes and access points.
    pub directories: Vec<PathBuf>,
    /// Registries without TLS.
    pub plain_http: Vec<String>,
    /// Certificates of further authorities.
    pub ca_files: Vec<PathBuf>,
    /// Who is asked first, by registry.
    pub mirrors: BTreeMap<String, Vec<String>>,
}

impl Default for OnDemand {
    fn default() -> Self {
        OnDemand {
            enabled: false,
            complete: true,
            deadline: 30,
            directories: Vec::new(),
            plain_http: Vec::new(),
            ca_files: Vec::new(),
            mirrors: BTreeMap::new(),
        }
    }
}

/// Where metrics are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// An address and a port, or nothing.
    pub address: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            root: "/var/lib/containerd-ferofs-grpc".into(),
            address: "/run/containerd-ferofs-grpc/containerd-ferofs-grpc.sock".into(),
            log: Log::default(),
            containerd: Containerd::default(),
            layers: Layers::default(),
            snapshots: Snapshots::default(),
            on_demand: OnDemand::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            level: Level::Info,
            format: Format::Text,
        }
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Containerd {
            address: "/run/containerd/containerd.sock".into(),
            content: "/var/lib/containerd/io.containerd.content.v1.content".into(),
        }
    }
}

impl Default for Layers {
    fn default() -> Self {
        Layers {
            max_size: 0,
            links: true,
            check: false,
            immutable: false,
            verity: false,
        }
    }
}

impl Default for Snapshots {
    fn default() -> Self {
        Snapshots {
            lazy: true,
            overlay_options: vec!["index=off".into()],
            default_size: String::new(),
            share_domain: String::new(),
            share_verify: true,
        }
    }
}

impl Config {
    /// Reads a configuration; the one at [`PATH`] need not be there.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or says something that is not known: in which line.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let (path, must_be) = match path {
            Some(path) => (path, true),
            None => (Path::new(PATH), false),
        };
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == ErrorKind::NotFound && !must_be => Ok(Self::default()),
            Err(error) => Err(Problem::io("read", path)(error)),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let wrong = |problem: String| Problem::invalid(format!("{}: {problem}", path.display()));
        let config: Config = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).unwrap_or("").matches('\n').count() + 1;
            wrong(format!("line {line}: {}", error.message()))
        })?;
        config.check(&path.display().to_string())?;
        Ok(config)
    }

    /// Fails if it cannot be meant like that. `said` is where it was said.
    ///
    /// # Errors
    ///
    /// With what is wrong.
    pub fn check(&self, said: &str) -> Result<()> {
        let config = self;
        let wrong = |problem: String| Problem::invalid(format!("{said}: {problem}"));
        for (name, path) in [
            ("root", &config.root),
            ("address", &config.address),
            ("containerd.address", &config.containerd.address),
            ("containerd.content", &config.containerd.content),
        ] {
            if !path.is_absolute() {
                return Err(wrong(format!(
                    "{name} is {:?}, expected a path from / on",
                    path.display()
                )));
            }
        }
        // Both are in the options of a mount, where these have a meaning.
        if let Some(letter) = config
            .root
            .to_string_lossy()
            .chars()
            .find(|letter| ",:\\".contains(*letter))
        {
            return Err(wrong(format!(
                "root has a {letter:?} in it, which mount options cannot have"
            )));
        }
        if config.layers.immutable && config.layers.links {
            return Err(wrong(
                "layers.immutable and layers.links do not go together: containerd could not remove its own name \
                 of a layer"
                    .to_owned(),
            ));
        }
        let sealed = config.layers.immutable || config.layers.verity;
        if config.on_demand.enabled && sealed {
            return Err(wrong(
                "on_demand.enabled does not go together with layers.immutable and layers.verity: what is not there cannot \
                 be sealed"
                    .to_owned(),
            ));
        }
        if config.on_demand.deadline == 0 {
            return Err(wrong(
                "on_demand.deadline is 0, expected seconds".to_owned(),
            ));
        }
        let domain = &config.snapshots.share_domain;
        if domain.len() > DOMAIN_MAX || domain.contains(['\0', ',', ';']) {
            return Err(wrong(format!(
                "snapshots.share_domain is {domain:?}, expected a name of at most {DOMAIN_MAX} bytes without \",\" and \";\""
            )));
        }
        if !config.snapshots.default_size.is_empty() {
            limit::parse(&config.snapshots.default_size)
                .map_err(|problem| wrong(format!("snapshots.default_size: {problem}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_the_default() {
        let parsed = Config::parse(DEFAULT, Path::new("printed")).unwrap();
        assert_eq!(parsed, Config::default());
        // And every key of it is there, not only by default.
        for section in [
            "log",
            "containerd",
            "layers",
            "snapshots",
            "on_demand",
            "metrics",
        ] {
            assert!(DEFAULT.contains(&format!("[{section}]")), "{section}");
        }
    }

    #[test]
    fn mistakes_are_said_with_their_lines() {
        for (text, expected) in [
            ("root = 1", "line 1: "),
            ("\n\nrot = \"/x\"", "line 3: unknown field `rot`"),
            ("[log]\nlevel = \"loud\"", "line 2: unknown variant `loud`"),
            ("[layers]\nlinks = \"yes\"", "line 2: "),
            (
                "root = \"relative\"",
                "root is \"relative\", expected a path from / on",
            ),
            ("root = \"/a,b\"", "root has a ','"),
            (
                "[snapshots]\nshare_domain = \"a,b\"",
                "share_domain is \"a,b\", expected a name",
            ),
            ("[layers]\nimmutable = true", "do not go together"),
            (
                "[on_demand]\nenabled = true\n[layers]\nverity = true",
                "what is not there cannot",
            ),
            (
                "[on_demand]\ndeadline = 0",
                "deadline is 0, expected seconds",
            ),
            ("[on_demand]\nmirrors = 1", "line 2: "),
            (
                "[snapshots]\ndefault_size = \"big\"",
                "default_size: a snapshot cannot have \"big\"",
            ),
            ("root = \"/x", "line 1: "),
        ] {
            let error = Config::parse(text, Path::new("config.toml"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(expected) && error.contains("config.toml"),
                "{text:?}: {error}"
            );
        }
    }
}
