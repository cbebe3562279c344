// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which file belongs to which device slot of an image: found in directories by the sha256 or the fs-verity digest that
//! is the slot's tag, or given by its path.

use crate::digest;
use crate::digest::Digest;
use crate::digest::verity;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::read_at;
use crate::read_at::ReadAt;
use crate::tar::HeaderDigest;
use crate::text::Shown;
use erofs_format::DeviceSlot;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// A blob of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Where it is.
    pub path: PathBuf,
    /// The tag that it was found by.
    pub tag: Option<Tag>,
}

/// What a slot's tag says of the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tag {
    /// Its sha256.
    Sha256(Digest),
    /// Its fs-verity digest.
    Verity(verity::Digest),
}

impl Tag {
    /// What is the tag of a slot. None if it is nothing that a blob can be known by.
    pub fn of(slot: &DeviceSlot) -> Option<Self> {
        let verity = || verity::Digest::of_tag(&slot.tag).map(Tag::Verity);
        tag(slot).map(Tag::Sha256).or_else(verity)
    }

    /// What kind of digest it is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Tag::Sha256(_) => "sha256",
            Tag::Verity(_) => "fs-verity digest",
        }
    }

    /// The digest alone, in hexadecimal digits.
    pub fn digits(&self) -> String {
        match self {
            Tag::Sha256(digest) => digest.to_string(),
            Tag::Verity(digest) => digest.to_string(),
        }
    }

    /// Finds the blob in directories: by its sha256 as [`find`] does, by its fs-verity digest as `HEX`, `HEX.tar` or
    /// `HE/X`, which is how the objects of composefs are called.
    pub fn find(&self, directories: &[PathBuf]) -> Option<PathBuf> {
        let digest = match self {
            Tag::Sha256(digest) => return find(directories, *digest),
            Tag::Verity(digest) => digest.to_string(),
        };
        let (first, rest) = digest.split_at(2);
        let names = [
            digest.clone(),
            format!("{digest}.tar"),
            format!("{first}/{rest}"),
        ];
        first_file(directories, &names)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tag::Sha256(digest) => write!(f, "sha256:{digest}"),
            Tag::Verity(digest) => write!(f, "fs-verity digest sha256:{digest}"),
        }
    }
}

/// What files can be known by: their sha256, or the fs-verity digests that they would have. They are read several at once;
/// `progress` is told how many bytes of all of them are done.
///
/// # Errors
///
/// For each file those of reading it.
pub fn hash_all(
    files: &[File],
    verity: bool,
    progress: &mut dyn FnMut(u64),
) -> Vec<io::Result<Tag>> {
    if verity {
        let digests = digest::verity_of_all(files, progress).into_iter();
        return digests.map(|digest| digest.map(Tag::Verity)).collect();
    }
    let digests = digest::hash_all(files, progress).into_iter();
    digests.map(|digest| digest.map(Tag::Sha256)).collect()
}

/// The sha256 that is a slot's tag.
pub fn tag(slot: &DeviceSlot) -> Option<Digest> {
    Digest::parse(std::str::from_utf8(slot.name()).ok()?)
}

/// The first of the names that is a file in one of the directories.
fn first_file(directories: &[PathBuf], names: &[String]) -> Option<PathBuf> {
    directories
        .iter()
        .flat_map(|directory| names.iter().map(move |name| directory.join(name)))
        .find(|path| path.is_file())
}

/// Finds a blob in directories by its sha256: `HEX`, `HEX.tar`, `sha256/HEX` as in an OCI layout's
/// `blobs`, or `blobs/sha256/HEX` as in the layout itself. (`HEX.erofs` is how the index of a blob is named.)
pub fn find(directories: &[PathBuf], digest: Digest) -> Option<PathBuf> {
    let names = [
        format!("{digest}"),
        format!("{digest}.tar"),
        format!("sha256/{digest}"),
        format!("blobs/sha256/{digest}"),
    ];
    first_file(directories, &names)
}

/// Finds a tar that is not whole yet by the sha256 that it will have.
fn find_sparse(directories: &[PathBuf], digest: Digest) -> Option<PathBuf> {
    first_file(directories, &[format!("{digest}.sparse")])
}

/// Fails unless as many blobs are given as an image has slots.
///
/// # Errors
///
/// When it has another number of them.
pub fn expect_all(image: &Path, slots: usize, given: usize) -> Result<()> {
    if slots == given {
        return Ok(());
    }
    let image = Shown(image);
    Err(Error::Request(format!(
        "{image}: device slots in the image: {slots}, but devices given: {given}"
    )))
}

