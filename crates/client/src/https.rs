//! The transport to any API server: HTTP over TLS, one pooled connection (HTTP/2 where the server speaks it).
//!
//! A fault below HTTP (no route, refused, bad certificate, time-out) becomes a 503 or 504 [`Status`] whose text has the
//! causes, so that callers know one error type.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client as HyperClient, Error as HyperError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object::{Object, Reason, Status};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use crate::credential::{Credential, Shown, Source};
use crate::{
    DeleteOptions, List, ListOptions, Patch, Propagation, Resource, Result, Transport, WatchStream, WriteOptions,
};

pub use counted::request as counted;

mod counted;
mod decode;
mod query;
mod tls;
mod watch;

pub use tls::TlsError;

/// How long a request other than a watch may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a reading request is sent whose connection ends before there is an answer.
const MOST_ATTEMPTS: u32 = 10;
/// How long a watch may last: a time between this and its double, as upstream's reflectors choose.
const WATCH_SECONDS: u64 = 300;

/// Where an API server is and how its certificate is checked.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// `https://host:port`, perhaps with a path.
    pub url: String,
    /// The certificate authority in PEM; the machine's own when `None`.
    pub ca_pem: Option<Vec<u8>>,
    /// The name in the certificate, when it is not the URL's host.
    pub tls_server_name: Option<String>,
    /// Do not check the certificate at all.
    pub insecure: bool,
}

/// Connections, and the certificate of a [`Source`] that was shown on them.
struct Pool {
    shown: Option<(String, String)>,
    http: Http,
}

type Http = HyperClient<tls::Connector, Full<Bytes>>;

fn pool(server: &Server, credential: &Credential) -> std::result::Result<Http, TlsError> {
    let connector = tls::connector(server, credential)?;
    Ok(HyperClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(Some(Duration::from_secs(30)))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .http2_keep_alive_while_idle(true)
        .build(connector))
}

/// See the module.
pub struct Https {
    pool: Mutex<Pool>,
    server: Server,
    base: String,
    /// `host:port`, for metrics.
    host: String,
    credential: Credential,
    user_agent: String,
}

impl Https {
    /// A transport to `server`; nothing is sent yet. `user_agent` names the program.
    pub fn open(server: &Server, credential: Credential, user_agent: &str) -> std::result::Result<Self, TlsError> {
        let pool = Mutex::new(Pool { shown: None, http: pool(server, &credential)? });
        let base = server.url.trim_end_matches('/').to_owned();
        let host = base.parse::<http::Uri>().ok().and_then(|uri| Some(uri.authority()?.to_string()));
        let (host, user_agent, server) = (host.unwrap_or_default(), user_agent.into(), server.clone());
        Ok(Self { pool, server, base, host, credential, user_agent })
    }

    /// The same server to somebody else, over the same connections: this transport shows no certificate.
    pub fn with_source(&self, source: Arc<dyn Source>) -> Self {
        let pool = Pool { shown: None, http: self.pool.lock().http.clone() };
        Self {
            pool: Mutex::new(pool),
            server: self.server.clone(),
            base: self.base.clone(),
            host: self.host.clone(),
            credential: Credential::Source(source),
            user_agent: self.user_agent.clone(),
        }
    }

