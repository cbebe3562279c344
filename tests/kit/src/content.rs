// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reading a whole file by one of several interfaces, for manifests.

use std::fs::File;
use std::io::IoSliceMut;
use std::io::Read;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::ValueEnum;
use sha2::Digest;
use sha2::Sha256;
use vmap::Map;

/// How a file's bytes are obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Via {
    /// read(2) in pieces of 128 KiB.
    Read,
    /// pread(2) in pieces of an odd size, so that requests straddle pages and blocks.
    Pread,
    /// readv(2) into buffers of 1, 4,095 and 65,537 bytes.
    Readv,
    /// mmap(2) of the whole file.
    Mmap,
}

/// The sha256 of the file's content; it is an error if the file does not end where `size` says.
pub fn sha256(file: &File, size: u64, via: Via) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let length = match via {
        Via::Read => by_read(file, &mut hash)?,
        Via::Pread => by_pread(file, &mut hash)?,
        Via::Readv => by_readv(file, &mut hash)?,
        Via::Mmap => by_mmap(file, size, &mut hash)?,
    };
    if length != size {
        bail!("{via:?} gave {length} bytes, stat says {size}");
    }
    Ok(hash.finalize().into())
}

fn by_read(mut file: &File, hash: &mut Sha256) -> Result<u64> {
    let mut buffer = vec![0; 128 << 10];
    let mut total = 0;
    loop {
        let count = file
            .read(&mut buffer)
            .with_context(|| format!("read at offset {total}"))?;
        if count == 0 {
            return Ok(total);
        }
        hash.update(&buffer[..count]);
        total += count as u64;
    }
}

fn by_pread(file: &File, hash: &mut Sha256) -> Result<u64> {
    let mut buffer = vec![0; 61_441];
    let mut total = 0;
    loop {
        let count = file
            .read_at(&mut buffer, total)
            .with_context(|| format!("pread at offset {total}"))?;
        if count == 0 {
            return Ok(total);
        }
        hash.update(&buffer[..count]);
        total += count as u64;
    }
}

fn by_readv(mut file: &File, hash: &mut Sha256) -> Result<u64> {
    let mut buffers = [vec![0; 1], vec![0; 4095], vec![0; 65_537]];
    let mut total = 0;
    loop {
        let mut slices: Vec<IoSliceMut<'_>> =
            buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let count = file
            .read_vectored(&mut slices)
            .with_context(|| format!("readv at offset {total}"))?;
        if count == 0 {
            return Ok(total);
        }
        let mut left = count;
        for buffer in &buffers {
            let part = left.min(buffer.len());
            hash.update(&buffer[..part]);
            left -= part;
        }
        total += count as u64;
    }
}

fn by_mmap(file: &File, size: u64, hash: &mut Sha256) -> Result<u64> {
    if size == 0 {
        return Ok(0);
    }
    let map = Map::with_options()
        .map(file)
        .map_err(|error| anyhow::anyhow!("mmap: {error}"))?;
    hash.update(&map[..]);
    Ok(map.len() as u64)
}
