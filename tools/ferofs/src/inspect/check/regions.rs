// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is where in an image, to find things that lie on top of each other.

use erofs_format::ondisk;

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

/// All parts of the image that were seen. Those of one kind that follow each other are one, as long as nobody needs to
/// know whose each of them is: of millions of inodes few hundred remain.
#[derive(Default)]
pub struct Regions {
    all: Vec<Region>,
    apart: bool,
    /// The last one of each kind.
    last: [Option<Region>; 6],
    /// How large a block is.
    block: u64,
}

impl Regions {
    /// For an image with blocks of so many bytes.
    pub fn set_block(&mut self, block: u64) {
        self.block = block;
    }

    /// From now on keeps all by themselves.
    pub fn keep_apart(&mut self) {
        self.apart = true;
    }

    /// Adds one.
    pub fn push(&mut self, region: Region) {
        if region.end <= region.start {
            return;
        }
        if self.apart {
            self.all.push(region);
            return;
        }
        // What is between two is no room for anything.
        let gap = match region.usage {
            Use::Data | Use::Directory => self.block,
            Use::Inode => ondisk::INODE_SLOT_SIZE,
            Use::Superblock | Use::DeviceTable | Use::SharedXattr => 1,
        };
        let Some(last) = self.last.get_mut(region.usage as usize) else {
            return;
        };
        match last {
            Some(last) if last.end <= region.start && region.start - last.end < gap => {
                last.end = region.end;
            }
            _ => self.all.extend(last.replace(region)),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Region> {
        self.all.iter().chain(self.last.iter().flatten())
    }

    /// All of them, and whether some may be several.
    pub fn take(mut self) -> (Vec<Region>, bool) {
        self.all.extend(self.last.into_iter().flatten());
        (self.all, !self.apart)
    }

    /// Where the last one ends.
    pub fn end(&self) -> u64 {
        let ends = self.iter().map(|region| region.end);
        ends.max().unwrap_or_default()
    }

    /// How many bytes lie in some region.
    pub fn covered(&self) -> u64 {
        let spans = self.iter().map(|region| (region.start, region.end));
        covered(spans.collect())
    }
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

/// How many bytes lie in some span.
fn covered(mut spans: Vec<(u64, u64)>) -> u64 {
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
        for (spans, expected) in [
            (&[][..], 0),
            (&[(5, 5)], 0),
            (&[(10, 20), (0, 10)], 20),
            (&[(0, 10), (2, 4), (8, 12), (20, 21)], 13),
        ] {
            assert_eq!(covered(spans.to_vec()), expected, "{spans:?}");
        }
    }

    #[test]
    fn what_follows_is_joined_unless_it_is_kept_apart() {
        use Use::*;
        let region = |(start, end, usage): (u64, u64, Use)| Region {
            start,
            end,
            usage,
            nid: start,
        };
        let given = [
            (0, 64, Inode),
            (512, 600, Directory),
            (64, 100, Inode),
            (128, 160, Inode),
            (192, 224, Inode),
            (1024, 1030, Directory),
            (2048, 2050, Directory),
            (10, 10, Data),
        ];
        for (apart, expected) in [
            (true, given[..7].to_vec()),
            (
                false,
                vec![
                    (0, 160, Inode),
                    (512, 1030, Directory),
                    (192, 224, Inode),
                    (2048, 2050, Directory),
                ],
            ),
        ] {
            let mut regions = Regions::default();
            regions.set_block(512);
            if apart {
                regions.keep_apart();
            }
            given
                .into_iter()
                .map(region)
                .for_each(|region| regions.push(region));
            assert_eq!(regions.end(), 2050);
            let mut expected: Vec<_> = expected.into_iter().map(region).collect();
            let (mut found, joined) = regions.take();
            found.sort();
            expected.sort();
            assert_eq!((found, joined), (expected, !apart));
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
