//! Controllers at work against the server in memory.

use client::testing::FakeServer;
use object::{Gvr, Status};
use serde_json::{Value, json};

use super::*;
use crate::kinds::{DEPLOYMENTS, ENDPOINT_SLICES, NAMESPACES, PODS, REPLICA_SETS, SERVICE_ACCOUNTS};
use crate::{deployment, endpoints, endpointslice, replicaset, service_account};

static WORKLOADS: &[&Controller] = &[&deployment::CONTROLLER, &replicaset::CONTROLLER];
static NETWORK: &[&Controller] = &[&endpoints::CONTROLLER, &endpointslice::CONTROLLER];
static ACCOUNTS: &[&Controller] = &[&service_account::CONTROLLER];

fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}},
    })
}

async fn create(server: &FakeServer, kind: &Kind, body: Value) {
    server.client("user").create(&Resource::collection(&kind.gvr(), Some("ns")), &body).await.unwrap();
}

/// Plays the kubelet: every pod that is not ready becomes so.
fn make_ready(server: &FakeServer) {
    for pod in server.list(&PODS.gvr()) {
        server.modify(&PODS.gvr(), "ns", &pod.head.name, |pod| {
            let address = pod["metadata"]["uid"].as_str().unwrap().rsplit('-').next().unwrap().to_owned();
            let number = u32::from_str_radix(&address, 16).unwrap();
            let ip = format!("10.42.{}.{}", number / 250, number % 250 + 1);
            pod["spec"]["nodeName"] = json!("n1");
            pod["status"] = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        });
    }
}

/// True when the deployment's status says that all is done. Pods that are deleted go at once, as from a fast kubelet.
fn is_done(server: &FakeServer, replicas: i64) -> bool {
    for pod in server.list(&PODS.gvr()).iter().filter(|pod| pod.head.is_terminating()) {
        server.remove(&PODS.gvr(), "ns", &pod.head.name);
    }
    let pods = server.list(&PODS.gvr());
    if pods.iter().any(|pod| pod.value().unwrap()["status"]["phase"] != "Running") {
        make_ready(server);
    }
    let status = server.value(&DEPLOYMENTS.gvr(), "ns", "web")["status"].clone();
    ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|field| status[*field] == replicas)
}

