// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Extended attributes in an image: those of several files once, in an area of their own, the others
//! behind their inodes.
//!
//! `plan` asks for sizes, `emit` for bytes.

use super::XattrOptions;
use super::XattrPrefix;
use crate::tar::NamedValue;
use crate::tree::FingerprintName;
use crate::tree::Xattr;
use crate::tree::XattrId;
use crate::tree::XattrSet;
use crate::tree::Xattrs;
use crate::tree::fingerprint;
use erofs_format::ondisk;
use erofs_format::ondisk::XattrBodyHeader;
use erofs_format::ondisk::XattrEntry;
use erofs_format::ondisk::XattrLongPrefix;
use erofs_format::xattr_filter_bit;
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

/// Size of what a body starts with.
const HEADER: u64 = size_of::<XattrBodyHeader>() as u64;
/// Largest body that an inode's count of 4-byte units can express.
const LARGEST_BODY: u64 = HEADER + 4 * (u16::MAX as u64 - 1);
/// How many long prefixes an image can have.
const MOST_PREFIXES: usize = 128;

/// What a fingerprint takes behind an inode: its name is a prefix.
pub const FINGERPRINT: u64 =
    ((size_of::<XattrEntry>() + fingerprint::VALUE_SIZE) as u64).next_multiple_of(4);

/// Which attributes are shared, and where they are.
#[derive(Default)]
pub struct Layout {
    /// Prefixes of names that are stored once.
    prefixes: Vec<XattrPrefix>,
    /// Which of them is the name of the attribute with fingerprints.
    fingerprint: Option<u8>,
    /// Which of them each attribute's name has.
    prefix_of: Vec<Option<u8>>,
    /// Where each shared attribute is in the area, in units of 4 bytes.
    ids: Vec<Option<u32>>,
    /// Shared attributes in the order of the area.
    order: Vec<XattrId>,
    /// Size of each combination's body.
    sizes: Vec<u64>,
    /// Size of the area.
    pub area: u64,
}

/// What attributes take behind an inode, at most.
pub fn most(xattrs: &[NamedValue]) -> u64 {
    let sizes = xattrs.iter().map(|(name, value)| {
        ((size_of::<XattrEntry>() + name.len() + value.len()) as u64).next_multiple_of(4)
    });
    HEADER + sizes.sum::<u64>()
}

/// The same of those that a file in a tree has.
pub fn most_of(xattrs: &[Xattr]) -> u64 {
    let sizes = xattrs.iter().map(|xattr| {
        ((size_of::<XattrEntry>() + xattr.name.len() + xattr.value.len()) as u64)
            .next_multiple_of(4)
    });
    HEADER + sizes.sum::<u64>()
}

/// Size of a prefix with its padding.
fn prefix_size(infix: &[u8]) -> u64 {
    ((size_of::<XattrLongPrefix>() + infix.len()) as u64).next_multiple_of(4)
}

/// The prefixes that make an image smaller if they are stored once: those that end with the last
/// dot of a name. `copies` says how often each attribute is stored.
fn worthwhile_prefixes(
    xattrs: &Xattrs,
    copies: &[u64],
    fingerprint: Option<&FingerprintName>,
    block: u64,
) -> Vec<XattrPrefix> {
    let mut saved: BTreeMap<(u8, &[u8]), u64> = BTreeMap::new();
    for (xattr, copies) in xattrs.all().iter().zip(copies) {
        if fingerprint.is_some_and(|name| name.is(xattr.prefix, &xattr.name)) {
            // Its name is a prefix already.
            continue;
        }
        let dot = xattr.name.iter().rposition(|byte| *byte == b'.');
        let infix = dot.and_then(|dot| xattr.name.get(..=dot));
        if let Some(infix) = infix {
            let bytes = copies.saturating_mul(infix.len() as u64);
            let saved = saved.entry((xattr.prefix, infix)).or_default();
            *saved = saved.saturating_add(bytes);
        }
    }
    let mut best: Vec<_> = saved
        .into_iter()
        .map(|((base, infix), saved)| (saved.saturating_sub(prefix_size(infix)), base, infix))
        .filter(|(gain, ..)| *gain > 0)
        .collect();
    best.sort_by_key(|(gain, ..)| std::cmp::Reverse(*gain));
    best.truncate(MOST_PREFIXES);
    // It costs readers something, and drivers before Linux 6.4 do not know it.
    if best.iter().map(|(gain, ..)| *gain).sum::<u64>() < block {
        return Vec::new();
    }
    let prefix = |(_, base, infix): (u64, u8, &[u8])| XattrPrefix {
        base,
        infix: infix.into(),
    };
    best.into_iter().map(prefix).collect()
}

