// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fills a tree from the entries of an archive, in their order, as a container runtime does when
//! it extracts them into an empty root directory.
//!
//! - The last of several entries with one path wins. A directory that is there already keeps what
//!   is in it and takes the new entry's attributes; anything else is replaced, with all below it.
//! - Parents that are missing are made, with mode 0755 and the owner of the directory they are in.
//!   A file where a directory is needed is replaced by one.
//! - A symbolic link on the way is followed inside the root; no entry ends up outside.
//! - A hard link refers to the file that has the target's path at that moment, or, if there is
//!   none yet, at the end of the archive.

use super::Attributes;
use super::Content;
use super::Data;
use super::Full;
use super::Inode;
use super::InodeId;
use super::NAME_MAX;
use super::NameId;
use super::Text;
use super::Tree;
use super::Xattr;
use super::XattrSet;
use super::fingerprint;
use super::path;
use super::path::Step;
use super::whiteouts::PREFIX;
use super::xattrs::is_acl;
use crate::acl;
use crate::digest::Digest;
use crate::tar;
use crate::tar::Entry;
use crate::tar::Error;
use crate::tar::Kind;
use crate::tar::SharedXattrs;
use crate::text::Quoted;
use erofs_format::ondisk::xattr_index;
use erofs_format::split_xattr_name;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

/// More notes than this about one archive help nobody.
const MAX_NOTES: usize = 20;
/// Symbolic links followed on the way to one entry; the kernel's limit.
const MAX_LINKS: u32 = 40;
/// Directories that a path may lead through: as many as fit what Linux takes as a path, and twice that.
const MAX_DEPTH: u32 = 4096;
/// Longest path of an entry.
const MAX_PATH: usize = 65_536;
/// Longest target of a symbolic link.
const SYMLINK_MAX: usize = 4095;
/// How many attributes of a file can be such that it shares with others.
const MAX_SHARED: usize = 255;
/// Largest device numbers that an inode can hold.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// Applies one archive to a tree.
pub struct Applier<'t> {
    tree: &'t mut Tree,
    blob: u16,
    /// The directory that the last entry was in, by its path in the archive.
    last: Option<(Vec<u8>, At)>,
    unresolved: Vec<Unresolved>,
    last_xattrs: LastXattrs,
    left: Work,
    notes: Vec<String>,
    /// Names of attributes that the format has no place for, and that were left out.
    left_out: BTreeSet<Vec<u8>>,
}

/// A directory on the way to an entry.
#[derive(Clone, Copy)]
struct At {
    name: NameId,
    /// How many directories are above it.
    depth: u32,
}

impl At {
    const ROOT: At = At {
        name: NameId::ROOT,
        depth: 0,
    };
}

/// What may still be made of entries that do not have it themselves: some for any archive, and more with each
/// entry. Few bytes can ask for much, by paths through links above all.
struct Work {
    /// Directories that no entry describes.
    implied: Cell<u64>,
    /// Steps of paths, also where symbolic links lead.
    steps: Cell<u64>,
    /// Bytes of attributes that many files have in common, and that are stored with each of them.
    xattrs: Cell<u64>,
}

impl Work {
    /// An entry with a path and a link of so many bytes.
    fn add_entry(&self, bytes: u64) {
        let add = |left: &Cell<u64>, more: u64| left.set(left.get().saturating_add(more));
        add(&self.implied, 6 + bytes / 128);
        add(&self.steps, 32 + bytes);
        add(&self.xattrs, 512 + bytes);
    }

    fn spend(left: &Cell<u64>, used: u64, what: &str) -> Result<(), Refusal> {
        match left.get().checked_sub(used) {
            Some(rest) => {
                left.set(rest);
                Ok(())
            }
            None => refuse(what),
        }
    }

    fn step(&self) -> Result<(), Refusal> {
        let what = "the paths of the entries so far lead through too many directories and links";
        Self::spend(&self.steps, 1, what)
    }
}

/// The attributes of the last entry that had some.
#[derive(Default)]
struct LastXattrs {
    carries: Carries,
    /// Its permission bits, if the attributes depend on them.
    mode: Option<u16>,
    xattrs: SharedXattrs,
    set: XattrSet,
    /// What each file that has them costs.
    bytes: u64,
}

/// A hard link to something that has not been seen yet.
struct Unresolved {
    inode: InodeId,
    offset: u64,
    path: Vec<u8>,
    target: Vec<u8>,
}

