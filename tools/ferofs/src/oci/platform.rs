// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What machine an image is for: operating system, architecture and its variant, in Go's words.

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
    /// Takes `OS/ARCHITECTURE`, `OS/ARCHITECTURE/VARIANT`, or without an operating system, which is this machine's
    /// then, an architecture that is known, with or without a variant. Architectures may have the names that
    /// kernels and distributions have for them: see [`Self::normalized`].
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        let of_this_machine = std::env::consts::OS;
        let (os, architecture, variant) = match *parts.as_slice() {
            [architecture] if is_known(architecture) => (of_this_machine, architecture, None),
            [architecture, variant] if is_known(architecture) => {
                (of_this_machine, architecture, Some(variant))
            }
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return None,
        };
        let platform = Platform {
            os: os.to_string(),
            architecture: architecture.to_string(),
            variant: variant.map(str::to_string),
        };
        Some(platform.normalized())
    }

    /// The same in Go's words, as containerd normalizes it: `x86_64` is `amd64`, `aarch64` is `arm64`, `armhf` is
    /// `arm` with the variant `v7`; and variants that everybody means without saying so are left out.
    #[must_use]
    pub fn normalized(self) -> Self {
        let mut os = self.os.to_lowercase();
        if os == "macos" {
            os = "darwin".to_string();
        }
        let architecture = self.architecture.to_lowercase();
        let variant = self.variant.unwrap_or_default().to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "7") => ("arm", "v7"),
            ("arm", "8") => ("arm", "v8"),
            same => same,
        };
        Platform {
            os,
            architecture: architecture.to_string(),
            variant: Some(variant.to_string()).filter(|variant| !variant.is_empty()),
        }
    }

    /// That of this machine, without a variant.
    pub fn of_this_machine() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
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
        .normalized()
    }

    /// How well an image for `self` serves who wants `wanted`: the least serves best, `None` not at
    /// all. A machine of a variant serves for those before it, so the last one up to that is best. A variant that
    /// nobody asked for serves if there is nothing better; ARM of 32 bits is `v7` without one.
    pub fn rank(&self, wanted: &Platform) -> Option<impl Ord + use<>> {
        if (&self.os, &self.architecture) != (&wanted.os, &wanted.architecture) {
            return None;
        }
        let level = |platform: &Platform| -> Option<u32> {
            match platform.variant.as_deref() {
                // Without a variant.
                None => Some(match self.architecture.as_str() {
                    "arm" => 7,
                    "arm64" => 8,
                    "amd64" => 1,
                    _ => 0,
                }),
                Some(variant) => variant.strip_prefix('v')?.parse().ok(),
            }
        };
        let unsaid = wanted.variant.is_none();
        match (level(self), level(wanted)) {
            _ if self.variant == wanted.variant => Some((false, 0)),
            // Earlier ones come first.
            (Some(own), Some(most)) if own <= most => Some((false, most - own)),
            (Some(own), Some(most)) if unsaid => Some((true, own - most)),
            (None, _) if unsaid => Some((true, u32::MAX)),
            _ => None,
        }
    }
}

/// Architectures by names that cannot be those of operating systems.
fn is_known(architecture: &str) -> bool {
    const NAMES: [&str; 22] = [
        "386", "i386", "amd64", "x86_64", "x86-64", "arm", "armhf", "armel", "arm64", "aarch64",
        "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x",
        "wasm", "sparc64", "armbe",
    ];
    NAMES.contains(&architecture.to_lowercase().as_str())
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
        for bad in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/arm/",
            "a/b/c/d",
            "aarch64/",
        ] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
    }

    /// What containerd's platforms.Parse makes of them, but for the last three, which it takes for operating systems.
    #[test]
    fn platforms_are_normalized() {
        let os = std::env::consts::OS;
        for (text, expected) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/X86-64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/9", "linux/arm64/v9"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/8", "linux/arm/v8"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/i386", "linux/386"),
            ("macOS/aarch64", "darwin/arm64"),
            ("aarch64", &format!("{os}/arm64")),
            ("x86_64", &format!("{os}/amd64")),
            ("s390x", &format!("{os}/s390x")),
            ("arm/v8", &format!("{os}/arm/v8")),
            ("arm64/v8", &format!("{os}/arm64")),
            ("amd64/v2", &format!("{os}/amd64/v2")),
        ] {
            assert_eq!(platform(text).to_string(), expected, "{text}");
        }
        assert_eq!(
            Platform::of_this_machine().normalized(),
            Platform::of_this_machine()
        );
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
            ("linux/aarch64", &["linux/arm64/v9"], Some("linux/arm64/v9")),
            // As containerd has it: a later machine runs what is for an earlier one.
            (
                "linux/arm/v8",
                &["linux/arm/v6", "linux/arm/v7"],
                Some("linux/arm/v7"),
            ),
            (
                "linux/amd64/v3",
                &["linux/amd64/v4", "linux/amd64", "linux/amd64/v2"],
                Some("linux/amd64/v2"),
            ),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm"], None),
            (
                "linux/arm",
                &["linux/arm/v8", "linux/arm/v5"],
                Some("linux/arm/v5"),
            ),
            ("linux/amd64/strange", &["linux/amd64/v1"], None),
            (
                "linux/amd64",
                &["linux/amd64/strange"],
                Some("linux/amd64/strange"),
            ),
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
