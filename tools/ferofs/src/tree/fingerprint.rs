// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fingerprints of files: an attribute whose value says what a file's content is, by which drivers find equal files
//! in different images ("inode_share"). The form is that of mkfs.erofs `--xattr-inode-digest`.
//!
//! A [`Tree`] whose files have some knows the attribute's name. Whoever reads data sets them; [`image`](crate::image)
//! writes them.

use super::Full;
use super::InodeId;
use super::Tree;
use crate::digest::Digest;
use erofs_format::ondisk::NAME_MAX;
use erofs_format::split_xattr_name;

/// What a value starts with, in front of the 32 bytes of a sha256.
const SHA256: &[u8] = b"sha256:";

/// Size of a value.
pub const VALUE_SIZE: usize = SHA256.len() + 32;

/// The name of the attribute that fingerprints are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FingerprintName {
    /// Which well-known prefix it has, as the format numbers them; 0 if it has none, and so is shown to nobody.
    pub prefix: u8,
    /// The rest of it.
    pub name: Box<[u8]>,
}

impl FingerprintName {
    /// What the name is where nobody says: hidden, and the same as in mkfs.erofs.
    pub const DEFAULT: &'static str = "erofs.fingerprint.v1";

    /// Takes a name as mkfs.erofs does: one with a well-known prefix is that of an ordinary attribute, any other is hidden.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (prefix, name) = split_xattr_name(text.as_bytes()).unwrap_or((0, text.as_bytes()));
        if name.is_empty() || text.len() > NAME_MAX || name.contains(&0) {
            return Err(format!(
                "expected the name of an attribute, like \"{}\" or \"user.fingerprint\"",
                Self::DEFAULT
            ));
        }
        Ok(FingerprintName {
            prefix,
            name: name.into(),
        })
    }

    /// Whether it is the name of an attribute.
    pub fn is(&self, prefix: u8, name: &[u8]) -> bool {
        (self.prefix, &*self.name) == (prefix, name)
    }
}

impl Default for FingerprintName {
    fn default() -> Self {
        FingerprintName {
            prefix: 0,
            name: Self::DEFAULT.as_bytes().into(),
        }
    }
}

/// The value of a file's fingerprint.
pub fn value(digest: &Digest) -> [u8; VALUE_SIZE] {
    let mut value = [0; VALUE_SIZE];
    let (kind, bytes) = value.split_at_mut(SHA256.len());
    kind.copy_from_slice(SHA256);
    bytes.copy_from_slice(&digest.0);
    value
}

/// The digest that a fingerprint's value is, if it is one.
pub fn digest_of(value: &[u8]) -> Option<Digest> {
    let bytes = value.strip_prefix(SHA256)?;
    Some(Digest(bytes.try_into().ok()?))
}

impl Tree {
    /// A tree whose files will have fingerprints in the attribute of this name, if there is one.
    pub(crate) fn with_fingerprints(name: Option<&FingerprintName>) -> Self {
        let mut tree = Tree::new();
        tree.set_fingerprint_name(name.cloned());
        tree
    }

    /// Says that files have fingerprints, in the attribute of this name. Other attributes of this name are no
    /// fingerprints, whoever gave them to files before: each file has to be told its own.
    pub fn set_fingerprint_name(&mut self, name: Option<FingerprintName>) {
        self.fingerprint_name = name;
    }

    /// The name of the attribute with fingerprints, if files have some.
    pub fn fingerprint_name(&self) -> Option<&FingerprintName> {
        self.fingerprint_name.as_ref()
    }

    /// Gives a file this fingerprint, or takes away what may look like one.
    ///
    /// # Errors
    ///
    /// When there are too many attributes.
    pub fn set_fingerprint(&mut self, file: InodeId, value: Option<&[u8]>) -> Result<(), Full> {
        let Some(name) = &self.fingerprint_name else {
            return Ok(());
        };
        let key = (name.prefix, &*name.name);
        let set = self.inode(file).attributes.xattrs;
        let set = self.xattrs.replace(set, key, value)?;
        self.inode_mut(file).attributes.xattrs = set;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_mkfs() {
        for (text, expected) in [
            ("erofs.fingerprint.v1", Some((0, "erofs.fingerprint.v1"))),
            ("user.fp", Some((1, "fp"))),
            ("trusted.erofs.fp", Some((4, "erofs.fp"))),
            ("user.", None),
            ("system.posix_acl_access", None),
            ("", None),
        ] {
            let found = FingerprintName::parse(text).ok();
            let expected = expected.map(|(prefix, name)| FingerprintName {
                prefix,
                name: name.as_bytes().into(),
            });
            assert_eq!(found, expected, "{text}");
        }
        assert!(FingerprintName::parse(&"x".repeat(256)).is_err());
        let default = FingerprintName::parse(FingerprintName::DEFAULT);
        assert_eq!(default, Ok(FingerprintName::default()));
    }

    #[test]
    fn values_are_there_and_back() {
        let digest = Digest::of(b"hello\n");
        let value = value(&digest);
        assert_eq!((value.len(), digest_of(&value)), (39, Some(digest)));
        for wrong in [&value[..38], b"", b"sha512:", &[0; 39]] {
            assert_eq!(digest_of(wrong), None);
        }
    }
}
