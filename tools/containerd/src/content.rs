// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! containerd's store of contents: layers are read in its directory, or asked for over its socket where they are not
//! there; layers that are made are written over its socket.
//!
//! containerd does not say which namespace a request is for, and needs to be told one: it is the first part of a
//! snapshot's name. What is written is kept by a lease of an hour, until whoever asked for it names it.

use crate::api::containerd::services::content::v1::AbortRequest;
use crate::api::containerd::services::content::v1::ReadContentRequest;
use crate::api::containerd::services::content::v1::WriteAction;
use crate::api::containerd::services::content::v1::WriteContentRequest;
use crate::api::containerd::services::content::v1::content_client::ContentClient;
use crate::api::containerd::services::leases::v1::CreateRequest;
use crate::api::containerd::services::leases::v1::leases_client::LeasesClient;
use crate::problem::Problem;
use crate::problem::Result;
use ferofs::digest::Digest;
use ferofs::output::Output;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

/// How much is written in one message, in bytes.
const CHUNK: usize = 1 << 20;
/// How long a layer is kept that nobody has named yet.
const LEASE: Duration = Duration::from_secs(3600);

/// The store, as seen from threads that may wait.
#[derive(Clone)]
pub struct Contents {
    directory: PathBuf,
    address: PathBuf,
    /// Where to put what is asked for over the socket while it is used.
    scratch: PathBuf,
    runtime: Handle,
}

/// What is to be written.
pub struct Ingest<'a> {
    /// The name of the snapshot that it is made of.
    pub snapshot: &'a str,
    /// What to call it until it is all there.
    pub reference: &'a str,
    /// The labels that it gets.
    pub labels: &'a HashMap<String, String>,
    /// The lease that keeps it, if the request came with one.
    pub lease: Option<&'a str>,
    /// Its sha256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Contents {
    /// A store with its blobs in a directory and a service at a socket. `scratch` is a directory for files without
    /// names.
    pub fn new(directory: PathBuf, address: PathBuf, scratch: PathBuf, runtime: Handle) -> Self {
        Contents {
            directory,
            address,
            scratch,
            runtime,
        }
    }

    /// Opens a blob, and says what to call it in messages.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open(&self, digest: Digest, snapshot: &str) -> Result<(File, PathBuf)> {
        let path = self.directory.join(format!("blobs/sha256/{digest}"));
        match File::open(&path) {
            Ok(file) => Ok((file, path)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let asked = self.runtime.block_on(self.ask(digest, snapshot));
                asked.map_err(|status| {
                    let (path, text) = (path.display(), status.message());
                    match status.code() {
                        Code::NotFound | Code::Unavailable => Problem::missing(format!(
                            "{path} is not there, and containerd says: {text}"
                        )),
                        _ => Problem::failed(format!("containerd's content {digest}: {text}")),
                    }
                })
            }
            Err(error) => Err(Problem::io("open", &path)(error)),
        }
    }

    async fn ask(
        &self,
        digest: Digest,
        snapshot: &str,
    ) -> std::result::Result<(File, PathBuf), Status> {
        let shown = PathBuf::from(format!("containerd's content sha256:{digest}"));
        let mut client = ContentClient::new(connect(&self.address).await?);
        let request = ReadContentRequest {
            digest: format!("sha256:{digest}"),
            ..ReadContentRequest::default()
        };
        let request = within(Request::new(request), snapshot, None)?;
        let mut messages = client.read(request).await?.into_inner();
        let failed = |error: &dyn std::fmt::Display| Status::unknown(error.to_string());
        let output =
            Output::create_unnamed(&self.scratch.join("content")).map_err(|e| failed(&e))?;
        while let Some(message) = messages.message().await? {
            output
                .file()
                .write_all(&message.data)
                .map_err(|e| failed(&e))?;
        }
        let reader = output.reader().map_err(|e| failed(&e))?;
        Ok((reader, shown))
    }

    /// Writes a layer that was made.
    ///
    /// # Errors
    ///
    /// When containerd does not take it.
    pub fn write(&self, file: &File, ingest: &Ingest<'_>) -> Result<()> {
        let written = self.runtime.block_on(self.send(file, ingest));
        written.map_err(|status| {
            let text = status.message();
            Problem::failed(format!(
                "containerd does not take the layer {}: {text}",
                ingest.digest
            ))
        })
    }

    async fn send(&self, file: &File, ingest: &Ingest<'_>) -> std::result::Result<(), Status> {
        let channel = connect(&self.address).await?;
        let lease = match ingest.lease {
            Some(lease) => lease.to_owned(),
            None => new_lease(&channel, ingest).await?,
        };
        let file = Arc::new(
            file.try_clone()
                .map_err(|error| Status::unknown(error.to_string()))?,
        );
        let mut client = ContentClient::new(channel);
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let (size, reference) = (ingest.size, ingest.reference.to_owned());
        let last = WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: reference.clone(),
            total: i64::try_from(size).unwrap_or(i64::MAX),
            expected: format!("sha256:{}", ingest.digest),
            offset: i64::try_from(size).unwrap_or(i64::MAX),
            data: Vec::new(),
            labels: ingest.labels.clone(),
        };
        let sending = tokio::spawn(async move {
            let mut offset = 0_u64;
            while offset < size {
                let file = Arc::clone(&file);
                let len = usize::try_from(size - offset).unwrap_or(CHUNK).min(CHUNK);
                let read = tokio::task::spawn_blocking(move || {
                    let mut data = vec![0; len];
                    file.read_exact_at(&mut data, offset).map(|()| data)
                });
                let Ok(Ok(data)) = read.await else {
                    return;
                };
                let message = WriteContentRequest {
                    action: WriteAction::Write.into(),
                    r#ref: reference.clone(),
                    offset: i64::try_from(offset).unwrap_or(i64::MAX),
                    data,
                    ..WriteContentRequest::default()
                };
                if sender.send(message).await.is_err() {
                    return;
                }
                offset += len as u64;
            }
            let _ = sender.send(last).await;
        });
        let request = Request::new(ReceiverStream::new(receiver));
        let request = within(request, ingest.snapshot, Some(&lease))?;
        let result = async {
            let mut answers = client.write(request).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                if answer.action() == WriteAction::Commit {
                    return Ok(());
                }
            }
            Err(Status::unknown("it ended before all was written"))
        }
        .await;
        sending.abort();
        match result {
            // Somebody made the same before.
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => {
                let abort = AbortRequest {
                    r#ref: ingest.reference.to_owned(),
                };
                let _ = client
                    .abort(within(Request::new(abort), ingest.snapshot, Some(&lease))?)
                    .await;
                Err(status)
            }
            Ok(()) => Ok(()),
        }
    }
}

