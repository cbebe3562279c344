// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writing what is read to a file, too: the plain tar that is kept while it is read for the first
//! time. Used by `ferofs build` and [`crate::oci::layers`].

use crate::text::Reason;
use crate::text::Shown;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;

/// A reader that writes what is read to a copy.
pub struct Tee<'a, R, W> {
    reader: R,
    copy: Option<(W, &'a Path)>,
}

impl<'a, R, W> Tee<'a, R, W> {
    /// Reads from `reader`. The copy, if one is wanted, has a name for messages.
    pub fn new(reader: R, copy: Option<(W, &'a Path)>) -> Self {
        Self { reader, copy }
    }
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    /// # Errors
    ///
    /// Those of the reader; and those of the copy, with its name.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        if let (Some((copy, name)), Some(bytes)) = (&mut self.copy, buf.get(..n)) {
            copy.write_all(bytes).map_err(|error| {
                let (name, reason) = (Shown(name), Reason(&error));
                io::Error::new(error.kind(), format!("cannot write {name}: {reason}"))
            })?;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_what_was_read() {
        let mut copy = Vec::new();
        let mut tee = Tee::new(&b"all of it"[..], Some((&mut copy, Path::new("copy"))));
        let mut start = [0; 3];
        tee.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"all");
        io::copy(&mut tee, &mut io::sink()).unwrap();
        assert_eq!(copy, b"all of it");
    }

    #[test]
    fn names_the_copy_that_cannot_be_written() {
        let full: &mut [u8] = &mut [0; 2];
        let mut tee = Tee::new(&b"three"[..], Some((full, Path::new("a/copy"))));
        let error = io::copy(&mut tee, &mut io::sink()).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot write a/copy: "),
            "{error}"
        );
    }
}
