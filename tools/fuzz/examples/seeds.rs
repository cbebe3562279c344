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
use erofs_format::Algorithm;
use erofs_format::compressed::*;
use erofs_format::ondisk;
use erofs_format::ondisk::*;
use ferofs::digest::Digest;
use ferofs::inspect::check::check;
use ferofs_fuzz::END;
use ferofs_fuzz::index;
use ferofs_fuzz::open;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use zerocopy::IntoBytes;

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

/// What an algorithm makes of bytes.
fn encode(algorithm: Algorithm, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    Ok(match algorithm {
        Algorithm::Lz4 => {
            let mut encoded = Vec::new();
            let level = lzzzz::lz4::ACC_LEVEL_DEFAULT;
            lzzzz::lz4::compress_to_vec(bytes, &mut encoded, level)?;
            encoded
        }
        Algorithm::Lzma => {
            let mut encoded = vec![0; bytes.len() + 512];
            let (_, filled) = erofs_microlzma::Encoder::new(6, 4096)?.fill(bytes, &mut encoded)?;
            encoded.truncate(filled);
            encoded
        }
        Algorithm::Deflate => {
            let level = flate2::Compression::best();
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(bytes)?;
            encoder.finish()?
        }
        Algorithm::Zstd => zstd::encode_all(bytes, 3)?,
    })
}

