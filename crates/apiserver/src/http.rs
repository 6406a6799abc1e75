//! HTTP: from a request to an [`Api`] call and back.

mod accept;
mod audited;
mod counted;
mod deadline;
mod debug;
mod documents;
mod node;
mod options;
mod paths;
mod proxy;
mod reads;
mod reply;
mod route;
mod sealed;
mod splice;
mod status;
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::Resource;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::Frame;
use kinds::Kind;
use object::{FieldSelector, Reason, Status};
use rbac::Attributes;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::aggregation::Remote;
use crate::api::{Api, not_allowed};
use crate::inprocess::selective;
use crate::metrics;
use crate::node_proxy::NodeProxy;
use crate::read::Listing;
use crate::subresources::Change;
use crate::table::Shape;
use crate::user::User;
use crate::warned;
use crate::write::Body as WriteBody;

use accept::{Encoding, negotiate};
pub(crate) use audited::Peer;
pub use deadline::parse as go_duration;
pub use debug::{Debug, Verbosity};
use reads::Reads;
pub use reply::Body;
pub(crate) use reply::{Extent, bare, failure, plain};
pub(crate) use route::decode;
use route::{Query, Target};
pub(crate) use status::begin;
pub(crate) use upgrade::{is_upgrade, join};

/// Upstream's limit of a body.
const MOST_BODY_BYTES: usize = 3 * 1024 * 1024;

/// Serves requests of any connection.
pub(crate) struct Service {
    pub(crate) api: Arc<Api>,
    pub(crate) nodes: Option<Arc<dyn NodeProxy>>,
    /// How this server proves to kubelets who it is; whom it meets there is not checked, as upstream does not unless it is told to.
    pub(crate) kubelet_tls: Arc<rustls::ClientConfig>,
    /// Watches and logs over WebSockets.
    pub(crate) sockets: streaming::Streams,
    pub(crate) debug: Debug,
}

/// Ties a reply to the request's line in an audit log.
const AUDIT_ID: &str = "audit-id";
/// Longer ones are replaced.
const MOST_ID_BYTES: usize = 64;

type Handled = Result<Response<Body>, Status>;

/// Whether JSON is indented: when that is asked for, and for programs that show it to people.
fn is_pretty(query: &Query, headers: &http::HeaderMap) -> bool {
    match query.get("pretty").filter(|pretty| !pretty.is_empty()) {
        Some(pretty) => matches!(pretty.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => {
            let program = header_text(headers, header::USER_AGENT);
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|shows| program.starts_with(shows))
        }
    }
}

impl Service {
    /// Answers a request. `identity` is the verified client certificate's.
    pub(crate) async fn handle(&self, identity: Option<pki::Identity>, request: Request<Body>) -> Response<Body> {
        // As upstream, whose HTTP server does not take such a path for one.
        if !route::is_escaped(request.uri().path()) {
            return reply::bytes(StatusCode::BAD_REQUEST, "400 Bad Request".into(), "text/plain; charset=utf-8");
        }
        let pretty = is_pretty(&Query::of(request.uri().query()), request.headers());
        let accept = header_text(request.headers(), header::ACCEPT);
        let given =
            request.headers().get(AUDIT_ID).and_then(|id| id.to_str().ok()).filter(|id| id.len() <= MOST_ID_BYTES);
        let id = given.map_or_else(|| uuid::Uuid::new_v4().to_string(), Into::into);
        let mut response = match self.counted(identity, &id, request).await {
            Ok(response) => response,
            Err(status) => reply::failure_as(&status, pretty, &accept),
        };
        let headers = response.headers_mut();
        headers.entry(header::CACHE_CONTROL).or_insert(header::HeaderValue::from_static("no-cache, private"));
        if let Ok(id) = id.parse() {
            headers.insert(AUDIT_ID, id);
        }
        response
    }

    async fn dispatch(&self, identity: Option<pki::Identity>, id: &str, request: Request<Body>) -> Handled {
        let sender = self.api.authenticate(identity, request.uri().path(), request.headers()).await;
        self.surrounded(sender, id, request).await
    }