/// Fails if a tar is not the one whose headers an image knows: its data would be somewhere else, or another's. That
/// takes milliseconds, and is no proof, which only the sha256 of all of it is.
///
/// # Errors
///
/// When it is another one, or cannot be read.
pub fn check_headers(
    image: &Path,
    device: usize,
    expected: Option<HeaderDigest>,
    path: &Path,
    blob: &impl ReadAt,
) -> Result<()> {
    match difference(expected, blob).map_err(Error::io("read", path))? {
        None => Ok(()),
        Some(problem) => Err(Error::WrongBlob {
            image: image.to_path_buf(),
            device,
            path: path.to_path_buf(),
            problem,
        }),
    }
}

/// The same for what lies behind an image in the same file, where drivers look for what is not given.
///
/// # Errors
///
/// When it is another tar or none, or cannot be read.
pub fn check_headers_behind(
    image: &Path,
    device: usize,
    expected: Option<HeaderDigest>,
    blob: &read_at::From<impl ReadAt>,
) -> Result<()> {
    match difference(expected, blob).map_err(Error::io("read", image))? {
        None => Ok(()),
        Some(problem) => Err(Error::NotBehind {
            image: image.to_path_buf(),
            device,
            at: blob.start,
            problem,
        }),
    }
}

/// By what it shows that a tar is not the one that is expected.
fn difference(expected: Option<HeaderDigest>, blob: &impl ReadAt) -> io::Result<Option<String>> {
    let Some(expected) = expected else {
        return Ok(None);
    };
    let found = HeaderDigest::of(blob)?;
    if expected.fits(&found) {
        return Ok(None);
    }
    let what = match found.sha256 == expected.sha256 {
        true => "it is shorter",
        false => "it has other headers",
    };
    let (found, expected) = (found.size, expected.size);
    Ok(Some(format!(
        "{what}: it has {found} bytes, that one {expected}"
    )))
}

/// The blobs of an image, in the order of its slots. Those that are not found in the directories
/// are the given ones, in their order. Without directories the given ones are all there are: none, as
/// blobs can be in the image's file, too, or one for each slot.
///
/// # Errors
///
/// When there are too few or too many.
pub fn assign(
    image: &Path,
    slots: &[DeviceSlot],
    given: &[PathBuf],
    directories: &[PathBuf],
) -> Result<Vec<Blob>> {
    assign_with(image, slots, given, directories, false)
}

