// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Extended attributes.

use super::error::{Error, Result};
use super::metadata::{read_struct, Metadata};
use super::ondisk;
use super::superblock::Superblock;

/// What is known of an inode's attribute body.
///
/// # Invariants
///
/// The shared ids, if any, lie within the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct XattrBody {
    /// Position in the image, in bytes.
    pos: u64,
    /// Size in bytes, or 0.
    size: u32,
    /// A set bit says that no attribute whose name hashes to it is present.
    filter: u32,
    /// Number of shared attributes.
    shared: u8,
}

impl XattrBody {
    /// Size in bytes, or 0.
    pub(super) fn size(&self) -> u32 {
        self.size
    }
}

impl Superblock {
    /// Reads the header of the attribute body at `pos`, of a size that `icount` encodes.
    pub(super) fn xattr_body<M: Metadata>(
        &self,
        meta: &M,
        pos: u64,
        icount: u16,
    ) -> Result<XattrBody, M::Error> {
        const HEADER: u32 = size_of::<ondisk::XattrBodyHeader>() as u32;
        let Some(words) = icount.checked_sub(1) else {
            return Ok(XattrBody {
                pos,
                size: 0,
                filter: 0,
                shared: 0,
            });
        };
        let header: ondisk::XattrBodyHeader =
            read_struct(meta, pos, "inode's attributes are cut off")?;
        if u16::from(header.h_shared_count) > words {
            return Err(Error::corrupt(
                "inode's shared attributes are more than fit its attribute body",
                pos,
            ));
        }
        // INVARIANT: there is a word for each shared id.
        Ok(XattrBody {
            pos,
            size: u32::from(words).wrapping_mul(4).wrapping_add(HEADER),
            filter: if self.has_xattr_filter() {
                header.h_name_filter.get()
            } else {
                0
            },
            shared: header.h_shared_count,
        })
    }
}
