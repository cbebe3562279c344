// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Others are at work in the same places: inputs that change while they are read, names that are swapped for links,
//! two commands on one directory. A thread does these things as fast as it can while the library works; whatever it hits, no
//! result has anything in it that it must not have.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::archive::Header;
use common::layout;
use common::layout::Layout;
use ferofs::digest::Digest;
use ferofs::image;
use ferofs::image::source::Directory;
use ferofs::inspect::Image;
use ferofs::inspect::contents::Contents;
use ferofs::inspect::extract;
use ferofs::oci;
use ferofs::oci::Platform;
use ferofs::oci::Reference;
use ferofs::oci::layers;
use ferofs::oci::layers::Places;
use ferofs::output::Output;
use ferofs::tree::NameId;
use ferofs::tree::scan::scan;
use rustix::fs::CWD;
use rustix::fs::RenameFlags;
use rustix::fs::renameat_with;
use std::fs;
use std::fs::File;
use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

/// Does something over and over in a thread while something else is done.
fn while_doing<T>(disturb: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    /// Ends the thread, also when the test fails.
    struct End<'a>(&'a AtomicBool);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                disturb();
            }
        });
        let _end = End(&done);
        work()
    })
}

/// Swaps what two names are of, if both are there.
fn swap(one: &Path, two: &Path) {
    let _ = renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE);
}

#[test]
fn a_scan_follows_no_link_that_took_the_place_of_a_directory() {
    let scratch = Scratch::new();
    scratch.sh("mkdir -p base/victim/deep secret/deep && echo top > secret/secret");
    scratch.sh("echo top > secret/deep/secret && echo in > base/victim/deep/inside");
    symlink("../secret", scratch.join("base/link")).unwrap();
    let (base, victim, link) = (
        scratch.join("base"),
        scratch.join("base/victim"),
        scratch.join("base/link"),
    );
    let (mut whole, mut refused) = (0, 0);
    let work = || {
        for _ in 0..1000 {
            if whole >= 20 && refused >= 20 {
                break;
            }
            let tree = match scan(&base, &mut |_| {}) {
                Ok(tree) => tree,
                Err(error) => {
                    assert!(error.to_string().contains("was replaced"), "{error}");
                    refused += 1;
                    continue;
                }
            };
            whole += 1;
            let mut image = Cursor::new(Vec::new());
            let options = image::Options::default()
                .with_mode(image::Mode::Full)
                .with_block_bits(12);
            let written = image::write(&tree, &options, &Directory::new(base.clone()), &mut image);
            for name in [b"victim".as_slice(), b"link"] {
                let Some(found) = tree.lookup(NameId::ROOT, name) else {
                    continue;
                };
                assert!(tree.lookup(found, b"secret").is_none());
                let deep = tree.lookup(found, b"deep");
                assert!(deep.is_none_or(|deep| tree.lookup(deep, b"secret").is_none()));
            }
            if written.is_ok() {
                let image = image.into_inner();
                assert!(!image.windows(4).any(|bytes| bytes == b"top\n"));
            }
        }
    };
    while_doing(|| swap(&victim, &link), work);
    assert!(whole > 0);
}

/// A file of root that runs with its rights, and another one that somebody puts in its place: no image has the
/// rights of one and the data of the other.
#[test]
fn attributes_and_data_are_of_the_same_file() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("base")).unwrap();
    let (file, other) = (scratch.join("base/file"), scratch.join("base/other"));
    fs::write(&file, "honest").unwrap();
    fs::write(&other, "attack").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let (mut whole, mut refused) = (0, 0);
    let work = || {
        for _ in 0..1000 {
            if whole >= 20 && refused >= 20 {
                break;
            }
            let tree = scan(&scratch.join("base"), &mut |_| {}).unwrap();
            let mut out = Cursor::new(Vec::new());
            let options = image::Options::default()
                .with_mode(image::Mode::Full)
                .with_block_bits(12);
            let source = Directory::new(scratch.join("base"));
            if let Err(error) = image::write(&tree, &options, &source, &mut out) {
                assert!(error.to_string().contains("was replaced"), "{error}");
                refused += 1;
                continue;
            }
            whole += 1;
            let image = Image::new(Path::new("image"), Box::new(out.into_inner())).unwrap();
            let contents = Contents::new(&image, &[], &[]).unwrap();
            for name in ["/file", "/other"] {
                let inode = image.find(name.as_bytes()).unwrap();
                let mut data = Vec::new();
                let mut take = |bytes: &[u8]| -> ferofs::error::Result<()> {
                    data.extend_from_slice(bytes);
                    Ok(())
                };
                contents.copy(name.as_bytes(), &mut take).unwrap();
                let expected: &[u8] = match inode.mode() & 0o7777 {
                    0o4755 => b"honest",
                    _ => b"attack",
                };
                assert_eq!(data, expected);
            }
        }
    };
    while_doing(|| swap(&file, &other), work);
    assert!(whole > 0);
}

