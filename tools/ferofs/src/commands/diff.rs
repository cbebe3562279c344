// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs diff`: says what is different between two images, tars or directories.

use super::complain;
use super::dump::Failure;
use super::dump::show;
use super::json;
use erofs_format::ondisk;
use ferofs::blobs;
use ferofs::compression::look;
use ferofs::digest::hash_all;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::image;
use ferofs::inspect::Image;
use ferofs::inspect::contents::Contents;
use ferofs::inspect::diff::ATTRIBUTES;
use ferofs::inspect::diff::Change;
use ferofs::inspect::diff::Difference;
use ferofs::inspect::diff::Ignored;
use ferofs::inspect::diff::Kind;
use ferofs::inspect::diff::Summary;
use ferofs::inspect::diff::diff;
use ferofs::mount::index_in_memory;
use ferofs::output::Output;
use ferofs::read_at::ReadAt;
use ferofs::text::Escaped;
use ferofs::text::Shown;
use ferofs::tree::scan::scan;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

/// Nothing is different.
const SAME: u8 = 0;
/// Something is different.
const DIFFERENT: u8 = 1;
/// It could not be found out.
const TROUBLE: u8 = 2;

/// Say what is different between two images, tars or directories
///
/// Exit code: 0 if nothing is different, 1 if something is, 2 if that could not be found out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs diff old.erofs new.erofs --blobs /var/lib/blobs
      Compare two images. Data is read only where they do not say that it is the same.
  ferofs diff layer.erofs layer.tar
      Compare an index with its tar.
  ferofs diff --ignore mtime,owner root.erofs /srv/root
      Compare an image with a directory.")]
pub struct Arguments {
    /// Attributes that do not matter: mode, owner, mtime, links, linked-to, size, data, target, rdev,
    /// xattr
    #[arg(long, value_name = "ATTRIBUTE,...", value_delimiter = ',', value_parser = ATTRIBUTES)]
    ignore: Vec<String>,
    /// A tar that has data of OLD; repeat in the order of its device table
    #[arg(long, value_name = "TAR")]
    old_device: Vec<PathBuf>,
    /// A tar that has data of NEW
    #[arg(long, value_name = "TAR")]
    new_device: Vec<PathBuf>,
    /// A directory with tars called HEX, HEX.tar, sha256/HEX or blobs/sha256/HEX after their sha256;
    /// may be repeated
    #[arg(long, value_name = "DIR")]
    blobs: Vec<PathBuf>,
    /// Write JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Say nothing, and stop at the first difference
    #[arg(short, long)]
    quiet: bool,
    /// An image, a tar that is not compressed, or a directory
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The same
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

/// Compares.
pub fn run(arguments: &Arguments) -> ExitCode {
    let code = compare(arguments).unwrap_or_else(|error| {
        if !matches!(&error, Error::Io { source, .. }
            if source.kind() == std::io::ErrorKind::BrokenPipe)
        {
            complain(&error.to_string());
        }
        TROUBLE
    });
    ExitCode::from(code)
}

/// Something to compare.
struct Side {
    image: Image,
    /// The tar, if it is one.
    tar: Option<(PathBuf, File)>,
    /// Holds the image of a directory for as long as it is used.
    _temporary: Option<Output>,
}

/// Whether a file is an image.
fn is_image(file: &File) -> std::io::Result<bool> {
    let mut magic = [0; 4];
    let length = file.read_full_at(&mut magic, ondisk::SUPER_OFFSET)?;
    Ok(length == magic.len() && magic == ondisk::SUPER_MAGIC.to_le_bytes())
}

impl Side {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = file.metadata().map_err(Error::io("read", path))?;
        if metadata.is_dir() {
            return Self::directory(path);
        }
        if is_image(&file).map_err(Error::io("read", path))? {
            let image = Image::new(path, Box::new(file))?;
            return Ok(Side {
                image,
                tar: None,
                _temporary: None,
            });
        }
        let (compression, _) = look(&file).map_err(Error::io("read", path))?;
        if let Some(compression) = compression {
            return Err(Error::Request(format!(
                "{} is compressed ({compression}), expected a plain tar, as `ferofs build --tar-out` writes it",
                Shown(path)
            )));
        }
        let (index, _) = index_in_memory(path, &file)?;
        Ok(Side {
            image: Image::new(path, Box::new(index))?,
            tar: Some((path.to_path_buf(), file)),
            _temporary: None,
        })
    }

    /// A directory becomes an image, since that can be compared.
    fn directory(path: &Path) -> Result<Self> {
        super::build::remove_unfinished_on_signals()?;
        let tree = scan(path, &mut |_| {})?;
        let output = Output::create_unnamed(&std::env::temp_dir().join("image"))?;
        let source = image::source::Directory::new(path.to_path_buf());
        let options = image::Options::default()
            .with_block_bits(12)
            .with_mode(image::Mode::Full);
        image::write(&tree, &options, &source, output.file())
            .map_err(|error| Error::image(path)(error).below(path))?;
        let file = output.file().try_clone().map_err(Error::io("read", path))?;
        Ok(Side {
            image: Image::new(path, Box::new(file))?,
            tar: None,
            _temporary: Some(output),
        })
    }

