// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Merged images of layers whose files are compressed: what is read through them is what is in the layers, whatever form
//! that has there, and what cannot be merged is refused. With layers by `ferofs build`, by mkfs.erofs if there is one, and put
//! together by hand.

#![allow(missing_docs)]

mod common;

#[path = "common/compressed_image.rs"]
mod compressed_image;
#[path = "common/compressible.rs"]
mod compressible;

use common::Scratch;
use common::program::ferofs;
use compressed_image::BLOCK;
use compressed_image::NIDS;
use compressible::changed;
use compressible::combinations;
use compressible::files;
use compressible::noise;
use compressible::text;
use ferofs::clusters::referred::Announced;
use ferofs::clusters::referred::Mapped;
use ferofs::clusters::referred::Origin;
use ferofs::clusters::referred::Part;
use ferofs::clusters::referred::Referred;
use ferofs::error::Error;
use ferofs::error::Kind;
use ferofs::format::Algorithm;
use ferofs::format::Encoded;
use ferofs::format::Encoding;
use ferofs::format::ondisk::incompat;
use ferofs::format::ondisk::layout;
use ferofs::image;
use ferofs::image::Device;
use ferofs::image::source::Nothing;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs::inspect::contents::Contents;
use ferofs::merge::Merge;
use ferofs::tree::Content;
use ferofs::tree::Data;
use ferofs::tree::Inode;
use ferofs::tree::NameId;
use ferofs::tree::Tree;
use ferofs::tree::exclude::Exclude;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

type Files = BTreeMap<String, Vec<u8>>;

/// The content of a file of an image.
fn read(contents: &Contents<'_>, path: &str) -> Result<Vec<u8>, Error> {
    let mut found = Vec::new();
    contents.copy(path.as_bytes(), &mut |piece| {
        found.extend_from_slice(piece);
        Ok::<_, Error>(())
    })?;
    Ok(found)
}