    fn authorization(&self, shown: Option<&Shown>) -> Result<Option<String>> {
        match &self.credential {
            Credential::Token(token) => Ok(Some(format!("Bearer {token}"))),
            Credential::TokenFile(path) => match std::fs::read_to_string(path) {
                Ok(token) => Ok(Some(format!("Bearer {}", token.trim()))),
                Err(e) => Err(unavailable(format!("cannot read the token file {}: {e}", path.display()))),
            },
            Credential::Basic { username, password } => {
                Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))))
            }
            Credential::Source(_) => Ok(shown.and_then(|s| s.token.as_ref()).map(|token| format!("Bearer {token}"))),
            Credential::None | Credential::Certificate { .. } => Ok(None),
        }
    }

    /// The connections for what is shown: a new certificate wants new ones.
    fn http(&self, shown: Option<&Shown>) -> Result<Http> {
        let mut pool = self.pool.lock();
        let certificate = shown.and_then(|shown| shown.certificate.as_ref());
        if pool.shown.as_ref() != certificate {
            let credential = match certificate {
                Some((cert, key)) => {
                    Credential::Certificate { cert_pem: cert.clone().into(), key_pem: key.clone().into() }
                }
                None => Credential::None,
            };
            let http = self::pool(&self.server, &credential).map_err(|e| unavailable(base::Chain(&e).to_string()))?;
            *pool = Pool { shown: certificate.cloned(), http };
        }
        Ok(pool.http.clone())
    }

    /// Sends a request; the reply's head with a 2xx code, or the error that the server sent.
    async fn send(
        &self,
        method: Method,
        path_and_query: &str,
        content: Option<(&str, Bytes)>,
    ) -> Result<Response<Incoming>> {
        let url = format!("{}{path_and_query}", self.base);
        let shown = match &self.credential {
            Credential::Source(source) => Some(source.shown().await?),
            _ => None,
        };
        let mut request = Request::builder()
            .method(method.clone())
            .uri(&url)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, &self.user_agent);
        if let Some(authorization) = self.authorization(shown.as_ref())? {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let body = match content {
            None => Bytes::new(),
            Some((kind, body)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                body
            }
        };
        let request = request.body(Full::new(body)).map_err(|e| Status::bad_request(format!("{url}: {e}")))?;
        let http = self.http(shown.as_ref())?;
        let began = Instant::now();
        let reply = tokio::time::timeout(REQUEST_TIMEOUT, exchange(&http, request)).await;
        let code = reply.as_ref().ok().and_then(|reply| Some(reply.as_ref().ok()?.status().as_u16()));
        counted(&self.host, &method, code, began);
        let response = match reply {
            Err(_) => {
                let text = format!("{method} {url}: no answer within {} s", REQUEST_TIMEOUT.as_secs());
                return Err(Status::new(Reason::Timeout, text));
            }
            Ok(Err(error)) => return Err(unavailable(format!("{method} {url}: {}", base::Chain(&error)))),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        if let (Credential::Source(source), Some(shown), 401) = (&self.credential, &shown, code) {
            source.forget(shown).await;
        }
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let body = collect(response, &url).await.unwrap_or_default();
        Err(decode::failure(code, &body, retry_after))
    }

    /// Posts JSON to the server's own URL, which need not be an API server's: webhooks.
    pub async fn post(&self, body: Bytes) -> Result<Bytes> {
        self.fetch(Method::POST, "", Some((JSON, body))).await
    }

    async fn fetch(&self, method: Method, path: &str, content: Option<(&str, Bytes)>) -> Result<Bytes> {
        let response = self.send(method, path, content).await?;
        collect(response, path).await
    }

    async fn object(&self, method: Method, path: &str, content: Option<(&str, Bytes)>) -> Result<Arc<Object>> {
        decode::object(self.fetch(method, path, content).await?)
    }
}

/// A connection that was kept may end just when it is used again: what only reads is asked again then, as Go does.
async fn exchange(http: &Http, request: Request<Full<Bytes>>) -> std::result::Result<Response<Incoming>, HyperError> {
    let mut attempts = 1;
    loop {
        let reply = http.request(request.clone()).await;
        match &reply {
            Err(error) if attempts < MOST_ATTEMPTS && request.method() == Method::GET && is_ended(error) => {
                attempts += 1;
            }
            _ => return reply,
        }
    }
}

/// Whether a connection ended before there was an answer.
fn is_ended(error: &HyperError) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.into_iter().any(|cause| {
        cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
            || cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
    })
}

