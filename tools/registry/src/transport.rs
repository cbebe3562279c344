// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Requests and answers: who is told the credentials, where redirects may lead, what is tried again.

use crate::address;
use crate::address::Origin;
use crate::challenge;
use crate::challenge::Challenge;
use crate::client::Options;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use data_encoding::BASE64;
use serde::Deserialize;
use std::io;
use std::io::Read;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use ureq::Agent;
use ureq::Body;
use ureq::http::HeaderMap;
use ureq::http::Method;
use ureq::http::Request;
use ureq::http::Response;
use ureq::http::Uri;
use ureq::tls::Certificate;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;

/// More redirects than this lead nowhere.
const REDIRECTS: usize = 10;
/// So much is read of a document that says what is wrong, or that has a token in it.
const SAID_MAX: u64 = 64 << 10;
/// So many characters of it are shown.
const SHOWN_MAX: usize = 300;
/// A registry that wants to be left alone for longer is asked again after this.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How requests get to a registry.
pub struct Transport {
    agent: Agent,
    registry: Origin,
    repository: String,
    credentials: Option<Credentials>,
    options: Options,
    /// The header with which the last request was let in.
    authorization: Mutex<Option<String>>,
}

/// A request, which may be made several times.
pub struct Call<'a> {
    pub method: Method,
    pub uri: Uri,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<&'a [u8]>,
    /// Whether the answer may be at another address.
    pub follow: bool,
}

impl<'a> Call<'a> {
    /// One without a body.
    pub fn new(method: Method, uri: Uri) -> Self {
        let follow = method == Method::GET || method == Method::HEAD;
        Call {
            method,
            uri,
            headers: Vec::new(),
            body: None,
            follow,
        }
    }

    /// With a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn with_body(mut self, media_type: &str, body: &'a [u8]) -> Self {
        self.body = Some(body);
        self.with("content-type", media_type)
    }

    /// What it is, for messages. A query may have secrets in it, so it is left out.
    pub fn shown(&self) -> String {
        format!("{} {}", self.method, shown(&self.uri))
    }
}

fn shown(uri: &Uri) -> String {
    let text = uri.to_string();
    let end = text.find('?').unwrap_or(text.len());
    text.get(..end).unwrap_or_default().to_string()
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Where it is from.
    pub uri: Uri,
    /// The request, for messages.
    pub call: String,
    body: Body,
}

impl Answer {
    /// A header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as it comes.
    pub fn reader(self) -> impl Read + Send + 'static {
        self.body.into_reader()
    }

    /// How many bytes the body is said to have.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// A whole body of at most so many bytes.
    pub fn bytes(self, most: u64) -> io::Result<std::result::Result<Vec<u8>, u64>> {
        let length = self.length();
        if let Some(length) = length.filter(|length| *length > most) {
            return Ok(Err(length));
        }
        let mut bytes = Vec::new();
        let read = self
            .reader()
            .take(most.saturating_add(1))
            .read_to_end(&mut bytes)?;
        let read = read as u64;
        match length {
            Some(length) if length != read => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if read > most => Ok(Err(read)),
            _ => Ok(Ok(bytes)),
        }
    }

    /// If it may be another one the next time: how long the registry wants to be left alone until then, if it says so.
    pub fn wait(&self) -> Option<Option<Duration>> {
        let seconds = || self.header("retry-after")?.trim().parse().ok();
        may_pass(self.status).then(|| seconds().map(Duration::from_secs))
    }

    /// The error that the answer is.
    pub fn into_error(self) -> Error {
        let (status, call) = (self.status, self.call.clone());
        let kind = match status {
            401 | 403 => Kind::Denied,
            _ => Kind::Status(status),
        };
        let mut said = Vec::new();
        // What cannot be read is not said.
        let _ = self.reader().take(SAID_MAX).read_to_end(&mut said);
        let said = explain(&said);
        Error::of(kind, format!("{call}: the answer is {status}{said}"))
    }
}

