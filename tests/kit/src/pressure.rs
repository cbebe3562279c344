// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What takes pages away from readers: `readcheck --pressure` has a thread that does it all the time.

use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::Advice;

use crate::random::Random;

/// How much memory it takes at once.
const HOG: usize = 24 << 20;

/// Empties the machine's caches, drops single files' pages, and takes memory, until `done`. What it is not
/// allowed to do, it does not do.
pub fn until(done: &AtomicBool, files: &[&File], seed: u64) {
    let mut random = Random::new(!seed);
    while !done.load(Ordering::Relaxed) {
        match random.below(8) {
            0 => {
                let what = *random.pick(&["1", "2", "3"]);
                let _ = std::fs::write("/proc/sys/vm/drop_caches", what);
            }
            1 => {
                // Memory counts when it is touched.
                let mut hog = vec![0_u8; HOG];
                hog.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
                std::hint::black_box(&hog);
            }
            _ => {
                for _ in 0..files.len().min(20) {
                    let file = *random.pick(files);
                    let start = random.below(1 << 20);
                    let _ = rustix::fs::fadvise(file, start, None, Advice::DontNeed);
                }
            }
        }
        // The readers are to get on, too.
        std::thread::sleep(Duration::from_millis(random.below(30)));
    }
}
