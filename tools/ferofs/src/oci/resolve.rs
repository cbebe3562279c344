// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From the name of a container image to its layers.

use super::Choice;
use super::Image;
use super::Kind;
use super::Layer;
use super::Platform;
use super::Reference;
use super::document;
use super::document::Config;
use super::document::Descriptor;
use super::document::Index;
use super::document::IndexOrManifest;
use super::document::Layout;
use super::document::Manifest;
use super::document::Meaning;
use super::document::Saved;
use super::store::Blob;
use super::store::Store;
use crate::digest::Digest;
use crate::error;
use crate::error::Error;
use crate::error::Result;
use crate::text::Quoted;
use crate::text::Shown;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;

/// Lists of images in lists of images: deeper ones than this are nobody's.
const MAX_DEPTH: u32 = 8;
/// More names than this in a message help nobody.
const MAX_SHOWN: usize = 10;

const NAME: &str = "org.opencontainers.image.ref.name";
/// The full name, by containerd and `docker save`.
const FULL_NAME: &str = "io.containerd.image.name";
/// What BuildKit says of manifests that describe images instead of being some.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Finds an image: its documents are read and compared with their digests, its layers are looked
/// for, but not read. Without a platform, that of this machine is chosen if there are several.
///
/// # Errors
///
/// When there is no such image, or several, or something about it is wrong or missing.
pub fn open(reference: &Reference, platform: Option<&Platform>) -> Result<Image> {
    let store = Store::open(reference)?;
    let resolver = Resolver {
        reference,
        store: &store,
        platform,
    };
    match reference.kind {
        Kind::Layout | Kind::LayoutArchive => resolver.layout(),
        Kind::DockerArchive => resolver.docker_archive(),
    }
}

/// An image that may be the one; its manifest has not been read yet.
struct Candidate {
    /// Which of the images that were chosen by name it belongs to.
    root: usize,
    /// The document that refers to it.
    of: PathBuf,
    descriptor: Descriptor,
}

/// The images in lists of images.
#[derive(Default)]
struct Candidates {
    seen: HashSet<Digest>,
    found: Vec<Candidate>,
}

struct Resolver<'a> {
    reference: &'a Reference,
    store: &'a Store,
    platform: Option<&'a Platform>,
}

fn parse<T: DeserializeOwned>(blob: &Blob, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let shown = blob.shown();
        Error::of(
            error::Kind::Container,
            format!("{}: {error}", Shown(&shown)),
        )
    })
}

/// The digest in a document, which must be a sha256.
pub(super) fn parse_digest(shown: &Path, text: &str) -> Result<Digest> {
    let digest = text
        .starts_with("sha256:")
        .then(|| Digest::parse(text))
        .flatten();
    digest.ok_or_else(|| {
        let (shown, text) = (Shown(shown), Quoted(text.as_bytes()));
        Error::of(
            error::Kind::Container,
            format!("{shown}: the digest {text}, expected \"sha256:\" and 64 hexadecimal digits"),
        )
    })
}

