// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writes what each target starts from: archives made as the tests make theirs, and the images and
//! pairs of images they come to.

#[allow(dead_code)]
#[path = "../../ferofs/tests/common/archive.rs"]
mod archive;

#[path = "../../ferofs/tests/common/compressed_image.rs"]
mod compressed_image;

use archive::Archive;
use archive::GNU;
use archive::Header;
use archive::V7;
use archive::base256;
use archive::octal;
use archive::seal;
use erofs_format::Algorithm;
use ferofs::digest::Digest;
use ferofs::inspect::check::check;
use ferofs_fuzz::END;
use ferofs_fuzz::index;
use ferofs_fuzz::open;
use std::error::Error;
use std::fs;
use std::io::Write;
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

/// Archives as they come through a pipe: plain and compressed.
fn streams(archives: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut streams = archives.to_vec();
    for archive in archives {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(archive)?;
        streams.push(gzip.finish()?);
        streams.push(zstd::encode_all(archive.as_slice(), 9)?);
    }
    Ok(streams)
}

/// Container images as the target `layout` takes them.
fn layouts(archives: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let one = |archive: &Vec<u8>| !archive.contains(&END);
    let Some(tar) = archives.iter().find(|archive| one(archive)) else {
        return Err("there is no such archive".into());
    };
    let config = |tar: &str| {
        format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:{tar}"]}}}}"#
        )
    };
    let blob = |kind: &str, number: &str, size: usize| {
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{number}","size":{size}}}"#)
    };
    let oci = "application/vnd.oci.image";
    let digest = Digest::of(tar).to_string();
    let config_json = config("@3");
    // With digests instead of the two bytes that stand for them.
    let size = |json: &str| json.len() + json.matches('@').count() * 62;
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        blob(&format!("{oci}.config.v1+json"), "@2", size(&config_json)),
        blob(&format!("{oci}.layer.v1.tar"), "@3", tar.len())
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        blob(&format!("{oci}.manifest.v1+json"), "@1", size(&manifest))
    );
    let parts = [
        index.as_bytes(),
        manifest.as_bytes(),
        config_json.as_bytes(),
        tar,
    ];
    let layout = [&[2], parts.join(&END).as_slice()].concat();
    let saved = Archive::new()
        .with_data(Header::new("config.json", b'0'), config(&digest).as_bytes())
        .with_data(Header::new("layer.tar", b'0'), tar)
        .file(
            "manifest.json",
            r#"[{"Config":"config.json","RepoTags":["a:b"],"Layers":["layer.tar"]}]"#,
        )
        .end();
    let saved = [&[1], saved.as_slice()].concat();
    Ok(vec![layout, saved])
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
    let pair = |lower: &Vec<u8>, upper: &Vec<u8>| -> Result<_, Box<dyn Error>> {
        let at = u32::try_from(lower.len())?.to_le_bytes();
        Ok([at.as_slice(), lower, upper].concat())
    };
    for lower in &images {
        for upper in &images {
            pairs.push(pair(lower, upper)?);
        }
    }
    let mut readable = images.clone();
    let mut layers = pairs.clone();
    for algorithm in Algorithm::ALL {
        let image = compressed_image::make(algorithm)?;
        let opened = open(image.clone()).ok_or("an image that cannot be opened")?;
        let report = check(&opened, &[], &mut |_| {})?;
        if report.encoded == 0 || !report.problems.is_empty() {
            return Err(format!("a wrong image: {report:?}").into());
        }
        let below = readable.last().ok_or("no image")?;
        layers.push(pair(below, &image)?);
        layers.push(pair(&image, &image)?);
        readable.push(image);
    }
    write(directory, "archive", &archives)?;
    write(directory, "image", &readable)?;
    write(directory, "stream", &streams(&archives)?)?;
    write(directory, "layout", &layouts(&archives)?)?;
    write(directory, "extract", &readable)?;
    write(directory, "diff", &pairs)?;
    write(directory, "merge", &layers)
}
