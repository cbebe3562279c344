// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Any bytes as an image: everything in it can be asked for, and what `check` finds nothing wrong
//! with can be read without an error.

#![no_main]

use erofs_format::Layout;
use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs_fuzz::open;
use ferofs_fuzz::walk::walk;
use libfuzzer_sys::fuzz_target;

/// Compressed files that claim to be larger are not read.
const LARGEST: u64 = 16 << 20;

/// Reads all that has a path, up to a number of files.
fn read_all(image: &Image) -> ferofs::error::Result<()> {
    let mut left = vec![image.root()?];
    let mut files = 0;
    while let Some(inode) = left.pop() {
        files += 1;
        if files > 500 {
            break;
        }
        image.xattrs(&inode)?;
        for extent in image.extents(&inode).take(500) {
            extent?;
        }
        for cluster in image.clusters(&inode)?.take(500) {
            cluster?;
        }
        // As far as a hole or a few clusters go.
        let clustered = matches!(inode.layout(), Layout::Compressed { .. });
        if clustered && inode.size() <= LARGEST {
            let mut pos = 0;
            while pos < inode.size() {
                let space = erofs_format::Space::Inode(inode.nid());
                let piece = image.read_in(space, pos, 1 << 16);
                let piece = piece.map_err(ferofs::error::Error::io("read", image.path()))?;
                assert!(!piece.is_empty(), "there is more of it");
                pos += piece.len() as u64;
            }
        }
        match inode.kind() {
            erofs_format::FileKind::Symlink => {
                image.link_target(&inode)?;
            }
            erofs_format::FileKind::Directory => {
                for name in image.names(&inode)? {
                    if !matches!(name.name.as_slice(), b"." | b"..") {
                        left.push(image.inode(name.nid)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let Some(image) = open(bytes.to_vec()) else {
        return;
    };
    walk(image.file());
    let report = check(&image, &[], &mut |_| {}).expect("memory can be read");
    let read = image.devices().map(drop).and_then(|()| read_all(&image));
    if report.problems.is_empty() {
        read.expect("what is not wrong can be read");
    }
});
