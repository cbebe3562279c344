// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `mkfs.ferofs`: `ferofs build` and `ferofs merge` with the options of mkfs.erofs, for people and
//! programs that know them. A link to `ferofs` whose name starts with `mkfs.` is this.

use super::build;
use super::merge;
use super::parse_number;
use super::settings::Settings;
use super::settings::parse_block;
use super::sign::Signing;
use clap::Parser;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::text::Shown;
use std::path::Path;
use std::path::PathBuf;

/// Make an EROFS image of a directory, a tar, or other EROFS images
///
/// With --tar=f the data of the tar is in the image, with --tar=i it stays in the tar; without
/// SOURCE the tar is standard input. Without --tar, SOURCE is a directory, or several are images of
/// layers to merge, the lowest one first.
#[derive(Parser)]
#[command(
    name = "mkfs.ferofs",
    version,
    args_override_self = true,
    after_help = "Examples:
  mkfs.ferofs --tar=i layer.erofs layer.tar
      Index a tar.
  mkfs.ferofs --tar=f --aufs --quiet -Enoinline_data -b4096 layer.erofs < layer.tar
      Copy a tar into an image, as container runtimes do.
  mkfs.ferofs --aufs --ovlfs-strip=1 merged.erofs base.erofs app.erofs
      Merge layers.
  mkfs.ferofs root.erofs /srv/root
      Copy a directory into an image.

  mkfs.ferofs -zlz4hc -C65536 root.erofs /srv/root
      The same, compressed.

Options that these examples do without are those of `ferofs build`.
SOURCE_DATE_EPOCH in the environment is the time of the image and of all files that are younger, unless
there is -T."
)]
pub struct Arguments {
    /// Block size of an image that is no index: 512, 1024, 2048 or 4096
    #[arg(short, value_name = "BYTES", value_parser = parse_block, default_value = "4096")]
    b: u8,
    /// Message level; 0 is --quiet
    #[arg(short, value_name = "LEVEL", value_parser = parse_number::<u8>)]
    d: Option<u8>,
    #[command(flatten)]
    settings: Settings,
    /// The source is a tar: `f` (also `--tar`) to copy its data, `i` to index it, `headerball` if
    /// it has no data
    #[arg(long, value_name = "f|i|headerball", num_args = 0..=1, require_equals = true,
          default_missing_value = "f", value_parser = ["f", "i", "headerball"])]
    tar: Option<String>,
    /// Convert the whiteouts of AUFS to those of overlayfs
    #[arg(long)]
    aufs: bool,
    /// With 1, leave out whiteouts, and what says that directories are opaque
    #[arg(long, value_name = "0|1", num_args = 0..=1, require_equals = true,
          default_missing_value = "1", default_value = "0", value_parser = ["0", "1"])]
    ovlfs_strip: String,
    /// Start each file's data in the image at a multiple of so many blocks, a power of two
    #[arg(long, value_name = "BLOCKS", default_value = "1", value_parser = parse_number::<u64>)]
    dsunit: u64,
    /// The tar is compressed with gzip; write the plain one to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    ungzip: Option<Option<PathBuf>>,
    /// The tar is compressed with xz; write the plain one to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    unxz: Option<Option<PathBuf>>,
    #[command(flatten)]
    refused: Refused,
    /// Where to write the image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// A directory, with --tar a tar, or images to merge
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,
}

/// Options of mkfs.erofs that would change the image in a way that ferofs does not have. They are
/// taken in so that the message can say so.
#[derive(clap::Args)]
struct Refused {
    #[arg(long, hide = true, value_name = "X")]
    max_extent_bytes: Option<String>,
    #[arg(long, hide = true, value_name = "X")]
    compress_hints: Option<String>,
    #[arg(long, hide = true, value_name = "X")]
    zfeature_bits: Option<String>,
    #[arg(long, hide = true, value_name = "X")]
    blobdev: Option<String>,
    #[arg(long, hide = true, value_name = "X", num_args = 0..=1, require_equals = true,
          default_missing_value = "data")]
    clean: Option<String>,
    #[arg(long, hide = true, value_name = "X", num_args = 0..=1, require_equals = true)]
    incremental: Option<Option<String>>,
    #[arg(long, hide = true, value_name = "X")]
    file_contexts: Option<String>,
    #[arg(long, hide = true, value_name = "X")]
    mount_point: Option<String>,
    #[arg(long, hide = true, value_name = "X")]
    offset: Option<String>,
    #[arg(long, hide = true, value_name = "X")]
    root_xattr_isize: Option<String>,
}

