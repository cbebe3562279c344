// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Pre-content events of fanotify (Linux 6.14 and later): who reads which range of a file is told before it is read, and
//! waits until that is answered.
//!
//! A [`Group`] has marks on files. [`Group::read`] gives [`Event`]s, each of which is answered once: allowed, or refused with
//! an error that the reader gets. One that is dropped is refused. Only the superuser may have a group, and some filesystems
//! (tmpfs, overlayfs) have no such events.
//!
//! [`is_open_elsewhere`] says whether anybody still has a file for which that is done.
//!
//! **When the last descriptor of a group is closed, also by the end of the process, the kernel allows all that waits, and
//! forgets the marks.** What is then read of a file that is not complete is what the file has.
//!
//! ```no_run
//! use ferofs_fanotify::Group;
//! use std::fs::File;
//!
//! let group = Group::new()?;
//! group.mark(&File::open("/srv/store/blob")?)?;
//! for event in group.read(100)? {
//!     println!("{} reads {:?}", event.pid(), event.range());
//!     event.allow()?;
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

mod record;

use record::Record;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Before content is accessed; not in the libc crate yet.
const FAN_PRE_ACCESS: u64 = 0x0010_0000;
/// Where an answer has the error that a reader gets.
const ERRNO_SHIFT: u32 = 24;
/// The first descriptor that a service manager leaves open for a process.
const FIRST_KEPT: RawFd = 3;
/// Most events that are read at once.
const EVENTS_MAX: usize = 300;

/// A group of marks, and the events of the files that have them.
#[derive(Clone, Debug)]
pub struct Group {
    file: Arc<File>,
    /// How many events were read that nobody has answered.
    open: Arc<AtomicUsize>,
}

/// What a reader is told who may not go on. The kernel takes no other errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// EIO.
    Io,
    /// EPERM.
    NotPermitted,
    /// EBUSY.
    Busy,
    /// EAGAIN.
    Again,
    /// ENOSPC.
    NoSpace,
}

impl Refusal {
    fn errno(self) -> i32 {
        match self {
            Refusal::Io => libc::EIO,
            Refusal::NotPermitted => libc::EPERM,
            Refusal::Busy => libc::EBUSY,
            Refusal::Again => libc::EAGAIN,
            Refusal::NoSpace => libc::ENOSPC,
        }
    }

    fn response(self) -> u32 {
        libc::FAN_DENY | ((self.errno() as u32) << ERRNO_SHIFT)
    }
}

