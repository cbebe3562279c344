// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What `ferofs build` does for container images: an index for every layer, in a directory, and one
//! of all of them together if that is asked for. The progress bar is that of `ferofs mount`, too.

use super::build::Arguments;
use super::build::ModeName;
use super::build::Whiteouts;
use super::complain;
use super::progress::Bar;
use super::settings::Settings;
use super::to_stdout;
use ferofs::digest::Digest;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::merge::Merged;
use ferofs::oci;
use ferofs::oci::Kind;
use ferofs::oci::Reference;
use ferofs::oci::layers;
use ferofs::oci::layers::Places;
#[cfg(feature = "points")]
use ferofs::oci::pointed;
use ferofs::output::Output;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Builds the indexes, and says where they are, the lowest one first.
pub fn build(arguments: &Arguments, reference: &Reference) -> Result<()> {
    let settings = &arguments.settings;
    let no_layers = [
        (
            !matches!(arguments.mode, None | Some(ModeName::Index)),
            "--mode",
        ),
        (arguments.verity, "--verity"),
        (arguments.signing.is_wanted(), "--sign"),
        (arguments.expect.is_some(), "--expect"),
        (arguments.tar_out.is_some(), "--tar-out"),
        (
            !matches!(arguments.whiteouts, None | Some(Whiteouts::Overlay)),
            "--whiteouts",
        ),
        (arguments.block_size.is_some(), "--block-size"),
        (arguments.align.is_some(), "--align"),
        (arguments.no_inline_data, "--no-inline-data"),
        (arguments.no_xattrs, "--no-xattrs"),
        (arguments.headers_only, "--headers-only"),
        (
            settings.label.0 != [0; 16] && arguments.merge.is_none(),
            "--label without --merge",
        ),
        (
            settings.uuid.is_some() && arguments.merge.is_none(),
            "--uuid without --merge",
        ),
    ];
    #[cfg(feature = "points")]
    let no_layers = no_layers.into_iter().chain([
        (arguments.points.is_some(), "--points"),
        (arguments.zinfo.is_some(), "--zinfo"),
        (arguments.points_at.is_some(), "--points-at"),
        (
            arguments.span.is_some() && !arguments.no_tar,
            "--span without --no-tar",
        ),
    ]);
    let refused = no_layers.into_iter().find(|(given, _)| *given);
    if let Some(option) = refused.map(|(_, option)| option).or(settings.deviation()) {
        return Err(Error::Request(format!(
            "{reference} is a container image, whose layers are indexed as they are: {option} does \
             not go with it"
        )));
    }
    ferofs::files::allow_many();
    let image = oci::open(reference, arguments.platform.as_ref())?;
    #[cfg(feature = "points")]
    if arguments.no_tar {
        return build_points(arguments, &image);
    }
    let layout = [reference.path.clone()];
    let places = Places::new(&arguments.output)
        .with_search(match reference.kind {
            Kind::Layout => &layout,
            _ => &[],
        })
        .with_most(arguments.max_size)
        .with_fingerprints(settings.fingerprints.as_ref());
    let prepared = {
        let total = image.layers.iter().map(|layer| layer.blob.size()).sum();
        let bar = Shared::new("reading layers", Some(total), settings.quiet);
        layers::prepare(&image, places, &|bytes| bar.add(bytes))?
    };
    // Before anything appears, as it may fail.
    let mut inputs = image.inputs.clone();
    inputs.append(prepared.inputs());
    let merged = match &arguments.merge {
        Some(target) => {
            let output = Output::create(target, &inputs.list())?;
            prepared.expect_other(&output)?;
            Some(output)
        }
        None => None,
    };
    let layers = prepared.keep()?;
    let mut notes = Vec::new();
    if let Some(output) = merged {
        let count = layers.len() as u64;
        let mut bar = Bar::new("merging", Some(count), settings.quiet).counting();
        let merged = layers::merge(&layers, &mut bar)?;
        drop(bar);
        notes = write_merged(settings, merged, output)?;
    }
    if settings.quiet {
        return Ok(());
    }
    let built = layers
        .iter()
        .map(|layer| (layer.diff_id, layer.index.as_path(), layer.notes.as_slice()));
    say(built, &notes)
}

/// Builds indexes and access points without plain tars, and says where the former are.
#[cfg(feature = "points")]
fn build_points(arguments: &Arguments, image: &oci::Image) -> Result<()> {
    let settings = &arguments.settings;
    let prepared = {
        let total = image.layers.iter().map(|layer| layer.blob.size()).sum();
        let bar = Shared::new("reading layers", Some(total), settings.quiet);
        let request = pointed::Request::new(&arguments.output)
            .with_span(arguments.span.unwrap_or(ferofs::points::SPAN))
            .with_most(arguments.max_size)
            .with_fingerprints(settings.fingerprints.as_ref());
        pointed::prepare(image, request, &|bytes| bar.add(bytes))?
    };
    let mut inputs = image.inputs.clone();
    inputs.append(prepared.inputs());
    let output = match &arguments.merge {
        Some(target) => Some(Output::create(target, &inputs.list())?),
        None => None,
    };
    output
        .iter()
        .try_for_each(|output| prepared.expect_other(output))?;
    let layers = prepared.keep()?;
    let mut notes = Vec::new();
    if let Some(output) = output {
        let merged = pointed::merge(&layers)?;
        notes = write_merged(settings, merged, output)?;
    }
    if settings.quiet {
        return Ok(());
    }
    let built = layers
        .iter()
        .map(|layer| (layer.diff_id, layer.index.as_path(), layer.notes.as_slice()));
    say(built, &notes)
}

/// Writes the image of all layers together. Returns what is to be said of it.
fn write_merged(settings: &Settings, merged: Merged, output: Output) -> Result<Vec<String>> {
    let mut options = merged.options();
    options.uuid = settings.uuid.map(|uuid| uuid.0);
    options.label = settings.label.0;
    merged
        .write_file(&options, output.file())
        .map_err(Error::image(output.target()))?;
    output.finish()?;
    Ok(merged.notes)
}

/// Says what was noticed in layers, and of all of them together, and prints where their indexes are.
fn say<'a>(
    layers: impl Iterator<Item = (Digest, &'a Path, &'a [String])> + Clone,
    notes: &[String],
) -> Result<()> {
    for (diff_id, _, notes) in layers.clone() {
        for note in notes {
            complain(&format!("sha256:{diff_id}: {note}"));
        }
    }
    notes.iter().for_each(|note| complain(note));
    to_stdout(|out| {
        layers.clone().try_for_each(|(_, index, _)| {
            out.write_all(index.as_os_str().as_bytes())?;
            out.write_all(b"\n")
        })
    })
}

/// A progress bar for several threads.
pub struct Shared(Mutex<(Bar, u64)>);

impl Shared {
    /// A bar over so many bytes, if that is known.
    pub fn new(what: &'static str, total: Option<u64>, quiet: bool) -> Self {
        Shared((Bar::new(what, total, quiet), 0).into())
    }

    /// So many bytes more are read.
    pub fn add(&self, bytes: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = state.1.saturating_add(bytes);
        let done = state.1;
        state.0.set(done);
    }
}
