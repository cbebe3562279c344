// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `containerd-ferofs-grpc serve`: the process that serves the layers of one image, as long as somebody uses them. The
//! daemon starts it ([`crate::on_demand`]), and may end or be replaced without it: containers read on.

use crate::config::Config;
use crate::config::OnDemand;
use crate::places::Places;
use crate::problem::Problem;
use crate::problem::Result;
use ferofs::digest::Digest;
use ferofs::oci::remote;
use ferofs::oci::remote::Reference;
use ferofs::oci::remote::Remote;
use ferofs::points::Points;
use ferofs::serve;
use ferofs::serve::Nearby;
use ferofs::serve::Options;
use ferofs::serve::Server;
use ferofs::serve::Source;
use ferofs::serve::Stored;
use std::io;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What it prints when everything is served. Else it prints why not.
pub const READY: &str = "ready";

/// Serves an image by the name that the daemon has for it, which has the lock of the store meanwhile. `wanted` are the diff IDs
/// of layers that it is begun for.
///
/// # Errors
///
/// When its layers cannot be served; that is printed, too.
pub fn run(config: &Config, image: &str, wanted: &[String]) -> Result<()> {
    // Each read that waits is an open file.
    ferofs::files::allow_many();
    // It is not to end with whoever started this one.
    let _ = rustix::process::setsid();
    let begun = begin(config, image, wanted);
    let mut out = std::io::stdout().lock();
    let line = match &begun {
        Ok(_) => READY.to_owned(),
        Err(problem) => problem.to_string().replace('\n', " "),
    };
    let told = writeln!(out, "{line}").and_then(|()| out.flush());
    told.map_err(|error| Problem::failed(format!("nobody wants to know: {error}")))?;
    let server = begun?;
    server.run()?;
    let totals = server.totals();
    tracing::debug!(
        image,
        fetched = totals.fetched,
        written = totals.written,
        "nobody uses it"
    );
    Ok(())
}

fn begin(config: &Config, image: &str, wanted: &[String]) -> Result<Server> {
    let settings = &config.on_demand;
    let places = Places::create(&config.root)?;
    let layers = match find(settings, image) {
        Ok(found) => Stored::of(&found),
        Err(problem) => without_registry(config, &places, wanted, problem)?,
    };
    let shown = image.to_owned();
    let options = Options::default()
        .with_deadline(Duration::from_secs(settings.deadline))
        .with_complete(settings.complete)
        .with_while_used(true)
        .with_tell(Arc::new(move |message| {
            tracing::warn!(image = shown, "{message}");
        }));
    let mut server = Server::new(&places.layers(), options)?;
    // Layers of the image that nobody has here need not be served.
    let has_points = |layer: &Stored| places.points(layer.diff_id).exists();
    let layers = layers.into_iter().filter(has_points);
    // If containerd comes to have one, that is where all of it comes from.
    let layers = layers.map(|layer| match layer.digest {
        Some(digest) => {
            let blobs = config.containerd.blobs();
            let source = Nearby::new(&blobs, digest, layer.diff_id, layer.source);
            Stored::new(layer.diff_id, Some(digest), Arc::new(source))
        }
        None => layer,
    });
    server.add_all(layers.collect())?;
    Ok(server)
}

/// The wanted layers, if containerd has all of them. Else what the problem with the registry is.
fn without_registry(
    config: &Config,
    places: &Places,
    wanted: &[String],
    problem: Problem,
) -> Result<Vec<Stored>> {
    let blobs = config.containerd.blobs();
    let text = problem.to_string();
    let layers = wanted.iter().map(|layer| {
        let layer = Digest::parse(layer)?;
        let points = Points::open_of(&places.points(layer), layer, None).ok()?;
        let away = Arc::new(Away(text.clone()));
        let is_near = Nearby::new(&blobs, points.digest, layer, away.clone()).is_near();
        is_near.then(|| Stored::new(layer, Some(points.digest), away))
    });
    let layers: Option<Vec<_>> = layers.collect();
    let layers = layers.filter(|layers| !layers.is_empty()).ok_or(problem)?;
    tracing::warn!("layers that containerd has are served without their registry: {text}");
    Ok(layers)
}

/// A registry that cannot be asked.
struct Away(String);

impl Source for Away {
    fn range(&self, _range: Range<u64>) -> io::Result<Vec<u8>> {
        Err(io::Error::new(io::ErrorKind::NotConnected, self.0.clone()))
    }

    fn shown(&self) -> String {
        "a layer that containerd has no more".into()
    }
}

/// Finds an image in its registry.
///
/// # Errors
///
/// When that cannot be asked, or there is no such image.
pub fn find(settings: &OnDemand, image: &str) -> Result<Arc<Remote>> {
    let reference = Reference::parse(image).map_err(|error| Problem::invalid(error.to_string()))?;
    let registry = &reference.registry;
    let mirrors = settings.mirrors.get(registry).cloned().unwrap_or_default();
    let options = remote::Options::default()
        .with_plain_http(settings.plain_http.contains(registry))
        .with_mirrors(mirrors)
        .with_authorities(settings.ca_files.clone());
    Ok(serve::find(&reference, None, options, settings.deadline)?)
}
