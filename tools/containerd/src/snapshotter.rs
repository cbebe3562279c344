// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What containerd asks of a snapshotter, done: snapshots are made, mounted, committed and removed.
//!
//! A committed snapshot is a layer on top of others, and what is mounted of it is one filesystem for all of them, see
//! [`crate::lower`]. What is given to containerd are the kernel's plain mounts, `overlay` and `bind`, which every
//! release of it and all that is built on it can mount. Called by [`crate::service`], which has requests and answers.

use crate::api::containerd::types::Mount;
use crate::catalog::Catalog;
use crate::catalog::Content;
use crate::catalog::Form;
use crate::catalog::Kind;
use crate::catalog::Labels;
use crate::catalog::Layer;
use crate::catalog::Snapshot;
use crate::catalog::TARGET;
use crate::catalog::is_for_a_layer;
use crate::config::Config;
use crate::limit;
use crate::locks::Locks;
use crate::lower::Lowers;
use crate::mapping::Mapping;
use crate::metrics::Metrics;
use crate::mountpoint;
use crate::places::Places;
use crate::places::make;
use crate::problem::Problem;
use crate::problem::Result;
use crate::seal;
use crate::upper;
use ferofs::digest::Digest;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// The label that says which layer is going to be applied.
const DIFF_ID: &str = "containerd.io/snapshot/diff-id";
/// The label that says how much can be written.
const SIZE: &str = "containerd.io/snapshot/max-size";

/// The snapshotter.
pub struct Snapshotter {
    /// What is known.
    pub catalog: Arc<Catalog>,
    /// Where it is.
    pub places: Arc<Places>,
    /// What is below snapshots.
    pub lowers: Arc<Lowers>,
    /// How it is to be.
    pub config: Config,
    /// What is counted.
    pub metrics: Metrics,
    /// Layers whose files are being named or removed.
    pub layers: Locks<Digest>,
}

impl Snapshotter {
    /// Makes the directories and opens the database. What was left half done is gone then, see [`crate::sweep`].
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn open(config: Config) -> Result<Self> {
        let places = Arc::new(Places::create(&config.root)?);
        let catalog = Arc::new(Catalog::open(&places.database())?);
        let lowers = Arc::new(Lowers::new(
            Arc::clone(&catalog),
            Arc::clone(&places),
            &config,
        ));
        Ok(Snapshotter {
            catalog,
            places,
            lowers,
            config,
            metrics: Metrics::default(),
            layers: Locks::default(),
        })
    }

