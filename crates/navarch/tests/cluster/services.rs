//! Services on the node's real network: probes decide who gets traffic; names, node ports and host ports.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use client::{Client, DeleteOptions, Resource};
use object::Gvr;
use serde_json::{Value, json};

use crate::harness::{Cluster, NODE, pods, until, with_cluster};

const PATIENCE: Duration = Duration::from_secs(2);

/// The page at an address; an error's kind in words when there is none.
fn page(address: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim().to_owned())
    };
    ask().unwrap_or_else(|error| error.kind().to_string())
}

/// Who answers in a number of tries.
fn answers(address: &str) -> BTreeSet<String> {
    (0..20).map(|_| page(address)).collect()
}

/// The address of a name, asked of the cluster's DNS.
fn lookup(name: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send_to(&query, "10.43.0.10:53").unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    // One record: its address is the end of the message.
    (answer[7] == 1).then(|| <[u8; 4]>::try_from(&answer[length - 4..length]).unwrap().into())
}

async fn make(client: &Client, resource: &str, body: Value) -> Value {
    let at = Resource::collection(&Gvr::new("", "v1", resource), Some("default"));
    client.create(&at, &body).await.unwrap().value().unwrap()
}

async fn play(cluster: &mut Cluster) {
    let client = cluster.ready_client().await;
    let state = cluster.dir.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": "NodePort",
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]}});
    let service = make(&client, "services", service).await;
    let virtual_ip = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let address = format!("{virtual_ip}:80");
    until("a service without endpoints refuses", async || (page(&address) == "connection refused").then_some(())).await;

    for (name, host_port) in [("a", 8081), ("b", 8082)] {
        let serve = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";
        let spec = json!({"terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "state", "hostPath": {"path": state, "type": "Directory"}}],
            "containers": [{"name": "main", "image": "busybox:1", "command": ["sh", "-c", serve],
                "ports": [{"containerPort": 8080, "hostPort": host_port}],
                "volumeMounts": [{"name": "state", "mountPath": "/state"}],
                "readinessProbe": {"exec": {"command": ["cat", format!("/state/{name}")]}, "periodSeconds": 1, "failureThreshold": 1}}]});
        let metadata = json!({"name": name, "labels": {"app": "web"}});
        make(&client, "pods", json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await;
    }
    let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    let only = |name: &str| BTreeSet::from([name.to_owned()]);
    until("host ports lead to their pods", async || {
        (page(&format!("{NODE}:8081")) == "a" && page("127.0.0.1:8082") == "b").then_some(())
    })
    .await;
    assert_eq!(answers(&address), only("connection refused"), "pods that are not ready get nothing");
    std::fs::write(state.join("a"), "").unwrap();
    until("the ready pod gets all", async || (answers(&address) == only("a")).then_some(())).await;
    std::fs::write(state.join("b"), "").unwrap();
    until("both get some", async || (answers(&address) == both).then_some(())).await;
    assert_eq!(answers(&format!("{NODE}:30080")), both);
    assert_eq!(lookup("web.default.svc.cluster.local"), virtual_ip.parse().ok());
    assert_eq!(lookup("no.default.svc.cluster.local"), None);

    std::fs::remove_file(state.join("a")).unwrap();
    until("a pod that is not ready any more gets nothing", async || (answers(&address) == only("b")).then_some(()))
        .await;
    client.delete(&Resource::object(&pods(), Some("default"), "b"), &DeleteOptions::default()).await.unwrap();
    until("without endpoints it refuses again", async || {
        (answers(&address) == only("connection refused")).then_some(())
    })
    .await;
}

#[test]
fn traffic_follows_readiness() {
    with_cluster("services", play);
}
