//! `pods/<name>/proxy`, `services/<name>/proxy`, `nodes/<name>/proxy`: a request handed on to what runs there.
//!
//! Where to is never taken from the request alone: the address is a pod's, an endpoint's or a node's as the cluster knows it, and loopback
//! and link-local addresses are refused, so that nobody reaches through here what only this server can reach.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use client::Resource;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use object::{Gvr, Reason, Status};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::upgrade::{self, is_upgrade};
use super::{Body, Handled, Service, reply};
use crate::api::Api;
use crate::egress::{Egress, is_own, undialed};

const PATIENCE: Duration = Duration::from_secs(30);
/// Where a kubelet listens that does not say.
pub(super) const KUBELET_PORT: u16 = 10250;
/// What belongs to one connection, and the caller's credentials, which are for this server alone.
const KEPT_BACK: [HeaderName; 8] = [
    // Pages are read on the way.
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
];

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    tls: bool,
    ip: IpAddr,
    port: u16,
}

impl Place {
    /// Refuses addresses that only this server reaches.
    pub(super) fn checked(self) -> Result<Self, Status> {
        if is_own(self.ip) {
            return Err(Status::bad_request("address not allowed"));
        }
        Ok(self)
    }
}

/// Why there is no answer to hand on.
pub(super) enum Unanswered {
    /// This server's own refusal.
    Refused(Status),
    /// Nothing answers there: `dial tcp 192.0.2.1:10250: connect: connection refused`.
    Unreached { at: SocketAddr, why: String },
}

impl From<Unanswered> for Status {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Refused(status) => status,
            Unanswered::Unreached { why, .. } => unavailable(format!("error trying to reach service: {why}")),
        }
    }
}

impl From<Status> for Unanswered {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// `name`, `name:port`, `scheme:name:port`.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [name] => Some(("", name, "")),
        [name, port] => Some(("", name, port)),
        [scheme @ ("" | "http" | "https"), name, port] => Some((scheme, name, port)),
        _ => None,
    }
}

fn unavailable(text: impl std::fmt::Display) -> Status {
    Status::new(Reason::ServiceUnavailable, text.to_string())
}

fn malformed(error: impl std::fmt::Display) -> Status {
    Status::bad_request(error.to_string())
}

