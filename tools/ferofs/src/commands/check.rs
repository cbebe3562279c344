// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs check`: walks all of an image and says everything that is wrong; extracts it if wanted. The
//! same as `fsck.ferofs`, with the options that fsck(8) knows.

use super::complain;
use super::json;
use super::progress::Bar;
use super::to_stdout;
use clap::Parser;
use clap::builder::OsStringValueParser;
use clap::builder::TypedValueParser;
use erofs_format::FileKind;
use ferofs::blobs;
use ferofs::blobs::Tag;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::inspect::Image;
use ferofs::inspect::check::Problem;
use ferofs::inspect::check::Report;
use ferofs::inspect::check::check;
use ferofs::inspect::check::open;
use ferofs::inspect::contents::Contents;
use ferofs::inspect::extract;
use ferofs::inspect::extract::Extracted;
use ferofs::inspect::fingerprints::compare;
use ferofs::inspect::walk::Walk;
use ferofs::read_at::ReadAt;
use ferofs::text::Quoted;
use ferofs::text::Shown;
use serde_json::json;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Nothing is wrong, as fsck(8) says it.
const GOOD: u8 = 0;
/// Something is wrong.
const ERRORS: u8 = 4;
/// The check itself failed.
const FAILED: u8 = 8;
/// The arguments are wrong.
pub const USAGE: u8 = 16;

/// Check an image, and optionally the tars that belong to it
///
/// Says everything that is wrong, not just the first thing. The exit code is that of fsck(8): 0 if
/// nothing is wrong, 4 if something is, 8 if the check failed (also for what is no EROFS image at all,
/// or has features that are not supported), 16 for wrong arguments.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs check layer.erofs
      Check the image alone.
  ferofs check layer.erofs --device layer.tar
      Also check that no file's data is beyond the end of the tar.
  ferofs check image.erofs --blobs /var/lib/blobs --digest
      Also compare the sha256 of each tar with the one in the image.
  ferofs check layer.erofs --device layer.tar --extract root
      Also write all files into a directory.")]
pub struct Arguments {
    /// A tar that has the files' data; repeat in the order of the image's device table
    #[arg(short, long, value_name = "TAR")]
    device: Vec<PathBuf>,
    /// A directory with tars called HEX, HEX.tar, sha256/HEX or blobs/sha256/HEX after their sha256, or HEX, HEX.tar or
    /// HE/X after their fs-verity digest; may be repeated
    #[arg(long, value_name = "DIR")]
    blobs: Vec<PathBuf>,
    /// Compare the sha256 of each device with its tag; several are read at once
    #[arg(long, alias = "verify")]
    digest: bool,
    /// Compare the fs-verity digest of each device with its tag, as mounting with verity= does. It is computed: the files
    /// need not have fs-verity
    #[arg(long, conflicts_with = "digest")]
    verity: bool,
    /// Read all files that have fingerprints, and compare them
    #[arg(long, alias = "xattr-inode-digest")]
    fingerprints: bool,
    /// Write all files into this directory, if the image is sound: owner, mode, time, attributes,
    /// devices, links and holes as they are in the image, as far as that is possible without root
    #[arg(long, value_name = "DIR")]
    extract: Option<PathBuf>,
    /// Extract even if the directory is not empty, or the image has errors
    #[arg(long, requires = "extract")]
    force: bool,
    /// Do not give extracted files the owners that the image has
    #[arg(long, requires = "extract")]
    no_same_owner: bool,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
    /// Also say which devices no file has data in
    #[arg(short, long)]
    verbose: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
}

/// Lets `--extract` come without a directory, as fsck.erofs has it.
fn only_reading(extract: clap::Arg) -> clap::Arg {
    extract
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("")
        // An empty one, too, as another parser would refuse.
        .value_parser(OsStringValueParser::new().map(PathBuf::from))
        .help("Write all files into this directory, if the image is sound; without DIR only read them")
        .long_help(None)
}

/// Check an EROFS image
///
/// The same as `ferofs check`, with the options that fsck(8) passes. Nothing is ever repaired.
#[derive(Parser)]
#[command(
    name = "fsck.ferofs",
    version,
    args_override_self = true,
    mut_arg("extract", only_reading),
    disable_version_flag = true,
    after_help = "Examples:
  fsck.ferofs layer.erofs
      Check an image.
  fsck.ferofs --extract=root --device=layer.tar layer.erofs
      Also write all files into a directory. Without =root they are read, and written nowhere.

