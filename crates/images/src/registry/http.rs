//! HTTP towards registries: requests with time limits, redirects without credentials, bodies that may stall.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;

use super::RegistryError;
use super::connect::{Connector, Dial};
use super::error::BodyError;
use crate::registries::Tls;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type HttpClient = Client<HttpsConnector<Connector>, Body>;

/// From the request to the head of the answer; an upload is sent within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
const STALL_SECONDS: u64 = 60;
const REDIRECTS: usize = 10;

/// Clients by the way they trust; connections are kept for some seconds.
#[derive(Default)]
pub(crate) struct Http {
    clients: Mutex<HashMap<Tls, HttpClient>>,
    dial: Option<Arc<dyn Dial>>,
}

/// One request; it can be sent again when it has no body.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }
    pub(crate) fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }
    pub(crate) fn header(mut self, name: header::HeaderName, value: &str) -> Result<Self, RegistryError> {
        let value = header::HeaderValue::from_str(value)
            .map_err(|_| self.malformed(format!("the {name} header cannot be sent")))?;
        self.headers.insert(name, value);
        Ok(self)
    }
    pub(crate) fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RegistryError {
        RegistryError::Request { method: self.method.clone(), url: self.url.clone(), source: source.into() }
    }
    pub(crate) fn malformed(&self, why: impl Into<String>) -> RegistryError {
        RegistryError::Answer { url: self.url.clone(), why: why.into() }
    }
}

/// An answer and the request that it answers.
pub(crate) struct Answer {
    pub(crate) call: Call,
    pub(crate) response: Response<Incoming>,
}

impl Http {
    /// Clients that connect this way; `None`: from this process's own network.
    pub(crate) fn new(dial: Option<Arc<dyn Dial>>) -> Self {
        Self { clients: Mutex::default(), dial }
    }

    fn client(&self, tls: &Tls) -> Result<HttpClient, RegistryError> {
        if let Some(known) = self.clients.lock().get(tls) {
            return Ok(known.clone());
        }
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(super::tls::config(tls)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(self.dial.clone()));
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(15)).build(https);
        self.clients.lock().insert(tls.clone(), client.clone());
        Ok(client)
    }

    /// Sends a call and follows redirects of GET and HEAD; credentials stay with the host they are for.
    pub(crate) async fn send(&self, tls: &Tls, call: Call) -> Result<Answer, RegistryError> {
        let mut tls = tls.clone();
        let mut call = call;
        for _ in 0..REDIRECTS {
            let body = Full::new(call.body.clone()).map_err(|never| match never {}).boxed_unsync();
            let answer = self.send_body(&tls, call, body, ANSWER_TIMEOUT).await?;
            let is_read = matches!(answer.call.method, Method::GET | Method::HEAD);
            let is_redirect = matches!(answer.response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(to) = answer.response.headers().get(header::LOCATION).filter(|_| is_read && is_redirect) else {
                return Ok(answer);
            };
            let to = to.to_str().map_err(|_| answer.call.malformed("redirects to what is no URL"))?;
            let to = resolve_url(&answer.call.url, to).ok_or_else(|| answer.call.malformed("redirects to no URL"))?;
            call = answer.call.clone();
            if authority(&to) != authority(&call.url) {
                call.headers.remove(header::AUTHORIZATION);
                tls = Tls::default();
            }
            call.url = to;
        }
        Err(call.malformed(format!("more than {REDIRECTS} redirects")))
    }

    /// Sends a call with a streamed body.
    pub(crate) async fn upload(&self, tls: &Tls, call: Call, body: Body) -> Result<Answer, RegistryError> {
        self.send_body(tls, call, body, UPLOAD_TIMEOUT).await
    }

    async fn send_body(&self, tls: &Tls, call: Call, body: Body, limit: Duration) -> Result<Answer, RegistryError> {
        let mut request = Request::builder().method(call.method.clone()).uri(&call.url);
        if let Some(headers) = request.headers_mut() {
            *headers = call.headers.clone();
            let agent = concat!("navarch/", env!("CARGO_PKG_VERSION"));
            headers.insert(header::USER_AGENT, header::HeaderValue::from_static(agent));
        }
        let request = request.body(body).map_err(|e| call.failed(e))?;
        let client = self.client(tls)?;
        match tokio::time::timeout(limit, client.request(request)).await {
            Ok(Ok(response)) => Ok(Answer { call, response }),
            Ok(Err(error)) => Err(call.failed(error)),
            Err(_) => Err(call.failed(format!("no answer within {} seconds", limit.as_secs()))),
        }
    }
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let wait = Duration::from_secs(STALL_SECONDS);
            let frame = match tokio::time::timeout(wait, self.response.body_mut().frame()).await {
                Err(_) => return Err(self.call.failed(BodyError::Stalled(STALL_SECONDS))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.call.failed(BodyError::Broken(error.into()))),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The whole body, if it is at most `limit` bytes.
    pub(crate) async fn bytes(mut self, limit: u64) -> Result<Bytes, RegistryError> {
        let mut out = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            out.extend_from_slice(&chunk);
            if out.len() as u64 > limit {
                return Err(self.call.malformed(format!("the answer is longer than {limit} bytes")));
            }
        }
        Ok(out.freeze())
    }

    /// The answer as an error, with the registry's words.
    pub(crate) async fn into_error(self) -> RegistryError {
        let (method, url, status) = (self.call.method.clone(), self.call.url.clone(), self.status());
        let body = self.bytes(64 << 10).await.unwrap_or_default();
        RegistryError::Status { method, url, status, message: message(&body) }
    }
}

/// `{"errors":[{"code":..,"message":..}]}`, the registry API's form of an error.
pub(crate) fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors = serde_json::from_slice::<Errors>(body).map(|e| e.errors).unwrap_or_default();
    let texts: Vec<String> = errors.into_iter().map(|e| format!("{}: {}", e.code.to_lowercase(), e.message)).collect();
    texts.join(", ")
}

/// A URL from a `Location` header, which may be relative.
pub(crate) fn resolve_url(base: &str, to: &str) -> Option<String> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return Some(to.to_owned());
    }
    let base: Uri = base.parse().ok()?;
    to.starts_with('/').then(|| Some(format!("{}://{}{to}", base.scheme_str()?, base.authority()?)))?
}

fn authority(url: &str) -> Option<String> {
    Some(url.parse::<Uri>().ok()?.authority()?.as_str().to_owned())
}
