use serde_json::json;

use super::*;
use crate::patch::testing::object;

fn write<'a>(manager: &'a str, time: &'a str, ignored: &'a FieldSet) -> Write<'a> {
    Write { manager, api_version: "v1", subresource: "", time, ignored }
}

/// (manager, time, paths) of an object's entries.
pub(crate) fn owners(object: &Value) -> Vec<(String, String, Vec<String>)> {
    let entries = decode(object).unwrap();
    let words =
        |e: Entry| (e.manager, e.time.unwrap_or_default(), e.fields.paths().iter().map(ToString::to_string).collect());
    entries.into_iter().map(words).collect()
}

fn made(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x", "uid": "u"}, "spec": spec})
}

fn row(manager: &str, time: &str, paths: &[&str]) -> (String, String, Vec<String>) {
    (manager.into(), time.into(), paths.iter().map(|p| p.to_string()).collect())
}

#[test]
fn a_create_owns_all_but_what_the_server_sets() {
    let none = FieldSet::default();
    let mut new = made(json!({"replicas": 1, "containers": [{"name": "a", "image": "i"}]}));
    track(object(), None, &mut new, &write("kubectl", "t1", &none), &one_version);
    let item = ".spec.containers[name=\"a\"]";
    assert_eq!(
        owners(&new),
        [row(
            "kubectl",
            "t1",
            &[".spec", ".spec.containers", ".spec.replicas", item, &format!("{item}.image"), &format!("{item}.name")]
        )]
    );
}

#[test]
fn an_update_moves_what_changed_and_only_then_the_time() {
    let none = FieldSet::default();
    let mut first = made(json!({"replicas": 1, "name": "n"}));
    track(object(), None, &mut first, &write("a", "t1", &none), &one_version);
    let mut same = first.clone();
    track(object(), Some(&first), &mut same, &write("b", "t2", &none), &one_version);
    assert_eq!(same, first, "nothing changed, nothing moved");
    let mut second = first.clone();
    second["spec"] = json!({"replicas": 2});
    track(object(), Some(&first), &mut second, &write("b", "t2", &none), &one_version);
    assert_eq!(owners(&second), [row("a", "t1", &[".spec"]), row("b", "t2", &[".spec.replicas"])]);
}

#[test]
fn ignored_fields_have_no_owner_and_subresources_are_other_managers() {
    let status = FieldSet::of(&[&["status"]]);
    let none = FieldSet::default();
    let mut first = made(json!({"replicas": 1}));
    first["status"] = json!({"a": "1"});
    track(object(), None, &mut first, &write("a", "t1", &status), &one_version);
    assert_eq!(owners(&first), [row("a", "t1", &[".spec", ".spec.replicas"])]);
    let mut second = first.clone();
    second["status"] = json!({"a": "2"});
    second["metadata"]["managedFields"] = json!([]);
    track(
        object(),
        Some(&first),
        &mut second,
        &Write { subresource: "status", ..write("a", "t2", &none) },
        &one_version,
    );
    assert_eq!(owners(&second), [row("a", "t1", &[".spec", ".spec.replicas"]), row("a", "t2", &[".status.a"])]);
    assert_eq!(second["metadata"]["managedFields"][1]["subresource"], "status");
}

#[test]
fn clients_may_clear_but_not_lose_the_field() {
    let none = FieldSet::default();
    let mut first = made(json!({"replicas": 1}));
    track(object(), None, &mut first, &write("a", "t1", &none), &one_version);
    let mut lost = first.clone();
    lost["metadata"].as_object_mut().unwrap().remove("managedFields");
    track(object(), Some(&first), &mut lost, &write("b", "t2", &none), &one_version);
    assert_eq!(lost, first);
    for reset in [json!([]), json!([{}])] {
        let mut cleared = first.clone();
        cleared["metadata"]["managedFields"] = reset;
        track(object(), Some(&first), &mut cleared, &write("b", "t2", &none), &one_version);
        assert!(cleared["metadata"].get("managedFields").is_none());
    }
}

#[test]
fn the_oldest_updaters_are_merged() {
    let none = FieldSet::default();
    let mut current = made(json!({"labels": {}}));
    track(object(), None, &mut current, &write("m00", "t00", &none), &one_version);
    for n in 1..14 {
        let mut next = current.clone();
        next["spec"]["labels"][format!("l{n}")] = "x".into();
        track(
            object(),
            Some(&current),
            &mut next,
            &write(&format!("m{n:02}"), &format!("t{n:02}"), &none),
            &one_version,
        );
        current = next;
    }
    let rows = owners(&current);
    assert_eq!(rows.len(), 10);
    assert_eq!((rows[0].0.as_str(), rows[9].0.as_str()), ("ancient-changes", "m13"));
    let all: usize = rows.iter().map(|r| r.2.len()).sum();
    assert_eq!(all, 2 + 13, "no path was lost");
}

#[test]
fn only_times_changed() {
    let none = FieldSet::default();
    let mut old = made(json!({"replicas": 1}));
    track(object(), None, &mut old, &write("a", "t1", &none), &one_version);
    let mut new = old.clone();
    new["metadata"]["managedFields"][0]["time"] = "t9".into();
    keep_times(&old, &mut new);
    assert_eq!(new, old);
}

#[test]
fn managers_by_user_agent() {
    assert_eq!(manager_of("", "kubectl/v1.30 (linux)"), "kubectl");
    assert_eq!(manager_of("me", "kubectl/v1.30"), "me");
    assert_eq!(manager_of("", &"x".repeat(200)).len(), 128);
}
