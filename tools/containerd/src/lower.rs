// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is below a snapshot: all layers of a committed one in one image, mounted once however many are on top of it.
//!
//! The image is made when it is wanted for the first time, in one step, and never changed: it says the same however
//! often it is made. The mount is the kernel's own and needs nobody to live; after a reboot it is made again.
//!
//! A layer that is a compressed image cannot always be part of another one, as with others whose blocks are smaller: those up to it,
//! and it and those above it, are merged apart, the upper ones with their whiteouts kept, and overlayfs puts them on top of each
//! other. What was written to a snapshot that was committed
//! is one more directory there, as it is. Called by [`crate::snapshotter`] and
//! [`crate::applier`].

use crate::catalog::Catalog;
use crate::catalog::Form;
use crate::catalog::Kind;
use crate::catalog::Layer;
use crate::catalog::Snapshot;
use crate::config::Config;
use crate::locks::Locks;
use crate::mountpoint::is_mounted;
use crate::mountpoint::unmount;
use crate::on_demand::OnDemand;
use crate::on_demand::Wanted;
use crate::places::Places;
use crate::places::make;
use crate::problem::Problem;
use crate::problem::Result;
use crate::seal;
use ferofs::blobs::Tag;
use ferofs::digest::Digest;
use ferofs::digest::verity;
use ferofs::error::Error;
use ferofs::format::ondisk::BLOCK_BITS_MIN;
use ferofs::inspect::Image;
use ferofs::merge::Merge;
use ferofs::mount::Mount;
use ferofs::mount::Request;
use ferofs::mount::options::Options;
use ferofs::output::Output;
use ferofs::serve;
use ferofs::tree::whiteouts::Form as Whiteouts;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

/// Makes and mounts what is below snapshots.
pub struct Lowers {
    catalog: Arc<Catalog>,
    places: Arc<Places>,
    /// Whether files have fs-verity, and the kernel is to see that they are the right ones.
    verity: bool,
    /// The options by which equal files share their page cache, if they do.
    sharing: Vec<(String, Option<String>)>,
    /// Has layers served that are not there.
    pub on_demand: OnDemand,
    /// Those that are being made or mounted, by number.
    busy: Locks<u64>,
    /// What overlayfs gets of committed snapshots, by number: that never changes, and a chain of hundreds of layers takes
    /// long to look up.
    known: Mutex<HashMap<u64, Arc<[Lower]>>>,
}

/// A directory that overlayfs gets.
#[derive(Clone, Debug)]
struct Lower {
    path: PathBuf,
    /// Whether something has to be mounted there.
    is_mount: bool,
}

/// A layer of a chain.
struct Link {
    snapshot: Snapshot,
    digest: Digest,
    layer: Layer,
}

/// Whether layers can be one image. All but those with compressed data can; with such ones the sizes of blocks are known, and none
/// is smaller than theirs.
fn merge_together<'l>(layers: impl Iterator<Item = &'l Layer> + Clone) -> bool {
    let compressed = |layer: &&Layer| layer.form == Form::Compressed;
    if !layers.clone().any(|layer| compressed(&layer)) {
        return true;
    }
    let bits = |layer: &Layer| match layer.form {
        // Of indexes it is that of blocks in tars.
        Form::Tar | Form::OnDemand => Some(BLOCK_BITS_MIN),
        Form::Image | Form::Compressed => layer.block_bits,
    };
    let smallest = layers.clone().map(bits).min().flatten();
    let mut layers = layers.filter(compressed);
    smallest.is_some() && layers.all(|layer| layer.block_bits == smallest)
}

/// One of the directories that overlayfs puts on top of each other.
enum Part {
    /// What was written to a snapshot.
    Written(Snapshot),
    /// Layers that become one mount, which is that of the topmost one.
    Layers(Layers),
}

struct Layers {
    /// The lowest one first.
    links: Vec<Link>,
    /// Whether there are others below.
    on_top: bool,
}

