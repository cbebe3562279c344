// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs ls`: lists files in an image, as ls(1) does.

use super::dump;
use super::dump::Failure;
use erofs_format::FileKind;
use erofs_format::Inode;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::text::Escaped;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// List files in an image
///
/// Of a directory, what is in it, with its path in front if there are several; of anything else, itself. Symbolic links
/// are not followed.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs ls layer.erofs
      List the root directory.
  ferofs ls -l layer.erofs /usr/bin /etc/passwd
      Type and mode, links, owner and group, size, time and name of what is in a directory, and of
      a file. All files of an image: ferofs dump --tree.")]
pub struct Arguments {
    /// Show more than the name
    #[arg(short, long)]
    long: bool,
    /// List a directory itself, not what is in it
    #[arg(short, long)]
    directory: bool,
    /// Accepted and ignored: names that begin with a dot are listed anyway
    #[arg(short = 'a', long = "all", short_alias = 'A', alias = "almost-all")]
    _all: bool,
    /// A file of the image's device table, for images that have names there; repeat in its order
    #[arg(long, value_name = "FILE")]
    device: Vec<PathBuf>,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// What to list
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<PathBuf>,
}

impl Arguments {
    /// To list this with all that is known of it.
    pub fn long(image: &Path, paths: &[PathBuf], device: &[PathBuf]) -> Self {
        Arguments {
            long: true,
            directory: false,
            _all: false,
            device: device.to_vec(),
            image: image.to_path_buf(),
            paths: paths.to_vec(),
        }
    }
}

/// Lists.
pub fn run(arguments: &Arguments) -> Result<()> {
    let image = Image::open(&arguments.image)?;
    if !arguments.device.is_empty() {
        image.open_devices(&arguments.device, &[])?;
    }
    dump::show(|out| {
        // As ls(1) does it: what is no directory comes first.
        let mut directories = Vec::new();
        for path in &arguments.paths {
            let found = image.find(path.as_os_str().as_bytes())?;
            if found.kind() == FileKind::Directory && !arguments.directory {
                directories.push((path, found));
            } else {
                line(arguments, &image, &found, path.as_os_str().as_bytes(), out)?;
            }
        }
        let several = arguments.paths.len() > 1;
        let mut first = directories.len() == arguments.paths.len();
        for (path, found) in directories {
            if several {
                let space = if std::mem::take(&mut first) { "" } else { "\n" };
                writeln!(out, "{space}{}:", Escaped(path.as_os_str().as_bytes()))?;
            }
            for name in image.names(&found)? {
                if !matches!(name.name.as_slice(), b"." | b"..") {
                    line(arguments, &image, &image.inode(name.nid)?, &name.name, out)?;
                }
            }
        }
        Ok(())
    })
}

fn line(
    arguments: &Arguments,
    image: &Image,
    inode: &Inode,
    name: &[u8],
    out: &mut dyn Write,
) -> std::result::Result<(), Failure> {
    if arguments.long {
        return dump::text::details(image, inode, name, out);
    }
    writeln!(out, "{}", Escaped(name))?;
    Ok(())
}
