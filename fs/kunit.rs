// SPDX-License-Identifier: GPL-2.0-only

//! KUnit suites, which run when the module is loaded into a kernel with KUnit.
//!
//! For the format cargo runs full tests in userspace; the suites here show, on images made in memory,
//! that what the kernel's build made of the same source gives the same answers. Mount options are
//! parsed as the VFS passes them, and page caches filled from real files.

use crate::erofs;
use crate::erofs::ondisk;
use crate::erofs::Source;
use crate::erofs::Space;
use crate::erofs::Superblock;
use kernel::prelude::*;
use zerocopy::IntoBytes;

/// The block size of the images here, in bytes.
const BLOCK: usize = 512;

/// The nid of the root directory.
const ROOT: u16 = 48;

/// The bytes of an image.
struct Image(KVec<u8>);

impl Image {
    /// An image with a superblock, and room for 32 blocks.
    fn new(superblock: &ondisk::Superblock) -> Result<Self> {
        let mut image = Self(KVec::from_elem(0, 32 * BLOCK, GFP_KERNEL)?);
        image.put(ondisk::SUPER_OFFSET as usize, superblock.as_bytes())?;
        Ok(image)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Result {
        let end = at.checked_add(bytes.len()).ok_or(EINVAL)?;
        self.0
            .get_mut(at..end)
            .ok_or(EINVAL)?
            .copy_from_slice(bytes);
        Ok(())
    }

    /// Puts an inode where its nid says, and behind it what follows it.
    fn put_inode(&mut self, nid: u16, inode: &ondisk::InodeExtended, tail: &[u8]) -> Result {
        let at = usize::from(nid) * 32;
        self.put(at, inode.as_bytes())?;
        self.put(at + core::mem::size_of_val(inode), tail)
    }

    fn read(&self) -> Result<Superblock, erofs::Error<core::convert::Infallible>> {
        Superblock::read(&&self.0[..], 12)
    }
}

fn superblock() -> ondisk::Superblock {
    let mut sb = <ondisk::Superblock as zerocopy::FromZeros>::new_zeroed();
    sb.magic = ondisk::SUPER_MAGIC.into();
    sb.blkszbits = 9;
    sb.rootnid_2b = ROOT.into();
    sb.blocks_lo = 32.into();
    sb
}

fn inode(mode: u16, layout: u16, size: usize, start: u32) -> ondisk::InodeExtended {
    let mut inode = <ondisk::InodeExtended as zerocopy::FromZeros>::new_zeroed();
    inode.i_format = (ondisk::format::EXTENDED | layout << ondisk::format::LAYOUT_SHIFT).into();
    inode.i_mode = (mode | 0o644).into();
    inode.i_nlink = 1.into();
    inode.i_size = (size as u64).into();
    inode.i_u = start.into();
    inode
}

/// A directory of `names`, in order, in as many blocks as they need.
fn directory(names: &[KVec<u8>]) -> Result<KVec<u8>> {
    let mut blocks = KVec::new();
    let mut rest = names;
    while !rest.is_empty() {
        let mut count = 0;
        let mut used = 0;
        while let Some(name) = rest.get(count) {
            if used + 12 + name.len() > BLOCK {
                break;
            }
            used += 12 + name.len();
            count += 1;
        }
        let (these, others) = rest.split_at(count);
        let start = blocks.len();
        let mut nameoff = 12 * these.len();
        for (index, name) in these.iter().enumerate() {
            let mut entry = <ondisk::DirectoryEntry as zerocopy::FromZeros>::new_zeroed();
            entry.nid = (1000 + names.len() as u64 - rest.len() as u64 + index as u64).into();
            entry.nameoff = (nameoff as u16).into();
            entry.file_type = ondisk::file_type::REGULAR;
            blocks.extend_from_slice(entry.as_bytes(), GFP_KERNEL)?;
            nameoff += name.len();
        }
        for name in these {
            blocks.extend_from_slice(name, GFP_KERNEL)?;
        }
        rest = others;
        if !rest.is_empty() {
            blocks.resize(start + BLOCK, 0, GFP_KERNEL)?;
        }
    }
    Ok(blocks)
}

/// `count` names in order, of lengths from 2 to 31.
fn names(count: usize) -> Result<KVec<KVec<u8>>> {
    let mut names = KVec::with_capacity(count, GFP_KERNEL)?;
    for index in 0..count {
        let mut name = KVec::new();
        name.push(b'a' + (index / 26) as u8, GFP_KERNEL)?;
        name.push(b'a' + (index % 26) as u8, GFP_KERNEL)?;
        name.resize(2 + index % 30, b'x', GFP_KERNEL)?;
        names.push(name, GFP_KERNEL)?;
    }
    Ok(names)
}

#[kunit_tests(ferofs_superblock)]
mod superblocks {
    use super::*;

