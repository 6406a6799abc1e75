//! Custom resources: from the definition to its removal.

use std::time::Duration;

use client::{DeleteOptions, ListOptions, Patch, Resource};
use futures::StreamExt;
use object::Gvr;
use serde_json::{Value, json};

use crate::world::World;

pub fn tabs() -> Gvr {
    Gvr::new("stable.example.com", "v1", "crontabs")
}

/// The definition of the documentation, with a bit of everything.
pub fn definition() -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["cronSpec"], "properties": {
            "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$"},
            "image": {"type": "string", "default": "none"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10}}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
        "selectableFields": [{"jsonPath": ".spec.image"}],
        "additionalPrinterColumns": [{"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"}]});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "versions": [version],
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]}}})
}

pub fn definition_at() -> Resource {
    Resource::object(
        &Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        None,
        "crontabs.stable.example.com",
    )
}

pub async fn eventually<T>(what: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = what().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("it happens")
}

pub fn tab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

pub async fn established(world: &World) {
    eventually(async || {
        let status = world.get(&definition_at()).await.ok()?["status"].clone();
        status["conditions"]
            .as_array()?
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_custom_resource_from_its_definition_to_its_removal() {
    let world = World::new().await;
    let collection = Resource::collection(&tabs(), Some("default"));
    assert_eq!(world.client.list(&collection, &ListOptions::default()).await.unwrap_err().code, 404);
    world.create(definition()).await.unwrap();
    established(&world).await;

    let one = Resource::object(&tabs(), Some("default"), "a");
    let mut events = world.client.watch(&collection, &ListOptions::default()).await.unwrap();
    let refused =
        world.client.create(&collection, &tab("a", json!({"cronSpec": "x", "replicas": 11}))).await.unwrap_err();
    assert_eq!(refused.code, 422);
    assert_eq!(
        refused.message,
        "CronTab.stable.example.com \"a\" is invalid: [spec.cronSpec: Invalid value: \"x\": spec.cronSpec in body should match \
         '^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$', spec.replicas: Invalid value: 11: spec.replicas in body should be less \
         than or equal to 10]"
    );
    let mut wanted = tab("a", json!({"cronSpec": "* * * * */5", "unknown": 1}));
    wanted["status"] = json!({"replicas": 5});
    let made = world.client.create(&collection, &wanted).await.unwrap().value().unwrap();
    assert_eq!(
        (&made["spec"], &made["metadata"]["generation"]),
        (&json!({"cronSpec": "* * * * */5", "image": "none"}), &json!(1))
    );
    assert_eq!(made.get("status"), None, "status has a door of its own");

    let status = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": made["metadata"], "spec": {}, "status": {"replicas": 3, "selector": "a=b"}});
    let updated = world.client.update(&one.clone().sub("status"), &status).await.unwrap().value().unwrap();
    assert_eq!((&updated["spec"], &updated["metadata"]["generation"]), (&made["spec"], &json!(1)));
    let scale = json!({"spec": {"replicas": 4}});
    world.client.patch(&one, &Patch::Merge(scale.clone())).await.unwrap();
    let shown = world.client.get(&one.clone().sub("scale")).await.unwrap().value().unwrap();
    assert_eq!((&shown["spec"]["replicas"], &shown["status"]), (&json!(4), &json!({"replicas": 3, "selector": "a=b"})));
    let selected =
        ListOptions { fields: object::FieldSelector::parse("spec.image=none").unwrap(), ..Default::default() };
    assert_eq!(world.client.list(&collection, &selected).await.unwrap().items.len(), 1);

    // A default that comes later is there for what was stored before.
    let add = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/later", "value": {"type": "string", "default": "now"}}]);
    world.client.patch(&definition_at(), &Patch::Json(add)).await.unwrap();
    eventually(async || (world.get(&one).await.unwrap()["spec"]["later"] == "now").then_some(())).await;
    while events.next().await.is_some() {}

    let discovered: Value =
        serde_json::from_slice(&world.client.raw_get("/apis/stable.example.com/v1").await.unwrap()).unwrap();
    let names: Vec<&str> =
        discovered["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["crontabs", "crontabs/status", "crontabs/scale"], "as upstream has them");
    let document = world.client.raw_get("/openapi/v3/apis/stable.example.com/v1").await.unwrap();
    assert!(String::from_utf8_lossy(&document).contains("com.example.stable.v1.CronTab\""));

    // An object that is held back holds the definition back.
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    world.client.patch(&one, &Patch::Merge(hold)).await.unwrap();
    let mut events = world.client.watch(&collection, &ListOptions::default()).await.unwrap();
    world.client.delete(&definition_at(), &DeleteOptions::default()).await.unwrap();
    eventually(async || (world.get(&one).await.unwrap()["metadata"]["deletionTimestamp"].is_string()).then_some(()))
        .await;
    let refused = world.client.create(&collection, &tab("b", json!({"cronSpec": "* * * * *"}))).await.unwrap_err();
    assert_eq!(refused.code, 405);
    let free = json!({"metadata": {"finalizers": null}});
    world.client.patch(&one, &Patch::Merge(free)).await.unwrap();
    eventually(async || world.get(&definition_at()).await.is_err().then_some(())).await;
    while events.next().await.is_some() {}
    eventually(async || {
        let code = world.client.list(&collection, &ListOptions::default()).await.err()?.code;
        (code == 404).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn rules_in_cel_hold_for_custom_resources() {
    let world = World::new().await;
    let mut with_rules = definition();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let rules = |rules: Value| json!({"x-kubernetes-validations": rules});
    let set = |definition: &mut Value, value: Value| {
        let target = definition.pointer_mut(spec).unwrap().as_object_mut().unwrap();
        target.extend(value.as_object().unwrap().clone());
    };
    set(&mut with_rules, rules(json!([{"rule": "self.nope > 1"}, {"rule": "self.replicas"}])));
    let refused = world.create(with_rules.clone()).await.unwrap_err();
    assert!(refused.message.contains("compilation failed: ERROR: <input>:1:5: undefined field 'nope'"), "{refused}");
    assert!(refused.message.contains("cel expression must evaluate to a bool"), "{refused}");
    set(
        &mut with_rules,
        rules(json!([
        {"rule": "!has(self.replicas) || self.replicas != 7", "message": "not seven"},
        {"rule": "!has(self.replicas) || !has(oldSelf.replicas) || self.replicas >= oldSelf.replicas", "messageExpression": "'from %d'.format([oldSelf.replicas])", "fieldPath": ".replicas"}])),
    );
    world.create(with_rules).await.unwrap();
    established(&world).await;
    let collection = Resource::collection(&tabs(), Some("default"));
    let refused =
        world.client.create(&collection, &tab("a", json!({"cronSpec": "* * * * *", "replicas": 7}))).await.unwrap_err();
    assert!(refused.message.ends_with("spec: Invalid value: not seven"), "{refused}");
    world.client.create(&collection, &tab("a", json!({"cronSpec": "* * * * *", "replicas": 5}))).await.unwrap();
    let one = Resource::object(&tabs(), Some("default"), "a");
    let refused = world.client.patch(&one, &Patch::Merge(json!({"spec": {"replicas": 4}}))).await.unwrap_err();
    assert!(refused.message.ends_with("spec.replicas: Invalid value: from 5"), "{refused}");
    world.client.patch(&one, &Patch::Merge(json!({"spec": {"replicas": 6}}))).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn metadata_is_described_as_upstream_allows() {
    let world = World::new().await;
    let with = |field: &str, schema: Value| {
        let mut definition = definition();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][field] = schema;
        definition
    };
    let root = with("metadata", json!({"type": "object", "properties": {"labels": {"type": "object"}}}));
    let refused = world.create(root).await.unwrap_err();
    assert!(refused.message.contains("must not specify anything other than name and generateName"), "{refused:?}");
    let embedded = |kind: &str| {
        let metadata = json!({"type": kind, "properties": {"labels": {"type": "object"}}});
        with(
            "template",
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"metadata": metadata}}),
        )
    };
    let refused = world.create(embedded("string")).await.unwrap_err();
    let field = "spec.validation.openAPIV3Schema.properties[template].properties[metadata].type";
    assert!(refused.message.contains(&format!("{field}: Invalid value: \"string\": must be object")), "{refused:?}");
    world.create(embedded("object")).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn what_the_stored_version_does_not_know_is_lost() {
    let world = World::new().await;
    let mut definition = definition();
    let mut newer = definition["spec"]["versions"][0].clone();
    newer["name"] = "v2".into();
    let spec = &mut newer["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec.as_object_mut().unwrap().remove("replicas");
    newer["subresources"] = json!({"status": {}});
    newer.as_object_mut().unwrap().remove("selectableFields");
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"].as_array_mut().unwrap().push(newer);
    world.create(definition).await.unwrap();
    established(&world).await;
    let at = Resource::object(&tabs(), Some("default"), "a");
    let all = Resource::collection(&tabs(), Some("default"));
    let given = tab("a", json!({"cronSpec": "* * * * *", "replicas": 3}));
    let made = eventually(async || world.client.create(&all, &given).await.ok()).await.value().unwrap();
    let wanted = json!({"cronSpec": "* * * * *", "image": "none"});
    assert_eq!((&made["spec"], &made["apiVersion"]), (&wanted, &json!("stable.example.com/v1")));
    let patch = Patch::Merge(json!({"spec": {"replicas": 4}}));
    let patched = world.client.patch(&at, &patch).await.unwrap().value().unwrap();
    assert_eq!((&patched["spec"], &patched["apiVersion"]), (&wanted, &json!("stable.example.com/v1")));
    world.stop().await;
}
