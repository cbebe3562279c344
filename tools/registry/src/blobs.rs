// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Blobs: what layers and configurations are stored as.

use crate::address;
use crate::client::Client;
use crate::client::Host;
use crate::digest::Digest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::manifests::failed;
use crate::transport::Answer;
use crate::transport::Call;
use crate::transport::Failed;
use crate::transport::Tried;
use sha2::Digest as _;
use sha2::Sha256;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::ops::Range;
use ureq::http::Method;

/// So much is read at once.
const PIECE: usize = 64 << 10;

/// A blob as far as it has come.
struct Received<'a> {
    out: &'a mut dyn Write,
    hasher: Sha256,
    /// How many bytes that are.
    done: u64,
    size: u64,
}

impl Client {
    /// Whether there is a blob, and what size it has if the registry says so.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked.
    pub fn has_blob(&self, digest: Digest) -> Result<Option<Option<u64>>> {
        let registry = self.registry()?;
        let uri = registry.uri(&format!("blobs/{digest}"))?;
        let answer = registry.transport.send(&Call::new(Method::HEAD, uri))?;
        match answer.status {
            200 => Ok(Some(answer.length())),
            404 => Ok(None),
            _ => Err(answer.into_error()),
        }
    }

    /// Writes a blob of a known size to `out`. When the connection ends in the middle, the rest is asked for. What was
    /// written before an error is of no use.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked or has no such blob; when it has another size or digest; when it cannot be
    /// written.
    pub fn blob(&self, digest: Digest, size: u64, out: &mut dyn Write) -> Result<()> {
        let mut received = Received {
            out,
            hasher: Sha256::new(),
            done: 0,
            size,
        };
        let call = self.any(|host| host.blob(digest, &mut received))?;
        received.expect(&call, digest)
    }

    /// A whole blob, for those that are small.
    ///
    /// # Errors
    ///
    /// Those of [`Client::blob`]; when its size is more than `most`.
    pub fn small_blob(&self, digest: Digest, size: u64, most: u64) -> Result<Vec<u8>> {
        if size > most {
            return Err(Error::of(
                Kind::TooLarge,
                format!("the blob {digest} has {size} bytes, expected at most {most}"),
            ));
        }
        // Unlike what was written to somebody, this can be begun anew.
        self.any(|host| {
            let mut bytes = Vec::new();
            let mut received = Received {
                out: &mut bytes,
                hasher: Sha256::new(),
                done: 0,
                size,
            };
            let call = host.blob(digest, &mut received)?;
            received.expect(&call, digest)?;
            Ok(bytes)
        })
    }

    /// Part of a blob. Nothing says whether these are the right bytes: whoever asks compares them with something.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked, has no such blob, or it ends before.
    pub fn range(&self, digest: Digest, range: Range<u64>) -> Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.any(|host| host.range(digest, range.clone()))
    }

    /// Stores a blob, unless it is there already. If it is in another repository of the registry, `from`, the registry may
    /// take it from there. Returns its digest.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked or does not take it.
    pub fn push_blob(&self, bytes: &[u8], from: Option<&str>) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.has_blob(digest)?.is_some() {
            return Ok(digest);
        }
        let registry = self.registry()?;
        let mut uri = registry.uri("blobs/uploads/")?;
        if let Some(from) = from {
            let query = format!("mount={digest}&from={}", address::encode(from));
            uri = address::with_query(&uri, &query)?;
        }
        // An upload that fails is begun anew: what was there of it is gone.
        registry.transport.patiently(|last| {
            let call =
                Call::new(Method::POST, uri.clone()).with_body("application/octet-stream", b"");
            let answer = registry.transport.follow(&call)?;
            match answer.status {
                201 => return Ok(Tried::Done(())),
                202 => {}
                _ => return failed(answer, last),
            }
            let location = answer.header("location").ok_or_else(|| {
                let problem = "there is no address to upload to in the answer";
                Error::of(Kind::Answer, problem).about(&call.shown())
            })?;
            let upload = address::join(&answer.uri, location)?;
            let upload = address::with_query(&upload, &format!("digest={digest}"))?;
            let call = Call::new(Method::PUT, upload).with_body("application/octet-stream", bytes);
            let answer = registry.transport.follow(&call)?;
            match answer.status {
                201 => Ok(Tried::Done(())),
                _ => failed(answer, last),
            }
        })?;
        Ok(digest)
    }
}

