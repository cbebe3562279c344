// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! POSIX ACLs: from the text that archives have to the bytes that the kernel has in
//! `system.posix_acl_access` and `system.posix_acl_default`.
//!
//! The text is a list of entries like `user:lisa:r-x`, between commas or newlines; some writers
//! add the number of the user or group as a fourth field.

use crate::number;
use crate::text::Quoted;
use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;

/// Tags of entries, in the order that they must have.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;
/// The version in front of the bytes.
const VERSION: u32 = 2;

/// Finds the numbers of users and groups that an ACL names.
#[derive(Default)]
pub struct Names {
    system: bool,
    users: OnceLock<HashMap<Vec<u8>, u32>>,
    groups: OnceLock<HashMap<Vec<u8>, u32>>,
}

impl Names {
    /// Those that this machine has in `/etc/passwd` and `/etc/group`, as tar does it.
    pub fn of_this_machine() -> Self {
        Names {
            system: true,
            ..Names::default()
        }
    }

    fn find(&self, name: &[u8], tag: u16) -> Option<u32> {
        if !self.system {
            return None;
        }
        let (table, path) = match tag {
            USER => (&self.users, "/etc/passwd"),
            _ => (&self.groups, "/etc/group"),
        };
        table
            .get_or_init(|| parse_names(&fs::read(path).unwrap_or_default()))
            .get(name)
            .copied()
    }
}

/// Name and number from lines like `name:x:number:…`.
fn parse_names(file: &[u8]) -> HashMap<Vec<u8>, u32> {
    let mut names = HashMap::new();
    for line in file.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        let id = number::unsigned(id).and_then(|id| u32::try_from(id).ok());
        if let Some(id) = id {
            names.entry(name.to_vec()).or_insert(id);
        }
    }
    names
}

/// An ACL.
#[derive(Debug, PartialEq, Eq)]
pub struct Acl {
    /// Tag, permissions and id, sorted.
    entries: Vec<(u16, u16, u32)>,
}

impl Acl {
    /// Reads an ACL.
    pub fn parse(text: &[u8], names: &Names) -> Result<Self, String> {
        let mut entries = Vec::new();
        for line in text.split(|byte| matches!(byte, b'\n' | b',')) {
            let line = line
                .split(|byte| *byte == b'#')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            if line.is_empty() {
                continue;
            }
            let entry = parse_entry(line, names)
                .map_err(|problem| format!("ACL entry {}: {problem}", Quoted(line)))?;
            entries.push(entry);
        }
        entries.sort_unstable_by_key(|(tag, _, id)| (*tag, *id));
        let acl = Acl { entries };
        acl.check()?;
        Ok(acl)
    }

    fn check(&self) -> Result<(), String> {
        let twice = self.entries.windows(2).any(|pair| match pair {
            [a, b] => (a.0, a.2) == (b.0, b.2),
            _ => false,
        });
        if twice {
            return Err("an ACL has two entries for the same user or group".to_string());
        }
        let has = |wanted: u16| self.entries.iter().any(|(tag, ..)| *tag == wanted);
        let complete = has(USER_OBJ) && has(GROUP_OBJ) && has(OTHER);
        if !self.entries.is_empty() && !complete {
            return Err("an ACL without entries for owner, group and others".to_string());
        }
        if (has(USER) || has(GROUP)) && !has(MASK) {
            return Err("an ACL with users or groups, but without a mask".to_string());
        }
        Ok(())
    }

    /// Whether it has no entries at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it says no more than permission bits can.
    pub fn is_minimal(&self) -> bool {
        self.entries.iter().all(|(tag, ..)| is_of_mode(*tag))
    }

    /// The permission bits of a file with this ACL: those of the owner, of the mask (or the group)
    /// and of others. Set-id and sticky bits stay.
    pub fn mode(&self, mode: u16) -> u16 {
        let of = |wanted: u16| self.entries.iter().find(|(tag, ..)| *tag == wanted);
        let permissions = |entry: Option<&(u16, u16, u32)>| entry.map_or(0, |entry| entry.1);
        let group = of(MASK).or(of(GROUP_OBJ));
        (mode & 0o7000)
            | (permissions(of(USER_OBJ)) << 6)
            | (permissions(group) << 3)
            | permissions(of(OTHER))
    }

    /// The bytes the kernel has for it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in &self.entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }
}

