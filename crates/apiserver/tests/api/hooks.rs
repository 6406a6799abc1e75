//! What webhooks are shown and what becomes of their answers, read off upstream's API server v1.36.2.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::{ListOptions, Patch, Resource, WatchEvent};
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use object::Gvr;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::bad_input::send;
use crate::custom::{definition, definition_at, established, eventually, tab, tabs};
use crate::world::{World, config_maps, default_account, map_of, pod_of};

/// What the webhook answers next, what it was asked last, and how often who connected.
#[derive(Default)]
struct Hook {
    answer: Mutex<Value>,
    /// So often it wants to be asked later.
    later: AtomicUsize,
    asked: Mutex<Value>,
    connections: AtomicUsize,
    /// Objects that it was asked to convert.
    converted: AtomicUsize,
}

impl Hook {
    /// The answer: what is in `answer` laid over a plain one.
    fn reply(&self, path: &str, review: &Value) -> Response<Full<Bytes>> {
        *self.asked.lock() = review["request"].clone();
        if self.later.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            let reply = Response::builder().status(429).header("Retry-After", "0");
            return reply.body(Full::default()).unwrap();
        }
        let mut answer = json!({"apiVersion": review["apiVersion"], "kind": review["kind"],
            "response": {"uid": review["request"]["uid"], "allowed": true}});
        if path == "/convert" {
            let mut objects = review["request"]["objects"].clone();
            for object in objects.as_array_mut().unwrap() {
                self.converted.fetch_add(1, Ordering::SeqCst);
                object["apiVersion"] = review["request"]["desiredAPIVersion"].clone();
            }
            answer["response"]["convertedObjects"] = objects;
            answer["response"]["result"] = json!({"status": "Success"});
        }
        merge(&mut answer, &self.answer.lock());
        Response::new(Full::new(answer.to_string().into()))
    }

    fn patches(&self, patch: &Value) {
        *self.answer.lock() =
            json!({"response": {"patch": STANDARD.encode(patch.to_string()), "patchType": "JSONPatch"}});
    }
}

/// Lays one tree over another; lists element by element.
fn merge(target: &mut Value, over: &Value) {
    match (target, over) {
        (Value::Object(target), Value::Object(over)) => {
            over.iter().for_each(|(key, over)| merge(target.entry(key.clone()).or_insert(Value::Null), over));
        }
        (Value::Array(target), Value::Array(over)) if target.len() == over.len() => {
            target.iter_mut().zip(over).for_each(|(target, over)| merge(target, over));
        }
        (target, over) => {
            if !over.is_null() {
                *target = over.clone();
            }
        }
    }
}

/// Serves the webhook over connections that stay; its `clientConfig` for a path.
async fn serve(world: &World, tasks: &mut JoinSet<()>) -> (Arc<Hook>, impl Fn(&str) -> Value + use<>) {
    let pair = world.pki.server("hook", "hook", &["127.0.0.1".into()]).unwrap();
    let tls = pki::server_config(&pair, world.pki.client_ca.certificate_pem()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hook = Arc::new(Hook::default());
    let served = hook.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, hook) = (acceptor.clone(), served.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                hook.connections.fetch_add(1, Ordering::SeqCst);
                let answer = service_fn(|request: Request<hyper::body::Incoming>| async {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let review = serde_json::from_slice(&body).unwrap();
                    Ok::<_, Infallible>(hook.reply(&path, &review))
                });
                let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                serving.await.ok();
            });
        }
    });
    let ca = STANDARD.encode(world.pki.server_ca.certificate_pem());
    (hook, move |path| json!({"url": format!("https://127.0.0.1:{port}{path}"), "caBundle": ca}))
}

