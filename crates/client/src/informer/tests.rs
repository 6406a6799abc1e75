use object::Gvr;
use serde_json::json;

use super::*;
use crate::testing::FakeServer;

fn config_map(name: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns"}})
}

struct Following {
    server: FakeServer,
    lister: Lister,
    changes: mpsc::Receiver<Change>,
    tasks: base::Tasks,
}

async fn follow(names: &[&str]) -> Following {
    let server = FakeServer::new();
    for name in names {
        server.seed(config_map(name));
    }
    let at = Resource::collection(&Gvr::new("", "v1", "configmaps"), None);
    let mut informer = Informer::new(server.client("test"), at, ListOptions::default());
    let (lister, changes, mut synced) = (informer.lister(), informer.subscribe(), informer.synced());
    let mut tasks = base::Tasks::new(&CancellationToken::new());
    let token = tasks.token().clone();
    tasks.spawn("informer", informer.run(token));
    synced.wait_for(|synced| *synced).await.unwrap();
    Following { server, lister, changes, tasks }
}

fn print(change: &Change) -> String {
    match change {
        Change::Applied { old: None, new } => format!("+{}", new.head.name),
        Change::Applied { new, .. } => format!("~{}", new.head.name),
        Change::Deleted(last) => format!("-{}", last.head.name),
    }
}

#[tokio::test]
async fn first_list_then_changes_in_order() {
    let mut f = follow(&["a"]).await;
    assert_eq!(print(&f.changes.recv().await.unwrap()), "+a");
    let gvr = Gvr::new("", "v1", "configmaps");
    f.server.seed(config_map("b"));
    f.server.modify(&gvr, "ns", "a", |map| map["data"] = json!({"k": "v"}));
    f.server.remove(&gvr, "ns", "b");
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(print(&f.changes.recv().await.unwrap()));
    }
    assert_eq!(seen, ["+b", "~a", "-b"]);
    assert_eq!(f.lister.revision(), f.server.revision());
    f.tasks.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_relists_and_tells_the_difference() {
    let mut f = follow(&["a", "b", "c"]).await;
    for _ in 0..3 {
        f.changes.recv().await.unwrap();
    }
    let gvr = Gvr::new("", "v1", "configmaps");
    f.server.break_watches(true);
    f.server.remove(&gvr, "ns", "a");
    f.server.remove(&gvr, "ns", "b");
    f.server.seed(config_map("b")); // made anew: another uid
    f.server.seed(config_map("d"));
    f.server.expire_history();
    f.server.break_watches(false);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(print(&f.changes.recv().await.unwrap()));
    }
    assert_eq!(seen, ["-a", "-b", "+b", "+d"]);
    f.tasks.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_no_busy_loop() {
    let f = follow(&[]).await;
    f.server.break_watches(true);
    let before = f.server.requests();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = f.server.requests() - before;
    assert!((3..40).contains(&asked), "asked {asked} times in a minute");
    f.tasks.shutdown().await;
}
