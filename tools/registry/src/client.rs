// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A repository of a registry, and how to get to it.

use crate::address;
use crate::address::Origin;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::reference::Reference;
use crate::transport;
use crate::transport::Transport;
use std::time::Duration;
use ureq::http::Uri;

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
}

impl Default for Options {
    fn default() -> Self {
        Options {
            plain_http: false,
            attempts: 5,
            pause: Duration::from_millis(500),
            timeout: Duration::from_secs(30),
            credentials: None,
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
}

/// A repository of a registry. Several threads can use it at once.
pub struct Client {
    pub(crate) transport: Transport,
    /// The address of the repository, without a slash at its end.
    base: String,
}

impl Client {
    /// The repository that a reference is of. The registry is reached by TLS, unless [`Options::plain_http`] says
    /// otherwise, or it is on this machine and answers TLS with something else. Only one on this machine is asked
    /// anything yet, for that.
    ///
    /// # Errors
    ///
    /// When the file with the credentials is wrong, or there are no root certificates.
    pub fn new(reference: &Reference, options: Options) -> Result<Self> {
        let Reference {
            registry,
            repository,
            ..
        } = reference;
        let host = match registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            registry => registry,
        };
        let origin = |scheme: &str| {
            let uri: Option<Uri> = format!("{scheme}://{host}").parse().ok();
            uri.as_ref().and_then(Origin::of).ok_or_else(|| {
                let registry = registry.escape_debug();
                Error::of(Kind::Request, format!("\"{registry}\" is no registry"))
            })
        };
        let encrypted = origin("https")?;
        let scheme = match options.plain_http
            || (encrypted.is_loopback() && !transport::speaks_tls(&encrypted, host, &options))
        {
            true => "http",
            false => "https",
        };
        let credentials = match &options.credentials {
            Some(credentials) => Some(credentials.clone()),
            None => Credentials::find(registry, repository)?,
        };
        Ok(Client {
            transport: Transport::new(origin(scheme)?, repository, credentials, options)?,
            base: format!("{scheme}://{host}/v2/{repository}"),
        })
    }

    /// The address of something in the repository.
    pub(crate) fn uri(&self, path: &str) -> Result<Uri> {
        address::parse(&format!("{}/{path}", self.base))
    }
}
