// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The layers of an image that is in a registry, for a server: where each is stored. Whoever begins a server for an image
//! calls it: the commands, and the daemon for containerd.

use super::daemon::Server;
use super::source::InRegistry;
use super::source::Source;
use crate::digest::Digest;
use crate::error::Result;
use crate::oci::Platform;
use crate::oci::remote;
use crate::oci::remote::Remote;
use crate::points::Points;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A layer of an image, and where it is stored.
#[non_exhaustive]
pub struct Stored {
    /// The sha256 of its plain tar.
    pub diff_id: Digest,
    /// The sha256 of what is stored, if that is known.
    pub digest: Option<Digest>,
    /// What has it.
    pub source: Arc<dyn Source>,
}

impl Stored {
    /// A layer that a source has.
    pub fn new(diff_id: Digest, digest: Option<Digest>, source: Arc<dyn Source>) -> Self {
        Stored {
            diff_id,
            digest,
            source,
        }
    }

    /// The layers of an image in a registry, the lowest one first.
    pub fn of(image: &Arc<Remote>) -> Vec<Self> {
        let layers = image.layers.iter().map(|layer| {
            let image = Arc::clone(image);
            let digest = layer.digest;
            let source = Arc::new(InRegistry { image, digest });
            Stored::new(layer.diff_id, Some(digest), source)
        });
        layers.collect()
    }
}

/// Finds an image in a registry for a server that gives its readers errors after so many seconds.
///
/// # Errors
///
/// When the registry cannot be asked, there is no such image, or something about it is wrong.
pub fn find(
    reference: &remote::Reference,
    platform: Option<&Platform>,
    options: remote::Options,
    deadline: u64,
) -> Result<Arc<Remote>> {
    // What fails is tried again by the server, as long as somebody waits for it: so a request that hangs is not to take all of
    // that time.
    let options = options
        .with_attempts(1, Duration::from_millis(100))
        .with_timeout(Duration::from_secs((deadline / 3).clamp(2, 30)));
    Remote::find(reference, platform, options).map(Arc::new)
}

impl Server {
    /// Adds layers, each once, by the access points that are in the store. Returns where their tars are.
    ///
    /// # Errors
    ///
    /// When the access points of one are missing or wrong, or [`Server::add`] fails.
    pub fn add_all(&mut self, layers: Vec<Stored>) -> Result<Vec<PathBuf>> {
        let mut seen = HashSet::new();
        let mut paths = Vec::new();
        for layer in layers {
            if seen.insert(layer.diff_id) {
                let path = self.store().join(format!("{}.points", layer.diff_id));
                let points = Points::open_of(&path, layer.diff_id, layer.digest)?;
                paths.push(self.add(points, layer.source)?);
            }
        }
        Ok(paths)
    }
}
