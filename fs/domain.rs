// SPDX-License-Identifier: GPL-2.0-only

//! Domains: which mounts' files may be taken for equal (`domain_id=`, `inode_share`). A mount that takes part has a [`Domain`]; what
//! is done with it is in [`crate::join`].

use crate::erofs;
use crate::erofs::ondisk::NAME_MAX;
use crate::share_table::ShareTable;
use crate::verity::Verity;
use crate::vfs::pages::content::Key;
use crate::vfs::sha256::Digest;
use crate::vfs::sha256::Sha256;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::sync::SetOnce;

/// What the value of a fingerprint begins with that can be compared with the bytes; a sha256 follows.
const SHA256: &[u8] = b"sha256:";

/// What `inode_share` asks for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Trust {
    /// Files are equal whose images say so.
    Images,
    /// Files are equal that have the sha256 that their images say, which is found out when each is first opened.
    Nobody,
}

/// What a mount has in common with others of its domain.
pub(crate) struct Domain {
    table: Arc<ShareTable>,
    trust: Trust,
    /// Which it is: no two have the same.
    number: Digest,
    /// The attribute that fingerprints are in, once one was looked for.
    attribute: SetOnce<KBox<Attribute>>,
}

/// The name of the attribute that fingerprints are in.
pub(crate) struct Attribute {
    index: u8,
    len: usize,
    name: [u8; NAME_MAX],
}

impl Attribute {
    /// The index of its well-known prefix, and the rest.
    pub(crate) fn name(&self) -> (u8, &[u8]) {
        (self.index, self.name.get(..self.len).unwrap_or_default())
    }
}

impl Domain {
    /// That of this name. Mounts that differ in whom they trust are apart: who asks for more must not get bytes from who asked for
    /// less.
    pub(crate) fn new(
        table: Arc<ShareTable>,
        name: &CStr,
        trust: Trust,
        verity: Option<Verity>,
    ) -> Self {
        let trusts: u8 = match trust {
            Trust::Images => 0,
            Trust::Nobody => 1,
        };
        let proof: u8 = match verity {
            None => 0,
            Some(Verity::Required) => 1,
            Some(Verity::Image(_)) => 2,
        };
        let mut sum = Sha256::new();
        sum.update(&[trusts, proof]);
        sum.update(name.to_bytes_with_nul());
        Self {
            table,
            trust,
            number: sum.finish(),
            attribute: SetOnce::new(),
        }
    }

    /// Where contents are found.
    pub(crate) fn table(&self) -> &Arc<ShareTable> {
        &self.table
    }

    /// Whom it trusts.
    pub(crate) fn trust(&self) -> Trust {
        self.trust
    }

    /// The attribute that fingerprints are in; none if the image has none.
    ///
    /// # Errors
    ///
    /// Those of [`erofs::Superblock::fingerprint_name`], and `ENOMEM`.
    pub(crate) fn attribute<M: erofs::Metadata<Error = Error>>(
        &self,
        format: &erofs::Superblock,
        metadata: &M,
    ) -> Result<Option<&Attribute>, erofs::Error<Error>> {
        if self.attribute.as_ref().is_none() {
            let failed = |_| erofs::Error::Io(ENOMEM);
            let empty = Attribute {
                index: 0,
                len: 0,
                name: [0; NAME_MAX],
            };
            let mut attribute = KBox::new(empty, GFP_KERNEL).map_err(failed)?;
            let found = format.fingerprint_name(metadata, &mut attribute.name)?;
            let Some((index, len)) = found else {
                return Ok(None);
            };
            attribute.index = index;
            attribute.len = len;
            // If another task was faster, it found the same.
            self.attribute.populate(attribute);
        }
        Ok(self.attribute.as_ref().map(|attribute| &**attribute))
    }

    /// What a content is known by: its fingerprint and size, here.
    pub(crate) fn key(&self, fingerprint: &[u8], size: u64) -> Key {
        let (what, form) = match sha256(fingerprint) {
            Some(digest) => (*digest, 0),
            None => {
                let mut sum = Sha256::new();
                sum.update(fingerprint);
                (sum.finish(), 1)
            }
        };
        Key {
            what,
            form,
            size,
            domain: self.number,
        }
    }
}

/// The sha256 of a file's bytes, if that is what a fingerprint says.
pub(crate) fn sha256(fingerprint: &[u8]) -> Option<&Digest> {
    fingerprint.strip_prefix(SHA256)?.try_into().ok()
}
