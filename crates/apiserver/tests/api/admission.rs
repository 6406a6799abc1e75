//! Admission by others: policies in CEL, and webhooks behind a TLS server of our own.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::{DeleteOptions, ListOptions, Patch, Resource};
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::custom::{definition, established, eventually, tab, tabs};
use crate::world::{World, config_map, config_maps, map_of};

fn rules(operations: &[&str]) -> Value {
    json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": operations, "scope": "*"}])
}

/// What of a create or deletion is refused, if it is.
async fn refusal(world: &World, name: &str, value: &str) -> Option<String> {
    let maps = Resource::collection(&config_maps(), Some("default"));
    match world.client.create(&maps, &map_of(name, value)).await {
        Ok(_) => {
            world.client.delete(&config_map(name), &DeleteOptions::default()).await.unwrap();
            None
        }
        Err(status) => Some(status.message),
    }
}

#[tokio::test]
async fn policies_refuse_and_change() {
    let world = World::new().await;
    let policy = |kind: &str, spec: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "p"}, "spec": spec});
    let constraints = json!({"resourceRules": rules(&["CREATE"])});
    world.create(policy("ValidatingAdmissionPolicy", json!({"matchConstraints": constraints, "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "no-params", "expression": "object.metadata.name != 'params'"}],
        "variables": [{"name": "given", "expression": "object.data.key"}],
        "validations": [{"expression": "variables.given != params.data.key", "messageExpression": "'not ' + variables.given"},
            {"expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()"}]})))
        .await
        .unwrap();
    world.create(json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": ["Deny"], "paramRef": {"name": "params", "namespace": "default", "parameterNotFoundAction": "Deny"}}}))
        .await
        .unwrap();
    let missing = eventually(async || refusal(&world, "a", "x").await).await;
    assert!(missing.contains("no params found for policy binding with `Deny` parameterNotFoundAction"), "{missing}");
    let maps = Resource::collection(&config_maps(), Some("default"));
    world.client.create(&maps, &map_of("params", "bad")).await.unwrap();
    assert_eq!(
        refusal(&world, "a", "bad").await.as_deref(),
        Some("configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: not bad")
    );
    assert_eq!(refusal(&world, "a", "good").await, None);

    world.create(policy("MutatingAdmissionPolicy", json!({"matchConstraints": constraints, "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'added': object.metadata.name}}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('ab'), value: 'c'}]"}}]})))
        .await
        .unwrap();
    world.create(json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "b"}, "spec": {"policyName": "p"}}))
        .await
        .unwrap();
    let made = eventually(async || {
        let made = world.client.create(&maps, &map_of("m", "good")).await.unwrap().value().unwrap();
        world.client.delete(&config_map("m"), &DeleteOptions::default()).await.unwrap();
        (made["metadata"]["labels"]["added"] == "m").then_some(made)
    })
    .await;
    assert_eq!(
        (&made["data"], &made["metadata"]["labels"]["app"]),
        (&json!({"key": "good", "ab": "c"}), &json!("good"))
    );
    world.stop().await;
}

/// Adds `data.hooked` at `/mutate`; refuses whatever has the value `bad`, and every deletion of `kept`, at `/validate`.
async fn review(request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let asked = &review["request"];
    if path == "/convert" {
        let answer =
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": converted(asked)});
        return Ok(Response::new(Full::new(answer.to_string().into())));
    }
    let mut response = json!({"uid": asked["uid"], "allowed": true, "warnings": ["seen"]});
    if path == "/mutate" {
        let patch = json!([{"op": "add", "path": "/data/hooked", "value": asked["userInfo"]["username"]}]);
        response["patch"] = STANDARD.encode(patch.to_string()).into();
        response["patchType"] = "JSONPatch".into();
    } else if asked["object"]["data"]["key"] == "bad"
        || (asked["operation"] == "DELETE" && asked["oldObject"]["metadata"]["name"] == "kept")
    {
        response["allowed"] = false.into();
        response["status"] = json!({"message": "no", "code": 403, "reason": "Forbidden"});
    }
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(Response::new(Full::new(answer.to_string().into())))
}