    /// Finds out what a request is about.
    async fn route(&self, user: &User, request: Request<Body>) -> Handled {
        let path = request.uri().path().to_owned();
        let query = Query::of(request.uri().query());
        if let Some(remote) = self.api.aggregation.of(&path) {
            return Box::pin(self.elsewhere(user, &remote, &query, request)).await;
        }
        match route::parse(&path) {
            Some(target) => self.resource(user, target, &query, request).await,
            None if debug::is_settable(&path) => {
                let method = request.method().clone();
                let verb = paths::verb(&method);
                self.api.authorize(user, &Attributes { verb, path: &path, ..Attributes::default() }).await?;
                Ok(self.debug.set(&method, &read_body(request).await?))
            }
            None => self.path(user, &path, &query, request.method(), request.headers()).await,
        }
    }

    /// Requests that another server answers.
    async fn elsewhere(&self, user: &User, remote: &Remote, query: &Query, request: Request<Body>) -> Handled {
        let path = request.uri().path();
        match route::parse(path) {
            Some(target) if matches!(target.resource.namespace.as_deref(), Some("." | "..")) => {
                return Ok(reply::page_not_found());
            }
            Some(target) => {
                let at = target.resource;
                let verb = verb(request.method(), &at, query.flag("watch") || target.watch);
                let fields = query.get("fieldSelector").and_then(|s| FieldSelector::parse(&s).ok()).unwrap_or_default();
                self.api.authorize(user, &selective(verb, &at, &fields)).await?;
            }
            // Only whole documents are no resources: what else does not parse could mean something else to the other server.
            None if path.trim_end_matches('/').split('/').count() == if path.starts_with("/apis/") { 4 } else { 6 } => {
                let verb = request.method().as_str().to_ascii_lowercase();
                self.api.authorize(user, &Attributes { verb: &verb, path, ..Attributes::default() }).await?;
            }
            None => return Ok(reply::page_not_found()),
        }
        self.api.forward(remote, user, request).await
    }

    async fn resource(&self, user: &User, target: Target, query: &Query, request: Request<Body>) -> Handled {
        let at = target.resource;
        let method = request.method().clone();
        let watching = query.flag("watch") || target.watch;
        let verb = verb(&method, &at, watching);
        let sub = at.subresource.as_deref().unwrap_or("");
        let fields = query.get("fieldSelector").and_then(|s| FieldSelector::parse(&s).ok()).unwrap_or_default();
        self.api.authorize(user, &selective(verb, &at, &fields)).await?;
        if let Some(namespace @ ("." | "..")) = at.namespace.as_deref() {
            return Err(self.misplaced(&at, namespace, verb));
        }
        if sub == "proxy" && matches!(at.gvr.resource.as_str(), "pods" | "services" | "nodes") {
            let kind = &*self.api.kind_of(&at.gvr)?;
            Box::pin(self.connect(user, kind, &at, query, request.uri().path())).await?;
            return Box::pin(self.proxy(&at, request)).await;
        }
        // As upstream: of resources there is no head alone.
        if method == Method::HEAD {
            return Err(not_allowed());
        }
        let Ok(kind) = &self.api.kind_of(&at.gvr) else {
            let group = at.gvr.group.as_str();
            let built_in = group == "extensions" || kinds::table().kinds().iter().any(|kind| kind.group == group);
            return if built_in { Err(removed(&at.gvr)) } else { Ok(reply::page_not_found()) };
        };
        let Some(words) = deprecation(kind) else { return self.on_kind(user, at, kind, verb, query, request).await };
        // Of a deprecated version clients are told first, whatever becomes of the request.
        metrics::deprecated(kind, sub);
        crate::audit::annotate("k8s.io/deprecated".into(), "true".into());
        let accept = header_text(request.headers(), header::ACCEPT);
        let pretty = is_pretty(query, request.headers());
        let answered = self.on_kind(user, at, kind, verb, query, request).await;
        if let Err(refused) = &answered
            && refused.reason == Some(Reason::MethodNotAllowed)
        {
            return answered;
        }
        let mut response = answered.unwrap_or_else(|status| reply::failure_as(&status, pretty, &accept));
        reply::warn_first(&mut response, words);
        Ok(response)
    }

    /// Nothing is in such a namespace; of lists it is upstream's store that says so.
    fn misplaced(&self, at: &Resource, namespace: &str, verb: &str) -> Status {
        let built_in = self.api.kind_of(&at.gvr).ok().filter(|kind| kind.custom.is_none());
        let stored = built_in.filter(|kind| kind.namespaced()).and_then(|kind| kind.storage_prefix.clone());
        match stored.filter(|_| matches!(verb, "list" | "watch" | "deletecollection")) {
            Some(prefix) => {
                let text = format!("invalid key: \"/{prefix}/{namespace}\"");
                Status { code: 500, reason: None, ..Status::bad_request(text) }
            }
            None => Status::new(Reason::NotFound, "the server could not find the requested resource"),
        }
    }

