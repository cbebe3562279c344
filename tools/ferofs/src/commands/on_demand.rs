// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs mount` of an image in a registry, whose layers come when they are read: what is needed of it is got, a server
//! begins, and the image is mounted, all in one process, which stays until nobody uses the layers any more. Unless it is to
//! stay in the foreground, [`start`] runs the same command as that process and waits until it is ready.

use super::complain;
use super::layers::Shared;
use super::registry::Reach;
use super::serve;
use super::to_stdout;
use ferofs::error::Error;
use ferofs::error::Kind;
use ferofs::error::Result;
use ferofs::mount;
use ferofs::mount::Driver;
use ferofs::mount::Mount;
use ferofs::mount::Request;
use ferofs::mount::options::OnDemand;
use ferofs::oci;
use ferofs::oci::remote;
use ferofs::oci::remote::Pull;
use ferofs::oci::remote::Remote;
use ferofs::serve::Options;
use ferofs::serve::StoreLock;
use ferofs::serve::Stored;
use ferofs::text::Shown;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use signal_hook::consts::SIGIO;
use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Where layers are kept unless somebody wants them elsewhere.
const STORE: &str = "/var/lib/ferofs/store";
/// Where in the store a server in the background writes what it has to say.
const LOG: &str = "log";
/// A log that is larger is begun anew.
const LOG_MAX: u64 = 1 << 20;
/// What is printed when all is mounted and served.
const READY: &str = "ready";
/// After so many seconds for which nothing came, readers get errors.
const DEADLINE: u64 = 30;

/// What is for images in registries only.
#[derive(clap::Args)]
#[group(id = "on-demand")]
pub struct Arguments {
    /// Where what is there of layers that come from a registry is kept, with what is needed to get the rest
    /// [default: /var/lib/ferofs/store]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Ask this registry first, which has the same repositories; may be given several times, in the order in which they are
    /// asked
    #[arg(long, value_name = "HOST[:PORT]")]
    mirror: Vec<String>,
    #[command(flatten)]
    reach: Reach,
    /// Get everything in the background, too; then nothing has to be asked for any more
    #[arg(long)]
    complete: bool,
    /// Who reads what is not there gets an error when nothing came for so long [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = super::parse_number::<u64>)]
    deadline: Option<u64>,
    /// Stay in the foreground, and end when nobody uses the layers any more. What is mounted there already is served
    #[arg(long)]
    foreground: bool,
    /// What runs in the background.
    #[arg(long, hide = true, conflicts_with = "foreground")]
    background: bool,
}

impl Arguments {
    /// Adds what is given to what options say.
    pub fn apply(&self, options: &mut OnDemand) {
        if self.store.is_some() {
            options.store.clone_from(&self.store);
        }
        options.mirrors.extend_from_slice(&self.mirror);
        options.authorities.extend_from_slice(&self.reach.ca_file);
        options.plain_http |= self.reach.plain_http;
        options.complete |= self.complete;
        options.deadline = self.deadline.or(options.deadline);
    }

    /// Fails if something is given that makes no sense without a registry, and that the options do not have.
    pub fn expect_none(&self, source: &Path) -> Result<()> {
        if !self.foreground {
            return Ok(());
        }
        let shown = Shown(source);
        Err(Error::Request(format!(
            "{shown} is no image in a registry, for which --foreground is: nothing has to stay for it"
        )))
    }
}

/// How it is to be mounted.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// What is given for it.
    pub arguments: &'a Arguments,
    /// Where.
    pub target: &'a Path,
    /// Whether mount(8) asks for it.
    pub helper: bool,
    /// Whether everything but that is done.
    pub fake: bool,
    /// Whether to say what is done.
    pub verbose: bool,
}

/// The image in a registry that a source names, unless there is a file with this name, or it is something else.
pub fn reference(source: &Path) -> Result<Option<remote::Reference>> {
    if oci::Reference::parse(source)?.is_some() || source.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let name = source.to_str();
    Ok(name.and_then(|name| remote::Reference::parse(name).ok()))
}