    /// Makes a snapshot that can be written to. For a layer that is there already, that is the layer itself.
    ///
    /// # Errors
    ///
    /// When the name is taken, there is no such parent, or its mounts cannot be made. And, as containerd expects it,
    /// that it exists, when the layer does.
    pub fn prepare(&self, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>> {
        if let Some(target) = labels.get(TARGET) {
            if self.layer_is_there(target, parent, &labels)? {
                let problem = format!("target snapshot {target} already exists");
                return Err(Problem::exists(problem));
            }
        }
        self.create(Kind::Active, key, parent, labels)
    }

    /// Makes a snapshot that can be looked at.
    ///
    /// # Errors
    ///
    /// When the name is taken, there is no such parent, or its mounts cannot be made.
    pub fn view(&self, key: &str, parent: Option<&str>, labels: Labels) -> Result<Vec<Mount>> {
        self.create(Kind::View, key, parent, labels)
    }

    /// Whether a layer of an image is committed, perhaps only now: if its tar is there. One that comes on demand is there for
    /// images that can come so; for others it is to be fetched.
    fn layer_is_there(&self, target: &str, parent: Option<&str>, labels: &Labels) -> Result<bool> {
        let committed = self.catalog.target(target, parent)?;
        if let Some(name) = &committed {
            let layer = self.catalog.get(name)?.layer;
            if layer.map_or(Ok(true), |layer| self.is_whole(layer))? {
                return Ok(true);
            }
        }
        if let Some(layer) = labels.get(DIFF_ID).and_then(|id| Digest::parse(id)) {
            let _held = self.layers.hold(layer);
            if self.has_files(layer)? && self.is_whole(layer)? {
                self.adopt(target, parent, labels, layer, None)?;
                return Ok(true);
            }
        }
        let Some((layer, record)) = self.lowers.on_demand.find(target, labels) else {
            return Ok(false);
        };
        if committed.is_some() {
            return Ok(true);
        }
        let _held = self.layers.hold(layer);
        let is_known = self.has_files(layer)?;
        self.adopt(
            target,
            parent,
            labels,
            layer,
            Some(&record).filter(|_| !is_known),
        )?;
        Ok(true)
    }

    /// Commits a layer of an image that is there, or comes when it is read. Its lock is held.
    fn adopt(
        &self,
        target: &str,
        parent: Option<&str>,
        labels: &Labels,
        layer: Digest,
        record: Option<&Layer>,
    ) -> Result<()> {
        // The name is of nobody else's: the database counts on, and chain IDs are not keys.
        let name = format!("{target}@{}", parent.unwrap_or(""));
        let labels = labels.clone();
        let snapshot = self
            .catalog
            .create_committed(&name, parent, labels, layer, record)?;
        make(&self.places.snapshot(snapshot.number), 0o711)?;
        match record {
            Some(_) => {
                tracing::info!(snapshot = name, layer = %layer, "comes on demand");
                self.metrics.on_demand.inc();
            }
            None => {
                tracing::info!(snapshot = name, layer = %layer, "taken from a layer that is there");
                self.metrics.reused.inc();
            }
        }
        Ok(())
    }

    /// Whether a layer is known, and its files are where they should be.
    pub fn has_files(&self, digest: Digest) -> Result<bool> {
        let Some(layer) = self.catalog.layer(digest)? else {
            return Ok(false);
        };
        let size = |path: &Path| fs::metadata(path).map(|found| found.len()).ok();
        let image = size(&self.places.image(digest));
        Ok(match layer.form {
            Form::Tar => image.is_some() && size(&self.places.tar(digest)) == Some(layer.size),
            Form::OnDemand => image.is_some() && self.places.points(digest).exists(),
            Form::Image | Form::Compressed => image == Some(layer.size),
        })
    }

    fn create(
        &self,
        kind: Kind,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        let size = labels
            .get(SIZE)
            .unwrap_or(&self.config.snapshots.default_size);
        // What is applied is not written there.
        let limited = kind == Kind::Active && !is_for_a_layer(key, &labels) && !size.is_empty();
        let limit = limited.then(|| limit::parse(size)).transpose()?;
        let snapshot = self.catalog.create(kind, key, parent, labels, limit)?;
        match self.mounts_of(&snapshot) {
            Ok(mounts) => Ok(mounts),
            Err(problem) => {
                self.catalog.remove(key)?;
                mountpoint::unmount(&self.places.limited(snapshot.number))?;
                self.places
                    .throw_away(&self.places.snapshot(snapshot.number))?;
                Err(problem)
            }
        }
    }

    /// The mounts of a snapshot. What is missing of them, after a reboot for example, is made.
    ///
    /// # Errors
    ///
    /// When there is no such snapshot, or it is committed, or they cannot be made.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let snapshot = self.catalog.get(key)?;
        if snapshot.kind == Kind::Committed {
            return Err(Problem::precondition(format!(
                "snapshot {key} is committed, expected an active one or a view"
            )));
        }
        self.mounts_of(&snapshot)
    }

    fn mounts_of(&self, snapshot: &Snapshot) -> Result<Vec<Mount>> {
        let number = snapshot.number;
        make(&self.places.snapshot(number), 0o711)?;
        if let Some(bytes) = snapshot.limit {
            limit::mount(
                &self.places.limited_image(number),
                &self.places.limited(number),
                bytes,
            )?;
        }
        let (upper, work) = (self.places.upper(snapshot), self.places.work(snapshot));
        let parent = snapshot.parent.as_deref();
        let parent = parent.map(|parent| self.catalog.get(parent)).transpose()?;
        let read_only = snapshot.kind == Kind::View;
        let is_new = !upper.exists();
        if parent.is_none() || !read_only {
            make(&upper, 0o755)?;
        }
        let mapping = Mapping::of(&snapshot.labels)?;
        let own = || match &mapping {
            Some(mapping) if is_new => mapping.chown(&upper),
            _ => Ok(()),
        };
        let Some(parent) = parent else {
            own()?;
            return Ok(vec![bind(&upper, read_only)]);
        };
        let late = snapshot.is_for_a_layer() && self.config.snapshots.lazy;
        let lowers = match late {
            true => self.lowers.places(&parent)?,
            false => self.lowers.mounted(&parent)?,
        };
        let mut options = self.config.snapshots.overlay_options.clone();
        match (read_only, lowers.as_slice()) {
            (true, [lower]) => return Ok(vec![bind(lower, true)]),
            (true, _) => options.push("ro".into()),
            (false, _) => {
                make(&work, 0o711)?;
                if let Some(top) = lowers.first().filter(|_| is_new && !late) {
                    upper::look_like(&upper, top)?;
                }
                own()?;
                options.push(format!("workdir={}", work.display()));
                options.push(format!("upperdir={}", upper.display()));
            }
        }
        options.extend(Mapping::options(&snapshot.labels));
        let lowers: Vec<_> = lowers
            .iter()
            .map(|lower| lower.display().to_string())
            .collect();
        let lowers = match (&mapping, lowers.as_slice()) {
            (None, _) => lowers.join(":"),
            // containerd maps the users of the directory that they have in common, without what is mounted below it:
            // for a path with a slash at its end that is the directory itself.
            (Some(_), [lower]) => format!("{lower}/"),
            (Some(_), _) => {
                return Err(Problem::precondition(format!(
                    "snapshot {}: what is in several directories cannot be below a container in a user namespace",
                    snapshot.name
                )));
            }
        };
        options.push(format!("lowerdir={lowers}"));
        Ok(vec![Mount {
            r#type: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options,
        }])
    }

