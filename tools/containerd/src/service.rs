// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The services that containerd calls: requests are taken apart and answers put together; what is done is done by
//! [`crate::snapshotter`], [`crate::applier`] and [`crate::comparer`] in threads that may wait for disks.

use crate::api::containerd::services::diff::v1::ApplyRequest;
use crate::api::containerd::services::diff::v1::ApplyResponse;
use crate::api::containerd::services::diff::v1::DiffRequest;
use crate::api::containerd::services::diff::v1::DiffResponse;
use crate::api::containerd::services::diff::v1::diff_server::Diff;
use crate::api::containerd::services::snapshots::v1 as api;
use crate::api::containerd::services::snapshots::v1::snapshots_server::Snapshots;
use crate::applier::Applier;
use crate::catalog::Kind;
use crate::catalog::Labels;
use crate::catalog::Snapshot;
use crate::catalog::Time;
use crate::comparer::Comparer;
use crate::filter::Filters;
use crate::problem::Result;
use crate::snapshotter::Snapshotter;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio_stream::Iter;
use tonic::Request;
use tonic::Response;
use tonic::Status;

/// How many snapshots are listed in one message.
const AT_ONCE: usize = 100;

/// Does something in a thread that may wait.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> std::result::Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|problem| {
            tracing::debug!(%problem, "refused");
            problem.into()
        }),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

fn parent_of(parent: String) -> Option<String> {
    Some(parent).filter(|parent| !parent.is_empty())
}

fn sorted(labels: HashMap<String, String>) -> Labels {
    labels.into_iter().collect()
}

fn timestamp(time: Time) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.0,
        nanos: time.1,
    }
}

fn info(snapshot: Snapshot) -> api::Info {
    let kind = match snapshot.kind {
        Kind::View => api::Kind::View,
        Kind::Active => api::Kind::Active,
        Kind::Committed => api::Kind::Committed,
    };
    api::Info {
        name: snapshot.name,
        parent: snapshot.parent.unwrap_or_default(),
        kind: kind.into(),
        created_at: Some(timestamp(snapshot.created)),
        updated_at: Some(timestamp(snapshot.updated)),
        labels: snapshot.labels.into_iter().collect(),
    }
}

/// The service for snapshots.
pub struct SnapshotService {
    /// What does it.
    pub snapshotter: Arc<Snapshotter>,
    /// Told the number of each snapshot that is a new layer of an image.
    pub committed: UnboundedSender<String>,
}

#[tonic::async_trait]
impl Snapshots for SnapshotService {
    async fn prepare(
        &self,
        request: Request<api::PrepareSnapshotRequest>,
    ) -> std::result::Result<Response<api::PrepareSnapshotResponse>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        let mounts = blocking(move || {
            let parent = parent_of(request.parent);
            here.prepare(&request.key, parent.as_deref(), sorted(request.labels))
        })
        .await?;
        Ok(Response::new(api::PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<api::ViewSnapshotRequest>,
    ) -> std::result::Result<Response<api::ViewSnapshotResponse>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        let mounts = blocking(move || {
            let parent = parent_of(request.parent);
            here.view(&request.key, parent.as_deref(), sorted(request.labels))
        })
        .await?;
        Ok(Response::new(api::ViewSnapshotResponse { mounts }))
    }