impl Refused {
    fn check(&self) -> Result<()> {
        let compression = "ferofs compresses all files in one way";
        let update = "ferofs writes whole images only";
        let labels = "ferofs takes labels from the source";
        let refused = [
            (
                self.max_extent_bytes.is_some(),
                "--max-extent-bytes",
                compression,
            ),
            (
                self.compress_hints.is_some(),
                "--compress-hints",
                compression,
            ),
            (self.zfeature_bits.is_some(), "--zfeature-bits", compression),
            (
                // What `data` asks for is done anyway.
                !matches!(self.clean.as_deref(), None | Some("data")),
                "--clean",
                update,
            ),
            (self.incremental.is_some(), "--incremental", update),
            (
                self.blobdev.is_some(),
                "--blobdev",
                "data is in the image, or with --tar=i in the tar",
            ),
            (self.file_contexts.is_some(), "--file-contexts", labels),
            (self.mount_point.is_some(), "--mount-point", labels),
            (
                self.offset.is_some(),
                "--offset",
                "an image is a file of its own",
            ),
            (
                self.root_xattr_isize.is_some(),
                "--root-xattr-isize",
                "it leaves room for changing the image, and ferofs writes whole ones only",
            ),
        ];
        super::refuse(refused)
    }
}

/// Whether a file looks like an image; what is wrong with it otherwise is for later.
fn is_image(path: &Path) -> bool {
    match Image::open(path) {
        Ok(_) => true,
        Err(error) => matches!(error, Error::Io { .. }),
    }
}

/// Makes the image.
pub fn run(mut arguments: Arguments) -> Result<()> {
    arguments.refused.check()?;
    arguments.settings.quiet |= arguments.d == Some(0);
    arguments.settings.latest = super::source_date_epoch()?;
    let strip = arguments.ovlfs_strip == "1";
    let whiteouts = match (strip, arguments.aufs) {
        (true, _) => build::Whiteouts::Applied,
        (false, true) => build::Whiteouts::Overlay,
        (false, false) => build::Whiteouts::Keep,
    };
    let input = match (arguments.sources.as_slice(), &arguments.tar) {
        ([], Some(_)) => PathBuf::from("-"),
        ([source], Some(_)) => source.clone(),
        ([_, second, ..], Some(_)) => {
            let second = Shown(second);
            return Err(Error::Request(format!(
                "one tar at a time; what is {second}?"
            )));
        }
        ([source], None) if source.is_dir() => source.clone(),
        ([], None) => {
            return Err(Error::Request(
                "a directory is needed, or images, or --tar".to_string(),
            ));
        }
        (sources, None) => {
            if let Some(other) = sources.iter().find(|path| !is_image(path)) {
                let other = Shown(other);
                return Err(Error::Request(format!(
                    "{other} is neither a directory nor an EROFS image; use --tar=f or --tar=i for \
                     a tar"
                )));
            }
            let whiteouts = match strip {
                true => merge::Whiteouts::Applied,
                false => merge::Whiteouts::Overlay,
            };
            return merge::run(&merge::Arguments {
                output: arguments.image,
                settings: arguments.settings,
                ovlfs_strip: None,
                whiteouts,
                digest: false,
                verity: false,
                signing: Signing::default(),
                layers: arguments.sources,
            });
        }
    };
    let block = 1_u64 << arguments.b;
    let align = arguments.dsunit.checked_mul(block);
    let Some(align) = align.filter(|align| align.is_power_of_two() && *align <= 1 << 30) else {
        return Err(Error::Request(
            "--dsunit: expected a power of two of blocks, at most 1 GiB".to_string(),
        ));
    };
    let mode = match arguments.tar.as_deref() {
        Some("i") => build::ModeName::Index,
        Some("headerball") => build::ModeName::Meta,
        _ => build::ModeName::Full,
    };
    // mkfs.erofs takes options about data in the image where there is none, and they do nothing.
    let full = mode == build::ModeName::Full;
    let mut settings = arguments.settings;
    settings.sort = settings.sort.filter(|_| full);
    build::run(&build::Arguments {
        output: arguments.image,
        merge: None,
        platform: None,
        max_size: None,
        mode: Some(mode),
        digest: false,
        verity: false,
        signing: Signing::default(),
        #[cfg(feature = "points")]
        points: None,
        #[cfg(feature = "points")]
        zinfo: None,
        #[cfg(feature = "points")]
        span: None,
        #[cfg(feature = "points")]
        points_at: None,
        #[cfg(feature = "points")]
        no_tar: false,
        tar_out: arguments.ungzip.flatten().or(arguments.unxz.flatten()),
        expect: None,
        whiteouts: Some(whiteouts),
        block_size: Some(arguments.b).filter(|_| mode != build::ModeName::Index),
        align: Some(align).filter(|_| full),
        no_inline_data: false,
        no_xattrs: false,
        headers_only: arguments.tar.as_deref() == Some("headerball"),
        settings,
        input,
    })
}
