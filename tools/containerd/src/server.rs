// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The daemon's life: it sweeps, listens, answers, and ends when it is told to. Work that is interrupted by its end is
//! finished or removed when it starts again.

use crate::api::containerd::services::diff::v1::diff_server::DiffServer;
use crate::api::containerd::services::snapshots::v1::snapshots_server::SnapshotsServer;
use crate::api::store::store_server::StoreServer;
use crate::applier::Applier;
use crate::comparer::Comparer;
use crate::config::Config;
use crate::content::Contents;
use crate::metrics::Metrics;
use crate::places::make;
use crate::problem::Problem;
use crate::problem::Result;
use crate::service::DiffService;
use crate::service::SnapshotService;
use crate::snapshotter::Snapshotter;
use crate::store::StoreService;
use crate::sweep::sweep;
use crate::whole::Arrivals;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::fs;
use std::fs::Permissions;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

/// How long a new layer has to be the topmost one before it is taken for the last one of an image.
const QUIET: Duration = Duration::from_secs(1);

/// So often is looked whether layers that are mounted are served.
const LOOK: Duration = Duration::from_secs(2);

/// Answers until it is told to end.
///
/// # Errors
///
/// When it cannot begin.
pub async fn serve(config: Config) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Problem::failed(format!("cannot start: {error}"));
    let mut end = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    let opened = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || {
            let snapshotter = Snapshotter::open(config)?;
            let swept = sweep(&snapshotter, true)?;
            if swept.files > 0 {
                let (files, bytes) = (swept.files, swept.bytes);
                tracing::info!(files, bytes, "removed what was left half done");
            }
            Ok::<_, Problem>(snapshotter)
        })
    };
    let snapshotter = Arc::new(opened.await.map_err(|error| failed(&error))??);
    let contents = Contents::new(
        config.containerd.content.clone(),
        config.containerd.address.clone(),
        snapshotter.places.layers(),
        Handle::current(),
    );
    if config.on_demand.enabled {
        let snapshotter = Arc::clone(&snapshotter);
        std::thread::spawn(move || serve_again(&snapshotter));
    }
    let (committed, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(prepare_images(Arc::clone(&snapshotter), receiver));
    let snapshots = SnapshotService {
        snapshotter: Arc::clone(&snapshotter),
        committed,
    };
    let threads = available_parallelism().map_or(2, NonZeroUsize::get);
    let diff = DiffService {
        applier: Arc::new(Applier::new(Arc::clone(&snapshotter), contents.clone())),
        comparer: Arc::new(Comparer::new(Arc::clone(&snapshotter), contents)),
        permits: Arc::new(Semaphore::new(threads)),
    };
    if !config.metrics.address.is_empty() {
        serve_metrics(&config.metrics.address, snapshotter.metrics.clone()).await?;
    }
    let listener = listen(&config.address)?;
    let server = Server::builder()
        .add_service(SnapshotsServer::new(snapshots))
        .add_service(DiffServer::new(diff))
        .add_service(StoreServer::new(StoreService(snapshotter)))
        .serve_with_incoming(UnixListenerStream::new(listener));
    tracing::info!(address = %config.address.display(), root = %config.root.display(), "ready");
    // Who did not start it by systemd is not told.
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    tokio::select! {
        ended = server => ended.map_err(|error| failed(&error))?,
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
    tracing::info!("ending");
    Ok(())
}

/// The socket that systemd gave, or a new one in the place of one that nobody listens at.
fn listen(address: &Path) -> Result<UnixListener> {
    let failed = || Problem::io("listen at", address);
    let given = ListenFd::from_env().take_unix_listener(0);
    let listener = match given.map_err(failed())? {
        Some(listener) => listener,
        None => {
            if let Some(directory) = address.parent() {
                make(directory, 0o711)?;
            }
            let is_socket =
                fs::symlink_metadata(address).is_ok_and(|found| found.file_type().is_socket());
            if is_socket {
                if std::os::unix::net::UnixStream::connect(address).is_ok() {
                    let address = address.display();
                    return Err(Problem::precondition(format!(
                        "{address}: another daemon listens there"
                    )));
                }
                fs::remove_file(address).map_err(failed())?;
            }
            let listener = std::os::unix::net::UnixListener::bind(address).map_err(failed())?;
            fs::set_permissions(address, Permissions::from_mode(0o600)).map_err(failed())?;
            listener
        }
    };
    listener.set_nonblocking(true).map_err(failed())?;
    UnixListener::from_std(listener).map_err(failed())
}

/// Makes the image of all layers of what was committed, before somebody waits for it: when nothing came on top of it for
/// a moment.
async fn prepare_images(here: Arc<Snapshotter>, mut committed: UnboundedReceiver<String>) {
    while let Some(first) = committed.recv().await {
        let mut names = vec![first];
        while let Ok(Some(next)) = tokio::time::timeout(QUIET, committed.recv()).await {
            names.push(next);
        }
        let here = Arc::clone(&here);
        let prepared = tokio::task::spawn_blocking(move || {
            for name in names {
                if here.catalog.has_children(&name).unwrap_or(true) {
                    continue;
                }
                // It may be removed already; what is wrong is said when it is mounted.
                if let Err(problem) = here
                    .catalog
                    .get(&name)
                    .and_then(|found| here.lowers.prepare(&found))
                {
                    tracing::debug!(snapshot = name, %problem, "not prepared");
                }
            }
        });
        let _ = prepared.await;
    }
}

/// Sees to it that layers are served that come on demand, as long as they are mounted, and that those are taken that came to be
/// there.
fn serve_again(here: &Snapshotter) {
    let mut at_start = true;
    let mut arrivals = Arrivals::default();
    loop {
        let mut pause = LOOK;
        match here.lowers.serve_again(at_start) {
            Ok(()) => at_start = false,
            Err(problem) => {
                tracing::warn!("layers on demand, of which readers get errors: {problem}");
                pause = LOOK * 5;
            }
        }
        if let Err(problem) = arrivals.take(here) {
            tracing::warn!("layers on demand that came to be there: {problem}");
        }
        std::thread::sleep(pause);
    }
}

/// Answers all requests at an address with the metrics.
async fn serve_metrics(address: &str, metrics: Metrics) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| {
        Problem::failed(format!(
            "metrics.address: cannot listen at {address:?}: {error}"
        ))
    };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| failed(&error))?;
    let answer = move || {
        let text = metrics.text().unwrap_or_default();
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        std::future::ready(([("content-type", kind)], text))
    };
    let router = axum::Router::new().route("/metrics", axum::routing::get(answer));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("metrics: {error}");
        }
    });
    Ok(())
}