    async fn mounts(
        &self,
        request: Request<api::MountsRequest>,
    ) -> std::result::Result<Response<api::MountsResponse>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        let mounts = blocking(move || here.mounts(&request.key)).await?;
        Ok(Response::new(api::MountsResponse { mounts }))
    }

    async fn commit(
        &self,
        request: Request<api::CommitSnapshotRequest>,
    ) -> std::result::Result<Response<()>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        let committed = blocking(move || {
            let parent = parent_of(request.parent);
            let labels = sorted(request.labels);
            here.commit(&request.key, &request.name, parent.as_deref(), labels)
        })
        .await?;
        // Whoever hears of it may be gone; then nothing is prepared.
        let _ = self.committed.send(committed.name);
        self.empty_trash();
        Ok(Response::new(()))
    }

    async fn remove(
        &self,
        request: Request<api::RemoveSnapshotRequest>,
    ) -> std::result::Result<Response<()>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        blocking(move || here.remove(&request.key)).await?;
        self.empty_trash();
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<api::StatSnapshotRequest>,
    ) -> std::result::Result<Response<api::StatSnapshotResponse>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        let snapshot = blocking(move || here.catalog.get(&request.key)).await?;
        let info = Some(info(snapshot));
        Ok(Response::new(api::StatSnapshotResponse { info }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateSnapshotRequest>,
    ) -> std::result::Result<Response<api::UpdateSnapshotResponse>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        let snapshot = blocking(move || {
            let info = request.info.unwrap_or_default();
            let fields = request.update_mask.unwrap_or_default().paths;
            here.catalog
                .update(&info.name, sorted(info.labels), &fields)
        })
        .await?;
        let info = Some(info(snapshot));
        Ok(Response::new(api::UpdateSnapshotResponse { info }))
    }

    type ListStream =
        Iter<std::vec::IntoIter<std::result::Result<api::ListSnapshotsResponse, Status>>>;

    async fn list(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> std::result::Result<Response<Self::ListStream>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        let all = blocking(move || {
            let filters = Filters::parse(&request.filters)?;
            let mut all = here.catalog.all()?;
            all.retain(|snapshot| filters.match_snapshot(snapshot));
            Ok(all)
        })
        .await?;
        let mut messages = Vec::new();
        let mut all = all.into_iter().map(info).peekable();
        while all.peek().is_some() {
            let info = all.by_ref().take(AT_ONCE).collect();
            messages.push(Ok(api::ListSnapshotsResponse { info }));
        }
        Ok(Response::new(tokio_stream::iter(messages)))
    }

    async fn usage(
        &self,
        request: Request<api::UsageRequest>,
    ) -> std::result::Result<Response<api::UsageResponse>, Status> {
        let (request, here) = (request.into_inner(), Arc::clone(&self.snapshotter));
        let (bytes, inodes) = blocking(move || here.usage(&request.key)).await?;
        let signed = |number| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(Response::new(api::UsageResponse {
            size: signed(bytes),
            inodes: signed(inodes),
        }))
    }

    async fn cleanup(
        &self,
        _request: Request<api::CleanupRequest>,
    ) -> std::result::Result<Response<()>, Status> {
        let here = Arc::clone(&self.snapshotter);
        blocking(move || here.places.empty_trash()).await?;
        Ok(Response::new(()))
    }
}

impl SnapshotService {
    /// Removes what was thrown away, without anybody waiting for it.
    fn empty_trash(&self) {
        let places = Arc::clone(&self.snapshotter.places);
        tokio::task::spawn_blocking(move || {
            if let Err(problem) = places.empty_trash() {
                tracing::warn!("{problem}");
            }
        });
    }
}

/// The service that applies layers, and makes them.
pub struct DiffService {
    /// What applies.
    pub applier: Arc<Applier>,
    /// What makes layers.
    pub comparer: Arc<Comparer>,
    /// How many are at work at once: each has a tree of its layer in memory.
    pub permits: Arc<Semaphore>,
}

/// A header of a request, if containerd hands it on.
fn header<T>(request: &Request<T>, key: &str) -> Option<String> {
    let value = request.metadata().get(key)?;
    value.to_str().ok().map(str::to_owned)
}

#[tonic::async_trait]
impl Diff for DiffService {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> std::result::Result<Response<ApplyResponse>, Status> {
        let (request, applier) = (request.into_inner(), Arc::clone(&self.applier));
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let applied = blocking(move || {
            let _permit = permit;
            let descriptor = request.diff.unwrap_or_default();
            applier.apply(&descriptor, &request.mounts, !request.payloads.is_empty())
        })
        .await?;
        let applied = Some(applied);
        Ok(Response::new(ApplyResponse { applied }))
    }

    async fn diff(
        &self,
        request: Request<DiffRequest>,
    ) -> std::result::Result<Response<DiffResponse>, Status> {
        let lease = header(&request, "containerd-lease");
        let (request, comparer) = (request.into_inner(), Arc::clone(&self.comparer));
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let made = blocking(move || {
            let _permit = permit;
            comparer.compare(&request, lease.as_deref())
        })
        .await?;
        Ok(Response::new(DiffResponse { diff: Some(made) }))
    }
}
