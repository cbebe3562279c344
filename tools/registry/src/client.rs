// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A repository of a registry, and how to get to it.

use crate::address;
use crate::address::Origin;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::reference;
use crate::reference::Reference;
use crate::transport;
use crate::transport::Transport;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use ureq::http::Uri;

/// For so long, whoever failed is not asked before others who did not.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// How a registry is asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Whether it is asked without encryption. Only this machine is by itself.
    pub plain_http: bool,
    /// How often something is tried that the network or the registry fails.
    pub attempts: u32,
    /// How long to wait before the second time; twice as long before the third one, and so on. A registry may ask for another
    /// time.
    pub pause: Duration,
    /// How long a connection may stand still.
    pub timeout: Duration,
    /// Who asks, if that is not to be looked for in files.
    pub credentials: Option<Credentials>,
    /// Other registries that have the same repositories: a host, possibly with a port. They are asked first, in this order,
    /// and the registry itself for what none of them gives.
    pub mirrors: Vec<String>,
    /// Files with certificates of authorities, in PEM, which are believed besides those of the system.
    pub authorities: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            plain_http: false,
            attempts: 5,
            pause: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
            credentials: None,
            mirrors: Vec::new(),
            authorities: Vec::new(),
        }
    }
}

impl Options {
    /// Says whether it is asked without encryption.
    #[must_use]
    pub fn with_plain_http(mut self, plain_http: bool) -> Self {
        self.plain_http = plain_http;
        self
    }

    /// Says how often something is tried, and how long to wait before the second time.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32, pause: Duration) -> Self {
        self.attempts = attempts;
        self.pause = pause;
        self
    }

    /// Says how long a connection may stand still.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Says who asks.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Option<Credentials>) -> Self {
        self.credentials = credentials;
        self
    }

    /// Says who is asked before the registry.
    #[must_use]
    pub fn with_mirrors(mut self, mirrors: Vec<String>) -> Self {
        self.mirrors = mirrors;
        self
    }

    /// Says which files have certificates of further authorities.
    #[must_use]
    pub fn with_authorities(mut self, authorities: Vec<PathBuf>) -> Self {
        self.authorities = authorities;
        self
    }
}

/// A repository of a registry. Several threads can use it at once.
pub struct Client {
    /// The mirrors, and last the registry itself.
    hosts: Vec<Host>,
    /// Who was the last to give something, and when: whoever failed before him is left alone for a while.
    chosen: Mutex<(usize, Instant)>,
}

/// Somebody who has the repository.
pub(crate) struct Host {
    pub transport: Transport,
    /// The address of the repository, without a slash at its end.
    base: String,
    /// Whether something it gave turned out wrong.
    distrusted: AtomicBool,
}

impl Client {
    /// The repository that a reference is of. The registry is reached by TLS, unless [`Options::plain_http`] says
    /// otherwise, or it is on this machine and answers TLS with something else. Only one on this machine is asked
    /// anything yet, for that.
    ///
    /// # Errors
    ///
    /// When the file with the credentials is wrong, a mirror is no registry, or there are no root certificates.
    pub fn new(reference: &Reference, options: Options) -> Result<Self> {
        let repository = &reference.repository;
        // What is said of who asks is not for them.
        let of_mirrors = options.clone().with_credentials(None);
        let mirrors = options.mirrors.iter();
        let mirrors = mirrors.map(|mirror| Host::new(mirror, repository, &of_mirrors));
        let hosts = mirrors.chain([Host::new(&reference.registry, repository, &options)]);
        Ok(Client {
            hosts: hosts.collect::<Result<_>>()?,
            chosen: Mutex::new((0, Instant::now())),
        })
    }

    /// The registry itself, for what mirrors are not asked.
    pub(crate) fn registry(&self) -> Result<&Host> {
        let none = || Error::of(Kind::Request, "there is no registry".to_string());
        self.hosts.last().ok_or_else(none)
    }

    /// Asks one after the other until one gives something. Whoever failed is not asked first for a while. The error is that
    /// of the registry itself, with what mirrors said in front.
    pub(crate) fn first<T>(
        &self,
        mut ask: impl FnMut(&Host) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let last = self.hosts.len().saturating_sub(1);
        let start = self.start();
        let mut said = Vec::new();
        let mut result = Ok(None);
        let order = (start..self.hosts.len()).chain(0..start);
        for (number, host) in order.filter_map(|number| Some((number, self.hosts.get(number)?))) {
            if host.distrusted.load(Ordering::Relaxed) && number != last {
                continue;
            }
            match ask(host) {
                Ok(Some(found)) => {
                    let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
                    if chosen.0 != number {
                        *chosen = (number, Instant::now());
                    }
                    return Ok(Some(found));
                }
                Ok(None) if number == last => result = Ok(None),
                Ok(None) => {}
                Err(error) if number == last => result = Err(error),
                Err(error) => said.push(error),
            }
        }
        match (result, said.as_slice()) {
            (Err(error), said) => Err(said
                .iter()
                .rev()
                .fold(error, |error, said| error.about(&said.to_string()))),
            (result, _) => result,
        }
    }

    /// The same for what has to be there.
    pub(crate) fn any<T>(&self, mut ask: impl FnMut(&Host) -> Result<T>) -> Result<T> {
        let missing = || Error::of(Kind::Request, "there is no registry".to_string());
        self.first(|host| ask(host).map(Some))?.ok_or_else(missing)
    }

    /// Who is asked first.
    fn start(&self) -> usize {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if chosen.1.elapsed() > LEFT_ALONE {
            *chosen = (0, Instant::now());
        }
        chosen.0
    }

    /// Takes note that something wrong was given by whoever would be asked first now. A mirror is not asked again. Returns
    /// whether there is anybody else to ask.
    pub fn distrust(&self) -> bool {
        let start = self.start();
        let order = (start..self.hosts.len()).chain(0..start);
        let mut asked = order
            .filter_map(|number| self.hosts.get(number))
            .filter(|host| !host.distrusted.load(Ordering::Relaxed));
        match (asked.next(), asked.next()) {
            (Some(first), Some(_)) => {
                first.distrusted.store(true, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }
}

impl Host {
    fn new(registry: &str, repository: &str, options: &Options) -> Result<Self> {
        let no_registry = || {
            let registry = registry.escape_debug();
            Error::of(Kind::Request, format!("\"{registry}\" is no registry"))
        };
        if !reference::is_registry(registry) {
            return Err(no_registry());
        }
        let host = match registry {
            "docker.io" => "registry-1.docker.io",
            registry => registry,
        };
        let origin = |scheme: &str| {
            let uri: Option<Uri> = format!("{scheme}://{host}").parse().ok();
            uri.as_ref().and_then(Origin::of).ok_or_else(no_registry)
        };
        let encrypted = origin("https")?;
        let scheme = match options.plain_http
            || (encrypted.is_loopback() && !transport::speaks_tls(&encrypted, host, options))
        {
            true => "http",
            false => "https",
        };
        let credentials = match &options.credentials {
            Some(credentials) => Some(credentials.clone()),
            None => Credentials::find(registry, repository)?,
        };
        Ok(Host {
            transport: Transport::new(origin(scheme)?, repository, credentials, options.clone())?,
            base: format!("{scheme}://{host}/v2/{repository}"),
            distrusted: AtomicBool::new(false),
        })
    }

    /// The address of something in the repository.
    pub fn uri(&self, path: &str) -> Result<Uri> {
        address::parse(&format!("{}/{path}", self.base))
    }
}
