// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The diff ID of a layer, which is the sha256 of its plain tar: `diff_id LAYER`. With `--only-size` it is
//! decompressed and not hashed. What this takes is the least that taking in a layer can take; the benchmarks compare
//! with it.

use ferofs::compression::Window;
use ferofs::compression::decompress;
use ferofs::compression::look;
use ferofs::digest::Digest;
use sha2::Digest as _;
use sha2::Sha256;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::io::Read;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let path = arguments
        .pop()
        .ok_or("usage: diff_id [--only-size] LAYER")?;
    let (compression, stored) = look(File::open(path)?)?;
    let stored = BufReader::with_capacity(256 << 10, stored);
    let mut plain: Box<dyn Read> = match compression {
        Some(compression) => decompress(compression, stored, Window::Usual)?,
        None => Box::new(stored),
    };
    let only_size = arguments.iter().any(|argument| argument == "--only-size");
    let (mut sum, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let len = plain.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        size += len;
        if !only_size {
            sum.update(&buffer[..len]);
        }
    }
    match only_size {
        true => println!("{size} bytes"),
        false => println!("sha256:{}", Digest(sum.finalize().into())),
    }
    Ok(())
}
