// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which images the service mounts for whom: lines of a file, each of which allows one image, or all that are signed. Called by the
//! service.

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

/// What may be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Which images.
    pub images: Images,
    /// The users who may mount them, as they are known outside of their user namespaces; all if there are none.
    pub users: Vec<u32>,
    /// Whether none of its programs may be run.
    pub noexec: bool,
}

/// Which images a line allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Images {
    /// That with this fs-verity digest.
    Digest(Digest),
    /// Those with a signature, which the kernel has checked.
    Signed,
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
            let images = match words.next() {
                Some("signed") => Some(Images::Signed),
                word => word.and_then(Digest::parse).map(Images::Digest),
            };
            let images = images.ok_or_else(|| {
                wrong(
                    "expected an fs-verity digest after \"allow\", sha256: and 64 hexadecimal digits, or \"signed\"",
                )
            })?;
            let mut rule = Rule {
                images,
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

    /// The first line that allows a user an image. `is_signed` says whether the kernel has checked a signature of it, and is asked
    /// only if it matters.
    ///
    /// # Errors
    ///
    /// Those of `is_signed`.
    pub fn find(
        &self,
        digest: &Digest,
        user: u32,
        is_signed: impl Fn() -> Result<bool>,
    ) -> Result<Option<&Rule>> {
        let is_for = |rule: &&Rule| rule.users.is_empty() || rule.users.contains(&user);
        for rule in self.rules.iter().filter(is_for) {
            let allows = match &rule.images {
                Images::Digest(allowed) => allowed == digest,
                Images::Signed => is_signed()?,
            };
            if allows {
                return Ok(Some(rule));
            }
        }
        Ok(None)
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
        let found = |digest: &str, user| {
            let digest = Digest::parse(digest).unwrap();
            let unasked = || panic!("no line is about signatures");
            let rule = policy.find(&digest, user, unasked).unwrap();
            rule.map(|rule| rule.noexec)
        };
        assert_eq!(found(&one, 1001), Some(true));
        assert_eq!(found(&one, 1002), None);
        assert_eq!(found(&format!("sha256:{}", "b".repeat(64)), 7), Some(false));
        assert_eq!(found(&format!("sha512:{long}"), 7), Some(false));
        assert_eq!(found(&"d".repeat(64), 1000), None);
    }

    #[test]
    fn signatures_are_asked_for_where_a_line_is_about_them() {
        let digest = Digest::parse(&"a".repeat(64)).unwrap();
        let policy = read("allow signed uid=1000 noexec\n").unwrap();
        let signed = |user, is_signed: Option<bool>| {
            let is_signed = || {
                is_signed.ok_or_else(|| Error::of(Kind::Unsupported, "no signatures".to_string()))
            };
            let found = policy.find(&digest, user, is_signed);
            found
                .map(|rule| rule.is_some())
                .map_err(|error| error.to_string())
        };
        assert_eq!(signed(1000, Some(true)), Ok(true));
        assert_eq!(signed(1000, Some(false)), Ok(false));
        assert_eq!(signed(1000, None), Err("no signatures".to_string()));
        assert_eq!(signed(1001, None), Ok(false));
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
