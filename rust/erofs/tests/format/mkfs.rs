// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Images that mkfs.erofs makes of a tree with everything in it, compared with that tree entry by
//! entry. Without mkfs.erofs these tests say so and do nothing; an old one lacks some options, and
//! those cases are left out.

use crate::image::Blocks;
use crate::walk::walk;
use erofs_format::{split_xattr_name, xattr_prefix, FileKind, Inode, Source, Superblock, Xattr};
use rustix::fs::{lgetxattr, listxattr, lsetxattr, mknodat, FileType, Mode, XattrFlags, CWD};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{symlink, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// Where the tree and the images are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("mkfs")
}

/// A source of bytes that look random, always the same.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Makes the tree, once for all tests.
fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let root = directory().join("tree");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        for size in [
            0, 1, 511, 512, 513, 1024, 4000, 4095, 4096, 4097, 10_000, 70_000, 300_000,
        ] {
            fs::write(root.join(format!("file{size}")), noise(size as u64, size)).unwrap();
        }
        // Equal chunks, zeros and holes.
        let same = noise(1, 8192).repeat(5);
        fs::write(root.join("repeated"), same).unwrap();
        fs::write(root.join("zeros"), vec![0; 50_000]).unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.set_len(1_000_003).unwrap();
        sparse.write_all_at(&noise(2, 5000), 300_000).unwrap();
        sparse.write_all_at(b"end", 900_000).unwrap();
        fs::hard_link(root.join("file513"), root.join("hard link")).unwrap();

        let names = root.join("names");
        fs::create_dir(&names).unwrap();
        for byte in (1..=255u8).filter(|byte| !matches!(byte, b'.' | b'/')) {
            File::create(names.join(OsStr::from_bytes(&[byte]))).unwrap();
        }
        for name in ["...", "..a", ".a", ". ", "a.b", "a-b", "A", "\u{e9}t\u{e9}"] {
            File::create(names.join(name)).unwrap();
        }
        // Old versions of mkfs.erofs cannot do one more.
        File::create(names.join("n".repeat(254))).unwrap();

        let large = root.join("large");
        fs::create_dir(&large).unwrap();
        for number in 0..3000 {
            File::create(large.join(format!("entry number {number}"))).unwrap();
        }
        fs::create_dir_all(root.join("a/b/c/d/e")).unwrap();
        for length in [1, 30, 500, 511, 512, 513, 2000, 4040, 4095] {
            let target: String = "target/".repeat(600)[..length].into();
            symlink(target, root.join(format!("link{length}"))).unwrap();
        }
        // Not all are allowed everywhere; what could be made is compared.
        for (name, file_type, device) in [
            ("fifo", FileType::Fifo, 0),
            ("socket", FileType::Socket, 0),
            ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
            (
                "disk",
                FileType::BlockDevice,
                rustix::fs::makedev(300, 70_000),
            ),
        ] {
            let _ = mknodat(CWD, root.join(name), file_type, Mode::RUSR, device);
        }
        fs::set_permissions(root.join("file1"), fs::Permissions::from_mode(0o6751)).unwrap();
        for (name, time) in [
            (
                "file1",
                SystemTime::UNIX_EPOCH + Duration::new(1, 999_999_999),
            ),
            (
                "file512",
                // 32 bits unsigned; mkfs.erofs wraps larger ones in some layouts.
                SystemTime::UNIX_EPOCH + Duration::new(4_000_000_000, 1),
            ),
        ] {
            let file = File::options().write(true).open(root.join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        let xattrs: [(&str, &str, Vec<u8>); 9] = [
            ("file0", "user.one", b"1".to_vec()),
            ("file0", "user.two", b"".to_vec()),
            ("file1", "user.one", b"1".to_vec()),
            ("file1", "user.long.name", b"long".to_vec()),
            ("file1", "user.long.", b"exact".to_vec()),
            ("file511", "user.large", noise(3, 2000)),
            ("a", "user.one", b"1".to_vec()),
            ("file1", "trusted.overlay.opaque", b"y".to_vec()),
            ("file512", "user.one", b"1".to_vec()),
        ];
        for (name, xattr, value) in xattrs {
            let _ = lsetxattr(root.join(name), xattr, &value, XattrFlags::empty());
        }
        root
    })
}

