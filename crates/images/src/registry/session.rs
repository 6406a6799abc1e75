//! Talking to one host on behalf of one pull or push: the authorization that the host asked for, kept while it lasts.

use http::{Method, StatusCode, header};
use parking_lot::Mutex;

use super::auth::{self, Challenge, Credentials};
use super::http::{Answer, Body, Call};
use super::{Registry, RegistryError};
use crate::registries::{Host, is_loopback};
use crate::store::DOCUMENT_LIMIT;
use crate::{Descriptor, Digest, media};

const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, */*";

pub(crate) struct Session {
    registry: Registry,
    host: Mutex<Host>,
    credentials: Option<Credentials>,
    scope: String,
    authorization: Mutex<Option<String>>,
}

/// What a reference means at a host.
pub(crate) struct Resolved {
    pub(crate) target: Descriptor,
    /// The manifest, when it had to be fetched to learn its digest.
    pub(crate) document: Option<Vec<u8>>,
}

impl Session {
    /// `actions` as the token service names them: `pull` or `pull,push`.
    pub(crate) fn new(registry: Registry, host: Host, given: Option<&Credentials>, actions: &str) -> Self {
        let credentials = Credentials::for_host(given, &host);
        let scope = format!("repository:{}:{actions}", host.path);
        Self { registry, host: Mutex::new(host), credentials, scope, authorization: Mutex::new(None) }
    }

    /// The URL of something in the repository.
    pub(crate) fn url(&self, rest: &str) -> String {
        self.host.lock().url(rest)
    }

    /// Sends a call, answering a challenge once.
    pub(crate) async fn send(&self, call: Call) -> Result<Answer, RegistryError> {
        let tls = self.host.lock().tls.clone();
        let http = &self.registry.inner.http;
        let first = http.send(&tls, self.authorized(call.clone())?).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let Some(challenge) = Challenge::read(first.response.headers()) else { return Ok(first) };
        let before = first.call.headers.get(header::AUTHORIZATION).cloned();
        let registries = &self.registry.inner.registries;
        let new = auth::answer(http, registries, &challenge, self.credentials.as_ref(), &self.scope).await?;
        if before.is_some_and(|b| b.as_bytes() == new.as_bytes()) {
            return Ok(first); // the same again would not help
        }
        *self.authorization.lock() = Some(new);
        http.send(&tls, self.authorized(call)?).await
    }

    /// Sends a streamed body with the authorization that earlier calls have earned.
    pub(crate) async fn upload(&self, call: Call, body: Body) -> Result<Answer, RegistryError> {
        let tls = self.host.lock().tls.clone();
        self.registry.inner.http.upload(&tls, self.authorized(call)?, body).await
    }

    fn authorized(&self, call: Call) -> Result<Call, RegistryError> {
        match self.authorization.lock().clone() {
            Some(value) => call.header(header::AUTHORIZATION, &value),
            None => Ok(call),
        }
    }

    /// What tag or digest means here. `Ok(None)`: the host does not have it.
    pub(crate) async fn resolve(&self, selector: &str) -> Result<Option<Resolved>, RegistryError> {
        let head = |url: String| Call::new(Method::HEAD, url).header(header::ACCEPT, ACCEPT);
        let mut answer = self.send(head(self.url(&format!("manifests/{selector}")))?).await?;
        // What listens on loopback may speak TLS after all.
        if answer.status() == StatusCode::BAD_REQUEST && self.upgrade() {
            answer = self.send(head(self.url(&format!("manifests/{selector}")))?).await?;
        }
        match answer.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            status if status.is_success() => {}
            StatusCode::METHOD_NOT_ALLOWED => return self.resolve_by_get(selector).await.map(Some),
            _ => return Err(self.refused(answer).await),
        }
        let kind = answer.header("content-type").map(|t| t.split(';').next().unwrap_or(t).trim().to_owned());
        let kind = kind.filter(|k| media::is_index(k) || media::is_manifest(k));
        let digest = answer.header("docker-content-digest").and_then(|d| Digest::parse(d).ok());
        let size = answer.header("content-length").and_then(|l| l.parse().ok());
        match (kind, digest, size) {
            (Some(kind), Some(digest), Some(size)) if size > 0 => {
                Ok(Some(Resolved { target: Descriptor::new(&kind, digest, size), document: None }))
            }
            _ => self.resolve_by_get(selector).await.map(Some),
        }
    }

    async fn resolve_by_get(&self, selector: &str) -> Result<Resolved, RegistryError> {
        let url = self.url(&format!("manifests/{selector}"));
        let answer = self.send(Call::get(&url).header(header::ACCEPT, ACCEPT)?).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer).await);
        }
        let bytes = answer.bytes(DOCUMENT_LIMIT).await?;
        let kind = crate::store::sniff(&bytes);
        if kind.is_empty() {
            return Err(RegistryError::Answer { url, why: "not a manifest that this program knows".into() });
        }
        let target = Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64);
        Ok(Resolved { target, document: Some(bytes.to_vec()) })
    }

    /// Asks for a manifest (by `manifests/`) or a blob, from `offset`. `Ok(None)`: the host does not have it.
    pub(crate) async fn open(&self, of: &Descriptor, offset: u64) -> Result<Option<Answer>, RegistryError> {
        let is_manifest = media::is_index(&of.media_type) || media::is_manifest(&of.media_type);
        let kind = if is_manifest { "manifests" } else { "blobs" };
        let mut call = Call::get(self.url(&format!("{kind}/{}", of.digest)));
        if is_manifest {
            call = call.header(header::ACCEPT, ACCEPT)?;
        }
        if offset > 0 {
            call = call.header(header::RANGE, &format!("bytes={offset}-"))?;
        }
        let answer = self.send(call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            _ => Err(self.refused(answer).await),
        }
    }

    /// An answer that is no success, as an error.
    pub(crate) async fn refused(&self, answer: Answer) -> RegistryError {
        let status = answer.status();
        let error = answer.into_error().await;
        match (&error, &self.credentials) {
            (_, None) if status == StatusCode::UNAUTHORIZED => {
                RegistryError::Denied { why: "authorization failed: no basic auth credentials".into() }
            }
            (RegistryError::Status { message, .. }, _) if status == StatusCode::FORBIDDEN => {
                let words = if message.is_empty() { "403 Forbidden" } else { message };
                RegistryError::Denied { why: format!("server message: {words}") }
            }
            _ => error,
        }
    }

    fn upgrade(&self) -> bool {
        let mut host = self.host.lock();
        let Some(rest) = host.base.strip_prefix("http://").map(str::to_owned) else { return false };
        let may = host.namespace.is_none() && is_loopback(&host.authority);
        if may {
            host.base = format!("https://{rest}");
        }
        may
    }
}