impl Host {
    /// What is not there yet of a blob. Returns the request, for messages.
    fn blob(&self, digest: Digest, received: &mut Received<'_>) -> Result<String> {
        let uri = self.uri(&format!("blobs/{digest}"))?;
        let shown = Call::new(Method::GET, uri.clone()).shown();
        self.transport.patiently(|last| {
            let mut call = Call::new(Method::GET, uri.clone());
            if received.done > 0 {
                call = call.with("range", format!("bytes={}-", received.done));
            }
            let answer = self.transport.follow(&call)?;
            let start = match answer.status {
                200 => 0,
                206 => start_of(&answer)?,
                _ => return failed(answer, last),
            };
            if start > received.done {
                let done = received.done;
                let problem = format!("{shown}: the answer begins at {start}, expected {done}");
                return Err(Error::of(Kind::Answer, problem).into());
            }
            received.take(answer, start)?;
            Ok(Tried::Done(()))
        })?;
        Ok(shown)
    }

    fn range(&self, digest: Digest, range: Range<u64>) -> Result<Vec<u8>> {
        let uri = self.uri(&format!("blobs/{digest}"))?;
        let last_byte = range.end - 1;
        let call =
            Call::new(Method::GET, uri).with("range", format!("bytes={}-{last_byte}", range.start));
        self.transport.patiently(|last| {
            let answer = self.transport.follow(&call)?;
            let start = match answer.status {
                // Who knows of no ranges sends all of it.
                200 => 0,
                206 => start_of(&answer)?,
                _ => return failed(answer, last),
            };
            let skipped = range.start.checked_sub(start).ok_or_else(|| {
                let expected = range.start;
                let problem = format!("the answer begins at {start}, expected {expected}");
                Error::of(Kind::Answer, problem).about(&call.shown())
            })?;
            let shown = answer.call.clone();
            let network = |error: std::io::Error| Failed::network(&shown, &error);
            let mut reader = answer.reader();
            std::io::copy(&mut reader.by_ref().take(skipped), &mut std::io::sink())
                .map_err(network)?;
            let mut bytes = Vec::new();
            let length = range.end - range.start;
            reader
                .take(length)
                .read_to_end(&mut bytes)
                .map_err(network)?;
            match bytes.len() as u64 == length {
                true => Ok(Tried::Done(bytes)),
                false => Err(network(ErrorKind::UnexpectedEof.into())),
            }
        })
    }
}

/// Where the part of a blob that is sent begins.
fn start_of(answer: &Answer) -> Result<u64> {
    let range = answer.header("content-range").unwrap_or_default();
    let start = || {
        let rest = range.trim().strip_prefix("bytes")?.trim_start();
        rest.split_once('-')?.0.parse().ok()
    };
    start().ok_or_else(|| {
        let (call, range) = (&answer.call, range.escape_debug());
        let problem = format!("{call}: a part of a blob without saying which: \"{range}\"");
        Error::of(Kind::Answer, problem)
    })
}

impl Received<'_> {
    /// Fails unless what came has the digest.
    fn expect(self, call: &str, digest: Digest) -> Result<()> {
        let found = Digest(self.hasher.finalize().into());
        match found == digest {
            true => Ok(()),
            false => Err(Error::of(
                Kind::WrongDigest,
                format!("{call}: its digest is {found}, expected {digest}"),
            )),
        }
    }

    /// Takes an answer that begins at `start` of the blob.
    fn take(&mut self, answer: Answer, start: u64) -> std::result::Result<(), Failed> {
        let call = answer.call.clone();
        let size = self.size;
        let wrong = |found: u64| {
            let problem = format!("{call}: it has {found} bytes or more, expected {size}");
            Failed::from(Error::of(Kind::TooLarge, problem))
        };
        if let Some(found) = answer.length().and_then(|length| start.checked_add(length)) {
            if found > size {
                return Err(wrong(found));
            }
        }
        let mut reader = answer.reader();
        let mut skipped = self.done.saturating_sub(start);
        let mut buffer = vec![0; PIECE];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failed::network(&call, &error)),
            };
            let known = skipped.min(read as u64);
            skipped -= known;
            let piece = buffer.get(known as usize..read).unwrap_or_default();
            let done = self.done.saturating_add(piece.len() as u64);
            if done > size {
                return Err(wrong(done));
            }
            self.out.write_all(piece).map_err(|error| {
                Error::of(Kind::Output, format!("{call}: cannot write it: {error}"))
            })?;
            self.hasher.update(piece);
            self.done = done;
        }
        match self.done == size {
            true => Ok(()),
            false => Err(Failed::network(&call, &ErrorKind::UnexpectedEof.into())),
        }
    }
}