/// Writes files below a directory.
fn put(root: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The files of two layers one on top of the other.
fn together(below: &Files, above: &Files) -> Files {
    let mut all = below.clone();
    all.extend(above.clone());
    all
}

/// Merges layers, which stay beside the result, into an image; what that says of its algorithms.
fn merge(layers: &[&Path], path: &Path) -> Result<Option<Announced>, Error> {
    let mut merge = Merge::new();
    for layer in layers {
        merge.apply(&Image::open(layer)?)?;
    }
    let merged = merge.finish()?;
    let out = File::create(path).unwrap();
    merged
        .write_file(&merged.options(), &out)
        .map_err(Error::image(path))?;
    Ok(merged.referred)
}

/// Whether an image over devices has these files, and nothing is wrong with it.
fn same(path: &Path, devices: &[PathBuf], expected: &Files, context: &str) {
    let image = Image::open(path).unwrap();
    let contents = Contents::new(&image, devices, &[]).unwrap();
    let sizes = devices.iter().map(|path| fs::metadata(path).unwrap().len());
    let sizes: Vec<u64> = sizes.collect();
    let report = check(&image, &sizes, &mut |_| {}).unwrap();
    assert_eq!(report.problems, [], "{context}");
    for (name, bytes) in expected {
        let found = read(&contents, name);
        let found = found.unwrap_or_else(|error| panic!("{context}: {name}: {error}"));
        assert!(found == *bytes, "{context}: {name}");
    }
}

/// Two small trees, with files that both have, hard links, and files of all kinds of sizes.
fn two_trees(scratch: &Scratch) -> (Files, Files) {
    let tree = |seed: u64| {
        let mut files = Files::new();
        for len in [0, 1, 300, 511, 513, 4096, 5000, 9000, 70_000] {
            files.insert(format!("text{len}-{seed}"), text(seed + len as u64, len));
            files.insert(format!("noise{len}-{seed}"), noise(seed + len as u64, len));
        }
        let mixed = [text(seed, 30_000), noise(seed, 20_000), vec![0; 50_000]].concat();
        files.insert(format!("again{seed}"), [&mixed[..], &mixed[..]].concat());
        files.insert("common".to_string(), text(seed, 12_345));
        files.insert(format!("mixed{seed}"), mixed);
        files
    };
    let (below, above) = (tree(1000), tree(2000));
    put(&scratch.join("below"), &below);
    put(&scratch.join("above"), &above);
    let above_tree = scratch.join("above");
    fs::hard_link(above_tree.join("common"), above_tree.join("linked")).unwrap();
    (below, above)
}

fn build(scratch: &Scratch, options: &str, tree: &str, out: &str) {
    let line = format!("build --quiet {options} -o {out} {tree}");
    let words: Vec<_> = line.split_whitespace().collect();
    let (code, _, errors) = ferofs(scratch, &words);
    assert_eq!((code, errors.as_str()), (0, ""), "{line}");
}

/// Every algorithm in every form that `ferofs build` writes, in blocks of each size, each on top of another.
#[test]
fn what_ferofs_compresses_is_merged() {
    let scratch = Scratch::new();
    let (below, mut above) = two_trees(&scratch);
    above.insert("linked".to_string(), above["common"].clone());
    let all = together(&below, &above);
    let algorithms = ["lz4", "lzma,0", "zstd", "lz4hc", "deflate"];
    let forms = [
        "",
        "-Elegacy-compress",
        "-Eztailpacking",
        "-Efragments",
        "-Eall-fragments",
        "-Ededupe",
        "-Ededupe,fragments",
    ];
    let mut turn = 0;
    for block in [512, 1024, 4096] {
        let options = |turn: usize| {
            let (algorithm, form) = (
                algorithms[turn % algorithms.len()],
                forms[turn % forms.len()],
            );
            let cluster = match turn % 3 {
                0 => block,
                1 => 4 * block,
                _ => 16 * block,
            };
            format!("-b{block} -z{algorithm} -C{cluster} {form}")
        };
        for _ in 0..14 {
            let (lower, upper) = (options(turn), options(turn + 3));
            turn += 1;
            build(&scratch, &lower, "below", "below.erofs");
            build(&scratch, &upper, "above", "above.erofs");
            let layers = [scratch.join("below.erofs"), scratch.join("above.erofs")];
            let paths: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
            let merged = scratch.join("merged.erofs");
            let context = format!("{lower}, {upper}");
            let announced = merge(&paths, &merged).unwrap().unwrap();
            same(&merged, &layers, &all, &context);
            let image = Image::open(&merged).unwrap();
            let wanted = layers.iter().map(|path| {
                let layer = Image::open(path).unwrap();
                (
                    layer.superblock().algorithms(),
                    layer.compression().unwrap(),
                )
            });
            let found = image.compression().unwrap();
            assert_eq!(found.algorithms, announced.algorithms);
            for (algorithms, layer) in wanted {
                assert_eq!(found.algorithms & algorithms, algorithms, "{context}");
                assert!(
                    found.lz4_max_distance >= layer.lz4_max_distance
                        && found.lz4_pcluster_max >= layer.lz4_pcluster_max
                        && found.lzma_dictionary >= layer.lzma_dictionary
                        && found.deflate_window_bits >= layer.deflate_window_bits
                        && found.zstd_window >= layer.zstd_window,
                    "{context}: {found:?}, {layer:?}"
                );
            }
            let size = |path: &Path| fs::metadata(path).unwrap().len();
            let (metadata, data) = (size(&merged), size(&layers[0]) + size(&layers[1]));
            assert!(
                metadata * 4 < data,
                "{context}: {metadata} bytes, layers have {data}"
            );
        }
    }
}

/// Every combination of options that mkfs.erofs has. What its images hold is what `compressed.rs` compares with what went in.
#[test]
fn what_mkfs_erofs_compresses_is_merged() {
    let scratch = Scratch::new();
    put(&scratch.join("tree"), &files());
    let mut before: BTreeMap<u32, (String, PathBuf)> = BTreeMap::new();
    let mut count = 0;
    // Ends of files in a metabox, of compressed ones and others, in blocks and in chunks.
    let more = [
        "-zlz4 -C16384 -m4096 --MZ=i -Eztailpacking",
        "-zzstd -m16384 --MZ=i",
        "-m4096 --MZ=i",
    ];
    let more = more.map(|options| options.split(' ').map(str::to_string).collect());
    for options in combinations().into_iter().chain(more) {
        let layer = scratch.join(&format!("layer{count}.erofs"));
        let made = Command::new("mkfs.erofs")
            .args(["--quiet", "-x-1", "-T0"])
            .args(&options)
            .arg(&layer)
            .arg(scratch.join("tree"))
            .output();
        if !made.is_ok_and(|output| output.status.success()) {
            eprintln!("no mkfs.erofs that can {options:?}: nothing is tested");
            continue;
        }
        count += 1;
        let context = options.join(" ");
        let image = Image::open(&layer).unwrap();
        let contents = Contents::new(&image, &[], &[]).unwrap();
        let held = files().into_keys().map(|name| {
            let bytes = read(&contents, &name).unwrap();
            (name, bytes)
        });
        let held: Files = held.collect();
        // On top of the last one with blocks of the same size.
        let block = image.superblock().block_size();
        let lower = before.insert(block, (context.clone(), layer.clone()));
        let (below, path) = lower.unwrap_or((String::new(), layer.clone()));
        let context = format!("{below}, {context}");
        let merged = scratch.join("merged.erofs");
        match merge(&[&path, &layer], &merged) {
            Ok(_) => {
                let slots = Image::open(&merged).unwrap().devices().unwrap().len();
                let devices = match slots {
                    1 => vec![layer],
                    _ => vec![path, layer],
                };
                same(&merged, &devices, &held, &context);
            }
            Err(error) => {
                let said = error.to_string();
                // Data of LZ4 before Linux 5.3 is another format.
                let expected = context.contains("legacy") && said.contains("zeros in front of it");
                assert!(expected, "{context}: {said}");
            }
        }
    }
}

/// The names of the files of an image that was put together by hand.
const MADE: [&str; 5] = ["compact", "extents", "fragment", "full", "tail"];

fn made(algorithm: Algorithm) -> Vec<u8> {
    compressed_image::make(algorithm).unwrap()
}

fn what_was_made() -> Files {
    let text = "the same words again, and ".repeat(40).into_bytes();
    let files = MADE
        .iter()
        .map(|name| ((*name).to_string(), text[..1000].to_vec()));
    files.collect()
}

fn merge_bytes(layers: &[Vec<u8>]) -> Result<(Vec<u8>, usize), Error> {
    let mut merge = Merge::new();
    for (number, bytes) in layers.iter().enumerate() {
        let name = format!("layer{number}");
        merge.apply(&Image::new(Path::new(&name), Box::new(bytes.clone()))?)?;
    }
    write(merge)
}

/// The image, and how many devices it has.
fn write(merge: Merge) -> Result<(Vec<u8>, usize), Error> {
    let merged = merge.finish()?;
    let mut out = Cursor::new(Vec::new());
    let options = merged.options();
    image::write(&merged.tree, &options, &merged.tails, &mut out)
        .map_err(Error::image(Path::new("merged")))?;
    Ok((out.into_inner(), options.devices.len()))
}

/// Every form of each algorithm, and that of another one below, of which the packed inode is the first one's then.
#[test]
fn every_way_to_find_a_cluster() {
    let scratch = Scratch::new();
    for below in Algorithm::ALL {
        for above in Algorithm::ALL {
            let layers = [made(below), made(above)];
            let (bytes, devices) = merge_bytes(&layers).unwrap();
            assert_eq!(devices, 2);
            let paths = ["below", "above"].map(|name| scratch.join(name));
            for (path, bytes) in paths.iter().zip(&layers) {
                fs::write(path, bytes).unwrap();
            }
            let merged = scratch.join("merged");
            fs::write(&merged, &bytes).unwrap();
            same(
                &merged,
                &paths,
                &what_was_made(),
                &format!("{below:?}, {above:?}"),
            );
            let image = Image::open(&merged).unwrap();
            let superblock = image.superblock();
            assert_eq!(superblock.algorithms(), below.bit() | above.bit());
            let needed = incompat::FRAGMENTS
                | incompat::ZTAILPACKING
                | incompat::COMPR_CFGS
                | incompat::LZ4_0PADDING
                | incompat::LAYOUT_48BIT
                | incompat::DEVICE_TABLE;
            assert_eq!(superblock.incompat() & needed, needed);
        }
    }
}

/// A merged image is a layer as any other, and so is an index of a tar: its data is in its devices.
#[test]
fn merged_images_are_layers() {
    let scratch = Scratch::new();
    let (below, above) = two_trees(&scratch);
    build(
        &scratch,
        "-b512 -zzstd -C8192 -Efragments,dedupe",
        "below",
        "below.erofs",
    );
    scratch.sh("tar -C above -cf above.tar .");
    build(&scratch, "", "above.tar", "above.erofs");
    let third: Files = [("third".to_string(), text(3, 20_000))].into();
    put(&scratch.join("third"), &third);
    build(
        &scratch,
        "-b512 -zlz4 -C4096 -Eztailpacking",
        "third",
        "third.erofs",
    );
    let path = |name: &str| scratch.join(name);
    merge(&[&path("below.erofs"), &path("above.erofs")], &path("two")).unwrap();
    let two = together(&below, &above);
    let devices = [path("below.erofs"), path("above.tar")];
    same(&path("two"), &devices, &two, "two layers");
    merge(&[&path("two"), &path("third.erofs")], &path("three")).unwrap();
    let all = together(&two, &third);
    let devices = [&devices[..], &[path("third.erofs")]].concat();
    same(&path("three"), &devices, &all, "three layers");
    // And in another order, the compressed ones behind.
    merge(&[&path("third.erofs"), &path("two")], &path("others")).unwrap();
    let devices = ["third.erofs", "below.erofs", "above.tar"].map(path);
    same(&path("others"), &devices, &all, "in another order");
    // One file with all of it, too.
    let devices: Vec<_> = devices
        .iter()
        .map(|path| format!("--device={}", path.display()))
        .collect();
    let mut words = vec!["export", "--quiet", "-o", "flat", "others"];
    words.extend(devices.iter().map(String::as_str));
    let (code, _, errors) = ferofs(&scratch, &words);
    assert_eq!((code, errors.as_str()), (0, ""));
    same(&path("flat"), &[], &all, "a flat file");
}

/// Addresses of indexes have 32 bits, those of records 48.
#[test]
fn far_addresses_have_room_in_records() {
    let huge = image::Options::default().with_devices(vec![Device::new(1 << 44)]);
    let mut out = Cursor::new(Vec::new());
    image::write(&Tree::new(), &huge, &Nothing, &mut out).unwrap();
    let huge = Image::new(Path::new("huge"), Box::new(out.into_inner())).unwrap();
    let bytes = made(Algorithm::Zstd);
    let image = Image::new(Path::new("made"), Box::new(bytes.clone())).unwrap();
    let far = |names: &[&str]| {
        let mut exclude = Exclude::default();
        for name in names {
            exclude.add_path(name.as_bytes());
        }
        let mut merge = Merge::new().with_exclude(exclude);
        merge.apply(&huge).unwrap();
        merge.apply(&image).unwrap();
        write(merge)
    };
    let said = far(&[]).unwrap_err().to_string();
    let expected = "its compressed data is at block 34359738";
    assert!(
        said.contains(expected) && said.contains("expected less than 4294967295"),
        "{said}"
    );
    let (merged, devices) = far(&["compact", "full"]).unwrap();
    assert_eq!(devices, 2);
    let merged = Image::new(Path::new("merged"), Box::new(merged)).unwrap();
    let none: Box<dyn ferofs::read_at::ReadAt> = Box::new(Vec::new());
    let made: Box<dyn ferofs::read_at::ReadAt> = Box::new(bytes);
    merged.give([none.into(), made.into()]);
    for name in ["extents", "fragment", "tail"] {
        let inode = merged.find(name.as_bytes()).unwrap();
        let clusters = merged.clusters(&inode).unwrap();
        assert_eq!(
            clusters.map(|cluster| cluster.unwrap().len).sum::<u64>(),
            1000
        );
        let held = ferofs::format::Space::Inode(inode.nid());
        let found = merged.read_in(held, 0, 2000).unwrap();
        assert!(found == what_was_made()[name], "{name}");
    }
}

/// Wrong bytes, where they are, and what is said of them.
type Damage<'a> = (&'a str, Kind, Vec<(u64, Vec<u8>)>);

