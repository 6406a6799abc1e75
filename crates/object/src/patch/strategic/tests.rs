use serde_json::json;

use super::*;
use crate::patch::testing::pod;

fn merged(target: &Value, patch: &Value) -> std::result::Result<Value, String> {
    let mut merged = target.clone();
    merge(pod(), &mut merged, patch).map(|()| merged).map_err(|e| e.to_string())
}

fn check(target: Value, patch: Value, wanted: Value) {
    assert_eq!(merged(&target, &patch).unwrap(), wanted, "{patch}");
}

fn refuse(target: Value, patch: Value, wanted: &str) {
    assert_eq!(merged(&target, &patch).unwrap_err(), wanted);
}

#[test]
fn containers_merge_by_name_and_ports_by_number() {
    let two = json!({"containers": [{"name": "a", "image": "1", "args": ["x", "y"]}, {"name": "b", "image": "1"}]});
    check(
        two.clone(),
        json!({"containers": [{"name": "b", "image": "2"}]}),
        json!({"containers": [{"name": "a", "image": "1", "args": ["x", "y"]}, {"name": "b", "image": "2"}]}),
    );
    check(
        two.clone(),
        json!({"containers": [{"name": "a", "args": ["z"]}, {"name": "c"}]}),
        json!({"containers": [{"name": "a", "image": "1", "args": ["z"]}, {"name": "c"}, {"name": "b", "image": "1"}]}),
    );
    check(
        two.clone(),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b", "image": "1"}]}),
    );
    check(two, json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}), json!({"containers": [{"name": "c"}]}));
    check(
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81}]}]}),
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}]}]}),
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}, {"containerPort": 81}]}]}),
    );
}

#[test]
fn the_order_that_is_asked_for() {
    let named = |names: &str| -> Value { names.chars().map(|n| json!({"name": n.to_string()})).collect() };
    check(
        json!({"containers": named("ab")}),
        json!({"$setElementOrder/containers": named("bca"), "containers": named("c")}),
        json!({"containers": named("bca")}),
    );
    // Those that the client does not know keep their places.
    check(
        json!({"containers": named("xaybz")}),
        json!({"$setElementOrder/containers": named("ba")}),
        json!({"containers": named("xybaz")}),
    );
    // A new item stands where a deleted one stood.
    check(
        json!({"containers": named("abd")}),
        json!({"$setElementOrder/containers": named("bc"), "containers": [{"name": "c"}, {"name": "a", "$patch": "delete"}]}),
        json!({"containers": named("bdc")}),
    );
    refuse(
        json!({}),
        json!({"$setElementOrder/containers": named("b"), "containers": named("c")}),
        "The order in patch list:\n[map[name:c]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
    );
    refuse(json!({}), json!({"$setElementOrder/containers": 1}), "invalid patch format of setElementOrder list");
}

#[test]
fn maps_nulls_and_directives() {
    check(
        json!({"labels": {"a": "1", "b": "2"}, "name": "h"}),
        json!({"labels": {"a": null}, "name": null}),
        json!({"labels": {"b": "2"}}),
    );
    check(
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"$patch": "replace", "b": "2"}}),
        json!({"labels": {"b": "2"}}),
    );
    check(json!({"labels": {"a": "1"}}), json!({"labels": {"$patch": "delete"}}), json!({"labels": {}}));
    check(
        json!({}),
        json!({"labels": {"a": null, "b": "1"}, "template": {"$patch": "delete"}}),
        json!({"labels": {"b": "1"}}),
    );
    check(
        json!({"template": {"a": "1", "b": "2"}}),
        json!({"template": {"$retainKeys": ["a", "c"], "c": "3"}}),
        json!({"template": {"a": "1", "c": "3"}}),
    );
    refuse(
        json!({"template": {}}),
        json!({"template": {"$retainKeys": ["a"], "c": "3"}}),
        "invalid patch format of retainKeys",
    );
    refuse(json!({}), json!({"$patch": "merge"}), "unknown patch type: merge in map: map[$patch:merge]");
}

#[test]
fn lists_of_scalars() {
    check(json!({"set": ["a", "b"]}), json!({"set": ["c", "a"]}), json!({"set": ["c", "a", "b"]}));
    check(
        json!({"set": ["a", "b"]}),
        json!({"$deleteFromPrimitiveList/set": ["a"], "set": ["c"]}),
        json!({"set": ["c", "b"]}),
    );
    check(json!({"list": ["a", "b"]}), json!({"list": ["c"]}), json!({"list": ["c"]}));
    refuse(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"image": "x"}]}),
        "map: map[image:x] does not contain declared merge key: name",
    );
}
