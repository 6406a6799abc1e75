//! Hands a request on to the server behind an APIService.

use std::sync::Arc;

use base::percent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use object::{Reason, Status};
use serde_json::Value;
use tokio::task::JoinSet;

use super::Remote;
use crate::api::Api;
use crate::egress::outgoing;
use crate::http::{Body, Peer, is_upgrade, join};
use crate::user::User;

/// Headers that concern one connection only, and those by which a client could speak for somebody else.
static DROPPED: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::HOST,
];
const DROPPED_PREFIXES: [&str; 4] = ["x-remote-", "impersonate-", "keep-alive", "proxy-connection"];

/// How the server behind an APIService is believed, and how it believes this one; why that cannot be.
pub(super) fn tls(pki: &pki::Pki, spec: &Value) -> Result<Arc<rustls::ClientConfig>, String> {
    let said = |error: pki::PkiError| base::Chain(&error).to_string();
    let pair = pki.front_proxy().map_err(said)?;
    let config = if spec["insecureSkipTLSVerify"] == true {
        pki::credulous_client_config(Some(&pair))
    } else {
        let bundle = STANDARD.decode(spec["caBundle"].as_str().unwrap_or("")).unwrap_or_default();
        let bundle = String::from_utf8(bundle).unwrap_or_default();
        let ca = if bundle.is_empty() { pki::machine_authorities().unwrap_or_default() } else { bundle };
        pki::client_config(&ca, Some(&pair))
    };
    let mut config = config.map_err(said)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The headers of this server's own questions.
pub(super) fn own_headers() -> Vec<(HeaderName, HeaderValue)> {
    let user = User::new("system:kube-aggregator", &["system:masters"]);
    speak_for(&user)
}

/// The headers that say whom a request is from.
fn speak_for(user: &User) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            headers.push((name, value));
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        for value in values {
            add(&format!("x-remote-extra-{}", escaped(key)), value);
        }
    }
    headers
}

/// Percent-encodes what may not stand in a header's name.
fn escaped(key: &str) -> String {
    percent::encoded(key, b"!#$&'*+-.^_`|~")
}

/// Where the request came from, as proxies tell it.
fn tell_way(headers: &mut HeaderMap, peer: Option<&Peer>, host: &str, path: &str) {
    let before = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let peer = peer.map(|peer| peer.0.ip().to_string());
    let way: Vec<&str> = before.into_iter().chain(peer.as_deref()).collect();
    let told = [
        ("x-forwarded-for", way.join(", ")),
        ("x-forwarded-host", host.to_owned()),
        ("x-forwarded-proto", "https".to_owned()),
        ("x-forwarded-uri", path.to_owned()),
    ];
    for (name, value) in told {
        if let Ok(value) = HeaderValue::from_str(&value)
            && !value.is_empty()
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The path as it was understood: what is escaped without need is not, an escaped slash is a slash.
fn plain_path(path: &str) -> String {
    let Some(decoded) = Some(path).filter(|path| path.contains('%')).and_then(crate::http::decode) else {
        return path.to_owned();
    };
    percent::encoded(&decoded, b"-_.~$&+,/:;=@")
}

fn forwarded(name: &HeaderName) -> bool {
    !DROPPED.contains(name) && !DROPPED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

impl Api {
    /// The reply of the server behind the APIService, to a request that `user` may make.
    pub(crate) async fn forward(
        self: &Arc<Self>,
        remote: &Remote,
        user: &User,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let unavailable = |why: String| Status::new(Reason::ServiceUnavailable, why);
        if !remote.is_available {
            // The document of a server that does not answer is not there.
            if request.uri().path().starts_with("/openapi/") {
                return Ok(crate::http::bare(StatusCode::NOT_FOUND));
            }
            return Ok(crate::http::plain(503, "service unavailable\n"));
        }
        let target = self.target(remote).map_err(|condition| unavailable(condition.message))?;
        let upgrade = is_upgrade(request.headers());
        let (mut parts, body) = request.into_parts();
        let on_client = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let path = plain_path(parts.uri.path());
        let uri = match parts.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        let mut forward = Request::builder().method(parts.method).uri(uri).version(Version::HTTP_11);
        if let Some(headers) = forward.headers_mut() {
            for (name, value) in parts.headers.iter().filter(|(name, _)| forwarded(name)) {
                headers.append(name, value.clone());
            }
            for (name, value) in speak_for(user) {
                headers.append(name, value);
            }
            headers.insert(header::HOST, target.address.parse().map_err(Status::internal)?);
            tell_way(headers, parts.extensions.get::<Peer>(), &target.address, &path);
            if upgrade {
                headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                if let Some(protocol) = parts.headers.get(header::UPGRADE) {
                    headers.insert(header::UPGRADE, protocol.clone());
                }
            }
        }
        let forward = forward.body(body).map_err(Status::internal)?;
        let failed =
            |e: crate::egress::EgressError| unavailable(format!("error trying to reach service: {}", base::Chain(&e)));
        let mut response = self.egress.send(&target, forward).await.map_err(failed)?;
        if response.status().is_redirection() && response.headers().contains_key(header::LOCATION) {
            let why = "the backend attempted to redirect this request, which is not permitted";
            return Err(Status { code: 502, ..unavailable(why.into()) });
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(on_client) = on_client.filter(|_| upgrade) else {
                return Err(Status { code: 502, ..unavailable("the backend switched protocols unasked".into()) });
            };
            let on_server = hyper::upgrade::on(&mut response);
            self.egress.carry(join(on_client, on_server, JoinSet::new()));
            let (head, _) = response.into_parts();
            return Ok(Response::from_parts(head, crate::http::empty()));
        }
        let (mut head, body) = response.into_parts();
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
            head.headers.remove(name);
        }
        head.version = Version::default();
        Ok(Response::from_parts(head, outgoing(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_sent_on_as_they_were_understood() {
        assert_eq!(plain_path("/apis/g/v1/things/a%2Fb"), "/apis/g/v1/things/a/b");
        assert_eq!(plain_path("/apis/g/v1/things/a%20b%25%3A%3F"), "/apis/g/v1/things/a%20b%25:%3F");
        assert_eq!(plain_path("/apis/g/v1/things/a:b"), "/apis/g/v1/things/a:b");
    }

    #[test]
    fn nobody_speaks_for_others_through_the_proxy() {
        for name in ["authorization", "x-remote-user", "x-remote-extra-a", "impersonate-user", "connection", "host"] {
            assert!(!forwarded(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["accept", "content-type", "user-agent", "sec-websocket-key"] {
            assert!(forwarded(&HeaderName::from_static(name)), "{name}");
        }
        let mut user = User::new("jane", &["dev"]);
        user.extra.insert("example.org/scope".into(), vec!["a".into()]);
        let headers: Vec<String> =
            speak_for(&user).iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        assert_eq!(
            headers,
            [
                "x-remote-user: jane",
                "x-remote-group: dev",
                "x-remote-group: system:authenticated",
                "x-remote-extra-example.org%2fscope: a"
            ]
        );
    }
}
