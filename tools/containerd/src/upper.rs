// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is written to a snapshot: overlayfs's upper directory. It looks like the root directory below it, has a size,
//! and becomes an image when it is committed. Called by [`crate::snapshotter`].

use crate::problem::Problem;
use crate::problem::Result;
use ferofs::digest::Background;
use ferofs::digest::Digest;
use ferofs::error::Error;
use ferofs::image;
use ferofs::image::Mode;
use ferofs::image::Options;
use ferofs::image::source::Directory;
use ferofs::output::Output;
use ferofs::tree::scan::scan;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// Gives an upper directory the owner, mode and time of the root directory below: it is what is seen of both.
///
/// # Errors
///
/// When they cannot be had or set.
pub fn look_like(upper: &Path, below: &Path) -> Result<()> {
    let set = || ferofs::mount::look_like(fs::File::open(upper)?, fs::File::open(below)?);
    set().map_err(Problem::io("set the attributes of", upper))
}

/// What a directory takes on disk: bytes and inodes.
///
/// # Errors
///
/// When something in it cannot be looked at.
pub fn usage(path: &Path) -> Result<(u64, u64)> {
    let (mut bytes, mut inodes) = (0_u64, 0);
    let mut seen = HashSet::new();
    let mut left = vec![path.to_path_buf()];
    while let Some(path) = left.pop() {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            // Somebody is at work here.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Problem::io("look at", &path)(error)),
        };
        if found.nlink() > 1 && !found.is_dir() && !seen.insert((found.dev(), found.ino())) {
            continue;
        }
        bytes = bytes.saturating_add(found.blocks().saturating_mul(512));
        inodes += 1;
        if found.is_dir() {
            let entries = fs::read_dir(&path).map_err(Problem::io("read", &path))?;
            for entry in entries {
                left.push(entry.map_err(Problem::io("read", &path))?.path());
            }
        }
    }
    Ok((bytes, inodes))
}

/// An image of an upper directory, which has no name yet.
pub struct Imaged {
    /// Its sha256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Inodes in it.
    pub inodes: u64,
    output: Output,
    directory: PathBuf,
}

impl Imaged {
    /// Gives it its name, once it is on disk.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn keep(mut self) -> Result<()> {
        let name = format!("{}.erofs", self.digest);
        self.output.call(&self.directory.join(name));
        Ok(self.output.finish()?)
    }
}

/// Makes an image of an upper directory, for a directory of layers.
///
/// # Errors
///
/// When something in it cannot be read, changes meanwhile, or the image cannot be written.
pub fn image(upper: &Path, layers: &Path) -> Result<Imaged> {
    let tree = scan(upper, &mut |_| {})?;
    let mut options = Options::default();
    options.mode = Mode::Full;
    options.block_bits = 12;
    let path = layers.join("upper.erofs");
    let output = Output::create_unnamed(&path)?;
    let source = Directory::new(upper.to_path_buf());
    let summary = image::write_file(&tree, &options, &source, output.file())
        .map_err(Error::image(&path))
        .map_err(|error| error.below(upper))?;
    let digest = Background::spawn(output.reader()?)
        .wait(|_| {})
        .map_err(Problem::io("read", &path))?;
    Ok(Imaged {
        digest,
        size: summary.size,
        inodes: summary.inodes,
        output,
        directory: layers.to_path_buf(),
    })
}
