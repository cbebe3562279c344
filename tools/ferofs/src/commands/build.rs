// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs build`: an index image over a tar.

use super::complain;
use super::progress::Bar;
use ferofs::build::Archive;
use ferofs::build::apply_archive;
use ferofs::digest;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::image;
use ferofs::output;
use ferofs::output::Output;
use ferofs::tar::FileInput;
use ferofs::tar::StreamInput;
use ferofs::tree::Tree;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::path::PathBuf;

/// Build an index image over a tar
///
/// The image has everything but the files' data, which stays in the tar: keep the tar, unchanged
/// and uncompressed, and give it to mount. The same tar always gives the same image.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs build -o layer.erofs layer.tar
      Index a tar. Its data is not read, only its headers.
  ferofs build --digest -o layer.erofs layer.tar
      Also put the tar's sha256 into the image, to tell later which tar belongs to it.
  zstd -dc layer.tar.zst | tee layer.tar | ferofs build -o layer.erofs -
      Unpack a tar and index it in one pass. The sha256 is put into the image.")]
pub struct Arguments {
    /// Where to write the image
    #[arg(short, long, value_name = "IMAGE")]
    output: PathBuf,
    /// Put the tar's sha256 into the image even if the tar has to be read for it
    #[arg(long)]
    digest: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// The tar, uncompressed; `-` for standard input
    #[arg(value_name = "TAR")]
    tar: PathBuf,
}

/// Builds the image.
pub fn run(arguments: &Arguments) -> Result<()> {
    remove_unfinished_on_signals()?;
    let (path, file) = open(&arguments.tar)?;
    let metadata = file.metadata().map_err(Error::io("read", &path))?;
    let output = Output::create(&arguments.output, &[(&path, &metadata)])?;
    let kind = metadata.file_type();
    let seekable = arguments.tar != Path::new("-") && (kind.is_file() || kind.is_block_device());
    let mut tree = Tree::new();
    let archive = if seekable {
        index_file(arguments, &path, file, &mut tree)?
    } else {
        let mut bar = Bar::new("reading", None, arguments.quiet);
        apply_archive(StreamInput::new(file), &mut tree, 0, &mut bar)
            .map_err(Error::archive(&path))?
    };
    if !arguments.quiet {
        for note in &archive.notes {
            complain(&format!("{}: {note}", path.display()));
        }
    }
    let device = image::Device {
        size: archive.totals.size,
        digest: archive.totals.digest,
    };
    let options = image::Options {
        devices: vec![device],
        ..image::Options::default()
    };
    image::write(&tree, &options, output.file()).map_err(|source| Error::Image {
        path: arguments.output.clone(),
        source,
    })?;
    output.finish()
}

/// Opens the tar; returns what to call it, too.
fn open(tar: &Path) -> Result<(PathBuf, File)> {
    if tar == Path::new("-") {
        let path = PathBuf::from("standard input");
        let stdin = io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(Error::io("read", &path))?;
        return Ok((path, File::from(stdin)));
    }
    let file = File::open(tar).map_err(Error::io("open", tar))?;
    let metadata = file.metadata().map_err(Error::io("read", tar))?;
    if metadata.is_dir() {
        let tar = tar.display();
        return Err(Error::Request(format!(
            "{tar} is a directory, expected a tar"
        )));
    }
    Ok((tar.to_path_buf(), file))
}

/// Reads the headers of a tar in a file, and hashes it at the same time if that is wanted.
fn index_file(arguments: &Arguments, path: &Path, file: File, tree: &mut Tree) -> Result<Archive> {
    // For a block device, its metadata has no size.
    let size = (&file)
        .seek(SeekFrom::End(0))
        .map_err(Error::io("seek in", path))?;
    let hashing = match arguments.digest {
        true => {
            let file = file.try_clone().map_err(Error::io("open", path))?;
            Some(digest::Background::spawn(file))
        }
        false => None,
    };
    let mut archive = {
        let mut bar = Bar::new("reading", Some(size), arguments.quiet);
        apply_archive(FileInput::new(file, size), tree, 0, &mut bar)
            .map_err(Error::archive(path))?
    };
    if let Some(hashing) = hashing {
        let mut bar = Bar::new("hashing", Some(size), arguments.quiet);
        let digest = hashing
            .wait(|done| bar.set(done))
            .map_err(Error::io("read", path))?;
        archive.totals.digest = Some(digest);
    }
    Ok(archive)
}

fn remove_unfinished_on_signals() -> Result<()> {
    let handler = || {
        output::remove_all();
        // As if the signal had not been caught: 128 + SIGINT.
        std::process::exit(130);
    };
    ctrlc::set_handler(handler)
        .map_err(|error| Error::Request(format!("cannot handle signals: {error}")))
}