Of the options of fsck.erofs those are taken that make sense here; -d with one digit is a message level.
fsck(8) calls this for what /etc/fstab has as ferofs; for other images it calls fsck.erofs."
)]
pub struct Fsck {
    /// Accepted and ignored: there is nothing to repair in what is read-only
    #[arg(short, overrides_with_all = ["automatic", "all", "preen", "yes", "no"])]
    automatic: bool,
    /// The same as -a
    #[arg(short = 'A')]
    all: bool,
    /// The same as -a
    #[arg(short)]
    preen: bool,
    /// The same as -a
    #[arg(short)]
    yes: bool,
    /// The same as -a
    #[arg(short)]
    no: bool,
    /// Accepted and ignored: the image is always checked
    #[arg(short = 'f')]
    always: bool,
    /// File descriptor for the progress; accepted and ignored
    #[arg(short = 'C', value_name = "FD", allow_hyphen_values = true)]
    progress: Option<i32>,
    /// Show the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    known: Known,
    #[command(flatten)]
    arguments: Arguments,
}

/// Options of fsck.erofs that say what is done anyway, have another name here, or are taken in so that the
/// message can say why not.
#[derive(clap::Args)]
struct Known {
    #[arg(long, hide = true)]
    xattrs: bool,
    #[arg(long, hide = true)]
    preserve: bool,
    #[arg(long, hide = true)]
    preserve_owner: bool,
    #[arg(long, hide = true)]
    preserve_perms: bool,
    #[arg(long, hide = true)]
    no_preserve_owner: bool,
    #[arg(long, hide = true)]
    no_preserve: bool,
    #[arg(long, hide = true)]
    no_preserve_perms: bool,
    #[arg(long, hide = true)]
    no_xattrs: bool,
    #[arg(long, hide = true)]
    overwrite: bool,
    #[arg(long, hide = true, value_name = "X")]
    offset: Option<String>,
}

impl Known {
    fn check(&self) -> Result<()> {
        let modes =
            "files get the modes that the image has; for the owners there is --no-same-owner";
        let refused = [
            (self.no_preserve, "--no-preserve", modes),
            (self.no_preserve_perms, "--no-preserve-perms", modes),
            (
                self.no_xattrs,
                "--no-xattrs",
                "files get the attributes that the image has",
            ),
            (
                self.overwrite,
                "--overwrite",
                "the directory is to be empty; for another there is --force",
            ),
            (
                self.offset.is_some(),
                "--offset",
                "an image is a file of its own",
            ),
        ];
        super::refuse(refused)
    }
}

/// Checks for fsck(8), and for those who know fsck.erofs.
pub fn run_fsck(mut fsck: Fsck) -> ExitCode {
    if let Err(error) = fsck.known.check() {
        complain(&error.to_string());
        return ExitCode::from(USAGE);
    }
    let arguments = &mut fsck.arguments;
    arguments.no_same_owner |= fsck.known.no_preserve_owner;
    // There -d is followed by a message level.
    arguments.device.retain(|device| {
        let level = device.as_os_str().as_bytes();
        arguments.quiet |= level == b"0";
        !matches!(level, [b'0'..=b'9'])
    });
    run(arguments)
}