async fn configure(world: &World, config: Value) {
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps", "pods/binding"], "operations": ["*"]}]);
    let webhook = json!({"name": "h.example.org", "clientConfig": config, "rules": rules, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 30});
    world
        .create(json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "h"}, "webhooks": [webhook]}))
        .await
        .unwrap();
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn webhooks_see_and_do_what_upstreams_do() {
    let world = World::new().await;
    let mut tasks = JoinSet::new();
    let (hook, config) = serve(&world, &mut tasks).await;
    default_account(&world).await;
    let maps = Resource::collection(&config_maps(), Some("default"));
    let made = world.client.create(&maps, &map_of("a", "1")).await.unwrap();
    world.create(pod_of("p", None)).await.unwrap();
    configure(&world, config("/mutate")).await;
    let ask = async |request: &str, body: &Value| send(&world, false, request, JSON, body.to_string().as_bytes()).await;
    let create = format!("POST {MAPS}?dryRun=All");
    eventually(async || {
        ask(&create, &map_of("b", "1")).await;
        hook.asked.lock().is_object().then_some(())
    })
    .await;

    // A refusal comes with all warnings, and with no more details than it has.
    *hook.answer.lock() = json!({"response": {"allowed": false, "warnings": ["w1", "w2"],
        "status": {"code": 403, "message": "no way", "reason": "Forbidden"}}});
    let mut odd = map_of("b", "1");
    odd["odd"] = 1.into();
    let refused = ask(&format!("{create}&fieldValidation=Warn"), &odd).await;
    assert_eq!((refused.code, &refused.json()["details"]), (403, &Value::Null));
    for warning in ["299 - \"unknown field \\\"odd\\\"\"", "299 - \"w1\"", "299 - \"w2\""] {
        assert!(refused.head.contains(warning), "{warning}: {}", refused.head);
    }

    // Who names no version is shown the present one; a binding is shown with its namespace.
    *hook.answer.lock() = Value::Null;
    assert_eq!(ask(&format!("PUT {MAPS}/a?fieldManager=me"), &map_of("a", "2")).await.code, 200);
    let asked = hook.asked.lock().clone();
    assert_eq!(asked["object"]["metadata"]["resourceVersion"], made.head.resource_version.to_string());
    assert_eq!(
        asked["options"],
        json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"})
    );
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(ask("POST /api/v1/namespaces/default/pods/p/binding", &binding).await.code, 201);
    assert_eq!(hook.asked.lock()["object"]["metadata"]["namespace"], "default");

    let failed = "Internal error occurred: ";
    let undecodable = "failed calling webhook \"h.example.org\": received undecodable patch in webhook response: json: cannot unmarshal";
    for (patch, code, words) in [
        (
            json!([{"op": "remove", "path": "/nope"}]),
            500,
            format!("{failed}error in remove for path: '/nope': Unable to remove nonexistent key: nope: missing value"),
        ),
        (
            json!([{"op": "replace", "path": "/nope/x", "value": 1}]),
            500,
            format!("{failed}replace operation does not apply: doc is missing path: /nope/x: missing value"),
        ),
        (
            json!([{"op": "add", "path": "/metadata/labels/x/y", "value": 1}]),
            500,
            format!(
                "{failed}add operation does not apply: doc is missing path: \"/metadata/labels/x/y\": missing value"
            ),
        ),
        (
            json!([{"op": "move", "from": "/nope", "path": "/data/x"}]),
            500,
            format!("{failed}error in move for path: 'nope': Unable to remove nonexistent key: nope: missing value"),
        ),
        (
            json!([{"op": "copy", "from": "/data/key", "path": "/nope/x"}]),
            500,
            format!("{failed}copy operation does not apply: doc is missing destination path: /nope/x: missing value"),
        ),
        (
            json!([{"op": "test", "path": "/data/key", "value": "c"}]),
            500,
            format!("{failed}testing value /data/key failed: test failed"),
        ),
        (json!([{"op": "zap", "path": "/data"}]), 500, format!("{failed}Unexpected kind: zap")),
        (json!([5]), 500, format!("{failed}{undecodable} number into Go value of type jsonpatch.Operation")),
        (
            json!([{"op": "add", "path": "/kind", "value": "Pod"}]),
            500,
            "converting (v1.Pod) to (core.ConfigMap): unknown conversion".into(),
        ),
        (
            json!([{"op": "add", "path": "/metadata/namespace", "value": "other"}]),
            400,
            "the namespace of the provided object does not match the namespace sent on the request".into(),
        ),
    ] {
        hook.patches(&patch);
        let reply = ask(&create, &map_of("b", "1")).await;
        assert_eq!((reply.code, reply.json()["message"].as_str().unwrap()), (code, words.as_str()), "{patch}");
    }
    hook.patches(&json!([{"op": "replace", "path": "/data/new", "value": "x"}, {"op": "replace", "path": "/metadata/uid", "value": "u"}]));
    let made = ask(&create, &map_of("b", "1")).await.json();
    assert_eq!(made["data"]["new"], "x");
    assert_ne!(made["metadata"]["uid"], "u", "the server's fields are the server's");

    // Who says when to come back is asked again.
    hook.later.store(2, Ordering::SeqCst);
    assert_eq!(ask(&create, &map_of("b", "1")).await.code, 201);
    assert_eq!(hook.connections.load(Ordering::SeqCst), 1, "connections are kept");
    let metrics = send(&world, false, "GET /metrics", "", b"").await;
    let rejected = "apiserver_admission_webhook_rejection_count{error_type=\"no_error\",name=\"h.example.org\",operation=\"CREATE\",rejection_code=\"403\",type=\"admit\"}";
    assert!(String::from_utf8_lossy(&metrics.body).contains(rejected));
    world.stop().await;
}

