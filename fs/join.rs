// SPDX-License-Identifier: GPL-2.0-only

//! Finds what a file has in common with others of its domain: when it is opened for the first time. Called by the crate's root, and by
//! [`crate::decode`] for files that are compressed.
//!
//! What is decided then stays as long as the inode is cached. A file that cannot join is read from its own image, and that it cannot is
//! no error.

use crate::domain;
use crate::domain::Domain;
use crate::domain::Trust;
use crate::file;
use crate::filesystem::Ferofs;
use crate::in_use;
use crate::share_table::Share;
use crate::vfs::object::inode::Inode;
use crate::vfs::pages::content::Content;
use crate::vfs::pages::content::Key;
use crate::volume::Volume;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How long the value of most fingerprints is.
const SHA256_SIZE: usize = 39;

/// Has a file join those that are equal to it, if it was not opened before.
///
/// # Errors
///
/// `ENOMEM`, and `EINTR` for a task that was killed: then it can still join.
pub(crate) fn opening(inode: &Inode<Ferofs>) -> Result {
    let Some(domain) = inode.super_block().data().domain() else {
        return Ok(());
    };
    if inode.data().has_share_decided() {
        return Ok(());
    }
    inode.data().decide_share(found(find(inode, domain))?);
    Ok(())
}

/// By what the pages of a compressed file are known to others that are equal to it, if it has them in common.
///
/// Only where images are trusted: what clusters that were made for it decode to can depend on where decoding begins and ends, so that
/// it would prove nothing that all of a file was hashed once.
///
/// # Errors
///
/// As for [`opening`].
pub(crate) fn decoded(inode: &Inode<Ferofs>) -> Result<Option<Key>> {
    match inode.super_block().data().domain() {
        Some(domain) if domain.trust() == Trust::Images => found(key(inode, domain)),
        _ => Ok(None),
    }
}

/// What was found, or nothing if that failed: what is wrong is said to those who read it from its own place.
fn found<T>(found: Result<Option<T>>) -> Result<Option<T>> {
    match found {
        Err(error) if error == ENOMEM || error == EINTR || error == ERESTARTSYS => Err(error),
        other => Ok(other.unwrap_or(None)),
    }
}

/// The key of a compressed file's pages, if it can have them in common with others. Nobody may write to the files of its mount
/// from then on.
fn key(inode: &Inode<Ferofs>, domain: &Domain) -> Result<Option<Key>> {
    let Some(fingerprint) = fingerprint(inode, domain)? else {
        return Ok(None);
    };
    inode.super_block().data().devices().seal()?;
    Ok(Some(domain.key(&fingerprint, inode.size())))
}

/// The share that a file can have, if it can.
fn find(inode: &Inode<Ferofs>, domain: &Domain) -> Result<Option<Share>> {
    let volume = inode.super_block().data();
    let Some(fingerprint) = fingerprint(inode, domain)? else {
        return Ok(None);
    };
    let table = domain.table();
    let key = domain.key(&fingerprint, inode.size());
    if domain.trust() == Trust::Images {
        if let Some(share) = table.find(&key) {
            return Ok(Some(share));
        }
    }
    let content = content(inode, key)?;
    if domain.trust() == Trust::Nobody && !is_proven(volume, &fingerprint, &content)? {
        return Ok(None);
    }
    table.find_or_add(content).map(Some)
}

/// A file's fingerprint, if it has one and can have something in common with others. As with the C driver, one larger than a block
/// is none.
#[inline(never)]
fn fingerprint(inode: &Inode<Ferofs>, domain: &Domain) -> Result<Option<KVec<u8>>> {
    let volume = inode.super_block().data();
    // Whoever is to allow reads of a blob has to see them all.
    if inode.size() == 0 || volume.devices().listeners().is_some() {
        return Ok(None);
    }
    let reader = Volume::reader(inode.super_block(), false);
    let failed = |error| in_use::report(inode.super_block(), Some(inode), error);
    let Some(attribute) = domain.attribute(volume.format(), &reader).map_err(failed)? else {
        return Ok(None);
    };
    let (index, name) = attribute.name();
    let get = |value: &mut [u8]| {
        inode
            .data()
            .disk()
            .get_xattr(volume.format(), &reader, index, name, value)
            .map_err(failed)
    };
    let mut value = KVec::from_elem(0, SHA256_SIZE, GFP_KERNEL)?;
    let size = match get(&mut value)? {
        Some(size) if size > 0 && size as u64 <= u64::from(volume.format().block_size()) => size,
        _ => return Ok(None),
    };
    if size > value.len() {
        value = KVec::from_elem(0, size, GFP_KERNEL)?;
        get(&mut value)?;
    }
    value.truncate(size);
    Ok(Some(value))
}

/// What a file is made of in its own image.
#[inline(never)]
fn content(inode: &Inode<Ferofs>, key: Key) -> Result<Arc<Content>> {
    let mut content = Content::new(key);
    while content.known() < inode.size() {
        content.add(file::own_extent(inode, content.known(), false)?)?;
    }
    Ok(Arc::new(content, GFP_KERNEL)?)
}

/// Whether a file's bytes have the sha256 that its fingerprint is. They cannot be changed any more.
#[inline(never)]
fn is_proven(volume: &Volume, fingerprint: &[u8], content: &Content) -> Result<bool> {
    let Some(expected) = domain::sha256(fingerprint) else {
        return Ok(false);
    };
    let Some(found) = content.sha256()? else {
        return Ok(false);
    };
    if *expected == found {
        return Ok(true);
    }
    if volume.is_first_error() {
        pr_warn!(
            "{}: a file has a fingerprint that is not the sha256 of its data, and is not shared\n",
            volume.name()
        );
    }
    Ok(false)
}