/// Checks the image.
pub fn run(arguments: &Arguments) -> ExitCode {
    match check_all(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            ExitCode::from(FAILED)
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

/// A device that was compared with its tag.
struct Verdict {
    number: usize,
    path: PathBuf,
    /// What the image says, if that is of the kind that was asked for.
    expected: Option<Tag>,
    /// Whether that does not matter, as the tag is something else: mkfs.erofs has UUIDs there.
    foreign: bool,
    found: Tag,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.foreign || self.expected == Some(self.found)
    }
}

/// Everything that was found.
#[derive(Default)]
struct Found {
    report: Report,
    verdicts: Vec<Verdict>,
    /// Devices that are not those of the image.
    wrong: Vec<Error>,
    extracted: Option<Extracted>,
    /// What ended it early.
    failure: Option<Error>,
}

impl Found {
    fn errors(&self) -> u64 {
        let verdicts = self.verdicts.iter().filter(|verdict| !verdict.is_good());
        let problems = self.report.problems.len() as u64;
        let wrong = self.wrong.len() as u64;
        problems + self.report.more_problems + wrong + verdicts.count() as u64
    }

    fn code(&self) -> u8 {
        match (self.errors(), &self.failure) {
            (0, None) => GOOD,
            (0, Some(_)) => FAILED,
            // Bits, of which there may be several.
            (_, None) => ERRORS,
            (_, Some(_)) => ERRORS | FAILED,
        }
    }
}

/// Checks, shows what was found, and returns the exit code.
fn check_all(arguments: &Arguments) -> Result<u8> {
    let mut found = Found::default();
    if let Err(error) = find(arguments, &mut found) {
        match error {
            // So wrong that it cannot even be opened.
            Error::Format {
                source: erofs_format::Error::Corrupt(corrupt),
                ..
            } if found.report.directories == 0 => found.report.problems.push(Problem {
                path: None,
                at: corrupt.at,
                what: corrupt.what.to_string(),
            }),
            error => found.failure = Some(error),
        }
    }
    show(arguments, &found)?;
    Ok(found.code())
}

fn find(arguments: &Arguments, found: &mut Found) -> Result<()> {
    let path = &arguments.image;
    let file = File::open(path).map_err(Error::io("open", path))?;
    let opened = open(path, Box::new(file))?;
    found.report.problems = opened.problems;
    found.report.warnings = opened.warnings;
    let image = opened.image?;
    let count = usize::from(image.superblock().device_count());
    let given = arguments.device.len();
    if given > count || (given != 0 && arguments.blobs.is_empty()) {
        blobs::expect_all(path, count, given)?;
    }
    let devices = match arguments.blobs.is_empty() {
        true => arguments.device.clone(),
        false => {
            let slots = image.devices()?;
            let blobs = blobs::assign(path, &slots, &arguments.device, &arguments.blobs)?;
            blobs.into_iter().map(|blob| blob.path).collect()
        }
    };
    let compared = match (arguments.digest, arguments.verity) {
        (true, _) => Some("--digest"),
        (_, true) => Some("--verity"),
        _ => None,
    };
    if let Some(option) = compared.filter(|_| devices.is_empty() && count > 0) {
        return Err(Error::Request(format!(
            "{option} needs the devices: give them by --device or --blobs"
        )));
    }
    let mut files = Vec::new();
    let mut sizes = Vec::new();
    let headers = image.header_digests()?;
    for (index, (device, headers)) in devices.iter().zip(headers).enumerate() {
        let mut file = File::open(device).map_err(Error::io("open", device))?;
        sizes.push(
            file.seek(SeekFrom::End(0))
                .map_err(Error::io("read", device))?,
        );
        match blobs::check_headers(path, index + 1, headers, device, &file) {
            Err(error @ Error::WrongBlob { .. }) => found.wrong.push(error),
            other => other?,
        }
        files.push(file);
    }
    if !files.is_empty() {
        let mut given = Vec::new();
        for (file, path) in files.iter().zip(&devices) {
            let file = file.try_clone().map_err(Error::io("open", path))?;
            given.push(Arc::new(file) as Arc<dyn ReadAt>);
        }
        image.give(given);
    }
    let behind = match files.is_empty() {
        true => image.check_behind(),
        false => Ok(()),
    };
    let inodes = image.superblock().inodes();
    let mut bar = Bar::new("checking", Some(inodes), arguments.quiet).counting();
    let walked = check(&image, &sizes, &mut |done| bar.set(done));
    drop(bar);
    let report = walked.map_err(Error::io("read", path))?;
    let before = std::mem::replace(&mut found.report, report);
    found.report.problems.splice(0..0, before.problems);
    found.report.warnings.splice(0..0, before.warnings);
    match behind {
        // Who looks at no data may have something else there.
        Err(Error::NotBehind {
            device,
            at,
            problem,
            ..
        }) if arguments.extract.is_none() => found.report.warnings.push(Problem {
            path: None,
            at: image.superblock().device_table_pos(),
            what: format!(
                "what is at {at} of this file is not the tar that device {device} was made from: {problem}"
            ),
        }),
        Err(error @ Error::NotBehind { .. }) => found.wrong.push(error),
        other => other?,
    }
    if compared.is_some() {
        digests(arguments, &image, &devices, &files, &sizes, found)?;
    }
    if !arguments.fingerprints && arguments.extract.is_none() {
        return Ok(());
    }
    if arguments.extract.is_some() && found.errors() > 0 && !arguments.force {
        let what = "nothing is extracted, because of the errors; --force does it anyway";
        return Err(Error::Request(what.to_string()));
    }
    expect_devices(&image, &devices, found)?;
    let contents = Contents::of(&image, devices.into_iter().zip(files).collect())?;
    if arguments.fingerprints {
        fingerprints(arguments, &contents, found)?;
    }
    if let Some(target) = &arguments.extract {
        write_files(arguments, &contents, target, found)?;
    }
    Ok(())
}

/// Compares each device with its tag.
fn digests(
    arguments: &Arguments,
    image: &Image,
    paths: &[PathBuf],
    files: &[File],
    sizes: &[u64],
    found: &mut Found,
) -> Result<()> {
    let total = sizes.iter().sum();
    let mut bar = Bar::new("hashing", Some(total), arguments.quiet);
    let digests = blobs::hash_all(files, arguments.verity, &mut |done| bar.set(done));
    drop(bar);
    let slots = image.devices()?;
    for (index, ((slot, path), digest)) in slots.iter().zip(paths).zip(digests).enumerate() {
        let tag = digest.map_err(Error::io("read", path))?;
        let expected = Tag::of(slot).filter(|expected| expected.kind() == tag.kind());
        found.verdicts.push(Verdict {
            number: index + 1,
            path: path.clone(),
            expected,
            // Who asks for the digests that a mount would want is told of those that are not there.
            foreign: !arguments.verity && expected.is_none() && !slot.name().is_empty(),
            found: tag,
        });
    }
    Ok(())
}

fn write_files(
    arguments: &Arguments,
    contents: &Contents<'_>,
    target: &Path,
    found: &mut Found,
) -> Result<()> {
    let image = contents.image();
    if target.as_os_str().is_empty() {
        return read_all(arguments, image, contents);
    }
    let options = extract::Options::default()
        .with_force(arguments.force)
        .with_no_owner(arguments.no_same_owner);
    let inodes = image.superblock().inodes();
    let mut bar = Bar::new("extracting", Some(inodes), arguments.quiet).counting();
    let extracted = extract::extract(contents, target, options, &mut |done| bar.set(done))?;
    drop(bar);
    found.extracted = Some(extracted);
    Ok(())
}

/// Compares the data of files with their fingerprints.
fn fingerprints(arguments: &Arguments, contents: &Contents<'_>, found: &mut Found) -> Result<()> {
    let inodes = contents.image().superblock().inodes();
    let mut bar = Bar::new("hashing", Some(inodes), arguments.quiet).counting();
    let compared = compare(contents, &mut |done| bar.set(done))?;
    drop(bar);
    let Some(mut compared) = compared else {
        let path = Shown(contents.image().path());
        return Err(Error::Request(format!(
            "{path}: its files have no fingerprints"
        )));
    };
    found.report.problems.append(&mut compared.problems);
    Ok(())
}

/// Refuses to read files if a device has data of some, and is not given.
fn expect_devices(image: &Image, devices: &[PathBuf], found: &Found) -> Result<()> {
    let elsewhere = image.device_elsewhere()?.filter(|_| devices.is_empty());
    let is_used = |device: usize| {
        let unused = found.report.unused_devices.iter();
        !unused.copied().any(|id| usize::from(id) == device)
    };
    if let Some(device) = elsewhere.filter(|device| is_used(*device)) {
        let path = Shown(image.path());
        return Err(Error::Request(format!(
            "{path}: device {device} has data to read: give all devices by --device or --blobs"
        )));
    }
    Ok(())
}

/// Reads the data of all files.
fn read_all(arguments: &Arguments, image: &Image, contents: &Contents<'_>) -> Result<()> {
    let inodes = image.superblock().inodes();
    let mut bar = Bar::new("reading", Some(inodes), arguments.quiet).counting();
    for (done, entry) in Walk::new(image).enumerate() {
        let entry = entry?;
        if entry.inode.kind() == FileKind::Regular {
            contents.read::<Error>(&entry.inode, &entry.path, &mut |_| Ok(()))?;
        }
        bar.set(done as u64 + 1);
    }
    Ok(())
}

fn show(arguments: &Arguments, found: &Found) -> Result<()> {
    if arguments.json {
        return to_stdout(|out| writeln!(out, "{:#}", document(arguments, found)));
    }
    let image = Shown(&arguments.image);
    for problem in &found.report.problems {
        complain(&describe(&arguments.image, problem));
    }
    if found.report.more_problems > 0 {
        complain(&format!("{image}: and {} more", found.report.more_problems));
    }
    if !arguments.quiet {
        for warning in &found.report.warnings {
            let warning = describe(&arguments.image, warning);
            complain(&format!("warning: {warning}"));
        }
    }
    for wrong in &found.wrong {
        complain(&wrong.to_string());
    }
    for verdict in found.verdicts.iter().filter(|verdict| !verdict.is_good()) {
        let (path, kind) = (Shown(&verdict.path), verdict.found.kind());
        let found = verdict.found.digits();
        complain(&match verdict.expected.as_ref().map(Tag::digits) {
            Some(expected) => {
                format!("{path}: its {kind} is {found}, the image expects {expected}")
            }
            None => format!("{path}: the image does not have its {kind}"),
        });
    }
    for note in found
        .extracted
        .iter()
        .flat_map(|extracted| &extracted.notes)
    {
        complain(note);
    }
    if let Some(failure) = &found.failure {
        complain(&failure.to_string());
    }
    // What could not be opened has no counts.
    if arguments.quiet || found.report.directories == 0 {
        return Ok(());
    }
    let counted = |count: u64, one: &str, several: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {several}"),
    };
    let errors = match found.errors() {
        0 => "no errors".to_string(),
        count => counted(count, "error", "errors"),
    };
    let directories = counted(found.report.directories, "directory", "directories");
    let files = counted(found.report.files, "other file", "other files");
    to_stdout(|out| {
        if arguments.verbose {
            for number in &found.report.unused_devices {
                writeln!(out, "{image}: no file has data in device {number}")?;
            }
            for verdict in found.verdicts.iter().filter(|verdict| verdict.is_good()) {
                let (path, kind) = (Shown(&verdict.path), verdict.found.kind());
                let digest = verdict.found.digits();
                let said = match verdict.foreign {
                    true => "the image's tag for it is no sha256 to compare it with",
                    false => "as the image expects",
                };
                writeln!(out, "{path}: its {kind} is {digest}, {said}")?;
            }
        }
        writeln!(out, "{image}: {directories}, {files}, {errors}")
    })
}

