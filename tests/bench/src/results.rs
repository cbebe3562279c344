// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What was measured, as JSON with every sample and as Markdown tables of medians.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;

use crate::meter::Sample;
use crate::system::System;

/// What a row's systems stand for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// File systems in use.
    Reading,
    /// Ways to make one of a tar.
    Building,
}

impl Group {
    fn column(self, system: System) -> &'static str {
        match (self, system) {
            (Group::Reading, System::Erofs) => "C driver",
            (Group::Reading, System::ErofsDirect) => "C, directio",
            (Group::Building, System::Ferofs) => "ferofs build",
            (Group::Building, System::Erofs) => "mkfs.erofs --tar=i",
            (Group::Building, System::Ext4) => "tar -x to ext4",
            (_, System::Raw) => "raw tar",
            (_, system) => system.name(),
        }
    }

    fn systems(self) -> &'static [System] {
        match self {
            Group::Reading => &[
                System::Ferofs,
                System::Erofs,
                System::ErofsDirect,
                System::Ext4,
                System::Squashfs,
                System::Raw,
            ],
            Group::Building => &[System::Ferofs, System::Erofs, System::Ext4],
        }
    }
}

/// One thing that was measured.
pub struct Row {
    name: String,
    group: Group,
    aims: &'static [(System, f64)],
    samples: BTreeMap<System, Vec<Sample>>,
}

impl Row {
    pub fn new(name: &str, group: Group, aims: &'static [(System, f64)]) -> Self {
        Row {
            name: name.to_owned(),
            group,
            aims,
            samples: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, system: System, sample: Sample) {
        eprintln!(
            "{}, {}: {:.3} ms cpu, {:.3} ms, cache {:+} KiB, {} reads of {} KiB",
            self.name,
            self.group.column(system),
            millis(sample.cpu),
            millis(sample.wall),
            sample.cache,
            sample.reads,
            sample.read,
        );
        self.samples.entry(system).or_default().push(sample);
    }

    fn median(&self, system: System, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.samples.get(&system)?.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

fn millis(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// Everything that was measured in one run.
pub struct Results {
    about: String,
    rows: Vec<Row>,
}

impl Results {
    pub fn new(about: String) -> Self {
        Results {
            about,
            rows: Vec::new(),
        }
    }

    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Writes results.json and results.md into a directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        for (name, text) in [
            ("results.json", self.json()),
            ("results.md", self.markdown()),
        ] {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Names have no character that JSON escapes.
    fn json(&self) -> String {
        let mut text = format!("{{\"about\": \"{}\", \"samples\": [", self.about);
        let mut separator = "";
        for row in &self.rows {
            for (system, samples) in &row.samples {
                for sample in samples {
                    let _ = write!(
                        text,
                        "{separator}\n  {{\"name\": \"{}\", \"system\": \"{}\", \"cpu_ns\": {}, \
                         \"wall_ns\": {}, \"cache_kib\": {}, \"reads\": {}, \"read_kib\": {}}}",
                        row.name,
                        row.group.column(*system),
                        sample.cpu,
                        sample.wall,
                        sample.cache,
                        sample.reads,
                        sample.read,
                    );
                    separator = ",";
                }
            }
        }
        text.push_str("\n]}\n");
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("{}.\n", self.about);
        for (group, title) in [(Group::Reading, "Use"), (Group::Building, "Building")] {
            if !self.rows.iter().any(|row| row.group == group) {
                continue;
            }
            let _ = write!(
                text,
                "\n### {title}: processor time\n\n\
                 Milliseconds of all threads; in brackets ferofs' part of it. A missed aim has a `!`.\n\n"
            );
            self.table(&mut text, group, true, |row, system| {
                let own = row.median(System::Ferofs, |sample| millis(sample.cpu))?;
                let value = row.median(system, |sample| millis(sample.cpu))?;
                if system == System::Ferofs {
                    return Some(number(value));
                }
                let ratio = own / value;
                // Both ways of the C driver count: the better one has to be beaten.
                let peer = match system {
                    System::ErofsDirect => System::Erofs,
                    system => system,
                };
                let aim = row.aims.iter().find(|(aim, _)| *aim == peer);
                let missed = aim.is_some_and(|(_, aim)| ratio > *aim);
                let mark = if missed { "!" } else { "" };
                Some(format!("{} ({ratio:.2}{mark})", number(value)))
            });
            let _ = write!(text, "\n### {title}: growth of the page cache\n\nMB.\n\n");
            self.table(&mut text, group, false, |row, system| {
                row.median(system, |sample| sample.cache as f64 * 1024.0 / 1e6)
                    .map(|value| format!("{value:.1}"))
            });
            let _ = write!(
                text,
                "\n### {title}: reads that reached the disk\n\nNumber, and MB.\n\n"
            );
            self.table(&mut text, group, false, |row, system| {
                let reads = row.median(system, |sample| sample.reads as f64)?;
                let read = row.median(system, |sample| sample.read as f64 * 1024.0 / 1e6)?;
                Some(format!("{reads:.0}, {read:.1}"))
            });
        }
        text
    }

    fn table(
        &self,
        text: &mut String,
        group: Group,
        aims: bool,
        cell: impl Fn(&Row, System) -> Option<String>,
    ) {
        let systems = group.systems();
        text.push_str("| |");
        for system in systems {
            let _ = write!(text, " {} |", group.column(*system));
        }
        text.push_str(if aims { " aims |\n|---|" } else { "\n|---|" });
        text.push_str(&"---:|".repeat(systems.len()));
        text.push_str(if aims { "---|\n" } else { "\n" });
        for row in self.rows.iter().filter(|row| row.group == group) {
            let _ = write!(text, "| {} |", row.name);
            for system in systems {
                let _ = write!(text, " {} |", cell(row, *system).unwrap_or_default());
            }
            if aims {
                let aims: Vec<String> = row
                    .aims
                    .iter()
                    .map(|(system, aim)| format!("{} × {aim}", group.column(*system)))
                    .collect();
                let _ = write!(text, " {} |", aims.join(", "));
            }
            text.push('\n');
        }
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
