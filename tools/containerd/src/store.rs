// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `containerd-ferofs-grpc store`: what is in the store, for people. A daemon that has the store open is asked over its
//! socket; [`StoreService`] answers there.

use crate::api::store as api;
use crate::api::store::store_server::Store;
use crate::catalog::Form;
use crate::mountpoint::is_mounted;
use crate::service::blocking;
use crate::snapshotter::Snapshotter;
use crate::sweep::sweep;
use ferofs::digest::Background;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;

/// The service.
pub struct StoreService(pub Arc<Snapshotter>);

#[tonic::async_trait]
impl Store for StoreService {
    async fn list(
        &self,
        _request: Request<api::ListRequest>,
    ) -> Result<Response<api::ListResponse>, Status> {
        let here = Arc::clone(&self.0);
        let answer = blocking(move || {
            let layers = here.catalog.layers()?.into_iter();
            let layers = layers.map(|(digest, layer, users)| api::Layer {
                digest: digest.to_string(),
                kind: match layer.form {
                    Form::Tar => "tar".into(),
                    Form::OnDemand => "on demand".into(),
                    Form::Image | Form::Compressed => "image".into(),
                },
                bytes: layer.size,
                index_bytes: layer.index,
                users,
            });
            let snapshots = here.catalog.all()?.into_iter();
            let snapshots = snapshots.map(|snapshot| api::Snapshot {
                mounted: is_mounted(&here.places.lower(snapshot.number)).unwrap_or(false),
                name: snapshot.name,
                parent: snapshot.parent.unwrap_or_default(),
                kind: snapshot.kind.word().into(),
                id: snapshot.number,
                layer: snapshot
                    .layer
                    .map(|layer| layer.to_string())
                    .unwrap_or_default(),
            });
            Ok(api::ListResponse {
                layers: layers.collect(),
                snapshots: snapshots.collect(),
            })
        });
        Ok(Response::new(answer.await?))
    }

    async fn collect(
        &self,
        _request: Request<api::CollectRequest>,
    ) -> Result<Response<api::CollectResponse>, Status> {
        let here = Arc::clone(&self.0);
        let swept = blocking(move || sweep(&here, false)).await?;
        Ok(Response::new(api::CollectResponse {
            files: swept.files,
            bytes: swept.bytes,
        }))
    }

    type VerifyStream = ReceiverStream<Result<api::VerifyResponse, Status>>;

    async fn verify(
        &self,
        _request: Request<api::VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let here = Arc::clone(&self.0);
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let layers = {
            let here = Arc::clone(&here);
            blocking(move || here.catalog.layers()).await?
        };
        tokio::task::spawn_blocking(move || {
            let total = layers.iter().map(|(_, layer, _)| layer.size).sum();
            let mut bytes = 0;
            for (digest, layer, _) in layers {
                let path = match layer.form {
                    // What is not there yet is compared when it comes.
                    Form::OnDemand if !here.places.tar(digest).exists() => continue,
                    Form::Tar | Form::OnDemand => here.places.tar(digest),
                    Form::Image | Form::Compressed => here.places.image(digest),
                };
                let problem = match sha256(&path) {
                    Ok(found) if found == digest => String::new(),
                    Ok(found) => format!("{}: its sha256 is {found}", path.display()),
                    Err(error) => format!("{}: {error}", path.display()),
                };
                bytes += layer.size;
                let answer = api::VerifyResponse {
                    digest: digest.to_string(),
                    problem,
                    bytes,
                    total,
                };
                if sender.blocking_send(Ok(answer)).is_err() {
                    // Nobody wants to know any more.
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn sha256(path: &Path) -> std::io::Result<ferofs::digest::Digest> {
    Background::spawn(File::open(path)?).wait(|_| {})
}