#[test]
fn what_cannot_be_merged_is_said() {
    let [_, extents, fragment, full, tail, packed] = NIDS.map(|nid| nid * 32);
    let number = |at: u64, value: u64, size: usize| (at, value.to_le_bytes()[..size].to_vec());
    let header = 32;
    let size = |at: u64, size: u64| number(at + 8, size, 4);
    let cases: [Damage<'_>; 9] = [
        (
            "\"/full\": its data is at 50688 to 51200 of the image, which has 8192 bytes",
            Kind::Damaged,
            vec![number(full + header + 16 + 4, 99, 4)],
        ),
        (
            "\"/extents\": its data is at 8000 to 8512 of the image, which has 8192 bytes",
            Kind::Damaged,
            vec![number(extents + header + 16 + 4, 8000, 4)],
        ),
        (
            "\"/fragment\": its fragment is at 500 to 1500 of the packed inode, which has 1000 bytes",
            Kind::Damaged,
            vec![number(fragment + header, (1 << 63) | 500, 8)],
        ),
        (
            "\"/fragment\": it has a fragment, and the image no packed inode",
            Kind::Damaged,
            vec![number(1024 + 96, 0, 8)],
        ),
        (
            "\"/fragment\": the packed inode, where it has a fragment: it has a fragment in itself",
            Kind::Damaged,
            vec![number(packed + header, 1 << 63, 8)],
        ),
        (
            "\"/fragment\": the packed inode, where it has a fragment: its data is at 50688 to 51200 of the image",
            Kind::Damaged,
            vec![number(packed + header + 16 + 4, 99, 4)],
        ),
        (
            "an algorithm that the image does not announce",
            Kind::Damaged,
            vec![(full + header + 6, vec![2])],
        ),
        // One extent of a cluster that says nothing of how long it is, of a terabyte: hardly any indexes are read.
        (
            "more in it than 8192 bytes have room for",
            Kind::Damaged,
            vec![
                (full, vec![3]),
                number(full + 8, 1 << 40, 8),
                // The extended inode takes 32 bytes more: the header, an unused word, and a head that is a hole, a nonhead
                // that leads far.
                (full + 32, vec![0; 48]),
                number(full + 44, 1, 4),
                number(full + 64 + 16, 0x4001, 8),
                number(full + 64 + 24, 2 | (0xffff_0001 << 32), 8),
            ],
        ),
        (
            "inode's inline data crosses a block",
            Kind::Damaged,
            vec![size(tail, 1000), number(tail + header + 2, 600, 2)],
        ),
    ];
    for (what, kind, damage) in cases {
        let mut bytes = made(Algorithm::Zstd);
        for (at, new) in damage {
            let at = at as usize;
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        let merged = merge_bytes(&[made(Algorithm::Lz4), bytes]);
        let error = merged.map(|_| what).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(what), "{what}: {said}");
        assert!(said.starts_with("layer1: "), "{said}");
        assert_eq!(error.kind(), kind, "{said}");
    }
}

