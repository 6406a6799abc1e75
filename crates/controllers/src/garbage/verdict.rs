//! What becomes of an object, from what became of its owners.

use client::Propagation;
use object::{Object, OwnerReference};

use super::graph::{FOREGROUND, Graph, ORPHAN, waits_for_dependents};

/// What became of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there.
    Solid,
    /// Its deletion waits for its dependents.
    Waiting,
    /// It is gone, or another object has its name.
    Absent,
}

/// What is done with an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// It is deleted.
    Delete(Propagation),
    /// It blocks an owner in a circle: it lets the owner go, and is then deleted.
    Unblock,
    /// It stays for the sake of its other owners, and loses these.
    Disown(Vec<String>),
    /// Its own deletion waits for these dependents.
    DeleteFirst(Vec<String>),
    /// Its deletion waits for nothing any more.
    Release,
}

/// Judges a live object.
pub(super) fn judge(live: &Object, owners: &[(OwnerReference, Owner)], graph: &Graph) -> Verdict {
    if waits_for_dependents(live) {
        let blocking = graph.blocking(&live.head.uid);
        return if blocking.is_empty() { Verdict::Release } else { Verdict::DeleteFirst(blocking) };
    }
    // What is on its way needs no second push.
    if owners.is_empty() || live.head.is_terminating() {
        return Verdict::Keep;
    }
    let of = |wanted: Owner| owners.iter().filter(move |(_, owner)| *owner == wanted).map(|(reference, _)| reference);
    // An owner that waits, but not for this object, is as good as gone only if it is the last one.
    let gone: Vec<String> =
        of(Owner::Absent).chain(of(Owner::Waiting)).map(|reference| reference.uid.to_string()).collect();
    if of(Owner::Solid).next().is_some() {
        return if gone.is_empty() { Verdict::Keep } else { Verdict::Disown(gone) };
    }
    if of(Owner::Waiting).next().is_some() && graph.has_dependents(&live.head.uid) {
        return match graph.has_waiting_dependents(&live.head.uid) {
            true => Verdict::Unblock,
            false => Verdict::Delete(Propagation::Foreground),
        };
    }
    let has = |finalizer: &str| live.head.finalizers.iter().any(|f| f == finalizer);
    Verdict::Delete(match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => Propagation::Orphan,
        (false, true) => Propagation::Foreground,
        (false, false) => Propagation::Background,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use std::sync::Arc;

    use super::*;
    use crate::discovery::ApiResource;

    fn object(uid: &str, owners: &[(&str, bool)], change: impl FnOnce(&mut Value)) -> Arc<Object> {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(uid, blocks)| json!({"apiVersion": "v1", "kind": "X", "name": uid, "uid": uid, "blockOwnerDeletion": blocks}))
            .collect();
        let mut value = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": uid, "uid": uid, "namespace": "ns", "ownerReferences": owners}});
        change(&mut value);
        Arc::new(Object::from_value(&value).unwrap())
    }

    fn resource() -> Arc<ApiResource> {
        let gvr = object::Gvr::new("", "v1", "xs");
        Arc::new(ApiResource { gvr, kind: "X".into(), namespaced: true, verbs: Vec::new() })
    }

    fn foreground(value: &mut Value) {
        value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        value["metadata"]["finalizers"] = json!([FOREGROUND]);
    }

    fn graph(objects: &[&Arc<Object>]) -> Graph {
        let mut graph = Graph::default();
        objects.iter().for_each(|object| drop(graph.observe(&resource(), object)));
        graph
    }

    fn check(live: &Arc<Object>, owners: &[Owner], others: &[&Arc<Object>], wanted: Verdict) {
        let mut all = vec![live];
        all.extend(others);
        let owners: Vec<_> = live.head.owners.iter().cloned().zip(owners.iter().copied()).collect();
        assert_eq!(judge(live, &owners, &graph(&all)), wanted);
    }

    #[test]
    fn an_object_lives_as_long_as_one_owner() {
        let one = object("a", &[("x", false), ("y", false)], |_| {});
        check(&one, &[Owner::Solid, Owner::Solid], &[], Verdict::Keep);
        check(&one, &[Owner::Absent, Owner::Solid], &[], Verdict::Disown(vec!["x".into()]));
        check(&one, &[Owner::Solid, Owner::Waiting], &[], Verdict::Disown(vec!["y".into()]));
        check(&one, &[Owner::Absent, Owner::Absent], &[], Verdict::Delete(Propagation::Background));
        check(&object("a", &[], |_| {}), &[], &[], Verdict::Keep);
    }

    #[test]
    fn finalizers_choose_the_way_to_go() {
        let with = |finalizer: &str| object("a", &[("x", false)], |v| v["metadata"]["finalizers"] = json!([finalizer]));
        check(&with(ORPHAN), &[Owner::Absent], &[], Verdict::Delete(Propagation::Orphan));
        check(&with(FOREGROUND), &[Owner::Absent], &[], Verdict::Delete(Propagation::Foreground));
        check(&with("other"), &[Owner::Absent], &[], Verdict::Delete(Propagation::Background));
    }

    #[test]
    fn a_foreground_deletion_waits_for_what_blocks_it() {
        let owner = object("a", &[], foreground);
        let (blocks, does_not) = (object("b", &[("a", true)], |_| {}), object("c", &[("a", false)], |_| {}));
        check(&owner, &[], &[&blocks, &does_not], Verdict::DeleteFirst(vec!["b".into()]));
        check(&owner, &[], &[&does_not], Verdict::Release);
        check(&owner, &[], &[], Verdict::Release);
    }

    #[test]
    fn dependents_of_a_waiting_owner_go_and_wait_in_turn() {
        let leaf = object("b", &[("a", true)], |_| {});
        check(&leaf, &[Owner::Waiting], &[], Verdict::Delete(Propagation::Background));
        let inner = object("c", &[("b", true)], |_| {});
        check(&leaf, &[Owner::Waiting], &[&inner], Verdict::Delete(Propagation::Foreground));
        let circle = object("c", &[("b", true)], foreground);
        check(&leaf, &[Owner::Waiting], &[&circle], Verdict::Unblock);
    }

    #[test]
    fn what_goes_already_is_left_alone() {
        let going =
            object("a", &[("x", false)], |v| v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        check(&going, &[Owner::Absent], &[], Verdict::Keep);
    }

    #[test]
    fn the_graph_wakes_whom_a_change_concerns() {
        let mut graph = Graph::default();
        let (owner, dependent) = (object("a", &[], |_| {}), object("b", &[("a", true)], |_| {}));
        assert_eq!(graph.observe(&resource(), &dependent), ["b"], "its owner is not known yet");
        assert!(graph.identity("a").is_none(), "a virtual node");
        assert!(graph.observe(&resource(), &owner).is_empty());
        assert_eq!(graph.owner(&dependent.head.owners[0], "ns"), Some(Owner::Solid));
        assert_eq!(graph.owner(&dependent.head.owners[0], "other"), None);
        let waiting = object("a", &[], foreground);
        assert_eq!(graph.observe(&resource(), &waiting), ["a", "b"]);
        assert_eq!(graph.owner(&dependent.head.owners[0], "ns"), Some(Owner::Waiting));
        assert_eq!(graph.forget("b"), ["a"], "the owner looks again");
        assert!(graph.forget("a").is_empty());
        assert_eq!(graph.observe(&resource(), &dependent), ["b"]);
        let free = object("b", &[], |_| {});
        assert_eq!(graph.observe(&resource(), &free), ["a"]);
        assert!(!graph.has_dependents("a"));
    }
}
