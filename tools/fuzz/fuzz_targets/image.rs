// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Any bytes as an image: everything in it can be asked for, and what `check` finds nothing wrong
//! with can be read without an error.

#![no_main]

use ferofs::inspect::Image;
use ferofs::inspect::check::check;
use ferofs_fuzz::open;
use ferofs_fuzz::walk::walk;
use libfuzzer_sys::fuzz_target;

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
