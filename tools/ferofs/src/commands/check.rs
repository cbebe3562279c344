// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs check`: walks all of an image and says everything that is wrong.

use super::complain;
use super::progress::Bar;
use super::to_stdout;
use ferofs::digest::Background;
use ferofs::digest::Digest;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::inspect::check::Problem;
use ferofs::inspect::check::check;
use ferofs::text::Quoted;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

/// Nothing is wrong, as fsck(8) says it.
const GOOD: u8 = 0;
/// Something is wrong.
const ERRORS: u8 = 4;
/// The check itself failed.
const FAILED: u8 = 8;

/// Check an image, and optionally the tars that belong to it
///
/// Says everything that is wrong, not just the first thing. The exit code is that of fsck(8): 0 if
/// nothing is wrong, 4 if something is, 8 if the check failed, 2 for wrong arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs check layer.erofs
      Check the image alone.
  ferofs check layer.erofs --device layer.tar
      Also check that no file's data is beyond the end of the tar.
  ferofs check layer.erofs --device layer.tar --digest
      Also compare the tar's sha256 with the one in the image.")]
pub struct Arguments {
    /// A tar that has the files' data; repeat in the order of the image's device table
    #[arg(short, long, value_name = "TAR")]
    device: Vec<PathBuf>,
    /// Compare the sha256 of each device with its tag
    #[arg(long, requires = "device")]
    digest: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
}

/// Checks the image.
pub fn run(arguments: &Arguments) -> ExitCode {
    match check_all(arguments) {
        Ok(true) => ExitCode::from(GOOD),
        Ok(false) => ExitCode::from(ERRORS),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            ExitCode::from(FAILED)
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

/// Returns whether all is well.
fn check_all(arguments: &Arguments) -> Result<bool> {
    let image = match Image::open(&arguments.image) {
        Ok(image) => image,
        Err(Error::Format {
            path,
            source: source @ erofs_format::Error::Corrupt(_),
        }) => {
            complain(&format!("{}: {source}", path.display()));
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let count = usize::from(image.superblock().device_count());
    if arguments.device.len() > count {
        let (path, given) = (arguments.image.display(), arguments.device.len());
        return Err(Error::Request(format!(
            "{path} has {count} devices, {given} are given"
        )));
    }
    let mut sizes = Vec::new();
    for path in &arguments.device {
        let size = File::open(path).and_then(|mut file| file.seek(SeekFrom::End(0)));
        sizes.push(size.map_err(Error::io("open", path))?);
    }
    let report = {
        let mut bar = Bar::new(
            "checking",
            Some(image.superblock().inodes()),
            arguments.quiet,
        )
        .counting();
        check(&image, &sizes, &mut |done| bar.set(done))
            .map_err(Error::io("read", &arguments.image))?
    };
    let mut wrong = report.problems.len();
    for problem in &report.problems {
        complain(&describe(&arguments.image, problem));
    }
    if arguments.digest {
        wrong += digests(arguments, &image)?;
    }
    if !arguments.quiet {
        let (files, directories) = (report.files, report.directories);
        let errors = match wrong {
            0 => "no errors".to_string(),
            1 => "1 error".to_string(),
            count => format!("{count} errors"),
        };
        let path = arguments.image.display();
        to_stdout(|out| {
            writeln!(
                out,
                "{path}: {directories} directories, {files} other files, {errors}"
            )
        })?;
    }
    Ok(wrong == 0)
}

fn describe(image: &Path, problem: &Problem) -> String {
    let Problem { path, at, what } = problem;
    let image = image.display();
    match path {
        Some(path) => format!("{image}: at offset {at}: {}: {what}", Quoted(path)),
        None => format!("{image}: at offset {at}: {what}"),
    }
}

/// Compares each device with its tag; returns how many are not what their tag says.
fn digests(arguments: &Arguments, image: &Image) -> Result<usize> {
    let mut wrong = 0;
    for (slot, path) in image.devices()?.iter().zip(&arguments.device) {
        let tag = String::from_utf8_lossy(slot.name()).into_owned();
        let Some(expected) = Digest::parse(&tag) else {
            complain(&format!(
                "{}: the image does not have its sha256",
                path.display()
            ));
            wrong += 1;
            continue;
        };
        let file = File::open(path).map_err(Error::io("open", path))?;
        let size = file.metadata().map_err(Error::io("read", path))?.len();
        let mut bar = Bar::new("hashing", Some(size), arguments.quiet);
        let found = Background::spawn(file)
            .wait(|done| bar.set(done))
            .map_err(Error::io("read", path))?;
        drop(bar);
        if found != expected {
            let path = path.display();
            complain(&format!(
                "{path}: its sha256 is {found}, the image expects {expected}"
            ));
            wrong += 1;
        }
    }
    Ok(wrong)
}
