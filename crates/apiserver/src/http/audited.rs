//! What surrounds the handling of a request once its user is known: a seat of its priority level, and its audit events.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use serde_json::Value;

use super::reply::{self, Body};
use super::route::{self, Query};
use super::{Handled, Service, header_text, read_body, verb};
use crate::audit::{self, Asked, Recording, Stage};
use crate::flow;
use crate::user::User;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

static SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
static LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

impl Service {
    /// Handles a request of `user`, whom `sender` acts as.
    pub(super) async fn surrounded(&self, sender: &User, user: &User, id: &str, request: Request<Body>) -> Handled {
        let path = request.uri().path().to_owned();
        let target = route::parse(&path);
        let query = Query::of(request.uri().query());
        let verb = match &target {
            Some(target) => verb(request.method(), &target.resource, query.flag("watch") || target.watch).to_owned(),
            None => request.method().as_str().to_ascii_lowercase(),
        };
        let at = target.as_ref().map(|target| &target.resource);
        let wanted = flow::Request { verb: &verb, at, path: &path };
        let admitted = self.api.flow.admit(user, wanted).await?;
        let recording = self.api.audit.as_ref().and_then(|audit| {
            let uri = request.uri().path_and_query().map_or("", |p| p.as_str());
            let agent = header_text(request.headers(), header::USER_AGENT);
            let acts = (sender != user).then_some(sender);
            let addresses = addresses(&request);
            audit.begin(&Asked { sender: acts, verb: &verb, at, path: &path, uri, id, agent: &agent, addresses, user })
        });
        let mut outcome = match recording {
            None => self.route(user, request).await,
            Some(recording) => self.recorded(recording, user, &verb, request).await,
        };
        if let (Ok(response), Some((schema, level))) = (&mut outcome, &admitted.uids) {
            for (name, uid) in [(&SCHEMA_UID, schema), (&LEVEL_UID, level)] {
                if let Ok(value) = HeaderValue::try_from(uid) {
                    response.headers_mut().insert(name.clone(), value);
                }
            }
        }
        // The reply has begun: a watch holds no seat.
        drop((admitted.seat, admitted.executing));
        outcome
    }

    async fn recorded(&self, mut recording: Recording, user: &User, verb: &str, request: Request<Body>) -> Handled {
        recording.tell(Stage::RequestReceived).await;
        let writes = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
        let request = if recording.wants_request() && writes {
            let (parts, body) = request.into_parts();
            let bytes = read_body(Request::from_parts(parts.clone(), body)).await?;
            if let Some(object) = tree(&bytes, &header_text(&parts.headers, header::CONTENT_TYPE)) {
                recording.request(object);
            }
            Request::from_parts(parts, reply::full(bytes))
        } else {
            request
        };
        let (outcome, notes) = audit::noting(self.route(user, request)).await;
        recording.note(notes);
        match outcome {
            Err(status) => {
                recording.decided(status.code != 403);
                recording.outcome(status.code, Some(&status));
                if recording.wants_response() {
                    recording.response(status.to_value());
                }
                recording.tell(Stage::ResponseComplete).await;
                Err(status)
            }
            Ok(response) => {
                recording.decided(true);
                recording.outcome(response.status().as_u16(), None);
                let streams = verb == "watch" || response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if streams || response.body().size_hint().exact().is_none() {
                    recording.tell(Stage::ResponseStarted).await;
                    let (parts, body) = response.into_parts();
                    return Ok(Response::from_parts(parts, Body::new(Told { body, recording })));
                }
                let response = if recording.wants_response() {
                    let (parts, body) = response.into_parts();
                    let bytes = body.collect().await.unwrap_or_default().to_bytes();
                    let plain = !parts.headers.contains_key(header::CONTENT_ENCODING);
                    let object = tree(&bytes, &header_text(&parts.headers, header::CONTENT_TYPE));
                    if let Some(object) = object.filter(|_| plain) {
                        recording.response(object);
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

/// A stream whose end is told.
struct Told {
    body: Body,
    recording: Recording,
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

impl Drop for Told {
    fn drop(&mut self) {
        self.recording.tell_now(Stage::ResponseComplete);
    }
}
