// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Indexes a tar from standard input, in one pass: `index IMAGE <TAR`.

use ferofs::index;
use ferofs::tar::StreamInput;
use std::error::Error;
use std::fs::File;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: index IMAGE <TAR")?;
    let archive = StreamInput::new(std::io::stdin().lock());
    let index = index::write(archive, File::create(path)?)?;
    for note in &index.archive.notes {
        eprintln!("{note}");
    }
    println!("{} entries", index.archive.entries);
    if let Some(digest) = index.archive.totals.digest {
        println!("the tar's sha256 is {digest}");
    }
    Ok(())
}