async fn collect(response: Response<Incoming>, what: &str) -> Result<Bytes> {
    match tokio::time::timeout(REQUEST_TIMEOUT, response.into_body().collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(unavailable(format!("{what}: the reply broke off: {}", base::Chain(&error)))),
        Err(_) => Err(Status::new(Reason::Timeout, format!("{what}: the reply took too long"))),
    }
}

/// What a fault below HTTP is to a caller.
pub(crate) fn unavailable(text: String) -> Status {
    Status::new(Reason::ServiceUnavailable, text)
}

const JSON: &str = "application/json";

#[async_trait]
impl Transport for Https {
    async fn get(&self, at: &Resource) -> Result<Arc<Object>> {
        self.object(Method::GET, &at.path(), None).await
    }

    async fn list(&self, at: &Resource, options: &ListOptions) -> Result<List> {
        let path = format!("{}{}", at.path(), query::of_list(options));
        decode::list(&self.fetch(Method::GET, &path, None).await?)
    }

    async fn watch(&self, at: &Resource, options: &ListOptions) -> Result<WatchStream> {
        let seconds = WATCH_SECONDS + rand::random::<u64>() % WATCH_SECONDS;
        let path = format!("{}{}", at.path(), query::of_watch(options, seconds));
        let response = self.send(Method::GET, &path, None).await?;
        Ok(watch::events(response.into_body(), Duration::from_secs(seconds + 30)))
    }

    async fn create(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>> {
        let path = format!("{}{}", at.path(), query::of_write(options, None));
        self.object(Method::POST, &path, Some((JSON, body))).await
    }

    async fn update(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>> {
        let path = format!("{}{}", at.path(), query::of_write(options, None));
        self.object(Method::PUT, &path, Some((JSON, body))).await
    }

    async fn patch(&self, at: &Resource, patch: &Patch, options: &WriteOptions) -> Result<Arc<Object>> {
        let (kind, body, apply) = match patch {
            Patch::Json(body) => ("application/json-patch+json", body, None),
            Patch::Merge(body) => ("application/merge-patch+json", body, None),
            Patch::Strategic(body) => ("application/strategic-merge-patch+json", body, None),
            Patch::Apply(body, apply) => ("application/apply-patch+yaml", body, Some(apply)),
        };
        let body = serde_json::to_vec(body).map_err(|e| Status::bad_request(e.to_string()))?;
        let path = format!("{}{}", at.path(), query::of_write(options, apply));
        self.object(Method::PATCH, &path, Some((kind, body.into()))).await
    }

    async fn delete(&self, at: &Resource, options: &DeleteOptions) -> Result<Option<Arc<Object>>> {
        let body = self.fetch(Method::DELETE, &at.path(), Some((JSON, delete_body(options)))).await?;
        let object = decode::object(body)?;
        // A `Status` or an object that nothing keeps: it is gone.
        Ok((object.head.kind != "Status" && object.head.is_terminating()).then_some(object))
    }

    async fn delete_collection(&self, at: &Resource, options: &DeleteOptions, selection: &ListOptions) -> Result<()> {
        let path = format!("{}{}", at.path(), query::of_list(selection));
        self.fetch(Method::DELETE, &path, Some((JSON, delete_body(options)))).await.map(drop)
    }

    async fn raw_get(&self, path: &str) -> Result<Bytes> {
        self.fetch(Method::GET, path, None).await
    }
}

fn delete_body(options: &DeleteOptions) -> Bytes {
    let mut body = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(propagation) = options.propagation {
        body["propagationPolicy"] = match propagation {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
        .into();
    }
    if let Some(uid) = &options.uid {
        body["preconditions"]["uid"] = Value::from(uid.as_str());
    }
    if let Some(revision) = options.resource_version {
        body["preconditions"]["resourceVersion"] = Value::from(revision.to_string());
    }
    body.to_string().into()
}

#[cfg(test)]
mod tests;