impl Service {
    /// Hands the request on and brings the answer back.
    pub(super) async fn proxy(&self, at: &Resource, request: Request<Body>) -> Handled {
        let full = request.uri().path().to_owned();
        let path = target_path(&full, at.namespace.is_some());
        if path.is_none() && matches!(*request.method(), Method::GET | Method::HEAD) {
            // As a browser wants it: what is relative to the root must end in a slash.
            let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
            let mut response = Response::new(reply::full(Bytes::new()));
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            let to = HeaderValue::from_str(&format!("{full}/{query}")).map_err(malformed)?;
            response.headers_mut().insert(header::LOCATION, to);
            return Ok(response);
        }
        let path = path.unwrap_or_else(|| "/".into());
        let base = full.strip_suffix(&path).unwrap_or(&full).to_owned();
        let given = at.name.as_deref().unwrap_or("");
        let (scheme, name, port) = split(given).ok_or_else(|| {
            Status::bad_request(format!("invalid {} request {given:?}", at.gvr.resource.trim_end_matches('s')))
        })?;
        let target = Resource { name: Some(name.to_owned()), subresource: None, ..at.clone() };
        let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
        let wanted: PathAndQuery = format!("{path}{query}").parse().map_err(malformed)?;
        let place = match at.gvr.resource.as_str() {
            "pods" => pod(&value(&self.api, &target)?, scheme, port)?,
            "services" => service(&self.api, &target, scheme, port)?,
            _ if port.is_empty() || number(port)? == KUBELET_PORT => {
                self.api.get(&target)?;
                return Ok(self.ask_node(name, wanted, request).await?);
            }
            _ => node(&value(&self.api, &target)?, scheme, number(port)?)?,
        };
        let mut response = send(&self.api.egress, &place.checked()?, &unverified()?, wanted, request).await?;
        // A redirect within the target stays within the proxy.
        let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        if let Some(rest) = location.filter(|l| l.starts_with('/')) {
            let to = HeaderValue::from_str(&format!("{base}{rest}")).map_err(malformed)?;
            response.headers_mut().insert(header::LOCATION, to);
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or("");
        if !content_type.starts_with("text/html") {
            return Ok(response);
        }
        // Pages are small; one that breaks off is shown as far as it came.
        let (mut parts, body) = response.into_parts();
        let page = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let page = with_links_below(&page, &base);
        parts.headers.insert(header::CONTENT_LENGTH, page.len().into());
        Ok(Response::from_parts(parts, reply::full(page.into())))
    }
}

/// Attributes whose value is a link.
const LINKS: [&str; 8] = ["action", "background", "cite", "data", "formaction", "href", "poster", "src"];

/// A page whose links to the root of its server lead to `base` instead.
fn with_links_below(page: &[u8], base: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + 64);
    for (at, byte) in page.iter().enumerate() {
        let is_root = *byte == b'/' && page.get(at + 1) != Some(&b'/');
        if let Some(before) = page[..at].strip_suffix(b"=\"").or_else(|| page[..at].strip_suffix(b"='"))
            && is_root
        {
            let from = before.iter().rposition(|b| !b.is_ascii_alphabetic()).map_or(0, |p| p + 1);
            let name = String::from_utf8_lossy(&before[from..]).to_ascii_lowercase();
            if LINKS.contains(&name.as_str()) {
                out.extend_from_slice(base.as_bytes());
            }
        }
        out.push(*byte);
    }
    out
}

/// What follows `/proxy`, as it was written; `None` when nothing does.
fn target_path(full: &str, namespaced: bool) -> Option<String> {
    // /api/v1/nodes/<name>/proxy, /api/v1/namespaces/<namespace>/pods/<name>/proxy
    let before = if namespaced { 8 } else { 6 };
    let mut parts = full.splitn(before + 1, '/').skip(before);
    parts.next().map(|rest| format!("/{rest}"))
}

fn value(api: &Api, at: &Resource) -> Result<Value, Status> {
    api.get(at)?.value().map_err(Status::internal)
}

fn number(port: &str) -> Result<u16, Status> {
    port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?}")))
}

fn pod(pod: &Value, scheme: &str, port: &str) -> Result<Place, Status> {
    let ip = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok());
    let ip = ip.ok_or_else(|| unavailable("address not allowed"))?;
    let mut ports = pod["spec"]["containers"].as_array().into_iter().flatten().flat_map(|c| c["ports"].as_array());
    let first = ports.find_map(|p| p.first()?["containerPort"].as_u64());
    let port = match (port, first.and_then(|p| u16::try_from(p).ok())) {
        ("", Some(first)) => first,
        ("", None) => 80,
        (port, _) => number(port)?,
    };
    Ok(Place { tls: scheme == "https", ip, port })
}

