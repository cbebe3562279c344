// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A client of registries of container images, by the OCI distribution API: manifests, blobs, and what refers to an
//! image without being part of it.
//!
//! [`Reference`] is how people name an image, `registry.example:5000/name/space:tag`. A [`Client`] is for one repository:
//! it asks for tokens as the registry wants them, follows redirects without showing credentials to anybody else, and tries
//! again what may succeed later. [`referrers`] finds what was attached to an image, also in registries that know nothing of
//! that. Whatever has a digest is compared with it before anybody gets to see it, but for [`Client::range`].
//!
//! ```no_run
//! use ferofs_registry::Client;
//! use ferofs_registry::Options;
//! use ferofs_registry::Reference;
//!
//! let reference = Reference::parse("registry.example/app:1.0")?;
//! let client = Client::new(&reference, Options::default())?;
//! if let Some(manifest) = client.manifest(&reference.which())? {
//!     println!("{} of {} bytes", manifest.digest, manifest.bytes.len());
//! }
//! # Ok::<(), ferofs_registry::Error>(())
//! ```

#![forbid(unsafe_code)]
// No answer makes it panic.
#![warn(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod address;
mod blobs;
mod challenge;
mod client;
mod credentials;
mod digest;
mod document;
mod error;
mod manifests;
mod reference;
pub mod referrers;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
mod transport;

pub use client::Client;
pub use client::Options;
pub use credentials::Credentials;
pub use digest::Digest;
pub use document::ArtifactManifest;
pub use document::Descriptor;
pub use document::EMPTY;
pub use document::EMPTY_TYPE;
pub use document::INDEX_TYPE;
pub use document::MANIFEST_TYPE;
pub use error::Error;
pub use error::Kind;
pub use error::Result;
pub use manifests::Manifest;
pub use reference::Reference;
