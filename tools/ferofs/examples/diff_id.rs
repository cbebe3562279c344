// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The digests of a layer: `diff_id LAYER` says the sha256 of what is stored and that of the plain tar, the diff ID. With
//! `--only-size` nothing is hashed. What this takes is the least that taking in a layer can take; `tests/bench/host`
//! compares with it.

use ferofs::compression::Window;
use ferofs::compression::decompress;
use ferofs::compression::look;
use ferofs::digest::Digest;
use sha2::Digest as _;
use sha2::Sha256;
use std::error::Error;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;

/// Hashes what is read, unless nobody wants that.
struct Hashed<'a, R>(R, &'a mut Sha256, bool);

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.0.read(buf)?;
        if self.2 {
            self.1.update(&buf[..len]);
        }
        Ok(len)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let path = arguments
        .pop()
        .ok_or("usage: diff_id [--only-size] LAYER")?;
    let hashes = !arguments.iter().any(|argument| argument == "--only-size");
    let (mut of_stored, mut of_plain) = (Sha256::new(), Sha256::new());
    let mut size = 0_u64;
    {
        let stored = Hashed(File::open(path)?, &mut of_stored, hashes);
        let (compression, stored) = look(BufReader::with_capacity(256 << 10, stored))?;
        let plain: Box<dyn Read> = match compression {
            Some(compression) => decompress(compression, stored, Window::Usual)?,
            None => Box::new(stored),
        };
        let mut plain = Hashed(plain, &mut of_plain, hashes);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let len = plain.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            size += len as u64;
        }
    }
    println!("{size} bytes");
    if hashes {
        println!("stored sha256:{}", Digest(of_stored.finalize().into()));
        println!("plain sha256:{}", Digest(of_plain.finalize().into()));
    }
    Ok(())
}
