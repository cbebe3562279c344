// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where requests go, and whether two addresses are of one server.

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use ureq::http::Uri;

/// Who is asked: credentials are for one of these only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Whose address it is.
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?;
        let default = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        Some(Origin {
            scheme: scheme.to_string(),
            host: uri.host()?.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(default),
        })
    }

    /// Whether nobody can read what is sent.
    pub fn is_encrypted(&self) -> bool {
        self.scheme == "https"
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

/// Takes an address of HTTP.
pub fn parse(text: &str) -> Result<Uri> {
    let uri: Option<Uri> = text.parse().ok();
    uri.filter(|uri| Origin::of(uri).is_some()).ok_or_else(|| {
        let text = text.escape_debug();
        Error::of(Kind::Answer, format!("\"{text}\" is no address of HTTP"))
    })
}

/// What a `Location` or `Link` of an answer from `base` leads to: an address, or a path of the same server.
pub fn join(base: &Uri, location: &str) -> Result<Uri> {
    if let Some(rest) = location.strip_prefix("//") {
        return parse(&format!(
            "{}://{rest}",
            base.scheme_str().unwrap_or("https")
        ));
    }
    if location.starts_with('/') {
        let (scheme, authority) = (base.scheme_str(), base.authority());
        if let (Some(scheme), Some(authority)) = (scheme, authority) {
            return parse(&format!("{scheme}://{authority}{location}"));
        }
    }
    parse(location)
}

/// Adds to a query.
pub fn with_query(uri: &Uri, query: &str) -> Result<Uri> {
    let separator = if uri.query().is_some() { '&' } else { '?' };
    parse(&format!("{uri}{separator}{query}"))
}

/// Text as it can stand in a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