/// Which extended attributes Linux lets something have.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Carries {
    #[default]
    All,
    /// All but an ACL for what is made in it.
    NoDefault,
    /// Neither that nor `user.*`.
    NoUser,
    /// Neither `user.*` nor ACLs.
    NoUserAndAcl,
}

impl Carries {
    fn of(kind: &Kind<'_>) -> Self {
        match kind {
            // The attributes of a hard link's entry are not looked at.
            Kind::Directory | Kind::HardLink(_) => Carries::All,
            Kind::File { .. } => Carries::NoDefault,
            Kind::Symlink(_) => Carries::NoUserAndAcl,
            Kind::CharDevice(..) | Kind::BlockDevice(..) | Kind::Fifo | Kind::Socket => {
                Carries::NoUser
            }
        }
    }
}

/// Why an entry cannot be applied.
enum Refusal {
    Full,
    Problem(String),
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Refusal::Full
    }
}

fn refuse<T>(problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Problem(problem.into()))
}

impl Refusal {
    fn at(self, offset: u64, entry: &[u8]) -> Error {
        let problem = match self {
            Refusal::Full => Full.to_string(),
            Refusal::Problem(problem) => problem,
        };
        Error::invalid(offset, problem).of(entry)
    }
}

/// Applies entries from anywhere to a tree, as if they were those of one archive; file data is in
/// blob number `blob`. Returns notes about what was left out.
///
/// # Errors
///
/// When one of them cannot be in any tree, or is a hard link to something that is not there. The
/// tree is of no use then.
pub fn apply_all<'e>(
    tree: &mut Tree,
    blob: u16,
    entries: impl IntoIterator<Item = Entry<'e>>,
) -> Result<Vec<String>, Error> {
    let mut applier = Applier::new(tree, blob);
    for entry in entries {
        applier.apply(&entry)?;
    }
    applier.finish()
}

impl<'t> Applier<'t> {
    /// Applies entries to `tree`; file data is in blob number `blob`.
    pub fn new(tree: &'t mut Tree, blob: u16) -> Self {
        Applier {
            tree,
            blob,
            last: None,
            unresolved: Vec::new(),
            last_xattrs: LastXattrs::default(),
            left: Work {
                implied: Cell::new(1 << 16),
                steps: Cell::new(1 << 20),
                xattrs: Cell::new(64 << 20),
            },
            notes: Vec::new(),
            left_out: BTreeSet::new(),
        }
    }

    /// Applies one entry. Returns the inode that came with it, if it is a regular file.
    ///
    /// # Errors
    ///
    /// When the entry cannot be in any tree. The tree is of no use then.
    pub fn apply(&mut self, entry: &Entry<'_>) -> Result<Option<InodeId>, Error> {
        self.apply_inner(entry)
            .map_err(|refusal| refusal.at(entry.offset, entry.path))
    }

    /// Whether files are to get fingerprints.
    pub fn wants_fingerprints(&self) -> bool {
        self.tree.fingerprint_name().is_some()
    }

    /// Gives the regular file of an entry its fingerprint, or none if it is not known.
    ///
    /// # Errors
    ///
    /// When there are too many. The tree is of no use then.
    pub fn set_fingerprint(
        &mut self,
        entry: u64,
        file: InodeId,
        digest: Option<&Digest>,
    ) -> Result<(), Error> {
        let value = digest.map(fingerprint::value);
        self.tree
            .set_fingerprint(
                file,
                value
                    .as_ref()
                    .map(<[u8; fingerprint::VALUE_SIZE]>::as_slice),
            )
            .map_err(|full| Refusal::from(full).at(entry, b""))
    }

    /// Says where the data of a regular file is, if that is not where its entry has it.
    pub fn set_data(&mut self, file: InodeId, new: Data) {
        if let Content::File { data, .. } = &mut self.tree.inode_mut(file).content {
            *data = new;
        }
    }

