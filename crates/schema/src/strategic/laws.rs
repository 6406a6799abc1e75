//! What holds for every strategic merge, whatever is merged.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::types::table;

/// A container: image, and environment by name.
type Container = (Option<String>, BTreeMap<String, String>);

/// Containers by name, in some order.
fn containers() -> impl Strategy<Value = Vec<(String, Container)>> {
    let environment = prop::collection::btree_map("[A-C]", "[0-2]", 0..3);
    let container = (prop::option::of("[xy]"), environment);
    prop::collection::btree_map("[a-e]", container, 0..5).prop_map(|all| all.into_iter().collect()).prop_shuffle()
}

fn item((name, (image, environment)): &(String, Container)) -> Value {
    let variables: Vec<Value> = environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut item = json!({"name": name});
    if let Some(image) = image {
        item["image"] = image.as_str().into();
    }
    if !variables.is_empty() {
        item["env"] = variables.into();
    }
    item
}

fn spec(containers: &[(String, Container)]) -> Value {
    json!({"containers": containers.iter().map(item).collect::<Vec<_>>()})
}

fn merged(target: &Value, patch: &Value) -> Value {
    let mut target = target.clone();
    strategic_merge(table(), "io.k8s.api.core.v1.PodSpec", &mut target, patch).unwrap();
    target
}

/// The containers of a spec as they were written down; a name that is there twice is a failure.
fn read(spec: &Value) -> Vec<(String, Container)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut all: Vec<(String, Container)> = Vec::new();
    for item in spec["containers"].as_array().into_iter().flatten() {
        let name = text(&item["name"]).unwrap();
        assert!(all.iter().all(|(known, _)| *known != name), "{name} is there twice: {spec}");
        let mut environment = BTreeMap::new();
        for variable in item["env"].as_array().into_iter().flatten() {
            let before = environment.insert(text(&variable["name"]).unwrap(), text(&variable["value"]).unwrap());
            assert_eq!(before, None, "{variable} is there twice: {spec}");
        }
        all.push((name, (text(&item["image"]), environment)));
    }
    all
}

fn names(containers: &[(String, Container)]) -> Vec<&str> {
    containers.iter().map(|(name, _)| name.as_str()).collect()
}

/// Those of the names that are wanted, in their order.
fn only<'n>(names: &[&'n str], wanted: impl Fn(&str) -> bool) -> Vec<&'n str> {
    names.iter().copied().filter(|name| wanted(name)).collect()
}

proptest! {
    #[test]
    fn items_merge_by_their_keys(target in containers(), patch in containers()) {
        let merged = merged(&spec(&target), &spec(&patch));
        let found = read(&merged);
        let mut model: BTreeMap<String, Container> = target.iter().cloned().collect();
        for (name, (image, environment)) in &patch {
            let (known, variables) = model.entry(name.clone()).or_default();
            *known = image.clone().or(known.take());
            variables.extend(environment.clone());
        }
        prop_assert_eq!(found.iter().cloned().collect::<BTreeMap<_, _>>(), model);
        // What the patch names stands in its order, what it does not in the target's.
        let (found, given, before) = (names(&found), names(&patch), names(&target));
        prop_assert_eq!(only(&found, |name| given.contains(&name)), given.clone());
        prop_assert_eq!(only(&found, |name| !given.contains(&name)), only(&before, |name| !given.contains(&name)));
    }

    #[test]
    fn a_patch_twice_is_as_once(target in containers(), patch in containers()) {
        let once = merged(&spec(&target), &spec(&patch));
        prop_assert_eq!(merged(&once, &spec(&patch)), once);
    }

    #[test]
    fn nothing_and_oneself_change_nothing(target in containers()) {
        let target = spec(&target);
        prop_assert_eq!(merged(&target, &json!({})), target.clone());
        prop_assert_eq!(merged(&target, &target), target);
    }

    #[test]
    fn a_directive_deletes_what_it_names(target in containers(), name in "[a-e]") {
        let left = merged(&spec(&target), &json!({"containers": [{"name": name, "$patch": "delete"}]}));
        let mut wanted = target.clone();
        wanted.retain(|(known, _)| *known != name);
        prop_assert_eq!(read(&left), wanted);
        let replaced = merged(&spec(&target), &json!({"containers": [{"name": name}, {"$patch": "replace"}]}));
        let replaced = read(&replaced);
        prop_assert_eq!(names(&replaced), vec![name.as_str()]);
    }

    #[test]
    fn an_order_is_kept(target in containers(), patch in containers(), order in Just(["a", "b", "c", "d", "e"]).prop_shuffle()) {
        // What the patch names must come in that order.
        let mut patch = patch;
        patch.sort_by_key(|(name, _)| order.iter().position(|known| known == name));
        let mut directed = spec(&patch);
        directed["$setElementOrder/containers"] = order.iter().map(|name| json!({"name": name})).collect();
        let found = merged(&spec(&target), &directed);
        let found = read(&found);
        let found = names(&found);
        prop_assert_eq!(found.clone(), only(&order, |name| found.contains(&name)));
    }

    #[test]
    fn primitives_are_a_set(target in prop::collection::btree_set("[a-e]", 0..5), add in prop::collection::btree_set("[a-e]", 0..4), remove in prop::collection::btree_set("[a-e]", 0..4)) {
        let mut object = json!({"finalizers": target});
        let patch = json!({"finalizers": add, "$deleteFromPrimitiveList/finalizers": remove});
        strategic_merge(table(), "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", &mut object, &patch).unwrap();
        let mut found: Vec<&str> = object["finalizers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        found.sort_unstable();
        let kept = target.difference(&remove);
        let mut wanted: Vec<&str> = kept.chain(&add).map(String::as_str).collect();
        wanted.sort_unstable();
        wanted.dedup();
        prop_assert_eq!(found, wanted);
    }
}
