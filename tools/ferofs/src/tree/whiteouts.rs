// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Whiteouts: how a layer says that something in the layers below is gone.
//!
//! Archives have them in the form of AUFS (a file `.wh.NAME` hides NAME, `.wh..wh..opq` hides all
//! that is below its directory), as OCI layers do, or of overlayfs (a character device 0:0 called
//! NAME; the attribute `trusted.overlay.opaque` of the directory). Both are understood, and either is
//! made of both.
//!
//! Overlayfs looks for whiteouts only in directories that it merges with others, or that have the attribute
//! `trusted.overlay.origin`. Elsewhere it lists them as names that nothing has, so every directory with
//! whiteouts gets that attribute, without a value: it may be opaque, or the lowest of its path.
//!
//! Its other attributes (`trusted.overlay.redirect` and so on) tell overlayfs what to make of a file. Nobody but itself
//! is to write them, and a layer must not speak to the overlay that it is put under: they are left out.

use super::Attributes;
use super::Content;
use super::Data;
use super::Full;
use super::Inode;
use super::InodeId;
use super::NAME_MAX;
use super::NameId;
use super::Tree;
use super::Xattr;
use super::XattrSet;
use crate::text::Quoted;
use erofs_format::ondisk::xattr_index;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;

/// What whiteouts become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// What overlayfs knows.
    #[default]
    Overlay,
    /// What AUFS knows, and OCI layers have.
    Aufs,
    /// Nothing: they are left out, as if there was no layer below.
    Applied,
}

/// Why whiteouts cannot be converted.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The tree is full.
    Full,
    /// The name of what is hidden, with this path, leaves no room for the prefix.
    TooLong(Vec<u8>),
    /// What has this path hides no name, but its own directory or the one above.
    Invalid(Vec<u8>),
}

impl From<Full> for Problem {
    fn from(_: Full) -> Self {
        Problem::Full
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Full => Full.fmt(f),
            Problem::TooLong(path) => {
                let path = Quoted(path);
                write!(
                    f,
                    "{path}: its name is too long for a whiteout called \".wh.\" and it"
                )
            }
            Problem::Invalid(path) => {
                let path = Quoted(path);
                write!(f, "{path}: a whiteout, expected a name behind \".wh.\"")
            }
        }
    }
}

impl std::error::Error for Problem {}

/// What the name of a whiteout begins with; behind it is what it hides.
pub const PREFIX: &[u8] = b".wh.";
/// The name of the file that makes its directory opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// The attribute that makes a directory opaque for overlayfs, if it is "y".
pub(crate) const OPAQUE_ATTRIBUTE: &[u8] = b"trusted.overlay.opaque";
/// The attribute that lets overlayfs look for whiteouts in a directory, behind "trusted.".
const ORIGIN: &[u8] = b"overlay.origin";
/// More notes than this about one archive help nobody.
const MAX_NOTES: usize = 20;
/// What AUFS keeps for itself; it hides nothing.
const PRIVATE: &[u8] = b".wh..wh.";

/// What a layer says of the layers below.
enum Whiteout {
    /// This name in its directory is gone; what says so has these attributes.
    Hidden(NameId, Vec<u8>, Attributes),
    /// All that is in this directory is gone; what says so has these attributes.
    Opaque(NameId, Attributes),
}

/// Converts all whiteouts in a tree, and leaves out attributes that overlayfs would obey. Returns notes about those.
///
/// # Errors
///
/// When there is no room for what they become, or one of them hides no name.
pub fn convert(tree: &mut Tree, form: Form) -> Result<Vec<String>, Problem> {
    let mut reachable = Reachable::default();
    let whiteouts = take(tree, form)?;
    let notes = leave_out(tree)?;
    for whiteout in whiteouts {
        match whiteout {
            // Its directory was replaced by what came later.
            Whiteout::Hidden(directory, ..) | Whiteout::Opaque(directory, _)
                if !reachable.has(tree, directory) => {}
            Whiteout::Hidden(directory, name, attributes) => {
                // What the layer itself has under that name is not meant, but what is in the
                // directory of that name below is.
                match tree.lookup(directory, &name) {
                    Some(found) if tree.is_directory(found) => {
                        make_opaque_as(tree, found, form, attributes)?;
                        // It is another directory than the one below, even if the layer has no
                        // entry for it.
                        let inode = tree.inode_of(found);
                        let own = &mut tree.inode_mut(inode).attributes;
                        own.mtime = own.mtime.or(attributes.mtime);
                    }
                    Some(_) => {}
                    None => hide(tree, directory, &name, form, attributes)?,
                }
            }
            Whiteout::Opaque(directory, attributes) => {
                make_opaque_as(tree, directory, form, attributes)?;
            }
        }
    }
    if form == Form::Overlay {
        mark(tree)?;
    }
    Ok(notes)
}