    fn apply_inner(&mut self, entry: &Entry<'_>) -> Result<Option<InodeId>, Refusal> {
        // A directory without a name is the root.
        if entry.path.is_empty() && entry.kind != Kind::Directory {
            return refuse("its path is empty");
        }
        if entry.path.contains(&0) {
            return refuse("its path has a NUL in it");
        }
        if entry.path.len() > MAX_PATH {
            let len = entry.path.len();
            return refuse(format!(
                "a path of {len} bytes, expected at most {MAX_PATH}"
            ));
        }
        let link = match entry.kind {
            Kind::HardLink(target) | Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        self.left.add_entry((entry.path.len() + link) as u64);
        let mode = match entry.kind {
            // Linux knows no other permissions of symbolic links.
            Kind::Symlink(_) => 0o777,
            _ => entry.mode,
        };
        let attributes = Attributes {
            mode,
            uid: self.owner(entry, entry.uid),
            gid: self.owner(entry, entry.gid),
            mtime: Some(entry.mtime),
            xattrs: self.xattrs(entry)?,
        };
        let Some((at, name)) = self.place(entry.path, name_max(&entry.kind))? else {
            if entry.kind != Kind::Directory {
                // Runtimes pass over it, too.
                let path = Quoted(entry.path);
                self.note(format!(
                    "entry {path} is left out: its path is the root directory, but it is none"
                ));
                return Ok(None);
            }
            self.describe(NameId::ROOT, attributes)?;
            return Ok(None);
        };
        let directory = at.name;
        let content = match &entry.kind {
            Kind::Directory => {
                self.directory(directory, name, attributes)?;
                return Ok(None);
            }
            Kind::HardLink(target) => {
                self.hard_link(entry, directory, name, target)?;
                return Ok(None);
            }
            Kind::File { size, data } => {
                let data = match data {
                    tar::Data::Contiguous(pos) => Data::Contiguous(*pos),
                    tar::Data::Sparse(segments) => Data::Sparse(segments.as_slice().into()),
                };
                Content::File {
                    blob: self.blob,
                    size: *size,
                    data,
                }
            }
            Kind::Symlink(target) => Content::Symlink(self.symlink(target)?),
            Kind::CharDevice(major, minor) => {
                check_device(*major, *minor)?;
                Content::CharDevice(*major, *minor)
            }
            Kind::BlockDevice(major, minor) => {
                check_device(*major, *minor)?;
                Content::BlockDevice(*major, *minor)
            }
            Kind::Fifo => Content::Fifo,
            Kind::Socket => Content::Socket,
        };
        let file = matches!(content, Content::File { .. });
        let inode = self.tree.add_inode(Inode {
            attributes,
            content,
        })?;
        self.put(directory, name, inode)?;
        Ok(file.then_some(inode))
    }

    /// An owner. What chown(2) takes for "as it is" is what extracting leaves as root made it.
    fn owner(&mut self, entry: &Entry<'_>, id: u32) -> u32 {
        if id != u32::MAX {
            return id;
        }
        let path = Quoted(entry.path);
        self.note(format!(
            "user or group {id} of {path} is nobody's, 0 is taken instead"
        ));
        0
    }

    /// The number of an entry's extended attributes.
    fn xattrs(&mut self, entry: &Entry<'_>) -> Result<XattrSet, Refusal> {
        if entry.xattrs.is_empty() {
            return Ok(XattrSet::NONE);
        }
        let carries = Carries::of(&entry.kind);
        let last = &self.last_xattrs;
        if last.carries == carries
            && last.mode.is_none_or(|mode| mode == entry.mode)
            && (Arc::ptr_eq(&last.xattrs, &entry.xattrs) || last.xattrs == entry.xattrs)
        {
            let (set, bytes) = (last.set, last.bytes);
            self.share_xattrs(bytes)?;
            return Ok(set);
        }
        let mut xattrs = Vec::new();
        let mut mode = None;
        for (name, value) in entry.xattrs.iter() {
            let split = split_xattr_name(name);
            // Of a name like "user." the kernel would not know what is meant.
            let split = split.filter(|(_, rest)| !(rest.is_empty() && name.ends_with(b".")));
            let Some((prefix, rest)) = split else {
                if self.left_out.len() < MAX_NOTES && self.left_out.insert(name.clone()) {
                    let (name, path) = (Quoted(name), Quoted(entry.path));
                    self.note(format!(
                        "extended attribute {name}, first seen at {path}, has no place in EROFS \
                         and is left out"
                    ));
                }
                continue;
            };
            if rest.len() > NAME_MAX || rest.contains(&0) {
                let name = Quoted(name);
                return refuse(format!(
                    "extended attribute {name} has too long a name, or a NUL in it"
                ));
            }
            let problem = match carries {
                _ if value.len() > usize::from(u16::MAX) => {
                    Some("has more than 65535 bytes, for which EROFS has no place,")
                }
                Carries::NoDefault | Carries::NoUser
                    if prefix == xattr_index::POSIX_ACL_DEFAULT =>
                {
                    Some("is one that only directories have")
                }
                Carries::All | Carries::NoDefault | Carries::NoUser if is_acl(prefix) => {
                    acl::problem(value)
                }
                Carries::NoUser | Carries::NoUserAndAcl if prefix == xattr_index::USER => {
                    Some("is one that only files and directories have")
                }
                Carries::NoUserAndAcl if is_acl(prefix) => {
                    Some("is one that symbolic links do not have")
                }
                _ => None,
            };
            if let Some(problem) = problem {
                // Nobody could open the file. Extracting tells and goes on, too.
                let (name, path) = (Quoted(name), Quoted(entry.path));
                self.note(format!(
                    "extended attribute {name} of {path} {problem} and is left out"
                ));
                continue;
            }
            let value: Box<[u8]> = match prefix {
                xattr_index::POSIX_ACL_ACCESS => {
                    mode = Some(entry.mode);
                    match acl::with_mode(value, entry.mode) {
                        Some(value) => value.into(),
                        None => continue,
                    }
                }
                xattr_index::POSIX_ACL_DEFAULT if acl::is_empty(value) => continue,
                _ => value.as_slice().into(),
            };
            let name = rest.into();
            xattrs.push(Xattr {
                prefix,
                name,
                value,
            });
        }
        // An image has attributes of several files once, but not more than so many of one file.
        let bytes = match xattrs.len() {
            0..=MAX_SHARED => 0,
            _ => xattrs
                .iter()
                .map(|xattr| (xattr.name.len() + xattr.value.len()) as u64 + 8)
                .sum(),
        };
        self.share_xattrs(bytes)?;
        let set = self.tree.xattrs_mut().set(xattrs)?;
        self.last_xattrs = LastXattrs {
            carries,
            mode,
            xattrs: Arc::clone(&entry.xattrs),
            set,
            bytes,
        };
        Ok(set)
    }

    fn share_xattrs(&self, bytes: u64) -> Result<(), Refusal> {
        let what = "so many extended attributes have too many files in common";
        Work::spend(&self.left.xattrs, bytes, what)
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }

    fn symlink(&mut self, target: &[u8]) -> Result<Text, Refusal> {
        if target.is_empty() {
            return refuse("a symbolic link without a target");
        }
        if target.contains(&0) {
            return refuse("a symbolic link with a NUL in its target");
        }
        if target.len() > SYMLINK_MAX {
            let len = target.len();
            return refuse(format!(
                "the link's target has {len} bytes, expected at most {SYMLINK_MAX}"
            ));
        }
        Ok(self.tree.keep(target)?)
    }

    /// The directory an entry belongs in, which is made if need be, and its name there; `None` for
    /// the root itself.
    fn place<'p>(
        &mut self,
        path: &'p [u8],
        name_max: impl Fn(&[u8]) -> usize,
    ) -> Result<Option<(At, &'p [u8])>, Refusal> {
        // Entries of one directory mostly follow each other.
        let plain = path::split_plain(path);
        if let (Some((directory, name)), Some((last, at))) = (plain, &self.last) {
            if directory == last {
                check_name(name, name_max(name))?;
                return Ok(Some((*at, name)));
            }
        }
        let parts = path::parts(path);
        let Some((name, parents)) = parts.split_last() else {
            return Ok(None);
        };
        check_name(name, name_max(name))?;
        let mut links = 0;
        let mut at = At::ROOT;
        for part in parents {
            at = self.enter(at, part, &mut links)?;
        }
        // Without `..` the text before the last slash names the same directory every time.
        let plain = plain.filter(|_| !path.windows(2).any(|pair| pair == b".."));
        self.last = plain.map(|(directory, _)| (directory.to_vec(), at));
        Ok(Some((at, name)))
    }

