//! Against the server in memory.

use client::testing::FakeServer;
use object::Gvr;
use serde_json::{Value, json};

use super::*;

struct Running {
    server: FakeServer,
    stop: CancellationToken,
    tasks: Tasks,
}

fn start() -> Running {
    let server = FakeServer::new();
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(&stop);
    tasks.spawn("gc", run(server.client("informers"), server.client("gc"), stop.clone()));
    Running { server, stop, tasks }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.tasks.shutdown().await;
    }
    fn exists(&self, name: &str) -> bool {
        self.server.get(&maps(), "ns", name).is_some()
    }
}

fn maps() -> Gvr {
    Gvr::new("", "v1", "configmaps")
}

fn map(name: &str, owners: &[&Object]) -> Value {
    let owners: Vec<Value> = owners
        .iter()
        .map(|o| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": o.head.name, "uid": o.head.uid, "blockOwnerDeletion": true}))
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns", "ownerReferences": owners}})
}

async fn delete(server: &FakeServer, name: &str, propagation: Propagation) {
    let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
    server.client("user").delete(&Resource::object(&maps(), Some("ns"), name), &options).await.unwrap();
}

#[tokio::test]
async fn a_tree_goes_in_the_background_and_strangers_stay() {
    let r = start();
    let root = r.server.seed(map("root", &[]));
    let child = r.server.seed(map("child", &[&root]));
    r.server.seed(map("grandchild", &[&child]));
    let other = r.server.seed(map("other", &[]));
    r.server.seed(map("shared", &[&root, &other]));
    delete(&r.server, "root", Propagation::Background).await;
    r.server
        .until(|| !r.exists("grandchild") && r.server.get(&maps(), "ns", "shared").unwrap().head.owners.len() == 1)
        .await;
    assert!(!r.exists("child") && r.exists("other") && r.exists("shared"));
    r.end().await;
}

#[tokio::test]
async fn foreground_deletes_the_dependents_first() {
    let r = start();
    let root = r.server.seed(map("root", &[]));
    let child = r.server.seed(map("child", &[&root]));
    r.server.seed(map("grandchild", &[&child]));
    let from = r.server.revision();
    delete(&r.server, "root", Propagation::Foreground).await;
    r.server.until(|| !r.exists("root")).await;
    assert!(!r.exists("child") && !r.exists("grandchild"));
    let mut gone = Vec::new();
    use futures::StreamExt;
    let options = ListOptions { resource_version: Some(from), ..ListOptions::default() };
    let mut events = r.server.client("user").watch(&Resource::collection(&maps(), None), &options).await.unwrap();
    while gone.len() < 3 {
        if let client::WatchEvent::Deleted(object) = events.next().await.unwrap().unwrap() {
            gone.push(object.head.name.clone());
        }
    }
    assert_eq!(gone, ["grandchild", "child", "root"]);
    r.end().await;
}

#[tokio::test]
async fn orphans_lose_their_owner_and_stay() {
    let r = start();
    let root = r.server.seed(map("root", &[]));
    r.server.seed(map("child", &[&root]));
    // The collector must know of the child before the owner goes.
    let graph_knows = r.server.clone();
    delete(&r.server, "root", Propagation::Orphan).await;
    r.server.until(|| graph_knows.get(&maps(), "ns", "root").is_none()).await;
    let child = r.server.get(&maps(), "ns", "child").unwrap();
    assert!(child.head.owners.is_empty() && !child.head.is_terminating());
    r.end().await;
}

#[tokio::test]
async fn an_owner_that_never_was_is_absent_and_a_wrong_uid_too() {
    let r = start();
    let real = r.server.seed(map("real", &[]));
    let mut impostor = map("wrong-uid", &[&real]);
    impostor["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    r.server.seed(impostor);
    r.server.seed(map("kept", &[&real]));
    r.server.until(|| !r.exists("wrong-uid")).await;
    assert!(r.exists("kept") && r.exists("real"));
    r.end().await;
}

#[tokio::test]
async fn an_owner_of_an_unknown_kind_is_not_absent() {
    let r = start();
    let mut odd = map("odd", &[]);
    odd["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "t"}]);
    r.server.seed(odd);
    let root = r.server.seed(map("root", &[]));
    r.server.seed(map("child", &[&root]));
    delete(&r.server, "root", Propagation::Background).await;
    r.server.until(|| !r.exists("child")).await;
    assert!(r.exists("odd"));
    r.end().await;
}
