#![no_main]
//! A server on a store of its own, kept from one input to the next: requests of any form, and no answer is a failure of the server's.
use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::fuzzing::Door;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const METHODS: &[&str] = &["GET", "GET", "POST", "POST", "PUT", "PATCH", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const NAMES: &[&str] =
    &["a", "b", "default", "kube-system", "kubernetes", "cluster-admin", "..", "%2f", "%00", "A", ""];
const SUBS: &[&str] = &[
    "status",
    "scale",
    "binding",
    "eviction",
    "token",
    "log",
    "exec",
    "proxy",
    "proxy/x/..",
    "resize",
    "ephemeralcontainers",
    "approval",
    "finalize",
    "x",
];
const PATHS: &[&str] = &[
    "/",
    "/api",
    "/apis",
    "/api/v1",
    "/apis/apps/v1",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/apis/apps/v1",
    "/version",
    "/healthz",
    "/livez/ping",
    "/readyz?verbose",
    "/metrics",
    "/openid/v1/jwks",
    "//api//v1",
    "/api/v1/watch/pods",
    "/api/v1/namespaces/default/pods/a/log",
    "/apis/apps/v1/namespaces/%64efault/deployments",
    "/api/v1/namespaces/default/services/http:kubernetes:https/proxy/x",
];
const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
    "text/plain",
    "",
    "*/*;q=0.1,a",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
];
const QUERY: &[(&str, &[&str])] = &[
    ("limit", &["1", "0", "-1", "9223372036854775807", "x"]),
    ("resourceVersion", &["", "0", "1", "5", "18446744073709551615", "-1", "x"]),
    ("resourceVersionMatch", &["Exact", "NotOlderThan", "x"]),
    ("watch", &["true", "1", "false", "x"]),
    ("timeoutSeconds", &["0", "1", "-1", "9223372036854775807"]),
    ("sendInitialEvents", &["true", "false"]),
    ("allowWatchBookmarks", &["true"]),
    ("labelSelector", &["a=b", "a in (b,c)", "!a", "a notin ()", "%61%3db", "a=b=c", ","]),
    (
        "fieldSelector",
        &["metadata.name=a", "spec.nodeName!=", "x=y", "metadata.name=a\\,b", "status.phase=Running,type=x"],
    ),
    ("dryRun", &["All", "x", ""]),
    ("fieldManager", &["a", "", "\u{7}"]),
    ("force", &["true", "x"]),
    ("fieldValidation", &["Strict", "Warn", "Ignore", "x"]),
    ("propagationPolicy", &["Orphan", "Foreground", "Background", "x"]),
    ("gracePeriodSeconds", &["0", "-1", "30", "9223372036854775807"]),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", &["true"]),
    ("pretty", &["true"]),
    ("timeout", &["1s", "1ns", "-1s", "9999999h", "x"]),
    ("includeObject", &["None", "Metadata", "Object", "x"]),
    ("continue", &[]),
];
const HEADERS: &[(&str, &[&str])] = &[
    ("authorization", &["Bearer a.b.c", "Bearer abcdef.0123456789abcdef", "Basic YTpi", "Bearer", "x"]),
    ("impersonate-user", &["a", "system:node:a", "system:serviceaccount:default:a", ""]),
    ("impersonate-group", &["system:masters", ""]),
    ("impersonate-extra-a%2f%zz", &["b"]),
    ("impersonate-uid", &["x"]),
    ("x-remote-user", &["admin"]),
    ("accept-encoding", &["gzip", "gzip;q=0", "*"]),
    ("if-none-match", &["*", "\"x\""]),
    ("connection", &["upgrade"]),
    ("upgrade", &["websocket", "SPDY/3.1"]),
    ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ=="]),
    (
        "sec-websocket-protocol",
        &["base64.binary.k8s.io", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YQ"],
    ),
    ("x-stream-protocol-version", &["v4.channel.k8s.io"]),
    ("audit-id", &["x"]),
];
/// These make the server call others.
const CALLING: &[&str] = &["admissionregistration.k8s.io", "apiregistration.k8s.io", "apiextensions.k8s.io"];

fn path(u: &mut Unstructured<'_>, kind: &kinds::Kind) -> Result<String> {
    if u.ratio(1, 8)? {
        return Ok((*u.choose(PATHS)?).to_owned());
    }
    let mut path = if kind.group.is_empty() { "/api/".into() } else { format!("/apis/{}/", kind.group) };
    path += &kind.version;
    if kind.namespaced() && u.ratio(7, 8)? {
        path += &format!("/namespaces/{}", u.choose(NAMES)?);
    }
    path += &format!("/{}", kind.plural);
    if u.ratio(2, 3)? {
        path += &format!("/{}", u.choose(NAMES)?);
        if u.ratio(1, 4)? {
            path += &format!("/{}", u.choose(SUBS)?);
        }
    }
    Ok(path)
}

fn query(u: &mut Unstructured<'_>) -> Result<String> {
    let mut pairs = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        let (name, values) = u.choose(QUERY)?;
        let value = match *name {
            _ if u.ratio(1, 12)? => fuzz::text(u)?,
            "continue" => URL_SAFE_NO_PAD.encode(
                json!({"v": "meta.k8s.io/v1", "rv": u.int_in_range(-1..=20)?, "start": *u.choose(&["a\u{0}", "", "/", "default/a\u{0}", "../x"])?}).to_string(),
            ),
            _ => (*u.choose(values)?).to_owned(),
        };
        // Whole query strings come escaped, mostly.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        pairs.push(format!(
            "{name}={}",
            if u.ratio(1, 9)? { value } else { value.replace(['%', ' ', '&', '#', '+'], "%20") }
        ));
    }
    Ok(pairs.join("&"))
}

