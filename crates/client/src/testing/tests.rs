use super::*;
use crate::{DeleteOptions, ListOptions, Patch, Propagation};

fn config_maps() -> Gvr {
    Gvr::new("", "v1", "configmaps")
}

fn at(name: &str) -> Resource {
    Resource::object(&config_maps(), Some("ns"), name)
}

#[tokio::test]
async fn writes_conflict_and_count_generations() {
    let server = FakeServer::new();
    let client = server.client("me");
    let gvr = Gvr::new("apps", "v1", "deployments");
    let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generateName": "d-"},
        "spec": {"replicas": 1}, "status": {"replicas": 9}});
    let made = client.create(&Resource::collection(&gvr, Some("ns")), &body).await.unwrap();
    let at = Resource::object(&gvr, Some("ns"), &made.head.name);
    let mut value = made.value().unwrap();
    assert!(value.get("status").is_none());
    value["spec"]["replicas"] = json!(2);
    let second = client.update(&at, &value).await.unwrap();
    assert_eq!(second.head.generation, 2);
    assert!(client.update(&at, &value).await.unwrap_err().is_conflict());
    let patch = Patch::Merge(json!({"status": {"replicas": 2}, "spec": {"replicas": 7}}));
    let third = client.patch(&at.clone().sub("status"), &patch).await.unwrap().value().unwrap();
    assert_eq!((&third["spec"]["replicas"], &third["status"]["replicas"]), (&json!(2), &json!(2)));
    let stranger = Patch::Merge(json!({"metadata": {"uid": "other", "labels": {"a": "b"}}}));
    assert!(client.patch(&at, &stranger).await.unwrap_err().is_conflict());
    let again = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": made.head.name}});
    let twice = client.create(&Resource::collection(&gvr, Some("ns")), &again).await;
    assert!(twice.unwrap_err().is_already_exists());
}

#[tokio::test]
async fn finalizers_keep_an_object_until_they_are_gone() {
    let server = FakeServer::new();
    let client = server.client("me");
    server.seed(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}}));
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..Default::default() };
    let kept = client.delete(&at("c"), &foreground).await.unwrap().unwrap();
    assert_eq!(kept.head.finalizers, ["foregroundDeletion"]);
    client.patch(&at("c"), &Patch::Merge(json!({"metadata": {"finalizers": null}}))).await.unwrap();
    assert!(client.get(&at("c")).await.unwrap_err().is_not_found());
    assert!(client.delete(&at("c"), &DeleteOptions::default()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_running_pod_gets_its_grace() {
    let server = FakeServer::new();
    let client = server.client("me");
    let gvr = Gvr::new("", "v1", "pods");
    server.seed(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}, "spec": {"nodeName": "n"}}));
    let at = Resource::object(&gvr, Some("ns"), "p");
    let kept = client.delete(&at, &DeleteOptions::default()).await.unwrap().unwrap();
    assert!(kept.head.is_terminating());
    let now = DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
    assert!(client.delete(&at, &now).await.unwrap().is_none());
}

#[tokio::test]
async fn watches_resume_select_and_expire() {
    use futures::StreamExt;
    let server = FakeServer::new();
    let client = server.client("me");
    let from = server.revision();
    let labelled = |name: &str, app: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns", "labels": {"app": app}}});
    server.seed(labelled("a", "x"));
    server.seed(labelled("b", "y"));
    server.seed(labelled("a", "y"));
    let options = ListOptions {
        labels: object::LabelSelector::parse("app=x").unwrap(),
        resource_version: Some(from),
        ..Default::default()
    };
    let collection = Resource::collection(&config_maps(), None);
    let mut events = client.watch(&collection, &options).await.unwrap();
    assert!(matches!(events.next().await.unwrap().unwrap(), WatchEvent::Added(o) if o.head.name == "a"));
    assert!(matches!(events.next().await.unwrap().unwrap(), WatchEvent::Deleted(o) if o.head.name == "a"));
    server.expire_history();
    let mut late = client.watch(&collection, &options).await.unwrap();
    assert!(late.next().await.unwrap().unwrap_err().is_expired());
    assert!(late.next().await.is_none());
}

#[test]
fn strategic_merges_lists_by_key() {
    let mut target = json!({"c": [{"name": "a", "image": "1"}, {"name": "b"}], "f": ["x", "y"]});
    strategic_merge(
        &mut target,
        &json!({"c": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}, {"name": "d"}],
            "$deleteFromPrimitiveList/f": ["x"]}),
    );
    assert_eq!(target, json!({"c": [{"name": "a", "image": "2"}, {"name": "d"}], "f": ["y"]}));
}
