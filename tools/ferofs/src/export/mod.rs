// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An image and its blobs as one: a flat file that mounts without `device=`, as a file or as a block device, or a VMDK descriptor
//! that makes a disk of the files as they are. Called by `ferofs export`.
//!
//! An image says where each of its devices is if all of them lie behind it in one file. Where that can be, they
//! are put there, and the image stays byte for byte what it is; else the device table gets other addresses. The file ends with a
//! whole block of 4,096 bytes, for loop devices, dm-verity and page caches.

mod vmdk;

use crate::blobs;
use crate::error::Error;
use crate::error::ImageError;
use crate::error::Kind;
use crate::error::Result;
use crate::inspect::Image;
use crate::output::Inputs;
use crate::read_at::ReadAt;
use crate::text::Shown;
use erofs_format::DeviceSlot;
use erofs_format::ondisk;
use erofs_format::superblock_checksum;
use erofs_format::superblock_checksum_size;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use vmdk::Extent;
use vmdk::SECTOR;

/// What a flat file is whole blocks of.
pub const PADDED: u64 = 4096;
/// So much is copied at once.
const PIECE: u64 = 64 << 20;
/// The same where all of it goes through memory.
const BUFFER: usize = 1 << 20;

/// Something of which the flat file has a part.
struct Part {
    path: PathBuf,
    file: File,
    /// How much of it, from its beginning on.
    len: u64,
    /// Where in the flat file.
    start: u64,
}

/// An image and its blobs, and where each would be in one file.
pub struct Export {
    /// The image first; the others in the order of their addresses.
    parts: Vec<Part>,
    /// Bytes of the image that are others in the flat file, and where.
    changed: Vec<(u64, Vec<u8>)>,
    /// Whether the changed image needs a new checksum, and of how many bytes.
    checksum: Option<u64>,
    block: u32,
    id: u32,
    end: u64,
}

impl Export {
    /// Opens an image and its blobs: see [`blobs::assign`]. If none are given, they must be behind the image in the same file.
    /// Tars are compared with what the image knows of their headers.
    ///
    /// # Errors
    ///
    /// When one cannot be opened or is another one, there are too few or too many, or they do not fit into the addresses that
    /// the image can have.
    pub fn open(path: &Path, given: &[PathBuf], directories: &[PathBuf]) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let same = file.try_clone().map_err(Error::io("open", path))?;
        let image = Image::new(path, Box::new(same))?;
        let slots = image.devices()?;
        let blobs = blobs::assign(path, &slots, given, directories)?;
        if blobs.is_empty() {
            if let Some(device) = image.device_elsewhere()? {
                let path = Shown(path);
                return Err(Error::of(
                    Kind::NotFound,
                    format!(
                        "{path}: device {device} is not behind it in the same file, and not given"
                    ),
                ));
            }
            image.check_behind()?;
        }
        let mut layout = Layout::new(&image, file, !blobs.is_empty())?;
        let headers = image.header_digests()?;
        for (number, ((slot, blob), headers)) in (1..).zip(slots.iter().zip(blobs).zip(headers)) {
            let file = File::open(&blob.path).map_err(Error::io("open", &blob.path))?;
            blobs::check_headers(path, number, headers, &blob.path, &file)?;
            layout.add(number, slot, blob.path, file)?;
        }
        layout.finish()
    }

    /// How large the flat file is.
    pub fn size(&self) -> u64 {
        self.end.next_multiple_of(PADDED)
    }

    /// Size of the image's blocks.
    pub fn block_size(&self) -> u32 {
        self.block
    }

    /// The files that all of it comes from.
    pub fn inputs(&self) -> Result<Inputs> {
        let mut inputs = Inputs::default();
        for Part { path, file, .. } in &self.parts {
            let metadata = file.metadata().map_err(Error::io("read", path))?;
            inputs.add(path, metadata);
        }
        Ok(inputs)
    }

    /// Writes the flat file, which is called `called` in messages. `progress` is told how many bytes of [`Self::size`] are done.
    /// On filesystems that can, what is at whole blocks is shared with the files it comes from.
    ///
    /// # Errors
    ///
    /// When something cannot be read or written, or becomes shorter meanwhile.
    pub fn write(&self, out: &File, called: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        for part in &self.parts {
            copy(part, out, called, progress)?;
        }
        let failed = || Error::io("write", called);
        for (pos, bytes) in &self.changed {
            out.write_all_at(bytes, *pos).map_err(failed())?;
        }
        if let Some(len) = self.checksum.filter(|_| !self.changed.is_empty()) {
            write_checksum(out, len).map_err(failed())?;
        }
        out.set_len(self.size()).map_err(failed())
    }

    /// The text of a VMDK descriptor in the file `target`, of the files as they are.
    ///
    /// # Errors
    ///
    /// When they cannot be put together without changing one, or be named.
    pub fn vmdk(&self, target: &Path) -> Result<String> {
        let refused = |path: &Path, problem: &str| {
            let path = Shown(path);
            Error::of(
                Kind::Refused,
                format!("{path}: {problem}; a flat image can be made"),
            )
        };
        let Some(image) = self.parts.first() else {
            return vmdk::descriptor(target, &[], self.id);
        };
        if !self.changed.is_empty() {
            let problem = "its device table has no addresses that its devices could have in one disk, and a descriptor \
                           changes nothing";
            return Err(refused(&image.path, problem));
        }
        let mut extents = Vec::new();
        let mut at = 0;
        // What is between two files, or behind the last, nobody reads: any sectors will do.
        let fill = |extents: &mut Vec<Extent>, from: u64, to: u64| {
            let mut left = to - from;
            while left > 0 {
                let len = left.min(image.len / SECTOR * SECTOR);
                let path = image.path.clone();
                extents.push(Extent { path, pos: 0, len });
                left -= len;
            }
        };
        for part in &self.parts {
            if part.len % SECTOR != 0 {
                let problem = format!(
                    "its {} bytes are no whole sectors of {SECTOR}, which is what a descriptor counts in",
                    part.len
                );
                return Err(refused(&part.path, &problem));
            }
            fill(&mut extents, at, part.start);
            let (path, pos, len) = (part.path.clone(), 0, part.len);
            extents.push(Extent { path, pos, len });
            at = part.start + part.len;
        }
        fill(&mut extents, at, self.size());
        vmdk::descriptor(target, &extents, self.id)
    }

    /// The same of a file that is all of the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be named.
    pub fn vmdk_of(&self, file: &Path, len: u64, target: &Path) -> Result<String> {
        let (path, pos) = (file.to_path_buf(), 0);
        vmdk::descriptor(target, &[Extent { path, pos, len }], self.id)
    }
}

