// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Indexes of layers in a registry, which is in this program: what is pushed comes back, and what is wrong does not get a
//! name.

#![cfg(feature = "registry")]
#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::layout;
use common::layout::Layout;
use ferofs::build::apply_archive;
use ferofs::digest::Digest;
use ferofs::error::Kind;
use ferofs::error::Result;
use ferofs::image::source::Nothing;
use ferofs::index;
use ferofs::oci;
use ferofs::oci::Platform;
use ferofs::oci::layers;
use ferofs::oci::layers::Places;
use ferofs::oci::remote::INDEX_SIZE;
use ferofs::oci::remote::Options;
use ferofs::oci::remote::Pull;
use ferofs::oci::remote::Pulled;
use ferofs::oci::remote::Reference;
use ferofs::oci::remote::Remote;
use ferofs::tar::StreamInput;
use ferofs::tree::Tree;
use std::collections::HashMap;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Cursor;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// What is stored, by its path without the repository.
type Stored = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A registry that believes everything, and knows nothing of referrers.
struct Registry {
    address: String,
    stored: Stored,
    meeting: Arc<Meeting>,
}

/// Where those who ask for blobs wait for each other.
#[derive(Default)]
struct Meeting {
    state: Mutex<Met>,
    came: Condvar,
}

#[derive(Default)]
struct Met {
    wanted: usize,
    there: usize,
    /// Whether somebody has waited for nobody.
    alone: bool,
}

impl Meeting {
    fn wait(&self) {
        let mut met = self.state.lock().unwrap();
        met.there += 1;
        self.came.notify_all();
        let waiting = |met: &mut Met| met.there < met.wanted;
        let waited = self
            .came
            .wait_timeout_while(met, Duration::from_secs(20), waiting);
        let (mut met, result) = waited.unwrap();
        met.alone |= result.timed_out();
    }
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stored = Stored::default();
        let meeting = Arc::new(Meeting::default());
        let served = (Arc::clone(&stored), Arc::clone(&meeting));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stored, meeting) = served.clone();
                thread::spawn(move || answer(&stream.unwrap(), &stored, &meeting));
            }
        });
        Registry {
            address,
            stored,
            meeting,
        }
    }

    /// Takes all that a layout has, and one of its manifests by the tag 1.
    fn take(&self, layout: &Layout, tagged: Digest) {
        let mut stored = self.stored.lock().unwrap();
        for entry in fs::read_dir(layout.0.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let bytes = fs::read(entry.path()).unwrap();
            stored.insert(format!("manifests/sha256:{name}"), bytes.clone());
            stored.insert(format!("blobs/sha256:{name}"), bytes);
        }
        let bytes = stored[&format!("manifests/sha256:{tagged}")].clone();
        stored.insert("manifests/1".to_string(), bytes);
    }

    fn find(&self, platform: Option<&str>) -> Result<Remote> {
        let reference = Reference::parse(&format!("{}/some/app:1", self.address)).unwrap();
        let platform = platform.map(|platform| Platform::parse(platform).unwrap());
        let options = Options::default().with_plain_http(true);
        Remote::find(&reference, platform.as_ref(), options)
    }

    /// Stores bytes as a blob or a manifest, and returns their digest and size as a descriptor has them.
    fn put(&self, kind: &str, bytes: Vec<u8>) -> (String, usize) {
        let digest = format!("sha256:{}", Digest::of(&bytes));
        let size = bytes.len();
        let mut stored = self.stored.lock().unwrap();
        stored.insert(format!("{kind}/{digest}"), bytes);
        (digest, size)
    }

    /// Changes what the only artifact is: its manifest is given, and replaced.
    fn change(&self, subject: Digest, change: impl FnOnce(&mut serde_json::Value)) {
        let tag = format!("manifests/sha256-{subject}");
        let list = self.stored.lock().unwrap()[&tag].clone();
        let mut list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        let entry = &mut list["manifests"][0];
        let path = format!("manifests/{}", entry["digest"].as_str().unwrap());
        let bytes = self.stored.lock().unwrap()[&path].clone();
        let mut artifact: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        change(&mut artifact);
        let (digest, size) = self.put("manifests", artifact.to_string().into_bytes());
        entry["digest"] = digest.into();
        entry["size"] = size.into();
        self.stored
            .lock()
            .unwrap()
            .insert(tag, list.to_string().into_bytes());
    }

    /// Puts other bytes in the place of a layer's index.
    fn exchange(&self, layer: &mut serde_json::Value, stored: Vec<u8>, size: usize) {
        let (digest, length) = self.put("blobs", stored);
        layer["digest"] = digest.into();
        layer["size"] = length.into();
        layer["annotations"][INDEX_SIZE] = size.to_string().into();
    }
}