/// What was just extracted is replaced by a link to something else.
#[test]
fn extraction_changes_nothing_that_a_link_leads_to() {
    let scratch = Scratch::new();
    let mut archive = Archive::new().directory("./");
    for number in 0..50 {
        let header = Header::new(&format!("./pipe{number}"), b'6').mode(0o666);
        archive = archive.header(header.mtime(1_000_000_000));
    }
    let image = common::index_of_bytes(&archive.end());
    let contents = Contents::of::<Vec<u8>>(&image, vec![]);
    let contents = contents.or_else(|_| Contents::of(&image, vec![("tar".into(), vec![0_u8; 0])]));
    let contents = contents.unwrap();
    fs::write(scratch.join("precious"), "precious").unwrap();
    fs::set_permissions(scratch.join("precious"), fs::Permissions::from_mode(0o600)).unwrap();
    let before = fs::metadata(scratch.join("precious")).unwrap();
    let (target, spare) = (scratch.join("target"), scratch.join("spare"));
    let disturb = || {
        for number in 0..50 {
            swap(&target.join(format!("pipe{number}")), &spare);
            if !spare.is_symlink() {
                let _ = fs::remove_file(&spare);
                let _ = symlink("../precious", &spare);
            }
        }
    };
    let work = || {
        for _ in 0..100 {
            let _ = extract::extract(&contents, &target, extract::Options::default(), &mut |_| {});
            let after = fs::metadata(scratch.join("precious")).unwrap();
            assert_eq!(after.mode(), before.mode());
            assert_eq!(after.mtime(), before.mtime());
            fs::remove_dir_all(&target).unwrap();
        }
    };
    symlink("../precious", &spare).unwrap();
    while_doing(disturb, work);
    assert_eq!(fs::read(scratch.join("precious")).unwrap(), b"precious");
}

/// The layers of an image, made in a directory.
fn prepare(
    layout: &Path,
    directory: &Path,
    cache: bool,
) -> ferofs::error::Result<Vec<layers::Indexed>> {
    let name = format!("oci:{}", layout.display());
    let reference = Reference::parse(Path::new(&name)).unwrap().unwrap();
    let image = oci::open(&reference, None)?;
    let search = [layout.to_path_buf()];
    let places = Places::new(directory)
        .with_search(&search)
        .with_cache(cache);
    layers::prepare(&image, places, &|_| {})?.keep()
}

/// A layer that is one thing when it is parsed and another one when it is hashed would leave an index of the
/// wrong one under the name of the right one.
#[test]
fn what_is_parsed_is_what_is_hashed() {
    let scratch = Scratch::new();
    let archive = |mode: u32| {
        Archive::new()
            .with_data(Header::new("./large", b'0'), &vec![7; 3 << 20])
            .header(Header::new("./sh", b'0').mode(mode))
            .end()
    };
    let (honest, evil) = (archive(0o755), archive(0o4755));
    assert_eq!(honest.len(), evil.len());
    let made = Layout::new(scratch.join("app"));
    made.index(&[made.image(&Platform::of_this_machine().to_string(), &[&honest])]);
    let id = Digest::of(&honest);
    let blob = File::options()
        .write(true)
        .open(made.blob_path(id))
        .unwrap();
    let at = (0..honest.len())
        .find(|at| honest[*at] != evil[*at])
        .unwrap()
        / 512
        * 512;
    let disturb = || {
        for bytes in [&evil, &honest] {
            blob.write_all_at(&bytes[at..at + 512], at as u64).unwrap();
            thread::sleep(std::time::Duration::from_micros(500));
        }
    };
    let (mut good, mut refused) = (0, 0);
    let work = || {
        for _ in 0..400 {
            if good >= 20 && refused >= 20 {
                break;
            }
            let layers = match prepare(&scratch.join("app"), &scratch.join("cache"), true) {
                Ok(layers) => layers,
                Err(error) => {
                    assert!(error.to_string().contains("its sha256 is"), "{error}");
                    refused += 1;
                    continue;
                }
            };
            good += 1;
            let image = Image::open(&layers[0].index).unwrap();
            let mode = image.find(b"/sh").unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o755);
            fs::remove_dir_all(scratch.join("cache")).unwrap();
        }
    };
    while_doing(disturb, work);
    assert!(good > 0 && refused > 0, "{good} {refused}");
}

