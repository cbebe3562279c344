// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Lists the files in an image: `list IMAGE`. Here it is read into memory first; anything that
//! implements `ReadAt` will do.

use erofs_format::FileKind;
use ferofs::inspect::Image;
use ferofs::text::Escaped;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: list IMAGE")?;
    let path = Path::new(&path);
    let image = Image::new(path, Box::new(std::fs::read(path)?))?;
    let mut left = vec![(Vec::new(), image.root()?)];
    while let Some((path, directory)) = left.pop() {
        for name in image.names(&directory)? {
            if matches!(name.name.as_slice(), b"." | b"..") {
                continue;
            }
            let inode = image.inode(name.nid)?;
            let path = [path.as_slice(), b"/", &name.name].concat();
            println!("{:>12} {}", inode.size(), Escaped(&path));
            if inode.kind() == FileKind::Directory {
                left.push((path, inode));
            }
        }
    }
    Ok(())
}
