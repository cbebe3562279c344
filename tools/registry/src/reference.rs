// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How images in registries are named.

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use std::fmt;

/// Longest tag that registries take.
const TAG_MAX: usize = 128;
/// Longest name with the registry that they take.
const NAME_MAX: usize = 255;

/// The name of an image: `REGISTRY/REPOSITORY[:TAG][@sha256:HEX]`. The registry is always part of it, except that
/// `docker.io` may be called so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry as it is written: a host, possibly with a port.
    pub registry: String,
    /// The repository, without a slash at its beginning.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The sha256 of the manifest or index, which counts more than the tag.
    pub digest: Option<Digest>,
}

/// A lower-case name with separators in it as registries take them: no two dots or three underscores, none at an end.
fn is_component(name: &str) -> bool {
    let separators: Vec<&str> = name
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .collect();
    let inner = separators.len().saturating_sub(1);
    separators.iter().enumerate().all(|(at, text)| {
        let edge = at == 0 || at == inner;
        match *text {
            "" => true,
            "." | "_" | "__" => !edge,
            dashes => !edge && dashes.bytes().all(|byte| byte == b'-'),
        }
    }) && inner > 0
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= TAG_MAX
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// Whether it is a host as registries are named, possibly with a port.
pub fn is_registry(name: &str) -> bool {
    let (host, port) = match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            let ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
            return ipv6 && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => match name.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (name, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    host.split('.').all(label)
        && (host.contains('.') || port.is_some() || host == "localhost")
        && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

impl Reference {
    /// Takes `REGISTRY/REPOSITORY[:TAG][@sha256:HEX]`. The registry has a dot or a port in it, or is `localhost`.
    ///
    /// # Errors
    ///
    /// When it is not of this form.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |problem: &str| {
            Error::of(
                Kind::Request,
                format!(
                    "\"{}\": {problem}; expected a name like registry.example:5000/app:1.0",
                    text.escape_debug()
                ),
            )
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest);
                let problem = "after \"@\" there is no sha256: and 64 hexadecimal digits";
                (rest, Some(digest.ok_or_else(|| wrong(problem))?))
            }
            None => (text, None),
        };
        let (registry, rest) = rest
            .split_once('/')
            .ok_or_else(|| wrong("there is no registry in it"))?;
        if !is_registry(registry) {
            return Err(wrong("it does not begin with a registry"));
        }
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(wrong(&format!("\"{}\" is no tag", tag.escape_debug())));
        }
        if !repository.split('/').all(is_component)
            || registry.len() + 1 + repository.len() > NAME_MAX
        {
            return Err(wrong(&format!(
                "\"{}\" is no repository, which has small letters, digits and single separators",
                repository.escape_debug()
            )));
        }
        let mut repository = repository.to_string();
        if registry == "docker.io" && !repository.contains('/') {
            repository = format!("library/{repository}");
        }
        Ok(Reference {
            registry: registry.to_string(),
            repository,
            tag: tag.map(str::to_string),
            digest,
        })
    }

    /// What the registry knows the manifest by: the digest, or else the tag, or else `latest`.
    pub fn which(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn names_are_taken_apart() {
        let long = format!("r.example/app@sha256:{HEX}");
        let both = format!("r.example/app:1@sha256:{HEX}");
        let digest = format!("sha256:{HEX}");
        let cases = [
            (
                "registry.example:5000/name/space:1.0",
                "registry.example:5000",
                "name/space",
                "1.0",
            ),
            ("localhost/app", "localhost", "app", "latest"),
            (
                "127.0.0.1:5000/a__b/c-d---e.f",
                "127.0.0.1:5000",
                "a__b/c-d---e.f",
                "latest",
            ),
            ("[::1]:5000/app:X_y.z-1", "[::1]:5000", "app", "X_y.z-1"),
            ("docker.io/busybox:1", "docker.io", "library/busybox", "1"),
            ("docker.io/some/app", "docker.io", "some/app", "latest"),
            (long.as_str(), "r.example", "app", digest.as_str()),
            (both.as_str(), "r.example", "app", digest.as_str()),
        ];
        for (text, registry, repository, which) in cases {
            let found = Reference::parse(text).unwrap();
            assert_eq!(found.registry, registry, "{text}");
            assert_eq!(found.repository, repository, "{text}");
            assert_eq!(found.which(), which, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("r.example/{}", "a".repeat(300));
        let tag = format!("r.example/a:{}", "a".repeat(129));
        let cases = [
            "",
            "/",
            "app",
            "app:1.0",
            "host/app",
            "r.example/",
            "r.example//a",
            "r.example/a/",
            "r.example/A",
            "r.example/a..b",
            "r.example/.a",
            "r.example/a_",
            "r.example/a___b",
            "r.example/../a",
            "r.example/a:",
            "r.example/a:.1",
            "r.example/a:b/c",
            "r.example/a?x=1",
            "r.example/a@sha256:12",
            "r.example/a@md5:12",
            "r.example:0x1/a",
            "r.example:70000/a",
            "-r.example/a",
            "user@r.example/a",
            "[::g]:1/a",
            "http://r.example/a",
            "r.example:/a",
            "r.example/a#b",
            "r.example/a%2fb",
            "r.ex\nample/a",
            long.as_str(),
            tag.as_str(),
        ];
        for text in cases {
            let error = Reference::parse(text).expect_err(text);
            assert_eq!(error.kind(), Kind::Request, "{text}");
        }
    }
}