/// Runs mkfs.erofs; `None` if there is none, or it does not know an option.
fn mkfs(image: &Path, options: &[&str], source: &Path) -> Option<Vec<u8>> {
    let mut command = Command::new("mkfs.erofs");
    command.arg("-d1").args(options).arg(image).arg(source);
    let Ok(output) = command.output() else {
        eprintln!("skipped: mkfs.erofs is not installed");
        return None;
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let why = stderr
            .lines()
            .find(|line| !line.is_empty() && !line.contains("<W>"));
        eprintln!(
            "skipped: mkfs.erofs {options:?}: {}",
            why.unwrap_or("failed")
        );
        return None;
    }
    Some(fs::read(image).unwrap())
}

/// What mkfs.erofs does with modification times.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    Kept,
    /// Old versions misread fractions of seconds in tars.
    Seconds,
    Lost,
}

/// An image under comparison.
struct Comparison {
    image: Blocks,
    sb: Superblock,
    /// What is in slot 0 of the device table.
    device: Vec<u8>,
    /// nids of files with more than one link.
    links: BTreeMap<u64, u64>,
    times: Times,
    entries: u32,
}

impl Comparison {
    fn run(bytes: Vec<u8>, device: Vec<u8>, times: Times) {
        let block_bits = bytes[1036];
        let image = Blocks::new(bytes, block_bits);
        let sb = image.superblock();
        let root = sb.root(&image).unwrap();
        let walked = walk(&image);
        // The device and the prefix behind the last are not there.
        assert!(walked.errors.len() <= 3, "{:?}", walked.errors);
        let mut comparison = Self {
            image,
            sb,
            device,
            links: BTreeMap::new(),
            times,
            entries: 0,
        };
        comparison.compare(&root, tree());
        assert!(comparison.entries > 3200);
    }

    fn compare(&mut self, inode: &Inode, path: &Path) {
        self.entries += 1;
        let expected = fs::symlink_metadata(path).unwrap();
        assert_eq!(u32::from(inode.mode()), expected.mode(), "{path:?}");
        assert_eq!(inode.uid(), expected.uid(), "{path:?}");
        assert_eq!(inode.gid(), expected.gid(), "{path:?}");
        if self.times != Times::Lost {
            assert_eq!(inode.mtime(), expected.mtime(), "{path:?}");
        }
        if self.times == Times::Kept {
            // New versions of mkfs.erofs take a compact inode if only nanoseconds are lost.
            let nsec = if inode.is_extended() {
                expected.mtime_nsec()
            } else {
                self.sb.fixed_nsec().into()
            };
            assert_eq!(i64::from(inode.mtime_nsec()), nsec, "{path:?}");
        }
        self.compare_xattrs(inode, path);
        match inode.kind() {
            FileKind::Directory => self.compare_directory(inode, path),
            FileKind::Regular => {
                assert_eq!(u64::from(inode.nlink()), expected.nlink(), "{path:?}");
                assert_eq!(inode.size(), expected.len(), "{path:?}");
                if expected.nlink() > 1 {
                    let nid = *self.links.entry(expected.ino()).or_insert(inode.nid());
                    assert_eq!(nid, inode.nid(), "{path:?}");
                }
                assert!(self.read(inode) == fs::read(path).unwrap(), "{path:?}");
            }
            FileKind::Symlink => {
                let mut target = vec![0; 4096];
                let len = inode.read_link(&self.sb, &self.image, &mut target).unwrap();
                let expected = fs::read_link(path).unwrap();
                assert_eq!(&target[..len], expected.as_os_str().as_bytes());
            }
            _ => {
                let major = rustix::fs::major(expected.rdev());
                let minor = rustix::fs::minor(expected.rdev());
                assert_eq!((inode.rdev_major(), inode.rdev_minor()), (major, minor));
            }
        }
    }

