// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Inodes: both sizes, every kind, every layout, and what makes one wrong.

use crate::image::*;
use erofs_format::ondisk::*;
use erofs_format::{FileKind, Inode, Layout};

/// Where [`FREE`] is.
const AT: u64 = FREE * 32;

#[test]
fn compact_values() {
    let mut image = Image::new(12);
    let inode = InodeCompact {
        i_nb: 7.into(),
        i_size: 9000.into(),
        i_mtime: 3.into(),
        i_u: 2.into(),
        ..compact(mode::REGULAR | 0o4755, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    let (sb, inode) = image.finish().inode(FREE);
    assert_eq!(inode.nid(), FREE);
    assert_eq!(inode.pos(), AT);
    assert_eq!(inode.mode(), 0o104_755);
    assert_eq!(inode.kind(), FileKind::Regular);
    assert_eq!(inode.size(), 9000);
    assert_eq!(inode.sectors(&sb), 24);
    assert_eq!(inode.nlink(), 7);
    assert_eq!((inode.uid(), inode.gid()), (1000, 100));
    assert_eq!(inode.rdev(), 0);
    assert_eq!(inode.mtime(), 1_700_000_003);
    assert_eq!(inode.mtime_nsec(), 5);
    assert_eq!(inode.disk_ino(), 9);
    assert_eq!(inode.layout(), Layout::Plain { start: 8192 });
    assert_eq!(inode.xattr_size(), 0);
    assert!(!inode.is_extended());
    assert!(!inode.dot_omitted());
}

#[test]
fn extended_values() {
    let mut image = Image::new(9);
    let inode = InodeExtended {
        i_nb: 3.into(),
        i_size: 0x1_0000_0001.into(),
        i_mtime: (-5i64 as u64).into(),
        i_nlink: 0x1_0000.into(),
        ..extended(mode::REGULAR | 0o644, layout::FLAT_PLAIN)
    };
    image.put_inode(FREE, &inode);
    let (sb, inode) = image.finish().inode(FREE);
    assert_eq!(inode.size(), 0x1_0000_0001);
    assert_eq!(inode.sectors(&sb), 0x80_0001);
    assert_eq!(inode.nlink(), 0x1_0000);
    assert_eq!((inode.uid(), inode.gid()), (100_000, 100_001));
    assert_eq!((inode.mtime(), inode.mtime_nsec()), (-5, 123));
    assert_eq!(inode.layout(), Layout::Plain { start: 3 << 41 });
    assert!(inode.is_extended());
}

#[test]
fn extended_inode_in_two_blocks() {
    let nid = 2048 / 32 + 15;
    let mut image = Image::new(9);
    image.put_inode(nid, &extended(mode::FIFO, layout::FLAT_PLAIN));
    let image = image.finish();
    let (_, inode) = image.inode(nid);
    assert_eq!((inode.gid(), inode.mtime_nsec()), (100_001, 123));
    let sb = image.superblock();
    let (_, calls) = image.count_calls(|| sb.inode(&image, nid).unwrap());
    assert!(calls <= 3, "{calls}");
    let (_, calls) = image.count_calls(|| sb.inode(&image, ROOT).unwrap());
    assert_eq!(calls, 1);
}

#[test]
fn one_link_and_a_large_start_block() {
    for (mode, nlink, start) in [
        (mode::REGULAR, 1, ((5 << 32) | 6) << 12),
        (mode::SYMLINK, 1, ((5 << 32) | 6) << 12),
        // What means one link elsewhere means an omitted dot here.
        (mode::DIRECTORY, 5, 6 << 12),
    ] {
        let mut image = Image::new(12);
        let mut inode = InodeCompact {
            i_nb: 5.into(),
            i_u: 6.into(),
            i_size: 10.into(),
            ..compact(mode, layout::FLAT_PLAIN)
        };
        inode.i_format |= format::NLINK_1;
        image.put_inode(FREE, &inode);
        let (_, inode) = image.finish().inode(FREE);
        assert_eq!(inode.nlink(), nlink);
        assert_eq!(inode.layout(), Layout::Plain { start });
        assert_eq!(inode.dot_omitted(), mode == mode::DIRECTORY);
    }
}

#[test]
fn kinds() {
    for (mode, kind, file_type) in [
        (mode::FIFO, FileKind::Fifo, file_type::FIFO),
        (
            mode::CHARACTER_DEVICE,
            FileKind::CharacterDevice,
            file_type::CHARACTER_DEVICE,
        ),
        (mode::DIRECTORY, FileKind::Directory, file_type::DIRECTORY),
        (
            mode::BLOCK_DEVICE,
            FileKind::BlockDevice,
            file_type::BLOCK_DEVICE,
        ),
        (mode::REGULAR, FileKind::Regular, file_type::REGULAR),
        (mode::SYMLINK, FileKind::Symlink, file_type::SYMLINK),
        (mode::SOCKET, FileKind::Socket, file_type::SOCKET),
    ] {
        assert_eq!(FileKind::from_mode(mode | 0o7777), Some(kind));
        assert_eq!(kind.mode(), mode);
        assert_eq!(kind.file_type(), file_type);
        let mut image = Image::new(12);
        let inode = InodeCompact {
            i_size: 1.into(),
            i_u: 0x0071_2345.into(),
            ..compact(mode, layout::FLAT_INLINE)
        };
        image.put_inode(FREE, &inode);
        let (_, inode) = image.finish().inode(FREE);
        assert_eq!(inode.kind(), kind);
        if matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice) {
            assert_eq!(inode.rdev(), 0x0071_2345);
            assert_eq!((inode.rdev_major(), inode.rdev_minor()), (0x123, 0x745));
        } else {
            assert_eq!(inode.rdev(), 0);
        }
        assert_eq!(inode.layout() == Layout::Hole, !kind.has_data());
    }
    for mode in [0, 0o30000, 0o50000, 0o70000, 0o110000, 0o130000, 0o150000] {
        assert_eq!(FileKind::from_mode(mode), None);
    }
    assert_eq!(FileKind::from_mode(0o160000), None);
    assert_eq!(FileKind::from_mode(0o170000), None);
}

#[test]
fn holes() {
    for (inode, is_hole) in [
        (
            InodeCompact {
                i_u: u32::MAX.into(),
                ..compact(mode::REGULAR, layout::FLAT_PLAIN)
            },
            true,
        ),
        (
            // With 16 more bits, all of them must be set.
            InodeCompact {
                i_format: (compact(0, layout::FLAT_PLAIN).i_format | format::NLINK_1),
                i_nb: 0.into(),
                i_u: u32::MAX.into(),
                ..compact(mode::REGULAR, layout::FLAT_PLAIN)
            },
            false,
        ),
        (
            InodeCompact {
                i_format: (compact(0, layout::FLAT_PLAIN).i_format | format::NLINK_1),
                i_nb: u16::MAX.into(),
                i_u: u32::MAX.into(),
                ..compact(mode::REGULAR, layout::FLAT_PLAIN)
            },
            true,
        ),
    ] {
        let mut image = Image::new(12);
        image.put_inode(FREE, &inode);
        let (_, inode) = image.finish().inode(FREE);
        assert_eq!(inode.layout() == Layout::Hole, is_hole);
    }
}

#[test]
fn inline_tail() {
    let mut image = Image::new(9);
    image.put_inode(
        FREE,
        &InodeCompact {
            i_size: 1025.into(),
            i_u: 4.into(),
            ..compact(mode::REGULAR, layout::FLAT_INLINE)
        },
    );
    let (_, inode) = image.finish().inode(FREE);
    let layout = Layout::Inline {
        start: 4 << 9,
        tail: AT + 32,
    };
    assert_eq!(inode.layout(), layout);
}

#[test]
fn full_block_as_inline_tail() {
    // It fits only if the inode ends with a block.
    let nid = FREE + 15;
    for (nid, what) in [(nid, None), (nid - 1, Some("crosses a block"))] {
        let mut image = Image::new(9);
        image.put_inode(
            nid,
            &InodeCompact {
                i_size: 1024.into(),
                i_u: 4.into(),
                ..compact(mode::REGULAR, layout::FLAT_INLINE)
            },
        );
        let image = image.finish();
        let inode = image.superblock().inode(&image, nid);
        match what {
            None => assert!(inode.is_ok()),
            Some(what) => assert_corrupt(inode, what, nid * 32 + 32),
        }
    }
}

#[test]
fn start_block_of_a_mere_tail_does_not_matter() {
    let mut image = Image::new(12);
    image.put_inode(
        FREE,
        &InodeCompact {
            i_size: 100.into(),
            i_u: u32::MAX.into(),
            ..compact(mode::REGULAR, layout::FLAT_INLINE)
        },
    );
    let (_, inode) = image.finish().inode(FREE);
    let tail = AT + 32;
    assert_eq!(inode.layout(), Layout::Inline { start: 0, tail });
}

#[test]
fn chunk_table_position() {
    for (format, xattr_words, table, chunk_bits) in [
        (0, 0, AT + 32, 12),
        (chunk::INDEXES | 3, 0, AT + 32, 15),
        // 12 bytes of attributes: 8-byte indexes need padding, addresses do not.
        (31, 1, AT + 32 + 12, 43),
        (chunk::INDEXES | chunk::ADDRESS_48BIT, 1, AT + 32 + 16, 12),
    ] {
        let mut image = Image::new(12);
        image.put_inode(
            FREE,
            &InodeCompact {
                i_size: 4096.into(),
                i_u: u32::from(format).into(),
                i_xattr_icount: xattr_words.into(),
                ..compact(mode::REGULAR, layout::CHUNK_BASED)
            },
        );
        let (_, inode) = image.finish().inode(FREE);
        let expected = Layout::Chunks {
            table,
            chunk_bits,
            indexes: format & chunk::INDEXES != 0,
            wide: format & chunk::ADDRESS_48BIT != 0,
        };
        assert_eq!(inode.layout(), expected);
    }
}

/// Reads the inode at [`FREE`] in an image of 64 KiB with blocks of 4 KiB.
fn read(inode: &impl IntoBytesRef) -> Result<Inode, erofs_format::Error<std::convert::Infallible>> {
    let mut image = Image::new(12);
    image.put_inode(FREE, inode);
    let image = image.finish();
    image.superblock().inode(&image, FREE)
}

#[test]
fn corrupt_extended() {
    type Damage = fn(&mut InodeExtended);
    let chunked = |inode: &mut InodeExtended| {
        inode.i_format = ((layout::CHUNK_BASED << 1) | format::EXTENDED).into();
        inode.i_u = u32::from(chunk::INDEXES).into();
    };
    let damages: [(&str, Damage); 15] = [
        ("size is negative", |inode| {
            inode.i_size = (1 << 63).into();
        }),
        ("file type is invalid", |inode| inode.i_mode = 0o644.into()),
        ("nanoseconds", |inode| {
            inode.i_mtime_nsec = 1_000_000_000.into();
        }),
        ("link's length", |inode| {
            inode.i_mode = mode::SYMLINK.into();
            inode.i_size = 0.into();
        }),
        ("link's length", |inode| {
            inode.i_mode = mode::SYMLINK.into();
            inode.i_size = 4096.into();
        }),
        ("attributes end beyond", |inode| {
            inode.i_xattr_icount = u16::MAX.into();
        }),
        ("blocks are out of range", |inode| {
            inode.i_size = (i64::MAX as u64).into();
            inode.i_u = 1.into();
        }),
        ("blocks end beyond the image", |inode| {
            inode.i_mode = mode::DIRECTORY.into();
            inode.i_size = 1.into();
            inode.i_u = 16.into();
        }),
        ("blocks end beyond the image", |inode| {
            inode.i_mode = mode::DIRECTORY.into();
            inode.i_size = (4096 * 15).into();
            inode.i_u = 2.into();
        }),
        ("blocks end beyond the image", |inode| {
            inode.i_mode = mode::DIRECTORY.into();
            inode.i_size = (i64::MAX as u64).into();
            inode.i_u = 0.into();
        }),
        ("blocks end beyond the image", |inode| {
            inode.i_mode = mode::DIRECTORY.into();
            inode.i_format = ((layout::FLAT_INLINE << 1) | format::EXTENDED).into();
            inode.i_size = (4096 * 2 + 1).into();
            inode.i_u = 15.into();
        }),
        ("chunk table ends beyond", |inode| {
            inode.i_size = (4096 * 7200).into();
        }),
        ("chunk table ends beyond", |inode| {
            inode.i_size = (i64::MAX as u64).into();
        }),
        ("", |inode| inode.i_size = (4096 * 7152).into()),
        ("chunk table ends beyond", |inode| {
            inode.i_size = (4096 * 7152 + 4096).into();
        }),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        let mut inode = extended(mode::REGULAR, layout::FLAT_PLAIN);
        if number >= 11 {
            chunked(&mut inode);
        }
        damage(&mut inode);
        match what {
            // 65536 - 8192 - 64 bytes are 7160 indexes.
            "" => assert!(read(&inode).is_ok()),
            _ if number == 14 => {
                inode.i_size = (4096 * 7161).into();
                assert_corrupt(read(&inode), what, AT);
            }
            _ => assert_corrupt(read(&inode), what, AT),
        }
    }
}

#[test]
fn corrupt_compact() {
    let file = compact(mode::REGULAR, layout::FLAT_INLINE);
    // The tail starts 32 bytes into a block.
    let fits = InodeCompact {
        i_size: 4064.into(),
        ..file
    };
    read(&fits).unwrap();
    let crosses = InodeCompact {
        i_size: 4065.into(),
        ..file
    };
    assert_corrupt(read(&crosses), "crosses a block", AT + 32);
    let shared = InodeCompact {
        i_xattr_icount: 3.into(),
        ..file
    };
    for (count, sound) in [(0, true), (2, true), (3, false), (255, false)] {
        let mut image = Image::new(12);
        image.put_inode(FREE, &shared);
        image.put(AT + 32 + 4, &[count]);
        let image = image.finish();
        let inode = image.superblock().inode(&image, FREE);
        if sound {
            assert_eq!(inode.unwrap().xattr_size(), 20);
        } else {
            assert_corrupt(inode, "shared attributes are more", AT + 32);
        }
    }
}

#[test]
fn at_the_end_of_the_image() {
    let nid = 65536 / 32 - 1;
    for (inode, what) in [
        (compact(mode::FIFO, layout::FLAT_PLAIN), None),
        (
            InodeCompact {
                i_format: format::EXTENDED.into(),
                ..compact(mode::FIFO, layout::FLAT_PLAIN)
            },
            Some("inode is cut off"),
        ),
        (
            InodeCompact {
                i_xattr_icount: 1.into(),
                ..compact(mode::FIFO, layout::FLAT_PLAIN)
            },
            Some("attributes are cut off"),
        ),
        (
            InodeCompact {
                i_size: 1.into(),
                ..compact(mode::REGULAR, layout::FLAT_INLINE)
            },
            Some("inline data ends beyond"),
        ),
        (
            InodeCompact {
                i_size: 1.into(),
                ..compact(mode::REGULAR, layout::CHUNK_BASED)
            },
            Some("chunk table ends beyond"),
        ),
        (compact(mode::REGULAR, layout::CHUNK_BASED), None),
    ] {
        let mut image = Image::new(9);
        image.put_inode(nid, &inode);
        let image = image.finish();
        let read = image.superblock().inode(&image, nid);
        let is_xattr = inode.i_xattr_icount.get() > 0;
        match what {
            None => assert_eq!(read.unwrap().nid(), nid),
            Some(what) => assert_corrupt(read, what, 65504 + if is_xattr { 32 } else { 0 }),
        }
    }
    // An image need not end with a block, but an inode must end before.
    let mut image = Image::new(9);
    image.put_inode(nid, &compact(mode::FIFO, layout::FLAT_PLAIN));
    image.truncate(65535);
    let image = image.finish();
    let inode = image.superblock().inode(&image, nid);
    assert_corrupt(inode, "inode is cut off", 65504);
}

#[test]
fn beyond_the_image() {
    let image = Image::new(12).finish();
    let sb = image.superblock();
    for nid in [2048, 1 << 40, 1 << 58, u64::MAX / 32, NID_METABOX, u64::MAX] {
        let at = nid.saturating_mul(32);
        assert_corrupt(sb.inode(&image, nid), "lies beyond the image", at);
    }
    let mut image = Image::new(12);
    image.superblock.meta_blkaddr = u32::MAX.into();
    let image = image.finish();
    let at = (u64::from(u32::MAX) << 12) + ROOT * 32;
    assert_corrupt(image.superblock().root(&image), "beyond the image", at);
}

#[test]
fn metadata_area_moves_inodes() {
    let mut image = Image::new(12);
    image.superblock.meta_blkaddr = 2.into();
    image.put_inode(300, &compact(mode::FIFO, layout::FLAT_PLAIN));
    let (_, inode) = image.finish().inode(300 - 2 * 4096 / 32);
    assert_eq!((inode.nid(), inode.pos()), (44, 9600));
}

#[test]
fn unsupported() {
    for layout in [layout::COMPRESSED_FULL, layout::COMPRESSED_COMPACT] {
        let inode = compact(mode::REGULAR, layout);
        assert_corrupt(read(&inode), "the image is not", FREE * 32);
    }
    for layout in 5..=7 {
        let inode = compact(mode::REGULAR, layout);
        assert_unsupported(read(&inode), "data layout", layout.into());
    }
    let mut inode = compact(mode::FIFO, 7);
    assert_unsupported(read(&inode), "data layout", 7);
    for bit in [0x20, 0x8000] {
        inode = compact(mode::REGULAR, layout::FLAT_PLAIN);
        inode.i_format |= bit;
        assert_unsupported(read(&inode), "inode format", bit.into());
    }
    inode = compact(mode::REGULAR, layout::CHUNK_BASED);
    inode.i_u = 0x80.into();
    assert_unsupported(read(&inode), "chunk format", 0x80);
}
