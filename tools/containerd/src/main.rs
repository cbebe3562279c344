// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! containerd-ferofs-grpc: a snapshotter and differ for containerd, as a proxy plugin.
//!
//! Layers stay the tars that they are. Beside each is an index; the indexes of an image's layers are merged, and the
//! kernel mounts that and reads the tars: this daemon is in the way of no data, and containers go on without it.
//!
//! ```text
//! main -> service -> snapshotter -> lower -> catalog, places
//!      -> store      applier
//!      -> sweep      comparer         -> on_demand -> serving
//! ```

#![forbid(unsafe_code)]

mod api;
mod applier;
mod catalog;
mod comparer;
mod config;
mod content;
mod filter;
mod limit;
mod locks;
mod lower;
mod mapping;
mod metrics;
mod mountpoint;
mod on_demand;
mod places;
mod problem;
mod seal;
mod server;
mod service;
mod serving;
mod snapshotter;
mod status;
mod store;
mod sweep;
mod upper;
mod whole;

use clap::CommandFactory;
use clap::Parser;
use config::Config;
use config::Format;
use config::Level;
use problem::Problem;
use problem::Result;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Give containerd layers as they are: a snapshotter and differ that mounts by ferofs
///
/// In containerd's configuration it is a proxy plugin twice, for snapshots and for diffs, with one address. It has to
/// run as root, on a filesystem that overlayfs can write to.
#[derive(Parser)]
#[command(
    version,
    after_help = "In containerd's config.toml:

  [proxy_plugins.ferofs]
    type = \"snapshot\"
    address = \"/run/containerd-ferofs-grpc/containerd-ferofs-grpc.sock\"
    capabilities = [\"rebase\", \"remap-ids\"]
    [proxy_plugins.ferofs.exports]
      root = \"/var/lib/containerd-ferofs-grpc\"
  [proxy_plugins.ferofs-diff]
    type = \"diff\"
    address = \"/run/containerd-ferofs-grpc/containerd-ferofs-grpc.sock\"
  [plugins.\"io.containerd.service.v1.diff-service\"]
    default = [\"ferofs-diff\", \"walking\"]"
)]
struct Arguments {
    /// Read this configuration [default: /etc/containerd-ferofs-grpc/config.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Keep layers and snapshots in this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Answer at this socket
    #[arg(long, value_name = "SOCKET", global = true)]
    address: Option<PathBuf>,
    /// Log so much
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<Level>,
    /// Print the configuration that holds by default, with what it means
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Ask a daemon about its store
    #[command(subcommand)]
    Store(status::Command),
    /// Print the man page
    #[command(hide = true)]
    Man,
    /// Serve the layers of an image: the daemon calls it, with its configuration at standard input
    #[command(hide = true)]
    Serve {
        /// The image, by the digest of its manifest
        image: String,
        /// The diff IDs of those of its layers that are wanted
        layers: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("containerd-ferofs-grpc: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut print = |text: &[u8]| {
        let written = out.write_all(text).and_then(|()| out.flush());
        written.map_err(|error| Problem::failed(format!("cannot write: {error}")))
    };
    if arguments.print_config {
        print(config::DEFAULT.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if matches!(arguments.command, Some(Command::Man)) {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Arguments::command())
            .section("8")
            .render(&mut page);
        rendered.map_err(|error| Problem::failed(error.to_string()))?;
        print(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Serve { image, layers }) = &arguments.command {
        let config: Config = serde_json::from_reader(std::io::stdin().lock())?;
        start_log(&config);
        drop(out);
        serving::run(&config, image, layers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut config = Config::read(arguments.config.as_deref())?;
    if let Some(root) = arguments.root {
        config.root = root;
    }
    if let Some(address) = arguments.address {
        config.address = address;
    }
    if let Some(level) = arguments.log_level {
        config.log.level = level;
    }
    config.check("the command line")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Problem::failed(format!("cannot start: {error}")))?;
    if let Some(Command::Store(command)) = arguments.command {
        return runtime.block_on(status::run(&command, &config.address));
    }
    start_log(&config);
    runtime.block_on(server::serve(config))?;
    // Threads that are at work now are ended with the process, as they may be at any moment.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error, where systemd takes it, with times only if it does not.
fn start_log(config: &Config) {
    let level = match config.log.level {
        Level::Trace => tracing::Level::TRACE,
        Level::Debug => tracing::Level::DEBUG,
        Level::Info => tracing::Level::INFO,
        Level::Warn => tracing::Level::WARN,
        Level::Error => tracing::Level::ERROR,
    };
    // Of others only what is strange: each message on the wire is a line of theirs.
    let targets = Targets::new()
        .with_default(tracing::Level::WARN.min(level))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        // Whoever reads them may be gone before this process.
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(targets);
    match (
        config.log.format,
        std::env::var_os("JOURNAL_STREAM").is_some(),
    ) {
        (Format::Json, _) => registry.with(lines.json()).init(),
        (Format::Text, true) => registry.with(lines.without_time()).init(),
        (Format::Text, false) => registry.with(lines).init(),
    }
}
