// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The server: one thread hears of reads and lets readers go on, others get units. What is decided is in
//! [`super::board`].

use super::Options;
use super::board::Board;
use super::board::Failure;
use super::board::Key;
use super::list::List;
use super::lock::StoreLock;
use super::reads::Reads;
use super::source::Source;
use super::tar::Found;
use super::tar::SparseTar;
use crate::directory::Identity;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::files;
use crate::points::Points;
use crate::text::Shown;
use ferofs_fanotify::Event;
use ferofs_fanotify::Group;
use ferofs_fanotify::Refusal;
use rustix::event::EventfdFlags;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::eventfd;
use rustix::event::poll;
use rustix::io::Errno;
use rustix::process::Resource;
use rustix::process::getrlimit;
use std::collections::HashMap;
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// What is wanted and lies together is got with one request, up to a little more than so many bytes.
const RUN: u64 = 4 << 20;

/// So often is looked whether anybody uses the tars.
const LOOK: Duration = Duration::from_secs(1);

/// More files than a process can have open as kernels are set up.
const FILES_MAX: u64 = 1 << 20;

/// So many files may be opened beside those of events, for what is got and written.
const FILES_BESIDE: usize = 64;

/// What came of a unit: if nothing, why, unless that was said already.
type Put = std::result::Result<(), (Failure, Option<io::Error>)>;

/// A layer that is served.
struct Layer {
    points: Points,
    source: Arc<dyn Source>,
    tar: SparseTar,
}

/// Serves layers.
pub struct Server {
    shared: Arc<Shared>,
    store: PathBuf,
    layers: Vec<Layer>,
    by_identity: HashMap<Identity, usize>,
    options: Options,
    /// What is taken to end when nobody uses it: given back last.
    ending: Mutex<Option<StoreLock>>,
}

/// What all threads use.
struct Shared {
    state: Mutex<State>,
    /// There may be something to be got, or it is over.
    work: Condvar,
    group: Group,
    /// Wakes who waits for events.
    wake: OwnedFd,
    /// Whether as many wait as there may be open files for.
    is_full: AtomicBool,
    fetched: AtomicU64,
    written: AtomicU64,
}

struct State {
    board: Board<Event>,
    stopped: bool,
    /// Layers of which nothing can be had any more.
    broken: HashSet<usize>,
    /// Layers that came to be near, and are got as a whole.
    near: HashSet<usize>,
    /// How many layers are not complete.
    left: usize,
    reads: Reads,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes that were got from sources.
    pub fetched: u64,
    /// Bytes of plain tars that were written.
    pub written: u64,
}

/// Ends a server from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// Ends it: whoever waits gets an error.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.state().stopped = true;
        self.work.notify_all();
        self.wake();
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Lets readers go on.
    fn allow(&self, events: Vec<Event>) {
        for event in events {
            // The reader may be gone.
            let _ = event.allow();
        }
        self.make_room();
    }

    /// Gives readers an error.
    fn refuse(&self, events: Vec<Event>) {
        for event in events {
            let _ = event.refuse(Refusal::Io);
        }
        self.make_room();
    }

    /// Says that there is room for more events, if somebody waits for that.
    fn make_room(&self) {
        if self.is_full.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }
}

/// Units, if the source of the layer has them as they are in the tar.
fn near(layer: &Layer, run: &[Key]) -> Option<Vec<Vec<u8>>> {
    let units = run.iter().map(|(_, unit)| {
        let plain = layer.source.plain(layer.points.unit(*unit))?;
        // If it is something else, it can still be had as it is stored.
        layer.points.check(*unit, &plain).ok()?;
        Some(plain)
    });
    units.collect()
}

impl Server {
    /// A server of nothing yet, with a store that is there.
    ///
    /// # Errors
    ///
    /// When the kernel has no pre-content events, or this process may not hear of them.
    pub fn new(store: &Path, options: Options) -> Result<Self> {
        let group = Group::new().map_err(|error| {
            let why = match error.raw_os_error() {
                Some(1) => "that is for the superuser".to_string(),
                Some(22) => {
                    "the kernel has no pre-content events: expected Linux 6.14 or later".to_string()
                }
                _ => error.to_string(),
            };
            Error::of(
                Kind::Unsupported,
                format!("cannot hear of reads before they happen: {why}"),
            )
        })?;
        Self::of_group(store, options, group)
    }