/// The definition with a second version that a webhook converts to.
fn two_versions(config: &Value) -> Value {
    let mut two = definition();
    let mut version = two["spec"]["versions"][0].clone();
    version["name"] = "v2".into();
    version["storage"] = false.into();
    two["spec"]["versions"].as_array_mut().unwrap().push(version);
    two["spec"]["conversion"] = json!({"strategy": "Webhook",
        "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": config}});
    two
}

#[tokio::test]
async fn conversions_are_checked_and_keep_their_connection() {
    let world = World::new().await;
    let mut tasks = JoinSet::new();
    let (hook, config) = serve(&world, &mut tasks).await;
    world.create(two_versions(&config("/convert"))).await.unwrap();
    established(&world).await;
    let stored = Resource::collection(&tabs(), Some("default"));
    let made = world.client.create(&stored, &tab("a", json!({"cronSpec": "* * * * *"}))).await.unwrap();
    let newer = Gvr { version: "v2".into(), ..tabs() };
    let at = Resource::object(&newer, Some("default"), "a");
    for _ in 0..3 {
        assert_eq!(world.client.get(&at).await.unwrap().head.resource_version, made.head.resource_version);
    }
    assert_eq!(hook.connections.load(Ordering::SeqCst), 1);
    assert_eq!(hook.asked.lock()["objects"][0]["metadata"]["resourceVersion"], Value::Null);
    let by = "conversion webhook for stable.example.com/v1, Kind=CronTab";
    for (answer, words) in [
        (json!({"response": {"result": {"status": "Failure", "message": "cannot"}}}), "failed: cannot"),
        (json!({"response": {"result": {"status": "Odd"}}}), "failed: response.result.status was 'Odd', not 'Success'"),
        (json!({"response": {"convertedObjects": [{}, {}]}}), "returned 2 objects, expected 1"),
        (
            json!({"response": {"convertedObjects": [{"apiVersion": "x/v9"}]}}),
            "returned invalid object at index 0: invalid groupVersion (expected stable.example.com/v2, received x/v9)",
        ),
        (
            json!({"response": {"convertedObjects": [{"metadata": {"name": "b"}}]}}),
            "returned invalid object: must have the same name: a != b",
        ),
        (
            json!({"kind": "Odd"}),
            "failed: no kind \"Odd\" is registered for version \"apiextensions.k8s.io/v1\" in scheme \"pkg/util/webhook/client.go:71\"",
        ),
    ] {
        *hook.answer.lock() = answer;
        let failed = world.client.get(&at).await.unwrap_err();
        assert_eq!((failed.code, failed.reason, failed.message), (500, None, format!("{by} {words}")));
    }

    world.stop().await;
}

