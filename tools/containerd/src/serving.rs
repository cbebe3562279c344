// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `containerd-ferofs-grpc serve`: the process that serves the layers of one image, as long as somebody uses them. The
//! daemon starts it ([`crate::on_demand`]), and may end or be replaced without it: containers read on.

use crate::config::Config;
use crate::config::OnDemand;
use crate::places::Places;
use crate::problem::Problem;
use crate::problem::Result;
use ferofs::oci::remote;
use ferofs::oci::remote::Reference;
use ferofs::oci::remote::Remote;
use ferofs::serve;
use ferofs::serve::Options;
use ferofs::serve::Server;
use ferofs::serve::Stored;
use rustix::process::Resource;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// What it prints when everything is served. Else it prints why not.
pub const READY: &str = "ready";

/// Serves an image by the name that the daemon has for it, which has the lock of the store meanwhile.
///
/// # Errors
///
/// When its layers cannot be served; that is printed, too.
pub fn run(config: &Config, image: &str) -> Result<()> {
    // Each read that waits is an open file.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
    // It is not to end with whoever started this one.
    let _ = rustix::process::setsid();
    let begun = begin(config, image);
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

fn begin(config: &Config, image: &str) -> Result<Server> {
    let settings = &config.on_demand;
    let found = find(settings, image)?;
    let shown = image.to_owned();
    let options = Options::default()
        .with_deadline(Duration::from_secs(settings.deadline))
        .with_complete(settings.complete)
        .with_while_used(true)
        .with_tell(Arc::new(move |message| {
            tracing::warn!(image = shown, "{message}");
        }));
    let places = Places::create(&config.root)?;
    let mut server = Server::new(&places.layers(), options)?;
    // Layers of the image that nobody has here need not be served.
    let has_points = |layer: &Stored| places.points(layer.diff_id).exists();
    server.add_all(Stored::of(&found).into_iter().filter(has_points).collect())?;
    Ok(server)
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
