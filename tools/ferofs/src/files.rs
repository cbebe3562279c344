// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How many files this process may have open. Commands and daemons that open thousands call it, and [`crate::serve`],
//! for which each read that waits is an open file.

use rustix::process::Resource;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use std::fs;

/// What the kernel allows anybody, where it does not say.
const KERNEL_MAX: u64 = 1 << 20;

/// Allows as many as the kernel does, or, if this process may not do that, as many as it may. Images may have thousands of
/// blobs. If that is not enough either, it is said when there are too many.
pub fn allow_many() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = fs::read_to_string("/proc/sys/fs/nr_open").ok();
    let most = most.and_then(|text| text.trim().parse().ok());
    let most = most.unwrap_or(KERNEL_MAX).min(KERNEL_MAX);
    if limit.maximum.is_some_and(|maximum| maximum < most) {
        let mut higher = limit;
        (higher.current, higher.maximum) = (Some(most), Some(most));
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
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(KERNEL_MAX);
    // One of them is this directory.
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    usize::try_from(limit)
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
