// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is where in an image, to find things that lie on top of each other.

/// What a part of the image is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// The superblock with its extensions.
    Superblock,
    /// The device table.
    DeviceTable,
    /// An attribute that inodes share.
    SharedXattr,
    /// An inode, with its attributes, chunk table and inline data.
    Inode,
    /// Blocks of a directory.
    Directory,
    /// Blocks of a file or a symbolic link, which several may have in common.
    Data,
}

/// A part of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// Where it starts, in bytes.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// What it is used for.
    pub usage: Use,
    /// Whose it is, if it is that of an inode.
    pub nid: u64,
}

/// Gives each region that begins within another one to `found`, with that other one. Data may lie on
/// data. Of several others it is the one that reaches furthest.
pub fn overlaps(mut regions: Vec<Region>, found: &mut dyn FnMut(&Region, &Region)) {
    regions.retain(|region| region.end > region.start);
    regions.sort_unstable();
    regions.dedup();
    // What reaches furthest so far: of the metadata, and of the data.
    let mut reach: [Option<Region>; 2] = [None, None];
    for region in regions {
        let data = region.usage == Use::Data;
        let [metadata, blocks] = &mut reach;
        let others = [metadata.as_ref(), blocks.as_ref().filter(|_| !data)];
        let other = others
            .into_iter()
            .flatten()
            .find(|other| other.end > region.start);
        if let Some(other) = other {
            found(&region, other);
        }
        let own = if data { blocks } else { metadata };
        if own.is_none_or(|own| own.end < region.end) {
            *own = Some(region);
        }
    }
}

/// How many bytes lie in some region.
pub fn covered(regions: &[Region]) -> u64 {
    let mut spans: Vec<_> = regions
        .iter()
        .map(|region| (region.start, region.end))
        .collect();
    spans.sort_unstable();
    let mut bytes = 0;
    let mut reached = 0;
    for (start, end) in spans {
        bytes += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_several_regions_count_once() {
        let regions = |spans: &[(u64, u64)]| -> Vec<_> {
            let region = |(start, end): &(u64, u64)| Region {
                start: *start,
                end: *end,
                usage: Use::Inode,
                nid: 0,
            };
            spans.iter().map(region).collect()
        };
        for (spans, expected) in [
            (&[][..], 0),
            (&[(5, 5)], 0),
            (&[(10, 20), (0, 10)], 20),
            (&[(0, 10), (2, 4), (8, 12), (20, 21)], 13),
        ] {
            assert_eq!(covered(&regions(spans)), expected, "{spans:?}");
        }
    }

    #[test]
    fn only_data_may_lie_on_data() {
        use Use::*;
        type Case<'a> = (&'a [(u64, u64, Use)], &'a [(u64, u64)]);
        let cases: [Case<'_>; 7] = [
            (&[(0, 10, Superblock), (10, 20, Inode), (20, 30, Data)], &[]),
            (&[(0, 10, Data), (0, 10, Data), (5, 20, Data)], &[]),
            (&[(0, 10, Data), (9, 11, Inode)], &[(9, 0)]),
            (&[(0, 10, Directory), (9, 11, Data)], &[(9, 0)]),
            (
                &[(0, 10, Directory), (5, 6, Inode), (8, 20, Inode)],
                &[(5, 0), (8, 0)],
            ),
            // The same shared attribute, given twice.
            (&[(0, 8, SharedXattr), (0, 8, SharedXattr)], &[]),
            // Nothing lies on what is empty.
            (&[(0, 10, Inode), (5, 5, Data)], &[]),
        ];
        for (given, expected) in cases {
            let regions = given.iter().map(|(start, end, usage)| Region {
                start: *start,
                end: *end,
                usage: *usage,
                nid: 0,
            });
            let mut overlapping = Vec::new();
            overlaps(regions.collect(), &mut |region, other| {
                overlapping.push((region.start, other.start));
            });
            assert_eq!(overlapping, expected, "{given:?}");
        }
    }
}
