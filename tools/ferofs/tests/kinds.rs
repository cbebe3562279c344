// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Errors can be told apart by programs: each of these is of another kind, and says so.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::index_of_layer;
use common::layout;
use common::layout::Layout;
use common::wrong_image::seal_superblock;
use ferofs::error::Kind;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::inspect::contents::Contents;
use ferofs::mount::options::Options;
use ferofs::oci;
use ferofs::oci::Platform;
use ferofs::oci::Reference;
use ferofs::oci::layers;
use ferofs::oci::layers::Places;
use ferofs::opened::Data;
use ferofs::opened::Opened;
use ferofs::opened::Reading;
use ferofs::output::Output;
use ferofs::tree::Tree;
use std::fs;
use std::path::Path;

fn read(path: &Path) -> Result<()> {
    let mut tree = Tree::new();
    let reading = Reading::new(Data::Stays, path);
    Opened::open(path)?
        .read(reading, &mut tree, &mut ())
        .map(drop)
}

/// An image with some bytes changed, and its checksum right.
fn changed(scratch: &Scratch, at: usize, byte: u8) -> Result<Image> {
    let mut bytes = fs::read(scratch.join("layer.erofs")).unwrap();
    bytes[at] ^= byte;
    seal_superblock(&mut bytes);
    Image::new(Path::new("changed"), Box::new(bytes))
}

fn container(scratch: &Scratch, layer: &[u8]) -> Result<()> {
    let tar = fs::read(scratch.join("layer.tar")).unwrap();
    let layout = Layout::new(scratch.join("app"));
    let descriptor = layout.blob(layout::LAYER, &tar);
    fs::write(layout.blob_path(descriptor.digest), layer).unwrap();
    let config = layout.config("linux/amd64", &[&tar]);
    layout.index(&[layout.manifest(&config, &[descriptor])]);
    let name = format!("oci:{}", layout.0.display());
    let reference = Reference::parse(Path::new(&name))?.unwrap();
    let image = oci::open(&reference, Platform::parse("linux/amd64").as_ref())?;
    let directory = scratch.join("layers");
    layers::prepare(&image, Places::new(&directory), &|_| {}).map(drop)
}

#[test]
fn errors_are_of_kinds() {
    let scratch = Scratch::new();
    let tar = scratch.join("layer.tar");
    let bytes = Archive::new().file("f", "data").end();
    fs::write(&tar, &bytes).unwrap();
    let image = index_of_layer(&tar, None).unwrap();
    let open = |name: &str| Image::open(&scratch.join(name)).map(drop);
    let cat = |path: &str, tars: &[&str]| {
        let tars: Vec<_> = tars.iter().map(|name| scratch.join(name)).collect();
        let contents = Contents::new(&image, &tars, &[])?;
        contents.copy(path.as_bytes(), &mut |_| Ok::<(), ferofs::error::Error>(()))
    };
    fs::write(scratch.join("text"), "text").unwrap();
    scratch.sh(
        "gzip -k layer.tar; head -c 514 layer.tar >cut.tar; head -c 20480 /dev/zero >other.tar",
    );
    let mut other = bytes.clone();
    other[600] ^= 1;
    let reference = Reference::parse(Path::new("oci:/nonexistent"));
    let reference = reference.unwrap().unwrap();
    let metadata = fs::metadata(&tar).unwrap();
    let good: Vec<(&str, Result<()>)> = vec![
        ("an image", open("layer.erofs")),
        ("its data", cat("f", &["layer.tar"])),
        ("a tar", read(&tar)),
        ("a container", container(&scratch, &bytes)),
    ];
    for (what, result) in good {
        assert!(result.is_ok(), "{what}: {result:?}");
    }
    for (expected, result) in [
        (Kind::Io, open("missing")),
        (Kind::Io, oci::open(&reference, None).map(drop)),
        (Kind::NotAnImage, open("text")),
        (Kind::NotAnImage, open("layer.tar")),
        (Kind::NotAnImage, open("layer.tar.gz")),
        // The root's number, and a bit of the features that change everything that nobody knows.
        (
            Kind::Damaged,
            changed(&scratch, 1024 + 14, 0xff).and_then(|image| image.root().map(drop)),
        ),
        (
            Kind::Unsupported,
            changed(&scratch, 1024 + 81, 0x80).map(drop),
        ),
        (Kind::Archive, read(&scratch.join("cut.tar"))),
        (Kind::Archive, read(&scratch.join("text"))),
        (Kind::Unsupported, read(&scratch.join("layer.tar.gz"))),
        (Kind::NotFound, cat("missing", &["layer.tar"])),
        (Kind::NotFound, cat("f", &[])),
        (Kind::WrongBlob, cat("f", &["other.tar"])),
        (Kind::Request, cat("/", &["layer.tar"])),
        (Kind::Request, cat("f", &["layer.tar", "layer.tar"])),
        (Kind::WrongDigest, container(&scratch, &other)),
        (Kind::Container, container(&scratch, &bytes[..1024])),
        (
            Kind::Refused,
            Output::create(&tar, &[(&tar, &metadata)]).map(drop),
        ),
        (Kind::Request, Options::default().parse("device=")),
    ] {
        let Err(error) = result else {
            panic!("expected an error of kind {expected:?}");
        };
        assert_eq!(error.kind(), expected, "{error}");
    }
}