    /// Mounts what is below a snapshot that has mounts already, and was not mounted since it was for a layer.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn mount_below(&self, snapshot: &Snapshot) -> Result<()> {
        let Some(parent) = &snapshot.parent else {
            return Ok(());
        };
        let lowers = self.lowers.mounted(&self.catalog.get(parent)?)?;
        match lowers.first() {
            Some(top) => upper::look_like(&self.places.upper(snapshot), top),
            None => Ok(()),
        }
    }

    /// Commits a snapshot: what was applied to it, or else what was written to it, becomes a layer.
    ///
    /// # Errors
    ///
    /// When it cannot be committed, or what was written cannot be read.
    pub fn commit(
        &self,
        key: &str,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Snapshot> {
        let snapshot = self.catalog.get(key)?;
        let is_written = snapshot.layer.is_none() && snapshot.kind == Kind::Active;
        if is_written {
            // After a reboot nothing is mounted.
            self.mounts_of(&snapshot)?;
        }
        let committed = if !is_written {
            // Of what is no active snapshot it says why not.
            let content = Content::Applied;
            self.catalog.commit(key, name, parent, labels, content)?
        } else if self.becomes_image(&snapshot) {
            self.commit_image(&snapshot, name, parent, labels)?
        } else {
            return self.commit_directory(&snapshot, name, parent, labels);
        };
        // Who has it mounted still sees it.
        mountpoint::unmount(&self.places.limited(committed.number))?;
        for path in [
            self.places.limited_image(committed.number),
            self.places.limited(committed.number),
            self.places.upper(&snapshot),
            self.places.work(&snapshot),
        ] {
            self.places.throw_away(&path)?;
        }
        tracing::info!(snapshot = name, key, "committed");
        Ok(committed)
    }

    /// Whether what was written to a snapshot becomes an image, and a part of the one that is mounted: what another
    /// differ unpacked there, what is in a filesystem of its own, and all when files are to be sealed.
    fn becomes_image(&self, snapshot: &Snapshot) -> bool {
        let config = &self.config.layers;
        snapshot.is_for_a_layer() || snapshot.limit.is_some() || config.verity || config.immutable
    }

    /// Commits what was written to a snapshot where it is. Mounts that were given out for it stay good: BuildKit looks at
    /// what it wrote by them afterwards.
    fn commit_directory(
        &self,
        snapshot: &Snapshot,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Snapshot> {
        let upper = self.places.upper(snapshot);
        let failed = Problem::io("write", &upper);
        let written = fs::File::open(&upper).and_then(|file| Ok(rustix::fs::syncfs(file)?));
        written.map_err(failed)?;
        let (bytes, inodes) = upper::usage(&upper)?;
        let content = Content::Directory { bytes, inodes };
        let key = &snapshot.name;
        let committed = self.catalog.commit(key, name, parent, labels, content)?;
        tracing::info!(snapshot = name, key, "committed as it is");
        Ok(committed)
    }

    fn commit_image(
        &self,
        snapshot: &Snapshot,
        name: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Snapshot> {
        let upper = self.places.upper(snapshot);
        let image = upper::image(&upper, &self.places.layers())?;
        let digest = image.digest;
        let mut layer = Layer {
            form: Form::Image,
            size: image.size,
            index: 0,
            inodes: image.inodes,
            block_bits: None,
            stored: Vec::new(),
            verity: None,
            origin: None,
        };
        let _held = self.layers.hold(digest);
        let committed = || -> Result<Snapshot> {
            if !self.has_files(digest)? {
                image.keep()?;
            }
            self.seal(digest, &mut layer)?;
            let content = Content::Layer(digest, &layer);
            self.catalog
                .commit(&snapshot.name, name, parent, labels, content)
        };
        let committed = committed();
        if committed.is_err() {
            self.remove_files(digest)?;
        }
        committed
    }

    /// Removes a snapshot, and its layer if nobody else has it.
    ///
    /// # Errors
    ///
    /// When there is none, or others are on top of it.
    pub fn remove(&self, key: &str) -> Result<()> {
        let (snapshot, unused) = self.catalog.remove(key)?;
        self.lowers.unmount(snapshot.number)?;
        mountpoint::unmount(&self.places.limited(snapshot.number))?;
        self.places
            .throw_away(&self.places.snapshot(snapshot.number))?;
        if let Some(layer) = snapshot.layer.filter(|_| unused) {
            let _held = self.layers.hold(layer);
            self.remove_files(layer)?;
        }
        tracing::info!(snapshot = key, "removed");
        Ok(())
    }

    /// Gives the files of a layer fs-verity and makes them immutable, as far as that is wanted. The layer's lock is held.
    ///
    /// # Errors
    ///
    /// When the filesystem cannot do that.
    pub fn seal(&self, digest: Digest, layer: &mut Layer) -> Result<()> {
        let config = &self.config.layers;
        let data = match layer.form {
            // What is not there cannot be sealed, and the configuration has not both.
            Form::OnDemand => return Ok(()),
            Form::Tar => self.places.tar(digest),
            Form::Image | Form::Compressed => self.places.image(digest),
        };
        if config.verity {
            if layer.form == Form::Tar {
                seal::enable_verity(&self.places.image(digest))?;
            }
            layer.verity = Some(seal::enable_verity(&data)?.to_string());
        }
        if config.immutable {
            seal::seal(&self.places.image(digest))?;
            seal::seal(&data)?;
        }
        Ok(())
    }

    /// Removes the files of a layer, unless somebody has come to have it meanwhile. The layer's lock is held.
    pub fn remove_files(&self, layer: Digest) -> Result<()> {
        if self.catalog.layer(layer)?.is_some() {
            return Ok(());
        }
        for path in self.places.files(layer) {
            seal::open(&path)?;
            self.places.throw_away(&path)?;
        }
        Ok(())
    }

    /// What a snapshot takes on disk: bytes and inodes.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be looked at.
    pub fn usage(&self, key: &str) -> Result<(u64, u64)> {
        let snapshot = self.catalog.get(key)?;
        match snapshot.kind {
            Kind::Committed => Ok((snapshot.bytes, snapshot.inodes)),
            Kind::Active => upper::usage(&self.places.upper(&snapshot)),
            Kind::View => Ok((0, 0)),
        }
    }

    /// The snapshot that mounts lead to, if they are of one here: by what is bound, or written to.
    pub fn of_mounts(&self, mounts: &[Mount]) -> Option<u64> {
        let directories = directories(mounts)?;
        self.places.number_of(directories.first()?)
    }
}

/// The directories that a mount consists of, the topmost one first: what is bound, or written to, and what is below.
pub fn directories(mounts: &[Mount]) -> Option<Vec<PathBuf>> {
    let [mount] = mounts else {
        return None;
    };
    match mount.r#type.as_str() {
        "bind" => Some(vec![PathBuf::from(&mount.source)]),
        "overlay" => {
            let option = |key| {
                let mut options = mount.options.iter();
                options.find_map(|option| option.strip_prefix(key))
            };
            let upper = option("upperdir=").into_iter();
            let lowers = option("lowerdir=").unwrap_or("").split(':');
            let all = upper.chain(lowers).filter(|path| !path.is_empty());
            Some(all.map(PathBuf::from).collect())
        }
        _ => None,
    }
}

fn bind(source: &Path, read_only: bool) -> Mount {
    let access = if read_only { "ro" } else { "rw" };
    Mount {
        r#type: "bind".into(),
        source: source.display().to_string(),
        target: String::new(),
        options: vec![access.into(), "rbind".into()],
    }
}
