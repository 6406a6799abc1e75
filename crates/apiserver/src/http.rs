//! HTTP: from a request to an [`Api`] call and back.

mod reply;
mod route;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Resource, WatchEvent};
use futures::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::Frame;
use kinds::Kind;
use object::{FieldSelector, LabelSelector, Reason, Status};
use rbac::Attributes;
use serde_json::{Value, json};

use crate::api::{Api, kind_of, not_allowed};
use crate::decode::FieldValidation;
use crate::delete::DeleteRequest;
use crate::inprocess::attributes;
use crate::node_proxy::NodeProxy;
use crate::read::{ListQuery, Match, list_body};
use crate::subresources::Change;
use crate::table::{self, Include, Shape};
use crate::user::User;
use crate::watch::{Events, WatchQuery};
use crate::write::{Body as WriteBody, WriteQuery, Written};
use crate::{discovery, health};

pub use reply::Body;
pub(crate) use reply::failure;
use reply::ok_json;
use route::{Query, Target};

/// Upstream's limit of a body.
const MOST_BODY_BYTES: usize = 3 * 1024 * 1024;

/// Serves requests of any connection.
pub(crate) struct Service {
    pub(crate) api: Arc<Api>,
    pub(crate) nodes: Option<Arc<dyn NodeProxy>>,
}

type Handled = Result<Response<Body>, Status>;

impl Service {
    /// Answers a request. `identity` is the verified client certificate's.
    pub(crate) async fn handle(&self, identity: Option<pki::Identity>, request: Request<Body>) -> Response<Body> {
        let pretty = Query::of(request.uri().query()).get("pretty").is_some_and(|p| p == "true" || p == "1");
        match self.dispatch(identity, request).await {
            Ok(response) => response,
            Err(status) => failure(&status, pretty),
        }
    }

