// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Asks an image for all that can be asked, whatever it answers.

use erofs_format::{FileKind, Inode, Metadata, Superblock};

/// What a walk found, and how it ended.
#[derive(Debug, Default, PartialEq)]
pub struct Walked {
    pub inodes: u32,
    pub entries: u32,
    pub extents: u32,
    pub xattrs: u32,
    /// Messages of all errors.
    pub errors: Vec<String>,
}

/// Limits, so that a damaged image cannot keep the test busy.
const MAX_INODES: u32 = 500;
const MAX_ENTRIES: u32 = 2000;
const MAX_EXTENTS: u32 = 200;

/// Reads everything that can be reached from the root, and the inodes beside it, too.
pub fn walk<M: Metadata>(meta: &M) -> Walked
where
    M::Error: std::fmt::Display,
{
    let mut walked = Walked::default();
    let sb = match Superblock::read(meta, 12) {
        Ok(sb) => sb,
        Err(error) => {
            walked.errors.push(error.to_string());
            return walked;
        }
    };
    for index in 0..sb.device_count().saturating_add(1).min(9) {
        walked.keep(sb.device(meta, index));
    }
    let mut infix = [0; 255];
    for number in 0..=sb.xattr_prefix_count().min(127) {
        walked.keep(sb.long_xattr_prefix(meta, number, &mut infix));
    }
    let mut nids = vec![sb.root_nid(), sb.root_nid().wrapping_add(1)];
    walked.keep(sb.root(meta));
    walked.keep(sb.compression(meta));
    let mut seen = std::collections::HashSet::new();
    while let Some(nid) = nids.pop() {
        if walked.inodes == MAX_INODES || !seen.insert(nid) {
            continue;
        }
        if let Some(inode) = walked.keep(sb.inode(meta, nid)) {
            walked.inode(meta, &sb, &inode, &mut nids);
        }
    }
    walked
}

impl Walked {
    /// The value, or notes the error.
    fn keep<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.errors.push(error.to_string()))
            .ok()
    }

    fn clusters<M: Metadata>(&mut self, meta: &M, sb: &Superblock, inode: &Inode)
    where
        M::Error: std::fmt::Display,
    {
        let Some(Some(clusters)) = self.keep(inode.clusters(sb, meta)) else {
            return;
        };
        let size = inode.size();
        let mut offset = 0;
        for _ in 0..MAX_EXTENTS {
            if offset >= size {
                break;
            }
            let found = self.keep(clusters.at(sb, meta, offset));
            offset = match found {
                Some(found) => {
                    let end = found.start.checked_add(found.len).unwrap();
                    assert!((found.start..end).contains(&offset) && end <= size);
                    self.extents += 1;
                    end
                }
                None => offset.saturating_add(700),
            };
        }
        self.keep(clusters.at(sb, meta, size.saturating_sub(1)));
        self.keep(clusters.at(sb, meta, size / 2));
    }

    fn inode<M: Metadata>(&mut self, meta: &M, sb: &Superblock, inode: &Inode, nids: &mut Vec<u64>)
    where
        M::Error: std::fmt::Display,
    {
        self.inodes += 1;
        let mut buf = vec![0; 4096];
        let mut names = Vec::new();
        self.keep(inode.read_link(sb, meta, &mut buf));
        let mut left = MAX_ENTRIES;
        self.keep(inode.read_dir(sb, meta, 0, &mut |entry| {
            assert!(!entry.name.is_empty() && entry.name.len() <= 255);
            assert!(!entry.name.contains(&0) && !entry.name.contains(&b'/'));
            assert!(entry.pos < entry.next);
            names.push((entry.name.to_vec(), entry.nid));
            left -= 1;
            left > 0
        }));
        self.entries += names.len() as u32;
        for (name, nid) in names {
            self.keep(inode.lookup(sb, meta, &name));
            nids.push(nid);
        }
        self.keep(inode.lookup(sb, meta, b"some name"));
        self.keep(inode.read_dir(sb, meta, inode.size() / 2 + 3, &mut |_| true));

        let mut offset = 0;
        for _ in 0..MAX_EXTENTS {
            if offset >= inode.size() {
                break;
            }
            let Some(extent) = self.keep(inode.extent(sb, meta, offset)) else {
                break;
            };
            let end = extent.start.checked_add(extent.len).unwrap();
            assert!(extent.start <= offset && offset < end && end <= inode.size());
            offset = end;
            self.extents += 1;
        }
        if inode.size() > 0 {
            self.keep(inode.extent(sb, meta, inode.size() - 1));
        }

        self.clusters(meta, sb, inode);

        let mut found = Vec::new();
        self.keep(inode.list_xattrs(sb, meta, &mut |xattr| {
            assert!(xattr.name.len() <= 255 && !xattr.name.contains(&0));
            found.push((xattr.index, xattr.name.to_vec(), xattr.value_size));
            found.len() < 100
        }));
        self.xattrs += found.len() as u32;
        for (index, name, _) in found {
            self.keep(inode.get_xattr(sb, meta, index, &name, &mut buf));
        }
        self.keep(inode.get_xattr(sb, meta, 2, b"", &mut buf));
        inode.sectors(sb);
        assert!(inode.mtime_nsec() < 1_000_000_000);
        if inode.kind() == FileKind::Symlink {
            assert!((1..4096).contains(&inode.size()));
        }
    }
}
