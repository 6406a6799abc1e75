//! What a loss of everything but the disk leaves: the same pods, started once more, with what they had written.

use client::Resource;
use serde_json::json;

use crate::harness::{Cluster, is_ready, pod, pods, processes, until, with_cluster};

async fn play(cluster: &mut Cluster) {
    let client = cluster.ready_client().await;
    // Seconds that nobody else sleeps: what outlives a shim is found by it.
    let seconds = 1_000_000 + std::process::id();
    let command = format!("echo start >> /data/starts; wc -l < /data/starts; exec sleep {seconds}");
    let spec = json!({"terminationGracePeriodSeconds": 1, "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [{"name": "main", "image": "busybox:1", "command": ["sh", "-c", command],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]});
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "keep"}, "spec": spec});
    client.create(&Resource::collection(&pods(), Some("default")), &body).await.unwrap();
    let before = until("the pod is ready", async || pod(&client, "keep").await.filter(is_ready)).await;
    let running = || -> Vec<i32> {
        let sleeps = processes().into_iter().filter(|(_, c)| c.starts_with(&format!("sleep {seconds}")));
        sleeps.map(|(pid, _)| pid).collect()
    };
    let first = until("it sleeps", async || running().first().copied()).await;

    cluster.lose_everything();
    let client = cluster.client().await;
    let after = until("the pod was started again", async || {
        let pod = pod(&client, "keep").await?;
        (pod["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(&pod)).then_some(pod)
    })
    .await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "the same pod");
    let ended = &after["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(ended["containerID"], before["status"]["containerStatuses"][0]["containerID"]);
    until("it sleeps again", async || running().iter().any(|pid| *pid != first).then_some(())).await;
    let log = client.raw_get("/api/v1/namespaces/default/pods/keep/log").await.unwrap();
    assert_eq!(String::from_utf8_lossy(&log).trim(), "2", "its volume was kept");
    assert!(!running().contains(&first), "what outlived its shim does not run beside its successor");
}

#[test]
fn a_cluster_comes_back_from_its_disk() {
    with_cluster("reboot", play);
}