    async fn on_kind(
        &self,
        user: &User,
        at: Resource,
        kind: &Arc<Kind>,
        verb: &'static str,
        query: &Query,
        mut request: Request<Body>,
    ) -> Handled {
        let (method, sub) = (request.method().clone(), at.subresource.as_deref().unwrap_or(""));
        if kind.custom.is_some()
            && kind.namespaced()
            && at.namespace.is_none()
            && (at.name.is_some() || verb == "create")
        {
            return Ok(reply::page_not_found());
        }
        if kind.custom.is_none() && kind.namespaced() && at.namespace.is_none() {
            if at.name.is_some() {
                return Err(Status::new(Reason::NotFound, "the server could not find the requested resource"));
            }
            if !matches!(verb, "list" | "watch") {
                return Err(not_allowed());
            }
        }
        served_verb(kind, &at, verb, &method)?;
        if kind.storage_prefix.is_some() {
            stored_name(at.name.as_deref())?;
        }
        // Reads say how new an answer they want; writes build on the newest.
        let known = query.get("resourceVersion").filter(|_| verb == "get").and_then(|rv| rv.parse().ok());
        if !matches!(verb, "list" | "watch") {
            self.api.fresh(known).await?;
        }
        if node::is_streamed(&at) {
            if sub == "log" {
                let asked = streaming::take_websocket(&mut request);
                let reply = Box::pin(self.to_node(user, &at, query, request)).await?;
                return Ok(self.over_socket(asked, reply, false));
            }
            Box::pin(self.connect(user, kind, &at, query, "")).await?;
            return Box::pin(self.to_node(user, &at, query, request)).await;
        }
        let accepted = negotiate(&header_text(request.headers(), header::ACCEPT), kind, verb)?;
        if kind.storage_prefix.is_none() && verb == "create" && accepted.shape != Shape::Whole {
            return Err(accept::only(&accept::REPRESENTATIONS));
        }
        let reads = Reads { kind, accepted, include: query.include()?, pretty: is_pretty(query, request.headers()) };
        if at.gvr.resource == "componentstatuses" {
            if verb == "list" {
                options::list(query)?.check_fields(kind)?;
            }
            return reads::component_statuses(reads, &at, request.headers()).await;
        }
        match verb {
            "get" => {
                // As of watches: without a code of its own.
                let unread = |status| Status { code: 500, reason: None, ..status };
                let wanted = options::revision(query, "").map_err(unread)?;
                if let Some(wanted) = wanted.filter(|wanted| *wanted > self.api.store.revision()) {
                    return Err(too_new(wanted, self.api.store.revision()));
                }
                if sub == "scale" {
                    let scale = self.api.get_scale(&at)?;
                    return reads.scale(&scale, StatusCode::OK, &[]);
                }
                let object = self.api.get_as(kind, &at, wanted).await?;
                reads.object(&object, StatusCode::OK, &[])
            }
            "list" => {
                let selection = options::list(query)?;
                self.api.fresh_for(kind, selection.needs()).await?;
                let listing = self.api.list_as(&at, &selection).await?;
                reads.list(listing, request.headers()).await
            }
            "watch" => {
                let asked = streaming::take_websocket(&mut request);
                let reply = self.watch(&at, query, reads).await?;
                Ok(self.over_socket(asked, reply, accepted.encoding != Encoding::Protobuf))
            }
            _ => {
                let headers = request.headers().clone();
                let body = read_body(request).await?;
                metrics::body(kind, verb, body.len());
                // The steps of a write take more room than all else: reads go without it.
                Box::pin(warned::heard(self.write(user, verb, &at, query, &headers, body, reads))).await
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one request")]
    async fn write(
        &self,
        user: &User,
        verb: &str,
        at: &Resource,
        query: &Query,
        headers: &HeaderMap,
        body: Bytes,
        reads: Reads<'_>,
    ) -> Handled {
        let content_type = &header_text(headers, header::CONTENT_TYPE);
        let of = match verb {
            "patch" => "PatchOptions",
            "update" => "UpdateOptions",
            _ => "CreateOptions",
        };
        let content = WriteBody { bytes: &body, content_type };
        if matches!(verb, "delete" | "deletecollection") {
            return self.delete(user, at, query, headers, content, reads).await;
        }
        let mut write = options::write(query, of, content_type.starts_with("application/apply-patch"))?;
        write.agent = header_text(headers, header::USER_AGENT);
        match verb {
            "create" if reads.kind.storage_prefix.is_none() && reads.kind.kind != "Binding" => {
                let (review, warnings) = self.api.review(user, reads.kind, at, &content, &write).await?;
                reads.reply_warned(&review, 201, &warnings)
            }
            "create" if reads.kind.kind == "Binding" => {
                let (reply, code, warnings) = self.api.bind(user, at, content, &write).await?;
                reads.reply_warned(&reply, code, &warnings)
            }
            "create" if at.subresource.is_some() => {
                let (reply, code, warnings) = self.api.create_sub(user, at, content, &write).await?;
                reads.reply_warned(&reply, code, &warnings)
            }
            "create" => reads.written(self.api.create(user, at, content, &write).await?),
            "update" if at.subresource.as_deref() == Some("scale") => {
                let written = self.api.replace_scale(user, at, content, &write).await?;
                reads.scale(&written.object, StatusCode::OK, &written.warnings)
            }
            "update" => reads.written(self.api.update(user, at, content, &write).await?),
            "patch" => {
                let change = Change::parse(&body, content_type)?;
                let written = self.api.patch(user, at, &change, &write).await?;
                match at.subresource.as_deref() {
                    Some("scale") => reads.scale(&written.object, StatusCode::OK, &written.warnings),
                    _ => reads.written(written),
                }
            }
            _ => Err(not_allowed()),
        }
    }

    async fn delete(
        &self,
        user: &User,
        at: &Resource,
        query: &Query,
        headers: &HeaderMap,
        content: WriteBody<'_>,
        reads: Reads<'_>,
    ) -> Handled {
        let request = options::delete(query, content.bytes, content.content_type)?;
        if at.name.is_some() {
            let mut warnings = Vec::new();
            let deleted = self.api.delete(user, at, &request, &mut warnings).await?;
            return reads.reply_warned(&deleted.body(reads.kind)?, 200, &warnings);
        }
        let mut warnings = Vec::new();
        let items = self.api.delete_collection(user, at, &options::list(query)?, &request, &mut warnings).await?;
        let revision = self.api.store.revision();
        let listing = Listing { revision, items, continue_token: None, remaining: None };
        let mut response = reads.list(listing, headers).await?;
        reply::warn(&mut response, warnings.iter().map(String::as_str));
        Ok(response)
    }

    async fn watch(&self, at: &Resource, query: &Query, reads: Reads<'_>) -> Handled {
        let (mut watch, seconds) = options::watch(query)?;
        if let Some(name) = &at.name {
            watch.list.fields.terms.push(("metadata.name".into(), true, name.clone()));
        }
        self.api.fresh(watch.needs()).await?;
        let events = self.api.watch(at, &watch).await?;
        // Upstream ends watches after 30 to 60 minutes, so that they spread.
        let least = self.api.limits.watch;
        let time = seconds.map_or_else(|| rand::random_range(least..=2 * least), Duration::from_secs);
        Ok(reads.stream(events, time))
    }

    /// A reply, over the WebSocket that was asked for.
    fn over_socket(&self, asked: Option<streaming::Asked>, reply: Response<Body>, is_text: bool) -> Response<Body> {
        match asked {
            Some(asked) => self.sockets.messages(asked, reply, is_text),
            None => reply,
        }
    }

    /// Asks admission whether a stream may be opened.
    async fn connect(&self, user: &User, kind: &Kind, at: &Resource, query: &Query, path: &str) -> Result<(), Status> {
        let sub = at.subresource.as_deref().unwrap_or("");
        let admitted = admission::Attributes {
            user,
            kind,
            operation: Operation::Connect,
            subresource: sub,
            namespace: at.namespace.as_deref().unwrap_or(""),
            name: at.name.as_deref().unwrap_or(""),
            title: at.name.as_deref().unwrap_or(""),
            dry_run: false,
            sent: admission::Sent::Nothing,
        };
        let mut options = json!({"kind": admitted.gvk().kind, "apiVersion": "v1"});
        if sub == "proxy" {
            options["path"] = path.split_once("/proxy").map_or("", |(_, rest)| rest).into();
        } else {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(flag) {
                    options[flag] = true.into();
                }
            }
            if let Some(container) = query.get("container").filter(|c| !c.is_empty()) {
                options["container"] = container.into();
            }
            let command = query.all("command");
            if !command.is_empty() {
                options["command"] = command.into();
            }
        }
        let mut warnings = Vec::new();
        admission::mutate(&self.api, &admitted, &mut options, &Value::Null, &mut warnings).await?;
        admission::validate(&self.api, &admitted, &options, &Value::Null, &mut warnings).await
    }
}

/// RBAC's verb of a request, whether there is such a thing or not.
fn verb(method: &Method, at: &Resource, watching: bool) -> &'static str {
    let named = at.name.is_some();
    match *method {
        Method::GET | Method::HEAD if watching && at.subresource.is_none() => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

/// 404 for a subresource that the kind does not have, 405 for what cannot be done to it.
fn served_verb(kind: &Kind, at: &Resource, verb: &str, method: &Method) -> Result<(), Status> {
    let not_found = || Status::new(Reason::NotFound, "the server could not find the requested resource");
    if at.namespace.is_some() && !kind.namespaced() {
        return Err(not_found());
    }
    // What is made and answered at once is nowhere afterwards.
    if at.name.is_some() && kind.verbs == ["create"] {
        return Err(not_found());
    }
    let verbs = match at.subresource.as_deref() {
        None => &kind.verbs,
        Some(name) => &kind.subresource(name).ok_or_else(not_found)?.verbs,
    };
    let misplaced = match verb {
        "create" => at.subresource.is_none() && at.name.is_some(),
        "update" | "patch" => at.name.is_none(),
        _ => false,
    };
    if misplaced || *method == Method::HEAD || !verbs.iter().any(|v| v == verb) {
        return Err(not_allowed());
    }
    Ok(())
}

/// 404 for a version or resource that is not served; of versions that were once, what took their place.
fn removed(gvr: &object::Gvr) -> Status {
    // What was in `extensions` once went to several groups.
    let groups = match gvr.group.as_str() {
        "extensions" => &["apps", "networking.k8s.io"][..],
        group => &[group],
    };
    let here = |kind: &&std::sync::Arc<Kind>| kind.plural == gvr.resource && groups.contains(&kind.group.as_str());
    let current = kinds::table().kinds().iter().find(here);
    let was = gvr.version.contains("alpha") || gvr.version.contains("beta");
    let text = "the server could not find the requested resource";
    match current.filter(|k| was && (&k.version, &k.group) != (&gvr.version, &gvr.group)) {
        Some(kind) => {
            let old = object::names::api_version(&gvr.group, &gvr.version);
            let text = format!("{text}: {old} {} is no longer served, use {}", kind.kind, kind.api_version());
            Status::new(Reason::NotFound, text)
        }
        None => Status::new(Reason::NotFound, text),
    }
}

/// Names that could be no part of a key.
fn stored_name(name: Option<&str>) -> Result<(), Status> {
    let why = match name.unwrap_or("") {
        name @ ("." | "..") => format!("may not be '{name}'"),
        name if name.contains('%') => "may not contain '%'".into(),
        _ => return Ok(()),
    };
    Err(Status::bad_request(format!("Name parameter invalid: {}: {why}", object::quoted(name.unwrap_or("")))))
}

/// What clients are told about kinds on their way out.
fn deprecation(kind: &Kind) -> Option<&str> {
    if let Some(custom) = &kind.custom {
        return custom.deprecation.as_deref();
    }
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "Endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        _ => None,
    }
}

fn too_new(wanted: u64, newest: u64) -> Status {
    crate::api::store_status(&store::StoreError::Future { wanted, newest })
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned()
}

/// A percent-encoded text, or itself when it is none.
pub(crate) fn percent_decoded(text: &str) -> String {
    route::decode(text).unwrap_or_else(|| text.to_owned())
}

async fn read_body(request: Request<Body>) -> Result<Bytes, Status> {
    let body = Limited::new(request.into_body(), MOST_BODY_BYTES);
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<http_body_util::LengthLimitError>().is_some() => Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {MOST_BODY_BYTES}"),
        )),
        Err(error) => Err(Status::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// No body.
pub(crate) fn empty() -> Body {
    reply::full(Bytes::new())
}

/// The body of a request as it came from a connection, in our type.
pub(crate) fn incoming(body: hyper::body::Incoming) -> Body {
    // A broken connection ends the body early; the length is checked where it matters, by what is parsed out of it.
    Body::new(StreamBody::new(body.into_data_stream().map(|chunk| Ok(Frame::data(chunk.unwrap_or_default())))))
}