fn answer(stream: &TcpStream, stored: &Stored, meeting: &Meeting) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut words = line.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return;
    };
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        match header.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = path.trim_start_matches("/v2/some/app/");
    if method == "GET" && path.starts_with("blobs/") {
        meeting.wait();
    }
    let mut stored = stored.lock().unwrap();
    let (status, header, sent) = match (method, path.split_once('?')) {
        ("POST", _) => (202, "Location: /upload?x=y".to_string(), Vec::new()),
        ("PUT", Some(("/upload", query))) => {
            let (_, digest) = query.split_once("digest=").unwrap();
            stored.insert(format!("blobs/{digest}"), body);
            (201, String::new(), Vec::new())
        }
        ("PUT", _) => {
            let digest = Digest::of(&body);
            stored.insert(format!("manifests/sha256:{digest}"), body.clone());
            stored.insert(path.to_string(), body);
            (201, String::new(), Vec::new())
        }
        _ => match stored.get(path) {
            Some(bytes) => {
                let parsed: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
                let is_list = parsed.is_some_and(|parsed| parsed.get("manifests").is_some());
                let media_type = if is_list {
                    layout::INDEX
                } else {
                    layout::MANIFEST
                };
                (200, format!("Content-Type: {media_type}"), bytes.clone())
            }
            None => (404, String::new(), Vec::new()),
        },
    };
    let mut text = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n");
    text.push_str(&format!("Content-Length: {}\r\n", sent.len()));
    if !header.is_empty() {
        text.push_str(&format!("{header}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if method != "HEAD" {
        bytes.extend(sent);
    }
    let mut stream = stream;
    // Who asked may have had enough.
    let _ = stream.write_all(&bytes);
}

fn tar(number: usize) -> Vec<u8> {
    Archive::new()
        .directory("./d/")
        .file("./d/same", &format!("of layer {number}"))
        .file(&format!("./d/only{number}"), "here")
        .end()
}

/// An image of two layers, one of them compressed and there twice, with the indexes of `ferofs build` in `built`.
struct Made {
    scratch: Scratch,
    registry: Registry,
    subject: Digest,
    /// Of the compressed layer.
    diff_id: Digest,
}

impl Made {
    fn new() -> Self {
        let scratch = Scratch::new();
        let layout = Layout::new(scratch.join("app"));
        let tars = [tar(0), tar(1), tar(0)];
        let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
        let compressed = layout.blob(layout::LAYER_GZIP, &layout::gzip(tars[0]));
        let layers = [
            compressed.clone(),
            layout.blob(layout::LAYER, tars[1]),
            compressed,
        ];
        let config = layout.config("linux/amd64", &tars);
        let manifest = layout.manifest(&config, &layers);
        layout.index(std::slice::from_ref(&manifest));
        let registry = Registry::start();
        registry.take(&layout, manifest.digest);
        let name = format!("oci:{}", layout.0.display());
        let reference = oci::Reference::parse(Path::new(&name)).unwrap().unwrap();
        let image = oci::open(&reference, None).unwrap();
        let directory = scratch.join("built");
        let prepared = layers::prepare(&image, Places::new(&directory), &|_| {}).unwrap();
        prepared.keep().unwrap();
        Made {
            scratch,
            registry,
            subject: manifest.digest,
            diff_id: Digest::of(tars[0]),
        }
    }

    fn pushed() -> Self {
        let made = Self::new();
        made.push().unwrap();
        made
    }

    fn push(&self) -> Result<Digest> {
        let remote = self.registry.find(None)?;
        assert_eq!(remote.digest(), self.subject);
        Ok(remote.push(&self.scratch.join("built"), &|_| {})?.digest)
    }

    fn pull(&self, verify: bool) -> Result<Vec<Pulled>> {
        let directory = self.scratch.join("pulled");
        let search = [self.scratch.join("built")];
        let pull = Pull::new(&directory)
            .with_search(&search)
            .with_verify(verify);
        self.registry
            .find(None)?
            .pull(pull.with_most(1 << 20), &|_| {})
    }

    fn index(&self, directory: &str) -> PathBuf {
        self.scratch
            .join(&format!("{directory}/{}.erofs", self.diff_id))
    }

    /// The layer's index that the registry has, in the artifact's manifest.
    fn change(&self, change: impl FnOnce(&mut serde_json::Value)) {
        self.registry.change(self.subject, |artifact| {
            let diff_id = format!("sha256:{}", self.diff_id);
            let layers = artifact["layers"].as_array_mut().unwrap();
            let mut layers = layers.iter_mut();
            change(
                layers
                    .find(|layer| layer.to_string().contains(&diff_id))
                    .unwrap(),
            );
        });
    }

    /// An index of some other files, which says that it is of the layer.
    fn lie(&self) -> Vec<u8> {
        let other = tar(7);
        let mut tree = Tree::new();
        let archive = apply_archive(StreamInput::new(&other[..]), &mut tree, 0, &mut ()).unwrap();
        let mut totals = archive.totals;
        totals.digest = Some(self.diff_id);
        let mut image = Cursor::new(Vec::new());
        index::write_tree(tree, totals, &Nothing, &mut image).unwrap();
        image.into_inner()
    }
}

#[test]
fn what_is_pushed_comes_back() {
    let made = Made::new();
    let artifact = made.push().unwrap();
    // The same once more is the same artifact, and no further one.
    assert_eq!(made.push().unwrap(), artifact);
    let list =
        made.registry.stored.lock().unwrap()[&format!("manifests/sha256-{}", made.subject)].clone();
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
    for verify in [false, true] {
        let pulled = made.pull(verify).unwrap();
        assert_eq!(pulled.len(), 3);
        assert_eq!(pulled[0], pulled[2]);
        for layer in &pulled {
            let built = made.scratch.join(&format!("built/{}.erofs", layer.diff_id));
            assert!(fs::read(&layer.index).unwrap() == fs::read(built).unwrap());
            assert_eq!(layer.reused, verify);
            assert!(layer.notes.is_empty());
        }
    }
}

#[test]
fn indexes_of_several_layers_are_got_at_once() {
    let made = Made::pushed();
    let image = made.registry.find(None).unwrap();
    let meeting = &made.registry.meeting;
    *meeting.state.lock().unwrap() = Met {
        wanted: 2,
        ..Met::default()
    };
    let pulled = made.scratch.join("pulled");
    image.pull(Pull::new(&pulled), &|_| {}).unwrap();
    let met = meeting.state.lock().unwrap();
    assert!(met.there == 2 && !met.alone);
}

/// The files of a directory, by their names.
#[cfg(feature = "points")]
fn files(directory: &Path) -> HashMap<std::ffi::OsString, Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let file = |entry: fs::DirEntry| (entry.file_name(), fs::read(entry.path()).unwrap());
    entries.map(|entry| file(entry.unwrap())).collect()
}

