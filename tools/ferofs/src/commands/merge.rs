// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs merge`: one image of several layers.

use super::build;
use super::progress::Bar;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::image;
use ferofs::inspect::Image;
use ferofs::merge::Merge;
use ferofs::output::Output;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Merge the indexes of layers into one
///
/// The layers are applied one after the other as container runtimes do it, with their whiteouts. The
/// data stays in the tars of all layers: give them to mount in the same order, or let them be
/// found by their sha256.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs merge -o image.erofs base.erofs app.erofs
      Merge two layers, made by `ferofs build --digest`.
  ferofs mount --blobs /var/lib/blobs image.erofs /mnt
      Mount the result, with tars that are called after their sha256.")]
pub struct Arguments {
    /// Where to write the image
    #[arg(short, long, value_name = "IMAGE")]
    output: PathBuf,
    /// Label of the image, at most 16 bytes
    #[arg(short = 'L', long, value_name = "LABEL", default_value = "", value_parser = build::parse_label)]
    label: build::Label,
    /// UUID of the image, instead of one derived from its content
    #[arg(short = 'U', long, value_name = "UUID", value_parser = build::parse_uuid)]
    uuid: Option<build::Uuid>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// The index of a layer, the lowest one first
    #[arg(value_name = "LAYER", required = true)]
    layers: Vec<PathBuf>,
}

/// Merges.
pub fn run(arguments: &Arguments) -> Result<()> {
    build::remove_unfinished_on_signals()?;
    let mut metadata = Vec::new();
    for path in &arguments.layers {
        metadata.push(fs::metadata(path).map_err(Error::io("open", path))?);
    }
    let inputs: Vec<_> = arguments
        .layers
        .iter()
        .map(|path| -> &Path { path })
        .zip(&metadata)
        .collect();
    let output = Output::create(&arguments.output, &inputs)?;
    let mut merge = Merge::new();
    let count = arguments.layers.len() as u64;
    let mut bar = Bar::new("merging", Some(count), arguments.quiet).counting();
    for (done, path) in arguments.layers.iter().enumerate() {
        merge.apply(&Image::open(path)?)?;
        bar.set(done as u64 + 1);
    }
    drop(bar);
    let (tree, devices) = merge.finish();
    let options = image::Options {
        devices,
        uuid: arguments.uuid.map(|uuid| uuid.0),
        label: arguments.label.0,
        ..image::Options::default()
    };
    image::write(&tree, &options, &image::source::Nothing, output.file()).map_err(|source| {
        Error::Image {
            path: arguments.output.clone(),
            source,
        }
    })?;
    output.finish()
}
