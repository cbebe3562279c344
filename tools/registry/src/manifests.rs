// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Manifests and lists of them: small documents that images begin with.

use crate::client::Client;
use crate::client::Host;
use crate::digest::Digest;
use crate::document::Descriptor;
use crate::document::INDEX_TYPE;
use crate::document::MANIFEST_TYPE;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::transport::Answer;
use crate::transport::Call;
use crate::transport::Failed;
use crate::transport::Tried;
use ureq::http::Method;

/// Largest manifest that is read; registries take no larger ones.
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// Its sha256.
    pub digest: Digest,
    /// What the registry says that it is.
    pub media_type: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Manifest {
    /// What others refer to it with.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.to_string(),
            size: self.bytes.len() as u64,
            ..Descriptor::default()
        }
    }
}

impl Client {
    /// The manifest or index that a tag or a digest stands for. `None` if there is no such one.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked, or what it gives has another digest.
    pub fn manifest(&self, which: &str) -> Result<Option<Manifest>> {
        let accepted = [
            MANIFEST_TYPE,
            INDEX_TYPE,
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ];
        let wanted = Digest::parse(which);
        if which.contains(':') && wanted.is_none() {
            let which = which.escape_debug();
            let problem =
                format!("\"{which}\": expected sha256: and 64 hexadecimal digits, or a tag");
            return Err(Error::of(Kind::Request, problem));
        }
        self.first(|host| host.manifest(which, wanted, &accepted.join(", ")))
    }

    /// Stores a manifest by its digest, or by a tag. Returns whether the registry says that it took note of its subject.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked or does not take it.
    pub fn put_manifest(&self, which: &str, media_type: &str, bytes: &[u8]) -> Result<bool> {
        let registry = self.registry()?;
        let uri = registry.uri(&format!("manifests/{which}"))?;
        let call = Call::new(Method::PUT, uri).with_body(media_type, bytes);
        let answer = registry.transport.send(&call)?;
        match answer.status {
            201 => Ok(answer.header("oci-subject").is_some()),
            _ => Err(answer.into_error()),
        }
    }
}

impl Host {
    /// A manifest or index, which has the digest that is wanted, if that is known.
    pub fn manifest(
        &self,
        which: &str,
        wanted: Option<Digest>,
        accepted: &str,
    ) -> Result<Option<Manifest>> {
        let uri = self.uri(&format!("manifests/{which}"))?;
        let call = Call::new(Method::GET, uri).with("accept", accepted);
        let Some((answer, bytes)) = self.document(&call, MANIFEST_MAX)? else {
            return Ok(None);
        };
        let digest = Digest::of(&bytes);
        // By a tag there is nothing else to compare with.
        let said = answer.digest.as_deref().and_then(Digest::parse);
        let expected = wanted.or(said);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::of(
                Kind::WrongDigest,
                format!(
                    "{}: its digest is {digest}, expected {expected}",
                    answer.call
                ),
            ));
        }
        Ok(Some(Manifest {
            digest,
            media_type: answer.media_type,
            bytes,
        }))
    }

    /// Gets a document of any kind, whole or again.
    pub fn document(&self, call: &Call<'_>, most: u64) -> Result<Option<(Said, Vec<u8>)>> {
        self.transport.patiently(|last| {
            let answer = self.transport.follow(call)?;
            match answer.status {
                404 => return Ok(Tried::Done(None)),
                200 => {}
                _ => return failed(answer, last),
            }
            let said = Said::new(&answer);
            let bytes = answer
                .bytes(most)
                .map_err(|error| Failed::network(&said.call, &error))?;
            let bytes = bytes.map_err(|size| {
                Error::of(
                    Kind::TooLarge,
                    format!(
                        "{}: {size} bytes or more, expected at most {most}",
                        said.call
                    ),
                )
            })?;
            Ok(Tried::Done(Some((said, bytes))))
        })
    }
}

/// What comes with a document.
pub(crate) struct Said {
    pub media_type: String,
    pub digest: Option<String>,
    pub link: Option<String>,
    pub uri: ureq::http::Uri,
    pub call: String,
}

impl Said {
    fn new(answer: &Answer) -> Self {
        let header = |name: &str| answer.header(name).map(str::to_string);
        let media_type = header("content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default();
        Said {
            media_type: media_type.trim().to_string(),
            digest: header("docker-content-digest"),
            link: header("link"),
            uri: answer.uri.clone(),
            call: answer.call.clone(),
        }
    }
}

/// What an answer that is an error comes to.
pub(crate) fn failed<T>(answer: Answer, last: bool) -> std::result::Result<Tried<T>, Failed> {
    match answer.wait() {
        Some(wait) if !last => Ok(Tried::Again(wait)),
        _ => Err(answer.into_error().into()),
    }
}
