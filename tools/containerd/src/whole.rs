// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Layers on demand of which containerd came to have all: an archive was imported, or an image was pulled whole, where the
//! snapshots of the same layers were there already, so that nobody asked for them to be applied. They need no registry then.
//!
//! What is mounted is the sparse tar, which stays the file that it is: whoever serves it gets all of it from containerd's blob
//! ([`ferofs::serve::Nearby`]). What nobody has mounted is taken in here as any layer is, and the sparse tar goes. Called by
//! [`crate::server`], now and then, and by [`crate::applier`] for a layer that it has read.

use crate::applier::ingest_tar;
use crate::catalog::Form;
use crate::catalog::Layer;
use crate::problem::Problem;
use crate::problem::Result;
use crate::snapshotter::Snapshotter;
use ferofs::digest::Digest;
use ferofs::serve::StoreLock;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// A blob of which nothing came is not read again before that.
const PAUSE: Duration = Duration::from_secs(600);

/// Takes such layers in.
#[derive(Default)]
pub struct Arrivals {
    /// Blobs of which nothing came, and when.
    failed: HashMap<Digest, Instant>,
}

impl Arrivals {
    /// Takes those in that are there now. What goes wrong with one is logged, and it is left to its registry.
    ///
    /// # Errors
    ///
    /// When it cannot be found out which layers come on demand.
    pub fn take(&mut self, here: &Snapshotter) -> Result<()> {
        self.failed.retain(|_, when| when.elapsed() < PAUSE);
        let blobs = here.config.containerd.blobs();
        for layer in here.places.on_demand()? {
            let Some(record) = here.catalog.layer(layer)? else {
                continue;
            };
            let stored = record.stored.iter().filter_map(|name| Digest::parse(name));
            let mut names = [layer].into_iter().chain(stored);
            let Some(name) = names.find(|name| {
                !self.failed.contains_key(name) && blobs.join(name.to_string()).exists()
            }) else {
                continue;
            };
            if let Err(problem) = take_one(here, layer, &record, name, &blobs) {
                tracing::warn!(%layer, "it stays on demand: {problem}");
                self.failed.insert(name, Instant::now());
            }
        }
        Ok(())
    }
}

fn take_one(
    here: &Snapshotter,
    layer: Digest,
    record: &Layer,
    name: Digest,
    blobs: &Path,
) -> Result<()> {
    if !can_become(here, layer, record)? {
        return Ok(());
    }
    let path = blobs.join(name.to_string());
    let file = File::open(&path).map_err(Problem::io("open", &path))?;
    let made = ingest_tar(here, file, &path, name)?;
    if made.diff_id != layer {
        let (path, found) = (path.display(), made.diff_id);
        return Err(Problem::invalid(format!(
            "{path}: the sha256 of its tar is {found}, expected {layer}"
        )));
    }
    let _held = here.layers.hold(layer);
    // It may be gone meanwhile.
    let Some(record) = here.catalog.layer(layer)? else {
        return Ok(());
    };
    if become_whole(here, layer, &record, || made.keep())? {
        tracing::info!(%layer, bytes = record.size, "all of it is there, from containerd");
    }
    Ok(())
}

/// Whether a layer comes on demand, and nobody has its sparse tar mounted or serves it.
///
/// # Errors
///
/// When that cannot be found out.
pub fn can_become(here: &Snapshotter, layer: Digest, record: &Layer) -> Result<bool> {
    if record.form != Form::OnDemand || here.places.tar(layer).exists() {
        return Ok(false);
    }
    let _held = StoreLock::wait(&here.places.layers())?;
    Ok(!here.lowers.is_in_use(layer)?)
}

/// Makes a layer whole by `keep`, which gives its files their names, if that can be. Returns whether it was. The layer's lock is
/// held.
///
/// # Errors
///
/// When that fails.
pub fn become_whole(
    here: &Snapshotter,
    layer: Digest,
    record: &Layer,
    keep: impl FnOnce() -> ferofs::error::Result<()>,
) -> Result<bool> {
    if record.form != Form::OnDemand || here.places.tar(layer).exists() {
        return Ok(false);
    }
    // Whoever mounts it has that until it is mounted.
    let _held = StoreLock::wait(&here.places.layers())?;
    if here.lowers.is_in_use(layer)? {
        return Ok(false);
    }
    keep()?;
    here.places.throw_away(&here.places.sparse(layer))?;
    Ok(true)
}

impl Snapshotter {
    /// Whether all of a layer is there, if it is known.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn is_whole(&self, layer: Digest) -> Result<bool> {
        let record = self.catalog.layer(layer)?;
        let is_whole =
            |record: Layer| record.form != Form::OnDemand || self.places.tar(layer).exists();
        Ok(record.is_some_and(is_whole))
    }
}