/// An image without compressed files, in blocks of this size.
fn plain(bits: u8, devices: Vec<Device>) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let options = image::Options::default()
        .with_block_bits(bits)
        .with_devices(devices);
    image::write(&Tree::new(), &options, &Nothing, &mut out).unwrap();
    out.into_inner()
}

/// Layers that are sound each by itself.
#[test]
fn what_does_not_fit_together_is_said() {
    let lz4 = made(Algorithm::Lz4);
    // Before Linux 5.3.
    let mut unpadded = lz4.clone();
    unpadded[1024 + 80] &= !(incompat::LZ4_0PADDING as u8);
    let scratch = Scratch::new();
    put(
        &scratch.join("tree"),
        &[("a".to_string(), text(1, 9000))].into(),
    );
    build(&scratch, "-b4096 -zlz4", "tree", "large");
    let large = fs::read(scratch.join("large")).unwrap();
    let cases: [(&[Vec<u8>], &str); 4] = [
        (
            &[large.clone(), lz4.clone()],
            "layer0: it has compressed files, in blocks of 4096 bytes, expected blocks of 512 bytes as layer1 has: an \
             image has blocks of one size",
        ),
        (
            &[plain(9, Vec::new()), large.clone()],
            "layer1: it has compressed files, in blocks of 4096 bytes, expected blocks of 512 bytes as layer0 has: an \
             image has blocks of one size",
        ),
        (
            &[unpadded.clone(), lz4.clone()],
            "layer1: its data of LZ4 has zeros in front of it, and that of layer0 has none in front of it: an image has \
             both in one way",
        ),
        (
            &[lz4.clone(), unpadded.clone()],
            "layer1: its data of LZ4 has none in front of it, and that of layer0 has zeros in front of it: an image has \
             both in one way",
        ),
    ];
    for (layers, expected) in cases {
        let error = merge_bytes(layers).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), Kind::Unsupported);
    }
    // Larger blocks elsewhere do not matter, nor does an old layer alone.
    for layers in [&[plain(12, Vec::new()), lz4.clone()][..], &[unpadded]] {
        let (bytes, _) = merge_bytes(layers).unwrap();
        let merged = Image::new(Path::new("merged"), Box::new(bytes)).unwrap();
        assert_eq!(merged.superblock().block_size(), 512);
        let padded = merged.superblock().lz4_is_padded();
        assert_eq!(padded, layers.len() == 2);
    }
    // Asked for with other blocks, or with the data in it.
    let mut merge = Merge::new();
    merge
        .apply(&Image::new(Path::new("made"), Box::new(lz4)).unwrap())
        .unwrap();
    let merged = merge.finish().unwrap();
    for (options, expected) in [
        (
            merged.options().with_block_bits(12),
            "\"/compact\": its compressed data is in blocks of 512 bytes, and the image has blocks of 4096",
        ),
        (
            merged.options().with_mode(image::Mode::Full),
            "compressed data stays in blobs, and an image with its data in it has none",
        ),
    ] {
        let out = Cursor::new(Vec::new());
        let error = image::write(&merged.tree, &options, &merged.tails, out).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

/// A layer that has devices, and compressed data in its image: who has the devices need not have that.
#[test]
fn compressed_data_beside_devices_is_refused() {
    let (bytes, _) = merge_bytes(&[made(Algorithm::Zstd)]).unwrap();
    let image = Image::new(Path::new("merged"), Box::new(bytes.clone())).unwrap();
    let slot = image.superblock().device_table_pos() as usize;
    let start = image.devices().unwrap()[0].uniaddr;
    // The device is said to be elsewhere, and the addresses mean the image.
    let mut moved = bytes.clone();
    moved[slot + 68..slot + 72].copy_from_slice(&(start as u32 + 1000).to_le_bytes());
    let said = merge_bytes(&[moved]).unwrap_err().to_string();
    let expected =
        "its compressed data is in the image itself, expected it in a device as the image has some";
    assert!(said.contains(expected), "{said}");
    // It ends in the middle of the data.
    let mut short = bytes;
    short[slot + 64..slot + 68].copy_from_slice(&BLOCK.to_le_bytes());
    let said = merge_bytes(&[short]).unwrap_err().to_string();
    assert!(said.contains(expected), "{said}");
    // Two in one place.
    let (mut both, _) = merge_bytes(&[made(Algorithm::Zstd), made(Algorithm::Lz4)]).unwrap();
    let image = Image::new(Path::new("merged"), Box::new(both.clone())).unwrap();
    let first = image.devices().unwrap()[0].uniaddr as u32;
    let slot = image.superblock().device_table_pos() as usize + 128;
    both[slot + 68..slot + 72].copy_from_slice(&(first + 1).to_le_bytes());
    let said = merge_bytes(&[both]).unwrap_err().to_string();
    let expected = "layer0: devices that lie on top of each other in one address space";
    assert_eq!(said, expected);
}

/// Layers that end too early, or have some bytes changed where there are structures: they are refused, or the merged image has
/// nothing wrong but what is copied as it is, and is read as the layer is.
#[test]
fn damaged_layers_are_refused_or_merged() {
    let (mut refused, mut merged_ones) = (0, 0);
    for algorithm in Algorithm::ALL {
        let sound = made(algorithm);
        let cut = (0..sound.len()).step_by(211).map(|len| {
            let mut bytes = sound.clone();
            bytes.truncate(len);
            bytes
        });
        let changed = (0..400).map(|seed| changed(&sound, seed));
        for (number, bytes) in cut.chain(changed).enumerate() {
            let context = format!("{algorithm:?}, {number}");
            let Ok((merged, _)) = merge_bytes(&[made(Algorithm::Lz4), bytes.clone()]) else {
                refused += 1;
                continue;
            };
            merged_ones += 1;
            let merged = Image::new(Path::new("merged"), Box::new(merged)).unwrap();
            let slots = merged.devices().unwrap();
            let files = [made(Algorithm::Lz4), bytes.clone()];
            let sizes: Vec<u64> = slots.iter().map(|slot| slot.blocks * 512).collect();
            let report = check(&merged, &sizes, &mut |_| {}).unwrap();
            for problem in report.problems {
                let as_it_is = ["attribute", "cannot be had from"];
                let known = as_it_is.iter().any(|text| problem.what.contains(text));
                assert!(known, "{context}: {problem:?}");
            }
            let lower = slots.len() - 1;
            let devices = files.iter().skip(1 - lower.min(1)).map(|bytes| {
                let bytes: Box<dyn ferofs::read_at::ReadAt> = Box::new(bytes.clone());
                bytes.into()
            });
            merged.give(devices);
            let layer = Image::new(Path::new("layer"), Box::new(bytes)).unwrap();
            for name in MADE {
                let (Ok(inode), Ok(found)) =
                    (layer.find(name.as_bytes()), merged.find(name.as_bytes()))
                else {
                    continue;
                };
                if inode.kind() != ferofs::format::FileKind::Regular || inode.size() > 1 << 20 {
                    continue;
                }
                assert_eq!(found.size(), inode.size(), "{context}: {name}");
                let held = |image: &Image, nid| {
                    let space = ferofs::format::Space::Inode(nid);
                    image.read_in(space, 0, inode.size() as usize).ok()
                };
                let expected = held(&layer, inode.nid());
                if let Some(expected) = expected {
                    let found = held(&merged, found.nid());
                    assert!(found == Some(expected), "{context}: {name}");
                }
            }
        }
    }
    // Both happen.
    assert!(
        refused > 100 && merged_ones > 100,
        "{refused} {merged_ones}"
    );
}

/// What programs show of a merged image, with its devices given.
#[test]
fn commands_read_merged_images() {
    let scratch = Scratch::new();
    let (below, above) = two_trees(&scratch);
    build(
        &scratch,
        "-b4096 -zlz4hc -C65536 -Eztailpacking",
        "below",
        "below.erofs",
    );
    build(
        &scratch,
        "-b4096 -zzstd -C16384 -Efragments",
        "above",
        "above.erofs",
    );
    let run = |words: &str| {
        let words: Vec<_> = words.split_whitespace().collect();
        ferofs(&scratch, &words)
    };
    let quiet = (0, String::new(), String::new());
    assert_eq!(
        run("merge --quiet --digest -o merged below.erofs above.erofs"),
        quiet
    );
    let devices = "--device below.erofs --device above.erofs";
    assert_eq!(
        run(&format!("check --quiet {devices} --extract out merged")),
        quiet
    );
    let mut all = together(&below, &above);
    all.insert("linked".to_string(), above["common"].clone());
    put(&scratch.join("both"), &all);
    assert_eq!(scratch.sh("diff -r both out && echo same"), "same\n");
    let diff = "diff --ignore mtime,mode,owner,links,linked-to";
    let (code, said, errors) = run(&format!(
        "{diff} --new-device below.erofs --new-device above.erofs both merged"
    ));
    assert_eq!((code, said.as_str(), errors.as_str()), (0, "", ""));
    let (code, said, _) = run(&format!("cat {devices} merged /text70000-1000"));
    assert_eq!((code, said.as_bytes()), (0, &*below["text70000-1000"]));
    let (_, said, _) = run("ls merged /");
    assert_eq!(said.lines().count(), all.len(), "{said}");
    // Where data is is said by its device.
    let image = Image::open(&scratch.join("below.erofs")).unwrap();
    let inode = image.find(b"text70000-1000").unwrap();
    let cluster = image.clusters(&inode).unwrap().next().unwrap().unwrap();
    let ferofs::format::Content::Encoded(encoded) = cluster.content else {
        panic!("{cluster:?}");
    };
    let (_, said, _) = run("dump merged --path /text70000-1000");
    let expected = format!(
        "{} bytes of lz4 in device 1 at {}\n",
        encoded.len, encoded.pos
    );
    assert!(said.contains(&expected), "{said}: {expected}");
    let (_, said, _) = run("dump merged --json --path /text70000-1000");
    let expected = "\"device\": 1,\n";
    assert!(said.contains(expected), "{said}");
    // By their sha256 the layers are found.
    scratch.sh("mkdir blobs && for layer in below above; do \
         mv $layer.erofs blobs/$(sha256sum $layer.erofs | cut -c1-64); done");
    assert_eq!(run("check --quiet --blobs blobs merged"), quiet);
}

/// Compressed data is found by where a device is in one file with the image: an export that would move it is refused.
#[test]
fn an_export_moves_no_compressed_data() {
    let scratch = Scratch::new();
    let layer = made(Algorithm::Zstd);
    fs::write(scratch.join("layer"), &layer).unwrap();
    let (mut bytes, _) = merge_bytes(&[layer]).unwrap();
    let image = Image::new(Path::new("merged"), Box::new(bytes.clone())).unwrap();
    let slot = image.superblock().device_table_pos() as usize;
    // Within the image.
    bytes[slot + 68..slot + 72].copy_from_slice(&1_u32.to_le_bytes());
    fs::write(scratch.join("merged"), bytes).unwrap();
    let words = [
        "export",
        "--quiet",
        "-o",
        "flat",
        "--device=layer",
        "merged",
    ];
    let (code, _, errors) = ferofs(&scratch, &words);
    assert_eq!(code, 1);
    let expected = "merged: device 1 is to be at 512 in one file with the image, where there is no room for it, and \
                    compressed data is found by that; it would be at ";
    assert!(errors.contains(expected), "{errors}");
    assert!(!scratch.join("flat").exists());
}

/// A file of random parts, of those that indexes of logical clusters can have, or records; how long it is.
fn random_parts(seed: u64, block_bits: u8, mapped: Mapped) -> (Vec<Part>, u64) {
    let mut numbers = noise(seed, 8 * 400);
    let mut random = |below: u64| {
        let bytes = numbers.split_off(numbers.len() - 8);
        u64::from_le_bytes(bytes.try_into().unwrap()) % below
    };
    let block = 1_u64 << block_bits;
    let cluster = match mapped {
        Mapped::Indexes { bits, .. } => 1 << bits,
        Mapped::Records => 1,
    };
    let count = 1 + random(30);
    let (mut parts, mut offset, mut next) = (Vec::new(), 0, random(1000) * block);
    for number in 0..count {
        let last = number + 1 == count;
        let in_cluster = offset % cluster;
        let one_after_the_other = seed % 2 == 0;
        let blob = if one_after_the_other {
            1
        } else {
            random(2) as u16
        };
        let (plain, big) = (random(3) == 0, random(2) == 0);
        let blocks = if big && !plain { 1 + random(16) } else { 1 };
        let mut len = blocks * block;
        let partial = !one_after_the_other && !plain && random(3) == 0;
        // Until the logical cluster behind, or so far that there is room for the number of blocks.
        let least = match blocks {
            1 => cluster - in_cluster,
            _ => 2 * cluster - in_cluster,
        };
        let mut length = match plain {
            true => least.max(1 + random(len)),
            false => least.max(len) + random(5 * cluster),
        };
        if last && !plain {
            length = least.max(len);
        }
        if plain && length > len {
            len = length.next_multiple_of(block);
        }
        let is_hole = !one_after_the_other && random(8) == 0;
        if !one_after_the_other {
            next = random(1 << 20) * block;
        }
        if mapped == Mapped::Records {
            // Anywhere, and of any size.
            len -= random(block.min(len));
            length = match plain {
                true => len,
                false => length.max(len),
            };
            next += random(block);
        }
        let algorithm = match (plain, random(2)) {
            (true, _) => None,
            (_, 0) => Some(Algorithm::Lzma),
            (_, _) => Some(Algorithm::Zstd),
        };
        let pos = next;
        // Indexes have room for plain data of one block only where there is no index more.
        let plain_blocks = len / block;
        let fits =
            mapped == Mapped::Records || plain_blocks < 2 || length + in_cluster >= 2 * cluster;
        let from = match is_hole || !fits {
            true => Origin::Hole,
            false => Origin::Blob {
                blob,
                pos,
                len: len as u32,
                algorithm,
                partial,
            },
        };
        next += len;
        offset += length;
        parts.push(Part { length, from });
    }
    (parts, offset)
}

/// What is written of a file's parts is what is read, wherever blobs begin in the one address space.
#[test]
fn what_parts_a_file_has_is_read_as_it_was_written() {
    let (mut compact, mut holes, mut both) = (0, 0, 0);
    for seed in 0..600 {
        let block_bits = [9, 10, 12][seed as usize % 3];
        let block = 1_u64 << block_bits;
        let mapped = match seed % 5 {
            0 => Mapped::Records,
            kind => Mapped::Indexes {
                bits: block_bits + [0, 0, 1, 2][kind as usize - 1],
                compact: seed % 7 != 0,
                interlaced: seed % 4 == 0,
            },
        };
        let (mut parts, mut size) = random_parts(seed, block_bits, mapped);
        if seed % 10 == 0 {
            // Of more than 4 GiB, whose records are larger.
            let length = (5 << 30) + seed;
            parts.insert(
                0,
                Part {
                    length,
                    from: Origin::Hole,
                },
            );
            size += length;
        }
        let referred = Referred::new(parts.clone(), mapped, block_bits, 0, 7);
        compact += u32::from(referred.layout() == layout::COMPRESSED_COMPACT);
        let announced = Announced {
            algorithms: Algorithm::Lzma.bit() | Algorithm::Zstd.bit(),
            is_padded: true,
            configured: true,
            lzma_dictionary: 4096,
            zstd_window: 1 << 17,
            features: referred.features(),
            has_records: referred.has_records(),
            ..Announced::default()
        };
        let mut tree = Tree::new();
        let attributes = tree.inode(tree.inode_of(NameId::ROOT)).attributes;
        let content = Content::File {
            blob: 0,
            size,
            data: Data::Referred(Box::new(referred)),
        };
        let inode = tree
            .add_inode(Inode {
                attributes,
                content,
            })
            .unwrap();
        tree.add_name(NameId::ROOT, b"file", inode).unwrap();
        let options = image::Options::default()
            .with_block_bits(block_bits)
            .with_referred(Some(announced))
            .with_devices(vec![Device::new(777 * block), Device::new(1 << 31)]);
        let mut out = Cursor::new(Vec::new());
        image::write(&tree, &options, &Nothing, &mut out).unwrap();
        let image = Image::new(Path::new("written"), Box::new(out.into_inner())).unwrap();
        let starts = image.devices().unwrap();
        let starts: Vec<u64> = starts.iter().map(|slot| slot.uniaddr * block).collect();
        assert!(starts.iter().all(|start| *start > 0 && start % 4096 == 0));
        let inode = image.find(b"file").unwrap();
        let found: Vec<_> = image.clusters(&inode).unwrap().collect();
        let found = found.into_iter().map(|found| {
            let found = found.unwrap_or_else(|error| panic!("{seed}: {error}: {parts:?}"));
            (found.start, found.len, found.content)
        });
        let mut start = 0;
        let expected = parts.iter().map(|part| {
            let before = start;
            start += part.length;
            let content = match part.from {
                Origin::Blob {
                    blob,
                    pos,
                    len,
                    algorithm,
                    partial,
                } => ferofs::format::Content::Encoded(Encoded {
                    encoding: match (algorithm, mapped) {
                        (Some(algorithm), _) => Encoding::Compressed(algorithm),
                        (
                            None,
                            Mapped::Indexes {
                                interlaced: true, ..
                            },
                        ) => Encoding::Interlaced,
                        (None, _) => Encoding::Plain,
                    },
                    space: ferofs::format::Space::Device(0),
                    pos: starts[usize::from(blob)] + pos,
                    len,
                    partial,
                }),
                _ => {
                    holes += 1;
                    ferofs::format::Content::Hole
                }
            };
            (before, part.length, content)
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(found.collect::<Vec<_>>(), expected, "{seed}");
        let algorithms = |wanted| {
            let has = |part: &Part| matches!(part.from, Origin::Blob { algorithm, .. } if algorithm == Some(wanted));
            parts.iter().any(has)
        };
        both += u32::from(algorithms(Algorithm::Lzma) && algorithms(Algorithm::Zstd));
    }
    // All of that was there.
    assert!(
        compact > 50 && holes > 100 && both > 100,
        "{compact} {holes} {both}"
    );
}
