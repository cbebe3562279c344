// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Images by the crates of Nydus, for tests/peers/nydus.sh:
//!
//!     nydus-images directory DIRECTORY OUT     RAFS v6 of a directory: OUT/image and OUT/BLOB.blob.data
//!     nydus-images tar TAR OUT                 the same of a tar
//!     nydus-images tarfs TAR OUT               OUT/image, an index of the tar, which is its own blob
//!     nydus-images merge IMAGE LAYER...        one image of several layers, the lowest first
//!
//! Prints the blobs' names, which are the sha256 of what a registry would have; of the tar itself for tarfs. A blob is
//! compressed, and no chunk of it where the image says: that holds for the cache BLOB.blob.data, which Nydus fills while
//! it runs, and here at once. Chunks are of 1 MiB, unless CHUNK is another number of bytes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nydus_api::ConfigV2;
use nydus_builder::attributes::Attributes;
use nydus_builder::{
    ArtifactStorage, BlobCacheGenerator, BlobManager, BootstrapManager, BuildContext, BuildOutput,
    Builder, ConversionType, DirectoryBuilder, Features, Merger, Prefetch, TarballBuilder,
    WhiteoutSpec,
};
use nydus_rafs::metadata::RafsVersion;
use nydus_utils::{compress, digest};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = match arguments[..] {
        ["directory", source, out] => build(
            ConversionType::DirectoryToRafs,
            source.as_ref(),
            out.as_ref(),
        )?,
        ["tar", source, out] => build(ConversionType::TarToRafs, source.as_ref(), out.as_ref())?,
        ["tarfs", source, out] => build(ConversionType::TarToTarfs, source.as_ref(), out.as_ref())?,
        ["merge", image, ref layers @ ..] if !layers.is_empty() => merge(image.as_ref(), layers)?,
        _ => bail!("expected directory|tar|tarfs SOURCE OUT, or merge IMAGE LAYER..."),
    };
    for blob in output.blobs {
        println!("{blob}");
    }
    Ok(())
}

/// What all images have in common.
fn context(conversion: ConversionType, source: &Path) -> Result<BuildContext> {
    let mut context = BuildContext::new(
        String::new(),
        // Chunks begin where a block does, or the kernel could not address them.
        true,
        0,
        compress::Algorithm::Zstd,
        digest::Algorithm::Sha256,
        true,
        WhiteoutSpec::Oci,
        conversion,
        source.to_owned(),
        Prefetch::default(),
        None,
        None,
        false,
        Features::new(),
        false,
        Attributes::default(),
    );
    context.set_fs_version(RafsVersion::V6);
    if let Ok(chunk) = env::var("CHUNK") {
        context.set_chunk_size(chunk.parse().context("CHUNK")?);
    }
    Ok(context)
}

fn build(conversion: ConversionType, source: &Path, out: &Path) -> Result<BuildOutput> {
    fs::create_dir_all(out)?;
    let mut context = context(conversion, source)?;
    if conversion != ConversionType::TarToTarfs {
        let beside = ArtifactStorage::FileDir((out.to_owned(), String::new()));
        context.blob_cache_generator = Some(BlobCacheGenerator::new(beside.clone())?);
        context.blob_storage = Some(beside);
    }
    let mut images =
        BootstrapManager::new(Some(ArtifactStorage::SingleFile(out.join("image"))), None);
    let mut blobs = BlobManager::new(digest::Algorithm::Sha256, false);
    if conversion == ConversionType::DirectoryToRafs {
        DirectoryBuilder::new().build(&mut context, &mut images, &mut blobs)
    } else {
        TarballBuilder::new(conversion).build(&mut context, &mut images, &mut blobs)
    }
}

fn merge(image: &Path, layers: &[&str]) -> Result<BuildOutput> {
    let mut context = context(ConversionType::DirectoryToRafs, Path::new(""))?;
    let mut config = ConfigV2::default();
    // The blobs' names are right already.
    config.internal.set_blob_accessible(true);
    let config = Arc::new(config);
    context.set_configuration(config.clone());
    let layers: Vec<PathBuf> = layers.iter().map(PathBuf::from).collect();
    let target = ArtifactStorage::SingleFile(image.to_owned());
    Merger::merge(
        &mut context,
        None,
        layers,
        None,
        None,
        None,
        None,
        None,
        target,
        None,
        config,
    )
}
