//! Grace, finalizers, preconditions, namespaces.

use client::{DeleteOptions, ListOptions, Patch, Propagation, Resource};
use object::Gvr;
use serde_json::json;

use crate::world::{World, config_map, config_maps, default_account, map_of, pod_of, pods};

#[tokio::test]
async fn a_plain_object_goes_at_once() {
    let world = World::new().await;
    world.create(map_of("a", "1")).await.unwrap();
    assert!(world.client.delete(&config_map("a"), &DeleteOptions::default()).await.unwrap().is_none());
    let gone = world.client.delete(&config_map("a"), &DeleteOptions::default()).await.unwrap_err();
    assert_eq!((gone.code, gone.message.as_str()), (404, "configmaps \"a\" not found"));
    world.stop().await;
}

#[tokio::test]
async fn preconditions_hold_a_delete_back() {
    let world = World::new().await;
    world.create(map_of("a", "1")).await.unwrap();
    let other = DeleteOptions { uid: Some("another".into()), ..DeleteOptions::default() };
    let refused = world.client.delete(&config_map("a"), &other).await.unwrap_err();
    assert_eq!(refused.code, 409);
    assert!(
        refused.message.contains("the UID in the precondition (another) does not match the UID in record ("),
        "{refused}"
    );
    let old = DeleteOptions { resource_version: Some(1), ..DeleteOptions::default() };
    assert_eq!(world.client.delete(&config_map("a"), &old).await.unwrap_err().code, 409);
    world.stop().await;
}

