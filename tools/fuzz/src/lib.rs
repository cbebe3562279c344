// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the fuzz targets share: images made in memory and checked, checksums put right so that a
//! fuzzer gets behind them.

use ferofs::build::apply_archive;
use ferofs::image;
use ferofs::image::Device;
use ferofs::image::Options;
use ferofs::image::Source;
use ferofs::image::source::Blobs;
use ferofs::inspect::Image;
use ferofs::inspect::check::Problem;
use ferofs::inspect::check::check;
use ferofs::tar::FileInput;
use ferofs::tar::Input;
use ferofs::tar::Totals;
use ferofs::tree::Tree;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use wrong_image::Limited;
use wrong_image::seal_superblock;

#[path = "../../../rust/erofs/tests/format/walk.rs"]
#[allow(missing_docs)]
pub mod walk;

#[path = "../../ferofs/tests/common/wrong_image.rs"]
#[allow(missing_docs)]
mod wrong_image;

/// Images larger than this are not made: a short archive may describe gigabytes of holes.
const LARGEST: usize = 1 << 20;

/// What ends a document or a layer in an input of the target `layout`.
pub const END: u8 = 0x1e;

/// The block of a header, and what is where in it.
const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const MAGIC: std::ops::Range<usize> = 257..262;

/// An archive whose headers all have right checksums. Which blocks are headers is seen by their
/// magic.
pub struct Sealed<'a> {
    input: FileInput<&'a [u8]>,
    block: [u8; BLOCK],
}

impl<'a> Sealed<'a> {
    /// Reads from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Sealed {
            input: FileInput::new(bytes, bytes.len() as u64),
            block: [0; BLOCK],
        }
    }
}

impl Input for Sealed<'_> {
    fn bytes(&mut self, pos: u64, len: usize) -> io::Result<&[u8]> {
        let bytes = self.input.bytes(pos, len)?;
        if bytes.len() != BLOCK || bytes.get(MAGIC) != Some(b"ustar") {
            return Ok(bytes);
        }
        self.block.copy_from_slice(bytes);
        self.block[CHECKSUM].fill(b' ');
        let sum: u32 = self.block.iter().map(|byte| u32::from(*byte)).sum();
        self.block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(&self.block)
    }

    fn size(&self) -> Option<u64> {
        self.input.size()
    }

    fn finish(&mut self) -> io::Result<Totals> {
        self.input.finish()
    }
}

/// Writes a tree as an image, if that is possible and the image not large; it must be sound, but for
/// `known` problems.
pub fn write_and_check(
    tree: &Tree,
    options: &Options,
    source: &dyn Source,
    known: fn(&Problem) -> bool,
) -> Option<Vec<u8>> {
    let mut out = Limited::new(LARGEST);
    image::write(tree, options, source, &mut out).ok()?;
    let bytes = out.image.into_inner();
    let image = open(bytes.clone()).expect("an image just written can be opened");
    let sizes: Vec<u64> = options.devices.iter().map(|device| device.size).collect();
    let report = check(&image, &sizes, &mut |_| {}).expect("memory can be read");
    let mut problems = report.problems;
    problems.retain(|problem| !known(problem));
    assert_eq!(problems, []);
    Some(bytes)
}

/// Indexes an archive, if it is one.
pub fn index(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut tree = Tree::new();
    let archive = apply_archive(Sealed::new(bytes), &mut tree, 0, &mut ()).ok()?;
    let options = Options::default().with_devices(vec![Device::new(archive.totals.size)]);
    write_and_check(&tree, &options, &Blobs(vec![bytes.to_vec()]), |_| false)
}

/// Puts the checksums of all headers right: the same as [`Sealed`], but at once.
pub fn seal_headers(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK) {
        if block.get(MAGIC) == Some(b"ustar") {
            block[CHECKSUM].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

/// Two images, and four bytes in front that say where the second begins.
pub fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (at, both) = bytes.split_first_chunk::<4>()?;
    both.split_at_checked(u32::from_le_bytes(*at) as usize)
}

/// A directory for what cannot be had in memory, gone when this is dropped. Where there is one, it is on a filesystem
/// in memory.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes it.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let above = match memory.is_dir() {
            true => memory.to_path_buf(),
            false => std::env::temp_dir(),
        };
        let path = above.join(format!("ferofs-fuzz-{}", std::process::id()));
        // Of a process before that had the same number and was killed.
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).expect("a directory can be made");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("what was made can be removed");
    }
}

/// Opens what may be an image, after its superblock's checksum was put right.
pub fn open(mut bytes: Vec<u8>) -> Option<Image> {
    seal_superblock(&mut bytes);
    Image::new(Path::new("fuzzed"), Box::new(bytes)).ok()
}