    /// Goes from a directory to one in it that a path leads through, as for any entry.
    ///
    /// # Errors
    ///
    /// When there is no way: symbolic links in a circle, or too long a name.
    pub fn enter_implied(&mut self, at: NameId, part: &[u8]) -> Result<NameId, String> {
        // How deep it is was a matter of the entries that it comes from.
        let at = At { name: at, depth: 0 };
        let entered = self.enter(at, part, &mut 0);
        entered.map(|at| at.name).map_err(|refusal| match refusal {
            Refusal::Full => Full.to_string(),
            Refusal::Problem(problem) => problem,
        })
    }

    /// Goes from a directory to one in it, which is made if it is not there.
    fn enter(&mut self, at: At, part: &[u8], links: &mut u32) -> Result<At, Refusal> {
        self.left.step()?;
        let depth = at.depth + 1;
        if depth > MAX_DEPTH {
            return refuse(format!("more than {MAX_DEPTH} directories above it"));
        }
        if let Some(found) = self.tree.lookup(at.name, part) {
            match self.tree.inode(self.tree.inode_of(found)).content {
                Content::Directory => return Ok(At { name: found, depth }),
                Content::Symlink(target) => return self.follow(at, target, links),
                _ => self.remove(found),
            }
        }
        check_name(part, NAME_MAX)?;
        let what = "the paths of the entries so far lead through too many directories that have no \
                    entry themselves";
        Work::spend(&self.left.implied, 1, what)?;
        let owner = self.tree.inode(self.tree.inode_of(at.name)).attributes;
        let attributes = Attributes {
            mode: 0o755,
            mtime: None,
            xattrs: XattrSet::NONE,
            ..owner
        };
        let inode = self.tree.add_inode(Inode {
            attributes,
            content: Content::Directory,
        })?;
        let name = self.tree.add_name(at.name, part, inode)?;
        Ok(At { name, depth })
    }

