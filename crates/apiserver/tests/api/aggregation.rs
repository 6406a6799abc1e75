//! Another server behind an APIService.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Patch, Resource};
use object::{Draft, Gvr};
use serde_json::{Value, json};
use store::{Op, Txn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::authn::{connect, exchange};
use crate::bad_input::send;
use crate::custom::eventually;
use crate::world::World;

/// A server that believes the front proxy only: lists its resources, redirects, upgrades, and else tells what it was asked.
async fn extension(world: &World, pki: &pki::Pki, tasks: &mut JoinSet<()>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pair = pki.server("extension", "extension", &["ext.default.svc".into()]).unwrap();
    let tls = pki::server_config(&pair, world.pki.front_proxy_ca.certificate_pem()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let proxy = stream.get_ref().1.peer_certificates().and_then(|c| pki::identity(c.first()?));
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("").to_owned();
                if path.ends_with("/stream") {
                    // Into whatever protocol is asked for; the key comes back, as that of a WebSocket does in its way.
                    let told = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
                    let (protocol, key) = (told("upgrade:"), told("sec-websocket-key:"));
                    let reply = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Accept: {key}\r\n\r\n");
                    let _ = stream.write_all(reply.as_bytes()).await;
                    let mut word = [0; 4];
                    // More than once, in both directions.
                    while stream.read_exact(&mut word).await.is_ok() && &word != b"stop" {
                        let _ = stream.write_all(&word).await;
                    }
                    let _ = stream.shutdown().await;
                    return;
                }
                let thing = json!({"$ref": "#/definitions/org.example.Thing"});
                let (status, more, body) = match path.as_str() {
                    "/apis/ext.example.org/v1" => ("200 OK", "", json!({"kind": "APIResourceList", "resources": [
                        {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"]}]})),
                    "/openapi/v2" => ("200 OK", "", json!({"swagger": "2.0", "definitions": {"org.example.Thing": {"type": "object"}},
                        "paths": {"/apis/ext.example.org/v1/things": {"get": {"operationId": "listThings", "responses": {"200": {"description": "OK", "schema": thing}}}}, "/version": {}}})),
                    path if path.ends_with("/away") => ("302 Found", "Location: https://127.0.0.1/\r\n", json!({})),
                    _ => ("200 OK", "", json!({"head": head, "proxy": proxy.map(|p| p.user)})),
                };
                let body = body.to_string();
                let reply = format!("HTTP/1.1 {status}\r\n{more}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(reply.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    port
}

/// Puts an object into the store as it is: validation refuses endpoints on the loopback address.
async fn put(world: &World, key: &str, mut value: Value) {
    value["metadata"]["uid"] = "u".into();
    let op = Op::Put(key.into(), Draft::new(&mut value).unwrap());
    world.store.commit(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
}

/// Waits until the APIService's condition has the reason.
async fn until(world: &World, reason: &str) -> Value {
    let at = Resource::object(&Gvr::new("apiregistration.k8s.io", "v1", "apiservices"), None, "v1.ext.example.org");
    let reached = async {
        loop {
            let object = world.get(&at).await.unwrap();
            let condition = object["status"]["conditions"][0].clone();
            if condition["reason"] == reason {
                return condition;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("never {reason}"))
}

async fn get(world: &World, pair: &pki::Pair, path: &str, headers: &str) -> (u16, Value) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
    let (code, body) = exchange(world, Some(pair), &request).await;
    (code, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

#[tokio::test]
async fn another_server_is_asked_for_its_group() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let foreign = pki::Pki::load_or_create(dir.path()).unwrap();
    let mut tasks = JoinSet::new();
    let port = extension(&world, &foreign, &mut tasks).await;
    let local = Resource::object(&Gvr::new("apiregistration.k8s.io", "v1", "apiservices"), None, "v1.apps");
    tokio::time::timeout(Duration::from_secs(30), async {
        while !world.get(&local).await.is_ok_and(|o| o["status"]["conditions"][0]["reason"] == "Local") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("this server's own groups have APIServices");

    let ca = STANDARD.encode(foreign.server_ca.certificate_pem());
    world.create(json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.ext.example.org"},
        "spec": {"group": "ext.example.org", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10, "caBundle": ca,
            "service": {"namespace": "default", "name": "ext", "port": 443}}})).await.unwrap();
    assert_eq!(until(&world, "ServiceNotFound").await["message"], "service/ext in \"default\" is not present");
    let admin = world.pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
    assert_eq!(get(&world, &admin, "/apis/ext.example.org/v1/things", "").await.0, 503);
    world
        .create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext"},
        "spec": {"ports": [{"port": 443, "targetPort": 8443}]}}))
        .await
        .unwrap();
    until(&world, "EndpointsNotFound").await;
    let slice = |port: u16| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "ext-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "ext"}},
        "ports": [{"name": "", "port": port, "protocol": "TCP"}], "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]})
    };
    put(&world, "/registry/endpointslices/default/ext-1", slice(port)).await;
    assert_eq!(until(&world, "Passed").await["message"], "all checks passed");

    let (code, told) = get(
        &world,
        &admin,
        "/apis/ext.example.org/v1/namespaces/default/things?limit=5",
        "X-Remote-User: root\r\nAuthorization: Bearer x\r\nX-Mine: 1\r\n",
    )
    .await;
    assert_eq!((code, &told["proxy"]), (200, &json!(pki::FRONT_PROXY)));
    let head = told["head"].as_str().unwrap();
    assert!(head.starts_with("GET /apis/ext.example.org/v1/namespaces/default/things?limit=5 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-remote-user: kubernetes-admin\r\nx-remote-group: system:masters\r\n"), "{head}");
    assert!(head.contains("x-mine: 1") && !head.contains("root") && !head.contains("authorization"), "{head}");

    let (_, groups) = get(&world, &admin, "/apis", "").await;
    assert!(groups["groups"].as_array().unwrap().iter().any(|g| g["name"] == "ext.example.org"));
    assert_eq!(get(&world, &admin, "/apis/ext.example.org", "").await.1["preferredVersion"]["version"], "v1");
    let aggregated = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList\r\n";
    let (_, all) = get(&world, &admin, "/apis", aggregated).await;
    let ours = all["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "ext.example.org").unwrap();
    assert_eq!(ours["versions"][0]["resources"][0]["resource"], "things");

    // The way here is told, in the words of upstream's proxy; an escaped slash is a slash.
    let id = "Audit-ID: one\r\nX-Forwarded-For: 192.0.2.1\r\n";
    let (_, told) = get(&world, &admin, "/apis/ext.example.org/v1/things/a%2Fb", id).await;
    let head = told["head"].as_str().unwrap();
    assert!(head.starts_with("GET /apis/ext.example.org/v1/things/a/b HTTP/1.1\r\n"), "{head}");
    let address = format!("127.0.0.1:{port}");
    for line in [
        format!("host: {address}"),
        "x-forwarded-for: 192.0.2.1, 127.0.0.1".into(),
        format!("x-forwarded-host: {address}"),
        "x-forwarded-proto: https".into(),
        "x-forwarded-uri: /apis/ext.example.org/v1/things/a/b".into(),
        "audit-id: one".into(),
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }

    // Its OpenAPI v2 is part of ours, in both encodings.
    let (_, v2) = get(&world, &admin, "/openapi/v2", "").await;
    assert_eq!(v2["paths"]["/apis/ext.example.org/v1/things"]["get"]["operationId"], "listThings");
    assert!(v2["definitions"]["org.example.Thing"].is_object() && v2["paths"]["/api/v1/pods"].is_null().eq(&false));
    let sealed = send(
        &world,
        false,
        "GET /openapi/v2",
        "Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf\r\n",
        b"",
    )
    .await;
    assert!(sealed.body.windows(10).any(|w| w == b"listThings"), "{}", sealed.head);

    let bob = world.pki.client("bob", "bob", "dev").unwrap();
    assert_eq!(get(&world, &bob, "/apis/ext.example.org/v1/things", "").await.0, 403);
    assert_eq!(
        get(&world, &bob, "/apis/ext.example.org/v1/../v1/things", "").await.0,
        404,
        "what is ambiguous goes nowhere"
    );
    assert_eq!(get(&world, &admin, "/apis/ext.example.org/v1/away", "").await.0, 502, "redirects are not followed");
    for protocol in ["websocket", "SPDY/3.1", "echo"] {
        let mut stream = connect(&world, Some(&admin)).await;
        let request = format!(
            "GET /apis/ext.example.org/v1/stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\n\r\nping"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        let conversation = async {
            while !reply.ends_with(b"ping") {
                reply.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"pongstop").await.unwrap();
            let _ = stream.read_to_end(&mut reply).await;
        };
        tokio::time::timeout(Duration::from_secs(30), conversation).await.unwrap();
        let reply = String::from_utf8_lossy(&reply).to_lowercase();
        assert!(reply.starts_with("http/1.1 101") && reply.ends_with("\r\n\r\npingpong"), "{reply}");
        assert!(reply.contains(&format!("\r\nupgrade: {}\r\n", protocol.to_lowercase())), "{reply}");
        assert!(reply.contains("sec-websocket-accept: a2v5"), "{reply}");
    }

    // Not even an administrator of a namespace sends this server elsewhere.
    let elsewhere = json!({"spec": {"type": "ExternalName", "externalName": "127.0.0.1.example.org", "clusterIP": null, "clusterIPs": null}});
    let service = Resource::object(&Gvr::new("", "v1", "services"), Some("default"), "ext");
    world.client.patch(&service, &Patch::Merge(elsewhere)).await.unwrap();
    until(&world, "ServiceAccessError").await;
    assert_eq!(get(&world, &admin, "/apis/ext.example.org/v1/things", "").await.0, 503);
    let back = json!({"spec": {"type": "ClusterIP", "externalName": null}});
    world.client.patch(&service, &Patch::Merge(back)).await.unwrap();
    until(&world, "Passed").await;

    put(&world, "/registry/endpointslices/default/ext-1", slice(1)).await;
    until(&world, "FailedDiscoveryCheck").await;
    // Discovery tells what was there, and that it is old.
    let stale = eventually(async || {
        let (_, all) = get(&world, &admin, "/apis", aggregated).await;
        let groups = all["items"].as_array().unwrap().clone();
        let ours = groups.into_iter().find(|g| g["metadata"]["name"] == "ext.example.org").unwrap();
        (ours["versions"][0]["freshness"] == "Stale").then_some(ours)
    })
    .await;
    assert_eq!(stale["versions"][0]["resources"][0]["resource"], "things");
    assert_eq!(get(&world, &admin, "/apis/ext.example.org/v1/things", "").await.0, 503);
    world.stop().await;
}
