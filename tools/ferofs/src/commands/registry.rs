// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs push-index` and `ferofs pull-index`: indexes of the layers of an image, beside it in its registry.

use super::build;
use super::complain;
use super::layers::Shared;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::oci::Platform;
#[cfg(feature = "points")]
use ferofs::oci::pointed;
use ferofs::oci::remote::Options;
use ferofs::oci::remote::Pull;
use ferofs::oci::remote::Reference;
use ferofs::oci::remote::Remote;
#[cfg(feature = "points")]
use ferofs::text::Shown;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How registries are reached.
#[derive(clap::Args)]
pub struct Reach {
    /// Ask registries without encryption, as is done by itself only on this machine: passwords can be read by anybody on
    /// the way
    #[arg(long)]
    pub plain_http: bool,
    /// Believe the authorities whose certificates are in this file, in PEM, besides those of the system; may be given
    /// several times
    #[arg(long, value_name = "FILE")]
    pub ca_file: Vec<PathBuf>,
}

impl Reach {
    /// What the client is told of it.
    pub fn options(&self) -> Options {
        Options::default()
            .with_plain_http(self.plain_http)
            .with_authorities(self.ca_file.clone())
    }
}

/// The image, and how its registry is reached.
#[derive(clap::Args)]
struct Image {
    /// Which of the image's platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = build::parse_platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    reach: Reach,
    /// No progress bar, and no messages about what is tried again
    #[arg(short, long)]
    quiet: bool,
    /// The image, such as registry.example/app:1.0, or with @sha256:HEX behind it
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Image {
    fn find(&self, mirrors: &[String]) -> Result<Remote> {
        let reference = Reference::parse(&self.image);
        let reference = reference.map_err(|error| Error::Request(error.to_string()))?;
        let options = self.reach.options().with_mirrors(mirrors.to_vec());
        Remote::find(&reference, self.platform.as_ref(), options)
    }
}

/// Store the indexes of an image's layers beside the image in its registry
///
/// They become an artifact that refers to the image, which itself stays as it is. Anybody who may pull the image can get
/// them with `ferofs pull-index`. Access points of layers, HEX.points, are stored with them, if there are any. Names and passwords are those of `docker login` or `skopeo login`. Prints the digest of
/// the artifact.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs build -o layers oci:app:1.0
      Make the indexes, of the same image in an OCI layout.
  ferofs push-index --layers layers registry.example/app:1.0
      Store them.
  ferofs push-index --make --layers layers registry.example/app:1.0
      The same in one, with access points, of what is in the registry.")]
pub struct PushArguments {
    /// The directory with the indexes, as `ferofs build` makes it of the image
    #[arg(short, long, value_name = "DIR")]
    layers: PathBuf,
    /// Make what is not there, indexes and access points: each layer is read from the registry for it, and not kept
    #[cfg(feature = "points")]
    #[arg(long)]
    make: bool,
    /// With --make, how much of a plain tar is between two access points [default: 1048576]
    #[cfg(feature = "points")]
    #[arg(long, value_name = "BYTES", value_parser = super::parse_number::<u64>, requires = "make")]
    span: Option<u64>,
    #[command(flatten)]
    image: Image,
}

/// Get the indexes of an image's layers from its registry
///
/// An index is looked at before it gets its name: that it is a sound image, and of a tar with the layer's diff ID. Whether
/// it lists the files that the layer has only --verify tells; without, trust whoever may push to the registry. Prints where
/// the indexes are, the lowest layer first.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs pull-index -o layers registry.example/app:1.0
      Get the indexes.
  ferofs pull-index -o layers --verify --blobs tars registry.example/app:1.0
      Compare them with what the layers' plain tars give.")]
pub struct PullArguments {
    /// The directory for the indexes
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Compare each with one made anew of the layer's plain tar
    #[arg(long)]
    verify: bool,
    /// A directory that has plain tars, besides that of the indexes; may be given several times
    #[arg(long, value_name = "DIR", requires = "verify")]
    blobs: Vec<PathBuf>,
    /// Get access points of the layers, too, as `ferofs serve` needs them
    #[cfg(feature = "points")]
    #[arg(long)]
    points: bool,
    /// Ask this registry first, which has the same repositories; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    mirror: Vec<String>,
    /// How large an index may be [default: 1 GiB]
    #[arg(long, value_name = "BYTES", value_parser = super::parse_number::<u64>)]
    max_size: Option<u64>,
    #[command(flatten)]
    image: Image,
}

/// Stores the indexes.
pub fn push(arguments: &PushArguments) -> Result<()> {
    let image = arguments.image.find(&[])?;
    #[cfg(feature = "points")]
    if arguments.make {
        make(&image, arguments)?;
    }
    let bar = Shared::new("pushing", None, arguments.image.quiet);
    let pushed = image.push(&arguments.layers, &|bytes| bar.add(bytes))?;
    drop(bar);
    super::to_stdout(|out| writeln!(out, "sha256:{}", pushed.digest))
}

#[cfg(feature = "points")]
fn make(image: &Remote, arguments: &PushArguments) -> Result<()> {
    build::remove_unfinished_on_signals()?;
    let total = image.layers.iter().map(|layer| layer.size).sum();
    let bar = Shared::new("reading layers", Some(total), arguments.image.quiet);
    let span = arguments.span.unwrap_or(ferofs::points::SPAN);
    let request = pointed::Request::new(&arguments.layers).with_span(span);
    let prepared = pointed::prepare_remote(image, request, &|bytes| bar.add(bytes))?;
    drop(bar);
    for layer in prepared.keep()? {
        if !arguments.image.quiet {
            let shown = Shown(&layer.index);
            let notes = layer.notes.iter();
            notes.for_each(|note| complain(&format!("{shown}: {note}")));
        }
    }
    Ok(())
}

/// Gets the indexes.
pub fn pull(arguments: &PullArguments) -> Result<()> {
    build::remove_unfinished_on_signals()?;
    let image = arguments.image.find(&arguments.mirror)?;
    let bar = Shared::new("pulling", None, arguments.image.quiet);
    let mut pull = Pull::new(&arguments.output)
        .with_search(&arguments.blobs)
        .with_verify(arguments.verify);
    #[cfg(feature = "points")]
    {
        pull = pull.with_points(arguments.points);
    }
    if let Some(most) = arguments.max_size {
        pull = pull.with_most(most);
    }
    let pulled = image.pull(pull, &|bytes| bar.add(bytes))?;
    drop(bar);
    if !arguments.image.quiet {
        let notes = pulled.iter().flat_map(|pulled| &pulled.notes);
        notes.for_each(|note| complain(note));
    }
    super::to_stdout(|out| {
        pulled.iter().try_for_each(|pulled| {
            out.write_all(pulled.index.as_os_str().as_bytes())?;
            out.write_all(b"\n")
        })
    })
}
