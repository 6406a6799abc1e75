//! What surrounds the handling of a request once its user is known: a seat of its priority level, and its audit events.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use object::{FieldSelector, Reason, Status};
use rbac::Attributes;
use serde_json::Value;

use super::reply::{self, Body};
use super::route::{self, Query};
use super::{AUDIT_ID, Handled, Service, deadline, header_text, read_body, verb};
use crate::api::prefix;
use crate::audit::{self, Asked, Recording, Stage};
use crate::flow;
use crate::impersonate::Acting;
use crate::inprocess::selective;
use crate::user::User;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

static SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
static LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// A request as it is looked at before it is handled.
struct About<'a> {
    wanted: flow::Request<'a>,
    query: &'a Query,
    /// What must be allowed.
    attributes: Attributes<'a>,
}

impl Service {
    /// Handles a request of `sender`, and writes down what the audit policy wants to know of it.
    pub(super) async fn surrounded(
        &self,
        sender: Result<User, Status>,
        id: &str,
        mut request: Request<Body>,
    ) -> Handled {
        let path = request.uri().path().to_owned();
        let target = route::parse(&path);
        let query = Query::of(request.uri().query());
        let verb = match &target {
            Some(target) => verb(request.method(), &target.resource, query.flag("watch") || target.watch).to_owned(),
            None => request.method().as_str().to_ascii_lowercase(),
        };
        let at = target.as_ref().map(|target| &target.resource);
        let fields = query.get("fieldSelector").and_then(|s| FieldSelector::parse(&s).ok()).unwrap_or_default();
        let attributes = match at {
            Some(at) => selective(&verb, at, &fields),
            None => Attributes { verb: &verb, path: &path, ..Attributes::default() },
        };
        let recording = self.api.audit.as_ref().and_then(|audit| {
            let uri = request.uri().path_and_query().map_or("", |p| p.as_str());
            let agent = header_text(request.headers(), header::USER_AGENT);
            let (nobody, addresses) = (User::default(), addresses(&request));
            let user = sender.as_ref().unwrap_or(&nobody);
            audit.begin(&Asked { verb: &verb, at, path: &path, uri, id, agent: &agent, addresses, user })
        });
        let (sender, recording) = match (sender, recording) {
            (Ok(sender), recording) => (sender, recording),
            (Err(status), recording) => {
                if let Some(mut recording) = recording {
                    failed(&mut recording, &status);
                    recording.tell(Stage::ResponseStarted).await;
                    recording.end();
                }
                return Err(status);
            }
        };
        let about = About { wanted: flow::Request::new(&verb, at, &path), query: &query, attributes };
        let acting = self.api.impersonated(&sender, request.headers(), &about.attributes).await;
        forget_identity(request.headers_mut());
        if self.api.aggregation.of(&path).is_some()
            && let Ok(id) = HeaderValue::from_str(id)
        {
            request.headers_mut().insert(HeaderName::from_static(AUDIT_ID), id);
        }
        match (recording, acting) {
            (None, Err(status)) => Err(status),
            (None, Ok(acting)) => self.limited(&acting.map_or(sender, |a| a.user), &about, request).await,
            (Some(mut recording), acting) => {
                recording.tell(Stage::RequestReceived).await;
                match acting {
                    Ok(acting) => {
                        if let Some(Acting { user, constraint }) = &acting {
                            recording.impersonates(user, constraint);
                        }
                        let user = acting.map_or(sender, |a| a.user);
                        self.recorded(recording, &user, &about, request).await
                    }
                    Err(status) => {
                        failed(&mut recording, &status);
                        recording.tell(Stage::ResponseComplete).await;
                        Err(status)
                    }
                }
            }
        }
    }

    /// Handles a request once it has a seat, and within its time.
    async fn limited(&self, user: &User, about: &About<'_>, request: Request<Body>) -> Handled {
        let About { wanted, query, .. } = about;
        // What lasts has neither.
        if wanted.is_lasting() {
            return self.route(user, request).await;
        }
        let time = if wanted.verb == "watch" { None } else { Some(deadline::of(query, self.api.limits.request)?) };
        let admitted = match self.api.flow.admit(user, wanted, || self.seats(wanted, query)).await {
            Ok(admitted) => admitted,
            Err(uids) => return Ok(refused(&uids)),
        };
        let mut outcome = match time {
            None => self.route(user, request).await,
            Some(time) if time < Duration::from_millis(1) => Err(timed_out()),
            Some(time) => {
                tokio::time::timeout(time, self.route(user, request)).await.unwrap_or_else(|_| Err(timed_out()))
            }
        };
        if let (Ok(response), Some(uids)) = (&mut outcome, &admitted.uids) {
            tell_uids(response, uids);
        }
        // The reply has begun: a watch holds no seat.
        drop((admitted.seat, admitted.executing));
        outcome
    }

    /// How many seats a request needs.
    fn seats(&self, wanted: &flow::Request<'_>, query: &Query) -> usize {
        let Some(at) = wanted.at.filter(|_| wanted.verb == "list") else { return 1 };
        let Some(kind) = self.api.stored_kind_of(&at.gvr).ok() else { return 1 };
        let work = flow::Work {
            prefix: &prefix(&kind, None),
            limit: query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(0),
            selective: query.get("labelSelector").is_some() || query.get("fieldSelector").is_some(),
        };
        self.api.flow.seats_of(&work, |prefix| self.api.store.count(prefix))
    }

