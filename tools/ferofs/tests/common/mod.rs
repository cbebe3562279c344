// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the integration tests share: archives made byte by byte, images made of them, and both
//! described as text.

#![allow(dead_code, missing_docs)]

pub mod archive;
pub mod gnu_tar;
pub mod layout;
pub mod program;
pub mod random;
pub mod wrong_image;

use erofs_format::FileKind;
use erofs_format::Source;
use ferofs::build::apply_archive;
use ferofs::build::store_entries;
use ferofs::image;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs::tar::FileInput;
use ferofs::tar::Input;
use ferofs::tar::Names;
use ferofs::tar::Reader;
use ferofs::tar::StreamInput;
use ferofs::text::Escaped;
use ferofs::tree::Tree;
use ferofs::tree::whiteouts;
use ferofs::tree::whiteouts::Form;
use std::fs;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

/// A directory that is removed with all that is in it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ferofs-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs a line of shell here, which has to succeed, and returns what it printed.
    pub fn sh(&self, script: &str) -> String {
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(&self.0)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Tests make directories that cannot be written to.
        let script = "chmod -R u+rwx \"$0\"; rm -rf \"$0\"";
        std::process::Command::new("sh")
            .args(["-c", script])
            .arg(&self.0)
            .status()
            .unwrap();
    }
}

/// Indexes an archive, which is in the file `tar`, too, into a file.
pub fn index(input: impl Input, tar: &Path, path: &Path) -> Result<(), String> {
    let mut tree = Tree::new();
    let archive = apply_archive(input, &mut tree, 0, &mut ()).map_err(|error| error.to_string())?;
    let device = archive.totals.into();
    let options = image::Options::default().with_devices(vec![device]);
    let out = File::create(path).unwrap();
    image::write(&tree, &options, &data_in(tar), out).map_err(|error| error.to_string())?;
    Ok(())
}

/// The index of an archive.
pub fn index_of_bytes(archive: &[u8]) -> Image {
    let scratch = Scratch::new();
    let (tar, path) = (scratch.join("tar"), scratch.join("image"));
    fs::write(&tar, archive).unwrap();
    index(StreamInput::new(archive), &tar, &path).unwrap();
    Image::open(&path).unwrap()
}

fn data_in(tar: &Path) -> image::source::Blobs<File> {
    image::source::Blobs(vec![File::open(tar).unwrap()])
}

/// Indexes an archive from a file and as a stream, which must come to the same, and checks the
/// image.
pub fn index_both_ways(tar: &Path, path: &Path) -> Result<Image, String> {
    let file = File::open(tar).unwrap();
    let size = file.metadata().unwrap().len();
    let from_file = index(FileInput::new(file, size), tar, path);
    let image = from_file.map(|()| description(&Image::open(path).unwrap(), tar));
    let from_stream = index(StreamInput::new(File::open(tar).unwrap()), tar, path);
    let image_of_stream = from_stream.map(|()| description(&Image::open(path).unwrap(), tar));
    assert_eq!(image, image_of_stream, "as a file, and as a stream");
    image?;
    let image = Image::open(path).unwrap();
    let report = check(&image, &[size], &mut |_| {}).unwrap();
    assert_eq!(report.problems, []);
    Ok(image)
}

/// The index of an archive, with whiteouts in a form.
pub fn index_of_layer(tar: &Path, form: Option<Form>) -> Result<Image, String> {
    let mut tree = Tree::new();
    let input = StreamInput::new(File::open(tar).unwrap());
    let archive = apply_archive(input, &mut tree, 0, &mut ()).map_err(|error| error.to_string())?;
    if let Some(form) = form {
        whiteouts::convert(&mut tree, form).map_err(|error| error.to_string())?;
    }
    let options = image::Options::default().with_devices(vec![archive.totals.into()]);
    let path = tar.with_extension("erofs");
    let out = File::create(&path).unwrap();
    image::write(&tree, &options, &data_in(tar), out).map_err(|error| error.to_string())?;
    Ok(Image::open(&path).unwrap())
}