    #[test]
    fn reads_what_is_there() -> Result {
        let image = Image::new(&superblock())?;
        let sb = image.read().map_err(|_| EINVAL)?;
        assert_eq!(sb.block_bits(), 9);
        assert_eq!(sb.block_size(), 512);
        assert_eq!(sb.blocks(), 32);
        assert_eq!(sb.root_nid(), u64::from(ROOT));
        assert_eq!(sb.device_count(), 0);
        Ok(())
    }

    #[test]
    fn refuses_what_is_wrong() -> Result {
        let changes: [(&str, fn(&mut ondisk::Superblock)); 5] = [
            ("block size of 256", |sb| sb.blkszbits = 8),
            ("block size of 128 KiB", |sb| sb.blkszbits = 17),
            ("directory blocks", |sb| sb.dirblkbits = 1),
            ("checksum", |sb| {
                sb.feature_compat = ondisk::compat::SB_CHKSUM.into();
                sb.checksum = 1.into();
            }),
            ("unknown feature", |sb| {
                sb.feature_incompat = 0x8000_0000.into()
            }),
        ];
        for (what, change) in changes {
            let mut sb = superblock();
            change(&mut sb);
            let refused = matches!(
                Image::new(&sb)?.read(),
                Err(erofs::Error::Corrupt(_) | erofs::Error::Unsupported(_))
            );
            if !refused {
                pr_err!("not refused: {}\n", what);
            }
            assert!(refused);
        }
        Ok(())
    }

    #[test]
    fn tells_other_files_from_images() -> Result {
        let mut sb = superblock();
        sb.magic = 0x1234.into();
        assert!(matches!(
            Image::new(&sb)?.read(),
            Err(erofs::Error::NotErofs)
        ));
        Ok(())
    }
}

#[kunit_tests(ferofs_directory)]
mod directories {
    use super::*;

    /// An image whose root directory has `names`.
    fn image(names: &[KVec<u8>]) -> Result<Image> {
        let mut image = Image::new(&superblock())?;
        let blocks = directory(names)?;
        let root = inode(
            ondisk::mode::DIRECTORY,
            ondisk::layout::FLAT_PLAIN,
            blocks.len(),
            8,
        );
        image.put_inode(ROOT, &root, &[])?;
        image.put(8 * BLOCK, &blocks)?;
        Ok(image)
    }

    #[test]
    fn finds_every_name_and_no_other() -> Result {
        for count in [1, 2, 17, 18, 19, 150] {
            let names = names(count)?;
            let image = image(&names)?;
            let meta = &&image.0[..];
            let sb = image.read().map_err(|_| EINVAL)?;
            let root = sb.root(meta).map_err(|_| EINVAL)?;
            for (index, name) in names.iter().enumerate() {
                let found = root.lookup(&sb, meta, name).map_err(|_| EINVAL)?;
                assert_eq!(found.map(|entry| entry.nid), Some(1000 + index as u64));
                let mut longer = KVec::new();
                longer.extend_from_slice(name, GFP_KERNEL)?;
                longer.push(b'!', GFP_KERNEL)?;
                let found = root.lookup(&sb, meta, &longer).map_err(|_| EINVAL)?;
                assert!(found.is_none());
            }
            for name in [&b"\x01"[..], b"a", b"zz", b"\xff"] {
                assert!(root.lookup(&sb, meta, name).map_err(|_| EINVAL)?.is_none());
            }
        }
        Ok(())
    }

