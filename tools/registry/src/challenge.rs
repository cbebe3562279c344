// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a registry says when it wants to know who asks: the header `WWW-Authenticate`.

/// What it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password with every request.
    Basic,
    /// A token from a server of tokens.
    Bearer {
        /// Its address.
        realm: String,
        /// What the token is for.
        service: Option<String>,
        /// What it is to allow.
        scope: Option<String>,
    },
}

/// Takes the first challenge of a header that is known here, a token rather than a password.
pub fn parse(header: &str) -> Option<Challenge> {
    let mut basic = false;
    let mut rest = header;
    while let Some((scheme, parameters, after)) = next(rest) {
        let find = |name: &str| {
            let mut all = parameters.iter();
            let found = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(realm) = find("realm") {
                return Some(Challenge::Bearer {
                    realm,
                    service: find("service"),
                    scope: find("scope"),
                });
            }
        }
        basic |= scheme.eq_ignore_ascii_case("basic");
        rest = after;
    }
    basic.then_some(Challenge::Basic)
}

type Parameters = Vec<(String, String)>;

/// The scheme at the beginning with its parameters, and what is behind them.
fn next(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (scheme, mut rest) = match text.split_once([' ', ',']) {
        Some(_) if text.is_empty() => return None,
        Some((scheme, _)) => text.split_at_checked(scheme.len())?,
        None if text.is_empty() => return None,
        None => (text, ""),
    };
    let mut parameters = Vec::new();
    while let Some((key, value, after)) = parameter(rest) {
        parameters.push((key.to_string(), value));
        rest = after;
    }
    Some((scheme, parameters, rest))
}

/// `key=value` or `key="value"`.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (key, rest) = text.split_once('=')?;
    if key.contains([' ', ',', '"']) {
        return None;
    }
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        let (value, after) = rest.split_at_checked(end)?;
        return Some((key, value.to_string(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((key, value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_string(),
            service: service.map(str::to_string),
            scope: scope.map(str::to_string),
        })
    }

    #[test]
    fn challenges_are_read() {
        let cases = [
            (r#"Basic realm="a place""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push""#,
                bearer(
                    "https://auth.example/token",
                    Some("r"),
                    Some("repository:a/b:pull,push"),
                ),
            ),
            (
                r#"bearer Scope=x , realm="https://a/\"b\"""#,
                bearer(r#"https://a/"b""#, None, Some("x")),
            ),
            (
                r#"Basic realm="x", Bearer realm="https://a", error="y""#,
                bearer("https://a", None, None),
            ),
            (r#"Negotiate, Basic realm="x""#, Some(Challenge::Basic)),
            ("", None),
            (",, ,", None),
            ("Negotiate", None),
            ("Bearer service=x", None),
            (r#"Bearer realm="https://a"#, None),
            ("Bearer realm=\"\\", None),
        ];
        for (header, expected) in cases {
            assert_eq!(parse(header), expected, "{header}");
        }
    }
}