/// The same, where `sparse` says whether a tar that is not whole yet will do: one that is called `HEX.sparse` in one of the
/// directories, as `ferofs serve` has it.
///
/// # Errors
///
/// When there are too few or too many.
pub fn assign_with(
    image: &Path,
    slots: &[DeviceSlot],
    given: &[PathBuf],
    directories: &[PathBuf],
    sparse: bool,
) -> Result<Vec<Blob>> {
    let as_given = |path: &PathBuf| Blob {
        path: path.clone(),
        tag: None,
    };
    if directories.is_empty() {
        if !given.is_empty() {
            expect_all(image, slots.len(), given.len())?;
        }
        return Ok(given.iter().map(as_given).collect());
    }
    let image = Shown(image);
    let mut rest = given.iter();
    let mut blobs = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        let tag = Tag::of(slot);
        let found = tag.and_then(|tag| tag.find(directories));
        let part = || match tag {
            Some(Tag::Sha256(digest)) => find_sparse(directories, digest),
            _ => None,
        };
        let found = found.or_else(|| part().filter(|_| sparse));
        if let Some(path) = found {
            blobs.push(Blob { path, tag });
        } else if let Some(path) = rest.next() {
            blobs.push(as_given(path));
        } else {
            let number = index + 1;
            let problem = match tag {
                Some(tag) if part().is_some() => format!(
                    "{tag} is not whole yet, and what is missing would be read as zeros: mount with holes=error"
                ),
                Some(tag) => format!("{tag} is in none of the given directories"),
                None => "it has no sha256 to find it by, so its file has to be given as a device"
                    .to_string(),
            };
            return Err(Error::of(
                Kind::NotFound,
                format!("{image}: device {number}: {problem}"),
            ));
        }
    }
    if let Some(path) = rest.next() {
        let path = Shown(path);
        return Err(Error::Request(format!(
            "{image}: no device is left for {path}: the others were found by their sha256"
        )));
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(tag: &str) -> DeviceSlot {
        let mut padded = [0; 64];
        padded[..tag.len()].copy_from_slice(tag.as_bytes());
        DeviceSlot {
            tag: padded,
            blocks: 1,
            uniaddr: 8,
        }
    }

    #[test]
    fn blobs_are_found_by_their_fs_verity_digests() {
        let directory = std::env::temp_dir().join(format!("ferofs-verity-{}", std::process::id()));
        let digest = verity::Digest::of(b"blob");
        let mut slot = slot("");
        slot.tag = digest.tag();
        let tag = Tag::of(&slot).unwrap();
        let hex = digest.to_string();
        for name in [
            hex.clone(),
            format!("{hex}.tar"),
            format!("{}/{}", &hex[..2], &hex[2..]),
        ] {
            let path = directory.join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, b"blob").unwrap();
            let found = assign(
                Path::new("image"),
                &[slot],
                &[],
                std::slice::from_ref(&directory),
            );
            let expected = Blob {
                path,
                tag: Some(tag),
            };
            assert_eq!(found.unwrap(), [expected]);
            std::fs::remove_dir_all(&directory).unwrap();
        }
        let missing = assign(
            Path::new("image"),
            &[slot],
            &[],
            std::slice::from_ref(&directory),
        );
        let missing = missing.unwrap_err().to_string();
        assert!(
            missing.contains(&format!("fs-verity digest sha256:{hex} is in none")),
            "{missing}"
        );
    }

    #[test]
    fn a_tar_that_is_not_whole_is_for_who_wants_errors() {
        let directory = std::env::temp_dir().join(format!("ferofs-part-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let digest = Digest::of(b"part");
        let slots = [slot(&digest.to_string())];
        let path = directory.join(format!("{digest}.sparse"));
        std::fs::write(&path, b"").unwrap();
        let assign = |sparse| {
            let directories = [directory.clone()];
            assign_with(Path::new("image"), &slots, &[], &directories, sparse)
        };
        assert_eq!(assign(true).unwrap()[0].path, path);
        let error = assign(false).unwrap_err().to_string();
        assert!(error.contains("mount with holes=error"), "{error}");
        // A whole one is preferred.
        let whole = path.with_extension("tar");
        std::fs::write(&whole, b"part").unwrap();
        assert_eq!(assign(true).unwrap()[0].path, whole);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn only_a_digest_is_looked_for() {
        let digest = Digest::of(b"");
        assert_eq!(tag(&slot(&digest.to_string())), Some(digest));
        for other in ["", "disk", "../../etc/shadow"] {
            assert_eq!(tag(&slot(other)), None);
        }
    }

    #[test]
    fn blobs_are_given_or_found_or_missing() {
        let image = Path::new("image");
        let slots = [slot(""), slot(&Digest::of(b"").to_string())];
        let given = [PathBuf::from("a"), PathBuf::from("b")];
        let paths = |blobs: Result<Vec<Blob>>| -> std::result::Result<Vec<PathBuf>, String> {
            let blobs = blobs.map_err(|error| error.to_string())?;
            Ok(blobs.into_iter().map(|blob| blob.path).collect())
        };
        assert_eq!(
            paths(assign(image, &slots, &given, &[])),
            Ok(given.to_vec())
        );
        assert_eq!(paths(assign(image, &slots, &[], &[])), Ok(Vec::new()));
        let few = paths(assign(image, &slots, &given[..1], &[])).unwrap_err();
        let expected = "image: device slots in the image: 2, but devices given: 1";
        assert_eq!(few, expected);
        let nowhere = [PathBuf::from("/nonexistent")];
        assert_eq!(
            paths(assign(image, &slots, &given, &nowhere)),
            Ok(given.to_vec())
        );
        let none = paths(assign(image, &slots, &[], &nowhere)).unwrap_err();
        assert!(
            none.starts_with("image: device 1: it has no sha256"),
            "{none}"
        );
        let one = paths(assign(image, &slots, &given[..1], &nowhere)).unwrap_err();
        assert!(one.starts_with("image: device 2: sha256:e3b0c442"), "{one}");
        let many = paths(assign(image, &slots[..1], &given, &nowhere)).unwrap_err();
        assert!(many.starts_with("image: no device is left for b"), "{many}");
    }
}