/// In `v2` the replicas are called copies.
fn converted(asked: &Value) -> Value {
    let (from, to) = if asked["desiredAPIVersion"] == "stable.example.com/v2" {
        ("replicas", "copies")
    } else {
        ("copies", "replicas")
    };
    let mut objects = asked["objects"].as_array().unwrap().clone();
    for object in &mut objects {
        object["apiVersion"] = asked["desiredAPIVersion"].clone();
        if let Some(value) = object["spec"].as_object_mut().unwrap().remove(from) {
            object["spec"][to] = value;
        }
    }
    json!({"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": objects})
}

/// Serves reviews until the task is dropped; the port.
async fn serve(world: &World, tasks: &mut tokio::task::JoinSet<()>) -> u16 {
    let pair = world.pki.server("hook", "hook", &["127.0.0.1".into(), "localhost".into()]).unwrap();
    let tls = pki::server_config(&pair, world.pki.client_ca.certificate_pem()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let served = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service_fn(review));
            served.await.ok();
        }
    });
    port
}

#[tokio::test]
async fn webhooks_are_asked_and_change_and_refuse() {
    let world = World::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    let port = serve(&world, &mut tasks).await;
    let ca = STANDARD.encode(world.pki.server_ca.certificate_pem());
    let hook = |name: &str, path: &str, operations: &[&str]| {
        json!({"name": format!("{name}.example.com"), "clientConfig": {"url": format!("https://127.0.0.1:{port}{path}"), "caBundle": ca},
            "rules": rules(operations), "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 5, "failurePolicy": "Fail",
            "matchConditions": [{"name": "not-exempt", "expression": "request.operation == 'DELETE' || object.data.key != 'exempt'"}]})
    };
    for (kind, hooks) in [
        ("MutatingWebhookConfiguration", vec![hook("mutate", "/mutate", &["CREATE"])]),
        ("ValidatingWebhookConfiguration", vec![hook("validate", "/validate", &["CREATE", "DELETE"])]),
    ] {
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "h"}, "webhooks": hooks});
        world.create(configuration).await.unwrap();
    }
    let refused = eventually(async || refusal(&world, "a", "bad").await).await;
    assert_eq!(refused, "admission webhook \"validate.example.com\" denied the request: no");
    let maps = Resource::collection(&config_maps(), Some("default"));
    let made = eventually(async || {
        let made = world.client.create(&maps, &map_of("a", "good")).await.unwrap().value().unwrap();
        world.client.delete(&config_map("a"), &DeleteOptions::default()).await.unwrap();
        made["data"]["hooked"].is_string().then_some(made)
    })
    .await;
    assert_eq!(made["data"]["hooked"], "system:apiserver");
    let exempt = world.client.create(&maps, &map_of("kept", "exempt")).await.unwrap().value().unwrap();
    assert_eq!(exempt["data"], json!({"key": "exempt"}));
    let refused = world.client.delete(&config_map("kept"), &DeleteOptions::default()).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (403, "admission webhook \"validate.example.com\" denied the request: no")
    );
    tasks.shutdown().await;
    let failed = refusal(&world, "a", "good").await.unwrap();
    assert!(
        failed.starts_with(
            "Internal error occurred: failed calling webhook \"mutate.example.com\": failed to call webhook: Post"
        ),
        "{failed}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_webhook_converts_between_versions() {
    let world = World::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    let port = serve(&world, &mut tasks).await;
    let mut two = definition();
    let mut version = two["spec"]["versions"][0].clone();
    version["name"] = "v2".into();
    version["storage"] = false.into();
    version.as_object_mut().unwrap().remove("subresources");
    let spec =
        version.pointer_mut("/schema/openAPIV3Schema/properties/spec/properties").unwrap().as_object_mut().unwrap();
    let replicas = spec.remove("replicas").unwrap();
    spec.insert("copies".into(), replicas);
    version["selectableFields"] = json!([{"jsonPath": ".spec.copies"}]);
    two["spec"]["versions"].as_array_mut().unwrap().push(version);
    let ca = STANDARD.encode(world.pki.server_ca.certificate_pem());
    two["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"url": format!("https://127.0.0.1:{port}/convert"), "caBundle": ca}}});
    world.create(two).await.unwrap();
    established(&world).await;
    let newer = object::Gvr { version: "v2".into(), ..tabs() };
    let (old_tabs, new_tabs) =
        (Resource::collection(&tabs(), Some("default")), Resource::collection(&newer, Some("default")));
    world.client.create(&old_tabs, &tab("a", json!({"cronSpec": "* * * * *", "replicas": 2}))).await.unwrap();
    let mut b = tab("b", json!({"cronSpec": "* * * * *", "copies": 3}));
    b["apiVersion"] = "stable.example.com/v2".into();
    let made = world.client.create(&new_tabs, &b).await.unwrap().value().unwrap();
    assert_eq!((&made["apiVersion"], &made["spec"]["copies"]), (&json!("stable.example.com/v2"), &json!(3)));
    let spec_of = |object: &object::Object| object.value().unwrap()["spec"].clone();
    let listed = world.client.list(&new_tabs, &ListOptions::default()).await.unwrap();
    assert_eq!(listed.items.iter().map(|o| spec_of(o)["copies"].clone()).collect::<Vec<_>>(), [2, 3]);
    // What is selected by is in the version that is asked for, whatever version is stored.
    let by_copies = |n: &str| ListOptions {
        fields: object::FieldSelector::parse(&format!("spec.copies={n}")).unwrap(),
        ..ListOptions::default()
    };
    let selected = world.client.list(&new_tabs, &ListOptions { limit: 1, ..by_copies("3") }).await.unwrap();
    assert_eq!(selected.items.iter().map(|o| o.head.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(world.client.list(&old_tabs, &by_copies("3")).await.unwrap_err().code, 400);
    let options = ListOptions { resource_version: Some(listed.revision), ..by_copies("4") };
    let mut fours = world.client.watch(&new_tabs, &options).await.unwrap();
    let b_of_old = Resource::object(&tabs(), Some("default"), "b");
    assert_eq!(spec_of(&world.client.get(&b_of_old).await.unwrap())["replicas"], 3);
    let mut events = world
        .client
        .watch(&new_tabs, &ListOptions { resource_version: Some(listed.revision), ..Default::default() })
        .await
        .unwrap();
    world.client.patch(&b_of_old, &Patch::Merge(json!({"spec": {"replicas": 4}}))).await.unwrap();
    let Some(Ok(client::WatchEvent::Modified(seen))) = events.next().await else { panic!("a change is seen") };
    assert_eq!(spec_of(&seen)["copies"], 4);
    let Some(Ok(client::WatchEvent::Added(seen))) = fours.next().await else { panic!("it comes into the selection") };
    assert_eq!(spec_of(&seen)["copies"], 4);
    world.client.patch(&b_of_old, &Patch::Merge(json!({"spec": {"replicas": 5}}))).await.unwrap();
    let Some(Ok(client::WatchEvent::Deleted(seen))) = fours.next().await else { panic!("it leaves the selection") };
    assert_eq!((seen.head.name.as_str(), &spec_of(&seen)["copies"]), ("b", &json!(4)));
    tasks.shutdown().await;
    let failed = world.client.get(&Resource::object(&newer, Some("default"), "a")).await.unwrap_err();
    assert!(
        failed.message.contains("conversion webhook for stable.example.com/v1, Kind=CronTab failed: Post"),
        "{failed}"
    );
    world.stop().await;
}
