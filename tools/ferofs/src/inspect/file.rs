// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An image's bytes and those of its devices, in pieces that are kept for a while; and which file an address means.

use super::encoded::Spaces;
use crate::read_at::ReadAt;
use erofs_format::DeviceSlot;
use erofs_format::Metadata;
use erofs_format::Space;
use erofs_format::Superblock;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Size of a piece: a multiple of every block size.
const PIECE: u64 = 64 << 10;
/// Pieces that are kept, each in the place that its number gives it: 8 MiB.
const PLACES: usize = 128;

/// A piece by the device that it is of and its number.
type Kept = (u16, u64, Arc<[u8]>);

/// A device slot.
struct Device {
    /// Where the device begins in the image's flat addresses, in bytes; 0 if it has no such address.
    flat_start: u64,
    /// Its length in bytes, as the image says.
    len: u64,
    /// Its bytes, if they were given.
    bytes: Option<Arc<dyn ReadAt>>,
}

/// Where an address of an extent leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// 0 for the image, n for what was given for slot n - 1.
    pub file: u16,
    /// The position there.
    pub pos: u64,
    /// How many bytes lie together, at most.
    pub len: u64,
}

/// A device that was not given, but has what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotGiven(pub u16);

impl fmt::Display for NotGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is in device {}, which is not given", self.0)
    }
}

impl std::error::Error for NotGiven {}

/// The bytes of an image, and of its devices as far as they were given.
pub struct ImageFile {
    bytes: Arc<dyn ReadAt>,
    size: u64,
    devices: Mutex<Vec<Device>>,
    pieces: Mutex<Vec<Option<Kept>>>,
    /// What inodes hold that are read as spaces.
    pub(super) spaces: Spaces,
}

impl ImageFile {
    /// Reads through `bytes`.
    ///
    /// # Errors
    ///
    /// When their number cannot be had.
    pub fn new(bytes: Box<dyn ReadAt>) -> io::Result<Self> {
        Ok(ImageFile {
            size: bytes.size()?,
            bytes: bytes.into(),
            devices: Mutex::default(),
            pieces: Mutex::new(vec![None; PLACES]),
            spaces: Spaces::default(),
        })
    }

