// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A small compressed image put together by hand, with files that mkfs.erofs does not make so small. What the fuzzer starts
//! from, too.

use erofs_format::Algorithm;
use erofs_format::compressed::*;
use erofs_format::ondisk;
use erofs_format::ondisk::*;
use std::error::Error;
use std::io::Write;
use zerocopy::IntoBytes;

/// Where the encoded bytes are, which all files but one have in common: the end of this block.
pub const BLOCK: u32 = 14;
/// nids of the files: `compact`, `extents`, `fragment`, `full`, `tail`; and of the packed inode.
pub const NIDS: [u64; 6] = [72, 80, 88, 96, 104, 112];

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
pub fn make(algorithm: Algorithm) -> Result<Vec<u8>, Box<dyn Error>> {
    let [compact, extents, fragment, indexed, tailed, packed] = NIDS;
    const FILES: [&[u8]; 5] = [b"compact", b"extents", b"fragment", b"full", b"tail"];
    let text = "the same words again, and ".repeat(40);
    let text = &text.as_bytes()[..1000];
    let encoded = encode(algorithm, text)?;
    let mut image = vec![0; 16 * 512];
    let mut put = |pos: usize, bytes: &[u8]| image[pos..pos + bytes.len()].copy_from_slice(bytes);
    // Zeros in front of it, up to its block.
    put((BLOCK as usize + 1) * 512 - encoded.len(), &encoded);
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
        packed_nid: packed.into(),
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
    names.extend(
        FILES
            .into_iter()
            .zip(NIDS)
            .map(|(name, nid)| (name, nid, 1)),
    );
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
        let (first, second) = (full(head, BLOCK), full(nonhead, 1 | (1 << 16)));
        [
            header.as_bytes(),
            &[0; 8],
            first.as_bytes(),
            second.as_bytes(),
        ]
        .concat()
    };
    let mut pack = CompactPack::new(CompactForm::FourBytes, 9);
    pack.set_block(BLOCK - 1);
    for (number, (kind, value)) in [(lcluster::HEAD1, 0), (lcluster::NONHEAD, 1)]
        .into_iter()
        .enumerate()
    {
        pack.set_entry(number as u32, CompactEntry { kind, value });
    }
    let record = Extent {
        plen: (512 | ((u32::from(algorithm.number()) + 1) << extent::FORMAT_SHIFT)).into(),
        pstart_lo: (BLOCK * 512).into(),
        pstart_hi: 0.into(),
        lstart_lo: 0.into(),
        lstart_hi: 0.into(),
        reserved: [0; 12],
    };
    let records = MapHeader {
        h_algorithmtype: 0,
        ..header(advise::EXTENTS | (2 << advise::EXTENT_RECORD_SHIFT), 1)
    };
    let mut tail = indexes(header(
        advise::INLINE_PCLUSTER,
        MapHeader::of_idata_size(encoded.len() as u16).get(),
    ));
    tail.extend_from_slice(&encoded);
    let all: [(u64, u16, Vec<u8>); 6] = [
        (
            compact,
            layout::COMPRESSED_COMPACT,
            [header(0, 0).as_bytes(), pack.as_bytes()].concat(),
        ),
        (
            extents,
            layout::COMPRESSED_FULL,
            [records.as_bytes(), &[0; 8], &record.as_bytes()[..16]].concat(),
        ),
        (
            fragment,
            layout::COMPRESSED_FULL,
            MapHeader::FRAGMENT_INODE.to_le_bytes().to_vec(),
        ),
        (indexed, layout::COMPRESSED_FULL, indexes(header(0, 0))),
        (tailed, layout::COMPRESSED_FULL, tail),
        (packed, layout::COMPRESSED_FULL, indexes(header(0, 0))),
    ];
    for (nid, layout, map) in all {
        let inode = inode(layout, mode::REGULAR | 0o644, text.len(), 1);
        put(nid as usize * 32, &[inode.as_bytes(), &map].concat());
    }
    Ok(image)
}
