// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Who asks: names and passwords from the files in which docker, podman and skopeo keep them.

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use data_encoding::BASE64;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;

/// A name and what proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// A token that others are given for, in the password's place.
    pub identity_token: Option<String>,
}

/// Without what is secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What of the file is of use here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Credentials {
    /// Looks for those of a registry, and of a repository before those of all of it: in `$REGISTRY_AUTH_FILE`, or in
    /// docker's file, `config.json` in `$DOCKER_CONFIG` or `~/.docker`. Programs that keep passwords are not asked.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not of the form that it has to be.
    pub fn find(registry: &str, repository: &str) -> Result<Option<Self>> {
        let environment = |name: &str| {
            let value = std::env::var_os(name);
            value.filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        if let Some(path) = environment("REGISTRY_AUTH_FILE") {
            return Self::read(&path, registry, repository);
        }
        let docker = environment("DOCKER_CONFIG");
        let home = || environment("HOME").map(|home| home.join(".docker"));
        let Some(directory) = docker.or_else(home) else {
            return Ok(None);
        };
        Self::read(&directory.join("config.json"), registry, repository)
    }

    /// Looks for them in a file. That there is no such file is no error.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not of the form that it has to be.
    pub fn read(path: &Path, registry: &str, repository: &str) -> Result<Option<Self>> {
        let failed = |problem: String| {
            Error::of(
                Kind::Request,
                format!("{}: {problem}", path.display().to_string().escape_debug()),
            )
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let file: File =
            serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        let Some((key, entry)) = file.entry(registry, repository) else {
            return Ok(None);
        };
        entry
            .credentials()
            .ok_or_else(|| {
                let key = key.escape_debug();
                failed(format!(
                    "\"auth\" of \"{key}\" is no name and password in base64"
                ))
            })
            .map(Some)
    }
}

impl File {
    /// The entry that is the closest.
    fn entry(mut self, registry: &str, repository: &str) -> Option<(String, Entry)> {
        let mut names = Vec::new();
        let mut name = format!("{registry}/{repository}");
        while name.len() > registry.len() {
            names.push(name.clone());
            name.truncate(name.rfind('/').unwrap_or(0));
        }
        names.push(registry.to_string());
        names.push(format!("https://{registry}"));
        names.push(format!("http://{registry}"));
        if registry == "docker.io" {
            names.push("https://index.docker.io/v1/".to_string());
            names.push("index.docker.io".to_string());
        }
        names.into_iter().find_map(|name| {
            let entry = self.auths.remove(&name)?;
            // Who keeps the password elsewhere has an empty one here.
            let empty =
                entry.auth.is_none() && entry.username.is_none() && entry.identitytoken.is_none();
            (!empty).then_some((name, entry))
        })
    }
}

impl Entry {
    fn credentials(self) -> Option<Credentials> {
        let (mut name, mut password) = (
            self.username.unwrap_or_default(),
            self.password.unwrap_or_default(),
        );
        if let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) {
            let text = String::from_utf8(BASE64.decode(auth.as_bytes()).ok()?).ok()?;
            let (first, second) = text.split_once(':')?;
            name = first.to_string();
            password = second.trim_end_matches('\0').to_string();
        }
        Some(Credentials {
            name,
            password,
            identity_token: self.identitytoken.filter(|token| !token.is_empty()),
        })
    }
}
