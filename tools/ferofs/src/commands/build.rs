// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs build`: an index image over a tar.

use super::complain;
use super::progress::Bar;
use ferofs::build::Archive;
use ferofs::build::apply_archive;
use ferofs::compression::decompress;
use ferofs::compression::look;
use ferofs::digest;
use ferofs::digest::Digest;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::image;
use ferofs::output;
use ferofs::output::Output;
use ferofs::tar::FileInput;
use ferofs::tar::StreamInput;
use ferofs::tree::Tree;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
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
      Unpack a tar and index it in one pass. The sha256 is put into the image.
  ferofs build -o layer.erofs --tar-out layer.tar layer.tar.zst
      The same, also if the tar is compressed with gzip, xz or bzip2.")]
pub struct Arguments {
    /// Where to write the image
    #[arg(short, long, value_name = "IMAGE")]
    output: PathBuf,
    /// Put the tar's sha256 into the image even if the tar has to be read for it
    #[arg(long)]
    digest: bool,
    /// Where to write the plain tar, which is needed if the tar is compressed
    #[arg(long, value_name = "FILE")]
    tar_out: Option<PathBuf>,
    /// Fail unless this is the sha256 of the plain tar (its diff ID)
    #[arg(long, value_name = "sha256:HEX", value_parser = parse_digest)]
    expect: Option<Digest>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// The tar, plain or compressed with gzip, zstd, xz or bzip2; `-` for standard input
    #[arg(value_name = "TAR")]
    tar: PathBuf,
}

fn parse_digest(text: &str) -> std::result::Result<Digest, String> {
    let digest = text
        .starts_with("sha256:")
        .then(|| Digest::parse(text))
        .flatten();
    digest.ok_or_else(|| "expected \"sha256:\" and 64 hexadecimal digits".to_string())
}

/// Builds the image.
pub fn run(arguments: &Arguments) -> Result<()> {
    remove_unfinished_on_signals()?;
    let (path, file) = open(&arguments.tar)?;
    let metadata = file.metadata().map_err(Error::io("read", &path))?;
    let inputs = [(path.as_path(), &metadata)];
    let output = Output::create(&arguments.output, &inputs)?;
    let tar_out = match &arguments.tar_out {
        Some(target) => Some(Output::create(target, &inputs)?),
        None => None,
    };
    if tar_out
        .as_ref()
        .is_some_and(|tar_out| tar_out.target() == output.target())
    {
        let target = output.target().display();
        return Err(Error::Request(format!(
            "{target} cannot be both the image and the tar"
        )));
    }
    let kind = metadata.file_type();
    let seekable = arguments.tar != Path::new("-") && (kind.is_file() || kind.is_block_device());
    let mut tree = Tree::new();
    let archive = read(
        arguments,
        &path,
        file,
        seekable,
        tar_out.as_ref(),
        &mut tree,
    )?;
    if let (Some(expected), Some(found)) = (arguments.expect, archive.totals.digest) {
        if expected != found {
            let path = path.display();
            return Err(Error::Request(format!(
                "{path}: the sha256 of the tar is {found}, expected {expected}"
            )));
        }
    }
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
    if let Some(tar_out) = tar_out {
        tar_out.finish()?;
    }
    output.finish()
}

/// Reads the tar into a tree, by the shortest way there is.
fn read(
    arguments: &Arguments,
    path: &Path,
    file: File,
    seekable: bool,
    tar_out: Option<&Output>,
    tree: &mut Tree,
) -> Result<Archive> {
    let size = metadata_size(&file);
    let (compression, reader) = look(&file).map_err(Error::io("read", path))?;
    if compression.is_none() && tar_out.is_none() && seekable {
        drop(reader);
        return index_file(arguments, path, file, tree);
    }
    let mut bar = Bar::new(
        "reading",
        size.filter(|_| compression.is_none()),
        arguments.quiet,
    );
    let Some(compression) = compression else {
        let input = StreamInput::new(Tee {
            reader,
            copy: tar_out,
        });
        return apply_archive(input, tree, 0, &mut bar).map_err(Error::archive(path));
    };
    if tar_out.is_none() {
        let path = path.display();
        return Err(Error::Request(format!(
            "{path} is compressed ({compression}), and an index needs the plain tar: say where to \
             write it with --tar-out"
        )));
    }
    let reader = decompress(compression, reader).map_err(Error::io("read", path))?;
    let input = StreamInput::new(Tee {
        reader,
        copy: tar_out,
    });
    apply_archive(input, tree, 0, &mut bar).map_err(Error::archive(path))
}

/// The size of a file, if it is one.
fn metadata_size(file: &File) -> Option<u64> {
    file.metadata()
        .ok()
        .filter(Metadata::is_file)
        .map(|metadata| metadata.len())
}

/// Writes what is read to another file, too.
struct Tee<'a, R> {
    reader: R,
    copy: Option<&'a Output>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        if let (Some(copy), Some(bytes)) = (self.copy, buf.get(..n)) {
            copy.file().write_all(bytes).map_err(|error| {
                let target = copy.target().display();
                io::Error::new(error.kind(), format!("cannot write {target}: {error}"))
            })?;
        }
        Ok(n)
    }
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
    let hashing = match arguments.digest || arguments.expect.is_some() {
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