impl Group {
    /// A group without marks.
    ///
    /// # Errors
    ///
    /// When the kernel knows no pre-content events (EINVAL), or this process may have no group (EPERM).
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_PRE_CONTENT
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_UNLIMITED_QUEUE
            | libc::FAN_UNLIMITED_MARKS;
        let opened = libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC | libc::O_NOATIME;
        // SAFETY: It takes two numbers, and nothing of this process's memory.
        let fd = unsafe { libc::fanotify_init(flags, opened as u32) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: The kernel has made the descriptor in this call, and nobody else knows of it.
        Ok(Self::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The group that the service manager kept under a name while another process had it (sd_listen_fds(3), with
    /// `FileDescriptorStoreMax=`), with its marks and with those who wait. It is given once.
    pub fn kept(name: &str) -> Option<Self> {
        static GIVEN: AtomicBool = AtomicBool::new(false);
        let variable = |key| std::env::var(key).ok();
        let pid: u32 = variable("LISTEN_PID")?.parse().ok()?;
        let count: usize = variable("LISTEN_FDS")?.parse().ok()?;
        let names = variable("LISTEN_FDNAMES")?;
        let at = names
            .split(':')
            .take(count)
            .position(|known| known == name)?;
        let fd = FIRST_KEPT.checked_add(RawFd::try_from(at).ok()?)?;
        let is_group = std::fs::read_link(format!("/proc/self/fd/{fd}"))
            .is_ok_and(|target| target.as_os_str() == "anon_inode:[fanotify]");
        if pid != std::process::id() || !is_group || GIVEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: The descriptor is open, as was looked at, and it is this process's to take: who started it left it under
        // this name for that, by the variables of sd_listen_fds(3), which are for this process. It is taken here alone, and once.
        Some(Self::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Reads of the file are told from now on. Those by files that were opened before are not.
    ///
    /// # Errors
    ///
    /// When its filesystem has no such events (EOPNOTSUPP), or the kernel refuses.
    pub fn mark(&self, file: &impl AsFd) -> io::Result<()> {
        self.change(libc::FAN_MARK_ADD, file)
    }

    /// Reads of the file are not told any more.
    ///
    /// # Errors
    ///
    /// When it has no mark (ENOENT), or the kernel refuses.
    pub fn unmark(&self, file: &impl AsFd) -> io::Result<()> {
        self.change(libc::FAN_MARK_REMOVE, file)
    }

    fn change(&self, flags: u32, file: &impl AsFd) -> io::Result<()> {
        let group = self.file.as_raw_fd();
        let file = file.as_fd().as_raw_fd();
        // SAFETY: Both descriptors are open during the call, since they are borrowed; without a path, which is null, the kernel
        // looks at no memory of this process.
        let code = unsafe { libc::fanotify_mark(group, flags, FAN_PRE_ACCESS, file, ptr::null()) };
        match code {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The events that are there, `most` at most, and not more than some hundred at once: none if there are none yet. [`AsFd`] is
    /// for whoever wants to wait for some.
    ///
    /// # Errors
    ///
    /// When they cannot be read. EMFILE is one, for each event has an open file; who waits for the event is refused then by
    /// the kernel. So leave events that there is no room for: who waits for one that nobody has read goes on to wait.
    pub fn read(&self, most: usize) -> io::Result<Vec<Event>> {
        // The kernel writes as many as there is room for, and each as large as this.
        let mut buffer = vec![0; most.min(EVENTS_MAX).saturating_mul(record::LEN)];
        if buffer.is_empty() {
            return Ok(Vec::new());
        }
        let len = match (&*self.file).read(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        buffer.truncate(len);
        let records = record::parse(&buffer)?.into_iter();
        Ok(records.filter_map(|record| self.event(record)).collect())
    }

    /// How many events of it there are, each of which has an open file.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn event(&self, record: Record) -> Option<Event> {
        if record.fd < 0 {
            return None;
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        // SAFETY: The kernel has made the descriptor in the read that the record is from, which is taken apart once, so nobody else
        // has it.
        let file = unsafe { OwnedFd::from_raw_fd(record.fd) };
        let event = Event {
            group: self.clone(),
            file,
            pid: record.pid,
            range: record.range,
            answered: false,
        };
        match record.mask & FAN_PRE_ACCESS {
            // Nothing else was asked for. It is refused, if it waits.
            0 => None,
            _ => Some(event),
        }
    }

    /// Refuses whatever another process that had this group has taken and not answered: nobody else can. `most` is how many
    /// files that one could have open. Returns how many there were.
    ///
    /// # Errors
    ///
    /// When the kernel takes no answers.
    pub fn sweep(&self, most: RawFd) -> io::Result<usize> {
        let mut found = 0;
        for fd in 0..most {
            match self.respond(fd, Refusal::Io.response()) {
                Ok(()) => found += 1,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn respond(&self, fd: RawFd, response: u32) -> io::Result<()> {
        let mut answer = [0; 8];
        let (first, second) = answer.split_at_mut(4);
        first.copy_from_slice(&fd.to_ne_bytes());
        second.copy_from_slice(&response.to_ne_bytes());
        (&*self.file).write_all(&answer)
    }
}

/// A descriptor that another process had, and which is a group's.
impl From<OwnedFd> for Group {
    fn from(fd: OwnedFd) -> Self {
        Group {
            file: Arc::new(File::from(fd)),
            open: Arc::default(),
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether anybody else has a file open, be it the kernel for a mount whose data is in it. The file must be open for
/// writing, and no other time by this process.
///
/// The kernel says so when it is asked for a write lease, which is given back at once. Who opens the file just then waits for
/// that, and this process gets SIGIO: do not leave that at what it does by default.
///
/// # Errors
///
/// When the filesystem has no leases, or this process may not have one: the file is somebody else's.
pub fn is_open_elsewhere(file: &impl AsFd) -> io::Result<bool> {
    let lease = |kind: libc::c_int| {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: The descriptor is open during the call, since it is borrowed; the command takes a number, and the kernel
        // looks at no memory of this process.
        match unsafe { libc::fcntl(fd, libc::F_SETLEASE, kind) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    match lease(libc::F_WRLCK) {
        Ok(()) => lease(libc::F_UNLCK).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Somebody who waits to read.
#[derive(Debug)]
pub struct Event {
    group: Group,
    file: OwnedFd,
    pid: i32,
    range: Option<Range<u64>>,
    answered: bool,
}

impl Event {
    /// The process that reads; 0 if it cannot be seen from here.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What is read, which may reach past the end of the file. If the kernel does not say, it can be anything.
    pub fn range(&self) -> Option<Range<u64>> {
        self.range.clone()
    }

    /// Lets the reader go on.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the answer. The reader may be gone.
    pub fn allow(mut self) -> io::Result<()> {
        self.answered = true;
        self.group.respond(self.file.as_raw_fd(), libc::FAN_ALLOW)
    }

    /// Gives the reader an error.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the answer. The reader may be gone.
    pub fn refuse(mut self, refusal: Refusal) -> io::Result<()> {
        self.answered = true;
        self.group
            .respond(self.file.as_raw_fd(), refusal.response())
    }
}

/// The file that is read.
impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if !self.answered {
            // Nobody may wait forever.
            let _ = self
                .group
                .respond(self.file.as_raw_fd(), Refusal::Io.response());
        }
        // The file is closed right after this.
        self.group.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::thread;

    #[test]
    fn errors_are_where_the_kernel_looks_for_them() {
        assert_eq!(Refusal::Io.response(), 2 | (5 << 24));
        assert_eq!(Refusal::NoSpace.response(), 2 | (28 << 24));
    }

    #[test]
    fn whoever_has_a_file_open_is_noticed() {
        let path = std::env::temp_dir().join(format!("ferofs-lease-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let is_open = || is_open_elsewhere(&file).unwrap();
        assert!(!is_open());
        // It is the same, twice.
        let same = file.try_clone().unwrap();
        assert!(!is_open());
        drop(same);
        let reader = File::open(&path).unwrap();
        assert!(is_open());
        drop(reader);
        assert!(!is_open());
        let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert!(is_open());
        drop(writer);
        assert!(!is_open());
        fs::remove_file(&path).unwrap();
    }

    /// Where it can be tried: by the superuser, on a filesystem with such events, of a kernel that has them.
    #[test]
    fn a_reader_waits_and_gets_what_was_answered() {
        let path = std::env::temp_dir().join(format!("ferofs-fanotify-{}", std::process::id()));
        fs::write(&path, vec![7; 300_000]).unwrap();
        let file = File::open(&path).unwrap();
        let group = match Group::new() {
            Ok(group) => group,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        if let Err(error) = group.mark(&file) {
            fs::remove_file(&path).unwrap();
            return eprintln!("skipped: {error}");
        }
        let reader = thread::spawn({
            let path = path.clone();
            move || {
                let file = File::open(path).unwrap();
                let mut bytes = [0; 5000];
                [(); 3].map(|()| {
                    file.read_exact_at(&mut bytes, 123_456)
                        .map_err(|error| error.raw_os_error())
                })
            }
        });
        let mut events = 0;
        assert!(group.read(0).unwrap().is_empty());
        while events < 3 {
            for event in group.read(1).unwrap() {
                events += 1;
                assert_eq!(group.open(), 1);
                assert_eq!(event.pid() as u32, std::process::id());
                let range = event.range().unwrap();
                assert!(range.start <= 123_456 && range.end >= 128_456, "{range:?}");
                match events {
                    1 => event.refuse(Refusal::NoSpace).unwrap(),
                    // As if nobody cared.
                    2 => drop(event),
                    _ => event.allow().unwrap(),
                }
            }
            thread::yield_now();
        }
        let found = reader.join().unwrap();
        assert_eq!(
            found,
            [Err(Some(libc::ENOSPC)), Err(Some(libc::EIO)), Ok(())]
        );
        assert_eq!(group.open(), 0);
        group.unmark(&file).unwrap();
        assert_eq!(group.sweep(100).unwrap(), 0);
        fs::remove_file(&path).unwrap();
    }
}
