//! Create, update, patch.

use client::{Patch, Resource};
use object::{Gvr, Reason};
use serde_json::{Value, json};

use crate::world::{World, config_map, config_maps, default_account, map_of, pod_of};

#[tokio::test]
async fn a_new_object_gets_its_identity() {
    let world = World::new().await;
    let made = world.create(map_of("a", "1")).await.unwrap();
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].as_str().is_some_and(|u| u.len() == 36), "{made}");
    assert!(made["metadata"]["creationTimestamp"].is_string());
    assert!(made["metadata"]["resourceVersion"].as_str().is_some_and(|rv| rv.parse::<u64>().is_ok()));
    assert_eq!(made["metadata"].get("generation"), None, "a ConfigMap has no generation");
    assert_eq!(world.get(&config_map("a")).await.unwrap(), made);

    let again = world.create(map_of("a", "2")).await.unwrap_err();
    assert_eq!((again.code, again.reason), (409, Some(Reason::AlreadyExists)));
    assert_eq!(again.message, "configmaps \"a\" already exists");
    world.stop().await;
}

#[tokio::test]
async fn a_name_is_generated() {
    let world = World::new().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "job-"}});
    let made = world.create(map).await.unwrap();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("job-") && name.len() == 9, "{name}");
    world.stop().await;
}

#[tokio::test]
async fn a_stale_update_is_refused() {
    let world = World::new().await;
    let first = world.create(map_of("a", "1")).await.unwrap();
    let mut second = first.clone();
    second["data"]["key"] = "2".into();
    let stored = world.client.update(&config_map("a"), &second).await.unwrap();
    assert_ne!(stored.head.resource_version.to_string(), first["metadata"]["resourceVersion"].as_str().unwrap());

    let stale = world.client.update(&config_map("a"), &first).await.unwrap_err();
    assert_eq!((stale.code, stale.reason), (409, Some(Reason::Conflict)));
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );

    let mut unversioned = first.clone();
    unversioned["metadata"]["resourceVersion"] = "".into();
    unversioned["metadata"]["uid"] = "somebody-else".into();
    let other = world.client.update(&config_map("a"), &unversioned).await.unwrap_err();
    assert_eq!(other.code, 409, "{other}");
    world.stop().await;
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let world = World::new().await;
    let first = world.create(map_of("a", "1")).await.unwrap();
    let same = world.client.update(&config_map("a"), &first).await.unwrap();
    assert_eq!(same.value().unwrap(), first);
    let patch = Patch::Merge(json!({"data": {"key": "1"}}));
    assert_eq!(world.client.patch(&config_map("a"), &patch).await.unwrap().value().unwrap(), first);
    world.stop().await;
}

#[tokio::test]
async fn patches_of_each_kind() {
    let world = World::new().await;
    world.create(map_of("a", "1")).await.unwrap();
    let data = |patched: std::sync::Arc<object::Object>| patched.value().unwrap()["data"].clone();
    let merge = Patch::Merge(json!({"data": {"key": null, "other": "x"}}));
    assert_eq!(data(world.client.patch(&config_map("a"), &merge).await.unwrap()), json!({"other": "x"}));
    let steps = Patch::Json(
        json!([{"op": "test", "path": "/data/other", "value": "x"}, {"op": "replace", "path": "/data/other", "value": "y"}]),
    );
    assert_eq!(data(world.client.patch(&config_map("a"), &steps).await.unwrap()), json!({"other": "y"}));
    let refused = world.client.patch(&config_map("a"), &steps).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (422, Some(Reason::Invalid)));
    let missing = world.client.patch(&config_map("none"), &merge).await.unwrap_err();
    assert_eq!(missing.message, "configmaps \"none\" not found");
    world.stop().await;
}

#[tokio::test]
async fn concurrent_patches_all_happen() {
    let world = World::new().await;
    world.create(map_of("a", "1")).await.unwrap();
    let patches = (0..4).map(|n| {
        let client = world.client.clone();
        async move {
            let mut data = serde_json::Map::new();
            data.insert(format!("writer{n}"), "was here".into());
            client.patch(&config_map("a"), &Patch::Merge(json!({"data": data}))).await
        }
    });
    for done in futures::future::join_all(patches).await {
        done.unwrap();
    }
    let data = world.get(&config_map("a")).await.unwrap()["data"].clone();
    assert_eq!(data.as_object().map(|d| d.len()), Some(5), "{data}");
    world.stop().await;
}

fn deployment(replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}]}}}})
}

