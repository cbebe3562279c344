// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A progress bar on stderr, if that is a terminal and the work is long enough to wonder.

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use std::io::IsTerminal;
use std::time::Duration;
use std::time::Instant;

/// Work that takes less than this has no bar.
const PATIENCE: Duration = Duration::from_millis(400);

/// A progress bar over bytes.
pub struct Bar {
    started: Instant,
    total: Option<u64>,
    what: &'static str,
    bar: Option<ProgressBar>,
    wanted: bool,
    counting: bool,
}

impl Bar {
    /// A bar for work on `total` bytes, if that is known.
    pub fn new(what: &'static str, total: Option<u64>, quiet: bool) -> Self {
        let wanted = !quiet && std::io::stderr().is_terminal();
        Bar {
            started: Instant::now(),
            total,
            what,
            bar: None,
            wanted,
            counting: false,
        }
    }

    /// The same for work on things other than bytes.
    pub fn counting(mut self) -> Self {
        self.counting = true;
        self
    }

    /// Shows how far the work is.
    pub fn set(&mut self, done: u64) {
        if !self.wanted {
            return;
        }
        if self.bar.is_none() && self.started.elapsed() > PATIENCE {
            self.bar = Some(self.make());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    fn make(&self) -> ProgressBar {
        let bar = match self.total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        if let Ok(style) = ProgressStyle::with_template(template(self.total, self.counting)) {
            bar.set_style(style);
        }
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_message(self.what);
        bar
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl ferofs::build::Progress for Bar {
    fn advance(&mut self, position: u64, entries: u64) {
        // Looking at the clock takes longer than reading an entry.
        if entries % 256 == 0 {
            self.set(position);
        }
    }
}

/// How a bar looks: counts are no bytes.
fn template(total: Option<u64>, counting: bool) -> &'static str {
    match (total, counting) {
        (Some(_), true) => "{msg} {wide_bar} {pos}/{len} {eta}",
        (Some(_), false) => "{msg} {wide_bar} {bytes}/{total_bytes} {eta}",
        (None, true) => "{msg} {spinner} {pos}",
        (None, false) => "{msg} {spinner} {bytes} {bytes_per_sec}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_not_counted_in_bytes() {
        for total in [None, Some(7)] {
            for counting in [false, true] {
                let template = template(total, counting);
                assert_eq!(template.contains("bytes"), !counting, "{template}");
                assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
            }
        }
    }
}