#[expect(
    clippy::indexing_slicing,
    reason = "its vectors are as long as those of the tree it is for"
)]
impl Layout {
    /// Decides what is shared; `uses` says how many files have each combination.
    pub fn new(
        xattrs: &Xattrs,
        uses: &[u64],
        options: &XattrOptions,
        fingerprint: Option<&FingerprintName>,
        block: u64,
    ) -> Result<Self, String> {
        // What belongs to no file is not shared with any.
        let share_from = options.share_from.max(1);
        let mut counts = vec![0_u64; xattrs.len()];
        for (set, uses) in xattrs.sets().zip(uses) {
            for id in xattrs.of(set) {
                counts[id.index()] = counts[id.index()].saturating_add(*uses);
            }
        }
        for set in xattrs.sets() {
            // What does not fit behind an inode is shared even if nobody else has it.
            let inline = xattrs
                .of(set)
                .iter()
                .map(|id| longest_size(xattrs.get(*id)));
            if HEADER + inline.sum::<u64>() > LARGEST_BODY {
                for id in xattrs.of(set) {
                    counts[id.index()] = counts[id.index()].max(share_from);
                }
            }
        }
        let copies: Vec<u64> = counts
            .iter()
            .map(|count| if *count >= share_from { 1 } else { *count })
            .collect();
        let mut prefixes = options.prefixes.clone();
        prefixes.extend(worthwhile_prefixes(xattrs, &copies, fingerprint, block));
        prefixes.sort();
        prefixes.dedup();
        let fingerprint = fingerprint.map(|name| XattrPrefix {
            base: name.prefix,
            infix: name.name.clone(),
        });
        prefixes.retain(|prefix| Some(prefix) != fingerprint.as_ref());
        // It is a name as a whole, and what makes it one.
        prefixes.truncate(MOST_PREFIXES - usize::from(fingerprint.is_some()));
        let number = prefixes.len() as u8;
        let fingerprint = fingerprint.map(|prefix| {
            prefixes.push(prefix);
            number
        });
        let mut layout = Layout {
            prefix_of: xattrs
                .all()
                .iter()
                .map(|xattr| longest_prefix(&prefixes, xattr))
                .collect(),
            prefixes,
            fingerprint,
            ids: vec![None; xattrs.len()],
            order: Vec::new(),
            sizes: Vec::new(),
            area: 0,
        };
        // In the order in which the tree got them, which is that of the archive.
        for set in xattrs.sets() {
            for id in xattrs.of(set) {
                let slot = &mut layout.ids[id.index()];
                if counts[id.index()] >= share_from && slot.is_none() {
                    let unit = u32::try_from(layout.area / 4);
                    *slot = Some(unit.map_err(|_| "too many extended attributes".to_string())?);
                    layout.order.push(*id);
                    layout.area += layout.entry_size(xattrs, *id);
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
        let inline: u64 = inline.iter().map(|id| self.entry_size(xattrs, *id)).sum();
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
            self.push_entry(&mut bytes, xattrs, id);
        }
        bytes
    }

    /// The area of shared attributes.
    pub fn area(&self, xattrs: &Xattrs) -> Vec<u8> {
        let mut bytes = Vec::new();
        for id in &self.order {
            self.push_entry(&mut bytes, xattrs, *id);
        }
        bytes
    }

    /// An attribute's prefix as entries have it, and the rest of its name.
    fn stored_name<'x>(&self, xattrs: &'x Xattrs, id: XattrId) -> (u8, &'x [u8]) {
        let xattr = xattrs.get(id);
        let number = self.prefix_of.get(id.index()).copied().flatten();
        let prefix = number.and_then(|number| self.prefixes.get(usize::from(number)));
        match (number, prefix) {
            (Some(number), Some(prefix)) => {
                let rest = xattr.name.get(prefix.infix.len()..);
                (number | ondisk::XATTR_LONG_PREFIX, rest.unwrap_or_default())
            }
            _ => (xattr.prefix, &xattr.name),
        }
    }

    /// Size of an attribute with its padding.
    fn entry_size(&self, xattrs: &Xattrs, id: XattrId) -> u64 {
        let (_, name) = self.stored_name(xattrs, id);
        let size = size_of::<XattrEntry>() + name.len() + xattrs.get(id).value.len();
        (size as u64).next_multiple_of(4)
    }

    fn push_entry(&self, bytes: &mut Vec<u8>, xattrs: &Xattrs, id: XattrId) {
        let (prefix, name) = self.stored_name(xattrs, id);
        let value = &xattrs.get(id).value;
        let entry = XattrEntry {
            // Both fit: the tree's names are those of Linux, at most 255 bytes, values 65,535.
            e_name_len: name.len() as u8,
            e_name_index: prefix,
            e_value_size: (value.len() as u16).into(),
        };
        bytes.extend_from_slice(entry.as_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    /// Which of the prefixes is the name of the attribute with fingerprints.
    pub fn fingerprint(&self) -> Option<u8> {
        self.fingerprint
    }

    /// Number of prefixes that are stored once.
    pub fn prefix_count(&self) -> u8 {
        // At most 128.
        self.prefixes.len() as u8
    }

    /// The prefixes that are stored once.
    pub fn prefixes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for prefix in &self.prefixes {
            let header = XattrLongPrefix {
                // At most a name, and the base.
                length: (1 + prefix.infix.len() as u16).into(),
                base_index: prefix.base,
            };
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&prefix.infix);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }
}

/// Size of an attribute with its padding, without a long prefix.
fn longest_size(xattr: &Xattr) -> u64 {
    let size = size_of::<XattrEntry>() + xattr.name.len() + xattr.value.len();
    (size as u64).next_multiple_of(4)
}

/// The longest of the prefixes that an attribute's name has.
fn longest_prefix(prefixes: &[XattrPrefix], xattr: &Xattr) -> Option<u8> {
    let fits =
        |prefix: &XattrPrefix| prefix.base == xattr.prefix && xattr.name.starts_with(&prefix.infix);
    let found = prefixes
        .iter()
        .enumerate()
        .filter(|(_, prefix)| fits(prefix));
    let longest = found.max_by_key(|(_, prefix)| prefix.infix.len());
    longest.and_then(|(number, _)| u8::try_from(number).ok())
}

const _: () = assert!(HEADER == 12 && ondisk::NAME_MAX <= u8::MAX as usize);
