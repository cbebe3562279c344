// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The service's side: it looks into its policy, has a process of its own open a context in the namespaces of who asks, and makes
//! the filesystem there. Called by `ferofs mountd`, in a process for each connection.
//!
//! The context is the service's alone: who asks never has it, so that nothing of it changes between policy and kernel; and it is
//! one of ferofs whatever he sends. What he sends are open files, which the kernel knows by their digests.

use super::policy::Digest;
use super::policy::Policy;
use super::protocol;
use super::protocol::Reply;
use super::protocol::Request;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::fsverity;
use crate::mount::Driver;
use crate::mount::kernel;
use crate::text::Quoted;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;
use rustix::thread::LinkNameSpaceType;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// How long who connects may take to say what he wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers the one request of a connection by a policy. `open` is the command that runs [`open_context`].
///
/// # Errors
///
/// When the connection fails. What is wrong with a request is told to who asks, and is returned.
pub fn answer(
    connection: BorrowedFd<'_>,
    policy: &Path,
    open: &mut Command,
) -> Result<Option<String>> {
    let failed = |error: io::Error| Error::Io {
        doing: "answer",
        path: super::SOCKET.into(),
        source: error,
    };
    let kind = sockopt::Timeout::Recv;
    sockopt::set_socket_timeout(connection, kind, Some(PATIENCE)).map_err(|e| failed(e.into()))?;
    let peer = sockopt::socket_peercred(connection).map_err(|e| failed(e.into()))?;
    let user = peer.uid.as_raw();
    let refuse = |error: &Error| {
        protocol::send(connection, &Reply::refusal(error), &[]).map_err(failed)?;
        Ok(Some(format!("user {user}: {error}")))
    };
    let (request, files) = match protocol::receive::<Request>(connection) {
        Ok(Some(received)) => received,
        Ok(None) => return Ok(None),
        Err(error) => return refuse(&Error::Request(format!("no request: {error}"))),
    };
    match grant(&request, files, user, policy, open) {
        Ok((mount, warnings)) => {
            let reply = Reply {
                error: None,
                warnings,
            };
            protocol::send(connection, &reply, &[mount.as_fd()]).map_err(failed)?;
            Ok(None)
        }
        Err(error) => refuse(&error),
    }
}

/// Makes a mount, if the policy allows it.
fn grant(
    request: &Request,
    files: Vec<OwnedFd>,
    user: u32,
    policy: &Path,
    open: &mut Command,
) -> Result<(OwnedFd, Vec<String>)> {
    let digest = Digest::parse(&request.digest).ok_or_else(|| {
        let digest = Quoted(request.digest.as_bytes());
        Error::Request(format!("{digest} is no fs-verity digest"))
    })?;
    let policy = Policy::read(policy)?;
    let mut files = files.into_iter();
    let (Some(user_namespace), Some(mount_namespace), Some(image)) =
        (files.next(), files.next(), files.next())
    else {
        let what = "expected two namespaces and an image beside the request";
        return Err(Error::Request(what.to_string()));
    };
    let source = Path::new(&request.source);
    // Which digest a signed image really has the kernel looks at, when it is mounted: until then it cannot be changed.
    let image = File::from(image);
    let rule = policy.find(&digest, user, || fsverity::is_signed(&image, source))?;
    let rule = rule.ok_or_else(|| {
        let digest = digest.as_str();
        let what =
            format!("the image with the fs-verity digest {digest} is not allowed for user {user}");
        Error::of(Kind::Refused, what)
    })?;
    // What is missing for that is better said from here.
    drop(kernel::Context::open(Driver::Ferofs.name(), source)?);
    let file = opened_in(user_namespace, mount_namespace, open)?;
    let context = kernel::Context::of(file, source);
    context.file("source", &image)?;
    for blob in files {
        context.file("device", &blob)?;
    }
    context.string("verity", Path::new(digest.as_str()))?;
    context.flag("ro")?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    if rule.noexec {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
    }
    context.create(attributes)
}

/// A context that was opened in other namespaces, by a process that stays there: with the rights over them who was outside has none
/// outside any more.
fn opened_in(user: OwnedFd, mount: OwnedFd, open: &mut Command) -> Result<OwnedFd> {
    let failed = |error: io::Error| {
        let what = format!("a mount cannot be prepared in the namespaces that were sent: {error}");
        Error::of(Kind::Mount, what)
    };
    let kind = SocketType::SEQPACKET;
    let pair = rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(|errno| failed(errno.into()))?;
    let child = open
        .stdin(Stdio::from(user))
        .stdout(Stdio::from(mount))
        .stderr(Stdio::from(theirs))
        .spawn();
    let mut child = child.map_err(failed)?;
    // The command has its end of the pair until it is told of another.
    open.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let received = protocol::receive::<Reply>(&ours);
    child.wait().map_err(failed)?;
    match received.map_err(failed)? {
        Some((Reply { error: None, .. }, files)) => files
            .into_iter()
            .next()
            .ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into())),
        Some((Reply { error, .. }, _)) => Err(failed(io::Error::other(error.unwrap_or_default()))),
        None => Err(failed(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// What that process does: it enters the user namespace and the mount namespace that its input and output are, and sends a context that
/// it opens there through the socket that it has for errors. It must have one thread.
///
/// # Errors
///
/// When not even an error can be sent.
pub fn open_context() -> io::Result<()> {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let open = || -> io::Result<OwnedFd> {
        let enter = rustix::thread::move_into_link_name_space;
        enter(input.as_fd(), Some(LinkNameSpaceType::User))?;
        enter(output.as_fd(), Some(LinkNameSpaceType::Mount))?;
        let name = Driver::Ferofs.name();
        Ok(rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?)
    };
    match open() {
        Ok(context) => protocol::send(errors.as_fd(), &Reply::default(), &[context.as_fd()]),
        Err(error) => protocol::send(errors.as_fd(), &Reply::refusal(&error), &[]),
    }
}