/// The result as JSON; Documentation/tools.md describes it.
fn document(arguments: &Arguments, found: &Found) -> serde_json::Value {
    let problems = |list: &[Problem]| -> Vec<serde_json::Value> {
        list.iter()
            .map(|problem| {
                json!({
                    "offset": problem.at,
                    "path": problem.path.as_deref().map(json::text),
                    "message": problem.what,
                })
            })
            .collect()
    };
    let verdicts: Vec<_> = found
        .verdicts
        .iter()
        .map(|verdict| {
            json!({
                "device": verdict.number,
                "file": json::path(&verdict.path),
                "kind": verdict.found.kind(),
                "expected": verdict.expected.as_ref().map(Tag::digits),
                "found": verdict.found.digits(),
                "good": verdict.is_good(),
            })
        })
        .collect();
    let extracted = found.extracted.as_ref().map(|extracted| {
        json!({
            "directories": extracted.directories,
            "files": extracted.files,
            "notes": extracted.notes,
        })
    });
    let report = &found.report;
    json!({
        "image": json::path(&arguments.image),
        "exit_code": found.code(),
        "failure": found.failure.as_ref().map(Error::to_string),
        "directories": report.directories,
        "files": report.files,
        "data": report.data,
        "encoded": report.encoded,
        "errors": problems(&report.problems),
        "more_errors": report.more_problems,
        "warnings": problems(&report.warnings),
        "wrong_devices": found.wrong.iter().map(Error::to_string).collect::<Vec<_>>(),
        "unused_devices": report.unused_devices,
        "digests": verdicts,
        "extracted": extracted,
    })
}

fn describe(image: &Path, problem: &Problem) -> String {
    let Problem { path, at, what } = problem;
    let image = Shown(image);
    match path {
        Some(path) => format!("{image}: at offset {at}: {}: {what}", Quoted(path)),
        None => format!("{image}: at offset {at}: {what}"),
    }
}
