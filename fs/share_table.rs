// SPDX-License-Identifier: GPL-2.0-only

//! The contents that files of different images have in common, each found by what it is known by, for as long as a file has it.
//! [`crate::join`] looks here, and an inode keeps its [`Share`].

use crate::vfs::pages::content::Content;
use crate::vfs::pages::content::Key;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::rbtree::RBTreeNode;
use kernel::sync::Arc;
use kernel::sync::SpinLock;

/// All contents that files share.
#[pin_data]
pub(crate) struct ShareTable {
    #[pin]
    entries: SpinLock<RBTree<Key, Entry>>,
}

/// A content, and how many shares there are in it. Not zero.
struct Entry {
    content: Arc<Content>,
    shares: usize,
}

/// A file's part in a content: while there is one, others find it.
pub(crate) struct Share {
    table: Arc<ShareTable>,
    content: Arc<Content>,
}

impl ShareTable {
    /// Without any.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                entries <- new_spinlock!(RBTree::new(), "ferofs_shares"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// A share in the content that is known by `key`, if there is one.
    pub(crate) fn find(self: &Arc<Self>, key: &Key) -> Option<Share> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(key)?;
        entry.shares = entry.shares.saturating_add(1);
        Some(Share {
            table: self.clone(),
            content: entry.content.clone(),
        })
    }

    /// A share in `content`, or in one that is known by the same key and was faster.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn find_or_add(self: &Arc<Self>, content: Arc<Content>) -> Result<Share> {
        let entry = Entry {
            content: content.clone(),
            shares: 1,
        };
        let node = RBTreeNode::new(*content.key(), entry, GFP_KERNEL)?;
        if let Some(share) = self.find(content.key()) {
            return Ok(share);
        }
        let mut entries = self.entries.lock();
        // In the meantime another may have come.
        let found = match entries.get_mut(content.key()) {
            Some(entry) => {
                entry.shares = entry.shares.saturating_add(1);
                (entry.content.clone(), Some(node))
            }
            None => (content, entries.insert(node)),
        };
        drop(entries);
        let (content, unused) = found;
        drop(unused);
        Ok(Share {
            table: self.clone(),
            content,
        })
    }

    /// How many contents there are.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().iter().count()
    }
}

impl Share {
    /// What is shared.
    #[inline]
    pub(crate) fn content(&self) -> &Arc<Content> {
        &self.content
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let key = self.content.key();
        let mut entries = self.table.entries.lock();
        let left = entries.get_mut(key).map(|entry| {
            entry.shares = entry.shares.saturating_sub(1);
            entry.shares
        });
        let unused = match left {
            Some(0) => entries.remove_node(key),
            _ => None,
        };
        drop(entries);
        // Files are let go of without the lock.
        drop(unused);
    }
}
