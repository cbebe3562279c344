// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs merge`: one image of several layers.

use super::build;
use super::complain;
use super::progress::Bar;
use super::settings::Settings;
use super::sign::Signing;
use ferofs::blobs;
use ferofs::blobs::Tag;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::merge::Merge;
use ferofs::output::Output;
use ferofs::tree::whiteouts::Form;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Merge the images of layers into one
///
/// The layers are applied one after the other as container runtimes do it, with their whiteouts. The
/// data stays where it is, in the tars of all layers: give them to mount in the same order, or let
/// them be found by their sha256. A layer may also be an image with its data in it, compressed or
/// not: then give the image itself to mount. What it has behind its inodes is copied.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs merge -o image.erofs base.erofs app.erofs
      Merge two layers, made by `ferofs build --digest`.
  ferofs merge --digest -o image.erofs base.full app.full
      Merge two with their data in them, made by `ferofs build --mode=full`.
  ferofs mount --blobs /var/lib/blobs image.erofs /mnt
      Mount the result, with tars that are called after their sha256.")]
pub struct Arguments {
    /// Where to write the image
    #[arg(short, long, value_name = "IMAGE")]
    pub(super) output: PathBuf,
    /// What becomes of whiteouts when all layers are applied
    #[arg(long, value_name = "FORM", default_value = "applied")]
    pub(super) whiteouts: Whiteouts,
    /// With 0, the same as --whiteouts=overlay; with 1 the default
    #[arg(long, value_name = "0|1", num_args = 0..=1, require_equals = true,
          default_missing_value = "1", value_parser = ["0", "1"], conflicts_with = "whiteouts")]
    pub(super) ovlfs_strip: Option<String>,
    /// Read the images of all layers, and put the sha256 of those with data into the result: mount
    /// finds them by it
    #[arg(long)]
    pub(super) digest: bool,
    /// The same with the fs-verity digests of those images. (Those of tars stay in the result if the layers were built
    /// with --verity)
    #[arg(long, conflicts_with = "digest")]
    pub(super) verity: bool,
    #[command(flatten)]
    pub(super) signing: Signing,
    #[command(flatten)]
    pub(super) settings: Settings,
    /// The image of a layer, the lowest one first
    #[arg(value_name = "LAYER", required = true)]
    pub(super) layers: Vec<PathBuf>,
}

/// What becomes of whiteouts, as it is called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Whiteouts {
    /// They are gone
    Applied,
    /// They stay, for an image on top of others, in the form that overlayfs has
    Overlay,
    /// They stay in the form that OCI layers have
    Aufs,
}

/// What every file can be known by.
fn tags(paths: &[PathBuf], verity: bool, quiet: bool) -> Result<Vec<Tag>> {
    let (mut files, mut total) = (Vec::new(), 0);
    for path in paths {
        let file = File::open(path).map_err(Error::io("open", path))?;
        total += file.metadata().map_err(Error::io("read", path))?.len();
        files.push(file);
    }
    let mut bar = Bar::new("hashing", Some(total), quiet);
    let found = blobs::hash_all(&files, verity, &mut |done| bar.set(done));
    let failed = |(path, tag): (&PathBuf, io::Result<_>)| tag.map_err(Error::io("read", path));
    paths.iter().zip(found).map(failed).collect()
}

/// Merges.
pub fn run(arguments: &Arguments) -> Result<()> {
    build::remove_unfinished_on_signals()?;
    let settings = &arguments.settings;
    if settings.compress.is_some() {
        let problem = "-z: what is merged stays as it is, in the images and tars it is in";
        return Err(Error::Request(problem.to_string()));
    }
    if settings.fingerprints.is_some() {
        let problem =
            "--fingerprints: files of layers keep those they have, and others are not read";
        return Err(Error::Request(problem.to_string()));
    }
    let whiteouts = match arguments.ovlfs_strip.as_deref() {
        Some("0") => Whiteouts::Overlay,
        _ => arguments.whiteouts,
    };
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
    let mut merge = Merge::new()
        .with_whiteouts(match whiteouts {
            Whiteouts::Applied => Form::Applied,
            Whiteouts::Overlay => Form::Overlay,
            Whiteouts::Aufs => Form::Aufs,
        })
        .with_exclude(settings.exclude())
        .with_edit(settings.edit());
    let count = arguments.layers.len() as u64;
    let mut bar = Bar::new("merging", Some(count), settings.quiet).counting();
    let tags = match arguments.digest || arguments.verity {
        true => tags(&arguments.layers, arguments.verity, settings.quiet)?,
        false => Vec::new(),
    };
    for (done, path) in arguments.layers.iter().enumerate() {
        merge.apply_known(&Image::open(path)?, tags.get(done).copied())?;
        bar.set(done as u64 + 1);
    }
    drop(bar);
    let merged = merge.finish()?;
    if !settings.quiet {
        merged.notes.iter().for_each(|note| complain(note));
    }
    let mut options = merged.options();
    settings.apply(&mut options)?;
    let answers = options.devices.iter().all(|device| device.verity.is_some());
    arguments
        .signing
        .refuse_unless(answers, &arguments.output)?;
    merged
        .write_file(&options, output.file())
        .map_err(Error::image(&arguments.output))?;
    let outputs = arguments.signing.of(&output)?.into_iter().chain([output]);
    Output::finish_all(outputs.collect())
}