/// Makes an image of an archive that is like `options` says, and checks it.
pub fn image_of(tar: &Path, path: &Path, options: &image::Options) -> Image {
    let mut tree = Tree::new();
    let file = File::open(tar).unwrap();
    let input = StreamInput::new(file.try_clone().unwrap());
    apply_archive(input, &mut tree, 0, &mut ()).unwrap();
    let source = image::source::Blobs(vec![file]);
    image::write(&tree, options, &source, File::create(path).unwrap()).unwrap();
    let image = Image::open(path).unwrap();
    let report = check(&image, &[], &mut |_| {}).unwrap();
    assert_eq!(report.problems, []);
    image
}

/// The same in one pass, as for an archive that comes through a pipe.
pub fn stored_image_of(tar: &Path, path: &Path, options: &image::Options) -> Image {
    let new = |path: &Path| {
        let mut open = File::options();
        let open = open.read(true).write(true).create(true).truncate(true);
        open.open(path).unwrap()
    };
    let (file, aside) = (new(path), new(&path.with_extension("aside")));
    let mut tree = Tree::new();
    let mut store = image::Store::new(&file, &aside, None, options).unwrap();
    let input = StreamInput::without_digest(File::open(tar).unwrap());
    let reader = Reader::new(input, Names::of_this_machine());
    store_entries(reader, &mut tree, &mut store, &mut ()).unwrap();
    store.finish(&mut tree, options).unwrap();
    let image = Image::open(path).unwrap();
    let report = check(&image, &[], &mut |_| {}).unwrap();
    assert_eq!(report.problems, []);
    image
}

/// A file: what it is, how many links, owner, time, size or device, path, and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub kind: char,
    pub mode: u32,
    pub links: u64,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    pub size: String,
    pub path: String,
    pub content: String,
    /// Extended attributes, sorted.
    pub xattrs: Vec<String>,
}

impl Described {
    /// In one line, as the tests have it.
    pub fn line(&self) -> String {
        let Described {
            kind,
            mode,
            links,
            owner: (uid, gid),
            mtime: (sec, nsec),
            ..
        } = self;
        let mut line = format!("{kind}{mode:04o} {links} {uid}:{gid} {sec}");
        if *nsec != 0 {
            line += &format!(".{nsec:09}");
        }
        if !self.size.is_empty() {
            line += &format!(" {}", self.size);
        }
        line += &format!(" {}", self.path);
        if !self.content.is_empty() {
            line += &format!(" {}", self.content);
        }
        for xattr in &self.xattrs {
            line += &format!(" [{xattr}]");
        }
        line
    }
}

/// Content of a file: as it is if it is short text, else its digest.
fn shown(content: &[u8]) -> String {
    let text = content.len() <= 40 && content.iter().all(|byte| (b' '..0x7f).contains(byte));
    match text {
        true => format!("= {}", Escaped(content)),
        false => format!("= sha256:{}", ferofs::digest::Digest::of(content)),
    }
}

/// All files in an image over one tar, sorted by path.
pub fn description(image: &Image, tar: &Path) -> Vec<Described> {
    description_over(image, &[tar.to_path_buf()])
}

