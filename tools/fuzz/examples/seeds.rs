// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writes what each target starts from: archives made as the tests make theirs, and the images and
//! pairs of images they come to.

#[allow(dead_code)]
#[path = "../../ferofs/tests/common/archive.rs"]
mod archive;

use archive::Archive;
use archive::GNU;
use archive::Header;
use archive::V7;
use archive::base256;
use archive::octal;
use archive::seal;
use ferofs_fuzz::index;
use std::error::Error;
use std::fs;
use std::path::Path;

/// Archives with something of everything, each of them small.
fn archives() -> Vec<Vec<u8>> {
    let mut sparse = Header::new("gnu", b'S').magic(GNU).size(516).block();
    for (at, (offset, length)) in [(0, 512), (8192, 4)].into_iter().enumerate() {
        let at = 386 + at * 24;
        sparse[at..at + 12].copy_from_slice(&octal(offset, 12));
        sparse[at + 12..at + 24].copy_from_slice(&octal(length, 12));
    }
    sparse[483..495].copy_from_slice(&octal(20_000, 12));
    seal(&mut sparse);
    let data = "s".repeat(516);
    let mut old = Header::new("old", b'0');
    old.mtime = base256(-1, 12);
    vec![
        Archive::new()
            .directory("d/")
            .file("d/file", "data")
            .hard_link("again", "d/file")
            .symlink("link", "d")
            .file("link/through", "x")
            .header(Header::new("fifo", b'6'))
            .header(Header::new("null", b'3').device(1, 3))
            .header(old)
            .end(),
        Archive::new()
            .pax(&[
                ("path", "pax/name"),
                ("mtime", "-1.5"),
                ("uid", "70000"),
                ("SCHILY.xattr.user.a", "value"),
                ("LIBARCHIVE.xattr.trusted.b", "AQI"),
            ])
            .file("x", "abc")
            .pax(&[
                (
                    "SCHILY.acl.access",
                    "user::rw-,user:7:rwx,group::r--,mask::rwx,other::r--",
                ),
                ("SCHILY.acl.default", "user::rwx,group::r-x,other::---"),
            ])
            .directory("acl/")
            .global(&[("gid", "7")])
            .pax(&[("SCHILY.filetype", "socket")])
            .file("socket", "")
            .long(b'L', &"long/".repeat(30))
            .header(Header::new("x", b'0').magic(GNU))
            .end(),
        Archive::new()
            .block(sparse)
            .data(data.as_bytes())
            .pax(&[
                ("GNU.sparse.size", "20000"),
                ("GNU.sparse.map", "0,512,8192,4"),
            ])
            .file("v0.1", &data)
            .pax(&[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.realsize", "20000"),
            ])
            .with_data(
                Header::new("v1.0", b'0'),
                &[
                    b"2\n0\n512\n8192\n4\n".as_slice(),
                    &[0; 497],
                    data.as_bytes(),
                ]
                .concat(),
            )
            .end(),
        Archive::new()
            .file("d/.wh.gone", "")
            .file("d/.wh..wh..opq", "")
            .header(Header::new("d/white", b'3'))
            .pax(&[("SCHILY.xattr.trusted.overlay.opaque", "y")])
            .directory("e/")
            .file("e/new", "n")
            .end(),
        Archive::new()
            .header(Header::new("v7", b'0').magic(V7))
            .header(Header::new("label", b'V').magic(GNU))
            .file("a/b/c/../d", "deep")
            .file("a", "a file now")
            .symlink("loop", "loop")
            .open_end(),
    ]
}

fn write(directory: &Path, target: &str, seeds: &[Vec<u8>]) -> Result<(), Box<dyn Error>> {
    let directory = directory.join(target);
    fs::create_dir_all(&directory)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(directory.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: seeds DIRECTORY")?;
    let directory = Path::new(&directory);
    let archives = archives();
    let images: Vec<_> = archives
        .iter()
        .filter_map(|archive| index(archive))
        .collect();
    let mut pairs = Vec::new();
    for lower in &images {
        for upper in &images {
            let at = u32::try_from(lower.len())?.to_le_bytes();
            pairs.push([at.as_slice(), lower, upper].concat());
        }
    }
    write(directory, "archive", &archives)?;
    write(directory, "image", &images)?;
    write(directory, "merge", &pairs)
}
