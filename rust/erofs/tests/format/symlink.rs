// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Targets of symbolic links, wherever they are stored.

use crate::image::*;
use erofs_format::ondisk::*;
use erofs_format::Space;
use zerocopy::IntoBytes;

type Target = Result<Vec<u8>, erofs_format::Error<std::convert::Infallible>>;

/// Reads the link at [`FREE`] into a buffer of `len` bytes.
fn read(image: &Image, len: usize) -> Target {
    read_from(image.finish(), len)
}

fn read_from(image: Blocks, len: usize) -> Target {
    let (sb, inode) = image.inode(FREE);
    let mut buf = vec![0xff; len];
    let len = inode.read_link(&sb, &image, &mut buf)?;
    buf.truncate(len);
    Ok(buf)
}

#[test]
fn inline() {
    let mut image = Image::new(12);
    image.inline_file(FREE, mode::SYMLINK | 0o777, b"../target");
    assert_eq!(read(&image, 9).unwrap(), b"../target");
    assert_eq!(read(&image, 4096).unwrap(), b"../target");
    // Like readlink(2), it cuts what does not fit.
    assert_eq!(read(&image, 4).unwrap(), b"../t");
    assert_eq!(read(&image, 0).unwrap(), b"");
}

#[test]
fn in_blocks() {
    let target: Vec<u8> = (0..4095u32).map(|i| b'a' + (i % 26) as u8).collect();
    let mut image = Image::new(9);
    let inode = InodeCompact {
        i_size: 4095.into(),
        i_u: 64.into(),
        ..compact(mode::SYMLINK, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    image.put(64 << 9, &target);
    assert_eq!(read(&image, 4095).unwrap(), target);
}

#[test]
fn in_blocks_and_inline() {
    let mut image = Image::new(9);
    let inode = InodeCompact {
        i_size: 520.into(),
        i_u: 64.into(),
        ..compact(mode::SYMLINK, layout::FLAT_INLINE)
    };
    image.put_inode(FREE, &inode);
    image.put(64 << 9, &[b'x'; 512]);
    image.put(FREE * 32 + 32, b"and more");
    let target = read(&image, 4095).unwrap();
    assert_eq!(&target[..512], [b'x'; 512]);
    assert_eq!(&target[512..], b"and more");
}

#[test]
fn in_chunks() {
    let mut image = Image::new(9);
    let inode = InodeCompact {
        i_size: 700.into(),
        ..compact(mode::SYMLINK, layout::CHUNK_BASED)
    };
    image.put_inode(FREE, &inode);
    image.put(FREE * 32 + 32, [70u32, 66].as_bytes());
    image.put(70 << 9, &[b'x'; 512]);
    image.put(66 << 9, &[b'y'; 512]);
    let target = read(&image, 4095).unwrap();
    assert_eq!(&target[..512], [b'x'; 512]);
    assert_eq!(&target[512..], [b'y'; 188]);
}

#[test]
fn in_devices() {
    let mut image = Image::new(9);
    image.superblock.feature_incompat = incompat::DEVICE_TABLE.into();
    image.superblock.extra_devices = 2.into();
    let devices = |image: &Image| {
        let [one, two] = [b'1', b'2'].map(|byte| [[byte; 512], [byte + 2; 512]].concat());
        image
            .finish()
            .with_device(0, one)
            .with_device(1000 << 9, two)
    };
    // Chunks of two devices and of the image, one behind the other.
    let inode = InodeCompact {
        i_size: 1536.into(),
        i_u: u32::from(chunk::INDEXES).into(),
        ..compact(mode::SYMLINK, layout::CHUNK_BASED)
    };
    image.put_inode(FREE, &inode);
    let indexes = [(1, 1u32), (2, 0), (0, 70)].map(|(id, block)| ChunkIndex {
        startblk_hi: 0.into(),
        device_id: u16::into(id),
        startblk_lo: block.into(),
    });
    image.put(FREE * 32 + 32, indexes.as_bytes());
    image.put(70 << 9, &[b'i'; 512]);
    let target = read_from(devices(&image), 4095).unwrap();
    assert_eq!(target, [[b'3'; 512], [b'2'; 512], [b'i'; 512]].concat());

    // A flat address, behind which there is no more; and one right before it, in the image.
    let plain = |block: u32, size: u32| InodeCompact {
        i_size: size.into(),
        i_u: block.into(),
        ..compact(mode::SYMLINK, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &plain(1000, 700));
    let target = read_from(devices(&image), 4095).unwrap();
    assert_eq!(target, [&[b'2'; 512][..], &[b'4'; 188]].concat());
    image.put_inode(FREE, &plain(1001, 700));
    let (what, at) = ("ends beyond its device", 1001 << 9);
    assert_corrupt_in(read_from(devices(&image), 4095), what, Space::Device(0), at);
}

#[test]
fn corrupt() {
    let at = FREE * 32;
    let mut image = Image::new(9);
    image.inline_file(FREE, mode::SYMLINK, b"with\0nul");
    assert_corrupt(read(&image, 4095), "holds a NUL", at);

    let plain = |block: u32| InodeCompact {
        i_size: 1000.into(),
        i_u: block.into(),
        ..compact(mode::SYMLINK, layout::FLAT_PLAIN)
    };
    image.put(127 << 9, &[b'x'; 512]);
    image.put_inode(FREE, &plain(127));
    let beyond = |image: &Image, space, at| {
        assert_corrupt_in(read(image, 4095), "ends beyond its device", space, at);
    };
    beyond(&image, Space::Device(0), 127 << 9);
    image.put_inode(FREE, &plain(4000));
    beyond(&image, Space::Device(0), 4000 << 9);
    image.put_inode(FREE, &plain(u32::MAX));
    assert_corrupt(read(&image, 4095), "has a hole", at);

    let inode = InodeCompact {
        i_size: 100.into(),
        i_u: u32::from(chunk::INDEXES).into(),
        ..compact(mode::SYMLINK, layout::CHUNK_BASED)
    };
    image.superblock.feature_incompat = incompat::DEVICE_TABLE.into();
    image.superblock.extra_devices = 1.into();
    image.put_inode(FREE, &inode);
    let index = ChunkIndex {
        startblk_hi: 0.into(),
        device_id: 1.into(),
        startblk_lo: 1.into(),
    };
    image.put(at + 32, index.as_bytes());
    // There is no such device to be read.
    beyond(&image, Space::Device(1), 512);
}

#[test]
fn only_links_are_read() {
    let mut image = Image::new(9);
    image.inline_file(FREE, mode::REGULAR, b"data");
    assert_eq!(read(&image, 10).unwrap(), b"");
}
