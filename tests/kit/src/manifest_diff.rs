// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `manifest-diff`: what differs between two manifests.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;

/// Compares two manifests; fails if they differ.
#[derive(clap::Args)]
pub struct Args {
    /// The expected manifest.
    a: PathBuf,
    /// The manifest to judge.
    b: PathBuf,
    /// Fields that do not count, separated by commas.
    #[arg(long, value_delimiter = ',')]
    ignore: Vec<String>,
    /// How many differing entries to print.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

type Fields<'a> = BTreeMap<&'a str, &'a str>;

pub fn run(args: &Args) -> Result<ExitCode> {
    let a = read(&args.a)?;
    let b = read(&args.b)?;
    let found = differences(&parse(&a, &args.ignore), &parse(&b, &args.ignore));
    for line in found.iter().take(args.limit) {
        println!("{}", shortened(line));
    }
    if found.len() > args.limit {
        println!("... and {} more", found.len() - args.limit);
    }
    println!("{} differences", found.len());
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    // An empty manifest has never seen a tree: comparing two of them would prove nothing.
    anyhow::ensure!(
        !text.is_empty(),
        "{}: expected at least one entry, found none",
        path.display()
    );
    Ok(text)
}

fn parse<'a>(text: &'a str, ignore: &[String]) -> BTreeMap<&'a str, Fields<'a>> {
    let mut entries = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let path = words.next().unwrap_or("");
        let fields = words
            .map(|word| word.split_once('=').unwrap_or((word, "")))
            .filter(|(key, _)| !ignore.iter().any(|ignored| ignored == key))
            .collect();
        entries.insert(path, fields);
    }
    entries
}

fn differences(a: &BTreeMap<&str, Fields<'_>>, b: &BTreeMap<&str, Fields<'_>>) -> Vec<String> {
    let paths: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let mut found = Vec::new();
    for path in paths {
        match (a.get(path), b.get(path)) {
            (Some(_), None) => found.push(format!("{path}: missing in the second")),
            (None, Some(_)) => found.push(format!("{path}: only in the second")),
            (Some(a), Some(b)) if a != b => found.push(format!("{path}:{}", changed(a, b))),
            _ => {}
        }
    }
    found
}

/// A deep path must not bury what is said of it.
fn shortened(line: &str) -> String {
    if line.len() <= 250 || !line.is_ascii() {
        return line.to_owned();
    }
    format!("{} ... {}", &line[..80], &line[line.len() - 160..])
}

fn changed(a: &Fields<'_>, b: &Fields<'_>) -> String {
    let keys: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let mut text = String::new();
    for key in keys.iter().filter(|key| a.get(*key) != b.get(*key)) {
        let value = |fields: &Fields<'_>| fields.get(key).unwrap_or(&"-").to_string();
        text.push_str(&format!(" {key} {} | {}", value(a), value(b)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_kind() {
        let a = parse("a mode=1 uid=0\nb mode=1\nc mode=2", &[]);
        let b = parse("a mode=2 uid=0\nc mode=2\nd mode=1", &[]);
        assert_eq!(
            differences(&a, &b),
            [
                "a: mode 1 | 2",
                "b: missing in the second",
                "d: only in the second"
            ]
        );
        let ignore = ["mode".to_owned()];
        assert_eq!(
            differences(&parse("a mode=1", &ignore), &parse("a mode=2", &ignore)).len(),
            0
        );
    }
}
