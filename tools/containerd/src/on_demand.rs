// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Layers that come from a registry when they are read: an image whose indexes and access points are beside it in its
//! registry, or in a directory here, is mounted before any of its layers is pulled.
//!
//! containerd says by labels of a snapshot which image it is for. [`OnDemand::find`] gets what is needed of that, and the
//! layer is committed at once. Who reads its sparse tar is served by a process of its own for each image, see
//! [`crate::serving`], which outlives this one: [`OnDemand::serve`] begins it when the layers are mounted, and
//! [`OnDemand::again`] when it ended though they still are. Called by [`crate::snapshotter`], [`crate::lower`] and
//! [`crate::server`].

use crate::catalog::Form;
use crate::catalog::Labels;
use crate::catalog::Layer;
use crate::catalog::Origin;
use crate::config::Config;
use crate::config::OnDemand as Settings;
use crate::locks::Locks;
use crate::places::Places;
use crate::problem::Problem;
use crate::problem::Result;
use crate::serving;
use ferofs::digest::Digest;
use ferofs::error::Kind;
use ferofs::inspect::Image;
use ferofs::oci::chain_id;
use ferofs::oci::remote;
use ferofs::oci::remote::Pull;
use ferofs::oci::remote::Reference;
use ferofs::oci::remote::Remote;
use ferofs::output::Output;
use ferofs::points::Points;
use ferofs::serve;
use ferofs::serve::StoreLock;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// The label that has the name of the image.
const IMAGE: &str = "containerd.io/snapshot/cri.image-ref";
/// The label that has the digest of its manifest.
const MANIFEST: &str = "containerd.io/snapshot/cri.manifest-digest";
/// How long it is remembered what was found of an image. containerd asks for one layer after the other.
const MEMORY: Duration = Duration::from_secs(60);

/// An image that was looked for, and when. Nothing if it cannot be had on demand.
type Seen = (Instant, Option<Arc<Remote>>);

/// Finds such layers, and has them served.
pub struct OnDemand {
    config: Config,
    places: Arc<Places>,
    /// By the digest of the manifest.
    seen: Mutex<HashMap<Digest, Seen>>,
    /// Those that are being looked for.
    busy: Locks<Digest>,
    /// The layers of each mount that is to be served, by the number of its snapshot.
    mounts: Mutex<BTreeMap<u64, Vec<Wanted>>>,
}

/// A layer that has to be served while somebody uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The layer.
    pub layer: Digest,
    /// Where it comes from.
    pub origin: Origin,
}