#[cfg(feature = "points")]
#[test]
fn what_is_made_of_a_registry_is_what_is_made_of_a_layout() {
    use ferofs::oci::pointed;
    let made = Made::new();
    let (local, remote) = (made.scratch.join("local"), made.scratch.join("remote"));
    let name = format!("oci:{}", made.scratch.join("app").display());
    let reference = oci::Reference::parse(Path::new(&name)).unwrap().unwrap();
    let image = oci::open(&reference, None).unwrap();
    let request = pointed::Request::new(&local).with_span(1 << 16);
    let prepared = pointed::prepare(&image, request, &|_| {}).unwrap();
    prepared.keep().unwrap();
    let image = made.registry.find(None).unwrap();
    let read = std::sync::atomic::AtomicU64::new(0);
    let make = || {
        let request = pointed::Request::new(&remote).with_span(1 << 16);
        pointed::prepare_remote(&image, request, &|bytes| {
            read.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        })?
        .keep()
    };
    let key = format!("blobs/sha256:{}", image.layers[0].digest);
    let good = made.registry.stored.lock().unwrap()[&key].clone();
    for wrong in [good[..good.len() - 1].to_vec(), {
        let mut wrong = good.clone();
        wrong[good.len() / 2] ^= 1;
        wrong
    }] {
        made.registry
            .stored
            .lock()
            .unwrap()
            .insert(key.clone(), wrong);
        assert!(make().is_err());
        assert!(files(&remote).is_empty());
    }
    made.registry.stored.lock().unwrap().insert(key, good);
    assert_eq!(make().unwrap().len(), 3);
    assert!(files(&remote) == files(&local) && files(&local).len() == 4);
    // What is there is not read again.
    let before = read.load(std::sync::atomic::Ordering::Relaxed);
    make().unwrap();
    assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), before);
    image.push(&remote, &|_| {}).unwrap();
}

