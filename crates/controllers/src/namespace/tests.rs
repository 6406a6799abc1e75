//! Against the server in memory.

use client::testing::FakeServer;
use client::{Patch, Resource};
use serde_json::Value;

use super::*;

fn gvr(group: &str, resource: &str) -> Gvr {
    Gvr::new(group, "v1", resource)
}

async fn namespace(server: &FakeServer, name: &str) {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    server.client("user").create(&Resource::collection(&NAMESPACES.gvr(), None), &body).await.unwrap();
}

fn seed(server: &FakeServer, kind: &str, api_version: &str, namespace: &str, name: &str, more: Value) {
    let mut body = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}});
    object::patch::merge(&mut body, &more);
    server.seed(body);
}

struct Running {
    server: FakeServer,
    stop: CancellationToken,
    tasks: Tasks,
}

fn start() -> Running {
    let server = FakeServer::new();
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(&stop);
    tasks.spawn("namespaces", run(server.client("informers"), server.client("namespace-controller"), stop.clone()));
    Running { server, stop, tasks }
}

#[tokio::test]
async fn everything_goes_and_other_namespaces_stay() {
    let r = start();
    for name in ["dev", "prod"] {
        namespace(&r.server, name).await;
        seed(&r.server, "ConfigMap", "v1", name, "c", json!({}));
        seed(&r.server, "Deployment", "apps/v1", name, "d", json!({}));
        seed(&r.server, "Lease", "coordination.k8s.io/v1", name, "l", json!({}));
    }
    let at = Resource::object(&NAMESPACES.gvr(), None, "dev");
    r.server.client("user").delete(&at, &DeleteOptions::default()).await.unwrap();
    r.server.until(|| r.server.get(&NAMESPACES.gvr(), "", "dev").is_none()).await;
    for (group, resource) in [("", "configmaps"), ("apps", "deployments"), ("coordination.k8s.io", "leases")] {
        let left: Vec<_> = r.server.list(&gvr(group, resource)).iter().map(|o| o.head.namespace.clone()).collect();
        assert_eq!(left, ["prod"], "{resource}");
    }
    assert!(r.server.get(&NAMESPACES.gvr(), "", "prod").is_some());
    r.stop.cancel();
    r.tasks.shutdown().await;
}

#[tokio::test]
async fn pods_go_first_and_conditions_say_what_is_in_the_way() {
    let r = start();
    namespace(&r.server, "dev").await;
    seed(&r.server, "Pod", "v1", "dev", "p", json!({"spec": {"nodeName": "n"}}));
    seed(&r.server, "ConfigMap", "v1", "dev", "c", json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    let at = Resource::object(&NAMESPACES.gvr(), None, "dev");
    r.server.client("user").delete(&at, &DeleteOptions::default()).await.unwrap();
    let message = |kind: &str| {
        let value = r.server.value(&NAMESPACES.gvr(), "", "dev");
        let conditions: Vec<Value> = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|c| c["type"] == kind && c["status"] == "True");
        found.map(|c| c["message"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    r.server
        .until(|| {
            message("NamespaceContentRemaining") == "Some resources are remaining: pods. has 1 resource instances"
        })
        .await;
    assert!(!r.server.get(&gvr("", "configmaps"), "dev", "c").unwrap().head.is_terminating(), "pods go first");
    // The kubelet is done with the pod.
    r.server.remove(&gvr("", "pods"), "dev", "p");
    let held = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
    r.server.until(|| message("NamespaceFinalizersRemaining") == held).await;
    let map = Resource::object(&gvr("", "configmaps"), Some("dev"), "c");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    r.server.client("user").patch(&map, &free).await.unwrap();
    r.server.until(|| r.server.get(&NAMESPACES.gvr(), "", "dev").is_none()).await;
    r.stop.cancel();
    r.tasks.shutdown().await;
}