/// What a registry says in an error.
fn explain(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else {
        return String::new();
    };
    let said: Vec<String> = errors
        .iter()
        .map(|said| format!("{} ({})", said.message, said.code))
        .collect();
    let said: String = said.join("; ").chars().take(SHOWN_MAX).collect();
    match said.is_empty() {
        true => said,
        false => format!(": {}", said.escape_debug()),
    }
}

/// What may be better the next time.
fn may_pass(status: u16) -> bool {
    status == 429 || status == 408 || (status >= 500 && status != 501 && status != 505)
}

/// Whether an error is of the network, and not of what was asked for.
fn is_passing(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_)
            | ureq::Error::BodyStalled
    ) && !is_tls(error)
}

/// Certificates do not become better.
fn is_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// `needs_certificates` is whether none at all are an error.
fn agent(registry: &Origin, options: &Options, needs_certificates: bool) -> Result<Agent> {
    static PROVIDER: Once = Once::new();
    // Whoever uses this library may have chosen another one.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("ferofs/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(options.timeout))
        .timeout_connect(Some(options.timeout))
        .timeout_recv_response(Some(options.timeout))
        .timeout_per_read(Some(options.timeout))
        .timeout_per_write(Some(options.timeout));
    if registry.is_loopback() {
        config = config.proxy(None);
    }
    // Also for a registry without encryption: it may lead to others.
    let mut found = rustls_native_certs::load_native_certs();
    for path in &options.authorities {
        let given = rustls_native_certs::load_certs_from_paths(Some(path), None);
        if given.certs.is_empty() {
            let why = match given.errors.first() {
                Some(error) => error.to_string(),
                None => "there are no certificates in it, in PEM".to_string(),
            };
            let path = path.display().to_string();
            let path = path.escape_debug();
            return Err(Error::of(Kind::Request, format!("{path}: {why}")));
        }
        found.certs.extend(given.certs);
    }
    if needs_certificates && found.certs.is_empty() {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = why.join("; ");
        return Err(Error::of(
            Kind::Request,
            format!(
                "this system has no certificates to know a registry by: expected some in /etc/ssl/certs, or where \
                     SSL_CERT_FILE or SSL_CERT_DIR say{}{why}",
                if why.is_empty() { "" } else { "; " }
            ),
        ));
    }
    let certificates: Vec<Certificate<'static>> = found
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates));
    config = config.tls_config(tls.build());
    Ok(config.build().new_agent())
}

/// Whether a registry on this machine is one for TLS: it may still have a certificate that is not good for it.
pub fn speaks_tls(registry: &Origin, host: &str, options: &Options) -> bool {
    let Ok(agent) = agent(registry, options, false) else {
        return false;
    };
    match agent.get(format!("https://{host}/v2/")).call() {
        Ok(_) => true,
        Err(ureq::Error::Rustls(error)) => is_about_certificates(&error),
        Err(ureq::Error::Io(error)) => {
            let inner = error.get_ref();
            let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            inner.is_some_and(is_about_certificates)
        }
        Err(_) => false,
    }
}

fn is_about_certificates(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_))
}

impl Transport {
    pub fn new(
        registry: Origin,
        repository: &str,
        credentials: Option<Credentials>,
        options: Options,
    ) -> Result<Self> {
        Ok(Transport {
            agent: agent(&registry, &options, registry.is_encrypted())?,
            registry,
            repository: repository.to_string(),
            credentials,
            options,
            authorization: Mutex::new(None),
        })
    }

    /// Makes a request, as often as it takes. Any answer that is no redirect, no question who asks, and nothing that may
    /// pass is one.
    pub fn send(&self, call: &Call<'_>) -> Result<Answer> {
        self.patiently(|last| {
            let answer = self.follow(call)?;
            match answer.wait() {
                Some(wait) if !last => Ok(Tried::Again(wait)),
                _ => Ok(Tried::Done(answer)),
            }
        })
    }

