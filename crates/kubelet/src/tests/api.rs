//! The node's object and the kubelet's API.

use super::*;

#[tokio::test]
async fn the_node_registers_and_becomes_ready() {
    let node = Node::start().await;
    let nodes = Gvr::new("", "v1", "nodes");
    let status = || node.api.value(&nodes, "", "n1")["status"].clone();
    node.api.until(|| condition(&status(), "Ready") == "True").await;
    let value = node.api.value(&nodes, "", "n1");
    assert_eq!(value["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(value["status"]["nodeInfo"]["containerRuntimeVersion"], "navarch://0.1.0");
    assert_eq!(value["status"]["addresses"][0], json!({"type": "InternalIP", "address": "10.0.0.1"}));
    let leases = Gvr::new("coordination.k8s.io", "v1", "leases");
    node.api.until(|| node.api.get(&leases, "kube-node-lease", "n1").is_some()).await;
    node.until_event("n1", "NodeReady: Node n1 status is now: NodeReady").await;
    node.api.modify(&nodes, "", "n1", |n| n["spec"]["podCIDR"] = json!("10.42.0.0/24"));
}

#[tokio::test]
async fn a_node_without_network_is_not_ready() {
    let node = Node::start().await;
    node.runtime.set_network_ready(false);
    let node = node.restart().await;
    let nodes = Gvr::new("", "v1", "nodes");
    let conditions = || node.api.value(&nodes, "", "n1")["status"].clone();
    node.api.until(|| condition(&conditions(), "Ready") == "False").await;
    node.runtime.set_network_ready(true);
    node.api.until(|| condition(&conditions(), "Ready") == "True").await;
}

#[tokio::test]
async fn logs_and_pods_are_served() {
    let node = Node::start().await;
    node.create("web", one(json!({})));
    node.until_running("web").await;
    assert_eq!(node.get("/containerLogs/ns/web/c").await, (200, "hello from c\n".into()));
    assert_eq!(node.get("/containerLogs/ns/web/c?tailLines=0").await, (200, String::new()));
    let stamped = node.get("/containerLogs/ns/web/c?timestamps=true").await;
    assert_eq!(stamped.1, "2026-01-01T00:00:00Z hello from c\n");
    let previous = node.get("/containerLogs/ns/web/c?previous=true").await;
    assert_eq!(previous, (400, "previous terminated container \"c\" in pod \"web\" not found".into()));
    assert_eq!(node.get("/containerLogs/ns/none/c").await.0, 404);
    assert_eq!(
        node.get("/containerLogs/ns/web/none").await,
        (404, "container \"none\" not found in pod \"web\"".into())
    );
    let pods: Value = serde_json::from_str(&node.get("/pods").await.1).unwrap();
    assert_eq!(pods["items"][0]["status"]["phase"], "Running");
    assert_eq!(node.get("/healthz").await, (200, "ok".into()));
    assert!(node.get("/metrics").await.1.contains("kubelet_running_pods 1"));
    assert!(node.get("/metrics/resource").await.1.contains("node_memory_working_set_bytes"));
    assert!(node.get("/metrics/resource").await.1.contains("\nnode_cpu_usage_seconds_total "));
    let summary = node.get("/stats/summary").await.1;
    assert!(summary.contains("\"nodeName\":\"n1\"") && summary.contains("\"usageNanoCores\":"), "{summary}");
    assert_eq!(node.get("/exec/ns/web/c?command=ls&output=1").await.0, 501);
    assert_eq!(node.get("/exec/ns/web/c?output=1").await.0, 400);
    assert_eq!(node.get("/exec/ns/web/none?command=ls&output=1").await.0, 500);
    assert_eq!(node.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn a_followed_log_ends_with_its_container() {
    let node = Node::start().await;
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("Never");
    node.create("web", spec);
    node.until_running("web").await;
    let follow = node.get("/containerLogs/ns/web/c?follow=true");
    let end = async {
        node.runtime.exit("c", 0);
    };
    let ((code, text), ()) = tokio::join!(follow, end);
    assert_eq!((code, text.as_str()), (200, "hello from c\n"));
}

#[tokio::test]
async fn strangers_are_refused() {
    use http_body_util::{BodyExt, Empty};
    let node = Node::start().await;
    let ask = async |peer: Peer, path: &str| {
        let request = http::Request::builder().uri(path).body(Empty::new().boxed_unsync()).unwrap();
        node.server.handle(&peer, request).await.status().as_u16()
    };
    assert_eq!(ask(Peer::anonymous(), "/pods").await, 401);
    assert_eq!(ask(Peer::anonymous(), "/healthz").await, 200);
    let joe = Peer { user: "joe".into(), groups: vec!["system:authenticated".into()] };
    assert_eq!(ask(joe, "/pods").await, 403);
    let api = Peer { user: "kube-apiserver-kubelet-client".into(), groups: vec![] };
    assert_eq!(ask(api, "/pods").await, 200);
}

#[tokio::test]
async fn https_knows_its_callers() {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::TokioIo;
    let node = Node::start().await;
    let dir = tempfile::tempdir().unwrap();
    let pki = pki::Pki::load_or_create(dir.path()).unwrap();
    let pair = pki.server("kubelet-test", "system:node:n1", &["127.0.0.1".to_owned()]).unwrap();
    let tls = Arc::new(pki::server_config(&pair, pki.client_ca.certificate_pem()).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(crate::server::listen(listener, tls, node.server.clone(), token.clone()));
    let ask = async |shown: Option<pki::Pair>| {
        let mut config = pki::client_config(pki.server_ca.certificate_pem(), shown.as_ref()).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let body = Empty::<bytes::Bytes>::new();
        let request = http::Request::builder().uri("/pods").header("host", "n1").body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    };
    assert_eq!(ask(None).await, 401);
    let stranger = pki.client("stranger", "joe", "users").unwrap();
    assert_eq!(ask(Some(stranger)).await, 403);
    let api = pki.client("api", "kube-apiserver-kubelet-client", "system:masters").unwrap();
    assert_eq!(ask(Some(api)).await, 200);
    token.cancel();
    tasks.join_next().await.unwrap().unwrap();
}