/// Where the parts go.
struct Layout<'a> {
    image: &'a Image,
    parts: Vec<Part>,
    /// The addresses of the devices as the image has them, in bytes.
    stated: Vec<u64>,
}

impl<'a> Layout<'a> {
    fn new(image: &'a Image, file: File, has_blobs: bool) -> Result<Self> {
        let superblock = image.superblock();
        let stated = superblock
            .blocks()
            .saturating_mul(superblock.block_size().into());
        // Blobs that are behind the image already are not there twice, nor what fills up its last page. Nydus counts the blocks
        // of blobs, too.
        let inside = |slot: &DeviceSlot| {
            let start = slot.uniaddr.saturating_mul(superblock.block_size().into());
            start > 0 && start < image.size()
        };
        let is_behind = has_blobs && image.devices()?.iter().any(inside);
        let nydus = superblock.compat() & ondisk::compat::RAFS_V6 != 0;
        let len = match is_behind && !nydus {
            true => image.size().min(stated),
            false => image.size(),
        };
        let part = Part {
            path: image.path().to_path_buf(),
            file,
            len,
            start: 0,
        };
        Ok(Layout {
            image,
            parts: vec![part],
            stated: Vec::new(),
        })
    }

    fn add(&mut self, number: usize, slot: &DeviceSlot, path: PathBuf, file: File) -> Result<()> {
        let block = u64::from(self.image.superblock().block_size());
        let found = file.size().map_err(Error::io("read", &path))?;
        let stated = slot.blocks.saturating_mul(block);
        if stated > found.next_multiple_of(block) {
            return Err(Error::WrongBlob {
                image: self.image.path().to_path_buf(),
                device: number,
                path,
                problem: format!("it has {found} bytes, that one {stated}"),
            });
        }
        // What the image does not know of it, it has no use for.
        let len = if stated == 0 {
            found
        } else {
            found.min(stated)
        };
        self.stated.push(slot.uniaddr.saturating_mul(block));
        let start = 0;
        self.parts.push(Part {
            path,
            file,
            len,
            start,
        });
        Ok(())
    }

    /// Whether all devices can be where the image says.
    fn fits(&self) -> bool {
        let mut ranges: Vec<(u64, u64)> = self
            .parts
            .iter()
            .skip(1)
            .zip(&self.stated)
            .map(|(part, start)| (*start, start.saturating_add(part.len)))
            .collect();
        ranges.sort_unstable();
        let mut end = self.parts.first().map_or(0, |image| image.len);
        ranges.iter().all(|(from, to)| {
            let fits = *from >= end && *from > 0;
            end = *to;
            fits
        }) && self.is_dense(end)
    }

    /// Whether there is hardly more room than what is in it: an address may be anywhere, and nobody wants a file of it.
    fn is_dense(&self, end: u64) -> bool {
        let all: u64 = self.parts.iter().map(|part| part.len).sum();
        let gaps = self.parts.len() as u64 * (1 << 20);
        end <= all.saturating_add(gaps)
    }

