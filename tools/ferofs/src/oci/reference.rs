// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How container images on disk are named: `oci:DIR:TAG`, as other tools do it.

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Result;
use crate::text::Shown;
use std::ffi::OsStr;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// How images are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An OCI image layout in a directory.
    Layout,
    /// The same in a tar.
    LayoutArchive,
    /// What `docker save` writes.
    DockerArchive,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Layout, Kind::LayoutArchive, Kind::DockerArchive];

    /// What names begin with, before a colon.
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Layout => "oci",
            Kind::LayoutArchive => "oci-archive",
            Kind::DockerArchive => "docker-archive",
        }
    }
}

/// Which of the images that are stored together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// The only one.
    Only,
    /// That with a name.
    Name(String),
    /// That with the sha256 of its manifest or its index.
    Digest(Digest),
}

/// The name of a container image on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// How it is stored.
    pub kind: Kind,
    /// Where.
    pub path: PathBuf,
    /// Which one.
    pub choice: Choice,
}

impl Reference {
    /// Takes `oci:DIR`, `oci:DIR:TAG`, `oci:DIR@sha256:HEX`, and the same with `oci-archive:FILE` and
    /// `docker-archive:FILE`. `None` is for what begins with none of these, and is a path.
    ///
    /// Where a path may have colons itself, the shortest that exists is meant.
    ///
    /// # Errors
    ///
    /// When there is no path, or what follows it is neither a name nor a sha256.
    pub fn parse(text: &Path) -> Result<Option<Self>> {
        let bytes = text.as_os_str().as_bytes();
        let found = Kind::ALL.into_iter().find_map(|kind| {
            let rest = bytes.strip_prefix(kind.prefix().as_bytes())?;
            Some((kind, rest.strip_prefix(b":")?))
        });
        let Some((kind, rest)) = found else {
            return Ok(None);
        };
        let shown = Shown(text);
        let refuse = |problem: &str| Err(Error::Request(format!("{shown}: {problem}")));
        let (path, choice) = split(rest);
        if path.as_os_str().is_empty() {
            return refuse("expected a path after the first colon");
        }
        let choice = match choice {
            None => Choice::Only,
            Some((b'@', digest)) => {
                let digest = std::str::from_utf8(digest).ok().filter(|digest| {
                    // Without the algorithm it could be anything.
                    digest.starts_with("sha256:")
                });
                match digest.and_then(Digest::parse) {
                    Some(digest) => Choice::Digest(digest),
                    None => {
                        return refuse(
                            "expected \"sha256:\" and 64 hexadecimal digits after \"@\"",
                        );
                    }
                }
            }
            Some((_, name)) => match std::str::from_utf8(name) {
                Ok(name) if !name.is_empty() => Choice::Name(name.to_string()),
                _ => return refuse("expected a name after the colon behind the path"),
            },
        };
        Ok(Some(Reference { kind, path, choice }))
    }
}

/// What comes behind a path, and the byte between them.
type Rest<'a> = Option<(u8, &'a [u8])>;

/// The name of the container image that a directory seems to be, though it is called like any directory.
pub fn seems_to_be_layout(path: &Path) -> Option<Reference> {
    path.join("oci-layout").is_file().then(|| Reference {
        kind: Kind::Layout,
        path: path.to_path_buf(),
        choice: Choice::Only,
    })
}

/// The name of the container image that a tar seems to be. `has` says whether the tar has something of a name in
/// its root.
pub fn seems_to_be_archive(has: impl Fn(&[u8]) -> bool, path: &Path) -> Option<Reference> {
    let kind = match (has(b"manifest.json"), has(b"oci-layout")) {
        (true, _) if has(b"repositories") || has(b"oci-layout") => Kind::DockerArchive,
        (_, true) => Kind::LayoutArchive,
        _ => return None,
    };
    Some(Reference {
        kind,
        path: path.to_path_buf(),
        choice: Choice::Only,
    })
}

/// What is said of something that is called like a file, but looks like a container image.
pub fn looks_like(name: &Reference) -> String {
    format!("it looks like a container image; as such it is called {name}")
}