async fn new_lease(channel: &Channel, ingest: &Ingest<'_>) -> std::result::Result<String, Status> {
    let mut client = LeasesClient::new(channel.clone());
    let now = SystemTime::now();
    let id = now
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let id = format!("ferofs-{}-{id}", std::process::id());
    let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), rfc3339(now + LEASE))]);
    let request = CreateRequest { id, labels };
    let request = within(Request::new(request), ingest.snapshot, None)?;
    let made = client.create(request).await?.into_inner();
    Ok(made.lease.unwrap_or_default().id)
}

/// A time as containerd's labels have it.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(0);
    prost_types::Timestamp { seconds, nanos: 0 }.to_string()
}

/// Connects to a socket.
pub async fn connect(address: &Path) -> std::result::Result<Channel, Status> {
    let address = address.to_path_buf();
    let shown = address.display().to_string();
    let connector = tower::service_fn(move |_| {
        let address = address.clone();
        async move { UnixStream::connect(address).await.map(TokioIo::new) }
    });
    // The name of the host is for nobody; the connector knows where to go.
    let endpoint = Endpoint::from_static("http://containerd");
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| Status::unavailable(format!("cannot connect to {shown}: {error}")))
}

/// A request in the namespace of a snapshot, and perhaps under a lease.
fn within<T>(
    mut request: Request<T>,
    snapshot: &str,
    lease: Option<&str>,
) -> std::result::Result<Request<T>, Status> {
    let namespace = snapshot
        .split_once('/')
        .map_or("default", |(namespace, _)| namespace);
    let headers: BTreeMap<_, _> = [
        ("containerd-namespace", Some(namespace)),
        ("containerd-lease", lease),
    ]
    .into_iter()
    .filter_map(|(key, value)| value.map(|value| (key, value)))
    .collect();
    for (key, value) in headers {
        let value = value
            .parse()
            .map_err(|_| Status::invalid_argument(format!("{value:?} cannot be a {key}")))?;
        request.metadata_mut().insert(key, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_containerd_reads_them() {
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn the_namespace_is_the_first_part_of_a_name() {
        for (name, expected) in [("k8s.io/17/abc", "k8s.io"), ("alone", "default")] {
            let request = within(Request::new(()), name, Some("lease")).unwrap();
            let value = |key: &str| {
                request
                    .metadata()
                    .get(key)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            };
            assert_eq!(value("containerd-namespace"), expected);
            assert_eq!(value("containerd-lease"), "lease");
        }
    }
}