    fn user(&self, identity: Option<pki::Identity>, headers: &HeaderMap) -> Result<User, Status> {
        if let Some(identity) = identity {
            return Ok(Api::certificate_user(identity));
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Ok(User::anonymous()) };
        let text = given.to_str().unwrap_or("");
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.api.token_user(token.trim(), &self.api.audiences())
            }
            _ => Err(crate::authn::unauthorized()),
        }
    }

    async fn dispatch(&self, identity: Option<pki::Identity>, request: Request<Body>) -> Handled {
        let user = self.user(identity, request.headers())?;
        let path = request.uri().path().to_owned();
        let query = Query::of(request.uri().query());
        match route::parse(&path) {
            Some(target) => self.resource(&user, target, &query, request).await,
            None => self.path(&user, &path, &query, request.method(), request.headers()),
        }
    }

    /// Requests that are not about a resource.
    fn path(&self, user: &User, path: &str, query: &Query, method: &Method, headers: &HeaderMap) -> Handled {
        let verb = match *method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::DELETE => "delete",
            _ => "options",
        };
        self.api.authorize(user, &Attributes { verb, path, ..Attributes::default() })?;
        let not_found = || Status::new(Reason::NotFound, "the server could not find the requested resource");
        if verb != "get" && verb != "head" {
            return Err(not_allowed());
        }
        if let Some((code, text)) = health::probe(&self.api, path, query.get("verbose").is_some()) {
            return Ok(reply::text(code, text));
        }
        match path {
            "/openid/v1/jwks" => return Ok(reply::typed(&self.api.pki.tokens.jwks(), "application/jwk-set+json")),
            "/.well-known/openid-configuration" => {
                return Ok(ok_json(&json!({
                    "issuer": self.api.issuer, "jwks_uri": format!("https://{}:{}/openid/v1/jwks", self.api.advertise, self.api.port),
                    "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                })));
            }
            _ => {}
        }
        let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or("");
        let document = discovery::document(path, accept).ok_or_else(not_found)?;
        Ok(reply::document(document, headers))
    }

    async fn resource(&self, user: &User, target: Target, query: &Query, request: Request<Body>) -> Handled {
        let at = target.resource;
        let method = request.method().clone();
        let watching = query.flag("watch") || target.watch;
        let verb = verb(&method, &at, watching)?;
        // Streams and proxies of a pod or node are done by its kubelet.
        let sub = at.subresource.as_deref().unwrap_or("");
        let streams = matches!((at.gvr.resource.as_str(), sub), ("pods", "exec" | "attach" | "portforward" | "log"));
        // Reading from a container's terminal is doing: a GET of exec needs what a POST needs.
        let verb = if streams && sub != "log" { "create" } else { verb };
        let by_field = query.get("fieldSelector").and_then(|s| route::name_selected(&s));
        let mut wanted = attributes(verb, &at);
        if let Some(name) = by_field.as_deref().filter(|_| at.name.is_none()) {
            wanted.name = name;
        }
        self.api.authorize(user, &wanted)?;
        let kind = kind_of(&at.gvr)?;
        if streams {
            return self.to_node(&at, query, request).await;
        }
        if at.gvr.resource == "componentstatuses" {
            return component_statuses(kind, &at, request.headers());
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or("").to_owned();
        let shape = table::negotiate(&accept)?;
        let reads = Reads { kind, shape, include: query.include()?, pretty: query.flag("pretty") };
        match verb {
            "get" => {
                let object = if sub == "scale" { self.api.get_scale(&at)? } else { self.api.get(&at)? };
                reads.object(&object, StatusCode::OK, &[])
            }
            "list" => {
                let listing = self.api.list(&at, &list_query(query)?)?;
                let body = match shape {
                    Shape::Whole => list_body(kind, &listing),
                    shape => Bytes::from(table::many(kind, &listing, shape, reads.include)?.to_string()),
                };
                Ok(reply::compressed(body, request.headers()))
            }
            "watch" => self.watch(&at, query, reads),
            _ => {
                let headers = request.headers().clone();
                let body = read_body(request).await?;
                self.write(user, verb, &at, query, &headers, body, reads).await
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
        reads: Reads,
    ) -> Handled {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or("");
        let mut write = write_query(query)?;
        write.agent = headers.get(header::USER_AGENT).and_then(|a| a.to_str().ok()).unwrap_or("").to_owned();
        let content = WriteBody { bytes: &body, content_type };
        match verb {
            "create" if reads.kind.storage_prefix.is_none() && reads.kind.kind != "Binding" => {
                let review = self.api.review(user, reads.kind, at.namespace.as_deref(), &content)?;
                Ok(reply::json(StatusCode::CREATED, &review))
            }
            "create" if reads.kind.kind == "Binding" => {
                let binding = crate::decode::parse(&body, content_type)?.value;
                let pod = binding["metadata"]["name"].as_str().unwrap_or("").to_owned();
                let (reply, code) = self.api.bind(user, at, &pod, &binding, &write).await?;
                Ok(reply::json(StatusCode::from_u16(code).unwrap_or(StatusCode::CREATED), &reply))
            }
            "create" if at.subresource.is_some() => {
                let (reply, code) = self.api.create_sub(user, at, content, &write).await?;
                Ok(reply::json(StatusCode::from_u16(code).unwrap_or(StatusCode::CREATED), &reply))
            }
            "create" => reads.written(self.api.create(user, at, content, &write).await?),
            "update" if at.subresource.as_deref() == Some("scale") => {
                let scale = crate::decode::parse(&body, content_type)?.value;
                reads.written(self.api.scale(user, at, |_| Ok(scale.clone()), &write).await?)
            }
            "update" => reads.written(self.api.update(user, at, content, &write).await?),
            "patch" => {
                let change = Change::parse(&body, content_type)?;
                reads.written(self.api.patch(user, at, &change, &write).await?)
            }
            "delete" => {
                let deleted = self.api.delete(user, at, &delete_request(query, &body, content_type)?).await?;
                Ok(ok_json(&deleted.body(reads.kind)?))
            }
            "deletecollection" => {
                let request = delete_request(query, &body, content_type)?;
                let items = self.api.delete_collection(user, at, &list_query(query)?, &request).await?;
                let listing = crate::read::Listing {
                    revision: self.api.store.revision(),
                    items,
                    continue_token: None,
                    remaining: None,
                };
                Ok(reply::compressed(list_body(reads.kind, &listing), headers))
            }
            _ => Err(not_allowed()),
        }
    }

    fn watch(&self, at: &Resource, query: &Query, reads: Reads) -> Handled {
        let initial = query.get("sendInitialEvents").as_deref().map(|text| matches!(text, "true" | "1"));
        let watch = WatchQuery { list: list_query(query)?, bookmarks: query.flag("allowWatchBookmarks"), initial };
        let events = self.api.watch(at, &watch)?;
        // Upstream ends watches after 30 to 60 minutes, so that they spread.
        let seconds = query.get("timeoutSeconds").and_then(|t| t.parse().ok()).filter(|s| *s > 0);
        let seconds = seconds.unwrap_or_else(|| rand::random_range(1800..3600));
        Ok(reads.stream(events, Duration::from_secs(seconds)))
    }

    /// Hands a request on to the kubelet of the pod's node.
    async fn to_node(&self, at: &Resource, query: &Query, request: Request<Body>) -> Handled {
        let pod = self.api.get(&Resource { subresource: None, ..at.clone() })?;
        let value = pod.value().map_err(Status::internal)?;
        let node = value["spec"]["nodeName"].as_str().unwrap_or("").to_owned();
        let (namespace, name) = (&pod.head.namespace, &pod.head.name);
        let container = choose_container(&value, query.get("container"), at.subresource.as_deref().unwrap_or(""))?;
        let path = match at.subresource.as_deref().unwrap_or("") {
            "log" => format!("/containerLogs/{namespace}/{name}/{container}"),
            "portforward" => format!("/portForward/{namespace}/{name}"),
            sub => format!("/{sub}/{namespace}/{name}/{container}"),
        };
        if node.is_empty() {
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
        let Some(nodes) = &self.nodes else {
            return Err(Status::new(Reason::ServiceUnavailable, "no way to the nodes is configured"));
        };
        let query = request.uri().query().map(|q| format!("?{}", route::kubelet_query(q))).unwrap_or_default();
        let (mut parts, body) = request.into_parts();
        parts.uri = format!("{path}{query}").parse().map_err(|e| Status::bad_request(format!("{e}")))?;
        Ok(nodes.send(&node, Request::from_parts(parts, body)).await)
    }
}

/// The container that a request means: the one it names, or the only one, or the annotated default.
fn choose_container(pod: &Value, given: Option<String>, sub: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        pod["spec"][list].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).map(Into::into).collect()
    };
    let name = pod["metadata"]["name"].as_str().unwrap_or("");
    let (containers, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    match given.filter(|g| !g.is_empty()) {
        Some(given) if containers.iter().chain(&init).chain(&ephemeral).any(|c| *c == given) => Ok(given),
        Some(given) => Err(Status::bad_request(format!("container {given} is not valid for pod {name}"))),
        None if containers.len() == 1 || sub == "portforward" => Ok(containers.into_iter().next().unwrap_or_default()),
        None => {
            let default = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
            if let Some(default) = default.filter(|d| containers.iter().any(|c| c == d)) {
                return Ok(default.into());
            }
            let mut text =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", containers.join(" "));
            if !init.is_empty() {
                text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(text))
        }
    }
}

/// How reads are shown.
#[derive(Clone, Copy)]
struct Reads {
    kind: &'static Kind,
    shape: Shape,
    include: Include,
    pretty: bool,
}

impl Reads {
    fn object(self, object: &object::Object, code: StatusCode, warnings: &[String]) -> Handled {
        let body = match self.shape {
            Shape::Whole if !self.pretty => object.body.clone(),
            shape => {
                let value = table::one(self.kind, object, shape, self.include, true)?;
                let text = if self.pretty {
                    serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
                } else {
                    value.to_string()
                };
                text.into()
            }
        };
        let mut response = reply::bytes(code, body, "application/json");
        for warning in warnings {
            let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
            if let Ok(value) = text.parse() {
                response.headers_mut().append(header::WARNING, value);
            }
        }
        Ok(response)
    }

    fn written(self, written: Written) -> Handled {
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        self.object(&written.object, code, &written.warnings)
    }

    /// A line per event, until the time is over.
    fn stream(self, events: Events, time: Duration) -> Response<Body> {
        let mut first = true;
        let lines = events.map(move |delivered| {
            let line = match delivered {
                Ok(delivered) => self.line(&delivered, std::mem::take(&mut first)),
                Err(status) => Err(status),
            };
            let line =
                line.unwrap_or_else(|status| json!({"type": "ERROR", "object": status.to_value()}).to_string().into());
            Ok::<_, std::convert::Infallible>(Frame::data([line, Bytes::from_static(b"\n")].concat().into()))
        });
        let deadline = tokio::time::sleep(time);
        let body = StreamBody::new(lines.take_until(deadline));
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }

    fn line(self, delivered: &crate::watch::Delivered, first: bool) -> Result<Bytes, Status> {
        let (name, object) = match &delivered.event {
            WatchEvent::Added(object) => ("ADDED", object),
            WatchEvent::Modified(object) => ("MODIFIED", object),
            WatchEvent::Deleted(object) => ("DELETED", object),
            WatchEvent::Bookmark(revision) => {
                let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
                if delivered.initial_end {
                    metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                }
                let object = match self.shape {
                    Shape::Table => {
                        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": null, "rows": []})
                    }
                    Shape::Metadata => {
                        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
                    }
                    Shape::Whole => {
                        json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata})
                    }
                };
                return Ok(json!({"type": "BOOKMARK", "object": object}).to_string().into());
            }
        };
        if self.shape == Shape::Whole {
            let head = format!("{{\"type\":\"{name}\",\"object\":");
            return Ok([head.as_bytes(), &object.body, b"}"].concat().into());
        }
        let shown = table::one(self.kind, object, self.shape, self.include, first)?;
        Ok(json!({"type": name, "object": shown}).to_string().into())
    }
}

fn verb(method: &Method, at: &Resource, watching: bool) -> Result<&'static str, Status> {
    let named = at.name.is_some();
    Ok(match *method {
        Method::GET | Method::HEAD if watching && at.subresource.is_none() => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT if named => "update",
        Method::PATCH if named => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => return Err(not_allowed()),
    })
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

fn list_query(query: &Query) -> Result<ListQuery, Status> {
    let revision = |text: String| {
        let error =
            object::Invalid::invalid("resourceVersion", &text.as_str().into(), "strconv.ParseUint: invalid syntax");
        text.parse::<u64>().map_err(|_| Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
    };
    let version_match = match query.get("resourceVersionMatch").as_deref() {
        None | Some("") => None,
        Some("Exact") => Some(Match::Exact),
        Some("NotOlderThan") => Some(Match::NotOlderThan),
        Some(other) => {
            let error =
                object::Invalid::not_supported("resourceVersionMatch", &other.into(), &["Exact", "NotOlderThan", ""]);
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]));
        }
    };
    Ok(ListQuery {
        labels: LabelSelector::parse(&query.get("labelSelector").unwrap_or_default())?,
        fields: FieldSelector::parse(&query.get("fieldSelector").unwrap_or_default())?,
        limit: query.get("limit").and_then(|l| l.parse().ok()).unwrap_or(0),
        continue_token: query.get("continue").filter(|c| !c.is_empty()),
        resource_version: query.get("resourceVersion").filter(|v| !v.is_empty()).map(revision).transpose()?,
        version_match,
    })
}

fn write_query(query: &Query) -> Result<WriteQuery, Status> {
    let dry_run = match query.get("dryRun").as_deref() {
        None | Some("") => false,
        Some("All") => true,
        Some(other) => {
            let error = object::Invalid::not_supported("dryRun", &other.into(), &["All"]);
            return Err(Status::invalid("meta.k8s.io", "CreateOptions", "", &[error]));
        }
    };
    Ok(WriteQuery {
        dry_run,
        validation: FieldValidation::parse(&query.get("fieldValidation").unwrap_or_default())?,
        manager: query.get("fieldManager"),
        force: query.flag("force"),
        ..WriteQuery::default()
    })
}

fn delete_request(query: &Query, body: &Bytes, content_type: &str) -> Result<DeleteRequest, Status> {
    let mut request: DeleteRequest = if body.is_empty() {
        DeleteRequest::default()
    } else {
        let value = crate::decode::parse(body, content_type)?.value;
        serde_json::from_value(value).map_err(|e| Status::bad_request(format!("DeleteOptions: {e}")))?
    };
    if let Some(grace) = query.get("gracePeriodSeconds").and_then(|g| g.parse().ok()) {
        request.grace_period_seconds = Some(grace);
    }
    if let Some(policy) = query.get("propagationPolicy") {
        request.propagation_policy = Some(policy);
    }
    if query.get("dryRun").as_deref() == Some("All") {
        request.dry_run = Some(vec!["All".into()]);
    }
    Ok(request)
}

/// `kubectl get cs`: made up on the spot, as upstream does.
fn component_statuses(kind: &'static Kind, at: &Resource, headers: &HeaderMap) -> Handled {
    let one = |name: &str| {
        json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name, "resourceVersion": "0"},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
            "status": "Healthy", "message": "ok"})
    };
    let all = ["controller-manager", "scheduler", "etcd-0"];
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or("");
    let shape = table::negotiate(accept)?;
    let items = all.iter().filter(|n| at.name.as_deref().is_none_or(|wanted| wanted == **n));
    let items: Vec<_> = items.filter_map(|n| object::Object::from_value(&one(n)).ok()).map(Arc::new).collect();
    if let Some(name) = &at.name {
        let object = items.first().ok_or_else(|| Status::not_found("", "componentstatuses", name))?;
        return Ok(ok_json(&table::one(kind, object, shape, Include::Metadata, true)?));
    }
    let listing = crate::read::Listing { revision: 0, items, continue_token: None, remaining: None };
    if shape == Shape::Whole {
        return Ok(reply::bytes(StatusCode::OK, list_body(kind, &listing), "application/json"));
    }
    Ok(ok_json(&table::many(kind, &listing, shape, Include::Metadata)?))
}

/// The body of a request as it came from a connection, in our type.
pub(crate) fn incoming(body: hyper::body::Incoming) -> Body {
    // A broken connection ends the body early; the length is checked where it matters, by what is parsed out of it.
    Body::new(StreamBody::new(body.into_data_stream().map(|chunk| Ok(Frame::data(chunk.unwrap_or_default())))))
}