    /// Does something several times, with longer and longer pauses, until it is done or fails for good. What is done the
    /// last time knows that it is.
    pub fn patiently<T>(
        &self,
        mut attempt: impl FnMut(bool) -> std::result::Result<Tried<T>, Failed>,
    ) -> Result<T> {
        let mut pause = self.options.pause;
        let mut left = self.options.attempts.max(1);
        loop {
            left -= 1;
            let wanted = match attempt(left == 0) {
                Ok(Tried::Done(value)) => return Ok(value),
                Ok(Tried::Again(wanted)) => wanted,
                Err(Failed { error, passing }) if !passing || left == 0 => return Err(error),
                Err(_) => None,
            };
            thread::sleep(wanted.unwrap_or(pause).min(WAIT_MAX));
            pause = pause.saturating_mul(2);
        }
    }

    /// Makes a request, and those that it leads to.
    pub fn follow(&self, call: &Call<'_>) -> std::result::Result<Answer, Failed> {
        let mut uri = call.uri.clone();
        for _ in 0..REDIRECTS {
            let answer = self.authorized(call, &uri)?;
            let redirect = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            if !redirect || !call.follow {
                return Ok(answer);
            }
            let Some(location) = answer.header("location") else {
                return Err(answer.into_error().into());
            };
            let next = address::join(&uri, location).map_err(|error| error.about(&call.shown()))?;
            let encrypted = |uri: &Uri| Origin::of(uri).is_some_and(|origin| origin.is_encrypted());
            if encrypted(&uri) && !encrypted(&next) {
                return Err(Failed::from(Error::of(
                    Kind::Answer,
                    format!(
                        "{}: it leads to {}, which is not encrypted",
                        call.shown(),
                        shown(&next)
                    ),
                )));
            }
            uri = next;
        }
        Err(Failed::from(Error::of(
            Kind::Answer,
            format!("{}: more than {REDIRECTS} redirects", call.shown()),
        )))
    }

    /// Makes a request of the registry with what it lets one in for; of anybody else without.
    fn authorized(&self, call: &Call<'_>, uri: &Uri) -> std::result::Result<Answer, Failed> {
        if Origin::of(uri).as_ref() != Some(&self.registry) {
            return self.once(call, uri, None);
        }
        let known = self.known();
        let answer = self.once(call, uri, known.as_deref())?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let mut challenges = answer.headers.get_all("www-authenticate").iter();
        let found = challenges.find_map(|value| challenge::parse(value.to_str().ok()?));
        let Some(challenge) = found else {
            return Ok(answer);
        };
        let Some(authorization) = self.authorize(&challenge, call)? else {
            return Ok(answer);
        };
        if matches!(challenge, Challenge::Basic) && known.as_ref() == Some(&authorization) {
            return Ok(answer);
        }
        let answer = self.once(call, uri, Some(&authorization))?;
        if answer.status != 401 {
            *self
                .authorization
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        }
        Ok(answer)
    }

    fn known(&self) -> Option<String> {
        let known = self.authorization.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The header that a challenge asks for, if there is one.
    fn authorize(
        &self,
        challenge: &Challenge,
        call: &Call<'_>,
    ) -> std::result::Result<Option<String>, Failed> {
        match challenge {
            Challenge::Basic => Ok(self.credentials.as_ref().map(basic)),
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let default = || {
                    let what = match call.method == Method::GET || call.method == Method::HEAD {
                        true => "pull",
                        false => "pull,push",
                    };
                    format!("repository:{}:{what}", self.repository)
                };
                let scope = scope.clone().unwrap_or_else(default);
                let token = self.token(realm, service.as_deref(), &scope)?;
                Ok(Some(format!("Bearer {token}")))
            }
        }
    }