/// Adds to the error that something cannot be opened what it may be, if it may be a container image.
pub fn explain(error: Error, path: &Path) -> Error {
    if let Some(name) = seems_to_be_layout(path) {
        return Error::Request(format!("{error}; {}", looks_like(&name)));
    }
    let bytes = path.as_os_str().as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let prefix = bytes.get(..colon.unwrap_or_default()).unwrap_or_default();
    let is_word = !prefix.is_empty()
        && prefix
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || *byte == b'-');
    match error {
        Error::Io { ref source, .. } if is_word && source.kind() == ErrorKind::NotFound => {
            Error::Request(format!(
                "{error}; container images on disk are called oci:DIR, oci-archive:FILE or \
                 docker-archive:FILE"
            ))
        }
        error => error,
    }
}

/// Takes apart a path and what follows it.
fn split(text: &[u8]) -> (PathBuf, Rest<'_>) {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let borders: Vec<usize> = text
        .iter()
        .enumerate()
        .filter(|(at, byte)| match byte {
            b':' => true,
            b'@' => text.get(at + 1..).unwrap_or_default().contains(&b':'),
            _ => false,
        })
        .map(|(at, _)| at)
        .collect();
    let part = |at: usize| text.get(..at).unwrap_or_default();
    let existing = borders.iter().find(|at| path(part(**at)).exists());
    let border = match existing {
        Some(at) => Some(*at),
        None if path(text).exists() => None,
        None => borders.first().copied(),
    };
    match border {
        None => (path(text), None),
        Some(at) => {
            let between = text.get(at).copied().unwrap_or_default();
            let rest = text.get(at + 1..).unwrap_or_default();
            (path(part(at)), Some((between, rest)))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.prefix(), Shown(&self.path))?;
        match &self.choice {
            Choice::Only => Ok(()),
            Choice::Name(name) => write!(f, ":{name}"),
            Choice::Digest(digest) => write!(f, "@sha256:{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        let empty = Digest::of(b"");
        let by_digest = format!("oci:dir@sha256:{empty}");
        let name = |name: &str| Choice::Name(name.to_string());
        for (text, kind, path, choice) in [
            ("oci:dir", Kind::Layout, "dir", Choice::Only),
            ("oci:a/b:1.0", Kind::Layout, "a/b", name("1.0")),
            (
                "oci:/srv/i:docker.io/library/a:1",
                Kind::Layout,
                "/srv/i",
                name("docker.io/library/a:1"),
            ),
            (&by_digest, Kind::Layout, "dir", Choice::Digest(empty)),
            (
                "oci-archive:i.tar:x",
                Kind::LayoutArchive,
                "i.tar",
                name("x"),
            ),
            (
                "docker-archive:i.tar",
                Kind::DockerArchive,
                "i.tar",
                Choice::Only,
            ),
            // An address in a path is not what people have.
            ("oci:user@host", Kind::Layout, "user@host", Choice::Only),
        ] {
            let path = PathBuf::from(path);
            let expected = Reference { kind, path, choice };
            let found = Reference::parse(Path::new(text)).unwrap();
            assert_eq!(found, Some(expected.clone()), "{text}");
            assert_eq!(expected.to_string(), text);
        }
        for path in ["layer.tar", "./oci:dir", "oci", "dir/oci:x", "docker:x"] {
            assert_eq!(Reference::parse(Path::new(path)).unwrap(), None, "{path}");
        }
        for bad in ["oci:", "oci::tag", "oci:dir:", "oci:dir@sha512:00"] {
            assert!(Reference::parse(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_may_have_colons() {
        let directory = std::env::temp_dir().join(format!("ferofs-a:b-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        for (suffix, choice) in [("", Choice::Only), (":c", Choice::Name("c".to_string()))] {
            let text = format!("oci:{}{suffix}", directory.display());
            let found = Reference::parse(Path::new(&text)).unwrap().unwrap();
            assert_eq!((found.path, found.choice), (directory.clone(), choice));
        }
        std::fs::remove_dir(&directory).unwrap();
    }
}
