// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is read first when something starts, recorded and kept as text: a line for each unit, in the order of their first
//! reads, with the layer's diff ID and a byte of its plain tar. [`super::Server`] records it and gets what is in it first.

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::text::Shown;
use std::fmt;
use std::io::Read;
use std::path::Path;

/// A list is not longer than this.
const LIST_MAX: u64 = 16 << 20;

/// A recorded list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<(Digest, u64)>);

impl List {
    /// Reads one from a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, _) = crate::open::regular(path)?;
        let mut text = String::new();
        let read = file.take(LIST_MAX).read_to_string(&mut text);
        read.map_err(Error::io("read", path))?;
        Self::parse(&text).map_err(|line| {
            let shown = Shown(path);
            Error::of(
                Kind::Request,
                format!("{shown}: line {line} is not \"sha256:HEX OFFSET\""),
            )
        })
    }

    /// Takes its text; or says which line is wrong.
    fn parse(text: &str) -> std::result::Result<Self, usize> {
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let entry = |line: &str| {
            let (digest, offset) = line.split_once(' ')?;
            Some((Digest::parse(digest)?, offset.parse().ok()?))
        };
        let entries = lines.map(|(number, line)| entry(line).ok_or(number + 1));
        entries.collect::<std::result::Result<_, _>>().map(List)
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        lines.try_for_each(|(digest, offset)| writeln!(f, "sha256:{digest} {offset}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_lines() {
        let list = List(vec![(Digest::of(b"one"), 0), (Digest::of(b"two"), 1 << 40)]);
        let text = list.to_string();
        assert_eq!(List::parse(&text), Ok(list.clone()));
        assert_eq!(List::parse(&format!("# first\n\n{text}")), Ok(list));
        for wrong in ["sha256:12 1", "nothing", &text.replace(" 0", " -1")] {
            assert_eq!(List::parse(wrong), Err(1), "{wrong}");
        }
    }
}
