// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `umount.ferofs`: what umount(8) calls for filesystems of this type, if it is there.

use super::complain;
use clap::Parser;
use ferofs::mount;
use ferofs::text::Shown;
use std::path::PathBuf;
use std::process::ExitCode;

/// Unmount an EROFS image
///
/// What umount(8) calls for a mount of type ferofs.
#[derive(Parser)]
#[command(
    name = "umount.ferofs",
    version,
    after_help = "Examples:
  umount.ferofs /mnt
      The same as ferofs umount /mnt."
)]
pub struct Helper {
    /// Take it away now, and end it when nobody uses it any more
    #[arg(short)]
    lazy: bool,
    /// Accepted and ignored, as nothing has to be waited for or remounted
    #[arg(short)]
    force: bool,
    /// Accepted and ignored, as there is no mtab any more
    #[arg(short)]
    no_mtab: bool,
    /// Accepted and ignored, as it is read-only already
    #[arg(short)]
    read_only: bool,
    /// Say what is done
    #[arg(short)]
    verbose: bool,
    /// Accepted and ignored
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// Unmount in this mount namespace, such as /proc/PID/ns/mnt
    #[arg(short = 'N', value_name = "FILE")]
    namespace: Option<PathBuf>,
    /// Where it is mounted
    #[arg(value_name = "DIR")]
    target: PathBuf,
}

/// Unmounts for umount(8), with the exit codes it knows.
pub fn run(helper: &Helper) -> ExitCode {
    let entered = super::mount::enter(helper.namespace.as_deref());
    match entered.and_then(|()| mount::unmount(&helper.target, helper.lazy)) {
        Ok(()) => {
            if helper.verbose {
                complain(&format!("{}: unmounted", Shown(&helper.target)));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(32)
        }
    }
}
