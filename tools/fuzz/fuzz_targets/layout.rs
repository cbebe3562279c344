// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Any bytes as a container image, a layout or an archive: it is refused, or its layers are indexed, and nothing is
//! left behind by what is not kept.
//!
//! The first byte says which of them. A layout is its documents and layers, each ended by [`END`]: `index.json`, and
//! blobs. `@0` to `@9` in one of them is the sha256 of the blob with this number behind it, so that digests are right.

#![no_main]

use ferofs::digest::Digest;
use ferofs::oci;
use ferofs::oci::Choice;
use ferofs::oci::Kind;
use ferofs::oci::Platform;
use ferofs::oci::Reference;
use ferofs::oci::layers::Places;
use ferofs::oci::layers::prepare;
use ferofs_fuzz::END;
use ferofs_fuzz::Scratch;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;

fn write_layout(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut digests: Vec<String> = Vec::new();
    let parts: Vec<_> = bytes.split(|byte| *byte == END).collect();
    // Those behind come first: they are referred to.
    for (number, part) in parts.iter().enumerate().take(10).rev() {
        let mut whole = Vec::new();
        let mut rest = *part;
        while let Some(at) = rest.iter().position(|byte| *byte == b'@') {
            whole.extend_from_slice(&rest[..at]);
            let digit = rest.get(at + 1).and_then(|digit| digit.checked_sub(b'0'));
            // They are there the last one first.
            let back =
                digit.and_then(|digit| parts.len().min(10).checked_sub(1 + usize::from(digit)));
            match back.and_then(|back| digests.get(back)) {
                Some(digest) => {
                    whole.extend_from_slice(digest.as_bytes());
                    rest = &rest[at + 2..];
                }
                None => {
                    whole.push(b'@');
                    rest = &rest[at + 1..];
                }
            }
        }
        whole.extend_from_slice(rest);
        let digest = Digest::of(&whole).to_string();
        match number {
            0 => fs::write(path.join("index.json"), &whole)?,
            _ => fs::write(blobs.join(&digest), &whole)?,
        }
        digests.push(digest);
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let scratch = Scratch::new();
    let path = scratch.0.join("image");
    let kind = match kind % 4 {
        0 => Kind::LayoutArchive,
        1 => Kind::DockerArchive,
        _ => Kind::Layout,
    };
    match kind {
        Kind::Layout => write_layout(&path, bytes),
        _ => fs::write(&path, bytes),
    }
    .expect("it can be written");
    let reference = Reference {
        kind,
        path,
        choice: Choice::Only,
    };
    let amd64 = Platform::parse("linux/amd64");
    let Ok(image) = oci::open(&reference, amd64.as_ref()) else {
        return;
    };
    let directory = scratch.0.join("layers");
    let places = Places::new(&directory)
        .with_verify(true)
        .with_most(Some(1 << 20));
    drop(prepare(&image, places, &|_| {}));
    assert!(!directory.exists(), "something is left behind");
});
