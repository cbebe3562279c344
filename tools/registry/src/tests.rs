// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The client against servers that answer as registries do, or as they should not.

use crate::ArtifactManifest;
use crate::Client;
use crate::Credentials;
use crate::Descriptor;
use crate::Digest;
use crate::INDEX_TYPE;
use crate::Kind;
use crate::MANIFEST_TYPE;
use crate::Options;
use crate::Reference;
use crate::referrers;
use crate::server::Reply;
use crate::server::Server;
use std::fs;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

const NOBODY: Reply = Reply {
    status: 404,
    headers: Vec::new(),
    body: Vec::new(),
    cut: None,
};

fn options() -> Options {
    Options::default()
        .with_plain_http(true)
        .with_attempts(4, Duration::from_millis(1))
        .with_timeout(Duration::from_secs(20))
        // Not those of whoever runs the tests.
        .with_credentials(Some(someone()))
}

fn someone() -> Credentials {
    Credentials {
        name: "someone".to_string(),
        password: "secret".to_string(),
        identity_token: None,
    }
}

const BASIC: &str = "Basic c29tZW9uZTpzZWNyZXQ=";

fn client(server: &Server) -> Client {
    let reference = Reference::parse(&format!("{}/some/app:1", server.address)).unwrap();
    Client::new(&reference, options()).unwrap()
}

fn descriptor(digest: &str) -> Descriptor {
    Descriptor {
        media_type: MANIFEST_TYPE.to_string(),
        digest: digest.to_string(),
        size: 2,
        artifact_type: Some("application/a".to_string()),
        ..Descriptor::default()
    }
}

#[test]
fn a_manifest_is_what_its_digest_says() {
    let digest = Digest::of(b"{}");
    let other = Digest::of(b"other");
    // By the tag there is only what the registry says.
    for (which, said, good) in [
        (digest.to_string(), None, true),
        (digest.to_string(), Some(other), true),
        (other.to_string(), Some(digest), false),
        (other.to_string(), None, false),
        ("1".to_string(), None, true),
        ("1".to_string(), Some(digest), true),
        ("1".to_string(), Some(other), false),
    ] {
        let server = Server::start(move |_, _| {
            let reply = Reply::new(200, "{}")
                .with("Content-Type", format!("{MANIFEST_TYPE}; charset=utf-8"));
            match said {
                Some(said) => reply.with("Docker-Content-Digest", said.to_string()),
                None => reply,
            }
        });
        match client(&server).manifest(&which) {
            Ok(found) => {
                let found = found.unwrap();
                assert!(good, "{which} {said:?}");
                assert_eq!(
                    (found.digest, found.media_type.as_str()),
                    (digest, MANIFEST_TYPE)
                );
            }
            Err(error) => {
                assert!(!good, "{which} {said:?}: {error}");
                assert_eq!(error.kind(), Kind::WrongDigest);
            }
        }
        assert_eq!(
            server.lines(),
            [format!("GET /v2/some/app/manifests/{which}")]
        );
    }
}

#[test]
fn a_manifest_that_is_not_there_is_none() {
    let server = Server::start(|_, _| NOBODY);
    assert_eq!(client(&server).manifest("1").unwrap(), None);
}

#[test]
fn what_is_too_large_is_not_read() {
    let long = vec![b'x'; (4 << 20) + 1];
    let chunked = [
        format!("{:x}\r\n", long.len()).as_bytes(),
        &long,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let server = Server::start(move |_, number| match number {
        0 => Reply::new(200, long.clone()),
        _ => Reply::new(200, chunked.clone()).with("Transfer-Encoding", "chunked"),
    });
    for _ in 0..2 {
        let error = client(&server).manifest("1").unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge, "{error}");
    }
    let server = Server::start(|_, _| Reply::new(200, "12345"));
    let mut out = Vec::new();
    let error = client(&server)
        .blob(Digest::of(b"1234"), 4, &mut out)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge, "{error}");
    assert!(out.is_empty());
    let error = client(&server)
        .small_blob(Digest::of(b"1234"), 4, 3)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge, "{error}");
}