/// Lets overlayfs look for whiteouts of its own form in all directories that have some.
///
/// # Errors
///
/// When the tree is full.
pub fn mark(tree: &mut Tree) -> Result<(), Full> {
    let marked = tree.xattrs_mut().set([Xattr {
        prefix: xattr_index::TRUSTED,
        name: ORIGIN.into(),
        value: Box::default(),
    }])?;
    for name in tree.live_names() {
        if tree.inode(tree.inode_of(name)).content == Content::CharDevice(0, 0) {
            let directory = tree.inode_of(tree.parent(name));
            add_xattrs(tree, directory, marked)?;
        }
    }
    Ok(())
}

/// Gives an inode further attributes.
fn add_xattrs(tree: &mut Tree, inode: InodeId, more: XattrSet) -> Result<(), Full> {
    let old = tree.inode(inode).attributes.xattrs;
    let xattrs = tree.xattrs_mut().join(more, old, true)?;
    tree.inode_mut(inode).attributes.xattrs = xattrs;
    Ok(())
}

/// Leaves out what overlayfs would obey, or has itself noted for later. Returns notes.
fn leave_out(tree: &mut Tree) -> Result<Vec<String>, Full> {
    let sets: Vec<XattrSet> = tree.xattrs().sets().collect();
    let mut kept = Vec::with_capacity(sets.len());
    let mut left_out = BTreeMap::new();
    for set in sets {
        let of = tree.xattrs().of(set).iter();
        if !of.clone().any(|id| is_of_overlay(tree.xattrs().get(*id))) {
            kept.push(set);
            continue;
        }
        let mut list = tree.xattrs().list(set);
        list.retain(|xattr| {
            if is_of_overlay(xattr) && !is_mark(xattr) {
                left_out.entry(xattr.name.clone()).or_insert(set);
            }
            !is_of_overlay(xattr)
        });
        kept.push(tree.xattrs_mut().set(list)?);
    }
    let mut notes = Vec::new();
    if !left_out.is_empty() {
        let mut first: HashMap<XattrSet, NameId> = HashMap::new();
        for name in [NameId::ROOT].into_iter().chain(tree.live_names()) {
            let set = tree.inode(tree.inode_of(name)).attributes.xattrs;
            first.entry(set).or_insert(name);
        }
        let seen = |(name, set): (Box<[u8]>, XattrSet)| first.get(&set).map(|at| (name, *at));
        for (name, at) in left_out.into_iter().filter_map(seen).take(MAX_NOTES) {
            let name = [b"trusted.", name.as_ref()].concat();
            let (name, path) = (Quoted(&name), tree.path(at));
            let path = Quoted(&path);
            notes.push(format!(
                "extended attribute {name}, first seen at {path}, is for overlayfs alone to write, and is left out"
            ));
        }
    }
    for inode in &mut tree.inodes {
        let xattrs = &mut inode.attributes.xattrs;
        *xattrs = kept.get(xattrs.index()).copied().unwrap_or(*xattrs);
    }
    Ok(notes)
}

/// Which directories a path from the root leads to: the answer for each is that for the one above, so all of
/// them together are one walk.
#[derive(Default)]
struct Reachable(HashMap<NameId, bool>);