/// Several commands that make the same at once all find that it is made, and nothing else is left.
#[test]
fn several_make_the_same_at_once() {
    let tars: Vec<_> = (0..4)
        .map(|number| Archive::new().file("./file", &format!("{number}")).end())
        .collect();
    for round in 0..40 {
        let scratch = Scratch::new();
        let made = Layout::new(scratch.join("app"));
        let layers = [
            made.blob(layout::LAYER, &tars[0]),
            made.blob(layout::LAYER_GZIP, &layout::gzip(&tars[1])),
            made.blob(layout::LAYER, &tars[2]),
            made.blob(layout::LAYER_ZSTD, &layout::zstd(&tars[3])),
        ];
        let all: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
        let config = made.config(&Platform::of_this_machine().to_string(), &all);
        made.index(&[made.manifest(&config, &layers)]);
        let barrier = Barrier::new(6);
        let cache = round % 2 == 1;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        prepare(&scratch.join("app"), &scratch.join("out"), cache).unwrap()
                    })
                })
                .collect();
            for thread in threads {
                let layers = thread.join().unwrap();
                for (layer, tar) in layers.iter().zip(&tars) {
                    assert!(fs::read(&layer.tar).unwrap() == *tar);
                    Image::open(&layer.index).unwrap();
                }
            }
        });
        let names = fs::read_dir(scratch.join("out")).unwrap().count();
        assert_eq!(names, if cache { 6 } else { 8 });
    }
}

/// One that fails takes the directory away that it made, but not from another one that found it there.
#[test]
fn one_that_fails_leaves_the_directory_to_another() {
    let scratch = Scratch::new();
    let platform = Platform::of_this_machine().to_string();
    let archive = Archive::new().file("./file", "content").end();
    for name in ["good", "bad"] {
        let made = Layout::new(scratch.join(name));
        let layer = made.blob(layout::LAYER_GZIP, &layout::gzip(&archive));
        let expected: &[u8] = if name == "good" { &archive } else { b"other" };
        made.index(&[made.manifest(&made.config(&platform, &[expected]), &[layer])]);
    }
    for _ in 0..200 {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            let bad = scope.spawn(|| {
                barrier.wait();
                prepare(&scratch.join("bad"), &scratch.join("out"), false).is_err()
            });
            barrier.wait();
            let layers = prepare(&scratch.join("good"), &scratch.join("out"), false).unwrap();
            assert!(layers[0].tar.is_file() && layers[0].index.is_file());
            assert!(bad.join().unwrap());
        });
        fs::remove_dir_all(scratch.join("out")).unwrap();
        assert!(prepare(&scratch.join("bad"), &scratch.join("out"), false).is_err());
        assert!(!scratch.join("out").exists());
    }
}

/// Several outputs of one name: the last one wins, whole.
#[test]
fn several_write_one_file_at_once() {
    let scratch = Scratch::new();
    let target = scratch.join("image");
    thread::scope(|scope| {
        for number in 0..4_u8 {
            let target = &target;
            scope.spawn(move || {
                for _ in 0..50 {
                    let output = Output::create(target, &[]).unwrap();
                    output.file().write_all_at(&[number; 10_000], 0).unwrap();
                    output.finish().unwrap();
                    let found = fs::read(target).unwrap();
                    assert!(found.len() == 10_000 && found.iter().all(|byte| *byte == found[0]));
                }
            });
        }
    });
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
}