    #[test]
    fn lists_on_from_every_position() -> Result {
        let names = names(100)?;
        let image = image(&names)?;
        let meta = &&image.0[..];
        let sb = image.read().map_err(|_| EINVAL)?;
        let root = sb.root(meta).map_err(|_| EINVAL)?;
        let mut positions = KVec::new();
        let mut failed = false;
        root.read_dir(&sb, meta, 0, &mut |entry| {
            failed |= positions.push(entry.pos, GFP_KERNEL).is_err();
            true
        })
        .map_err(|_| EINVAL)?;
        assert!(!failed);
        assert_eq!(positions.len(), names.len());
        for (skipped, start) in positions.iter().enumerate() {
            let mut index = skipped;
            let mut same = true;
            root.read_dir(&sb, meta, *start, &mut |entry| {
                same &= names.get(index).is_some_and(|name| name[..] == *entry.name);
                index += 1;
                true
            })
            .map_err(|_| EINVAL)?;
            assert!(same);
            assert_eq!(index, names.len());
        }
        Ok(())
    }

    #[test]
    fn refuses_names_outside_of_their_block() -> Result {
        let mut image = image(&names(3)?)?;
        // The second entry's nameoff.
        image.put(8 * BLOCK + 12 + 8, &600u16.to_le_bytes())?;
        let meta = &&image.0[..];
        let sb = image.read().map_err(|_| EINVAL)?;
        let root = sb.root(meta).map_err(|_| EINVAL)?;
        assert!(matches!(
            root.read_dir(&sb, meta, 0, &mut |_| true),
            Err(erofs::Error::Corrupt(_))
        ));
        Ok(())
    }
}

#[kunit_tests(ferofs_mapping)]
mod mapping {
    use super::*;