fn parse_entry(line: &[u8], names: &Names) -> Result<(u16, u16, u32), String> {
    let fields: Vec<&[u8]> = line
        .split(|byte| *byte == b':')
        .map(<[u8]>::trim_ascii)
        .collect();
    let (kind, name, permissions, id) = match fields.as_slice() {
        // `mask:rwx` and `other:rwx` may come without an empty field.
        [kind @ (b"mask" | b"m" | b"other" | b"o"), permissions] => {
            (*kind, b"".as_slice(), *permissions, None)
        }
        [kind, name, permissions] => (*kind, *name, *permissions, None),
        [kind, name, permissions, id] => (*kind, *name, *permissions, Some(*id)),
        _ => return Err("expected three fields between colons".to_string()),
    };
    let tag = match (kind, name.is_empty()) {
        (b"user" | b"u", true) => USER_OBJ,
        (b"user" | b"u", false) => USER,
        (b"group" | b"g", true) => GROUP_OBJ,
        (b"group" | b"g", false) => GROUP,
        (b"mask" | b"m", true) => MASK,
        (b"other" | b"o", true) => OTHER,
        _ => return Err("expected user, group, mask or other".to_string()),
    };
    let mut bits = 0;
    for byte in permissions {
        bits |= match byte {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return Err("expected permissions like \"rwx\"".to_string()),
        };
    }
    if !matches!(tag, USER | GROUP) {
        return Ok((tag, bits, NO_ID));
    }
    let number = |text: &[u8]| number::unsigned(text).and_then(|id| u32::try_from(id).ok());
    let id = id
        .and_then(number)
        .or_else(|| number(name))
        .or_else(|| names.find(name, tag));
    match id {
        Some(id) if id != NO_ID => Ok((tag, bits, id)),
        _ => Err("its user or group has no number, and none on this machine".to_string()),
    }
}

/// The bytes of an access ACL that makes sense (see [`problem`]), as they are once a file with it gets these
/// permission bits: on Linux both are one thing. `None` if the permission bits say all that is left of it.
pub fn with_mode(value: &[u8], mode: u16) -> Option<Vec<u8>> {
    let entries = value.get(size_of_val(&VERSION)..)?;
    let has_mask = entries.chunks_exact(8).any(|entry| tag_of(entry) == MASK);
    if entries
        .chunks_exact(8)
        .all(|entry| is_of_mode(tag_of(entry)))
    {
        return None;
    }
    let mut value = value.to_vec();
    for entry in value.get_mut(size_of_val(&VERSION)..)?.chunks_exact_mut(8) {
        let permissions = match tag_of(entry) {
            USER_OBJ => mode >> 6,
            GROUP_OBJ if !has_mask => mode >> 3,
            MASK => mode >> 3,
            OTHER => mode,
            _ => continue,
        };
        let bytes = (permissions & 7).to_le_bytes();
        if let Some(place) = entry.get_mut(2..4) {
            place.copy_from_slice(&bytes);
        }
    }
    Some(value)
}

/// The text of an ACL that makes sense (see [`problem`]), as other archivers write it. Users and groups have their numbers.
pub fn text(value: &[u8]) -> Option<String> {
    if problem(value).is_some() {
        return None;
    }
    let mut text = String::new();
    for entry in value.get(size_of_val(&VERSION)..)?.chunks_exact(8) {
        let (_, rest) = entry.split_first_chunk::<2>()?;
        let (permissions, id) = rest.split_first_chunk::<2>()?;
        let id = u32::from_le_bytes(*id.first_chunk()?);
        let (kind, id) = match tag_of(entry) {
            USER_OBJ => ("user", None),
            USER => ("user", Some(id)),
            GROUP_OBJ => ("group", None),
            GROUP => ("group", Some(id)),
            MASK => ("mask", None),
            _ => ("other", None),
        };
        if !text.is_empty() {
            text.push(',');
        }
        text += kind;
        text.push(':');
        if let Some(id) = id {
            text += &id.to_string();
        }
        text.push(':');
        let permissions = u16::from_le_bytes(*permissions);
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if permissions & bit == 0 { '-' } else { letter });
        }
    }
    Some(text)
}

/// Whether there is no entry in the bytes of an ACL: setting it takes away the one that was there.
pub fn is_empty(value: &[u8]) -> bool {
    value.len() <= size_of_val(&VERSION)
}