    fn finish(mut self) -> Result<Export> {
        let superblock = self.image.superblock();
        let block = superblock.block_size();
        let mut changed = Vec::new();
        if self.fits() {
            for (part, start) in self.parts.iter_mut().skip(1).zip(&self.stated) {
                part.start = *start;
            }
        } else {
            changed = self.place()?;
        }
        let has_checksum = superblock.compat() & ondisk::compat::SB_CHKSUM != 0;
        let checksum = has_checksum.then(|| superblock_checksum_size(superblock.block_bits()));
        let [a, b, c, d, ..] = superblock.uuid();
        let mut parts = self.parts;
        parts.sort_by_key(|part| part.start);
        let ends = parts.iter().map(|part| part.start + part.len);
        let end = ends.max().unwrap_or(0);
        Ok(Export {
            parts,
            changed,
            checksum,
            block,
            id: u32::from_be_bytes([a, b, c, d]),
            end,
        })
    }

    /// Puts the devices one behind the other. Returns what that changes in the image: parts of its device table.
    fn place(&mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        let superblock = self.image.superblock();
        let block = u64::from(superblock.block_size());
        let wide = superblock.incompat() & ondisk::incompat::LAYOUT_48BIT != 0;
        let most: u64 = if wide { 1 << 48 } else { 1 << 32 };
        let mut changed = Vec::new();
        let mut end = self.parts.first().map_or(0, |image| image.len);
        for (index, part) in self.parts.iter_mut().skip(1).enumerate() {
            part.start = end.next_multiple_of(block.max(PADDED));
            let stated = self.stated.get(index).copied().unwrap_or_default();
            if superblock.algorithms() != 0 && stated > 0 && stated != part.start {
                let path = Shown(self.image.path());
                let (number, start) = (index + 1, part.start);
                return Err(Error::of(
                    Kind::Refused,
                    format!(
                        "{path}: device {number} is to be at {stated} in one file with the image, where there is no room \
                         for it, and compressed data is found by that; it would be at {start}"
                    ),
                ));
            }
            end = part.start.saturating_add(part.len);
            let (address, last) = (part.start / block, end.div_ceil(block));
            if last > most {
                let problem = format!(
                    "with all devices it would have {last} blocks of {block} bytes, expected at most {most}"
                );
                return Err(Error::image(self.image.path())(ImageError::Image(problem)));
            }
            let slot = superblock.device_table_pos() + index as u64 * ondisk::DEVICE_SLOT_SIZE;
            let low = std::mem::offset_of!(ondisk::DeviceSlot, uniaddr_lo) as u64;
            changed.push((slot + low, (address as u32).to_le_bytes().to_vec()));
            if wide {
                let high = std::mem::offset_of!(ondisk::DeviceSlot, uniaddr_hi) as u64;
                let address = (address >> 32) as u16;
                changed.push((slot + high, address.to_le_bytes().to_vec()));
            }
        }
        Ok(changed)
    }
}

/// Puts the checksum of its block into a superblock that was changed.
fn write_checksum(out: &File, len: u64) -> io::Result<()> {
    let mut bytes = vec![0; len as usize];
    ReadAt::read_exact_at(out, &mut bytes, ondisk::SUPER_OFFSET)?;
    let at = std::mem::offset_of!(ondisk::Superblock, checksum);
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.fill(0);
    }
    let checksum = superblock_checksum(&bytes).to_le_bytes();
    out.write_all_at(&checksum, ondisk::SUPER_OFFSET + at as u64)
}

/// Copies a part to its place, in the kernel if that can do it.
fn copy(part: &Part, out: &File, called: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let mut done = 0;
    let mut buffer = Vec::new();
    while done < part.len {
        let (mut from, mut to) = (done, part.start + done);
        let left = part.len - done;
        let count = if buffer.is_empty() {
            let len = usize::try_from(left.min(PIECE)).unwrap_or(BUFFER);
            rustix::fs::copy_file_range(&part.file, Some(&mut from), out, Some(&mut to), len)
        } else {
            Ok(0)
        };
        done += match count {
            Ok(0)
            | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                buffer.resize(BUFFER, 0);
                through(part, done, &mut buffer, out, called)?
            }
            Ok(count) => count as u64,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(Error::io("write", called)(errno.into())),
        };
        progress(part.start + done);
    }
    Ok(())
}

/// Copies a piece through memory. Returns how much it was.
fn through(part: &Part, done: u64, buffer: &mut [u8], out: &File, called: &Path) -> Result<u64> {
    let len = buffer
        .len()
        .min(usize::try_from(part.len - done).unwrap_or(BUFFER));
    let piece = buffer.get_mut(..len).unwrap_or_default();
    let failed = Error::io("read", &part.path);
    match part.file.read_full_at(piece, done) {
        Ok(count) if count == len => {}
        Ok(_) => {
            return Err(failed(io::Error::other(
                "it became shorter while it was read",
            )));
        }
        Err(error) => return Err(failed(error)),
    }
    out.write_all_at(piece, part.start + done)
        .map_err(Error::io("write", called))?;
    Ok(len as u64)
}