    fn compare_directory(&mut self, inode: &Inode, path: &Path) {
        let mut names = Vec::new();
        let mut dot = None;
        let mut dot_dot = None;
        inode
            .read_dir(&self.sb, &self.image, 0, &mut |entry| {
                match entry.name {
                    b"." => dot = Some(entry.nid),
                    b".." => dot_dot = Some(entry.nid),
                    name => names.push((name.to_vec(), entry.nid, entry.file_type)),
                }
                true
            })
            .unwrap();
        assert_eq!(dot, Some(inode.nid()));
        assert!(dot_dot.is_some());
        assert!(names.is_sorted());
        let mut expected: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
            .collect();
        expected.sort();
        assert!(names.iter().map(|entry| &entry.0).eq(&expected), "{path:?}");
        let mut subdirectories = 0;
        for (name, nid, file_type) in names {
            let found = inode.lookup(&self.sb, &self.image, &name).unwrap().unwrap();
            assert_eq!((found.nid, found.file_type), (nid, file_type));
            let child = self.sb.inode(&self.image, nid).unwrap();
            assert_eq!(child.kind().file_type(), file_type);
            subdirectories += u32::from(child.kind() == FileKind::Directory);
            self.compare(&child, &path.join(OsStr::from_bytes(&name)));
            let absent = [&name[..name.len().min(200)], b" not there"].concat();
            assert_eq!(inode.lookup(&self.sb, &self.image, &absent), Ok(None));
        }
        assert_eq!(inode.nlink(), 2 + subdirectories, "{path:?}");
    }

    fn compare_xattrs(&self, inode: &Inode, path: &Path) {
        let mut found = BTreeMap::new();
        let mut names = Vec::new();
        let mut emit = |xattr: &Xattr<'_>| {
            names.push((xattr.index, xattr.name.to_vec(), xattr.value_size));
            true
        };
        inode.list_xattrs(&self.sb, &self.image, &mut emit).unwrap();
        for (index, name, value_size) in names {
            let mut value = vec![0; value_size.into()];
            let size = inode.get_xattr(&self.sb, &self.image, index, &name, &mut value);
            assert_eq!(size, Ok(Some(value_size.into())), "{path:?}");
            let full = [xattr_prefix(index).unwrap().as_bytes(), &name].concat();
            assert_eq!(split_xattr_name(&full), Some((index, &name[..])));
            found.insert(full, value);
            let absent = [&name[..], b"not there"].concat();
            let absent = inode.get_xattr(&self.sb, &self.image, index, &absent, &mut []);
            assert_eq!(absent, Ok(None));
        }
        let mut expected = BTreeMap::new();
        let mut list = vec![0; 65536];
        // Symbolic links have none in this tree.
        let len = if inode.kind() == FileKind::Symlink {
            0
        } else {
            listxattr(path, &mut list[..]).unwrap_or(0)
        };
        for name in list[..len]
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
        {
            let mut value = vec![0; 65536];
            let len = lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(len);
            expected.insert(name.to_vec(), value);
        }
        assert_eq!(found, expected, "{path:?}");
    }

    /// All bytes of a file.
    fn read(&self, inode: &Inode) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < inode.size() {
            let offset = bytes.len() as u64;
            let extent = inode.extent(&self.sb, &self.image, offset).unwrap();
            assert_eq!(extent.start, offset);
            let (from, pos) = match extent.source {
                Source::Hole => {
                    bytes.resize(bytes.len() + extent.len as usize, 0);
                    continue;
                }
                Source::Metadata { pos, .. } | Source::Device { id: 0, pos } => {
                    (&self.image.bytes, pos as usize)
                }
                Source::Clusters { .. } => panic!("compressed data"),
                Source::Device { id, pos } => {
                    assert_eq!(id, 1);
                    (&self.device, pos as usize)
                }
            };
            bytes.extend_from_slice(&from[pos..pos + extent.len as usize]);
        }
        bytes
    }
}

/// Compares the image that mkfs.erofs makes of the tree with these options.
fn compare(name: &str, options: &[&str]) {
    let source = tree();
    let image = directory().join(format!("{name}.erofs"));
    if let Some(bytes) = mkfs(&image, options, source) {
        let times = if options.contains(&"-Eforce-inode-compact") || options.contains(&"-T0") {
            Times::Lost
        } else {
            Times::Kept
        };
        Comparison::run(bytes, Vec::new(), times);
    }
    let _ = fs::remove_file(image);
}

#[test]
fn layouts() {
    for (number, options) in [
        &[][..],
        &["-Enoinline_data"],
        &["-Eforce-inode-extended"],
        &["-Eforce-inode-compact"],
        &["--chunksize=4096"],
        &["--chunksize=65536"],
        &["-Eforce-chunk-indexes", "--chunksize=4096"],
        &["-Eforce-chunk-indexes,noinline_data", "--chunksize=8192"],
        &["-Eforce-inode-blockmap", "--chunksize=4096"],
        &["-E48bit"],
        &["-E48bit", "--chunksize=4096"],
        &["-Edot-omitted"],
        &["-T0"],
    ]
    .into_iter()
    .enumerate()
    {
        compare(&format!("layout{number}"), options);
    }
}

