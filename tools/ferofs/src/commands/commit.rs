// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs commit`: the upper directory of an overlay as a layer.

use super::build;
use super::complain;
use super::parse_number;
use super::progress::Bar;
use ferofs::commit;
use ferofs::commit::Options;
use ferofs::commit::Summary;
use ferofs::commit::write_layer_file;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::output::Output;
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Write the upper directory of an overlay as a layer of a container image
///
/// All that is in the directory is in the layer: what was changed and made, and what was removed as the whiteouts of OCI
/// layers. The layers below are not read, so what is equal to them, as after `touch`, is in it, too. Nothing else should change
/// the directory meanwhile. SOURCE_DATE_EPOCH in the environment is the time of all files that are younger.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs commit -o layer.tar.zst changes
      Write what a container changed, with `ferofs mount --stack --upper changes`.
  ferofs build -o layer.erofs layer.tar
      Index such a layer, if it is plain; merge it with those it is on top of.")]
pub struct Arguments {
    /// Where to write the layer
    #[arg(short, long, value_name = "LAYER")]
    output: PathBuf,
    /// What to compress it with [default: what its name ends with: .gz, .tgz, .zst, .tzst; else plain]
    #[arg(short = 'z', long, value_name = "COMPRESSION")]
    compress: Option<Compression>,
    /// How much: 1 to 9 for gzip, 1 to 22 for zstd [default: 6, 3]
    #[arg(long, value_name = "LEVEL", value_parser = parse_number::<u32>)]
    level: Option<u32>,
    /// The overlay was mounted with the option userxattr, as it is without privileges
    #[arg(long)]
    userxattr: bool,
    /// Print the layer's digests and size as JSON
    #[arg(long)]
    json: bool,
    /// No progress bar, and no messages about what is left out
    #[arg(short, long)]
    quiet: bool,
    /// The upper directory
    #[arg(value_name = "UPPER")]
    upper: PathBuf,
}

/// What a layer is compressed with, as it is called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Compression {
    /// Nothing
    Plain,
    /// gzip
    Gzip,
    /// Zstandard
    Zstd,
}

impl Compression {
    /// What a file of this name is taken to be compressed with.
    fn of(path: &Path) -> Self {
        let name = path.as_os_str().as_bytes();
        let ends = |endings: [&str; 2]| endings.iter().any(|end| name.ends_with(end.as_bytes()));
        match () {
            () if ends([".gz", ".tgz"]) => Compression::Gzip,
            () if ends([".zst", ".tzst"]) => Compression::Zstd,
            () => Compression::Plain,
        }
    }

    fn with_level(self, level: Option<u32>) -> Result<commit::Compression> {
        Ok(match (self, level) {
            (Compression::Plain, None) => commit::Compression::Plain,
            (Compression::Plain, Some(_)) => {
                let problem = "--level: the layer is not to be compressed".to_string();
                return Err(Error::Request(problem));
            }
            (Compression::Gzip, None) => commit::Compression::GZIP,
            (Compression::Gzip, Some(level)) => commit::Compression::Gzip(level),
            (Compression::Zstd, None) => commit::Compression::ZSTD,
            (Compression::Zstd, Some(level)) => commit::Compression::Zstd(level),
        })
    }
}

/// What is said of a layer: what a manifest and a configuration need.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: &'static str,
    digest: String,
    size: u64,
    diff_id: String,
    entries: u64,
}

impl Document {
    fn new(compression: commit::Compression, summary: &Summary) -> Self {
        Document {
            media_type: compression.media_type(),
            digest: format!("sha256:{}", summary.digest),
            size: summary.size,
            diff_id: format!("sha256:{}", summary.diff_id),
            entries: summary.entries,
        }
    }
}

/// Writes the layer.
pub fn run(arguments: &Arguments) -> Result<()> {
    build::remove_unfinished_on_signals()?;
    let compression = arguments.compress;
    let compression = compression.unwrap_or_else(|| Compression::of(&arguments.output));
    let compression = compression.with_level(arguments.level)?;
    let options = Options::default()
        .with_compression(compression)
        .with_userxattr(arguments.userxattr)
        .with_latest(super::source_date_epoch()?);
    let output = Output::create(&arguments.output, &[])?;
    let mut bar = Bar::new("writing", None, arguments.quiet);
    let summary = write_layer_file(&arguments.upper, &options, &output, &mut |done| {
        bar.set(done);
    })?;
    drop(bar);
    if !arguments.quiet {
        summary.notes.iter().for_each(|note| complain(note));
    }
    output.finish()?;
    let document = Document::new(compression, &summary);
    super::to_stdout(|out| {
        if arguments.json {
            serde_json::to_writer_pretty(&mut *out, &document)?;
            return writeln!(out);
        }
        writeln!(out, "diff ID  {}", document.diff_id)?;
        writeln!(out, "digest   {}", document.digest)?;
        writeln!(out, "size     {}", document.size)?;
        writeln!(out, "entries  {}", document.entries)
    })
}