    /// The same with a group that another process had, and its marks. Who waits for an event that nobody has read is served;
    /// whoever that process was asked for and did not answer is refused, for nobody else can.
    ///
    /// # Errors
    ///
    /// When the kernel takes no answers.
    pub fn with_group(store: &Path, options: Options, group: Group) -> Result<Self> {
        // It had no more files than this process may have.
        let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(FILES_MAX);
        let left = group.sweep(limit.min(FILES_MAX) as i32);
        let left = left.map_err(Error::io("serve", store))?;
        if left > 0 {
            (options.tell)(&format!(
                "{left} reads that another process was asked for were refused"
            ));
        }
        Self::of_group(store, options, group)
    }

    fn of_group(store: &Path, options: Options, group: Group) -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = eventfd(0, flags).map_err(|errno| Error::io("serve", store)(errno.into()))?;
        let state = State {
            board: Board::new(options.deadline),
            stopped: false,
            broken: HashSet::new(),
            near: HashSet::new(),
            left: 0,
            reads: Reads::default(),
        };
        Ok(Server {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                work: Condvar::new(),
                group,
                wake,
                is_full: AtomicBool::new(false),
                fetched: AtomicU64::new(0),
                written: AtomicU64::new(0),
            }),
            store: store.to_path_buf(),
            layers: Vec::new(),
            by_identity: HashMap::new(),
            options,
            ending: Mutex::new(None),
        })
    }

    /// Adds a layer: from now on, who reads its sparse tar waits for it. Returns where that is, or the tar, if all of it is
    /// there already.
    ///
    /// # Errors
    ///
    /// When another process serves it, unless it is left to that ([`Options::while_used`]); when the access points cannot be used, the tar cannot be opened, or its filesystem has no such events.
    pub fn add(&mut self, points: Points, source: Arc<dyn Source>) -> Result<PathBuf> {
        if !points.has_checksums() {
            let shown = source.shown();
            return Err(Error::of(
                Kind::Refused,
                format!(
                    "{shown}: its access points have no checksums, so wrong bytes would not be noticed"
                ),
            ));
        }
        let (tar, there) = match SparseTar::open(&self.store, &points)? {
            Found::Whole(path) => return Ok(path),
            Found::Elsewhere(path) if self.options.while_used => return Ok(path),
            Found::Elsewhere(path) => {
                let shown = Shown(&path);
                return Err(Error::of(
                    Kind::Refused,
                    format!("{shown} is served by another process"),
                ));
            }
            Found::Sparse(tar, there) => (tar, there),
        };
        // Its own descriptor was opened before, so what is written by it is nobody's business.
        self.shared.group.mark(tar.file()).map_err(|error| {
            let shown = Shown(&tar.path);
            let why = match error.raw_os_error() {
                Some(95) => {
                    "its filesystem has no pre-content events (tmpfs and overlayfs have none)"
                        .to_string()
                }
                _ => error.to_string(),
            };
            Error::of(Kind::Unsupported, format!("{shown}: {why}"))
        })?;
        let path = tar.path.clone();
        let mut state = self.shared.state();
        let number = state.board.add(&there);
        state.left += 1;
        drop(state);
        self.by_identity.insert(tar.identity, number);
        self.layers.push(Layer {
            points,
            source,
            tar,
        });
        Ok(path)
    }

    /// The directory that it has tars and access points in.
    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    /// What ends it.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.shared))
    }

    /// The descriptor of its group, which keeps the marks as long as anybody has it.
    pub fn group(&self) -> Group {
        self.shared.group.clone()
    }

    /// How much was done until now.
    pub fn totals(&self) -> Totals {
        Totals {
            fetched: self.shared.fetched.load(Ordering::Relaxed),
            written: self.shared.written.load(Ordering::Relaxed),
        }
    }

    /// What was read until now, in the order of first reads.
    pub fn recorded(&self) -> List {
        let state = self.shared.state();
        let entry = |key: &Key| {
            let points = &self.layers.get(key.0)?.points;
            Some((points.diff_id, points.unit(key.1).start))
        };
        List(state.reads.order().iter().filter_map(entry).collect())
    }

    /// Serves until it is stopped, or until all is there if that is wanted.
    ///
    /// # Errors
    ///
    /// When events cannot be read.
    pub fn run(&self) -> Result<()> {
        self.begin();
        let result = thread::scope(|scope| {
            for _ in 0..self.options.requests.max(1) {
                scope.spawn(|| self.work());
            }
            let result = self.listen();
            self.shared.stop();
            // Who waits must not wait for threads that wait for a registry.
            let waiting = self.shared.state().board.end();
            self.shared.refuse(waiting);
            result
        });
        result.map_err(Error::io("serve", &self.store))
    }

    /// Sees to what is there already, and to what is got in the background.
    fn begin(&self) {
        let mut whole = Vec::new();
        let mut state = self.shared.state();
        for number in 0..self.layers.len() {
            if state.board.is_whole(number) {
                whole.push(number);
            }
        }
        if self.options.complete {
            let mut units: Vec<Key> = Vec::new();
            for (diff_id, offset) in &self.options.first.0 {
                for (number, layer) in self.layers.iter().enumerate() {
                    if layer.points.diff_id == *diff_id {
                        let found = layer.points.units_of(*offset..offset.saturating_add(1));
                        units.extend(found.map(|unit| (number, unit)));
                    }
                }
            }
            for (number, layer) in self.layers.iter().enumerate() {
                units.extend((0..layer.points.units()).map(|unit| (number, unit)));
            }
            state.board.complete(units, self.most());
        }
        let ends = self.options.complete || self.options.while_used;
        state.stopped |= ends && self.layers.is_empty();
        drop(state);
        whole.into_iter().for_each(|number| self.complete(number));
    }

    /// How many requests are made at once for what nobody waits for.
    fn most(&self) -> usize {
        self.options.requests.div_ceil(2)
    }

    /// Gets all of those layers that came to be near, each once.
    fn get_near(&self) {
        for (number, layer) in self.layers.iter().enumerate() {
            let is_wanted = {
                let state = self.shared.state();
                !state.near.contains(&number) && !state.board.is_whole(number)
            };
            if is_wanted && layer.source.is_near() {
                let units = (0..layer.points.units()).map(|unit| (number, unit));
                let mut state = self.shared.state();
                state.near.insert(number);
                state.board.complete(units, self.most());
                drop(state);
                self.shared.work.notify_all();
            }
        }
    }

    /// Hears of reads.
    fn listen(&self) -> io::Result<()> {
        let mut buffer = [0; 8];
        let own = std::process::id();
        let beside = self.options.requests.saturating_add(FILES_BESIDE);
        let most = files::left().saturating_sub(beside).max(1);
        let mut is_told = false;
        let mut next_look = self.options.while_used.then(|| Instant::now() + LOOK);
        loop {
            let now = Instant::now();
            if next_look.is_some_and(|at| at <= now) {
                if self.may_end() {
                    return Ok(());
                }
                self.get_near();
                next_look = Some(now + LOOK);
            }
            let mut state = self.shared.state();
            if state.stopped {
                return Ok(());
            }
            let expired = state.board.expire(now);
            let next = state.board.next_deadline();
            drop(state);
            if !expired.is_empty() {
                let (count, seconds) = (expired.len(), self.options.deadline.as_secs_f32());
                (self.options.tell)(&format!(
                    "{count} reads were refused after {seconds} seconds"
                ));
                self.shared.refuse(expired);
            }
            let room = self.room(most);
            if room == 0 && !is_told {
                is_told = true;
                (self.options.tell)(&format!(
                    "{most} reads wait, and files for more cannot be open: others wait until some of these are answered"
                ));
            }
            let heard = match room {
                0 => PollFlags::empty(),
                _ => PollFlags::IN,
            };
            let next = next.into_iter().chain(next_look).min();
            let timeout = next.map(|at| at.saturating_duration_since(now));
            let timeout = timeout.and_then(|timeout| {
                // Not a little too early.
                Timespec::try_from(timeout + Duration::from_millis(1)).ok()
            });
            let mut fds = [
                PollFd::new(&self.shared.group, heard),
                PollFd::new(&self.shared.wake, PollFlags::IN),
            ];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let _ = rustix::io::read(&self.shared.wake, &mut buffer);
            let events = match self.shared.group.read(room) {
                Ok(events) => events,
                // The kernel refuses who waits for the event.
                Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                    (self.options.tell)("too many reads at once for the limit on open files");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut ready = Vec::new();
            let mut broken = Vec::new();
            let mut state = self.shared.state();
            for event in events {
                if event.pid() as u32 == own {
                    ready.push(event);
                    continue;
                }
                // What is served no more, and has its mark from another process: it may have holes.
                let Some((number, layer)) = self.layer_of(&event) else {
                    broken.push(event);
                    continue;
                };
                if state.broken.contains(&number) {
                    broken.push(event);
                    continue;
                }
                let range = event.range().unwrap_or(0..u64::MAX);
                let units = layer.points.units_of(range);
                let ahead = state.reads.note(number, units.clone());
                ready.extend(state.board.ask(number, units, event, now));
                state.board.expect(number, ahead);
            }
            drop(state);
            self.shared.work.notify_all();
            self.shared.allow(ready);
            self.shared.refuse(broken);
        }
    }

    /// How many events may be taken, if `most` may be open. What there is no room for is left where it is: if it were taken the
    /// kernel would refuse it.
    fn room(&self, most: usize) -> usize {
        let room = || most.saturating_sub(self.shared.group.open());
        if room() > 0 {
            return room();
        }
        // Who is answered from here on says so; who was before is not counted any more.
        self.shared.is_full.store(true, Ordering::SeqCst);
        room()
    }

    /// Whether nobody has any of the tars open. Nobody comes to use one then until this ends.
    fn may_end(&self) -> bool {
        // Who is about to mount something has it.
        let Ok(Some(lock)) = StoreLock::attempt(&self.store) else {
            return false;
        };
        for (number, layer) in self.layers.iter().enumerate() {
            // What is whole needs no server.
            let whole = self.shared.state().board.is_whole(number);
            // Without an answer somebody may.
            if !whole && layer.tar.is_used().unwrap_or(true) {
                return false;
            }
        }
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        true
    }

    fn layer_of(&self, event: &Event) -> Option<(usize, &Layer)> {
        let identity = Identity::from(&rustix::fs::fstat(event).ok()?);
        let number = *self.by_identity.get(&identity)?;
        Some((number, self.layers.get(number)?))
    }

    /// Gets units until it is over.
    fn work(&self) {
        while let Some(run) = self.next() {
            let Some(layer) = run.first().and_then(|(number, _)| self.layers.get(*number)) else {
                continue;
            };
            if let Some(units) = near(layer, &run) {
                for (key, plain) in run.into_iter().zip(units) {
                    let result = self.write(layer, key.1, &plain);
                    self.finish(layer, key, result);
                }
                continue;
            }
            let stored = self.get(layer, &run);
            for key in run {
                let result = match &stored {
                    Ok((start, bytes)) => self.put(layer, key.1, *start, bytes),
                    // That was said already.
                    Err(()) => Err((Failure::Passing, None)),
                };
                self.finish(layer, key, result);
            }
            // Others may have to wait for another time now.
            self.shared.work.notify_all();
        }
    }

    /// Notes that a unit is there, or is not.
    fn finish(&self, layer: &Layer, key: Key, result: Put) {
        let now = Instant::now();
        let mut state = self.shared.state();
        match result {
            Ok(()) => {
                let (ready, whole) = state.board.done(key, now);
                drop(state);
                self.shared.allow(ready);
                if whole {
                    self.complete(key.0);
                }
            }
            Err((failure, error)) => {
                let refused = state.board.failed(key, failure, now);
                drop(state);
                if let Some(error) = error {
                    self.tell(layer, &layer.points.unit(key.1), &error);
                }
                self.shared.refuse(refused);
            }
        }
    }

    fn tell(&self, layer: &Layer, unit: &Range<u64>, error: &io::Error) {
        let (shown, start, end) = (layer.source.shown(), unit.start, unit.end);
        (self.options.tell)(&format!(
            "{shown}: bytes {start} to {end} of the plain tar: {error}"
        ));
    }

    /// The next units to be got, one behind the other. Waits for some; nothing if it is over.
    fn next(&self) -> Option<Vec<Key>> {
        let mut state = self.shared.state();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            if let Some(first) = state.board.take(now) {
                let mut run = vec![first];
                let mut last = first;
                while self.is_short(first, last) {
                    let Some(next) = state.board.take_next(last) else {
                        break;
                    };
                    run.push(next);
                    last = next;
                }
                return Some(run);
            }
            let timeout = match state.board.next_take() {
                // That may be now, and others be at it.
                Some(at) => at
                    .saturating_duration_since(now)
                    .max(Duration::from_millis(10)),
                None => Duration::from_secs(3600),
            };
            let waited = self.shared.work.wait_timeout(state, timeout);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether one more unit may be got with these.
    fn is_short(&self, first: Key, last: Key) -> bool {
        let layer = self.layers.get(first.0);
        layer.is_some_and(|Layer { points, .. }| {
            let end = points.stored(last.1).end;
            end.saturating_sub(points.stored(first.1).start) < RUN
        })
    }

    /// Gets what some units are made of, with one request: where in what is stored it begins, and the bytes. What goes wrong is
    /// said.
    fn get(&self, layer: &Layer, run: &[Key]) -> std::result::Result<(u64, Vec<u8>), ()> {
        let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else {
            return Err(());
        };
        let range = layer.points.stored(*first).start..layer.points.stored(*last).end;
        let units = layer.points.unit(*first).start..layer.points.unit(*last).end;
        let wanted = range.end.saturating_sub(range.start);
        let stored = layer.source.range(range.clone());
        let stored = stored.and_then(|stored| {
            let fetched = stored.len() as u64;
            self.shared.fetched.fetch_add(fetched, Ordering::Relaxed);
            match fetched == wanted {
                true => Ok(stored),
                false => Err(io::Error::other(format!(
                    "{fetched} bytes came, expected {wanted}"
                ))),
            }
        });
        match stored {
            Ok(stored) => Ok((range.start, stored)),
            Err(error) => {
                self.tell(layer, &units, &error);
                Err(())
            }
        }
    }

    /// Makes a unit of bytes that begin at `start` of what is stored, and writes it.
    fn put(&self, layer: &Layer, unit: usize, start: u64, stored: &[u8]) -> Put {
        let range = layer.points.stored(unit);
        let at = |position: u64| position.saturating_sub(start) as usize;
        let stored = stored.get(at(range.start)..at(range.end));
        let plain = layer.points.inflate(unit, stored.unwrap_or_default());
        let plain = plain.map_err(|error| {
            layer.source.doubt();
            (Failure::Wrong, Some(error))
        })?;
        self.write(layer, unit, &plain)
    }

    /// Writes a unit.
    fn write(&self, layer: &Layer, unit: usize, plain: &[u8]) -> Put {
        let written = layer.tar.write(layer.points.unit(unit), plain);
        written.map_err(|error| (Failure::Passing, Some(error)))?;
        let written = plain.len() as u64;
        self.shared.written.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// All of a layer is there: if it is what it should be, nobody has to be asked any more.
    fn complete(&self, number: usize) {
        let Some(layer) = self.layers.get(number) else {
            return;
        };
        let completed = layer.tar.complete(&layer.points);
        let mut state = self.shared.state();
        let refused = match &completed {
            Ok(()) => Vec::new(),
            Err(_) => {
                state.broken.insert(number);
                state.board.forget(number)
            }
        };
        state.left = state.left.saturating_sub(1);
        let over = state.left == 0 && (self.options.complete || self.options.while_used);
        drop(state);
        self.shared.refuse(refused);
        match completed {
            Ok(()) => {
                let diff_id = layer.points.diff_id;
                // If that fails readers are still let through.
                let _ = self.shared.group.unmark(layer.tar.file());
                (self.options.tell)(&format!("sha256:{diff_id} is complete"));
            }
            Err(error) => (self.options.tell)(&error.to_string()),
        }
        if over {
            self.shared.stop();
        }
    }
}
