// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The extended attributes of a tree: every attribute once, and every combination of them once.
//! Most files that have any have the same as thousands of others.

use super::Full;
use erofs_format::ondisk::xattr_index;
use std::collections::HashMap;
use std::collections::HashSet;

/// Number of a combination of attributes; the first is that of files without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XattrSet(u32);

/// Number of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XattrId(u32);

impl XattrSet {
    /// No attributes.
    pub const NONE: XattrSet = XattrSet(0);

    /// The number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl XattrId {
    /// The number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xattr {
    /// Which prefix its name has, as the format numbers them.
    pub prefix: u8,
    /// The rest of its name.
    pub name: Box<[u8]>,
    /// Its value.
    pub value: Box<[u8]>,
}

impl Xattr {
    /// Its name.
    fn key(&self) -> (u8, &[u8]) {
        (self.prefix, &self.name)
    }
}

/// Whether an attribute whose name has this prefix is an ACL.
pub(crate) fn is_acl(prefix: u8) -> bool {
    matches!(
        prefix,
        xattr_index::POSIX_ACL_ACCESS | xattr_index::POSIX_ACL_DEFAULT
    )
}

/// All attributes of a tree.
pub struct Xattrs {
    all: Vec<Xattr>,
    by_value: HashMap<Xattr, XattrId>,
    sets: Vec<Box<[XattrId]>>,
    by_content: HashMap<Box<[XattrId]>, XattrSet>,
    /// What [`Self::join`] gave.
    joined: HashMap<(XattrSet, XattrSet, bool), XattrSet>,
}

impl Default for Xattrs {
    fn default() -> Self {
        let none: Box<[XattrId]> = Box::default();
        Xattrs {
            all: Vec::new(),
            by_value: HashMap::new(),
            sets: vec![none.clone()],
            by_content: HashMap::from([(none, XattrSet::NONE)]),
            joined: HashMap::new(),
        }
    }
}

impl Xattrs {
    /// The combination of these attributes.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub fn set(&mut self, xattrs: impl IntoIterator<Item = Xattr>) -> Result<XattrSet, Full> {
        let mut ids = Vec::new();
        for xattr in xattrs {
            let id = match self.by_value.get(&xattr) {
                Some(id) => *id,
                None => {
                    let id = XattrId(u32::try_from(self.all.len()).map_err(|_| Full)?);
                    self.all.push(xattr.clone());
                    self.by_value.insert(xattr, id);
                    id
                }
            };
            ids.push(id);
        }
        // The same attributes in another order are the same.
        ids.sort_unstable_by_key(|id| self.get(*id));
        if let Some(set) = self.by_content.get(ids.as_slice()) {
            return Ok(*set);
        }
        let set = XattrSet(u32::try_from(self.sets.len()).map_err(|_| Full)?);
        let ids: Box<[XattrId]> = ids.into();
        self.sets.push(ids.clone());
        self.by_content.insert(ids, set);
        Ok(set)
    }

    /// The attributes of one combination, and those of an older one that have other names; of its ACLs only if
    /// `keep_acls` says so.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub fn join(
        &mut self,
        new: XattrSet,
        old: XattrSet,
        keep_acls: bool,
    ) -> Result<XattrSet, Full> {
        if old == new || old == XattrSet::NONE {
            return Ok(new);
        }
        let key = (new, old, keep_acls);
        if let Some(joined) = self.joined.get(&key) {
            return Ok(*joined);
        }
        let mut all = self.list(new);
        let mut kept = self.list(old);
        let names: HashSet<_> = all.iter().map(Xattr::key).collect();
        kept.retain(|old| {
            let stays = keep_acls || !is_acl(old.prefix);
            stays && !names.contains(&old.key())
        });
        all.append(&mut kept);
        let joined = self.set(all)?;
        self.joined.insert(key, joined);
        Ok(joined)
    }

    /// A combination with another value, or none, for the attribute of a name.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub fn replace(
        &mut self,
        set: XattrSet,
        (prefix, name): (u8, &[u8]),
        value: Option<&[u8]>,
    ) -> Result<XattrSet, Full> {
        let mut all = self.list(set);
        all.retain(|xattr| xattr.key() != (prefix, name));
        all.extend(value.map(|value| Xattr {
            prefix,
            name: name.into(),
            value: value.into(),
        }));
        self.set(all)
    }

    /// The attribute with this number.
    #[expect(clippy::indexing_slicing, reason = "numbers are made here only")]
    pub fn get(&self, id: XattrId) -> &Xattr {
        &self.all[id.index()]
    }

    /// The attributes of a combination, sorted by prefix and name.
    pub fn of(&self, set: XattrSet) -> &[XattrId] {
        self.sets
            .get(set.index())
            .map(Box::as_ref)
            .unwrap_or_default()
    }

    /// Copies of the attributes of a combination.
    pub fn list(&self, set: XattrSet) -> Vec<Xattr> {
        self.of(set)
            .iter()
            .map(|id| self.get(*id).clone())
            .collect()
    }

    /// All different attributes, in the order of their numbers.
    pub fn all(&self) -> &[Xattr] {
        &self.all
    }

    /// How many different attributes there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether no file has any.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All combinations, that of no attributes first.
    pub fn sets(&self) -> impl Iterator<Item = XattrSet> + use<> {
        // `set` numbers them with 32 bits.
        (0..self.sets.len() as u32).map(XattrSet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattr(name: &str, value: &str) -> Xattr {
        Xattr {
            prefix: 1,
            name: name.as_bytes().into(),
            value: value.as_bytes().into(),
        }
    }

    #[test]
    fn equal_attributes_and_sets_are_kept_once() {
        let mut xattrs = Xattrs::default();
        let (a, b) = (xattr("a", "1"), xattr("b", "2"));
        let both = xattrs.set([a.clone(), b.clone()]).unwrap();
        assert_eq!(xattrs.set([b.clone(), a.clone()]).unwrap(), both);
        assert_eq!(xattrs.set([]).unwrap(), XattrSet::NONE);
        let one = xattrs.set([b]).unwrap();
        assert_ne!(one, both);
        assert_eq!((xattrs.len(), xattrs.sets().count()), (2, 3));
        assert_eq!(xattrs.get(xattrs.of(both)[0]), &a);
    }
}
