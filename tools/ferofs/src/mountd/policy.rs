// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which images the service mounts for whom: lines of a file, each of which allows one image. Called by the service.

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::text::Shown;
use std::fs;
use std::path::Path;

/// What is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// An image that may be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Its fs-verity digest.
    pub digest: Digest,
    /// The users who may mount it, as they are known outside of their user namespaces; all if there are none.
    pub users: Vec<u32>,
    /// Whether none of its programs may be run.
    pub noexec: bool,
}

/// An fs-verity digest as it is in options of mounts: `sha256:` and 64 hexadecimal digits, which may go without the former, or
/// `sha512:` and 128.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest(String);

impl Digest {
    /// Takes such a text.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, digits) = text.split_once(':').unwrap_or(("sha256", text));
        let expected = match kind {
            "sha256" => 64,
            "sha512" => 128,
            _ => return None,
        };
        let right = digits.len() == expected && digits.bytes().all(|c| c.is_ascii_hexdigit());
        right.then(|| Digest(format!("{kind}:{}", digits.to_ascii_lowercase())))
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or a line of it is not understood: then nothing of it holds.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let mut rules = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |what: &str| {
                let path = Shown(path);
                let what = format!("{path}: line {number}: {what}");
                Error::of(Kind::Refused, what)
            };
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                None => continue,
                Some("allow") => {}
                Some(word) => return Err(wrong(&format!("expected \"allow\", found {word:?}"))),
            }
            let digest = words.next().and_then(Digest::parse).ok_or_else(|| {
                wrong("expected an fs-verity digest after \"allow\": sha256: and 64 hexadecimal digits")
            })?;
            let mut rule = Rule {
                digest,
                users: Vec::new(),
                noexec: false,
            };
            for word in words {
                match word.split_once('=') {
                    None if word == "noexec" => rule.noexec = true,
                    Some(("uid", uid)) => match uid.parse() {
                        Ok(uid) => rule.users.push(uid),
                        Err(_) => {
                            return Err(wrong(&format!(
                                "expected a number after uid=, found {uid:?}"
                            )));
                        }
                    },
                    _ => {
                        return Err(wrong(&format!(
                            "expected uid=NUMBER or noexec, found {word:?}"
                        )));
                    }
                }
            }
            rules.push(rule);
        }
        Ok(Policy { rules })
    }

    /// The first line that allows a user an image.
    pub fn find(&self, digest: &Digest, user: u32) -> Option<&Rule> {
        let mut rules = self.rules.iter();
        rules.find(|rule| {
            rule.digest == *digest && (rule.users.is_empty() || rule.users.contains(&user))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy> {
        let path = std::env::temp_dir().join(format!(
            "ferofs-policy-{}-{}",
            std::process::id(),
            text.len()
        ));
        fs::write(&path, text).unwrap();
        let policy = Policy::read(&path);
        fs::remove_file(path).unwrap();
        policy
    }

    #[test]
    fn lines_say_what_is_allowed() {
        let (one, other) = ("a".repeat(64), "B".repeat(64));
        let long = "c".repeat(128);
        let policy = read(&format!(
            "# of the house\n\nallow sha256:{one} uid=1000 uid=1001 noexec # for two\nallow {other}\n  allow sha512:{long}\n"
        ))
        .unwrap();
        let one = Digest::parse(&one).unwrap();
        assert!(policy.find(&one, 1001).unwrap().noexec);
        assert_eq!(policy.find(&one, 1002), None);
        let other = Digest::parse(&format!("sha256:{}", "b".repeat(64))).unwrap();
        assert!(!policy.find(&other, 7).unwrap().noexec);
        assert!(
            policy
                .find(&Digest::parse(&format!("sha512:{long}")).unwrap(), 7)
                .is_some()
        );
        assert_eq!(
            policy.find(&Digest::parse(&"d".repeat(64)).unwrap(), 1000),
            None
        );
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_line() {
        let digest = "a".repeat(64);
        for (text, expected) in [
            ("\ndeny x", "line 2: expected \"allow\", found \"deny\""),
            ("allow", "line 1: expected an fs-verity digest"),
            ("allow sha256:12", "line 1: expected an fs-verity digest"),
            ("allow md5:12", "line 1: expected an fs-verity digest"),
            (
                &format!("allow {digest} uid=x"),
                "expected a number after uid=",
            ),
            (
                &format!("allow {digest} exec"),
                "expected uid=NUMBER or noexec, found \"exec\"",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
