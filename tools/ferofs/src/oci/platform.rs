// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What machine an image is for: operating system, architecture and its variant, in Go's words.

use std::cmp::Reverse;
use std::fmt;

/// What machine an image is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The operating system: `linux`.
    pub os: String,
    /// The architecture: `amd64`.
    pub architecture: String,
    /// Its variant, as `v7` of `arm`.
    pub variant: Option<String>,
}

impl Platform {
    /// Takes `OS/ARCHITECTURE` or `OS/ARCHITECTURE/VARIANT`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let os = parts.next().filter(|part| !part.is_empty())?;
        let architecture = parts.next().filter(|part| !part.is_empty())?;
        let variant = parts.next();
        if variant == Some("") || parts.next().is_some() {
            return None;
        }
        Some(Platform {
            os: os.to_string(),
            architecture: architecture.to_string(),
            variant: variant.map(str::to_string),
        })
    }

    /// That of this machine, without a variant.
    pub fn of_this_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            same => same,
        };
        Platform {
            os: std::env::consts::OS.to_string(),
            architecture: architecture.to_string(),
            variant: None,
        }
    }

    /// How well an image for `self` serves who wants `wanted`: the least serves best, `None` not at
    /// all. A variant that nobody asked for serves if there is nothing better: for ARM of 32 bits
    /// a later one, else an earlier one.
    pub fn rank(&self, wanted: &Platform) -> Option<impl Ord + use<>> {
        if (&self.os, &self.architecture) != (&wanted.os, &wanted.architecture) {
            return None;
        }
        let own = self.plain_variant();
        match wanted.plain_variant() {
            Some(variant) if own != Some(variant) => None,
            Some(_) => Some((false, None, Reverse(None))),
            None => {
                let own = own.map(str::to_string);
                match self.architecture == "arm" {
                    true => Some((own.is_some(), None, Reverse(own))),
                    false => Some((own.is_some(), own, Reverse(None))),
                }
            }
        }
    }

    /// The variant, unless it is the one that everybody means without saying so.
    fn plain_variant(&self) -> Option<&str> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", Some("v8")) | ("amd64", Some("v1")) | (_, Some("")) => None,
            (_, variant) => variant,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn platforms_are_read_and_written() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d"] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_best_platform_is_chosen() {
        for (wanted, offered, best) in [
            (
                "linux/amd64",
                &["linux/386", "linux/amd64"][..],
                Some("linux/amd64"),
            ),
            (
                "linux/amd64",
                &["linux/amd64/v3", "linux/amd64/v2"],
                Some("linux/amd64/v2"),
            ),
            (
                "linux/amd64",
                &["linux/amd64/v3", "linux/amd64"],
                Some("linux/amd64"),
            ),
            (
                "linux/arm",
                &["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"],
                Some("linux/arm/v7"),
            ),
            (
                "linux/arm/v6",
                &["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"],
                Some("linux/arm/v6"),
            ),
            ("linux/arm64", &["linux/arm64/v8"], Some("linux/arm64/v8")),
            ("linux/arm64/v8", &["linux/arm64"], Some("linux/arm64")),
            ("linux/arm/v8", &["linux/arm/v7", "linux/arm"], None),
            ("linux/amd64", &["windows/amd64", "linux/s390x"], None),
        ] {
            let ranked = offered.iter().filter_map(|text| {
                platform(text)
                    .rank(&platform(wanted))
                    .map(|rank| (rank, *text))
            });
            let found = ranked.min_by(|a, b| a.0.cmp(&b.0)).map(|(_, text)| text);
            assert_eq!(found, best, "{wanted} of {offered:?}");
        }
    }
}