impl Reachable {
    fn has(&mut self, tree: &Tree, directory: NameId) -> bool {
        let mut asked = Vec::new();
        let mut at = directory;
        let found = loop {
            if let Some(known) = self.0.get(&at) {
                break *known;
            }
            asked.push(at);
            if at == NameId::ROOT {
                break true;
            }
            let parent = tree.parent(at);
            if tree.lookup(parent, tree.name_text(at)) != Some(at) {
                break false;
            }
            at = parent;
        };
        self.0.extend(asked.into_iter().map(|name| (name, found)));
        found
    }
}

/// What a file in a layer says of the layers below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// Nothing: it is a file like any other.
    File,
    /// This name in its directory is gone.
    Hides(&'a [u8]),
    /// All that is in its directory is gone.
    Opaque,
    /// Nothing, and it is no file for others to see: AUFS keeps its own notes there.
    Nothing,
    /// It has the form of a whiteout, but there is no name that it could hide.
    Invalid,
}

/// What has a name that may be that of a whiteout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// It is a character device 0:0.
    Device,
    /// It is a directory that the layer has no entry for, only for something in it.
    Implied,
    /// It is anything else.
    Other,
}

/// What a file with this name says.
pub fn meaning(name: &[u8], carrier: Carrier) -> Meaning<'_> {
    let device = carrier == Carrier::Device;
    match name.strip_prefix(PREFIX) {
        Some(_) if name != OPAQUE && name.starts_with(PRIVATE) => Meaning::Nothing,
        // Only entries hide anything.
        Some(_) if carrier == Carrier::Implied => Meaning::File,
        Some(b"" | b"." | b"..") => Meaning::Invalid,
        Some(_) if name == OPAQUE => Meaning::Opaque,
        Some(_) if name.starts_with(PRIVATE) => Meaning::Nothing,
        Some(hidden) => Meaning::Hides(hidden),
        None if device => Meaning::Hides(name),
        None => Meaning::File,
    }
}

/// Takes all whiteouts of both forms out of the tree, but for the devices that are to stay such.
#[expect(
    clippy::indexing_slicing,
    reason = "numbers are made by the tree only, and nothing is taken out of its vectors"
)]
fn take(tree: &mut Tree, form: Form) -> Result<Vec<Whiteout>, Problem> {
    let mut whiteouts = Vec::new();
    let mut reachable = Reachable::default();
    let names = tree.live_names();
    let mut inhabited = vec![false; tree.names.len()];
    for name in &names {
        inhabited[tree.parent(*name).0 as usize] = true;
    }
    for name in names {
        let inode = tree.inode(tree.inode_of(name));
        let attributes = inode.attributes;
        let text = tree.name_text(name);
        let directory = tree.parent(name);
        let carrier = match inode.content {
            Content::CharDevice(0, 0) => Carrier::Device,
            Content::Directory if attributes.mtime.is_none() => Carrier::Implied,
            _ => Carrier::Other,
        };
        match meaning(text, carrier) {
            Meaning::File => {
                if inode.content == Content::Directory {
                    opaque_directory(tree, name, &mut whiteouts)?;
                }
                continue;
            }
            Meaning::Hides(hidden) if form == Form::Overlay && hidden == text => continue,
            // A directory may be a whiteout and yet have something in it.
            Meaning::Hides(_) if form == Form::Aufs && inhabited[name.0 as usize] => continue,
            Meaning::Hides(hidden) => {
                whiteouts.push(Whiteout::Hidden(directory, hidden.to_vec(), attributes));
                if inhabited[name.0 as usize] {
                    let inode = tree.inode_of(name);
                    let attributes = &mut tree.inode_mut(inode).attributes;
                    (attributes.mtime, attributes.xattrs) = (None, XattrSet::NONE);
                    continue;
                }
            }
            Meaning::Opaque => whiteouts.push(Whiteout::Opaque(directory, attributes)),
            Meaning::Nothing => {}
            Meaning::Invalid if reachable.has(tree, directory) => {
                return Err(Problem::Invalid(tree.path(name)));
            }
            Meaning::Invalid => {}
        }
        tree.remove_name(name);
    }
    opaque_directory(tree, NameId::ROOT, &mut whiteouts)?;
    Ok(whiteouts)
}

