// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the fuzz targets share: images made in memory and checked, checksums put right so that a
//! fuzzer gets behind them.

use ferofs::build::apply_archive;
use ferofs::image;
use ferofs::image::Device;
use ferofs::image::Options;
use ferofs::image::Source;
use ferofs::image::source::Nothing;
use ferofs::inspect::Image;
use ferofs::inspect::check::Problem;
use ferofs::inspect::check::check;
use ferofs::tar::FileInput;
use ferofs::tar::Input;
use ferofs::tar::Totals;
use ferofs::tree::Tree;
use std::io;
use std::io::Cursor;
use std::io::ErrorKind;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;

#[path = "../../../rust/erofs/tests/format/walk.rs"]
#[allow(missing_docs)]
pub mod walk;

/// Images larger than this are not made: a short archive may describe gigabytes of holes.
const LARGEST: usize = 1 << 20;

/// The block of a header, and what is where in it.
const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const MAGIC: std::ops::Range<usize> = 257..262;

/// Where the superblock is, and its checksum in it.
const SUPERBLOCK: usize = 1024;

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

/// A place for an image that is full before it is large.
struct Limited(Cursor<Vec<u8>>);

impl Write for Limited {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.0.get_ref().len() + buf.len() > LARGEST {
            return Err(ErrorKind::StorageFull.into());
        }
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
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
    let mut out = Limited(Cursor::new(Vec::new()));
    image::write(tree, options, source, &mut out).ok()?;
    let bytes = out.0.into_inner();
    let image = open(bytes.clone()).expect("an image just written can be opened");
    let sizes: Vec<u64> = options.devices.iter().map(|device| device.size).collect();
    let report = check(&image, &sizes, &mut |_| {}).expect("memory can be read");
    let mut problems = report.problems;
    problems.retain(|problem| !known(problem));
    assert_eq!(problems, []);
    Some(bytes)
}

/// Indexes an archive, if it is one.
pub fn index(archive: &[u8]) -> Option<Vec<u8>> {
    let mut tree = Tree::new();
    let archive = apply_archive(Sealed::new(archive), &mut tree, 0, &mut ()).ok()?;
    let options = Options {
        devices: vec![Device {
            size: archive.totals.size,
            digest: None,
        }],
        ..Options::default()
    };
    write_and_check(&tree, &options, &Nothing, |_| false)
}

/// Opens what may be an image, after its superblock's checksum was put right.
pub fn open(mut bytes: Vec<u8>) -> Option<Image> {
    let bits = bytes.get(SUPERBLOCK + 12).copied().unwrap_or_default();
    let size = erofs_format::superblock_checksum_size(bits % 16) as usize;
    let end = (SUPERBLOCK + size).min(bytes.len());
    if let Some(covered) = bytes.get(SUPERBLOCK..end) {
        let sum = erofs_format::superblock_checksum(covered);
        if let Some(field) = bytes.get_mut(SUPERBLOCK + 4..SUPERBLOCK + 8) {
            field.copy_from_slice(&sum.to_le_bytes());
        }
    }
    Image::new(Path::new("fuzzed"), Box::new(bytes)).ok()
}