pub(super) fn node(node: &Value, scheme: &str, port: u16) -> Result<Place, Status> {
    let addresses = node["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |kind: &str| addresses.iter().find(|a| a["type"] == kind)?["address"].as_str()?.parse().ok();
    let ip = of("InternalIP").or_else(|| of("ExternalIP"));
    Ok(Place { tls: scheme == "https", ip: ip.ok_or_else(|| unavailable("the node has no address"))?, port })
}

/// A ready endpoint of the service's port.
fn service(api: &Api, at: &Resource, scheme: &str, port: &str) -> Result<Place, Status> {
    let name = at.name.as_deref().unwrap_or("");
    let service = value(api, at)?;
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let by_number = port.parse::<u64>().ok();
    let chosen = match port {
        "" if ports.len() == 1 => ports.first(),
        "" => None,
        _ => ports.iter().find(|p| p["name"] == port || by_number.is_some_and(|n| p["port"] == n)),
    };
    let Some(chosen) = chosen else {
        return Err(unavailable(format!("no service port {port:?} found for service {name:?}")));
    };
    let port_name = chosen["name"].as_str().unwrap_or("");
    let endpoints = Resource { gvr: Gvr::new("", "v1", "endpoints"), ..at.clone() };
    let endpoints = value(api, &endpoints).unwrap_or_default();
    let mut found: Vec<(IpAddr, u16)> = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let ports = subset["ports"].as_array().into_iter().flatten();
        let port = ports.filter(|p| p["name"].as_str().unwrap_or("") == port_name).find_map(|p| p["port"].as_u64());
        let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else { continue };
        let ips = subset["addresses"].as_array().into_iter().flatten();
        found.extend(ips.filter_map(|a| Some((a["ip"].as_str()?.parse().ok()?, port))));
    }
    if found.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {name:?}")));
    }
    let (ip, port) = found[rand::random_range(0..found.len())];
    Ok(Place { tls: scheme == "https", ip, port })
}

/// Sends a request over a connection of its own.
pub(super) async fn send(
    egress: &Egress,
    place: &Place,
    tls: &Arc<rustls::ClientConfig>,
    wanted: PathAndQuery,
    request: Request<Body>,
) -> Result<Response<Body>, Unanswered> {
    let address = SocketAddr::new(place.ip, place.port);
    let failed = |why: String| Unanswered::Unreached { at: address, why };
    let connect = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let stream = connect
        .map_err(|_| failed(format!("dial tcp {address}: i/o timeout")))?
        .map_err(|e| failed(undialed(address, &e)))?;
    let (mut parts, body) = request.into_parts();
    parts.uri = wanted.into();
    parts.version = http::Version::HTTP_11;
    let upgrades = is_upgrade(&parts.headers);
    let protocol = upgrades.then(|| parts.headers.get(header::UPGRADE).cloned()).flatten();
    strip(&mut parts.headers);
    switch(&mut parts.headers, protocol);
    let host = HeaderValue::from_str(&address.to_string()).map_err(malformed)?;
    parts.headers.insert(header::HOST, host);
    let request = Request::from_parts(parts, body);
    let answered = if place.tls {
        let connector = tokio_rustls::TlsConnector::from(tls.clone());
        let name = ServerName::IpAddress(place.ip.into());
        let stream = connector.connect(name, stream).await.map_err(|e| failed(base::Chain(&e).to_string()))?;
        exchange(egress, client::Lenient(stream), request).await
    } else {
        exchange(egress, stream, request).await
    };
    let response = answered.map_err(failed)?;
    if upgrades { Ok(upgraded(response)?) } else { Ok(response) }
}

/// The answer to a request to upgrade: another protocol, or why not. Anything else, a redirect above all, is not for the client.
fn upgraded(response: Response<Body>) -> Handled {
    let code = response.status();
    if code == StatusCode::SWITCHING_PROTOCOLS || code.is_client_error() || code.is_server_error() {
        return Ok(response);
    }
    let message = format!("invalid upgrade response: status code {}", code.as_u16());
    Err(Status { reason: None, ..Status::new(Reason::InternalError, message) })
}

pub(super) async fn exchange<S>(
    egress: &Egress,
    stream: S,
    mut request: Request<Body>,
) -> Result<Response<Body>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |e: hyper::Error| base::Chain(&e).to_string();
    let is_head = *request.method() == Method::HEAD;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // The reader of the body hears of a broken connection.
        let _ = connection.with_upgrades().await;
    });
    let on_client = hyper::upgrade::on(&mut request);
    let mut response = sender.send_request(request).await.map_err(words)?;
    let switched = (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(&mut response));
    let (mut parts, body) = response.into_parts();
    let protocol = parts.headers.get(header::UPGRADE).cloned();
    strip(&mut parts.headers);
    if let Some(on_server) = switched {
        switch(&mut parts.headers, protocol);
        egress.carry(upgrade::join(on_client, on_server, tasks));
        return Ok(Response::from_parts(parts, reply::full(Bytes::new())));
    }
    if is_head {
        return Ok(Response::from_parts(parts, reply::full(Bytes::new())));
    }
    Ok(Response::from_parts(parts, Answer { body, _connection: tasks }.boxed_unsync()))
}

