// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where layers are stored: in a registry, in an image on disk, or wherever else somebody has a [`Source`] for; and perhaps,
//! since a moment ago, in a file here ([`Nearby`]).

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::oci::Blob;
use crate::oci::remote::Remote;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What has a layer as it is stored. Several threads ask it at once.
pub trait Source: Send + Sync {
    /// Part of it. Whether these are the right bytes is found out by whoever asks.
    ///
    /// # Errors
    ///
    /// When it cannot be had now. It may be asked again later.
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// What to call it in messages.
    fn shown(&self) -> String;

    /// Told that what it gave turned out wrong. If there is somebody else who may have it, he is asked from now on.
    fn doubt(&self) {}

    /// Whether all of it can be had without asking anybody. That may come to be so while it is served; a server that serves as
    /// long as it is used gets all of it then.
    fn is_near(&self) -> bool {
        false
    }

    /// Part of the plain tar, if it has that, too. Whether these are the right bytes is found out by whoever asks.
    fn plain(&self, _range: Range<u64>) -> Option<Vec<u8>> {
        None
    }
}

/// A layer of an image in a registry.
pub struct InRegistry {
    /// The image.
    pub image: Arc<Remote>,
    /// The sha256 of the layer as it is stored.
    pub digest: Digest,
}

impl Source for InRegistry {
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let found = self.image.range(self.digest, range);
        found.map_err(|error| io::Error::new(kind_of(&error), error))
    }

    fn shown(&self) -> String {
        format!("sha256:{} of {}", self.digest, self.image.name)
    }

    fn doubt(&self) {
        self.image.doubt();
    }
}

/// The nearest there is to what a registry says.
fn kind_of(error: &Error) -> io::ErrorKind {
    match error.kind() {
        Kind::NotFound => io::ErrorKind::NotFound,
        Kind::Registry => io::ErrorKind::NotConnected,
        _ => io::ErrorKind::Other,
    }
}

/// A layer of an image on disk.
pub struct OnDisk(pub Blob);

impl Source for OnDisk {
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.0.range(range)
    }

    fn shown(&self) -> String {
        self.0.shown().display().to_string()
    }
}

/// A layer that somebody may put into a directory here while it is served, as it is stored or as a plain tar. What is in the
/// directory is called after its sha256, and was compared with that by whoever put it there.
pub struct Nearby {
    stored: PathBuf,
    plain: PathBuf,
    far: Arc<dyn Source>,
}

impl Nearby {
    /// A layer that has a source until then. `digest` is the sha256 of what is stored, `diff_id` that of the plain tar.
    pub fn new(directory: &Path, digest: Digest, diff_id: Digest, far: Arc<dyn Source>) -> Self {
        Nearby {
            stored: directory.join(digest.to_string()),
            plain: directory.join(diff_id.to_string()),
            far,
        }
    }
}

fn part_of(path: &Path, range: &Range<u64>) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let len = range.end.checked_sub(range.start)?;
    // It may not have as much, and nobody is to believe that.
    if range.end > file.metadata().ok()?.len() {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.read_exact_at(&mut bytes, range.start).ok()?;
    Some(bytes)
}

impl Source for Nearby {
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        match part_of(&self.stored, &range) {
            Some(bytes) => Ok(bytes),
            None => self.far.range(range),
        }
    }

    fn shown(&self) -> String {
        self.far.shown()
    }

    fn doubt(&self) {
        self.far.doubt();
    }

    fn is_near(&self) -> bool {
        self.stored.exists() || self.plain.exists()
    }

    fn plain(&self, range: Range<u64>) -> Option<Vec<u8>> {
        part_of(&self.plain, &range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Far;

    impl Source for Far {
        fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
            Ok(vec![b'f'; (range.end - range.start) as usize])
        }

        fn shown(&self) -> String {
            "far away".into()
        }
    }

    #[test]
    fn what_came_to_be_here_is_read_here() {
        let directory = std::env::temp_dir().join(format!("ferofs-nearby-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        let (digest, diff_id) = (Digest::of(b"stored"), Digest::of(b"plain"));
        let source = Nearby::new(&directory, digest, diff_id, Arc::new(Far));
        let asked = |range: Range<u64>| (source.range(range.clone()).unwrap(), source.plain(range));
        assert!(!source.is_near());
        assert_eq!(asked(1..4), (b"fff".to_vec(), None));
        fs::write(directory.join(diff_id.to_string()), "plain").unwrap();
        assert!(source.is_near());
        assert_eq!(asked(1..4), (b"fff".to_vec(), Some(b"lai".to_vec())));
        fs::remove_file(directory.join(diff_id.to_string())).unwrap();
        fs::write(directory.join(digest.to_string()), "stored").unwrap();
        assert!(source.is_near());
        assert_eq!(asked(1..4), (b"tor".to_vec(), None));
        // It has not as much.
        assert_eq!(asked(3..7), (b"ffff".to_vec(), None));
        fs::remove_dir_all(&directory).unwrap();
        assert!(!source.is_near());
        assert_eq!(asked(0..1), (b"f".to_vec(), None));
    }
}
