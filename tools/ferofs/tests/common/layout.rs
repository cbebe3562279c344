// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Makes OCI image layouts document by document, right ones and wrong ones.

use ferofs::digest::Digest;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A layout being made in a directory.
pub struct Layout(pub PathBuf);

/// What refers to a blob, as JSON without the braces, so that more can be added.
#[derive(Clone)]
pub struct Descriptor {
    pub digest: Digest,
    pub json: String,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let json =
            format!(r#""mediaType":"{media_type}","digest":"sha256:{digest}","size":{size}"#);
        Descriptor { digest, json }
    }

    /// The same with some JSON in it replaced.
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.json.contains(from), "{}", self.json);
        self.json = self.json.replace(from, to);
        self
    }

    pub fn named(mut self, name: &str) -> Self {
        self.json += &format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
        self
    }

    /// For a platform, given as `OS/ARCH[/VARIANT]`.
    pub fn platform(mut self, platform: &str) -> Self {
        self.json += &format!(r#","platform":{{{}}}"#, members(platform));
        self
    }
}

fn members(platform: &str) -> String {
    let parts: Vec<_> = platform.split('/').collect();
    let mut json = format!(r#""os":"{}","architecture":"{}""#, parts[0], parts[1]);
    if let Some(variant) = parts.get(2) {
        json += &format!(r#","variant":"{variant}""#);
    }
    json
}

/// A list of descriptors in JSON.
pub fn list(descriptors: &[Descriptor]) -> String {
    let descriptors: Vec<_> = descriptors
        .iter()
        .map(|descriptor| format!("{{{}}}", descriptor.json))
        .collect();
    format!("[{}]", descriptors.join(","))
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

impl Layout {
    pub fn new(path: PathBuf) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout(path)
    }

    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.0.join(format!("blobs/sha256/{digest}"))
    }

    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        fs::write(self.blob_path(digest), bytes).unwrap();
        Descriptor::new(media_type, digest, bytes.len() as u64)
    }

    pub fn config(&self, platform: &str, tars: &[&[u8]]) -> Descriptor {
        let diff_ids: Vec<_> = tars
            .iter()
            .map(|tar| format!(r#""sha256:{}""#, Digest::of(tar)))
            .collect();
        let json = format!(
            r#"{{{},"config":{{"Env":null,"Volumes":null}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            members(platform),
            diff_ids.join(",")
        );
        self.blob(CONFIG, json.as_bytes())
    }

    pub fn manifest(&self, config: &Descriptor, layers: &[Descriptor]) -> Descriptor {
        let json = format!(
            r#"{{"schemaVersion":2,"config":{{{}}},"layers":{}}}"#,
            config.json,
            list(layers)
        );
        self.blob(MANIFEST, json.as_bytes())
    }

    /// An image of plain tars.
    pub fn image(&self, platform: &str, tars: &[&[u8]]) -> Descriptor {
        let layers: Vec<_> = tars.iter().map(|tar| self.blob(LAYER, tar)).collect();
        self.manifest(&self.config(platform, tars), &layers)
    }

    pub fn nested(&self, manifests: &[Descriptor]) -> Descriptor {
        let json = format!(r#"{{"schemaVersion":2,"manifests":{}}}"#, list(manifests));
        self.blob(INDEX, json.as_bytes())
    }

    /// Writes `index.json`.
    pub fn index(&self, manifests: &[Descriptor]) {
        let json = format!(r#"{{"schemaVersion":2,"manifests":{}}}"#, list(manifests));
        fs::write(self.0.join("index.json"), json).unwrap();
    }
}
