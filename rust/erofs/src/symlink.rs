// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Symbolic links. Called by `readlink(2)` and when a path is followed.

use super::error::{Error, Result};
use super::inode::{FileKind, Inode};
use super::metadata::{Cursor, Fill, Metadata};
use super::superblock::Superblock;

impl Inode {
    /// Reads this symbolic link's target into `buf`, and returns how many bytes that were: the
    /// inode's size (at most 4095), or as many as `buf` has. None if this is no symbolic link.
    ///
    /// # Errors
    ///
    /// - [`Error::Corrupt`] if the target holds a NUL, or is not in its device.
    /// - [`Error::Io`] if the metadata cannot be read.
    pub fn read_link<M: Metadata>(
        &self,
        sb: &Superblock,
        meta: &M,
        buf: &mut [u8],
    ) -> Result<usize, M::Error> {
        if self.kind() != FileKind::Symlink {
            return Ok(0);
        }
        // At most 4095.
        let len = buf.len().min(self.size() as usize);
        let mut fill = Fill::new(buf);
        let no_nul = self.pieces(sb, &mut Cursor::new(meta), 0, len, |piece| {
            fill.with(piece) && !piece.contains(&0)
        })?;
        if !no_nul {
            return Err(Error::corrupt(
                "symbolic link's target holds a NUL",
                self.pos(),
            ));
        }
        Ok(len)
    }
}