    /// The bytes, for somebody who needs them longer than the image.
    pub fn share(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.bytes)
    }

    /// Fills `buf` with the bytes from `pos` on, without keeping them.
    ///
    /// # Errors
    ///
    /// Those of reading, and when there are fewer bytes.
    pub fn read_exact_at(&self, buf: &mut [u8], pos: u64) -> io::Result<()> {
        self.bytes.read_exact_at(buf, pos)
    }

    fn devices(&self) -> MutexGuard<'_, Vec<Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pieces(&self) -> MutexGuard<'_, Vec<Option<Kept>>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says by what superblock the inodes are found that are read as spaces.
    pub(super) fn set_superblock(&self, superblock: &Superblock) {
        self.spaces.set_superblock(*superblock);
    }

    /// Says what device slots the image has, in blocks of so many bytes.
    pub(super) fn set_slots(&self, slots: &[DeviceSlot], block: u64) {
        let devices = slots.iter().map(|slot| Device {
            flat_start: slot.uniaddr.saturating_mul(block),
            len: slot.blocks.saturating_mul(block),
            bytes: None,
        });
        *self.devices() = devices.collect();
    }

    /// Gives bytes for the slots, in their order; or none for any.
    pub(super) fn give(&self, given: impl IntoIterator<Item = Arc<dyn ReadAt>>) {
        let mut given = given.into_iter();
        for device in self.devices().iter_mut() {
            device.bytes = given.next();
        }
        self.pieces().fill(None);
        self.spaces.forget();
    }

    /// The device that has its place behind the image where an address of device 0 is, if it is neither given nor in the same
    /// file: its number, and the position in it.
    pub(super) fn flat_elsewhere(&self, pos: u64) -> Option<(u16, u64)> {
        self.flat_device(pos).filter(|_| pos >= self.size)
    }

    /// The device that has its place behind the image where an address of device 0 is, if it is not given: its number, and the
    /// position in it.
    pub(super) fn flat_device(&self, pos: u64) -> Option<(u16, u64)> {
        self.find_device(pos, false)
    }

    /// The device that has its place behind the image where an address of device 0 is, given or not: its number, and the position
    /// in it.
    pub fn device_at(&self, pos: u64) -> Option<(u16, u64)> {
        self.find_device(pos, true)
    }

    /// The first device that has its place there, also among those that are given or not.
    fn find_device(&self, pos: u64, also_given: bool) -> Option<(u16, u64)> {
        let devices = self.devices();
        let mut found = (1..).zip(devices.iter()).filter_map(|(id, device)| {
            let offset = pos.checked_sub(device.flat_start)?;
            let counts = device.flat_start > 0 && (also_given || device.bytes.is_none());
            (counts && offset < device.len).then_some((id, offset))
        });
        found.next()
    }

    /// Whether bytes were given for the device with a number, which is not 0.
    pub(super) fn is_given(&self, id: u16) -> bool {
        let index = usize::from(id).checked_sub(1);
        let devices = self.devices();
        index
            .and_then(|index| devices.get(index))
            .is_some_and(|device| device.bytes.is_some())
    }

    /// Where byte `pos` of device `id` is. None if that was not given.
    pub fn locate(&self, id: u16, pos: u64) -> Option<Located> {
        let devices = self.devices();
        let image = |pos, len| Some(Located { file: 0, pos, len });
        if let Some(index) = usize::from(id).checked_sub(1) {
            let device = devices.get(index)?;
            let flat = device.flat_start > 0 && device.flat_start < self.size;
            return match device.bytes {
                Some(_) => Some(Located {
                    file: id,
                    pos,
                    len: u64::MAX,
                }),
                // Behind the image, in the same file: so are all or none.
                None if flat && devices.iter().all(|device| device.bytes.is_none()) => {
                    image(device.flat_start.saturating_add(pos), u64::MAX)
                }
                None => None,
            };
        }
        let mut len = u64::MAX;
        for (id, device) in (1..).zip(devices.iter()) {
            if device.bytes.is_none() || device.flat_start == 0 {
                continue;
            }
            match pos.checked_sub(device.flat_start) {
                Some(offset) if offset < device.len => {
                    return Some(Located {
                        file: id,
                        pos: offset,
                        len: device.len - offset,
                    });
                }
                Some(_) => {}
                None => len = len.min(device.flat_start - pos),
            }
        }
        image(pos, len)
    }

    /// Some bytes of the image, or of the device that has this number.
    fn some(&self, file: u16, pos: u64) -> io::Result<Bytes> {
        Ok(Bytes {
            piece: self.piece(file, pos / PIECE)?,
            start: (pos % PIECE) as usize,
            len: usize::MAX,
        })
    }

    fn piece(&self, file: u16, number: u64) -> io::Result<Arc<[u8]>> {
        let index = (number.wrapping_add(u64::from(file)) % PLACES as u64) as usize;
        if let Some(Some((of, kept, piece))) = self.pieces().get(index) {
            if (*of, *kept) == (file, number) {
                return Ok(Arc::clone(piece));
            }
        }
        let (bytes, size) = match usize::from(file).checked_sub(1) {
            None => (Arc::clone(&self.bytes), self.size),
            Some(index) => {
                let given = self
                    .devices()
                    .get(index)
                    .and_then(|device| device.bytes.clone());
                let bytes = given.ok_or_else(|| io::Error::other(NotGiven(file)))?;
                let size = bytes.size()?;
                (bytes, size)
            }
        };
        let start = number.saturating_mul(PIECE);
        let mut buffer = vec![0; size.saturating_sub(start).min(PIECE) as usize];
        let filled = bytes.read_full_at(&mut buffer, start)?;
        buffer.truncate(filled);
        let piece: Arc<[u8]> = buffer.into();
        if let Some(place) = self.pieces().get_mut(index) {
            *place = Some((file, number, Arc::clone(&piece)));
        }
        Ok(piece)
    }
}

/// Part of a piece.
pub struct Bytes {
    piece: Arc<[u8]>,
    start: usize,
    /// How many there are, if the piece has so many.
    len: usize,
}

impl Bytes {
    /// Those of a piece from `start` on, `len` of them or as many as there are.
    pub(super) fn new(piece: Arc<[u8]>, start: usize, len: usize) -> Self {
        Bytes { piece, start, len }
    }

    /// The first `len` of them, or as many as there are.
    pub(super) fn first(mut self, len: u64) -> Self {
        self.len = self.len.min(usize::try_from(len).unwrap_or(usize::MAX));
        self
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.piece.get(self.start..).unwrap_or_default();
        bytes.get(..self.len).unwrap_or(bytes)
    }
}

impl Metadata for ImageFile {
    type Error = io::Error;
    type Bytes<'a> = Bytes;