/// As with upstream's watch caches, except for GETs of the newest state, which upstream reads past its caches.
#[tokio::test]
async fn what_was_converted_is_kept_while_nothing_changes() {
    let world = World::new().await;
    let mut tasks = JoinSet::new();
    let (hook, config) = serve(&world, &mut tasks).await;
    let definition = two_versions(&config("/convert"));
    world.create(definition.clone()).await.unwrap();
    established(&world).await;
    let stored = Resource::collection(&tabs(), Some("default"));
    let newer = Gvr { version: "v2".into(), ..tabs() };
    let (all, b) = (Resource::collection(&newer, Some("default")), Resource::object(&tabs(), Some("default"), "b"));
    for name in ["a", "b", "c"] {
        world.client.create(&stored, &tab(name, json!({"cronSpec": "* * * * *"}))).await.unwrap();
    }
    // What the objects are in the other version, and how many of them had to be converted for that.
    let listed = async || {
        let list = world.client.list(&all, &ListOptions::default()).await.unwrap();
        let images = list.items.iter().map(|object| {
            assert_eq!(object.head.api_version.as_str(), "stable.example.com/v2");
            let said = object.value().unwrap()["spec"]["image"].as_str().unwrap().to_owned();
            format!("{} {said}", object.head.name)
        });
        (images.collect::<Vec<_>>().join(", "), hook.converted.swap(0, Ordering::SeqCst))
    };
    assert_eq!(listed().await, ("a none, b none, c none".into(), 3));
    assert_eq!(listed().await, ("a none, b none, c none".into(), 0));
    // A change is converted once for all: a watcher, and whoever lists after it.
    let options = ListOptions {
        resource_version: Some(world.client.get(&b).await.unwrap().head.resource_version),
        ..ListOptions::default()
    };
    let mut events = world.client.watch(&all, &options).await.unwrap();
    world.client.patch(&b, &Patch::Merge(json!({"spec": {"image": "new"}}))).await.unwrap();
    loop {
        if let WatchEvent::Modified(object) = events.next().await.unwrap().unwrap() {
            assert_eq!((object.head.name.as_str(), object.head.api_version.as_str()), ("b", "stable.example.com/v2"));
            break;
        }
    }
    hook.converted.store(0, Ordering::SeqCst);
    assert_eq!(listed().await, ("a none, b new, c none".into(), 0));
    world.client.delete(&b, &client::DeleteOptions::default()).await.unwrap();
    world.client.create(&stored, &tab("b", json!({"cronSpec": "* * * * *", "image": "again"}))).await.unwrap();
    assert_eq!(listed().await, ("a none, b again, c none".into(), 1));
    world.client.get(&Resource::object(&newer, Some("default"), "b")).await.unwrap();
    assert_eq!(listed().await.1, 1);
    // Another definition: what its objects were says nothing any more.
    let change = async |conversion: &Value| {
        let patch = Patch::Merge(json!({"spec": {"conversion": conversion}}));
        world.client.patch(&definition_at(), &patch).await.unwrap();
    };
    change(&json!({"strategy": "None", "webhook": null})).await;
    assert_eq!(
        eventually(async || Some(listed().await).filter(|(_, asked)| *asked == 0)).await.0,
        "a none, b again, c none"
    );
    *hook.answer.lock() = json!({"response": {"convertedObjects": [{"spec": {"image": "x"}}, {"spec": {"image": "y"}}, {"spec": {"image": "z"}}]}});
    change(&definition["spec"]["conversion"]).await;
    let converted = eventually(async || Some(listed().await).filter(|(images, _)| images.contains('x'))).await;
    assert_eq!(converted, ("a x, b y, c z".into(), 3));
    assert_eq!(listed().await, ("a x, b y, c z".into(), 0));
    world.stop().await;
}