/// An image of 512-byte blocks with one compressed file for each way in which clusters are found: full and compact indexes,
/// records, a tail behind the indexes, and fragments in a packed inode that is compressed itself.
fn compressed(algorithm: Algorithm) -> Result<Vec<u8>, Box<dyn Error>> {
    const FILES: [&[u8]; 5] = [b"compact", b"extents", b"fragment", b"full", b"tail"];
    let text = "the same words again, and ".repeat(40);
    let text = &text.as_bytes()[..1000];
    let encoded = encode(algorithm, text)?;
    let mut image = vec![0; 16 * 512];
    let mut put = |pos: usize, bytes: &[u8]| image[pos..pos + bytes.len()].copy_from_slice(bytes);
    // Zeros in front of it, up to its block.
    put(14 * 512 + 512 - encoded.len(), &encoded);
    let superblock = ondisk::Superblock {
        magic: SUPER_MAGIC.into(),
        checksum: 0.into(),
        feature_compat: 0.into(),
        blkszbits: 9,
        sb_extslots: 0,
        rootnid_2b: 64.into(),
        inos: (FILES.len() as u64 + 1).into(),
        epoch: 0.into(),
        fixed_nsec: 0.into(),
        blocks_lo: 16.into(),
        meta_blkaddr: 0.into(),
        xattr_blkaddr: 0.into(),
        uuid: [7; 16],
        volume_name: [0; 16],
        feature_incompat: (incompat::ALL
            & !(incompat::DEVICE_TABLE
                | incompat::METABOX
                | incompat::LAYOUT_48BIT
                | incompat::XATTR_PREFIXES))
            .into(),
        available_compr_algs: algorithm.bit().into(),
        extra_devices: 0.into(),
        devt_slotoff: 0.into(),
        dirblkbits: 0,
        xattr_prefix_count: 0,
        xattr_prefix_start: 0.into(),
        packed_nid: 112.into(),
        xattr_filter_reserved: 0,
        ishare_xattr_prefix_id: 0,
        reserved: [0; 2],
        build_time: 0.into(),
        rootnid_8b: 0.into(),
        reserved2: 0.into(),
    };
    put(1024, superblock.as_bytes());
    let config: &[u8] = match algorithm {
        Algorithm::Lz4 => &[14, 0, 0xff, 0xff, 1, 0],
        Algorithm::Lzma => &[14, 0, 0, 16, 0, 0],
        Algorithm::Deflate => &[6, 0, 15],
        Algorithm::Zstd => &[6, 0, 0, 1],
    };
    put(1024 + 128, config);
    let inode = |layout: u16, mode: u16, size: usize, links: u16| InodeCompact {
        i_format: (layout << format::LAYOUT_SHIFT).into(),
        i_xattr_icount: 0.into(),
        i_mode: mode.into(),
        i_nb: links.into(),
        i_size: (size as u32).into(),
        i_mtime: 0.into(),
        i_u: 0.into(),
        i_ino: 1.into(),
        i_uid: 0.into(),
        i_gid: 0.into(),
        i_reserved: 0.into(),
    };
    let mut names = vec![(&b"."[..], 64, 2), (b"..", 64, 2)];
    names.extend((0..).zip(FILES).map(|(number, name)| (name, 72 + 8 * number, 1)));
    let mut offset = names.len() * 12;
    let (mut entries, mut text_of_names) = (Vec::new(), Vec::new());
    for (name, nid, file_type) in &names {
        let entry = DirectoryEntry {
            nid: (*nid).into(),
            nameoff: (offset as u16).into(),
            file_type: *file_type,
            reserved: 0,
        };
        entries.extend_from_slice(entry.as_bytes());
        text_of_names.extend_from_slice(name);
        offset += name.len();
    }
    let block = [entries, text_of_names].concat();
    let root = inode(layout::FLAT_INLINE, mode::DIRECTORY | 0o755, block.len(), 2);
    put(64 * 32, &[root.as_bytes(), &block].concat());
    let header = |advise: u16, fragment: u32| MapHeader {
        h_fragmentoff: fragment.into(),
        h_advise: advise.into(),
        h_algorithmtype: algorithm.number(),
        h_clusterbits: 0,
    };
    let full = |number: u16, word: u32| LclusterIndex {
        di_advise: number.into(),
        di_clusterofs: 0.into(),
        di_u: word.into(),
    };
    let (head, nonhead) = (u16::from(lcluster::HEAD1), u16::from(lcluster::NONHEAD));
    let indexes = |header: MapHeader| {
        let (first, second) = (full(head, 14), full(nonhead, 1 | 1 << 16));
        [header.as_bytes(), &[0; 8], first.as_bytes(), second.as_bytes()].concat()
    };
    let mut pack = CompactPack::new(CompactForm::FourBytes, 9);
    pack.set_block(13);
    for (number, (kind, value)) in [(lcluster::HEAD1, 0), (lcluster::NONHEAD, 1)].into_iter().enumerate() {
        pack.set_entry(number as u32, CompactEntry { kind, value });
    }
    let record = Extent {
        plen: (512 | (u32::from(algorithm.number()) + 1) << extent::FORMAT_SHIFT).into(),
        pstart_lo: (14 * 512).into(),
        pstart_hi: 0.into(),
        lstart_lo: 0.into(),
        lstart_hi: 0.into(),
        reserved: [0; 12],
    };
    let records = MapHeader {
        h_algorithmtype: 0,
        ..header(advise::EXTENTS | 2 << advise::EXTENT_RECORD_SHIFT, 1)
    };
    let mut tail = indexes(header(
        advise::INLINE_PCLUSTER,
        MapHeader::of_idata_size(encoded.len() as u16).get(),
    ));
    tail.extend_from_slice(&encoded);
    let all: [(u64, u16, Vec<u8>); 6] = [
        (72, layout::COMPRESSED_COMPACT, [header(0, 0).as_bytes(), pack.as_bytes()].concat()),
        (80, layout::COMPRESSED_FULL, [records.as_bytes(), &[0; 8], &record.as_bytes()[..16]].concat()),
        (88, layout::COMPRESSED_FULL, MapHeader::FRAGMENT_INODE.to_le_bytes().to_vec()),
        (96, layout::COMPRESSED_FULL, indexes(header(0, 0))),
        (104, layout::COMPRESSED_FULL, tail),
        (112, layout::COMPRESSED_FULL, indexes(header(0, 0))),
    ];
    for (nid, layout, map) in all {
        let inode = inode(layout, mode::REGULAR | 0o644, text.len(), 1);
        put(nid as usize * 32, &[inode.as_bytes(), &map].concat());
    }
    Ok(image)
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
    let mut readable = images.clone();
    for algorithm in Algorithm::ALL {
        let image = compressed(algorithm)?;
        let opened = open(image.clone()).ok_or("an image that cannot be opened")?;
        let report = check(&opened, &[], &mut |_| {})?;
        if report.encoded == 0 || !report.problems.is_empty() {
            return Err(format!("a wrong image: {report:?}").into());
        }
        readable.push(image);
    }
    write(directory, "archive", &archives)?;
    write(directory, "image", &readable)?;
    write(directory, "stream", &streams(&archives)?)?;
    write(directory, "layout", &layouts(&archives)?)?;
    write(directory, "extract", &readable)?;
    write(directory, "diff", &pairs)?;
    write(directory, "merge", &pairs)
}