#[test]
fn a_blob_with_another_digest_is_an_error() {
    let server = Server::start(|_, _| Reply::new(200, "1234"));
    let error = client(&server)
        .small_blob(Digest::of(b"1235"), 4, 9)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::WrongDigest, "{error}");
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_blob_that_is_cut_is_resumed() {
    let bytes: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
    let digest = Digest::of(&bytes);
    // Some servers know of ranges, others begin anew.
    for ranges in [true, false] {
        let all = bytes.clone();
        let server = Server::start(move |asked, number| {
            let start = asked.header("range").map_or(0, |range| {
                let rest = range.strip_prefix("bytes=").unwrap();
                rest.strip_suffix('-').unwrap().parse().unwrap()
            });
            assert_eq!(start > 0, number > 0);
            let (reply, left) = match ranges && start > 0 {
                true => (
                    Reply::new(206, &all[start..]).with(
                        "Content-Range",
                        format!("bytes {start}-{}/{}", all.len() - 1, all.len()),
                    ),
                    all.len() - start,
                ),
                false => (Reply::new(200, all.clone()), all.len()),
            };
            match number {
                0 => reply.cut_after(70_000),
                1 => reply.cut_after(left - 1),
                _ => reply,
            }
        });
        let found = client(&server)
            .small_blob(digest, bytes.len() as u64, 1 << 20)
            .unwrap();
        assert!(found == bytes);
        assert_eq!(server.lines().len(), 3);
    }
}

#[test]
fn a_blob_that_is_always_cut_is_an_error() {
    let server = Server::start(|_, _| Reply::new(200, "1234").cut_after(2));
    let error = client(&server)
        .small_blob(Digest::of(b"1234"), 4, 9)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Network, "{error}");
    assert_eq!(server.lines().len(), 4);
    let server = Server::start(|_, _| Reply::new(200, "{}").cut_after(1));
    let error = client(&server).manifest("1").unwrap_err();
    assert_eq!(error.kind(), Kind::Network, "{error}");
    assert_eq!(server.lines().len(), 4);
}

#[test]
fn parts_of_blobs_are_those_that_were_asked_for() {
    let digest = Digest::of(b"0123456789");
    let range = |said: &str, body: &str| Reply::new(206, body).with("Content-Range", said);
    for (reply, expected) in [
        (range("bytes 3-5/10", "345"), Ok("345")),
        // More than was asked for.
        (range("bytes 2-6/10", "23456"), Ok("345")),
        (Reply::new(200, "0123456789"), Ok("345")),
        (range("bytes 4-6/10", "456"), Err(Kind::Answer)),
        (range("", "345"), Err(Kind::Answer)),
        (range("bytes 3-4/5", "34"), Err(Kind::Network)),
        (Reply::new(416, ""), Err(Kind::Status(416))),
        (NOBODY, Err(Kind::Status(404))),
    ] {
        let shown = format!("{reply:?}");
        let server = Server::start(move |asked, _| {
            assert_eq!(asked.header("range"), Some("bytes=3-5"));
            reply.clone()
        });
        let found = client(&server)
            .range(digest, 3..6)
            .map_err(|error| error.kind());
        assert_eq!(
            found,
            expected.map(|text| text.as_bytes().to_vec()),
            "{shown}"
        );
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    for status in [429, 500, 502, 503, 504] {
        let server = Server::start(move |_, number| match number < 2 {
            true => Reply::new(status, "").with("Retry-After", "0"),
            false => Reply::new(200, "{}"),
        });
        assert!(client(&server).manifest("1").unwrap().is_some(), "{status}");
        assert_eq!(server.lines().len(), 3);
    }
    for status in [400, 403, 405, 410, 501] {
        let server = Server::start(move |_, _| Reply::new(status, ""));
        assert!(client(&server).manifest("1").is_err());
        assert_eq!(server.lines().len(), 1, "{status}");
    }
    let server = Server::start(|_, _| Reply::new(503, ""));
    let error = client(&server).manifest("1").unwrap_err();
    assert_eq!(error.kind(), Kind::Status(503));
    assert_eq!(server.lines().len(), 4);
}

#[test]
fn nobody_who_listens_is_an_error() {
    // Of a server that is gone.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let reference = Reference::parse(&format!("{address}/some/app")).unwrap();
    let error = Client::new(&reference, options())
        .unwrap()
        .manifest("1")
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Network, "{error}");
}