fn tag_of(entry: &[u8]) -> u16 {
    match entry {
        [low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

/// Whether it is an entry that permission bits say as well.
fn is_of_mode(tag: u16) -> bool {
    matches!(tag, USER_OBJ | GROUP_OBJ | OTHER)
}

/// What is wrong with the bytes of an ACL, as the kernel would see it: with those it refuses every
/// access to the file.
pub fn problem(value: &[u8]) -> Option<&'static str> {
    let Some((version, entries)) = value.split_first_chunk::<4>() else {
        return Some("is too short for an access control list");
    };
    if u32::from_le_bytes(*version) != VERSION {
        return Some("is an access control list of an unknown version");
    }
    if entries.len() % 8 != 0 {
        return Some("has half an entry");
    }
    let (mut last, mut all) = (0, 0);
    for entry in entries.chunks_exact(8) {
        let [t0, t1, p0, p1, ..] = *entry else {
            continue;
        };
        let tag = u16::from_le_bytes([t0, t1]);
        if ![USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER].contains(&tag) {
            return Some("has an entry of an unknown kind");
        }
        if u16::from_le_bytes([p0, p1]) > 7 {
            return Some("has unknown permissions");
        }
        let several = matches!(tag, USER | GROUP);
        if tag < last || (tag == last && !several) {
            return Some("has entries in a wrong order");
        }
        last = tag;
        all |= tag;
    }
    if all == 0 {
        return None;
    }
    if all & USER_OBJ == 0 || all & GROUP_OBJ == 0 || all & OTHER == 0 {
        return Some("lacks the entry of the owner, the group or the others");
    }
    if all & (USER | GROUP) != 0 && all & MASK == 0 {
        return Some("lacks a mask");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Acl, String> {
        Acl::parse(text.as_bytes(), &Names::default())
    }

    #[test]
    fn texts_come_back() {
        let texts = [
            "user::rwx,group::r-x,other::---",
            "user::rw-,user:0:r--,user:70001:-w-,group::--x,group:4000000000:rwx,mask::rwx,other::r--",
        ];
        for expected in texts {
            let acl = Acl::parse(expected.as_bytes(), &Names::default()).unwrap();
            assert_eq!(text(&acl.bytes()).as_deref(), Some(expected));
        }
        for bad in [
            b"".as_slice(),
            b"\x02\0\0",
            b"\x03\0\0\0",
            &[2, 0, 0, 0, 1, 0, 7, 0],
        ] {
            assert_eq!(text(bad), None);
        }
    }

    #[test]
    fn texts_of_all_writers() {
        let expected = parse("user::rw-,user:7:r--,group::r--,mask::rwx,other::---").unwrap();
        for text in [
            "user::rw-\nuser:7:r--\ngroup::r--\nmask::rwx\nother::---\n",
            "other::---,mask::rwx,group::r--,user:lisa:r--:7,user::rw-",
            "u::rw, g::r, o:, m:rwx, u:7:r # comment",
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&expected), "{text}");
        }
        assert_eq!(expected.mode(0o4000), 0o4670);
        assert!(!expected.is_minimal());
        let bytes = expected.bytes();
        assert_eq!(bytes.len(), 4 + 5 * 8);
        assert_eq!(bytes[..12], [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255]);
        assert_eq!(bytes[12..20], [2, 0, 4, 0, 7, 0, 0, 0]);
    }

    #[test]
    fn minimal_and_empty_ones() {
        let minimal = parse("user::rwx,group::r-x,other::r-x").unwrap();
        assert!(minimal.is_minimal() && !minimal.is_empty());
        assert_eq!(minimal.mode(0), 0o755);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn wrong_ones_are_errors() {
        for text in [
            "user::rwx",
            "user::rwx,group::rwx,other::rwx,user:7:rwx",
            "user::rwx,group::rwx,other::rwx,other::r--",
            "user::rwz,group::rwx,other::rwx",
            "owner::rwx",
            "user:rwx",
            "user::rwx,group::rwx,other::rwx,mask::rwx,user:nobody-knows:rwx",
        ] {
            parse(text).unwrap_err();
        }
    }

    #[test]
    fn names_come_from_the_machine() {
        let names = parse_names(b"root:x:0:0::/root:/bin/sh\nlisa:x:7:7::\nbad\n:x:y:\n");
        assert_eq!(names.get(b"lisa".as_slice()), Some(&7));
        assert_eq!(names.len(), 2);
        let root = Names::of_this_machine().find(b"root", USER);
        assert_eq!(root, Some(0));
    }

    #[test]
    fn access_control_lists_are_what_the_kernel_takes() {
        let acl = |entries: &[(u16, u16)]| {
            let mut value = vec![2, 0, 0, 0];
            for (tag, permissions) in entries {
                value.extend(tag.to_le_bytes());
                value.extend(permissions.to_le_bytes());
                value.extend([0; 4]);
            }
            value
        };
        let good: [&[(u16, u16)]; 4] = [
            &[],
            &[(1, 7), (4, 5), (32, 0)],
            &[(1, 7), (2, 6), (2, 4), (4, 5), (16, 7), (32, 0)],
            &[(1, 7), (4, 5), (8, 1), (16, 7), (32, 0)],
        ];
        for entries in good {
            assert_eq!(problem(&acl(entries)), None, "{entries:?}");
        }
        let bad: [&[(u16, u16)]; 6] = [
            &[(1, 7), (4, 5)],
            &[(1, 8), (4, 5), (32, 0)],
            &[(4, 7), (1, 5), (32, 0)],
            &[(1, 7), (1, 7), (4, 5), (32, 0)],
            &[(1, 7), (2, 6), (4, 5), (32, 0)],
            &[(1, 7), (4, 5), (32, 0), (64, 0)],
        ];
        for entries in bad {
            assert!(problem(&acl(entries)).is_some(), "{entries:?}");
        }
        let whole = acl(&[(1, 7), (4, 5), (32, 0)]);
        assert!(problem(&whole[..whole.len() - 1]).is_some());
        assert!(problem(&[1, 0, 0, 0]).is_some());
        assert!(problem(&[2, 0]).is_some());
    }
}
