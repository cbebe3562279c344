// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs mount` and `ferofs umount`; a link to `ferofs` whose name starts with `mount.` is what
//! mount(8) calls for filesystems of this type.

use super::complain;
use super::layers::Shared;
use super::to_stdout;
use clap::Parser;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::mount;
use ferofs::mount::Driver;
use ferofs::mount::Mount;
use ferofs::mount::Request;
use ferofs::mount::options::Options;
use ferofs::oci::Platform;
use ferofs::text::Shown;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::move_into_link_name_space;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

/// Mount an image, a tar, or a container image
///
/// Of a tar, an index is made in memory; of a container image, indexes of its layers are kept in a
/// cache. Layers of an image in a registry come from there when they are read, which a process in the background sees to; it ends
/// when nobody uses them any more. The kernel must have the ferofs module.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs mount layer.erofs /mnt -o device=layer.tar
      Mount an index with its tar.
  ferofs mount --blobs /var/lib/blobs image.erofs /mnt
      Find all tars by the sha256 that the image has of them (see build --digest).
  ferofs mount layer.tar /mnt
      Mount a tar.
  ferofs mount oci:/srv/app:1.0 /mnt
      Mount a container image, all layers merged.
  ferofs mount --upper changes docker-archive:app.tar /mnt
      The same of what `docker save` wrote, and let it be written to.
  ferofs mount registry.example/app:1.0 /mnt
      Mount an image whose layers are in a registry, and come from there when they are read.
  image.erofs /mnt ferofs blobs=/var/lib/blobs 0 0
      The same as the second one as a line of /etc/fstab, if mount.ferofs is a link to ferofs.")]
pub struct Arguments {
    /// Options as in /etc/fstab: device=TAR for each device slot, blobs=DIR, those of the driver,
    /// nosuid, nodev and so on
    #[arg(short, long, value_name = "OPTION,...")]
    options: Vec<String>,
    /// A tar that the image has data in; repeat in the order of its device table, like -o device=TAR
    #[arg(long, value_name = "TAR")]
    device: Vec<PathBuf>,
    /// A directory with tars called HEX, HEX.tar, sha256/HEX or blobs/sha256/HEX after their sha256, or HEX, HEX.tar or
    /// HE/X after their fs-verity digest; may be repeated
    #[arg(long, value_name = "DIR")]
    blobs: Vec<PathBuf>,
    /// Compare the sha256 (or the fs-verity digest) of each tar with that in the image first, and mount what was compared
    #[arg(long)]
    verify: bool,
    /// Mount only files that have fs-verity, and the tars whose digests the image has (see build --verity); with HEX,
    /// only the image that has this digest itself, and with "signed" one that has a signature which the kernel has checked
    /// (see build --sign). The same as -o verity=
    #[arg(long, value_name = "require|signed|HEX")]
    verity: Option<String>,
    /// Where what is written goes: an overlay is mounted over the image. Made if it is not there
    #[arg(long, value_name = "DIR")]
    upper: Option<PathBuf>,
    /// A directory on the same filesystem for overlayfs to work in [default: that of --upper with
    /// ".work" behind its name]
    #[arg(long, value_name = "DIR", requires = "upper")]
    work: Option<PathBuf>,
    /// Mount the layers of a container image one by one, and an overlay over them, instead of
    /// merging them
    #[arg(long)]
    stack: bool,
    /// Which of a container image's platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = super::build::parse_platform)]
    platform: Option<Platform>,
    /// Where the indexes of a container image's layers, and the plain tars of compressed ones, are
    /// kept [default: ferofs in $XDG_CACHE_HOME; without that in /var/cache, for others than root in
    /// ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// How large the plain tar of a container image's layer may be that has to be unpacked
    #[arg(long, value_name = "BYTES", value_parser = super::parse_number::<u64>)]
    max_size: Option<u64>,
    #[cfg(feature = "serve")]
    #[command(flatten)]
    on_demand: super::on_demand::Arguments,
    /// The driver
    #[arg(short = 't', long, value_name = "TYPE", default_value = "ferofs")]
    fs: DriverName,
    /// Ignore options that the driver does not know
    #[arg(short)]
    sloppy: bool,
    /// Do everything but mount
    #[arg(short)]
    fake: bool,
    /// Accepted and ignored, as there is no mtab any more
    #[arg(short)]
    no_mtab: bool,
    /// Say what is done
    #[arg(short, long)]
    verbose: bool,
    /// The image or the tar; or a container image: oci:DIR[:NAME], oci-archive:FILE[:NAME] or
    /// docker-archive:FILE[:NAME], where @sha256:HEX may replace :NAME; or one in a registry:
    /// REGISTRY/REPOSITORY, perhaps with :TAG and @sha256:HEX
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// Where to mount it
    #[arg(value_name = "DIR")]
    target: PathBuf,
}

/// [`Driver`] as it is called on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DriverName {
    /// The one written in Rust
    Ferofs,
    /// The one written in C, which takes no tar and needs files with paths
    Erofs,
}