    /// Goes to the directory above, at most to the root.
    fn leave(&self, at: At) -> At {
        At {
            name: self.tree.parent(at.name),
            depth: at.depth.saturating_sub(1),
        }
    }

    /// Follows a symbolic link found in `at` to a directory inside the root.
    fn follow(&mut self, at: At, target: Text, links: &mut u32) -> Result<At, Refusal> {
        *links += 1;
        if *links > MAX_LINKS {
            return refuse(format!(
                "more than {MAX_LINKS} symbolic links on the way to it"
            ));
        }
        let target = self.tree.text(target).to_vec();
        let mut at = at;
        for step in path::steps(&target) {
            self.left.step()?;
            at = match step {
                Step::Root => At::ROOT,
                Step::Up => self.leave(at),
                Step::Into(part) => self.enter(at, part, links)?,
            };
        }
        Ok(at)
    }

    /// Finds what has a path, without making anything. A symbolic link at the end is not followed.
    fn find(&self, path: &[u8]) -> Result<Option<NameId>, Refusal> {
        let parts = path::parts(path);
        let mut links = 0;
        let mut at = NameId::ROOT;
        let Some((name, parents)) = parts.split_last() else {
            return Ok(None);
        };
        for part in parents {
            match self.find_directory(at, part, &mut links)? {
                Some(found) => at = found,
                None => return Ok(None),
            }
        }
        Ok(self.tree.lookup(at, name))
    }

    fn find_directory(
        &self,
        at: NameId,
        part: &[u8],
        links: &mut u32,
    ) -> Result<Option<NameId>, Refusal> {
        self.left.step()?;
        let Some(found) = self.tree.lookup(at, part) else {
            return Ok(None);
        };
        let target = match self.tree.inode(self.tree.inode_of(found)).content {
            Content::Directory => return Ok(Some(found)),
            Content::Symlink(target) => self.tree.text(target),
            _ => return Ok(None),
        };
        *links += 1;
        if *links > MAX_LINKS {
            return Ok(None);
        }
        let mut at = at;
        for step in path::steps(target) {
            self.left.step()?;
            at = match step {
                Step::Root => NameId::ROOT,
                Step::Up => self.tree.parent(at),
                Step::Into(part) => match self.find_directory(at, part, links)? {
                    Some(found) => found,
                    None => return Ok(None),
                },
            };
        }
        Ok(Some(at))
    }

    fn remove(&mut self, name: NameId) {
        self.tree.remove_name(name);
        // The remembered directory may be below it, or behind a link that is gone.
        self.last = None;
    }

    /// Gives a directory that is there already the attributes of another entry. Extended ones that
    /// the entry does not have stay, as nobody takes them away; but ACLs are part of the mode.
    fn describe(&mut self, directory: NameId, attributes: Attributes) -> Result<(), Refusal> {
        let inode = self.tree.inode_of(directory);
        let (old, new) = (self.tree.inode(inode).attributes.xattrs, attributes.xattrs);
        let mut attributes = attributes;
        attributes.xattrs = self.tree.xattrs_mut().join(new, old, false)?;
        self.tree.inode_mut(inode).attributes = attributes;
        Ok(())
    }

