// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The daemon as containerd sees it, over its socket, as far as nothing has to be mounted: layers are applied and
//! committed, requests that make no sense are refused by their classes, and a daemon that is killed at any moment leaves
//! nothing half done. Judges are GNU tar, gzip and `ferofs check`'s own reading; with a kernel it is tests/peers that
//! looks.

#[allow(dead_code)]
#[path = "../src/api/mod.rs"]
mod api;

use api::containerd::services::diff::v1::ApplyRequest;
use api::containerd::services::diff::v1::DiffRequest;
use api::containerd::services::diff::v1::diff_client::DiffClient;
use api::containerd::services::snapshots::v1 as snapshots;
use api::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use api::containerd::types::Descriptor;
use api::containerd::types::Mount;
use ferofs::build::store_entries;
use ferofs::clusters::Compression;
use ferofs::clusters::Ends;
use ferofs::digest::Digest;
use ferofs::image;
use ferofs::tar::Names;
use ferofs::tar::Reader;
use ferofs::tar::StreamInput;
use ferofs::tree::Tree;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const TARGET: &str = "containerd.io/snapshot.ref";

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("content/blobs/sha256")).unwrap();
        Place(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// Puts a blob where containerd would have it. Returns what names it.
    fn blob(&self, bytes: &[u8], media_type: &str) -> Descriptor {
        let digest = Digest::of(bytes);
        fs::write(self.0.join(format!("content/blobs/sha256/{digest}")), bytes).unwrap();
        Descriptor {
            media_type: media_type.into(),
            digest: format!("sha256:{digest}"),
            size: bytes.len() as i64,
            ..Descriptor::default()
        }
    }

    /// The names of all files of layers.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join("layers")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    async fn start(&self) -> Daemon {
        let config = self.0.join("config.toml");
        let content = self.0.join("content");
        let text = format!(
            "[containerd]\naddress = \"/nonexistent/containerd.sock\"\ncontent = {content:?}\n[layers]\nlinks = false\n"
        );
        fs::write(&config, text).unwrap();
        // A path that is short enough for a socket, wherever this is built.
        let socket = std::env::temp_dir().join(format!(
            "ferofs-{}-{:x}.sock",
            std::process::id(),
            hash(&self.0)
        ));
        let child = Command::new(env!("CARGO_BIN_EXE_containerd-ferofs-grpc"))
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(self.root())
            .arg("--address")
            .arg(&socket)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut daemon = Daemon {
            child,
            socket,
            channel: None,
        };
        let started = Instant::now();
        loop {
            if let Ok(channel) = connect(&daemon.socket).await {
                daemon.channel = Some(channel);
                return daemon;
            }
            assert!(daemon.child.try_wait().unwrap().is_none(), "it ended");
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it does not answer"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn hash(path: &Path) -> u32 {
    let digest = Digest::of(path.as_os_str().as_encoded_bytes());
    u32::from_le_bytes(digest.0[..4].try_into().unwrap())
}

struct Daemon {
    child: Child,
    socket: PathBuf,
    channel: Option<Channel>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_path_buf();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://daemon")
        .connect_with_connector(connector)
        .await
}

fn labels(target: &str) -> HashMap<String, String> {
    [(TARGET.to_owned(), target.to_owned())].into()
}

impl Daemon {
    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone().unwrap())
    }

    async fn prepare(
        &self,
        key: &str,
        parent: &str,
        labels: HashMap<String, String>,
    ) -> Result<Vec<Mount>, Status> {
        let request = snapshots::PrepareSnapshotRequest {
            key: key.into(),
            parent: parent.into(),
            labels,
            ..Default::default()
        };
        Ok(self.snapshots().prepare(request).await?.into_inner().mounts)
    }

    async fn apply(&self, diff: &Descriptor, mounts: Vec<Mount>) -> Result<Descriptor, Status> {
        let request = ApplyRequest {
            diff: Some(diff.clone()),
            mounts,
            ..Default::default()
        };
        let mut client = DiffClient::new(self.channel.clone().unwrap());
        Ok(client.apply(request).await?.into_inner().applied.unwrap())
    }

    async fn commit(
        &self,
        key: &str,
        name: &str,
        parent: &str,
        labels: HashMap<String, String>,
    ) -> Result<(), Status> {
        let request = snapshots::CommitSnapshotRequest {
            key: key.into(),
            name: name.into(),
            parent: parent.into(),
            labels,
            ..Default::default()
        };
        self.snapshots().commit(request).await?;
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), Status> {
        let request = snapshots::RemoveSnapshotRequest {
            key: key.into(),
            ..Default::default()
        };
        self.snapshots().remove(request).await?;
        Ok(())
    }

    async fn list(&self, filter: &str) -> Result<Vec<snapshots::Info>, Status> {
        let filters = Some(filter.to_owned()).filter(|filter| !filter.is_empty());
        let request = snapshots::ListSnapshotsRequest {
            filters: filters.into_iter().collect(),
            ..Default::default()
        };
        let mut stream = self.snapshots().list(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(message) = stream.message().await? {
            all.extend(message.info);
        }
        Ok(all)
    }

    /// A layer of an image, from nothing to a committed snapshot.
    async fn layer(
        &self,
        name: &str,
        parent: &str,
        diff: &Descriptor,
    ) -> Result<Descriptor, Status> {
        let key = format!("default/1/extract-{name}");
        let mounts = self.prepare(&key, parent, labels(name)).await?;
        let applied = self.apply(diff, mounts).await?;
        self.commit(&key, name, "", labels(name)).await?;
        Ok(applied)
    }
}

