// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs export`: an image and its blobs as one file or one disk.

use super::Parsed;
use super::build;
use super::parse_number;
use super::progress::Bar;
use data_encoding::HEXLOWER_PERMISSIVE;
use ferofs::dm_verity;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::export::Export;
use ferofs::export::PADDED;
use ferofs::output::Output;
use std::io::Write;
use std::path::PathBuf;

/// Write an image and its tars as one file, or one disk
///
/// The file mounts without the tars, as a file or as a block device, by ferofs and by the erofs driver of Linux. A VMDK descriptor
/// makes a disk for a virtual machine of the files as they are. A tree of hashes lets dm-verity notice every change.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs export --device layer.tar -o flat.erofs layer.erofs
      Write one file, and mount it: mount -t erofs flat.erofs /mnt
  ferofs export --blobs /var/lib/blobs --vmdk disk.vmdk image.erofs
      Describe the image and its tars as a disk: qemu-system-x86_64 -drive file=disk.vmdk,readonly=on
  ferofs export --device layer.tar --verity -o flat.erofs layer.erofs
      Append a tree of hashes; its root hash is printed, and is in flat.erofs.dmverity, too.")]
pub struct Arguments {
    /// Where to write the file
    #[arg(short, long, value_name = "FILE", required_unless_present = "vmdk")]
    output: Option<PathBuf>,
    /// Where to write a VMDK descriptor: of FILE, or without one of the image and its tars as they are
    #[arg(long, value_name = "DESCRIPTOR")]
    vmdk: Option<PathBuf>,
    /// Append a tree of hashes for dm-verity, and write FILE.dmverity, as containerd has it
    #[arg(long, requires = "output")]
    verity: bool,
    /// Size of the tree's blocks, and so of the smallest piece that can be read of the device: 512, 1024, 2048 or
    /// 4096 [default: that of the image's blocks]
    #[arg(long, value_name = "BYTES", requires = "verity", value_parser = parse_number::<u32>)]
    verity_block_size: Option<u32>,
    /// What the hashes begin with, in hexadecimal digits; `-` for nothing [default: 32 zeros]
    #[arg(long, value_name = "HEX", requires = "verity", value_parser = parse_salt)]
    salt: Option<Salt>,
    /// A tar that has the files' data; repeat in the order of the image's device table
    #[arg(short, long, value_name = "TAR")]
    device: Vec<PathBuf>,
    /// A directory with tars called HEX, HEX.tar, sha256/HEX or blobs/sha256/HEX after their sha256;
    /// may be repeated
    #[arg(long, value_name = "DIR")]
    blobs: Vec<PathBuf>,
    /// No progress bar
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
}

/// What the hashes begin with.
#[derive(Clone, Debug)]
struct Salt(Vec<u8>);

fn parse_salt(text: &str) -> Parsed<Salt> {
    if text == "-" {
        return Ok(Salt(Vec::new()));
    }
    let salt = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    match salt.filter(|salt| (1..=dm_verity::SALT_MAX).contains(&salt.len())) {
        Some(salt) => Ok(Salt(salt)),
        None => Err(format!(
            "expected up to {} bytes in hexadecimal digits, or \"-\"",
            dm_verity::SALT_MAX
        )),
    }
}

impl Arguments {
    /// What the tree is to be like.
    fn verity(&self, export: &Export) -> Result<dm_verity::Options> {
        // The device has no smaller pieces, and the driver of Linux none that are larger than the image's blocks.
        let usual = export.block_size().min(PADDED as u32);
        let block = self.verity_block_size.unwrap_or(usual);
        if !block.is_power_of_two() || !(512..=PADDED as u32).contains(&block) {
            return Err(Error::Request(format!(
                "--verity-block-size {block}: expected 512, 1024, 2048 or 4096"
            )));
        }
        let options = dm_verity::Options::default().with_block(block);
        Ok(match &self.salt {
            Some(Salt(salt)) => options.with_salt(salt.clone()),
            None => options,
        })
    }
}

/// Writes what was asked for.
pub fn run(arguments: &Arguments) -> Result<()> {
    build::remove_unfinished_on_signals()?;
    ferofs::files::allow_many();
    let export = Export::open(&arguments.image, &arguments.device, &arguments.blobs)?;
    let verity = arguments.verity(&export)?;
    let inputs = export.inputs()?;
    let create = |path: &PathBuf| Output::create(path, &inputs.list());
    let flat = arguments.output.as_ref().map(create).transpose()?;
    let sidecar = arguments.output.as_ref().filter(|_| arguments.verity);
    let sidecar = sidecar.map(|path| {
        let mut name = path.as_os_str().to_os_string();
        name.push(".dmverity");
        create(&PathBuf::from(name))
    });
    let sidecar = sidecar.transpose()?;
    let vmdk = arguments.vmdk.as_ref().map(create).transpose()?;
    let outputs = [&flat, &sidecar, &vmdk];
    for (index, one) in outputs.iter().enumerate() {
        for other in outputs.iter().skip(index + 1) {
            if let (Some(one), Some(other)) = (one, other) {
                one.expect_other(other)?;
            }
        }
    }
    let mut tree = None;
    let mut size = export.size();
    if let Some(flat) = &flat {
        let mut bar = Bar::new("copying", Some(size), arguments.quiet);
        export.write(flat.file(), flat.target(), &mut |done| bar.set(done))?;
        drop(bar);
        if arguments.verity {
            let mut bar = Bar::new("hashing", Some(size), arguments.quiet);
            let appended = dm_verity::append(flat.file(), &verity, &mut |done| bar.set(done));
            tree = Some(appended.map_err(Error::io("write", flat.target()))?);
            size = flat
                .file()
                .metadata()
                .map_or(size, |metadata| metadata.len());
        }
    }
    if let (Some(sidecar), Some(tree)) = (&sidecar, &tree) {
        let written = serde_json::to_writer_pretty(sidecar.file(), tree);
        let written = written.map_err(std::io::Error::from);
        written.map_err(Error::io("write", sidecar.target()))?;
    }
    // The descriptor names files that are there.
    let mut done: Vec<Output> = Vec::new();
    match (flat, &vmdk) {
        (Some(flat), Some(vmdk)) => {
            let path = flat.target().to_path_buf();
            Output::finish_all([flat].into_iter().chain(sidecar).collect())?;
            write_text(vmdk, &export.vmdk_of(&path, size, vmdk.target())?)?;
        }
        (None, Some(vmdk)) => write_text(vmdk, &export.vmdk(vmdk.target())?)?,
        (flat, None) => done.extend(flat.into_iter().chain(sidecar)),
    }
    done.extend(vmdk);
    Output::finish_all(done)?;
    match tree {
        Some(tree) => super::to_stdout(|out| {
            writeln!(out, "root hash    {}", tree.root)?;
            writeln!(out, "hash offset  {}", tree.offset)
        }),
        None => Ok(()),
    }
}

fn write_text(output: &Output, text: &str) -> Result<()> {
    let mut file = output.file();
    file.write_all(text.as_bytes())
        .map_err(Error::io("write", output.target()))
}