    fn directory(
        &mut self,
        directory: NameId,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<(), Refusal> {
        if let Some(found) = self.tree.lookup(directory, name) {
            if self.tree.is_directory(found) {
                return self.describe(found, attributes);
            }
            self.remove(found);
        }
        let inode = self.tree.add_inode(Inode {
            attributes,
            content: Content::Directory,
        })?;
        self.tree.add_name(directory, name, inode)?;
        Ok(())
    }

    /// Gives a name to something that is no directory, in place of what had it.
    fn put(&mut self, directory: NameId, name: &[u8], inode: InodeId) -> Result<(), Refusal> {
        if let Some(found) = self.tree.lookup(directory, name) {
            let content = &self.tree.inode(self.tree.inode_of(found)).content;
            if !matches!(content, Content::Directory | Content::Symlink(_)) {
                self.tree.set_inode(found, inode);
                return Ok(());
            }
            self.remove(found);
        }
        self.tree.add_name(directory, name, inode)?;
        Ok(())
    }

    fn hard_link(
        &mut self,
        entry: &Entry<'_>,
        directory: NameId,
        name: &[u8],
        target: &[u8],
    ) -> Result<(), Refusal> {
        if target.is_empty() {
            return refuse("a hard link without a target");
        }
        let own = self.tree.lookup(directory, name);
        let inode = match self.find(target)? {
            // A link to itself changes nothing.
            Some(found) if own == Some(found) => return Ok(()),
            Some(found) if self.tree.is_directory(found) => {
                return refuse(format!("a hard link to the directory {}", Quoted(target)));
            }
            Some(found) => self.tree.inode_of(found),
            None => {
                let attributes = Attributes {
                    mode: 0,
                    uid: 0,
                    gid: 0,
                    mtime: None,
                    xattrs: XattrSet::NONE,
                };
                let content = Content::Unresolved;
                let inode = self.tree.add_inode(Inode {
                    attributes,
                    content,
                })?;
                self.unresolved.push(Unresolved {
                    inode,
                    offset: entry.offset,
                    path: entry.path.to_vec(),
                    target: target.to_vec(),
                });
                inode
            }
        };
        self.put(directory, name, inode)
    }

    /// Ends the archive: hard links to what came later find it now. Returns notes about what was
    /// left out.
    ///
    /// # Errors
    ///
    /// When a hard link's target is not in the archive.
    pub fn finish(self) -> Result<Vec<String>, Error> {
        let mut found: HashMap<InodeId, InodeId> = HashMap::new();
        for link in &self.unresolved {
            let missing = |what: &str| {
                let problem = format!("a hard link to {}, which {what}", Quoted(&link.target));
                Error::invalid(link.offset, problem).of(&link.path)
            };
            let target = self
                .find(&link.target)
                .map_err(|refusal| refusal.at(link.offset, &link.path))?
                .ok_or_else(|| missing("is not in the archive"))?;
            if self.tree.is_directory(target) {
                return Err(missing("is a directory"));
            }
            // It may be a link to something later itself, but not in a circle.
            let inode = last_of(&mut found, self.tree.inode_of(target));
            if inode == link.inode {
                return Err(missing("leads back to itself"));
            }
            found.insert(link.inode, inode);
        }
        if !found.is_empty() {
            for name in &mut self.tree.names {
                name.inode = last_of(&mut found, name.inode);
            }
        }
        Ok(self.notes)
    }
}

/// Where a chain of hard links ends. The way there is made short for those who come later.
fn last_of(links: &mut HashMap<InodeId, InodeId>, first: InodeId) -> InodeId {
    let mut last = first;
    while let Some(next) = links.get(&last) {
        last = *next;
    }
    let mut at = first;
    while let Some(next) = links.get_mut(&at) {
        at = std::mem::replace(next, last);
    }
    last
}

/// How long the name of an entry of this kind may be. That of a whiteout is no file's name, but has one behind its prefix.
fn name_max(kind: &Kind<'_>) -> impl Fn(&[u8]) -> usize + use<> {
    let is_file = matches!(kind, Kind::File { .. });
    move |name| match is_file && name.starts_with(PREFIX) {
        true => NAME_MAX + PREFIX.len(),
        false => NAME_MAX,
    }
}

fn check_name(name: &[u8], most: usize) -> Result<(), Refusal> {
    if name.len() > most {
        let len = name.len();
        return refuse(format!(
            "a name of {len} bytes in its path, expected at most {most}"
        ));
    }
    Ok(())
}

fn check_device(major: u32, minor: u32) -> Result<(), Refusal> {
    if major > MAX_MAJOR || minor > MAX_MINOR {
        return refuse(format!(
            "device number {major}:{minor}, expected at most {MAX_MAJOR}:{MAX_MINOR}"
        ));
    }
    Ok(())
}