impl Resolver<'_> {
    fn error(&self, problem: impl std::fmt::Display) -> Error {
        Error::of(
            error::Kind::NotFound,
            format!("{}: {problem}", self.reference),
        )
    }

    /// Says that an image is not for the platform that was asked for.
    fn check_platform(&self, platform: &Platform) -> Result<()> {
        match self.platform {
            Some(wanted) if platform.rank(wanted).is_none() => {
                Err(self.error(format!("the image is for {platform}, not for {wanted}")))
            }
            _ => Ok(()),
        }
    }

    /// The digest of what a descriptor refers to, and the blob, which has the right size.
    fn find(&self, of: &Path, descriptor: &Descriptor) -> Result<(Digest, Blob)> {
        let digest = parse_digest(of, &descriptor.digest)?;
        let blob = self.store.blob(digest)?;
        if blob.size() != descriptor.size {
            let (shown, size, expected) = (blob.shown(), blob.size(), descriptor.size);
            let shown = Shown(&shown);
            return Err(Error::of(
                error::Kind::Container,
                format!("{shown}: it has {size} bytes, expected {expected}"),
            ));
        }
        Ok((digest, blob))
    }

    fn layout(&self) -> Result<Image> {
        let blob = self.store.file("oci-layout")?;
        let layout: Layout = parse(&blob, &blob.document(None)?)?;
        if !layout.image_layout_version.starts_with("1.") {
            let version = Quoted(layout.image_layout_version.as_bytes()).to_string();
            let problem = format!("an image layout of version {version}, expected 1.0.0");
            return Err(self.error(problem));
        }
        if let Choice::Digest(digest) = self.reference.choice {
            let blob = self.store.blob(digest)?;
            let bytes = blob.document(Some(digest))?;
            let kind: IndexOrManifest = parse(&blob, &bytes)?;
            match kind.meaning() {
                Meaning::Manifest => {
                    let image = self.image(digest, &parse(&blob, &bytes)?)?;
                    self.check_platform(&image.platform)?;
                    return Ok(image);
                }
                Meaning::Index => {
                    let mut candidates = Candidates::default();
                    self.index(0, &blob, &bytes, &mut candidates, 0)?;
                    return self.choose(candidates, &BTreeSet::new());
                }
                _ => {
                    let shown = blob.shown();
                    return Err(Error::of(
                        error::Kind::Container,
                        format!(
                            "{}: neither the manifest of an image nor an index",
                            Shown(&shown)
                        ),
                    ));
                }
            }
        }
        let blob = self.store.file("index.json")?;
        let index: Index = parse(&blob, &blob.document(None)?)?;
        let mut names = BTreeSet::new();
        let mut chosen = Vec::new();
        for descriptor in &index.manifests {
            let name = descriptor.annotation(NAME);
            let full_name = descriptor.annotation(FULL_NAME);
            names.extend(name.or(full_name).map(str::to_string));
            let matches = match &self.reference.choice {
                Choice::Name(wanted) => [name, full_name].contains(&Some(wanted)),
                _ => true,
            };
            if matches {
                chosen.push(descriptor);
            }
        }
        if chosen.is_empty() {
            return Err(self.error(format!("no such image; there {}", list(&names))));
        }
        let mut candidates = Candidates::default();
        for (root, descriptor) in chosen.into_iter().enumerate() {
            self.descriptor(root, &blob.shown(), descriptor, &mut candidates, 0)?;
        }
        self.choose(candidates, &names)
    }

    /// Takes note of an image, or of all images in a list.
    fn descriptor(
        &self,
        root: usize,
        of: &Path,
        descriptor: &Descriptor,
        candidates: &mut Candidates,
        depth: u32,
    ) -> Result<()> {
        let platform = descriptor.platform.as_ref();
        let unknown = platform.is_some_and(|platform| platform.os == "unknown");
        let kind = descriptor.artifact_type.as_deref();
        let artifact = kind.is_some_and(|kind| !kind.is_empty());
        if unknown || artifact || descriptor.annotation(REFERENCE_TYPE).is_some() {
            return Ok(());
        }
        let digest = parse_digest(of, &descriptor.digest)?;
        match document::meaning(&descriptor.media_type) {
            Meaning::Manifest => {
                if candidates.seen.insert(digest) {
                    candidates.found.push(Candidate {
                        root,
                        of: of.to_path_buf(),
                        descriptor: descriptor.clone(),
                    });
                }
                Ok(())
            }
            Meaning::Index => {
                if !candidates.seen.insert(digest) {
                    return Ok(());
                }
                let (digest, blob) = self.find(of, descriptor)?;
                let bytes = blob.document(Some(digest))?;
                self.index(root, &blob, &bytes, candidates, depth + 1)
            }
            _ => {
                let (of, found) = (Shown(of), Quoted(descriptor.media_type.as_bytes()));
                Err(Error::of(
                    error::Kind::Container,
                    format!(
                        "{of}: something of the media type {found}, expected the manifest of an image, \
                     or an index"
                    ),
                ))
            }
        }
    }

    /// Takes note of all images in a list.
    fn index(
        &self,
        root: usize,
        blob: &Blob,
        bytes: &[u8],
        candidates: &mut Candidates,
        depth: u32,
    ) -> Result<()> {
        let shown = blob.shown();
        if depth > MAX_DEPTH {
            let shown = Shown(&shown);
            return Err(Error::of(
                error::Kind::Container,
                format!("{shown}: more than {MAX_DEPTH} indexes in each other"),
            ));
        }
        let index: Index = parse(blob, bytes)?;
        let mut descriptors = index.manifests.iter();
        descriptors
            .try_for_each(|descriptor| self.descriptor(root, &shown, descriptor, candidates, depth))
    }

    /// Chooses by platform. If there is but one image it is that, unless another platform was
    /// asked for.
    fn choose(&self, mut candidates: Candidates, names: &BTreeSet<String>) -> Result<Image> {
        if candidates.found.len() > 1 {
            // What is for other platforms need not be there, so what cannot be read may be an image.
            let is_artifact = |candidate: &Candidate| {
                let manifest = self.manifest(candidate);
                manifest.is_ok_and(|(_, manifest)| manifest.is_artifact())
            };
            let is_image = |candidate: &Candidate| !is_artifact(candidate);
            if candidates.found.iter().any(is_image) {
                candidates.found.retain(is_image);
            }
        }
        let any = candidates.found.len() == 1 && self.platform.is_none();
        let wanted = match self.platform {
            Some(platform) => platform.clone(),
            None => Platform::of_this_machine(),
        };
        let mut platforms = BTreeSet::new();
        let mut ranked = Vec::new();
        for candidate in candidates.found {
            let platform = match &candidate.descriptor.platform {
                Some(platform) => Platform::from(platform.clone()),
                None if any => wanted.clone(),
                None => {
                    let (digest, manifest) = self.manifest(&candidate)?;
                    self.config(digest, &manifest)?.platform.into()
                }
            };
            platforms.insert(platform.to_string());
            let rank = platform.rank(&wanted);
            if rank.is_some() || any {
                ranked.push((rank, candidate));
            }
        }
        // Of equals the first, as runtimes do it.
        ranked.sort_by(|a, b| a.0.cmp(&b.0));
        let mut ranked = ranked.into_iter();
        let Some((rank, best)) = ranked.next() else {
            return Err(match platforms.is_empty() {
                true => self.error("there is no image"),
                false => self.error(format!("no image for {wanted}; there {}", list(&platforms))),
            });
        };
        if ranked.any(|(other, candidate)| other == rank && candidate.root != best.root) {
            let (kind, path) = (self.reference.kind, Shown(&self.reference.path));
            return Err(self.error(format!(
                "several images; choose one with {}:{path}:NAME or @sha256:HEX; there {}",
                kind.prefix(),
                list(names)
            )));
        }
        let (digest, manifest) = self.manifest(&best)?;
        self.image(digest, &manifest)
    }

    /// Reads the manifest of an image.
    fn manifest(&self, candidate: &Candidate) -> Result<(Digest, Manifest)> {
        let (digest, blob) = self.find(&candidate.of, &candidate.descriptor)?;
        Ok((digest, parse(&blob, &blob.document(Some(digest))?)?))
    }

    /// The configuration of an image.
    fn config(&self, digest: Digest, manifest: &Manifest) -> Result<Config> {
        let of = format!("{}: sha256:{digest}", self.reference);
        let descriptor = &manifest.config;
        if document::meaning(&descriptor.media_type) != Meaning::Config {
            let found = Quoted(descriptor.media_type.as_bytes());
            return Err(Error::of(
                error::Kind::Container,
                format!(
                    "{of}: its configuration has the media type {found}, expected that of a container \
                 image"
                ),
            ));
        }
        let (digest, blob) = self.find(Path::new(&of), descriptor)?;
        parse(&blob, &blob.document(Some(digest))?)
    }

    /// The image that a manifest describes.
    fn image(&self, digest: Digest, manifest: &Manifest) -> Result<Image> {
        let config = self.config(digest, manifest)?;
        let of = format!("{}: sha256:{digest}", self.reference);
        let diff_ids = diff_ids(&of, &config, manifest.layers.len())?;
        let platform = Platform::from(config.platform);
        let mut layers = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            if document::meaning(&descriptor.media_type) != Meaning::Layer {
                let (number, found) = (layers.len() + 1, Quoted(descriptor.media_type.as_bytes()));
                return Err(Error::of(
                    error::Kind::Container,
                    format!(
                        "{of}: layer {number} has the media type {found}, expected a tar, plain or \
                     compressed with gzip or zstd"
                    ),
                ));
            }
            let (digest, blob) = self.find(Path::new(&of), descriptor)?;
            layers.push(Layer {
                diff_id,
                blob,
                digest: Some(digest),
            });
        }
        Ok(Image {
            name: self.reference.to_string(),
            platform,
            layers,
            inputs: self.store.inputs(),
        })
    }

    fn docker_archive(&self) -> Result<Image> {
        let blob = self.store.file("manifest.json")?;
        let saved: Vec<Saved> = parse(&blob, &blob.document(None)?)?;
        let mut names = BTreeSet::new();
        let mut chosen = Vec::new();
        for image in saved {
            let tags = image.repo_tags.as_deref().unwrap_or_default();
            names.extend(tags.iter().cloned());
            let digest = digest_in_name(&image.config);
            let matches = match &self.reference.choice {
                Choice::Only => true,
                Choice::Name(wanted) => tags.iter().any(|tag| familiar(tag) == familiar(wanted)),
                Choice::Digest(wanted) => digest == Some(*wanted),
            };
            if matches {
                chosen.push((image, digest));
            }
        }
        let only = chosen.len() == 1;
        let Some((saved, digest)) = chosen.pop().filter(|_| only) else {
            let problem = match &self.reference.choice {
                Choice::Only => "expected one image, or a name behind the path",
                _ => "no such image",
            };
            return Err(self.error(format!("{problem}; there {}", list(&names))));
        };
        let blob = self.store.file(&saved.config)?;
        let config: Config = parse(&blob, &blob.document(digest)?)?;
        let of = blob.shown();
        let paths = saved.layers.unwrap_or_default();
        let diff_ids = diff_ids(&Shown(&of).to_string(), &config, paths.len())?;
        let platform = Platform::from(config.platform);
        self.check_platform(&platform)?;
        let mut layers = Vec::new();
        for (path, diff_id) in paths.iter().zip(diff_ids) {
            layers.push(Layer {
                diff_id,
                blob: self.store.file(path)?,
                digest: None,
            });
        }
        Ok(Image {
            name: self.reference.to_string(),
            platform,
            layers,
            inputs: self.store.inputs(),
        })
    }
}

