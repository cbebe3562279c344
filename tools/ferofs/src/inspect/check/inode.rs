// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One inode by itself: reserved bytes, where its data is, and its attributes.

use super::Checker;
use super::regions::Use;
use crate::inspect::inode_size;
use erofs_format::FileKind;
use erofs_format::Inode;
use erofs_format::Layout;
use erofs_format::Metadata;
use erofs_format::Source;
use erofs_format::compressed::MapHeader;
use erofs_format::ondisk;
use std::io;

impl Checker<'_> {
    /// Checks what an inode has by itself: reserved bytes, place, data, attributes. Returns whether all
    /// of its data was looked at.
    pub(super) fn inode(&mut self, inode: &Inode) -> io::Result<bool> {
        let size = inode_size(inode);
        let Some(bytes) = self.bytes_of(inode, inode.space(), inode.pos(), size)? else {
            return Ok(false);
        };
        let reserved = match inode.is_extended() {
            true => 48..64,
            false => 28..32,
        };
        let is_set = |range| -> bool {
            let reserved: Option<&[u8]> = bytes.get::<std::ops::Range<usize>>(range);
            reserved.is_some_and(|reserved| reserved.iter().any(|byte| *byte != 0))
        };
        let chunks = matches!(inode.layout(), Layout::Chunks { .. });
        if is_set(reserved) || (chunks && is_set(18..20)) {
            self.warning_of(inode, "reserved bytes of its inode are not zero");
        }
        let head = size.saturating_add(u64::from(inode.xattr_size()));
        let start = inode.pos();
        let end = start.saturating_add(head);
        self.region_in(inode.space(), start, end, Use::Inode, inode.nid());
        let walkable = self.data(inode)?;
        self.xattrs(inode)?;
        Ok(walkable)
    }

    fn data(&mut self, inode: &Inode) -> io::Result<bool> {
        let image = self.image;
        let before = self.findings();
        if let Layout::Compressed { header, .. } = inode.layout() {
            let end = header.saturating_add(size_of::<MapHeader>() as u64);
            self.region_in(inode.space(), header, end, Use::Inode, inode.nid());
            self.clusters(inode)?;
        }
        // What does not decode was said.
        if inode.kind() == FileKind::Symlink && before == self.findings() {
            let mut target = [0; ondisk::SYMLINK_MAX as usize];
            if let Err(error) = inode.read_link(image.superblock(), image.file(), &mut target) {
                self.failed_at(inode, error)?;
            }
        }
        if !inode.kind().has_data() {
            if inode.size() != 0 {
                let size = inode.size();
                self.warning_of(inode, format!("its size is {size}, but it has no data"));
            }
            return Ok(true);
        }
        if inode.kind() == FileKind::Regular {
            self.report.data = self.report.data.saturating_add(inode.size());
        }
        let directory = inode.kind() == FileKind::Directory;
        let (usage, nid) = match directory {
            true => (Use::Directory, inode.nid()),
            false => (Use::Data, inode.nid()),
        };
        if directory && !self.spend(inode.size(), inode, "blocks")? {
            return Ok(false);
        }
        if let Layout::Chunks {
            table,
            chunk_bits,
            indexes,
            ..
        } = inode.layout()
        {
            let chunks = (u128::from(inode.size())).div_ceil(1 << chunk_bits);
            let entry: u128 = if indexes { 8 } else { 4 };
            // The table lies within the image.
            let size = u64::try_from(chunks * entry).unwrap_or(u64::MAX);
            let end = table.saturating_add(size);
            self.region_in(inode.space(), table, end, Use::Inode, nid);
            if !self.spend(size, inode, "chunks")? {
                return Ok(false);
            }
        }
        let mut offset = 0;
        while offset < inode.size() {
            let extent = match inode.extent(image.superblock(), image.file(), offset) {
                Ok(extent) if extent.len > 0 => extent,
                Ok(_) => break,
                Err(error) => {
                    self.failed_at(inode, error)?;
                    // The other chunks may be sound.
                    match inode.layout() {
                        Layout::Chunks { chunk_bits, .. } => {
                            offset = ((offset >> chunk_bits) + 1) << chunk_bits;
                            continue;
                        }
                        _ => break,
                    }
                }
            };
            match extent.source {
                Source::Device { id, pos } => {
                    // A flat address may mean a device.
                    let found = image.file().locate(id, pos).filter(|_| id == 0);
                    let (id, pos) = found.map_or((id, pos), |found| (found.file, found.pos));
                    self.bounds(inode, offset, id, pos, extent.len);
                    self.used.insert(id);
                    if id == 0 {
                        let end = pos.saturating_add(extent.len);
                        self.region(pos, end, usage, nid);
                    }
                }
                Source::Metadata { pos, space } => {
                    let end = pos.saturating_add(extent.len);
                    self.region_in(space, pos, end, Use::Inode, nid);
                }
                Source::Clusters { .. } | Source::Hole => {}
            }
            offset = extent.start.saturating_add(extent.len);
        }
        Ok(true)
    }

    /// The device that an address of a physical cluster means, and where it is there: the image itself has number 0, and so
    /// has what is behind it in the same file. None if that is not given.
    pub(super) fn device_of(&self, id: u16, pos: u64) -> Option<(u16, u64)> {
        let found = self.image.file().locate(id, pos)?;
        let elsewhere = match found.file {
            0 => self.image.file().flat_elsewhere(found.pos),
            _ => None,
        };
        Some(elsewhere.unwrap_or((found.file, found.pos)))
    }

    /// Whether data is within its device.
    pub(super) fn bounds(
        &mut self,
        inode: &Inode,
        offset: u64,
        id: u16,
        pos: u64,
        len: u64,
    ) -> bool {
        let end = pos.saturating_add(len);
        let (device, size) = match id.checked_sub(1) {
            None => ("the image".to_string(), Some(self.image.file().size())),
            Some(index) => (
                format!("device {id}"),
                self.devices.get(usize::from(index)).copied(),
            ),
        };
        let size = size.unwrap_or_default();
        if end > size {
            let what = format!(
                "its data at {offset} is at {pos} to {end} of {device}, which has {size} bytes"
            );
            self.problem_of(inode, what);
        }
        end <= size
    }
}