#[tokio::test]
async fn a_deployment_lives() {
    let server = FakeServer::new();
    let tasks = start_for_test(WORKLOADS, &server, Options::default());
    create(&server, &DEPLOYMENTS, deployment(3)).await;
    server.until(|| is_done(&server, 3)).await;
    assert_eq!(server.list(&PODS.gvr()).len(), 3);
    let at = Resource::object(&DEPLOYMENTS.gvr(), Some("ns"), "web");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    let user = server.client("user");
    user.patch(&at, &client::Patch::Strategic(patch)).await.unwrap();
    let images = || -> Vec<String> {
        let image = |pod: &Arc<object::Object>| {
            pod.value().unwrap()["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
        };
        server.list(&PODS.gvr()).iter().map(image).collect()
    };
    server.until(|| is_done(&server, 3) && images() == ["v2", "v2", "v2"]).await;
    assert_eq!(server.list(&REPLICA_SETS.gvr()).len(), 2);
    let revision =
        server.value(&DEPLOYMENTS.gvr(), "ns", "web")["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
            .clone();
    assert_eq!(revision, "2");
    // A pod that is deleted is replaced.
    let victim = server.list(&PODS.gvr())[0].head.name.clone();
    server.remove(&PODS.gvr(), "ns", &victim);
    server.until(|| is_done(&server, 3) && server.list(&PODS.gvr()).len() == 3).await;
    user.patch(&at, &client::Patch::Merge(json!({"spec": {"replicas": 0}}))).await.unwrap();
    server.until(|| is_done(&server, 0) || server.list(&PODS.gvr()).is_empty()).await;
    let events: Vec<String> = {
        server.until(|| server.list(&Gvr::new("", "v1", "events")).len() >= 8).await;
        let text = |e: &Arc<object::Object>| e.value().unwrap()["message"].as_str().unwrap().to_owned();
        server.list(&Gvr::new("", "v1", "events")).iter().map(text).collect()
    };
    assert!(
        events.iter().any(|e| e.starts_with("Scaled up replica set web-") && e.ends_with(" from 0 to 3")),
        "{events:?}"
    );
    assert!(events.iter().any(|e| e.starts_with("Created pod: web-")), "{events:?}");
    tasks.shutdown().await;
}

#[tokio::test]
async fn a_thousand_pods_and_not_one_more() {
    let server = FakeServer::new();
    let tasks = start_for_test(WORKLOADS, &server, Options::default());
    create(&server, &DEPLOYMENTS, deployment(1)).await;
    server.until(|| server.list(&PODS.gvr()).len() == 1).await;
    let at = Resource::object(&DEPLOYMENTS.gvr(), Some("ns"), "web");
    let grow = client::Patch::Merge(json!({"spec": {"replicas": 1000}}));
    server.client("user").patch(&at, &grow).await.unwrap();
    server.until(|| server.value(&DEPLOYMENTS.gvr(), "ns", "web")["status"]["replicas"] == 1000).await;
    assert_eq!(server.list(&PODS.gvr()).len(), 1000);
    tasks.shutdown().await;
}

#[tokio::test]
async fn failures_and_conflicts_are_overcome() {
    let server = FakeServer::new();
    let mut left = 20;
    server.inject(move |request| {
        let write = matches!(request.verb, "create" | "update" | "patch") && request.user != "user";
        (write && left > 0).then(|| {
            left -= 1;
            match left % 3 {
                0 => Status::stale("apps", "replicasets", "x"),
                1 => Status::new(object::Reason::ServiceUnavailable, "try again"),
                _ => Status::forbidden("", "pods", "", "exceeded quota: q"),
            }
        })
    });
    let tasks = start_for_test(WORKLOADS, &server, Options::default());
    create(&server, &DEPLOYMENTS, deployment(5)).await;
    server.until(|| is_done(&server, 5)).await;
    assert_eq!(server.list(&PODS.gvr()).len(), 5);
    let healed = || {
        let sets = server.list(&REPLICA_SETS.gvr());
        let conditions = sets[0].value().unwrap()["status"]["conditions"].as_array().cloned().unwrap_or_default();
        !conditions.iter().any(|c| c["type"] == "ReplicaFailure")
    };
    server.until(healed).await;
    tasks.shutdown().await;
}

#[tokio::test]
async fn slices_follow_pods() {
    let server = FakeServer::new();
    let tasks = start_for_test(NETWORK, &server, Options::default());
    create(
        &server,
        &crate::kinds::SERVICES,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"clusterIP": "10.43.0.2", "selector": {"app": "web"}, "ports": [{"port": 80}]}}),
    )
    .await;
    let addresses = || -> usize {
        let slices = server.list(&ENDPOINT_SLICES.gvr());
        slices.iter().map(|slice| slice.value().unwrap()["endpoints"].as_array().map_or(0, Vec::len)).sum()
    };
    server.until(|| server.list(&ENDPOINT_SLICES.gvr()).len() == 1).await;
    for name in ["a", "b"] {
        server.seed(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}}, "spec": {}}));
    }
    make_ready(&server);
    server.until(|| addresses() == 2 && server.list(&ENDPOINT_SLICES.gvr()).len() == 1).await;
    let endpoints = Gvr::new("", "v1", "endpoints");
    server
        .until(|| server.value(&endpoints, "ns", "s")["subsets"][0]["addresses"].as_array().map_or(0, Vec::len) == 2)
        .await;
    server.remove(&PODS.gvr(), "ns", "a");
    server.until(|| addresses() == 1).await;
    server.remove(&crate::kinds::SERVICES.gvr(), "ns", "s");
    server.until(|| server.list(&endpoints).is_empty()).await;
    tasks.shutdown().await;
}

#[tokio::test]
async fn a_panic_stops_one_key_only() {
    fn panics(namespace: &Arc<object::Object>, world: &World) -> crate::Plan {
        assert_ne!(namespace.head.name, "bad", "a bad namespace");
        (service_account::CONTROLLER.reconcile)(namespace, world)
    }
    static PANICKY: Controller = Controller {
        name: "service-account-controller",
        of: &NAMESPACES,
        owns: &[],
        watches: &[],
        reads: &[&SERVICE_ACCOUNTS],
        workers: 1,
        reconcile: panics,
        gone: crate::controller::nothing,
    };
    static CONTROLLERS: &[&Controller] = &[&PANICKY];
    let server = FakeServer::new();
    for name in ["bad", "good"] {
        server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    let tasks = start_for_test(CONTROLLERS, &server, Options::default());
    server.until(|| server.get(&SERVICE_ACCOUNTS.gvr(), "good", "default").is_some()).await;
    tasks.shutdown().await;
}

#[tokio::test]
async fn each_controller_writes_as_itself() {
    let server = FakeServer::new();
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    server.inject(move |request| {
        if request.verb == "create" {
            drop(said.send(request.user.clone()));
        }
        None
    });
    server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}}));
    let tasks = start_for_test(ACCOUNTS, &server, Options::default());
    assert_eq!(heard.recv().await.unwrap(), "service-account-controller");
    assert!(server.get(&NAMESPACES.gvr(), "", "ns").is_some());
    tasks.shutdown().await;
}

#[test]
fn every_controller_has_its_kinds_followed() {
    let kinds = kinds(CONTROLLERS);
    for controller in CONTROLLERS {
        assert!(kinds.contains_key(controller.of.resource), "{}", controller.name);
        assert!(controller.workers > 0, "{}", controller.name);
    }
}