#[test]
fn block_sizes() {
    for size in ["-b512", "-b1024", "-b2048", "-b4096"] {
        compare(&format!("plain{size}"), &[size]);
        compare(&format!("noinline{size}"), &[size, "-Enoinline_data"]);
        compare(&format!("chunks{size}"), &[size, "--chunksize=8192"]);
        let options = [size, "-Eforce-inode-extended,force-chunk-indexes"];
        compare(
            &format!("indexes{size}"),
            &[&options[..], &["--chunksize=4096"]].concat(),
        );
    }
}

#[test]
fn xattrs() {
    for (number, options) in [
        // Everything is shared, nothing is.
        &["-x0"][..],
        &["-x1000"],
        &["-x0", "-b512"],
        &["-Exattr-name-filter"],
        &["--xattr-prefix=user.long."],
        &[
            "--xattr-prefix=user.long.",
            "--xattr-prefix=trusted.overlay.",
            "-Exattr-name-filter,plain-xattr-prefixes",
        ],
        &["--xattr-prefix=user.long.", "-b512", "-x0"],
        &["--xattr-prefix=user.o", "--chunksize=4096"],
    ]
    .into_iter()
    .enumerate()
    {
        compare(&format!("xattr{number}"), options);
    }
}

#[test]
fn blob_device() {
    for size in ["-b512", "-b4096"] {
        let image = directory().join(format!("blob{size}.erofs"));
        let blob = directory().join(format!("blob{size}.blob"));
        let blobdev = format!("--blobdev={}", blob.display());
        let options = [size, "--chunksize=4096", &blobdev];
        // Old versions have one block size and no option for it.
        let options = if size == "-b4096" {
            &options[1..]
        } else {
            &options
        };
        if let Some(bytes) = mkfs(&image, options, tree()) {
            let device = fs::read(&blob).unwrap();
            let blocks = Blocks::new(bytes, if size == "-b512" { 9 } else { 12 });
            let sb = blocks.superblock();
            assert_eq!(sb.device_count(), 1);
            // mkfs.erofs does not always say the size of the blob, nor the right one.
            sb.device(&blocks, 0).unwrap();
            Comparison::run(blocks.bytes, device, Times::Kept);
        }
    }
}

#[test]
fn tars() {
    let tar = directory().join("tree.tar");
    let made = Command::new("tar")
        .args([
            "--format=pax",
            "--xattrs",
            "--xattrs-include=*",
            "--sort=name",
        ])
        .args(["--exclude=./socket", "-C"])
        .arg(tree())
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: GNU tar is not installed");
        return;
    }
    let device = fs::read(&tar).unwrap();
    for options in [&["--tar=i"][..], &["--tar=f"], &["--tar=f", "-b512"]] {
        let image = directory().join(format!("tar{}.erofs", options.concat()));
        let _ = fs::remove_file(&image);
        if let Some(bytes) = mkfs(&image, options, &tar) {
            compare_tar(bytes, &device);
        }
    }
}

/// Compares an image of the tree's tar, which has no socket.
fn compare_tar(bytes: Vec<u8>, device: &[u8]) {
    let block_bits = bytes[1036];
    let image = Blocks::new(bytes, block_bits);
    let sb = image.superblock();
    let root = sb.root(&image).unwrap();
    let mut comparison = Comparison {
        image,
        sb,
        device: device.to_vec(),
        links: BTreeMap::new(),
        times: Times::Seconds,
        entries: 0,
    };
    let mut names = Vec::new();
    root.read_dir(&comparison.sb, &comparison.image, 0, &mut |entry| {
        names.push((entry.name.to_vec(), entry.nid));
        true
    })
    .unwrap();
    let expected = fs::read_dir(tree()).unwrap().count();
    let sockets = usize::from(tree().join("socket").exists());
    assert_eq!(names.len() - 2, expected - sockets);
    for (name, nid) in names {
        if matches!(&name[..], b"." | b"..") {
            continue;
        }
        let inode = comparison.sb.inode(&comparison.image, nid).unwrap();
        comparison.compare(&inode, &tree().join(OsStr::from_bytes(&name)));
    }
    assert!(comparison.entries > 3200);
    std::io::stderr().flush().unwrap();
}