impl Layers {
    /// Those that come as they are read.
    fn on_demand(&self) -> Vec<Wanted> {
        let links = self.links.iter().filter_map(|link| {
            Some(Wanted {
                layer: link.digest,
                origin: link.layer.origin.clone()?,
            })
        });
        links.collect()
    }
}

impl Lowers {
    /// For the snapshots of a catalog, mounted as it is configured.
    pub fn new(catalog: Arc<Catalog>, places: Arc<Places>, config: &Config) -> Self {
        Lowers {
            on_demand: OnDemand::new(config, Arc::clone(&places)),
            catalog,
            places,
            verity: config.layers.verity,
            sharing: config.snapshots.sharing(),
            busy: Locks::default(),
            known: Mutex::default(),
        }
    }

    /// Where a committed snapshot is mounted or will be, for overlayfs's `lowerdir`: the topmost one first. Most have
    /// one.
    ///
    /// # Errors
    ///
    /// When one of its layers is missing.
    pub fn places(&self, snapshot: &Snapshot) -> Result<Vec<PathBuf>> {
        let lowers = self.lowers(snapshot)?;
        Ok(lowers.iter().map(|lower| lower.path.clone()).collect())
    }

    fn lowers(&self, snapshot: &Snapshot) -> Result<Arc<[Lower]>> {
        if let Some(lowers) = self.known().get(&snapshot.number) {
            return Ok(Arc::clone(lowers));
        }
        let parts = self.parts(snapshot)?;
        let lowers: Arc<[Lower]> = parts.iter().filter_map(|part| self.lower(part)).collect();
        self.known().insert(snapshot.number, Arc::clone(&lowers));
        Ok(lowers)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Arc<[Lower]>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lower(&self, part: &Part) -> Option<Lower> {
        Some(match part {
            Part::Written(snapshot) => Lower {
                path: self.places.upper(snapshot),
                is_mount: false,
            },
            Part::Layers(layers) => Lower {
                path: self.places.lower(layers.links.last()?.snapshot.number),
                is_mount: true,
            },
        })
    }

    /// Mounts a committed snapshot if it is not mounted yet. Returns where, as [`Self::places`] does.
    ///
    /// # Errors
    ///
    /// When one of its layers is missing or wrong, or the kernel does not mount it.
    pub fn mounted(&self, snapshot: &Snapshot) -> Result<Vec<PathBuf>> {
        let lowers = self.lowers(snapshot)?;
        // A directory that is not there yet has nothing mounted.
        let is_there = |lower: &Lower| !lower.is_mount || is_mounted(&lower.path).unwrap_or(false);
        if !lowers.iter().all(is_there) {
            for part in self.parts(snapshot)? {
                if let Part::Layers(layers) = part {
                    self.mount(&layers)?;
                }
            }
        }
        Ok(lowers.iter().map(|lower| lower.path.clone()).collect())
    }

    /// Makes the image of a committed snapshot if there is none, without mounting it.
    ///
    /// # Errors
    ///
    /// When one of its layers is missing or wrong.
    pub fn prepare(&self, snapshot: &Snapshot) -> Result<()> {
        for part in self.parts(snapshot)? {
            if let Part::Layers(layers) = part {
                if let Some(top) = layers.links.last() {
                    let _held = self.busy.hold(top.snapshot.number);
                    self.image(&layers)?;
                }
            }
        }
        Ok(())
    }

    /// Has layers served again that are mounted, if whoever served them was killed. At the start everything is looked at that
    /// is mounted by a daemon before.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or nobody can serve them.
    pub fn serve_again(&self, at_start: bool) -> Result<()> {
        let is_there = |number| is_mounted(&self.places.lower(number)).unwrap_or(false);
        if at_start {
            for snapshot in self.catalog.all()? {
                if snapshot.kind == Kind::Committed && is_there(snapshot.number) {
                    // What is below in mounts of its own is that of other snapshots.
                    if let Some(Part::Layers(layers)) = self.parts(&snapshot)?.first() {
                        self.on_demand.mounted(snapshot.number, layers.on_demand());
                    }
                }
            }
        }
        self.on_demand.again(is_there)
    }

    /// Whether somebody has the sparse tar of a layer mounted, or serves it. Whoever asks has the [`serve::StoreLock`].
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn is_in_use(&self, layer: Digest) -> Result<bool> {
        let is_there = |number| is_mounted(&self.places.lower(number)).unwrap_or(false);
        Ok(self.on_demand.is_mounted(layer, is_there)
            || serve::is_served(&self.places.layers(), layer)?)
    }

    /// Unmounts one, once nobody uses it any more. That nothing is mounted is no problem.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn unmount(&self, number: u64) -> Result<()> {
        let _held = self.busy.hold(number);
        self.known().remove(&number);
        unmount(&self.places.lower(number))
    }