/// Mounts an image.
pub fn run(reference: &remote::Reference, request: Request, how: How<'_>) -> Result<()> {
    let options = &request.options;
    let source = Shown(&request.source);
    let refused = [
        (options.stack, "--stack"),
        (options.cache.is_some(), "--cache"),
        (options.most.is_some(), "--max-size"),
        (!options.devices.is_empty(), "device="),
        (request.verify, "--verify, which would get all of it,"),
        (request.driver == Driver::Erofs, "--fs erofs"),
    ];
    if let Some((_, option)) = refused.into_iter().find(|(given, _)| *given) {
        return Err(Error::Request(format!(
            "{source} is an image in a registry, whose layers are not there: {option} does not go with it"
        )));
    }
    if !how.fake {
        mount::expect_possible(&request, how.target)?;
        if !how.arguments.foreground && !how.arguments.background {
            return start(how.helper);
        }
    }
    let store = store(&request.options.on_demand)?;
    let image = find(reference, &request)?;
    let merged = get(&image, &store)?;
    if how.fake {
        return Ok(());
    }
    serve_mounted(&image, &store, &merged, request, how)
}

/// The store, which is made.
fn store(options: &OnDemand) -> Result<PathBuf> {
    let store = match &options.store {
        Some(store) => store.as_path(),
        None => Path::new(STORE),
    };
    // What is in layers is nobody's business who could not see it when it is mounted.
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(store);
    made.map_err(Error::io("create", store))?;
    fs::canonicalize(store).map_err(Error::io("open", store))
}

fn find(reference: &remote::Reference, request: &Request) -> Result<Arc<Remote>> {
    let on_demand = &request.options.on_demand;
    let options = remote::Options::default()
        .with_plain_http(on_demand.plain_http)
        .with_mirrors(on_demand.mirrors.clone())
        .with_authorities(on_demand.authorities.clone());
    let platform = request.options.platform.as_ref();
    let deadline = on_demand.deadline.unwrap_or(DEADLINE);
    ferofs::serve::find(reference, platform, options, deadline).map_err(|error| {
        match error.kind() {
            Kind::Registry => Error::Request(format!(
                "{error}; there is no file {}, so it is taken for an image in a registry",
                Shown(&request.source)
            )),
            _ => error,
        }
    })
}

/// Gets what is needed of an image before its layers are. Returns the image of all of them together.
fn get(image: &Remote, store: &Path) -> Result<PathBuf> {
    let file = |layer: &remote::Layer, what: &str| store.join(format!("{}.{what}", layer.diff_id));
    let known =
        |layer: &remote::Layer| file(layer, "points").exists() && file(layer, "erofs").exists();
    if !image.layers.iter().all(known) {
        let bar = Shared::new("pulling indexes", None, false);
        let pull = Pull::new(store).with_points(true);
        let pulled = image.pull(pull, &|bytes| bar.add(bytes));
        drop(bar);
        let pulled = pulled.map_err(|error| match error.kind() {
            Kind::NotFound => {
                let store = Shown(store);
                Error::Request(format!(
                        "{error}: an index and access points of each layer have to be there before it can be mounted. \
                         Make them once, and store them beside it, with `ferofs push-index --make --layers DIR {}`; or make them in \
                         {store}, with `ferofs build --no-tar -o DIR oci:...` of the same image on disk",
                        image.name
                    ))
            }
            _ => error,
        })?;
        let notes = pulled.iter().flat_map(|pulled| &pulled.notes);
        notes.for_each(|note| complain(note));
    }
    let (merged, notes) = image.merge(store)?;
    notes.iter().for_each(|note| complain(note));
    Ok(merged)
}

