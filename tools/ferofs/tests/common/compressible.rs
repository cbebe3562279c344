// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Files whose compressed forms are of every kind, and options of mkfs.erofs that lead to all of those.

use std::collections::BTreeMap;

/// Bytes that look random, always the same.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Words in a random order.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in noise(seed, len) {
        text.extend(format!("{} ", u32::from(byte % 64) * 7919).into_bytes());
        if text.len() >= len {
            break;
        }
    }
    text.truncate(len);
    text
}

/// The files that images are made of.
pub fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for len in [0, 1, 511, 513, 4096, 4097, 9000, 70_000, 300_000] {
        files.insert(format!("text{len}"), text(len as u64, len));
        files.insert(format!("noise{len}"), noise(len as u64, len));
    }
    let mut mixed = Vec::new();
    for (number, len) in [300, 5000, 70_000, 12, 20_000, 8192, 4096, 40_000]
        .into_iter()
        .enumerate()
    {
        mixed.extend(text(number as u64, len));
        mixed.extend(noise(number as u64, len / 3));
        mixed.resize(mixed.len() + len / 2, 0);
    }
    let long = text(99, 400_000);
    files.insert("mixed".into(), mixed);
    files.insert("zeros".into(), vec![0; 500_000]);
    files.insert("same".into(), long.clone());
    files.insert("shifted".into(), [b"x", &*long].concat());
    files.insert("start".into(), [&long[..150_000], &*noise(5, 777)].concat());
    files.insert("long".into(), long);
    for number in 0..40 {
        files.insert(
            format!("small/{number:03}"),
            text(number, 17 * number as usize),
        );
    }
    files
}

/// What images have to be tried with.
pub fn combinations() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for algorithm in ["lz4", "lz4hc", "lzma", "deflate", "zstd"] {
        for options in [
            &["-C4096"][..],
            &["-C65536"],
            &["-C65536", "-Elegacy-compress"],
            &["-C16384", "-Eztailpacking"],
            &["-C16384", "-Efragments"],
            &["-C16384", "-Eall-fragments"],
            &["-C65536", "-Ededupe"],
            &["-C16384", "-Eztailpacking,fragments,dedupe"],
            &["-C4096", "-Elegacy-compress,ztailpacking,dedupe"],
            &["-C4096", "-b512", "-Eztailpacking"],
            &["-C8192", "-b1024", "-Efragments,dedupe"],
            &["-C65536", "-E48bit,dedupe"],
            &["-C16384", "--zD=1"],
            &["-C16384", "-m4096", "--MZ=i", "-Efragments"],
        ] {
            let options = options.iter().map(|option| (*option).to_string());
            all.push([vec![format!("-z{algorithm}")], options.collect()].concat());
        }
    }
    all
}

/// An image with some bytes changed at once, where there are structures.
pub fn changed(sound: &[u8], seed: u64) -> Vec<u8> {
    const EXTREMES: [u8; 8] = [0, 1, 2, 8, 0x20, 0x7f, 0x80, 0xff];
    let mut bytes = sound.to_vec();
    for change in noise(seed + 1, 4 * (1 + seed as usize % 4)).chunks_exact(4) {
        let [low, high, value, which] = *change else {
            continue;
        };
        let place = usize::from(u16::from_le_bytes([low, high]));
        let place = match which % 8 {
            0 => 1024 + place % 160,
            _ => 2048 + place % 2048,
        };
        let extreme = EXTREMES[usize::from(value) % EXTREMES.len()];
        bytes[place] = if which >= 128 { value } else { extreme };
    }
    bytes
}
