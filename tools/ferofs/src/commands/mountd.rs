// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs mountd`: the service that mounts for those in user namespaces of their own what its policy allows. systemd starts one for
//! each connection; without systemd it listens itself, and starts one for each.

use super::complain;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::mountd;
use ferofs::mountd::service;
use rustix::fs::Mode;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// How many connections are answered at once.
const MOST: usize = 32;
/// The program itself, whatever has its name by now.
const SELF: &str = "/proc/self/exe";

/// Mount allowed images for users who may not mount
///
/// Who is in a user namespace of his own, as in a rootless container, asks this service when he calls `ferofs mount` there. It mounts
/// images that its policy names by their fs-verity digests, or that are signed, and no others; the filesystem belongs to the user namespace of who asks.
#[derive(clap::Args)]
#[command(after_help = "The policy has a line for each image:
  allow sha256:HEX [uid=NUMBER]... [noexec]
  allow signed [uid=NUMBER]... [noexec]
HEX is what `fsverity measure` prints of the image; signed are those with a signature that the kernel has checked (see
`ferofs build --sign`); uid= are the users who may mount it (all, if none is named).

Examples:
  ferofs mountd --listen
      Serve at /run/ferofs/mountd.sock. systemd does that with ferofs-mountd.socket.
  unshare --user --map-root-user --mount ferofs mount -o verity=HEX --blobs DIR app.erofs /mnt
      Mount an image that is allowed, as anybody.")]
pub struct Arguments {
    /// Listen at a socket; else the connection is the standard input
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true, default_missing_value = mountd::SOCKET)]
    listen: Option<PathBuf>,
    /// What is allowed
    #[arg(long, value_name = "FILE", default_value = mountd::POLICY)]
    policy: PathBuf,
    /// What opens a context in other namespaces.
    #[arg(long, hide = true)]
    open_context: bool,
}

/// Answers, or listens.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.open_context {
        return service::open_context().map_err(Error::io("answer in", Path::new("namespaces")));
    }
    match &arguments.listen {
        Some(path) => listen(path, &arguments.policy),
        None => {
            let mut open = Command::new(SELF);
            open.args(["mountd", "--open-context"]);
            let refused = service::answer(io::stdin().as_fd(), &arguments.policy, &mut open)?;
            if let Some(refused) = refused {
                complain(&refused);
            }
            Ok(())
        }
    }
}

/// Takes connections, and has a process of its own answer each.
fn listen(path: &Path, policy: &Path) -> Result<()> {
    let socket = bind(path).map_err(Error::io("listen at", path))?;
    let mut children: Vec<Child> = Vec::new();
    loop {
        let connection = match rustix::net::accept_with(&socket, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(errno) => return Err(Error::io("listen at", path)(errno.into())),
        };
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if children.len() >= MOST {
            let mut first = children.remove(0);
            let _ = first.wait();
        }
        let mut command = Command::new(SELF);
        command.arg("mountd").arg("--policy").arg(policy);
        match command
            .stdin(Stdio::from(connection))
            .stdout(Stdio::null())
            .spawn()
        {
            Ok(child) => children.push(child),
            Err(error) => complain(&format!("cannot answer: {error}")),
        }
    }
}

/// A socket that everybody may connect to, in place of one that nobody listens at any more.
fn bind(path: &Path) -> io::Result<OwnedFd> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let kind = SocketType::SEQPACKET;
    let address = SocketAddrUnix::new(path)?;
    let socket = || rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    if rustix::net::connect(&socket()?, &address) == Err(rustix::io::Errno::CONNREFUSED) {
        fs::remove_file(path)?;
    }
    let socket = socket()?;
    rustix::net::bind(&socket, &address)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o666))?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}
