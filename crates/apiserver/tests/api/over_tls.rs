//! Over a socket: certificates, tokens, nobody; and writes of clients that go away.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Credential, Https, ListOptions, Resource};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, config_map, config_maps, default_account, map_of};

pub fn connect(world: &World, credential: Credential) -> Client {
    let server = client::Server {
        url: format!("https://{}", world.server.address()),
        ca_pem: Some(world.pki.server_ca.certificate_pem().as_bytes().to_vec()),
        ..Default::default()
    };
    Client::new(Arc::new(Https::open(&server, credential, "test").unwrap()), "test")
}

pub fn admin(world: &World) -> Credential {
    let pair = world.pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
    Credential::Certificate { cert_pem: pair.certificate.into_bytes(), key_pem: pair.key.into_bytes() }
}

#[tokio::test]
async fn a_certificate_writes_and_reads() {
    let world = World::new().await;
    let client = connect(&world, admin(&world));
    let maps = Resource::collection(&config_maps(), Some("default"));
    let made = client.create(&maps, &map_of("a", "1")).await.unwrap();
    assert_eq!(client.get(&config_map("a")).await.unwrap().body, made.body);
    let listed = client.list(&maps, &ListOptions::default()).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(client.create(&maps, &map_of("a", "1")).await.unwrap_err().code, 409);
    let version: serde_json::Value = serde_json::from_slice(&client.raw_get("/version").await.unwrap()).unwrap();
    assert_eq!(version["major"], "1");
    world.stop().await;
}

#[tokio::test]
async fn a_token_and_nobody() {
    let world = World::new().await;
    default_account(&world).await;
    let account = config_map("default");
    let account = Resource { gvr: object::Gvr::new("", "v1", "serviceaccounts"), ..account }.sub("token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let issued = world.client.create(&account, &request).await.unwrap().value().unwrap();
    let token = issued["status"]["token"].as_str().unwrap().to_owned();

    let known = connect(&world, Credential::Token(token.clone()));
    let refused = known.get(&config_map("a")).await.unwrap_err();
    assert_eq!(refused.code, 403);
    assert!(refused.message.contains("User \"system:serviceaccount:default:default\" cannot get"), "{refused}");
    let forged = connect(&world, Credential::Token(format!("{token}x")));
    assert_eq!(forged.get(&config_map("a")).await.unwrap_err().code, 401);
    let nobody = connect(&world, Credential::None);
    let refused = nobody.get(&config_map("a")).await.unwrap_err();
    assert_eq!(refused.code, 403);
    assert!(refused.message.contains("User \"system:anonymous\" cannot get"), "{refused}");
    assert_eq!(&nobody.raw_get("/readyz").await.unwrap()[..], b"ok");
    world.stop().await;
}

#[tokio::test]
async fn requests_and_checks_are_counted_under_upstreams_names() {
    let world = World::new().await;
    let client = connect(&world, admin(&world));
    let maps = Resource::collection(&config_maps(), Some("default"));
    client.create(&maps, &map_of("a", "1")).await.unwrap();
    client.get(&config_map("nope")).await.unwrap_err();
    client.list(&maps, &ListOptions::default()).await.unwrap();
    let text = async |path: &str| String::from_utf8(client.raw_get(path).await.unwrap().to_vec()).unwrap();
    let labels = |verb: &str, scope: &str| {
        format!(
            "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\""
        )
    };
    let metrics = text("/metrics").await;
    for wanted in [
        format!("apiserver_request_total{{code=\"201\",{}}} ", labels("POST", "resource")),
        format!("apiserver_request_total{{code=\"404\",{}}} ", labels("GET", "resource")),
        format!("apiserver_request_duration_seconds_bucket{{{},le=\"0.005\"}} ", labels("LIST", "namespace")),
        "apiserver_resource_objects{group=\"\",resource=\"configmaps\"} ".into(),
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} ".into(),
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"admit\"} ".into(),
        "etcd_request_duration_seconds_count{group=\"\",operation=\"create\",resource=\"configmaps\"} ".into(),
        "authentication_attempts{result=\"success\"} ".into(),
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"LimitRanger\",operation=\"CREATE\",rejected=\"false\",type=\"validate\"} ".into(),
        "apiserver_authorization_decisions_total{decision=\"allowed\",name=\"rbac\",type=\"RBAC\"} ".into(),
        "apiserver_cache_list_total{group=\"\",index=\"\",resource=\"configmaps\"} ".into(),
        "apiserver_client_certificate_expiration_seconds_bucket{le=\"0\"} 0".into(),
        "apiserver_flowcontrol_request_execution_seconds_count{flow_schema=\"exempt\",priority_level=\"exempt\",type=\"regular\"} ".into(),
        "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} ".into(),
        "kube_apiserver_clusterip_allocator_available_ips{cidr=\"".into(),
        "process_cpu_seconds_total ".into(),
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(&wanted)), "{wanted}\n{metrics}");
    }
    // Plugins that do not look at creations are not timed for them.
    assert!(!metrics.contains("{name=\"CertificateSigning\",operation=\"CREATE\""), "{metrics}");
    assert!(text("/metrics/slis").await.contains("kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1\n"));
    assert!(text("/readyz?verbose&exclude=nope").await.contains("no matches for \"nope\"\nreadyz check passed\n"));
    assert_eq!(text("/livez/poststarthook/rbac/bootstrap-roles").await, "ok");
    let nobody = connect(&world, Credential::None);
    assert_eq!(nobody.raw_get("/metrics").await.unwrap_err().code, 403);
    world.stop().await;
}

/// A connection of the administrator's.
pub type Stream = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

/// Opens one for a protocol.
pub async fn open(world: &World, protocol: &str) -> Stream {
    let pair = world.pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
    let mut config = pki::client_config(world.pki.server_ca.certificate_pem(), Some(&pair)).unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(world.server.address()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    connector.connect(name, stream).await.unwrap()
}

/// A request over a connection of its own, whose reply nobody reads.
pub async fn ask(world: &World, request: &str) -> Stream {
    let mut stream = open(world, "http/1.1").await;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_its_write() {
    let world = World::new().await;
    let body = map_of("left", "1").to_string();
    let head = format!(
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = ask(&world, &head).await;
    // The server asks for the body once the request is being handled; with nothing unread the end is a clean one.
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        reply.push(stream.read_u8().await.unwrap());
    }
    assert!(reply.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&reply));
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    drop(stream);
    let written = async {
        while world.client.get(&config_map("left")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.expect("the write goes on");
    world.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::new().await;
    let request = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = ask(&world, request).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..64 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut reply = vec![0; 4096];
    let count = stream.read(&mut reply).await.unwrap_or(0);
    let reply = String::from_utf8_lossy(&reply[..count]).into_owned();
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    world.stop().await;
}

#[tokio::test]
async fn a_watch_over_a_websocket() {
    let world = World::new().await;
    world.client.create(&Resource::collection(&config_maps(), Some("default")), &map_of("a", "1")).await.unwrap();
    let request = "GET /api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut stream = ask(&world, request).await;
    let mut all = Vec::new();
    let close = b"\x88\x02\x03\xe8";
    while !all.ends_with(close) {
        assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0, "{}", String::from_utf8_lossy(&all));
    }
    let ends = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&all[..ends]);
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    // A text of more than 125 bytes: a length of two bytes follows.
    assert_eq!(all[ends..ends + 2], [0x81, 126]);
    let event: serde_json::Value = serde_json::from_slice(&all[ends + 4..all.len() - close.len()]).unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
    world.stop().await;
}
