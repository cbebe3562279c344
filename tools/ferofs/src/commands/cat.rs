// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs cat`: writes the data of files in an image to standard output.

use super::dump;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::inspect::contents::Contents;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Write the data of files in an image to standard output
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs cat --device layer.tar layer.erofs /etc/passwd
      Show a file whose data is in a tar.
  ferofs cat --blobs /var/lib/blobs image.erofs /etc/passwd
      Find the tars by the sha256 that the image has of them.")]
pub struct Arguments {
    /// A tar that has the files' data; repeat in the order of the image's device table
    #[arg(short, long, value_name = "TAR")]
    device: Vec<PathBuf>,
    /// A directory with tars called HEX, HEX.tar, sha256/HEX or blobs/sha256/HEX after their sha256;
    /// may be repeated
    #[arg(long, value_name = "DIR")]
    blobs: Vec<PathBuf>,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Arguments {
    /// To write these, with the data in these tars.
    pub fn new(image: &Path, paths: &[PathBuf], device: &[PathBuf]) -> Self {
        Arguments {
            device: device.to_vec(),
            blobs: Vec::new(),
            image: image.to_path_buf(),
            paths: paths.to_vec(),
        }
    }
}

/// Writes.
pub fn run(arguments: &Arguments) -> Result<()> {
    let image = Image::open(&arguments.image)?;
    let contents = Contents::new(&image, &arguments.device, &arguments.blobs)?;
    dump::show(|out| {
        for path in &arguments.paths {
            contents.copy(path.as_os_str().as_bytes(), &mut |bytes| {
                out.write_all(bytes).map_err(dump::Failure::from)
            })?;
        }
        Ok(())
    })
}