    fn bytes(&self, space: Space, pos: u64) -> io::Result<Bytes> {
        let id = match space {
            Space::Image => return self.some(0, pos),
            Space::Inode(nid) => return self.inode_bytes(nid, pos),
            Space::Device(id) => id,
        };
        let Some(located) = self.locate(id, pos) else {
            return Err(io::Error::other(NotGiven(id)));
        };
        let mut bytes = self.some(located.file, located.pos)?;
        bytes.len = usize::try_from(located.len).unwrap_or(usize::MAX);
        Ok(bytes)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(blocks: u64, uniaddr: u64) -> DeviceSlot {
        DeviceSlot {
            tag: [0; 64],
            blocks,
            uniaddr,
        }
    }

    /// An image of 10 blocks of 512 bytes, and slots with and without flat addresses, in it and behind it.
    fn image() -> ImageFile {
        let image = ImageFile::new(Box::new(vec![0u8; 5120])).unwrap();
        image.set_slots(&[slot(4, 20), slot(4, 0), slot(2, 8)], 512);
        image
    }

    fn locate(image: &ImageFile, id: u16, pos: u64) -> Option<(u16, u64, u64)> {
        let found = image.locate(id, pos)?;
        Some((found.file, found.pos, found.len))
    }

    #[test]
    fn without_files_devices_lie_behind_the_image() {
        let image = image();
        assert_eq!(locate(&image, 0, 700), Some((0, 700, u64::MAX)));
        assert_eq!(locate(&image, 0, 20 * 512), Some((0, 20 * 512, u64::MAX)));
        // Behind the end of the file, without an address, within it, no slot.
        assert_eq!(locate(&image, 1, 0), None);
        assert_eq!(locate(&image, 2, 0), None);
        assert_eq!(locate(&image, 3, 700), Some((0, 8 * 512 + 700, u64::MAX)));
        assert_eq!(locate(&image, 4, 0), None);
        assert!(image.bytes(Space::Device(1), 0).is_err());
    }

    #[test]
    fn a_device_that_is_not_given_is_known_by_its_place() {
        let image = image();
        // In the image there is something, whatever it is.
        assert_eq!(image.flat_elsewhere(9 * 512), None);
        assert_eq!(image.flat_elsewhere(20 * 512 - 1), None);
        assert_eq!(image.flat_elsewhere(20 * 512 + 7), Some((1, 7)));
        assert_eq!(image.flat_elsewhere(24 * 512), None);
        image.give([Arc::new(vec![0u8; 512]) as Arc<dyn ReadAt>]);
        assert_eq!(image.flat_elsewhere(20 * 512 + 7), None);
    }

    #[test]
    fn with_files_flat_addresses_mean_them() {
        let image = image();
        let file = |byte: u8| Arc::new(vec![byte; 2048]) as Arc<dyn ReadAt>;
        image.give([file(1), file(2), file(3)]);
        assert_eq!(locate(&image, 1, 5), Some((1, 5, u64::MAX)));
        assert_eq!(locate(&image, 2, 5), Some((2, 5, u64::MAX)));
        assert_eq!(locate(&image, 4, 5), None);
        let cases = [
            // Up to where the third device begins, in it, between it and the first, in that, and behind it.
            (0, (0, 0, 8 * 512)),
            (8 * 512 - 1, (0, 8 * 512 - 1, 1)),
            (8 * 512, (3, 0, 1024)),
            (10 * 512 - 1, (3, 1023, 1)),
            (10 * 512, (0, 10 * 512, 10 * 512)),
            (20 * 512 + 7, (1, 7, 2048 - 7)),
            (24 * 512, (0, 24 * 512, u64::MAX)),
        ];
        for (pos, expected) in cases {
            assert_eq!(locate(&image, 0, pos), Some(expected), "at {pos}");
        }
        // As many bytes as lie together, and from the right file.
        assert_eq!(
            image.bytes(Space::Device(0), 8 * 512 - 3).unwrap()[..],
            [0; 3]
        );
        assert_eq!(
            image.bytes(Space::Device(0), 10 * 512 - 3).unwrap()[..],
            [3; 3]
        );
        assert_eq!(image.bytes(Space::Device(2), 2046).unwrap()[..], [2; 2]);
        assert!(image.bytes(Space::Device(2), 2048).unwrap().is_empty());
        assert!(image.bytes(Space::Device(9), 0).is_err());
        // Given no more, they are not remembered.
        image.give([]);
        assert!(image.bytes(Space::Device(2), 2046).is_err());
    }
}