    /// Checks that a file's extents are `expected`: start, length, source.
    fn check(image: &Image, expected: &[(u64, u64, Source)]) -> Result {
        let meta = &&image.0[..];
        let sb = image.read().map_err(|_| EINVAL)?;
        let file = sb.inode(meta, 64).map_err(|_| EINVAL)?;
        let mut pos = 0;
        for (start, len, source) in expected {
            let extent = file.extent(&sb, meta, pos).map_err(|_| EINVAL)?;
            if (extent.start, extent.len, extent.source) != (*start, *len, *source) {
                pr_err!("at {}: {} + {}\n", pos, extent.start, extent.len);
                return Err(EINVAL);
            }
            pos = extent.start + extent.len;
        }
        if pos == file.size() {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    #[test]
    fn maps_plain_files() -> Result {
        let mut image = Image::new(&superblock())?;
        let file = inode(ondisk::mode::REGULAR, ondisk::layout::FLAT_PLAIN, 1300, 20);
        image.put_inode(64, &file, &[])?;
        check(
            &image,
            &[(
                0,
                1300,
                Source::Device {
                    id: 0,
                    pos: 20 * 512,
                },
            )],
        )
    }

    #[test]
    fn maps_inline_tails() -> Result {
        let mut image = Image::new(&superblock())?;
        let file = inode(ondisk::mode::REGULAR, ondisk::layout::FLAT_INLINE, 1300, 20);
        image.put_inode(64, &file, &[7; 276])?;
        check(
            &image,
            &[
                (
                    0,
                    1024,
                    Source::Device {
                        id: 0,
                        pos: 20 * 512,
                    },
                ),
                (
                    1024,
                    276,
                    Source::Metadata {
                        pos: 64 * 32 + 64,
                        space: Space::Image,
                    },
                ),
            ],
        )
    }

    #[test]
    fn maps_chunks_and_merges_what_touches() -> Result {
        let mut sb = superblock();
        sb.feature_incompat =
            (ondisk::incompat::CHUNKED_FILE | ondisk::incompat::DEVICE_TABLE).into();
        sb.extra_devices = 2.into();
        sb.devt_slotoff = 12.into();
        let mut image = Image::new(&sb)?;
        let file = inode(
            ondisk::mode::REGULAR,
            ondisk::layout::CHUNK_BASED,
            7 * BLOCK - 100,
            ondisk::chunk::INDEXES.into(),
        );
        // Two that touch, one on another device right behind, two holes, the image itself.
        let chunks = [
            (1, 10),
            (1, 11),
            (2, 12),
            (0, u32::MAX),
            (0, u32::MAX),
            (0, 3),
            (0, 5),
        ];
        let mut table = KVec::new();
        for (device, block) in chunks {
            let mut index = <ondisk::ChunkIndex as zerocopy::FromZeros>::new_zeroed();
            index.device_id = device.into();
            index.startblk_lo = block.into();
            if block == u32::MAX {
                index.startblk_hi = u16::MAX.into();
            }
            table.extend_from_slice(index.as_bytes(), GFP_KERNEL)?;
        }
        image.put_inode(64, &file, &table)?;
        check(
            &image,
            &[
                (0, 1024, Source::Device { id: 1, pos: 5120 }),
                (1024, 512, Source::Device { id: 2, pos: 6144 }),
                (1536, 1024, Source::Hole),
                (2560, 512, Source::Device { id: 0, pos: 1536 }),
                (3072, 412, Source::Device { id: 0, pos: 2560 }),
            ],
        )
    }

    #[test]
    fn refuses_devices_that_are_not_there() -> Result {
        let mut sb = superblock();
        sb.feature_incompat =
            (ondisk::incompat::CHUNKED_FILE | ondisk::incompat::DEVICE_TABLE).into();
        sb.extra_devices = 2.into();
        sb.devt_slotoff = 12.into();
        let mut image = Image::new(&sb)?;
        let file = inode(
            ondisk::mode::REGULAR,
            ondisk::layout::CHUNK_BASED,
            BLOCK,
            ondisk::chunk::INDEXES.into(),
        );
        let mut index = <ondisk::ChunkIndex as zerocopy::FromZeros>::new_zeroed();
        index.device_id = 3.into();
        image.put_inode(64, &file, index.as_bytes())?;
        let meta = &&image.0[..];
        let sb = image.read().map_err(|_| EINVAL)?;
        let file = sb.inode(meta, 64).map_err(|_| EINVAL)?;
        assert!(file.extent(&sb, meta, 0).is_err());
        Ok(())
    }
}

#[kunit_tests(ferofs_options)]
mod options {
    use crate::filesystem::Ferofs;
    use crate::verity::Verity;
    use crate::vfs::kunit::Registered;
    use kernel::prelude::*;
    use kernel::str::CStr;
    use kernel::str::CString;

    /// Options in order, and the error of the last.
    type Case = (&'static [(&'static CStr, Option<&'static CStr>)], Result);

    const CASES: &[Case] = &[
        (&[(c"source", Some(c"/image"))], Ok(())),
        (&[(c"device", Some(c"/blob"))], Ok(())),
        (
            &[(c"device", Some(c"/blob")), (c"device", Some(c"/blob"))],
            Ok(()),
        ),
        (&[(c"user_xattr", None), (c"nouser_xattr", None)], Ok(())),
        (&[(c"acl", None), (c"noacl", None)], Ok(())),
        (
            &[(c"source", Some(c"/a")), (c"source", Some(c"/b"))],
            Err(EINVAL),
        ),
        (&[(c"device", Some(c""))], Err(EINVAL)),
        (&[(c"device", None)], Err(EINVAL)),
        (&[(c"nodevice", None)], Err(EINVAL)),
        (&[(c"acl", Some(c"yes"))], Err(EINVAL)),
        (&[(c"unheard_of", Some(c"1"))], Err(EINVAL)),
        (&[(c"verity", Some(c"require"))], Ok(())),
        (&[(c"verity", Some(SHA256))], Ok(())),
        (
            &[(c"verity", Some(SHA256)), (c"verity", Some(SAME))],
            Ok(()),
        ),
        (
            &[(c"verity", Some(SHA256)), (c"verity", Some(SHA512))],
            Err(EINVAL),
        ),
        (
            &[(c"verity", Some(SHA256)), (c"verity", Some(c"require"))],
            Err(EINVAL),
        ),
        (&[(c"verity", Some(SHA512))], Ok(())),
        (&[(c"verity", Some(c"sha256:"))], Err(EINVAL)),
        (&[(c"verity", Some(c"requirex"))], Err(EINVAL)),
        (&[(c"verity", Some(c"sha512:00"))], Err(EINVAL)),
        (&[(c"verity", None)], Err(EINVAL)),
        (&[(c"noverity", None)], Err(EINVAL)),
        (
            &[(c"holes", Some(c"error")), (c"holes", Some(c"error"))],
            Ok(()),
        ),
        (&[(c"holes", Some(c"zero"))], Ok(())),
        (
            &[(c"holes", Some(c"error")), (c"holes", Some(c"zero"))],
            Err(EINVAL),
        ),
        (&[(c"holes", Some(c"errors"))], Err(EINVAL)),
        (&[(c"holes", None)], Err(EINVAL)),
    ];

    const SHA256: &CStr = c"00ff112233445566778899aabbccddeeff00112233445566778899aabbccddee";
    /// The same.
    const SAME: &CStr = c"sha256:00FF112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEE";
    const SHA512: &CStr =
        c"sha512:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\
00112233445566778899aabbccddeeff";

    #[test]
    fn fs_verity_digests_are_shown_as_they_were_given() -> Result {
        for (given, shown) in [(SHA256, SAME), (SHA512, SHA512), (c"require", c"require")] {
            let shown = shown.to_bytes();
            let found = CString::try_from_fmt(fmt!("{}", Verity::parse(given).ok_or(EINVAL)?))?;
            assert!(found.to_bytes().eq_ignore_ascii_case(shown));
        }
        for wrong in [c"", c"sha256:", c"sha1:00", c"0", c"sha256:sha256:", c"+0"] {
            assert!(Verity::parse(wrong).is_none());
        }
        Ok(())
    }

    #[test]
    fn are_taken_or_refused() -> Result {
        let ferofs = Registered::<Ferofs>::get()?;
        for (number, (options, expected)) in CASES.iter().enumerate() {
            let result = ferofs.parse(options);
            if result != *expected {
                pr_err!("case {}: {:?}\n", number, result);
            }
            assert!(result == *expected);
        }
        Ok(())
    }
}

#[kunit_tests(ferofs_page_cache)]
mod page_cache {
    use crate::filesystem::Ferofs;
    use crate::vfs::backing::file::BackingFile;
    use crate::vfs::kunit::bytes;
    use crate::vfs::kunit::check;
    use crate::vfs::kunit::file;
    use crate::vfs::kunit::keep;
    use crate::vfs::kunit::pattern;
    use crate::vfs::kunit::tick;
    use crate::vfs::kunit::write;
    use crate::vfs::kunit::Registered;
    use crate::vfs::pages::range::RangeCache;
    use crate::vfs::pages::range::RangeMount;
    use kernel::prelude::*;

    #[test]
    fn ends_where_the_range_does() -> Result {
        let ferofs = Registered::<Ferofs>::get()?;
        let mount = &RangeMount::new(&ferofs.shared().ranges)?;
        // Within a page, at its end, behind it, and over many; from aligned and other starts.
        for len in [1, 511, 4095, 4096, 4097, 8192, 300_000] {
            for start in [0, 512, 4096, 777] {
                check(mount, 400_000, start, len)?;
            }
        }
        Ok(())
    }

    #[test]
    fn reaches_the_end_of_the_file() -> Result {
        let ferofs = Registered::<Ferofs>::get()?;
        let mount = &RangeMount::new(&ferofs.shared().ranges)?;
        for len in [1, 512, 2048, 4096, 5000, 70_001, 1_500_001] {
            check(mount, len, 0, len)?;
        }
        Ok(())
    }

    #[test]
    fn fails_behind_the_end_of_the_file_and_only_there() -> Result {
        let ferofs = Registered::<Ferofs>::get()?;
        let mount = &RangeMount::new(&ferofs.shared().ranges)?;
        let backing = BackingFile::from_file(file(3 * 4096)?)?;
        let cache = RangeCache::get(mount, &backing, 0, 10 * 4096)?;
        assert_eq!(cache.folio(9 * 4096).err(), Some(EIO));
        assert_eq!(bytes(&cache, 0)?.first().copied(), Some(pattern(0)));
        assert_eq!(
            bytes(&cache, 2 * 4096)?.first().copied(),
            Some(pattern(8192))
        );
        assert_eq!(cache.folio(3 * 4096).err(), Some(EIO));
        Ok(())
    }

    #[test]
    fn is_right_after_the_file_was_repaired() -> Result {
        let ferofs = Registered::<Ferofs>::get()?;
        let mount = &RangeMount::new(&ferofs.shared().ranges)?;
        let file = file(4096)?;
        let backing = BackingFile::from_file(file.clone())?;
        let cache = RangeCache::get(mount, &backing, 0, 8192)?;
        assert_eq!(cache.folio(4096).err(), Some(EIO));
        write(&file, 4096, &[9; 4096])?;
        assert!(bytes(&cache, 4096)?.iter().all(|byte| *byte == 9));
        Ok(())
    }

    #[test]
    fn is_shared_by_those_who_want_the_same() -> Result {
        let ferofs = Registered::<Ferofs>::get()?;
        let mount = &RangeMount::new(&ferofs.shared().ranges)?;
        let backing = BackingFile::from_file(file(20_000)?)?;
        let first = RangeCache::get(mount, &backing, 512, 10_000)?;
        let same = RangeCache::get(mount, &backing, 512, 10_000)?;
        let shorter = RangeCache::get(mount, &backing, 512, 9_999)?;
        let other = RangeCache::get(mount, &backing, 1024, 10_000)?;
        first.folio(0)?;
        assert!(same.cached_folio(0).is_ok());
        assert_eq!(shorter.cached_folio(0).err(), Some(EAGAIN));
        assert_eq!(other.cached_folio(0).err(), Some(EAGAIN));
        Ok(())
    }

    #[test]
    fn is_kept_by_a_mount_while_it_has_pages() -> Result {
        let ferofs = Registered::<Ferofs>::get()?;
        let other = &RangeMount::new(&ferofs.shared().ranges)?;
        let backing = BackingFile::from_file(file(20_000)?)?;
        let get = || RangeCache::get(other, &backing, 512, 10_000);
        let is_cached = || Ok::<_, Error>(get()?.cached_folio(0).is_ok());
        get()?.folio(0)?;
        assert!(!is_cached()?);
        let mount = RangeMount::new(&ferofs.shared().ranges)?;
        // Without pages there is nothing to keep.
        keep(&mount, get()?);
        let cache = get()?;
        cache.folio(0)?;
        keep(&mount, cache);
        assert!(is_cached()?);
        // By the one mount or the other, but not by both.
        let second = RangeMount::new(&ferofs.shared().ranges)?;
        keep(&second, get()?);
        drop(second);
        assert!(is_cached()?);
        // Whoever uses it has it for longer than the mount.
        let used = get()?;
        drop(mount);
        assert!(is_cached()?);
        drop(used);
        assert!(!is_cached()?);
        Ok(())
    }

    #[test]
    fn is_not_shared_with_what_the_file_was() -> Result {
        let ferofs = Registered::<Ferofs>::get()?;
        let mount = &RangeMount::new(&ferofs.shared().ranges)?;
        let file = file(4096)?;
        let backing = BackingFile::from_file(file.clone())?;
        let before = RangeCache::get(mount, &backing, 0, 4096)?;
        assert_eq!(bytes(&before, 0)?.first().copied(), Some(pattern(0)));
        tick();
        write(&file, 0, &[9; 4096])?;
        let after = RangeCache::get(mount, &backing, 0, 4096)?;
        assert_eq!(bytes(&after, 0)?.first().copied(), Some(9));
        Ok(())
    }
}

#[kunit_tests(ferofs_shares)]
mod shares {
    use crate::share_table::ShareTable;
    use crate::vfs::backing::file::BackingFile;
    use crate::vfs::kunit::file;
    use crate::vfs::kunit::pattern;
    use crate::vfs::pages::content::Content;
    use crate::vfs::pages::content::Key;
    use crate::vfs::pages::extent::Extent;
    use crate::vfs::pages::extent::Source;
    use crate::vfs::sha256::Sha256;
    use kernel::prelude::*;
    use kernel::sync::Arc;

    /// What `size` bytes are known by.
    fn known(what: u8, size: u64) -> Key {
        Key {
            what: [what; 32],
            form: 0,
            size,
            domain: [0; 32],
        }
    }

    /// A content of `size` bytes: some of a file from 512 on, a hole, and the rest in memory.
    fn content(key: u8, size: u64) -> Result<Content> {
        let backing = BackingFile::from_file(file(10_000)?)?;
        let mut content = Content::new(known(key, size));
        let sources = [
            (5_000, Source::File(&backing, 512)),
            (3_000, Source::Hole),
            (9_999, Source::Memory(&[7; 9_999][..], 0)),
        ];
        for (len, source) in sources {
            if content.known() < size {
                content.add(Extent { len, source })?;
            }
        }
        Ok(content)
    }

    #[test]
    fn are_found_while_someone_has_them() -> Result {
        let table = ShareTable::new()?;
        let first = Arc::new(content(1, 100)?, GFP_KERNEL)?;
        assert!(table.find(first.key()).is_none());
        let share = table.find_or_add(first.clone())?;
        let second = table.find(first.key()).ok_or(EINVAL)?;
        assert!(Arc::ptr_eq(second.content(), &first));
        // Who is later gets the first.
        let third = table.find_or_add(Arc::new(content(1, 100)?, GFP_KERNEL)?)?;
        assert!(Arc::ptr_eq(third.content(), &first));
        let other = table.find_or_add(Arc::new(content(2, 100)?, GFP_KERNEL)?)?;
        assert!(!Arc::ptr_eq(other.content(), &first));
        assert_eq!(table.len(), 2);
        drop((share, third));
        assert!(table.find(first.key()).is_some());
        drop(second);
        assert!(table.find(first.key()).is_none());
        assert_eq!(table.len(), 1);
        drop(other);
        assert_eq!(table.len(), 0);
        Ok(())
    }

    #[test]
    fn have_the_bytes_of_their_extents() -> Result {
        for size in [1, 4_999, 5_000, 5_001, 8_000, 12_000] {
            let content = content(0, size)?;
            assert_eq!((content.known(), content.size()), (size, size));
            assert_eq!(content.whole().is_some(), size <= 5_000);
            let mut sum = Sha256::new();
            for pos in 0..size {
                let byte = match pos {
                    0..5_000 => pattern(512 + pos),
                    5_000..8_000 => 0,
                    _ => 7,
                };
                sum.update(&[byte]);
            }
            assert_eq!(content.sha256()?, Some(sum.finish()));
            for pos in [0, size / 2, size - 1] {
                assert!(content.extent(pos)?.len <= size - pos);
            }
            assert_eq!(content.extent(size).err(), Some(EIO));
        }
        Ok(())
    }

    #[test]
    fn are_bounded() -> Result {
        let mut content = Content::new(known(0, u64::MAX));
        let hole = || Extent::<&[u8]> {
            len: 1,
            source: Source::Hole,
        };
        for _ in 0..512 {
            content.add(hole())?;
        }
        assert_eq!(content.add(hole()).err(), Some(E2BIG));
        let mut content = Content::new(known(0, u64::MAX));
        let memory = KVec::from_elem(0u8, 100 << 10, GFP_KERNEL)?;
        let extent = || Extent {
            len: 100 << 10,
            source: Source::Memory(&memory[..], 0),
        };
        content.add(extent())?;
        assert_eq!(content.add(extent()).err(), Some(E2BIG));
        // Of holes without an end no sha256 is made.
        let mut content = Content::new(known(0, u64::MAX));
        content.add(Extent::<&[u8]> {
            len: u64::MAX,
            source: Source::Hole,
        })?;
        assert_eq!(content.sha256()?, None);
        Ok(())
    }
}
