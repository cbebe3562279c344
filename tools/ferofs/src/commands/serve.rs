// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs serve`: the layers of images while they come from where they are stored.

use super::build;
use super::complain;
use super::registry::Reach;
use super::to_stdout;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::oci;
use ferofs::oci::Platform;
use ferofs::oci::remote;
use ferofs::oci::remote::Pull;
use ferofs::serve::List;
use ferofs::serve::OnDisk;
use ferofs::serve::Options;
use ferofs::serve::Server;
use ferofs::serve::StoreLock;
use ferofs::serve::Stored;
use ferofs::text::Shown;
use ferofs_fanotify::Group;
use sd_notify::NotifyState;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Serve the layers of images while they are not there yet
///
/// Each layer gets a sparse tar in the store, and whoever reads a part of it waits until that was got from the image,
/// compared with its checksum, and written. Prints where the tars are, the lowest layer first, and then "ready": mount
/// only from then on. What was got stays, so it can be ended, or killed, and started again.
///
/// Unmount before it ends, or mount with -o holes=error: without anybody to ask, the kernel lets everybody read what is missing as
/// zeros.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs build -o store --no-tar --merge app.erofs oci:/srv/app:1.0
      Make what is needed beforehand: indexes and access points of all layers.
  ferofs serve store registry.example/app:1.0
      Serve the layers from a registry that has the same image.
  ferofs mount -o holes=error,blobs=store app.erofs /mnt
      Mount it meanwhile.
  ferofs serve --complete --first start.list store registry.example/app:1.0
      Get everything, too, and end then: first what a start reads, as --record found out.")]
pub struct Arguments {
    /// Get what nobody waits for, too, and end when everything is there
    #[arg(long)]
    complete: bool,
    /// Get what is in this list first, which --record made
    #[arg(long, value_name = "FILE", requires = "complete")]
    first: Option<PathBuf>,
    /// At the end, write down what was read, in the order of first reads
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Who waits gets an error when nothing came for so long
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = super::parse_number::<u64>)]
    deadline: u64,
    /// How many requests are made at once
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = super::parse_number::<usize>)]
    requests: usize,
    /// Which of the images' platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = build::parse_platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    reach: Reach,
    /// Ask this registry first, which has the same repositories; may be given several times, in the order in which they are
    /// asked. What none of them gives, or gives right, comes from the image's own
    #[arg(long, value_name = "HOST[:PORT]")]
    mirror: Vec<String>,
    /// Say nothing about what cannot be got, or is complete
    #[arg(short, long)]
    quiet: bool,
    /// The directory for tars, with access points as `ferofs build --no-tar` makes them; what is missing of these is looked
    /// for beside an image in a registry
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Images: in a registry, such as registry.example/app:1.0, or on disk, oci:DIR[:NAME] for example
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
}

/// What the group is called in systemd's store of descriptors.
const GROUP: &str = "fanotify";

/// Serves.
pub fn run(arguments: &Arguments) -> Result<()> {
    ferofs::files::allow_many();
    let first = match &arguments.first {
        Some(path) => List::open(path)?,
        None => List::default(),
    };
    let quiet = arguments.quiet;
    let options = Options::default()
        .with_deadline(Duration::from_secs(arguments.deadline.max(1)))
        .with_requests(arguments.requests.clamp(1, 256))
        .with_complete(arguments.complete)
        .with_first(first)
        .with_tell(Arc::new(move |message| {
            if !quiet {
                complain(message);
            }
        }));
    let (mut server, is_new) = begin(&arguments.store, options)?;
    let mut layers = Vec::new();
    for image in &arguments.images {
        layers.extend(layers_of(arguments, image)?);
    }
    // Who mounts what is served here waits until it is.
    let lock = StoreLock::wait(&arguments.store)?;
    let paths = server.add_all(layers)?;
    let stopper = server.stopper();
    let watch = Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals =
        watch.map_err(|error| Error::Request(format!("cannot handle signals: {error}")))?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            stopper.stop();
        }
    });
    to_stdout(|out| {
        for path in &paths {
            out.write_all(path.as_os_str().as_bytes())?;
            out.write_all(b"\n")?;
        }
        out.write_all(b"ready\n")
    })?;
    drop(lock);
    ready(&server, is_new)?;
    server.run()?;
    if let Some(path) = &arguments.record {
        let output = ferofs::output::Output::create(path, &[])?;
        let written = write!(output.file(), "{}", server.recorded());
        written.map_err(Error::io("write", output.target()))?;
        output.finish()?;
    }
    if !quiet {
        let totals = server.totals();
        let (fetched, written) = (totals.fetched, totals.written);
        complain(&format!(
            "{fetched} bytes were got, which are {written} of plain tars"
        ));
    }
    Ok(())
}

/// A server with the group that systemd kept, if it kept one, and whether it has a new one.
pub fn begin(store: &Path, options: Options) -> Result<(Server, bool)> {
    match Group::kept(GROUP) {
        Some(group) => Ok((Server::with_group(store, options, group)?, false)),
        None => Ok((Server::new(store, options)?, true)),
    }
}

/// Tells systemd, if that has started this, to keep the group while no daemon has it, and that all can be mounted now.
pub fn ready(server: &Server, is_new: bool) -> Result<()> {
    let group = server.group();
    let told = match is_new {
        true => {
            let states = [NotifyState::FdStore, NotifyState::FdName(GROUP)];
            sd_notify::notify_with_fds(false, &states, &[group.as_fd()])
        }
        false => Ok(()),
    };
    let told = told.and_then(|()| sd_notify::notify(false, &[NotifyState::Ready]));
    told.map_err(|error| Error::Request(format!("cannot tell systemd: {error}")))
}

/// The layers of an image, the lowest one first.
fn layers_of(arguments: &Arguments, image: &Path) -> Result<Vec<Stored>> {
    let platform = arguments.platform.as_ref();
    if let Some(reference) = oci::Reference::parse(image)? {
        let layers = oci::open(&reference, platform)?.layers.into_iter();
        let stored = layers
            .map(|layer| Stored::new(layer.diff_id, layer.digest, Arc::new(OnDisk(layer.blob))));
        return Ok(stored.collect());
    }
    let Some(name) = image.to_str() else {
        let shown = Shown(image);
        return Err(Error::Request(format!("{shown} is no image in a registry")));
    };
    let reference = remote::Reference::parse(name);
    let reference = reference.map_err(|error| Error::Request(error.to_string()))?;
    let options = arguments.reach.options();
    let options = options.with_mirrors(arguments.mirror.clone());
    let image = ferofs::serve::find(&reference, platform, options, arguments.deadline)?;
    let known = |layer: &remote::Layer| {
        let path = arguments.store.join(format!("{}.points", layer.diff_id));
        path.exists()
    };
    if !image.layers.iter().all(known) {
        let pull = Pull::new(&arguments.store).with_points(true);
        image.pull(pull, &|_| {})?;
    }
    Ok(Stored::of(&image))
}
