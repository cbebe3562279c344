// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Paths as archives have them, made harmless.
//!
//! A path is taken apart by its bytes alone, before any symbolic link is looked at: empty parts
//! and `.` say nothing, `..` takes back the part before it and never leads above the root. The targets
//! of symbolic links are followed step by step instead.

/// The parts of a path that name something.
pub fn parts(path: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

/// Splits a path in its plainest form, `DIR/NAME` or `NAME` without anything for [`parts`] to
/// remove, into directory and name.
pub fn split_plain(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash)?, path.get(slash + 1..)?),
        None => (b"".as_slice(), path),
    };
    (!matches!(name, b"" | b"." | b"..")).then_some((directory, name))
}

/// The path of what these names lead to, the last one first, from the root on.
pub fn from_the_root(mut names: Vec<&[u8]>) -> Vec<u8> {
    // The root itself.
    if names.is_empty() {
        names.push(b"");
    }
    let mut path = Vec::new();
    for name in names.into_iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// A step on the way where a symbolic link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// To the root.
    Root,
    /// To the directory above.
    Up,
    /// To what has this name.
    Into(&'a [u8]),
}

/// The way where a symbolic link with this target leads, from the directory it is in.
pub fn steps(target: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let root = target.starts_with(b"/").then_some(Step::Root);
    let parts = target.split(|byte| *byte == b'/');
    root.into_iter().chain(parts.filter_map(|part| match part {
        b"" | b"." => None,
        b".." => Some(Step::Up),
        part => Some(Step::Into(part)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_lead_out() {
        let cases: [(&str, &[&str]); 9] = [
            ("a/b", &["a", "b"]),
            ("/a//b/", &["a", "b"]),
            ("./a/./b", &["a", "b"]),
            ("../../a", &["a"]),
            ("a/../../b", &["b"]),
            ("a/b/..", &["a"]),
            ("..", &[]),
            ("/", &[]),
            ("...", &["..."]),
        ];
        for (path, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|part| part.as_bytes()).collect();
            assert_eq!(parts(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn links_are_followed_step_by_step() {
        let found: Vec<_> = steps(b"/a//./../b/").collect();
        let expected = [Step::Root, Step::Into(b"a"), Step::Up, Step::Into(b"b")];
        assert_eq!(found, expected);
        assert_eq!(steps(b"../..").collect::<Vec<_>>(), [Step::Up, Step::Up]);
    }

    #[test]
    fn plain_paths_are_split() {
        let cases: [(&str, Option<(&str, &str)>); 7] = [
            ("a", Some(("", "a"))),
            ("a/b/c", Some(("a/b", "c"))),
            ("./a/", Some((".", "a"))),
            ("/a", Some(("", "a"))),
            ("a/..", None),
            ("a//", None),
            (".", None),
        ];
        for (path, expected) in cases {
            let expected = expected.map(|(dir, name)| (dir.as_bytes(), name.as_bytes()));
            assert_eq!(split_plain(path.as_bytes()), expected, "{path}");
        }
    }
}
