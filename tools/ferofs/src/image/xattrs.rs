// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Extended attributes in an image: those of several files once, in an area of their own, the others
//! behind their inodes.
//!
//! `plan` asks for sizes, `emit` for bytes.

use crate::tree::Xattr;
use crate::tree::XattrId;
use crate::tree::XattrSet;
use crate::tree::Xattrs;
use erofs_format::ondisk;
use erofs_format::ondisk::XattrBodyHeader;
use erofs_format::ondisk::XattrEntry;
use erofs_format::xattr_filter_bit;
use zerocopy::IntoBytes;

/// Size of what a body starts with.
const HEADER: u64 = size_of::<XattrBodyHeader>() as u64;
/// Largest body that an inode's count of 4-byte units can express.
const LARGEST_BODY: u64 = HEADER + 4 * (u16::MAX as u64 - 1);
/// Attributes of so many files are shared.
const SHARED_FROM: u64 = 2;

/// Which attributes are shared, and where they are.
pub struct Layout {
    /// Where each shared attribute is in the area, in units of 4 bytes.
    ids: Vec<Option<u32>>,
    /// Shared attributes in the order of the area.
    order: Vec<XattrId>,
    /// Size of each combination's body.
    sizes: Vec<u64>,
    /// Size of the area.
    pub area: u64,
}

/// Size of an attribute with its padding.
fn entry_size(xattr: &Xattr) -> u64 {
    let size = size_of::<XattrEntry>() + xattr.name.len() + xattr.value.len();
    (size as u64).next_multiple_of(4)
}

impl Layout {
    /// Decides what is shared; `uses` says how many files have each combination.
    pub fn new(xattrs: &Xattrs, uses: &[u64]) -> Result<Self, String> {
        let mut counts = vec![0_u64; xattrs.len()];
        for (set, uses) in xattrs.sets().zip(uses) {
            for id in xattrs.of(set) {
                counts[id.index()] = counts[id.index()].saturating_add(*uses);
            }
        }
        for set in xattrs.sets() {
            // What does not fit behind an inode is shared even if nobody else has it.
            let inline = xattrs.of(set).iter().map(|id| entry_size(xattrs.get(*id)));
            if HEADER + inline.sum::<u64>() > LARGEST_BODY {
                for id in xattrs.of(set) {
                    counts[id.index()] = counts[id.index()].max(SHARED_FROM);
                }
            }
        }
        let mut layout = Layout {
            ids: vec![None; xattrs.len()],
            order: Vec::new(),
            sizes: Vec::new(),
            area: 0,
        };
        // In the order in which the tree got them, which is that of the archive.
        for set in xattrs.sets() {
            for id in xattrs.of(set) {
                let slot = &mut layout.ids[id.index()];
                if counts[id.index()] >= SHARED_FROM && slot.is_none() {
                    let unit = u32::try_from(layout.area / 4);
                    *slot = Some(unit.map_err(|_| "too many extended attributes".to_string())?);
                    layout.order.push(*id);
                    layout.area += entry_size(xattrs.get(*id));
                }
            }
        }
        for set in xattrs.sets() {
            let size = layout.size_of_body(xattrs, set);
            if size > LARGEST_BODY {
                return Err(format!("a file has {size} bytes of extended attributes"));
            }
            layout.sizes.push(size);
        }
        Ok(layout)
    }

    /// The attributes of a combination, those that are shared first. There is room for the
    /// numbers of 255.
    fn split(&self, xattrs: &Xattrs, set: XattrSet) -> (Vec<u32>, Vec<XattrId>) {
        let mut shared = Vec::new();
        let mut inline = Vec::new();
        for id in xattrs.of(set) {
            match self.ids.get(id.index()).copied().flatten() {
                Some(unit) if shared.len() < usize::from(u8::MAX) => shared.push(unit),
                _ => inline.push(*id),
            }
        }
        (shared, inline)
    }

    fn size_of_body(&self, xattrs: &Xattrs, set: XattrSet) -> u64 {
        if xattrs.of(set).is_empty() {
            return 0;
        }
        let (shared, inline) = self.split(xattrs, set);
        let inline: u64 = inline.iter().map(|id| entry_size(xattrs.get(*id))).sum();
        HEADER + 4 * shared.len() as u64 + inline
    }

    /// Size of what follows an inode with this combination.
    pub fn body_size(&self, set: XattrSet) -> u64 {
        self.sizes.get(set.index()).copied().unwrap_or_default()
    }

    /// That size as inodes have it.
    pub fn count(&self, set: XattrSet) -> u16 {
        match self.body_size(set) {
            0 => 0,
            // `new` saw to it that it fits.
            size => ((size - HEADER) / 4 + 1) as u16,
        }
    }

    /// What follows an inode with this combination.
    pub fn body(&self, xattrs: &Xattrs, set: XattrSet) -> Vec<u8> {
        let mut bytes = Vec::new();
        if xattrs.of(set).is_empty() {
            return bytes;
        }
        let (shared, inline) = self.split(xattrs, set);
        // A set bit says that no attribute's name has this hash.
        let present = |id: &XattrId| {
            let xattr = xattrs.get(*id);
            xattr_filter_bit(xattr.prefix, &xattr.name)
        };
        let filter = xattrs
            .of(set)
            .iter()
            .map(present)
            .fold(u32::MAX, |all, bit| all & !bit);
        let header = XattrBodyHeader {
            h_name_filter: filter.into(),
            h_shared_count: shared.len() as u8,
            h_reserved2: [0; 7],
        };
        bytes.extend_from_slice(header.as_bytes());
        for unit in shared {
            bytes.extend_from_slice(&unit.to_le_bytes());
        }
        for id in inline {
            push_entry(&mut bytes, xattrs.get(id));
        }
        bytes
    }

    /// The area of shared attributes.
    pub fn area(&self, xattrs: &Xattrs) -> Vec<u8> {
        let mut bytes = Vec::new();
        for id in &self.order {
            push_entry(&mut bytes, xattrs.get(*id));
        }
        bytes
    }
}

fn push_entry(bytes: &mut Vec<u8>, xattr: &Xattr) {
    let entry = XattrEntry {
        // Both fit: the tree's names are those of Linux, at most 255 bytes, values 65,535.
        e_name_len: xattr.name.len() as u8,
        e_name_index: xattr.prefix,
        e_value_size: (xattr.value.len() as u16).into(),
    };
    bytes.extend_from_slice(entry.as_bytes());
    bytes.extend_from_slice(&xattr.name);
    bytes.extend_from_slice(&xattr.value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

const _: () = assert!(HEADER == 12 && ondisk::NAME_MAX <= u8::MAX as usize);
