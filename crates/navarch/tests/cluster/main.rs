//! A whole cluster in a network namespace of its own: the binary that users run, an image of Debian's static busybox, and the API
//! over HTTPS. Needs root.

#![allow(missing_docs, clippy::unwrap_used)]

mod harness;
mod pull;
mod reboot;
mod services;
mod streams;

use client::{DeleteOptions, Resource};
use object::Gvr;
use serde_json::{Value, json};

use harness::{Cluster, all_pods, is_ready, pod, pods, until, with_cluster};

async fn play(cluster: &mut Cluster) {
    let client = cluster.ready_client().await;
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "main", "image": "busybox:1", "command": ["sh", "-c", "echo hello from $HOSTNAME; exec sleep 1000"]}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    let deployments = Gvr::new("apps", "v1", "deployments");
    client.create(&Resource::collection(&deployments, Some("default")), &deployment).await.unwrap();
    let running = until("two pods are ready", async || {
        all_pods(&client).await.filter(|p| p.len() == 2 && p.iter().all(is_ready))
    })
    .await;
    let name = running[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let log = client.raw_get(&format!("/api/v1/namespaces/default/pods/{name}/log")).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&log), format!("hello from {name}\n"));

    let containers = |pods: &[Value]| {
        pods.iter().map(|p| p["status"]["containerStatuses"][0]["containerID"].clone()).collect::<Vec<_>>()
    };
    cluster.restart();
    let client = cluster.client().await;
    let after = until("the pods are ready under a new server", async || {
        let values = all_pods(&client).await?;
        (values.len() == 2 && values.iter().all(is_ready)).then_some(values)
    })
    .await;
    assert_eq!(containers(&after), containers(&running), "the same containers as before");

    client.delete(&Resource::object(&pods(), Some("default"), &name), &DeleteOptions::default()).await.unwrap();
    until("the deleted pod is gone", async || pod(&client, &name).await.is_none().then_some(())).await;
    let at = Resource::object(&deployments, Some("default"), "web");
    client.delete(&at, &DeleteOptions::default()).await.unwrap();
    until("all pods are gone", async || all_pods(&client).await?.is_empty().then_some(())).await;
}

#[test]
fn pods_run_survive_the_server_and_go() {
    with_cluster("main", play);
}