    /// With the blobs that are given; or that of the other side, if it is a tar and there is only one,
    /// and the image has its sha256. If it has none, the tar may be the right one: then only what is at
    /// the same place in it is the same.
    fn contents(
        &self,
        given: &[PathBuf],
        directories: &[PathBuf],
        other: &Side,
    ) -> Result<Contents<'_>> {
        let clone = |(path, file): &(PathBuf, File)| -> Result<(PathBuf, File)> {
            let file = file.try_clone().map_err(Error::io("open", path))?;
            Ok((path.clone(), file))
        };
        if let Some(tar) = &self.tar {
            return Contents::of(&self.image, vec![clone(tar)?]);
        }
        if given.is_empty() {
            let slots = self.image.devices()?;
            let block = u64::from(self.image.superblock().block_size());
            if let ([slot], Some(tar)) = (slots.as_slice(), &other.tar) {
                let size = ReadAt::size(&tar.1).map_err(Error::io("read", &tar.0))?;
                // mkfs.erofs counts up to the end of the archive proper.
                let headers = self.image.header_digests()?.first().copied().flatten();
                let checked = blobs::check_headers(self.image.path(), 1, headers, &tar.0, &tar.1);
                let is_that = slot.blocks.saturating_mul(block) <= size.next_multiple_of(block);
                if is_that && checked.is_ok() {
                    let (path, file) = clone(tar)?;
                    let contents = |file| Contents::of(&self.image, vec![(path.clone(), file)]);
                    let Some(tag) = blobs::tag(slot) else {
                        return Ok(contents(file)?.uncertain());
                    };
                    let digests = hash_all(std::slice::from_ref(&file), &mut |_| {});
                    for digest in digests {
                        if digest.map_err(Error::io("read", &path))? == tag {
                            return contents(file);
                        }
                    }
                }
            }
            let found = |slot| {
                let tag = blobs::tag(slot);
                tag.is_some_and(|tag| blobs::find(directories, tag).is_some())
            };
            // Blobs that are not there may not be needed.
            if !slots.iter().all(found) {
                return Contents::new(&self.image, &[], &[]);
            }
        }
        Contents::new(&self.image, given, directories)
    }
}

/// Returns the exit code.
fn compare(arguments: &Arguments) -> Result<u8> {
    let (old, new) = (Side::open(&arguments.old)?, Side::open(&arguments.new)?);
    let before = old.contents(&arguments.old_device, &arguments.blobs, &new)?;
    let after = new.contents(&arguments.new_device, &arguments.blobs, &old)?;
    before.check_blobs()?;
    after.check_blobs()?;
    let ignored: Ignored = arguments.ignore.iter().cloned().collect();
    let mut summary = Summary::default();
    show(|out| {
        if arguments.json {
            let (old, new) = (json::path(&arguments.old), json::path(&arguments.new));
            let (old, new) = (json!(old), json!(new));
            write!(
                out,
                "{{\n\"old\": {old},\n\"new\": {new},\n\"differences\": ["
            )?;
        }
        let mut separator = "\n";
        summary = diff::<Failure>(&before, &after, &ignored, &mut |difference| {
            if arguments.quiet {
                return Ok(false);
            }
            if arguments.json {
                write!(out, "{separator}{}", document(difference))?;
                separator = ",\n";
            } else {
                line(difference, out)?;
            }
            Ok(true)
        })?;
        if arguments.json {
            let Summary {
                added,
                removed,
                changed,
                same,
                unknown,
                ..
            } = summary;
            let summary = json!({
                "added": added,
                "removed": removed,
                "changed": changed,
                "same": same,
                "data_not_compared": unknown,
            });
            writeln!(out, "\n],\n\"summary\": {summary:#}\n}}")?;
        }
        Ok(())
    })?;
    if summary.unknown > 0 && (summary.is_same() || !arguments.quiet) {
        let files = match summary.unknown {
            1 => "1 file".to_string(),
            count => format!("{count} files"),
        };
        complain(&format!(
            "the data of {files} could not be compared: give the tars by --blobs, --old-device and \
             --new-device, or --ignore data"
        ));
    }
    match (summary.is_same(), summary.unknown) {
        (false, _) => Ok(DIFFERENT),
        (true, 0) => Ok(SAME),
        (true, _) => Ok(TROUBLE),
    }
}

fn line(difference: &Difference, out: &mut dyn Write) -> std::io::Result<()> {
    let path = Escaped(&difference.path);
    match &difference.kind {
        Kind::Added => writeln!(out, "added   {path}"),
        Kind::Removed => writeln!(out, "removed {path}"),
        Kind::Changed(changes) => {
            let changes = changes.iter().map(|change| {
                let Change {
                    attribute,
                    old,
                    new,
                    ..
                } = change;
                match (old.as_str(), new.as_str()) {
                    ("", new) if attribute == "data" => format!("data {new}"),
                    ("", new) => format!("{attribute} none -> {new}"),
                    (old, "") => format!("{attribute} {old} -> none"),
                    (old, new) => format!("{attribute} {old} -> {new}"),
                }
            });
            let changes = changes.collect::<Vec<_>>().join(", ");
            writeln!(out, "changed {path}: {changes}")
        }
    }
}

fn document(difference: &Difference) -> serde_json::Value {
    let (change, attributes) = match &difference.kind {
        Kind::Added => ("added", [].as_slice()),
        Kind::Removed => ("removed", [].as_slice()),
        Kind::Changed(changes) => ("changed", changes.as_slice()),
    };
    let attributes: Vec<_> = attributes
        .iter()
        .map(|change| json!({"name": change.attribute, "old": change.old, "new": change.new}))
        .collect();
    json!({
        "path": json::text(&difference.path),
        "change": change,
        "attributes": attributes,
    })
}
