// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Container images on disk: OCI image layouts and the archives of `docker save`.
//!
//! [`Reference`] is what people write to name one, `oci:DIR:TAG`. [`open`] finds it, chooses one of
//! several platforms and gives its layers as an [`Image`]. [`layers`] makes an index of each layer and
//! the plain tar it needs, and one index of all of them together.
//!
//! Nothing in an image is believed: documents and layers are compared with the sha256 that they
//! are called by, plain tars with the image's diff IDs, and no path is ever made of anything but
//! such a sha256.
//!
//! ```no_run
//! use ferofs::oci;
//! use ferofs::oci::layers;
//! use std::path::Path;
//!
//! let Some(reference) = oci::Reference::parse(Path::new("oci:/srv/app:1.0"))? else {
//!     panic!("it begins with oci:");
//! };
//! let image = oci::open(&reference, None)?;
//! let places = layers::Places::new(Path::new("layers"));
//! let prepared = layers::prepare(&image, places, &|_bytes_more| {})?;
//! for layer in prepared.keep()? {
//!     println!("{} needs {}", layer.index.display(), layer.tar.display());
//! }
//! # Ok::<(), ferofs::error::Error>(())
//! ```

mod document;
pub mod ingest;
pub mod layers;
pub(crate) mod merged;
mod platform;
#[cfg(feature = "points")]
pub mod pointed;
mod reference;
#[cfg(feature = "registry")]
pub mod remote;
mod resolve;
mod store;

use crate::digest::Digest;
use crate::output::Inputs;

pub use platform::Platform;
pub use reference::Choice;
pub use reference::Kind;
pub use reference::Reference;
pub use reference::explain;
pub use reference::looks_like;
pub use reference::seems_to_be_archive;
pub use reference::seems_to_be_layout;
pub use resolve::open;
pub use store::Blob;

/// A container image, of which only the layers are of interest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Image {
    /// How it was named, for messages.
    pub name: String,
    /// What it is for.
    pub platform: Platform,
    /// Its layers, the lowest one first.
    pub layers: Vec<Layer>,
    /// All files that it is in: nothing that is made of it may be written over them.
    pub inputs: Inputs,
}

/// A layer as it is stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layer {
    /// The sha256 of its plain tar.
    pub diff_id: Digest,
    /// What is stored: the tar, plain or compressed.
    pub blob: Blob,
    /// The sha256 of what is stored, if the image says so.
    pub digest: Option<Digest>,
}

impl Image {
    /// The chain ID of all layers, as the OCI specification has it: two images have the same if they
    /// have the same layers.
    pub fn chain_id(&self) -> Digest {
        chain_id(self.layers.iter().map(|layer| layer.diff_id))
    }
}

/// The chain ID of layers by their diff IDs, the lowest one first, see [`Image::chain_id`].
pub fn chain_id(mut diff_ids: impl Iterator<Item = Digest>) -> Digest {
    let Some(first) = diff_ids.next() else {
        return Digest::of(b"");
    };
    diff_ids.fold(first, |chain, diff_id| {
        let text = format!("sha256:{chain} sha256:{diff_id}");
        Digest::of(text.as_bytes())
    })
}