/// The name of an image by the digest of its manifest.
fn pinned(name: &str, manifest: Digest) -> Result<String> {
    let mut reference =
        Reference::parse(name).map_err(|error| Problem::invalid(error.to_string()))?;
    reference.tag = None;
    reference.digest = None;
    Ok(format!("{reference}@sha256:{manifest}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OnDemand {
    /// With layers at their places.
    pub fn new(config: &Config, places: Arc<Places>) -> Self {
        OnDemand {
            config: config.clone(),
            places,
            seen: Mutex::default(),
            busy: Locks::default(),
            mounts: Mutex::default(),
        }
    }

    fn settings(&self) -> &Settings {
        &self.config.on_demand
    }

    /// The layer that a chain ID of an image ends with, if labels say which image that is, and all of its layers can be had
    /// on demand. Its index and access points are there then.
    pub fn find(&self, chain: &str, labels: &Labels) -> Option<(Digest, Layer)> {
        if !self.settings().enabled {
            return None;
        }
        let manifest = Digest::parse(labels.get(MANIFEST)?)?;
        let name = labels.get(IMAGE)?;
        let chain = Digest::parse(chain)?;
        for is_last in [false, true] {
            let image = self.image(name, manifest)?;
            let layers = &image.layers;
            let ids = |count| layers.iter().take(count).map(|layer| layer.diff_id);
            let ends = |number: &usize| chain_id(ids(number.saturating_add(1))) == chain;
            let layer = layers.get((0..layers.len()).find(ends)?)?;
            match self.record(&image, layer) {
                Ok(record) => return Some((layer.diff_id, record)),
                Err(problem) if is_last => {
                    tracing::warn!(image = name, "not on demand: {problem}");
                }
                // Its files may have been removed with another image's.
                Err(_) => drop(lock(&self.seen).remove(&manifest)),
            }
        }
        None
    }

    /// Looks for an image, and gets the indexes and access points of its layers.
    fn image(&self, name: &str, manifest: Digest) -> Option<Arc<Remote>> {
        let _held = self.busy.hold(manifest);
        {
            let mut seen = lock(&self.seen);
            seen.retain(|_, (when, _)| when.elapsed() < MEMORY);
            if let Some((_, found)) = seen.get(&manifest) {
                return found.clone();
            }
        }
        let started = Instant::now();
        let found = match self.pull(name, manifest) {
            Ok(image) => {
                let (layers, ms) = (image.layers.len(), started.elapsed().as_millis());
                tracing::info!(image = image.name, layers, ms, "can be had on demand");
                Some(image)
            }
            Err(problem) => {
                tracing::info!(image = name, "not on demand: {problem}");
                None
            }
        };
        lock(&self.seen).insert(manifest, (Instant::now(), found.clone()));
        found
    }

    fn pull(&self, name: &str, manifest: Digest) -> Result<Arc<Remote>> {
        let image = serving::find(self.settings(), &pinned(name, manifest)?)?;
        for layer in &image.layers {
            self.take_from_here(layer.diff_id)?;
        }
        let layers = self.places.layers();
        let pulled = image.pull(Pull::new(&layers).with_points(true), &|_| {});
        let pulled = pulled.map_err(|error| match error.kind() {
            Kind::NotFound => Problem::missing(format!(
                "{error}: expected indexes and access points, as `ferofs push-index --make` stores them"
            )),
            _ => error.into(),
        })?;
        for note in pulled.iter().flat_map(|pulled| &pulled.notes) {
            tracing::warn!(image = image.name, "{note}");
        }
        Ok(image)
    }

    /// Takes the index and access points of a layer from a directory that has both. They are looked at as if they came from a
    /// registry.
    fn take_from_here(&self, layer: Digest) -> Result<()> {
        let wanted = [self.places.image(layer), self.places.points(layer)];
        if wanted.iter().all(|path| path.exists()) {
            return Ok(());
        }
        for directory in &self.settings().directories {
            let here = |path: &Path| directory.join(path.file_name().unwrap_or_default());
            if !wanted.iter().all(|path| here(path).exists()) {
                continue;
            }
            for path in wanted.iter().filter(|path| !path.exists()) {
                let output = Output::create(path, &[])?;
                let from = here(path);
                let copied =
                    File::open(&from).and_then(|mut from| io::copy(&mut from, &mut output.file()));
                copied.map_err(Problem::io("copy", &from))?;
                output.finish()?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// What is known of a layer that is not there.
    fn record(&self, image: &Remote, layer: &remote::Layer) -> Result<Layer> {
        let points = self.places.points(layer.diff_id);
        let points = Points::open_of(&points, layer.diff_id, Some(layer.digest))?;
        let index = self.places.image(layer.diff_id);
        let inodes = Image::open(&index)?.superblock().inodes();
        let bytes = fs::metadata(&index).map_err(Problem::io("look at", &index))?;
        Ok(Layer {
            form: Form::OnDemand,
            size: points.size,
            index: bytes.len(),
            inodes,
            block_bits: None,
            stored: vec![layer.digest.to_string()],
            verity: None,
            origin: Some(Origin {
                image: image.name.clone(),
            }),
        })
    }

    /// Begins servers for the images of those layers that nobody serves. Nothing if all of them are there. Whoever gets a lock
    /// mounts them before he lets go of it, and says so ([`OnDemand::mounted`]).
    ///
    /// # Errors
    ///
    /// When a server does not begin, for it cannot reach a registry for example.
    pub fn serve(&self, wanted: &[Wanted]) -> Result<Option<StoreLock>> {
        let layers = self.places.layers();
        if wanted
            .iter()
            .all(|wanted| self.places.tar(wanted.layer).exists())
        {
            return Ok(None);
        }
        let held = StoreLock::wait(&layers)?;
        let missing_of = |image: &str| {
            let missing = wanted.iter().filter(|wanted| {
                wanted.origin.image == image && !self.places.tar(wanted.layer).exists()
            });
            missing.map(|wanted| wanted.layer).collect::<Vec<_>>()
        };
        for wanted in wanted {
            if serve::is_served(&layers, wanted.layer)? {
                continue;
            }
            // It serves all that it has, so the next one is served already most of the time.
            let image = &wanted.origin.image;
            self.start(image, &missing_of(image))?;
            if !serve::is_served(&layers, wanted.layer)? {
                let (layer, points) = (wanted.layer, self.places.points(wanted.layer));
                return Err(Problem::failed(format!(
                    "layer {layer} is not served by its image {image}: expected access points in {}",
                    points.display()
                )));
            }
        }
        Ok(Some(held))
    }

    /// Starts the server of an image, and waits until it serves.
    fn start(&self, image: &str, wanted: &[Digest]) -> Result<()> {
        let failed =
            |error| Problem::failed(format!("{image}: cannot start what serves it: {error}"));
        let mut child = Command::new("/proc/self/exe")
            .arg0(env!("CARGO_BIN_NAME"))
            .arg("serve")
            .arg(image)
            .args(wanted.iter().map(Digest::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let config = serde_json::to_vec(&self.config)?;
        // If it does not want to know, it says why by the line that is read.
        let _ = child.stdin.take().map(|mut input| input.write_all(&config));
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(failed)?;
        }
        let id = child.id();
        if line.trim_end() == serving::READY {
            tracing::info!(image, process = id, "served on demand");
            let image = image.to_owned();
            // Nobody is left behind by it, and somebody hears of its end.
            thread::spawn(move || match child.wait() {
                Ok(status) if status.success() => tracing::debug!(image, "served no more"),
                Ok(status) => tracing::warn!(image, %status, "served no more"),
                Err(error) => tracing::warn!(image, "served no more: {error}"),
            });
            return Ok(());
        }
        let status = child.wait().map_err(failed)?;
        Err(match line.trim_end() {
            "" => Problem::failed(format!("{image}: what serves it ended: {status}")),
            problem => Problem::failed(problem),
        })
    }

    /// Says that layers are mounted by the snapshot of a number, perhaps by a daemon before this one.
    pub fn mounted(&self, number: u64, wanted: Vec<Wanted>) {
        if !wanted.is_empty() {
            lock(&self.mounts).insert(number, wanted);
        }
    }

    /// Whether a layer is mounted by some snapshot, of which `is_mounted` says whether it still is.
    pub fn is_mounted(&self, layer: Digest, is_mounted: impl Fn(u64) -> bool) -> bool {
        let has = |wanted: &[Wanted]| wanted.iter().any(|wanted| wanted.layer == layer);
        let mounts = lock(&self.mounts);
        mounts
            .iter()
            .any(|(number, wanted)| has(wanted) && is_mounted(*number))
    }

    /// Begins servers for what is mounted and not served: whoever served it was killed. `is_mounted` says whether the
    /// snapshot of a number still is.
    ///
    /// # Errors
    ///
    /// When some of them do not begin. The others do.
    pub fn again(&self, is_mounted: impl Fn(u64) -> bool) -> Result<()> {
        let mut first = None;
        let mounts: Vec<_> = lock(&self.mounts)
            .iter()
            .map(|(number, wanted)| (*number, wanted.clone()))
            .collect();
        for (number, wanted) in mounts {
            let wanted: Vec<_> = wanted
                .into_iter()
                .filter(|wanted| !self.places.tar(wanted.layer).exists())
                .collect();
            if wanted.is_empty() || !is_mounted(number) {
                lock(&self.mounts).remove(&number);
                continue;
            }
            if let Err(problem) = self.serve(&wanted) {
                first = first.or(Some(problem));
            }
        }
        first.map_or(Ok(()), Err)
    }
}
