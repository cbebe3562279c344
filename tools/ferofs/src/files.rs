// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How many files this process may have open. Commands and daemons that open thousands call it, and [`crate::serve`],
//! for which each read that waits is an open file.

use rustix::process::Resource;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

/// So many are enough: images may have thousands of blobs, and thousands may wait to read.
const MANY: u64 = 1 << 16;

/// Allows as many as may be, and many if this process may allow itself that. If that is not enough either, it is said when there
/// are too many.
pub fn allow_many() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < MANY) {
        let mut higher = limit;
        (higher.current, higher.maximum) = (Some(MANY), Some(MANY));
        if setrlimit(Resource::Nofile, higher).is_ok() {
            return;
        }
    }
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// How many files more this process can open now.
#[cfg(feature = "serve")]
pub(crate) fn left() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    // One of them is this directory.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit
        .unwrap_or(usize::MAX)
        .saturating_sub(open.saturating_sub(1))
}

#[cfg(all(test, feature = "serve"))]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn each_open_file_is_one_less() {
        // Other tests open files meanwhile, but not thousands.
        let before = left();
        let files: Vec<File> = (0..500).map(|_| File::open("/dev/null").unwrap()).collect();
        let after = left();
        assert!(
            (400..600).contains(&before.saturating_sub(after)),
            "{before}, {after}"
        );
        drop(files);
        assert!(left() > after + 400);
    }
}
