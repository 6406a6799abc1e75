//! ResourceQuota and LimitRange.

use client::{Patch, Resource};
use object::Gvr;
use serde_json::{Value, json};

use crate::world::{World, default_account, map_of, pod_of};

/// A quota that has been counted once, as its controller does.
async fn quota(world: &World, hard: Value, used: Value) {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
    world.create(quota).await.unwrap();
    let at = Resource::object(&Gvr::new("", "v1", "resourcequotas"), Some("default"), "q");
    let counted = Patch::Merge(json!({"status": {"hard": hard, "used": used}}));
    world.client.patch(&at.sub("status"), &counted).await.unwrap();
}

#[tokio::test]
async fn no_two_writers_spend_the_same_rest() {
    let world = World::new().await;
    quota(&world, json!({"configmaps": "3"}), json!({"configmaps": "0"})).await;
    let names: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
    let all = futures::future::join_all(names.iter().map(|name| world.create(map_of(name, "x")))).await;
    let (done, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (3, 5));
    let why = refused[0].as_ref().unwrap_err();
    assert!(
        why.code == 403
            && why.message.ends_with(
                "is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=3, limited: configmaps=3"
            ),
        "{why}"
    );
    let at = Resource::object(&Gvr::new("", "v1", "resourcequotas"), Some("default"), "q");
    assert_eq!(world.get(&at).await.unwrap()["status"]["used"], json!({"configmaps": "3"}));
    world.stop().await;
}

#[tokio::test]
async fn pods_must_say_what_they_need() {
    let world = World::new().await;
    default_account(&world).await;
    quota(&world, json!({"cpu": "1", "limits.memory": "1Gi"}), json!({"cpu": "0", "limits.memory": "0"})).await;
    let refused = world.create(pod_of("p", None)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: failed quota: q: must specify cpu for: main; limits.memory for: main"
    );
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m", "memory": "256Mi"}, "defaultRequest": {"cpu": "100m"},
            "min": {"cpu": "50m"}, "max": {"memory": "512Mi"}}]}});
    world.create(range).await.unwrap();
    let made = world.create(pod_of("p", None)).await.unwrap();
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"], json!({"cpu": "500m", "memory": "256Mi"}));
    assert_eq!(resources["requests"]["cpu"], "100m");
    let at = Resource::object(&Gvr::new("", "v1", "resourcequotas"), Some("default"), "q");
    let used = world.get(&at).await.unwrap()["status"]["used"].clone();
    assert_eq!(used, json!({"cpu": "100m", "limits.memory": "256Mi"}));
    let mut greedy = pod_of("g", None);
    greedy["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}});
    let refused = world.create(greedy).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"g\" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum memory usage per Container is 512Mi, but limit is 1Gi]"
    );
    world.stop().await;
}