#[test]
fn what_is_there_is_made_anew_if_it_is_wrong() {
    let made = Made::pushed();
    made.pull(false).unwrap();
    let good = fs::read(made.index("pulled")).unwrap();
    for (bytes, verify) in [(b"text".to_vec(), false), (made.lie(), true)] {
        fs::write(made.index("pulled"), bytes).unwrap();
        let pulled = made.pull(verify).unwrap();
        assert!(!pulled[0].reused && pulled[1].reused);
        assert_eq!(pulled[0].notes.len(), 1, "{:?}", pulled[0].notes);
        assert!(fs::read(made.index("pulled")).unwrap() == good);
    }
}

#[test]
fn only_the_tar_tells_that_an_index_lies() {
    let made = Made::pushed();
    let lie = made.lie();
    made.change(|layer| made.registry.exchange(layer, layout::zstd(&lie), lie.len()));
    let error = made.pull(true).unwrap_err();
    assert_eq!(error.kind(), Kind::WrongBlob, "{error}");
    assert!(!made.scratch.join("pulled").exists());
    // This is what trust in those who push is for.
    made.pull(false).unwrap();
    assert!(fs::read(made.index("pulled")).unwrap() == lie);
    // What is right is found beside what is wrong.
    fs::remove_dir_all(made.scratch.join("pulled")).unwrap();
    made.push().unwrap();
    let pulled = made.pull(true).unwrap();
    assert!(fs::read(&pulled[0].index).unwrap() == fs::read(made.index("built")).unwrap());
}