#[tokio::test]
async fn generation_counts_changes_of_the_spec_only() {
    let world = World::new().await;
    let at = Resource::object(&Gvr::new("apps", "v1", "deployments"), Some("default"), "web");
    let made = world.create(deployment(1)).await.unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    let generation = |o: std::sync::Arc<object::Object>| o.value().unwrap()["metadata"]["generation"].clone();
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(generation(world.client.patch(&at, &label).await.unwrap()), 1);
    // But for annotations, which a deployment hands on.
    let annotation = Patch::Merge(json!({"metadata": {"annotations": {"a": "b"}}}));
    assert_eq!(generation(world.client.patch(&at, &annotation).await.unwrap()), 2);
    let status = Patch::Merge(json!({"spec": {"replicas": 9}, "status": {"replicas": 1, "observedGeneration": 1}}));
    let patched = world.client.patch(&at.clone().sub("status"), &status).await.unwrap().value().unwrap();
    assert_eq!((&patched["metadata"]["generation"], &patched["spec"]["replicas"]), (&json!(2), &json!(1)));
    assert_eq!(patched["status"]["replicas"], 1);
    let mut scaled = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scale = world.client.patch(&at.clone().sub("scale"), &scaled).await.unwrap().value().unwrap();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(scale["status"]["selector"], "app=web");
    assert_eq!(world.get(&at).await.unwrap()["metadata"]["generation"], 3);
    for wrong in [json!(-1), json!("x"), json!(1.5)] {
        scaled = Patch::Merge(json!({"spec": {"replicas": wrong}}));
        assert_eq!(world.client.patch(&at.clone().sub("scale"), &scaled).await.unwrap_err().code, 422);
    }
    world.stop().await;
}

#[tokio::test]
async fn an_invalid_object_is_refused_with_its_fields() {
    let world = World::new().await;
    default_account(&world).await;
    let mut pod = pod_of("Bad_Name", None);
    let refused = world.create(pod.clone()).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (422, Some(Reason::Invalid)));
    assert!(
        refused.message.starts_with("Pod \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": "),
        "{refused}"
    );
    assert!(refused.causes.iter().any(|c| c.field == "metadata.name" && c.reason == "FieldValueInvalid"));
    pod = pod_of("good", None);
    pod["spec"]["containers"] = json!([]);
    let refused = world.create(pod).await.unwrap_err();
    assert!(
        refused.causes.iter().any(|c| c.field == "spec.containers" && c.reason == "FieldValueRequired"),
        "{refused:?}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_missing_namespace_is_named() {
    let world = World::new().await;
    let at = Resource::collection(&config_maps(), Some("nowhere"));
    let refused = world.client.create(&at, &map_of("a", "1")).await.unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    world.stop().await;
}

#[tokio::test]
async fn a_pod_is_admitted() {
    let world = World::new().await;
    let refused = world.create(pod_of("early", None)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"early\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found"
    );
    default_account(&world).await;
    let pod = world.create(pod_of("p", None)).await.unwrap();
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    assert_eq!(pod["spec"]["priority"], 0);
    assert_eq!(pod["spec"]["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!(pod["status"]["phase"], "Pending");
    let mount = &pod["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert!(mount["name"].as_str().unwrap().starts_with("kube-api-access-"));

    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let at = Resource::object(&crate::world::pods(), Some("default"), "p");
    world.client.create(&at.clone().sub("binding"), &binding).await.unwrap();
    assert_eq!(world.get(&at).await.unwrap()["spec"]["nodeName"], "n1");
    assert_eq!(world.client.create(&at.sub("binding"), &binding).await.unwrap_err().code, 409);
    world.stop().await;
}

#[tokio::test]
async fn services_get_addresses_that_nobody_else_has() {
    let world = World::new().await;
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    let plain = world.create(service("a", json!({"ports": [{"port": 80}]}))).await.unwrap();
    let address = plain["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.43."), "{address}");
    assert_eq!(plain["spec"]["clusterIPs"], json!([address]));
    let taken = world.create(service("b", json!({"clusterIP": address, "ports": [{"port": 80}]}))).await.unwrap_err();
    assert_eq!(taken.code, 422);
    assert!(taken.message.contains("provided IP is already allocated"), "{taken}");
    let port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    world.create(service("c", port.clone())).await.unwrap();
    let taken = world.create(service("d", port.clone())).await.unwrap_err();
    assert_eq!(
        taken.message,
        "Service \"d\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"
    );
    let at = Resource::object(&Gvr::new("", "v1", "services"), Some("default"), "c");
    world.client.delete(&at, &Default::default()).await.unwrap();
    world.create(service("d", port)).await.unwrap();
    world.stop().await;
}