    async fn recorded(
        &self,
        mut recording: Recording,
        user: &User,
        about: &About<'_>,
        request: Request<Body>,
    ) -> Handled {
        let writes = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
        let lasts = about.wanted.is_lasting();
        let request = if writes && !lasts {
            let (parts, body) = request.into_parts();
            let most = self.api.limits.request;
            let time = deadline::of(about.query, most).unwrap_or(most);
            let read = tokio::time::timeout(time, read_body(Request::from_parts(parts.clone(), body))).await;
            let bytes = match read.unwrap_or_else(|_| Err(timed_out())) {
                Ok(bytes) => bytes,
                Err(status) => {
                    failed(&mut recording, &status);
                    recording.tell(Stage::ResponseComplete).await;
                    return Err(status);
                }
            };
            if let Some(object) = tree(&bytes, &header_text(&parts.headers, header::CONTENT_TYPE)) {
                recording.request(object, parts.method == Method::PATCH);
            }
            Request::from_parts(parts, reply::full(bytes))
        } else {
            request
        };
        recording.decided(&self.api.explain(user, &about.attributes).await);
        let (outcome, notes) = audit::noting(Box::pin(self.limited(user, about, request))).await;
        recording.note(notes);
        match outcome {
            Err(status) => {
                failed(&mut recording, &status);
                if lasts {
                    recording.tell(Stage::ResponseStarted).await;
                }
                recording.tell(Stage::ResponseComplete).await;
                Err(status)
            }
            Ok(response) => {
                recording.outcome(response.status().as_u16(), None);
                let streams = about.wanted.verb == "watch" || lasts;
                if streams || response.body().size_hint().exact().is_none() {
                    if streams {
                        recording.tell(Stage::ResponseStarted).await;
                    }
                    let (parts, body) = response.into_parts();
                    return Ok(Response::from_parts(parts, Body::new(Told { body, _recording: recording })));
                }
                let issues = about.wanted.verb == "create"
                    && about.wanted.at.is_some_and(|at| at.subresource.as_deref() == Some("token"));
                let response = if recording.wants_response() || issues {
                    let (parts, body) = response.into_parts();
                    let bytes = body.collect().await.unwrap_or_default().to_bytes();
                    let plain = !parts.headers.contains_key(header::CONTENT_ENCODING);
                    let object = tree(&bytes, &header_text(&parts.headers, header::CONTENT_TYPE));
                    if let Some(object) = object.filter(|_| plain) {
                        if let Some(id) = object["status"]["token"].as_str().filter(|_| issues).and_then(token_id) {
                            recording.annotate("authentication.kubernetes.io/issued-credential-id", &id);
                        }
                        if recording.wants_response() {
                            recording.response(object);
                        }
                    }
                    Response::from_parts(parts, reply::full(bytes))
                } else {
                    response
                };
                recording.tell(Stage::ResponseComplete).await;
                Ok(response)
            }
        }
    }
}

/// What a token that was issued is known by.
fn token_id(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(format!("JTI={}", claims["jti"].as_str()?))
}

/// Notes a failure.
fn failed(recording: &mut Recording, status: &Status) {
    recording.outcome(status.code, Some(status));
    if recording.wants_response() {
        recording.response(status.to_value());
    }
}

/// Whom a request is from is known now: nobody behind this server hears of headers that say something else.
fn forget_identity(headers: &mut HeaderMap) {
    let says = |name: &str| {
        name.starts_with("impersonate-")
            || matches!(name, "x-remote-user" | "x-remote-uid" | "x-remote-group")
            || name.starts_with("x-remote-extra-")
    };
    let names: Vec<HeaderName> = headers.keys().filter(|name| says(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn tell_uids(response: &mut Response<Body>, (schema, level): &flow::Uids) {
    response.headers_mut().insert(SCHEMA_UID.clone(), schema.clone());
    response.headers_mut().insert(LEVEL_UID.clone(), level.clone());
}

/// 429, in upstream's plain words.
fn refused(uids: &flow::Uids) -> Response<Body> {
    let mut response = reply::text(429, "Too many requests, please try again later.\n".into());
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    tell_uids(&mut response, uids);
    response
}

fn timed_out() -> Status {
    Status::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout")
}

fn tree(bytes: &Bytes, content_type: &str) -> Option<Value> {
    let patch = content_type.contains("patch+json");
    let media = if patch { "application/json" } else { content_type };
    crate::decode::parse(bytes, media).ok().map(|parsed| parsed.value).filter(|value| !value.is_null())
}

/// Addresses of the sender and of the proxies on the way, as far as they say.
fn addresses(request: &Request<Body>) -> Vec<String> {
    let text =
        |headers: &HeaderMap, name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let headers = request.headers();
    let forwarded = text(headers, "x-forwarded-for");
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_string());
    let said = forwarded.split(',').map(|a| a.trim().to_owned()).chain([text(headers, "x-real-ip")]).chain(peer);
    let mut all: Vec<String> = Vec::new();
    for address in said.filter(|a: &String| a.parse::<std::net::IpAddr>().is_ok()) {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// A stream whose end is told, when this is dropped.
struct Told {
    body: Body,
    _recording: Recording,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
