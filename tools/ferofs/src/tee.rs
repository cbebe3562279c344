// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writing what is read to a file, too: the plain tar that is kept while it is read for the first
//! time. Used by [`crate::build::read_through`].

use crate::chunk::Chunk;
use crate::direct::Behind;
use crate::direct::is_worth;
use crate::tar::Pass;
use crate::text::Reason;
use crate::text::Shown;
use std::fs::File;
use std::io;
use std::path::Path;

/// A copy, with its name for messages.
pub struct Tee<'a> {
    behind: Behind,
    name: &'a Path,
}

impl<'a> Tee<'a> {
    /// Writes to a file that is empty, and will have `expected` bytes as far as is known.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened once more.
    pub fn new(file: &File, name: &'a Path, expected: Option<u64>) -> io::Result<Self> {
        let behind = Behind::new(file, 0, expected.is_some_and(is_worth))?;
        Ok(Self { behind, name })
    }

    /// Waits until all is written.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn finish(self) -> io::Result<()> {
        self.behind.finish()
    }
}

impl Pass for Option<&mut Tee<'_>> {
    /// # Errors
    ///
    /// Those of the copy, with its name.
    fn pass(&mut self, chunk: &Chunk) -> io::Result<()> {
        let Some(tee) = self else {
            return Ok(());
        };
        tee.behind.write_chunk(chunk).map_err(|error| {
            let (name, reason) = (Shown(tee.name), Reason(&error));
            io::Error::new(error.kind(), format!("cannot write {name}: {reason}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_what_was_read() {
        let path = std::env::temp_dir().join(format!("ferofs-tee-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let mut tee = Tee::new(&file, &path, None).unwrap();
        let mut pass = Some(&mut tee);
        for part in [b"all ".to_vec(), Vec::new(), b"of it".to_vec()] {
            pass.pass(&part.into()).unwrap();
        }
        tee.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"all of it");
        std::fs::remove_file(&path).unwrap();
        None.pass(&b"nobody wants it".to_vec().into()).unwrap();
    }

    #[test]
    fn names_the_copy_that_cannot_be_written() {
        let file = File::open("/dev/null").unwrap();
        let mut tee = Tee::new(&file, Path::new("a/copy"), None).unwrap();
        let chunk = Chunk::from(vec![0; 1 << 20]);
        // It may be a few chunks behind.
        let error = (0..100).find_map(|_| Some(&mut tee).pass(&chunk).err());
        let error = error.unwrap().to_string();
        assert!(error.starts_with("cannot write a/copy: "), "{error}");
    }
}