#[test]
fn what_the_registry_says_is_in_the_error() {
    let server = Server::start(|_, _| {
        Reply::new(
            403,
            r#"{"errors":[{"code":"DENIED","message":"not\u001b you"}]}"#,
        )
    });
    let error = client(&server).manifest("1").unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(
        error.to_string().ends_with("403: not\\u{1b} you (DENIED)"),
        "{error}"
    );
}

#[test]
fn a_password_is_shown_when_it_is_asked_for() {
    let server = Server::start(|asked, _| match asked.header("authorization") {
        Some(BASIC) => Reply::new(200, "{}"),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let client = client(&server);
    client.manifest("1").unwrap();
    client.manifest("2").unwrap();
    let shown: Vec<bool> = server
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").is_some())
        .collect();
    // From then on it is known that it is wanted.
    assert_eq!(shown, [false, true, true]);
}

#[test]
fn a_wrong_password_is_denied() {
    let server =
        Server::start(|_, _| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    let error = client(&server).manifest("1").unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn tokens_are_asked_for_and_again_when_they_are_old() {
    // Every token is good for two requests.
    let state = Arc::new(Mutex::new((0, 0)));
    let tokens = Server::start({
        let state = Arc::clone(&state);
        move |asked, _| {
            assert_eq!(asked.header("authorization"), Some(BASIC));
            let mut state = state.lock().unwrap();
            *state = (state.0 + 1, 2);
            Reply::new(
                200,
                format!(r#"{{"token":"","access_token":"t{}"}}"#, state.0),
            )
        }
    });
    let realm = format!("http://{}/token?a=b", tokens.address);
    let server = Server::start(move |asked, _| {
        let mut state = state.lock().unwrap();
        let expected = format!("Bearer t{}", state.0);
        if state.1 > 0 && asked.header("authorization") == Some(&expected) {
            state.1 -= 1;
            return Reply::new(200, "{}");
        }
        let challenge = format!(
            r#"Bearer realm="{realm}",service="the registry",scope="repository:some/app:pull""#
        );
        Reply::new(401, "").with("WWW-Authenticate", challenge)
    });
    let client = client(&server);
    for _ in 0..5 {
        client.manifest("1").unwrap();
    }
    let line = "GET /token?a=b&service=the%20registry&scope=repository:some/app:pull";
    assert_eq!(tokens.lines(), [line; 3]);
    assert_eq!(server.lines().len(), 8);
}

#[test]
fn a_token_that_is_none_is_an_error() {
    for (body, kind) in [
        ("{}", Kind::Answer),
        ("text", Kind::Answer),
        (r#"{"token":"a\r\nb: c"}"#, Kind::Answer),
    ] {
        let tokens = Server::start(move |_, _| Reply::new(200, body));
        let realm = format!("http://{}/", tokens.address);
        let server = Server::start(move |_, _| {
            Reply::new(401, "").with("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
        });
        let error = client(&server).manifest("1").unwrap_err();
        assert_eq!(error.kind(), kind, "{body}: {error}");
    }
}

#[test]
fn redirects_are_followed_without_what_is_secret() {
    let other = Server::start(|_, _| Reply::new(200, "1234"));
    let location = format!("http://{}/bucket?signature=x", other.address);
    let server = Server::start(move |asked, _| match asked.header("authorization") {
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic"),
        Some(_) if asked.line.contains("/blobs/") => {
            Reply::new(307, "").with("Location", "/inside")
        }
        Some(_) => Reply::new(302, "").with("Location", location.clone()),
    });
    let found = client(&server)
        .small_blob(Digest::of(b"1234"), 4, 9)
        .unwrap();
    assert_eq!(found, b"1234");
    // To another path of the same server they go along.
    let asked = server.asked();
    assert_eq!(asked.last().unwrap().line, "GET /inside");
    assert_eq!(asked.last().unwrap().header("authorization"), Some(BASIC));
    let asked = other.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "GET /bucket?signature=x");
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn another_server_gets_no_credentials_by_asking_for_them() {
    let other =
        Server::start(|_, _| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    let location = format!("http://{}/", other.address);
    let server = Server::start(move |_, _| Reply::new(307, "").with("Location", location.clone()));
    let error = client(&server)
        .small_blob(Digest::of(b""), 0, 9)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(
        other
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    assert_eq!(other.asked().len(), 1);
}

#[test]
fn redirects_that_lead_nowhere_are_errors() {
    for location in [
        Some("/again"),
        Some("ftp://r.example/"),
        Some("nowhere"),
        Some(""),
        None,
    ] {
        let server = Server::start(move |_, _| match location {
            Some(location) => Reply::new(302, "").with("Location", location),
            None => Reply::new(302, ""),
        });
        assert!(
            client(&server).small_blob(Digest::of(b""), 0, 9).is_err(),
            "{location:?}"
        );
        assert!(server.lines().len() <= 10);
    }
}

#[test]
fn a_redirect_to_tls_is_followed() {
    // To a server that has none, so it fails there.
    let other = Server::start(|_, _| NOBODY);
    let location = format!("https://{}/", other.address);
    let server = Server::start(move |_, _| Reply::new(307, "").with("Location", location.clone()));
    let error = client(&server)
        .small_blob(Digest::of(b""), 0, 9)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Network);
    assert!(error.to_string().contains("GET https://"), "{error}");
}

#[test]
fn a_digest_that_is_none_is_not_asked_for() {
    let server = Server::start(|_, _| Reply::new(200, "{}"));
    let capitals = Digest::of(b"{}")
        .to_string()
        .to_uppercase()
        .replace("SHA", "sha");
    for which in ["sha256:12", "md5:12", capitals.as_str()] {
        let error = client(&server).manifest(which).unwrap_err();
        assert_eq!(error.kind(), Kind::Request, "{error}");
    }
    assert!(server.asked().is_empty());
}

#[test]
fn a_blob_is_uploaded_once() {
    let digest = Digest::of(b"1234");
    let server = Server::start(move |asked, number| {
        let address = asked.header("host").unwrap().to_string();
        match number {
            1 => {
                Reply::new(202, "").with("Location", format!("http://{address}/upload?state=a%3D"))
            }
            2 => Reply::new(503, ""),
            3 => Reply::new(202, "").with("Location", "/upload/2"),
            4 => Reply::new(201, ""),
            5 => Reply::new(200, ""),
            _ => NOBODY,
        }
    });
    let client = client(&server);
    assert_eq!(
        client.push_blob(b"1234", Some("other/app")).unwrap(),
        digest
    );
    assert_eq!(client.push_blob(b"1234", None).unwrap(), digest);
    let lines = server.lines();
    let begin = format!("POST /v2/some/app/blobs/uploads/?mount={digest}&from=other/app");
    assert_eq!(lines[0], format!("HEAD /v2/some/app/blobs/{digest}"));
    assert_eq!(lines[1], begin);
    assert_eq!(lines[2], format!("PUT /upload?state=a%3D&digest={digest}"));
    assert_eq!(lines[3], begin);
    assert_eq!(lines[4], format!("PUT /upload/2?digest={digest}"));
    assert_eq!(lines[5], lines[0]);
    assert_eq!(lines.len(), 6);
    assert_eq!(server.asked()[4].body, b"1234");
}

#[test]
fn referrers_are_listed_page_by_page() {
    let subject = Digest::of(b"subject");
    let page = |digest: &str| {
        let mut other = descriptor("sha256:00");
        other.artifact_type = Some("application/other".to_string());
        let list =
            serde_json::json!({"schemaVersion": 2, "manifests": [descriptor(digest), other]});
        Reply::new(200, list.to_string()).with("Content-Type", INDEX_TYPE)
    };
    let server = Server::start(move |_, number| match number {
        0 => page("sha256:1").with("Link", "</next?page=2>; rel=\"next\""),
        _ => page("sha256:2"),
    });
    let found = referrers::list(&client(&server), subject, "application/a").unwrap();
    let found: Vec<_> = found.iter().map(|found| found.digest.as_str()).collect();
    assert_eq!(found, ["sha256:1", "sha256:2"]);
    assert_eq!(
        server.lines(),
        [
            format!("GET /v2/some/app/referrers/{subject}?artifactType=application/a"),
            "GET /next?page=2".to_string()
        ]
    );
}

#[test]
fn a_registry_without_referrers_has_a_list_under_a_tag() {
    let subject = Digest::of(b"subject");
    let tag = format!("/v2/some/app/manifests/sha256-{}", subject.hex());
    let artifact = ArtifactManifest::new(
        "application/a",
        Vec::new(),
        descriptor(&subject.to_string()),
    );
    let bytes = serde_json::to_vec(&artifact).unwrap();
    let digest = Digest::of(&bytes);
    // What others said in the list stays there.
    let others = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"x","digest":"sha256:0","size":1,"platform":{"os":"linux"}}],"annotations":{"a":"b"}}"#;
    let list = Arc::new(Mutex::new(others.as_bytes().to_vec()));
    let server = Server::start({
        let (tag, list) = (tag.clone(), Arc::clone(&list));
        move |asked, _| match asked.line.split_once(' ').unwrap() {
            ("GET", path) if path == tag => {
                Reply::new(200, list.lock().unwrap().clone()).with("Content-Type", INDEX_TYPE)
            }
            ("PUT", path) => {
                if path == tag {
                    *list.lock().unwrap() = asked.body.clone();
                }
                Reply::new(201, "")
            }
            _ => Reply::new(404, "404 page not found").with("Content-Type", "text/plain"),
        }
    });
    let client = client(&server);
    for _ in 0..2 {
        assert_eq!(referrers::push(&client, &artifact).unwrap(), digest);
    }
    let written: serde_json::Value = serde_json::from_slice(&list.lock().unwrap()).unwrap();
    assert_eq!(written["manifests"][0]["platform"]["os"], "linux");
    assert_eq!(written["annotations"]["a"], "b");
    assert_eq!(written["manifests"].as_array().unwrap().len(), 2);
    let found = referrers::list(&client, subject, "application/a").unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].digest, digest.to_string());
    assert_eq!(found[0].size, bytes.len() as u64);
    // Once for each time, and the list once.
    let puts = server
        .lines()
        .iter()
        .filter(|line| line.starts_with("PUT "))
        .count();
    assert_eq!(puts, 3);
}

#[test]
fn a_registry_with_referrers_is_left_to_it() {
    let subject = descriptor(&Digest::of(b"subject").to_string());
    let artifact = ArtifactManifest::new("application/a", Vec::new(), subject);
    let server = Server::start(|_, _| Reply::new(201, "").with("OCI-Subject", "sha256:1"));
    referrers::push(&client(&server), &artifact).unwrap();
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn this_machine_is_asked_without_encryption_by_itself() {
    let server = Server::start(|_, _| Reply::new(200, "{}"));
    let reference = Reference::parse(&format!("{}/some/app:1", server.address)).unwrap();
    let client = Client::new(&reference, options().with_plain_http(false)).unwrap();
    assert!(client.manifest("1").unwrap().is_some());
}

#[test]
fn credentials_are_those_that_are_the_closest() {
    let path = std::env::temp_dir().join(format!("ferofs-credentials-{}", std::process::id()));
    let file = r#"{"auths": {
        "r.example": {"auth": "YTpi"}, "r.example/some": {"username": "c", "password": "d"},
        "r.example/some/app": {"auth": "ZTpmOmc="}, "https://s.example": {"auth": "aDppAAA=", "identitytoken": "t"},
        "elsewhere.example": {}, "wrong.example": {"auth": "!!"}}}"#;
    fs::write(&path, file).unwrap();
    let find = |registry: &str, repository: &str| Credentials::read(&path, registry, repository);
    let named = |name: &str, password: &str, token: Option<&str>| {
        Some(Credentials {
            name: name.to_string(),
            password: password.to_string(),
            identity_token: token.map(str::to_string),
        })
    };
    for (registry, repository, expected) in [
        ("r.example", "app", named("a", "b", None)),
        ("r.example", "some/other", named("c", "d", None)),
        ("r.example", "some/app", named("e", "f:g", None)),
        ("r.example", "something", named("a", "b", None)),
        ("s.example", "app", named("h", "i", Some("t"))),
        ("elsewhere.example", "app", None),
        ("r.example:5000", "app", None),
    ] {
        assert_eq!(
            find(registry, repository).unwrap(),
            expected,
            "{registry}/{repository}"
        );
    }
    assert!(find("wrong.example", "app").is_err());
    fs::write(&path, "{").unwrap();
    assert!(find("r.example", "app").is_err());
    fs::remove_file(&path).unwrap();
    assert_eq!(find("r.example", "app").unwrap(), None);
    assert!(!format!("{:?}", someone()).contains("secret"));
}

/// A client of a registry with mirrors.
fn mirrored(registry: &Server, mirrors: &[&Server]) -> Client {
    let reference = Reference::parse(&format!("{}/some/app:1", registry.address)).unwrap();
    let mirrors = mirrors.iter().map(|server| server.address.clone());
    let options = options()
        .with_attempts(1, Duration::from_millis(1))
        .with_mirrors(mirrors.collect());
    Client::new(&reference, options).unwrap()
}

/// Parts of a blob.
fn parts(bytes: &'static [u8]) -> impl Fn(&crate::server::Asked, usize) -> Reply {
    move |asked, _| {
        let range = asked.header("range").unwrap_or("bytes=0-");
        let (start, end) = range["bytes=".len()..].split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse().map_or(bytes.len(), |last: usize| last + 1);
        Reply::new(206, &bytes[start..end]).with(
            "Content-Range",
            format!("bytes {start}-{}/{}", end - 1, bytes.len()),
        )
    }
}

#[test]
fn what_a_mirror_does_not_give_the_registry_does() {
    let bytes: &[u8] = b"some content of a blob";
    let digest = Digest::of(bytes);
    for (name, status) in [("none", 404), ("broken", 500), ("denied", 403)] {
        let mirror = Server::start(move |_, _| Reply::new(status, ""));
        let registry = Server::start(parts(bytes));
        let client = mirrored(&registry, &[&mirror]);
        assert_eq!(client.range(digest, 5..12).unwrap(), b"content", "{name}");
        assert_eq!(client.range(digest, 0..4).unwrap(), b"some", "{name}");
        // Who failed is left alone for a while.
        assert_eq!(mirror.lines().len(), 1, "{name}");
        let mut found = Vec::new();
        client.blob(digest, bytes.len() as u64, &mut found).unwrap();
        assert_eq!(found, bytes, "{name}");
        // The name and the password are the registry's.
        let asked = mirror.asked();
        assert!(
            asked
                .iter()
                .all(|asked| asked.header("authorization").is_none())
        );
    }
    // What a mirror has nobody else is asked for.
    let (mirror, registry) = (Server::start(parts(bytes)), Server::start(|_, _| NOBODY));
    let client = mirrored(&registry, &[&mirror]);
    assert_eq!(client.range(digest, 5..12).unwrap(), b"content");
    assert!(registry.lines().is_empty());
}

#[test]
fn a_blob_that_a_mirror_ends_early_goes_on_at_the_registry() {
    let bytes: &[u8] = b"some content of a blob";
    let mirror = Server::start(move |_, _| Reply::new(200, bytes).cut_after(7));
    let registry = Server::start(parts(bytes));
    let client = mirrored(&registry, &[&mirror]);
    let mut found = Vec::new();
    let size = bytes.len() as u64;
    client.blob(Digest::of(bytes), size, &mut found).unwrap();
    assert_eq!(found, bytes);
    assert_eq!(registry.asked()[0].header("range"), Some("bytes=7-"));
}

#[test]
fn a_mirror_that_gives_something_else_is_not_asked_again() {
    let bytes: &[u8] = b"some content of a blob";
    let other: &[u8] = b"some CONTENT of a blob";
    let (mirror, registry) = (Server::start(parts(other)), Server::start(parts(bytes)));
    let client = mirrored(&registry, &[&mirror]);
    let digest = Digest::of(bytes);
    // Where the digest can be looked at it is.
    let size = bytes.len() as u64;
    assert_eq!(client.small_blob(digest, size, size).unwrap(), bytes);
    let client = mirrored(&registry, &[&mirror]);
    assert_eq!(client.range(digest, 5..12).unwrap(), b"CONTENT");
    assert!(client.distrust());
    assert_eq!(client.range(digest, 5..12).unwrap(), b"content");
    // There is nobody else.
    assert!(!client.distrust());
    assert_eq!(client.range(digest, 5..12).unwrap(), b"content");
}

#[test]
fn errors_say_what_each_said() {
    let mirror = Server::start(|_, _| Reply::new(500, ""));
    let registry = Server::start(|_, _| Reply::new(403, ""));
    let client = mirrored(&registry, &[&mirror]);
    let error = client.range(Digest::of(b""), 0..1).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    let said = error.to_string();
    for server in [&mirror, &registry] {
        assert!(said.contains(&server.address), "{said}");
    }
}

#[test]
fn referrers_that_a_mirror_does_not_have_are_the_registrys() {
    let list = |digest: &str| {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor(digest)]});
        Reply::new(200, index.to_string()).with("Content-Type", INDEX_TYPE)
    };
    let empty = Reply::new(200, r#"{"manifests": []}"#).with("Content-Type", INDEX_TYPE);
    let mirror = Server::start(move |_, _| empty.clone());
    let registry = Server::start(move |_, _| list("sha256:1"));
    let client = mirrored(&registry, &[&mirror]);
    let found = referrers::list(&client, Digest::of(b""), "application/a").unwrap();
    assert_eq!(found[0].digest, "sha256:1");
}

#[test]
fn a_mirror_is_a_host() {
    for mirror in [
        "",
        "mirror",
        "http://mirror.example",
        "mirror.example/path",
        "a b.example",
    ] {
        let reference = Reference::parse("registry.example/app").unwrap();
        let options = options().with_mirrors(vec![mirror.to_string()]);
        let error = Client::new(&reference, options).err().unwrap();
        assert_eq!(error.kind(), Kind::Request, "{mirror}");
    }
}

#[test]
fn authorities_are_in_files_of_pem() {
    let path = std::env::temp_dir().join(format!("ferofs-authorities-{}", std::process::id()));
    for content in ["", "something else"] {
        fs::write(&path, content).unwrap();
        let reference = Reference::parse("registry.example/app").unwrap();
        let options = options().with_authorities(vec![path.clone()]);
        let error = Client::new(&reference, options).err().unwrap();
        assert_eq!(error.kind(), Kind::Request, "{content}");
        assert!(error.to_string().contains("PEM"), "{error}");
    }
    fs::remove_file(&path).unwrap();
}
