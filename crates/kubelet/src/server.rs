//! The kubelet's own API: pods, logs, streams, statistics. HTTPS on port 10250, or called in process.
//!
//! ```text
//! HTTPS: client certificate --\
//!                              > Peer -> authorize -> route -> handler
//! in process: Peer::trusted --/
//! ```
//! What exec, attach and port-forward speak on the wire (SPDY/3.1, WebSocket) is a [`StreamServer`]'s business: this
//! server finds the container and opens the session.

mod auth;
mod listen;
mod logs;
mod metrics;
mod pods;
mod query;
mod stats;
mod streams;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use crate::shared::Shared;

pub use auth::{ApiServerOnly, Authorizer, Peer};
pub(crate) use listen::listen;
pub use streams::{OpenPort, OpenSession, StreamOptions, StreamServer};

/// Bodies of requests and responses.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The kubelet's API. Cheap to clone.
#[derive(Clone)]
pub struct KubeletServer {
    shared: Arc<Shared>,
    authorizer: Arc<dyn Authorizer>,
    streams: Option<Arc<dyn StreamServer>>,
    about: Arc<About>,
}

/// What the server says about the kubelet.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) node_name: String,
    pub(crate) config: Value,
    pub(crate) root_dir: std::path::PathBuf,
}

/// What a handler refuses with.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl Refusal {
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, text.into())
    }
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
    pub(crate) fn internal(text: impl std::fmt::Display) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, text.to_string())
    }
}

type Handled = Result<Response<Body>, Refusal>;

impl KubeletServer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        authorizer: Arc<dyn Authorizer>,
        streams: Option<Arc<dyn StreamServer>>,
        about: About,
    ) -> Self {
        Self { shared, authorizer, streams, about: Arc::new(about) }
    }

    /// Answers a request from `peer`. Needs no socket. For exec, attach and port-forward the request must carry hyper's
    /// upgrade extension.
    pub async fn handle(&self, peer: &Peer, request: Request<Body>) -> Response<Body> {
        let handled = match self.check(peer, &request) {
            Ok(()) => self.route(request).await,
            Err(refusal) => Err(refusal),
        };
        handled.unwrap_or_else(|Refusal(status, message)| text(status, message))
    }

    fn check(&self, peer: &Peer, request: &Request<Body>) -> Result<(), Refusal> {
        let path = request.uri().path();
        if peer.is_anonymous() && path != "/healthz" {
            return Err(Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".into()));
        }
        let subresource = auth::subresource(path);
        let verb = auth::verb(request.method());
        if path == "/healthz" || self.authorizer.allows(peer, verb, subresource) {
            return Ok(());
        }
        let message =
            format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])", peer.user);
        Err(Refusal(StatusCode::FORBIDDEN, message))
    }

    async fn route(&self, request: Request<Body>) -> Handled {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let query = query::Query::parse(request.uri().query().unwrap_or_default());
        match (request.method(), parts.as_slice()) {
            (_, ["healthz"]) => Ok(text(StatusCode::OK, "ok")),
            (&Method::GET, ["pods"]) => Ok(json(&pods::list(&self.shared, false))),
            (&Method::GET, ["runningpods"]) => Ok(json(&pods::list(&self.shared, true))),
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                logs::serve(&self.shared, namespace, pod, container, &query).await
            }
            (&Method::GET | &Method::POST, ["exec" | "attach", namespace, pod, rest @ .., container])
                if rest.len() < 2 =>
            {
                let is_exec = path.starts_with("/exec");
                let uid = rest.first().copied();
                self.session(request, is_exec, (namespace, pod, uid), container, &query).await
            }
            (&Method::GET | &Method::POST, ["portForward", namespace, pod, rest @ ..]) if rest.len() < 2 => {
                self.port_forward(request, (namespace, pod, rest.first().copied())).await
            }
            (&Method::GET, ["stats", "summary"]) => Ok(json(&stats::summary(&self.shared, &self.about).await)),
            (&Method::GET, ["metrics"]) => Ok(metrics_reply(metrics::own(&self.shared, &self.about.node_name))),
            (&Method::GET, ["metrics", "resource"]) => Ok(metrics_reply(metrics::resource(&self.shared).await)),
            (&Method::GET, ["configz"]) => Ok(json(&self.about.config)),
            _ => Err(Refusal::not_found("404 page not found")),
        }
    }
}

/// A plain text reply.
pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    reply(status, "text/plain; charset=utf-8", message.into().into())
}

pub(crate) fn json(value: &Value) -> Response<Body> {
    reply(StatusCode::OK, "application/json", serde_json::to_vec(value).unwrap_or_default().into())
}

fn metrics_reply(body: String) -> Response<Body> {
    reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body.into())
}

fn reply(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Text of labels in the exposition format.
pub(crate) fn labels(pairs: &BTreeMap<&str, &str>) -> String {
    let escaped = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let parts: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
    format!("{{{}}}", parts.join(","))
}
