// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What refers to a manifest without being part of it: signatures, lists of what is in an image, indexes of its layers.
//!
//! Registries know it since version 1.1 of the distribution API. In those that do not, like the one that Debian has, a list
//! under a tag made of the manifest's digest stands for it, as the specification says; two who write that at once may lose
//! what one of them wrote.

use crate::address;
use crate::client::Client;
use crate::client::Host;
use crate::digest::Digest;
use crate::document::ArtifactManifest;
use crate::document::Descriptor;
use crate::document::INDEX_TYPE;
use crate::document::Index;
use crate::document::MANIFEST_TYPE;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::manifests::MANIFEST_MAX;
use crate::transport::Call;
use ureq::http::Method;

/// More pages than this are no list of what belongs to one image.
const PAGES: usize = 100;

/// The tag of the list in registries that know nothing of referrers.
fn fallback(subject: Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn parse<T: serde::de::DeserializeOwned>(call: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::of(Kind::Answer, format!("{call}: {error}")))
}

/// What refers to a manifest and is of a type, in the order of the registry.
///
/// # Errors
///
/// When the registry cannot be asked, or what it answers is no such list.
pub fn list(client: &Client, subject: Digest, artifact_type: &str) -> Result<Vec<Descriptor>> {
    // Mirrors may not have what was stored after the image.
    let found = client.first(|host| {
        let found = list_of(host, subject, artifact_type)?;
        Ok((!found.is_empty()).then_some(found))
    })?;
    Ok(found.unwrap_or_default())
}

fn list_of(host: &Host, subject: Digest, artifact_type: &str) -> Result<Vec<Descriptor>> {
    let mut uri = host.uri(&format!("referrers/{subject}"))?;
    uri = address::with_query(
        &uri,
        &format!("artifactType={}", address::encode(artifact_type)),
    )?;
    let mut found = Vec::new();
    for page in 0..PAGES {
        let call = Call::new(Method::GET, uri.clone()).with("accept", INDEX_TYPE);
        let answer = host.document(&call, MANIFEST_MAX)?;
        let known = answer.filter(|(said, _)| said.media_type == INDEX_TYPE);
        let Some((said, bytes)) = known else {
            if page > 0 {
                let problem = format!("{}: the list ends in the middle", call.shown());
                return Err(Error::of(Kind::Answer, problem));
            }
            return tagged(host, subject, artifact_type);
        };
        let index: Index = parse(&said.call, &bytes)?;
        found.extend(of_type(&said.call, index, artifact_type)?);
        match said.link.as_deref().and_then(next) {
            Some(link) => uri = address::join(&said.uri, link)?,
            None => return Ok(found),
        }
    }
    Err(Error::of(
        Kind::Answer,
        format!("{subject}: the list of what refers to it has more than {PAGES} pages"),
    ))
}

/// The address in a `Link` to the next page.
fn next(link: &str) -> Option<&str> {
    let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters
        .split(';')
        .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
    is_next.then_some(address)
}

fn of_type(call: &str, index: Index, artifact_type: &str) -> Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    for value in index.manifests {
        let descriptor: Descriptor = serde_json::from_value(value)
            .map_err(|error| Error::of(Kind::Answer, format!("{call}: {error}")))?;
        if descriptor.artifact_type.as_deref() == Some(artifact_type) {
            found.push(descriptor);
        }
    }
    Ok(found)
}

/// The same in a registry that knows nothing of referrers.
fn tagged(host: &Host, subject: Digest, artifact_type: &str) -> Result<Vec<Descriptor>> {
    let tag = fallback(subject);
    match host.manifest(&tag, None, INDEX_TYPE)? {
        None => Ok(Vec::new()),
        Some(list) => of_type(&tag, parse(&tag, &list.bytes)?, artifact_type),
    }
}

/// Stores a manifest that has a subject, so that it is found. Returns its digest.
///
/// # Errors
///
/// When the registry cannot be asked or does not take it.
pub fn push(client: &Client, manifest: &ArtifactManifest) -> Result<Digest> {
    let wrong = |problem: String| Error::of(Kind::Request, problem);
    let subject = manifest.subject.as_ref();
    let subject = subject.and_then(|subject| Digest::parse(&subject.digest));
    let subject = subject.ok_or_else(|| wrong("a referrer without a subject".to_string()))?;
    let bytes = serde_json::to_vec(manifest).map_err(|error| wrong(error.to_string()))?;
    let digest = Digest::of(&bytes);
    if client.put_manifest(&digest.to_string(), MANIFEST_TYPE, &bytes)? {
        return Ok(digest);
    }
    let tag = fallback(subject);
    let mut index: Index = match client.registry()?.manifest(&tag, None, INDEX_TYPE)? {
        None => Index::default(),
        Some(list) => parse(&tag, &list.bytes)?,
    };
    let text = digest.to_string();
    let is_it = |value: &serde_json::Value| {
        value.get("digest").and_then(serde_json::Value::as_str) == Some(&text)
    };
    if index.manifests.iter().any(is_it) {
        return Ok(digest);
    }
    let descriptor = Descriptor {
        media_type: MANIFEST_TYPE.to_string(),
        digest: text.clone(),
        size: bytes.len() as u64,
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
    };
    let descriptor = serde_json::to_value(descriptor).map_err(|error| wrong(error.to_string()))?;
    index.manifests.push(descriptor);
    let bytes = serde_json::to_vec(&index).map_err(|error| wrong(error.to_string()))?;
    client.put_manifest(&tag, INDEX_TYPE, &bytes)?;
    Ok(digest)
}