#[tokio::test]
async fn the_last_finalizer_lets_an_object_go() {
    let world = World::new().await;
    let mut map = map_of("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create(map).await.unwrap();
    let kept = world.client.delete(&config_map("a"), &DeleteOptions::default()).await.unwrap();
    assert!(kept.is_some_and(|o| o.head.is_terminating()));
    assert!(world.client.get(&config_map("a")).await.unwrap().head.is_terminating());
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.client.patch(&config_map("a"), &release).await.unwrap();
    assert!(world.client.get(&config_map("a")).await.unwrap_err().is_not_found());
    // The name is free again.
    world.create(map_of("a", "2")).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn propagation_becomes_a_finalizer() {
    let world = World::new().await;
    for (name, policy, finalizer) in
        [("f", Propagation::Foreground, "foregroundDeletion"), ("o", Propagation::Orphan, "orphan")]
    {
        world.create(map_of(name, "1")).await.unwrap();
        let options = DeleteOptions { propagation: Some(policy), ..DeleteOptions::default() };
        let kept = world.client.delete(&config_map(name), &options).await.unwrap().unwrap();
        assert_eq!(kept.value().unwrap()["metadata"]["finalizers"], json!([finalizer]));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_running_pod_waits_for_its_kubelet() {
    let world = World::new().await;
    default_account(&world).await;
    let at = |name: &str| Resource::object(&pods(), Some("default"), name);
    world.create(pod_of("waiting", None)).await.unwrap();
    assert!(world.client.delete(&at("waiting"), &DeleteOptions::default()).await.unwrap().is_none());

    world.create(pod_of("running", Some("n1"))).await.unwrap();
    let kept = world.client.delete(&at("running"), &DeleteOptions::default()).await.unwrap().unwrap();
    let metadata = kept.value().unwrap()["metadata"].clone();
    assert_eq!(metadata["deletionGracePeriodSeconds"], 30);
    assert!(metadata["deletionTimestamp"].is_string());
    let again = world.client.delete(&at("running"), &DeleteOptions::default()).await.unwrap().unwrap();
    assert_eq!(again.head.resource_version, kept.head.resource_version, "a second delete changes nothing");
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    assert!(world.client.delete(&at("running"), &now).await.unwrap().is_none());
    assert!(world.client.get(&at("running")).await.unwrap_err().is_not_found());
    world.stop().await;
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_labels() {
    let world = World::new().await;
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        world.create(map_of(name, label)).await.unwrap();
    }
    let selection = ListOptions { labels: object::LabelSelector::parse("app=x").unwrap(), ..ListOptions::default() };
    let all = Resource::collection(&config_maps(), Some("default"));
    world.client.delete_collection(&all, &DeleteOptions::default(), &selection).await.unwrap();
    let left = world.client.list(&all, &ListOptions::default()).await.unwrap();
    let names: Vec<&str> = left.items.iter().map(|o| o.head.name.as_str()).collect();
    assert_eq!(names, ["c"]);
    world.stop().await;
}

#[tokio::test]
async fn a_namespace_ends_when_it_is_finalized() {
    let world = World::new().await;
    let at = Resource::object(&Gvr::new("", "v1", "namespaces"), None, "team");
    let made =
        world.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await.unwrap();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "team");
    world.client.delete(&at, &DeleteOptions::default()).await.unwrap();
    let mut ending = world.get(&at).await.unwrap();
    assert_eq!(ending["status"]["phase"], "Terminating");
    let inside = Resource::collection(&config_maps(), Some("team"));
    let refused = world.client.create(&inside, &map_of("late", "1")).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            403,
            "configmaps \"late\" is forbidden: unable to create new content in namespace team because it is being terminated"
        )
    );
    ending["spec"]["finalizers"] = json!([]);
    world.client.update(&at.clone().sub("finalize"), &ending).await.unwrap();
    assert!(world.client.get(&at).await.unwrap_err().is_not_found());
    world.stop().await;
}

#[tokio::test]
async fn the_namespace_of_the_leases_comes_back() {
    let world = World::new().await;
    let at = Resource::object(&Gvr::new("", "v1", "namespaces"), None, "kube-node-lease");
    let first = world.get(&at).await.unwrap();
    world.client.delete(&at, &DeleteOptions::default()).await.unwrap();
    let mut ending = world.get(&at).await.unwrap();
    ending["spec"]["finalizers"] = json!([]);
    world.client.update(&at.clone().sub("finalize"), &ending).await.unwrap();
    let back = async {
        loop {
            match world.get(&at).await {
                Ok(found) if found["metadata"]["uid"] != first["metadata"]["uid"] => break,
                _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), back).await.expect("it is made again");
    world.stop().await;
}

#[tokio::test]
async fn an_eviction_respects_the_budget() {
    let world = World::new().await;
    default_account(&world).await;
    let mut pod = pod_of("p", Some("n1"));
    pod["metadata"]["labels"] = json!({"app": "db"});
    world.create(pod).await.unwrap();
    world
        .create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "db"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "db"}}}}))
        .await
        .unwrap();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let at = Resource::object(&pods(), Some("default"), "p");
    let mut running = world.get(&at).await.unwrap();
    running["status"]["phase"] = json!("Running");
    world.client.update(&at.clone().sub("status"), &running).await.unwrap();
    let budget = Resource::object(&Gvr::new("policy", "v1", "poddisruptionbudgets"), Some("default"), "db");
    let at = at.sub("eviction");
    let refused = world.client.create(&at, &eviction).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    );
    let mut generous = world.get(&budget).await.unwrap();
    generous["status"] = json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 1, "desiredHealthy": 0, "expectedPods": 1});
    world.client.update(&budget.clone().sub("status"), &generous).await.unwrap();
    world.client.create(&at, &eviction).await.unwrap();
    let taken = &world.get(&budget).await.unwrap()["status"];
    assert_eq!(taken["disruptionsAllowed"], 0, "it is taken from the budget at once");
    assert!(taken["disruptedPods"]["p"].is_string());
    let evicted = world.get(&Resource::object(&pods(), Some("default"), "p")).await.unwrap();
    let conditions = evicted["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "DisruptionTarget" && c["reason"] == "EvictionByEvictionAPI"));
    world.stop().await;
}