/// The diff IDs in a configuration, as many as there are layers.
pub(super) fn diff_ids(of: &str, config: &Config, layers: usize) -> Result<Vec<Digest>> {
    let diff_ids = config.rootfs.diff_ids.as_deref().unwrap_or_default();
    let count = diff_ids.len();
    if count != layers {
        return Err(Error::of(
            error::Kind::Container,
            format!("{of}: the configuration has {count} diff IDs, but there are {layers} layers"),
        ));
    }
    diff_ids
        .iter()
        .map(|text| parse_digest(Path::new(of), text))
        .collect()
}

/// The sha256 of a configuration, which is its name: `HEX.json`, `blobs/sha256/HEX`, or, by some
/// that are not Docker, `sha256:HEX`.
fn digest_in_name(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    let name = name.strip_suffix(".json").unwrap_or(name);
    Digest::parse(name)
}

/// A name of an image as Docker shows it, with its tag.
fn familiar(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.contains(':') {
        true => name.to_string(),
        false => format!("{name}:latest"),
    }
}

/// What there is, for a message.
pub(super) fn list(names: &BTreeSet<String>) -> String {
    let shown: Vec<_> = names
        .iter()
        .take(MAX_SHOWN)
        .map(|name| crate::text::Escaped(name.as_bytes()).to_string())
        .collect();
    match names.len() {
        0 => "are none with a name".to_string(),
        1 => format!("is {}", shown.join("")),
        count if count > MAX_SHOWN => {
            let more = count - MAX_SHOWN;
            format!("are {} and {more} more", shown.join(", "))
        }
        _ => format!("are {}", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_docker_shows_them() {
        for (name, shown) in [
            ("alpine", "alpine:latest"),
            ("docker.io/library/alpine:3", "alpine:3"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("docker.io/user/a:1", "user/a:1"),
        ] {
            assert_eq!(familiar(name), shown);
        }
    }

    #[test]
    fn a_config_is_named_after_its_digest() {
        let digest = Digest::of(b"");
        for (path, found) in [
            (format!("{digest}.json"), Some(digest)),
            (format!("blobs/sha256/{digest}"), Some(digest)),
            (format!("sha256:{digest}"), Some(digest)),
            ("config.json".to_string(), None),
            (String::new(), None),
        ] {
            assert_eq!(digest_in_name(&path), found, "{path}");
        }
    }
}
