use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::patch::testing::object;
use crate::patch::{Untyped, one_version, track};

fn write<'a>(manager: &'a str, time: &'a str, ignored: &'a FieldSet) -> Write<'a> {
    Write { manager, api_version: "apps/v1", subresource: "", time, ignored }
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec})
}

fn run(live: Option<&Value>, manager: &str, spec: Value, force: bool) -> Result<Value, ApplyError> {
    apply(object(), live, &config(spec), &write(manager, "t", &FieldSet::default()), force, &one_version)
}

fn paths(object: &Value, manager: &str) -> Vec<String> {
    let entry = decode(object).unwrap().into_iter().find(|e| e.manager == manager);
    entry.map(|e| e.fields.paths().iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[test]
fn what_is_no_longer_applied_goes() {
    let first = run(
        None,
        "a",
        json!({"replicas": 1, "labels": {"x": "1", "y": "2"}, "containers": [{"name": "c"}, {"name": "d"}]}),
        false,
    )
    .unwrap();
    let second = run(Some(&first), "a", json!({"labels": {"x": "1"}, "containers": [{"name": "d"}]}), false).unwrap();
    assert_eq!(second["spec"], json!({"labels": {"x": "1"}, "containers": [{"name": "d"}]}));
    assert_eq!(
        paths(&second, "a"),
        [".spec.containers[name=\"d\"]", ".spec.containers[name=\"d\"].name", ".spec.labels.x"]
    );
    let structure = run(Some(&second), "a", json!({"template": {"a": "1"}}), false).unwrap();
    assert_eq!(structure["spec"], json!({"template": {"a": "1"}}), "a structure goes with its last field");
}

#[test]
fn what_others_own_stays() {
    let first = run(None, "a", json!({"labels": {"x": "1", "y": "2"}}), false).unwrap();
    let shared = run(Some(&first), "b", json!({"labels": {"x": "1"}}), false).unwrap();
    assert_eq!(paths(&shared, "b"), [".spec.labels.x"]);
    let gone = run(Some(&shared), "a", json!({"labels": {}}), false).unwrap();
    assert_eq!(gone["spec"], json!({"labels": {"x": "1"}}));
    // An item that another manager added something to stays with all that it has of others.
    let first = run(None, "a", json!({"containers": [{"name": "c", "image": "1"}]}), false).unwrap();
    let args = run(Some(&first), "b", json!({"containers": [{"name": "c", "args": ["x"]}]}), false).unwrap();
    let gone = run(Some(&args), "a", json!({"replicas": 1}), false).unwrap();
    assert_eq!(gone["spec"], json!({"replicas": 1, "containers": [{"name": "c", "args": ["x"]}]}));
}

#[test]
fn conflicts_are_worded_as_upstream_does() {
    let mut live = config(json!({"replicas": 1, "name": "n"}));
    live["metadata"]["uid"] = "u".into();
    track(object(), None, &mut live, &write("kubectl-client-side-apply", "t0", &FieldSet::default()), &one_version);
    let error = run(Some(&live), "me", json!({"replicas": 3}), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let status = Status::from(error);
    assert_eq!((status.code, status.reason), (409, Some(Reason::Conflict)));
    assert_eq!(status.causes[0].field, ".spec.replicas");
    assert_eq!(status.causes[0].reason, "FieldManagerConflict");
    assert_eq!(status.causes[0].message, "conflict with \"kubectl-client-side-apply\" using apps/v1");
    let error = run(Some(&live), "me", json!({"replicas": 3, "name": "m"}), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.name\n- .spec.replicas"
    );
    let forced = run(Some(&live), "me", json!({"replicas": 3}), true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    assert_eq!(paths(&forced, "me"), [".spec.replicas"]);
    assert!(!paths(&forced, "kubectl-client-side-apply").contains(&".spec.replicas".to_owned()));
}

#[test]
fn the_same_value_is_shared_without_conflict() {
    let first = run(None, "a", json!({"replicas": 1}), false).unwrap();
    let second = run(Some(&first), "b", json!({"replicas": 1}), false).unwrap();
    assert_eq!(
        (paths(&second, "a"), paths(&second, "b")),
        (vec![".spec.replicas".into()], vec![".spec.replicas".into()])
    );
}

#[test]
fn client_side_apply_is_taken_over_by_kubectl() {
    let last = config(json!({"replicas": 1}));
    let mut live = last.clone();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last.to_string()});
    live["metadata"]["uid"] = "u".into();
    track(object(), None, &mut live, &write("kubectl-client-side-apply", "t0", &FieldSet::default()), &one_version);
    assert!(run(Some(&live), "other", json!({"replicas": 3}), false).is_err());
    let taken = run(Some(&live), "kubectl", json!({"replicas": 3}), false).unwrap();
    assert_eq!(taken["spec"]["replicas"], 3);
    let kept: Value = serde_json::from_str(last_applied(&taken).unwrap()).unwrap();
    assert_eq!(kept, config(json!({"replicas": 3})), "the annotation follows");
}

#[test]
fn the_first_apply_finds_owners_for_what_is_there() {
    let mut live = config(json!({"replicas": 1, "name": "n"}));
    live["metadata"]["uid"] = "u".into();
    let error = run(Some(&live), "me", json!({"replicas": 3}), false).unwrap_err();
    assert!(error.to_string().contains("conflict with \"before-first-apply\" using apps/v1"), "{error}");
}

#[test]
fn an_empty_list_was_there_before_the_first_apply() {
    let once = run(None, "a", json!({"containers": []}), false).unwrap();
    assert_eq!(once["metadata"].get("managedFields"), None);
    let again = run(Some(&once), "a", json!({"containers": []}), false).unwrap();
    let owned = json!({"f:spec": {".": {}, "f:containers": {}}});
    assert_eq!(again["metadata"]["managedFields"][0]["fieldsV1"], owned, "what is stored as a list, not as `null`");
}

/// `apps/v2` calls `replicas` what is `count` in `apps/v1`.
fn renamed(object: &Value, version: &str) -> Option<(Untyped, Value)> {
    let mut object = object.clone();
    let (from, to) = if version == "apps/v2" { ("replicas", "count") } else { ("count", "replicas") };
    object["apiVersion"] = version.into();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(value) = spec.remove(from)
    {
        spec.insert(to.into(), value);
    }
    Some((Untyped, object))
}

#[test]
fn other_versions_own_what_it_is_called_there() {
    let ignored = FieldSet::default();
    let run = |live: Option<&Value>, manager: &str, version: &str, spec: Value, force: bool| {
        let config = json!({"apiVersion": version, "kind": "Thing", "metadata": {"name": "x"}, "spec": spec});
        let write = Write { api_version: version, ..write(manager, "t", &ignored) };
        let live = live.and_then(|live| renamed(live, version)).map(|(_, live)| live);
        apply(Untyped, live.as_ref(), &config, &write, force, &renamed)
    };
    let first = run(None, "a", "apps/v1", json!({"replicas": 1}), false).unwrap();
    let error = run(Some(&first), "b", "apps/v2", json!({"count": 2}), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let taken = run(Some(&first), "b", "apps/v2", json!({"count": 2}), true).unwrap();
    assert_eq!(taken["spec"], json!({"count": 2}));
    assert_eq!(taken["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {}}), "what is left to `a`");
    let shared = run(Some(&first), "b", "apps/v2", json!({"count": 1}), false).unwrap();
    let left = run(Some(&shared), "a", "apps/v2", json!({"other": 1}), false).unwrap();
    assert_eq!(left["spec"], json!({"count": 1, "other": 1}), "the other one still wants it");
    let alone = run(Some(&first), "a", "apps/v2", json!({"other": 1}), false).unwrap();
    assert_eq!(alone["spec"], json!({"other": 1}), "what was applied in the older version goes");
}

#[test]
fn configurations_that_do_not_fit() {
    let check = |applied: Value, wanted: &str| {
        let error =
            apply(object(), None, &applied, &write("a", "t", &FieldSet::default()), false, &one_version).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    };
    check(
        config(json!({"foo": 1})),
        "failed to create typed patch object (/x; apps/v1, Kind=Thing): .spec.foo: field not declared in schema",
    );
    check(
        config(json!({"containers": [{"name": "a"}, {"name": "a"}]})),
        "failed to create typed patch object (/x; apps/v1, Kind=Thing): .spec.containers: duplicate entries for key [name=\"a\"]",
    );
    check(
        config(json!({"containers": [{"image": "a"}]})),
        "failed to create typed patch object (/x; apps/v1, Kind=Thing): .spec.containers: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
    );
    let mut old = config(json!({}));
    old["apiVersion"] = "apps/v1beta1".into();
    check(old, "Incorrect version specified in apply patch. Specified patch version: apps/v1beta1, expected: apps/v1");
    let mut managed = config(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    check(managed, "metadata.managedFields must be nil");
}

fn spec() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let containers = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let set = prop::collection::btree_set("[a-c]", 0..3);
    (prop::option::of(0..3i64), labels, containers, set).prop_map(|(replicas, labels, containers, set)| {
        let containers: Vec<Value> = containers.iter().map(|(n, i)| json!({"name": n, "image": i})).collect();
        let mut spec = json!({"labels": labels, "containers": containers, "set": set});
        if let Some(replicas) = replicas {
            spec["replicas"] = replicas.into();
        }
        spec
    })
}

proptest! {
    #[test]
    fn an_apply_is_idempotent(a in spec(), b in spec()) {
        let first = run(None, "a", a, false).unwrap();
        let once = run(Some(&first), "b", b.clone(), true).unwrap();
        let twice = run(Some(&once), "b", b, false).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_only_applier_gets_what_it_asks_for(a in spec(), b in spec()) {
        let first = run(None, "a", a, false).unwrap();
        let second = run(Some(&first), "a", b.clone(), false).unwrap();
        prop_assert_eq!(field_set(object(), &config(second["spec"].clone())), field_set(object(), &config(b)));
    }

    #[test]
    fn comparing_tells_all_that_changed(a in spec(), b in spec()) {
        let (a, b) = (config(a), config(b));
        let found = compare(object(), &a, &b);
        prop_assert_eq!(found.is_same(), a == b);
        let (before, after) = (field_set(object(), &a), field_set(object(), &b));
        prop_assert!(found.added.difference(&after).paths().iter().all(|p| p.to_string().starts_with(".spec")));
        prop_assert!(found.modified.difference(&before).is_empty());
    }
}
