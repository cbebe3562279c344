// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The kernel's log from a point on, for checks of what was logged.

use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// A place in the kernel's log.
pub struct Kmsg(OwnedFd);

impl Kmsg {
    /// Begins behind what is there now.
    pub fn from_now() -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let log = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).context("/dev/kmsg")?;
        rustix::fs::seek(&log, SeekFrom::End(0)).context("/dev/kmsg: seek to its end")?;
        Ok(Kmsg(log))
    }

    /// The text of the messages since the last call.
    pub fn new_messages(&mut self) -> Result<Vec<String>> {
        let mut messages = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match rustix::io::read(&self.0, &mut buffer[..]) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(messages),
                Ok(length) => {
                    let record = String::from_utf8_lossy(&buffer[..length]);
                    let text = record.split_once(';').map_or(&*record, |(_, text)| text);
                    messages.push(text.lines().next().unwrap_or("").to_owned());
                }
                // Messages were overwritten before we read them.
                Err(Errno::PIPE) => {}
                Err(error) => return Err(error).context("/dev/kmsg: read"),
            }
        }
    }
}