/// Asks for another protocol, or says that it is spoken from here on.
fn switch(headers: &mut HeaderMap, protocol: Option<HeaderValue>) {
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in KEPT_BACK {
        headers.remove(name);
    }
}

/// A body, and the connection that it comes from. One that breaks off ends early; its length tells the client.
struct Answer {
    body: Incoming,
    _connection: JoinSet<()>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| frame.and_then(Result::ok).map(Ok))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// Pods rarely have certificates that anybody could check: as upstream, the proxy does not.
fn unverified() -> Result<Arc<rustls::ClientConfig>, Status> {
    pki::credulous_client_config(None).map(Arc::new).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_of_pages() {
        let page = br#"<a href="/x">a</a> <img SRC='/y.png'> <a href="//other/z"> <b title="/t"> <a href="rel">"#;
        let shown = String::from_utf8(with_links_below(page, "/base")).unwrap();
        assert_eq!(
            shown,
            r#"<a href="/base/x">a</a> <img SRC='/base/y.png'> <a href="//other/z"> <b title="/t"> <a href="rel">"#
        );
    }

    #[test]
    fn whoever_does_not_upgrade_sends_nobody_elsewhere() {
        let answer = |code: u16| {
            let mut response = Response::new(reply::full(Bytes::new()));
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
            upgraded(response)
                .map(|response| response.status().as_u16())
                .map_err(|status| (status.code, status.message))
        };
        assert_eq!([answer(101), answer(403), answer(500)], [Ok(101), Ok(403), Ok(500)]);
        for code in [200, 302, 307] {
            assert_eq!(answer(code), Err((500, format!("invalid upgrade response: status code {code}"))));
        }
    }

    #[test]
    fn what_only_this_server_reaches_is_refused() {
        for ip in [
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
        ] {
            let tree = json!({"status": {"podIP": ip, "addresses": [{"type": "InternalIP", "address": ip}]}});
            for place in [pod(&tree, "", "80"), node(&tree, "https", 10250)] {
                let refused = place.and_then(Place::checked).unwrap_err();
                assert_eq!((refused.code, refused.message.as_str()), (400, "address not allowed"), "{ip}");
            }
        }
        for name in ["169.254.169.254.example.org", "2130706433", "0x7f.1"] {
            assert!(pod(&json!({"status": {"podIP": name}}), "", "80").is_err(), "names are never looked up: {name}");
        }
    }

    #[test]
    fn targets() {
        assert_eq!(split("https:web:tls"), Some(("https", "web", "tls")));
        assert_eq!(split("web:80"), Some(("", "web", "80")));
        assert_eq!(split("ftp:web:80"), None);
        assert_eq!(target_path("/api/v1/namespaces/d/pods/a/proxy", true), None);
        assert_eq!(target_path("/api/v1/namespaces/d/pods/a/proxy/", true).as_deref(), Some("/"));
        assert_eq!(target_path("/api/v1/namespaces/d/pods/a/proxy/x/y%2f", true).as_deref(), Some("/x/y%2f"));
        assert_eq!(target_path("/api/v1/nodes/n/proxy/pods", false).as_deref(), Some("/pods"));
        let of = |port: &str| {
            let tree = json!({"spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}, "status": {"podIP": "10.42.0.9"}});
            pod(&tree, "", port).map(|p| p.port).ok()
        };
        assert_eq!([of(""), of("90"), of("http")], [Some(8080), Some(90), None]);
    }
}
