// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where an inode's attributes are: what is read of its attribute body with the inode itself. What is in it is read by
//! `xattr.rs`.

use super::error::{Error, Result};
use super::metadata::{Cursor, Metadata};
use super::ondisk;
use super::superblock::Superblock;
use zerocopy::little_endian::U32;

/// The size of the header in bytes.
pub(super) const BODY_HEADER_SIZE: u32 = size_of::<ondisk::XattrBodyHeader>() as u32;
/// The size of the id of a shared attribute in bytes.
pub(super) const SHARED_ID_SIZE: u32 = size_of::<U32>() as u32;

/// What is known of an inode's attribute body.
///
/// # Invariants
///
/// The shared ids lie within the body, and the body within the image. Its size is a multiple of 4.
#[derive(Clone, Copy, Debug)]
pub(super) struct XattrBody {
    /// Position in the image, in bytes.
    pub(super) pos: u64,
    /// Size in bytes; 0 if there is none.
    pub(super) size: u32,
    /// A set bit says that no attribute whose name has it is present.
    pub(super) filter: u32,
    /// Number of shared attributes.
    pub(super) shared: u8,
}

/// The next multiple of 4; `value` is far from the largest.
pub(super) fn align4(value: u64) -> u64 {
    value.wrapping_add(3) & !3
}

impl Superblock {
    /// Reads the header of the attribute body at `pos`, of a size that `icount` encodes. Whether the
    /// body lies within the image is for the caller to check.
    pub(super) fn xattr_body<M: Metadata>(
        &self,
        cursor: &mut Cursor<'_, M>,
        pos: u64,
        icount: u16,
    ) -> Result<XattrBody, M::Error> {
        let Some(words) = icount.checked_sub(1) else {
            return Ok(XattrBody {
                pos,
                size: 0,
                filter: 0,
                shared: 0,
            });
        };
        let header: ondisk::XattrBodyHeader =
            cursor.read_struct(pos, "inode's attributes are cut off")?;
        if u16::from(header.h_shared_count) > words {
            let what = "inode's shared attributes are more than fit its attribute body";
            return Err(Error::corrupt(what, pos));
        }
        // INVARIANT: there is a word for each shared id.
        Ok(XattrBody {
            pos,
            size: u32::from(words)
                .wrapping_mul(4)
                .wrapping_add(BODY_HEADER_SIZE),
            filter: if self.has_xattr_filter() {
                header.h_name_filter.get()
            } else {
                0
            },
            shared: header.h_shared_count,
        })
    }
}
