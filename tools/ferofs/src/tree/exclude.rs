// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Leaves files out of a tree, by their paths. What is left out of the middle is gone with all that
//! is below it.

use super::NameId;
use super::Tree;
use super::path;
use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

/// What is left out.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    paths: Vec<Vec<u8>>,
    patterns: Vec<Pattern>,
}

/// A regular expression, of bytes.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads a regular expression in the syntax of the crate `regex`.
    ///
    /// # Errors
    ///
    /// When it is none; with what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(text).unicode(false).build();
        regex.map(Pattern).map_err(|error| error.to_string())
    }
}

impl Exclude {
    /// Leaves out the file with exactly this path, counted from the root.
    pub fn add_path(&mut self, path: &[u8]) {
        self.paths.push(path::parts(path).join(&b'/'));
    }

    /// Leaves out all files in whose paths something matches. Paths are counted from the root, and
    /// do not start with a slash.
    pub fn add_pattern(&mut self, pattern: Pattern) {
        self.patterns.push(pattern);
    }

    /// Whether everything stays.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.patterns.is_empty()
    }

    /// Whether a file with this path is left out. The root is not.
    pub fn matches(&self, path: &[u8]) -> bool {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        !path.is_empty()
            && (self.paths.iter().any(|excluded| excluded == path)
                || self.patterns.iter().any(|pattern| pattern.0.is_match(path)))
    }

    /// Takes what is left out of a tree.
    pub fn apply(&self, tree: &mut Tree) {
        if self.is_empty() {
            return;
        }
        let children = tree.children();
        let mut left = vec![(NameId::ROOT, Vec::new())];
        while let Some((directory, path)) = left.pop() {
            for name in children.of(directory) {
                let mut path = path.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(tree.name_text(*name));
                if self.matches(&path) {
                    tree.remove_name(*name);
                } else if tree.is_directory(*name) {
                    left.push((*name, path));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_as_they_are_and_patterns_anywhere() {
        let mut exclude = Exclude::default();
        exclude.add_path(b"/usr//share/./doc/");
        exclude.add_path(b"a+");
        exclude.add_pattern(Pattern::parse("\\.pyc$").unwrap());
        exclude.add_pattern(Pattern::parse("^var/cache/.").unwrap());
        for (path, expected) in [
            ("usr/share/doc", true),
            ("/usr/share/doc", true),
            ("usr/share/docs", false),
            ("usr/share", false),
            ("a+", true),
            ("aa", false),
            ("lib/x.pyc", true),
            ("lib/x.pyc.txt", false),
            ("var/cache", false),
            ("var/cache/apt", true),
            ("srv/var/cache/apt", false),
            ("", false),
        ] {
            assert_eq!(exclude.matches(path.as_bytes()), expected, "{path}");
        }
    }
}
