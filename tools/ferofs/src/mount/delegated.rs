// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Mounts of who is in another user namespace than the first one, and so may not make the filesystem himself: a service does,
//! see [`crate::mountd`]. Called for each filesystem of a mount.

use super::filesystem;
use super::filesystem::Filesystem;
use super::options::Options;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::mountd::SOCKET;
use crate::mountd::protocol;
use crate::mountd::protocol::FILES_MAX;
use crate::mountd::protocol::Reply;
use crate::mountd::protocol::Request;
use crate::text::Shown;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// The number of the first user namespace's inode, the same on each machine.
const FIRST: u64 = 0xEFFF_FFFD;
/// How many files there are beside blobs.
const OTHERS: usize = 3;

/// Whether this process is in another user namespace than the first one.
pub fn is_needed() -> bool {
    fs::metadata("/proc/self/ns/user").is_ok_and(|found| found.ino() != FIRST)
}

/// Has a filesystem made, which is mounted nowhere yet. Returns the kernel's warnings, too.
///
/// # Errors
///
/// When it is asked for in another way than by its digest, the service is not there, or says no.
pub fn mount(filesystem: &Filesystem, options: &Options) -> Result<(OwnedFd, Vec<String>)> {
    let source = Shown(&filesystem.path);
    let refused = |why: String| {
        let what = format!("cannot mount {source} in a user namespace: {why}");
        Error::of(Kind::Mount, what)
    };
    let mut digest = None;
    for (key, value) in &options.filesystem {
        match (key.as_str(), value) {
            ("verity", Some(value)) if value != "require" => digest = Some(value.clone()),
            _ => return Err(refused(format!("the option {key} is for root only"))),
        }
    }
    let digest = digest.ok_or_else(|| {
        refused(
            "the service that does it knows images by their fs-verity digests: -o verity=HEX"
                .to_string(),
        )
    })?;
    let most = FILES_MAX - OTHERS;
    if filesystem.blobs.len() > most {
        let count = filesystem.blobs.len();
        return Err(refused(format!(
            "it has {count} blobs, expected at most {most}"
        )));
    }
    let namespace = |kind: &str| {
        let path = Path::new("/proc/self/ns").join(kind);
        File::open(&path).map_err(Error::io("open", &path))
    };
    let (user, mounts) = (namespace("user")?, namespace("mnt")?);
    let blobs = filesystem.blobs.iter().map(|device| match &device.file {
        Some(file) => Ok(Arc::clone(file)),
        None => filesystem::open(&device.blob.path).map(Arc::new),
    });
    let blobs = blobs.collect::<Result<Vec<_>>>()?;
    let mut files = vec![user.as_fd(), mounts.as_fd(), filesystem.image.as_fd()];
    files.extend(blobs.iter().map(|file| file.as_fd()));
    let request = Request {
        source: filesystem.path.to_string_lossy().into_owned(),
        digest,
    };
    let asked = ask(&request, &files);
    let (reply, files) = asked.map_err(|error| {
        refused(format!(
            "the service ferofs-mountd, which does it, does not answer at {SOCKET}: {error}"
        ))
    })?;
    if let Some(error) = reply.error {
        return Err(refused(error));
    }
    let mount = files.into_iter().next();
    let mount = mount.ok_or_else(|| refused("the service sent no mount".to_string()))?;
    Ok((mount, reply.warnings))
}

fn ask(request: &Request, files: &[BorrowedFd<'_>]) -> io::Result<(Reply, Vec<OwnedFd>)> {
    let kind = SocketType::SEQPACKET;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    protocol::send(&socket, request, files)?;
    protocol::receive(&socket)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