/// All files in an image over tars, sorted by path.
pub fn description_over(image: &Image, tars: &[PathBuf]) -> Vec<Described> {
    let blobs: Vec<_> = tars.iter().map(|tar| fs::read(tar).unwrap()).collect();
    let own = fs::read(image.path()).unwrap();
    let root = image.root().unwrap();
    let mut left = vec![(b"/".to_vec(), root)];
    let mut all = Vec::new();
    while let Some((path, inode)) = left.pop() {
        let (kind, size, content) = match inode.kind() {
            FileKind::Directory => ('d', String::new(), String::new()),
            FileKind::Fifo => ('p', String::new(), String::new()),
            FileKind::Socket => ('s', String::new(), String::new()),
            FileKind::CharacterDevice | FileKind::BlockDevice => {
                let kind = if inode.kind() == FileKind::BlockDevice {
                    'b'
                } else {
                    'c'
                };
                let device = format!("{},{}", inode.rdev_major(), inode.rdev_minor());
                (kind, device, String::new())
            }
            FileKind::Symlink => {
                let target = image.link_target(&inode).unwrap();
                ('l', String::new(), format!("-> {}", Escaped(&target)))
            }
            FileKind::Regular => {
                let mut content = Vec::new();
                for extent in image.extents(&inode) {
                    let extent = extent.unwrap();
                    match extent.source {
                        Source::Hole => content.resize(content.len() + extent.len as usize, 0),
                        Source::Device { id, pos } => {
                            let range = pos as usize..(pos + extent.len) as usize;
                            let device = match usize::from(id).checked_sub(1) {
                                None => &own,
                                Some(number) => &blobs[number],
                            };
                            content.extend_from_slice(&device[range]);
                        }
                        Source::Metadata { .. } | Source::Clusters { .. } => {
                            let (space, pos) = extent.source.place().unwrap();
                            let bytes = image.read_in(space, pos, extent.len as usize);
                            content.extend_from_slice(&bytes.unwrap());
                        }
                    }
                }
                assert_eq!(content.len() as u64, inode.size());
                ('-', inode.size().to_string(), shown(&content))
            }
        };
        let mut xattrs: Vec<_> = image
            .xattrs(&inode)
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{}={}", Escaped(name), Escaped(value)))
            .collect();
        xattrs.sort();
        all.push(Described {
            kind,
            mode: u32::from(inode.mode() & 0o7777),
            links: inode.nlink().into(),
            owner: (inode.uid(), inode.gid()),
            mtime: (inode.mtime(), inode.mtime_nsec()),
            size,
            path: Escaped(&path).to_string(),
            content,
            xattrs,
        });
        if inode.kind() == FileKind::Directory {
            for name in image.names(&inode).unwrap() {
                if !matches!(name.name.as_slice(), b"." | b"..") {
                    let mut child = path.clone();
                    if !child.ends_with(b"/") {
                        child.push(b'/');
                    }
                    child.extend_from_slice(&name.name);
                    left.push((child, image.inode(name.nid).unwrap()));
                }
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// All files in a directory of this machine, sorted by path.
pub fn description_of_directory(root: &Path) -> Vec<Described> {
    let mut left = vec![(b"/".to_vec(), root.to_path_buf())];
    let mut all = Vec::new();
    while let Some((path, real)) = left.pop() {
        let metadata = fs::symlink_metadata(&real).unwrap();
        let file_type = metadata.file_type();
        let (kind, size, content) = if file_type.is_dir() {
            ('d', String::new(), String::new())
        } else if file_type.is_symlink() {
            let target = fs::read_link(&real).unwrap();
            (
                'l',
                String::new(),
                format!("-> {}", Escaped(target.as_os_str().as_bytes())),
            )
        } else if file_type.is_fifo() {
            ('p', String::new(), String::new())
        } else {
            (
                '-',
                metadata.len().to_string(),
                shown(&fs::read(&real).unwrap()),
            )
        };
        all.push(Described {
            kind,
            mode: metadata.mode() & 0o7777,
            links: metadata.nlink(),
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
            size,
            path: Escaped(&path).to_string(),
            content,
            xattrs: Vec::new(),
        });
        if file_type.is_dir() {
            for entry in fs::read_dir(&real).unwrap() {
                let entry = entry.unwrap();
                let mut child = path.clone();
                if !child.ends_with(b"/") {
                    child.push(b'/');
                }
                child.extend_from_slice(entry.file_name().as_bytes());
                left.push((child, entry.path()));
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}