#[test]
fn wrong_indexes_get_no_names() {
    type Change = fn(&Made, &mut serde_json::Value);
    let cases: [(&str, Change, Kind); 11] = [
        (
            "nothing of the layer",
            |_, layer| layer["annotations"] = serde_json::json!({}),
            Kind::NotFound,
        ),
        (
            "another media type",
            |_, layer| layer["mediaType"] = "text/plain".into(),
            Kind::NotFound,
        ),
        (
            "a blob that is not there",
            |_, layer| layer["digest"] = format!("sha256:{}", Digest::of(b"")).into(),
            Kind::NotFound,
        ),
        (
            "a digest that is none",
            |_, layer| layer["digest"] = "../../etc".into(),
            Kind::Container,
        ),
        (
            "no size",
            |_, layer| layer["annotations"][INDEX_SIZE] = "many".into(),
            Kind::Container,
        ),
        (
            "more than is said",
            |_, layer| layer["annotations"][INDEX_SIZE] = "1024".into(),
            Kind::Io,
        ),
        (
            "more than is wanted",
            |_, layer| layer["annotations"][INDEX_SIZE] = (1u64 << 40).to_string().into(),
            Kind::TooLarge,
        ),
        (
            "no zstd",
            |made, layer| made.registry.exchange(layer, b"text".to_vec(), 4),
            Kind::Io,
        ),
        (
            "no image",
            |made, layer| {
                let bytes = vec![b'x'; 8192];
                made.registry
                    .exchange(layer, layout::zstd(&bytes), bytes.len());
            },
            Kind::NotAnImage,
        ),
        (
            "the index of another layer",
            |made, layer| {
                let other = made
                    .scratch
                    .join(&format!("built/{}.erofs", Digest::of(&tar(1))));
                let bytes = fs::read(other).unwrap();
                made.registry
                    .exchange(layer, layout::zstd(&bytes), bytes.len());
            },
            Kind::WrongBlob,
        ),
        (
            "zeros that take little room",
            |made, layer| {
                made.registry
                    .exchange(layer, layout::zstd(&vec![0; 64 << 20]), 1 << 19);
            },
            Kind::Io,
        ),
    ];
    for (what, change, kind) in cases {
        let made = Made::pushed();
        made.change(|layer| change(&made, layer));
        let error = made.pull(false).expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(!made.scratch.join("pulled").exists(), "{what}");
    }
}

#[test]
fn no_changed_byte_behind_the_superblock_goes_unseen() {
    let made = Made::pushed();
    let good = fs::read(made.index("built")).unwrap();
    for at in (1024 + 144..good.len()).step_by(61) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        made.change(|layer| {
            made.registry
                .exchange(layer, layout::zstd(&bytes), bytes.len())
        });
        made.pull(false).expect_err(&format!("byte {at}"));
    }
}

#[test]
fn an_artifact_of_another_image_is_not_used() {
    let made = Made::pushed();
    made.registry.change(made.subject, |artifact| {
        artifact["subject"]["digest"] = format!("sha256:{}", Digest::of(b"")).into();
    });
    assert_eq!(made.pull(false).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn wrong_indexes_are_not_pushed() {
    let made = Made::new();
    let other = made
        .scratch
        .join(&format!("built/{}.erofs", Digest::of(&tar(1))));
    let good = fs::read(&other).unwrap();
    for (bytes, kind) in [
        (None, Kind::Io),
        (Some(b"text".to_vec()), Kind::NotAnImage),
        (
            Some(fs::read(made.index("built")).unwrap()),
            Kind::WrongBlob,
        ),
        (Some(good[..good.len() - 512].to_vec()), Kind::WrongBlob),
    ] {
        match &bytes {
            Some(bytes) => fs::write(&other, bytes).unwrap(),
            None => fs::remove_file(&other).unwrap(),
        }
        let error = made.push().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(made.pull(false).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn one_of_several_platforms_is_chosen() {
    let scratch = Scratch::new();
    let layout = Layout::new(scratch.join("app"));
    let tars = [tar(0), tar(1)];
    let images = [
        layout
            .image("linux/s390x", &[&tars[0]])
            .platform("linux/s390x"),
        layout
            .image("linux/arm64", &[&tars[1]])
            .platform("linux/arm64"),
    ];
    let registry = Registry::start();
    registry.take(&layout, layout.nested(&images).digest);
    for (platform, number) in [("linux/s390x", 0), ("aarch64", 1)] {
        let remote = registry.find(Some(platform)).unwrap();
        assert_eq!(remote.layers[0].diff_id, Digest::of(&tars[number]));
        assert_eq!(remote.digest(), images[number].digest);
    }
    let error = registry.find(Some("linux/riscv64")).err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error.to_string().contains("linux/arm64, linux/s390x"),
        "{error}"
    );
}