/// Takes the attribute that makes a directory opaque away from it.
fn opaque_directory(
    tree: &mut Tree,
    name: NameId,
    whiteouts: &mut Vec<Whiteout>,
) -> Result<(), Full> {
    let inode = tree.inode_of(name);
    let attributes = tree.inode(inode).attributes;
    let of = tree.xattrs().of(attributes.xattrs);
    let is_y = |xattr: &Xattr| is_opaque(xattr) && *xattr.value == *b"y";
    if !of.iter().any(|id| is_y(tree.xattrs().get(*id))) {
        return Ok(());
    }
    let xattrs = tree.xattrs().list(attributes.xattrs);
    let rest = xattrs.into_iter().filter(|xattr| !is_opaque(xattr));
    let rest = tree.xattrs_mut().set(rest)?;
    tree.inode_mut(inode).attributes.xattrs = rest;
    whiteouts.push(Whiteout::Opaque(name, attributes));
    Ok(())
}

/// Whether an attribute is that of opaque directories in the form of overlayfs, whatever its value.
pub fn is_opaque(xattr: &Xattr) -> bool {
    xattr.prefix == xattr_index::TRUSTED && *xattr.name == *b"overlay.opaque"
}

/// Whether an attribute is one that overlayfs keeps for itself.
pub(crate) fn is_of_overlay(xattr: &Xattr) -> bool {
    xattr.prefix == xattr_index::TRUSTED && xattr.name.starts_with(b"overlay.")
}

/// Whether an attribute says that there are whiteouts in its directory.
pub(crate) fn is_mark(xattr: &Xattr) -> bool {
    is_of_overlay(xattr) && *xattr.name == *ORIGIN && xattr.value.is_empty()
}

/// Adds what hides a name in the layers below.
fn hide(
    tree: &mut Tree,
    directory: NameId,
    name: &[u8],
    form: Form,
    attributes: Attributes,
) -> Result<(), Problem> {
    let attributes = Attributes {
        xattrs: XattrSet::NONE,
        ..attributes
    };
    match form {
        Form::Overlay => {
            let attributes = Attributes {
                mode: 0,
                ..attributes
            };
            let content = Content::CharDevice(0, 0);
            let inode = tree.add_inode(Inode {
                attributes,
                content,
            })?;
            tree.add_name(directory, name, inode)?;
        }
        Form::Aufs => add_empty_file(tree, directory, &[PREFIX, name].concat(), attributes)?,
        Form::Applied => {}
    }
    Ok(())
}

/// Hides everything in a directory of the layers below.
fn make_opaque_as(
    tree: &mut Tree,
    directory: NameId,
    form: Form,
    attributes: Attributes,
) -> Result<(), Problem> {
    match form {
        Form::Overlay => make_opaque(tree, directory)?,
        Form::Aufs => {
            let attributes = Attributes {
                xattrs: XattrSet::NONE,
                ..attributes
            };
            add_empty_file(tree, directory, OPAQUE, attributes)?;
        }
        Form::Applied => {}
    }
    Ok(())
}

/// Makes a directory opaque, in the form of overlayfs.
///
/// # Errors
///
/// When the tree is full.
pub fn make_opaque(tree: &mut Tree, directory: NameId) -> Result<(), Full> {
    let opaque = tree.xattrs_mut().set([Xattr {
        prefix: xattr_index::TRUSTED,
        name: (*b"overlay.opaque").into(),
        value: (*b"y").into(),
    }])?;
    add_xattrs(tree, tree.inode_of(directory), opaque)
}

fn add_empty_file(
    tree: &mut Tree,
    directory: NameId,
    name: &[u8],
    attributes: Attributes,
) -> Result<(), Problem> {
    if name.len() > NAME_MAX {
        let mut path = tree.path(directory);
        path.push(b'/');
        path.extend_from_slice(name.strip_prefix(PREFIX).unwrap_or(name));
        return Err(Problem::TooLong(path));
    }
    if tree.lookup(directory, name).is_none() {
        let attributes = Attributes {
            mode: 0o644,
            ..attributes
        };
        let content = Content::File {
            blob: 0,
            size: 0,
            data: Data::Contiguous(0),
        };
        let inode = tree.add_inode(Inode {
            attributes,
            content,
        })?;
        tree.add_name(directory, name, inode)?;
    }
    Ok(())
}
