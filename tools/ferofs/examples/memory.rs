// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Makes an image of files that are nowhere but in memory, and reads one of them again.

use ferofs::image;
use ferofs::image::Mode;
use ferofs::image::Options;
use ferofs::image::source::Blobs;
use ferofs::inspect::Image;
use ferofs::inspect::contents::Contents;
use ferofs::tar::Data;
use ferofs::tar::Entry;
use ferofs::tar::Kind;
use ferofs::tree::Tree;
use ferofs::tree::apply::apply_all;
use std::error::Error;
use std::io::Cursor;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    // The data of all files, one behind the other.
    let blob = b"Hello!\nserver=example.org\n";
    let file = |pos, size| Kind::File {
        size,
        data: Data::Contiguous(pos),
    };
    let entries = [
        Entry::new(b"etc", Kind::Directory),
        Entry::new(b"etc/motd", file(0, 7)),
        Entry::new(b"etc/server.conf", file(7, 19))
            .with_mode(0o600)
            .with_uid(33),
        Entry::new(b"motd", Kind::Symlink(b"etc/motd")),
    ];
    let mut tree = Tree::new();
    for note in apply_all(&mut tree, 0, entries)? {
        eprintln!("{note}");
    }

    // With `Mode::Index` the data would stay in the blob, a device of its own.
    let options = Options::default().with_mode(Mode::Full).with_block_bits(12);
    let mut out = Cursor::new(Vec::new());
    image::write(&tree, &options, &Blobs(vec![blob.as_slice()]), &mut out)?;

    let image = Image::new(Path::new("in memory"), Box::new(out.into_inner()))?;
    let mut read = Vec::new();
    Contents::of::<&[u8]>(&image, Vec::new())?.copy(b"/etc/server.conf", &mut |piece| {
        read.extend_from_slice(piece);
        Ok::<(), ferofs::error::Error>(())
    })?;
    assert_eq!(read, b"server=example.org\n");
    println!("{} bytes", read.len());
    Ok(())
}

#[test]
fn works() {
    main().unwrap();
}
