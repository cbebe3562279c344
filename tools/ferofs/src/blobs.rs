// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which file belongs to which device slot of an image: found in directories by the sha256 that
//! is the slot's tag, or given by its path.

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::read_at;
use crate::read_at::ReadAt;
use crate::tar::HeaderDigest;
use crate::text::Shown;
use erofs_format::DeviceSlot;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// A blob of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Where it is.
    pub path: PathBuf,
    /// The tag that it was found by.
    pub tag: Option<Digest>,
}

/// The sha256 that is a slot's tag.
pub fn tag(slot: &DeviceSlot) -> Option<Digest> {
    Digest::parse(std::str::from_utf8(slot.name()).ok()?)
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
    directories
        .iter()
        .flat_map(|directory| names.iter().map(move |name| directory.join(name)))
        .find(|path| path.is_file())
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
        let tag = tag(slot);
        let found = tag.and_then(|digest| find(directories, digest));
        if let Some(path) = found {
            blobs.push(Blob { path, tag });
        } else if let Some(path) = rest.next() {
            blobs.push(as_given(path));
        } else {
            let number = index + 1;
            let problem = match tag {
                Some(digest) => format!("sha256:{digest} is in none of the given directories"),
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