/// A tar of some files by GNU tar, and the same by gzip.
fn tar(place: &Place, name: &str, files: usize) -> (Vec<u8>, Vec<u8>) {
    let top = place.0.join("files").join(name);
    fs::create_dir_all(top.join("etc")).unwrap();
    for number in 0..files {
        let content = format!("{name} {number}\n").repeat(number * 37 % 5000);
        fs::write(top.join(format!("etc/{number}")), content).unwrap();
    }
    let run = |command: &mut Command| {
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let tar = run(Command::new("tar")
        .arg("-C")
        .arg(&top)
        .args(["--sort=name", "-cf", "-", "."]));
    let file = place.0.join("plain.tar");
    fs::write(&file, &tar).unwrap();
    let gzip = run(Command::new("gzip").arg("-1c").arg(&file));
    (tar, gzip)
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn layers_are_applied_once_and_go_with_their_last_snapshot() {
    let place = Place::new("life");
    let daemon = place.start().await;
    let (plain, gzip) = tar(&place, "base", 20);
    let diff_id = Digest::of(&plain);
    let (plain_diff, gzip_diff) = (
        place.blob(&plain, TAR),
        place.blob(&gzip, &format!("{TAR}+gzip")),
    );

    let applied = daemon.layer("chain-1", "", &gzip_diff).await.unwrap();
    assert_eq!(applied.digest, format!("sha256:{diff_id}"));
    assert_eq!(
        (applied.media_type.as_str(), applied.size),
        (TAR, plain.len() as i64)
    );
    let (index, kept) = (format!("{diff_id}.erofs"), format!("{diff_id}.tar"));
    assert_eq!(place.files(), [index.clone(), kept.clone()]);
    assert!(fs::read(place.root().join("layers").join(&kept)).unwrap() == plain);

    // The same target is there, for anybody.
    let (found, text) = code(daemon.prepare("other/1/x", "", labels("chain-1")).await);
    assert_eq!(
        (found, text.contains("chain-1 already exists")),
        (Code::AlreadyExists, true)
    );
    let filter = format!(r#"labels.{TARGET:?}==chain-1,parent=="""#);
    let listed = daemon.list(&filter).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].name.as_str(), listed[0].kind()),
        ("chain-1", snapshots::Kind::Committed)
    );

    // The same layer on top of itself, plain this time, and without being read: its blob is gone.
    fs::remove_dir_all(place.0.join("content/blobs/sha256")).unwrap();
    let again = daemon
        .layer("chain-2", "chain-1", &plain_diff)
        .await
        .unwrap();
    assert_eq!(again.digest, applied.digest);
    // By its diff ID it need not even be applied.
    let mut known = labels("chain-3");
    known.insert(
        "containerd.io/snapshot/diff-id".into(),
        format!("sha256:{diff_id}"),
    );
    let (found, _) = code(daemon.prepare("default/9/x", "chain-2", known).await);
    assert_eq!(found, Code::AlreadyExists);
    let third = daemon
        .list(&format!(r#"labels.{TARGET:?}==chain-3,parent==chain-2"#))
        .await
        .unwrap();
    assert_eq!(third.len(), 1);

    let usage = snapshots::UsageRequest {
        key: "chain-1".into(),
        ..Default::default()
    };
    let usage = daemon.snapshots().usage(usage).await.unwrap().into_inner();
    assert!(
        usage.size > plain.len() as i64 && usage.inodes == 22,
        "{usage:?}"
    );

    let (found, text) = code(daemon.remove("chain-1").await);
    assert_eq!(
        (found, text.contains("chain-2 is on top of it")),
        (Code::FailedPrecondition, true)
    );
    daemon.remove(&third[0].name).await.unwrap();
    daemon.remove("chain-2").await.unwrap();
    assert_eq!(place.files().len(), 2);
    daemon.remove("chain-1").await.unwrap();
    assert!(place.files().is_empty());
    assert!(daemon.list("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_parent_may_come_with_the_commit() {
    let place = Place::new("rebase");
    let daemon = place.start().await;
    let diffs: Vec<_> = ["one", "two"]
        .map(|name| place.blob(&tar(&place, name, 5).1, &format!("{TAR}+gzip")))
        .into();
    // Both are applied before either is committed, as containerd does in parallel.
    for (number, diff) in diffs.iter().enumerate() {
        let key = format!("default/{number}/extract");
        let mounts = daemon
            .prepare(&key, "", labels(&number.to_string()))
            .await
            .unwrap();
        assert_eq!(mounts[0].r#type, "bind");
        daemon.apply(diff, mounts).await.unwrap();
    }
    daemon
        .commit("default/0/extract", "low", "", labels("0"))
        .await
        .unwrap();
    daemon
        .commit("default/1/extract", "high", "low", labels("1"))
        .await
        .unwrap();
    let listed = daemon.list("name==high").await.unwrap();
    assert_eq!(listed[0].parent, "low");
    // The next one is for a layer, so nothing has to be mounted for it.
    let mounts = daemon
        .prepare("default/2/extract", "high", labels("2"))
        .await
        .unwrap();
    assert_eq!(mounts[0].r#type, "overlay");
    // Nor for who says so by the key alone.
    let key = format!("default/3/extract-1-aB_- sha256:{}", Digest::of(b"3"));
    let mounts = daemon.prepare(&key, "high", HashMap::new()).await.unwrap();
    assert_eq!(mounts[0].r#type, "overlay");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_class() {
    let place = Place::new("refused");
    let daemon = place.start().await;
    let (plain, gzip) = tar(&place, "base", 200);
    let mounts = daemon.prepare("k", "", labels("t")).await.unwrap();
    let elsewhere = vec![Mount {
        r#type: "bind".into(),
        source: "/srv".into(),
        ..Default::default()
    }];
    let gone = vec![Mount {
        r#type: "bind".into(),
        source: format!("{}/snapshots/4711/fs", place.root().display()),
        ..Default::default()
    }];
    let good = place.blob(&gzip, &format!("{TAR}+gzip"));
    let cut = place.blob(&gzip[..gzip.len() / 2], &format!("{TAR}+gzip"));
    let text = place.blob(&b"this is a text, and not a tar\n".repeat(50), TAR);
    let mut wrong = place.blob(&plain, TAR);
    let other = Digest::of(b"another");
    fs::rename(
        place
            .0
            .join(format!("content/blobs/{}", wrong.digest.replace(':', "/"))),
        place.0.join(format!("content/blobs/sha256/{other}")),
    )
    .unwrap();
    wrong.digest = format!("sha256:{other}");
    let typed = |media_type: &str| Descriptor {
        media_type: media_type.into(),
        ..good.clone()
    };
    let missing = Descriptor {
        digest: format!("sha256:{}", Digest::of(b"not there")),
        ..good.clone()
    };
    let image = place.blob(&vec![7; 8192], "application/vnd.erofs.layer.v1");
    for (diff, mounts, expected, part) in [
        (
            &good,
            &elsewhere,
            Code::Unimplemented,
            "none of this snapshotter",
        ),
        (&good, &gone, Code::NotFound, "number 4711 is gone"),
        (
            &typed("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            &mounts,
            Code::Unimplemented,
            "encrypted",
        ),
        (
            &typed("text/plain"),
            &mounts,
            Code::Unimplemented,
            "for another differ",
        ),
        (&cut, &mounts, Code::Unknown, "cannot read"),
        (&text, &mounts, Code::InvalidArgument, "at offset"),
        (&wrong, &mounts, Code::FailedPrecondition, "its sha256 is"),
        (&missing, &mounts, Code::NotFound, "is not there"),
        (&image, &mounts, Code::Unknown, "sha256"),
    ] {
        let (found, text) = code(daemon.apply(diff, mounts.clone()).await);
        if diff.media_type.contains("erofs") {
            // That it is none is said by whoever reads it.
            assert_ne!(found, Code::Ok, "{text}");
        } else {
            assert_eq!((found, text.contains(part)), (expected, true), "{text}");
        }
        assert!(place.files().is_empty(), "{part}: {:?}", place.files());
    }
    let compare = DiffRequest {
        right: elsewhere.clone(),
        ..Default::default()
    };
    let mut client = DiffClient::new(daemon.channel.clone().unwrap());
    let (found, _) = code(client.diff(compare).await);
    assert_eq!(found, Code::Unimplemented);
    let (found, _) = code(daemon.prepare("k", "", HashMap::new()).await);
    assert_eq!(found, Code::AlreadyExists);
    let (found, _) = code(daemon.prepare("x", "none", HashMap::new()).await);
    assert_eq!(found, Code::NotFound);
    let (found, _) = code(daemon.commit("none", "x", "", HashMap::new()).await);
    assert_eq!(found, Code::NotFound);
    let (found, text) = code(daemon.list("name=k").await);
    assert_eq!(
        (found, text.contains("at byte 4")),
        (Code::InvalidArgument, true)
    );
    // And what failed can be done right.
    daemon.apply(&good, mounts).await.unwrap();
    assert_eq!(place.files().len(), 2);
}

/// An image of a tar, its data in it and compressed, in blocks of this size.
fn compressed_image(place: &Place, tar: &[u8], bits: u8) -> Vec<u8> {
    let path = place.0.join("image");
    let new = |path: &Path| {
        let mut open = fs::File::options();
        let open = open.read(true).write(true).create(true).truncate(true);
        open.open(path).unwrap()
    };
    let (file, aside) = (new(&path), new(&place.0.join("aside")));
    let algorithm = ferofs::clusters::codec::Algorithm::parse("zstd").unwrap();
    let options = image::Options::default()
        .with_mode(image::Mode::Full)
        .with_block_bits(bits)
        .with_compression(Some(Compression::new(algorithm).with_ends(Ends::Fragments)));
    let mut tree = Tree::new();
    let mut store = image::Store::new(&file, &aside, None, &options).unwrap();
    let input = StreamInput::without_digest(tar);
    let reader = Reader::new(input, Names::of_this_machine());
    store_entries(reader, &mut tree, &mut store, &mut ()).unwrap();
    store.finish(&mut tree, &options).unwrap();
    fs::read(&path).unwrap()
}

/// Layers that are compressed images are merged, if their blocks are of one size; else each is mounted by itself.
#[tokio::test]
async fn compressed_images_are_merged() {
    let place = Place::new("compressed");
    let mut layers = Vec::new();
    for (name, files, bits) in [("base", 300, 12), ("app", 40, 12), ("small", 40, 9)] {
        let (plain, _) = tar(&place, name, files);
        let bytes = compressed_image(&place, &plain, bits);
        layers.push((
            bytes.len(),
            place.blob(&bytes, "application/vnd.erofs.layer.v1"),
        ));
    }
    let daemon = place.start().await;
    let names = ["", "base", "app", "small"];
    for (pair, (_, diff)) in names.windows(2).zip(&layers) {
        daemon.layer(pair[1], pair[0], diff).await.unwrap();
    }
    let merged = |number: u32| {
        place
            .root()
            .join(format!("snapshots/{number}/merged.erofs"))
    };
    let started = Instant::now();
    while !merged(2).exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "not merged");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let image = ferofs::inspect::Image::open(&merged(2)).unwrap();
    let devices = image.devices().unwrap();
    assert_eq!(devices.len(), 2);
    let layers = place.root().join("layers");
    let files = devices.iter().map(|slot| {
        let name = String::from_utf8(slot.name().to_vec()).unwrap();
        layers.join(format!("{name}.erofs"))
    });
    let files: Vec<PathBuf> = files.collect();
    image.open_devices(&files, &[]).unwrap();
    for (name, file) in [("app", 39), ("base", 299)] {
        let path = place.0.join(format!("files/{name}/etc/{file}"));
        let expected = fs::read(path).unwrap();
        let inode = image.find(format!("etc/{file}").as_bytes()).unwrap();
        let held = ferofs::format::Space::Inode(inode.nid());
        let found = image.read_in(held, 0, expected.len() + 1).unwrap();
        assert!(!expected.is_empty() && found == expected, "{name}");
    }
    // One alone is mounted as it is, and so is what is on top of others with larger blocks.
    assert!(!merged(1).exists() && !merged(3).exists());
}

/// What another differ unpacks becomes an image, and is not there twice.
#[tokio::test]
async fn what_was_unpacked_becomes_an_image() {
    let place = Place::new("unpacked");
    let daemon = place.start().await;
    let target = HashMap::from([(
        String::from("containerd.io/snapshot.ref"),
        String::from("c"),
    )]);
    let mounts = daemon.prepare("k", "", target).await.unwrap();
    let upper = PathBuf::from(&mounts[0].source);
    fs::write(upper.join("hello"), "Hello!").unwrap();
    daemon.commit("k", "c", "", HashMap::new()).await.unwrap();
    let files = place.files();
    assert_eq!(files.len(), 1);
    let path = place.root().join("layers").join(&files[0]);
    let image = ferofs::inspect::Image::open(&path).unwrap();
    assert!(image.find(b"/hello").is_ok());
    assert_eq!(
        files[0],
        format!("{}.erofs", Digest::of(&fs::read(&path).unwrap()))
    );
    assert!(!upper.exists());
}

/// What somebody wrote stays where it was written, also for who has its mounts from before.
#[tokio::test]
async fn what_was_written_stays_where_it_is() {
    let place = Place::new("written");
    let daemon = place.start().await;
    let mounts = daemon.prepare("k", "", HashMap::new()).await.unwrap();
    let lowest = PathBuf::from(&mounts[0].source);
    fs::write(lowest.join("hello"), "Hello!").unwrap();
    daemon.commit("k", "c", "", HashMap::new()).await.unwrap();
    let mounts = daemon.prepare("l", "c", HashMap::new()).await.unwrap();
    let option = |key: &str| {
        let mut options = mounts[0].options.iter();
        PathBuf::from(options.find_map(|option| option.strip_prefix(key)).unwrap())
    };
    assert_eq!(option("lowerdir="), lowest);
    let upper = option("upperdir=");
    fs::write(upper.join("more"), "More.").unwrap();
    daemon.commit("l", "d", "", HashMap::new()).await.unwrap();
    let daemon = {
        drop(daemon);
        place.start().await
    };
    let mounts = daemon.prepare("m", "d", HashMap::new()).await.unwrap();
    let lowers = format!("lowerdir={}:{}", upper.display(), lowest.display());
    assert!(mounts[0].options.contains(&lowers), "{mounts:?}");
    assert_eq!(fs::read(upper.join("more")).unwrap(), b"More.");
    assert!(place.files().is_empty());
    for key in ["m", "d", "c"] {
        daemon.remove(key).await.unwrap();
    }
    assert!(!upper.exists() && !lowest.exists());
}

/// Kills the daemon at many moments of applying, committing and removing. After a restart there are no files that
/// nobody knows, what is known is whole, and the same can be done again.
#[tokio::test]
async fn a_daemon_that_is_killed_leaves_nothing_half_done() {
    let place = Place::new("killed");
    let (plain, gzip) = tar(&place, "base", 300);
    let diff = place.blob(&gzip, &format!("{TAR}+gzip"));
    let diff_id = Digest::of(&plain);
    // How long all of it takes when nobody interferes.
    let whole = {
        let daemon = place.start().await;
        let started = Instant::now();
        daemon.layer("chain", "", &diff).await.unwrap();
        daemon.remove("chain").await.unwrap();
        started.elapsed()
    };
    let (mut interrupted, mut done) = (0, 0);
    for round in 0..60_u32 {
        let mut daemon = place.start().await;
        let work = async {
            daemon.layer("chain", "", &diff).await?;
            daemon.remove("chain").await
        };
        let moment = whole * round / 50;
        tokio::select! {
            result = work => {
                // What was left of the round before may be in its way, and is removed then.
                if result.is_ok() { done += 1 }
            }
            () = tokio::time::sleep(moment) => interrupted += 1,
        }
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        drop(daemon);

        let daemon = place.start().await;
        let listed = daemon.list("").await.unwrap();
        let files = place.files();
        let layered = match files.as_slice() {
            [] => false,
            [index, tar] => {
                assert_eq!(
                    (index, tar),
                    (&format!("{diff_id}.erofs"), &format!("{diff_id}.tar"))
                );
                true
            }
            files => panic!("round {round}: {files:?}"),
        };
        if layered {
            assert!(fs::read(place.root().join("layers").join(&files[1])).unwrap() == plain);
            let index = place.root().join("layers").join(&files[0]);
            assert!(
                ferofs::inspect::Image::open(&index)
                    .unwrap()
                    .find(b"/etc/299")
                    .is_ok()
            );
        }
        let committed = listed
            .iter()
            .filter(|info| info.kind() == snapshots::Kind::Committed)
            .count();
        assert!(
            committed == 0 || layered,
            "round {round}: a snapshot without its layer"
        );
        for info in listed {
            daemon.remove(&info.name).await.unwrap();
        }
        assert!(place.files().is_empty(), "round {round}");
        let directories = fs::read_dir(place.root().join("snapshots"))
            .unwrap()
            .count();
        assert_eq!(directories, 0, "round {round}");
    }
    assert!(interrupted >= 10, "{interrupted} interrupted, {done} done");
}

#[tokio::test]
async fn one_daemon_has_a_store_and_a_socket() {
    let place = Place::new("two");
    let daemon = place.start().await;
    for (root, part) in [
        (place.root(), "another process has it open"),
        (place.0.join("other"), "another daemon listens there"),
    ] {
        let second = Command::new(env!("CARGO_BIN_EXE_containerd-ferofs-grpc"))
            .arg("--root")
            .arg(root)
            .arg("--address")
            .arg(&daemon.socket)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(!second.status.success() && text.contains(part), "{text}");
    }
    let command = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_containerd-ferofs-grpc"))
            .args(["--address"])
            .arg(&daemon.socket)
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (_, gzip) = tar(&place, "base", 3);
    let diff = place.blob(&gzip, &format!("{TAR}+gzip"));
    let applied = daemon.layer("chain", "", &diff).await.unwrap();
    let (good, listing) = command(&["store", "ls"]);
    assert!(
        good && listing.contains(&applied.digest) && listing.contains("chain"),
        "{listing}"
    );
    let (good, text) = command(&["store", "verify"]);
    assert!(
        good && text.contains("1 layers are as they should be, 0 are not"),
        "{text}"
    );
    let tar = place
        .files()
        .into_iter()
        .find(|name| name.ends_with(".tar"))
        .unwrap();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(place.root().join("layers").join(tar))
        .unwrap();
    file.write_all(b"X").unwrap();
    let (good, text) = command(&["store", "verify"]);
    assert!(!good && text.contains("its sha256 is"), "{text}");
    let (good, text) = command(&["store", "gc"]);
    assert!(good && text.contains("removed 0 files"), "{text}");
}

/// The header of an entry without data, as POSIX has it.
fn header(name: &str, is_directory: bool) -> [u8; 512] {
    let mut block = [0; 512];
    let kind = if is_directory { b"5" } else { b"0" };
    for (at, bytes) in [
        (0, name.as_bytes()),
        (100, b"0000755\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, b"00000000000\0"),
        (136, b"14524770400\0"),
        (148, b"        "),
        (156, kind),
        (257, b"ustar\x0000"),
    ] {
        block[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A layer of a million entries: nothing fails, and the memory that it takes is bounded. By hand, with
/// `cargo test -p containerd-ferofs-grpc --test daemon -- --ignored --nocapture`: it takes a gigabyte of disk.
#[tokio::test]
#[ignore = "takes a gigabyte of disk, and a minute"]
async fn a_layer_of_a_million_entries() {
    const ENTRIES: usize = 1_000_000;
    let place = Place::new("million");
    let file = place.0.join("million.tar.gz");
    let mut gzip = Command::new("gzip")
        .arg("-1c")
        .stdin(Stdio::piped())
        .stdout(fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    {
        let mut to = std::io::BufWriter::with_capacity(1 << 20, gzip.stdin.take().unwrap());
        for number in 0..ENTRIES {
            let directory = number / 100 * 100;
            let (name, is_directory) = match number == directory {
                true => (format!("opt/package-{directory}/"), true),
                false => (format!("opt/package-{directory}/file-{number}.txt"), false),
            };
            to.write_all(&header(&name, is_directory)).unwrap();
        }
        to.write_all(&[0; 1024]).unwrap();
        to.flush().unwrap();
    }
    assert!(gzip.wait().unwrap().success());
    let diff = place.blob(&fs::read(&file).unwrap(), &format!("{TAR}+gzip"));
    let daemon = place.start().await;
    let memory = || {
        let path = format!("/proc/{}/status", daemon.child.id());
        let status = fs::read_to_string(path).unwrap();
        ["VmHWM:", "VmRSS:"].map(|key| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap()
                .trim()
                .trim_end_matches(" kB")
                .parse::<u64>()
                .unwrap()
        })
    };
    let before = memory();
    let started = Instant::now();
    let applied = daemon.layer("chain", "", &diff).await.unwrap();
    let elapsed = started.elapsed();
    let [peak, after] = memory();
    println!(
        "{ENTRIES} entries, {} bytes: {elapsed:.1?}; memory before {} KiB, at most {peak} KiB, then {after} KiB",
        applied.size, before[1]
    );
    let usage = snapshots::UsageRequest {
        key: "chain".into(),
        ..Default::default()
    };
    let usage = daemon.snapshots().usage(usage).await.unwrap().into_inner();
    // With the root and `opt`, which nobody described.
    assert_eq!(usage.inodes, ENTRIES as i64 + 2);
    // The image of it alone is made a second later, and is as large.
    let merged = place.root().join("snapshots/1/merged.erofs");
    let started = Instant::now();
    while !merged.exists() {
        assert!(started.elapsed() < Duration::from_secs(300), "not merged");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let [peak, after] = memory();
    println!(
        "merged after {:.1?}: at most {peak} KiB, then {after} KiB",
        started.elapsed()
    );
    assert!(peak < 256 * 1024, "{peak} KiB");
    daemon.remove("chain").await.unwrap();
    assert!(place.files().is_empty());
}
