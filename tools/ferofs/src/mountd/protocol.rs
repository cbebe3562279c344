// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is said between the service and who asks it: messages of JSON, with open files beside them, over a socket that keeps their
//! borders. One request and one reply are all of a connection.

use rustix::cmsg_space;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::ReturnFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// How many open files a message can have: as many as the kernel passes on.
pub const FILES_MAX: usize = 253;
/// How large a message can be, in bytes.
const MESSAGE_MAX: usize = 16384;

/// What is asked for. Its files are the user namespace and the mount namespace of who asks, the image, and its blobs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What the image is called, for messages.
    pub source: String,
    /// Its fs-verity digest.
    pub digest: String,
}

/// What comes of it. If there is no error its file is the mount, which is nowhere yet.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Why there is none.
    pub error: Option<String>,
    /// What the kernel warned of.
    pub warnings: Vec<String>,
}

impl Reply {
    /// One that says why there is no mount.
    pub fn refusal(error: &impl ToString) -> Self {
        Reply {
            error: Some(error.to_string()),
            ..Reply::default()
        }
    }
}

/// Sends a message with open files.
pub fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX || files.len() > FILES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut beside,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a message and what is beside it. None at the end of the connection.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut beside,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut files = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            files.extend(more);
        }
    }
    if received.bytes == 0 && files.is_empty() {
        return Ok(None);
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message is too large, or has too many open files",
        ));
    }
    let bytes = bytes.get(..received.bytes).unwrap_or_default();
    Ok(Some((serde_json::from_slice(bytes)?, files)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::AddressFamily;
    use rustix::net::SocketFlags;
    use rustix::net::SocketType;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    fn pair() -> (OwnedFd, OwnedFd) {
        let kind = SocketType::SEQPACKET;
        rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn messages_arrive_with_their_files() {
        let (one, other) = pair();
        let sent: Vec<_> = (0..FILES_MAX)
            .map(|_| File::open("/proc/self/exe").unwrap())
            .collect();
        let request = Request {
            source: "image".into(),
            digest: "x".into(),
        };
        let files: Vec<_> = sent.iter().map(|file| file.as_fd()).collect();
        send(&one, &request, &files).unwrap();
        send(&one, &request, &[]).unwrap();
        let (found, files) = receive::<Request>(&other).unwrap().unwrap();
        assert_eq!((found.source.as_str(), files.len()), ("image", FILES_MAX));
        let last = File::from(files.into_iter().next_back().unwrap());
        assert_eq!(
            last.metadata().unwrap().ino(),
            sent[0].metadata().unwrap().ino()
        );
        let (_, files) = receive::<Request>(&other).unwrap().unwrap();
        assert!(files.is_empty());
        drop(one);
        assert!(receive::<Request>(&other).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [
            &b"{}"[..],
            b"[",
            b"{\"source\":\"a\",\"digest\":\"b\",\"more\":1}",
            &[b' '; MESSAGE_MAX + 1],
        ] {
            let (one, other) = pair();
            rustix::net::send(&one, bytes, SendFlags::empty()).unwrap();
            assert!(receive::<Request>(&other).is_err());
        }
    }
}
