// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `mkfs.ferofs`: `ferofs build` with the options of mkfs.erofs, for people and programs that know
//! them. A link to `ferofs` whose name starts with `mkfs.` is this.

use super::build;
use clap::Parser;
use ferofs::error::Error;
use ferofs::error::Result;
use std::path::PathBuf;

/// Make an EROFS image of a directory or a tar
///
/// With --tar=f the data of the tar is in the image, with --tar=i it stays in the tar. Without
/// SOURCE, the tar is standard input.
#[derive(Parser)]
#[command(
    name = "mkfs.ferofs",
    version,
    after_help = "Examples:
  mkfs.ferofs --tar=i layer.erofs layer.tar
      Index a tar.
  mkfs.ferofs --tar=f --aufs --quiet -Enoinline_data -b4096 layer.erofs < layer.tar
      Copy a tar into an image, as container runtimes do.
  mkfs.ferofs root.erofs /srv/root
      Copy a directory into an image.

Compression is not supported."
)]
pub struct Arguments {
    /// Block size of an image with its data in it
    #[arg(short, value_name = "BYTES", value_parser = build::parse_block, default_value = "4096")]
    b: u8,
    /// Message level; accepted and ignored
    #[arg(short, value_name = "LEVEL")]
    d: Option<u8>,
    /// Extended options: noinline_data, inline_data, force-chunk-indexes, force-inode-compact,
    /// force-inode-extended; the last three change nothing
    #[arg(short = 'E', value_name = "OPTION,...", value_delimiter = ',')]
    extended: Vec<String>,
    /// Label of the image
    #[arg(short = 'L', value_name = "LABEL", value_parser = build::parse_label, default_value = "")]
    label: build::Label,
    /// Modification time of all files, in seconds since 1970
    #[arg(short = 'T', value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// UUID of the image
    #[arg(short = 'U', value_name = "UUID", value_parser = build::parse_uuid)]
    uuid: Option<build::Uuid>,
    /// Make root the owner of all files
    #[arg(long)]
    all_root: bool,
    /// Owner of all files
    #[arg(long, value_name = "UID")]
    force_uid: Option<u32>,
    /// Group of all files
    #[arg(long, value_name = "GID")]
    force_gid: Option<u32>,
    /// The source is a tar: `f` (also `--tar=f`) to copy its data, `i` (`--tar=i`) to index it
    #[arg(long, value_name = "f|i", num_args = 0..=1, require_equals = true,
          default_missing_value = "f", value_parser = ["f", "i"])]
    tar: Option<String>,
    /// Convert the whiteouts of AUFS to those of overlayfs
    #[arg(long)]
    aufs: bool,
    /// Say nothing but errors
    #[arg(long)]
    quiet: bool,
    /// Where to write the image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// A directory, or with --tar a tar
    #[arg(value_name = "SOURCE")]
    source: Option<PathBuf>,
}

/// Makes the image.
pub fn run(arguments: Arguments) -> Result<()> {
    let mut inline = true;
    for option in &arguments.extended {
        match option.as_str() {
            "noinline_data" => inline = false,
            "inline_data" => inline = true,
            "force-chunk-indexes" | "force-inode-compact" | "force-inode-extended" => {}
            other => return Err(Error::Request(format!("-E {other} is not supported"))),
        }
    }
    let input = match (&arguments.source, &arguments.tar) {
        (Some(source), Some(_)) => source.clone(),
        (None, Some(_)) => PathBuf::from("-"),
        (Some(source), None) if source.is_dir() => source.clone(),
        (Some(source), None) => {
            let source = source.display();
            return Err(Error::Request(format!(
                "{source} is no directory; use --tar=f or --tar=i for a tar"
            )));
        }
        (None, None) => {
            return Err(Error::Request(
                "a directory is needed, or --tar".to_string(),
            ));
        }
    };
    let root = arguments.all_root.then_some(0);
    build::run(&build::Arguments {
        output: arguments.image,
        merge: None,
        platform: None,
        mode: Some(match arguments.tar.as_deref() {
            Some("i") => build::ModeName::Index,
            _ => build::ModeName::Full,
        }),
        digest: false,
        tar_out: None,
        expect: None,
        whiteouts: match arguments.aufs {
            true => build::Whiteouts::Overlay,
            false => build::Whiteouts::Keep,
        },
        block_size: arguments.b,
        align: 1,
        no_inline_data: !inline,
        label: arguments.label,
        uuid: arguments.uuid,
        all_root: false,
        force_uid: arguments.force_uid.or(root),
        force_gid: arguments.force_gid.or(root),
        timestamp: arguments.timestamp,
        quiet: arguments.quiet,
        input,
    })
}