    /// Asks for a token.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
    ) -> std::result::Result<String, Failed> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let realm = address::parse(realm).map_err(|error| error.about("the server of tokens"))?;
        let origin = Origin::of(&realm);
        let safe = origin.is_some_and(|origin| origin.is_encrypted() || origin.is_loopback());
        if !safe && !self.options.plain_http {
            return Err(Failed::from(Error::of(
                Kind::Denied,
                format!("the server of tokens, {}, is not encrypted", shown(&realm)),
            )));
        }
        let mut query = format!("scope={}", address::encode(scope));
        if let Some(service) = service {
            query = format!("service={}&{query}", address::encode(service));
        }
        let refresh = self.credentials.as_ref();
        let refresh = refresh.and_then(|known| known.identity_token.as_deref());
        let answer = match refresh {
            Some(token) => {
                let form = format!(
                    "grant_type=refresh_token&client_id=ferofs&refresh_token={}&{query}",
                    address::encode(token)
                );
                let call = Call::new(Method::POST, realm.clone())
                    .with_body("application/x-www-form-urlencoded", form.as_bytes());
                self.once(&call, &realm, None)?
            }
            None => {
                let uri = address::with_query(&realm, &query)?;
                let authorization = self.credentials.as_ref().map(basic);
                let call = Call::new(Method::GET, uri.clone());
                self.once(&call, &uri, authorization.as_deref())?
            }
        };
        let call = answer.call.clone();
        if answer.status != 200 {
            let passing = may_pass(answer.status);
            return Err(Failed {
                error: answer.into_error(),
                passing,
            });
        }
        let wrong = |problem: String| Error::of(Kind::Answer, format!("{call}: {problem}"));
        let bytes = answer
            .bytes(SAID_MAX)
            .map_err(|error| Failed::network(&call, &error))?
            .map_err(|size| wrong(format!("a token of {size} bytes")))?;
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|error| wrong(format!("no token: {error}")))?;
        let mut tokens = [token.token, token.access_token].into_iter().flatten();
        let token = tokens
            .find(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        token.ok_or_else(|| wrong("there is no token in the answer".to_string()).into())
    }

    /// Makes one request.
    fn once(
        &self,
        call: &Call<'_>,
        uri: &Uri,
        authorization: Option<&str>,
    ) -> std::result::Result<Answer, Failed> {
        let shown = format!("{} {}", call.method, shown(uri));
        let mut request = Request::builder().method(&call.method).uri(uri);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let wrong = |error: ureq::http::Error| {
            Error::of(Kind::Request, format!("{shown}: no such request: {error}"))
        };
        let result = match call.body {
            Some(body) => self.agent.run(request.body(body).map_err(wrong)?),
            None => self.agent.run(request.body(()).map_err(wrong)?),
        };
        let response: Response<Body> = result.map_err(|error| Failed {
            passing: is_passing(&error),
            error: Error::of(Kind::Network, format!("{shown}: {error}")),
        })?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            uri: uri.clone(),
            call: shown,
            body,
        })
    }
}

fn basic(credentials: &Credentials) -> String {
    let Credentials { name, password, .. } = credentials;
    format!(
        "Basic {}",
        BASE64.encode(format!("{name}:{password}").as_bytes())
    )
}

/// What an attempt came to.
pub enum Tried<T> {
    /// It is done.
    Done(T),
    /// It may be done the next time, which is not to be before that.
    Again(Option<Duration>),
}

/// Why an attempt failed.
pub struct Failed {
    pub error: Error,
    /// Whether the next one may succeed.
    pub passing: bool,
}

impl Failed {
    /// That reading an answer failed.
    pub fn network(call: &str, error: &io::Error) -> Self {
        Failed {
            error: Error::of(
                Kind::Network,
                format!("{call}: the answer ends in the middle: {error}"),
            ),
            passing: true,
        }
    }
}

/// For good.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed {
            error,
            passing: false,
        }
    }
}
