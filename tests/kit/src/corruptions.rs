// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `corruptions`: for every mistake in `corrupt`'s table, that the kernel answers with the right error and
//! says in one line of its log what is wrong and where.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use rustix::mount::UnmountFlags;

use crate::corrupt::CASES;
use crate::corrupt::Case;
use crate::corrupt::Probe;
use crate::errno;
use crate::image::Image;
use crate::kmsg::Kmsg;
use crate::mount;

/// Mounts an image with each known mistake and judges the error and the log; prints TAP lines.
#[derive(clap::Args)]
pub struct Args {
    /// Sound images; each mistake is made in the first that has something to spoil. The blobs of `x.erofs`
    /// are `x.blob`, `x.2.blob` and so on.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    #[arg(long, short, default_value = "ferofs")]
    r#type: String,
    /// A directory for the spoiled image and the mount point.
    #[arg(long)]
    work: PathBuf,
    /// Only the mistakes whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// Judge the error only, not the log: for a driver with other words.
    #[arg(long)]
    no_log: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mount_point = args.work.join("mnt");
    std::fs::create_dir_all(&mount_point).with_context(|| mount_point.display().to_string())?;
    let mut bases = Vec::new();
    for path in &args.images {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        bases.push((path.as_path(), Image::new(bytes)));
    }
    let mut failed = false;
    for case in CASES.iter().filter(|case| case.name.contains(&args.only)) {
        let problem = judge(case, &bases, args, &mount_point)?;
        match problem {
            None => println!("ok - mistake {}", case.name),
            Some(problem) => {
                println!("not ok - mistake {}\n# {problem}", case.name);
                failed = true;
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn judge(
    case: &Case,
    bases: &[(&Path, Image)],
    args: &Args,
    mount_point: &Path,
) -> Result<Option<String>> {
    let found = bases
        .iter()
        .find_map(|(base, image)| Some((base, case.apply(image)?)));
    let Some((base, (spoiled, path))) = found else {
        return Ok(Some(
            "none of the images has anything that could be spoiled so".to_owned(),
        ));
    };
    let image = args.work.join("image");
    std::fs::write(&image, &spoiled.bytes).with_context(|| image.display().to_string())?;
    let options = mount::device_options(base);

    let mut log = Kmsg::from_now()?;
    let result = match mount::classic(&args.r#type, &image, mount_point, &options) {
        Err(error) => (Probe::Mount, errno::name(error)),
        Ok(()) => {
            let target = mount_point.join(std::ffi::OsStr::from_bytes(&path));
            // Twice: a mistake is reported to every caller, but logged once.
            let first = probe(case.probe, &target);
            let second = probe(case.probe, &target);
            let unmounted = rustix::mount::unmount(mount_point, UnmountFlags::empty());
            unmounted.map_err(|error| anyhow::anyhow!("unmount: {}", errno::name(error)))?;
            if first != second {
                return Ok(Some(format!(
                    "the first try gave {first}, the second {second}"
                )));
            }
            (case.probe, first)
        }
    };
    let lines: Vec<String> = log
        .new_messages()?
        .into_iter()
        .filter(|line| line.contains(&args.r#type))
        .collect();
    let place = format!(
        "{} of {}, {}",
        base.display(),
        args.r#type,
        String::from_utf8_lossy(&path)
    );
    if result.0 != case.probe || !case.errors.contains(&result.1.as_str()) {
        let expected = case.errors.join(" or ");
        return Ok(Some(format!(
            "{place}: expected {expected} from {:?}, got {} from {:?}; log: {lines:?}",
            case.probe, result.1, result.0
        )));
    }
    if result.1 == "no error" {
        return Ok((!lines.is_empty())
            .then(|| format!("{place}: expected nothing in the log, got {lines:?}")));
    }
    let told = lines.len() == 1 && (result.1 != "EUCLEAN" || lines[0].contains("offset"));
    Ok((!told && !args.no_log).then(|| {
        format!("{place}: expected one log line with what is wrong and the offset, got {lines:?}")
    }))
}

/// The name of the error, or `no error`.
fn probe(probe: Probe, path: &Path) -> String {
    let result = match probe {
        Probe::Mount => Ok(()),
        Probe::Stat => std::fs::symlink_metadata(path).map(drop),
        Probe::ReadLink => std::fs::read_link(path).map(drop),
        Probe::List => std::fs::read_dir(path)
            .and_then(|mut entries| entries.try_for_each(|entry| entry.map(drop))),
        Probe::Read => read(path),
    };
    result.map_or_else(|error| errno::io_name(&error), |()| "no error".to_owned())
}

fn read(path: &Path) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut file = std::fs::File::open(path)?;
    for _ in 0..64 {
        if file.read(&mut buffer)? == 0 {
            break;
        }
    }
    Ok(())
}