    /// A chain of layers as mounts, the topmost one first.
    fn parts(&self, snapshot: &Snapshot) -> Result<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        let mut chain = self.catalog.chain(&snapshot.name)?;
        chain.reverse();
        for (snapshot, layer) in chain {
            let (Some(digest), Some(layer)) = (snapshot.layer, layer) else {
                parts.push(Part::Written(snapshot));
                continue;
            };
            let link = Link {
                snapshot,
                digest,
                layer,
            };
            match parts.last_mut() {
                Some(Part::Layers(layers))
                    if merge_together(
                        layers.links.iter().chain([&link]).map(|link| &link.layer),
                    ) =>
                {
                    layers.links.push(link);
                }
                _ => parts.push(Part::Layers(Layers {
                    on_top: !parts.is_empty(),
                    links: vec![link],
                })),
            }
        }
        parts.reverse();
        Ok(parts)
    }

    fn mount(&self, layers: &Layers) -> Result<()> {
        let Some(top) = layers.links.last() else {
            return Ok(());
        };
        let number = top.snapshot.number;
        let lower = self.places.lower(number);
        let _held = self.busy.hold(number);
        make(&self.places.snapshot(number), 0o711)?;
        make(&lower, 0o755)?;
        if is_mounted(&lower)? {
            return Ok(());
        }
        let image = self.image(layers)?;
        // Until it is mounted, so that nobody who serves it ends before.
        let wanted = layers.on_demand();
        let served = self.on_demand.serve(&wanted)?;
        let mut options = Options::default();
        options.devices = self.devices(layers, &image)?;
        if self.verity {
            let require = (String::from("verity"), Some(String::from("require")));
            options.filesystem.push(require);
        }
        match served {
            Some(_) => options.err_on_holes(),
            None => options.filesystem.extend_from_slice(&self.sharing),
        }
        let devices = options.devices.len();
        let mount = Mount::prepare(Request::new(image).with_options(options), &|_| {})?;
        let name = &top.snapshot.name;
        for note in mount.notes() {
            tracing::warn!(snapshot = name, "{note}");
        }
        for warning in mount.attach(&lower)? {
            tracing::warn!(snapshot = name, "{warning}");
        }
        self.on_demand.mounted(number, wanted);
        tracing::info!(snapshot = name, devices, "mounted");
        Ok(())
    }

    /// The image of some layers, which is made if it is not there. Their topmost one's lock is held.
    fn image(&self, layers: &Layers) -> Result<PathBuf> {
        let Some(top) = layers.links.last() else {
            return Err(Problem::failed("there are no layers"));
        };
        if layers.links.len() == 1 && top.layer.form == Form::Compressed {
            return Ok(self.places.image(top.digest));
        }
        let path = self.places.merged(top.snapshot.number);
        if path.exists() {
            return Ok(path);
        }
        make(&self.places.snapshot(top.snapshot.number), 0o711)?;
        let started = Instant::now();
        let mut merge = match layers.on_top {
            true => Merge::new().with_whiteouts(Whiteouts::Overlay),
            false => Merge::new(),
        };
        for link in &layers.links {
            let image = Image::open(&self.places.image(link.digest))?;
            match link.layer.form {
                Form::Tar | Form::OnDemand => merge.apply(&image)?,
                Form::Image | Form::Compressed => {
                    merge.apply_known(&image, Some(Tag::Sha256(link.digest)))?;
                }
            }
        }
        let mut merged = merge.finish()?;
        if self.verity {
            let known: HashMap<Digest, Option<verity::Digest>> = layers
                .links
                .iter()
                .map(|link| (link.digest, link.layer.verity()))
                .collect();
            for device in &mut merged.devices {
                device.verity = device
                    .digest
                    .and_then(|digest| known.get(&digest).copied().flatten());
            }
        }
        let output = Output::create(&path, &[])?;
        merged
            .write_file(&merged.options(), output.file())
            .map_err(Error::image(output.target()))?;
        output.finish()?;
        if self.verity {
            // Without it the kernel would not mount it: it is made anew.
            seal::enable_verity(&path).inspect_err(|_| {
                let _ = std::fs::remove_file(&path);
            })?;
        }
        for note in &merged.notes {
            tracing::warn!(snapshot = top.snapshot.name, "{note}");
        }
        let (count, ms) = (layers.links.len(), started.elapsed().as_millis());
        tracing::info!(snapshot = top.snapshot.name, layers = count, ms, "merged");
        Ok(path)
    }

    /// The files that an image has its data in.
    fn devices(&self, layers: &Layers, image: &Path) -> Result<Vec<PathBuf>> {
        let mut known = HashMap::new();
        for link in &layers.links {
            let path = match link.layer.form {
                Form::Tar => self.places.tar(link.digest),
                Form::OnDemand => serve::whole_or_sparse(&self.places.layers(), link.digest),
                Form::Image | Form::Compressed => self.places.image(link.digest),
            };
            known.insert(Tag::Sha256(link.digest), path.clone());
            if let Some(verity) = link.layer.verity() {
                known.insert(Tag::Verity(verity), path);
            }
        }
        let slots = Image::open(image)?.devices()?;
        let files = slots.iter().enumerate().map(|(index, slot)| {
            let found = Tag::of(slot).and_then(|tag| known.get(&tag).cloned());
            found.ok_or_else(|| {
                let (path, number) = (image.display(), index + 1);
                Problem::failed(format!(
                    "{path}: device {number} is none of the layers that it is made of"
                ))
            })
        });
        files.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_layers_are_merged_where_all_blocks_are_as_large_as_theirs() {
        let layer = |form, block_bits| Layer {
            form,
            size: 4096,
            index: 0,
            inodes: 2,
            block_bits,
            stored: Vec::new(),
            verity: None,
            origin: None,
        };
        let tar = layer(Form::Tar, None);
        let image = |bits| layer(Form::Image, bits);
        let compressed = |bits| layer(Form::Compressed, bits);
        let (small, large) = (Some(9), Some(12));
        for (layers, expected) in [
            (vec![tar.clone(), image(None), image(large)], true),
            (vec![compressed(large)], true),
            (vec![compressed(large), compressed(large)], true),
            (vec![compressed(large), image(large)], true),
            (vec![compressed(small), image(large), tar.clone()], true),
            (vec![compressed(large), tar.clone()], false),
            (vec![tar.clone(), compressed(large)], false),
            (vec![compressed(large), compressed(small)], false),
            (vec![compressed(large), image(small)], false),
            // Of what an older daemon took in, or what cannot be merged, that is not known.
            (vec![compressed(large), image(None)], false),
            (vec![compressed(None), image(large)], false),
            (vec![compressed(None), compressed(None)], false),
        ] {
            assert_eq!(merge_together(layers.iter()), expected, "{layers:?}");
        }
    }
}