/// Mount an EROFS image, a tar, or a container image
///
/// What mount(8) calls for the type ferofs, also for a line of /etc/fstab.
#[derive(Parser)]
#[command(name = "mount.ferofs", version)]
pub struct Helper {
    /// Mount in this mount namespace, such as /proc/PID/ns/mnt
    #[arg(short = 'N', value_name = "FILE")]
    namespace: Option<PathBuf>,
    #[command(flatten)]
    arguments: Arguments,
}

/// Goes into a mount namespace, in which all paths are looked up from then on. No thread may be running.
///
/// # Errors
///
/// When it is none, or may not be entered.
pub fn enter(namespace: Option<&Path>) -> Result<()> {
    let Some(path) = namespace else {
        return Ok(());
    };
    let file = File::open(path).map_err(Error::io("open", path))?;
    let kind = LinkNameSpaceType::Mount;
    move_into_link_name_space(file.as_fd(), Some(kind))
        .map_err(|errno| Error::io("enter the mount namespace", path)(errno.into()))
}

/// Unmount an image
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs umount /mnt
      Unmount it, if nobody uses it.
  ferofs umount --lazy /mnt
      Take it away now; it ends when nobody uses it any more.")]
pub struct UnmountArguments {
    /// Take it away now, and end it when nobody uses it any more
    #[arg(short, long)]
    lazy: bool,
    /// Where it is mounted
    #[arg(value_name = "DIR", required = true)]
    targets: Vec<PathBuf>,
}

/// Mounts.
pub fn run(arguments: &Arguments) -> Result<()> {
    mount_once(arguments, false)
}

/// Mounts; with `once`, unless the same is mounted there already, as `mount -a` expects.
fn mount_once(arguments: &Arguments, once: bool) -> Result<()> {
    super::build::remove_unfinished_on_signals()?;
    ferofs::files::allow_many();
    let mut options = Options::default();
    options.sloppy = arguments.sloppy;
    for list in &arguments.options {
        options.parse(list)?;
    }
    if let Some(verity) = &arguments.verity {
        options.parse(&format!("verity={verity}"))?;
    }
    options.devices.extend_from_slice(&arguments.device);
    options.directories.extend_from_slice(&arguments.blobs);
    options.most = arguments.max_size;
    options.stack |= arguments.stack;
    for (option, given) in [
        (&mut options.upper, &arguments.upper),
        (&mut options.work, &arguments.work),
        (&mut options.cache, &arguments.cache),
    ] {
        if given.is_some() {
            option.clone_from(given);
        }
    }
    if arguments.platform.is_some() {
        options.platform.clone_from(&arguments.platform);
    }
    let driver = match arguments.fs {
        DriverName::Ferofs => Driver::Ferofs,
        DriverName::Erofs => Driver::Erofs,
    };
    #[cfg(feature = "serve")]
    arguments.on_demand.apply(&mut options.on_demand);
    let request = Request::new(arguments.source.clone())
        .with_driver(driver)
        .with_options(options)
        .with_verify(arguments.verify);
    #[cfg(feature = "serve")]
    {
        if let Some(reference) = super::on_demand::reference(&arguments.source)? {
            let how = super::on_demand::How {
                arguments: &arguments.on_demand,
                target: &arguments.target,
                helper: once,
                fake: arguments.fake,
                verbose: arguments.verbose,
            };
            return super::on_demand::run(&reference, request, how);
        }
        arguments.on_demand.expect_none(&arguments.source)?;
    }
    if !arguments.fake {
        // Before anything is made that would be of no use.
        mount::expect_possible(&request, &arguments.target)?;
    }
    let mount = {
        let bar = Shared::new("reading layers", None, false);
        Mount::prepare(request, &|bytes| bar.add(bytes))?
    };
    for note in mount.notes() {
        complain(&format!("{}: {note}", Shown(&arguments.source)));
    }
    let mut lines = mount.describe().to_vec();
    let (source, target) = (Shown(&arguments.source), Shown(&arguments.target));
    // What is wrong with the directory is found once more, and said, by attaching.
    let there = || mount.is_mounted_at(&arguments.target).unwrap_or(false);
    if once && !arguments.fake && there() {
        complain(&format!("{source} is mounted at {target} already"));
        return Ok(());
    }
    if !arguments.fake {
        for warning in mount.attach(&arguments.target)? {
            complain(&warning);
        }
        lines.push(format!("{source}: mounted at {target} as {}", mount.kind()));
    }
    if !arguments.verbose {
        return Ok(());
    }
    to_stdout(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))
}

/// Mounts for mount(8), with the exit codes it knows.
pub fn run_helper(helper: &Helper) -> ExitCode {
    let entered = enter(helper.namespace.as_deref());
    match entered.and_then(|()| mount_once(&helper.arguments, true)) {
        // It was mounted, whoever may have closed the output.
        Ok(())
        | Err(Error::Io {
            doing: "write to", ..
        }) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(32)
        }
    }
}

/// Unmounts.
pub fn run_unmount(arguments: &UnmountArguments) -> Result<()> {
    let mut targets = arguments.targets.iter();
    targets.try_for_each(|target| mount::unmount(target, arguments.lazy))
}