fn body(u: &mut Unstructured<'_>, kind: &kinds::Kind) -> Result<Vec<u8>> {
    let mut object = fuzz::object_of(u, kind)?;
    if object["metadata"].is_object() && u.ratio(7, 8)? {
        object["metadata"]["name"] = (*u.choose(&["a", "b"])?).into();
        object["metadata"]
            .as_object_mut()
            .map(|m| m.retain(|name, _| !matches!(name.as_str(), "namespace" | "resourceVersion" | "uid")));
    }
    Ok(match u.int_in_range(0..=9)? {
        0 => Vec::new(),
        1 => u.arbitrary()?,
        2 => json!([{"op": *u.choose(&["add", "replace", "remove", "test"])?, "path": *u.choose(&["/metadata/labels", "/spec", "/metadata/name", "/x/-"])?, "value": fuzz::any(u, 3)?}]).to_string().into(),
        3 => fuzz::any(u, 3)?.to_string().into(),
        4 => kind.schema.as_deref().and_then(|name| schema::protobuf::encode(schema::table(), name, &object).ok()).unwrap_or_default(),
        5 => json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": fuzz::any(u, 2)?, "propagationPolicy": fuzz::text(u)?, "gracePeriodSeconds": fuzz::any(u, 1)?}).to_string().into(),
        _ => object.to_string().into(),
    })
}

fn request(u: &mut Unstructured<'_>) -> Result<(bool, Request<apiserver::Body>)> {
    let all: Vec<_> = kinds::table().kinds().iter().filter(|kind| !CALLING.contains(&kind.group.as_str())).collect();
    let kind = *u.choose(&all)?;
    let is_superuser = u.ratio(7, 8)?;
    let (path, query) = (path(u, kind)?, query(u)?);
    let uri = if path.contains('?') || query.is_empty() { path } else { format!("{path}?{query}") };
    let mut request = Request::builder().method(*u.choose(METHODS)?).uri(uri);
    for name in ["content-type", "accept"] {
        if u.ratio(3, 4)? {
            request = request.header(name, *u.choose(TYPES)?);
        }
    }
    for _ in 0..u.int_in_range(0..=2)? {
        let (name, values) = u.choose(HEADERS)?;
        request = request.header(*name, *u.choose(values)?);
    }
    let body = Full::from(body(u, kind)?).boxed_unsync();
    Ok((is_superuser, request.body(body).map_err(|_| libfuzzer_sys::arbitrary::Error::IncorrectFormat)?))
}

struct World {
    runtime: Runtime,
    door: Door,
    _server: apiserver::Server,
    _tasks: base::Tasks,
}

fn world() -> World {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = std::env::temp_dir().join(format!("navarch-fuzz-{}", std::process::id()));
    let (server, tasks) = runtime.block_on(async {
        let mut tasks = base::Tasks::new(&tokio_util::sync::CancellationToken::new());
        let store = store::Embedded::open(
            &dir.join("state"),
            store::Options { fields: |_| Default::default(), transform: None },
        );
        let config = apiserver::Config {
            store: Arc::new(store.expect("a store")),
            pki: Arc::new(pki::Pki::load_or_create(&dir.join("pki")).expect("keys")),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            advertise: Ipv4Addr::LOCALHOST,
            names: Vec::new(),
            service_cidr: "10.43.0.0/16".into(),
            cluster_domain: "cluster.local".into(),
            nodes: None,
            encryption: None,
            security: apiserver::Security::default(),
            debug: apiserver::Debug::default(),
        };
        (apiserver::Server::start(config, &mut tasks).await.expect("a server"), tasks)
    });
    World { runtime, door: Door::new(&server), _server: server, _tasks: tasks }
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn run(data: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(data);
    WORLD.with_borrow_mut(|world_| {
        let world = world_.get_or_insert_with(world);
        for _ in 0..3 {
            let (is_superuser, request) = request(u)?;
            let asked = format!("{} {}", request.method(), request.uri());
            world.runtime.block_on(async {
                // Watches go on for ever.
                let answer = tokio::time::timeout(Duration::from_millis(30), async {
                    let response = world.door.ask(is_superuser, request).await;
                    let code = response.status().as_u16();
                    (code, response.into_body().collect().await.expect("a body").to_bytes())
                });
                if let Ok((500, body)) = answer.await {
                    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
                    // Upstream's own choice for bad versions of watches has no reason.
                    assert!(status["reason"].is_null(), "{asked}: {}", String::from_utf8_lossy(&body));
                }
            });
        }
        Ok(())
    })
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
