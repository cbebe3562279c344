// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Serves the plain tars of layers while they are not there yet: what is read of them is got from where the layers are
//! stored, as it is read. The `ferofs serve` command is a thin layer over this.
//!
//! A store is a directory with the access points of layers ([`crate::oci::pointed`] makes them), in which each layer gets a
//! sparse tar. The kernel asks before anybody reads that ([`ferofs_fanotify`]); who does waits until the units that the
//! range lies in were got from a [`Source`], compared with their checksums, and written. Whoever is served needs a
//! kernel of 6.14 or later, and the marks have to be there before a file is opened: so serve first, then mount.
//!
//! What happens when this process ends without being asked is not up to it: the kernel lets everybody read holes as zeros
//! then. Mount with `holes=error`, and they are errors instead.
//!
//! ```no_run
//! use ferofs::points::Points;
//! use ferofs::serve::OnDisk;
//! use ferofs::serve::Options;
//! use ferofs::serve::Server;
//! use ferofs::oci;
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! let store = Path::new("/var/lib/store");
//! let Some(reference) = oci::Reference::parse(Path::new("oci:/srv/app:1.0"))? else {
//!     panic!("it begins with oci:");
//! };
//! let mut server = Server::new(store, Options::default())?;
//! for layer in oci::open(&reference, None)?.layers {
//!     let points = Points::open(&store.join(format!("{}.points", layer.diff_id)))?;
//!     server.add(points, Arc::new(OnDisk(layer.blob)))?;
//! }
//! server.run()?;
//! # Ok::<(), ferofs::error::Error>(())
//! ```

mod board;
mod daemon;
mod list;
mod lock;
mod reads;
mod source;
mod stored;
mod tar;

pub use daemon::Server;
pub use daemon::Stopper;
pub use daemon::Totals;
pub use list::List;
pub use lock::StoreLock;
pub use source::InRegistry;
pub use source::Nearby;
pub use source::OnDisk;
pub use source::Source;
pub use stored::Stored;
pub use stored::find;
pub use tar::is_served;
pub use tar::whole_or_sparse;

use crate::setters::setters;
use std::sync::Arc;
use std::time::Duration;

/// Who wants to know of something that went wrong, or is done.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// How layers are served.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Who waits gets an error when nothing of what he waits for came for so long.
    pub deadline: Duration,
    /// How many requests are made at once. Each takes the memory of what it gets and of a unit, usually less than 10 MB.
    pub requests: usize,
    /// Whether what nobody waits for is got, too. The server ends when all is there then.
    pub complete: bool,
    /// What is got first then.
    pub first: List,
    /// Whether it serves as long as somebody has one of the tars open, a mount for example, and layers that another process
    /// serves are left to that. It takes the [`StoreLock`] to end then.
    pub while_used: bool,
    /// Told what happens.
    pub tell: Tell,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            deadline: Duration::from_secs(30),
            requests: 8,
            complete: false,
            first: List::default(),
            while_used: false,
            tell: Arc::new(|_| {}),
        }
    }
}

impl Options {
    setters! {
        /// Says how long somebody waits for nothing.
        with_deadline sets deadline: Duration,
        /// Says how many requests are made at once.
        with_requests sets requests: usize,
        /// Says whether everything is got.
        with_complete sets complete: bool,
        /// Says what is got first.
        with_first sets first: List,
        /// Says whether it serves as long as somebody has a tar open.
        with_while_used sets while_used: bool,
        /// Says who is told what happens.
        with_tell sets tell: Tell,
    }
}