/// Serves an image and mounts it meanwhile, until nobody uses its layers any more.
fn serve_mounted(
    image: &Arc<Remote>,
    store: &Path,
    merged: &Path,
    mut request: Request,
    how: How<'_>,
) -> Result<()> {
    let source = request.source.clone();
    let on_demand = std::mem::take(&mut request.options.on_demand);
    request.source = merged.to_path_buf();
    request.options.platform = None;
    request.options.err_on_holes();
    request.options.directories.insert(0, store.to_path_buf());

    // The kernel sends it to whoever asks whether a file is used, if somebody opens it just then.
    let ignored = signal_hook::flag::register(SIGIO, Arc::default());
    ignored.map_err(|error| Error::Request(format!("cannot handle signals: {error}")))?;
    let deadline = on_demand.deadline.unwrap_or(DEADLINE).max(1);
    let options = Options::default()
        .with_deadline(Duration::from_secs(deadline))
        .with_complete(on_demand.complete)
        .with_while_used(true)
        .with_tell(Arc::new(complain));
    let lock = StoreLock::wait(store)?;
    let (mut server, is_new) = serve::begin(store, options)?;
    let tars = server.add_all(Stored::of(image))?;
    let server = &server;
    thread::scope(|scope| {
        // Before anything is read of the tars, be it to mount them.
        let served = scope.spawn(|| server.run());
        let mounted = attach(request, &source, how, tars).and_then(|lines| {
            drop(lock);
            to_stdout(|out| {
                lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
                writeln!(out, "{READY}")
            })?;
            match how.arguments.background {
                true => leave(store),
                false => serve::ready(server, is_new),
            }
        });
        if mounted.is_err() {
            server.stopper().stop();
        }
        let served = served.join();
        let served = served.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        mounted.and(served)
    })
}

/// Mounts the image of all layers. Returns what is to be said.
fn attach(
    request: Request,
    source: &Path,
    how: How<'_>,
    tars: Vec<PathBuf>,
) -> Result<Vec<String>> {
    let mount = Mount::prepare(request, &|_| {})?;
    for note in mount.notes() {
        complain(&format!("{}: {note}", Shown(source)));
    }
    let mut lines = mount.describe().to_vec();
    let (source, target) = (Shown(source), Shown(how.target));
    let once = how.helper || how.arguments.foreground;
    if once && mount.is_mounted_at(how.target).unwrap_or(false) {
        complain(&format!("{source} is mounted at {target} already"));
        return Ok(Vec::new());
    }
    for warning in mount.attach(how.target)? {
        complain(&warning);
    }
    let kind = mount.kind();
    lines.push(format!("{source}: mounted at {target} as {kind}"));
    lines.extend(tars.iter().map(|tar| format!("{source}: {}", Shown(tar))));
    if !how.verbose {
        lines.clear();
    }
    Ok(lines)
}

/// Lets go of everything that whoever has started this may wait for. What is said goes to a file in the store.
fn leave(store: &Path) -> Result<()> {
    let path = store.join(LOG);
    let failed = |errno: rustix::io::Errno| Error::io("write to", &path)(errno.into());
    let mut flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if fs::metadata(&path).is_ok_and(|found| found.len() > LOG_MAX) {
        flags |= OFlags::TRUNC;
    }
    let log = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let null = File::options().write(true).open("/dev/null");
    let null = null.map_err(Error::io("open", Path::new("/dev/null")))?;
    rustix::stdio::dup2_stdout(null).map_err(failed)?;
    rustix::stdio::dup2_stderr(log).map_err(failed)?;
    // It need not be possible: whoever started this may have seen to it.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/").map_err(Error::io("open", Path::new("/")))
}

/// Runs this command in the background, and waits until all is mounted. If that fails this process ends as that one did, which
/// has said why.
fn start(helper: bool) -> Result<()> {
    let failed = |error| Error::io("run", Path::new("/proc/self/exe"))(error);
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name);
    if !helper {
        command.args(arguments.next());
    }
    command.arg("--background").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|out| BufReader::new(out).lines())
    {
        let line = line.map_err(failed)?;
        if line == READY {
            return Ok(());
        }
        to_stdout(|out| writeln!(out, "{line}"))?;
    }
    let status = child.wait().map_err(failed)?;
    match status.code() {
        Some(code) if code != 0 => std::process::exit(code),
        _ => Err(Error::Request(format!(
            "the process that mounts and serves it has ended before that was done: {status}"
        ))),
    }
}
