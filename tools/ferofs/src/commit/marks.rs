// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The extended attributes of an upper directory's files: which of them are in a layer, and what those that overlayfs keeps
//! for itself say.

use crate::tar::NamedValue;
use crate::tar::SharedXattrs;
use crate::text::Quoted;
use crate::tree::XattrSet;
use crate::tree::Xattrs;
use erofs_format::xattr_prefix;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

/// What attributes of overlayfs begin with, without and with `userxattr`.
const TRUSTED: &[u8] = b"trusted.overlay.";
const USER: &[u8] = b"user.overlay.";

/// Labels of security modules, which say what this machine thinks of a file: another one gives it its own, and the sum over
/// all attributes is made with a key of this machine.
const LABELS: [&[u8]; 7] = [
    b"security.selinux",
    b"security.evm",
    b"security.apparmor",
    b"security.SMACK64",
    b"security.SMACK64EXEC",
    b"security.SMACK64MMAP",
    b"security.SMACK64TRANSMUTE",
];

/// What the attributes of a file come to.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Nothing below this directory is seen.
    pub is_opaque: bool,
    /// There may be whiteouts in this directory that are files.
    pub has_whiteouts: bool,
    /// It is such a whiteout, if it is an empty file.
    pub is_whiteout: bool,
    /// Where it is in the layers below is another path.
    pub is_redirected: bool,
    /// Its data is in a layer below.
    pub is_metacopy: bool,
    /// What is in the layer.
    pub xattrs: SharedXattrs,
    /// What is not, and is to be said.
    pub left_out: Arc<[String]>,
}

/// The marks of all combinations of attributes: most files that have any have the same as many others.
pub struct Sets {
    own: &'static [u8],
    known: HashMap<XattrSet, Marks>,
    /// What was said to be left out.
    said: HashSet<Vec<u8>>,
}

impl Sets {
    /// For an overlay that was mounted with or without `userxattr`.
    pub fn new(userxattr: bool) -> Self {
        Sets {
            own: if userxattr { USER } else { TRUSTED },
            known: HashMap::new(),
            said: HashSet::new(),
        }
    }

    /// The marks of a combination of attributes, and whether it is seen for the first time.
    pub fn marks(&mut self, all: &Xattrs, set: XattrSet) -> (Marks, bool) {
        if let Some(known) = self.known.get(&set) {
            return (known.clone(), false);
        }
        let mut marks = Marks::default();
        let mut kept: Vec<NamedValue> = Vec::new();
        let mut left_out = Vec::new();
        for xattr in all.of(set).iter().map(|id| all.get(*id)) {
            let prefix = xattr_prefix(xattr.prefix).unwrap_or_default();
            let name = [prefix.as_bytes(), &xattr.name].concat();
            if let Some(mark) = name.strip_prefix(self.own) {
                if !marks.take(mark, &xattr.value) && self.said.insert(name.clone()) {
                    let name = Quoted(&name);
                    left_out.push(format!(
                        "extended attribute {name}, which is for overlayfs alone to write"
                    ));
                }
            } else if name.starts_with(TRUSTED) || name.starts_with(USER) {
                if self.said.insert(name.clone()) {
                    let (name, with) = (Quoted(&name), with(self.own));
                    left_out.push(format!(
                        "extended attribute {name}, which is for overlayfs mounted {with} userxattr alone to write"
                    ));
                }
            } else if !LABELS.contains(&name.as_slice()) {
                kept.push((name, xattr.value.to_vec()));
            }
        }
        kept.sort();
        marks.xattrs = kept.into();
        marks.left_out = left_out.into();
        self.known.insert(set, marks.clone());
        (marks, true)
    }
}

/// How the overlay was mounted that has the attributes that begin otherwise.
fn with(own: &[u8]) -> &'static str {
    match own == TRUSTED {
        true => "with",
        false => "without",
    }
}

impl Marks {
    /// Takes in an attribute of overlayfs. Returns whether it is one that it has for its own use, and nobody misses.
    fn take(&mut self, mark: &[u8], value: &[u8]) -> bool {
        match mark {
            b"opaque" if value == b"y" => self.is_opaque = true,
            b"opaque" if value == b"x" => self.has_whiteouts = true,
            b"whiteouts" => self.has_whiteouts = true,
            b"whiteout" => self.is_whiteout = true,
            b"redirect" => self.is_redirected = true,
            b"metacopy" => self.is_metacopy = true,
            b"opaque" | b"origin" | b"impure" | b"nlink" | b"upper" | b"uuid" | b"protattr" => {}
            _ => return false,
        }
        true
    }
}
